/* Register tiles of products: twelve accumulators, the weights of a step and a broadcast fill
 * sixteen vector registers; where there are 32, some tiles have eighteen. */
#ifndef FASTCONV_DIRECT_H
#define FASTCONV_DIRECT_H

#include <stddef.h>
#include <string.h>

#include "epilogue.h"

/* A tile is TILE_PIXELS pixels by two vectors of output channels, or WIDE_PIXELS by three, or
 * NARROW_PIXELS by one: so many sums hide the latency of additions, of more pixels the pointers
 * would not stay in registers. A product of winograd is TILE_PIXELS by up to MOST_VECTORS, a
 * gradient by weight TILE_ROWS rows by as many, or TILE_PIXELS, or LINE_ROWS. */
#define TILE_PIXELS 6
#define WIDE_PIXELS 4
#define NARROW_PIXELS 8
#define MOST_PIXELS 8
#define MOST_VECTORS (VECTOR_REGISTERS == 32 ? 3 : 2)
#define ACCUMULATORS (VECTOR_REGISTERS == 32 ? 18 : 12)
#define TILE_ROWS(vectors) ((vectors) == 1 ? 8 : 4)
#define LINE_ROWS(vectors) ((vectors) == 1 ? 12 : 6)
/* Of a single pixel so many vectors of output channels, of several panels. */
#define PIXEL_VECTORS 12
#define MOST_DOTS 3
#define DOTS_PIXELS(outputs) (12 / (outputs))
#define PREFETCH_TO_READ(place) __builtin_prefetch(place)
#define PREFETCH_TO_WRITE(place) __builtin_prefetch(place, 1)

/* What direct_template.h defines, for one element type; arrays of 4 are by vectors of a tile. */
typedef struct {
    void (*tile[4])(const void *const *rows, ptrdiff_t runs, ptrdiff_t stride, ptrdiff_t run,
                    const void *w, const void *bias, void *const *out, int pixels,
                    ptrdiff_t cols, const Epilogue *epilogue, ptrdiff_t ahead);
    void (*pixel[4])(const void *const *rows, ptrdiff_t runs, ptrdiff_t stride, ptrdiff_t run,
                     const void *w, const void *bias, void *out, ptrdiff_t cols,
                     const Epilogue *epilogue);
    void (*line[4])(const void *a, ptrdiff_t step, const ptrdiff_t *offsets, ptrdiff_t runs,
                    ptrdiff_t run, const void *w, const void *bias, void *out,
                    ptrdiff_t out_step, ptrdiff_t count, ptrdiff_t cols, const Epilogue *epilogue);
    void (*dots[MOST_DOTS + 1])(const void *const *rows, ptrdiff_t runs, ptrdiff_t stride,
                                ptrdiff_t run, const void *w, const void *bias, void *const *out,
                                int pixels, const Epilogue *epilogue);
    void (*product[4])(const void *const *rows, ptrdiff_t runs, ptrdiff_t step, ptrdiff_t run,
                    const void *w, const void *ahead, void *out, ptrdiff_t tiles);
    void (*outer[4])(const void *a, ptrdiff_t step, const void *b, ptrdiff_t pixels, void *out,
                     int rows, int add);
    void (*weight[4])(const void *a, const void *b, ptrdiff_t pixels, void *out, int rows);
    void (*weight_in_place[4])(const void *const *a, ptrdiff_t first, const void *b,
                               ptrdiff_t pixels, void *out, int rows);
    void (*weight_lines[4][LINE_ROWS(1) + 1])(
        const void *a, ptrdiff_t step, ptrdiff_t a_line, const void *b, ptrdiff_t b_step,
        ptrdiff_t b_line, ptrdiff_t lines, ptrdiff_t pixels, void *out);
    void (*pack_rows)(const void *const *rows, ptrdiff_t pixels, ptrdiff_t run, void *packed);
    void (*pack_panels[4])(const void *from, ptrdiff_t step, ptrdiff_t rows, ptrdiff_t cols,
                        void *packed);
    void (*finish_panel[4])(const void *from, ptrdiff_t parts, ptrdiff_t part, ptrdiff_t depth,
                         int used, void *to, ptrdiff_t step);
} direct_kernels;

#ifdef __GNUC__

#define DIRECT_SUPPORTED 1

#define EPILOGUE_NAME(x, T) epilogue_##x##_##T
#define EPILOGUE_OF(x, T) EPILOGUE_NAME(x, T)
#define EPILOGUE(x) EPILOGUE_OF(x, T)

#define T float
#define INDEX int
#define NAME(x) direct_##x##_float
#include "epilogue_template.h"
#include "direct_template.h"
#undef T
#undef INDEX
#undef NAME

#define T double
#define INDEX long long
#define NAME(x) direct_##x##_double
#include "epilogue_template.h"
#include "direct_template.h"
#undef T
#undef INDEX
#undef NAME

static inline const direct_kernels *direct_find(size_t itemsize)
{
    return itemsize == sizeof(float) ? &direct_kernels_float : &direct_kernels_double;
}

#else

#define DIRECT_SUPPORTED 0

static const direct_kernels *direct_find(size_t itemsize)
{
    (void)itemsize;
    return NULL;
}

#endif
#endif
