"""Dropout."""

import numpy as np

from fastconv import _checks
from fastconv.autograd.engine import apply, apply_in_place
from fastconv.functional.activation import SELU_ALPHA, SELU_SCALE
from fastconv.random import default_generator

__all__ = ["alpha_dropout", "dropout", "dropout1d", "dropout2d", "dropout3d"]


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
    return _drop(input, p, training, inplace, generator, np.ndim(input))


def dropout1d(input, p=0.5, training=True, inplace=False, generator=None):
    """Set whole channels to zero at random, and scale the others so that the mean stays.

    Parameters
    ----------
    input : Tensor or ndarray of shape (N, C, L) or (C, L)
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
        For `p` outside [0, 1], another number of axes, or another dtype.

    Examples
    --------
    >>> import numpy as np, fastconv.functional as F
    >>> y = F.dropout1d(np.ones((2, 50, 4)), generator=np.random.default_rng(0))
    >>> all(channel.min() == channel.max() for channel in y[0])
    True
    """
    return _drop_channels(input, 1, p, training, inplace, generator)


def dropout2d(input, p=0.5, training=True, inplace=False, generator=None):
    """Set whole channels to zero at random, and scale the others so that the mean stays [1]_.

    Parameters
    ----------
    input : Tensor or ndarray of shape (N, C, H, W) or, as in torch, (N, C, L)
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
        For `p` outside [0, 1], another number of axes, or another dtype.

    References
    ----------
    .. [1] J. Tompson et al., "Efficient Object Localization Using Convolutional Networks",
       CVPR 2015.

    Examples
    --------
    >>> import numpy as np, fastconv.functional as F
    >>> y = F.dropout2d(np.ones((2, 50, 4, 4)), generator=np.random.default_rng(0))
    >>> all(channel.min() == channel.max() for channel in y[0])
    True
    """
    return _drop_channels(input, 2, p, training, inplace, generator)


def dropout3d(input, p=0.5, training=True, inplace=False, generator=None):
    """Set whole channels to zero at random, and scale the others so that the mean stays.

    Parameters
    ----------
    input : Tensor or ndarray of shape (N, C, D, H, W) or (C, D, H, W)
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
        For `p` outside [0, 1], another number of axes, or another dtype.

    Examples
    --------
    >>> import numpy as np, fastconv.functional as F
    >>> y = F.dropout3d(np.ones((2, 50, 2, 3, 3)), generator=np.random.default_rng(0))
    >>> all(channel.min() == channel.max() for channel in y[0])
    True
    """
    return _drop_channels(input, 3, p, training, inplace, generator)


def alpha_dropout(input, p=0.5, training=False, inplace=False, generator=None):
    """Set values to what :func:`selu` gives for minus infinity, at random, then scale and shift.

    A mean of 0 and a variance of 1 stay [1]_.

    Parameters
    ----------
    input : Tensor or ndarray
        float32 or float64.
    p : float, default 0.5
        Probability of being set, in [0, 1].
    training : bool, default False
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
    .. [1] G. Klambauer et al., "Self-Normalizing Neural Networks", NIPS 2017.

    Examples
    --------
    >>> import numpy as np, fastconv.functional as F
    >>> y = F.alpha_dropout(np.zeros(1000), training=True, generator=np.random.default_rng(0))
    >>> np.unique(y).round(3)
    array([-0.779,  0.779])
    """
    p = _share(p)
    if not training or p == 0:
        return input
    run = apply_in_place if inplace else apply
    return run(_alpha_dropout_rule, input, p=p, generator=generator or default_generator())


def _share(p):
    p = _checks.real("p", p)
    if not 0 <= p <= 1:
        raise ValueError(f"p must be in [0, 1], got {p}")
    return p


def _drop(input, p, training, inplace, generator, axes):
    """One draw for each place of the first so many axes."""
    p = _share(p)
    if not training or p == 0:
        return input
    run = apply_in_place if inplace else apply
    generator = generator or default_generator()
    return run(_dropout_rule, input, p=p, generator=generator, axes=axes)


def _drop_channels(input, spatial, p, training, inplace, generator):
    ndim = np.ndim(input)
    if ndim not in (spatial + 1, spatial + 2):
        raise ValueError(
            f"input must have {spatial + 2} or {spatial + 1} axes, got shape {np.shape(input)}"
        )
    axes = 2 if ndim == spatial + 2 or spatial == 2 else 1
    return _drop(input, p, training, inplace, generator, axes)


def _dropout_rule(needs, x, *, p, generator, axes):
    x = _checks.as_float_array("input", x)
    drawn = (*x.shape[:axes], *[1] * (x.ndim - axes))
    keep = generator.random(drawn, np.float32) >= p
    mask = keep * np.asarray(1 / (1 - p) if p < 1 else 0, x.dtype)
    return x * mask, lambda g: (g * mask,)


def _alpha_dropout_rule(needs, x, *, p, generator):
    x = _checks.as_float_array("input", x)
    keep = generator.random(x.shape, np.float32) >= p
    low = -SELU_ALPHA * SELU_SCALE
    # of keep x + (1 - keep) low the mean is p low, the variance (1 - p) (1 + p low^2)
    scale = ((1 - p) * (1 + p * low**2)) ** -0.5 if p < 1 else 0.0
    mask = keep * np.asarray(scale, x.dtype)
    shift = np.where(keep, -scale * p * low, scale * (1 - p) * low).astype(x.dtype)
    return x * mask + shift, lambda g: (g * mask,)
