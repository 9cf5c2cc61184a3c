"""What the rules of layers become in ONNX: convolution, pooling, resizing.

An emitter has its rule's arguments, with a :class:`~fastconv.onnx.builder.Builder` in the place of
`needs`, and returns the result's name.
"""

import math

import numpy as np

from fastconv import _checks, _geometry
from fastconv.onnx.emit_arrays import reshaped
from fastconv.onnx.sizes import Size

__all__ = ["EMITTERS"]


def _batched(g, x, n, emit):
    """``emit(x)`` of a value with n spatial axes, which gets a batch axis if it has none."""
    if len(g.shape(x)) == n + 2:
        return emit(x)
    results = emit(g.unsqueeze(x, 0))
    if isinstance(results, tuple):
        return tuple(g.squeeze(y, 0) for y in results)
    return g.squeeze(results, 0)


def _ends(pairs):
    """(before, after) per axis as ONNX has them: all that is before, then all after."""
    before, after = zip(*pairs, strict=True)
    return (*before, *after)


def _pairs(g, x, n, padding, kernel, stride, dilation):
    """Padding as (before, after) per axis."""
    size = None
    if isinstance(padding, str) and padding.startswith("same_"):  # these follow the sizes
        size = tuple(map(int, g.shape(x)[-n:]))
    return _geometry.padding_pairs(padding, n, kernel, stride, dilation, size)


# Convolution and the dense layer ------------------------------------------------------------------


def _conv(g, x, w, b, *, options, algorithm, prepared=None):
    n, stride, padding, dilation, groups = options
    kernel = g.shape(w)[2:]
    stride = _checks.integers("stride", stride, n)
    dilation = _checks.integers("dilation", dilation, n)
    pads = _ends(_pairs(g, x, n, padding, kernel, stride, dilation))
    return _batched(
        g, x, n,
        lambda x: g.add(
            "Conv", x, w, b, kernel_shape=kernel, strides=stride, dilations=dilation, pads=pads,
            group=groups,
        ),
    )  # fmt: skip


def _conv_transpose(g, x, w, b, *, options, algorithm):
    n, stride, padding, output_padding, groups, dilation = options
    kernel = g.shape(w)[2:]
    stride = _checks.integers("stride", stride, n)
    dilation = _checks.integers("dilation", dilation, n)
    spare = _checks.integers("output_padding", output_padding, n)
    pads = _ends(_pairs(g, x, n, padding, kernel, stride, dilation))
    return _batched(
        g, x, n,
        lambda x: g.add(
            "ConvTranspose", x, w, b, kernel_shape=kernel, strides=stride, dilations=dilation,
            pads=pads, output_padding=spare if any(spare) else None, group=groups,
        ),
    )  # fmt: skip


def _linear(g, x, w, b):
    if len(g.shape(x)) == 2:
        return g.add("Gemm", x, w, b, transB=1)
    y = g.add("MatMul", x, g.add("Transpose", w, perm=(1, 0)))
    return y if b is None else g.add("Add", y, b)


def _taps(channels, kernel, dtype):
    """Weights of a convolution whose every output is one tap of one channel."""
    taps = math.prod(kernel)
    eye = np.eye(taps, dtype=dtype).reshape(taps, 1, *kernel)
    return np.tile(eye, (channels, *[1] * (len(kernel) + 1)))


def _im2col(g, x, *, kernel_size, stride, padding, dilation):
    """A convolution that copies, as ONNX has no operator of this kind."""
    n, channels = len(g.shape(x)) - 2, int(g.shape(x)[1])
    kernel = _checks.integers("kernel_size", kernel_size, n)
    w = _taps(channels, kernel, g.dtype(x))
    options = n, stride, padding, dilation, channels
    return g.add("Reshape", _conv(g, x, w, None, options=options, algorithm=None), _rows(g))


def _rows(g):
    """The shape (N, what there is, -1)."""
    return g.numbers((0, int(g.shape(g.result)[1]), -1))


def _col2im(g, x, *, size, kernel_size, stride, padding, dilation):
    n = len(size)
    kernel = _checks.integers("kernel_size", kernel_size, n)
    channels = int(g.shape(x)[1]) // math.prod(kernel)
    geometry = _geometry.convolution(size, kernel, stride, padding, dilation)
    stride, dilation = geometry.stride[3 - n :], geometry.dilation[3 - n :]
    pads = geometry.padding[3 - n :]
    # The places that no window covers lie after the last one.
    spare = [
        length - ((o - 1) * s + _geometry.window_size(k, d) - before - after)
        for length, o, s, k, d, (before, after) in zip(
            size, geometry.output, stride, kernel, dilation, pads, strict=True
        )
    ]
    maps = g.numbers((0, int(g.shape(x)[1]), *geometry.output))
    return g.add(
        "ConvTranspose", g.add("Reshape", x, maps), _taps(channels, kernel, g.dtype(x)),
        kernel_shape=kernel, strides=stride, dilations=dilation, pads=_ends(pads),
        output_padding=spare if any(spare) else None, group=channels,
    )  # fmt: skip


# Pooling ------------------------------------------------------------------------------------------


class _Windows:
    """Windows of a strided pooling, as attributes.

    What ``ceil_mode`` adds is written as padding: what the operator's own `ceil_mode` means has
    changed from opset to opset.
    """

    def __init__(self, g, x, n, kernel, stride, padding, dilation, ceil_mode):
        self.kernel = _checks.integers("kernel_size", kernel, n)
        stride = self.kernel if stride is None else _checks.integers("stride", stride, n)
        dilation = _checks.integers("dilation", dilation, n)
        self.padding = _pairs(g, x, n, padding, self.kernel, stride, dilation)
        self.added = (0,) * n
        if ceil_mode:
            size = [int(length) for length in g.shape(x)[-n:]]
            axes = zip(size, self.kernel, stride, self.padding, dilation, strict=True)
            self.added = tuple(_added(*axis) for axis in axes)
        self.attributes = {
            "kernel_shape": self.kernel,
            "strides": stride,
            "dilations": dilation if any(d > 1 for d in dilation) else None,
        }

    def pads(self, padding):
        pairs = zip(padding, self.added, strict=True)
        return _ends([(before, after + more) for (before, after), more in pairs])


def _added(size, kernel, stride, padding, dilation):
    """Places after an axis that its last window needs beyond the padding."""
    count = _geometry.output_size(size, kernel, stride, padding, dilation, True)
    span = (count - 1) * stride + _geometry.window_size(kernel, dilation)
    return max(span - size - sum(padding), 0)


def _maxima(g, x, size, **attributes):
    """MaxPool and, if they are needed, the places of the maxima, which rules count by image."""
    if g.extra is None:
        return g.add("MaxPool", x, **attributes)
    y, places = g.add_several("MaxPool", 2, x, **attributes)
    places = g.add("Mod", places, np.array(math.prod(map(int, size))))
    return y, g.convert(places, g.dtype(g.extra))


def _max_pool(g, x, *, n, options, floor=-math.inf):
    windows = _Windows(g, x, n, *options)
    pads = windows.pads(windows.padding)
    dtype, size = g.dtype(x), g.shape(x)[-n:]

    def emit(x):
        if floor > -math.inf:
            x = g.add("Relu", x) if floor == 0 else g.add("Max", x, g.constant(floor, dtype))
        if all(p < k for p, k in zip(pads, windows.kernel * 2, strict=True)):
            return _maxima(g, x, size, pads=pads, **windows.attributes)
        if g.extra is not None:
            raise ValueError(f"places of maxima with padding {pads} as wide as the windows")
        pairs = [(0, 0)] * 2 + list(zip(pads[:n], pads[n:], strict=True))
        return g.add("MaxPool", g.pad(x, pairs, -math.inf, dtype), **windows.attributes)

    return _batched(g, x, n, emit)


def _means(g, x, windows, include):
    """Means of windows, over the padding too if it is to be included."""
    padding = windows.padding
    include = include and any(map(any, padding))
    if include and any(windows.added):  # what ceil_mode adds does not count
        x = g.pad(x, ((0, 0), (0, 0), *padding), 0, g.dtype(g.result))
        padding, include = [(0, 0)] * len(padding), False
    return g.add(
        "AveragePool", x, pads=windows.pads(padding), count_include_pad=int(include),
        **windows.attributes,
    )  # fmt: skip


def _avg_pool(g, x, *, n, options, divisor):
    *options, include = options
    windows = _Windows(g, x, n, *options)

    def emit(x):
        if divisor is None:
            return _means(g, x, windows, include)
        # the mean over all places, times their number
        pads = windows.pads(windows.padding)
        y = g.add("AveragePool", x, pads=pads, count_include_pad=1, **windows.attributes)
        return g.add("Mul", y, g.constant(math.prod(windows.kernel) / divisor, g.dtype(g.result)))

    return _batched(g, x, n, emit)


def _lp_pool(g, x, *, n, options, power):
    """(places of a window * mean x^p)^(1/p), as LpPool takes absolute values."""
    windows = _Windows(g, x, n, *options)
    dtype = g.dtype(x)

    def emit(x):
        y = x if power == 1 else g.add("Pow", x, g.constant(power, dtype))
        y = g.add("Mul", _means(g, y, windows, True), g.constant(math.prod(windows.kernel), dtype))
        return y if power == 1 else g.add("Pow", y, g.constant(1 / power, dtype))

    return _batched(g, x, n, emit)


def _adaptive(operator, along_axis):
    """Adaptive pooling: global, of equal windows, or along one axis after the other."""

    def emitter(g, x, *, n, output_size, **_):
        size, output = g.shape(x)[-n:], g.shape(g.result)[-n:]

        def emit(x):
            if output == (1,) * n and g.extra is None:
                return g.add(f"Global{operator}", x)
            axes = [(i + 2, *axis) for i, axis in enumerate(zip(size, output, strict=True))]
            axes = [axis for axis in axes if axis[1] != axis[2]]
            if all(type(a) is type(b) is int and a % b == 0 for _, a, b in axes):
                if not axes and g.extra is None:
                    return x
                kernel = [a // b if a != b else 1 for a, b in zip(size, output, strict=True)]
                if operator == "MaxPool":
                    return _maxima(g, x, size, kernel_shape=kernel, strides=kernel)
                return g.add(operator, x, kernel_shape=kernel, strides=kernel)
            if g.extra is not None:
                raise ValueError(f"places of maxima in uneven windows, {size} to {output}")
            for axis, length, count in axes:
                x = along_axis(g, x, axis, n + 2, length, count, g.dtype(g.result))
            return x

        return _batched(g, x, n, emit)

    return emitter


def _bounds(length, count):
    """The windows of adaptive pooling along an axis."""
    length, count = int(length), int(count)
    return [(i * length // count, -(-(i + 1) * length // count)) for i in range(count)]


def _means_along(g, x, axis, ndim, length, count, dtype):
    """A product with a matrix of shares."""
    if count == 1:
        return g.reduce("ReduceMean", x, (axis,), True)
    shares = np.zeros((int(length), count), dtype)
    for i, (first, stop) in enumerate(_bounds(length, count)):
        shares[first:stop, i] = 1 / (stop - first)
    order = list(range(ndim))
    order[axis], order[-1] = order[-1], order[axis]
    if axis == ndim - 1:
        return g.add("MatMul", x, shares)
    return g.add(
        "Transpose", g.add("MatMul", g.add("Transpose", x, perm=order), shares), perm=order
    )


def _maxima_along(g, x, axis, ndim, length, count, dtype):
    """The places of every window beside each other, the last of a short one once more."""
    if count == 1:
        return g.reduce("ReduceMax", x, (axis,), True)
    bounds = _bounds(length, count)
    width = max(stop - first for first, stop in bounds)
    places = [[min(first + i, stop - 1) for i in range(width)] for first, stop in bounds]
    return g.reduce(
        "ReduceMax", g.add("Gather", x, np.array(places), axis=axis), (axis + 1,), False
    )


def _max_unpool(g, x, indices, *, n, options):
    """Values scattered to zeros, image by image."""
    shape = g.shape(g.result)
    lead = shape[:-n]
    flat = g.numbers((*[0] * len(lead), -1))
    zeros = g.add("ConstantOfShape", g.numbers((*lead, math.prod(map(int, shape[-n:])))))
    zeros = zeros if g.dtype(x) == np.float32 else g.convert(zeros, g.dtype(x))
    indices = g.add("Reshape", g.cast(indices, np.int64), flat)
    y = g.add("ScatterElements", zeros, indices, g.add("Reshape", x, flat), axis=len(lead))
    return reshaped(g, y, lead)


# Pixels and channels in another order -------------------------------------------------------------


def _of_images(g, x, emit):
    """``emit(x)`` of a value of four axes: those before the last three are one."""
    shape = g.shape(x)
    if len(shape) == 4:
        return emit(x)
    images = g.add("Reshape", x, g.numbers((-1, *map(int, shape[-3:]))))
    return reshaped(g, emit(images), ())


def _pixel_shuffle(g, x, *, factor):
    return _of_images(g, x, lambda x: g.add("DepthToSpace", x, blocksize=factor, mode="CRD"))


def _pixel_unshuffle(g, x, *, factor):
    """ONNX counts (factor, factor, C), which a permutation puts in order."""
    order = np.arange(int(g.shape(g.result)[-3])).reshape(factor * factor, -1).T.ravel()

    def emit(x):
        return g.add("Gather", g.add("SpaceToDepth", x, blocksize=factor), order, axis=1)

    return _of_images(g, x, emit)


def _channel_shuffle(g, x, *, groups):
    order = np.arange(int(g.shape(x)[1])).reshape(groups, -1).T.ravel()
    return g.add("Gather", x, order, axis=1)


# Resizing -----------------------------------------------------------------------------------------

# By mode: ONNX's mode, and how a place of the result becomes one of the input.
_RESIZED = {
    "nearest": ("nearest", "asymmetric"),
    "nearest-exact": ("nearest", "half_pixel"),
    "linear": ("linear", "half_pixel"),
    "bilinear": ("linear", "half_pixel"),
    "trilinear": ("linear", "half_pixel"),
    "bicubic": ("cubic", "half_pixel"),
}


def _interpolate(g, x, *, size, scale_factor, mode, align_corners, recompute, antialias):
    before, after = g.shape(x), g.shape(g.result)
    if mode == "area":
        return _mean_pool(g, x, n=len(before) - 2, output_size=after[2:])
    kind, places = _RESIZED[mode]
    attributes = {
        "mode": kind,
        "coordinate_transformation_mode": "align_corners" if align_corners else places,
        "nearest_mode": {"nearest": "floor", "nearest-exact": "round_prefer_ceil"}.get(mode),
        "cubic_coeff_a": (-0.5 if antialias else -0.75) if kind == "cubic" else None,
    }
    if antialias:
        if g.opset < 18:
            raise ValueError("antialias=True needs opset=18 or later")
        attributes |= {"antialias": 1, "exclude_outside": 1}
    if scale_factor is not None and not recompute:
        n = len(before) - 2
        factors = scale_factor if hasattr(scale_factor, "__len__") else (scale_factor,) * n
        sizes = zip(before[2:], factors, after[2:], strict=True)
        if any(isinstance(a, Size) or a * factor != b for a, factor, b in sizes):
            return g.add("Resize", x, None, np.float32((1, 1, *factors)), **attributes)
    return g.add("Resize", x, None, None, g.numbers(after), **attributes)


def _resize(g, x, roi, scales, sizes, *, options):
    """ONNX's own operator; what opset 18 has added must not be asked for before."""
    axes = options.axes
    axes = None if axes is None or sorted(axes) == list(range(len(g.shape(x)))) else axes
    new = {
        "axes": axes,
        "antialias": int(options.antialias) or None,
        "keep_aspect_ratio_policy": None if options.policy == "stretch" else options.policy,
    }
    if g.opset < 18 and any(value is not None for value in new.values()):
        raise ValueError(f"{[k for k, v in new.items() if v is not None]} need opset=18 or later")
    if g.opset < 19 and options.coordinates == "half_pixel_symmetric":
        raise ValueError("half_pixel_symmetric needs opset=19 or later")
    return g.add(
        "Resize", x,
        roi if options.coordinates == "tf_crop_and_resize" else None,
        None if scales is None else g.cast(scales, np.float32),
        None if sizes is None else g.cast(sizes, np.int64),
        mode=options.mode,
        coordinate_transformation_mode=options.coordinates,
        nearest_mode=options.rounding if options.mode == "nearest" else None,
        cubic_coeff_a=options.cubic_coeff if options.mode == "cubic" else None,
        exclude_outside=int(options.exclude_outside) or None,
        extrapolation_value=options.extrapolation or None,
        **new,
    )  # fmt: skip


_mean_pool = _adaptive("AveragePool", _means_along)
EMITTERS = {
    "functional.conv._conv_rule": _conv,
    "functional.conv._conv_transpose_rule": _conv_transpose,
    "functional.fold._col2im_rule": _col2im,
    "functional.fold._im2col_rule": _im2col,
    "functional.interpolate._interpolate_rule": _interpolate,
    "functional.linear._linear_rule": _linear,
    "functional.pool._adaptive_avg_rule": _mean_pool,
    "functional.pool._adaptive_max_rule": _adaptive("MaxPool", _maxima_along),
    "functional.pool._avg_rule": _avg_pool,
    "functional.pool._lp_rule": _lp_pool,
    "functional.pool._max_rule": _max_pool,
    "functional.pool._max_unpool_rule": _max_unpool,
    "functional.resize._resize_rule": _resize,
    "functional.shuffle._channel_shuffle_rule": _channel_shuffle,
    "functional.shuffle._pixel_shuffle_rule": _pixel_shuffle,
    "functional.shuffle._pixel_unshuffle_rule": _pixel_unshuffle,
}
