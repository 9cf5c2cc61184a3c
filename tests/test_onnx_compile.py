"""Plans of networks from ONNX files, against ONNX Runtime, for sizes that the file leaves open."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import fastconv

onnx = pytest.importorskip("onnx", reason="models are written with the package onnx")
ort = pytest.importorskip("onnxruntime", reason="results are compared with ONNX Runtime")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

import fastconv.onnx  # noqa: E402


def network():
    """A convolutional one whose head and second output follow the image's size."""
    rng = np.random.default_rng(0)

    def floats(*shape):
        return rng.normal(size=shape).astype(np.float32)

    constants = {
        "w": floats(8, 3, 3, 3), "scale": floats(8), "shift": floats(8), "mean": floats(8),
        "var": floats(8) ** 2 + 0.5, "up": floats(8, 4, 2, 2), "dense": floats(8, 5),
        "bias": floats(5), "zero": np.float32(0), "six": np.float32(6), "half": np.float32(0.5),
        "i0": np.int64(0), "ends": np.array([2, 3]), "first": np.array([0]),
        "rest": np.array([-1]), "two": np.array([2]), "places": np.array([2, 3]),
        "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
    }  # fmt: skip
    nodes = [
        ("Pad", ["x", "pads"], ["padded"], {}),
        ("Conv", ["padded", "w"], ["a"], {}),
        ("BatchNormalization", ["a", "scale", "shift", "mean", "var"], ["b"], {}),
        ("Clip", ["b", "zero", "six"], ["c"], {}),
        ("Sigmoid", ["c"], ["d"], {}),
        ("Mul", ["c", "d"], ["e"], {}),
        ("ConvTranspose", ["e", "up"], ["f"], {"strides": [2, 2]}),
        ("Shape", ["x"], ["sizes"], {}),
        ("Gather", ["sizes", "places"], ["wanted"], {}),
        ("Shape", ["f"], ["now"], {}),
        ("Slice", ["now", "first", "two"], ["kept"], {}),
        ("Concat", ["kept", "wanted"], ["target"], {"axis": 0}),
        ("Resize", ["f", "", "", "target"], ["g"], {"mode": "linear"}),
        ("ArgMax", ["g"], ["classes"], {"axis": 1, "keepdims": 0}),
        ("ReduceMean", ["e", "ends"], ["h"], {"keepdims": 1}),
        ("Gather", ["sizes", "i0"], ["n"], {}),
        ("Unsqueeze", ["n", "first"], ["n1"], {}),
        ("Concat", ["n1", "rest"], ["rows"], {"axis": 0}),
        ("Reshape", ["h", "rows"], ["i"], {}),
        ("Gemm", ["i", "dense", "bias"], ["j"], {}),
        ("Softmax", ["j"], ["y"], {"axis": 1}),
        ("Greater", ["y", "half"], ["sure"], {}),
    ]
    outputs = {"y": TensorProto.FLOAT, "g": TensorProto.FLOAT, "classes": TensorProto.INT64,
               "sure": TensorProto.BOOL, "sizes": TensorProto.INT64}  # fmt: skip
    graph = helper.make_graph(
        [helper.make_node(op, ins, outs, **options) for op, ins, outs, options in nodes],
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs.items()],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


@pytest.mark.parametrize("saved", [False, True])
def test_sizes_that_the_graph_computes(saved, tmp_path):
    data = network().SerializeToString()
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(data, options)
    rng = np.random.default_rng(1)
    plan = fastconv.compile(fastconv.onnx.load(data), np.ones((1, 3, 9, 10), np.float32))
    assert [row.operator for row in plan.profile(repeat=1).rows] == [
        "conv + relu6", "silu", "conv_transpose", "resample", "arg", "adaptive_avg_pool", "linear",
        "softmax", "greater",
    ]  # fmt: skip
    if saved:
        plan.save(tmp_path / "plan.npz")
        plan = fastconv.load_plan(tmp_path / "plan.npz")
    for shape in [(1, 3, 9, 10), (3, 3, 12, 7), (2, 3, 16, 16)]:
        x = rng.normal(size=shape).astype(np.float32)
        for result, truth in zip(plan(x), session.run(None, {"x": x}), strict=True):
            assert result.dtype == truth.dtype
            if truth.dtype == np.float32:
                assert_allclose(result, truth, rtol=0, atol=2e-5 * np.abs(truth).max())
            else:
                assert_array_equal(result, truth)
