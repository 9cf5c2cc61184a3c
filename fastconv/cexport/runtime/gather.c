/* Runs of values from places that a table has; zeros where it has -1. */
static void gather(
    const int64_t *table, int64_t runs, int64_t run, int64_t images, int64_t image_x, const real *x,
    real *y, int threads)
{
    PARALLEL(images *runs *run)
    for (int64_t task = 0; task < images * runs; task++) {
        const int64_t place = table[task % runs];
        const real *source = x + task / runs * image_x + place;
        real *to = y + task * run;
        for (int64_t i = 0; i < run; i++) to[i] = place < 0 ? 0 : source[i];
    }
}
