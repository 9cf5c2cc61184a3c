"""The sources follow the rules of parallel code, and a wheel holds what it should.

Building takes a minute and a compiler: set FASTCONV_TEST_BUILD=1 for those tests. They take the
archives from the folder that FASTCONV_TEST_DIST names, where it does.
"""

import ast
import importlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pytest

from fastconv.kernels import built

ROOT = Path(__file__).parent.parent
KERNELS = sorted((ROOT / "fastconv" / "kernels").glob("*.pyx"))

in_source_tree = pytest.mark.skipif(
    not (ROOT / "setup.py").is_file() or not KERNELS, reason="the source tree is not here"
)
building = pytest.mark.skipif(
    os.environ.get("FASTCONV_TEST_BUILD", "0") in ("", "0"), reason="FASTCONV_TEST_BUILD is not 1"
)


def without_comments(text):
    """Cython code without comments and docstrings, line by line where it was."""
    text = re.sub(r'"""[\s\S]*?"""', lambda quoted: "\n" * quoted[0].count("\n"), text)
    return re.sub(r"#.*", "", text)


def parallel_calls(text):
    """(name, arguments, line, indentation) of every call of ``prange`` and ``parallel``."""
    text = without_comments(text)
    calls = []
    for found in re.finditer(r"\b(prange|parallel)\s*\(", text):
        depth, end = 1, found.end()
        while depth:
            depth += {"(": 1, ")": -1}.get(text[end], 0)
            end += 1
        line_start = text.rfind("\n", 0, found.start()) + 1
        indent = len(text[line_start:]) - len(text[line_start:].lstrip(" "))
        line = text.count("\n", 0, found.start()) + 1
        calls.append((found[1], text[found.end() : end - 1], line, indent))
    return calls


def lacking_num_threads(text):
    """Lines of parallel regions that take OpenMP's default number of threads."""
    lacking, region = [], None  # region: indentation of the parallel block above
    code = without_comments(text).splitlines()
    for name, arguments, line, indent in parallel_calls(text):
        explicit = re.search(r"\bnum_threads\s*=", arguments)
        if name == "parallel":
            region = (line, indent)
        inside = region is not None and all(
            not code[i].strip() or len(code[i]) - len(code[i].lstrip(" ")) > region[1]
            for i in range(region[0], line)
        )
        if not explicit and not (name == "prange" and inside):
            lacking.append(line)
    return lacking


def test_the_search_for_num_threads_finds_what_it_should():
    code = '''
def right():
    """prange(n) in a docstring"""
    for i in prange(f(n),
                    num_threads=n_threads):  # prange(n) in a comment
        pass
    with nogil, parallel(num_threads=n_threads):
        x = 1
        for i in prange(n, schedule="static"):
            pass

def wrong():
    for i in prange(n, nogil=True):
        pass
    with nogil, parallel():
        for i in prange(n):
            pass
    for i in prange(n):
        pass
'''
    assert lacking_num_threads(code) == [13, 15, 18]


@in_source_tree
@pytest.mark.parametrize("path", KERNELS, ids=[path.name for path in KERNELS])
def test_every_parallel_region_is_given_its_number_of_threads(path):
    # OpenMP's default is not fastconv's, and would break set_num_threads and forked processes.
    assert lacking_num_threads(path.read_text(encoding="utf-8")) == []


@in_source_tree
def test_most_kernels_are_parallel():
    parallel = [path.stem for path in KERNELS if parallel_calls(path.read_text(encoding="utf-8"))]
    assert {"_blas", "activation", "conv", "im2col", "norm", "optim", "pool"} <= set(parallel)


@in_source_tree
def test_threads_of_openmp_are_never_set_globally():
    sources = [*KERNELS, *(ROOT / "fastconv" / "kernels").glob("*.h")]
    for path in sources:
        text = path.read_text(encoding="utf-8")
        assert "omp_set_num_threads" not in text, path
        assert "pragma omp" not in text, path


@in_source_tree
def test_compiler_flags_suit_every_machine_and_keep_ieee_arithmetic():
    sources = [ROOT / "setup.py", ROOT / "pyproject.toml", *ROOT.glob(".ci/*"), *KERNELS]
    sources += (ROOT / "fastconv" / "kernels").glob("*.h")
    for path in sources:
        if path.is_file():
            text = path.read_text(encoding="utf-8")
            for flag in ("-march", "-mtune", "-mcpu", "-ffast-math", "-Ofast", "fast-math"):
                assert flag not in text, path
            for flag in ("-funsafe-math", "-ffinite-math-only", "-fassociative-math", "/fp:fast"):
                assert flag not in text, path


@in_source_tree
def test_setup_builds_every_kernel():
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    (names,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and node.targets[0].id == "KERNELS"
    )
    assert sorted(names) == [path.stem for path in KERNELS]
    for name in names:
        importlib.import_module(f"fastconv.kernels.{name}")


# Builds


# What a clone does not have.
UNWANTED = shutil.ignore_patterns(
    ".*", "build", "dist", "*.egg-info", "*.so", "__pycache__", "_blas_int.pxd"
)
BUILD_SOURCE = "import setuptools.build_meta as backend; backend.build_sdist('../dist')"

# What networks in C are made of.
TEMPLATES = "fastconv/cexport/runtime/", "fastconv/cexport/templates/"


def templates():
    return [path for folder in TEMPLATES for path in (ROOT / folder).iterdir() if path.is_file()]


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """A source archive of the tree, and the wheel built from what it holds."""
    folder = tmp_path_factory.mktemp("build")
    if os.environ.get("FASTCONV_TEST_DIST"):
        return found_in(Path(os.environ["FASTCONV_TEST_DIST"]))
    shutil.copytree(ROOT, folder / "tree", ignore=UNWANTED)
    run([sys.executable, "-c", BUILD_SOURCE], folder / "tree")
    (source,) = (folder / "dist").glob("*.tar.gz")
    with tarfile.open(source) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    options = ["--no-build-isolation", "--no-deps", "--no-index", "--wheel-dir", folder / "dist"]
    run([sys.executable, "-m", "pip", "wheel", *options, "."], unpacked)
    return found_in(folder / "dist")


def found_in(folder):
    (source,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return source, wheel


def write_setup(tree, kernels):
    """Put a setup.py into the tree that builds these kernels alone."""
    text = (ROOT / "setup.py").read_text(encoding="utf-8")
    text, found = re.subn(r"KERNELS = \[[^]]*\]", f"KERNELS = {kernels}", text)
    assert found == 1
    (tree / "setup.py").write_text(text, encoding="utf-8")


def run(command, folder, **environment):
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@in_source_tree
@building
def test_wheel_holds_the_package_and_nothing_else(archives):
    _, wheel = archives
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        objects = [archive.read(name) for name in names if name.endswith(".so")]
    # They tell nothing of the machine that they were compiled on.
    for folder in (sys.base_prefix, tempfile.gettempdir()):
        assert not any(os.fsencode(folder) + b"/" in code for code in objects)
    assert wheel.stat().st_size < 4_000_000
    assert {name.split("/")[0].split("-")[0] for name in names} == {"fastconv"}
    package = [name for name in names if name.startswith("fastconv/")]
    written = {name for name in package if name.startswith(TEMPLATES)}
    assert written == {str(path.relative_to(ROOT).as_posix()) for path in templates()}
    package = [name for name in package if name not in written]
    suffixes = {Path(name).suffix for name in package}
    extension = ".pyd" if os.name == "nt" else ".so"
    assert suffixes == {".py", ".typed", ".pxd", ".h", ".f90", extension}
    public = {name for name in package if Path(name).suffix in (".pxd", ".h", ".f90")}
    assert public == {
        "fastconv/include/fastconv.f90",
        "fastconv/include/fastconv.h",
        "fastconv/kernels/__init__.pxd",
        "fastconv/kernels/capi.pxd",
    }
    compiled = {Path(n).name.split(".")[0] for n in package if n.endswith(extension)}
    assert compiled == {path.stem for path in KERNELS} | {"_cyutility"}  # Cython's own
    folders = {Path(n).parent.name for n in package if n.endswith(extension)}
    assert folders == {level if level != "baseline" else "kernels" for level in built()}
    assert not any(part in name for name in names for part in ("tests", "benchmarks"))
    modules = {str(p.relative_to(ROOT).as_posix()) for p in (ROOT / "fastconv").rglob("*.py")}
    assert modules == {name for name in package if name.endswith(".py")}
    info = [name.split("/", 1)[1] for name in names if ".dist-info/" in name]
    assert {"METADATA", "entry_points.txt", "licenses/LICENSE"} <= set(info)


# Instructions of SSE3 and later, which a processor of x86-64's baseline lacks: all that VEX and
# EVEX encode (v..., k...; of those on general registers the names), and the others of 128 bits.
# Not "tzcnt", which older processors take for the "bsf" that it is there.
BEYOND = re.compile(
    r"v(?!er[rw]$)\w+|k(and|andn|mov|not|or|ortest|shiftl|shiftr|test|unpck|xn?or)[bwdq]+"
    r"|andn|bextr|bls(i|msk|r)|bzhi|mulx|pdep|pext|rorx|s(ar|hl|hr)x|lzcnt|adcx|adox"
    r"|h(add|sub)p[sd]|addsubp[sd]|mov(ddup|s[hl]dup)|lddqu"
    r"|p(shufb|h(add|sub)\w+|abs[bwd]|alignr|sign[bwd]|mulhrsw|maddubsw)"
    r"|p?blend\w+|dpp[sd]|(extract|insert)ps|pextr[bdq]|pinsr[bdq]|mpsadbw|packusdw|pcmpeqq"
    r"|p(max|min)(sb|sd|uw|ud)|pmov[sz]x\w+|pmul(dq|ld)|ptest|round[ps][sd]|movntdqa|phminposuw"
    r"|pcmp([ei]str[im]|gtq)|crc32\w?|popcnt|aes\w+|pclmul\w+|sha\w+"
)
INSTRUCTION = re.compile(r"^ *[0-9a-f]+:\t(?:(?:rep\w*|lock|bnd|notrack) )?(\w+)", re.MULTILINE)


@in_source_tree
@building
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the levels are of x86-64")
@pytest.mark.skipif(shutil.which("objdump") is None, reason="there is no objdump")
def test_baseline_kernels_have_instructions_that_every_processor_runs(archives, tmp_path):
    _, wheel = archives
    beyond = {}
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.endswith(".so"):
                command = ["objdump", "-d", "--no-show-raw-insn", archive.extract(name, tmp_path)]
                code = INSTRUCTION.findall(run(command, tmp_path))
                assert len(code) > 1000
                beyond[Path(name)] = {word for word in code if BEYOND.fullmatch(word)}
    assert {path.parent.name for path in beyond} == {*built()} - {"baseline"} | {"kernels"}
    for path, words in beyond.items():
        # That some are found among what AVX2 is for shows that the search can find them.
        assert bool(words) == (path.parent.name != "kernels"), (path, words)


@in_source_tree
@building
def test_objects_are_the_same_wherever_they_are_compiled(archives, tmp_path):
    _, wheel = archives
    tree, some = tmp_path / "another folder", ["optim", "small"]
    shutil.copytree(ROOT / "fastconv", tree / "fastconv", ignore=shutil.ignore_patterns("*.so"))
    write_setup(tree, some)
    run([sys.executable, "setup.py", "-q", "build_ext", "--inplace"], tree)
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if Path(name).name.split(".")[0] in some and name.endswith(".so"):
                assert archive.read(name) == (tree / name).read_bytes(), name


@in_source_tree
@building
def test_source_archive_holds_what_a_packager_needs(archives):
    source, _ = archives
    with tarfile.open(source) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    kernels = [path for path in (ROOT / "fastconv" / "kernels").iterdir() if path.is_file()]
    wanted = [path for path in kernels if path.suffix in (".pyx", ".pxd", ".h", ".py")]
    wanted = [path for path in wanted if path.name != "_blas_int.pxd"]  # written by setup.py
    wanted += [*(ROOT / "tests").glob("*.py"), ROOT / "setup.py", ROOT / "pyproject.toml"]
    wanted += [ROOT / "README.md", ROOT / "LICENSE", *(ROOT / "docs").iterdir()]
    wanted += (ROOT / "fastconv" / "include").iterdir()
    assert {str(path.relative_to(ROOT).as_posix()) for path in wanted} <= names
    written = {str(path.relative_to(ROOT).as_posix()) for path in templates()}
    assert written <= names
    assert not any(name.endswith((".so", ".c", ".pyc")) for name in names - written)


@in_source_tree
@building
def test_source_archives_of_one_commit_are_the_same_bytes(tmp_path):
    archives = []
    # The second has files of other dates and modes.
    for name, copy in ("tree", shutil.copy2), ("another folder", shutil.copyfile):
        tree = tmp_path / name / "tree"
        shutil.copytree(ROOT, tree, ignore=UNWANTED, copy_function=copy)
        write_setup(tree, ["optim"])
        (tree / "setup.py").chmod(0o600 if archives else 0o664)
        run([sys.executable, "-c", BUILD_SOURCE], tree, SOURCE_DATE_EPOCH="1700000000")
        (source,) = (tmp_path / name / "dist").glob("*.tar.gz")
        archives.append(source.read_bytes())
    with tarfile.open(source) as archive:
        entries = archive.getmembers()
    assert {entry.mtime for entry in entries} == {1_700_000_000}
    assert {(e.uid, e.gid, e.uname, e.gname) for e in entries} == {(0, 0, "", "")}
    assert archives[0] == archives[1]


@in_source_tree
@building
def test_wheel_works_where_it_is_installed(archives, tmp_path):
    _, wheel = archives
    site = tmp_path / "site"
    options = ["--no-deps", "--no-index", "--no-compile", "--target", site]
    run([sys.executable, "-m", "pip", "install", *options, wheel], tmp_path)
    script = """
import numpy as np, fastconv
x = fastconv.Tensor(np.ones((1, 2, 5, 5)), requires_grad=True)
y = fastconv.functional.conv2d(x, np.ones((3, 2, 3, 3)), padding=1)
y.sum().backward()
print(fastconv.__file__, y.data.sum(), x.grad.sum())
"""
    printed = run([sys.executable, "-c", script], tmp_path, PYTHONPATH=str(site)).split()
    assert Path(printed[0]) == site / "fastconv" / "__init__.py"
    # 13 of 15 places along an axis are inside: (3 * 5 - 2)^2 of them, 2 inputs, 3 outputs
    assert [float(number) for number in printed[1:]] == [13**2 * 2 * 3] * 2
    options = ["--quick", "--rounds", "1", "--layers", "3x3 384", "--no-backward"]
    command = [sys.executable, "-m", "fastconv", "bench", "conv", *options]
    assert "geometric mean of 1" in run(command, tmp_path, PYTHONPATH=str(site))
