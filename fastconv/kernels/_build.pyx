"""How the kernels were compiled, what the processor can run, what the process has run."""

cdef extern from *:
    """
    #ifdef _OPENMP
    #define FASTCONV_OPENMP 1
    #else
    #define FASTCONV_OPENMP 0
    #endif
    #if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
    static int fastconv_has_avx2(void)
    {
        __builtin_cpu_init();
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    }
    #else
    static int fastconv_has_avx2(void) { return 0; }
    #endif
    """
    const bint FASTCONV_OPENMP
    const bint FASTCONV_BOUNDS
    bint fastconv_has_avx2()

OPENMP = bool(FASTCONV_OPENMP)
BOUNDS = bool(FASTCONV_BOUNDS)
# Names of the folders whose kernels this processor runs, best first.
LEVELS = ("avx2",) if fastconv_has_avx2() else ()


cdef Process _process = Process(False, False)


cdef Process* process() noexcept nogil:
    return &_process


def after_fork(bint parallel):
    """In a forked child: whether its parent ran parallel regions, by C's functions or as told."""
    _process.forked = _process.forked or parallel or _process.went_parallel
    return _process.forked
