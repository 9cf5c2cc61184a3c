from cython cimport floating

from fastconv.kernels.epilogue cimport Epilogue
from fastconv.kernels.im2col cimport Frame


cdef void correlate_narrow(
    const floating* x, const floating* w, const floating* bias, floating* y,
    const Epilogue* epilogue, const Frame* f, Py_ssize_t images, Py_ssize_t taps,
    Py_ssize_t width, Py_ssize_t channels, Py_ssize_t strip, floating* work, Py_ssize_t work_row,
    void** pointers, Py_ssize_t pointers_row, int n_threads,
) noexcept nogil

cdef void add_narrow_weights(
    const floating* x, const floating* dy, floating* dw, const Frame* f, Py_ssize_t images,
    Py_ssize_t parts, Py_ssize_t taps, Py_ssize_t width, Py_ssize_t channels, Py_ssize_t strip,
    Py_ssize_t span, floating* work, Py_ssize_t work_row, const void** pointers,
    Py_ssize_t pointers_row, int n_threads,
) noexcept nogil
