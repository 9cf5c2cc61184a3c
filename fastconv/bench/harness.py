"""What all benchmarks share: records of contenders that are checked and timed, and their output."""

import json
import sys

import numpy as np

from fastconv.bench import machine
from fastconv.bench.rivals import RESULTS
from fastconv.bench.timing import interleave, once, warm_heap

__all__ = ["PASSES", "describe", "every_layer", "measure", "print_tables", "publish", "write"]

PASSES = ("forward", "forward + backward")
WRONG = 1e-3  # a larger error is a mistake, and its time means nothing


def every_layer(options, measure):
    """The records that ``measure(layer, options)`` returns for each of the options' layers."""
    records = []
    for number, layer in enumerate(options.layers, 1):
        print(f"{number}/{len(options.layers)} {layer.name}", file=sys.stderr, flush=True)
        records += measure(layer, options)
    return records


def measure(layer, options, forms, expected, facts, passes=PASSES, results=RESULTS, limit=WRONG):
    """Check and time every form of a layer.

    Parameters
    ----------
    layer : object with `name` and `origin`
    options : argparse.Namespace
        Its `rounds`, `budget`, `backward` and `warm_malloc` count.
    forms : list of fastconv.bench.rivals.Rival
        Of those of a column, the fastest counts.
    expected : sequence of ndarray or of list of ndarray
        The results in float64, as many as there are.
    facts : sequence of dict
        What else a record holds, for each pass.
    passes, results : sequence of str
        Names of a form's two passes, and of what the longer one returns.
    limit : float
        Of an error.

    Returns
    -------
    list of dict
        One for each pass that any form has.
    """
    records = []
    for number, name in enumerate(passes[: 1 + options.backward]):
        if options.warm_malloc:
            warm_heap()
        calls = fastest_of_columns(forms, number)
        if calls:
            errors = {
                column: largest_errors(call(), expected, f"{column}, {layer.name}", results, limit)
                for column, call in calls.items()
            }
            seconds = interleave(calls, options.rounds, options.budget)
            record = {"layer": layer.name, "origin": layer.origin, "pass": name, **facts[number]}
            records.append(record | {"seconds": seconds, "errors": errors})
    return records


def fastest_of_columns(forms, number):
    """{column: call} of pass `number`, by one trial where a column has several forms."""
    found = {}
    for form in forms:
        call = (form.forward, form.step)[number]
        if call is not None:
            found.setdefault(form.column, []).append(call)
    return {
        column: calls[0]
        if len(calls) == 1
        else min(calls, key=lambda call: min(once(call), once(call)))
        for column, calls in found.items()
    }


def largest_errors(found, expected, what, results=RESULTS, limit=WRONG):
    """{result: largest error / largest value}, against float64; a list of arrays is one result."""
    found = found if isinstance(found, tuple) else (found,)
    errors = {}
    for name, result, truth in zip(results, found, expected, strict=False):
        pairs = [(result, truth)]
        if isinstance(truth, list):
            pairs = list(zip(result, truth, strict=True))
        differences = [np.abs(np.asarray(a).reshape(b.shape) - b).max() for a, b in pairs]
        errors[name] = float(np.max(differences) / np.max([np.abs(b).max() for _, b in pairs]))
        if not errors[name] < limit:
            raise FloatingPointError(f"wrong {name}: {what}: error {errors[name]:.1e}")
    return errors


def describe(options, *lines):
    """Lines on the machine, the software and what was measured of them."""
    return [*machine.describe(), f"threads of every contender: {options.threads}", *lines]


def publish(options, about, records, table, caption, **figures):
    """Print all, a table for each pass, and write the file that was asked for.

    Parameters
    ----------
    options : argparse.Namespace
        Its `rounds`, `warm_malloc` and `json` count.
    about : list of str
        Lines above the tables.
    records : list of dict
    table : callable
        Makes the records of one pass a text.
    caption : str
        What stands below the tables, behind how time was taken.
    **figures
        What else the file holds.
    """
    print_tables(about, records, table)
    malloc = (
        "with glibc's malloc kept warm for all, which is PyTorch at its best"
        if options.warm_malloc
        else "with malloc as it is by default"
    )
    print(
        f"\nMedians of up to {options.rounds} samples, float32, all contenders in turns, in an "
        f"order shuffled every round, {malloc}. {caption}"
    )
    write(options.json, about, records, **figures)


def print_tables(about, records, table):
    """Print the lines, and a table for each pass."""
    print(*(f"- {line}" for line in about), sep="\n")
    for name in dict.fromkeys(record["pass"] for record in records):
        found = [record for record in records if record["pass"] == name]
        print(f"\n### {name}\n\n{table(found)}")


def write(path, about, records, **figures):
    """Write a JSON file of all, unless `path` is None."""
    if path is not None:
        text = json.dumps({"machine": about, **figures, "records": records}, indent=1)
        path.write_text(f"{text}\n", encoding="utf-8")
