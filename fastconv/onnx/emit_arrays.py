"""What the rules of array arithmetic and shapes become in ONNX; see :mod:`.emit_layers`."""

import numpy as np

from fastconv.onnx.builder import LARGEST
from fastconv.onnx.sizes import Size

__all__ = ["EMITTERS", "reshaped"]


def _of_one(operator):
    return lambda g, x: g.add(operator, x)


def _of_two(operator):
    """Both operands in the result's dtype, as NumPy has them."""

    def emitter(g, a, b):
        dtype = g.dtype(g.result)
        return g.add(operator, g.cast(a, dtype), g.cast(b, dtype))

    return emitter


def _sum(g, x, *, axes, keepdim):
    x = g.cast(x, g.dtype(g.result))
    return g.reduce("ReduceSum", x, axes, keepdim) if axes else x


def reshaped(g, x, before):
    """The value, whose first axes have the sizes `before`, in the result's shape."""
    after = g.shape(g.result)
    if 0 in after:
        return g.add("Reshape", x, g.numbers(after), allowzero=1)
    sizes = [
        0 if isinstance(n, Size) and i < len(before) and before[i] == n else n
        for i, n in enumerate(after)
    ]
    free = [i for i, n in enumerate(sizes) if isinstance(n, Size)]
    if len(free) == 1:
        sizes[free[0]] = -1
    return g.add("Reshape", x, g.numbers(sizes))


def _flatten(g, x, *, first, last):
    if first == 1 and 2 <= len(g.shape(x)) == last + 1:
        return g.add("Flatten", x, axis=1)
    return reshaped(g, x, g.shape(x))


def _concatenate(g, *arrays, dim):
    return g.add("Concat", *(g.cast(x, g.dtype(g.result)) for x in arrays), axis=dim)


def _index(g, x, *, index):
    """Slices of all axes at once, then integers and an array, then new axes."""
    parts = [np.nonzero(p)[0] if _is_mask(p) else p for p in _tuple(index)]
    parts = [np.asarray(p) if isinstance(p, (list, np.ndarray)) else p for p in parts]
    arrays = [p for p in parts if isinstance(p, np.ndarray)]
    several = len(arrays) > 1 or any(p.dtype.kind not in "iu" for p in arrays)
    if several or (arrays and any(_is_number(p) for p in parts)):
        raise ValueError("an index of several arrays, or of arrays and integers, is not supported")
    rest = len(g.shape(x)) - sum(p is not None and p is not Ellipsis for p in parts)
    place = next((i for i, p in enumerate(parts) if p is Ellipsis), len(parts))
    parts[place : place + 1] = [slice(None)] * rest
    taken = list(enumerate(p for p in parts if p is not None))
    slices = [(axis, p) for axis, p in taken if isinstance(p, slice) and p != slice(None)]
    if slices:
        starts, ends, steps = zip(*(_bounds(p) for _, p in slices), strict=True)
        x = g.slice(x, starts, ends, [axis for axis, _ in slices], steps)
    for axis, p in reversed(taken):  # the last first, as an integer takes its axis away
        if not isinstance(p, slice):
            x = g.add("Gather", x, _places(g, p), axis=axis)
    new, axis = [], 0
    for p in parts:
        if p is None:
            new.append(axis)
        axis += 0 if _is_number(p) else getattr(p, "ndim", 1)
    return g.unsqueeze(x, *new) if new else x


def _tuple(index):
    return list(index) if isinstance(index, tuple) else [index]


def _is_mask(p):
    return isinstance(p, (list, np.ndarray)) and np.asarray(p).dtype == bool and np.ndim(p) == 1


def _is_number(p):
    return isinstance(p, (int, np.integer, Size))


def _places(g, p):
    """A number, or an array of them, of int64."""
    return g.cast(p, np.int64)


def _bounds(p):
    """(start, end, step) of a slice."""
    step = 1 if p.step is None else int(p.step)
    first, last = (0, LARGEST) if step > 0 else (LARGEST, -LARGEST)
    return first if p.start is None else p.start, last if p.stop is None else p.stop, step


def _pad(g, x, *, pairs, mode, fill):
    dtype = g.dtype(g.result)
    if not any(map(any, pairs)):
        return x
    if mode == "constant":
        return g.pad(x, pairs, fill, dtype)
    if mode == "circular":
        for axis, (before, after) in enumerate(pairs):
            x = _wrapped(g, x, axis, before, after)
        return x
    before, after = zip(*pairs, strict=True)
    operator_mode = {"reflect": "reflect", "replicate": "edge"}[mode]
    return g.add("Pad", x, g.numbers((*before, *after)), mode=operator_mode)


def _wrapped(g, x, axis, before, after):
    """The end of an axis before it, and its start after it."""
    parts = [x]
    if before:
        parts.insert(0, g.slice(x, [-before], [LARGEST], [axis]))
    if after:
        parts.append(g.slice(x, [0], [after], [axis]))
    return g.add("Concat", *parts, axis=axis) if len(parts) > 1 else x


EMITTERS = {
    "autograd.ops._absolute": _of_one("Abs"),
    "autograd.ops._add": _of_two("Add"),
    "autograd.ops._astype": lambda g, x, *, dtype: g.cast(x, dtype),
    "autograd.ops._concatenate": _concatenate,
    "autograd.ops._divide": _of_two("Div"),
    "autograd.ops._exp": _of_one("Exp"),
    "autograd.ops._flatten": _flatten,
    "autograd.ops._index": _index,
    "autograd.ops._log": _of_one("Log"),
    "autograd.ops._mean": lambda g, x, *, axes, keepdim: g.reduce("ReduceMean", x, axes, keepdim),
    "autograd.ops._matmul": lambda g, a, b: g.add("MatMul", a, b),
    "autograd.ops._multiply": _of_two("Mul"),
    "autograd.ops._negative": _of_one("Neg"),
    "autograd.ops._permute": lambda g, x, *, axes: g.add("Transpose", x, perm=axes),
    "autograd.ops._power": _of_two("Pow"),
    "autograd.ops._reshape": lambda g, x, *, shape: reshaped(g, x, g.shape(x)),
    "autograd.ops._sqrt": _of_one("Sqrt"),
    "autograd.ops._subtract": _of_two("Sub"),
    "autograd.ops._sum": _sum,
    "autograd.ops._unflatten": lambda g, x, **_: reshaped(g, x, g.shape(x)),
    "functional.pad._pad_rule": _pad,
}
