"""Layers and modules: one contract for all layers, and what a Module does with what it holds.

Oracles: finite differences, formulas in NumPy, and torch where it is installed.
"""

import copy
import pickle
import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import fastconv
import fastconv.functional as F
from fastconv import Tensor, nn

# (name, arguments, options, shape of the input, shape of the output)
LAYERS = [
    ("Conv1d", (4, 6, 3), {}, (2, 4, 9), (2, 6, 7)),
    ("Conv1d", (4, 6, 4), {"stride": 3, "padding": 2, "groups": 2}, (2, 4, 9), (2, 6, 4)),
    ("Conv1d", (2, 3, 3), {"padding": "same", "dilation": 2}, (2, 2, 9), (2, 3, 9)),
    ("Conv2d", (2, 3, (3, 2)), {}, (2, 2, 6, 5), (2, 3, 4, 4)),
    ("Conv2d", (2, 4, 3), {"stride": (2, 1), "bias": False}, (2, 2, 7, 5), (2, 4, 3, 3)),
    ("Conv2d", (2, 3, 3), {"padding": 1, "padding_mode": "reflect"}, (2, 2, 6, 5), (2, 3, 6, 5)),
    *(  # of one channel, whose kernel reads the border itself
        ("Conv2d", (1, 1, (3, 5)), {"padding": (1, 2), "padding_mode": mode}, *[(2, 1, 6, 7)] * 2)
        for mode in ("circular", "reflect", "replicate")
    ),
    (
        "Conv2d",
        (1, 1, 3),
        {"padding": 2, "stride": (2, 1), "dilation": 2, "padding_mode": "circular"},
        (2, 1, 7, 5),
        (2, 1, 4, 5),
    ),
    ("Conv3d", (2, 3, (1, 2, 3)), {"padding": (0, 1, 1)}, (1, 2, 3, 4, 5), (1, 3, 3, 5, 5)),
    ("ConvTranspose1d", (4, 6, 3), {"stride": 2, "groups": 2}, (2, 4, 5), (2, 6, 11)),
    ("ConvTranspose2d", (2, 3, (3, 2)), {"padding": 1, "bias": False}, (2, 2, 4, 5), (2, 3, 4, 4)),
    (
        "ConvTranspose2d",
        (3, 4, 3),
        {"stride": 2, "output_padding": (1, 0), "dilation": (1, 2)},
        (2, 3, 3, 2),
        (2, 4, 8, 7),
    ),
    ("ConvTranspose3d", (2, 3, 2), {"stride": (1, 2, 3)}, (1, 2, 2, 3, 2), (1, 3, 3, 6, 5)),
    ("Linear", (5, 3), {}, (2, 5), (2, 3)),
    ("Linear", (5, 3), {"bias": False}, (2, 4, 5), (2, 4, 3)),
    ("BatchNorm1d", (3,), {}, (4, 3), (4, 3)),
    ("BatchNorm1d", (3,), {"momentum": None}, (4, 3, 5), (4, 3, 5)),
    ("BatchNorm2d", (3,), {"eps": 0.1, "momentum": 0.5}, (2, 3, 4, 5), (2, 3, 4, 5)),
    ("BatchNorm2d", (3,), {"affine": False}, (2, 3, 4, 5), (2, 3, 4, 5)),
    ("BatchNorm3d", (3,), {"track_running_stats": False}, (2, 3, 2, 3, 4), (2, 3, 2, 3, 4)),
    ("GroupNorm", (2, 6), {}, (2, 6, 4), (2, 6, 4)),
    ("GroupNorm", (3, 6), {"affine": False, "eps": 0.1}, (2, 6, 4, 5), (2, 6, 4, 5)),
    ("InstanceNorm1d", (3,), {"affine": True}, (2, 3, 5), (2, 3, 5)),
    ("InstanceNorm2d", (3,), {"track_running_stats": True}, (2, 3, 4, 5), (2, 3, 4, 5)),
    ("InstanceNorm2d", (3,), {}, (3, 4, 5), (3, 4, 5)),
    ("InstanceNorm3d", (3,), {"eps": 0.1}, (2, 3, 2, 3, 4), (2, 3, 2, 3, 4)),
    ("LayerNorm", (5,), {}, (2, 3, 5), (2, 3, 5)),
    ("LayerNorm", ((3, 5),), {"bias": False}, (2, 3, 5), (2, 3, 5)),
    ("ReLU", (), {}, (2, 3, 4), (2, 3, 4)),
    ("ReLU6", (), {}, (2, 3, 4), (2, 3, 4)),
    ("LeakyReLU", (0.2,), {}, (2, 3), (2, 3)),
    ("Softmax", (1,), {}, (2, 3, 4), (2, 3, 4)),
    ("LogSoftmax", (-1,), {}, (2, 3), (2, 3)),
    ("Softmin", (1,), {}, (2, 3, 4), (2, 3, 4)),
    ("ELU", (0.5,), {}, (2, 3, 4), (2, 3, 4)),
    ("SELU", (), {}, (2, 3, 4), (2, 3, 4)),
    ("CELU", (), {"alpha": 2.0}, (2, 3, 4), (2, 3, 4)),
    ("GELU", (), {}, (2, 3, 4), (2, 3, 4)),
    ("GELU", ("tanh",), {}, (2, 3, 4), (2, 3, 4)),
    ("SiLU", (), {}, (2, 3, 4), (2, 3, 4)),
    ("Mish", (), {}, (2, 3, 4), (2, 3, 4)),
    ("Sigmoid", (), {}, (2, 3, 4), (2, 3, 4)),
    ("LogSigmoid", (), {}, (2, 3, 4), (2, 3, 4)),
    ("Tanh", (), {}, (2, 3, 4), (2, 3, 4)),
    ("Hardtanh", (-0.5, 1.5), {}, (2, 3, 4), (2, 3, 4)),
    ("Hardswish", (), {}, (2, 3, 4), (2, 3, 4)),
    ("Hardsigmoid", (), {}, (2, 3, 4), (2, 3, 4)),
    ("Softplus", (), {"beta": 2.0}, (2, 3, 4), (2, 3, 4)),
    ("Softsign", (), {}, (2, 3, 4), (2, 3, 4)),
    ("PReLU", (), {}, (2, 3, 4), (2, 3, 4)),
    ("PReLU", (3,), {}, (2, 3, 4, 5), (2, 3, 4, 5)),
    ("Dropout", (0.3,), {}, (2, 3, 4), (2, 3, 4)),
    ("Dropout1d", (0.3,), {}, (2, 3, 4), (2, 3, 4)),
    ("Dropout2d", (0.3,), {}, (2, 3, 4, 2), (2, 3, 4, 2)),
    ("Dropout3d", (0.3,), {}, (2, 3, 4, 2, 2), (2, 3, 4, 2, 2)),
    ("AlphaDropout", (0.3,), {}, (2, 3, 4), (2, 3, 4)),
    ("PixelShuffle", (2,), {}, (2, 8, 3, 4), (2, 2, 6, 8)),
    ("PixelUnshuffle", (2,), {}, (2, 2, 6, 8), (2, 8, 3, 4)),
    ("ChannelShuffle", (3,), {}, (2, 6, 3, 4), (2, 6, 3, 4)),
    ("Unflatten", (1, (2, 3)), {}, (2, 6, 4), (2, 2, 3, 4)),
    ("Flatten", (), {}, (2, 3, 4), (2, 12)),
    ("Flatten", (0, 1), {}, (2, 3, 4), (6, 4)),
    ("Identity", (), {}, (2, 3), (2, 3)),
    ("Unfold", ((3, 2),), {"padding": 1, "stride": 2}, (2, 3, 7, 6), (2, 18, 16)),
    ("Fold", ((7, 6), 3), {"dilation": 2, "padding": 1}, (2, 18, 20), (2, 2, 7, 6)),
    ("MaxPool1d", (3,), {"stride": 2, "padding": 1}, (2, 3, 9), (2, 3, 5)),
    ("MaxPool2d", ((2, 3),), {"ceil_mode": True}, (2, 3, 7, 6), (2, 3, 4, 2)),
    ("MaxPool3d", (2,), {"dilation": (1, 2, 1), "stride": 1}, (1, 2, 3, 5, 4), (1, 2, 2, 3, 3)),
    ("AvgPool1d", (3,), {"padding": 1, "count_include_pad": False}, (2, 3, 9), (2, 3, 3)),
    ("AvgPool2d", ((2, 3), 1), {"divisor_override": 5}, (2, 3, 7, 6), (2, 3, 6, 4)),
    ("AvgPool3d", (2,), {"ceil_mode": True}, (1, 2, 3, 5, 4), (1, 2, 2, 3, 2)),
    ("LPPool1d", (2, 3), {}, (2, 3, 9), (2, 3, 3)),
    ("LPPool2d", (3, (2, 3)), {"stride": 2}, (2, 3, 7, 6), (2, 3, 3, 2)),
    ("LPPool3d", (2, 2), {}, (1, 2, 3, 5, 4), (1, 2, 1, 2, 2)),
    ("AdaptiveAvgPool1d", (4,), {}, (2, 3, 9), (2, 3, 4)),
    ("AdaptiveAvgPool2d", ((None, 2),), {}, (2, 3, 7, 6), (2, 3, 7, 2)),
    ("AdaptiveAvgPool3d", ((2, 3, 1),), {}, (1, 2, 3, 5, 4), (1, 2, 2, 3, 1)),
    ("AdaptiveMaxPool1d", (4,), {}, (2, 3, 9), (2, 3, 4)),
    ("AdaptiveMaxPool2d", (3,), {}, (2, 3, 7, 6), (2, 3, 3, 3)),
    ("AdaptiveMaxPool3d", ((2, 3, 1),), {}, (1, 2, 3, 5, 4), (1, 2, 2, 3, 1)),
    ("Upsample", (), {"scale_factor": 1.5}, (2, 3, 5), (2, 3, 7)),
    ("Upsample", ((3, 7),), {"mode": "bicubic", "align_corners": True}, (2, 3, 5, 4), (2, 3, 3, 7)),
    ("UpsamplingNearest2d", (), {"scale_factor": 2}, (2, 3, 5, 4), (2, 3, 10, 8)),
    ("UpsamplingBilinear2d", ((7, 3),), {}, (2, 3, 5, 4), (2, 3, 7, 3)),
    ("ZeroPad1d", (2,), {}, (2, 3, 5), (2, 3, 9)),
    ("ZeroPad2d", ((1, 2, 0, 3),), {}, (2, 3, 5, 4), (2, 3, 8, 7)),
    ("ZeroPad3d", ((1, 0, 2, 1, 0, 3),), {}, (1, 2, 3, 5, 4), (1, 2, 6, 8, 5)),
    ("ConstantPad1d", ((1, 2), 3.5), {}, (2, 3, 5), (2, 3, 8)),
    ("ConstantPad2d", (1, -2.0), {}, (2, 3, 5, 4), (2, 3, 7, 6)),
    ("ConstantPad3d", (1, 2.0), {}, (1, 2, 3, 5, 4), (1, 2, 5, 7, 6)),
    ("ReflectionPad1d", ((1, 2),), {}, (2, 3, 5), (2, 3, 8)),
    ("ReflectionPad2d", ((1, 2, 0, 3),), {}, (2, 3, 5, 4), (2, 3, 8, 7)),
    ("ReflectionPad3d", (1,), {}, (1, 2, 3, 5, 4), (1, 2, 5, 7, 6)),
    ("ReplicationPad1d", ((1, 7),), {}, (2, 3, 5), (2, 3, 13)),
    ("ReplicationPad2d", (2,), {}, (2, 3, 5, 4), (2, 3, 9, 8)),
    ("ReplicationPad3d", ((1, 0, 2, 1, 0, 3),), {}, (1, 2, 3, 5, 4), (1, 2, 6, 8, 5)),
    ("CircularPad1d", ((1, 2),), {}, (2, 3, 5), (2, 3, 8)),
    ("CircularPad2d", ((1, 2, 0, 3),), {}, (2, 3, 5, 4), (2, 3, 8, 7)),
    ("CircularPad3d", (2,), {}, (1, 2, 3, 5, 4), (1, 2, 7, 9, 8)),
]
LOSSES = [
    ("CrossEntropyLoss", {"label_smoothing": 0.1}, "labels"),
    ("CrossEntropyLoss", {"weight": np.array([1.0, 2.0, 0.5]), "reduction": "sum"}, "labels"),
    ("NLLLoss", {"ignore_index": 1}, "labels"),
    ("NLLLoss", {"weight": np.array([1.0, 2.0, 0.5]), "reduction": "none"}, "labels"),
    ("MSELoss", {}, "values"),
    ("MSELoss", {"reduction": "none"}, "values"),
    ("L1Loss", {"reduction": "sum"}, "values"),
    ("SmoothL1Loss", {"beta": 0.3}, "values"),
    ("HuberLoss", {"delta": 0.3, "reduction": "none"}, "values"),
    ("KLDivLoss", {"reduction": "batchmean"}, "values"),
    ("KLDivLoss", {"log_target": True, "reduction": "sum"}, "values"),
    ("BCEWithLogitsLoss", {"pos_weight": np.array([1.0, 2.0, 0.5])}, "values"),
    ("BCEWithLogitsLoss", {"weight": np.array([1.0, 2.0, 0.5]), "reduction": "sum"}, "values"),
]
# Modules with tests of their own.
OTHERS = {"Module", "ModuleList", "Residual", "Sequential"}
OTHERS |= {"MaxUnpool1d", "MaxUnpool2d", "MaxUnpool3d"}  # of two inputs
OTHERS |= {"BCELoss", "CosineEmbeddingLoss", "CosineSimilarity"}  # in test_functional_losses.py


def name_of(row):
    name, arguments, options = row[:3]
    options = [f"{option}={value!r}" for option, value in options.items()]
    return f"{name}({', '.join([*map(repr, arguments), *options])})"


every_layer = pytest.mark.parametrize("row", LAYERS, ids=name_of)
every_loss = pytest.mark.parametrize("row", LOSSES, ids=lambda row: f"{row[0]}-{'-'.join(row[1])}")


def build(row, library=nn):
    name, arguments, options = row[:3]
    return getattr(library, name)(*arguments, **options)


def input_for(row, rng, dtype=np.float32):
    return rng.standard_normal(row[3]).astype(dtype)


def difference_quotients(function, array, eps=1e-6):
    """The gradient of a scalar function of nothing by `array`, which it reads."""
    gradient = np.empty(array.shape)
    for where in np.ndindex(array.shape):
        old = array[where]
        array[where] = old + eps
        above = function()
        array[where] = old - eps
        gradient[where] = (above - function()) / (2 * eps)
        array[where] = old
    return gradient


def assert_gradients_are_right(module, rng, *arrays):
    """Gradients of a float64 module by its parameters and inputs, along a random direction."""
    direction = rng.standard_normal(module(*arrays).shape)

    def projected(*inputs):
        fastconv.manual_seed(1)  # dropout drops the same
        return (module(*inputs) * direction).sum()

    inputs = [Tensor(array, requires_grad=True) for array in arrays]
    module.zero_grad()
    projected(*inputs).backward()
    gradients = {name: p.grad for name, p in module.named_parameters()}
    gradients |= {f"input {i}": tensor.grad for i, tensor in enumerate(inputs)}
    values = {name: p.data for name, p in module.named_parameters()}
    values |= {f"input {i}": tensor.data for i, tensor in enumerate(inputs)}
    for name, array in values.items():
        expected = difference_quotients(lambda: projected(*arrays).item(), array)
        assert_allclose(gradients[name], expected, rtol=1e-5, atol=1e-6, err_msg=name)


# The contract of every layer


def test_tables_name_every_module():
    modules = {
        name
        for name in nn.__all__
        if isinstance(getattr(nn, name), type) and issubclass(getattr(nn, name), nn.Module)
    }
    assert {row[0] for row in (*LAYERS, *LOSSES)} | OTHERS == modules


@every_layer
def test_forward_gives_a_tensor_of_the_right_shape(row, rng):
    layer, x = build(row), input_for(row, rng)
    given = x.copy()
    for training in (True, False):
        layer.train(training)
        results = []
        for call in (lambda: layer(x), lambda: layer(Tensor(x))):
            fastconv.manual_seed(0)
            results.append(call())
        for result in results:
            assert isinstance(result, Tensor)
            assert result.shape == row[4]
            assert result.dtype == np.float32
        assert_array_equal(results[0].data, results[1].data)
    assert_array_equal(x, given)


@every_layer
def test_forward_takes_its_input_by_name(row, rng):
    layer, x = build(row).eval(), input_for(row, rng)
    result = layer(input=x)
    assert isinstance(result, Tensor)
    assert_array_equal(result.data, layer(x).data)


@every_layer
def test_repr_names_the_class_and_its_arguments(row):
    text = repr(build(row))
    assert text.startswith(row[0] + "(")
    assert text.endswith(")")
    assert "\n" not in text
    for argument in (*row[1], *row[2].values()):
        if argument not in (True, False, None):
            assert str(argument) in text


@every_layer
def test_train_and_eval_return_the_module(row):
    layer = build(row)
    assert layer.training is True
    assert layer.eval() is layer
    assert layer.training is False
    assert layer.train() is layer
    assert layer.training is True
    assert layer.train(False).training is False


@every_layer
def test_state_dict_round_trip(row, rng):
    source, target = build(row).double(), build(row).double()
    x = input_for(row, rng, np.float64)
    source(x)  # moves running statistics
    for parameter in source.parameters():
        parameter.data[...] = rng.standard_normal(parameter.shape)
    state = source.state_dict()
    result = target.load_state_dict(state)
    assert result == ([], [])
    assert list(target.state_dict()) == list(state)
    for name, array in target.state_dict().items():
        assert_array_equal(array, state[name])
        assert not np.shares_memory(array, state[name])
    source.eval(), target.eval()
    assert_array_equal(target(x).data, source(x).data)


@every_layer
def test_float_and_double(row, rng):
    layer = build(row)
    for dtype, convert in ((np.float64, layer.double), (np.float32, layer.float)):
        for parameter in layer.parameters():
            parameter.grad = np.ones_like(parameter.data)
        assert convert() is layer
        for name, array in layer.state_dict().items():
            assert array.dtype == (np.int64 if name == "num_batches_tracked" else dtype)
        assert all(parameter.grad is None for parameter in layer.parameters())
        assert layer(input_for(row, rng, dtype)).dtype == dtype


@every_layer
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_are_equal_and_independent(row, duplicate, rng):
    layer = build(row)
    x = input_for(row, rng)
    layer(x)
    twin = duplicate(layer)
    assert type(twin) is type(layer)
    assert repr(twin) == repr(layer)
    assert list(twin.state_dict()) == list(layer.state_dict())
    for name, array in twin.state_dict().items():
        assert_array_equal(array, layer.state_dict()[name])
        assert array.dtype == layer.state_dict()[name].dtype
    layer.eval(), twin.eval()
    before = twin(x).data.copy()
    assert_array_equal(before, layer(x).data)
    for array in layer.state_dict().values():
        array[...] = 3
    assert twin.training is False
    assert_array_equal(twin(x).data, before)
    twin.train()
    assert layer.training is False


@every_layer
def test_gradients_are_difference_quotients(row, rng):
    layer = build(row).double()
    for parameter in layer.parameters():
        parameter.data[...] = rng.standard_normal(parameter.shape)
    x = input_for(row, rng, np.float64)
    if row[0].startswith("LPPool"):
        x = np.abs(x) + 0.1  # odd powers of negative values have no root, as in torch
    assert_gradients_are_right(layer, rng, x)


@every_layer
def test_names_shapes_and_results_are_those_of_torch(row, rng):
    torch = pytest.importorskip("torch")
    if row[0] == "ReflectionPad3d" and not hasattr(torch.nn, row[0]):
        pytest.skip("torch has none")
    ours, theirs = build(row).double(), build(row, torch.nn).double()
    names = {name: parameter.shape for name, parameter in ours.named_parameters()}
    assert names == {name: tuple(p.shape) for name, p in theirs.named_parameters()}
    state = {name: tensor.numpy().copy() for name, tensor in theirs.state_dict().items()}
    assert list(ours.state_dict()) == list(state)
    assert ours.load_state_dict(state) == ([], [])
    for training in (True, False):
        if training and "Dropout" in row[0]:
            continue
        ours.train(training), theirs.train(training)
        x = input_for(row, rng, np.float64)
        if row[0].startswith("LPPool"):
            x = np.abs(x)
        expected = theirs(torch.tensor(x)).detach().numpy()
        assert_allclose(ours(x).data, expected, rtol=1e-10, atol=1e-12)
    for name, tensor in theirs.state_dict().items():
        assert_allclose(ours.state_dict()[name], tensor.numpy(), rtol=1e-12, err_msg=name)


# Losses


def logits_and_target(kind, rng, dtype=np.float64):
    logits = rng.standard_normal((6, 3)).astype(dtype)
    target = rng.integers(0, 3, 6) if kind == "labels" else rng.random((6, 3)).astype(dtype)
    return logits, target


@every_loss
def test_losses_are_the_functions_with_the_same_options(row, rng):
    name, options, kind = row
    loss = getattr(nn, name)(**options)
    function = {
        "CrossEntropyLoss": F.cross_entropy,
        "NLLLoss": F.nll_loss,
        "MSELoss": F.mse_loss,
        "L1Loss": F.l1_loss,
        "SmoothL1Loss": F.smooth_l1_loss,
        "HuberLoss": F.huber_loss,
        "KLDivLoss": F.kl_div,
        "BCEWithLogitsLoss": F.binary_cross_entropy_with_logits,
    }[name]
    logits, target = logits_and_target(kind, rng)
    for given in (target, Tensor(target)):
        result = loss(logits, given)
        assert isinstance(result, Tensor)
        assert_array_equal(result.data, function(logits, target, **options))
    assert repr(loss).startswith(f"{name}(")
    assert repr(options.get("reduction", "mean")) in repr(loss)
    x = Tensor(logits, requires_grad=True)
    direction = rng.standard_normal(result.shape)
    loss(x, target).backward(direction)
    values = logits.copy()
    numeric = difference_quotients(lambda: (loss(values, target).data * direction).sum(), values)
    assert_allclose(x.grad, numeric, rtol=1e-5, atol=1e-8)


@every_loss
def test_losses_are_those_of_torch(row, rng):
    torch = pytest.importorskip("torch")
    name, options, kind = row
    options_there = {
        key: torch.tensor(value) if isinstance(value, np.ndarray) else value
        for key, value in options.items()
    }
    ours, theirs = getattr(nn, name)(**options), getattr(torch.nn, name)(**options_there)
    logits, target = logits_and_target(kind, rng)
    expected = theirs(torch.tensor(logits), torch.tensor(target)).numpy()
    assert_allclose(ours(logits, target).data, expected, rtol=1e-12)
    assert list(ours.state_dict()) == list(theirs.state_dict())


def test_losses_follow_the_dtype_of_their_network(rng):
    loss = nn.CrossEntropyLoss(weight=np.array([1.0, 2.0, 0.5]))
    logits, target = logits_and_target("labels", rng, np.float32)
    with pytest.raises(TypeError, match="weight"):
        loss(logits, target)
    assert loss.float()(logits, target).dtype == np.float32


# Convolution with other boundaries


@pytest.mark.parametrize("mode", ["circular", "reflect", "replicate"])
@pytest.mark.parametrize(
    ("n", "kernel", "padding", "around"),
    [
        (1, 4, 2, (2, 2)),
        (1, 4, "same", (1, 2)),  # the longer side last
        (1, 3, ((2, 0),), (2, 0)),
        (2, (3, 2), (2, 1), (1, 1, 2, 2)),
        (2, (3, 4), "same", (1, 2, 1, 1)),
        (2, 3, ((1, 2), (3, 0)), (3, 0, 1, 2)),
        (3, 3, (1, 0, 2), (2, 2, 0, 0, 1, 1)),
        (2, 3, "valid", (0, 0, 0, 0)),
    ],
)
def test_padding_modes_are_explicit_pads(mode, n, kernel, padding, around, rng):
    conv = getattr(nn, f"Conv{n}d")(2, 3, kernel, padding=padding, padding_mode=mode).double()
    bare = getattr(nn, f"Conv{n}d")(2, 3, kernel).double()
    bare.load_state_dict(conv.state_dict())
    x = rng.standard_normal((2, 2, *(5, 6, 7)[:n]))
    pairs = [*zip(around[::2], around[1::2], strict=True), (0, 0), (0, 0)][::-1]
    numpy_mode = {"circular": "wrap", "reflect": "reflect", "replicate": "edge"}[mode]
    expected = bare(np.pad(x, pairs, mode=numpy_mode)).data
    assert_allclose(conv(x).data, expected, rtol=1e-12)
    if padding == "same":
        assert conv(x).shape[2:] == x.shape[2:]
    if n == 1:
        assert_gradients_are_right(conv, rng, x)


def test_padding_larger_than_the_input_is_refused_by_its_mode():
    for mode in ("circular", "reflect"):
        conv = nn.Conv1d(1, 1, 3, padding=5, padding_mode=mode)
        with pytest.raises(ValueError, match=mode):
            conv(np.zeros((1, 1, 4), np.float32))


BAD_LAYERS = [
    (lambda: nn.Conv2d(0, 1, 3), ValueError, ["in_channels", "0"]),
    (lambda: nn.Conv2d(1, 1.5, 3), TypeError, ["out_channels", "1.5"]),
    (lambda: nn.Conv2d(4, 6, 3, groups=3), ValueError, ["groups", "3", "in_channels=4"]),
    (lambda: nn.Conv2d(4, 6, 3, groups=4), ValueError, ["groups", "4", "out_channels=6"]),
    (lambda: nn.Conv2d(4, 6, 3, groups=0), ValueError, ["groups", "0"]),
    (lambda: nn.Conv2d(4, 6, (3, 3, 3)), ValueError, ["kernel_size", "(3, 3, 3)"]),
    (lambda: nn.Conv2d(4, 6, 0), ValueError, ["kernel_size", "0"]),
    (lambda: nn.Conv2d(4, 6, 3, stride=0), ValueError, ["stride", "0"]),
    (lambda: nn.Conv2d(4, 6, 3, dilation=-1), ValueError, ["dilation", "-1"]),
    (lambda: nn.Conv2d(4, 6, 3, padding=-1), ValueError, ["padding", "-1"]),
    (lambda: nn.Conv2d(4, 6, 3, padding="full"), ValueError, ["padding", "'full'"]),
    (lambda: nn.Conv2d(4, 6, 3, 2, padding="same"), ValueError, ["same", "stride"]),
    (lambda: nn.Conv2d(4, 6, 3, padding_mode="wrap"), ValueError, ["padding_mode", "'wrap'"]),
    (lambda: nn.ConvTranspose2d(4, 6, 3, groups=4), ValueError, ["groups", "out_channels=6"]),
    (lambda: nn.ConvTranspose2d(4, 6, 3, padding="same"), TypeError, ["padding", "'same'"]),
    (lambda: nn.ConvTranspose2d(4, 6, 3, output_padding=-1), ValueError, ["output_padding", "-1"]),
    (lambda: nn.ConvTranspose2d(4, 6, 3, padding_mode="reflect"), ValueError, ["padding_mode"]),
    (lambda: nn.Upsample(2, mode="cubic"), ValueError, ["mode", "'cubic'"]),
    (lambda: nn.Conv2d(4, 6, 3, dtype=np.int32), TypeError, ["dtype", "int32"]),
    (lambda: nn.Linear(0, 1), ValueError, ["in_features", "0"]),
    (lambda: nn.Linear(2, "3"), TypeError, ["out_features", "'3'"]),
    (lambda: nn.BatchNorm2d(0), ValueError, ["num_features", "0"]),
    (lambda: nn.BatchNorm2d(2, eps="a"), TypeError, ["eps", "'a'"]),
    (lambda: nn.BatchNorm2d(2, momentum=np.nan), ValueError, ["momentum", "nan"]),
    (lambda: nn.BatchNorm2d(2, dtype=np.int64), TypeError, ["dtype", "int64"]),
    (lambda: nn.BatchNorm2d(2, affine=False, dtype=np.int64), TypeError, ["dtype", "int64"]),
    (lambda: nn.Dropout(1.5), ValueError, ["p", "1.5"]),
    (lambda: nn.Softmax("a"), TypeError, ["dim", "'a'"]),
    (lambda: nn.Flatten(1.0), TypeError, ["start_dim", "1.0"]),
    (lambda: nn.ZeroPad2d((1, 2, 3)), ValueError, ["padding", "(1, 2, 3)"]),
    (lambda: nn.ConstantPad1d(1, None), TypeError, ["value", "None"]),
    (lambda: nn.MSELoss("average"), ValueError, ["reduction", "'average'"]),
    (lambda: nn.Sequential(F.relu), TypeError, ["Module", "function"]),
    (lambda: nn.ModuleList([nn.ReLU(), 3]), TypeError, ["Module", "int"]),
    (lambda: nn.Residual(F.relu), TypeError, ["main", "Module", "function"]),
]


@pytest.mark.parametrize(
    ("make", "error", "words"), BAD_LAYERS, ids=[" ".join(row[2]) for row in BAD_LAYERS]
)
def test_bad_arguments_of_layers_are_named_with_their_values(make, error, words):
    with pytest.raises(error) as caught:
        make()
    for word in words:
        assert word in str(caught.value)


# Transposed convolution and unpooling: the sizes that are asked for


def test_transposed_convolution_gives_any_size_that_its_convolution_takes(rng):
    down = nn.Conv2d(2, 3, 3, stride=(2, 3), padding=1)
    up = nn.ConvTranspose2d(3, 2, 3, stride=(2, 3), padding=1)
    for size in ((7, 7), (8, 9)):
        x = rng.standard_normal((1, 2, *size)).astype(np.float32)
        y = down(x)
        assert up(y, output_size=size).shape == x.shape
        assert up(y, x.shape).shape == x.shape
    assert up(y, output_size=(8, 9)).shape == up(y[0], (8, 9))[None].shape
    for size in ((6, 7), (9, 7), (7, 10), (7, 7, 7, 7, 7)):
        with pytest.raises(ValueError, match="output_size") as caught:
            up(y, output_size=size)
        assert str(size[-1]) in str(caught.value)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_unpooling_inverts_pooling(n, rng):
    pool = getattr(nn, f"MaxPool{n}d")(3, 2, return_indices=True)
    unpool = getattr(nn, f"MaxUnpool{n}d")(3, 2)
    x = np.abs(rng.standard_normal((2, 3, *(8, 7, 9)[:n])))
    y, indices = pool(x)
    back = unpool(y, indices, output_size=x.shape)
    assert back.shape == x.shape
    again, places = pool(back)
    assert_array_equal(again.data, y.data)
    assert_array_equal(places, indices)
    assert repr(unpool) == f"MaxUnpool{n}d(kernel_size=3, stride=2, padding=0)"


# Batch normalisation


def batches(rng, count=4):
    return [rng.normal(3, 2, (5, 2, 3, 4)) for _ in range(count)]


def batch_moments(x):
    return x.mean(axis=(0, 2, 3)), x.var(axis=(0, 2, 3), ddof=1)


@pytest.mark.parametrize("momentum", [0.1, 0.3, 1.0, 0.0])
def test_running_statistics_are_an_exponential_average(momentum, rng):
    layer = nn.BatchNorm2d(2, momentum=momentum).double()
    mean, var = np.zeros(2), np.ones(2)
    for step, x in enumerate(batches(rng), start=1):
        layer(x)
        batch_mean, batch_var = batch_moments(x)
        mean = (1 - momentum) * mean + momentum * batch_mean
        var = (1 - momentum) * var + momentum * batch_var
        assert_allclose(layer.running_mean, mean, rtol=1e-12)
        assert_allclose(layer.running_var, var, rtol=1e-12)
        assert layer.num_batches_tracked == step
    x = batches(rng)[0]
    shape = (1, 2, 1, 1)
    expected = (x - mean.reshape(shape)) / np.sqrt(var.reshape(shape) + layer.eps)
    assert_allclose(layer.eval()(x).data, expected, rtol=1e-10)
    assert layer.num_batches_tracked == step
    assert_allclose(layer.running_mean, mean, rtol=1e-12)


def test_without_momentum_running_statistics_are_plain_averages(rng):
    layer = nn.BatchNorm2d(2, momentum=None).double()
    moments = []
    for x in batches(rng):
        layer(x)
        moments.append(batch_moments(x))
        mean, var = np.mean(moments, axis=0)
        assert_allclose(layer.running_mean, mean, rtol=1e-12)
        assert_allclose(layer.running_var, var, rtol=1e-12)


def test_training_output_has_mean_bias_and_deviation_weight(rng):
    layer = nn.BatchNorm2d(2).double()
    layer.weight.data[...] = 2, 0.5
    layer.bias.data[...] = 7, -1
    y = layer(batches(rng)[0]).data
    assert_allclose(y.mean(axis=(0, 2, 3)), [7, -1], rtol=1e-12)
    assert_allclose(y.std(axis=(0, 2, 3)), [2, 0.5], rtol=1e-5)


def test_untracked_statistics_are_those_of_the_batch_always(rng):
    layer = nn.BatchNorm2d(2, track_running_stats=False).double()
    assert layer.running_mean is layer.running_var is layer.num_batches_tracked is None
    assert list(layer.state_dict()) == ["weight", "bias"]
    x = batches(rng)[0]
    trained = layer(x).data
    assert_array_equal(layer.eval()(x).data, trained)
    assert_allclose(trained.mean(axis=(0, 2, 3)), 0, atol=1e-12)


def test_names_and_dtypes_of_the_state():
    state = nn.BatchNorm2d(2).state_dict()
    assert list(state) == ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    assert [state[name].shape for name in state] == [(2,), (2,), (2,), (2,), ()]
    assert state["num_batches_tracked"].dtype == np.int64
    assert list(nn.BatchNorm2d(2, affine=False).state_dict()) == list(state)[2:]


@pytest.mark.parametrize(
    ("layer", "shape", "words"),
    [
        (nn.BatchNorm1d, (2, 3, 4, 4), ["axes", "(2, 3, 4, 4)"]),
        (nn.BatchNorm2d, (2, 3, 4), ["axes", "(2, 3, 4)"]),
        (nn.BatchNorm2d, (2, 4, 4, 4), ["num_features=3", "(2, 4, 4, 4)"]),
        (nn.BatchNorm3d, (2, 3, 4, 4), ["axes", "(2, 3, 4, 4)"]),
        (nn.BatchNorm1d, (1, 3), ["more than one value", "(1, 3)"]),
    ],
)
def test_refused_batches_leave_the_statistics_alone(layer, shape, words):
    layer = layer(3)
    before = {name: array.copy() for name, array in layer.state_dict().items()}
    with pytest.raises(ValueError, match="input") as caught:
        layer(np.zeros(shape, np.float32))
    for word in words:
        assert word in str(caught.value)
    for name, array in layer.state_dict().items():
        assert_array_equal(array, before[name])


def test_batches_of_another_dtype_leave_the_statistics_alone():
    layer = nn.BatchNorm1d(3)
    with pytest.raises(TypeError, match=r"float32.*float64|float64.*float32"):
        layer(np.ones((4, 3)))
    assert layer.num_batches_tracked == 0
    assert_array_equal(layer.running_mean, 0)


def test_dropout_in_training_and_evaluation(rng):
    layer = nn.Dropout(0.25, generator=rng)
    x = np.ones((100, 100), np.float32)
    y = layer(x).data
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.75)}
    assert abs((y == 0).mean() - 0.25) < 0.02
    assert not (layer(x).data == y).all()
    assert_array_equal(layer.eval()(x).data, x)
    assert_array_equal(nn.Dropout(1)(x).data, 0 * x)
    assert_array_equal(nn.Dropout(0)(x).data, x)


# Module


class Net(nn.Module):
    """Two layers below, a parameter and a buffer of its own."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.inner = nn.Sequential(nn.Linear(4, 4, bias=False), nn.ReLU())
        self.scale = nn.Parameter(np.ones(4, np.float32))
        self.register_buffer("offset", np.zeros(4, np.float32))
        self.constant = np.full(4, 2, np.float32)

    def forward(self, x):
        return self.inner(self.first(x)) * self.scale + self.offset + self.constant


def test_names_are_dotted_paths():
    net = Net()
    names = ["scale", "first.weight", "first.bias", "inner.0.weight"]
    assert [name for name, _ in net.named_parameters()] == names
    assert next(iter(net.parameters())) is net.scale
    assert [name for name, _ in net.named_buffers()] == ["offset"]
    assert list(net.state_dict()) == ["scale", "offset", *names[1:]]
    assert [name for name, _ in net.named_modules()] == ["", "first", "inner", "inner.0", "inner.1"]
    assert list(net.children()) == [net.first, net.inner]
    assert len(list(net.modules())) == 5


def test_names_are_those_of_torch():
    torch = pytest.importorskip("torch")

    class Theirs(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first = torch.nn.Linear(3, 4)
            self.inner = torch.nn.Sequential(torch.nn.Linear(4, 4, bias=False), torch.nn.ReLU())
            self.scale = torch.nn.Parameter(torch.ones(4))
            self.register_buffer("offset", torch.zeros(4))

    ours, theirs = Net(), Theirs()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for listing in ("named_parameters", "named_buffers", "named_modules"):
        names = [name for name, _ in getattr(theirs, listing)()]
        assert [name for name, _ in getattr(ours, listing)()] == names


def test_state_dict_is_the_live_memory():
    net = Net()
    state = net.state_dict()
    state["first.bias"][...] = 5
    assert_array_equal(net.first.bias.data, 5)
    assert state["offset"] is net.offset


def test_replaced_attributes_are_counted_once():
    net = Net()
    net.first = nn.Linear(3, 4, bias=False)
    net.scale = nn.Parameter(np.zeros(4, np.float32))
    names = ["first.weight", "inner.0.weight", "scale"]
    assert sorted(name for name, _ in net.named_parameters()) == names
    net.scale = None
    assert net.scale is None
    assert sorted(name for name, _ in net.named_parameters()) == names[:-1]
    assert "scale" not in net.state_dict()
    net.scale = nn.Parameter(np.ones(4, np.float32))
    assert sorted(name for name, _ in net.named_parameters()) == names


def test_replaced_attributes_keep_their_place_as_in_torch():
    # An optimiser's state is stored by the places of the parameters.
    net = Net()
    before = list(net.state_dict())
    net.first = nn.Linear(3, 4)
    assert list(net.state_dict()) == before


def test_attribute_can_become_a_parameter_a_module_and_back():
    net = Net()
    net.thing = 3
    net.thing = nn.Parameter(np.ones(2, np.float32))
    assert "thing" in dict(net.named_parameters())
    assert net.thing.shape == (2,)
    net.thing = nn.ReLU()
    assert "thing" not in dict(net.named_parameters())
    assert "thing" in dict(net.named_modules())
    assert isinstance(net.thing, nn.ReLU)
    del net.thing
    assert not hasattr(net, "thing")
    assert "thing" not in dict(net.named_modules())
    net.thing = "text"
    assert net.thing == "text"


def test_parameters_and_modules_are_not_replaced_by_chance():
    net = Net()
    for name, value in (("scale", np.zeros(4)), ("scale", Tensor([1.0])), ("first", F.relu)):
        with pytest.raises(TypeError, match=name):
            setattr(net, name, value)
    assert isinstance(net.scale, nn.Parameter)
    assert isinstance(net.first, nn.Linear)
    del net.scale
    net.scale = 2.0
    assert "scale" not in net.state_dict()


def test_buffers_are_replaced_and_saved():
    net = Net()
    net.offset = np.full(4, 3, np.float32)
    assert net.state_dict()["offset"] is net.offset
    assert_array_equal(net.offset, 3)
    net.offset = None
    assert "offset" not in net.state_dict()
    assert "offset" not in dict(net.named_buffers())


def test_missing_attributes_are_named():
    with pytest.raises(AttributeError, match=r"Net.*'absent'"):
        _ = Net().absent
    with pytest.raises(AttributeError, match="absent"):
        del Net().absent
    assert {"first", "scale", "offset", "forward"} <= set(dir(Net()))


def test_missing_super_init_is_told():
    class Forgetful(nn.Module):
        def __init__(self):
            self.layer = nn.ReLU()

    class AlsoForgetful(nn.Module):
        def __init__(self):
            self.width = 3

    for kind, name in ((Forgetful, "layer"), (AlsoForgetful, "width")):
        with pytest.raises(AttributeError, match=rf"{kind.__name__}.*super\(\).*{name}"):
            kind()


def test_module_without_forward():
    class Bare(nn.Module):
        pass

    with pytest.raises((TypeError, NotImplementedError), match=r"Bare.*forward"):
        Bare()(np.zeros(2))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m: m.register_parameter("weight", np.ones(2)), ["weight", "Parameter", "ndarray"]),
        (lambda m: m.register_parameter("weight", Tensor([1.0])), ["weight", "Parameter"]),
        (lambda m: m.register_buffer("mean", [1, 2]), ["mean", "list"]),
        (lambda m: m.register_buffer(3, np.ones(2)), ["name", "3"]),
        (lambda m: m.add_module("layer", F.relu), ["layer", "Module", "function"]),
        (lambda m: m.add_module(3, nn.ReLU()), ["name", "3"]),
    ],
)
def test_registering_something_else_is_refused(call, words):
    module = nn.Module()
    with pytest.raises(TypeError) as caught:
        call(module)
    for word in words:
        assert word in str(caught.value)
    assert module.state_dict() == {}


@pytest.mark.parametrize("name", ["", "a.b"])
def test_names_must_fit_dotted_paths(name):
    module = nn.Module()
    for register, value in (
        (module.add_module, nn.ReLU()),
        (module.register_buffer, np.ones(2)),
        (module.register_parameter, nn.Parameter(np.ones(2))),
    ):
        with pytest.raises((KeyError, ValueError), match="name"):
            register(name, value)


@pytest.mark.parametrize(
    ("kind", "taken"),
    [
        *(("module", name) for name in ("scale", "offset", "constant", "forward")),
        *(("buffer", name) for name in ("scale", "first", "constant", "forward")),
        *(("parameter", name) for name in ("first", "offset", "constant", "forward")),
    ],
)
def test_names_stand_for_one_thing(kind, taken):
    net = Net()
    names = list(net.state_dict())
    register, value = {
        "module": (net.add_module, nn.ReLU()),
        "buffer": (net.register_buffer, np.ones(4, np.float32)),
        "parameter": (net.register_parameter, nn.Parameter(np.ones(4, np.float32))),
    }[kind]
    with pytest.raises((KeyError, ValueError), match=taken):
        register(taken, value)
    assert list(net.state_dict()) == names


def test_shared_parameters_are_counted_once():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.encode = nn.Linear(3, 3, bias=False)
            self.decode = nn.Linear(3, 3, bias=False)
            self.decode.weight = self.encode.weight

        def forward(self, x):
            return self.decode(self.encode(x))

    tied = Tied()
    assert [name for name, _ in tied.named_parameters()] == ["encode.weight"]
    assert list(tied.state_dict()) == ["encode.weight", "decode.weight"]
    assert_gradients_are_right(tied.double(), np.random.default_rng(0), np.ones((2, 3)))
    assert tied.encode.weight is tied.decode.weight
    twin = copy.deepcopy(tied)
    assert twin.encode.weight is twin.decode.weight
    assert twin.encode.weight is not tied.encode.weight


def test_shared_modules_have_all_their_names_in_the_state_as_in_torch():
    # else the state dict of the same network in PyTorch would not load
    shared = nn.Linear(2, 2)
    net = nn.Sequential(shared, nn.ReLU(), shared)
    assert [name for name, _ in net.named_parameters()] == ["0.weight", "0.bias"]
    assert len(list(net.modules())) == 3
    assert list(net.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]


def test_modes_and_conversions_reach_all_below():
    net = Net()
    assert not any(module.training for module in net.eval().modules())
    assert all(module.training for module in net.train().modules())
    net.double()
    assert {array.dtype for array in net.state_dict().values()} == {np.dtype(np.float64)}
    with pytest.raises(TypeError, match="float16"):
        net.astype(np.float16)
    net.requires_grad_(False)
    assert not any(parameter.requires_grad for parameter in net.parameters())
    seen = []
    assert net.apply(lambda module: seen.append(type(module).__name__)) is net
    assert sorted(seen) == ["Linear", "Linear", "Net", "ReLU", "Sequential"]


def test_frozen_parameters_get_no_gradient(rng):
    net = Net()
    net.first.requires_grad_(False)
    net(rng.standard_normal((2, 3)).astype(np.float32)).sum().backward()
    assert net.first.weight.grad is None
    assert net.scale.grad is not None
    net.zero_grad()
    assert net.scale.grad is None


def test_channels_last_memory_survives_conversions_and_copies():
    for module in (
        nn.Conv2d(3, 4, 5).double(),
        copy.deepcopy(nn.Conv2d(3, 4, 5)),
    ):
        assert module.weight.data.transpose(0, 2, 3, 1).flags.c_contiguous


# load_state_dict


def test_load_state_dict_copies_and_converts():
    net = Net()
    data = net.first.weight.data
    state = {name: np.full(array.shape, 2.5) for name, array in net.state_dict().items()}
    assert net.load_state_dict(state) == ([], [])
    assert net.first.weight.data is data  # optimisers and others hold it
    assert data.dtype == np.float32
    assert_array_equal(data, 2.5)
    state["first.weight"][...] = 7
    assert_array_equal(data, 2.5)


def test_load_state_dict_reports_everything_and_changes_nothing():
    net = Net()
    before = {name: array.copy() for name, array in net.state_dict().items()}
    state = {name: array + 1 for name, array in before.items()}
    del state["first.bias"], state["offset"]
    state["inner.0.weight"] = np.zeros((4, 5))
    state["scale"] = np.zeros(())
    state["extra.weight"] = np.zeros(3)
    with pytest.raises(ValueError, match="state_dict") as caught:
        net.load_state_dict(state)
    message = str(caught.value)
    for words in (
        ["missing", "first.bias", "(4,)"],
        ["missing", "offset"],
        ["unexpected", "extra.weight", "(3,)"],
        ["inner.0.weight", "(4, 5)", "(4, 4)"],
        ["scale", "()", "(4,)"],
    ):
        assert any(all(word in line for word in words) for line in message.splitlines()), words
    assert "first.weight" not in message
    for name, array in net.state_dict().items():
        assert_array_equal(array, before[name])


def test_load_state_dict_reports_shapes_in_the_order_of_the_module():
    net = Net()
    state = {name: np.zeros((9, 9)) for name in net.state_dict()}
    with pytest.raises(ValueError, match="state_dict") as caught:
        net.load_state_dict(state)
    places = [str(caught.value).index(f"{name} has shape") for name in state]
    assert places == sorted(places)


def test_load_state_dict_of_other_names_if_not_strict():
    net = Net()
    result = net.load_state_dict({"scale": np.full(4, 3), "extra": np.zeros(3)}, strict=False)
    assert isinstance(result, nn.IncompatibleKeys)
    assert result.missing_keys == ["offset", "first.weight", "first.bias", "inner.0.weight"]
    assert result.unexpected_keys == ["extra"]
    assert_array_equal(net.scale.data, 3)
    with pytest.raises(ValueError, match=r"scale .*\(2,\).*\(4,\)"):
        net.load_state_dict({"scale": np.zeros(2)}, strict=False)


def test_load_state_dict_suggests_near_names_and_counts_the_rest():
    net = Net()
    state = net.state_dict()
    state = {name.replace("bias", "bais"): array for name, array in state.items()}
    with pytest.raises(ValueError, match="state_dict") as caught:
        net.load_state_dict(state | {f"none.{i}": np.zeros(1) for i in range(25)})
    lines = [line.strip() for line in str(caught.value).splitlines()]
    assert "missing: first.bias (4,)" in lines
    assert "unexpected: first.bais (4,); did you mean first.bias?" in lines
    assert "unexpected: none.3 (1,)" in lines
    assert lines[-1] == "unexpected: 6 more"
    assert len(lines) == 1 + 1 + 20 + 1


@pytest.mark.parametrize("prefix", ["module.", "model.encoder."])
def test_load_state_dict_tells_of_a_prefix(prefix):
    net = Net()
    state = {prefix + name: array + 1 for name, array in net.state_dict().items()}
    with pytest.raises(ValueError, match="state_dict") as caught:
        net.load_state_dict(state)
    advice = str(caught.value).splitlines()[-1]
    assert repr(prefix) in advice
    stripped = eval(advice.split(": ", 1)[1], {"state": state})  # what it says works
    assert net.load_state_dict(stripped) == ([], [])
    assert_array_equal(net.scale.data, 2)
    with pytest.raises(ValueError, match="state_dict") as caught:
        net.load_state_dict(state | {"other": np.zeros(1)})
    assert "removeprefix" not in str(caught.value)


@pytest.mark.parametrize("warnings_are", ["error", "ignore"])
def test_load_state_dict_changes_nothing_where_a_warning_is_an_error(warnings_are):
    net = Net()
    state = {name: np.full(array.shape, 2.0) for name, array in net.state_dict().items()}
    state["inner.0.weight"][0, 0] = 1e300  # overflows float32
    with warnings.catch_warnings():
        warnings.simplefilter(warnings_are)
        if warnings_are == "ignore":
            net.load_state_dict(state)
            assert net.inner[0].weight.data[0, 0] == np.inf
        else:
            before = {name: array.copy() for name, array in net.state_dict().items()}
            with pytest.raises(RuntimeWarning, match="overflow"):
                net.load_state_dict(state)
            for name, array in net.state_dict().items():
                assert_array_equal(array, before[name])


def test_load_state_dict_of_files_older_than_num_batches_tracked():
    net = nn.Sequential(nn.Sequential(nn.BatchNorm2d(3)), nn.BatchNorm1d(2))
    net[0][0].num_batches_tracked[...] = 7
    state = {n: a + 2 for n, a in net.state_dict().items() if "num_batches" not in n}
    assert net.load_state_dict(state) == ([], [])
    assert net[0][0].num_batches_tracked == 7
    assert_array_equal(net[0][0].running_mean, 2)
    del state["1.running_var"]
    with pytest.raises(ValueError, match=r"missing: 1\.running_var \(2,\)$"):
        net.load_state_dict(state)


def test_load_state_dict_of_tied_weights():
    net = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    net[1].weight = net[0].weight
    for name in ("0.weight", "1.weight"):  # as safetensors.torch.save_model writes them, once
        value = np.full((3, 3), len(name) + float(name[0]))
        assert net.load_state_dict({name: value}) == ([], [])
        assert_array_equal(net[0].weight.data, value)
    assert net[1].weight is net[0].weight
    with pytest.raises(ValueError, match=r"0\.weight.*\n.*1\.weight"):
        net.load_state_dict({})


@pytest.mark.parametrize("value", ["text", None, np.array(["a"] * 4), np.ones(4, complex)])
def test_load_state_dict_refuses_what_is_no_array_of_numbers(value):
    net = Net()
    state = net.state_dict() | {"scale": value}
    with pytest.raises(TypeError, match="scale"):
        net.load_state_dict(state)
    assert_array_equal(net.scale.data, 1)


def test_load_state_dict_of_something_else():
    for state in (None, [1, 2], Net(), "weights.npz", {3: np.ones(1)}):
        with pytest.raises(TypeError, match="state_dict"):
            Net().load_state_dict(state)
    checkpoint = {"epoch": 3, "state_dict": {}, "optimizer": object()}
    with pytest.raises(ValueError, match=r"unexpected: state_dict$"):
        Net().load_state_dict({"state_dict": {}})
    with pytest.raises(ValueError, match="unexpected: optimizer"):
        Net().load_state_dict(checkpoint)


def test_load_state_dict_takes_tensors_of_torch():
    torch = pytest.importorskip("torch")
    theirs = torch.nn.Linear(3, 2)
    ours = nn.Linear(3, 2)
    ours.load_state_dict(theirs.state_dict())
    assert_array_equal(ours.weight.data, theirs.weight.detach().numpy())
    with pytest.raises(TypeError, match="weight must be an array: "):
        ours.load_state_dict({"weight": theirs.weight.bfloat16(), "bias": theirs.bias.detach()})


# Containers


def relu_linear(rng):
    return [nn.Linear(3, 4, generator=rng), nn.ReLU(), nn.Linear(4, 2, generator=rng)]


def test_sequential_applies_its_modules_in_order(rng):
    first, relu, last = modules = relu_linear(rng)
    net = nn.Sequential(*modules)
    x = rng.standard_normal((5, 3)).astype(np.float32)
    assert_array_equal(net(x).data, last(relu(first(x))).data)
    assert len(net) == 3
    assert list(net) == modules
    assert net[0] is first
    assert net[-1] is last
    with pytest.raises(IndexError):
        net[3]
    assert list(net.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert_array_equal(nn.Sequential()(x).data, x)


def test_sequential_of_a_mapping_keeps_its_names(rng):
    first, relu, last = relu_linear(rng)
    net = nn.Sequential({"dense": first, "relu": relu, "out": last})
    assert list(net.state_dict()) == ["dense.weight", "dense.bias", "out.weight", "out.bias"]
    assert net.dense is first
    assert net[1] is relu


def test_slices_of_a_sequential_share_its_modules(rng):
    net = nn.Sequential(*relu_linear(rng))
    head, tail = net[:-1], net[1:]
    assert isinstance(head, nn.Sequential)
    assert list(head) == [net[0], net[1]]
    assert list(tail) == [net[1], net[2]]
    x = rng.standard_normal((5, 3)).astype(np.float32)
    assert_array_equal(net[2](head(x)).data, net(x).data)
    assert len(net) == 3


def test_append_never_replaces_a_module(rng):
    net = nn.Sequential(*relu_linear(rng))
    assert net.append(nn.ReLU()) is net
    assert len(net) == 4
    assert len(net[1:].append(nn.ReLU())) == 4
    named = nn.Sequential({"1": nn.Linear(2, 2)})
    assert len(named.append(nn.ReLU())) == 2
    modules = nn.ModuleList([nn.ReLU()])
    assert modules.append(nn.ReLU()) is modules
    assert len(modules) == 2


def test_module_list_counts_its_modules(rng):
    modules = nn.ModuleList(nn.Linear(2, 2) for _ in range(3))
    assert len(list(modules.parameters())) == 6
    assert list(modules.state_dict())[:3] == ["0.weight", "0.bias", "1.weight"]
    assert isinstance(modules[1:], nn.ModuleList)
    assert list(modules[1:]) == [modules[1], modules[2]]
    assert modules[-1] is modules[2]
    assert len(nn.ModuleList()) == 0
    with pytest.raises((TypeError, NotImplementedError), match=r"ModuleList.*forward"):
        modules(np.zeros((1, 2), np.float32))


def test_residual_adds_its_input_or_its_shortcut(rng):
    x = rng.standard_normal((2, 3, 7))
    main = nn.Conv1d(3, 3, 3, padding=1).double()
    assert_allclose(nn.Residual(main)(x).data, main(x).data + x, rtol=1e-12)
    narrow, shortcut = nn.Conv1d(3, 5, 3, 2, 1).double(), nn.Conv1d(3, 5, 1, 2).double()
    block = nn.Residual(narrow, shortcut)
    assert_allclose(block(x).data, narrow(x).data + shortcut(x).data, rtol=1e-12)
    assert list(block.state_dict()) == [
        "main.weight",
        "main.bias",
        "shortcut.weight",
        "shortcut.bias",
    ]
    assert_gradients_are_right(block, rng, x)
    assert_gradients_are_right(nn.Residual(main), rng, x)


def test_residual_of_different_shapes_is_refused(rng):
    block = nn.Residual(nn.Conv1d(3, 1, 3, padding=1))  # would broadcast
    with pytest.raises(ValueError, match=r"main .*\(2, 1, 7\).*shortcut.*\(2, 3, 7\)"):
        block(np.zeros((2, 3, 7), np.float32))


def test_repr_of_nested_modules_is_a_tree():
    net = nn.Sequential(nn.Residual(nn.Sequential(nn.Conv2d(2, 2, 3, padding=1))), nn.ReLU())
    assert repr(net).splitlines() == [
        "Sequential(",
        "  (0): Residual(",
        "    (main): Sequential(",
        "      (0): Conv2d(2, 2, kernel_size=(3, 3), padding=1)",
        "    )",
        "  )",
        "  (1): ReLU()",
        ")",
    ]


# Networks


class Graph(nn.Module):
    """Two inputs, a branch, a layer used twice, one output computed from all."""

    def __init__(self):
        super().__init__()
        self.left = nn.Conv1d(2, 3, 3, padding=1)
        self.right = nn.Conv1d(1, 3, 5, padding=2)
        self.shared = nn.Conv1d(3, 3, 1)
        self.mix = nn.Parameter(np.array([0.3], np.float32))
        self.out = nn.ModuleList([nn.Linear(6, 4), nn.Linear(4, 2)])

    def forward(self, a, b):
        a, b = F.leaky_relu(self.left(a)), self.right(b)
        a, b = self.shared(a * self.mix + b), self.shared(b) * a[:, [0, 0, 2]]
        pooled = fastconv.cat([a.mean(2), F.adaptive_max_pool1d(b, 1).flatten(1)], 1)
        for layer in self.out:
            pooled = layer(fastconv.exp(-pooled * pooled))
        return pooled


def test_module_of_an_arbitrary_graph(rng):
    net = Graph().double()
    a, b = rng.standard_normal((2, 2, 7)), rng.standard_normal((2, 1, 7))
    assert net(a, b).shape == (2, 2)
    assert_gradients_are_right(net, rng, a, b)


def convolutional(n, rng):
    """Without padding, two convolutions and a pooling between them; every pixel sees 8."""
    conv, pool = (getattr(nn, f"{kind}{n}d") for kind in ("Conv", "MaxPool"))
    return nn.Sequential(
        conv(1, 4, 3, generator=rng), nn.ReLU(), pool(2), conv(4, 3, 3, generator=rng)
    )


@pytest.mark.parametrize("n", [1, 2, 3])
def test_network_on_a_larger_input_is_the_network_on_its_windows(n, rng):
    # Stationarity: an output pixel depends on what lies below it, not on where it lies.
    net = convolutional(n, rng).double()
    small, large = (8,) * n, (14, 12, 10)[:n]
    x = rng.standard_normal((2, 1, *large))
    whole = net(x).data
    assert whole.shape == (2, 3, *((size - 8) // 2 + 1 for size in large))
    for where in np.ndindex(whole.shape[2:]):
        window = tuple(slice(2 * i, 2 * i + 8) for i in where)
        part = net(x[(slice(None), slice(None), *window)]).data
        assert part.shape[2:] == (1,) * len(small)
        assert_allclose(part.reshape(2, 3), whole[(slice(None), slice(None), *where)], rtol=1e-10)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_network_trained_on_one_size_runs_on_others(n, rng):
    # Class 1 has a bright bar somewhere; trained on 8 pixels a side, tested on others.
    conv, norm, pool = (getattr(nn, f"{k}{n}d") for k in ("Conv", "BatchNorm", "AdaptiveMaxPool"))
    net = nn.Sequential(
        conv(1, 4, 3, padding=1, generator=rng),
        norm(4),
        nn.ReLU(),
        pool(1),
        nn.Flatten(),
        nn.Linear(4, 2, generator=rng),
    )

    def examples(count, size):
        x = 0.1 * rng.standard_normal((count, 1, *size))
        y = rng.integers(0, 2, count)
        for image, label in zip(x, y, strict=True):
            start = rng.integers(0, size[-1] - 3)
            image[..., start : start + 3] += 2.0 * label
        return x.astype(np.float32), y

    optimizer = fastconv.optim.Adam(net.parameters(), lr=0.05)
    for _ in range(40):
        x, y = examples(16, (8, 7, 6)[:n])
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()
    net.eval()
    for size in ((8, 7, 6), (5, 4, 9), (13, 12, 11)):
        x, y = examples(40, size[:n])
        assert (net(x).data.argmax(1) == y).mean() > 0.95, size
