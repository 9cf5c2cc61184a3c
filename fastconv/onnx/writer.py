"""``save``: a model as an ONNX file, from a trace of its rules."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fastconv import _checks
from fastconv.autograd import Tensor
from fastconv.compiler.graph import Value
from fastconv.compiler.rules import RULES
from fastconv.io import replacement
from fastconv.nn import Module
from fastconv.onnx import (
    emit_activations,
    emit_arrays,
    emit_images,
    emit_layers,
    emit_norms,
    emit_pools,
    emit_tensors,
)
from fastconv.onnx.builder import Builder
from fastconv.onnx.errors import require
from fastconv.onnx.sizes import follow

__all__ = ["EMITTERS", "NOT_WRITTEN", "save"]

OLDEST_OPSET = 17

EMITTERS = {
    rule: emitter
    for module in (
        emit_activations,
        emit_arrays,
        emit_images,
        emit_layers,
        emit_norms,
        emit_pools,
        emit_tensors,
    )
    for rule, emitter in module.EMITTERS.items()
}
_PART = "it is a part of other rules"
_RANDOM = (
    "random numbers differ from run to run: dropout is exported in evaluation mode, in which it "
    "does nothing"
)
# Rules that have no emitter, and why.
NOT_WRITTEN = {
    "autograd.ops._both": _PART,
    "functional.conv._conv_bordered_rule": "a trace has the padding and the convolution instead",
    "functional.dropout._alpha_dropout_rule": _RANDOM,
    "functional.dropout._dropout_rule": _RANDOM,
    "functional.norm._by_sample": _PART,
} | {
    rule: "a loss compares with targets: export the network without it"
    for rule in RULES
    if rule.startswith("functional.loss.") and rule not in EMITTERS
}


def save(
    model,
    path,
    example,
    *,
    opset=OLDEST_OPSET,
    input_names=None,
    output_names=None,
    dynamic=True,
    metadata=None,
):
    """Write a model as an ONNX file, that other runtimes read.

    Parameters
    ----------
    model : Module or callable
        Takes and returns Tensors. A module is written in evaluation mode, and is left as it was.
        Its parameters and buffers are initialisers under their names in ``state_dict()``.
    path : str or os.PathLike
        The file is written beside it and then renamed.
    example : ndarray or tuple of ndarray
        The inputs, which the model is run with.
    opset : int, default 17
        Version of the operators, from 17 to the newest that the ``onnx`` package knows.
    input_names, output_names : sequence of str, optional
        By default those of a model that has such attributes, as :func:`load` gives it; else
        "input" and "output", with numbers if there are several.
    dynamic : bool or dict, default True
        True lets the first axis of all inputs have any length; False keeps all sizes as in the
        example. A dict names the axes that may have any length, as
        ``{"input": {0: "batch", 2: "height", 3: "width"}}``; axes of one name have one length.
    metadata : dict of str to str, optional
        Kept in the file beside the graph.

    Raises
    ------
    ImportError
        If the ``onnx`` package is not installed.
    ValueError
        If the model does something that ONNX, or a trace, cannot follow: the message names the
        rule. If names or `dynamic` do not fit the model. If the model has 2 GB or more.
    TypeError
        If `example` is not an array or a tuple of arrays.

    Notes
    -----
    What follows the dynamic axes is found by running the model with two and three times their
    length. The file passes ``onnx.checker.check_model(full_check=True)``, and equal models give
    equal bytes.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np, onnx
    >>> import fastconv.onnx
    >>> net = fastconv.models.lenet(1, 10)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "lenet.onnx")
    ...     fastconv.onnx.save(net, path, np.zeros((1, 1, 28, 28), np.float32))
    ...     [node.op_type for node in onnx.load(path).graph.node][:3]
    ['Conv', 'Relu', 'MaxPool']
    """
    onnx = require()
    path = Path(path)
    _checks.writable(path)
    if not callable(model):
        raise TypeError(f"model must be a Module or a callable, got {type(model).__name__}")
    opset = _checks.integer("opset", opset, OLDEST_OPSET, onnx.defs.onnx_opset_version())
    examples = _arrays(example)
    inputs = _names("input", input_names, model, len(examples))
    proto = _proto(model, examples, inputs, output_names, _axes(dynamic, inputs, examples), opset)
    onnx.helper.set_model_props(proto, _metadata(metadata))
    with replacement(path) as file:
        file.write(proto.SerializeToString(deterministic=True))


def _arrays(example):
    arrays = example if isinstance(example, (tuple, list)) else (example,)
    arrays = [x.data if isinstance(x, Tensor) else x for x in arrays]
    if not all(isinstance(x, np.ndarray) for x in arrays):
        raise TypeError(f"example must be an ndarray or a tuple of ndarrays, got {example!r:.80}")
    return [_checks.native(_checks.plain("example", x)) for x in arrays]


def _names(kind, names, model, count):
    """Distinct names for all inputs or outputs."""
    names = getattr(model, f"{kind}_names", None) if names is None else names
    if names is None:
        return [kind] if count == 1 else [f"{kind}_{i}" for i in range(count)]
    names = [names] if isinstance(names, str) else list(names)
    valid = all(isinstance(name, str) and name for name in names)
    if len(names) != count or not valid or len(set(names)) < count:
        raise ValueError(f"{kind}_names must be {count} different names, got {names!r:.200}")
    return names


def _metadata(metadata):
    entries = {} if metadata is None else metadata
    if not isinstance(entries, Mapping) or not all(
        isinstance(text, str) for entry in entries.items() for text in entry
    ):
        raise TypeError(f"metadata must be a dict of str to str, got {metadata!r:.80}")
    return dict(entries)


def _axes(dynamic, inputs, examples):
    """{name of a dynamic axis: [(number of an input, axis), ...]}."""
    if isinstance(dynamic, (bool, np.bool_)):
        named = [(name, {0: "batch"}) for name, x in zip(inputs, examples, strict=True) if x.ndim]
        dynamic = dict(named) if dynamic else {}
    if not isinstance(dynamic, Mapping):
        raise TypeError(f"dynamic must be True, False or a dict, got {dynamic!r}")
    found = {}
    for name, axes in dynamic.items():
        if name not in inputs or not isinstance(axes, Mapping):
            raise ValueError(
                f"dynamic must map names of inputs ({', '.join(inputs)}) to {{axis: name}}, "
                f"got {name!r}: {axes!r}"
            )
        number = inputs.index(name)
        for axis, symbol in axes.items():
            axis = _checks.axis("dynamic", axis, examples[number].ndim)
            if not isinstance(symbol, str) or not symbol:
                raise ValueError(f"dynamic must give axes names, got {symbol!r} for {name}")
            found.setdefault(symbol, []).append((number, axis))
    return found


def _proto(model, examples, inputs, outputs, symbols, opset):
    """The checked ModelProto."""
    onnx = require()
    graph = follow(model, examples, symbols)
    outputs = _names("output", outputs, model, len(graph.outputs))
    state = model.state_dict() if isinstance(model, Module) else {}
    parameters = {}
    for name, array in state.items():
        parameters.setdefault(id(array), name)
    _check_apart(inputs, outputs, state)
    axes = {symbol: (inputs[i], axis) for symbol, ((i, axis), *_) in symbols.items()}
    builder = Builder(graph, parameters, axes, opset, (*inputs, *outputs))
    builder.names.update(zip(graph.inputs, inputs, strict=True))
    for node in graph.nodes:
        _write(builder, node, outputs)
    for value, name in zip(graph.outputs, outputs, strict=True):
        if builder.names[value] != name:
            builder.first = len(builder.nodes)
            builder.rename(builder.names[value], name)
    proto = _assemble(builder, inputs, outputs, type(model).__name__)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def _check_apart(inputs, outputs, state):
    names = [*inputs, *outputs]
    for name in names:
        if names.count(name) > 1 or name in state:
            raise ValueError(
                f"the name {name!r} is that of two values (inputs, outputs and parameters); "
                "choose others with input_names and output_names"
            )


def _write(builder, node, outputs):
    """A node of the trace by its rule's emitter, and the names of its results."""
    builder.start(node)
    results = _emitted(builder, node)
    results = [builder.name(x) for x in (results if type(results) is tuple else (results,))]
    for value, result in zip(node.outputs, results, strict=False):  # extras only if needed
        if value is not None:
            builder.names[value] = result
            if value in builder.graph.outputs:
                wanted = outputs[builder.graph.outputs.index(value)]
                builder.rename(result, wanted)
                builder.names[value] = wanted


def _emitted(builder, node):
    if node.operator == "constant":
        return node.inputs[0]
    rule, function = node.options["rule"], node.options["function"]
    name = rule or f"{function.__module__}.{function.__qualname__}"
    if rule not in EMITTERS:
        reason = NOT_WRITTEN.get(rule, "no ONNX operators are known for it")
        raise ValueError(f"the model calls the rule {name}, which cannot be exported: {reason}")
    try:
        return EMITTERS[rule](builder, *node.inputs, **node.options["options"])
    except (TypeError, ValueError) as error:
        raise ValueError(f"the rule {name} cannot be exported: {error}") from error


def _assemble(builder, inputs, outputs, name):
    from fastconv import __version__

    helper = builder.helper

    def described(name, value: Value):
        dtype = helper.np_dtype_to_tensor_dtype(builder.dtype(value))
        shape = [n if isinstance(n, int) else _dimension(n) for n in builder.shape(value)]
        return helper.make_tensor_value_info(name, dtype, shape)

    graph = builder.graph
    proto = helper.make_graph(
        builder.nodes,
        name,
        [described(*pair) for pair in zip(inputs, graph.inputs, strict=True)],
        [described(*pair) for pair in zip(outputs, graph.outputs, strict=True)],
        list(builder.initializers.values()),
    )
    opsets = [helper.make_opsetid("", builder.opset)]
    return helper.make_model(
        proto,
        opset_imports=opsets,
        ir_version=helper.find_min_ir_version_for(opsets),
        producer_name="fastconv",
        producer_version=__version__,
    )


def _dimension(size):
    """The name of a dynamic axis, None (unknown) for one without a law."""
    return str(size) if size.symbol else None
