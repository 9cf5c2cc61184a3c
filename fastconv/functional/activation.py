"""Rectifiers and softmax."""

import numpy as np

from fastconv import _checks
from fastconv._layout import in_order_of, memory_order
from fastconv._threads import threads_for
from fastconv.autograd.engine import apply, apply_in_place
from fastconv.kernels import activation as kernels

__all__ = ["leaky_relu", "log_softmax", "relu", "relu6", "softmax"]


def relu(input, inplace=False):
    """max(x, 0), value by value.

    Parameters
    ----------
    input : Tensor or ndarray
        float32 or float64, of any shape and memory layout.
    inplace : bool, default False
        Give the result to `input` itself: its memory is overwritten or, while gradients are
        recorded, the Tensor is pointed to the new values (the old may still be needed).

    Returns
    -------
    Tensor or ndarray
        Of the input's shape and memory layout. NaN stays NaN.

    Raises
    ------
    TypeError
        For dtypes other than float32 or float64.

    Examples
    --------
    >>> import numpy as np, fastconv.functional as F
    >>> F.relu(np.array([-1.0, 0.0, 2.0]))
    array([0., 0., 2.])
    """
    return _rectified(input, inplace, kernels.relu, kernels.relu_backward)


def relu6(input, inplace=False):
    """min(max(x, 0), 6), value by value.

    Parameters
    ----------
    input : Tensor or ndarray
        float32 or float64, of any shape and memory layout.
    inplace : bool, default False
        As in :func:`relu`.

    Returns
    -------
    Tensor or ndarray
        Of the input's shape and memory layout. NaN stays NaN.

    Raises
    ------
    TypeError
        For dtypes other than float32 or float64.

    Examples
    --------
    >>> import numpy as np, fastconv.functional as F
    >>> F.relu6(np.array([-1.0, 2.0, 7.0]))
    array([0., 2., 6.])
    """
    return _rectified(input, inplace, kernels.relu6, kernels.relu6_backward)


def leaky_relu(input, negative_slope=0.01, inplace=False):
    """x where it is positive, negative_slope * x elsewhere.

    Parameters
    ----------
    input : Tensor or ndarray
        float32 or float64, of any shape and memory layout.
    negative_slope : float, default 0.01
    inplace : bool, default False
        As in :func:`relu`.

    Returns
    -------
    Tensor or ndarray

    Raises
    ------
    TypeError
        For dtypes other than float32 or float64.

    Examples
    --------
    >>> import numpy as np, fastconv.functional as F
    >>> F.leaky_relu(np.array([-1.0, 0.0, 2.0]), 0.1)
    array([-0.1,  0. ,  2. ])
    """
    slope = _checks.real("negative_slope", negative_slope)
    return (apply_in_place if inplace else apply)(_leaky_relu_rule, input, slope=slope)


def softmax(input, dim):
    """exp(x) / sum exp(x) along an axis, without overflow.

    Parameters
    ----------
    input : Tensor or ndarray
        float32 or float64.
    dim : int
        The axis that sums to 1.

    Returns
    -------
    Tensor or ndarray

    Examples
    --------
    >>> import numpy as np, fastconv.functional as F
    >>> F.softmax(np.zeros((1, 4)), dim=1)
    array([[0.25, 0.25, 0.25, 0.25]])
    """
    return apply(_softmax_rule, input, dim=dim)


def log_softmax(input, dim):
    """log of :func:`softmax`, computed without forming it.

    Parameters
    ----------
    input : Tensor or ndarray
        float32 or float64.
    dim : int

    Returns
    -------
    Tensor or ndarray

    Examples
    --------
    >>> import numpy as np, fastconv.functional as F
    >>> F.log_softmax(np.array([[1000.0, 1000.0]]), dim=1).round(4)
    array([[-0.6931, -0.6931]])
    """
    return apply(_log_softmax_rule, input, dim=dim)


def _rectified(input, inplace, kernel, kernel_backward):
    run = apply_in_place if inplace else apply
    return run(_rectifier_rule, input, kernel=kernel, kernel_backward=kernel_backward)


def _rectifier_rule(needs, x, *, kernel, kernel_backward):
    """A rectifier whose gradient follows from its result."""
    x, back = memory_order(_checks.as_float_array("input", x))
    y = np.empty_like(x)
    threads = threads_for(x.size)
    kernel(x.reshape(-1), y.reshape(-1), threads)

    def backward(g):
        g = in_order_of(g, back)
        dx = np.empty_like(g)
        kernel_backward(y.reshape(-1), g.reshape(-1), dx.reshape(-1), threads)
        return (dx.transpose(back),)

    return y.transpose(back), backward


def _leaky_relu_rule(needs, x, *, slope):
    x, back = memory_order(_checks.as_float_array("input", x))
    y = np.empty_like(x)
    threads = threads_for(x.size)
    kernels.leaky_relu(x.reshape(-1), y.reshape(-1), slope, threads)

    def backward(g):
        g = in_order_of(g, back)
        dx = np.empty_like(g)
        kernels.leaky_relu_backward(x.reshape(-1), g.reshape(-1), dx.reshape(-1), slope, threads)
        return (dx.transpose(back),)

    return y.transpose(back), backward


def _shifted(x, dim):
    """x less its largest value along `dim`, and the axis, checked."""
    x = _checks.as_float_array("input", x)
    dim = _checks.axis("dim", dim, max(x.ndim, 1))
    if not x.ndim or not x.shape[dim]:
        raise ValueError(f"input must have values along dim={dim}, got shape {x.shape}")
    with np.errstate(invalid="ignore", over="ignore"):  # NaN and -inf, as in PyTorch
        return x - x.max(axis=dim, keepdims=True), dim


def _softmax_rule(needs, x, *, dim):
    y, dim = _shifted(x, dim)
    np.exp(y, out=y)
    y /= y.sum(axis=dim, keepdims=True)
    # dx = y (dy - sum y dy)
    return y, lambda g: (y * (g - (g * y).sum(axis=dim, keepdims=True)),)


def _log_softmax_rule(needs, x, *, dim):
    y, dim = _shifted(x, dim)
    y -= np.log(np.exp(y).sum(axis=dim, keepdims=True))
    # dx = dy - softmax sum dy
    return y, lambda g: (g - np.exp(y) * g.sum(axis=dim, keepdims=True),)
