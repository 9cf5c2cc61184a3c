"""Convolution of images of one channel into images of one channel: stencils, blurs, filters.

Notes
-----
Such an image is a plane, and vectors run along its lines. A line of the output is the sum of lines
of the input, one a tap, shifted by the tap and multiplied by its weight; the sums of some vectors
stay in registers while all taps pass. Pixels by an edge have their inputs gathered first, and what
stands beside the image is said by a table: so any boundary is read in place.
"""

from cython cimport floating
from cython.parallel cimport parallel, prange, threadid

from fastconv.kernels.activation cimport act
from fastconv.kernels.epilogue cimport Epilogue, read_epilogue
from fastconv.kernels.im2col cimport Frame, output_place, read_frame
from fastconv.kernels.shares cimport Shares, share_out, share_take

cdef extern from "planes.h" nogil:
    ctypedef struct planes_kernels:
        void (*line)(
            const void** x, const void* w, Py_ssize_t taps, const void* bias, void* y,
            Py_ssize_t pixels) nogil
    const planes_kernels* planes_find(size_t itemsize)


cdef Outside read_outside(const Py_ssize_t[::1] values) noexcept nogil:
    """Of (before, length of the table) for each axis, and the tables."""
    cdef Outside outside
    cdef const Py_ssize_t* source = &values[0] + 6
    cdef int axis
    for axis in range(3):
        outside.before[axis] = values[2 * axis]
        outside.source[axis] = source
        source += values[2 * axis + 1]
    return outside


cdef inline Py_ssize_t source_of(
    const Outside* outside, int axis, Py_ssize_t place, Py_ssize_t size,
) noexcept nogil:
    if 0 <= place < size:
        return place
    if outside.source[axis] == NULL:
        return -1
    return outside.source[axis][outside.before[axis] + (place if place < 0 else place - size)]


def work_size(const Py_ssize_t[::1] frame, Py_ssize_t span):
    """Values of `work`: the sums of a line, the weights of its taps, and inputs by an edge."""
    cdef Frame f = read_frame(frame)
    cdef Py_ssize_t lines = f.taps[0] * f.taps[1]
    return span + lines * (f.taps[2] + PIECE + _reach(&f))


def pointers_size(const Py_ssize_t[::1] frame):
    """Values of `pointers`: lines, and what the taps read of them."""
    cdef Frame f = read_frame(frame)
    return f.taps[0] * f.taps[1] * (1 + f.taps[2])


cdef inline Py_ssize_t _reach(const Frame* f) noexcept nogil:
    """Places from the first tap of a line to its last."""
    return f.offset[2][f.taps[2] - 1] - f.offset[2][0]


def correlate(
    const floating[:, :, :, :, ::1] x,   # IN   (N, D, H, W, 1)
    const floating[::1] w,               # IN   (taps,)
    const floating[::1] bias,            # IN   (1,)
    floating[:, :, :, :, ::1] y,         # OUT  (N, D', H', W', 1), at the frame's places
    const floating[:, :, :, :, ::1] residual,  # IN   like y, or None
    double slope, double top,            # OPT  of the activation
    const Py_ssize_t[::1] frame,         # IN   its step along the last axis is 1
    const Py_ssize_t[::1] outside,       # IN   what stands beside the image
    Py_ssize_t span,                     # OPT  pixels of a line at a time
    floating[:, ::1] work,               # TEMP (n_threads, work_size())
    Py_ssize_t[:, ::1] pointers,         # TEMP (n_threads, pointers_size())
    int n_threads,
):
    """y[p] := bias + sum over t of x[p, t] w[t], and the epilogue."""
    cdef Frame f = read_frame(frame)
    cdef Outside beside = read_outside(outside)
    cdef Epilogue epilogue = read_epilogue(y, residual, slope, top)
    with nogil:
        correlate_planes(
            &x[0, 0, 0, 0, 0], &w[0], &bias[0], &y[0, 0, 0, 0, 0], &epilogue, &f, &beside,
            x.shape[0], span, &work[0, 0], work.shape[1], <void**> &pointers[0, 0],
            pointers.shape[1], n_threads)


cdef void correlate_planes(
    const floating* x, const floating* w, const floating* bias, floating* y,
    const Epilogue* epilogue, const Frame* f, const Outside* outside, Py_ssize_t images,
    Py_ssize_t span, floating* work, Py_ssize_t work_row, void** pointers,
    Py_ssize_t pointers_row, int n_threads,
) noexcept nogil:
    cdef Py_ssize_t parts = (f.count[2] + span - 1) // span, _ticket, task
    cdef Py_ssize_t tasks = images * f.count[0] * f.count[1] * parts
    cdef Shares shares
    share_out(&shares, tasks, n_threads)
    with parallel(num_threads=n_threads):
        for _ticket in prange(tasks, schedule="dynamic"):
            task = share_take(&shares, threadid())
            _correlate_line(
                x, w, bias, y, epilogue, f, outside, task // parts, task % parts * span,
                min(task % parts * span + span, f.count[2]), span, work + threadid() * work_row,
                pointers + threadid() * pointers_row)


cdef void _correlate_line(
    const floating* x, const floating* w, const floating* bias, floating* y,
    const Epilogue* epilogue, const Frame* f, const Outside* outside, Py_ssize_t line,
    Py_ssize_t start, Py_ssize_t stop, Py_ssize_t span, floating* work, void** pointers,
) noexcept nogil:
    """Pixels [start, stop) of a line of all images."""
    cdef const floating** lines = <const floating**> pointers
    cdef const floating** taps = lines + f.taps[0] * f.taps[1]
    cdef floating* weights = work + span
    cdef floating* edge = weights + f.taps[0] * f.taps[1] * f.taps[2]
    cdef Py_ssize_t found = _find_lines(x, w, f, outside, line, lines, weights)
    cdef Py_ssize_t low = f.offset[2][0], high = f.offset[2][f.taps[2] - 1]
    # pixels [first, last) read the image alone
    cdef Py_ssize_t first = max(start, -low), last = min(stop, f.size[2] - high)
    cdef Py_ssize_t pixel, upto
    cdef floating* out = y + output_place(f, line * f.count[2] + start)
    cdef bint plain = f.stride[2] == 1 and not (epilogue.add or epilogue.act)
    cdef floating* sums = out if plain else work
    if first >= last:
        first = last = stop
    pixel = start
    while pixel < stop:
        if pixel == first:
            upto = last
            _point_taps(lines, found, f, pixel, taps)
        else:
            upto = min(pixel + PIECE, first if pixel < first else stop)
            _gather(lines, found, f, outside, pixel, upto, edge, taps)
        planes_find(sizeof(floating)).line(
            <const void**> taps, weights, found * f.taps[2], bias, sums + (pixel - start),
            upto - pixel)
        pixel = upto
    if not plain:
        _write(sums, out, epilogue, f.stride[2], stop - start)


cdef Py_ssize_t _find_lines(
    const floating* x, const floating* w, const Frame* f, const Outside* outside,
    Py_ssize_t line, const floating** lines, floating* weights,
) noexcept nogil:
    """The input's lines that a line of the output reads, with their weights; how many they are."""
    cdef Py_ssize_t j = line % f.count[1], i = line // f.count[1] % f.count[0]
    cdef Py_ssize_t n = line // f.count[1] // f.count[0]
    cdef Py_ssize_t a, b, c, z, row, found = 0
    for a in range(f.taps[0]):
        z = source_of(outside, 0, i * f.step[0] + f.offset[0][a], f.size[0])
        for b in range(f.taps[1]):
            row = source_of(outside, 1, j * f.step[1] + f.offset[1][b], f.size[1])
            if z >= 0 and row >= 0:
                lines[found] = x + ((n * f.size[0] + z) * f.size[1] + row) * f.size[2]
                for c in range(f.taps[2]):
                    weights[found * f.taps[2] + c] = w[(a * f.taps[1] + b) * f.taps[2] + c]
                found += 1
    return found


cdef void _point_taps(
    const floating** lines, Py_ssize_t found, const Frame* f, Py_ssize_t pixel,
    const floating** taps,
) noexcept nogil:
    """Where each tap reads for a pixel and those after it."""
    cdef Py_ssize_t n, c
    for n in range(found):
        for c in range(f.taps[2]):
            taps[n * f.taps[2] + c] = lines[n] + (pixel + f.offset[2][c])


cdef void _gather(
    const floating** lines, Py_ssize_t found, const Frame* f, const Outside* outside,
    Py_ssize_t pixel, Py_ssize_t upto, floating* edge, const floating** taps,
) noexcept nogil:
    """The same for pixels [pixel, upto) by an edge, of copies of what they read."""
    cdef Py_ssize_t low = f.offset[2][0], width = upto - pixel + _reach(f), n, c, k, source
    for k in range(width):
        source = source_of(outside, 2, pixel + low + k, f.size[2])
        for n in range(found):
            edge[n * width + k] = 0 if source < 0 else lines[n][source]
    for n in range(found):
        for c in range(f.taps[2]):
            taps[n * f.taps[2] + c] = edge + (n * width + f.offset[2][c] - low)


cdef inline void _write(
    const floating* sums, floating* out, const Epilogue* epilogue, Py_ssize_t stride,
    Py_ssize_t pixels,
) noexcept nogil:
    """The sums, after the epilogue, to their places."""
    cdef Py_ssize_t k
    cdef const floating* residual = <const floating*> (<const char*> out + epilogue.residual)
    cdef floating slope = <floating> epilogue.slope, top = <floating> epilogue.top
    if not (epilogue.add or epilogue.act):
        for k in range(pixels):
            out[k * stride] = sums[k]
    elif epilogue.add:
        for k in range(pixels):
            out[k * stride] = act(sums[k] + residual[k * stride], slope, top)
    else:
        for k in range(pixels):
            out[k * stride] = act(sums[k], slope, top)
