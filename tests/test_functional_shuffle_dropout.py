"""Pixel and channel shuffle place by place; dropout of whole channels and alpha dropout."""

from functools import partial

import numpy as np
import pytest
from conftest import assert_same_for_any_layout, forward_backward, integers
from numpy.testing import assert_allclose, assert_array_equal
from strategies import DTYPES

import fastconv
import fastconv.functional as F
from fastconv import Tensor, nn

every_dtype = pytest.mark.parametrize("dtype", DTYPES)


def pixel_shuffled(x, r):
    *lead, channels, height, width = x.shape
    y = np.empty((*lead, channels // r**2, height * r, width * r))
    for c, i, j in np.ndindex(channels // r**2, r, r):
        y[..., c, i::r, j::r] = x[..., c * r**2 + i * r + j, :, :]
    return y


def channel_shuffled(x, groups):
    y = np.empty(x.shape)
    for group, i in np.ndindex(groups, x.shape[1] // groups):
        y[:, i * groups + group] = x[:, group * (x.shape[1] // groups) + i]
    return y


@pytest.mark.parametrize(
    ("shape", "r"),
    [((4, 3, 5), 2), ((2, 8, 3, 4), 2), ((2, 3, 9, 2, 1), 3), ((2, 3, 4, 5), 1), ((0, 4, 2, 2), 2)],
)
@every_dtype
def test_pixel_shuffle(shape, r, dtype, rng):
    """A permutation: the gradient goes back the same way."""
    x = integers(rng, shape, dtype)
    y, (dx,) = forward_backward(partial(F.pixel_shuffle, upscale_factor=r), x)
    assert_array_equal(y, pixel_shuffled(x, r))
    grad = integers(np.random.default_rng(1), y.shape, dtype)
    assert_array_equal(pixel_shuffled(dx, r), grad)
    back, (dy,) = forward_backward(partial(F.pixel_unshuffle, downscale_factor=r), y)
    assert_array_equal(back, x)
    grad = integers(np.random.default_rng(1), x.shape, dtype)
    assert_array_equal(dy, pixel_shuffled(grad, r))
    assert {a.dtype for a in (y, dx, back, dy)} == {np.dtype(dtype)}


@pytest.mark.parametrize("shape", [(2, 6, 4), (2, 6, 3, 5), (1, 6, 2, 1, 3), (2, 6, 0)], ids=str)
@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_channel_shuffle(shape, groups, rng):
    x = integers(rng, shape)
    y, (dx,) = forward_backward(partial(F.channel_shuffle, groups=groups), x)
    assert_array_equal(y, channel_shuffled(x, groups))
    grad = integers(np.random.default_rng(1), shape)
    assert_array_equal(channel_shuffled(dx, groups), grad)


@pytest.mark.parametrize(
    "function",
    [
        partial(F.pixel_shuffle, upscale_factor=2),
        partial(F.pixel_unshuffle, downscale_factor=2),
        partial(F.channel_shuffle, groups=4),
    ],
)
@every_dtype
def test_shuffles_memory_layouts(function, dtype, rng):
    x = integers(rng, (3, 8, 4, 6), dtype)
    assert_same_for_any_layout(function, x)
    assert function(x).transpose(0, 2, 3, 1).flags.c_contiguous  # what kernels read


def test_unflatten(rng):
    x = Tensor(rng.normal(size=(2, 12, 3)), requires_grad=True)
    for sizes in ((3, 4), (3, -1), (-1, 4), (2, 1, 6)):
        y = x.unflatten(1, sizes)
        assert_array_equal(y.data, x.data.reshape(2, *sizes, 3))
        assert_array_equal(nn.Unflatten(-2, sizes)(x).data, y.data)
    grad = rng.normal(size=y.shape)
    y.backward(grad)
    assert_array_equal(x.grad, grad.reshape(2, 12, 3))


# Dropout

CHANNELS = {1: F.dropout1d, 2: F.dropout2d, 3: F.dropout3d}


@pytest.mark.parametrize("n", CHANNELS)
@pytest.mark.parametrize("batched", [True, False])
@every_dtype
def test_whole_channels_fall(n, batched, dtype):
    channels = (30, 40) if batched or n == 2 else (1200,)
    shape = (*channels, *[3] * (n if batched else n - 1 if n == 2 else n))
    x, grad = np.full(shape, 3, dtype), np.full(shape, 2, dtype)
    out, (dx,) = forward_backward(partial(CHANNELS[n], p=0.2), x, grad=grad)
    flat, slopes = out.reshape(1200, -1), dx.reshape(1200, -1)
    kept = flat[:, 0] != 0
    assert_array_equal(flat, np.broadcast_to(flat[:, :1], flat.shape))
    assert_allclose(flat[kept], 3 / 0.8, rtol=1e-6)
    assert_allclose(slopes, flat * (2 / 3), rtol=1e-6)
    assert abs(kept.mean() - 0.8) < 6 * np.sqrt(0.2 * 0.8 / 1200)
    assert out.dtype == dx.dtype == dtype
    assert CHANNELS[n](x, training=False) is x
    assert (CHANNELS[n](x, 0.5, inplace=True) == x).all()


@every_dtype
def test_alpha_dropout(dtype, rng):
    """Mean 0 and variance 1 stay, and what has fallen has one value and no gradient."""
    x = rng.normal(size=(300, 400)).astype(dtype)
    out, (dx,) = forward_backward(
        partial(F.alpha_dropout, p=0.3, training=True), x, grad=np.ones_like(x)
    )
    fell = dx == 0
    low = -1.0507009873554805 * 1.6732632423543772
    scale = (0.7 * (1 + 0.3 * low**2)) ** -0.5
    assert abs(fell.mean() - 0.3) < 6 * np.sqrt(0.3 * 0.7 / x.size)
    assert_allclose(out[fell], scale * 0.7 * low, rtol=1e-6)
    expected = scale * (x[~fell].astype(np.float64) - 0.3 * low)
    assert_allclose(out[~fell], expected, rtol=0, atol=1e-6)
    assert_allclose(dx[~fell], scale, rtol=1e-6)
    assert abs(out.mean()) < 0.02
    assert abs(out.std() - 1) < 0.02
    assert out.dtype == dx.dtype == dtype
    assert F.alpha_dropout(x) is x
    assert_array_equal(F.alpha_dropout(x, 1.0, True), 0 * x)


@pytest.mark.parametrize(
    "function", [F.dropout1d, F.dropout2d, F.dropout3d, partial(F.alpha_dropout, training=True)]
)
def test_dropouts_in_any_layout_and_from_a_seed(function):
    def seeded(x):
        fastconv.manual_seed(5)
        return function(x, 0.4)

    shape = {F.dropout1d: (3, 5, 4), F.dropout3d: (3, 5, 4, 2, 2)}.get(function, (3, 5, 4, 6))
    assert_same_for_any_layout(seeded, np.ones(shape))


X = np.zeros((2, 8, 3, 5))


@pytest.mark.parametrize(
    ("call", "raises", "says"),
    [
        (lambda: F.pixel_shuffle(X, 3), ValueError, "upscale_factor must divide the 8 channels"),
        (lambda: F.pixel_shuffle(X, 0), ValueError, "upscale_factor must be at least 1, got 0"),
        (lambda: F.pixel_shuffle(X, 2.0), TypeError, "upscale_factor must be an integer, got 2.0"),
        (lambda: F.pixel_shuffle(X[0, 0], 1), ValueError, "input must have at least 3 axes"),
        (
            lambda: F.pixel_unshuffle(X, 3),
            ValueError,
            r"width of input, \(3, 5\), got 3",
        ),
        (lambda: F.pixel_unshuffle(X, 10**30), ValueError, "downscale_factor must be at most"),
        (lambda: F.channel_shuffle(X, 3), ValueError, "groups must divide the 8 channels of input"),
        (lambda: F.channel_shuffle(X[:, :, 0, 0], 2), ValueError, "at least 3 axes"),
        (lambda: F.channel_shuffle(X.astype(int), 2), TypeError, "input must have dtype float32"),
        (lambda: F.dropout1d(X), ValueError, "input must have 3 or 2 axes, got shape"),
        (lambda: F.dropout2d(X[0, 0]), ValueError, "input must have 4 or 3 axes, got shape"),
        (lambda: F.dropout3d(X[0], training=False), ValueError, "input must have 5 or 4 axes"),
        (lambda: F.dropout2d(X, 1.5), ValueError, r"p must be in \[0, 1\], got 1.5"),
        (lambda: F.alpha_dropout(X, -0.1), ValueError, r"p must be in \[0, 1\], got -0.1"),
        (lambda: Tensor(X).unflatten(1, (3, 4)), ValueError, "sizes must have the product 8"),
        (lambda: Tensor(X).unflatten(1, (3, -1)), ValueError, "sizes must have the product 8"),
        (lambda: Tensor(X).unflatten(4, (8,)), ValueError, r"dim must be in \[-4, 4\), got 4"),
        (lambda: nn.Unflatten(1, (-1, -1)), ValueError, "unflattened_size must hold -1 once"),
        (lambda: nn.Unflatten(1, 8), ValueError, "unflattened_size must be a sequence"),
        (lambda: nn.PixelShuffle(0), ValueError, "upscale_factor must be at least 1"),
    ],
)
def test_wrong_arguments(call, raises, says):
    with pytest.raises(raises, match=says):
        call()
