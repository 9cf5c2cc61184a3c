"""What several operators need of the kernels."""

import math

import numpy as np

from fastconv._geometry import three
from fastconv._layout import channels_first, channels_last
from fastconv._threads import threads_for, workspace
from fastconv.kernels import norm

# A block of rows is read twice, the second time from cache; its size decides how sums are
# grouped, so it depends on shapes alone.
BLOCK_BYTES = 1 << 17


class Rows:
    """Arrays of one shape (N, C, *spatial) as C-contiguous matrices (pixels, C), and back."""

    def __init__(self, shape):
        self.shape = shape
        # any number of spatial axes beyond three, seen as one
        self.seen = shape if len(shape) <= 5 else (*shape[:2], math.prod(shape[2:]))
        self.memory = (shape[0], *three(self.seen[2:], 1), shape[1])

    def of(self, array):
        """The matrix of an array."""
        x = channels_last(array.reshape(self.seen))
        return x.reshape(math.prod(self.memory[:-1]), self.memory[-1])

    def image(self, matrix):
        """The array of a matrix."""
        return channels_first(matrix.reshape(self.memory), len(self.seen)).reshape(self.shape)


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
    norm.column_sums(x, sums, block, workspace(threads, channels, x.dtype), threads)
    return sums.sum(axis=0)
