"""What every public function asks of its arguments; the texts of its errors."""

import math
import operator

import numpy as np

FLOATS = (np.float32, np.float64)


def float_dtype(name, dtype):
    """`dtype` as a NumPy dtype, float32 or float64."""
    dtype = np.dtype(dtype)
    if dtype.type not in FLOATS:
        raise TypeError(f"{name} must be float32 or float64, got {dtype}")
    return dtype


def plain(name, x):
    """`x`; an ndarray of a subclass without it, by the same memory, unless that loses a mask."""
    if type(x) is np.ndarray or not isinstance(x, np.ndarray):
        return x
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array; fill its gaps first, {name}.filled(value)")
    return np.asarray(x)


def as_array(name, x):
    """`x`, an array_like, as an ndarray of no subclass."""
    x = plain(name, x)
    if type(x) is np.ndarray:
        return x
    if x is None:
        raise TypeError(f"{name} must be an array, got None")
    for i, part in enumerate(x if isinstance(x, (list, tuple)) else ()):
        plain(f"{name}[{i}]", part)
    try:
        return np.asarray(x)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name} must be an array: {error}") from error


def conversion(name, dtype, wanted="float32"):
    """What to do with an array of this dtype, as an error's last words; none if it has no way."""
    return f"; convert it first, {name}.astype(np.{wanted})" if dtype.kind in "biufO" else ""


def native(x):
    """`x`, aligned and of the machine's byte order; copied only if it must be."""
    if x.dtype.isnative and x.flags.aligned:
        return x
    return x.astype(x.dtype.newbyteorder("="))


def as_float_array(name, x):
    """`x` as an aligned, native float32 or float64 ndarray; copied only if it must be."""
    x = as_array(name, x)
    if x.dtype.type not in FLOATS:
        raise TypeError(
            f"{name} must have dtype float32 or float64, got {x.dtype}{conversion(name, x.dtype)}"
        )
    return native(x)


def dtype_is(name, x, dtype, whose):
    """`x` has the dtype of the argument called `whose`."""
    if x.dtype != dtype:
        raise TypeError(
            f"{name} has dtype {x.dtype}, must have {whose}'s dtype {dtype}"
            f"{conversion(name, x.dtype, dtype)}"
        )


def as_float_arrays(required, optional=None):
    """The arrays of two dicts from names to arrays, all of the first one's dtype.

    Those of the second may be None.
    """
    optional = optional or {}
    (first, x), *others = (required | optional).items()
    checked = [as_float_array(first, x)]
    dtype = checked[0].dtype
    for name, other in others:
        if other is not None or name in required:
            other = as_float_array(name, other)
            dtype_is(name, other, dtype, first)
        checked.append(other)
    return checked


def integer(name, value, minimum=None, maximum=None):
    """`value` as an int, at least `minimum` and at most `maximum`."""
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    try:
        value = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}") from None
    if minimum is not None and value < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {value}")
    if maximum is not None and value > maximum:
        raise ValueError(f"{name} must be at most {maximum}, got {value}")
    return value


# No array has an axis this long, and sums of products of such numbers still fit 64 bits.
LONGEST = 1 << 40


def is_sequence(value):
    """Whether `value` has a length: an array without axes has the method and not the length."""
    return hasattr(value, "__len__") and getattr(value, "ndim", 1) != 0


def integers(name, value, n, minimum=None):
    """`value` as a tuple of `n` ints: an int for all axes, or a sequence of `n`."""
    if isinstance(value, (str, bytes)) or not is_sequence(value):
        return (integer(name, value, minimum, LONGEST),) * n
    if len(value) == 1:
        value = tuple(value) * n
    if len(value) != n:
        raise ValueError(f"{name} must be an int or {n} ints, got {value!r}")
    try:
        return tuple(integer(name, v, minimum, LONGEST) for v in value)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{error} in {name}={tuple(value)!r}") from None


def real(name, value, finite=True):
    """`value` as a float, which must be finite unless told otherwise."""
    if type(value) is not float:
        plain(name, value)
        if isinstance(value, (str, bytes, bool, np.bool_)) or np.ndim(value) != 0:
            raise TypeError(f"{name} must be a number, got {value!r}")
        try:
            value = float(value)
        except (TypeError, ValueError):
            raise TypeError(f"{name} must be a number, got {value!r}") from None
    if finite and not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value}")
    return value


def one_of(name, value, choices):
    """`value`, which must be one of `choices`."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")
    return value


def boolean(name, value):
    """`value` as a bool."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def axis(name, value, ndim):
    """`value` as an axis in [0, ndim)."""
    value = integer(name, value)
    if not -ndim <= value < ndim:
        raise ValueError(f"{name} must be in [{-ndim}, {ndim}), got {value}")
    return value % ndim


def shape_is(name, x, shape, why):
    """`x` has just this shape."""
    if x.shape != tuple(shape):
        raise ValueError(f"{name} must have shape {tuple(shape)} ({why}), got {x.shape}")


def batched(name, x, n):
    """`x` as (N, C, *n spatial axes), and whether the batch axis had to be added."""
    if x.ndim == n + 2:
        return x, False
    if x.ndim == n + 1:
        return x[None], True
    raise ValueError(
        f"{name} must have {n + 2} axes (batch, channels, {n} spatial), or {n + 1} without the "
        f"batch, got shape {x.shape}"
    )


def writable(path):
    """A file can be made at `path`: what is written after long work should fail before it."""
    if path.is_dir():
        raise IsADirectoryError(f"{path} cannot be written: it is a folder")
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"{path} cannot be written: there is no folder {path.parent}")
