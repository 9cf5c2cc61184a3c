/* What computes a task: of its source, with as much memory as the emitter asked for. */
typedef void Box(
    const Conv *s, const Pixel *first, const Source *source, const Layer *layer, real *scratch);

/* The task's part of the scratch that its copy of the input takes. */
static int64_t copied(const Conv *s, const int64_t *pixels)
{
    int64_t size = s->padded ? s->groups * s->inputs : 0;
    for (int axis = 0; axis < 3; axis++)
        size *= (pixels[axis] - 1) * s->step[axis] + (s->taps[axis] - 1) * s->spacing[axis] + 1;
    return (size + PANEL - 1) / PANEL * PANEL;
}

static void conv(
    const Conv *shape, Box *box, int64_t images, const real *x, Layer layer, real *scratch,
    int64_t scratch_size, int threads)
{
    Conv all = *shape;
    const Conv *s = &all;
    int64_t boxes[3];
    if (all.pointwise) { /* the pixels of all images are those of one */
        all.size[2] = all.count[2] = all.extent[2] = images * all.size[2];
        images = 1;
    }
    for (int axis = 0; axis < 3; axis++)
        boxes[axis] = (s->count[axis] + s->box[axis] - 1) / s->box[axis];
    const int64_t each = boxes[0] * boxes[1] * boxes[2];
    const int64_t image_x = s->size[0] * s->size[1] * s->size[2] * s->groups * s->inputs;
    const int64_t image_y = s->extent[0] * s->extent[1] * s->extent[2] * s->groups * s->outputs;
    const int64_t length = s->taps[0] * s->taps[1] * s->taps[2] * s->inputs;
    PARALLEL(images * image_y * length / 16)
    for (int64_t task = 0; task < images * each; task++) {
        const int64_t image = task / each, number = task % each;
        const int64_t at[3] = {
            number / boxes[2] / boxes[1], number / boxes[2] % boxes[1], number % boxes[2]};
        real *own = scratch + THREAD * scratch_size;
        Layer part = layer;
        Pixel first;
        for (int axis = 0; axis < 3; axis++) {
            first.from[axis] = at[axis] * s->box[axis];
            first.pixels[axis] = BELOW(s->box[axis], s->count[axis] - first.from[axis]);
            first.at[axis] = 0;
        }
        part.y += image * image_y;
        if (part.residual) part.residual += image * image_y;
        const Source source = find_source(s, x + image * image_x, first.from, first.pixels, own);
        box(s, &first, &source, &part, own + copied(s, first.pixels));
    }
}
