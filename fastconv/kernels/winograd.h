/* Winograd's minimal filtering: transforms of tiles, vectorised across channels.
 *
 * F(m, r) gives m outputs of r taps from n = m + r - 1 products, one for each interpolation point:
 * 0, 1, -1 and infinity for n = 4, also 2 and -2 for n = 6 (A. Lavin, S. Gray, "Fast Algorithms
 * for Convolutional Neural Networks", CVPR 2016, section 4; the matrices as in appendix A, where
 * the last point's signs are both turned). y = A^T [(G g) * (B^T d)]: B depends on the points
 * alone, A and G are powers of the points, and n = 1 is no transform at all.
 */
#ifndef FASTCONV_WINOGRAD_H
#define FASTCONV_WINOGRAD_H

#include "direct.h"

typedef struct {
    int itemsize, tile_h, tile_w, side_h, side_w; /* outputs of a tile, inputs that it sees */
    void (*input)(const void *const *, ptrdiff_t, void *, ptrdiff_t);
    int (*output)(const void *, ptrdiff_t, const void *, void *const *, int);
    void (*weights)(const void *, const ptrdiff_t *, ptrdiff_t, int, void *, ptrdiff_t);
    void (*output_adjoint)(const void *const *, int, void *, ptrdiff_t);
    int (*weights_adjoint)(const void *, ptrdiff_t, int, int, void *, ptrdiff_t, ptrdiff_t);
} winograd_transforms;

#if DIRECT_SUPPORTED

#define STAGE 8
#define MOST_ROWS 16

/* B^T */
#define TRANSFORM_INPUT(n, d, o)                                                                \
    do {                                                                                        \
        if ((n) == 6) {                                                                         \
            V even = d[4] - 4 * d[2], odd = d[3] - 4 * d[1];                                    \
            V even2 = d[4] - d[2], odd2 = 2 * (d[3] - d[1]);                                    \
            o[0] = 4 * d[0] - 5 * d[2] + d[4];                                                  \
            o[1] = even + odd;                                                                  \
            o[2] = even - odd;                                                                  \
            o[3] = even2 + odd2;                                                                \
            o[4] = even2 - odd2;                                                                \
            o[5] = 4 * d[1] - 5 * d[3] + d[5];                                                  \
        } else if ((n) == 4) {                                                                  \
            o[0] = d[0] - d[2];                                                                 \
            o[1] = d[2] + d[1];                                                                 \
            o[2] = d[2] - d[1];                                                                 \
            o[3] = d[3] - d[1];                                                                 \
        } else {                                                                                \
            o[0] = d[0];                                                                        \
        }                                                                                       \
    } while (0)

/* A^T: the powers 0 to m - 1 of the points */
#define TRANSFORM_OUTPUT(m, r, s, o)                                                            \
    do {                                                                                        \
        if ((m) == 4) {                                                                         \
            V sum = s[1] + s[2], difference = s[1] - s[2];                                      \
            V sum2 = s[3] + s[4], difference2 = s[3] - s[4];                                    \
            o[0] = s[0] + sum + sum2;                                                           \
            o[1] = difference + 2 * difference2;                                                \
            o[2] = sum + 4 * sum2;                                                              \
            o[3] = difference + 8 * difference2 + s[5];                                         \
        } else if ((m) == 2 && (r) == 5) {                                                      \
            o[0] = s[0] + (s[1] + s[2]) + (s[3] + s[4]);                                        \
            o[1] = (s[1] - s[2]) + 2 * (s[3] - s[4]) + s[5];                                    \
        } else if ((m) == 2) {                                                                  \
            o[0] = s[0] + s[1] + s[2];                                                          \
            o[1] = s[1] - s[2] + s[3];                                                          \
        } else {                                                                                \
            o[0] = s[0];                                                                        \
        }                                                                                       \
    } while (0)

/* A */
#define ADJOINT_OUTPUT(m, r, y, o)                                                              \
    do {                                                                                        \
        if ((m) == 4) {                                                                         \
            V even = y[0] + y[2], odd = y[1] + y[3];                                            \
            V even2 = y[0] + 4 * y[2], odd2 = 2 * y[1] + 8 * y[3];                              \
            o[0] = y[0];                                                                        \
            o[1] = even + odd;                                                                  \
            o[2] = even - odd;                                                                  \
            o[3] = even2 + odd2;                                                                \
            o[4] = even2 - odd2;                                                                \
            o[5] = y[3];                                                                        \
        } else if ((m) == 2) {                                                                  \
            o[0] = y[0];                                                                        \
            o[1] = y[0] + y[1];                                                                 \
            o[2] = y[0] - y[1];                                                                 \
            if ((r) == 5) {                                                                     \
                o[3] = y[0] + 2 * y[1];                                                         \
                o[4] = y[0] - 2 * y[1];                                                         \
            }                                                                                   \
            o[(r) == 5 ? 5 : 3] = y[1];                                                         \
        } else {                                                                                \
            o[0] = y[0];                                                                        \
        }                                                                                       \
    } while (0)

/* G: the powers 0 to r - 1 of a point, over its distances from the other points */
#define TRANSFORM_WEIGHTS(m, r, g, o)                                                           \
    do {                                                                                        \
        const T sixth = (T)(1.0 / 6), twelfth = (T)(1.0 / 12), part = (T)(1.0 / 24);            \
        if ((r) == 5) {                                                                         \
            V even = -sixth * (g[0] + g[2] + g[4]), odd = sixth * (g[1] + g[3]);                \
            V even2 = part * g[0] + sixth * g[2] + 4 * sixth * g[4];                            \
            V odd2 = twelfth * g[1] + 2 * sixth * g[3];                                         \
            o[0] = (T)0.25 * g[0];                                                              \
            o[1] = even - odd;                                                                  \
            o[2] = even + odd;                                                                  \
            o[3] = even2 + odd2;                                                                \
            o[4] = even2 - odd2;                                                                \
            o[5] = g[4];                                                                        \
        } else if ((r) == 3 && (m) == 4) {                                                      \
            V even = -sixth * (g[0] + g[2]), odd = sixth * g[1];                                \
            V even2 = part * g[0] + sixth * g[2], odd2 = twelfth * g[1];                        \
            o[0] = (T)0.25 * g[0];                                                              \
            o[1] = even - odd;                                                                  \
            o[2] = even + odd;                                                                  \
            o[3] = even2 + odd2;                                                                \
            o[4] = even2 - odd2;                                                                \
            o[5] = g[2];                                                                        \
        } else if ((r) == 3) {                                                                  \
            V even = (T)0.5 * (g[0] + g[2]), odd = (T)0.5 * g[1];                               \
            o[0] = g[0];                                                                        \
            o[1] = even + odd;                                                                  \
            o[2] = even - odd;                                                                  \
            o[3] = g[2];                                                                        \
        } else {                                                                                \
            o[0] = g[0];                                                                        \
        }                                                                                       \
    } while (0)

/* G^T */
#define ADJOINT_WEIGHTS(m, r, s, o)                                                             \
    do {                                                                                        \
        const T sixth = (T)(1.0 / 6), twelfth = (T)(1.0 / 12), part = (T)(1.0 / 24);            \
        if ((m) + (r) == 7) {                                                                   \
            V sum = sixth * (s[1] + s[2]), difference = sixth * (s[2] - s[1]);                  \
            V sum2 = s[3] + s[4], difference2 = s[3] - s[4];                                    \
            o[0] = (T)0.25 * s[0] - sum + part * sum2;                                          \
            o[1] = difference + twelfth * difference2;                                          \
            o[2] = sixth * sum2 - sum;                                                          \
            if ((r) == 5) {                                                                     \
                o[3] = difference + 2 * sixth * difference2;                                    \
                o[4] = 4 * sixth * sum2 - sum;                                                  \
            }                                                                                   \
            o[(r) - 1] += s[5];                                                                 \
        } else if ((r) == 3) {                                                                  \
            V sum = (T)0.5 * (s[1] + s[2]);                                                     \
            o[0] = s[0] + sum;                                                                  \
            o[1] = (T)0.5 * (s[1] - s[2]);                                                      \
            o[2] = sum + s[3];                                                                  \
        } else {                                                                                \
            o[0] = s[0];                                                                        \
        }                                                                                       \
    } while (0)

#define T float
#define NAME(x) x##_float_4x4_3x3
#define M_H 4
#define R_H 3
#define M_W 4
#define R_W 3
#include "winograd_template.h"
#define NAME(x) x##_float_2x2_3x3
#define M_H 2
#define R_H 3
#define M_W 2
#define R_W 3
#include "winograd_template.h"
#define NAME(x) x##_float_2x2_5x5
#define M_H 2
#define R_H 5
#define M_W 2
#define R_W 5
#include "winograd_template.h"
#define NAME(x) x##_float_1x4_1x3
#define M_H 1
#define R_H 1
#define M_W 4
#define R_W 3
#include "winograd_template.h"
#undef T

#define T double
#define NAME(x) x##_double_4x4_3x3
#define M_H 4
#define R_H 3
#define M_W 4
#define R_W 3
#include "winograd_template.h"
#define NAME(x) x##_double_2x2_3x3
#define M_H 2
#define R_H 3
#define M_W 2
#define R_W 3
#include "winograd_template.h"
#define NAME(x) x##_double_2x2_5x5
#define M_H 2
#define R_H 5
#define M_W 2
#define R_W 5
#include "winograd_template.h"
#define NAME(x) x##_double_1x4_1x3
#define M_H 1
#define R_H 1
#define M_W 4
#define R_W 3
#include "winograd_template.h"
#undef T

static const winograd_transforms *winograd_find(
    int itemsize, int tile_h, int taps_h, int tile_w, int taps_w)
{
    static const winograd_transforms *const all[] = {
        &transforms_float_4x4_3x3,
        &transforms_float_2x2_3x3,
        &transforms_float_2x2_5x5,
        &transforms_float_1x4_1x3,
        &transforms_double_4x4_3x3,
        &transforms_double_2x2_3x3,
        &transforms_double_2x2_5x5,
        &transforms_double_1x4_1x3,
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        const winograd_transforms *t = all[i];
        if (t->itemsize == itemsize && t->tile_h == tile_h && t->side_h == tile_h + taps_h - 1
            && t->tile_w == tile_w && t->side_w == tile_w + taps_w - 1) return t;
    }
    return NULL;
}

#else

static const winograd_transforms *winograd_find(
    int itemsize, int tile_h, int taps_h, int tile_w, int taps_w)
{
    (void)itemsize; (void)tile_h; (void)taps_h; (void)tile_w; (void)taps_w;
    return NULL;
}

#endif
#endif
