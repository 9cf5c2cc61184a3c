"""Winograd's F(4x4, 3x3) against the definition, within the accuracy that is promised."""

from functools import partial

import naive
import numpy as np
import pytest
from conftest import assert_same_for_any_threads, forward_backward
from hypothesis import given
from hypothesis import strategies as st
from strategies import seeds

import fastconv.functional as F
from fastconv import _correlate
from fastconv.kernels import direct

pytestmark = pytest.mark.skipif(
    not direct.SUPPORTED, reason="the processor has no AVX2 and FMA, or the compiler no vectors"
)

# Largest error relative to the largest value: of the output, and of gradients.
PROMISED = {np.float32: (2e-5, 5e-5), np.float64: (1e-13, 2e-13)}

CASES = {
    # x, w, padding
    "whole tiles": ((2, 16, 8, 12), (16, 16, 3, 3), 1),
    "cut tiles": ((1, 24, 9, 7), (20, 24, 3, 3), 1),
    "no padding": ((2, 16, 11, 6), (35, 16, 3, 3), 0),
    "asymmetric padding": ((1, 16, 6, 9), (8, 16, 3, 3), ((2, 0), (1, 5))),
    "wide padding": ((1, 8, 5, 4), (16, 8, 3, 3), 4),
    "smaller than a tile": ((3, 16, 2, 3), (16, 16, 3, 3), 1),
    "one output": ((2, 16, 3, 3), (16, 16, 3, 3), 0),
    "many channels": ((1, 136, 6, 10), (144, 136, 3, 3), 1),
    "many channels, many tiles": ((3, 128, 17, 26), (24, 128, 3, 3), 1),
    "slices of a volume": ((2, 16, 3, 7, 9), (16, 16, 1, 3, 3), (0, 1, 1)),
}
every_case = pytest.mark.parametrize(("x_shape", "w_shape", "padding"), CASES.values(), ids=CASES)


@pytest.fixture(autouse=True)
def winograd(monkeypatch):
    """Winograd wherever it fits, and a failure of the test where nothing used it."""
    used = []
    way = _correlate.WAYS["winograd"]

    def counted(*arguments):
        used.append(1)
        way(*arguments)

    monkeypatch.setenv("FASTCONV_ALGORITHM", "winograd")
    monkeypatch.setitem(_correlate.WAYS, "winograd", counted)
    yield
    assert used


def convolve(x, w, bias=None, padding=0):
    return (F.conv2d if w.ndim == 4 else F.conv3d)(x, w, bias, padding=padding)


def assert_within_promise(x_shape, w_shape, padding, dtype, rng):
    x, bias = (rng.normal(size=s).astype(dtype) for s in (x_shape, w_shape[:1]))
    w = (rng.normal(size=w_shape) / np.sqrt(np.prod(w_shape[1:]))).astype(dtype)
    expected = naive.conv(x, w, bias, padding=padding)
    grad = rng.normal(size=expected.shape).astype(dtype)
    out, (dx, dw, _) = forward_backward(partial(convolve, padding=padding), x, w, bias, grad=grad)
    forward, backward = PROMISED[dtype]
    for result, reference, tolerance in (
        (out, expected, forward),
        (dx, naive.conv_grad_input(grad, w, x_shape, padding=padding), backward),
        (dw, naive.conv_grad_weight(grad, x, w_shape, padding=padding), backward),
    ):
        assert result.dtype == dtype
        assert np.abs(result - reference).max() <= tolerance * np.abs(reference).max()


@every_case
@pytest.mark.parametrize("dtype", PROMISED)
def test_definition(x_shape, w_shape, padding, dtype, rng):
    assert_within_promise(x_shape, w_shape, padding, dtype, rng)


@every_case
def test_definition_in_many_phases(x_shape, w_shape, padding, rng, monkeypatch):
    """The shared schedule, with transforms that hold a few blocks of tiles only."""
    monkeypatch.setattr(_correlate, "SHARED_CHANNELS", 1)
    monkeypatch.setattr(_correlate, "SHARED_BYTES", 1)
    monkeypatch.setattr(_correlate, "BLOCK_TILES", 6)
    assert_within_promise(x_shape, w_shape, padding, np.float32, rng)


@given(
    batch=st.integers(1, 3),
    channels=st.integers(1, 5),
    outputs=st.integers(1, 40),
    size=st.tuples(st.integers(1, 15), st.integers(1, 15)),
    padding=st.tuples(*[st.tuples(st.integers(1, 3), st.integers(1, 3))] * 2),
    seed=seeds(),
)
def test_any_size(batch, channels, outputs, size, padding, seed):
    shapes = (batch, 8 * channels, *size), (outputs, 8 * channels, 3, 3)
    assert_within_promise(*shapes, padding, np.float32, np.random.default_rng(seed))


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
