static void prelu(
    int64_t rows, int64_t channels, const real *x, const real *slopes, real *y, int threads)
{
    PARALLEL(rows * channels)
    for (int64_t row = 0; row < rows; row++)
        for (int64_t c = 0; c < channels; c++) {
            const real v = x[row * channels + c];
            y[row * channels + c] = v > 0 ? v : v * slopes[c];
        }
}
