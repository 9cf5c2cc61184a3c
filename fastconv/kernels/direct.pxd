from cython cimport floating

from fastconv.kernels.epilogue cimport Epilogue
from fastconv.kernels.im2col cimport Frame
from fastconv.kernels.layout cimport Strided

cdef extern from "direct.h" nogil:
    enum:
        TILE_PIXELS
        WIDE_PIXELS
        NARROW_PIXELS
        MOST_PIXELS
        MOST_VECTORS
        MOST_DOTS
        PIXEL_VECTORS
        VECTOR_BYTES
    const bint DIRECT_SUPPORTED
    Py_ssize_t DOTS_PIXELS(Py_ssize_t outputs)
    Py_ssize_t TILE_ROWS(Py_ssize_t vectors)
    Py_ssize_t LINE_ROWS(Py_ssize_t vectors)
    ctypedef struct direct_kernels:
        void (*tile[4])(
            const void** rows, Py_ssize_t runs, Py_ssize_t stride, Py_ssize_t run, const void* w,
            const void* bias, void** out, int pixels, Py_ssize_t cols, const Epilogue* epilogue,
            Py_ssize_t ahead) nogil
        void (*pixel[4])(
            const void** rows, Py_ssize_t runs, Py_ssize_t stride, Py_ssize_t run, const void* w,
            const void* bias, void* out, Py_ssize_t cols, const Epilogue* epilogue) nogil
        void (*line[4])(
            const void* a, Py_ssize_t step, const Py_ssize_t* offsets, Py_ssize_t runs,
            Py_ssize_t run, const void* w, const void* bias, void* out, Py_ssize_t out_step,
            Py_ssize_t count, Py_ssize_t cols, const Epilogue* epilogue) nogil
        void (*dots[4])(
            const void** rows, Py_ssize_t runs, Py_ssize_t stride, Py_ssize_t run, const void* w,
            const void* bias, void** out, int pixels, const Epilogue* epilogue) nogil
        void (*product[4])(
            const void** rows, Py_ssize_t runs, Py_ssize_t step, Py_ssize_t run, const void* w,
            const void* ahead, void* out, Py_ssize_t tiles) nogil
        void (*outer[4])(
            const void* a, Py_ssize_t step, const void* b, Py_ssize_t pixels, void* out,
            int rows, int add) nogil
        void (*weight[4])(
            const void* a, const void* b, Py_ssize_t pixels, void* out, int rows) nogil
        void (*weight_in_place[4])(
            const void** a, Py_ssize_t first, const void* b, Py_ssize_t pixels, void* out,
            int rows) nogil
        void (*weight_lines[4][13])(
            const void* a, Py_ssize_t step, Py_ssize_t a_line, const void* b, Py_ssize_t b_step,
            Py_ssize_t b_line, Py_ssize_t lines, Py_ssize_t pixels, void* out) nogil
        void (*pack_rows)(
            const void** rows, Py_ssize_t pixels, Py_ssize_t run, void* packed) nogil
        void (*pack_panels[4])(
            const void* rows, Py_ssize_t step, Py_ssize_t pixels, Py_ssize_t cols,
            void* packed) nogil
        void (*finish_panel[4])(
            const void* sums, Py_ssize_t parts, Py_ssize_t part, Py_ssize_t depth, int used,
            void* to, Py_ssize_t step) nogil
    const direct_kernels* direct_find(size_t itemsize)


cdef struct Tiling:
    # The shape of a correlation on packed weights (groups, panels, depth, width), and its tasks.
    Py_ssize_t images
    Py_ssize_t groups
    Py_ssize_t outputs             # of a group
    Py_ssize_t panels
    Py_ssize_t depth               # taps * channels of a group
    Py_ssize_t width
    Py_ssize_t strip               # pixels of a task
    Py_ssize_t block               # panels of a task
    bint panels_inside             # loop over panels inside that over pixels


cdef Py_ssize_t tile_width(
    Py_ssize_t itemsize, Py_ssize_t outputs, Py_ssize_t most) noexcept nogil

cdef Py_ssize_t vectors_of(Py_ssize_t width, Py_ssize_t itemsize) noexcept nogil

cdef Py_ssize_t tile_pixels(Py_ssize_t width, Py_ssize_t itemsize) noexcept nogil

cdef Py_ssize_t weight_work(Py_ssize_t depth, Py_ssize_t across, Py_ssize_t strip) noexcept nogil

cdef void pack_tiles(
    const floating* w, const Strided* view, Py_ssize_t width, floating* packed, int n_threads,
) noexcept nogil

cdef void correlate_tiles(
    const floating* x, const floating* w, const floating* bias, floating* y,
    const Epilogue* epilogue, const Frame* f, const Tiling* t, floating* work,
    Py_ssize_t work_row, void** pointers, Py_ssize_t pointers_row, int n_threads,
) noexcept nogil

cdef void correlate_few(
    const floating* x, const floating* w, const floating* bias, floating* y,
    const Epilogue* epilogue, const Frame* f, const Tiling* t, floating* work,
    Py_ssize_t work_row, void** pointers, Py_ssize_t pointers_row, int n_threads,
) noexcept nogil

cdef void add_weights(
    const floating* x, const floating* dy, floating* dw, const Frame* f, const Tiling* t,
    Py_ssize_t parts, Py_ssize_t span, floating* sums, floating* work, Py_ssize_t work_row,
    const floating** pointers, Py_ssize_t pointers_row, int n_threads,
) noexcept nogil

cdef void point_places(
    floating* y, const Frame* f, Py_ssize_t across, Py_ssize_t p0, Py_ssize_t p1, floating** places,
) noexcept nogil

cdef void point_rows(
    const floating* x, const Frame* f, Py_ssize_t channels, Py_ssize_t width, bint whole_rows,
    Py_ssize_t p0, Py_ssize_t p1, Py_ssize_t stride, floating* work, const floating** rows,
) noexcept nogil
