from cython cimport floating


cpdef Py_ssize_t lanes_of(Py_ssize_t channels) noexcept nogil

cdef void sum_rows(
    const floating* x, Py_ssize_t rows, Py_ssize_t channels, floating* run, double* sums,
) noexcept nogil

cdef void block_moments(
    const floating* x, Py_ssize_t rows, Py_ssize_t channels, floating* work,
    double* means, double* squares,
) noexcept nogil

cdef void joined_moments(
    const double* means, const double* squares, Py_ssize_t blocks, Py_ssize_t block,
    Py_ssize_t count, Py_ssize_t channels, double* mean, double* var,
) noexcept nogil

cdef void found_factors(
    const double* mean, const double* inverse, const floating* weight, const floating* bias,
    Py_ssize_t channels, Py_ssize_t lanes, floating* centre, floating* scale, floating* shift,
) noexcept nogil

cdef void normalize_row(
    const floating* x, const floating* mean, const floating* scale, const floating* shift,
    const floating* residual, floating slope, floating top, floating* y, Py_ssize_t width,
) noexcept nogil

cdef void block_backward_sums(
    const floating* x, const floating* dy, const floating* mean, const floating* scale,
    const floating* shift, const floating* y, floating slope, floating top, floating* g,
    Py_ssize_t rows, Py_ssize_t channels, Py_ssize_t lanes, floating* work, double* sums,
    double* products,
) noexcept nogil

cdef void found_gradient_factors(
    const double* sums, const double* products, Py_ssize_t blocks, const double* mean,
    const double* inverse, const floating* centre, const floating* weight, Py_ssize_t count,
    Py_ssize_t channels, Py_ssize_t lanes, floating* factor, floating* tilt, floating* offset,
    floating* dweight, floating* dbias,
) noexcept nogil

cdef void backward_row(
    const floating* x, const floating* dy, const floating* mean, const floating* scale,
    const floating* shift, floating slope, floating top, const floating* factor,
    const floating* tilt, const floating* offset, floating* dx, Py_ssize_t width,
) noexcept nogil
