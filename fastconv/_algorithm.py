"""Which of the ways to compute a convolution is asked for."""

import contextlib
import contextvars
import os

from fastconv import _checks

__all__ = ["algorithm"]

ALGORITHMS = ("auto", "gemm", "direct", "winograd")

DEFAULT = _checks.one_of(
    "FASTCONV_ALGORITHM", os.environ.get("FASTCONV_ALGORITHM") or "auto", ALGORITHMS
)

_asked = contextvars.ContextVar("fastconv.algorithm", default=None)


@contextlib.contextmanager
def algorithm(name):
    """Context in which convolutions that are not given an algorithm take this one.

    Parameters
    ----------
    name : {"auto", "gemm", "direct", "winograd"}
        See :func:`fastconv.functional.conv2d`. Outside of any context it is what
        ``FASTCONV_ALGORITHM`` was in the environment when fastconv was imported, by default
        "auto".

    Raises
    ------
    ValueError
        For any other name.

    Notes
    -----
    Holds for the current thread and asynchronous task. Gradients are computed by the
    algorithm of their forward pass.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> x, w = np.ones((1, 16, 8, 8)), np.ones((16, 16, 3, 3))
    >>> with fastconv.algorithm("gemm"):
    ...     float(fastconv.functional.conv2d(x, w).sum())
    82944.0
    """
    token = _asked.set(_checks.one_of("algorithm", name, ALGORITHMS))
    try:
        yield
    finally:
        _asked.reset(token)


def resolve(name):
    """The algorithm of a call that was given `name`, or None."""
    if name is not None:
        return _checks.one_of("algorithm", name, ALGORITHMS)
    return _asked.get() or DEFAULT
