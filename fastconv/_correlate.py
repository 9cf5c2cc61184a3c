"""How a correlation is computed: which kernel, and how its work is cut.

Three ways give the forward pass and the gradients:

gemm
    im2col strip by strip and SciPy's BLAS: any shape, any machine, the yardstick.
direct
    Register tiles on packed weights that read the input in place: any shape. Where groups are
    narrow (depthwise: of one channel), vectors run along the channels of all groups.
winograd
    Minimal filtering, with up to four times fewer multiplications: 3x3 and 5x5 kernels, any
    number of taps along a first axis of three, and 3 taps on signals; stride 1, one group,
    whole vectors of channels.

The latter two need the vectors of GCC or Clang. `choose` decides; an `algorithm` that cannot
take a shape leaves it to the next simpler one.
"""

import functools
import math
from typing import NamedTuple

import numpy as np

from fastconv._geometry import CACHED_SHAPES
from fastconv._matmul import check_blas
from fastconv._threads import blas_threads_for, single_threaded_blas, threads_for, workspace
from fastconv.kernels import conv as gemm
from fastconv.kernels import direct, grouped, layout, winograd

# gemm: a strip's columns should stay in the second-level cache, but BLAS packs the weights
# again for every strip, so a strip has many rows.
STRIP_BYTES = 1 << 18
STRIP_ROWS = (96, 512)
# Fewer strips than this and output channels are cut as well, in blocks of at least CHANNELS.
FEW_STRIPS = 8
CHANNELS = 64

# direct: packed weights of up to this size stay in the second-level cache, all panels of them.
WEIGHTS_CACHE = 1 << 18
# A convolution is cut into at least so many tasks, for threads to share evenly.
DIRECT_TASKS = 16
# With fewer channels than this its runs are short, and lines are copied: so many pixels at a time.
FEW_CHANNELS = 8
LINES_PIXELS = 512
# Vectors run along the sum, of few outputs, if there are so many channels; pixels of a strip.
DOTS_CHANNELS = 8
DOTS_STRIP = 96
# Pixels of a strip of narrow groups: enough to pay for its pointers, few enough to stay in cache.
GROUPED_STRIP = 64

# winograd: outputs of a tile, along the last two axes, for the taps along them.
SCHEMES = {(3, 3): ((4, 4), (2, 2)), (5, 5): ((2, 2),), (1, 3): ((1, 4),)}
# To transform a value of a tile's input, output or weights costs as much as so many
# multiplications of the products, from a count of instructions.
TRANSFORM = 5
# From so many channels on, tiles are transformed by all threads before they are multiplied ...
SHARED_CHANNELS = 128
# ... up to so many bytes of them at a time.
SHARED_BYTES = 1 << 24
# Tiles of a block: their transforms should stay in the second-level cache.
BLOCK_TILES = 24
# Gradient by weight: bytes of a phase's tiles at one element, to stay in that cache as well,
# and the least number of tiles, for the sums are read and written once a phase.
PHASE_BYTES = 1 << 16
PHASE_TILES = 256

# Gradient by weight otherwise: at most so many partial sums, in at most so many bytes.
PARTS = 16
PARTS_BYTES = 1 << 24
# Pixels of a strip of the direct kernel.
WEIGHT_STRIP = 128


class Shape(NamedTuple):
    """What decisions are made from."""

    images: int
    groups: int
    outputs: int  # of a group
    channels: int  # of a group
    itemsize: int

    def pixels(self, frame):
        return self.images * math.prod(frame.count)

    def depth(self, frame):
        """Products of an output."""
        return self.channels * math.prod(frame.taps)


def _shape(x, w):
    return Shape(x.shape[0], *w.shape[:2], w.shape[5], x.itemsize)


def correlate(x, w, bias, y, frame, algorithm, prepared=None):
    """Set y, at the frame's places, to x correlated with w, plus bias.

    Parameters
    ----------
    x : ndarray of shape (N, D, H, W, G * C)
    w : ndarray of shape (G, K, *taps, C), of any strides
    bias : ndarray of shape (G * K,) or None
    y : ndarray of shape (N, D', H', W', G * K)
    frame : fastconv._geometry.Frame
    algorithm : str
        One of :data:`fastconv._algorithm.ALGORITHMS`.
    prepared : Prepared, optional
        Keeps the form of the weights that kernels read.
    """
    if not x.shape[0]:
        return
    way, tile = choose(_shape(x, w), frame, algorithm)
    prepared = _NOT_KEPT if prepared is None else prepared
    if way == "winograd":
        # An infinity or NaN has spread over its tile? Let it reach only who reads it.
        if not _winograd(x, w, bias, y, frame, tile, prepared):
            return
        way = "direct"
    (_gemm if way == "gemm" else _direct)(x, w, bias, y, frame, prepared)


@functools.lru_cache(CACHED_SHAPES)
def choose(shape, frame, algorithm):
    """(way, tile of winograd or None) for a forward pass or a gradient by input."""
    if algorithm == "gemm" or not direct.SUPPORTED:
        return "gemm", None
    if algorithm != "direct":
        one = shape._replace(images=1)  # an image is computed alone as in a batch
        tile = min(
            _schemes(shape, frame),
            key=lambda tile: _winograd_cost(one, frame, tile)[0],
            default=None,
        )
        if tile and (
            algorithm == "winograd"
            or sum(_winograd_cost(shape, frame, tile)) < _direct_cost(shape, frame)
        ):
            return "winograd", tile
    return "direct", None


@functools.lru_cache(CACHED_SHAPES)
def choose_weight(shape, frame, algorithm):
    """(way, tile of winograd or None) for the gradient by weight."""
    way, tile = choose(shape, frame, algorithm)
    if way == "winograd" and not _slices_are_images(frame):
        way, tile = "direct", None
    return way, tile


def _slices_are_images(frame):
    """Whether the first axis is like another batch axis."""
    return frame.taps[0] == 1 and frame.first[0] == 0 and frame.count[0] == frame.size[0]


def _schemes(shape, frame):
    """Tiles that fit the kernel, with whole vectors of channels."""
    fits = (
        shape.groups == 1
        and shape.channels % winograd.CHANNELS == 0
        and all(frame.spacing)
        and (frame.taps[0] == 1 or frame.spacing[0] == 1)
        and frame.taps[0] <= winograd.DEEPEST
    )
    return SCHEMES.get(frame.taps[1:], ()) if fits else ()


def _tiles(frame, tile):
    """Tiles of a slice."""
    spans = [side * space for side, space in zip(tile, frame.spacing[1:], strict=True)]
    return math.prod(
        -(-count // span) * space
        for count, span, space in zip(frame.count[1:], spans, frame.spacing[1:], strict=True)
    )


def _elements(frame, tile):
    """Products of a tile, where its outputs have as many times the taps."""
    return math.prod(side + taps - 1 for side, taps in zip(tile, frame.taps[1:], strict=True))


def _winograd_cost(shape, frame, tile):
    """Multiplications for all tiles and for the weights, with transforms counted as such."""
    tiles = shape.images * frame.count[0] * _tiles(frame, tile)
    products = frame.taps[0] * shape.channels * shape.outputs
    transforms = TRANSFORM * (shape.channels + shape.outputs)
    elements = _elements(frame, tile)
    return elements * tiles * (products + transforms), elements * TRANSFORM * products


def _direct_cost(shape, frame):
    return shape.pixels(frame) * shape.outputs * shape.depth(frame)


class Prepared:
    """Weights in the form that kernels read, made again when they have changed.

    The weights are compared with a copy, bit by bit, at every use: much cheaper than what is
    kept, and no change can go unnoticed.
    """

    def __init__(self):
        self._kept = {}

    def get(self, key, w, make):
        """``make()`` for these weights: the one kept under `key`, if any, or a new one."""
        values = w.reshape(-1)
        copy, made = self._kept.get(key, (None, None))
        if made is None or not layout.same(copy, values, threads_for(values.size)):
            made = make()
            self._kept = {key: (values.copy(), made)}
        return made

    def __reduce__(self):
        return Prepared, ()  # copies and pickles of a layer make their own


class _NotKept:
    def get(self, key, w, make):
        return make()


_NOT_KEPT = _NotKept()


def _padded_bias(bias, groups, outputs, width, dtype):
    """(G, width), zero beyond each group's outputs."""
    padded = np.zeros((groups, width), dtype)
    if bias is not None:
        padded[:, :outputs] = bias.reshape(groups, outputs)
    return padded


def _gemm(x, w, bias, y, frame, prepared):
    shape = _shape(x, w)
    pixels, depth = shape.pixels(frame), shape.depth(frame)
    # BLAS reads (K, taps * C) and its transpose alike: take the one that is nearer
    by_output = w.strides[5] == w.itemsize
    rows = w if by_output else w.transpose(0, 2, 3, 4, 5, 1)
    rows = np.ascontiguousarray(rows).reshape(
        (shape.groups, shape.outputs, depth) if by_output else (shape.groups, depth, shape.outputs)
    )
    strip, block = _gemm_schedule(pixels, shape.outputs, depth, x.itemsize)
    threads = blas_threads_for(pixels * shape.outputs * depth * shape.groups)
    work = workspace(threads, strip * (depth + block), x.dtype)
    bias = np.empty(0, x.dtype) if bias is None else np.ascontiguousarray(bias)
    with single_threaded_blas:
        failed = gemm.correlate(
            x, rows, by_output, bias, y, frame.packed, strip, block, work, threads
        )
    check_blas(failed)


@functools.lru_cache(CACHED_SHAPES)
def _gemm_schedule(pixels, outputs, depth, itemsize):
    """Pixels of a strip and output channels of a block, from shapes alone."""
    low, high = STRIP_ROWS
    strip = min(max(STRIP_BYTES // (depth * itemsize), low), high)
    strips = -(-pixels // strip)
    strip = -(-pixels // strips)  # of equal length
    block = outputs
    if strips < FEW_STRIPS:
        block = max(CHANNELS, -(-outputs * strips // FEW_STRIPS))
    return strip, min(block, outputs)


def _direct(x, w, bias, y, frame, prepared):
    shape = _shape(x, w)
    if _is_grouped(shape):
        _grouped(x, w, bias, y, frame)
        return
    groups, outputs = shape.groups, shape.outputs
    pixels, depth = shape.pixels(frame), shape.depth(frame)
    threads = threads_for(pixels * outputs * depth * groups)
    taps = math.prod(frame.taps)
    if outputs <= direct.DOTS and shape.channels >= DOTS_CHANNELS:
        rows = np.ascontiguousarray(w).reshape(groups, outputs, depth)
        bias = _padded_bias(bias, groups, outputs, outputs, x.dtype)
        work = workspace(threads, (DOTS_STRIP + 1) * depth, x.dtype)
        pointers = workspace(threads, DOTS_STRIP * (taps + 1), np.intp)
        direct.correlate_dots(x, rows, bias, y, frame.packed, DOTS_STRIP, work, pointers, threads)
        return
    width = direct.panel_width(x.itemsize, outputs)
    panels = -(-outputs // width)

    def pack():
        packed = np.empty((groups, panels, depth, width), x.dtype)
        direct.pack(w, packed, min(threads, groups * panels))
        return packed

    packed = prepared.get(("direct", w.shape, w.dtype), w, pack)
    bias = _padded_bias(bias, groups, outputs, panels * width, x.dtype)
    if groups == 1 and shape.channels < FEW_CHANNELS:
        lines, some = _lines_schedule(shape, frame)
        size = direct.line_sizes(frame.packed, shape.channels, lines, some)
        work = workspace(threads, size, x.dtype)
        offsets = workspace(threads, taps, np.intp)
        direct.correlate_lines(
            x, packed[0], bias[0], outputs, y, frame.packed, lines, some, work, offsets, threads
        )
        return
    strip, block, inside = _direct_schedule(pixels, panels, width, depth, x.itemsize)
    work = workspace(threads, (strip + 1) * depth, x.dtype)
    pointers = workspace(threads, (strip + direct.PIXELS) * (taps + 1), np.intp)
    direct.correlate(
        x, packed, bias, outputs, y, frame.packed, strip, block, inside, work, pointers, threads
    )


@functools.lru_cache(CACHED_SHAPES)
def _lines_schedule(shape, frame):
    """(lines, pixels of each) of a task: to pay for its copies, and to keep all threads busy."""
    _, height, width = frame.count
    some = min(width, LINES_PIXELS)
    lines = max(LINES_PIXELS // some, 1)
    tasks = shape.images * frame.count[0] * -(-width // some)
    return min(lines, max(height * tasks // DIRECT_TASKS, 1)), some


def _is_grouped(shape):
    widths = grouped.widths(shape.itemsize)
    return shape.groups > 1 and shape.outputs == shape.channels in widths


def _grouped(x, w, bias, y, frame):
    groups, width = w.shape[:2]
    taps = math.prod(frame.taps)
    # (taps, input of a group, all outputs)
    weights = np.ascontiguousarray(w.transpose(2, 3, 4, 5, 0, 1)).reshape(taps, width, -1)
    bias = _padded_bias(bias, 1, groups * width, groups * width, x.dtype)[0]
    threads = threads_for(x.shape[0] * math.prod(frame.count) * weights.size)
    work = workspace(threads, groups * width, x.dtype)
    pointers = workspace(threads, GROUPED_STRIP * (taps + 1), np.intp)
    grouped.correlate(x, weights, bias, y, frame.packed, GROUPED_STRIP, work, pointers, threads)


@functools.lru_cache(CACHED_SHAPES)
def _direct_schedule(pixels, panels, width, depth, itemsize):
    """(pixels of a strip, panels of a task, whether panels are the inner loop).

    Results do not depend on these: every output is one sum in one order.
    """
    panels_inside = panels * width * depth * itemsize <= WEIGHTS_CACHE
    # Long reductions: few pixels, whose input stays in cache while the weights pass by.
    strip = 96 if depth >= 512 else 192 if depth >= 128 else 384
    strips = max(-(-pixels // strip), min(DIRECT_TASKS, -(-pixels // 24)))
    strip = -(-pixels // strips)
    strip = -(-strip // direct.PIXELS) * direct.PIXELS
    block = -(-panels * strips // DIRECT_TASKS) if strips < DIRECT_TASKS else panels
    return strip, min(max(block, 1), panels), panels_inside


def _winograd(x, w, bias, y, frame, tile, prepared):
    """Whether an output is infinite or NaN, and others of its tile with it."""
    shape = _shape(x, w)
    channels, outputs, taps = shape.channels, shape.outputs, frame.taps[0]
    width = direct.panel_width(x.itemsize)
    panels = -(-outputs // width)
    elements = _elements(frame, tile)
    tiles = shape.images * frame.count[0] * _tiles(frame, tile)
    threads = threads_for(sum(_winograd_cost(shape, frame, tile)))
    block = BLOCK_TILES if channels > 16 else 2 * BLOCK_TILES
    v, u, product = winograd.sizes(elements, block, channels, width, taps)
    bias = _padded_bias(bias, 1, outputs, panels * width, x.dtype).reshape(-1)
    zeros = np.zeros(channels, x.dtype)
    key = "winograd", tile, w.shape, w.dtype
    tile = np.array(tile, np.intp)

    def transform():
        weights = np.empty((panels, u), x.dtype)
        winograd.transform_weights(w[0], weights, tile, width, min(threads, panels))
        return weights

    if channels < SHARED_CHANNELS or not _slices_are_images(frame):
        weights = prepared.get(key, w, transform)
        work = workspace(threads, taps * v + product, x.dtype)
        return winograd.correlate_blocks(
            x, weights, bias, y, frame.packed, tile, block, width, zeros, work, threads
        )
    most = max(SHARED_BYTES // (elements * channels * x.itemsize) // block, 1) * block
    phase = min(most, -(-tiles // block) * block)
    # Of a single phase, each panel's weights are used once: transformed just before, they are
    # still in cache.
    once = phase >= tiles and prepared is _NOT_KEPT
    weights = np.empty((0, u), x.dtype) if once else prepared.get(key, w, transform)
    v, _, _ = winograd.sizes(elements, phase, channels, width, taps)
    return winograd.correlate_shared(
        x,
        w[0],
        weights,
        bias,
        y,
        frame.packed,
        tile,
        phase,
        block,
        width,
        zeros,
        np.empty(v, x.dtype),
        workspace(threads, u + product, x.dtype),
        threads,
    )


def correlate_weight(x, dy, shape, frame, algorithm):
    """The gradient by weight, of `shape` (G, K, *taps, C).

    Parameters
    ----------
    x : ndarray of shape (N, D, H, W, G * C)
    dy : ndarray of shape (N, D', H', W', G * K)
    frame : fastconv._geometry.Frame
        Of the forward pass.
    algorithm : str
        Of the forward pass.
    """
    groups, outputs, *_, channels = shape
    sizes = Shape(x.shape[0], groups, outputs, channels, x.itemsize)
    rows = (groups, outputs, sizes.depth(frame))
    if not sizes.pixels(frame):
        return np.zeros(shape, x.dtype)
    way, tile = choose_weight(sizes, frame, algorithm)
    if way == "winograd":
        dw = _winograd_weight(x, dy, sizes, frame, tile)
        if dw is not None:
            return dw.reshape(shape)
        way = "direct"
    if way == "gemm":
        dw = _gemm_weight(x, dy, rows, frame)
    elif _is_grouped(sizes):
        dw = _grouped_weight(x, dy, rows, frame)
    else:
        dw = _direct_weight(x, dy, rows, frame)
    return dw.reshape(shape)


def _winograd_weight(x, dy, shape, frame, tile):
    """(K, taps * C), or None if a sum is infinite or NaN, and others of its kernel with it."""
    channels = shape.channels
    width = direct.panel_width(x.itemsize)
    panels = -(-shape.outputs // width)
    elements = _elements(frame, tile)
    tiles = shape.images * frame.count[0] * _tiles(frame, tile)
    phase = max(PHASE_BYTES // ((channels + panels * width) * x.itemsize), PHASE_TILES)
    phase = min(phase, tiles)
    threads = threads_for(sum(_winograd_cost(shape, frame, tile)))
    size = elements * channels * panels * width if phase < tiles else 0
    dw = np.empty((shape.outputs, shape.depth(frame)), x.dtype)
    # Rows an even number of cache lines apart would share cache sets.
    step = channels + (64 // x.itemsize if channels * x.itemsize % 128 == 0 else 0)
    v, _, _ = winograd.sizes(elements, phase, step, width, 1)
    m, _, _ = winograd.sizes(elements, phase, panels * width, width, 1)
    wild = winograd.correlate_weight(
        x,
        dy,
        dw,
        frame.packed,
        np.array(tile, np.intp),
        phase,
        width,
        step,
        np.zeros(channels, x.dtype),
        np.empty(v, x.dtype),
        np.empty(m, x.dtype),
        np.empty(size, x.dtype),
        workspace(threads, elements * winograd.ROWS * width, x.dtype),
        threads,
    )
    return None if wild else dw


def _gemm_weight(x, dy, shape, frame):
    groups, outputs, depth = shape
    pixels = x.shape[0] * math.prod(frame.count)
    rows = frame.taps[0] * frame.taps[1]
    strip, span, band, parts = _weight_schedule(pixels, rows, shape, x.itemsize)
    threads = blas_threads_for(pixels * outputs * depth * groups)
    dw = np.empty((parts, *shape), x.dtype)
    work = workspace(threads, strip * band * depth // rows, x.dtype)
    with single_threaded_blas:
        failed = gemm.correlate_weight(x, dy, dw, frame.packed, strip, span, band, work, threads)
    check_blas(failed)
    return dw[0] if parts == 1 else dw.sum(axis=0)


@functools.lru_cache(CACHED_SHAPES)
def _weight_schedule(pixels, rows, shape, itemsize):
    """(strip, span, band, parts): how the gradient by weight is cut."""
    depth = shape[2]
    size = math.prod(shape) * itemsize
    parts = max(1, min(PARTS, PARTS_BYTES // size, pixels // STRIP_ROWS[0]))
    # Where many partial sums would be large, the kernel's rows are cut instead.
    band = rows if parts >= FEW_STRIPS else max(1, rows * parts // FEW_STRIPS)
    span = -(-pixels // parts)
    parts = -(-pixels // span)
    low, high = STRIP_ROWS
    strip = min(max(STRIP_BYTES // (depth // rows * band * itemsize), low), high, span)
    return strip, span, band, parts


def _grouped_weight(x, dy, shape, frame):
    groups, width, _ = shape
    channels, taps = groups * width, math.prod(frame.taps)
    pixels = x.shape[0] * math.prod(frame.count)
    span = max(-(-pixels // PARTS), GROUPED_STRIP)
    parts = np.empty((-(-pixels // span), taps, width, channels), x.dtype)
    threads = threads_for(pixels * channels * taps * width)
    work = workspace(threads, channels, x.dtype)
    pointers = workspace(threads, GROUPED_STRIP * (taps + 1), np.intp)
    grouped.correlate_weight(
        x, dy, parts, frame.packed, GROUPED_STRIP, span, work, pointers, threads
    )
    by_output = parts.sum(axis=0).reshape(taps, width, groups, width).transpose(2, 3, 0, 1)
    return np.ascontiguousarray(by_output).reshape(shape)


def _direct_weight(x, dy, shape, frame):
    groups, outputs, depth = shape
    pixels = x.shape[0] * math.prod(frame.count)
    width = direct.panel_width(x.itemsize)
    panels = -(-outputs // width)
    size = groups * depth * panels * width * x.itemsize
    parts = max(min(PARTS, PARTS_BYTES // size, pixels // WEIGHT_STRIP), min(2, pixels))
    span = -(-pixels // parts)
    parts = -(-pixels // span)
    sums = np.empty((parts, groups, panels, depth, width), x.dtype)
    strip = min(WEIGHT_STRIP, span)
    threads = threads_for(pixels * outputs * depth * groups)
    size = direct.weight_sizes(frame.packed, depth // math.prod(frame.taps), panels * width, strip)
    work = workspace(threads, size, x.dtype)
    pointers = workspace(threads, strip * math.prod(frame.taps), np.intp)
    direct.correlate_weight(
        x, dy, sums, outputs, frame.packed, strip, span, work, pointers, threads
    )
    total = sums[0] if parts == 1 else sums.sum(axis=0)
    dw = np.empty((groups * panels, width, depth), x.dtype)
    layout.transpose(total.reshape(groups * panels, depth, width), dw, threads_for(dw.size))
    return np.ascontiguousarray(dw.reshape(groups, panels * width, depth)[:, :outputs])
