"""How a correlation is computed, from shapes alone: by which kernel, cut how, in what memory.

Three ways give the forward pass and the gradients:

gemm
    im2col strip by strip and SciPy's BLAS: any shape, any machine, the yardstick.
direct
    Register tiles on packed weights that read the input in place: any shape. Where groups are
    narrow (depthwise: of one channel), vectors run along the channels of all groups; of images of
    a single channel, along their lines.
winograd
    Minimal filtering, with up to six times fewer multiplications: kernels of 3x3 (stride 2 as
    well), 5x5, 4x4, 3x5, 5x3, 2x2, and of 3 or 5 taps along one axis, up to eight taps along a
    first axis of three; with stride 2 up to 10x10 on images of even sizes, whose even and odd
    rows are two slices then; one group.

The latter two need the vectors of GCC or Clang. `choose` decides; an `algorithm` that cannot
take a shape leaves it to the next simpler one. Results depend neither on how work is cut nor on
the number of threads, but for the sums of the gradient by weight, which are cut by shape.
"""

import functools
import math
from typing import NamedTuple

from fastconv._geometry import CACHED_SHAPES
from fastconv.kernels import direct, grouped, planes, winograd

__all__ = [
    "Plan",
    "Shape",
    "plan_correlation",
    "plan_direct",
    "plan_direct_weight",
    "plan_weight_gradient",
]

# gemm: BLAS packs the weights again for every strip, so a strip has many rows, though its columns
# then leave the second-level cache.
STRIP_BYTES = 1 << 20
STRIP_ROWS = (192, 1024)
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
# Pixels of a line of a single channel at a time: their sums stay in the first-level cache.
PLANES_PIXELS = 2048
# Pixels of a strip of narrow groups: enough to pay for its pointers, few enough to stay in cache.
GROUPED_STRIP = 64

# winograd: outputs of a tile, along the last two axes, for the taps along them and the step. Even
# kernels are what the gradient by input of a strided 3x3 falls into.
SCHEMES = {
    ((3, 3), (1, 1)): ((4, 4), (2, 2)),
    ((5, 5), (1, 1)): ((4, 4), (2, 2)),
    ((4, 4), (1, 1)): ((3, 3),),
    ((3, 5), (1, 1)): ((4, 4),),
    ((5, 3), (1, 1)): ((4, 4),),
    ((1, 3), (1, 1)): ((1, 6), (1, 4)),
    ((1, 5), (1, 1)): ((1, 4),),
    ((3, 1), (1, 1)): ((6, 1),),
    ((5, 1), (1, 1)): ((4, 1),),
    ((3, 3), (2, 2)): ((4, 4), (2, 2)),
    ((2, 2), (1, 1)): ((4, 4), (2, 2)),
    ((1, 2), (1, 1)): ((4, 4), (2, 2)),
    ((2, 1), (1, 1)): ((4, 4), (2, 2)),
}
# To transform a value of a tile's input, output or weights costs as much as so many
# multiplications of the products: some five instructions, twice that with their memory. As
# measured by ``fastconv bench algorithms``.
TRANSFORM = 12
# To read a prepared weight from memory, as measured of layers whose weights have left the caches.
STREAM = 9
# From so many channels on, tiles are transformed by all threads before they are multiplied ...
SHARED_CHANNELS = 192
# ... up to so many bytes of them at a time, of which so many tiles are multiplied by a weight
# before the next, ...
SHARED_BYTES = 1 << 24
SHARED_TILES = 192
# ... with so many bytes of weights and products, which are those of some panels.
SHARED_PANELS = 1 << 22
# Products of each channel in a block of tiles, which should stay in the second-level cache, and
# tiles at most.
BLOCK = 1008
BLOCK_TILES = 24
# Blocks at least, for threads to share evenly.
BLOCKS = 8
# Bytes of the products of a block, before their transform.
PRODUCTS_BYTES = 1 << 18
# Gradient by weight: bytes of a phase's tiles at one element, to stay in that cache as well,
# and the least number of tiles, for the sums are read and written once a phase.
PHASE_BYTES = 1 << 16
# Sums so small that each part has its own, and its tiles of a block, stay in that cache too.
PRIVATE_SUMS = 1 << 17
PRIVATE_BYTES = 1 << 17
PHASE_TILES = 64

# Gradient by weight otherwise: at most so many partial sums, in at most so many bytes.
PARTS = 16
PARTS_BYTES = 1 << 24
# The same of the direct kernel, its pixels of a strip, and the panels of outputs that pay for
# packing its inputs.
SUMS_BYTES = 1 << 22
WEIGHT_STRIP = 256
PANELS = 8


class Shape(NamedTuple):
    """What decisions are made from, with the frame."""

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

    def products(self, frame):
        return self.pixels(frame) * self.groups * self.outputs * self.depth(frame)


class Plan(NamedTuple):
    """A decision: the function of ``fastconv._correlate`` that carries it out, and its memory."""

    way: str  # its name in the tables there
    operations: int  # about, to decide on threads
    cut: tuple  # what the kernel is told
    prepared: tuple = ()  # shape of the weights as the kernel reads them
    whole: bool = True  # whether all of these exist at a time, where no layer keeps them
    common: tuple = ()  # values that all threads share: the size of each array
    total: int = 0  # values of a sum that is not the result yet, but on its way
    polyphase: bool = False  # whether it is of the frame's polyphase
    work: int = 0  # values of each thread
    pointers: int = 0  # of each thread

    @property
    def algorithm(self):
        """The algorithm that it belongs to."""
        return _ALGORITHMS.get(self.way, "direct")

    def memory(self, itemsize, threads):
        """Bytes needed besides arguments and result, but for vectors of a value per channel.

        Weights that lie in memory as the kernel reads them are not copied, which takes less.
        """
        weights = math.prod(self.prepared) if self.prepared and self.whole else 0
        shared = weights + sum(self.common) + self.total
        return (shared + threads * self.work) * itemsize + threads * self.pointers * POINTER_BYTES


POINTER_BYTES = 8
_ALGORITHMS = {
    "gemm": "gemm",
    **dict.fromkeys(("blocks", "shared", "winograd", "winograd_parts"), "winograd"),
}


# Forward, and the gradient by input -----------------------------------------------------------


@functools.lru_cache(CACHED_SHAPES)
def plan_correlation(shape, frame, algorithm, prepared=False):
    """The :class:`Plan` of a forward pass or a gradient by input.

    `prepared` tells whether the weights are kept in the form that the kernel reads.
    """
    way, tile = choose(shape, frame, algorithm, prepared)
    if way == "polyphase":
        shape, frame = _polyphase(shape, frame)
        plan = _plan_winograd(shape, frame, tile)
        weights = shape.outputs * shape.depth(frame)
        return plan._replace(polyphase=True, common=(*plan.common, weights))
    if way == "winograd":
        return _plan_winograd(shape, frame, tile)
    return _plan_gemm(shape, frame) if way == "gemm" else plan_direct(shape, frame)


def _polyphase(shape, frame):
    """Of the same correlation without its step."""
    return shape._replace(channels=2 * shape.channels), frame.polyphase


@functools.lru_cache(CACHED_SHAPES)
def choose(shape, frame, algorithm, prepared=False):
    """(way, tile of winograd or None): "gemm", "direct", "winograd", or that "polyphase"."""
    if algorithm == "gemm" or not direct.SUPPORTED:
        return "gemm", None
    if algorithm != "direct":
        # Without the cost for weights that are not kept, or by an algorithm asked for by name, so
        # that an image alone takes the tile of a batch.
        forms = {"winograd": (shape, frame)}
        if frame.polyphase:
            forms["polyphase"] = _polyphase(shape, frame)
        costs = {
            (way, tile): _winograd_cost(*form, tile, prepared)
            for way, form in forms.items()
            for tile in _schemes(*form)
        }
        counted = 1 + (prepared and algorithm == "auto")
        best = min(costs, key=lambda choice: sum(costs[choice][:counted]), default=None)
        if best and (
            algorithm == "winograd" or sum(costs[best]) < _direct_cost(shape, frame, prepared)
        ):
            return best
    return "direct", None


def _schemes(shape, frame):
    """Tiles that fit the kernel."""
    fits = (
        shape.groups == 1
        and all(frame.spacing)
        and (frame.taps[0] == 1 or frame.spacing[0] == 1)
        and frame.taps[0] <= winograd.DEEPEST
        and (frame.step == (1, 1, 1) or frame.spacing == (1, 1, 1))
    )
    return SCHEMES.get((frame.taps[1:], frame.step[1:]), ()) if fits else ()


def _tiles(shape, frame, tile):
    """Tiles of all slices."""
    spans = [side * space for side, space in zip(tile, frame.spacing[1:], strict=True)]
    return (shape.images * frame.count[0]) * math.prod(
        -(-count // span) * space
        for count, span, space in zip(frame.count[1:], spans, frame.spacing[1:], strict=True)
    )


def _elements(frame, tile):
    """Products of a tile, where its outputs have as many times the taps."""
    return math.prod(
        step * (side - 1) + taps
        for side, taps, step in zip(tile, frame.taps[1:], frame.step[1:], strict=True)
    )


def _distinct(frame, tile):
    """Weights of those products: where a tap meets every output, they share it."""
    return math.prod(
        side + 2 if step == 2 else side + taps - 1 if taps > 1 else 1
        for side, taps, step in zip(tile, frame.taps[1:], frame.step[1:], strict=True)
    )


def _vector(shape):
    """Values of a vector."""
    return direct.panel_width(shape.itemsize, 1)


def _panel_width(shape):
    """Output channels of a panel of winograd, and of gradients by weight."""
    return direct.panel_width(shape.itemsize, shape.outputs, direct.VECTORS)


def _direct_cost(shape, frame, prepared=False):
    """Multiplications, those for the padding of the last panel included, and prepared weights."""
    outputs = shape.outputs
    if not _is_dots(shape):
        outputs = _padded(outputs, direct.panel_width(shape.itemsize, outputs))
    weights = STREAM * shape.groups * outputs * shape.depth(frame) if prepared else 0
    return shape.products(frame) // shape.outputs * outputs + weights


def _padded(outputs, width):
    return -(-outputs // width) * width


def _winograd_cost(shape, frame, tile, prepared=False):
    """Multiplications for all tiles and for the weights, with transforms counted as such."""
    outputs = _padded(shape.outputs, _panel_width(shape))
    products = frame.taps[0] * shape.channels * outputs
    channels = _padded(shape.channels, _vector(shape)) * frame.size[0] // frame.count[0]
    transforms = TRANSFORM * (channels + outputs)
    elements = _elements(frame, tile)
    return (
        elements * _tiles(shape, frame, tile) * (products + transforms),
        _distinct(frame, tile) * (STREAM if prepared else TRANSFORM) * products,
    )


def _slices_are_images(frame):
    """Whether the first axis is like another batch axis."""
    return (
        frame.taps[0] == 1
        and frame.first[0] == 0
        and frame.count[0] == frame.size[0]
        and frame.spacing[0]
    )


def _plan_gemm(shape, frame):
    """cut: (pixels of a strip, output channels of a block)."""
    pixels, depth, outputs = shape.pixels(frame), shape.depth(frame), shape.outputs
    low, high = STRIP_ROWS
    strip = min(max(STRIP_BYTES // (depth * shape.itemsize), low), high)
    strips = -(-pixels // strip)
    strip = -(-pixels // strips)  # of equal length
    block = outputs
    if strips < FEW_STRIPS:
        block = min(max(CHANNELS, -(-outputs * strips // FEW_STRIPS)), outputs)
    prepared = (shape.groups, outputs, depth)
    work = strip * (depth + block)
    return Plan("gemm", shape.products(frame), (strip, block), prepared, work=work)


@functools.lru_cache(CACHED_SHAPES)
def plan_direct(shape, frame):
    """The :class:`Plan` of the direct kernel that suits the shape."""
    if _is_planes(shape, frame):
        return _plan_planes(shape, frame)
    if _is_grouped(shape):
        return _plan_grouped(shape, frame)
    if _is_dots(shape):
        return _plan_dots(shape, frame)
    width = direct.panel_width(shape.itemsize, shape.outputs)
    prepared = (shape.groups, -(-shape.outputs // width), shape.depth(frame), width)
    if shape.groups == 1 and shape.channels < FEW_CHANNELS:
        return _plan_lines(shape, frame, prepared)
    return _plan_tiles(shape, frame, prepared)


def _is_planes(shape, frame):
    return shape.groups == shape.outputs == shape.channels == frame.step[2] == 1


def reads_border(weight_shape, stride, algorithm):
    """Whether a kernel reads what stands beside the image itself, whatever that is."""
    outputs, width, *_ = weight_shape
    return direct.SUPPORTED and algorithm != "gemm" and outputs == width == stride[-1] == 1


def _plan_planes(shape, frame):
    """cut: (pixels of a line at a time,)."""
    span = min(frame.count[2], PLANES_PIXELS)
    return Plan(
        "planes",
        shape.products(frame),
        (span,),
        (math.prod(frame.taps),),
        work=planes.work_size(frame.packed, span),
        pointers=planes.pointers_size(frame.packed),
    )


def _plan_tiles(shape, frame, prepared):
    """cut: (pixels of a strip, panels of a task, whether panels are the inner loop)."""
    _, panels, depth, width = prepared
    pixels = shape.pixels(frame)
    panels_inside = panels * width * depth * shape.itemsize <= WEIGHTS_CACHE
    # Long reductions: few pixels, whose input stays in cache while the weights pass by.
    strip = 96 if depth >= 512 else 192 if depth >= 128 else 384
    strips = max(-(-pixels // strip), min(DIRECT_TASKS, -(-pixels // 24)))
    strip = -(-pixels // strips)
    strip = _padded(strip, direct.pixels_of(shape.itemsize, width))
    block = -(-panels * strips // DIRECT_TASKS) if strips < DIRECT_TASKS else panels
    some = direct.pixel_panels(shape.itemsize, width)
    if pixels == 1 or block > some:  # as many as a pixel alone takes at a time
        block = -(-block // some) * some
    return Plan(
        "tiles",
        shape.products(frame),
        (strip, min(max(block, 1), panels), panels_inside),
        prepared,
        work=(strip + 1) * depth,
        pointers=(strip + direct.MOST) * (math.prod(frame.taps) + 1),
    )


def _plan_lines(shape, frame, prepared):
    """cut: (lines of a task, pixels of each): to pay for copies, and to keep all threads busy."""
    _, height, width = frame.count
    some = min(width, LINES_PIXELS)
    lines = max(LINES_PIXELS // some, 1)
    tasks = shape.images * frame.count[0] * -(-width // some)
    lines = min(lines, max(height * tasks // DIRECT_TASKS, 1))
    return Plan(
        "lines",
        shape.products(frame),
        (lines, some),
        prepared,
        work=direct.line_sizes(frame.packed, shape.channels, lines, some),
        pointers=math.prod(frame.taps),
    )


def _is_dots(shape):
    return shape.outputs <= direct.DOTS and shape.channels >= DOTS_CHANNELS


def _plan_dots(shape, frame):
    """cut: (pixels of a strip,)."""
    depth = shape.depth(frame)
    return Plan(
        "dots",
        shape.products(frame),
        (DOTS_STRIP,),
        (shape.groups, shape.outputs, depth),
        work=(DOTS_STRIP + 1) * depth,
        pointers=DOTS_STRIP * (math.prod(frame.taps) + 1),
    )


def _is_grouped(shape):
    widths = grouped.widths(shape.itemsize)
    return shape.groups > 1 and shape.outputs == shape.channels in widths


def _has_lines(shape, frame):
    return shape.channels == 1 and grouped.has_lines(frame.packed, shape.groups, shape.itemsize)


def _plan_grouped(shape, frame):
    """cut: (pixels of a strip,), or nothing of whole lines."""
    channels, taps = shape.groups * shape.outputs, math.prod(frame.taps)
    if _has_lines(shape, frame):
        pointers = grouped.lines_pointers(frame.packed)
        return Plan("depthwise", shape.products(frame), (), (taps, channels), pointers=pointers)
    return Plan(
        "grouped",
        shape.products(frame),
        (GROUPED_STRIP,),
        (taps, shape.outputs, channels),
        work=channels,
        pointers=GROUPED_STRIP * (taps + 1),
    )


def _plan_winograd(shape, frame, tile):
    """Blocks of tiles in a thread's own cache, or phases that all threads share."""
    width = _panel_width(shape)
    panels = -(-shape.outputs // width)
    u = winograd.panel_size(_distinct(frame, tile), shape.channels, width, frame.taps[0])
    shared = shape.channels >= SHARED_CHANNELS and _slices_are_images(frame)
    fetch = panels * u * shape.itemsize > WEIGHTS_CACHE
    operations = sum(_winograd_cost(shape, frame, tile))
    plan = _plan_shared if shared else _plan_blocks
    return plan(shape, frame, tile, operations, (panels, u), width, fetch)


def _plan_blocks(shape, frame, tile, operations, prepared, width, fetch):
    """cut: (*tile, tiles of a block, whether to fetch weights, panels at a time, their width)."""
    channels, elements = shape.channels, _elements(frame, tile)
    block = max(BLOCK // elements // direct.PIXELS, 1) * direct.PIXELS
    block = min(block, BLOCK_TILES) * (1 if channels > 16 else 2)
    few = _padded(-(-_tiles(shape, frame, tile) // BLOCKS), direct.PIXELS)  # for all threads
    block = min(block, max(few, direct.PIXELS))
    v = winograd.tiles_size(elements, block, channels)
    product = winograd.tiles_size(elements, block, width)
    panels = min(max(PRODUCTS_BYTES // (product * shape.itemsize), 1), prepared[0])
    cut = *tile, block, fetch, panels, width
    work = frame.taps[0] * v + panels * product
    return Plan("blocks", operations, cut, prepared, work=work)


def _plan_shared(shape, frame, tile, operations, prepared, width, fetch):
    """cut: (*tile, tiles of a phase, of a block, and then as above)."""
    channels, elements = shape.channels, _elements(frame, tile)
    tiles = _tiles(shape, frame, tile)
    parts = -(-tiles // SHARED_TILES)
    block = _padded(-(-tiles // parts), direct.PIXELS)
    most = max(SHARED_BYTES // (elements * channels * shape.itemsize) // block, 1) * block
    phase = min(most, _padded(tiles, block))
    v = winograd.tiles_size(elements, phase, channels)
    size = prepared[1] + winograd.tiles_size(elements, block, width)
    panels = max(min(SHARED_PANELS // (size * shape.itemsize), prepared[0] // BLOCKS), 1)
    # Of a single phase, each panel's weights are used once: transformed just before, they are
    # still in cache.
    whole = phase < tiles
    cut = *tile, phase, block, fetch, panels, width
    return Plan("shared", operations, cut, prepared, whole, (v,), work=panels * size)


# The gradient by weight -------------------------------------------------------------------------


@functools.lru_cache(CACHED_SHAPES)
def plan_weight_gradient(shape, frame, algorithm):
    """The :class:`Plan` of a gradient by weight."""
    way, tile = choose(shape, frame, algorithm)
    if way == "polyphase":
        shape, frame = _polyphase(shape, frame)
        plan = _plan_winograd_weight(shape, frame, tile)
        return plan._replace(polyphase=True, total=shape.outputs * shape.depth(frame))
    if way == "winograd":
        return _plan_winograd_weight(shape, frame, tile)
    return _plan_gemm_weight(shape, frame) if way == "gemm" else plan_direct_weight(shape, frame)


def _plan_gemm_weight(shape, frame):
    """cut: (pixels of a strip, of a part, kernel rows of a band)."""
    pixels, depth = shape.pixels(frame), shape.depth(frame)
    rows = frame.taps[0] * frame.taps[1]
    size = shape.groups * shape.outputs * depth
    parts = max(1, min(PARTS, PARTS_BYTES // (size * shape.itemsize), pixels // STRIP_ROWS[0]))
    # Where many partial sums would be large, the kernel's rows are cut instead.
    band = rows if parts >= FEW_STRIPS else max(1, rows * parts // FEW_STRIPS)
    span = -(-pixels // parts)
    parts = -(-pixels // span)
    low, high = STRIP_ROWS
    strip = min(max(STRIP_BYTES // (depth // rows * band * shape.itemsize), low), high, span)
    return Plan(
        "gemm",
        shape.products(frame),
        (strip, span, band),
        common=(parts * size if parts > 1 else 0,),  # a single part is the result
        work=strip * band * depth // rows,
    )


@functools.lru_cache(CACHED_SHAPES)
def plan_direct_weight(shape, frame):
    """The :class:`Plan` of the direct kernel that suits the shape."""
    if _is_grouped(shape):
        return _plan_grouped_weight(shape, frame)
    pixels, depth = shape.pixels(frame), shape.depth(frame)
    width = _panel_width(shape)
    if shape.groups == 1 and shape.channels < FEW_CHANNELS and shape.outputs % width == 0:
        return _plan_weight_lines(shape, frame)
    panels = -(-shape.outputs // width)
    size = shape.groups * depth * panels * width
    parts = min(PARTS, SUMS_BYTES // (size * shape.itemsize), pixels // WEIGHT_STRIP)
    span = -(-pixels // max(parts, min(2, pixels)))
    parts = -(-pixels // span)
    # Where many partial sums would be large, the outputs are cut as well.
    block = max(-(-panels * parts * shape.groups // PARTS), min(PANELS, panels))
    strip = min(WEIGHT_STRIP, span)
    return Plan(
        "panels",
        shape.products(frame),
        (strip, span, block),
        common=(parts * size,),
        work=direct.weight_sizes(frame.packed, shape.channels, block * width, strip),
        pointers=strip * math.prod(frame.taps),
    )


def _plan_weight_lines(shape, frame):
    """cut: (lines of a band, pixels of each, bands of a part)."""
    slices, (_, height, width) = shape.images * frame.count[0], frame.count
    some = min(width, WEIGHT_STRIP)
    lines = min(max(WEIGHT_STRIP // some, 1), height)
    bands = slices * -(-height // lines) * -(-width // some)
    size = shape.depth(frame) * shape.outputs
    parts = min(PARTS, max(SUMS_BYTES // (size * shape.itemsize), 1), bands)
    span = -(-bands // parts)
    return Plan(
        "lines",
        shape.products(frame),
        (lines, some, span),
        common=(-(-bands // span) * size,),
        work=direct.line_sizes(frame.packed, shape.channels, lines, some),
        pointers=math.prod(frame.taps),
    )


def _plan_grouped_weight(shape, frame):
    """cut: (pixels of a strip, of a part), or (lines of a part,)."""
    pixels, width = shape.pixels(frame), shape.outputs
    channels, taps = shape.groups * width, math.prod(frame.taps)
    if _has_lines(shape, frame):
        lines, together = pixels // frame.count[2], grouped.lines_at_once(frame.packed)
        span = -(-lines // (PARTS * together)) * together
        return Plan(
            "depthwise",
            shape.products(frame),
            (span,),
            common=(-(-lines // span) * taps * channels,),
            total=taps * channels,
            pointers=grouped.lines_pointers(frame.packed),
        )
    span = max(-(-pixels // PARTS), GROUPED_STRIP)
    return Plan(
        "grouped",
        shape.products(frame),
        (GROUPED_STRIP, span),
        common=(-(-pixels // span) * taps * width * channels,),
        total=taps * width * channels,
        work=channels,
        pointers=GROUPED_STRIP * (taps + 1),
    )


def _plan_winograd_weight(shape, frame, tile):
    """cut: (*tile, tiles of a phase, output channels of a panel, values of a tile's row)."""
    channels = shape.channels
    width = _panel_width(shape)
    panels = -(-shape.outputs // width)
    elements = _elements(frame, tile)
    tiles = _tiles(shape, frame, tile)
    phase = max(PHASE_BYTES // ((channels + panels * width) * shape.itemsize), PHASE_TILES)
    phase = min(phase, tiles)
    distinct = _distinct(frame, tile)
    sums = distinct * channels * panels * width if phase < tiles else 0
    # Rows an even number of cache lines apart would share cache sets.
    line = 64 // shape.itemsize
    step = channels + (line if channels % (2 * line) == 0 else 0)
    if _distinct(frame, tile) * channels * panels * width * shape.itemsize <= PRIVATE_SUMS:
        return _plan_winograd_parts(shape, frame, tile, panels * width, step)
    v = winograd.tiles_size(elements, phase, step)
    m = winograd.tiles_size(elements, phase, panels * width)
    return Plan(
        "winograd",
        sum(_winograd_cost(shape, frame, tile)),
        (*tile, phase, width, step),
        common=(v, m, sums),
        work=distinct * winograd.ROWS * width,
    )


def _plan_winograd_parts(shape, frame, tile, outputs, step):
    """cut: (*tile, tiles of a part, of a block, output channels of a panel, values of a row)."""
    elements, tiles = _elements(frame, tile), _tiles(shape, frame, tile)
    width = _panel_width(shape)
    block = max(PRIVATE_BYTES // (elements * (step + width) * shape.itemsize), direct.PIXELS)
    span = -(-tiles // min(PARTS, -(-tiles // block)))
    sums = _distinct(frame, tile) * shape.channels * outputs
    return Plan(
        "winograd_parts",
        sum(_winograd_cost(shape, frame, tile)),
        (*tile, span, block, width, step),
        common=(-(-tiles // span) * sums,),
        work=winograd.tiles_size(elements, block, step)
        + winograd.tiles_size(elements, block, width),
    )
