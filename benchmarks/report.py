"""The Markdown tables and the chart of what was measured."""

import statistics

from rivals import COLUMNS, TORCH

__all__ = ["caption", "chart", "table"]

NOTHING = "\N{EN DASH}"
# column: (colour, marker, filled); loops are so slow that they would squeeze all others
STYLES = {
    "SciPy": ("#b5b5b5", "^", True),
    "NumPy": ("#707070", "s", True),
    "NumPy tuned": ("#707070", "s", False),
    "torch NCHW": ("#d9541e", "D", False),
    "torch ch. last": ("#d9541e", "D", True),
    "fastconv": ("#0b5fa5", "o", True),
}


def caption(warm_malloc, rounds):
    malloc = (
        "with glibc's malloc kept warm for all, which is PyTorch at its best"
        if warm_malloc
        else "with malloc as it is by default"
    )
    return (
        f"Medians of up to {rounds} samples, float32, all contenders in turns, in an order "
        f"shuffled every round, {malloc}. 'vs' is the time of the other over the time of "
        "fastconv, above 1 where fastconv is faster; 'vs torch' takes the better of PyTorch's two "
        "formats. GFLOP are those of the definition: an algorithm that saves multiplications "
        "may pass 100 % of the peak. An error is the largest one over the largest value, against "
        "float64, the worst of all results; 'torch error' is the worse of the two formats."
    )


def table(records, peak):
    """A row for each layer of one pass, and the geometric means."""
    present = [column for column in COLUMNS if any(column in r["seconds"] for r in records)]
    figures = [_figures(record) for record in records]
    titles = [
        "layer",
        "GFLOP",
        *(f"{column} ms" for column in present),
        "vs NumPy",
        "vs tuned",
        "vs torch",
        *(["prepared vs torch"] if "prepared" in present else []),
        "GFLOP/s",
        "of peak",
        "error",
        "torch error",
    ]
    rows = [
        [
            record["layer"],
            f"{record['flops'] / 1e9:.3f}",
            *(_optional(_milliseconds, figure["medians"].get(column)) for column in present),
            _optional(_ratio, figure["numpy"]),
            _optional(_ratio, figure["tuned"]),
            _optional(_ratio, figure["torch"]),
            *([_optional(_ratio, figure["prepared"])] if "prepared" in present else []),
            _rate(figure["rate"]),
            _percent(figure["rate"] / peak),
            _optional(_error, figure["error"]),
            _optional(_error, figure["torch error"]),
        ]
        for record, figure in zip(records, figures, strict=True)
    ]
    compared = ["numpy", "tuned", "torch", *(["prepared"] if "prepared" in present else [])]
    ratios = {name: [figure[name] for figure in figures] for name in compared}
    rate = _mean(figure["rate"] for figure in figures)
    margin = [""] * (len(present) + 1)
    count = len(rows)
    rows.append(
        [
            f"geometric mean of {count}",
            *margin,
            *(_optional(_ratio, _mean(ratios[name])) for name in compared),
            _rate(rate),
            _percent(rate / peak),
            "",
            "",
        ]
    )
    lowest = (_optional(_ratio, _lowest(ratios[name])) for name in compared)
    rows.append([f"lowest of {count}", *margin, *lowest, "", "", "", ""])
    return _markdown([titles, *rows])


def _figures(record):
    """What the record says of fastconv: medians, ratios, rate and errors."""
    medians = {column: statistics.median(times) for column, times in record["seconds"].items()}
    errors = {column: max(found.values()) for column, found in record["errors"].items()}
    ours = medians["fastconv"]
    torch = min(medians[column] for column in TORCH) if TORCH[0] in medians else None
    prepared = medians.get("prepared")
    return {
        "medians": medians,
        "numpy": medians["NumPy"] / ours,
        "tuned": medians["NumPy tuned"] / ours,
        "torch": torch / ours if torch else None,
        "prepared": torch / prepared if torch and prepared else None,
        "rate": record["flops"] / ours,
        "error": errors["fastconv"],
        "torch error": max(errors[column] for column in TORCH) if TORCH[0] in errors else None,
    }


def _mean(values):
    values = [value for value in values if value is not None]
    return statistics.geometric_mean(values) if values else None


def _lowest(values):
    return min((value for value in values if value is not None), default=None)


def _optional(form, value):
    return NOTHING if value is None else form(value)


def _three_digits(value):
    """At least three significant digits, never an exponent."""
    return f"{value:.{3 if value < 1 else 2 if value < 10 else 1 if value < 100 else 0}f}"


def _milliseconds(seconds):
    return _three_digits(seconds * 1e3)


def _ratio(value):
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def _rate(value):
    return _three_digits(value / 1e9)


def _percent(share):
    return f"{100 * share:.0f} %"


def _error(value):
    return f"{value:.1e}"


def _markdown(rows):
    """A table that lines up as plain text too: names to the left, figures to the right."""
    first, *others = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        " | ".join([name.ljust(first), *map(str.rjust, cells, others)]) for name, *cells in rows
    ]
    rule = " | ".join(["-" * first, *("-" * (width - 1) + ":" for width in others)])
    return "\n".join(f"| {line} |" for line in [lines[0], rule, *lines[1:]])


def chart(path, records, title, peak):
    """Rates of all contenders, a row for each layer and a panel for each pass, as a PNG."""
    from matplotlib.figure import Figure

    passes = list(dict.fromkeys(record["pass"] for record in records))
    layers = list(dict.fromkeys(record["layer"] for record in records))
    height = 0.27 * len(layers) + 1.9  # inches: the rows, and what stands above and below
    figure = Figure(figsize=(3.6 + 5.2 * len(passes), height), dpi=150, layout="constrained")
    panels = figure.subplots(1, len(passes), sharey=True, squeeze=False)[0]
    for panel, name in zip(panels, passes, strict=True):
        _panel(panel, name, [record for record in records if record["pass"] == name], peak)
    panels[0].set_yticks(range(len(layers)), layers, fontsize=8)
    panels[0].set_ylim(len(layers) - 0.5, -0.5)  # the first layer on top
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    marks = {mark.get_label(): mark for panel in panels for mark in panel.collections}
    columns = [column for column in reversed(STYLES) if column in marks]
    figure.legend(
        [marks[column] for column in columns],
        columns,
        loc="outside lower left",
        ncols=len(columns),
        frameon=False,
        fontsize=9,
    )
    figure.savefig(path)


def _panel(panel, name, records, peak):
    figures = [_figures(record) for record in records]
    against = "torch" if any(figure["torch"] for figure in figures) else "numpy"
    rival = {"torch": TORCH, "numpy": ("NumPy",)}[against]
    for place in range(0, len(records), 2):
        panel.axhspan(place - 0.5, place + 0.5, color="#f4f4f4", linewidth=0, zorder=0)
    panel.axvline(peak / 1e9, color="#404040", linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
    panel.text(
        peak / 1e9,
        1.003,
        "FMA peak",
        transform=panel.get_xaxis_transform(),
        fontsize=7,
        color="#404040",
        ha="center",
        va="bottom",
    )
    for place, figure in enumerate(figures):
        winner = "fastconv" if figure[against] >= 1 else rival[-1]
        colour = STYLES[winner][0]
        other = figure["rate"] / figure[against] / 1e9
        panel.plot(
            [other, figure["rate"] / 1e9],
            [place, place],
            color=colour,
            linewidth=3.5,
            alpha=0.35,
            solid_capstyle="butt",
            zorder=2,
        )
        panel.text(
            1.01,
            place,
            _ratio(figure[against]),
            transform=panel.get_yaxis_transform(),
            fontsize=8,
            color=colour,
            fontweight="bold",
            va="center",
        )
    panel.annotate(
        f"vs {rival[0].split()[0]}",
        (1.01, 0),
        (0, -4),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=7,
        color="#404040",
        va="top",
    )
    for column, (colour, marker, filled) in STYLES.items():
        points = [
            (record["flops"] / figure["medians"][column] / 1e9, place)
            for place, (record, figure) in enumerate(zip(records, figures, strict=True))
            if column in figure["medians"]
        ]
        if points:
            panel.scatter(
                *zip(*points, strict=True),
                s=34 if column == "fastconv" else 20,
                marker=marker,
                linewidths=1.1,
                facecolors=colour if filled else "white",
                edgecolors=colour,
                label=column,
                zorder=4 if column == "fastconv" else 3,
            )
    panel.set_xscale("log")
    panel.xaxis.set_major_formatter("{x:g}")
    panel.set_xlabel("GFLOP/s of the definition (further right is faster)", fontsize=8)
    mean = _ratio(_mean(figure[against] for figure in figures))
    versus = "the better PyTorch format" if against == "torch" else "NumPy"
    panel.set_title(
        f"{name}: {mean} times {versus}, geometric mean", loc="left", fontsize=9, pad=14
    )
    panel.tick_params(axis="y", length=0)
    panel.tick_params(axis="x", labelsize=8)
    panel.grid(axis="x", color="#dddddd", linewidth=0.6)
    panel.set_axisbelow(True)
    for side in ("top", "left", "right"):
        panel.spines[side].set_visible(False)
