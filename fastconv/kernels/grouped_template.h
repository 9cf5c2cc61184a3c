/* Included once per element type, with T, INDEX (an integer of its size) and NAME defined. */

#define V NAME(vector)
#define M NAME(mask)
#define LANES ((int)(VECTOR_BYTES / sizeof(T)))
#define BODY static inline __attribute__((always_inline))

typedef T V __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(T)), may_alias));
typedef INDEX M __attribute__((vector_size(VECTOR_BYTES)));

/* Lane l: channel i of the group, of W channels, a power of two, that l belongs to. */
BODY V NAME(member)(V x, int W, int i)
{
    if (W == 1) return x;
#ifdef __clang__
    V out;
    for (int l = 0; l < LANES; l++) out[l] = x[l / W * W + i];
    return out;
#else
    static const INDEX lanes[] = VECTOR_LANES;
    M from;
    memcpy(&from, lanes, sizeof from);
    return __builtin_shuffle(x, (from & -W) + i);
#endif
}

/* out[p][c] = bias[c] + sum over t, i of rows[t * stride + p][c's group, i] * w[t][i][c] for four
 * pixels and `some` channels from c on, up to a vector of them, and the epilogue. */
BODY void NAME(channels_of)(
    int W, ptrdiff_t c, ptrdiff_t some, const void *const *rows, ptrdiff_t taps, ptrdiff_t stride,
    ptrdiff_t channels, const T *weights, const T *bias, void *const *out,
    const Epilogue *epilogue)
{
    const T *const *row = (const T *const *)rows, *w = weights + c;
    T *const *to = (T *const *)out;
    V y[GROUPED_PIXELS];
    for (int p = 0; p < GROUPED_PIXELS; p++) {
        y[p] = EPILOGUE(load)(bias + c, some);
        /* the lines that the next tile will want are mostly behind this one's */
        PREFETCH_TO_WRITE(to[p] + GROUPED_PIXELS * channels + c);
    }
    for (ptrdiff_t t = 0; t < taps; t++, row += stride, w += W * channels) {
        V x[GROUPED_PIXELS];
        for (int p = 0; p < GROUPED_PIXELS; p++) x[p] = EPILOGUE(load)(row[p] + c, some);
        for (int i = 0; i < W; i++) {
            V weight = EPILOGUE(load)(w + i * channels, some);
            for (int p = 0; p < GROUPED_PIXELS; p++)
                y[p] += NAME(member)(x[p], W, i) * weight;
        }
    }
    if (epilogue->add)
        for (int p = 0; p < GROUPED_PIXELS; p++)
            y[p] += EPILOGUE(residual)(to[p] + c, some, epilogue);
    if (epilogue->act) EPILOGUE(activate)(y, GROUPED_PIXELS, epilogue);
    for (int p = 0; p < GROUPED_PIXELS; p++) EPILOGUE(store)(to[p] + c, some, y[p]);
}

/* The same of all channels. Pixels may be the same: each is written as a whole. */
BODY void NAME(tile_of)(
    int W, const void *const *rows, ptrdiff_t taps, ptrdiff_t stride, ptrdiff_t channels,
    const T *weights, const T *bias, void *const *out, const Epilogue *epilogue)
{
    ptrdiff_t c = 0;
    for (; c + LANES <= channels; c += LANES)
        NAME(channels_of)(W, c, LANES, rows, taps, stride, channels, weights, bias, out, epilogue);
    if (c < channels)
        NAME(channels_of)(
            W, c, channels - c, rows, taps, stride, channels, weights, bias, out, epilogue);
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

/* Depthwise, a line of pixels: out[p * out_step + c] = bias[c] + sum over r, t of
 * x[r][shift + (p * S + t) * channels + c] * w[r][t * channels + c] for LINE_PIXELS p and R taps t,
 * and the epilogue. Each input is loaded once for all pixels that read it; of the last S lines,
 * what the next pixels read first, `ahead` values on, is fetched. There is a vector of channels at
 * least; the last one may overlap the one before. */
BODY void NAME(line_of)(
    int R, int S, int ends, const void *const *x, ptrdiff_t shift, const void *const *w,
    ptrdiff_t rows, ptrdiff_t channels, const T *bias, T *out, ptrdiff_t out_step,
    ptrdiff_t ahead, const Epilogue *epilogue)
{
    for (ptrdiff_t next = LANES, c = 0; c < channels; c = next, next += LANES) {
        if (next > channels) c = channels - LANES;
        V y[LINE_PIXELS];
        for (int p = 0; p < LINE_PIXELS; p++) {
            y[p] = *(const V *)(bias + c);
            PREFETCH_TO_WRITE(out + (p + LINE_PIXELS) * out_step + c);
        }
        if (ends && epilogue->add)
            for (int p = 0; p < LINE_PIXELS; p++)
                EPILOGUE(fetch)(out + (p + LINE_PIXELS) * out_step + c, epilogue);
        for (ptrdiff_t r = 0; r < rows; r++) {
            const T *at = (const T *)x[r] + shift + c, *weights = (const T *)w[r] + c;
            V tap[MOST_LINE_TAPS];
            for (int t = 0; t < R; t++) tap[t] = *(const V *)(weights + t * channels);
            if (r >= rows - S) /* lines that are read for the first time */
                for (int j = 0; j < LINE_PIXELS * S; j++)
                    PREFETCH_TO_READ(at + ahead + j * channels);
            for (int j = 0; j < (LINE_PIXELS - 1) * S + R; j++) {
                V value = *(const V *)(at + j * channels);
                for (int p = 0; p < LINE_PIXELS; p++)
                    if (j >= p * S && j < p * S + R) y[p] += value * tap[j - p * S];
            }
        }
        if (ends && epilogue->add)
            for (int p = 0; p < LINE_PIXELS; p++)
                y[p] += EPILOGUE(residual)(out + p * out_step + c, LANES, epilogue);
        if (ends && epilogue->act) EPILOGUE(activate)(y, LINE_PIXELS, epilogue);
        for (int p = 0; p < LINE_PIXELS; p++) *(V *)(out + p * out_step + c) = y[p];
    }
}

/* The same of LINE_HEIGHT lines at once, `out_line` values apart, and a square kernel: an input is
 * loaded once for all pixels of all lines that read it. The lines of the input follow one another,
 * those of a plane `w` then those of the next; NULL stands for one that is outside. */
BODY void NAME(tall_of)(
    int R, int S, const void *const *x, ptrdiff_t shift, const void *const *w, ptrdiff_t planes,
    ptrdiff_t channels, const T *bias, T *out, ptrdiff_t out_step, ptrdiff_t out_line,
    const Epilogue *epilogue)
{
    const int lines = (LINE_HEIGHT - 1) * S + R;
    for (ptrdiff_t next = LANES, c = 0; c < channels; c = next, next += LANES) {
        if (next > channels) c = channels - LANES;
        V y[LINE_HEIGHT][LINE_PIXELS];
        UNROLLED
        for (int h = 0; h < LINE_HEIGHT; h++)
            UNROLLED
            for (int p = 0; p < LINE_PIXELS; p++) {
                y[h][p] = *(const V *)(bias + c);
                if (LINE_FETCH)
                    PREFETCH_TO_WRITE(out + h * out_line + (p + LINE_PIXELS) * out_step + c);
            }
        for (ptrdiff_t a = 0; a < planes; a++) {
            const T *weights = (const T *)w[a] + c;
            UNROLLED
            for (int r = 0; r < lines; r++) {
                if (x[a * lines + r] == NULL) continue;
                const T *at = (const T *)x[a * lines + r] + shift + c;
                if (LINE_FETCH && r >= lines - LINE_HEIGHT * S)
                    for (int j = R - S; j < (LINE_PIXELS - 1) * S + R; j++)
                        PREFETCH_TO_READ(at + (j + LINE_PIXELS * S) * channels);
                UNROLLED
                for (int j = 0; j < (LINE_PIXELS - 1) * S + R; j++) {
                    V value = *(const V *)(at + j * channels);
                    UNROLLED
                    for (int h = 0; h < LINE_HEIGHT; h++)
                        UNROLLED
                        for (int p = 0; p < LINE_PIXELS; p++) {
                            const int b = r - h * S, t = j - p * S;
                            if (b >= 0 && b < R && t >= 0 && t < R)
                                y[h][p] += value * *(const V *)(weights + (b * R + t) * channels);
                        }
                }
            }
        }
        UNROLLED
        for (int h = 0; h < LINE_HEIGHT; h++) {
            T *to = out + h * out_line + c;
            if (epilogue->add)
                UNROLLED
                for (int p = 0; p < LINE_PIXELS; p++)
                    y[h][p] += EPILOGUE(residual)(to + p * out_step, LANES, epilogue);
            if (epilogue->act) EPILOGUE(activate)(y[h], LINE_PIXELS, epilogue);
            UNROLLED
            for (int p = 0; p < LINE_PIXELS; p++) *(V *)(to + p * out_step) = y[h][p];
        }
    }
}

/* The same for a pixel of each line and the taps [first, last) along it, those that are inside. */
BODY void NAME(tall_edge_of)(
    int R, int S, const void *const *x, ptrdiff_t shift, const void *const *w, ptrdiff_t planes,
    ptrdiff_t first, ptrdiff_t last, ptrdiff_t channels, const T *bias, T *out, ptrdiff_t out_line,
    const Epilogue *epilogue)
{
    const int lines = (LINE_HEIGHT - 1) * S + R;
    for (ptrdiff_t next = LANES, c = 0; c < channels; c = next, next += LANES) {
        if (next > channels) c = channels - LANES;
        V y[LINE_HEIGHT];
        UNROLLED
        for (int h = 0; h < LINE_HEIGHT; h++) y[h] = *(const V *)(bias + c);
        for (ptrdiff_t a = 0; a < planes; a++)
            UNROLLED
            for (int r = 0; r < lines; r++) {
                if (x[a * lines + r] == NULL) continue;
                for (ptrdiff_t t = first; t < last; t++) {
                    const ptrdiff_t place = t * channels + c;
                    V value = *(const V *)((const T *)x[a * lines + r] + (shift + place));
                    const T *weights = (const T *)w[a] + place;
                    UNROLLED
                    for (int h = 0; h < LINE_HEIGHT; h++)
                        if (r - h * S >= 0 && r - h * S < R)
                            y[h] += value * *(const V *)(weights + (r - h * S) * R * channels);
                }
            }
        UNROLLED
        for (int h = 0; h < LINE_HEIGHT; h++) {
            T *to = out + h * out_line + c;
            if (epilogue->add) y[h] += EPILOGUE(residual)(to, LANES, epilogue);
            if (epilogue->act) EPILOGUE(activate)(&y[h], 1, epilogue);
            *(V *)to = y[h];
        }
    }
}

/* As line_of for a pixel and `taps` taps, those that are inside. */
static void NAME(line_edge)(
    const void *const *x, ptrdiff_t shift, const void *const *w, ptrdiff_t first, ptrdiff_t rows,
    ptrdiff_t taps, ptrdiff_t channels, const void *bias, void *out, const Epilogue *epilogue)
{
    for (ptrdiff_t next = LANES, c = 0; c < channels; c = next, next += LANES) {
        if (next > channels) c = channels - LANES;
        V y = *(const V *)((const T *)bias + c);
        for (ptrdiff_t r = 0; r < rows; r++)
            for (ptrdiff_t t = 0; t < taps; t++)
                y += *(const V *)((const T *)x[r] + shift + t * channels + c)
                     * *(const V *)((const T *)w[r] + first + t * channels + c);
        if (epilogue->add) y += EPILOGUE(residual)((T *)out + c, LANES, epilogue);
        if (epilogue->act) EPILOGUE(activate)(&y, 1, epilogue);
        *(V *)((T *)out + c) = y;
    }
}

/* dw[r][t * channels + c] += sum over p of x[r][(p * S + t) * channels + c] * dy[p * channels + c]
 * over the pixels of a line, of which those in [inner, outer) have all taps inside of its `size`
 * places; the first tap of pixel 0 is at place `first`. */
BODY void NAME(line_weight_of)(
    int R, int S, const void *const *x, const T *dy, void *const *dw, ptrdiff_t rows,
    ptrdiff_t channels, ptrdiff_t pixels, ptrdiff_t inner, ptrdiff_t outer, ptrdiff_t first,
    ptrdiff_t size)
{
    for (ptrdiff_t c = 0; c + LANES <= channels; c += LANES)
        for (ptrdiff_t r = 0; r < rows; r++) {
            const T *line = (const T *)x[r] + c;
            V s[2][MOST_LINE_TAPS]; /* two sums, to hide the latency of additions */
            ptrdiff_t p = 0;
            for (int t = 0; t < R; t++) s[0][t] = s[1][t] = (V){0};
            while (p < pixels) {
                const T *at = line + (first + p * S) * channels;
                if (p >= inner && p + LINE_PIXELS <= outer) {
                    V grad[LINE_PIXELS];
                    for (int q = 0; q < LINE_PIXELS; q++)
                        grad[q] = *(const V *)(dy + (p + q) * channels + c);
                    for (int j = 0; j < (LINE_PIXELS - 1) * S + R; j++) {
                        V value = *(const V *)(at + j * channels);
                        for (int q = 0; q < LINE_PIXELS; q++)
                            if (j >= q * S && j < q * S + R)
                                s[q % 2][j - q * S] += value * grad[q];
                    }
                    p += LINE_PIXELS;
                    continue;
                }
                V grad = *(const V *)(dy + p * channels + c);
                for (int t = 0; t < R; t++)
                    if (first + p * S + t >= 0 && first + p * S + t < size)
                        s[0][t] += *(const V *)(at + t * channels) * grad;
                p++;
            }
            for (int t = 0; t < R; t++)
                *(V *)((T *)dw[r] + t * channels + c) += s[0][t] + s[1][t];
        }
    for (ptrdiff_t c = channels - channels % LANES; c < channels; c++)
        for (ptrdiff_t r = 0; r < rows; r++)
            for (int t = 0; t < R; t++) {
                T sum = 0;
                for (ptrdiff_t p = 0; p < pixels; p++) {
                    ptrdiff_t place = first + p * S + t;
                    if (place >= 0 && place < size)
                        sum += ((const T *)x[r])[place * channels + c] * dy[p * channels + c];
                }
                ((T *)dw[r])[t * channels + c] += sum;
            }
}

/* s[b][t] += sum over h and the P pixels p of x[h * S + b][(p * S + t) * channels] * dy[h][p],
 * where tap t is in [low, high). */
BODY void NAME(tall_products)(
    int R, int S, int P, const void *const *x, ptrdiff_t shift, const T *dy, ptrdiff_t dy_line,
    ptrdiff_t channels, ptrdiff_t low, ptrdiff_t high, V s[MOST_LINE_TAPS][MOST_LINE_TAPS])
{
    V grad[LINE_HEIGHT][LINE_PIXELS];
    UNROLLED
    for (int h = 0; h < LINE_HEIGHT; h++)
        UNROLLED
        for (int p = 0; p < P; p++) grad[h][p] = *(const V *)(dy + h * dy_line + p * channels);
    UNROLLED
    for (int r = 0; r < (LINE_HEIGHT - 1) * S + R; r++) {
        if (x[r] == NULL) continue;
        UNROLLED
        for (int j = 0; j < (P - 1) * S + R; j++) {
            if (P == 1 && (j < low || j >= high)) continue;
            V value = *(const V *)((const T *)x[r] + (shift + j * channels));
            UNROLLED
            for (int h = 0; h < LINE_HEIGHT; h++)
                UNROLLED
                for (int p = 0; p < P; p++) {
                    const int b = r - h * S, t = j - p * S;
                    if (b >= 0 && b < R && t >= 0 && t < R) s[b][t] += value * grad[h][p];
                }
        }
    }
}

/* As line_weight_of for LINE_HEIGHT lines at once, `dy_line` values apart, and a square kernel: an
 * input is loaded once for all pixels that read it, and all sums stay in registers. Lines of the
 * input are given as to tall_of; the channels are whole vectors. */
BODY void NAME(tall_weight_of)(
    int R, int S, const void *const *x, const T *dy, ptrdiff_t dy_line, void *const *dw,
    ptrdiff_t planes, ptrdiff_t channels, ptrdiff_t pixels, ptrdiff_t inner, ptrdiff_t outer,
    ptrdiff_t first, ptrdiff_t size)
{
    for (ptrdiff_t c = 0; c < planes * channels; c += LANES) {
        const ptrdiff_t a = c / channels, k = c % channels;
        const void *const *lines = x + a * ((LINE_HEIGHT - 1) * S + R);
        V s[MOST_LINE_TAPS][MOST_LINE_TAPS];
        UNROLLED
        for (int b = 0; b < R; b++)
            UNROLLED
            for (int t = 0; t < R; t++) s[b][t] = (V){0};
        for (ptrdiff_t p = 0; p < pixels;) {
            const ptrdiff_t place = first + p * S;
            if (p >= inner && p + LINE_PIXELS <= outer) {
                NAME(tall_products)(R, S, LINE_PIXELS, lines, place * channels + k,
                                    dy + p * channels + k, dy_line, channels, 0, R, s);
                p += LINE_PIXELS;
            } else {
                NAME(tall_products)(R, S, 1, lines, place * channels + k, dy + p * channels + k,
                                    dy_line, channels, -place, size - place, s);
                p++;
            }
        }
        UNROLLED
        for (int b = 0; b < R; b++)
            UNROLLED
            for (int t = 0; t < R; t++) *(V *)((T *)dw[a] + (b * R + t) * channels + k) += s[b][t];
    }
}

#define DEFINE_LINE(R, S)                                                                       \
    static void NAME(line##R##_##S)(                                                            \
        const void *const *x, ptrdiff_t shift, const void *const *w, ptrdiff_t rows,            \
        ptrdiff_t channels, const void *bias, void *out, ptrdiff_t out_step, ptrdiff_t ahead,   \
        const Epilogue *epilogue)                                                               \
    {                                                                                           \
        if (epilogue->add || epilogue->act)                                                     \
            NAME(line_of)(R, S, 1, x, shift, w, rows, channels, bias, out, out_step, ahead,     \
                          epilogue);                                                            \
        else                                                                                    \
            NAME(line_of)(R, S, 0, x, shift, w, rows, channels, bias, out, out_step, ahead,     \
                          epilogue);                                                            \
    }                                                                                           \
    static void NAME(line_weight##R##_##S)(                                                     \
        const void *const *x, const void *dy, void *const *dw, ptrdiff_t rows,                  \
        ptrdiff_t channels, ptrdiff_t pixels, ptrdiff_t inner, ptrdiff_t outer,                 \
        ptrdiff_t first, ptrdiff_t size)                                                        \
    {                                                                                           \
        NAME(line_weight_of)(                                                                   \
            R, S, x, dy, dw, rows, channels, pixels, inner, outer, first, size);                \
    }
#define DEFINE_TALL(R, S)                                                                       \
    static void NAME(tall##R##_##S)(                                                            \
        const void *const *x, ptrdiff_t shift, const void *const *w, ptrdiff_t planes,          \
        ptrdiff_t channels, const void *bias, void *out, ptrdiff_t out_step,                    \
        ptrdiff_t out_line, const Epilogue *epilogue)                                           \
    {                                                                                           \
        NAME(tall_of)(R, S, x, shift, w, planes, channels, bias, out, out_step, out_line,       \
                      epilogue);                                                                \
    }                                                                                           \
    static void NAME(tall_edge##R##_##S)(                                                       \
        const void *const *x, ptrdiff_t shift, const void *const *w, ptrdiff_t planes,          \
        ptrdiff_t first, ptrdiff_t last, ptrdiff_t channels, const void *bias, void *out,       \
        ptrdiff_t out_line, const Epilogue *epilogue)                                           \
    {                                                                                           \
        NAME(tall_edge_of)(R, S, x, shift, w, planes, first, last, channels, bias, out,         \
                           out_line, epilogue);                                                 \
    }
#define DEFINE_TALL_WEIGHT(R, S)                                                                \
    static void NAME(tall_weight##R##_##S)(                                                     \
        const void *const *x, const void *dy, ptrdiff_t dy_line, void *const *dw,               \
        ptrdiff_t planes, ptrdiff_t channels, ptrdiff_t pixels, ptrdiff_t inner,                \
        ptrdiff_t outer, ptrdiff_t first, ptrdiff_t size)                                       \
    {                                                                                           \
        NAME(tall_weight_of)(R, S, x, dy, dy_line, dw, planes, channels, pixels, inner, outer,  \
                             first, size);                                                      \
    }
DEFINE_LINE(1, 1)
DEFINE_LINE(2, 1)
DEFINE_LINE(3, 1)
DEFINE_LINE(3, 2)
DEFINE_LINE(5, 1)
DEFINE_LINE(5, 2)
DEFINE_TALL(3, 1)
DEFINE_TALL(3, 2)
DEFINE_TALL(5, 1)
DEFINE_TALL(5, 2)
DEFINE_TALL_WEIGHT(3, 1)
DEFINE_TALL_WEIGHT(3, 2)
#undef DEFINE_LINE
#undef DEFINE_TALL
#undef DEFINE_TALL_WEIGHT

#define DEFINE_GROUPED(W)                                                                       \
    static void NAME(tile##W)(                                                                  \
        const void *const *rows, ptrdiff_t taps, ptrdiff_t stride, ptrdiff_t channels,          \
        const void *w, const void *bias, void *const *out, const Epilogue *epilogue)            \
    {                                                                                           \
        NAME(tile_of)(W, rows, taps, stride, channels, w, bias, out, epilogue);                 \
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
    {NULL, NAME(weight1), NAME(weight2), NULL, NAME(weight4)},
    {{NULL},
     {NULL, NAME(line1_1)},
     {NULL, NAME(line2_1)},
     {NULL, NAME(line3_1), NAME(line3_2)},
     {NULL},
     {NULL, NAME(line5_1), NAME(line5_2)}},
    {{NULL},
     {NULL},
     {NULL},
     {NULL, NAME(tall3_1), NAME(tall3_2)},
     {NULL},
     {NULL, NAME(tall5_1), NAME(tall5_2)}},
    {{NULL},
     {NULL},
     {NULL},
     {NULL, NAME(tall_edge3_1), NAME(tall_edge3_2)},
     {NULL},
     {NULL, NAME(tall_edge5_1), NAME(tall_edge5_2)}},
    {{NULL},
     {NULL, NAME(line_weight1_1)},
     {NULL, NAME(line_weight2_1)},
     {NULL, NAME(line_weight3_1), NAME(line_weight3_2)},
     {NULL},
     {NULL, NAME(line_weight5_1), NAME(line_weight5_2)}},
    {{NULL},
     {NULL},
     {NULL},
     {NULL, NAME(tall_weight3_1), NAME(tall_weight3_2)}},
    NAME(line_edge)};

#undef V
#undef M
#undef LANES
#undef BODY
