"""Compare convolution layers of published networks with NumPy, SciPy and PyTorch.

    python benchmarks/conv.py

prints a Markdown table and draws a chart; README.md explains the columns.
"""

import argparse
import importlib.util
import json
import os
import platform
import re
import sys
from pathlib import Path

import machine
import numpy as np
import report
from layers import LAYERS
from rivals import COLUMNS, RESULTS, reference, rivals, set_num_threads
from timing import copy_bandwidth, interleave, matmul_peak, once

import fastconv

PASSES = ("forward", "forward + backward")
WRONG = 1e-3  # a larger error is a mistake, and its time means nothing
CHART = Path("conv-benchmark.png")

# glibc's malloc gives large blocks back to the kernel and faults them in again at every call;
# these settings let it keep them, which is PyTorch at its best.
WARM_MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": "33554432",
    "MALLOC_TRIM_THRESHOLD_": "2000000000",
    "MALLOC_TOP_PAD_": "268435456",
}
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def main():
    options = parse()
    enter_environment(options.threads, options.warm_malloc)
    set_num_threads(options.threads)

    peak = matmul_peak()
    bandwidth = copy_bandwidth(options.threads)
    passes = PASSES if options.backward else PASSES[:1]
    records = []
    for number, layer in enumerate(options.layers, 1):
        print(f"{number}/{len(options.layers)} {layer.name}", file=sys.stderr, flush=True)
        records += measure(layer, passes, options.rounds, options.budget)
    peak = max(peak, matmul_peak())  # the machine's speed drifts

    about = [
        *machine.describe(),
        f"threads of every contender: {options.threads}",
        f"FMA peak: {peak / 1e9:.0f} GFLOP/s, as the best float32 matrix product of NumPy's "
        "and SciPy's BLAS on these threads",
        f"copy bandwidth: {bandwidth / 1e9:.1f} GB/s, read and written, on these threads",
    ]
    print(*(f"- {line}" for line in about), sep="\n")
    for name in passes:
        found = [record for record in records if record["pass"] == name]
        print(f"\n### {name}\n\n{report.table(found, peak)}")
    print(f"\n{report.caption(options.warm_malloc, options.rounds)}")
    if options.json:
        text = json.dumps({"machine": about, "peak": peak, "records": records}, indent=1)
        options.json.write_text(f"{text}\n", encoding="utf-8")
    if options.plot:
        title = f"Convolution layers, float32, {options.threads} threads of {machine.cpu_model()}"
        report.chart(options.plot, records, title, peak)
        print(f"the chart is {options.plot}", file=sys.stderr)


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--threads", type=int, help="of every contender; default: the CPUs that may be used")
    add("--layers", metavar="REGEX", help="layers whose name or origin matches, in any case")
    add("--rounds", type=int, help="samples of each contender; default: 15, or 3 with --quick")
    add("--backward", action=argparse.BooleanOptionalAction, default=True)
    add("--quick", action="store_true", help="five layers, or those of --layers, in few rounds")
    add("--plot", type=Path, metavar="FILE", help=f"the PNG chart; default: {CHART}")
    add("--json", type=Path, metavar="FILE", help="every sample and error")
    malloc = parser.add_mutually_exclusive_group()
    malloc.add_argument(
        "--warm-malloc",
        action="store_true",
        default=importlib.util.find_spec("torch") is not None,
        help="start again with glibc's malloc kept warm; default where PyTorch is installed",
    )
    malloc.add_argument("--default-malloc", action="store_false", dest="warm_malloc")
    options = parser.parse_args()

    for name in ("threads", "rounds"):
        value = getattr(options, name)
        if value is not None and value < 1:
            parser.error(f"--{name} must be at least 1, got {value}")
    options.threads = options.threads or fastconv.get_num_threads()
    options.rounds = options.rounds or (3 if options.quick else 15)
    options.budget = 1.0 if options.quick else 4.0
    options.warm_malloc = options.warm_malloc and platform.libc_ver()[0] == "glibc"
    try:
        options.layers = choose(options.layers, options.quick)
    except (ValueError, re.error) as error:
        parser.error(f"--layers {options.layers!r}: {error}")
    if importlib.util.find_spec("matplotlib") is None:
        if options.plot:
            parser.error('--plot needs matplotlib: pip install "fastconv[plot]"')
    else:
        options.plot = options.plot or CHART
    for path in filter(None, (options.plot, options.json)):
        if not path.parent.is_dir():
            parser.error(f"no such folder: {path.parent}")
    return options


def choose(pattern, quick):
    if pattern is None:
        return [layer for layer in LAYERS if layer.quick or not quick]
    match = re.compile(pattern, re.IGNORECASE).search
    found = [layer for layer in LAYERS if match(layer.name) or match(layer.origin)]
    if not found:
        names = "\n  ".join(layer.name for layer in LAYERS)
        raise ValueError(f"no layer matches; there are\n  {names}")
    return found


def enter_environment(threads, warm_malloc):
    """Start the command again where libraries would have read other settings when loaded."""
    wanted = dict.fromkeys(THREADS, str(threads))
    wanted |= WARM_MALLOC if warm_malloc else dict.fromkeys(WARM_MALLOC)
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        environment = {name: value for name, value in (os.environ | wanted).items() if value}
        sys.stdout.flush()
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def measure(layer, passes, rounds, budget):
    """One record for each pass: times and errors of every column that takes part."""
    forms = rivals(layer, layer.arrays())
    forms = [form for form in forms if form.estimate() < budget / 2]  # else it is left out
    expected = reference(layer, backward=len(passes) > 1)
    records = []
    for number, name in enumerate(passes):
        calls = fastest_of_columns(forms, number)
        errors = {
            column: largest_errors(call(), expected, f"{column}, {layer.name}")
            for column, call in calls.items()
        }
        records.append(
            {
                "layer": layer.name,
                "origin": layer.origin,
                "pass": name,
                "flops": layer.flops * (3 if number else 1),
                "seconds": interleave(calls, rounds, budget),
                "errors": errors,
            }
        )
    return records


def fastest_of_columns(forms, number):
    """{column: call} of pass `number`, by one trial where a column has several forms."""
    calls = {}
    for column in COLUMNS:
        found = [(form.forward, form.step)[number] for form in forms if form.column == column]
        found = [call for call in found if call is not None]
        if len(found) > 1:
            found.sort(key=lambda call: min(once(call), once(call)))
        if found:
            calls[column] = found[0]
    return calls


def largest_errors(results, expected, what):
    """{result: largest error / largest value}, against float64."""
    results = results if isinstance(results, tuple) else (results,)
    errors = {}
    for name, result, truth in zip(RESULTS, results, expected, strict=False):
        found = np.asarray(result).reshape(truth.shape)
        errors[name] = float(np.abs(found - truth).max() / np.abs(truth).max())
        if not errors[name] < WRONG:
            raise SystemExit(f"wrong {name}: {what}: error {errors[name]:.1e}")
    return errors


if __name__ == "__main__":
    main()
