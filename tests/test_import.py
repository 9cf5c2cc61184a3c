"""An import brings what fastconv needs and no more, and leaves the process as it was."""

import ast
import os
import pickle
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import conftest
import pytest

import fastconv
from fastconv import nn
from fastconv.kernels import _build

NEEDED = "import numpy, scipy.linalg.cython_blas\n"
# fmt: off
LATER = (
    "compiler", "data", "functional", "io", "linalg", "models", "nn", "onnx", "optim", "training",
)
# fmt: on


def python(script, **environment):
    """What a script prints as JSON, run in a new process in which warnings are errors."""
    with tempfile.TemporaryDirectory() as folder:
        return conftest.python(Path(folder), script, "-W", "error", **environment)


# What is loaded


def test_an_import_loads_little_beside_numpy_and_scipy():
    script = """
import json, sys
before = set(sys.modules)
import fastconv
print(json.dumps(sorted(set(sys.modules) - before)))
"""
    loaded = python(NEEDED + script)
    # Cython's own types, and what reads a file of the kernel's.
    others = {name for name in loaded if not name.startswith(("fastconv", "_cy", "encodings"))}
    assert not others - sys.stdlib_module_names  # nothing more of NumPy and SciPy, nor of others
    assert not others & {"importlib.metadata", "json", "multiprocessing", "subprocess", "zipfile"}
    assert not {"scipy.special", "scipy.sparse.linalg"} & set(loaded)
    assert not {f"fastconv.{name}" for name in (*LATER, "bench", "cli")} & set(loaded)


def test_modules_and_names_come_when_they_are_used():
    script = f"""
import json, sys
import fastconv
found = []
for name in {LATER}:
    found.append(name in dir(fastconv))
    found.append(getattr(fastconv, name) is sys.modules["fastconv." + name])
found += [hasattr(fastconv, name) and name in dir(fastconv) for name in fastconv.__all__]
found.append(not hasattr(fastconv, "absent"))
everything = {{}}
exec("from fastconv import *", everything)
found.append(set(everything) - {{"__builtins__"}} == set(fastconv.__all__))
found.append(fastconv.load is fastconv.io.load and fastconv.compile is fastconv.compiler.compile)
print(json.dumps(found))
"""
    found = python(script)
    assert len(found) > 60
    assert all(found)


@pytest.mark.parametrize(
    "statement",
    [
        "import fastconv.nn; Linear = fastconv.nn.Linear",
        "from fastconv import nn; Linear = nn.Linear",
        "from fastconv.nn import Linear",
        "import fastconv; Linear = fastconv.nn.Linear",
        "from fastconv import *; Linear = nn.Linear",
    ],
)
def test_any_form_of_import_finds_a_module(statement):
    assert python(f"{statement}; import json; print(json.dumps(Linear(3, 2).weight.shape))") == [
        2,
        3,
    ]


def test_what_was_pickled_is_found_again():
    values = {"layer": nn.Linear(3, 2), "function": fastconv.compile, "class": fastconv.Tensor}
    text = pickle.dumps(values).hex()
    script = f"""
import json, pickle
values = pickle.loads(bytes.fromhex("{text}"))
import fastconv
same = [values["function"] is fastconv.compile, values["class"] is fastconv.Tensor]
print(json.dumps([same, values["layer"].weight.numpy().tolist()]))
"""
    assert python(script) == [[True, True], values["layer"].weight.numpy().tolist()]


def test_a_name_that_is_absent_is_an_error():
    with pytest.raises(AttributeError, match="module 'fastconv' has no attribute 'absent'"):
        fastconv.absent  # noqa: B018
    assert fastconv.__version__ == version("fastconv")


def test_type_checkers_are_told_of_the_same_names():
    (block,) = (
        node
        for node in ast.parse(Path(fastconv.__file__).read_text(encoding="utf-8")).body
        if isinstance(node, ast.If)
    )
    told = {
        alias.name: node.module.partition(".")[2]
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert told == dict.fromkeys(fastconv._MODULES, "") | fastconv._NAMES


# What is left alone

# Of the process: threads, floating point, libraries' settings, Python's.
STATE = """
import ctypes, json, os, re, signal, sys, warnings
import numpy as np

c = ctypes.CDLL(None)  # with the mathematical functions: Python itself needs them

def files(pattern):
    with open("/proc/self/maps") as file:
        maps = file.read()
    return sorted(set(re.findall(rf"/\\S*/{pattern}\\S*", maps)))

def call(library, names):
    for name in names:
        if hasattr(library, name):
            return library[name]()

def numbers(pattern, names):
    return [call(ctypes.CDLL(file), names) for file in files(pattern)]

def openmp():
    names = "omp_get_max_threads", "omp_get_dynamic", "omp_get_max_active_levels"
    return [numbers("lib(?:g|i|)omp", [name]) for name in names]

def state():
    return {
        "threads": len(os.listdir("/proc/self/task")),
        "rounding": c.fegetround(),
        "subnormal": [float(np.float32(1e-40) * np.float32(0.5)), 5e-324 * 1.0, 3e-310 / 2],
        "BLAS": numbers(
            "lib[^/ ]*openblas",
            [
                f"{prefix}openblas_get_num_threads{suffix}"
                for prefix in ("scipy_", "")
                for suffix in ("", "64_", "_64")
            ],
        ),
        "errors": np.geterr(),
        "random": np.random.get_state()[1].tolist(),
        "environment": dict(os.environ),
        "signals": [str(signal.getsignal(s)) for s in (signal.SIGINT, signal.SIGFPE)],
        "warnings": list(map(str, warnings.filters)),
        "path": list(sys.path),
    }
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="no /proc on this system")
@pytest.mark.parametrize("rounding", ["to nearest", "as another was set"])
def test_an_import_leaves_the_process_as_it_was(rounding):
    # The modes but the usual one have other numbers on other processors: the first there is.
    script = f"""
if {rounding == "as another was set"}:
    assert any(c.fesetround(mode) == 0 and c.fegetround() for mode in (0x400, 0x400000))
before = state()
c.feclearexcept(0x1f)
import fastconv
after = [state()]
import fastconv.functional, fastconv.training
after.append(state())
flags = c.fetestexcept(0x1f)
print(json.dumps([before, after, openmp(), flags]))
"""
    settings = {"OMP_NUM_THREADS": "3", "OMP_DYNAMIC": "true", "OMP_MAX_ACTIVE_LEVELS": "2"}
    settings["OPENBLAS_NUM_THREADS"] = "2"
    before, after, openmp, flags = python(NEEDED + STATE + script, **settings)
    assert after == [before, before]
    assert all(value > 0 for value in before["subnormal"])
    # OpenMP's runtime came with the kernels: it says what the environment does.
    assert bool(openmp[0]) == bool(_build.OPENMP)
    assert openmp == [[value] * len(openmp[0]) for value in (3, 1, 2)]
    assert flags & 0x0D == 0  # invalid, division by zero, overflow
