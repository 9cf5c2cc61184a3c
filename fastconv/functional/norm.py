"""Batch normalisation."""

import numpy as np

from fastconv import _checks
from fastconv._activation import NONE, RELU, RELU6
from fastconv._memory import empty
from fastconv._threads import threads_for, workspace
from fastconv.autograd.engine import Tensor, apply
from fastconv.functional._shared import Rows, block_rows
from fastconv.kernels import norm as kernels

__all__ = ["batch_norm"]


def batch_norm(
    input,
    running_mean,
    running_var,
    weight=None,
    bias=None,
    training=False,
    momentum=0.1,
    eps=1e-5,
    *,
    residual=None,
    activation=None,
):
    """Normalise every channel: y = (x - mean) / sqrt(var + eps) * weight + bias.

    What often follows can be done in the same pass: y = activation(y + residual).

    Parameters
    ----------
    input : Tensor or ndarray of shape (N, C) or (N, C, *spatial)
        float32 or float64, of any memory layout.
    running_mean, running_var : ndarray or Tensor of shape (C,), or None
        Used as mean and variance if not `training`; otherwise updated in place:
        running += momentum * (batch - running), the variance with N - 1.
    weight, bias : Tensor or ndarray of shape (C,), optional
    training : bool, default False
        Whether to take mean and variance (with N) from the batch.
    momentum : float, default 0.1
    eps : float, default 1e-5
    residual : Tensor or ndarray of the input's shape, optional
        Added to the result.
    activation : {"relu", "relu6"}, optional
        Applied at last.

    Returns
    -------
    Tensor or ndarray of the input's shape

    Raises
    ------
    ValueError
        If shapes do not fit, if not `training` without running statistics, if `training`
        with a single value per channel, or for another `activation`.
    TypeError
        For dtypes other than float32 or float64, or mixed ones.

    Notes
    -----
    Statistics are summed in blocks whose means are combined in float64 [1]_; a large mean
    costs no accuracy, and results do not depend on the number of threads.

    References
    ----------
    .. [1] T. F. Chan, G. H. Golub, R. J. LeVeque, "Updating Formulae and a Pairwise Algorithm
       for Computing Sample Variances", 1979.

    Examples
    --------
    >>> import numpy as np, fastconv.functional as F
    >>> x = np.array([[1.0], [2.0], [3.0]])
    >>> F.batch_norm(x, None, None, training=True).round(3).ravel()
    array([-1.225,  0.   ,  1.225])
    """
    if activation is not None:
        activation = ACTIVATIONS[_checks.one_of("activation", activation, tuple(ACTIVATIONS))]
    return normalize(
        input,
        running_mean,
        running_var,
        weight,
        bias,
        training,
        momentum,
        eps,
        residual,
        NONE if activation is None else activation,
    )


ACTIVATIONS = {"relu": RELU, "relu6": RELU6}


def normalize(
    input,
    running_mean,
    running_var,
    weight,
    bias,
    training,
    momentum,
    eps,
    residual=None,
    activation=NONE,
):
    """:func:`batch_norm` with any :class:`fastconv._activation.Activation` of slope >= 0."""
    eps, momentum = _checks.real("eps", eps), _checks.real("momentum", momentum)
    if eps < 0:
        raise ValueError(f"eps must not be negative, got {eps}")
    if (running_mean is None) != (running_var is None):
        raise ValueError("running_mean and running_var must be given together, got one None")
    if not training and running_mean is None:
        raise ValueError(
            "running_mean and running_var must be given unless training=True, got None"
        )
    running = [r.data if isinstance(r, Tensor) else r for r in (running_mean, running_var)]
    return apply(
        _batch_norm_rule,
        input,
        weight,
        bias,
        residual,
        running=running,
        training=bool(training),
        momentum=momentum,
        eps=eps,
        activation=activation,
    )


def _check(x, w, b, residual, running, training):
    if x.ndim < 2:
        raise ValueError(f"input must have at least 2 axes (batch, channels), got shape {x.shape}")
    for name, array in zip(("running_mean", "running_var"), running, strict=True):
        if array is None:
            continue
        if not isinstance(array, np.ndarray):
            raise TypeError(f"{name} must be an ndarray, got {type(array).__name__}")
        if array.dtype != x.dtype:
            raise TypeError(f"{name} has dtype {array.dtype}, must have input's dtype {x.dtype}")
        if training and not array.flags.writeable:
            raise ValueError(f"{name} must be writeable to be updated, got a read-only array")
    named = {"weight": w, "bias": b, "running_mean": running[0], "running_var": running[1]}
    for name, array in named.items():
        if array is not None:
            _checks.shape_is(name, array, x.shape[1:2], "one value per channel of input")
    if residual is not None:
        _checks.shape_is("residual", residual, x.shape, "that of input")


# Statistics of infinities and NaN are NaN, without a word, as in PyTorch.
_quiet = np.errstate(over="ignore", invalid="ignore", divide="ignore")


@_quiet
def _batch_norm_rule(needs, x, w, b, residual, *, running, training, momentum, eps, activation):
    x, w, b, residual = _checks.as_float_arrays(
        {"input": x}, {"weight": w, "bias": b, "residual": residual}
    )
    _check(x, w, b, residual, running, training)
    shape, dtype = x.shape, x.dtype
    matrices = Rows(shape)
    rows = matrices.of(x)
    added = None if residual is None else matrices.of(residual)
    count = rows.shape[0]
    if training:
        if count == 1:
            raise ValueError(
                f"input must have more than one value per channel when training, got {shape}"
            )
        mean, var = moments(rows)
        _update(running, (mean, var * count / max(count - 1, 1)), momentum if count else 0)
    else:
        mean, var = (np.asarray(r, np.float64) for r in running)
    inverse = 1 / np.sqrt(var + eps)
    gamma = 1.0 if w is None else w.astype(np.float64)
    mean_, scale = mean.astype(dtype), (gamma * inverse).astype(dtype)
    # mean is rounded to dtype, so the shift makes up for what that loses
    shift = ((0.0 if b is None else b) + (mean_ - mean) * gamma * inverse).astype(dtype)
    y = empty(rows.shape, dtype)
    threads = threads_for(rows.size)
    if rows.size:
        kernels.normalize(rows, mean_, scale, shift, added, *activation, y, threads)
    result = y if residual is not None and activation != NONE else None  # all that backward needs

    @_quiet
    def backward(g):
        dy, act = matrices.of(g), activation
        kept = None if result is None else empty(rows.shape, dtype)
        total, product = backward_sums(rows, dy, mean_, scale, shift, result, act, kept)
        if kept is not None:
            dy, act = kept, NONE
        # sum dy (x - mean), from sums about the rounded mean
        product = product + (mean_ - mean) * total
        dx = None
        if needs[0]:
            # dx = scale (dy - mean(dy) - xhat mean(dy xhat)), xhat = (x - mean) inverse
            full, slope = gamma * inverse, np.zeros(shape[1])
            offset = np.zeros(shape[1])
            if training and count:
                slope = -full * inverse**2 * product / count
                offset = -full * total / count + slope * (mean_ - mean)
            dx = empty(rows.shape, dtype)
            if rows.size:
                factors = (np.asarray(c, dtype) for c in (full, slope, offset))
                kernels.backward_input(rows, dy, mean_, scale, shift, *act, *factors, dx, threads)
            dx = matrices.image(dx)
        return (
            dx,
            (product * inverse).astype(dtype) if needs[1] else None,
            total.astype(dtype) if needs[2] else None,
            (g if kept is None else matrices.image(kept)) if needs[3] else None,
        )

    return matrices.image(y), backward


def _update(running, batch, momentum):
    """running += momentum (batch - running), in place."""
    for old, new in zip(running, batch, strict=True):
        if old is not None:
            old += (momentum * (new - old)).astype(old.dtype)


def moments(rows):
    """Mean and variance (of N) of each column of a C-contiguous matrix, in float64.

    The blocks' means m_b and squares M_b combine to mean = sum n_b m_b / n and
    n var = sum M_b + sum n_b (m_b - mean)^2.
    """
    count, channels = rows.shape
    if not rows.size:
        return np.zeros(channels), np.zeros(channels)
    block, blocks = block_rows(count, channels, rows.itemsize)
    means, squares = np.empty((2, blocks, channels))
    threads = threads_for(rows.size)
    work = workspace(threads, 2 * channels, rows.dtype)
    kernels.moments(rows, means, squares, block, work, threads)
    weights = np.full((blocks, 1), block)
    weights[-1] = count - block * (blocks - 1)
    mean = (weights * means).sum(axis=0) / count
    return mean, (squares + weights * (means - mean) ** 2).sum(axis=0) / count


def backward_sums(rows, dy, mean, scale, shift, y, activation, kept):
    """(sum g, sum g (x - mean)) over the rows, in float64, where g = dy act' is `kept` if asked."""
    count, channels = rows.shape
    if not rows.size:
        return np.zeros(channels), np.zeros(channels)
    block, blocks = block_rows(count, channels, rows.itemsize)
    sums, products = np.empty((2, blocks, channels))
    threads = threads_for(rows.size)
    work = workspace(threads, 3 * channels, rows.dtype)
    kernels.backward_sums(
        rows, dy, mean, scale, shift, y, *activation, kept, sums, products, block, work, threads
    )
    return sums.sum(axis=0), products.sum(axis=0)
