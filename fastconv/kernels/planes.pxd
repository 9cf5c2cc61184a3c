from cython cimport floating

from fastconv.kernels.epilogue cimport Epilogue
from fastconv.kernels.im2col cimport Frame


cdef struct Tap:
    Py_ssize_t place    # in x, of what it reads for pixel 0 of the line; may lie outside
    Py_ssize_t first    # pixels [first, stop) read the image
    Py_ssize_t stop
    double weight


cdef void correlate_planes(
    const floating* x, const floating* w, const floating* bias, floating* y,
    const Epilogue* epilogue, const Frame* f, Py_ssize_t images, Py_ssize_t span, floating* work,
    Py_ssize_t work_row, void** pointers, Py_ssize_t pointers_row, int n_threads,
) noexcept nogil
