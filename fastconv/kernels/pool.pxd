from cython cimport floating


cdef struct Spans:
    # Per axis: place q of `count` places spans [first[q], stop[q]) in steps.
    Py_ssize_t count[3]
    Py_ssize_t size[3]
    Py_ssize_t step[3]
    const Py_ssize_t* first[3]
    const Py_ssize_t* stop[3]


cdef void max_line(
    const floating* x, const Spans* s, Py_ssize_t i, Py_ssize_t j, Py_ssize_t channels,
    floating floor, floating* y, int* index,
) noexcept nogil

cdef void max_line_backward(
    const floating* dy, const int* index, const Spans* s, Py_ssize_t i, Py_ssize_t j,
    Py_ssize_t channels, floating* dx,
) noexcept nogil

cdef void sum_line(
    const floating* x, const Spans* s, Py_ssize_t i, Py_ssize_t j, Py_ssize_t channels,
    const double* divisor, double power, floating* y,
) noexcept nogil

cdef void sum_line_backward(
    const floating* dy, const Spans* s, Py_ssize_t i, Py_ssize_t j, Py_ssize_t channels,
    const double* divisor, floating* dx,
) noexcept nogil
