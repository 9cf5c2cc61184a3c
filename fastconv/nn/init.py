"""Initialisation of parameters, in place, with a NumPy generator.

Every function takes a Tensor or ndarray, changes its values and returns it.
"""

import math

import numpy as np

from fastconv import _checks
from fastconv.autograd import Tensor
from fastconv.random import default_generator

__all__ = [
    "calculate_gain",
    "constant_",
    "dirac_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "normal_",
    "ones_",
    "orthogonal_",
    "trunc_normal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]


def _array(tensor):
    return tensor.data if isinstance(tensor, Tensor) else tensor


def _fill(tensor, values):
    _array(tensor)[...] = values
    return tensor


def _rng(generator):
    return default_generator() if generator is None else generator


def _fans(tensor):
    """(fan in, fan out): values behind one output, and before one input."""
    shape = _array(tensor).shape
    if len(shape) < 2:
        raise ValueError(f"tensor must have at least 2 axes to have fans, got shape {shape}")
    places = math.prod(shape[2:])
    return shape[1] * places, shape[0] * places


def _fan(tensor, mode):
    _checks.one_of("mode", mode, ("fan_in", "fan_out"))
    return _fans(tensor)[mode == "fan_out"]


def calculate_gain(nonlinearity, param=None):
    """Factor by which a non-linearity's layer widens its weights, as in PyTorch.

    Examples
    --------
    >>> from fastconv.nn import init
    >>> round(init.calculate_gain("relu"), 4)
    1.4142
    """
    gains = {
        "linear": 1.0,
        "conv1d": 1.0,
        "conv2d": 1.0,
        "conv3d": 1.0,
        "sigmoid": 1.0,
        "tanh": 5 / 3,
        "relu": math.sqrt(2),
        "leaky_relu": math.sqrt(2 / (1 + (0.01 if param is None else param) ** 2)),
        "selu": 0.75,
    }
    return gains[_checks.one_of("nonlinearity", nonlinearity, tuple(gains))]


def uniform_(tensor, a=0.0, b=1.0, generator=None):
    """Values uniform in [a, b)."""
    return _fill(tensor, _rng(generator).uniform(a, b, _array(tensor).shape))


def normal_(tensor, mean=0.0, std=1.0, generator=None):
    """Normal values."""
    return _fill(tensor, _rng(generator).normal(mean, std, _array(tensor).shape))


def trunc_normal_(tensor, mean=0.0, std=1.0, a=-2.0, b=2.0, generator=None):
    """Normal values, drawn again until all are in [a, b]."""
    if not a < b:
        raise ValueError(f"a must be less than b, got a={a}, b={b}")
    rng = _rng(generator)
    values = rng.normal(mean, std, _array(tensor).shape)
    outside = (values < a) | (values > b)
    # Far from the mean hardly any draw falls in [a, b]; then the inverse distribution does.
    for _ in range(100):
        if not outside.any():
            return _fill(tensor, values)
        values[outside] = rng.normal(mean, std, outside.sum())
        outside = (values < a) | (values > b)
    from scipy.special import ndtr, ndtri

    low, high = ndtr((a - mean) / std), ndtr((b - mean) / std)
    values[outside] = mean + std * ndtri(rng.uniform(low, high, outside.sum()))
    return _fill(tensor, np.clip(values, a, b))


def constant_(tensor, val):
    """One value everywhere."""
    return _fill(tensor, val)


def ones_(tensor):
    """Ones."""
    return _fill(tensor, 1)


def zeros_(tensor):
    """Zeros."""
    return _fill(tensor, 0)


def dirac_(tensor, groups=1):
    """Convolution kernels that pass channel i of every group on to its output i."""
    array = _array(tensor)
    if not 3 <= array.ndim <= 5:
        raise ValueError(f"tensor must have 3 to 5 axes, got shape {array.shape}")
    groups = _checks.integer("groups", groups, minimum=1)
    if array.shape[0] % groups:
        raise ValueError(f"groups must divide {array.shape[0]} outputs, got groups={groups}")
    array[...] = 0
    outputs = array.shape[0] // groups
    centre = tuple(k // 2 for k in array.shape[2:])
    for group in range(groups):
        for i in range(min(outputs, array.shape[1])):
            array[(group * outputs + i, i, *centre)] = 1
    return tensor


def orthogonal_(tensor, gain=1.0, generator=None):
    """A (semi-)orthogonal matrix over the axes but the first (Saxe et al., 2014)."""
    array = _array(tensor)
    if array.ndim < 2:
        raise ValueError(f"tensor must have at least 2 axes, got shape {array.shape}")
    rows, cols = array.shape[0], math.prod(array.shape[1:])
    draw = _rng(generator).standard_normal((max(rows, cols), min(rows, cols)))
    q, r = np.linalg.qr(draw)
    q *= np.sign(np.diag(r))  # makes the distribution uniform
    return _fill(tensor, gain * (q if rows >= cols else q.T).reshape(array.shape))


def xavier_uniform_(tensor, gain=1.0, generator=None):
    """Uniform with variance 2 gain^2 / (fan in + fan out) (Glorot & Bengio, 2010)."""
    bound = gain * math.sqrt(6 / sum(_fans(tensor)))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor, gain=1.0, generator=None):
    """Normal with variance 2 gain^2 / (fan in + fan out) (Glorot & Bengio, 2010)."""
    return normal_(tensor, 0.0, gain * math.sqrt(2 / sum(_fans(tensor))), generator)


def kaiming_uniform_(tensor, a=0, mode="fan_in", nonlinearity="leaky_relu", generator=None):
    """Uniform with variance gain^2 / fan (He et al., 2015)."""
    bound = calculate_gain(nonlinearity, a) * math.sqrt(3 / _fan(tensor, mode))
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(tensor, a=0, mode="fan_in", nonlinearity="leaky_relu", generator=None):
    """Normal with variance gain^2 / fan (He et al., 2015)."""
    std = calculate_gain(nonlinearity, a) / math.sqrt(_fan(tensor, mode))
    return normal_(tensor, 0.0, std, generator)
