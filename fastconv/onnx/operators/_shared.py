"""What several operators need."""

import numpy as np

from fastconv.autograd.engine import apply
from fastconv.autograd.ops import _astype
from fastconv.onnx.errors import bounded

__all__ = []

FLOATS = (np.float32, np.float64)


def known(x):
    """The values of an input that parameters come from, as an ndarray."""
    return np.asarray(x)


def ints(values):
    """Attributes as the array that rules take."""
    return None if values is None else np.array(values, np.int64)


def cast(x, dtype):
    """x in another dtype."""
    dtype = np.dtype(dtype)
    return x if x.dtype == dtype else apply(_astype, x, dtype=dtype)


def same_dtype(*arrays):
    """The arrays, if they have one dtype, and one shape that they broadcast to and may have."""
    dtypes = {x.dtype for x in arrays}
    if len(dtypes) > 1:
        raise TypeError(f"inputs must have one dtype, got {', '.join(sorted(map(str, dtypes)))}")
    broadcast(*arrays)
    return arrays


def broadcast(*arrays):
    """Raise unless the shapes broadcast to one that is not too large."""
    shapes = {x.shape for x in arrays}
    if len(shapes) > 1:
        bounded(np.broadcast_shapes(*shapes), arrays[0].dtype)
