"""What a plan knows of operators: what a trace makes of each, and the step that carries it out.

An operator that is not here runs as it does without a plan, in memory of its own.
"""

import importlib
import inspect
import math
from collections.abc import Callable
from types import FunctionType
from typing import NamedTuple

import numpy as np

from fastconv import _geometry
from fastconv._activation import NONE
from fastconv._correlate import bind as bind_correlation
from fastconv._layout import channels_last, memory_order
from fastconv._plan import Shape, plan_correlation
from fastconv._threads import threads_for
from fastconv.functional.conv import by_group, check
from fastconv.kernels import activation, layout, norm, pool

__all__ = ["OPERATORS", "RULES", "Step", "Value", "canonical", "dense", "name_of"]

_NOUNS = (
    "activation", "conv", "dropout", "fold", "linear", "loss", "norm", "pad", "pool", "shuffle"
)  # fmt: skip
# Every rule by name: what takes `needs` first is one.
RULES = {
    f"{module}.{name}": function
    for module in ("autograd.ops", *(f"functional.{noun}" for noun in _NOUNS))
    for name, function in vars(importlib.import_module(f"fastconv.{module}")).items()
    if isinstance(function, FunctionType)
    and inspect.unwrap(function).__code__.co_varnames[:1] == ("needs",)
}
_NAMES = {rule: name for name, rule in RULES.items()}


class Value(NamedTuple):
    """What an operator gives or an input is, by number."""

    number: int


class Step(NamedTuple):
    """An operator for given shapes."""

    shape: tuple  # of its output
    bind: Callable  # (inputs, output, take) -> a call that sets output; take allocates scratch
    algorithm: str = ""
    flops: int = 0
    alias: bool = False  # whether the output is the first input's memory, and there is no call


# A trace's operators ------------------------------------------------------------------------------


def name_of(rule):
    """The key of a rule in RULES, None for a user's own."""
    return _NAMES.get(rule)


def canonical(node, shapes, dtype):
    """(operator, inputs, options) of a call: what its rule is by another name, or the call."""
    name, options = node.options["rule"], node.options["options"]
    found = _CANONICAL[name](node.inputs, options) if name in _CANONICAL else None
    if found is not None:
        operator, inputs, options = found
        shapes = [shapes.get(x) if isinstance(x, Value) else None for x in inputs]
        if OPERATORS[operator](inputs, options, shapes, dtype, None) is not None:
            return found
    return node.operator, node.inputs, node.options


def _constant(*inputs):
    return all(x is None or isinstance(x, np.ndarray) for x in inputs)


def _from_conv(inputs, options):
    x, w, b = inputs
    if not _constant(w, b):
        return None
    geometry, algorithm = options["options"], options["algorithm"]
    return "conv", (x, w, b, None), {
        "geometry": geometry, "algorithm": algorithm, "activation": NONE
    }  # fmt: skip


def _from_linear(inputs, options):
    x, w, b = inputs
    return ("linear", (x, w, b, None), {"activation": NONE}) if _constant(w, b) else None


def _from_norm(inputs, options):
    x, w, b, residual = inputs
    if options["training"] or not _constant(w, b):
        return None
    mean, var = options["running"]
    scale = 1 / np.sqrt(var.astype(np.float64) + options["eps"])
    scale = scale if w is None else scale * w
    shift = np.zeros(mean.shape) if b is None else b.astype(np.float64)
    constants = mean.astype(np.float64), scale, shift
    return "norm", (x, *constants, residual), {"activation": options["activation"]}


def _from_add(inputs, options):
    if not all(isinstance(x, Value) for x in inputs):
        return None
    return "add", inputs, {"activation": NONE}


_CANONICAL = {
    "functional.conv._conv_rule": _from_conv,
    "functional.linear._linear_rule": _from_linear,
    "functional.norm._batch_norm_rule": _from_norm,
    "functional.activation._rectify_rule": lambda inputs, options: (
        "rectify", inputs, options
    ),
    "functional.pool._max_rule": lambda inputs, options: (
        "max_pool", inputs, {"floor": -math.inf, **options}
    ),
    "functional.pool._adaptive_max_rule": lambda inputs, options: (
        "adaptive_max_pool", inputs, {"floor": -math.inf, **options}
    ),
    "functional.pool._avg_rule": lambda inputs, options: ("avg_pool", inputs, options),
    "functional.pool._adaptive_avg_rule": lambda inputs, options: (
        "adaptive_avg_pool", inputs, options
    ),
    "autograd.ops._add": _from_add,
    "autograd.ops._flatten": lambda inputs, options: ("flatten", inputs, options),
}  # fmt: skip


# Their steps --------------------------------------------------------------------------------------
# Each of (inputs, options, shapes, dtype, fixed): shapes are None for constants, `fixed` keeps the
# weights as kernels read them. None where the operator must run as a call, which depends on the
# number of axes alone.


def dense(shape):
    """(axes of the memory, its shape) of a plan's array: channels-last if it has spatial axes."""
    ndim = len(shape)
    if not 3 <= ndim <= 5:
        return tuple(range(ndim)), tuple(shape)
    return (0, ndim - 1, *range(1, ndim - 1)), (shape[0], *shape[2:], shape[1])


def _empty(shape, dtype):
    return np.broadcast_to(np.zeros((), dtype), shape)


def _conv(inputs, options, shapes, dtype, fixed):
    _, w, b, _ = inputs
    n, stride, padding, dilation, groups = options["geometry"]
    if len(shapes[0]) != n + 2:
        return None
    check(n, _empty(shapes[0], dtype), w, b, groups)
    geometry = _geometry.convolution(shapes[0][2:], w.shape[2:], stride, padding, dilation)
    shape = (shapes[0][0], len(w), *geometry.output)
    w, frame = by_group(w, groups), geometry.frame
    return _correlation(w, b, shapes[3], frame, options, shape, channels_last, dtype, fixed)


def _check(name, array, dtype, shape=None):
    """Raise unless a constant fits: a plan may come from a file."""
    if array.dtype != dtype:
        raise TypeError(f"{name} must have dtype {dtype}, got {array.dtype}")
    if shape is not None and array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}")


def _check_residual(residual, shape):
    if residual is not None and residual != shape:
        raise ValueError(f"a sum of shapes {shape} and {residual}: a plan needs equal ones here")


def _correlation(w, b, residual, frame, options, shape, memory, dtype, fixed):
    algorithm = options.get("algorithm", "auto")
    _check("weight", w, dtype)
    if b is not None:
        _check("bias", b, dtype, (shape[1],))
    _check_residual(residual, shape)
    if not shape[0]:
        return Step(shape, lambda arrays, output, take: lambda: None)
    sizes = Shape(shape[0], *w.shape[:2], w.shape[5], np.dtype(dtype).itemsize)
    plan = plan_correlation(sizes, frame, algorithm, True)

    def bind(arrays, output, take):
        x, _, _, residual = arrays
        residual = None if residual is None else memory(residual)
        return bind_correlation(
            memory(x), w, b, memory(output), frame, algorithm, fixed, residual,
            options["activation"], take,
        )[1]  # fmt: skip

    return Step(shape, bind, plan.way, 2 * sizes.products(frame))


def _linear(inputs, options, shapes, dtype, fixed):
    """A 1x1 convolution of rows; of a whole image, whose memory is then a row, if it has one."""
    _, w, b, _ = inputs
    shape = shapes[0]
    if len(shape) != 2 and not options.get("image"):
        return None
    if math.prod(shape[1:]) != w.shape[1]:
        raise ValueError(f"linear of {w.shape[1]} features got an input of shape {shape}")
    if len(shape) > 2:
        w = w.reshape(len(w), shape[1], -1).transpose(0, 2, 1)
    w = np.ascontiguousarray(w).reshape(1, len(w), 1, 1, 1, -1)
    frame = _geometry.convolution((1,), (1,), 1, 0, 1).frame
    shape = shape[0], w.shape[1]
    return _correlation(w, b, shapes[3], frame, options, shape, _as_pixels, dtype, fixed)


def _as_pixels(x):
    return memory_order(x)[0].reshape(len(x), 1, 1, 1, -1)


def _norm(inputs, options, shapes, dtype, fixed):
    shape = shapes[0]
    if len(shape) > 5 or len(shape) < 2:
        return None
    _, mean, scale, shift, _ = inputs
    for name, constant in (("mean", mean), ("scale", scale), ("shift", shift)):
        _check(f"{name} of batch norm", constant, np.float64, shape[1:2])
    _check_residual(shapes[4], shape)
    rounded = mean.astype(dtype)
    shift = shift + (rounded - mean) * scale
    factors = rounded, scale.astype(dtype), shift.astype(dtype)

    def rows(x):
        return channels_last(x).reshape(-1, shape[1])

    def bind(arrays, output, take):
        residual = None if arrays[4] is None else rows(arrays[4])
        arguments = (
            rows(arrays[0]), *factors, residual, *options["activation"], rows(output),
            threads_for(output.size),
        )  # fmt: skip
        return lambda: norm.normalize(*arguments)

    return Step(shape, bind, flops=2 * math.prod(shape))


def _flat(x):
    return memory_order(x)[0].reshape(-1)


def _rectify(inputs, options, shapes, dtype, fixed):
    def bind(arrays, output, take):
        arguments = (
            _flat(arrays[0]), *options["activation"], _flat(output), threads_for(output.size)
        )  # fmt: skip
        return lambda: activation.rectify(*arguments)

    return Step(shapes[0], bind, flops=math.prod(shapes[0]))


def _add(inputs, options, shapes, dtype, fixed):
    shape = np.broadcast_shapes(*shapes)
    if shapes[0] != shapes[1]:

        def bind_broadcast(arrays, output, take):
            def call():
                np.add(*arrays, out=output)
                activation.rectify(
                    _flat(output), *options["activation"], _flat(output), threads_for(output.size)
                )

            return call

        return Step(shape, bind_broadcast, flops=math.prod(shape))

    def bind(arrays, output, take):
        arguments = (
            _flat(arrays[0]), _flat(arrays[1]), *options["activation"], _flat(output),
            threads_for(output.size),
        )  # fmt: skip
        return lambda: activation.add(*arguments)

    return Step(shape, bind, flops=math.prod(shape))


def _max_pool(inputs, options, shapes, dtype, fixed):
    return _maxima(options, shapes, _strided(options, shapes))


def _adaptive_max_pool(inputs, options, shapes, dtype, fixed):
    return _maxima(options, shapes, _adaptive(options, shapes))


def _avg_pool(inputs, options, shapes, dtype, fixed):
    if options["divisor"] is not None:
        return None
    return _means(options, shapes, _strided(options, shapes))


def _adaptive_avg_pool(inputs, options, shapes, dtype, fixed):
    return _means(options, shapes, _adaptive(options, shapes))


def _strided(options, shapes):
    if len(shapes[0]) != options["n"] + 2:
        return None
    return _geometry.strided_windows(shapes[0][2:], *options["options"])


def _adaptive(options, shapes):
    if len(shapes[0]) != options["n"] + 2:
        return None
    return _geometry.adaptive_windows(shapes[0][2:], options["output_size"])


def _maxima(options, shapes, windows):
    if windows is None:
        return None

    def bind(arrays, output, take):
        x, y = channels_last(arrays[0]), channels_last(output)
        arguments = x, y, None, windows.windows, options["floor"], threads_for(x.size)
        return lambda: pool.max_pool(*arguments)

    return Step((*shapes[0][:2], *windows.output), bind, flops=math.prod(shapes[0]))


def _means(options, shapes, windows):
    if windows is None:
        return None

    def bind(arrays, output, take):
        x, y = channels_last(arrays[0]), channels_last(output)
        arguments = x, y, windows.windows, windows.divisor, 1.0, threads_for(x.size)
        return lambda: pool.sum_pool(*arguments)

    return Step((*shapes[0][:2], *windows.output), bind, flops=math.prod(shapes[0]))


def _flatten(inputs, options, shapes, dtype, fixed):
    shape, first, last = shapes[0], options["first"], options["last"]
    result = (*shape[:first], math.prod(shape[first : last + 1]), *shape[last + 1 :])
    if len(result) != 2 or not 2 <= len(shape) <= 5 or first != 1:
        return None
    n, channels, places = shape[0], shape[1], math.prod(shape[2:])

    def bind(arrays, output, take):
        x = channels_last(arrays[0]).reshape(n, places, channels)
        arguments = x, output.reshape(n, channels, places), threads_for(output.size)
        return lambda: layout.transpose(*arguments)

    return Step(result, bind, alias=channels == 1 or places == 1)


def _call(inputs, options, shapes, dtype, fixed):
    rule, given = options["function"], options["options"]
    needs = (False,) * len(inputs)
    trial = [
        x if shape is None else np.zeros(shape, dtype)
        for x, shape in zip(inputs, shapes, strict=True)
    ]
    with np.errstate(all="ignore"):
        found = np.asarray(rule(needs, *trial, **given)[0])
    if found.dtype != dtype:
        raise TypeError(
            f"{options['rule']} gives {found.dtype}, all values of a plan must have {dtype}"
        )

    def bind(arrays, output, take):
        def call():
            output[...] = rule(needs, *arrays, **given)[0]

        return call

    return Step(found.shape, bind, "call")


OPERATORS = {
    "add": _add,
    "adaptive_avg_pool": _adaptive_avg_pool,
    "adaptive_max_pool": _adaptive_max_pool,
    "avg_pool": _avg_pool,
    "call": _call,
    "conv": _conv,
    "flatten": _flatten,
    "linear": _linear,
    "max_pool": _max_pool,
    "norm": _norm,
    "rectify": _rectify,
}
