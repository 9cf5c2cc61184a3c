"""What a bug report should hold is so."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy

import fastconv
from fastconv import _config, _threads
from fastconv.kernels import ISA, _build, available, built

MAPS = Path("/proc/self/maps")
CPU = Path("/proc/cpuinfo")


def test_versions_and_the_place_are_told():
    found = _config.describe()
    assert found["fastconv"].startswith(f"{fastconv.__version__}, built by ")
    assert Path(found["folder"]) == Path(fastconv.__file__).parent
    assert found["Python"].startswith(platform.python_version())
    assert (found["NumPy"], found["SciPy"]) == (np.__version__, scipy.__version__)
    assert all(value and "\n" not in value for value in found.values())


@pytest.mark.skipif(not CPU.exists(), reason="no /proc on this system")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the levels are of x86-64")
def test_the_processor_has_what_is_found():
    (flags, *_) = (
        line.split(":")[1].split()
        for line in CPU.read_text(encoding="ascii").splitlines()
        if line.startswith("flags")
    )
    named = {"sse4.2": "sse4_2"}
    wide = [f"avx512{part}" for part in ("f", "bw", "cd", "dq", "vl")]
    for name in ("sse4.2", "avx", "avx2", "fma", *wide):
        assert (name in _build.FEATURES) == (named.get(name, name) in flags)
    runs = {"avx512": set(wide) <= set(flags), "avx2": "avx2" in flags, "baseline": True}
    assert available() == tuple(level for level in built() if runs[level])
    folders = {path.parent.name for path in (Path(_build.__file__).parent).glob("*/direct.*.so")}
    assert set(built()) == {*folders, "baseline"}


@pytest.mark.skipif(not MAPS.exists(), reason="no /proc on this system")
def test_libraries_are_those_of_the_process():
    found = _config.describe()
    maps = MAPS.read_text(encoding="utf-8")
    assert ("OpenMP file" in found) == bool(_build.OPENMP)
    if _build.OPENMP:
        assert f"{Path(found['OpenMP file']).resolve()}\n" in maps
        assert "omp" in Path(found["OpenMP file"]).name
    if "BLAS file" in found:
        assert f"{Path(found['BLAS file'].split(' (')[0]).resolve()}\n" in maps


def test_threads_of_the_libraries_agree_with_threadpoolctl():
    threadpoolctl = pytest.importorskip("threadpoolctl")
    found = _config.describe()
    pools = {os.path.realpath(pool["filepath"]): pool for pool in threadpoolctl.threadpool_info()}
    for name in ("OpenMP", "BLAS"):
        if f"{name} file" in found:
            pool = pools[os.path.realpath(found[f"{name} file"].split(" (")[0])]
            assert f", {pool['num_threads']} threads outside" in found[name]
            assert name != "BLAS" or pool["version"] in found["BLAS file"]


def test_limits_are_told(monkeypatch):
    monkeypatch.setattr(_threads._cgroup, "cpu_quota", lambda: 7)
    monkeypatch.setattr(os, "cpu_count", lambda: 48)
    assert ", quota of 7 CPUs" in _config.describe()["threads"]
    assert " of 48 CPUs, " in _config.describe()["threads"]
    monkeypatch.setattr(_threads._cgroup, "cpu_quota", lambda: None)
    assert ", no quota of a control group" in _config.describe()["threads"]
    monkeypatch.setenv("FASTCONV_ISA", "none that is")
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "5")
    monkeypatch.setenv("NOT_OMP_", "6")
    settings = _config.describe()["environment"].split(", ")
    assert {"FASTCONV_ISA=none that is", "OPENBLAS_NUM_THREADS=5"} <= set(settings)
    assert "NOT_OMP_=6" not in settings


def test_the_command_prints_what_the_function_does():
    script = """
import os, sys
import fastconv
from fastconv.cli import main
os.sched_getaffinity = lambda process: {3}
fastconv.show_config()
print("--")
sys.exit(main(["info"]))
"""
    environment = {name: value for name, value in os.environ.items() if "NUM_THREADS" not in name}
    done = subprocess.run(
        [sys.executable, "-P", "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    shown, printed = done.stdout.split("--\n")
    assert shown == printed
    lines = {line[:13].strip(): line[14:] for line in shown.splitlines()}
    assert lines["NumPy"] == np.__version__
    assert lines["threads"].startswith(f"1 of {os.cpu_count()} CPUs, affinity to 1, ")
    assert lines["instructions"].split()[0] == ISA
