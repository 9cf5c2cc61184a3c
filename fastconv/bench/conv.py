"""Convolution layers of published networks, beside NumPy, SciPy and PyTorch.

    fastconv bench conv

prints Markdown tables and draws a chart; benchmarks/README.md of the sources explains the columns.
"""

import sys

from fastconv.bench import chart, harness, report
from fastconv.bench.layers import LAYERS
from fastconv.bench.report import Column
from fastconv.bench.rivals import COLUMNS, reference, rivals, set_num_threads
from fastconv.bench.timing import copy_bandwidth, matmul_peak

__all__ = ["LAYERS", "run"]

CAPTION = (
    "'vs' is the time of the other over the time of fastconv, above 1 where fastconv is faster; "
    "'vs torch' takes the better of PyTorch's two formats. GFLOP are those of the definition: an "
    "algorithm that saves multiplications may pass 100 % of the peak. An error is the largest one "
    "over the largest value, against float64, the worst of all results; 'torch error' is the "
    "worse of the two formats."
)


def run(options):
    """Measure the options' layers; print, write and draw what was found."""
    set_num_threads(options.threads)

    peak = matmul_peak()
    bandwidth = copy_bandwidth(options.threads)
    records = harness.every_layer(options, measure)
    peak = max(peak, matmul_peak())  # the machine's speed drifts

    about = harness.describe(
        options,
        f"FMA peak: {peak / 1e9:.0f} GFLOP/s, as the best float32 matrix product of NumPy's "
        "and SciPy's BLAS on these threads",
        f"copy bandwidth: {bandwidth / 1e9:.1f} GB/s, read and written, on these threads",
    )
    harness.publish(options, about, records, lambda found: table(found, peak), CAPTION, peak=peak)
    if options.plot is not None:
        chart.draw(options.plot, records, options.threads, peak)
        print(f"the chart is {options.plot}", file=sys.stderr)


def measure(layer, options):
    """One record for each pass: times and errors of every column that takes part."""
    forms = rivals(layer, layer.arrays())
    forms = [form for form in forms if form.estimate() < options.budget / 2]  # else left out
    expected = reference(layer, options.backward)
    facts = [{"flops": layer.flops}, {"flops": 3 * layer.flops}]
    return harness.measure(layer, options, forms, expected, facts)


def table(records, peak):
    """A row for each layer of one pass, and the geometric means and lowest ratios."""

    def speed(record):
        return record["flops"] / report.median(record, "fastconv")

    def against(name):
        return lambda record: report.quotient(
            report.median(record, name), report.median(record, "fastconv")
        )

    def torch_against(name):
        return lambda record: report.against_torch(record, name)

    ratios = [
        Column("vs NumPy", against("NumPy"), report.ratio),
        Column("vs tuned", against("NumPy tuned"), report.ratio),
        Column("vs torch", torch_against("fastconv"), report.ratio),
    ]
    if report.took_part(records, "prepared"):
        ratios.append(Column("prepared vs torch", torch_against("prepared"), report.ratio))
    columns = [
        Column("layer", lambda record: record["layer"]),
        Column("GFLOP", lambda record: record["flops"] / 1e9, "{:.3f}".format),
        *report.times(records, COLUMNS),
        *ratios,
        Column("GFLOP/s", speed, report.rate),
        Column("of peak", lambda record: speed(record) / peak, report.percent),
        *report.worst_errors(),
    ]
    compared = [column.title for column in ratios]
    summaries = [report.mean(*compared, "GFLOP/s", "of peak"), report.lowest(*compared)]
    return report.table(records, columns, summaries)
