"""Losses, and the cosine that one of them is made of."""

import numpy as np

from fastconv import _checks
from fastconv._layout import rising
from fastconv.autograd.engine import Tensor, apply
from fastconv.autograd.ops import _unbroadcast
from fastconv.functional.activation import log_softmax

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cosine_embedding_loss",
    "cosine_similarity",
    "cross_entropy",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "mse_loss",
    "nll_loss",
    "smooth_l1_loss",
]

REDUCTIONS = ("none", "mean", "sum")
DIVERGENCE_REDUCTIONS = (*REDUCTIONS, "batchmean")


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


def l1_loss(input, target, reduction="mean"):
    """Absolute difference of two arrays of one shape.

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
    >>> float(F.l1_loss(np.array([1.0, 2.0]), np.array([1.0, 4.0])))
    1.0
    """
    _checks.one_of("reduction", reduction, REDUCTIONS)
    return _reduce(apply(_absolute_difference, input, target), reduction)


def smooth_l1_loss(input, target, reduction="mean", beta=1.0):
    """d^2 / (2 beta) where abs(d) < beta, abs(d) - beta / 2 elsewhere, d the difference [1]_.

    Parameters
    ----------
    input, target : Tensor or ndarray
        float32 or float64, of one shape and dtype.
    reduction : {"mean", "sum", "none"}
    beta : float, default 1
        At least 0, which makes it :func:`l1_loss`.

    Returns
    -------
    Tensor or ndarray

    Raises
    ------
    ValueError, TypeError
        If shapes or dtypes differ, or `beta` is negative.

    References
    ----------
    .. [1] R. Girshick, "Fast R-CNN", ICCV 2015.

    Examples
    --------
    >>> import numpy as np, fastconv.functional as F
    >>> float(F.smooth_l1_loss(np.array([1.0, 2.0]), np.array([1.0, 4.0])))
    0.75
    """
    _checks.one_of("reduction", reduction, REDUCTIONS)
    beta = _checks.real("beta", beta)
    if beta < 0:
        raise ValueError(f"beta must not be negative, got {beta}")
    if beta == 0:
        return l1_loss(input, target, reduction)
    return _reduce(apply(_huber_rule, input, target, delta=beta, divisor=beta), reduction)


def huber_loss(input, target, reduction="mean", delta=1.0):
    """d^2 / 2 where abs(d) < delta, delta (abs(d) - delta / 2) elsewhere, d the difference [1]_.

    Parameters
    ----------
    input, target : Tensor or ndarray
        float32 or float64, of one shape and dtype.
    reduction : {"mean", "sum", "none"}
    delta : float, default 1
        More than 0.

    Returns
    -------
    Tensor or ndarray

    Raises
    ------
    ValueError, TypeError
        If shapes or dtypes differ, or `delta` is not positive.

    References
    ----------
    .. [1] P. J. Huber, "Robust Estimation of a Location Parameter", Annals of Mathematical
       Statistics 35, 1964.

    Examples
    --------
    >>> import numpy as np, fastconv.functional as F
    >>> float(F.huber_loss(np.array([1.0, 2.0]), np.array([1.0, 4.0]), delta=0.5))
    0.4375
    """
    _checks.one_of("reduction", reduction, REDUCTIONS)
    delta = _checks.real("delta", delta)
    if delta <= 0:
        raise ValueError(f"delta must be more than 0, got {delta}")
    return _reduce(apply(_huber_rule, input, target, delta=delta, divisor=1.0), reduction)


def kl_div(input, target, reduction="mean", log_target=False):
    """Kullback-Leibler divergence, target * (log(target) - input), from log-probabilities.

    Parameters
    ----------
    input : Tensor or ndarray
        Log-probabilities, float32 or float64.
    target : Tensor or ndarray of the input's shape and dtype
        Probabilities or, with `log_target`, their logarithms.
    reduction : {"mean", "batchmean", "sum", "none"}
        "batchmean" divides the sum by the size of the first axis, which is the divergence by its
        definition; "mean" by the number of values.
    log_target : bool, default False

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
    >>> p, q = np.array([[0.5, 0.5]]), np.array([[0.25, 0.75]])
    >>> float(F.kl_div(np.log(q), p, reduction="batchmean").round(4))
    0.1438
    """
    _checks.one_of("reduction", reduction, DIVERGENCE_REDUCTIONS)
    log_target = _checks.boolean("log_target", log_target)
    losses = apply(_divergence_rule, input, target, log_target=log_target)
    if reduction == "batchmean":
        return _reduce(losses, "mean", losses.shape[0] if losses.ndim else 1)
    return _reduce(losses, reduction)


def binary_cross_entropy(input, target, weight=None, reduction="mean"):
    """Cross-entropy of independent yes/no decisions, from probabilities.

    Parameters
    ----------
    input : Tensor or ndarray
        Probabilities of yes, float32 or float64.
    target : Tensor or ndarray of the input's shape and dtype
        What they should be.
    weight : ndarray, optional
        Factor of each value; broadcasts.
    reduction : {"mean", "sum", "none"}

    Returns
    -------
    Tensor or ndarray

    Raises
    ------
    ValueError, TypeError
        If shapes or dtypes differ, or a value of the input is not in [0, 1].

    Notes
    -----
    Logarithms are at least -100, so that no loss is infinite.
    :func:`binary_cross_entropy_with_logits` is more accurate where probabilities come from a
    :func:`sigmoid`.

    Examples
    --------
    >>> import numpy as np, fastconv.functional as F
    >>> float(F.binary_cross_entropy(np.array([0.5, 1.0]), np.array([1.0, 1.0])).round(4))
    0.3466
    """
    _checks.one_of("reduction", reduction, REDUCTIONS)
    return _reduce(apply(_probability_rule, input, target, weight=_data(weight)), reduction)


def cosine_similarity(x1, x2, dim=1, eps=1e-8):
    """The cosine of the angle between vectors along an axis.

    Parameters
    ----------
    x1, x2 : Tensor or ndarray
        float32 or float64, of one dtype, and of shapes that broadcast.
    dim : int, default 1
        The vectors' axis, of what the shapes broadcast to.
    eps : float, default 1e-8
        The least that a vector's length is taken for.

    Returns
    -------
    Tensor or ndarray
        Without axis `dim`.

    Raises
    ------
    ValueError, TypeError
        If shapes do not broadcast, or dtypes differ.

    Examples
    --------
    >>> import numpy as np, fastconv.functional as F
    >>> F.cosine_similarity(np.array([[1.0, 0.0], [3.0, 4.0]]), np.array([[1.0, 0.0]]))
    array([1. , 0.6])
    """
    eps = _checks.real("eps", eps)
    if eps < 0:
        raise ValueError(f"eps must not be negative, got {eps}")
    return apply(_cosine_rule, x1, x2, dim=dim, eps=eps)


def cosine_embedding_loss(input1, input2, target, margin=0.0, reduction="mean"):
    """1 - cos of pairs of vectors that belong together, max(0, cos - margin) of others.

    Parameters
    ----------
    input1, input2 : Tensor or ndarray of shape (N, D) or (D,)
        float32 or float64, of one shape and dtype.
    target : ndarray of shape (N,) or ()
        1 for pairs that belong together, -1 for others.
    margin : float, default 0
    reduction : {"mean", "sum", "none"}

    Returns
    -------
    Tensor or ndarray

    Raises
    ------
    ValueError, TypeError
        For shapes that do not fit, dtypes that differ, or another target.

    Examples
    --------
    >>> import numpy as np, fastconv.functional as F
    >>> a, b = np.array([[1.0, 0.0], [3.0, 4.0]]), np.array([[1.0, 0.0], [1.0, 0.0]])
    >>> F.cosine_embedding_loss(a, b, np.array([1, -1]), margin=0.5, reduction="none").round(4)
    array([0. , 0.1])
    """
    _checks.one_of("reduction", reduction, REDUCTIONS)
    margin = _checks.real("margin", margin)
    a, b = _checks.as_float_arrays({"input1": _data(input1), "input2": _data(input2)})
    if a.ndim not in (1, 2):
        raise ValueError(f"input1 must have 1 or 2 axes, got shape {a.shape}")
    _checks.shape_is("input2", b, a.shape, "that of input1")
    target = _array("target", target)
    _checks.shape_is("target", target, a.shape[:-1], "input1's without its last axis")
    wrong = (target != 1) & (target != -1)
    if wrong.any():
        raise ValueError(f"target must be 1 or -1, got {target[wrong].flat[0]}")
    # lengths are sqrt(x^2 + 1e-12) in torch
    cosines = apply(_cosine_rule, input1, input2, dim=-1, eps=1e-6)
    return _reduce(apply(_margin_rule, cosines, together=target == 1, margin=margin), reduction)


def _data(x):
    """The array of an argument that takes no gradient."""
    return x.data if isinstance(x, Tensor) else x


def _array(name, x):
    """The values of an array_like of any dtype but object."""
    x = _checks.as_array(name, _data(x))
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
    _checks.dtype_is("weight", weight, logs.dtype, "input")
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
    values = _checks.as_float_array("target", _data(target))
    _checks.dtype_is("target", values, logs.dtype, "input")
    target = target if isinstance(target, Tensor) else values
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


def _absolute_difference(needs, x, target):
    x, target = _checks.as_float_arrays({"input": x, "target": target})
    _checks.shape_is("target", target, x.shape, "that of input")
    difference = x - target

    def backward(g):
        dx = np.sign(difference) * g
        return dx, -dx

    return np.abs(difference), backward


def _huber_rule(needs, x, target, *, delta, divisor):
    """c (d - c / 2) / divisor, d the difference and c the nearest to it in [-delta, delta]."""
    x, target = _checks.as_float_arrays({"input": x, "target": target})
    _checks.shape_is("target", target, x.shape, "that of input")
    difference = x - target
    cut = np.clip(difference, -delta, delta)

    def backward(g):
        dx = cut * (g / divisor)
        return dx, -dx

    return np.asarray(cut * (difference - cut / 2) / divisor, x.dtype), backward


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def _divergence_rule(needs, x, target, *, log_target):
    x, target = _checks.as_float_arrays({"input": x, "target": target})
    _checks.shape_is("target", target, x.shape, "that of input")
    target = rising(target)
    p, logs = (np.exp(target), target) if log_target else (target, np.log(target))
    y = np.asarray(np.where(p == 0, 0, p * logs) - p * x, x.dtype)

    @np.errstate(invalid="ignore", over="ignore")
    def backward(g):
        # d p (log p - x) is (log p - x + 1) dp, and dp is p d log p
        by_p = g * (logs - x + 1) if needs[1] else None
        return -g * p, by_p * p if needs[1] and log_target else by_p

    return y, backward


def _probability_rule(needs, x, target, *, weight):
    x, target, weight = _checks.as_float_arrays({"input": x, "target": target}, {"weight": weight})
    _checks.shape_is("target", target, x.shape, "that of input")
    weight = np.ones((), x.dtype) if weight is None else weight
    _broadcasts("weight", weight, x.shape)
    wrong = ~((x >= 0) & (x <= 1))
    if wrong.any():
        raise ValueError(f"input must be in [0, 1], got {x[wrong].flat[0]}")
    x = rising(x)
    with np.errstate(divide="ignore"):
        yes, no = np.maximum(np.log(x), -100), np.maximum(np.log1p(-x), -100)

    def backward(g):
        g = g * weight
        return (
            g * (x - target) / np.maximum(x * (1 - x), 1e-12) if needs[0] else None,
            g * (no - yes) if needs[1] else None,
        )

    return np.asarray(-weight * (target * yes + (1 - target) * no), x.dtype), backward


@np.errstate(invalid="ignore", over="ignore")
def _cosine_rule(needs, a, b, *, dim, eps):
    a, b = _checks.as_float_arrays({"x1": a, "x2": b})
    try:
        shape = np.broadcast_shapes(a.shape, b.shape)
    except ValueError:
        raise ValueError(f"x1 and x2 must broadcast, got shapes {a.shape} and {b.shape}") from None
    if not shape:
        raise ValueError("x1 and x2 must have an axis of vectors, got scalars")
    axis = _checks.axis("dim", dim, len(shape))
    lengths = [
        np.sqrt((v * v).sum(axis=axis, keepdims=True))
        for v in (np.broadcast_to(a, shape), np.broadcast_to(b, shape))
    ]
    taken = [np.maximum(length, eps) for length in lengths]
    unit = [v / length for v, length in zip((a, b), taken, strict=True)]
    cosine = (unit[0] * unit[1]).sum(axis=axis, keepdims=True)

    @np.errstate(invalid="ignore", over="ignore")
    def backward(g):
        g = np.expand_dims(g, axis)
        gradients = []
        for i, v in enumerate((a, b)):
            # a length that is not the vector's own does not change with it
            turned = unit[1 - i] - np.where(lengths[i] > eps, cosine, 0) * unit[i]
            gradients.append(_unbroadcast(g * turned / taken[i], v.shape) if needs[i] else None)
        return gradients

    return cosine.squeeze(axis), backward


def _margin_rule(needs, cosines, *, together, margin):
    losses = np.where(together, 1 - cosines, np.maximum(cosines - margin, 0))
    slope = np.where(together, -1, cosines >= margin).astype(cosines.dtype)
    return losses.astype(cosines.dtype), lambda g: (g * slope,)


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
