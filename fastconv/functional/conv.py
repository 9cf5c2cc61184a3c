"""Convolution, forward and both gradients: three products of one geometry."""

import math

import numpy as np

from fastconv import _algorithm, _checks, _geometry
from fastconv._correlate import correlate, correlate_weight
from fastconv._layout import channels_first, channels_last
from fastconv.autograd.engine import apply
from fastconv.functional._shared import channel_sums
from fastconv.kernels import small

__all__ = ["conv1d", "conv2d", "conv3d"]


def conv1d(
    input,
    weight,
    bias=None,
    stride=1,
    padding=0,
    dilation=1,
    groups=1,
    *,
    algorithm=None,
):
    """Cross-correlation along one axis; see :func:`conv2d`, with one spatial axis.

    Examples
    --------
    Two kernels over seven channels of length 3, padded to keep the length:

    >>> import numpy as np, fastconv.functional as F
    >>> F.conv1d(np.ones((1, 7, 3)), np.ones((2, 7, 3)), padding=1)[0]
    array([[14., 21., 14.],
           [14., 21., 14.]])
    """
    return conv(1, input, weight, bias, stride, padding, dilation, groups, algorithm)


def conv2d(
    input,
    weight,
    bias=None,
    stride=1,
    padding=0,
    dilation=1,
    groups=1,
    *,
    algorithm=None,
):
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
    algorithm : {"auto", "gemm", "direct", "winograd"}, optional
        "gemm" is exact im2col and BLAS, for any shape and machine; "direct" multiplies as often
        but reads the input in place; "winograd" multiplies up to four times less, where it
        can; "auto" takes the fastest for the shape. By default that of the surrounding
        :func:`fastconv.algorithm`, or of ``FASTCONV_ALGORITHM``, or "auto". Gradients are
        computed in the same way.

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
    "gemm" and "direct" take N H' W' K C kH kW / groups multiplications, as matrix products of
    im2col strips with the kernels [1]_ or without the columns. "winograd" is minimal filtering
    [2]_ over tiles: 3x3 and 5x5 kernels with stride 1, one group and a multiple of eight input
    channels, where it is wanted but does not fit, "direct" is taken. In float32 the largest
    error, relative to the largest output, is some 1e-6, with "winograd" up to 2e-5.

    What is needed besides the output does not grow with the image: for 64 3x3 kernels on an image
    of 64 x 2048 x 2048, 1.3 MB, and 6 MB for the gradients.

    References
    ----------
    .. [1] K. Chellapilla, S. Puri, P. Simard, "High Performance Convolutional Neural Networks
       for Document Processing", IWFHR 2006, section 3.
    .. [2] A. Lavin, S. Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016.

    Examples
    --------
    >>> import numpy as np, fastconv.functional as F
    >>> x = np.arange(16.0).reshape(1, 1, 4, 4)
    >>> edge = np.array([[[[-1.0, 0.0, 1.0]]]])
    >>> F.conv2d(x, edge)[0, 0, 0]
    array([2., 2.])
    """
    return conv(2, input, weight, bias, stride, padding, dilation, groups, algorithm)


def conv3d(
    input,
    weight,
    bias=None,
    stride=1,
    padding=0,
    dilation=1,
    groups=1,
    *,
    algorithm=None,
):
    """Cross-correlation of volumes; see :func:`conv2d`, with three spatial axes.

    Examples
    --------
    >>> import numpy as np, fastconv.functional as F
    >>> F.conv3d(np.ones((1, 1, 4, 5, 6)), np.ones((2, 1, 3, 3, 3))).shape
    (1, 2, 2, 3, 4)
    """
    return conv(3, input, weight, bias, stride, padding, dilation, groups, algorithm)


def conv(n, input, weight, bias, stride, padding, dilation, groups, algorithm=None, prepared=None):
    """`conv1d`, `conv2d` or `conv3d`; `prepared` keeps a layer's weights as kernels read them."""
    algorithm = _algorithm.resolve(algorithm)
    if algorithm == "auto" and type(input) is type(weight) is np.ndarray:
        # Small arrays of shapes that were checked before: all else would cost more than the work.
        options = (n, stride, padding, dilation, groups)
        plan = _small_plans.get(_small_key(options, input, weight, bias))
        if plan is not None and input.flags.aligned and weight.flags.aligned:
            return _small(input, weight, bias, *plan)
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
        algorithm=algorithm,
        prepared=prepared,
    )


# Multiplications up to which a convolution is small, and the plans of such calls, by their key.
SMALL = 1 << 13
_small_plans = {}


def _small_key(options, x, w, b):
    """What a plan depends on; None for other than plain arrays and integers."""
    for option in options:
        if type(option) is not int:
            return None
    if b is None:
        return options, x.shape, w.shape, x.dtype, w.dtype
    if type(b) is not np.ndarray or not b.flags.aligned:
        return None
    return options, x.shape, w.shape, x.dtype, w.dtype, b.shape, b.dtype


def _small(x, w, b, memory, axes, packed, groups):
    y = np.empty(memory, x.dtype).transpose(axes)
    small.correlate(x, w, b, y, packed, groups)
    return y


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
    if not width:
        raise ValueError(f"weight must have at least one input channel, got shape {w.shape}")
    if x.shape[1] != width * groups:
        raise ValueError(
            f"input has {x.shape[1]} channels, weight of shape {w.shape} with groups={groups} "
            f"needs {width * groups}"
        )
    if b is not None:
        _checks.shape_is("bias", b, (outputs,), "one value per output channel")
    return groups


def _conv_rule(needs, x, w, b, *, n, stride, padding, dilation, groups, algorithm, prepared=None):
    given = x, w, b
    x, w, b = _checks.as_float_arrays({"input": x, "weight": w}, {"bias": b})
    x, unbatched = _checks.batched("input", x, n)
    key = _small_key((n, stride, padding, dilation, groups), x, w, b)
    groups = _check(n, x, w, b, groups)
    geometry = _geometry.convolution(x.shape[2:], w.shape[2:], stride, padding, dilation)
    kernels = by_group(w, groups)
    image = channels_last(x)
    work = len(image) * math.prod(geometry.frame.count) * w.size
    if algorithm == "auto" and work <= SMALL:
        memory = (len(x), *geometry.output, len(w))
        plan = memory, (0, n + 1, *range(1, n + 1)), geometry.frame.packed, groups
        result = _small(x, w, b, *plan)
        if key is not None and all(a is b for a, b in zip(given, (x, w, b), strict=True)):
            if len(_small_plans) >= _geometry.CACHED_SHAPES:
                _small_plans.clear()
            _small_plans[key] = plan
    else:
        y = np.empty((len(image), *geometry.frame.count, len(w)), x.dtype)
        correlate(image, kernels, b, y, geometry.frame, algorithm, prepared)
        result = channels_first(y, n + 2)

    def backward(g):
        dy = channels_last(g[None] if unbatched else g)
        dx = dw = db = None
        if needs[0]:
            dx = channels_first(gradient_by_input(dy, kernels, geometry, algorithm), n + 2)
            dx = dx[0] if unbatched else dx
        if needs[1]:
            dw = correlate_weight(image, dy, kernels.shape, geometry.frame, algorithm)
            dw = channels_first(dw.reshape(len(w), *kernels.shape[2:]), n + 2)
        if needs[2]:
            db = channel_sums(dy.reshape(-1, dy.shape[-1])).astype(dy.dtype)
        return dx, dw, db

    return (result[0] if unbatched else result), backward


def by_group(w, groups):
    """(K, C, *kernel) as (G, K / G, *taps, C), a view if its memory is channels-last."""
    w = channels_last(w)
    return w.reshape(groups, len(w) // groups, *w.shape[1:])


def gradient_by_input(dy, kernels, geometry, algorithm):
    """dx of shape (N, D, H, W, C): dy correlated with the mirrored kernels, phase by phase."""
    groups, _, *_, width = kernels.shape
    frames = geometry.transposed_frames
    covered = sum(math.prod(frame.count) for frame, _ in frames) == math.prod(geometry.size)
    make = np.empty if covered else np.zeros
    dx = make((len(dy), *geometry.size, groups * width), dy.dtype)
    for frame, taps in frames:
        # (G, C, *taps, K): what the taps of this phase, last first, make of dy
        part = kernels[(slice(None), slice(None), *taps)].transpose(0, 5, 2, 3, 4, 1)
        correlate(dy, part, None, dx, frame, algorithm)
    return dx
