"""3x3 convolution with a quarter of the multiplications: Winograd's F(4x4, 3x3).

Notes
-----
A tile of 4x4 outputs is A^T [sum over c of (G g_c G^T) * (B^T d_c B)] A, from the 6x6 inputs d
that it sees: 36 products over the channels, each a matrix product over many tiles, computed
with the register tiles of ``direct.h``. An output depends on its own tile alone, so results
depend neither on the number of threads nor on the batch.

``blocks`` keeps a block of tiles in a thread's own cache, with all weights transformed before;
``shared`` transforms many tiles first, with all threads, and then gives each thread a panel of
output channels, whose weights it transforms on the spot: better for many channels, few tiles.
"""

from cython cimport floating
from cython.parallel cimport parallel, prange, threadid

from fastconv.kernels.im2col cimport Frame, read_frame

cdef extern from "direct.h" nogil:
    enum:
        TILE_PIXELS
        VECTOR_BYTES
    void direct_tile_float(
        const float** rows, Py_ssize_t runs, Py_ssize_t stride, Py_ssize_t run, const float* w,
        const float* bias, float** out, int pixels, int cols)
    void direct_tile_double(
        const double** rows, Py_ssize_t runs, Py_ssize_t stride, Py_ssize_t run, const double* w,
        const double* bias, double** out, int pixels, int cols)

cdef extern from "winograd.h" nogil:
    void winograd_input_float(const float** d, Py_ssize_t channels, float* v, Py_ssize_t element)
    void winograd_input_double(
        const double** d, Py_ssize_t channels, double* v, Py_ssize_t element)
    int winograd_output_float(
        const float* m, Py_ssize_t element, const float* bias, float** out, int cols)
    int winograd_output_double(
        const double* m, Py_ssize_t element, const double* bias, double** out, int cols)
    void winograd_weights_float(
        const float* w, Py_ssize_t step_tap, Py_ssize_t step_c, Py_ssize_t step_k,
        Py_ssize_t channels, int used, float* u, Py_ssize_t element)
    void winograd_weights_double(
        const double* w, Py_ssize_t step_tap, Py_ssize_t step_c, Py_ssize_t step_k,
        Py_ssize_t channels, int used, double* u, Py_ssize_t element)

cdef enum:
    ELEMENTS = 36
    SIDE = 4
    PAD = 16  # keeps the 36 streams of a transform off a power of two, where they share cache sets

LANE_BYTES = VECTOR_BYTES


def element_sizes(Py_ssize_t tiles, Py_ssize_t channels, Py_ssize_t width):
    """Values that `tiles` transformed tiles, a transformed panel and a product take."""
    return (ELEMENTS * _tiles_element(tiles, channels), ELEMENTS * _panel_element(channels, width),
            ELEMENTS * _tiles_element(tiles, width))


cdef inline Py_ssize_t _tiles_element(Py_ssize_t tiles, Py_ssize_t channels) noexcept nogil:
    # Whole register tiles are multiplied, so a last one that is not full reads on.
    return (tiles + TILE_PIXELS - 1) // TILE_PIXELS * TILE_PIXELS * channels + PAD


cdef inline Py_ssize_t _panel_element(Py_ssize_t channels, Py_ssize_t width) noexcept nogil:
    return channels * width + PAD


cdef struct Tiling:
    Py_ssize_t height, width        # of the input
    Py_ssize_t out_height, out_width
    Py_ssize_t top, left            # where the first tile reads
    Py_ssize_t down, across         # tiles of an image
    Py_ssize_t channels, outputs


cdef Tiling _tiling(
    const Py_ssize_t[::1] frame, Py_ssize_t channels, Py_ssize_t outputs,
) noexcept nogil:
    cdef Frame f = read_frame(frame)
    cdef Tiling t
    t.height, t.width = f.size[1], f.size[2]
    t.out_height, t.out_width = f.count[1], f.count[2]
    t.top, t.left = f.offset[1][0], f.offset[2][0]
    t.down = (t.out_height + SIDE - 1) // SIDE
    t.across = (t.out_width + SIDE - 1) // SIDE
    t.channels, t.outputs = channels, outputs
    return t


def transform_weights(
    const floating[:, :, ::1] w,      # IN   (1, K, 9 C), or (1, 9 C, K)
    bint w_by_output,                 # OPT  the first of the two
    floating[:, ::1] u,               # OUT  (panels, element_sizes(...)[1])
    Py_ssize_t channels, Py_ssize_t width,
    int n_threads,
):
    """u[panel] := G g G^T of its kernels."""
    cdef Py_ssize_t panel
    for panel in prange(u.shape[0], schedule="dynamic", nogil=True, num_threads=n_threads):
        _transform_panel(w, w_by_output, panel, channels, width, &u[panel, 0])


cdef void _transform_panel(
    const floating[:, :, ::1] w, bint w_by_output, Py_ssize_t panel, Py_ssize_t channels,
    Py_ssize_t width, floating* u,
) noexcept nogil:
    cdef Py_ssize_t outputs = w.shape[1] if w_by_output else w.shape[2]
    cdef Py_ssize_t first = panel * width
    cdef int used = <int> min(width, outputs - first)
    cdef Py_ssize_t step_tap = channels if w_by_output else channels * outputs
    cdef Py_ssize_t step_c = 1 if w_by_output else outputs
    cdef Py_ssize_t step_k = 9 * channels if w_by_output else 1
    cdef const floating* at = &w[0, 0, 0] + first * step_k
    if floating is float:
        winograd_weights_float(at, step_tap, step_c, step_k, channels, used, u,
                               _panel_element(channels, width))
    else:
        winograd_weights_double(at, step_tap, step_c, step_k, channels, used, u,
                                _panel_element(channels, width))


def correlate_blocks(
    const floating[:, :, :, :, ::1] x,   # IN   (N, D, H, W, C)
    const floating[:, ::1] u,            # IN   (panels, ...), from transform_weights
    const floating[::1] bias,            # IN   (panels * width) or empty
    floating[:, :, :, :, ::1] y,         # OUT  (N, D, H', W', K)
    const Py_ssize_t[::1] frame,
    Py_ssize_t block, Py_ssize_t width,  # OPT  tiles of a task; output channels of a panel
    const floating[::1] zeros,           # IN   (C)
    floating[:, ::1] work,               # TEMP (n_threads, sizes of tiles and product)
    int n_threads,
):
    """y := x correlated with the 3x3 kernels, a block of tiles after the other.

    Returns whether any tile had an infinity or NaN, which its other outputs then have too.
    """
    cdef Tiling t = _tiling(frame, x.shape[4], y.shape[4])
    cdef Py_ssize_t tiles = x.shape[0] * x.shape[1] * t.down * t.across
    cdef Py_ssize_t task, panel, first, last, element = _tiles_element(block, t.channels)
    cdef const floating* bias_at = &bias[0] if bias.shape[0] else NULL
    cdef floating* v
    cdef int wild = 0
    with nogil, parallel(num_threads=n_threads):
        for task in prange((tiles + block - 1) // block, schedule="dynamic"):
            first = task * block
            last = min(first + block, tiles)
            v = &work[threadid(), 0]
            _transform_tiles(&x[0, 0, 0, 0, 0], &t, first, last, &zeros[0], v, element)
            for panel in range(u.shape[0]):
                wild |= _multiply_panel(
                    v, element, &u[panel, 0], bias_at, &y[0, 0, 0, 0, 0], &t, panel, width,
                    first, last, v + ELEMENTS * element, _tiles_element(block, width))
    return wild


def correlate_shared(
    const floating[:, :, :, :, ::1] x,   # IN   (N, D, H, W, C)
    const floating[:, :, ::1] w,         # IN   (1, K, 9 C), or (1, 9 C, K)
    bint w_by_output,                    # OPT  the first of the two
    const floating[::1] bias,            # IN   (panels * width) or empty
    floating[:, :, :, :, ::1] y,         # OUT  (N, D, H', W', K)
    const Py_ssize_t[::1] frame,
    Py_ssize_t phase, Py_ssize_t block,  # OPT  tiles transformed at a time, multiplied at a time
    Py_ssize_t width,                    # OPT  output channels of a panel
    const floating[::1] zeros,           # IN   (C)
    floating[::1] v,                     # TEMP (size of `phase` tiles)
    floating[:, ::1] work,               # TEMP (n_threads, sizes of a panel and a product)
    int n_threads,
):
    """y := x correlated with the 3x3 kernels, a panel of output channels after the other.

    Returns whether any tile had an infinity or NaN, which its other outputs then have too.
    """
    cdef Tiling t = _tiling(frame, x.shape[4], y.shape[4])
    cdef Py_ssize_t tiles = x.shape[0] * x.shape[1] * t.down * t.across
    cdef Py_ssize_t panels = (t.outputs + width - 1) // width
    cdef Py_ssize_t element = _tiles_element(phase, t.channels)
    cdef Py_ssize_t at, some, task, first, part
    cdef const floating* bias_at = &bias[0] if bias.shape[0] else NULL
    cdef floating* u
    cdef int wild = 0
    for part in range((tiles + phase - 1) // phase):
        at = part * phase
        some = min(phase, tiles - at)
        with nogil, parallel(num_threads=n_threads):
            for task in prange((some + TILE_PIXELS - 1) // TILE_PIXELS, schedule="dynamic"):
                first = task * TILE_PIXELS
                _transform_tiles(
                    &x[0, 0, 0, 0, 0], &t, at + first, at + min(first + TILE_PIXELS, some),
                    &zeros[0], &v[first * t.channels], element)
            for task in prange(panels, schedule="dynamic"):
                u = &work[threadid(), 0]
                _transform_panel(w, w_by_output, task, t.channels, width, u)
                wild |= _multiply_blocks(
                    &v[0], element, u, bias_at, &y[0, 0, 0, 0, 0], &t, task, width, at, some,
                    block, u + ELEMENTS * _panel_element(t.channels, width))
    return wild


cdef int _multiply_blocks(
    const floating* v, Py_ssize_t element, const floating* u, const floating* bias, floating* y,
    const Tiling* t, Py_ssize_t panel, Py_ssize_t width, Py_ssize_t at, Py_ssize_t tiles,
    Py_ssize_t block, floating* product,
) noexcept nogil:
    cdef Py_ssize_t part
    cdef int wild = 0
    for part in range((tiles + block - 1) // block):
        wild |= _multiply_panel(
            v + part * block * t.channels, element, u, bias, y, t, panel, width,
            at + part * block, at + min(part * block + block, tiles), product,
            _tiles_element(block, width))
    return wild


cdef void _transform_tiles(
    const floating* x, const Tiling* t, Py_ssize_t first, Py_ssize_t last, const floating* zeros,
    floating* v, Py_ssize_t element,
) noexcept nogil:
    """v[e, tile - first] := B^T d B for tiles [first, last), and zeros up to a register tile."""
    cdef const floating* d[ELEMENTS]
    cdef Py_ssize_t tile, n, top, left, i, j, row, col
    for tile in range(first, first + (last - first + TILE_PIXELS - 1) // TILE_PIXELS * TILE_PIXELS):
        n = tile // (t.down * t.across)
        top = t.top + tile // t.across % t.down * SIDE
        left = t.left + tile % t.across * SIDE
        for i in range(6):
            row = top + i
            for j in range(6):
                col = left + j
                d[i * 6 + j] = zeros
                if tile < last and 0 <= row < t.height and 0 <= col < t.width:
                    d[i * 6 + j] = x + ((n * t.height + row) * t.width + col) * t.channels
        if floating is float:
            winograd_input_float(d, t.channels, v, element)
        else:
            winograd_input_double(d, t.channels, v, element)
        v += t.channels


cdef int _multiply_panel(
    const floating* v, Py_ssize_t element, const floating* u, const floating* bias, floating* y,
    const Tiling* t, Py_ssize_t panel, Py_ssize_t width, Py_ssize_t first, Py_ssize_t last,
    floating* product, Py_ssize_t product_element,
) noexcept nogil:
    """The outputs of a panel's channels for tiles [first, last), of which v begins at `first`."""
    cdef const floating* rows[TILE_PIXELS]
    cdef floating* sums[TILE_PIXELS]
    cdef floating* out[SIDE * SIDE]
    cdef Py_ssize_t e, group, p, tile, n, i, j, row, col
    cdef Py_ssize_t k0 = panel * width
    cdef int cols = <int> min(width, t.outputs - k0)
    cdef int wild = 0
    for e in range(ELEMENTS):
        for group in range((last - first + TILE_PIXELS - 1) // TILE_PIXELS):
            for p in range(TILE_PIXELS):
                rows[p] = v + e * element + (group * TILE_PIXELS + p) * t.channels
                sums[p] = product + e * product_element + (group * TILE_PIXELS + p) * width
            if floating is float:
                direct_tile_float(rows, 1, 0, t.channels,
                                  u + e * _panel_element(t.channels, width), NULL, sums,
                                  TILE_PIXELS, <int> width)
            else:
                direct_tile_double(rows, 1, 0, t.channels,
                                   u + e * _panel_element(t.channels, width), NULL, sums,
                                   TILE_PIXELS, <int> width)
    for tile in range(first, last):
        n = tile // (t.down * t.across)
        for i in range(SIDE):
            row = tile // t.across % t.down * SIDE + i
            for j in range(SIDE):
                col = tile % t.across * SIDE + j
                out[i * SIDE + j] = NULL
                if row < t.out_height and col < t.out_width:
                    out[i * SIDE + j] = y + (
                        ((n * t.out_height + row) * t.out_width + col) * t.outputs + k0)
        if floating is float:
            wild |= winograd_output_float(
                product + (tile - first) * width, product_element,
                bias + k0 if bias != NULL else NULL, out, cols)
        else:
            wild |= winograd_output_double(
                product + (tile - first) * width, product_element,
                bias + k0 if bias != NULL else NULL, out, cols)
    return wild
