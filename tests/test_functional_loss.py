"""Losses against their definitions, in values and gradients."""

from functools import partial

import naive
import numpy as np
import pytest
from conftest import assert_same_for_any_layout, assert_same_for_any_threads, forward_backward
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from strategies import DTYPES, seeds

import fastconv
import fastconv.functional as F

every_dtype = pytest.mark.parametrize("dtype", DTYPES)
every_reduction = pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
SHAPES = [(4,), (5, 4), (1, 2), (2, 3, 5), (2, 4, 3, 2), (2, 3, 2, 1, 4)]
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def classes(shape):
    """How many classes the scores are for: (C,) or (N, C, ...)."""
    return shape[0] if len(shape) == 1 else shape[1]


def labels(rng, shape):
    """Class indices for scores of this shape; int64, a 0-d array for one sample."""
    places = () if len(shape) == 1 else (shape[0], *shape[2:])
    return np.array(rng.integers(0, classes(shape), places))


def probabilities(rng, shape):
    """Positive numbers that sum to one over the classes."""
    p = rng.uniform(0.1, 1, shape)
    return p / p.sum(axis=0 if len(shape) == 1 else 1, keepdims=True)


def assert_equals_twin(function, twin, x, dtype):
    """Value and gradient by x; the twin takes float64."""
    expected = np.asarray(twin(x))
    rng = np.random.default_rng(1)
    grad = rng.uniform(0.5, 2, expected.shape)
    out, (dx,) = forward_backward(function, x.astype(dtype), grad=grad.astype(dtype))
    assert out.shape == expected.shape
    assert out.dtype == dx.dtype == dtype
    tolerance = 1e-5 if dtype == np.float32 else 1e-13
    assert_allclose(out, expected, rtol=tolerance, atol=tolerance)
    reference = naive.numeric_gradient(twin, x, grad)
    assert_allclose(dx, reference, rtol=0, atol=1e-5 if dtype == np.float32 else 1e-8)


@every_shape
@every_reduction
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@every_dtype
def test_cross_entropy_of_classes(shape, reduction, weighted, label_smoothing, dtype, rng):
    x, target = 2 * rng.normal(size=shape), labels(rng, shape)
    weight = rng.uniform(0.5, 2, classes(shape)).astype(dtype) if weighted else None
    options = {"reduction": reduction, "weight": weight, "label_smoothing": label_smoothing}
    assert_equals_twin(
        partial(F.cross_entropy, target=target, **options),
        partial(naive.cross_entropy, target=target, **options),
        x.astype(dtype).astype(np.float64),
        dtype,
    )


@every_shape
@every_reduction
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@every_dtype
def test_cross_entropy_of_probabilities(shape, reduction, weighted, label_smoothing, dtype, rng):
    x, target = 2 * rng.normal(size=shape), probabilities(rng, shape).astype(dtype)
    weight = rng.uniform(0.5, 2, classes(shape)).astype(dtype) if weighted else None
    options = {"reduction": reduction, "weight": weight, "label_smoothing": label_smoothing}
    assert_equals_twin(
        partial(F.cross_entropy, target=target, **options),
        partial(naive.cross_entropy, target=target, **options),
        x.astype(dtype).astype(np.float64),
        dtype,
    )


@every_reduction
@pytest.mark.parametrize("ignored", [-100, -1, 2])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_cross_entropy_ignores(reduction, ignored, label_smoothing, rng):
    """Ignored places add nothing, count for nothing, and get no gradient."""
    shape = (3, 4, 5)
    x, target = rng.normal(size=shape), labels(rng, shape)
    target[0, :2] = target[2, 3] = ignored
    options = {
        "ignore_index": ignored,
        "reduction": reduction,
        "weight": rng.uniform(0.5, 2, 4),
        "label_smoothing": label_smoothing,
    }
    function = partial(F.cross_entropy, target=target, **options)
    assert_equals_twin(
        function, partial(naive.cross_entropy, target=target, **options), x, np.float64
    )
    out = function(x)
    _, (dx,) = forward_backward(function, x, grad=np.ones(out.shape))
    assert_array_equal(dx[0, :, :2], np.zeros((4, 2)))


def test_cross_entropy_of_nothing_but_ignored():
    """0 / 0 for the mean, as in torch, without a warning; 0 for the sum."""
    x, target = np.ones((2, 3)), np.full(2, -100)
    assert np.isnan(F.cross_entropy(x, target))
    assert F.cross_entropy(x, target, reduction="sum") == 0


def test_cross_entropy_of_large_scores():
    """Neither overflow nor log(0)."""
    x = np.array([[1e4, 0.0, -1e4], [-1e4, 1e4, 0.0]], np.float32)
    loss = F.cross_entropy(x, np.array([0, 0]), reduction="none")
    assert_allclose(loss, [0, 2e4])


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.uint8])
def test_labels_of_any_integer_dtype(dtype, rng):
    x, target = rng.normal(size=(6, 4)), rng.integers(0, 4, 6)
    expected = naive.cross_entropy(x, target)
    assert_allclose(F.cross_entropy(x, target.astype(dtype)), expected, rtol=1e-13)


@every_shape
@every_reduction
@pytest.mark.parametrize("weighted", [False, True])
@every_dtype
def test_nll_loss(shape, reduction, weighted, dtype, rng):
    x, target = rng.normal(size=shape), labels(rng, shape)
    weight = rng.uniform(0.5, 2, classes(shape)).astype(dtype) if weighted else None
    options = {"reduction": reduction, "weight": weight}
    assert_equals_twin(
        partial(F.nll_loss, target=target, **options),
        partial(naive.nll_loss, target=target, **options),
        x.astype(dtype).astype(np.float64),
        dtype,
    )


@every_reduction
def test_nll_loss_ignores(reduction, rng):
    x, target = rng.normal(size=(3, 4, 5)), labels(rng, (3, 4, 5))
    options = {"target": target, "ignore_index": int(target[0, 0]), "reduction": reduction}
    assert_equals_twin(
        partial(F.nll_loss, **options), partial(naive.nll_loss, **options), x, np.float64
    )


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_cross_entropy_is_nll_of_log_softmax(reduction, rng):
    x, target = rng.normal(size=(3, 4, 5)), labels(rng, (3, 4, 5))
    weight = rng.uniform(0.5, 2, 4)
    options = {"target": target, "weight": weight, "reduction": reduction}
    direct, (dx,) = forward_backward(partial(F.cross_entropy, **options), x)
    composed, (dx_composed,) = forward_backward(
        lambda x: F.nll_loss(F.log_softmax(x, 1), **options), x
    )
    assert_allclose(direct, composed, rtol=1e-13)
    assert_allclose(dx, dx_composed, rtol=0, atol=1e-13)


@pytest.mark.parametrize("shape", [(), (5,), (3, 4), (2, 3, 4, 5)], ids=str)
@every_reduction
@every_dtype
def test_mse_loss(shape, reduction, dtype, rng):
    x, target = rng.normal(size=shape), rng.normal(size=shape).astype(dtype)
    assert_equals_twin(
        partial(F.mse_loss, target=target, reduction=reduction),
        partial(naive.mse_loss, target=target, reduction=reduction),
        x.astype(dtype).astype(np.float64),
        dtype,
    )


@pytest.mark.parametrize("shape", [(5,), (3, 4), (2, 3, 4)], ids=str)
@every_reduction
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("pos_weighted", [False, True])
@every_dtype
def test_binary_cross_entropy(shape, reduction, weighted, pos_weighted, dtype, rng):
    x, target = 3 * rng.normal(size=shape), rng.uniform(0, 1, shape).astype(dtype)
    options = {
        "weight": rng.uniform(0.5, 2, shape).astype(dtype) if weighted else None,
        "pos_weight": rng.uniform(0.5, 2, shape[-1]).astype(dtype) if pos_weighted else None,
        "reduction": reduction,
    }
    assert_equals_twin(
        partial(F.binary_cross_entropy_with_logits, target=target, **options),
        partial(naive.binary_cross_entropy_with_logits, target=target, **options),
        x.astype(dtype).astype(np.float64),
        dtype,
    )


def test_binary_cross_entropy_of_large_scores():
    """Neither overflow nor a warning."""
    x = np.array([1e4, -1e4, 1e4, -1e4], np.float32)
    target = np.array([1, 0, 0, 1], np.float32)
    out, (dx,) = forward_backward(
        partial(F.binary_cross_entropy_with_logits, target=target, reduction="none"),
        x,
        grad=np.ones(4, np.float32),
    )
    assert_array_equal(out, [0, 0, 1e4, 1e4])
    assert_array_equal(dx, [0, 0, 1, -1])


@pytest.mark.parametrize(
    "loss",
    [F.mse_loss, F.binary_cross_entropy_with_logits, F.cross_entropy],
    ids=lambda f: f.__name__,
)
def test_gradient_by_the_target(loss, rng):
    """Targets that are Tensors get their gradient too, as in torch."""
    x, target = rng.normal(size=(3, 4)), probabilities(rng, (3, 4))
    tensors = [fastconv.Tensor(array, requires_grad=True) for array in (x, target)]
    assert fastconv.gradcheck(loss, tensors)


@given(
    st.integers(1, 4),
    st.integers(1, 5),
    st.lists(st.integers(1, 3), max_size=2),
    st.data(),
    seeds(),
)
def test_cross_entropy_any_shape(batch, n_classes, spatial, data, seed):
    shape = (batch, n_classes, *spatial)
    rng = np.random.default_rng(seed)
    x, target = rng.normal(size=shape), labels(rng, shape)
    options = {
        "reduction": data.draw(st.sampled_from(["mean", "sum", "none"])),
        "label_smoothing": data.draw(st.sampled_from([0.0, 0.3, 1.0])),
        "weight": data.draw(st.sampled_from([None, rng.uniform(0.5, 2, n_classes)])),
    }
    assert_equals_twin(
        partial(F.cross_entropy, target=target, **options),
        partial(naive.cross_entropy, target=target, **options),
        x,
        np.float64,
    )


LOSSES = {
    "cross_entropy": lambda x, target: F.cross_entropy(x, target),
    "nll_loss": lambda x, target: F.nll_loss(x, target),
    "mse_loss": lambda x, target: F.mse_loss(x, (target[:, None] * np.ones(4)).astype(x.dtype)),
    "binary_cross_entropy": lambda x, target: F.binary_cross_entropy_with_logits(
        x, (target[:, None] > np.arange(4)).astype(x.dtype)
    ),
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())


@every_loss
def test_gradcheck(loss, rng):
    x = fastconv.Tensor(rng.normal(size=(3, 4)), requires_grad=True)
    target = rng.integers(0, 4, 3)
    assert fastconv.gradcheck(lambda x: loss(x, target), [x])


@every_loss
@every_dtype
def test_memory_layouts(loss, dtype, rng):
    x = rng.normal(size=(6, 4)).astype(dtype)
    target = rng.integers(0, 4, 6)
    assert_same_for_any_layout(lambda x: loss(x, target), x)


def test_target_in_any_layout(rng):
    """Sliced, reversed, read-only labels give the same loss and keep their values."""
    x, target = rng.normal(size=(6, 4)), rng.integers(0, 4, 6)
    expected = F.cross_entropy(x, target)
    for variant in (np.repeat(target, 2)[::2], target[::-1].copy()[::-1], target.astype(">i8")):
        variant.flags.writeable = False
        before = variant.tobytes()
        assert F.cross_entropy(x, variant) == expected
        assert variant.tobytes() == before


@pytest.mark.usefixtures("keep_threads")
@every_loss
@every_dtype
def test_threads_change_no_bit(loss, dtype, rng):
    target = rng.integers(0, 4, 9000)
    x = rng.normal(size=(9000, 4)).astype(dtype)
    assert_same_for_any_threads(lambda x: loss(x, target), x)


@every_loss
def test_arrays_in_array_out(loss, rng):
    """Also an array without axes is an ndarray."""
    assert isinstance(loss(rng.normal(size=(3, 4)), rng.integers(0, 4, 3)), np.ndarray)


@every_loss
def test_a_loss_is_a_number(loss, rng):
    """The mean has no axes; backward needs no argument."""
    x = fastconv.Tensor(rng.normal(size=(3, 4)), requires_grad=True)
    out = loss(x, rng.integers(0, 4, 3))
    assert out.shape == ()
    out.backward()
    assert x.grad.shape == x.shape
