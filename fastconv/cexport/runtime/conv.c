/* Convolution. Along an axis, output pixel i reads the input's places i * step + first +
 * tap * spacing, and writes place start + i * stride of `extent`. Arrays are channels-last. A task is
 * a box of output pixels of an image; where windows reach beyond the input, it copies what it reads
 * with zeros around it. Weights come as panels, [group][panel][tap][input][PANEL outputs]. */
typedef struct {
    int64_t size[3], count[3], step[3], first[3], spacing[3], taps[3];
    int64_t start[3], stride[3], extent[3];
    int64_t groups, inputs, outputs; /* channels of a group */
    int64_t box[3];                  /* most pixels of a task along each axis */
    int padded;    /* whether windows reach beyond the input */
    int pointwise; /* whether a window is a pixel, and pixels lie one after the other, in and out */
} Conv;

#define PANEL (64 / (int)sizeof(real))

/* A register tile is ROWS pixels by a panel. */
#if defined(__GNUC__) && !defined(@NAME@_PLAIN_LOOPS)
#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#define ROWS 12
#elif defined(__AVX__)
#define VECTOR_BYTES 32
#define ROWS 6
#else
#define VECTOR_BYTES 16
#ifdef __aarch64__
#define ROWS 6
#else
#define ROWS 3
#endif
#endif
typedef real vector
    __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(real)), may_alias));
#else
#define ROWS 4
typedef real vector;
#endif
#define LANES ((int)(sizeof(vector) / sizeof(real)))
#define VECTORS (PANEL / LANES)

/* y = act(sums + bias + residual), the residual, where there is one, of y's shape; `plain` weights
 * are those that `unpack` makes for a CBLAS. */
typedef struct {
    const real *w, *plain, *bias, *residual;
    real *y;
    real slope, top;
} Layer;

static Layer make_layer(
    const real *w, const real *plain, const real *bias, const real *residual, real slope, real top,
    real *y)
{
    const Layer layer = {w, plain, bias, residual, y, slope, top};
    return layer;
}

/* Where a task reads: its first place, and how far apart neighbours along the axes are. */
typedef struct {
    const real *origin;
    int64_t pitch[3];
} Source;

/* The taps of a window: `count` runs of so many reals along each axis, `pitch` apart. */
typedef struct {
    int64_t count[3], pitch[3], run;
} Window;

/* A pixel of a task, which has `pixels` along each axis, beginning at `from`. */
typedef struct {
    int64_t from[3], pixels[3], at[3];
} Pixel;

static Source find_source(
    const Conv *s, const real *image, const int64_t *from, const int64_t *pixels, real *scratch)
{
    const int64_t channels = s->groups * s->inputs;
    int64_t low[3], length[3];
    Source source;
    for (int axis = 0; axis < 3; axis++) {
        low[axis] = from[axis] * s->step[axis] + s->first[axis];
        length[axis] = (pixels[axis] - 1) * s->step[axis] + (s->taps[axis] - 1) * s->spacing[axis] + 1;
    }
    if (!s->padded) {
        source.pitch[2] = channels;
        source.pitch[1] = s->size[2] * channels;
        source.pitch[0] = s->size[1] * source.pitch[1];
        source.origin = image + low[0] * source.pitch[0] + low[1] * source.pitch[1] + low[2] * channels;
        return source;
    }
    const int64_t left = BELOW(ABOVE(-low[2], 0), length[2]);
    const int64_t right = ABOVE(BELOW(s->size[2] - low[2], length[2]), left);
    real *line = scratch;
    for (int64_t i = low[0]; i < low[0] + length[0]; i++)
        for (int64_t j = low[1]; j < low[1] + length[1]; j++, line += length[2] * channels) {
            const int inside = i >= 0 && i < s->size[0] && j >= 0 && j < s->size[1];
            const int64_t before = inside ? left : length[2], after = inside ? right : length[2];
            memset(line, 0, (size_t)(before * channels) * sizeof(real));
            memset(line + after * channels, 0, (size_t)((length[2] - after) * channels) * sizeof(real));
            if (after > before)
                memcpy(
                    line + before * channels,
                    image + ((i * s->size[1] + j) * s->size[2] + low[2] + before) * channels,
                    (size_t)((after - before) * channels) * sizeof(real));
        }
    source.origin = scratch;
    source.pitch[2] = channels;
    source.pitch[1] = length[2] * channels;
    source.pitch[0] = length[1] * source.pitch[1];
    return source;
}

static Window find_window(const Conv *s, const Source *source)
{
    Window window;
    for (int axis = 0; axis < 3; axis++) {
        window.count[axis] = s->taps[axis];
        window.pitch[axis] = s->spacing[axis] * source->pitch[axis];
    }
    window.run = s->inputs;
    if (s->groups == 1 && s->spacing[2] == 1) { /* neighbours in memory */
        window.run *= window.count[2];
        window.count[2] = 1;
    }
    return window;
}

static void next_pixel(Pixel *pixel)
{
    if (++pixel->at[2] < pixel->pixels[2]) return;
    pixel->at[2] = 0;
    if (++pixel->at[1] < pixel->pixels[1]) return;
    pixel->at[1] = 0;
    pixel->at[0]++;
}

static const real *read_at(const Conv *s, const Source *source, const Pixel *pixel)
{
    return source->origin + pixel->at[0] * s->step[0] * source->pitch[0]
           + pixel->at[1] * s->step[1] * source->pitch[1]
           + pixel->at[2] * s->step[2] * source->pitch[2];
}

static int64_t written_at(const Conv *s, const Pixel *pixel)
{
    int64_t place = 0;
    for (int axis = 0; axis < 3; axis++)
        place = place * s->extent[axis] + s->start[axis]
                + (pixel->from[axis] + pixel->at[axis]) * s->stride[axis];
    return place * s->groups * s->outputs;
}

static inline void write_sums(
    int64_t n, const real *RESTRICT sums, const real *RESTRICT bias, const real *RESTRICT residual,
    real slope, real top, real *RESTRICT y)
{
    if (residual) {
        AS_VECTORS
        for (int64_t i = 0; i < n; i++)
            y[i] = activated(sums[i] + bias[i] + residual[i], slope, top);
    } else {
        AS_VECTORS
        for (int64_t i = 0; i < n; i++) y[i] = activated(sums[i] + bias[i], slope, top);
    }
}

/* The sums of `n` channels from `channel` on, of the pixel that is written at `place`. */
static inline void finish(
    const Layer *layer, int64_t n, const real *sums, int64_t channel, int64_t place)
{
    const real *residual = layer->residual ? layer->residual + place + channel : NULL;
    write_sums(
        n, sums, layer->bias + channel, residual, layer->slope, layer->top,
        layer->y + place + channel);
}
