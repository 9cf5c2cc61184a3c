"""Networks in ONNX files made ready to run, beside ONNX Runtime.

fastconv bench load MODEL...
"""

import functools

import fastconv.onnx
from fastconv.bench import harness, report
from fastconv.bench.nets import describe_runtime, installed, onnx_session
from fastconv.bench.report import Column
from fastconv.bench.rivals import set_num_threads
from fastconv.bench.timing import interleave

__all__ = ["run"]

RUNTIME = "ONNX Runtime"
CAPTION = (
    f"'fastconv' is fastconv.onnx.load, '{RUNTIME}' is an InferenceSession made of the same file, "
    f"as it comes: it rewrites the graph and packs weights, which fastconv does when a plan is "
    f"made. 'vs {RUNTIME}' is the time of the latter over the time of fastconv, above 1 where "
    f"fastconv is faster."
)


def run(options):
    """Measure the options' models; print and write what was found."""
    missing = [path for path in options.models if not path.is_file()]
    if missing:
        raise FileNotFoundError(f"{missing[0]} does not exist, or is not a file")
    set_num_threads(options.threads)
    options.layers = options.models
    records = harness.every_layer(options, measure)
    about = harness.describe(options, describe_runtime(RUNTIME))
    harness.publish(options, about, records, table, CAPTION)


def measure(path, options):
    """The record of a file."""
    contenders = {"fastconv": functools.partial(fastconv.onnx.load, path)}
    if installed(RUNTIME):
        contenders[RUNTIME] = functools.partial(onnx_session, path, options.threads)
    seconds = interleave(contenders, options.rounds, options.budget)
    size = path.stat().st_size
    return [{"layer": path.name, "pass": "loading", "bytes": size, "seconds": seconds}]


def table(records):
    """A row for each file, the geometric mean and the lowest ratio."""

    def versus(record):
        return report.quotient(report.median(record, RUNTIME), report.median(record, "fastconv"))

    ratio = Column(f"vs {RUNTIME}", versus, report.ratio)
    columns = [
        Column("model", lambda record: record["layer"]),
        Column("MB", lambda record: record["bytes"] / 1e6, report.three_digits),
        *report.times(records, ("fastconv", RUNTIME)),
        *([ratio] if report.took_part(records, RUNTIME) else []),
    ]
    return report.table(records, columns, [report.mean(ratio.title), report.lowest(ratio.title)])
