"""Convolution and its transpose, forward and both gradients: three products of one geometry."""

import math
from typing import NamedTuple

import numpy as np

from fastconv import _algorithm, _checks, _geometry
from fastconv._activation import NONE
from fastconv._correlate import correlate, correlate_weight
from fastconv._layout import channels_first, channels_last
from fastconv._memory import empty
from fastconv._plan import reads_border
from fastconv.autograd.engine import Adding, apply, is_traced, tensor_of, unwrapped
from fastconv.functional._shared import channel_sums
from fastconv.functional.pad import border, fold_border, pad, spread
from fastconv.kernels import small

__all__ = [
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
]


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
    padding : int, tuple of int, tuple of pairs, or str, default 0
        Zeros around the input: for all axes, per axis, or per axis (before, after). "same"
        keeps the size (stride 1 only), "valid" pads nothing. "same_upper" gives size / stride
        pixels, rounded up, the odd zero after; "same_lower" before.
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
    [2]_ over tiles. It fits kernels of 3x3 with stride 1 or 2, and with stride 1 of 5x5, 4x4, 3x5,
    5x3, 2x2 and of 3 or 5 taps along one axis, those of signals too, all of these also with up to
    eight taps along the first axis of a volume; and with stride 2 square ones of up to 10 taps, on
    images of even sizes; for one group. Where it is wanted but does not fit, "direct" is taken. In
    float32 the largest error, relative to the largest output, is some 1e-6, with "winograd" up to
    2e-5, and 5e-5 relative to the largest gradient.

    Inputs whose memory is channels-last, as that of every result, are read in place; others are
    copied. What is needed besides does not grow with the image: for 64 3x3 kernels on an image of
    64 x 2048 x 2048 and two threads, 1.5 MB for the output and the gradient by input each and
    3.4 MB for that by weight. Only the sums for the gradient by bias grow, to 4.2 MB.
    ``fastconv bench --memory`` prints such figures.

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


def conv_transpose1d(
    input,
    weight,
    bias=None,
    stride=1,
    padding=0,
    output_padding=0,
    groups=1,
    dilation=1,
    *,
    algorithm=None,
):
    """Transposed convolution along one axis; see :func:`conv_transpose2d`.

    Examples
    --------
    Every input writes the kernel, two places on from the one before:

    >>> import numpy as np, fastconv.functional as F
    >>> F.conv_transpose1d(np.array([[[1.0, 10.0]]]), np.array([[[1.0, 2.0, 3.0]]]), stride=2)
    array([[[ 1.,  2., 13., 20., 30.]]])
    """
    return conv_transpose(
        1, input, weight, bias, stride, padding, output_padding, groups, dilation, algorithm
    )


def conv_transpose2d(
    input,
    weight,
    bias=None,
    stride=1,
    padding=0,
    output_padding=0,
    groups=1,
    dilation=1,
    *,
    algorithm=None,
):
    """Transposed convolution of images: the gradient of :func:`conv2d` by its input.

    Parameters
    ----------
    input : Tensor or ndarray of shape (N, C, H, W) or (C, H, W)
        float32 or float64, of any memory layout.
    weight : Tensor or ndarray of shape (C, K / groups, kH, kW)
        The kernels of the convolution, from K channels to C.
    bias : Tensor or ndarray of shape (K,), optional
    stride, dilation : int or tuple of int, default 1
    padding : int, tuple of int or tuple of pairs, default 0
        Zeros around the input of the convolution, which are what is cut off here.
    output_padding : int or tuple of int, default 0
        How much larger than need be the input of the convolution was, after its end: less than
        `stride` or `dilation`.
    groups : int, default 1
    algorithm : {"auto", "gemm", "direct", "winograd"}, optional
        As in :func:`conv2d`.

    Returns
    -------
    Tensor or ndarray of shape (N, K, H', W')
        H' = (H - 1) stride - before - after + dilation (kH - 1) + 1 + output_padding. Its memory
        is channels-last. A Tensor if any argument is one.

    Raises
    ------
    ValueError
        For shapes or options that do not fit together.
    TypeError
        For dtypes other than float32 or float64, or mixed ones.

    Notes
    -----
    It is computed as that gradient is, by a convolution of stride 1 for the outputs of each phase
    of the stride, so zeros are neither inserted nor multiplied. Its gradient by input is a
    convolution.

    Examples
    --------
    >>> import numpy as np, fastconv.functional as F
    >>> x, w = np.ones((1, 8, 5, 6)), np.ones((8, 3, 4, 4))
    >>> F.conv_transpose2d(x, w, stride=2, padding=1).shape
    (1, 3, 10, 12)
    """
    return conv_transpose(
        2, input, weight, bias, stride, padding, output_padding, groups, dilation, algorithm
    )


def conv_transpose3d(
    input,
    weight,
    bias=None,
    stride=1,
    padding=0,
    output_padding=0,
    groups=1,
    dilation=1,
    *,
    algorithm=None,
):
    """Transposed convolution of volumes; see :func:`conv_transpose2d`.

    Examples
    --------
    >>> import numpy as np, fastconv.functional as F
    >>> F.conv_transpose3d(np.ones((1, 2, 2, 3, 4)), np.ones((2, 1, 2, 2, 2)), stride=2).shape
    (1, 1, 4, 6, 8)
    """
    return conv_transpose(
        3, input, weight, bias, stride, padding, output_padding, groups, dilation, algorithm
    )


def conv(n, input, weight, bias, stride, padding, dilation, groups, algorithm=None, prepared=None):
    """`conv1d`, `conv2d` or `conv3d`; `prepared` keeps a layer's weights as kernels read them."""
    algorithm = _algorithm.resolve(algorithm)
    options = (n, stride, padding, dilation, groups)
    if not is_traced():
        arrays, wrapped, recorded = unwrapped(input, weight, bias)
        call = None if recorded else _known(options, *arrays)
        if call is not None:
            result = _forward(call, *arrays, algorithm, prepared)[0]
            return tensor_of(result) if wrapped else result
    return apply(
        _conv_rule,
        input,
        weight,
        bias,
        options=options,
        algorithm=algorithm,
        prepared=prepared,
    )


class _Call(NamedTuple):
    """What is known of calls with arguments like those that were checked."""

    geometry: _geometry.Convolution
    groups: int
    unbatched: bool
    memory: tuple  # (N, D', H', W', K)
    view: tuple  # the same without the leading axes of length one
    axes: tuple  # from there to (N, K, *spatial)
    small: bool  # all else would cost more than the multiplications


# By all that a check depends on: the next such call, of a training step or of a small network,
# would spend as long on checks as on its work.
_calls = {}
# Multiplications up to which a convolution is small.
SMALL = 1 << 13


def _key(options, x, w, b):
    """What a check depends on, of ndarrays; None for options that are not ints or tuples of them.

    As keys, True and 1.0 would pass for 1.
    """
    if not _plain(options):
        return None
    if b is None:
        return options, x.shape, w.shape, x.dtype, w.dtype
    return options, x.shape, w.shape, x.dtype, w.dtype, b.shape, b.dtype


def _plain(options):
    if type(options) is not tuple:
        return False
    for option in options:
        if type(option) is not int and _seen.get(id(option)) is not option:
            if not _plain(option):
                return False
            if len(_seen) >= _geometry.CACHED_SHAPES:
                _seen.clear()
            _seen[id(option)] = option  # kept, so no other object has its id
    return True


_seen = {}  # by id, tuples that are plain: those of layers come again and again


def _known(options, x, w, b):
    """The :class:`_Call`, if all are ndarrays that kernels can read and one like it was checked."""
    for array in (x, w) if b is None else (x, w, b):
        if type(array) is not np.ndarray or not array.flags.aligned:
            return None
    return _calls.get(_key(options, x, w, b))


def _checked(x, w, b, n, stride, padding, dilation, groups):
    """The arrays, fit for kernels, and the :class:`_Call`."""
    given = x, w, b
    x, w, b = _checks.as_float_arrays({"input": x, "weight": w}, {"bias": b})
    batch, unbatched = _checks.batched("input", x, n)
    key = None
    if all(array is other for array, other in zip(given, (x, w, b), strict=True)):
        key = _key((n, stride, padding, dilation, groups), x, w, b)
    groups = check(n, batch, w, b, groups)
    geometry = _geometry.convolution(batch.shape[2:], w.shape[2:], stride, padding, dilation)
    memory = (len(batch), *geometry.frame.count, len(w))
    call = _Call(
        geometry,
        groups,
        unbatched,
        memory,
        (len(batch), *geometry.output, len(w)),
        (0, n + 1, *range(1, n + 1)),
        math.prod(memory[:4]) * w.size <= SMALL,
    )
    if key is not None:
        if len(_calls) >= _geometry.CACHED_SHAPES:
            _calls.clear()
        _calls[key] = call
    return (x, w, b), call


def _forward(call, x, w, b, algorithm, prepared, residual=None, activation=NONE):
    """The result, and the input and kernels as kernels read them, if that was needed.

    `residual`, of the result's shape and dtype, is added before the activation.
    """
    x = x[None] if call.unbatched else x
    y = empty(call.view, x.dtype)
    result = y.transpose(call.axes)
    image = kernels = None
    if residual is not None:
        residual = residual[None] if call.unbatched else residual
        _checks.shape_is("residual", residual, result.shape, "the result's")
    frame = call.geometry.frame
    if call.small and algorithm == "auto":
        small.correlate(x, w, b, result, residual, *activation, frame.packed, call.groups)
    else:
        image, kernels = channels_last(x), by_group(w, call.groups)
        residual = None if residual is None else channels_last(residual)
        y = y.reshape(call.memory)
        correlate(image, kernels, b, y, frame, algorithm, prepared, residual, activation)
    return (result[0] if call.unbatched else result), image, kernels


def check(n, x, w, b, groups):
    """`groups`, if the shapes fit together."""
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


def _conv_rule(needs, x, w, b, *, options, algorithm, prepared=None):
    call = _known(options, x, w, b)
    if call is None:
        (x, w, b), call = _checked(x, w, b, *options)
    result, image, kernels = _forward(call, x, w, b, algorithm, prepared)

    def memory(array):
        return channels_last(array[None] if call.unbatched else array)

    def backward(g, before):
        images = memory(x) if image is None else image
        weights = by_group(w, call.groups) if kernels is None else kernels
        before = None if before is None else memory(before)
        dx, dw, db = _gradients(
            images, weights, memory(g), needs, call.geometry, w.ndim, algorithm, before
        )
        return (dx[0] if needs[0] and call.unbatched else dx), dw, db

    return result, Adding(backward)


def _gradients(images, kernels, dy, needs, geometry, ndim, algorithm, before=None):
    """Of logical axes, by images (with `before` added, of their memory), weight and bias."""
    dx = dw = db = None
    if needs[0]:
        dx = gradient_by_input(dy, kernels, geometry, algorithm, residual=before)
        dx = channels_first(dx, ndim)
    if needs[1]:
        dw = correlate_weight(images, dy, kernels.shape, geometry.frame, algorithm)
        dw = channels_first(dw.reshape(-1, *kernels.shape[2:]), ndim)
    if needs[2]:
        db = channel_sums(dy.reshape(-1, dy.shape[-1])).astype(dy.dtype)
    return dx, dw, db


def conv_bordered(
    n, input, weight, bias, stride, pairs, dilation, groups, mode, algorithm, prepared
):
    """:func:`conv` of an image inside a border, as wide as `pairs` say, that repeats it.

    Images of one channel, which stencils have, are not copied into the border first.
    """
    algorithm = _algorithm.resolve(algorithm)
    if is_traced() or not reads_border(weight.shape, stride, algorithm):
        input = pad(input, [side for pair in reversed(pairs) for side in pair], mode)
        return conv(n, input, weight, bias, stride, 0, dilation, groups, algorithm, prepared)
    options = {"mode": mode, "algorithm": algorithm, "prepared": prepared}
    return apply(
        _conv_bordered_rule, input, weight, bias, options=(n, stride, pairs, dilation), **options
    )


def _conv_bordered_rule(needs, x, w, b, *, options, mode, algorithm, prepared):
    n, stride, pairs, dilation = options
    x, w, b = _checks.as_float_arrays({"input": x, "weight": w}, {"bias": b})
    x, unbatched = _checks.batched("input", x, n)
    check(n, x, w, b, 1)
    axes = border(x.shape, ((0, 0), (0, 0), *pairs), mode)
    size, kernel = x.shape[2:], w.shape[2:]
    geometry = _geometry.convolution(size, kernel, stride, pairs, dilation, mode)
    kernels = by_group(w, 1)
    y = empty((len(x), *geometry.frame.count, 1), x.dtype)
    correlate(channels_last(x), kernels, b, y, geometry.frame, algorithm, prepared)

    def backward(g):
        inside = spread(x, axes)
        whole = _geometry.convolution(inside.shape[2:], kernel, stride, 0, dilation)
        dy, images = channels_last(g[None] if unbatched else g), channels_last(inside)
        dx, dw, db = _gradients(images, kernels, dy, needs, whole, w.ndim, algorithm)
        if needs[0]:
            dx = fold_border(dx, axes, x.shape)
            dx = dx[0] if unbatched else dx
        return dx, dw, db

    result = channels_first(y, w.ndim)
    return (result[0] if unbatched else result), backward


def conv_transpose(
    n,
    input,
    weight,
    bias,
    stride,
    padding,
    output_padding,
    groups,
    dilation,
    algorithm=None,
):
    """`conv_transpose1d`, `conv_transpose2d` or `conv_transpose3d`."""
    return apply(
        _conv_transpose_rule,
        input,
        weight,
        bias,
        options=(n, stride, padding, output_padding, groups, dilation),
        algorithm=_algorithm.resolve(algorithm),
    )


def check_transposed(n, x, w, b, groups):
    """`groups`, if the shapes fit together."""
    if w.ndim != n + 2:
        raise ValueError(
            f"weight must have {n + 2} axes (inputs, outputs / groups, {n} spatial), "
            f"got shape {w.shape}"
        )
    groups = _checks.integer("groups", groups, minimum=1)
    inputs, width = w.shape[:2]
    if inputs % groups or not inputs:
        raise ValueError(
            f"groups must divide the {inputs} input channels of weight, got groups={groups}"
        )
    if not width:
        raise ValueError(f"weight must have at least one output channel, got shape {w.shape}")
    if x.shape[1] != inputs:
        raise ValueError(
            f"input has {x.shape[1]} channels, weight of shape {w.shape} needs {inputs}"
        )
    if b is not None:
        _checks.shape_is("bias", b, (width * groups,), "one value per output channel")
    return groups


def _conv_transpose_rule(needs, x, w, b, *, options, algorithm):
    n, stride, padding, output_padding, groups, dilation = options
    x, w, b = _checks.as_float_arrays({"input": x, "weight": w}, {"bias": b})
    x, unbatched = _checks.batched("input", x, n)
    groups = check_transposed(n, x, w, b, groups)
    geometry = _geometry.transposed_convolution(
        x.shape[2:], w.shape[2:], stride, padding, dilation, output_padding
    )
    # What is x here is the gradient by the output of the convolution, and y that by its input.
    pixels, kernels = channels_last(x), by_group(w, groups)

    def logical(image):
        image = channels_first(image, w.ndim)
        return image[0] if unbatched else image

    def memory(array):
        return channels_last(array[None] if unbatched else array)

    def backward(g, before):
        image = memory(g)
        dx = dw = db = None
        if needs[0]:
            dx = empty(pixels.shape, image.dtype)
            before = None if before is None else memory(before)
            correlate(image, kernels, None, dx, geometry.frame, algorithm, residual=before)
            dx = logical(dx)
        if needs[1]:
            dw = correlate_weight(image, pixels, kernels.shape, geometry.frame, algorithm)
            dw = channels_first(dw.reshape(len(w), *kernels.shape[2:]), w.ndim)
        if needs[2]:
            db = channel_sums(image.reshape(-1, image.shape[-1])).astype(image.dtype)
        return dx, dw, db

    return logical(gradient_by_input(pixels, kernels, geometry, algorithm, b)), Adding(backward)


def by_group(w, groups):
    """(K, C, *kernel) as (G, K / G, *taps, C), a view if its memory is channels-last."""
    w = channels_last(w)
    return w.reshape(groups, len(w) // groups, *w.shape[1:])


def gradient_by_input(dy, kernels, geometry, algorithm, bias=None, residual=None):
    """dx of shape (N, D, H, W, C): dy correlated with the mirrored kernels, phase by phase.

    As a transposed convolution it may have a bias; or, as one of several gradients, a residual.
    """
    phases = transposed(kernels, geometry)
    dx = empty((len(dy), *geometry.size, phases.channels), dy.dtype)
    if not phases.covering:
        rest = bias if residual is None else residual
        dx[...] = 0 if rest is None else rest
    for frame, part in phases.parts:
        correlate(dy, part, bias, dx, frame, algorithm, residual=residual)
    return dx


class Transposed(NamedTuple):
    """The gradient by input as correlations."""

    channels: int
    covering: bool  # whether they write to every place
    parts: list  # (frame, kernels) for each phase of the stride


def transposed(kernels, geometry):
    """The :class:`Transposed` of kernels (G, K, *taps, C)."""
    frames = geometry.transposed_frames
    covered = sum(math.prod(frame.count) for frame, _ in frames) == math.prod(geometry.size)
    # (G, C, *taps, K): what the taps of a phase, last first, make of dy
    parts = [
        (frame, kernels[(slice(None), slice(None), *taps)].transpose(0, 5, 2, 3, 4, 1))
        for frame, taps in frames
    ]
    return Transposed(kernels.shape[0] * kernels.shape[5], covered, parts)
