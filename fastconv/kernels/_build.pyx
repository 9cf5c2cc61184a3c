"""How the kernels were compiled, what the processor can run, what the process has run."""

cdef extern from *:
    """
    #ifdef _OPENMP
    #include <omp.h>
    #define FASTCONV_OPENMP _OPENMP
    #else
    #define FASTCONV_OPENMP 0
    static int omp_get_max_threads(void) { return 1; }
    #endif
    #if defined(__clang__)
    #define FASTCONV_COMPILER "Clang " __clang_version__
    #elif defined(__GNUC__)
    #define FASTCONV_COMPILER "GCC " __VERSION__
    #elif defined(_MSC_VER)
    #define FASTCONV_TEXT_OF(x) #x
    #define FASTCONV_TEXT(x) FASTCONV_TEXT_OF(x)
    #define FASTCONV_COMPILER "MSVC " FASTCONV_TEXT(_MSC_FULL_VER)
    #else
    #define FASTCONV_COMPILER "unknown"
    #endif
    #include <string.h>
    /* What the processor and the system have, of what matters to loops. */
    static const char *fastconv_features(void)
    {
    #if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
        static char found[64];
        __builtin_cpu_init();
        found[0] = 0;
        if (__builtin_cpu_supports("sse4.2")) strcat(found, " sse4.2");
        if (__builtin_cpu_supports("avx")) strcat(found, " avx");
        if (__builtin_cpu_supports("avx2")) strcat(found, " avx2");
        if (__builtin_cpu_supports("fma")) strcat(found, " fma");
        if (__builtin_cpu_supports("avx512f")) strcat(found, " avx512f");
        if (__builtin_cpu_supports("avx512bw")) strcat(found, " avx512bw");
        if (__builtin_cpu_supports("avx512cd")) strcat(found, " avx512cd");
        if (__builtin_cpu_supports("avx512dq")) strcat(found, " avx512dq");
        if (__builtin_cpu_supports("avx512vl")) strcat(found, " avx512vl");
        return found;
    #else
        return "";
    #endif
    }
    """
    const int FASTCONV_OPENMP
    const bint FASTCONV_BOUNDS
    const char *FASTCONV_COMPILER
    const char *fastconv_features()
    int omp_get_max_threads()

COMPILER = FASTCONV_COMPILER.decode()
OPENMP = FASTCONV_OPENMP  # the date of its specification, as 201511; 0 without it
BOUNDS = bool(FASTCONV_BOUNDS)
FEATURES = tuple(fastconv_features().decode().split())
# Folders of kernels, best first, and what a processor must have to run them.
LEVELS = {
    "avx512": {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "fma"},
    "avx2": {"avx2", "fma"},
}


def openmp():
    """(address of a function of the OpenMP runtime, threads of a region by default)."""
    return <size_t>&omp_get_max_threads, omp_get_max_threads()


cdef Process _process = Process(False, False)


cdef Process* process() noexcept nogil:
    return &_process


def after_fork(bint parallel):
    """In a forked child: whether its parent ran parallel regions, by C's functions or as told."""
    _process.forked = _process.forked or parallel or _process.went_parallel
    return _process.forked
