"""Shapes, selections and arrangements of arrays, as ONNX has them.

What an operator needs to know of shapes comes to its rule as an array, never as an option, for
in a graph such values are computed too.
"""

import math

import numpy as np

from fastconv import _checks
from fastconv.autograd.ops import _unbroadcast
from fastconv.autograd.reductions import as_axes

__all__ = []


def as_ints(name, array):
    """An array of whole numbers as a list."""
    array = np.asarray(array)
    if array.dtype.kind not in "iu" or array.ndim > 1:
        raise TypeError(
            f"{name} must be a vector of integers, got {array.dtype} of shape {array.shape}"
        )
    return array.ravel().tolist()


# Shapes -------------------------------------------------------------------------------------------


def _shape(needs, x):
    return np.array(x.shape, np.int64), lambda g: (None,)


def _view(needs, x, shape, *, zero_keeps=True):
    """-1 stands for the rest; 0 keeps the input's size there, if it does."""
    sizes = as_ints("shape", shape)
    for i, size in enumerate(sizes):
        if size == 0 and zero_keeps:
            if i >= x.ndim:
                raise ValueError(
                    f"shape has a 0 at {i}, where input of shape {x.shape} has no axis"
                )
            sizes[i] = x.shape[i]
        elif size < -1:
            raise ValueError(f"shape must not have sizes below -1, got {sizes}")
    before = x.shape
    return x.reshape(sizes), lambda g: (g.reshape(before), None)


def _matrix(needs, x, *, axis):
    """The axes before `axis` as one, and those from it on as one."""
    before = x.shape
    if axis != x.ndim:
        axis = _checks.axis("axis", axis, x.ndim)
    shape = math.prod(before[:axis]), math.prod(before[axis:])
    return x.reshape(shape), lambda g: (g.reshape(before),)


def _squeeze(needs, x, axes):
    if axes is None:
        axes = [i for i, n in enumerate(x.shape) if n == 1]
    before = x.shape
    return x.squeeze(as_axes(axes, x.ndim)), lambda g: (g.reshape(before), None)


def _unsqueeze(needs, x, axes):
    before, count = x.shape, len(as_ints("axes", axes))
    y = np.expand_dims(x, as_axes(axes, x.ndim + count))
    return y, lambda g: (g.reshape(before), None)


def _expand(needs, x, shape):
    """Broadcast with an array of `shape`."""
    shape = np.broadcast_shapes(x.shape, tuple(as_ints("shape", shape)))
    before = x.shape
    return np.broadcast_to(x, shape).copy(), lambda g: (_unbroadcast(g, before), None)


def _tile(needs, x, repeats):
    repeats = as_ints("repeats", repeats)
    if len(repeats) != x.ndim or min(repeats, default=0) < 0:
        raise ValueError(f"repeats must be a count for each of {x.ndim} axes, got {repeats}")
    before = x.shape

    def backward(g):
        pairs = [n for pair in zip(repeats, before, strict=True) for n in pair]
        return g.reshape(pairs).sum(axis=tuple(range(0, 2 * len(before), 2))), None

    return np.tile(x, repeats), backward


def _depth_to_space(needs, x, *, block, depth_first):
    """Channels become blocks; they count (block, block, C) if `depth_first`, else (C, ...)."""
    y = _blocks_out(x, block, depth_first)
    return y, lambda g: (_blocks_in(g, block, depth_first),)


def _space_to_depth(needs, x, *, block, depth_first):
    y = _blocks_in(x, block, depth_first)
    return y, lambda g: (_blocks_out(g, block, depth_first),)


def _blocks_out(x, b, depth_first):
    if x.ndim != 4 or b < 1 or x.shape[1] % (b * b):
        raise ValueError(f"input must be (N, C, H, W) with C a multiple of {b}^2, got {x.shape}")
    n, c, h, w = x.shape
    c //= b * b
    if depth_first:
        x = x.reshape(n, b, b, c, h, w).transpose(0, 3, 4, 1, 5, 2)
    else:
        x = x.reshape(n, c, b, b, h, w).transpose(0, 1, 4, 2, 5, 3)
    return x.reshape(n, c, h * b, w * b)


def _blocks_in(x, b, depth_first):
    if x.ndim != 4 or b < 1 or x.shape[2] % b or x.shape[3] % b:
        raise ValueError(f"input must be (N, C, H, W), H and W multiples of {b}, got {x.shape}")
    n, c, h, w = x.shape
    x = x.reshape(n, c, h // b, b, w // b, b)
    x = x.transpose(0, 3, 5, 1, 2, 4) if depth_first else x.transpose(0, 1, 3, 5, 2, 4)
    return x.reshape(n, c * b * b, h // b, w // b)


# Selections ---------------------------------------------------------------------------------------


def _slice(needs, x, starts, ends, axes=None, steps=None):
    starts, ends = as_ints("starts", starts), as_ints("ends", ends)
    axes = tuple(range(len(starts))) if axes is None else as_axes(axes, x.ndim)
    steps = [1] * len(starts) if steps is None else as_ints("steps", steps)
    if not len(starts) == len(ends) == len(axes) == len(steps):
        raise ValueError(
            f"starts, ends, axes and steps must be equally long, got {len(starts)}, {len(ends)}, "
            f"{len(axes)} and {len(steps)}"
        )
    if len(axes) > x.ndim or 0 in steps:
        raise ValueError(f"steps must not be 0, nor more than {x.ndim} axes, got steps {steps}")
    index = [slice(None)] * x.ndim
    for axis, start, stop, step in zip(axes, starts, ends, steps, strict=True):
        n = x.shape[axis]
        low, high = (0, n) if step > 0 else (-1, n - 1)
        first = min(max(start + n if start < 0 else start, max(low, 0)), high)
        last = min(max(stop + n if stop < 0 else stop, low), n)
        index[axis] = slice(first, None if last < 0 else last, step)
    index = tuple(index)
    return x[index], _scatter_back(x, index, len(needs))


def _scatter_back(x, index, inputs):
    """The backward function of x[index], which takes no place twice."""
    shape, dtype = x.shape, x.dtype

    def backward(g):
        dx = np.zeros(shape, dtype)
        dx[index] = g
        return (dx, *[None] * (inputs - 1))

    return backward


def _part(needs, x, sizes, *, axis, part):
    """The part of that number, where `sizes` says how long each is."""
    axis, sizes = _checks.axis("axis", axis, x.ndim), as_ints("split", sizes)
    if min(sizes, default=0) < 0 or sum(sizes) != x.shape[axis] or part >= len(sizes):
        raise ValueError(
            f"split must give part {part} and sum to {x.shape[axis]}, the length of axis {axis}, "
            f"got {sizes}"
        )
    return _cut(x, axis, sum(sizes[:part]), sizes[part], len(needs))


def _chunk(needs, x, *, axis, part, parts):
    """The part of that number of equal ones; the last may be shorter."""
    axis = _checks.axis("axis", axis, x.ndim)
    size = -(-x.shape[axis] // parts)
    return _cut(x, axis, part * size, size, 1)


def _cut(x, axis, start, size, inputs):
    index = (*[slice(None)] * axis, slice(start, start + size))
    return x[index], _scatter_back(x, index, inputs)


def _places(indices, n):
    """Indices in [-n, n) as ones in [0, n)."""
    indices = np.asarray(indices)
    if indices.dtype.kind not in "iu":
        raise TypeError(f"indices must be integers, got {indices.dtype}")
    indices = indices.astype(np.int64, copy=False)
    if indices.size and not (-n <= indices.min() and indices.max() < n):
        raise IndexError(f"indices must be in [{-n}, {n}), got {indices.min()} to {indices.max()}")
    return np.where(indices < 0, indices + n, indices)


def _taken(x, index, inputs):
    """x[index], which may take a place twice, and its backward function."""

    def backward(g):
        dx = np.zeros(x.shape, x.dtype)
        np.add.at(dx, index, g)
        return (dx, *[None] * (inputs - 1))

    return x[index], backward


def _gather(needs, x, indices, *, axis):
    axis = _checks.axis("axis", axis, x.ndim)
    return _taken(x, (*[slice(None)] * axis, _places(indices, x.shape[axis])), 2)


def _along(x, indices, axis):
    """The index that reads `indices` along `axis`, and the place itself along the others."""
    axis = _checks.axis("axis", axis, x.ndim)
    if np.ndim(indices) != x.ndim or any(
        n > m for i, (n, m) in enumerate(zip(indices.shape, x.shape, strict=True)) if i != axis
    ):
        raise ValueError(f"indices of shape {np.shape(indices)} do not fit input of {x.shape}")
    index = list(np.ogrid[tuple(slice(n) for n in indices.shape)])
    index[axis] = _places(indices, x.shape[axis])
    return tuple(index)


def _gather_elements(needs, x, indices, *, axis):
    return _taken(x, _along(x, indices, axis), 2)


def _tuples(x, indices, batch=0):
    """The index of the places that the last axis of `indices` names."""
    depth = indices.shape[-1] if indices.ndim else 0
    if indices.ndim <= batch or not 0 < depth <= x.ndim - batch:
        raise ValueError(f"indices of shape {indices.shape} do not fit input of {x.shape}")
    if x.shape[:batch] != indices.shape[:batch]:
        raise ValueError(
            f"input of {x.shape} and indices of {indices.shape} must agree in {batch} axes"
        )
    grid = np.ogrid[tuple(slice(n) for n in indices.shape[:batch])] if batch else []
    grid = [g.reshape(g.shape + (1,) * (indices.ndim - 1 - batch)) for g in grid]
    return (*grid, *(_places(indices[..., i], x.shape[batch + i]) for i in range(depth)))


def _gather_nd(needs, x, indices, *, batch=0):
    return _taken(x, _tuples(x, indices, batch), 2)


_SCATTERED = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}


def _scattered(x, index, updates, reduction):
    y = x.copy()
    if updates.shape != y[index].shape:
        raise ValueError(f"updates must have shape {y[index].shape}, got {updates.shape}")
    if reduction == "none":
        y[index] = updates
    else:
        _SCATTERED[_checks.one_of("reduction", reduction, tuple(_SCATTERED))].at(y, index, updates)

    def backward(g):
        if reduction not in ("none", "add"):
            raise ValueError(f"scattering with reduction={reduction!r} has no gradient")
        dx = g.copy()
        if reduction == "none":
            dx[index] = 0
        return dx, None, g[index]

    return y, backward


def _scatter_elements(needs, x, indices, updates, *, axis, reduction):
    return _scattered(x, _along(x, indices, axis), updates, reduction)


def _scatter_nd(needs, x, indices, updates, *, reduction):
    return _scattered(x, _tuples(x, indices), updates, reduction)


def _compress(needs, x, condition, *, axis):
    """The places along `axis` (None: of the flattened input) where a condition holds."""
    x = x.reshape(-1) if axis is None else x
    axis = _checks.axis("axis", axis or 0, x.ndim)
    places = np.flatnonzero(condition)
    return _taken(x, (*[slice(None)] * axis, _places(places, x.shape[axis])), 2)


def _nonzero(needs, x):
    return np.array(np.nonzero(np.atleast_1d(x)), np.int64), lambda g: (None,)


def _triangle(needs, x, k, *, upper):
    """The matrices' part on and above (below) diagonal `k`, an array of one value or None."""
    cut, k = np.triu if upper else np.tril, 0 if k is None else np.asarray(k).item()
    return cut(x, k), lambda g: (cut(g, k), None)


# New arrays ---------------------------------------------------------------------------------------


def _full(needs, shape, value):
    """`value`, an array of one, everywhere."""
    return np.full(as_ints("shape", shape), np.asarray(value).item(), value.dtype), lambda g: (
        None,
        np.reshape(g.sum(), np.shape(value)),
    )


def _range(needs, start, limit, delta):
    """start + i delta, before `limit`."""
    first, last, step = (np.asarray(a).item() for a in (start, limit, delta))
    if step == 0:
        raise ValueError("delta must not be 0")
    count = max(math.ceil((last - first) / step), 0)
    dtype = np.asarray(start).dtype
    return (np.arange(count) * step + first).astype(dtype), lambda g: (None, None, None)


def _one_hot(needs, indices, depth, values, *, axis):
    """values[1] where an index along the new axis of length `depth` is, values[0] elsewhere."""
    depth = _checks.integer("depth", int(np.asarray(depth).item()), minimum=0)
    axis = _checks.axis("axis", axis, indices.ndim + 1)
    along = np.arange(depth).reshape(-1, *[1] * (indices.ndim - axis))
    indices = np.expand_dims(indices, axis)
    return np.where(
        np.where(indices < 0, indices + depth, indices) == along, values[1], values[0]
    ), (lambda g: (None, None, None))


def _eye(needs, x, *, k, dtype):
    """Ones on diagonal `k` of a matrix as large as x."""
    return np.eye(*x.shape, k=k, dtype=dtype), lambda g: (None,)
