"""conv1d, conv2d and conv3d against their definition and SciPy, in values and gradients."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import naive
import numpy as np
import pytest
import scipy.signal
from conftest import (
    assert_gradient_is_added,
    assert_same_for_any_layout,
    assert_same_for_any_threads,
    forward_backward,
    integers,
)
from hypothesis import given
from numpy.testing import assert_allclose, assert_array_equal
from strategies import DTYPES, convolutions, seeds

import fastconv
import fastconv.functional as F
import fastconv.functional.conv as functional_conv

CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}

CASES = {
    # one axis
    "1d": ((1, 7, 20), (2, 7, 3), {}),
    "1d one output": ((3, 2, 5), (4, 2, 5), {}),
    "1d one pixel": ((2, 3, 1), (4, 3, 1), {}),
    "1d stride above kernel": ((2, 3, 23), (5, 3, 2), {"stride": 5}),
    "1d causal": ((2, 3, 19), (4, 3, 3), {"padding": ((6, 0),), "dilation": 3}),
    "1d dilation 4 stride 6": ((2, 3, 41), (4, 3, 4), {"stride": 6, "dilation": 4, "padding": 5}),
    "1d dilation 6 stride 4": ((2, 3, 41), (4, 3, 4), {"stride": 4, "dilation": 6, "padding": 7}),
    "1d windows all padding": ((2, 3, 4), (4, 3, 2), {"padding": 5}),
    "1d groups": ((2, 6, 17), (9, 2, 4), {"groups": 3, "stride": 2, "padding": 3}),
    "1d depthwise": ((2, 19, 33), (19, 1, 5), {"groups": 19, "padding": 2, "dilation": 2}),
    "1d many channels": ((2, 40, 130), (33, 40, 3), {"padding": 1}),
    # two axes: kernels, strides, dilations
    "2d": ((2, 3, 9, 7), (4, 3, 3, 2), {}),
    "2d pointwise": ((2, 17, 6, 11), (24, 17, 1, 1), {}),
    "2d pointwise stride": ((2, 5, 7, 12), (3, 5, 1, 1), {"stride": (2, 3)}),
    "2d pointwise padded": ((2, 3, 4, 5), (2, 3, 1, 1), {"padding": (2, 1)}),
    "2d one output": ((2, 3, 4, 6), (5, 3, 4, 6), {}),
    "2d one pixel padded": ((3, 4, 1, 1), (5, 4, 3, 3), {"padding": 1}),
    "2d single channel": ((1, 1, 8, 5), (1, 1, 2, 3), {}),
    "2d row": ((2, 3, 1, 30), (4, 3, 1, 5), {"padding": (0, 2)}),
    "2d column": ((2, 3, 30, 1), (4, 3, 5, 1), {"stride": (3, 1)}),
    "2d stride with remainder": ((2, 3, 12, 9), (4, 3, 3, 2), {"stride": (2, 4)}),
    "2d stride above kernel": ((2, 3, 13, 17), (4, 3, 2, 3), {"stride": (3, 5), "padding": 1}),
    "2d even kernel": ((2, 3, 11, 8), (4, 3, 4, 2), {"stride": 2, "padding": (1, 0)}),
    "2d stem": ((1, 3, 23, 30), (10, 3, 7, 7), {"stride": 2, "padding": 3}),
    "2d dilation 2 stride 2": ((2, 3, 14, 11), (4, 3, 3, 2), {"stride": 2, "dilation": 2}),
    "2d dilation 2 stride 4": ((2, 3, 17, 19), (4, 3, 3, 4), {"stride": 4, "dilation": 2}),
    "2d dilation 3 stride 2": (
        (2, 3, 16, 13),
        (4, 3, 3, 2),
        {"stride": 2, "dilation": 3, "padding": 4},
    ),
    "2d dilation 4 stride 6": (
        (1, 2, 25, 31),
        (3, 2, 4, 3),
        {"stride": 6, "dilation": 4, "padding": (1, 5)},
    ),
    "2d mixed axes": (
        (2, 3, 15, 22),
        (4, 3, 2, 5),
        {"stride": (1, 3), "dilation": (4, 2), "padding": (3, 0)},
    ),
    # padding
    "2d padding above kernel": ((2, 3, 5, 4), (4, 3, 2, 3), {"padding": (4, 6)}),
    "2d padding above kernel, stride": (
        (2, 3, 5, 4),
        (4, 3, 2, 3),
        {"padding": (4, 6), "stride": (3, 2)},
    ),
    "2d asymmetric padding": ((2, 3, 6, 9), (4, 3, 3, 2), {"padding": ((0, 3), (4, 1))}),
    "2d asymmetric padding, stride, dilation": (
        (2, 4, 9, 12),
        (6, 2, 3, 2),
        {"padding": ((5, 0), (1, 2)), "stride": (2, 3), "dilation": (2, 3), "groups": 2},
    ),
    # groups
    "2d groups": ((2, 6, 8, 7), (4, 3, 3, 2), {"groups": 2, "padding": 1}),
    "2d groups, wide": ((2, 48, 6, 7), (32, 24, 3, 3), {"groups": 2, "padding": 1}),
    "2d groups of one input": ((2, 3, 8, 7), (12, 1, 3, 2), {"groups": 3, "stride": 2}),
    "2d depthwise": ((2, 21, 10, 9), (21, 1, 3, 3), {"groups": 21, "padding": 1}),
    "2d depthwise, stride": (
        (2, 16, 11, 14),
        (16, 1, 3, 5),
        {"groups": 16, "stride": 2, "padding": (1, 2)},
    ),
    "2d depthwise, several lines": (
        (2, 32, 11, 14),
        (32, 1, 3, 3),
        {"groups": 32, "padding": 1},
    ),
    "2d depthwise, several lines, stride": (
        (2, 35, 21, 18),
        (35, 1, 3, 3),
        {"groups": 35, "stride": 2, "padding": (4, 1)},
    ),
    "2d depthwise, whole vectors, stride": (
        (1, 48, 19, 15),
        (48, 1, 3, 3),
        {"groups": 48, "stride": 2, "padding": ((0, 3), (2, 5))},
    ),
    "2d depthwise, five taps": ((1, 40, 13, 12), (40, 1, 5, 5), {"groups": 40, "padding": 2}),
    "2d depthwise, five taps, stride": (
        (2, 16, 21, 23),
        (16, 1, 5, 5),
        {"groups": 16, "stride": 2, "padding": ((3, 0), (1, 4))},
    ),
    "3d depthwise, several lines": (
        (1, 16, 3, 9, 10),
        (16, 1, 3, 3, 3),
        {"groups": 16, "padding": 1},
    ),
    "2d depthwise, dilation": (
        (2, 9, 15, 12),
        (9, 1, 3, 2),
        {"groups": 9, "dilation": (2, 3), "padding": 2},
    ),
    "2d groups of two": ((2, 22, 9, 8), (22, 2, 3, 3), {"groups": 11, "padding": 1}),
    "2d groups of four": ((2, 20, 9, 8), (20, 4, 3, 2), {"groups": 5, "stride": 2}),
    "2d few outputs": ((2, 21, 9, 8), (3, 21, 3, 3), {"padding": 1}),
    "2d two outputs, groups": ((2, 18, 7, 8), (4, 9, 3, 3), {"groups": 2, "stride": (1, 2)}),
    "2d one output, dilated": (
        (2, 16, 9, 8),
        (1, 16, 2, 3),
        {"dilation": (1, 2), "padding": 1},
    ),
    "2d few inputs": ((2, 3, 17, 33), (20, 3, 7, 5), {"stride": 2, "padding": 3}),
    "2d few inputs, dilated": ((2, 5, 11, 9), (24, 5, 3, 3), {"dilation": 2, "padding": 4}),
    "2d few inputs, whole panels": ((3, 3, 17, 33), (32, 3, 7, 5), {"stride": 2, "padding": 3}),
    "2d one input, whole panels": ((2, 1, 40, 19), (16, 1, 5, 5), {"padding": 2}),
    "2d few inputs, dilated, whole panels": (
        (2, 5, 11, 9),
        (16, 5, 3, 2),
        {"dilation": (1, 2), "padding": ((4, 0), (1, 3)), "stride": (2, 1)},
    ),
    "1d plane long": ((2, 1, 4500), (1, 1, 7), {"padding": 3}),
    "2d plane": ((2, 1, 30, 41), (1, 1, 5, 4), {"padding": ((3, 1), (9, 0)), "dilation": (1, 3)}),
    "2d plane strided": ((1, 1, 40, 35), (1, 1, 7, 3), {"stride": (3, 1), "padding": 2}),
    "2d plane stride 2": ((1, 1, 40, 35), (1, 1, 5, 5), {"stride": 2, "padding": 2}),
    "3d plane": ((1, 1, 9, 8, 20), (1, 1, 3, 2, 3), {"padding": 1}),
    "1d long": ((1, 1, 1100), (7, 1, 7), {"padding": 3}),
    "1d long, whole panels": ((2, 2, 600), (16, 2, 7), {"padding": 3}),
    "2d 24 outputs": ((2, 8, 9, 7), (24, 8, 3, 3), {"padding": 1}),
    "2d depthwise, multiplier": ((2, 5, 9, 8), (15, 1, 2, 3), {"groups": 5}),
    # sizes of blocks and strips, and tails of one
    "2d 8 to 16 channels": ((3, 8, 12, 13), (16, 8, 3, 3), {"padding": 1}),
    "2d 33 to 31 channels": ((1, 33, 9, 10), (31, 33, 3, 3), {"padding": 1}),
    "2d 64 to 48 channels": ((2, 64, 7, 13), (48, 64, 3, 2), {"padding": 1, "stride": (1, 2)}),
    "2d several strips": ((2, 17, 40, 50), (24, 17, 3, 3), {"padding": 1}),
    "2d several strips, stride": (
        (2, 17, 61, 50),
        (24, 17, 3, 2),
        {"stride": 2, "padding": ((1, 0), (0, 1))},
    ),
    "2d many images": ((37, 2, 5, 6), (3, 2, 3, 3), {"padding": 1}),
    "2d long reduction": ((1, 130, 5, 6), (3, 130, 3, 4), {"padding": 1}),
    # three axes
    "3d": ((2, 3, 5, 7, 6), (4, 3, 2, 3, 1), {}),
    "3d pointwise": ((2, 3, 4, 3, 5), (4, 3, 1, 1, 1), {}),
    "3d one output": ((2, 2, 3, 4, 2), (3, 2, 3, 4, 2), {}),
    "3d padding, stride": (
        (2, 3, 5, 6, 7),
        (4, 3, 3, 2, 3),
        {"padding": (1, 0, 2), "stride": (2, 1, 3)},
    ),
    "3d dilation, stride": (
        (1, 2, 9, 8, 11),
        (3, 2, 3, 2, 3),
        {"dilation": (2, 3, 2), "stride": (2, 2, 4), "padding": 2},
    ),
    "3d asymmetric padding": (
        (1, 2, 4, 3, 5),
        (3, 2, 2, 3, 2),
        {"padding": ((2, 0), (0, 4), (1, 3))},
    ),
    "3d one input, whole panels": (
        (2, 1, 5, 20, 17),
        (16, 1, 3, 3, 2),
        {"padding": 1, "stride": (2, 1, 3)},
    ),
    "3d groups": ((2, 4, 4, 5, 6), (6, 2, 2, 2, 3), {"groups": 2, "padding": 1}),
    "3d depthwise": ((1, 9, 5, 6, 7), (9, 1, 3, 3, 3), {"groups": 9, "padding": 1}),
    "3d several strips": ((1, 6, 12, 14, 15), (8, 6, 3, 3, 3), {"padding": 1}),
}

every_case = pytest.mark.parametrize(
    ("x_shape", "w_shape", "options"), CASES.values(), ids=CASES.keys()
)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)


@pytest.fixture(params=["gemm", "direct"])
def exact_algorithm(request):
    """The algorithms that only multiply and add the given numbers."""
    with fastconv.algorithm(request.param):
        yield request.param


def convolve(x, w, bias=None, **options):
    """conv1d, conv2d or conv3d, whichever fits the weight."""
    return CONV[w.ndim - 2](x, w, bias, **options)


def assert_equals_definition(x_shape, w_shape, options, dtype, rng):
    """Output and the gradients by input, weight and bias, bit for bit on integers."""
    x, w, bias = (integers(rng, shape, dtype) for shape in (x_shape, w_shape, w_shape[:1]))
    expected = naive.conv(x, w, bias, **options)
    grad = integers(rng, expected.shape, dtype)
    out, (dx, dw, db) = forward_backward(partial(convolve, **options), x, w, bias, grad=grad)

    for result in (out, dx, dw, db):
        assert result.dtype == dtype
    assert_array_equal(out, expected)
    assert_array_equal(dx, naive.conv_grad_input(grad, w, x_shape, **options))
    assert_array_equal(dw, naive.conv_grad_weight(grad, x, w_shape, **options))
    assert_array_equal(db, grad.sum(axis=(0, *range(2, grad.ndim))))


@every_case
@every_dtype
@pytest.mark.usefixtures("exact_algorithm")
def test_integers_bit_for_bit(x_shape, w_shape, options, dtype, rng):
    assert_equals_definition(x_shape, w_shape, options, dtype, rng)


@pytest.mark.parametrize("algorithm", ["gemm", "direct"])
@given(convolutions(), seeds())
def test_any_geometry_bit_for_bit(algorithm, case, seed):
    with fastconv.algorithm(algorithm):
        assert_equals_definition(*case, np.float32, np.random.default_rng(seed))


@every_case
def test_scipy_correlate(x_shape, w_shape, options, rng):
    """A convolution is a sum of SciPy's correlations, read at every stride."""
    options = {"algorithm": "direct", **options}  # exact on integers
    x, w = integers(rng, x_shape), integers(rng, w_shape)
    dims = x.ndim - 2
    groups = options.get("groups", 1)
    stride = naive.per_axis(options.get("stride", 1), dims)
    dilation = naive.per_axis(options.get("dilation", 1), dims)
    padded = naive.zero_pad(x, naive.pad_pairs(options.get("padding", 0), dims))
    dilated = np.zeros(
        (*w_shape[:2], *(d * (k - 1) + 1 for k, d in zip(w_shape[2:], dilation, strict=True)))
    )
    dilated[(..., *(slice(None, None, d) for d in dilation))] = w
    every_stride = tuple(slice(None, None, s) for s in stride)

    out = convolve(x, w, **options)
    for n, k in np.ndindex(*out.shape[:2]):
        first = k // (w_shape[0] // groups) * w_shape[1]  # the first input channel of k's group
        expected = sum(
            scipy.signal.correlate(padded[n, first + c], dilated[k, c], "valid", "direct")
            for c in range(w_shape[1])
        )
        assert_array_equal(out[n, k], expected[every_stride])


@every_case
def test_gradients_are_adjoints(x_shape, w_shape, options, rng):
    """<conv(x, w), g> = <x, dx(g)> = <w, dw(g)>."""
    x, w = rng.normal(size=x_shape), rng.normal(size=w_shape)
    function = partial(convolve, **options)
    grad = rng.normal(size=function(x, w).shape)
    out, (dx, dw) = forward_backward(function, x, w, grad=grad)
    scale = np.linalg.norm(out) * np.linalg.norm(grad)
    assert_allclose(np.vdot(dx, x), np.vdot(out, grad), rtol=0, atol=1e-13 * scale)
    assert_allclose(np.vdot(dw, w), np.vdot(out, grad), rtol=0, atol=1e-13 * scale)


@every_case
@pytest.mark.parametrize("algorithm", ["gemm", "direct", "winograd"])
def test_gradient_is_added_to_another(x_shape, w_shape, options, algorithm, rng):
    x, w = integers(rng, x_shape), integers(rng, w_shape)
    atol = 1e-10 if algorithm == "winograd" else 0
    with fastconv.algorithm(algorithm):
        assert_gradient_is_added(partial(convolve, **options), x, w, rng, atol)
        assert_gradient_is_added(partial(convolve, **options), x[0], w, rng, atol)


def test_gradient_of_an_image_by_itself(rng):
    image = fastconv.Tensor(integers(rng, (3, 3, 2, 2)), requires_grad=True)
    twice = image * 1
    (F.conv2d(twice, twice) * 2 + twice.sum()).sum().backward()
    _, (dx, dw) = forward_backward(
        F.conv2d, image.data, image.data, grad=np.full((3, 3, 1, 1), 2.0)
    )
    assert_array_equal(image.grad, dx + dw + 9)


@every_case
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 5e-6), (np.float64, 1e-14)])
@pytest.mark.usefixtures("exact_algorithm")
def test_rounding(x_shape, w_shape, options, dtype, tolerance, rng):
    """The error stays within some tens of rounding units of the largest output."""
    x, w = (rng.normal(size=shape).astype(dtype) for shape in (x_shape, w_shape))
    expected = naive.conv(x, w, **options)
    grad = rng.normal(size=expected.shape).astype(dtype)
    out, (dx, dw) = forward_backward(partial(convolve, **options), x, w, grad=grad)
    for result, reference in (
        (out, expected),
        (dx, naive.conv_grad_input(grad, w, x_shape, **options)),
        (dw, naive.conv_grad_weight(grad, x, w_shape, **options)),
    ):
        assert_allclose(result, reference, rtol=0, atol=tolerance * np.abs(reference).max())


@pytest.mark.parametrize(
    "name",
    ["1d groups", "2d mixed axes", "2d asymmetric padding, stride, dilation", "3d groups"],
)
def test_gradcheck(name, rng):
    x_shape, w_shape, options = CASES[name]
    arrays = (rng.normal(size=shape) for shape in (x_shape, w_shape, w_shape[:1]))
    tensors = [fastconv.Tensor(array, requires_grad=True) for array in arrays]
    assert fastconv.gradcheck(partial(convolve, **options), tensors)


# Arguments


@pytest.mark.parametrize("kernel", [(1,), (4,), (3,), (2, 3), (4, 4), (3, 1, 2)])
@pytest.mark.parametrize("dilation", [1, 2, 3])
def test_padding_same(kernel, dilation, rng):
    """The output is as large as the input; an odd total pads one more pixel at the end."""
    x, w = integers(rng, (2, 3, *range(9, 9 + len(kernel)))), integers(rng, (4, 3, *kernel))
    out, grads = forward_backward(partial(convolve, padding="same", dilation=dilation), x, w)
    assert out.shape[2:] == x.shape[2:]
    pairs = naive.same_padding(kernel, (dilation,) * len(kernel))
    assert_array_equal(out, naive.conv(x, w, padding=pairs, dilation=dilation))
    explicit = forward_backward(partial(convolve, padding=pairs, dilation=dilation), x, w)
    assert_array_equal(grads[0], explicit[1][0])
    assert_array_equal(grads[1], explicit[1][1])


def test_padding_valid(rng):
    x, w = integers(rng, (2, 3, 9, 8)), integers(rng, (4, 3, 3, 2))
    assert_array_equal(
        F.conv2d(x, w, stride=2, padding="valid"), naive.conv(x, w, stride=2, padding=0)
    )


def test_positional_order_is_torchs(rng):
    """input, weight, bias, stride, padding, dilation, groups."""
    x, w, bias = (integers(rng, shape) for shape in ((2, 4, 12, 9), (6, 2, 3, 2), (6,)))
    expected = naive.conv(x, w, bias, (2, 1), (1, 3), (3, 2), 2)
    assert_array_equal(F.conv2d(x, w, bias, (2, 1), (1, 3), (3, 2), 2), expected)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_unbatched(dims, rng):
    """(C, *spatial) gives (K, *spatial), in values and gradients."""
    shape = (3, 7, 6, 5)[: dims + 1]
    x, w, bias = integers(rng, shape), integers(rng, (4, 3, *[2] * dims)), integers(rng, (4,))
    function = partial(convolve, padding=1, stride=2)
    out, grads = forward_backward(function, x, w, bias)
    expected = naive.conv(x[None], w, bias, padding=1, stride=2)[0]
    assert_array_equal(out, expected)
    grad = integers(np.random.default_rng(1), out.shape)
    dx = naive.conv_grad_input(grad[None], w, (1, *shape), padding=1, stride=2)[0]
    dw = naive.conv_grad_weight(grad[None], x[None], w.shape, padding=1, stride=2)
    for result, reference in zip(grads[:2], (dx, dw), strict=True):
        assert_array_equal(result, reference)


def test_numpy_integers_as_options(rng):
    """Sizes computed with NumPy are integers too."""
    x, w = integers(rng, (2, 4, 9, 8)), integers(rng, (4, 2, 3, 2))
    out = F.conv2d(
        x,
        w,
        stride=np.int64(2),
        padding=(np.int32(1), np.int64(0)),
        dilation=(np.uint8(2), 1),
        groups=np.int64(2),
    )
    assert_array_equal(out, naive.conv(x, w, None, 2, (1, 0), (2, 1), 2))


def test_lists_as_options(rng):
    x, w = integers(rng, (2, 3, 9, 8)), integers(rng, (4, 3, 3, 2))
    out = F.conv2d(x, w, stride=[2, 1], padding=[[1, 0], [0, 2]], dilation=[1, 2])
    assert_array_equal(out, naive.conv(x, w, None, (2, 1), ((1, 0), (0, 2)), (1, 2)))


@pytest.mark.parametrize("dims", [1, 2, 3])
@every_dtype
def test_empty_batch(dims, dtype):
    """No image in, no image out; the gradients of the parameters are zero."""
    x, w = np.zeros((0, 3, *[5] * dims), dtype), np.ones((4, 3, *[2] * dims), dtype)
    out, (dx, dw, db) = forward_backward(partial(convolve, stride=2), x, w, np.ones(4, dtype))
    assert out.shape == (0, 4, *[2] * dims)
    assert dx.shape == x.shape
    assert_array_equal(dw, np.zeros(w.shape))
    assert_array_equal(db, np.zeros(4))
    assert {a.dtype for a in (out, dx, dw, db)} == {np.dtype(dtype)}


# Tensors


def test_arrays_in_array_out_tensors_in_tensor_out(rng):
    x, w = integers(rng, (1, 2, 5, 4)), integers(rng, (3, 2, 2, 2))
    assert isinstance(F.conv2d(x, w), np.ndarray)
    for arguments in (
        (fastconv.Tensor(x), w),
        (x, fastconv.Tensor(w)),
        (x, w, fastconv.Tensor(np.zeros(3))),
    ):
        out = F.conv2d(*arguments)
        assert isinstance(out, fastconv.Tensor)
        assert_array_equal(out.data, naive.conv(x, w))


@pytest.mark.parametrize("wanted", [0, 1, 2])
def test_only_the_wanted_gradient(wanted, rng):
    """What does not require a gradient gets none, and what does gets the same as ever."""
    arrays = [integers(rng, shape) for shape in ((2, 3, 8, 7), (4, 3, 3, 2), (4,))]
    function = partial(F.conv2d, stride=(1, 2), padding=1)
    _, expected = forward_backward(function, *arrays)
    tensors = [fastconv.Tensor(a, requires_grad=i == wanted) for i, a in enumerate(arrays)]
    out = function(*tensors)
    out.backward(integers(np.random.default_rng(1), out.shape))
    for i, tensor in enumerate(tensors):
        if i == wanted:
            assert_array_equal(tensor.grad, expected[i])
        else:
            assert tensor.grad is None


# Memory and threads


LAYOUT_CASES = [
    "1d dilation 6 stride 4",
    "2d",
    "2d pointwise",
    "2d pointwise stride",
    "2d mixed axes",
    "2d asymmetric padding, stride, dilation",
    "2d depthwise, stride",
    "2d 33 to 31 channels",
    "3d padding, stride",
]


@pytest.mark.parametrize("name", LAYOUT_CASES)
@every_dtype
def test_memory_layouts(name, dtype, rng):
    x_shape, w_shape, options = CASES[name]
    arrays = (integers(rng, shape, dtype) for shape in (x_shape, w_shape, w_shape[:1]))
    assert_same_for_any_layout(partial(convolve, **options), *arrays)


THREAD_CASES = [
    "2d 64 to 48 channels",
    "1d many channels",
    "2d several strips",
    "2d several strips, stride",
    "2d pointwise",
    "2d depthwise",
    "2d groups, wide",
    "2d many images",
    "2d long reduction",
    "3d several strips",
]


@pytest.mark.usefixtures("keep_threads")
@pytest.mark.parametrize("name", THREAD_CASES)
@every_dtype
def test_threads_change_no_bit(name, dtype, rng):
    x_shape, w_shape, options = CASES[name]
    arrays = (rng.normal(size=s).astype(dtype) for s in (x_shape, w_shape, w_shape[:1]))
    assert_same_for_any_threads(partial(convolve, **options), *arrays)


def test_concurrent_calls(rng):
    """Four Python threads at once get what one after the other gets."""
    x_shape, w_shape, options = CASES["2d several strips, stride"]
    x, w = rng.normal(size=(8, *x_shape)), rng.normal(size=w_shape)
    serial = [forward_backward(partial(convolve, **options), image, w) for image in x]
    with ThreadPoolExecutor(4) as threads:
        concurrent = threads.map(
            lambda image: forward_backward(partial(convolve, **options), image, w), x
        )
    for (out, grads), (expected, expected_grads) in zip(concurrent, serial, strict=True):
        for result, reference in zip((out, *grads), (expected, *expected_grads), strict=True):
            assert_array_equal(result, reference)


def test_output_is_a_new_array(rng):
    """Not even a 1x1 kernel of ones gives a view of the input."""
    x = integers(rng, (2, 1, 5, 4))
    out = F.conv2d(x, np.ones((1, 1, 1, 1)))
    assert_array_equal(out, x)
    assert not np.shares_memory(out, x)


# Numbers that are not finite


SPREAD_CASES = [
    "1d stride above kernel",
    "2d",
    "2d pointwise",
    "2d mixed axes",
    "2d padding above kernel",
    "2d asymmetric padding, stride, dilation",
    "2d depthwise, stride",
    "2d 8 to 16 channels",
    "2d 33 to 31 channels",
    "2d 64 to 48 channels",
    "3d padding, stride",
]


@pytest.mark.parametrize("name", SPREAD_CASES)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_finite_input_spreads_over_its_windows_only(name, value, rng):
    """Exactly the outputs that read the pixel are not finite, whatever their neighbours do."""
    x_shape, w_shape, options = CASES[name]
    x, w = np.ones(x_shape), rng.uniform(1, 2, w_shape)  # no weight is 0: 0 * inf is NaN
    middle = tuple(s // 2 for s in x_shape)
    x[middle] = value
    mark = np.zeros(x_shape)
    mark[middle] = 1
    touched = naive.conv(mark, w, **options) != 0
    out = convolve(x, w, **options)
    assert_array_equal(out[touched], np.full(touched.sum(), value))
    assert np.isfinite(out[~touched]).all()


@pytest.mark.parametrize("name", SPREAD_CASES)
def test_nan_gradient_spreads_over_its_window_only(name, rng):
    """Pixels that no such window has read, or no window at all, keep finite gradients."""
    x_shape, w_shape, options = CASES[name]
    x, w = rng.uniform(1, 2, x_shape), rng.uniform(1, 2, w_shape)
    function = partial(convolve, **options)
    grad = np.ones(function(x, w).shape)
    middle = tuple(s // 2 for s in grad.shape)
    grad[middle] = np.nan
    mark = np.zeros(grad.shape)
    mark[middle] = 1
    _, (dx, dw) = forward_backward(function, x, w, grad=grad)
    assert_array_equal(np.isnan(dx), naive.conv_grad_input(mark, w, x_shape, **options) != 0)
    assert np.isnan(dw[middle[1]]).any()
    assert np.isfinite(np.delete(dw, middle[1], axis=0)).all()


def test_small_arrays_are_computed_by_the_definition_bit_for_bit(rng):
    """Far below the size that pays for packing, also from the second call on."""
    for x_shape, w_shape, options in CASES.values():
        x_shape = (1, *x_shape[1:])
        x, w, bias = (integers(rng, shape) for shape in (x_shape, w_shape, w_shape[:1]))
        for _ in range(2):
            for b in (bias, None):
                out = convolve(x, w, b, **options)
                exact = convolve(x, w, b, algorithm="gemm", **options)
                if w.size * exact[0, 0].size <= functional_conv.SMALL:
                    assert_array_equal(out, exact)
                    assert out.strides == exact.strides


def test_small_arrays_of_any_strides(rng):
    x, w = integers(rng, (2, 6, 8, 9)), integers(rng, (3, 4, 2, 3))
    expected = F.conv2d(x[:, 1:5, ::-1, ::2].copy(), w.copy(), algorithm="gemm")
    for _ in range(2):
        assert_array_equal(F.conv2d(x[:, 1:5, ::-1, ::2], w), expected)
        assert_array_equal(F.conv2d(np.asfortranarray(x)[:, 1:5, ::-1, ::2], w), expected)
        swapped = x[:, 1:5, ::-1, ::2].astype(x.dtype.newbyteorder())
        assert_array_equal(F.conv2d(swapped, w), expected)
        memory = np.zeros(x[:, 1:5, ::-1, ::2].size * 8 + 1, np.uint8)
        unaligned = memory[1:].view(np.float64).reshape(expected.shape[0], 4, 8, 5)
        unaligned[...] = x[:, 1:5, ::-1, ::2]
        assert_array_equal(F.conv2d(unaligned, w), expected)


def test_a_small_call_that_was_right_does_not_excuse_the_next(rng):
    x, w = np.ones((1, 1, 8, 8), np.float32), np.ones((4, 1, 3, 3), np.float32)
    F.conv2d(x, w, padding=1)
    with pytest.raises(TypeError, match=r"^weight has dtype float64"):
        F.conv2d(x, w.astype(np.float64), padding=1)
    with pytest.raises(TypeError, match=r"^padding must be an integer, got True"):
        F.conv2d(x, w, padding=True)
    with pytest.raises(ValueError, match=r"^bias must have shape \(4,\)"):
        F.conv2d(x, w, np.ones(3, np.float32), padding=1)
    with pytest.raises(ValueError, match=r"^input has 1 channels"):
        F.conv2d(x, np.ones((4, 2, 3, 3), np.float32), padding=1)


def test_plans_of_small_calls_do_not_pile_up():
    w = np.ones((1, 1, 2), np.float32)
    for length in range(2, 1200):
        F.conv1d(np.ones((1, 1, length), np.float32), w)
        assert len(functional_conv._calls) <= 512
