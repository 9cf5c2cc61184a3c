"""The memory that plans tell: what is allocated, and that it does not grow with the image."""

import numpy as np
import pytest
from conftest import BUFFER, traced, vectors

import fastconv
import fastconv.functional as F
from fastconv import _correlate, _geometry
from fastconv._plan import Shape, plan_correlation, plan_weight_gradient
from fastconv._threads import blas_threads_for, threads_for

# way: input (N, C, *spatial), weight (K, C / groups, *kernel), stride, groups, algorithm
FORWARD = {
    "gemm": ((2, 24, 30, 40), (40, 24, 3, 3), 1, 1, "gemm"),
    "gemm of groups": ((2, 24, 30, 40), (40, 6, 3, 3), 1, 4, "gemm"),
    "gemm of few pixels": ((1, 96, 8, 9), (256, 96, 3, 3), 2, 1, "gemm"),
    "tiles": ((2, 24, 30, 40), (40, 24, 3, 3), 1, 1, "direct"),
    "tiles of groups": ((2, 32, 30, 40), (40, 16, 3, 3), 1, 2, "direct"),
    "lines": ((2, 3, 60, 70), (64, 3, 7, 7), 2, 1, "direct"),
    "dots": ((2, 64, 30, 40), (3, 64, 5, 5), 1, 1, "direct"),
    "grouped": ((1, 256, 20, 30), (256, 2, 5, 5), 1, 128, "direct"),
    "depthwise": ((1, 1024, 20, 30), (1024, 1, 3, 3), 1, 1024, "direct"),
    "blocks": ((2, 24, 30, 40), (40, 24, 3, 3), 1, 1, "winograd"),
    "planes": ((2, 1, 60, 3000), (1, 1, 5, 5), 1, 1, "direct"),
    "blocks of stride 2": ((2, 32, 30, 40), (40, 32, 3, 3), 2, 1, "winograd"),
    "blocks of even and odd rows": ((2, 24, 30, 40), (40, 24, 5, 5), 2, 1, "winograd"),
    "shared": ((1, 200, 30, 40), (120, 200, 3, 3), 1, 1, "winograd"),
    "shared by phases": ((1, 200, 130, 150), (40, 200, 3, 3), 1, 1, "winograd"),
}
WEIGHT = {
    "gemm": ((2, 24, 30, 40), (40, 24, 3, 3), 1, 1, "gemm"),
    "gemm of one part": ((1, 96, 8, 9), (256, 96, 3, 3), 2, 1, "gemm"),
    "panels": ((2, 24, 30, 40), (48, 24, 3, 3), 1, 1, "direct"),
    "panels that are wider": ((2, 48, 30, 40), (40, 24, 3, 3), 1, 2, "direct"),
    "panels of one part": ((1, 24, 1, 1), (48, 24, 1, 1), 1, 1, "direct"),
    "lines": ((2, 3, 60, 70), (64, 3, 7, 7), 2, 1, "direct"),
    "grouped": ((1, 256, 20, 30), (256, 2, 5, 5), 1, 128, "direct"),
    "depthwise": ((1, 1024, 20, 30), (1024, 1, 3, 3), 1, 1024, "direct"),
    "winograd": ((2, 24, 30, 40), (40, 24, 3, 3), 1, 1, "winograd"),
    "winograd of even and odd rows": ((2, 24, 30, 40), (40, 24, 5, 5), 2, 1, "winograd"),
    "winograd_parts": ((4, 16, 30, 40), (16, 16, 3, 3), 1, 1, "winograd"),
    "winograd_parts of one part": ((1, 16, 8, 9), (16, 16, 3, 3), 1, 1, "winograd"),
    "winograd of one phase": ((1, 64, 8, 9), (64, 64, 3, 3), 1, 1, "winograd"),
}


def cases(found):
    return pytest.mark.parametrize(
        ("way", "x_shape", "w_shape", "stride", "groups", "algorithm"),
        [
            pytest.param(name.split()[0], *case, id=name, marks=() if "gemm" in name else vectors)
            for name, case in found.items()
        ],
    )


every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])
every_threads = pytest.mark.parametrize("threads", [1, 3])


def arrays(x_shape, w_shape, stride, groups, dtype):
    """Zeros as kernels see them, (N, D, H, W, C) and (G, K, *taps, C), and what plans are of."""
    (outputs, width, *kernel), (images, _, *size) = w_shape, x_shape
    geometry = _geometry.convolution(tuple(size), tuple(kernel), stride, 1, 1)
    x = np.zeros((images, *geometry.size, groups * width), dtype)
    y = np.zeros((images, *geometry.frame.count, outputs), dtype)
    w = np.zeros((groups, outputs // groups, *geometry.kernel, width), dtype)
    return x, w, y, geometry.frame, Shape(images, *w.shape[:2], width, x.itemsize)


def assert_told(peak, plan, shape):
    threads = (blas_threads_for if plan.way == "gemm" else threads_for)(plan.operations)
    told = plan.memory(shape.itemsize, threads)
    # Python's objects, the rests of threads' rows, and a few vectors of a value per channel.
    channels = shape.groups * max(shape.channels, shape.outputs)
    slack = 4096 + 2 * 128 * threads + (3 * channels + BUFFER) * shape.itemsize
    assert told / 2 <= peak <= told + slack


@cases(FORWARD)
@every_dtype
@every_threads
@pytest.mark.usefixtures("keep_threads")
def test_forward(way, x_shape, w_shape, stride, groups, algorithm, dtype, threads):
    fastconv.set_num_threads(threads)
    x, w, y, frame, shape = arrays(x_shape, w_shape, stride, groups, dtype)
    w = np.repeat(w, 2, axis=5)[..., ::2]  # which no kernel reads as it is
    plan = plan_correlation(shape, frame, algorithm)
    assert plan.way == way
    _, peak = traced(lambda: _correlate.correlate(x, w, None, y, frame, algorithm))
    assert_told(peak, plan, shape)


@cases(WEIGHT)
@every_dtype
@every_threads
@pytest.mark.usefixtures("keep_threads")
def test_gradient_by_weight(way, x_shape, w_shape, stride, groups, algorithm, dtype, threads):
    fastconv.set_num_threads(threads)
    x, w, dy, frame, shape = arrays(x_shape, w_shape, stride, groups, dtype)
    plan = plan_weight_gradient(shape, frame, algorithm)
    assert plan.way == way
    dw, peak = traced(lambda: _correlate.correlate_weight(x, dy, w.shape, frame, algorithm))
    assert_told(peak - dw.nbytes, plan, shape)


@vectors
def test_there_is_a_case_of_every_way():
    for found, ways in ((FORWARD, _correlate.WAYS), (WEIGHT, _correlate.WEIGHT_WAYS)):
        assert {name.split()[0] for name in found} == set(ways)


# 64 3x3 kernels on 64 channels

BOUND = 64e6


@pytest.mark.parametrize("algorithm", ["gemm", "direct", "winograd"])
@pytest.mark.parametrize("threads", [2, 16])
def test_a_large_image_needs_little_by_plan(algorithm, threads):
    geometry = _geometry.convolution((2048, 2048), (3, 3), 1, 1, 1)
    (transposed, _), *others = geometry.transposed_frames
    assert not others
    shape = Shape(1, 1, 64, 64, itemsize=4)
    for plan in (
        plan_correlation(shape, geometry.frame, algorithm),
        plan_correlation(shape, transposed, algorithm),
        plan_weight_gradient(shape, geometry.frame, algorithm),
    ):
        assert plan.memory(4, threads) <= BOUND


@pytest.mark.parametrize("algorithm", ["gemm", "direct", "winograd"])
@pytest.mark.parametrize("threads", [2, 16])
@pytest.mark.usefixtures("keep_threads")
def test_a_wide_image_needs_little(algorithm, threads):
    """Beyond the output, and with gradients beyond these."""
    fastconv.set_num_threads(threads)
    x, w, dy, *_ = arrays((1, 64, 64, 2048), (64, 64, 3, 3), 1, 1, np.float32)
    x, w, dy = (a.reshape(-1, *a.shape[-3:]).transpose(0, 3, 1, 2) for a in (x, w, dy))
    y, peak = traced(lambda: F.conv2d(x, w, padding=1, algorithm=algorithm))
    assert peak - y.nbytes <= BOUND
    x, w = (fastconv.Tensor(a, requires_grad=True) for a in (x, w))

    def step():
        y = F.conv2d(x, w, padding=1, algorithm=algorithm)
        x.grad = w.grad = None
        y.backward(dy)
        return y

    y, peak = traced(step)
    assert peak - y.data.nbytes - x.grad.nbytes - w.grad.nbytes <= BOUND
