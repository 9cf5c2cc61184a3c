"""Where the address space ends, calls raise MemoryError, and work when there is room again."""

import sys

import pytest
from conftest import python

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits as on Linux")

LIMITED = """
import contextlib, json, resource
import numpy as np
import fastconv
import fastconv.functional as F
from fastconv import Tensor, nn, optim

def size():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()

@contextlib.contextmanager
def room(extra):
    "No more address space than there is and `extra` bytes."
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size() + extra, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))

rng = np.random.default_rng(0)
"""

CALLS = """
fastconv.set_cache_limit(0)  # all memory is fresh
fastconv.set_num_threads(2)
x = rng.standard_normal((2, 16, 200, 200)).astype(np.float32)
one, pair = x[:, :1], x.reshape(2, 1, 16, 200, 200)
w = rng.standard_normal((16, 16, 3, 3)).astype(np.float32)
matrix = x.reshape(-1, 200)
net = nn.Sequential(nn.Conv2d(16, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2))

def backward(function, *arrays):
    tensors = [Tensor(a, requires_grad=True) for a in arrays]
    function(*tensors).sum().backward()
    return tensors[0].grad

def train():
    net.train()
    before = {name: array.copy() for name, array in net.state_dict().items()}
    try:
        net.zero_grad()
        (net(x) ** 2).mean().backward()
        return net[0].weight.grad.copy()
    finally:
        net.load_state_dict(before)

def plan():
    return fastconv.compile(net, x)(x)

bound = fastconv.compile(net, x)
calls = {
    **{name: (lambda name=name: F.conv2d(x, w, padding=1, algorithm=name))
       for name in ("direct", "winograd", "gemm")},
    **{name + " backward": (
        lambda name=name: backward(lambda x, w: F.conv2d(x, w, padding=1, algorithm=name), x, w))
       for name in ("direct", "winograd", "gemm")},
    "planes": lambda: F.conv2d(one, w[:1, :1]),
    "depthwise": lambda: backward(lambda x, w: F.conv2d(x, w, groups=16), x, w[:, :1]),
    "transposed": lambda: F.conv_transpose2d(x, w, stride=2),
    "volumes": lambda: F.conv3d(pair, w[:, None, None, 0, :1, :]. reshape(16, 1, 1, 1, 3)),
    "linear": lambda: F.linear(matrix, w.reshape(-1, 144)[:, :1].repeat(200, 1)),
    "matmul": lambda: fastconv.matmul(matrix, matrix[:200].T),  # larger than what malloc has left
    "max_pool": lambda: backward(lambda x: F.max_pool2d(x, 3, 1), x),
    "avg_pool": lambda: backward(lambda x: F.avg_pool2d(x, 3, 1), x),
    "batch_norm": lambda: backward(lambda x: F.batch_norm(x, None, None, training=True), x),
    "group_norm": lambda: backward(lambda x: F.group_norm(x, 4), x),
    "interpolate": lambda: backward(lambda x: F.interpolate(x, scale_factor=2, mode="bicubic"), x),
    "unfold": lambda: F.unfold(x, 3),
    "pad": lambda: F.pad(x, (3, 3, 3, 3), mode="reflect"),
    "gelu": lambda: backward(F.gelu, x),
    "softmax": lambda: backward(lambda x: F.softmax(x, 1), x),
    "sum": lambda: backward(lambda x: (x * x + x.exp()).mean(), x),
    "train": train,
    "compile": plan,
    "plan": lambda: bound(x),
}
expected = {name: np.array(call()) for name, call in calls.items()}
failed, done, wrong = {}, {}, []
for extra in (0, *(1 << 20 << step for step in range(7)), 7 << 20, 13 << 20, 22 << 20, 300 << 20):
    for name, call in calls.items():
        try:
            with room(extra):
                found = call()
        except MemoryError:
            failed[name] = failed.get(name, 0) + 1
        else:
            done[name] = done.get(name, 0) + 1
            if not np.array_equal(found, expected[name]):
                wrong.append(name)
        found = None
again = [name for name, call in calls.items() if not np.array_equal(call(), expected[name])]
print(json.dumps([sorted(calls), sorted(failed), sorted(done), wrong, again]))
"""


def test_calls_without_room_raise_and_work_again(tmp_path):
    # What is freed goes back to the system, so that the limit is one.
    malloc = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    calls, failed, done, wrong, again = python(tmp_path, LIMITED + CALLS, **malloc)
    assert failed == calls
    assert done == calls
    assert wrong == []
    assert again == []


FIRST = """
x = rng.standard_normal((2, 16, 100, 100)).astype(np.float32)
w = rng.standard_normal((16, 16, 3, 3)).astype(np.float32)
fastconv.set_num_threads(1)
expected = F.conv2d(x, w)
net = nn.Conv2d(16, 16, 3)
plan = fastconv.compile(net, x)
planned = plan(x)
fastconv.set_num_threads(8)
with room(24 << 20):  # not for the stacks of seven threads
    results = [F.conv2d(x, w), plan(x)]
results += [F.conv2d(x, w), plan(x)]
print(json.dumps([bool((a == b).all()) for a, b in zip(results, [expected, planned] * 2)]))
"""


def test_one_thread_computes_where_there_is_no_room_for_more(tmp_path):
    """GNU OpenMP ends a process that cannot have the threads it wants."""
    assert python(tmp_path, LIMITED + FIRST) == [True] * 4
