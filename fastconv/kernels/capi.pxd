"""fastconv's kernels for Cython: what fastconv.h declares, to be called without the GIL.

An extension that cimports this is compiled with ``fastconv.get_include()`` among its include
directories. docs/embedding.md describes the functions; those named here stay as they are.
"""

from libc.stdint cimport int32_t, int64_t

cdef extern from "fastconv.h":
    enum:
        FASTCONV_API_VERSION
        FASTCONV_OK
        FASTCONV_NULL_POINTER
        FASTCONV_BAD_DTYPE
        FASTCONV_BAD_NDIM
        FASTCONV_BAD_SIZE
        FASTCONV_OVERFLOW
        FASTCONV_BAD_OPTION
        FASTCONV_BAD_GEOMETRY
        FASTCONV_SHAPE_MISMATCH
        FASTCONV_BAD_STRIDES
        FASTCONV_MISALIGNED
        FASTCONV_BAD_THREADS
        FASTCONV_WORKSPACE_TOO_SMALL
        FASTCONV_FLOAT32
        FASTCONV_FLOAT64
        FASTCONV_INT32
        FASTCONV_C_ORDER
        FASTCONV_FORTRAN_ORDER
        FASTCONV_CHANNELS_LAST
        FASTCONV_MAX
        FASTCONV_AVERAGE
        FASTCONV_LP

    ctypedef struct fastconv_array:
        void* data
        int32_t dtype
        int32_t ndim
        int64_t shape[5]
        int64_t strides[5]

    ctypedef struct fastconv_conv:
        int64_t stride[3]
        int64_t before[3]
        int64_t after[3]
        int64_t dilation[3]
        int64_t groups

    ctypedef struct fastconv_pool:
        int32_t kind
        int32_t count_include_pad
        double power
        int64_t kernel[3]
        int64_t stride[3]
        int64_t before[3]
        int64_t after[3]
        int64_t dilation[3]


cdef int check_version(int version) except -1

cdef inline int import_fastconv() except -1:
    """An ImportError if the installed fastconv is older: called once, where a module begins."""
    return check_version(FASTCONV_API_VERSION)


cdef const char* status_text(int status) noexcept nogil

cdef int describe(
    fastconv_array* array, void* data, int dtype, int ndim, const int64_t* shape, int order,
) noexcept nogil

cdef int64_t output_size(
    int64_t size, int64_t kernel, int64_t stride, int64_t before, int64_t after, int64_t dilation,
) noexcept nogil

cdef int conv_forward(
    const fastconv_conv* conv, const fastconv_array* x, const fastconv_array* w, const void* bias,
    const fastconv_array* y, void* workspace, int64_t bytes, int threads,
) noexcept nogil

cdef int64_t conv_forward_workspace(
    const fastconv_conv* conv, const fastconv_array* x, const fastconv_array* w,
    const fastconv_array* y, int threads,
) noexcept nogil

cdef int conv_backward_input(
    const fastconv_conv* conv, const fastconv_array* dy, const fastconv_array* w,
    const fastconv_array* dx, void* workspace, int64_t bytes, int threads,
) noexcept nogil

cdef int64_t conv_backward_input_workspace(
    const fastconv_conv* conv, const fastconv_array* dy, const fastconv_array* w,
    const fastconv_array* dx, int threads,
) noexcept nogil

cdef int conv_backward_weight(
    const fastconv_conv* conv, const fastconv_array* x, const fastconv_array* dy,
    const fastconv_array* dw, void* workspace, int64_t bytes, int threads,
) noexcept nogil

cdef int64_t conv_backward_weight_workspace(
    const fastconv_conv* conv, const fastconv_array* x, const fastconv_array* dy,
    const fastconv_array* dw, int threads,
) noexcept nogil

cdef int conv_backward_bias(
    const fastconv_array* dy, void* db, void* workspace, int64_t bytes, int threads,
) noexcept nogil

cdef int64_t conv_backward_bias_workspace(const fastconv_array* dy, int threads) noexcept nogil

cdef int im2col(
    const fastconv_conv* conv, const int64_t* kernel, const fastconv_array* x,
    const fastconv_array* cols, void* workspace, int64_t bytes, int threads,
) noexcept nogil

cdef int64_t im2col_workspace(
    const fastconv_conv* conv, const int64_t* kernel, const fastconv_array* x,
    const fastconv_array* cols, int threads,
) noexcept nogil

cdef int col2im(
    const fastconv_conv* conv, const int64_t* kernel, const fastconv_array* cols,
    const fastconv_array* x, void* workspace, int64_t bytes, int threads,
) noexcept nogil

cdef int64_t col2im_workspace(
    const fastconv_conv* conv, const int64_t* kernel, const fastconv_array* cols,
    const fastconv_array* x, int threads,
) noexcept nogil

cdef int pool_forward(
    const fastconv_pool* pool, const fastconv_array* x, const fastconv_array* y,
    const fastconv_array* index, void* workspace, int64_t bytes, int threads,
) noexcept nogil

cdef int64_t pool_forward_workspace(
    const fastconv_pool* pool, const fastconv_array* x, const fastconv_array* y,
    const fastconv_array* index, int threads,
) noexcept nogil

cdef int pool_backward(
    const fastconv_pool* pool, const fastconv_array* x, const fastconv_array* y,
    const fastconv_array* index, const fastconv_array* dy, const fastconv_array* dx,
    void* workspace, int64_t bytes, int threads,
) noexcept nogil

cdef int64_t pool_backward_workspace(
    const fastconv_pool* pool, const fastconv_array* x, const fastconv_array* y,
    const fastconv_array* index, const fastconv_array* dy, const fastconv_array* dx, int threads,
) noexcept nogil

cdef int batch_norm_train(
    const fastconv_array* x, const void* weight, const void* bias, void* running_mean,
    void* running_var, double momentum, double eps, const fastconv_array* y, double* mean,
    double* inverse, void* workspace, int64_t bytes, int threads,
) noexcept nogil

cdef int64_t batch_norm_train_workspace(
    const fastconv_array* x, const fastconv_array* y, int threads,
) noexcept nogil

cdef int batch_norm_infer(
    const fastconv_array* x, const void* weight, const void* bias, const void* running_mean,
    const void* running_var, double eps, const fastconv_array* y, void* workspace, int64_t bytes,
    int threads,
) noexcept nogil

cdef int64_t batch_norm_infer_workspace(
    const fastconv_array* x, const fastconv_array* y, int threads,
) noexcept nogil

cdef int batch_norm_backward(
    const fastconv_array* x, const fastconv_array* dy, const void* weight, const double* mean,
    const double* inverse, const fastconv_array* dx, void* dweight, void* dbias, void* workspace,
    int64_t bytes, int threads,
) noexcept nogil

cdef int64_t batch_norm_backward_workspace(
    const fastconv_array* x, const fastconv_array* dy, const fastconv_array* dx, int threads,
) noexcept nogil
