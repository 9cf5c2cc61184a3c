"""Matrix products with fastconv's own threads (NumPy's BLAS would fight them for the cores)."""

import numpy as np

from fastconv._memory import empty
from fastconv._threads import blas_threads_for, single_threaded_blas
from fastconv.kernels import _blas

# Products up to this many multiplications are one task.
SMALL = 1 << 18
# Blocks of C: at least this many rows or columns, and at most this many of each.
BLOCK = 64
BLOCKS = 16


def check_blas(failed):
    """Raise for the status of a kernel that called BLAS."""
    if failed:
        raise ValueError(
            f"the arrays are too large: BLAS of this SciPy takes sizes up to {_blas.SIZE_MAX}"
        )


def _block(length):
    return max(BLOCK, -(-length // BLOCKS))


def matmul(a, b, trans_a=False, trans_b=False):
    """op(A).op(B) for two matrices of one float dtype, any strides.

    Parameters
    ----------
    a, b : ndarray of shape (M, K) and (K, N), or their transposes
        Transposed memory is read as it is: ``matmul(x.T, y)`` copies nothing.
    trans_a, trans_b : bool
        Whether to transpose.

    Returns
    -------
    ndarray of shape (M, N)
    """
    if a.flags.f_contiguous and not a.flags.c_contiguous:
        a, trans_a = a.T, not trans_a
    if b.flags.f_contiguous and not b.flags.c_contiguous:
        b, trans_b = b.T, not trans_b
    m, k = a.shape[::-1] if trans_a else a.shape
    n = b.shape[0] if trans_b else b.shape[1]
    if 0 in (m, n, k):
        return np.zeros((m, n), a.dtype)
    out = empty((m, n), a.dtype)
    rows, cols = m, n
    if m * n * k > SMALL:
        if m >= n:
            rows = _block(m)
        else:
            cols = _block(n)
    with single_threaded_blas:
        failed = _blas.matmul(
            np.ascontiguousarray(a),
            np.ascontiguousarray(b),
            out,
            trans_a,
            trans_b,
            rows,
            cols,
            blas_threads_for(m * n * k),
        )
    check_blas(failed)
    return out
