"""Which operators of plans the rules of a trace are."""

import math

import numpy as np

from fastconv import _checks
from fastconv._activation import NONE, Activation
from fastconv.autograd.ops import _is_basic
from fastconv.autograd.reductions import as_axes
from fastconv.compiler.moves import VIEWS
from fastconv.compiler.operators import OPERATORS
from fastconv.compiler.pointwise import REDUCTIONS, UFUNCS
from fastconv.compiler.step import Value
from fastconv.compiler.windows import RESIZES
from fastconv.functional.pad import pairs_of

__all__ = ["canonical"]


def canonical(node, specs, output):
    """(operator, inputs, options) of what a call's rule is by another name, or None."""
    if node.operator != "call" or output is None or len(node.made()) > 1:
        return None
    rule, options = node.options["rule"], node.options["options"]
    if rule not in _CANONICAL:
        return None
    found = _CANONICAL[rule](node.inputs, options, specs, output)
    if found is None:
        return None
    operator, inputs, options = found
    known = dict(zip(map(id, node.inputs), specs, strict=True))
    step = OPERATORS[operator](inputs, options, [known.get(id(x)) for x in inputs], None)
    if step is None or step.outputs[0][:2] != output[:2]:
        return None
    return found


def _is_float(spec):
    return spec is not None and spec.dtype.type in _checks.FLOATS


def _are_constant(*inputs):
    return all(x is None or isinstance(x, np.ndarray) for x in inputs)


def _conv(operator):
    def canonical(inputs, options, specs, output):
        x, w, b = inputs
        if specs[0] is None or not _are_constant(w, b):
            return None
        geometry, algorithm = options["options"], options["algorithm"]
        return operator, (x, w, b, None), {
            "geometry": geometry, "algorithm": algorithm, "activation": NONE
        }  # fmt: skip

    return canonical


def _linear(inputs, options, specs, output):
    x, w, b = inputs
    if specs[0] is None or not _are_constant(w, b) or len(specs[0].shape) != 2:
        return None
    return "linear", (x, np.ascontiguousarray(w), b, None), {"activation": NONE}


def _matmul(inputs, options, specs, output):
    """A product of rows with a constant matrix."""
    x, w = inputs
    if not _is_float(specs[0]) or not _are_constant(w) or w.ndim != 2:
        return None
    if len(specs[0].shape) != 2:
        return None
    return "linear", (x, np.ascontiguousarray(w.T), None, None), {"activation": NONE}


def _norm(inputs, options, specs, output):
    x, w, b, residual = inputs
    if specs[0] is None or options["training"] or not _are_constant(w, b):
        return None
    mean, var = options["running"]
    scale = 1 / np.sqrt(var.astype(np.float64) + options["eps"])
    scale = scale if w is None else scale * w
    shift = np.zeros(mean.shape) if b is None else b.astype(np.float64)
    constants = mean.astype(np.float64), scale, shift
    return "norm", (x, *constants, residual), {"activation": options["activation"]}


def _affine(x, scale, shift, dtype):
    """x scale + shift, as the norm that does it, or None for constants it would not hold."""
    constants = np.broadcast_arrays(*(np.asarray(c, np.float64) for c in (0.0, scale, shift)))
    if np.abs(constants).max(initial=0) <= np.finfo(dtype).max:
        return "norm", (x, *map(np.array, constants), None), {"activation": NONE}
    return None


def _per_channel(c, spec, output):
    """A constant operand as one number or one for each channel of a value, or None."""
    if spec is None or not _is_float(spec) or spec[:2] != output[:2] or isinstance(c, Value):
        return None
    ndim, c = len(spec.shape), np.asarray(c)
    if not 2 <= ndim <= 5 or c.dtype.kind not in "biuf" or c.ndim > ndim:
        return None
    if c.size == 1:
        return c.reshape(())
    shape = (1,) * (ndim - c.ndim) + c.shape
    if shape != (1, spec.shape[1], *[1] * (ndim - 2)):
        return None
    return c.reshape(-1)


# (scale, shift) of arithmetic with a constant c on the right, and on the left.
_AFFINE = {
    "add": (lambda c: (1, c), lambda c: (1, c)),
    "subtract": (lambda c: (1, -c), lambda c: (-1, c)),
    "multiply": (lambda c: (c, 0), lambda c: (c, 0)),
    "divide": (lambda c: (1 / c, 0), None),
}


def _arithmetic(function):
    def canonical(inputs, options, specs, output):
        a, b = inputs
        if function == "add" and specs[0] is not None and specs[1] is not None:
            if not (_is_float(specs[0]) and specs[0][:2] == specs[1][:2]):
                return _ufunc(function, inputs)
            return "add", inputs, {"activation": NONE}
        factors = _AFFINE[function]
        for x, c, spec, of in ((a, b, specs[0], factors[0]), (b, a, specs[1], factors[1])):
            constant = _per_channel(c, spec, output)
            if constant is not None and of is not None:
                with np.errstate(divide="ignore"):
                    scale, shift = of(constant.astype(np.float64))
                found = _affine(x, scale, shift, output.dtype)
                return _ufunc(function, inputs) if found is None else found
        return _ufunc(function, inputs)

    return canonical


def _ufunc(function, inputs):
    return "arithmetic", inputs, {"function": function, "activation": NONE}


def _mean(inputs, options, specs, output):
    """Over all places of an image."""
    x, ndim = specs[0], len(specs[0].shape)
    if not _is_float(x) or sorted(options["axes"]) != [*range(2, ndim)]:
        return None
    return "adaptive_avg_pool", inputs, {
        "n": ndim - 2, "output_size": 1, "squeeze": not options["keepdim"]
    }  # fmt: skip


def _as_rule(operator, rule):
    def canonical(inputs, options, specs, output):
        if specs[0] is None or not _is_basic(options.get("index", ())):
            return None
        return operator, inputs, {"rule": rule, "options": options}

    return canonical


def _clip(inputs, options, specs, output):
    """Between two numbers; from 0 on it is a rectifier."""
    x, *bounds = inputs
    ends = [
        default if bound is None else _number(bound, spec)
        for bound, spec, default in zip(bounds, specs[1:], (-math.inf, math.inf), strict=True)
    ]
    if not _is_float(specs[0]) or None in ends or specs[0][:2] != output[:2]:
        return None
    low, high = ends
    if high > 0 and low in (0, -math.inf):
        slope = 0.0 if low == 0 else 1.0
        return "rectify", (x,), {"activation": Activation(slope, high)}
    return "clip", (x,), {"low": low, "high": high}


def _prelu(inputs, options, specs, output):
    if specs[0] is None or not _are_constant(inputs[1]):
        return None
    return "prelu", inputs, {}


def _number(x, spec):
    """A constant of one value, known ahead, as a float; or None."""
    x = spec.value if spec is not None else x
    return None if x is None or np.size(x) != 1 else float(np.asarray(x).item())


def _ufunc_of(inputs, options, specs, output):
    return _ufunc(options["function"], inputs) if options["function"] in UFUNCS else None


def _reduce(inputs, options, specs, output):
    x, axes = inputs
    axes = [] if axes is None else axes if specs[1] is None else specs[1].value
    if not _is_float(specs[0]) or axes is None:
        return None
    ndim = len(specs[0].shape)
    axes = as_axes(None if inputs[1] is None else axes, ndim)
    found = {"axes": axes, "keepdim": options["keepdim"]}
    if options["function"] == "mean":
        pooled = _mean((x,), found, specs, output)
        if pooled is not None:
            return pooled
    if options["function"] in REDUCTIONS:
        return "reduce", (x,), {"function": options["function"], **found}
    return None


def _pad(inputs, options, specs, output):
    if options["mode"] != "constant":
        return None
    return "pad", inputs, {"pairs": options["pairs"], "fill": options["fill"]}


def _pad_arrays(inputs, options, specs, output):
    x, pads, value, axes = inputs
    fill = _number(value, specs[2])
    if options["mode"] != "constant" or specs[0] is None or fill is None:
        return None
    if _are_constant(pads, axes):
        return "pad", (x,), {"pairs": pairs_of(pads, axes, len(output.shape)), "fill": fill}
    return "pad", (x, pads, axes), {"fill": fill}


def _same(operator, **more):
    return lambda inputs, options, specs, output: (operator, inputs, {**more, **options})


_CANONICAL = {
    "autograd.ops._add": _arithmetic("add"),
    "autograd.ops._astype": _same("cast"),
    "autograd.ops._concatenate": _same("concatenate"),
    "autograd.ops._divide": _arithmetic("divide"),
    "autograd.ops._matmul": _matmul,
    "autograd.ops._mean": lambda inputs, options, specs, output: (
        _mean(inputs, options, specs, output) or ("reduce", inputs, {"function": "mean", **options})
    ),
    "autograd.ops._multiply": _arithmetic("multiply"),
    "autograd.ops._subtract": _arithmetic("subtract"),
    "autograd.ops._sum": _same("reduce", function="sum"),
    "autograd.pointwise._binary": _ufunc_of,
    "autograd.pointwise._clip": _clip,
    "autograd.pointwise._unary": _ufunc_of,
    "autograd.pointwise._where": _same("where"),
    "autograd.reductions._reduce": _reduce,
    "functional.activation._log_softmax_rule": _same("softmax", logs=True),
    "functional.activation._pointwise_rule": _same("of_value"),
    "functional.activation._prelu_rule": _prelu,
    "functional.activation._rectify_rule": _same("rectify"),
    "functional.activation._softmax_rule": _same("softmax", logs=False),
    "functional.conv._conv_rule": _conv("conv"),
    "functional.conv._conv_transpose_rule": _conv("conv_transpose"),
    "functional.linear._linear_rule": _linear,
    "functional.norm._batch_norm_rule": _norm,
    "functional.pad._pad_arrays": _pad_arrays,
    "functional.pad._pad_rule": _pad,
    "functional.pool._adaptive_avg_rule": _same("adaptive_avg_pool"),
    "functional.pool._adaptive_max_rule": _same("adaptive_max_pool", floor=-math.inf),
    "functional.pool._avg_rule": _same("avg_pool"),
    "functional.pool._max_rule": _same("max_pool", floor=-math.inf),
    **{rule: _as_rule("view", rule) for rule in VIEWS},
    **{rule: _as_rule("resample", rule) for rule in RESIZES},
    **{
        f"autograd.ops._{name}": lambda inputs, options, specs, output, name=name: _ufunc(
            name, inputs
        )
        for name in ("absolute", "exp", "log", "negative", "power", "sqrt")
    },
}
