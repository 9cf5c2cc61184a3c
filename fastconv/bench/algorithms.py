"""Each algorithm on the layers of the convolution benchmark, to check which one "auto" takes.

fastconv bench algorithms
"""

import dataclasses

from fastconv._algorithm import ALGORITHMS
from fastconv.bench import harness, report
from fastconv.bench.layers import LAYERS
from fastconv.bench.report import Column, Summary
from fastconv.bench.rivals import (
    TORCH,
    channels_last,
    fastconv_call,
    fastconv_rival,
    reference,
    set_num_threads,
    torch_forms,
)

__all__ = ["FIXED", "LAYERS", "joined", "run", "ways"]

FIXED = tuple(name for name in ALGORITHMS if name != "auto")
CAPTION = (
    "'auto took' names what was chosen, with gradients that for the output, the gradient by input "
    "and the gradient by weight where they differ. 'auto / fastest' is the time of auto over that "
    "of the fastest of the others, 1 where the choice is right. 'gemm vs torch' is the time of the "
    "better of PyTorch's two formats over the time of gemm, above 1 where gemm is faster; dense "
    "are the layers of one group."
)


def run(options):
    """Measure the options' layers; print and write what was found."""
    set_num_threads(options.threads)
    records = harness.every_layer(options, measure)
    harness.publish(options, harness.describe(options), records, table, CAPTION)


def measure(layer, options):
    """One record for each pass: times and errors of every algorithm, and of PyTorch."""
    arrays = layer.arrays()
    x, w, b, dy = arrays
    x, w, dy = map(channels_last, (x, w, dy))
    forms = []
    for name in (*FIXED, "auto"):
        form = fastconv_rival(name, fastconv_call(layer, algorithm=name), (x, w, b), dy)
        taken = ways(layer, name)
        if name != "auto":
            # Where it cannot take the shape it is another one, which is measured already.
            form = dataclasses.replace(
                form,
                forward=form.forward if name in taken[0] else None,
                step=form.step if any(name in way for way in taken) else None,
            )
        forms.append(form)
    facts = [{"groups": layer.groups, "took": joined(way)} for way in (taken[:1], taken)]
    expected = reference(layer, options.backward)
    return harness.measure(layer, options, forms + torch_forms(layer, *arrays), expected, facts)


def ways(layer, algorithm):
    """What an algorithm takes for the output and the gradients by input and by weight.

    Names of algorithms; of several, for the phases of a strided gradient, joined by "+".
    """
    return tuple(
        "+".join(sorted({plan.algorithm for plan in plans})) for plans in layer.plans(algorithm)
    )


def joined(ways):
    """Text of what :func:`ways` returns, a name alone where it is the same for all."""
    return ways[0] if len(set(ways)) == 1 else " / ".join(ways)


def table(records):
    """A row for each layer of one pass, the geometric means and the worst choice."""

    def loss(record):
        fastest = min(report.median(record, name) for name in FIXED if name in record["seconds"])
        return report.median(record, "auto") / fastest

    columns = [
        Column("layer", lambda record: record["layer"]),
        *report.times(records, (*FIXED, "auto", *TORCH)),
        Column("auto took", lambda record: record["took"]),
        Column("auto / fastest", loss, report.ratio),
    ]
    summaries = [report.mean("auto / fastest"), Summary("highest of {}", max, ("auto / fastest",))]
    if report.took_part(records, TORCH[0]):
        title = "gemm vs torch"
        columns.append(Column(title, lambda r: report.against_torch(r, "gemm"), report.ratio))
        dense = "geometric mean of {} dense"
        summaries.append(report.mean(title, name=dense, of=lambda r: r["groups"] == 1))
    return report.table(records, columns, summaries)
