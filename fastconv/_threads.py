"""How many threads a region gets, and how BLAS is kept out of its way.

The policy: all parallelism is the kernels' own ``prange``, with an explicit thread count;
BLAS calls inside are single-threaded. A multi-threaded BLAS inside an OpenMP region may
dead-lock, and the two in alternation fight for the cores with busy-waiting threads.
"""

import contextlib
import ctypes
import os
import threading
import warnings

import numpy as np

from fastconv import _cgroup, _checks
from fastconv._memory import empty
from fastconv.kernels import _build, _team

__all__ = ["flush_denormal", "get_num_threads", "set_num_threads"]

# A parallel region costs about 10 us: below this many elementary operations one thread wins.
GRAIN = 100_000
# Each thread has a workspace and a stack: more than any machine has cores is a mistake.
MOST_THREADS = 4096

# (setter, getter) of the BLAS libraries whose thread count can be read and set.
_BLAS_CONTROLS = [
    (f"{prefix}openblas_set_num_threads{suffix}", f"{prefix}openblas_get_num_threads{suffix}")
    for prefix in ("scipy_", "")
    for suffix in ("", "64_", "_64")
] + [
    ("MKL_Set_Num_Threads", "MKL_Get_Max_Threads"),
    ("bli_thread_set_num_threads", "bli_thread_get_num_threads"),
]


def _available_cpus():
    try:
        cpus = len(os.sched_getaffinity(0))
    except AttributeError:  # no such call on macOS and Windows
        cpus = os.cpu_count() or 1
    return min(cpus, _cgroup.cpu_quota() or cpus)


def _default_num_threads():
    for name in ("FASTCONV_NUM_THREADS", "OMP_NUM_THREADS"):
        text = os.environ.get(name, "").split(",")[0]
        if text:
            try:
                count = int(text)
            except ValueError:
                count = 0
            if 1 <= count <= MOST_THREADS:
                return count
            warnings.warn(
                f"{name}={os.environ[name]!r} is ignored: not an integer from 1 to {MOST_THREADS}",
                RuntimeWarning,
                stacklevel=2,
            )
    return _available_cpus()


class _State:
    """Of the process."""

    def __init__(self):
        self.num_threads = None  # resolved at the first use, not at import
        self.went_parallel = False
        self.stranded = False  # forked after that
        self.untold = False  # that one thread remains of several


class _Workers(threading.local):
    """The team of the calling thread: GNU OpenMP keeps one for each thread that opens regions."""

    count = 1
    mode = None  # how they round and flush


_state = _State()
_workers = _Workers()


def get_num_threads():
    """Number of threads that fastconv's kernels use at most.

    By default the CPUs that this process may use (affinity mask and control-group quota),
    or ``FASTCONV_NUM_THREADS`` or ``OMP_NUM_THREADS`` from the environment. In a forked process it
    is one, whatever the environment says.

    Returns
    -------
    int

    Examples
    --------
    >>> import fastconv
    >>> fastconv.get_num_threads() >= 1
    True
    """
    if _state.num_threads is None:
        _state.num_threads = _default_num_threads()
    return 1 if _state.stranded else _state.num_threads


def set_num_threads(n):
    """Set the number of threads that fastconv's kernels use at most.

    Results do not depend on it, bit for bit: how work is cut depends on shapes alone.

    Parameters
    ----------
    n : int
        From 1 to 4096. A process that was forked after its parent had run parallel kernels keeps
        one thread, and warns.

    Raises
    ------
    TypeError, ValueError
        If `n` is not an integer, less than 1 or more than 4096.

    Examples
    --------
    >>> import fastconv
    >>> before = fastconv.get_num_threads()
    >>> fastconv.set_num_threads(1)
    >>> fastconv.get_num_threads()
    1
    >>> fastconv.set_num_threads(before)
    """
    _state.num_threads = _checks.integer("n", n, minimum=1, maximum=MOST_THREADS)
    _state.untold = _state.stranded and _state.num_threads > 1


def threads_for(work):
    """Threads for a region of about `work` elementary operations, which comes next."""
    if work < GRAIN or not _build.OPENMP:
        return 1
    n = get_num_threads()
    if _state.untold:
        _warn_of_one_thread()
    return team(n)


def _warn_of_one_thread():
    _state.untold = False
    more = (
        "after its parent had run parallel kernels (the 'forkserver' and 'spawn' start methods "
        "leave all threads)"
        if _state.stranded
        else "(fastconv.set_num_threads sets more)"
    )
    warnings.warn(
        f"fastconv uses one thread in this process: it was forked {more}",
        RuntimeWarning,
        stacklevel=3,
    )


def team(n):
    """`n`, whose regions are ready, or 1 where the system has no room for so many threads.

    Workers round and flush as the calling thread does: the processor's flags are each thread's
    own, and a team is older than what its caller sets.
    """
    if n == 1:
        return 1
    mode = _team.mode()
    if n != _workers.count or mode != _workers.mode:
        if n > _workers.count and not _team.can_start(n - _workers.count):
            return 1
        _state.went_parallel = True
        _team.set_mode(mode, n)
        _workers.count, _workers.mode = n, mode
    return n


@contextlib.contextmanager
def flush_denormal(mode=True):
    """Context in which subnormal numbers are zeros, as operands and as results.

    They are smaller than 1.2e-38 (2.2e-308 in float64), and the arithmetic of some processors is
    up to a hundred times slower on them. What fades meets them: a recursive filter, a network with
    strong weight decay.

    Parameters
    ----------
    mode : bool, default True
        False computes with them within such a context.

    Raises
    ------
    TypeError
        If `mode` is not a bool.
    NotImplementedError
        On processors other than x86-64 and AArch64.

    Notes
    -----
    As PyTorch's ``set_flush_denormal``, but what was set before comes back at the end. It holds for
    the calling thread, NumPy's and Python's arithmetic there included, and for the threads that
    fastconv's kernels use in calls from it.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> tiny = np.full((1, 1, 4, 4), 1e-40, np.float32)
    >>> with fastconv.flush_denormal():
    ...     y = fastconv.functional.avg_pool2d(tiny, 2)
    >>> float(y.max())
    0.0
    """
    mode = _checks.boolean("mode", mode)
    if not _team.FLUSH:  # C has no name for this flag of a processor
        raise NotImplementedError("flush_denormal knows x86-64 and AArch64 processors alone")
    before = _team.mode()
    _team.set_mode(before | _team.FLUSH if mode else before & ~_team.FLUSH, 1)
    try:
        yield
    finally:
        _team.set_mode(before, 1)
        if _workers.count > 1:  # other libraries may share them
            team(get_num_threads())


def workspace(threads, size, dtype, take=empty):
    """Uninitialised memory for each thread, a row of at least `size` values.

    Rows are a pair of cache lines apart: threads that write to one line wait for each other.
    """
    return take((threads, size + 128 // np.dtype(dtype).itemsize), dtype)


class _SingleThreadedBlas:
    """Context in which SciPy's BLAS runs on the calling thread.

    BLAS's thread count is one number for the process, so the contexts of concurrent Python
    threads are counted: the first in saves and sets it, the last out restores it.
    """

    def __init__(self):
        self.lock = threading.Lock()
        self.depth = 0
        self.saved = 1
        self.controls = None

    @property
    def available(self):
        """Whether the library's thread count can be controlled."""
        return self.controls_found()[0] is not None

    def controls_found(self):
        """(setter, getter), or (None, None)."""
        # Looked up at the first use: loading libraries during import can dead-lock with
        # other threads that import.
        if self.controls is None:
            self.controls = _find_blas_controls()
        return self.controls

    def __enter__(self):
        setter, getter = self.controls_found()
        with self.lock:
            if self.depth == 0 and setter is not None:
                self.saved = getter()
                if self.saved != 1:
                    setter(1)
            self.depth += 1

    def __exit__(self, *exc_info):
        with self.lock:
            self.depth -= 1
            if self.depth == 0 and self.controls[0] is not None and self.saved != 1:
                self.controls[0](self.saved)


def _find_blas_controls():
    """(setter, getter) of the very library that ``scipy.linalg.cython_blas`` calls."""
    from scipy.linalg import cython_blas

    try:
        # Symbols of a loaded module are searched together with its dependencies.
        mode = os.RTLD_NOW | os.RTLD_NOLOAD
        library = ctypes.CDLL(cython_blas.__file__, mode=mode)
    except (AttributeError, OSError):
        return None, None
    for setter, getter in _BLAS_CONTROLS:
        try:
            controls = library[setter], library[getter]
        except AttributeError:
            continue
        controls[0].argtypes, controls[0].restype = [ctypes.c_int], None
        controls[1].argtypes, controls[1].restype = [], ctypes.c_int
        return controls
    return None, None


single_threaded_blas = _SingleThreadedBlas()


class _SymbolInfo(ctypes.Structure):
    """``Dl_info`` of dlfcn.h."""

    _fields_ = (
        ("file", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("name", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
    )


def _library_of(address):
    """The file of the shared library that has a C function; None where it cannot be told."""
    info = _SymbolInfo()
    try:
        found = ctypes.CDLL(None).dladdr(ctypes.c_void_p(address), ctypes.byref(info))
    except (AttributeError, OSError, TypeError):  # Windows
        return None
    return os.fsdecode(info.file) if found else None


def describe_openmp():
    """(what the kernels are built with, the library that they found) for bug reports."""
    if not _build.OPENMP:
        return "no: single-threaded kernels", None
    address, threads = _build.openmp()
    return f"of {_build.OPENMP}, {threads} threads outside", _library_of(address)


def describe_blas():
    """(SciPy's BLAS and its threads, the library and what it says of itself) for bug reports."""
    import scipy

    blas = scipy.show_config(mode="dicts")["Build Dependencies"]["blas"]
    name = f"{blas.get('name')} {blas.get('version')}"
    setter, getter = single_threaded_blas.controls_found()
    if setter is None:
        return f"{name}, threads not controllable", None
    library = _library_of(ctypes.cast(setter, ctypes.c_void_p).value)
    try:
        config = ctypes.CDLL(library)[setter.__name__.replace("set_num_threads", "get_config")]
        config.argtypes, config.restype = [], ctypes.c_char_p
        library = f"{library} ({config().decode().strip()})"
    except (AttributeError, OSError):
        pass  # only OpenBLAS has it
    return f"{name}, {getter()} threads outside", library


def describe_limits():
    """What the number of threads follows, for bug reports."""
    quota = _cgroup.cpu_quota()
    limits = [f"{os.cpu_count()} CPUs"]
    if hasattr(os, "sched_getaffinity"):
        limits.append(f"affinity to {len(os.sched_getaffinity(0))}")
    limits.append("no quota of a control group" if quota is None else f"quota of {quota} CPUs")
    return ", ".join(limits)


def blas_threads_for(work):
    """Threads for a region whose tasks call BLAS: one if BLAS itself may be parallel."""
    return threads_for(work) if single_threaded_blas.available else 1


def _after_fork_in_child():
    """Another thread of the parent may have held the lock or been inside a context."""
    single_threaded_blas.lock = threading.Lock()
    if single_threaded_blas.depth:
        single_threaded_blas.depth = 0
        if single_threaded_blas.controls[0] is not None:
            single_threaded_blas.controls[0](single_threaded_blas.saved)
    # GNU OpenMP's threads do not survive a fork: the next region that wants them would hang.
    # Whether another library has used them is not known, so more than one must be asked for.
    _state.untold = get_num_threads() > 1
    _state.stranded = _build.after_fork(_state.stranded or _state.went_parallel)
    _state.num_threads = 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
