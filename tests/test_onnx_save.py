"""Exported models: ONNX's checker accepts them, ONNX Runtime computes what the models do."""

import functools
import importlib
import json
import os
from pathlib import Path

import numpy as np
import pytest

import fastconv
import fastconv.functional as F
from fastconv import Tensor, nn
from fastconv.autograd import arrays, pointwise, reductions
from fastconv.autograd.engine import apply
from fastconv.cli import main
from fastconv.functional import pool
from fastconv.functional.pad import _pad_arrays
from fastconv.onnx import builder
from fastconv.training import Classifier

onnx = pytest.importorskip("onnx", reason="files are read by the onnx package")
runtime = pytest.importorskip("onnxruntime", reason="files are run by ONNX Runtime")


def values(shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def session(path):
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def assert_close(found, truth):
    truth = np.asarray(truth)
    assert (found.shape, found.dtype) == (truth.shape, truth.dtype)
    largest = np.abs(truth[np.isfinite(truth)]).max(initial=0)
    np.testing.assert_allclose(found, truth, rtol=0, atol=1e-5 * max(largest, 1e-30))


def outputs(model, inputs):
    if isinstance(model, nn.Module):
        model = model.eval()
    results = model(*map(Tensor, inputs))
    return [np.asarray(y) for y in (results if isinstance(results, tuple) else (results,))]


def check(tmp_path, model, *example, others=(), run=session, **options):
    """Export a model, compare what the file computes, and return the file's content."""
    path = tmp_path / "model.onnx"
    fastconv.onnx.save(model, path, example if len(example) > 1 else example[0], **options)
    assert os.listdir(tmp_path) == ["model.onnx"]
    proto = onnx.load(path)
    onnx.checker.check_model(proto, full_check=True)
    ran = run(path)
    names = [value.name for value in proto.graph.input]
    for inputs in (example, *others):
        found = ran.run(None, dict(zip(names, inputs, strict=True)))
        for result, truth in zip(found, outputs(model, inputs), strict=True):
            assert_close(result, truth)
    return proto


def operators(proto):
    return [node.op_type for node in proto.graph.node]


def randomised(model, seed=0):
    """A module with parameters and running statistics as training would leave them."""
    rng = np.random.default_rng(seed)
    for name, array in model.state_dict().items():
        if array.dtype.kind == "f":
            array[...] = rng.uniform(0.5, 1.5, array.shape) if "var" in name else (
                rng.standard_normal(array.shape) / 3
            )  # fmt: skip
    return model


# Layers and functions -----------------------------------------------------------------------------

LAYERS = {
    "conv1d": (lambda: nn.Conv1d(4, 6, 3, stride=2, padding=1, groups=2), (2, 4, 9)),
    "conv2d": (lambda: nn.Conv2d(3, 4, (3, 2), padding=((0, 1), (2, 0)), dilation=2), (2, 3, 9, 8)),
    "conv2d same": (lambda: nn.Conv2d(3, 4, 4, padding="same", bias=False), (2, 3, 9, 8)),
    "conv2d reflect": (lambda: nn.Conv2d(2, 4, 3, padding=1, padding_mode="reflect"), (2, 2, 6, 7)),
    "conv2d circular": (
        lambda: nn.Conv2d(2, 4, 3, padding=(2, 1), padding_mode="circular"), (2, 2, 6, 7)
    ),
    "conv2d replicate": (
        lambda: nn.Conv2d(2, 4, 3, padding=1, padding_mode="replicate"), (2, 2, 6, 7)
    ),
    "conv3d": (lambda: nn.Conv3d(2, 3, (1, 2, 3), stride=(1, 2, 1)), (2, 2, 4, 5, 6)),
    "conv transpose 1-D": (
        lambda: nn.ConvTranspose1d(4, 6, 4, stride=3, padding=1, output_padding=2, groups=2),
        (2, 4, 5),
    ),
    "conv transpose": (
        lambda: nn.ConvTranspose2d(3, 4, (3, 2), stride=(2, 1), padding=(1, 0), dilation=2),
        (2, 3, 4, 5),
    ),
    "conv transpose 3-D": (lambda: nn.ConvTranspose3d(2, 3, 2, 2, bias=False), (1, 2, 2, 3, 4)),
    "upsample": (lambda: nn.Upsample(scale_factor=2), (2, 3, 4, 5)),
    "upsample linear": (lambda: nn.Upsample(7, mode="linear"), (2, 3, 4)),
    "upsample bilinear": (lambda: nn.UpsamplingBilinear2d(scale_factor=3), (2, 3, 4, 5)),
    "pixel shuffle": (lambda: nn.PixelShuffle(2), (2, 8, 3, 4)),
    "pixel unshuffle": (lambda: nn.PixelUnshuffle(2), (2, 3, 4, 6)),
    "channel shuffle": (lambda: nn.ChannelShuffle(3), (2, 6, 4, 5)),
    "unflatten": (lambda: nn.Unflatten(1, (2, 3)), (2, 6, 4)),
    "depthwise": (lambda: nn.Conv2d(8, 8, 3, padding=1, groups=8), (1, 8, 6, 6)),
    "linear": (lambda: nn.Linear(5, 3), (4, 5)),
    "linear 3-D": (lambda: nn.Linear(5, 3), (2, 4, 5)),
    "linear without bias": (lambda: nn.Linear(5, 3, bias=False), (2, 4, 5)),
    "batch norm": (lambda: nn.BatchNorm1d(5), (3, 5)),
    "batch norm 3-D": (lambda: nn.BatchNorm3d(2, eps=0.1), (2, 2, 3, 4, 5)),
    "batch norm bare": (lambda: nn.BatchNorm2d(3, affine=False), (2, 3, 4, 5)),
    "batch norm of batch": (
        lambda: nn.BatchNorm2d(3, track_running_stats=False), (2, 3, 4, 5)
    ),
    "batch norm of rows": (lambda: nn.BatchNorm1d(3, track_running_stats=False), (6, 3)),
    "group norm": (lambda: nn.GroupNorm(2, 4), (2, 4, 3, 5)),
    "group norm bare": (lambda: nn.GroupNorm(3, 6, affine=False), (2, 6, 5)),
    "instance norm": (lambda: nn.InstanceNorm2d(3, affine=True), (2, 3, 4, 5)),
    "instance norm bare": (lambda: nn.InstanceNorm1d(3), (2, 3, 4)),
    "layer norm": (lambda: nn.LayerNorm((4, 5)), (2, 3, 4, 5)),
    "layer norm bare": (lambda: nn.LayerNorm(5, elementwise_affine=False), (2, 5)),
    "residual": (
        lambda: nn.Sequential(
            nn.Residual(nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3))),
            nn.ReLU6(),
        ),
        (2, 3, 5, 6),
    ),
    "relu, pool": (lambda: nn.Sequential(nn.ReLU(), nn.MaxPool2d(2)), (2, 3, 6, 7)),
    "leaky": (lambda: nn.LeakyReLU(0.2), (2, 3)),
    "softmax": (lambda: nn.Softmax(-1), (2, 3, 4)),
    "log softmax": (lambda: nn.LogSoftmax(1), (2, 3, 4)),
    "dropout": (lambda: nn.Sequential(nn.Dropout(), nn.ReLU()), (2, 3)),
    "flatten": (lambda: nn.Flatten(), (2, 3, 4)),
    "flatten part": (lambda: nn.Flatten(2, 3), (2, 3, 4, 5, 6)),
    "flatten all": (lambda: nn.Flatten(0), (2, 3, 4)),
    "unfold": (lambda: nn.Unfold((2, 3), dilation=(2, 1), padding=1, stride=2), (2, 3, 7, 8)),
    "fold": (lambda: nn.Fold((7, 6), 3, padding=1, stride=2), (2, 18, 12)),
    "constant pad": (lambda: nn.ConstantPad2d((1, -1, 0, 2), 3.5), (2, 3, 4, 5)),
    "circular pad": (lambda: nn.CircularPad1d((4, 1)), (2, 3, 4)),
    "max pool 1-D": (lambda: nn.MaxPool1d(3, 2, padding=1, ceil_mode=True), (2, 3, 8)),
    "max pool": (lambda: nn.MaxPool2d((3, 2), 2, padding=1, dilation=(1, 2)), (2, 3, 8, 9)),
    "max pool far": (lambda: nn.MaxPool2d(2, 4, dilation=3, ceil_mode=True), (2, 3, 8, 9)),
    "max pool 3-D": (lambda: nn.MaxPool3d(2), (1, 2, 4, 5, 6)),
    "avg pool": (lambda: nn.AvgPool2d(3, 2, padding=1), (2, 3, 8, 9)),
    "avg pool ceil": (lambda: nn.AvgPool2d(3, 2, padding=1, ceil_mode=True), (2, 3, 8, 10)),
    "avg pool inside": (
        lambda: nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False), (2, 3, 8, 10)
    ),
    "avg pool divisor": (
        lambda: nn.AvgPool2d(3, 2, 1, ceil_mode=True, divisor_override=2), (2, 3, 8, 10)
    ),
    "avg pool 3-D": (lambda: nn.AvgPool3d(2, ceil_mode=True), (1, 2, 3, 5, 6)),
    "lp pool": (lambda: nn.LPPool2d(2, 3, 2, ceil_mode=True), (2, 3, 8, 9)),
    "lp pool 1-D": (lambda: nn.LPPool1d(1, 2), (2, 3, 8)),
    "adaptive avg": (lambda: nn.AdaptiveAvgPool2d((3, None)), (2, 3, 7, 5)),
    "adaptive avg even": (lambda: nn.AdaptiveAvgPool2d((2, 5)), (2, 3, 6, 5)),
    "adaptive avg same": (lambda: nn.AdaptiveAvgPool2d(None), (2, 3, 6, 5)),
    "adaptive avg 3-D": (lambda: nn.AdaptiveAvgPool3d((1, 2, 4)), (1, 2, 3, 5, 6)),
    "adaptive max": (lambda: nn.AdaptiveMaxPool2d((3, 1)), (2, 3, 7, 5)),
    "adaptive max even": (lambda: nn.AdaptiveMaxPool1d(4), (2, 3, 8)),
    "adaptive max global": (lambda: nn.AdaptiveMaxPool3d(1), (2, 3, 2, 3, 4)),
}  # fmt: skip

ACTIVATIONS = {
    "celu": lambda: nn.CELU(1.7),
    "elu": lambda: nn.ELU(0.3),
    "gelu": lambda: nn.GELU(),
    "gelu by tanh": lambda: nn.GELU("tanh"),
    "hardsigmoid": lambda: nn.Hardsigmoid(),
    "hardswish": lambda: nn.Hardswish(),
    "hardtanh": lambda: nn.Hardtanh(-0.5, 2),
    "logsigmoid": lambda: nn.LogSigmoid(),
    "mish": lambda: nn.Mish(),
    "prelu": lambda: nn.PReLU(3),
    "prelu of one slope": lambda: nn.PReLU(),
    "selu": lambda: nn.SELU(),
    "sigmoid": lambda: nn.Sigmoid(),
    "silu": lambda: nn.SiLU(),
    "softmin": lambda: nn.Softmin(1),
    "softplus": lambda: nn.Softplus(),
    "softplus with a threshold": lambda: nn.Softplus(2, 1),
    "softsign": lambda: nn.Softsign(),
    "tanh": lambda: nn.Tanh(),
}

WEIGHT = values((3, 2, 3, 3), seed=5)
FUNCTIONS = {
    "unbatched conv": (lambda x: F.conv2d(x, WEIGHT), (2, 6, 5), False),
    "unbatched pool": (lambda x: F.adaptive_max_pool2d(F.max_pool2d(x, 2), 2), (2, 9, 8), False),
    "unbatched means": (lambda x: F.lp_pool2d(F.avg_pool2d(x, 2), 2, 2), (2, 9, 8), False),
    "linear of a vector": (lambda x: F.linear(x, WEIGHT.reshape(6, 9)), (9,), False),
    "numbers": (lambda x: 2 - 3 / (1 + x * x) ** 2 + x / 2 - (-x), (2, 3)),
    "broadcasting": (lambda x: x + values((3, 1)) * values((4,)), (2, 3, 4)),
    "functions": (lambda x: fastconv.sqrt(fastconv.log(fastconv.exp(abs(x)) + 1)), (2, 3)),
    "power": (lambda x: 2.0 ** x + abs(x) ** np.array([0.5, 2, 3]), (2, 3)),
    "matmul": (lambda x: x @ values((4, 2)) @ values((3, 2, 5)), (3, 3, 4), False),
    "sums": (lambda x: x.sum(dim=1, keepdim=True) * x.sum(), (2, 3, 4)),
    "means": (lambda x: x.mean(dim=(2, 3)) - x.mean(), (2, 3, 4, 5)),
    "mean over the batch": (lambda x: x - x.mean(dim=0, keepdim=True), (2, 3)),
    "permute": (lambda x: x.permute(0, 2, 3, 1).transpose(1, 2), (2, 3, 4, 5)),
    "reshape": (lambda x: x.reshape(len(x), 2, 2, 3).reshape(-1, 3), (2, 3, 4)),
    "reshape by halves": (lambda x: x.reshape(2 * len(x), 2, -1).reshape(-1, 2, 6), (2, 3, 4)),
    "batch moved": (lambda x: x.reshape(3, len(x), 4).permute(1, 0, 2), (2, 3, 4)),
    "two free sizes": (lambda x: x.reshape(len(x) * 3, len(x) * 4), (1, 12), False),
    "slices": (lambda x: x[:, 1:, ::-2] - x[..., :1, :2], (2, 3, 4)),
    "integers": (lambda x: x[:, -1][..., None, 2:] + x[:, 1, None, 2:], (2, 3, 4)),
    "last of the batch": (lambda x: x[len(x) - 1] + x[:len(x)], (2, 3)),
    "array": (lambda x: x[:, [[0, -1], [2, 0]]], (2, 3, 4)),
    "mask": (lambda x: x[:, np.array([True, False, True]), None, 1:], (2, 3, 4)),
    "unpool": (lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2), (2, 3, 8, 6)),
    "unpool unbatched": (
        lambda x: F.max_unpool1d(*F.max_pool1d(x, 2, return_indices=True), 2, output_size=(9,)),
        (3, 9), False,
    ),
    "transpose asymmetric": (
        lambda x: F.conv_transpose2d(x, WEIGHT, padding=((0, 1), (2, 0))), (2, 3, 4, 5)
    ),
    "cosine similarity": (lambda x: F.cosine_similarity(x, values((3, 1), seed=3)), (2, 3, 4)),
    "cosines": (lambda x: F.cosine_similarity(x, values((3, 4), seed=3), dim=-1), (2, 3, 4)),
    "pixels of five axes": (lambda x: F.pixel_shuffle(x, 2) * 2, (2, 3, 4, 3, 5)),
    "pixels of three axes": (lambda x: F.pixel_unshuffle(x, 2), (3, 4, 6), False),
    "places of maxima": (lambda x: F.max_pool2d(x, 3, 2, 1, return_indices=True), (2, 3, 8, 9)),
    "places of maxima alone": (
        lambda x: F.adaptive_max_pool2d(x[:, :2], (2, 3), return_indices=True)[1], (2, 3, 8, 9)
    ),
    "unbatched places": (lambda x: F.max_pool2d(x, 2, return_indices=True), (3, 8, 9), False),
    "a constant too": (lambda x: (x + 1, Tensor(np.arange(3))), (2, 3)),
    "nothing": (lambda x: x[...], (2, 3)),
    "concatenation": (lambda x: fastconv.cat([x, x * 2, np.ones((2, 1), np.float32)], 1), (2, 3),
                      False),
    "stack": (lambda x: fastconv.stack([x, x + 1], 1), (2, 3)),
    "pads": (lambda x: F.pad(x, (1, 2, 0, 1), mode="reflect"), (2, 3, 4)),
    "training batch norm": (
        lambda x: F.batch_norm(x, None, None, training=True, activation="relu6"), (4, 3, 5)
    ),
    "cast": (lambda x: (x * 3).astype(np.int64) * 2 + x.astype(np.float64), (2, 3)),
}  # fmt: skip


def rule(function, /, *inputs, **options):
    """A call of a rule of the tensor operators; lists are arrays of int64."""
    inputs = [np.array(x, np.int64) if isinstance(x, list) else x for x in inputs]
    return apply(function, *inputs, **options)


def integers(x):
    return (x * 10).astype(np.int64)


def sizes(x, *parts):
    """A vector of the input's size along some axes, and of constants, as a graph computes it."""
    shape = rule(arrays._shape, x)
    return fastconv.cat(
        [
            p if isinstance(p, Tensor) else np.array([p])
            for p in [
                shape[int(p[1:]) : int(p[1:]) + 1] if isinstance(p, str) else p for p in parts
            ]
        ]
    )


TENSORS = {
    "shape": lambda x: rule(arrays._shape, x),
    "view": lambda x: rule(arrays._view, x, sizes(x, "_0", -1)),
    "view zero keeps": lambda x: rule(arrays._view, x, [0, 2, -1]),
    "matrix": lambda x: rule(arrays._matrix, x, axis=2),
    "squeeze": lambda x: rule(arrays._squeeze, x[:, :1, :1], [1]),
    "squeeze all": lambda x: rule(arrays._squeeze, x[:, :1, :1], None),
    "unsqueeze": lambda x: rule(arrays._unsqueeze, x, [0, -1]),
    "expand": lambda x: rule(arrays._expand, x[:, :1], sizes(x, "_0", 3, "_2", 1)),
    "tile": lambda x: rule(arrays._tile, x, [1, 2, 1, 3]),
    "depth to space": lambda x: rule(arrays._depth_to_space, x, block=2, depth_first=True),
    "pixels": lambda x: rule(arrays._depth_to_space, x, block=2, depth_first=False),
    "space to depth": lambda x: rule(
        arrays._space_to_depth, x[..., :4], block=2, depth_first=True
    ),
    "pixels back": lambda x: rule(arrays._space_to_depth, x[..., :4], block=2, depth_first=False),
    "slice": lambda x: rule(arrays._slice, x, [-1, 0], [-9, 2], [1, 3], [-2, 1]),
    "slice by sizes": lambda x: rule(arrays._slice, x, [0], sizes(x, "_2"), [3]),
    "parts": lambda x: rule(arrays._part, x, [1, 3], axis=1, part=1)
    - rule(arrays._part, x, [1, 3], axis=1, part=0),
    "chunks": lambda x: rule(arrays._chunk, x, axis=3, part=1, parts=2),
    "chunks of the batch": lambda x: rule(arrays._chunk, x, axis=0, part=1, parts=2),
    "gather": lambda x: rule(arrays._gather, x, [[0, -1], [1, 1]], axis=2),
    "gather elements": lambda x: rule(
        arrays._gather_elements, x, rule(reductions._arg, x, function="max", axis=1, keepdim=True),
        axis=1,
    ),
    "gather n-d": lambda x: rule(arrays._gather_nd, x, [[0, 1], [1, 2]]),
    "scatter elements": lambda x: rule(
        arrays._scatter_elements, x, np.zeros((1, 1, 2, 2), int), np.ones((1, 1, 2, 2), x.dtype),
        axis=2, reduction="add",
    ),
    "scatter n-d": lambda x: rule(
        arrays._scatter_nd, x, [[0, 1], [1, 2]], np.ones((2, 4, 5), x.dtype), reduction="none"
    ),
    "compress": lambda x: rule(arrays._compress, x, np.array([True, False, True, True]), axis=1),
    "nonzero": lambda x: rule(arrays._nonzero, F.relu(x)),
    "triangle": lambda x: rule(arrays._triangle, x, np.array(-1), upper=True),
    "full": lambda x: rule(arrays._full, sizes(x, "_0", 2), np.float32([1.5])),
    "range": lambda x: rule(arrays._range, np.array(1), sizes(x, "_3"), np.array([2])),
    "one hot": lambda x: rule(
        arrays._one_hot, rule(reductions._arg, x, function="min", axis=1, keepdim=False), [4],
        np.float32([0.5, 2]), axis=1,
    ),
    "eye": lambda x: rule(arrays._eye, x[0, 0], k=1, dtype=np.int64),
    "comparison": lambda x: rule(
        pointwise._where, rule(pointwise._binary, x, 0.5, function="greater"), x, 3
    ),
    "clip": lambda x: fastconv.clamp(x, -1, 0.5),
    "clip by arrays": lambda x: fastconv.clamp(x, np.float32([[-1], [0], [0], [1]]), np.float32(2)),
    "larger": lambda x: fastconv.maximum(fastconv.minimum(x, 0.5), -x),
    "mod": lambda x: rule(pointwise._binary, x, np.float32(-0.7), function="mod"),
    "fmod": lambda x: rule(pointwise._binary, x, np.float32(-0.7), function="fmod"),
    "whole": lambda x: rule(pointwise._binary, integers(x), [3], function="mod")
    * rule(pointwise._binary, integers(x), [3], function="divide_integers"),
    "pads": lambda x: rule(
        _pad_arrays, x, [1, 0, 2, -1], np.float32(2), [-1, 1], mode="constant"
    ),
    "pads by mode": lambda x: rule(
        _pad_arrays, x, [0, 0, 0, 2, 0, 0, 1, 1], np.float32(0), None, mode="edge"
    ),
    "determinant": lambda x: rule(reductions._determinant, x[..., :4]),
    "pool by pairs": lambda x: rule(
        pool._max_rule, x, n=2, options=((3, 2), (2, 2), ((0, 2), (1, 0)), 1, False)
    )[0],
    "pool of same size": lambda x: rule(
        pool._avg_rule, x, n=2, options=(3, 2, "same_lower", 1, False, False), divisor=None
    ),
    "conv of same size": lambda x: F.conv2d(x[:, :2], WEIGHT, stride=2, padding="same_upper"),
    "logic": lambda x: rule(
        pointwise._binary, rule(pointwise._unary, x, function="isnan"),
        rule(pointwise._binary, x, x, function="equal"), function="or",
    ),
    "argmax": lambda x: rule(reductions._arg, x, function="max", axis=-1, keepdim=False, last=True),
    "top": lambda x: rule(reductions._top, x, [2], axis=1, largest=True),
    "running": lambda x: rule(
        reductions._cumulative_sum, x, np.array(1), exclusive=True, reverse=True
    ),
    "einsum": lambda x: rule(reductions._einsum, x, x, equation="nchw,ncij->nhi"),
}  # fmt: skip
for function in ("cos", "erf", "floor", "round", "sign", "tan", "isinf", "isneginf", "isposinf"):
    TENSORS[function] = functools.partial(rule, pointwise._unary, function=function)


def test_pads_of_all_opsets(tmp_path):
    def model(x):
        return rule(_pad_arrays, x, [1, 2], np.float32(0), [2], mode="wrap")

    check(tmp_path, model, values((2, 3, 4)), opset=19)
    with pytest.raises(ValueError, match="'wrap' needs opset=19"):
        check(tmp_path, model, values((2, 3, 4)))


@pytest.mark.parametrize("name", TENSORS)
def test_tensor_operator(tmp_path, name):
    shape = (4, 4, 4, 5)
    dynamic = name not in ("gather n-d",)
    others = [(values((6, *shape[1:]), seed=1),)] if dynamic else []
    check(tmp_path, lambda x: TENSORS[name](x), values(shape), others=others, dynamic=dynamic)


@pytest.mark.parametrize("opset", [17, 18])
@pytest.mark.parametrize("function", reductions.REDUCTIONS)
def test_reduction(tmp_path, function, opset):
    def model(x):
        whole = rule(reductions._reduce, x, None, function=function, keepdim=False)
        return whole, rule(reductions._reduce, x, [1, -1], function=function, keepdim=True)

    example, other = np.abs(values((2, 3, 4))), np.abs(values((4, 3, 4)))
    check(tmp_path, model, example, others=[(other,)], opset=opset)


@pytest.mark.parametrize("name", LAYERS)
def test_layer(tmp_path, name):
    make, shape = LAYERS[name]
    other = values((shape[0] + 3, *shape[1:]), seed=1)
    proto = check(tmp_path, randomised(make()), values(shape), others=[(other,)])
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"


RESIZED = {
    "nearest": {"size": (7, 9)},
    "nearest by 2.5": {"scale_factor": 2.5},
    "nearest by 0.6": {"scale_factor": (0.6, 0.45)},
    "nearest-exact": {"size": (7, 3)},
    "nearest-exact by 1.7": {"scale_factor": 1.7},
    "bilinear": {"size": (3, 11)},
    "bilinear by 1.3": {"scale_factor": 1.3},
    "bilinear recomputed": {"scale_factor": 1.3, "recompute_scale_factor": True},
    "bilinear aligned": {"size": (9, 1), "align_corners": True},
    "bicubic": {"size": (9, 4)},
    "bicubic aligned": {"scale_factor": (0.5, 2.3), "align_corners": True},
    "area": {"size": (2, 3)},
    "bilinear antialiased": {"size": (3, 4), "antialias": True},
    "bicubic antialiased": {"size": (3, 4), "antialias": True},
}


@pytest.mark.parametrize("name", RESIZED)
def test_resizing(tmp_path, name):
    def resize(x):
        return F.interpolate(x, mode=name.split()[0], **RESIZED[name])

    example, other = values((2, 3, 5, 7)), values((3, 3, 5, 7), seed=1)
    check(tmp_path, resize, example, others=[(other,)], opset=18)
    if "antialiased" not in name:
        check(tmp_path, resize, example, others=[(other,)])


@pytest.mark.parametrize("opset", [17, 20])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation(tmp_path, name, opset):
    x, other = 4 * values((2, 3, 4, 5)), 4 * values((5, 3, 4, 5), seed=1)
    check(tmp_path, randomised(ACTIVATIONS[name]()), x, others=[(other,)], opset=opset)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function(tmp_path, name):
    function, shape, *dynamic = FUNCTIONS[name]
    dynamic = all(dynamic)
    others = [(values((shape[0] + 3, *shape[1:]), seed=1),)] if dynamic else []
    check(tmp_path, function, values(shape), others=others, dynamic=dynamic)


# Models -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opset", [17, 18, 21, onnx.defs.onnx_opset_version()])
@pytest.mark.parametrize("name", ["resnet 1", "resnet 2", "resnet 3", "lenet"])
def test_model(tmp_path, name, opset):
    if name == "lenet":
        model, shape = fastconv.models.lenet(1, 10), (1, 1, 20, 22)
    else:
        n = int(name[-1])
        model = fastconv.models.resnet(3, 5, widths=(4, 8), blocks=1, spatial_dims=n)
        shape = (2, 3, *(9, 8, 7)[:n])
    others = [(values((n, *shape[1:]), seed=n),) for n in (1, 2, 7)]
    proto = check(tmp_path, randomised(model), values(shape), others=others, opset=opset)
    assert [(o.domain, o.version) for o in proto.opset_import] == [("", opset)]
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer}
    state = {k: v for k, v in model.state_dict().items() if "num_batches" not in k}
    for key, array in state.items():
        np.testing.assert_array_equal(stored[key], array)
    assert set(stored) - set(state) <= {"constant", "constant_1"}
    assert proto.producer_name == "fastconv"
    assert proto.producer_version == fastconv.__version__
    names = [node.name for node in proto.graph.node]
    assert len(set(names)) == len(names)
    assert "0/Conv" in names


class TwoPaths(nn.Module):
    """Several inputs and outputs, one weight used twice, an input that is also an output."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)
        self.second.weight = self.first.weight

    def forward(self, a, b):
        y = F.relu(self.first(a))
        return y, self.second(y) + b, b, y


def test_several_inputs_and_outputs_and_shared_weights(tmp_path):
    a, b = values((2, 4)), values((2, 1), seed=1)
    others = [(values((5, 4)), values((5, 1)))]
    proto = check(
        tmp_path, TwoPaths(), a, b, others=others,
        input_names=["a", "b"], output_names=["y", "z", "same", "again"],
    )  # fmt: skip
    assert [value.name for value in proto.graph.input] == ["a", "b"]
    assert [value.name for value in proto.graph.output] == ["y", "z", "same", "again"]
    stored = [tensor.name for tensor in proto.graph.initializer]
    assert sorted(stored) == ["first.bias", "first.weight", "second.bias"]
    proto = check(tmp_path, TwoPaths(), a, b, dynamic=False)
    assert [value.name for value in proto.graph.input] == ["input_0", "input_1"]
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 2


def random_network(rng):
    """Layers that fit each other, chosen at random."""
    channels, layers = 3, []
    for _ in range(rng.integers(2, 6)):
        wider = int(rng.choice([2, 4, 8]))
        kernel, stride = int(rng.integers(1, 4)), int(rng.integers(1, 3))
        groups = 2 if channels % 2 == 0 and rng.random() < 0.4 else 1
        conv = nn.Conv2d(channels, wider, kernel, stride, padding=1, groups=groups)
        main = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.ReLU6())
        stages = (
            [conv],
            [conv, nn.BatchNorm2d(wider), nn.ReLU()],
            [conv, nn.ReLU(), nn.MaxPool2d(kernel, 1)],
            [conv, nn.LeakyReLU(), nn.AvgPool2d(2, 1)],
            [nn.Residual(main), conv],
        )
        layers += stages[rng.integers(5)]
        channels = wider
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * channels, 3))


@pytest.mark.parametrize("seed", range(8))
def test_random_network(tmp_path, seed):
    model = randomised(random_network(np.random.default_rng(seed)), seed)
    check(tmp_path, model, values((2, 3, 24, 20)), others=[(values((3, 3, 24, 20), seed=9),)])


def random_pool(rng):
    """A pool of images of 9 x 8 with random options."""
    kernel = [int(k) for k in rng.integers(1, 5, 2)]
    stride = [int(s) for s in rng.integers(1, 5, 2)]
    padding = [int(rng.integers(0, k // 2 + 1)) for k in kernel]
    ceil = bool(rng.integers(2))
    kind = rng.integers(4)
    if kind == 0:
        dilation = int(rng.integers(1, 3))
        return lambda x: F.max_pool2d(x, kernel, stride, padding, dilation, ceil)
    if kind == 1:
        include, divisor = bool(rng.integers(2)), [None, 3][rng.integers(2)]
        return lambda x: F.avg_pool2d(x, kernel, stride, padding, ceil, include, divisor)
    if kind == 2:
        return lambda x: F.lp_pool2d(x, 2, kernel, stride, ceil)
    size = [int(n) for n in rng.integers(1, 9, 2)]
    return [
        lambda x: F.adaptive_avg_pool2d(x, size),
        lambda x: F.adaptive_max_pool2d(x, size),
    ][rng.integers(2)]


@pytest.mark.parametrize("seed", range(3))
def test_random_pools(tmp_path, seed):
    rng = np.random.default_rng(seed)
    pools = [random_pool(rng) for _ in range(40)]
    x, other = values((1, 2, 9, 8)), values((2, 2, 9, 8), seed=1)
    check(tmp_path, lambda x: tuple(pool(x) for pool in pools), x, others=[(other,)])


def random_index(rng, sizes):
    """An index of an array of these sizes, behind the batch."""
    parts, array = [], rng.random() < 0.3  # either one array or integers
    for place, n in enumerate(sizes[: rng.integers(len(sizes) + 1)]):
        if array and place == 1:
            parts.append(rng.integers(-n, n, rng.integers(1, 3, rng.integers(1, 3))))
        elif not array and rng.random() < 0.3:
            parts.append(int(rng.integers(-n, n)))
        else:
            start, stop = (None if rng.random() < 0.3 else int(rng.integers(-n, n)) for _ in "ab")
            parts.append(slice(start, stop, [None, 1, 2, -1, -3][rng.integers(5)]))
        if rng.random() < 0.2:
            parts.append(None)
    return (slice(None), *parts) if rng.random() < 0.7 else (Ellipsis, *parts[:3])


@pytest.mark.parametrize("seed", range(3))
def test_random_indices(tmp_path, seed):
    rng = np.random.default_rng(seed)
    x, other = values((5, 5, 5, 5)), values((6, 5, 5, 5), seed=1)
    indices = [random_index(rng, (5, 5, 5)) for _ in range(60)]
    usable = [index for index in indices if x[index].size and other[index].size]
    assert len(usable) > 20
    check(tmp_path, lambda x: tuple(x[index] for index in usable), x, others=[(other,)])


def test_inputs_of_integers(tmp_path):
    model = nn.Linear(4, 6, bias=False)

    class Embedding(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = model

        def forward(self, words, factor):
            return rule(arrays._gather, self.table.weight, words, axis=0) * factor

    words, factor = np.array([[0, 5, 2]]), np.float32([[[2]]])
    others = [(np.array([[1, 1, 0], [3, 4, 5]]), np.float32([[[2]], [[3]]]))]
    proto = check(tmp_path, Embedding(), words, factor, others=others)
    assert [tensor.name for tensor in proto.graph.initializer] == ["table.weight"]


def test_float64(tmp_path):
    """By ONNX's reference evaluator: ONNX Runtime has convolutions for float32 only."""
    model = fastconv.models.resnet(2, 3, widths=(4,), blocks=1).double()
    evaluator = importlib.import_module("onnx.reference").ReferenceEvaluator
    proto = check(
        tmp_path,
        randomised(model),
        values((2, 2, 6, 5), np.float64),
        run=lambda path: evaluator(str(path)),
    )
    assert {t.data_type for t in proto.graph.initializer} == {onnx.TensorProto.DOUBLE}


def test_dynamic_images(tmp_path):
    model = randomised(fastconv.models.resnet(3, 5, widths=(4, 8), blocks=1))
    others = [(values((3, 3, 11, 30)),), (values((1, 3, 8, 8)),)]
    axes = {"input": {0: "N", 2: "height", 3: "width"}}
    check(tmp_path, model, values((1, 3, 16, 12)), others=others, dynamic=axes)
    rows = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.MaxPool2d(2))

    def pixels(x):
        x = rows(x)
        return x.reshape(len(x), 4, -1).permute(0, 2, 1) + len(x)

    others = [(values((3, 2, 12, 30)),)]
    check(tmp_path, pixels, values((1, 2, 16, 12)), others=others, dynamic=axes)


def test_equal_models_give_equal_bytes(tmp_path):
    paths = tmp_path / "a.onnx", tmp_path / "b.onnx"
    for path in paths:
        model = randomised(fastconv.models.lenet(1, 3, (2, 3), 4))
        fastconv.onnx.save(model, path, values((1, 1, 12, 12)))
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_the_model_is_left_as_it_was(tmp_path):
    model = fastconv.models.resnet(3, 5, widths=(4,), blocks=1)
    before = {name: array.copy() for name, array in model.state_dict().items()}
    fastconv.onnx.save(model, tmp_path / "a.onnx", values((2, 3, 8, 8)))
    assert all(module.training for module in model.modules())
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


# There and back -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lenet", "resnet"])
def test_a_written_model_is_read(tmp_path, name):
    model = randomised(fastconv.models.build(name, {"in_channels": 1, "num_classes": 3})).eval()
    x = values((2, 1, 12, 14))
    check(tmp_path, model, x, input_names=["image"], output_names=["logits"])
    read = fastconv.onnx.load(tmp_path / "model.onnx")
    assert_close(read(x), model(x))
    own = {k: v for k, v in model.state_dict().items() if "num_batches" not in k}
    for key, array in read.state_dict().items():
        if not key.startswith("constant"):
            np.testing.assert_array_equal(array, own.pop(key))
    assert own == {}
    proto = check(tmp_path, read, x, others=[(values((5, 1, 12, 14)),)])
    assert [value.name for value in proto.graph.input] == ["image"]
    assert [value.name for value in proto.graph.output] == ["logits"]


def test_shapes_that_a_graph_computes_stay_computed(tmp_path):
    make, info = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    nodes = [
        make("Shape", ["x"], ["sizes"]),
        make("Gather", ["sizes", "zero"], ["n"]),
        make("Concat", ["n", "rest"], ["shape"], axis=0),
        make("Reshape", ["x", "shape"], ["y"]),
    ]
    constants = {"zero": np.array([0]), "rest": np.array([2, -1])}
    tensors = [onnx.numpy_helper.from_array(array, key) for key, array in constants.items()]
    x, y = (info(name, onnx.TensorProto.FLOAT, ["n", *[None] * 2]) for name in "xy")
    graph = onnx.helper.make_graph(nodes, "shapes", [x], [y], tensors)
    opsets = [onnx.helper.make_opsetid("", 17)]
    read = fastconv.onnx.load(
        onnx.helper.make_model(graph, opset_imports=opsets).SerializeToString()
    )
    axes = {"x": {0: "n", 1: "height", 2: "width"}}
    proto = check(
        tmp_path, read, values((2, 4, 3)), others=[(values((3, 6, 5)),)], dynamic=axes
    )  # fmt: skip
    assert "Shape" in operators(proto)


@pytest.mark.parametrize(
    ("name", "dynamic"),
    [
        ("cifar10_resnet20_op13", True),
        ("mnist", False),
        ("superres_core_op11", True),
        ("yunet_n_320_320", False),
    ],
)
def test_real_models_go_round(tmp_path, shared_data, name, dynamic):
    """What the graph computes is the same, bit by bit or nearly."""
    path = shared_data / "models" / f"{name}.onnx"
    if not path.is_file():
        pytest.skip(f"there is no {path}")
    original = session(path)
    (given,) = original.get_inputs()
    shape = [n if isinstance(n, int) else 1 for n in given.shape]
    x = np.random.default_rng(0).random(shape, np.float32)
    fastconv.onnx.save(fastconv.onnx.load(path), tmp_path / "a.onnx", x, dynamic=dynamic)
    written = session(tmp_path / "a.onnx")
    assert [v.name for v in written.get_inputs()] == [given.name]
    names = [v.name for v in original.get_outputs()]
    assert [v.name for v in written.get_outputs()] == names
    inputs = [x, np.concatenate([x, x])] if dynamic else [x]
    for x in inputs:
        truth = original.run(None, {given.name: x})
        for found, y in zip(written.run(None, {given.name: x}), truth, strict=True):
            assert_close(found, y)


def operator_models():
    loader = importlib.import_module("onnx.backend.test.loader")
    return {case.name: case.model_dir for case in loader.load_model_tests(kind="pytorch-operator")}


@pytest.mark.parametrize("name", operator_models())
def test_models_of_onnx_go_round(tmp_path, name):
    folder = Path(operator_models()[name])
    read = fastconv.onnx.load(folder / "model.onnx")
    data = {
        kind: [
            onnx.numpy_helper.to_array(onnx.load_tensor(path))
            for path in sorted((folder / "test_data_set_0").glob(f"{kind}_*.pb"))
        ]
        for kind in ("input", "output")
    }
    inputs = data["input"][: len(read.input_names)]
    fastconv.onnx.save(read, tmp_path / "a.onnx", tuple(inputs), dynamic=False)
    found = session(tmp_path / "a.onnx").run(None, dict(zip(read.input_names, inputs, strict=True)))
    for result, truth in zip(found, data["output"], strict=True):
        assert_close(result, truth)


# The command line ---------------------------------------------------------------------------------


def exported(tmp_path, *arguments):
    path = tmp_path / "net.onnx"
    assert main(["export", *map(str, arguments), "--output", str(path)]) == 0
    return path


def test_export_command(tmp_path, capsys):
    arguments = {"in_channels": 2, "num_classes": 3, "widths": (4,), "blocks": 1}
    model = randomised(fastconv.models.build("resnet", arguments)).eval()
    fastconv.save(model, tmp_path / "net.npz")
    path = exported(tmp_path, tmp_path / "net.npz", "--size", "12,10", "--opset", 18)
    assert onnx.load(path).opset_import[0].version == 18
    x = values((3, 2, 12, 10))
    assert_close(session(path).run(None, {"input": x})[0], model(x))
    assert main(["export", str(tmp_path / "net.npz"), "--output", str(path)]) == 2
    assert "give --size" in capsys.readouterr().err
    classes, image = ("a", "b", "c"), {"channels": 2, "size": (9, 8), "mean": (0, 1), "std": (1, 2)}
    Classifier(model, classes, **image).save(tmp_path / "net.safetensors")
    proto = onnx.load(exported(tmp_path, tmp_path / "net.safetensors"))
    sizes = [d.dim_param or d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim]
    assert sizes == ["batch", 2, 9, 8]
    ((entry),) = proto.metadata_props
    assert json.loads(entry.value)["classes"] == ["a", "b", "c"]


# What cannot be written ---------------------------------------------------------------------------


def by_batch(x):
    return x * 2 if len(x) > 2 else x + 1


def fixed_sizes(x):
    return x.reshape(2, 12)


CANNOT = {
    "a loss": (lambda x: F.cross_entropy(x, np.zeros(2, np.int64)), {"dynamic": False},
               "_pick_rule, which cannot be exported: a loss"),
    "dropout": (lambda x: F.dropout(x), {}, "_dropout_rule.*random numbers"),
    "a decision": (by_batch, {}, "something else for other lengths.*batch"),
    "fixed sizes": (lambda x: x.reshape(2, 3), {}, "another length of the dynamic axis 'batch'"),
    "a constant": (lambda x: x + np.zeros((2, 1), np.float32), {}, "another length"),
    "half": (lambda x: x[: len(x) // 2], {}, "_index.*2 for the example|_index.*not linear"),
    "arrays": (lambda x: x[[0, 1], [1, 0]], {}, "_index.*several arrays"),
    "a plain array": (lambda x: x + np.exp(x.data), {}, "plain array|something else"),
    "names": (abs, {"input_names": ["x"], "output_names": ["x"]}, "'x' is that of two values"),
    "count": (abs, {"input_names": ["x", "y"]}, "input_names must be 1 different"),
    "old opset": (abs, {"opset": 16}, "opset must be at least 17, got 16"),
    "new opset": (abs, {"opset": 999}, "opset must be at most"),
    "axis": (abs, {"dynamic": {"input": {2: "n"}}}, "dynamic must be in"),
    "input": (abs, {"dynamic": {"x": {0: "n"}}}, "dynamic must map names of inputs .input."),
}  # fmt: skip


@pytest.mark.parametrize("name", CANNOT)
def test_what_cannot_be_written(tmp_path, name):
    function, options, message = CANNOT[name]
    with pytest.raises(ValueError, match=message):
        fastconv.onnx.save(function, tmp_path / "a.onnx", values((2, 3)), **options)
    assert os.listdir(tmp_path) == []


def test_bad_arguments(tmp_path):
    path = tmp_path / "a.onnx"
    with pytest.raises(TypeError, match="example must be an ndarray"):
        fastconv.onnx.save(abs, path, [[1.0]])
    with pytest.raises(TypeError, match="model must be a Module"):
        fastconv.onnx.save("net", path, values((2, 3)))
    with pytest.raises(TypeError, match="dynamic must be True"):
        fastconv.onnx.save(abs, path, values((2, 3)), dynamic=3)
    with pytest.raises(ValueError, match=r"'batch' must have one length.*\[2, 3\]"):
        fastconv.onnx.save(lambda a, b: a @ b, path, (values((2, 3)), values((3, 4))))
    with pytest.raises(ValueError, match="one length of at least 1"):
        fastconv.onnx.save(abs, path, values((0, 3)))
    with pytest.raises(TypeError, match="metadata must be a dict"):
        fastconv.onnx.save(abs, path, values((2, 3)), metadata={"a": 1})
    with pytest.raises(FileNotFoundError):
        fastconv.onnx.save(abs, tmp_path / "none" / "a.onnx", values((2, 3)))
    with pytest.raises(ValueError, match="'weight' is that of two values"):
        fastconv.onnx.save(nn.Linear(3, 2), path, values((2, 3)), input_names="weight")
    assert os.listdir(tmp_path) == []


def test_too_large_a_model(tmp_path, monkeypatch):
    monkeypatch.setattr(builder, "MOST_BYTES", 100)
    with pytest.raises(ValueError, match="less than 2 GB"):
        fastconv.onnx.save(nn.Linear(30, 2), tmp_path / "a.onnx", values((2, 30)))
    assert os.listdir(tmp_path) == []


def test_a_users_rule_is_named(tmp_path):
    def triple_rule(needs, x):
        return 3 * x, lambda g: (3 * g,)

    with pytest.raises(ValueError, match="triple_rule, which cannot be exported"):
        fastconv.onnx.save(lambda x: apply(triple_rule, x), tmp_path / "a.onnx", values((2, 3)))
