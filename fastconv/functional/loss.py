"""Losses."""

import numpy as np

from fastconv import _checks
from fastconv.autograd.engine import Tensor, apply
from fastconv.functional.activation import log_softmax

__all__ = ["binary_cross_entropy_with_logits", "cross_entropy", "mse_loss", "nll_loss"]

REDUCTIONS = ("none", "mean", "sum")


def cross_entropy(
    input, target, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0
):
    """Cross-entropy between logits and classes, or class probabilities.

    Parameters
    ----------
    input : Tensor or ndarray of shape (C,), (N, C) or (N, C, d1, ...)
        Logits, float32 or float64.
    target : ndarray of int, shape (), (N,) or (N, d1, ...); or of float, the input's shape
        Classes in [0, C), or probabilities.
    weight : ndarray of shape (C,), optional
        Weights of the classes; with classes as target, "mean" divides by their sum.
    ignore_index : int, default -100
        Targets of this class count for nothing.
    reduction : {"mean", "sum", "none"}
    label_smoothing : float, default 0
        In [0, 1]: this share of the target is spread evenly over the classes.

    Returns
    -------
    Tensor or ndarray
        A scalar, or with "none" one value per target.

    Raises
    ------
    ValueError, TypeError
        For a target out of range, of the wrong shape or dtype, and the like.

    Examples
    --------
    >>> import numpy as np, fastconv.functional as F
    >>> float(F.cross_entropy(np.zeros((2, 4)), np.array([0, 3])).round(4))
    1.3863
    """
    smoothing = _checks.real("label_smoothing", label_smoothing)
    if not 0 <= smoothing <= 1:
        raise ValueError(f"label_smoothing must be in [0, 1], got {label_smoothing}")
    _checks.one_of("reduction", reduction, REDUCTIONS)
    input, axis = _logits(input)
    if _array("target", target).dtype.kind == "f":
        logs = log_softmax(input, axis)
        return _probability_loss(logs, target, weight, reduction, smoothing, axis)
    return _class_loss(
        log_softmax(input, axis), target, weight, ignore_index, reduction, smoothing, axis
    )


def nll_loss(input, target, weight=None, ignore_index=-100, reduction="mean"):
    """Negative log-likelihood of classes, from log-probabilities.

    Parameters
    ----------
    input : Tensor or ndarray of shape (C,), (N, C) or (N, C, d1, ...)
        Log-probabilities, as :func:`log_softmax` makes them.
    target, weight, ignore_index, reduction
        As in :func:`cross_entropy`; classes only.

    Returns
    -------
    Tensor or ndarray

    Examples
    --------
    >>> import numpy as np, fastconv.functional as F
    >>> float(F.nll_loss(np.log(np.array([[0.25, 0.75]])), np.array([1])).round(4))
    0.2877
    """
    _checks.one_of("reduction", reduction, REDUCTIONS)
    input, axis = _logits(input)
    return _class_loss(input, target, weight, ignore_index, reduction, 0.0, axis)


def mse_loss(input, target, reduction="mean"):
    """Squared difference of two arrays of one shape.

    Parameters
    ----------
    input, target : Tensor or ndarray
        float32 or float64, of one shape and dtype.
    reduction : {"mean", "sum", "none"}

    Returns
    -------
    Tensor or ndarray

    Raises
    ------
    ValueError, TypeError
        If shapes or dtypes differ.

    Examples
    --------
    >>> import numpy as np, fastconv.functional as F
    >>> float(F.mse_loss(np.array([1.0, 2.0]), np.array([1.0, 4.0])))
    2.0
    """
    _checks.one_of("reduction", reduction, REDUCTIONS)
    return _reduce(apply(_squared_difference, input, target), reduction)


def binary_cross_entropy_with_logits(input, target, weight=None, reduction="mean", pos_weight=None):
    """Cross-entropy of independent yes/no decisions, from logits.

    Parameters
    ----------
    input : Tensor or ndarray
        Logits, float32 or float64.
    target : ndarray of the input's shape and dtype
        Probabilities of yes.
    weight : ndarray, optional
        Factor of each value; broadcasts.
    reduction : {"mean", "sum", "none"}
    pos_weight : ndarray, optional
        Factor of the yes part; broadcasts.

    Returns
    -------
    Tensor or ndarray

    Examples
    --------
    >>> import numpy as np, fastconv.functional as F
    >>> z, t = np.array([0.0, 1000.0]), np.array([1.0, 1.0])
    >>> float(F.binary_cross_entropy_with_logits(z, t).round(4))
    0.3466
    """
    _checks.one_of("reduction", reduction, REDUCTIONS)
    losses = apply(_binary_rule, input, target, weight=_data(weight), pos_weight=_data(pos_weight))
    return _reduce(losses, reduction)


def _data(x):
    """The array of an argument that takes no gradient."""
    return x.data if isinstance(x, Tensor) else x


def _array(name, x):
    """The values of an array_like of any dtype but object."""
    x = np.asarray(_data(x))
    if x.dtype == object:
        what = repr(x.item()) if x.ndim == 0 else "dtype object"
        raise TypeError(f"{name} must be an array of numbers, got {what}")
    return x


def _broadcasts(name, x, shape):
    try:
        fits = np.broadcast_shapes(x.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"{name} must broadcast to input's shape {shape}, got {x.shape}")


def _logits(input):
    """The input and the axis of its classes."""
    if not np.ndim(input):
        raise ValueError("input must have an axis of classes, got a scalar")
    if not isinstance(input, Tensor):
        input = _checks.as_float_array("input", input)
    axis = min(1, input.ndim - 1)
    if not input.shape[axis]:
        raise ValueError(f"input must have at least one class, got shape {input.shape}")
    return input, axis


def _class_weights(weight, logs, axis):
    weight = _checks.as_float_array("weight", _data(weight))
    if weight.dtype != logs.dtype:
        raise TypeError(f"weight has dtype {weight.dtype}, must have input's dtype {logs.dtype}")
    _checks.shape_is("weight", weight, logs.shape[axis : axis + 1], "one value per class")
    return weight


def _class_loss(logs, target, weight, ignore_index, reduction, smoothing, axis):
    classes = logs.shape[axis]
    target = _array("target", target)
    if target.dtype.kind not in "iu":
        raise TypeError(f"target must be integer classes, got dtype {target.dtype}")
    _checks.shape_is(
        "target", target, logs.shape[:axis] + logs.shape[axis + 1 :], "input's without classes"
    )
    ignore_index = _checks.integer("ignore_index", ignore_index)
    counted = target != ignore_index
    wrong = counted & ((target < 0) | (target >= classes))
    if wrong.any():
        raise ValueError(f"target must be in [0, {classes}), got {target[wrong].flat[0]}")
    target = np.where(counted, target, 0)
    if weight is None:
        factor = counted.astype(logs.dtype)
    else:
        weight = _class_weights(weight, logs, axis)
        factor = weight[target] * counted
    losses = apply(_pick_rule, logs, target=target, axis=axis) * -factor
    if smoothing:
        spread = logs if weight is None else logs * _along(weight, logs, axis)
        spread = apply(_axis_sum, spread, axis=axis) * -counted.astype(logs.dtype)
        losses = losses * (1 - smoothing) + spread * (smoothing / classes)
    return _reduce(losses, reduction, factor.sum())


def _along(vector, array, axis):
    """The vector shaped to broadcast along one axis of the array."""
    return vector.reshape([-1 if i == axis else 1 for i in range(array.ndim)])


def _probability_loss(logs, target, weight, reduction, smoothing, axis):
    if _array("target", target).dtype != logs.dtype:
        raise TypeError(
            f"target has dtype {_data(target).dtype}, must have input's dtype {logs.dtype}"
        )
    if not isinstance(target, Tensor):
        target = _checks.as_float_array("target", target)
    _checks.shape_is("target", target, logs.shape, "that of input, for probabilities")
    if smoothing:
        target = target * (1 - smoothing) + smoothing / logs.shape[axis]
    if weight is not None:
        target = target * _along(_class_weights(weight, logs, axis), logs, axis)
    losses = apply(_axis_sum, logs * target, axis=axis) * -1
    return _reduce(losses, reduction)


def _reduce(losses, reduction, count=None):
    """The losses, their sum, or the sum divided by `count`, by default their number."""
    if reduction == "none":
        return losses
    if reduction == "sum":
        count = 1
    elif count is None:
        count = np.size(losses)
    return apply(_divided_sum, losses, count=count)


def _divided_sum(needs, losses, *, count):
    shape, dtype = losses.shape, losses.dtype
    count = np.asarray(count, dtype)

    def backward(g):
        with np.errstate(invalid="ignore", divide="ignore"):
            return (np.full(shape, g / count, dtype),)

    with np.errstate(invalid="ignore", divide="ignore"):  # the mean of nothing is NaN
        return losses.sum() / count, backward


def _pick_rule(needs, logs, *, target, axis):
    """logs[n, target[n], ...]"""
    index = np.expand_dims(target, axis)
    shape, dtype = logs.shape, logs.dtype

    def backward(g):
        dx = np.zeros(shape, dtype)
        np.put_along_axis(dx, index, np.expand_dims(g, axis), axis)
        return (dx,)

    return np.take_along_axis(logs, index, axis).squeeze(axis), backward


def _axis_sum(needs, x, *, axis):
    shape = x.shape
    return x.sum(axis=axis), lambda g: (np.broadcast_to(np.expand_dims(g, axis), shape),)


def _squared_difference(needs, x, target):
    x, target = _checks.as_float_arrays({"input": x, "target": target})
    _checks.shape_is("target", target, x.shape, "that of input")
    difference = x - target

    def backward(g):
        dx = 2 * difference * g
        return dx, -dx

    return difference * difference, backward


def _binary_rule(needs, x, target, *, weight, pos_weight):
    x, target, weight, pos_weight = _checks.as_float_arrays(
        {"input": x, "target": target}, {"weight": weight, "pos_weight": pos_weight}
    )
    _checks.shape_is("target", target, x.shape, "that of input")
    for name, factor in (("weight", weight), ("pos_weight", pos_weight)):
        if factor is not None:
            _broadcasts(name, factor, x.shape)
    weight = np.ones((), x.dtype) if weight is None else weight
    yes = np.ones((), x.dtype) if pos_weight is None else pos_weight
    # -[p t log s(x) + (1 - t) log(1 - s(x))], s the logistic function; with
    # softplus(-x) = log(1 + exp(-|x|)) + max(-x, 0) it is (1 - t) x + q softplus(-x)
    q = yes * target + (1 - target)
    tail = np.exp(-np.abs(x))
    softplus = np.log1p(tail) + np.maximum(-x, 0)

    def backward(g):
        # d softplus(-x) / dx = -s(-x)
        minus = np.where(x > 0, tail, 1) / (1 + tail)
        return (
            g * weight * ((1 - target) - q * minus) if needs[0] else None,
            g * weight * ((yes - 1) * softplus - x) if needs[1] else None,
        )

    return weight * ((1 - target) * x + q * softplus), backward
