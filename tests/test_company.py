"""In one process with other libraries that have threads of their own."""

import importlib.util
import itertools
import os

import pytest
from conftest import python

OTHERS = ("torch", "sklearn.cluster", "onnxruntime")
HERE = [name for name in OTHERS if importlib.util.find_spec(name.split(".")[0])]

SCRIPT = """
import json, sys, threading, warnings
import importlib
modules = {{name: importlib.import_module(name) for name in {order}}}
import numpy as np
import fastconv
import fastconv.functional as F
from fastconv import nn
from fastconv._threads import single_threaded_blas

rng = np.random.default_rng(0)
X = rng.standard_normal((4, 16, 40, 40)).astype(np.float32)
W = rng.standard_normal((24, 16, 3, 3)).astype(np.float32)
POINTS = rng.standard_normal((600, 40))
A = rng.standard_normal((300, 300))
fastconv.manual_seed(0)
plan = fastconv.compile(nn.Sequential(nn.Conv2d(16, 16, 3), nn.ReLU(), nn.Conv2d(16, 8, 5)), X)

def ours():
    found = []
    for algorithm in ("auto", "gemm"):
        w = fastconv.Tensor(W, requires_grad=True)
        y = F.conv2d(X, w, algorithm=algorithm)
        y = F.max_pool2d(F.batch_norm(y, None, None, training=True), 2)
        y.sum().backward()
        found += [y.data.tobytes(), w.grad.tobytes()]
    return [*found, plan(X).tobytes(), fastconv.matmul(A, A).tobytes()]

def torchs():
    torch = modules["torch"]
    x, w = torch.tensor(X), torch.tensor(W, requires_grad=True)
    y = torch.nn.functional.conv2d(x, w)
    y.sum().backward()
    return [y.detach().numpy().tobytes(), torch.get_num_threads()]

def sklearns():
    found = modules["sklearn.cluster"].KMeans(5, n_init=2, random_state=0).fit(POINTS)
    return found.cluster_centers_.tobytes()

def onnxruntimes():
    return session.run(None, {{session.get_inputs()[0].name: X}})[0].tobytes()

def numpys():
    return [(A @ A).tobytes(), np.linalg.svd(A)[1].tobytes()]

if "onnxruntime" in modules and {has_onnx}:
    fastconv.onnx.save(nn.Sequential(nn.Conv2d(16, 16, 3), nn.ReLU()), "net.onnx", X)
    load = modules["onnxruntime"].InferenceSession
    session = load("net.onnx", providers=["CPUExecutionProvider"])
else:
    modules.pop("onnxruntime", None)

def threads():
    found = [fastconv.get_num_threads()]
    setter, getter = single_threaded_blas.controls_found()
    if getter is not None:
        found.append(getter())
    if "threadpoolctl" in sys.modules or {has_control}:
        from threadpoolctl import threadpool_info
        found += sorted((pool["filepath"], pool["num_threads"]) for pool in threadpool_info())
    if "torch" in modules:
        found.append(modules["torch"].get_num_threads())
    return found

others = [numpys]
if "torch" in modules:
    others.append(torchs)
if "sklearn.cluster" in modules:
    others.append(sklearns)
if "onnxruntime" in modules:
    others.append(onnxruntimes)

first = [other() for other in others]
ours()
before = threads()
expected = ours()
wrong = []
for turn, other in enumerate(others * 2):  # in alternation
    if other() != first[turn % len(others)]:
        wrong.append(other.__name__)
    if ours() != expected:
        wrong.append("fastconv after " + other.__name__)

def repeat(function, expected):  # at once
    for _ in range(3):
        if function() != expected:
            wrong.append(function.__name__ + " beside others")
calls = [(ours, expected), (ours, expected)]
for other, result in zip(others, first):
    if other.__name__ != "sklearns":  # which sets every BLAS's number of threads meanwhile
        calls.append((other, result))
running = [threading.Thread(target=repeat, args=call) for call in calls]
for thread in running:
    thread.start()
for thread in running:
    thread.join()
import hashlib
digest = hashlib.sha256(b"".join(expected)).hexdigest()
print(json.dumps([digest, wrong, before == threads(), fastconv.get_num_threads()]))
"""


def orders():
    """Each library first once and last once; all orders where FASTCONV_COMPANY is set."""
    names = ["fastconv", *HERE]
    if os.environ.get("FASTCONV_COMPANY"):
        return list(itertools.permutations(names))
    return [tuple(names[i:] + names[:i]) for i in range(len(names))]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What fastconv computes without company."""
    return run(tmp_path_factory.mktemp("alone"), ())[0]


def run(folder, order):
    script = SCRIPT.format(
        order=order,
        has_onnx=importlib.util.find_spec("onnx") is not None,
        has_control=importlib.util.find_spec("threadpoolctl") is not None,
    )
    return python(folder, script, limit=120, FASTCONV_NUM_THREADS="2")


@pytest.mark.skipif(not HERE, reason=f"none of {', '.join(OTHERS)} is installed")
@pytest.mark.parametrize("order", orders(), ids=",".join)
def test_results_and_numbers_of_threads_stay(order, alone, tmp_path):
    digest, wrong, same_threads, threads = run(tmp_path, order)
    assert wrong == []
    assert same_threads
    assert threads == 2
    assert digest == alone
