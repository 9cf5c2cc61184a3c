"""Every kernel once or more, with three threads: a program for sanitizers, not a test.

docs/sanitizers.md says how to run it under AddressSanitizer, ThreadSanitizer and Valgrind.
"""

import numpy as np
from conftest import forward_backward
from test_determinism import CONVOLUTIONS, OTHERS, images

import fastconv
import fastconv.functional as F
from fastconv import Tensor, _threads, nn, optim

# (channels, outputs, side of the kernel, groups)
WEIGHTS = [
    (16, 24, 3, 1),
    (3, 16, 7, 1),
    (24, 24, 3, 24),
    (32, 32, 3, 16),
    (48, 40, 3, 4),
    (33, 50, 1, 1),
    (200, 40, 3, 1),
]


def main():
    _threads.GRAIN = 0  # small arrays are enough for several threads
    fastconv.set_num_threads(3)
    fastconv.set_cache_limit(0)  # every array has a block of malloc's own
    for dtype in (np.float32, np.float64):
        for function, shape in CONVOLUTIONS.values():
            for name in ("direct", "winograd", "gemm"):
                x = images(shape, dtype)
                forward_backward(lambda x, f=function, name=name: f(x, name), x)
        for channels, outputs, side, groups in WEIGHTS:
            for name in ("direct", "winograd", "gemm"):
                options = {"padding": 1, "groups": groups, "algorithm": name}
                forward_backward(
                    lambda x, w, b, options=options: F.conv2d(x, w, b, **options),
                    images((channels, 19, 22), dtype),
                    np.ones((outputs, channels // groups, side, side), dtype),
                    np.ones(outputs, dtype),
                )
        for function in OTHERS.values():
            forward_backward(function, images((12, 21, 23), dtype))
        x = images((8, 30, 30), dtype)
        F.batch_norm(Tensor(x, requires_grad=True), None, None, training=True).sum().backward()
        F.linear(x, np.ones((20, 30), dtype))
        F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2)
        F.fold(F.unfold(x, 3), (30, 30), 3)
        fastconv.linalg.conv_matrix(np.ones((4, 4, 3, 3), dtype), (4, 40, 40))
        p = Tensor(np.ones(2000, dtype), requires_grad=True)
        p.grad = np.ones_like(p.data)
        for kind in (optim.SGD, optim.Adam, optim.AdamW):
            kind([p], lr=0.1).step()
    x = images((16, 40, 40), np.float32)
    net = nn.Sequential(nn.Conv2d(16, 16, 3), nn.BatchNorm2d(16), nn.ReLU())
    with fastconv.flush_denormal():
        fastconv.compile(net, x)(x)


if __name__ == "__main__":
    main()
