"""Normalisation by batch, by sample and group of channels, and over the last axes."""

import math

import numpy as np

from fastconv import _checks
from fastconv._activation import NONE, RELU, RELU6
from fastconv._layout import logical_order
from fastconv._memory import empty
from fastconv._threads import threads_for, workspace
from fastconv.autograd.engine import Tensor, apply
from fastconv.functional._shared import block_rows, channel_sums, rows_of
from fastconv.kernels import norm as kernels

__all__ = ["batch_norm", "group_norm", "instance_norm", "layer_norm"]


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
    eps, momentum = _epsilon(eps), _checks.real("momentum", momentum)
    if (running_mean is None) != (running_var is None):
        raise ValueError("running_mean and running_var must be given together, got one None")
    if not training and running_mean is None:
        raise ValueError(
            "running_mean and running_var must be given unless training=True, got None"
        )
    return apply(
        _batch_norm_rule,
        input,
        weight,
        bias,
        residual,
        running=_arrays(running_mean, running_var),
        training=bool(training),
        momentum=momentum,
        eps=eps,
        activation=activation,
    )


def group_norm(input, num_groups, weight=None, bias=None, eps=1e-5):
    """Normalise every group of channels of every sample [1]_.

    y = (x - mean) / sqrt(var + eps) * weight + bias, mean and variance those of a group.

    Parameters
    ----------
    input : Tensor or ndarray of shape (N, C) or (N, C, *spatial)
        float32 or float64, of any memory layout.
    num_groups : int
        Divides C; a group is C / num_groups neighbouring channels.
    weight, bias : Tensor or ndarray of shape (C,), optional
    eps : float, default 1e-5

    Returns
    -------
    Tensor or ndarray of the input's shape

    Raises
    ------
    ValueError
        If shapes do not fit, `num_groups` does not divide C, or the input is one group of a
        single value.
    TypeError
        For dtypes other than float32 or float64, or mixed ones.

    References
    ----------
    .. [1] Y. Wu, K. He, "Group Normalization", ECCV 2018.

    Examples
    --------
    >>> import numpy as np, fastconv.functional as F
    >>> F.group_norm(np.array([[1.0, 3.0, 5.0, 9.0]]), 2).round(3)
    array([[-1.,  1., -1.,  1.]])
    """
    groups = _checks.integer("num_groups", num_groups, minimum=1)
    return apply(_group_norm_rule, input, weight, bias, groups=groups, eps=_epsilon(eps))


def instance_norm(
    input,
    running_mean=None,
    running_var=None,
    weight=None,
    bias=None,
    use_input_stats=True,
    momentum=0.1,
    eps=1e-5,
):
    """Normalise every channel of every sample [1]_.

    Parameters
    ----------
    input : Tensor or ndarray of shape (N, C, *spatial)
        float32 or float64, of any memory layout.
    running_mean, running_var : ndarray or Tensor of shape (C,), or None
        Used as mean and variance if not `use_input_stats`; otherwise updated in place:
        running += momentum * (mean over the samples - running), variances with one value less.
    weight, bias : Tensor or ndarray of shape (C,), optional
    use_input_stats : bool, default True
        Whether to take mean and variance from the input.
    momentum : float, default 0.1
    eps : float, default 1e-5

    Returns
    -------
    Tensor or ndarray of the input's shape

    Raises
    ------
    ValueError
        If shapes do not fit, if not `use_input_stats` without running statistics, or if
        `use_input_stats` with a single value per channel and sample.
    TypeError
        For dtypes other than float32 or float64, or mixed ones.

    References
    ----------
    .. [1] D. Ulyanov, A. Vedaldi, V. Lempitsky, "Instance Normalization: The Missing Ingredient
       for Fast Stylization", 2016.

    Examples
    --------
    >>> import numpy as np, fastconv.functional as F
    >>> F.instance_norm(np.array([[[1.0, 3.0], [5.0, 9.0]]])).round(3)
    array([[[-1.,  1.],
            [-1.,  1.]]])
    """
    if np.ndim(input) < 3:
        raise ValueError(
            "input must have at least 3 axes (batch, channels, spatial), got shape "
            f"{np.shape(input)}"
        )
    if not use_input_stats:
        if running_mean is None or running_var is None:
            raise ValueError(
                "running_mean and running_var must be given unless use_input_stats=True, got None"
            )
        return normalize(input, running_mean, running_var, weight, bias, False, momentum, eps)
    if math.prod(np.shape(input)[2:]) == 1:
        raise ValueError(
            "input must have more than one value per channel and sample to be normalised by, got "
            f"shape {np.shape(input)}"
        )
    return apply(
        _instance_norm_rule,
        input,
        weight,
        bias,
        running=_arrays(running_mean, running_var),
        momentum=_checks.real("momentum", momentum),
        eps=_epsilon(eps),
    )


def layer_norm(input, normalized_shape, weight=None, bias=None, eps=1e-5):
    """Normalise over the last axes [1]_.

    y = (x - mean) / sqrt(var + eps) * weight + bias, mean and variance over these axes.

    Parameters
    ----------
    input : Tensor or ndarray
        float32 or float64, of any memory layout.
    normalized_shape : int or sequence of int
        The sizes of the last axes of the input.
    weight, bias : Tensor or ndarray of shape `normalized_shape`, optional
    eps : float, default 1e-5

    Returns
    -------
    Tensor or ndarray of the input's shape

    Raises
    ------
    ValueError
        If the input's last axes have other sizes, or shapes do not fit.
    TypeError
        For dtypes other than float32 or float64, or mixed ones.

    References
    ----------
    .. [1] J. L. Ba, J. R. Kiros, G. E. Hinton, "Layer Normalization", 2016.

    Examples
    --------
    >>> import numpy as np, fastconv.functional as F
    >>> F.layer_norm(np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0]]), 3).round(3)
    array([[-1.225,  0.   ,  1.225],
           [-1.225,  0.   ,  1.225]])
    """
    shape = layer_shape(normalized_shape)
    return apply(_layer_norm_rule, input, weight, bias, shape=shape, eps=_epsilon(eps))


def layer_shape(normalized_shape):
    """`normalized_shape` as a tuple of at least one int."""
    given = normalized_shape
    sizes = given if _checks.is_sequence(given) else (given,)
    if not len(sizes):
        raise ValueError(f"normalized_shape must name at least one axis, got {given!r}")
    return _checks.integers("normalized_shape", sizes, len(sizes), minimum=0)


def _epsilon(eps):
    eps = _checks.real("eps", eps)
    if eps < 0:
        raise ValueError(f"eps must not be negative, got {eps}")
    return eps


def _arrays(running_mean, running_var):
    """Running statistics, which are updated where they are."""
    named = (("running_mean", running_mean), ("running_var", running_var))
    return [_checks.plain(name, r.data if isinstance(r, Tensor) else r) for name, r in named]


def _check(x, w, b, residual, running, training):
    if x.ndim < 2:
        raise ValueError(f"input must have at least 2 axes (batch, channels), got shape {x.shape}")
    for name, array in zip(("running_mean", "running_var"), running, strict=True):
        if array is None:
            continue
        if not isinstance(array, np.ndarray):
            raise TypeError(f"{name} must be an ndarray, got {type(array).__name__}")
        _checks.dtype_is(name, array, x.dtype, "input")
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


def _batch_norm_rule(needs, x, w, b, residual, *, running, training, momentum, eps, activation):
    x, w, b, residual = _checks.as_float_arrays(
        {"input": x}, {"weight": w, "bias": b, "residual": residual}
    )
    _check(x, w, b, residual, running, training)
    shape, dtype = x.shape, x.dtype
    matrices = rows_of(shape)
    rows = matrices.of(x)
    added = None if residual is None else matrices.of(residual)
    count = rows.shape[0]
    if training:
        if count == 1:
            raise ValueError(
                f"input must have more than one value per channel when training, got {shape}"
            )
        mean, var = moments(rows)
        if count:
            _update(running, (mean, var), (1, count / (count - 1)), momentum)
    else:
        mean, var = (np.array(r, np.float64) for r in running)
    w, b = (None if array is None else np.ascontiguousarray(array) for array in (w, b))
    inverse, lanes = np.empty(shape[1]), kernels.lanes_of(shape[1])
    centre, scale, shift = np.empty((3, lanes), dtype)
    kernels.factors(mean, var, eps, inverse, centre, scale, shift, w, b)
    y = empty(rows.shape, dtype)
    threads = threads_for(rows.size)
    if rows.size:
        kernels.normalize(rows, centre, scale, shift, added, *activation, y, threads)
    result = y if residual is not None and activation != NONE else None  # all that backward needs

    def backward(g):
        dy, act = matrices.of(g), activation
        kept = None if result is None else empty(rows.shape, dtype)
        sums = backward_sums(rows, dy, centre, scale, shift, result, act, kept)
        if kept is not None:
            dy, act = kept, NONE
        factors, (dw, db) = np.empty((3, lanes), dtype), np.empty((2, shape[1]), dtype)
        depends = count if training else 0
        kernels.gradient_factors(*sums, mean, inverse, centre, w, depends, *factors, dw, db)
        dx = None
        if needs[0]:
            dx = empty(rows.shape, dtype)
            if rows.size:
                kernels.backward_input(rows, dy, centre, scale, shift, *act, *factors, dx, threads)
            dx = matrices.image(dx)
        residual_gradient = None
        if needs[3]:
            residual_gradient = g if kept is None else matrices.image(kept)
        return dx, dw, db, residual_gradient

    return matrices.image(y), backward


def _group_norm_rule(needs, x, w, b, *, groups, eps):
    x, w, b = _checks.as_float_arrays({"input": x}, {"weight": w, "bias": b})
    _check(x, w, b, None, (None, None), False)
    if x.shape[1] % groups:
        raise ValueError(f"num_groups must divide the {x.shape[1]} channels, got {groups}")
    if x.size == groups:
        raise ValueError(f"input must have more than one value per group, got shape {x.shape}")
    return _by_sample(needs, x, w, b, groups, eps)[:2]


def _instance_norm_rule(needs, x, w, b, *, running, momentum, eps):
    x, w, b = _checks.as_float_arrays({"input": x}, {"weight": w, "bias": b})
    _check(x, w, b, None, running, True)
    y, backward, mean, var = _by_sample(needs, x, w, b, x.shape[1], eps)
    count = math.prod(x.shape[2:])
    if x.size:
        batch = mean.mean(axis=0), var.mean(axis=0)
        _update(running, batch, (1, count / (count - 1)), momentum)
    return y, backward


@_quiet
def _by_sample(needs, x, w, b, groups, eps):
    """(y, backward, mean, var): normalised by the statistics of each sample's groups of channels.

    They are combined from those of the channels, which batch norm's loops give sample by sample.
    """
    dtype, matrices = x.dtype, rows_of(x.shape)
    n, channels = x.shape[:2]

    places, of_group = math.prod(matrices.memory[1:-1]), channels // groups

    def samples(array):
        return matrices.of(array).reshape(n, places, channels)

    def over_groups(values):
        """The mean over each group of channels, for each of its channels."""
        means = values.reshape(n, groups, of_group).sum(axis=2) / max(of_group, 1)
        return np.repeat(means, of_group, axis=1)

    rows = samples(x)
    found = np.array([moments(sample) for sample in rows]).reshape(n, 2, channels)
    mean = over_groups(found[:, 0])
    var = over_groups(found[:, 1] + (found[:, 0] - mean) ** 2)
    inverse = 1 / np.sqrt(var + eps)
    gamma = 1.0 if w is None else w.astype(np.float64)
    mean_, scale = mean.astype(dtype), (gamma * inverse).astype(dtype)
    # mean is rounded to dtype, so the shift makes up for what that loses
    shift = ((0.0 if b is None else b) + (mean_ - mean) * gamma * inverse).astype(dtype)
    y = empty(rows.shape, dtype)
    threads = threads_for(places * channels)
    for i in range(n if x.size else 0):
        kernels.normalize(rows[i], mean_[i], scale[i], shift[i], None, *NONE, y[i], threads)

    @_quiet
    def backward(g):
        dy, sums = samples(g), np.zeros((n, 2, channels))
        for i, sample in enumerate(rows):
            parts = backward_sums(sample, dy[i], mean_[i], scale[i], shift[i], None, NONE, None)
            sums[i] = [part.sum(axis=0) for part in parts]
        # sum dy (x - mean), from sums about the rounded mean
        total, product = sums[:, 0], sums[:, 1] + (mean_ - mean) * sums[:, 0]
        dx = None
        if needs[0]:
            # dx = gamma dy / s - mean(gamma dy) / s - xhat mean(gamma dy xhat) / s, means over the
            # group, xhat = (x - mean) / s, s = 1 / inverse
            full = gamma * inverse
            slope = -(inverse**3) * over_groups(gamma * product) / max(places, 1)
            offset = -inverse * over_groups(gamma * total) / max(places, 1)
            offset = offset + slope * (mean_ - mean)
            full, slope, offset = (np.asarray(c, dtype) for c in (full, slope, offset))
            dx = empty(rows.shape, dtype)
            for i in range(n if g.size else 0):
                arguments = mean_[i], scale[i], shift[i], *NONE, full[i], slope[i], offset[i]
                kernels.backward_input(rows[i], dy[i], *arguments, dx[i], threads)
            dx = matrices.image(dx)
        return (
            dx,
            (product * inverse).sum(axis=0).astype(dtype) if needs[1] else None,
            total.sum(axis=0).astype(dtype) if needs[2] else None,
        )

    return matrices.image(y), backward, mean, var


@_quiet
def _layer_norm_rule(needs, x, w, b, *, shape, eps):
    x, w, b = _checks.as_float_arrays({"input": x}, {"weight": w, "bias": b})
    if x.shape[-len(shape) :] != shape:
        raise ValueError(f"input must end with the axes normalized_shape={shape}, got {x.shape}")
    for name, array in (("weight", w), ("bias", b)):
        if array is not None:
            _checks.shape_is(name, array, shape, "normalized_shape")
    dtype, count = x.dtype, math.prod(shape)
    rows = logical_order(x).reshape(x.size // max(count, 1), count)
    normal = empty(rows.shape, dtype)
    # the mean is rounded to dtype; what that loses is small and found again
    np.subtract(rows, _row_means(rows).astype(dtype), out=normal)
    normal -= _row_means(normal).astype(dtype)
    inverse = (1 / np.sqrt(_row_means(normal, normal) + eps)).astype(dtype)
    normal *= inverse
    gamma = None if w is None else w.reshape(-1)
    y = normal.copy() if w is None else normal * gamma
    if b is not None:
        y += b.reshape(-1)

    @_quiet
    def backward(g):
        dy = logical_order(g).reshape(rows.shape)
        dx = dw = db = None
        if needs[0]:
            # dx = (h - mean(h) - xhat mean(h xhat)) / s with h = gamma dy, xhat = (x - mean) / s
            h = dy if w is None else dy * gamma
            dx = normal * _row_means(h, normal).astype(dtype)
            np.subtract(h, dx, out=dx)
            dx -= _row_means(h).astype(dtype)
            dx *= inverse
            dx = dx.reshape(x.shape)
        if needs[1]:
            dw = channel_sums(dy * normal).astype(dtype).reshape(shape)
        if needs[2]:
            db = channel_sums(dy).astype(dtype).reshape(shape)
        return dx, dw, db

    return y.reshape(x.shape), backward


def _row_means(a, b=None):
    """Means of the rows of a matrix, or of a product of two, in float64, as a column."""
    total = (
        a.sum(axis=1, dtype=np.float64)
        if b is None
        else np.einsum("ij,ij->i", a, b, dtype=np.float64)
    )
    return (total / a.shape[1])[:, None]


def _update(running, batch, factors, momentum):
    """running += momentum (factor batch - running), in place."""
    for old, new, factor in zip(running, batch, factors, strict=True):
        if old is not None:
            kernels.follow(old, new, factor, momentum)


def moments(rows):
    """Mean and variance (of N) of each column of a C-contiguous matrix, in float64."""
    count, channels = rows.shape
    if not rows.size:
        return np.zeros((2, channels))
    block, blocks = block_rows(count, channels, rows.itemsize)
    means, squares = np.empty((2, blocks, channels))
    threads = threads_for(rows.size)
    work = workspace(threads, 2 * kernels.lanes_of(channels), rows.dtype)
    kernels.moments(rows, means, squares, block, work, threads)
    mean, var = np.empty((2, channels))
    kernels.join_moments(means, squares, block, count, mean, var)
    return mean, var


def backward_sums(rows, dy, mean, scale, shift, y, activation, kept):
    """Blocks' sums of g and g (x - mean), in float64, where g = dy act' is `kept` if asked."""
    count, channels = rows.shape
    if not rows.size:
        return np.zeros((2, 1, channels))
    block, blocks = block_rows(count, channels, rows.itemsize)
    sums, products = np.empty((2, blocks, channels))
    threads = threads_for(rows.size)
    work = workspace(threads, 3 * len(mean), rows.dtype)
    kernels.backward_sums(
        rows, dy, mean, scale, shift, y, *activation, kept, sums, products, block, work, threads
    )
    return sums, products
