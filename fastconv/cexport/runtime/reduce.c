/* Along axes: of each output value, four axes of the input that are kept, and four that are not;
 * the table has how many, and the steps in the input. */
enum { SUM, MAXIMUM, MINIMUM };

static void reduce(
    int kind, double factor, const int64_t *table, int64_t images, int64_t image_x, const real *x,
    real *y, int threads)
{
    const int64_t *kept = table, *step = table + 4, *gone = table + 8, *along = table + 12;
    const int64_t each = kept[0] * kept[1] * kept[2] * kept[3];
    PARALLEL(images *image_x)
    for (int64_t i = 0; i < images * each; i++) {
        const int64_t k = i % each;
        const real *first = x + i / each * image_x + k / (kept[3] * kept[2] * kept[1]) * step[0]
                            + k / (kept[3] * kept[2]) % kept[1] * step[1]
                            + k / kept[3] % kept[2] * step[2] + k % kept[3] * step[3];
        double sum = 0;
        real best = first[0];
        for (int64_t a = 0; a < gone[0]; a++)
            for (int64_t b = 0; b < gone[1]; b++)
                for (int64_t c = 0; c < gone[2]; c++)
                    for (int64_t d = 0; d < gone[3]; d++) {
                        const real v = first[a * along[0] + b * along[1] + c * along[2] + d * along[3]];
                        sum += v;
                        if (kind == MAXIMUM ? v > best || v != v : v < best || v != v) best = v;
                    }
        y[i] = kind == SUM ? (real)(sum * factor) : best;
    }
}
