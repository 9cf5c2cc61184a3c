/* Functions of each value, computed in double; the output may lie where an input does. */
#define UNARY(name, expression)                                               \
    static void name(int64_t n, const real *input, real *output, int threads) \
    {                                                                         \
        PARALLEL(n)                                                           \
        for (int64_t i = 0; i < n; i++) {                                     \
            const double x = input[i];                                        \
            output[i] = (real)(expression);                                   \
        }                                                                     \
    }

/* Functions of two operands that broadcast: `steps` are of the images and four axes, of the left
 * and of the right operand. */
#define BINARY(name, expression)                                                               \
    static void name(                                                                          \
        int64_t images, const int64_t *count, const int64_t *steps, const real *left,          \
        const real *right, real *output, int threads)                                          \
    {                                                                                          \
        const int64_t *step_a = steps, *step_b = steps + 5, n = count[3];                      \
        const int64_t size = count[1] * count[2] * n;                                          \
        PARALLEL(images *count[0] * size)                                                      \
        for (int64_t task = 0; task < images * count[0]; task++)                               \
            for (int64_t j = 0; j < count[1]; j++)                                             \
                for (int64_t k = 0; k < count[2]; k++) {                                       \
                    const int64_t image = task / count[0], i = task % count[0];                \
                    const real *pa = left + image * step_a[0] + i * step_a[1] + j * step_a[2]  \
                                     + k * step_a[3];                                          \
                    const real *pb = right + image * step_b[0] + i * step_b[1] + j * step_b[2] \
                                     + k * step_b[3];                                          \
                    real *to = output + task * size + (j * count[2] + k) * n;                  \
                    for (int64_t m = 0; m < n; m++) {                                          \
                        const double a = pa[m * step_a[4]], b = pb[m * step_b[4]];             \
                        to[m] = (real)(expression);                                            \
                    }                                                                          \
                }                                                                              \
    }
