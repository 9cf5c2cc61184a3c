"""Convolution with fewer multiplications: Winograd's minimal filtering over tiles.

Notes
-----
A tile of outputs is A^T [sum over c of (G g_c G^T) * (B^T d_c B)] A, from the inputs d that it
sees: for F(4x4, 3x3) 36 products over the channels, where the definition has 144, each a matrix
product over many tiles, computed with the register tiles of ``direct.h``. With step 2 there are 81
products, of 36 distinct weights. Taps along the first axis, and dilation, are left as they are:
those add to the sum, this spreads the tile. An output depends on its own tile alone, so results
depend neither on the number of threads nor on the batch.

``correlate_blocks`` keeps a block of tiles in a thread's own cache, with all weights transformed
before; ``correlate_shared`` transforms many tiles first, with all threads, and then gives each
thread a panel of output channels: better for many channels and few tiles.

The gradient by weight is the adjoint: G^T [sum over tiles of (B^T d B) (A dy A^T)^T] G. All threads
transform a phase of tiles; then each adds its own part of the sums, so nothing is added twice.
"""

from cython cimport floating
from cython.parallel cimport parallel, prange, threadid

from fastconv.kernels.direct cimport TILE_PIXELS, TILE_ROWS, direct_find, vectors_of
from fastconv.kernels.epilogue cimport Epilogue, read_epilogue
from fastconv.kernels.im2col cimport Frame, read_frame
from fastconv.kernels.shares cimport Shares, share_out, share_take

cdef extern from "winograd.h" nogil:
    enum:
        MOST_ROWS
        NOWHERE
    ctypedef struct winograd_places:
        Py_ssize_t base
        Py_ssize_t* offset
        bint edge
    ctypedef struct winograd_transforms:
        int tile_h
        int tile_w
        int taps_h
        int taps_w
        int step_h
        int step_w
        int side_h
        int side_w
        int distinct_h
        int distinct_w
        void (*input)(
            const winograd_places* d, const winograd_places* next, Py_ssize_t channels, void* v,
            Py_ssize_t element) nogil
        int (*output)(
            const void* m, Py_ssize_t element, const void* bias, const winograd_places* out,
            const winograd_places* next, int cols, const Epilogue* epilogue) nogil
        void (*output_adjoint)(
            const winograd_places* dy, const winograd_places* next, int cols, int width, void* m,
            Py_ssize_t element) nogil
        void (*weights)(
            const void* w, const Py_ssize_t* steps, Py_ssize_t channels, int used, int width,
            void* u, Py_ssize_t element) nogil
        int (*weights_adjoint)(
            const void* s, Py_ssize_t element, int rows, int used, int width, void* dw,
            Py_ssize_t step, Py_ssize_t channels) nogil
    const winograd_transforms* winograd_find(
        int itemsize, int tile_h, int taps_h, int step_h, int tile_w, int taps_w, int step_w)

cdef enum:
    MOST_ELEMENTS = 81
    MOST_OUTPUTS = 16
    MOST_DEEP = 8  # taps along the first axis
    PAD = 16  # keeps the streams of a transform off a power of two, where they share cache sets

DEEPEST = MOST_DEEP
ROWS = MOST_ROWS


cdef struct Tiling:
    const winograd_transforms* do
    Py_ssize_t elements, distinct   # products of a tile, and weights of them
    Py_ssize_t images, deep         # output slices, the first axis apart, and along it
    Py_ssize_t slices               # of an image that are numbered as if they were images
    Py_ssize_t size[3]              # of the input
    Py_ssize_t apart[4]             # values from an image of it to the next, a slice, row and pixel
    Py_ssize_t count[3]             # outputs
    Py_ssize_t start[3]             # of which the first stands there
    Py_ssize_t stride[3]            # and they so far apart
    Py_ssize_t extent[3]            # in so many places
    Py_ssize_t first[3]             # offset of the first tap
    Py_ssize_t spread[3]            # dilation
    Py_ssize_t tiles[3]             # along an axis of a slice
    Py_ssize_t taps                 # along the first axis
    Py_ssize_t channels, outputs
    Py_ssize_t inputs_at[MOST_ELEMENTS]        # bytes from the first of a tile to each
    Py_ssize_t outputs_at[MOST_OUTPUTS]
    bint fetch                      # weights before they are used


cdef Tiling _tiling(
    const floating[:, :, :, :, :] x, const Py_ssize_t[::1] frame, Py_ssize_t tile_h,
    Py_ssize_t tile_w, Py_ssize_t outputs,
) noexcept nogil:
    cdef Frame f = read_frame(frame)
    cdef Tiling t
    cdef Py_ssize_t axis, span, i, j
    t.do = winograd_find(
        sizeof(floating), <int> tile_h, <int> f.taps[1], <int> f.step[1], <int> tile_w,
        <int> f.taps[2], <int> f.step[2])
    t.elements = t.do.side_h * t.do.side_w
    t.distinct = t.do.distinct_h * t.do.distinct_w
    t.taps = f.taps[0]
    t.channels, t.outputs = x.shape[4], outputs
    for axis in range(4):
        t.apart[axis] = x.strides[axis] // <Py_ssize_t> sizeof(floating)
    for axis in range(3):
        t.size[axis], t.count[axis] = f.size[axis], f.count[axis]
        t.start[axis], t.stride[axis] = f.start[axis], f.stride[axis]
        t.extent[axis] = f.extent[axis]
        t.first[axis] = f.offset[axis][0]
        t.spread[axis] = f.offset[axis][1] - f.offset[axis][0] if f.taps[axis] > 1 else 1
        if axis:
            span = (tile_h if axis == 1 else tile_w) * t.spread[axis]
            t.tiles[axis] = (t.count[axis] + span - 1) // span * t.spread[axis]
    t.fetch = False
    t.images, t.deep, t.slices = x.shape[0], t.count[0], 1
    if t.taps == 1 and t.first[0] == 0 and t.size[0] == t.count[0]:  # slices are images
        t.images, t.deep, t.apart[0] = t.images * t.deep, 1, t.apart[1]
        t.size[0] = t.count[0] = t.extent[0] = 1
    for i in range(t.do.side_h):
        for j in range(t.do.side_w):
            t.inputs_at[i * t.do.side_w + j] = <Py_ssize_t> sizeof(floating) * (
                i * t.spread[1] * t.apart[2] + j * t.spread[2] * t.apart[3])
    for i in range(tile_h):
        for j in range(tile_w):
            t.outputs_at[i * tile_w + j] = <Py_ssize_t> sizeof(floating) * t.outputs * (
                i * t.spread[1] * t.stride[1] * t.extent[2] + j * t.spread[2] * t.stride[2])
    return t


cdef inline Py_ssize_t _weight_of(const Tiling* t, Py_ssize_t e) noexcept nogil:
    """Which of the distinct weights product e of a tile has."""
    cdef Py_ssize_t i = min(e // t.do.side_w, <Py_ssize_t> t.do.distinct_h - 1)
    return i * t.do.distinct_w + min(e % t.do.side_w, <Py_ssize_t> t.do.distinct_w - 1)


cdef inline bint _is_first(const Tiling* t, Py_ssize_t e) noexcept nogil:
    """Whether product e is the first of its weight."""
    return e // t.do.side_w < t.do.distinct_h and e % t.do.side_w < t.do.distinct_w


cdef inline Py_ssize_t _start(Py_ssize_t tile, Py_ssize_t side, Py_ssize_t spread) noexcept nogil:
    """The first output of a tile along an axis: `spread` tiles interlock."""
    return tile * side if spread == 1 else tile // spread * side * spread + tile % spread


cdef struct Place:
    Py_ssize_t image, deep, row, col  # of a tile: its image, slice of that, and number along axes


cdef inline Place _place(const Tiling* t, Py_ssize_t tile) noexcept nogil:
    cdef Py_ssize_t flat = t.tiles[1] * t.tiles[2]
    return Place(tile // flat // t.slices, tile // flat % t.slices, tile % flat // t.tiles[2],
                 tile % t.tiles[2])


cdef inline void _go_on(const Tiling* t, Place* at) noexcept nogil:
    """To the next tile."""
    at.col += 1
    if at.col == t.tiles[2]:
        at.col, at.row = 0, at.row + 1
        if at.row == t.tiles[1]:
            at.row, at.deep = 0, at.deep + 1
            if at.deep == t.slices:
                at.deep, at.image = 0, at.image + 1


def tiles_size(Py_ssize_t elements, Py_ssize_t tiles, Py_ssize_t channels):
    """Values that `tiles` transformed tiles of inputs or outputs take."""
    return elements * _tiles_element(tiles, channels)


def panel_size(Py_ssize_t distinct, Py_ssize_t channels, Py_ssize_t width, Py_ssize_t taps):
    """Values that a panel of transformed weights takes."""
    return distinct * _panel_element(channels, width, taps)


cdef inline Py_ssize_t _tiles_element(Py_ssize_t tiles, Py_ssize_t channels) noexcept nogil:
    # Whole register tiles are multiplied, so a last one that is not full reads on.
    return _whole(tiles) * channels + PAD


cdef inline Py_ssize_t _panel_element(
    Py_ssize_t channels, Py_ssize_t width, Py_ssize_t taps,
) noexcept nogil:
    return taps * channels * width + PAD


def transform_weights(
    const floating[:, :, :, :, :] w,   # IN   (K, taps along three axes, C)
    floating[:, ::1] u,                # OUT  (panels, sizes(...)[1])
    Py_ssize_t tile_h, Py_ssize_t tile_w,  # OPT  outputs of a tile
    int step_h, int step_w,            # OPT  and input places between two
    Py_ssize_t width,                  # OPT  output channels of a panel
    int n_threads,
):
    """u[panel] := G g G^T of its kernels."""
    cdef Py_ssize_t panel
    cdef const winograd_transforms* do = winograd_find(
        sizeof(floating), <int> tile_h, <int> w.shape[2], step_h, <int> tile_w, <int> w.shape[3],
        step_w)
    for panel in prange(u.shape[0], schedule="dynamic", nogil=True, num_threads=n_threads):
        _transform_panel(w, do, panel, width, &u[panel, 0])


cdef void _transform_panel(
    const floating[:, :, :, :, :] w, const winograd_transforms* do, Py_ssize_t panel,
    Py_ssize_t width, floating* u,
) noexcept nogil:
    cdef Py_ssize_t item = sizeof(floating), tap, first = panel * width
    cdef Py_ssize_t steps[4]
    steps[0], steps[1] = w.strides[2] // item, w.strides[3] // item
    steps[2], steps[3] = w.strides[4] // item, w.strides[0] // item
    for tap in range(w.shape[1]):
        do.weights(
            &w[first, tap, 0, 0, 0], steps, w.shape[4], <int> min(width, w.shape[0] - first),
            <int> width,
            u + tap * w.shape[4] * width,
            _panel_element(w.shape[4], width, w.shape[1]))


def correlate_blocks(
    const floating[:, :, :, :, :] x,     # IN   (N, D, H, W, C), pixels contiguous
    const floating[:, ::1] u,            # IN   (panels, ...), from transform_weights
    const floating[::1] bias,            # IN   (panels * width)
    floating[:, :, :, :, ::1] y,         # OUT  (N, D', H', W', K)
    const floating[:, :, :, :, ::1] residual,  # IN   like y, or None
    double slope, double top,            # OPT  of the activation
    const Py_ssize_t[::1] frame,
    Py_ssize_t tile_h, Py_ssize_t tile_w,  # OPT  outputs of a tile
    Py_ssize_t block,                    # OPT  tiles of a task
    bint fetch,                          # OPT  weights before they are used
    Py_ssize_t panels, Py_ssize_t width,  # OPT  multiplied at a time; their output channels
    const floating[::1] zeros,           # IN   (C)
    floating[:, ::1] work,               # TEMP (n_threads, taps * size of tiles + of products)
    int n_threads,
):
    """y := x correlated with the kernels, a block of tiles after the other.

    The epilogue follows. Returns whether any tile had an infinity or NaN before it, which its
    other outputs then have too.
    """
    cdef Epilogue epilogue = read_epilogue(y, residual, slope, top)
    cdef Tiling t = _tiling(x, frame, tile_h, tile_w, y.shape[4])
    cdef Py_ssize_t tiles = t.images * t.tiles[1] * t.tiles[2], _ticket, first
    cdef Py_ssize_t tasks = (tiles + block - 1) // block
    cdef Shares shares
    cdef int wild = 0
    t.fetch = fetch
    share_out(&shares, tasks, n_threads)
    with nogil, parallel(num_threads=n_threads):
        for _ticket in prange(tasks, schedule="dynamic"):
            first = share_take(&shares, threadid()) * block
            wild |= _correlate_block(
                &x[0, 0, 0, 0, 0], u, &bias[0], &y[0, 0, 0, 0, 0], &epilogue, &t, panels, width,
                first, min(first + block, tiles), &zeros[0], &work[threadid(), 0],
                _tiles_element(block, t.channels), _tiles_element(block, width))
    return wild


cdef int _correlate_block(
    const floating* x, const floating[:, ::1] u, const floating* bias, floating* y,
    const Epilogue* epilogue, const Tiling* t, Py_ssize_t panels, Py_ssize_t width,
    Py_ssize_t first, Py_ssize_t last, const floating* zeros, floating* work,
    Py_ssize_t element, Py_ssize_t product_element,
) noexcept nogil:
    """The block's tiles, slice after slice; a ring holds the input slices that one output needs."""
    cdef const floating* ring[MOST_DEEP]
    cdef Py_ssize_t size = t.elements * element, z, read, a, a0, a1
    cdef Py_ssize_t some, panel, ready = 0
    cdef int wild = 0
    for z in range(t.deep):
        read = z + t.first[0]  # the slice at the first tap
        a0, a1 = max(-read, 0), min(t.taps, t.size[0] - read)
        for a in range(a0, a1):
            ring[a - a0] = work + (read + a) % t.taps * size
            if read + a >= ready:
                _transform_tiles(x, t, read + a, first, last, first + _whole(last - first), zeros,
                                 work + (read + a) % t.taps * size, t.channels, element)
                ready = read + a + 1
        for some in range((u.shape[0] + panels - 1) // panels):
            panel = some * panels
            wild |= _multiply_panels(
                ring, a1 - a0, element, &u[panel, 0] + a0 * t.channels * width, u.shape[1], bias,
                y, epilogue, t, z, panel, min(panel + panels, u.shape[0]), width, first, last,
                work + t.taps * size, product_element)
    return wild


def correlate_shared(
    const floating[:, :, :, :, :] x,     # IN   (N, D, H, W, C), pixels contiguous
    const floating[:, :, :, :, :] w,     # IN   (K, 1, h, w, C)
    const floating[:, ::1] ready,        # IN   (panels, ...), from transform_weights, or empty
    const floating[::1] bias,            # IN   (panels * width)
    floating[:, :, :, :, ::1] y,         # OUT  (N, D', H', W', K)
    const floating[:, :, :, :, ::1] residual,  # IN   like y, or None
    double slope, double top,            # OPT  of the activation
    const Py_ssize_t[::1] frame,
    Py_ssize_t tile_h, Py_ssize_t tile_w,  # OPT  outputs of a tile
    Py_ssize_t phase, Py_ssize_t block,  # OPT  tiles transformed at a time, multiplied at a time
    bint fetch,                          # OPT  weights before they are used
    Py_ssize_t some, Py_ssize_t width,   # OPT  panels multiplied at a time; their output channels
    const floating[::1] zeros,           # IN   (C)
    floating[::1] v,                     # TEMP (size of `phase` tiles)
    floating[:, ::1] work,               # TEMP (n_threads, some * sizes of a panel and a product)
    int n_threads,
):
    """y := x correlated with the kernels, some panels of output channels after the others.

    Their weights are transformed on the spot unless they are `ready`. The epilogue follows.
    Returns whether any tile had an infinity or NaN before it, which its other outputs then have
    too.
    """
    cdef Epilogue epilogue = read_epilogue(y, residual, slope, top)
    cdef Tiling t = _tiling(x, frame, tile_h, tile_w, y.shape[4])
    cdef Py_ssize_t tiles = t.images * t.tiles[1] * t.tiles[2]
    cdef Py_ssize_t panels = (t.outputs + width - 1) // width
    cdef Py_ssize_t element = _tiles_element(phase, t.channels)
    cdef Py_ssize_t at, count, groups, _ticket, task, first, part
    cdef Shares shares
    cdef int wild = 0
    t.fetch = fetch
    for part in range((tiles + phase - 1) // phase):
        at = part * phase
        count = min(phase, tiles - at)
        groups = (count + TILE_PIXELS - 1) // TILE_PIXELS
        share_out(&shares, groups, n_threads)
        with nogil, parallel(num_threads=n_threads):
            for _ticket in prange(groups, schedule="dynamic"):
                first = share_take(&shares, threadid()) * TILE_PIXELS
                _transform_tiles(
                    &x[0, 0, 0, 0, 0], &t, 0, at + first, at + min(first + TILE_PIXELS, count),
                    at + first + TILE_PIXELS, &zeros[0], &v[first * t.channels], t.channels,
                    element)
            for task in prange((panels + some - 1) // some, schedule="dynamic"):
                wild |= _multiply_blocks(
                    &v[0], element, w, ready, &bias[0], &y[0, 0, 0, 0, 0], &epilogue, &t,
                    task * some, min(task * some + some, panels), width, at, count, block,
                    &work[threadid(), 0])
    return wild


cdef int _multiply_blocks(
    const floating* v, Py_ssize_t element, const floating[:, :, :, :, :] w,
    const floating[:, ::1] ready, const floating* bias, floating* y, const Epilogue* epilogue,
    const Tiling* t, Py_ssize_t panel0, Py_ssize_t panel1, Py_ssize_t width, Py_ssize_t at,
    Py_ssize_t tiles, Py_ssize_t block, floating* work,
) noexcept nogil:
    cdef Py_ssize_t u_step = t.distinct * _panel_element(t.channels, width, 1), part, panel
    cdef const floating* u = work
    cdef const floating* v_at
    cdef int wild = 0
    if ready.shape[0]:
        u = &ready[panel0, 0]
    else:
        for panel in range(panel0, panel1):
            _transform_panel(w, t.do, panel, width, work)
            work += u_step
    for part in range((tiles + block - 1) // block):
        v_at = v + part * block * t.channels
        wild |= _multiply_panels(
            &v_at, 1, element, u, u_step, bias, y, epilogue, t, 0, panel0, panel1, width,
            at + part * block, at + min(part * block + block, tiles), work,
            _tiles_element(block, width))
    return wild


cdef void _transform_tiles(
    const floating* x, const Tiling* t, Py_ssize_t z, Py_ssize_t first, Py_ssize_t last,
    Py_ssize_t end, const floating* zeros, floating* v, Py_ssize_t step, Py_ssize_t element,
) noexcept nogil:
    """v[e, tile - first] := B^T d B in slice z for tiles [first, last), zeros from there to end."""
    cdef winograd_places places[2]
    cdef Py_ssize_t offset[2][MOST_ELEMENTS]
    cdef Place at = _place(t, first)
    cdef Py_ssize_t tile, _tile, e
    _find_inputs(x, t, z, &at, zeros, offset[first % 2], &places[first % 2])
    for tile in range(first, last):
        _go_on(t, &at)
        _find_inputs(x, t, z, &at, zeros, offset[(tile + 1) % 2], &places[(tile + 1) % 2])
        t.do.input(&places[tile % 2], &places[(tile + 1) % 2], t.channels, v, element)
        v += step
    for e in range(t.elements):
        offset[0][e] = 0
    places[0].base, places[0].offset, places[0].edge = <Py_ssize_t> zeros, offset[0], True
    for _tile in range(last, end):
        t.do.input(places, places, t.channels, v, element)
        v += step


cdef inline void _find_inputs(
    const floating* x, const Tiling* t, Py_ssize_t z, const Place* at, const floating* zeros,
    Py_ssize_t* offset, winograd_places* places,
) noexcept nogil:
    """Where the inputs of a tile stand in slice z, `zeros` outside of the image."""
    cdef Py_ssize_t deep = at.deep + z, i, j, row, col
    cdef Py_ssize_t top = _start(at.row, t.do.tile_h, t.spread[1]) * t.do.step_h + t.first[1]
    cdef Py_ssize_t left = _start(at.col, t.do.tile_w, t.spread[2]) * t.do.step_w + t.first[2]
    cdef const floating* line
    if (0 <= deep < t.size[0]
            and 0 <= top and top + (t.do.side_h - 1) * t.spread[1] < t.size[1]
            and 0 <= left and left + (t.do.side_w - 1) * t.spread[2] < t.size[2]):
        places.base = <Py_ssize_t> (
            x + at.image * t.apart[0] + deep * t.apart[1] + top * t.apart[2] + left * t.apart[3])
        places.offset, places.edge = <Py_ssize_t*> t.inputs_at, False
        return
    places.base, places.offset, places.edge = 0, offset, True
    for i in range(t.do.side_h):
        row = top + i * t.spread[1]
        if 0 <= deep < t.size[0] and 0 <= row < t.size[1]:
            line = x + at.image * t.apart[0] + deep * t.apart[1] + row * t.apart[2]
            for j in range(t.do.side_w):
                col = left + j * t.spread[2]
                offset[j] = <Py_ssize_t> (
                    line + col * t.apart[3] if 0 <= col < t.size[2] else zeros)
        else:
            for j in range(t.do.side_w):
                offset[j] = <Py_ssize_t> zeros
        offset += t.do.side_w


cdef inline Py_ssize_t _whole(Py_ssize_t tiles) noexcept nogil:
    """Tiles up to a whole register tile."""
    return (tiles + TILE_PIXELS - 1) // TILE_PIXELS * TILE_PIXELS


cdef inline void _find_outputs(
    const floating* y, const Tiling* t, Py_ssize_t z, const Place* at, Py_ssize_t* offset,
    winograd_places* places,
) noexcept nogil:
    """Where the outputs of a tile stand in slice z, NOWHERE outside of the image."""
    cdef Py_ssize_t top = _start(at.row, t.do.tile_h, t.spread[1]), i, j
    cdef Py_ssize_t left = _start(at.col, t.do.tile_w, t.spread[2])
    places.base = <Py_ssize_t> (y + t.outputs * (
        ((at.image * t.extent[0] + t.start[0] + (at.deep + z) * t.stride[0]) * t.extent[1]
         + t.start[1] + top * t.stride[1]) * t.extent[2]
        + t.start[2] + left * t.stride[2]))
    places.offset, places.edge = <Py_ssize_t*> t.outputs_at, False
    if (top + (t.do.tile_h - 1) * t.spread[1] < t.count[1]
            and left + (t.do.tile_w - 1) * t.spread[2] < t.count[2]):
        return
    places.offset, places.edge = offset, True
    for i in range(t.do.tile_h):
        for j in range(t.do.tile_w):
            offset[i * t.do.tile_w + j] = NOWHERE
            if top + i * t.spread[1] < t.count[1] and left + j * t.spread[2] < t.count[2]:
                offset[i * t.do.tile_w + j] = t.outputs_at[i * t.do.tile_w + j]


cdef inline void _go_past(Py_ssize_t size, winograd_places* places) noexcept nogil:
    """To the output channels that lie `size` bytes on, in a tile and the next."""
    places[0].base += size
    places[1].base += size


cdef int _multiply_panels(
    const floating** v, Py_ssize_t taps, Py_ssize_t element, const floating* u, Py_ssize_t u_step,
    const floating* bias, floating* y, const Epilogue* epilogue, const Tiling* t, Py_ssize_t z,
    Py_ssize_t panel0, Py_ssize_t panel1, Py_ssize_t width, Py_ssize_t first, Py_ssize_t last,
    floating* product, Py_ssize_t product_element,
) noexcept nogil:
    """Outputs of panels [panel0, panel1) in slice z for tiles [first, last), where each v begins.

    A product's tiles stay in the first cache while the panels' weights pass by; u is the first of
    these panels.
    """
    cdef const floating* rows[MOST_DEEP]
    cdef winograd_places places[2]
    cdef Py_ssize_t offset[2][MOST_OUTPUTS]
    cdef Place at = _place(t, first)
    cdef Py_ssize_t e, a, tile, panel, size = width * <Py_ssize_t> sizeof(floating)
    cdef Py_ssize_t groups = _whole(last - first) // TILE_PIXELS
    cdef const floating* weights
    cdef const floating* next = u
    cdef int wild = 0
    for e in range(t.elements):
        for a in range(taps):
            rows[a] = v[a] + e * element
        for panel in range(panel1 - panel0):
            weights = next
            next = (weights + u_step if panel + 1 < panel1 - panel0
                    else u + _weight_of(t, (e + 1) % t.elements)
                    * _panel_element(t.channels, width, t.taps))
            direct_find(sizeof(floating)).product[vectors_of(width, sizeof(floating))](
                <const void**> rows, taps, t.channels, t.channels, weights,
                next if t.fetch else NULL,
                product + (panel * t.elements + e) * product_element, groups)
    _find_outputs(y + panel0 * width, t, z, &at, offset[first % 2], &places[first % 2])
    for tile in range(first, last):
        _go_on(t, &at)
        _find_outputs(
            y + panel0 * width, t, z, &at, offset[(tile + 1) % 2], &places[(tile + 1) % 2])
        for panel in range(panel1 - panel0):
            wild |= t.do.output(
                product + panel * t.elements * product_element + (tile - first) * width,
                product_element, bias + (panel0 + panel) * width, &places[tile % 2],
                &places[(tile + 1) % 2], <int> min(width, t.outputs - (panel0 + panel) * width),
                epilogue)
            _go_past(size, places)
        _go_past((panel0 - panel1) * size, places)
    return wild


def correlate_weight(
    const floating[:, :, :, :, :] x,     # IN   (N, D, H, W, C), pixels contiguous
    const floating[:, :, :, :, ::1] dy,  # IN   (N, D', H', W', K)
    floating[:, ::1] dw,                 # OUT  (K, taps * C)
    const Py_ssize_t[::1] frame,
    Py_ssize_t tile_h, Py_ssize_t tile_w,  # OPT  outputs of a tile
    Py_ssize_t phase, Py_ssize_t width,  # OPT  tiles at a time; output channels of a panel
    Py_ssize_t step,                     # OPT  at least C
    const floating[::1] zeros,           # IN   (C)
    floating[::1] v,                     # TEMP (size of `phase` tiles, of `step` channels)
    floating[::1] m,                     # TEMP (size of `phase` tiles, of panels * width channels)
    floating[::1] sums,                  # TEMP (distinct, C, panels * width), or empty: one phase
    floating[:, ::1] work,               # TEMP (n_threads, distinct * ROWS * width)
    int n_threads,
):
    """dw[k, t, c] := sum over the pixels p of x[p, t, c] dy[p, k].

    Tap by tap along the first axis. Returns whether any sum is an infinity or NaN.
    """
    cdef Tiling t = _tiling(x, frame, tile_h, tile_w, dy.shape[4])
    cdef Py_ssize_t tiles, panels = (t.outputs + width - 1) // width
    cdef Py_ssize_t v_element = _tiles_element(phase, step)
    cdef Py_ssize_t m_element = panels * phase * width + PAD
    cdef Py_ssize_t sum_element = t.channels * panels * width
    cdef Py_ssize_t tap, at, some, task, first, last, part
    cdef int wild = 0
    t.slices = t.deep
    tiles = t.images * t.slices * t.tiles[1] * t.tiles[2]
    for tap in range(t.taps):
        for part in range((tiles + phase - 1) // phase):
            at = part * phase
            some = min(phase, tiles - at)
            with nogil, parallel(num_threads=n_threads):
                for task in prange((some + TILE_PIXELS - 1) // TILE_PIXELS, schedule="dynamic"):
                    first = task * TILE_PIXELS
                    last = at + min(first + TILE_PIXELS, some)
                    _transform_tiles(
                        &x[0, 0, 0, 0, 0], &t, t.first[0] + tap, at + first, last, last,
                        &zeros[0], &v[first * step], step, v_element)
                    _transform_outputs(
                        &dy[0, 0, 0, 0, 0], &t, at + first, last, 0, panels, width,
                        &m[first * width], phase, m_element)
                if sums.shape[0]:
                    for task in prange(t.distinct, schedule="dynamic"):
                        # the last weights have the most products: begin with them
                        _add_weight(
                            &v[0], step, v_element, &m[0], m_element, phase, some, &t, panels,
                            width, t.distinct - 1 - task,
                            &sums[(t.distinct - 1 - task) * sum_element], part > 0)
                else:
                    for task in prange(panels, schedule="dynamic"):
                        wild |= _finish_panel(
                            &v[0], step, v_element, &m[task * phase * width], m_element, some, &t,
                            tap, task, width, &dw[0, 0], &work[threadid(), 0])
        if sums.shape[0]:
            for task in prange((t.channels + MOST_ROWS - 1) // MOST_ROWS * panels,
                               schedule="guided", nogil=True, num_threads=n_threads):
                first = task // panels * MOST_ROWS
                wild |= _finish_rows(
                    &sums[(task % panels * t.channels + first) * width], sum_element, &t, tap,
                    first, task % panels, width, &dw[0, 0])
    return wild


def correlate_weight_parts(
    const floating[:, :, :, :, :] x,     # IN   (N, D, H, W, C), pixels contiguous
    const floating[:, :, :, :, ::1] dy,  # IN   (N, D', H', W', K)
    floating[:, ::1] dw,                 # OUT  (K, taps * C)
    const Py_ssize_t[::1] frame,
    Py_ssize_t tile_h, Py_ssize_t tile_w,  # OPT  outputs of a tile
    Py_ssize_t span, Py_ssize_t block,   # OPT  tiles of a part, and at a time
    Py_ssize_t width,                    # OPT  output channels of a panel
    Py_ssize_t step,                     # OPT  at least C
    const floating[::1] zeros,           # IN   (C)
    floating[::1] sums,                  # TEMP (parts * distinct * C * panels * width)
    floating[:, ::1] work,               # TEMP (n_threads, sizes of `block` tiles of x and dy)
    int n_threads,
):
    """The same where the sums are small: each part has its own, and meets no other thread."""
    cdef Tiling t = _tiling(x, frame, tile_h, tile_w, dy.shape[4])
    cdef Py_ssize_t tiles, panels = (t.outputs + width - 1) // width
    cdef Py_ssize_t sum_element = t.channels * panels * width
    cdef Py_ssize_t size = t.distinct * sum_element, parts = sums.shape[0] // size
    cdef Py_ssize_t tap, part, task, first
    cdef int wild = 0
    t.slices = t.deep
    tiles = t.images * t.slices * t.tiles[1] * t.tiles[2]
    for tap in range(t.taps):
        with nogil, parallel(num_threads=n_threads):
            for part in prange(parts, schedule="dynamic"):
                _add_part(
                    &x[0, 0, 0, 0, 0], &dy[0, 0, 0, 0, 0], &t, tap, part * span,
                    min(part * span + span, tiles), block, &zeros[0], step, panels, width,
                    &work[threadid(), 0], &sums[part * size])
            for task in prange((t.channels + MOST_ROWS - 1) // MOST_ROWS * panels,
                               schedule="guided"):
                first = (task % panels * t.channels + task // panels * MOST_ROWS) * width
                _join_rows(
                    &sums[first], parts, size, t.distinct, sum_element,
                    min(<Py_ssize_t> MOST_ROWS, t.channels - task // panels * MOST_ROWS) * width)
                wild |= _finish_rows(&sums[first], sum_element, &t, tap,
                                     task // panels * MOST_ROWS, task % panels, width, &dw[0, 0])
    return wild


cdef void _add_part(
    const floating* x, const floating* dy, const Tiling* t, Py_ssize_t tap, Py_ssize_t first,
    Py_ssize_t last, Py_ssize_t block, const floating* zeros, Py_ssize_t step, Py_ssize_t panels,
    Py_ssize_t width, floating* work, floating* sums,
) noexcept nogil:
    """Tiles [first, last), a block that stays in cache at a time, with one panel after another."""
    cdef Py_ssize_t v_element = _tiles_element(block, step)
    cdef Py_ssize_t m_element = block * width + PAD
    cdef floating* m = work + t.elements * v_element
    cdef Py_ssize_t size = t.channels * width, at = first, some, panel, e
    while at < last:
        some = min(block, last - at)
        _transform_tiles(x, t, t.first[0] + tap, at, at + some, at + some, zeros, work, step,
                         v_element)
        for panel in range(panels):
            _transform_outputs(dy, t, at, at + some, panel, panel + 1, width, m, block, m_element)
            for e in range(t.elements):
                _add_element(
                    work + e * v_element, step, m + e * m_element, block, some, t, 1, width,
                    sums + (_weight_of(t, e) * panels + panel) * size,
                    at > first or not _is_first(t, e))
        at += some


cdef void _join_rows(
    floating* sums, Py_ssize_t parts, Py_ssize_t part, Py_ssize_t weights, Py_ssize_t element,
    Py_ssize_t length,
) noexcept nogil:
    """The first part's rows of every weight += those of the others."""
    cdef Py_ssize_t _weight, s, i
    for _weight in range(weights):
        for s in range(1, parts):
            for i in range(length):  # vectorised
                sums[i] += sums[s * part + i]
        sums += element


cdef void _transform_outputs(
    const floating* dy, const Tiling* t, Py_ssize_t first, Py_ssize_t last, Py_ssize_t panel0,
    Py_ssize_t panel1, Py_ssize_t width, floating* m, Py_ssize_t phase, Py_ssize_t m_element,
) noexcept nogil:
    """m[e, panel, tile] := A dy A^T, of panels [panel0, panel1)."""
    cdef winograd_places places[2]
    cdef Py_ssize_t offset[2][MOST_OUTPUTS]
    cdef Place at = _place(t, first)
    cdef Py_ssize_t tile, panel, size = width * <Py_ssize_t> sizeof(floating)
    _find_outputs(dy + panel0 * width, t, 0, &at, offset[first % 2], &places[first % 2])
    for tile in range(first, last):
        _go_on(t, &at)
        _find_outputs(
            dy + panel0 * width, t, 0, &at, offset[(tile + 1) % 2], &places[(tile + 1) % 2])
        for panel in range(panel0, panel1):
            t.do.output_adjoint(
                &places[tile % 2], &places[(tile + 1) % 2],
                <int> min(width, t.outputs - panel * width), <int> width,
                m + (panel - panel0) * phase * width, m_element)
            _go_past(size, places)
        _go_past((panel0 - panel1) * size, places)
        m += width


cdef void _add_weight(
    const floating* v, Py_ssize_t step, Py_ssize_t v_element, const floating* m,
    Py_ssize_t m_element, Py_ssize_t phase, Py_ssize_t tiles, const Tiling* t, Py_ssize_t panels,
    Py_ssize_t width, Py_ssize_t weight, floating* sums, bint add,
) noexcept nogil:
    """One weight's sums[panel, c] := or += its products over the tiles of a phase."""
    cdef Py_ssize_t e
    for e in range(t.elements):
        if _weight_of(t, e) == weight:
            _add_element(v + e * v_element, step, m + e * m_element, phase, tiles, t, panels, width,
                         sums, add or not _is_first(t, e))


cdef inline void _add_element(
    const floating* v, Py_ssize_t step, const floating* m, Py_ssize_t phase, Py_ssize_t tiles,
    const Tiling* t, Py_ssize_t panels, Py_ssize_t width, floating* sums, bint add,
) noexcept nogil:
    """sums[panel, c] := or += the products of one element."""
    cdef Py_ssize_t vectors = vectors_of(width, sizeof(floating)), rows = TILE_ROWS(vectors)
    cdef Py_ssize_t panel, row, c
    for panel in range(panels):
        for row in range((t.channels + rows - 1) // rows):
            c = row * rows
            direct_find(sizeof(floating)).outer[vectors](
                v + c, step, m + panel * phase * width, tiles,
                sums + (panel * t.channels + c) * width, <int> min(rows, t.channels - c), add)


cdef int _finish_panel(
    const floating* v, Py_ssize_t step, Py_ssize_t v_element, const floating* m,
    Py_ssize_t m_element, Py_ssize_t tiles, const Tiling* t, Py_ssize_t tap, Py_ssize_t panel,
    Py_ssize_t width, floating* dw, floating* work,
) noexcept nogil:
    """A panel's gradients where all tiles are at hand: its sums never leave the cache.

    The rows of a cache line of v follow one another, while it and the tiles of m are in L1.
    """
    cdef Py_ssize_t vectors = vectors_of(width, sizeof(floating)), rows = TILE_ROWS(vectors)
    cdef Py_ssize_t part, row, some, c, e
    cdef int wild = 0
    for part in range((t.channels + MOST_ROWS - 1) // MOST_ROWS):
        c = part * MOST_ROWS
        some = min(<Py_ssize_t> MOST_ROWS, t.channels - c)
        for e in range(t.elements):
            for row in range((some + rows - 1) // rows):
                direct_find(sizeof(floating)).outer[vectors](
                    v + e * v_element + c + row * rows, step, m + e * m_element, tiles,
                    work + (_weight_of(t, e) * MOST_ROWS + row * rows) * width,
                    <int> min(rows, some - row * rows), not _is_first(t, e))
        wild |= _finish_rows(work, MOST_ROWS * width, t, tap, c, panel, width, dw)
    return wild


cdef int _finish_rows(
    const floating* sums, Py_ssize_t element, const Tiling* t, Py_ssize_t tap, Py_ssize_t c,
    Py_ssize_t panel, Py_ssize_t width, floating* dw,
) noexcept nogil:
    cdef Py_ssize_t depth = t.do.taps_h * t.do.taps_w * t.channels
    return t.do.weights_adjoint(
        sums, element, <int> min(<Py_ssize_t> MOST_ROWS, t.channels - c),
        <int> min(width, t.outputs - panel * width), <int> width,
        dw + (panel * width * t.taps + tap) * depth + c, t.taps * depth, t.channels)
