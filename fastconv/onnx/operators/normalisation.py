"""Normalisation."""

import numpy as np

from fastconv import functional as F
from fastconv.autograd import arrays, ops, pointwise, reductions
from fastconv.autograd.engine import Tensor, apply
from fastconv.onnx.operators._shared import cast, ints
from fastconv.onnx.registry import operator

__all__ = []


def _reduced(function, x, axes, keepdim=True):
    return apply(reductions._reduce, x, ints(axes), function=function, keepdim=keepdim)


def _scaled(x, factor):
    return apply(ops._multiply, x, np.asarray(factor, x.dtype))


def _added(x, number):
    return apply(ops._add, x, np.asarray(number, x.dtype))


@operator("BatchNormalization", widen=True)
def batch_norm(
    x, scale, b, mean, var, *,
    training: bool, outputs: int, epsilon: float = 1e-5, momentum: float = 0.9,
    spatial: int = 1, is_test: int = 1, training_mode: int = 0,
):  # fmt: skip
    if not spatial:
        raise ValueError("spatial=0 is not supported")
    if outputs > 1 and not training_mode:
        raise ValueError(f"{outputs} outputs are given only with training_mode=1")
    if training_mode:
        return _batch_statistics(x, scale, b, mean, var, epsilon, momentum, outputs)
    mean, var = (s.data if isinstance(s, Tensor) else s for s in (mean, var))
    return F.batch_norm(x, mean, var, scale, b, training, 1 - momentum, epsilon)


def _batch_statistics(x, scale, b, mean, var, epsilon, momentum, outputs):
    """By the batch's own mean and variance, and the running ones that they give."""
    y = F.batch_norm(x, None, None, scale, b, True, eps=epsilon)
    if outputs == 1:
        return y
    axes = (0, *range(2, x.ndim))
    centre = _reduced("mean", x, axes)
    spread = _reduced("mean", _square(apply(ops._subtract, x, centre)), axes, False)
    running = [
        apply(ops._add, _scaled(old, momentum), _scaled(new, 1 - momentum))
        for old, new in ((mean, _reduced("mean", x, axes, False)), (var, spread))
    ]
    return y, *running


def _square(x):
    return apply(ops._multiply, x, x)


@operator("InstanceNormalization", widen=True)
def instance_norm(x, scale, b, *, epsilon: float = 1e-5):
    return F.instance_norm(x, None, None, scale, b, True, 0.1, epsilon)


@operator("GroupNormalization", since=18, widen=True)
def group_norm_18(x, scale, b, *, num_groups: int, epsilon: float = 1e-5):
    """With a scale and bias for each group."""
    width = x.shape[1] // max(num_groups, 1)
    by_channel = [
        apply(ops._reshape, apply(arrays._tile, apply(ops._reshape, w, shape=(-1, 1)),
                                  ints([1, width])), shape=(-1,))
        for w in (scale, b)
    ]  # fmt: skip
    return F.group_norm(x, num_groups, *by_channel, epsilon)


@operator("GroupNormalization", since=21, widen=True)
def group_norm(x, scale, b, *, num_groups: int, epsilon: float = 1e-5, stash_type: int = 1):
    return F.group_norm(x, num_groups, scale, b, epsilon)


@operator("LayerNormalization", since=17, widen=True)
def layer_norm(
    x, scale, b=None, *, outputs: int, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
):
    first = _first(x, axis, scale, b)
    if outputs == 1 and scale.shape == x.shape[first:] and (b is None or b.shape == scale.shape):
        return F.layer_norm(x, scale.shape, scale, b, epsilon)
    axes = range(first, x.ndim)
    mean = _reduced("mean", x, axes)
    centred = apply(ops._subtract, x, mean)
    inverse = _inverse_root(centred, axes, epsilon)
    y = apply(ops._multiply, apply(ops._multiply, centred, inverse), scale)
    return (y if b is None else apply(ops._add, y, b)), mean, inverse


def _first(x, axis, *factors):
    """The axis from which on x is normalised, if the factors broadcast to x."""
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(f"axis must be in [{-x.ndim}, {x.ndim}), got {axis}")
    for factor in factors:
        if factor is not None and np.broadcast_shapes(factor.shape, x.shape) != x.shape:
            raise ValueError(f"scale and B must broadcast to {x.shape}, got {factor.shape}")
    return axis % x.ndim


def _inverse_root(x, axes, epsilon):
    """1 / sqrt(mean x^2 + epsilon)."""
    root = apply(ops._sqrt, _added(_reduced("mean", _square(x), axes), epsilon))
    return apply(pointwise._unary, root, function="reciprocal")


@operator("RMSNormalization", since=23, widen=True)
def rms_norm(x, scale, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1):
    axes = range(_first(x, axis, scale), x.ndim)
    return apply(ops._multiply, apply(ops._multiply, x, _inverse_root(x, axes, epsilon)), scale)


@operator("MeanVarianceNormalization", since=9, widen=True)
def mean_variance_norm(x, *, axes: tuple = (0, 2, 3)):
    centred = apply(ops._subtract, x, _reduced("mean", x, axes))
    root = apply(ops._sqrt, _reduced("mean", _square(centred), axes))
    return apply(ops._divide, centred, _added(root, 1e-9))


@operator("LpNormalization", widen=True)
def lp_norm(x, *, axis: int = -1, p: int = 2):
    if p not in (1, 2):
        raise ValueError(f"p must be 1 or 2, got {p}")
    norm = _reduced(f"l{p}", x, (axis,))
    zero = apply(pointwise._binary, norm, np.zeros((), x.dtype), function="equal")
    return apply(ops._divide, x, apply(ops._add, norm, cast(zero, x.dtype)))
