"""What the rules of normalisation become in ONNX; see :mod:`.emit_layers`."""

import numpy as np

from fastconv._activation import NONE
from fastconv.onnx.emit_activations import rectified

__all__ = ["EMITTERS"]


def _factors(g, x, w, b, shape):
    """Weight and bias, ones and zeros where they are missing."""
    shape = tuple(map(int, shape))
    w = np.ones(shape, g.dtype(x)) if w is None else w
    return w, np.zeros(shape, g.dtype(x)) if b is None else b


def _batch_norm(g, x, w, b, residual, *, running, training, momentum, eps, activation):
    w, b = _factors(g, x, w, b, g.shape(x)[1:2])
    if training:  # without running statistics, those of the batch also in evaluation
        y = _normalized_by_batch(g, x, w, b, eps)
    else:
        y = g.add("BatchNormalization", x, w, b, *running, epsilon=eps)
    y = y if residual is None else g.add("Add", y, residual)
    return y if activation == NONE else rectified(g, y, activation=activation)


def _normalized_by_batch(g, x, w, b, eps):
    ndim = len(g.shape(x))
    axes = (0, *range(2, ndim))
    centred = g.add("Sub", x, g.reduce("ReduceMean", x, axes, True))
    variance = g.reduce("ReduceMean", g.add("Mul", centred, centred), axes, True)
    deviation = g.add("Sqrt", g.add("Add", variance, g.constant(eps, g.dtype(x))))
    return _scaled(g, g.add("Div", centred, deviation), w, b, ndim)


def _scaled(g, x, w, b, ndim):
    """x w + b, channel by channel."""
    w, b = (g.unsqueeze(c, *range(1, ndim - 1)) if ndim > 2 else c for c in (w, b))
    return g.add("Add", g.add("Mul", x, w), b)


def _group_norm(g, x, w, b, *, groups, eps):
    scales, shifts = _factors(g, x, w, b, g.shape(x)[1:2])
    if g.opset >= 21:
        return g.add("GroupNormalization", x, scales, shifts, num_groups=groups, epsilon=eps)
    dtype = g.dtype(x)
    rows = g.add("Reshape", x, g.numbers((0, groups, -1)))
    ones, zeros = np.ones(groups, dtype), np.zeros(groups, dtype)
    y = g.add("InstanceNormalization", rows, ones, zeros, epsilon=eps)
    y = g.add("Reshape", y, g.add("Shape", x))
    if w is None and b is None:
        return y
    return _scaled(g, y, scales, shifts, len(g.shape(x)))


def _instance_norm(g, x, w, b, *, running, momentum, eps):
    w, b = _factors(g, x, w, b, g.shape(x)[1:2])
    return g.add("InstanceNormalization", x, w, b, epsilon=eps)


def _layer_norm(g, x, w, b, *, shape, eps):
    w, b = _factors(g, x, w, b, shape)
    return g.add("LayerNormalization", x, w, b, axis=-len(shape), epsilon=eps)


def _cosine(g, a, b, *, dim, eps):
    """The sum of products of vectors of length one."""
    ndim = max(len(g.shape(x)) for x in (a, b))
    axis = dim - ndim if dim >= 0 else dim  # counts from the end also in the one of fewer axes
    lengths = {g.shape(x)[axis] if len(g.shape(x)) >= -axis else 1 for x in (a, b)}
    if len(lengths) > 1:
        raise ValueError(f"vectors must be of one length, got {lengths}")
    eps = g.constant(eps, g.dtype(g.result))
    units = [
        g.add("Div", x, g.add("Max", g.reduce("ReduceL2", x, (axis,), True), eps)) for x in (a, b)
    ]
    return g.reduce("ReduceSum", g.add("Mul", *units), (axis,), False)


EMITTERS = {
    "functional.loss._cosine_rule": _cosine,
    "functional.norm._batch_norm_rule": _batch_norm,
    "functional.norm._group_norm_rule": _group_norm,
    "functional.norm._instance_norm_rule": _instance_norm,
    "functional.norm._layer_norm_rule": _layer_norm,
}
