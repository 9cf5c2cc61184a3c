"""The heat equation on a plane by fastconv's C functions, from ctypes, Cython and Fortran.

What is built in this folder takes part:

    python setup.py build_ext --inplace
    include=$(python -c "import fastconv; print(fastconv.get_include())")
    gfortran -shared -fPIC -O2 $include/fastconv.f90 heat_fortran.f90 -o libheat_fortran.so
    python heat.py
"""

import ctypes
import importlib
import sys
from pathlib import Path

import numpy as np

import fastconv

SHAPE, STEPS = (120, 90), 50
STENCIL = np.array([[0.05, 0.1, 0.05], [0.15, 0.3, 0.15], [0.05, 0.1, 0.05]])


def by_numpy(u, kernel, steps):
    """The definition."""
    u = u.copy()
    for _ in range(steps):
        padded = np.pad(u, 1)
        windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape)
        u = np.einsum("ijkl,kl->ij", windows, kernel)
    return u


def by_ctypes(u, kernel, steps):
    """Arrays are described by address and strides, so any order of memory will do."""
    c = fastconv.capi.load()
    x, y = u.copy("K"), u.copy("K")

    def described(array):
        strides = tuple(step // array.itemsize for step in array.strides)
        return c.array(array.ctypes.data, c.FLOAT64, 4, (1, 1, *array.shape), (0, 0, *strides))

    sides = tuple(n // 2 for n in kernel.shape)
    conv = c.conv(stride=(1, 1), before=sides, after=sides, dilation=(1, 1), groups=1)
    arrays = described(x), described(kernel), described(y)
    needed = c.conv_forward_workspace(conv, *arrays, 1)
    workspace = np.empty(needed, np.uint8)
    for _ in range(steps):
        status = c.conv_forward(
            conv, *arrays[:2], None, arrays[2], workspace.ctypes.data, needed, 1
        )
        if status != c.OK:
            raise ValueError(c.status_text(status).decode())
        x[:] = y
    return x


def by_cython(u, kernel, steps):
    heat_cython = importlib.import_module("heat_cython")
    u = u.copy()
    heat_cython.heat(u, kernel, steps)
    return u


def by_fortran(u, kernel, steps):
    """Fortran's u(nx, ny) is this array with reversed dimensions: its last index runs fastest."""
    library = ctypes.CDLL(str(Path.cwd() / "libheat_fortran.so"))
    c = fastconv.capi.load()
    u = u.copy()

    def reversed_(array):
        return ctypes.c_void_p(array.ctypes.data), *map(ctypes.c_int64, array.shape[::-1])

    table = ctypes.c_void_p(c.table)
    status = library.heat(table, *reversed_(u), *reversed_(kernel), steps, 1)
    if status != c.OK:
        raise ValueError(c.status_text(status).decode())
    return u


def main():
    u = np.zeros(SHAPE)
    u[40:60, 30:70] = 1
    expected = by_numpy(u, STENCIL, STEPS)
    ways = {
        "ctypes": lambda: by_ctypes(u, STENCIL, STEPS),
        "ctypes, column-major": lambda: by_ctypes(np.asfortranarray(u), STENCIL, STEPS),
        "Cython": lambda: by_cython(u, STENCIL, STEPS),
        "Fortran": lambda: by_fortran(u, STENCIL, STEPS),
    }
    sys.path.insert(0, "")
    for name, way in ways.items():
        try:
            found = way()
        except (ImportError, OSError) as error:
            print(f"{name}: not built ({error})")
        else:
            print(f"{name}: largest difference to NumPy {abs(found - expected).max():.1e}")


if __name__ == "__main__":
    main()
