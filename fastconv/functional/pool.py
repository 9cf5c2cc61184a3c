"""Pooling: n inputs to a window, one output, strided or adaptive."""

import math

import numpy as np

from fastconv import _checks, _geometry
from fastconv._layout import channels_first, channels_last
from fastconv._memory import empty, zeros
from fastconv._threads import threads_for
from fastconv.autograd.engine import apply
from fastconv.autograd.ops import _astype
from fastconv.kernels import pool as kernels

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "lp_pool1d",
    "lp_pool2d",
    "lp_pool3d",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "max_unpool1d",
    "max_unpool2d",
    "max_unpool3d",
]

# Places of a maximum are kept as 32-bit numbers.
PLACES_MAX = 2**31 - 1


def max_pool1d(
    input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False
):
    """Largest value of each window along one axis; see :func:`max_pool2d`.

    Examples
    --------
    >>> import numpy as np, fastconv.functional as F
    >>> F.max_pool1d(np.array([[[1.0, 5.0, 2.0, 3.0]]]), 2)
    array([[[5., 3.]]])
    """
    return _max_pool(1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool2d(
    input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False
):
    """Largest value of each window of an image.

    Parameters
    ----------
    input : Tensor or ndarray of shape (N, C, H, W) or (C, H, W)
        float32 or float64, of any memory layout.
    kernel_size : int or tuple of int
    stride : int or tuple of int, default `kernel_size`
    padding : int, tuple of int, tuple of pairs, or str, default 0
        Places of minus infinity on both sides, at most half of `kernel_size`; more by pairs
        (before, after) for each axis, or "same_upper" and "same_lower" of :func:`conv2d`.
    dilation : int or tuple of int, default 1
    ceil_mode : bool, default False
        Let the last window reach beyond the input.
    return_indices : bool, default False
        Also return where each maximum stood.

    Returns
    -------
    Tensor or ndarray of shape (N, C, H', W')
        NaN wins over every number. Memory is channels-last.
    indices : ndarray of int64, same shape
        With `return_indices`: places in the flattened H * W, the first among equals.

    Raises
    ------
    ValueError, TypeError
        For a rank, option or dtype that does not fit; the message names it.

    Examples
    --------
    >>> import numpy as np, fastconv.functional as F
    >>> F.max_pool2d(np.arange(16.0).reshape(1, 1, 4, 4), 2)[0, 0]
    array([[ 5.,  7.],
           [13., 15.]])
    """
    return _max_pool(2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool3d(
    input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False
):
    """Largest value of each window of a volume; see :func:`max_pool2d`."""
    return _max_pool(3, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_unpool1d(input, indices, kernel_size, stride=None, padding=0, output_size=None):
    """Maxima back to where they stood along one axis; see :func:`max_unpool2d`.

    Examples
    --------
    >>> import numpy as np, fastconv.functional as F
    >>> F.max_unpool1d(np.array([[[5.0, 3.0]]]), np.array([[[1, 3]]]), 2)
    array([[[0., 5., 0., 3.]]])
    """
    return _max_unpool(1, input, indices, kernel_size, stride, padding, output_size)


def max_unpool2d(input, indices, kernel_size, stride=None, padding=0, output_size=None):
    """Maxima back to where :func:`max_pool2d` found them, zeros elsewhere.

    Parameters
    ----------
    input : Tensor or ndarray of shape (N, C, H, W) or (C, H, W)
        float32 or float64, of any memory layout.
    indices : ndarray of int64, same shape
        Places in the flattened output, as ``max_pool2d(..., return_indices=True)`` gives them.
        Of values with the same place the last one stays, and each gets its gradient.
    kernel_size, stride, padding : int or tuple of int
        Of the pool.
    output_size : tuple of int, optional
        Spatial sizes of the result, which those of the pool's input may be, as far as less than
        `stride` from the usual (H - 1) stride - 2 padding + kernel_size. Those of batch and
        channels may stand before them.

    Returns
    -------
    Tensor or ndarray of shape (N, C, *output_size)
        Memory is channels-last.

    Raises
    ------
    ValueError, TypeError
        For a rank, option, dtype or index that does not fit; the message names it.

    Examples
    --------
    >>> import numpy as np, fastconv.functional as F
    >>> x = np.arange(16.0).reshape(1, 1, 4, 4)
    >>> y, indices = F.max_pool2d(x, 2, return_indices=True)
    >>> F.max_unpool2d(y, indices, 2)[0, 0]
    array([[ 0.,  0.,  0.,  0.],
           [ 0.,  5.,  0.,  7.],
           [ 0.,  0.,  0.,  0.],
           [ 0., 13.,  0., 15.]])
    """
    return _max_unpool(2, input, indices, kernel_size, stride, padding, output_size)


def max_unpool3d(input, indices, kernel_size, stride=None, padding=0, output_size=None):
    """Maxima of a volume back to where they stood; see :func:`max_unpool2d`.

    Examples
    --------
    >>> import numpy as np, fastconv.functional as F
    >>> y, indices = F.max_pool3d(np.ones((1, 1, 2, 4, 6)), 2, return_indices=True)
    >>> F.max_unpool3d(y, indices, 2).sum() == y.size == 6
    True
    """
    return _max_unpool(3, input, indices, kernel_size, stride, padding, output_size)


def avg_pool1d(input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True):
    """Mean of each window along one axis; see :func:`avg_pool2d`.

    Examples
    --------
    >>> import numpy as np, fastconv.functional as F
    >>> F.avg_pool1d(np.array([[[1.0, 5.0, 2.0, 3.0]]]), 2)
    array([[[3. , 2.5]]])
    """
    return _avg_pool(1, input, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


def avg_pool2d(
    input,
    kernel_size,
    stride=None,
    padding=0,
    ceil_mode=False,
    count_include_pad=True,
    divisor_override=None,
):
    """Mean of each window of an image.

    Parameters
    ----------
    input : Tensor or ndarray of shape (N, C, H, W) or (C, H, W)
        float32 or float64, of any memory layout.
    kernel_size : int or tuple of int
    stride : int or tuple of int, default `kernel_size`
    padding : int, tuple of int, tuple of pairs, or str, default 0
        Zeros on both sides, as in :func:`max_pool2d`.
    ceil_mode : bool, default False
        Let the last window reach beyond the padded input; what is beyond does not count.
    count_include_pad : bool, default True
        Whether the zeros count in the mean.
    divisor_override : int, optional
        Divide each window's sum by this instead of its number of places.

    Returns
    -------
    Tensor or ndarray of shape (N, C, H', W')
        Memory is channels-last.

    Raises
    ------
    ValueError, TypeError
        For a rank, option or dtype that does not fit; the message names it.

    Examples
    --------
    >>> import numpy as np, fastconv.functional as F
    >>> F.avg_pool2d(np.arange(16.0).reshape(1, 1, 4, 4), 2)[0, 0]
    array([[ 2.5,  4.5],
           [10.5, 12.5]])
    """
    return _avg_pool(
        2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


def avg_pool3d(
    input,
    kernel_size,
    stride=None,
    padding=0,
    ceil_mode=False,
    count_include_pad=True,
    divisor_override=None,
):
    """Mean of each window of a volume; see :func:`avg_pool2d`."""
    return _avg_pool(
        3, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


def lp_pool1d(input, norm_type, kernel_size, stride=None, ceil_mode=False):
    """Lp norm of each window along one axis; see :func:`lp_pool2d`.

    Examples
    --------
    >>> import numpy as np, fastconv.functional as F
    >>> F.lp_pool1d(np.array([[[3.0, 4.0, 6.0, 8.0]]]), 2, 2)
    array([[[ 5., 10.]]])
    """
    return _lp_pool(1, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool2d(input, norm_type, kernel_size, stride=None, ceil_mode=False):
    """Lp norm of each window of an image: (sum x^p)^(1/p).

    Parameters
    ----------
    input : Tensor or ndarray of shape (N, C, H, W) or (C, H, W)
        float32 or float64, of any memory layout.
    norm_type : float
        p > 0. As in PyTorch the powers are of x, not of its absolute value, and a window
        with a negative sum of powers gives NaN unless 1/p is whole. Infinity is the maximum of
        the absolute values.
    kernel_size : int or tuple of int
    stride : int or tuple of int, default `kernel_size`
    ceil_mode : bool, default False
        Let the last window reach beyond the input; its sum is scaled up to a full window's.

    Returns
    -------
    Tensor or ndarray of shape (N, C, H', W')
        Memory is channels-last. The gradient of a window of zeros is 0 (where PyTorch's is
        NaN).

    Raises
    ------
    ValueError, TypeError
        For a rank, option or dtype that does not fit; the message names it.

    Examples
    --------
    >>> import numpy as np, fastconv.functional as F
    >>> F.lp_pool2d(np.full((1, 1, 2, 2), 3.0), 2, 2)
    array([[[[6.]]]])
    """
    return _lp_pool(2, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool3d(input, norm_type, kernel_size, stride=None, ceil_mode=False):
    """Lp norm of each window of a volume; see :func:`lp_pool2d`."""
    return _lp_pool(3, input, norm_type, kernel_size, stride, ceil_mode)


def adaptive_avg_pool1d(input, output_size):
    """Mean over as many windows as asked for; see :func:`adaptive_avg_pool2d`."""
    return apply(_adaptive_avg_rule, input, n=1, output_size=output_size)


def adaptive_avg_pool2d(input, output_size):
    """Mean over as many windows as asked for, for an input of any size.

    Parameters
    ----------
    input : Tensor or ndarray of shape (N, C, H, W) or (C, H, W)
    output_size : int or tuple of int or None
        None keeps an axis. Window i of n along an axis of length L is
        [floor(i L / n), ceil((i + 1) L / n)).

    Returns
    -------
    Tensor or ndarray of shape (N, C, *output_size)

    Raises
    ------
    ValueError, TypeError
        For a rank, option or dtype that does not fit; the message names it.

    Examples
    --------
    >>> import numpy as np, fastconv.functional as F
    >>> F.adaptive_avg_pool2d(np.arange(6.0).reshape(1, 1, 2, 3), 1)
    array([[[[2.5]]]])
    """
    return apply(_adaptive_avg_rule, input, n=2, output_size=output_size)


def adaptive_avg_pool3d(input, output_size):
    """Mean over as many windows as asked for; see :func:`adaptive_avg_pool2d`."""
    return apply(_adaptive_avg_rule, input, n=3, output_size=output_size)


def adaptive_max_pool1d(input, output_size, return_indices=False):
    """Maximum over as many windows as asked for; see :func:`adaptive_max_pool2d`."""
    return _adaptive_max_pool(1, input, output_size, return_indices)


def adaptive_max_pool2d(input, output_size, return_indices=False):
    """Maximum over as many windows as asked for, for an input of any size.

    Parameters
    ----------
    input : Tensor or ndarray of shape (N, C, H, W) or (C, H, W)
    output_size : int or tuple of int or None
        As in :func:`adaptive_avg_pool2d`.
    return_indices : bool, default False
        Also return where each maximum stood, as :func:`max_pool2d` does.

    Returns
    -------
    Tensor or ndarray of shape (N, C, *output_size), and the indices if asked for

    Examples
    --------
    >>> import numpy as np, fastconv.functional as F
    >>> F.adaptive_max_pool2d(np.arange(6.0).reshape(1, 1, 2, 3), (1, None))
    array([[[[3., 4., 5.]]]])
    """
    return _adaptive_max_pool(2, input, output_size, return_indices)


def adaptive_max_pool3d(input, output_size, return_indices=False):
    """Maximum over as many windows as asked for; see :func:`adaptive_max_pool2d`."""
    return _adaptive_max_pool(3, input, output_size, return_indices)


def _max_pool(n, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices):
    options = (kernel_size, stride, padding, dilation, ceil_mode)
    result, index = apply(_max_rule, input, n=n, options=options)
    return (result, _whole(index)) if return_indices else result


def max_pool_of_relu(n, input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False):
    """``max_pool(relu(input))``, exactly, values and gradient, without the pass of ReLU.

    The two commute: the maximum of what is larger than 0, and 0, without a gradient, where
    nothing is.
    """
    options = (kernel_size, stride, padding, dilation, ceil_mode)
    return apply(_max_rule, input, n=n, options=options, floor=0.0)[0]


def _adaptive_max_pool(n, input, output_size, return_indices):
    result, index = apply(_adaptive_max_rule, input, n=n, output_size=output_size)
    return (result, _whole(index)) if return_indices else result


def _whole(index):
    return apply(_astype, index, dtype=np.dtype(np.int64))


def _max_unpool(n, input, indices, kernel_size, stride, padding, output_size):
    options = (kernel_size, stride, padding, output_size)
    return apply(_max_unpool_rule, input, indices, n=n, options=options)


def _avg_pool(n, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor):
    if divisor is not None:
        divisor = _checks.integer("divisor_override", divisor)
        if divisor == 0:
            raise ValueError("divisor_override must not be 0")
    options = (kernel_size, stride, padding, 1, ceil_mode, count_include_pad)
    return apply(_avg_rule, input, n=n, options=options, divisor=divisor)


def _lp_pool(n, input, norm_type, kernel_size, stride, ceil_mode):
    power = _checks.real("norm_type", norm_type, finite=False)
    if not power > 0:
        raise ValueError(f"norm_type must be positive, got {norm_type}")
    if power == math.inf:
        return _max_pool(n, abs(input), kernel_size, stride, 0, 1, ceil_mode, False)
    return apply(_lp_rule, input, n=n, options=(kernel_size, stride, 0, 1, ceil_mode), power=power)


def _image(x, n):
    """The checked input, with a batch axis, and whether that axis is new."""
    return _checks.batched("input", _checks.as_float_array("input", x), n)


def _max_rule(needs, x, *, n, options, floor=-math.inf):
    x, unbatched = _image(x, n)
    return _max_over(x, _geometry.strided_windows(x.shape[2:], *options), unbatched, floor)


def _adaptive_max_rule(needs, x, *, n, output_size):
    x, unbatched = _image(x, n)
    return _max_over(x, _geometry.adaptive_windows(x.shape[2:], output_size), unbatched)


def _avg_rule(needs, x, *, n, options, divisor):
    x, unbatched = _image(x, n)
    windows = _geometry.strided_windows(x.shape[2:], *options)
    if divisor is not None:
        ones = np.ones_like(windows.divisor)
        ones[: windows.first_axis] = divisor
        windows = windows._replace(divisor=ones)
    return _mean_over(x, windows, unbatched)


def _adaptive_avg_rule(needs, x, *, n, output_size):
    return adaptive_avg(*_image(x, n), output_size)


def adaptive_avg(x, unbatched, output_size):
    """(result, backward) of the checked `x`, (N, C, *spatial)."""
    return _mean_over(x, _geometry.adaptive_windows(x.shape[2:], output_size), unbatched)


def _max_over(x, windows, unbatched, floor=-math.inf):
    image = channels_last(x)
    shape, ndim = image.shape, x.ndim
    if shape[1] * shape[2] * shape[3] > PLACES_MAX:
        raise ValueError(
            f"input must have at most {PLACES_MAX} places to an image, got sizes {x.shape[2:]}"
        )
    y = empty((shape[0], *_geometry.three(windows.output, 1), shape[4]), x.dtype)
    index = empty(y.shape, np.intc)
    if y.size:
        kernels.max_pool(image, y, index, windows.windows, floor, threads_for(image.size))

    def backward(g):
        dy = channels_last(g[None] if unbatched else g)
        dx = empty(shape, dy.dtype)
        if dx.size:
            kernels.max_pool_backward(dy, index, dx, windows.cover, threads_for(dx.size))
        return (_logical(dx, ndim, unbatched),)

    return _logical(y, ndim, unbatched), backward, _logical(index, ndim, unbatched)


def _max_unpool_rule(needs, x, indices, *, n, options):
    x, unbatched = _image(x, n)
    output = _geometry.unpooled_sizes(x.shape[2:], *options)
    places = math.prod(output)
    indices = _checks.as_array("indices", indices)
    indices = _checks.batched("indices", indices, n)[0] if unbatched else indices
    _checks.shape_is("indices", indices, x.shape, "the input's")
    if indices.dtype.kind not in "iu":
        raise TypeError(f"indices must have an integer dtype, got {indices.dtype}")
    if indices.size:
        low, high = int(indices.min()), int(indices.max())
        if low < 0 or high >= places:
            raise ValueError(
                f"indices must be in [0, {places}), the places of an output of {output}, got "
                f"{low if low < 0 else high}"
            )
    count, channels, *size = x.shape
    index = indices.transpose(0, *range(2, x.ndim), 1).astype(np.int64, order="C", copy=False)
    index = index.reshape(count, math.prod(size), channels)
    y = zeros((count, *_geometry.three(output, 1), channels), x.dtype)
    ndim = x.ndim
    if x.size:
        kernels.max_unpool(
            channels_last(x).reshape(index.shape),
            index,
            y.reshape(count, places, channels),
            threads_for(x.size),
        )

    def backward(g):
        dy = channels_last(g[None] if unbatched else g).reshape(count, places, channels)
        dx = empty((count, *_geometry.three(size, 1), channels), dy.dtype)
        if dx.size:
            kernels.max_unpool_backward(dy, index, dx.reshape(index.shape), threads_for(dx.size))
        return _logical(dx, ndim, unbatched), None

    return _logical(y, ndim, unbatched), backward


def _mean_over(x, windows, unbatched):
    shape, ndim = channels_last(x).shape, x.ndim
    y = _sums(channels_last(x), windows, 1.0)

    def backward(g):
        dy = channels_last(g[None] if unbatched else g)
        return (_logical(_spread(dy, shape, windows), ndim, unbatched),)

    return _logical(y, ndim, unbatched), backward


def _lp_rule(needs, x, *, n, options, power):
    x, unbatched = _image(x, n)
    windows = _geometry.strided_windows(x.shape[2:], *options)
    # PyTorch's definition is (mean x^p) * (places of a full window): divide by the share of
    # the window that is inside.
    windows = windows._replace(divisor=windows.divisor / windows.full)
    image = channels_last(x)
    ndim = x.ndim
    sums = _sums(image, windows, power)
    with np.errstate(invalid="ignore"):  # NaN for a negative sum is the documented result
        y = np.power(sums, np.asarray(1 / power, sums.dtype))

    def backward(g):
        dy = channels_last(g[None] if unbatched else g)
        # y = s^(1/p), s = sum x^p:  dx = dy s^(1/p - 1) x^(p - 1), and 0 where s = 0
        with np.errstate(invalid="ignore", divide="ignore"):
            slope = np.where(sums == 0, 0, y / sums)
            dx = _spread(dy * slope, image.shape, windows)
            dx *= np.where(image == 0, float(power == 1), np.power(image, power - 1))
        return (_logical(dx, ndim, unbatched),)

    return _logical(y, ndim, unbatched), backward


def _sums(image, windows, power):
    """Sums of powers over the windows, divided by their divisors."""
    n, *_, c = image.shape
    y = empty((n, *_geometry.three(windows.output, 1), c), image.dtype)
    if y.size:
        kernels.sum_pool(image, y, windows.windows, windows.divisor, power, threads_for(image.size))
    return y


def _spread(dy, shape, windows):
    """The adjoint of `_sums` with power 1: each value, divided, to its window's places."""
    dx = empty(shape, dy.dtype)
    if dx.size:
        kernels.sum_pool_backward(dy, dx, windows.cover, windows.divisor, threads_for(dx.size))
    return dx


def _logical(y, ndim, unbatched):
    y = channels_first(y, ndim)
    return y[0] if unbatched else y
