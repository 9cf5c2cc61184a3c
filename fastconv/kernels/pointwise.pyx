"""Functions of one value on flat arrays, forward and backward, and rectifiers of learnt slopes.

The functions themselves are in ``pointwise.h``.
"""

from cython cimport floating
from cython.parallel cimport prange

cdef extern from "pointwise.h" nogil:
    enum:
        FROM_RESULT
        POINTWISE_COUNT
    ctypedef struct Pointwise:
        const char* name
        int told_from
        void (*of_float)(
            const float*, float*, Py_ssize_t, double, double, double) noexcept nogil
        void (*of_double)(
            const double*, double*, Py_ssize_t, double, double, double) noexcept nogil
        void (*backward_of_float)(
            const float*, const float*, float*, Py_ssize_t, double, double, double
        ) noexcept nogil
        void (*backward_of_double)(
            const double*, const double*, double*, Py_ssize_t, double, double, double
        ) noexcept nogil
    const Pointwise* POINTWISE

cdef enum:
    RUN = 4096  # values of a task

NUMBERS = {POINTWISE[i].name.decode(): i for i in range(POINTWISE_COUNT)}
TOLD_FROM_RESULT = frozenset(
    name for name, i in NUMBERS.items() if POINTWISE[i].told_from == FROM_RESULT)


def apply(
    int number,                       # OPT  of NUMBERS
    const floating[::1] x,            # IN
    floating[::1] y,                  # OUT
    int n_threads,
    double a=0, double b=0, double c=0,
):
    """y := f(x)."""
    cdef const Pointwise* f = &POINTWISE[number]
    cdef Py_ssize_t i, size
    for i in prange((x.shape[0] + RUN - 1) // RUN, schedule="guided", nogil=True,
                    num_threads=n_threads):
        size = min(RUN, x.shape[0] - i * RUN)
        if floating is float:
            f.of_float(&x[i * RUN], &y[i * RUN], size, a, b, c)
        else:
            f.of_double(&x[i * RUN], &y[i * RUN], size, a, b, c)


def backward(
    int number,                       # OPT  of NUMBERS
    const floating[::1] known,        # IN   the result of those in TOLD_FROM_RESULT, else the input
    const floating[::1] dy,           # IN
    floating[::1] dx,                 # OUT
    int n_threads,
    double a=0, double b=0, double c=0,
):
    """dx := dy f'(x)."""
    cdef const Pointwise* f = &POINTWISE[number]
    cdef Py_ssize_t i, size
    for i in prange((dx.shape[0] + RUN - 1) // RUN, schedule="guided", nogil=True,
                    num_threads=n_threads):
        size = min(RUN, dx.shape[0] - i * RUN)
        if floating is float:
            f.backward_of_float(&known[i * RUN], &dy[i * RUN], &dx[i * RUN], size, a, b, c)
        else:
            f.backward_of_double(&known[i * RUN], &dy[i * RUN], &dx[i * RUN], size, a, b, c)


def prelu(
    const floating[:, ::1] x,         # IN   (P, C)
    const floating[::1] slopes,       # IN   (C)
    floating[:, ::1] y,               # OUT  (P, C)
    int n_threads,
):
    """y := x where x > 0, slope x elsewhere."""
    cdef Py_ssize_t i
    for i in prange(x.shape[0], schedule="guided", nogil=True, num_threads=n_threads):
        _prelu_row(&x[i, 0], &slopes[0], &y[i, 0], x.shape[1])


cdef inline void _prelu_row(
    const floating* x, const floating* slopes, floating* y, Py_ssize_t channels,
) noexcept nogil:
    cdef Py_ssize_t c
    cdef floating scaled
    for c in range(channels):  # vectorised
        scaled = x[c] * slopes[c]
        y[c] = scaled if x[c] <= 0 else x[c]


def prelu_backward(
    const floating[:, ::1] x,         # IN   (P, C)
    const floating[::1] slopes,       # IN   (C)
    const floating[:, ::1] dy,        # IN   (P, C)
    floating[:, ::1] dx,              # OUT  (P, C)
    floating[:, ::1] products,        # OUT  (P, C): dy x where x <= 0, whose sums are dslopes
    int n_threads,
):
    """Gradients of :func:`prelu`."""
    cdef Py_ssize_t i
    for i in prange(x.shape[0], schedule="guided", nogil=True, num_threads=n_threads):
        _prelu_backward_row(&x[i, 0], &slopes[0], &dy[i, 0], &dx[i, 0], &products[i, 0],
                            x.shape[1])


cdef inline void _prelu_backward_row(
    const floating* x, const floating* slopes, const floating* dy, floating* dx,
    floating* products, Py_ssize_t channels,
) noexcept nogil:
    cdef Py_ssize_t c
    cdef floating product, scaled
    for c in range(channels):  # vectorised
        scaled = dy[c] * slopes[c]
        product = dy[c] * x[c]
        dx[c] = scaled if x[c] <= 0 else dy[c]
        products[c] = product if x[c] <= 0 else <floating> 0
