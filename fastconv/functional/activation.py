"""Functions of one value, rectifiers among them, and softmax."""

import numpy as np

from fastconv import _checks
from fastconv._activation import RELU, RELU6, Activation
from fastconv._layout import in_order_of, memory_order
from fastconv._memory import empty
from fastconv._threads import threads_for
from fastconv.autograd.engine import apply, apply_in_place
from fastconv.functional._shared import channel_sums, rows_of
from fastconv.kernels import activation as kernels
from fastconv.kernels import pointwise

__all__ = [
    "celu",
    "elu",
    "gelu",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "leaky_relu",
    "log_softmax",
    "logsigmoid",
    "mish",
    "prelu",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softmin",
    "softplus",
    "softsign",
    "tanh",
]


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
    return rectify(input, RELU, inplace)


def relu6(input, inplace=False):
    """min(max(x, 0), 6), value by value: the rectifier of MobileNets [1]_.

    Parameters
    ----------
    input : Tensor or ndarray
        float32 or float64, of any shape and memory layout.
    inplace : bool, default False
        As in :func:`relu`.

    Returns
    -------
    Tensor or ndarray

    Raises
    ------
    TypeError
        For dtypes other than float32 or float64.

    References
    ----------
    .. [1] A. Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile
       Vision Applications", 2017.

    Examples
    --------
    >>> import numpy as np, fastconv.functional as F
    >>> F.relu6(np.array([-1.0, 2.0, 8.0]))
    array([0., 2., 6.])
    """
    return rectify(input, RELU6, inplace)


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
    return rectify(input, Activation(slope), inplace)


def rectify(input, activation, inplace=False):
    """Any :class:`fastconv._activation.Activation`."""
    return (apply_in_place if inplace else apply)(_rectify_rule, input, activation=activation)


def elu(input, alpha=1.0, inplace=False):
    """x where it is positive, alpha (exp(x) - 1) elsewhere [1]_.

    Parameters
    ----------
    input : Tensor or ndarray
        float32 or float64, of any shape and memory layout.
    alpha : float, default 1
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

    References
    ----------
    .. [1] D.-A. Clevert, T. Unterthiner, S. Hochreiter, "Fast and Accurate Deep Network Learning by
       Exponential Linear Units (ELUs)", ICLR 2016.

    Examples
    --------
    >>> import numpy as np, fastconv.functional as F
    >>> F.elu(np.array([-1.0, 0.0, 2.0])).round(4)
    array([-0.6321,  0.    ,  2.    ])
    """
    return _pointwise(input, "elu", (_checks.real("alpha", alpha), 1.0, 1.0), inplace)


def selu(input, inplace=False):
    """scale * elu(x, alpha), with the constants that keep mean 0 and variance 1 [1]_.

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

    References
    ----------
    .. [1] G. Klambauer et al., "Self-Normalizing Neural Networks", NIPS 2017.

    Examples
    --------
    >>> import numpy as np, fastconv.functional as F
    >>> F.selu(np.array([-1.0, 0.0, 2.0])).round(4)
    array([-1.1113,  0.    ,  2.1014])
    """
    return _pointwise(input, "elu", (SELU_ALPHA * SELU_SCALE, 1.0, SELU_SCALE), inplace)


def celu(input, alpha=1.0, inplace=False):
    """x where it is positive, alpha (exp(x / alpha) - 1) elsewhere [1]_.

    Parameters
    ----------
    input : Tensor or ndarray
        float32 or float64, of any shape and memory layout.
    alpha : float, default 1
        Not 0.
    inplace : bool, default False
        As in :func:`relu`.

    Returns
    -------
    Tensor or ndarray
        Of the input's shape and memory layout. NaN stays NaN.

    Raises
    ------
    ValueError
        If `alpha` is 0.
    TypeError
        For dtypes other than float32 or float64.

    References
    ----------
    .. [1] J. T. Barron, "Continuously Differentiable Exponential Linear Units", 2017.

    Examples
    --------
    >>> import numpy as np, fastconv.functional as F
    >>> F.celu(np.array([-1.0, 0.0, 2.0]), alpha=2.0).round(4)
    array([-0.7869,  0.    ,  2.    ])
    """
    alpha = _checks.real("alpha", alpha)
    if alpha == 0:
        raise ValueError("alpha must not be 0, got 0.0")
    return _pointwise(input, "elu", (alpha, 1 / alpha, 1.0), inplace)


def gelu(input, approximate="none"):
    """x times the normal distribution function at x [1]_.

    Parameters
    ----------
    input : Tensor or ndarray
        float32 or float64, of any shape and memory layout.
    approximate : {"none", "tanh"}
        "tanh" takes (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2 for that function.

    Returns
    -------
    Tensor or ndarray
        Of the input's shape and memory layout. NaN stays NaN.

    Raises
    ------
    ValueError
        For another `approximate`.
    TypeError
        For dtypes other than float32 or float64.

    References
    ----------
    .. [1] D. Hendrycks, K. Gimpel, "Gaussian Error Linear Units (GELUs)", 2016.

    Examples
    --------
    >>> import numpy as np, fastconv.functional as F
    >>> F.gelu(np.array([-1.0, 0.0, 2.0])).round(4)
    array([-0.1587,  0.    ,  1.9545])
    """
    _checks.one_of("approximate", approximate, ("none", "tanh"))
    return _pointwise(input, "gelu" if approximate == "none" else "gelu_tanh")


def silu(input, inplace=False):
    """x sigmoid(x), also called swish [1]_.

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

    References
    ----------
    .. [1] S. Elfwing, E. Uchibe, K. Doya, "Sigmoid-Weighted Linear Units for Neural Network
       Function Approximation in Reinforcement Learning", Neural Networks 107, 2018.

    Examples
    --------
    >>> import numpy as np, fastconv.functional as F
    >>> F.silu(np.array([-1.0, 0.0, 2.0])).round(4)
    array([-0.2689,  0.    ,  1.7616])
    """
    return _pointwise(input, "silu", inplace=inplace)


def mish(input, inplace=False):
    """x tanh(softplus(x)) [1]_.

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

    References
    ----------
    .. [1] D. Misra, "Mish: A Self Regularized Non-Monotonic Activation Function", BMVC 2020.

    Examples
    --------
    >>> import numpy as np, fastconv.functional as F
    >>> F.mish(np.array([-1.0, 0.0, 2.0])).round(4)
    array([-0.3034,  0.    ,  1.944 ])
    """
    return _pointwise(input, "mish", inplace=inplace)


def sigmoid(input):
    """The logistic function, 1 / (1 + exp(-x)), value by value.

    Parameters
    ----------
    input : Tensor or ndarray
        float32 or float64, of any shape and memory layout.

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
    >>> F.sigmoid(np.array([-1.0, 0.0, 1000.0])).round(4)
    array([0.2689, 0.5   , 1.    ])
    """
    return _pointwise(input, "sigmoid")


def logsigmoid(input):
    """log of :func:`sigmoid`, computed without forming it.

    Parameters
    ----------
    input : Tensor or ndarray
        float32 or float64, of any shape and memory layout.

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
    >>> F.logsigmoid(np.array([-20.0, 0.0])).round(4)
    array([-20.    ,  -0.6931])
    """
    return _pointwise(input, "logsigmoid")


def tanh(input):
    """The hyperbolic tangent, value by value.

    Parameters
    ----------
    input : Tensor or ndarray
        float32 or float64, of any shape and memory layout.

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
    >>> F.tanh(np.array([-1.0, 0.0, 1000.0])).round(4)
    array([-0.7616,  0.    ,  1.    ])
    """
    return _pointwise(input, "tanh")


def hardtanh(input, min_val=-1.0, max_val=1.0, inplace=False):
    """min(max(x, min_val), max_val), value by value.

    Parameters
    ----------
    input : Tensor or ndarray
        float32 or float64, of any shape and memory layout.
    min_val, max_val : float, default -1 and 1
        May be infinite.
    inplace : bool, default False
        As in :func:`relu`.

    Returns
    -------
    Tensor or ndarray
        Of the input's shape and memory layout. NaN stays NaN.

    Raises
    ------
    ValueError
        If `min_val` is more than `max_val`.
    TypeError
        For dtypes other than float32 or float64.

    Examples
    --------
    >>> import numpy as np, fastconv.functional as F
    >>> F.hardtanh(np.array([-2.0, 0.5, 2.0]))
    array([-1. ,  0.5,  1. ])
    """
    low = _checks.real("min_val", min_val, finite=False)
    high = _checks.real("max_val", max_val, finite=False)
    if not low <= high:
        raise ValueError(f"min_val must be at most max_val, got {low} and {high}")
    return _pointwise(input, "hardtanh", (low, high), inplace)


def hardswish(input, inplace=False):
    """x times :func:`hardsigmoid` of x [1]_.

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

    References
    ----------
    .. [1] A. Howard et al., "Searching for MobileNetV3", ICCV 2019.

    Examples
    --------
    >>> import numpy as np, fastconv.functional as F
    >>> F.hardswish(np.array([-4.0, 1.5, 4.0]))
    array([-0.   ,  1.125,  4.   ])
    """
    return _pointwise(input, "hardswish", inplace=inplace)


def hardsigmoid(input, inplace=False):
    """min(max(x + 3, 0), 6) / 6, value by value.

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
    >>> F.hardsigmoid(np.array([-4.0, 0.0, 1.5]))
    array([0.  , 0.5 , 0.75])
    """
    return _pointwise(input, "hardsigmoid", inplace=inplace)


def softplus(input, beta=1.0, threshold=20.0):
    """log(1 + exp(beta x)) / beta, and x itself where beta x is above a threshold.

    Parameters
    ----------
    input : Tensor or ndarray
        float32 or float64, of any shape and memory layout.
    beta : float, default 1
        Not 0.
    threshold : float, default 20

    Returns
    -------
    Tensor or ndarray
        Of the input's shape and memory layout. NaN stays NaN.

    Raises
    ------
    ValueError
        If `beta` is 0.
    TypeError
        For dtypes other than float32 or float64.

    Examples
    --------
    >>> import numpy as np, fastconv.functional as F
    >>> F.softplus(np.array([-1.0, 0.0, 1000.0])).round(4)
    array([3.133e-01, 6.931e-01, 1.000e+03])
    """
    beta = _checks.real("beta", beta)
    if beta == 0:
        raise ValueError("beta must not be 0, got 0.0")
    threshold = _checks.real("threshold", threshold, finite=False)
    return _pointwise(input, "softplus", (beta, threshold))


def softsign(input):
    """x / (1 + abs(x)), value by value.

    Parameters
    ----------
    input : Tensor or ndarray
        float32 or float64, of any shape and memory layout.

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
    >>> F.softsign(np.array([-1.0, 0.0, 3.0]))
    array([-0.5 ,  0.  ,  0.75])
    """
    return _pointwise(input, "softsign")


def prelu(input, weight):
    """x where it is positive, weight * x elsewhere: a rectifier that learns its slopes [1]_.

    Parameters
    ----------
    input : Tensor or ndarray of shape (N, C, ...), or any shape with a single slope
        float32 or float64, of any memory layout.
    weight : Tensor or ndarray of shape (C,) or (1,)
        A slope per channel, or one for all.

    Returns
    -------
    Tensor or ndarray
        Of the input's shape and memory layout. NaN stays NaN.

    Raises
    ------
    ValueError
        If `weight` has neither one value nor one per channel.
    TypeError
        For dtypes other than float32 or float64, or mixed ones.

    References
    ----------
    .. [1] K. He, X. Zhang, S. Ren, J. Sun, "Delving Deep into Rectifiers: Surpassing Human-Level
       Performance on ImageNet Classification", ICCV 2015.

    Examples
    --------
    >>> import numpy as np, fastconv.functional as F
    >>> F.prelu(np.array([[-1.0, -1.0], [1.0, 2.0]]), np.array([0.5, 0.25]))
    array([[-0.5 , -0.25],
           [ 1.  ,  2.  ]])
    """
    return apply(_prelu_rule, input, weight)


# The fixed point of Klambauer et al. (2017), equation 14.
SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946


def _pointwise(input, function, parameters=(), inplace=False):
    run = apply_in_place if inplace else apply
    return run(_pointwise_rule, input, function=function, parameters=parameters)


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


def softmin(input, dim):
    """:func:`softmax` of -x: the smallest value gets the largest share.

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
    >>> F.softmin(np.array([[0.0, 1000.0]]), dim=1)
    array([[1., 0.]])
    """
    return apply(_softmin_rule, input, dim=dim)


def _rectify_rule(needs, x, *, activation):
    x, back = memory_order(_checks.as_float_array("input", x))
    y = empty(x.shape, x.dtype)
    threads = threads_for(x.size)
    kernels.rectify(x.reshape(-1), *activation, y.reshape(-1), threads)
    known = y if activation.slope >= 0 else x  # what tells where it was positive

    def backward(g):
        g = in_order_of(g, back)
        dx = empty(g.shape, g.dtype)
        kernels.rectify_backward(
            known.reshape(-1), g.reshape(-1), *activation, dx.reshape(-1), threads
        )
        return (dx.transpose(back),)

    return y.transpose(back), backward


# A function of an exponential takes about so many operations.
OPERATIONS = 8


def _pointwise_rule(needs, x, *, function, parameters):
    """One of the functions of ``pointwise.h``, by name, with its parameters a, b, c."""
    x, back = memory_order(_checks.as_float_array("input", x))
    y = empty(x.shape, x.dtype)
    number, threads = pointwise.NUMBERS[function], threads_for(OPERATIONS * x.size)
    pointwise.apply(number, x.reshape(-1), y.reshape(-1), threads, *parameters)
    known = y if function in pointwise.TOLD_FROM_RESULT else x

    def backward(g):
        g = in_order_of(g, back)
        dx = empty(g.shape, g.dtype)
        pointwise.backward(
            number, known.reshape(-1), g.reshape(-1), dx.reshape(-1), threads, *parameters
        )
        return (dx.transpose(back),)

    return y.transpose(back), backward


def _prelu_rule(needs, x, w):
    x, w = _checks.as_float_arrays({"input": x, "weight": w})
    channels = x.shape[1] if x.ndim > 1 else 1
    if w.shape not in ((1,), (channels,)):
        raise ValueError(
            f"weight must have shape (1,) or ({channels},), one slope per channel of input, for "
            f"input of shape {x.shape}, got {w.shape}"
        )
    shape, seen = x.shape, x.shape if x.ndim > 1 else (x.size, 1)
    matrices = rows_of(seen)
    slopes = np.ascontiguousarray(np.broadcast_to(w, channels))
    threads = threads_for(x.size)
    rows = matrices.of(x.reshape(seen))
    y = empty(rows.shape, x.dtype)
    if x.size:
        pointwise.prelu(rows, slopes, y, threads)

    def backward(g):
        dx, products = empty(rows.shape, g.dtype), empty(rows.shape, g.dtype)
        dw = np.zeros(channels)
        if g.size:
            pointwise.prelu_backward(
                rows, slopes, matrices.of(g.reshape(seen)), dx, products, threads
            )
            dw = channel_sums(products)
        dw = dw.sum(keepdims=True) if w.size == 1 else dw
        return matrices.image(dx).reshape(shape), dw.astype(g.dtype)

    return matrices.image(y).reshape(shape), backward


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


def _softmin_rule(needs, x, *, dim):
    y, backward = _softmax_rule(needs, -_checks.as_float_array("input", x), dim=dim)
    return y, lambda g: (-backward(g)[0],)


def _log_softmax_rule(needs, x, *, dim):
    y, dim = _shifted(x, dim)
    y -= np.log(np.exp(y).sum(axis=dim, keepdims=True))
    # dx = dy - softmax sum dy
    return y, lambda g: (g - np.exp(y) * g.sum(axis=dim, keepdims=True),)
