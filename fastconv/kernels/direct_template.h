/* Included once per element type, with T, INDEX (an integer of its size) and NAME defined. */

#define V NAME(vector)
#define LANES ((ptrdiff_t)(VECTOR_BYTES / sizeof(T)))
/* Not inlined: a caller's variables would take registers from the loop. */
#define KERNEL static __attribute__((noinline)) void
#define BODY static inline __attribute__((always_inline)) void

typedef T V __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(T)), may_alias));

BODY NAME(clear)(V *c, int count)
{
    UNROLLED for (int i = 0; i < count; i++) c[i] = (V){0};
}

/* out[p][k] = bias[k] + sum over r, i of rows[r * stride + p][i] * w[panel of k][r * run + i][k]
 * for the first `pixels` of P pixels and `cols` outputs k, up to N vectors of a panel of `width`;
 * all P row pointers must be readable, `w` and `bias` are padded to whole panels. The epilogue
 * follows. What lies `ahead` values on in every row is fetched, unless that is 0. */
BODY NAME(tile_of)(
    int P, int N, int width, int whole, int ends, const void *const *rows, ptrdiff_t runs,
    ptrdiff_t stride, ptrdiff_t run, const T *w, const T *bias, void *const *out,
    ptrdiff_t shift, int pixels, ptrdiff_t cols, const Epilogue *epilogue, ptrdiff_t ahead)
{
    enum { LINE = 64 / sizeof(T) };
    V c[ACCUMULATORS];
    UNROLLED for (int p = 0; p < P; p++) {
        PREFETCH_TO_WRITE((T *)out[p] + shift);
        PREFETCH_TO_WRITE((T *)out[p] + shift + N * LANES - 1);
        UNROLLED for (int n = 0; n < N; n++) c[p * N + n] = *(const V *)(bias + n * LANES);
    }
    if (ends && epilogue->add)
        UNROLLED for (int p = 0; p < P; p++) {
            EPILOGUE(fetch)((T *)out[p] + shift, epilogue);
            EPILOGUE(fetch)((T *)out[p] + shift + N * LANES - 1, epilogue);
        }
    for (ptrdiff_t r = 0; r < runs; r++, rows += stride) {
        const T *a[MOST_PIXELS];
        UNROLLED for (int p = 0; p < P; p++) a[p] = rows[p];
        for (ptrdiff_t i = 0; i < run;) {
            const ptrdiff_t end = ahead && run - i > LINE ? i + LINE : run;
            if (ahead)
                UNROLLED for (int p = 0; p < P; p++) PREFETCH_TO_READ(a[p] + i + ahead);
            for (; i < end; i++, w += width * LANES) {
                V b[3];
                UNROLLED for (int n = 0; n < N; n++) b[n] = *(const V *)(w + n * LANES);
                UNROLLED for (int p = 0; p < P; p++)
                    UNROLLED for (int n = 0; n < N; n++) c[p * N + n] += a[p][i] * b[n];
            }
        }
    }
    if (!whole) {
        for (int p = 0; p < pixels; p++)
            EPILOGUE(row)((T *)out[p] + shift, cols, &c[p * N], epilogue);
        return;
    }
    if (ends && epilogue->add)
        UNROLLED for (int p = 0; p < P; p++)
            UNROLLED for (int n = 0; n < N; n++)
                c[p * N + n] +=
                    EPILOGUE(residual)((T *)out[p] + shift + n * LANES, LANES, epilogue);
    if (ends && epilogue->act) EPILOGUE(activate)(c, P * N, epilogue);
    UNROLLED for (int p = 0; p < P; p++)
        UNROLLED for (int n = 0; n < N; n++)
            *(V *)((T *)out[p] + shift + n * LANES) = c[p * N + n];
}

/* A panel after the other; the last one may be narrower. Whether a tile is whole and ends with an
 * epilogue is known when compiled: the accumulators never leave registers, and tiles of few
 * products ask no more than they need. */
#define PANELS_OF(P, W, TILE_OF)                                                                \
    do {                                                                                        \
        const ptrdiff_t panel = runs * run * W * LANES;                                         \
        for (ptrdiff_t k = 0; k < cols; k += W * LANES, w += panel) {                           \
            const ptrdiff_t left = cols - k;                                                    \
            if (left >= W * LANES && pixels == P) {                                             \
                if (epilogue->add || epilogue->act) TILE_OF(W, 1, 1, W * LANES);                \
                else TILE_OF(W, 1, 0, W * LANES);                                               \
            }                                                                                   \
            else if (left <= LANES) TILE_OF(1, 0, 1, left);                                     \
            else if (W == 3 && left <= 2 * LANES) TILE_OF(2, 0, 1, left);                       \
            else TILE_OF(W, 0, 1, left < W * LANES ? left : W * LANES);                         \
        }                                                                                       \
    } while (0)

#define DEFINE_TILE(name, P, W)                                                                 \
    KERNEL NAME(name)(                                                                          \
        const void *const *rows, ptrdiff_t runs, ptrdiff_t stride, ptrdiff_t run,               \
        const void *weights, const void *bias, void *const *out, int pixels, ptrdiff_t cols,    \
        const Epilogue *epilogue, ptrdiff_t ahead)                                              \
    {                                                                                           \
        const T *w = weights, *b = bias;                                                        \
        if (ahead) PANELS_OF(P, W, STREAMED_TILE_OF_##P);                                       \
        else PANELS_OF(P, W, TILE_OF_##P);                                                      \
    }
#define TILE_OF_8(N, whole, ends, some)                                                         \
    NAME(tile_of)(8, N, 1, whole, ends, rows, runs, stride, run, w, b + k, out, k, pixels,      \
                  some, epilogue, 0)
#define TILE_OF_6(N, whole, ends, some)                                                         \
    NAME(tile_of)(6, N, 2, whole, ends, rows, runs, stride, run, w, b + k, out, k, pixels,      \
                  some, epilogue, 0)
#define TILE_OF_4(N, whole, ends, some)                                                         \
    NAME(tile_of)(4, N, 3, whole, ends, rows, runs, stride, run, w, b + k, out, k, pixels,      \
                  some, epilogue, 0)
#define STREAMED_TILE_OF_8(N, whole, ends, some)                                                \
    NAME(tile_of)(8, N, 1, whole, ends, rows, runs, stride, run, w, b + k, out, k, pixels,      \
                  some, epilogue, k ? 0 : ahead)
#define STREAMED_TILE_OF_6(N, whole, ends, some)                                                \
    NAME(tile_of)(6, N, 2, whole, ends, rows, runs, stride, run, w, b + k, out, k, pixels,      \
                  some, epilogue, k ? 0 : ahead)
#define STREAMED_TILE_OF_4(N, whole, ends, some)                                                \
    NAME(tile_of)(4, N, 3, whole, ends, rows, runs, stride, run, w, b + k, out, k, pixels,      \
                  some, epilogue, k ? 0 : ahead)
DEFINE_TILE(narrow_tile, 8, 1)
DEFINE_TILE(tile, 6, 2)
DEFINE_TILE(wide_tile, 4, 3)
#undef DEFINE_TILE
#undef TILE_OF_8
#undef TILE_OF_6
#undef TILE_OF_4
#undef STREAMED_TILE_OF_8
#undef STREAMED_TILE_OF_6
#undef STREAMED_TILE_OF_4

/* The same for one pixel and N panels of W vectors: a register tile that reads as many streams of
 * weights as there are panels. */
BODY NAME(pixel_of)(
    int W, int N, const void *const *rows, ptrdiff_t runs, ptrdiff_t stride, ptrdiff_t run,
    const T *w, const T *bias, T *out, ptrdiff_t cols, const Epilogue *epilogue)
{
    const ptrdiff_t panel = runs * run * W * LANES;
    V c[PIXEL_VECTORS];
    UNROLLED for (int n = 0; n < N * W; n++) c[n] = *(const V *)(bias + n * LANES);
    for (ptrdiff_t r = 0; r < runs; r++, rows += stride) {
        const T *a = rows[0];
        for (ptrdiff_t i = 0; i < run; i++, w += W * LANES)
            UNROLLED for (int n = 0; n < N; n++)
                UNROLLED for (int j = 0; j < W; j++)
                    c[n * W + j] += a[i] * *(const V *)(w + n * panel + j * LANES);
    }
    if (cols < N * W * LANES) {
        EPILOGUE(row)(out, cols, c, epilogue);
        return;
    }
    if (epilogue->add)
        UNROLLED for (int n = 0; n < N * W; n++)
            c[n] += EPILOGUE(residual)(out + n * LANES, LANES, epilogue);
    if (epilogue->act) EPILOGUE(activate)(c, N * W, epilogue);
    UNROLLED for (int n = 0; n < N * W; n++) *(V *)(out + n * LANES) = c[n];
}

#define DEFINE_PIXEL(name, W)                                                                   \
    KERNEL NAME(name)(                                                                          \
        const void *const *rows, ptrdiff_t runs, ptrdiff_t stride, ptrdiff_t run,               \
        const void *weights, const void *bias, void *out, ptrdiff_t cols,                       \
        const Epilogue *epilogue)                                                               \
    {                                                                                           \
        const ptrdiff_t depth = runs * run;                                                     \
        ptrdiff_t k = 0;                                                                        \
        for (; cols - k > (PIXEL_VECTORS - W) * LANES; k += PIXEL_VECTORS * LANES)              \
            NAME(pixel_of)(W, PIXEL_VECTORS / W, rows, runs, stride, run,                       \
                           (const T *)weights + k * depth, (const T *)bias + k, (T *)out + k,   \
                           cols - k < PIXEL_VECTORS * LANES ? cols - k : PIXEL_VECTORS * LANES, \
                           epilogue);                                                           \
        for (; k < cols; k += W * LANES)                                                        \
            NAME(pixel_of)(W, 1, rows, runs, stride, run, (const T *)weights + k * depth,       \
                           (const T *)bias + k, (T *)out + k,                                   \
                           cols - k < W * LANES ? cols - k : W * LANES, epilogue);              \
    }
DEFINE_PIXEL(narrow_pixel, 1)
DEFINE_PIXEL(pixel, 2)
DEFINE_PIXEL(wide_pixel, 3)
#undef DEFINE_PIXEL

/* The same for a line of `count` pixels whose inputs and outputs lie evenly: run r of pixel p is at
 * a[p * step + offsets[r]], its outputs at out[p * out_step]. What an idle pixel of the only tile
 * reads must be readable. */
BODY NAME(even_tile_of)(
    int P, int N, int width, int whole, int ends, const T *a, ptrdiff_t step,
    const ptrdiff_t *offsets, ptrdiff_t runs, ptrdiff_t run, const T *w, const T *bias, T *out,
    ptrdiff_t out_step, int pixels, ptrdiff_t cols, const Epilogue *epilogue)
{
    V c[ACCUMULATORS];
    UNROLLED for (int p = 0; p < P; p++) {
        PREFETCH_TO_WRITE(out + p * out_step);
        if (N > 1) PREFETCH_TO_WRITE(out + p * out_step + N * LANES - 1);
        UNROLLED for (int n = 0; n < N; n++) c[p * N + n] = *(const V *)(bias + n * LANES);
    }
    if (ends && epilogue->add)
        UNROLLED for (int p = 0; p < P; p++) {
            EPILOGUE(fetch)(out + p * out_step, epilogue);
            EPILOGUE(fetch)(out + p * out_step + N * LANES - 1, epilogue);
        }
    for (ptrdiff_t r = 0; r < runs; r++) {
        const T *low = a + offsets[r], *high = low + P / 2 * step;
        for (ptrdiff_t i = 0; i < run; i++, low++, high++, w += width * LANES) {
            V b[3];
            UNROLLED for (int n = 0; n < N; n++) b[n] = *(const V *)(w + n * LANES);
            UNROLLED for (int p = 0; p < P / 2; p++)
                UNROLLED for (int n = 0; n < N; n++) {
                    c[p * N + n] += low[p * step] * b[n];
                    c[(P / 2 + p) * N + n] += high[p * step] * b[n];
                }
        }
    }
    if (!whole) {
        for (int p = 0; p < pixels; p++)
            EPILOGUE(row)(out + p * out_step, cols, &c[p * N], epilogue);
        return;
    }
    if (ends && epilogue->add)
        UNROLLED for (int p = 0; p < P; p++)
            UNROLLED for (int n = 0; n < N; n++)
                c[p * N + n] += EPILOGUE(residual)(out + p * out_step + n * LANES, LANES, epilogue);
    if (ends && epilogue->act) EPILOGUE(activate)(c, P * N, epilogue);
    UNROLLED for (int p = 0; p < P; p++)
        UNROLLED for (int n = 0; n < N; n++) *(V *)(out + p * out_step + n * LANES) = c[p * N + n];
}

#define DEFINE_LINE(name, P, W)                                                                 \
    KERNEL NAME(name)(                                                                          \
        const void *from, ptrdiff_t step, const ptrdiff_t *offsets, ptrdiff_t runs,             \
        ptrdiff_t run, const void *weights, const void *biases, void *to, ptrdiff_t out_step,   \
        ptrdiff_t count, ptrdiff_t cols, const Epilogue *epilogue)                              \
    {                                                                                           \
        const int pixels = count < P ? (int)count : P;                                          \
        for (ptrdiff_t first = 0; first < count; first += P) {                                  \
            if (first > count - pixels) first = count - pixels; /* over the tile before */      \
            const T *a = (const T *)from + first * step, *w = weights, *b = biases;             \
            T *out = (T *)to + first * out_step;                                                \
            PANELS_OF(P, W, TILE_OF_##P);                                                       \
        }                                                                                       \
    }
#define TILE_OF_8(N, whole, ends, some)                                                         \
    NAME(even_tile_of)(8, N, 1, whole, ends, a, step, offsets, runs, run, w, b + k, out + k,    \
                       out_step, pixels, some, epilogue)
#define TILE_OF_6(N, whole, ends, some)                                                         \
    NAME(even_tile_of)(6, N, 2, whole, ends, a, step, offsets, runs, run, w, b + k, out + k,    \
                       out_step, pixels, some, epilogue)
#define TILE_OF_4(N, whole, ends, some)                                                         \
    NAME(even_tile_of)(4, N, 3, whole, ends, a, step, offsets, runs, run, w, b + k, out + k,    \
                       out_step, pixels, some, epilogue)
DEFINE_LINE(narrow_line, 8, 1)
DEFINE_LINE(line, 6, 2)
DEFINE_LINE(wide_line, 4, 3)
#undef DEFINE_LINE
#undef TILE_OF_8
#undef TILE_OF_6
#undef TILE_OF_4
#undef PANELS_OF

/* The sum of a vector's lanes, by halves. */
static inline __attribute__((always_inline)) T NAME(sum)(V x)
{
#ifdef __clang__
    T sum = 0;
    for (int l = 0; l < LANES; l++) sum += x[l];
    return sum;
#else
    typedef INDEX M __attribute__((vector_size(VECTOR_BYTES)));
    static const INDEX lanes[] = VECTOR_LANES;
    M from;
    memcpy(&from, lanes, sizeof from);
    for (int half = LANES / 2; half; half /= 2) x += __builtin_shuffle(x, from ^ half);
    return x[0];
#endif
}

/* out[p][k] = bias[k] + sum over r, i of rows[r * stride + p][i] * w[k * depth + r * run + i] for
 * K outputs of P pixels: vectors run along the sum, for outputs too few to fill one. */
BODY NAME(dots_of)(
    int P, int K, const void *const *rows, ptrdiff_t runs, ptrdiff_t stride, ptrdiff_t run,
    const T *w, const T *bias, void *const *out, int pixels, const Epilogue *epilogue)
{
    const ptrdiff_t depth = runs * run;
    V c[DOTS_PIXELS(1)][MOST_DOTS];
    T rest[DOTS_PIXELS(1)][MOST_DOTS];
    for (int p = 0; p < P; p++)
        for (int k = 0; k < K; k++) {
            c[p][k] = (V){0};
            rest[p][k] = bias[k];
        }
    for (ptrdiff_t r = 0; r < runs; r++, rows += stride, w += run) {
        const T *a[DOTS_PIXELS(1)];
        ptrdiff_t i = 0;
        for (int p = 0; p < P; p++) a[p] = rows[p];
        for (; i + LANES <= run; i += LANES) {
            V b[MOST_DOTS];
            for (int k = 0; k < K; k++) b[k] = *(const V *)(w + k * depth + i);
            for (int p = 0; p < P; p++) {
                V value = *(const V *)(a[p] + i);
                for (int k = 0; k < K; k++) c[p][k] += value * b[k];
            }
        }
        for (; i < run; i++)
            for (int p = 0; p < P; p++)
                for (int k = 0; k < K; k++)
                    rest[p][k] += a[p][i] * w[k * depth + i];
    }
    for (int p = 0; p < P; p++)
        for (int k = 0; k < K && p < pixels; k++)
            ((T *)out[p])[k] = rest[p][k] + NAME(sum)(c[p][k]);
    if (epilogue->add || epilogue->act)
        for (int p = 0; p < pixels; p++) {
            V y[MOST_DOTS] = {0};
            memcpy(y, out[p], K * sizeof(T));
            EPILOGUE(row)(out[p], K, y, epilogue);
        }
}

#define DEFINE_DOTS(K)                                                                          \
    KERNEL NAME(dots##K)(                                                                       \
        const void *const *rows, ptrdiff_t runs, ptrdiff_t stride, ptrdiff_t run,               \
        const void *w, const void *bias, void *const *out, int pixels,                          \
        const Epilogue *epilogue)                                                               \
    {                                                                                           \
        NAME(dots_of)(DOTS_PIXELS(K), K, rows, runs, stride, run, w, bias, out, pixels,         \
                      epilogue);                                                                \
    }
DEFINE_DOTS(1)
DEFINE_DOTS(2)
DEFINE_DOTS(3)
#undef DEFINE_DOTS

/* out[p][0 .. N vectors) = sum over r, i of rows[r][p * step + i] * w[r * run + i][...] for three
 * times `threes` p. Of the weights that come next, `pace` bytes from `ahead` on are fetched in every
 * step, unless that is 0. */
BODY NAME(product_of)(
    int N, int threes, const void *const *rows, ptrdiff_t runs, ptrdiff_t step, ptrdiff_t run,
    ptrdiff_t first, const T *w, const char *ahead, ptrdiff_t pace, T *out)
{
    V c[ACCUMULATORS];
    NAME(clear)(c, 3 * threes * N);
    for (ptrdiff_t r = 0; r < runs; r++) {
        const T *at[4];
        UNROLLED for (int g = 0; g < threes; g++)
            at[g] = (const T *)rows[r] + (first + 3 * g) * step;
        for (ptrdiff_t i = 0; i < run; i++, w += N * LANES) {
            V b[MOST_VECTORS];
            UNROLLED for (int n = 0; n < N; n++) b[n] = *(const V *)(w + n * LANES);
            if (pace) {
                PREFETCH_TO_READ(ahead);
                ahead += pace;
            }
            UNROLLED for (int p = 0; p < 3; p++)
                UNROLLED for (int g = 0; g < threes; g++)
                    UNROLLED for (int n = 0; n < N; n++)
                        c[(3 * g + p) * N + n] += at[g][p * step] * b[n];
            UNROLLED for (int g = 0; g < threes; g++) at[g]++;
        }
    }
    UNROLLED for (int i = 0; i < 3 * threes * N; i++) *(V *)(out + i * LANES) = c[i];
}

/* The same for `tiles` times TILE_PIXELS p, of a single vector for two tiles at a time. The weights
 * `ahead` come next and are fetched meanwhile, each tile its part: otherwise the first tile would
 * wait for memory at each. */
#define DEFINE_PRODUCT(N)                                                                       \
    KERNEL NAME(product##N)(                                                                    \
        const void *const *rows, ptrdiff_t runs, ptrdiff_t step, ptrdiff_t run, const void *w,  \
        const void *ahead, void *to, ptrdiff_t tiles)                                           \
    {                                                                                           \
        enum { SOME = N == 1 ? 2 : 1 };                                                         \
        const ptrdiff_t pace = N * VECTOR_BYTES / ((tiles + SOME - 1) / SOME);                  \
        const char *next = ahead;                                                               \
        T *out = to;                                                                            \
        ptrdiff_t tile = 0;                                                                     \
        for (; tile + SOME <= tiles; tile += SOME) {                                            \
            if (ahead)                                                                          \
                NAME(product_of)(N, 2 * SOME, rows, runs, step, run, tile * TILE_PIXELS, w,     \
                                 next, pace, out);                                              \
            else                                                                                \
                NAME(product_of)(N, 2 * SOME, rows, runs, step, run, tile * TILE_PIXELS, w,     \
                                 NULL, 0, out);                                                 \
            next += pace * runs * run;                                                          \
            out += SOME * TILE_PIXELS * N * LANES;                                              \
        }                                                                                       \
        if (tile < tiles)                                                                       \
            NAME(product_of)(N, 2, rows, runs, step, run, tile * TILE_PIXELS, w, NULL, 0, out); \
    }
DEFINE_PRODUCT(1)
DEFINE_PRODUCT(2)
#if MOST_VECTORS > 2
DEFINE_PRODUCT(3)
#endif
#undef DEFINE_PRODUCT

/* out[m][0 .. N vectors) = sum over p of a[p * step + m] * b[p][0 .. N vectors), for `rows` of R
 * rows m; or += if `add`. The sum starts at zero, so that long reductions are sums of sums. */
BODY NAME(outer_of)(
    int N, int R, const T *a, ptrdiff_t step, ptrdiff_t a_line, const T *b, ptrdiff_t b_step,
    ptrdiff_t b_line, ptrdiff_t lines, ptrdiff_t pixels, T *out, int rows, int add)
{
    V c[ACCUMULATORS];
    NAME(clear)(c, R * N);
    for (ptrdiff_t line = 0; line < lines; line++) {
        const T *at = a + line * a_line, *grads = b + line * b_line;
        for (ptrdiff_t p = 0; p < pixels; p++, at += step, grads += b_step) {
            V grad[MOST_VECTORS];
            UNROLLED for (int n = 0; n < N; n++) grad[n] = *(const V *)(grads + n * LANES);
            UNROLLED for (int m = 0; m < R; m++)
                UNROLLED for (int n = 0; n < N; n++) c[m * N + n] += at[m] * grad[n];
        }
    }
    UNROLLED for (int m = 0; m < R; m++, out += N * LANES) {
        if (m >= rows) break;
        if (add)
            UNROLLED for (int n = 0; n < N; n++) c[m * N + n] += *(V *)(out + n * LANES);
        UNROLLED for (int n = 0; n < N; n++) *(V *)(out + n * LANES) = c[m * N + n];
    }
}

/* The same for R rows of lines, added. */
#define WEIGHT_LINES(R, N)                                                                       \
    KERNEL NAME(weight_lines##R##_##N)(                                                          \
        const void *a, ptrdiff_t step, ptrdiff_t a_line, const void *b, ptrdiff_t b_step,        \
        ptrdiff_t b_line, ptrdiff_t lines, ptrdiff_t pixels, void *out)                          \
    {                                                                                            \
        NAME(outer_of)(N, R, a, step, a_line, b, b_step, b_line, lines, pixels, out, R, 1);      \
    }

/* outer: `rows` of TILE_ROWS rows.
 * weight: TILE_PIXELS rows, packed below, added.
 * weight_in_place: the same of rows a[p][first ...] that are not packed.
 * pack_panels: packed[panel][i][0 .. N vectors) = rows[i * step + panel * N LANES ...], zero beyond
 * `cols`.
 * finish_panel: to[j * step + d] = sum over the parts s of from[s * part + d * N LANES + j] for
 * `depth` d and `used` outputs j: the sums of a panel, in the order of the parts, transposed. */
#define DEFINE_WEIGHT(N)                                                                         \
    KERNEL NAME(outer##N)(                                                                       \
        const void *a, ptrdiff_t step, const void *b, ptrdiff_t pixels, void *out, int rows,     \
        int add)                                                                                 \
    {                                                                                            \
        NAME(outer_of)(N, TILE_ROWS(N), a, step, 0, b, N * LANES, 0, 1, pixels, out, rows, add); \
    }                                                                                            \
    KERNEL NAME(weight##N)(const void *a, const void *b, ptrdiff_t pixels, void *out, int rows)  \
    {                                                                                            \
        NAME(outer_of)(N, TILE_PIXELS, a, TILE_PIXELS, 0, b, N * LANES, 0, 1, pixels, out, rows, \
                       1);                                                                       \
    }                                                                                            \
    WEIGHT_LINES(1, N)                                                                           \
    WEIGHT_LINES(2, N)                                                                           \
    WEIGHT_LINES(3, N)                                                                           \
    WEIGHT_LINES(4, N)                                                                           \
    WEIGHT_LINES(5, N)                                                                           \
    WEIGHT_LINES(6, N)                                                                           \
    KERNEL NAME(weight_in_place##N)(                                                             \
        const void *const *a, ptrdiff_t first, const void *b, ptrdiff_t pixels, void *out,       \
        int rows)                                                                                \
    {                                                                                            \
        NAME(in_place_of)(N, a, first, b, pixels, out, rows);                                    \
    }                                                                                            \
    KERNEL NAME(pack_panels##N)(                                                                 \
        const void *from, ptrdiff_t step, ptrdiff_t rows, ptrdiff_t cols, void *to)              \
    {                                                                                            \
        NAME(pack_panels_of)(N, from, step, rows, cols, to);                                     \
    }                                                                                            \
    KERNEL NAME(finish_panel##N)(                                                                \
        const void *from, ptrdiff_t parts, ptrdiff_t part, ptrdiff_t depth, int used, void *to,  \
        ptrdiff_t step)                                                                          \
    {                                                                                            \
        NAME(finish_panel_of)(N, from, parts, part, depth, used, to, step);                      \
    }

BODY NAME(in_place_of)(
    int N, const void *const *a, ptrdiff_t first, const T *grads, ptrdiff_t pixels, T *out,
    int rows)
{
    V c[ACCUMULATORS];
    NAME(clear)(c, TILE_PIXELS * N);
    for (ptrdiff_t p = 0; p < pixels; p++, grads += N * LANES) {
        const T *row = (const T *)a[p] + first;
        V grad[MOST_VECTORS];
        UNROLLED for (int n = 0; n < N; n++) grad[n] = *(const V *)(grads + n * LANES);
        UNROLLED for (int m = 0; m < TILE_PIXELS; m++)
            UNROLLED for (int n = 0; n < N; n++) c[m * N + n] += row[m] * grad[n];
    }
    UNROLLED for (int m = 0; m < TILE_PIXELS; m++, out += N * LANES) {
        if (m < TILE_PIXELS - rows) continue;
        UNROLLED for (int n = 0; n < N; n++) *(V *)(out + n * LANES) += c[m * N + n];
    }
}

BODY NAME(pack_panels_of)(
    int N, const T *from, ptrdiff_t step, ptrdiff_t rows, ptrdiff_t cols, T *to)
{
    for (ptrdiff_t i = 0; i < rows; i++) {
        const T *at = from + i * step;
        T *packed = to + i * N * LANES;
        ptrdiff_t k = 0;
        for (; k + N * LANES <= cols; k += N * LANES, packed += rows * N * LANES)
            for (int n = 0; n < N; n++)
                *(V *)(packed + n * LANES) = *(const V *)(at + k + n * LANES);
        if (k == cols) continue;
        for (int n = 0; n < N; n++) *(V *)(packed + n * LANES) = (V){0};
        memcpy(packed, at + k, (cols - k) * sizeof(T));
    }
}

BODY NAME(finish_panel_of)(
    int N, const T *from, ptrdiff_t parts, ptrdiff_t part, ptrdiff_t depth, int used, T *to,
    ptrdiff_t step)
{
    enum { SOME = 16 }; /* a cache line of floats for each output */
    T sums[SOME][MOST_VECTORS * LANES];
    for (ptrdiff_t d = 0; d < depth; d += SOME) {
        const ptrdiff_t some = depth - d < SOME ? depth - d : SOME;
        for (ptrdiff_t i = 0; i < some; i++)
            for (int n = 0; n < N; n++) {
                const T *at = from + (d + i) * N * LANES + n * LANES;
                V sum = *(const V *)at;
                for (ptrdiff_t s = 1; s < parts; s++) sum += *(const V *)(at + s * part);
                *(V *)(sums[i] + n * LANES) = sum;
            }
        for (int j = 0; j < used; j++)
            for (ptrdiff_t i = 0; i < some; i++) to[j * step + d + i] = sums[i][j];
    }
}

DEFINE_WEIGHT(1)
WEIGHT_LINES(7, 1)
WEIGHT_LINES(8, 1)
WEIGHT_LINES(9, 1)
WEIGHT_LINES(10, 1)
WEIGHT_LINES(11, 1)
WEIGHT_LINES(12, 1)
DEFINE_WEIGHT(2)
#if MOST_VECTORS > 2
DEFINE_WEIGHT(3)
#endif
#undef DEFINE_WEIGHT
#undef WEIGHT_LINES

/* packed[i][p][0:TILE_PIXELS] = rows[p][i * TILE_PIXELS ...], zero beyond `run` values. Some blocks i
 * of a pixel in a row: pixels may lie a power of two apart, where they share cache sets. */
KERNEL NAME(pack_rows)(const void *const *rows, ptrdiff_t pixels, ptrdiff_t run, void *to)
{
    enum { SOME = 8 };
    const ptrdiff_t block = pixels * TILE_PIXELS, whole = run / TILE_PIXELS;
    T *packed = to;
    for (ptrdiff_t first = 0; first < whole; first += SOME, packed += SOME * block) {
        const ptrdiff_t some = whole - first < SOME ? whole - first : SOME;
        for (ptrdiff_t p = 0; p < pixels; p++) {
            const T *at = (const T *)rows[p] + first * TILE_PIXELS;
            T *out = packed + p * TILE_PIXELS;
            for (ptrdiff_t i = 0; i < some; i++, at += TILE_PIXELS, out += block)
                memcpy(out, at, TILE_PIXELS * sizeof(T));
        }
    }
    packed = (T *)to + whole * block;
    for (ptrdiff_t p = 0; p < pixels && whole * TILE_PIXELS < run; p++)
        for (ptrdiff_t m = 0; m < TILE_PIXELS; m++, packed++)
            *packed = whole * TILE_PIXELS + m < run
                          ? ((const T *)rows[p])[whole * TILE_PIXELS + m] : 0;
}

#define LINES_OF(N)                                                                              \
    NULL, NAME(weight_lines1_##N), NAME(weight_lines2_##N), NAME(weight_lines3_##N),             \
        NAME(weight_lines4_##N), NAME(weight_lines5_##N), NAME(weight_lines6_##N)
#if MOST_VECTORS > 2
#define BY_VECTORS(name) {NULL, NAME(name##1), NAME(name##2), NAME(name##3)}
#define LINES_OF_3 {LINES_OF(3)}
#else
#define BY_VECTORS(name) {NULL, NAME(name##1), NAME(name##2)}
#define LINES_OF_3 {NULL}
#endif
static const direct_kernels NAME(kernels) = {
    {NULL, NAME(narrow_tile), NAME(tile), NAME(wide_tile)},
    {NULL, NAME(narrow_pixel), NAME(pixel), NAME(wide_pixel)},
    {NULL, NAME(narrow_line), NAME(line), NAME(wide_line)},
    {NULL, NAME(dots1), NAME(dots2), NAME(dots3)},
    BY_VECTORS(product),
    BY_VECTORS(outer),
    BY_VECTORS(weight),
    BY_VECTORS(weight_in_place),
    {{NULL},
     {LINES_OF(1), NAME(weight_lines7_1), NAME(weight_lines8_1), NAME(weight_lines9_1),
      NAME(weight_lines10_1), NAME(weight_lines11_1), NAME(weight_lines12_1)},
     {LINES_OF(2)},
     LINES_OF_3},
    NAME(pack_rows),
    BY_VECTORS(pack_panels),
    BY_VECTORS(finish_panel)};
#undef LINES_OF
#undef LINES_OF_3
#undef BY_VECTORS

#undef V
#undef LANES
#undef KERNEL
#undef BODY
