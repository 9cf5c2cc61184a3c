"""Pooling over windows given place by place: strided, dilated, clipped or adaptive.

Notes
-----
``windows`` and ``cover`` are packed by :class:`fastconv._geometry.Windows`: per axis, the
first place and the end of every output's window, and the first and last output whose window
may hold a given input place. Backward passes gather over ``cover``, so that every input
pixel is written by one thread, once.
"""

from cython cimport floating
from cython.parallel cimport prange, threadid
from libc.math cimport INFINITY, pow

from fastconv.kernels.shares cimport Shares, share_out, share_take

cdef extern from "pool.h" nogil:
    ctypedef enum pool_reduction:
        POOL_LARGEST
        POOL_SUM
        POOL_SQUARES
    void pool_reduce_float(
        pool_reduction kind, const float** taps, Py_ssize_t count, Py_ssize_t channels,
        const float* start, float* y)
    void pool_reduce_double(
        pool_reduction kind, const double** taps, Py_ssize_t count, Py_ssize_t channels,
        const double* start, double* y)

cdef enum:
    TAPS = 64  # places of a window at a time
    CHUNK = 64  # channels whose maxima are kept locally over a window, where nothing aliases them
    LINE = 16  # channels of a task that writes them to places all over an image

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
    int[:, :, :, :, ::1] index,         # OUT  the maxima's places in D * H * W, or None
    const Py_ssize_t[::1] windows,
    floating floor,
    int n_threads,
):
    """y := the largest value of each window; the first of equals, NaN before all.

    Where none is larger than a finite ``floor``, that is the value, and the index -1.
    """
    cdef Spans s = read_spans(windows)
    cdef Py_ssize_t lines = s.count[0] * s.count[1], _ticket, line
    cdef bint indexed = index is not None
    cdef Shares shares
    share_out(&shares, x.shape[0] * lines, n_threads)
    for _ticket in prange(
            x.shape[0] * lines, schedule="dynamic", nogil=True, num_threads=n_threads):
        line = share_take(&shares, threadid())
        max_line(
            &x[line // lines, 0, 0, 0, 0], &s, line % lines // s.count[1], line % s.count[1],
            x.shape[4], floor,
            &y[line // lines, line % lines // s.count[1], line % s.count[1], 0, 0],
            &index[line // lines, line % lines // s.count[1], line % s.count[1], 0, 0]
            if indexed else NULL)


cdef void max_line(
    const floating* x, const Spans* s, Py_ssize_t i, Py_ssize_t j, Py_ssize_t channels,
    floating floor, floating* y, int* index,
) noexcept nogil:
    cdef Py_ssize_t k, part, c
    for k in range(s.count[2]):
        if index == NULL:
            _reduce_window(POOL_LARGEST, x, s, i, j, k, channels,
                           -INFINITY if _is_empty(s, i, j, k) else floor, y)
        else:
            for part in range((channels + CHUNK - 1) // CHUNK):
                c = part * CHUNK
                _find_max(
                    x + c, s, i, j, k, channels, min(CHUNK, channels - c), floor, y + c, index + c)
            index += channels
        y += channels


cdef inline bint _is_empty(
    const Spans* s, Py_ssize_t i, Py_ssize_t j, Py_ssize_t k,
) noexcept nogil:
    """Whether the window has all its taps in the padding, as a dilated one may."""
    return (s.first[0][i] >= s.stop[0][i] or s.first[1][j] >= s.stop[1][j]
            or s.first[2][k] >= s.stop[2][k])


cdef inline void _reduce_window(
    pool_reduction kind, const floating* x, const Spans* s, Py_ssize_t i, Py_ssize_t j,
    Py_ssize_t k, Py_ssize_t channels, floating value, floating* y,
) noexcept nogil:
    """All channels of output (i, j, k), from `value` on.

    A sum is one of sums of up to TAPS places.
    """
    cdef Py_ssize_t z = s.first[0][i], v, u, count = 0
    cdef const floating* taps[TAPS]
    cdef const floating* start = &value  # y itself, once it holds a result
    while z < s.stop[0][i]:
        v = s.first[1][j]
        while v < s.stop[1][j]:
            u = s.first[2][k]
            while u < s.stop[2][k]:
                if count == TAPS:
                    _reduce(kind, taps, count, channels, start, y)
                    start, count = NULL, 0
                taps[count] = x + ((z * s.size[1] + v) * s.size[2] + u) * channels
                count += 1
                u += s.step[2]
            v += s.step[1]
        z += s.step[0]
    _reduce(kind, taps, count, channels, start, y)


cdef inline void _reduce(
    pool_reduction kind, const floating** taps, Py_ssize_t count, Py_ssize_t channels,
    const floating* start, floating* y,
) noexcept nogil:
    if floating is float:
        pool_reduce_float(kind, taps, count, channels, start, y)
    else:
        pool_reduce_double(kind, taps, count, channels, start, y)


cdef inline void _find_max(
    const floating* x, const Spans* s, Py_ssize_t i, Py_ssize_t j, Py_ssize_t k,
    Py_ssize_t channels, Py_ssize_t width, floating floor, floating* y, int* index,
) noexcept nogil:
    """The first `width` channels of output (i, j, k), and where they stand."""
    cdef Py_ssize_t c, z = s.first[0][i], v = s.first[1][j], u = s.first[2][k]
    cdef Py_ssize_t place = (z * s.size[1] + v) * s.size[2] + u
    cdef floating largest[CHUNK]
    cdef int places[CHUNK]
    cdef const floating* at
    cdef bint larger
    if _is_empty(s, i, j, k):
        place = -1
        floor = -INFINITY
    elif floor > -INFINITY:
        place = -1
    for c in range(width):  # vectorised
        largest[c] = floor
        places[c] = <int> place
    while z < s.stop[0][i]:
        v = s.first[1][j]
        while v < s.stop[1][j]:
            u = s.first[2][k]
            while u < s.stop[2][k]:
                place = (z * s.size[1] + v) * s.size[2] + u
                at = x + place * channels
                for c in range(width):  # vectorised
                    larger = (at[c] > largest[c]) | (at[c] != at[c])
                    largest[c] = at[c] if larger else largest[c]
                    places[c] = <int> place if larger else places[c]
                u += s.step[2]
            v += s.step[1]
        z += s.step[0]
    for c in range(width):
        y[c] = largest[c]
        index[c] = places[c]


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
    for line in prange(dx.shape[0] * lines, schedule="guided", nogil=True, num_threads=n_threads):
        max_line_backward(
            &dy[line // lines, 0, 0, 0, 0], &index[line // lines, 0, 0, 0, 0], &s,
            line % lines // s.count[1], line % s.count[1], dx.shape[4],
            &dx[line // lines, line % lines // s.count[1], line % s.count[1], 0, 0])


cdef void max_line_backward(
    const floating* dy, const int* index, const Spans* s, Py_ssize_t i, Py_ssize_t j,
    Py_ssize_t channels, floating* dx,
) noexcept nogil:
    cdef Py_ssize_t k, c, z, v, u, at
    cdef int place
    cdef floating value
    cdef bint first
    for k in range(s.count[2]):
        place = <int> ((i * s.count[1] + j) * s.count[2] + k)
        first = True
        for z in range(s.first[0][i], s.stop[0][i]):
            for v in range(s.first[1][j], s.stop[1][j]):
                for u in range(s.first[2][k], s.stop[2][k]):
                    at = ((z * s.size[1] + v) * s.size[2] + u) * channels
                    for c in range(channels):  # vectorised
                        value = dy[at + c]  # read in any case: SSE2 has no masked loads
                        dx[c] = (0 if first else dx[c]) + (value if index[at + c] == place else 0)
                    first = False
        if first:
            for c in range(channels):
                dx[c] = 0
        dx += channels


def max_unpool(
    const floating[:, :, ::1] x,       # IN     (N, P', C)
    const long long[:, :, ::1] index,  # IN     same shape, in [0, P)
    floating[:, :, ::1] y,             # IN/OUT (N, P, C)
    int n_threads,
):
    """y[n, index[n, p, c], c] := x[n, p, c], in the order of p."""
    cdef Py_ssize_t parts = (x.shape[2] + LINE - 1) // LINE, part
    # by channels, and not by places, of which several may have one index
    for part in prange(x.shape[0] * parts, schedule="guided", nogil=True, num_threads=n_threads):
        _unpool_channels(x, index, y, part // parts, part % parts * LINE)


cdef void _unpool_channels(
    const floating[:, :, ::1] x, const long long[:, :, ::1] index, floating[:, :, ::1] y,
    Py_ssize_t n, Py_ssize_t first,
) noexcept nogil:
    cdef Py_ssize_t p, c, stop = min(first + LINE, x.shape[2])
    for p in range(x.shape[1]):
        for c in range(first, stop):
            y[n, <Py_ssize_t> index[n, p, c], c] = x[n, p, c]


def max_unpool_backward(
    const floating[:, :, ::1] dy,      # IN   (N, P, C)
    const long long[:, :, ::1] index,  # IN   (N, P', C)
    floating[:, :, ::1] dx,            # OUT  same shape
    int n_threads,
):
    """dx[n, p, c] := dy[n, index[n, p, c], c]."""
    cdef Py_ssize_t rows = dx.shape[1], row, c
    for row in prange(dx.shape[0] * rows, schedule="guided", nogil=True, num_threads=n_threads):
        for c in range(dx.shape[2]):
            dx[row // rows, row % rows, c] = dy[
                row // rows, <Py_ssize_t> index[row // rows, row % rows, c], c]


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
    cdef Py_ssize_t lines = s.count[0] * s.count[1], _ticket, line
    cdef Shares shares
    share_out(&shares, x.shape[0] * lines, n_threads)
    for _ticket in prange(
            x.shape[0] * lines, schedule="dynamic", nogil=True, num_threads=n_threads):
        line = share_take(&shares, threadid())
        sum_line(
            &x[line // lines, 0, 0, 0, 0], &s, line % lines // s.count[1], line % s.count[1],
            x.shape[4], &divisor[0], power,
            &y[line // lines, line % lines // s.count[1], line % s.count[1], 0, 0])


cdef inline double _divisor(
    const double* divisor, const Py_ssize_t* count, Py_ssize_t i, Py_ssize_t j, Py_ssize_t k,
) noexcept nogil:
    return divisor[i] * divisor[count[0] + j] * divisor[count[0] + count[1] + k]


cdef void sum_line(
    const floating* x, const Spans* s, Py_ssize_t i, Py_ssize_t j, Py_ssize_t channels,
    const double* divisor, double power, floating* y,
) noexcept nogil:
    cdef Py_ssize_t k, c, z, v, u
    cdef const floating* at
    cdef floating scale
    for k in range(s.count[2]):
        if power == 1 or power == 2:
            _reduce_window(POOL_SUM if power == 1 else POOL_SQUARES, x, s, i, j, k, channels, 0, y)
        else:
            for c in range(channels):
                y[c] = 0
            for z in range(s.first[0][i], s.stop[0][i]):
                for v in range(s.first[1][j], s.stop[1][j]):
                    for u in range(s.first[2][k], s.stop[2][k]):
                        at = x + ((z * s.size[1] + v) * s.size[2] + u) * channels
                        for c in range(channels):
                            y[c] += <floating> pow(at[c], power)
        scale = <floating> _divisor(divisor, s.count, i, j, k)
        for c in range(channels):  # vectorised
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
    for line in prange(dx.shape[0] * lines, schedule="guided", nogil=True, num_threads=n_threads):
        sum_line_backward(
            &dy[line // lines, 0, 0, 0, 0], &s, line % lines // s.count[1], line % s.count[1],
            dx.shape[4], &divisor[0],
            &dx[line // lines, line % lines // s.count[1], line % s.count[1], 0, 0])


cdef void sum_line_backward(
    const floating* dy, const Spans* s, Py_ssize_t i, Py_ssize_t j, Py_ssize_t channels,
    const double* divisor, floating* dx,
) noexcept nogil:
    cdef Py_ssize_t k, c, z, v, u
    cdef const floating* at
    cdef floating share
    cdef bint first
    for k in range(s.count[2]):
        first = True
        for z in range(s.first[0][i], s.stop[0][i]):
            for v in range(s.first[1][j], s.stop[1][j]):
                for u in range(s.first[2][k], s.stop[2][k]):
                    at = dy + ((z * s.size[1] + v) * s.size[2] + u) * channels
                    share = <floating> (1 / _divisor(divisor, s.size, z, v, u))
                    for c in range(channels):  # vectorised
                        dx[c] = (0 if first else dx[c]) + share * at[c]
                    first = False
        if first:
            for c in range(channels):
                dx[c] = 0
        dx += channels
