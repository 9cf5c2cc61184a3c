/* Resizing: output place i of an axis is the sum of weights[t] x[places[t]], t from starts[i] to
 * starts[i + 1]. The table has the sizes of three axes, how many places there are, and lists one after
 * the other. */
static void resample(
    const int64_t *size, const int64_t *count, const int64_t *starts, const int64_t *places,
    const double *weights, int64_t images, int64_t channels, const real *x, real *y, int threads)
{
    const int64_t lines = images * count[0] * count[1];
    PARALLEL(lines *count[2] * channels)
    for (int64_t line = 0; line < lines; line++) {
        const int64_t *d = starts + line / count[1] % count[0];
        const int64_t *h = starts + count[0] + 1 + line % count[1];
        const real *image = x + line / count[1] / count[0] * size[0] * size[1] * size[2] * channels;
        for (int64_t i = 0; i < count[2]; i++) {
            const int64_t *w = starts + count[0] + count[1] + 2 + i;
            real *to = y + (line * count[2] + i) * channels;
            for (int64_t c = 0; c < channels; c++) to[c] = 0;
            for (int64_t a = d[0]; a < d[1]; a++)
                for (int64_t b = h[0]; b < h[1]; b++)
                    for (int64_t e = w[0]; e < w[1]; e++) {
                        const int64_t place = (places[a] * size[1] + places[b]) * size[2] + places[e];
                        const real factor = (real)(weights[a] * weights[b] * weights[e]);
                        const real *v = image + place * channels;
                        for (int64_t c = 0; c < channels; c++) to[c] += factor * v[c];
                    }
        }
    }
}
