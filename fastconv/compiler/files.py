"""Plans in files: constants as arrays, the graph as JSON beside them."""

import numpy as np

from fastconv._activation import Activation
from fastconv.compiler.graph import Graph, Node
from fastconv.compiler.operators import OPERATORS
from fastconv.compiler.rules import RULES
from fastconv.compiler.step import Value
from fastconv.functional.resize import Options
from fastconv.io import load as load_arrays
from fastconv.io import load_metadata
from fastconv.io import save as save_arrays

__all__ = ["DAMAGE", "load", "save"]

VERSION = 2
# What reading and planning a description may raise that does not fit together.
DAMAGE = (ArithmeticError, AttributeError, LookupError, MemoryError, TypeError, ValueError)


def save(graph, input_shapes, path):
    """Write a graph, and the shapes of its example."""
    constants = {}
    nodes = []
    for node in graph.nodes:
        options = dict(node.options)
        if node.operator == "call":
            if options["rule"] is None:
                raise ValueError("an operator that is not fastconv's own cannot be saved")
            del options["function"]
        name = node.options.get("rule", node.operator)
        nodes.append(
            {
                "operator": node.operator,
                "inputs": [_encode(name, x, constants) for x in node.inputs],
                "options": _encode(name, options, constants),
                "outputs": [value and value.number for value in node.outputs],
            }
        )
    meta = {
        "version": VERSION,
        "input_shapes": [list(shape) for shape in input_shapes],
        "input_dtypes": [graph.dtypes[value].name for value in graph.inputs],
        "inputs": [value.number for value in graph.inputs],
        "outputs": [value.number for value in graph.outputs],
        "several": graph.several,
        "nodes": nodes,
    }
    save_arrays(constants, path, metadata={"plan": meta})


def load(path):
    """(graph, shapes of the example) of a file."""
    meta = load_metadata(path).get("plan")
    if not isinstance(meta, dict) or meta.get("version") != VERSION:
        raise ValueError(f"{path} holds no plan of version {VERSION}")
    constants = load_arrays(path)
    try:
        nodes = [_node(entry, constants) for entry in meta["nodes"]]
        inputs, outputs = ([Value(int(n)) for n in meta[key]] for key in ("inputs", "outputs"))
        shapes = [tuple(map(int, shape)) for shape in meta["input_shapes"]]
        dtypes = dict(zip(inputs, map(_dtype, meta["input_dtypes"]), strict=True))
        graph = Graph(inputs, nodes, outputs, bool(meta["several"]), {}, dtypes)
        _check(graph, shapes)
    except DAMAGE as error:
        raise ValueError(f"{path}: the plan is damaged: {error!r}") from None
    return graph, shapes


def _dtype(name):
    dtype = np.dtype(str(name))
    if dtype.kind not in "biuf":
        raise ValueError(f"dtype must be one of numbers or bool, got {dtype}")
    return dtype


def _node(entry, constants):
    operator, options = entry["operator"], _decode(entry["options"], constants)
    if not isinstance(options, dict):
        raise ValueError(f"options of {operator} must be a dict, got {options!r}")
    if operator not in OPERATORS:
        raise ValueError(f"unknown operator {operator!r}")
    if operator == "call":
        if options["rule"] not in RULES:
            raise ValueError(f"unknown operator {options['rule']!r}")
        options["function"] = RULES[options["rule"]]
    inputs = tuple(_decode(x, constants) for x in entry["inputs"])
    outputs = tuple(None if n is None else Value(int(n)) for n in entry["outputs"])
    return Node(operator, inputs, options, outputs)


def _check(graph, shapes):
    if len(shapes) != len(graph.inputs) or not graph.outputs:
        raise ValueError(f"{len(graph.inputs)} inputs, {len(shapes)} shapes, no outputs or some")
    known = set(graph.inputs)
    for node in graph.nodes:
        made = node.made()
        if not made or len({*made}) < len(made) or not known.isdisjoint(made):
            raise ValueError(f"{node.operator} gives {made}, some twice or none")
        if not known.issuperset(node.values()):
            raise ValueError(f"{node.operator} needs a value that nothing before it gives")
        known.update(made)
    if not known.issuperset(graph.outputs):
        raise ValueError("an output that nothing gives")


def _encode(name, x, constants):
    """What JSON holds, or a marked dict for anything else."""

    def inner(item):
        return _encode(name, item, constants)

    if x is None or type(x) in (bool, int, str) or (type(x) is float and np.isfinite(x)):
        return x
    if isinstance(x, float):
        return {"float": repr(float(x))}
    if isinstance(x, Value):
        return {"value": x.number}
    if isinstance(x, Activation):
        return {"activation": [inner(part) for part in x]}
    if isinstance(x, Options):
        return {"resize": [inner(part) for part in x]}
    if isinstance(x, np.ndarray):
        key = next(
            (key for key, array in constants.items() if array is x), f"constant_{len(constants)}"
        )
        constants[key] = x
        return {"array": key}
    if isinstance(x, np.generic):
        return inner(x.item())
    if isinstance(x, np.dtype):
        return {"dtype": x.name}
    if isinstance(x, slice):
        return {"slice": [inner(x.start), inner(x.stop), inner(x.step)]}
    if x is Ellipsis:
        return {"ellipsis": True}
    if isinstance(x, (tuple, list)):
        return {"tuple" if isinstance(x, tuple) else "list": [inner(item) for item in x]}
    if isinstance(x, dict) and all(isinstance(key, str) for key in x):
        return {"dict": {key: inner(item) for key, item in x.items()}}
    raise ValueError(f"{name} has an argument that a file cannot hold: {type(x).__name__}")


def _decode(x, constants):
    if not isinstance(x, dict):
        return x
    if len(x) != 1:
        raise ValueError(f"an argument of {len(x)} kinds")
    ((kind, content),) = x.items()
    decode = {
        "float": float,
        "value": lambda number: Value(int(number)),
        "activation": lambda parts: Activation(*(_decode(part, constants) for part in parts)),
        "resize": lambda parts: Options(*(_decode(part, constants) for part in parts)),
        "array": lambda key: constants[key],
        "dtype": np.dtype,
        "slice": lambda parts: slice(*(_decode(part, constants) for part in parts)),
        "ellipsis": lambda _: Ellipsis,
        "tuple": lambda items: tuple(_decode(item, constants) for item in items),
        "list": lambda items: [_decode(item, constants) for item in items],
        "dict": lambda items: {key: _decode(item, constants) for key, item in items.items()},
    }
    return decode[kind](content)
