"""The tape: arithmetic and its gradients, and what a walk back leaves behind.

Oracles: finite differences, closed forms, and torch where it is installed.
"""

import gc
import operator
import threading
import weakref

import numpy as np
import pytest
from conftest import integers
from numpy.testing import assert_allclose, assert_array_equal

import fastconv
import fastconv.functional as F
from fastconv import GradcheckError, Tensor, gradcheck, no_grad
from fastconv.autograd.engine import apply

MASK = np.array([[True, False, True], [False, False, True]])

# name: (function of a library and tensors, shapes). All values lie in [0.5, 2].
OPERATIONS = {
    "a + b": (lambda lib, a, b: a + b, (2, 3), (2, 3)),
    "a - b": (lambda lib, a, b: a - b, (2, 3), (2, 3)),
    "a * b": (lambda lib, a, b: a * b, (2, 3), (2, 3)),
    "a / b": (lambda lib, a, b: a / b, (2, 3), (2, 3)),
    "a ** b": (lambda lib, a, b: a**b, (2, 3), (2, 3)),
    "a + row": (lambda lib, a, b: a + b, (2, 3), (3,)),
    "row - a": (lambda lib, a, b: b - a, (2, 3), (3,)),
    "column * row": (lambda lib, a, b: a * b, (2, 1), (1, 3)),
    "0-d / a": (lambda lib, a, b: a / b, (), (2, 3)),
    "a ** 0-d": (lambda lib, a, b: a**b, (2, 3), ()),
    "0-d + 0-d": (lambda lib, a, b: a + b, (), ()),
    "4-d * 2-d": (lambda lib, a, b: a * b, (4, 1, 2, 1), (2, 3)),
    "empty * row": (lambda lib, a, b: a * b, (0, 3), (3,)),
    "a + 2": (lambda lib, a: a + 2, (2, 3)),
    "2 + a": (lambda lib, a: 2 + a, (2, 3)),
    "a - 2.5": (lambda lib, a: a - 2.5, (2, 3)),
    "2.5 - a": (lambda lib, a: 2.5 - a, (2, 3)),
    "a * -3": (lambda lib, a: a * -3, (2, 3)),
    "-3 * a": (lambda lib, a: -3 * a, (2, 3)),
    "a / 4": (lambda lib, a: a / 4, (2, 3)),
    "4 / a": (lambda lib, a: 4 / a, (2, 3)),
    "a ** 0": (lambda lib, a: a**0, (2, 3)),
    "a ** 3": (lambda lib, a: (a - 1.2) ** 3, (2, 3)),
    "a ** -0.5": (lambda lib, a: a**-0.5, (2, 3)),
    "2 ** a": (lambda lib, a: 2**a, (2, 3)),
    "pow": (lambda lib, a: a.pow(2), (2, 3)),
    "-a": (lambda lib, a: -a, (2, 3)),
    "abs(a)": (lambda lib, a: abs(a - 1.2), (2, 3)),
    "a.abs()": (lambda lib, a: (a - 1.2).abs(), (2, 3)),
    "exp": (lambda lib, a: lib.exp(a) + a.exp(), (2, 3)),
    "log": (lambda lib, a: lib.log(a) + a.log(), (2, 3)),
    "sqrt": (lambda lib, a: lib.sqrt(a) + a.sqrt(), (2, 3)),
    "matrix @ matrix": (lambda lib, a, b: a @ b, (2, 3), (3, 4)),
    "vector @ matrix": (lambda lib, a, b: a @ b, (3,), (3, 4)),
    "matrix @ vector": (lambda lib, a, b: a @ b, (2, 3), (3,)),
    "vector @ vector": (lambda lib, a, b: a @ b, (3,), (3,)),
    "matrix.T @ matrix": (lambda lib, a, b: a.T @ b, (3, 2), (3, 4)),
    "stack @ matrix": (lambda lib, a, b: lib.matmul(a, b), (5, 2, 3), (3, 4)),
    "vector @ stack": (lambda lib, a, b: lib.matmul(a, b), (3,), (5, 3, 4)),
    "stack @ stack": (lambda lib, a, b: a.matmul(b), (2, 1, 2, 3), (4, 3, 2)),
    "sum": (lambda lib, a: a.sum(), (2, 3)),
    "sum of one axis": (lambda lib, a: a.sum(-1) * 2, (2, 3)),
    "sum of axes": (lambda lib, a: a.sum((0, 2), keepdim=True) * a, (2, 3, 4)),
    "sum of 0-d": (lambda lib, a: a.sum(), ()),
    "mean": (lambda lib, a: a.mean(), (2, 3)),
    "mean of one axis": (lambda lib, a: a.mean(1, keepdim=True) * a, (2, 3)),
    "mean of axes": (lambda lib, a: a.mean(dim=(-1, 0)), (2, 3, 4)),
    "reshape": (lambda lib, a: a.reshape(3, -1), (2, 3)),
    "reshape to a tuple": (lambda lib, a: a.reshape((6,)), (2, 3)),
    "view": (lambda lib, a: a.view(1, 6), (2, 3)),
    "reshape of permuted": (lambda lib, a: a.permute(2, 0, 1).reshape(4, -1), (2, 3, 4)),
    "permute": (lambda lib, a: a.permute(1, -1, 0) * 2, (2, 3, 4)),
    "transpose": (lambda lib, a: a.transpose(0, -1), (2, 3, 4)),
    "T": (lambda lib, a: a.T, (2, 3)),
    "flatten": (lambda lib, a: a.flatten(), (2, 3, 4)),
    "flatten the last": (lambda lib, a: a.flatten(1), (2, 3, 4)),
    "flatten the first": (lambda lib, a: a.flatten(0, -2), (2, 3, 4)),
    "a[1]": (lambda lib, a: a[1], (2, 3)),
    "a[-1, 0]": (lambda lib, a: a[-1, 0], (2, 3)),
    "a[:, 1:]": (lambda lib, a: a[:, 1:], (2, 3)),
    "a[..., ::2]": (lambda lib, a: a[..., ::2], (2, 3)),
    "a[:, None]": (lambda lib, a: a[:, None], (2, 3)),
    "a[[1, 0]]": (lambda lib, a: a[[1, 0]], (2, 3)),
    "a[repeated]": (lambda lib, a: a[[1, 1, 0, 1]], (2, 3)),
    "a[:, repeated]": (lambda lib, a: a[:, [2, 2]], (2, 3)),
    "a[pairs]": (lambda lib, a: a[[0, 1, 0], [2, 0, 2]], (2, 3)),
    "a[matrix of indices]": (lambda lib, a: a[np.array([[0, 1], [1, 1]])], (2, 3)),
    "a[mask]": (lambda lib, a: a[MASK], (2, 3)),
    "cat": (lambda lib, a, b: lib.cat([a, b]), (2, 3), (1, 3)),
    "cat along the last": (lambda lib, a, b: lib.cat([a, b, a], dim=-1), (2, 3), (2, 1)),
    "concatenate": (lambda lib, a, b: lib.concatenate((a, b), 1), (2, 3), (2, 3)),
    "cat of one twice": (lambda lib, a: lib.cat([a, a]), (2, 3)),
    "stack": (lambda lib, a, b: lib.stack([a, b]), (2, 3), (2, 3)),
    "stack along the last": (lambda lib, a, b: lib.stack((a, b, b), dim=-1), (2, 3), (2, 3)),
    "a used twice": (lambda lib, a: a * a + a, (2, 3)),
    "a diamond": (lambda lib, a, b: lib.exp(a * b) / (a * b) + lib.log(a), (2, 3), (3,)),
}
# What torch has not, or has otherwise.
OWN_OPERATIONS = {
    "a[::-1]": (lambda lib, a: a[::-1, ::-2], (2, 3)),
    "a[Tensor]": (lambda lib, a: a[Tensor(np.array([1, 1])), 0], (2, 3)),
    "T of three axes": (lambda lib, a: a.T, (2, 3, 4)),
    "ndarray + a": (lambda lib, a: np.arange(3.0) + a, (2, 3)),
    "ndarray - a": (lambda lib, a: np.arange(3.0) - a, (2, 3)),
    "ndarray * a": (lambda lib, a: np.arange(3.0) * a, (2, 3)),
    "ndarray / a": (lambda lib, a: np.arange(3.0) / a, (2, 3)),
    "ndarray ** a": (lambda lib, a: np.arange(1.0, 4.0) ** a, (2, 3)),
    "ndarray @ a": (lambda lib, a: np.arange(8.0).reshape(4, 2) @ a, (2, 3)),
    "a @ ndarray": (lambda lib, a: a @ np.arange(6.0).reshape(3, 2), (2, 3)),
    "np.float64 * a": (lambda lib, a: np.float64(3) * a, (2, 3)),
    "list * a": (lambda lib, a: [1.0, 2.0, 3.0] * a, (2, 3)),
    "cat with ndarray": (lambda lib, a: lib.cat([np.zeros((1, 3)), a]), (2, 3)),
}

every_operation = pytest.mark.parametrize(
    "operation",
    [*OPERATIONS.values(), *OWN_OPERATIONS.values()],
    ids=[*OPERATIONS, *OWN_OPERATIONS],
)
every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])
IN_PLACE = {
    "relu": (lambda x, **how: F.relu(x, **how), lambda x: np.maximum(x, 0)),
    "leaky_relu": (
        lambda x, **how: F.leaky_relu(x, 0.5, **how),
        lambda x: np.where(x > 0, x, 0.5 * x),
    ),
    "dropout": (
        lambda x, **how: F.dropout(x, 0.5, generator=np.random.default_rng(1), **how),
        lambda x: x * 2 * (np.random.default_rng(1).random(x.shape, np.float32) >= 0.5),
    ),
}
every_in_place = pytest.mark.parametrize(("operator", "expected"), IN_PLACE.values(), ids=IN_PLACE)


def values(rng, shapes, dtype=np.float64):
    return [np.asarray(rng.uniform(0.5, 2, shape), dtype) for shape in shapes]


def leaf(*numbers, dtype=np.float64):
    return Tensor(np.array(numbers, dtype), requires_grad=True)


def gradients_of(function, arrays, grad):
    """The result of `function` and the gradients by `arrays`, given that by the result."""
    tensors = [Tensor(array, requires_grad=True) for array in arrays]
    result = function(fastconv, *tensors)
    result.backward(grad)
    return result.data, [tensor.grad for tensor in tensors]


# Arithmetic


@every_operation
def test_gradient_is_the_difference_quotient(operation, rng):
    function, *shapes = operation
    tensors = [Tensor(array, requires_grad=True) for array in values(rng, shapes)]
    assert gradcheck(lambda *x: function(fastconv, *x), tensors)


@every_dtype
@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_result_and_gradients_are_those_of_torch(operation, dtype, rng):
    torch = pytest.importorskip("torch")
    function, *shapes = operation
    arrays = values(rng, shapes, dtype)
    theirs = [torch.tensor(array, requires_grad=True) for array in arrays]
    expected = function(torch, *theirs)
    grad = integers(rng, tuple(expected.shape), dtype)
    expected.backward(torch.tensor(grad))
    result, gradients = gradients_of(function, arrays, grad)
    tolerance = 1e-5 if dtype == np.float32 else 1e-12
    assert_allclose(result, expected.detach().numpy(), rtol=tolerance, atol=tolerance)
    for gradient, tensor in zip(gradients, theirs, strict=True):
        assert_allclose(gradient, tensor.grad.numpy(), rtol=tolerance, atol=tolerance)


@every_operation
def test_without_gradients_the_result_is_the_same_and_nothing_is_recorded(operation, rng):
    function, *shapes = operation
    arrays = values(rng, shapes)
    recorded = function(fastconv, *(Tensor(array, requires_grad=True) for array in arrays))
    plain = function(fastconv, *map(Tensor, arrays))
    assert isinstance(plain, Tensor)
    assert recorded.requires_grad
    assert not recorded.is_leaf
    assert not plain.requires_grad
    assert plain.is_leaf
    assert_array_equal(plain.data, recorded.data)


@every_operation
def test_gradients_own_their_memory(operation, rng):
    function, *shapes = operation
    arrays = values(rng, shapes)
    tensors = [Tensor(array, requires_grad=True) for array in arrays]
    result = function(fastconv, *tensors)
    grad = integers(rng, result.shape)
    given = grad.copy()
    before = [array.copy() for array in arrays]
    result.backward(grad)
    for i, tensor in enumerate(tensors):
        gradient = tensor.grad
        assert type(gradient) is np.ndarray
        assert gradient.shape == tensor.shape
        assert gradient.flags.writeable
        others = [grad, result.data, *arrays, *(t.grad for t in tensors[:i])]
        assert not any(np.shares_memory(gradient, other) for other in others)
        # Every element has a place of its own: a broadcast view would not.
        gradient[...] = np.arange(gradient.size).reshape(gradient.shape)
        assert_array_equal(gradient.ravel(), np.arange(gradient.size))
    assert_array_equal(grad, given)
    for array, copy in zip(arrays, before, strict=True):
        assert_array_equal(array, copy)


def test_gradient_of_a_leaf_by_itself_owns_its_memory():
    x, grad = leaf(1, 2), np.ones(2)
    x.backward(grad)
    assert_array_equal(x.grad, grad)
    assert not np.shares_memory(x.grad, grad)
    assert not np.shares_memory(x.grad, x.data)


def test_gradient_of_views_in_a_chain_owns_its_memory():
    x, y = leaf(1, 2, 3, 4), leaf(5, 6, 7, 8)
    grad = np.ones((2, 2))
    (x.reshape(2, 2).T + y.reshape(2, 2)).backward(grad)
    assert not np.shares_memory(x.grad, grad)
    assert not np.shares_memory(x.grad, y.grad)


@every_dtype
@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_dtype_is_kept(operation, dtype, rng):
    function, *shapes = operation
    arrays = values(rng, shapes, dtype)
    result = function(fastconv, *(Tensor(array) for array in arrays))
    assert result.dtype == dtype
    _, gradients = gradients_of(function, arrays, np.ones(result.shape))
    assert {gradient.dtype for gradient in gradients} == {np.dtype(dtype)}


@pytest.mark.parametrize(
    "after",
    [
        lambda y: y.astype(np.float64),
        lambda y: y * np.ones(4),
        lambda y: y + Tensor(np.ones(4)),
        lambda y: y**2,
        lambda y: y**2.5,
        lambda y: 2 ** (y * 0.1),
        lambda y: y**-1,
        lambda y: y**0,
        lambda y: y / np.float64(3),
        lambda y: y.mean() * 2.5,
        lambda y: fastconv.cat([y, Tensor(np.ones((1, 3, 4)))]),
    ],
    ids=[
        "astype",
        "ndarray",
        "Tensor",
        "square",
        "power",
        "exponential",
        "reciprocal",
        "zeroth power",
        "np.float64",
        "mean",
        "cat",
    ],
)
def test_float32_operators_get_float32_gradients(after, rng):
    # A convolution's kernels take arrays of one dtype only.
    x = Tensor(rng.uniform(0.5, 1, (2, 2, 6)).astype(np.float32), requires_grad=True)
    w = Tensor(rng.uniform(0.5, 1, (3, 2, 3)).astype(np.float32), requires_grad=True)
    after(F.conv1d(x, w)).sum().backward()
    exact_x, exact_w = (Tensor(t.data.astype(np.float64), requires_grad=True) for t in (x, w))
    after(F.conv1d(exact_x, exact_w)).sum().backward()
    for single, double in ((x, exact_x), (w, exact_w)):
        assert single.grad.dtype == np.float32
        assert_allclose(single.grad, double.grad, rtol=1e-4)


def test_python_scalars_do_not_change_the_dtype():
    x = leaf(1, 2, dtype=np.float32)
    y = (2.5 * x + 1 - 3 / x) ** 2 / 7
    assert y.dtype == np.float32
    y.mean().backward()
    assert x.grad.dtype == np.float32


def test_astype_gives_gradients_of_the_former_dtype():
    x = leaf(1, 2, dtype=np.float32)
    y = x.astype(np.float64)
    assert y.dtype == np.float64
    (y * np.array([3.0, 4.0])).sum().backward()
    assert x.grad.dtype == np.float32
    assert_array_equal(x.grad, [3, 4])


def test_integers_made_of_a_tensor_require_no_gradient():
    y = leaf(1.5, 2.5).astype(np.int64)
    assert_array_equal(y.data, [1, 2])
    assert not y.requires_grad


@pytest.mark.parametrize(
    ("base", "exponent", "by_base", "by_exponent"),
    [
        (0.0, 0.0, 0.0, 0.0),  # as in torch
        (0.0, 1.0, 1.0, 0.0),
        (0.0, 2.0, 0.0, 0.0),
        (-2.0, 0.0, 0.0, None),
        (-2.0, 3.0, 12.0, None),
        (1.0, 5.0, 5.0, 0.0),
    ],
)
def test_gradients_of_powers_at_special_points(base, exponent, by_base, by_exponent):
    a, b = leaf(base, 2.0), leaf(exponent, 3.0)
    (a**b.data).sum().backward()
    assert_allclose(a.grad, [by_base, 12.0])
    if by_exponent is not None:
        (a.data**b).sum().backward()
        assert_allclose(b.grad, [by_exponent, 8 * np.log(2)])


def test_gradient_of_abs_at_zero_is_zero():
    x = leaf(0.0, -0.0, -3.0)
    abs(x).sum().backward()
    assert_array_equal(x.grad, [0, 0, -1])


@pytest.mark.parametrize(
    "function",
    [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow, operator.matmul],
)
def test_ndarray_on_the_left_gives_one_tensor(function):
    a, b = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[2.0, 1.0], [0.5, 3.0]])
    result = function(a, Tensor(b))
    assert type(result) is Tensor
    assert_allclose(result.data, function(a, b))


def test_numpy_functions_do_not_silently_lose_the_graph():
    with pytest.raises(TypeError):
        np.exp(leaf(1, 2))


def test_augmented_assignment_makes_a_new_tensor():
    x = leaf(1, 2)
    y = x
    y += 1
    assert y is not x
    assert_array_equal(x.data, [1, 2])
    y.sum().backward()
    assert_array_equal(x.grad, [1, 1])


def test_comparisons_are_boolean_arrays():
    x, y = Tensor([1.0, 2.0, 3.0]), Tensor([2.0, 2.0, 2.0])
    assert_array_equal(x < y, [True, False, False])
    assert_array_equal(x <= 2, [True, True, False])
    assert_array_equal(x > np.array([2.0, 2.0, 2.0]), [False, False, True])
    assert_array_equal(x >= y, [False, True, True])
    assert type(x < y) is np.ndarray


# Tensors


def test_constructor_keeps_arrays_and_makes_python_floats_float32():
    array = np.arange(3.0)
    assert Tensor(array).data is array
    assert Tensor(Tensor(array)).data is array
    assert Tensor([1.0, 2.0]).dtype == np.float32
    assert Tensor(1.5).dtype == np.float32
    assert Tensor(np.float64(1.5)).dtype == np.float64
    assert Tensor([1, 2]).dtype.kind == "i"
    assert Tensor(np.float32(2)).shape == ()


@pytest.mark.parametrize("data", [None, "text", [object()], np.array(["a", "b"])])
def test_constructor_refuses_what_is_no_array_of_numbers(data):
    with pytest.raises(TypeError, match="data"):
        Tensor(data)


@pytest.mark.parametrize("data", [[1, 2], np.array([True]), np.ones(2, complex), np.float16(1)])
def test_only_floats_can_require_gradients(data):
    with pytest.raises(TypeError, match="float32 or float64"):
        Tensor(data, requires_grad=True)
    tensor = Tensor(data)
    with pytest.raises(TypeError, match=str(tensor.dtype)):
        tensor.requires_grad = True
    with pytest.raises(TypeError, match=str(tensor.dtype)):
        tensor.requires_grad_()
    assert not tensor.requires_grad


def test_conversion_to_arrays_and_numbers():
    x = Tensor(np.array([[1.0, 2.0]]))
    assert np.asarray(x) is x.data
    assert x.numpy() is x.data
    assert np.asarray(x, np.float32).dtype == np.float32
    copy = np.array(x)
    assert not np.shares_memory(copy, x.data)
    assert_array_equal(copy, x.data)
    assert (x.shape, x.ndim, x.size, len(x), x.dtype) == ((1, 2), 2, 2, 1, np.float64)
    one = Tensor(2.5)
    assert (one.item(), float(one), int(one), bool(one)) == (2.5, 2.5, 2, True)
    assert type(one.item()) is float
    assert [row.shape for row in x] == [(2,)]


def test_repr_shows_values_dtype_and_requires_grad():
    assert repr(Tensor(np.arange(2.0))) == "Tensor([0., 1.], dtype=float64)"
    assert repr(leaf(1, dtype=np.float32)) == "Tensor([1.], dtype=float32, requires_grad=True)"


def test_detach_shares_the_data_and_stops_the_gradient():
    x = leaf(1, 2)
    y = x * 3
    cut = y.detach()
    assert cut.data is y.data
    assert not cut.requires_grad
    (y * cut).sum().backward()
    assert_array_equal(x.grad, 3 * 3 * x.data)  # half of d(9 x^2)/dx


def test_requires_grad_is_cleared_on_leaves_only():
    x = leaf(1, 2)
    y = x * 2
    with pytest.raises(RuntimeError, match="detach"):
        y.requires_grad = False
    x.requires_grad = False
    assert not (x * 2).requires_grad


# Walking back


def test_paths_to_one_leaf_are_summed():
    x = leaf(3.0)
    y = x * x
    (y * y + y + x).backward()  # x^4 + x^2 + x
    assert_array_equal(x.grad, [4 * 27 + 2 * 3 + 1])


def test_a_ladder_of_diamonds_is_walked_once():
    # 2^60 paths: a walk along each would never end.
    x = leaf(1.0)
    y = x
    for _ in range(60):
        y = y + y
    y.backward()
    assert_array_equal(x.grad, [2.0**60])


def test_every_operator_waits_for_all_of_its_gradient():
    # The long way round is recorded after the short one but must be walked first.
    calls = []

    def rule(needs, x):
        return x * 1, lambda g: (calls.append(g.copy()) or g,)

    x = leaf(2.0)
    y = apply(rule, x)
    short = y * 10
    long = y * 1
    for _ in range(5):
        long = long * 2
    (long + short).backward()
    assert_array_equal(calls, [[42.0]])
    assert_array_equal(x.grad, [42.0])


def test_gradients_accumulate_over_walks_and_zero_grad_forgets():
    x = leaf(1, 2)
    for times in (1, 2, 3):
        (x * 5).sum().backward()
        assert_array_equal(x.grad, [5 * times] * 2)
    x.zero_grad()
    assert x.grad is None


def test_chain_of_20000_operators():
    x = leaf(1.0)
    y = x
    for _ in range(20_000):
        y = y + 1
    y.backward()
    assert_array_equal(x.grad, [1.0])


def test_chain_of_20000_operators_is_dropped_without_a_walk():
    x = leaf(1.0)
    y = x
    for _ in range(20_000):
        y = y * 1
    alive = weakref.ref(y)
    del y
    assert alive() is None


def test_graph_is_freed_by_the_walk():
    x = leaf(1, 2)
    middle = x.exp()  # whose backward needs its result
    result = middle.sum()
    alive = weakref.ref(middle.data)
    del middle
    assert alive() is not None
    result.backward(retain_graph=True)
    assert alive() is not None
    result.backward()
    assert alive() is None
    assert_allclose(x.grad, 2 * np.exp(x.data))


def test_graph_makes_no_reference_cycles():
    gc.collect()
    gc.disable()
    try:
        x = leaf(1, 2)
        y = (x.exp() * x).sum()
        alive = weakref.ref(y)
        y.backward()
        del y
        assert alive() is None
        z = (x.exp() * x).sum()
        alive = weakref.ref(z)
        del z
        assert alive() is None
    finally:
        gc.enable()


def test_second_walk_needs_retain_graph():
    x = leaf(1, 2)
    y = (x * x).sum()
    y.backward()
    with pytest.raises(RuntimeError, match="retain_graph=True"):
        y.backward()
    assert_array_equal(x.grad, 2 * x.data)
    z = (x * x).sum()
    for _ in range(3):
        z.backward(retain_graph=True)
    assert_array_equal(x.grad, 4 * 2 * x.data)


def test_walk_into_a_freed_part_changes_no_gradient():
    x, w = leaf(1, 2), leaf(3, 4)
    shared = x * 2
    (shared * 1).sum().backward()
    before = x.grad
    with pytest.raises(RuntimeError, match="freed"):
        (shared * w).sum().backward()
    assert x.grad is before
    assert_array_equal(x.grad, [2, 2])
    assert w.grad is None


def test_failing_backward_changes_no_gradient():
    def failing(needs, x):
        def backward(g):
            raise ZeroDivisionError("as it happens")

        return x * 1, backward

    x, w = leaf(1, 2), leaf(3, 4)
    x.grad = np.array([7.0, 7.0])
    y = (apply(failing, x) * w).sum()  # w gets its gradient before x's fails
    with pytest.raises(ZeroDivisionError, match="as it happens"):
        y.backward()
    assert_array_equal(x.grad, [7, 7])
    assert w.grad is None


def test_backward_from_a_tensor_without_graph():
    with pytest.raises(RuntimeError, match="requires_grad"):
        Tensor([1.0]).backward()
    with pytest.raises(RuntimeError, match="requires_grad"):
        leaf(1.0).detach().backward()


def test_backward_of_many_elements_needs_a_gradient():
    x = leaf(1, 2)
    y = x * x
    with pytest.raises(RuntimeError, match=r"grad .*\(2,\)"):
        y.backward()
    assert x.grad is None
    y.backward(np.array([1.0, 10.0]))  # the failed call has freed nothing
    assert_array_equal(x.grad, [2, 40])


@pytest.mark.parametrize("shape", [(), (1,), (1, 1, 1)])
def test_backward_of_one_element_starts_from_one(shape):
    x = Tensor(np.full(shape, 3.0), requires_grad=True)
    (x * x).backward()
    assert_array_equal(x.grad, np.full(shape, 6.0))


@pytest.mark.parametrize("shape", [(), (3,), (2, 1), (1, 2)])
def test_gradient_of_another_shape_is_refused(shape):
    x = leaf(1, 2)
    with pytest.raises(ValueError, match=r"grad .*\(2,\)") as caught:
        (x * x).backward(np.ones(shape))
    assert str(shape) in str(caught.value)
    assert x.grad is None


def test_gradient_must_be_real_numbers():
    x = leaf(1, 2)
    for grad in (np.array([1j, 1]), np.array(["a", "b"]), np.array([None, None])):
        with pytest.raises(TypeError, match="grad"):
            (x * x).backward(grad)
    assert x.grad is None


def test_gradient_may_be_a_list_a_tensor_or_of_another_dtype():
    for grad in ([1, 2], Tensor([1.0, 2.0]), np.array([1, 2], np.float32)):
        x = leaf(3, 4)
        (x * x).backward(grad)
        assert_array_equal(x.grad, [6, 16])
        assert x.grad.dtype == np.float64


def test_leaves_that_require_none_get_no_gradient():
    x, constant = leaf(1, 2), Tensor(np.array([3.0, 4.0]))
    middle = x * constant
    middle.sum().backward()
    assert constant.grad is None
    assert middle.grad is None
    assert_array_equal(x.grad, [3, 4])


# no_grad


def test_no_grad_as_context_nested_and_after_exceptions():
    x = leaf(1.0)
    with no_grad():
        assert not fastconv.is_grad_enabled()
        with no_grad():
            assert not (x * 2).requires_grad
        assert not (x * 2).requires_grad
        with pytest.raises(ZeroDivisionError), no_grad():
            raise ZeroDivisionError
        assert not fastconv.is_grad_enabled()
    assert fastconv.is_grad_enabled()
    with pytest.raises(ZeroDivisionError), no_grad():
        raise ZeroDivisionError
    assert (x * 2).requires_grad


def test_one_no_grad_can_be_entered_again():
    context = no_grad()
    for _ in range(2):
        with context:
            with context:
                assert not fastconv.is_grad_enabled()
            assert not fastconv.is_grad_enabled()
        assert fastconv.is_grad_enabled()


def test_no_grad_as_decorator_of_a_recursive_function():
    @no_grad()
    def double(x, depth):
        """Twice."""
        return (x * 2) if depth == 0 else double(x, depth - 1)

    x = leaf(1.0)
    for _ in range(2):  # the decorator can be used again
        assert not double(x, 3).requires_grad
        assert (x * 2).requires_grad
    assert (double.__name__, double.__doc__) == ("double", "Twice.")


def test_no_grad_is_for_one_thread():
    x = leaf(1.0)
    seen = {}

    def work():
        seen["other"] = (x * 2).requires_grad
        with no_grad():
            inside.set()
            assert done.wait(60)

    inside, done = threading.Event(), threading.Event()
    with no_grad():
        thread = threading.Thread(target=work)
        thread.start()
        assert inside.wait(60)
        seen["here, off in both"] = (x * 2).requires_grad
    seen["here, off in the other"] = (x * 2).requires_grad
    done.set()
    thread.join()
    assert seen == {"other": True, "here, off in both": False, "here, off in the other": True}


def test_tensors_made_in_no_grad_can_be_leaves():
    with no_grad():
        x = leaf(1, 2)
    (x * 3).sum().backward()
    assert_array_equal(x.grad, [3, 3])


# In-place operators


@every_in_place
def test_leaf_that_requires_a_gradient_is_not_changed_in_place(operator, expected):
    x = leaf(-1, 2, 3)
    with pytest.raises(RuntimeError, match="leaf"):
        operator(x, inplace=True)
    assert_array_equal(x.data, [-1, 2, 3])
    assert x.is_leaf
    with no_grad():
        data = x.data
        assert operator(x, inplace=True) is x
    assert x.data is data
    assert_array_equal(data, expected(np.array([-1.0, 2, 3])))
    assert x.is_leaf


@every_in_place
def test_recorded_graph_stays_right_in_place(operator, expected):
    def run(inplace):
        x = leaf(-1, 2, 3)
        y = x * x - 3  # -2, 1, 6
        before = y.exp() * y  # both operators need the old values of y
        z = operator(y, inplace=inplace)
        assert (z is y) is inplace
        assert_array_equal(z.data, expected(np.array([-2.0, 1, 6])))
        (before + z * y.detach()).sum().backward()
        return z, x.grad

    _, in_place = run(True)
    x = np.array([-1.0, 2, 3])
    y = x * x - 3
    derivative = expected(y) / y  # all three are piecewise multiples of y
    assert_allclose(in_place, (np.exp(y) * (y + 1) + derivative * expected(y)) * 2 * x)


@every_in_place
def test_memory_is_overwritten_where_nothing_is_recorded(operator, expected):
    array = np.array([-1.0, 2, 3])
    assert operator(array, inplace=True) is array
    assert_array_equal(array, expected(np.array([-1.0, 2, 3])))
    data = np.array([-1.0, 2, 3])
    tensor = Tensor(data)
    assert operator(tensor, inplace=True) is tensor
    assert tensor.data is data
    assert_array_equal(data, expected(np.array([-1.0, 2, 3])))


@every_in_place
def test_operand_that_a_recorded_operator_needs_is_not_overwritten(operator, expected):
    # x itself needs no gradient, but that of w is x's values at the time of the product.
    w, x = leaf(1, 1, 1), Tensor(np.array([-1.0, 2, 3]))
    y = w * x
    operator(x, inplace=True)
    assert_array_equal(x.data, expected(np.array([-1.0, 2, 3])))
    y.sum().backward()
    assert_array_equal(w.grad, [-1, 2, 3])


# Bad input


BAD_CALLS = [
    (lambda x: x.permute(0, 1), ValueError, ["dims", "(0, 1)"]),
    (lambda x: x.permute(0, 1, 1), ValueError, ["dims", "(0, 1, 1)"]),
    (lambda x: x.permute(0, 1, 3), ValueError, ["dim", "3"]),
    (lambda x: x.transpose(0, 3), ValueError, ["dim1", "3"]),
    (lambda x: x.transpose("a", 0), TypeError, ["dim0", "'a'"]),
    (lambda x: x.flatten(2, 1), ValueError, ["start_dim", "2", "end_dim", "1"]),
    (lambda x: x.flatten(-4), ValueError, ["start_dim", "-4"]),
    (lambda x: x.sum(3), ValueError, ["dim", "3"]),
    (lambda x: x.sum(1.0), TypeError, ["dim", "1.0"]),
    (lambda x: x.sum((0, 0)), ValueError, ["dim", "(0, 0)"]),
    (lambda x: x.mean(-4), ValueError, ["dim", "-4"]),
    (lambda x: x @ np.ones((3, 2)), ValueError, ["(2, 3, 4)", "(3, 2)"]),
    (lambda x: x @ np.float64(2), ValueError, ["(2, 3, 4)", "()"]),
    (lambda x: x @ np.ones((4, 2), np.float32), TypeError, ["float64", "float32"]),
    (lambda x: x @ np.ones((4, 2), int), TypeError, ["float64", "int64"]),
    (lambda x: fastconv.cat([]), ValueError, ["tensors"]),
    (lambda x: fastconv.cat([x, x], 3), ValueError, ["dim", "3"]),
    (lambda x: fastconv.cat([x, x[0]]), ValueError, ["tensors", "(2, 3, 4)", "(3, 4)"]),
    (lambda x: fastconv.cat([x, x[:, :2]]), ValueError, ["tensors", "axis 0", "(2, 2, 4)"]),
    (lambda x: fastconv.cat([x, None]), (TypeError, ValueError), ["tensors"]),
    (lambda x: fastconv.stack([]), ValueError, ["tensors"]),
    (lambda x: fastconv.stack([x, x], 4), ValueError, ["dim", "4"]),
    (lambda x: fastconv.stack([x, x[0]]), ValueError, ["tensors[1]", "(2, 3, 4)", "(3, 4)"]),
    (lambda x: fastconv.stack([x, None]), (TypeError, ValueError), ["tensors[1]"]),
    (lambda x: x.astype(str), TypeError, ["dtype", "<U"]),
]


@pytest.mark.parametrize(
    ("call", "error", "words"), BAD_CALLS, ids=[" ".join(row[2]) for row in BAD_CALLS]
)
def test_bad_arguments_are_named_with_their_values(call, error, words):
    with pytest.raises(error) as caught:
        call(Tensor(np.ones((2, 3, 4)), requires_grad=True))
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("other", [None, "text", {}, object()])
def test_operands_that_are_no_numbers_are_refused(other):
    for function in (operator.add, operator.mul, operator.pow):
        with pytest.raises(TypeError):
            function(leaf(1, 2), other)
        with pytest.raises(TypeError):
            function(other, leaf(1, 2))


# gradcheck


def wrong_rule(factor):
    """x^2, whose gradient is said to be factor * 2x."""
    return lambda needs, x: (x * x, lambda g: (g * factor(x) * 2 * x,))


def test_gradcheck_accepts_a_right_gradient_only():
    x = leaf(1, 2, 3)
    assert gradcheck(lambda t: apply(wrong_rule(np.ones_like), t), x) is True
    assert gradcheck(lambda t: apply(wrong_rule(lambda v: 1.01), t), x, rtol=0.02)
    with pytest.raises(GradcheckError):
        gradcheck(lambda t: apply(wrong_rule(lambda v: 1.01), t), x)
    assert issubclass(GradcheckError, AssertionError)


def test_gradcheck_names_the_worst_element_and_both_values():
    right = Tensor(np.ones((2, 2)), requires_grad=True)
    wrong = Tensor(np.array([[1.0, 2.0], [3.0, 4.0]]), requires_grad=True)

    def factor(x):
        return np.where(x == 3, -5, np.where(x == 4, 1.1, 1))

    with pytest.raises(GradcheckError, match=r"inputs\[1\] at \(1, 0\)") as caught:
        gradcheck(lambda a, b: a + apply(wrong_rule(factor), b), [right, wrong])
    direction = np.random.default_rng(0).standard_normal((2, 2))[1, 0]
    numbers = [float(word.strip(",")) for word in str(caught.value).split() if "." in word]
    assert_allclose(numbers, [-5 * 6 * direction, 6 * direction], rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_gradcheck_detects_what_is_finite_on_one_side_only(bad):
    x = leaf(1, 2, 3)
    with pytest.raises(GradcheckError, match=r"at \(1,\)"):
        gradcheck(lambda t: apply(wrong_rule(lambda v: np.where(v == 2, bad, 1)), t), x)

    def bad_values(needs, x):
        return np.where(x > 2.0, bad, x * x), lambda g: (g * 2 * x,)

    with pytest.raises(GradcheckError, match=r"at \(1,\)"):
        gradcheck(lambda t: apply(bad_values, t), leaf(1, 2, 1.5))


def test_gradcheck_accepts_nan_on_both_sides():
    def nan(needs, x):
        return x * np.nan, lambda g: (g * np.nan,)

    assert gradcheck(lambda t: apply(nan, t), leaf(1, 2))


def test_gradcheck_detects_a_missing_gradient():
    with pytest.raises(GradcheckError, match=r"inputs\[0\]"):
        gradcheck(lambda a, b: a.detach() * b, [leaf(1, 2), leaf(3, 4)])
    with pytest.raises(GradcheckError, match=r"inputs\[0\]"):
        gradcheck(lambda a: a.detach() * 2, leaf(1, 2))
    assert gradcheck(lambda a, b: b * 2, [leaf(1, 2), leaf(3, 4)])


def test_gradcheck_meets_every_output():
    def wrong_second(a):
        return a * 2, apply(wrong_rule(lambda v: 2.0), a)

    assert gradcheck(lambda a: [a * 2, a.exp()], leaf(1, 2))
    with pytest.raises(GradcheckError):
        gradcheck(wrong_second, leaf(1, 2))


def test_gradcheck_leaves_its_inputs_alone():
    x, y = leaf(1, 2), leaf(3, 4)
    x.grad = np.array([5.0, 6.0])
    data, grad = x.data, x.grad

    def in_place(a, b):
        a = a * 1
        return F.relu(a, inplace=True) * b

    assert gradcheck(in_place, [x, y])
    assert x.data is data
    assert x.grad is grad
    assert y.grad is None
    assert_array_equal(x.data, [1, 2])
    assert_array_equal(x.grad, [5, 6])


def test_gradcheck_passes_other_inputs_on():
    x, constant = leaf(1, 2), Tensor([3, 4])

    def function(a, b, power):
        assert not b.requires_grad
        return (a * b.data) ** power

    assert gradcheck(function, [x, constant, 3])


def test_gradcheck_needs_float64():
    with pytest.raises(TypeError, match=r"inputs\[1\] .*float64.*float32"):
        gradcheck(lambda a, b: a * b, [leaf(1, 2), leaf(1, 2, dtype=np.float32)])


@pytest.mark.parametrize("inputs", [[], Tensor([1.0]), [np.ones(2)]])
def test_gradcheck_needs_something_to_check(inputs):
    with pytest.raises(ValueError, match="requires_grad"):
        gradcheck(lambda *x: x[0], inputs)


@pytest.mark.parametrize(
    "function",
    [
        lambda t: F.conv2d(t, np.ones((3, 2, 3, 3)), padding=1),
        F.relu,
        lambda t: F.max_pool2d(t, 2),
        lambda t: F.batch_norm(t, None, None, training=True),
        lambda t: t.reshape(2, -1),
        lambda t: t.sum(dim=1),
    ],
)
def test_the_gradient_handed_to_backward_may_have_any_memory_and_is_left_alone(function, rng):
    x = rng.normal(size=(2, 2, 6, 6))

    def gradient(grad):
        leaf = fastconv.Tensor(x, requires_grad=True)
        function(leaf).backward(grad)
        return leaf.grad

    grad = rng.normal(size=function(fastconv.Tensor(x)).shape)
    before, expected = grad.copy(), gradient(grad)
    read_only = grad.copy()
    read_only.flags.writeable = False
    unaligned = np.zeros(grad.nbytes + 1, np.uint8)[1:].view(grad.dtype).reshape(grad.shape)
    unaligned[...] = grad
    reversed_memory = grad[..., ::-1].copy()[..., ::-1]
    for form in (
        read_only,
        unaligned,
        grad.astype(">f8"),
        np.asfortranarray(grad),
        reversed_memory,
    ):
        found = gradient(form)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
        assert found.flags.writeable
        assert not np.shares_memory(found, form)
    np.testing.assert_array_equal(grad, before)
