"""Which algorithm a convolution takes, and the weights that layers keep ready for it."""

import copy
import io
import os
import pickle
import subprocess
import sys
from functools import partial
from pathlib import Path

import naive
import numpy as np
import pytest
from conftest import forward_backward, vectors
from hypothesis import given, settings
from strategies import layers, seeds

import fastconv
import fastconv.functional as F
from fastconv import _correlate, nn
from fastconv._algorithm import ALGORITHMS
from fastconv.kernels import available, direct


@pytest.fixture
def taken(monkeypatch):
    """The ways that are taken, in order."""
    ways = []

    def noted(way):
        def call(plan, *arguments):
            ways.append(plan.algorithm)
            return way(plan, *arguments)

        return call

    for table in (_correlate.WAYS, _correlate.WEIGHT_WAYS):
        for name, way in table.items():
            monkeypatch.setitem(table, name, noted(way))
    return ways


def arrays(rng, dtype=np.float32):
    return rng.normal(size=(4, 16, 10, 10)).astype(dtype), rng.normal(size=(16, 16, 3, 3)).astype(
        dtype
    )


@vectors
def test_call_before_context(taken, rng):
    x, w = arrays(rng)
    F.conv2d(x, w)
    with fastconv.algorithm("direct"):
        F.conv2d(x, w)
        F.conv2d(x, w, algorithm="winograd")
        with fastconv.algorithm("auto"):
            F.conv2d(x, w)
        F.conv2d(x, w)
    assert taken == ["winograd", "direct", "winograd", "winograd", "direct"]


def test_environment():
    code = """
import numpy as np
import fastconv
from fastconv import _correlate
_correlate.WAYS["blocks"] = _correlate.WAYS["tiles"] = None
fastconv.functional.conv2d(np.ones((2, 16, 9, 8)), np.ones((16, 16, 3, 3)))
"""
    assert run(code, FASTCONV_ALGORITHM="gemm").returncode == 0
    assert "'NoneType' object is not callable" in run(code, FASTCONV_ALGORITHM="direct").stderr


@vectors
def test_context_ends_with_an_error(taken, rng):
    with pytest.raises(ZeroDivisionError), fastconv.algorithm("gemm"):
        raise ZeroDivisionError
    F.conv2d(*arrays(rng))
    assert taken == ["winograd"]


@vectors
def test_gradients_take_the_forward_pass_s(taken, rng):
    x, w = (fastconv.Tensor(a, requires_grad=True) for a in arrays(rng))
    with fastconv.algorithm("gemm"):
        y = F.conv2d(x, w).sum()
    y.backward()
    assert set(taken) == {"gemm"}


@vectors
def test_layer(taken, rng):
    x, _ = arrays(rng)
    layer = nn.Conv2d(16, 16, 3, algorithm="direct")
    layer(x)
    nn.Conv2d(16, 16, 3)(x)
    assert "algorithm='direct'" in repr(layer)
    assert taken == ["direct", "winograd"]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_is_the_definition(algorithm, rng):
    x, w = arrays(rng, np.float64)
    expected = naive.conv(x, w)
    np.testing.assert_allclose(F.conv2d(x, w, algorithm=algorithm), expected, rtol=0, atol=1e-11)


def test_auto_is_as_exact_as_promised(taken):
    """In float32, relative to the largest value: 2e-5 forward and 5e-5 of gradients."""

    @settings(max_examples=200)
    @given(layers(), seeds())
    def check(case, seed):
        x_shape, w_shape, options = case
        rng = np.random.default_rng(seed)
        x, w = (rng.normal(size=shape).astype(np.float32) for shape in (x_shape, w_shape))
        expected = naive.conv(x, w, **options)
        grad = rng.normal(size=expected.shape).astype(np.float32)
        function = partial(F.conv2d, **options, algorithm="auto")
        out, (dx, dw) = forward_backward(function, x, w, grad=grad)
        for result, reference, promised in (
            (out, expected, 2e-5),
            (dx, naive.conv_grad_input(grad, w, x_shape, **options), 5e-5),
            (dw, naive.conv_grad_weight(grad, x, w_shape, **options), 5e-5),
        ):
            assert np.abs(result - reference).max() <= promised * np.abs(reference).max()

    check()
    assert set(taken) == ({"direct", "winograd"} if direct.SUPPORTED else {"gemm"})


def test_unknown_names(rng):
    x, w = arrays(rng)
    message = "must be one of 'auto', 'gemm', 'direct', 'winograd', got 'fft'"
    with pytest.raises(ValueError, match=f"^algorithm {message}"):
        F.conv2d(x, w, algorithm="fft")
    with pytest.raises(ValueError, match=f"^algorithm {message}"), fastconv.algorithm("fft"):
        pass
    with pytest.raises(ValueError, match=f"^algorithm {message}"):
        nn.Conv2d(3, 4, 3, algorithm="fft")
    done = run("import fastconv", FASTCONV_ALGORITHM="fft")
    assert f"ValueError: FASTCONV_ALGORITHM {message}" in done.stderr


# Weights kept ready


@pytest.fixture
def prepared(monkeypatch):
    """How often weights were made ready by a layer that keeps them."""
    made = []
    get = _correlate.Prepared.get

    def counted(self, key, w, make):
        return get(self, key, w, lambda: (made.append(key), make())[1])

    monkeypatch.setattr(_correlate.Prepared, "get", counted)
    return made


@vectors
@pytest.mark.parametrize("itemsize", [4, 8])
def test_panels_pad_the_outputs_least(itemsize):
    one, two, three = sorted({direct.panel_width(itemsize, outputs) for outputs in range(1, 100)})
    assert (two, three) == (2 * one, 3 * one)
    for outputs in range(1, 100):
        assert direct.panel_width(itemsize, outputs, 2) == (one if outputs <= one else two)
        padded = {width: -(-outputs // width) * width for width in (two, three)}
        best = three if padded[three] < padded[two] else two
        assert direct.panel_width(itemsize, outputs) == (one if outputs <= one else best)


@vectors
@pytest.mark.parametrize("outputs", [16, 5])
@pytest.mark.parametrize("channels", [16, 128, 6])
def test_weights_are_prepared_once_in_evaluation_mode(channels, outputs, prepared, rng):
    x = rng.normal(size=(2, channels, 12, 12)).astype(np.float32)
    layer = nn.Conv2d(channels, outputs, 3, padding=1)
    expected = layer(x)
    assert not prepared
    layer.eval()
    for _ in range(3):
        np.testing.assert_array_equal(layer(x), expected)
    assert len(prepared) == 1


@vectors
def test_weights_of_even_and_odd_rows_are_prepared_once(monkeypatch, rng):
    """Their places among the phases depend on the padding."""
    made = []
    arrange = _correlate._polyphase_weights
    monkeypatch.setattr(
        _correlate, "_polyphase_weights", lambda *args: (made.append(1), arrange(*args))[1]
    )
    x = rng.normal(size=(2, 24, 20, 20)).astype(np.float32)
    layer = nn.Conv2d(24, 40, 5, stride=2, padding=2, algorithm="winograd").eval()
    for _ in range(3):
        layer(x)
    assert len(made) == 1
    narrow = nn.Conv2d(24, 40, 5, stride=2, padding=1, algorithm="winograd").eval()
    narrow.load_state_dict(layer.state_dict())
    narrow._prepared = layer._prepared
    expected = naive.conv(x, layer.weight.data, layer.bias.data, 2, 1)
    np.testing.assert_allclose(narrow(x).data, expected, rtol=0, atol=1e-4)


@vectors
def test_a_change_of_the_weights_is_noticed(prepared, rng):
    x, w = arrays(rng)
    layer = nn.Conv2d(16, 16, 3).eval()
    layer(x)
    layer.weight.data[3, 2, 1, 0] += 1
    one = F.conv2d(x, layer.weight.data.copy(), layer.bias.data)
    np.testing.assert_array_equal(layer(x), one)
    layer.weight.data[...] = w
    np.testing.assert_array_equal(layer(x), F.conv2d(x, w, layer.bias.data))
    layer.load_state_dict({"weight": 2 * w, "bias": np.zeros(16, np.float32)})
    np.testing.assert_array_equal(layer(x), F.conv2d(x, 2 * w))
    assert len(prepared) == 4


@vectors
def test_sizes_may_change(rng):
    layer = nn.Conv2d(16, 16, 3, padding=1).eval()
    for size in [(2, 2), (12, 12), (2, 2), (1, 9), (12, 12)]:
        x = rng.normal(size=(3, 16, *size)).astype(np.float32)
        np.testing.assert_array_equal(
            layer(x), F.conv2d(x, layer.weight.data, layer.bias.data, padding=1)
        )


@vectors
def test_the_stride_may_change(rng):
    """Transformed weights are as many for stride 2, but others."""
    x = rng.normal(size=(2, 32, 24, 24)).astype(np.float32)
    layer = nn.Conv2d(32, 32, 3, padding=1, algorithm="winograd").eval()
    for stride in [(1, 1), (2, 2), (1, 1)]:
        layer.stride = stride
        expected = naive.conv(x, layer.weight.data, layer.bias.data, stride, 1)
        np.testing.assert_allclose(layer(x).data, expected, rtol=0, atol=1e-4)


def test_copies_and_pickles_prepare_their_own(rng):
    x, _ = arrays(rng)
    layer = nn.Conv2d(16, 16, 3).eval()
    expected = layer(x)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert not other._prepared._kept
        np.testing.assert_array_equal(other(x), expected)


# Instruction sets


def run(code, text=True, **environment):
    """Of the installed package: beside this file there is none to shadow it."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parent,
        env={**os.environ, **environment},
        capture_output=True,
        text=text,
        check=False,
    )


@pytest.mark.parametrize("level", available())
def test_an_instruction_set_can_be_forced(level):
    code = "import fastconv; fastconv.show_config(); import fastconv.kernels.direct as d"
    done = run(f"{code}; print(d.__file__)", FASTCONV_ISA=level)
    assert done.returncode == 0, done.stderr
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("instructions"))
    assert line.split()[1] == level
    assert (f"kernels{os.sep}{level}{os.sep}" in done.stdout) == (level != "baseline")


def test_an_instruction_set_that_is_not_there_is_an_error():
    done = run("import fastconv", FASTCONV_ISA="avx1024")
    assert done.returncode == 1
    assert "ImportError: FASTCONV_ISA='avx1024' must be an instruction set" in done.stderr
    assert repr(available()[-1]) in done.stderr


@pytest.mark.skipif(len(available()) == 1, reason="there is one instruction set")
def test_every_instruction_set_gives_the_same_to_rounding():
    code = """
import sys, numpy as np, fastconv
rng = np.random.default_rng(0)
x, w = rng.normal(size=(2, 16, 9, 8)), rng.normal(size=(20, 16, 3, 3))
results = [fastconv.functional.conv2d(x, w, algorithm=a) for a in ("gemm", "direct", "winograd")]
results.append(fastconv.functional.batch_norm(x, None, None, training=True))
np.savez(sys.stdout.buffer, *results)
"""
    found = []
    for level in available():
        done = run(code, text=False, FASTCONV_ISA=level)
        assert done.returncode == 0, done.stderr
        with np.load(io.BytesIO(done.stdout)) as archive:
            found.append([archive[name] for name in archive])
    baseline = found.pop()
    for results in found:
        for result, expected in zip(results, baseline, strict=True):
            np.testing.assert_allclose(result, expected, rtol=0, atol=1e-10)
