"""Winograd's minimal filtering against the definition, within the accuracy that is promised."""

from functools import partial

import naive
import numpy as np
import pytest
from conftest import assert_same_for_any_threads, forward_backward, vectors
from hypothesis import given
from hypothesis import strategies as st
from strategies import seeds

import fastconv
import fastconv.functional as F
from fastconv import _correlate, _plan

pytestmark = vectors

# Largest error relative to the largest value: of the output, and of gradients.
PROMISED = {np.float32: (2e-5, 5e-5), np.float64: (1e-13, 2e-13)}

CASES = {
    # x, w, padding, dilation, and stride where there is one
    "whole tiles": ((2, 16, 8, 12), (16, 16, 3, 3), 1, 1),
    "cut tiles": ((1, 24, 9, 7), (20, 24, 3, 3), 1, 1),
    "no padding": ((2, 16, 11, 6), (35, 16, 3, 3), 0, 1),
    "asymmetric padding": ((1, 16, 6, 9), (8, 16, 3, 3), ((2, 0), (1, 5)), 1),
    "wide padding": ((1, 8, 5, 4), (16, 8, 3, 3), 4, 1),
    "smaller than a tile": ((3, 16, 2, 3), (16, 16, 3, 3), 1, 1),
    "one output": ((2, 16, 3, 3), (16, 16, 3, 3), 0, 1),
    "many channels": ((1, 136, 6, 10), (144, 136, 3, 3), 1, 1),
    "many channels, many tiles": ((3, 128, 17, 26), (24, 128, 3, 3), 1, 1),
    "slices of a volume": ((2, 16, 3, 7, 9), (16, 16, 1, 3, 3), (0, 1, 1), 1),
    "a volume": ((2, 16, 5, 9, 6), (20, 16, 3, 3, 3), 1, 1),
    "a volume, more taps than slices": ((1, 8, 2, 5, 6), (8, 8, 4, 3, 3), (3, 1, 1), 1),
    "a volume, padded beyond its taps": ((1, 8, 2, 5, 6), (8, 8, 1, 3, 3), (2, 1, 1), 1),
    "a volume, unpadded": ((1, 8, 6, 5, 6), (8, 8, 3, 3, 3), (0, 1, 1), 1),
    "5x5": ((2, 16, 9, 6), (20, 16, 5, 5), 2, 1),
    "3x5": ((2, 16, 9, 13), (20, 16, 3, 5), (1, 2), 1),
    "5x3, dilated": ((1, 8, 13, 9), (20, 8, 5, 3), (4, 1), (2, 1)),
    "few channels": ((2, 3, 9, 13), (5, 3, 3, 3), 1, 1),
    "a channel": ((2, 1, 9, 13), (17, 1, 5, 5), 2, 1),
    "channels of no whole vectors": ((2, 37, 9, 13), (21, 37, 3, 3), 1, 1),
    "many channels of no whole vectors": ((2, 205, 9, 7), (35, 205, 3, 3), 1, 1),
    "a volume of such channels": ((2, 11, 5, 9, 6), (20, 11, 3, 3, 3), 1, 1),
    "a signal of such channels": ((3, 13, 37), (20, 13, 3), 1, 1),
    "stride 2, such channels": ((2, 13, 13, 10), (16, 13, 3, 3), 1, 1, 2),
    "dilated": ((2, 16, 13, 10), (16, 16, 3, 3), 2, (3, 2)),
    "a signal": ((3, 16, 37), (20, 16, 3), 1, 1),
    "a dilated signal": ((2, 16, 50), (16, 16, 3), 8, 8),
    "a signal shorter than its dilation": ((2, 16, 5), (16, 16, 3), 8, 8),
    "rows of an image": ((2, 16, 5, 10), (16, 16, 1, 3), (0, 1), 1),
    "2x2 images": ((5, 16, 2, 2), (16, 16, 3, 3), 1, 1),
    "2x2 kernels": ((2, 16, 9, 13), (20, 16, 2, 2), 1, 1),
    "2x2 kernels, dilated": ((2, 16, 9, 13), (20, 16, 2, 2), 2, (2, 3)),
    "2x1 kernels": ((2, 8, 9, 13), (16, 8, 2, 1), (1, 0), 1),
    "1x2 kernels": ((2, 8, 9, 13), (16, 8, 1, 2), (0, 1), 1),
    "stride 2": ((2, 16, 16, 24), (20, 16, 3, 3), 1, 1, 2),
    "stride 2, cut tiles": ((2, 24, 13, 10), (16, 24, 3, 3), 1, 1, 2),
    "stride 2, unpadded": ((1, 16, 9, 18), (16, 16, 3, 3), 0, 1, 2),
    "stride 2, one output": ((3, 16, 2, 1), (16, 16, 3, 3), 1, 1, 2),
    "stride 2, many channels": ((2, 136, 14, 11), (40, 136, 3, 3), 1, 1, 2),
    "stride 2, slices of a volume": ((2, 16, 3, 7, 9), (16, 16, 1, 3, 3), (0, 1, 1), 1, (1, 2, 2)),
    "stride 2, 7x7 of colours": ((2, 3, 18, 26), (20, 3, 7, 7), 3, 1, 2),
    "stride 2, 7x7, uneven padding": ((1, 5, 16, 12), (9, 5, 7, 7), ((2, 4), (5, 0)), 1, 2),
    "stride 2, 4x4": ((2, 8, 14, 10), (20, 8, 4, 4), 1, 1, 2),
    "stride 2, 4x4, unpadded": ((2, 8, 14, 10), (20, 8, 4, 4), 0, 1, 2),
    "stride 2, 5x5": ((2, 11, 14, 22), (20, 11, 5, 5), 2, 1, 2),
    "stride 2, 6x6, wide padding": ((1, 8, 4, 6), (16, 8, 6, 6), 6, 1, 2),
    "stride 2, 8x8": ((2, 8, 14, 20), (20, 8, 8, 8), 3, 1, 2),
    "stride 2, 7x7 wider than the image": ((2, 8, 2, 4), (20, 8, 7, 7), 3, 1, 2),
    "stride 2, a volume": ((1, 8, 5, 9, 6), (16, 8, 3, 3, 3), 1, 1, (1, 2, 2)),
}
every_case = pytest.mark.parametrize(
    ("x_shape", "w_shape", "padding", "dilation", "stride"),
    [(*case, 1)[:5] for case in CASES.values()],
    ids=CASES,
)


@pytest.fixture(autouse=True)
def winograd(monkeypatch):
    """Winograd wherever it fits, and a failure of the test where nothing used it."""
    used = []

    def counted(way):
        def call(*arguments):
            used.append(way)
            return way(*arguments)

        return call

    for ways, names in (
        (_correlate.WAYS, ("blocks", "shared")),
        (_correlate.WEIGHT_WAYS, ("winograd", "winograd_parts")),
    ):
        for name in names:
            monkeypatch.setitem(ways, name, counted(ways[name]))
    with fastconv.algorithm("winograd"):
        yield
    assert used


def convolve(x, w, bias=None, stride=1, padding=0, dilation=1):
    conv = (F.conv1d, F.conv2d, F.conv3d)[w.ndim - 3]
    return conv(x, w, bias, stride, padding, dilation)


def assert_within_promise(x_shape, w_shape, padding, dilation, stride, dtype, rng):
    x, bias = (rng.normal(size=s).astype(dtype) for s in (x_shape, w_shape[:1]))
    w = (rng.normal(size=w_shape) / np.sqrt(np.prod(w_shape[1:]))).astype(dtype)
    options = {"padding": padding, "dilation": dilation, "stride": stride}
    expected = naive.conv(x, w, bias, **options)
    grad = rng.normal(size=expected.shape).astype(dtype)
    out, (dx, dw, _) = forward_backward(partial(convolve, **options), x, w, bias, grad=grad)
    forward, backward = PROMISED[dtype]
    for result, reference, tolerance in (
        (out, expected, forward),
        (dx, naive.conv_grad_input(grad, w, x_shape, **options), backward),
        (dw, naive.conv_grad_weight(grad, x, w_shape, **options), backward),
    ):
        assert result.dtype == dtype
        assert np.abs(result - reference).max() <= tolerance * np.abs(reference).max()


@every_case
@pytest.mark.parametrize("dtype", PROMISED)
def test_definition(x_shape, w_shape, padding, dilation, stride, dtype, rng):
    assert_within_promise(x_shape, w_shape, padding, dilation, stride, dtype, rng)


@every_case
def test_definition_in_many_phases(x_shape, w_shape, padding, dilation, stride, rng, monkeypatch):
    """The schedules that share tiles, with transforms that hold a few of them only."""
    few = {"SHARED_CHANNELS": 1, "SHARED_BYTES": 1, "BLOCK": 1, "PHASE_BYTES": 1, "PHASE_TILES": 5}
    for name, value in few.items():
        monkeypatch.setattr(_plan, name, value)
    for name in ("plan_correlation", "plan_weight_gradient"):  # without what they remember
        monkeypatch.setattr(_correlate, name, getattr(_plan, name).__wrapped__)
    assert_within_promise(x_shape, w_shape, padding, dilation, stride, np.float32, rng)


TILES = [(*key, tile) for key, tiles in _plan.SCHEMES.items() for tile in tiles]


@pytest.mark.parametrize(("taps", "step", "tile"), TILES)
@pytest.mark.parametrize("dtype", PROMISED)
def test_every_tile(taps, step, tile, dtype, rng, monkeypatch):
    """Also those that none of the shapes above would choose."""
    monkeypatch.setitem(_plan.SCHEMES, (taps, step), (tile,))
    monkeypatch.setattr(_plan, "choose", _plan.choose.__wrapped__)
    for name in ("plan_correlation", "plan_weight_gradient"):  # without what they remember
        monkeypatch.setattr(_correlate, name, getattr(_plan, name).__wrapped__)
    shapes = (2, 16, 11, 13), (20, 16, *taps)
    assert_within_promise(*shapes, tuple(t // 2 for t in taps), 1, step, dtype, rng)


@given(
    batch=st.integers(1, 3),
    channels=st.integers(1, 40),
    outputs=st.integers(1, 40),
    size=st.tuples(st.integers(1, 15), st.integers(1, 15)),
    padding=st.tuples(*[st.tuples(st.integers(1, 3), st.integers(1, 3))] * 2),
    stride=st.integers(1, 2),
    seed=seeds(),
)
def test_any_size(batch, channels, outputs, size, padding, stride, seed):
    shapes = (batch, channels, *size), (outputs, channels, 3, 3)
    assert_within_promise(*shapes, padding, 1, stride, np.float32, np.random.default_rng(seed))


def test_threads_change_no_bit(rng):
    x = rng.normal(size=(3, 16, 13, 18)).astype(np.float32)
    w = rng.normal(size=(24, 16, 3, 3)).astype(np.float32)
    assert_same_for_any_threads(partial(convolve, padding=1), x, w)


@pytest.mark.parametrize("channels", [16, 128])
def test_batch_changes_no_bit(channels, rng):
    """An image gives the same row alone and in a batch."""
    x = rng.normal(size=(5, channels, 11, 9)).astype(np.float32)
    w = rng.normal(size=(24, channels, 3, 3)).astype(np.float32)
    together = convolve(x, w, padding=1)
    for i in range(len(x)):
        np.testing.assert_array_equal(convolve(x[i : i + 1], w, padding=1), together[i : i + 1])


@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38])
@pytest.mark.parametrize("channels", [16, 128])
def test_wild_values_reach_only_who_reads_them(value, channels, rng):
    """NaN, infinity and overflow in a tile's transform leave the tile's other outputs alone."""
    x = rng.normal(size=(2, channels, 12, 12)).astype(np.float32)
    w = rng.normal(size=(16, channels, 3, 3)).astype(np.float32)
    clean = convolve(x, w, padding=1)
    x[1, 3, 5, 6] = value
    out = convolve(x, w, padding=1)
    reads = np.zeros(out.shape, bool)
    reads[1, :, 4:7, 5:8] = True
    np.testing.assert_allclose(out[~reads], clean[~reads], rtol=0, atol=2e-5 * abs(clean).max())
    if not np.isfinite(value):
        assert not np.isfinite(out[reads]).any()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_wild_values_of_even_and_odd_rows_too(value, rng):
    x = rng.normal(size=(2, 3, 16, 20)).astype(np.float32)
    w = rng.normal(size=(16, 3, 7, 7)).astype(np.float32)
    clean = convolve(x, w, stride=2, padding=3)
    x[1, 2, 9, 8] = value
    out = convolve(x, w, stride=2, padding=3)
    reads = np.zeros(out.shape, bool)
    # Rows 2 i - 3 to 2 i + 3 hold 9, columns 2 j - 3 to 2 j + 3 hold 8.
    reads[1, :, 3:7, 3:6] = True
    np.testing.assert_allclose(out[~reads], clean[~reads], rtol=0, atol=2e-5 * abs(clean).max())
    assert not np.isfinite(out[reads]).any()
