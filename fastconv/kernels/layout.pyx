"""Conversion between channels-first and channels-last memory; comparison of memory."""

from cython cimport floating
from cython.parallel cimport prange
from libc.string cimport memcmp

# A tile of 16 x 16 values touches 16 cache lines on each side, which stay in L1.
cdef enum:
    TILE = 16
    COMPARED = 1 << 15  # values at a time


def transpose(
    const floating[:, :, ::1] x,      # IN   (N, A, B)
    floating[:, :, ::1] y,            # OUT  (N, B, A)
    int n_threads,
):
    """y[n] := x[n]^T."""
    cdef Py_ssize_t rows = x.shape[1], cols = x.shape[2]
    cdef Py_ssize_t bands = (cols + TILE - 1) // TILE
    cdef Py_ssize_t task
    for task in prange(x.shape[0] * bands, schedule="guided", nogil=True, num_threads=n_threads):
        _transpose_band(
            &x[task // bands, 0, 0], &y[task // bands, 0, 0], rows, cols,
            task % bands * TILE, min(task % bands * TILE + TILE, cols))


cdef void _transpose_band(
    const floating* x, floating* y, Py_ssize_t rows, Py_ssize_t cols,
    Py_ssize_t first, Py_ssize_t last,
) noexcept nogil:
    """y[j, i] := x[i, j] for j in [first, last)."""
    cdef Py_ssize_t tile, i, j
    for tile in range((rows + TILE - 1) // TILE):
        for j in range(first, last):
            for i in range(tile * TILE, min(tile * TILE + TILE, rows)):
                y[j * rows + i] = x[i * cols + j]


def same(const floating[::1] a, const floating[::1] b, int n_threads):
    """Whether two arrays of one size are equal bit by bit."""
    cdef Py_ssize_t part, start
    cdef int differ = 0
    for part in prange((a.shape[0] + COMPARED - 1) // COMPARED, schedule="guided", nogil=True,
                       num_threads=n_threads):
        start = part * COMPARED
        differ |= memcmp(&a[start], &b[start],
                         min(<Py_ssize_t> COMPARED, a.shape[0] - start) * sizeof(floating)) != 0
    return not differ
