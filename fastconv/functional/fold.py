"""im2col and col2im: the windows of an image as columns, and back."""

import math

import numpy as np

from fastconv import _checks, _geometry
from fastconv._layout import logical_order
from fastconv._memory import empty
from fastconv._threads import threads_for
from fastconv.autograd.engine import Tensor, apply
from fastconv.kernels import im2col as kernels

__all__ = ["col2im", "fold", "im2col", "unfold"]


def im2col(input, kernel_size, stride=1, padding=0, dilation=1):
    """Columns of an image's windows, in one, two or three spatial dimensions.

    Parameters
    ----------
    input : Tensor or ndarray of shape (N, C, *spatial)
        float32 or float64; one to three spatial axes.
    kernel_size, stride, dilation : int or tuple of int
    padding : int, tuple of int, tuple of pairs, "same" or "valid"
        Zeros around the input; pairs are (before, after).

    Returns
    -------
    Tensor or ndarray of shape (N, C * prod(kernel_size), L)
        Column l holds window l: all taps of channel 0, then of channel 1, and so on. L is
        the number of windows, prod of floor((size + before + after - dilation
        (kernel_size - 1) - 1) / stride) + 1.

    Raises
    ------
    ValueError, TypeError
        For a rank, option or dtype that does not fit; the message names it.

    See Also
    --------
    col2im : its adjoint.

    Notes
    -----
    Needs prod(kernel_size) / prod(stride) times the memory of the input; convolution itself never
    forms this matrix.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.im2col(np.arange(5.0).reshape(1, 1, 5), 3)[0]
    array([[0., 1., 2.],
           [1., 2., 3.],
           [2., 3., 4.]])
    """
    return apply(
        _im2col_rule,
        input,
        kernel_size=kernel_size,
        stride=stride,
        padding=padding,
        dilation=dilation,
    )


def col2im(input, output_size, kernel_size, stride=1, padding=0, dilation=1):
    """Add the columns of windows into an image: the adjoint of :func:`im2col`.

    Parameters
    ----------
    input : Tensor or ndarray of shape (N, C * prod(kernel_size), L)
        The columns.
    output_size : int or tuple of int
        Spatial sizes of the image, one to three; an int means one.
    kernel_size, stride, padding, dilation
        As in :func:`im2col`.

    Returns
    -------
    Tensor or ndarray of shape (N, C, *output_size)
        Entries that came from the same place are added; those from the padding are dropped.

    Raises
    ------
    ValueError, TypeError
        If the rows of the input are not a multiple of the kernel's taps, or the columns are not
        as many as there are windows.

    Examples
    --------
    Each place is counted once for every window it is in:

    >>> import numpy as np, fastconv
    >>> fastconv.col2im(np.ones((1, 3, 3)), 5, 3)[0, 0]
    array([1., 2., 3., 2., 1.])
    """
    return apply(
        _col2im_rule,
        input,
        size=output_size if _checks.is_sequence(output_size) else (output_size,),
        kernel_size=kernel_size,
        stride=stride,
        padding=padding,
        dilation=dilation,
    )


def unfold(input, kernel_size, dilation=1, padding=0, stride=1):
    """:func:`im2col` in two dimensions, with PyTorch's order of arguments.

    Parameters
    ----------
    input : Tensor or ndarray of shape (N, C, H, W) or (C, H, W)
    kernel_size, dilation, padding, stride : int or tuple of int

    Returns
    -------
    Tensor or ndarray of shape (N, C * kH * kW, L)

    Examples
    --------
    >>> import numpy as np, fastconv.functional as F
    >>> F.unfold(np.ones((1, 2, 4, 5)), (2, 3)).shape
    (1, 12, 9)
    """
    if not isinstance(input, Tensor):
        input = _checks.as_float_array("input", input)
    if np.ndim(input) == 3:
        return unfold(input[None], kernel_size, dilation, padding, stride)[0]
    if np.ndim(input) != 4:
        raise ValueError(f"input must have 4 axes, or 3 without batch, got {np.shape(input)}")
    return im2col(input, kernel_size, stride, padding, dilation)


def fold(input, output_size, kernel_size, dilation=1, padding=0, stride=1):
    """:func:`col2im` in two dimensions, with PyTorch's order of arguments.

    Parameters
    ----------
    input : Tensor or ndarray of shape (N, C * kH * kW, L) or (C * kH * kW, L)
    output_size : int or tuple of int
    kernel_size, dilation, padding, stride : int or tuple of int

    Returns
    -------
    Tensor or ndarray of shape (N, C, *output_size)

    Examples
    --------
    >>> import numpy as np, fastconv.functional as F
    >>> F.fold(np.ones((1, 12, 9)), (4, 5), (2, 3)).shape
    (1, 2, 4, 5)
    """
    if not isinstance(input, Tensor):
        input = _checks.as_float_array("input", input)
    if np.ndim(input) == 2:
        return fold(input[None], output_size, kernel_size, dilation, padding, stride)[0]
    size = _checks.integers("output_size", output_size, 2, minimum=1)
    return col2im(input, size, kernel_size, stride, padding, dilation)


def _im2col_rule(needs, x, *, kernel_size, stride, padding, dilation):
    x = _checks.as_float_array("input", x)
    if not 3 <= x.ndim <= 5:
        raise ValueError(
            f"input must have 3 to 5 axes (batch, channels, 1 to 3 spatial), got shape {x.shape}"
        )
    kernel = _checks.integers("kernel_size", kernel_size, x.ndim - 2, minimum=1)
    geometry = _geometry.convolution(x.shape[2:], kernel, stride, padding, dilation)
    size = x.shape[2:]
    return _im2col(x, geometry), lambda g: (_col2im(g, size, geometry),)


def _col2im_rule(needs, cols, *, size, kernel_size, stride, padding, dilation):
    cols = _checks.as_float_array("input", cols)
    if not 1 <= len(size) <= 3:
        raise ValueError(f"output_size must have 1 to 3 spatial sizes, got {tuple(size)}")
    size = _checks.integers("output_size", size, len(size), minimum=1)
    kernel = _checks.integers("kernel_size", kernel_size, len(size), minimum=1)
    geometry = _geometry.convolution(size, kernel, stride, padding, dilation)
    taps, windows = math.prod(kernel), math.prod(geometry.output)
    if cols.ndim != 3 or cols.shape[1] % taps or cols.shape[2] != windows:
        raise ValueError(
            f"input must have shape (N, C * {taps}, {windows}) for kernel_size={kernel} and "
            f"output_size={size}, got {cols.shape}"
        )
    return _col2im(cols, size, geometry), lambda g: (_im2col(g, geometry),)


def _im2col(x, geometry):
    n, c = x.shape[:2]
    taps, windows = math.prod(geometry.kernel), math.prod(geometry.output)
    cols = empty((n, c, taps, windows), x.dtype)
    if cols.size:
        image = x.reshape(n, c, *geometry.size)
        kernels.im2col(image, cols, geometry.frame.packed, threads_for(cols.size))
    return cols.reshape(n, c * taps, windows)


def _col2im(cols, size, geometry):
    n, taps = cols.shape[0], math.prod(geometry.kernel)
    c = cols.shape[1] // taps
    image = empty((n, c, *geometry.size), cols.dtype)
    if image.size:
        cols = logical_order(cols).reshape(n, c, taps, -1)
        kernels.col2im(cols, image, geometry.frame.packed, threads_for(cols.size))
    return image.reshape(n, c, *size)
