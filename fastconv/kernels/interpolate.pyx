"""Sums over short lists of places along each axis: resizing, and its transpose.

Notes
-----
``starts`` holds, for each of three axes in turn, where the list of every output place begins in
``places`` and ``weights``, and where the last one ends. Nothing is scattered: the transpose has
lists of its own.
"""

from cython cimport floating
from cython.parallel cimport prange, threadid

cdef enum:
    FEW = 8  # channels up to which a pixel is summed channel by channel, in a register

cdef struct Lists:
    const Py_ssize_t* start[3]
    const Py_ssize_t* place
    Py_ssize_t size[3]
    Py_ssize_t channels


def resample(
    const floating[:, :, :, :, ::1] x,  # IN   (N, D, H, W, C)
    floating[:, :, :, :, ::1] y,        # OUT  (N, D', H', W', C)
    const Py_ssize_t[::1] starts,       # IN   D' + 1 + H' + 1 + W' + 1 values
    const Py_ssize_t[::1] places,
    const floating[::1] weights,
    floating[:, ::1] sums,              # WORK a row per thread, of W * C values
    Py_ssize_t part,                    # outputs of a line that are one task
    int n_threads,
):
    """y[.., i, j, k, :] := the sum of x at the places of three lists, times their weights."""
    cdef Lists s
    cdef Py_ssize_t parts = (y.shape[3] + part - 1) // part
    cdef Py_ssize_t lines = y.shape[1] * y.shape[2], task, axis, at = 0
    for axis in range(3):
        s.start[axis] = &starts[at]
        s.size[axis] = x.shape[1 + axis]
        at += y.shape[1 + axis] + 1
    s.place = &places[0] if places.shape[0] else NULL
    s.channels = x.shape[4]
    cdef const floating* weight = &weights[0] if places.shape[0] else NULL
    for task in prange(
            x.shape[0] * lines * parts, schedule="static", nogil=True, num_threads=n_threads):
        _resample_line(
            &x[task // parts // lines, 0, 0, 0, 0], &s, weight,
            task // parts % lines // y.shape[2], task // parts % y.shape[2], task % parts * part,
            min(task % parts * part + part, y.shape[3]), &sums[threadid(), 0],
            &y[task // parts // lines, task // parts % lines // y.shape[2],
               task // parts % y.shape[2], task % parts * part, 0])


cdef void _resample_line(
    const floating* x, const Lists* s, const floating* weight, Py_ssize_t i, Py_ssize_t j,
    Py_ssize_t begin, Py_ssize_t end, floating* sums, floating* y,
) noexcept nogil:
    """Places of line (i, j): sums of the lines that it takes from, and then along these."""
    cdef Py_ssize_t width = s.size[2] * s.channels, a, b, e, k
    cdef Py_ssize_t first = s.start[0][i], stop = s.start[0][i + 1]
    cdef Py_ssize_t left = s.start[1][j], right = s.start[1][j + 1]
    cdef const floating* at
    cdef const floating* line = sums
    cdef floating w
    if first == stop or left == right:
        for e in range((end - begin) * s.channels):
            y[e] = 0
        return
    for a in range(first, stop):
        for b in range(left, right):
            at = x + (s.place[a] * s.size[1] + s.place[b]) * width
            w = weight[a] * weight[b]
            if a > first or b > left:
                for e in range(width):  # vectorised
                    sums[e] += w * at[e]
            elif w == 1 and stop - first == right - left == 1:
                line = at
            else:
                for e in range(width):  # vectorised
                    sums[e] = w * at[e]
    for k in range(begin, end):
        _resample_pixel(line, s, weight, s.start[2][k], s.start[2][k + 1], y)
        y += s.channels


cdef inline void _resample_pixel(
    const floating* line, const Lists* s, const floating* weight, Py_ssize_t first,
    Py_ssize_t stop, floating* y,
) noexcept nogil:
    cdef Py_ssize_t t, c, channels = s.channels
    cdef const floating* at
    cdef floating w, value
    if first == stop:
        for c in range(channels):
            y[c] = 0
    elif channels < FEW:
        for c in range(channels):
            value = weight[first] * line[s.place[first] * channels + c]
            for t in range(first + 1, stop):
                value += weight[t] * line[s.place[t] * channels + c]
            y[c] = value
    else:
        w = weight[first]
        at = line + s.place[first] * channels
        for c in range(channels):  # vectorised
            y[c] = w * at[c]
        for t in range(first + 1, stop):
            w = weight[t]
            at = line + s.place[t] * channels
            for c in range(channels):  # vectorised
                y[c] += w * at[c]
