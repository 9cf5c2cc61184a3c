/* min(slope v where v < 0 else v, top); NaN stays NaN, and a slope of 0 gives 0 for -infinity. */
static inline real activated(real v, real slope, real top)
{
    const real low = slope == 0 ? 0 : v * slope;
    v = v < 0 ? low : v;
    return v > top ? top : v;
}
