from cython cimport floating


cdef struct Frame:
    # Where output pixel (i, j, k) reads and writes, per spatial axis:
    # it reads input places i * step + offset[tap] and writes output place start + i * stride.
    Py_ssize_t size[3]             # extent of the input
    Py_ssize_t count[3]            # output pixels visited
    Py_ssize_t step[3]
    Py_ssize_t start[3]
    Py_ssize_t stride[3]
    Py_ssize_t extent[3]           # extent of the output
    Py_ssize_t taps[3]
    const Py_ssize_t* offset[3]
    bint adjacent                  # taps along the last axis are neighbours
    bint pointwise                 # pixel p reads input pixel p and nothing else
    bint dense                     # pixel p writes output pixel p


cdef Frame unpack_frame(const Py_ssize_t* values) noexcept nogil

cdef void classify(Frame* f) noexcept nogil

cdef inline Frame read_frame(const Py_ssize_t[::1] values) noexcept nogil:
    return unpack_frame(&values[0])

cdef inline Py_ssize_t output_place(const Frame* f, Py_ssize_t p) noexcept nogil:
    """Which pixel of the output (batch included) pixel p of the frame writes."""
    cdef Py_ssize_t k = f.start[2] + p % f.count[2] * f.stride[2]
    cdef Py_ssize_t j = f.start[1] + p // f.count[2] % f.count[1] * f.stride[1]
    cdef Py_ssize_t i = f.start[0] + p // f.count[2] // f.count[1] % f.count[0] * f.stride[0]
    cdef Py_ssize_t n = p // f.count[2] // f.count[1] // f.count[0]
    return ((n * f.extent[0] + i) * f.extent[1] + j) * f.extent[2] + k


cdef void gather(
    const floating* x, const Frame* f, Py_ssize_t channels, Py_ssize_t c0, Py_ssize_t width,
    Py_ssize_t row0, Py_ssize_t row1, Py_ssize_t p0, Py_ssize_t p1, floating* cols,
) noexcept nogil

cdef void unroll(
    const floating* x, Py_ssize_t images, Py_ssize_t channels, const Py_ssize_t* strides,
    const Frame* f, floating* cols, int n_threads,
) noexcept nogil

cdef void roll(
    const floating* cols, Py_ssize_t planes, const Frame* f, floating* x, int n_threads,
) noexcept nogil
