"""Rectifiers on flat arrays, forward and backward.

The tests are written so that NaN passes through, as in PyTorch.
"""

from cython cimport floating
from cython.parallel cimport prange


def relu(const floating[::1] x, floating[::1] y, int n_threads):
    """y := max(x, 0)."""
    cdef Py_ssize_t i
    for i in prange(x.shape[0], schedule="static", nogil=True, num_threads=n_threads):  # vectorised
        y[i] = 0 if x[i] <= 0 else x[i]


def relu_backward(const floating[::1] y, const floating[::1] dy, floating[::1] dx, int n_threads):
    """dx := dy where y > 0."""
    cdef Py_ssize_t i
    cdef floating value
    for i in prange(y.shape[0], schedule="static", nogil=True, num_threads=n_threads):  # vectorised
        value = dy[i]  # read in any case: SSE2 has no masked loads
        dx[i] = 0 if y[i] <= 0 else value


def relu6(const floating[::1] x, floating[::1] y, int n_threads):
    """y := min(max(x, 0), 6)."""
    cdef Py_ssize_t i
    for i in prange(x.shape[0], schedule="static", nogil=True, num_threads=n_threads):  # vectorised
        y[i] = 0 if x[i] <= 0 else (6 if x[i] >= 6 else x[i])


def relu6_backward(const floating[::1] y, const floating[::1] dy, floating[::1] dx, int n_threads):
    """dx := dy where 0 < y < 6."""
    cdef Py_ssize_t i
    cdef floating value
    for i in prange(y.shape[0], schedule="static", nogil=True, num_threads=n_threads):  # vectorised
        value = dy[i]  # as in relu_backward
        dx[i] = value if (y[i] > 0) & (y[i] < 6) else 0


def leaky_relu(const floating[::1] x, floating[::1] y, floating slope, int n_threads):
    """y := x where x > 0, slope * x elsewhere."""
    cdef Py_ssize_t i
    for i in prange(x.shape[0], schedule="static", nogil=True, num_threads=n_threads):  # vectorised
        y[i] = x[i] if x[i] > 0 else x[i] * slope


def leaky_relu_backward(
    const floating[::1] x, const floating[::1] dy, floating[::1] dx, floating slope, int n_threads,
):
    """dx := dy where x > 0, slope * dy elsewhere."""
    cdef Py_ssize_t i
    for i in prange(x.shape[0], schedule="static", nogil=True, num_threads=n_threads):  # vectorised
        dx[i] = dy[i] if x[i] > 0 else dy[i] * slope
