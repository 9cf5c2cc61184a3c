"""Files that were changed at random are modules or errors, never more."""

import os
import re
from collections import Counter

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="models are made with the package onnx")
from onnx import helper  # noqa: E402
from onnx_models import FORMS, INT64, X, make, network  # noqa: E402

from fastconv.onnx import OnnxError, load  # noqa: E402

# Operators that others may become.
OPERATORS = [
    "Add",
    "AveragePool",
    "BatchNormalization",
    "Concat",
    "Conv",
    "ConvTranspose",
    "CumSum",
    "DepthToSpace",
    "Einsum",
    "Expand",
    "Flatten",
    "Gather",
    "GatherElements",
    "GatherND",
    "Gemm",
    "LRN",
    "LpPool",
    "MatMul",
    "MaxPool",
    "OneHot",
    "Pad",
    "Pow",
    "Range",
    "ReduceProd",
    "Reshape",
    "Resize",
    "ScatterND",
    "Shape",
    "Slice",
    "Softmax",
    "SpaceToDepth",
    "Split",
    "Squeeze",
    "Tile",
    "TopK",
    "Transpose",
    "Trilu",
    "Unsqueeze",
    "Where",
]


def mutated(data, rng):
    """The bytes cut short, changed here and there, or moved; or a model with other fields."""
    if rng.random() < 0.6:
        return distorted(data, rng)
    data = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(len(data)))
        match int(rng.integers(6)):
            case 0:
                del data[at : at + 4 if rng.random() < 0.7 else None]
            case 1:
                data[at] = int(rng.integers(256))
            case 2 | 3:
                data[at] ^= 1 << int(rng.integers(8))
            case 4:  # large numbers where lengths and sizes are
                data[at : at + 1] = b"\xff" * int(rng.integers(1, 10)) + b"\x7f"
            case 5:
                other = int(rng.integers(len(data)))
                data[at : at + 8] = data[other : other + 8]
        if not data:
            break
    return bytes(data)


NUMBERS = [0, 1, -1, 2, 3, 7, 100, 1 << 20, 1 << 31, -(1 << 31), 1 << 40, (1 << 63) - 1, -(1 << 63)]


def distorted(data, rng):
    """A model whose operators, attributes, edges, tensors or opset are others."""
    model = onnx.ModelProto.FromString(data)
    graph = model.graph

    def one(items):
        return items[rng.integers(len(items))]

    for _ in range(rng.integers(1, 4)):
        made, number = one(graph.node), one(NUMBERS)
        names = [n for each in graph.node for n in (*each.input, *each.output)]
        match int(rng.integers(9)):
            case 0:
                made.op_type = one([*OPERATORS])
            case 1 if made.attribute:
                attribute = one(made.attribute)
                attribute.i, attribute.f = number, float(number)
                if attribute.ints:
                    attribute.ints[rng.integers(len(attribute.ints))] = number
            case 2 if made.attribute:
                one(made.attribute).name = one(["axis", "axes", "mode", "pads", "strides", "to"])
            case 3 if made.input:
                made.input[rng.integers(len(made.input))] = one(names)
            case 4:
                made.output[0] = one(names)
            case 5 if graph.initializer:
                tensor = one(graph.initializer)
                tensor.data_type = int(rng.integers(25)) if rng.random() < 0.3 else tensor.data_type
                if tensor.dims and rng.random() < 0.5:
                    tensor.dims[0] = number
                if tensor.data_type == INT64 and len(tensor.raw_data) >= 8:
                    tensor.raw_data = np.int64(number).tobytes() + tensor.raw_data[8:]
            case 6:
                model.opset_import[0].version = int(rng.integers(30))
            case 7:
                made.attribute.append(helper.make_attribute(one(["axis", "k", "group"]), number))
            case 8:
                made.input.append(one(names))
    return model.SerializeToString()


def small_models(rng):
    yield network(rng), (np.zeros((1, 3, 4, 4), np.float32),)
    for opset, made, constants, _ in FORMS.values():
        yield make([made], {"x": [2, "c", 4]}, ("y",), constants, opset), (X,)


def test_mutated_files_are_modules_or_errors(rng):
    """FASTCONV_FUZZ sets how many."""
    models = list(small_models(rng))
    outcomes = Counter()
    for i in range(int(os.environ.get("FASTCONV_FUZZ", 500))):
        data, inputs = models[i % len(models)]
        outcomes[outcome(mutated(data, rng), inputs)] += 1
    assert len(outcomes) == 4, outcomes


def outcome(data, inputs):
    try:
        model = load(data, max_bytes=1 << 20)
    except OnnxError:
        return "refused"
    try:
        model(*inputs)
    except OnnxError:
        return "failed at a node"
    except (TypeError, ValueError) as error:  # inputs that are not the model's
        return "other inputs" if re.search("must have|takes .* inputs", str(error)) else error
    return "ran"
