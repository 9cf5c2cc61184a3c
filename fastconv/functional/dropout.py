"""Dropout."""

import numpy as np

from fastconv import _checks
from fastconv.autograd.engine import apply, apply_in_place
from fastconv.random import default_generator

__all__ = ["dropout"]


def dropout(input, p=0.5, training=True, inplace=False, generator=None):
    """Set values to zero at random, and scale the others so that the mean stays.

    Parameters
    ----------
    input : Tensor or ndarray
        float32 or float64.
    p : float, default 0.5
        Probability of zero, in [0, 1].
    training : bool, default True
        If false the input is returned as it is.
    inplace : bool, default False
        As in :func:`relu`.
    generator : numpy.random.Generator, optional
        By default the one that :func:`fastconv.manual_seed` seeds.

    Returns
    -------
    Tensor or ndarray

    Raises
    ------
    ValueError, TypeError
        For `p` outside [0, 1], or another dtype.

    References
    ----------
    .. [1] N. Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from
       Overfitting", JMLR 15, 2014.

    Examples
    --------
    >>> import numpy as np, fastconv.functional as F
    >>> y = F.dropout(np.ones(1000), 0.25, generator=np.random.default_rng(0))
    >>> np.unique(y).round(3)
    array([0.   , 1.333])
    """
    p = _checks.real("p", p)
    if not 0 <= p <= 1:
        raise ValueError(f"p must be in [0, 1], got {p}")
    if not training or p == 0:
        return input
    run = apply_in_place if inplace else apply
    return run(_dropout_rule, input, p=p, generator=generator or default_generator())


def _dropout_rule(needs, x, *, p, generator):
    x = _checks.as_float_array("input", x)
    keep = generator.random(x.shape, np.float32) >= p
    mask = keep * np.asarray(1 / (1 - p) if p < 1 else 0, x.dtype)
    return x * mask, lambda g: (g * mask,)
