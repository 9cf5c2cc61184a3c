"""The functions of fastconv.h: kernels for C, C++, Fortran and Cython, by the table ``_C_API``.

Notes
-----
Every function checks its arguments, lays out its memory once to count it and once more in the
caller's workspace, and runs the loops of the other kernels. Arrays that do not lie as these read
them are copied there. Nothing calls Python, allocates or prints, and nothing is written before all
checks have passed. Convolutions go by :mod:`fastconv.kernels.direct` and ``grouped``, which need
no BLAS, so neither its threads nor its settings matter.
"""

from cpython.pycapsule cimport PyCapsule_New
from cython cimport floating
from cython.parallel cimport parallel, prange, threadid
from libc.math cimport INFINITY, isfinite, pow, sqrt
from libc.stdint cimport INT32_MAX, INT64_MAX, int32_t, int64_t, uintptr_t
from libc.string cimport memcpy, memset

from fastconv.kernels._build cimport process
from fastconv.kernels.direct cimport (
    DIRECT_SUPPORTED, MOST_DOTS, MOST_PIXELS, MOST_VECTORS, VECTOR_BYTES, Tiling, add_weights,
    correlate_few, correlate_tiles, pack_tiles, tile_pixels, tile_width, weight_work,
)
from fastconv.kernels.epilogue cimport Epilogue
from fastconv.kernels.grouped cimport add_narrow_weights, correlate_narrow
from fastconv.kernels.im2col cimport Frame, classify, roll, unroll
from fastconv.kernels.layout cimport Strided, copy_strided
from fastconv.kernels.norm cimport (
    backward_row, block_backward_sums, block_moments, found_factors, found_gradient_factors,
    joined_moments, lanes_of, normalize_row, sum_rows,
)
from fastconv.kernels.planes cimport PIECE, Outside, correlate_planes
from fastconv.kernels.pool cimport Spans, max_line, max_line_backward, sum_line, sum_line_backward

if not DIRECT_SUPPORTED or sizeof(Py_ssize_t) < sizeof(int64_t):
    raise ImportError("the C functions need a build by GCC or Clang for a processor of 64 bits")

cdef enum:
    LINE = 64  # bytes: arrays of a workspace begin on a line of the cache
    MOST_THREADS = 4096
    SPATIAL = 2  # the first spatial axis of a View
    # The cuts of fastconv._plan, for workspaces that do not depend on what else it can do.
    TASKS = 16
    DEEP = 128      # products of an output, from which on strips are shorter
    DEEPEST = 512
    LONG_STRIP = 384
    STRIP = 192
    SHORT_STRIP = 96
    FEW_STRIP = 96
    FEW_DEPTH = 8
    NARROW_STRIP = 64
    PLANES_SPAN = 2048
    NARROW_MOST = 4
    WEIGHTS_CACHE = 1 << 18
    PARTS = 16
    SUMS_BYTES = 1 << 22
    WEIGHT_STRIP = 256
    WEIGHT_PANELS = 8
    NORM_BLOCK = 1 << 17

cdef Py_ssize_t MOST = <Py_ssize_t> INT64_MAX
# Sizes and strides are below this, so that sums of a few of them are numbers.
cdef Py_ssize_t LARGE = <Py_ssize_t> 1 << 60


# Threads ---------------------------------------------------------------------------------------

cdef int _team(int threads) noexcept nogil:
    """The threads to use of those that a caller allows: one in a child of a parallel process."""
    if threads > 1:
        if process().forked:
            return 1
        process().went_parallel = True
    return threads


# Arguments -------------------------------------------------------------------------------------

cdef struct View:
    # An array that was checked: (N, C, D, H, W), steps in values.
    char* data
    int dtype
    int ndim
    Py_ssize_t itemsize
    Py_ssize_t count
    Py_ssize_t size[5]
    Py_ssize_t step[5]


cdef inline Py_ssize_t _times(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    """a b, neither negative, or MOST if that is too large."""
    return MOST if b > 0 and a > MOST // b else a * b


cdef int _read(
    const fastconv_array* array, int least, int most, bint runs, View* v,
) noexcept nogil:
    """See an array of `least` to `most` axes with five; its data is needed where it `runs`."""
    cdef Py_ssize_t axis, at, size, step, extent = 0
    if array == NULL:
        return FASTCONV_NULL_POINTER
    if array.dtype == FASTCONV_FLOAT64:
        v.itemsize = 8
    elif array.dtype == FASTCONV_FLOAT32 or array.dtype == FASTCONV_INT32:
        v.itemsize = 4
    else:
        return FASTCONV_BAD_DTYPE
    if not least <= array.ndim <= most:
        return FASTCONV_BAD_NDIM
    v.data, v.dtype, v.ndim, v.count = <char*> array.data, array.dtype, array.ndim, 1
    for axis in range(5):
        v.size[axis], v.step[axis] = 1, 0
    for axis in range(array.ndim):
        size, step = array.shape[axis], array.strides[axis]
        if size < 0 or (size == 0 and axis > 0):
            return FASTCONV_BAD_SIZE
        if size > LARGE or not -LARGE < step < LARGE:
            return FASTCONV_OVERFLOW
        at = axis if axis < SPATIAL else axis + 5 - array.ndim
        v.size[at], v.step[at] = size, step
        v.count = _times(v.count, size)
        extent = min(extent + min(_times(max(size - 1, 0), max(step, -step)), LARGE), LARGE)
    if max(v.count, extent) >= LARGE // v.itemsize:
        return FASTCONV_OVERFLOW
    if runs and v.count > 0:
        return _check_pointer(v.data, v.itemsize)
    return FASTCONV_OK


cdef int _check_pointer(const void* data, Py_ssize_t itemsize) noexcept nogil:
    if data == NULL:
        return FASTCONV_NULL_POINTER
    return FASTCONV_MISALIGNED if <uintptr_t> data % itemsize else FASTCONV_OK


cdef int _check_optional(const void* data, Py_ssize_t itemsize) noexcept nogil:
    return FASTCONV_OK if data == NULL else _check_pointer(data, itemsize)


cdef int _read_result(
    const fastconv_array* array, int least, int most, bint runs, View* v,
) noexcept nogil:
    """The same of an array that is written: no place is two values'."""
    cdef Py_ssize_t axis
    cdef int status = _read(array, least, most, runs, v)
    if status == FASTCONV_OK and v.count > 0:
        for axis in range(5):
            if v.size[axis] > 1 and v.step[axis] == 0:
                return FASTCONV_BAD_STRIDES
    return status


cdef int _check_floats(const View* v) noexcept nogil:
    return FASTCONV_BAD_DTYPE if v.dtype == FASTCONV_INT32 else FASTCONV_OK


cdef int _check_same(const View* v, const View* other) noexcept nogil:
    """One dtype and one shape."""
    cdef Py_ssize_t axis
    if v.dtype != other.dtype:
        return FASTCONV_BAD_DTYPE
    if v.ndim != other.ndim:
        return FASTCONV_BAD_NDIM
    for axis in range(5):
        if v.size[axis] != other.size[axis]:
            return FASTCONV_SHAPE_MISMATCH
    return FASTCONV_OK


cdef int _check_threads(int threads) noexcept nogil:
    return FASTCONV_OK if 1 <= threads <= MOST_THREADS else FASTCONV_BAD_THREADS


cdef int64_t output_size(
    int64_t size, int64_t kernel, int64_t stride, int64_t before, int64_t after, int64_t dilation,
) noexcept nogil:
    """``fastconv._geometry.output_size``, or a status."""
    cdef int64_t span
    if size < 1 or kernel < 1:
        return FASTCONV_BAD_SIZE
    if stride < 1 or dilation < 1 or before < 0 or after < 0:
        return FASTCONV_BAD_GEOMETRY
    if size > LARGE or max(max(stride, dilation), max(before, after)) > INT32_MAX:
        return FASTCONV_OVERFLOW
    span = _times(kernel - 1, dilation)
    if span >= LARGE:
        return FASTCONV_OVERFLOW
    if span + 1 > size + before + after:
        return FASTCONV_BAD_GEOMETRY
    return (size + before + after - span - 1) // stride + 1


# Memory ----------------------------------------------------------------------------------------

cdef struct Memory:
    char* base       # NULL where memory is only counted
    Py_ssize_t used


cdef void* _take(Memory* m, Py_ssize_t count, Py_ssize_t itemsize) noexcept nogil:
    """Room for values, in lines of their own; after an overflow, `used` is MOST."""
    cdef Py_ssize_t size = _times(count, itemsize), at = m.used
    if size >= LARGE or at >= LARGE:
        m.used = MOST
        return NULL
    m.used = at + (size + LINE - 1) // LINE * LINE
    return m.base + at if m.base != NULL else NULL


cdef int64_t _needed(const Memory* m) noexcept nogil:
    if m.used == MOST:
        return FASTCONV_OVERFLOW
    return m.used + LINE - 1 if m.used else 0


cdef int _begin(Memory* m, void* workspace, int64_t bytes) noexcept nogil:
    """Go from counting to a caller's workspace."""
    cdef int64_t needed = _needed(m)
    if needed < 0:
        return <int> needed
    if needed > 0:
        if workspace == NULL:
            return FASTCONV_NULL_POINTER
        if bytes < needed:
            return FASTCONV_WORKSPACE_TOO_SMALL
        m.base = <char*> workspace + (LINE - <uintptr_t> workspace % LINE) % LINE
    m.used = 0
    return FASTCONV_OK


cdef Py_ssize_t _row(Py_ssize_t values, Py_ssize_t itemsize) noexcept nogil:
    """Values from a thread's memory to the next one's, a pair of cache lines more than it needs."""
    return min(values, LARGE) + 2 * LINE // itemsize


# Orders of memory

cdef enum:
    ROWS_LAST = 0      # (N, C, D, H, W), the last runs fastest
    CHANNELS_LAST = 1  # (N, D, H, W, C)


cdef void _packed_steps(const View* v, int order, Py_ssize_t* step) noexcept nogil:
    cdef Py_ssize_t axis, run = 1
    if order == CHANNELS_LAST:
        step[1], run = 1, v.size[1]
    for axis in range(4, -1, -1):
        if axis == 1 and order == CHANNELS_LAST:
            continue
        step[axis] = run
        run *= v.size[axis]


cdef bint _lies(const View* v, int order) noexcept nogil:
    """Whether an array has that order already."""
    cdef Py_ssize_t step[5]
    cdef Py_ssize_t axis
    _packed_steps(v, order, step)
    for axis in range(5):
        if v.size[axis] > 1 and v.step[axis] != step[axis]:
            return False
    return True


cdef char* _take_ordered(Memory* m, const View* v, int order) noexcept nogil:
    """The array itself if it lies so, or room for a copy."""
    return v.data if _lies(v, order) else <char*> _take(m, v.count, v.itemsize)


cdef void _copy(
    const View* v, const char* source, const Py_ssize_t* read, char* target,
    const Py_ssize_t* write, int threads,
) noexcept nogil:
    """Values of v's shape and type from one memory to another, by these steps."""
    cdef Strided view
    cdef Py_ssize_t step[6]
    cdef Py_ssize_t axis
    view.size[5], view.step[5], step[5] = 1, 0, 0
    for axis in range(5):
        view.size[axis], view.step[axis], step[axis] = v.size[axis], read[axis], write[axis]
    if v.dtype == FASTCONV_FLOAT32:
        copy_strided(<const float*> source, &view, <float*> target, step, threads)
    elif v.dtype == FASTCONV_FLOAT64:
        copy_strided(<const double*> source, &view, <double*> target, step, threads)
    else:
        copy_strided(<const int*> source, &view, <int*> target, step, threads)


cdef void _load(const View* v, char* ordered, int order, int threads) noexcept nogil:
    cdef Py_ssize_t step[5]
    if ordered != v.data:
        _packed_steps(v, order, step)
        _copy(v, v.data, v.step, ordered, step, threads)


cdef void _store(const View* v, const char* ordered, int order, int threads) noexcept nogil:
    cdef Py_ssize_t step[5]
    if ordered != v.data:
        _packed_steps(v, order, step)
        _copy(v, ordered, step, v.data, v.step, threads)


cdef void _clear(const View* v, int threads) noexcept nogil:
    """Write zeros."""
    cdef double zero = 0
    cdef Py_ssize_t step[5]
    memset(step, 0, sizeof(step))
    _copy(v, <const char*> &zero, step, v.data, v.step, threads)


# Convolution -----------------------------------------------------------------------------------

cdef struct Convolution:
    View x               # (N, G C, D, H, W)
    View w               # (G K, C, *taps)
    View y               # (N, G K, D', H', W')
    Py_ssize_t kernel[3]
    Py_ssize_t stride[3]
    Py_ssize_t before[3]
    Py_ssize_t dilation[3]
    Py_ssize_t output[3]
    Py_ssize_t groups


cdef int _read_options(
    const fastconv_conv* conv, Py_ssize_t axes, const int64_t* kernel, Convolution* c,
) noexcept nogil:
    """A kernel that moves over c.x, for three axes."""
    cdef Py_ssize_t axis, at
    cdef int64_t size
    for axis in range(3):
        c.kernel[axis] = c.stride[axis] = c.dilation[axis] = c.output[axis] = 1
        c.before[axis] = 0
    for axis in range(axes):
        at = 3 - axes + axis
        size = output_size(c.x.size[SPATIAL + at], kernel[axis], conv.stride[axis],
                           conv.before[axis], conv.after[axis], conv.dilation[axis])
        if size < 0:
            return <int> size
        c.kernel[at], c.stride[at] = kernel[axis], conv.stride[axis]
        c.before[at] = conv.before[axis]
        c.dilation[at], c.output[at] = conv.dilation[axis], size
    return FASTCONV_OK


cdef int _read_convolution(
    const fastconv_conv* conv, const fastconv_array* x, const fastconv_array* w,
    const fastconv_array* y, const fastconv_array* result, int threads, bint runs, Convolution* c,
) noexcept nogil:
    """Check a convolution, one of whose arrays is its `result`."""
    cdef const fastconv_array* arrays[3]
    cdef View* views[3]
    cdef Py_ssize_t i
    cdef int status = _check_threads(threads)
    arrays[0], arrays[1], arrays[2] = x, w, y
    views[0], views[1], views[2] = &c.x, &c.w, &c.y
    if conv == NULL:
        return FASTCONV_NULL_POINTER
    for i in range(3):
        if status == FASTCONV_OK:
            status = (_read_result(arrays[i], 3, 5, runs, views[i]) if arrays[i] == result
                      else _read(arrays[i], 3, 5, runs, views[i]))
    if status == FASTCONV_OK:
        status = _check_floats(&c.x)
    if status != FASTCONV_OK:
        return status
    if c.w.dtype != c.x.dtype or c.y.dtype != c.x.dtype:
        return FASTCONV_BAD_DTYPE
    if w.ndim != x.ndim or y.ndim != x.ndim:
        return FASTCONV_BAD_NDIM
    if c.w.size[0] == 0:
        return FASTCONV_BAD_SIZE
    status = _read_options(conv, x.ndim - SPATIAL, &w.shape[SPATIAL], c)
    if status != FASTCONV_OK:
        return status
    c.groups = conv.groups
    if c.groups < 1 or c.w.size[0] % c.groups:
        return FASTCONV_BAD_GEOMETRY
    if (c.x.size[1] % c.groups or c.x.size[1] // c.groups != c.w.size[1]
            or c.y.size[1] != c.w.size[0] or c.y.size[0] != c.x.size[0]):
        return FASTCONV_SHAPE_MISMATCH
    for i in range(3):
        if c.y.size[SPATIAL + i] != c.output[i]:
            return FASTCONV_SHAPE_MISMATCH
    return FASTCONV_OK


cdef Py_ssize_t _taps(const Frame* f) noexcept nogil:
    return f.taps[0] * f.taps[1] * f.taps[2]


cdef Py_ssize_t* _take_offsets(Memory* m, const Convolution* c) noexcept nogil:
    return <Py_ssize_t*> _take(
        m, c.kernel[0] + c.kernel[1] + c.kernel[2], sizeof(Py_ssize_t))


cdef Frame _frame(const Convolution* c, Py_ssize_t* offsets) noexcept nogil:
    """Of the forward pass; where memory is only counted there are no offsets."""
    cdef Frame f
    cdef Py_ssize_t axis, tap
    for axis in range(3):
        f.size[axis], f.count[axis] = c.x.size[SPATIAL + axis], c.output[axis]
        f.step[axis], f.taps[axis] = c.stride[axis], c.kernel[axis]
        f.start[axis], f.stride[axis], f.extent[axis] = 0, 1, c.output[axis]
        f.offset[axis] = offsets
        if offsets != NULL:
            for tap in range(c.kernel[axis]):
                offsets[tap] = tap * c.dilation[axis] - c.before[axis]
            offsets += c.kernel[axis]
    if offsets != NULL:
        classify(&f)
    return f


cdef Py_ssize_t _reach(const Convolution* c) noexcept nogil:
    """Of a line's taps, in the forward pass; those of the phases lie closer together."""
    return min((c.kernel[2] - 1) * c.dilation[2], MOST // 2)


cdef Py_ssize_t _phases(const Convolution* c) noexcept nogil:
    cdef Py_ssize_t axis, phases = 1
    for axis in range(3):
        phases *= min(c.stride[axis], c.x.size[SPATIAL + axis])
    return phases


cdef bint _phase(
    const Convolution* c, Py_ssize_t phase, Py_ssize_t* offsets, Frame* f, Strided* view,
    Py_ssize_t* first,
) noexcept nogil:
    """A phase of the gradient by input: its frame, the weights it reads from `first` on.

    ``fastconv._geometry.Convolution.transposed_frames`` derives it. False if no tap reaches it.
    """
    cdef Py_ssize_t axis, tap, taps, own, place, apart, phases
    view.size[0], view.step[0] = c.groups, c.w.size[0] // c.groups * c.w.step[0]
    view.size[1], view.step[1] = c.w.size[1], c.w.step[1]
    view.size[5], view.step[5] = c.w.size[0] // c.groups, c.w.step[0]
    first[0] = 0
    for axis in range(2, -1, -1):
        phases = min(c.stride[axis], c.x.size[SPATIAL + axis])
        own = phase % phases
        phase //= phases
        f.size[axis], f.count[axis] = (
            c.output[axis], (c.x.size[SPATIAL + axis] - own + c.stride[axis] - 1) // c.stride[axis])
        f.start[axis], f.stride[axis], f.extent[axis] = (
            own, c.stride[axis], c.x.size[SPATIAL + axis])
        f.step[axis], f.offset[axis] = 1, offsets
        taps, apart = 0, 1
        for tap in range(c.kernel[axis] - 1, -1, -1):
            place = own + c.before[axis] - tap * c.dilation[axis]
            if place % c.stride[axis] == 0:
                if taps == 0:
                    first[0] += tap * c.w.step[SPATIAL + axis]
                    apart = tap
                elif taps == 1:
                    apart -= tap
                if offsets != NULL:
                    offsets[taps] = place // c.stride[axis]
                taps += 1
        if taps == 0:
            return False
        f.taps[axis] = view.size[SPATIAL + axis] = taps
        view.step[SPATIAL + axis] = -apart * c.w.step[SPATIAL + axis]
        if offsets != NULL:
            offsets += taps
    if offsets != NULL:
        classify(f)
    return True


# A correlation of weights (G, K, taps, C): how, and in what memory

cdef enum:
    TILES
    FEW     # outputs of a group
    NARROW  # groups
    PLANES  # of one channel


cdef struct Plan:
    int way
    Tiling tiling
    # Values of the packed weights, of the bias, of each thread, and its pointers.
    Py_ssize_t weights
    Py_ssize_t bias
    Py_ssize_t work
    Py_ssize_t pointers


cdef bint _is_narrow(
    Py_ssize_t groups, Py_ssize_t outputs, Py_ssize_t channels, Py_ssize_t itemsize,
) noexcept nogil:
    return (groups > 1 and outputs == channels and channels in (1, 2, NARROW_MOST)
            and channels * itemsize <= VECTOR_BYTES)


cdef inline Py_ssize_t _ceil(Py_ssize_t n, Py_ssize_t unit) noexcept nogil:
    return n // unit + (n % unit != 0)


cdef Plan _plan(
    Py_ssize_t images, const Frame* f, Py_ssize_t reach, Py_ssize_t groups, Py_ssize_t outputs,
    Py_ssize_t channels, Py_ssize_t itemsize,
) noexcept nogil:
    """As ``fastconv._plan.plan_direct`` has it, of the ways that take any kernel.

    `reach` is at least the places from the first tap of a line to its last.
    """
    cdef Plan p
    cdef Py_ssize_t taps = _taps(f), strips, size
    cdef Py_ssize_t pixels = images * f.count[0] * f.count[1] * f.count[2]
    cdef Tiling* t = &p.tiling
    memset(&p, 0, sizeof(Plan))
    t.images, t.groups, t.outputs, t.depth = images, groups, outputs, taps * channels
    if groups == outputs == channels == f.step[2] == 1:
        p.way, t.strip = PLANES, min(f.count[2], <Py_ssize_t> PLANES_SPAN)
        p.weights, p.bias = taps, 1
        p.work = _times(f.taps[0] * f.taps[1] + 1, max(t.strip, f.taps[2] + PIECE + reach))
        p.pointers = taps + f.taps[0] * f.taps[1]
    elif _is_narrow(groups, outputs, channels, itemsize):
        p.way, t.strip = NARROW, NARROW_STRIP
        p.weights, p.bias = groups * outputs * t.depth, groups * outputs
        p.work, p.pointers = groups * outputs, _times(t.strip, taps + 1)
    elif outputs <= MOST_DOTS and channels >= FEW_DEPTH:
        p.way, t.strip = FEW, FEW_STRIP
        p.weights, p.bias = groups * outputs * t.depth, groups * outputs
        p.work, p.pointers = _times(t.strip + 1, t.depth), _times(t.strip, taps + 1)
    else:
        p.way, t.width = TILES, tile_width(itemsize, outputs, 3)
        t.panels = _ceil(outputs, t.width)
        p.bias = _times(_times(groups, t.panels), t.width)
        p.weights = _times(p.bias, t.depth)
        t.panels_inside = _times(p.weights, itemsize) // groups <= WEIGHTS_CACHE
        t.strip = (SHORT_STRIP if t.depth >= DEEPEST else STRIP if t.depth >= DEEP
                   else LONG_STRIP)
        strips = max(max(_ceil(pixels, t.strip), min(<Py_ssize_t> TASKS, _ceil(pixels, 24))), 1)
        size = tile_pixels(t.width, itemsize)
        t.strip = _ceil(_ceil(pixels, strips), size) * size
        t.block = max(_ceil(t.panels * strips, TASKS), 1) if strips < TASKS else t.panels
        t.block = min(t.block, t.panels)
        p.work, p.pointers = (
            _times(t.strip + 1, t.depth), _times(t.strip + MOST_PIXELS, taps + 1))
    return p


cdef struct Work:
    # What a plan works in.
    char* weights
    char* bias
    char* rows
    Py_ssize_t row
    char* pointers
    Py_ssize_t pointers_row


cdef Work _take_work(
    Memory* m, const Plan* p, Py_ssize_t itemsize, int threads,
) noexcept nogil:
    cdef Work k
    k.weights = <char*> _take(m, p.weights, itemsize)
    k.bias = <char*> _take(m, p.bias, itemsize)
    k.row, k.pointers_row = _row(p.work, itemsize), _row(p.pointers, sizeof(void*))
    k.rows = <char*> _take(m, _times(threads, k.row), itemsize)
    k.pointers = <char*> _take(m, _times(threads, k.pointers_row), sizeof(void*))
    return k


cdef Epilogue _no_epilogue() noexcept nogil:
    cdef Epilogue epilogue
    epilogue.add = epilogue.act = epilogue.cut = False
    epilogue.residual = 0
    epilogue.slope, epilogue.top = 1, INFINITY
    return epilogue


cdef void _correlate(
    const floating* x, const floating* w, const Strided* view, const floating* bias, floating* y,
    const Frame* f, const Plan* p, const Work* k, int threads,
) noexcept nogil:
    """y, at the frame's places, := bias + x correlated with these weights."""
    cdef Epilogue epilogue = _no_epilogue()
    cdef Outside zeros
    cdef floating* weights = <floating*> k.weights
    cdef floating* padded = <floating*> k.bias
    cdef floating* work = <floating*> k.rows
    cdef void** pointers = <void**> k.pointers
    cdef Py_ssize_t groups = view.size[0], outputs = view.size[1], g, axis, run
    cdef Py_ssize_t step[6]
    memset(padded, 0, p.bias * sizeof(floating))
    if bias != NULL:
        for g in range(groups):
            memcpy(padded + g * (p.bias // groups), bias + g * outputs, outputs * sizeof(floating))
    if p.way == TILES:
        pack_tiles(w, view, p.tiling.width, weights, threads)
        correlate_tiles(x, weights, padded, y, &epilogue, f, &p.tiling, work, k.row, pointers,
                        k.pointers_row, threads)
        return
    # FEW reads (G, K, taps, C), NARROW (taps, C, G, K), PLANES the taps
    run = groups * outputs if p.way == NARROW else 1
    for axis in range(5, 1, -1):
        step[axis] = run
        run *= view.size[axis]
    step[1] = 1 if p.way == NARROW else run
    step[0] = outputs * step[1]
    copy_strided(w, view, weights, step, threads)
    if p.way == FEW:
        correlate_few(x, weights, padded, y, &epilogue, f, &p.tiling, work, k.row, pointers,
                      k.pointers_row, threads)
    elif p.way == PLANES:
        memset(&zeros, 0, sizeof(Outside))
        correlate_planes(x, weights, padded, y, &epilogue, f, &zeros, p.tiling.images,
                         p.tiling.strip, work, k.row, pointers, k.pointers_row, threads)
    else:
        correlate_narrow(
            x, weights, padded, y, &epilogue, f, p.tiling.images, _taps(f), view.size[5],
            groups * outputs, p.tiling.strip, work, k.row, pointers, k.pointers_row, threads)


# Forward

cdef struct Forward:
    Plan plan
    Py_ssize_t* offsets
    char* x
    char* y
    Work work


cdef Forward _lay_forward(const Convolution* c, int threads, Memory* m) noexcept nogil:
    cdef Forward op
    cdef Frame f = _frame(c, NULL)
    op.plan = _plan(c.x.size[0], &f, _reach(c), c.groups, c.w.size[0] // c.groups, c.w.size[1],
                    c.x.itemsize)
    op.offsets = _take_offsets(m, c)
    op.x = _take_ordered(m, &c.x, CHANNELS_LAST)
    op.y = _take_ordered(m, &c.y, CHANNELS_LAST)
    op.work = _take_work(m, &op.plan, c.x.itemsize, threads)
    return op


cdef int64_t conv_forward_workspace(
    const fastconv_conv* conv, const fastconv_array* x, const fastconv_array* w,
    const fastconv_array* y, int threads,
) noexcept nogil:
    cdef Convolution c
    cdef Memory m = Memory(NULL, 0)
    cdef int status = _read_convolution(conv, x, w, y, y, threads, False, &c)
    if status != FASTCONV_OK:
        return status
    _lay_forward(&c, threads, &m)
    return _needed(&m)


cdef int conv_forward(
    const fastconv_conv* conv, const fastconv_array* x, const fastconv_array* w, const void* bias,
    const fastconv_array* y, void* workspace, int64_t bytes, int threads,
) noexcept nogil:
    cdef Convolution c
    cdef Forward op
    cdef Memory m = Memory(NULL, 0)
    cdef int status = _read_convolution(conv, x, w, y, y, threads, True, &c)
    if status == FASTCONV_OK:
        status = _check_optional(bias, c.x.itemsize)
    if status != FASTCONV_OK:
        return status
    _lay_forward(&c, threads, &m)
    status = _begin(&m, workspace, bytes)
    if status != FASTCONV_OK or c.y.count == 0:
        return status
    op = _lay_forward(&c, threads, &m)
    threads = _team(threads)
    _load(&c.x, op.x, CHANNELS_LAST, threads)
    if c.x.dtype == FASTCONV_FLOAT32:
        _run_forward[float](&c, &op, <const float*> bias, threads)
    else:
        _run_forward[double](&c, &op, <const double*> bias, threads)
    _store(&c.y, op.y, CHANNELS_LAST, threads)
    return FASTCONV_OK


cdef void _run_forward(
    const Convolution* c, const Forward* op, const floating* bias, int threads,
) noexcept nogil:
    cdef Frame f = _frame(c, op.offsets)
    cdef Strided view
    cdef Py_ssize_t axis
    view.size[0], view.step[0] = c.groups, c.w.size[0] // c.groups * c.w.step[0]
    view.size[1], view.step[1] = c.w.size[0] // c.groups, c.w.step[0]
    view.size[5], view.step[5] = c.w.size[1], c.w.step[1]
    for axis in range(SPATIAL, 5):
        view.size[axis], view.step[axis] = c.w.size[axis], c.w.step[axis]
    _correlate(<const floating*> op.x, <const floating*> c.w.data, &view, bias,
               <floating*> op.y, &f, &op.plan, &op.work, threads)


# The gradient by input

cdef struct BackwardInput:
    Py_ssize_t* offsets
    char* dx
    char* dy
    Work work


cdef BackwardInput _lay_backward_input(
    const Convolution* c, int threads, Memory* m,
) noexcept nogil:
    """Memory for any of the phases, which are computed one after the other."""
    cdef BackwardInput op
    cdef Plan most
    cdef Frame f
    cdef Py_ssize_t axis
    for axis in range(3):
        f.step[axis], f.count[axis] = 1, _ceil(c.x.size[SPATIAL + axis], c.stride[axis])
        f.taps[axis] = _most_taps(c.kernel[axis], c.stride[axis], c.dilation[axis])
    most = _plan_phase(c, &f)
    # fewer taps may have longer strips
    most.work = max(most.work, _most_work(most.tiling.depth))
    most.pointers = _times(LONG_STRIP + MOST_PIXELS, _taps(&f) + 1)
    op.offsets = _take_offsets(m, c)
    op.dx = _take_ordered(m, &c.x, CHANNELS_LAST)
    op.dy = _take_ordered(m, &c.y, CHANNELS_LAST)
    op.work = _take_work(m, &most, c.x.itemsize, threads)
    return op


cdef Py_ssize_t _most_taps(
    Py_ssize_t kernel, Py_ssize_t stride, Py_ssize_t dilation,
) noexcept nogil:
    """Taps of a phase: of those whose places differ by multiples of the stride."""
    cdef Py_ssize_t common = stride, rest = dilation
    while rest:
        common, rest = rest, common % rest
    return _ceil(kernel, stride // common)


cdef Py_ssize_t _most_work(Py_ssize_t depth) noexcept nogil:
    """Of a thread, for up to so many products of an output."""
    cdef Py_ssize_t work = max(_times(SHORT_STRIP + 1, depth),
                               (STRIP + 1) * min(depth, <Py_ssize_t> DEEPEST - 1))
    return max(work, (LONG_STRIP + 1) * min(depth, <Py_ssize_t> DEEP - 1))


cdef Plan _plan_phase(const Convolution* c, const Frame* f) noexcept nogil:
    return _plan(c.x.size[0], f, _reach(c), c.groups, c.w.size[1], c.w.size[0] // c.groups,
                 c.x.itemsize)


cdef int64_t conv_backward_input_workspace(
    const fastconv_conv* conv, const fastconv_array* dy, const fastconv_array* w,
    const fastconv_array* dx, int threads,
) noexcept nogil:
    cdef Convolution c
    cdef Memory m = Memory(NULL, 0)
    cdef int status = _read_convolution(conv, dx, w, dy, dx, threads, False, &c)
    if status != FASTCONV_OK:
        return status
    _lay_backward_input(&c, threads, &m)
    return _needed(&m)


cdef int conv_backward_input(
    const fastconv_conv* conv, const fastconv_array* dy, const fastconv_array* w,
    const fastconv_array* dx, void* workspace, int64_t bytes, int threads,
) noexcept nogil:
    cdef Convolution c
    cdef BackwardInput op
    cdef Memory m = Memory(NULL, 0)
    cdef int status = _read_convolution(conv, dx, w, dy, dx, threads, True, &c)
    if status != FASTCONV_OK:
        return status
    _lay_backward_input(&c, threads, &m)
    status = _begin(&m, workspace, bytes)
    if status != FASTCONV_OK or c.x.count == 0:
        return status
    op = _lay_backward_input(&c, threads, &m)
    threads = _team(threads)
    _load(&c.y, op.dy, CHANNELS_LAST, threads)
    if c.x.dtype == FASTCONV_FLOAT32:
        _run_backward_input[float](&c, &op, NULL, threads)
    else:
        _run_backward_input[double](&c, &op, NULL, threads)
    _store(&c.x, op.dx, CHANNELS_LAST, threads)
    return FASTCONV_OK


cdef void _run_backward_input(
    const Convolution* c, const BackwardInput* op, const floating* no_bias, int threads,
) noexcept nogil:
    cdef Frame f
    cdef Strided view
    cdef Plan p
    cdef Py_ssize_t phase, first
    cdef bint all_reached = True
    for phase in range(_phases(c)):
        all_reached &= _phase(c, phase, NULL, &f, &view, &first)
    if not all_reached:
        memset(op.dx, 0, c.x.count * sizeof(floating))
    for phase in range(_phases(c)):
        if _phase(c, phase, op.offsets, &f, &view, &first):
            p = _plan_phase(c, &f)
            _correlate(<const floating*> op.dy, <const floating*> c.w.data + first, &view,
                       no_bias, <floating*> op.dx, &f, &p, &op.work, threads)


# The gradient by weight

cdef struct BackwardWeight:
    bint narrow
    Tiling tiling
    Py_ssize_t parts
    Py_ssize_t span    # pixels of a part
    Py_ssize_t* offsets
    char* x
    char* dy
    char* sums
    char* dw
    Work work


cdef BackwardWeight _lay_backward_weight(
    const Convolution* c, int threads, Memory* m,
) noexcept nogil:
    """As ``fastconv._plan.plan_direct_weight`` has it."""
    cdef BackwardWeight op
    cdef Plan p
    cdef Frame f = _frame(c, NULL)
    cdef Tiling* t = &op.tiling
    cdef Py_ssize_t taps = _taps(&f), sums, itemsize = c.x.itemsize
    cdef Py_ssize_t pixels = c.y.size[0] * f.count[0] * f.count[1] * f.count[2]
    memset(&p, 0, sizeof(Plan))
    memset(&op, 0, sizeof(BackwardWeight))
    t.images, t.groups, t.outputs = c.y.size[0], c.groups, c.w.size[0] // c.groups
    t.depth, t.width = taps * c.w.size[1], tile_width(itemsize, t.outputs, MOST_VECTORS)
    op.narrow = _is_narrow(c.groups, t.outputs, c.w.size[1], itemsize)
    if op.narrow:
        t.strip = NARROW_STRIP
        op.span = max(_ceil(pixels, PARTS), NARROW_STRIP)
        op.parts = _ceil(pixels, op.span)
        sums = _times(op.parts, c.w.count)
        p.work, p.pointers = c.x.size[1], _times(t.strip, taps + 1)
    else:
        t.panels = _ceil(t.outputs, t.width)
        sums = _times(_times(c.groups * t.panels, t.width), t.depth)
        op.parts = min(min(<Py_ssize_t> PARTS, SUMS_BYTES // _times(sums, itemsize)),
                       pixels // WEIGHT_STRIP)
        op.span = _ceil(pixels, max(max(op.parts, min(<Py_ssize_t> 2, pixels)), 1))
        op.parts = _ceil(pixels, op.span) if pixels else 0
        sums = _times(op.parts, sums)
        t.block = min(max(_ceil(_times(t.panels * c.groups, op.parts), PARTS),
                          <Py_ssize_t> WEIGHT_PANELS), t.panels)
        t.strip = min(<Py_ssize_t> WEIGHT_STRIP, op.span)
        p.work = LARGE
        if t.depth < LARGE // (4 * WEIGHT_STRIP):
            p.work = weight_work(t.depth, t.block * t.width, t.strip)
        p.pointers = _times(t.strip, taps)
    op.offsets = _take_offsets(m, c)
    op.x = _take_ordered(m, &c.x, CHANNELS_LAST)
    op.dy = _take_ordered(m, &c.y, CHANNELS_LAST)
    op.dw = NULL if op.narrow else _take_ordered(m, &c.w, CHANNELS_LAST)
    op.sums = <char*> _take(m, sums, itemsize)
    op.work = _take_work(m, &p, itemsize, threads)
    return op


cdef int64_t conv_backward_weight_workspace(
    const fastconv_conv* conv, const fastconv_array* x, const fastconv_array* dy,
    const fastconv_array* dw, int threads,
) noexcept nogil:
    cdef Convolution c
    cdef Memory m = Memory(NULL, 0)
    cdef int status = _read_convolution(conv, x, dw, dy, dw, threads, False, &c)
    if status != FASTCONV_OK:
        return status
    _lay_backward_weight(&c, threads, &m)
    return _needed(&m)


cdef int conv_backward_weight(
    const fastconv_conv* conv, const fastconv_array* x, const fastconv_array* dy,
    const fastconv_array* dw, void* workspace, int64_t bytes, int threads,
) noexcept nogil:
    cdef Convolution c
    cdef BackwardWeight op
    cdef Memory m = Memory(NULL, 0)
    cdef int status = _read_convolution(conv, x, dw, dy, dw, threads, True, &c)
    if status != FASTCONV_OK:
        return status
    _lay_backward_weight(&c, threads, &m)
    status = _begin(&m, workspace, bytes)
    if status != FASTCONV_OK:
        return status
    threads = _team(threads)
    if c.y.count == 0:
        _clear(&c.w, threads)
        return FASTCONV_OK
    op = _lay_backward_weight(&c, threads, &m)
    _load(&c.x, op.x, CHANNELS_LAST, threads)
    _load(&c.y, op.dy, CHANNELS_LAST, threads)
    if c.x.dtype == FASTCONV_FLOAT32:
        _run_backward_weight[float](&c, &op, <const float*> op.x, threads)
    else:
        _run_backward_weight[double](&c, &op, <const double*> op.x, threads)
    return FASTCONV_OK


cdef void _run_backward_weight(
    const Convolution* c, const BackwardWeight* op, const floating* x, int threads,
) noexcept nogil:
    cdef Frame f = _frame(c, op.offsets)
    cdef const floating* dy = <const floating*> op.dy
    cdef floating* sums = <floating*> op.sums
    cdef floating* work = <floating*> op.work.rows
    cdef Py_ssize_t step[5]
    cdef Py_ssize_t part, i, axis, run
    if not op.narrow:
        add_weights(x, dy, <floating*> op.dw, &f, &op.tiling, op.parts, op.span, sums, work,
                    op.work.row, <const floating**> op.work.pointers, op.work.pointers_row,
                    threads)
        _store(&c.w, op.dw, CHANNELS_LAST, threads)
        return
    add_narrow_weights(x, dy, sums, &f, op.tiling.images, op.parts, _taps(&f), c.w.size[1],
                       c.w.size[0], op.tiling.strip, op.span, work, op.work.row,
                       <const void**> op.work.pointers, op.work.pointers_row, threads)
    for part in range(1, op.parts):
        for i in range(c.w.count):
            sums[i] += sums[part * c.w.count + i]
    # they are (taps, C, G K)
    step[0], step[1] = 1, c.w.size[0]
    run = c.w.size[0] * c.w.size[1]
    for axis in range(4, 1, -1):
        step[axis] = run
        run *= c.w.size[axis]
    _copy(&c.w, <const char*> sums, step, c.w.data, c.w.step, threads)


# The gradient by bias

cdef struct Sums:
    char* rows
    Py_ssize_t block   # rows
    Py_ssize_t blocks
    double* sums
    char* work
    Py_ssize_t row


cdef Py_ssize_t _rows(const View* v) noexcept nogil:
    """Pixels of all images."""
    return v.count // v.size[1]


cdef Py_ssize_t _block(const View* v) noexcept nogil:
    """Rows that are summed at a time, as ``fastconv.functional`` has them."""
    return max(<Py_ssize_t> 64, NORM_BLOCK // (v.size[1] * v.itemsize))


cdef Sums _lay_bias(const View* dy, int threads, Memory* m) noexcept nogil:
    cdef Sums op
    op.block = _block(dy)
    op.blocks = _ceil(_rows(dy), op.block)
    op.row = _row(lanes_of(dy.size[1]), dy.itemsize)
    op.rows = _take_ordered(m, dy, CHANNELS_LAST)
    op.sums = <double*> _take(m, _times(op.blocks, dy.size[1]), sizeof(double))
    op.work = <char*> _take(m, _times(threads, op.row), dy.itemsize)
    return op


cdef int _read_bias(
    const fastconv_array* dy, int threads, bint runs, View* v,
) noexcept nogil:
    cdef int status = _check_threads(threads)
    if status == FASTCONV_OK:
        status = _read(dy, 2, 5, runs, v)
    return _check_floats(v) if status == FASTCONV_OK else status


cdef int64_t conv_backward_bias_workspace(const fastconv_array* dy, int threads) noexcept nogil:
    cdef View v
    cdef Memory m = Memory(NULL, 0)
    cdef int status = _read_bias(dy, threads, False, &v)
    if status != FASTCONV_OK:
        return status
    _lay_bias(&v, threads, &m)
    return _needed(&m)


cdef int conv_backward_bias(
    const fastconv_array* dy, void* db, void* workspace, int64_t bytes, int threads,
) noexcept nogil:
    cdef View v
    cdef Sums op
    cdef Memory m = Memory(NULL, 0)
    cdef int status = _read_bias(dy, threads, True, &v)
    if status == FASTCONV_OK:
        status = _check_pointer(db, v.itemsize)
    if status != FASTCONV_OK:
        return status
    _lay_bias(&v, threads, &m)
    status = _begin(&m, workspace, bytes)
    if status != FASTCONV_OK:
        return status
    op = _lay_bias(&v, threads, &m)
    threads = _team(threads)
    _load(&v, op.rows, CHANNELS_LAST, threads)
    if v.dtype == FASTCONV_FLOAT32:
        _run_bias[float](&v, &op, <float*> db, threads)
    else:
        _run_bias[double](&v, &op, <double*> db, threads)
    return FASTCONV_OK


cdef void _run_bias(const View* v, const Sums* op, floating* db, int threads) noexcept nogil:
    cdef const floating* rows = <const floating*> op.rows
    cdef floating* work = <floating*> op.work
    cdef Py_ssize_t channels = v.size[1], b, c
    cdef double total
    with parallel(num_threads=threads):
        for b in prange(op.blocks, schedule="guided"):
            sum_rows(rows + b * op.block * channels, min(op.block, _rows(v) - b * op.block),
                     channels, work + threadid() * op.row, op.sums + b * channels)
    for c in range(channels):
        total = 0
        for b in range(op.blocks):
            total += op.sums[b * channels + c]
        db[c] = <floating> total


# im2col and col2im -----------------------------------------------------------------------------

cdef struct Columns:
    Py_ssize_t* offsets
    char* cols
    char* x


cdef int _read_columns(
    const fastconv_conv* conv, const int64_t* kernel, const fastconv_array* x,
    const fastconv_array* cols, const fastconv_array* result, int threads, bint runs,
    Convolution* c,
) noexcept nogil:
    """c.y are the columns (N, C taps, 1, 1, pixels)."""
    cdef int status = _check_threads(threads)
    cdef Py_ssize_t taps
    if conv == NULL or kernel == NULL:
        return FASTCONV_NULL_POINTER
    if status == FASTCONV_OK:
        status = _read_result(x, 3, 5, runs, &c.x) if x == result else _read(x, 3, 5, runs, &c.x)
    if status == FASTCONV_OK:
        status = (_read_result(cols, 3, 3, runs, &c.y) if cols == result
                  else _read(cols, 3, 3, runs, &c.y))
    if status == FASTCONV_OK:
        status = _check_floats(&c.x)
    if status != FASTCONV_OK:
        return status
    if c.y.dtype != c.x.dtype:
        return FASTCONV_BAD_DTYPE
    status = _read_options(conv, x.ndim - SPATIAL, kernel, c)
    if status != FASTCONV_OK:
        return status
    taps = _times(_times(c.kernel[0], c.kernel[1]), c.kernel[2])
    if (c.y.size[0] != c.x.size[0] or c.y.size[1] != _times(c.x.size[1], taps)
            or c.y.size[4] != _times(_times(c.output[0], c.output[1]), c.output[2])):
        return FASTCONV_SHAPE_MISMATCH
    return FASTCONV_OK


cdef Columns _lay_columns(const Convolution* c, bint adds, Memory* m) noexcept nogil:
    """im2col reads an image of any strides, col2im `adds` into one of rows."""
    cdef Columns op
    op.offsets = _take_offsets(m, c)
    op.cols = _take_ordered(m, &c.y, ROWS_LAST)
    op.x = _take_ordered(m, &c.x, ROWS_LAST) if adds else c.x.data
    return op


cdef int64_t im2col_workspace(
    const fastconv_conv* conv, const int64_t* kernel, const fastconv_array* x,
    const fastconv_array* cols, int threads,
) noexcept nogil:
    cdef Convolution c
    cdef Memory m = Memory(NULL, 0)
    cdef int status = _read_columns(conv, kernel, x, cols, cols, threads, False, &c)
    if status != FASTCONV_OK:
        return status
    _lay_columns(&c, False, &m)
    return _needed(&m)


cdef int im2col(
    const fastconv_conv* conv, const int64_t* kernel, const fastconv_array* x,
    const fastconv_array* cols, void* workspace, int64_t bytes, int threads,
) noexcept nogil:
    cdef Convolution c
    cdef Columns op
    cdef Frame f
    cdef Py_ssize_t strides[5]
    cdef Py_ssize_t axis
    cdef Memory m = Memory(NULL, 0)
    cdef int status = _read_columns(conv, kernel, x, cols, cols, threads, True, &c)
    if status != FASTCONV_OK:
        return status
    _lay_columns(&c, False, &m)
    status = _begin(&m, workspace, bytes)
    if status != FASTCONV_OK or c.y.count == 0:
        return status
    op = _lay_columns(&c, False, &m)
    threads = _team(threads)
    f = _frame(&c, op.offsets)
    for axis in range(5):
        strides[axis] = c.x.step[axis] * c.x.itemsize
    if c.x.dtype == FASTCONV_FLOAT32:
        unroll(<const float*> op.x, c.x.size[0], c.x.size[1], strides, &f, <float*> op.cols,
               threads)
    else:
        unroll(<const double*> op.x, c.x.size[0], c.x.size[1], strides, &f, <double*> op.cols,
               threads)
    _store(&c.y, op.cols, ROWS_LAST, threads)
    return FASTCONV_OK


cdef int64_t col2im_workspace(
    const fastconv_conv* conv, const int64_t* kernel, const fastconv_array* cols,
    const fastconv_array* x, int threads,
) noexcept nogil:
    cdef Convolution c
    cdef Memory m = Memory(NULL, 0)
    cdef int status = _read_columns(conv, kernel, x, cols, x, threads, False, &c)
    if status != FASTCONV_OK:
        return status
    _lay_columns(&c, True, &m)
    return _needed(&m)


cdef int col2im(
    const fastconv_conv* conv, const int64_t* kernel, const fastconv_array* cols,
    const fastconv_array* x, void* workspace, int64_t bytes, int threads,
) noexcept nogil:
    cdef Convolution c
    cdef Columns op
    cdef Frame f
    cdef Memory m = Memory(NULL, 0)
    cdef int status = _read_columns(conv, kernel, x, cols, x, threads, True, &c)
    if status != FASTCONV_OK:
        return status
    _lay_columns(&c, True, &m)
    status = _begin(&m, workspace, bytes)
    if status != FASTCONV_OK or c.x.count == 0:
        return status
    op = _lay_columns(&c, True, &m)
    threads = _team(threads)
    f = _frame(&c, op.offsets)
    _load(&c.y, op.cols, ROWS_LAST, threads)
    if c.x.dtype == FASTCONV_FLOAT32:
        roll(<const float*> op.cols, c.x.size[0] * c.x.size[1], &f, <float*> op.x, threads)
    else:
        roll(<const double*> op.cols, c.x.size[0] * c.x.size[1], &f, <double*> op.x, threads)
    _store(&c.x, op.x, ROWS_LAST, threads)
    return FASTCONV_OK


# Pooling ---------------------------------------------------------------------------------------

cdef struct Pooling:
    View x
    View y
    View index        # where it is given: index_given
    bint index_given
    int kind
    bint count_padding
    double power
    Py_ssize_t kernel[3]
    Py_ssize_t stride[3]
    Py_ssize_t before[3]
    Py_ssize_t after[3]
    Py_ssize_t dilation[3]


cdef int _read_pool(
    const fastconv_pool* pool, const fastconv_array* x, const fastconv_array* y,
    const fastconv_array* index, bint backward, int threads, bint runs, Pooling* p,
) noexcept nogil:
    """Check a pooling by its images x, y; or by their gradients, where the index is read."""
    cdef int status = _check_threads(threads)
    if pool == NULL:
        return FASTCONV_NULL_POINTER
    if status == FASTCONV_OK:
        status = _read_result(x, 3, 5, runs, &p.x) if backward else _read(x, 3, 5, runs, &p.x)
    if status == FASTCONV_OK:
        status = _read(y, 3, 5, runs, &p.y) if backward else _read_result(y, 3, 5, runs, &p.y)
    if status == FASTCONV_OK:
        status = _check_floats(&p.x)
    if status != FASTCONV_OK:
        return status
    if p.y.dtype != p.x.dtype:
        return FASTCONV_BAD_DTYPE
    if y.ndim != x.ndim:
        return FASTCONV_BAD_NDIM
    status = _read_windows(pool, x.ndim - SPATIAL, p)
    if status != FASTCONV_OK:
        return status
    p.index_given = index != NULL
    if p.index_given:
        return _read_index(index, backward, runs, p)
    return FASTCONV_NULL_POINTER if backward and p.kind == FASTCONV_MAX else FASTCONV_OK


cdef int _read_windows(const fastconv_pool* pool, Py_ssize_t axes, Pooling* p) noexcept nogil:
    cdef Py_ssize_t axis, at
    cdef int64_t size
    p.kind, p.count_padding, p.power = pool.kind, pool.count_include_pad, pool.power
    if p.kind not in (FASTCONV_MAX, FASTCONV_AVERAGE, FASTCONV_LP):
        return FASTCONV_BAD_OPTION
    if p.kind == FASTCONV_LP and not (isfinite(p.power) and p.power > 0):
        return FASTCONV_BAD_OPTION
    if p.y.size[0] != p.x.size[0] or p.y.size[1] != p.x.size[1]:
        return FASTCONV_SHAPE_MISMATCH
    for axis in range(3):
        p.kernel[axis] = p.stride[axis] = p.dilation[axis] = 1
        p.before[axis] = p.after[axis] = 0
    for axis in range(axes):
        at = 3 - axes + axis
        size = output_size(p.x.size[SPATIAL + at], pool.kernel[axis], pool.stride[axis],
                           pool.before[axis], pool.after[axis], pool.dilation[axis])
        if size < 0:
            return <int> size
        p.kernel[at], p.stride[at] = pool.kernel[axis], pool.stride[axis]
        p.before[at], p.after[at] = pool.before[axis], pool.after[axis]
        p.dilation[at] = pool.dilation[axis]
        # no window is all padding, and sums run over neighbours
        if (max(p.before[at], p.after[at]) > (p.kernel[at] - 1) * p.dilation[at]
                or (p.dilation[at] > 1 and p.kind != FASTCONV_MAX)):
            return FASTCONV_BAD_GEOMETRY
        if p.y.size[SPATIAL + at] != size:
            return FASTCONV_SHAPE_MISMATCH
    return FASTCONV_OK


cdef int _read_index(
    const fastconv_array* index, bint backward, bint runs, Pooling* p,
) noexcept nogil:
    cdef int status = (_read(index, 3, 5, runs, &p.index) if backward
                       else _read_result(index, 3, 5, runs, &p.index))
    if status != FASTCONV_OK:
        return status
    if p.kind != FASTCONV_MAX:
        return FASTCONV_BAD_OPTION
    if p.index.dtype != FASTCONV_INT32:
        return FASTCONV_BAD_DTYPE
    if p.x.size[2] * p.x.size[3] * p.x.size[4] > INT32_MAX:
        return FASTCONV_OVERFLOW
    p.index.dtype = p.y.dtype
    status = _check_same(&p.index, &p.y)
    p.index.dtype = FASTCONV_INT32
    return status


cdef Spans _lay_windows(const Pooling* p, double** divisor, Memory* m) noexcept nogil:
    """What an output sees, as ``fastconv._geometry.strided_windows`` has it, and its divisors."""
    cdef Spans s
    cdef Py_ssize_t axis, i, start, stop, total
    cdef Py_ssize_t* first
    cdef Py_ssize_t* end
    memset(&s, 0, sizeof(Spans))
    total = p.y.size[2] + p.y.size[3] + p.y.size[4]
    first = <Py_ssize_t*> _take(m, 2 * total, sizeof(Py_ssize_t))
    divisor[0] = <double*> _take(m, total, sizeof(double))
    if m.base == NULL:
        return s
    cdef double* by = divisor[0]
    end = first + total
    for axis in range(3):
        s.count[axis], s.size[axis] = p.y.size[SPATIAL + axis], p.x.size[SPATIAL + axis]
        s.step[axis], s.first[axis], s.stop[axis] = p.dilation[axis], first, end
        for i in range(s.count[axis]):
            start = i * p.stride[axis] - p.before[axis]
            stop = start + (p.kernel[axis] - 1) * p.dilation[axis] + 1
            end[i] = min(stop, s.size[axis])
            first[i] = start
            if start < 0:  # the first tap inside
                first[i] = (p.dilation[axis] - -start % p.dilation[axis]) % p.dilation[axis]
            by[i] = 1
            if p.kind == FASTCONV_AVERAGE:
                by[i] = stop - start if p.count_padding else end[i] - max(start, <Py_ssize_t> 0)
        first += s.count[axis]
        end += s.count[axis]
        by += s.count[axis]
    return s


cdef Spans _lay_cover(const Pooling* p, Memory* m) noexcept nogil:
    """The outputs that may see a place: both ends of their windows rise."""
    cdef Spans s
    cdef Py_ssize_t axis, place, low, high, total
    cdef Py_ssize_t* first
    cdef Py_ssize_t* end
    memset(&s, 0, sizeof(Spans))
    total = p.x.size[2] + p.x.size[3] + p.x.size[4]
    first = <Py_ssize_t*> _take(m, 2 * total, sizeof(Py_ssize_t))
    if m.base == NULL:
        return s
    end = first + total
    for axis in range(3):
        s.count[axis], s.size[axis] = p.x.size[SPATIAL + axis], p.y.size[SPATIAL + axis]
        s.step[axis], s.first[axis], s.stop[axis] = 1, first, end
        low = high = 0
        for place in range(s.count[axis]):
            while low < s.size[axis] and (
                    low * p.stride[axis] - p.before[axis]
                    + (p.kernel[axis] - 1) * p.dilation[axis] < place):
                low += 1
            while high < s.size[axis] and high * p.stride[axis] - p.before[axis] <= place:
                high += 1
            first[place], end[place] = low, high
        first += s.count[axis]
        end += s.count[axis]
    return s


cdef struct PoolForward:
    Spans windows
    double* divisor
    char* x
    char* y
    char* index


cdef PoolForward _lay_pool_forward(const Pooling* p, Memory* m) noexcept nogil:
    cdef PoolForward op
    op.windows = _lay_windows(p, &op.divisor, m)
    op.x = _take_ordered(m, &p.x, CHANNELS_LAST)
    op.y = _take_ordered(m, &p.y, CHANNELS_LAST)
    op.index = _take_ordered(m, &p.index, CHANNELS_LAST) if p.index_given else NULL
    return op


cdef int64_t pool_forward_workspace(
    const fastconv_pool* pool, const fastconv_array* x, const fastconv_array* y,
    const fastconv_array* index, int threads,
) noexcept nogil:
    cdef Pooling p
    cdef Memory m = Memory(NULL, 0)
    cdef int status = _read_pool(pool, x, y, index, False, threads, False, &p)
    if status != FASTCONV_OK:
        return status
    _lay_pool_forward(&p, &m)
    return _needed(&m)


cdef int pool_forward(
    const fastconv_pool* pool, const fastconv_array* x, const fastconv_array* y,
    const fastconv_array* index, void* workspace, int64_t bytes, int threads,
) noexcept nogil:
    cdef Pooling p
    cdef PoolForward op
    cdef Memory m = Memory(NULL, 0)
    cdef int status = _read_pool(pool, x, y, index, False, threads, True, &p)
    if status != FASTCONV_OK:
        return status
    _lay_pool_forward(&p, &m)
    status = _begin(&m, workspace, bytes)
    if status != FASTCONV_OK or p.y.count == 0:
        return status
    op = _lay_pool_forward(&p, &m)
    threads = _team(threads)
    _load(&p.x, op.x, CHANNELS_LAST, threads)
    if p.x.dtype == FASTCONV_FLOAT32:
        _run_pool_forward[float](&p, &op, <const float*> op.x, threads)
    else:
        _run_pool_forward[double](&p, &op, <const double*> op.x, threads)
    _store(&p.y, op.y, CHANNELS_LAST, threads)
    if p.index_given:
        _store(&p.index, op.index, CHANNELS_LAST, threads)
    return FASTCONV_OK


cdef void _run_pool_forward(
    const Pooling* p, const PoolForward* op, const floating* x, int threads,
) noexcept nogil:
    cdef floating* y = <floating*> op.y
    cdef int* index = <int*> op.index
    cdef const Spans* s = &op.windows
    cdef Py_ssize_t lines = s.count[0] * s.count[1], line, i, j
    cdef Py_ssize_t channels = p.x.size[1], image = p.x.count // p.x.size[0]
    cdef Py_ssize_t length = s.count[2] * channels
    for line in prange(p.x.size[0] * lines, schedule="guided", num_threads=threads):
        i = line % lines // s.count[1]
        j = line % s.count[1]
        if p.kind == FASTCONV_MAX:
            max_line(x + line // lines * image, s, i, j, channels, <floating> -INFINITY,
                     y + line * length, index + line * length if index != NULL else NULL)
        else:
            sum_line(x + line // lines * image, s, i, j, channels, op.divisor,
                     p.power if p.kind == FASTCONV_LP else 1., y + line * length)
            if p.kind == FASTCONV_LP:
                _roots(y + line * length, length, p.power)


cdef void _roots(floating* y, Py_ssize_t n, double power) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        y[i] = <floating> pow(y[i], 1 / power)


cdef struct PoolBackward:
    Spans cover
    double* divisor
    char* image     # of Lp: x
    char* result    # of Lp: y
    char* index
    char* dy
    char* scaled    # of Lp: dy times what its root and the sum give
    char* dx


cdef PoolBackward _lay_pool_backward(
    const Pooling* p, const View* x, const View* y, Memory* m,
) noexcept nogil:
    cdef PoolBackward op
    memset(&op, 0, sizeof(PoolBackward))
    _lay_windows(p, &op.divisor, m)
    op.cover = _lay_cover(p, m)
    op.dx = _take_ordered(m, &p.x, CHANNELS_LAST)
    op.dy = _take_ordered(m, &p.y, CHANNELS_LAST)
    op.index = _take_ordered(m, &p.index, CHANNELS_LAST) if p.index_given else NULL
    if p.kind == FASTCONV_LP:
        op.image = _take_ordered(m, x, CHANNELS_LAST)
        op.result = _take_ordered(m, y, CHANNELS_LAST)
        op.scaled = <char*> _take(m, p.y.count, p.y.itemsize)
    return op


cdef int _read_pool_backward(
    const fastconv_pool* pool, const fastconv_array* x, const fastconv_array* y,
    const fastconv_array* index, const fastconv_array* dy, const fastconv_array* dx, int threads,
    bint runs, Pooling* p, View* image, View* result,
) noexcept nogil:
    cdef int status = _read_pool(pool, dx, dy, index, True, threads, runs, p)
    if status != FASTCONV_OK or p.kind != FASTCONV_LP:
        return status
    status = _read(x, 3, 5, runs, image)
    if status == FASTCONV_OK:
        status = _read(y, 3, 5, runs, result)
    if status == FASTCONV_OK:
        status = _check_same(image, &p.x)
    return _check_same(result, &p.y) if status == FASTCONV_OK else status


cdef int64_t pool_backward_workspace(
    const fastconv_pool* pool, const fastconv_array* x, const fastconv_array* y,
    const fastconv_array* index, const fastconv_array* dy, const fastconv_array* dx, int threads,
) noexcept nogil:
    cdef Pooling p
    cdef View image, result
    cdef Memory m = Memory(NULL, 0)
    cdef int status = _read_pool_backward(
        pool, x, y, index, dy, dx, threads, False, &p, &image, &result)
    if status != FASTCONV_OK:
        return status
    _lay_pool_backward(&p, &image, &result, &m)
    return _needed(&m)


cdef int pool_backward(
    const fastconv_pool* pool, const fastconv_array* x, const fastconv_array* y,
    const fastconv_array* index, const fastconv_array* dy, const fastconv_array* dx,
    void* workspace, int64_t bytes, int threads,
) noexcept nogil:
    cdef Pooling p
    cdef PoolBackward op
    cdef View image, result
    cdef Memory m = Memory(NULL, 0)
    cdef int status = _read_pool_backward(
        pool, x, y, index, dy, dx, threads, True, &p, &image, &result)
    if status != FASTCONV_OK:
        return status
    _lay_pool_backward(&p, &image, &result, &m)
    status = _begin(&m, workspace, bytes)
    if status != FASTCONV_OK or p.x.count == 0:
        return status
    op = _lay_pool_backward(&p, &image, &result, &m)
    threads = _team(threads)
    _load(&p.y, op.dy, CHANNELS_LAST, threads)
    if p.kind == FASTCONV_MAX:
        _load(&p.index, op.index, CHANNELS_LAST, threads)
    elif p.kind == FASTCONV_LP:
        _load(&image, op.image, CHANNELS_LAST, threads)
        _load(&result, op.result, CHANNELS_LAST, threads)
    if p.x.dtype == FASTCONV_FLOAT32:
        _run_pool_backward[float](&p, &op, <const float*> op.dy, threads)
    else:
        _run_pool_backward[double](&p, &op, <const double*> op.dy, threads)
    _store(&p.x, op.dx, CHANNELS_LAST, threads)
    return FASTCONV_OK


cdef void _run_pool_backward(
    const Pooling* p, const PoolBackward* op, const floating* dy, int threads,
) noexcept nogil:
    cdef floating* dx = <floating*> op.dx
    cdef const int* index = <const int*> op.index
    cdef const floating* image = <const floating*> op.image
    cdef const Spans* s = &op.cover
    cdef Py_ssize_t lines = s.count[0] * s.count[1], line, i, j
    cdef Py_ssize_t channels = p.x.size[1], step = p.y.count // p.y.size[0]
    cdef Py_ssize_t length = s.count[2] * channels
    if p.kind == FASTCONV_LP:
        _scale(<const floating*> op.result, p.power, dy, p.y.count, <floating*> op.scaled)
        dy = <const floating*> op.scaled
    for line in prange(p.x.size[0] * lines, schedule="guided", num_threads=threads):
        i = line % lines // s.count[1]
        j = line % s.count[1]
        if p.kind == FASTCONV_MAX:
            max_line_backward(dy + line // lines * step, index + line // lines * step, s, i, j,
                              channels, dx + line * length)
        else:
            sum_line_backward(dy + line // lines * step, s, i, j, channels, op.divisor,
                              dx + line * length)
            if p.kind == FASTCONV_LP:
                _slopes(image + line * length, p.power, length, dx + line * length)


cdef void _scale(
    const floating* y, double power, const floating* dy, Py_ssize_t n, floating* scaled,
) noexcept nogil:
    """y = s^(1/p), s = sum x^p:  dx = dy y^(1 - p) x^(p - 1), and 0 where y = 0."""
    cdef Py_ssize_t i
    for i in range(n):
        scaled[i] = <floating> (dy[i] * pow(y[i], 1 - power)) if y[i] != 0 else 0


cdef void _slopes(
    const floating* x, double power, Py_ssize_t n, floating* dx,
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        dx[i] *= <floating> (pow(x[i], power - 1) if x[i] != 0 else <double> (power == 1))


# Batch normalisation ---------------------------------------------------------------------------

cdef struct Norm:
    char* x
    char* y             # or dx, which may not be asked for
    char* dy
    Py_ssize_t block    # rows
    Py_ssize_t blocks
    double* sums        # (blocks, C), and of the blocks' second sums
    double* products
    char* work          # of each thread
    Py_ssize_t row
    char* vectors       # six of `lanes` values


cdef Norm _lay_norm(
    const View* x, const View* y, const View* dy, int threads, bint sums, Memory* m,
) noexcept nogil:
    """y and dy, and `sums` over rows, where there are any."""
    cdef Norm op
    cdef Py_ssize_t channels = x.size[1]
    op.block, op.row = _block(x), _row(_times(3, lanes_of(channels)), x.itemsize)
    op.blocks = _ceil(_rows(x), op.block) if sums else 0
    op.x = _take_ordered(m, x, CHANNELS_LAST)
    op.y = _take_ordered(m, y, CHANNELS_LAST) if y != NULL else NULL
    op.dy = _take_ordered(m, dy, CHANNELS_LAST) if dy != NULL else NULL
    op.sums = <double*> _take(m, _times(op.blocks, channels), sizeof(double))
    op.products = <double*> _take(m, _times(op.blocks, channels), sizeof(double))
    op.work = <char*> _take(m, _times(threads, op.row) if sums else 0, x.itemsize)
    op.vectors = <char*> _take(m, _times(6, lanes_of(channels)), x.itemsize)
    return op


cdef int _read_norm(
    const fastconv_array* x, const fastconv_array* y, bint trains, int threads, bint runs,
    View* v, View* result,
) noexcept nogil:
    cdef int status = _check_threads(threads)
    if status == FASTCONV_OK:
        status = _read(x, 2, 5, runs, v)
    if status == FASTCONV_OK:
        status = _read_result(y, 2, 5, runs, result)
    if status == FASTCONV_OK:
        status = _check_floats(v)
    if status == FASTCONV_OK:
        status = _check_same(result, v)
    if status == FASTCONV_OK and trains and _rows(v) < 2:  # which have no variance
        return FASTCONV_BAD_SIZE
    return status


cdef int64_t batch_norm_train_workspace(
    const fastconv_array* x, const fastconv_array* y, int threads,
) noexcept nogil:
    cdef View v, result
    cdef Memory m = Memory(NULL, 0)
    cdef int status = _read_norm(x, y, True, threads, False, &v, &result)
    if status != FASTCONV_OK:
        return status
    _lay_norm(&v, &result, NULL, threads, True, &m)
    return _needed(&m)


cdef int batch_norm_train(
    const fastconv_array* x, const void* weight, const void* bias, void* running_mean,
    void* running_var, double momentum, double eps, const fastconv_array* y, double* mean,
    double* inverse, void* workspace, int64_t bytes, int threads,
) noexcept nogil:
    cdef View v, result
    cdef Norm op
    cdef Memory m = Memory(NULL, 0)
    cdef int status = _read_norm(x, y, True, threads, True, &v, &result)
    if status == FASTCONV_OK:
        status = _check_vectors(
            v.itemsize, weight, bias, running_mean, running_var, mean, inverse)
    if status == FASTCONV_OK and (
            (running_mean == NULL) != (running_var == NULL) or mean == NULL or inverse == NULL):
        status = FASTCONV_NULL_POINTER
    if status == FASTCONV_OK and not (eps >= 0 and isfinite(eps) and isfinite(momentum)):
        status = FASTCONV_BAD_OPTION
    if status != FASTCONV_OK:
        return status
    _lay_norm(&v, &result, NULL, threads, True, &m)
    status = _begin(&m, workspace, bytes)
    if status != FASTCONV_OK:
        return status
    op = _lay_norm(&v, &result, NULL, threads, True, &m)
    threads = _team(threads)
    _load(&v, op.x, CHANNELS_LAST, threads)
    if v.dtype == FASTCONV_FLOAT32:
        _find_moments[float](&v, &op, <float*> running_mean, <float*> running_var, momentum, eps,
                             mean, inverse, threads)
        _normalize[float](&v, &op, <const float*> weight, <const float*> bias, mean, inverse,
                          threads)
    else:
        _find_moments[double](&v, &op, <double*> running_mean, <double*> running_var, momentum,
                              eps, mean, inverse, threads)
        _normalize[double](&v, &op, <const double*> weight, <const double*> bias, mean, inverse,
                           threads)
    _store(&result, op.y, CHANNELS_LAST, threads)
    return FASTCONV_OK


cdef int _check_vectors(
    Py_ssize_t itemsize, const void* a, const void* b, const void* c, const void* d,
    const void* mean, const void* inverse,
) noexcept nogil:
    """Vectors that may be missing: four of the arrays' dtype, two of doubles."""
    cdef int status = _check_optional(a, itemsize)
    if status == FASTCONV_OK:
        status = _check_optional(b, itemsize)
    if status == FASTCONV_OK:
        status = _check_optional(c, itemsize)
    if status == FASTCONV_OK:
        status = _check_optional(d, itemsize)
    if status == FASTCONV_OK:
        status = _check_optional(mean, sizeof(double))
    return _check_optional(inverse, sizeof(double)) if status == FASTCONV_OK else status


cdef void _find_moments(
    const View* v, const Norm* op, floating* running_mean, floating* running_var, double momentum,
    double eps, double* mean, double* inverse, int threads,
) noexcept nogil:
    """The moments, and how running statistics follow them; `inverse` holds the variance first."""
    cdef const floating* x = <const floating*> op.x
    cdef floating* work = <floating*> op.work
    cdef Py_ssize_t channels = v.size[1], rows = _rows(v), b, c
    cdef double unbiased = <double> rows / (rows - 1)
    with parallel(num_threads=threads):
        for b in prange(op.blocks, schedule="guided"):
            block_moments(x + b * op.block * channels, min(op.block, rows - b * op.block),
                          channels, work + threadid() * op.row, op.sums + b * channels,
                          op.products + b * channels)
    joined_moments(op.sums, op.products, op.blocks, op.block, rows, channels, mean, inverse)
    for c in range(channels):
        if running_mean != NULL:
            running_mean[c] += <floating> (momentum * (mean[c] - running_mean[c]))
            running_var[c] += <floating> (momentum * (unbiased * inverse[c] - running_var[c]))
        inverse[c] = 1 / sqrt(inverse[c] + eps)


cdef void _normalize(
    const View* v, const Norm* op, const floating* weight, const floating* bias,
    const double* mean, const double* inverse, int threads,
) noexcept nogil:
    cdef const floating* x = <const floating*> op.x
    cdef floating* y = <floating*> op.y
    cdef Py_ssize_t channels = v.size[1], lanes = lanes_of(channels), size = _rows(v) * channels
    cdef Py_ssize_t i, at
    cdef floating* centre = <floating*> op.vectors
    cdef floating* scale = centre + lanes
    cdef floating* shift = scale + lanes
    found_factors(mean, inverse, weight, bias, channels, lanes, centre, scale, shift)
    for i in prange((size + lanes - 1) // lanes, schedule="guided", num_threads=threads):
        at = i * lanes
        normalize_row(x + at, centre, scale, shift, <const floating*> NULL, <floating> 1,
                      <floating> INFINITY, y + at, min(lanes, size - at))


cdef int64_t batch_norm_infer_workspace(
    const fastconv_array* x, const fastconv_array* y, int threads,
) noexcept nogil:
    cdef View v, result
    cdef Memory m = Memory(NULL, 0)
    cdef int status = _read_norm(x, y, False, threads, False, &v, &result)
    if status != FASTCONV_OK:
        return status
    _lay_infer(&v, &result, threads, &m, NULL)
    return _needed(&m)


cdef Norm _lay_infer(
    const View* v, const View* result, int threads, Memory* m, double** statistics,
) noexcept nogil:
    """With room for two vectors of statistics."""
    cdef double* found = <double*> _take(m, _times(2, v.size[1]), sizeof(double))
    if statistics != NULL:
        statistics[0] = found
    return _lay_norm(v, result, NULL, threads, False, m)


cdef int batch_norm_infer(
    const fastconv_array* x, const void* weight, const void* bias, const void* running_mean,
    const void* running_var, double eps, const fastconv_array* y, void* workspace, int64_t bytes,
    int threads,
) noexcept nogil:
    cdef View v, result
    cdef Norm op
    cdef double* statistics = NULL
    cdef Memory m = Memory(NULL, 0)
    cdef int status = _read_norm(x, y, False, threads, True, &v, &result)
    if status == FASTCONV_OK:
        status = _check_vectors(v.itemsize, weight, bias, running_mean, running_var, NULL, NULL)
    if status == FASTCONV_OK and (running_mean == NULL or running_var == NULL):
        status = FASTCONV_NULL_POINTER
    if status == FASTCONV_OK and not (eps >= 0 and isfinite(eps)):
        status = FASTCONV_BAD_OPTION
    if status != FASTCONV_OK:
        return status
    _lay_infer(&v, &result, threads, &m, NULL)
    status = _begin(&m, workspace, bytes)
    if status != FASTCONV_OK:
        return status
    op = _lay_infer(&v, &result, threads, &m, &statistics)
    threads = _team(threads)
    _load(&v, op.x, CHANNELS_LAST, threads)
    if v.dtype == FASTCONV_FLOAT32:
        _read_statistics[float](<const float*> running_mean, <const float*> running_var, eps,
                                v.size[1], statistics)
        _normalize[float](&v, &op, <const float*> weight, <const float*> bias, statistics,
                          statistics + v.size[1], threads)
    else:
        _read_statistics[double](<const double*> running_mean, <const double*> running_var, eps,
                                 v.size[1], statistics)
        _normalize[double](&v, &op, <const double*> weight, <const double*> bias, statistics,
                           statistics + v.size[1], threads)
    _store(&result, op.y, CHANNELS_LAST, threads)
    return FASTCONV_OK


cdef void _read_statistics(
    const floating* mean, const floating* var, double eps, Py_ssize_t channels,
    double* statistics,
) noexcept nogil:
    """Means, and then inverses of the roots of variances."""
    cdef Py_ssize_t c
    for c in range(channels):
        statistics[c] = mean[c]
        statistics[channels + c] = 1 / sqrt(var[c] + eps)


cdef int _read_norm_backward(
    const fastconv_array* x, const fastconv_array* dy, const fastconv_array* dx, int threads,
    bint runs, View* v, View* flow, View* result,
) noexcept nogil:
    """dx may be missing."""
    cdef int status = _check_threads(threads)
    if status == FASTCONV_OK:
        status = _read(x, 2, 5, runs, v)
    if status == FASTCONV_OK:
        status = _read(dy, 2, 5, runs, flow)
    if status == FASTCONV_OK:
        status = _check_floats(v)
    if status == FASTCONV_OK:
        status = _check_same(flow, v)
    if status == FASTCONV_OK and dx != NULL:
        status = _read_result(dx, 2, 5, runs, result)
        if status == FASTCONV_OK:
            status = _check_same(result, v)
    return FASTCONV_BAD_SIZE if status == FASTCONV_OK and _rows(v) < 2 else status


cdef int64_t batch_norm_backward_workspace(
    const fastconv_array* x, const fastconv_array* dy, const fastconv_array* dx, int threads,
) noexcept nogil:
    cdef View v, flow, result
    cdef Memory m = Memory(NULL, 0)
    cdef int status = _read_norm_backward(x, dy, dx, threads, False, &v, &flow, &result)
    if status != FASTCONV_OK:
        return status
    _lay_norm(&v, &result if dx != NULL else NULL, &flow, threads, True, &m)
    return _needed(&m)


cdef int batch_norm_backward(
    const fastconv_array* x, const fastconv_array* dy, const void* weight, const double* mean,
    const double* inverse, const fastconv_array* dx, void* dweight, void* dbias, void* workspace,
    int64_t bytes, int threads,
) noexcept nogil:
    cdef View v, flow, result
    cdef Norm op
    cdef Memory m = Memory(NULL, 0)
    cdef int status = _read_norm_backward(x, dy, dx, threads, True, &v, &flow, &result)
    if status == FASTCONV_OK:
        status = _check_vectors(v.itemsize, weight, dweight, dbias, NULL, mean, inverse)
    if status == FASTCONV_OK and (mean == NULL or inverse == NULL):
        status = FASTCONV_NULL_POINTER
    if status != FASTCONV_OK:
        return status
    _lay_norm(&v, &result if dx != NULL else NULL, &flow, threads, True, &m)
    status = _begin(&m, workspace, bytes)
    if status != FASTCONV_OK:
        return status
    op = _lay_norm(&v, &result if dx != NULL else NULL, &flow, threads, True, &m)
    threads = _team(threads)
    _load(&v, op.x, CHANNELS_LAST, threads)
    _load(&flow, op.dy, CHANNELS_LAST, threads)
    if v.dtype == FASTCONV_FLOAT32:
        _run_norm_backward[float](&v, &op, <const float*> weight, mean, inverse, <float*> dweight,
                                  <float*> dbias, dx != NULL, threads)
    else:
        _run_norm_backward[double](&v, &op, <const double*> weight, mean, inverse,
                                   <double*> dweight, <double*> dbias, dx != NULL, threads)
    if dx != NULL:
        _store(&result, op.y, CHANNELS_LAST, threads)
    return FASTCONV_OK


cdef void _run_norm_backward(
    const View* v, const Norm* op, const floating* weight, const double* mean,
    const double* inverse, floating* dweight, floating* dbias, bint by_input, int threads,
) noexcept nogil:
    cdef const floating* x = <const floating*> op.x
    cdef const floating* dy = <const floating*> op.dy
    cdef floating* dx = <floating*> op.y
    cdef floating* work = <floating*> op.work
    cdef Py_ssize_t channels = v.size[1], rows = _rows(v), b, c, i, at
    cdef Py_ssize_t lanes = lanes_of(channels), size = rows * channels
    cdef floating* centre = <floating*> op.vectors
    cdef floating* factor = centre + lanes
    cdef floating* tilt = factor + lanes
    cdef floating* offset = tilt + lanes
    cdef floating one = 1, top = INFINITY
    for c in range(lanes):
        centre[c] = <floating> mean[c % channels]
    with parallel(num_threads=threads):
        for b in prange(op.blocks, schedule="guided"):
            # without an activation, neither scale nor shift is read
            block_backward_sums(
                x + b * op.block * channels, dy + b * op.block * channels, centre, centre, centre,
                <const floating*> NULL, one, top, <floating*> NULL,
                min(op.block, rows - b * op.block), channels, lanes, work + threadid() * op.row,
                op.sums + b * channels, op.products + b * channels)
    found_gradient_factors(
        op.sums, op.products, op.blocks, mean, inverse, centre, weight, rows, channels, lanes,
        factor, tilt, offset, dweight, dbias)
    if by_input:
        for i in prange((size + lanes - 1) // lanes, schedule="guided", num_threads=threads):
            at = i * lanes
            backward_row(x + at, dy + at, centre, centre, centre, one, top, factor, tilt, offset,
                         dx + at, min(lanes, size - at))


# The table -------------------------------------------------------------------------------------

cdef const char* status_text(int status) noexcept nogil:
    if not -NAMES < status <= 0:
        return "not a status of fastconv"
    return _texts[-status]


cdef enum:
    NAMES = 13

cdef const char* _texts[NAMES]
_texts[:] = [
    "done",
    "a pointer that is needed is null",
    "dtypes must be known, those of arrays the same, and those of indices int32",
    "arrays must have the number of axes that the function takes, all the same",
    "sizes must be positive, those of the batch at least zero; statistics need two values",
    "sizes, strides or their products are too large to be addressed",
    "an option must be one of those that the header lists, a real number finite",
    "stride, dilation, padding, groups or kernel do not make a convolution or a pooling",
    "shapes do not fit together",
    "a result must have a place for each of its values, not a stride of zero",
    "memory must be aligned to its values",
    "threads must be from 1 to 4096",
    "the workspace is smaller than the function that tells its size has said",
]


cdef int describe(
    fastconv_array* array, void* data, int dtype, int ndim, const int64_t* shape, int order,
) noexcept nogil:
    cdef fastconv_array found
    cdef View v
    cdef Py_ssize_t axis, at
    cdef Py_ssize_t step[5]
    cdef int64_t run = 1
    cdef int status
    if array == NULL or shape == NULL:
        return FASTCONV_NULL_POINTER
    if order not in (FASTCONV_C_ORDER, FASTCONV_FORTRAN_ORDER, FASTCONV_CHANNELS_LAST):
        return FASTCONV_BAD_OPTION
    if not 2 <= ndim <= 5:  # before so many sizes are read
        return FASTCONV_BAD_NDIM
    memset(&found, 0, sizeof(found))
    found.data, found.dtype, found.ndim = data, dtype, ndim
    for axis in range(ndim):
        found.shape[axis] = shape[axis]
    status = _read(&found, 2, 5, False, &v)
    if status != FASTCONV_OK:
        return status
    _packed_steps(&v, CHANNELS_LAST if order == FASTCONV_CHANNELS_LAST else ROWS_LAST, step)
    for axis in range(ndim):
        at = axis if axis < SPATIAL else axis + 5 - ndim
        found.strides[axis] = step[at]
        if order == FASTCONV_FORTRAN_ORDER:
            found.strides[axis] = run
            run *= shape[axis]
    array[0] = found
    return FASTCONV_OK


cdef int check_version(int version) except -1:
    if version > FASTCONV_API_VERSION:
        raise ImportError(
            f"compiled for version {version} of fastconv's C functions, the installed fastconv "
            f"has version {FASTCONV_API_VERSION}")
    return 0


cdef extern from "fastconv.h":
    const char* FASTCONV_CAPSULE
    # Pointers to functions, whose types the header has.
    ctypedef struct fastconv_api:
        int32_t version
        int32_t bytes
        void* status_text
        void* describe
        void* output_size
        void* conv_forward
        void* conv_forward_workspace
        void* conv_backward_input
        void* conv_backward_input_workspace
        void* conv_backward_weight
        void* conv_backward_weight_workspace
        void* conv_backward_bias
        void* conv_backward_bias_workspace
        void* im2col
        void* im2col_workspace
        void* col2im
        void* col2im_workspace
        void* pool_forward
        void* pool_forward_workspace
        void* pool_backward
        void* pool_backward_workspace
        void* batch_norm_train
        void* batch_norm_train_workspace
        void* batch_norm_infer
        void* batch_norm_infer_workspace
        void* batch_norm_backward
        void* batch_norm_backward_workspace


cdef fastconv_api _api
_api.version, _api.bytes = FASTCONV_API_VERSION, sizeof(fastconv_api)
_api.status_text, _api.describe = <void*> status_text, <void*> describe
_api.output_size = <void*> output_size
_api.conv_forward = <void*> conv_forward
_api.conv_forward_workspace = <void*> conv_forward_workspace
_api.conv_backward_input = <void*> conv_backward_input
_api.conv_backward_input_workspace = <void*> conv_backward_input_workspace
_api.conv_backward_weight = <void*> conv_backward_weight
_api.conv_backward_weight_workspace = <void*> conv_backward_weight_workspace
_api.conv_backward_bias = <void*> conv_backward_bias
_api.conv_backward_bias_workspace = <void*> conv_backward_bias_workspace
_api.im2col, _api.im2col_workspace = <void*> im2col, <void*> im2col_workspace
_api.col2im, _api.col2im_workspace = <void*> col2im, <void*> col2im_workspace
_api.pool_forward, _api.pool_forward_workspace = (
    <void*> pool_forward, <void*> pool_forward_workspace)
_api.pool_backward, _api.pool_backward_workspace = (
    <void*> pool_backward, <void*> pool_backward_workspace)
_api.batch_norm_train = <void*> batch_norm_train
_api.batch_norm_train_workspace = <void*> batch_norm_train_workspace
_api.batch_norm_infer = <void*> batch_norm_infer
_api.batch_norm_infer_workspace = <void*> batch_norm_infer_workspace
_api.batch_norm_backward = <void*> batch_norm_backward
_api.batch_norm_backward_workspace = <void*> batch_norm_backward_workspace

_C_API = PyCapsule_New(&_api, FASTCONV_CAPSULE, NULL)
