"""Which operators of plans the rules of a trace are."""

import math

import numpy as np

from fastconv import _checks
from fastconv._activation import NONE
from fastconv.compiler.operators import OPERATORS
from fastconv.compiler.pointwise import UFUNCS
from fastconv.compiler.step import Value

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


def _conv(inputs, options, specs, output):
    x, w, b = inputs
    if specs[0] is None or not _are_constant(w, b):
        return None
    geometry, algorithm = options["options"], options["algorithm"]
    return "conv", (x, w, b, None), {
        "geometry": geometry, "algorithm": algorithm, "activation": NONE
    }  # fmt: skip


def _linear(inputs, options, specs, output):
    x, w, b = inputs
    if specs[0] is None or not _are_constant(w, b):
        return None
    return "linear", (x, w, b, None), {"activation": NONE}


def _matmul(inputs, options, specs, output):
    """A product of rows with a constant matrix."""
    x, w = inputs
    if not _is_float(specs[0]) or not _are_constant(w) or w.ndim != 2:
        return None
    return "linear", (x, w.T, None, None), {"activation": NONE}


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


def _index(inputs, options, specs, output):
    parts = options["index"] if isinstance(options["index"], tuple) else (options["index"],)
    basic = (int, slice, np.integer, type(None), type(Ellipsis))
    if any(not isinstance(part, basic) or isinstance(part, bool) for part in parts):
        return None
    return "index", inputs, options


def _pad(inputs, options, specs, output):
    if options["mode"] != "constant":
        return None
    return "pad", inputs, {"pairs": options["pairs"], "fill": options["fill"]}


def _same(operator, **more):
    return lambda inputs, options, specs, output: (operator, inputs, {**more, **options})


_CANONICAL = {
    "autograd.ops._add": _arithmetic("add"),
    "autograd.ops._concatenate": _same("concatenate"),
    "autograd.ops._divide": _arithmetic("divide"),
    "autograd.ops._flatten": _same("flatten"),
    "autograd.ops._index": _index,
    "autograd.ops._matmul": _matmul,
    "autograd.ops._mean": _mean,
    "autograd.ops._multiply": _arithmetic("multiply"),
    "autograd.ops._permute": _same("permute"),
    "autograd.ops._reshape": _same("reshape"),
    "autograd.ops._subtract": _arithmetic("subtract"),
    "functional.activation._log_softmax_rule": _same("softmax", logs=True),
    "functional.activation._rectify_rule": _same("rectify"),
    "functional.activation._softmax_rule": _same("softmax", logs=False),
    "functional.conv._conv_rule": _conv,
    "functional.linear._linear_rule": _linear,
    "functional.norm._batch_norm_rule": _norm,
    "functional.pad._pad_rule": _pad,
    "functional.pool._adaptive_avg_rule": _same("adaptive_avg_pool"),
    "functional.pool._adaptive_max_rule": _same("adaptive_max_pool", floor=-math.inf),
    "functional.pool._avg_rule": _same("avg_pool"),
    "functional.pool._max_rule": _same("max_pool", floor=-math.inf),
    **{
        f"autograd.ops._{name}": lambda inputs, options, specs, output, name=name: _ufunc(
            name, inputs
        )
        for name in UFUNCS
        if name not in ("add", "divide", "multiply", "subtract")
    },
}
