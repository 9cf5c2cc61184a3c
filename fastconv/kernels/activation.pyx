"""Rectifiers on flat arrays, forward and backward, and the sum that often comes before one.

The activation is that of ``activation.pxd``. Its tests are written so that NaN passes through, as
in PyTorch.
"""

from cython cimport floating
from cython.parallel cimport prange


def rectify(
    const floating[::1] x, floating slope, floating top, floating[::1] y, int n_threads,
):
    """y := act(x)."""
    cdef Py_ssize_t i
    for i in prange(x.shape[0], schedule="guided", nogil=True, num_threads=n_threads):  # vectorised
        y[i] = act(x[i], slope, top)


def rectify_backward(
    const floating[::1] x,            # IN   the input or, for a slope of at least 0, the result
    const floating[::1] dy, floating slope, floating top, floating[::1] dx, int n_threads,
):
    """dx := dy act'(x)."""
    cdef Py_ssize_t i
    for i in prange(x.shape[0], schedule="guided", nogil=True, num_threads=n_threads):  # vectorised
        dx[i] = act_gradient(dy[i], x[i], slope, top)


def add(
    const floating[::1] a, const floating[::1] b, floating slope, floating top, floating[::1] y,
    int n_threads,
):
    """y := act(a + b)."""
    cdef Py_ssize_t i
    for i in prange(a.shape[0], schedule="guided", nogil=True, num_threads=n_threads):  # vectorised
        y[i] = act(a[i] + b[i], slope, top)
