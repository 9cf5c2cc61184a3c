"""What a convolution ends with, in every way: act(conv + bias + residual), by naive loops."""

import ctypes
import math
import mmap
import os
import sys

import naive
import numpy as np
import pytest
from conftest import integers, vectors
from numpy.testing import assert_allclose, assert_array_equal

import fastconv
from fastconv import _correlate, _threads
from fastconv._activation import NONE, RELU, RELU6, Activation
from fastconv._geometry import three
from fastconv._layout import channels_first, channels_last
from fastconv.functional.conv import _checked, _forward, by_group
from fastconv.kernels import direct, grouped

DTYPES = [np.float32, np.float64]
ACTIVATIONS = {
    "none": NONE,
    "relu": RELU,
    "relu6": RELU6,
    "leaky": Activation(0.25, math.inf),
    "negative slope": Activation(-0.5, 3.0),
}
# way: x, w, options, algorithm. Outputs fill whole vectors and panels, or a part of them.
CASES = {
    "small": [
        ((2, 3, 5, 4), (4, 3, 3, 3), {"padding": 1}, "auto"),
        ((1, 4, 7), (6, 2, 3), {"groups": 2, "stride": 2}, "auto"),
        ((2, 2, 3, 2, 4), (3, 2, 2, 1, 2), {}, "auto"),
    ],
    "gemm": [
        ((2, 8, 9, 7), (13, 8, 3, 3), {"padding": 1}, "gemm"),
        ((1, 8, 9, 7), (40, 8, 1, 1), {}, "gemm"),  # in place
        ((1, 6, 11), (10, 3, 3), {"stride": 2, "groups": 2}, "gemm"),
        ((1, 3, 4, 5, 6), (5, 3, 2, 3, 3), {"dilation": (1, 2, 1)}, "gemm"),
        ((1, 8, 40, 40), (136, 8, 1, 1), {}, "gemm"),  # several strips and blocks
    ],
    "tiles": [
        *(((2, 8, 7, 5), (k, 8, 3, 3), {"padding": 1}, "direct") for k in (5, 8, 13, 16, 17, 40)),
        ((3, 8, 5, 1), (16, 8, 1, 1), {}, "direct"),
        ((1, 16, 2, 2), (24, 16, 1, 1), {}, "direct"),  # fewer pixels than a tile
        ((2, 12, 9, 9), (34, 6, 3, 3), {"stride": 2, "groups": 2}, "direct"),
        ((1, 9, 30), (24, 9, 5), {"dilation": 2, "padding": 4}, "direct"),
        ((1, 9, 4, 5, 6), (7, 9, 2, 3, 3), {"padding": 1, "stride": (1, 2, 1)}, "direct"),
        ((1, 96, 6, 7), (160, 96, 3, 3), {"padding": 1}, "direct"),  # panel by panel
        ((1, 96, 5, 5), (200, 96, 3, 3), {"padding": 1}, "direct"),  # a pixel left over
        *(((1, 8, 5, 5), (k, 8, 1, 1), {}, "direct") for k in (5, 24, 40)),
        *(((1, 20, 1, 1), (k, 10, 1, 1), {"groups": 2}, "direct") for k in (10, 48, 192, 230)),
    ],
    "lines": [
        *(((2, 3, 9, 11), (k, 3, 3, 3), {"padding": 1}, "direct") for k in (1, 3, 5, 16, 24, 40)),
        ((1, 1, 7, 11), (17, 1, 3, 3), {"stride": 2, "dilation": 2, "padding": 3}, "direct"),
        ((2, 4, 50), (12, 4, 7), {"stride": 3}, "direct"),
        ((1, 2, 5, 6, 7), (9, 2, 3, 3, 3), {"padding": 1}, "direct"),
    ],
    "planes": [
        ((2, 1, 9, 13), (1, 1, 3, 3), {"padding": 1}, "direct"),
        ((1, 1, 12, 9), (1, 1, 2, 5), {"padding": 6, "dilation": 3, "stride": (2, 1)}, "direct"),
        ((1, 1, 2100), (1, 1, 7), {}, "direct"),  # several parts of a line
    ],
    "dots": [
        *(((2, 9, 6, 7), (k, 9, 3, 3), {"padding": 1}, "direct") for k in (1, 2, 3)),
        ((1, 20, 23), (4, 10, 3), {"groups": 2, "stride": 2}, "direct"),
        ((1, 16, 3, 4, 5), (3, 16, 1, 2, 2), {}, "direct"),
    ],
    "grouped": [
        *(((2, c, 7, 6), (c, 1, 3, 4), {"groups": c, "padding": 1}, "direct") for c in (5, 13, 40)),
        ((2, 6, 7, 6), (6, 2, 3, 3), {"groups": 3, "stride": 2}, "direct"),
        ((1, 20, 7, 6), (20, 4, 3, 3), {"groups": 5, "padding": 1}, "direct"),
        ((1, 17, 21), (17, 1, 3), {"groups": 17, "dilation": 2}, "direct"),
        ((1, 12, 4, 5, 6), (12, 2, 2, 3, 2), {"groups": 6}, "direct"),
    ],
    "depthwise": [
        *(
            ((2, c, 9, 11), (c, 1, 3, 3), {"groups": c, "padding": 1, "stride": stride}, "direct")
            for c in (8, 13, 16, 17, 29, 40)
            if c >= direct.panel_width(4, 1)  # a vector at least
            for stride in (1, 2)
        ),
        ((1, 16, 9, 2), (16, 1, 5, 5), {"groups": 16, "padding": 2}, "direct"),
        ((1, 19, 13, 14), (19, 1, 5, 5), {"groups": 19, "padding": 2}, "direct"),
        ((1, 32, 21, 23), (32, 1, 5, 5), {"groups": 32, "padding": 3, "stride": 2}, "direct"),
        ((1, 19, 30), (19, 1, 3), {"groups": 19}, "direct"),
        ((1, 20, 4, 5, 6), (20, 1, 3, 3, 3), {"groups": 20, "padding": 1}, "direct"),
    ],
    "blocks": [
        *(
            ((2, 16, 9, 7), (k, 16, 3, 3), {"padding": 1}, "winograd")
            for k in (1, 3, 5, 13, 17, 40)
        ),
        ((2, 16, 13, 10), (20, 16, 3, 3), {"padding": 1, "stride": 2}, "winograd"),
        ((1, 8, 9, 6), (16, 8, 5, 5), {"padding": 2}, "winograd"),
        ((2, 8, 13, 10), (9, 8, 3, 3), {"dilation": (3, 2)}, "winograd"),
        ((2, 8, 37), (20, 8, 3), {"padding": 1}, "winograd"),
        ((1, 8, 5, 9, 6), (20, 8, 3, 3, 3), {"padding": 1}, "winograd"),
    ],
    "shared": [
        ((1, 192, 6, 9), (40, 192, 3, 3), {"padding": 1}, "winograd"),
        ((2, 192, 9, 7), (13, 192, 3, 3), {"stride": 2, "padding": 1}, "winograd"),
    ],
}
WINOGRAD = "blocks", "shared"
every_case = pytest.mark.parametrize(
    ("way", "x_shape", "w_shape", "options", "algorithm"),
    [
        pytest.param(way, *case, marks=() if way in ("small", "gemm") else vectors)
        for way, cases in CASES.items()
        for case in cases
    ],
)


@pytest.fixture
def taken(monkeypatch):
    """The ways that are taken, in order."""
    ways = []

    def noted(name, way):
        def call(*arguments):
            ways.append(name)
            return way(*arguments)

        return call

    for name, way in _correlate.WAYS.items():
        monkeypatch.setitem(_correlate.WAYS, name, noted(name, way))
    return ways


def fused(x, w, bias, residual, activation, algorithm, options):
    options = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1} | options
    (x, w, bias), call = _checked(x, w, bias, w.ndim - 2, *options.values())
    return _forward(call, x, w, bias, algorithm, None, residual, activation)[0]


def definition(y, residual, activation):
    """act(y + residual), where not even an infinity times a slope of zero is NaN."""
    y = y if residual is None else y + residual
    low = np.zeros_like(y) if activation.slope == 0 else activation.slope * y
    return np.minimum(np.where(y <= 0, low, y), activation.top)  # NaN if y is


def assert_close(result, expected, way, y):
    """Within the promise of winograd for a convolution y, exact otherwise."""
    if way in WINOGRAD:
        tolerance = 2e-5 if result.dtype == np.float32 else 1e-13
        assert_allclose(result, expected, rtol=0, atol=tolerance * np.abs(y).max())
    else:
        assert_array_equal(result, expected)


@every_case
@pytest.mark.parametrize("dtype", DTYPES)
def test_definition(way, x_shape, w_shape, options, algorithm, dtype, rng, taken):
    x, w = integers(rng, x_shape, dtype), integers(rng, w_shape, dtype)
    bias = integers(rng, w_shape[:1], dtype, -9, 9)
    for b in (None, bias):
        y = naive.conv(x, w, b, **options)
        some = integers(rng, y.shape, dtype, -40, 40)
        for residual in (None, some):
            for activation in ACTIVATIONS.values():
                result = fused(x, w, b, residual, activation, algorithm, options)
                assert result.dtype == dtype
                assert_close(result, definition(y, residual, activation), way, y)
    if way == "grouped" and w_shape[1] not in grouped.widths(x.itemsize):
        way = "tiles"  # a vector of the baseline holds no such group
    assert set(taken) == ({way} - {"small"})


@every_case
@pytest.mark.parametrize("dtype", DTYPES)
def test_nothing_else_is_read(way, x_shape, w_shape, options, algorithm, dtype, rng, guarded):
    """Residual and output begin, and then end, at memory that may not be touched."""
    x, w = integers(rng, x_shape, dtype), integers(rng, w_shape, dtype)
    y = naive.conv(x, w, **options)
    expected = definition(y, integers(np.random.default_rng(3), y.shape), RELU)
    options = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1} | options
    call = _checked(x, w, None, w.ndim - 2, *options.values())[1]
    shape = *call.memory[:4], len(w)
    for at_end in (False, True):
        out, residual = (guarded(shape, dtype, at_end) for _ in range(2))
        residual[...] = channels_last(integers(np.random.default_rng(3), y.shape, dtype))
        _correlate.correlate(
            channels_last(x),
            by_group(w, options["groups"]),
            None,
            out,
            call.geometry.frame,
            algorithm,
            residual=residual,
            activation=RELU,
        )
        assert_close(channels_first(out, w.ndim), expected, way, y)


@pytest.fixture
def guarded():
    """Arrays between pages that may not be touched."""
    if sys.platform != "linux":
        pytest.skip("pages are protected by Linux's mprotect")
    mprotect = ctypes.CDLL(None, use_errno=True).mprotect
    mprotect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    page, taken = mmap.PAGESIZE, []

    def make(shape, dtype, at_end):
        size = math.prod(shape) * np.dtype(dtype).itemsize
        pages = -(-size // page) + 2
        memory = mmap.mmap(-1, pages * page)
        whole = np.frombuffer(memory, np.uint8)
        for guard in (0, pages - 1):
            taken.append((whole.ctypes.data + guard * page, whole))
            assert not mprotect(taken[-1][0], page, 0), os.strerror(ctypes.get_errno())
        first = (pages - 1) * page - size if at_end else page
        return whole[first : first + size].view(dtype).reshape(shape)

    yield make
    for place, _ in taken:  # NumPy and the collector may look at all of it
        mprotect(place, page, mmap.PROT_READ | mmap.PROT_WRITE)


@pytest.mark.parametrize("algorithm", ["gemm", pytest.param("direct", marks=vectors)])
@pytest.mark.parametrize(
    ("channels", "options"),
    [
        ((16, 13), {"stride": 2, "padding": 1}),
        ((3, 8), {"stride": (3, 2), "padding": 1}),
        ((5, 8), {"padding": 1}),
        ((10, 20), {"stride": 2, "padding": 1, "groups": 5}),
        ((24, 24), {"stride": 2, "padding": 1, "groups": 24}),
    ],
)
def test_places_of_a_frame(algorithm, channels, options, rng):
    """Phases of a stride write between one another, where their residual is, too."""
    (c, k), groups = channels, options.get("groups", 1)
    x, w = np.empty((2, c, 10, 9)), integers(rng, (k, c // groups, 3, 3))
    options = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1} | options
    geometry = _checked(x, w, None, 2, *options.values())[1].geometry
    dy = integers(rng, (2, k, *geometry.output))
    residual = integers(rng, x.shape, low=-40, high=40)
    dx = np.full((2, *three(x.shape[2:], 1), c), np.nan)
    for frame, taps in geometry.transposed_frames:
        part = by_group(w, groups)[(slice(None), slice(None), *taps)].transpose(0, 5, 2, 3, 4, 1)
        _correlate.correlate(
            channels_last(dy),
            part,
            None,
            dx,
            frame,
            algorithm,
            residual=channels_last(residual),
            activation=RELU6,
        )
    expected = definition(naive.conv_grad_input(dy, w, x.shape, **options), residual, RELU6)
    assert_array_equal(channels_first(dx, 4), expected)


@every_case
@pytest.mark.parametrize("activation", ACTIVATIONS.values(), ids=ACTIVATIONS)
def test_values_that_are_not_finite(
    way, x_shape, w_shape, options, algorithm, activation, rng, taken
):
    """An infinity or NaN of the image or the residual reaches whom it should, and no other."""
    x, w = integers(rng, x_shape), integers(rng, w_shape, low=1, high=3)
    places = [(0, c, *(size // 2 for size in x.shape[2:])) for c in range(min(3, x.shape[1]))]
    for place, value in zip(places, [np.inf, -np.inf, np.nan], strict=False):
        image = x.copy()
        image[place] = value
        with np.errstate(invalid="ignore"):  # an infinity times zero padding of the oracle
            y = naive.conv(image, w, **options)
            residual = integers(rng, y.shape, low=-40, high=40)
            wild = rng.choice([0.0, np.inf, -np.inf, np.nan], y.shape, p=[0.7, 0.1, 0.1, 0.1])
            residual += wild
            expected = definition(y, residual, activation)
        assert not np.isfinite(y).all()
        result = fused(image, w, None, residual, activation, algorithm, options)
        assert_array_equal(result, expected)
    if way in WINOGRAD:  # the product was done again
        assert way in taken
        assert len(set(taken)) == 2


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "algorithm", ["auto", "gemm", *(pytest.param(a, marks=vectors) for a in ("direct", "winograd"))]
)
def test_infinities_of_the_residual_alone(algorithm, dtype, rng, taken):
    """They are no reason to compute the product again; minus infinity rectified is plus zero."""
    x, w = integers(rng, (1, 8, 6, 5), dtype), integers(rng, (19, 8, 3, 3), dtype)
    residual = np.full((1, 19, 4, 3), -np.inf, dtype)
    result = fused(x, w, None, residual, RELU, algorithm, {})
    assert_array_equal(result, 0)
    assert not np.signbit(result).any()
    assert len(taken) == 1


@pytest.mark.parametrize("way", CASES)
def test_zeros_of_both_signs(way):
    """Rectified ones are plus zero; without an activation the sum is as it is."""
    if way not in ("small", "gemm") and not direct.SUPPORTED:
        pytest.skip("the compiler has no vectors")
    x_shape, w_shape, options, algorithm = CASES[way][0]
    x, w = np.full(x_shape, -1.0), np.zeros(w_shape)
    for activation in (RELU, RELU6):
        for bias in (None, np.full(len(w), -0.0)):
            result = fused(x, w, bias, None, activation, algorithm, options)
            assert_array_equal(result, 0)
            assert not np.signbit(result).any()


@pytest.mark.parametrize("layout", ["first", "last", "strided", "unbatched"])
@pytest.mark.parametrize("algorithm", ["auto", "gemm"])
def test_layouts_of_the_residual(algorithm, layout, rng):
    x, w = integers(rng, (2, 3, 5, 4)), integers(rng, (4, 3, 3, 3))
    expected = naive.conv(x, w, padding=1)
    residual = integers(rng, expected.shape)
    expected = definition(expected, residual, RELU)
    if layout == "last":
        residual = np.ascontiguousarray(residual.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    elif layout == "strided":
        residual = np.repeat(residual, 2, axis=2)[:, :, ::2]
    elif layout == "unbatched":
        x, residual, expected = x[0], residual[0], expected[0]
    result = fused(x, w, None, residual, RELU, algorithm, {"padding": 1})
    assert_array_equal(result, expected)


@pytest.mark.parametrize("algorithm", ["auto", "gemm"])
def test_residual_of_another_shape(algorithm, rng):
    x, w = integers(rng, (2, 3, 5, 4)), integers(rng, (4, 3, 3, 3))
    message = r"^residual must have shape \(2, 4, 3, 2\) \(the result's\), got \(2, 4, 3, 3\)$"
    with pytest.raises(ValueError, match=message):
        fused(x, w, None, np.zeros((2, 4, 3, 3)), NONE, algorithm, {})
    with pytest.raises(ValueError, match="mismatch"):
        fused(x, w, None, np.zeros((2, 4, 3, 2), np.float32), NONE, "gemm", {})


@pytest.mark.usefixtures("keep_threads")
@every_case
def test_threads(way, x_shape, w_shape, options, algorithm, rng, monkeypatch):
    """One, two and three threads give the same bits."""
    monkeypatch.setattr(_threads, "GRAIN", 0)
    x, w, bias = (rng.normal(size=shape) for shape in (x_shape, w_shape, w_shape[:1]))
    residual = rng.normal(size=naive.conv(x, w, **options).shape)
    results = []
    for threads in (1, 2, 3):
        fastconv.set_num_threads(threads)
        result = fused(x, w, bias, residual, Activation(0.01, 1.0), algorithm, options)
        results.append(np.ascontiguousarray(result).tobytes())
    assert results[0] == results[1] == results[2]
