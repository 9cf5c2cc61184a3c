/* Winograd's F(4x4, 3x3): the transforms, vectorised across channels, for float and double. */
#ifndef FASTCONV_WINOGRAD_H
#define FASTCONV_WINOGRAD_H

#include "direct.h"

#if defined(__GNUC__) && defined(__x86_64__)

#define T float
#define NAME(x) x##_float
#include "winograd_template.h"
#undef T
#undef NAME

#define T double
#define NAME(x) x##_double
#include "winograd_template.h"
#undef T
#undef NAME

#else /* never called: see direct_supported */

#define DEFINE_WINOGRAD(T, S)                                                                   \
    static void winograd_input_##S(const T *const *d, ptrdiff_t n, T *v, ptrdiff_t e)           \
    { (void)d; (void)n; (void)v; (void)e; }                                                     \
    static int winograd_output_##S(const T *m, ptrdiff_t e, const T *b, T *const *o, int c)     \
    { (void)m; (void)e; (void)b; (void)o; (void)c; return 0; }                                  \
    static void winograd_weights_##S(const T *w, ptrdiff_t t, ptrdiff_t c, ptrdiff_t k,         \
                                     ptrdiff_t n, int used, T *u, ptrdiff_t e)                  \
    { (void)w; (void)t; (void)c; (void)k; (void)n; (void)used; (void)u; (void)e; }
DEFINE_WINOGRAD(float, float)
DEFINE_WINOGRAD(double, double)

#endif
#endif
