"""A model as a list of operators, found by running it once."""

import copy
from collections import Counter
from typing import NamedTuple

import numpy as np

from fastconv.autograd import Tensor, no_grad
from fastconv.autograd.engine import traced
from fastconv.compiler.operators import OF_SHAPES, OPERATORS
from fastconv.compiler.recognise import canonical
from fastconv.compiler.rules import name_of
from fastconv.compiler.step import Spec, Value
from fastconv.nn import Module

__all__ = ["Graph", "Node", "Value", "prune", "recognise", "trace"]


class Node(NamedTuple):
    """One operator. Its inputs are Values, and constants: arrays, numbers or None."""

    operator: str
    inputs: tuple
    options: dict
    outputs: tuple  # Values; None where nothing needs one

    @property
    def output(self):
        """The first of its outputs, that of most operators."""
        return self.outputs[0]

    def values(self):
        """Its inputs that are Values."""
        return [x for x in self.inputs if isinstance(x, Value)]

    def made(self):
        """Its outputs that are needed."""
        return [value for value in self.outputs if value is not None]


class Graph(NamedTuple):
    """Nodes, each after those whose values it needs."""

    inputs: list
    nodes: list
    outputs: list
    several: bool  # whether the model returns a tuple, also of one
    shapes: dict  # of every Value, in the trace
    dtypes: dict  # of every Value

    def spec(self, value):
        """What the trace knows of a value; None of what is none."""
        if not isinstance(value, Value):
            return None
        return Spec(self.shapes[value], self.dtypes[value])

    def uses(self):
        """{Value: how many nodes and outputs need it}."""
        count = Counter(value for node in self.nodes for value in node.values())
        count.update(self.outputs)
        return count


def trace(model, examples, copied=True):
    """The :class:`Graph` of ``model(*examples)`` in evaluation mode, and what that returns.

    Every node is a "call" of a rule, by its name, with its options, or a "constant" that the model
    returns. Constants are copies, or the model's own arrays unless `copied`.
    """
    graph = Graph([], [], [], False, {}, {})
    known = {}  # id of an array: its Value
    alive = []  # else another array could get the same id
    copies = {}  # id of a constant: its copy, for the model may change

    def new(array):
        alive.append(array)
        value = known[id(array)] = Value(len(alive))
        graph.shapes[value], graph.dtypes[value] = array.shape, array.dtype
        return value

    def constant(array):
        if id(array) not in copies:
            if any(np.may_share_memory(array, other) for other in alive):
                raise ValueError(
                    "the model uses an intermediate result as a plain array, which a plan cannot "
                    "follow: keep to Tensors and the functions of fastconv"
                )
            copies[id(array)] = array, array.copy(order="K") if copied else array
        return copies[id(array)][1]

    def record(rule, arrays, options, results):
        inputs = []
        for x in arrays:
            x = x.data if isinstance(x, Tensor) else x
            if isinstance(x, np.ndarray):
                inputs.append(known[id(x)] if id(x) in known else constant(x))
            else:
                inputs.append(x)
        if any(isinstance(x, Value) for x in inputs):
            call = {"rule": name_of(rule), "function": rule, "options": copy.copy(options)}
            outputs = tuple(new(y) if isinstance(y, np.ndarray) else None for y in results)
            graph.nodes.append(Node("call", tuple(inputs), call, outputs))

    def returned(result):
        array = result.data if isinstance(result, Tensor) else result
        if not isinstance(array, np.ndarray):
            raise ValueError(
                f"the model must return Tensors or a tuple of them, got {type(result).__name__}"
            )
        if id(array) not in known:
            copied = constant(array)
            graph.nodes.append(Node("constant", (copied,), {}, (new(array),)))
        return known[id(array)]

    tensors = [Tensor(x) for x in examples]
    graph.inputs.extend(new(x.data) for x in tensors)
    with _evaluating(model), no_grad(), traced(record):
        results = model(*tensors)
    several = isinstance(results, (tuple, list))
    graph.outputs.extend(map(returned, results if several else [results]))
    results = [np.asarray(r) for r in results] if several else [np.asarray(results)]
    return graph._replace(several=several), results


class _evaluating:
    """Context in which a model is in evaluation mode; each module is then as it was."""

    def __init__(self, model):
        self.modules = list(model.modules()) if isinstance(model, Module) else []

    def __enter__(self):
        self.modes = [module.training for module in self.modules]
        for module in self.modules:
            module.__dict__["training"] = False

    def __exit__(self, *exc_info):
        for module, mode in zip(self.modules, self.modes, strict=True):
            module.__dict__["training"] = mode


def prune(graph, known=()):
    """Without the nodes and outputs that nothing needs, as nothing needs what is `known`."""
    needed, nodes = set(graph.outputs).difference(known), []
    for node in reversed(graph.nodes):
        outputs = tuple(value if value in needed else None for value in node.outputs)
        if any(value is not None for value in outputs):
            needed.update(value for value in node.values() if value not in known)
            nodes.append(node._replace(outputs=outputs))
    return graph._replace(nodes=nodes[::-1])


def recognise(graph):
    """With the operators that plans have steps for, where a call's rule is one."""
    nodes, known = [], {}
    for node in graph.nodes:
        specs = [graph.spec(x) and graph.spec(x)._replace(value=known.get(x)) for x in node.inputs]
        if all(spec is None or spec.value is not None for spec in specs) or (
            node.options.get("rule") in OF_SHAPES
        ):
            outputs = OPERATORS[node.operator](node.inputs, node.options, specs, None).outputs
            known.update(
                (value, spec.value)
                for value, spec in zip(node.outputs, outputs, strict=True)
                if value is not None
            )
            nodes.append(node)
            continue
        found = canonical(node, specs, graph.spec(node.output))
        nodes.append(node if found is None else Node(*found, node.outputs[:1]))
    return graph._replace(nodes=nodes)
