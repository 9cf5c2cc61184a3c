"""Convolution by register tiles on packed weights, reading the input in place.

Notes
-----
The reduction of an output pixel is a list of *runs*: stretches of the input that lie one behind
the other in memory. Where taps along the last axis are neighbours, a run is a whole kernel row,
``taps_w * C`` values; otherwise a tap, ``C`` values. A strip of pixels holds one pointer per run
and pixel: into the input, or to a row of zeros outside of it, or, where a run is cut by the
edge, to a copy that the strip keeps. Very short runs are gathered into one, as im2col does.

Where few input channels make short runs, ``correlate_lines`` copies the input lines of a few output
lines with their padding, so that pixels lie evenly and need no pointers; so does
``correlate_weight_lines``. Where there are few outputs, ``correlate_dots`` lets vectors run along
the sum.

Every output is one sum in one order, whatever the strip it falls in, so results depend neither
on the number of threads nor on the batch.
"""

from cython cimport floating
from cython.parallel cimport parallel, prange, threadid
from libc.string cimport memcpy, memset

from fastconv.kernels.epilogue cimport Epilogue, read_epilogue
from fastconv.kernels.im2col cimport Frame, gather, output_place, read_frame
from fastconv.kernels.layout cimport Strided
from fastconv.kernels.shares cimport Shares, share_out, share_take

cdef enum:
    SHORT_RUN = 4  # shorter ones are gathered into one: to start a run costs some ten steps
    STREAMED = 64  # values of a pixel that is fetched a tile ahead: of fewer that gains nothing
    L1_WEIGHTS = 1 << 14  # bytes of packed weights that stay in the first cache
    FEW_PANELS = 2  # to copy the inputs would not pay
    PACKED = 8  # channels at a time: those of several outputs, often a power of two apart

SUPPORTED = bool(DIRECT_SUPPORTED)
PIXELS = TILE_PIXELS
MOST = MOST_PIXELS
VECTORS = MOST_VECTORS
DOTS = MOST_DOTS


def panel_width(Py_ssize_t itemsize, Py_ssize_t outputs, Py_ssize_t most=3):
    """Output channels of a tile: a vector if they fit, two, or up to `most` to leave fewer over."""
    return tile_width(itemsize, outputs, most)


cdef Py_ssize_t tile_width(
    Py_ssize_t itemsize, Py_ssize_t outputs, Py_ssize_t most,
) noexcept nogil:
    cdef Py_ssize_t one = VECTOR_BYTES // itemsize
    if outputs <= one:
        return one
    if most == 3 and _padded(outputs, 3 * one) < _padded(outputs, 2 * one):
        return 3 * one
    return 2 * one


cdef Py_ssize_t vectors_of(Py_ssize_t width, Py_ssize_t itemsize) noexcept nogil:
    return width * itemsize // VECTOR_BYTES


cdef inline Py_ssize_t _padded(Py_ssize_t outputs, Py_ssize_t width) noexcept nogil:
    return (outputs + width - 1) // width * width


def pixels_of(Py_ssize_t itemsize, Py_ssize_t width):
    """Pixels of a tile."""
    return tile_pixels(width, itemsize)


cdef Py_ssize_t tile_pixels(Py_ssize_t width, Py_ssize_t itemsize) noexcept nogil:
    cdef Py_ssize_t vectors = vectors_of(width, itemsize)
    return NARROW_PIXELS if vectors == 1 else TILE_PIXELS if vectors == 2 else WIDE_PIXELS


def pixel_panels(Py_ssize_t itemsize, Py_ssize_t width):
    """Panels that a single pixel takes at a time."""
    return _pixel_panels(width, itemsize)


cdef inline Py_ssize_t _pixel_panels(Py_ssize_t width, Py_ssize_t itemsize) noexcept nogil:
    return PIXEL_VECTORS * VECTOR_BYTES // (width * itemsize)


cdef inline Py_ssize_t _tile_start(
    Py_ssize_t tile, Py_ssize_t size, Py_ssize_t pixels,
) noexcept nogil:
    """The first of a tile's pixels: the last tile overlaps the one before, if there is one."""
    return max(min(tile * size, pixels - size), 0)


def pack(
    const floating[:, :, :, :, :, :] w,  # IN   (G, K, taps along three axes, C), any strides
    floating[:, :, :, ::1] packed,       # OUT  (G, panels, taps * C, width)
    int n_threads,
):
    """packed[g, b, d, j] := w[g, b * width + j, d], zero beyond the last output."""
    cdef Strided view
    cdef Py_ssize_t axis
    for axis in range(6):
        view.size[axis] = w.shape[axis]
        view.step[axis] = w.strides[axis] // <Py_ssize_t> sizeof(floating)
    pack_tiles(&w[0, 0, 0, 0, 0, 0], &view, packed.shape[3], &packed[0, 0, 0, 0], n_threads)


cdef void pack_tiles(
    const floating* w, const Strided* view, Py_ssize_t width, floating* packed, int n_threads,
) noexcept nogil:
    cdef Py_ssize_t panels = _padded(view.size[1], width) // width, task
    cdef Py_ssize_t panel = (
        view.size[2] * view.size[3] * view.size[4] * view.size[5] * width)
    for task in prange(view.size[0] * panels, schedule="guided", num_threads=n_threads):
        _pack_panel(w + task // panels * view.step[0], view, task % panels * width, width,
                    packed + task * panel)


cdef void _pack_panel(
    const floating* w, const Strided* view, Py_ssize_t first, Py_ssize_t width, floating* packed,
) noexcept nogil:
    cdef Py_ssize_t a, b, t, c, j, some, part, start
    cdef Py_ssize_t used = min(width, view.size[1] - first), channels = view.size[5]
    cdef Py_ssize_t step_k = view.step[1], step_c = view.step[5]
    cdef const floating* at
    w += first * step_k
    for a in range(view.size[2]):
        for b in range(view.size[3]):
            for t in range(view.size[4]):
                at = w + a * view.step[2] + b * view.step[3] + t * view.step[4]
                for part in range((channels + PACKED - 1) // PACKED):
                    start = part * PACKED
                    # one output's channels are neighbours, or one channel's outputs: read along
                    some = min(<Py_ssize_t> PACKED, channels - start)
                    if step_c == 1:
                        for j in range(used):
                            for c in range(some):
                                packed[c * width + j] = at[j * step_k + start + c]
                    else:
                        for c in range(some):
                            for j in range(used):
                                packed[c * width + j] = at[j * step_k + (start + c) * step_c]
                    for j in range(used, width):
                        for c in range(some):
                            packed[c * width + j] = 0
                    packed += some * width


def correlate(
    const floating[:, :, :, :, ::1] x,   # IN   (N, D, H, W, G * C)
    const floating[:, :, :, ::1] w,      # IN   (G, panels, taps * C, width), from pack
    const floating[:, ::1] bias,         # IN   (G, panels * width)
    Py_ssize_t outputs,                  # OPT  K
    floating[:, :, :, :, ::1] y,         # OUT  (N, D', H', W', G * K), at the frame's places
    const floating[:, :, :, :, ::1] residual,  # IN   like y, or None
    double slope, double top,            # OPT  of the activation
    const Py_ssize_t[::1] frame,
    Py_ssize_t strip, Py_ssize_t block,  # OPT  pixels and panels of a task
    bint panels_inside,                  # OPT  loop over panels inside that over pixels
    floating[:, ::1] work,               # TEMP (n_threads, (strip + 1) * taps * C)
    Py_ssize_t[:, ::1] pointers,         # TEMP (n_threads, (strip + MOST) * (taps + 1))
    int n_threads,
):
    """y[p, k] := bias[k] + sum over t, c of x[p, t, c] w[k, t, c], and the epilogue."""
    cdef Frame f = read_frame(frame)
    cdef Epilogue epilogue = read_epilogue(y, residual, slope, top)
    cdef Tiling t
    t.images, t.groups, t.outputs = x.shape[0], w.shape[0], outputs
    t.panels, t.depth, t.width = w.shape[1], w.shape[2], w.shape[3]
    t.strip, t.block, t.panels_inside = strip, block, panels_inside
    with nogil:
        correlate_tiles(
            &x[0, 0, 0, 0, 0], &w[0, 0, 0, 0], &bias[0, 0], &y[0, 0, 0, 0, 0], &epilogue, &f, &t,
            &work[0, 0], work.shape[1], <void**> &pointers[0, 0], pointers.shape[1], n_threads)


cdef void correlate_tiles(
    const floating* x, const floating* w, const floating* bias, floating* y,
    const Epilogue* epilogue, const Frame* f, const Tiling* t, floating* work,
    Py_ssize_t work_row, void** pointers, Py_ssize_t pointers_row, int n_threads,
) noexcept nogil:
    cdef Py_ssize_t pixels = t.images * f.count[0] * f.count[1] * f.count[2]
    cdef Py_ssize_t blocks = (t.panels + t.block - 1) // t.block
    cdef Py_ssize_t tasks = (pixels + t.strip - 1) // t.strip * blocks * t.groups
    cdef Py_ssize_t _ticket, task, group, panel, p0
    cdef Shares shares
    share_out(&shares, tasks, n_threads)
    with parallel(num_threads=n_threads):
        for _ticket in prange(tasks, schedule="dynamic"):
            task = share_take(&shares, threadid())
            panel = task % blocks * t.block
            group = task // blocks % t.groups
            p0 = task // blocks // t.groups * t.strip
            _correlate_strip(
                x, w + group * t.panels * t.depth * t.width, bias + group * t.panels * t.width,
                y + group * t.outputs, epilogue, f, t, group, p0, min(p0 + t.strip, pixels),
                panel, min(panel + t.block, t.panels), work + threadid() * work_row,
                pointers + threadid() * pointers_row)


cdef void _correlate_strip(
    const floating* x, const floating* w, const floating* bias, floating* y,
    const Epilogue* epilogue, const Frame* f, const Tiling* t, Py_ssize_t group, Py_ssize_t p0,
    Py_ssize_t p1, Py_ssize_t panel0, Py_ssize_t panel1, floating* work, void** pointers,
) noexcept nogil:
    """Pixels [p0, p1) and panels [panel0, panel1) of one group, whose w, bias and y these are."""
    cdef Py_ssize_t size = tile_pixels(t.width, sizeof(floating))
    cdef Py_ssize_t tiles = (p1 - p0 + size - 1) // size
    cdef Py_ssize_t stride = tiles * size
    cdef floating** places = <floating**> pointers
    cdef const floating** rows = <const floating**> (pointers + stride)
    cdef Py_ssize_t some = _pixel_panels(t.width, sizeof(floating))
    cdef Py_ssize_t pixels = p1 - p0, tile, panel, part, first, last, run, p, ahead = 0
    if t.panels_inside:
        some = panel1 - panel0
    run = _point_tiles(x, y, f, group, t.groups, t.depth, t.outputs, p0, p1, stride, work, places,
                       rows)
    if pixels % size == 1:  # one that is left over would take as long as a whole tile
        pixels -= 1
    for part in range((panel1 - panel0 + some - 1) // some):
        first = panel0 + part * some
        last = min(first + some, panel1)
        for panel in range(first, first + 1 if t.panels_inside else last):
            for tile in range((pixels + size - 1) // size):
                p = _tile_start(tile, size, pixels)
                if t.panels_inside and run == t.depth >= STREAMED and p + size < stride:
                    ahead = rows[p + size] - rows[p]
                _tile(rows + p, t.depth // run, stride, run, w, bias, t, places + p, panel,
                      last if t.panels_inside else panel + 1, min(size, pixels), epilogue, ahead)
        if pixels < p1 - p0:
            direct_find(sizeof(floating)).pixel[vectors_of(t.width, sizeof(floating))](
                <const void**> rows + pixels, t.depth // run, stride, run,
                w + first * t.width * t.depth, bias + first * t.width,
                places[pixels] + first * t.width,
                min(last * t.width, t.outputs) - first * t.width, epilogue)


cdef Py_ssize_t _point_tiles(
    const floating* x, floating* y, const Frame* f, Py_ssize_t group, Py_ssize_t groups,
    Py_ssize_t depth, Py_ssize_t outputs, Py_ssize_t p0, Py_ssize_t p1, Py_ssize_t stride,
    floating* work, floating** places, const floating** rows,
) noexcept nogil:
    """Point `stride` pixels, whole tiles, to their outputs and runs; return a run's length.

    The last tile's idle pixels are its last pixel again.
    """
    cdef Py_ssize_t width = depth // (f.taps[0] * f.taps[1] * f.taps[2]), p, r, run = depth
    if f.pointwise and f.dense:
        for p in range(p0, p1):
            places[p - p0] = y + p * groups * outputs
            rows[p - p0] = x + (p * groups + group) * depth
    else:
        point_places(y, f, groups * outputs, p0, p1, places)
        run = _point_runs(
            x + group * width, f, groups, width, SHORT_RUN, p0, p1, stride, work, rows)
    for p in range(p1 - p0, stride):
        places[p] = places[p1 - p0 - 1]
        for r in range(depth // run):
            rows[r * stride + p] = rows[r * stride + p1 - p0 - 1]
    return run


cdef inline void _tile(
    const floating** rows, Py_ssize_t runs, Py_ssize_t stride, Py_ssize_t run,
    const floating* w, const floating* bias, const Tiling* t, floating** places,
    Py_ssize_t panel0, Py_ssize_t panel1, Py_ssize_t pixels, const Epilogue* epilogue,
    Py_ssize_t ahead,
) noexcept nogil:
    """One register tile after the other: its pixels, panels [panel0, panel1) of outputs."""
    cdef Py_ssize_t first = panel0 * t.width, p
    cdef void* out[MOST_PIXELS]
    for p in range(tile_pixels(t.width, sizeof(floating))):
        out[p] = places[p] + first
    direct_find(sizeof(floating)).tile[vectors_of(t.width, sizeof(floating))](
        <const void**> rows, runs, stride, run, w + first * t.depth, bias + first, out,
        <int> pixels, min(panel1 * t.width, t.outputs) - first, epilogue, ahead)


def correlate_dots(
    const floating[:, :, :, :, ::1] x,   # IN   (N, D, H, W, G * C)
    const floating[:, :, ::1] w,         # IN   (G, K, taps * C)
    const floating[:, ::1] bias,         # IN   (G, K)
    floating[:, :, :, :, ::1] y,         # OUT  (N, D', H', W', G * K), at the frame's places
    const floating[:, :, :, :, ::1] residual,  # IN   like y, or None
    double slope, double top,            # OPT  of the activation
    const Py_ssize_t[::1] frame,
    Py_ssize_t strip,                    # OPT  pixels of a task, whole tiles
    floating[:, ::1] work,               # TEMP (n_threads, (strip + 1) * taps * C)
    Py_ssize_t[:, ::1] pointers,         # TEMP (n_threads, strip * (taps + 1))
    int n_threads,
):
    """The same for K <= DOTS outputs of a group."""
    cdef Frame f = read_frame(frame)
    cdef Epilogue epilogue = read_epilogue(y, residual, slope, top)
    cdef Tiling t
    t.images, t.groups, t.strip = x.shape[0], w.shape[0], strip
    t.outputs, t.depth = w.shape[1], w.shape[2]
    with nogil:
        correlate_few(
            &x[0, 0, 0, 0, 0], &w[0, 0, 0], &bias[0, 0], &y[0, 0, 0, 0, 0], &epilogue, &f, &t,
            &work[0, 0], work.shape[1], <void**> &pointers[0, 0], pointers.shape[1], n_threads)


cdef void correlate_few(
    const floating* x, const floating* w, const floating* bias, floating* y,
    const Epilogue* epilogue, const Frame* f, const Tiling* t, floating* work,
    Py_ssize_t work_row, void** pointers, Py_ssize_t pointers_row, int n_threads,
) noexcept nogil:
    cdef Py_ssize_t pixels = t.images * f.count[0] * f.count[1] * f.count[2]
    cdef Py_ssize_t tasks = (pixels + t.strip - 1) // t.strip * t.groups
    cdef Py_ssize_t _ticket, task, group, p0
    cdef Shares shares
    share_out(&shares, tasks, n_threads)
    with parallel(num_threads=n_threads):
        for _ticket in prange(tasks, schedule="dynamic"):
            task = share_take(&shares, threadid())
            p0 = task // t.groups * t.strip
            group = task % t.groups
            _dots_strip(
                x, w + group * t.outputs * t.depth, bias + group * t.outputs,
                y + group * t.outputs, epilogue, f, t, group, p0, min(p0 + t.strip, pixels),
                work + threadid() * work_row, pointers + threadid() * pointers_row)


cdef void _dots_strip(
    const floating* x, const floating* w, const floating* bias, floating* y,
    const Epilogue* epilogue, const Frame* f, const Tiling* t, Py_ssize_t group, Py_ssize_t p0,
    Py_ssize_t p1, floating* work, void** pointers,
) noexcept nogil:
    cdef Py_ssize_t size = DOTS_PIXELS(t.outputs), tiles = (p1 - p0 + size - 1) // size
    cdef Py_ssize_t stride = tiles * size, tile, run
    cdef floating** places = <floating**> pointers
    cdef const floating** rows = <const floating**> (pointers + stride)
    run = _point_tiles(x, y, f, group, t.groups, t.depth, t.outputs, p0, p1, stride, work, places,
                       rows)
    for tile in range(tiles):
        direct_find(sizeof(floating)).dots[t.outputs](
            <const void**> (rows + tile * size), t.depth // run, stride, run, w, bias,
            <void**> (places + tile * size), <int> min(size, p1 - p0 - tile * size), epilogue)


def correlate_lines(
    const floating[:, :, :, :, ::1] x,   # IN   (N, D, H, W, C)
    const floating[:, :, ::1] w,         # IN   (panels, taps * C, width), from pack
    const floating[::1] bias,            # IN   (panels * width)
    Py_ssize_t outputs,                  # OPT  K
    floating[:, :, :, :, ::1] y,         # OUT  (N, D', H', W', K), at the frame's places
    const floating[:, :, :, :, ::1] residual,  # IN   like y, or None
    double slope, double top,            # OPT  of the activation
    const Py_ssize_t[::1] frame,
    Py_ssize_t lines, Py_ssize_t some,   # OPT  output lines of a task, and pixels of each
    floating[:, ::1] work,               # TEMP (n_threads, line_sizes(...))
    Py_ssize_t[:, ::1] offsets,          # TEMP (n_threads, taps)
    int n_threads,
):
    """The same, on copies of the input's lines."""
    cdef Frame f = read_frame(frame)
    cdef Epilogue epilogue = read_epilogue(y, residual, slope, top)
    cdef Py_ssize_t bands = (f.count[1] + lines - 1) // lines
    cdef Py_ssize_t parts = (f.count[2] + some - 1) // some
    cdef Py_ssize_t tasks = x.shape[0] * f.count[0] * bands * parts, _ticket, task
    cdef Shares shares
    share_out(&shares, tasks, n_threads)
    with nogil, parallel(num_threads=n_threads):
        for _ticket in prange(tasks, schedule="dynamic"):
            task = share_take(&shares, threadid())
            _correlate_band(
                &x[0, 0, 0, 0, 0], w, &bias[0], outputs, &y[0, 0, 0, 0, 0], &epilogue, &f,
                x.shape[4], task // parts // bands, task // parts % bands * lines,
                task % parts * some, lines, some, &work[threadid(), 0], &offsets[threadid(), 0])


def line_sizes(
    const Py_ssize_t[::1] frame, Py_ssize_t channels, Py_ssize_t lines, Py_ssize_t some,
):
    """Values that the copied lines of a task of `correlate_lines` take."""
    cdef Frame f = read_frame(frame)
    return f.taps[0] * _lines_read(&f, lines) * _places_read(&f, some) * channels


cdef inline Py_ssize_t _lines_read(const Frame* f, Py_ssize_t lines) noexcept nogil:
    """Input lines of one tap along the first axis."""
    return (lines - 1) * f.step[1] + f.offset[1][f.taps[1] - 1] - f.offset[1][0] + 1


cdef inline Py_ssize_t _places_read(const Frame* f, Py_ssize_t some) noexcept nogil:
    """Input places of a line, with those that the idle pixels of the last tile read."""
    return (some + MOST_PIXELS) * f.step[2] + f.offset[2][f.taps[2] - 1] - f.offset[2][0] + 1


cdef void _correlate_band(
    const floating* x, const floating[:, :, ::1] w, const floating* bias, Py_ssize_t outputs,
    floating* y, const Epilogue* epilogue, const Frame* f, Py_ssize_t channels, Py_ssize_t slice_,
    Py_ssize_t j0, Py_ssize_t k0, Py_ssize_t lines, Py_ssize_t some, floating* work,
    Py_ssize_t* offsets,
) noexcept nogil:
    """Output lines [j0, j0 + lines), pixels [k0, k0 + some) of one slice."""
    cdef Py_ssize_t width = w.shape[2], length = _places_read(f, some) * channels
    cdef Py_ssize_t run = f.taps[2] * channels if f.adjacent else channels
    cdef Py_ssize_t runs = _copy_band(x, f, channels, slice_, j0, k0, lines, some, work, offsets)
    cdef Py_ssize_t last = min(k0 + some, f.count[2]), j, part, panels
    # A panel of the weights stays in the first cache while the lines pass by, or all of them do.
    panels = 1 if w.shape[0] * w.shape[1] * width * sizeof(floating) > L1_WEIGHTS else w.shape[0]
    for part in range(w.shape[0] // panels):
        for j in range(j0, min(j0 + lines, f.count[1])):
            direct_find(sizeof(floating)).line[vectors_of(width, sizeof(floating))](
                work + (j - j0) * f.step[1] * length, f.step[2] * channels, offsets, runs, run,
                &w[part * panels, 0, 0], bias + part * panels * width,
                y + outputs * output_place(f, (slice_ * f.count[1] + j) * f.count[2] + k0)
                + part * panels * width,
                f.stride[2] * outputs, last - k0,
                min((part + 1) * panels * width, outputs) - part * panels * width, epilogue)


cdef Py_ssize_t _copy_band(
    const floating* x, const Frame* f, Py_ssize_t channels, Py_ssize_t slice_, Py_ssize_t j0,
    Py_ssize_t k0, Py_ssize_t lines, Py_ssize_t some, floating* work, Py_ssize_t* offsets,
) noexcept nogil:
    """Copy the input lines that a band reads; where a pixel's runs lie, and how many they are."""
    cdef Py_ssize_t n = slice_ // f.count[0], i = slice_ % f.count[0]
    cdef Py_ssize_t deep = _lines_read(f, lines), length = _places_read(f, some) * channels
    cdef Py_ssize_t place = k0 * f.step[2] + f.offset[2][0], a, b, t, z, v, runs = 0
    cdef const floating* source
    for a in range(f.taps[0]):
        z = i * f.step[0] + f.offset[0][a]
        for b in range(deep):
            v = j0 * f.step[1] + f.offset[1][0] + b
            source = NULL
            if 0 <= z < f.size[0] and 0 <= v < f.size[1]:
                source = x + ((n * f.size[0] + z) * f.size[1] + v) * f.size[2] * channels
            _copy_line(source, f.size[2] * channels, place * channels, length,
                       work + (a * deep + b) * length)
        for b in range(f.taps[1]):
            v = (a * deep + f.offset[1][b] - f.offset[1][0]) * length
            for t in range(1 if f.adjacent else f.taps[2]):
                offsets[runs] = v + (f.offset[2][t] - f.offset[2][0]) * channels
                runs += 1
    return runs


cdef inline void _copy_line(
    const floating* source, Py_ssize_t size, Py_ssize_t first, Py_ssize_t length, floating* to,
) noexcept nogil:
    """to := values [first, first + length) of `source`, zero outside of [0, size) or of NULL."""
    cdef Py_ssize_t start = min(max(-first, 0), length)
    cdef Py_ssize_t stop = max(min(size - first, length), start)
    if source == NULL:
        start = stop = length
    memset(to, 0, start * sizeof(floating))
    memcpy(to + start, source + first + start, (stop - start) * sizeof(floating))
    memset(to + stop, 0, (length - stop) * sizeof(floating))


def correlate_weight(
    const floating[:, :, :, :, ::1] x,    # IN   (N, D, H, W, G * C)
    const floating[:, :, :, :, ::1] dy,   # IN   (N, D', H', W', G * K)
    floating[:, :, ::1] dw,               # OUT  (G, K, taps * C)
    const Py_ssize_t[::1] frame,
    Py_ssize_t strip, Py_ssize_t span,    # OPT  pixels of a strip and of a part
    Py_ssize_t block,                     # OPT  panels of a task
    floating[:, :, :, :, ::1] sums,       # TEMP (parts, G, panels, taps * C, width)
    floating[:, ::1] work,                # TEMP (n_threads, weight_sizes(...))
    Py_ssize_t[:, ::1] pointers,          # TEMP (n_threads, strip * taps)
    int n_threads,
):
    """dw[g, k, t, c] := sum over the pixels p of x[p, g, t, c] dy[p, g, k], part by part."""
    cdef Frame f = read_frame(frame)
    cdef Tiling t
    t.images, t.groups, t.outputs = x.shape[0], dw.shape[0], dw.shape[1]
    t.panels, t.depth, t.width = sums.shape[2], dw.shape[2], sums.shape[4]
    t.strip, t.block = strip, block
    with nogil:
        add_weights(
            &x[0, 0, 0, 0, 0], &dy[0, 0, 0, 0, 0], &dw[0, 0, 0], &f, &t, sums.shape[0], span,
            &sums[0, 0, 0, 0, 0], &work[0, 0], work.shape[1],
            <const floating**> &pointers[0, 0], pointers.shape[1], n_threads)


cdef void add_weights(
    const floating* x, const floating* dy, floating* dw, const Frame* f, const Tiling* t,
    Py_ssize_t parts, Py_ssize_t span, floating* sums, floating* work, Py_ssize_t work_row,
    const floating** pointers, Py_ssize_t pointers_row, int n_threads,
) noexcept nogil:
    cdef Py_ssize_t pixels = t.images * f.count[0] * f.count[1] * f.count[2]
    cdef Py_ssize_t blocks = (t.panels + t.block - 1) // t.block
    cdef Py_ssize_t panel_size = t.depth * t.width, part_size = t.groups * t.panels * panel_size
    cdef Py_ssize_t task, part, group, panel, first
    with parallel(num_threads=n_threads):
        for task in prange(parts * t.groups * blocks, schedule="dynamic"):
            part = task // blocks // t.groups
            group = task // blocks % t.groups
            panel = task % blocks * t.block
            first = panel * t.width
            _correlate_weight_part(
                x, dy + group * t.outputs + first,
                sums + part * part_size + (group * t.panels + panel) * panel_size, f, t.groups,
                group, t.depth, t.groups * t.outputs,
                min(t.block * t.width, t.outputs - first), t.width, part * span,
                min(part * span + span, pixels), t.strip, work + threadid() * work_row,
                pointers + threadid() * pointers_row)
        for task in prange(t.groups * t.panels, schedule="guided"):
            first = task % t.panels * t.width
            direct_find(sizeof(floating)).finish_panel[vectors_of(t.width, sizeof(floating))](
                sums + task * panel_size, parts, part_size, t.depth,
                <int> min(t.width, t.outputs - first),
                dw + (task // t.panels * t.outputs + first) * t.depth, t.depth)


def correlate_weight_lines(
    const floating[:, :, :, :, ::1] x,    # IN   (N, D, H, W, C)
    const floating[:, :, :, :, ::1] dy,   # IN   (N, D', H', W', K), K whole panels
    floating[:, :, ::1] dw,               # OUT  (1, K, taps * C)
    const Py_ssize_t[::1] frame,
    Py_ssize_t lines, Py_ssize_t some,    # OPT  output lines of a band, and pixels of each
    Py_ssize_t span,                      # OPT  bands of a part
    floating[:, :, :, :, ::1] sums,       # TEMP (parts, 1, panels, taps * C, width)
    floating[:, ::1] work,                # TEMP (n_threads, line_sizes(...))
    Py_ssize_t[:, ::1] offsets,           # TEMP (n_threads, taps)
    int n_threads,
):
    """The same, on copies of the input's lines."""
    cdef Frame f = read_frame(frame)
    cdef Py_ssize_t bands = x.shape[0] * f.count[0] * _pieces(&f, lines, some)
    cdef Py_ssize_t depth = dw.shape[2], panels = sums.shape[2], width = sums.shape[4], part
    with nogil, parallel(num_threads=n_threads):
        for part in prange(sums.shape[0], schedule="dynamic"):
            _add_bands(
                &x[0, 0, 0, 0, 0], &dy[0, 0, 0, 0, 0], &sums[part, 0, 0, 0, 0], &f, x.shape[4],
                panels, width, part * span, min(part * span + span, bands), lines, some,
                &work[threadid(), 0], &offsets[threadid(), 0])
        for part in prange(panels, schedule="guided"):
            direct_find(sizeof(floating)).finish_panel[vectors_of(width, sizeof(floating))](
                &sums[0, 0, part, 0, 0], sums.shape[0], panels * depth * width, depth,
                <int> width, &dw[0, part * width, 0], depth)


cdef inline Py_ssize_t _pieces(const Frame* f, Py_ssize_t lines, Py_ssize_t some) noexcept nogil:
    """Bands of a slice."""
    return (f.count[1] + lines - 1) // lines * ((f.count[2] + some - 1) // some)


cdef void _add_bands(
    const floating* x, const floating* dy, floating* sums, const Frame* f, Py_ssize_t channels,
    Py_ssize_t panels, Py_ssize_t width, Py_ssize_t first, Py_ssize_t last, Py_ssize_t lines,
    Py_ssize_t some, floating* work, Py_ssize_t* offsets,
) noexcept nogil:
    """The sums of bands [first, last)."""
    cdef Py_ssize_t step = panels * width, length = _places_read(f, some) * channels
    cdef Py_ssize_t run = f.taps[2] * channels if f.adjacent else channels
    cdef Py_ssize_t pieces = _pieces(f, lines, some), parts = (f.count[2] + some - 1) // some
    cdef Py_ssize_t vectors = vectors_of(width, sizeof(floating)), rows = LINE_ROWS(vectors)
    cdef Py_ssize_t band, slice_, j0, k0, runs, r, m, panel, block
    cdef const floating* grads
    for band in range(first, last):
        slice_ = band // pieces
        j0 = band % pieces // parts * lines
        k0 = band % parts * some
        runs = _copy_band(x, f, channels, slice_, j0, k0, lines, some, work, offsets)
        if band == first:
            memset(sums, 0, runs * run * step * sizeof(floating))
        grads = dy + ((slice_ * f.count[1] + j0) * f.count[2] + k0) * step
        for r in range(runs):
            for panel in range(panels):
                for block in range((run + rows - 1) // rows):
                    m = block * rows
                    direct_find(sizeof(floating)).weight_lines[vectors][min(run - m, rows)](
                        work + offsets[r] + m, f.step[2] * channels, f.step[1] * length,
                        grads + panel * width, step, f.count[2] * step,
                        min(lines, f.count[1] - j0), min(some, f.count[2] - k0),
                        sums + ((panel * runs + r) * run + m) * width)


def weight_sizes(
    const Py_ssize_t[::1] frame, Py_ssize_t channels, Py_ssize_t across, Py_ssize_t strip,
):
    """Values of work that a thread of `correlate_weight` needs, for `across` outputs in panels."""
    cdef Frame f = read_frame(frame)
    return weight_work(f.taps[0] * f.taps[1] * f.taps[2] * channels, across, strip)


cdef Py_ssize_t weight_work(
    Py_ssize_t depth, Py_ssize_t across, Py_ssize_t strip,
) noexcept nogil:
    # dy, x (gathered, or the copies of cut runs and the zeros), and a run in blocks of rows
    return strip * (across + depth + _whole_blocks(depth)) + depth


cdef inline Py_ssize_t _whole_blocks(Py_ssize_t rows) noexcept nogil:
    return (rows + TILE_PIXELS - 1) // TILE_PIXELS * TILE_PIXELS


cdef void _correlate_weight_part(
    const floating* x, const floating* dy, floating* sums, const Frame* f, Py_ssize_t groups,
    Py_ssize_t group, Py_ssize_t depth, Py_ssize_t step, Py_ssize_t outputs, Py_ssize_t width,
    Py_ssize_t first, Py_ssize_t last, Py_ssize_t strip, floating* work, const floating** rows,
) noexcept nogil:
    """Sums of one group and `outputs` of it over pixels [first, last), strip by strip."""
    cdef Py_ssize_t channels = depth // (f.taps[0] * f.taps[1] * f.taps[2])
    cdef Py_ssize_t panels = (outputs + width - 1) // width
    cdef Py_ssize_t vectors = vectors_of(width, sizeof(floating)), run, some, r, i, c, panel
    cdef floating* grads = work
    cdef floating* blocks = grads + strip * panels * width
    work = blocks + strip * _whole_blocks(depth)
    memset(sums, 0, panels * depth * width * sizeof(floating))
    while first < last:
        some = min(strip, last - first)
        direct_find(sizeof(floating)).pack_panels[vectors](
            dy + first * step, step, some, outputs, grads)
        run = _point_runs(x + group * channels, f, groups, channels, TILE_PIXELS, first,
                          first + some, strip, work, rows)
        for r in range(depth // run):
            if panels <= FEW_PANELS and run >= TILE_PIXELS:
                for panel in range(panels):
                    for i in range((run + TILE_PIXELS - 1) // TILE_PIXELS):
                        # the last block overlaps the one before, whose rows it leaves alone
                        c = min(i * TILE_PIXELS, run - TILE_PIXELS)
                        direct_find(sizeof(floating)).weight_in_place[vectors](
                            <const void**> (rows + r * strip), c, grads + panel * some * width,
                            some, sums + (panel * depth + r * run + c) * width,
                            <int> min(<Py_ssize_t> TILE_PIXELS, run - i * TILE_PIXELS))
                continue
            direct_find(sizeof(floating)).pack_rows(
                <const void**> (rows + r * strip), some, run, blocks)
            for panel in range(panels):  # its part of dy stays in the first cache
                for i in range((run + TILE_PIXELS - 1) // TILE_PIXELS):
                    direct_find(sizeof(floating)).weight[vectors](
                        blocks + i * TILE_PIXELS * some, grads + panel * some * width, some,
                        sums + (panel * depth + r * run + i * TILE_PIXELS) * width,
                        <int> min(<Py_ssize_t> TILE_PIXELS, run - i * TILE_PIXELS))
        first += some


cdef Py_ssize_t _point_runs(
    const floating* x, const Frame* f, Py_ssize_t groups, Py_ssize_t width, Py_ssize_t shortest,
    Py_ssize_t p0, Py_ssize_t p1, Py_ssize_t stride, floating* work, const floating** rows,
) noexcept nogil:
    """Point pixels to their runs in x, or to one gathered run if runs are shorter than
    `shortest`; return the length of a run."""
    cdef Py_ssize_t kernel_rows = f.taps[0] * f.taps[1]
    cdef Py_ssize_t depth = kernel_rows * f.taps[2] * width
    cdef bint whole_rows = f.adjacent and groups == 1
    cdef Py_ssize_t run = f.taps[2] * width if whole_rows else width
    cdef Py_ssize_t p
    if run >= shortest or run == depth:
        point_rows(x, f, groups * width, width, whole_rows, p0, p1, stride, work, rows)
        return run
    gather(x, f, groups * width, 0, width, 0, kernel_rows, p0, p1, work)
    for p in range(p1 - p0):
        rows[p] = work + p * depth
    return depth


cdef void point_places(
    floating* y, const Frame* f, Py_ssize_t across, Py_ssize_t p0, Py_ssize_t p1, floating** places,
) noexcept nogil:
    """places[p - p0] := where the outputs of pixel p begin."""
    cdef Py_ssize_t p = p0, line, k
    cdef floating* at
    while p < p1:  # pixel by pixel along a line, for divisions are slow
        line = min(f.count[2] - p % f.count[2], p1 - p)
        at = y + output_place(f, p) * across
        for k in range(line):
            places[k] = at + k * f.stride[2] * across
        places += line
        p += line


cdef void point_rows(
    const floating* x, const Frame* f, Py_ssize_t channels, Py_ssize_t width, bint whole_rows,
    Py_ssize_t p0, Py_ssize_t p1, Py_ssize_t stride, floating* work, const floating** rows,
) noexcept nogil:
    """rows[r * stride + p - p0] := where run r of pixel p is read.

    `work` gives the zeros and then the copies of runs that the edge cuts.
    """
    cdef Py_ssize_t run = f.taps[2] * width if whole_rows else width
    cdef Py_ssize_t p = p0, line, n, i, j, k, a, b, z, y, tap, r
    cdef const floating* source
    cdef const floating* zeros = work
    memset(work, 0, run * sizeof(floating))
    work += run
    while p < p1:  # line by line of output pixels
        k = p % f.count[2]
        line = min(f.count[2] - k, p1 - p)
        j = p // f.count[2] % f.count[1] * f.step[1]
        i = p // f.count[2] // f.count[1] % f.count[0] * f.step[0]
        n = p // f.count[2] // f.count[1] // f.count[0]
        r = 0
        for a in range(f.taps[0]):
            z = i + f.offset[0][a]
            for b in range(f.taps[1]):
                y = j + f.offset[1][b]
                source = NULL
                if 0 <= z < f.size[0] and 0 <= y < f.size[1]:
                    source = x + ((n * f.size[0] + z) * f.size[1] + y) * f.size[2] * channels
                if whole_rows:
                    work = _point_line(
                        source, f, channels, f.taps[2], k * f.step[2] + f.offset[2][0], line,
                        zeros, work, rows + r * stride)
                    r += 1
                else:
                    for tap in range(f.taps[2]):
                        work = _point_line(
                            source, f, channels, 1, k * f.step[2] + f.offset[2][tap], line,
                            zeros, work, rows + r * stride)
                        r += 1
        rows += line
        p += line


cdef inline floating* _point_line(
    const floating* source, const Frame* f, Py_ssize_t channels, Py_ssize_t taps,
    Py_ssize_t first, Py_ssize_t line, const floating* zeros, floating* work,
    const floating** rows,
) noexcept nogil:
    """Point the pixels of a line to their runs of `taps` places, the first pixel's at `first`.

    `source` is the input row, or NULL outside of the image. Returns the rest of `work`.
    """
    cdef Py_ssize_t k, place
    for k in range(line):
        if source == NULL or first + taps <= 0 or first >= f.size[2]:
            rows[k] = zeros
        elif first >= 0 and first + taps <= f.size[2]:
            rows[k] = source + first * channels
        else:  # only whole kernel rows are ever cut, and they hold all channels
            place = max(first, 0)
            memset(work, 0, taps * channels * sizeof(floating))
            memcpy(work + (place - first) * channels, source + place * channels,
                   (min(first + taps, f.size[2]) - place) * channels * sizeof(floating))
            rows[k] = work
            work += taps * channels
        first += f.step[2]
    return work
