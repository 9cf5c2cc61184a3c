"""Networks as C, with and without a CBLAS, beside their plans.

fastconv bench c
"""

import ctypes
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import fastconv
from fastconv.bench import harness, report
from fastconv.bench.networks import NETWORKS, Network
from fastconv.bench.report import Column
from fastconv.bench.rivals import Rival, set_num_threads

__all__ = ["LAYERS", "Case", "run"]

PLAN, PRODUCTS, ALONE = COLUMNS = ("plan", "C, CBLAS", "C alone")
FLAGS = ["-std=c99", "-O3", "-march=native", "-fPIC", "-shared"]
CBLAS = ["-DNET_USE_CBLAS", "-lopenblas"]
CAPTION = (
    "'plan' is what fastconv.compile gives, 'C, CBLAS' and 'C alone' are what fastconv.export_c "
    "writes, compiled with and without OpenBLAS. 'vs plan' is the time of the plan over that of "
    "the C, above 1 where the C is faster. An error is the largest one over the largest value, "
    "against the model in float64."
)


@dataclass(frozen=True)
class Case:
    """A network, and of how many images a call is."""

    network: Network
    batch: int
    quick: bool = False

    @property
    def name(self):
        return f"{self.network.name} batch {self.batch}"

    @property
    def origin(self):
        return self.network.origin


LAYERS = tuple(
    Case(NETWORKS[name], batch, name == "LeNet" and batch == 1)
    for name in ("LeNet", "ResNet-20", "1-D")
    for batch in (1, 32)
)


def run(options):
    """Measure the options' cases; print and write what was found."""
    set_num_threads(options.threads)
    options.backward = False
    records = harness.every_layer(options, measure)
    about = harness.describe(options, describe_compiler(), f"flags: {' '.join(FLAGS[:3])}")
    harness.publish(options, about, records, table, CAPTION)


def compiler():
    """The C compiler's command: ``CC`` of the environment, or ``cc``."""
    return os.environ.get("CC", "cc")


def describe_compiler():
    """A line on it."""
    try:
        done = subprocess.run([compiler(), "--version"], capture_output=True, encoding="utf-8")
    except OSError as error:
        raise FileNotFoundError(f"no C compiler: {compiler()} cannot be run: {error}") from None
    return f"C compiler: {done.stdout.partition(os.linesep)[0]}"


def measure(case, options):
    """The record of a case."""
    describe_compiler()
    model, x = case.network.model().eval(), case.network.inputs(case.batch)
    plan = fastconv.compile(model, x)
    forms = [Rival(PLAN, lambda: plan(x))]
    with tempfile.TemporaryDirectory() as folder:
        fastconv.export_c(model, x, folder)
        for column, flags in ((PRODUCTS, CBLAS), (ALONE, [])):
            call = compiled(Path(folder), column, flags, x, plan(x).shape, options.threads)
            forms += [] if call is None else [Rival(column, call)]
    with fastconv.algorithm("gemm"):
        expected = (np.asarray(model.double()(x.astype(np.float64))),)
    return harness.measure(case, options, forms, expected, ({}, {}), ("inference",))


def compiled(folder, column, flags, x, shape, threads):
    """A call of the network in C; None where there is no CBLAS."""
    library = folder / f"{column}.so"
    files = [folder / "net.c", folder / "net_weights.c"]
    done = subprocess.run(
        [compiler(), *FLAGS, *["-fopenmp"] * (threads > 1), *files, "-o", library, *flags, "-lm"],
        capture_output=True,
        encoding="utf-8",
    )
    if done.returncode:
        if flags:
            return None
        raise RuntimeError(f"{compiler()} does not compile what was written: {done.stderr}")
    net, images = ctypes.CDLL(str(library)), ctypes.c_int64(len(x))
    model, size = ctypes.c_void_p(), ctypes.c_int64()
    net.net_init(ctypes.byref(model))  # it lives as long as this process
    net.net_workspace_size(images, threads, ctypes.byref(size))
    y, workspace = np.empty(shape, x.dtype), np.empty(size.value, np.uint8)
    pointers = (ctypes.c_void_p(array.ctypes.data) for array in (x, y, workspace))
    given, result, memory = pointers
    kept = x, workspace

    def call():
        if net.net_run(model, images, given, result, memory, size, threads):
            raise RuntimeError(f"net_run failed on {kept[0].shape}")
        return y

    return call


def table(records):
    """A row for each case, the geometric means and the lowest ratios."""

    def versus(name):
        title = f"{name} vs plan"
        return Column(
            title,
            lambda record: report.quotient(
                report.median(record, PLAN), report.median(record, name)
            ),
            report.ratio,
        )

    names = [name for name in COLUMNS if report.took_part(records, name)]
    ratios = [versus(name) for name in names[1:]]
    columns = [
        Column("network", lambda record: record["layer"]),
        *report.times(records, names),
        *ratios,
        *(
            Column(
                f"{name} error",
                lambda record, name=name: report.worst_error(record, (name,)),
                report.error,
            )
            for name in names
        ),
    ]
    titles = [ratio.title for ratio in ratios]
    return report.table(records, columns, [report.mean(*titles), report.lowest(*titles)])
