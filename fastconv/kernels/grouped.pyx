"""Convolution of narrow groups, such as depthwise ones of one channel, and its gradients.

Notes
-----
Groups have as many outputs as inputs: one, two or four. Vectors run along the channels of all
groups, four pixels share a load of weights, and the input is read in place through the pointers
of :mod:`fastconv.kernels.direct`. Groups of one channel whose taps along a line are neighbours go
line by line, where an input is loaded once for all pixels that read it; if the kernel is square,
several lines at once, which spares reading a line of the input for each line of taps.
"""

from cython cimport floating
from cython.parallel cimport parallel, prange, threadid
from libc.string cimport memset

from fastconv.kernels.direct cimport VECTOR_BYTES, point_places, point_rows
from fastconv.kernels.epilogue cimport Epilogue, read_epilogue
from fastconv.kernels.im2col cimport Frame, output_place, read_frame
from fastconv.kernels.shares cimport Shares, share_out, share_take

cdef extern from "grouped.h" nogil:
    enum:
        GROUPED_PIXELS
        LINE_PIXELS
        LINE_HEIGHT
        MOST_LINE_TAPS
        MOST_LINE_STEP
    ctypedef struct grouped_kernels:
        void (*tile[5])(
            const void** rows, Py_ssize_t taps, Py_ssize_t stride, Py_ssize_t channels,
            const void* w, const void* bias, void** out, const Epilogue* epilogue) nogil
        void (*weight[5])(
            const void** rows, Py_ssize_t taps, Py_ssize_t stride, const void** dy,
            Py_ssize_t pixels, Py_ssize_t channels, void* dw) nogil
        void (*line[6][3])(
            const void** x, Py_ssize_t shift, const void** w, Py_ssize_t rows,
            Py_ssize_t channels, const void* bias, void* out, Py_ssize_t out_step,
            Py_ssize_t ahead, const Epilogue* epilogue) nogil
        void (*tall[6][3])(
            const void** x, Py_ssize_t shift, const void** w, Py_ssize_t planes,
            Py_ssize_t channels, const void* bias, void* out, Py_ssize_t out_step,
            Py_ssize_t out_line, const Epilogue* epilogue) nogil
        void (*tall_edge[6][3])(
            const void** x, Py_ssize_t shift, const void** w, Py_ssize_t planes,
            Py_ssize_t first, Py_ssize_t last, Py_ssize_t channels, const void* bias,
            void* out, Py_ssize_t out_line, const Epilogue* epilogue) nogil
        void (*line_weight[6][3])(
            const void** x, const void* dy, void** dw, Py_ssize_t rows, Py_ssize_t channels,
            Py_ssize_t pixels, Py_ssize_t inner, Py_ssize_t outer, Py_ssize_t first,
            Py_ssize_t size) nogil
        void (*tall_weight[6][3])(
            const void** x, const void* dy, Py_ssize_t dy_line, void** dw, Py_ssize_t planes,
            Py_ssize_t channels, Py_ssize_t pixels, Py_ssize_t inner, Py_ssize_t outer,
            Py_ssize_t first, Py_ssize_t size) nogil
        void (*line_edge)(
            const void** x, Py_ssize_t shift, const void** w, Py_ssize_t first, Py_ssize_t rows,
            Py_ssize_t taps, Py_ssize_t channels, const void* bias, void* out,
            const Epilogue* epilogue) nogil
    const grouped_kernels* grouped_find(size_t itemsize)


def widths(Py_ssize_t itemsize):
    """Channels that a group may have: whole groups fill a vector."""
    return [width for width in (1, 2, 4) if width * itemsize <= VECTOR_BYTES]


def has_lines(const Py_ssize_t[::1] frame, Py_ssize_t channels, Py_ssize_t itemsize):
    """Whether depthwise convolution can go line by line."""
    cdef Frame f = read_frame(frame)
    return (f.adjacent and f.taps[2] <= MOST_LINE_TAPS and 1 <= f.step[2] <= MOST_LINE_STEP
            and channels * itemsize >= VECTOR_BYTES
            and grouped_find(itemsize).line[f.taps[2]][f.step[2]] != NULL)


def correlate(
    const floating[:, :, :, :, ::1] x,   # IN   (N, D, H, W, C)
    const floating[:, :, ::1] w,         # IN   (taps, width, C), width the channels of a group
    const floating[::1] bias,            # IN   (C)
    floating[:, :, :, :, ::1] y,         # OUT  (N, D', H', W', C), at the frame's places
    const floating[:, :, :, :, ::1] residual,  # IN   like y, or None
    double slope, double top,            # OPT  of the activation
    const Py_ssize_t[::1] frame,
    Py_ssize_t strip,                    # OPT  pixels of a task, a multiple of GROUPED_PIXELS
    floating[:, ::1] work,               # TEMP (n_threads, C)
    Py_ssize_t[:, ::1] pointers,         # TEMP (n_threads, strip * (taps + 1))
    int n_threads,
):
    """y[p, c] := bias[c] + sum over t, i of x[p, t, member i of c's group] w[t, i, c].

    The epilogue follows.
    """
    cdef Frame f = read_frame(frame)
    cdef Epilogue epilogue = read_epilogue(y, residual, slope, top)
    with nogil:
        correlate_narrow(
            &x[0, 0, 0, 0, 0], &w[0, 0, 0], &bias[0], &y[0, 0, 0, 0, 0], &epilogue, &f,
            x.shape[0], w.shape[0], w.shape[1], w.shape[2], strip, &work[0, 0], work.shape[1],
            <void**> &pointers[0, 0], pointers.shape[1], n_threads)


cdef void correlate_narrow(
    const floating* x, const floating* w, const floating* bias, floating* y,
    const Epilogue* epilogue, const Frame* f, Py_ssize_t images, Py_ssize_t taps,
    Py_ssize_t width, Py_ssize_t channels, Py_ssize_t strip, floating* work, Py_ssize_t work_row,
    void** pointers, Py_ssize_t pointers_row, int n_threads,
) noexcept nogil:
    cdef Py_ssize_t pixels = images * f.count[0] * f.count[1] * f.count[2], _ticket, task
    cdef Py_ssize_t tasks = (pixels + strip - 1) // strip
    cdef Shares shares
    share_out(&shares, tasks, n_threads)
    with parallel(num_threads=n_threads):
        for _ticket in prange(tasks, schedule="dynamic"):
            task = share_take(&shares, threadid())
            _correlate_strip(
                x, w, bias, y, epilogue, f, taps, width, channels, task * strip,
                min(task * strip + strip, pixels), work + threadid() * work_row,
                pointers + threadid() * pointers_row)


cdef void _correlate_strip(
    const floating* x, const floating* w, const floating* bias, floating* y,
    const Epilogue* epilogue, const Frame* f, Py_ssize_t taps, Py_ssize_t width,
    Py_ssize_t channels, Py_ssize_t p0, Py_ssize_t p1, floating* work, void** pointers,
) noexcept nogil:
    cdef Py_ssize_t tiles = (p1 - p0 + GROUPED_PIXELS - 1) // GROUPED_PIXELS
    cdef Py_ssize_t stride = tiles * GROUPED_PIXELS, p, t, _tile
    cdef floating** places = <floating**> pointers
    cdef const floating** rows = <const floating**> (pointers + stride)
    point_places(y, f, channels, p0, p1, places)
    point_rows(x, f, channels, channels, False, p0, p1, stride, work, rows)
    for p in range(p1 - p0, stride):  # the last tile's idle pixels are its last pixel again
        places[p] = places[p1 - p0 - 1]
        for t in range(taps):
            rows[t * stride + p] = rows[t * stride + p1 - p0 - 1]
    for _tile in range(tiles):
        grouped_find(sizeof(floating)).tile[width](
            <const void**> rows, taps, stride, channels, w, bias, <void**> places, epilogue)
        rows += GROUPED_PIXELS
        places += GROUPED_PIXELS


def correlate_weight(
    const floating[:, :, :, :, ::1] x,   # IN   (N, D, H, W, C)
    const floating[:, :, :, :, ::1] dy,  # IN   (N, D', H', W', C)
    floating[:, :, :, ::1] dw,           # OUT  (parts, taps, width, C): partial sums
    const Py_ssize_t[::1] frame,
    Py_ssize_t strip, Py_ssize_t span,   # OPT  pixels of a strip and of a part
    floating[:, ::1] work,               # TEMP (n_threads, C)
    Py_ssize_t[:, ::1] pointers,         # TEMP (n_threads, strip * (taps + 1))
    int n_threads,
):
    """dw[s, t, i, c] := sum over the pixels p of part s of dy[p, c] x[p, t, i of c's group]."""
    cdef Frame f = read_frame(frame)
    with nogil:
        add_narrow_weights(
            &x[0, 0, 0, 0, 0], &dy[0, 0, 0, 0, 0], &dw[0, 0, 0, 0], &f, x.shape[0], dw.shape[0],
            dw.shape[1], dw.shape[2], dw.shape[3], strip, span, &work[0, 0], work.shape[1],
            <const void**> &pointers[0, 0], pointers.shape[1], n_threads)


cdef void add_narrow_weights(
    const floating* x, const floating* dy, floating* dw, const Frame* f, Py_ssize_t images,
    Py_ssize_t parts, Py_ssize_t taps, Py_ssize_t width, Py_ssize_t channels, Py_ssize_t strip,
    Py_ssize_t span, floating* work, Py_ssize_t work_row, const void** pointers,
    Py_ssize_t pointers_row, int n_threads,
) noexcept nogil:
    cdef Py_ssize_t pixels = images * f.count[0] * f.count[1] * f.count[2], part
    with parallel(num_threads=n_threads):
        for part in prange(parts, schedule="dynamic"):
            _correlate_weight_part(
                x, dy, dw + part * taps * width * channels, f, taps, width, channels,
                part * span, min(part * span + span, pixels), strip, work + threadid() * work_row,
                pointers + threadid() * pointers_row)


cdef void _correlate_weight_part(
    const floating* x, const floating* dy, floating* dw, const Frame* f, Py_ssize_t taps,
    Py_ssize_t width, Py_ssize_t channels, Py_ssize_t first, Py_ssize_t last, Py_ssize_t strip,
    floating* work, const void** pointers,
) noexcept nogil:
    cdef Py_ssize_t p, some
    cdef const floating** places = <const floating**> pointers
    cdef const floating** rows = <const floating**> (pointers + strip)
    memset(dw, 0, taps * width * channels * sizeof(floating))
    while first < last:
        some = min(strip, last - first)
        for p in range(some):
            places[p] = dy + (first + p) * channels
        point_rows(x, f, channels, channels, False, first, first + some, strip, work, rows)
        grouped_find(sizeof(floating)).weight[width](
            <const void**> rows, taps, strip, <const void**> places, some, channels, dw)
        first += some


def lines_pointers(const Py_ssize_t[::1] frame):
    """Pointers that a thread needs for whole lines."""
    cdef Frame f = read_frame(frame)
    return f.taps[0] * (max(f.taps[1], _tall_lines(&f)) + f.taps[1])


def lines_at_once(const Py_ssize_t[::1] frame):
    """Lines of the output that are computed together."""
    cdef Frame f = read_frame(frame)
    return _height(&f)


def correlate_lines(
    const floating[:, :, :, :, ::1] x,   # IN   (N, D, H, W, C)
    const floating[:, ::1] w,            # IN   (taps, C)
    const floating[::1] bias,            # IN   (C)
    floating[:, :, :, :, ::1] y,         # OUT  (N, D', H', W', C), at the frame's places
    const floating[:, :, :, :, ::1] residual,  # IN   like y, or None
    double slope, double top,            # OPT  of the activation
    const Py_ssize_t[::1] frame,
    Py_ssize_t[:, ::1] pointers,         # TEMP (n_threads, lines_pointers())
    int n_threads,
):
    """y[p, c] := bias[c] + sum over t of x[p, t, c] w[t, c], and the epilogue."""
    cdef Frame f = read_frame(frame)
    cdef Epilogue epilogue = read_epilogue(y, residual, slope, top)
    cdef Py_ssize_t height = _height(&f), blocks = (f.count[1] + height - 1) // height
    cdef Py_ssize_t tasks = x.shape[0] * f.count[0] * blocks, _ticket, task, first
    cdef Shares shares
    share_out(&shares, tasks, n_threads)
    with nogil, parallel(num_threads=n_threads):
        for _ticket in prange(tasks, schedule="dynamic"):
            task = share_take(&shares, threadid())
            first = task % blocks * height
            _correlate_block(
                &x[0, 0, 0, 0, 0], &w[0, 0], &bias[0], &y[0, 0, 0, 0, 0], &epilogue, &f,
                x.shape[4], task // blocks * f.count[1] + first, height,
                min(height, f.count[1] - first), <const void**> &pointers[threadid(), 0])


cdef inline Py_ssize_t _height(const Frame* f) noexcept nogil:
    """Lines of the output that are computed at once: several if the kernel is square."""
    cdef Py_ssize_t tap
    if f.taps[1] != f.taps[2] or f.step[1] != f.step[2] or f.count[1] < LINE_HEIGHT:
        return 1
    if _outer(f) - _inner(f) < LINE_PIXELS:
        return 1
    for tap in range(1, f.taps[1]):
        if f.offset[1][tap] != f.offset[1][tap - 1] + 1:
            return 1
    if grouped_find(sizeof(float)).tall[f.taps[2]][f.step[2]] == NULL:
        return 1
    return LINE_HEIGHT


cdef void _correlate_block(
    const floating* x, const floating* w, const floating* bias, floating* y,
    const Epilogue* epilogue, const Frame* f, Py_ssize_t channels, Py_ssize_t line,
    Py_ssize_t height, Py_ssize_t lines, const void** pointers,
) noexcept nogil:
    """`lines` lines of a plane, `height` of them together."""
    if 1 < height <= lines:
        _correlate_tall(x, w, bias, y, epilogue, f, channels, line, pointers)
    else:
        for line in range(line, line + lines):
            _correlate_line(x, w, bias, y, epilogue, f, channels, line, pointers)


cdef void _correlate_tall(
    const floating* x, const floating* w, const floating* bias, floating* y,
    const Epilogue* epilogue, const Frame* f, Py_ssize_t channels, Py_ssize_t line,
    const void** lines,
) noexcept nogil:
    """LINE_HEIGHT lines of a plane."""
    cdef const void** weights = lines + f.taps[0] * _tall_lines(f)
    cdef Py_ssize_t planes = _point_planes(x, w, f, channels, line, lines, weights)
    cdef Py_ssize_t inner = _inner(f), outer = _outer(f), k = 0, at
    cdef Py_ssize_t out_step = f.stride[2] * channels
    cdef Py_ssize_t out_line = f.stride[1] * f.extent[2] * channels
    y += output_place(f, line * f.count[2]) * channels
    while k < f.count[2]:
        if k >= inner and k < outer:
            k = min(k, outer - LINE_PIXELS)  # the last tile overlaps the one before
            grouped_find(sizeof(floating)).tall[f.taps[2]][f.step[2]](
                lines, (k * f.step[2] + f.offset[2][0]) * channels, weights, planes, channels,
                bias, y + k * out_step, out_step, out_line, epilogue)
            k += LINE_PIXELS
        else:
            at = k * f.step[2] + f.offset[2][0]
            grouped_find(sizeof(floating)).tall_edge[f.taps[2]][f.step[2]](
                lines, at * channels, weights, planes, max(-at, 0), min(f.taps[2], f.size[2] - at),
                channels, bias, y + k * out_step, out_line, epilogue)
            k += 1


cdef inline Py_ssize_t _tall_lines(const Frame* f) noexcept nogil:
    """Lines of a plane of the input that LINE_HEIGHT lines of the output read."""
    return (LINE_HEIGHT - 1) * f.step[1] + f.taps[1]


cdef Py_ssize_t _point_planes(
    const floating* x, const floating* w, const Frame* f, Py_ssize_t channels, Py_ssize_t line,
    const void** lines, const void** weights,
) noexcept nogil:
    """Point to the lines of all planes that are inside, and to a plane's weights; how many."""
    cdef Py_ssize_t height = _tall_lines(f), planes = 0, a, b, z, v
    cdef Py_ssize_t n = line // f.count[1] // f.count[0]
    for a in range(f.taps[0]):
        z = line // f.count[1] % f.count[0] * f.step[0] + f.offset[0][a]
        if not 0 <= z < f.size[0]:
            continue
        for b in range(height):
            v = line % f.count[1] * f.step[1] + f.offset[1][0] + b
            lines[planes * height + b] = (
                x + ((n * f.size[0] + z) * f.size[1] + v) * f.size[2] * channels
                if 0 <= v < f.size[1] else NULL)
        weights[planes] = w + a * f.taps[1] * f.taps[2] * channels
        planes += 1
    return planes


cdef void _correlate_line(
    const floating* x, const floating* w, const floating* bias, floating* y,
    const Epilogue* epilogue, const Frame* f, Py_ssize_t channels, Py_ssize_t line,
    const void** lines,
) noexcept nogil:
    cdef const void** weights = lines + f.taps[0] * f.taps[1]
    cdef Py_ssize_t rows = _point_lines(x, w, f, channels, line, lines, weights)
    cdef Py_ssize_t inner = _inner(f), outer = _outer(f), k = 0, at, ahead, first, last
    cdef Py_ssize_t out_step = f.stride[2] * channels
    y += output_place(f, line * f.count[2]) * channels
    while k < f.count[2]:
        at = k * f.step[2] + f.offset[2][0]
        if k >= inner and k < outer and outer - inner >= LINE_PIXELS:
            if outer - k < LINE_PIXELS:  # the last tile overlaps the one before
                k = outer - LINE_PIXELS
                at = k * f.step[2] + f.offset[2][0]
            ahead = (LINE_PIXELS - 1) * f.step[2] + f.taps[2]
            if k + LINE_PIXELS == outer:  # to where the next line begins
                ahead = f.step[1] * f.size[2] - at
            grouped_find(sizeof(floating)).line[f.taps[2]][f.step[2]](
                lines, at * channels, weights, rows, channels, bias, y + k * out_step, out_step,
                ahead * channels, epilogue)
            k += LINE_PIXELS
        else:
            first = max(-at, 0)
            last = min(f.taps[2], f.size[2] - at)
            grouped_find(sizeof(floating)).line_edge(
                lines, (at + first) * channels, weights, first * channels, rows,
                max(last - first, 0), channels, bias, y + k * out_step, epilogue)
            k += 1


cdef Py_ssize_t _point_lines(
    const floating* x, const floating* w, const Frame* f, Py_ssize_t channels, Py_ssize_t line,
    const void** lines, const void** weights,
) noexcept nogil:
    """Point to the input lines that an output line reads and to their weights; how many."""
    cdef Py_ssize_t j = line % f.count[1], i = line // f.count[1] % f.count[0]
    cdef Py_ssize_t n = line // f.count[1] // f.count[0], a, b, z, v, rows = 0
    for a in range(f.taps[0]):
        z = i * f.step[0] + f.offset[0][a]
        for b in range(f.taps[1]):
            v = j * f.step[1] + f.offset[1][b]
            if 0 <= z < f.size[0] and 0 <= v < f.size[1]:
                lines[rows] = x + ((n * f.size[0] + z) * f.size[1] + v) * f.size[2] * channels
                weights[rows] = w + (a * f.taps[1] + b) * f.taps[2] * channels
                rows += 1
    return rows


cdef inline Py_ssize_t _inner(const Frame* f) noexcept nogil:
    """The first pixel of a line with all taps inside."""
    return min((max(-f.offset[2][0], 0) + f.step[2] - 1) // f.step[2], f.count[2])


cdef inline Py_ssize_t _outer(const Frame* f) noexcept nogil:
    """The first one from there on that has not."""
    cdef Py_ssize_t room = f.size[2] - f.taps[2] - f.offset[2][0]
    return max(min(room // f.step[2] + 1, f.count[2]), _inner(f)) if room >= 0 else _inner(f)


def correlate_weight_lines(
    const floating[:, :, :, :, ::1] x,   # IN   (N, D, H, W, C)
    const floating[:, :, :, :, ::1] dy,  # IN   (N, D', H', W', C)
    floating[:, :, ::1] dw,              # OUT  (parts, taps, C): partial sums
    const Py_ssize_t[::1] frame,
    Py_ssize_t span,                     # OPT  lines of a part
    Py_ssize_t[:, ::1] pointers,         # TEMP (n_threads, lines_pointers())
    int n_threads,
):
    """dw[s, t, c] := sum over the pixels p of part s of dy[p, c] x[p, t, c]."""
    cdef Frame f = read_frame(frame)
    cdef Py_ssize_t lines = x.shape[0] * f.count[0] * f.count[1], part
    with nogil, parallel(num_threads=n_threads):
        for part in prange(dw.shape[0], schedule="dynamic"):
            _correlate_weight_lines(
                &x[0, 0, 0, 0, 0], &dy[0, 0, 0, 0, 0], &dw[part, 0, 0], &f, x.shape[4],
                part * span, min(part * span + span, lines),
                <const void**> &pointers[threadid(), 0])


cdef void _correlate_weight_lines(
    const floating* x, const floating* dy, floating* dw, const Frame* f, Py_ssize_t channels,
    Py_ssize_t first, Py_ssize_t last, const void** lines,
) noexcept nogil:
    cdef const void** sums = lines + f.taps[0] * max(f.taps[1], _tall_lines(f))
    cdef Py_ssize_t line = first, line_size = f.count[2] * channels, height = _height(f), rows
    if (channels * sizeof(floating) % VECTOR_BYTES != 0
            or grouped_find(sizeof(floating)).tall_weight[f.taps[2]][f.step[2]] == NULL):
        height = 1
    memset(dw, 0, f.taps[0] * f.taps[1] * f.taps[2] * channels * sizeof(floating))
    while line < last:
        if height > 1 and line % f.count[1] + height <= f.count[1] and line + height <= last:
            rows = _point_planes(x, dw, f, channels, line, lines, sums)
            grouped_find(sizeof(floating)).tall_weight[f.taps[2]][f.step[2]](
                lines, dy + line * line_size, line_size, <void**> sums, rows, channels,
                f.count[2], _inner(f), _outer(f), f.offset[2][0], f.size[2])
            line += height
        else:
            rows = _point_lines(x, dw, f, channels, line, lines, sums)
            grouped_find(sizeof(floating)).line_weight[f.taps[2]][f.step[2]](
                lines, dy + line * line_size, <void**> sums, rows, channels, f.count[2],
                _inner(f), _outer(f), f.offset[2][0], f.size[2])
            line += 1
