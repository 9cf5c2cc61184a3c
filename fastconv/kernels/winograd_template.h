/* Included once per element type and scheme, with T and SCHEME(get) defined, which is get(M_H, R_H,
 * S_H, M_W, R_W, S_W): tiles of M_H x M_W outputs of a kernel of R_H x R_W taps, S_H and S_W places
 * apart. */

#define NAME(x) LABEL(x, T, SCHEME(GET_ALL))
#define M_H SCHEME(GET_M_H)
#define R_H SCHEME(GET_R_H)
#define S_H SCHEME(GET_S_H)
#define M_W SCHEME(GET_M_W)
#define R_W SCHEME(GET_R_W)
#define S_W SCHEME(GET_S_W)
#define N_H SIDE(M_H, R_H, S_H)
#define N_W SIDE(M_W, R_W, S_W)
#define U_H DISTINCT(M_H, R_H, S_H)
#define U_W DISTINCT(M_W, R_W, S_W)
#define V NAME(vector)
#define LANES ((ptrdiff_t)(VECTOR_BYTES / sizeof(T)))
#define LINE ((ptrdiff_t)(64 / sizeof(T))) /* values of a cache line */

typedef T V __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(T)), may_alias));

/* Fetches the cache lines `on` values from `rows` x `cols` places: inside of an image from the last
 * `some` columns, for those before are what the tile before had. Tiles make more streams than the
 * processor follows, those of signals do not. */
BODY void NAME(fetch)(
    const winograd_places *at, int rows, int cols, int some, ptrdiff_t on, const int write)
{
    if (M_H == 1) return;
    for (int i = 0; i < rows; i++)
        for (int j = at->edge ? 0 : cols - some; j < cols; j++) {
            const T *place = PLACE(*at, i, j, cols);
            if (write) PREFETCH_TO_WRITE(place + on);
            else PREFETCH_TO_READ(place + on);
        }
}

/* v[e * element] = (B^T d B)[e] for `some` channels, up to a vector of them, of the inputs d, c
 * values on from the tile's places; the next tile's are fetched. */
BODY void NAME(input_of)(
    const winograd_places *places, const winograd_places *next, ptrdiff_t c, ptrdiff_t some, T *v,
    ptrdiff_t element)
{
    V t[N_H][N_W], in[N_H], out[N_H > N_W ? N_H : N_W];
    if (c % LINE == 0) NAME(fetch)(next, N_H, N_W, M_W * S_W, c, 0);
    for (int j = 0; j < N_W; j++) {
        for (int i = 0; i < N_H; i++)
            in[i] = EPILOGUE(load)(PLACE(*places, i, j, N_W) + c, some);
        TRANSFORM_INPUT(M_H, R_H, S_H, in, out);
        for (int i = 0; i < N_H; i++) t[i][j] = out[i];
    }
    for (int i = 0; i < N_H; i++) {
        TRANSFORM_INPUT(M_W, R_W, S_W, t[i], out);
        for (int j = 0; j < N_W; j++, v += element) EPILOGUE(store)(v, some, out[j]);
    }
}

/* The same of all channels. */
static void NAME(input)(
    const winograd_places *at, const winograd_places *after, ptrdiff_t channels, void *to,
    ptrdiff_t element)
{
    const winograd_places places = *at, next = *after; /* copies, which nothing written changes */
    ptrdiff_t c = 0;
    for (; c + LANES <= channels; c += LANES)
        NAME(input_of)(&places, &next, c, LANES, (T *)to + c, element);
    if (c < channels) NAME(input_of)(&places, &next, c, channels - c, (T *)to + c, element);
}

/* (A^T m A)[i, j] + bias, and the epilogue, for the first `cols` outputs at the tile's places;
 * m[e * element] holds whole vectors. The next tile's places are fetched. Returns whether any value
 * was infinite or NaN before the epilogue. */
static int NAME(output)(
    const void *from, ptrdiff_t element, const void *bias, const winograd_places *at,
    const winograd_places *next, int cols, const Epilogue *then)
{
    const winograd_places places = *at; /* copies, which nothing written changes */
    const Epilogue epilogue = *then;
    V wild = {0}; /* 0 times a value is NaN where the value is not finite */
    if (epilogue.add)
        for (int i = 0; i < M_H; i++)
            for (int j = 0; j < M_W; j++)
                EPILOGUE(fetch)(PLACE(places, i, j, M_W), &epilogue);
    for (int first = 0; first < cols; first += LANES) {
        if (first % LINE == 0) NAME(fetch)(next, M_H, M_W, M_W, first, 1);
        const int some = cols - first < LANES ? cols - first : LANES;
        const T *m = (const T *)from + first;
        V t[M_H][N_W], in[N_H], y[M_H > M_W ? M_H : M_W], b = *(const V *)((const T *)bias + first);
        for (int j = 0; j < N_W; j++) {
            for (int i = 0; i < N_H; i++) in[i] = *(const V *)(m + (i * N_W + j) * element);
            TRANSFORM_OUTPUT(M_H, R_H, S_H, in, y);
            for (int i = 0; i < M_H; i++) t[i][j] = y[i];
        }
        for (int i = 0; i < M_H; i++) {
            TRANSFORM_OUTPUT(M_W, R_W, S_W, t[i], y);
            V sum = {0};
            for (int j = 0; j < M_W; j++) {
                y[j] += b;
                sum += y[j];
            }
            wild += 0 * sum;
            if (epilogue.add)
                for (int j = 0; j < M_W; j++) {
                    if (places.offset[i * M_W + j] == NOWHERE) continue;
                    const T *to = PLACE(places, i, j, M_W);
                    y[j] += EPILOGUE(residual)(to + first, some, &epilogue);
                }
            if (epilogue.act) EPILOGUE(activate)(y, M_W, &epilogue);
            for (int j = 0; j < M_W; j++) {
                if (places.offset[i * M_W + j] == NOWHERE) continue;
                EPILOGUE(store)(PLACE(places, i, j, M_W) + first, some, y[j]);
            }
        }
    }
    int any = 0;
    for (int lane = 0; lane < LANES; lane++) any |= wild[lane] != 0;
    return any;
}

/* u[e * element + c * width + k] = (G g G^T)[e], distinct weights e alone, for the kernels g of
 * `used` outputs k, zero for the rest of `width`, whole vectors.
 * Kernels are w[i * steps[0] + j * steps[1] + c * steps[2] + k * steps[3]] at tap (i, j). */
static void NAME(weights)(
    const void *from, const ptrdiff_t *steps, ptrdiff_t channels, int used, int width, void *to,
    ptrdiff_t element)
{
    const T *w = from;
    T kernel[R_H * R_W][MOST_VECTORS * LANES], stage[R_H * R_W][MOST_VECTORS * LANES][STAGE];
    memset(kernel, 0, sizeof kernel);
    for (ptrdiff_t c = 0; c < channels; c++) {
        const ptrdiff_t at = c % STAGE, some = channels - c < STAGE ? channels - c : STAGE;
        /* The kernels of two outputs are far apart, often by a power of two, where they share
         * cache sets: fetch some channels of each at a time. */
        if (steps[3] != 1 && at == 0)
            for (int tap = 0; tap < R_H * R_W; tap++)
                for (int k = 0; k < used; k++) {
                    const T *row = w + tap / R_W * steps[0] + tap % R_W * steps[1] + k * steps[3];
                    if (steps[2] == 1 && some == STAGE)
                        memcpy(stage[tap][k], row + c, STAGE * sizeof(T));
                    else
                        for (int ahead = 0; ahead < some; ahead++)
                            stage[tap][k][ahead] = row[(c + ahead) * steps[2]];
                }
        for (int tap = 0; tap < R_H * R_W; tap++) {
            const T *row = w + tap / R_W * steps[0] + tap % R_W * steps[1] + c * steps[2];
            if (steps[3] == 1) memcpy(kernel[tap], row, used * sizeof(T));
            else for (int k = 0; k < used; k++) kernel[tap][k] = stage[tap][k][at];
        }
        for (int first = 0; first < width; first += LANES) {
            T *u = (T *)to + c * width + first;
            V t[U_H][R_W], in[R_H], out[U_H > U_W ? U_H : U_W];
            for (int j = 0; j < R_W; j++) {
                for (int i = 0; i < R_H; i++)
                    in[i] = *(const V *)&kernel[i * R_W + j][first];
                TRANSFORM_WEIGHTS(M_H, R_H, S_H, in, out);
                for (int i = 0; i < U_H; i++) t[i][j] = out[i];
            }
            for (int i = 0; i < U_H; i++) {
                TRANSFORM_WEIGHTS(M_W, R_W, S_W, t[i], out);
                for (int j = 0; j < U_W; j++, u += element) *(V *)u = out[j];
            }
        }
    }
}

/* The adjoint of `output`: m[e * element + 0 .. width) = (A dy A^T)[e] for the first `cols`
 * outputs dy at the tile's places; zero where there are none. The next tile's are fetched. */
static void NAME(output_adjoint)(
    const winograd_places *at, const winograd_places *next, int cols, int width, void *to,
    ptrdiff_t element)
{
    const winograd_places places = *at;
    for (int first = 0; first < width; first += LANES) {
        if (first % LINE == 0) NAME(fetch)(next, M_H, M_W, M_W, first, 0);
        const int some = cols - first < LANES ? cols - first : LANES;
        T *m = (T *)to + first;
        V t[N_H][M_W], in[M_H > M_W ? M_H : M_W], out[N_H > N_W ? N_H : N_W];
        for (int j = 0; j < M_W; j++) {
            for (int i = 0; i < M_H; i++) {
                const T *row = PLACE(places, i, j, M_W);
                in[i] = (V){0};
                if (places.offset[i * M_W + j] == NOWHERE) continue;
                if (some > 0) in[i] = EPILOGUE(load)(row + first, some);
            }
            ADJOINT_OUTPUT(M_H, R_H, S_H, in, out);
            for (int i = 0; i < N_H; i++) t[i][j] = out[i];
        }
        for (int i = 0; i < N_H; i++) {
            ADJOINT_OUTPUT(M_W, R_W, S_W, t[i], out);
            for (int j = 0; j < N_W; j++, m += element) *(V *)m = out[j];
        }
    }
}

/* The adjoint of `weights`: dw[k * step + (i * R_W + j) * channels + c] = (G^T s G)[i, j] of the
 * sums s[e * element + c * width + k], for `rows` channels c, at most MOST_ROWS, and `used`
 * outputs k. Returns whether any value was infinite or NaN. */
static int NAME(weights_adjoint)(
    const void *from, ptrdiff_t element, int rows, int used, int width, void *to, ptrdiff_t step,
    ptrdiff_t channels)
{
    V wild = {0};
    T sums[R_H * R_W][MOST_ROWS][MOST_VECTORS * LANES];
    for (int k = 0; k < used; k++) /* far apart: fetch their lines while sums are transformed */
        for (int tap = 0; tap < R_H * R_W; tap++)
            PREFETCH_TO_WRITE((T *)to + k * step + tap * channels);
    for (int c = 0; c < rows; c++)
        for (int first = 0; first < width; first += LANES) {
            const T *s = (const T *)from + c * width + first;
            V t[R_H][U_W], in[U_H], out[R_H > R_W ? R_H : R_W];
            for (int j = 0; j < U_W; j++) {
                for (int i = 0; i < U_H; i++) in[i] = *(const V *)(s + (i * U_W + j) * element);
                ADJOINT_WEIGHTS(M_H, R_H, S_H, in, out);
                for (int i = 0; i < R_H; i++) t[i][j] = out[i];
            }
            for (int i = 0; i < R_H; i++) {
                ADJOINT_WEIGHTS(M_W, R_W, S_W, t[i], out);
                for (int j = 0; j < R_W; j++) {
                    wild += 0 * out[j];
                    *(V *)&sums[i * R_W + j][c][first] = out[j];
                }
            }
        }
    for (int k = 0; k < used; k++)
        for (int tap = 0; tap < R_H * R_W; tap++) {
            T *dw = (T *)to + k * step + tap * channels;
            for (int c = 0; c < rows; c++) dw[c] = sums[tap][c][k];
        }
    int any = 0;
    for (int lane = 0; lane < LANES; lane++) any |= wild[lane] != 0;
    return any;
}

static const winograd_transforms NAME(transforms) = {
    M_H, M_W, R_H, R_W, S_H, S_W, N_H, N_W, U_H, U_W,
    NAME(input), NAME(output), NAME(output_adjoint), NAME(weights), NAME(weights_adjoint)};

#undef N_H
#undef N_W
#undef U_H
#undef U_W
#undef V
#undef LANES
#undef LINE
#undef NAME
#undef SCHEME
#undef M_H
#undef R_H
#undef S_H
#undef M_W
#undef R_W
#undef S_W
