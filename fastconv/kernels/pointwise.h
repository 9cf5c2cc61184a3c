/* Functions of one value, each beside its derivative, as loops over float and double.
 *
 * All are computed in double. None overflows before its limit does, NaN stays NaN, and nothing but
 * erfc is called, so that compilers make vectors of them. */
#ifndef FASTCONV_POINTWISE_H
#define FASTCONV_POINTWISE_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The sum of this and n, for integers |n| < 2^51, has n in its lowest bits. */
#define SHIFT 0x1.8p52

static inline double power_of_two(double n)
{ /* of -1022 <= n <= 1023 */
    const double shifted = n + SHIFT;
    uint64_t bits;
    double result;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits << 52) + ((uint64_t)1023 << 52);
    memcpy(&result, &bits, sizeof result);
    return result;
}

/* e^x = 2^n (1 + p), x = n log 2 + r with |r| <= log(2) / 2, log 2 in two parts of which the first
 * has products without error, p = e^r - 1 from its series. The power is two factors, for their
 * product may be infinite or subnormal. */
typedef struct {
    double p, low, high;
} Exponential;

static inline Exponential exponential(double x)
{
    const double bounded = x > 1000 ? 1000 : x < -1000 ? -1000 : x;
    const double n = (bounded * 1.4426950408889634074 + SHIFT) - SHIFT;
    const double half = (n * 0.5 + SHIFT) - SHIFT;
    const double r = (bounded - n * 6.93147180369123816490e-01) - n * 1.90821492927058770002e-10;
    double series = 1.0 / 6227020800;
    series = series * r + 1.0 / 479001600;
    series = series * r + 1.0 / 39916800;
    series = series * r + 1.0 / 3628800;
    series = series * r + 1.0 / 362880;
    series = series * r + 1.0 / 40320;
    series = series * r + 1.0 / 5040;
    series = series * r + 1.0 / 720;
    series = series * r + 1.0 / 120;
    series = series * r + 1.0 / 24;
    series = series * r + 1.0 / 6;
    series = series * r + 0.5;
    const Exponential result = {r + r * r * series, power_of_two(half), power_of_two(n - half)};
    return result;
}

static inline double exp_(double x)
{
    const Exponential e = exponential(x);
    return (1 + e.p) * e.low * e.high;
}

static inline double expm1_(double x)
{ /* of x <= 709 */
    const Exponential e = exponential(x);
    const double power = e.low * e.high;
    return power * e.p + (power - 1);
}

static inline double log1p_(double x)
{ /* of 0 <= x <= 1: log(1 + x) = 2 artanh(s), s = x / (2 + x) <= 1 / 3 */
    const double s = x / (2 + x), z = s * s;
    double series = 1.0 / 33;
    series = series * z + 1.0 / 31;
    series = series * z + 1.0 / 29;
    series = series * z + 1.0 / 27;
    series = series * z + 1.0 / 25;
    series = series * z + 1.0 / 23;
    series = series * z + 1.0 / 21;
    series = series * z + 1.0 / 19;
    series = series * z + 1.0 / 17;
    series = series * z + 1.0 / 15;
    series = series * z + 1.0 / 13;
    series = series * z + 1.0 / 11;
    series = series * z + 1.0 / 9;
    series = series * z + 1.0 / 7;
    series = series * z + 1.0 / 5;
    series = series * z + 1.0 / 3;
    return 2 * (s + s * z * series);
}

static inline double bounded_by(double x, double low, double high)
{
    return x < low ? low : x > high ? high : x;
}

static inline double logistic(double x)
{
    const double e = exp_(-fabs(x));
    return (x < 0 ? e : 1) / (1 + e);
}

static inline double softplus_(double x)
{
    return (x < 0 ? 0 : x) + log1p_(exp_(-fabs(x)));
}

static inline double tanh_(double x)
{
    const double e = expm1_(-2 * fabs(x));
    return copysign(-e / (e + 2), x);
}

/* tanh(log(1 + e^x)) = p / (p + q), both divided by e^2x where that is large. */
static inline double mish_factor(double x)
{
    const double e = exp_(-fabs(x));
    const double p = x < 0 ? e * (e + 2) : 1 + 2 * e, q = x < 0 ? 2 : 2 * e * e;
    return p / (p + q);
}

static inline double mish_gradient(double x)
{
    const double e = exp_(-fabs(x));
    const double p = x < 0 ? e * (e + 2) : 1 + 2 * e, q = x < 0 ? 2 : 2 * e * e;
    return (p + x * (4 * e * (1 + e) * (x < 0 ? 1 : e)) / (p + q)) / (p + q);
}

static inline double silu_gradient(double x)
{
    return logistic(x) * (1 + x * logistic(-x));
}

static inline double gelu_gradient(double x)
{
    return 0.5 * erfc(-x * 0.70710678118654752440)
           + x * exp_(-0.5 * x * x) * 0.39894228040143267794;
}

/* (1 + tanh u) / 2 is the logistic function of 2u = x (K + L x^2), of which that of x = 40 is more
 * than any exponential has. */
#define GELU_K 1.59576912160573071175
#define GELU_L (GELU_K * 0.044715)

static inline double gelu_tanh_factor(double x)
{
    const double z = bounded_by(x, -40, 40);
    return logistic(z * (GELU_K + GELU_L * z * z));
}

static inline double gelu_tanh_gradient(double x)
{
    const double z = bounded_by(x, -40, 40), u = z * (GELU_K + GELU_L * z * z);
    return logistic(u) * (1 + logistic(-u) * z * (GELU_K + 3 * GELU_L * z * z));
}

/* name, what the derivative is told from, the function of x, its derivative by x of x or, if told
 * from the result, of y; a, b and c are parameters. */
#define FUNCTIONS(EACH)                                                                           \
    EACH(elu, FROM_INPUT, x > 0 ? c * x : a * expm1_(b * x), x > 0 ? c : a * b * exp_(b * x))     \
    EACH(gelu, FROM_INPUT, 0.5 * x * erfc(-x * 0.70710678118654752440), gelu_gradient(x))         \
    EACH(gelu_tanh, FROM_INPUT, x * gelu_tanh_factor(x), gelu_tanh_gradient(x))                   \
    EACH(hardsigmoid, FROM_INPUT, bounded_by(x + 3, 0, 6) / 6, x > -3 && x < 3 ? 1.0 / 6 : 0)     \
    EACH(hardswish, FROM_INPUT, x * (bounded_by(x + 3, 0, 6) / 6),                                \
         x <= -3 ? 0 : x >= 3 ? 1 : x / 3 + 0.5)                                                  \
    EACH(hardtanh, FROM_INPUT, bounded_by(x, a, b), x > a && x < b ? 1 : 0)                       \
    EACH(logsigmoid, FROM_INPUT, -softplus_(-x), logistic(-x))                                    \
    EACH(mish, FROM_INPUT, x * mish_factor(x), mish_gradient(x))                                  \
    EACH(sigmoid, FROM_RESULT, logistic(x), y * (1 - y))                                          \
    EACH(silu, FROM_INPUT, x * logistic(x), silu_gradient(x))                                     \
    EACH(softplus, FROM_INPUT, a * x > b ? x : softplus_(a * x) / a,                              \
         a * x > b ? 1 : logistic(a * x))                                                         \
    EACH(softsign, FROM_INPUT, x / (1 + fabs(x)), 1 / ((1 + fabs(x)) * (1 + fabs(x))))            \
    EACH(tanh, FROM_RESULT, tanh_(x), 1 - y * y)

enum { FROM_INPUT, FROM_RESULT };

#define LOOPS(T, name, value, derivative)                                                         \
    static void name##_of_##T(const T *input, T *output, ptrdiff_t n, double a, double b,         \
                              double c)                                                           \
    {                                                                                             \
        (void)a, (void)b, (void)c;                                                                \
        for (ptrdiff_t i = 0; i < n; i++) {                                                       \
            const double x = input[i];                                                            \
            output[i] = (T)(value);                                                               \
        }                                                                                         \
    }                                                                                             \
    static void name##_backward_of_##T(const T *known, const T *dy, T *dx, ptrdiff_t n, double a, \
                                       double b, double c)                                        \
    {                                                                                             \
        (void)a, (void)b, (void)c;                                                                \
        for (ptrdiff_t i = 0; i < n; i++) {                                                       \
            const double x = known[i], y = x;                                                     \
            (void)y;                                                                              \
            dx[i] = (T)(dy[i] * (derivative));                                                    \
        }                                                                                         \
    }
#define BOTH(name, told_from, value, derivative)                                                  \
    LOOPS(float, name, value, derivative) LOOPS(double, name, value, derivative)
FUNCTIONS(BOTH)

typedef struct {
    const char *name;
    int told_from;
    void (*of_float)(const float *, float *, ptrdiff_t, double, double, double);
    void (*of_double)(const double *, double *, ptrdiff_t, double, double, double);
    void (*backward_of_float)(const float *, const float *, float *, ptrdiff_t, double, double,
                              double);
    void (*backward_of_double)(const double *, const double *, double *, ptrdiff_t, double, double,
                               double);
} Pointwise;

#define ENTRY(name, told_from, value, derivative)                                                 \
    {#name, told_from, name##_of_float, name##_of_double, name##_backward_of_float,               \
     name##_backward_of_double},
static const Pointwise POINTWISE[] = {FUNCTIONS(ENTRY)};
enum { POINTWISE_COUNT = sizeof POINTWISE / sizeof POINTWISE[0] };

#endif
