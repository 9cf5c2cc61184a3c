from cython cimport floating

from fastconv.kernels.epilogue cimport Epilogue
from fastconv.kernels.im2col cimport Frame

cdef enum:
    PIECE = 32  # pixels by an edge at a time


cdef struct Outside:
    # The place in the image of what stands beside it, -1 for zero: of `before` places, per axis,
    # and of those behind the image. Without a table all is zero.
    Py_ssize_t before[3]
    const Py_ssize_t* source[3]


cdef void correlate_planes(
    const floating* x, const floating* w, const floating* bias, floating* y,
    const Epilogue* epilogue, const Frame* f, const Outside* outside, Py_ssize_t images,
    Py_ssize_t span, floating* work, Py_ssize_t work_row, void** pointers,
    Py_ssize_t pointers_row, int n_threads,
) noexcept nogil
