cdef struct Strided:
    # An array of six axes in memory: their sizes, and values from one place to the next.
    Py_ssize_t size[6]
    Py_ssize_t step[6]


ctypedef fused value:
    int
    float
    double


cdef void copy_strided(
    const value* source, const Strided* view, value* target, const Py_ssize_t* step, int n_threads,
) noexcept nogil
