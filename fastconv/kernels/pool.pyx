"""Pooling over windows given place by place: strided, dilated, clipped or adaptive.

Notes
-----
``windows`` and ``cover`` are packed by :class:`fastconv._geometry.Windows`: per axis, the
first place and the end of every output's window, and the first and last output whose window
may hold a given input place. Backward passes gather over ``cover``, so that every input
pixel is written by one thread, once.
"""

from cython cimport floating
from cython.parallel cimport prange
from libc.math cimport INFINITY, pow

cdef struct Spans:
    # Per axis: place q of `count` places spans [first[q], stop[q]) in steps.
    Py_ssize_t count[3]
    Py_ssize_t size[3]
    Py_ssize_t step[3]
    const Py_ssize_t* first[3]
    const Py_ssize_t* stop[3]


cdef Spans read_spans(const Py_ssize_t[::1] values) noexcept nogil:
    cdef Spans s
    cdef Py_ssize_t axis, at = 9
    for axis in range(3):
        s.count[axis] = values[axis]
        s.size[axis] = values[3 + axis]
        s.step[axis] = values[6 + axis]
        s.first[axis] = &values[at]
        s.stop[axis] = &values[at + s.count[axis]]
        at += 2 * s.count[axis]
    return s


def max_pool(
    const floating[:, :, :, :, ::1] x,  # IN   (N, D, H, W, C)
    floating[:, :, :, :, ::1] y,        # OUT  (N, D', H', W', C)
    int[:, :, :, :, ::1] index,         # OUT  same shape: the place of the maximum in D * H * W
    const Py_ssize_t[::1] windows,
    int n_threads,
):
    """y := the largest value of each window; the first of equals, NaN before all."""
    cdef Spans s = read_spans(windows)
    cdef Py_ssize_t lines = s.count[0] * s.count[1], line
    for line in prange(x.shape[0] * lines, schedule="static", nogil=True, num_threads=n_threads):
        _max_line(
            &x[line // lines, 0, 0, 0, 0], &s, line % lines // s.count[1], line % s.count[1],
            x.shape[4], &y[line // lines, line % lines // s.count[1], line % s.count[1], 0, 0],
            &index[line // lines, line % lines // s.count[1], line % s.count[1], 0, 0])


cdef void _max_line(
    const floating* x, const Spans* s, Py_ssize_t i, Py_ssize_t j, Py_ssize_t channels,
    floating* y, int* index,
) noexcept nogil:
    cdef Py_ssize_t k, c, z, v, u, place
    cdef floating value
    cdef bint larger
    for k in range(s.count[2]):
        place = (s.first[0][i] * s.size[1] + s.first[1][j]) * s.size[2] + s.first[2][k]
        if (s.first[0][i] >= s.stop[0][i] or s.first[1][j] >= s.stop[1][j]
                or s.first[2][k] >= s.stop[2][k]):
            place = -1  # a dilated window may have all its taps in the padding
        for c in range(channels):
            y[c] = -INFINITY
            index[c] = <int> place
        z = s.first[0][i]
        while z < s.stop[0][i]:
            v = s.first[1][j]
            while v < s.stop[1][j]:
                u = s.first[2][k]
                while u < s.stop[2][k]:
                    place = (z * s.size[1] + v) * s.size[2] + u
                    for c in range(channels):
                        value = x[place * channels + c]
                        larger = (value > y[c]) | (value != value)
                        y[c] = value if larger else y[c]
                        index[c] = <int> place if larger else index[c]
                    u += s.step[2]
                v += s.step[1]
            z += s.step[0]
        y += channels
        index += channels


def max_pool_backward(
    const floating[:, :, :, :, ::1] dy,   # IN   (N, D', H', W', C)
    const int[:, :, :, :, ::1] index,     # IN   same shape
    floating[:, :, :, :, ::1] dx,         # OUT  (N, D, H, W, C)
    const Py_ssize_t[::1] cover,
    int n_threads,
):
    """dx := the sum of dy over the windows whose maximum stood here."""
    cdef Spans s = read_spans(cover)
    cdef Py_ssize_t lines = s.count[0] * s.count[1], line
    for line in prange(dx.shape[0] * lines, schedule="static", nogil=True, num_threads=n_threads):
        _max_line_backward(
            &dy[line // lines, 0, 0, 0, 0], &index[line // lines, 0, 0, 0, 0], &s,
            line % lines // s.count[1], line % s.count[1], dx.shape[4],
            &dx[line // lines, line % lines // s.count[1], line % s.count[1], 0, 0])


cdef void _max_line_backward(
    const floating* dy, const int* index, const Spans* s, Py_ssize_t i, Py_ssize_t j,
    Py_ssize_t channels, floating* dx,
) noexcept nogil:
    cdef Py_ssize_t k, c, z, v, u, at
    cdef int place
    for k in range(s.count[2]):
        place = <int> ((i * s.count[1] + j) * s.count[2] + k)
        for c in range(channels):
            dx[c] = 0
        for z in range(s.first[0][i], s.stop[0][i]):
            for v in range(s.first[1][j], s.stop[1][j]):
                for u in range(s.first[2][k], s.stop[2][k]):
                    at = ((z * s.size[1] + v) * s.size[2] + u) * channels
                    for c in range(channels):
                        dx[c] += dy[at + c] if index[at + c] == place else 0
        dx += channels


def sum_pool(
    const floating[:, :, :, :, ::1] x,  # IN   (N, D, H, W, C)
    floating[:, :, :, :, ::1] y,        # OUT  (N, D', H', W', C)
    const Py_ssize_t[::1] windows,
    const double[::1] divisor,          # IN   per axis and output: D' + H' + W' values
    double power,
    int n_threads,
):
    """y := (sum of x ** power over the window) / (product of the three divisors)."""
    cdef Spans s = read_spans(windows)
    cdef Py_ssize_t lines = s.count[0] * s.count[1], line
    for line in prange(x.shape[0] * lines, schedule="static", nogil=True, num_threads=n_threads):
        _sum_line(
            &x[line // lines, 0, 0, 0, 0], &s, line % lines // s.count[1], line % s.count[1],
            x.shape[4], &divisor[0], power,
            &y[line // lines, line % lines // s.count[1], line % s.count[1], 0, 0])


cdef inline double _divisor(
    const double* divisor, const Py_ssize_t* count, Py_ssize_t i, Py_ssize_t j, Py_ssize_t k,
) noexcept nogil:
    return divisor[i] * divisor[count[0] + j] * divisor[count[0] + count[1] + k]


cdef void _sum_line(
    const floating* x, const Spans* s, Py_ssize_t i, Py_ssize_t j, Py_ssize_t channels,
    const double* divisor, double power, floating* y,
) noexcept nogil:
    cdef Py_ssize_t k, c, z, v, u
    cdef const floating* at
    cdef floating scale
    for k in range(s.count[2]):
        for c in range(channels):
            y[c] = 0
        for z in range(s.first[0][i], s.stop[0][i]):
            for v in range(s.first[1][j], s.stop[1][j]):
                for u in range(s.first[2][k], s.stop[2][k]):
                    at = x + ((z * s.size[1] + v) * s.size[2] + u) * channels
                    if power == 1:
                        for c in range(channels):
                            y[c] += at[c]
                    elif power == 2:
                        for c in range(channels):
                            y[c] += at[c] * at[c]
                    else:
                        for c in range(channels):
                            y[c] += <floating> pow(at[c], power)
        scale = <floating> _divisor(divisor, s.count, i, j, k)
        for c in range(channels):
            y[c] /= scale
        y += channels


def sum_pool_backward(
    const floating[:, :, :, :, ::1] dy,  # IN   (N, D', H', W', C)
    floating[:, :, :, :, ::1] dx,        # OUT  (N, D, H, W, C)
    const Py_ssize_t[::1] cover,
    const double[::1] divisor,           # IN   as in sum_pool
    int n_threads,
):
    """dx := the sum of dy / divisor over the windows that hold this place."""
    cdef Spans s = read_spans(cover)
    cdef Py_ssize_t lines = s.count[0] * s.count[1], line
    for line in prange(dx.shape[0] * lines, schedule="static", nogil=True, num_threads=n_threads):
        _sum_line_backward(
            &dy[line // lines, 0, 0, 0, 0], &s, line % lines // s.count[1], line % s.count[1],
            dx.shape[4], &divisor[0],
            &dx[line // lines, line % lines // s.count[1], line % s.count[1], 0, 0])


cdef void _sum_line_backward(
    const floating* dy, const Spans* s, Py_ssize_t i, Py_ssize_t j, Py_ssize_t channels,
    const double* divisor, floating* dx,
) noexcept nogil:
    cdef Py_ssize_t k, c, z, v, u
    cdef const floating* at
    cdef floating scale
    for k in range(s.count[2]):
        for c in range(channels):
            dx[c] = 0
        for z in range(s.first[0][i], s.stop[0][i]):
            for v in range(s.first[1][j], s.stop[1][j]):
                for u in range(s.first[2][k], s.stop[2][k]):
                    at = dy + ((z * s.size[1] + v) * s.size[2] + u) * channels
                    scale = <floating> _divisor(divisor, s.size, z, v, u)
                    for c in range(channels):
                        dx[c] += at[c] / scale
        dx += channels
