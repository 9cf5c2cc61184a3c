/* What happens to an output before it leaves the registers or the cache, after its sum and bias:
 * y := act(y + residual) with act(v) = min(v <= 0 ? slope * v : v, top). NaN stays NaN; a slope of
 * zero gives zero, also for an infinity, so it is no product. */
#ifndef FASTCONV_EPILOGUE_H
#define FASTCONV_EPILOGUE_H

#include <stddef.h>
#include <stdint.h>

#include "vectors.h"

typedef struct {
    int add, act, cut;  /* whether there is a residual, an activation, one with a top */
    ptrdiff_t residual; /* bytes from an output to its residual, at the same place of its array */
    double slope, top;
} Epilogue;

/* Of two vectors, the second value where it is NaN. Compilers make several instructions of what
 * these processors have one for. */
#if defined(__GNUC__) && defined(__SSE2__)
#include <immintrin.h>
#define epilogue_max_float VECTOR_INTRINSIC(max_ps)
#define epilogue_min_float VECTOR_INTRINSIC(min_ps)
#define epilogue_max_double VECTOR_INTRINSIC(max_pd)
#define epilogue_min_double VECTOR_INTRINSIC(min_pd)
#endif

#endif
