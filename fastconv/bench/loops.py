"""Pooling and batch normalisation, beside PyTorch and a plain copy of memory.

fastconv bench loops
"""

import dataclasses
import functools
import math
from collections.abc import Callable

import numpy as np

import fastconv.functional as F
from fastconv.bench import harness, report
from fastconv.bench.report import Column
from fastconv.bench.rivals import (
    TORCH,
    channels_last,
    fastconv_rival,
    set_num_threads,
    torch,
    torch_rival,
)
from fastconv.bench.timing import copy_bandwidth

__all__ = ["LAYERS", "Loop", "run"]

CHANNELS, SIDE = 64, 32
EPS = 1e-5
CAPTION = (
    "'vs torch' is the time of the better of PyTorch's two formats over the time of fastconv, "
    "above 1 where fastconv is faster. MB are the 10^6 bytes that must at least be read or written "
    "where the tensors are larger than the caches: every tensor once, but what batch "
    "normalisation takes its statistics of, in training, twice. GB/s are those bytes over the time "
    "of fastconv, 'of copy' is their share of the copy bandwidth. An error is the largest one over "
    "the largest value, against float64, the worst of all results; 'torch error' is the worse of "
    "the two formats."
)


@dataclasses.dataclass(frozen=True)
class Loop:
    """An operator that moves memory more than it computes.

    `call` takes the functions of fastconv or of PyTorch, which have the same names, and the
    first `inputs` of `arrays`; `reference` takes these and the output's gradient, and returns
    what a training step does. `forward` and `backward` count the tensors that a pass moves: of
    the input's size, and of the output's; without `backward`, that pass is not measured.
    """

    name: str
    origin: str
    output: int  # height and width
    call: Callable
    reference: Callable
    inputs: int = 1
    forward: tuple[int, int] = (1, 1)
    backward: tuple[int, int] | None = (1, 1)
    quick: bool = False

    def arrays(self, batch):
        """(x, weight, bias, mean, variance) and dy; tensors are C-contiguous."""
        rng = np.random.default_rng(0)
        x = rng.standard_normal(self.shapes(batch)[0], np.float32)
        x *= 2
        x += 1
        weight, bias, mean = rng.standard_normal((3, CHANNELS), np.float32)
        variance = rng.uniform(0.5, 2, CHANNELS).astype(np.float32)
        dy = rng.standard_normal(self.shapes(batch)[1], np.float32)
        return (x, weight, bias, mean, variance), dy

    def shapes(self, batch):
        """Of the input and of the output."""
        return [(batch, CHANNELS, side, side) for side in (SIDE, self.output)]

    def bytes(self, batch):
        """That each pass must move at least."""
        sizes = [4 * math.prod(shape) for shape in self.shapes(batch)]
        forward, backward = (
            sum(count * size for count, size in zip(counts, sizes, strict=True))
            for counts in (self.forward, self.backward or (0, 0))
        )
        return forward, forward + backward


def run(options):
    """Measure the options' layers; print and write what was found."""
    set_num_threads(options.threads)
    bandwidth = copy_bandwidth(options.threads)
    records = harness.every_layer(options, measure)
    bandwidth = max(bandwidth, copy_bandwidth(options.threads))  # the machine's speed drifts
    shape = options.batch, CHANNELS, SIDE, SIDE
    about = harness.describe(
        options,
        f"input: float32, {' x '.join(map(str, shape))}, {4 * math.prod(shape) / 1e6:.1f} MB",
        f"copy bandwidth: {bandwidth / 1e9:.1f} GB/s, read and written, on these threads",
    )
    harness.publish(
        options,
        about,
        records,
        lambda found: table(found, bandwidth),
        CAPTION,
        bandwidth=bandwidth,
    )


def measure(loop, options):
    """One record for each pass: times and errors of fastconv and of PyTorch's formats."""
    arrays, dy = loop.arrays(options.batch)
    inputs = arrays[: loop.inputs]
    forms = [
        fastconv_rival(
            "fastconv",
            functools.partial(loop.call, F),
            (channels_last(inputs[0]), *inputs[1:]),
            channels_last(dy),
        ),
        *torch_forms(loop, inputs, dy),
    ]
    if loop.backward is None:
        forms = [dataclasses.replace(form, step=None) for form in forms]
    expected = loop.reference(*(array.astype(np.float64) for array in (*inputs, dy)))
    facts = [{"bytes": count} for count in loop.bytes(options.batch)]
    return harness.measure(loop, options, forms, expected, facts)


def torch_forms(loop, inputs, dy):
    """NCHW and channels_last."""
    if torch is None:
        return []
    call = functools.partial(loop.call, torch.nn.functional)
    x, *vectors, dy = map(torch.from_numpy, (*inputs, dy))
    return [
        torch_rival(
            column,
            call,
            (x.contiguous(memory_format=memory), *vectors),
            dy.contiguous(memory_format=memory),
        )
        for column, memory in zip(
            TORCH, (torch.contiguous_format, torch.channels_last), strict=True
        )
    ]


def table(records, bandwidth):
    """A row for each layer of one pass, the geometric means and the lowest ratio."""

    def speed(record):
        return record["bytes"] / report.median(record, "fastconv")

    columns = [
        Column("layer", lambda record: record["layer"]),
        Column("MB", lambda record: record["bytes"] / 1e6, report.three_digits),
        *report.times(records, ("fastconv", *TORCH)),
        Column("vs torch", lambda record: report.against_torch(record, "fastconv"), report.ratio),
        Column("GB/s", speed, report.rate),
        Column("of copy", lambda record: speed(record) / bandwidth, report.percent),
        *report.worst_errors(),
    ]
    summaries = [report.mean("vs torch", "GB/s", "of copy"), report.lowest("vs torch")]
    return report.table(records, columns, summaries)


# References, in the dtype of the arrays ------------------------------------------------------


def max_pool(kernel, stride, padding, x, dy):
    """(y, dx); of equal maxima, the first has the gradient."""
    edges = [(0, 0), (0, 0), (padding, padding), (padding, padding)]
    padded = np.pad(x, edges, constant_values=-np.inf)
    span = [stride * (count - 1) + 1 for count in dy.shape[2:]]
    taps = [
        (..., slice(i, i + span[0], stride), slice(j, j + span[1], stride))
        for i, j in np.ndindex(kernel, kernel)
    ]
    y = functools.reduce(np.maximum, (padded[tap] for tap in taps))
    dx, waiting = np.zeros_like(padded), np.ones(y.shape, bool)
    for tap in taps:
        found = waiting & (padded[tap] == y)
        dx[tap] += found * dy
        waiting &= ~found
    inside = slice(padding, -padding or None)
    return y, dx[..., inside, inside]


def average_pool(kernel, x, dy):
    """(y, dx) of windows side by side."""
    batch, channels, height, width = x.shape
    windows = x.reshape(batch, channels, height // kernel, kernel, width // kernel, kernel)
    return windows.mean(axis=(3, 5)), dy.repeat(kernel, 2).repeat(kernel, 3) / kernel**2


def normalize(x, weight, bias, mean, variance, dy):
    """(y,)"""
    inverse = 1 / np.sqrt(variance + EPS)
    return ((x - per_channel(mean)) * per_channel(inverse * weight) + per_channel(bias),)


def batch_norm(x, weight, bias, dy):
    """(y, dx, dweight, dbias)"""
    places = (0, 2, 3)
    inverse = per_channel(1 / np.sqrt(x.var(axis=places) + EPS))
    unit = (x - per_channel(x.mean(axis=places))) * inverse
    dbias, dweight = dy.sum(axis=places), (dy * unit).sum(axis=places)
    count = x.size // x.shape[1]
    change = dy - (per_channel(dbias) + unit * per_channel(dweight)) / count
    y = unit * per_channel(weight) + per_channel(bias)
    return y, per_channel(weight) * inverse * change, dweight, dbias


def per_channel(values):
    """Values of shape (C,), to be spread over (N, C, H, W)."""
    return values[:, None, None]


# What is measured ---------------------------------------------------------------------------

LAYERS = (
    Loop(
        "max pool 2x2 stride 2",
        "Simonyan and Zisserman 2015, arXiv:1409.1556",
        SIDE // 2,
        lambda functions, x: functions.max_pool2d(x, 2),
        functools.partial(max_pool, 2, 2, 0),
    ),
    Loop(
        "max pool 3x3 stride 2 padding 1",
        "He et al. 2016, arXiv:1512.03385, after conv1",
        SIDE // 2,
        lambda functions, x: functions.max_pool2d(x, 3, 2, 1),
        functools.partial(max_pool, 3, 2, 1),
        quick=True,
    ),
    Loop(
        "average pool 2x2 stride 2",
        "LeCun et al. 1998 (LeNet-5), without the weights",
        SIDE // 2,
        lambda functions, x: functions.avg_pool2d(x, 2),
        functools.partial(average_pool, 2),
    ),
    Loop(
        "average pool to 1x1",
        "He et al. 2016, arXiv:1512.03385, before the classifier",
        1,
        lambda functions, x: functions.adaptive_avg_pool2d(x, 1),
        functools.partial(average_pool, SIDE),
    ),
    Loop(
        "batch norm, training",
        "Ioffe and Szegedy 2015, arXiv:1502.03167",
        SIDE,
        lambda functions, x, weight, bias: functions.batch_norm(
            x, None, None, weight, bias, training=True, eps=EPS
        ),
        batch_norm,
        inputs=3,
        # Sums over x, then y of x; sums over x and dy, then dx of both.
        forward=(2, 1),
        backward=(3, 2),
        quick=True,
    ),
    Loop(
        "batch norm, evaluation",
        "Ioffe and Szegedy 2015, arXiv:1502.03167",
        SIDE,
        lambda functions, x, weight, bias, mean, variance: functions.batch_norm(
            x, mean, variance, weight, bias, eps=EPS
        ),
        normalize,
        inputs=5,
        backward=None,
    ),
)
