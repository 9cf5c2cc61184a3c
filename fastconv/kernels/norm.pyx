"""Statistics and normalisation per channel, on (pixels, channels).

Notes
-----
Sums run over fixed blocks of rows, in ``floating`` over ``RUN`` rows and in double from
there, and the blocks are added in order: accurate, and the same for any number of
threads. A block is small enough to be read a second time from cache.

Rows of few channels are worked on several at a time, as one row of ``lanes`` values: a loop over 16
channels costs more to begin than to run, and would wait for the sums that the row before has only
just stored. Vectors of one value for each channel are then repeated for each of these rows.
"""

from cython cimport floating
from cython.parallel cimport parallel, prange, threadid
from libc.math cimport sqrt

from fastconv.kernels.activation cimport act, act_gradient

cdef enum:
    RUN = 64
    LANES = 128


cpdef Py_ssize_t lanes_of(Py_ssize_t channels) noexcept nogil:
    """The values of as many rows of so many channels as are worked on at a time."""
    return channels * max(1, LANES // max(1, channels))


cdef inline void repeat(floating* values, Py_ssize_t channels, Py_ssize_t lanes) noexcept nogil:
    cdef Py_ssize_t c
    for c in range(channels, lanes):
        values[c] = values[c - channels]


cdef inline void add_lanes(
    const floating* run, Py_ssize_t channels, Py_ssize_t lanes, double* sums,
) noexcept nogil:
    cdef Py_ssize_t _row, c
    for _row in range(lanes // max(1, channels)):
        for c in range(channels):  # vectorised
            sums[c] += run[c]
        run += channels


def column_sums(
    const floating[:, ::1] x,         # IN   (P, C)
    double[:, ::1] sums,              # OUT  (blocks, C)
    Py_ssize_t block,                 # OPT  rows of a block
    floating[:, ::1] work,            # TEMP (n_threads, lanes)
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
    cdef Py_ssize_t lanes = lanes_of(channels), left = rows * channels, width, _i, c
    for c in range(channels):
        sums[c] = 0
    while left:
        for c in range(lanes):
            run[c] = 0
        for _i in range(RUN):
            width = min(lanes, left)
            for c in range(width):  # vectorised
                run[c] += x[c]
            x += width
            left -= width
        add_lanes(run, channels, lanes, sums)


def moments(
    const floating[:, ::1] x,         # IN   (P, C)
    double[:, ::1] means,             # OUT  (blocks, C)
    double[:, ::1] squares,           # OUT  (blocks, C): sums of (x - mean of the block)^2
    Py_ssize_t block,
    floating[:, ::1] work,            # TEMP (n_threads, 2 lanes)
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
    cdef Py_ssize_t lanes = lanes_of(channels), left = rows * channels, width, _i, c
    cdef floating* run = work
    cdef floating* centre = work + lanes
    sum_rows(x, rows, channels, run, means)
    for c in range(channels):  # vectorised
        means[c] /= rows
        centre[c] = <floating> means[c]
        squares[c] = 0
    repeat(centre, channels, lanes)
    while left:
        for c in range(lanes):
            run[c] = 0
        for _i in range(RUN):
            width = min(lanes, left)
            for c in range(width):  # vectorised
                run[c] += (x[c] - centre[c]) * (x[c] - centre[c])
            x += width
            left -= width
        add_lanes(run, channels, lanes, squares)
    # The centre is the mean rounded to floating: sum (x - m)^2 = sum (x - c)^2 - n (c - m)^2.
    for c in range(channels):  # vectorised
        squares[c] -= rows * (centre[c] - means[c]) ** 2


def join_moments(
    const double[:, ::1] means,       # IN   (blocks, C), from moments
    const double[:, ::1] squares,     # IN   (blocks, C)
    Py_ssize_t block, Py_ssize_t count,  # OPT  rows of a block, and of all
    double[::1] mean,                 # OUT  (C)
    double[::1] var,                  # OUT  (C), of N
):
    """Mean and variance of all rows."""
    if mean.shape[0]:
        joined_moments(&means[0, 0], &squares[0, 0], means.shape[0], block, count, mean.shape[0],
                       &mean[0], &var[0])


cdef void joined_moments(
    const double* means, const double* squares, Py_ssize_t blocks, Py_ssize_t block,
    Py_ssize_t count, Py_ssize_t channels, double* mean, double* var,
) noexcept nogil:
    """mean = sum n_b m_b / n, n var = sum M_b + sum n_b (m_b - mean)^2."""
    cdef Py_ssize_t b, c, some
    cdef double away
    for c in range(channels):
        mean[c] = var[c] = 0
    for b in range(blocks):
        some = min(block, count - b * block)
        for c in range(channels):
            mean[c] += some * means[b * channels + c]
    for c in range(channels):
        mean[c] /= count
    for b in range(blocks):
        some = min(block, count - b * block)
        for c in range(channels):
            away = means[b * channels + c] - mean[c]
            var[c] += squares[b * channels + c] + some * (away * away)
    for c in range(channels):
        var[c] /= count


def follow(
    floating[:] running,              # IN/OUT (C)
    const double[::1] batch,          # IN     (C)
    double factor, double momentum,
):
    """running += momentum * (factor * batch - running)."""
    cdef Py_ssize_t c
    for c in range(running.shape[0]):
        running[c] += <floating> (momentum * (factor * batch[c] - running[c]))


def factors(
    const double[::1] mean,           # IN   (C)
    const double[::1] var,            # IN   (C)
    double eps,
    double[::1] inverse,              # OUT  (C): 1 / sqrt(var + eps)
    floating[::1] centre,             # OUT  (lanes): the mean, rounded
    floating[::1] scale,              # OUT  (lanes)
    floating[::1] shift,              # OUT  (lanes)
    const floating[::1] weight,       # IN   (C), or None
    const floating[::1] bias,         # IN   (C), or None
):
    """What normalize needs: y = (x - centre) * scale + shift."""
    cdef Py_ssize_t c, channels = mean.shape[0]
    for c in range(channels):
        inverse[c] = 1 / sqrt(var[c] + eps)
    if channels:
        found_factors(&mean[0], &inverse[0], _first(weight), _first(bias), channels,
                      centre.shape[0], &centre[0], &scale[0], &shift[0])


cdef inline const floating* _first(const floating[::1] values) noexcept:
    if values is None:
        return NULL
    return &values[0]


cdef void found_factors(
    const double* mean, const double* inverse, const floating* weight, const floating* bias,
    Py_ssize_t channels, Py_ssize_t lanes, floating* centre, floating* scale, floating* shift,
) noexcept nogil:
    cdef Py_ssize_t c
    cdef double gain
    for c in range(channels):
        gain = inverse[c] * (weight[c] if weight != NULL else 1.)
        centre[c], scale[c] = <floating> mean[c], <floating> gain
        # the mean is rounded, so the shift makes up for what that loses
        shift[c] = <floating> (
            (bias[c] if bias != NULL else 0.) + (centre[c] - mean[c]) * gain)
    repeat(centre, channels, lanes)
    repeat(scale, channels, lanes)
    repeat(shift, channels, lanes)


def normalize(
    const floating[:, ::1] x,         # IN   (P, C)
    const floating[::1] mean,         # IN   (lanes), or any other number of whole rows
    const floating[::1] scale,        # IN   (lanes)
    const floating[::1] shift,        # IN   (lanes)
    residual,                         # IN   (P, C) of x's dtype, or None
    floating slope, floating top,     # OPT  of the activation
    floating[:, ::1] y,               # OUT  (P, C)
    int n_threads,
):
    """y := act((x - mean) * scale + shift + residual)."""
    cdef Py_ssize_t i, at, lanes = mean.shape[0], size = x.shape[0] * x.shape[1]
    cdef bint adds = residual is not None
    cdef const floating[:, ::1] added = residual if adds else x
    cdef const floating* source = &x[0, 0]
    cdef const floating* more = &added[0, 0]
    cdef floating* target = &y[0, 0]
    for i in prange((size + lanes - 1) // lanes, schedule="guided", nogil=True,
                    num_threads=n_threads):
        at = i * lanes
        normalize_row(source + at, &mean[0], &scale[0], &shift[0],
                      more + at if adds else NULL, slope, top, target + at,
                      min(lanes, size - at))


cdef void normalize_row(
    const floating* x, const floating* mean, const floating* scale, const floating* shift,
    const floating* residual, floating slope, floating top, floating* y, Py_ssize_t width,
) noexcept nogil:
    cdef Py_ssize_t c
    if slope == 1:
        if residual == NULL:
            for c in range(width):  # vectorised
                y[c] = (x[c] - mean[c]) * scale[c] + shift[c]
        else:
            for c in range(width):  # vectorised
                y[c] = (x[c] - mean[c]) * scale[c] + shift[c] + residual[c]
    elif residual == NULL:
        for c in range(width):  # vectorised
            y[c] = act((x[c] - mean[c]) * scale[c] + shift[c], slope, top)
    else:
        for c in range(width):  # vectorised
            y[c] = act((x[c] - mean[c]) * scale[c] + shift[c] + residual[c], slope, top)


def backward_sums(
    const floating[:, ::1] x,         # IN   (P, C)
    const floating[:, ::1] dy,        # IN   (P, C)
    const floating[::1] mean,         # IN   (lanes), or any other number of whole rows
    const floating[::1] scale,        # IN   (lanes)
    const floating[::1] shift,        # IN   (lanes)
    y,                                # IN   (P, C) with a residual, else None
    floating slope, floating top,     # OPT  of the activation
    g,                                # OUT  (P, C) with a residual, else None
    double[:, ::1] sums,              # OUT  (blocks, C): sums of g
    double[:, ::1] products,          # OUT  (blocks, C): sums of g (x - mean)
    Py_ssize_t block,
    floating[:, ::1] work,            # TEMP (n_threads, 3 lanes)
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
                min(block, x.shape[0] - b * block), x.shape[1], mean.shape[0],
                &work[threadid(), 0], &sums[b, 0], &products[b, 0])


cdef void block_backward_sums(
    const floating* x, const floating* dy, const floating* mean, const floating* scale,
    const floating* shift, const floating* y, floating slope, floating top, floating* g,
    Py_ssize_t rows, Py_ssize_t channels, Py_ssize_t lanes, floating* work, double* sums,
    double* products,
) noexcept nogil:
    cdef Py_ssize_t left = rows * channels, width, _i, c
    cdef floating* run = work
    cdef floating* run_product = work + lanes
    cdef floating* row = work + 2 * lanes
    cdef const floating* flow
    for c in range(channels):
        sums[c] = products[c] = 0
    while left:
        for c in range(lanes):
            run[c] = run_product[c] = 0
        for _i in range(RUN):
            width = min(lanes, left)
            flow = dy
            if g != NULL:
                for c in range(width):  # vectorised
                    g[c] = act_gradient(dy[c], y[c], slope, top)
                flow = g
                y += width
                g += width
            elif slope != 1:
                for c in range(width):  # vectorised
                    row[c] = act_gradient(
                        dy[c], (x[c] - mean[c]) * scale[c] + shift[c], slope, top)
                flow = row
            for c in range(width):  # vectorised
                run[c] += flow[c]
                run_product[c] += flow[c] * (x[c] - mean[c])
            x += width
            dy += width
            left -= width
        add_lanes(run, channels, lanes, sums)
        add_lanes(run_product, channels, lanes, products)


def gradient_factors(
    const double[:, ::1] sums,        # IN   (blocks, C), from backward_sums
    const double[:, ::1] products,    # IN   (blocks, C)
    const double[::1] mean,           # IN   (C)
    const double[::1] inverse,        # IN   (C)
    const floating[::1] centre,       # IN   (lanes)
    const floating[::1] weight,       # IN   (C), or None
    Py_ssize_t count,                 # OPT  rows; 0 where mean and inverse do not depend on them
    floating[::1] factor,             # OUT  (lanes)
    floating[::1] tilt,               # OUT  (lanes)
    floating[::1] offset,             # OUT  (lanes)
    floating[::1] dweight,            # OUT  (C)
    floating[::1] dbias,              # OUT  (C)
):
    """What backward_input needs, and the gradients by weight and bias."""
    if mean.shape[0]:
        found_gradient_factors(
            &sums[0, 0], &products[0, 0], sums.shape[0], &mean[0], &inverse[0], &centre[0],
            _first(weight), count, mean.shape[0], factor.shape[0], &factor[0], &tilt[0],
            &offset[0], &dweight[0], &dbias[0])


cdef void found_gradient_factors(
    const double* sums, const double* products, Py_ssize_t blocks, const double* mean,
    const double* inverse, const floating* centre, const floating* weight, Py_ssize_t count,
    Py_ssize_t channels, Py_ssize_t lanes, floating* factor, floating* tilt, floating* offset,
    floating* dweight, floating* dbias,
) noexcept nogil:
    """dx = scale (dy - mean(dy) - xhat mean(dy xhat)), xhat = (x - mean) inverse."""
    cdef Py_ssize_t b, c
    cdef double total, product, full, slope
    for c in range(channels):
        total = product = slope = 0
        for b in range(blocks):
            total += sums[b * channels + c]
            product += products[b * channels + c]
        product += (centre[c] - mean[c]) * total  # about the mean, not the rounded one
        full = inverse[c] * (weight[c] if weight != NULL else 1.)
        factor[c], tilt[c], offset[c] = <floating> full, 0, 0
        if count:
            slope = -full * inverse[c] * inverse[c] * product / count
            tilt[c] = <floating> slope
            offset[c] = <floating> (-full * total / count + slope * (centre[c] - mean[c]))
        if dweight != NULL:
            dweight[c] = <floating> (product * inverse[c])
        if dbias != NULL:
            dbias[c] = <floating> total
    repeat(factor, channels, lanes)
    repeat(tilt, channels, lanes)
    repeat(offset, channels, lanes)


def backward_input(
    const floating[:, ::1] x,         # IN   (P, C)
    const floating[:, ::1] dy,        # IN   (P, C): g with a residual
    const floating[::1] mean,         # IN   (lanes), or any other number of whole rows
    const floating[::1] scale,        # IN   (lanes)
    const floating[::1] shift,        # IN   (lanes)
    floating slope, floating top,     # OPT  of the activation; none with a residual
    const floating[::1] factor,       # IN   (lanes)
    const floating[::1] tilt,         # IN   (lanes)
    const floating[::1] offset,       # IN   (lanes)
    floating[:, ::1] dx,              # OUT  (P, C)
    int n_threads,
):
    """dx := factor * g + tilt * (x - mean) + offset."""
    cdef Py_ssize_t i, at, lanes = mean.shape[0], size = x.shape[0] * x.shape[1]
    cdef const floating* source = &x[0, 0]
    cdef const floating* flow = &dy[0, 0]
    cdef floating* target = &dx[0, 0]
    for i in prange((size + lanes - 1) // lanes, schedule="guided", nogil=True,
                    num_threads=n_threads):
        at = i * lanes
        backward_row(source + at, flow + at, &mean[0], &scale[0], &shift[0], slope, top,
                     &factor[0], &tilt[0], &offset[0], target + at, min(lanes, size - at))


cdef void backward_row(
    const floating* x, const floating* dy, const floating* mean, const floating* scale,
    const floating* shift, floating slope, floating top, const floating* factor,
    const floating* tilt, const floating* offset, floating* dx, Py_ssize_t width,
) noexcept nogil:
    cdef Py_ssize_t c
    if slope == 1:
        for c in range(width):  # vectorised
            dx[c] = factor[c] * dy[c] + tilt[c] * (x[c] - mean[c]) + offset[c]
    else:
        for c in range(width):  # vectorised
            dx[c] = (factor[c] * act_gradient(dy[c], (x[c] - mean[c]) * scale[c] + shift[c],
                                              slope, top)
                     + tilt[c] * (x[c] - mean[c]) + offset[c])
