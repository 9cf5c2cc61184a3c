#if defined(__GNUC__)
#define RESTRICT __restrict__
#define NOT_INLINE __attribute__((noinline)) /* where registers would not suffice */
#else
#define RESTRICT
#define NOT_INLINE
#endif
#if defined(__clang__) /* which would rather write a short loop out, value by value */
#define AS_VECTORS _Pragma("clang loop unroll(disable) interleave(disable)")
#else
#define AS_VECTORS
#if defined(__GNUC__) /* fused multiply-adds, which -std=c99 turns off and C allows */
#pragma GCC optimize("fp-contract=fast")
#endif
#endif

#define ABOVE(a, b) ((a) > (b) ? (a) : (b))
#define BELOW(a, b) ((a) < (b) ? (a) : (b))

/* Loops over tasks, on the caller's number of threads where there is enough to do. What a task
 * computes does not depend on that number. */
#define PRAGMA(text) _Pragma(#text)
#ifdef _OPENMP
#define PARALLEL(values) \
    PRAGMA(omp parallel for num_threads(threads) schedule(static) if ((values) > 16384))
#define THREAD omp_get_thread_num()
#else
#define PARALLEL(values) (void)threads, (void)(values);
#define THREAD 0
#endif

/* from[i][rows][columns] to to[i][columns][rows], for `count` matrices. */
static void transpose(
    int64_t count, int64_t rows, int64_t columns, const real *from, real *to, int threads)
{
    PARALLEL(count * rows * columns)
    for (int64_t i = 0; i < count; i++) {
        const real *source = from + i * rows * columns;
        real *target = to + i * rows * columns;
        if (rows == 1 || columns == 1) {
            memcpy(target, source, (size_t)(rows * columns) * sizeof(real));
            continue;
        }
        for (int64_t top = 0; top < rows; top += 16)
            for (int64_t left = 0; left < columns; left += 16)
                for (int64_t row = top; row < BELOW(top + 16, rows); row++)
                    for (int64_t column = left; column < BELOW(left + 16, columns); column++)
                        target[column * rows + row] = source[row * columns + column];
    }
}
