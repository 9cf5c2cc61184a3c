"""Shapes and arrangements: what moves values, or makes them of nothing."""

import math

import numpy as np

from fastconv import _checks
from fastconv.autograd import arrays, ops, reductions
from fastconv.autograd.engine import apply
from fastconv.functional.pad import _pad_arrays
from fastconv.onnx.errors import bounded
from fastconv.onnx.operators._shared import ints, known, same_dtype
from fastconv.onnx.registry import operator
from fastconv.onnx.tensors import dtype_of

__all__ = []


@operator("Constant")
def constant(
    *,
    value: np.ndarray = None,
    value_float: float | None = None,
    value_floats: tuple | None = None,
    value_int: int | None = None,
    value_ints: tuple | None = None,
):
    given = [
        (value, None),
        (value_float, np.float32),
        (value_floats, np.float32),
        (value_int, np.int64),
        (value_ints, np.int64),
    ]
    given = [(v, dtype) for v, dtype in given if v is not None]
    if len(given) != 1:
        raise ValueError(f"Constant must have one value, got {len(given)}")
    return np.asarray(*given[0])


@operator("Shape")
def shape(x, *, start: int | None = None, end: int | None = None):
    y = apply(arrays._shape, x)
    if start is None and end is None:
        return y
    return apply(arrays._slice, y, ints([start or 0]), ints([x.ndim if end is None else end]))


@operator("Size")
def size(x):
    sizes = apply(arrays._shape, x)
    return apply(reductions._reduce, sizes, None, function="prod", keepdim=False)


@operator("Reshape")
def reshape(x, shape, *, allowzero: int = 0):
    return apply(arrays._view, x, shape, zero_keeps=not allowzero)


@operator("Flatten")
def flatten(x, *, axis: int = 1):
    if axis == 1 and x.ndim > 1:
        return apply(ops._flatten, x, first=1, last=x.ndim - 1)
    return apply(arrays._matrix, x, axis=axis)


@operator("Squeeze")
def squeeze_1(x, *, axes: tuple | None = None):
    return apply(arrays._squeeze, x, ints(axes))


@operator("Squeeze", since=13)
def squeeze(x, axes=None):
    return apply(arrays._squeeze, x, axes)


@operator("Unsqueeze")
def unsqueeze_1(x, *, axes: tuple):
    return apply(arrays._unsqueeze, x, ints(axes))


@operator("Unsqueeze", since=13)
def unsqueeze(x, axes):
    return apply(arrays._unsqueeze, x, axes)


@operator("Transpose")
def transpose(x, *, perm: tuple | None = None):
    axes = tuple(range(x.ndim))[::-1] if perm is None else perm
    if sorted(a % max(x.ndim, 1) for a in axes) != list(range(x.ndim)):
        raise ValueError(f"perm must name each of {x.ndim} axes once, got {axes}")
    return apply(ops._permute, x, axes=tuple(a % x.ndim for a in axes))


@operator("Concat")
def concat(*tensors, axis: int):
    if len({x.dtype for x in tensors}) != 1:
        raise TypeError(f"inputs must have one dtype, got {[str(x.dtype) for x in tensors]}")
    bounded([sum(x.size for x in tensors)], tensors[0].dtype)
    sizes = tensors[0].shape
    axis = axis % len(sizes) if -len(sizes) <= axis < len(sizes) else axis
    return apply(ops._concatenate, *tensors, dim=axis)


def _split(x, sizes, axis, count):
    if sizes is not None:
        if len(sizes.shape) != 1 or len(known(sizes)) != count:
            raise ValueError(f"split must have {count} sizes, got shape {sizes.shape}")
        return tuple(apply(arrays._part, x, sizes, axis=axis, part=i) for i in range(count))
    return tuple(apply(arrays._chunk, x, axis=axis, part=i, parts=count) for i in range(count))


@operator("Split")
def split_2(x, *, outputs: int, axis: int = 0, split: tuple | None = None):
    return _split(x, ints(split), axis, outputs)


@operator("Split", since=13)
def split(x, sizes=None, *, outputs: int, axis: int = 0, num_outputs: int | None = None):
    if num_outputs not in (None, outputs):
        raise ValueError(f"num_outputs is {num_outputs}, the node has {outputs} outputs")
    return _split(x, sizes, axis, outputs)


@operator("Slice")
def slice_1(x, *, starts: tuple, ends: tuple, axes: tuple | None = None):
    return apply(arrays._slice, x, ints(starts), ints(ends), ints(axes))


@operator("Slice", since=10)
def slice_(x, starts, ends, axes=None, steps=None):
    return apply(arrays._slice, x, starts, ends, axes, steps)


@operator("Expand", since=8)
def expand(x, shape):
    sizes = arrays.as_ints("shape", known(shape))
    bounded(np.broadcast_shapes(x.shape, tuple(max(n, 0) for n in sizes)), x.dtype)
    return apply(arrays._expand, x, shape)


@operator("Tile")
def tile(x, repeats):
    counts = arrays.as_ints("repeats", known(repeats))
    bounded([n * m for n, m in zip(x.shape, counts, strict=False)], x.dtype)
    return apply(arrays._tile, x, repeats)


@operator("DepthToSpace")
def depth_to_space(x, *, blocksize: int, mode: str = "DCR"):
    return apply(arrays._depth_to_space, x, block=blocksize, depth_first=_depth_first(mode))


@operator("SpaceToDepth")
def space_to_depth(x, *, blocksize: int, mode: str = "DCR"):
    return apply(arrays._space_to_depth, x, block=blocksize, depth_first=_depth_first(mode))


def _depth_first(mode):
    return _checks.one_of("mode", mode, ("DCR", "CRD")) == "DCR"


# Padding ------------------------------------------------------------------------------------------


@operator("Pad")
def pad_2(x, *, pads: tuple, mode: str = "constant", value: float = 0.0):
    return pad(x, ints(pads), np.asarray(value, x.dtype), mode=mode)


@operator("Pad", since=11)
def pad(x, pads, value=None, axes=None, *, mode: str = "constant"):
    sizes = arrays.as_ints("pads", known(pads))
    places = reductions.as_axes(None if axes is None else known(axes), x.ndim)
    if len(sizes) != 2 * len(places):
        raise ValueError(f"pads must have two sizes for each of {len(places)} axes, got {sizes}")
    padded = list(x.shape)
    for i, axis in enumerate(places):
        padded[axis] += max(sizes[i], 0) + max(sizes[i + len(places)], 0)
    bounded(padded, x.dtype)
    value = np.zeros((), x.dtype) if value is None else value
    same_dtype(x, value)
    return apply(_pad_arrays, x, pads, value, axes, mode=mode)


# New arrays ---------------------------------------------------------------------------------------


@operator("ConstantOfShape", since=9)
def constant_of_shape(shape, *, value: np.ndarray = None):
    value = np.zeros(1, np.float32) if value is None else value
    bounded(arrays.as_ints("shape", known(shape)), value.dtype)
    return apply(arrays._full, shape, value.reshape(()))


@operator("Range", since=11)
def range_(start, limit, delta):
    same_dtype(start, limit, delta)
    first, last, step = (known(a).item() for a in (start, limit, delta))
    if step and math.isfinite(last - first):
        bounded([max(int((last - first) / step) + 1, 0)], np.float64)
    return apply(arrays._range, start, limit, delta)


@operator("EyeLike", since=9)
def eye_like(x, *, dtype: int | None = None, k: int = 0):
    dtype = x.dtype if dtype is None else dtype_of(dtype, "attribute 'dtype'")
    return apply(arrays._eye, x, k=k, dtype=dtype)


@operator("OneHot", since=9)
def one_hot(indices, depth, values, *, axis: int = -1):
    if values.shape != (2,) or depth.size != 1:
        raise ValueError(f"values must be two and depth one, got {values.shape}, {depth.shape}")
    bounded((*indices.shape, max(int(known(depth).item()), 0)), values.dtype)
    return apply(arrays._one_hot, indices, depth, values, axis=axis)


@operator("Trilu", since=14)
def trilu(x, k=None, *, upper: int = 1):
    return apply(arrays._triangle, x, k, upper=bool(upper))


@operator("NonZero", since=9)
def nonzero(x):
    return apply(arrays._nonzero, x)


# Selections ---------------------------------------------------------------------------------------


@operator("Gather")
def gather(x, indices, *, axis: int = 0):
    if x.ndim:
        axis = axis % x.ndim if -x.ndim <= axis < x.ndim else axis
        bounded((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]), x.dtype)
    return apply(arrays._gather, x, indices, axis=axis)


@operator("GatherElements", since=11)
def gather_elements(x, indices, *, axis: int = 0):
    return apply(arrays._gather_elements, x, indices, axis=axis)


@operator("GatherND", since=11)
def gather_nd(x, indices, *, batch_dims: int = 0):
    if indices.ndim:
        rest = x.shape[batch_dims + indices.shape[-1] :]
        bounded((*indices.shape[:-1], *rest), x.dtype)
    return apply(arrays._gather_nd, x, indices, batch=batch_dims)


@operator("Scatter", "ScatterElements")
def scatter_elements(x, indices, updates, *, axis: int = 0, reduction: str = "none"):
    return apply(arrays._scatter_elements, x, indices, updates, axis=axis, reduction=reduction)


@operator("ScatterND", since=11)
def scatter_nd(x, indices, updates, *, reduction: str = "none"):
    return apply(arrays._scatter_nd, x, indices, updates, reduction=reduction)


@operator("Compress", since=9)
def compress(x, condition, *, axis: int | None = None):
    return apply(arrays._compress, x, condition, axis=axis)
