/* Convolution channel by channel, for float and double: loads bound it, not products. */
#ifndef FASTCONV_DEPTHWISE_H
#define FASTCONV_DEPTHWISE_H

#include "direct.h"

#define DEPTHWISE_PIXELS 4 /* share a load of weights */

#if DIRECT_SUPPORTED

#define T float
#define NAME(x) x##_float
#include "depthwise_template.h"
#undef T
#undef NAME

#define T double
#define NAME(x) x##_double
#include "depthwise_template.h"
#undef T
#undef NAME

#else /* never called: see DIRECT_SUPPORTED */

#define DEFINE_DEPTHWISE(T, S)                                                                  \
    static void depthwise_tile_##S(const T *const *r, ptrdiff_t t, ptrdiff_t s, ptrdiff_t n,    \
                                   const T *w, const T *b, T *const *o)                         \
    { (void)r; (void)t; (void)s; (void)n; (void)w; (void)b; (void)o; }                          \
    static void depthwise_weight_##S(const T *const *r, const T *const *y, ptrdiff_t p,         \
                                     ptrdiff_t n, T *w)                                         \
    { (void)r; (void)y; (void)p; (void)n; (void)w; }
DEFINE_DEPTHWISE(float, float)
DEFINE_DEPTHWISE(double, double)

#endif
#endif
