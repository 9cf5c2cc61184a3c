/* sums[r][0:PANEL] over the windows at[r] */
NOT_INLINE static void sum_tile(
    const Window *window, const real *const *at, const real *RESTRICT w, real *RESTRICT sums)
{
    vector sum[ROWS][VECTORS];
    const real *x[ROWS];
    for (int r = 0; r < ROWS; r++) x[r] = at[r];
    memset(sum, 0, sizeof sum);
    for (int64_t i = 0; i < window->count[0]; i++)
        for (int64_t j = 0; j < window->count[1]; j++)
            for (int64_t k = 0; k < window->count[2]; k++) {
                const int64_t start =
                    i * window->pitch[0] + j * window->pitch[1] + k * window->pitch[2];
                const int64_t end = start + window->run;
                for (int64_t c = start; c < end; c++, w += PANEL) {
                    vector b[VECTORS];
                    for (int v = 0; v < VECTORS; v++) b[v] = *(const vector *)(w + v * LANES);
                    for (int r = 0; r < ROWS; r++)
                        for (int v = 0; v < VECTORS; v++) sum[r][v] += b[v] * x[r][c];
                }
            }
    memcpy(sums, sum, sizeof sum);
}

/* The same, in the same order, of one window: what an image gives does not depend on others. */
static void sum_row(const Window *window, const real *at, const real *w, real *sums)
{
    vector sum[VECTORS];
    memset(sum, 0, sizeof sum);
    for (int64_t i = 0; i < window->count[0]; i++)
        for (int64_t j = 0; j < window->count[1]; j++)
            for (int64_t k = 0; k < window->count[2]; k++) {
                const real *x =
                    at + i * window->pitch[0] + j * window->pitch[1] + k * window->pitch[2];
                for (int64_t c = 0; c < window->run; c++, w += PANEL)
                    for (int v = 0; v < VECTORS; v++)
                        sum[v] += *(const vector *)(w + v * LANES) * x[c];
            }
    memcpy(sums, sum, sizeof sum);
}

#define PIXELS (8 * ROWS)

/* All outputs of a task: some tiles at a time, so that weights and windows both stay in cache. */
static void sum_box(
    const Conv *s, const Pixel *first, const Source *source, const Layer *layer, real *scratch)
{
    const Window window = find_window(s, source);
    const int64_t total = first->pixels[0] * first->pixels[1] * first->pixels[2];
    const int64_t panel = s->taps[0] * s->taps[1] * s->taps[2] * s->inputs * PANEL;
    Pixel pixel = *first;
    (void)scratch;
    for (int64_t done = 0; done < total; done += PIXELS) {
        const int pixels = (int)BELOW(total - done, PIXELS);
        const real *at[PIXELS + ROWS], *w = layer->w;
        int64_t to[PIXELS];
        for (int p = 0; p < pixels; p++, next_pixel(&pixel)) {
            at[p] = read_at(s, source, &pixel);
            to[p] = written_at(s, &pixel);
        }
        for (int p = pixels; p < pixels + ROWS; p++) at[p] = at[0]; /* for the last tile's rest */
        for (int64_t group = 0; group < s->groups; group++) {
            for (int64_t output = 0; output < s->outputs; output += PANEL, w += panel) {
                const int64_t channel = group * s->outputs + output;
                const int64_t used = BELOW(s->outputs - output, PANEL);
                for (int p = 0; p < pixels; p += ROWS) {
                    const int rows = BELOW(pixels - p, ROWS);
                    real sums[ROWS * PANEL];
                    if (rows == 1) sum_row(&window, at[p], w, sums);
                    else sum_tile(&window, at + p, w, sums);
                    for (int r = 0; r < rows; r++)
                        if (used == PANEL) finish(layer, PANEL, sums + r * PANEL, channel, to[p + r]);
                        else finish(layer, used, sums + r * PANEL, channel, to[p + r]);
                }
            }
            for (int p = 0; p < pixels + ROWS; p++) at[p] += s->inputs;
        }
    }
}
