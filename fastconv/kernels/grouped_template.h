/* Included once per element type, with T, INDEX (an integer of its size) and NAME defined. */

#define V NAME(vector)
#define M NAME(mask)
#define LANES ((int)(VECTOR_BYTES / sizeof(T)))
#define BODY static inline __attribute__((always_inline))

typedef T V __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(T)), may_alias));
typedef INDEX M __attribute__((vector_size(VECTOR_BYTES)));

/* Lane l: channel i of the group, of W channels, that l belongs to. */
BODY V NAME(member)(V x, int W, int i)
{
    if (W == 1) return x;
#ifdef __clang__
    V out;
    for (int l = 0; l < LANES; l++) out[l] = x[l / W * W + i];
    return out;
#else
    M from;
    for (int l = 0; l < LANES; l++) from[l] = l / W * W + i;
    return __builtin_shuffle(x, from);
#endif
}

/* out[p][c] = bias[c] + sum over t, i of rows[t * stride + p][c's group, i] * w[t][i][c] for four
 * pixels. */
BODY void NAME(tile_of)(
    int W, const void *const *rows, ptrdiff_t taps, ptrdiff_t stride, ptrdiff_t channels,
    const T *weights, const T *bias, void *const *out)
{
    const T *const *first = (const T *const *)rows;
    T *const *to = (T *const *)out;
    ptrdiff_t c = 0;
    for (; c + LANES <= channels; c += LANES) {
        const T *w = weights + c;
        V y[GROUPED_PIXELS];
        for (int p = 0; p < GROUPED_PIXELS; p++) {
            y[p] = *(const V *)(bias + c);
            /* the lines that the next tile will want are mostly behind this one's */
            PREFETCH_TO_WRITE(to[p] + GROUPED_PIXELS * channels + c);
        }
        for (ptrdiff_t t = 0; t < taps; t++, w += W * channels) {
            const T *const *row = first + t * stride;
            V x[GROUPED_PIXELS];
            for (int p = 0; p < GROUPED_PIXELS; p++) x[p] = *(const V *)(row[p] + c);
            for (int i = 0; i < W; i++) {
                V weight = *(const V *)(w + i * channels);
                for (int p = 0; p < GROUPED_PIXELS; p++)
                    y[p] += NAME(member)(x[p], W, i) * weight;
            }
        }
        for (int p = 0; p < GROUPED_PIXELS; p++) *(V *)(to[p] + c) = y[p];
    }
    for (; c < channels; c++)
        for (int p = 0; p < GROUPED_PIXELS; p++) {
            T y = bias[c];
            for (ptrdiff_t t = 0; t < taps; t++)
                for (int i = 0; i < W; i++)
                    y += first[t * stride + p][c / W * W + i] * weights[(t * W + i) * channels + c];
            to[p][c] = y;
        }
}

/* dw[t][i][c] += sum over p of rows[t * stride + p][c's group, i] * dy[p][c] over a strip of
 * pixels. Several sums hide the latency of the additions; all taps of a vector of channels follow
 * one another, while their inputs are in the first cache. */
BODY void NAME(weight_of)(
    int W, const void *const *rows, ptrdiff_t taps, ptrdiff_t stride, const void *const *grads,
    ptrdiff_t pixels, ptrdiff_t channels, T *dw)
{
    enum { PARTS = 4 };
    const T *const *first = (const T *const *)rows, *const *dy = (const T *const *)grads;
    const int parts = PARTS / W;
    ptrdiff_t c = 0;
    for (; c + LANES <= channels; c += LANES)
        for (ptrdiff_t t = 0; t < taps; t++) {
            const T *const *x = first + t * stride;
            T *to = dw + t * W * channels + c;
            V s[PARTS][GROUPED_WIDEST];
            ptrdiff_t p = 0;
            for (int part = 0; part < parts; part++)
                for (int i = 0; i < W; i++) s[part][i] = (V){0};
            for (; p + parts <= pixels; p += parts)
                for (int part = 0; part < parts; part++) {
                    V value = *(const V *)(x[p + part] + c), grad = *(const V *)(dy[p + part] + c);
                    for (int i = 0; i < W; i++) s[part][i] += NAME(member)(value, W, i) * grad;
                }
            for (; p < pixels; p++) {
                V value = *(const V *)(x[p] + c), grad = *(const V *)(dy[p] + c);
                for (int i = 0; i < W; i++) s[0][i] += NAME(member)(value, W, i) * grad;
            }
            for (int i = 0; i < W; i++) {
                V sum = s[0][i];
                for (int part = 1; part < parts; part++) sum += s[part][i];
                *(V *)(to + i * channels) += sum;
            }
        }
    for (; c < channels; c++)
        for (ptrdiff_t t = 0; t < taps; t++)
            for (int i = 0; i < W; i++) {
                T sum = 0;
                for (ptrdiff_t p = 0; p < pixels; p++)
                    sum += first[t * stride + p][c / W * W + i] * dy[p][c];
                dw[(t * W + i) * channels + c] += sum;
            }
}

#define DEFINE_GROUPED(W)                                                                       \
    static void NAME(tile##W)(                                                                  \
        const void *const *rows, ptrdiff_t taps, ptrdiff_t stride, ptrdiff_t channels,          \
        const void *w, const void *bias, void *const *out)                                      \
    {                                                                                           \
        NAME(tile_of)(W, rows, taps, stride, channels, w, bias, out);                           \
    }                                                                                           \
    static void NAME(weight##W)(                                                                \
        const void *const *rows, ptrdiff_t taps, ptrdiff_t stride, const void *const *dy,       \
        ptrdiff_t pixels, ptrdiff_t channels, void *dw)                                         \
    {                                                                                           \
        NAME(weight_of)(W, rows, taps, stride, dy, pixels, channels, dw);                       \
    }
DEFINE_GROUPED(1)
DEFINE_GROUPED(2)
DEFINE_GROUPED(4)
#undef DEFINE_GROUPED

static const grouped_kernels NAME(kernels) = {
    {NULL, NAME(tile1), NAME(tile2), NULL, NAME(tile4)},
    {NULL, NAME(weight1), NAME(weight2), NULL, NAME(weight4)}};

#undef V
#undef M
#undef LANES
#undef BODY
