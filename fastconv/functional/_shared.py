"""What several operators need of the kernels."""

import functools
import math

import numpy as np

from fastconv._geometry import CACHED_SHAPES
from fastconv._layout import channels_last
from fastconv._threads import threads_for, workspace
from fastconv.kernels import norm

# A block of rows is read twice, the second time from cache; its size decides how sums are
# grouped, so it depends on shapes alone.
BLOCK_BYTES = 1 << 17


class Rows:
    """Arrays of one shape (N, C, *spatial) as C-contiguous matrices (pixels, C), and back."""

    def __init__(self, shape):
        n, channels, *spatial = shape
        axes = range(len(shape))
        self.last = (0, *axes[2:], 1)  # to memory order
        self.first = (0, axes[-1], *axes[1:-1])  # and back
        self.memory = (n, *spatial, channels)
        self.matrix = (math.prod(self.memory[:-1]), channels)
        # any number of spatial axes beyond three, seen as one
        self.seen = shape if len(shape) <= 5 else (n, channels, math.prod(spatial))

    def of(self, array):
        """The matrix of an array."""
        moved = array.transpose(self.last)
        if not moved.flags.c_contiguous:
            moved = channels_last(array.reshape(self.seen))
        return moved.reshape(self.matrix)

    def image(self, matrix):
        """The array of a matrix."""
        return matrix.reshape(self.memory).transpose(self.first)


rows_of = functools.lru_cache(CACHED_SHAPES)(Rows)


def block_rows(rows, channels, itemsize):
    """(rows of a block, number of blocks) for sums over the rows of a matrix."""
    block = max(64, BLOCK_BYTES // (channels * itemsize))
    return block, -(-rows // block)


def channel_sums(x):
    """Sums over the rows of a C-contiguous (P, C) array, in float64 of shape (C,)."""
    rows, channels = x.shape
    if not x.size:
        return np.zeros(channels)
    block, blocks = block_rows(rows, channels, x.itemsize)
    sums = np.empty((blocks, channels))
    threads = threads_for(x.size)
    work = workspace(threads, norm.lanes_of(channels), x.dtype)
    norm.column_sums(x, sums, block, work, threads)
    return sums.sum(axis=0)
