"""Logical (N, C, *spatial) arrays and the channels-last memory that kernels read.

A channels-last array is an ordinary ndarray whose strides say so: the transposed view of
a C-contiguous (N, *spatial, C) block. Results are returned that way, so a chain of operators
converts nothing.
"""

import math

import numpy as np

from fastconv._geometry import three
from fastconv._memory import empty
from fastconv._threads import threads_for
from fastconv.kernels import layout

_MEMORY_ORDER = {ndim: (0, *range(2, ndim), 1) for ndim in range(2, 65)}  # as many as NumPy has


def channels_last(x):
    """(N, C, *spatial) to its C-contiguous (N, D, H, W, C); a view where memory allows it."""
    moved = x.transpose(_MEMORY_ORDER[x.ndim])
    n, *spatial, c = moved.shape
    shape = (n, *three(spatial, 1), c)
    if moved.flags.c_contiguous:
        return moved.reshape(shape)
    if x.flags.c_contiguous and x.size:
        out = empty(shape, x.dtype)
        places = math.prod(spatial)
        layout.transpose(x.reshape(n, c, places), out.reshape(n, places, c), threads_for(x.size))
        return out
    return np.ascontiguousarray(moved).reshape(shape)


def channels_first(y, ndim):
    """The logical (N, C, *spatial) view, `ndim` axes in all, of (N, D, H, W, C)."""
    spatial = y.shape[6 - ndim : 4]
    y = y.reshape(y.shape[0], *spatial, y.shape[4])
    return y.transpose(0, ndim - 1, *range(1, ndim - 1))


def logical_order(x):
    """`x` C-contiguous in its logical axes; channels-last memory is transposed in parallel."""
    if x.flags.c_contiguous or x.ndim < 3 or not x.size:
        return np.ascontiguousarray(x)
    moved = x.transpose(0, *range(2, x.ndim), 1)
    if not moved.flags.c_contiguous:
        return np.ascontiguousarray(x)
    n, c = x.shape[:2]
    out = empty(x.shape, x.dtype)
    layout.transpose(moved.reshape(n, -1, c), out.reshape(n, c, -1), threads_for(x.size))
    return out


def rising(x):
    """`x`, copied where it runs backwards: there NumPy's functions may round another way."""
    return x if all(step >= 0 for step in x.strides) else np.ascontiguousarray(x)


def memory_order(x):
    """`x` as a C-contiguous array of permuted axes, and the permutation back.

    A view for C-contiguous and channels-last memory, a copy otherwise.
    """
    if x.flags.c_contiguous or x.ndim < 3:
        return np.asarray(x, order="C"), tuple(range(x.ndim))
    moved = x.transpose(0, *range(2, x.ndim), 1)
    return np.ascontiguousarray(moved), (0, x.ndim - 1, *range(1, x.ndim - 1))


def in_order_of(x, axes):
    """`x` C-contiguous in the memory order whose way back is `axes`."""
    return np.asarray(x.transpose(np.argsort(axes)), order="C")
