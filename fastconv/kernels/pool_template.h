/* Included once per element type, with T, INDEX (an integer of its size) and NAME defined. */

#ifdef __GNUC__

typedef T NAME(vector) __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(T)), may_alias));
typedef INDEX NAME(mask) __attribute__((vector_size(VECTOR_BYTES)));

/* The first N vectors: the accumulators never leave registers. */
static inline __attribute__((always_inline)) void NAME(vectors)(
    int N, const T *const *taps, ptrdiff_t count, ptrdiff_t c, const T *floor, T *y)
{
    enum { LANES = VECTOR_BYTES / sizeof(T) };
    NAME(vector) most[4];
    for (int n = 0; n < N; n++)
        if (floor) most[n] = *floor - (NAME(vector)){0};
        else most[n] = *(const NAME(vector) *)(y + c + n * LANES);
    for (ptrdiff_t t = 0; t < count; t++)
        for (int n = 0; n < N; n++) {
            NAME(vector) v = *(const NAME(vector) *)(taps[t] + c + n * LANES);
            NAME(mask) larger = (NAME(mask))(v > most[n]) | (NAME(mask))(v != v);
            most[n] = (NAME(vector))(((NAME(mask))v & larger) | ((NAME(mask))most[n] & ~larger));
        }
    for (int n = 0; n < N; n++) *(NAME(vector) *)(y + c + n * LANES) = most[n];
}

#endif

/* y[c] := the largest of `floor`, or y[c] if that is NULL, and taps[t][c], NaN before all. */
static void NAME(largest)(
    const T *const *taps, ptrdiff_t count, ptrdiff_t channels, const T *floor, T *y)
{
    ptrdiff_t c = 0;
#ifdef __GNUC__
    enum { LANES = VECTOR_BYTES / sizeof(T) };
    for (; c + 4 * LANES <= channels; c += 4 * LANES) NAME(vectors)(4, taps, count, c, floor, y);
    for (; c + LANES <= channels; c += LANES) NAME(vectors)(1, taps, count, c, floor, y);
#endif
    for (; c < channels; c++) {
        T most = floor ? *floor : y[c];
        for (ptrdiff_t t = 0; t < count; t++)
            if (taps[t][c] > most || taps[t][c] != taps[t][c]) most = taps[t][c];
        y[c] = most;
    }
}
