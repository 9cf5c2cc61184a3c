"""Subnormal numbers, rounding, infinities and NaN: where they go, and what is left behind."""

import ctypes
import ctypes.util
import platform
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import POINTWISE
from numpy.testing import assert_array_equal

import fastconv
import fastconv.functional as F
from fastconv import Tensor, nn
from fastconv.kernels import _team

flushes = pytest.mark.skipif(not _team.FLUSH, reason="this processor's flags are not known")

TINY = 1e-40  # subnormal in float32
ROWS = np.eye(32, dtype=np.float32)


def operators():
    """By name: functions that keep an array of many TINY as it is, where it is kept as it is."""
    kernel = ROWS[:, :, None, None]
    depthwise = np.ones((32, 1, 1, 1), np.float32)
    net = nn.Sequential(nn.Conv2d(32, 32, 1, bias=False), nn.ReLU())
    net[0].weight.data[...] = kernel
    example = np.ones((2, 32, 50, 50), np.float32)
    plan = fastconv.compile(net, example)
    return {
        "direct": lambda x: F.conv2d(x, kernel, algorithm="direct"),
        "gemm": lambda x: F.conv2d(x, kernel, algorithm="gemm"),
        "depthwise": lambda x: F.conv2d(x, depthwise, groups=32),
        "sums": lambda x: F.avg_pool2d(x, 1),
        "dense": lambda x: F.linear(x.reshape(-1, 32), ROWS),
        "functions": lambda x: F.leaky_relu(x, 0.5),
        "plan": plan,
    }


@flushes
@pytest.mark.parametrize("threads", [1, 3])
def test_subnormal_numbers_are_zeros_within_the_context_alone(threads, keep_threads):
    fastconv.set_num_threads(threads)
    x = np.full((2, 32, 50, 50), TINY, np.float32)
    mode = _team.mode()
    for name, function in operators().items():
        for _ in range(2):
            assert (function(x) > 0).all(), name
            with fastconv.flush_denormal():
                assert not function(x).view(np.uint32).any(), name
                with fastconv.flush_denormal(False):
                    assert (function(x) > 0).all(), name
                assert not function(x).view(np.uint32).any(), name
            assert _team.mode() == mode
            assert (function(x) > 0).all(), name


@flushes
def test_other_threads_and_numbers_of_threads(keep_threads):
    """The flags are those of the thread within the context, whatever teams there were."""
    x = np.full((2, 32, 50, 50), TINY, np.float32)
    kernel = ROWS[:, :, None, None]
    fastconv.set_num_threads(4)
    with ThreadPoolExecutor(1) as other:
        for _ in range(2):
            assert (F.conv2d(x, kernel) > 0).all()
            assert (other.submit(F.conv2d, x, kernel).result() > 0).all()
            with fastconv.flush_denormal():
                fastconv.set_num_threads(2)
                assert not F.conv2d(x, kernel).view(np.uint32).any()
                # comparing takes them for zeros as well: look at the bits
                assert other.submit(F.conv2d, x, kernel).result().view(np.uint32).all()
                fastconv.set_num_threads(1)
            fastconv.set_num_threads(4)


@flushes
def test_flags_come_back_after_exceptions():
    mode = _team.mode()
    with pytest.raises(ZeroDivisionError), fastconv.flush_denormal():
        1 / int(np.float32(TINY) * np.float32(1))
    assert _team.mode() == mode
    assert np.float32(TINY) * np.float32(1) > 0
    for bad in (1, None, "on"):
        with (
            pytest.raises(TypeError, match="mode must be True or False"),
            fastconv.flush_denormal(bad),
        ):
            pass
    assert _team.mode() == mode


@flushes
def test_results_of_normal_numbers_are_the_same_bits_within_the_context(rng):
    x = rng.standard_normal((2, 16, 20, 20)).astype(np.float32)
    w = rng.standard_normal((16, 16, 3, 3)).astype(np.float32)
    expected = F.conv2d(x, w)
    with fastconv.flush_denormal():
        assert_array_equal(F.conv2d(x, w), expected)


@pytest.mark.skipif(
    platform.machine() != "x86_64" or not ctypes.util.find_library("m"), reason="numbers of x86-64"
)
def test_workers_round_as_their_caller_does(rng, keep_threads):
    """As its setting is each thread's own, results would depend on who computes what."""
    libm = ctypes.CDLL(ctypes.util.find_library("m"))
    upward, nearest = 0x800, 0
    x = rng.standard_normal((2, 32, 40, 40)).astype(np.float32)
    w = rng.standard_normal((32, 32, 1, 1)).astype(np.float32)
    found = {}
    fastconv.set_num_threads(3)
    usual = F.conv2d(x, w)
    for threads in (1, 3):
        fastconv.set_num_threads(threads)
        libm.fesetround(upward)
        try:
            found[threads] = F.conv2d(x, w)
        finally:
            libm.fesetround(nearest)
    assert_array_equal(found[1], found[3])
    assert (found[1] >= usual).all()
    assert (found[1] > usual).any()
    assert_array_equal(F.conv2d(x, w), usual)


# NaN, infinities, extreme values: as PyTorch has them


def specials(dtype, shape=(6, 8, 12, 13)):
    """Images that each hold something else, in two places."""
    info = np.finfo(dtype)
    x = np.random.default_rng(0).uniform(0.5, 2, shape).astype(dtype)
    x *= np.random.default_rng(1).choice([-1, 1], shape)
    for image, (one, other) in enumerate(
        [
            (np.nan, 1),
            (np.inf, 2),
            (-np.inf, 3),
            (np.inf, -np.inf),
            (info.max * 0.75, 1),
            (-info.max * 0.75, info.smallest_subnormal),
        ]
    ):
        x[image, 1, 4, 5] = x[image, 2, 0, 0] = one
        x[image, 1, 5, 5] = x[image, 3, 11, 12] = other
    return x


def pointwise(name):
    return lambda M, x, c: getattr(M, name)(x)


WEIGHT = np.random.default_rng(2).uniform(0.25, 0.75, (16, 8, 3, 3))
OPERATORS = {
    "conv2d": lambda M, x, c: M.conv2d(x, c(WEIGHT), padding=1),
    "conv2d strided": lambda M, x, c: M.conv2d(x, c(WEIGHT), stride=2, padding=1),
    "conv2d 1x1": lambda M, x, c: M.conv2d(x, c(WEIGHT[:, :, :1, :1])),
    "depthwise": lambda M, x, c: M.conv2d(x, c(WEIGHT[:8, :1]), padding=1, groups=8),
    "few channels": lambda M, x, c: M.conv2d(x[:, 1:4], c(WEIGHT[:, :3]), padding=1),
    "few outputs": lambda M, x, c: M.conv2d(x, c(WEIGHT[:2]), padding=1),
    "one channel": lambda M, x, c: M.conv2d(x[:, 1:2], c(WEIGHT[:1, :1]), padding=1),
    "transposed": lambda M, x, c: M.conv_transpose2d(x, c(WEIGHT[:8]), stride=2, padding=1),
    "linear": lambda M, x, c: M.linear(x.reshape(-1, 13), c(WEIGHT.reshape(-1, 144)[:, :13])),
    "max_pool2d": lambda M, x, c: M.max_pool2d(x, 3, 2, padding=1),
    "avg_pool2d": lambda M, x, c: M.avg_pool2d(x, 3, 2, padding=1),
    "adaptive_avg_pool2d": lambda M, x, c: M.adaptive_avg_pool2d(x, (5, 4)),
    "adaptive_max_pool2d": lambda M, x, c: M.adaptive_max_pool2d(x, (5, 4)),
    "batch_norm": lambda M, x, c: M.batch_norm(x, None, None, training=True),
    "batch_norm evaluated": lambda M, x, c: M.batch_norm(
        x, c(WEIGHT[0, :, 0, 0]), c(WEIGHT[0, :, 1, 1])
    ),
    "group_norm": lambda M, x, c: M.group_norm(x, 2),
    "instance_norm": lambda M, x, c: M.instance_norm(x),
    "layer_norm": lambda M, x, c: M.layer_norm(x, (13,)),
    "bilinear": lambda M, x, c: M.interpolate(x, (17, 9), mode="bilinear"),
    "bicubic": lambda M, x, c: M.interpolate(x, (17, 9), mode="bicubic"),
    "nearest": lambda M, x, c: M.interpolate(x, scale_factor=2),
    "pad": lambda M, x, c: M.pad(x, (1, 2, 3, 4), mode="reflect"),
    "unfold": lambda M, x, c: M.unfold(x, 3, padding=1),
    "softmax": lambda M, x, c: M.softmax(x, 1),
    "log_softmax": lambda M, x, c: M.log_softmax(x, 1),
    "prelu": lambda M, x, c: M.prelu(x, c(WEIGHT[0, :, 0, 0])),
    "softmin": lambda M, x, c: M.softmin(x, 1),
    "cross_entropy": lambda M, x, c: M.cross_entropy(x, labels(x), reduction="none"),
    "mse_loss": lambda M, x, c: M.mse_loss(x, c(np.ones((6, 8, 12, 13))), reduction="none"),
    "l1_loss": lambda M, x, c: M.l1_loss(x, c(np.ones((6, 8, 12, 13))), reduction="none"),
    "smooth_l1_loss": lambda M, x, c: M.smooth_l1_loss(
        x, c(np.ones((6, 8, 12, 13))), reduction="none"
    ),
    "huber_loss": lambda M, x, c: M.huber_loss(x, c(np.ones((6, 8, 12, 13))), reduction="none"),
    "bce": lambda M, x, c: M.binary_cross_entropy_with_logits(
        x, c(np.full((6, 8, 12, 13), 0.25)), reduction="none"
    ),
    **{name: pointwise(name) for name in POINTWISE},
}
# Where PyTorch's arithmetic overflows on the way to a finite result, and fastconv's does not ...
EXACT = ("layer_norm", "hardswish")
# ... and where both do, one to NaN, the other to zero.
OVERFLOWS = ("group_norm",)
# Where PyTorch's vectors of float32, with AVX-512, make a NaN of an infinity.
BY_DOUBLE = ("gelu",)
# Where PyTorch multiplies by a weight of zero, which makes a NaN of an infinity.
FEWER_NAN = ("bicubic",)


def labels(x):
    """The class 1 for every pixel, of the library that x is of."""
    return (
        np.ones((6, 12, 13), np.int64) if isinstance(x, Tensor) else x.new_ones((6, 12, 13)).long()
    )


def assert_same_specials(found, expected, tolerance, name):
    assert_array_equal(np.isnan(found), np.isnan(expected), err_msg=f"{name}: NaN")
    assert_array_equal(np.isposinf(found), np.isposinf(expected), err_msg=f"{name}: inf")
    assert_array_equal(np.isneginf(found), np.isneginf(expected), err_msg=f"{name}: -inf")
    finite = np.isfinite(expected)
    np.testing.assert_allclose(
        found[finite], expected[finite], rtol=tolerance, atol=tolerance, err_msg=name
    )


def by_pytorch(operator, data, dtype):
    """Its result and gradient by the input, computed in `dtype`."""
    torch = pytest.importorskip("torch")
    x = torch.tensor(data.astype(dtype), requires_grad=True)
    y = operator(torch.nn.functional, x, lambda array: torch.tensor(array.astype(dtype)))
    y.backward(torch.ones_like(y))
    return y.detach().numpy(), x.grad.numpy()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", OPERATORS)
def test_nan_infinity_and_extremes_go_where_pytorch_sends_them(name, dtype):
    operator, data = OPERATORS[name], specials(dtype)
    with np.errstate(over="ignore"):
        truth = by_pytorch(operator, data, np.float64 if name in BY_DOUBLE else dtype)
        truth = [array.astype(dtype) for array in truth]
    x = Tensor(data, requires_grad=True)
    y = operator(F, x, lambda array: array.astype(dtype))
    y.backward(np.ones(y.shape, dtype))
    # The derivative where there is none, at NaN or an infinity, is not compared.
    grad, truth_grad = (np.where(np.isfinite(data), g, 0) for g in (x.grad, truth[1]))
    tolerance = 5e-4 if dtype == np.float32 else 1e-7
    for found, expected in ((y.data, truth[0]), (grad, truth_grad)):
        if name in EXACT + OVERFLOWS:
            found, expected = found[:4], expected[:4]
        if name in FEWER_NAN:
            assert np.isnan(expected[np.isnan(found)]).all()
            found = np.where(np.isnan(expected), expected, found)
        assert_same_specials(found, expected, tolerance, name)
    if name in EXACT and dtype == np.float32:
        expected, _ = by_pytorch(operator, data, np.float64)
        assert_same_specials(y.data[4:], expected[4:].astype(dtype), tolerance, name)


CASES_OF_WEIGHTS = {
    "winograd": ((24, 16, 3, 3), 1, 1),
    "strided": ((24, 16, 3, 3), 2, 1),
    "few inputs": ((16, 3, 3, 3), 1, 1),
    "few outputs": ((2, 16, 3, 3), 1, 1),
    "one channel": ((1, 1, 3, 3), 1, 1),
    "depthwise": ((16, 1, 3, 3), 1, 16),
    "pairs": ((16, 2, 3, 3), 1, 8),
}


@pytest.mark.parametrize("algorithm", ["auto", "direct", "gemm", "winograd"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("case", CASES_OF_WEIGHTS)
def test_weights_that_are_not_finite(case, value, algorithm, rng):
    """Over zero padding they may make a NaN or not, as in PyTorch; elsewhere they have to."""
    shape, stride, groups = CASES_OF_WEIGHTS[case]
    x = rng.uniform(0.5, 1, (2, shape[1] * groups, 9, 10))
    w = rng.uniform(0.5, 1, shape)
    w[-1, -1, 0, 1] = 0
    options = {"stride": stride, "padding": 1, "groups": groups}
    without = F.conv2d(x, w, **options, algorithm="gemm")
    expected = without.copy()
    w[-1, -1, 0, 1] = value  # of the last output, which reads the line above: padding at first
    expected[:, -1, 1:] = value
    y = F.conv2d(x, w, **options, algorithm=algorithm)
    padding = y[:, -1, 0]
    allowed = np.isclose(padding, without[:, -1, 0], rtol=1e-10) | np.isnan(padding)
    assert allowed.all()
    expected[:, -1, 0] = padding
    assert_same_specials(y, expected, 1e-10, case)
