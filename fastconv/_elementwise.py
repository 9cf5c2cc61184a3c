"""Sums of large arrays, with fastconv's threads and memory."""

import numpy as np

from fastconv import _checks
from fastconv._activation import NONE
from fastconv._layout import memory_order
from fastconv._memory import empty
from fastconv._threads import GRAIN, threads_for
from fastconv.kernels import activation as kernels

__all__ = ["add"]


def add(a, b):
    """a + b, as NumPy has it."""
    if not _alike(a, b):
        return np.asarray(a + b)  # NumPy makes scalars of arrays without axes
    a, back = memory_order(a)
    b = b.transpose(np.argsort(back))
    y = empty(a.shape, a.dtype)
    kernels.add(a.reshape(-1), b.reshape(-1), *NONE, y.reshape(-1), threads_for(a.size))
    return y.transpose(back)


def _alike(a, b):
    """Whether both are large, of one float type, and lie in memory in one of our orders."""
    return (
        type(a) is type(b) is np.ndarray
        and a.size >= GRAIN
        and a.shape == b.shape
        and a.dtype == b.dtype
        and a.dtype.type in _checks.FLOATS
        and a.strides == b.strides
        and a.dtype.isnative
        and a.flags.aligned
        and b.flags.aligned
        and (a.flags.c_contiguous or a.transpose(0, *range(2, a.ndim), 1).flags.c_contiguous)
    )
