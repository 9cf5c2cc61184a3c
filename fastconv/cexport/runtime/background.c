/* y = act(bias + residual): what a transposed convolution has where no tap reaches. */
static void background(
    int64_t rows, int64_t channels, const real *bias, const real *residual, real slope, real top,
    real *y, int threads)
{
    PARALLEL(rows * channels)
    for (int64_t row = 0; row < rows; row++)
        for (int64_t c = 0; c < channels; c++) {
            const int64_t i = row * channels + c;
            y[i] = activated(residual ? bias[c] + residual[i] : bias[c], slope, top);
        }
}
