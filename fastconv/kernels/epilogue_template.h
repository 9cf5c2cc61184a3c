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

BODY V EPILOGUE(activated)(V v, const Epilogue *epilogue)
{
    const T slope = (T)epilogue->slope, top = (T)epilogue->top;
    const M low = (M)(slope * v) & -(INDEX)(slope != 0), at_most_zero = (M)(v <= 0);
    v = (V)((low & at_most_zero) | ((M)v & ~at_most_zero));
    const M above = (M)(v > top);
    return (V)(((M)((V){0} + top) & above) | ((M)v & ~above));
}

/* The epilogue of `cols` neighbours, in place: for those that are no whole vectors. */
static inline void EPILOGUE(row)(T *out, ptrdiff_t cols, const Epilogue *epilogue)
{
    if (!epilogue->add && !epilogue->act) return;
    for (ptrdiff_t first = 0; first < cols; first += LANES, out += LANES) {
        const ptrdiff_t some = cols - first < LANES ? cols - first : LANES;
        V y = {0};
        memcpy(&y, out, some * sizeof(T));
        if (epilogue->add) y += EPILOGUE(residual)(out, some, epilogue);
        if (epilogue->act) y = EPILOGUE(activated)(y, epilogue);
        memcpy(out, &y, some * sizeof(T));
    }
}

#undef V
#undef M
#undef LANES
#undef BODY
