# cython: language_level=3
"""The heat equation on a plane, by fastconv's functions for Cython: no Python while it steps."""

from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc

from fastconv.kernels.capi cimport (
    FASTCONV_C_ORDER, FASTCONV_FLOAT64, FASTCONV_OK, conv_forward, conv_forward_workspace,
    describe, fastconv_array, fastconv_conv, import_fastconv, status_text,
)

import_fastconv()  # an ImportError if the installed fastconv is older than what this was built for


def heat(double[:, ::1] u, double[:, ::1] kernel, int steps, int threads=1):
    """u convolved with the kernel, of odd sizes, `steps` times and in place; zero is outside."""
    cdef double[:, ::1] other = u.copy()
    cdef fastconv_array x, y, w
    cdef fastconv_conv conv
    cdef int64_t[4] plane = [1, 1, u.shape[0], u.shape[1]]
    cdef int64_t[4] square = [1, 1, kernel.shape[0], kernel.shape[1]]
    cdef int64_t bytes
    cdef int status, axis, _step
    cdef void* workspace
    conv.groups = 1
    for axis in range(2):
        conv.stride[axis] = conv.dilation[axis] = 1
        conv.before[axis] = conv.after[axis] = kernel.shape[axis] // 2
    status = describe(&x, &u[0, 0], FASTCONV_FLOAT64, 4, plane, FASTCONV_C_ORDER)
    if status == FASTCONV_OK:
        status = describe(&y, &other[0, 0], FASTCONV_FLOAT64, 4, plane, FASTCONV_C_ORDER)
    if status == FASTCONV_OK:
        status = describe(&w, &kernel[0, 0], FASTCONV_FLOAT64, 4, square, FASTCONV_C_ORDER)
    bytes = status
    if status == FASTCONV_OK:
        bytes = conv_forward_workspace(&conv, &x, &w, &y, threads)
    if bytes < 0:
        raise ValueError(status_text(<int> bytes).decode())
    workspace = malloc(bytes)
    if workspace == NULL:
        raise MemoryError()
    with nogil:
        for _step in range(steps):
            status = conv_forward(&conv, &x, &w, NULL, &y, workspace, bytes, threads)
            if status != FASTCONV_OK:
                break
            x.data, y.data = y.data, x.data
    free(workspace)
    if status != FASTCONV_OK:
        raise ValueError(status_text(status).decode())
    if steps % 2:
        u[:] = other
