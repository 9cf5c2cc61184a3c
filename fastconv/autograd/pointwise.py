"""Value by value: tables of functions with their derivatives, and the choice between arrays."""

from functools import partial

import numpy as np

from fastconv.autograd.engine import apply
from fastconv.autograd.ops import _both, _unbroadcast, operand, weak

__all__ = ["clamp", "maximum", "minimum", "where"]


def _flat(x, y):
    return 0 * y


def _erf(x):
    from scipy.special import erf  # most of what an import of fastconv would take, for this alone

    return erf(x)


# name: the function, and its derivative from argument and result; None where there is none.
UNARY = {
    "acos": (np.arccos, lambda x, y: -1 / np.sqrt(1 - x * x)),
    "acosh": (np.arccosh, lambda x, y: 1 / np.sqrt(x * x - 1)),
    "asin": (np.arcsin, lambda x, y: 1 / np.sqrt(1 - x * x)),
    "asinh": (np.arcsinh, lambda x, y: 1 / np.sqrt(1 + x * x)),
    "atan": (np.arctan, lambda x, y: 1 / (1 + x * x)),
    "atanh": (np.arctanh, lambda x, y: 1 / (1 - x * x)),
    "bitwise_not": (np.bitwise_not, None),
    "ceil": (np.ceil, _flat),
    "cos": (np.cos, lambda x, y: -np.sin(x)),
    "cosh": (np.cosh, lambda x, y: np.sinh(x)),
    "erf": (_erf, lambda x, y: np.exp(-x * x) * x.dtype.type(2 / np.sqrt(np.pi))),
    "floor": (np.floor, _flat),
    "isinf": (np.isinf, None),
    "isnan": (np.isnan, None),
    "isneginf": (np.isneginf, None),
    "isposinf": (np.isposinf, None),
    "not": (np.logical_not, None),
    "reciprocal": (lambda x: 1 / x, lambda x, y: -y * y),
    "round": (np.rint, _flat),  # halves to even
    "sign": (np.sign, _flat),
    "sin": (np.sin, lambda x, y: np.cos(x)),
    "sinh": (np.sinh, lambda x, y: np.cosh(x)),
    "tan": (np.tan, lambda x, y: 1 + y * y),
}


def _divide_integers(a, b):
    """The quotient rounded towards zero; 0 where the divisor is."""
    quotient = np.floor_divide(a, b)
    return quotient + ((quotient < 0) & (quotient * b != a)).astype(quotient.dtype)


def _larger(a, b):
    """1 where a > b, half of it where they are equal."""
    return (a > b) + 0.5 * (a == b)


# name: the function, and its derivatives by both operands; None where there is none.
BINARY = {
    "and": (np.logical_and, None, None),
    "bitwise_and": (np.bitwise_and, None, None),
    "bitwise_or": (np.bitwise_or, None, None),
    "bitwise_xor": (np.bitwise_xor, None, None),
    "divide_integers": (_divide_integers, None, None),
    "equal": (np.equal, None, None),
    "fmod": (np.fmod, lambda a, b: 1, lambda a, b: -np.trunc(a / b)),
    "greater": (np.greater, None, None),
    "greater_equal": (np.greater_equal, None, None),
    "less": (np.less, None, None),
    "less_equal": (np.less_equal, None, None),
    "maximum": (np.maximum, _larger, lambda a, b: _larger(b, a)),
    "minimum": (np.minimum, lambda a, b: _larger(b, a), _larger),
    "mod": (np.mod, lambda a, b: 1, lambda a, b: -np.floor(a / b)),
    "or": (np.logical_or, None, None),
    "shift_left": (np.left_shift, None, None),
    "shift_right": (np.right_shift, None, None),
    "xor": (np.logical_xor, None, None),
}


def _unary(needs, x, *, function):
    forward, slope = UNARY[function]
    y = forward(x)
    return y, lambda g: (g * slope(x, y),)


def _binary(needs, a, b, *, function):
    forward, da, db = BINARY[function]
    return weak(forward, a, b), _both(needs, a, b, lambda g: g * da(a, b), lambda g: g * db(a, b))


def _where(needs, condition, a, b):
    def backward(g):
        zero = np.zeros((), g.dtype)
        return (
            None,
            _unbroadcast(np.where(condition, g, zero), np.shape(a)) if needs[1] else None,
            _unbroadcast(np.where(condition, zero, g), np.shape(b)) if needs[2] else None,
        )

    return weak(partial(np.where, condition), a, b), backward


def _clip(needs, x, low, high):
    """Within bounds, of which the upper one wins; None is no bound."""
    y = x if low is None else weak(np.maximum, x, low)
    y = y if high is None else weak(np.minimum, y, high)
    y = x.copy() if low is None and high is None else y

    def backward(g):
        above = np.False_ if high is None else (x if low is None else np.maximum(x, low)) > high
        below = np.False_ if low is None else (x < low) & ~above
        return tuple(
            _unbroadcast(g * part, np.shape(array)) if need else None
            for need, array, part in zip(
                needs, (x, low, high), (~(above | below), below, above), strict=True
            )
        )

    return y, backward


def _bits(needs, x, *, dtype):
    """The same bits as another dtype, of the same size."""
    if x.dtype.itemsize != dtype.itemsize:
        raise TypeError(f"{x.dtype} and {dtype} must be of one size")
    return np.ascontiguousarray(x).view(dtype).reshape(x.shape), lambda g: (None,)


def where(condition, input, other):
    """`input` where `condition` is true, `other` elsewhere; all three broadcast.

    Parameters
    ----------
    condition : ndarray or Tensor of bool
    input, other : Tensor, ndarray or number

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> x = np.array([-1.0, 2.0])
    >>> fastconv.where(x > 0, x, 0.0)
    array([0., 2.])
    """
    return apply(_where, operand("condition", condition), *_pair(input, other))


def _pair(input, other):
    return operand("input", input), operand("other", other)


def maximum(input, other):
    """The larger of two values; they broadcast, and equal ones share the gradient.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.maximum(np.array([-1.0, 2.0]), np.array([0.0, 1.0]))
    array([0., 2.])
    """
    return apply(_binary, *_pair(input, other), function="maximum")


def minimum(input, other):
    """The smaller of two values; they broadcast, and equal ones share the gradient.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.minimum(np.array([-1.0, 2.0]), np.array([0.0, 1.0]))
    array([-1.,  1.])
    """
    return apply(_binary, *_pair(input, other), function="minimum")


def clamp(input, min=None, max=None):
    """Values below `min` become `min`, and values above `max` become `max`.

    Parameters
    ----------
    input : Tensor or ndarray
    min, max : Tensor, ndarray or number, optional
        They broadcast. Where `min` is larger than `max`, the result is `max`.

    Raises
    ------
    ValueError
        If neither is given.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.clamp(np.array([-1.0, 0.5, 2.0]), 0, 1)
    array([0. , 0.5, 1. ])
    """
    if min is None and max is None:
        raise ValueError("clamp needs min or max, got None for both")
    low, high = (
        None if bound is None else operand(name, bound)
        for name, bound in (("min", min), ("max", max))
    )
    return apply(_clip, operand("input", input), low, high)
