/* Values to other places: the table has six axes, of each how many, and the steps that are taken
 * in the input and in the output. */
static void move(
    const int64_t *table, int64_t images, int64_t image_x, const real *x, int64_t image_y, real *y,
    int threads)
{
    const int64_t *count = table, *from = table + 6, *to = table + 12;
    PARALLEL(images *count[0] * count[1] * count[2] * count[3] * count[4] * count[5])
    for (int64_t task = 0; task < images * count[0]; task++) {
        const real *source = x + task / count[0] * image_x + task % count[0] * from[0];
        real *target = y + task / count[0] * image_y + task % count[0] * to[0];
        for (int64_t a = 0; a < count[1]; a++)
            for (int64_t b = 0; b < count[2]; b++)
                for (int64_t c = 0; c < count[3]; c++)
                    for (int64_t d = 0; d < count[4]; d++) {
                        const real *v = source + a * from[1] + b * from[2] + c * from[3] + d * from[4];
                        real *w = target + a * to[1] + b * to[2] + c * to[3] + d * to[4];
                        for (int64_t e = 0; e < count[5]; e++) w[e * to[5]] = v[e * from[5]];
                    }
    }
}
