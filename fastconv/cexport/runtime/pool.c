/* Pooling: the table has, of three axes, how many windows there are, the input's size and the step
 * between places of a window; then for each axis where its windows begin, and where they end. */
enum { LARGEST, MEAN, POWERS };

static void pool(
    int kind, const int64_t *table, const double *divisors, double power, real floor,
    int64_t images, int64_t channels, const real *x, real *y, int threads)
{
    const int64_t *count = table, *size = table + 3, *step = table + 6;
    const int64_t *first[3], *stop[3];
    first[0] = table + 9;
    for (int axis = 0; axis < 3; axis++) {
        stop[axis] = first[axis] + count[axis];
        if (axis < 2) first[axis + 1] = stop[axis] + count[axis];
    }
    const int64_t lines = images * count[0] * count[1];
    PARALLEL(lines *count[2] * channels)
    for (int64_t line = 0; line < lines; line++) {
        const int64_t d = line / count[1] % count[0], h = line % count[1];
        const real *image = x + line / count[1] / count[0] * size[0] * size[1] * size[2] * channels;
        for (int64_t w = 0; w < count[2]; w++)
            for (int64_t channel = 0; channel < channels; channel += 32) {
                const int64_t n = BELOW(channels - channel, 32);
                real best[32];
                double sum[32];
                for (int c = 0; c < 32; c++) {
                    best[c] = floor;
                    sum[c] = 0;
                }
                for (int64_t i = first[0][d]; i < stop[0][d]; i += step[0])
                    for (int64_t j = first[1][h]; j < stop[1][h]; j += step[1])
                        for (int64_t k = first[2][w]; k < stop[2][w]; k += step[2]) {
                            const real *v = image + ((i * size[1] + j) * size[2] + k) * channels + channel;
                            if (kind == LARGEST) /* NaN wins */
                                for (int64_t c = 0; c < n; c++)
                                    best[c] = v[c] > best[c] || v[c] != v[c] ? v[c] : best[c];
                            else if (kind == MEAN)
                                for (int64_t c = 0; c < n; c++) sum[c] += v[c];
                            else
                                for (int64_t c = 0; c < n; c++)
                                    sum[c] += power == 2 ? (double)v[c] * v[c] : pow(v[c], power);
                        }
                real *to = y + (line * count[2] + w) * channels + channel;
                if (kind == LARGEST)
                    for (int64_t c = 0; c < n; c++) to[c] = best[c];
                else {
                    const double divisor = divisors[d] * divisors[count[0] + h]
                                           * divisors[count[0] + count[1] + w];
                    for (int64_t c = 0; c < n; c++) {
                        const double mean = sum[c] / divisor;
                        to[c] = (real)(kind == MEAN ? mean : pow(mean, 1 / power));
                    }
                }
            }
    }
}
