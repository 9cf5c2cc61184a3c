"""Arithmetic on tensors: each rule beside its derivative, then the names users call."""

import math

import numpy as np

from fastconv import _checks
from fastconv._elementwise import add
from fastconv._matmul import matmul as _matrix_product
from fastconv.autograd.engine import Tensor, apply

__all__ = ["cat", "concatenate", "exp", "log", "matmul", "sqrt", "stack"]


def _unbroadcast(g, shape):
    """Sum g over the axes along which an operand of `shape` was repeated."""
    if g.shape == shape:
        return g
    g = g.sum(axis=tuple(range(g.ndim - len(shape))))
    repeated = tuple(i for i, n in enumerate(shape) if n == 1 and g.shape[i] != 1)
    return g.sum(axis=repeated, keepdims=True) if repeated else g


def _both(needs, a, b, da, db):
    """The backward function of a broadcasting operator, from its two partial products.

    It keeps the operands' shapes, not the operands.
    """
    shape_a, shape_b = getattr(a, "shape", ()), getattr(b, "shape", ())  # numbers have none
    return lambda g: (
        _unbroadcast(da(g), shape_a) if needs[0] else None,
        _unbroadcast(db(g), shape_b) if needs[1] else None,
    )


def weak(function, a, b):
    """The result, in which numbers of Python have no dtype of their own, as since NumPy 2."""
    y = function(a, b)
    dtype = getattr(b, "dtype", None) if type(a) in (int, float) else getattr(a, "dtype", None)
    is_weak = type(a) in (int, float) or type(b) in (int, float)
    return y.astype(dtype, copy=False) if is_weak and dtype is not None and dtype.kind == "f" else y


def _add(needs, a, b):
    return weak(add, a, b), _both(needs, a, b, lambda g: g, lambda g: g)


def _subtract(needs, a, b):
    return weak(np.subtract, a, b), _both(needs, a, b, lambda g: g, lambda g: -g)


def _multiply(needs, a, b):
    return weak(np.multiply, a, b), _both(needs, a, b, lambda g: g * b, lambda g: g * a)


def _divide(needs, a, b):
    y = weak(np.divide, a, b)
    return y, _both(needs, a, b, lambda g: g / b, lambda g: -g * y / b)


def _power(needs, a, b):
    y = weak(np.power, a, b)

    def by_base(g):  # b a^(b-1), which is 0 for b = 0 even at a = 0
        return g * np.where(b == 0, 0, b * np.power(a, np.where(b == 0, 1, b - 1)))

    def by_exponent(g):  # log(a) a^b, whose limit at a = 0 is 0
        with np.errstate(divide="ignore", invalid="ignore"):
            return g * np.where((a == 0) & (b >= 0), 0, y * np.log(a))

    return y, _both(needs, a, b, by_base, by_exponent)


def _negative(needs, x):
    return np.negative(x), lambda g: (-g,)


def _absolute(needs, x):
    return np.abs(x), lambda g: (g * np.sign(x),)


def _exp(needs, x):
    y = np.exp(x)
    return y, lambda g: (g * y,)


def _log(needs, x):
    return np.log(x), lambda g: (g / x,)


def _sqrt(needs, x):
    y = np.sqrt(x)
    return y, lambda g: (g / (2 * y),)


def _matmul(needs, a, b):
    if a.ndim == b.ndim == 2 and a.dtype.type in _checks.FLOATS:
        return _matrix_product(a, b), lambda g: (
            _matrix_product(g, b, trans_b=True) if needs[0] else None,
            _matrix_product(a, g, trans_a=True) if needs[1] else None,
        )
    shape_a, shape_b = a.shape, b.shape
    # As matmul does: a vector on the left is a row, on the right a column.
    rows = a[None, :] if a.ndim == 1 else a
    cols = b[:, None] if b.ndim == 1 else b

    def backward(g):
        g = np.expand_dims(g, -1) if b.ndim == 1 else g
        g = np.expand_dims(g, -2) if a.ndim == 1 else g
        return (
            _unbroadcast(np.matmul(g, np.swapaxes(cols, -1, -2)), rows.shape).reshape(shape_a)
            if needs[0]
            else None,
            _unbroadcast(np.matmul(np.swapaxes(rows, -1, -2), g), cols.shape).reshape(shape_b)
            if needs[1]
            else None,
        )

    return np.matmul(a, b), backward


def _sum(needs, x, *, axes, keepdim):
    shape = x.shape

    def backward(g):
        return (np.broadcast_to(g if keepdim else np.expand_dims(g, axes), shape),)

    return x.sum(axis=axes, keepdims=keepdim), backward


def _mean(needs, x, *, axes, keepdim):
    y, backward = _sum(needs, x, axes=axes, keepdim=keepdim)
    count = math.prod(x.shape[axis] for axis in axes)
    return weak(np.divide, y, count), lambda g: (backward(g)[0] / count,)


def _reshape(needs, x, *, shape):
    before = x.shape
    return x.reshape(shape), lambda g: (g.reshape(before),)


def _flatten(needs, x, *, first, last):
    before = x.shape
    merged = math.prod(before[first : last + 1])
    return x.reshape(*before[:first], merged, *before[last + 1 :]), lambda g: (g.reshape(before),)


def _unflatten(needs, x, *, dim, sizes):
    before = x.shape
    dim = _checks.axis("dim", dim, x.ndim)
    known = math.prod(size for size in sizes if size != -1)
    fits = known and before[dim] % known == 0 if -1 in sizes else before[dim] == known
    if not fits:
        raise ValueError(f"sizes must have the product {before[dim]}, got {sizes}")
    sizes = [before[dim] // known if size == -1 else size for size in sizes]
    return x.reshape(*before[:dim], *sizes, *before[dim + 1 :]), lambda g: (g.reshape(before),)


def _permute(needs, x, *, axes):
    return x.transpose(axes), lambda g: (g.transpose(np.argsort(axes)),)


def _index(needs, x, *, index):
    shape, dtype = x.shape, x.dtype

    def backward(g):
        dx = np.zeros(shape, dtype)
        if _is_basic(index):
            dx[index] = g
        else:  # an entry may have been taken more than once
            np.add.at(dx, index, g)
        return (dx,)

    return x[index], backward


def _is_basic(index):
    parts = index if isinstance(index, tuple) else (index,)
    return all(p is None or p is Ellipsis or isinstance(p, (int, slice, np.integer)) for p in parts)


def _concatenate(needs, *arrays, dim):
    ends = np.cumsum([a.shape[dim] for a in arrays])[:-1]
    return np.concatenate(arrays, axis=dim), lambda g: np.split(g, ends, axis=dim)


def _astype(needs, x, *, dtype):
    return x.astype(dtype), lambda g: (g,)


def operand(name, x):
    """`x`, a Tensor or number, or the values of an array_like."""
    return x if isinstance(x, (Tensor, int, float, np.generic)) else _checks.as_array(name, x)


def _other(x):
    """The other side of an arithmetic operator, or NotImplemented."""
    known = isinstance(x, (Tensor, int, float, np.ndarray, np.generic, list, tuple))
    return operand("other", x) if known else NotImplemented


def _operator(rule, reflected=False):
    def method(self, other):
        other = _other(other)
        if other is NotImplemented:
            return NotImplemented
        return apply(rule, other, self) if reflected else apply(rule, self, other)

    return method


def _comparison(function):
    def method(self, other):
        other = _checks.plain("other", other.data if isinstance(other, Tensor) else other)
        return function(self.data, other)

    method.__doc__ = "Compare value by value; a boolean ndarray."
    return method


def _axes(dim, ndim):
    if dim is None:
        return tuple(range(ndim))
    dims = dim if _checks.is_sequence(dim) else (dim,)
    axes = tuple(_checks.axis("dim", d, ndim) for d in dims)
    if len(set(axes)) < len(axes):
        raise ValueError(f"dims must name an axis once, got {tuple(dims)}")
    return axes


def _shape_argument(shape):
    return shape[0] if len(shape) == 1 and _checks.is_sequence(shape[0]) else shape


def _method_sum(self, dim=None, keepdim=False):
    """Sum over the axes `dim` (an int, ints, or None for all)."""
    return apply(_sum, self, axes=_axes(dim, self.ndim), keepdim=keepdim)


def _method_mean(self, dim=None, keepdim=False):
    """Mean over the axes `dim` (an int, ints, or None for all)."""
    return apply(_mean, self, axes=_axes(dim, self.ndim), keepdim=keepdim)


def _method_pow(self, exponent):
    """Every value to a power; `exponent` broadcasts."""
    return self**exponent


def _method_reshape(self, *shape):
    """The same values, in logical (C) order, with another shape; -1 stands for the rest."""
    return apply(_reshape, self, shape=_shape_argument(shape))


def _method_permute(self, *dims):
    """The axes in another order."""
    dims = _shape_argument(dims)
    axes = _axes(dims, self.ndim)
    if sorted(axes) != list(range(self.ndim)):
        raise ValueError(f"dims must name each of {self.ndim} axes once, got {tuple(dims)}")
    return apply(_permute, self, axes=axes)


def _method_transpose(self, dim0, dim1):
    """Two axes exchanged."""
    axes = list(range(self.ndim))
    i, j = _checks.axis("dim0", dim0, self.ndim), _checks.axis("dim1", dim1, self.ndim)
    axes[i], axes[j] = j, i
    return apply(_permute, self, axes=tuple(axes))


def _method_flatten(self, start_dim=0, end_dim=-1):
    """The axes from `start_dim` to `end_dim` made one."""
    first = _checks.axis("start_dim", start_dim, self.ndim)
    last = _checks.axis("end_dim", end_dim, self.ndim)
    if first > last:
        raise ValueError(f"start_dim={start_dim} must not come after end_dim={end_dim}")
    return apply(_flatten, self, first=first, last=last)


def sizes_of_axis(name, sizes):
    """Sizes that an axis is cut into: ints, of which one may be -1 and stands for the rest."""
    if not _checks.is_sequence(sizes) or not len(sizes):
        raise ValueError(f"{name} must be a sequence of at least one int, got {sizes!r}")
    sizes = _checks.integers(name, sizes, len(sizes), minimum=-1)
    if sizes.count(-1) > 1:
        raise ValueError(f"{name} must hold -1 once at most, got {sizes}")
    return sizes


def _method_unflatten(self, dim, sizes):
    """The axis `dim` made several, in logical order; one of the sizes may be -1."""
    dim, sizes = _checks.integer("dim", dim), sizes_of_axis("sizes", sizes)
    return apply(_unflatten, self, dim=dim, sizes=sizes)


def _method_astype(self, dtype):
    """The values in another dtype; gradients come back in this one's."""
    dtype = np.dtype(dtype)
    if dtype.kind not in "biufc":
        raise TypeError(f"dtype must be one of numbers, got {dtype}")
    return apply(_astype, self, dtype=dtype)


def _method_getitem(self, index):
    """NumPy indexing, basic or advanced."""

    def part(i):
        return _checks.plain("index", i.data if isinstance(i, Tensor) else i)

    index = tuple(map(part, index)) if isinstance(index, tuple) else part(index)
    return apply(_index, self, index=index)


def exp(input):
    """Exponential of every value; a Tensor in, a Tensor out."""
    return apply(_exp, operand("input", input))


def log(input):
    """Natural logarithm of every value; a Tensor in, a Tensor out."""
    return apply(_log, operand("input", input))


def sqrt(input):
    """Square root of every value; a Tensor in, a Tensor out."""
    return apply(_sqrt, operand("input", input))


def absolute(input):
    """Absolute value of every value; a Tensor in, a Tensor out."""
    return apply(_absolute, operand("input", input))


def matmul(input, other):
    """Matrix product with NumPy's rules for vectors and stacks of matrices.

    Parameters
    ----------
    input, other : Tensor or ndarray

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.matmul(np.ones((2, 3)), np.ones((3, 4))).shape
    (2, 4)
    """
    input, other = operand("input", input), operand("other", other)
    a, b = np.shape(input), np.shape(other)
    if not a or not b:
        raise ValueError(f"matmul needs at least one axis on each side, got shapes {a} and {b}")
    if a[-1] != b[-2 if len(b) > 1 else 0]:
        raise ValueError(f"matmul of shapes {a} and {b}: the inner sizes must be equal")
    dtypes = {np.asarray(x).dtype for x in (input, other)}
    if len(dtypes) > 1 or dtypes.pop().type not in _checks.FLOATS:
        raise TypeError(
            "matmul needs two operands of one dtype, float32 or float64, got "
            f"{np.asarray(input).dtype} and {np.asarray(other).dtype}"
        )
    return apply(_matmul, input, other)


def _arrays(tensors):
    """A list of at least one Tensor or ndarray."""
    tensors = [
        t if isinstance(t, Tensor) else _checks.as_array(f"tensors[{i}]", t)
        for i, t in enumerate(tensors)
    ]
    if not tensors:
        raise ValueError("tensors must hold at least one array, got none")
    for i, t in enumerate(tensors):
        if t.dtype.kind not in "biufc":
            raise TypeError(f"tensors[{i}] must be an array of numbers, got dtype {t.dtype}")
    return tensors


def cat(tensors, dim=0):
    """Join arrays or tensors along an axis.

    Parameters
    ----------
    tensors : sequence of Tensor or ndarray
        Of equal shape but for axis `dim`.
    dim : int, default 0

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.cat([np.ones((2, 3)), np.zeros((1, 3))]).shape
    (3, 3)
    """
    tensors = _arrays(tensors)
    dim = _checks.axis("dim", dim, np.ndim(tensors[0]))
    shapes = [np.shape(t) for t in tensors]
    if any(s[:dim] + s[dim + 1 :] != shapes[0][:dim] + shapes[0][dim + 1 :] for s in shapes):
        raise ValueError(f"tensors must agree but for axis {dim}, got shapes {shapes}")
    return apply(_concatenate, *tensors, dim=dim)


concatenate = cat


def stack(tensors, dim=0):
    """Join arrays or tensors of one shape along a new axis `dim`.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.stack([np.ones(3), np.zeros(3)]).shape
    (2, 3)
    """
    tensors = _arrays(tensors)
    dim = _checks.axis("dim", dim, np.ndim(tensors[0]) + 1)
    shape = np.shape(tensors[0])
    new = (*shape[:dim], 1, *shape[dim:])
    for i, t in enumerate(tensors):
        _checks.shape_is(f"tensors[{i}]", t, shape, "as the first")
    return cat([apply(_reshape, t, shape=new) for t in tensors], dim)


# Tensor itself lives in the engine, which knows no operator; its arithmetic is this table.
for _name, _method in {
    "__add__": _operator(_add),
    "__radd__": _operator(_add, reflected=True),
    "__sub__": _operator(_subtract),
    "__rsub__": _operator(_subtract, reflected=True),
    "__mul__": _operator(_multiply),
    "__rmul__": _operator(_multiply, reflected=True),
    "__truediv__": _operator(_divide),
    "__rtruediv__": _operator(_divide, reflected=True),
    "__pow__": _operator(_power),
    "__rpow__": _operator(_power, reflected=True),
    "__matmul__": matmul,
    "__rmatmul__": lambda self, other: matmul(other, self),
    "__neg__": lambda self: apply(_negative, self),
    "__abs__": absolute,
    "__getitem__": _method_getitem,
    "__lt__": _comparison(np.less),
    "__le__": _comparison(np.less_equal),
    "__gt__": _comparison(np.greater),
    "__ge__": _comparison(np.greater_equal),
    "T": property(lambda self: apply(_permute, self, axes=tuple(range(self.ndim))[::-1])),
    "abs": absolute,
    "astype": _method_astype,
    "exp": exp,
    "flatten": _method_flatten,
    "log": log,
    "matmul": matmul,
    "mean": _method_mean,
    "permute": _method_permute,
    "pow": _method_pow,
    "reshape": _method_reshape,
    "sqrt": sqrt,
    "sum": _method_sum,
    "transpose": _method_transpose,
    "unflatten": _method_unflatten,
    "view": _method_reshape,
}.items():
    setattr(Tensor, _name, _method)
