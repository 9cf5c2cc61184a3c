"""Fair times for contenders that share a machine, and what that machine can do at best."""

import gc
import math
import random
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from scipy.linalg import blas

__all__ = ["copy_bandwidth", "interleave", "matmul_peak", "once", "warm_heap"]

WARM_UP = 0.3  # seconds, or WARM_UP_CALLS, whichever ends first
WARM_UP_CALLS = 4
SAMPLE = 2e-3  # seconds that one sample should last ...
SAMPLE_CALLS = 20  # ... but of at most so many calls
TICKS = 0.012  # seconds: processor time is counted in ticks, of 4 ms or so
WAKE = 0.01  # seconds of calls that are not counted: threads wake, and find a core each
SLOW = 0.2  # seconds: a call beyond needs none of them


def interleave(contenders, rounds, budget, seed=0):
    """Seconds of every contender's call, measured in turns.

    Each round runs all contenders once, in an order shuffled anew, so that a drift of the
    machine's speed meets all of them and none always finds the cache as another left it. A
    contender too slow for `rounds` samples takes part in the first rounds only.

    Parameters
    ----------
    contenders : dict of str to callable
    rounds : int
    budget : float
        Seconds after which a contender takes part in no further round.
    seed : int, default 0
        Of the shuffling.

    Returns
    -------
    dict of str to list of float
        The samples, in order; each is the mean of a few calls in a row where a call is short.
    """
    estimates = {name: _warm_up(call) for name, call in contenders.items()}
    samples = {name: [] for name in contenders}
    shuffle = random.Random(seed).shuffle
    gc.collect()
    gc.disable()
    try:
        for turn in range(rounds):
            names = [name for name, estimate in estimates.items() if turn * estimate < budget]
            shuffle(names)
            for name in names:
                samples[name].append(_sample(contenders[name], estimates[name]))
    finally:
        gc.enable()
    return samples


def warm_heap(size=1 << 29, block=1 << 24):
    """Give malloc, which keeps what is freed, room for what the calls will allocate.

    Blocks above its threshold would else be mapped, and faulted in, anew at every call, until
    other work happens to leave room for them.
    """
    blocks = [np.ones(block // 8) for _ in range(size // block)]
    blocks.clear()


def once(call):
    """Seconds of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _warm_up(call):
    """Call until caches, memory pools and compiled primitives have settled; the last time."""
    end = time.perf_counter() + WARM_UP
    for _ in range(WARM_UP_CALLS):
        seconds = once(call)
        if time.perf_counter() > end:
            break
    return seconds


def _sample(call, estimate):
    _wait_for_idle_threads()
    end = time.perf_counter() + (WAKE if estimate < SLOW else 0)
    while time.perf_counter() < end:
        call()
    calls = min(max(math.ceil(SAMPLE / estimate), 1), SAMPLE_CALLS)
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - start) / calls


def _wait_for_idle_threads(limit=0.5):
    """Return when this process burns no more time.

    OpenMP's threads spin for some milliseconds after their last work and OpenBLAS's for a
    tenth of a second; they would take cores away from the next contender.
    """
    end = time.perf_counter() + limit
    while time.perf_counter() < end:
        start, burnt = time.perf_counter(), time.process_time()
        time.sleep(TICKS)
        if time.process_time() - burnt < 0.1 * (time.perf_counter() - start):
            break


def matmul_peak(runs=5):
    """Best floating-point operations per second of a float32 product in NumPy's or SciPy's BLAS.

    It stands for the peak of fused multiply-adds, of which a good BLAS reaches some nine tenths.
    """
    best = 0.0
    rng = np.random.default_rng(0)
    for size in (1024, 2048):
        a, b = rng.standard_normal((2, size, size), np.float32)
        out = np.empty_like(a)
        products = (
            lambda a=a, b=b, out=out: np.matmul(a, b, out=out),
            # SciPy's BLAS takes Fortran order: the transposed views are that.
            lambda a=a, b=b, out=out: blas.sgemm(1.0, a.T, b.T, c=out.T, overwrite_c=True),
        )
        for product in products:
            _wait_for_idle_threads()
            product()
            seconds = min(once(product) for _ in range(runs))
            best = max(best, 2 * size**3 / seconds)
    return best


def copy_bandwidth(threads, runs=8, size=1 << 27):
    """Best bytes per second, read and written, of copying `size` bytes on `threads` threads."""
    source = np.ones(size // 8)
    target = np.zeros_like(source)
    parts = list(zip(np.array_split(source, threads), np.array_split(target, threads), strict=True))
    with ThreadPoolExecutor(threads) as pool:

        def copy():
            # NumPy copies without holding the interpreter's lock.
            for future in [pool.submit(np.copyto, to, part) for part, to in parts]:
                future.result()

        seconds = min(once(copy) for _ in range(runs + 1))
    return 2 * source.nbytes / seconds
