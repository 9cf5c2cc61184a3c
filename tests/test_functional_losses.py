"""Losses of differences, divergences and angles against their definitions in float64."""

from functools import partial

import numpy as np
import pytest
import scipy.special as special
from conftest import assert_same_for_any_layout, forward_backward
from numpy.testing import assert_allclose, assert_array_equal
from strategies import DTYPES

import fastconv
import fastconv.functional as F
from fastconv import nn

every_dtype = pytest.mark.parametrize("dtype", DTYPES)
SHAPES = [(), (5,), (4, 6), (2, 3, 4, 2)]


def cosine(a, b):
    """Of the vectors along the last axis."""
    product = np.sqrt((a * a).sum(-1) * (b * b).sum(-1))
    return (a * b).sum(-1) / product


# The loss, its definition per value, and how its arguments are made of normal numbers.
LOSSES = {
    "l1": (F.l1_loss, lambda x, t: np.abs(x - t), None),
    "smooth_l1": (
        partial(F.smooth_l1_loss, beta=0.7),
        lambda x, t: np.where(np.abs(x - t) < 0.7, (x - t) ** 2 / 1.4, np.abs(x - t) - 0.35),
        None,
    ),
    "smooth_l1_0": (partial(F.smooth_l1_loss, beta=0), lambda x, t: np.abs(x - t), None),
    "huber": (
        partial(F.huber_loss, delta=0.7),
        lambda x, t: np.where(
            np.abs(x - t) < 0.7, (x - t) ** 2 / 2, 0.7 * (np.abs(x - t) - 0.35)
        ),
        None,
    ),
    "kl_div": (
        F.kl_div,
        lambda x, t: special.rel_entr(t, np.exp(x)),
        lambda x, t: (-np.abs(x), special.expit(t)),
    ),
    "kl_div_log": (partial(F.kl_div, log_target=True), lambda x, t: np.exp(t) * (t - x), None),
    "bce": (
        F.binary_cross_entropy,
        lambda x, t: special.entr(t) + special.rel_entr(t, x) + special.entr(1 - t)
        + special.rel_entr(1 - t, 1 - x),
        lambda x, t: (special.expit(x), special.expit(t)),
    ),
}  # fmt: skip
every_loss = pytest.mark.parametrize("name", LOSSES)


def arguments(name, rng, shape, dtype=np.float64):
    pair = rng.normal(size=shape), rng.normal(size=shape)
    made = LOSSES[name][2](*pair) if LOSSES[name][2] else pair
    return [np.asarray(a, dtype) for a in made]


@every_loss
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("reduction", ["none", "sum", "mean", "batchmean"])
@every_dtype
def test_values(name, shape, reduction, dtype, rng):
    loss, definition, _ = LOSSES[name]
    if reduction == "batchmean" and not name.startswith("kl_div"):
        pytest.skip("for divergences alone")
    x, t = arguments(name, rng, shape, dtype)
    each = definition(x.astype(np.float64), t.astype(np.float64))
    expected = {
        "none": each,
        "sum": each.sum(),
        "mean": each.mean(),
        "batchmean": each.sum() / (shape[0] if shape else 1),
    }[reduction]
    out = loss(x, t, reduction=reduction)
    assert out.shape == np.shape(expected)
    assert out.dtype == dtype
    # entropies cancel in the definitions
    tolerance = 4e-6 if dtype == np.float32 else 1e-14
    assert_allclose(out, expected, rtol=tolerance, atol=tolerance)


@every_loss
@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_gradients_by_both(name, reduction, rng):
    tensors = [fastconv.Tensor(a, requires_grad=True) for a in arguments(name, rng, (3, 4))]
    assert fastconv.gradcheck(partial(LOSSES[name][0], reduction=reduction), tensors)


@every_loss
@every_dtype
def test_memory_layouts(name, dtype, rng):
    arrays = arguments(name, rng, (3, 4, 2, 5), dtype)
    assert_same_for_any_layout(partial(LOSSES[name][0], reduction="none"), *arrays)


@every_loss
def test_empty_arrays(name):
    x = fastconv.Tensor(np.zeros((0, 3)), requires_grad=True)
    out = LOSSES[name][0](x, np.zeros((0, 3)), reduction="sum")
    assert out.item() == 0
    out.backward()
    assert x.grad.shape == (0, 3)
    assert np.isnan(LOSSES[name][0](x.data, x.data))


def test_large_differences():
    """No overflow of a square, and no warning."""
    x, t = np.array([1e300, -np.inf, np.nan]), np.zeros(3)
    for loss in (F.l1_loss, F.smooth_l1_loss, F.huber_loss):
        assert_array_equal(loss(x, t, reduction="none"), [1e300, np.inf, np.nan])


def test_divergence_of_zeros():
    """0 log 0 is 0; a negative probability is NaN."""
    x, t = np.array([-1.0, -2.0, -1.0]), np.array([0.0, 1.0, -1.0])
    assert_array_equal(F.kl_div(x, t, reduction="none"), [0, 2, np.nan])


def test_binary_cross_entropy_of_certainties():
    """Logarithms end at -100, as in torch, and a weight scales."""
    x, t = np.array([0.0, 1.0, 0.0, 1.0]), np.array([0.0, 0.0, 1.0, 1.0])
    weight = np.array([1.0, 2.0, 3.0, 4.0])
    out, (dx,) = forward_backward(
        lambda x: F.binary_cross_entropy(x, t, weight, reduction="none"), x, grad=np.ones(4)
    )
    assert_array_equal(out, [0, 200, 300, 0])
    assert_allclose(dx, [0, 2e12, -3e12, 0])


# Angles


@pytest.mark.parametrize(
    ("shapes", "dim"),
    [
        (((4, 5), (4, 5)), 1),
        (((5,), (5,)), 0),
        (((3, 1, 5, 2), (4, 5, 1)), 2),
        (((4, 5), (5,)), -1),
    ],
)
@every_dtype
def test_cosine_similarity(shapes, dim, dtype, rng):
    arrays = [rng.normal(size=shape).astype(dtype) for shape in shapes]
    full = np.broadcast_shapes(*shapes)
    expected = cosine(*(np.moveaxis(np.broadcast_to(a, full), dim, -1) for a in arrays))
    out = F.cosine_similarity(*arrays, dim=dim)
    assert out.shape == expected.shape
    assert out.dtype == dtype
    assert_allclose(out, expected, rtol=0, atol=1e-6 if dtype == np.float32 else 1e-14)
    tensors = [fastconv.Tensor(a.astype(np.float64), requires_grad=True) for a in arrays]
    for eps in (1e-8, 2.0):
        assert fastconv.gradcheck(partial(F.cosine_similarity, dim=dim, eps=eps), tensors)


@every_dtype
def test_cosine_memory_layouts(dtype, rng):
    arrays = (rng.integers(-4, 5, (3, 4, 2, 5)).astype(dtype) for _ in range(2))
    assert_same_for_any_layout(partial(F.cosine_similarity, dim=0), *arrays)


def test_cosine_of_zero_vectors():
    """Zero, with a gradient that is large and finite."""
    out, (dx,) = forward_backward(
        lambda x: F.cosine_similarity(x, np.ones((1, 4))), np.zeros((1, 4)), grad=np.ones(1)
    )
    assert out == 0
    assert_allclose(dx, np.full((1, 4), 0.5e8))


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@every_dtype
def test_cosine_embedding_loss(reduction, dtype, rng):
    a, b = (rng.normal(size=(6, 5)).astype(dtype) for _ in range(2))
    target = np.array([1, -1, 1, -1, -1, 1])
    cosines = cosine(a.astype(np.float64), b.astype(np.float64))
    each = np.where(target == 1, 1 - cosines, np.maximum(cosines - 0.1, 0))
    expected = {"none": each, "sum": each.sum(), "mean": each.mean()}[reduction]
    function = partial(F.cosine_embedding_loss, target=target, margin=0.1, reduction=reduction)
    out = function(a, b)
    assert out.dtype == dtype
    assert_allclose(out, expected, rtol=0, atol=1e-6 if dtype == np.float32 else 1e-14)
    tensors = [fastconv.Tensor(x.astype(np.float64), requires_grad=True) for x in (a, b)]
    assert fastconv.gradcheck(function, tensors)
    one = F.cosine_embedding_loss(a[1], b[1], np.array(-1.0), 0.1)
    assert_allclose(one, each[1], rtol=0, atol=1e-6 if dtype == np.float32 else 1e-14)


def test_layers(rng):
    """Those of other arguments than two arrays of numbers, and probabilities."""
    a, b = rng.normal(size=(2, 4, 6))
    target = np.array([1, -1, 1, -1])
    layer = nn.CosineSimilarity(dim=0, eps=1e-3)
    assert_array_equal(layer(a, b).numpy(), F.cosine_similarity(a, b, 0, 1e-3))
    layer = nn.CosineEmbeddingLoss(margin=0.2, reduction="sum")
    assert_array_equal(
        layer(a, b, target).numpy(), F.cosine_embedding_loss(a, b, target, 0.2, "sum")
    )
    p, q, weight = special.expit(a), special.expit(b), np.arange(6.0)
    layer = nn.BCELoss(weight)
    assert list(layer.state_dict()) == ["weight"]
    assert_array_equal(layer(p, q).numpy(), F.binary_cross_entropy(p, q, weight))


X = np.zeros((2, 3))


@pytest.mark.parametrize(
    ("call", "raises", "says"),
    [
        *(
            (lambda loss=loss: loss(X, X[:1]), ValueError, r"target must have shape \(2, 3\)")
            for loss in (
                F.l1_loss,
                F.smooth_l1_loss,
                F.huber_loss,
                F.kl_div,
                F.binary_cross_entropy,
            )
        ),
        (lambda: F.l1_loss(X, X.astype("f")), TypeError, "target has dtype float32"),
        (lambda: F.l1_loss(X, X, "batchmean"), ValueError, "reduction must be one of"),
        (lambda: F.kl_div(X, X, "average"), ValueError, "reduction must be one of"),
        (lambda: F.kl_div(X, X, log_target=1), TypeError, "log_target must be True or False"),
        (lambda: F.smooth_l1_loss(X, X, beta=-1), ValueError, "beta must not be negative, got -1"),
        (lambda: F.huber_loss(X, X, delta=0), ValueError, "delta must be more than 0, got 0.0"),
        (
            lambda: F.binary_cross_entropy(X - 1, X),
            ValueError,
            "input must be in .*got -1",
        ),
        (lambda: F.binary_cross_entropy(X * np.nan, X), ValueError, r"input must be in \[0, 1\]"),
        (lambda: F.binary_cross_entropy(X, X, np.ones(2)), ValueError, "weight must broadcast"),
        (lambda: F.cosine_similarity(X, X[:, :2]), ValueError, "x1 and x2 must broadcast"),
        (lambda: F.cosine_similarity(X, X, 2), ValueError, r"dim must be in \[-2, 2\), got 2"),
        (lambda: F.cosine_similarity(X, X, eps=-1), ValueError, "eps must not be negative"),
        (lambda: F.cosine_similarity(X[0, 0], X[0, 0]), ValueError, "must have an axis"),
        (
            lambda: F.cosine_embedding_loss(X, X, [1, 0]),
            ValueError,
            "must be 1 or -1, got 0",
        ),
        (lambda: F.cosine_embedding_loss(X, X, [1]), ValueError, r"target must have shape \(2,\)"),
        (lambda: F.cosine_embedding_loss(X, X[:1], [1]), ValueError, "input2 must have shape"),
        (lambda: F.cosine_embedding_loss(X[None], X, [1]), ValueError, "input1 must have 1 or 2"),
    ],
)
def test_wrong_arguments(call, raises, says):
    with pytest.raises(raises, match=says):
        call()
