"""A graph for given input shapes: its steps, one memory for all of them, and its execution."""

import math
import statistics
import time
from collections import deque
from typing import NamedTuple

import numpy as np

from fastconv._layout import channels_last
from fastconv._memory import empty
from fastconv._threads import get_num_threads, threads_for
from fastconv.compiler.graph import Value
from fastconv.compiler.operators import OPERATORS, dense
from fastconv.kernels import layout

__all__ = ["Program"]

LINE = 64  # bytes: arrays begin at cache lines


class Place(NamedTuple):
    """Where a value lies, and from which step to which."""

    offset: int
    size: int
    first: int
    last: int


class Program:
    """The steps of a graph, and places for its values.

    Parameters
    ----------
    graph : Graph
    shapes : sequence of tuple of int
        Of the inputs.
    dtype : numpy.dtype
    kept : dict
        By node, what keeps its weights as kernels read them.
    """

    def __init__(self, graph, shapes, dtype, kept):
        self.graph, self.dtype = graph, np.dtype(dtype)
        self.shapes = dict(zip(graph.inputs, map(tuple, shapes), strict=True))
        self.steps = []
        for node in graph.nodes:
            self.steps.append(self._step(node, kept[node.output]))
            self.shapes[node.output] = self.steps[-1].shape
        self.homes = self._homes()
        self.places, self.size = _arrange(self._lives(), self._bytes)
        self.idle = deque()  # memory and calls for one run at a time

    def _step(self, node, kept):
        shapes = [self.shapes[x] if isinstance(x, Value) else None for x in node.inputs]
        step = OPERATORS[node.operator](node.inputs, node.options, shapes, self.dtype, kept)
        if step is None:
            raise ValueError(f"a plan cannot run {node.operator} on inputs of shape {shapes}")
        return step

    def _bytes(self, value):
        return math.prod(self.shapes[value]) * self.dtype.itemsize

    def _homes(self):
        """The value in whose memory each value lies: another one's for an alias."""
        homes = {value: value for value in self.graph.inputs}
        for node, step in zip(self.graph.nodes, self.steps, strict=True):
            homes[node.output] = homes[node.inputs[0]] if step.alias else node.output
        return homes

    def _lives(self):
        """{value with memory of its own: (step that makes it, last step that needs it)}."""
        lives = dict.fromkeys(self.graph.inputs, (0, 0))
        for number, node in enumerate(self.graph.nodes):
            home = self.homes[node.output]
            lives[home] = lives.get(home, (number, number))[0], number
            for value in node.values():
                home = self.homes[value]
                lives[home] = lives[home][0], number
        for value in self.graph.outputs:
            home = self.homes[value]
            lives[home] = lives[home][0], len(self.graph.nodes)
        return lives

    def run(self, arrays, out=None):
        """The outputs, in new arrays or in those of `out`."""
        run = self._take()
        try:
            run.load(arrays)
            for call in run.calls:
                call()
            return run.results(out)
        finally:
            self.idle.append(run)

    def times(self, arrays, repeat):
        """Median seconds of every step."""
        run = self._take()
        try:
            samples = []
            for _ in range(repeat):
                run.load(arrays)
                samples.append(run.timed())
            medians = [statistics.median(column) for column in zip(*samples, strict=True)]
        finally:
            self.idle.append(run)
        found = iter(medians)
        return [0.0 if step.alias else next(found) for step in self.steps]

    def _take(self):
        """A :class:`Run` that no other thread uses, for the number of threads there is."""
        threads = get_num_threads()
        while True:
            try:
                run = self.idle.pop()
            except IndexError:
                return Run(self)
            if run.threads == threads:
                return run


class Run:
    """Memory of a program's values, and its steps as calls on it."""

    def __init__(self, program):
        self.threads = get_num_threads()
        self.graph = program.graph
        scratch = _Scratch(None)
        memory = empty((program.size,), np.uint8)
        self._bind(program, memory, scratch)  # to learn what scratch is needed
        self.arrays, self.calls = self._bind(
            program, memory, _Scratch(empty((scratch.most,), np.uint8))
        )

    def _bind(self, program, memory, scratch):
        arrays = {
            value: _view(memory, program.places[program.homes[value]].offset, shape, program.dtype)
            for value, shape in program.shapes.items()
        }
        calls = []
        for node, step in zip(program.graph.nodes, program.steps, strict=True):
            if step.alias:
                continue
            scratch.used = 0
            inputs = [arrays[x] if isinstance(x, Value) else x for x in node.inputs]
            calls.append(step.bind(inputs, arrays[node.output], scratch.take))
        return arrays, calls

    def load(self, inputs):
        """Copy the inputs to where the steps read them."""
        for value, given in zip(self.graph.inputs, inputs, strict=True):
            array = self.arrays[value]
            if given.flags.c_contiguous and 3 <= given.ndim <= 5 and given.size:
                memory = channels_last(array)
                n, channels = given.shape[:2]
                layout.transpose(
                    given.reshape(n, channels, -1),
                    memory.reshape(n, -1, channels),
                    threads_for(given.size),
                )
            else:
                np.copyto(array, given)

    def timed(self):
        """Run; seconds of every call."""
        seconds = []
        for call in self.calls:
            start = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - start)
        return seconds

    def results(self, out):
        """Copies of the outputs."""
        arrays = [self.arrays[value] for value in self.graph.outputs]
        if out is None:
            return [np.array(array) for array in arrays]
        for array, target in zip(arrays, out, strict=True):
            np.copyto(target, array)
        return list(out)


class _Scratch:
    """What a step works in; all steps have the same memory, one after the other."""

    def __init__(self, memory):
        self.memory, self.used, self.most = memory, 0, 0

    def take(self, shape, dtype):
        """An array that only one step uses."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        start, self.used = self.used, self.used + -(-size // LINE) * LINE
        self.most = max(self.most, self.used)
        if self.memory is None:
            return empty(shape, dtype)
        return self.memory[start : start + size].view(dtype).reshape(shape)


def _view(memory, offset, shape, dtype):
    """A value's array, in the memory order that steps read."""
    back, order = dense(shape)
    size = math.prod(shape) * dtype.itemsize
    return memory[offset : offset + size].view(dtype).reshape(order).transpose(back)


def _arrange(lives, size_of):
    """{value: Place} and the bytes of all, values that live at once apart from each other.

    The largest first, each at the lowest place that is free while it lives [1]_.

    References
    ----------
    .. [1] Y. Pisarchyk, J. Lee, "Efficient Memory Management for Deep Neural Net Inference",
       2020, section 5.1.
    """
    places, total = {}, 0
    for value in sorted(lives, key=lambda value: (-size_of(value), lives[value])):
        first, last = lives[value]
        size = -(-size_of(value) // LINE) * LINE
        taken = sorted(
            (p.offset, p.offset + p.size)
            for p in places.values()
            if p.first <= last and first <= p.last
        )
        offset = 0
        for start, stop in taken:
            if start - offset >= size:
                break
            offset = max(offset, stop)
        places[value] = Place(offset, size, first, last)
        total = max(total, offset + size)
    return places, total
