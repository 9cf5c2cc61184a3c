/* Register tile of a product that reads its left operand in place.
 *
 * A tile is TILE_PIXELS pixels by two vectors of output channels: twelve accumulators, two
 * loads of weights and broadcasts a step fill sixteen vector registers. Vectors are the GCC and
 * Clang extension, as long as the instruction set that the file is compiled for has them.
 */
#ifndef FASTCONV_DIRECT_H
#define FASTCONV_DIRECT_H

#include <stddef.h>
#include <string.h>

#define TILE_PIXELS 6
#define TILE_ROWS 4
#ifdef __AVX__
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16
#endif

#if defined(__GNUC__)

#define DIRECT_SUPPORTED 1

/* out[p][0:cols] = bias + sum over r, i of rows[r * stride + p][i] * w[r * run + i][0:cols]
 *
 * for the first `pixels` of six pixels; all six row pointers must be readable. `w` and `bias`
 * (or NULL) are padded to two vectors.
 */
#define DEFINE_DIRECT_TILE(NAME, T)                                                             \
    static inline void NAME(                                                                    \
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

/* out[p][0 .. two vectors) = sum over r, i of rows[r][p * step + i] * w[r * run + i][...] for
 * `tiles` times six p: the tile above where pixels lie evenly. */
#define DEFINE_DIRECT_PRODUCT(NAME, T)                                                          \
    static inline void NAME(                                                                    \
        const T *const *rows, ptrdiff_t runs, ptrdiff_t step, ptrdiff_t run, const T *w,        \
        T *out, ptrdiff_t tiles)                                                                \
    {                                                                                           \
        enum { LANES = VECTOR_BYTES / sizeof(T) };                                              \
        typedef T V __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(T)), may_alias));  \
        for (ptrdiff_t tile = 0; tile < tiles; tile++, out += TILE_PIXELS * 2 * LANES) {        \
            V c[TILE_PIXELS][2] = {{{0}}};                                                      \
            const T *b = w;                                                                     \
            for (ptrdiff_t r = 0; r < runs; r++) {                                              \
                const T *a0 = rows[r] + tile * TILE_PIXELS * step, *a3 = a0 + 3 * step;         \
                for (ptrdiff_t i = 0; i < run; i++, b += 2 * LANES, a0++, a3++) {               \
                    V w0 = *(const V *)b, w1 = *(const V *)(b + LANES);                         \
                    c[0][0] += a0[0] * w0; c[0][1] += a0[0] * w1;                               \
                    c[1][0] += a0[step] * w0; c[1][1] += a0[step] * w1;                         \
                    c[2][0] += a0[2 * step] * w0; c[2][1] += a0[2 * step] * w1;                 \
                    c[3][0] += a3[0] * w0; c[3][1] += a3[0] * w1;                               \
                    c[4][0] += a3[step] * w0; c[4][1] += a3[step] * w1;                         \
                    c[5][0] += a3[2 * step] * w0; c[5][1] += a3[2 * step] * w1;                 \
                }                                                                               \
            }                                                                                   \
            for (int p = 0; p < TILE_PIXELS; p++) {                                             \
                *(V *)(out + p * 2 * LANES) = c[p][0];                                          \
                *(V *)(out + p * 2 * LANES + LANES) = c[p][1];                                  \
            }                                                                                   \
        }                                                                                       \
    }

/* out[m][0 .. two vectors) = sum over p of a[p * step + m] * b[p][0 .. two vectors), for four m;
 * or += if `add`. The sum starts at zero, so that long reductions are sums of sums. */
#define DEFINE_DIRECT_OUTER(NAME, T)                                                            \
    static inline void NAME(                                                                    \
        const T *a, ptrdiff_t step, const T *b, ptrdiff_t pixels, T *out, int add)              \
    {                                                                                           \
        enum { LANES = VECTOR_BYTES / sizeof(T) };                                              \
        typedef T V __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(T)), may_alias));  \
        V c[TILE_ROWS][2] = {{{0}}};                                                            \
        for (ptrdiff_t p = 0; p < pixels; p++, a += step, b += 2 * LANES) {                     \
            V b0 = *(const V *)b, b1 = *(const V *)(b + LANES);                                 \
            c[0][0] += a[0] * b0; c[0][1] += a[0] * b1;                                         \
            c[1][0] += a[1] * b0; c[1][1] += a[1] * b1;                                         \
            c[2][0] += a[2] * b0; c[2][1] += a[2] * b1;                                         \
            c[3][0] += a[3] * b0; c[3][1] += a[3] * b1;                                         \
        }                                                                                       \
        for (int m = 0; m < TILE_ROWS; m++, out += 2 * LANES) {                                 \
            if (add) {                                                                          \
                c[m][0] += *(V *)out;                                                           \
                c[m][1] += *(V *)(out + LANES);                                                 \
            }                                                                                   \
            *(V *)out = c[m][0];                                                                \
            *(V *)(out + LANES) = c[m][1];                                                      \
        }                                                                                       \
    }

/* dw[m * step + 0 .. two vectors) += sum over p of rows[p][m] * dy[p * two vectors + ...], for
 * m from `skip` to 5. The sum starts at zero, so that long reductions are sums of sums.
 */
#define DEFINE_DIRECT_WEIGHT(NAME, T)                                                           \
    static inline void NAME(                                                                    \
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

#define DIRECT_SUPPORTED 0

/* Never called: see DIRECT_SUPPORTED. */
#define DEFINE_DIRECT_TILE(NAME, T)                                                             \
    static inline void NAME(                                                                    \
        const T *const *rows, ptrdiff_t runs, ptrdiff_t stride, ptrdiff_t run, const T *w,      \
        const T *bias, T *const *out, int pixels, int cols)                                     \
    {                                                                                           \
        (void)rows; (void)runs; (void)stride; (void)run; (void)w;                               \
        (void)bias; (void)out; (void)pixels; (void)cols;                                        \
    }
#define DEFINE_DIRECT_PRODUCT(NAME, T)                                                          \
    static inline void NAME(                                                                    \
        const T *const *rows, ptrdiff_t runs, ptrdiff_t step, ptrdiff_t run, const T *w,        \
        T *out, ptrdiff_t tiles)                                                                \
    { (void)rows; (void)runs; (void)step; (void)run; (void)w; (void)out; (void)tiles; }
#define DEFINE_DIRECT_OUTER(NAME, T)                                                            \
    static inline void NAME(                                                                    \
        const T *a, ptrdiff_t step, const T *b, ptrdiff_t pixels, T *out, int add)              \
    { (void)a; (void)step; (void)b; (void)pixels; (void)out; (void)add; }
#define DEFINE_DIRECT_WEIGHT(NAME, T)                                                           \
    static inline void NAME(                                                                    \
        const T *const *rows, ptrdiff_t first, const T *dy, ptrdiff_t pixels, T *dw,            \
        ptrdiff_t step, ptrdiff_t skip)                                                         \
    {                                                                                           \
        (void)rows; (void)first; (void)dy; (void)pixels; (void)dw; (void)step; (void)skip;      \
    }

#endif

DEFINE_DIRECT_TILE(direct_tile_float, float)
DEFINE_DIRECT_TILE(direct_tile_double, double)
DEFINE_DIRECT_PRODUCT(direct_product_float, float)
DEFINE_DIRECT_PRODUCT(direct_product_double, double)
DEFINE_DIRECT_OUTER(direct_outer_float, float)
DEFINE_DIRECT_OUTER(direct_outer_double, double)
DEFINE_DIRECT_WEIGHT(direct_weight_float, float)
DEFINE_DIRECT_WEIGHT(direct_weight_double, double)

#endif
