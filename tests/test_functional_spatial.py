"""Transposed convolution, resizing and unpooling against their definitions, with gradients."""

import itertools
import math
from functools import partial

import naive
import numpy as np
import pytest
import scipy.ndimage
import scipy.signal
from conftest import (
    assert_gradient_is_added,
    assert_same_for_any_layout,
    assert_same_for_any_threads,
    forward_backward,
    integers,
)
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from strategies import DTYPES, axes, seeds

import fastconv
import fastconv.functional as F
from fastconv._resample import COORDINATES, ROUNDINGS, Filter, table

TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
UNPOOL = {1: F.max_unpool1d, 2: F.max_unpool2d, 3: F.max_unpool3d}
every_dtype = pytest.mark.parametrize("dtype", DTYPES)


def convolve(functions, x, w, *rest, **options):
    """The function of a family that fits the kernel."""
    return functions[w.ndim - 2](x, w, *rest, **options)


# Transposed convolution


CASES = {
    "1d": ((2, 3, 7), (3, 4, 3), {}),
    "1d phases without taps": ((2, 3, 5), (3, 2, 2), {"stride": 5}),
    "1d dilation above stride": (
        (1, 2, 4),
        (2, 2, 2),
        {"stride": 2, "dilation": 3, "output_padding": 2},
    ),
    "2d 4x4 of stride 2": ((2, 8, 6, 5), (8, 3, 4, 4), {"stride": 2, "padding": 1}),
    "2d 3x3": ((2, 16, 9, 8), (16, 24, 3, 3), {"padding": 1}),
    "2d 3x3 of stride 2": (
        (2, 16, 9, 8),
        (16, 8, 3, 3),
        {"stride": 2, "padding": 1, "output_padding": 1},
    ),
    "2d 2x2 of stride 2": ((3, 16, 7, 6), (16, 8, 2, 2), {"stride": 2}),
    "2d pairs": ((1, 3, 5, 4), (3, 2, 3, 3), {"padding": ((0, 2), (3, 1)), "stride": (2, 1)}),
    "2d groups": ((2, 6, 4, 5), (6, 2, 3, 2), {"groups": 3, "stride": (1, 3)}),
    "2d depthwise": ((2, 9, 4, 5), (9, 1, 3, 3), {"groups": 9, "stride": 2, "padding": 1}),
    "2d kernel of one": ((2, 5, 4, 3), (5, 3, 1, 1), {"stride": 2}),
    "3d": ((1, 3, 3, 2, 4), (3, 4, 2, 3, 2), {"stride": (2, 1, 3), "padding": (1, 0, 1)}),
    "3d groups": ((2, 4, 2, 3, 2), (4, 3, 2, 2, 2), {"groups": 2, "dilation": (1, 2, 1)}),
}
every_case = pytest.mark.parametrize(
    ("x_shape", "w_shape", "options"), CASES.values(), ids=CASES.keys()
)


def assert_transposed_equals_definition(x_shape, w_shape, options, dtype, rng):
    """Output and gradients bit for bit, for integers; and that it is a convolution's adjoint."""
    groups = options.get("groups", 1)
    x, w = integers(rng, x_shape, dtype), integers(rng, w_shape, dtype)
    b = integers(rng, (w_shape[1] * groups,), dtype)
    expected = naive.conv_transpose(x, w, b, **options)
    y, (dx, dw, db) = forward_backward(partial(convolve, TRANSPOSED, **options), x, w, b)
    assert y.dtype == dtype
    assert_array_equal(y, expected)
    assert_array_equal(convolve(TRANSPOSED, x, w, **options), naive.conv_transpose(x, w, **options))

    grad = integers(np.random.default_rng(1), y.shape, dtype)
    forward = {name: value for name, value in options.items() if name != "output_padding"}
    # <conv_transpose(x), g> = <x, conv(g)>; output padding may be room for more pixels
    pixels = (..., *(slice(s) for s in x_shape[2:]))
    assert_array_equal(dx, naive.conv(grad, w, **forward)[pixels])
    full = np.zeros(naive.conv(grad, w, **forward).shape)
    full[pixels] = x
    assert_array_equal(dw, naive.conv_grad_weight(full, grad, w_shape, **forward))
    assert_array_equal(db, grad.sum(axis=(0, *range(2, y.ndim))))


@every_case
@every_dtype
def test_transposed_bit_for_bit(x_shape, w_shape, options, dtype, rng):
    with fastconv.algorithm("direct"):
        assert_transposed_equals_definition(x_shape, w_shape, options, dtype, rng)
    with fastconv.algorithm("gemm"):
        assert_transposed_equals_definition(x_shape, w_shape, options, dtype, rng)


@every_case
def test_transposed_gradient_is_added_to_another(x_shape, w_shape, options, rng):
    x, w = integers(rng, x_shape), integers(rng, w_shape)
    with fastconv.algorithm("direct"):
        assert_gradient_is_added(partial(convolve, TRANSPOSED, **options), x, w, rng)
        assert_gradient_is_added(partial(convolve, TRANSPOSED, **options), x[0], w, rng)


@st.composite
def transposed(draw):
    """Transposed convolutions of 1 to 3 axes with at least one output."""
    dims = draw(st.integers(1, 3))
    kernel, stride = draw(axes(dims, 1, 4)), draw(axes(dims, 1, 4))
    dilation, size = draw(axes(dims, 1, 3)), draw(axes(dims, 1, 12 // dims))
    more = tuple(draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True))
    padding = []
    for k, s, d, p, o in zip(kernel, stride, dilation, size, more, strict=True):
        room = (p - 1) * s + d * (k - 1) + o
        before = draw(st.integers(0, min(room, 3)))
        padding.append((before, draw(st.integers(0, min(room - before, 3)))))
    groups = draw(st.integers(1, 3))
    inputs, width = groups * draw(st.integers(1, 3)), draw(st.integers(1, 3))
    options = {
        "stride": stride,
        "padding": tuple(padding),
        "output_padding": more,
        "groups": groups,
        "dilation": dilation,
    }
    return (draw(st.integers(1, 2)), inputs, *size), (inputs, width, *kernel), options


@given(transposed(), seeds())
def test_transposed_any_geometry(case, seed):
    assert_transposed_equals_definition(*case, np.float64, np.random.default_rng(seed))


@every_case
@pytest.mark.parametrize("algorithm", ["auto", "winograd"])
def test_transposed_is_the_adjoint(x_shape, w_shape, options, algorithm, rng):
    """<conv_transpose(x), y> = <x, conv(y)>, whatever the algorithm."""
    x, w = rng.normal(size=x_shape), rng.normal(size=w_shape)
    out = convolve(TRANSPOSED, x, w, algorithm=algorithm, **options)
    assert_allclose(out, naive.conv_transpose(x, w, **options), atol=1e-11)
    y = rng.normal(size=out.shape)
    options = {name: value for name, value in options.items() if name != "output_padding"}
    back = convolve(CONV, y, w, algorithm=algorithm, **options)
    back = back[(..., *(slice(s) for s in x_shape[2:]))]
    assert_allclose(np.vdot(out, y), np.vdot(x, back), rtol=1e-10)


def test_transposed_of_one_kernel_is_scipys_convolution(rng):
    x, w = rng.normal(size=(9, 8)), rng.normal(size=(3, 4))
    out = F.conv_transpose2d(x[None, None], w[None, None])
    assert_allclose(out[0, 0], scipy.signal.convolve(x, w), atol=1e-12)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_transposed_spreads_what_is_not_finite_over_its_kernel_only(value, rng):
    x, w = rng.normal(size=(1, 16, 9, 9)), rng.normal(size=(16, 8, 3, 3))
    x[0, 3, 4, 4] = value
    out = F.conv_transpose2d(x, w, stride=2, algorithm="winograd")
    where = np.argwhere(~np.isfinite(out).all(axis=(0, 1)))
    assert_array_equal(where.min(axis=0), 8)
    assert_array_equal(where.max(axis=0), 10)


# Resizing


SIZES = {
    "wider": ((2, 3, 5), (8,)),
    "twice": ((2, 9, 6), (12,)),
    "narrower": ((2, 3, 17), (5,)),
    "one": ((2, 3, 4), (1,)),
    "of one": ((2, 3, 1), (4,)),
    "same": ((2, 3, 4), (4,)),
    "images": ((2, 3, 5, 7), (9, 4)),
    "images, many channels": ((2, 17, 6, 5), (3, 11)),
    "images to a pixel": ((1, 4, 3, 6), (1, 1)),
    "volumes": ((1, 3, 4, 3, 5), (7, 3, 2)),
    "volumes, many channels": ((2, 9, 2, 3, 4), (4, 6, 3)),
}
LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


def modes(dims):
    """Every mode for so many axes, with its options."""
    yield "nearest", {}
    yield "nearest-exact", {}
    names = [LINEAR[dims], "bicubic"] if dims == 2 else [LINEAR[dims]]
    for name in names:
        yield name, {}
        yield name, {"align_corners": True}
        if dims == 2:
            yield name, {"antialias": True}


RESIZED = [
    pytest.param(shape, size, mode, options, id=f"{name}-{mode}-{''.join(options)}")
    for name, (shape, size) in SIZES.items()
    for mode, options in modes(len(size))
]


@pytest.mark.parametrize(("shape", "size", "mode", "options"), RESIZED)
@every_dtype
def test_interpolation(shape, size, mode, options, dtype, rng):
    x = rng.normal(size=shape)
    twin = partial(naive.interpolate, size=size, mode=mode, **options)
    expected = twin(x)
    grad = rng.normal(size=expected.shape)
    function = partial(F.interpolate, size=size, mode=mode, **options)
    y, (dx,) = forward_backward(function, x.astype(dtype), grad=grad.astype(dtype))
    assert y.dtype == dx.dtype == dtype
    tolerance = 16 * np.finfo(dtype).eps
    assert_allclose(y, expected, rtol=0, atol=tolerance * np.abs(x).max())
    reference = naive.linear_gradient(twin, shape, grad)
    assert_allclose(dx, reference, rtol=0, atol=tolerance * np.abs(reference).max())


@pytest.mark.parametrize("factor", [0.4, 0.75, 1.0, 1.3, 2.0, 2.6])
@pytest.mark.parametrize("recompute", [None, False, True])
@pytest.mark.parametrize(("mode", "options"), list(modes(2)))
def test_interpolation_by_a_factor(factor, recompute, mode, options, rng):
    x = rng.normal(size=(2, 3, 7, 5))
    factors = (factor, 1.7)
    size = tuple(int(s * f) for s, f in zip(x.shape[2:], factors, strict=True))
    scales = None if recompute else factors
    # in this case PyTorch copies, whatever the factor
    kept = mode not in ("nearest-exact", "bicubic") and not options.get("antialias")
    if scales is not None and kept:
        scales = [1.0 if o == s else f for s, o, f in zip(x.shape[2:], size, factors, strict=True)]
    if options.get("align_corners"):
        scales = None
    expected = naive.interpolate(x, size, mode, scales, **options)
    y = F.interpolate(
        x, scale_factor=factors, mode=mode, recompute_scale_factor=recompute, **options
    )
    assert_allclose(y, expected, atol=1e-13)


@pytest.mark.parametrize("size", [(9, 4), (3, 11)])
@pytest.mark.parametrize("align_corners", [True, False])
def test_bilinear_is_scipys(size, align_corners, rng):
    """Linear splines at coordinates of our own."""
    x = rng.normal(size=(6, 7))
    grid = [
        np.linspace(0, s - 1, o) if align_corners else (np.arange(o) + 0.5) * s / o - 0.5
        for s, o in zip(x.shape, size, strict=True)
    ]
    expected = scipy.ndimage.map_coordinates(
        x, np.meshgrid(*grid, indexing="ij"), order=1, mode="nearest"
    )
    y = F.interpolate(x[None, None], size, mode="bilinear", align_corners=align_corners)
    assert_allclose(y[0, 0], expected, atol=1e-13)


@pytest.mark.parametrize("shape", [(2, 3, 11), (2, 3, 9, 7), (2, 3, 5, 7, 6)])
def test_area_is_the_adaptive_mean(shape, rng):
    x = integers(rng, shape)
    size = (4, 5, 3)[: len(shape) - 2]
    assert_allclose(
        F.interpolate(x, size, mode="area"), naive.adaptive_avg_pool(x, size), atol=1e-14
    )
    half = tuple(s // 2 for s in shape[2:])
    assert_array_equal(
        F.interpolate(x, scale_factor=0.5, mode="area"), F.interpolate(x, half, mode="area")
    )


def test_nearest_copies_bit_for_bit():
    x = np.array([[[-0.0, np.nan, np.inf, 1e-310]]])
    y = F.interpolate(x, 8)
    assert_array_equal(y, np.repeat(x, 2, axis=2))
    assert np.signbit(y[0, 0, :2]).all()


def test_an_infinity_reaches_only_pixels_that_read_it():
    x = np.zeros((1, 1, 5))
    x[0, 0, 2] = np.inf
    y = F.interpolate(x, 9, mode="linear", align_corners=True)
    assert_array_equal(np.isinf(y[0, 0]), [0, 0, 0, 1, 1, 1, 0, 0, 0])


def test_cubics_reproduce_lines_and_antialiased_filters_constants(rng):
    x = np.arange(12.0).reshape(1, 1, 12, 1).repeat(3, axis=3)
    y = F.interpolate(x, (23, 3), mode="bicubic", align_corners=True)
    assert_allclose(y[0, 0, 4:-4, 0], np.linspace(0, 11, 23)[4:-4], atol=1e-12)
    for mode in ("bilinear", "bicubic"):
        y = F.interpolate(np.full((1, 1, 13, 17), 3.5), (4, 5), mode=mode, antialias=True)
        assert_allclose(y, 3.5, rtol=1e-14)


def test_tables_do_not_pile_up():
    for n in range(2, 100):
        F.interpolate(np.ones((1, 1, n)), n + 1, mode="linear")
    before = table.cache_info()
    assert before.currsize <= before.maxsize < 100
    x = np.arange(20000.0).reshape(1, 1, -1)
    y = F.interpolate(x, 39999, mode="linear", align_corners=True)
    assert_allclose(y[0, 0], np.arange(39999) / 2, rtol=1e-12)
    assert table.cache_info() == before


# What ONNX's Resize asks of tables


def dense(axis):
    """The matrix of a table."""
    matrix = np.zeros((axis.output, axis.size))
    for row, (first, stop) in enumerate(itertools.pairwise(axis.starts)):
        matrix[row, axis.places[first:stop]] = axis.weights[first:stop]
    return matrix


@pytest.mark.parametrize("coordinates", sorted({*COORDINATES} - {"tf_half_pixel_for_nn"}))
@pytest.mark.parametrize(
    ("mode", "options"),
    [
        *(("nearest", {"rounding": rounding}) for rounding in ROUNDINGS),
        ("linear", {}),
        ("linear", {"exclude_outside": True}),
        ("linear", {"antialias": True}),
        ("cubic", {"cubic_coeff": -0.5}),
        ("cubic", {"exclude_outside": True}),
        ("cubic", {"antialias": True}),
        ("cubic", {"antialias": True, "exclude_outside": True}),
    ],
)
def test_tables_are_those_of_the_reference_implementation(coordinates, mode, options):
    """Matrices of ONNX's own evaluator, for sizes and scales that go up and down."""
    reference = pytest.importorskip(
        "onnx.reference.ops.op_resize", reason="ONNX's evaluator is the oracle"
    )
    roi = (0.2, 0.9) if coordinates == "tf_crop_and_resize" else (0.0, 1.0)
    for size, scale in ((4, 2.0), (5, 1.7), (7, 0.6), (6, 0.45), (4, 0.25), (1, 3.0), (3, 1.0)):
        output = math.floor(size * scale)
        how = Filter(mode, coordinates, roi=roi, **options)
        axis = table(size, output, scale, how, size * scale)
        if coordinates == "pytorch_half_pixel" and size * scale == 1:
            continue  # the standard has 0 there, and its evaluator has -0.5
        if (mode, coordinates, size) == ("nearest", "half_pixel_symmetric", 7):
            continue  # 5.5, a tie, which the evaluator finds a last bit above

        def coefficients(ratio, scale, how=how):
            if how.mode == "nearest":
                return reference._nearest_coeffs(ratio, how.rounding)
            kind = f"_{how.mode}_coeffs" + ("_antialias" if how.antialias else "")
            more = (how.cubic_coeff,) if how.mode == "cubic" else ()
            return np.asarray(getattr(reference, kind)(ratio, scale, *more), float)

        expected = np.array(
            [
                [
                    reference._interpolate_1d_with_x(
                        row,
                        scale,
                        output,
                        i,
                        coefficients,
                        roi=roi,
                        extrapolation_value=0.0,
                        coordinate_transformation_mode=coordinates,
                        exclude_outside=how.exclude_outside,
                    )
                    for row in np.eye(size)
                ]
                for i in range(output)
            ]
        )
        assert_allclose(dense(axis), expected, atol=1e-12, err_msg=f"{size} by {scale}")
        assert_array_equal(dense(axis.transposed), dense(axis).T)


@pytest.mark.parametrize("roi", [(np.nan, 1.0), (0.0, np.inf), (-1e308, 1e308), (0.8, 0.1)])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_tables_never_leave_the_input(roi, mode):
    """Whatever the region; one that is turned round is allowed."""
    axis = table(5, 4, 0.8, Filter(mode, "tf_crop_and_resize", roi=roi))
    assert ((axis.places >= 0) & (axis.places < 5)).all()
    assert axis.starts[-1] == len(axis.places) == len(axis.weights)
    assert_array_equal(np.diff(axis.starts)[axis.outside], 0)
    if roi == (0.8, 0.1):
        x = np.linspace(0.8, 0.1, 4) * 4
        if mode == "linear":
            assert_allclose(dense(axis) @ np.arange(5.0), x)
        assert not axis.outside.any()


# Unpooling


@pytest.mark.parametrize("shape", [(2, 3, 6), (2, 3, 4, 5), (2, 17, 4, 5), (1, 3, 2, 3, 4)])
@every_dtype
def test_unpooling(shape, dtype, rng):
    """Any indices: of values with the same place the last one stays."""
    x = integers(rng, shape, dtype)
    size = [2 * s for s in shape[2:]]
    indices = rng.integers(0, math.prod(size), shape)
    function = partial(UNPOOL[len(size)], indices=indices, kernel_size=2)
    y, (dx,) = forward_backward(function, x)
    assert y.dtype == dtype
    assert_array_equal(y, naive.max_unpool(x, indices, size))
    grad = integers(np.random.default_rng(1), y.shape, dtype).reshape(*shape[:2], -1)
    flat = indices.reshape(*shape[:2], -1)
    assert_array_equal(dx, np.take_along_axis(grad, flat, axis=2).reshape(shape))


@pytest.mark.parametrize("index_dtype", [np.int32, np.uint16, np.int64])
def test_unpooling_by_integers_of_any_dtype(index_dtype, rng):
    x = integers(rng, (1, 2, 3))
    indices = rng.integers(0, 6, x.shape)
    y = F.max_unpool1d(x, indices.astype(index_dtype), 2)
    assert_array_equal(y, naive.max_unpool(x, indices, (6,)))


def test_unpooling_refuses_indices_outside_before_it_writes():
    x = np.ones((1, 1, 2, 2))
    indices = np.zeros((1, 1, 2, 2), np.int64)
    for wrong in (-1, 16, 2**40, -(2**62)):
        indices[0, 0, 1, 1] = wrong
        with pytest.raises(ValueError, match=rf"indices must be in \[0, 16\).* got {wrong}"):
            F.max_unpool2d(x, indices, 2)
    indices = np.full((1, 1, 2, 2), 2**63, np.uint64)
    with pytest.raises(ValueError, match=r"indices must be in \[0, 16\)"):
        F.max_unpool2d(x, indices, 2)


# All of them


def unpool(x):
    indices = np.arange(x.size).reshape(x.shape) * 7 % 24
    return F.max_unpool2d(x, indices, 2)


def large_unpool(x):
    places = 4 * math.prod(x.shape[2:])
    return F.max_unpool2d(x, np.arange(x.size).reshape(x.shape) * 7 % places, 2)


W1, W2 = np.random.default_rng(7).normal(size=(2, 17, 6, 3, 3))
ALL = {
    "transposed 1d": (
        lambda x: F.conv_transpose1d(x, W1[:, :4, 0].astype(x.dtype), stride=2),
        (2, 17, 5),
        (4, 17, 2000),
    ),
    "transposed 2d": (
        lambda x: F.conv_transpose2d(x, W2.astype(x.dtype), stride=2, padding=1),
        (2, 17, 4, 3),
        (2, 17, 40, 50),
    ),
    "nearest": (partial(F.interpolate, scale_factor=2), (2, 3, 4, 3), (4, 17, 40, 50)),
    "linear": (
        partial(F.interpolate, scale_factor=2.3, mode="linear"),
        (2, 3, 11),
        (2, 17, 3000),
    ),
    "bilinear": (
        partial(F.interpolate, scale_factor=1.7, mode="bilinear"),
        (2, 3, 4, 3),
        (4, 17, 40, 50),
    ),
    "bicubic": (
        partial(F.interpolate, scale_factor=0.7, mode="bicubic", antialias=True),
        (2, 9, 4, 3),
        (4, 17, 40, 50),
    ),
    "trilinear": (
        partial(F.interpolate, scale_factor=1.7, mode="trilinear"),
        (1, 3, 4, 3, 2),
        (2, 9, 12, 14, 15),
    ),
    "area": (partial(F.interpolate, size=2, mode="area"), (2, 3, 11), (4, 17, 3000)),
    "unpool": (unpool, (2, 3, 2, 3), None),
}
every_operator = pytest.mark.parametrize(
    ("function", "shape"), [row[:2] for row in ALL.values()], ids=ALL.keys()
)


@every_operator
def test_gradcheck(function, shape, rng):
    assert fastconv.gradcheck(function, [fastconv.Tensor(rng.normal(size=shape), True)])


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_gradcheck_of_transposed_convolution(dims, rng):
    shapes = (2, 4, *(3, 2, 2)[:dims]), (4, 3, *(2, 3, 2)[:dims]), (6,)
    tensors = [fastconv.Tensor(rng.normal(size=shape), True) for shape in shapes]
    function = partial(TRANSPOSED[dims], stride=2, groups=2, output_padding=1)
    assert fastconv.gradcheck(function, tensors)


@every_operator
@every_dtype
def test_memory_layouts(function, shape, dtype, rng):
    assert_same_for_any_layout(function, integers(rng, shape, dtype))


@pytest.mark.usefixtures("keep_threads")
@pytest.mark.parametrize(
    ("function", "shape"),
    [(f, large) for f, _, large in ALL.values() if large] + [(large_unpool, (2, 40, 40, 30))],
    ids=ALL.keys(),
)
@every_dtype
def test_threads_change_no_bit(function, shape, dtype, rng):
    assert_same_for_any_threads(function, rng.normal(size=shape).astype(dtype))


@every_operator
def test_empty_batch(function, shape):
    x = np.zeros((0, *shape[1:]), np.float32)
    y, (dx,) = forward_backward(function, x)
    assert y.shape == (0, *function(np.zeros(shape, np.float32)).shape[1:])
    assert y.dtype == dx.dtype == np.float32


def test_unbatched(rng):
    """(C, *spatial) as in torch, but for resizing, whose batch it needs."""
    x, w, b = integers(rng, (2, 3, 4, 5)), integers(rng, (3, 2, 3, 3)), integers(rng, (2,))
    y, (dx, _, _) = forward_backward(partial(F.conv_transpose2d, stride=2), x, w, b)
    grad = integers(np.random.default_rng(1), y.shape)
    out, (dx1, _, _) = forward_backward(
        partial(F.conv_transpose2d, stride=2), x[1], w, b, grad=grad[1]
    )
    assert_array_equal(out, y[1])
    assert_array_equal(dx1, dx[1])
    indices = np.arange(120).reshape(x.shape) % 80
    assert_array_equal(F.max_unpool2d(x[1], indices[1], 2), F.max_unpool2d(x, indices, 2)[1])


@pytest.mark.parametrize("wanted", [0, 1, 2])
def test_only_the_wanted_gradient(wanted, rng):
    arrays = [integers(rng, shape) for shape in ((2, 3, 4, 5), (3, 2, 3, 3), (2,))]
    tensors = [fastconv.Tensor(a, requires_grad=i == wanted) for i, a in enumerate(arrays)]
    F.conv_transpose2d(*tensors).sum().backward()
    assert [t.grad is not None for t in tensors] == [i == wanted for i in range(3)]


def test_without_channels():
    """Resizing and unpooling take images without channels, as pools do."""
    assert F.interpolate(np.zeros((2, 0, 4, 5)), 3).shape == (2, 0, 3, 3)
    indices = np.zeros((2, 0, 4, 5), int)
    assert F.max_unpool2d(np.zeros((2, 0, 4, 5)), indices, 2).shape == (2, 0, 8, 10)


def test_plans_run_them_and_are_saved(rng, tmp_path):
    w = fastconv.Tensor(rng.normal(size=(3, 8, 4, 4)).astype(np.float32))

    def model(x):
        x = F.relu(F.conv_transpose2d(x, w, stride=2, padding=((1, 0), (1, 1))))
        return F.interpolate(x, scale_factor=(1.5, 2), mode="bilinear")

    x = rng.normal(size=(2, 3, 6, 5)).astype(np.float32)
    plan = fastconv.compile(model, x)
    plan.save(tmp_path / "plan.npz")
    for run in (plan, fastconv.load_plan(tmp_path / "plan.npz")):
        for each in (x, rng.normal(size=(1, 3, 9, 7)).astype(np.float32)):
            assert_array_equal(run(each), model(each))
