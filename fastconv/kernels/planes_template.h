/* Included once per element type, with T and NAME defined. */

#define V NAME(vector)
#define LANES ((int)(VECTOR_BYTES / sizeof(T)))
#define BODY static inline __attribute__((always_inline))

typedef T V __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(T)), may_alias));

/* y[k] = bias + sum over t of x[t][k] * w[t] for N vectors of pixels from k on. */
BODY void NAME(vectors)(
    int N, const T *const *x, const T *w, ptrdiff_t taps, T bias, T *y, ptrdiff_t k)
{
    V s[PLANES_VECTORS];
    for (int n = 0; n < N; n++) s[n] = (V){0} + bias;
    for (ptrdiff_t t = 0; t < taps; t++) {
        const T *at = x[t] + k;
        for (int n = 0; n < N; n++) s[n] += *(const V *)(at + n * LANES) * w[t];
    }
    for (int n = 0; n < N; n++) *(V *)(y + k + n * LANES) = s[n];
}

/* The same of all pixels; the last vectors may overlap those before. */
static void NAME(line)(
    const void *const *from, const void *w, ptrdiff_t taps, const void *bias, void *y,
    ptrdiff_t pixels)
{
    const T *const *x = (const T *const *)from;
    const ptrdiff_t wide = PLANES_VECTORS * LANES;
    ptrdiff_t k;
    if (pixels >= wide) {
        for (k = 0; k + wide < pixels; k += wide)
            NAME(vectors)(PLANES_VECTORS, x, w, taps, *(const T *)bias, y, k);
        NAME(vectors)(PLANES_VECTORS, x, w, taps, *(const T *)bias, y, pixels - wide);
    } else if (pixels >= LANES) {
        for (k = 0; k + LANES < pixels; k += LANES)
            NAME(vectors)(1, x, w, taps, *(const T *)bias, y, k);
        NAME(vectors)(1, x, w, taps, *(const T *)bias, y, pixels - LANES);
    } else {
        for (k = 0; k < pixels; k++) {
            T s = *(const T *)bias;
            for (ptrdiff_t t = 0; t < taps; t++) s += x[t][k] * ((const T *)w)[t];
            ((T *)y)[k] = s;
        }
    }
}

static const planes_kernels NAME(kernels) = {NAME(line)};

#undef V
#undef LANES
#undef BODY
