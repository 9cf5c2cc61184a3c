/* Included once per element type, with T and NAME defined. The interpolation points are
 * 0, 1, -1, 2, -2 and infinity (A. Lavin, S. Gray, "Fast Algorithms for Convolutional Neural
 * Networks", CVPR 2016, section 4.3).
 */

/* v[e * element + c] = (B^T d B)[e] for the tile whose 36 places d points to. The number of
 * channels is a multiple of the vector's lanes. */
DIRECT_TARGET static void NAME(winograd_input)(
    const T *const *d, ptrdiff_t channels, T *v, ptrdiff_t element)
{
    enum { LANES = VECTOR_BYTES / sizeof(T) };
    typedef T V __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(T)), may_alias));
    for (ptrdiff_t c = 0; c < channels; c += LANES) {
        V t[6][6];
        for (int j = 0; j < 6; j++) {
            V d0 = *(const V *)(d[j] + c), d1 = *(const V *)(d[6 + j] + c);
            V d2 = *(const V *)(d[12 + j] + c), d3 = *(const V *)(d[18 + j] + c);
            V d4 = *(const V *)(d[24 + j] + c), d5 = *(const V *)(d[30 + j] + c);
            V even = d4 - 4 * d2, odd = d3 - 4 * d1;
            V even2 = d4 - d2, odd2 = 2 * (d3 - d1);
            t[0][j] = 4 * d0 - 5 * d2 + d4;
            t[1][j] = even + odd;
            t[2][j] = even - odd;
            t[3][j] = even2 + odd2;
            t[4][j] = even2 - odd2;
            t[5][j] = 4 * d1 - 5 * d3 + d5;
        }
        T *to = v + c;
        for (int i = 0; i < 6; i++, to += 6 * element) {
            V d0 = t[i][0], d1 = t[i][1], d2 = t[i][2], d3 = t[i][3], d4 = t[i][4], d5 = t[i][5];
            V even = d4 - 4 * d2, odd = d3 - 4 * d1;
            V even2 = d4 - d2, odd2 = 2 * (d3 - d1);
            *(V *)to = 4 * d0 - 5 * d2 + d4;
            *(V *)(to + element) = even + odd;
            *(V *)(to + 2 * element) = even - odd;
            *(V *)(to + 3 * element) = even2 + odd2;
            *(V *)(to + 4 * element) = even2 - odd2;
            *(V *)(to + 5 * element) = 4 * d1 - 5 * d3 + d5;
        }
    }
}

/* out[i * 4 + j][0:cols] = (A^T m A)[i, j] + bias, for the places that are not NULL; m[e *
 * element] holds two vectors. Returns whether any value was infinite or NaN. */
DIRECT_TARGET static int NAME(winograd_output)(
    const T *m, ptrdiff_t element, const T *bias, T *const *out, int cols)
{
    enum { LANES = VECTOR_BYTES / sizeof(T) };
    typedef T V __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(T)), may_alias));
    V wild = {0}; /* 0 times a value is NaN where the value is not finite */
    for (int half = 0; half < 2; half++, m += LANES) {
        int first = half * LANES;
        V t[4][6];
        V b = {0};
        if (first >= cols) break;
        if (bias) b = *(const V *)(bias + first);
        for (int j = 0; j < 6; j++) {
            const T *at = m + j * element;
            V m0 = *(const V *)at, m1 = *(const V *)(at + 6 * element);
            V m2 = *(const V *)(at + 12 * element), m3 = *(const V *)(at + 18 * element);
            V m4 = *(const V *)(at + 24 * element), m5 = *(const V *)(at + 30 * element);
            V sum = m1 + m2, difference = m1 - m2, sum2 = m3 + m4, difference2 = m3 - m4;
            t[0][j] = m0 + sum + sum2;
            t[1][j] = difference + 2 * difference2;
            t[2][j] = sum + 4 * sum2;
            t[3][j] = difference + 8 * difference2 + m5;
        }
        for (int i = 0; i < 4; i++) {
            V m0 = t[i][0], m5 = t[i][5];
            V sum = t[i][1] + t[i][2], difference = t[i][1] - t[i][2];
            V sum2 = t[i][3] + t[i][4], difference2 = t[i][3] - t[i][4];
            V y[4] = {
                m0 + sum + sum2 + b, difference + 2 * difference2 + b, sum + 4 * sum2 + b,
                difference + 8 * difference2 + m5 + b};
            wild += 0 * (y[0] + y[1]) + 0 * (y[2] + y[3]);
            for (int j = 0; j < 4; j++) {
                T *to = out[i * 4 + j];
                if (!to) continue;
                if (cols - first >= LANES) *(V *)(to + first) = y[j];
                else memcpy(to + first, &y[j], (cols - first) * sizeof(T));
            }
        }
    }
    int any = 0;
    for (int lane = 0; lane < LANES; lane++) any |= wild[lane] != 0;
    return any;
}

/* u[e * element + c * 2 * LANES + k] = (G g G^T)[e] for the kernels g of `used` outputs k, zero
 * for the rest of two vectors. w[tap * step_tap + c * step_c + k * step_k] are the kernels, of
 * which step_c or step_k is 1; the number of channels is a multiple of the vector's lanes. */
DIRECT_TARGET static void NAME(winograd_weights)(
    const T *w, ptrdiff_t step_tap, ptrdiff_t step_c, ptrdiff_t step_k, ptrdiff_t channels,
    int used, T *u, ptrdiff_t element)
{
    enum { LANES = VECTOR_BYTES / sizeof(T) };
    typedef T V __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(T)), may_alias));
    T kernel[9][2 * LANES], stage[9][2 * LANES][LANES];
    memset(kernel, 0, sizeof kernel);
    for (ptrdiff_t c = 0; c < channels; c++) {
        ptrdiff_t lane = c % LANES;
        if (step_k == 1) {
            for (int tap = 0; tap < 9; tap++)
                memcpy(kernel[tap], w + tap * step_tap + c * step_c, used * sizeof(T));
        } else {
            /* The kernels of two outputs are far apart, often by a power of two, where they
             * share cache sets: fetch some channels of each at a time. */
            if (lane == 0)
                for (int tap = 0; tap < 9; tap++)
                    for (int k = 0; k < used; k++)
                        memcpy(stage[tap][k], w + tap * step_tap + c + k * step_k,
                               LANES * sizeof(T));
            for (int tap = 0; tap < 9; tap++)
                for (int k = 0; k < used; k++) kernel[tap][k] = stage[tap][k][lane];
        }
        for (int half = 0; half < 2; half++) {
            T *to = u + (2 * c + half) * LANES;
            V t[6][3];
            for (int j = 0; j < 3; j++) {
                V g0 = *(const V *)&kernel[j][half * LANES];
                V g1 = *(const V *)&kernel[3 + j][half * LANES];
                V g2 = *(const V *)&kernel[6 + j][half * LANES];
                V outer = (g0 + g2) * (T)(-1.0 / 6), inner = g1 * (T)(1.0 / 6);
                V outer2 = g0 * (T)(1.0 / 24) + g2 * (T)(1.0 / 6), inner2 = g1 * (T)(1.0 / 12);
                t[0][j] = g0 * (T)0.25;
                t[1][j] = outer - inner;
                t[2][j] = outer + inner;
                t[3][j] = outer2 + inner2;
                t[4][j] = outer2 - inner2;
                t[5][j] = g2;
            }
            for (int i = 0; i < 6; i++, to += 6 * element) {
                V g0 = t[i][0], g1 = t[i][1], g2 = t[i][2];
                V outer = (g0 + g2) * (T)(-1.0 / 6), inner = g1 * (T)(1.0 / 6);
                V outer2 = g0 * (T)(1.0 / 24) + g2 * (T)(1.0 / 6), inner2 = g1 * (T)(1.0 / 12);
                *(V *)to = g0 * (T)0.25;
                *(V *)(to + element) = outer - inner;
                *(V *)(to + 2 * element) = outer + inner;
                *(V *)(to + 3 * element) = outer2 + inner2;
                *(V *)(to + 4 * element) = outer2 - inner2;
                *(V *)(to + 5 * element) = g2;
            }
        }
    }
}
