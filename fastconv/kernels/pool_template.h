/* Included once per element type, with T, INDEX (an integer of its size) and NAME defined. */

#ifdef __GNUC__

typedef T NAME(vector) __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(T)), may_alias));
typedef INDEX NAME(mask) __attribute__((vector_size(VECTOR_BYTES)));

/* The first N vectors: the accumulators never leave registers. */
static inline __attribute__((always_inline)) void NAME(vectors)(
    const int N, const pool_reduction kind, const T *const *taps, ptrdiff_t count, ptrdiff_t c,
    const T *start, T *y)
{
    enum { LANES = VECTOR_BYTES / sizeof(T) };
    NAME(vector) before[4], all[4];
    for (int n = 0; n < N; n++) {
        if (start) before[n] = *start - (NAME(vector)){0};
        else before[n] = *(const NAME(vector) *)(y + c + n * LANES);
        all[n] = kind == POOL_LARGEST ? before[n] : (NAME(vector)){0};
    }
    for (ptrdiff_t t = 0; t < count; t++)
        for (int n = 0; n < N; n++) {
            const NAME(vector) v = *(const NAME(vector) *)(taps[t] + c + n * LANES);
            const NAME(mask) larger = (NAME(mask))(v > all[n]) | (NAME(mask))(v != v);
            if (kind == POOL_SUM) all[n] += v;
            else if (kind == POOL_SQUARES) all[n] += v * v;
            else all[n] = (NAME(vector))(((NAME(mask))v & larger) | ((NAME(mask))all[n] & ~larger));
        }
    for (int n = 0; n < N; n++) {
        if (kind != POOL_LARGEST) all[n] += before[n];
        *(NAME(vector) *)(y + c + n * LANES) = all[n];
    }
}

#endif

static inline __attribute__((always_inline)) void NAME(reduce_by)(
    const pool_reduction kind, const T *const *taps, ptrdiff_t count, ptrdiff_t channels,
    const T *start, T *y)
{
    ptrdiff_t c = 0;
#ifdef __GNUC__
    enum { LANES = VECTOR_BYTES / sizeof(T) };
    for (; c + 4 * LANES <= channels; c += 4 * LANES)
        NAME(vectors)(4, kind, taps, count, c, start, y);
    for (; c + LANES <= channels; c += LANES) NAME(vectors)(1, kind, taps, count, c, start, y);
#endif
    for (; c < channels; c++) {
        const T before = start ? *start : y[c];
        T all = kind == POOL_LARGEST ? before : 0;
        for (ptrdiff_t t = 0; t < count; t++) {
            const T v = taps[t][c];
            if (kind == POOL_SUM) all += v;
            else if (kind == POOL_SQUARES) all += v * v;
            else if (v > all || v != v) all = v;
        }
        y[c] = kind == POOL_LARGEST ? all : before + all;
    }
}

/* y[c] := the largest of `start`, or y[c] if that is NULL, and taps[t][c], NaN before all; or that
 * and the sum of taps[t][c], or of their squares. */
static void NAME(reduce)(
    pool_reduction kind, const T *const *taps, ptrdiff_t count, ptrdiff_t channels, const T *start,
    T *y)
{
    if (kind == POOL_LARGEST) NAME(reduce_by)(POOL_LARGEST, taps, count, channels, start, y);
    else if (kind == POOL_SUM) NAME(reduce_by)(POOL_SUM, taps, count, channels, start, y);
    else NAME(reduce_by)(POOL_SQUARES, taps, count, channels, start, y);
}
