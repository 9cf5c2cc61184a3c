"""The threads of parallel regions: whether they can be had, and how their processors compute."""

from cython.parallel cimport parallel

cdef extern from *:
    """
    #if defined(__x86_64__) || defined(_M_X64)
    #include <xmmintrin.h>
    /* MXCSR: results to zero (FTZ), the direction of rounding, operands to zero (DAZ). */
    #define FASTCONV_FLUSH 0x8040u
    #define FASTCONV_ROUND 0x6000u
    static unsigned int fastconv_read(void) { return _mm_getcsr(); }
    static void fastconv_write(unsigned int word) { _mm_setcsr(word); }
    #elif defined(__aarch64__) && defined(__GNUC__)
    /* FPCR: results and operands to zero (FZ), the direction of rounding. */
    #define FASTCONV_FLUSH 0x1000000u
    #define FASTCONV_ROUND 0x0c00000u
    static unsigned int fastconv_read(void)
    {
        unsigned long long word;
        __asm__ volatile("mrs %0, fpcr" : "=r"(word));
        return (unsigned int) word;
    }
    static void fastconv_write(unsigned int word)
    {
        unsigned long long wide = word;
        __asm__ volatile("msr fpcr, %0" : : "r"(wide));
    }
    #else
    #define FASTCONV_FLUSH 0u
    #define FASTCONV_ROUND 0u
    static unsigned int fastconv_read(void) { return 0; }
    static void fastconv_write(unsigned int word) { (void) word; }
    #endif
    #define FASTCONV_MODE (FASTCONV_FLUSH | FASTCONV_ROUND)

    #if defined(_OPENMP) && (defined(__unix__) || defined(__APPLE__))
    #include <pthread.h>
    #include <stdlib.h>
    static void *fastconv_wait(void *mutex)
    {
        pthread_mutex_lock(mutex);
        pthread_mutex_unlock(mutex);
        return NULL;
    }
    static int fastconv_can_start(int count)
    {
        pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
        pthread_t *threads = malloc(count * sizeof *threads);
        int started = 0;
        if (!threads)
            return 0;
        pthread_mutex_lock(&mutex);
        while (started < count && !pthread_create(threads + started, NULL, fastconv_wait, &mutex))
            started++;
        pthread_mutex_unlock(&mutex);
        for (int i = 0; i < started; i++)
            pthread_join(threads[i], NULL);
        free(threads);
        return started == count;
    }
    #else
    static int fastconv_can_start(int count) { (void) count; return 1; }
    #endif
    """
    const unsigned int FASTCONV_FLUSH, FASTCONV_MODE
    bint fastconv_can_start(int count) noexcept nogil
    unsigned int fastconv_read() noexcept nogil
    void fastconv_write(unsigned int word) noexcept nogil

# The bits of a mode by which subnormal numbers are zeros; none where the flags are not known.
FLUSH = FASTCONV_FLUSH


def can_start(int count):
    """Whether the system has room for so many threads more: without, OpenMP ends the process."""
    cdef bint can
    with nogil:
        can = fastconv_can_start(count)
    return can


def mode():
    """Rounding and flushing of the calling thread."""
    return fastconv_read() & FASTCONV_MODE


def set_mode(unsigned int wanted, int n_threads):
    """Set those of the calling thread and of the workers of its parallel regions."""
    with nogil, parallel(num_threads=n_threads):
        fastconv_write((fastconv_read() & ~FASTCONV_MODE) | wanted)
