"""``fastconv bench``: its tables, its chart and its files, and the results that it times."""

import dataclasses
import importlib.util
import json
import math
import os
import platform
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import traced, vectors

import fastconv
from fastconv import _correlate, nn
from fastconv._activation import NONE
from fastconv._algorithm import ALGORITHMS
from fastconv.bench import (
    accuracy,
    algorithms,
    c,
    command,
    harness,
    linalg,
    loops,
    nets,
    networks,
    processes,
    recipes,
    report,
    rivals,
    steps,
)
from fastconv.bench.layers import LAYERS
from fastconv.kernels import _build, direct

BENCH = ("-m", "fastconv", "bench")
SCRIPT = Path(__file__).parents[1] / "benchmarks" / "conv.py"
LAYER = "MobileNetV2 3x3 384 @14 depthwise batch 1"
NOTHING = "\N{EN DASH}"
TORCH = importlib.util.find_spec("torch") is not None
# The command line where nothing is installed but what fastconv needs.
WITHOUT_RIVALS = """
import sys
from importlib.machinery import PathFinder

find = PathFinder.find_spec
absent = ("torch", "matplotlib", "onnx", "onnxruntime", "openvino")
PathFinder.find_spec = lambda name, *rest: None if name in absent else find(name, *rest)
from fastconv.cli import main
sys.exit(main(sys.argv[1:]))
"""


def run(folder, *arguments, **environment):
    """Run Python in `folder`."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=folder,
        env=os.environ | {"PYTHONUTF8": "1"} | environment,
        capture_output=True,
        encoding="utf-8",
        timeout=600,
        check=False,
    )


def tables(text):
    """Every Markdown table of the text, as a list of {title: cell}."""
    found = []
    for block in text.split("\n\n"):
        if block.startswith("|"):
            titles, _, *rows = (
                [cell.strip() for cell in line.split("|")[1:-1]] for line in block.splitlines()
            )
            found.append([dict(zip(titles, row, strict=True)) for row in rows])
    return found


def measured(folder):
    """The file that --json wrote, and {(pass, layer): {contender: its only sample in ms}}."""
    content = json.loads((folder / "samples.json").read_text(encoding="utf-8"))
    found = {}
    for record in content["records"]:
        for samples in record["seconds"].values():
            assert len(samples) == 1
        times = {name: 1e3 * samples[0] for name, samples in record["seconds"].items()}
        found[record["pass"], record["layer"]] = times
    return content, found


def near(value, absolute=0.01):
    """A printed figure: two digits of a ratio from 10 on, more otherwise."""
    return pytest.approx(value, rel=0.05, abs=absolute)


def torch_best(times):
    return min(times["torch NCHW"], times["torch ch. last"])


# Convolution layers


def test_quick_run(tmp_path):
    pytest.importorskip("matplotlib")
    options = ("--quick", "--rounds", "1", "--layers", LAYER, "--json", "samples.json")
    done = run(tmp_path, *BENCH, "conv", *options)
    assert done.returncode == 0, done.stderr
    samples, times = measured(tmp_path)

    forward, both = tables(done.stdout)
    assert list(times) == [("forward", LAYER), ("forward + backward", LAYER)]
    three = ((forward, both), times.values(), (1, 3))
    for (row, mean, lowest), ms, passes in zip(*three, strict=True):
        assert row["layer"] == LAYER
        assert mean["layer"] == "geometric mean of 1"
        assert lowest["layer"] == "lowest of 1"
        # 384 channels of 14 x 14 places and 9 taps, a multiplication and an addition each
        gflop = passes * 2 * 384 * 14 * 14 * 9 / 1e9
        assert row["GFLOP"] == f"{gflop:.3f}"
        assert float(row["error"]) < 1e-4
        speed = gflop / ms["fastconv"] * 1e3
        assert float(row["GFLOP/s"]) == near(speed)
        assert float(row["of peak"].rstrip("%")) == near(1e11 * speed / samples["peak"], absolute=1)
        assert {"fastconv", "NumPy", "NumPy tuned"} <= set(ms)
        for name, time in ms.items():
            assert float(row[f"{name} ms"]) == near(time, absolute=0.001)
        ratios = {"vs NumPy": ms["NumPy"], "vs tuned": ms["NumPy tuned"]}
        if TORCH:
            ratios["vs torch"] = torch_best(ms)
            assert float(row["torch error"]) < 1e-4
        for title, other in ratios.items():
            assert float(row[title]) == near(other / ms["fastconv"])
            assert mean[title] == lowest[title] == row[title]
    ms = times["forward", LAYER]
    assert "prepared" in ms
    if TORCH:
        assert float(forward[0]["prepared vs torch"]) == near(torch_best(ms) / ms["prepared"])

    head = (tmp_path / "conv-benchmark.png").read_bytes()[:24]
    assert head.startswith(b"\x89PNG\r\n\x1a\n")
    assert min(struct.unpack(">II", head[16:])) > 200

    for record, results in zip(samples["records"], (1, 4), strict=True):
        for errors in record["errors"].values():
            assert len(errors) == results
            assert max(errors.values()) < 1e-4


def test_one_thread_with_malloc_as_it_is_without_pytorch_and_matplotlib(tmp_path):
    options = ("--quick", "--rounds", "1", "--layers", LAYER, "--no-backward")
    threads = ("--threads", "1", "--default-malloc")
    done = run(tmp_path, "-c", WITHOUT_RIVALS, "bench", "conv", *options, *threads)
    assert done.returncode == 0, done.stderr
    (forward,) = tables(done.stdout)
    assert [row["layer"] for row in forward] == [LAYER, "geometric mean of 1", "lowest of 1"]
    assert forward[0]["vs torch"] == forward[0]["torch error"] == NOTHING
    assert forward[1]["vs torch"] == forward[2]["vs torch"] == NOTHING
    assert "torch NCHW ms" not in forward[0]
    assert list(tmp_path.iterdir()) == []

    lines = done.stdout.splitlines()
    assert "- PyTorch is not installed" in lines
    assert "- threads of every contender: 1" in lines
    assert any(line.startswith("- threads 1 of ") for line in lines)
    assert any(
        re.match(r"- BLAS .*, (1 threads outside|threads not controllable)$", line)
        for line in lines
    )
    assert "with malloc as it is by default" in done.stdout


@pytest.mark.skipif(not SCRIPT.is_file(), reason="the folder benchmarks is not beside tests")
def test_the_script_hands_its_options_on(tmp_path):
    done = run(tmp_path, SCRIPT, "--rounds", "0")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "fastconv: rounds must be at least 1, got 0\n"


# Algorithms

# Layers that take every way, but smaller.
SIZES = {
    "ResNet 7x7 3->64": (23, 20),
    "ResNet 3x3 64->64": (13, 12),
    "ResNet-18 3x3 64->128": (9, 8),
    "ResNeXt-50": (7, 9),
    "ResNet-20 3x3 3->16": (32, 32),
    "LeNet 5x5 32->64": (8, 9),
    "MobileNetV2 3x3 96 @112 stride 2": (9, 7),
    "1-D 3 taps": (50,),
    "3-D": (5, 9, 8),
}
SMALLER = [
    dataclasses.replace(layer, batch=2, size=size)
    for start, size in SIZES.items()
    for layer in LAYERS
    if layer.name.startswith(start)
]


def test_there_is_a_layer_of_every_size():
    assert len(SMALLER) == len(SIZES)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("layer", SMALLER, ids=[layer.name for layer in SMALLER])
def test_ways_are_those_that_are_taken(layer, algorithm, monkeypatch):
    taken = []

    def noted(function, by):
        def call(plan, *arguments):
            taken.append(plan.algorithm + by)
            return function(plan, *arguments)

        return call

    for table, by in ((_correlate.WAYS, ""), (_correlate.WEIGHT_WAYS, " by weight")):
        for name, function in table.items():
            monkeypatch.setitem(table, name, noted(function, by))

    x, w, b, dy = layer.arrays()
    inputs = [fastconv.Tensor(array, requires_grad=True) for array in (x, w, b)]
    y = rivals.fastconv_call(layer, algorithm=algorithm)(*inputs)
    (forward,) = taken
    taken.clear()
    y.backward(dy)
    by_weight = [way for way in taken if way.endswith(" by weight")]
    by_input = "+".join(sorted({way for way in taken if way not in by_weight}))
    found = algorithms.ways(layer, algorithm)
    assert (forward, by_input, by_weight) == (*found[:2], [f"{found[2]} by weight"])


@vectors
def test_every_algorithm_is_a_way_somewhere():
    found = {way for layer in SMALLER for way in algorithms.ways(layer, "winograd")}
    assert found == {"direct", "winograd", "direct+winograd"}  # the last by phases of a stride
    assert any(len(set(algorithms.ways(layer, "winograd"))) > 1 for layer in SMALLER)
    assert {way for layer in SMALLER for way in algorithms.ways(layer, "direct")} == {"direct"}
    assert {way for layer in SMALLER for way in algorithms.ways(layer, "gemm")} == {"gemm"}


@vectors
def test_algorithms_side_by_side(tmp_path):
    dense = "ResNet-20 3x3 64->64 @8 batch 128"
    options = ("--quick", "--rounds", "1", "--layers", f"{LAYER}|{dense}", "--json", "samples.json")
    done = run(tmp_path, *BENCH, "algorithms", *options)
    assert done.returncode == 0, done.stderr
    samples, times = measured(tmp_path)
    assert {record["layer"]: record["groups"] for record in samples["records"]} == {
        dense: 1,
        LAYER: 384,
    }
    (layer,) = (layer for layer in LAYERS if layer.name == dense)
    took = algorithms.ways(layer, "auto")
    for record in samples["records"]:
        assert max(max(errors.values()) for errors in record["errors"].values()) < 1e-4
        if record["layer"] == dense:
            taken = took[
                : len(record["errors"]["auto"])
            ]  # of the output alone, or of gradients too
            assert record["took"].split(" / ") == list(taken if len(set(taken)) > 1 else taken[:1])

    passes = ("forward", "forward + backward")
    for name, found in zip(passes, tables(done.stdout), strict=True):
        first, second, mean, highest, *of_dense = found
        assert second["auto took"] == "direct"
        assert second["winograd ms"] == NOTHING  # depthwise: it would be direct once more
        losses = []
        for row, layer in ((first, dense), (second, LAYER)):
            ms = times[name, layer]
            assert row["layer"] == layer
            assert ("winograd" in ms) == (layer == dense)
            fixed = [ms[name] for name in ("gemm", "direct", "winograd") if name in ms]
            losses.append(ms["auto"] / min(fixed))
            assert float(row["auto / fastest"]) == near(losses[-1])
            if TORCH:
                assert float(row["gemm vs torch"]) == near(torch_best(ms) / ms["gemm"])
        assert (mean["layer"], highest["layer"]) == ("geometric mean of 2", "highest of 2")
        assert float(mean["auto / fastest"]) == near(math.prod(losses) ** 0.5)
        assert float(highest["auto / fastest"]) == near(max(losses))
        assert len(of_dense) == TORCH
        for row in of_dense:
            assert row["layer"] == "geometric mean of 1 dense"
            assert row["gemm vs torch"] == first["gemm vs torch"]


# Loops


def test_loops_beside_a_copy(tmp_path):
    options = ("--quick", "--rounds", "1", "--layers", ".", "--batch", "2")
    done = run(tmp_path, *BENCH, "loops", *options, "--json", "samples.json")
    assert done.returncode == 0, done.stderr
    assert "- input: float32, 2 x 64 x 32 x 32, 0.5 MB" in done.stdout.splitlines()
    samples, times = measured(tmp_path)
    gigabytes = samples["bandwidth"] / 1e9
    forward, both = tables(done.stdout)
    names = [loop.name for loop in loops.LAYERS]
    trained = [loop.name for loop in loops.LAYERS if loop.backward is not None]
    assert set(names) - set(trained) == {"batch norm, evaluation"}
    for name, found, expected in (
        ("forward", forward, names),
        ("forward + backward", both, trained),
    ):
        *rows, mean, lowest = found
        assert [row["layer"] for row in rows] == expected
        speeds = []
        for row, loop in zip(rows, expected, strict=True):
            ms = times[name, loop]
            speed = float(row["MB"]) / ms["fastconv"]
            speeds.append(speed)
            assert float(row["GB/s"]) == near(speed)
            assert float(row["of copy"].rstrip("%")) == near(100 * speed / gigabytes, absolute=1)
            if TORCH:
                assert float(row["vs torch"]) == near(torch_best(ms) / ms["fastconv"])
        assert mean["layer"] == f"geometric mean of {len(expected)}"
        assert lowest["layer"] == f"lowest of {len(expected)}"
        assert float(mean["GB/s"]) == near(math.prod(speeds) ** (1 / len(speeds)))
        if TORCH:
            assert float(lowest["vs torch"]) == min(float(row["vs torch"]) for row in rows)

    for record in samples["records"]:
        training = record["pass"] == "forward + backward"
        results = (4 if "batch norm" in record["layer"] else 2) if training else 1
        assert len(record["errors"]) == (3 if TORCH else 1)
        for errors in record["errors"].values():
            assert len(errors) == results
            assert max(errors.values()) < 1e-4


def test_operators_and_stencils(tmp_path):
    done = run(tmp_path, *BENCH, "linalg", "--quick", "--rounds", "1", "--json", "samples.json")
    assert done.returncode == 0, done.stderr
    samples, times = measured(tmp_path)
    found = dict(zip(("A x", "A x and its adjoint", "10 steps"), tables(done.stdout), strict=True))
    rivals_of = {"10 steps": ("NumPy",)}
    for name, (*rows, mean, lowest) in found.items():
        others = rivals_of.get(name, ("fftconvolve", "sparse"))
        for row in rows:
            ms = times[name, row["layer"]]
            assert set(ms) == {"fastconv", *others}
            for other in others:
                assert float(row[f"vs {other}"]) == near(ms[other] / ms["fastconv"])
        assert mean["layer"] == f"geometric mean of {len(rows)}"
        assert lowest["layer"] == f"lowest of {len(rows)}"
    assert [row["layer"] for row in found["10 steps"][:-2]] == ["heat, 5 points @256"]
    for record in samples["records"]:
        for errors in record["errors"].values():
            assert len(errors) == (2 if "adjoint" in record["pass"] else 1)
            assert max(errors.values()) < 1e-5


def test_bytes_that_must_move():
    # Of two images of 64 x 32 x 32 values of four bytes, each tensor once in each pass, but
    # twice what a mean is taken of before it is used.
    x = 2 * 64 * 32 * 32 * 4
    normalized = {"batch norm, training": (3 * x, 8 * x), "batch norm, evaluation": (2 * x, 2 * x)}
    found = {loop.name: loop.bytes(2) for loop in loops.LAYERS}
    assert found == normalized | {
        "max pool 2x2 stride 2": (x + x // 4, 2 * (x + x // 4)),
        "max pool 3x3 stride 2 padding 1": (x + x // 4, 2 * (x + x // 4)),
        "average pool 2x2 stride 2": (x + x // 4, 2 * (x + x // 4)),
        "average pool to 1x1": (x + 2 * 64 * 4, 2 * (x + 2 * 64 * 4)),
    }


def test_of_equal_maxima_the_first_has_the_gradient():
    x = np.array([[[[1.0, 3.0, 0.0], [3.0, 3.0, 0.0], [-1.0, -2.0, -3.0]]]])
    y, dx = loops.max_pool(2, 1, 0, x, np.array([[[[1.0, 10.0], [100.0, 1000.0]]]]))
    assert y.tolist() == [[[[3, 3], [3, 3]]]]
    assert dx.tolist() == [[[[0, 11, 0], [100, 1000, 0], [0, 0, 0]]]]
    y, dx = loops.max_pool(3, 2, 1, -1 - x, np.full((1, 1, 2, 2), 5.0))
    assert y.tolist() == [[[[-2, -1], [1, 2]]]]
    assert dx.tolist() == [[[[5, 0, 5], [0, 0, 0], [0, 5, 5]]]]


@pytest.mark.parametrize(
    "layers",
    [LAYERS, loops.LAYERS, linalg.LAYERS, nets.LAYERS, c.LAYERS],
    ids=["convolution", "loops", "linalg", "nets", "c"],
)
def test_quick_layers_are_some_of_all(layers):
    quick = command._choose(layers, None, quick=True)
    assert 0 < len(quick) < len(command._choose(layers, None, quick=False)) == len(layers)
    assert command._choose(layers, re.escape(layers[1].name.upper()), quick=True) == [layers[1]]


# Networks

RUNTIMES = [
    name
    for name, package in nets.RUNTIMES.items()
    if TORCH and None not in map(importlib.util.find_spec, ("onnx", package))
]


def test_networks_beside_what_is_installed(tmp_path):
    chosen = ["LeNet batch 128, training", "LeNet batch 1, inference"]
    options = ("--quick", "--rounds", "1", "--layers", "|".join(chosen), "--json", "samples.json")
    done = run(tmp_path, *BENCH, "nets", *options)
    assert done.returncode == 0, done.stderr
    assert any(line.startswith("- OpenVINO ") for line in done.stdout.splitlines())
    samples, times = measured(tmp_path)
    contenders = {"fastconv", "torch NCHW", "torch ch. last"} if TORCH else {"fastconv"}
    kinds = (
        ("training", contenders, {"loss", "gradients"}),
        ("inference", contenders | set(RUNTIMES), {"output"}),
    )
    three = (samples["records"], chosen, kinds, tables(done.stdout))
    for record, name, (kind, names, results), (row, mean, lowest) in zip(*three, strict=True):
        assert (record["pass"], record["layer"]) == (kind, name)
        assert set(record["seconds"]) == set(record["errors"]) == names
        for errors in record["errors"].values():
            assert set(errors) == (results if TORCH else set())
            assert max(errors.values(), default=0) < 1e-4

        assert row["network"] == name
        assert mean["network"] == "geometric mean of 1"
        assert lowest["network"] == "lowest of 1"
        ms = times[kind, name]
        for contender, time in ms.items():
            assert float(row[f"{contender} ms"]) == near(time, absolute=0.001)
        ratios = {"vs torch": torch_best(ms)} if TORCH else {}
        if kind == "inference" and RUNTIMES:
            ratios["vs runtimes"] = min(ms[contender] for contender in RUNTIMES)
        assert ("vs runtimes" in row) == ("vs runtimes" in ratios)
        for title, other in ratios.items():
            assert float(row[title]) == near(other / ms["fastconv"])
            assert mean[title] == lowest[title] == row[title]
        for title in ("error", "torch error", *(f"{name} error" for name in RUNTIMES)):
            if title in row:
                assert (float(row[title]) < 1e-4) if TORCH else (row[title] == NOTHING)


def test_pytorch_has_two_formats_but_one_for_signals():
    torch = pytest.importorskip("torch")
    signals, images = (
        {column: net for column, net, _ in nets.torch_formats(network, model, network.inputs(2))}
        for network, model in ((n, n.model()) for n in map(networks.NETWORKS.get, ("1-D", "LeNet")))
    )
    assert list(signals) == ["torch NCHW"]
    assert list(images) == ["torch NCHW", "torch ch. last"]
    for column, net in images.items():
        last = column == "torch ch. last"
        weight = net[3].weight
        assert weight.is_contiguous(memory_format=torch.channels_last) == last
        assert weight.is_contiguous() == (not last)


def test_networks_without_any_other_library(tmp_path):
    options = ("--quick", "--rounds", "1", "--layers", "LeNet", "--no-backward")
    done = run(tmp_path, "-c", WITHOUT_RIVALS, "bench", "nets", *options)
    assert done.returncode == 0, done.stderr
    (rows,) = tables(done.stdout)
    names = [f"LeNet batch {batch}, inference" for batch in (1, 128)]
    assert [row["network"] for row in rows[:2]] == names
    assert set(rows[0]) == {"network", "fastconv ms", "vs torch", "error", "torch error"}
    assert rows[0]["vs torch"] == rows[0]["error"] == rows[2]["vs torch"] == NOTHING
    assert "- ONNX Runtime is not installed" in done.stdout.splitlines()


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_networks_in_c_beside_their_plans(tmp_path):
    options = ("--quick", "--rounds", "1", "--threads", "1", "--json", "samples.json")
    done = run(tmp_path, *BENCH, "c", *options)
    assert done.returncode == 0, done.stderr
    samples, times = measured(tmp_path)
    (record,), ((row, mean, lowest),) = samples["records"], tables(done.stdout)
    assert (record["layer"], record["pass"]) == ("LeNet batch 1", "inference")
    assert {"plan", "C alone"} <= set(record["seconds"]) <= set(c.COLUMNS)
    for name, ms in times["inference", "LeNet batch 1"].items():
        assert float(row[f"{name} ms"]) == near(ms, absolute=0.001)
        assert record["errors"][name]["output"] < 1e-5
    for name in set(record["seconds"]) - {"plan"}:
        title = f"{name} vs plan"
        assert row[title] == mean[title] == lowest[title]


def test_files_are_loaded_beside_what_is_installed(tmp_path):
    pytest.importorskip("onnx", reason="models are read with the package onnx")
    import fastconv.onnx

    for name, side in (("a.onnx", 8), ("b.onnx", 16)):
        net = fastconv.models.lenet(1, 10)
        fastconv.onnx.save(net, tmp_path / name, np.zeros((1, 1, side, side), np.float32))
    options = ("--quick", "--rounds", "1", "--json", "samples.json")
    done = run(tmp_path, *BENCH, "load", "a.onnx", "b.onnx", *options)
    assert done.returncode == 0, done.stderr
    _, times = measured(tmp_path)
    ((*rows, mean, lowest),) = tables(done.stdout)
    assert [row["model"] for row in rows] == ["a.onnx", "b.onnx"]
    for row in rows:
        ms = times["loading", row["model"]]
        assert float(row["MB"]) == near((tmp_path / row["model"]).stat().st_size / 1e6)
        assert float(row["fastconv ms"]) == near(ms["fastconv"], absolute=0.001)
        runtime = importlib.util.find_spec("onnxruntime") is not None
        assert set(ms) == ({"fastconv", "ONNX Runtime"} if runtime else {"fastconv"})
        if runtime:
            assert float(row["vs ONNX Runtime"]) == near(ms["ONNX Runtime"] / ms["fastconv"])
    assert mean["model"] == "geometric mean of 2"
    assert lowest["model"] == "lowest of 2"


def test_imports_are_beside_what_they_need(tmp_path):
    done = run(tmp_path, *BENCH, "imports", "--quick", "--rounds", "1", "--json", "samples.json")
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "samples.json").read_text(encoding="utf-8"))
    times = {record["layer"]: record["seconds"] for record in content["records"]}
    (rows,) = tables(done.stdout)
    assert [row["statement"] for row in rows] == [f"`{name}`" for name in times]
    assert ("import torch" in times) == TORCH
    needed, *_ = times.values()
    for row, seconds in zip(rows, times.values(), strict=True):
        for name in ("time", "work"):
            assert float(row[f"{name} ms"]) == near(1e3 * seconds[name][0])
            assert float(row[f"{name} to needed"]) == near(seconds[name][0] / needed[name][0])
    assert {"`import fastconv`", "`from fastconv import *`"} <= {row["statement"] for row in rows}


# Of the networks as published, or counted by hand.
PARAMETERS = {
    "LeNet": 832 + 51_264 + 401_536 + 1_290,
    "ResNet-20": 272_474,
    "ResNet-18 CIFAR": 11_173_962,
    "1-D": 144 + 96 + 12 * (3 * 48 * 48 + 96) + 490,
    "ResNet-18": 11_689_512,
    "ResNet-50": 25_557_032,
    "MobileNetV2": 3_504_872,
    "VGG-16": 138_357_544,
}


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_networks_are_the_published_ones(name):
    network = networks.NETWORKS[name]
    if network.shape[-1] == 224 and name != "VGG-16":  # whose dense layers want 224 x 224
        network = dataclasses.replace(network, shape=(3, 64, 64))
    model, x = network.model().eval(), network.inputs(2)
    assert sum(parameter.size for parameter in model.parameters()) == PARAMETERS[name]
    with fastconv.no_grad():
        y = model(x).data
    assert y.shape == (2, network.classes)
    assert 0.1 < y.std() < 10  # of order 1, so that errors mean something

    torch = pytest.importorskip("torch")
    state = model.state_dict()
    other = networks.torch_network(network, torch, state).eval()
    assert list(state) == list(other.state_dict())
    assert [a for a, _ in model.named_parameters()] == [a for a, _ in other.named_parameters()]
    with torch.inference_mode():
        expected = other.double()(torch.from_numpy(x).double()).numpy()
    assert np.abs(y - expected).max() < 1e-4 * np.abs(expected).max()


def test_statistics_of_networks_are_not_those_of_new_layers():
    norms = [m for m in networks.NETWORKS["ResNet-20"].model().modules() if hasattr(m, "eps")]
    assert len(norms) == 19 + 2  # of the convolutions and of the projections
    for norm in norms:
        assert norm.momentum == nn.BatchNorm2d(1).momentum
        for array, new in (
            (norm.running_mean, 0),
            (norm.running_var, 1),
            (norm.weight.data, 1),
            (norm.bias.data, 0),
        ):
            assert (array != new).all()


def test_steps_train_alike():
    torch = pytest.importorskip("torch")
    network = networks.NETWORKS["LeNet"]
    model, x, labels = network.model().double(), network.inputs(4).astype(float), network.labels(4)
    other = networks.torch_network(network, torch, model.state_dict()).double()
    other.load_state_dict({name: torch.tensor(a) for name, a in model.state_dict().items()})
    ours = steps.fastconv_step(model, x, labels)
    theirs = steps.torch_step(torch, other, torch.from_numpy(x), torch.from_numpy(labels))
    for _ in range(3):  # momentum and weight decay show from the second on
        loss, gradients = ours()
        expected, expected_gradients = theirs()
        np.testing.assert_allclose(loss, expected, rtol=1e-9)
        for gradient, truth in zip(gradients, expected_gradients, strict=True):
            np.testing.assert_allclose(gradient, truth, rtol=1e-7, atol=1e-9)
    for parameter, truth in zip(model.parameters(), other.parameters(), strict=True):
        np.testing.assert_allclose(parameter.data, truth.detach(), rtol=1e-8, atol=1e-10)


@pytest.mark.skipif(not processes.SUPPORTED, reason="no /proc/self/status")
@pytest.mark.parametrize("memory_format", [None, *nets.FORMATS.values()])
def test_peak_of_training_grows_with_the_batch(memory_format):
    if memory_format is not None:
        pytest.importorskip("torch")
    peaks = [
        processes.peak_of_training("LeNet", batch, 1, memory_format) for batch in (64, 64 + 512)
    ]
    # At least the output of the first layer is kept; a dozen tensors of its size are not.
    kept = 512 * 32 * 28 * 28 * 4
    assert kept < peaks[1] - peaks[0] < 12 * kept


@pytest.mark.skipif(not processes.SUPPORTED, reason="no /proc/self/status")
def test_inference_at_many_sizes_keeps_little_memory():
    earlier, later = processes.growth_of_inference("ResNet-20", 1, 1, settled=5, inferences=10)
    assert earlier > 10e6
    assert abs(later - earlier) < 50e6


def test_tables_of_memory():
    peaks = {"fastconv": 500e6, "torch NCHW": 900e6, "torch ch. last": 1000e6}
    ((row,),) = tables(nets.table([{"layer": "a net", "pass": nets.PEAK, "bytes": peaks}]))
    assert row == {
        "network": "a net",
        "fastconv MB": "500",
        "torch NCHW MB": "900",
        "torch ch. last MB": "1000",
        "vs torch": "1.80",
    }
    peaks = {"fastconv": 500e6}
    ((row,),) = tables(nets.table([{"layer": "a net", "pass": nets.PEAK, "bytes": peaks}]))
    assert row == {"network": "a net", "fastconv MB": "500", "vs torch": NOTHING}
    record = {"layer": "a net", "pass": nets.GROWTH, "bytes": [80e6, 81e6]}
    ((row,),) = tables(nets.table([record]))
    assert list(row.values()) == ["a net", "80.0", "81.0", "+1.25 %"]


# Accuracy


def idx(array):
    """An IDX file of unsigned bytes."""
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes([0, 0, 0x08, array.ndim]) + sizes + array.tobytes()


@pytest.fixture
def data_sets(tmp_path, rng):
    """A folder of the three data sets, noise in their formats: four batches to train by."""
    labels = np.arange(640, dtype=np.uint8) % 10
    images = rng.integers(256, size=(640, 28, 28), dtype=np.uint8)
    folder = tmp_path / "sets"
    for name in ("mnist", "sign_digits", "fsdd"):
        (folder / name).mkdir(parents=True)
    for prefix, part in (("train", slice(512)), ("t10k", slice(512, None))):
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            (folder / "mnist" / f"{prefix}-{kind}-ubyte").write_bytes(idx(array[part]))

    pixels = rng.integers(256, size=(320, 48, 48, 3), dtype=np.uint8)
    np.savez(folder / "sign_digits" / "sign_digits_48.npz", X=pixels, y=np.repeat(range(10), 32))

    length = rng.integers(1000, 1500, size=310)
    length[0], length[1] = 2, recipes.CLIP + 3
    np.savez(
        folder / "fsdd" / "fsdd.npz",
        audio=rng.integers(-999, 999, size=length.sum(), dtype=np.int16),
        length=length,
        label=np.resize(labels, 310),
        index=np.arange(310) % 50,
    )
    return folder


SETS = "MNIST", "sign digits", "spoken digits"


def test_accuracy_of_all_ways(data_sets, tmp_path):
    options = ("--quick", "--threads", "1", "--seeds", "2", "--json", "runs.json")
    done = run(tmp_path, *BENCH, "accuracy", data_sets, *options)
    assert done.returncode == 0, done.stderr
    records = json.loads((tmp_path / "runs.json").read_text(encoding="utf-8"))["records"]
    assert len(done.stderr.splitlines()) == len(records) == 3 * (4 + TORCH)
    (rows,) = tables(done.stdout)
    assert len(rows) == 3 * (2 + TORCH)
    for row in rows:
        name, way = row["data set, way"].split(", ")
        found = [record for record in records if (record["set"], record["way"]) == (name, way)]
        assert name in SETS
        assert [record["seed"] for record in found] == ([0, 1] if way in accuracy.WAYS else [0])
        shares = [100 * record["accuracy"] for record in found]
        for seed, share in enumerate(shares):
            assert float(row[f"seed {seed}"]) == pytest.approx(share, abs=0.006)
            assert f"{name}, {way}, seed {seed}: {share:.2f} %" in done.stderr
        if way in accuracy.WAYS:
            assert float(row["mean"]) == pytest.approx(sum(shares) / 2, abs=0.006)
            assert float(row["spread"]) == pytest.approx(abs(shares[0] - shares[1]), abs=0.006)
            other = [r for r in records if r["set"] == name and r["way"] not in accuracy.WAYS]
            ratios = [near(r["seconds"] / found[0]["seconds"]) for r in other]
            assert [float(row["vs torch"])] == ratios if TORCH else row["vs torch"] == NOTHING
        else:
            assert way.startswith("torch")
            assert row["seed 1"] == row["mean"] == row["spread"] == row["vs torch"] == NOTHING


def test_accuracy_without_any_other_library(data_sets, tmp_path):
    options = ("--quick", "--sets", "spoken")
    done = run(tmp_path, "-c", WITHOUT_RIVALS, "bench", "accuracy", data_sets, *options)
    assert done.returncode == 0, done.stderr
    (rows,) = tables(done.stdout)
    assert [row["data set, way"] for row in rows] == ["spoken digits, fast", "spoken digits, plain"]
    assert {row["vs torch"] for row in rows} == {NOTHING}


def test_accuracy_of_the_sets_that_are_there_and_match(data_sets):
    assert [recipe.name for recipe in accuracy.choose(data_sets, None)] == list(SETS)
    assert [recipe.name for recipe in accuracy.choose(data_sets, "DIGITS")] == list(SETS[1:])
    (data_sets / "sign_digits" / "sign_digits_48.npz").unlink()
    assert [recipe.name for recipe in accuracy.choose(data_sets, None)] == [SETS[0], SETS[2]]
    with pytest.raises(ValueError, match="data set, got 'sign'; there are: MNIST; spoken digits"):
        accuracy.choose(data_sets, "sign")
    with pytest.raises(ValueError, match=r"sets must be a regular expression, got '\('"):
        accuracy.choose(data_sets, "(")


def test_spoken_digits_are_cut_in_the_middle(data_sets):
    path = data_sets / "fsdd" / "fsdd.npz"
    (x, y), (other, labels) = recipes.read_speech(path)
    assert x.shape == (310 - 35, 1, recipes.CLIP)
    assert other.shape == (35, 1, recipes.CLIP)
    with np.load(path) as file:
        audio, length, label = (file[name] for name in ("audio", "length", "label"))
    assert labels[:6].tolist() == [0, 1, 2, 3, 4, 0]  # of recordings 0 to 4, and 50
    assert y[:2].tolist() == label[5:7].tolist()
    long = audio[2 : 2 + recipes.CLIP + 3].astype(float)[1:-2]
    np.testing.assert_allclose(other[1, 0], (long - long.mean()) / long.std(), atol=1e-4)
    clip = audio[length[:5].sum() :][: length[5]].astype(float)
    start = (recipes.CLIP - len(clip)) // 2
    expected = np.pad((clip - clip.mean()) / clip.std(), (start, recipes.CLIP - len(clip) - start))
    np.testing.assert_allclose(x[0, 0], expected, atol=1e-4)


def test_speech_that_does_not_fit_together_is_refused(tmp_path):
    path = tmp_path / "clips.npz"
    good = {
        "audio": np.zeros(5, np.int16),
        "length": np.array([2, 3]),
        "label": np.array([0, 1]),
        "index": np.array([0, 5]),
    }
    for name, value, message in (
        ("audio", np.zeros(6, np.int16), "length must add up to the 6 samples of audio, got 5"),
        ("label", np.zeros(3, int), r"must have an entry for each clip, .*\(2,\), \(3,\) and"),
        ("length", np.array([5, 0]), "of one sample at least"),
        ("index", None, r"must have the arrays .*, it has no \['index'\]"),
    ):
        arrays = {key: a for key, a in (good | {name: value}).items() if a is not None}
        np.savez(path, **arrays)
        with pytest.raises(ValueError, match=message):
            recipes.read_speech(path)


@pytest.mark.parametrize("name", SETS)
def test_plain_networks_take_gemm_and_fuse_nothing(name, data_sets, monkeypatch):
    recipe = next(recipe for recipe in recipes.RECIPES if recipe.name == name)
    data = accuracy.Data(recipe, data_sets, quick=True)
    taken, fused = set(), []

    def noted(function):
        def call(plan, *arguments):
            taken.add(plan.algorithm)
            return function(plan, *arguments)

        return call

    for table in (_correlate.WAYS, _correlate.WEIGHT_WAYS):
        for way, function in table.items():
            monkeypatch.setitem(table, way, noted(function))
    normalize = nn.norm.normalize

    def noted_normalize(*arguments):
        fused.append(arguments[-2] is not None or arguments[-1] != NONE)
        return normalize(*arguments)

    monkeypatch.setattr(nn.norm, "normalize", noted_normalize)
    found = {}
    for way in accuracy.WAYS:
        taken.clear()
        fused.clear()
        library, model = accuracy.fastconv_library(way), accuracy.new_model(recipe, way, 0)
        found[way] = accuracy.learn(library, model, recipe, data, 0)
        assert len(fused) >= 5 * 6  # of 4 steps and an evaluation
        assert any(fused) == (way == accuracy.FAST)
        if direct.SUPPORTED:
            assert ("gemm" in taken) == (way == accuracy.PLAIN)
        if way == accuracy.PLAIN:
            assert taken == {"gemm"}
    # Winograd's error is up to 2e-5 of the largest value; in four steps values near zero that
    # fall to the other side of ReLU carry it into the fifth digit of a loss.
    fast, plain = found.values()
    np.testing.assert_allclose(fast["losses"], plain["losses"], rtol=5e-4)


def test_plain_and_fast_networks_start_from_the_same_weights():
    for recipe in recipes.RECIPES:
        fast, plain = (accuracy.new_model(recipe, way, 1).state_dict() for way in accuracy.WAYS)
        assert list(fast) == list(plain)
        for name, array in fast.items():
            np.testing.assert_array_equal(array, plain[name])
        other = accuracy.new_model(recipe, accuracy.FAST, 2).state_dict()
        assert (other["0.weight"] != fast["0.weight"]).any()


def test_training_for_accuracy_is_that_of_pytorch(data_sets):
    pytest.importorskip("torch")
    recipe = recipes.RECIPES[1]
    data = accuracy.Data(recipe, data_sets, quick=True)
    batches = [(x[:8].astype(float), labels[:8]) for x, labels in data.batches(0)]
    model = accuracy.new_model(recipe, accuracy.FAST, 0).double()
    other = accuracy.torch_model(recipe, rivals.TORCH[1], model.state_dict()).double()
    ours = accuracy.trainer(accuracy.fastconv_library(accuracy.FAST), model, recipe, len(batches))
    theirs = accuracy.trainer(accuracy.torch_library(rivals.TORCH[1]), other, recipe, len(batches))
    for batch in batches:  # schedule, momentum and smoothing would show
        assert ours(*batch) == pytest.approx(theirs(*batch), rel=1e-6)
    for parameter, truth in zip(model.parameters(), other.parameters(), strict=True):
        np.testing.assert_allclose(parameter.data, truth.detach(), rtol=1e-5, atol=1e-6)
    x, labels = map(np.concatenate, zip(*batches, strict=True))
    expected = accuracy.accuracy(accuracy.torch_library(rivals.TORCH[0]), other, x, labels)
    library = accuracy.fastconv_library(accuracy.FAST)
    assert accuracy.accuracy(library, model, x, labels) == expected


# Memory


@pytest.mark.usefixtures("keep_threads")
def test_memory_is_what_is_allocated(tmp_path):
    threads = 3 if _build.OPENMP else 1
    done = run(tmp_path, *BENCH, "--memory", "--threads", threads)
    assert done.returncode == 0, done.stderr
    assert f"- threads: {threads}" in done.stdout.splitlines()
    (rows,) = tables(done.stdout)
    large = ["large image 3x3 64->64 @2048 batch 1"] * 3
    assert [row["layer"] for row in rows] == [layer.name for layer in LAYERS] + large
    if direct.SUPPORTED:
        assert [row["algorithm"] for row in rows[-3:]] == ["gemm", "direct", "winograd"]

    fastconv.set_num_threads(threads)
    layer, row = next(
        (layer, row)
        for layer, row in zip(LAYERS, rows, strict=False)
        if layer.name == "ResNet-20 3x3 16->32 @32 stride 2 batch 128"
    )
    x, w, b, dy = layer.arrays()
    x, w, dy = map(rivals.channels_last, (x, w, dy))
    call = rivals.fastconv_call(layer, algorithm="auto")
    y, peak = traced(lambda: call(x, w, b))
    peaks = {"forward MB": peak - y.nbytes}
    for title, which in (("by input MB", 0), ("by weight MB", 1)):
        inputs = [fastconv.Tensor(a, requires_grad=i == which) for i, a in enumerate((x, w, b))]
        result = call(*inputs)

        def backward(leaf=inputs[which], result=result):
            leaf.grad = None
            result.backward(dy, retain_graph=True)
            return leaf.grad

        gradient, peak = traced(backward)
        peaks[title] = peak - gradient.nbytes
    for title, bytes_ in peaks.items():
        assert float(row[title]) == pytest.approx(bytes_ / 1e6, rel=0.05, abs=0.005)


# The environment


@pytest.mark.parametrize("warm", [True, False])
def test_command_starts_again_where_the_environment_differs(warm, tmp_path):
    code = f"""
import json, os, sys
from fastconv.bench.command import enter_environment
print("started", flush=True)
enter_environment(3, {warm})
print(json.dumps([sys.argv[1:], sys.warnoptions, dict(os.environ)]))
"""
    flags = ("-W", "error::UserWarning", "-c", code, "an argument", "--an-option")
    done = run(tmp_path, *flags, MALLOC_TOP_PAD_="1", OMP_NUM_THREADS="2")
    assert done.returncode == 0, done.stderr
    *started, printed = done.stdout.splitlines()
    assert started == ["started"] * 2
    arguments, warnings, environment = json.loads(printed)
    assert arguments == ["an argument", "--an-option"]
    assert warnings == ["error::UserWarning"]
    assert environment["OMP_NUM_THREADS"] == environment["OPENBLAS_NUM_THREADS"] == "3"
    malloc = {name for name in environment if name.startswith("MALLOC_")}
    names = {"MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_"}
    assert malloc == (names if warm else set())
    assert environment.get("MALLOC_TOP_PAD_") != "1"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="settings of another malloc")
def test_large_results_fault_in_no_memory_when_malloc_is_warm(tmp_path):
    code = """
import resource
import numpy as np
from fastconv.bench.command import enter_environment
from fastconv.bench.timing import warm_heap
enter_environment(1, True)
warm_heap()
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.empty(300_000_000, np.uint8).fill(1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    done = run(tmp_path, "-c", code)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 100  # in pages of 2 MB at most, it would be 143 anew


def test_other_commands_load_no_benchmark(tmp_path):
    code = "import sys; from fastconv import cli; cli.main(['info']); print(*sys.modules)"
    done = run(tmp_path, "-c", code)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "fastconv.bench.command" in loaded
    for name in ("torch", "matplotlib", "scipy.signal", "fastconv.bench.harness"):
        assert name not in loaded
    done = run(tmp_path, "-c", "import sys, fastconv; print(*sys.modules)")
    assert "fastconv.bench" not in done.stdout.split()


# Bad options


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("conv", "--layers", "no such layer"),
            "layers must match the name or origin of a layer, got 'no such layer'; there are: "
            "ResNet 7x7 3->64",
        ),
        (("conv", "--rounds", "0"), "rounds must be at least 1, got 0"),
        (("conv", "--threads", "0"), "threads must be at least 1, got 0"),
        (("conv", "--threads", "5000"), "threads must be at most 4096, got 5000"),
        (("--threads", "0", "conv"), "threads must be at least 1, got 0"),
        (("--threads", "0", "--memory"), "threads must be at least 1, got 0"),
        (
            (),
            "bench takes either a benchmark (conv, algorithms, loops, linalg, nets, accuracy, "
            "load, imports, c) or ",
        ),
        (("--memory", "conv"), "bench takes either a benchmark (conv, algorithms, loops, linalg, "),
        (("loops", "--batch", "0"), "batch must be at least 1, got 0"),
        (("accuracy", ".", "--seeds", "0"), "seeds must be at least 1, got 0"),
        (
            ("accuracy", "."),
            "data must be a folder that holds any of mnist, sign_digits/sign_digits_48.npz, "
            "fsdd/fsdd.npz, got '.'",
        ),
        (("load", "absent.onnx"), "absent.onnx does not exist, or is not a file"),
        (("conv", "--json", "."), ". cannot be written: it is a folder"),
        (
            ("conv", "--json", "nowhere/samples.json"),
            "nowhere/samples.json cannot be written: there is no folder nowhere",
        ),
    ],
)
def test_bad_options_are_refused_before_measuring(tmp_path, arguments, message):
    refused(tmp_path, arguments, message)


def test_expressions_that_choose_no_layer_are_refused():
    with pytest.raises(ValueError, match=r"layers must be a regular expression, got '\('"):
        command._choose(LAYERS, "(", quick=False)
    with pytest.raises(ValueError, match="origin of a layer, got '3x4'; there are: max pool 2x2"):
        command._choose(loops.LAYERS, "3x4", quick=False)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nowhere/chart.png", "nowhere/chart.png cannot be written: there is no folder nowhere"),
        ("chart.text", "the suffix of --plot must be one of"),
    ],
)
def test_charts_that_cannot_be_drawn_are_refused_before_measuring(tmp_path, path, message):
    pytest.importorskip("matplotlib")
    refused(tmp_path, ("conv", "--plot", path), message)


def refused(folder, arguments, message):
    done = run(folder, *BENCH, *arguments)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"fastconv: {message}")
    assert done.stdout == ""
    assert list(folder.iterdir()) == []


# What is printed, and what is not


def test_a_list_of_results_is_measured_as_one():
    truth = np.array(2.0), [np.array([1.0, -4.0]), np.array([[1e-6]])]
    found = 2.0, [np.array([1.0, -4.0]), np.array([[3e-6]])]
    names = "loss", "gradients"
    errors = harness.largest_errors(found, truth, "a step", names)
    assert errors == {"loss": 0, "gradients": pytest.approx(2e-6 / 4)}
    for wrong in (1.0, math.nan):
        found[1][0][1] = -4 + wrong
        with pytest.raises(FloatingPointError, match="wrong gradients: a step"):
            harness.largest_errors(found, truth, "a step", names, 0.2)
    found[1][0][1] = -3.0
    assert harness.largest_errors(found, truth, "a step", names, 0.3)["gradients"] == 0.25


@pytest.mark.parametrize("wrong", [2.0, math.nan, math.inf])
def test_wrong_results_are_not_timed(wrong):
    truth = np.array([[1.0, -4.0]])
    errors = harness.largest_errors((truth + 1e-4, truth), (truth, truth), "a form")
    assert errors == {"output": pytest.approx(1e-4 / 4), "input gradient": 0}
    result = truth.copy()
    result[0, 1] = wrong
    with pytest.raises(FloatingPointError, match="wrong input gradient: a form"):
        harness.largest_errors((truth, result), (truth, truth), "a form")


def test_summaries_pass_over_what_is_missing():
    records = [
        {"layer": "a", "seconds": {"fastconv": [1.0, 9.0, 2.0]}, "groups": 1},
        {"layer": "b", "seconds": {"fastconv": [0.5], "NumPy": [4.0]}, "groups": 2},
        {"layer": "c", "seconds": {"fastconv": [0.5], "NumPy": [1.0]}, "groups": 1},
    ]

    def versus(record):
        return report.quotient(report.median(record, "NumPy"), report.median(record, "fastconv"))

    columns = [
        report.Column("layer", lambda record: record["layer"]),
        *report.times(records, ("fastconv", "NumPy", "SciPy")),
        report.Column("vs", versus, report.ratio),
    ]
    summaries = [
        report.mean("vs"),
        report.lowest("vs"),
        report.mean("vs", name="{} dense", of=lambda record: record["groups"] == 1),
        report.mean("vs", name="{} of none", of=lambda record: record["groups"] == 3),
    ]
    text = report.table(records, columns, summaries)
    assert [list(row.values()) for row in tables(text)[0]] == [
        ["a", "2000", NOTHING, NOTHING],
        ["b", "500", "4000", "8.00"],
        ["c", "500", "1000", "2.00"],
        ["geometric mean of 3", "", "", "4.00"],
        ["lowest of 3", "", "", "2.00"],
        ["2 dense", "", "", "2.00"],
        ["0 of none", "", "", NOTHING],
    ]
    assert len({len(line) for line in text.splitlines()}) == 1
