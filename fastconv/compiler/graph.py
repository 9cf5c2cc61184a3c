"""A model as a list of operators, found by running it once."""

import copy
from typing import NamedTuple

import numpy as np

from fastconv.autograd import Tensor, no_grad
from fastconv.autograd.engine import traced
from fastconv.compiler.operators import Value, canonical, name_of
from fastconv.nn import Module

__all__ = ["Graph", "Node", "Value", "prune", "recognise", "trace"]


class Node(NamedTuple):
    """One operator. Its inputs are Values, and constants: arrays, numbers or None."""

    operator: str
    inputs: tuple
    options: dict
    output: Value

    def values(self):
        """Its inputs that are Values."""
        return [x for x in self.inputs if isinstance(x, Value)]


class Graph(NamedTuple):
    """Nodes, each after those whose values it needs."""

    inputs: list
    nodes: list
    outputs: list
    several: bool  # whether the model returns a tuple, also of one
    shapes: dict  # of every Value, in the trace
    dtypes: dict  # the same

    def same_shape(self, a, b):
        """Whether two values have one shape."""
        return self.shapes[a] == self.shapes[b]

    def uses(self):
        """{Value: how many nodes and outputs need it}."""
        count = dict.fromkeys([*self.inputs, *(node.output for node in self.nodes)], 0)
        for value in [*(v for node in self.nodes for v in node.values()), *self.outputs]:
            count[value] += 1
        return count


def trace(model, examples, copied=True):
    """The :class:`Graph` of ``model(*examples)`` in evaluation mode, and what that returns.

    Every node is a "call" of a rule, by its name, with its options. Constants are copies, or the
    model's own arrays unless `copied`.
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
        if any(np.may_share_memory(array, other) for other in alive):
            raise ValueError(
                "the model uses an intermediate result as a plain array, which a plan cannot "
                "follow: keep to Tensors and the functions of fastconv"
            )
        if id(array) not in copies:
            copies[id(array)] = array, array.copy(order="K") if copied else array
        return copies[id(array)][1]

    def record(rule, arrays, options, result):
        inputs = []
        for x in arrays:
            x = x.data if isinstance(x, Tensor) else x
            if isinstance(x, np.ndarray):
                inputs.append(known[id(x)] if id(x) in known else constant(x))
            else:
                inputs.append(x)
        if any(isinstance(x, Value) for x in inputs):
            call = {"rule": name_of(rule), "function": rule, "options": copy.copy(options)}
            graph.nodes.append(Node("call", tuple(inputs), call, new(result)))

    tensors = [Tensor(x) for x in examples]
    graph.inputs.extend(new(x.data) for x in tensors)
    with _evaluating(model), no_grad(), traced(record):
        results = model(*tensors)
    several = isinstance(results, (tuple, list))
    for result in results if several else [results]:
        array = result.data if isinstance(result, Tensor) else result
        if id(array) not in known:
            raise ValueError(
                "the model must return Tensors that fastconv's functions have computed from its "
                f"inputs, got {type(result).__name__}"
            )
        graph.outputs.append(known[id(array)])
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


def prune(graph):
    """Without the nodes that no output needs."""
    needed, nodes = set(graph.outputs), []
    for node in reversed(graph.nodes):
        if node.output in needed:
            needed.update(node.values())
            nodes.append(node)
    return graph._replace(nodes=nodes[::-1])


def recognise(graph, dtype):
    """With the operators that plans have steps for, where a call's rule is one."""
    nodes = [Node(*canonical(node, graph.shapes, dtype), node.output) for node in graph.nodes]
    return graph._replace(nodes=nodes)
