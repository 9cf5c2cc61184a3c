"""``fastconv bench``: its options, and the environment in which it starts again.

Only what a command line needs is imported here. A benchmark, and PyTorch with it, is imported
when it runs.
"""

import argparse
import importlib
import importlib.util
import os
import platform
import re
import sys
from pathlib import Path

from fastconv import _checks, _plot
from fastconv._threads import MOST_THREADS, get_num_threads

__all__ = ["add_to", "enter_environment", "matching"]

CHART = Path("conv-benchmark.png")
# glibc's malloc gives large blocks back to the kernel and faults them in again at every call;
# these settings let it keep them, which is PyTorch at its best.
WARM_MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": "33554432",
    "MALLOC_TRIM_THRESHOLD_": "2000000000",
    "MALLOC_TOP_PAD_": "268435456",
}
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def add_to(commands):
    """Add ``bench`` to the sub-commands of an argument parser."""
    bench = commands.add_parser("bench", help="measure speed and accuracy beside other libraries")
    bench.add_argument(
        "--memory",
        action="store_true",
        help="in place of a benchmark: what convolution layers need besides arguments and results",
    )
    _add_threads(bench, None)
    benchmarks = bench.add_subparsers(dest="benchmark", metavar="BENCHMARK")
    conv = _add_layers(
        benchmarks,
        "conv",
        "convolution layers of published networks, beside NumPy, SciPy and PyTorch",
    )
    conv.add_argument(
        "--plot",
        type=Path,
        metavar="FILE",
        help=f"the chart; default: {CHART} where Matplotlib is installed",
    )
    _add_layers(
        benchmarks, "algorithms", "each algorithm on the same layers, and which one 'auto' takes"
    )
    loops = _add_layers(benchmarks, "loops", "pooling and batch normalisation, beside PyTorch")
    loops.add_argument(
        "--batch",
        type=int,
        default=128,
        help="images of 64 x 32 x 32 values; default: 128, which are 34 MB",
    )
    _add_layers(
        benchmarks,
        "linalg",
        "convolution as a linear operator, beside FFT and sparse matrix; stencils, beside NumPy",
    )
    _add_layers(
        benchmarks,
        "nets",
        "whole networks: training beside PyTorch, inference beside ONNX Runtime and OpenVINO",
    )
    accuracy = _add(
        benchmarks,
        "accuracy",
        "what networks learn of real data with the fast paths, without them, and in PyTorch",
        quick="one seed, and a few steps of each run",
    )
    add = accuracy.add_argument
    add("data", type=Path, metavar="DATA", help="a folder of data sets")
    add("--sets", metavar="REGEX", help="data sets whose name matches, in any case")
    add("--seeds", type=int, help="how many: 0, 1, ...; default: 3, or 1 with --quick")
    load = _add(
        benchmarks,
        "load",
        "how long networks in ONNX files take to load, beside ONNX Runtime",
        quick="few rounds",
    )
    add = load.add_argument
    add("models", type=Path, nargs="+", metavar="MODEL", help="an ONNX file")
    add("--rounds", type=int, help="samples of each contender; default: 15, or 3 with --quick")
    imports = _add(
        benchmarks,
        "imports",
        "how long imports take, beside those of NumPy and SciPy that fastconv needs",
        quick="few rounds",
    )
    imports.add_argument(
        "--rounds", type=int, help="samples of each statement; default: 15, or 3 with --quick"
    )
    c = _add(
        benchmarks,
        "c",
        "networks written as C, with and without a CBLAS, beside their plans",
        quick="few networks, or those of --layers, in few rounds",
    )
    add = c.add_argument
    add("--layers", metavar="REGEX", help="networks whose name or origin matches, in any case")
    add("--rounds", type=int, help="samples of each contender; default: 15, or 3 with --quick")
    bench.set_defaults(run=_run, benchmarks=", ".join(benchmarks.choices))


def _add_layers(benchmarks, name, what):
    """The parser of a benchmark of layers, or of what is chosen and timed as they are."""
    parser = _add(benchmarks, name, what, quick="few layers, or those of --layers, in few rounds")
    add = parser.add_argument
    add("--layers", metavar="REGEX", help="layers whose name or origin matches, in any case")
    add("--rounds", type=int, help="samples of each contender; default: 15, or 3 with --quick")
    add("--backward", action=argparse.BooleanOptionalAction, default=True)
    return parser


def _add(benchmarks, name, what, quick):
    """The parser of one benchmark, with the options of all."""
    parser = benchmarks.add_parser(name, help=what, description=f"Measure {what}.")
    _add_threads(parser, argparse.SUPPRESS)  # else it would undo what stands before the name
    add = parser.add_argument
    add("--quick", action="store_true", help=quick)
    add("--json", type=Path, metavar="FILE", help="every figure measured")
    malloc = parser.add_mutually_exclusive_group()
    malloc.add_argument(
        "--warm-malloc",
        action="store_true",
        default=None,
        help="start again with glibc's malloc kept warm; default where PyTorch is installed",
    )
    malloc.add_argument("--default-malloc", action="store_false", dest="warm_malloc")
    return parser


def _add_threads(parser, default):
    what = "of every contender; default: the CPUs that may be used"
    parser.add_argument("--threads", type=int, default=default, help=what)


def _run(options):
    if options.memory == (options.benchmark is not None):
        raise ValueError(f"bench takes either a benchmark ({options.benchmarks}) or --memory")
    if options.threads is None:
        options.threads = get_num_threads()
    _checks.integer("threads", options.threads, minimum=1, maximum=MOST_THREADS)
    if options.memory:
        importlib.import_module("fastconv.bench.memory").run(options)
    else:
        _measure(options)


def _measure(options):
    for name, usual, quick in (("rounds", 15, 3), ("seeds", 3, 1)):
        if name in options:
            if getattr(options, name) is None:
                setattr(options, name, quick if options.quick else usual)
            _checks.integer(name, getattr(options, name), minimum=1)
    options.budget = 1.0 if options.quick else 4.0  # seconds
    if "batch" in options:
        _checks.integer("batch", options.batch, minimum=1)
    if "plot" in options:
        if options.plot is None and importlib.util.find_spec("matplotlib") is not None:
            options.plot = CHART
        if options.plot is not None:
            _plot.check_path(options.plot)
    if options.json is not None:
        _checks.writable(options.json)
    if options.warm_malloc is None:
        options.warm_malloc = importlib.util.find_spec("torch") is not None
    options.warm_malloc &= platform.libc_ver()[0] == "glibc"
    enter_environment(options.threads, options.warm_malloc)

    benchmark = importlib.import_module(f"fastconv.bench.{options.benchmark}")
    if "layers" in options:
        options.layers = _choose(benchmark.LAYERS, options.layers, options.quick)
    benchmark.run(options)


def enter_environment(threads, warm_malloc):
    """Start the command again where libraries would have read other settings when loaded.

    Parameters
    ----------
    threads : int
        Of every library.
    warm_malloc : bool
        Whether glibc's malloc keeps its memory.
    """
    wanted = dict.fromkeys(THREADS, str(threads))
    wanted |= WARM_MALLOC if warm_malloc else dict.fromkeys(WARM_MALLOC)
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        environment = {name: value for name, value in (os.environ | wanted).items() if value}
        sys.stdout.flush()
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def _choose(layers, pattern, quick):
    if pattern is None:
        return [layer for layer in layers if layer.quick or not quick]
    return matching(
        "layers", pattern, layers, "the name or origin of a layer", lambda x: (x.name, x.origin)
    )


def matching(option, pattern, things, what, texts):
    """The `things` of whose ``texts(thing)`` any matches the regular expression of an option."""
    try:
        match = re.compile(pattern, re.IGNORECASE).search
    except re.error as error:
        raise ValueError(
            f"{option} must be a regular expression, got {pattern!r}: {error}"
        ) from None
    found = [thing for thing in things if any(map(match, texts(thing)))]
    if not found:
        names = "; ".join(thing.name for thing in things)
        raise ValueError(f"{option} must match {what}, got {pattern!r}; there are: {names}")
    return found
