"""What was built, and what is found at run time."""

import os
import platform

import numpy as np
import scipy

from fastconv import _threads
from fastconv.kernels import ISA, _build, available

__all__ = ["show_config"]


def show_config():
    """Print versions, how the kernels were built, and the threads in use.

    What a bug report should hold.

    Examples
    --------
    >>> import fastconv
    >>> fastconv.show_config()  # doctest: +ELLIPSIS
    fastconv  ...
    """
    from fastconv import __version__

    rows = {
        "fastconv": __version__,
        "Python": f"{platform.python_version()} on {platform.platform()}",
        "NumPy": np.__version__,
        "SciPy": scipy.__version__,
        "OpenMP": "yes" if _build.OPENMP else "no: single-threaded kernels",
        "instructions": f"{ISA} (of {', '.join(available())})",
        "index checks": "yes" if _build.BOUNDS else "no",
        "BLAS": _threads.describe_blas(),
        "threads": f"{_threads.get_num_threads()} of {os.cpu_count()} CPUs",
    }
    for name, value in rows.items():
        print(f"{name:13} {value}")
