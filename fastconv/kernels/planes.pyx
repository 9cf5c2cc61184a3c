"""Convolution of images of one channel into images of one channel: stencils, blurs, filters.

Notes
-----
Such an image is a plane, and vectors run along its lines. A line of the output is the sum of lines
of the input, one a tap, shifted by the tap and multiplied by its weight; four of them are added at
a time. What a tap would read beside the image is left out.
"""

from cython cimport floating
from cython.parallel cimport parallel, prange, threadid
from libc.string cimport memcpy

from fastconv.kernels.activation cimport act
from fastconv.kernels.epilogue cimport Epilogue, read_epilogue
from fastconv.kernels.im2col cimport Frame, output_place, read_frame


cdef enum:
    TOGETHER = 4  # lines


def tap_size():
    """Values of `pointers` that a tap needs."""
    return sizeof(Tap) // sizeof(Py_ssize_t)


def correlate(
    const floating[:, :, :, :, ::1] x,   # IN   (N, D, H, W, 1)
    const floating[::1] w,               # IN   (taps,)
    const floating[::1] bias,            # IN   (1,)
    floating[:, :, :, :, ::1] y,         # OUT  (N, D', H', W', 1), at the frame's places
    const floating[:, :, :, :, ::1] residual,  # IN   like y, or None
    double slope, double top,            # OPT  of the activation
    const Py_ssize_t[::1] frame,         # IN   its step along the last axis is 1
    Py_ssize_t span,                     # OPT  pixels of a line at a time
    floating[:, ::1] work,               # TEMP (n_threads, span)
    Py_ssize_t[:, ::1] pointers,         # TEMP (n_threads, taps * tap_size())
    int n_threads,
):
    """y[p] := bias + sum over t of x[p, t] w[t], and the epilogue."""
    cdef Frame f = read_frame(frame)
    cdef Epilogue epilogue = read_epilogue(y, residual, slope, top)
    with nogil:
        correlate_planes(
            &x[0, 0, 0, 0, 0], &w[0], &bias[0], &y[0, 0, 0, 0, 0], &epilogue, &f, x.shape[0],
            span, &work[0, 0], work.shape[1], <void**> &pointers[0, 0], pointers.shape[1],
            n_threads)


cdef void correlate_planes(
    const floating* x, const floating* w, const floating* bias, floating* y,
    const Epilogue* epilogue, const Frame* f, Py_ssize_t images, Py_ssize_t span, floating* work,
    Py_ssize_t work_row, void** pointers, Py_ssize_t pointers_row, int n_threads,
) noexcept nogil:
    cdef Py_ssize_t parts = (f.count[2] + span - 1) // span, task
    with parallel(num_threads=n_threads):
        for task in prange(images * f.count[0] * f.count[1] * parts, schedule="guided"):
            _correlate_line(
                x, w, bias[0], y, epilogue, f, task // parts, task % parts * span,
                min(task % parts * span + span, f.count[2]), work + threadid() * work_row,
                <Tap*> (pointers + threadid() * pointers_row))


cdef void _correlate_line(
    const floating* x, const floating* w, floating bias, floating* y, const Epilogue* epilogue,
    const Frame* f, Py_ssize_t line, Py_ssize_t start, Py_ssize_t stop, floating* sums, Tap* taps,
) noexcept nogil:
    """Pixels [start, stop) of a line of all images."""
    cdef Py_ssize_t n_taps = _point_taps(w, f, line, start, stop, taps)
    cdef Py_ssize_t k, t, pixels = stop - start
    for k in range(pixels):  # vectorised
        sums[k] = bias
    for t in range(n_taps // TOGETHER):
        _add_four(sums, x, taps + t * TOGETHER, start)
    for t in range(n_taps // TOGETHER * TOGETHER, n_taps):
        _add(sums, x, taps + t, start, taps[t].first, taps[t].stop)
    _write(sums, y, epilogue, f, line, start, pixels)


cdef Py_ssize_t _point_taps(
    const floating* w, const Frame* f, Py_ssize_t line, Py_ssize_t start, Py_ssize_t stop,
    Tap* taps,
) noexcept nogil:
    """The taps that read the image somewhere in [start, stop), in order; how many they are."""
    cdef Py_ssize_t j = line % f.count[1], i = line // f.count[1] % f.count[0]
    cdef Py_ssize_t n = line // f.count[1] // f.count[0]
    cdef Py_ssize_t a, b, c, z, row, offset, found = 0
    cdef Tap tap
    for a in range(f.taps[0]):
        z = i * f.step[0] + f.offset[0][a]
        for b in range(f.taps[1]):
            row = j * f.step[1] + f.offset[1][b]
            if not (0 <= z < f.size[0] and 0 <= row < f.size[1]):
                continue
            for c in range(f.taps[2]):
                offset = f.offset[2][c]
                tap.first, tap.stop = max(start, -offset), min(stop, f.size[2] - offset)
                if tap.first < tap.stop:
                    tap.place = ((n * f.size[0] + z) * f.size[1] + row) * f.size[2] + offset
                    tap.weight = w[(a * f.taps[1] + b) * f.taps[2] + c]
                    taps[found] = tap
                    found += 1
    return found


cdef inline void _add(
    floating* sums, const floating* image, const Tap* tap, Py_ssize_t start, Py_ssize_t first,
    Py_ssize_t stop,
) noexcept nogil:
    """A tap to the sums of pixels [first, stop)."""
    cdef const floating* x = image + (tap.place + first)
    cdef floating* y = sums + (first - start)
    cdef floating weight = <floating> tap.weight
    cdef Py_ssize_t k
    for k in range(stop - first):  # vectorised
        y[k] += weight * x[k]


cdef inline void _add_four(
    floating* sums, const floating* image, const Tap* taps, Py_ssize_t start,
) noexcept nogil:
    """Four taps, together where all of them read the image."""
    cdef Py_ssize_t first = taps[0].first, stop = taps[0].stop, k, t
    for t in range(1, TOGETHER):
        first, stop = max(first, taps[t].first), min(stop, taps[t].stop)
    stop = max(first, stop)
    for t in range(TOGETHER):
        _add(sums, image, taps + t, start, taps[t].first, min(first, taps[t].stop))
    cdef const floating* x0 = image + (taps[0].place + first)
    cdef const floating* x1 = image + (taps[1].place + first)
    cdef const floating* x2 = image + (taps[2].place + first)
    cdef const floating* x3 = image + (taps[3].place + first)
    cdef floating w0 = <floating> taps[0].weight, w1 = <floating> taps[1].weight
    cdef floating w2 = <floating> taps[2].weight, w3 = <floating> taps[3].weight
    cdef floating* y = sums + (first - start)
    for k in range(stop - first):  # vectorised
        y[k] = y[k] + w0 * x0[k] + w1 * x1[k] + w2 * x2[k] + w3 * x3[k]
    for t in range(TOGETHER):
        _add(sums, image, taps + t, start, max(stop, taps[t].first), taps[t].stop)


cdef inline void _write(
    const floating* sums, floating* y, const Epilogue* epilogue, const Frame* f, Py_ssize_t line,
    Py_ssize_t start, Py_ssize_t pixels,
) noexcept nogil:
    """The sums, after the epilogue, to their places."""
    cdef Py_ssize_t k, stride = f.stride[2]
    cdef floating* out = y + output_place(f, line * f.count[2] + start)
    cdef const floating* residual = <const floating*> (<const char*> out + epilogue.residual)
    cdef floating slope = <floating> epilogue.slope, top = <floating> epilogue.top
    if not (epilogue.add or epilogue.act):
        if stride == 1:
            memcpy(out, sums, pixels * sizeof(floating))
        else:
            for k in range(pixels):
                out[k * stride] = sums[k]
    elif epilogue.add:
        for k in range(pixels):
            out[k * stride] = act(sums[k] + residual[k * stride], slope, top)
    else:
        for k in range(pixels):
            out[k * stride] = act(sums[k], slope, top)
