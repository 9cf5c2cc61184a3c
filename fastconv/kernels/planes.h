/* Lines of an image of one channel: vectors along the pixels. */
#ifndef FASTCONV_PLANES_H
#define FASTCONV_PLANES_H

#include "direct.h"

#define PLANES_VECTORS 8 /* keep their sums in registers while the taps pass */

typedef struct {
    void (*line)(const void *const *x, const void *w, ptrdiff_t taps, const void *bias, void *y,
                 ptrdiff_t pixels);
} planes_kernels;

#if DIRECT_SUPPORTED

#define T float
#define NAME(x) planes_##x##_float
#include "planes_template.h"
#undef T
#undef NAME

#define T double
#define NAME(x) planes_##x##_double
#include "planes_template.h"
#undef T
#undef NAME

static inline const planes_kernels *planes_find(size_t itemsize)
{
    return itemsize == sizeof(float) ? &planes_kernels_float : &planes_kernels_double;
}

#else

static const planes_kernels *planes_find(size_t itemsize)
{
    (void)itemsize;
    return NULL;
}

#endif
#endif
