"""The matrix of a convolution, in compressed rows.

Notes
-----
What a row reads is a product of three axes: output pixel (i, j, l) reads place (p, q, r) where p
is one of the places of i along the first axis, and so on. So the number of entries before any row
is known in closed form, lines of rows are written independently, and the columns of a row rise
where the places along each axis do.
"""

from cython cimport floating
from cython.parallel cimport prange
from libc.stdint cimport int32_t, int64_t


ctypedef fused integer:
    int32_t
    int64_t


cdef struct Axis:
    # What the output pixels of an axis read: pixel i the places place[first[i]:first[i + 1]],
    # and place number s through the taps tap[begin[s]:begin[s + 1]].
    Py_ssize_t count
    const Py_ssize_t* first
    const Py_ssize_t* place
    const Py_ssize_t* begin
    const Py_ssize_t* tap


cdef struct Conv:
    Axis axis[3]
    Py_ssize_t size[3]      # of the input
    Py_ssize_t taps[3]
    Py_ssize_t outputs      # of all groups
    Py_ssize_t groups
    Py_ssize_t width        # input channels of a group


cdef Axis _unpack(const Py_ssize_t[::1] values) noexcept nogil:
    """Unpack an axis of ``fastconv.linalg``: count, first, place, begin, tap."""
    cdef Axis a
    a.count = values[0]
    a.first = &values[1]
    a.place = a.first + a.count + 1
    a.begin = a.place + a.first[a.count]
    a.tap = a.begin + a.first[a.count] + 1
    return a


def conv_matrix(
    const floating[:, :, :, :, ::1] w,  # IN   (K, C / groups, *taps)
    const Py_ssize_t[::1] first_axis,
    const Py_ssize_t[::1] second_axis,
    const Py_ssize_t[::1] third_axis,
    const Py_ssize_t[::1] size,         # IN   three spatial sizes of the input
    Py_ssize_t groups,
    integer[::1] indptr,                # OUT  (rows + 1,)
    integer[::1] indices,               # OUT  (entries,)
    floating[::1] data,                 # OUT  (entries,)
    Py_ssize_t[::1] index,              # OUT  (entries,), or empty
    int n_threads,
):
    """Rows (k, pixel), columns (c, place), data the sum of w over the taps that read the place.

    index is the flat place in w of the first of these taps.
    """
    cdef Conv conv
    cdef Py_ssize_t axis, line, lines
    cdef floating* values = &data[0] if data.shape[0] else NULL
    cdef integer* columns = &indices[0] if indices.shape[0] else NULL
    cdef Py_ssize_t* origin = &index[0] if index.shape[0] else NULL
    conv.axis[0], conv.axis[1] = _unpack(first_axis), _unpack(second_axis)
    conv.axis[2] = _unpack(third_axis)
    conv.outputs, conv.width, conv.groups = w.shape[0], w.shape[1], groups
    for axis in range(3):
        conv.size[axis], conv.taps[axis] = size[axis], w.shape[2 + axis]
    lines = conv.outputs * conv.axis[0].count * conv.axis[1].count
    indptr[0] = 0
    for line in prange(lines, schedule="guided", nogil=True, num_threads=n_threads):
        _fill_line(&conv, line, &w[0, 0, 0, 0, 0], &indptr[1], columns, values, origin)


cdef void _fill_line(
    const Conv* conv, Py_ssize_t line, const floating* w, integer* stop, integer* columns,
    floating* values, Py_ssize_t* origin,
) noexcept nogil:
    """The rows of output k at pixels (i, j, 0), (i, j, 1), ...; stop is where each row ends."""
    cdef const Axis* a = &conv.axis[0]
    cdef const Axis* b = &conv.axis[1]
    cdef const Axis* e = &conv.axis[2]
    cdef Py_ssize_t j = line % b.count, i = line // b.count % a.count
    cdef Py_ssize_t k = line // b.count // a.count
    cdef Py_ssize_t channel = k // (conv.outputs // conv.groups) * conv.width
    cdef Py_ssize_t kernel = conv.taps[0] * conv.taps[1] * conv.taps[2]
    cdef Py_ssize_t across = e.first[e.count], deep = b.first[b.count] * across
    cdef Py_ssize_t at = conv.width * (
        k * a.first[a.count] * deep
        + a.first[i] * deep
        + (a.first[i + 1] - a.first[i]) * b.first[j] * across)
    cdef Py_ssize_t pixel, c, u, v, q, column, source
    for pixel in range(e.count):
        for c in range(conv.width):
            source = (k * conv.width + c) * kernel
            for u in range(a.first[i], a.first[i + 1]):
                for v in range(b.first[j], b.first[j + 1]):
                    column = (((channel + c) * conv.size[0] + a.place[u]) * conv.size[1]
                              + b.place[v]) * conv.size[2]
                    for q in range(e.first[pixel], e.first[pixel + 1]):
                        columns[at] = <integer> (column + e.place[q])
                        values[at] = _sum(conv, w + source, u, v, q)
                        if origin != NULL:
                            origin[at] = source + (
                                (a.tap[a.begin[u]] * conv.taps[1] + b.tap[b.begin[v]])
                                * conv.taps[2] + e.tap[e.begin[q]])
                        at += 1
        stop[line * e.count + pixel] = <integer> at


cdef inline floating _sum(
    const Conv* conv, const floating* w, Py_ssize_t u, Py_ssize_t v, Py_ssize_t q,
) noexcept nogil:
    """Of the taps that read a place; more than one where a padding repeats it."""
    cdef const Axis* a = &conv.axis[0]
    cdef const Axis* b = &conv.axis[1]
    cdef const Axis* e = &conv.axis[2]
    cdef floating total = 0
    cdef Py_ssize_t x, y, z
    for x in range(a.begin[u], a.begin[u + 1]):
        for y in range(b.begin[v], b.begin[v + 1]):
            for z in range(e.begin[q], e.begin[q + 1]):
                total += w[(a.tap[x] * conv.taps[1] + b.tap[y]) * conv.taps[2] + e.tap[z]]
    return total
