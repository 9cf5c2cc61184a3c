"""What was built, and what is found at run time."""

import os
import platform
import re
import sys
from pathlib import Path

import numpy as np
import scipy

from fastconv import _memory, _threads
from fastconv.kernels import ISA, _build, built

__all__ = ["describe", "show_config"]

# Of the environment, what changes how fastconv, OpenMP or BLAS work.
SETTINGS = re.compile(r"(FASTCONV|OMP|GOMP|KMP|OPENBLAS|GOTO|MKL|BLIS|VECLIB|MALLOC)_")


def describe():
    """What :func:`show_config` prints, by the names of its lines."""
    from importlib.metadata import version

    openmp, openmp_library = _threads.describe_openmp()
    blas, blas_library = _threads.describe_blas()
    kept = _memory.memory_stats()["limit"]
    settings = [f"{name}={value}" for name, value in os.environ.items() if SETTINGS.match(name)]
    found = {
        "fastconv": f"{version('fastconv')}, built by {_build.COMPILER}",
        "folder": str(Path(__file__).parent),
        "Python": f"{platform.python_version()}{_lock()} on {platform.platform()}",
        "NumPy": np.__version__,
        "SciPy": scipy.__version__,
        "instructions": f"{ISA} (built: {', '.join(built())}; "
        f"found: {', '.join(_build.FEATURES) or 'the baseline'})",
        "index checks": "yes" if _build.BOUNDS else "no",
        "OpenMP": openmp,
        "OpenMP file": openmp_library,
        "BLAS": blas,
        "BLAS file": blas_library,
        "threads": f"{_threads.get_num_threads()} of {_threads.describe_limits()}",
        "memory": f"{_memory.usable_memory() / 1e9:.1f} GB, of which at most "
        f"{kept / 1e9:.1f} are kept",
        "environment": ", ".join(sorted(settings)) or "no setting",
    }
    return {name: value for name, value in found.items() if value is not None}


def _lock():
    """Whether a free-threaded Python runs without its lock."""
    if not hasattr(sys, "_is_gil_enabled"):
        return ""
    return "" if sys._is_gil_enabled() else " without the GIL"


def show_config():
    """Print versions, how the kernels were built, and the limits and libraries found.

    What a bug report should hold; ``python -m fastconv info`` prints the same.

    Examples
    --------
    >>> import fastconv
    >>> fastconv.show_config()  # doctest: +ELLIPSIS
    fastconv  ...
    """
    for name, value in describe().items():
        print(f"{name:13} {value}")
