"""Threads change no bit of a result, and nothing around it: BLAS, errors."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import python
from numpy.testing import assert_array_equal

import fastconv
import fastconv.functional as F
from fastconv import Tensor, _cgroup, _memory, _threads, nn, optim

# The number


def test_number_of_threads_is_set_and_told(keep_threads):
    for n in (1, 3, np.int64(2)):
        fastconv.set_num_threads(n)
        assert fastconv.get_num_threads() == n
        assert type(fastconv.get_num_threads()) is int


@pytest.mark.parametrize(
    ("n", "error"),
    [
        (0, ValueError),
        (-2, ValueError),
        (1.0, TypeError),
        ("2", TypeError),
        (None, TypeError),
        (True, TypeError),
        (np.bool_(True), TypeError),
        ([2], TypeError),
    ],
)
def test_bad_numbers_of_threads_are_refused(n, error, keep_threads):
    fastconv.set_num_threads(2)
    with pytest.raises(error, match=r"\bn\b") as caught:
        fastconv.set_num_threads(n)
    assert str(n) in str(caught.value)
    assert fastconv.get_num_threads() == 2


PRINT_THREADS = """
import json, os, warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import fastconv
    threads = fastconv.get_num_threads()
print(json.dumps([threads, len(os.sched_getaffinity(0)), [str(w.message) for w in caught]]))
"""


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no affinity on this system")
@pytest.mark.parametrize(
    ("own", "openmp", "expected"),
    [
        ("5", None, 5),
        ("5", "3", 5),
        (None, "3", 3),
        (None, "3,2", 3),
        ("", "3", 3),
    ],
)
def test_environment_gives_the_number_of_threads(own, openmp, expected, tmp_path):
    threads, _, messages = python(
        tmp_path, PRINT_THREADS, FASTCONV_NUM_THREADS=own, OMP_NUM_THREADS=openmp
    )
    assert threads == expected
    assert messages == []


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no affinity on this system")
@pytest.mark.parametrize("text", ["0", "-1", "many", "1.5"])
def test_environment_that_is_no_number_is_ignored_with_a_warning(text, tmp_path):
    threads, cpus, messages = python(tmp_path, PRINT_THREADS, FASTCONV_NUM_THREADS=text)
    assert 1 <= threads <= cpus
    (message,) = messages
    assert f"FASTCONV_NUM_THREADS={text!r}" in message


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_default_respects_the_affinity_of_the_process(tmp_path):
    first = min(os.sched_getaffinity(0))
    script = f"import os\nos.sched_setaffinity(0, {{{first}}})\n" + PRINT_THREADS
    assert python(tmp_path, script, FASTCONV_NUM_THREADS=None) == [1, 1, []]


GROUPS = {
    "version 2": ("0::/a/b\n", {"a/b/cpu.max": "150000 100000", "a/b/memory.max": "5000"}, 2, 5000),
    "the group above": (
        "0::/a/b\n",
        {"a/cpu.max": "300000 100000", "cpu.max": "max 100000"},
        3,
        None,
    ),
    "the least": (
        "0::/a/b\n",
        {"a/b/cpu.max": "900000 100000", "a/cpu.max": "50000 100000"},
        1,
        None,
    ),
    "a container's root": (
        "0::/host/only\n",
        {"cpu.max": "200000 100000", "memory.max": "7"},
        2,
        7,
    ),
    "version 1": (
        "5:memory:/m\n3:cpuset:/\n2:cpu,cpuacct:/c\n0::/\n",
        {
            "cpu/c/cpu.cfs_quota_us": "250000",
            "cpu/c/cpu.cfs_period_us": "100000",
            "cpu/cpu.cfs_quota_us": "-1",
            "cpu/cpu.cfs_period_us": "100000",
            "memory/memory.limit_in_bytes": "9000",
            "memory/m/memory.limit_in_bytes": "8000",
        },
        3,
        8000,
    ),
    "no limit": ("0::/\n", {"cpu.max": "max 100000", "memory.max": "max"}, None, None),
    "damage": ("0::/\n", {"cpu.max": "100 0", "memory.max": "many"}, None, None),
    "none": (None, {}, None, None),
}


@pytest.mark.parametrize("name", GROUPS)
def test_limits_of_control_groups(name, tmp_path, monkeypatch):
    own, files, cpus, memory = GROUPS[name]
    for path, text in files.items():
        (tmp_path / "groups" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "groups" / path).write_text(text + "\n", encoding="ascii")
    if own is not None:
        (tmp_path / "own").write_text(own, encoding="ascii")
    monkeypatch.setattr(_cgroup, "ROOT", tmp_path / "groups")
    monkeypatch.setattr(_cgroup, "OWN", tmp_path / "own")
    assert _cgroup.cpu_quota() == cpus
    assert _cgroup.memory_limit() == memory
    assert 1 <= _threads._available_cpus() <= (cpus or os.cpu_count())
    assert 0 < _memory.usable_memory() <= (memory or 1 << 60)


# Results


class Net(nn.Module):
    """All kinds of kernels, on arrays large enough for several threads."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 5, 2, padding=2)
        self.norm = nn.BatchNorm2d(16)
        self.same = nn.Conv2d(16, 16, 3, padding=1)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.grouped = nn.Conv2d(16, 32, 3, dilation=2, groups=8)
        self.dense = nn.Linear(32 * 5 * 4, 64)
        self.out = nn.Linear(64, 10)

    def forward(self, x):
        x = F.relu(self.norm(self.stem(x)))
        x = F.leaky_relu(self.same(x)) + x
        x = self.depthwise(x) * 0.5
        x = self.grouped(F.max_pool2d(x, 3, 2, padding=1))
        x = F.avg_pool2d(x, 2, 1) + F.lp_pool2d(abs(x) + 0.1, 2, 2, 1)
        x = F.adaptive_avg_pool2d(x, (5, 4)) + F.adaptive_max_pool2d(x, (5, 4))
        return self.out(F.relu(self.dense(x.flatten(1))))


def training_step(seed=0, dtype=np.float32):
    """Bytes of the loss, all gradients, all new weights and statistics of one step."""
    rng = np.random.default_rng(seed)
    net = Net()
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.1, generator=rng)
    net = net.astype(dtype)
    x = Tensor(rng.standard_normal((6, 3, 48, 44)).astype(dtype), requires_grad=True)
    optimizer = optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    loss = F.cross_entropy(net(x), rng.integers(0, 10, 6))
    loss.backward()
    optimizer.step()
    arrays = [loss.data, x.grad, *(p.grad for p in net.parameters()), *net.state_dict().values()]
    assert all(np.isfinite(array).all() for array in arrays)
    return [array.tobytes() for array in arrays]


@pytest.mark.parametrize("algorithm", ["auto", "gemm", "direct", "winograd"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_training_step_is_the_same_for_any_number_of_threads(algorithm, dtype, keep_threads):
    results = []
    for threads in (1, 2, 3, 7):
        fastconv.set_num_threads(threads)
        with fastconv.algorithm(algorithm):
            results.append(training_step(dtype=dtype))
    for result in results[1:]:
        assert result == results[0]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("algorithm", ["auto", "gemm"])
def test_concurrent_calls_give_the_serial_results(algorithm, threads, keep_threads):
    fastconv.set_num_threads(threads)
    with fastconv.algorithm(algorithm):
        serial = [training_step(seed) for seed in range(8)]
    start = threading.Barrier(8)

    def work(seed):
        start.wait(60)
        with fastconv.algorithm(algorithm):
            return [training_step(seed) for _ in range(2)]

    with ThreadPoolExecutor(8) as pool:
        for results, expected in zip(pool.map(work, range(8)), serial, strict=True):
            assert results == [expected, expected]


@pytest.mark.parametrize("algorithm", ["auto", "gemm"])
def test_one_module_and_one_plan_for_many_threads(algorithm, keep_threads, rng):
    """From their first use on, when weights are brought into the form that kernels read."""
    fastconv.set_num_threads(2)
    nets = [Net().eval() for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    batches = [rng.standard_normal((n % 3 + 1, 3, 48, 44)).astype(np.float32) for n in range(8)]
    with fastconv.algorithm(algorithm):
        plans = [fastconv.compile(net, batches[0]) for net in nets]
        serial = [(nets[0](x).data, plans[0](x)) for x in batches]
    start = threading.Barrier(8)

    def work(number):
        start.wait(60)
        with fastconv.algorithm(algorithm):
            return [(nets[1](x).data, plans[1](x)) for x in batches[number:] + batches[:number]]

    with ThreadPoolExecutor(8) as pool:
        for number, results in enumerate(pool.map(work, range(8))):
            for found, expected in zip(results, serial[number:] + serial[:number], strict=True):
                assert_array_equal(found[0], expected[0])
                assert_array_equal(found[1], expected[1])


def test_concurrent_threads_may_change_the_number_of_threads(keep_threads):
    fastconv.set_num_threads(1)
    serial = training_step()
    stop = threading.Event()

    def change():
        while not stop.is_set():
            for n in (1, 2, 3):
                fastconv.set_num_threads(n)

    changer = threading.Thread(target=change)
    changer.start()
    try:
        for _ in range(3):
            assert training_step() == serial
    finally:
        stop.set()
        changer.join()


# BLAS


def blas_threads():
    """Thread counts of the BLAS libraries of this process."""
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return [_threads.single_threaded_blas.controls_found()[1]()]
    return [info["num_threads"] for info in threadpool_info() if info["user_api"] == "blas"]


@pytest.fixture
def scipy_blas(keep_threads):
    """The getter of SciPy's BLAS, set to three threads, in a process that uses two."""
    setter, getter = _threads.single_threaded_blas.controls_found()
    if setter is None:
        pytest.skip("the threads of this BLAS cannot be controlled")
    before = getter()
    setter(3)
    fastconv.set_num_threads(2)
    yield getter
    setter(before)


@pytest.fixture(params=["auto", "gemm"])
def algorithm(request):
    with fastconv.algorithm(request.param):
        yield


def test_threads_of_blas_are_restored_after_calls(scipy_blas, algorithm):
    before = blas_threads()
    assert 3 in before
    training_step()
    assert blas_threads() == before
    fastconv.matmul(np.ones((200, 300)), np.ones((300, 100)))
    assert blas_threads() == before


def test_threads_of_blas_are_restored_after_exceptions(scipy_blas, algorithm, monkeypatch):
    before = blas_threads()
    with pytest.raises(ValueError, match="channels"):
        F.conv2d(np.ones((1, 3, 9, 9)), np.ones((4, 2, 3, 3)))
    assert blas_threads() == before

    def failing(*arguments):
        assert scipy_blas() == 1
        raise MemoryError("as it happens")

    monkeypatch.setattr("fastconv._matmul._blas", SimpleNamespace(matmul=failing))
    with pytest.raises(MemoryError, match="as it happens"):
        F.linear(np.ones((200, 300)), np.ones((100, 300)))
    assert blas_threads() == before


def test_blas_is_single_threaded_inside_and_contexts_nest(scipy_blas):
    context = _threads.single_threaded_blas
    with context:
        assert scipy_blas() == 1
        with context:
            assert scipy_blas() == 1
        assert scipy_blas() == 1
    assert scipy_blas() == 3
    with pytest.raises(ZeroDivisionError), context:
        raise ZeroDivisionError
    assert scipy_blas() == 3


def test_overlapping_contexts_of_threads_restore_blas_once(scipy_blas):
    # The first to enter leaves first: the count must stay 1 until the last has left.
    context = _threads.single_threaded_blas
    inside, leave, seen = threading.Event(), threading.Event(), []

    def other():
        with context:
            inside.set()
            leave.wait(60)
            seen.append(scipy_blas())

    with context:
        thread = threading.Thread(target=other)
        thread.start()
        assert inside.wait(60)
    assert scipy_blas() == 1
    leave.set()
    thread.join()
    assert seen == [1]
    assert scipy_blas() == 3


def test_threads_of_blas_are_restored_after_concurrent_calls(scipy_blas, algorithm):
    before = blas_threads()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(training_step, range(8)))
    assert blas_threads() == before


# Around calls


def test_float_environment_is_unchanged(tmp_path):
    # A library built with -ffast-math would flush subnormal numbers to zero, for all.
    script = """
import json
import numpy as np
import fastconv
import fastconv.functional as F
checks = [bool(np.finfo(dtype).smallest_subnormal > 0) for dtype in (np.float32, np.float64)]
tiny = np.full((2, 32, 50, 50), 1e-40, np.float32)
weight = np.eye(32, dtype=np.float32)[:, :, None, None]
for threads in (1, 3):
    fastconv.set_num_threads(threads)
    checks.append(bool((F.conv2d(tiny, weight) == tiny).all()))
    checks.append(bool((F.max_pool2d(tiny, 2) == tiny[:, :, ::2, ::2]).all()))
    checks.append(bool((F.relu(tiny) == tiny).all()))
    checks.append(bool(np.float32(1e-40) * np.float32(0.5) > 0))
print(json.dumps(checks))
"""
    checks = python(tmp_path, script, "-W", "error")
    assert checks == [True] * len(checks)


def test_errors_of_numpy_are_handled_as_before(keep_threads):
    before = np.geterr()
    for action in ("ignore", "raise"):
        with np.errstate(all=action):
            inside = np.geterr()
            training_step()
            assert np.geterr() == inside
    assert np.geterr() == before


def test_inputs_may_be_read_only_and_shared_between_threads(keep_threads, rng):
    fastconv.set_num_threads(2)
    x = rng.standard_normal((2, 16, 30, 30)).astype(np.float32)
    w = rng.standard_normal((8, 16, 3, 3)).astype(np.float32)
    x.flags.writeable = w.flags.writeable = False
    expected = F.conv2d(x, w)
    with ThreadPoolExecutor(4) as pool:
        for result in pool.map(lambda _: F.conv2d(x, w), range(12)):
            assert_array_equal(result, expected)


@pytest.mark.parametrize(
    ("n", "rule"), [(0, "least 1"), (-1, "least 1"), (4097, "most 4096"), (2**40, "most 4096")]
)
def test_numbers_of_threads_beyond_reason_are_refused(n, rule):
    before = fastconv.get_num_threads()
    with pytest.raises(ValueError, match=rf"^n must be at {rule}, got {n}$"):
        fastconv.set_num_threads(n)
    assert fastconv.get_num_threads() == before
