"""Forked processes and pools of them compute the same results, and never wait for ever."""

import pytest
from conftest import needs_fork, python

from fastconv.kernels import _build

needs_openmp = pytest.mark.skipif(not _build.OPENMP, reason="without OpenMP no region is parallel")
# Seconds after which a script hangs: each has work of some two seconds.
LIMIT = 60

WORK = """
import json, os, sys, warnings
import numpy as np
import fastconv
import fastconv.functional as F

rng = np.random.default_rng(0)
X = rng.standard_normal((4, 16, 40, 40)).astype(np.float32)
W = rng.standard_normal((16, 16, 3, 3)).astype(np.float32)

def compute(scale=1):
    w = fastconv.Tensor(W * np.float32(scale), requires_grad=True)
    y = F.max_pool2d(F.relu(F.batch_norm(F.conv2d(X, w), None, None, training=True)), 2)
    y.sum().backward()
    z = F.linear(y.data.reshape(4, -1), np.ones((30, y.size // 4), np.float32))
    return y.data.tobytes() + w.grad.tobytes() + z.tobytes()

def in_child(function):
    "What function returns in a forked child."
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writer, json.dumps(function()).encode())
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as file:
        text = file.read()
    assert os.waitpid(pid, 0)[1] == 0
    return json.loads(text)

def watched(expected):
    "Whether compute() gives what is expected, and the categories of its warnings."
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        same = [compute() == expected for _ in range(2)]
    return same, [(w.category.__name__, str(w.message)) for w in caught]
"""


@needs_fork
@needs_openmp
@pytest.mark.parametrize("algorithm", ["auto", "gemm"])
def test_fork_after_a_parallel_region(algorithm, tmp_path):
    script = (
        WORK
        + """
expected = compute()
child = in_child(lambda: watched(expected) + (fastconv.get_num_threads(),))
grandchild = in_child(lambda: in_child(lambda: watched(expected)))
print(json.dumps([child, grandchild, watched(expected), fastconv.get_num_threads()]))
"""
    )
    child, grandchild, parent, threads = python(
        tmp_path, script, FASTCONV_NUM_THREADS="2", FASTCONV_ALGORITHM=algorithm
    )
    same, warned, threads_of_child = child
    assert same == [True, True]
    assert threads_of_child == 1
    ((category, message),) = warned  # once
    assert category == "RuntimeWarning"
    assert "fork" in message
    assert grandchild[0] == [True, True]
    assert parent == [[True, True], []]
    assert threads == 2


@needs_fork
def test_fork_before_any_parallel_region_allows_all_threads(tmp_path):
    script = (
        WORK
        + """
fastconv.set_num_threads(1)
expected = compute()
def parallel():
    fastconv.set_num_threads(2)
    return watched(expected) + (fastconv.get_num_threads(),)
print(json.dumps([in_child(parallel), parallel()]))
"""
    )
    for same, warned, threads in python(tmp_path, script):
        assert same == [True, True]
        assert warned == []
        assert threads == 2


@needs_fork
def test_fork_while_another_thread_holds_blas(tmp_path):
    script = (
        WORK
        + """
import threading
from fastconv._threads import single_threaded_blas
setter, getter = single_threaded_blas.controls_found()
if setter is not None:
    setter(3)
    expected = compute()
    inside, leave = threading.Event(), threading.Event()
    def hold():
        with single_threaded_blas:
            inside.set()
            leave.wait(60)
    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait(60)
    def child():
        return [getter(), watched(expected)[0], getter()]
    child = in_child(child)
    leave.set()
    thread.join()
    print(json.dumps([child, getter()]))
else:
    print("null")
"""
    )
    result = python(tmp_path, script, FASTCONV_NUM_THREADS="2", FASTCONV_ALGORITHM="gemm")
    assert result in (None, [[3, [True, True], 3], 3])


@needs_fork
@needs_openmp
def test_plans_made_before_the_fork(tmp_path):
    """Their calls are bound to a number of threads, and a lock may have been held."""
    script = (
        WORK
        + """
import threading
from fastconv import nn
net = nn.Sequential(nn.Conv2d(16, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 5), nn.MaxPool2d(2))
plan = fastconv.compile(net, X)
expected = plan(X)
def child():
    same = [bool((plan(X) == expected).all())]
    fastconv.set_num_threads(2)
    same.append(bool((plan(X) == expected).all()))
    same.append(bool((plan(X[:3]) == expected[:3]).all()))
    return same, fastconv.get_num_threads()
thread = threading.Thread(target=plan._lock.acquire)  # as while it plans another shape
thread.start()
thread.join()
print(json.dumps(in_child(child)))
"""
    )
    found = python(
        tmp_path, script, limit=LIMIT, FASTCONV_NUM_THREADS="2", FASTCONV_ALGORITHM="direct"
    )
    assert found == [[True, True, True], 1]


@needs_fork
@needs_openmp
def test_fork_of_a_process_whose_other_library_has_used_the_same_openmp(tmp_path):
    script = (
        WORK
        + """
import ctypes
names = {line.split()[-1] for line in open("/proc/self/maps") if "libgomp" in line}
fastconv.set_num_threads(1)
expected = compute()
fastconv.set_num_threads(2)
if names:
    region = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda data: None)
    ctypes.CDLL(min(names)).GOMP_parallel(region, None, 2, 0)
    print(json.dumps(in_child(lambda: watched(expected) + (fastconv.get_num_threads(),))))
else:
    print("null")
"""
    )
    found = python(tmp_path, script, limit=LIMIT)
    if found is None:
        pytest.skip("GNU OpenMP is not what is used")
    same, ((category, message),), threads = found
    assert same == [True, True]
    assert category == "RuntimeWarning"
    assert "set_num_threads" in message
    assert threads == 1


@needs_fork
@needs_openmp
@pytest.mark.parametrize("algorithm", ["auto", "gemm"])
def test_fork_while_other_threads_compute(algorithm, tmp_path):
    script = (
        WORK
        + """
import threading
warnings.simplefilter("ignore")
from fastconv import nn
plan = fastconv.compile(nn.Conv2d(16, 16, 3), X)
def both(scale=1):
    return compute(scale) + plan(X).tobytes()
expected = both()
stop = threading.Event()
def work():
    while not stop.is_set():
        assert both() == expected
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads:
    thread.start()
found = [in_child(lambda: both() == expected) for _ in range(12)]
stop.set()
for thread in threads:
    thread.join()
print(json.dumps(found + [both() == expected]))
"""
    )
    found = python(
        tmp_path, script, limit=LIMIT, FASTCONV_NUM_THREADS="2", FASTCONV_ALGORITHM=algorithm
    )
    assert found == [True] * 13


@needs_fork
@needs_openmp
def test_a_warning_that_is_an_error_is_raised_once(tmp_path):
    script = (
        WORK
        + """
expected = compute()
def child():
    warnings.simplefilter("error")
    try:
        compute()
    except RuntimeWarning as warning:
        return [str(warning), compute() == expected]
print(json.dumps(in_child(child)))
"""
    )
    message, same = python(tmp_path, script, limit=LIMIT, FASTCONV_NUM_THREADS="2")
    assert "fork" in message
    assert same


POOLS = """
import hashlib
from concurrent.futures import ProcessPoolExecutor
warnings.simplefilter("ignore")
def digest(scale):
    return hashlib.sha256(compute(scale)).hexdigest()
if __name__ == "__main__":
    import multiprocessing
    scales = [1, 2, 3, 4]
    expected = [digest(scale) for scale in scales]
    found = []
"""


@needs_openmp
@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_pools_of_processes(method, tmp_path):
    script = (
        WORK
        + POOLS
        + f"""
    if {method!r} in multiprocessing.get_all_start_methods():
        context = multiprocessing.get_context({method!r})
        if {method!r} != "forkserver":  # a pool is enough, and starting it takes long
            with context.Pool(2) as pool:
                found.append(pool.map(digest, scales, chunksize=1) == expected)
        if {method!r} != "spawn":
            with ProcessPoolExecutor(2, context) as pool:
                found.append(list(pool.map(digest, scales)) == expected)
        found.append(digest(1) == expected[0])
    print(json.dumps(found))
"""
    )
    found = python(tmp_path, script, limit=LIMIT, FASTCONV_NUM_THREADS="2")
    if not found:
        pytest.skip(f"this system has no {method}")
    assert all(found)


@needs_openmp
def test_workers_of_joblib(tmp_path):
    pytest.importorskip("joblib")
    script = (
        WORK
        + POOLS
        + """
    from joblib import Parallel, delayed
    for backend in ("threading", "loky", *("multiprocessing",) * hasattr(os, "fork")):
        results = Parallel(2, backend=backend)(delayed(digest)(scale) for scale in scales)
        found.append(results == expected)
    print(json.dumps(found))
"""
    )
    found = python(tmp_path, script, limit=LIMIT, FASTCONV_NUM_THREADS="2")
    assert found
    assert all(found)
