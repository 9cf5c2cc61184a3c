"""Copies between orders of memory; comparison of memory."""

from cython cimport floating
from cython.parallel cimport prange
from libc.string cimport memcmp, memcpy

# A tile of 16 x 16 values touches 16 cache lines on each side, which stay in L1.
cdef enum:
    TILE = 16
    COMPARED = 1 << 15  # values at a time


def transpose(
    const floating[:, :, ::1] x,      # IN   (N, A, B)
    floating[:, :, ::1] y,            # OUT  (N, B, A)
    int n_threads,
):
    """y[n] := x[n]^T."""
    cdef Py_ssize_t rows = x.shape[1], cols = x.shape[2]
    cdef Py_ssize_t bands = (cols + TILE - 1) // TILE
    cdef Py_ssize_t task
    for task in prange(x.shape[0] * bands, schedule="guided", nogil=True, num_threads=n_threads):
        _transpose_band(
            &x[task // bands, 0, 0], &y[task // bands, 0, 0], rows, cols,
            task % bands * TILE, min(task % bands * TILE + TILE, cols))


cdef void _transpose_band(
    const floating* x, floating* y, Py_ssize_t rows, Py_ssize_t cols,
    Py_ssize_t first, Py_ssize_t last,
) noexcept nogil:
    """y[j, i] := x[i, j] for j in [first, last)."""
    cdef Py_ssize_t tile, i, j
    for tile in range((rows + TILE - 1) // TILE):
        for j in range(first, last):
            for i in range(tile * TILE, min(tile * TILE + TILE, rows)):
                y[j * rows + i] = x[i * cols + j]


def same(const floating[::1] a, const floating[::1] b, int n_threads):
    """Whether two arrays of one size are equal bit by bit."""
    cdef Py_ssize_t part, start
    cdef int differ = 0
    for part in prange((a.shape[0] + COMPARED - 1) // COMPARED, schedule="guided", nogil=True,
                       num_threads=n_threads):
        start = part * COMPARED
        differ |= memcmp(&a[start], &b[start],
                         min(<Py_ssize_t> COMPARED, a.shape[0] - start) * sizeof(floating)) != 0
    return not differ


cdef void copy_strided(
    const value* source, const Strided* view, value* target, const Py_ssize_t* step, int n_threads,
) noexcept nogil:
    """The values of `view`, at `source`, to places `step` apart at `target`."""
    cdef Py_ssize_t size[6]
    cdef Py_ssize_t read[6]
    cdef Py_ssize_t write[6]
    cdef Py_ssize_t axes = _merge_axes(view, step, size, read, write), near = axes - 1
    cdef Py_ssize_t other = near, rows, tasks = 1, task, axis, rest, at, to, first
    # Along the last axis writes are nearest; across tiles of it and this one reads are.
    for axis in range(axes - 1):
        if _distance(read[axis]) < _distance(read[other]):
            other = axis
    rows = 1 if other == near else (size[other] + TILE - 1) // TILE
    for axis in range(axes - 1):
        tasks *= rows if axis == other else size[axis]
    for task in prange(tasks, schedule="guided", num_threads=n_threads):
        at = to = first = 0
        rest = task
        for axis in range(axes - 1):
            if axis == other:
                first = rest % rows * TILE
                at = at + first * read[axis]
                to = to + first * write[axis]
                rest = rest // rows
            else:
                at = at + rest % size[axis] * read[axis]
                to = to + rest % size[axis] * write[axis]
                rest = rest // size[axis]
        if other == near:
            _copy_run(source + at, read[near], target + to, write[near], size[near])
        else:
            _copy_tiles(source + at, read[other], read[near], target + to, write[other],
                        write[near], min(size[other] - first, <Py_ssize_t> TILE), size[near])


cdef inline Py_ssize_t _distance(Py_ssize_t step) noexcept nogil:
    return -step if step < 0 else step


cdef Py_ssize_t _merge_axes(
    const Strided* view, const Py_ssize_t* step, Py_ssize_t* size, Py_ssize_t* read,
    Py_ssize_t* write,
) noexcept nogil:
    """The same axes by falling distance of writes, those that follow from another one as one.

    Returns how many are left, at least one.
    """
    cdef Py_ssize_t axes = 0, axis, at
    for axis in range(6):
        if view.size[axis] == 1:
            continue
        at = axes
        while at > 0 and _distance(write[at - 1]) < _distance(step[axis]):
            size[at], read[at], write[at] = size[at - 1], read[at - 1], write[at - 1]
            at -= 1
        size[at], read[at], write[at] = view.size[axis], view.step[axis], step[axis]
        axes += 1
    if axes == 0:
        size[0], read[0], write[0] = 1, 0, 0
        return 1
    at = 0
    for axis in range(1, axes):
        if read[at] == read[axis] * size[axis] and write[at] == write[axis] * size[axis]:
            size[at] *= size[axis]
        else:
            at += 1
            size[at] = size[axis]
        read[at], write[at] = read[axis], write[axis]
    return at + 1


cdef inline void _copy_run(
    const value* source, Py_ssize_t read, value* target, Py_ssize_t write, Py_ssize_t n,
) noexcept nogil:
    cdef Py_ssize_t i
    if read == 1 and write == 1:
        memcpy(target, source, n * sizeof(value))
    else:
        for i in range(n):
            target[i * write] = source[i * read]


cdef inline void _copy_tiles(
    const value* source, Py_ssize_t read_row, Py_ssize_t read, value* target,
    Py_ssize_t write_row, Py_ssize_t write, Py_ssize_t rows, Py_ssize_t n,
) noexcept nogil:
    """`rows` rows of n values, tile by tile."""
    cdef Py_ssize_t tile, i, j
    for tile in range((n + TILE - 1) // TILE):
        for j in range(tile * TILE, min(tile * TILE + TILE, n)):
            for i in range(rows):
                target[i * write_row + j * write] = source[i * read_row + j * read]
