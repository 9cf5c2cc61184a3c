"""The dense layer."""

import math

import numpy as np

from fastconv import _checks
from fastconv._layout import logical_order
from fastconv._matmul import matmul
from fastconv.autograd.engine import apply
from fastconv.functional._shared import channel_sums

__all__ = ["linear"]


def linear(input, weight, bias=None):
    """x W^T + b along the last axis.

    Parameters
    ----------
    input : Tensor or ndarray of shape (..., C)
        float32 or float64.
    weight : Tensor or ndarray of shape (K, C)
    bias : Tensor or ndarray of shape (K,), optional

    Returns
    -------
    Tensor or ndarray of shape (..., K)

    Raises
    ------
    ValueError, TypeError
        For shapes or dtypes that do not fit; the message names them.

    Examples
    --------
    >>> import numpy as np, fastconv.functional as F
    >>> F.linear(np.array([[1.0, 2.0]]), np.array([[3.0, 4.0], [5.0, 6.0]]), np.array([0.0, 1.0]))
    array([[11., 18.]])
    """
    return apply(_linear_rule, input, weight, bias)


def _linear_rule(needs, x, w, b):
    x, w, b = _checks.as_float_arrays({"input": x, "weight": w}, {"bias": b})
    if w.ndim != 2:
        raise ValueError(f"weight must have 2 axes (outputs, inputs), got shape {w.shape}")
    if not x.ndim or x.shape[-1] != w.shape[1]:
        raise ValueError(
            f"input must have {w.shape[1]} values along its last axis, for weight of shape "
            f"{w.shape}, got shape {x.shape}"
        )
    if b is not None:
        _checks.shape_is("bias", b, w.shape[:1], "one value per output")
    shape = x.shape
    rows = math.prod(shape[:-1])
    x = logical_order(x).reshape(rows, shape[-1])
    y = matmul(x, w, trans_b=True)
    if b is not None:
        y += b

    def backward(g):
        g = np.ascontiguousarray(g).reshape(rows, w.shape[0])
        return (
            matmul(g, w).reshape(shape) if needs[0] else None,
            matmul(g, x, trans_a=True) if needs[1] else None,
            channel_sums(g).astype(g.dtype) if needs[2] else None,
        )

    return y.reshape(*shape[:-1], w.shape[0]), backward
