"""im2col and its adjoint col2im, and the strip-wise gather that convolution uses.

Notes
-----
The classical pair speaks channels-first: columns are ``(N, C * taps, pixels)``, a
channel's taps together, as ``torch.nn.functional.unfold`` has them. ``gather`` speaks
channels-last: one row per output pixel, ``(taps, C)`` in a row, so that a row consists of
contiguous runs of the input.
"""

from cython cimport floating
from cython.parallel cimport prange
from libc.string cimport memcpy, memset


cdef Frame unpack_frame(const Py_ssize_t* values) noexcept nogil:
    """Unpack ``fastconv._geometry.Frame.packed``."""
    cdef Frame f
    cdef Py_ssize_t axis, at = 21
    for axis in range(3):
        f.size[axis] = values[axis]
        f.count[axis] = values[3 + axis]
        f.step[axis] = values[6 + axis]
        f.start[axis] = values[9 + axis]
        f.stride[axis] = values[12 + axis]
        f.extent[axis] = values[15 + axis]
        f.taps[axis] = values[18 + axis]
        f.offset[axis] = &values[at]
        at += f.taps[axis]
    classify(&f)
    return f


cdef void classify(Frame* f) noexcept nogil:
    """Set what follows of a frame from its numbers."""
    cdef Py_ssize_t axis, tap
    f.adjacent = f.pointwise = f.dense = True
    for tap in range(1, f.taps[2]):
        f.adjacent &= f.offset[2][tap] == f.offset[2][tap - 1] + 1
    for axis in range(3):
        f.pointwise &= (f.taps[axis] == 1 and f.offset[axis][0] == 0 and f.step[axis] == 1
                        and f.count[axis] == f.size[axis])
        f.dense &= (f.start[axis] == 0 and f.stride[axis] == 1
                    and f.count[axis] == f.extent[axis])


def im2col(
    const floating[:, :, :, :, :] x,  # IN   (N, C, D, H, W), any strides
    floating[:, :, :, ::1] cols,      # OUT  (N, C, taps, pixels)
    const Py_ssize_t[::1] frame,
    int n_threads,
):
    """cols[n, c, t, p] := x[n, c] at tap t of pixel p, zero outside."""
    cdef Frame f = read_frame(frame)
    with nogil:
        unroll(&x[0, 0, 0, 0, 0], x.shape[0], x.shape[1], x.strides, &f, &cols[0, 0, 0, 0],
               n_threads)


def col2im(
    const floating[:, :, :, ::1] cols,  # IN   (N, C, taps, pixels)
    floating[:, :, :, :, ::1] x,        # OUT  (N, C, D, H, W)
    const Py_ssize_t[::1] frame,
    int n_threads,
):
    """x[n, c] := the sum of all columns' entries at the places they came from."""
    cdef Frame f = read_frame(frame)
    with nogil:
        roll(&cols[0, 0, 0, 0], x.shape[0] * x.shape[1], &f, &x[0, 0, 0, 0, 0], n_threads)


cdef void unroll(
    const floating* x, Py_ssize_t images, Py_ssize_t channels, const Py_ssize_t* strides,
    const Frame* f, floating* cols, int n_threads,
) noexcept nogil:
    cdef Py_ssize_t size = (f.taps[0] * f.taps[1] * f.taps[2]
                            * f.count[0] * f.count[1] * f.count[2]), plane
    for plane in prange(images * channels, schedule="guided", num_threads=n_threads):
        _unroll_plane(
            <const floating*> (<const char*> x + plane // channels * strides[0]
                               + plane % channels * strides[1]),
            strides, f, cols + plane * size)


cdef void roll(
    const floating* cols, Py_ssize_t planes, const Frame* f, floating* x, int n_threads,
) noexcept nogil:
    cdef Py_ssize_t size = (f.taps[0] * f.taps[1] * f.taps[2]
                            * f.count[0] * f.count[1] * f.count[2]), plane
    for plane in prange(planes, schedule="guided", num_threads=n_threads):
        _roll_plane(cols + plane * size, f, x + plane * f.size[0] * f.size[1] * f.size[2])


cdef inline bint _inside(Py_ssize_t place, Py_ssize_t size) noexcept nogil:
    return 0 <= place < size


cdef void _unroll_plane(
    const floating* x, const Py_ssize_t* strides, const Frame* f, floating* cols,
) noexcept nogil:
    """One channel of one image to its (taps, pixels)."""
    cdef Py_ssize_t a, b, c, i, j, k, z, y, w
    cdef const floating* row
    for a in range(f.taps[0]):
        for b in range(f.taps[1]):
            for c in range(f.taps[2]):
                for i in range(f.count[0]):
                    z = i * f.step[0] + f.offset[0][a]
                    for j in range(f.count[1]):
                        y = j * f.step[1] + f.offset[1][b]
                        if not (_inside(z, f.size[0]) and _inside(y, f.size[1])):
                            memset(cols, 0, f.count[2] * sizeof(floating))
                        else:
                            row = <const floating*> (
                                <const char*> x + z * strides[2] + y * strides[3])
                            for k in range(f.count[2]):
                                w = k * f.step[2] + f.offset[2][c]
                                cols[k] = (
                                    (<const floating*> (<const char*> row + w * strides[4]))[0]
                                    if _inside(w, f.size[2]) else 0)
                        cols += f.count[2]


cdef void _roll_plane(const floating* cols, const Frame* f, floating* x) noexcept nogil:
    """One channel's (taps, pixels) added into its image."""
    cdef Py_ssize_t a, b, c, i, j, k, z, y, w
    cdef floating* row
    memset(x, 0, f.size[0] * f.size[1] * f.size[2] * sizeof(floating))
    for a in range(f.taps[0]):
        for b in range(f.taps[1]):
            for c in range(f.taps[2]):
                for i in range(f.count[0]):
                    z = i * f.step[0] + f.offset[0][a]
                    for j in range(f.count[1]):
                        y = j * f.step[1] + f.offset[1][b]
                        if _inside(z, f.size[0]) and _inside(y, f.size[1]):
                            row = x + (z * f.size[1] + y) * f.size[2]
                            for k in range(f.count[2]):
                                w = k * f.step[2] + f.offset[2][c]
                                if _inside(w, f.size[2]):
                                    row[w] += cols[k]
                        cols += f.count[2]


cdef void gather(
    const floating* x, const Frame* f, Py_ssize_t channels, Py_ssize_t c0, Py_ssize_t width,
    Py_ssize_t row0, Py_ssize_t row1, Py_ssize_t p0, Py_ssize_t p1, floating* cols,
) noexcept nogil:
    """cols[p - p0] := channels [c0, c0 + width) of x at the taps of pixel p.

    Only the taps of the kernel's rows [row0, row1) are taken; a row is all taps along the
    last axis, so that its input is one contiguous run where taps are neighbours.
    """
    cdef Py_ssize_t k = p0 % f.count[2]
    cdef Py_ssize_t j = p0 // f.count[2] % f.count[1]
    cdef Py_ssize_t i = p0 // f.count[2] // f.count[1] % f.count[0]
    cdef Py_ssize_t n = p0 // f.count[2] // f.count[1] // f.count[0]
    cdef Py_ssize_t _p, _row, z, y
    cdef Py_ssize_t a0 = row0 // f.taps[1], b0 = row0 % f.taps[1], a, b
    cdef Py_ssize_t run = f.taps[2] * width
    for _p in range(p0, p1):
        a, b = a0, b0
        for _row in range(row0, row1):
            z = i * f.step[0] + f.offset[0][a]
            y = j * f.step[1] + f.offset[1][b]
            if _inside(z, f.size[0]) and _inside(y, f.size[1]):
                _gather_row(
                    x + ((n * f.size[0] + z) * f.size[1] + y) * f.size[2] * channels + c0,
                    f, channels, width, k * f.step[2], cols)
            else:
                memset(cols, 0, run * sizeof(floating))
            b += 1
            if b == f.taps[1]:
                b = 0
                a += 1
            cols += run
        k += 1
        if k == f.count[2]:
            k = 0
            j += 1
            if j == f.count[1]:
                j = 0
                i += 1
                if i == f.count[0]:
                    i = 0
                    n += 1


cdef inline void _gather_row(
    const floating* x, const Frame* f, Py_ssize_t channels, Py_ssize_t width, Py_ssize_t first,
    floating* cols,
) noexcept nogil:
    """The taps of one kernel row, from the input row x."""
    cdef Py_ssize_t tap, place = first + f.offset[2][0]
    cdef Py_ssize_t c
    if f.adjacent and width == channels and place >= 0 and place + f.taps[2] <= f.size[2]:
        _copy(cols, x + place * channels, f.taps[2] * width)
        return
    for tap in range(f.taps[2]):
        place = first + f.offset[2][tap]
        if _inside(place, f.size[2]):
            _copy(cols, x + place * channels, width)
        else:
            for c in range(width):
                cols[c] = 0
        cols += width


cdef inline void _copy(floating* target, const floating* source, Py_ssize_t n) noexcept nogil:
    """A call, or a loop of unknown length, costs more than to copy a few values: those that overlap
    twice."""
    cdef Py_ssize_t c
    if n >= 16:
        memcpy(target, source, n * sizeof(floating))
    elif n >= 8:
        memcpy(target, source, 8 * sizeof(floating))
        memcpy(target + n - 8, source + n - 8, 8 * sizeof(floating))
    elif n >= 4:
        memcpy(target, source, 4 * sizeof(floating))
        memcpy(target + n - 4, source + n - 4, 4 * sizeof(floating))
    else:
        for c in range(n):
            target[c] = source[c]
