"""Maximum, average, Lp and adaptive pools against their definitions, in values and gradients."""

import math
from functools import partial

import naive
import numpy as np
import pytest
from conftest import (
    assert_same_for_any_layout,
    assert_same_for_any_threads,
    forward_backward,
    integers,
)
from hypothesis import given
from numpy.testing import assert_allclose, assert_array_equal
from strategies import DTYPES, pools, seeds

import fastconv
import fastconv.functional as F
from fastconv.functional.pool import max_pool_of_relu

MAX = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
AVG = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
LP = {1: F.lp_pool1d, 2: F.lp_pool2d, 3: F.lp_pool3d}
ADAPTIVE_MAX = {1: F.adaptive_max_pool1d, 2: F.adaptive_max_pool2d, 3: F.adaptive_max_pool3d}
ADAPTIVE_AVG = {1: F.adaptive_avg_pool1d, 2: F.adaptive_avg_pool2d, 3: F.adaptive_avg_pool3d}

# Pools that every kind of pool knows.
CASES = {
    "1d": ((2, 3, 11), {"kernel_size": 2}),
    "1d overlap": ((2, 5, 17), {"kernel_size": 5, "stride": 2}),
    "1d stride above kernel": ((2, 3, 17), {"kernel_size": 2, "stride": 5}),
    "1d one output": ((2, 3, 7), {"kernel_size": 7}),
    "1d ceil": ((2, 3, 10), {"kernel_size": 3, "stride": 4, "ceil_mode": True}),
    "1d many channels": ((3, 37, 90), {"kernel_size": 3, "stride": 2}),
    "2d": ((2, 3, 8, 11), {"kernel_size": 2}),
    "2d not square": ((2, 3, 9, 12), {"kernel_size": (2, 3), "stride": (3, 1)}),
    "2d kernel of one": ((2, 3, 5, 4), {"kernel_size": 1, "stride": (2, 1)}),
    "2d stride above kernel": ((2, 3, 13, 9), {"kernel_size": (2, 1), "stride": (5, 3)}),
    "2d whole image": ((3, 4, 5, 6), {"kernel_size": (5, 6)}),
    "2d ceil": ((2, 3, 8, 9), {"kernel_size": (3, 2), "stride": (3, 4), "ceil_mode": True}),
    "2d ceil, kernel above image": (
        (1, 2, 3, 5),
        {"kernel_size": (4, 2), "stride": 2, "ceil_mode": True},
    ),
    "2d single channel": ((1, 1, 7, 6), {"kernel_size": (3, 2), "stride": 1}),
    "2d 16 channels": ((2, 16, 12, 10), {"kernel_size": 3, "stride": 2}),
    "2d large": ((4, 17, 40, 50), {"kernel_size": (3, 2), "stride": 2}),
    "2d many images": ((37, 3, 5, 7), {"kernel_size": 2}),
    "3d": ((2, 3, 4, 6, 5), {"kernel_size": 2}),
    "3d not cubic": ((1, 3, 6, 7, 8), {"kernel_size": (1, 3, 2), "stride": (2, 1, 3)}),
    "3d ceil": ((1, 2, 5, 6, 7), {"kernel_size": (2, 4, 3), "stride": 3, "ceil_mode": True}),
    "3d large": ((2, 9, 12, 14, 15), {"kernel_size": 3, "stride": 2}),
}
PADDED = {
    "1d padding": ((2, 3, 11), {"kernel_size": 4, "stride": 3, "padding": 2}),
    "2d padding": ((2, 3, 9, 8), {"kernel_size": 3, "stride": 2, "padding": 1}),
    "2d padding, not square": (
        (2, 3, 9, 8),
        {"kernel_size": (5, 2), "stride": (1, 3), "padding": (2, 1)},
    ),
    "2d padding, ceil": (
        (2, 3, 9, 8),
        {"kernel_size": (3, 5), "stride": (2, 4), "padding": (1, 2), "ceil_mode": True},
    ),
    "2d padding, one pixel": ((2, 3, 1, 2), {"kernel_size": (3, 4), "padding": (1, 2)}),
    "3d padding, ceil": (
        (1, 3, 5, 6, 4),
        {"kernel_size": (3, 2, 4), "stride": 3, "padding": (1, 0, 2), "ceil_mode": True},
    ),
}
DILATED = {
    "1d dilation": ((2, 3, 19), {"kernel_size": 3, "stride": 2, "padding": 1, "dilation": 4}),
    "2d dilation": ((2, 3, 12, 9), {"kernel_size": (3, 2), "dilation": (2, 3), "stride": 2}),
    "2d dilation, padding, ceil": (
        (2, 3, 12, 9),
        {
            "kernel_size": (2, 4),
            "dilation": (3, 2),
            "stride": (4, 3),
            "padding": (1, 2),
            "ceil_mode": True,
        },
    ),
    "3d dilation": ((1, 2, 7, 8, 9), {"kernel_size": 2, "dilation": (3, 1, 2), "stride": 2}),
}


def cases(table):
    """Parametrize a test over the cases of a table."""
    return pytest.mark.parametrize(("shape", "options"), table.values(), ids=table.keys())


every_dtype = pytest.mark.parametrize("dtype", DTYPES)


def pool(functions, x, **options):
    """The pool of a family that fits the image."""
    return functions[x.ndim - 2](x, **options)


# Maximum


def assert_max_equals_definition(x, options):
    """Maxima, indices and gradient, bit for bit."""
    expected, indices = naive.max_pool(x, **options)
    grad = integers(np.random.default_rng(1), expected.shape, x.dtype)
    out, (dx,) = forward_backward(partial(pool, MAX, **options), x, grad=grad)
    assert out.dtype == dx.dtype == x.dtype
    assert_array_equal(out, expected)
    assert_array_equal(dx, naive.max_pool_grad(grad, indices, x.shape))

    values, places = pool(MAX, x, return_indices=True, **options)
    assert_array_equal(values, expected)
    assert places.dtype == np.int64
    assert_array_equal(places, indices)


@cases(CASES | PADDED | DILATED)
@every_dtype
def test_max(shape, options, dtype, rng):
    """Small integers make ties: the first of the window must win."""
    assert_max_equals_definition(integers(rng, shape, dtype), options)


@given(pools(dilated=True), seeds())
def test_max_any_geometry(case, seed):
    x = integers(np.random.default_rng(seed), case.x_shape, np.float32)
    assert_max_equals_definition(x, case.options)


@cases(PADDED)
def test_max_padding_never_wins(shape, options, rng):
    """The padding is -inf, not 0."""
    x = integers(rng, shape, low=-9, high=-1)
    out = pool(MAX, x, **options)
    assert (out < 0).all()
    assert_array_equal(out, naive.max_pool(x, **options)[0])


def test_max_of_minus_infinity(rng):
    """A window of nothing but -inf gives -inf, and its first pixel wins."""
    x = np.full((1, 2, 4, 6), -np.inf)
    x[0, 1] = integers(rng, (4, 6))
    assert_max_equals_definition(x, {"kernel_size": (2, 3)})


def test_max_of_no_pixel():
    """Taps of a dilated window may all miss a small image: -inf, and no gradient goes anywhere."""
    options = {"kernel_size": 2, "padding": 1, "dilation": 3}
    x = np.ones((1, 1, 2, 3), np.float32)
    expected, indices = naive.max_pool(x, **options)
    assert (indices == -1).any()
    out, (dx,) = forward_backward(partial(F.max_pool2d, **options), x)
    assert_array_equal(out, expected)
    grad = integers(np.random.default_rng(1), out.shape)
    assert_array_equal(dx, naive.max_pool_grad(grad, indices, x.shape))


@pytest.mark.parametrize("place", [(0, 0), (1, 2), (3, 5)])
def test_max_picks_nan(place):
    """As in torch a NaN wins against everything, wherever in the window it stands."""
    x = np.arange(24.0).reshape(1, 1, 4, 6)
    x[(0, 0, *place)] = np.nan
    window = (place[0] // 2, place[1] // 3)
    out, (dx,) = forward_backward(
        partial(F.max_pool2d, kernel_size=(2, 3)), x, grad=np.ones((1, 1, 2, 2))
    )
    assert np.isnan(out[0, 0][window])
    assert np.isfinite(out).sum() == 3
    _, indices = F.max_pool2d(x, (2, 3), return_indices=True)
    assert indices[0, 0][window] == np.ravel_multi_index(place, (4, 6))
    assert dx[(0, 0, *place)] == 1
    assert dx.sum() == 4


def test_max_of_infinity():
    x = np.array([[[1.0, np.inf, -np.inf, -np.inf, 2.0, -np.inf]]])
    assert_array_equal(F.max_pool1d(x, 2), [[[np.inf, -np.inf, 2.0]]])


def test_max_tensor_indices_are_positions(rng):
    """return_indices gives a pair also for a Tensor, and the gradient still flows."""
    x = fastconv.Tensor(integers(rng, (2, 3, 6, 5)), requires_grad=True)
    out, indices = F.max_pool2d(x, 2, return_indices=True)
    expected, expected_indices = naive.max_pool(x.data, 2)
    assert_array_equal(out.data, expected)
    assert_array_equal(np.asarray(indices), expected_indices)
    out.backward(np.ones(out.shape))
    assert_array_equal(x.grad, naive.max_pool_grad(np.ones(out.shape), expected_indices, x.shape))


# Maximum of ReLU


def assert_max_of_relu_equals_both(x, options):
    """As ReLU followed by the pool, of the library and by the definitions, bit for bit."""
    both, (expected_dx,) = forward_backward(lambda x: pool(MAX, F.relu(x), **options), x)
    out, (dx,) = forward_backward(lambda x: max_pool_of_relu(x.ndim - 2, x, **options), x)
    assert out.dtype == dx.dtype == x.dtype
    for result in (out, max_pool_of_relu(x.ndim - 2, x, **options)):
        assert_array_equal(result, both)
        assert_array_equal(np.signbit(result), np.signbit(both))
    assert_array_equal(dx, expected_dx)

    if np.isnan(x).any():  # of several, torch's and ours is the last and the definition's the first
        return
    expected, indices = naive.max_pool(np.where(x > 0, x, x.dtype.type(0)), **options)
    assert_array_equal(out, expected)
    grad = integers(np.random.default_rng(1), out.shape)
    assert_array_equal(dx, np.where(x > 0, naive.max_pool_grad(grad, indices, x.shape), 0))


@cases(CASES | PADDED | DILATED)
@every_dtype
def test_max_of_relu(shape, options, dtype, rng):
    """Ties of positive values and of zero; windows without a positive value."""
    assert_max_of_relu_equals_both(integers(rng, shape, dtype, -4, 2), options)
    assert_max_of_relu_equals_both(integers(rng, shape, dtype, -4, -1), options)


@given(pools(dilated=True), seeds())
def test_max_of_relu_any_geometry(case, seed):
    x = integers(np.random.default_rng(seed), case.x_shape, np.float32, -4, 2)
    assert_max_of_relu_equals_both(x, case.options)


@cases(PADDED | DILATED)
@every_dtype
def test_max_of_relu_of_special_values(shape, options, dtype, rng):
    values = [0.0, -0.0, np.nan, np.inf, -np.inf, 1.0, 1.0, -1.0]
    for choice in (values, values[:2], [-np.inf], [-np.inf, np.nan], [-0.0, 1.0, np.inf]):
        assert_max_of_relu_equals_both(rng.choice(choice, shape).astype(dtype), options)


def test_max_of_relu_of_no_pixel():
    """A window with all its taps in the padding is -inf, as after ReLU."""
    options = {"kernel_size": 2, "padding": 1, "dilation": 3}
    for value in (-1, 1):
        x = np.full((1, 1, 2, 3), value, np.float32)
        assert (max_pool_of_relu(2, x, **options) == -np.inf).any()
        assert_max_of_relu_equals_both(x, options)


# Average


def average_options(shape, options):
    """The options, with every choice of divisor that has a meaning for them."""
    yield options
    yield options | {"count_include_pad": False}
    if len(shape) > 3:
        yield options | {"divisor_override": 3}


def assert_avg_equals_definition(x, options):
    """Means and gradient; sums of integers are exact, so means are rounded once."""
    for every in average_options(x.shape, options):
        twin = partial(naive.avg_pool, **every)
        expected = twin(x)
        grad = integers(np.random.default_rng(1), expected.shape, x.dtype)
        out, (dx,) = forward_backward(partial(pool, AVG, **every), x, grad=grad)
        assert out.dtype == dx.dtype == x.dtype
        assert_array_equal(out, expected.astype(x.dtype))
        scale = np.abs(grad).max() * np.finfo(x.dtype).eps
        assert_allclose(dx, naive.linear_gradient(twin, x.shape, grad), rtol=0, atol=8 * scale)


SMALL = {name: case for name, case in CASES.items() if math.prod(case[0]) < 1500}


@cases(SMALL | PADDED)
@every_dtype
def test_avg(shape, options, dtype, rng):
    assert_avg_equals_definition(integers(rng, shape, dtype), options)


@given(pools(), seeds())
def test_avg_any_geometry(case, seed):
    x = integers(np.random.default_rng(seed), case.x_shape, np.float64)
    assert_avg_equals_definition(x, case.options)


@pytest.mark.parametrize(
    ("shape", "kernel", "stride"),
    [
        ((2, 3, 16), 4, 2),
        ((4, 17, 40, 50), 2, None),
        ((2, 3, 12, 17), (2, 4), (1, 3)),
        ((1, 3, 6, 8, 9), (2, 4, 1), 2),
    ],
)
@every_dtype
def test_avg_bit_for_bit_for_powers_of_two(shape, kernel, stride, dtype, rng):
    """Where the divisor is a power of two, the gradients are exact too."""
    x = integers(rng, shape, dtype)
    expected = naive.avg_pool(x, kernel, stride)
    grad = integers(rng, expected.shape, dtype)
    out, (dx,) = forward_backward(
        partial(pool, AVG, kernel_size=kernel, stride=stride), x, grad=grad
    )
    assert_array_equal(out, expected)
    # The gradient of a mean is a depthwise convolution's with equal weights.
    dims = x.ndim - 2
    kernel = naive.per_axis(kernel, dims)
    weight = np.full((shape[1], 1, *kernel), 1 / math.prod(kernel))
    stride = kernel if stride is None else stride
    reference = naive.conv_grad_input(grad, weight, shape, stride, groups=shape[1])
    assert_array_equal(dx, reference)


def test_avg_spreads_what_is_not_finite_over_its_windows_only():
    x = np.ones((1, 1, 4, 6))
    x[0, 0, 1, 1] = np.nan
    x[0, 0, 3, 5] = np.inf
    out = F.avg_pool2d(x, 2, stride=2)
    expected = [[np.nan, 1, 1], [1, 1, np.inf]]
    assert_array_equal(out[0, 0], expected)


# Lp norm


@cases(SMALL)
@pytest.mark.parametrize("norm_type", [1, 2, 3, 1.5, 4.0])
@every_dtype
def test_lp(shape, options, norm_type, dtype, rng):
    x = rng.uniform(0.5, 2, shape)
    twin = partial(naive.lp_pool, norm_type=norm_type, **options)
    expected = twin(x)
    grad = rng.normal(size=expected.shape)
    out, (dx,) = forward_backward(
        partial(pool, LP, norm_type=norm_type, **options), x.astype(dtype), grad=grad.astype(dtype)
    )
    assert out.dtype == dx.dtype == dtype
    tolerance = 40 * np.finfo(dtype).eps
    assert_allclose(out, expected, rtol=tolerance)
    # d/dx (sum x^p)^(1/p) = x^(p-1) / out^(p-1), a sum over the windows that hold x
    scaled = grad / expected ** (norm_type - 1)
    windows_sum = partial(naive.lp_pool, norm_type=1, **options)
    reference = naive.linear_gradient(windows_sum, shape, scaled) * x ** (norm_type - 1)
    assert_allclose(dx, reference, rtol=0, atol=tolerance * np.abs(reference).max())


@pytest.mark.parametrize("norm_type", [2, 4])
def test_lp_even_norms_of_signed_values(norm_type, rng):
    x = integers(rng, (2, 3, 6, 8))
    expected = naive.lp_pool(x, norm_type, (2, 3), 2)
    assert_allclose(F.lp_pool2d(x, norm_type, (2, 3), 2), expected, rtol=1e-14)


def test_lp_one_sums_with_sign(rng):
    """At p = 1 the pool is the plain sum, as torch documents."""
    x = integers(rng, (2, 3, 6, 8))
    assert_array_equal(F.lp_pool2d(x, 1, 2), naive.avg_pool(x, 2, divisor_override=1))


@cases(SMALL)
def test_lp_infinity_is_the_largest_absolute_value(shape, options, rng):
    x = integers(rng, shape)
    expected, indices = naive.max_pool(np.abs(x), **options)
    function = partial(pool, LP, norm_type=np.inf, **options)
    grad = integers(np.random.default_rng(1), expected.shape)
    out, (dx,) = forward_backward(function, x, grad=grad)
    assert_array_equal(out, expected)
    assert_array_equal(dx, naive.max_pool_grad(grad, indices, shape) * np.sign(x))


@pytest.mark.parametrize("norm_type", [1.5, 2, 3])
def test_lp_zero_window_has_gradient_zero(norm_type):
    """The norm has no derivative at 0; torch's choice is 0."""
    x = np.array([[[0.0, 0.0, 3.0, 4.0]]])
    out, (dx,) = forward_backward(
        partial(F.lp_pool1d, norm_type=norm_type, kernel_size=2), x, grad=np.ones((1, 1, 2))
    )
    assert out[0, 0, 0] == 0
    assert_array_equal(dx[0, 0, :2], [0, 0])
    assert (dx[0, 0, 2:] > 0).all()


# Adaptive


ADAPTIVE = {
    "1d": ((2, 3, 11), 4),
    "1d one": ((2, 3, 11), 1),
    "1d larger than input": ((2, 3, 4), 7),
    "2d": ((2, 3, 9, 7), (4, 3)),
    "2d one": ((2, 5, 6, 9), 1),
    "2d divides": ((2, 3, 8, 12), (4, 3)),
    "2d same size": ((2, 3, 5, 4), (5, 4)),
    "2d larger than input": ((2, 3, 5, 4), (7, 3)),
    "2d many channels": ((3, 33, 7, 8), (3, 2)),
    "3d": ((1, 3, 5, 7, 6), (2, 3, 5)),
    "3d one": ((2, 3, 3, 4, 5), 1),
}
adaptive = pytest.mark.parametrize(("shape", "size"), ADAPTIVE.values(), ids=ADAPTIVE.keys())


@adaptive
@every_dtype
def test_adaptive_max(shape, size, dtype, rng):
    x = integers(rng, shape, dtype)
    expected, indices = naive.adaptive_max_pool(x, size)
    grad = integers(rng, expected.shape, dtype)
    out, (dx,) = forward_backward(partial(pool, ADAPTIVE_MAX, output_size=size), x, grad=grad)
    assert out.dtype == dx.dtype == dtype
    assert_array_equal(out, expected)
    assert_array_equal(dx, naive.max_pool_grad(grad, indices, shape))
    values, places = pool(ADAPTIVE_MAX, x, output_size=size, return_indices=True)
    assert_array_equal(values, expected)
    assert places.dtype == np.int64
    assert_array_equal(places, indices)


@adaptive
@every_dtype
def test_adaptive_avg(shape, size, dtype, rng):
    x = integers(rng, shape, dtype)
    twin = partial(naive.adaptive_avg_pool, output_size=size)
    expected = twin(x)
    grad = integers(rng, expected.shape, dtype)
    out, (dx,) = forward_backward(partial(pool, ADAPTIVE_AVG, output_size=size), x, grad=grad)
    assert out.dtype == dx.dtype == dtype
    tolerance = 8 * np.finfo(dtype).eps
    assert_allclose(out, expected, rtol=tolerance, atol=tolerance)
    assert_allclose(dx, naive.linear_gradient(twin, shape, grad), rtol=0, atol=4 * tolerance)


@pytest.mark.parametrize("functions", [ADAPTIVE_AVG, ADAPTIVE_MAX], ids=["avg", "max"])
def test_adaptive_none_keeps_the_size(functions, rng):
    """None stands for the size of the input along that axis, as in torch."""
    x = integers(rng, (2, 3, 6, 8))
    out = functions[2](x, (None, 4))
    assert_array_equal(out, functions[2](x, (6, 4)))


def test_adaptive_max_picks_nan():
    x = np.zeros((1, 1, 4, 4))
    x[0, 0, 2, 1] = np.nan
    out = F.adaptive_max_pool2d(x, 2)
    assert_array_equal(out[0, 0], [[0, 0], [np.nan, 0]])


# All pools


ALL = {
    "max1d": (F.max_pool1d, (2, 5, 17), {"kernel_size": 3, "stride": 2, "padding": 1}),
    "max2d": (F.max_pool2d, (2, 5, 9, 7), {"kernel_size": (3, 2), "stride": 2}),
    "max3d": (F.max_pool3d, (2, 3, 5, 4, 6), {"kernel_size": (1, 3, 2)}),
    "max1d of relu": (
        partial(max_pool_of_relu, 1),
        (2, 5, 17),
        {"kernel_size": 3, "stride": 2, "padding": 1},
    ),
    "max2d of relu": (
        partial(max_pool_of_relu, 2),
        (2, 5, 9, 7),
        {"kernel_size": (3, 2), "stride": 2},
    ),
    "max3d of relu": (partial(max_pool_of_relu, 3), (2, 3, 5, 4, 6), {"kernel_size": (1, 3, 2)}),
    "avg1d": (F.avg_pool1d, (2, 5, 17), {"kernel_size": 3, "stride": 2, "padding": 1}),
    "avg2d": (F.avg_pool2d, (2, 5, 9, 7), {"kernel_size": (3, 2), "stride": 2}),
    "avg3d": (F.avg_pool3d, (2, 3, 5, 4, 6), {"kernel_size": (1, 3, 2)}),
    "lp1d": (F.lp_pool1d, (2, 5, 17), {"norm_type": 2, "kernel_size": 3, "stride": 2}),
    "lp2d": (F.lp_pool2d, (2, 5, 9, 7), {"norm_type": 2, "kernel_size": (3, 2)}),
    "lp3d": (F.lp_pool3d, (2, 3, 5, 4, 6), {"norm_type": 2, "kernel_size": 2}),
    "adaptive max1d": (F.adaptive_max_pool1d, (2, 5, 17), {"output_size": 4}),
    "adaptive max2d": (F.adaptive_max_pool2d, (2, 5, 9, 7), {"output_size": (4, 3)}),
    "adaptive max3d": (F.adaptive_max_pool3d, (2, 3, 5, 4, 6), {"output_size": 3}),
    "adaptive avg1d": (F.adaptive_avg_pool1d, (2, 5, 17), {"output_size": 4}),
    "adaptive avg2d": (F.adaptive_avg_pool2d, (2, 5, 9, 7), {"output_size": (4, 3)}),
    "adaptive avg3d": (F.adaptive_avg_pool3d, (2, 3, 5, 4, 6), {"output_size": 3}),
}
every_pool = pytest.mark.parametrize(("function", "shape", "options"), ALL.values(), ids=ALL.keys())


@every_pool
def test_gradcheck(function, shape, options, rng):
    """Values far apart from one another keep the maxima away from their kinks."""
    values = 0.1 + 0.01 * rng.permutation(math.prod(shape)).reshape(shape)
    x = fastconv.Tensor(values, requires_grad=True)
    assert fastconv.gradcheck(partial(function, **options), [x])


@every_pool
@every_dtype
def test_memory_layouts(function, shape, options, dtype, rng):
    assert_same_for_any_layout(partial(function, **options), integers(rng, shape, dtype))


@pytest.mark.usefixtures("keep_threads")
@every_pool
@every_dtype
def test_threads_change_no_bit(function, shape, options, dtype, rng):
    large = {3: (4, 17, 3000), 4: (4, 17, 40, 50), 5: (4, 17, 12, 14, 15)}[len(shape)]
    x = rng.uniform(0.5, 2, large).astype(dtype)
    assert_same_for_any_threads(partial(function, **options), x)


@every_pool
def test_unbatched(function, shape, options, rng):
    """(C, *spatial) as in torch."""
    x = integers(rng, shape)
    function = partial(function, **options)
    batched = function(x)
    grad = integers(rng, batched.shape)
    _, (expected,) = forward_backward(function, x, grad=grad)
    out, (dx,) = forward_backward(function, x[1], grad=grad[1])
    assert_array_equal(out, batched[1])
    assert_array_equal(dx, expected[1])


@every_pool
def test_empty_batch(function, shape, options):
    x = np.zeros((0, *shape[1:]), np.float32)
    out, (dx,) = forward_backward(partial(function, **options), x)
    assert out.shape == (0, *function(np.zeros(shape), **options).shape[1:])
    assert dx.shape == x.shape
    assert out.dtype == dx.dtype == np.float32


@every_pool
def test_output_is_a_new_array(function, shape, options):
    """A pool that changes nothing still copies: writing to the output spares the input."""
    x = np.ones(shape)
    options = (
        {"output_size": shape[2:]} if "output_size" in options else options | {"kernel_size": 1}
    )
    options = {k: v for k, v in options.items() if k not in ("stride", "padding")}
    out = function(x, **options)
    assert_array_equal(out, x)
    assert not np.shares_memory(out, x)
