"""How the kernels were compiled."""

cdef extern from *:
    """
    #ifdef _OPENMP
    #define FASTCONV_OPENMP 1
    #else
    #define FASTCONV_OPENMP 0
    #endif
    """
    const bint FASTCONV_OPENMP
    const bint FASTCONV_BOUNDS

OPENMP = bool(FASTCONV_OPENMP)
BOUNDS = bool(FASTCONV_BOUNDS)
