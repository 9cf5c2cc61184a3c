/* With a CBLAS: the windows of a task as rows of a matrix, times the weights as one, which
 * `unpack` made of the panels. */
#ifdef @NAME@_USE_CBLAS
static void multiply_box(
    const Conv *s, const Pixel *first, const Source *source, const Layer *layer, real *scratch)
{
    const Window window = find_window(s, source);
    const int64_t total = first->pixels[0] * first->pixels[1] * first->pixels[2];
    const int64_t length = s->taps[0] * s->taps[1] * s->taps[2] * s->inputs;
    real *sums = scratch, *columns = scratch + total * s->outputs;
    Pixel pixel;
    if (total < 8) { /* too few for a product of matrices */
        sum_box(s, first, source, layer, scratch);
        return;
    }
    for (int64_t group = 0; group < s->groups; group++) {
        const real *rows = source->origin;
        const real *w = layer->plain + group * length * s->outputs;
        if (!s->pointwise) {
            real *to = columns;
            pixel = *first;
            for (int64_t done = 0; done < total; done++, next_pixel(&pixel)) {
                const real *at = read_at(s, source, &pixel) + group * s->inputs;
                for (int64_t i = 0; i < window.count[0]; i++)
                    for (int64_t j = 0; j < window.count[1]; j++)
                        for (int64_t k = 0; k < window.count[2]; k++, to += window.run)
                            memcpy(
                                to,
                                at + i * window.pitch[0] + j * window.pitch[1] + k * window.pitch[2],
                                (size_t)window.run * sizeof(real));
            }
            rows = columns;
        }
        CBLAS_GEMM(
            CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)total, (int)s->outputs, (int)length, 1,
            rows, (int)length, w, (int)s->outputs, 0, sums, (int)s->outputs);
        pixel = *first;
        for (int64_t done = 0; done < total; done++, next_pixel(&pixel))
            finish(
                layer, s->outputs, sums + done * s->outputs, group * s->outputs,
                written_at(s, &pixel));
    }
}

/* Panels of a layer as a matrix for each group, [group][tap][input][output]. */
static void unpack(const Conv *s, const real *panels, real *w)
{
    const int64_t length = s->taps[0] * s->taps[1] * s->taps[2] * s->inputs;
    for (int64_t group = 0; group < s->groups; group++, w += length * s->outputs)
        for (int64_t output = 0; output < s->outputs; output += PANEL)
            for (int64_t row = 0; row < length; row++, panels += PANEL)
                for (int64_t i = 0; i < BELOW(s->outputs - output, PANEL); i++)
                    w[row * s->outputs + output + i] = panels[i];
}
#endif
