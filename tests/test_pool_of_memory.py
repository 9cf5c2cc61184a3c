"""Memory that is used again: never while anyone holds it, and no more of it than allowed."""

import gc
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import fastconv
import fastconv.functional as F
from fastconv import _memory
from fastconv._memory import empty

SHAPE = (4, 32, 33, 65)  # 1.1 MB of float32


def address(array):
    return array.__array_interface__["data"][0]


@pytest.fixture(autouse=True)
def pool(monkeypatch):
    """A pool of the test's own."""
    monkeypatch.setattr(_memory, "_pool", _memory._Pool(1 << 28))


def test_memory_comes_back():
    array = empty(SHAPE, np.float32)
    place = address(array)
    assert (array.shape, array.dtype, array.flags.c_contiguous) == (SHAPE, np.float32, True)
    assert array.flags.writeable
    assert place % 64 == 0
    del array
    assert address(empty(SHAPE, np.float32)) == place
    assert address(empty(SHAPE[::-1], np.float32)) == place  # of the same size


@pytest.mark.parametrize(
    "view",
    [
        lambda a: a[1:, ::2],
        lambda a: a.transpose(0, 3, 1, 2)[:, 1],
        lambda a: a.view(np.uint8)[..., :1],
        memoryview,
        lambda a: fastconv.Tensor(a).detach(),
        lambda a: np.lib.stride_tricks.sliding_window_view(a, 3, -1),
        lambda a: a.ctypes,
    ],
)
def test_a_view_holds_it(view):
    array = empty(SHAPE, np.float32)
    array.fill(7)
    place, held = address(array), view(array)
    del array
    others = [empty(SHAPE, np.float32) for _ in range(3)]
    assert place not in map(address, others)
    for other in others:
        other.fill(1)
    if isinstance(held, np.ndarray) and held.dtype == np.float32:
        assert (held == 7).all()
    del held
    gc.collect()
    assert address(empty(SHAPE, np.float32)) == place


def test_results_are_kept_apart():
    """What a user holds does not change while operators run again and again."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 16, 40, 41)).astype(np.float32)
    w = rng.standard_normal((24, 16, 3, 3)).astype(np.float32)
    kept = [F.relu(F.conv2d(x, w * scale)) for scale in range(1, 5)]
    copies = [array.copy() for array in kept]
    for _ in range(5):
        F.max_pool2d(F.relu(F.conv2d(x, -w)), 2)
    for array, copy in zip(kept, copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_gradients_are_kept_apart():
    rng = np.random.default_rng(0)
    w = fastconv.Tensor(rng.standard_normal((128, 128, 5, 5)).astype(np.float32), True)
    x = rng.standard_normal((2, 128, 16, 17)).astype(np.float32)
    found = []
    for scale in (1, 2):
        w.grad = None
        (F.conv2d(x * scale, w)).sum().backward()
        found.append((w.grad, w.grad.copy()))
    for grad, copy in found:
        np.testing.assert_array_equal(grad, copy)


def test_small_arrays_are_malloc_s():
    empty((10, 10), np.float32)
    assert fastconv.memory_stats()["allocated"] == 0


def test_stats():
    size = 4 << 20
    a = empty((size,), np.uint8)
    stats = fastconv.memory_stats()
    assert (stats["in_use"], stats["cached"], stats["allocated"], stats["reused"]) == (
        size,
        0,
        1,
        0,
    )
    b = empty((size,), np.uint8)
    del a
    stats = fastconv.memory_stats()
    assert (stats["in_use"], stats["cached"], stats["peak_in_use"]) == (size, size, 2 * size)
    del b
    fastconv.empty_cache()
    stats = fastconv.memory_stats()
    assert (stats["in_use"], stats["cached"]) == (0, 0)
    empty((size,), np.uint8)
    assert fastconv.memory_stats()["allocated"] == 3


def test_bounded():
    """The size that was not used for longest goes first."""
    fastconv.set_cache_limit(10 << 20)
    arrays = [empty((size << 20,), np.uint8) for size in (4, 3, 2, 4, 20)]
    places = [address(array) for array in arrays]
    while arrays:
        del arrays[0]
        assert fastconv.memory_stats()["cached"] <= 10 << 20
    assert fastconv.memory_stats()["cached"] == 10 << 20  # 2 and twice 4
    held = [empty((size << 20,), np.uint8) for size in (4, 4, 2)]
    assert [address(array) for array in held] == [places[3], places[0], places[2]]
    del held
    fastconv.set_cache_limit(4 << 20)
    assert fastconv.memory_stats()["cached"] == 4 << 20


def test_nothing_is_kept_with_a_limit_of_zero():
    fastconv.set_cache_limit(0)
    array = empty((1 << 20,), np.uint8)
    del array
    stats = fastconv.memory_stats()
    assert (stats["in_use"], stats["cached"], stats["allocated"]) == (0, 0, 0)


@pytest.mark.parametrize(("size", "larger"), [(1 << 20, 9 << 17), (1000000, 1200000)])
def test_a_somewhat_larger_block_will_do(size, larger):
    place = address(empty((larger,), np.uint8))
    assert address(empty((size,), np.uint8)) == place
    assert address(empty((2 * larger,), np.uint8)) != place


def test_size_classes():
    for size in [*range(1 << 18, (1 << 18) + 70000, 997), (1 << 33) + 1, 12345678901]:
        rounded = _memory._round_up(size)
        assert size <= rounded <= size * 1.125 + 4096
        assert _memory._round_up(rounded) == rounded


@pytest.mark.parametrize("bad", [-1, 1.5, None, "1"])
def test_bad_limit(bad):
    with pytest.raises((TypeError, ValueError), match="nbytes"):
        fastconv.set_cache_limit(bad)
    assert fastconv.memory_stats()["limit"] == 1 << 28


def test_memory_that_is_kept_goes_before_memory_runs_out(monkeypatch):
    array = empty((1 << 20,), np.uint8)
    del array
    tries = []

    def scarce(*arguments):
        tries.append(fastconv._memory._pool.cached)
        if len(tries) == 1:
            raise MemoryError
        return np.zeros(*arguments)

    monkeypatch.setattr(_memory.np, "empty", scarce)
    assert empty((3 << 20,), np.uint8).size == 3 << 20
    assert tries == [1 << 20, 0]


def test_several_threads():
    """Arrays of different threads never share memory, whoever drops them."""
    wrong, held = [], []

    def work(number):
        for turn in range(200):
            array = empty((1 << 18,), np.uint8)
            array.fill(number)
            held.append(array)
            if turn % 3:
                other = held.pop(0)
                if not (other == other[0]).all():
                    wrong.append(number)
            if not (array == number).all():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    held.clear()
    assert fastconv.memory_stats()["in_use"] == 0


def test_an_interruption_in_a_finaliser_is_raised_after_it(monkeypatch):
    """Python drops what finalisers raise, and with it a Ctrl-C during a long kernel."""
    array = empty(SHAPE, np.float32)

    def interrupted(pool):
        monkeypatch.undo()
        raise KeyboardInterrupt

    def drop():
        nonlocal array
        monkeypatch.setattr(_memory._Pool, "collect", interrupted)
        array = None
        for _ in range(1000):  # where Python looks for what is pending
            pass

    pool = _memory._pool
    with pytest.raises(KeyboardInterrupt):
        drop()
    assert pool.stats()["in_use"] == 0


def test_arrays_in_cycles_come_back():
    array = empty(SHAPE, np.float32)
    ring = [array]
    ring.append(ring)
    del array, ring
    gc.collect()
    assert fastconv.memory_stats()["in_use"] == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_goes_on():
    script = """
import os, numpy as np
from fastconv import _memory
array = _memory.empty((1 << 20,), np.uint8)
_memory._pool.lock.acquire()  # as another thread might
pid = os.fork()
if not pid:
    del array
    assert _memory.empty((1 << 20,), np.uint8).size == 1 << 20
    os._exit(0)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    options = ["-P", "-W", "ignore::DeprecationWarning"]
    subprocess.run([sys.executable, *options, "-c", script], check=True, timeout=60)


def test_a_process_ends_with_arrays_alive():
    script = """
import numpy as np, fastconv
from fastconv import _memory
held = [_memory.empty((1 << 20,), np.uint8) for _ in range(3)]
held.append(held)
class Late:
    array = _memory.empty((1 << 20,), np.uint8)
    def __del__(self):
        del Late.array
late = Late()
"""
    found = subprocess.run(
        [sys.executable, "-P", "-c", script], check=True, timeout=60, capture_output=True, text=True
    )
    assert (found.stdout, found.stderr) == ("", "")
