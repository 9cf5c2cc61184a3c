"""The loops marked ``# vectorised`` in the kernels are, says GCC, for every type and level.

Compiling takes a minute: set FASTCONV_TEST_BUILD=1 for these tests.
"""

import contextlib
import os
import platform
import re
import runpy
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MARK = re.compile(r"\bfor\b.*:  # vectorised$")
MARKED = sorted(
    path
    for path in (ROOT / "fastconv" / "kernels").glob("*.pyx")
    if any(map(MARK.search, path.read_text(encoding="utf-8").splitlines()))
)
TYPES = ["float", "double"]  # in the order of Cython's `floating`

pytestmark = [
    pytest.mark.skipif(
        os.environ.get("FASTCONV_TEST_BUILD", "0") in ("", "0"),
        reason="FASTCONV_TEST_BUILD is not 1",
    ),
    pytest.mark.skipif(not MARKED, reason="the source tree is not here"),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the levels are of x86-64"),
    pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no GCC"),
]


@pytest.fixture(scope="module")
def setup():
    """What setup.py defines and imports."""
    pytest.importorskip("Cython")
    return runpy.run_path(str(ROOT / "setup.py"))


@pytest.fixture(scope="module")
def generated(setup, tmp_path_factory):
    """The C file of each marked kernel."""
    folder = tmp_path_factory.mktemp("vectorised")
    names = [path.relative_to(ROOT).with_suffix("") for path in MARKED]
    with contextlib.chdir(ROOT):
        setup["cythonize"](
            [setup["Extension"](".".join(name.parts), [f"{name}.pyx"]) for name in names],
            build_dir=str(folder),
            compiler_directives=setup["DIRECTIVES"],
            force=True,
            quiet=True,
        )
    return {name.name: folder / name.with_suffix(".c") for name in names}


def origins(c_file):
    """(line of the .pyx, type) that each line of the C comes from, by Cython's comments."""
    line = kind = None
    for text in c_file.read_text(encoding="utf-8").splitlines():
        if found := re.match(r'\s*/\* "fastconv/kernels/\w+\.pyx":(\d+)$', text):
            line = int(found[1])
        elif found := re.match(r"static .*__pyx_fuse_([01]).*\{$", text):
            kind = TYPES[int(found[1])]
        yield line, kind


@pytest.mark.parametrize("level", ["baseline", "avx2", "avx512"])
@pytest.mark.parametrize("path", MARKED, ids=[path.stem for path in MARKED])
def test_marked_loops_are_vectorised(path, level, setup, generated):
    if level == "avx512" and path.stem not in setup["WIDE"]:
        pytest.skip("AVX2 is this kernel's best level")
    c_file = generated[path.stem]
    flags = [*setup["OPTIMISE"], *setup["LEVELS"].get(level, []), "-fopenmp", "-fPIC"]
    include = [f"-I{sysconfig.get_paths()['include']}", f"-I{path.parent}"]
    told = subprocess.run(
        ["gcc", *flags, *include, "-fopt-info-vec-optimized", "-c", c_file, "-o", os.devnull],
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    ).stderr
    origin = list(origins(c_file))
    vectorised = {
        origin[int(line) - 1]
        for line in re.findall(rf"{c_file.name}:(\d+):\d+: optimized: loop vectorized", told)
    }
    missing = [
        (number, kind)
        for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        for kind in TYPES
        # OpenMP moves a loop into a function of its own, whose place is the loop's body.
        if MARK.search(text) and not vectorised & {(number, kind), (number + 1, kind)}
    ]
    assert missing == []
