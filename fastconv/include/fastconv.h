/* fastconv's kernels for C, C++ and Cython: docs/embedding.md says how.
 *
 * All functions are reached through one table of pointers, the PyCapsule of this name, may be called
 * without the GIL and from several threads, take all memory from the caller, and return a status:
 * 0, or a negative number that says what was wrong, in which case nothing was written. Functions
 * named *_workspace, and output_size, return a size in bytes or pixels, or such a status.
 *
 * What is declared here never changes: later versions add functions at the table's end. */
#ifndef FASTCONV_H
#define FASTCONV_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FASTCONV_API_VERSION 1
#define FASTCONV_CAPSULE "fastconv.kernels.capi._C_API"

enum {
    FASTCONV_OK = 0,
    FASTCONV_NULL_POINTER = -1,
    FASTCONV_BAD_DTYPE = -2,
    FASTCONV_BAD_NDIM = -3,
    FASTCONV_BAD_SIZE = -4,
    FASTCONV_OVERFLOW = -5,
    FASTCONV_BAD_OPTION = -6,
    FASTCONV_BAD_GEOMETRY = -7,
    FASTCONV_SHAPE_MISMATCH = -8,
    FASTCONV_BAD_STRIDES = -9,
    FASTCONV_MISALIGNED = -10,
    FASTCONV_BAD_THREADS = -11,
    FASTCONV_WORKSPACE_TOO_SMALL = -12
};

enum { FASTCONV_FLOAT32 = 1, FASTCONV_FLOAT64 = 2, FASTCONV_INT32 = 3 };

/* Memory orders of describe, for a logical shape (N, C, [[D,] H,] W). */
enum {
    FASTCONV_C_ORDER = 0,       /* the last index runs fastest */
    FASTCONV_FORTRAN_ORDER = 1, /* the first index runs fastest */
    FASTCONV_CHANNELS_LAST = 2  /* C runs fastest, then W, H, D, N: read and written in place */
};

enum { FASTCONV_MAX = 0, FASTCONV_AVERAGE = 1, FASTCONV_LP = 2 };

/* An array of the logical shape (N, C, [[D,] H,] W), in any memory: strides count elements, and
 * may be negative. */
typedef struct {
    void *data;
    int32_t dtype;
    int32_t ndim;
    int64_t shape[5];
    int64_t strides[5];
} fastconv_array;

/* Of the three values, those of the array's spatial axes are read, the first ones. */
typedef struct {
    int64_t stride[3];
    int64_t before[3]; /* zeros around the input */
    int64_t after[3];
    int64_t dilation[3];
    int64_t groups;
} fastconv_conv;

typedef struct {
    int32_t kind;
    int32_t count_include_pad; /* whether an average divides by places of the padding too */
    double power;              /* of FASTCONV_LP */
    int64_t kernel[3];
    int64_t stride[3];
    int64_t before[3];
    int64_t after[3];
    int64_t dilation[3]; /* other than 1 for FASTCONV_MAX alone */
} fastconv_pool;

typedef struct {
    int32_t version; /* FASTCONV_API_VERSION of the library */
    int32_t bytes;   /* of its table */

    const char *(*status_text)(int status);
    int (*describe)(fastconv_array *array, void *data, int dtype, int ndim, const int64_t *shape,
                    int order);
    int64_t (*output_size)(int64_t size, int64_t kernel, int64_t stride, int64_t before,
                           int64_t after, int64_t dilation);

    /* y := x convolved with w, plus bias: C values of the arrays' dtype, or NULL. */
    int (*conv_forward)(const fastconv_conv *conv, const fastconv_array *x,
                        const fastconv_array *w, const void *bias, const fastconv_array *y,
                        void *workspace, int64_t bytes, int threads);
    int64_t (*conv_forward_workspace)(const fastconv_conv *conv, const fastconv_array *x,
                                      const fastconv_array *w, const fastconv_array *y,
                                      int threads);
    int (*conv_backward_input)(const fastconv_conv *conv, const fastconv_array *dy,
                               const fastconv_array *w, const fastconv_array *dx, void *workspace,
                               int64_t bytes, int threads);
    int64_t (*conv_backward_input_workspace)(const fastconv_conv *conv, const fastconv_array *dy,
                                             const fastconv_array *w, const fastconv_array *dx,
                                             int threads);
    int (*conv_backward_weight)(const fastconv_conv *conv, const fastconv_array *x,
                                const fastconv_array *dy, const fastconv_array *dw,
                                void *workspace, int64_t bytes, int threads);
    int64_t (*conv_backward_weight_workspace)(const fastconv_conv *conv, const fastconv_array *x,
                                              const fastconv_array *dy, const fastconv_array *dw,
                                              int threads);
    /* db[c] := the sum of dy over all but channels. */
    int (*conv_backward_bias)(const fastconv_array *dy, void *db, void *workspace, int64_t bytes,
                              int threads);
    int64_t (*conv_backward_bias_workspace)(const fastconv_array *dy, int threads);

    /* cols (N, C * taps, pixels): a channel's taps together, pixels in row-major order. */
    int (*im2col)(const fastconv_conv *conv, const int64_t *kernel, const fastconv_array *x,
                  const fastconv_array *cols, void *workspace, int64_t bytes, int threads);
    int64_t (*im2col_workspace)(const fastconv_conv *conv, const int64_t *kernel,
                                const fastconv_array *x, const fastconv_array *cols, int threads);
    int (*col2im)(const fastconv_conv *conv, const int64_t *kernel, const fastconv_array *cols,
                  const fastconv_array *x, void *workspace, int64_t bytes, int threads);
    int64_t (*col2im_workspace)(const fastconv_conv *conv, const int64_t *kernel,
                                const fastconv_array *cols, const fastconv_array *x, int threads);

    /* index: places of the maxima in D * H * W, of FASTCONV_INT32; NULL of other pools, and
     * where no backward pass follows. */
    int (*pool_forward)(const fastconv_pool *pool, const fastconv_array *x,
                        const fastconv_array *y, const fastconv_array *index, void *workspace,
                        int64_t bytes, int threads);
    int64_t (*pool_forward_workspace)(const fastconv_pool *pool, const fastconv_array *x,
                                      const fastconv_array *y, const fastconv_array *index,
                                      int threads);
    /* x and y, those of the forward pass, are read for FASTCONV_LP, index for FASTCONV_MAX; what
     * is not read may be NULL. */
    int (*pool_backward)(const fastconv_pool *pool, const fastconv_array *x,
                         const fastconv_array *y, const fastconv_array *index,
                         const fastconv_array *dy, const fastconv_array *dx, void *workspace,
                         int64_t bytes, int threads);
    int64_t (*pool_backward_workspace)(const fastconv_pool *pool, const fastconv_array *x,
                                       const fastconv_array *y, const fastconv_array *index,
                                       const fastconv_array *dy, const fastconv_array *dx,
                                       int threads);

    /* y := (x - mean) / sqrt(variance + eps) * weight + bias, by the batch's statistics, which
     * mean and inverse (of the root) keep for the backward pass. weight and bias may be NULL, and
     * the running statistics, both of them; these become running + momentum * (batch - running),
     * with the variance of N - 1. Vectors have C values, of the arrays' dtype where not double. */
    int (*batch_norm_train)(const fastconv_array *x, const void *weight, const void *bias,
                            void *running_mean, void *running_var, double momentum, double eps,
                            const fastconv_array *y, double *mean, double *inverse,
                            void *workspace, int64_t bytes, int threads);
    int64_t (*batch_norm_train_workspace)(const fastconv_array *x, const fastconv_array *y,
                                          int threads);
    /* The same by statistics that are given. */
    int (*batch_norm_infer)(const fastconv_array *x, const void *weight, const void *bias,
                            const void *running_mean, const void *running_var, double eps,
                            const fastconv_array *y, void *workspace, int64_t bytes, int threads);
    int64_t (*batch_norm_infer_workspace)(const fastconv_array *x, const fastconv_array *y,
                                          int threads);
    /* The gradients of batch_norm_train; any of them may be NULL. */
    int (*batch_norm_backward)(const fastconv_array *x, const fastconv_array *dy,
                               const void *weight, const double *mean, const double *inverse,
                               const fastconv_array *dx, void *dweight, void *dbias,
                               void *workspace, int64_t bytes, int threads);
    int64_t (*batch_norm_backward_workspace)(const fastconv_array *x, const fastconv_array *dy,
                                             const fastconv_array *dx, int threads);
} fastconv_api;

#ifdef Py_PYTHON_H
/* The table, or NULL and an ImportError if the installed fastconv is older than this header. */
static inline const fastconv_api *fastconv_import(void)
{
    PyObject *module = PyImport_ImportModule("fastconv.kernels.capi");
    const fastconv_api *api;
    if (module == NULL) return NULL;
    Py_DECREF(module);
    api = (const fastconv_api *)PyCapsule_Import(FASTCONV_CAPSULE, 0);
    if (api != NULL && api->version < FASTCONV_API_VERSION) {
        PyErr_Format(PyExc_ImportError,
                     "compiled for version %d of fastconv's C functions, the installed fastconv "
                     "has version %d", FASTCONV_API_VERSION, (int)api->version);
        return NULL;
    }
    return api;
}
#endif

#ifdef __cplusplus
}
#endif
#endif
