/* Included once per element type, with T and INDEX (an integer of its size) defined. */

#define V EPILOGUE(vector)
#define M EPILOGUE(mask)
#define LANES ((ptrdiff_t)(VECTOR_BYTES / sizeof(T)))
#define BODY static inline __attribute__((always_inline))

typedef T V __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(T)), may_alias));
typedef INDEX M __attribute__((vector_size(VECTOR_BYTES)));

/* The first `some` values at a place, up to a vector of them, and zeros for the others; where there
 * are no masks, by halves of sizes known when compiled. */
BODY V EPILOGUE(load)(const T *at, ptrdiff_t some)
{
    if (some >= LANES) return *(const V *)at;
#ifdef epilogue_masked_load_float
    return (V)EPILOGUE(masked_load)(at, some);
#else
    V v = {0};
    T *to = (T *)&v;
    UNROLLED for (ptrdiff_t part = LANES / 2; part; part /= 2)
        if (some & part) {
            memcpy(to, at, part * sizeof(T));
            at += part;
            to += part;
        }
    return v;
#endif
}

/* Stores them. */
BODY void EPILOGUE(store)(T *at, ptrdiff_t some, V v)
{
    if (some >= LANES) {
        *(V *)at = v;
        return;
    }
#ifdef epilogue_masked_store_float
    EPILOGUE(masked_store)(at, some, v);
#else
    const T *from = (const T *)&v;
    UNROLLED for (ptrdiff_t part = LANES / 2; part; part /= 2)
        if (some & part) {
            memcpy(at, from, part * sizeof(T));
            at += part;
            from += part;
        }
#endif
}

/* What is added to the first `some` outputs at `out`. */
BODY V EPILOGUE(residual)(const T *out, ptrdiff_t some, const Epilogue *epilogue)
{
    return EPILOGUE(load)((const T *)((const char *)out + epilogue->residual), some);
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

/* Writes `cols` neighbours, of as many vectors as they take, through the epilogue. Not inlined: a
 * caller's loops would get fewer registers. */
static __attribute__((noinline, unused)) void EPILOGUE(row)(
    T *out, ptrdiff_t cols, const V *from, const Epilogue *epilogue)
{
    for (; cols > 0; cols -= LANES, out += LANES, from++) {
        V y = *from;
        if (epilogue->add) y += EPILOGUE(residual)(out, cols, epilogue);
        if (epilogue->act) EPILOGUE(activate)(&y, 1, epilogue);
        EPILOGUE(store)(out, cols, y);
    }
}

#undef V
#undef M
#undef LANES
#undef BODY
