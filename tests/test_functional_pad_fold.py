"""pad, unfold, fold, im2col and col2im against their definitions and each other."""

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
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from strategies import DTYPES, convolutions, pads, seeds

import fastconv
import fastconv.functional as F

every_dtype = pytest.mark.parametrize("dtype", DTYPES)

# pad


PADS = [
    ((2, 3, 6), (1, 2), "constant", None),
    ((2, 3, 6), (-1, -2), "constant", None),
    ((2, 3, 5, 6), (3, 0), "constant", 2.5),
    ((2, 3, 5, 6), (1, -2, -3, 4), "constant", -1),
    ((2, 3, 5, 6), (0, 0, 0, 0), "constant", None),
    ((2, 3, 4, 5, 6), (1, 2, 0, 3, 2, 0), "constant", 7.0),
    ((2, 3, 4, 5), (1, 0, 2, 1, 0, 3, 1, 1), "constant", None),
    ((5,), (2, 1), "constant", 1.5),
    ((2, 3, 6), (5, 3), "reflect", None),
    ((2, 3, 5, 6), (1, 2, 3, 4), "reflect", None),
    ((2, 3, 4, 5, 6), (1, 2, 0, 3, 2, 0), "reflect", None),
    ((2, 3, 6), (9, 4), "replicate", None),
    ((2, 3, 5, 6), (1, 2, 8, 0), "replicate", None),
    ((2, 3, 2, 1, 3), (1, 2, 3, 3, 2, 0), "replicate", None),
    ((2, 3, 6), (6, 4), "circular", None),
    ((2, 3, 5, 6), (1, 2, 5, 0), "circular", None),
    ((2, 3, 4, 5, 6), (1, 2, 0, 3, 2, 4), "circular", None),
]
every_pad = pytest.mark.parametrize(("shape", "pad", "mode", "value"), PADS, ids=str)


def assert_pad_equals_definition(x, pad, mode, value):
    """Values and gradient, bit for bit."""
    function, twin = (partial(f, pad=pad, mode=mode, value=value) for f in (F.pad, naive.pad))
    expected = twin(x)
    grad = integers(np.random.default_rng(1), expected.shape, x.dtype)
    out, (dx,) = forward_backward(function, x, grad=grad)
    assert_array_equal(out, expected)
    assert out.dtype == dx.dtype == x.dtype

    sources = naive.pad(np.arange(1.0, x.size + 1).reshape(x.shape), pad, mode, 0)
    reference = np.zeros(x.size + 1)
    np.add.at(reference, sources.astype(int).ravel(), grad.ravel())
    assert_array_equal(dx, reference[1:].reshape(x.shape))


@every_pad
@every_dtype
def test_pad(shape, pad, mode, value, dtype, rng):
    assert_pad_equals_definition(integers(rng, shape, dtype), pad, mode, value)


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
@given(data=st.data(), seed=seeds())
def test_pad_any_geometry(mode, data, seed):
    shape, pad = data.draw(pads(mode))
    value = data.draw(st.sampled_from([None, 0.5])) if mode == "constant" else None
    x = integers(np.random.default_rng(seed), shape)
    assert_pad_equals_definition(x, pad, mode, value)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_pad_with_what_is_not_finite(value):
    out = F.pad(np.ones((1, 2)), (1, 0), value=value)
    assert_array_equal(out, [[value, 1, 1]])


def test_pad_crops_nan_away():
    """What is cropped is gone: neither the output nor the gradient knows of it."""
    x = np.array([np.nan, 1.0, 2.0])
    out, (dx,) = forward_backward(partial(F.pad, pad=(-1, 1)), x, grad=np.array([3.0, 4.0, 5.0]))
    assert_array_equal(out, [1, 2, 0])
    assert_array_equal(dx, [0, 3, 4])


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
@every_dtype
def test_pad_memory_layouts(mode, dtype, rng):
    function = partial(F.pad, pad=(2, 1, 0, 3), mode=mode)
    assert_same_for_any_layout(function, integers(rng, (3, 2, 5, 6), dtype))


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
def test_pad_gradcheck(mode, rng):
    x = fastconv.Tensor(rng.normal(size=(2, 2, 4, 5)), requires_grad=True)
    assert fastconv.gradcheck(partial(F.pad, pad=(2, 1, 0, 3), mode=mode), [x])


def test_pad_of_nothing_is_a_new_array():
    x = np.ones((2, 3))
    assert not np.shares_memory(F.pad(x, (0, 0)), x)


# im2col, col2im


COLUMNS = {
    "1d": ((2, 3, 11), {"kernel_size": 3}),
    "1d stride, dilation": ((2, 3, 23), {"kernel_size": (4,), "stride": 4, "dilation": 6}),
    "1d asymmetric padding": ((2, 3, 9), {"kernel_size": 3, "padding": ((4, 1),)}),
    "2d": ((2, 3, 6, 5), {"kernel_size": 2}),
    "2d pointwise": ((2, 5, 4, 6), {"kernel_size": 1}),
    "2d not square": ((2, 3, 7, 9), {"kernel_size": (3, 2), "stride": (2, 1), "padding": (0, 3)}),
    "2d stride above kernel": ((2, 3, 13, 9), {"kernel_size": (2, 3), "stride": (5, 4)}),
    "2d dilation 4 stride 6": (
        (2, 2, 23, 19),
        {"kernel_size": (4, 3), "stride": 6, "dilation": 4, "padding": 2},
    ),
    "2d asymmetric padding": (
        (1, 3, 5, 6),
        {"kernel_size": 3, "padding": ((0, 4), (3, 1)), "stride": (3, 2)},
    ),
    "2d large": ((2, 17, 40, 50), {"kernel_size": 3, "padding": 1}),
    "3d": ((2, 3, 4, 5, 6), {"kernel_size": 2}),
    "3d all": (
        (1, 2, 6, 7, 9),
        {
            "kernel_size": (2, 3, 1),
            "stride": (2, 1, 3),
            "padding": ((1, 0), (2, 2), (0, 3)),
            "dilation": (3, 2, 1),
        },
    ),
}
every_column = pytest.mark.parametrize(("shape", "options"), COLUMNS.values(), ids=COLUMNS.keys())


def assert_columns_equal_definition(x, options):
    """Columns, and the image that they add up to, bit for bit."""
    expected = naive.im2col(x, **options)
    cols = fastconv.im2col(x, **options)
    assert cols.dtype == x.dtype
    assert_array_equal(cols, expected)
    image = fastconv.col2im(cols, x.shape[2:], **options)
    assert image.dtype == x.dtype
    assert_array_equal(image, naive.col2im(expected, x.shape[2:], **options))


@every_column
@every_dtype
def test_columns(shape, options, dtype, rng):
    assert_columns_equal_definition(integers(rng, shape, dtype), options)


@given(convolutions(), seeds())
def test_columns_any_geometry(case, seed):
    options = {key: case.options[key] for key in ("stride", "padding", "dilation")}
    x = integers(np.random.default_rng(seed), case.x_shape, np.float32)
    assert_columns_equal_definition(x, options | {"kernel_size": case.w_shape[2:]})


@every_column
def test_columns_are_adjoint(shape, options, rng):
    """<im2col x, c> = <x, col2im c>, exactly on integers."""
    x = integers(rng, shape)
    cols = fastconv.im2col(x, **options)
    other = integers(rng, cols.shape)
    image = fastconv.col2im(other, shape[2:], **options)
    assert np.vdot(cols, other) == np.vdot(x, image)


@every_column
def test_columns_make_a_convolution(shape, options, rng):
    """A convolution is one matrix product with the columns."""
    x = integers(rng, shape)
    kernel = naive.per_axis(options["kernel_size"], x.ndim - 2)
    w = integers(rng, (4, shape[1], *kernel))
    cols = fastconv.im2col(x, **options)
    options = {key: value for key, value in options.items() if key != "kernel_size"}
    expected = naive.conv(x, w, **options)
    assert_array_equal((w.reshape(4, -1) @ cols).reshape(expected.shape), expected)


@every_column
def test_column_gradients_are_each_other(shape, options, rng):
    """The gradient of im2col is col2im, and back."""
    x = integers(rng, shape)
    cols = naive.im2col(x, **options)
    grad = integers(rng, cols.shape)
    _, (dx,) = forward_backward(partial(fastconv.im2col, **options), x, grad=grad)
    assert_array_equal(dx, naive.col2im(grad, shape[2:], **options))
    col2im = partial(fastconv.col2im, output_size=shape[2:], **options)
    _, (dcols,) = forward_backward(col2im, cols, grad=x)
    assert_array_equal(dcols, cols)


@pytest.mark.parametrize("name", ["1d stride, dilation", "2d", "2d asymmetric padding", "3d all"])
@every_dtype
def test_columns_memory_layouts(name, dtype, rng):
    shape, options = COLUMNS[name]
    x = integers(rng, shape, dtype)
    assert_same_for_any_layout(partial(fastconv.im2col, **options), x)
    cols = integers(rng, naive.im2col(x, **options).shape, dtype)
    col2im = partial(fastconv.col2im, output_size=shape[2:], **options)
    assert_same_for_any_layout(col2im, cols)


@pytest.mark.usefixtures("keep_threads")
@pytest.mark.parametrize("name", ["2d large", "3d all"])
@every_dtype
def test_columns_threads_change_no_bit(name, dtype, rng):
    shape, options = COLUMNS[name]
    x = rng.normal(size=shape).astype(dtype)
    assert_same_for_any_threads(partial(fastconv.im2col, **options), x)
    cols = rng.normal(size=fastconv.im2col(x, **options).shape).astype(dtype)
    col2im = partial(fastconv.col2im, output_size=shape[2:], **options)
    assert_same_for_any_threads(col2im, cols)


def test_columns_of_an_empty_batch():
    cols = fastconv.im2col(np.zeros((0, 2, 5, 4), np.float32), (3, 2))
    assert cols.shape == (0, 12, 9)
    assert fastconv.col2im(cols, (5, 4), (3, 2)).shape == (0, 2, 5, 4)


# unfold, fold


FOLDS = {name: case for name, case in COLUMNS.items() if len(case[0]) == 4}
del FOLDS["2d asymmetric padding"]  # torch's unfold pads both ends alike
every_fold = pytest.mark.parametrize(("shape", "options"), FOLDS.values(), ids=FOLDS.keys())


@every_fold
@every_dtype
def test_unfold_and_fold(shape, options, dtype, rng):
    """im2col and col2im of images under torch's names."""
    x = integers(rng, shape, dtype)
    cols = naive.im2col(x, **options)
    grad = integers(rng, cols.shape, dtype)
    out, (dx,) = forward_backward(partial(F.unfold, **options), x, grad=grad)
    assert_array_equal(out, cols)
    assert_array_equal(dx, naive.col2im(grad, shape[2:], **options))

    fold = partial(F.fold, output_size=shape[2:], **options)
    out, (dcols,) = forward_backward(fold, grad, grad=x)
    assert_array_equal(out, naive.col2im(grad, shape[2:], **options))
    assert_array_equal(dcols, cols)


def test_positional_order_is_torchs(rng):
    """kernel_size, dilation, padding, stride: not the order of im2col."""
    x = integers(rng, (2, 3, 12, 11))
    options = {"kernel_size": (3, 2), "dilation": (2, 3), "padding": (0, 1), "stride": (3, 2)}
    cols = naive.im2col(x, **options)
    assert_array_equal(F.unfold(x, (3, 2), (2, 3), (0, 1), (3, 2)), cols)
    image = naive.col2im(cols, (12, 11), **options)
    assert_array_equal(F.fold(cols, (12, 11), (3, 2), (2, 3), (0, 1), (3, 2)), image)
    assert_array_equal(fastconv.im2col(x, (3, 2), (3, 2), (0, 1), (2, 3)), cols)
    assert_array_equal(fastconv.col2im(cols, (12, 11), (3, 2), (3, 2), (0, 1), (2, 3)), image)


def test_fold_counts_overlaps(rng):
    """fold(unfold(x)) is x times the number of windows that hold each pixel."""
    x = integers(rng, (2, 3, 7, 6))
    options = {"kernel_size": (3, 2), "stride": (2, 1)}
    folded = F.fold(F.unfold(x, **options), (7, 6), **options)
    counts = F.fold(F.unfold(np.ones(x.shape), **options), (7, 6), **options)
    assert_array_equal(folded, counts * x)
    assert_array_equal(counts[0, 0], np.outer([1, 1, 2, 1, 2, 1, 1], [1, 2, 2, 2, 2, 1]))


def test_unbatched(rng):
    """(C, H, W) to (C * prod(kernel), L) and back."""
    x = integers(rng, (3, 6, 5))
    cols = F.unfold(x, 2)
    assert_array_equal(cols, naive.im2col(x[None], 2)[0])
    assert_array_equal(F.fold(cols, (6, 5), 2), naive.col2im(cols[None], (6, 5), 2)[0])


def test_gradcheck(rng):
    x = fastconv.Tensor(rng.normal(size=(2, 2, 5, 4)), requires_grad=True)
    assert fastconv.gradcheck(partial(F.unfold, kernel_size=(2, 3), padding=1), [x])
    cols = fastconv.Tensor(rng.normal(size=(2, 8, 6)), requires_grad=True)
    fold = partial(F.fold, output_size=(3, 4), kernel_size=2)
    assert fastconv.gradcheck(fold, [cols])


def test_gradcheck_finds_a_wrong_gradient():
    """At the kink of relu the difference quotient is 1/2, and the gradient is not."""
    kink = fastconv.Tensor(np.zeros((2, 3)), requires_grad=True)
    with pytest.raises(fastconv.GradcheckError):
        fastconv.gradcheck(F.relu, [kink])
