/* Included once per element type, with T and NAME defined. */

/* out[p][c] = bias[c] + sum over t of rows[t * stride + p][c] * w[t * channels + c], for four
 * pixels; bias may be NULL. */
static void NAME(depthwise_tile)(
    const T *const *rows, ptrdiff_t taps, ptrdiff_t stride, ptrdiff_t channels, const T *w,
    const T *bias, T *const *out)
{
    enum { LANES = VECTOR_BYTES / sizeof(T) };
    typedef T V __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(T)), may_alias));
    ptrdiff_t c = 0;
    for (; c + LANES <= channels; c += LANES) {
        V y0 = {0};
        if (bias) y0 = *(const V *)(bias + c);
        V y1 = y0, y2 = y0, y3 = y0;
        for (ptrdiff_t t = 0; t < taps; t++) {
            const T *const *row = rows + t * stride;
            V weight = *(const V *)(w + t * channels + c);
            y0 += *(const V *)(row[0] + c) * weight;
            y1 += *(const V *)(row[1] + c) * weight;
            y2 += *(const V *)(row[2] + c) * weight;
            y3 += *(const V *)(row[3] + c) * weight;
        }
        *(V *)(out[0] + c) = y0;
        *(V *)(out[1] + c) = y1;
        *(V *)(out[2] + c) = y2;
        *(V *)(out[3] + c) = y3;
    }
    for (; c < channels; c++)
        for (int p = 0; p < DEPTHWISE_PIXELS; p++) {
            T y = bias ? bias[c] : 0;
            for (ptrdiff_t t = 0; t < taps; t++)
                y += rows[t * stride + p][c] * w[t * channels + c];
            out[p][c] = y;
        }
}

/* dw[c] += sum over p of rows[p][c] * dy[p][c]: one tap over a strip of pixels. Four sums a
 * channel hide the latency of the additions. */
static void NAME(depthwise_weight)(
    const T *const *rows, const T *const *dy, ptrdiff_t pixels, ptrdiff_t channels, T *dw)
{
    enum { LANES = VECTOR_BYTES / sizeof(T) };
    typedef T V __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(T)), may_alias));
    ptrdiff_t c = 0;
    for (; c + LANES <= channels; c += LANES) {
        V s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0};
        ptrdiff_t p = 0;
        for (; p + 4 <= pixels; p += 4) {
            s0 += *(const V *)(rows[p] + c) * *(const V *)(dy[p] + c);
            s1 += *(const V *)(rows[p + 1] + c) * *(const V *)(dy[p + 1] + c);
            s2 += *(const V *)(rows[p + 2] + c) * *(const V *)(dy[p + 2] + c);
            s3 += *(const V *)(rows[p + 3] + c) * *(const V *)(dy[p + 3] + c);
        }
        for (; p < pixels; p++) s0 += *(const V *)(rows[p] + c) * *(const V *)(dy[p] + c);
        *(V *)(dw + c) += (s0 + s1) + (s2 + s3);
    }
    for (; c < channels; c++) {
        T s = 0;
        for (ptrdiff_t p = 0; p < pixels; p++) s += rows[p][c] * dy[p][c];
        dw[c] += s;
    }
}
