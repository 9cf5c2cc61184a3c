"""What several operators need of the kernels."""

import numpy as np

from fastconv._threads import threads_for, workspace
from fastconv.kernels import norm

# A block of rows is read twice, the second time from cache; its size decides how sums are
# grouped, so it depends on shapes alone.
BLOCK_BYTES = 1 << 17


def block_rows(rows, channels, itemsize):
    """(rows of a block, number of blocks) for sums over the rows of a matrix."""
    block = max(64, BLOCK_BYTES // (channels * itemsize))
    return block, -(-rows // block)


def channel_sums(x):
    """Sums over the rows of a C-contiguous (P, C) array, in float64 of shape (C,)."""
    rows, channels = x.shape
    block, blocks = block_rows(rows, channels, x.itemsize)
    sums = np.empty((blocks, channels))
    threads = threads_for(x.size)
    norm.column_sums(x, sums, block, workspace(threads, channels, x.dtype), threads)
    return sums.sum(axis=0)
