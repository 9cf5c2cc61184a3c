/* Winograd's minimal filtering along the last two axes (A. Lavin, S. Gray, CVPR 2016): F(m, r) gives m
 * outputs of r taps from m + r - 1 products, one for each of the points 0, 1, -1, 2, -1/2, then -2 and
 * 1/2 for eight, and infinity. A task is a block of tiles, those of several images together. With a
 * spacing of taps, tiles lie between each other. */
typedef void Forward(const real *const *places, int64_t channels, real *to, int64_t element);
typedef int Backward(const real *products, int64_t element, real *sums);
typedef struct {
    int outputs[2], taps[2], points[2];
    Forward *forward;
    Backward *backward;
} Winograd;

#define MOST_POINTS 8
#define MOST_OUTPUTS 16
#define MOST_TILES 24

#if defined(__GNUC__)
#define UNROLLED static inline __attribute__((always_inline))
#else
#define UNROLLED static inline
#endif

/* B^T: row p has the coefficients of the polynomial of all points but p. */
UNROLLED void to_points(int points, const vector *d, vector *o)
{
    if (points == 8) {
        const real quarter = (real)0.25, half = (real)0.5, a = (real)4.25, b = (real)5.25;
        const real five = (real)1.25, ten = (real)2.5;
        const vector even = d[2] - a * d[4] + d[6], odd = d[1] - a * d[3] + d[5];
        const vector even2 = quarter * d[2] - five * d[4] + d[6];
        const vector odd2 = half * d[1] - ten * d[3] + 2 * d[5];
        const vector even3 = 4 * d[2] - 5 * d[4] + d[6], odd3 = 2 * d[1] - ten * d[3] + half * d[5];
        o[0] = d[6] - d[0] + b * (d[2] - d[4]);
        o[1] = even + odd;
        o[2] = even - odd;
        o[3] = even2 + odd2;
        o[4] = even2 - odd2;
        o[5] = even3 + odd3;
        o[6] = even3 - odd3;
        o[7] = d[7] - d[1] + b * (d[3] - d[5]);
    } else if (points == 6) {
        const real half = (real)0.5, most = (real)1.5, five = (real)2.5;
        const vector even = d[4] - d[2], odd = d[3] - d[1];
        o[0] = d[0] + d[4] - 2 * d[2] - most * odd;
        o[1] = d[4] - d[1] - five * d[2] - half * d[3];
        o[2] = d[4] + d[1] + half * d[2] - five * d[3];
        o[3] = even + half * odd;
        o[4] = even - 2 * odd;
        o[5] = d[1] + d[5] - 2 * d[3] - most * even;
    } else {
        o[0] = d[0];
    }
}

/* A^T: the powers 0 to m - 1 of the points. */
UNROLLED void from_points(int points, int m, const vector *v, vector *o)
{
    o[0] = v[0];
    if (points == 1) return;
    const vector sum = v[1] + v[2], difference = v[1] - v[2];
    if (points == 8) {
        const vector sum2 = v[3] + v[4], difference2 = v[3] - v[4];
        const vector sum3 = v[5] + v[6], difference3 = v[5] - v[6];
        o[0] += sum + sum2 + sum3;
        o[1] = difference + 2 * difference2 + (real)0.5 * difference3;
        o[2] = sum + 4 * sum2 + (real)0.25 * sum3;
        o[3] = difference + 8 * difference2 + (real)0.125 * difference3;
        if (m == 6) {
            o[4] = sum + 16 * sum2 + (real)0.0625 * sum3;
            o[5] = difference + 32 * difference2 + (real)0.03125 * difference3;
        }
    } else {
        o[0] += sum + v[3] + v[4];
        o[1] = difference + 2 * v[3] - (real)0.5 * v[4];
        if (m > 2) o[2] = sum + 4 * v[3] + (real)0.25 * v[4];
        if (m > 3) o[3] = difference + 8 * v[3] - (real)0.125 * v[4];
    }
    o[m - 1] += v[points - 1];
}

/* to[e * element + c] = (B^T d B)[e] for the tile whose places are given. */
UNROLLED void forward_tile(
    int rows, int columns, const real *const *places, int64_t channels, real *to, int64_t element)
{
    for (int64_t done = 0; done < channels; done += LANES) {
        const int64_t c = BELOW(done, channels - LANES); /* the last ones, twice perhaps */
        vector t[MOST_POINTS][MOST_POINTS], in[MOST_POINTS], out[MOST_POINTS];
        for (int j = 0; j < columns; j++) {
            for (int i = 0; i < rows; i++) in[i] = *(const vector *)(places[i * columns + j] + c);
            to_points(rows, in, out);
            for (int i = 0; i < rows; i++) t[i][j] = out[i];
        }
        for (int i = 0; i < rows; i++) {
            to_points(columns, t[i], out);
            for (int j = 0; j < columns; j++)
                *(vector *)(to + (i * columns + j) * element + c) = out[j];
        }
    }
}

/* sums[o][0:PANEL] = (A^T m A)[o]; whether any is infinite or NaN, and others of the tile with it. */
UNROLLED int backward_tile(
    int rows, int columns, int outputs, int across, const real *products, int64_t element, real *sums)
{
    real lanes[LANES];
    vector wild; /* 0 times what is not finite is NaN */
    int any = 0;
    memset(&wild, 0, sizeof wild);
    for (int first = 0; first < PANEL; first += LANES) {
        vector t[MOST_POINTS][MOST_POINTS], in[MOST_POINTS], out[MOST_POINTS];
        for (int j = 0; j < columns; j++) {
            for (int i = 0; i < rows; i++)
                in[i] = *(const vector *)(products + (i * columns + j) * element + first);
            from_points(rows, outputs, in, out);
            for (int i = 0; i < outputs; i++) t[i][j] = out[i];
        }
        for (int i = 0; i < outputs; i++) {
            from_points(columns, across, t[i], out);
            for (int j = 0; j < across; j++) {
                wild += 0 * out[j];
                *(vector *)(sums + (i * across + j) * PANEL + first) = out[j];
            }
        }
    }
    memcpy(lanes, &wild, sizeof wild);
    for (int i = 0; i < LANES; i++) any |= lanes[i] != 0;
    return any;
}

/* Tiles of M0 x M1 outputs of R0 x R1 taps. */
#define WINOGRAD(NAME, M0, R0, M1, R1)                                                             \
    static void NAME##_forward(                                                                    \
        const real *const *places, int64_t channels, real *to, int64_t element)                    \
    {                                                                                              \
        forward_tile(M0 + R0 - 1, M1 + R1 - 1, places, channels, to, element);                     \
    }                                                                                              \
    static int NAME##_backward(const real *products, int64_t element, real *sums)                  \
    {                                                                                              \
        return backward_tile(M0 + R0 - 1, M1 + R1 - 1, M0, M1, products, element, sums);           \
    }                                                                                              \
    static const Winograd NAME = {                                                                 \
        {M0, M1}, {R0, R1}, {M0 + R0 - 1, M1 + R1 - 1}, NAME##_forward, NAME##_backward};

/* Panels of a layer as [panel][point][input][PANEL outputs]: u = G w G^T, of matrices `g` and `h`
 * for the two axes. */
static void transform_weights(
    const Conv *s, const Winograd *f, const double *g, const double *h, const real *panels, real *u)
{
    const int64_t taps = f->taps[0] * f->taps[1], row = s->inputs * PANEL;
    for (int64_t output = 0; output < s->outputs; output += PANEL, panels += taps * row)
        for (int i = 0; i < f->points[0]; i++)
            for (int j = 0; j < f->points[1]; j++)
                for (int64_t c = 0; c < row; c += PANEL, u += PANEL) {
                    double sums[PANEL] = {0};
                    for (int tap = 0; tap < taps; tap++) {
                        const int a = tap / f->taps[1], b = tap % f->taps[1];
                        const double factor = g[i * f->taps[0] + a] * h[j * f->taps[1] + b];
                        for (int k = 0; k < PANEL; k++)
                            sums[k] += factor * (double)panels[tap * row + c + k];
                    }
                    for (int k = 0; k < PANEL; k++) u[k] = (real)sums[k];
                }
}

/* A tile: its image, its first pixel, and whether an output is infinite or NaN. */
typedef struct {
    int64_t image;
    Pixel pixel;
    int wild;
} Tile;

static Tile find_tile(const Conv *s, const Winograd *f, const int64_t *across, int64_t number)
{
    Tile tile = {0, {{0, 0, 0}, {1, 1, 1}, {0, 0, 0}}, 0};
    for (int axis = 2; axis > 0; number /= across[axis], axis--) {
        const int64_t at = number % across[axis], spacing = s->spacing[axis];
        tile.pixel.from[axis] = at / spacing * spacing * f->outputs[axis - 1] + at % spacing;
    }
    tile.pixel.from[0] = number % s->count[0];
    tile.image = number / s->count[0];
    return tile;
}

/* The places that a tile reads, of its image or of zeros. */
static void find_places(
    const Conv *s, const Winograd *f, const Tile *tile, const real *image, const real *zeros,
    const real **places)
{
    const int64_t *from = tile->pixel.from, depth = from[0] + s->first[0];
    for (int i = 0; i < f->points[0]; i++) {
        const int64_t row = from[1] + s->first[1] + i * s->spacing[1];
        const int inside = depth >= 0 && depth < s->size[0] && row >= 0 && row < s->size[1];
        const real *line = image + (depth * s->size[1] + row) * s->size[2] * s->inputs;
        for (int j = 0; j < f->points[1]; j++) {
            const int64_t column = from[2] + s->first[2] + j * s->spacing[2];
            const int read = inside && column >= 0 && column < s->size[2];
            *places++ = read ? line + column * s->inputs : zeros;
        }
    }
}

/* The tile's outputs from `output` on, those that exist. */
static void write_tile(
    const Conv *s, const Winograd *f, const Tile *tile, const Layer *layer, const real *sums,
    int64_t output)
{
    const int64_t *from = tile->pixel.from, used = BELOW(s->outputs - output, PANEL);
    const int64_t place = written_at(s, &tile->pixel);
    const int64_t down = s->spacing[1] * s->stride[1] * s->extent[2] * s->outputs;
    const int64_t right = s->spacing[2] * s->stride[2] * s->outputs;
    for (int i = 0; i < f->outputs[0] && from[1] + i * s->spacing[1] < s->count[1]; i++)
        for (int j = 0; j < f->outputs[1] && from[2] + j * s->spacing[2] < s->count[2]; j++) {
            const real *at = sums + (i * f->outputs[1] + j) * PANEL;
            const int64_t to = place + i * down + j * right;
            if (used == PANEL) finish(layer, PANEL, at, output, to);
            else finish(layer, used, at, output, to);
        }
}

/* A tile by the definition, pixel by pixel: an infinity reaches only who reads it. */
static void sum_pixels(
    const Conv *s, const Winograd *f, const Tile *tile, const Layer *layer, const real *image,
    real *scratch)
{
    Pixel pixel = tile->pixel;
    for (int i = 0; i < f->outputs[0]; i++)
        for (int j = 0; j < f->outputs[1]; j++) {
            pixel.from[1] = tile->pixel.from[1] + i * s->spacing[1];
            pixel.from[2] = tile->pixel.from[2] + j * s->spacing[2];
            if (pixel.from[1] >= s->count[1] || pixel.from[2] >= s->count[2]) continue;
            const Source source = find_source(s, image, pixel.from, pixel.pixels, scratch);
            sum_box(s, &pixel, &source, layer, scratch);
        }
}

/* `u` is what transform_weights makes; scratch holds transformed inputs [point][tile][input] and
 * products [point][tile][PANEL], a line between points, and zeros. */
static void conv_winograd(
    const Conv *s, const Winograd *f, int most, int64_t images, const real *x, Layer layer,
    const real *u, real *scratch, int64_t scratch_size, int threads)
{
    const int elements = f->points[0] * f->points[1];
    const int64_t inputs = s->inputs, image_x = s->size[0] * s->size[1] * s->size[2] * inputs;
    const int64_t image_y = s->extent[0] * s->extent[1] * s->extent[2] * s->outputs;
    const Window window = {{1, 1, 1}, {0, 0, 0}, inputs};
    int64_t across[3] = {s->count[0], 0, 0};
    for (int axis = 1; axis < 3; axis++) {
        const int64_t span = s->spacing[axis] * f->outputs[axis - 1];
        across[axis] = (s->count[axis] + span - 1) / span * s->spacing[axis];
    }
    const int64_t total = images * across[0] * across[1] * across[2];
    const int64_t share = (total / threads + ROWS) / ROWS * ROWS; /* of a thread */
    const int64_t block = BELOW(share, most);
    const int64_t v_step = block * inputs + PANEL, m_step = block * PANEL + PANEL;
    PARALLEL(total * elements * inputs)
    for (int64_t start = 0; start < total; start += block) {
        const int tiles = (int)BELOW(total - start, block);
        real *const zeros = scratch + THREAD * scratch_size;
        real *const v = zeros + (inputs + PANEL - 1) / PANEL * PANEL;
        real *const m = v + elements * v_step;
        const real *places[MOST_POINTS * MOST_POINTS], *rows[MOST_TILES + ROWS], *w = u;
        real sums[MOST_OUTPUTS * PANEL];
        Layer parts[MOST_TILES];
        Tile tile[MOST_TILES];
        memset(zeros, 0, (size_t)inputs * sizeof(real));
        for (int t = 0; t < tiles; t++) {
            tile[t] = find_tile(s, f, across, start + t);
            parts[t] = layer;
            parts[t].y += tile[t].image * image_y;
            if (layer.residual) parts[t].residual += tile[t].image * image_y;
            find_places(s, f, &tile[t], x + tile[t].image * image_x, zeros, places);
            f->forward(places, inputs, v + t * inputs, v_step);
        }
        for (int64_t output = 0; output < s->outputs; output += PANEL) {
            for (int t = 0; t < tiles + ROWS; t++) rows[t] = v + (t < tiles ? t : 0) * inputs;
            for (int e = 0; e < elements; e++, w += inputs * PANEL) {
                for (int t = 0; t < tiles; t += ROWS) {
                    real *to = m + e * m_step + t * PANEL;
                    if (t + 1 == tiles) sum_row(&window, rows[t], w, to);
                    else sum_tile(&window, rows + t, w, to);
                }
                for (int t = 0; t < tiles + ROWS; t++) rows[t] += v_step;
            }
            for (int t = 0; t < tiles; t++) {
                tile[t].wild |= f->backward(m + t * PANEL, m_step, sums);
                write_tile(s, f, &tile[t], &parts[t], sums, output);
            }
        }
        for (int t = 0; t < tiles; t++)
            if (tile[t].wild)
                sum_pixels(s, f, &tile[t], &parts[t], x + tile[t].image * image_x, m);
    }
}
