from cython cimport floating

from fastconv.kernels.im2col cimport Frame


cdef void point_places(
    floating* y, const Frame* f, Py_ssize_t across, Py_ssize_t p0, Py_ssize_t p1, floating** places,
) noexcept nogil

cdef void point_rows(
    const floating* x, const Frame* f, Py_ssize_t channels, Py_ssize_t width, bint whole_rows,
    Py_ssize_t p0, Py_ssize_t p1, Py_ssize_t stride, floating* work, const floating** rows,
) noexcept nogil
