"""How a correlation is computed: which kernel, and how its work is cut.

Three ways give the forward pass and the gradient by input:

gemm
    im2col strip by strip and SciPy's BLAS: any shape, any machine, the yardstick.
direct
    Register tiles on packed weights that read the input in place: any shape. Where every
    channel has a kernel of its own (depthwise), its vectors run along the channels instead.
winograd
    F(4x4, 3x3), a quarter of the multiplications: 3x3, stride 1, whole vectors of channels.

The latter two need AVX2 and FMA. ``FASTCONV_ALGORITHM`` in the environment is "auto", the
fastest for the shape, or the name of one, which is then used wherever it can be.
"""

import functools
import math
import os

import numpy as np

from fastconv import _checks
from fastconv._geometry import CACHED_SHAPES
from fastconv._matmul import check_blas
from fastconv._threads import blas_threads_for, single_threaded_blas, threads_for
from fastconv.kernels import conv as gemm
from fastconv.kernels import depthwise, direct, layout, winograd

ALGORITHMS = ("auto", "gemm", "direct", "winograd")

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
# Pixels of a depthwise strip: enough to pay for its pointers, few enough to stay in cache.
DEPTHWISE_STRIP = 64

# winograd: fewer channels than this and the transforms cost more than the products save.
WINOGRAD_CHANNELS = 16
# From so many channels on, tiles are transformed by all threads before they are multiplied ...
SHARED_CHANNELS = 128
# ... up to so many bytes of them at a time.
SHARED_BYTES = 1 << 24
# Tiles of a block: their transforms should stay in the second-level cache.
BLOCK_TILES = 24

# Gradient by weight: at most so many partial sums, in at most so many bytes.
PARTS = 16
PARTS_BYTES = 1 << 24
# Pixels of a strip of the direct kernel.
WEIGHT_STRIP = 128


def correlate(x, w, w_by_output, bias, y, frame):
    """Set y, at the frame's places, to x correlated with w, plus bias.

    Parameters
    ----------
    x : ndarray of shape (N, D, H, W, G * C)
    w : ndarray of shape (G, K, taps * C) if `w_by_output`, else (G, taps * C, K)
    bias : ndarray of shape (G * K,) or None
    y : ndarray of shape (N, D', H', W', G * K)
    frame : fastconv._geometry.Frame
    """
    if not x.shape[0]:
        return
    way = choose(x.shape, w.shape, w_by_output, x.dtype.itemsize, frame)
    WAYS[way](x, w, w_by_output, bias, y, frame)


def chosen():
    """What FASTCONV_ALGORITHM asks for, as far as this machine can."""
    wanted = os.environ.get("FASTCONV_ALGORITHM", "auto")
    _checks.one_of("FASTCONV_ALGORITHM", wanted, ALGORITHMS)
    return wanted if direct.SUPPORTED else "gemm"


def choose(x_shape, w_shape, w_by_output, itemsize, frame):
    """The name of the way to go for these shapes."""
    wanted = chosen()
    if wanted == "gemm":
        return "gemm"
    if wanted != "direct" and _fits_winograd(x_shape, w_shape[0], itemsize, frame):
        outputs = w_shape[1] if w_by_output else w_shape[2]
        if wanted == "winograd" or _pays_winograd(x_shape[4], outputs, frame):
            return "winograd"
    return "direct"


def _fits_winograd(x_shape, groups, itemsize, frame):
    lanes = winograd.LANE_BYTES // itemsize
    return frame.unit_3x3 and groups == 1 and x_shape[4] % lanes == 0


def _pays_winograd(channels, outputs, frame):
    """36 products a tile of 4x4 against 9 an output, less what transforms cost."""
    _, height, width = frame.count
    tiles = -(-height // 4) * -(-width // 4)
    return min(channels, outputs) >= WINOGRAD_CHANNELS and 36 * tiles < 6 * height * width


def _sizes(x, w, w_by_output, frame):
    """(output pixels, groups, outputs and products of a group)"""
    outputs, depth = w.shape[1:] if w_by_output else w.shape[:0:-1]
    return x.shape[0] * math.prod(frame.count), w.shape[0], outputs, depth


def _padded_bias(bias, groups, outputs, panels, width, dtype):
    """(G, panels * width), zero beyond each group's outputs; empty without a bias."""
    padded = np.zeros((0 if bias is None else groups, panels * width), dtype)
    if bias is not None:
        padded[:, :outputs] = bias.reshape(groups, outputs)
    return padded


def _gemm(x, w, w_by_output, bias, y, frame):
    pixels, groups, outputs, depth = _sizes(x, w, w_by_output, frame)
    strip, block = _gemm_schedule(pixels, outputs, depth, x.itemsize)
    threads = blas_threads_for(pixels * outputs * depth * groups)
    work = np.empty((threads, strip * (depth + block)), x.dtype)
    bias = np.empty(0, x.dtype) if bias is None else np.ascontiguousarray(bias)
    with single_threaded_blas:
        failed = gemm.correlate(
            x, w, w_by_output, bias, y, frame.packed, strip, block, work, threads
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


def _direct(x, w, w_by_output, bias, y, frame):
    pixels, groups, outputs, depth = _sizes(x, w, w_by_output, frame)
    if _is_depthwise(groups, outputs, depth, frame):
        _depthwise(x, w, bias, y, frame)
        return
    width = direct.panel_width(x.itemsize)
    panels = -(-outputs // width)
    threads = threads_for(pixels * outputs * depth * groups)
    packed = np.empty((groups, panels, depth, width), x.dtype)
    direct.pack(w, w_by_output, packed, min(threads, groups * panels))
    bias = _padded_bias(bias, groups, outputs, panels, width, x.dtype)
    strip, block, inside = _direct_schedule(pixels, panels, width, depth, x.itemsize)
    work = np.empty((threads, (strip + 1) * depth), x.dtype)
    pointers = np.empty((threads, strip * (math.prod(frame.taps) + 1)), np.intp)
    direct.correlate(
        x, packed, bias, outputs, y, frame.packed, strip, block, inside, work, pointers, threads
    )


def _is_depthwise(groups, outputs, depth, frame):
    return groups > 1 and outputs == 1 and depth == math.prod(frame.taps)


def _depthwise(x, w, bias, y, frame):
    channels, taps = w.shape[0], math.prod(frame.taps)
    weights = np.ascontiguousarray(w.reshape(channels, taps).T)
    bias = np.empty(0, x.dtype) if bias is None else np.ascontiguousarray(bias)
    pixels = x.shape[0] * math.prod(frame.count)
    threads = threads_for(pixels * channels * taps)
    work = np.empty((threads, channels), x.dtype)
    pointers = np.empty((threads, DEPTHWISE_STRIP * (taps + 1)), np.intp)
    depthwise.correlate(x, weights, bias, y, frame.packed, DEPTHWISE_STRIP, work, pointers, threads)


def _depthwise_weight(x, dy, shape, frame):
    channels, _, taps = shape
    pixels = x.shape[0] * math.prod(frame.count)
    span = max(-(-pixels // PARTS), DEPTHWISE_STRIP)
    parts = np.empty((-(-pixels // span), taps, channels), x.dtype)
    threads = threads_for(pixels * channels * taps)
    work = np.empty((threads, channels), x.dtype)
    pointers = np.empty((threads, DEPTHWISE_STRIP * (taps + 1)), np.intp)
    depthwise.correlate_weight(
        x, dy, parts, frame.packed, DEPTHWISE_STRIP, span, work, pointers, threads
    )
    return np.ascontiguousarray(parts.sum(axis=0).T).reshape(shape)


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


def _winograd(x, w, w_by_output, bias, y, frame):
    pixels, _, outputs, depth = _sizes(x, w, w_by_output, frame)
    channels = depth // 9
    width = direct.panel_width(x.itemsize)
    panels = -(-outputs // width)
    tiles = x.shape[0] * x.shape[1] * -(-frame.count[1] // 4) * -(-frame.count[2] // 4)
    threads = threads_for(pixels * outputs * depth)
    padded = _padded_bias(bias, 1, outputs, panels, width, x.dtype).reshape(-1)
    zeros = np.zeros(channels, x.dtype)
    block = BLOCK_TILES if channels > 16 else 2 * BLOCK_TILES
    if channels < SHARED_CHANNELS:
        v, u, product = winograd.element_sizes(block, channels, width)
        weights = np.empty((panels, u), x.dtype)
        winograd.transform_weights(w, w_by_output, weights, channels, width, min(threads, panels))
        work = np.empty((threads, v + product), x.dtype)
        wild = winograd.correlate_blocks(
            x, weights, padded, y, frame.packed, block, width, zeros, work, threads
        )
    else:
        # A panel's transformed weights serve all tiles of a phase, so it is as large as it may.
        most = max(SHARED_BYTES // (36 * channels * x.itemsize) // block, 1) * block
        phase = min(most, -(-tiles // block) * block)
        v, _, _ = winograd.element_sizes(phase, channels, width)
        _, u, product = winograd.element_sizes(block, channels, width)
        wild = winograd.correlate_shared(
            x,
            w,
            w_by_output,
            padded,
            y,
            frame.packed,
            phase,
            block,
            width,
            zeros,
            np.empty(v, x.dtype),
            np.empty((threads, u + product), x.dtype),
            threads,
        )
    if wild:
        # An infinity or NaN has spread over its tile: let it reach only who reads it.
        _direct(x, w, w_by_output, bias, y, frame)


WAYS = {"gemm": _gemm, "direct": _direct, "winograd": _winograd}


def correlate_weight(x, dy, shape, frame):
    """The gradient by weight, of `shape` (G, K, taps * C): sums over fixed parts of the pixels.

    Parameters
    ----------
    x : ndarray of shape (N, D, H, W, G * C)
    dy : ndarray of shape (N, D', H', W', G * K)
    frame : fastconv._geometry.Frame
        Of the forward pass.
    """
    groups, outputs, depth = shape
    pixels = x.shape[0] * math.prod(frame.count)
    if not pixels:
        return np.zeros(shape, x.dtype)
    if chosen() != "gemm" and _is_depthwise(groups, outputs, depth, frame):
        return _depthwise_weight(x, dy, shape, frame)
    if chosen() != "gemm" and depth >= direct.PIXELS:
        return _direct_weight(x, dy, shape, frame)
    rows = frame.taps[0] * frame.taps[1]
    strip, span, band, parts = _weight_schedule(pixels, rows, shape, x.itemsize)
    threads = blas_threads_for(pixels * outputs * depth * groups)
    dw = np.empty((parts, *shape), x.dtype)
    work = np.empty((threads, strip * band * depth // rows), x.dtype)
    with single_threaded_blas:
        failed = gemm.correlate_weight(x, dy, dw, frame.packed, strip, span, band, work, threads)
    check_blas(failed)
    return dw[0] if parts == 1 else dw.sum(axis=0)


def _direct_weight(x, dy, shape, frame):
    groups, outputs, depth = shape
    pixels = x.shape[0] * math.prod(frame.count)
    width = direct.panel_width(x.itemsize)
    across = -(-outputs // width) * width
    size = groups * depth * across * x.itemsize
    parts = max(min(PARTS, PARTS_BYTES // size, pixels // WEIGHT_STRIP), min(2, pixels))
    span = -(-pixels // parts)
    parts = -(-pixels // span)
    sums = np.empty((parts, groups, depth, across), x.dtype)
    strip = min(WEIGHT_STRIP, span)
    threads = threads_for(pixels * outputs * depth * groups)
    work = np.empty((threads, strip * (depth + across) + depth), x.dtype)
    pointers = np.empty((threads, strip * math.prod(frame.taps)), np.intp)
    direct.correlate_weight(
        x, dy, sums, outputs, width, frame.packed, strip, span, work, pointers, threads
    )
    total = sums[0] if parts == 1 else sums.sum(axis=0)
    dw = np.empty((groups, across, depth), x.dtype)
    layout.transpose(total, dw, threads_for(dw.size))
    return np.ascontiguousarray(dw[:, :outputs])


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
