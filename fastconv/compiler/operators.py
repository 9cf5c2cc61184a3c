"""What a plan knows of operators: the step that carries each out.

An operator that is not here runs as it does without a plan, in memory of its own.
"""

import numpy as np

from fastconv.compiler import moves, pointwise, products, windows
from fastconv.compiler.step import Spec, Step, unread

__all__ = ["OF_SHAPES", "OPERATORS"]

# What these give follows from the shapes of their inputs.
OF_SHAPES = {"autograd.arrays._shape"}


def _product(a, b):
    """The shape of a product of matrices or stacks of them; None for vectors."""
    if min(len(a), len(b)) < 2:
        return None
    if a[-1] != b[-2]:
        raise ValueError(f"matmul of shapes {a} and {b}: the inner sizes must be equal")
    return *np.broadcast_shapes(a[:-2], b[:-2]), a[-2], b[-1]


# The shapes of results of their inputs' dtype, of rules that are dear to try.
SHAPES = {
    "autograd.ops._matmul": _product,
    "functional.linear._linear_rule": lambda x, w, b: (*x[:-1], w[0]),
    "functional.norm._group_norm_rule": lambda x, *others: x,
    "functional.norm._layer_norm_rule": lambda x, *others: x,
}


def _shape_of(name, arrays):
    """The shape of what a rule gives, where it is known without a trial."""
    alike = len({x.dtype for x in arrays if x is not None}) == 1
    return SHAPES[name](*map(np.shape, arrays)) if name in SHAPES and alike else None


def call(inputs, options, specs, fixed):
    """A rule as it is; what it gives is learnt by a trial on zeros, or on what is known ahead."""
    rule, given = options["function"], options["options"]
    name = options["rule"] or getattr(rule, "__name__", "an operator")
    needs = (False,) * len(inputs)
    ahead = options["rule"] in OF_SHAPES or all(s is None or s.value is not None for s in specs)
    trial = [x if s is None else _trial(s, ahead) for x, s in zip(inputs, specs, strict=True)]
    try:
        shape = None if ahead else _shape_of(options["rule"], trial)
        with np.errstate(all="ignore"):
            if shape is None:
                results = _results(rule(needs, *trial, **given))
            else:
                results = (unread(shape, trial[0].dtype),)
    except Exception as error:
        described = [(s.shape, str(s.dtype)) for s in specs if s is not None]
        raise ValueError(f"{name} cannot be planned for inputs of {described}: {error}") from error
    outputs = tuple(
        None if y is None else Spec(y.shape, y.dtype, y if ahead else None) for y in results
    )

    def bind(arrays, outputs, take):
        def run():
            for y, output in zip(_results(rule(needs, *arrays, **given)), outputs, strict=True):
                if output is None:
                    continue
                if y.shape != output.shape:
                    raise ValueError(
                        f"{name} gives shape {y.shape} where its plan has {output.shape}: "
                        "shapes that depend on values cannot be planned"
                    )
                output[...] = y

        return run

    return Step(outputs, bind, "call")


def _results(returned):
    """The result of a rule, and its extras; None for what is no array."""
    result, _, *extra = returned
    return np.asarray(result), *(y if isinstance(y, np.ndarray) else None for y in extra)


def _trial(spec, ahead):
    if spec.value is not None:
        return spec.value
    return unread(*spec[:2]) if ahead else np.zeros(spec.shape, spec.dtype)


# Each of (inputs, options, specs, fixed): specs are None for constants, `fixed` keeps the weights
# as kernels read them. None where the operator must run as a call.
OPERATORS = {
    "add": pointwise.add,
    "adaptive_avg_pool": windows.adaptive_avg_pool,
    "adaptive_max_pool": windows.adaptive_max_pool,
    "arithmetic": pointwise.arithmetic,
    "avg_pool": windows.avg_pool,
    "call": call,
    "cast": moves.cast,
    "clip": pointwise.clip,
    "concatenate": moves.concatenate,
    "constant": moves.constant,
    "conv": products.conv,
    "conv_transpose": products.conv_transpose,
    "linear": products.linear,
    "max_pool": windows.max_pool,
    "norm": pointwise.normalize,
    "of_value": pointwise.of_value,
    "pad": moves.pad,
    "prelu": pointwise.prelu,
    "rectify": pointwise.rectify,
    "reduce": pointwise.reduce,
    "resample": windows.resample,
    "softmax": pointwise.softmax,
    "view": moves.view,
    "views": moves.views,
    "where": moves.where,
}
