"""What the rules of pooling become in ONNX; see :mod:`.emit_layers`."""

import math

import numpy as np

from fastconv import _checks, _geometry
from fastconv.onnx.emit_arrays import reshaped
from fastconv.onnx.emit_layers import batched, ends, padding_pairs

__all__ = ["EMITTERS", "mean_pool"]


class _Windows:
    """Windows of a strided pooling, as attributes.

    What ``ceil_mode`` adds is written as padding: what the operator's own `ceil_mode` means has
    changed from opset to opset.
    """

    def __init__(self, g, x, n, kernel, stride, padding, dilation, ceil_mode):
        self.kernel = _checks.integers("kernel_size", kernel, n)
        stride = self.kernel if stride is None else _checks.integers("stride", stride, n)
        dilation = _checks.integers("dilation", dilation, n)
        self.padding = padding_pairs(g, x, n, padding, self.kernel, stride, dilation)
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
        return ends([(before, after + more) for (before, after), more in pairs])


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

    return batched(g, x, n, emit)


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

    return batched(g, x, n, emit)


def _lp_pool(g, x, *, n, options, power):
    """(places of a window * mean x^p)^(1/p), as LpPool takes absolute values."""
    windows = _Windows(g, x, n, *options)
    dtype = g.dtype(x)

    def emit(x):
        y = x if power == 1 else g.add("Pow", x, g.constant(power, dtype))
        y = g.add("Mul", _means(g, y, windows, True), g.constant(math.prod(windows.kernel), dtype))
        return y if power == 1 else g.add("Pow", y, g.constant(1 / power, dtype))

    return batched(g, x, n, emit)


def _adaptive(operator, along_axis):
    """Adaptive pooling: global, of equal windows, or along one axis after the other."""

    def emitter(g, x, *, n, output_size, **_):
        """The pool of n spatial axes to the sizes of the result."""
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

        return batched(g, x, n, emit)

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


mean_pool = _adaptive("AveragePool", _means_along)
EMITTERS = {
    "functional.pool._adaptive_avg_rule": mean_pool,
    "functional.pool._adaptive_max_rule": _adaptive("MaxPool", _maxima_along),
    "functional.pool._avg_rule": _avg_pool,
    "functional.pool._lp_rule": _lp_pool,
    "functional.pool._max_rule": _max_pool,
    "functional.pool._max_unpool_rule": _max_unpool,
}
