"""Convolution: products over strips of output pixels, forward and both gradients."""

import functools
import math
import os

import numpy as np

from fastconv import _checks, _geometry
from fastconv._layout import channels_first, channels_last
from fastconv._matmul import check_blas
from fastconv._threads import blas_threads_for, single_threaded_blas, threads_for
from fastconv.autograd.engine import apply
from fastconv.functional._shared import channel_sums
from fastconv.kernels import conv as kernels
from fastconv.kernels import direct

__all__ = ["conv1d", "conv2d", "conv3d"]

# A strip's columns should stay in the second-level cache, but BLAS packs the weights again
# for every strip, so a strip has many rows.
STRIP_BYTES = 1 << 18
STRIP_ROWS = (96, 512)
# Fewer strips than this and output channels are cut as well, in blocks of at least CHANNELS.
FEW_STRIPS = 8
CHANNELS = 64
# Packed weights of up to this size stay in the second-level cache, all panels of them.
WEIGHTS_CACHE = 1 << 18
# A direct convolution is cut into at least so many tasks, for threads to share evenly.
DIRECT_TASKS = 16
# The partial sums of a gradient by weight: at most this many, in at most this many bytes.
PARTS = 16
PARTS_BYTES = 1 << 24


def conv1d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """Cross-correlation along one axis; see :func:`conv2d`, with one spatial axis.

    Examples
    --------
    Two kernels over seven channels of length 3, padded to keep the length:

    >>> import numpy as np, fastconv.functional as F
    >>> F.conv1d(np.ones((1, 7, 3)), np.ones((2, 7, 3)), padding=1)[0]
    array([[14., 21., 14.],
           [14., 21., 14.]])
    """
    return _conv(1, input, weight, bias, stride, padding, dilation, groups)


def conv2d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """Cross-correlation of a batch of images with a set of kernels.

    Parameters
    ----------
    input : Tensor or ndarray of shape (N, C, H, W) or (C, H, W)
        float32 or float64, of any memory layout.
    weight : Tensor or ndarray of shape (K, C / groups, kH, kW)
        The kernels, of the input's dtype.
    bias : Tensor or ndarray of shape (K,), optional
    stride, dilation : int or tuple of int, default 1
    padding : int, tuple of int, tuple of pairs, "same" or "valid", default 0
        Zeros around the input: for all axes, per axis, or per axis (before, after). "same"
        keeps the size (stride 1 only), "valid" pads nothing.
    groups : int, default 1
        Output channels of group g see the input channels of group g alone.

    Returns
    -------
    Tensor or ndarray of shape (N, K, H', W')
        H' = floor((H + before + after - dilation (kH - 1) - 1) / stride) + 1. Its memory is
        channels-last. A Tensor if any argument is one.

    Raises
    ------
    ValueError
        For shapes or options that do not fit together.
    TypeError
        For dtypes other than float32 or float64, or mixed ones.

    Notes
    -----
    Takes N H' W' K C kH kW / groups multiplications, as matrix products of im2col strips with
    the kernels [1]_; besides the output it needs a few strips of a quarter of a megabyte,
    whatever the size of the image.

    References
    ----------
    .. [1] K. Chellapilla, S. Puri, P. Simard, "High Performance Convolutional Neural Networks
       for Document Processing", IWFHR 2006, section 3.

    Examples
    --------
    >>> import numpy as np, fastconv.functional as F
    >>> x = np.arange(16.0).reshape(1, 1, 4, 4)
    >>> edge = np.array([[[[-1.0, 0.0, 1.0]]]])
    >>> F.conv2d(x, edge)[0, 0, 0]
    array([2., 2.])
    """
    return _conv(2, input, weight, bias, stride, padding, dilation, groups)


def conv3d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """Cross-correlation of volumes; see :func:`conv2d`, with three spatial axes.

    Examples
    --------
    >>> import numpy as np, fastconv.functional as F
    >>> F.conv3d(np.ones((1, 1, 4, 5, 6)), np.ones((2, 1, 3, 3, 3))).shape
    (1, 2, 2, 3, 4)
    """
    return _conv(3, input, weight, bias, stride, padding, dilation, groups)


def _conv(n, input, weight, bias, stride, padding, dilation, groups):
    return apply(
        _conv_rule,
        input,
        weight,
        bias,
        n=n,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )


def _check(n, x, w, b, groups):
    if w.ndim != n + 2:
        raise ValueError(
            f"weight must have {n + 2} axes (outputs, inputs / groups, {n} spatial), "
            f"got shape {w.shape}"
        )
    groups = _checks.integer("groups", groups, minimum=1)
    outputs, width = w.shape[:2]
    if outputs % groups or not outputs:
        raise ValueError(
            f"groups must divide the {outputs} output channels of weight, got groups={groups}"
        )
    if x.shape[1] != width * groups or not width:
        raise ValueError(
            f"input has {x.shape[1]} channels, weight of shape {w.shape} with groups={groups} "
            f"needs {width * groups}"
        )
    if b is not None:
        _checks.shape_is("bias", b, (outputs,), "one value per output channel")
    return groups


def _conv_rule(needs, x, w, b, *, n, stride, padding, dilation, groups):
    x, w, b = _checks.as_float_arrays(input=x, weight=w, bias=b)
    x, unbatched = _checks.batched("input", x, n)
    groups = _check(n, x, w, b, groups)
    geometry = _geometry.convolution(x.shape[2:], w.shape[2:], stride, padding, dilation)
    rows = weight_rows(w, groups)
    image = channels_last(x)
    y = forward(image, rows, b, geometry)
    result = channels_first(y, n + 2)

    def backward(g):
        dy = channels_last(g[None] if unbatched else g)
        dx = dw = db = None
        if needs[0]:
            dx = channels_first(gradient_by_input(dy, rows, geometry), n + 2)
            dx = dx[0] if unbatched else dx
        if needs[1]:
            dw = weight_axes(gradient_by_weight(image, dy, rows.shape, geometry), w.shape)
        if needs[2]:
            db = channel_sums(dy.reshape(-1, dy.shape[-1])).astype(dy.dtype)
        return dx, dw, db

    return (result[0] if unbatched else result), backward


def weight_rows(w, groups):
    """(K, C, *kernel) as (G, K / G, taps * C), a view if its memory is channels-last."""
    return channels_last(w).reshape(groups, w.shape[0] // groups, -1)


def weight_axes(rows, shape):
    """The logical view of `weight_rows`, of the given shape."""
    outputs, width, *kernel = shape
    return channels_first(rows.reshape(outputs, *_geometry.three(kernel, 1), width), len(shape))


def forward(x, rows, bias, geometry):
    """y of shape (N, D', H', W', K) from x (N, D, H, W, C) and `weight_rows`."""
    outputs = rows.shape[0] * rows.shape[1]
    y = np.empty((x.shape[0], *geometry.frame.count, outputs), x.dtype)
    correlate(x, rows, True, bias, y, geometry.frame)
    return y


def gradient_by_input(dy, rows, geometry):
    """dx of shape (N, D, H, W, C): dy correlated with the mirrored kernel, phase by phase."""
    groups, outputs, depth = rows.shape
    width = depth // math.prod(geometry.kernel)
    frames = geometry.transposed_frames
    covered = sum(math.prod(frame.count) for frame, _ in frames) == math.prod(geometry.size)
    make = np.empty if covered else np.zeros
    dx = make((dy.shape[0], *geometry.size, groups * width), dy.dtype)
    kernel = rows.reshape(groups, outputs, *geometry.kernel, width)
    for frame, taps in frames:
        # (G, taps * K, C): what the taps of this phase, last first, make of dy
        part = kernel[(slice(None), slice(None), *np.ix_(*taps))].transpose(0, 2, 3, 4, 1, 5)
        part = np.ascontiguousarray(part).reshape(groups, -1, width)
        correlate(dy, part, False, None, dx, frame)
    return dx


def gradient_by_weight(x, dy, shape, geometry):
    """dw of `shape` (G, K, taps * C), as partial sums over fixed parts of the pixels."""
    groups, outputs, depth = shape
    frame = geometry.frame
    pixels = x.shape[0] * math.prod(frame.count)
    if not pixels:
        return np.zeros(shape, x.dtype)
    rows = frame.taps[0] * frame.taps[1]
    strip, span, band, parts = _weight_schedule(pixels, rows, shape, x.itemsize)
    threads = blas_threads_for(pixels * outputs * depth * groups)
    dw = np.empty((parts, *shape), x.dtype)
    work = np.empty((threads, strip * band * depth // rows), x.dtype)
    with single_threaded_blas:
        failed = kernels.correlate_weight(x, dy, dw, frame.packed, strip, span, band, work, threads)
    check_blas(failed)
    return dw[0] if parts == 1 else dw.sum(axis=0)


def correlate(x, w, w_by_output, bias, y, frame):
    """y, at the frame's places, from x and w, by the fastest way there is for them.

    `w` is (G, K, taps * C) if `w_by_output`, else (G, taps * C, K).
    """
    if not x.shape[0]:
        return
    if _algorithm() == "gemm" or not direct.SUPPORTED:
        _correlate_gemm(x, w, w_by_output, bias, y, frame)
    else:
        _correlate_direct(x, w, w_by_output, bias, y, frame)


def _algorithm():
    name = os.environ.get("FASTCONV_ALGORITHM", "auto")
    return _checks.one_of("FASTCONV_ALGORITHM", name, ("auto", "gemm"))


def _correlate_gemm(x, w, w_by_output, bias, y, frame):
    """im2col strip by strip, and BLAS."""
    outputs, depth = w.shape[1:] if w_by_output else w.shape[:0:-1]
    pixels = x.shape[0] * math.prod(frame.count)
    strip, block = _schedule(pixels, outputs, depth, x.itemsize)
    threads = blas_threads_for(pixels * outputs * depth * w.shape[0])
    work = np.empty((threads, strip * (depth + block)), x.dtype)
    bias = np.empty(0, x.dtype) if bias is None else np.ascontiguousarray(bias)
    with single_threaded_blas:
        failed = kernels.correlate(
            x, w, w_by_output, bias, y, frame.packed, strip, block, work, threads
        )
    check_blas(failed)


def _correlate_direct(x, w, w_by_output, bias, y, frame):
    """Register tiles that read the input in place."""
    groups = w.shape[0]
    outputs, depth = w.shape[1:] if w_by_output else w.shape[:0:-1]
    pixels = x.shape[0] * math.prod(frame.count)
    width = direct.panel_width(x.itemsize)
    panels = -(-outputs // width)
    threads = threads_for(pixels * outputs * depth * groups)
    packed = np.empty((groups, panels, depth, width), x.dtype)
    direct.pack(w, w_by_output, packed, min(threads, groups * panels))
    padded = np.zeros((0 if bias is None else groups, panels * width), x.dtype)
    if bias is not None:
        padded[:, :outputs] = bias.reshape(groups, outputs)
    strip, block, panels_inside = _direct_schedule(pixels, panels, width, depth, x.itemsize)
    work = np.empty((threads, (strip + 1) * depth), x.dtype)
    pointers = np.empty((threads, strip * (math.prod(frame.taps) + 1)), np.intp)
    direct.correlate(
        x,
        packed,
        padded,
        outputs,
        y,
        frame.packed,
        strip,
        block,
        panels_inside,
        work,
        pointers,
        threads,
    )


@functools.lru_cache(_geometry.CACHED_SHAPES)
def _direct_schedule(pixels, panels, width, depth, itemsize):
    """(pixels of a strip, panels of a task, whether panels are the inner loop).

    Results do not depend on these: every output is one sum in one order.
    """
    weights = panels * width * depth * itemsize
    panels_inside = weights <= WEIGHTS_CACHE
    # Long reductions: few pixels, whose input stays in cache while the weights pass by.
    strip = 96 if depth >= 512 else 192 if depth >= 128 else 384
    strips = max(-(-pixels // strip), min(DIRECT_TASKS, -(-pixels // 24)))
    strip = -(-pixels // strips)
    strip = -(-strip // direct.PIXELS) * direct.PIXELS
    block = -(-panels * strips // DIRECT_TASKS) if strips < DIRECT_TASKS else panels
    return strip, min(max(block, 1), panels), panels_inside


@functools.lru_cache(_geometry.CACHED_SHAPES)
def _schedule(pixels, outputs, depth, itemsize):
    """Pixels of a strip and output channels of a block, from shapes alone."""
    low, high = STRIP_ROWS
    strip = min(max(STRIP_BYTES // (depth * itemsize), low), high)
    strips = -(-pixels // strip)
    strip = -(-pixels // strips)  # of equal length
    block = outputs
    if strips < FEW_STRIPS:
        block = max(CHANNELS, -(-outputs * strips // FEW_STRIPS))
    return strip, min(block, outputs)


@functools.lru_cache(_geometry.CACHED_SHAPES)
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
