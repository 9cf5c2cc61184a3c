"""What networks learn of real data: with the fast paths, without them, and in PyTorch.

    fastconv bench accuracy DATA

A run is a recipe and a seed, and its ways differ in nothing but how they compute: the weights
they start from, the order of the inputs and their shifts are the same.
"""

import contextlib
import math
import statistics
import sys
import time
import types
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import fastconv
import fastconv.functional as F
from fastconv import nn, optim
from fastconv.bench import harness, report
from fastconv.bench.command import matching
from fastconv.bench.nets import FORMATS
from fastconv.bench.networks import torch_network
from fastconv.bench.recipes import RECIPES
from fastconv.bench.report import Column
from fastconv.bench.rivals import TORCH, set_num_threads, torch
from fastconv.bench.timing import once
from fastconv.data import Minibatches, RandomShift
from fastconv.random import manual_seed

__all__ = ["run"]

WAYS = FAST, PLAIN = ("fast", "plain")
SGD = {"momentum": 0.9, "weight_decay": 5e-4, "nesterov": True}
CYCLE = {"pct_start": 0.2, "cycle_momentum": False}
SMOOTHING = 0.1
EVALUATION_BATCH = 500  # bounds memory, changes nothing
QUICK_STEPS = 4
TRIALS = 3  # steps by which one of PyTorch's formats is chosen
CAPTION = (
    "Accuracies are shares of the test inputs, in per cent; 'spread' is the highest less the "
    "lowest of the seeds. 'fast' is fastconv as it comes; 'plain' takes gemm for every "
    "convolution and calls module by module, none fused with the next. PyTorch starts from the "
    "same weights, sees the same inputs in the same order, and has the better of its two formats "
    "by a short trial. 'seconds' are those of training, the preparation of inputs included and "
    "evaluation excluded, the median of the seeds; 'vs torch' is PyTorch's time over it for the "
    "seed that both have, above 1 where fastconv is faster."
)


# fastconv, plain ----------------------------------------------------------------------------


class Sequential(nn.Sequential):
    """Its modules one by one: a class with a `forward` of its own is not fused."""

    def forward(self, input):
        for module in self:
            input = module(input)
        return input


class Residual(nn.Residual):
    """Its branches and a sum."""

    def forward(self, input):
        bypass = self.shortcut(input) if hasattr(self, "shortcut") else input
        return self.main(input) + bypass


PLAIN_LAYERS = types.SimpleNamespace(**vars(nn) | {"Sequential": Sequential, "Residual": Residual})


# Training, the same of both libraries -------------------------------------------------------


@dataclass(frozen=True)
class Library:
    """What a run needs: `tensor` converts inputs and labels, and all happens in `context`."""

    optim: types.ModuleType
    cross_entropy: Callable
    no_grad: Callable
    tensor: Callable
    context: Callable = contextlib.nullcontext


def fastconv_library(way):
    context = contextlib.nullcontext if way == FAST else lambda: fastconv.algorithm("gemm")
    return Library(optim, F.cross_entropy, fastconv.no_grad, lambda array: array, context)


def torch_library(column):
    """PyTorch with inputs in one of its formats."""

    def tensor(array):
        result = torch.from_numpy(array)
        return in_format(result.contiguous, column) if array.ndim > 1 else result

    return Library(torch.optim, torch.nn.functional.cross_entropy, torch.no_grad, tensor)


def in_format(convert, column):
    """What `convert`, a method of PyTorch's, makes for the format of a column."""
    return convert(memory_format=getattr(torch, FORMATS[column]))


def new_model(recipe, way, seed):
    """The network with the weights of a seed; fast and plain have the same."""
    manual_seed(seed)
    layers = nn if way == FAST else PLAIN_LAYERS
    return recipe.network.build(layers, layers.Residual)


def trainer(library, model, recipe, steps):
    """A call that trains by a batch, of as many as `steps`, and returns the loss."""
    optimizer = library.optim.SGD(model.parameters(), lr=recipe.lr, **SGD)
    cycle = library.optim.lr_scheduler.OneCycleLR(optimizer, recipe.lr, steps, **CYCLE)

    def step(x, labels):
        output = model(library.tensor(x))
        loss = library.cross_entropy(output, library.tensor(labels), label_smoothing=SMOOTHING)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        cycle.step()
        return loss.item()

    return step


def accuracy(library, model, x, labels):
    """The share of the inputs whose largest output is that of their class."""
    model.eval()
    with library.no_grad():
        parts = range(0, len(x), EVALUATION_BATCH)
        outputs = [model(library.tensor(x[i : i + EVALUATION_BATCH])).data for i in parts]
    return float((np.concatenate(outputs).argmax(axis=1) == labels).mean())


class Data:
    """A recipe's inputs, and what is made of them: few, if the run is to be a quick one."""

    def __init__(self, recipe, folder, quick):
        self.train, self.test = recipe.read(folder / recipe.path)
        self.epochs = recipe.epochs
        if quick:
            self.train = [array[: QUICK_STEPS * recipe.batch] for array in self.train]
            self.test = [array[:EVALUATION_BATCH] for array in self.test]
            self.epochs = 1
        x = self.train[0]
        self.batch = min(recipe.batch, len(x))
        self.shift = RandomShift(recipe.shift)
        axes = (0, *range(2, x.ndim))
        self.mean = x.mean(axis=axes, keepdims=True, dtype=np.float64)[0].astype(np.float32)
        deviation = x.std(axis=axes, keepdims=True, dtype=np.float64)[0]
        self.scale = (1 / np.where(deviation > 0, deviation, 1)).astype(np.float32)

    def normalised(self, x):
        """float32 inputs, channels of mean 0 and deviation 1 over the training part."""
        return (x - self.mean) * self.scale

    def batches(self, seed):
        """Minibatches of an order and shifts that depend on the seed and the epoch alone."""
        return Minibatches(
            *self.train, batch_size=self.batch, seed=seed, drop_last=True, transform=self.changed
        )

    def changed(self, x, rng):
        return self.normalised(self.shift(x, rng))


def learn(library, model, recipe, data, seed):
    """Train and test; {"accuracy", "seconds" of training, "losses": means of the epochs}."""
    batches, losses = data.batches(seed), []
    with library.context():
        step = trainer(library, model, recipe, data.epochs * len(batches))
        model.train()
        start = time.perf_counter()
        for _ in range(data.epochs):
            losses.append(statistics.fmean(step(*batch) for batch in batches))
        seconds = time.perf_counter() - start
        test, labels = data.test
        found = accuracy(library, model, data.normalised(test), labels)
    if not math.isfinite(losses[-1]):
        raise FloatingPointError(f"{recipe.name}, seed {seed}: the loss became {losses[-1]}")
    return {"accuracy": found, "seconds": seconds, "losses": losses}


# Runs ---------------------------------------------------------------------------------------


def run(options):
    """Train the recipes whose data are there; print and write what was found."""
    recipes = choose(options.data, options.sets)
    set_num_threads(options.threads)
    records, lines = [], []
    for recipe in recipes:
        data = Data(recipe, options.data, options.quick)
        lines.append(describe(recipe, data))
        for seed in range(options.seeds):
            for way, library, model in ways(recipe, data, seed):
                found = learn(library, model, recipe, data, seed)
                record = {"set": recipe.name, "pass": "accuracy", "way": way, "seed": seed}
                records.append(record | found)
                print(
                    f"{recipe.name}, {way}, seed {seed}: {100 * found['accuracy']:.2f} %, "
                    f"{found['seconds']:.1f} s",
                    file=sys.stderr,
                    flush=True,
                )
    about = harness.describe(options, *lines)
    harness.print_tables(about, records, table)
    print(f"\n{CAPTION}")
    harness.write(options.json, about, records)


def choose(folder, pattern):
    """The recipes whose data are in the folder and whose name matches."""
    there = [recipe for recipe in RECIPES if (folder / recipe.path).exists()]
    if not there:
        paths = ", ".join(recipe.path for recipe in RECIPES)
        raise ValueError(f"data must be a folder that holds any of {paths}, got {str(folder)!r}")
    if pattern is None:
        return there
    return matching("sets", pattern, there, "the name of a data set", lambda recipe: [recipe.name])


def describe(recipe, data):
    """A line on what is learnt, and how."""
    parameters = sum(parameter.size for parameter in new_model(recipe, FAST, 0).parameters())
    return (
        f"{recipe.name}: {len(data.train[0])} inputs to train and {len(data.test[0])} to test, "
        f"{parameters} parameters, {data.epochs} epochs, batches of {data.batch}, learning rate "
        f"{recipe.lr}, shifts of up to {recipe.shift}"
    )


def ways(recipe, data, seed):
    """(name, library, model) of each way to train with this seed."""
    for way in WAYS:
        yield way, fastconv_library(way), new_model(recipe, way, seed)
    if torch is not None and seed == 0:
        state = new_model(recipe, FAST, seed).state_dict()
        column = faster_format(recipe, data, state)
        yield column, torch_library(column), torch_model(recipe, column, state)


def torch_model(recipe, column, state):
    """PyTorch's network in one of its formats, which signals have one of."""
    return in_format(torch_network(recipe.network, torch, state).to, column)


def faster_format(recipe, data, state):
    """The column of PyTorch's format whose steps are shorter."""
    if len(recipe.network.shape) == 2:
        return TORCH[0]
    batch = next(iter(data.batches(0)))
    seconds = {}
    for column in TORCH:
        model = torch_model(recipe, column, state)
        step = trainer(torch_library(column), model, recipe, TRIALS + 1)
        step(*batch)
        seconds[column] = min(once(lambda step=step: step(*batch)) for _ in range(TRIALS))
    return min(seconds, key=seconds.get)


# Table --------------------------------------------------------------------------------------


def table(records):
    """A row for each way to train on each data set."""
    rows = {}
    for record in records:
        rows.setdefault((record["set"], record["way"]), {})[record["seed"]] = record
    seeds = sorted({record["seed"] for record in records})

    def accuracies(row):
        return [record["accuracy"] for record in row.values()]

    def of_several(function):
        return lambda row: function(accuracies(row)) if len(row) > 1 else None

    def against_torch(row):
        first = row[0]
        times = [
            rows[first["set"], way][0]["seconds"] for way in TORCH if (first["set"], way) in rows
        ]
        return times[0] / first["seconds"] if times and first["way"] in WAYS else None

    columns = [
        Column("data set, way", lambda row: f"{row[0]['set']}, {row[0]['way']}"),
        *(
            Column(
                f"seed {seed}",
                lambda row, seed=seed: row[seed]["accuracy"] if seed in row else None,
                hundredths,
            )
            for seed in seeds
        ),
        Column("mean", of_several(statistics.fmean), hundredths),
        Column("spread", of_several(lambda values: max(values) - min(values)), hundredths),
        Column(
            "seconds",
            lambda row: statistics.median(record["seconds"] for record in row.values()),
            report.three_digits,
        ),
        Column("vs torch", against_torch, report.ratio),
    ]
    return report.table(list(rows.values()), columns, [])


def hundredths(share):
    """Text of a share in per cent."""
    return f"{100 * share:.2f}"
