/* Winograd's minimal filtering: transforms of tiles, vectorised across channels.
 *
 * F(m, r) gives m outputs of r taps from n = m + r - 1 products, one for each interpolation point:
 * 0, 1 and infinity for n = 3, also -1 for n = 4, 2 for n = 5, -1/2 for n = 6, and -2 and 1/2 for
 * n = 8 (A. Lavin, S. Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, section
 * 4; the matrices as in appendix A, where the last point's signs are both turned). With -1/2 in
 * place of -2 errors are a third (B. Barabasz et al., "Error Analysis and Improving the Accuracy of
 * Winograd Convolution for Deep Neural Networks", ACM TOMS 46, 2020).
 * y = A^T [(G g) * (B^T d)]: B depends on the points alone, A and G are powers of the points, and
 * r = 1 is no transform at all.
 *
 * With step 2, the inputs at even places meet the taps at even places, the odd ones the odd: for
 * three taps the sum of F(m, 2) and F(m, 1), whose m products all have one weight. So an axis has
 * N products of U distinct weights, of which the last counts for all products from there on.
 */
#ifndef FASTCONV_WINOGRAD_H
#define FASTCONV_WINOGRAD_H

#include "direct.h"

/* Where a tile's inputs or outputs are: (i, j) at the address base + offset[i * width + j]; an
 * output beyond the edge has the offset NOWHERE. */
typedef struct {
    ptrdiff_t base;
    ptrdiff_t *offset;
    int edge; /* whether the tile stands over it */
} winograd_places;

#define NOWHERE (-1)

typedef struct {
    int tile_h, tile_w, taps_h, taps_w, step_h, step_w;
    int side_h, side_w, distinct_h, distinct_w; /* products, as many as inputs; weights of them */
    /* these take the places of a tile, and those of the next */
    void (*input)(
        const winograd_places *, const winograd_places *, ptrdiff_t, void *, ptrdiff_t);
    int (*output)(
        const void *, ptrdiff_t, const void *, const winograd_places *, const winograd_places *,
        int, const Epilogue *);
    void (*output_adjoint)(
        const winograd_places *, const winograd_places *, int, int, void *, ptrdiff_t);
    void (*weights)(const void *, const ptrdiff_t *, ptrdiff_t, int, int, void *, ptrdiff_t);
    int (*weights_adjoint)(const void *, ptrdiff_t, int, int, int, void *, ptrdiff_t, ptrdiff_t);
} winograd_transforms;

#define STAGE 8      /* channels whose weights are fetched together */
#define MOST_ROWS 16 /* channels whose gradients are finished together: a cache line of floats */

#if DIRECT_SUPPORTED

#define BODY static inline __attribute__((always_inline))
#define PLACE(at, i, j, width) ((T *)((at).base + (at).offset[(i) * (width) + (j)]))

/* B^T */
#define TRANSFORM_INPUT(m, r, s, d, o)                                                          \
    do {                                                                                        \
        if ((s) == 2) {                                                                         \
            V at_even[(m) + 1];                                                                 \
            for (int p = 0; p <= (m); p++) at_even[p] = d[2 * p];                               \
            POINTS_INPUT((m) + 1, at_even, o);                                                  \
            for (int p = 0; p < (m); p++) o[(m) + 1 + p] = d[2 * p + 1];                        \
        } else if ((r) == 1) {                                                                  \
            for (int p = 0; p < (m); p++) o[p] = d[p];                                          \
        } else {                                                                                \
            POINTS_INPUT((m) + (r) - 1, d, o);                                                  \
        }                                                                                       \
    } while (0)

#define POINTS_INPUT(n, d, o)                                                                   \
    do {                                                                                        \
        if ((n) == 8) {                                                                         \
            const T half = (T)0.5;                                                              \
            V even = d[2] - (T)4.25 * d[4] + d[6], odd = d[1] - (T)4.25 * d[3] + d[5];          \
            V even2 = (T)0.25 * d[2] - (T)1.25 * d[4] + d[6];                                   \
            V odd2 = half * d[1] - (T)2.5 * d[3] + 2 * d[5];                                    \
            V even3 = 4 * d[2] - 5 * d[4] + d[6], odd3 = 2 * d[1] - (T)2.5 * d[3] + half * d[5];\
            o[0] = d[0] - d[6] + (T)5.25 * (d[4] - d[2]);                                       \
            o[1] = even + odd;                                                                  \
            o[2] = even - odd;                                                                  \
            o[3] = even2 + odd2;                                                                \
            o[4] = even2 - odd2;                                                                \
            o[5] = even3 + odd3;                                                                \
            o[6] = even3 - odd3;                                                                \
            o[7] = d[7] - d[1] + (T)5.25 * (d[3] - d[5]);                                       \
        } else if ((n) == 6) {                                                                  \
            const T half = (T)0.5, most = (T)1.5, five = (T)2.5;                                \
            V even = d[4] - d[2], odd = d[3] - d[1];                                            \
            o[0] = d[0] + d[4] - 2 * d[2] - most * odd;                                         \
            o[1] = d[4] - d[1] - five * d[2] - half * d[3];                                     \
            o[2] = d[4] + d[1] + half * d[2] - five * d[3];                                     \
            o[3] = even + half * odd;                                                           \
            o[4] = even - 2 * odd;                                                              \
            o[5] = d[1] + d[5] - 2 * d[3] - most * even;                                        \
        } else if ((n) == 5) {                                                                  \
            V odd = d[3] - d[1];                                                                \
            o[0] = 2 * (d[0] - d[2]) + odd;                                                     \
            o[1] = d[3] - 2 * d[1] - d[2];                                                      \
            o[2] = d[3] + 2 * d[1] - 3 * d[2];                                                  \
            o[3] = odd;                                                                         \
            o[4] = d[4] - d[2] - 2 * odd;                                                       \
        } else if ((n) == 4) {                                                                  \
            o[0] = d[0] - d[2];                                                                 \
            o[1] = d[2] + d[1];                                                                 \
            o[2] = d[2] - d[1];                                                                 \
            o[3] = d[3] - d[1];                                                                 \
        } else {                                                                                \
            o[0] = d[0] - d[1];                                                                 \
            o[1] = d[1];                                                                        \
            o[2] = d[2] - d[1];                                                                 \
        }                                                                                       \
    } while (0)

/* A^T: the powers 0 to m - 1 of the points */
#define TRANSFORM_OUTPUT(m, r, s, v, o)                                                         \
    do {                                                                                        \
        if ((s) == 2) {                                                                         \
            POINTS_OUTPUT(m, 2, v, o);                                                          \
            for (int p = 0; p < (m); p++) o[p] += v[(m) + 1 + p];                               \
        } else if ((r) == 1) {                                                                  \
            for (int p = 0; p < (m); p++) o[p] = v[p];                                          \
        } else {                                                                                \
            POINTS_OUTPUT(m, r, v, o);                                                          \
        }                                                                                       \
    } while (0)

#define POINTS_OUTPUT(m, r, v, o)                                                               \
    do {                                                                                        \
        if ((m) + (r) == 9) {                                                                   \
            V sum = v[1] + v[2], difference = v[1] - v[2];                                      \
            V sum2 = v[3] + v[4], difference2 = v[3] - v[4];                                    \
            V sum3 = v[5] + v[6], difference3 = v[5] - v[6];                                    \
            o[0] = v[0] + sum + sum2 + sum3;                                                    \
            o[1] = difference + 2 * difference2 + (T)0.5 * difference3;                         \
            o[2] = sum + 4 * sum2 + (T)0.25 * sum3;                                             \
            o[3] = difference + 8 * difference2 + (T)0.125 * difference3;                       \
            if ((m) == 6) {                                                                     \
                o[4] = sum + 16 * sum2 + (T)0.0625 * sum3;                                      \
                o[5] = difference + 32 * difference2 + (T)0.03125 * difference3;                \
            }                                                                                   \
            o[(m) - 1] += v[7];                                                                 \
        } else if ((m) + (r) == 7) {                                                            \
            V sum = v[1] + v[2], difference = v[1] - v[2];                                      \
            o[0] = v[0] + sum + v[3] + v[4];                                                    \
            o[1] = difference + 2 * v[3] - (T)0.5 * v[4];                                       \
            if ((m) > 2) o[2] = sum + 4 * v[3] + (T)0.25 * v[4];                                \
            if ((m) > 3) o[3] = difference + 8 * v[3] - (T)0.125 * v[4];                        \
            o[(m) - 1] += v[5];                                                                 \
        } else if ((m) == 4) {                                                                  \
            V sum = v[1] + v[2], difference = v[1] - v[2];                                      \
            o[0] = v[0] + sum + v[3];                                                           \
            o[1] = difference + 2 * v[3];                                                       \
            o[2] = sum + 4 * v[3];                                                              \
            o[3] = difference + 8 * v[3] + v[4];                                                \
        } else if ((r) == 3) {                                                                  \
            o[0] = v[0] + v[1] + v[2];                                                          \
            o[1] = v[1] - v[2] + v[3];                                                          \
        } else {                                                                                \
            o[0] = v[0] + v[1];                                                                 \
            o[1] = v[1] + v[2];                                                                 \
        }                                                                                       \
    } while (0)

/* A */
#define ADJOINT_OUTPUT(m, r, s, y, o)                                                           \
    do {                                                                                        \
        if ((s) == 2) {                                                                         \
            POINTS_OUTPUT_ADJOINT(m, 2, y, o);                                                  \
            for (int p = 0; p < (m); p++) o[(m) + 1 + p] = y[p];                                \
        } else if ((r) == 1) {                                                                  \
            for (int p = 0; p < (m); p++) o[p] = y[p];                                          \
        } else {                                                                                \
            POINTS_OUTPUT_ADJOINT(m, r, y, o);                                                  \
        }                                                                                       \
    } while (0)

#define POINTS_OUTPUT_ADJOINT(m, r, y, o)                                                       \
    do {                                                                                        \
        o[0] = y[0];                                                                            \
        if ((m) == 6) {                                                                         \
            const T half = (T)0.5, eighth = (T)0.125;                                           \
            V even = y[0] + y[2] + y[4], odd = y[1] + y[3] + y[5];                              \
            V even2 = y[0] + 4 * y[2] + 16 * y[4], odd2 = 2 * y[1] + 8 * y[3] + 32 * y[5];      \
            V even3 = y[0] + half * half * y[2] + half * eighth * y[4];                         \
            V odd3 = half * y[1] + eighth * y[3] + half * half * eighth * y[5];                 \
            o[1] = even + odd;                                                                  \
            o[2] = even - odd;                                                                  \
            o[3] = even2 + odd2;                                                                \
            o[4] = even2 - odd2;                                                                \
            o[5] = even3 + odd3;                                                                \
            o[6] = even3 - odd3;                                                                \
        } else if ((m) + (r) == 7) {                                                            \
            V even = y[0], odd = y[1], two = y[0] + 2 * y[1], half = y[0] - (T)0.5 * y[1];      \
            if ((m) > 2) {                                                                      \
                even += y[2];                                                                   \
                two += 4 * y[2];                                                                \
                half += (T)0.25 * y[2];                                                         \
            }                                                                                   \
            if ((m) > 3) {                                                                      \
                odd += y[3];                                                                    \
                two += 8 * y[3];                                                                \
                half -= (T)0.125 * y[3];                                                        \
            }                                                                                   \
            o[1] = even + odd;                                                                  \
            o[2] = even - odd;                                                                  \
            o[3] = two;                                                                         \
            o[4] = half;                                                                        \
        } else if ((m) == 4) {                                                                  \
            V even = y[0] + y[2], odd = y[1] + y[3];                                            \
            V even2 = y[0] + 4 * y[2], odd2 = 2 * y[1] + 8 * y[3];                              \
            o[1] = even + odd;                                                                  \
            o[2] = even - odd;                                                                  \
            o[3] = even2 + odd2;                                                                \
            if ((r) == 5) {                                                                     \
                V even3 = y[0] + (T)0.25 * y[2], odd3 = (T)0.5 * y[1] + (T)0.125 * y[3];        \
                o[4] = even2 - odd2;                                                            \
                o[5] = even3 + odd3;                                                            \
                o[6] = even3 - odd3;                                                            \
            }                                                                                   \
        } else {                                                                                \
            o[1] = y[0] + y[1];                                                                 \
            if ((r) > 2) o[2] = y[0] - y[1];                                                    \
        }                                                                                       \
        o[(m) + (r) - 2] = y[(m) - 1];                                                          \
    } while (0)

/* G: the powers 0 to r - 1 of a point, over its distances from the other points */
#define TRANSFORM_WEIGHTS(m, r, s, g, o)                                                        \
    do {                                                                                        \
        if ((s) == 2) {                                                                         \
            V at_even[2] = {g[0], g[2]};                                                        \
            POINTS_WEIGHTS(m, 2, at_even, o);                                                   \
            o[(m) + 1] = g[1];                                                                  \
        } else if ((r) == 1) {                                                                  \
            o[0] = g[0];                                                                        \
        } else {                                                                                \
            POINTS_WEIGHTS(m, r, g, o);                                                         \
        }                                                                                       \
    } while (0)

#define POINTS_WEIGHTS(m, r, g, o)                                                              \
    do {                                                                                        \
        const T sixth = (T)(1.0 / 6);                                                           \
        if ((m) + (r) == 9) {                                                                   \
            const T one = (T)(-2.0 / 9), two = (T)(1.0 / 90), half = (T)(2.0 / 45);             \
            V even = one * (g[0] + g[2]), odd = one * g[1];                                     \
            V even2 = two * (g[0] + 4 * g[2]), odd2 = two * 2 * g[1];                           \
            V even3 = half * (16 * g[0] + 4 * g[2]), odd3 = half * 8 * g[1];                    \
            if ((r) == 5) {                                                                     \
                even += one * g[4];                                                             \
                odd += one * g[3];                                                              \
                even2 += two * 16 * g[4];                                                       \
                odd2 += two * 8 * g[3];                                                         \
                even3 += half * g[4];                                                           \
                odd3 += half * 2 * g[3];                                                        \
            }                                                                                   \
            o[0] = g[0];                                                                        \
            o[1] = even + odd;                                                                  \
            o[2] = even - odd;                                                                  \
            o[3] = even2 + odd2;                                                                \
            o[4] = even2 - odd2;                                                                \
            o[5] = even3 + odd3;                                                                \
            o[6] = even3 - odd3;                                                                \
            o[7] = g[(r) - 1];                                                                  \
        } else if ((m) + (r) == 7) {                                                            \
            const T third = (T)(1.0 / 3), part = (T)(1.0 / 15);                                 \
            V even = third * (g[0] + g[2]), odd = third * g[1];                                 \
            V two = part * (g[0] + 2 * g[1] + 4 * g[2]);                                        \
            V half = part * (8 * g[1] - 16 * g[0] - 4 * g[2]);                                  \
            if ((r) > 3) {                                                                      \
                odd += third * g[3];                                                            \
                two += part * 8 * g[3];                                                         \
                half += part * 2 * g[3];                                                        \
            }                                                                                   \
            if ((r) == 5) {                                                                     \
                even += third * g[4];                                                           \
                two += part * 16 * g[4];                                                        \
                half -= part * g[4];                                                            \
            }                                                                                   \
            o[0] = g[0];                                                                        \
            o[1] = -(even + odd);                                                               \
            o[2] = even - odd;                                                                  \
            o[3] = two;                                                                         \
            o[4] = half;                                                                        \
            o[5] = g[(r) - 1];                                                                  \
        } else if ((r) == 3) {                                                                  \
            V even = (T)0.5 * (g[0] + g[2]), odd = (T)0.5 * g[1];                               \
            o[0] = g[0];                                                                        \
            o[1] = even + odd;                                                                  \
            o[2] = even - odd;                                                                  \
            o[3] = g[2];                                                                        \
        } else if ((m) == 4) {                                                                  \
            o[0] = (T)0.5 * g[0];                                                               \
            o[1] = (T)-0.5 * (g[0] + g[1]);                                                     \
            o[2] = sixth * (g[1] - g[0]);                                                       \
            o[3] = sixth * (g[0] + 2 * g[1]);                                                   \
            o[4] = g[1];                                                                        \
        } else {                                                                                \
            o[0] = g[0];                                                                        \
            o[1] = g[0] + g[1];                                                                 \
            o[2] = g[1];                                                                        \
        }                                                                                       \
    } while (0)

/* G^T */
#define ADJOINT_WEIGHTS(m, r, s, v, o)                                                          \
    do {                                                                                        \
        if ((s) == 2) {                                                                         \
            V at_even[2];                                                                       \
            POINTS_WEIGHTS_ADJOINT(m, 2, v, at_even);                                           \
            o[0] = at_even[0];                                                                  \
            o[1] = v[(m) + 1];                                                                  \
            o[2] = at_even[1];                                                                  \
        } else if ((r) == 1) {                                                                  \
            o[0] = v[0];                                                                        \
        } else {                                                                                \
            POINTS_WEIGHTS_ADJOINT(m, r, v, o);                                                 \
        }                                                                                       \
    } while (0)

#define POINTS_WEIGHTS_ADJOINT(m, r, v, o)                                                      \
    do {                                                                                        \
        const T sixth = (T)(1.0 / 6);                                                           \
        if ((m) + (r) == 9) {                                                                   \
            const T one = (T)(-2.0 / 9), two = (T)(1.0 / 90), half = (T)(2.0 / 45);             \
            V sum = one * (v[1] + v[2]), difference = one * (v[1] - v[2]);                      \
            V sum2 = two * (v[3] + v[4]), difference2 = two * (v[3] - v[4]);                    \
            V sum3 = half * (v[5] + v[6]), difference3 = half * (v[5] - v[6]);                  \
            o[0] = v[0] + sum + sum2 + 16 * sum3;                                               \
            o[1] = difference + 2 * difference2 + 8 * difference3;                              \
            o[2] = sum + 4 * sum2 + 4 * sum3;                                                   \
            if ((r) == 5) {                                                                     \
                o[3] = difference + 8 * difference2 + 2 * difference3;                          \
                o[4] = sum + 16 * sum2 + sum3;                                                  \
            }                                                                                   \
            o[(r) - 1] += v[7];                                                                 \
        } else if ((m) + (r) == 7) {                                                            \
            const T third = (T)(1.0 / 3), part = (T)(1.0 / 15);                                 \
            V even = third * (v[2] - v[1]), odd = third * (v[1] + v[2]);                        \
            V two = part * v[3], half = part * v[4];                                            \
            o[0] = v[0] + even + two - 16 * half;                                               \
            o[1] = 2 * two + 8 * half - odd;                                                    \
            o[2] = even + 4 * two - 4 * half;                                                   \
            if ((r) > 3) o[3] = 8 * two + 2 * half - odd;                                       \
            if ((r) == 5) o[4] = even + 16 * two - half;                                        \
            o[(r) - 1] += v[5];                                                                 \
        } else if ((r) == 3) {                                                                  \
            V sum = (T)0.5 * (v[1] + v[2]);                                                     \
            o[0] = v[0] + sum;                                                                  \
            o[1] = (T)0.5 * (v[1] - v[2]);                                                      \
            o[2] = sum + v[3];                                                                  \
        } else if ((m) == 4) {                                                                  \
            o[0] = (T)0.5 * (v[0] - v[1]) + sixth * (v[3] - v[2]);                              \
            o[1] = sixth * (v[2] + 2 * v[3]) - (T)0.5 * v[1] + v[4];                            \
        } else {                                                                                \
            o[0] = v[0] + v[1];                                                                 \
            o[1] = v[1] + v[2];                                                                 \
        }                                                                                       \
    } while (0)

/* One axis of a scheme: outputs of a tile, taps, step; then its products and distinct weights. */
#define SIDE(m, r, s) ((s) * ((m) - 1) + (r))
#define DISTINCT(m, r, s) ((s) == 2 ? (m) + 2 : (r) == 1 ? 1 : (m) + (r) - 1)

/* Names of a type, and of a scheme with it. */
#define JOIN_(name, type) name##_##type
#define JOIN(name, type) JOIN_(name, type)
#define LABEL_(name, type, mh, rh, sh, mw, rw, sw)                                              \
    name##_##type##_##mh##x##mw##_##rh##x##rw##_##sh##x##sw
#define LABEL(...) LABEL_(__VA_ARGS__)
#define GET_M_H(mh, rh, sh, mw, rw, sw) mh
#define GET_R_H(mh, rh, sh, mw, rw, sw) rh
#define GET_S_H(mh, rh, sh, mw, rw, sw) sh
#define GET_M_W(mh, rh, sh, mw, rw, sw) mw
#define GET_R_W(mh, rh, sh, mw, rw, sw) rw
#define GET_S_W(mh, rh, sh, mw, rw, sw) sw
#define GET_ALL(...) __VA_ARGS__

#define T float
#include "winograd_schemes.h"
#undef T

#define T double
#include "winograd_schemes.h"
#undef T

static const winograd_transforms *winograd_find(
    int itemsize, int tile_h, int taps_h, int step_h, int tile_w, int taps_w, int step_w)
{
    const winograd_transforms *const *all = itemsize == sizeof(float) ? all_float : all_double;
    for (size_t i = 0; i < sizeof all_float / sizeof all_float[0]; i++) {
        const winograd_transforms *t = all[i];
        if (t->tile_h == tile_h && t->taps_h == taps_h && t->step_h == step_h
            && t->tile_w == tile_w && t->taps_w == taps_w && t->step_w == step_w) return t;
    }
    return NULL;
}

#else

static const winograd_transforms *winograd_find(
    int itemsize, int tile_h, int taps_h, int step_h, int tile_w, int taps_w, int step_w)
{
    (void)itemsize; (void)tile_h; (void)taps_h; (void)step_h;
    (void)tile_w; (void)taps_w; (void)step_w;
    return NULL;
}

#endif
#endif
