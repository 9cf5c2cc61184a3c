"""Convolution, forward and both gradients: three products of one geometry."""

import math

import numpy as np

from fastconv import _checks, _geometry
from fastconv._correlate import correlate, correlate_weight
from fastconv._layout import channels_first, channels_last
from fastconv.autograd.engine import apply
from fastconv.functional._shared import channel_sums

__all__ = ["conv1d", "conv2d", "conv3d"]


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


def _conv_rule(needs, x, w, b, *, n, stride, padding, dilation, groups):
    x, w, b = _checks.as_float_arrays({"input": x, "weight": w}, {"bias": b})
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
            dw = weight_axes(correlate_weight(image, dy, rows.shape, geometry.frame), w.shape)
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
