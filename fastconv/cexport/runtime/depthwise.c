/* One input and one output to a group: vectors along the channels of all, weights [tap][channel]. */
static void depthwise_box(
    const Conv *s, const Pixel *first, const Source *source, const Layer *layer, real *scratch)
{
    const Window window = find_window(s, source);
    const int64_t total = first->pixels[0] * first->pixels[1] * first->pixels[2];
    Pixel pixel = *first;
    (void)scratch;
    for (int64_t done = 0; done < total; done++, next_pixel(&pixel)) {
        const real *at = read_at(s, source, &pixel);
        const int64_t to = written_at(s, &pixel);
        for (int64_t channel = 0; channel < s->groups; channel += PANEL) {
            const int64_t used = BELOW(s->groups - channel, PANEL);
            const real *w = layer->w + channel;
            real sums[PANEL] = {0};
            for (int64_t i = 0; i < window.count[0]; i++)
                for (int64_t j = 0; j < window.count[1]; j++)
                    for (int64_t k = 0; k < window.count[2]; k++, w += s->groups) {
                        const real *x = at + i * window.pitch[0] + j * window.pitch[1]
                                        + k * window.pitch[2] + channel;
                        if (used == PANEL)
                            for (int c = 0; c < PANEL; c++) sums[c] += x[c] * w[c];
                        else
                            for (int64_t c = 0; c < used; c++) sums[c] += x[c] * w[c];
                    }
            finish(layer, used, sums, channel, to);
        }
    }
}
