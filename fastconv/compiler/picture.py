"""The picture of a profile: time above, memory below, on one axis."""

import itertools
from pathlib import Path

from fastconv import _plot

__all__ = ["draw"]

LABELLED = 0.03  # share of the time from which on a step has room for its name


def draw(profile, path):
    """Draw a measured :class:`fastconv.compiler.plan.Profile` to an image file."""
    path = Path(path)
    _plot.check_path(path)
    figure = _plot.figure(figsize=(11, 6.5))
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[1, 1.3])
    ends = list(itertools.accumulate(1e3 * row.seconds for row in profile.rows))
    starts = [0.0, *ends][:-1]
    colours = {name: f"C{i}" for i, name in enumerate(dict.fromkeys(map(_kind, profile.rows)))}
    _steps(above, profile, starts, ends, colours)
    _memory(below, profile.program, starts, ends, colours, [_kind(row) for row in profile.rows])
    figure.savefig(path, dpi=120)


def _kind(row):
    """Operator and algorithm: what has a colour of its own."""
    name = row.operator.partition(" + ")[0] if row.algorithm else row.operator
    return f"{name} ({row.algorithm})" if row.algorithm else name


def _steps(axes, profile, starts, ends, colours):
    """A block for each step, as wide as its time and as high as its rate."""
    shown = set()
    for row, start, end in zip(profile.rows, starts, ends, strict=True):
        kind = _kind(row)
        rate = row.flops / row.seconds / 1e9 if row.seconds else 0.0
        label = None if kind in shown else kind
        shown.add(kind)
        axes.bar(
            start, rate, end - start, align="edge", color=colours[kind], edgecolor="white",
            linewidth=0.5, label=label,
        )  # fmt: skip
    axes.set_ylabel("GFLOP/s of the definition")
    axes.set_title(f"{len(profile.rows)} steps, {1e3 * profile.seconds:.3g} ms")
    if shown:
        axes.legend(fontsize="small", ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.08))


def _memory(axes, program, starts, ends, colours, kinds):
    """A block for each value: when it is needed, and where it lies; stage above stage."""
    total, offset, number = max(ends, default=0) or 1.0, 0, 0
    for stage in program.stages * bool(ends):  # without steps there is nothing to show
        last = number + len(stage.steps)
        span = slice(number, last)
        least = LABELLED * total
        _values(axes, stage, offset, starts[span], ends[span], colours, kinds[span], least)
        number, offset = last, offset + stage.size
    axes.set_ylabel("MB")
    axes.set_xlabel("ms")
    axes.set_xlim(0, total)
    axes.set_ylim(0, max(program.size, 1) / 1e6)
    axes.set_title(f"values: {program.size / 1e6:.3g} MB", fontsize="medium")


def _values(axes, stage, offset, starts, ends, colours, kinds, least):
    makers = {v: number for number, node in enumerate(stage.graph.nodes) for v in node.made()}
    for value, place in stage.places.items():
        made = makers.get(value)
        left = starts[0] if made is None else starts[made]
        right = ends[min(place.last, len(ends) - 1)]
        bottom = (offset + place.offset) / 1e6
        colour = "0.8" if made is None else colours[kinds[made]]
        axes.bar(
            left, place.size / 1e6, right - left, bottom, align="edge", color=colour,
            edgecolor="white", linewidth=0.5,
        )  # fmt: skip
        if right - left > least:
            text = "input" if made is None else " x ".join(map(str, stage.specs[value].shape))
            axes.text(
                (left + right) / 2, bottom + place.size / 2e6, text, fontsize=6, ha="center",
                va="center", rotation=0 if right - left > 4 * least else 90, clip_on=True,
            )  # fmt: skip
