"""What the rules of activations become in ONNX; see :mod:`.emit_layers`.

A table has the functions of ``pointwise.h`` by their names there, with the parameters they have.
"""

import math

__all__ = ["EMITTERS", "FUNCTIONS", "rectified"]


def rectified(g, x, *, activation):
    """min(slope v where v <= 0 else v, top)."""
    slope, top = activation
    dtype = g.dtype(g.result)
    if slope == 0 and top < math.inf:
        return g.add("Clip", x, g.constant(0, dtype), g.constant(top, dtype))
    if slope == 0:
        x = g.add("Relu", x)
    elif slope != 1:
        x = g.add("LeakyRelu", x, alpha=slope)
    return g.add("Min", x, g.constant(top, dtype)) if top < math.inf else x


def _scaled(g, x, factor):
    return g.add("Mul", x, g.constant(factor, g.dtype(g.result)))


def _shifted(g, x, summand):
    return g.add("Add", x, g.constant(summand, g.dtype(g.result)))


def _elu(g, x, alpha, rate, scale):
    """scale x where it is positive, alpha (exp(rate x) - 1) elsewhere."""
    if rate == 1:
        if scale == 1:
            return g.add("Elu", x, alpha=alpha)
        return g.add("Selu", x, alpha=alpha / scale, gamma=scale)
    if rate < 0 or not math.isclose(alpha * rate, scale):
        raise ValueError(f"celu with alpha={alpha} has no ONNX operator: it must be positive")
    return _scaled(g, g.add("Elu", _scaled(g, x, rate)), alpha)


def _gelu(g, x):
    if g.opset >= 20:
        return g.add("Gelu", x)
    share = _shifted(g, g.add("Erf", _scaled(g, x, math.sqrt(0.5))), 1)
    return g.add("Mul", _scaled(g, x, 0.5), share)


def _gelu_tanh(g, x):
    if g.opset >= 20:
        return g.add("Gelu", x, approximate="tanh")
    # sqrt(2 / pi) (x + 0.044715 x^3)
    slope = _shifted(g, _scaled(g, g.add("Mul", x, x), 0.044715), 1)
    argument = _scaled(g, g.add("Mul", x, slope), math.sqrt(2 / math.pi))
    return g.add("Mul", _scaled(g, x, 0.5), _shifted(g, g.add("Tanh", argument), 1))


def _mish(g, x):
    if g.opset >= 18:
        return g.add("Mish", x)
    return g.add("Mul", x, g.add("Tanh", g.add("Softplus", x)))


def _hardtanh(g, x, low, high):
    dtype = g.dtype(g.result)
    return g.add("Clip", x, g.constant(low, dtype), g.constant(high, dtype))


def _softplus(g, x, rate, threshold):
    """log(1 + exp(rate x)) / rate, or x where rate x is above the threshold."""
    argument = x if rate == 1 else _scaled(g, x, rate)
    y = g.add("Softplus", argument)
    y = y if rate == 1 else _scaled(g, y, 1 / rate)
    if threshold >= 20:  # there the two differ by 2e-9 at most
        return y
    above = g.add("Greater", argument, g.constant(threshold, g.dtype(g.result)))
    return g.add("Where", above, x, y)


def _of_one(operator, **attributes):
    return lambda g, x: g.add(operator, x, **attributes)


FUNCTIONS = {
    "elu": _elu,
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "hardsigmoid": _of_one("HardSigmoid", alpha=1 / 6, beta=0.5),
    "hardswish": _of_one("HardSwish"),
    "hardtanh": _hardtanh,
    "logsigmoid": lambda g, x: g.add("Neg", g.add("Softplus", g.add("Neg", x))),
    "mish": _mish,
    "sigmoid": _of_one("Sigmoid"),
    "silu": lambda g, x: g.add("Mul", x, g.add("Sigmoid", x)),
    "softplus": _softplus,
    "softsign": _of_one("Softsign"),
    "tanh": _of_one("Tanh"),
}


def _pointwise(g, x, *, function, parameters):
    if function not in FUNCTIONS:
        raise ValueError(f"no ONNX operator is known for {function!r}")
    return FUNCTIONS[function](g, x, *parameters)


def _prelu(g, x, w):
    """ONNX broadcasts slopes along the last axes."""
    axes = len(g.shape(x)) - 2
    if axes > 0 and g.shape(w) != (1,):
        w = g.unsqueeze(w, *range(1, axes + 1))
    return g.add("PRelu", x, w)


EMITTERS = {
    "functional.activation._log_softmax_rule": lambda g, x, *, dim: g.add(
        "LogSoftmax", x, axis=dim
    ),
    "functional.activation._pointwise_rule": _pointwise,
    "functional.activation._prelu_rule": _prelu,
    "functional.activation._rectify_rule": rectified,
    "functional.activation._softmax_rule": lambda g, x, *, dim: g.add("Softmax", x, axis=dim),
    "functional.activation._softmin_rule": lambda g, x, *, dim: g.add(
        "Softmax", g.add("Neg", x), axis=dim
    ),
}
