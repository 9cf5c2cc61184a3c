"""What modules do in one pass, against the same operators one by one."""

import math

import numpy as np
import pytest
from conftest import assert_same_for_any_threads, forward_backward
from numpy.testing import assert_allclose, assert_array_equal

import fastconv
import fastconv.functional as F
from fastconv import Tensor, nn
from fastconv._activation import NONE, RELU, RELU6, Activation
from fastconv.functional.norm import normalize

TOLERANCE = {np.float32: 3e-6, np.float64: 1e-14}
ACTIVATIONS = {
    "none": (NONE, lambda x: x),
    "relu": (RELU, F.relu),
    "relu6": (RELU6, F.relu6),
    "leaky": (Activation(0.25), lambda x: F.leaky_relu(x, 0.25)),
}
SHAPES = [(6, 3), (4, 3, 7), (2, 17, 9, 6), (2, 8, 30, 40), (2, 3, 2, 4, 3)]
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)
every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])
every_activation = pytest.mark.parametrize("name", ACTIVATIONS)


def assert_near(result, expected, dtype):
    assert result.dtype == dtype
    largest = max(1, np.abs(expected).max(initial=0))
    assert_allclose(result, expected, rtol=0, atol=4 * TOLERANCE[dtype] * largest)


def norm_arrays(rng, shape, dtype):
    c = shape[1]
    arrays = rng.normal(1, 3, shape), rng.normal(size=c), rng.normal(size=c)
    arrays += rng.normal(size=shape), rng.normal(size=c), rng.uniform(0.5, 2, c)
    return [array.astype(dtype) for array in arrays]


@every_shape
@every_dtype
@every_activation
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("residual", [False, True])
def test_batch_norm(shape, dtype, name, training, residual, rng):
    """Against the operators one by one, which have tests of their own; running statistics too."""
    activation, function = ACTIVATIONS[name]
    x, w, b, r, mean, var = norm_arrays(rng, shape, dtype)
    grad = rng.normal(size=shape).astype(dtype)
    running = [[mean.copy(), var.copy()] for _ in range(2)]
    arrays = (x, w, b, r) if residual else (x, w, b)

    def fused(x, w, b, r=None):
        return normalize(x, *running[0], w, b, training, 0.3, 1e-3, r, activation)

    def one_by_one(x, w, b, r=None):
        y = F.batch_norm(x, *running[1], w, b, training, 0.3, 1e-3)
        return function(y if r is None else y + r)

    y, gradients = forward_backward(fused, *arrays, grad=grad)
    expected_y, expected = forward_backward(one_by_one, *arrays, grad=grad)
    assert_near(y, expected_y, dtype)
    for gradient, truth in zip(gradients, expected, strict=True):
        assert_near(gradient, truth, dtype)
    for array, truth in zip(*running, strict=True):
        assert_array_equal(array, truth)


@every_activation
@pytest.mark.parametrize("residual", [False, True])
def test_gradients_of_batch_norm(name, residual, rng):
    activation = ACTIVATIONS[name][0]
    x, w, b, r, *_ = norm_arrays(rng, (5, 3, 4), np.float64)

    def function(x, w, b, *r):
        return normalize(x, None, None, w, b, True, 0.1, 1e-3, *(r or [None]), activation)

    arrays = (x, w, b, r) if residual else (x, w, b)
    assert fastconv.gradcheck(function, [Tensor(a, requires_grad=True) for a in arrays])


@pytest.mark.usefixtures("keep_threads")
def test_any_threads(rng):
    x, w, b, r, *_ = norm_arrays(rng, (8, 24, 40, 30), np.float32)

    def function(x, w, b, r=None):
        return normalize(x, None, None, w, b, True, 0.1, 1e-5, r, RELU if r is None else RELU6)

    assert_same_for_any_threads(function, x, w, b)
    assert_same_for_any_threads(function, x, w, b, r)


def test_public_arguments(rng):
    x, w, b, r, mean, var = norm_arrays(rng, (2, 3, 5, 4), np.float64)
    plain = F.batch_norm(x, mean, var, w, b)
    assert_allclose(
        F.batch_norm(x, mean, var, w, b, residual=r, activation="relu"),
        np.maximum(plain + r, 0),
        atol=1e-14,
    )
    assert_allclose(
        F.batch_norm(x, mean, var, w, b, activation="relu6"), np.clip(plain, 0, 6), atol=1e-14
    )
    with pytest.raises(ValueError, match="activation must be one of 'relu', 'relu6', got 'tanh'"):
        F.batch_norm(x, mean, var, activation="tanh")
    with pytest.raises(ValueError, match=r"residual .*\(2, 3, 5, 3\)"):
        F.batch_norm(x, mean, var, residual=r[..., :3])
    with pytest.raises(TypeError, match="residual"):
        F.batch_norm(x, mean, var, residual=r.astype(np.float32))


def test_what_is_not_finite():
    """-inf into a rectifier is 0, NaN stays, as one by one."""
    x = np.array([[-np.inf], [np.nan], [np.inf], [-1.0]])
    mean, var = np.zeros(1), np.ones(1)
    for residual in (None, np.zeros_like(x)):
        y = F.batch_norm(x, mean, var, eps=0, residual=residual, activation="relu")
        assert_array_equal(y.ravel(), [0, np.nan, np.inf, 0])
        y = F.batch_norm(x, mean, var, eps=0, residual=residual, activation="relu6")
        assert_array_equal(y.ravel(), [0, np.nan, 6, 0])


def test_residual_of_any_layout(rng):
    x, w, b, r, *_ = norm_arrays(rng, (2, 3, 5, 4), np.float64)
    expected = F.batch_norm(x, None, None, w, b, True, residual=r)
    for layout in (
        np.asfortranarray(r),
        r[:, :, ::-1].copy()[:, :, ::-1],
        np.repeat(r, 2, 3)[..., ::2],
    ):
        assert_array_equal(F.batch_norm(x, None, None, w, b, True, residual=layout), expected)
    broadcast = np.broadcast_to(r[:1], r.shape)
    assert_array_equal(
        F.batch_norm(x, None, None, w, b, True, residual=broadcast),
        F.batch_norm(x, None, None, w, b, True, residual=broadcast.copy()),
    )


# Modules: a network that runs fused, and one whose classes are not the library's ----------------


def unfused(module):
    """The same modules, in sub-classes that containers must call one by one."""
    for name, child in module._modules.items():
        module._modules[name] = unfused(child)
    kind = type(module)
    if kind.__module__.startswith("fastconv.nn") and not isinstance(module, nn.Sequential):
        own = type(kind.__name__, (kind,), {"forward": _forward_of(kind)})
        module.__class__ = own
    return module


def _forward_of(kind):
    def forward(self, *inputs):
        if issubclass(kind, nn.Residual):
            (x,) = inputs
            return self.main(x) + (self.shortcut(x) if "shortcut" in self._modules else x)
        return kind.forward(self, *inputs)

    return forward


def residual_net(dtype, act=nn.ReLU):
    block = nn.Sequential(
        nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), act(),
        nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8),
    )  # fmt: skip
    wider = nn.Sequential(nn.Conv2d(8, 16, 3, 2, padding=1), nn.BatchNorm2d(16))
    shortcut = nn.Sequential(nn.Conv2d(8, 16, 1, 2), nn.BatchNorm2d(16))
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), act(),
        nn.Residual(block), act(),
        nn.Residual(nn.Sequential(nn.Residual(nn.Conv2d(8, 8, 1)), nn.BatchNorm2d(8))),
        nn.Residual(nn.Residual(nn.Conv2d(8, 8, 1)), nn.Identity()), act(),
        nn.Residual(wider, shortcut), act(), act(),
        nn.Sequential(), nn.MaxPool2d(2), act(), nn.Sequential(act(), nn.MaxPool2d(2)),
        nn.Flatten(), nn.Linear(64, 5), act(),
    ).astype(dtype)  # fmt: skip


@every_dtype
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("act", [nn.ReLU, nn.ReLU6, nn.LeakyReLU, lambda: nn.ReLU(inplace=True)])
def test_networks(dtype, training, act, rng):
    fastconv.manual_seed(1)
    net = residual_net(dtype, act)
    fastconv.manual_seed(1)
    other = unfused(residual_net(dtype, act))
    assert type(other[3]) is not nn.Residual
    x = rng.normal(size=(4, 3, 16, 18)).astype(dtype)
    grad = rng.normal(size=(4, 5)).astype(dtype)
    results = []
    for model in (net.train(training), other.train(training)):
        given = Tensor(x, requires_grad=True)
        y = model(given)
        y.backward(grad)
        found = {name: p.grad for name, p in model.named_parameters()}
        found.update(model.named_buffers())
        results.append((y.data, {"input": given.grad, **found}))
    (y, found), (expected_y, expected) = results
    assert_near(y, expected_y, dtype)
    assert found.keys() == expected.keys()
    for name, array in found.items():
        if array.dtype == dtype:
            largest = max(np.abs(value).max() for value in expected.values())
            tolerance = 40 * TOLERANCE[dtype] * largest
            assert_allclose(array, expected[name], rtol=0, atol=tolerance, err_msg=name)
        else:
            assert_array_equal(array, expected[name], err_msg=name)


def test_passes_are_saved(monkeypatch, rng):
    """Of a residual network, no rectifier and no sum is left that runs by itself."""
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Residual(nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8))), nn.ReLU(),
        nn.Conv2d(8, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.ReLU(inplace=True), nn.MaxPool2d(2),
    )  # fmt: skip

    def fail(*arguments, **options):
        raise AssertionError("a pass of its own")

    monkeypatch.setattr("fastconv.functional.activation._rectify_rule", fail)
    monkeypatch.setattr("fastconv.autograd.ops._add", fail)
    net(rng.normal(size=(2, 3, 12, 12)).astype(np.float32)).sum().backward()


def test_what_is_given_is_changed_in_place(rng):
    """As a rectifier before a pool does when it is asked to."""
    x = rng.normal(size=(2, 3, 8, 8)).astype(np.float32)
    given = Tensor(x.copy())
    nn.Sequential(nn.ReLU(inplace=True), nn.MaxPool2d(2))(given)
    assert_array_equal(given.data, np.maximum(x, 0))


def test_indices_of_a_pool_are_not_those_of_a_rectifier(rng):
    x = rng.normal(size=(2, 3, 8, 8)).astype(np.float32)
    for pool in (nn.MaxPool2d(2, return_indices=True), nn.MaxPool2d(2)):
        found = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), pool)
        for value, truth in zip(found(x), pool(nn.ReLU()(found[0](x))), strict=True):
            assert_array_equal(np.asarray(value), np.asarray(truth))


def test_a_subclass_is_called(rng):
    class Doubled(nn.ReLU):
        def forward(self, input):
            return super().forward(input) * 2

    class Shifted(nn.BatchNorm2d):
        def forward(self, input):
            return super().forward(input) + 1

    x = rng.normal(size=(4, 3, 5, 5)).astype(np.float32)
    normal = nn.BatchNorm2d(3)(x).data
    net = nn.Sequential(nn.BatchNorm2d(3), Doubled())
    assert_allclose(net(x).data, 2 * np.maximum(normal, 0), atol=1e-6)
    net = nn.Sequential(Shifted(3), nn.ReLU())
    assert_allclose(net(x).data, np.maximum(normal + 1, 0), atol=1e-6)
    net = nn.Sequential(nn.Residual(Shifted(3)), nn.ReLU())
    assert_allclose(net(x).data, np.maximum(normal + 1 + x, 0), atol=1e-6)


def test_leaky_slopes(rng):
    """A negative slope too, which no other loop applies."""
    x = rng.normal(size=(4, 3, 5, 5)).astype(np.float32)
    for slope in (0.0, 0.5, 2.0, -0.5):
        net = nn.Sequential(nn.BatchNorm2d(3), nn.LeakyReLU(slope))
        normal = nn.BatchNorm2d(3)(x).data
        assert_allclose(net(x).data, np.where(normal > 0, normal, slope * normal), atol=1e-6)


def test_shapes_that_differ(rng):
    x = rng.normal(size=(2, 3, 8, 8)).astype(np.float32)
    plain = nn.Residual(nn.Conv2d(3, 3, 3))
    with pytest.raises(ValueError, match=r"\(2, 3, 6, 6\).*\(2, 3, 8, 8\)"):
        plain(x)
    normal = nn.Residual(nn.Sequential(nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3)))
    with pytest.raises(ValueError, match=r"residual.*\(2, 3, 6, 6\).*\(2, 3, 8, 8\)"):
        normal(x)


@pytest.mark.parametrize("value", [NONE, RELU, RELU6])
def test_activations_compare(value):
    assert Activation(*value) == value
    assert math.isinf(RELU.top)
