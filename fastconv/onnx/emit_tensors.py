"""What the rules of ONNX's own tensor operators become; see :mod:`.emit_layers`.

Most are the operator itself: their arguments were chosen after it.
"""

import numpy as np

from fastconv.compiler.graph import Value
from fastconv.onnx.sizes import Size

__all__ = ["BINARY", "EMITTERS", "REDUCTIONS", "UNARY", "space_to_depth"]


def _same(operator, **renamed):
    """The operator with the rule's inputs; the rule's options are attributes of other names."""

    def emitter(g, *inputs, **options):
        attributes = {renamed.get(name, name): value for name, value in options.items()}
        return g.add(operator, *inputs, **attributes)

    return emitter


# Value by value -----------------------------------------------------------------------------------

UNARY = {
    "acos": "Acos",
    "acosh": "Acosh",
    "asin": "Asin",
    "asinh": "Asinh",
    "atan": "Atan",
    "atanh": "Atanh",
    "bitwise_not": "BitwiseNot",
    "ceil": "Ceil",
    "cos": "Cos",
    "cosh": "Cosh",
    "erf": "Erf",
    "floor": "Floor",
    "isinf": "IsInf",
    "isnan": "IsNaN",
    "isneginf": ("IsInf", {"detect_positive": 0}),
    "isposinf": ("IsInf", {"detect_negative": 0}),
    "not": "Not",
    "reciprocal": "Reciprocal",
    "round": "Round",
    "sign": "Sign",
    "sin": "Sin",
    "sinh": "Sinh",
    "tan": "Tan",
}
BINARY = {
    "and": "And",
    "bitwise_and": "BitwiseAnd",
    "bitwise_or": "BitwiseOr",
    "bitwise_xor": "BitwiseXor",
    "divide_integers": "Div",
    "equal": "Equal",
    "fmod": ("Mod", {"fmod": 1}),
    "greater": "Greater",
    "greater_equal": "GreaterOrEqual",
    "less": "Less",
    "less_equal": "LessOrEqual",
    "maximum": "Max",
    "minimum": "Min",
    "mod": "Mod",
    "or": "Or",
    "shift_left": ("BitShift", {"direction": "LEFT"}),
    "shift_right": ("BitShift", {"direction": "RIGHT"}),
    "xor": "Xor",
}
_OF_BOOLEANS = ("and", "not", "or", "xor")


def _found(table, function):
    """(operator, attributes)."""
    if function not in table:
        raise ValueError(f"no ONNX operator is known for {function!r}")
    entry = table[function]
    return (entry, {}) if isinstance(entry, str) else entry


def _unary(g, x, *, function):
    operator, attributes = _found(UNARY, function)
    return g.add(operator, g.cast(x, bool) if function in _OF_BOOLEANS else x, **attributes)


def _binary(g, a, b, *, function):
    operator, attributes = _found(BINARY, function)
    dtype = np.dtype(bool) if function in _OF_BOOLEANS else _common(g, a, b)
    a, b = g.cast(a, dtype), g.cast(b, dtype)
    if function == "mod" and dtype.kind == "f":
        return _modulo(g, a, b, dtype)
    return g.add(operator, a, b, **attributes)


def _modulo(g, a, b, dtype):
    """The remainder with the divisor's sign, which Mod has for integers alone."""
    rest, zero = g.add("Mod", a, b, fmod=1), g.constant(0, dtype)
    other = g.add("Xor", g.add("Less", rest, zero), g.add("Less", b, zero))
    other = g.add("And", other, g.add("Not", g.add("Equal", rest, zero)))
    return g.add("Where", other, g.add("Add", rest, b), rest)


def _common(g, *operands):
    """The dtype in which NumPy sees operands together."""
    kinds = [x if isinstance(x, (int, float)) else g.dtype(x) for x in operands]
    return np.result_type(*(0 if isinstance(x, Size) else x for x in kinds))


def _where(g, condition, a, b):
    dtype = g.dtype(g.result)
    return g.add("Where", g.cast(condition, bool), g.cast(a, dtype), g.cast(b, dtype))


def _clip(g, x, low, high):
    dtype = g.dtype(g.result)
    x = g.cast(x, dtype)
    scalars = all(bound is None or g.shape(bound) == () for bound in (low, high))
    low, high = (None if bound is None else g.cast(bound, dtype) for bound in (low, high))
    if scalars:
        return g.add("Clip", x, low, high)
    x = x if low is None else g.add("Max", x, low)
    return x if high is None else g.add("Min", x, high)


# Shapes, selections, new arrays -------------------------------------------------------------------


def _depth_to_space(g, x, *, block, depth_first):
    return g.add("DepthToSpace", x, blocksize=block, mode="DCR" if depth_first else "CRD")


def space_to_depth(g, x, *, block, depth_first):
    """ONNX counts (block, block, C); the other order is found by a permutation of that."""
    y = g.add("SpaceToDepth", x, blocksize=block)
    if depth_first:
        return y
    order = np.arange(int(g.shape(g.result)[-3])).reshape(block * block, -1).T.ravel()
    return g.add("Gather", y, order, axis=1)


def _slice(g, x, *bounds):
    return g.add("Slice", x, *(None if b is None else g.cast(b, np.int64) for b in bounds))


def _part(g, x, sizes, *, axis, part):
    count = int(g.shape(sizes)[0])
    return g.once("Split", count, x, g.cast(sizes, np.int64), axis=axis)[part]


def _chunk(g, x, *, axis, part, parts):
    length = g.shape(x)[axis]
    if not isinstance(length, Size):
        size = -(-length // parts)
        sizes = [max(min(size, length - i * size), 0) for i in range(parts)]
        return g.once("Split", parts, x, g.numbers(sizes), axis=axis)[part]
    count = parts if g.opset >= 18 else None  # before, only equal parts
    return g.once("Split", parts, x, axis=axis, num_outputs=count)[part]


def _scalar(g, x, dtype=None):
    """A Value or array of one value without axes."""
    dtype = g.dtype(x) if dtype is None else np.dtype(dtype)
    if not isinstance(x, Value):
        return g.constant(np.reshape(x, ()), dtype)
    x, shape = g.cast(x, dtype), g.shape(x)
    return x if shape == () else g.add("Squeeze", x)


def _triangle(g, x, k, *, upper):
    return g.add("Trilu", x, None if k is None else _scalar(g, k, np.int64), upper=int(upper))


def _full(g, shape, value):
    return g.add("Expand", _scalar(g, value), g.cast(shape, np.int64))


def _range(g, start, limit, delta):
    return g.add("Range", *(_scalar(g, x, g.dtype(g.result)) for x in (start, limit, delta)))


def _one_hot(g, indices, depth, values, *, axis):
    return g.add("OneHot", indices, _scalar(g, depth), values, axis=axis)


def _eye(g, x, *, k, dtype):
    return g.add("EyeLike", x, k=k, dtype=g.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def _pad(g, x, pads, value, axes, *, mode):
    """Up to opset 17 the sizes are those of all axes."""
    if axes is not None and g.opset < 18:
        if isinstance(pads, Value) or isinstance(axes, Value):
            raise ValueError("pads of some axes are computed, which needs opset=18 or later")
        ndim, pads = len(g.shape(x)), np.ravel(pads)
        whole = np.zeros((2, ndim), np.int64)
        whole[:, np.ravel(axes) % ndim] = pads.reshape(2, -1)
        pads, axes = whole.ravel(), None
    if mode in ("circular", "wrap") and g.opset < 19:
        raise ValueError(f"mode={mode!r} needs opset=19 or later")
    mode = {"replicate": "edge", "circular": "wrap"}.get(mode, mode)
    axes = None if axes is None else g.cast(axes, np.int64)
    value = _scalar(g, value) if mode == "constant" else None
    return g.add("Pad", x, g.cast(pads, np.int64), value, axes, mode=mode)


def _bits(g, x, *, dtype):
    return g.add("BitCast", x, to=g.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


# Along axes ---------------------------------------------------------------------------------------

REDUCTIONS = {
    "l1": "ReduceL1",
    "l2": "ReduceL2",
    "log_sum": "ReduceLogSum",
    "log_sum_exp": "ReduceLogSumExp",
    "max": "ReduceMax",
    "mean": "ReduceMean",
    "min": "ReduceMin",
    "prod": "ReduceProd",
    "sum": "ReduceSum",
    "sum_square": "ReduceSumSquare",
}


def _reduce(g, x, axes, *, function, keepdim):
    operator, _ = _found(REDUCTIONS, function)
    if axes is None:
        return g.add(operator, x, keepdims=int(keepdim))
    if not isinstance(axes, Value):
        if not np.size(axes):
            return _over_nothing(x, function)
        return g.reduce(operator, x, np.ravel(axes).tolist(), keepdim)
    if g.opset < 18 and operator != "ReduceSum":
        raise ValueError(f"the axes of {operator} are computed, which needs opset=18 or later")
    return g.add(operator, x, g.cast(axes, np.int64), keepdims=int(keepdim))


def _over_nothing(x, function):
    """ONNX takes no axes for all."""
    if function not in ("max", "mean", "min", "prod", "sum"):
        raise ValueError(f"reduction {function!r} over no axes has no ONNX operator")
    return x


def _arg(g, x, *, function, axis, keepdim, last=False):
    operator = {"max": "ArgMax", "min": "ArgMin"}[function]
    keepdim, last = int(keepdim), int(last)
    return g.add(operator, x, axis=axis, keepdims=keepdim, select_last_index=last)


def _top(g, x, k, *, axis, largest):
    k = g.add("Reshape", _scalar(g, k, np.int64), np.array([1]))
    return g.add_several("TopK", 2, x, k, axis=axis, largest=int(largest))[1]


def _running(operator):
    def emitter(g, x, axis, *, exclusive, reverse):
        axis = _scalar(g, axis, np.int64)
        return g.add(operator, x, axis, exclusive=int(exclusive), reverse=int(reverse))

    return emitter


EMITTERS = {
    "autograd.arrays._chunk": _chunk,
    "autograd.arrays._compress": _same("Compress"),
    "autograd.arrays._depth_to_space": _depth_to_space,
    "autograd.arrays._expand": _same("Expand"),
    "autograd.arrays._eye": _eye,
    "autograd.arrays._full": _full,
    "autograd.arrays._gather": _same("Gather"),
    "autograd.arrays._gather_elements": _same("GatherElements"),
    "autograd.arrays._gather_nd": _same("GatherND", batch="batch_dims"),
    "autograd.arrays._matrix": _same("Flatten"),
    "autograd.arrays._nonzero": _same("NonZero"),
    "autograd.arrays._one_hot": _one_hot,
    "autograd.arrays._part": _part,
    "autograd.arrays._range": _range,
    "autograd.arrays._scatter_elements": _same("ScatterElements"),
    "autograd.arrays._scatter_nd": _same("ScatterND"),
    "autograd.arrays._shape": _same("Shape"),
    "autograd.arrays._slice": _slice,
    "autograd.arrays._space_to_depth": space_to_depth,
    "autograd.arrays._squeeze": _same("Squeeze"),
    "autograd.arrays._tile": _same("Tile"),
    "autograd.arrays._triangle": _triangle,
    "autograd.arrays._unsqueeze": _same("Unsqueeze"),
    "autograd.arrays._view": lambda g, x, shape, *, zero_keeps=True: g.add(
        "Reshape", x, shape, allowzero=None if zero_keeps else 1
    ),
    "autograd.pointwise._bits": _bits,
    "autograd.pointwise._binary": _binary,
    "autograd.pointwise._clip": _clip,
    "autograd.pointwise._unary": _unary,
    "autograd.pointwise._where": _where,
    "autograd.reductions._arg": _arg,
    "autograd.reductions._cumulative_product": _running("CumProd"),
    "autograd.reductions._cumulative_sum": _running("CumSum"),
    "autograd.reductions._determinant": _same("Det"),
    "autograd.reductions._einsum": _same("Einsum"),
    "autograd.reductions._reduce": _reduce,
    "autograd.reductions._top": _top,
    "functional.pad._pad_arrays": _pad,
}
