"""Steps of the optimizers on flat arrays: each is read and written once.

g is the gradient, p the parameter; ``sign`` is 1 to descend and -1 to climb. Terms of a zero
weight decay are left out, not multiplied by zero: p may be infinite.
"""

from cython cimport floating
from cython.parallel cimport prange
from libc.math cimport sqrt

cdef extern from "<math.h>" nogil:
    float sqrtf(float)


def sgd(
    const floating[::1] g, floating[::1] p, floating sign, floating weight_decay, floating lr,
    int n_threads,
):
    """p := p - lr d, d = sign g + weight_decay p."""
    cdef Py_ssize_t i
    for i in prange(p.shape[0], schedule="guided", nogil=True, num_threads=n_threads):  # vectorised
        p[i] = p[i] - lr * _decayed(sign * g[i], p[i], weight_decay)


def sgd_momentum(
    const floating[::1] g, floating[::1] p, floating[::1] b, floating sign, floating weight_decay,
    floating lr, floating momentum, floating share, bint nesterov, int n_threads,
):
    """b := momentum b + share d and p := p - lr b, with nesterov p - lr (d + momentum b)."""
    cdef Py_ssize_t i
    cdef floating d, velocity
    for i in prange(p.shape[0], schedule="guided", nogil=True, num_threads=n_threads):  # vectorised
        d = _decayed(sign * g[i], p[i], weight_decay)
        velocity = momentum * b[i] + share * d
        b[i] = velocity
        p[i] = p[i] - lr * (d + momentum * velocity if nesterov else velocity)


def adam(
    const floating[::1] g, floating[::1] p, floating[::1] m, floating[::1] v,
    floating[::1] largest, floating sign, floating weight_decay, floating shrink,
    floating beta1_rest, floating beta2, floating beta2_rest, floating root, floating eps,
    floating lr, int n_threads,
):
    """p := shrink p - lr m / (sqrt(v) / root + eps), m and v the running means of d and d^2.

    The ``_rest`` of a beta is what it lacks to 1, ``root`` the square root of v's correction;
    that of m is in ``lr``. Unless ``largest`` is None it is kept at the largest v so far, with
    NaN above all, and used in place of v.
    """
    cdef bint amsgrad = largest is not None
    cdef Py_ssize_t i
    cdef floating d, divisor
    for i in prange(p.shape[0], schedule="guided", nogil=True, num_threads=n_threads):  # vectorised
        d = _decayed(sign * g[i], p[i], weight_decay)
        m[i] = m[i] + beta1_rest * (d - m[i])
        v[i] = beta2 * v[i] + beta2_rest * d * d
        divisor = v[i]
        if amsgrad:
            divisor = divisor if (divisor > largest[i]) | (divisor != divisor) else largest[i]
            largest[i] = divisor
        p[i] = shrink * p[i] - lr * (m[i] / (_root(divisor) / root + eps))


cdef inline floating _decayed(floating d, floating p, floating weight_decay) noexcept nogil:
    return d + weight_decay * p if weight_decay != 0 else d


cdef inline floating _root(floating x) noexcept nogil:
    if floating is float:
        return sqrtf(x)
    else:
        return sqrt(x)
