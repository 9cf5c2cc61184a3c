"""The chart of the convolution benchmark: rates of all contenders, layer by layer."""

import statistics

from fastconv import _plot
from fastconv.bench import machine, report
from fastconv.bench.rivals import TORCH

__all__ = ["draw"]

# contender: (colour, marker, filled); loops are so slow that they would squeeze all others
STYLES = {
    "SciPy": ("#b5b5b5", "^", True),
    "NumPy": ("#707070", "s", True),
    "NumPy tuned": ("#707070", "s", False),
    "torch NCHW": ("#d9541e", "D", False),
    "torch ch. last": ("#d9541e", "D", True),
    "fastconv": ("#0b5fa5", "o", True),
}


def draw(path, records, threads, peak):
    """A row for each layer and a panel for each pass.

    Parameters
    ----------
    path : pathlib.Path
        Where the figure is saved.
    records : list of dict
    threads : int
        Of every contender.
    peak : float
        Operations per second, a line in each panel.
    """
    passes = list(dict.fromkeys(record["pass"] for record in records))
    layers = list(dict.fromkeys(record["layer"] for record in records))
    height = 0.27 * len(layers) + 1.9  # inches: the rows, and what stands above and below
    figure = _plot.figure(figsize=(3.6 + 5.2 * len(passes), height), dpi=150)
    panels = figure.subplots(1, len(passes), sharey=True, squeeze=False)[0]
    for panel, name in zip(panels, passes, strict=True):
        _panel(panel, name, [record for record in records if record["pass"] == name], peak)
    panels[0].set_yticks(range(len(layers)), layers, fontsize=8)
    panels[0].set_ylim(len(layers) - 0.5, -0.5)  # the first layer on top
    title = f"Convolution layers, float32, {threads} threads of {machine.cpu_model()}"
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
    rates = [_rates(record) for record in records]
    torch = any(TORCH[0] in found for found in rates)
    names = TORCH if torch else ("NumPy",)
    # Of each layer: fastconv's rate and that of the best of these.
    pairs = [(found["fastconv"], max(found[name] for name in names)) for found in rates]
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
    for place, (ours, other) in enumerate(pairs):
        colour = STYLES["fastconv" if ours >= other else names[-1]][0]
        panel.plot(
            [other, ours],
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
            report.ratio(ours / other),
            transform=panel.get_yaxis_transform(),
            fontsize=8,
            color=colour,
            fontweight="bold",
            va="center",
        )
    panel.annotate(
        f"vs {names[0].split()[0]}",
        (1.01, 0),
        (0, -4),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=7,
        color="#404040",
        va="top",
    )
    for column, (colour, marker, filled) in STYLES.items():
        points = [(found[column], place) for place, found in enumerate(rates) if column in found]
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
    mean = report.ratio(statistics.geometric_mean(ours / other for ours, other in pairs))
    versus = "the better PyTorch format" if torch else "NumPy"
    panel.set_title(
        f"{name}: {mean} times {versus}, geometric mean", loc="left", fontsize=9, pad=14
    )
    panel.tick_params(axis="y", length=0)
    panel.tick_params(axis="x", labelsize=8)
    panel.grid(axis="x", color="#dddddd", linewidth=0.6)
    panel.set_axisbelow(True)
    for side in ("top", "left", "right"):
        panel.spines[side].set_visible(False)


def _rates(record):
    """{contender: GFLOP/s}."""
    return {name: record["flops"] / report.median(record, name) / 1e9 for name in record["seconds"]}
