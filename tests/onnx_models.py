"""Small ONNX models for tests; imported where the package onnx is known to be there."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def info(name, shape, dtype=FLOAT):
    return helper.make_tensor_value_info(name, dtype, shape)


def make(nodes, inputs, outputs=("y",), initialisers=None, opset=17, **options):
    """The bytes of a model; `inputs` are {name: shape}, float32."""
    tensors = [numpy_helper.from_array(a, n) for n, a in (initialisers or {}).items()]
    graph = helper.make_graph(
        nodes,
        "graph",
        [info(n, s) if isinstance(s, (list, tuple)) else s for n, s in inputs.items()],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        tensors,
    )
    opsets = [helper.make_opsetid("", opset)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8, **options)
    return model.SerializeToString()


def node(op, inputs, outputs=("y",), **attributes):
    return helper.make_node(op, list(inputs), list(outputs), **attributes)


def ints(*values):
    return np.array(values, np.int64)


X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
COLUMN = ints(1, 2, 4)[:, None]
# (opset, node, further inputs) of forms that NumPy says the result of
FORMS = {
    "Slice-1": (9, node("Slice", "x", starts=[1], ends=[9], axes=[2]), {}, X[:, :, 1:]),
    "Slice-10": (
        10, node("Slice", "xabcd"), {"a": ints(-1), "b": ints(-99), "c": ints(2), "d": ints(-2)},
        X[:, :, ::-2],
    ),
    "Pad-2": (
        10, node("Pad", "x", pads=[0, 0, 1, 0, 0, 2], value=5.0), {},
        np.pad(X, [(0, 0), (0, 0), (1, 2)], constant_values=5),
    ),
    "Pad-11": (
        13, node("Pad", "xa", mode="reflect"), {"a": ints(0, 0, 1, 0, 0, 2)},
        np.pad(X, [(0, 0), (0, 0), (1, 2)], mode="reflect"),
    ),
    "Pad-18": (
        18, node("Pad", ["x", "a", "", "b"], mode="edge"), {"a": ints(1, 2), "b": ints(-1)},
        np.pad(X, [(0, 0), (0, 0), (1, 2)], mode="edge"),
    ),
    "Softmax-12": (
        12, node("Softmax", "x", axis=1), {},
        np.exp(X - 23) / np.exp(X - 23).sum((1, 2), keepdims=True),
    ),
    "Softmax-13": (
        13, node("Softmax", "x", axis=1), {}, np.exp(X - 23) / np.exp(X - 23).sum(1, keepdims=True)
    ),
    "Clip-6": (10, node("Clip", "x", min=3.0, max=9.0), {}, X.clip(3, 9)),
    "Clip-11": (
        11, node("Clip", ["x", "", "a"]), {"a": np.array(9, np.float32)}, np.minimum(X, 9)
    ),
    "ReduceSum-11": (12, node("ReduceSum", "x", axes=[1], keepdims=0), {}, X.sum(1)),
    "ReduceSum-13": (13, node("ReduceSum", "xa"), {"a": ints(1)}, X.sum(1, keepdims=True)),
    "ReduceSum-noop": (13, node("ReduceSum", "x", noop_with_empty_axes=1), {}, X),
    "ReduceMax-18": (18, node("ReduceMax", "xa", keepdims=0), {"a": ints(0, 2)}, X.max((0, 2))),
    "Unsqueeze-11": (12, node("Unsqueeze", "x", axes=[0, -1]), {}, X[None, ..., None]),
    "Unsqueeze-13": (13, node("Unsqueeze", "xa"), {"a": ints(1)}, X[:, None]),
    "Split-2": (12, node("Split", "x", ["y", "z"], axis=2, split=[1, 3]), {}, X[..., :1]),
    "Split-13": (13, node("Split", "xa", ["y", "z"], axis=2), {"a": ints(1, 3)}, X[..., :1]),
    "Split-18": (
        18, node("Split", "x", ["y", "z"], axis=1, num_outputs=2), {}, X[:, :2]
    ),
    "TopK-1": (9, node("TopK", "x", ["y", "i"], k=2), {}, X[..., :1:-1]),
    "TopK-11": (
        11, node("TopK", "xa", ["y", "i"], largest=0, axis=1), {"a": ints(2)}, X[:, :2]
    ),
    "Dropout-10": (10, node("Dropout", "x", ["y", "m"], ratio=0.9), {}, X),
    "Upsample-7": (7, node("Upsample", "x", scales=[1.0, 1.0, 2.0]), {}, X.repeat(2, 2)),
    "Upsample-9": (
        9, node("Upsample", "xa"), {"a": np.array([1, 2, 1], np.float32)}, X.repeat(2, 1)
    ),
    "Resize-10": (
        10, node("Resize", "xa"), {"a": np.array([1, 1, 2], np.float32)}, X.repeat(2, 2)
    ),
    "Cast": (9, node("Cast", "x", to=INT64), {}, X.astype(np.int64)),
    "Gemm-broadcast": (
        7, node("Gemm", "abc", alpha=2.0, transA=1),
        {"a": X[0], "b": X[1], "c": np.ones(4, np.float32)}, 2 * X[0].T @ X[1] + 1,
    ),
    "BatchNormalization-7": (
        7, node("BatchNormalization", "xabcd", epsilon=0.0),
        {k: np.array([1, 2, 4], np.float32) for k in "abcd"},
        (X - COLUMN) * np.sqrt(COLUMN) + COLUMN,
    ),
    "PRelu-7": (
        7, node("PRelu", "xa"), {"a": -np.ones((3, 1), np.float32)}, X
    ),
    "Flatten": (13, node("Flatten", "x", axis=-1), {}, X.reshape(6, 4)),
    "Expand": (13, node("Expand", "xa"), {"a": ints(5, 1, 1, 1)}, np.tile(X, (5, 1, 1, 1))),
    "Mod": (
        13, node("Mod", "ab"), {"a": ints(-7, 7), "b": ints(3, -3)}, ints(2, -2)
    ),
    "Div": (14, node("Div", "ab"), {"a": ints(-7, 7), "b": ints(2, -2)}, ints(-3, -3)),
}  # fmt: skip


def network(rng):
    """Conv, batch norm, ReLU, mean, dense: with sizes that the graph computes."""
    nodes = [
        node("Conv", ["image", "conv.weight"], ["a"], pads=[1, 1, 1, 1]),
        node("BatchNormalization", ["a", "bn/scale", "bn/b", "bn/mean", "bn/var"], ["b"]),
        node("Relu", ["b"], ["c"]),
        node("GlobalAveragePool", ["c"], ["d"]),
        node("Shape", ["image"], ["s"]),
        node("Gather", ["s", "zero"], ["n"]),
        node("Unsqueeze", ["n", "zero_axis"], ["n1"]),
        node("Concat", ["n1", "rest"], ["shape"], axis=0),
        node("Reshape", ["d", "shape"], ["e"]),
        node("Gemm", ["e", "fc.weight", "fc.bias"], ["score"], transB=1),
    ]
    floats = {
        "conv.weight": (4, 3, 3, 3), "bn/scale": (4,), "bn/b": (4,), "bn/mean": (4,),
        "bn/var": (4,), "fc.weight": (5, 4), "fc.bias": (5,),
    }  # fmt: skip
    initialisers = {n: rng.uniform(0.5, 1, s).astype(np.float32) for n, s in floats.items()}
    initialisers |= {"zero": np.array(0, np.int64), "zero_axis": ints(0), "rest": ints(-1)}
    return make(nodes, {"image": ["n", 3, "h", "w"]}, ("score", "e"), initialisers)
