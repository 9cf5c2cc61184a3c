/* Convolution of narrow groups: as many outputs as inputs, so few that several groups, or many
 * groups of one channel, share a vector. Loads bound it, not products. */
#ifndef FASTCONV_GROUPED_H
#define FASTCONV_GROUPED_H

#include "direct.h"

#define GROUPED_PIXELS 4 /* share a load of weights */
#define GROUPED_WIDEST 4 /* channels of a group: a power of two, up to this */
#define LINE_PIXELS 4
#define LINE_HEIGHT (VECTOR_REGISTERS / 8) /* lines at once: accumulators of half the registers */
/* Several lines at once fetch what their next pixels want: on AVX-512's processors that costs. */
#define LINE_FETCH (VECTOR_REGISTERS < 32)
#define MOST_LINE_TAPS 5
#define MOST_LINE_STEP 2

typedef struct {
    void (*tile[GROUPED_WIDEST + 1])(
        const void *const *rows, ptrdiff_t taps, ptrdiff_t stride, ptrdiff_t channels,
        const void *w, const void *bias, void *const *out, const Epilogue *epilogue);
    void (*weight[GROUPED_WIDEST + 1])(
        const void *const *rows, ptrdiff_t taps, ptrdiff_t stride, const void *const *dy,
        ptrdiff_t pixels, ptrdiff_t channels, void *dw);
    /* by taps along a line, and step */
    void (*line[MOST_LINE_TAPS + 1][MOST_LINE_STEP + 1])(
        const void *const *x, ptrdiff_t shift, const void *const *w, ptrdiff_t rows,
        ptrdiff_t channels, const void *bias, void *out, ptrdiff_t out_step, ptrdiff_t ahead,
        const Epilogue *epilogue);
    /* by taps of a square kernel, and step */
    void (*tall[MOST_LINE_TAPS + 1][MOST_LINE_STEP + 1])(
        const void *const *x, ptrdiff_t shift, const void *const *w, ptrdiff_t planes,
        ptrdiff_t channels, const void *bias, void *out, ptrdiff_t out_step, ptrdiff_t out_line,
        const Epilogue *epilogue);
    void (*tall_edge[MOST_LINE_TAPS + 1][MOST_LINE_STEP + 1])(
        const void *const *x, ptrdiff_t shift, const void *const *w, ptrdiff_t planes,
        ptrdiff_t first, ptrdiff_t last, ptrdiff_t channels, const void *bias, void *out,
        ptrdiff_t out_line, const Epilogue *epilogue);
    void (*line_weight[MOST_LINE_TAPS + 1][MOST_LINE_STEP + 1])(
        const void *const *x, const void *dy, void *const *dw, ptrdiff_t rows, ptrdiff_t channels,
        ptrdiff_t pixels, ptrdiff_t inner, ptrdiff_t outer, ptrdiff_t first, ptrdiff_t size);
    /* of three taps: more sums than these do not stay in registers */
    void (*tall_weight[MOST_LINE_TAPS + 1][MOST_LINE_STEP + 1])(
        const void *const *x, const void *dy, ptrdiff_t dy_line, void *const *dw, ptrdiff_t planes,
        ptrdiff_t channels, ptrdiff_t pixels, ptrdiff_t inner, ptrdiff_t outer, ptrdiff_t first,
        ptrdiff_t size);
    void (*line_edge)(
        const void *const *x, ptrdiff_t shift, const void *const *w, ptrdiff_t first,
        ptrdiff_t rows, ptrdiff_t taps, ptrdiff_t channels, const void *bias, void *out,
        const Epilogue *epilogue);
} grouped_kernels;

#if DIRECT_SUPPORTED

#define T float
#define INDEX int
#define NAME(x) grouped_##x##_float
#include "grouped_template.h"
#undef T
#undef INDEX
#undef NAME

#define T double
#define INDEX long long
#define NAME(x) grouped_##x##_double
#include "grouped_template.h"
#undef T
#undef INDEX
#undef NAME

static inline const grouped_kernels *grouped_find(size_t itemsize)
{
    return itemsize == sizeof(float) ? &grouped_kernels_float : &grouped_kernels_double;
}

#else

static const grouped_kernels *grouped_find(size_t itemsize)
{
    (void)itemsize;
    return NULL;
}

#endif
#endif
