/* The maximum or the sum of a window, vectorised across channels. */
#ifndef FASTCONV_POOL_H
#define FASTCONV_POOL_H

#include "direct.h"

typedef enum { POOL_LARGEST, POOL_SUM, POOL_SQUARES } pool_reduction;

#define T float
#define INDEX int
#define NAME(x) pool_##x##_float
#include "pool_template.h"
#undef T
#undef INDEX
#undef NAME

#define T double
#define INDEX long long
#define NAME(x) pool_##x##_double
#include "pool_template.h"
#undef T
#undef INDEX
#undef NAME

#endif
