"""Statistics and normalisation per channel, on (pixels, channels).

Notes
-----
Sums run over fixed blocks of rows, in ``floating`` over ``RUN`` rows and in double from
there, and the caller adds the blocks in order: accurate, and the same for any number of
threads. A block is small enough to be read a second time from cache.
"""

from cython cimport floating
from cython.parallel cimport parallel, prange, threadid

from fastconv.kernels.activation cimport act, act_gradient

cdef enum:
    RUN = 64


def column_sums(
    const floating[:, ::1] x,         # IN   (P, C)
    double[:, ::1] sums,              # OUT  (blocks, C)
    Py_ssize_t block,                 # OPT  rows of a block
    floating[:, ::1] work,            # TEMP (n_threads, C)
    int n_threads,
):
    """sums[b] := the sum of the rows of block b."""
    cdef Py_ssize_t b
    with nogil, parallel(num_threads=n_threads):
        for b in prange(sums.shape[0], schedule="guided"):
            sum_rows(&x[b * block, 0], min(block, x.shape[0] - b * block), x.shape[1],
                     &work[threadid(), 0], &sums[b, 0])


cdef void sum_rows(
    const floating* x, Py_ssize_t rows, Py_ssize_t channels, floating* run, double* sums,
) noexcept nogil:
    cdef Py_ssize_t part, top, _i, c
    for c in range(channels):
        sums[c] = 0
    for part in range((rows + RUN - 1) // RUN):
        top = part * RUN
        for c in range(channels):
            run[c] = 0
        for _i in range(min(RUN, rows - top)):
            for c in range(channels):  # vectorised
                run[c] += x[c]
            x += channels
        for c in range(channels):  # vectorised
            sums[c] += run[c]


def moments(
    const floating[:, ::1] x,         # IN   (P, C)
    double[:, ::1] means,             # OUT  (blocks, C)
    double[:, ::1] squares,           # OUT  (blocks, C): sums of (x - mean of the block)^2
    Py_ssize_t block,
    floating[:, ::1] work,            # TEMP (n_threads, 2 C)
    int n_threads,
):
    """Mean and sum of squared deviations of each block; the caller combines them."""
    cdef Py_ssize_t b, rows
    with nogil, parallel(num_threads=n_threads):
        for b in prange(means.shape[0], schedule="guided"):
            rows = min(block, x.shape[0] - b * block)
            block_moments(&x[b * block, 0], rows, x.shape[1], &work[threadid(), 0],
                          &means[b, 0], &squares[b, 0])


cdef void block_moments(
    const floating* x, Py_ssize_t rows, Py_ssize_t channels, floating* work,
    double* means, double* squares,
) noexcept nogil:
    cdef Py_ssize_t part, top, i, c
    cdef floating* run = work
    cdef floating* centre = work + channels
    sum_rows(x, rows, channels, run, means)
    for c in range(channels):  # vectorised
        means[c] /= rows
        centre[c] = <floating> means[c]
        squares[c] = 0
    for part in range((rows + RUN - 1) // RUN):
        top = part * RUN
        for c in range(channels):
            run[c] = 0
        for i in range(top, min(top + RUN, rows)):
            for c in range(channels):  # vectorised
                run[c] += (x[i * channels + c] - centre[c]) * (x[i * channels + c] - centre[c])
        for c in range(channels):  # vectorised
            squares[c] += run[c]
    # The centre is the mean rounded to floating: sum (x - m)^2 = sum (x - c)^2 - n (c - m)^2.
    for c in range(channels):  # vectorised
        squares[c] -= rows * (centre[c] - means[c]) ** 2


def normalize(
    const floating[:, ::1] x,         # IN   (P, C)
    const floating[::1] mean,         # IN   (C)
    const floating[::1] scale,        # IN   (C)
    const floating[::1] shift,        # IN   (C)
    residual,                         # IN   (P, C) of x's dtype, or None
    floating slope, floating top,     # OPT  of the activation
    floating[:, ::1] y,               # OUT  (P, C)
    int n_threads,
):
    """y := act((x - mean) * scale + shift + residual)."""
    cdef Py_ssize_t i, channels = x.shape[1]
    cdef const floating[:, ::1] added = x if residual is None else residual
    cdef bint adds = residual is not None
    for i in prange(x.shape[0], schedule="guided", nogil=True, num_threads=n_threads):
        normalize_row(&x[i, 0], &mean[0], &scale[0], &shift[0], &added[i, 0] if adds else NULL,
                      slope, top, &y[i, 0], channels)


cdef void normalize_row(
    const floating* x, const floating* mean, const floating* scale, const floating* shift,
    const floating* residual, floating slope, floating top, floating* y, Py_ssize_t channels,
) noexcept nogil:
    cdef Py_ssize_t c
    if slope == 1:
        if residual == NULL:
            for c in range(channels):  # vectorised
                y[c] = (x[c] - mean[c]) * scale[c] + shift[c]
        else:
            for c in range(channels):  # vectorised
                y[c] = (x[c] - mean[c]) * scale[c] + shift[c] + residual[c]
    elif residual == NULL:
        for c in range(channels):  # vectorised
            y[c] = act((x[c] - mean[c]) * scale[c] + shift[c], slope, top)
    else:
        for c in range(channels):  # vectorised
            y[c] = act((x[c] - mean[c]) * scale[c] + shift[c] + residual[c], slope, top)


def backward_sums(
    const floating[:, ::1] x,         # IN   (P, C)
    const floating[:, ::1] dy,        # IN   (P, C)
    const floating[::1] mean,         # IN   (C)
    const floating[::1] scale,        # IN   (C)
    const floating[::1] shift,        # IN   (C)
    y,                                # IN   (P, C) with a residual, else None
    floating slope, floating top,     # OPT  of the activation
    g,                                # OUT  (P, C) with a residual, else None
    double[:, ::1] sums,              # OUT  (blocks, C): sums of g
    double[:, ::1] products,          # OUT  (blocks, C): sums of g (x - mean)
    Py_ssize_t block,
    floating[:, ::1] work,            # TEMP (n_threads, 3 C)
    int n_threads,
):
    """g := dy act', and the two sums over rows that the gradients of a normalisation need.

    Where there is a residual, its gradient is g, and the activation is known from y; otherwise x
    tells it, and g is not kept.
    """
    cdef Py_ssize_t b
    cdef const floating[:, ::1] results = x if y is None else y
    cdef floating[:, ::1] kept
    cdef bint keeps = g is not None
    if keeps:
        kept = g
    with nogil, parallel(num_threads=n_threads):
        for b in prange(sums.shape[0], schedule="guided"):
            block_backward_sums(
                &x[b * block, 0], &dy[b * block, 0], &mean[0], &scale[0], &shift[0],
                &results[b * block, 0] if keeps else NULL, slope, top,
                &kept[b * block, 0] if keeps else NULL,
                min(block, x.shape[0] - b * block), x.shape[1], &work[threadid(), 0],
                &sums[b, 0], &products[b, 0])


cdef void block_backward_sums(
    const floating* x, const floating* dy, const floating* mean, const floating* scale,
    const floating* shift, const floating* y, floating slope, floating top, floating* g,
    Py_ssize_t rows, Py_ssize_t channels, floating* work, double* sums, double* products,
) noexcept nogil:
    cdef Py_ssize_t part, _i, c
    cdef floating* run = work
    cdef floating* run_product = work + channels
    cdef floating* row = work + 2 * channels
    cdef const floating* flow
    for c in range(channels):
        sums[c] = products[c] = 0
    for part in range((rows + RUN - 1) // RUN):
        for c in range(channels):
            run[c] = run_product[c] = 0
        for _i in range(min(RUN, rows - part * RUN)):
            flow = dy
            if g != NULL:
                for c in range(channels):  # vectorised
                    g[c] = act_gradient(dy[c], y[c], slope, top)
                flow = g
                y += channels
                g += channels
            elif slope != 1:
                for c in range(channels):  # vectorised
                    row[c] = act_gradient(
                        dy[c], (x[c] - mean[c]) * scale[c] + shift[c], slope, top)
                flow = row
            for c in range(channels):  # vectorised
                run[c] += flow[c]
                run_product[c] += flow[c] * (x[c] - mean[c])
            x += channels
            dy += channels
        for c in range(channels):  # vectorised
            sums[c] += run[c]
            products[c] += run_product[c]


def backward_input(
    const floating[:, ::1] x,         # IN   (P, C)
    const floating[:, ::1] dy,        # IN   (P, C): g with a residual
    const floating[::1] mean,         # IN   (C)
    const floating[::1] scale,        # IN   (C)
    const floating[::1] shift,        # IN   (C)
    floating slope, floating top,     # OPT  of the activation; none with a residual
    const floating[::1] factor,       # IN   (C)
    const floating[::1] tilt,         # IN   (C)
    const floating[::1] offset,       # IN   (C)
    floating[:, ::1] dx,              # OUT  (P, C)
    int n_threads,
):
    """dx := factor * g + tilt * (x - mean) + offset."""
    cdef Py_ssize_t i
    for i in prange(x.shape[0], schedule="guided", nogil=True, num_threads=n_threads):
        backward_row(&x[i, 0], &dy[i, 0], &mean[0], &scale[0], &shift[0], slope, top,
                     &factor[0], &tilt[0], &offset[0], &dx[i, 0], x.shape[1])


cdef void backward_row(
    const floating* x, const floating* dy, const floating* mean, const floating* scale,
    const floating* shift, floating slope, floating top, const floating* factor,
    const floating* tilt, const floating* offset, floating* dx, Py_ssize_t channels,
) noexcept nogil:
    cdef Py_ssize_t c
    if slope == 1:
        for c in range(channels):  # vectorised
            dx[c] = factor[c] * dy[c] + tilt[c] * (x[c] - mean[c]) + offset[c]
    else:
        for c in range(channels):  # vectorised
            dx[c] = (factor[c] * act_gradient(dy[c], (x[c] - mean[c]) * scale[c] + shift[c],
                                              slope, top)
                     + tilt[c] * (x[c] - mean[c]) + offset[c])
