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
from fastconv.compiler.operators import OPERATORS, Value, dense
from fastconv.kernels import layout

__all__ = ["Program"]

LINE = 64  # bytes: arrays begin at cache lines
# Where a batch's values leave a cache of so many bytes, a few images at a time pass through the
# first steps, as far as their weights stay there.
CACHE = 8 << 20
# Operators whose images do not depend on each other.
BY_IMAGE = {
    "add", "adaptive_avg_pool", "adaptive_max_pool", "avg_pool", "conv", "linear", "max_pool",
    "norm", "rectify",
}  # fmt: skip


class Place(NamedTuple):
    """Where a value lies, and from which step to which."""

    offset: int
    size: int
    first: int
    last: int


class Program:
    """A graph for given input shapes, in one or two stages.

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
        self.graph = graph
        whole = Stage(graph, shapes, dtype, kept)
        self.shapes = whole.shapes
        self.stages = _in_stages(whole, kept)
        self.size = sum(stage.size for stage in self.stages)
        self.idle = deque()  # memory and calls for one run at a time

    def run(self, arrays, out=None):
        """The outputs, in new arrays or in those of `out`."""
        run = self._take()
        try:
            run.run(arrays)
            return run.results(out)
        finally:
            self.idle.append(run)

    def times(self, arrays, repeat):
        """Median seconds of every step of every stage, all its images together."""
        run = self._take()
        try:
            samples = [run.times(arrays) for _ in range(repeat)]
        finally:
            self.idle.append(run)
        medians = (statistics.median(column) for column in zip(*samples, strict=True))
        steps = (step for stage in self.stages for step in stage.steps)
        return [0.0 if step.alias else next(medians) for step in steps]

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


class Stage:
    """Steps, and places for their values, of all images or of some at a time."""

    def __init__(self, graph, shapes, dtype, kept, repeat=1):
        self.graph, self.dtype, self.repeat = graph, np.dtype(dtype), repeat
        self.shapes = dict(zip(graph.inputs, map(tuple, shapes), strict=True))
        self.steps = []
        for node in graph.nodes:
            self.steps.append(self._step(node, kept[node.output]))
            self.shapes[node.output] = self.steps[-1].shape
        self.homes = self._homes()
        self.places, self.size = _arrange(self._lives(), self.bytes)

    def _step(self, node, kept):
        shapes = [self.shapes[x] if isinstance(x, Value) else None for x in node.inputs]
        step = OPERATORS[node.operator](node.inputs, node.options, shapes, self.dtype, kept)
        if step is None:
            raise ValueError(f"a plan cannot run {node.operator} on inputs of shape {shapes}")
        return step

    def bytes(self, value):
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


def _in_stages(whole, kept):
    """The stage of a whole graph, or one of its first steps on a few images and one of the rest."""
    graph, shapes = whole.graph, whole.shapes
    batch = {shapes[value][:1] for value in graph.inputs}
    first = _first_steps(whole)
    if len(batch) > 1 or not first:
        return [whole]
    ((images,),) = batch
    head, tail = _cut(graph, first)

    def stage(part, count):
        cut = [(count, *shapes[value][1:]) for value in part.inputs]
        return Stage(part, cut, whole.dtype, kept, images // count)

    fitting = CACHE // stage(head, 1).size
    count = max(n for n in range(1, images + 1) if images % n == 0 and n <= max(fitting, 1))
    return [whole] if count == images else [stage(head, count), stage(tail, images)]


def _first_steps(whole):
    """How many of the first steps should see few images at a time."""
    weights = 0
    for number, node in enumerate(whole.graph.nodes):
        images = {whole.shapes[value][:1] for value in (*node.values(), node.output)}
        moved = sum(whole.bytes(value) for value in (*node.values(), node.output))
        weights += sum(x.nbytes for x in node.inputs if isinstance(x, np.ndarray))
        if (
            node.operator not in BY_IMAGE
            or images != {whole.shapes[whole.graph.inputs[0]][:1]}
            or moved <= CACHE
            or weights > CACHE // 4  # a transform makes them four times as large
        ):
            return number
    return len(whole.graph.nodes)


def _cut(graph, first):
    """The graph of the first nodes, and that of the others."""
    before, after = graph.nodes[:first], graph.nodes[first:]
    needed = {value: None for node in after for value in node.values()}
    needed.update(dict.fromkeys(graph.outputs))
    made = {node.output for node in after}
    inputs = [value for value in needed if value not in made]
    used = {value for node in before for value in node.values()}
    head = graph._replace(
        inputs=[value for value in graph.inputs if value in used],
        nodes=before,
        outputs=[value for value in inputs if value not in graph.inputs],
    )
    return head, graph._replace(inputs=inputs, nodes=after)


class Run:
    """Memory for one run at a time, and the steps of all stages as calls on it."""

    def __init__(self, program):
        self.threads = get_num_threads()
        self.graph = program.graph
        self.stages = [_Bound(stage) for stage in program.stages]

    def run(self, arrays):
        """Set all values."""
        for stage in self._parts(arrays):
            for call in stage.calls:
                call()

    def times(self, arrays):
        """The same; seconds of all calls, those of one step together."""
        seconds = {id(stage): [0.0] * len(stage.calls) for stage in self.stages}
        for stage in self._parts(arrays):
            for place, call in enumerate(stage.calls):
                start = time.perf_counter()
                call()
                seconds[id(stage)][place] += time.perf_counter() - start
        return [spent for stage in self.stages for spent in seconds[id(stage)]]

    def _parts(self, arrays):
        """Every stage, once for each few images, when these are where its steps read them."""
        given = dict(zip(self.graph.inputs, arrays, strict=True))
        for stage, after in zip(self.stages, [*self.stages[1:], None], strict=True):
            for part in range(stage.repeat):
                images = slice(part * stage.images, (part + 1) * stage.images or None)
                for value in stage.inputs:
                    if value in given:
                        x = given[value]
                        _copy(x if stage.repeat == 1 else x[images], stage.arrays[value])
                yield stage
                if after is not None:
                    for value in after.inputs:
                        if value not in given:
                            np.copyto(after.arrays[value][images], stage.arrays[value])

    def results(self, out):
        """Copies of the outputs."""
        arrays = [self.stages[-1].arrays[value] for value in self.graph.outputs]
        if out is None:
            return [np.array(array) for array in arrays]
        for array, target in zip(arrays, out, strict=True):
            np.copyto(target, array)
        return list(out)


class _Bound:
    """A stage's arrays, and its steps as calls on them."""

    def __init__(self, stage):
        self.inputs, self.repeat = stage.graph.inputs, stage.repeat
        self.images = stage.shapes[self.inputs[0]][0] if stage.repeat > 1 else 0
        scratch = _Scratch(None)
        memory = empty((stage.size,), np.uint8)
        self._bind(stage, memory, scratch)  # to learn what scratch is needed
        self._bind(stage, memory, _Scratch(empty((scratch.most,), np.uint8)))

    def _bind(self, stage, memory, scratch):
        self.arrays = {
            value: _view(memory, stage.places[stage.homes[value]].offset, shape, stage.dtype)
            for value, shape in stage.shapes.items()
        }
        self.calls = []
        for node, step in zip(stage.graph.nodes, stage.steps, strict=True):
            scratch.used = 0
            inputs = [self.arrays[x] if isinstance(x, Value) else x for x in node.inputs]
            if not step.alias:
                self.calls.append(step.bind(inputs, self.arrays[node.output], scratch.take))


def _copy(given, array):
    """array := given, of any layout."""
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
