"""Extensions and libraries of others, built against the installed package.

Building takes a minute and compilers: set FASTCONV_TEST_BUILD=1 for those tests.
"""

import ctypes
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

import fastconv
import fastconv.functional as F
from fastconv.kernels import direct

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "embed"
INCLUDE = Path(fastconv.get_include())

pytestmark = pytest.mark.skipif(not direct.SUPPORTED, reason="the compiler has no vectors")
building = pytest.mark.skipif(
    os.environ.get("FASTCONV_TEST_BUILD", "0") in ("", "0"), reason="FASTCONV_TEST_BUILD is not 1"
)
in_source_tree = pytest.mark.skipif(
    not EXAMPLE.is_dir(), reason="the examples are not beside tests"
)


def needs(*programs):
    missing = [name for name in programs if shutil.which(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"there is no {', '.join(missing)}")


def run(command, folder):
    done = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def example(tmp_path):
    """The example, in a folder of its own."""
    shutil.copytree(EXAMPLE, tmp_path / "embed")
    return tmp_path / "embed"


def newer_header(folder):
    """The header of a version that is not installed."""
    text = (INCLUDE / "fastconv.h").read_text()
    newer = re.sub("API_VERSION [0-9]+", "API_VERSION 99", text)
    assert newer != text
    (folder / "fastconv.h").write_text(newer)


def heat(folder):
    """What each way that is built differs from NumPy by."""
    text = run([sys.executable, "-W", "error", "heat.py"], folder)
    return {
        way: float(error)
        for way, error in re.findall(r"(.+): largest difference to NumPy (\S+)", text)
    }


@in_source_tree
def test_ctypes(example):
    differences = heat(example)
    assert {"ctypes", "ctypes, column-major"} <= differences.keys()
    assert max(differences.values()) < 1e-14


@in_source_tree
@building
@pytest.mark.skipif(importlib.util.find_spec("Cython") is None, reason="Cython is not installed")
def test_cython(example):
    run([sys.executable, "setup.py", "-q", "build_ext", "--inplace"], example)
    assert heat(example)["Cython"] < 1e-14
    script = """
import numpy as np, heat_cython
u, kernel = np.ones((4, 5)), np.ones((3, 3))
heat_cython.heat(u, kernel, 1)
print(u.sum())  # windows of 4, 6 and 9 places
for bad in dict(kernel=kernel[:2]), dict(threads=0):
    try:
        heat_cython.heat(**dict(u=u, kernel=kernel, steps=1) | bad)
    except ValueError as error:
        print(error)
"""
    total, *errors = run([sys.executable, "-c", script], example).splitlines()
    assert float(total) == 4 * 4 + 10 * 6 + 6 * 9
    assert errors == ["shapes do not fit together", "threads must be from 1 to 4096"]

    newer_header(example)
    module = f"heat_cython{sysconfig.get_config_var('EXT_SUFFIX')}"
    include = [f"-I{example}", f"-I{sysconfig.get_paths()['include']}"]
    run(["gcc", "-shared", "-fPIC", *include, "heat_cython.c", "-o", module], example)
    script = """
try:
    import heat_cython
except ImportError as error:
    print(error)
"""
    assert "version 99" in run([sys.executable, "-c", script], example)


@in_source_tree
@needs("gfortran")
def test_fortran(example):
    library = "libheat_fortran.so"
    flags = ["-shared", "-fPIC", "-O2", "-std=f2018", "-Wall", "-Werror"]
    sources = INCLUDE / "fastconv.f90", "heat_fortran.f90"
    run(["gfortran", *flags, *sources, "-o", library], example)
    assert heat(example)["Fortran"] < 1e-14


@needs("gcc", "g++")
def test_the_header_is_c_and_cpp_alone_and_with_python(tmp_path):
    (tmp_path / "alone.c").write_text(
        "#include <fastconv.h>\n"
        "int pixels(const fastconv_api *api) { return (int)api->output_size(9, 3, 1, 0, 0, 1); }\n"
    )
    (tmp_path / "python.c").write_text(
        "#include <Python.h>\n#include <fastconv.h>\n"
        "int ready(void) { return fastconv_import() != NULL; }\n"
    )
    include = [f"-I{INCLUDE}", f"-isystem{sysconfig.get_paths()['include']}"]
    flags = ["-Wall", "-Wextra", "-Werror", "-pedantic", "-fsyntax-only", *include]
    for language in (["gcc", "-std=c99"], ["g++", "-std=c++11", "-xc++"]):
        for source in ("alone.c", "python.c"):
            run([*language, *flags, source], tmp_path)


@needs("gcc")
def test_a_header_newer_than_the_library_is_refused(tmp_path):
    source = "#include <Python.h>\n#include <fastconv.h>\n"
    source += "const void *table(void) { return fastconv_import(); }\n"
    (tmp_path / "import.c").write_text(source)
    python = f"-I{sysconfig.get_paths()['include']}"
    command = ["gcc", "-shared", "-fPIC", "import.c", python]
    run([*command, f"-I{INCLUDE}", "-o", "right.so"], tmp_path)
    newer_header(tmp_path)
    run([*command, f"-I{tmp_path}", "-o", "newer.so"], tmp_path)
    found = ctypes.PyDLL(str(tmp_path / "right.so")).table
    found.restype = ctypes.c_void_p
    assert found() == fastconv.capi.load().table
    with pytest.raises(ImportError, match=r"version 99 of fastconv's C functions.*has version 1"):
        ctypes.PyDLL(str(tmp_path / "newer.so")).table()


# The page

PAGE = ROOT / "docs" / "embedding.md"
with_the_page = pytest.mark.skipif(not PAGE.is_file(), reason="the page is not here")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.M | re.S)


@with_the_page
def test_python_of_the_page(tmp_path):
    (text,) = blocks("python")
    same, difference = run([sys.executable, "-W", "error", "-c", text], tmp_path).split()
    assert same == "True"
    assert float(difference) < 1e-13


@with_the_page
@needs("gcc")
def test_c_of_the_page(tmp_path, rng):
    rows, columns, whole = blocks("c")
    flags = ["-std=c99", "-Wall", "-Werror", "-shared", "-fPIC"]
    include = [f"-I{INCLUDE}", f"-I{sysconfig.get_paths()['include']}"]
    (tmp_path / "smooth.c").write_text(whole)
    run(["gcc", *flags, *include, "smooth.c", "-o", "smooth.so"], tmp_path)
    library = ctypes.PyDLL(str(tmp_path / "smooth.so"))
    assert library.begin() == 0
    x, y = rng.random((2, 7, 9)).astype(np.float32)
    pointers = (ctypes.c_void_p(array.ctypes.data) for array in (x, y))
    assert library.smooth(*pointers, ctypes.c_int64(7), ctypes.c_int64(9), 2) == 0
    expected = F.avg_pool2d(x[None, None], 3, 1, 1, count_include_pad=False)[0, 0]
    assert_allclose(y, expected, rtol=1e-6)
    (tmp_path / "orders.c").write_text(f"{whole}void orders(void) {{ {rows} {{ {columns} }} }}")
    run(["gcc", "-fsyntax-only", *include, "orders.c"], tmp_path)


@with_the_page
@in_source_tree
def test_cython_and_fortran_of_the_page_are_those_of_the_example():
    for language, name in (("cython", "heat_cython.pyx"), ("fortran", "heat_fortran.f90")):
        text = max(blocks(language), key=len)
        for part in text.split("\n\n"):
            assert part.rstrip("\n") in (EXAMPLE / name).read_text(), part


@with_the_page
def test_the_page_lists_every_status():
    header = dict(re.findall(r"(FASTCONV_\w+) = (-?\d+)", (INCLUDE / "fastconv.h").read_text()))
    listed = re.findall(r"^\| `(FASTCONV_\w+)` \| (-?\d+) \|", PAGE.read_text(), re.M)
    assert listed == [(name, value) for name, value in header.items() if (name, value) in listed]
    assert len(listed) == 13


# What is declared, declared alike


def table():
    """(result, name, arguments) of the functions in the order of the table."""
    text = re.sub(r"/\*.*?\*/", "", (INCLUDE / "fastconv.h").read_text(), flags=re.S)
    members = re.findall(r"^    (\w[\w *]*)\(\*(\w+)\)\((.*?)\);", text, re.M | re.S)
    return [(result, name, arguments) for result, name, arguments in members]


def signature(result, arguments):
    return [re.sub(r"\s+|,$", "", part) for part in [result, *arguments.split(",")] if part.strip()]


def test_cython_declares_what_the_header_does():
    declared = Path(fastconv.__file__).parent / "kernels" / "capi.pxd"
    found = re.findall(
        r"^cdef ([\w *]+?)(\w+)\(([^)]*)\) noexcept nogil$", declared.read_text(), re.M
    )
    ours = {name: signature(result, arguments) for result, name, arguments in found}
    assert ours == {name: signature(result, arguments) for result, name, arguments in table()}
    assert len(ours) == 25


def test_fortran_declares_what_the_header_does():
    header = (INCLUDE / "fastconv.h").read_text()
    module = re.sub(r"&\s*", "", (INCLUDE / "fastconv.f90").read_text())
    pointers = re.findall(r"type\(c_funptr\) :: (.*)", module)
    names = [name.strip() for line in pointers for name in line.split(",")]
    assert names == [name for _, name, _ in table()]
    constants = dict(re.findall(r"(FASTCONV_\w+) = (-?\d+)", header))
    assert len(constants) == 22
    for name, value in constants.items():
        assert re.search(rf"\b{name.lower()} = {value}\b", module), name
    version = re.search(r"FASTCONV_API_VERSION (\d+)", header)[1]
    assert f"fastconv_api_version = {version}" in module
