"""The same bits: from run to run, for any number of threads, for an image alone and in a batch."""

import numpy as np
import pytest
from conftest import POINTWISE, forward_backward, python, vectors

import fastconv
import fastconv.functional as F
from fastconv import nn

IMAGES = 5


def convolution(channels, outputs, kernel, groups=1, size=(19, 22), **options):
    """(a function of images, the shape of one)."""
    weight = np.random.default_rng(1).standard_normal((outputs, channels // groups, *kernel))
    bias = np.linspace(-1, 1, outputs)

    def function(x, algorithm):
        w, b = weight.astype(x.dtype), bias.astype(x.dtype)
        convolve = (F.conv1d, F.conv2d, F.conv3d)[len(kernel) - 1]
        return convolve(x, w, b, groups=groups, algorithm=algorithm, **options)

    return function, (channels, *size)


def transposed(channels, outputs, kernel, size=(9, 11), **options):
    weight = np.random.default_rng(1).standard_normal((channels, outputs, *kernel))

    def function(x, algorithm):
        return F.conv_transpose2d(x, weight.astype(x.dtype), algorithm=algorithm, **options)

    return function, (channels, *size)


CONVOLUTIONS = {
    "3x3": convolution(16, 24, (3, 3), padding=1),
    "3x3 of many channels": convolution(200, 40, (3, 3), size=(9, 7), padding=1),
    "3x3 of stride 2": convolution(16, 16, (3, 3), stride=2, padding=1),
    "5x5": convolution(16, 20, (5, 5), padding=2),
    "1x1": convolution(33, 50, (1, 1), size=(7, 9)),
    "1x1 of stride 2": convolution(24, 16, (1, 1), stride=2),
    "dilated": convolution(16, 17, (3, 3), dilation=2),
    "few inputs": convolution(3, 16, (7, 7), size=(40, 45), stride=2, padding=3),
    "few outputs": convolution(32, 2, (5, 5), padding=2),
    "one channel": convolution(1, 1, (5, 5), size=(31, 50), padding=2),
    "one channel, wide": convolution(1, 1, (3, 3), size=(5, 2500), padding=1),
    "depthwise": convolution(24, 24, (3, 3), groups=24, padding=1),
    "depthwise, few taps apart": convolution(24, 24, (3, 2), groups=24, dilation=(1, 3)),
    "pairs": convolution(32, 32, (3, 3), groups=16, padding=1),
    "wide groups": convolution(48, 40, (3, 3), groups=4, padding=1),
    "signals": convolution(16, 16, (3,), size=(150,), padding=1),
    "volumes": convolution(16, 16, (3, 3, 3), size=(5, 6, 7), padding=1),
    "small": convolution(2, 3, (3, 3), size=(5, 4)),
    "transposed": transposed(16, 24, (3, 3), stride=2, padding=1),
    "transposed 4x4": transposed(17, 8, (4, 4), stride=2, padding=1),
}


def images(shape, dtype, count=IMAGES):
    return np.random.default_rng(0).standard_normal((count, *shape)).astype(dtype)


SOME = [slice(0, 1), slice(1, 2), slice(2, 4), slice(4, 5)]


def same(a, b):
    return np.ascontiguousarray(a).tobytes() == np.ascontiguousarray(b).tobytes()


def assert_rows_are_images(function, x):
    """Of results and, for the same rows, of gradients by input."""
    grad = np.random.default_rng(3).standard_normal(function(x).shape).astype(x.dtype)
    whole, (dx,) = forward_backward(function, x, grad=grad)
    for some in SOME:
        part, (part_dx,) = forward_backward(function, x[some], grad=grad[some])
        assert same(part, whole[some])
        assert same(part_dx, dx[some])


@vectors
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_convolutions_of_a_batch_are_those_of_its_images(case, dtype):
    function, shape = CONVOLUTIONS[case]
    x = images(shape, dtype)
    for algorithm in ("direct", "winograd"):
        assert_rows_are_images(lambda x, name=algorithm: function(x, name), x)


@vectors
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_auto_is_one_of_the_others(case, dtype):
    """It may be another one for an image alone: docs/threads.md says so."""
    function, shape = CONVOLUTIONS[case]
    x = images(shape, dtype)
    for some in (x, x[:1]):
        if case != "small":
            others = [function(some, name) for name in ("direct", "winograd")]
            assert any(same(function(some, "auto"), other) for other in others)


NETWORKS = {
    "many channels": (nn.Conv2d(256, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 256, 3)),
    "strided": (nn.Conv2d(256, 48, 3, 2, padding=1), nn.SiLU(), nn.Conv2d(48, 32, 5, padding=2)),
    "mixed": (
        nn.Conv2d(256, 256, 3, groups=256),
        nn.BatchNorm2d(256),
        nn.ReLU(),
        nn.Conv2d(256, 24, 1),
        nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    ),
}


@vectors
@pytest.mark.parametrize("algorithm", ["direct", "winograd"])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_in_evaluation_mode_and_their_plans(name, algorithm):
    """Their weights are kept as kernels read them, for batches of all sizes."""
    net = nn.Sequential(*NETWORKS[name]).eval()
    x = images((256, 9, 10), np.float32)
    with fastconv.algorithm(algorithm):
        plan = fastconv.compile(net, x)
        for function in (net, plan):
            whole = function(x)
            for some in SOME:
                assert same(function(x[some]), whole[some])


@vectors
@pytest.mark.parametrize("algorithm", ["direct", "winograd"])
@pytest.mark.parametrize("name", NETWORKS)
def test_more_threads_than_tasks_or_ranges_of_them(name, algorithm, keep_threads):
    """``kernels/shares.h`` has ranges for 64."""
    net = nn.Sequential(*NETWORKS[name]).eval()
    x = images((256, 9, 10), np.float32)
    with fastconv.algorithm(algorithm):
        whole = net(x)
        for count in (3, 64, 71):
            fastconv.set_num_threads(count)
            assert same(net(x), whole)


@vectors
def test_a_plan_that_takes_a_few_images_at_a_time():
    """Where all would leave the cache."""
    net = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 4, 3, padding=1))
    x = images((3, 200, 160), np.float32)
    with fastconv.algorithm("direct"):
        plan = fastconv.compile(net, x)
        assert len(plan._program([x.shape]).stages) == 2
        for some in SOME:
            assert same(plan(x[some]), plan(x)[some])


def norm(function, **options):
    def normalised(x):
        channels = x.shape[1]
        weight, bias = np.linspace(0.5, 2, channels), np.linspace(-1, 1, channels)
        return function(x, weight=weight.astype(x.dtype), bias=bias.astype(x.dtype), **options)

    return normalised


def evaluated(x):
    mean = np.linspace(-1, 1, x.shape[1]).astype(x.dtype)
    return F.batch_norm(x, mean, mean * mean + 1)


OTHERS = {
    "batch_norm": evaluated,
    "group_norm": norm(F.group_norm, num_groups=3),
    "instance_norm": norm(F.instance_norm),
    "layer_norm": lambda x: F.layer_norm(x, x.shape[1:]),
    "max_pool2d": lambda x: F.max_pool2d(x, 3, 2, padding=1),
    "avg_pool2d": lambda x: F.avg_pool2d(x, 3, 2, padding=1),
    "lp_pool2d": lambda x: F.lp_pool2d(x, 3.0, 2),
    "adaptive_avg_pool2d": lambda x: F.adaptive_avg_pool2d(x, (5, 4)),
    "adaptive_max_pool2d": lambda x: F.adaptive_max_pool2d(x, (5, 4)),
    "bilinear": lambda x: F.interpolate(x, (31, 17), mode="bilinear"),
    "bicubic": lambda x: F.interpolate(x, (11, 17), mode="bicubic", antialias=True),
    "nearest": lambda x: F.interpolate(x, scale_factor=2),
    "reflect": lambda x: F.pad(x, (1, 2, 3, 4), mode="reflect"),
    "unfold": lambda x: F.unfold(x, 3, padding=1),
    "softmax": lambda x: F.softmax(x, 1),
    "log_softmax": lambda x: F.log_softmax(x, 1),
    "prelu": lambda x: F.prelu(x, np.linspace(0, 1, x.shape[1]).astype(x.dtype)),
    "mean": lambda x: x.mean(axis=(2, 3)) if isinstance(x, np.ndarray) else x.mean(dim=(2, 3)),
    **{name: getattr(F, name) for name in POINTWISE},
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", OTHERS)
def test_other_operators_of_a_batch_are_those_of_its_images(name, dtype):
    assert_rows_are_images(OTHERS[name], images((12, 21, 23), dtype))


# A whole run

TRAINING = """
import hashlib, json, sys
import numpy as np
import fastconv
from fastconv.data import Dataset
from fastconv.training import Options, Trainer

def run(threads):
    fastconv.set_num_threads(threads)
    rng = np.random.default_rng(0)
    x = rng.integers(0, 255, (90, 3, 24, 22)).astype(np.uint8)
    data = Dataset(x, x.mean(axis=(1, 2, 3)).astype(np.int64) % 3, ("a", "b", "c"))
    options = Options(epochs=2, batch_size=30, flip=True, label_smoothing=0.1)
    trainer = Trainer.start(data, data, options, "resnet", {"widths": (16, 24), "blocks": 1})
    while trainer.epoch < options.epochs:
        trainer.run_epoch()
    digest = hashlib.sha256(repr(trainer.history).encode())
    for name, array in trainer.classifier.model.state_dict().items():
        digest.update(name.encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
"""


@pytest.mark.parametrize("algorithm", ["auto", "gemm"])
def test_a_training_run_is_the_same_in_every_process_for_any_number_of_threads(algorithm, tmp_path):
    found = [
        python(
            tmp_path,
            TRAINING + f"print(json.dumps([run(threads) for threads in {threads}]))",
            FASTCONV_ALGORITHM=algorithm,
            PYTHONHASHSEED=seed,
        )
        for threads, seed in (([1, 2], "1"), ([3, 2], "2"))
    ]
    assert len({digest for digests in found for digest in digests}) == 1
