"""Convolutions and pools."""

import math

import numpy as np

from fastconv import _geometry
from fastconv import functional as F
from fastconv.autograd import arrays, ops, pointwise, reductions
from fastconv.autograd.engine import apply, is_traced
from fastconv.functional.conv import conv as convolve
from fastconv.functional.pad import _pad_arrays
from fastconv.functional.pool import _avg_rule, _lp_rule, _max_rule
from fastconv.onnx.errors import bounded
from fastconv.onnx.operators._shared import ints
from fastconv.onnx.registry import operator

__all__ = []

_SAME = {"SAME_UPPER": "same_upper", "SAME_LOWER": "same_lower"}


def spatial(x):
    """How many spatial axes x, (N, C, *spatial), has: one to three."""
    if not 3 <= x.ndim <= 5:
        raise ValueError(f"input must have one to three spatial axes, got shape {x.shape}")
    return x.ndim - 2


def padding(auto_pad, pads, n):
    """ONNX's two attributes as the padding of :mod:`fastconv._geometry`."""
    if auto_pad in _SAME:
        return _SAME[auto_pad]
    if auto_pad not in ("NOTSET", "VALID"):
        raise ValueError(f"auto_pad must be NOTSET, VALID, {' or '.join(_SAME)}, got {auto_pad!r}")
    pads = (0,) * (2 * n) if pads is None or auto_pad == "VALID" else pads
    if len(pads) != 2 * n:
        raise ValueError(f"pads must be {2 * n} sizes, got {pads}")
    return tuple(zip(pads[:n], pads[n:], strict=True))


def _sizes(name, values, n):
    values = (1,) * n if values is None else values
    if len(values) != n or min(values) < 1:
        raise ValueError(f"{name} must be {n} positive sizes, got {values}")
    return values


def _window(x, n, kernel, strides, pads, dilations, ceil_mode=False):
    """Checked sizes, of a result that is not too large."""
    kernel = _sizes("kernel_shape", kernel, n)
    strides, dilations = _sizes("strides", strides, n), _sizes("dilations", dilations, n)
    pairs = _geometry.padding_pairs(pads, n, kernel, strides, dilations, x.shape[2:])
    output = _geometry.output_sizes(x.shape[2:], kernel, strides, pairs, dilations, ceil_mode)
    bounded((*x.shape[:2], *output), x.dtype)
    return kernel, strides, dilations, output


@operator("Conv", widen=True)
def conv(
    x, w, b=None, *,
    auto_pad: str = "NOTSET", dilations: tuple | None = None, group: int = 1,
    kernel_shape: tuple | None = None, pads: tuple | None = None, strides: tuple | None = None,
):  # fmt: skip
    n = spatial(x)
    if w.ndim != n + 2 or kernel_shape not in (None, w.shape[2:]):
        raise ValueError(f"W of shape {w.shape} does not fit kernel_shape={kernel_shape}")
    pads = padding(auto_pad, pads, n)
    _, strides, dilations, output = _window(x, n, w.shape[2:], strides, pads, dilations)
    bounded((len(x), len(w), *output), x.dtype)
    return convolve(n, x, w, b, strides, pads, dilations, group)


@operator("ConvTranspose", widen=True)
def conv_transpose(
    x, w, b=None, *,
    auto_pad: str = "NOTSET", dilations: tuple | None = None, group: int = 1,
    kernel_shape: tuple | None = None, output_padding: tuple | None = None,
    output_shape: tuple | None = None,
    pads: tuple | None = None, strides: tuple | None = None,
):  # fmt: skip
    n = spatial(x)
    if w.ndim != n + 2 or kernel_shape not in (None, w.shape[2:]):
        raise ValueError(f"W of shape {w.shape} does not fit kernel_shape={kernel_shape}")
    strides, dilations = _sizes("strides", strides, n), _sizes("dilations", dilations, n)
    more = output_padding or (0,) * n
    pads = padding(auto_pad, pads, n)
    whole = [  # without padding
        (length - 1) * s + d * (k - 1) + 1 + p
        for length, s, d, k, p in zip(
            x.shape[2:], strides, dilations, w.shape[2:], more, strict=True
        )
    ]
    bounded((len(x), w.shape[1] * group, *whole), x.dtype)
    transposed = getattr(F, f"conv_transpose{n}d")
    if output_shape is not None:
        wanted = output_shape[-n:]
        bounded((len(x), w.shape[1] * group, *wanted), x.dtype)
        y = transposed(x, w, None, strides, 0, more, group, dilations)
        y = _resized(y, wanted, pads == "same_upper")
        return y if b is None else apply(ops._add, y, _by_channel(b, n))
    if pads in ("same_upper", "same_lower"):
        # of size * stride pixels: what is cut does not depend on the size
        cut = [a - length * s for a, length, s in zip(whole, x.shape[2:], strides, strict=True)]
        pads = _halves(cut, pads == "same_upper")
    if all(before == after >= 0 for before, after in pads):
        same = tuple(before for before, _ in pads)
        return transposed(x, w, b, strides, same, more, group, dilations)
    y = transposed(x, w, b, strides, (0,) * n, more, group, dilations)
    sizes = [-before for before, _ in pads] + [-after for _, after in pads]
    return apply(_pad_arrays, y, ints(sizes), np.zeros((), y.dtype), ints(range(2, n + 2)),
                 mode="constant")  # fmt: skip


def _resized(y, sizes, upper):
    """The middle of y, of these spatial sizes, zeros behind it where it is smaller.

    What is cut depends on the size of y, so it is computed by rules, which plans follow.
    """
    n = len(sizes)
    shape = apply(arrays._shape, y)
    now = apply(arrays._slice, shape, ints([2]), ints([n + 2]))
    cut = apply(ops._subtract, now, ints(sizes))
    within = apply(pointwise._binary, cut, ints([0] * n), function="maximum")
    if not upper:  # the larger half before
        within = apply(ops._add, within, ints([1] * n))
    before = apply(pointwise._binary, within, ints([2] * n), function="divide_integers")
    after = apply(ops._subtract, cut, before)
    pads = apply(ops._negative, apply(ops._concatenate, before, after, dim=0))
    zero = np.zeros((), y.dtype)
    return apply(_pad_arrays, y, pads, zero, ints(range(2, n + 2)), mode="constant")


def _by_channel(values, n):
    return apply(ops._reshape, values, shape=(1, -1, *[1] * n))


def _halves(cut, upper):
    """Of each, the half before and the rest, or the other way."""
    return tuple((c // 2, c - c // 2) if upper else (c - c // 2, c // 2) for c in cut)


@operator("MaxPool", widen=True)
def max_pool(
    x, *, kernel_shape: tuple, outputs: int, auto_pad: str = "NOTSET", ceil_mode: int = 0,
    dilations: tuple | None = None, pads: tuple | None = None, storage_order: int = 0,
    strides: tuple | None = None,
):  # fmt: skip
    if x.dtype.kind in "iu":
        return _pool_of_integers(
            x, kernel_shape=kernel_shape, outputs=outputs, auto_pad=auto_pad, ceil_mode=ceil_mode,
            dilations=dilations, pads=pads, storage_order=storage_order, strides=strides,
        )  # fmt: skip
    n = spatial(x)
    pads = padding(auto_pad, pads, n)
    kernel, strides, dilations, _ = _window(x, n, kernel_shape, strides, pads, dilations, ceil_mode)
    options = (kernel, strides, pads, dilations, bool(ceil_mode))
    y, places = apply(_max_rule, x, n=n, options=options)
    if outputs == 1:
        return y
    return y, _places(places.astype(np.int64), x.shape, bool(storage_order))


def _pool_of_integers(x, **options):
    """Integers of 8 bits are whole in float32."""
    if x.dtype.itemsize > 1:
        raise TypeError(f"input must be of floats or 8-bit integers, got {x.dtype}")
    y = max_pool(apply(ops._astype, x, dtype=np.dtype(np.float32)), **options)
    y, *places = y if isinstance(y, tuple) else (y,)
    return (apply(ops._astype, y, dtype=x.dtype), *places)


def _places(places, shape, by_columns):
    """Places in an image as places in the whole tensor."""
    sizes = shape[2:]
    if by_columns:  # the first spatial axis fastest
        places = np.ravel_multi_index(
            np.unravel_index(places.ravel(), sizes), sizes, order="F"
        ).reshape(places.shape)
    images = np.arange(shape[0] * shape[1]).reshape(*shape[:2], *[1] * len(sizes))
    return places + images * math.prod(sizes)


@operator("AveragePool", widen=True)
def average_pool(
    x, *, kernel_shape: tuple, auto_pad: str = "NOTSET", ceil_mode: int = 0,
    count_include_pad: int = 0, dilations: tuple | None = None, pads: tuple | None = None,
    strides: tuple | None = None,
):  # fmt: skip
    n = spatial(x)
    pads = padding(auto_pad, pads, n)
    kernel, strides, dilations, output = _window(
        x, n, kernel_shape, strides, pads, dilations, ceil_mode
    )
    if max(dilations) > 1:
        sums, counts = _window_sums(x, kernel, strides, pads, dilations, output, count_include_pad)
        return apply(ops._divide, sums, counts)
    options = (kernel, strides, pads, 1, bool(ceil_mode), bool(count_include_pad))
    return apply(_avg_rule, x, n=n, options=options, divisor=None)


def _window_sums(x, kernel, strides, pads, dilations, output, include_pads=False):
    """Sums over windows with gaps, and the places that count, as convolutions with ones."""
    n, channels = spatial(x), x.shape[1]
    pairs = _geometry.padding_pairs(pads, n, kernel, strides, dilations, x.shape[2:])
    reach = [
        (o - 1) * s + _geometry.window_size(k, d)
        for o, s, k, d in zip(output, strides, kernel, dilations, strict=True)
    ]
    more = [
        max(r - size - before - after, 0)
        for r, size, (before, after) in zip(reach, x.shape[2:], pairs, strict=True)
    ]  # of ceil_mode
    if any(more):
        if is_traced():
            raise ValueError("a plan has no windows with both ceil_mode and dilations")
        pads = tuple((b, a + m) for (b, a), m in zip(pairs, more, strict=True))
    ones = np.ones((channels, 1, *kernel), x.dtype)
    sums = convolve(n, x, ones, None, strides, pads, dilations, channels)
    sizes = apply(arrays._slice, apply(arrays._shape, x), ints([2]), ints([n + 2]))
    shape = apply(ops._concatenate, ints([1, 1]), sizes, dim=0)
    image = apply(arrays._full, shape, np.ones((), x.dtype))
    if include_pads and not isinstance(pads, str):
        before, after = zip(*pairs, strict=True)
        axes = ints(range(2, n + 2))
        image = apply(
            _pad_arrays, image, ints(before + after), np.ones(1, x.dtype), axes, mode="constant"
        )
        pads = tuple((0, m) for m in more)
    return sums, convolve(n, image, ones[:1], None, strides, pads, dilations, 1)


@operator("LpPool", widen=True)
def lp_pool(
    x, *, kernel_shape: tuple, auto_pad: str = "NOTSET", ceil_mode: int = 0,
    dilations: tuple | None = None, p: int = 2, pads: tuple | None = None,
    strides: tuple | None = None,
):  # fmt: skip
    n = spatial(x)
    pads = padding(auto_pad, pads, n)
    kernel, strides, dilations, output = _window(
        x, n, kernel_shape, strides, pads, dilations, ceil_mode
    )
    x = x if p % 2 == 0 else apply(ops._absolute, x)
    if max(dilations) > 1:
        powers = apply(ops._power, x, np.asarray(p, x.dtype))
        sums, _ = _window_sums(powers, kernel, strides, pads, dilations, output)
        return apply(ops._power, sums, np.asarray(1 / p, x.dtype))
    options = (kernel, strides, pads, 1, bool(ceil_mode))
    return apply(_lp_rule, x, n=n, options=options, power=float(p))


@operator("GlobalAveragePool", widen=True)
def global_average_pool(x):
    pools = {3: F.adaptive_avg_pool1d, 4: F.adaptive_avg_pool2d, 5: F.adaptive_avg_pool3d}
    return pools[x.ndim](x, 1) if x.ndim in pools else _over_images(x, "mean")


@operator("GlobalMaxPool", widen=True)
def global_max_pool(x):
    pools = {3: F.adaptive_max_pool1d, 4: F.adaptive_max_pool2d, 5: F.adaptive_max_pool3d}
    return pools[x.ndim](x, 1) if x.ndim in pools else _over_images(x, "max")


@operator("GlobalLpPool", widen=True)
def global_lp_pool(x, *, p: int = 2):
    if p in (1, 2):
        return _over_images(x, f"l{p}")
    powers = apply(ops._power, apply(ops._absolute, x), np.asarray(p, x.dtype))
    return apply(ops._power, _over_images(powers, "sum"), np.asarray(1 / p, x.dtype))


def _over_images(x, function):
    axes = ints(range(2, x.ndim))
    return apply(reductions._reduce, x, axes, function=function, keepdim=True)


@operator("MaxUnpool", since=9, widen=True)
def max_unpool(
    x, indices, output_shape=None, *,
    kernel_shape: tuple, pads: tuple | None = None, strides: tuple | None = None,
):  # fmt: skip
    n = spatial(x)
    kernel, strides = _sizes("kernel_shape", kernel_shape, n), _sizes("strides", strides, n)
    pads = padding("NOTSET", pads, n)
    sizes = [
        (length - 1) * s + k - before - after
        for length, s, k, (before, after) in zip(x.shape[2:], strides, kernel, pads, strict=True)
    ]
    wanted = (*x.shape[:2], *sizes)
    if output_shape is not None:
        wanted = tuple(arrays.as_ints("output_shape", np.asarray(output_shape)))
    bounded(wanted, x.dtype)
    # places are in the tensor of the usual sizes
    total = ints([math.prod((*x.shape[:2], *sizes))])
    flat = apply(arrays._full, total, np.zeros((), x.dtype))
    column = apply(ops._reshape, indices, shape=(-1,))
    values = apply(ops._reshape, x, shape=(-1,))
    y = apply(arrays._scatter_elements, flat, column, values, axis=0, reduction="none")
    y = apply(ops._reshape, y, shape=(*x.shape[:2], *sizes))
    after = [w - h for w, h in zip(wanted, y.shape, strict=True)]
    if not any(after):
        return y
    zero = np.zeros((), x.dtype)
    return apply(_pad_arrays, y, ints([0] * x.ndim + after), zero, None, mode="constant")


@operator("Col2Im", since=18, widen=True)
def col2im(
    x, image_shape, block_shape, *,
    dilations: tuple | None = None, pads: tuple | None = None, strides: tuple | None = None,
):  # fmt: skip
    size = tuple(arrays.as_ints("image_shape", np.asarray(image_shape)))
    block = tuple(arrays.as_ints("block_shape", np.asarray(block_shape)))
    n = len(size)
    strides, dilations = _sizes("strides", strides, n), _sizes("dilations", dilations, n)
    bounded((len(x), x.shape[1] // max(math.prod(block), 1), *size), x.dtype)
    return F.col2im(x, size, block, strides, padding("NOTSET", pads, n), dilations)


@operator("LRN", widen=True)
def local_response_norm(
    x, *, size: int, alpha: float = 0.0001, beta: float = 0.75, bias: float = 1.0
):
    """x / (bias + alpha / size * sum x^2)^beta, summed over `size` neighbouring channels."""
    if size < 1:
        raise ValueError(f"size must be positive, got {size}")
    squares = apply(ops._multiply, x, x)
    # channels as the spatial axis of a pool over their windows
    rows = apply(arrays._matrix, squares, axis=2)
    lines = apply(ops._permute, _split_first(rows, x), axes=(0, 2, 1))
    before = (size - 1) // 2
    options = ((size,), (1,), ((before, size - 1 - before),), (1,), False, True)
    means = apply(_avg_rule, lines, n=1, options=options, divisor=None)
    means = apply(arrays._view, apply(ops._permute, means, axes=(0, 2, 1)),
                  apply(arrays._shape, x), zero_keeps=False)  # fmt: skip
    scaled = apply(ops._multiply, means, np.asarray(alpha, x.dtype))
    base = apply(ops._add, scaled, np.asarray(bias, x.dtype))
    return apply(ops._divide, x, apply(ops._power, base, np.asarray(beta, x.dtype)))


def _split_first(rows, x):
    """(N C, P) as (N, C, P)."""
    sizes = apply(arrays._shape, x)
    first = apply(arrays._slice, sizes, ints([0]), ints([2]))
    shape = apply(ops._concatenate, first, ints([-1]), dim=0)
    return apply(arrays._view, rows, shape, zero_keeps=False)
