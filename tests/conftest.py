"""What the tests share: seeds, real data where at hand, the contract of every operator."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from strategies import layouts

import fastconv
from fastconv.kernels import direct

# For tests of "direct" and "winograd".
vectors = pytest.mark.skipif(not direct.SUPPORTED, reason="the compiler has no vectors")

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")

# Values that a buffer of NumPy's has, which reductions and conversions took before 2.0.
BUFFER = 8192 if np.lib.NumpyVersion(np.__version__) < "2.0.0" else 0

# Functions of one value, by name in fastconv.functional and in PyTorch's.
POINTWISE = [
    "relu",
    "relu6",
    "leaky_relu",
    "elu",
    "selu",
    "celu",
    "gelu",
    "silu",
    "mish",
    "sigmoid",
    "logsigmoid",
    "tanh",
    "softplus",
    "softsign",
    "hardtanh",
    "hardsigmoid",
    "hardswish",
]

hypothesis.settings.register_profile(
    "fastconv", deadline=None, derandomize=True, database=None, max_examples=60
)
hypothesis.settings.load_profile("fastconv")


@pytest.fixture(autouse=True)
def rng():
    """Fresh generators, the test's and the library's: no test depends on those before it."""
    fastconv.manual_seed(0)
    return np.random.default_rng(0)


@pytest.fixture
def shared_data():
    """The folder of real data sets that FASTCONV_DATA names; without it the test is skipped."""
    folder = Path(os.environ.get("FASTCONV_DATA", ""))
    if "FASTCONV_DATA" not in os.environ or not folder.is_dir():
        pytest.skip("FASTCONV_DATA does not name a folder of data sets")
    return folder


@pytest.fixture
def keep_threads():
    """Restore the number of threads that the test changes."""
    before = fastconv.get_num_threads()
    yield
    fastconv.set_num_threads(before)


def python(folder, script, *options, limit=120, **environment):
    """What a script prints as JSON, run in a new process; nothing else may be on stdout.

    After `limit` seconds it ends, and the processes that it has started.
    """
    path = folder / "script.py"
    path.write_text(script, encoding="utf-8")
    kept = {k: v for k, v in os.environ.items() if k not in ("OMP_NUM_THREADS", *environment)}
    with subprocess.Popen(
        [sys.executable, *options, str(path)],
        cwd=folder,
        env={**kept, **{k: v for k, v in environment.items() if v is not None}},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=limit)
        finally:
            with contextlib.suppress(AttributeError, ProcessLookupError):  # none of that on Windows
                os.killpg(process.pid, signal.SIGKILL)
            process.kill()
    assert process.returncode == 0, err
    return json.loads(out)


def integers(rng, shape, dtype=np.float64, low=-4, high=4):
    """Small integers as floats: sums and products of them are exact in both dtypes."""
    return np.asarray(rng.integers(low, high, shape, endpoint=True), dtype)


def forward_backward(function, *arrays, grad=None):
    """The output of `function` and its gradients by `arrays`, for small integers as `grad`."""
    tensors = [fastconv.Tensor(array, requires_grad=True) for array in arrays]
    out = function(*tensors)
    assert isinstance(out, fastconv.Tensor)
    if grad is None:
        grad = integers(np.random.default_rng(1), out.shape, out.dtype)
    out.backward(grad)
    for tensor in tensors:
        assert tensor.grad.shape == tensor.shape
        assert tensor.grad.dtype == tensor.dtype
    return out.data, [tensor.grad for tensor in tensors]


def assert_gradient_is_added(function, x, w, rng, atol=0):
    """The gradient by an array that a later operator uses too is the sum of both, walk by walk."""
    grad, other = integers(rng, function(x, w).shape, x.dtype), integers(rng, x.shape, x.dtype)
    _, (alone, by_weight) = forward_backward(function, x, w, grad=grad)
    leaf, weight = (fastconv.Tensor(array, requires_grad=True) for array in (x, w))
    both = leaf * 1  # what is recorded: gradients of leaves are summed elsewhere
    out = (function(both, weight) * grad).sum() + (both * other).sum()
    kept = other.copy()
    for walk in (1, 2):
        out.backward(retain_graph=True)
        assert_allclose(leaf.grad, walk * (alone + other), rtol=0, atol=atol)
        assert_allclose(weight.grad, walk * by_weight, rtol=0, atol=atol)
    assert_array_equal(other, kept)


def traced(call):
    """The result, and the most bytes that were allocated at a time, the result's included."""
    call()  # what is kept from call to call is there
    limit = fastconv.memory_stats()["limit"]
    fastconv.set_cache_limit(0)  # but not the memory of arrays
    peaks = []
    try:
        for _ in range(2):  # other threads, such as pytest-xdist's, allocate as well
            tracemalloc.start()
            result = call()
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        return result, min(peaks)
    finally:
        tracemalloc.stop()
        fastconv.set_cache_limit(limit)


def assert_same_for_any_layout(function, *arrays):
    """Memory layouts change no bit of the results, and operators change no byte of their inputs."""
    for name in layouts(arrays[0]):
        _assert_same_layout(function, arrays, [layouts(array)[name] for array in arrays], name)
    constant = [np.broadcast_to(array[:1], array.shape) for array in arrays]  # stride 0
    _assert_same_layout(function, [array.copy() for array in constant], constant, "broadcast")


def _assert_same_layout(function, arrays, variants, name):
    expected = function(*arrays)
    grad = integers(np.random.default_rng(2), expected.shape, expected.dtype)
    grad = np.broadcast_to(grad.flat[0], grad.shape) if name == "broadcast" else grad
    _, expected_grads = forward_backward(function, *arrays, grad=grad.copy())
    grad = grad if name == "broadcast" else layouts(grad)[name]

    before = [array.tobytes() for array in (*variants, grad)]
    plain = function(*variants)
    out, grads = forward_backward(function, *variants, grad=grad)
    assert [array.tobytes() for array in (*variants, grad)] == before, name

    for result in (plain, out):
        assert result.dtype == expected.dtype, name
        assert_array_equal(result, expected, err_msg=name)
    for result, reference in zip(grads, expected_grads, strict=True):
        assert_array_equal(result, reference, err_msg=name)


def assert_same_for_any_threads(function, *arrays):
    """One, two and three threads give the same bits, forward and backward."""
    results = []
    for threads in (1, 2, 3):
        fastconv.set_num_threads(threads)
        assert fastconv.get_num_threads() == threads
        out, grads = forward_backward(function, *arrays)
        results.append([np.ascontiguousarray(array).tobytes() for array in (out, *grads)])
    assert results[0] == results[1] == results[2]
