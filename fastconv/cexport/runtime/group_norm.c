/* (x - mean) / sqrt(var + eps) weight + bias, mean and variance of each group of channels of each
 * image; weight and bias for each channel, or, with `whole`, for each value of an image. */
static void group_norm(
    int64_t images, int64_t places, int64_t channels, int64_t groups, double eps, int whole,
    const real *weight, const real *bias, const real *x, real *y, int threads)
{
    const int64_t n = channels / groups;
    PARALLEL(images *places *channels)
    for (int64_t task = 0; task < images * groups; task++) {
        const int64_t start = task / groups * places * channels + task % groups * n;
        double sum = 0, squares = 0;
        for (int64_t i = 0; i < places; i++)
            for (int64_t c = 0; c < n; c++) sum += x[start + i * channels + c];
        const double mean = sum / (double)(places * n);
        for (int64_t i = 0; i < places; i++)
            for (int64_t c = 0; c < n; c++) {
                const double v = x[start + i * channels + c] - mean;
                squares += v * v;
            }
        const double scale = 1 / sqrt(squares / (double)(places * n) + eps);
        for (int64_t i = 0; i < places; i++)
            for (int64_t c = 0; c < n; c++) {
                const int64_t at = start + i * channels + c;
                const int64_t of = task % groups * n + c + (whole ? i * channels : 0);
                y[at] = (real)((x[at] - mean) * scale * weight[of] + bias[of]);
            }
    }
}
