/* Register tile of a product that reads its left operand in place.
 *
 * A tile is TILE_PIXELS pixels by two vectors of output channels: twelve accumulators, two
 * loads of weights and six broadcasts a step fill the sixteen AVX registers. Vectors are the
 * GCC/Clang extension; the functions are compiled for AVX2 + FMA whatever the file's flags and
 * called only where the processor has both.
 */
#ifndef FASTCONV_DIRECT_H
#define FASTCONV_DIRECT_H

#include <stddef.h>
#include <string.h>

#define TILE_PIXELS 6
#define VECTOR_BYTES 32

#if defined(__GNUC__) && defined(__x86_64__)

#define DIRECT_TARGET __attribute__((target("avx2,fma")))

static int direct_supported(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

/* out[p][0:cols] = bias + sum over r, i of rows[r * stride + p][i] * w[r * run + i][0:cols]
 *
 * for the first `pixels` of six pixels; all six row pointers must be readable. `w` and `bias`
 * (or NULL) are padded to two vectors.
 */
#define DEFINE_DIRECT_TILE(NAME, T)                                                             \
    DIRECT_TARGET static void NAME(                                                             \
        const T *const *rows, ptrdiff_t runs, ptrdiff_t stride, ptrdiff_t run, const T *w,      \
        const T *bias, T *const *out, int pixels, int cols)                                     \
    {                                                                                           \
        enum { LANES = VECTOR_BYTES / sizeof(T) };                                              \
        typedef T V __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(T)), may_alias));  \
        V c[TILE_PIXELS][2] = {{{0}}};                                                          \
        for (ptrdiff_t r = 0; r < runs; r++, rows += stride) {                                  \
            const T *a0 = rows[0], *a1 = rows[1], *a2 = rows[2];                                \
            const T *a3 = rows[3], *a4 = rows[4], *a5 = rows[5];                                \
            for (ptrdiff_t i = 0; i < run; i++, w += 2 * LANES) {                               \
                V w0 = *(const V *)w, w1 = *(const V *)(w + LANES);                             \
                c[0][0] += a0[i] * w0; c[0][1] += a0[i] * w1;                                   \
                c[1][0] += a1[i] * w0; c[1][1] += a1[i] * w1;                                   \
                c[2][0] += a2[i] * w0; c[2][1] += a2[i] * w1;                                   \
                c[3][0] += a3[i] * w0; c[3][1] += a3[i] * w1;                                   \
                c[4][0] += a4[i] * w0; c[4][1] += a4[i] * w1;                                   \
                c[5][0] += a5[i] * w0; c[5][1] += a5[i] * w1;                                   \
            }                                                                                   \
        }                                                                                       \
        if (bias) {                                                                             \
            V b0 = *(const V *)bias, b1 = *(const V *)(bias + LANES);                           \
            for (int p = 0; p < TILE_PIXELS; p++) {                                             \
                c[p][0] += b0;                                                                  \
                c[p][1] += b1;                                                                  \
            }                                                                                   \
        }                                                                                       \
        if (cols == 2 * LANES) {                                                                \
            for (int p = 0; p < pixels; p++) {                                                  \
                *(V *)out[p] = c[p][0];                                                         \
                *(V *)(out[p] + LANES) = c[p][1];                                               \
            }                                                                                   \
        } else {                                                                                \
            for (int p = 0; p < pixels; p++) memcpy(out[p], c[p], cols * sizeof(T));            \
        }                                                                                       \
    }

/* dw[m * step + 0 .. two vectors) += sum over p of rows[p][m] * dy[p * two vectors + ...], for
 * m from `skip` to 5. The sum starts at zero, so that long reductions are sums of sums.
 */
#define DEFINE_DIRECT_WEIGHT(NAME, T)                                                           \
    DIRECT_TARGET static void NAME(                                                             \
        const T *const *rows, ptrdiff_t first, const T *dy, ptrdiff_t pixels, T *dw,            \
        ptrdiff_t step, ptrdiff_t skip)                                                         \
    {                                                                                           \
        enum { LANES = VECTOR_BYTES / sizeof(T) };                                              \
        typedef T V __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(T)), may_alias));  \
        V c[TILE_PIXELS][2] = {{{0}}};                                                          \
        for (ptrdiff_t p = 0; p < pixels; p++, dy += 2 * LANES) {                               \
            const T *a = rows[p] + first;                                                       \
            V y0 = *(const V *)dy, y1 = *(const V *)(dy + LANES);                               \
            c[0][0] += a[0] * y0; c[0][1] += a[0] * y1;                                         \
            c[1][0] += a[1] * y0; c[1][1] += a[1] * y1;                                         \
            c[2][0] += a[2] * y0; c[2][1] += a[2] * y1;                                         \
            c[3][0] += a[3] * y0; c[3][1] += a[3] * y1;                                         \
            c[4][0] += a[4] * y0; c[4][1] += a[4] * y1;                                         \
            c[5][0] += a[5] * y0; c[5][1] += a[5] * y1;                                         \
        }                                                                                       \
        for (ptrdiff_t m = skip; m < TILE_PIXELS; m++) {                                        \
            *(V *)(dw + m * step) += c[m][0];                                                   \
            *(V *)(dw + m * step + LANES) += c[m][1];                                           \
        }                                                                                       \
    }

#else

static int direct_supported(void) { return 0; }

/* Never called: see direct_supported. */
#define DEFINE_DIRECT_TILE(NAME, T)                                                             \
    static void NAME(                                                                           \
        const T *const *rows, ptrdiff_t runs, ptrdiff_t stride, ptrdiff_t run, const T *w,      \
        const T *bias, T *const *out, int pixels, int cols)                                     \
    {                                                                                           \
        (void)rows; (void)runs; (void)stride; (void)run; (void)w;                               \
        (void)bias; (void)out; (void)pixels; (void)cols;                                        \
    }
#define DEFINE_DIRECT_WEIGHT(NAME, T)                                                           \
    static void NAME(                                                                           \
        const T *const *rows, ptrdiff_t first, const T *dy, ptrdiff_t pixels, T *dw,            \
        ptrdiff_t step, ptrdiff_t skip)                                                         \
    {                                                                                           \
        (void)rows; (void)first; (void)dy; (void)pixels; (void)dw; (void)step; (void)skip;      \
    }

#endif

DEFINE_DIRECT_TILE(direct_tile_float, float)
DEFINE_DIRECT_TILE(direct_tile_double, double)
DEFINE_DIRECT_WEIGHT(direct_weight_float, float)
DEFINE_DIRECT_WEIGHT(direct_weight_double, double)

#endif
