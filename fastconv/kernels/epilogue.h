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

/* The first values at a place, zeros for the others. */
#if defined(__GNUC__) && defined(__AVX512F__)
#define epilogue_first(some) ((1u << (some)) - 1)
#define epilogue_masked_load_float(at, some) \
    _mm512_maskz_loadu_ps((__mmask16)epilogue_first(some), at)
#define epilogue_masked_load_double(at, some) \
    _mm512_maskz_loadu_pd((__mmask8)epilogue_first(some), at)
#define epilogue_masked_store_float(at, some, v) \
    _mm512_mask_storeu_ps(at, (__mmask16)epilogue_first(some), (__m512)(v))
#define epilogue_masked_store_double(at, some, v) \
    _mm512_mask_storeu_pd(at, (__mmask8)epilogue_first(some), (__m512d)(v))
#elif defined(__GNUC__) && defined(__AVX2__)
#define epilogue_masked_load_float(at, some) \
    _mm256_maskload_ps( \
        at, _mm256_cmpgt_epi32(_mm256_set1_epi32((int)(some)), \
                               _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)))
#define epilogue_masked_load_double(at, some) \
    _mm256_maskload_pd( \
        at, _mm256_cmpgt_epi64(_mm256_set1_epi64x(some), _mm256_setr_epi64x(0, 1, 2, 3)))
#endif

#endif
