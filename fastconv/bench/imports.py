"""Imports in processes of their own, beside those that fastconv cannot do without.

fastconv bench imports
"""

import importlib.util
import random
import subprocess
import sys

from fastconv.bench import harness, report
from fastconv.bench.report import Column

__all__ = ["STATEMENTS", "run"]

NEEDED = "import numpy, scipy.linalg.cython_blas"
STATEMENTS = (
    NEEDED,
    "import fastconv",
    "import fastconv.nn, fastconv.optim",
    "from fastconv import *",
    "import torch",
)
# In the process itself, so that the start of the interpreter does not count.
PROGRAM = """
from time import perf_counter
start = perf_counter()
{}
print(perf_counter() - start)
"""
CAPTION = (
    f"Each sample is a new process, of files that were read before. 'to needed' is the time over "
    f"that of '{NEEDED}', without which no kernel is loaded."
)


def run(options):
    """Measure each statement; print and write what was found."""
    names = [name for name in STATEMENTS if importlib.util.find_spec(name.split()[1].strip(","))]
    samples = {name: [] for name in names}
    for name in names:
        seconds(name)
    shuffle = random.Random(0).shuffle
    for number in range(options.rounds):
        print(f"{number + 1}/{options.rounds}", file=sys.stderr, flush=True)
        shuffle(names)
        for name in names:
            samples[name].append(seconds(name))
    records = [
        {"layer": name, "pass": "import", "seconds": {"time": samples[name]}} for name in samples
    ]
    harness.publish(options, harness.describe(options), records, table, CAPTION)


def seconds(statement):
    """That a statement takes in a new process."""
    # -P: the package that is installed, not one in the current folder
    command = [sys.executable, "-P", "-c", PROGRAM.format(statement)]
    return float(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def table(records):
    """A row for each statement."""
    needed = report.median(records[0], "time")
    columns = [
        Column("statement", lambda record: f"`{record['layer']}`"),
        Column("ms", lambda record: 1e3 * report.median(record, "time"), report.three_digits),
        Column("to needed", lambda record: report.median(record, "time") / needed, report.ratio),
    ]
    return report.table(records, columns, [])
