"""Along axes: reductions, places of the largest and smallest, running sums, products of indices."""

import numpy as np

from fastconv import _checks

__all__ = []


def as_axes(axes, ndim):
    """An array of axes as a tuple in [0, ndim), each once; all for None."""
    if axes is None:
        return tuple(range(ndim))
    axes = tuple(_checks.axis("axes", a, ndim) for a in np.ravel(axes).tolist())
    if len(set(axes)) < len(axes):
        raise ValueError(f"axes must name an axis once, got {axes}")
    return axes


def _count(x, y):
    return np.asarray(y.size and x.size / y.size, x.dtype)


def _product_slope(x, y, axes):
    """The product of all others, also where values are zero."""
    moved = np.moveaxis(x, axes, range(-len(axes), 0))
    flat = moved.reshape(*moved.shape[: x.ndim - len(axes)], -1)
    ones = np.ones_like(flat[..., :1])
    before = np.cumprod(np.concatenate([ones, flat[..., :-1]], -1), -1)
    after = np.cumprod(np.concatenate([ones, flat[..., :0:-1]], -1), -1)[..., ::-1]
    return np.moveaxis((before * after).reshape(moved.shape), range(-len(axes), 0), axes)


def _extreme_slope(x, y, axes):
    """Equal values share the gradient."""
    found = x == y
    return found / np.maximum(found.sum(axis=axes, keepdims=True), 1)


def _log_sum_exp(x, axes):
    if not x.size:
        return np.log(np.exp(x).sum(axis=axes, keepdims=True))
    top = x.max(axis=axes, keepdims=True)
    top = np.where(np.isfinite(top), top, np.zeros((), x.dtype))
    return np.log(np.exp(x - top).sum(axis=axes, keepdims=True)) + top


# name: the result from x and axes, keeping these, and its derivative from x, result and axes
REDUCTIONS = {
    "l1": (
        lambda x, axes: np.abs(x).sum(axis=axes, keepdims=True),
        lambda x, y, axes: np.sign(x),
    ),
    "l2": (
        lambda x, axes: np.sqrt((x * x).sum(axis=axes, keepdims=True)),
        lambda x, y, axes: x / np.where(y == 0, np.ones((), y.dtype), y),
    ),
    "log_sum": (
        lambda x, axes: np.log(x.sum(axis=axes, keepdims=True)),
        lambda x, y, axes: np.exp(-y),
    ),
    "log_sum_exp": (_log_sum_exp, lambda x, y, axes: np.exp(x - y)),
    "max": (lambda x, axes: _extreme(np.max, x, axes), _extreme_slope),
    "mean": (
        lambda x, axes: x.mean(axis=axes, keepdims=True),
        lambda x, y, axes: 1 / _count(x, y),
    ),
    "min": (lambda x, axes: _extreme(np.min, x, axes), _extreme_slope),
    "prod": (lambda x, axes: x.prod(axis=axes, keepdims=True), _product_slope),
    "sum": (lambda x, axes: x.sum(axis=axes, keepdims=True), lambda x, y, axes: 1),
    "sum_square": (
        lambda x, axes: (x * x).sum(axis=axes, keepdims=True),
        lambda x, y, axes: 2 * x,
    ),
}


def _extreme(function, x, axes):
    """The largest or smallest, of nothing the end of the dtype's range."""
    largest = function is np.max
    if x.dtype.kind == "f":
        bound = -np.inf if largest else np.inf
    elif x.dtype.kind == "b":
        bound = not largest
    else:
        limits = np.iinfo(x.dtype)
        bound = limits.min if largest else limits.max
    return function(x, axis=axes, keepdims=True, initial=x.dtype.type(bound))


def _reduce(needs, x, axes, *, function, keepdim):
    """`axes` is an array, or None for all of them."""
    forward, slope = REDUCTIONS[function]
    axes = as_axes(axes, x.ndim)
    y = np.asarray(forward(x, axes)).astype(x.dtype, copy=False)

    def backward(g):
        dx = g.reshape(y.shape) * slope(x, y, axes)
        return dx if dx.shape == x.shape else np.broadcast_to(dx, x.shape).copy(), None

    return (y if keepdim else y.squeeze(axes)), backward


def _arg(needs, x, *, function, axis, keepdim, last=False):
    """Where the largest ("max") or smallest ("min") stands, the first or `last` of equals."""
    axis = _checks.axis("axis", axis, max(x.ndim, 1))
    find = {"max": np.argmax, "min": np.argmin}[function]
    y = find(np.flip(x, axis) if last else x, axis=axis, keepdims=keepdim)
    y = np.asarray(x.shape[axis] - 1 - y if last else y, np.int64)
    return y, lambda g: (None,)


def _top(needs, x, k, *, axis, largest):
    """Places of the k largest or smallest, in order, the first of equals first."""
    axis = _checks.axis("axis", axis, x.ndim)
    count = _checks.integer("k", np.asarray(k).item(), 0, x.shape[axis])
    if largest:  # a stable order from the end on, read backwards
        order = np.flip(np.argsort(np.flip(x, axis), axis=axis, kind="stable"), axis)
        order = x.shape[axis] - 1 - order
    else:
        order = np.argsort(x, axis=axis, kind="stable")
    return np.take(order, np.arange(count), axis=axis), lambda g: (None, None)


def _running(x, axis, exclusive, reverse, accumulate=np.cumsum, start=0):
    x = np.flip(x, axis) if reverse else x
    if exclusive:
        first = np.full_like(np.take(x, [0], axis) if x.shape[axis] else x, start)
        x = np.concatenate([first, np.delete(x, -1, axis) if x.shape[axis] else x], axis)
    y = accumulate(x, axis=axis, dtype=x.dtype)
    return np.flip(y, axis) if reverse else y


def _cumulative_sum(needs, x, axis, *, exclusive, reverse):
    """`axis` is an array of one value."""
    axis = _checks.axis("axis", np.asarray(axis).item(), x.ndim)
    y = _running(x, axis, exclusive, reverse)
    return y, lambda g: (_running(g, axis, exclusive, not reverse), None)


def _cumulative_product(needs, x, axis, *, exclusive, reverse):
    """`axis` is an array of one value. Its gradient divides, so it needs values other than 0."""
    axis = _checks.axis("axis", np.asarray(axis).item(), x.ndim)
    y = _running(x, axis, exclusive, reverse, np.cumprod, 1)
    return y, lambda g: (_running(g * y, axis, exclusive, not reverse) / x, None)


def _einsum(needs, *arrays, equation):
    sources, _, target = equation.replace(" ", "").partition("->")
    sources = sources.split(",")
    if len(sources) != len(arrays):
        raise ValueError(f"equation {equation!r} has {len(sources)} terms, got {len(arrays)}")
    y = np.asarray(np.einsum(equation, *arrays, optimize=len(arrays) > 2))

    def gradient(i, g):
        """The product of g and all others, over the indices that are not those of array i."""
        others = [(s, a) for j, (s, a) in enumerate(zip(sources, arrays, strict=True)) if j != i]
        if "->" not in equation or any(
            "." in s or len(set(s)) < len(s) for s in (*sources, target)
        ):
            raise ValueError(
                f"einsum has a gradient where the equation has '->', no '...' and no index twice "
                f"in a term, got {equation!r}"
            )
        known = "".join(dict.fromkeys(target + "".join(s for s, _ in others)))
        kept = "".join(c for c in sources[i] if c in known)
        terms = ",".join([target, *(s for s, _ in others)])
        dx = np.einsum(f"{terms}->{kept}", g, *(a for _, a in others))
        # an index of this array alone was summed: every place has the same gradient
        for place, c in enumerate(sources[i]):
            dx = dx if c in kept else np.expand_dims(dx, place)
        return dx if dx.shape == arrays[i].shape else np.broadcast_to(dx, arrays[i].shape).copy()

    return y, lambda g: tuple(gradient(i, g) if need else None for i, need in enumerate(needs))


def _determinant(needs, x):
    y = np.linalg.det(x)
    # d det / d X = det X^-T
    return y, lambda g: ((g * y)[..., None, None] * np.swapaxes(np.linalg.inv(x), -1, -2),)
