"""Hours of use in minutes: no growth of memory, threads or files.

FASTCONV_SOAK is for how many seconds; without it the test is skipped.
"""

import ctypes
import gc
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import fastconv
import fastconv.functional as F
from fastconv import Tensor, nn, optim

SECONDS = float(os.environ.get("FASTCONV_SOAK", "0"))

pytestmark = [
    pytest.mark.skipif(SECONDS <= 0, reason="FASTCONV_SOAK is not a number of seconds"),
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="what is used is not told"),
]


class Cancelled(Exception):
    """What a worker is interrupted by."""


def used():
    """(bytes in memory, threads, open files)."""
    gc.collect()
    fastconv.empty_cache()
    with open("/proc/self/statm", encoding="ascii") as file:
        pages = int(file.read().split()[1])
    threads = len(os.listdir("/proc/self/task"))
    return pages * os.sysconf("SC_PAGE_SIZE"), threads, len(os.listdir("/proc/self/fd"))


class Work:
    """One thread's: a small network, its plan, and shapes that never end."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.net = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3)
        )
        self.plan = fastconv.compile(self.net, np.zeros((1, 3, 16, 16), np.float32))
        self.optimizer = optim.Adam(self.net.parameters())

    def images(self, channels=3):
        n, h, w = self.rng.integers(1, 5), *self.rng.integers(12, 70, 2)
        return self.rng.standard_normal((n, channels, h, w)).astype(np.float32)

    def train(self):
        self.net.train()
        loss = (self.net(self.images()) ** 2).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def infer(self):
        self.net.eval()
        x = self.images()
        self.net(x), self.plan(x)

    def operators(self):
        x = Tensor(self.images(8), requires_grad=True)
        kernel = self.rng.integers(1, 4, 2)
        w = Tensor(
            self.rng.standard_normal((16, 8, *kernel)).astype(np.float32), requires_grad=True
        )
        algorithm = self.rng.choice(["auto", "gemm", "direct", "winograd"])
        y = F.conv2d(x, w, stride=int(self.rng.integers(1, 3)), algorithm=str(algorithm))
        y = F.interpolate(F.max_pool2d(F.gelu(y), 2), scale_factor=2)
        y.sum().backward()

    def abandon(self):
        """A graph whose gradient nobody asks for."""
        self.net.train()
        self.net(Tensor(self.images(), requires_grad=True))

    def fail(self):
        x = self.images(5)
        for call in (
            lambda: self.net(x),
            lambda: self.plan(x),
            lambda: F.conv2d(x, x, groups=3, algorithm="gemm"),
            lambda: F.max_pool2d(x, 100),
            lambda: F.linear(x, x),
        ):
            with pytest.raises((ValueError, TypeError)):
                call()

    def turn(self):
        for part in (self.train, self.infer, self.operators, self.abandon, self.fail):
            part()


def cancel(work):
    """Interrupt a thread somewhere in its work."""

    def until_cancelled():
        try:
            while True:
                work.turn()
        except Cancelled:
            pass

    thread = threading.Thread(target=until_cancelled)
    thread.start()
    time.sleep(0.02)
    while thread.is_alive():  # again, where a warning or finaliser has swallowed it
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident), ctypes.py_object(Cancelled)
        )
        thread.join(1)


def round_of(seed):
    """Some turns in threads that come and go, and one that is cancelled."""
    fastconv.set_num_threads(seed % 3 + 1)
    works = [Work(seed + i) for i in range(3)]
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(work.turn) for work in works * 2]
        futures[-1].cancel()
        for future in futures[:-1]:
            future.result()
    cancel(works[0])
    with fastconv.flush_denormal():
        works[1].turn()


def test_nothing_grows(keep_threads):
    for seed in range(6):
        round_of(seed)
    start, seed = time.monotonic(), 6
    memory, threads, files = used()
    most = memory
    while time.monotonic() - start < SECONDS:
        round_of(seed)
        seed += 1
        now, now_threads, now_files = used()
        most = max(most, now)
        assert now_threads <= threads + 2
        assert now_files == files
        # Of thousands of shapes: what is kept for each would show.
        assert now <= memory + (64 << 20), f"{now - memory} bytes more after {seed} rounds"
    print(f"{seed} rounds: at most {most - memory} bytes more than after six")
