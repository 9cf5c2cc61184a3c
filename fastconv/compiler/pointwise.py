"""Steps that go value by value, along a channel or along an axis."""

import math

import numpy as np
from scipy.special import erf

from fastconv import _checks
from fastconv._activation import NONE
from fastconv._layout import channels_last, memory_order
from fastconv._threads import threads_for
from fastconv.autograd.pointwise import BINARY, UNARY
from fastconv.compiler.products import check_constant, check_residual
from fastconv.compiler.step import Spec, Step, laid
from fastconv.functional.activation import OPERATIONS
from fastconv.kernels import activation, norm, pointwise

__all__ = [
    "REDUCTIONS",
    "UFUNCS",
    "add",
    "arithmetic",
    "clip",
    "normalize",
    "of_value",
    "prelu",
    "rectify",
    "reduce",
    "softmax",
]

# NumPy's and SciPy's, by the names of the operators that they are.
UFUNCS = {
    name: getattr(np, name)
    for name in (
        "absolute", "add", "divide", "exp", "log", "multiply", "negative", "power", "sqrt",
        "subtract",
    )
}  # fmt: skip
UFUNCS |= {
    name: function
    for name, (function, *_) in (*UNARY.items(), *BINARY.items())
    if isinstance(function, np.ufunc)
}
UFUNCS["erf"] = erf  # which autograd imports when it first needs it
REDUCTIONS = {"max": np.max, "mean": np.mean, "min": np.min, "sum": np.sum}


def normalize(inputs, options, specs, fixed):
    """act((x - mean) scale + shift + residual), with constants per channel or for all."""
    x, residual = specs[0], specs[4]
    if not 2 <= len(x.shape) <= 5 or x.dtype.type not in _checks.FLOATS:
        return None
    channels = x.shape[1:2]
    constants = dict(zip(("mean", "scale", "shift"), inputs[1:4], strict=True))
    for name, constant in constants.items():
        shape = channels if constant.ndim else ()
        check_constant(f"{name} of batch norm", constant, np.float64, shape)
    check_residual(residual, x)
    mean, scale, shift = (np.broadcast_to(c, channels) for c in constants.values())
    rounded = mean.astype(x.dtype)
    shift = shift + (rounded - mean) * scale
    factors = rounded, scale.astype(x.dtype), shift.astype(x.dtype)

    def bind(arrays, outputs, take):
        residual = None if arrays[4] is None else _rows(arrays[4])
        arguments = (
            _rows(arrays[0]), *factors, residual, *options["activation"], _rows(outputs[0]),
            threads_for(x.size),
        )  # fmt: skip
        return _unless_empty(x, lambda: norm.normalize(*arguments))

    return Step((Spec(*x[:2]),), bind, flops=2 * x.size, over=(0, 4), by_image=True)


def _rows(x):
    """(N, C, *spatial) as the rows of a matrix of C columns, a view."""
    return channels_last(x).reshape(-1, x.shape[1])


def _flat(x):
    return memory_order(x)[0].reshape(-1)


def _unless_empty(spec, call):
    return call if spec.size else lambda: None


def rectify(inputs, options, specs, fixed):
    """The rectifiers of :class:`fastconv._activation.Activation`."""
    x = specs[0]

    def bind(arrays, outputs, take):
        y = _flat(outputs[0])
        arguments = _flat(arrays[0]), *options["activation"], y, threads_for(y.size)
        return lambda: activation.rectify(*arguments)

    return Step((Spec(*x[:2]),), bind, flops=x.size, over=(0,), by_image=True)


def of_value(inputs, options, specs, fixed):
    """One of the functions of ``pointwise.h``."""
    x, number = specs[0], pointwise.NUMBERS[options["function"]]

    def bind(arrays, outputs, take):
        arguments = (
            number, _flat(arrays[0]), _flat(outputs[0]), threads_for(OPERATIONS * x.size),
            *options["parameters"],
        )  # fmt: skip
        return lambda: pointwise.apply(*arguments)

    return Step((Spec(*x[:2]),), bind, flops=x.size, over=(0,), by_image=True)


def prelu(inputs, options, specs, fixed):
    """A rectifier with constant slopes for each channel or for all."""
    x, w = specs[0], inputs[1]
    if not 2 <= len(x.shape) <= 5:
        return None
    channels = x.shape[1]
    check_constant("weight", w, x.dtype, w.shape if w.shape == (1,) else (channels,))
    slopes = np.ascontiguousarray(np.broadcast_to(w, channels))

    def bind(arrays, outputs, take):
        arguments = _rows(arrays[0]), slopes, _rows(outputs[0]), threads_for(x.size)
        return _unless_empty(x, lambda: pointwise.prelu(*arguments))

    return Step((Spec(*x[:2]),), bind, flops=x.size, over=(0,), by_image=True)


def add(inputs, options, specs, fixed):
    """act(a + b)."""
    a, b = specs
    if a[:2] != b[:2]:
        return arithmetic(inputs, {"function": "add", **options}, specs, fixed)

    def bind(arrays, outputs, take):
        y = _flat(outputs[0])
        arguments = *map(_flat, arrays), *options["activation"], y, threads_for(y.size)
        return lambda: activation.add(*arguments)

    return Step((Spec(*a[:2]),), bind, flops=a.size, over=(0, 1), by_image=True)


def arithmetic(inputs, options, specs, fixed):
    """A NumPy ufunc, whose operands broadcast, and a rectifier."""
    function = UFUNCS[options["function"]]
    ones, shapes = zip(*map(_one, inputs, specs), strict=True)
    output = Spec(np.broadcast_shapes(*shapes), function(*ones).dtype)
    act = options.get("activation", NONE)
    if act != NONE and output.dtype.type not in _checks.FLOATS:
        raise TypeError(f"a rectifier needs float32 or float64, got {output.dtype}")
    scales = options["function"] == "multiply" and _scales(specs, output)

    def bind(arrays, outputs, take):
        y = outputs[0]
        if scales:
            return _bind_scales(*arrays, y, act)
        if act == NONE:
            return lambda: function(*arrays, out=y)
        arguments = _flat(y), *act, _flat(y), threads_for(y.size)

        def call():
            function(*arrays, out=y)
            activation.rectify(*arguments)

        return call

    # What broadcasts is read again after its place was written.
    over = tuple(i for i, s in enumerate(specs) if s is not None and s[:2] == output[:2])
    over = over[:1] if scales else over
    ndim = len(output.shape)
    by_image = all(
        len(shape) == ndim if s is not None else len(shape) < ndim or shape[0] == 1
        for s, shape in zip(specs, shapes, strict=True)
    )
    return Step((output,), bind, flops=output.size, over=over, by_image=by_image)


def _one(x, spec):
    """(an array of a single one, or the number that it is; the shape) of an operand."""
    given = x if spec is None else spec
    shape = np.shape(x) if spec is None else spec.shape
    dtype = getattr(given, "dtype", None)
    return (x if dtype is None else np.ones((1,) * len(shape), dtype)), shape


def _scales(specs, output):
    """Whether the second operand is a factor for each channel of each image of the first."""
    if None in specs or output.dtype.type not in _checks.FLOATS or not output.size:
        return False
    x, s = specs
    per_channel = (*output.shape[:2], *[1] * (len(output.shape) - 2))
    return 3 <= len(x.shape) <= 5 and x[:2] == output[:2] and s[:2] == (per_channel, x.dtype)


def _bind_scales(x, s, y, act):
    zeros = np.zeros(x.shape[1], x.dtype)
    scales = s.reshape(s.shape[:2])
    calls = [
        (_rows(x[i : i + 1]), zeros, scales[i], zeros, None, *act, _rows(y[i : i + 1]),
         threads_for(x[i].size))
        for i in range(len(x))
    ]  # fmt: skip

    def call():
        for arguments in calls:
            norm.normalize(*arguments)

    return call


def clip(inputs, options, specs, fixed):
    """Values within two bounds, of which the upper one wins."""
    x, low, high = specs[0], options["low"], options["high"]

    def bind(arrays, outputs, take):
        x, y = arrays[0], outputs[0]

        def call():
            np.maximum(x, low, out=y)
            np.minimum(y, high, out=y)

        return call

    return Step((Spec(*x[:2]),), bind, flops=x.size, over=(0,), by_image=True)


def reduce(inputs, options, specs, fixed):
    """Sums, means and the like along axes."""
    x, axes, keepdim = specs[0], tuple(options["axes"]), options["keepdim"]
    function = REDUCTIONS[options["function"]]
    kept = [1 if axis in axes else n for axis, n in enumerate(x.shape)]
    shape = tuple(n for axis, n in enumerate(kept) if keepdim or axis not in axes)
    if x.dtype.type not in _checks.FLOATS:
        return None

    def bind(arrays, outputs, take):
        x, y = arrays[0], outputs[0]
        return lambda: function(x, axis=axes, keepdims=keepdim, out=y)

    by_image = 0 not in axes
    return Step((Spec(shape, x.dtype),), bind, flops=x.size, by_image=by_image)


def softmax(inputs, options, specs, fixed):
    """exp(x - max) / sum of these, or its logarithm, along an axis."""
    x, logs = specs[0], options["logs"]
    if not x.shape or x.dtype.type not in _checks.FLOATS:
        return None
    axis = _checks.axis("dim", options["dim"], len(x.shape))
    if not x.shape[axis]:
        raise ValueError(f"input must have values along dim={axis}, got shape {x.shape}")
    kept = (*x.shape[:axis], 1, *x.shape[axis + 1 :])

    def bind(arrays, outputs, take):
        x, y = arrays[0], outputs[0]
        along = take(kept, x.dtype)
        exps = laid(take((x.nbytes,), np.uint8), Spec(x.shape, x.dtype)) if logs else y

        def call():
            with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
                np.max(x, axis=axis, keepdims=True, out=along)
                np.subtract(x, along, out=y)
                np.exp(y, out=exps)
                np.sum(exps, axis=axis, keepdims=True, out=along)
                if logs:
                    np.log(along, out=along)
                    np.subtract(y, along, out=y)
                else:
                    np.divide(y, along, out=y)

        return call

    return Step((Spec(*x[:2]),), bind, flops=4 * math.prod(x.shape), over=(0,), by_image=axis > 0)
