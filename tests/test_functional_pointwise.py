"""Functions of one value against their definitions in float64, by SciPy where it has them."""

from functools import partial

import numpy as np
import pytest
import scipy.special as special
from conftest import (
    assert_same_for_any_layout,
    assert_same_for_any_threads,
    forward_backward,
    integers,
)
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from strategies import DTYPES, layouts

import fastconv
import fastconv.functional as F
from fastconv import nn

every_dtype = pytest.mark.parametrize("dtype", DTYPES)


def softplus(x):
    return np.logaddexp(0, x)


def gelu_tanh(x):
    return x * special.expit(np.sqrt(8 / np.pi) * (x + 0.044715 * x**3))


SELU = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717

# The function, its definition, and where its derivative jumps.
FUNCTIONS = {
    "elu": (F.elu, lambda x: np.where(x > 0, x, special.expm1(x)), []),
    "elu_2": (
        partial(F.elu, alpha=2.0),
        lambda x: np.where(x > 0, x, 2 * special.expm1(x)),
        [0],
    ),
    "selu": (
        F.selu,
        lambda x: SELU[0] * np.where(x > 0, x, SELU[1] * special.expm1(x)),
        [0],
    ),
    "celu": (
        partial(F.celu, alpha=0.5),
        lambda x: np.where(x > 0, x, 0.5 * special.expm1(x / 0.5)),
        [],
    ),
    "gelu": (F.gelu, lambda x: x * special.ndtr(x), []),
    "gelu_tanh": (partial(F.gelu, approximate="tanh"), gelu_tanh, []),
    "silu": (F.silu, lambda x: x * special.expit(x), []),
    "mish": (F.mish, lambda x: x * np.tanh(softplus(x)), []),
    "sigmoid": (F.sigmoid, special.expit, []),
    "logsigmoid": (F.logsigmoid, special.log_expit, []),
    "tanh": (F.tanh, np.tanh, []),
    "hardtanh": (F.hardtanh, lambda x: np.clip(x, -1, 1), [-1, 1]),
    "hardtanh_wide": (
        partial(F.hardtanh, min_val=-0.5, max_val=np.inf),
        lambda x: np.clip(x, -0.5, np.inf),
        [-0.5],
    ),
    "hardswish": (F.hardswish, lambda x: x * np.clip(x + 3, 0, 6) / 6, [-3, 3]),
    "hardsigmoid": (F.hardsigmoid, lambda x: np.clip(x + 3, 0, 6) / 6, [-3, 3]),
    "softplus": (
        partial(F.softplus, beta=2.0, threshold=9.0),
        lambda x: np.where(2 * x > 9, x, softplus(2 * x) / 2),
        [4.5],
    ),
    "softsign": (F.softsign, lambda x: x / (1 + np.abs(x)), []),
}
every_function = pytest.mark.parametrize("name", FUNCTIONS)
INPLACE = {"elu", "selu", "celu", "silu", "mish", "hardtanh", "hardswish", "hardsigmoid"}


def arguments(dtype):
    """Values near and far from zero, of both signs."""
    rng = np.random.default_rng(7)
    scales = np.repeat([1e-30, 1e-6, 0.01, 0.3, 1, 3, 8], 60)
    return (rng.normal(size=scales.size) * scales).astype(dtype)


@every_function
@every_dtype
def test_values(name, dtype):
    """Within some units in the last place; rounding an exponent costs as many as it is large."""
    function, definition, _ = FUNCTIONS[name]
    x = arguments(dtype)
    y = function(x)
    expected = definition(x.astype(np.float64))
    assert y.dtype == dtype
    info = np.finfo(dtype)
    ulps = 1 if dtype == np.float32 else 8 + np.abs(np.log(np.maximum(np.abs(expected), info.tiny)))
    assert (np.abs(y - expected) <= ulps * info.eps * np.abs(expected) + info.tiny).all()


@every_function
@every_dtype
def test_derivatives(name, dtype):
    """Against differences of the definition."""
    function, definition, jumps = FUNCTIONS[name]
    x = arguments(dtype)
    x = x[(np.abs(x) > 1e-3) & np.all([np.abs(x - at) > 1e-3 for at in [*jumps, 0]], axis=0)]
    grad = np.random.default_rng(8).normal(size=x.shape).astype(dtype)
    _, (dx,) = forward_backward(function, x, grad=grad)
    wide, h = x.astype(np.float64), 1e-4
    near = (definition(wide + h) - definition(wide - h)) / (2 * h)
    far = (definition(wide + 2 * h) - definition(wide - 2 * h)) / (4 * h)
    expected = grad * (4 * near - far) / 3  # without the term in h^2
    assert_allclose(dx, expected, rtol=0, atol=1e-6 if dtype == np.float32 else 1e-10)
    assert dx.dtype == dtype


@every_function
def test_gradcheck(name, rng):
    x = rng.normal(size=(3, 4)) + 0.01
    assert fastconv.gradcheck(FUNCTIONS[name][0], [fastconv.Tensor(x, requires_grad=True)])


# What is left of each function at minus and plus infinity, and where values are large.
LIMITS = {
    "elu": (-1, np.inf, -1, 1e300),
    "elu_2": (-2, np.inf, -2, 1e300),
    "selu": (-SELU[0] * SELU[1], np.inf, -SELU[0] * SELU[1], SELU[0] * 1e300),
    "celu": (-0.5, np.inf, -0.5, 1e300),
    "gelu": (np.nan, np.inf, 0, 1e300),
    "gelu_tanh": (np.nan, np.inf, 0, 1e300),
    "silu": (np.nan, np.inf, 0, 1e300),
    "mish": (np.nan, np.inf, 0, 1e300),
    "sigmoid": (0, 1, 0, 1),
    "logsigmoid": (-np.inf, 0, -1e300, 0),
    "tanh": (-1, 1, -1, 1),
    "hardtanh": (-1, 1, -1, 1),
    "hardtanh_wide": (-0.5, np.inf, -0.5, 1e300),
    "hardswish": (np.nan, np.inf, 0, 1e300),
    "hardsigmoid": (0, 1, 0, 1),
    "softplus": (0, np.inf, 0, 1e300),
    "softsign": (np.nan, np.nan, -1, 1),
}


@every_function
def test_limits(name):
    """Infinities as in torch (a product of zero and infinity is NaN), and no overflow before."""
    x = np.array([-np.inf, np.inf, -1e300, 1e300, np.nan, -800.0, 800.0])
    y, (dx,) = forward_backward(FUNCTIONS[name][0], x, grad=np.ones(7))
    assert_allclose(y[:4], LIMITS[name], rtol=1e-15, atol=0)
    assert np.isnan(y[4])
    assert np.isfinite(y[5:]).all()
    assert np.isfinite(dx[[2, 3, 5, 6]]).all()


def test_derivatives_where_they_jump():
    """As in torch."""
    derivative = {
        F.selu: (0, SELU[0] * SELU[1]),
        F.hardtanh: (-1, 0),
        F.hardswish: (-3, 0),
        F.hardsigmoid: (3, 0),
    }
    for function, (at, expected) in derivative.items():
        _, (dx,) = forward_backward(function, np.array([float(at)]), grad=np.ones(1))
        assert_allclose(dx, expected, rtol=1e-15, err_msg=function.__name__)
    _, (dx,) = forward_backward(F.hardswish, np.array([3.0]), grad=np.ones(1))
    assert dx == 1


@every_function
@pytest.mark.parametrize("shape", [(), (0,), (1,), (4097,), (3, 0, 2), (2, 3, 2, 2, 3)], ids=str)
def test_any_shape(name, shape, rng):
    function, definition, _ = FUNCTIONS[name]
    x = rng.normal(size=shape)
    y, (dx,) = forward_backward(function, x)
    assert y.shape == dx.shape == shape
    assert_allclose(y, definition(x), rtol=1e-13, atol=1e-15)


@every_function
@every_dtype
def test_memory_layouts(name, dtype, rng):
    assert_same_for_any_layout(FUNCTIONS[name][0], rng.normal(size=(3, 5, 4, 7)).astype(dtype))


@pytest.mark.usefixtures("keep_threads")
@pytest.mark.parametrize("name", ["silu", "tanh"])
@every_dtype
def test_threads_change_no_bit(name, dtype, rng):
    x = rng.normal(size=(3, 7, 50, 41)).astype(dtype)
    assert_same_for_any_threads(FUNCTIONS[name][0], x)


@pytest.mark.parametrize("name", sorted(INPLACE))
def test_in_place(name, rng):
    """inplace=True writes into the array it is given, whatever its layout; gradients stay."""
    function = getattr(F, name)
    x = rng.normal(size=(2, 3, 4, 5))
    expected = function(x)
    for layout, variant in layouts(x).items():
        if variant.flags.writeable:
            out = function(variant, inplace=True)
            assert_array_equal(variant, expected, err_msg=layout)
            assert np.shares_memory(out, variant), layout
    _, (dx,) = forward_backward(lambda x: function(2 * x, inplace=True), x)
    _, (expected,) = forward_backward(lambda x: function(2 * x), x)
    assert_array_equal(dx, expected)


@pytest.mark.parametrize(
    ("name", "arguments", "function"),
    [
        ("ELU", (0.5,), partial(F.elu, alpha=0.5)),
        ("SELU", (), F.selu),
        ("CELU", (0.5,), partial(F.celu, alpha=0.5)),
        ("GELU", ("tanh",), partial(F.gelu, approximate="tanh")),
        ("SiLU", (), F.silu),
        ("Mish", (), F.mish),
        ("Sigmoid", (), F.sigmoid),
        ("LogSigmoid", (), F.logsigmoid),
        ("Tanh", (), F.tanh),
        ("Hardtanh", (-2.0, 0.5), partial(F.hardtanh, min_val=-2.0, max_val=0.5)),
        ("Hardswish", (), F.hardswish),
        ("Hardsigmoid", (), F.hardsigmoid),
        ("Softplus", (2.0, 3.0), partial(F.softplus, beta=2.0, threshold=3.0)),
        ("Softsign", (), F.softsign),
        ("Softmin", (1,), partial(F.softmin, dim=1)),
    ],
)
def test_layers(name, arguments, function, rng):
    layer = getattr(nn, name)(*arguments)
    x = rng.normal(size=(2, 3, 4))
    assert_array_equal(layer(x).numpy(), function(x))
    assert repr(layer).startswith(f"{name}(")
    if name in {"ELU", "SELU", "CELU", "SiLU", "Mish", "Hardtanh", "Hardswish", "Hardsigmoid"}:
        layer = getattr(nn, name)(*arguments, inplace=True)
        expected = function(x)
        layer(x)
        assert_array_equal(x, expected)
        assert "inplace=True" in repr(layer)


# softmin


@every_dtype
def test_softmin(dtype, rng):
    x, grad = (rng.normal(size=(3, 5, 2)).astype(dtype) for _ in range(2))
    y, (dx,) = forward_backward(partial(F.softmin, dim=1), x, grad=grad)
    p = special.softmax(-x.astype(np.float64), axis=1)
    assert_allclose(y, p, rtol=1e-6 if dtype == np.float32 else 1e-14)
    expected = -p * (grad - (grad * p).sum(axis=1, keepdims=True))
    assert_allclose(dx, expected, rtol=0, atol=1e-6 if dtype == np.float32 else 1e-14)
    assert_array_equal(F.softmin(np.array([1e5, 0.0, np.inf], dtype), 0), [0, 1, 0])


# prelu


def prelu_gradients(x, w, grad):
    """(dx, dw), place by place."""
    dx, dw = np.zeros(x.shape), np.zeros(w.shape)
    for place in np.ndindex(*x.shape):
        c = place[1] if w.size > 1 else 0
        dx[place] = grad[place] * (1 if x[place] > 0 else w[c])
        dw[c] += 0 if x[place] > 0 else grad[place] * x[place]
    return dx, dw


@pytest.mark.parametrize("shape", [(4, 3), (2, 5, 7), (2, 3, 4, 5), (2, 3, 2, 1, 4)], ids=str)
@pytest.mark.parametrize("single", [True, False])
@every_dtype
def test_prelu(shape, single, dtype, rng):
    """Integers, so that sums are exact."""
    x, w = integers(rng, shape, dtype), integers(rng, 1 if single else shape[1], dtype)
    y, (dx, dw) = forward_backward(F.prelu, x, w)
    slopes = w.reshape(1, -1, *[1] * (len(shape) - 2))
    assert_array_equal(y, np.where(x > 0, x, x * slopes))
    grad = integers(np.random.default_rng(1), shape)
    for result, expected in zip((dx, dw), prelu_gradients(x, w, grad), strict=True):
        assert_array_equal(result, expected)


@pytest.mark.parametrize("shape", [(), (5,), (0,), (0, 3, 4), (2, 3, 0), (2, 3, 2, 1, 2, 2)])
def test_prelu_of_any_shape(shape, rng):
    x, w = integers(rng, shape), np.array([0.5])
    y, (dx, dw) = forward_backward(F.prelu, x, w)
    assert_array_equal(y, np.where(x > 0, x, x / 2))
    grad = integers(np.random.default_rng(1), shape)
    assert_array_equal(dx, np.where(x > 0, grad, grad / 2))
    assert_array_equal(dw, [(grad * np.minimum(x, 0)).sum()])


@every_dtype
def test_prelu_memory_layouts_and_what_is_not_finite(dtype, rng):
    x, w = rng.normal(size=(3, 5, 4, 7)).astype(dtype), rng.normal(size=5).astype(dtype)
    assert_same_for_any_layout(F.prelu, x, w)
    x = np.array([[np.nan, np.inf, -np.inf]], dtype)
    assert_array_equal(F.prelu(x, np.full(3, 0.5, dtype)), x)


@pytest.mark.usefixtures("keep_threads")
def test_prelu_threads_change_no_bit(rng):
    x, w = rng.normal(size=(3, 5, 100, 101)), rng.normal(size=5)
    assert_same_for_any_threads(F.prelu, x, w)


def test_prelu_gradcheck_and_layer(rng):
    x, w = rng.normal(size=(3, 4, 2)), rng.normal(size=4)
    tensors = [fastconv.Tensor(array, requires_grad=True) for array in (x, w)]
    assert fastconv.gradcheck(F.prelu, tensors)
    layer = nn.PReLU(4, init=0.1, dtype=np.float64)
    assert_array_equal(layer(x).numpy(), np.where(x > 0, x, 0.1 * x))
    assert list(layer.state_dict()) == ["weight"]
    assert nn.PReLU().weight.data == np.float32(0.25)


@given(st.floats(width=32), st.sampled_from(sorted(FUNCTIONS)))
def test_any_number(x, name):
    """No warning, and NaN for NaN alone but where zero meets infinity."""
    y, (dx,) = forward_backward(FUNCTIONS[name][0], np.full(3, x, np.float32), grad=np.ones(3, "f"))
    assert (y[0] == y).all() or np.isnan(y).all()
    if np.isfinite(x):
        assert np.isfinite(y).all()
        assert np.isfinite(dx).all()


@pytest.mark.parametrize(
    ("call", "raises", "says"),
    [
        (lambda x: F.elu(x, alpha="a"), TypeError, "alpha must be a number, got 'a'"),
        (lambda x: F.elu(x, alpha=np.nan), ValueError, "alpha must be finite, got nan"),
        (lambda x: F.celu(x, alpha=0), ValueError, "alpha must not be 0"),
        (lambda x: F.gelu(x, approximate="erf"), ValueError, "approximate must be one of 'none'"),
        (lambda x: F.softplus(x, beta=0), ValueError, "beta must not be 0"),
        (lambda x: F.softplus(x, threshold=None), TypeError, "threshold must be a number"),
        (lambda x: F.hardtanh(x, 2, 1), ValueError, "min_val must be at most max_val, got 2.0"),
        (lambda x: F.hardtanh(x, np.nan, 1), ValueError, "min_val must be at most max_val"),
        (lambda x: F.softmin(x, 2), ValueError, r"dim must be in \[-2, 2\), got 2"),
        (lambda x: F.silu(x.astype(int)), TypeError, "input must have dtype float32 or float64"),
        (lambda x: F.tanh(None), TypeError, "input must be an array, got None"),
        (lambda x: F.prelu(x, np.zeros(2)), ValueError, r"weight must have shape \(1,\) or \(3,\)"),
        (lambda x: F.prelu(x, np.zeros(())), ValueError, "weight must have shape"),
        (lambda x: F.prelu(x, np.zeros(3, "f")), TypeError, "weight has dtype float32"),
        (lambda x: nn.PReLU(0), ValueError, "num_parameters must be at least 1, got 0"),
        (lambda x: nn.GELU("erf"), ValueError, "approximate must be one of"),
    ],
)
def test_wrong_arguments(call, raises, says):
    with pytest.raises(raises, match=says):
        call(np.zeros((2, 3)))
