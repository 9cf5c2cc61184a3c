"""Tensor operators: values by NumPy's own functions, gradients by differences."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import fastconv
import fastconv.functional as F
from fastconv import Tensor, gradcheck
from fastconv.autograd import arrays, pointwise, reductions
from fastconv.autograd.engine import apply
from fastconv.functional.pad import _pad_arrays
from fastconv.functional.resize import Options, _resize_rule


@pytest.fixture
def x(rng):
    """Values in (0.1, 0.9), away from ties and from edges."""
    return rng.permuted(np.linspace(0.1, 0.9, 24)).reshape(2, 3, 4)


def check(function, *inputs):
    """Differences of every element agree with backward."""
    assert gradcheck(function, [Tensor(a, requires_grad=True) for a in inputs])


def ints(*values):
    return np.array(values, np.int64)


@pytest.mark.parametrize("name", [n for n, (_, slope) in pointwise.UNARY.items() if slope])
def test_gradient_of_one_operand(name, x):
    x = x + 1.5 if name == "acosh" else x
    check(lambda t: apply(pointwise._unary, t, function=name), x)


@pytest.mark.parametrize("name", [n for n, (_, slope, _) in pointwise.BINARY.items() if slope])
def test_gradient_of_two_operands(name, x):
    check(lambda a, b: apply(pointwise._binary, a, b, function=name), x, x[0, :, :1] + 0.003)


def test_equal_values_share_the_gradient():
    a, b = (Tensor(np.array([1.0, 2.0]), requires_grad=True) for _ in range(2))
    fastconv.maximum(a, b).sum().backward()
    assert_array_equal([a.grad, b.grad], np.full((2, 2), 0.5))


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.uint8])
def test_integers_are_divided_towards_zero(dtype):
    a, b = np.meshgrid(np.arange(-7, 8), [-3, -2, -1, 1, 2, 3])
    if np.dtype(dtype).kind == "u":
        a, b = a + 7, abs(b)
    result = apply(pointwise._binary, a.astype(dtype), b.astype(dtype), function="divide_integers")
    assert result.dtype == dtype
    assert_array_equal(result, np.trunc(a / b))


def test_where_and_clamp(x):
    y = x[:, :1] + 0.01
    assert_array_equal(fastconv.where(x > y, x, y), np.where(x > y, x, y))
    check(lambda a, b: fastconv.where(x > 0.5, a, b), x, y)
    check(lambda a, b: fastconv.clamp(a, b, 0.75), x, y * 0.5)
    check(lambda a, b: fastconv.clamp(a, max=b), x, y)
    assert_array_equal(fastconv.clamp(np.array([0.0, 5.0]), 3, 1), [1, 1])  # the upper one wins
    with pytest.raises(ValueError, match="clamp needs min or max"):
        fastconv.clamp(x)


NUMPY = {
    "l1": lambda x, **k: np.abs(x).sum(**k),
    "l2": lambda x, **k: np.sqrt((x**2).sum(**k)),
    "log_sum": lambda x, **k: np.log(x.sum(**k)),
    "log_sum_exp": lambda x, **k: np.log(np.exp(x).sum(**k)),
    "max": np.max, "mean": np.mean, "min": np.min, "prod": np.prod, "sum": np.sum,
    "sum_square": lambda x, **k: (x**2).sum(**k),
}  # fmt: skip


@pytest.mark.parametrize("axes", [None, ints(1), ints(0, -1), ints()], ids=str)
@pytest.mark.parametrize("name", reductions.REDUCTIONS)
def test_reduction(name, axes, x):
    for keepdim in (False, True):
        expected = NUMPY[name](x, axis=None if axes is None else tuple(axes), keepdims=keepdim)
        options = {"function": name, "keepdim": keepdim}
        assert_allclose(apply(reductions._reduce, x, axes, **options), expected, rtol=1e-12)
        check(lambda t, options=options: apply(reductions._reduce, t, axes, **options), x)


def test_product_has_a_gradient_where_values_are_zero(x):
    x[0, 1] = 0
    x[1, 0, 2] = 0
    check(lambda t: apply(reductions._reduce, t, ints(2, 1), function="prod", keepdim=False), x)


def test_places_of_the_largest(rng):
    x = rng.integers(0, 3, (4, 6))  # with ties
    first = apply(reductions._arg, x, function="max", axis=1, keepdim=False)
    assert_array_equal(first, x.argmax(1))
    last = apply(reductions._arg, x, function="max", axis=1, keepdim=False, last=True)
    assert_array_equal(last, 5 - x[:, ::-1].argmax(1))
    for largest in (True, False):
        top = apply(reductions._top, x, np.array(4), axis=1, largest=largest)
        expected = np.argsort(-x if largest else x, axis=1, kind="stable")[:, :4]
        assert_array_equal(top, expected)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("exclusive", [False, True])
def test_running_sums_and_products(exclusive, reverse, x):
    options = {"exclusive": exclusive, "reverse": reverse}
    for rule, start, combine in (
        (reductions._cumulative_sum, 0.0, np.add),
        (reductions._cumulative_product, 1.0, np.multiply),
    ):
        expected = np.empty_like(x)
        total = np.full((2, 4), start)
        for i in range(3)[::-1] if reverse else range(3):
            if exclusive:
                expected[:, i] = total
            total = combine(total, x[:, i])
            if not exclusive:
                expected[:, i] = total
        assert_allclose(apply(rule, x, np.array(1), **options), expected, rtol=1e-12)
        check(lambda t, rule=rule: apply(rule, t, np.array(1), **options), x)


@pytest.mark.parametrize("equation", ["abc,dc->adb", "abc,dc->da", "abc,dc->", "abc,dc->ab"])
def test_einsum(equation, x):
    check(lambda a, b: apply(reductions._einsum, a, b, equation=equation), x, x[1] + 0.1)


def test_determinant(x):
    check(lambda t: apply(reductions._determinant, t), x[:, :, :3] + np.eye(3))


SHAPES = {
    "view": lambda t: apply(arrays._view, t, ints(0, -1)),
    "matrix": lambda t: apply(arrays._matrix, t, axis=2),
    "unsqueeze": lambda t: apply(arrays._unsqueeze, t, ints(-1, 0)),
    "squeeze": lambda t: apply(arrays._squeeze, apply(arrays._unsqueeze, t, ints(1)), None),
    "expand": lambda t: apply(arrays._expand, t, ints(3, 1, 1, 1)),
    "tile": lambda t: apply(arrays._tile, t, ints(1, 2, 3)),
    "slice": lambda t: apply(arrays._slice, t, ints(-1, 9), ints(-99, 0), ints(1, 2), ints(-1, -2)),
    "part": lambda t: apply(arrays._part, t, ints(1, 2), axis=1, part=1),
    "chunk": lambda t: apply(arrays._chunk, t, axis=2, part=1, parts=3),
    "gather": lambda t: apply(arrays._gather, t, ints(0, -1, 0), axis=1),
    "gather_elements": lambda t: apply(
        arrays._gather_elements, t, np.array([[[0, 2], [1, 1]]]), axis=2
    ),
    "gather_nd": lambda t: apply(arrays._gather_nd, t, np.array([[0, 1], [0, 1], [1, -1]])),
    "gather_nd of batches": lambda t: apply(arrays._gather_nd, t, np.array([[2], [0]]), batch=1),
    "compress": lambda t: apply(arrays._compress, t, np.array([True, False, True]), axis=1),
    "triangle": lambda t: apply(arrays._triangle, t, np.array(1), upper=True),
    "pad": lambda t: apply(_pad_arrays, t, ints(1, -1, 0, 2), None, ints(2, 1), mode="constant"),
    "mirror": lambda t: apply(_pad_arrays, t, ints(0, 1, 2, 0, 1, 1), None, None, mode="reflect"),
    "resize": lambda t: apply(
        _resize_rule, t, None, None, ints(5, 3),
        options=Options("cubic", "half_pixel", "floor", axes=(1, 2)),
    ),
    "resize of any axes": lambda t: apply(
        _resize_rule, t, None, np.array([1.5, 2.0]), None,
        options=Options("linear", "align_corners", "floor", axes=(2, 0)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_gradient_of_what_moves_values(name, x):
    check(SHAPES[name], x)


@pytest.mark.parametrize("reduction", ["none", "add"])
def test_gradient_of_scattering(reduction, x):
    check(
        lambda a, b: apply(arrays._scatter_nd, a, ints(1)[:, None], b, reduction=reduction),
        x,
        x[:1] + 0.1,
    )
    indices = np.array([[[3, 1], [0, 2], [1, 0]], [[2, 1], [0, 3], [3, 0]]])
    check(
        lambda a, b: apply(arrays._scatter_elements, a, indices, b, axis=2, reduction=reduction),
        x,
        x[..., :2] + 0.1,
    )


@pytest.mark.parametrize("depth_first", [True, False])
def test_depth_and_space_are_inverses(depth_first, x):
    x = x.reshape(1, 12, 1, 2)
    options = {"block": 2, "depth_first": depth_first}
    y = apply(arrays._depth_to_space, x, **options)
    assert y.shape == (1, 3, 2, 4)
    assert_array_equal(apply(arrays._space_to_depth, y, **options), x)
    assert y[0, 1, 0, 1] == (x[0, 4, 0, 0] if depth_first else x[0, 5, 0, 0])
    check(lambda t: apply(arrays._depth_to_space, t, **options), x)
    check(lambda t: apply(arrays._space_to_depth, t, **options), y)


def slices(n):
    edges = [-9, -n - 1, -n, -1, 0, 1, n - 1, n, 9]
    return [(a, b, s) for a in edges for b in edges for s in (-2, -1, 1, 3)]


@pytest.mark.parametrize("n", [1, 4])
def test_slices_are_those_of_python_but_for_starts_before_all(n):
    x = np.arange(n)
    for start, stop, step in slices(n):
        found = apply(arrays._slice, x, ints(start), ints(stop), None, ints(step))
        start = max(start, -n)  # ONNX's rule, for negative steps too
        assert_array_equal(found, x[start:stop:step], err_msg=f"{start}:{stop}:{step}")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: apply(arrays._gather, x, ints(3), axis=1), r"indices must be in \[-3, 3\)"),
        (lambda x: apply(arrays._view, x, ints(2, -2)), "sizes below -1"),
        (lambda x: apply(arrays._view, x, np.ones(2)), "shape must be a vector of integers"),
        (lambda x: apply(arrays._squeeze, x, ints(3)), r"axes must be in \[-3, 3\)"),
        (lambda x: apply(arrays._tile, x, ints(1)), "repeats must be a count for each of 3"),
        (lambda x: apply(arrays._part, x, ints(1, 1), axis=1, part=0), "sum to 3"),
        (lambda x: apply(arrays._slice, x, ints(0), ints(1), None, ints(0)), "must not be 0"),
        (lambda x: apply(arrays._range, ints(0), ints(1), ints(0)), "delta must not be 0"),
        (lambda x: apply(reductions._top, x, np.array(9), axis=1, largest=True), "k must be at"),
        (
            lambda x: apply(arrays._depth_to_space, x, block=2, depth_first=True),
            "input must be",
        ),
    ],
)
def test_what_does_not_fit_is_named(call, message, x):
    with pytest.raises((ValueError, TypeError, IndexError), match=message):
        call(x)


# Windows ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(7, 8), (6, 5)])
def test_same_padding_gives_the_size_by_the_stride(size, rng):
    x = rng.standard_normal((2, 3, *size))
    w = rng.standard_normal((4, 3, 3, 4))
    for name, extra in (("same_upper", 1), ("same_lower", 0)):
        # PyTorch has no such padding: what it is by hand
        total = [(-(-n // 2) - 1) * 2 + k - n for n, k in zip(size, (3, 4), strict=True)]
        pairs = [(t // 2, t - t // 2) if extra else (t - t // 2, t // 2) for t in total]
        y = F.conv2d(x, w, stride=2, padding=name)
        assert y.shape[2:] == tuple(-(-n // 2) for n in size)
        padded = np.pad(x, ((0, 0), (0, 0), *pairs))
        assert_allclose(y, F.conv2d(padded, w, stride=2), rtol=1e-12, atol=1e-12)
        pooled = F.max_pool2d(x, (3, 4), 2, name)
        low = np.pad(x, ((0, 0), (0, 0), *pairs), constant_values=-np.inf)
        assert_array_equal(pooled, F.max_pool2d(low, (3, 4), 2))


def test_pools_take_pairs_of_padding(x):
    x = x[None]
    pairs = ((2, 0), (1, 2))
    sums = F.avg_pool2d(np.pad(x, ((0, 0), (0, 0), *pairs)), 3, 1) * 9
    assert_allclose(F.avg_pool2d(x, 3, 1, pairs) * 9, sums, rtol=1e-12)
    counts = F.avg_pool2d(np.pad(np.ones_like(x), ((0, 0), (0, 0), *pairs)), 3, 1) * 9
    means = F.avg_pool2d(x, 3, 1, pairs, count_include_pad=False)
    assert_allclose(means, sums / counts, rtol=1e-12)
    check(lambda t: F.avg_pool2d(t, 3, 1, pairs, count_include_pad=False), x)
    check(lambda t: F.max_pool2d(t, 3, 1, pairs), x)
    with pytest.raises(ValueError, match=r"must be smaller than the window, which spans \(3, 3\)"):
        F.max_pool2d(x, 3, 1, ((3, 0), (0, 0)))
