/* Included once per element type, with T, INDEX (an integer of its size) and NAME defined. */

#define V NAME(vector)
#define LANES ((ptrdiff_t)(VECTOR_BYTES / sizeof(T)))
/* Not inlined: a caller's variables would take registers from the loop. */
#define KERNEL static __attribute__((noinline)) void
#define BODY static inline __attribute__((always_inline)) void

typedef T V __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(T)), may_alias));

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
    V c[TILE_PIXELS * 2];
    for (int p = 0; p < P; p++) {
        PREFETCH_TO_WRITE((T *)out[p] + shift);
        PREFETCH_TO_WRITE((T *)out[p] + shift + N * LANES - 1);
        for (int n = 0; n < N; n++) c[p * N + n] = *(const V *)(bias + n * LANES);
    }
    if (ends && epilogue->add)
        for (int p = 0; p < P; p++) {
            EPILOGUE(fetch)((T *)out[p] + shift, epilogue);
            EPILOGUE(fetch)((T *)out[p] + shift + N * LANES - 1, epilogue);
        }
    for (ptrdiff_t r = 0; r < runs; r++, rows += stride) {
        const T *a[TILE_PIXELS];
        for (int p = 0; p < P; p++) a[p] = rows[p];
        for (ptrdiff_t i = 0; i < run;) {
            const ptrdiff_t end = ahead && run - i > LINE ? i + LINE : run;
            if (ahead)
                for (int p = 0; p < P; p++) PREFETCH_TO_READ(a[p] + i + ahead);
            for (; i < end; i++, w += width * LANES) {
                V b[3];
                for (int n = 0; n < N; n++) b[n] = *(const V *)(w + n * LANES);
                for (int p = 0; p < P; p++)
                    for (int n = 0; n < N; n++) c[p * N + n] += a[p][i] * b[n];
            }
        }
    }
    if (!whole) {
        for (int p = 0; p < pixels; p++) {
            memcpy((T *)out[p] + shift, &c[p * N], cols * sizeof(T));
            EPILOGUE(row)((T *)out[p] + shift, cols, epilogue);
        }
        return;
    }
    if (ends && epilogue->add)
        for (int p = 0; p < P; p++)
            for (int n = 0; n < N; n++)
                c[p * N + n] +=
                    EPILOGUE(residual)((T *)out[p] + shift + n * LANES, LANES, epilogue);
    if (ends && epilogue->act) EPILOGUE(activate)(c, P * N, epilogue);
    for (int p = 0; p < P; p++)
        for (int n = 0; n < N; n++) *(V *)((T *)out[p] + shift + n * LANES) = c[p * N + n];
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
#define TILE_OF_6(N, whole, ends, some)                                                         \
    NAME(tile_of)(6, N, 2, whole, ends, rows, runs, stride, run, w, b + k, out, k, pixels,      \
                  some, epilogue, 0)
#define TILE_OF_4(N, whole, ends, some)                                                         \
    NAME(tile_of)(4, N, 3, whole, ends, rows, runs, stride, run, w, b + k, out, k, pixels,      \
                  some, epilogue, 0)
#define STREAMED_TILE_OF_6(N, whole, ends, some)                                                \
    NAME(tile_of)(6, N, 2, whole, ends, rows, runs, stride, run, w, b + k, out, k, pixels,      \
                  some, epilogue, k ? 0 : ahead)
#define STREAMED_TILE_OF_4(N, whole, ends, some)                                                \
    NAME(tile_of)(4, N, 3, whole, ends, rows, runs, stride, run, w, b + k, out, k, pixels,      \
                  some, epilogue, k ? 0 : ahead)
DEFINE_TILE(tile, 6, 2)
DEFINE_TILE(wide_tile, 4, 3)
#undef DEFINE_TILE
#undef TILE_OF_6
#undef TILE_OF_4
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
    for (int n = 0; n < N * W; n++) c[n] = *(const V *)(bias + n * LANES);
    for (ptrdiff_t r = 0; r < runs; r++, rows += stride) {
        const T *a = rows[0];
        for (ptrdiff_t i = 0; i < run; i++, w += W * LANES)
            for (int n = 0; n < N; n++)
                for (int j = 0; j < W; j++)
                    c[n * W + j] += a[i] * *(const V *)(w + n * panel + j * LANES);
    }
    if (cols < N * W * LANES) {
        memcpy(out, c, cols * sizeof(T));
        EPILOGUE(row)(out, cols, epilogue);
        return;
    }
    if (epilogue->add)
        for (int n = 0; n < N * W; n++) c[n] += EPILOGUE(residual)(out + n * LANES, LANES, epilogue);
    if (epilogue->act) EPILOGUE(activate)(c, N * W, epilogue);
    for (int n = 0; n < N * W; n++) *(V *)(out + n * LANES) = c[n];
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
DEFINE_PIXEL(pixel, 2)
DEFINE_PIXEL(wide_pixel, 3)
#undef DEFINE_PIXEL

/* The same for pixels whose inputs and outputs lie evenly: run r of pixel p is at
 * a[p * step + offsets[r]], its outputs at out[p * out_step]. */
BODY NAME(even_tile_of)(
    int P, int N, int width, int whole, int ends, const T *a, ptrdiff_t step,
    const ptrdiff_t *offsets, ptrdiff_t runs, ptrdiff_t run, const T *w, const T *bias, T *out,
    ptrdiff_t out_step, int pixels, ptrdiff_t cols, const Epilogue *epilogue)
{
    V c[TILE_PIXELS * 2];
    for (int p = 0; p < P; p++) {
        PREFETCH_TO_WRITE(out + p * out_step);
        PREFETCH_TO_WRITE(out + p * out_step + N * LANES - 1);
        for (int n = 0; n < N; n++) c[p * N + n] = *(const V *)(bias + n * LANES);
    }
    if (ends && epilogue->add)
        for (int p = 0; p < P; p++) {
            EPILOGUE(fetch)(out + p * out_step, epilogue);
            EPILOGUE(fetch)(out + p * out_step + N * LANES - 1, epilogue);
        }
    for (ptrdiff_t r = 0; r < runs; r++) {
        const T *low = a + offsets[r], *high = low + P / 2 * step;
        for (ptrdiff_t i = 0; i < run; i++, low++, high++, w += width * LANES) {
            V b[3];
            for (int n = 0; n < N; n++) b[n] = *(const V *)(w + n * LANES);
            for (int p = 0; p < P / 2; p++)
                for (int n = 0; n < N; n++) {
                    c[p * N + n] += low[p * step] * b[n];
                    c[(P / 2 + p) * N + n] += high[p * step] * b[n];
                }
        }
    }
    if (!whole) {
        for (int p = 0; p < pixels; p++) {
            memcpy(out + p * out_step, &c[p * N], cols * sizeof(T));
            EPILOGUE(row)(out + p * out_step, cols, epilogue);
        }
        return;
    }
    if (ends && epilogue->add)
        for (int p = 0; p < P; p++)
            for (int n = 0; n < N; n++)
                c[p * N + n] += EPILOGUE(residual)(out + p * out_step + n * LANES, LANES, epilogue);
    if (ends && epilogue->act) EPILOGUE(activate)(c, P * N, epilogue);
    for (int p = 0; p < P; p++)
        for (int n = 0; n < N; n++) *(V *)(out + p * out_step + n * LANES) = c[p * N + n];
}

#define DEFINE_EVEN_TILE(name, P, W)                                                            \
    KERNEL NAME(name)(                                                                          \
        const void *a, ptrdiff_t step, const ptrdiff_t *offsets, ptrdiff_t runs, ptrdiff_t run, \
        const void *weights, const void *bias, void *to, ptrdiff_t out_step, int pixels,        \
        ptrdiff_t cols, const Epilogue *epilogue)                                               \
    {                                                                                           \
        const T *w = weights, *b = bias;                                                        \
        T *out = to;                                                                            \
        PANELS_OF(P, W, TILE_OF_##P);                                                           \
    }
#define TILE_OF_6(N, whole, ends, some)                                                         \
    NAME(even_tile_of)(6, N, 2, whole, ends, a, step, offsets, runs, run, w, b + k, out + k,    \
                       out_step, pixels, some, epilogue)
#define TILE_OF_4(N, whole, ends, some)                                                         \
    NAME(even_tile_of)(4, N, 3, whole, ends, a, step, offsets, runs, run, w, b + k, out + k,    \
                       out_step, pixels, some, epilogue)
DEFINE_EVEN_TILE(even_tile, 6, 2)
DEFINE_EVEN_TILE(wide_even_tile, 4, 3)
#undef DEFINE_EVEN_TILE
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
    for (int half = LANES / 2; half; half /= 2) {
        M from;
        for (int l = 0; l < LANES; l++) from[l] = l ^ half;
        x += __builtin_shuffle(x, from);
    }
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
    for (int p = 0; p < pixels; p++) EPILOGUE(row)(out[p], K, epilogue);
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

/* out[p][0 .. two vectors) = sum over r, i of rows[r][p * step + i] * w[r * run + i][...] for
 * `tiles` times six p. The weights `ahead` come next and are fetched meanwhile, each tile its part:
 * otherwise the first tile would wait for memory at each. */
BODY NAME(product_of)(
    int fetch, const void *const *rows, ptrdiff_t runs, ptrdiff_t step, ptrdiff_t run,
    const T *weights, const char *ahead, T *out, ptrdiff_t tiles)
{
    const ptrdiff_t pace = 2 * VECTOR_BYTES / tiles;
    for (ptrdiff_t tile = 0; tile < tiles; tile++) {
        V c[TILE_PIXELS][2] = {{{0}}};
        const T *w = weights;
        for (ptrdiff_t r = 0; r < runs; r++) {
            const T *low = (const T *)rows[r] + tile * TILE_PIXELS * step, *high = low + 3 * step;
            for (ptrdiff_t i = 0; i < run; i++, low++, high++, w += 2 * LANES) {
                V b0 = *(const V *)w, b1 = *(const V *)(w + LANES);
                if (fetch) {
                    PREFETCH_TO_READ(ahead);
                    ahead += pace;
                }
                for (int p = 0; p < 3; p++) {
                    c[p][0] += low[p * step] * b0;
                    c[p][1] += low[p * step] * b1;
                    c[3 + p][0] += high[p * step] * b0;
                    c[3 + p][1] += high[p * step] * b1;
                }
            }
        }
        for (int p = 0; p < TILE_PIXELS; p++, out += 2 * LANES) {
            *(V *)out = c[p][0];
            *(V *)(out + LANES) = c[p][1];
        }
    }
}

KERNEL NAME(product)(
    const void *const *rows, ptrdiff_t runs, ptrdiff_t step, ptrdiff_t run, const void *w,
    const void *ahead, void *out, ptrdiff_t tiles)
{
    if (ahead) NAME(product_of)(1, rows, runs, step, run, w, ahead, out, tiles);
    else NAME(product_of)(0, rows, runs, step, run, w, NULL, out, tiles);
}

/* out[m][0 .. two vectors) = sum over p of a[p * step + m] * b[p][0 .. two vectors), for `rows` of
 * R rows m; or += if `add`. The sum starts at zero, so that long reductions are sums of sums. */
BODY NAME(outer_of)(
    int R, const T *a, ptrdiff_t step, ptrdiff_t a_line, const T *b, ptrdiff_t b_step,
    ptrdiff_t b_line, ptrdiff_t lines, ptrdiff_t pixels, T *out, int rows, int add)
{
    V c[TILE_PIXELS][2];
    for (int m = 0; m < R; m++) c[m][0] = c[m][1] = (V){0};
    for (ptrdiff_t line = 0; line < lines; line++) {
        const T *at = a + line * a_line, *grads = b + line * b_line;
        for (ptrdiff_t p = 0; p < pixels; p++, at += step, grads += b_step) {
            V b0 = *(const V *)grads, b1 = *(const V *)(grads + LANES);
            for (int m = 0; m < R; m++) {
                c[m][0] += at[m] * b0;
                c[m][1] += at[m] * b1;
            }
        }
    }
    for (int m = 0; m < R; m++, out += 2 * LANES) {
        if (m >= rows) break;
        if (add) {
            c[m][0] += *(V *)out;
            c[m][1] += *(V *)(out + LANES);
        }
        *(V *)out = c[m][0];
        *(V *)(out + LANES) = c[m][1];
    }
}

KERNEL NAME(outer)(
    const void *a, ptrdiff_t step, const void *b, ptrdiff_t pixels, void *out, int add)
{
    NAME(outer_of)(TILE_ROWS, a, step, 0, b, 2 * LANES, 0, 1, pixels, out, TILE_ROWS, add);
}

/* The same for TILE_PIXELS rows, packed below, added. */
KERNEL NAME(weight)(const void *a, const void *b, ptrdiff_t pixels, void *out, int rows)
{
    NAME(outer_of)(TILE_PIXELS, a, TILE_PIXELS, 0, b, 2 * LANES, 0, 1, pixels, out, rows, 1);
}

/* The same for R rows of lines, added. */
#define WEIGHT_LINES(R)                                                                          \
    KERNEL NAME(weight_lines##R)(                                                                \
        const void *a, ptrdiff_t step, ptrdiff_t a_line, const void *b, ptrdiff_t b_step,        \
        ptrdiff_t b_line, ptrdiff_t lines, ptrdiff_t pixels, void *out)                          \
    {                                                                                            \
        NAME(outer_of)(R, a, step, a_line, b, b_step, b_line, lines, pixels, out, R, 1);         \
    }
WEIGHT_LINES(1)
WEIGHT_LINES(2)
WEIGHT_LINES(3)
WEIGHT_LINES(4)
WEIGHT_LINES(5)
WEIGHT_LINES(6)
#undef WEIGHT_LINES

/* The same for rows a[p][first ...] that are not packed. */
KERNEL NAME(weight_in_place)(
    const void *const *a, ptrdiff_t first, const void *b, ptrdiff_t pixels, void *to, int rows)
{
    T *out = to;
    const T *grads = b;
    V c[TILE_PIXELS][2] = {{{0}}};
    for (ptrdiff_t p = 0; p < pixels; p++, grads += 2 * LANES) {
        const T *row = (const T *)a[p] + first;
        V b0 = *(const V *)grads, b1 = *(const V *)(grads + LANES);
        for (int m = 0; m < TILE_PIXELS; m++) {
            c[m][0] += row[m] * b0;
            c[m][1] += row[m] * b1;
        }
    }
    for (int m = 0; m < TILE_PIXELS; m++, out += 2 * LANES) {
        if (m < TILE_PIXELS - rows) continue;
        *(V *)out += c[m][0];
        *(V *)(out + LANES) += c[m][1];
    }
}

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

/* packed[panel][i][0 .. two vectors) = rows[i * step + panel * 2 LANES ...], zero beyond `cols`. */
KERNEL NAME(pack_panels)(
    const void *from, ptrdiff_t step, ptrdiff_t rows, ptrdiff_t cols, void *to)
{
    for (ptrdiff_t i = 0; i < rows; i++) {
        const T *at = (const T *)from + i * step;
        T *packed = (T *)to + i * 2 * LANES;
        ptrdiff_t k = 0;
        for (; k + 2 * LANES <= cols; k += 2 * LANES, packed += rows * 2 * LANES) {
            *(V *)packed = *(const V *)(at + k);
            *(V *)(packed + LANES) = *(const V *)(at + k + LANES);
        }
        if (k == cols) continue;
        *(V *)packed = *(V *)(packed + LANES) = (V){0};
        memcpy(packed, at + k, (cols - k) * sizeof(T));
    }
}

/* to[j * step + d] = sum over the parts s of from[s * part + d * 2 LANES + j] for `depth` d and
 * `used` outputs j: the sums of a panel, in the order of the parts, transposed. */
KERNEL NAME(finish_panel)(
    const void *from, ptrdiff_t parts, ptrdiff_t part, ptrdiff_t depth, int used, void *to,
    ptrdiff_t step)
{
    enum { SOME = 16 }; /* a cache line of floats for each output */
    T sums[SOME][2 * LANES];
    for (ptrdiff_t d = 0; d < depth; d += SOME) {
        const ptrdiff_t some = depth - d < SOME ? depth - d : SOME;
        for (ptrdiff_t i = 0; i < some; i++) {
            const T *at = (const T *)from + (d + i) * 2 * LANES;
            V low = *(const V *)at, high = *(const V *)(at + LANES);
            for (ptrdiff_t s = 1; s < parts; s++) {
                low += *(const V *)(at + s * part);
                high += *(const V *)(at + s * part + LANES);
            }
            *(V *)sums[i] = low;
            *(V *)(sums[i] + LANES) = high;
        }
        for (int j = 0; j < used; j++)
            for (ptrdiff_t i = 0; i < some; i++) ((T *)to)[j * step + d + i] = sums[i][j];
    }
}

static const direct_kernels NAME(kernels) = {
    {NAME(tile), NAME(wide_tile)},
    {NAME(pixel), NAME(wide_pixel)},
    {NAME(even_tile), NAME(wide_even_tile)},
    {NULL, NAME(dots1), NAME(dots2), NAME(dots3)},
    NAME(product),
    NAME(outer),
    NAME(weight),
    NAME(weight_in_place),
    {NULL, NAME(weight_lines1), NAME(weight_lines2), NAME(weight_lines3), NAME(weight_lines4),
     NAME(weight_lines5), NAME(weight_lines6)},
    NAME(pack_rows),
    NAME(pack_panels),
    NAME(finish_panel)};

#undef V
#undef LANES
#undef KERNEL
#undef BODY
