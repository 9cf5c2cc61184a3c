"""Convolution by its definition, for arrays so small that a call costs more than the work.

Notes
-----
Buffers of any strides are read as they are: nothing is converted, packed or allocated, and no
typed memoryview is made, whose creation alone takes longer than a hundred multiplications.
"""

from cpython.buffer cimport (
    PyBUF_STRIDED_RO, PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer,
)
from cython cimport floating

from fastconv.kernels.activation cimport act
from fastconv.kernels.im2col cimport Frame, unpack_frame


cdef struct Strides:
    # Bytes between neighbours, of batch or outputs, of channels, and along three spatial axes.
    Py_ssize_t outer
    Py_ssize_t channel
    Py_ssize_t axis[3]


cdef Strides _strides(const Py_buffer* buffer) noexcept:
    """Fewer spatial axes stand behind leading ones of length one."""
    cdef Strides s
    cdef Py_ssize_t axis, missing = 5 - buffer.ndim
    s.outer, s.channel = buffer.strides[0], buffer.strides[1]
    for axis in range(3):
        s.axis[axis] = buffer.strides[2 + axis - missing] if axis >= missing else 0
    return s


def correlate(x, w, bias, y, residual, double slope, double top, frame, Py_ssize_t groups):
    """y[n, k] := bias[k] + sum over c, t of x[n, c] at tap t times w[k, c, t], and the epilogue.

    x (N, C, *spatial), w (K, C / groups, *taps), bias (K,) or None, y (N, K, *spatial), which is
    written, and residual, like y, or None, are arrays of one dtype, float or double, and any
    strides; slope and top are the activation's, frame is packed.
    """
    cdef Py_buffer buffers[6]
    cdef const Py_buffer* biases = NULL
    cdef const Py_buffer* residuals = NULL
    cdef Frame f
    cdef int held = 0
    cdef Strides sx, sw, sy
    try:
        for array in (x, w, frame):
            PyObject_GetBuffer(array, &buffers[held], PyBUF_STRIDED_RO)
            held += 1
        PyObject_GetBuffer(y, &buffers[held], PyBUF_STRIDES | PyBUF_WRITABLE)
        held += 1
        if bias is not None:
            PyObject_GetBuffer(bias, &buffers[held], PyBUF_STRIDED_RO)
            biases = &buffers[held]
            held += 1
        if residual is not None:
            PyObject_GetBuffer(residual, &buffers[held], PyBUF_STRIDED_RO)
            residuals = &buffers[held]
            held += 1
        f = unpack_frame(<const Py_ssize_t*> buffers[2].buf)
        sx, sw, sy = _strides(&buffers[0]), _strides(&buffers[1]), _strides(&buffers[3])
        if buffers[0].itemsize == sizeof(float):
            _correlate[float](
                buffers, biases, residuals, &f, groups, &sx, &sw, &sy, <float> slope, <float> top)
        else:
            _correlate[double](
                buffers, biases, residuals, &f, groups, &sx, &sw, &sy, slope, top)
    finally:
        while held:
            held -= 1
            PyBuffer_Release(&buffers[held])


cdef void _correlate(
    const Py_buffer* buffers, const Py_buffer* biases, const Py_buffer* residuals,
    const Frame* f, Py_ssize_t groups, const Strides* sx, const Strides* sw, const Strides* sy,
    floating slope, floating top,
) noexcept:
    cdef Py_ssize_t outputs = buffers[1].shape[0], width = buffers[1].shape[1]
    cdef Py_ssize_t n, k, p, q, r
    cdef const char* image
    cdef const char* kernel
    cdef const char* added = NULL
    cdef char* out
    cdef floating start, value
    cdef Strides sr
    if residuals != NULL:
        sr = _strides(residuals)
    for n in range(buffers[0].shape[0]):
        for k in range(outputs):
            start = 0
            if biases != NULL:
                start = (<const floating*> (
                    <const char*> biases.buf + k * biases.strides[0]))[0]
            if residuals != NULL:
                added = <const char*> residuals.buf + n * sr.outer + k * sr.channel
            image = (<const char*> buffers[0].buf + n * sx.outer
                     + k // (outputs // groups) * width * sx.channel)
            kernel = <const char*> buffers[1].buf + k * sw.outer
            out = <char*> buffers[3].buf + n * sy.outer + k * sy.channel
            for p in range(f.count[0]):
                for q in range(f.count[1]):
                    for r in range(f.count[2]):
                        value = start + _products(
                            image, kernel, f, width, sx, sw, p * f.step[0], q * f.step[1],
                            r * f.step[2], <floating> 0)
                        if added != NULL:
                            value += (<const floating*> (
                                added + p * sr.axis[0] + q * sr.axis[1] + r * sr.axis[2]))[0]
                        (<floating*> (out + p * sy.axis[0] + q * sy.axis[1]
                                      + r * sy.axis[2]))[0] = act(value, slope, top)


cdef inline floating _products(
    const char* image, const char* kernel, const Frame* f, Py_ssize_t width, const Strides* sx,
    const Strides* sw, Py_ssize_t p, Py_ssize_t q, Py_ssize_t r, floating zero,
) noexcept:
    """The sum over taps and channels of the pixel whose taps are read from (p, q, r) on."""
    cdef Py_ssize_t a, b, t, c, z, y, u
    cdef const char* value
    cdef const char* weight
    cdef floating total = zero
    for a in range(f.taps[0]):
        z = p + f.offset[0][a]
        if not 0 <= z < f.size[0]:
            continue
        for b in range(f.taps[1]):
            y = q + f.offset[1][b]
            if not 0 <= y < f.size[1]:
                continue
            for t in range(f.taps[2]):
                u = r + f.offset[2][t]
                if not 0 <= u < f.size[2]:
                    continue
                value = image + z * sx.axis[0] + y * sx.axis[1] + u * sx.axis[2]
                weight = kernel + a * sw.axis[0] + b * sw.axis[1] + t * sw.axis[2]
                for c in range(width):
                    total += ((<const floating*> (value + c * sx.channel))[0]
                              * (<const floating*> (weight + c * sw.channel))[0])
    return total
