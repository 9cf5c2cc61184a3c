static void fill(int64_t n, real value, real *y, int threads)
{
    PARALLEL(n)
    for (int64_t i = 0; i < n; i++) y[i] = value;
}
