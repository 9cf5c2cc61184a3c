"""A graph for given input shapes: its steps, one memory for all of them, and its execution."""

import math
import statistics
import time
from collections import deque
from functools import partial
from typing import NamedTuple

import numpy as np

from fastconv import _checks
from fastconv._layout import channels_last
from fastconv._memory import empty
from fastconv._threads import get_num_threads, team, threads_for
from fastconv.compiler.fuse import join_views
from fastconv.compiler.graph import prune
from fastconv.compiler.operators import OPERATORS
from fastconv.compiler.step import Spec, Value, dense, laid
from fastconv.kernels import layout

__all__ = ["Program"]

LINE = 64  # bytes: arrays begin at cache lines
# Where a batch's values leave a cache of so many bytes, a few images at a time pass through the
# first steps, as far as their weights stay there.
CACHE = 8 << 20


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
    kept : dict
        By value, what keeps the weights of the node that makes it as kernels read them.

    Attributes
    ----------
    specs : dict
        By value, its :class:`Spec`.
    """

    def __init__(self, graph, shapes, kept):
        inputs = {
            value: Spec(tuple(shape), graph.dtypes[value])
            for value, shape in zip(graph.inputs, shapes, strict=True)
        }
        whole = Stage(graph, inputs, kept)
        self.graph, self.specs = whole.graph, whole.specs
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
        threads = team(get_num_threads())
        while True:
            try:
                run = self.idle.pop()
            except IndexError:
                return Run(self, threads)
            if run.threads == threads:
                return run


class Stage:
    """Steps, and places for their values, of all images or of some at a time.

    What follows from constants and the shapes of inputs is computed here, once, and has neither
    steps nor places.
    """

    def __init__(self, graph, specs, kept, repeat=1):
        self.repeat, self.specs = repeat, dict(specs)
        steps = {}
        for node in graph.nodes:
            inputs = [self.specs[x] if isinstance(x, Value) else None for x in node.inputs]
            step = self._step(node, inputs, kept)
            outputs = _computed(node, step, inputs)
            for value, spec in zip(node.outputs, outputs, strict=True):
                if value is not None:
                    self.specs[value], steps[value] = spec, step
        self.known = {value for value, spec in self.specs.items() if spec.value is not None}
        self.graph = join_views(prune(graph, self.known), self.specs, steps)
        self.steps = [steps[node.made()[0]] for node in self.graph.nodes]
        self.homes = self._homes()
        self.places, self.size = _arrange(self._lives(), self.bytes)

    def _step(self, node, inputs, kept):
        step = OPERATORS[node.operator](node.inputs, node.options, inputs, kept[node.made()[0]])
        if step is None:
            shapes = [spec.shape for spec in inputs if spec is not None]
            raise ValueError(f"a plan cannot run {node.operator} on inputs of shape {shapes}")
        if len(step.outputs) != len(node.outputs):
            raise ValueError(f"{node.operator} has {len(step.outputs)} outputs")
        return step

    def bytes(self, value):
        return self.specs[value].nbytes

    def _homes(self):
        """The value in whose memory each lies: another one's for an alias and over dead ones."""
        homes = {value: value for value in self.graph.inputs}
        for node, step in zip(self.graph.nodes, self.steps, strict=True):
            homes.update((value, value) for value in node.made())
            if step.alias:
                homes[node.output] = homes[node.inputs[0]]
        last = self._last_uses(homes)
        for number, (node, step) in enumerate(zip(self.graph.nodes, self.steps, strict=True)):
            over = [node.inputs[i] for i in step.over]
            dead = [
                homes[x]
                for x in over
                if isinstance(x, Value)
                and x in homes
                and last[homes[x]] == number
                and self.bytes(x) == self.bytes(homes[x]) == self.bytes(node.output)
            ]
            if dead and not step.alias:
                old, home = node.output, dead[0]
                last[home] = last.pop(old)
                homes.update((value, home) for value in homes if homes[value] == old)
        return homes

    def _last_uses(self, homes):
        """{value with memory of its own: last step that needs it}."""
        last = dict.fromkeys(homes.values(), 0)
        for number, node in enumerate(self.graph.nodes):
            for value in (*node.values(), *node.made()):
                if value in homes:
                    last[homes[value]] = number
        for value in self.graph.outputs:
            if value in homes:
                last[homes[value]] = len(self.graph.nodes)
        return last

    def _lives(self):
        """{value with memory of its own: (step that makes it, last step that needs it)}."""
        first = dict.fromkeys(self.graph.inputs, 0)
        for number, node in enumerate(self.graph.nodes):
            for value in node.made():
                first.setdefault(self.homes[value], number)
        last = self._last_uses(self.homes)
        return {home: (first[home], last[home]) for home in last}


def _computed(node, step, inputs):
    """The specs of a node's outputs, with values where all of its inputs' are known."""
    outputs = step.outputs
    if any(spec is not None and spec.value is None for spec in inputs):
        return [spec and spec._replace(value=_laid_out(spec.value, spec)) for spec in outputs]
    arrays = [
        x if spec is None else spec.value for x, spec in zip(node.inputs, inputs, strict=True)
    ]
    made = [spec and spec.value for spec in outputs]
    if step.alias:
        made = [laid(_bytes(arrays[0]), outputs[0])]
    elif any(spec is not None and spec.value is None for spec in outputs):
        made = [spec and laid(np.empty(spec.nbytes, np.uint8), spec) for spec in outputs]
        step.bind(arrays, made, empty)()
    return [
        spec and spec._replace(value=_laid_out(array, spec))
        for spec, array in zip(outputs, made, strict=True)
    ]


def _laid_out(array, spec):
    """`array` in the memory order that steps read, and read-only; None if there is none."""
    if array is None:
        return None
    placed = laid(np.empty(spec.nbytes, np.uint8), spec)
    placed[...] = array
    placed.flags.writeable = False
    return placed


def _bytes(array):
    """The memory of a value's array, which has no gaps."""
    axes, _ = dense(array.shape)
    return array.transpose(axes).reshape(-1).view(np.uint8)


def _in_stages(whole, kept):
    """The stage of a whole graph, or one of its first steps on a few images and one of the rest."""
    graph, specs = whole.graph, whole.specs
    batch = {specs[value].shape[:1] for value in graph.inputs}
    first = _first_steps(whole)
    if len(batch) > 1 or not first:
        return [whole]
    ((images,),) = batch
    head, tail = _cut(graph, first, whole.known)
    known = {value: specs[value] for value in whole.known}

    def stage(part, count):
        cut = {
            value: specs[value]._replace(shape=(count, *specs[value].shape[1:]))
            for value in part.inputs
        }
        return Stage(part, known | cut, kept, images // count)

    fitting = CACHE // max(stage(head, 1).size, 1)
    count = max(n for n in range(1, images + 1) if images % n == 0 and n <= max(fitting, 1))
    return [whole] if count == images else [stage(head, count), stage(tail, images)]


def _first_steps(whole):
    """How many of the first steps should see few images at a time."""
    weights = 0
    for number, (node, step) in enumerate(zip(whole.graph.nodes, whole.steps, strict=True)):
        values = (*node.values(), *node.made())
        images = {whole.specs[value].shape[:1] for value in values}
        moved = sum(whole.bytes(value) for value in values)
        weights += sum(x.nbytes for x in node.inputs if isinstance(x, np.ndarray))
        if (
            not step.by_image
            or images != {whole.specs[whole.graph.inputs[0]].shape[:1]}
            or not whole.known.isdisjoint(values)
            or moved <= CACHE
            or weights > CACHE // 4  # a transform makes them four times as large
        ):
            return number
    return len(whole.graph.nodes)


def _cut(graph, first, known):
    """The graph of the first nodes, and that of the others."""
    before, after = graph.nodes[:first], graph.nodes[first:]
    needed = {value: None for node in after for value in node.values()}
    needed.update(dict.fromkeys(graph.outputs))
    made = {value for node in after for value in node.made()}
    inputs = [value for value in needed if value not in made and value not in known]
    used = {value for node in before for value in node.values()}
    head = graph._replace(
        inputs=[value for value in graph.inputs if value in used],
        nodes=before,
        outputs=[value for value in inputs if value not in graph.inputs],
    )
    return head, graph._replace(inputs=inputs, nodes=after)


class Run:
    """Memory for one run at a time, and the steps of all stages as calls on it."""

    def __init__(self, program, threads):
        self.threads = threads
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
                for value, put in stage.puts.items():
                    if value in given:
                        put(given[value] if stage.repeat == 1 else given[value][images])
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
        self.images = stage.specs[self.inputs[0]].shape[0] if stage.repeat > 1 else 0
        scratch = _Scratch(None)
        memory = empty((stage.size,), np.uint8)
        self._bind(stage, memory, scratch)  # to learn what scratch is needed
        self._bind(stage, memory, _Scratch(empty((scratch.most,), np.uint8)))
        self.puts = {value: _put(self.arrays[value]) for value in self.inputs}

    def _bind(self, stage, memory, scratch):
        self.arrays = {value: stage.specs[value].value for value in stage.known}
        for value, home in stage.homes.items():
            start = stage.places[home].offset
            self.arrays[value] = laid(memory[start:], stage.specs[value])
        self.calls = []
        for node, step in zip(stage.graph.nodes, stage.steps, strict=True):
            scratch.used = 0
            inputs = [self.arrays[x] if isinstance(x, Value) else x for x in node.inputs]
            outputs = [None if value is None else self.arrays[value] for value in node.outputs]
            if not step.alias:
                self.calls.append(step.bind(inputs, outputs, scratch.take))


def _put(array):
    """A call that sets `array` to another of its shape and dtype, of any layout."""
    n, channels = array.shape[:2] if 3 <= array.ndim <= 5 else (0, 0)
    if channels < 2 or not array.size or array.dtype.type not in _checks.FLOATS:
        return partial(np.copyto, array)
    memory = channels_last(array).reshape(n, -1, channels)
    shape, threads = (n, channels, memory.shape[1]), threads_for(array.size)

    def put(given):
        flags = given.flags
        if flags.c_contiguous and flags.aligned:
            layout.transpose(given.reshape(shape), memory, threads)
        else:
            np.copyto(array, given)

    return put


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
