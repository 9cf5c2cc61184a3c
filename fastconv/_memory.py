"""Large arrays in memory that earlier ones have left.

The kernel hands out fresh memory page by page, at a fault each, which costs more than most loops
that then run over it. A training step asks for the same sizes again and again. So the memory of a
large array is kept when the array and all its views have gone, and the next one of about that
size takes it. Reference counts tell when: an array that anyone holds is never reissued.
"""

import math
import os
import threading
from collections import deque

import numpy as np

from fastconv import _cgroup, _checks
from fastconv.kernels._memory import ALIGNMENT, Block

__all__ = ["empty", "empty_cache", "memory_stats", "set_cache_limit", "zeros"]

# Bytes from which on memory is kept: malloc has smaller blocks at hand.
SMALLEST = 1 << 18
# Sizes are rounded up to one of so many between a power of two and the next ...
STEPS = 8
# ... and a block may be so many sizes larger than it need be.
LARGER = 2
# Of the memory that the process may use, what is kept unused at most.
SHARE = 4


def empty(shape, dtype):
    """A C-contiguous array of any values, as ``np.empty``."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size < SMALLEST or not _pool.limit:
        return np.empty(shape, dtype)
    return np.ndarray(shape, dtype, _pool.block(size))


def zeros(shape, dtype):
    """A C-contiguous array of zeros, as ``np.zeros``."""
    array = empty(shape, dtype)
    array.fill(0)
    return array


def memory_stats():
    """What fastconv's memory is used for: of arrays of at least 256 KiB, smaller ones are malloc's.

    Returns
    -------
    dict of str to int
        ``in_use``: bytes of arrays that are alive (results, gradients, workspaces);
        ``peak_in_use``: the most so far; ``cached``: bytes kept for arrays to come;
        ``limit``: the most that is kept; ``reused`` and ``allocated``: how many arrays got memory
        that was kept, and how many got fresh one.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> x = np.zeros((8, 16, 64, 64), np.float32)
    >>> y = fastconv.functional.relu(x)
    >>> fastconv.memory_stats()["in_use"] >= y.nbytes
    True
    """
    return _pool.stats()


def empty_cache():
    """Give memory that is kept for arrays to come back to the system.

    Examples
    --------
    >>> import fastconv
    >>> fastconv.empty_cache()
    >>> fastconv.memory_stats()["cached"]
    0
    """
    _pool.trim(0)


def set_cache_limit(nbytes):
    """Set how many bytes are kept for arrays to come, at most.

    By default a quarter of the memory that the process may use.

    Parameters
    ----------
    nbytes : int
        0 keeps nothing: every array gets fresh memory.

    Raises
    ------
    TypeError, ValueError
        If `nbytes` is not an integer, or negative.

    Examples
    --------
    >>> import fastconv
    >>> before = fastconv.memory_stats()["limit"]
    >>> fastconv.set_cache_limit(0)
    >>> fastconv.set_cache_limit(before)
    """
    _pool.limit = _checks.integer("nbytes", nbytes, minimum=0)
    _pool.trim(_pool.limit)


def _round_up(size):
    step = max((1 << (size - 1).bit_length()) // (2 * STEPS), 4096)
    return -(-size // step) * step


class _Pool:
    """Blocks by size, the size used last at the end."""

    def __init__(self, limit):
        self.limit = limit
        self.lock = threading.Lock()
        self.returned = deque()  # from finalisers, which may run anywhere, also within the lock
        self.idle = {}  # size: storages
        self.cached = self.in_use = self.peak_in_use = self.reused = self.allocated = 0

    def block(self, size):
        """A :class:`Block` of at least `size` bytes."""
        size = wanted = _round_up(size)
        with self.lock:
            self.collect()
            storages = self.idle.get(size)
            for _ in range(LARGER):
                if storages:
                    break
                size = _round_up(size + 1)
                storages = self.idle.get(size)
            if storages:
                storage = self._take(size)
                self.reused += 1
            else:
                storage = self._allocate(wanted)
                self.allocated += 1
            self.in_use += storage.size - ALIGNMENT
            self.peak_in_use = max(self.peak_in_use, self.in_use)
        return Block(storage, self)

    def _take(self, size, place=-1):
        storages = self.idle[size]
        storage = storages.pop(place)
        if not storages:
            del self.idle[size]
        self.cached -= size
        return storage

    def _allocate(self, size):
        try:
            return np.empty(size + ALIGNMENT, np.uint8)
        except MemoryError:
            self._drop(0)
            return np.empty(size + ALIGNMENT, np.uint8)

    def collect(self):
        """Take in what has been returned; for who holds the lock."""
        while self.returned:
            storage = self.returned.popleft()
            size = storage.size - ALIGNMENT
            self.in_use -= size
            if size <= self.limit:
                self.cached += size
                storages = self.idle.pop(size, [])
                storages.append(storage)
                self.idle[size] = storages
                self._drop(self.limit)

    def _drop(self, limit):
        """Forget the sizes that have not been used for longest, down to `limit` bytes."""
        while self.cached > limit:
            self._take(next(iter(self.idle)), 0)

    def trim(self, limit):
        with self.lock:
            self.collect()
            self._drop(limit)

    def stats(self):
        with self.lock:
            self.collect()
            names = ("in_use", "peak_in_use", "cached", "limit", "reused", "allocated")
            return {name: getattr(self, name) for name in names}


def usable_memory():
    """Bytes that the process may use: the machine's or, if less, its control group's."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # no such call on Windows
        total = 1 << 33
    return min(total, _cgroup.memory_limit() or total)


_pool = _Pool(usable_memory() // SHARE)


def _after_fork_in_child():
    _pool.lock = threading.Lock()  # another thread of the parent may have held it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
