"""Batch norm, activations, linear, softmax and dropout against their definitions."""

from functools import partial

import naive
import numpy as np
import pytest
import scipy.special
from conftest import (
    assert_same_for_any_layout,
    assert_same_for_any_threads,
    forward_backward,
    integers,
)
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from strategies import DTYPES, layouts, seeds

import fastconv
import fastconv.functional as F

every_dtype = pytest.mark.parametrize("dtype", DTYPES)
TOLERANCE = {np.float32: 2e-6, np.float64: 1e-14}


def assert_near(result, expected, dtype, factor=1):
    """Right dtype, and within some rounding units of the largest value."""
    assert result.dtype == dtype
    atol = factor * TOLERANCE[dtype] * max(1, np.abs(expected).max(initial=0))
    assert_allclose(result, expected, rtol=0, atol=atol)


# Batch norm


SHAPES = [(6, 3), (1, 4, 5), (4, 3, 7), (2, 3, 5, 4), (3, 1, 4, 5), (2, 17, 9, 6), (2, 3, 2, 4, 3)]
# Sums of several blocks and runs, of rows that are worked on one and many at a time
SHAPES += [(3, 5, 4001), (2, 130, 3, 100), (2, 1, 5000)]
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def batch_norm_arrays(rng, shape, dtype=np.float64):
    """Input, running mean, running variance, weight and bias."""
    channels = shape[1]
    arrays = (
        rng.normal(2, 3, shape),
        rng.normal(size=channels),
        rng.uniform(0.5, 2, channels),
        rng.normal(size=channels),
        rng.normal(size=channels),
    )
    return [array.astype(dtype) for array in arrays]


def batch_norm_gradients(x, weight, grad, eps):
    """(dx, dweight, dbias) in training, from the closed form of Ioffe and Szegedy (2015)."""
    axes = (0, *range(2, x.ndim))
    x, grad = x.astype(np.float64), grad.astype(np.float64)
    scale = np.sqrt(x.var(axis=axes, keepdims=True) + eps)
    normal = (x - x.mean(axis=axes, keepdims=True)) / scale
    weight = np.reshape(weight, (1, -1, *[1] * (x.ndim - 2)))
    dx = grad - grad.mean(axis=axes, keepdims=True)
    dx -= normal * (grad * normal).mean(axis=axes, keepdims=True)
    return dx * weight / scale, (grad * normal).sum(axis=axes), grad.sum(axis=axes)


@every_shape
@every_dtype
def test_batch_norm_training(shape, dtype, rng):
    x, mean, var, weight, bias = batch_norm_arrays(rng, shape, dtype)
    expected, new_mean, new_var = naive.batch_norm(x, mean, var, weight, bias, True, 0.3, 1e-3)
    grad = rng.normal(size=shape).astype(dtype)
    out, grads = forward_backward(
        lambda x, w, b: F.batch_norm(x, mean, var, w, b, training=True, momentum=0.3, eps=1e-3),
        x,
        weight,
        bias,
        grad=grad,
    )
    assert_near(out, expected, dtype)
    assert_near(mean, new_mean, dtype)
    assert_near(var, new_var, dtype)
    references = batch_norm_gradients(x, weight, grad, 1e-3)
    for result, reference in zip(grads, references, strict=True):
        assert_near(result, reference, dtype, factor=4)


@every_shape
@every_dtype
def test_batch_norm_evaluation(shape, dtype, rng):
    """The running statistics normalise, and stay as they are."""
    x, mean, var, weight, bias = batch_norm_arrays(rng, shape, dtype)
    before = mean.tobytes(), var.tobytes()
    expected, _, _ = naive.batch_norm(x, mean, var, weight, bias, False, 0.1, 1e-3)
    grad = rng.normal(size=shape).astype(dtype)
    out, (dx, dw, db) = forward_backward(
        lambda x, w, b: F.batch_norm(x, mean, var, w, b, training=False, eps=1e-3),
        x,
        weight,
        bias,
        grad=grad,
    )
    assert_near(out, expected, dtype, factor=2)
    per_channel = (1, -1, *[1] * (len(shape) - 2))
    axes = (0, *range(2, len(shape)))
    scale = np.sqrt(var.astype(np.float64) + 1e-3).reshape(per_channel)
    normal = (x - mean.astype(np.float64).reshape(per_channel)) / scale
    assert_near(dx, grad * weight.reshape(per_channel) / scale, dtype, factor=2)
    assert_near(dw, (grad * normal).sum(axis=axes), dtype, factor=4)
    assert_near(db, grad.astype(np.float64).sum(axis=axes), dtype, factor=2)
    assert (mean.tobytes(), var.tobytes()) == before


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("with_weight", "with_bias"), [(0, 0), (1, 0), (0, 1)])
def test_batch_norm_without_parameters(training, with_weight, with_bias, rng):
    x, mean, var, weight, bias = batch_norm_arrays(rng, (3, 4, 5, 2))
    weight, bias = weight if with_weight else None, bias if with_bias else None
    expected, _, _ = naive.batch_norm(x, mean, var, weight, bias, training)
    out, (dx,) = forward_backward(
        lambda x: F.batch_norm(x, mean.copy(), var.copy(), weight, bias, training), x
    )
    assert_near(out, expected, np.float64)
    grad = integers(np.random.default_rng(1), x.shape)
    twin = lambda x: naive.batch_norm(x, mean, var, weight, bias, training)[0]  # noqa: E731
    assert_allclose(dx, naive.numeric_gradient(twin, x, grad), rtol=0, atol=1e-7)


def test_batch_norm_without_running_statistics(rng):
    """None for both: only training needs no stored statistics."""
    x, *_ = batch_norm_arrays(rng, (3, 4, 5, 2))
    out = F.batch_norm(x, None, None, training=True)
    assert_near(out, naive.batch_norm(x, None, None, training=True)[0], np.float64)


def test_batch_norm_defaults_are_torchs(rng):
    """training=False, momentum=0.1, eps=1e-5."""
    x, mean, var, weight, bias = batch_norm_arrays(rng, (3, 4, 5, 2))
    expected = naive.batch_norm(x, mean, var, weight, bias, False, 0.1, 1e-5)[0]
    assert_near(F.batch_norm(x, mean, var, weight, bias), expected, np.float64)
    _, new_mean, new_var = naive.batch_norm(x, mean, var, training=True, momentum=0.1)
    F.batch_norm(x, mean, var, training=True)
    assert_near(mean, new_mean, np.float64)
    assert_near(var, new_var, np.float64)


@pytest.mark.parametrize("momentum", [0.0, 1.0])
def test_batch_norm_momentum_limits(momentum, rng):
    x, mean, var, *_ = batch_norm_arrays(rng, (3, 4, 5, 2))
    _, new_mean, new_var = naive.batch_norm(x, mean, var, training=True, momentum=momentum)
    F.batch_norm(x, mean, var, training=True, momentum=momentum)
    assert_near(mean, new_mean, np.float64)
    assert_near(var, new_var, np.float64)


@every_dtype
def test_batch_norm_large_mean(dtype, rng):
    """A mean 10^4 times the spread costs digits, but not the sign of the variance."""
    x = (rng.normal(size=(4, 3, 20, 30)) + 1e4).astype(dtype)
    mean, var = np.zeros(3, dtype), np.ones(3, dtype)
    out = F.batch_norm(x, mean, var, training=True, momentum=1.0)
    expected, _, new_var = naive.batch_norm(x, mean, var, training=True, momentum=1.0)
    assert_allclose(var, new_var, rtol=1e-4 if dtype == np.float32 else 1e-9)
    assert_allclose(out, expected, atol=2e-3 if dtype == np.float32 else 1e-10)


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_of_an_empty_batch(training):
    """Nothing to normalise, and nothing to learn: the running statistics stay."""
    mean, var = np.full(3, 2.0), np.full(3, 5.0)
    out, (dx,) = forward_backward(
        lambda x: F.batch_norm(x, mean, var, training=training), np.zeros((0, 3, 4))
    )
    assert out.shape == dx.shape == (0, 3, 4)
    assert_array_equal(mean, np.full(3, 2))
    assert_array_equal(var, np.full(3, 5))


def test_batch_norm_constant_channel(rng):
    """A channel of one value has variance 0 and comes out as the bias."""
    x = integers(rng, (3, 2, 4, 5))
    x[:, 1] = 3
    out = F.batch_norm(x, None, None, np.ones(2), np.array([0.0, 7.0]), training=True)
    assert_array_equal(out[:, 1], np.full((3, 4, 5), 7))


def test_batch_norm_nan_stays_in_its_channel(rng):
    x = integers(rng, (2, 3, 4, 5))
    x[1, 1, 2, 3] = np.nan
    mean, var = np.zeros(3), np.ones(3)
    out = F.batch_norm(x, mean, var, training=True)
    assert np.isnan(out[:, 1]).all()
    assert np.isfinite(out[:, [0, 2]]).all()
    assert_array_equal(np.isnan(mean), [False, True, False])
    assert_array_equal(np.isnan(var), [False, True, False])


@given(
    st.lists(st.integers(1, 5), min_size=0, max_size=3),
    st.integers(2, 4),
    st.integers(1, 5),
    seeds(),
)
def test_batch_norm_any_shape(spatial, batch, channels, seed):
    rng = np.random.default_rng(seed)
    x, mean, var, weight, bias = batch_norm_arrays(rng, (batch, channels, *spatial))
    expected, new_mean, new_var = naive.batch_norm(x, mean, var, weight, bias, True)
    assert_near(F.batch_norm(x, mean, var, weight, bias, True), expected, np.float64, factor=100)
    assert_near(mean, new_mean, np.float64)
    assert_near(var, new_var, np.float64, factor=4)


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_gradcheck(training, rng):
    x, mean, var, weight, bias = batch_norm_arrays(rng, (3, 2, 4, 3))
    tensors = [fastconv.Tensor(array, requires_grad=True) for array in (x, weight, bias)]
    assert fastconv.gradcheck(
        lambda x, w, b: F.batch_norm(x, mean.copy(), var.copy(), w, b, training), tensors
    )


@pytest.mark.parametrize("training", [True, False])
@every_dtype
def test_batch_norm_memory_layouts(training, dtype, rng):
    x, mean, var, weight, bias = batch_norm_arrays(rng, (3, 5, 4, 6), dtype)

    def function(x, w, b):
        return F.batch_norm(x, mean.copy(), var.copy(), w, b, training)

    assert_same_for_any_layout(function, integers(rng, x.shape, dtype), weight, bias)


@every_dtype
def test_batch_norm_updates_statistics_in_any_layout(dtype, rng):
    """Running statistics that are views are updated where they are."""
    x, mean, var, *_ = batch_norm_arrays(rng, (3, 5, 4, 6), dtype)
    expected = mean.copy(), var.copy()
    F.batch_norm(x, *expected, training=True)
    table = np.full((5, 4), -7, dtype)
    table[:, 1], table[::-1, 2] = mean, var
    F.batch_norm(x, table[:, 1], table[::-1, 2], training=True)
    assert_array_equal(table[:, 1], expected[0])
    assert_array_equal(table[::-1, 2], expected[1])
    assert_array_equal(table[:, [0, 3]], np.full((5, 2), -7))


@pytest.mark.usefixtures("keep_threads")
@pytest.mark.parametrize("shape", [(8, 17, 40, 50), (300, 33), (4, 3, 9000)], ids=str)
@every_dtype
def test_batch_norm_threads_change_no_bit(shape, dtype, rng):
    x, mean, var, weight, bias = batch_norm_arrays(rng, shape, dtype)
    assert_same_for_any_threads(
        lambda x, w, b: F.batch_norm(x, mean.copy(), var.copy(), w, b, True), x, weight, bias
    )
    statistics = []
    for threads in (1, 2, 3):
        fastconv.set_num_threads(threads)
        running = mean.copy(), var.copy()
        F.batch_norm(x, *running, training=True)
        statistics.append([array.tobytes() for array in running])
    assert statistics[0] == statistics[1] == statistics[2]


# relu, relu6, leaky_relu

RECTIFIERS = [F.relu, F.relu6, F.leaky_relu]
every_rectifier = pytest.mark.parametrize("function", RECTIFIERS)


@every_dtype
def test_relu(dtype, rng):
    x = integers(rng, (2, 3, 5, 4), dtype)
    out, (dx,) = forward_backward(F.relu, x)
    assert_array_equal(out, np.where(x > 0, x, 0))
    grad = integers(np.random.default_rng(1), x.shape)
    assert_array_equal(dx, np.where(x > 0, grad, 0))  # 0 at 0, as in torch
    assert out.dtype == dx.dtype == dtype


@every_dtype
def test_relu6(dtype, rng):
    x = integers(rng, (2, 3, 5, 4), dtype, -9, 9)
    assert (x == 6).any()
    out, (dx,) = forward_backward(F.relu6, x)
    assert_array_equal(out, np.clip(x, 0, 6))
    grad = integers(np.random.default_rng(1), x.shape)
    assert_array_equal(dx, np.where((x > 0) & (x < 6), grad, 0))  # 0 at 0 and at 6, as in torch
    assert out.dtype == dx.dtype == dtype


@pytest.mark.parametrize("slope", [None, 0.25, 0.0, 2.0, -0.5])
@every_dtype
def test_leaky_relu(slope, dtype, rng):
    """0.01 unless told otherwise."""
    x = integers(rng, (2, 3, 5, 4), dtype)
    options = {} if slope is None else {"negative_slope": slope}
    factor = dtype(0.01 if slope is None else slope)
    out, (dx,) = forward_backward(partial(F.leaky_relu, **options), x)
    assert_array_equal(out, np.where(x > 0, x, factor * x))
    grad = integers(np.random.default_rng(1), x.shape, dtype)
    assert_array_equal(dx, np.where(x > 0, grad, factor * grad))
    assert out.dtype == dx.dtype == dtype


@every_rectifier
def test_activations_of_what_is_not_finite(function):
    """NaN stays NaN, infinity infinity where there is no bound."""
    x = np.array([np.nan, np.inf, -np.inf, 1.0])
    out, (dx,) = forward_backward(function, x, grad=np.ones(4))
    bounds = {F.relu: [np.inf, 0.0], F.relu6: [6.0, 0.0], F.leaky_relu: [np.inf, -np.inf]}
    slopes = {F.relu: [1, 0], F.relu6: [0, 0], F.leaky_relu: [1, 0.01]}
    assert_array_equal(out, [np.nan, *bounds[function], 1.0])
    assert_array_equal(dx[1:], [*slopes[function], 1])


@pytest.mark.parametrize("shape", [(), (0,), (1,), (7,), (3, 0, 2), (2, 3, 4, 5, 6)], ids=str)
@every_rectifier
def test_activations_of_any_shape(function, shape, rng):
    x = integers(rng, shape)
    out, (dx,) = forward_backward(function, x)
    assert out.shape == dx.shape == shape


@every_rectifier
@every_dtype
def test_activations_in_place(function, dtype, rng):
    """inplace=True writes into the array it is given, whatever its layout, and returns it."""
    x = integers(rng, (2, 3, 4, 5), dtype)
    expected = function(x)
    for name, variant in layouts(x).items():
        if not variant.flags.writeable:
            continue
        out = function(variant, inplace=True)
        assert_array_equal(out, expected, err_msg=name)
        assert_array_equal(variant, expected, err_msg=name)
        assert np.shares_memory(out, variant), name


@every_rectifier
def test_activations_in_place_keep_the_gradient(function, rng):
    x = integers(rng, (2, 3, 4, 5))
    _, (expected,) = forward_backward(lambda x: function(2 * x), x)
    _, (dx,) = forward_backward(lambda x: function(2 * x, inplace=True), x)
    assert_array_equal(dx, expected)


# linear


@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 3, 4), (2, 3, 5, 4), (0, 4)], ids=str)
@every_dtype
def test_linear(shape, dtype, rng):
    x, w, bias = integers(rng, shape, dtype), integers(rng, (5, 4), dtype), integers(rng, 5, dtype)
    out, (dx, dw, db) = forward_backward(F.linear, x, w, bias)
    grad = integers(np.random.default_rng(1), out.shape, dtype)
    assert_array_equal(out, np.einsum("...i,oi->...o", x, w) + bias)
    assert_array_equal(dx, np.einsum("...o,oi->...i", grad, w))
    assert_array_equal(dw, np.einsum("no,ni->oi", grad.reshape(-1, 5), x.reshape(-1, 4)))
    assert_array_equal(db, grad.reshape(-1, 5).sum(axis=0))
    assert {a.dtype for a in (out, dx, dw, db)} == {np.dtype(dtype)}
    assert_array_equal(F.linear(x, w), np.einsum("...i,oi->...o", x, w))


def test_linear_gradcheck(rng):
    arrays = (rng.normal(size=shape) for shape in ((3, 2, 4), (5, 4), (5,)))
    tensors = [fastconv.Tensor(array, requires_grad=True) for array in arrays]
    assert fastconv.gradcheck(F.linear, tensors)


# softmax, log_softmax


SOFTMAX = {F.softmax: scipy.special.softmax, F.log_softmax: scipy.special.log_softmax}
every_softmax = pytest.mark.parametrize("function", SOFTMAX, ids=lambda f: f.__name__)


@every_softmax
@pytest.mark.parametrize(
    ("shape", "dim"), [((5,), 0), ((4, 6), 1), ((4, 6), 0), ((2, 5, 3, 4), 1), ((2, 5, 3), -1)]
)
@every_dtype
def test_softmax(function, shape, dim, dtype, rng):
    x = (3 * rng.normal(size=shape)).astype(dtype)
    grad = rng.normal(size=shape).astype(dtype)
    out, (dx,) = forward_backward(partial(function, dim=dim), x, grad=grad)
    twin = naive.softmax if function is F.softmax else naive.log_softmax
    assert_near(out, twin(x, dim), dtype)
    assert_near(out, SOFTMAX[function](x.astype(np.float64), axis=dim), dtype)
    reference = naive.numeric_gradient(partial(twin, dim=dim), x, grad)
    assert dx.dtype == dtype
    assert_allclose(dx, reference, rtol=0, atol=1e-5 if dtype == np.float32 else 1e-8)


@every_softmax
def test_softmax_neither_overflows_nor_warns(function):
    x = np.array([[1e4, 0.0, -1e4], [-np.inf, 0.0, 0.0], [3e38, 3e38, -3e38]], np.float32)
    p = np.array([[1, 0, 0], [0, 0.5, 0.5], [0.5, 0.5, 0]], np.float32)
    if function is F.softmax:
        assert_array_equal(function(x, 1), p)
    else:
        expected = [[0, -1e4, -2e4], [-np.inf, -np.log(2), -np.log(2)]]
        assert_allclose(function(x[:2], 1), expected, rtol=1e-6)


@every_softmax
def test_softmax_nan_stays_in_its_row(function):
    x = np.zeros((3, 4))
    x[1, 2] = np.nan
    out = function(x, 1)
    assert np.isnan(out[1]).all()
    assert np.isfinite(out[[0, 2]]).all()


@every_softmax
def test_softmax_gradcheck(function, rng):
    x = fastconv.Tensor(rng.normal(size=(2, 4, 3)), requires_grad=True)
    assert fastconv.gradcheck(partial(function, dim=1), [x])


# dropout


@every_dtype
def test_dropout_zeroes_and_scales(dtype):
    """Each value is 0 with probability p, or x / (1 - p); the gradient passes where x did."""
    x = np.full((40, 50, 50), 3, dtype)
    grad = np.full(x.shape, 2, dtype)
    out, (dx,) = forward_backward(partial(F.dropout, p=0.2), x, grad=grad)
    kept = out != 0
    assert_allclose(out[kept], 3 / 0.8, rtol=1e-6)
    assert_array_equal(dx != 0, kept)
    assert_allclose(dx[kept], 2 / 0.8, rtol=1e-6)
    # 100 000 draws: the standard deviation of the fraction is 0.0013
    assert abs(kept.mean() - 0.8) < 0.0013 * 6
    assert out.dtype == dx.dtype == dtype


def test_dropout_draws_anew():
    x = np.ones(1000)
    assert not np.array_equal(F.dropout(x, 0.5), F.dropout(x, 0.5))


@pytest.mark.usefixtures("keep_threads")
def test_dropout_repeats_with_the_seed():
    """manual_seed makes the library's draws repeat, whatever the number of threads."""
    x = np.ones((50, 70))
    draws = []
    for threads in (1, 2, 3):
        fastconv.set_num_threads(threads)
        fastconv.manual_seed(5)
        draws.append((F.dropout(x), F.dropout(x)))
    for first, second in draws:
        assert_array_equal(first, draws[0][0])
        assert_array_equal(second, draws[0][1])
        assert not np.array_equal(first, second)


@every_dtype
def test_dropout_memory_layouts(dtype):
    """The same pixels fall, wherever they lie in memory."""

    def function(x):
        fastconv.manual_seed(5)
        return F.dropout(x, 0.4)

    assert_same_for_any_layout(function, np.ones((3, 5, 4, 6), dtype))


def test_dropout_limits(rng):
    """p = 0 and evaluation change nothing; p = 1 leaves nothing, not even NaN."""
    x = integers(rng, (30, 20))
    for options in ({"p": 0.0}, {"p": 0.7, "training": False}):
        out, (dx,) = forward_backward(partial(F.dropout, **options), x, grad=x)
        assert_array_equal(out, x)
        assert_array_equal(dx, x)
    out, (dx,) = forward_backward(partial(F.dropout, p=1.0), x, grad=x)
    assert_array_equal(out, np.zeros(x.shape))
    assert_array_equal(dx, np.zeros(x.shape))


# Memory and threads of the pointwise operators


POINTWISE = {
    "relu": F.relu,
    "relu6": F.relu6,
    "leaky_relu": F.leaky_relu,
    "softmax": partial(F.softmax, dim=1),
    "log_softmax": partial(F.log_softmax, dim=1),
}
every_pointwise = pytest.mark.parametrize("function", POINTWISE.values(), ids=POINTWISE.keys())


@every_pointwise
@every_dtype
def test_memory_layouts(function, dtype, rng):
    assert_same_for_any_layout(function, integers(rng, (3, 5, 4, 6), dtype))


@every_dtype
def test_linear_memory_layouts(dtype, rng):
    arrays = (integers(rng, shape, dtype) for shape in ((3, 7, 4), (5, 4), (5,)))
    assert_same_for_any_layout(F.linear, *arrays)


@pytest.mark.usefixtures("keep_threads")
@every_pointwise
@every_dtype
def test_threads_change_no_bit(function, dtype, rng):
    assert_same_for_any_threads(function, rng.normal(size=(8, 17, 40, 50)).astype(dtype))


@pytest.mark.usefixtures("keep_threads")
@every_dtype
def test_linear_threads_change_no_bit(dtype, rng):
    shapes = (300, 257), (129, 257), (129,)
    assert_same_for_any_threads(F.linear, *(rng.normal(size=s).astype(dtype) for s in shapes))


@every_pointwise
def test_output_is_a_new_array(function):
    x = np.ones((2, 1, 3))
    assert not np.shares_memory(function(x), x)
