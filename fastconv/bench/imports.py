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
from time import perf_counter, process_time
start, start_of_work = perf_counter(), process_time()
{}
print(perf_counter() - start, process_time() - start_of_work)
"""
CAPTION = (
    "Each sample is a new process, of files that were read before. 'work' is the processor's time, "
    "which other work on the machine changes less. 'to needed' is over what "
    f"'{NEEDED}' takes, without which no kernel is loaded."
)


def run(options):
    """Measure each statement; print and write what was found."""
    names = [name for name in STATEMENTS if importlib.util.find_spec(name.split()[1].strip(","))]
    samples = {name: [] for name in names}
    for name in names:
        seconds(name)  # whose files are in memory from then on
    shuffle = random.Random(0).shuffle
    for number in range(options.rounds):
        print(f"{number + 1}/{options.rounds}", file=sys.stderr, flush=True)
        shuffle(names)
        for name in names:
            samples[name].append(seconds(name))
    records = [
        {"layer": name, "pass": "import", "seconds": {"time": time, "work": work}}
        for name, (time, work) in ((name, zip(*samples[name], strict=True)) for name in samples)
    ]
    harness.publish(options, harness.describe(options), records, table, CAPTION)


def seconds(statement):
    """(time, processor's time) that a statement takes in a new process."""
    # -P: the package that is installed, not one in the current folder
    command = [sys.executable, "-P", "-c", PROGRAM.format(statement)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return tuple(map(float, done.stdout.split()))


def table(records):
    """A row for each statement."""
    columns = [Column("statement", lambda record: f"`{record['layer']}`")]
    columns += report.times(records, ("time", "work"))
    for name in ("time", "work"):
        needed = report.median(records[0], name)
        columns.append(
            Column(
                f"{name} to needed",
                lambda record, name=name, needed=needed: report.median(record, name) / needed,
                report.ratio,
            )
        )
    return report.table(records, columns, [])
