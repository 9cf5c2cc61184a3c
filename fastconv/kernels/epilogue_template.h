/* Included once per element type, with T and INDEX (an integer of its size) defined. */

#define V EPILOGUE(vector)
#define M EPILOGUE(mask)
#define LANES ((ptrdiff_t)(VECTOR_BYTES / sizeof(T)))
#define BODY static inline __attribute__((always_inline))

typedef T V __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(T)), may_alias));
typedef INDEX M __attribute__((vector_size(VECTOR_BYTES)));

/* What is added to the `some` outputs at `out`, up to a vector of them. */
BODY V EPILOGUE(residual)(const T *out, ptrdiff_t some, const Epilogue *epilogue)
{
    const char *at = (const char *)out + epilogue->residual;
    if (some >= LANES) return *(const V *)at;
    V residual = {0};
    memcpy(&residual, at, some * sizeof(T));
    return residual;
}

/* Begins to load what will be added there. */
BODY void EPILOGUE(fetch)(const void *out, const Epilogue *epilogue)
{
    __builtin_prefetch((const void *)((uintptr_t)out + (uintptr_t)epilogue->residual));
}

#ifndef epilogue_max_float
/* The larger and the smaller of a and v; v where that is NaN. */
BODY V EPILOGUE(max)(V a, V v)
{
    const M low = (M)(v < a);
    return (V)(((M)a & low) | ((M)v & ~low));
}

BODY V EPILOGUE(min)(V a, V v)
{
    const M high = (M)(v > a);
    return (V)(((M)a & high) | ((M)v & ~high));
}
#endif

/* v[i] = act(v[i]) for `count` vectors. */
BODY void EPILOGUE(activate)(V *v, int count, const Epilogue *epilogue)
{
    const T slope = (T)epilogue->slope;
    const V zeros = {0}, tops = zeros + (T)epilogue->top;
    if (slope == 0)
        UNROLLED for (int i = 0; i < count; i++)
            v[i] = EPILOGUE(max)(zeros, v[i]) + zeros; /* no -0 */
    else
        UNROLLED for (int i = 0; i < count; i++) {
            const M low = (M)(v[i] <= 0);
            v[i] = (V)(((M)(slope * v[i]) & low) | ((M)v[i] & ~low));
        }
    if (epilogue->cut)
        UNROLLED for (int i = 0; i < count; i++) v[i] = EPILOGUE(min)(tops, v[i]);
}

/* The epilogue of `cols` neighbours, in place: for those that are no whole vectors. */
static __attribute__((noinline, unused)) void EPILOGUE(row)(
    T *out, ptrdiff_t cols, const Epilogue *epilogue)
{
    if (!epilogue->add && !epilogue->act) return;
    for (ptrdiff_t first = 0; first < cols; first += LANES, out += LANES) {
        const ptrdiff_t some = cols - first < LANES ? cols - first : LANES;
        V y = {0};
        memcpy(&y, out, some * sizeof(T));
        if (epilogue->add) y += EPILOGUE(residual)(out, some, epilogue);
        if (epilogue->act) EPILOGUE(activate)(&y, 1, epilogue);
        memcpy(out, &y, some * sizeof(T));
    }
}

#undef V
#undef M
#undef LANES
#undef BODY
