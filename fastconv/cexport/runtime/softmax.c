/* exp(v - max) / sum of these, or its logarithm, along the middle of three axes; v is x or, with
 * sign -1, -x. */
static void softmax(
    int64_t outer, int64_t length, int64_t inner, int sign, int logs, const real *x, real *y,
    int threads)
{
    PARALLEL(outer * length * inner)
    for (int64_t line = 0; line < outer * inner; line++) {
        const int64_t start = line / inner * length * inner + line % inner;
        double largest = sign * (double)x[start];
        double sum = 0;
        for (int64_t i = 1; i < length; i++) {
            const double v = sign * (double)x[start + i * inner];
            largest = v > largest || v != v ? v : largest;
        }
        for (int64_t i = 0; i < length; i++) sum += exp(sign * (double)x[start + i * inner] - largest);
        const double log_sum = log(sum);
        for (int64_t i = 0; i < length; i++) {
            const double v = sign * (double)x[start + i * inner] - largest;
            y[start + i * inner] = (real)(logs ? v - log_sum : exp(v) / sum);
        }
    }
}
