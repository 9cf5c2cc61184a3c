"""Along axes: reductions, largest and smallest, running sums, matrix products."""

import numpy as np

from fastconv import functional as F
from fastconv.autograd import arrays, ops, reductions
from fastconv.autograd.engine import apply
from fastconv.onnx.errors import bounded
from fastconv.onnx.operators._shared import FLOATS, broadcast, cast, ints, same_dtype
from fastconv.onnx.registry import operator

__all__ = []

# By operator: the opset from which on the axes are an input, and the reduction.
_REDUCTIONS = {
    "ReduceL1": (18, "l1"),
    "ReduceL2": (18, "l2"),
    "ReduceLogSum": (18, "log_sum"),
    "ReduceLogSumExp": (18, "log_sum_exp"),
    "ReduceMax": (18, "max"),
    "ReduceMean": (18, "mean"),
    "ReduceMin": (18, "min"),
    "ReduceProd": (18, "prod"),
    "ReduceSum": (13, "sum"),
    "ReduceSumSquare": (18, "sum_square"),
}


def _by_attribute(function):
    def run(x, *, axes: tuple | None = None, keepdims: int = 1):
        return apply(reductions._reduce, x, ints(axes), function=function, keepdim=bool(keepdims))

    return run


def _by_input(function):
    def run(x, axes=None, *, keepdims: int = 1, noop_with_empty_axes: int = 0):
        if axes is None or not axes.size:
            axes = np.empty(0, np.int64) if noop_with_empty_axes else None
        return apply(reductions._reduce, x, axes, function=function, keepdim=bool(keepdims))

    return run


for _name, (_since, _function) in _REDUCTIONS.items():
    operator(_name)(_by_attribute(_function))
    operator(_name, since=_since)(_by_input(_function))


def _arg(function):
    def run(x, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0):
        return apply(
            reductions._arg,
            x,
            function=function,
            axis=axis,
            keepdim=bool(keepdims),
            last=bool(select_last_index),
        )

    return run


operator("ArgMax")(_arg("max"))
operator("ArgMin")(_arg("min"))


def _top(x, k, axis, largest):
    places = apply(reductions._top, x, k, axis=axis, largest=bool(largest))
    return apply(arrays._gather_elements, x, places, axis=axis), places


@operator("TopK")
def top_1(x, *, k: int, axis: int = -1):
    return _top(x, np.array([k]), axis, True)


@operator("TopK", since=10)
def top(x, k, *, axis: int = -1, largest: int = 1, sorted: int = 1):
    return _top(x, k, axis, largest)


@operator("CumSum", since=11)
def cumulative_sum(x, axis, *, exclusive: int = 0, reverse: int = 0):
    options = {"exclusive": bool(exclusive), "reverse": bool(reverse)}
    return apply(reductions._cumulative_sum, x, axis, **options)


@operator("CumProd", since=26)
def cumulative_product(x, axis, *, exclusive: int = 0, reverse: int = 0):
    options = {"exclusive": bool(exclusive), "reverse": bool(reverse)}
    return apply(reductions._cumulative_product, x, axis, **options)


# Products -----------------------------------------------------------------------------------------


@operator("MatMul")
def matmul(a, b):
    if not a.ndim or not b.ndim:
        raise ValueError(f"inputs must have axes, got shapes {a.shape} and {b.shape}")
    if a.dtype != b.dtype:
        raise TypeError(f"inputs must have one dtype, got {a.dtype} and {b.dtype}")
    stacks = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    bounded((*stacks, *a.shape[-2:-1], *(b.shape[-1:] if b.ndim > 1 else ())), a.dtype)
    if a.shape[-1] != b.shape[-2 if b.ndim > 1 else 0]:
        raise ValueError(f"inner sizes must be equal, got shapes {a.shape} and {b.shape}")
    return apply(ops._matmul, a, b)


@operator("Gemm", widen=True)
def gemm(
    a, b, c=None, *,
    alpha: float = 1.0, beta: float = 1.0, broadcast: int = 0, transA: int = 0, transB: int = 0
):  # fmt: skip
    """alpha A B + beta C."""
    if a.ndim != 2 or b.ndim != 2:
        raise ValueError(f"A and B must be matrices, got shapes {a.shape} and {b.shape}")
    a = apply(ops._permute, a, axes=(1, 0)) if transA else a
    if a.dtype.type not in FLOATS:
        return _gemm_of_integers(a, b, c, alpha, beta, transB)
    b = b if transB else apply(ops._permute, b, axes=(1, 0))
    if alpha != 1:
        a = apply(ops._multiply, a, np.asarray(alpha, a.dtype))
    if c is not None and beta != 1:
        c = apply(ops._multiply, c, np.asarray(beta, c.dtype))
    bounded((len(a), len(b)), a.dtype)
    if c is None or c.shape == b.shape[:1]:
        return F.linear(a, b, c)
    y = F.linear(a, b)
    if np.broadcast_shapes(c.shape, y.shape) != y.shape:
        raise ValueError(f"C must broadcast to {y.shape}, got shape {c.shape}")
    return apply(ops._add, *same_dtype(y, c))


def _gemm_of_integers(a, b, c, alpha, beta, transposed):
    y = matmul(a, apply(ops._permute, b, axes=(1, 0)) if transposed else b)
    y = apply(ops._multiply, y, np.asarray(alpha, np.float64))
    if c is not None:
        broadcast(y, c)
        y = apply(ops._add, y, apply(ops._multiply, c, np.asarray(beta, np.float64)))
    return cast(y, a.dtype)


@operator("Einsum", since=12)
def einsum(*tensors, equation: str):
    sizes = {}
    sources, _, target = equation.replace(" ", "").partition("->")
    for term, x in zip(sources.split(","), tensors, strict=False):
        sizes.update(zip(term.replace("...", ""), x.shape, strict=False))
    bounded([sizes.get(c, 1) for c in target.replace("...", "")], tensors[0].dtype)
    return apply(reductions._einsum, *tensors, equation=equation)


@operator("Det", since=11)
def determinant(x):
    return apply(reductions._determinant, x)
