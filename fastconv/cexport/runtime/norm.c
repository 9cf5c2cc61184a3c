/* act((x - mean) scale + shift + residual), constants for each of `channels` columns. */
static void normalize(
    int64_t rows, int64_t channels, const real *x, const real *mean, const real *scale,
    const real *shift, const real *residual, real slope, real top, real *y, int threads)
{
    PARALLEL(rows * channels)
    for (int64_t row = 0; row < rows; row++)
        for (int64_t c = 0; c < channels; c++) {
            const int64_t i = row * channels + c;
            real v = (x[i] - mean[c]) * scale[c] + shift[c];
            if (residual) v += residual[i];
            y[i] = activated(v, slope, top);
        }
}
