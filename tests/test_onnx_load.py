"""Models read from ONNX: what each form of an operator means, what a module is, what is refused."""

import copy
import itertools
import subprocess
import sys

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import fastconv

onnx = pytest.importorskip("onnx", reason="models are made with the package onnx")
from onnx import TensorProto, helper  # noqa: E402
from onnx_models import FLOAT, FORMS, X, info, ints, make, network, node  # noqa: E402

from fastconv.onnx import OnnxError, load  # noqa: E402


def run(model, *inputs):
    result = load(model)(*inputs)
    return [y.data for y in result] if isinstance(result, tuple) else result.data


def reference(model, *inputs):
    """By ONNX Runtime, on one thread."""
    ort = pytest.importorskip("onnxruntime", reason="results are compared with ONNX Runtime")
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(model, options)
    names = [i.name for i in session.get_inputs()]
    results = session.run(None, dict(zip(names, inputs, strict=True)))
    return results if len(results) > 1 else results[0]


# What operators mean ------------------------------------------------------------------------------

PADS = [
    {"auto_pad": "SAME_UPPER"},
    {"auto_pad": "SAME_LOWER"},
    {"auto_pad": "VALID"},
    {"pads": [1, 0, 2, 1]},
]


@pytest.mark.parametrize("strides", [[1, 1], [3, 2]])
@pytest.mark.parametrize("pads", PADS, ids=str)
@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("Conv", {}),
        ("Conv", {"dilations": [2, 1]}),
        ("MaxPool", {"kernel_shape": [3, 2]}),
        ("MaxPool", {"kernel_shape": [3, 2], "ceil_mode": 1}),
        ("AveragePool", {"kernel_shape": [3, 2]}),
        ("AveragePool", {"kernel_shape": [3, 2], "count_include_pad": 1, "ceil_mode": 1}),
        ("LpPool", {"kernel_shape": [3, 2], "p": 3}),
    ],
    ids=str,
)
def test_padding_of_windows(op, attributes, pads, strides, rng):
    if {"ceil_mode", "dilations"} & set(attributes) and "auto_pad" in pads:
        pytest.skip("ONNX Runtime has no such windows")
    x = rng.standard_normal((2, 3, 8, 9)).astype(np.float32)
    weights = {"w": rng.standard_normal((4, 3, 3, 2)).astype(np.float32)} if op == "Conv" else {}
    attributes = {**attributes, **pads, "strides": strides}
    model = make(
        [node(op, ["x", *weights], **attributes)], {"x": [2, 3, "h", "w"]}, ("y",), weights
    )
    assert_allclose(run(model, x), reference(model, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "attributes",
    [
        {"auto_pad": "SAME_UPPER", "strides": [2, 3]},
        {"auto_pad": "SAME_LOWER", "strides": [2, 3]},
        {"pads": [1, 0, 0, 1], "strides": [2, 2]},
        {"output_shape": [10, 15], "strides": [2, 3]},
        {"output_shape": [12, 16], "strides": [2, 3]},
        {"output_shape": [8, 12], "strides": [2, 3], "auto_pad": "SAME_UPPER"},
        {"output_padding": [1, 0], "strides": [2, 1], "pads": [1, 1, 1, 1]},
        {"group": 2, "dilations": [2, 1]},
    ],
    ids=str,
)
def test_transposed_convolution(attributes, rng):
    x = rng.standard_normal((2, 4, 5, 5)).astype(np.float32)
    w = rng.standard_normal((4, 3, 3, 3)).astype(np.float32)
    b = rng.standard_normal(3 * attributes.get("group", 1)).astype(np.float32)
    nodes = [node("ConvTranspose", ["x", "w", "b"], **attributes)]
    model = make(nodes, {"x": [2, 4, 5, 5]}, initialisers={"w": w, "b": b})
    assert_allclose(run(model, x), reference(model, x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", FORMS)
def test_form_of_opset(name):
    opset, made, constants, expected = FORMS[name]
    model = make([made], {"x": [2, "c", 4]}, ("y",), constants, opset)
    result = run(model, X)
    assert result.dtype == expected.dtype if expected.dtype.kind == "i" else np.float32
    assert_allclose(result, expected, rtol=1e-6)


COORDINATES = [
    "half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "tf_half_pixel_for_nn",
]  # fmt: skip


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_coordinates_of_resize(mode, coordinates, rng):
    if coordinates == "tf_half_pixel_for_nn" and mode != "nearest":
        pytest.skip("it is for nearest neighbours")
    x = rng.standard_normal((1, 2, 5, 7)).astype(np.float32)
    options = {"mode": mode, "coordinate_transformation_mode": coordinates}
    if mode == "nearest":
        options["nearest_mode"] = "floor"
    for sizes in ((1, 2, 8, 9), (1, 2, 4, 5)):
        nodes = [node("Resize", ["x", "none", "none", "sizes"], **options)]
        arrays = {"sizes": ints(*sizes), "none": np.empty(0, np.float32)}
        model = make(nodes, {"x": [1, 2, 5, 7]}, ("y",), arrays, 11)
        assert_allclose(run(model, x), reference(model, x), rtol=1e-4, atol=1e-5)


def test_opset_decides_what_an_operator_means():
    with pytest.raises(OnnxError, match=r"node 0 \(Slice\).*attribute .(starts|ends)"):
        load(make([node("Slice", "x", starts=[1], ends=[9])], {"x": [3]}, opset=13))
    with pytest.raises(OnnxError, match="Mish is supported from opset 18 on, the model has 17"):
        load(make([node("Mish", "x")], {"x": [3]}))
    with pytest.raises(OnnxError, match="opset must be 1 to"):
        load(make([node("Relu", "x")], {"x": [3]}, opset=1000))


def test_condition_chooses_a_branch():
    branches = {
        name: helper.make_graph([node(op, "x", [name])], name, [], [info(name, None)])
        for name, op in (("then_branch", "Exp"), ("else_branch", "Neg"))
    }
    nodes = [node("ReduceSum", "x", ["s"], keepdims=0), node("Cast", "s", ["c"], to=9)]
    model = load(make([*nodes, node("If", "c", **branches)], {"x": ["n"]}))
    assert_array_equal(model(np.zeros(2, np.float32)).data, [0, 0])
    assert_allclose(model(np.ones(2, np.float32)).data, np.exp([1, 1]), rtol=1e-6)
    model = make([node("If", "c", **branches)], {"x": ["n"]}, initialisers={"c": np.array(True)})
    fixed = load(model)
    assert_allclose(fixed(np.ones(2, np.float32)).data, np.exp([1, 1]), rtol=1e-6)
    assert len(fixed._block.steps) == 2  # the branch in place of the If


def test_weights_of_branches_have_names_of_their_own(rng):
    def branch(value):
        weight = onnx.numpy_helper.from_array(np.full(2, value, np.float32), "w")
        made = [node("Mul", "xw", "z")]
        return helper.make_graph(made, "branch", [], [info("z", None)], [weight])

    nodes = [node("ReduceSum", "x", ["s"], keepdims=0), node("Cast", "s", ["c"], to=9)]
    for i, out in enumerate("ab"):
        branches = {"then_branch": branch(2.0 + i), "else_branch": branch(4.0 + i)}
        nodes.append(node("If", "c", out, **branches))
    model = load(make([*nodes, node("Add", "ab")], {"x": [2]}))
    assert len(model.state_dict()) == 4
    assert_array_equal(model(np.ones(2, np.float32)).data, [5, 5])
    assert_array_equal(model(np.array([1, -1], np.float32)).data, [9, -9])
    copied = copy.deepcopy(model)
    copied.load_state_dict({name: array * 0 for name, array in model.state_dict().items()})
    assert_array_equal(copied(np.ones(2, np.float32)).data, [0, 0])
    assert_array_equal(model(np.ones(2, np.float32)).data, [5, 5])


def test_functions_of_the_model_are_inlined():
    bound = helper.make_node("LeakyRelu", ["a"], ["b"])
    slope = bound.attribute.add()
    slope.name, slope.ref_attr_name, slope.type = "alpha", "slope", onnx.AttributeProto.FLOAT
    twice = helper.make_function(
        "own", "Twice", ["a"], ["c"],
        [bound, helper.make_node("Add", ["b", "b"], ["c"])],
        [helper.make_opsetid("", 17)], ["slope"],
    )  # fmt: skip
    nodes = [helper.make_node("Twice", ["x"], ["y"], domain="own", slope=0.5)]
    graph = helper.make_graph(nodes, "g", [info("x", [2])], [info("y", [2])])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    model = helper.make_model(graph, opset_imports=opsets, functions=[twice])
    y = run(model.SerializeToString(), np.array([-4.0, 3.0], np.float32))
    assert_array_equal(y, [-4, 6])


# The module ---------------------------------------------------------------------------------------


def test_module_keeps_the_names_of_the_graph(rng):
    model = load(network(rng))
    assert (model.input_names, model.output_names) == (["image"], ["score", "e"])
    names = ["conv.weight", "bn/scale", "bn/b", "fc.weight", "fc.bias"]
    assert [name for name, _ in model.named_parameters()] == names
    assert {name for name, _ in model.named_buffers()} >= {"bn/mean", "bn/var"}
    assert "rest" in model.state_dict()
    assert not model.training
    assert model.load_state_dict(model.state_dict()) == ([], [])


def test_graph_is_cut_at_chosen_values(rng):
    model, x = network(rng), rng.standard_normal((2, 3, 5, 6)).astype(np.float32)
    whole = load(model)
    body = load(model, outputs=["e", "a", "image"])
    assert (body.input_names, body.output_names) == (["image"], ["e", "a", "image"])
    e, a, image = body(x)
    assert_array_equal(image.data, x)
    assert_array_equal(e.data, whole(x)[1].data)
    assert_array_equal(
        a.data, fastconv.functional.conv2d(x, whole.state_dict()["conv.weight"], padding=1).data
    )
    assert set(whole.state_dict()) - set(body.state_dict()) == {"fc.weight", "fc.bias"}

    head = fastconv.nn.Linear(4, 5)
    head.load_state_dict({k: whole.state_dict()[f"fc.{k}"] for k in ("weight", "bias")})
    features = load(model, outputs=["e"])
    assert_allclose(head(features(x)).data, whole(x)[0].data, rtol=1e-6)


@pytest.mark.parametrize(
    ("outputs", "error", "message"),
    [
        ("score", TypeError, "must be a sequence of names, got 'score'"),
        ([0], TypeError, r"must be a sequence of names, got \[0\]"),
        (5, TypeError, "must be a sequence of names, got 5"),
        ([], ValueError, "must be different names"),
        (["e", "e"], ValueError, "must be different names"),
        (["e", "f"], ValueError, "the graph has no value 'f'"),
    ],
)
def test_bad_outputs_are_refused(outputs, error, message, rng):
    with pytest.raises(error, match=f"outputs {message}|outputs must be .*; {message}"):
        load(network(rng), outputs=outputs)


@pytest.mark.parametrize("shape", [(1, 3, 5, 6), (4, 3, 9, 7)])
def test_sizes_are_free_where_the_graph_leaves_them(shape, rng):
    model, x = network(rng), rng.standard_normal(shape).astype(np.float32)
    for result, expected in zip(run(model, x), reference(model, x), strict=True):
        assert_allclose(result, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("nodes", "initialisers"),
    [
        ([node("Conv", "xw", auto_pad="SAME_LOWER", strides=[2, 3])], {"w": (4, 3, 3, 4)}),
        ([node("MaxPool", "x", kernel_shape=[3, 3], auto_pad="SAME_UPPER", strides=[2, 2])], {}),
        ([node("MaxPool", "x", kernel_shape=[3, 3], pads=[2, 0, 0, 1])], {}),
        (
            [node("AveragePool", "x", kernel_shape=[3, 3], auto_pad="SAME_LOWER", strides=[2, 2])],
            {},
        ),
        ([node("AveragePool", "x", kernel_shape=[2, 2], dilations=[2, 1])], {}),
        ([node("ConvTranspose", "xw", auto_pad="SAME_UPPER", strides=[2, 3])], {"w": (3, 4, 4, 4)}),
        ([node("ConvTranspose", "xw", output_shape=[17, 25], strides=[2, 3])], {"w": (3, 4, 4, 4)}),
        (
            [
                node(
                    "ConvTranspose",
                    "xw",
                    output_shape=[17, 25],
                    strides=[2, 3],
                    auto_pad="SAME_UPPER",
                )
            ],
            {"w": (3, 4, 4, 4)},
        ),
        ([node("LRN", "x", size=3, alpha=0.5)], {}),
        ([node("Resize", ["x", "", "", "w"])], {}),
        ([node("Flatten", "x", axis=2)], {}),
        ([node("Split", "x", "yz", axis=3, num_outputs=2)], {}),
        ([node("Softmax", "x", axis=3)], {}),
        ([node("InstanceNormalization", "xab")], {"a": (3,), "b": (3,)}),
        ([node("LayerNormalization", "xa", axis=1)], {"a": (3, 1, 1)}),
        ([node("ReduceL2", "x", axes=[2])], {}),
    ],
    ids=lambda value: value[-1].op_type if isinstance(value, list) else "",
)
def test_plans_find_sizes_anew(nodes, initialisers, rng):
    if nodes[-1].op_type == "Resize":  # to twice the size, as graphs of PyTorch compute it
        nodes = [
            node("Shape", "x", "s"), node("Slice", ["s", "zero", "two"], "t"),
            node("Slice", ["s", "two", "four"], "u"), node("Mul", ["u", "two"], "v"),
            node("Concat", "tv", "w", axis=0), node("Resize", ["x", "", "", "w"], mode="linear"),
        ]  # fmt: skip
    arrays = {n: rng.standard_normal(s).astype(np.float32) for n, s in initialisers.items()}
    arrays |= {"zero": ints(0), "two": ints(2), "four": ints(4)}
    model = load(
        make(
            nodes,
            {"x": ["n", 3, "h", "w"]},
            ("y",),
            arrays,
            18 if "num_outputs" in str(nodes) else 17,
        )
    )
    plan = None
    for shape in ((2, 3, 8, 9), (1, 3, 7, 12), (3, 3, 16, 6)):
        x = rng.standard_normal(shape).astype(np.float32)
        plan = plan or fastconv.compile(model, x)
        assert_allclose(plan(x), model(x).data, rtol=1e-5, atol=1e-5)


def test_training_learns_and_updates_statistics(rng):
    model = load(network(rng)).train()
    x = rng.standard_normal((8, 3, 6, 6)).astype(np.float32)
    before = {name: array.copy() for name, array in model.state_dict().items()}
    optimizer = fastconv.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        score, _ = model(x)
        loss = fastconv.functional.cross_entropy(score, np.arange(8) % 5)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    changed = {n for n, a in model.state_dict().items() if not np.array_equal(a, before[n])}
    assert changed >= {"conv.weight", "bn/scale", "bn/mean", "bn/var", "fc.bias"}
    model.eval()
    frozen = model.state_dict()["bn/mean"].copy()
    model(x)
    assert_array_equal(model.state_dict()["bn/mean"], frozen)


def test_statistics_are_updated_as_onnx_says(rng):
    x = rng.standard_normal((4, 2, 3)).astype(np.float32)
    arrays = {n: np.ones(2, np.float32) for n in "abcd"}
    model = make([node("BatchNormalization", "xabcd", momentum=0.75)], {"x": [4, 2, 3]},
                 initialisers=arrays)  # fmt: skip
    module = load(model).train()
    module(x)
    assert_allclose(module.state_dict()["c"], 0.75 + 0.25 * x.mean((0, 2)), rtol=1e-6)


def test_values_are_freed_after_their_last_use():
    nodes = [node("Exp", "x", ["a"]), node("Neg", "a", ["b"]), node("Abs", "b")]
    model = load(make(nodes, {"x": [3]}))
    freed = [len(step.free) for step in model._block.steps]
    assert freed == [1, 1, 1]


def test_constants_are_folded():
    nodes = [node("Shape", "c", ["s"]), node("Mul", "ss", ["t"]), node("Reshape", ["x", "t"])]
    model = load(make(nodes, {"x": ["n"]}, initialisers={"c": np.ones((2, 1), np.float32)}))
    assert len(model._block.steps) == 1
    assert model(np.arange(4, dtype=np.float32)).shape == (4, 1)


def test_astype_is_refused(rng):
    model = load(network(rng))
    assert model.float() is model
    with pytest.raises(TypeError, match=r"the graph fixes the dtype of conv\.weight"):
        model.double()


def test_inputs_are_checked(rng):
    model = load(network(rng))
    with pytest.raises(TypeError, match=r"takes 1 inputs \(image\), got 2"):
        model(X, X)
    with pytest.raises(TypeError, match="image must have dtype float32, got float64"):
        model(np.zeros((1, 3, 5, 5)))
    with pytest.raises(ValueError, match=r"image must have 4 axes \(\*, 3, \*, \*\)"):
        model(X)
    with pytest.raises(ValueError, match=r"image must have shape \(\*, 3, \*, \*\), got"):
        model(np.zeros((1, 4, 5, 5), np.float32))


def test_onnx_is_imported_only_when_it_is_needed():
    code = "import sys, fastconv, fastconv.onnx; sys.exit('onnx' in sys.modules)"
    assert subprocess.run([sys.executable, "-P", "-c", code], check=False).returncode == 0


def test_missing_package_is_named():
    code = (
        "import sys; sys.modules['onnx'] = None; import fastconv.onnx\n"
        "try: fastconv.onnx.load(b'x')\n"
        "except ImportError as error: sys.exit(\"'fastconv[onnx]'\" not in str(error))\n"
        "sys.exit(2)"
    )
    assert subprocess.run([sys.executable, "-P", "-c", code], check=False).returncode == 0


# What is refused ----------------------------------------------------------------------------------


def doubled_input():
    model = onnx.ModelProto.FromString(make([node("Relu", "x")], {"x": [1]}))
    model.graph.input.append(model.graph.input[0])
    return model.SerializeToString()


BAD = {
    "not an ONNX model": b"",
    "not an ONNX model, or a truncated one": b"\xff" * 100,
    "it has no graph": onnx.ModelProto(producer_name="x").SerializeToString(),
    r"node 0 \(Foo\): operator Foo is not supported": make([node("Foo", "x")], {"x": [1]}),
    r"node 0 \(Relu\): input 'z' is made by no node": make([node("Relu", "z")], {"x": [1]}),
    r"node 0 \(Add\): input 'b' is made by a later node, or in a cycle": make(
        [node("Add", "xb", "a"), node("Add", "xa", "b"), node("Relu", "b")], {"x": [1]}
    ),
    "'x' is the name of another value": doubled_input(),
    "'y' is the name of another value": make([node("Relu", "x"), node("Abs", "x")], {"x": [1]}),
    "output 'z' is made by no node": make([node("Relu", "x")], {"x": [1]}, ("z",)),
    r"node 0 'n' \(Relu\): must have 1 to 1 inputs, got 2": make(
        [node("Relu", "xx", name="n")], {"x": [1]}
    ),
    r"\(Elu\): attribute 'beta' is not supported": make([node("Elu", "x", beta=1.0)], {"x": [1]}),
    r"\(Elu\): attribute 'alpha' must be of type float": make(
        [node("Elu", "x", alpha=1)], {"x": [1]}
    ),
    r"\(Concat\): attribute 'axis' is missing": make([node("Concat", "x")], {"x": [1]}),
    "element type BFLOAT16 is not among": make(
        [node("Relu", "x")], {"x": info("x", [1], TensorProto.BFLOAT16)}
    ),
    r"needs 4611686018427387904 bytes": make(
        [node("ConstantOfShape", "c"), node("Relu", "x", "z")], {"x": [1]}, ("y", "z"),
        {"c": ints(1 << 60)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("message", BAD)
def test_bad_model_is_refused(message):
    with pytest.raises(OnnxError, match=message):
        load(BAD[message])


@pytest.mark.parametrize(
    ("made", "constants"),
    [
        (node("Expand", "xa"), {"a": ints(1 << 40, 3)}),
        (node("Tile", "xa"), {"a": ints(1 << 50)}),
        (node("Pad", "xa"), {"a": ints(0, 1 << 45)}),
        (node("Resize", ["x", "", "a"]), {"a": np.array([1e12], np.float32)}),
        (node("OneHot", "iab"), {"i": ints(1), "a": ints(1 << 50), "b": ints(0, 1)}),
        (node("Range", "abc"), {"a": ints(0), "b": ints(1 << 60), "c": ints(1)}),
        (node("Add", "xa"), {"a": np.zeros((1 << 16, 1), np.float32)}),
    ],
    ids=lambda value: value.op_type if hasattr(value, "op_type") else "",
)
def test_absurd_sizes_are_refused_before_memory_is_taken(made, constants):
    with pytest.raises(OnnxError, match=rf"\({made.op_type}\)"):
        load(make([made], {"x": [3]}, initialisers=constants), max_bytes=1 << 16)(X[0, :, 0])


def test_repeated_doubling_is_refused():
    names = ["x", *(f"v{i}" for i in range(60)), "y"]
    nodes = [node("Concat", [a, a], [b], axis=0) for a, b in itertools.pairwise(names)]
    with pytest.raises(OnnxError, match=r"node 18 \(Concat\): a result of shape"):
        load(make(nodes, {"x": [1]}), max_bytes=1 << 20)(np.ones(1, np.float32))
    doubled = [node("ConstantOfShape", "c", [n], name=n) for n in names[1:]]
    with pytest.raises(OnnxError, match="constants need"):
        load(make(doubled, {}, initialisers={"c": ints(1 << 16)}), max_bytes=1 << 20)


def test_tensors_are_checked_before_memory_is_taken():
    def model(**fields):
        tensor = TensorProto(name="w", **{"data_type": FLOAT, "dims": [3]} | fields)
        graph = helper.make_graph([node("Add", "xw")], "g", [info("x", [3])], [info("y", [3])])
        graph.initializer.append(tensor)
        return helper.make_model(graph).SerializeToString()

    assert_array_equal(run(model(float_data=[1, 2, 3]), X[0, 0, :3]), X[0, 0, :3] + [1, 2, 3])
    for fields, message in (
        ({"dims": [1 << 60], "raw_data": b"1234"}, "raw_data has 4"),
        ({"raw_data": b"12345"}, "need 12 bytes, raw_data has 5"),
        ({"float_data": [1.0]}, "need 3 values, float_data has 1"),
        ({"dims": [-3]}, "dims must not be negative"),
        ({"data_type": 99}, "element type number 99"),
    ):
        with pytest.raises(OnnxError, match=message):
            load(model(**fields))


def test_external_data_stays_in_the_folder(tmp_path, rng):
    folder, secret = tmp_path / "model", tmp_path / "secret"
    folder.mkdir()
    values = rng.standard_normal(3).astype(np.float32)
    for path in (secret, folder / "data"):
        path.write_bytes(b"\0" * 8 + values.tobytes())
    (folder / "link").symlink_to(secret)

    def write(location, offset=8, **entries):
        tensor = TensorProto(name="w", data_type=FLOAT, dims=[3], data_location="EXTERNAL")
        for key, value in {"location": location, "offset": offset, **entries}.items():
            tensor.external_data.add(key=key, value=str(value))
        graph = helper.make_graph([node("Add", "xw")], "g", [info("x", [3])], [info("y", [3])])
        graph.initializer.append(tensor)
        path = folder / "model.onnx"
        path.write_bytes(helper.make_model(graph).SerializeToString())
        return path

    zero = np.zeros(3, np.float32)
    assert_array_equal(load(write("data"))(zero).data, values)
    for location in ("../secret", str(secret), "link", "a/../../secret", "", "x\0y"):
        with pytest.raises(OnnxError, match="must be inside the model's folder"):
            load(write(location))
    with pytest.raises(OnnxError, match="No such file"):
        load(write("missing"))
    with pytest.raises(OnnxError, match="is not a file"):
        load(write("."))
    for entries in ({"offset": 9}, {"offset": -1}, {"offset": 1 << 70}):
        with pytest.raises(OnnxError, match="bytes from offset"):
            load(write("data", **entries))
    with pytest.raises(OnnxError, match="length of external data is 4"):
        load(write("data", length=4))
    with pytest.raises(OnnxError, match="needs a model loaded from a file"):
        load(write("data").read_bytes())
