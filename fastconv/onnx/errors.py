"""What may be missing, what is wrong with a model, and how much memory one may ask for."""

import contextlib
import math
import threading

import numpy as np

__all__ = ["MAX_BYTES", "OnnxError", "bounded", "limited", "require"]

MAX_BYTES = 1 << 33


class OnnxError(ValueError):
    """A model that cannot be read or run; the message names node, operator and reason.

    Examples
    --------
    >>> from fastconv.onnx import OnnxError
    >>> issubclass(OnnxError, ValueError)
    True
    """


class _Limit(threading.local):
    bytes = MAX_BYTES


_limit = _Limit()


@contextlib.contextmanager
def limited(max_bytes):
    """Context within which no operator of this thread may make an array of more bytes."""
    before, _limit.bytes = _limit.bytes, max_bytes
    try:
        yield
    finally:
        _limit.bytes = before


def bounded(shape, dtype):
    """`shape`, if an array of it may be made: asked before anything is allocated."""
    needed = math.prod(map(int, shape)) * np.dtype(dtype).itemsize
    if needed > _limit.bytes:
        raise ValueError(
            f"a result of shape {tuple(shape)} needs {needed} bytes, more than "
            f"max_bytes={_limit.bytes}"
        )
    return tuple(shape)


def require():
    """The package ``onnx``, which nothing else in fastconv needs."""
    try:
        import onnx
    except ImportError as error:
        raise ImportError(
            "ONNX files need the package onnx: pip install 'fastconv[onnx]'"
        ) from error
    return onnx
