"""What the documentation says is so: examples run, exported names exist and are described."""

import doctest
import importlib.util
import inspect
import os
import pkgutil
import re
import shlex
from pathlib import Path

import pytest

import fastconv
from fastconv import cli

README = Path(__file__).parent.parent / "README.md"
# What shows that an example needs a package; without the package it is skipped.
EXTRAS = {
    "PIL": ["PIL"],
    "matplotlib": ["matplotlib"],
    "onnx": ["onnx.save", "from onnx import"],
    "sklearn": ["sklearn", '"digits"'],
    "tqdm": ["tqdm"],
}


def modules():
    """All modules of the package but those that run on import, or need more."""
    found = pkgutil.walk_packages(fastconv.__path__, "fastconv.")
    names = [module.name for module in found if not module.name.endswith("__main__")]
    if importlib.util.find_spec("onnx") is None:
        names.remove("fastconv.onnx.backend")
    return ["fastconv", *names]


PUBLIC = [name for name in modules() if "._" not in name and ".kernels" not in name]


def examples():
    """Every docstring of the package that holds examples, by name."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = {}
    for name in modules():
        for test in finder.find(importlib.import_module(name), name):
            if test.examples:
                found[test.name] = test
    return found


EXAMPLES = examples()


def exported():
    """{name: value} of all functions and classes that public modules export, each once."""
    values = {}
    for module_name in sorted(PUBLIC, key=len):
        module = importlib.import_module(module_name)
        for name in getattr(module, "__all__", vars(module)):
            value = getattr(module, name)
            ours = getattr(value, "__module__", "").startswith("fastconv") and name[0] != "_"
            if ours and callable(value) and not any(value is other for other in values.values()):
                values[f"{module_name}.{name}"] = value
    return values


EXPORTED = exported()


def skip_without_extras(text):
    for module, words in EXTRAS.items():
        if any(word in text for word in words) and importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")


# Docstrings


def test_there_are_examples():
    assert len(EXAMPLES) > 60
    assert {"fastconv.functional.conv.conv2d", "fastconv.nn.conv.Conv2d"} <= set(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_prints_what_it_says(name, tmp_path, monkeypatch):
    test = EXAMPLES[name]
    skip_without_extras(test.docstring)
    monkeypatch.chdir(tmp_path)
    output = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS, verbose=False)
    test.globs = test.globs.copy()
    result = runner.run(test, out=output.append)
    assert result.failed == 0, "".join(output)
    assert result.attempted > 0
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_prints_the_same_with_numpy_1(name):
    # NumPy 2 prints scalars as np.float64(1.0), NumPy 1.26 as 1.0.
    for example in EXAMPLES[name].examples:
        assert not re.search(r"\bnp\.(float|int|uint|bool|True|False|str)", example.want)


@pytest.mark.parametrize("name", EXPORTED)
def test_exported_name_is_described(name):
    value = EXPORTED[name]
    assert inspect.getdoc(value)
    if inspect.isclass(value):
        assert vars(value).get("__doc__"), "its docstring is its base class's"
        for key, method in vars(value).items():
            if inspect.isfunction(method) and not key.startswith("_"):
                assert inspect.getdoc(method) or key == "forward", key


@pytest.mark.parametrize("name", PUBLIC)
def test_public_module_is_described_and_says_what_it_exports(name):
    module = importlib.import_module(name)
    assert module.__doc__
    exports = getattr(module, "__all__", None)
    if exports is not None:
        assert len(set(exports)) == len(exports)
        assert [export for export in exports if not hasattr(module, export)] == []
    else:
        # Re-exports are explicit: `from x import y as y`.
        text = Path(module.__file__).read_text(encoding="utf-8")
        names = re.findall(r"^from \S+ import (\w+) as (\w+)$", text, re.MULTILINE)
        assert all(first == second for first, second in names)


PARAMETERS = re.compile(r"^Parameters\n-+\n(.*?)(?=^\S[^\n]*\n-+$|\Z)", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("name", EXPORTED)
def test_described_parameters_are_those_of_the_signature(name):
    section = PARAMETERS.search(inspect.getdoc(EXPORTED[name]) or "")
    if section is not None:
        lines = [line for line in section[1].splitlines() if line and not line.startswith(" ")]
        described = {part.strip(" *") for line in lines for part in line.split(" : ")[0].split(",")}
        assert described == set(inspect.signature(EXPORTED[name]).parameters)


# README


def blocks(language):
    if not README.is_file():
        return []
    text = README.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


PYTHON_BLOCKS = blocks("python")


@pytest.fixture(scope="module")
def run_to(tmp_path_factory):
    """A function that runs all blocks up to one, in order: later ones may use earlier names."""
    folder = tmp_path_factory.mktemp("readme")
    names, done = {"__name__": "__main__"}, []

    def run(last):
        before = Path.cwd()
        os.chdir(folder)
        try:
            while len(done) <= last:
                i = len(done)
                done.append(i)
                text = PYTHON_BLOCKS[i]
                if ">>>" in text:
                    test = doctest.DocTestParser().get_doctest(text, names, f"block {i}", None, 0)
                    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS, verbose=False)
                    output = []
                    failed = runner.run(test, out=output.append, clear_globs=False).failed
                    names.update(test.globs)
                    assert not failed, "".join(output)
                else:
                    exec(compile(text, f"README block {i}", "exec"), names)
        finally:
            os.chdir(before)

    return run


@pytest.mark.parametrize("number", range(len(PYTHON_BLOCKS)))
def test_python_of_the_readme_runs(number, run_to):
    skip_without_extras("\n".join(PYTHON_BLOCKS[: number + 1]))
    run_to(number)


def commands():
    text = "".join(blocks("sh") + blocks("bash") + blocks("console"))
    return [line for line in text.replace("\\\n", " ").splitlines() if "fastconv " in line]


@pytest.mark.parametrize("line", commands())
def test_commands_of_the_readme_are_understood(line):
    words = shlex.split(line.strip().removeprefix("$ "), comments=True)
    if words[0] != "fastconv":
        pytest.skip("not a call of fastconv")
    arguments = cli._parser().parse_args(words[1:])
    assert callable(arguments.run)


def test_names_in_the_readme_exist():
    if not README.is_file():
        pytest.skip("the README is not here")
    text = README.read_text(encoding="utf-8")
    paths = set(re.findall(r"`(fastconv(?:\.\w+)+)", text))
    assert paths
    for path in paths:
        value = fastconv
        for name in path.split(".")[1:]:
            value = getattr(value, name)
