"""Convolution as matrix products over strips of output pixels.

Notes
-----
A strip's columns exist only in the thread's own row of ``work``; no im2col matrix of the
whole image is ever made. The BLAS calls here must be single-threaded: the caller limits
BLAS (:mod:`fastconv._threads`), and all parallelism is the ``prange`` over tasks. How work
is cut depends on shapes alone, so results do not depend on the number of threads.

``correlate`` serves the forward pass and, with the frames of
:func:`fastconv._geometry.transposed_frames`, the gradient by input: for the input pixels of
one phase of the stride that gradient is itself a stride-1 correlation of dy, so nothing is
scattered and nothing is added twice.
"""

from cython cimport floating
from cython.parallel cimport parallel, prange, threadid
from libc.string cimport memcpy

from fastconv.kernels._blas cimport gemm
from fastconv.kernels.activation cimport act
from fastconv.kernels.epilogue cimport Epilogue, read_epilogue
from fastconv.kernels.im2col cimport Frame, gather, output_place, read_frame


def correlate(
    const floating[:, :, :, :, ::1] x,   # IN   (N, D, H, W, G * C)
    const floating[:, :, ::1] w,         # IN   (G, K, taps * C), or (G, taps * C, K)
    bint w_by_output,                    # OPT  the first of the two
    const floating[::1] bias,            # IN   (G * K) or empty
    floating[:, :, :, :, ::1] y,         # OUT  (N, D', H', W', G * K), at the frame's places
    const floating[:, :, :, :, ::1] residual,  # IN   like y, or None
    double slope, double top,            # OPT  of the activation
    const Py_ssize_t[::1] frame,
    Py_ssize_t strip, Py_ssize_t block,  # OPT  pixels and output channels of a task
    floating[:, ::1] work,               # TEMP (n_threads, strip * (taps * C + block))
    int n_threads,
):
    """y[p, k] := bias[k] + sum over t, c of x[p, t, c] w[k, t, c], and the epilogue.

    Returns 0 or -1.
    """
    cdef Frame f = read_frame(frame)
    cdef Epilogue epilogue = read_epilogue(y, residual, slope, top)
    cdef Py_ssize_t outputs = w.shape[1] if w_by_output else w.shape[2]
    cdef Py_ssize_t pixels = x.shape[0] * f.count[0] * f.count[1] * f.count[2]
    cdef Py_ssize_t blocks = (outputs + block - 1) // block
    cdef Py_ssize_t tasks = (pixels + strip - 1) // strip * blocks
    cdef Py_ssize_t task, p0, k0
    cdef const floating* bias_at = &bias[0] if bias.shape[0] else NULL
    cdef int failed = 0
    with nogil, parallel(num_threads=n_threads):
        for task in prange(tasks, schedule="dynamic"):
            p0 = task // blocks * strip
            k0 = task % blocks * block
            failed |= _correlate_strip(
                &x[0, 0, 0, 0, 0], w, w_by_output, bias_at, &y[0, 0, 0, 0, 0], &epilogue, &f,
                outputs, p0, min(p0 + strip, pixels), k0, min(k0 + block, outputs),
                &work[threadid(), 0])
    return -failed


cdef int _correlate_strip(
    const floating* x, const floating[:, :, ::1] w, bint w_by_output, const floating* bias,
    floating* y, const Epilogue* epilogue, const Frame* f, Py_ssize_t outputs,
    Py_ssize_t p0, Py_ssize_t p1, Py_ssize_t k0, Py_ssize_t k1, floating* work,
) noexcept nogil:
    """Pixels [p0, p1) and, in every group, output channels [k0, k1)."""
    cdef Py_ssize_t groups = w.shape[0], depth = w.shape[2] if w_by_output else w.shape[1]
    cdef Py_ssize_t width = depth // (f.taps[0] * f.taps[1] * f.taps[2])
    cdef Py_ssize_t channels = groups * width, across = groups * outputs
    cdef Py_ssize_t rows = p1 - p0, cols = k1 - k0
    cdef Py_ssize_t g, p, lda = depth, ldc = cols
    cdef const floating* a = work
    cdef floating* c = work + rows * depth
    cdef floating* out
    cdef const floating* row_bias = NULL
    for g in range(groups):
        if f.pointwise:
            a = x + p0 * channels + g * width
            lda = channels
        else:
            gather(x, f, channels, g * width, width, 0, f.taps[0] * f.taps[1], p0, p1, work)
        if f.dense:
            c = y + p0 * across + g * outputs + k0
            ldc = across
        if gemm(False, w_by_output, rows, cols, depth, a, lda,
                &w[g, k0, 0] if w_by_output else &w[g, 0, k0], depth if w_by_output else outputs,
                <floating> 0, c, ldc):
            return 1
        if bias != NULL:
            row_bias = bias + g * outputs + k0
        for p in range(p0, p1):  # while the strip is still in cache
            out = y + (p if f.dense else output_place(f, p)) * across + g * outputs + k0
            if not f.dense:
                memcpy(out, c + (p - p0) * ldc, cols * sizeof(floating))
            _finish_row(out, cols, row_bias, epilogue)
    return 0


cdef inline void _finish_row(
    floating* y, Py_ssize_t cols, const floating* bias, const Epilogue* epilogue,
) noexcept nogil:
    """A pixel's outputs y += bias, and the epilogue."""
    cdef const floating* residual = <const floating*> (<const char*> y + epilogue.residual)
    cdef floating slope = epilogue.slope, top = epilogue.top
    cdef Py_ssize_t j
    if bias != NULL:
        for j in range(cols):  # vectorised
            y[j] += bias[j]
    if epilogue.add:
        for j in range(cols):  # vectorised
            y[j] += residual[j]
    if epilogue.act:
        for j in range(cols):  # vectorised
            y[j] = act(y[j], slope, top)


def correlate_weight(
    const floating[:, :, :, :, ::1] x,    # IN   (N, D, H, W, G * C)
    const floating[:, :, :, :, ::1] dy,   # IN   (N, D', H', W', G * K)
    floating[:, :, :, ::1] dw,            # OUT  (parts, G, K, taps * C): partial sums
    const Py_ssize_t[::1] frame,
    Py_ssize_t strip, Py_ssize_t span,    # OPT  pixels of a strip and of a part
    Py_ssize_t band,                      # OPT  kernel rows of a task
    floating[:, ::1] work,                # TEMP (n_threads, strip * band * taps_w * C)
    int n_threads,
):
    """dw[s, k, t, c] := sum over the pixels p of part s of dy[p, k] x[p, t, c].

    Returns 0 or -1. The caller adds the parts, in order.
    """
    cdef Frame f = read_frame(frame)
    cdef Py_ssize_t rows = f.taps[0] * f.taps[1]
    cdef Py_ssize_t bands = (rows + band - 1) // band
    cdef Py_ssize_t pixels = x.shape[0] * f.count[0] * f.count[1] * f.count[2]
    cdef Py_ssize_t task, part, row
    cdef int failed = 0
    with nogil, parallel(num_threads=n_threads):
        for task in prange(dw.shape[0] * bands, schedule="dynamic"):
            part = task // bands
            row = task % bands * band
            failed |= _correlate_weight_part(
                &x[0, 0, 0, 0, 0], &dy[0, 0, 0, 0, 0], dw, part, &f, row, min(row + band, rows),
                part * span, min(part * span + span, pixels), strip, &work[threadid(), 0])
    return -failed


cdef int _correlate_weight_part(
    const floating* x, const floating* dy, floating[:, :, :, ::1] dw, Py_ssize_t part,
    const Frame* f, Py_ssize_t row0, Py_ssize_t row1, Py_ssize_t first, Py_ssize_t last,
    Py_ssize_t strip, floating* work,
) noexcept nogil:
    """Kernel rows [row0, row1) summed over pixels [first, last)."""
    cdef Py_ssize_t groups = dw.shape[1], outputs = dw.shape[2], depth = dw.shape[3]
    cdef Py_ssize_t run = depth // (f.taps[0] * f.taps[1])  # taps_w * C
    cdef Py_ssize_t width = run // f.taps[2]
    cdef Py_ssize_t channels = groups * width, across = groups * outputs
    cdef Py_ssize_t g, p0, p1, ldb = (row1 - row0) * run
    cdef const floating* b = work
    p0 = first
    while p0 < last:
        p1 = min(p0 + strip, last)
        for g in range(groups):
            if f.pointwise:
                b = x + p0 * channels + g * width
                ldb = channels
            else:
                gather(x, f, channels, g * width, width, row0, row1, p0, p1, work)
            # dW[k, t] += dY^T . columns
            if gemm(True, False, outputs, (row1 - row0) * run, p1 - p0,
                    dy + p0 * across + g * outputs, across, b, ldb,
                    <floating> (p0 > first), &dw[part, g, 0, row0 * run], depth):
                return 1
        p0 = p1
    return 0
