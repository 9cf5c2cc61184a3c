"""Value by value: arithmetic, comparison, logic, activations, casts."""

import math

import numpy as np

from fastconv import _checks
from fastconv import functional as F
from fastconv.autograd import arrays, ops, pointwise, reductions
from fastconv.autograd.engine import apply
from fastconv.onnx.operators._shared import broadcast, cast, same_dtype
from fastconv.onnx.registry import operator
from fastconv.onnx.tensors import dtype_of

__all__ = []

# Tables -------------------------------------------------------------------------------------------

_UNARY = {
    "Acos": (7, "acos"),
    "Acosh": (9, "acosh"),
    "Asin": (7, "asin"),
    "Asinh": (9, "asinh"),
    "Atan": (7, "atan"),
    "Atanh": (9, "atanh"),
    "BitwiseNot": (18, "bitwise_not"),
    "Ceil": (1, "ceil"),
    "Cos": (7, "cos"),
    "Cosh": (9, "cosh"),
    "Erf": (9, "erf"),
    "Floor": (1, "floor"),
    "IsNaN": (9, "isnan"),
    "Not": (1, "not"),
    "Reciprocal": (1, "reciprocal"),
    "Round": (11, "round"),
    "Sign": (9, "sign"),
    "Sin": (7, "sin"),
    "Sinh": (9, "sinh"),
    "Tan": (7, "tan"),
}
_BINARY = {
    "And": (7, "and"),
    "BitwiseAnd": (18, "bitwise_and"),
    "BitwiseOr": (18, "bitwise_or"),
    "BitwiseXor": (18, "bitwise_xor"),
    "Equal": (7, "equal"),
    "Greater": (7, "greater"),
    "GreaterOrEqual": (12, "greater_equal"),
    "Less": (7, "less"),
    "LessOrEqual": (12, "less_equal"),
    "Or": (7, "or"),
    "Xor": (7, "xor"),
}
_RULES = {"Abs": ops._absolute, "Exp": ops._exp, "Log": ops._log, "Neg": ops._negative,
          "Sqrt": ops._sqrt}  # fmt: skip


def _unary(function):
    def run(x):
        return cast(apply(pointwise._unary, x, function=function), _result(function, x))

    return run


def _result(function, x):
    return np.bool_ if function in ("isnan", "not") else x.dtype


def _binary(function):
    return lambda a, b: apply(pointwise._binary, *same_dtype(a, b), function=function)


for _name, (_since, _function) in _UNARY.items():
    operator(_name, since=_since)(_unary(_function))
for _name, (_since, _function) in _BINARY.items():
    operator(_name, since=_since)(_binary(_function))
for _name, _rule in _RULES.items():
    operator(_name)(lambda x, rule=_rule: apply(rule, x))


# Arithmetic ---------------------------------------------------------------------------------------


def _divide(a, b):
    if a.dtype.kind in "iu":
        return apply(pointwise._binary, a, b, function="divide_integers")
    return apply(ops._divide, a, b)


def _power(a, b):
    broadcast(a, b)
    return cast(apply(ops._power, a, b), a.dtype)


_ARITHMETIC = {
    "Add": lambda a, b: apply(ops._add, a, b),
    "Div": _divide,
    "Mul": lambda a, b: apply(ops._multiply, a, b),
    "Sub": lambda a, b: apply(ops._subtract, a, b),
}


def _since_7(compute):
    return lambda a, b: compute(*same_dtype(a, b))


def _since_6(compute):
    """With the second operand's first axis at `axis` of the first, as before opset 7."""

    def run(a, b, *, axis: int | None = None, broadcast: int = 0):
        if broadcast and axis is not None and b.ndim:
            after = a.ndim - (axis % a.ndim) - b.ndim
            b = apply(ops._reshape, b, shape=(*b.shape, *[1] * after))
        elif not broadcast and a.shape != b.shape:
            raise ValueError(
                f"inputs must have one shape without broadcast, got {a.shape}, {b.shape}"
            )
        return compute(*same_dtype(a, b))

    return run


for _name, _compute in _ARITHMETIC.items():
    operator(_name)(_since_6(_compute))
    operator(_name, since=7)(_since_7(_compute))
operator("Pow")(_power)


@operator("Mod", since=10)
def mod(a, b, *, fmod: int = 0):
    return apply(pointwise._binary, *same_dtype(a, b), function="fmod" if fmod else "mod")


@operator("BitShift", since=11)
def bit_shift(a, b, *, direction: str):
    function = f"shift_{_checks.one_of('direction', direction, ('LEFT', 'RIGHT')).lower()}"
    return apply(pointwise._binary, *same_dtype(a, b), function=function)


def _fold(combine):
    def run(first, *others):
        for other in others:
            first = combine(*same_dtype(first, other))
        return first

    return run


_sum = _fold(_ARITHMETIC["Add"])
operator("Sum")(_sum)
operator("Max")(_fold(lambda a, b: apply(pointwise._binary, a, b, function="maximum")))
operator("Min")(_fold(lambda a, b: apply(pointwise._binary, a, b, function="minimum")))


@operator("Mean")
def mean(first, *others):
    return apply(ops._divide, _sum(first, *others), np.asarray(1 + len(others), first.dtype))


@operator("Where", since=9)
def where(condition, a, b):
    same_dtype(a, b)
    broadcast(a, condition, b)
    return apply(pointwise._where, condition, a, b)


@operator("Clip")
def clip_6(x, *, min: float = -math.inf, max: float = math.inf):
    return apply(pointwise._clip, x, np.asarray(min, x.dtype), np.asarray(max, x.dtype))


@operator("Clip", since=11)
def clip(x, low=None, high=None):
    bounds = [b for b in (low, high) if b is not None]
    same_dtype(x, *bounds)
    if any(b.size != 1 for b in bounds):
        raise ValueError("min and max must be scalars")
    return apply(pointwise._clip, x, low, high)


@operator("IsInf", since=10)
def is_inf(x, *, detect_negative: int = 1, detect_positive: int = 1):
    names = {(1, 1): "isinf", (1, 0): "isneginf", (0, 1): "isposinf"}
    function = names.get((detect_negative, detect_positive))
    if function is None:
        return apply(pointwise._binary, x, x, function="less")  # never
    return apply(pointwise._unary, x, function=function)


# Casts --------------------------------------------------------------------------------------------


@operator("Cast")
def cast_to(x, *, to: int, saturate: int = 1, round_mode: str = "up"):
    return cast(x, dtype_of(to, "attribute 'to'"))


@operator("CastLike", since=15)
def cast_like(x, target, *, saturate: int = 1, round_mode: str = "up"):
    return cast(x, target.dtype)


@operator("BitCast", since=26)
def bit_cast(x, *, to: int):
    return apply(pointwise._bits, x, dtype=dtype_of(to, "attribute 'to'"))


@operator("Identity")
def identity(x):
    return x


@operator("Dropout")
def dropout_7(x, *, training: bool, outputs: int, ratio: float = 0.5, is_test: int = 1):
    y, mask = _dropout(x, ratio, training, outputs)
    return y, None if mask is None else cast(mask, x.dtype)


@operator("Dropout", since=10)
def dropout_10(x, *, training: bool, outputs: int, ratio: float = 0.5):
    return _dropout(x, ratio, training, outputs)


@operator("Dropout", since=12)
def dropout(x, ratio=None, mode=None, *, training: bool, outputs: int, seed: int | None = None):
    ratio = 0.5 if ratio is None else np.asarray(ratio).item()
    return _dropout(x, ratio, training or (mode is not None and bool(mode)), outputs)


def _dropout(x, ratio, training, outputs):
    """The result, and which values stayed if that is asked for."""
    if outputs < 2:
        return F.dropout(x, ratio, training), None
    ones = apply(arrays._full, apply(arrays._shape, x), _constant(1, x))
    kept = F.dropout(ones, ratio, training)
    mask = apply(pointwise._binary, kept, _constant(0, x), function="greater")
    return (apply(ops._multiply, x, kept) if training else x), mask


# Activations --------------------------------------------------------------------------------------


def _constant(value, x):
    return np.asarray(value, x.dtype)


@operator("Relu", widen=True)
def relu(x):
    return F.relu(x) if x.dtype.kind == "f" else clip(x, _constant(0, x))


@operator("LeakyRelu", widen=True)
def leaky_relu(x, *, alpha: float = 0.01):
    return F.leaky_relu(x, alpha)


@operator("ThresholdedRelu", since=10)
def thresholded_relu(x, *, alpha: float = 1.0):
    above = apply(pointwise._binary, x, _constant(alpha, x), function="greater")
    return apply(pointwise._where, above, x, _constant(0, x))


@operator("Shrink", since=9)
def shrink(x, *, bias: float = 0.0, lambd: float = 0.5):
    bias = _constant(bias, x)
    above = apply(pointwise._binary, x, _constant(lambd, x), function="greater")
    below = apply(pointwise._binary, x, _constant(-lambd, x), function="less")
    y = apply(pointwise._where, below, apply(ops._add, x, bias), _constant(0, x))
    return apply(pointwise._where, above, apply(ops._subtract, x, bias), y)


@operator("Elu", widen=True)
def elu(x, *, alpha: float = 1.0):
    return F.elu(x, alpha)


@operator("Celu", since=12, widen=True)
def celu(x, *, alpha: float = 1.0):
    return F.celu(x, alpha)


@operator("Selu", widen=True)
def selu(x, *, alpha: float = 1.6732632423543772, gamma: float = 1.0507009873554805):
    return apply(ops._multiply, F.elu(x, alpha), _constant(gamma, x))


@operator("Gelu", since=20, widen=True)
def gelu(x, *, approximate: str = "none"):
    return F.gelu(x, approximate)


@operator("HardSigmoid", widen=True)
def hard_sigmoid(x, *, alpha: float = 0.2, beta: float = 0.5):
    y = apply(ops._add, apply(ops._multiply, x, _constant(alpha, x)), _constant(beta, x))
    return apply(pointwise._clip, y, _constant(0, x), _constant(1, x))


@operator("PRelu", widen=True)
def prelu_1(x, slope):
    return F.prelu(x, slope)


@operator("PRelu", since=7, widen=True)
def prelu(x, slope):
    """`slope` broadcasts to x; one per channel is PyTorch's."""
    same_dtype(x, slope)
    channels = slope.shape[1 - x.ndim] if 2 <= x.ndim <= slope.ndim + 1 else 0
    if slope.size == channels in (1, x.shape[1]):
        return F.prelu(x, apply(ops._reshape, slope, shape=(channels,)))
    negative = apply(pointwise._binary, x, _constant(0, x), function="less")
    return apply(pointwise._where, negative, apply(ops._multiply, x, slope), x)


@operator("Swish", since=24, widen=True)
def swish(x, *, alpha: float = 1.0):
    if alpha == 1:
        return F.silu(x)
    return apply(ops._multiply, x, F.sigmoid(apply(ops._multiply, x, _constant(alpha, x))))


@operator("SwiGLU", since=28, widen=True)
def swiglu(a, b, *, alpha: float = 1.0):
    return apply(ops._multiply, swish(a, alpha=alpha), b)


operator("HardSwish", since=14, widen=True)(lambda x: F.hardswish(x))
operator("Mish", since=18, widen=True)(lambda x: F.mish(x))
operator("Sigmoid", widen=True)(lambda x: F.sigmoid(x))
operator("Softplus", widen=True)(lambda x: F.softplus(x))
operator("Softsign", widen=True)(lambda x: F.softsign(x))
operator("Tanh", widen=True)(lambda x: F.tanh(x))


# Along an axis ------------------------------------------------------------------------------------


def _hardmax(x, axis):
    places = apply(reductions._arg, x, function="max", axis=axis, keepdim=False)
    depth = apply(arrays._gather, apply(arrays._shape, x), np.asarray(axis), axis=0)
    return apply(arrays._one_hot, places, depth, np.array([0, 1], x.dtype), axis=axis)


def _of_rows(compute):
    """As before opset 13: of all axes from `axis` on, seen as one."""

    def run(x, *, axis: int = 1):
        if axis in (-1, x.ndim - 1):
            return compute(x, x.ndim - 1)
        rows = apply(arrays._matrix, x, axis=axis)
        return apply(arrays._view, compute(rows, 1), apply(arrays._shape, x), zero_keeps=False)

    return run


def _of_axis(compute):
    def run(x, *, axis: int = -1):
        return compute(x, axis)

    return run


for _name, _compute in (
    ("Hardmax", _hardmax),
    ("LogSoftmax", F.log_softmax),
    ("Softmax", F.softmax),
):
    operator(_name, widen=True)(_of_rows(_compute))
    operator(_name, since=13, widen=True)(_of_axis(_compute))
