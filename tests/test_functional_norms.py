"""Group, instance and layer norm against their definitions, written out in float64."""

from operator import methodcaller

import numpy as np
import pytest
from conftest import (
    assert_same_for_any_layout,
    assert_same_for_any_threads,
    forward_backward,
    integers,
)
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from strategies import DTYPES, seeds

import fastconv
import fastconv.functional as F
from fastconv import nn

every_dtype = pytest.mark.parametrize("dtype", DTYPES)
TOLERANCE = {np.float32: 4e-6, np.float64: 1e-13}
SHAPES = [(3, 6), (1, 6, 7), (2, 6, 4, 5), (2, 12, 1, 3), (2, 6, 2, 3, 2), (2, 6, 2, 1, 2, 2)]


def normalised(parts, weights, biases, grads, eps):
    """Of each list of values that are normalised together: (y, dx, dweight, dbias) place by place.

    The gradient is the product with the Jacobian of z = (x - mean) / s, which is
    (delta_ij - 1/m - z_i z_j / m) / s.
    """
    for x, w, b, g in zip(parts, weights, biases, grads, strict=True):
        m = len(x)
        mean = sum(x) / m
        s = np.sqrt(sum((v - mean) ** 2 for v in x) / m + eps)
        z = (x - mean) / s
        jacobian = (np.eye(m) - 1 / m - np.outer(z, z) / m) / s
        yield z * w + b, jacobian @ (g * w), g * z, g


def over(x, w, b, grad, eps, split):
    """(y, dx, dw, db) where `split` gives the parts of an array as rows; w and b of x's shape."""
    wide = [split(np.asarray(a, np.float64)) for a in (x, w, b, grad)]
    return [np.array(a) for a in zip(*normalised(*wide, eps), strict=True)]


def assert_near(result, expected, dtype, factor=1):
    assert result.dtype == dtype
    atol = factor * TOLERANCE[dtype] * max(1, np.abs(expected).max(initial=0))
    assert_allclose(result, expected, rtol=0, atol=atol)


def affine(rng, channels, dtype):
    return rng.normal(size=channels).astype(dtype), rng.normal(size=channels).astype(dtype)


def per_channel(w, shape):
    return np.broadcast_to(w.reshape(1, -1, *[1] * (len(shape) - 2)), shape)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("groups", [1, 2, 6, "instance"])
@every_dtype
def test_group_and_instance_norm(shape, groups, dtype, rng):
    if groups == "instance" and np.prod(shape[2:]) == 1:
        pytest.skip("an instance of one value")
    x, grad = (rng.normal(2, 3, shape).astype(dtype) for _ in range(2))
    w, b = affine(rng, shape[1], dtype)
    if groups == "instance":
        count = shape[1]

        def function(x, w, b):
            return F.instance_norm(x, weight=w, bias=b, eps=1e-3)
    else:
        count = groups

        def function(x, w, b):
            return F.group_norm(x, groups, w, b, eps=1e-3)

    out, (dx, dw, db) = forward_backward(function, x, w, b, grad=grad)
    split = methodcaller("reshape", shape[0] * count, -1)
    wide = per_channel(w, shape), per_channel(b, shape)
    expected = [a.reshape(shape) for a in over(x, *wide, grad, 1e-3, split)]
    axes = (0, *range(2, len(shape)))
    assert_near(out, expected[0], dtype)
    assert_near(dx, expected[1], dtype, 10)
    assert_near(dw, expected[2].sum(axis=axes), dtype, 10)
    assert_near(db, expected[3].sum(axis=axes), dtype, 10)


@pytest.mark.parametrize(
    ("shape", "normalized"), [((6,), 6), ((4, 5), (5,)), ((3, 4, 5), (4, 5)), ((2, 3, 2, 2), (2,))]
)
@every_dtype
def test_layer_norm(shape, normalized, dtype, rng):
    x, grad = (rng.normal(2, 3, shape).astype(dtype) for _ in range(2))
    w, b = affine(rng, normalized, dtype)
    out, (dx, dw, db) = forward_backward(
        lambda x, w, b: F.layer_norm(x, normalized, w, b, eps=1e-3), x, w, b, grad=grad
    )
    split = methodcaller("reshape", -1, w.size)
    wide = np.broadcast_to(w, shape), np.broadcast_to(b, shape)
    expected = [a.reshape(-1, *w.shape) for a in over(x, *wide, grad, 1e-3, split)]
    assert_near(out, expected[0].reshape(shape), dtype)
    assert_near(dx, expected[1].reshape(shape), dtype, 10)
    assert_near(dw, expected[2].sum(axis=0), dtype, 10)
    assert_near(db, expected[3].sum(axis=0), dtype, 10)


CALLS = {
    "group_norm": lambda x, *wb: F.group_norm(x, 2, *wb),
    "instance_norm": lambda x, *wb: F.instance_norm(x, None, None, *wb),
    "layer_norm": lambda x, *wb: F.layer_norm(x, x.shape[1:], *wb),
}
every_norm = pytest.mark.parametrize("name", CALLS)


def parameters(name, shape, rng, dtype=np.float64):
    return affine(rng, shape[1:] if name == "layer_norm" else shape[1], dtype)


@every_norm
def test_without_parameters(name, rng):
    """Ones and zeros."""
    x = rng.normal(size=(2, 4, 3, 5))
    ones = np.ones_like(parameters(name, x.shape, rng)[0])
    expected, (dx, dw, db) = forward_backward(CALLS[name], x, ones, 0 * ones)
    for options in ((), (ones,), (None, 0 * ones)):
        out, (only,) = forward_backward(lambda x, o=options: CALLS[name](x, *o), x)
        assert_allclose(out, expected, rtol=1e-14)
        assert_allclose(only, dx, rtol=0, atol=1e-13)
    assert dw.shape == db.shape == ones.shape


@every_norm
def test_gradcheck(name, rng):
    arrays = (rng.normal(size=(2, 4, 3)), *parameters(name, (2, 4, 3), rng))
    tensors = [fastconv.Tensor(array, requires_grad=True) for array in arrays]
    assert fastconv.gradcheck(CALLS[name], tensors)


@every_norm
@every_dtype
def test_memory_layouts(name, dtype, rng):
    shape = (3, 4, 5, 6)
    assert_same_for_any_layout(
        CALLS[name], integers(rng, shape, dtype), *parameters(name, shape, rng, dtype)
    )


@pytest.mark.usefixtures("keep_threads")
@every_norm
@every_dtype
def test_threads_change_no_bit(name, dtype, rng):
    shape = (2, 8, 120, 130)
    x = rng.normal(size=shape).astype(dtype)
    assert_same_for_any_threads(CALLS[name], x, *parameters(name, shape, rng, dtype))


@every_norm
@every_dtype
def test_large_mean(name, dtype, rng):
    """A mean 10^4 times the spread costs less than rounding the input did."""
    x = (rng.normal(size=(2, 4, 30, 40)) + 1e4).astype(dtype)
    out = CALLS[name](x)
    wide = CALLS[name](x.astype(np.float64))
    assert_allclose(out, wide, rtol=0, atol=5e-4 if dtype == np.float32 else 1e-9)
    assert abs(wide.std() - 1) < 1e-3


@every_norm
@pytest.mark.parametrize("shape", [(0, 4, 3), (2, 4, 0), (0, 4, 0)], ids=str)
def test_empty_arrays(name, shape, rng):
    wb = parameters(name, shape, rng)
    out, (dx, dw, db) = forward_backward(CALLS[name], np.zeros(shape), *wb)
    assert out.shape == dx.shape == shape
    for result, array in zip((dw, db), wb, strict=True):
        assert_array_equal(result, np.zeros(array.shape))


@every_norm
def test_what_is_not_finite_stays_in_its_part(name, rng):
    x = rng.normal(size=(2, 4, 3, 5))
    x[1, 0, 2, 3] = np.nan
    x[1, 1, 0, 0] = np.inf
    out, _ = forward_backward(CALLS[name], x)
    touched = {"group_norm": np.s_[1, :2], "instance_norm": np.s_[1, :2], "layer_norm": np.s_[1]}
    assert np.isnan(out[touched[name]]).all()
    out[touched[name]] = 0
    assert np.isfinite(out).all()


@every_dtype
@pytest.mark.parametrize("momentum", [0.0, 0.3, 1.0])
def test_instance_norm_running_statistics(momentum, dtype, rng):
    """Means over the samples of their means and unbiased variances; used in evaluation."""
    x = rng.normal(2, 3, (4, 3, 5, 2)).astype(dtype)
    mean, var = rng.normal(size=3).astype(dtype), rng.uniform(0.5, 2, 3).astype(dtype)
    wide = x.astype(np.float64)
    expected = [
        (1 - momentum) * mean + momentum * wide.mean(axis=(2, 3)).mean(axis=0),
        (1 - momentum) * var + momentum * wide.var(axis=(2, 3), ddof=1).mean(axis=0),
    ]
    out = F.instance_norm(x, mean, var, momentum=momentum)
    assert_array_equal(out, F.instance_norm(x))
    for result, value in zip((mean, var), expected, strict=True):
        assert_allclose(result, value, rtol=1e-6 if dtype == np.float32 else 1e-14)
    fixed = F.instance_norm(x, mean, var, use_input_stats=False)
    assert_array_equal(fixed, F.batch_norm(x, mean, var))


@given(
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 4),
    st.lists(st.integers(1, 4), max_size=3),
    seeds(),
)
def test_any_shape(batch, groups, of_group, spatial, seed):
    """Group norm is batch norm of an array whose channels are samples' groups."""
    x = np.random.default_rng(seed).normal(size=(batch, groups * of_group, *spatial))
    if x.size == groups:
        return
    seen = x.reshape(1, batch * groups, -1)
    if seen.shape[2] > 1:
        expected = F.batch_norm(seen, None, None, training=True).reshape(x.shape)
        assert_allclose(F.group_norm(x, groups), expected, rtol=0, atol=1e-10)
    else:
        assert_array_equal(F.group_norm(x, groups), np.zeros(x.shape))


def test_layers_state(rng):
    """Names and values of torch's state dicts, and what is learnt in training."""
    assert list(nn.GroupNorm(2, 4).state_dict()) == ["weight", "bias"]
    assert list(nn.LayerNorm((3, 4)).state_dict()) == ["weight", "bias"]
    assert list(nn.LayerNorm(3, bias=False).state_dict()) == ["weight"]
    assert list(nn.InstanceNorm2d(4).state_dict()) == []
    layer = nn.InstanceNorm2d(4, affine=True, track_running_stats=True, dtype=np.float64)
    names = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    assert sorted(layer.state_dict()) == sorted(names)
    x = rng.normal(2, 3, (3, 4, 5, 6))
    assert_array_equal(layer(x).numpy(), F.instance_norm(x))
    assert_allclose(layer.running_mean, 0.1 * x.mean(axis=(0, 2, 3)), rtol=1e-12)
    layer.eval()
    expected = F.batch_norm(x, layer.running_mean, layer.running_var)
    assert_array_equal(layer(x).numpy(), expected)
    assert_array_equal(layer(x[1]).numpy(), expected[1])


X = np.zeros((2, 6, 4))


@pytest.mark.parametrize(
    ("call", "raises", "says"),
    [
        (lambda: F.group_norm(X, 4), ValueError, "num_groups must divide the 6 channels, got 4"),
        (lambda: F.group_norm(X, 0), ValueError, "num_groups must be at least 1, got 0"),
        (lambda: F.group_norm(X, 2.0), TypeError, "num_groups must be an integer, got 2.0"),
        (lambda: F.group_norm(X[0, 0], 1), ValueError, r"input must have at least 2 axes"),
        (lambda: F.group_norm(X, 2, np.ones(4)), ValueError, r"weight must have shape \(6,\)"),
        (lambda: F.group_norm(X, 2, None, np.ones(6, "f")), TypeError, "bias has dtype float32"),
        (lambda: F.group_norm(X, 2, eps=-1), ValueError, "eps must not be negative, got -1.0"),
        (lambda: F.group_norm(X[:1, :, 0], 6), ValueError, "more than one value per group"),
        (lambda: F.instance_norm(X[:, :, 0]), ValueError, "at least 3 axes"),
        (lambda: F.instance_norm(X[:, :, :1]), ValueError, "more than one value per channel"),
        (lambda: F.instance_norm(X, use_input_stats=False), ValueError, "running_mean and running"),
        (lambda: F.instance_norm(X, np.zeros(5), np.ones(5)), ValueError, "running_mean must have"),
        (lambda: F.instance_norm(X, momentum="a"), TypeError, "momentum must be a number"),
        (lambda: F.layer_norm(X, 6), ValueError, r"normalized_shape=\(6,\), got \(2, 6, 4\)"),
        (lambda: F.layer_norm(X, ()), ValueError, "normalized_shape must name at least one axis"),
        (lambda: F.layer_norm(X, 4.0), TypeError, "normalized_shape must be an integer"),
        (lambda: F.layer_norm(X, 4, np.ones((4, 1))), ValueError, r"weight must have shape \(4,\)"),
        (lambda: F.layer_norm(X.astype(int), 4), TypeError, "input must have dtype float32 or"),
        (lambda: nn.GroupNorm(4, 6), ValueError, "num_groups must divide num_channels=6, got 4"),
        (lambda: nn.GroupNorm(2, 4)(X), ValueError, "input must have num_channels=4 channels"),
        (lambda: nn.InstanceNorm1d(4)(X), ValueError, "input must have num_features=4 channels"),
        (lambda: nn.InstanceNorm2d(6)(X[0]), ValueError, "input must have 4 axes, or 3 without"),
    ],
)
def test_wrong_arguments(call, raises, says):
    with pytest.raises(raises, match=says):
        call()
