"""Depthwise convolution, where every channel has one kernel of its own, and its gradients.

Notes
-----
Vectors run along the channels, four pixels share a load of weights, and the input is read in
place through the pointers of :mod:`fastconv.kernels.direct`.
"""

from cython cimport floating
from cython.parallel cimport parallel, prange, threadid
from libc.string cimport memset

from fastconv.kernels.direct cimport point_places, point_rows
from fastconv.kernels.im2col cimport Frame, read_frame

cdef extern from "depthwise.h" nogil:
    enum:
        DEPTHWISE_PIXELS
    void depthwise_tile_float(
        const float** rows, Py_ssize_t taps, Py_ssize_t stride, Py_ssize_t channels,
        const float* w, const float* bias, float** out)
    void depthwise_tile_double(
        const double** rows, Py_ssize_t taps, Py_ssize_t stride, Py_ssize_t channels,
        const double* w, const double* bias, double** out)
    void depthwise_weight_float(
        const float** rows, const float** dy, Py_ssize_t pixels, Py_ssize_t channels, float* dw)
    void depthwise_weight_double(
        const double** rows, const double** dy, Py_ssize_t pixels, Py_ssize_t channels, double* dw)

PIXELS = DEPTHWISE_PIXELS


def correlate(
    const floating[:, :, :, :, ::1] x,   # IN   (N, D, H, W, C)
    const floating[:, ::1] w,            # IN   (taps, C)
    const floating[::1] bias,            # IN   (C) or empty
    floating[:, :, :, :, ::1] y,         # OUT  (N, D', H', W', C), at the frame's places
    const Py_ssize_t[::1] frame,
    Py_ssize_t strip,                    # OPT  pixels of a task, a multiple of PIXELS
    floating[:, ::1] work,               # TEMP (n_threads, C)
    Py_ssize_t[:, ::1] pointers,         # TEMP (n_threads, strip * (taps + 1))
    int n_threads,
):
    """y[p, c] := bias[c] + sum over t of x[p, t, c] w[t, c]."""
    cdef Frame f = read_frame(frame)
    cdef Py_ssize_t pixels = x.shape[0] * f.count[0] * f.count[1] * f.count[2], task
    cdef const floating* bias_at = &bias[0] if bias.shape[0] else NULL
    with nogil, parallel(num_threads=n_threads):
        for task in prange((pixels + strip - 1) // strip, schedule="static"):
            _correlate_strip(
                &x[0, 0, 0, 0, 0], &w[0, 0], bias_at, &y[0, 0, 0, 0, 0], &f, w.shape[0],
                w.shape[1], task * strip, min(task * strip + strip, pixels),
                &work[threadid(), 0], <void**> &pointers[threadid(), 0])


cdef void _correlate_strip(
    const floating* x, const floating* w, const floating* bias, floating* y, const Frame* f,
    Py_ssize_t taps, Py_ssize_t channels, Py_ssize_t p0, Py_ssize_t p1, floating* work,
    void** pointers,
) noexcept nogil:
    cdef Py_ssize_t tiles = (p1 - p0 + DEPTHWISE_PIXELS - 1) // DEPTHWISE_PIXELS
    cdef Py_ssize_t stride = tiles * DEPTHWISE_PIXELS, p, t, _tile
    cdef floating** places = <floating**> pointers
    cdef const floating** rows = <const floating**> (pointers + stride)
    point_places(y, f, channels, p0, p1, places)
    point_rows(x, f, channels, channels, False, p0, p1, stride, work, rows)
    for p in range(p1 - p0, stride):  # the last tile's idle pixels are its last pixel again
        places[p] = places[p1 - p0 - 1]
        for t in range(taps):
            rows[t * stride + p] = rows[t * stride + p1 - p0 - 1]
    for _tile in range(tiles):
        if floating is float:
            depthwise_tile_float(rows, taps, stride, channels, w, bias, places)
        else:
            depthwise_tile_double(rows, taps, stride, channels, w, bias, places)
        rows += DEPTHWISE_PIXELS
        places += DEPTHWISE_PIXELS


def correlate_weight(
    const floating[:, :, :, :, ::1] x,   # IN   (N, D, H, W, C)
    const floating[:, :, :, :, ::1] dy,  # IN   (N, D', H', W', C)
    floating[:, :, ::1] dw,              # OUT  (parts, taps, C): partial sums
    const Py_ssize_t[::1] frame,
    Py_ssize_t strip, Py_ssize_t span,   # OPT  pixels of a strip and of a part
    floating[:, ::1] work,               # TEMP (n_threads, C)
    Py_ssize_t[:, ::1] pointers,         # TEMP (n_threads, strip * (taps + 1))
    int n_threads,
):
    """dw[s, t, c] := sum over the pixels p of part s of dy[p, c] x[p, t, c]."""
    cdef Frame f = read_frame(frame)
    cdef Py_ssize_t pixels = x.shape[0] * f.count[0] * f.count[1] * f.count[2], part
    with nogil, parallel(num_threads=n_threads):
        for part in prange(dw.shape[0], schedule="dynamic"):
            _correlate_weight_part(
                &x[0, 0, 0, 0, 0], &dy[0, 0, 0, 0, 0], &dw[part, 0, 0], &f, dw.shape[1],
                dw.shape[2], part * span, min(part * span + span, pixels), strip,
                &work[threadid(), 0], <const void**> &pointers[threadid(), 0])


cdef void _correlate_weight_part(
    const floating* x, const floating* dy, floating* dw, const Frame* f, Py_ssize_t taps,
    Py_ssize_t channels, Py_ssize_t first, Py_ssize_t last, Py_ssize_t strip, floating* work,
    const void** pointers,
) noexcept nogil:
    cdef Py_ssize_t p, t, some
    cdef const floating** places = <const floating**> pointers
    cdef const floating** rows = <const floating**> (pointers + strip)
    memset(dw, 0, taps * channels * sizeof(floating))
    while first < last:
        some = min(strip, last - first)
        for p in range(some):
            places[p] = dy + (first + p) * channels
        point_rows(x, f, channels, channels, False, first, first + some, strip, work, rows)
        for t in range(taps):
            if floating is float:
                depthwise_weight_float(rows + t * strip, places, some, channels, dw + t * channels)
            else:
                depthwise_weight_double(
                    rows + t * strip, places, some, channels, dw + t * channels)
        first += some
