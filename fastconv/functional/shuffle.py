"""Channels exchanged with pixels, and with each other."""

import numpy as np

from fastconv import _checks
from fastconv._memory import empty
from fastconv.autograd.engine import apply

__all__ = ["channel_shuffle", "pixel_shuffle", "pixel_unshuffle"]


def pixel_shuffle(input, upscale_factor):
    """Larger images of fewer channels: r^2 channels become the pixels of r x r squares [1]_.

    Parameters
    ----------
    input : Tensor or ndarray of shape (..., C r^2, H, W)
        float32 or float64, with any number of axes before the channels.
    upscale_factor : int
        r.

    Returns
    -------
    Tensor or ndarray of shape (..., C, H r, W r)
        Pixel (r y + i, r x + j) of channel c is pixel (y, x) of channel c r^2 + i r + j.

    Raises
    ------
    ValueError
        If r^2 does not divide the channels.
    TypeError
        For dtypes other than float32 or float64.

    References
    ----------
    .. [1] W. Shi et al., "Real-Time Single Image and Video Super-Resolution Using an Efficient
       Sub-Pixel Convolutional Neural Network", CVPR 2016.

    Examples
    --------
    >>> import numpy as np, fastconv.functional as F
    >>> F.pixel_shuffle(np.arange(4.0).reshape(4, 1, 1), 2)
    array([[[0., 1.],
            [2., 3.]]])
    """
    factor = _checks.integer("upscale_factor", upscale_factor, 1, _checks.LONGEST)
    return apply(_pixel_shuffle_rule, input, factor=factor)


def pixel_unshuffle(input, downscale_factor):
    """Smaller images of more channels: the inverse of :func:`pixel_shuffle`.

    Parameters
    ----------
    input : Tensor or ndarray of shape (..., C, H r, W r)
        float32 or float64, with any number of axes before the channels.
    downscale_factor : int
        r.

    Returns
    -------
    Tensor or ndarray of shape (..., C r^2, H, W)

    Raises
    ------
    ValueError
        If r does not divide both sizes of the image.
    TypeError
        For dtypes other than float32 or float64.

    Examples
    --------
    >>> import numpy as np, fastconv.functional as F
    >>> F.pixel_unshuffle(np.arange(4.0).reshape(1, 2, 2), 2).ravel()
    array([0., 1., 2., 3.])
    """
    factor = _checks.integer("downscale_factor", downscale_factor, 1, _checks.LONGEST)
    return apply(_pixel_unshuffle_rule, input, factor=factor)


def channel_shuffle(input, groups):
    """Channels dealt out anew: the first of each group, then the second of each, and so on [1]_.

    Parameters
    ----------
    input : Tensor or ndarray of shape (N, C, *spatial)
        float32 or float64, of any memory layout.
    groups : int
        Divides C.

    Returns
    -------
    Tensor or ndarray of the input's shape

    Raises
    ------
    ValueError
        If `groups` does not divide the channels.
    TypeError
        For dtypes other than float32 or float64.

    References
    ----------
    .. [1] X. Zhang et al., "ShuffleNet: An Extremely Efficient Convolutional Neural Network for
       Mobile Devices", CVPR 2018.

    Examples
    --------
    >>> import numpy as np, fastconv.functional as F
    >>> F.channel_shuffle(np.arange(6.0).reshape(1, 6, 1), 2).ravel()
    array([0., 3., 1., 4., 2., 5.])
    """
    groups = _checks.integer("groups", groups, minimum=1)
    return apply(_channel_shuffle_rule, input, groups=groups)


def _image(x):
    x = _checks.as_float_array("input", x)
    if x.ndim < 3:
        raise ValueError(
            f"input must have at least 3 axes (channels, height, width), got shape {x.shape}"
        )
    return x


def _pixel_shuffle_rule(needs, x, *, factor):
    x = _image(x)
    if x.shape[-3] % factor**2:
        raise ValueError(
            f"the square of upscale_factor must divide the {x.shape[-3]} channels of input, got "
            f"{factor}"
        )
    return _to_pixels(x, factor), lambda g: (_to_channels(g, factor),)


def _pixel_unshuffle_rule(needs, x, *, factor):
    x = _image(x)
    if x.shape[-2] % factor or x.shape[-1] % factor:
        raise ValueError(
            f"downscale_factor must divide the height and width of input, {x.shape[-2:]}, got "
            f"{factor}"
        )
    return _to_channels(x, factor), lambda g: (_to_pixels(g, factor),)


def _to_pixels(x, r):
    *lead, channels, height, width = x.shape
    parts = x.reshape(*lead, channels // r**2, r, r, height, width)
    y = empty((*lead, height * r, width * r, channels // r**2), x.dtype)
    into = y.reshape(*lead, height, r, width, r, channels // r**2)
    into[...] = np.moveaxis(parts, (-2, -4, -1, -3, -5), (-5, -4, -3, -2, -1))
    return np.moveaxis(y, -1, -3)


def _to_channels(x, r):
    *lead, channels, height, width = x.shape
    height, width = height // r, width // r
    parts = x.reshape(*lead, channels, height, r, width, r)
    y = empty((*lead, height, width, channels * r**2), x.dtype)
    into = y.reshape(*lead, height, width, channels, r, r)
    into[...] = np.moveaxis(parts, (-4, -2, -5, -3, -1), (-5, -4, -3, -2, -1))
    return np.moveaxis(y, -1, -3)


def _channel_shuffle_rule(needs, x, *, groups):
    x = _checks.as_float_array("input", x)
    if x.ndim < 3:
        raise ValueError(
            f"input must have at least 3 axes (batch, channels, spatial), got shape {x.shape}"
        )
    channels = x.shape[1]
    if channels % groups:
        raise ValueError(f"groups must divide the {channels} channels of input, got {groups}")
    of_group = channels // groups
    return _dealt(x, groups, of_group), lambda g: (_dealt(g, of_group, groups),)


def _dealt(x, rows, columns):
    """The channels, written to a table row by row, read from it column by column."""
    pixels = np.moveaxis(x, 1, -1)
    y = empty(pixels.shape, x.dtype)
    into = y.reshape(*pixels.shape[:-1], columns, rows)
    into[...] = pixels.reshape(*pixels.shape[:-1], rows, columns).swapaxes(-1, -2)
    return np.moveaxis(y, -1, 1)
