"""A model's nodes as steps on numbered values: functions put in their place, constants folded,
and told when each value has been used for the last time.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fastconv.autograd.engine import Tensor, apply
from fastconv.autograd.ops import _astype
from fastconv.onnx.errors import OnnxError, bounded
from fastconv.onnx.registry import OPSET_MIN, Operator, find, read_attributes
from fastconv.onnx.tensors import to_array

__all__ = ["Block", "Step", "build", "run"]

# Functions that call each other may unfold to any number of nodes.
NODES_MAX = 1 << 17
DEPTH_MAX = 64

# Inputs that are weights, by operator; None: all. Others of float dtype are buffers.
WEIGHTS = {
    "Add": None,
    "BatchNormalization": (1, 2),
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "Gather": (0,),
    "Gemm": (1, 2),
    "GroupNormalization": (1, 2),
    "InstanceNormalization": (1, 2),
    "LayerNormalization": (1, 2),
    "MatMul": None,
    "Mul": None,
    "PRelu": (1,),
    "RMSNormalization": (1,),
}
# What gives the same values in another arrangement: a weight may pass through it.
ARRANGEMENTS = ("Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")


class Step(NamedTuple):
    """A node. Its inputs and outputs are numbers of values, None where left out."""

    name: str  # the operator's
    where: str  # for errors
    form: Operator | None  # None for If
    inputs: tuple
    outputs: tuple
    attributes: dict  # of If: the branches, Blocks
    free: tuple = ()  # values that no later step needs

    def branches(self):
        """The blocks of an If."""
        return self.attributes.values() if self.form is None else ()

    def reads(self):
        """All values that it needs, its branches included."""
        for block in self.branches():
            made = {v for step in block.steps for v in step.outputs}
            yield from (v for step in block.steps for v in step.reads() if v not in made)
            yield from (v for v in block.outputs if v not in made)
        yield from (v for v in self.inputs if v is not None)


class Block(NamedTuple):
    """Steps, and the values that they are for."""

    steps: list
    outputs: tuple


class Build:
    """What is known while a model is read."""

    def __init__(self, model, folder):
        self.folder = folder
        self.constants = {}  # value: ndarray
        self.names = {}  # value of an initialiser: its name
        self.values = 0
        self.nodes = 0
        self.bytes = 0  # of constants that were computed
        self.functions = {}
        for function in model.functions:
            key = _domain(function.domain), function.name, getattr(function, "overload", "")
            if key in self.functions:
                raise OnnxError(f"function {function.name!r} is defined twice")
            self.functions[key] = function

    def new(self):
        """The number of another value."""
        self.values += 1
        return self.values - 1

    def define(self, scope, name, where):
        """Another value, by that name."""
        if not isinstance(name, str):  # protobuf gives bytes then
            raise OnnxError(f"{where}: name {name!r} is not text")
        if name in scope:
            raise OnnxError(f"{where}: {name!r} is the name of another value already")
        scope[name] = self.new()
        return scope[name]

    def keep(self, value, array, where):
        """Make an array that was computed a constant."""
        self.constants[value] = array
        self.bytes += array.nbytes
        try:
            bounded([self.bytes], np.int8)
        except ValueError:
            raise OnnxError(f"{where}: constants need {self.bytes} bytes, too many") from None

    def initialisers(self, graph, scope, prefix=""):
        if graph.sparse_initializer:
            raise OnnxError("sparse initialisers are not supported")
        for tensor in graph.initializer:
            if not tensor.name:
                raise OnnxError("an initialiser has no name")
            value = self.define(scope, tensor.name, "initialiser")
            self.constants[value] = to_array(tensor, "initialiser", self.folder)
            name, taken = prefix + tensor.name, set(self.names.values()) if prefix else ()
            while name in taken:  # of a branch of another If
                name += "'"
            self.names[value] = name

    def block(self, nodes, outputs, scope, opsets, bound=None, depth=0, prefix=""):
        """The :class:`Block` of a graph or function; `bound` are a function's attributes."""
        if depth > DEPTH_MAX:
            raise OnnxError(f"graphs and functions are nested more than {DEPTH_MAX} deep")
        steps = []
        for index, node in enumerate(nodes):
            self.nodes += 1
            if self.nodes > NODES_MAX:
                raise OnnxError(f"the model has more than {NODES_MAX} nodes")
            label = f"{node.name!r} " if node.name else ""
            where = f"{prefix}node {index} {label}({node.op_type})"
            inputs = tuple(self._read(name, scope, nodes, where) for name in node.input)
            domain = _domain(node.domain)
            function = self.functions.get((domain, node.op_type, getattr(node, "overload", "")))
            if function is not None:
                made = self._call(function, node, inputs, bound, depth, where)
                steps += made.steps
                for name, value in zip(node.output, made.outputs, strict=False):
                    self._alias(scope, name, value, where)
                continue
            if domain not in opsets or domain:
                reason = "is not supported" if domain else "has no opset_import"
                raise OnnxError(f"{where}: domain {domain!r} {reason}")
            attributes = _bind(node.attribute, bound)
            if node.op_type == "If":
                form, attributes = None, self._branches(attributes, scope, opsets, depth, where)
            else:
                form = find(node.op_type, opsets[domain], where)
                attributes = read_attributes(form, attributes, where, self.folder)
                while inputs and inputs[-1] is None:
                    inputs = inputs[:-1]
                given = len(inputs)
                if not form.fewest <= given <= form.most or None in inputs[: form.fewest]:
                    raise OnnxError(
                        f"{where}: must have {form.fewest} to {form.most} inputs, got {given}"
                    )
            names = [self.define(scope, n, where) if n else None for n in node.output]
            steps.append(Step(node.op_type, where, form, inputs, tuple(names), attributes))
        missing = [name for name in outputs if name not in scope]
        if missing:
            raise OnnxError(f"{prefix}output {missing[0]!r} is made by no node")
        return Block(steps, tuple(scope[name] for name in outputs))

    def _read(self, name, scope, nodes, where):
        if not name:
            return None
        if name not in scope:
            later = any(name in node.output for node in nodes)
            reason = "is made by a later node, or in a cycle" if later else "is made by no node"
            raise OnnxError(f"{where}: input {name!r} {reason}")
        return scope[name]

    def _alias(self, scope, name, value, where):
        if name and value is not None:
            if name in scope:
                raise OnnxError(f"{where}: {name!r} is the name of another value already")
            scope[name] = value

    def _call(self, function, node, inputs, bound, depth, where):
        """The block of a model's own function, for a node that calls it."""
        if len(inputs) > len(function.input) or len(node.output) > len(function.output):
            raise OnnxError(
                f"{where}: function has {len(function.input)} inputs and {len(function.output)} "
                f"outputs, the node {len(inputs)} and {len(node.output)}"
            )
        inputs += (None,) * (len(function.input) - len(inputs))
        scope = dict(zip(function.input, inputs, strict=True))
        given = {a.name: a for a in function.attribute_proto}
        given |= {a.name: a for a in _bind(node.attribute, bound)}
        return self.block(
            function.node,
            function.output,
            scope,
            read_opsets(function.opset_import),
            given,
            depth + 1,
            f"{where}: ",
        )

    def _branches(self, attributes, scope, opsets, depth, where):
        graphs = {a.name: a.g for a in attributes if a.type == 5}
        if set(graphs) != {"then_branch", "else_branch"}:
            raise OnnxError(f"{where}: must have then_branch and else_branch")
        blocks = {}
        for name, graph in graphs.items():
            inner = dict(scope)
            self.initialisers(graph, inner, f"{name}.")
            outputs = [o.name for o in graph.output]
            prefix = f"{where}: {name}: "
            blocks[name] = self.block(graph.node, outputs, inner, opsets, None, depth + 1, prefix)
        return blocks


def _domain(name):
    return "" if name == "ai.onnx" else name


def read_opsets(imports):
    """{domain: opset} of an opset_import."""
    import onnx

    opsets, newest = {}, onnx.defs.onnx_opset_version()
    for entry in imports:
        domain = _domain(entry.domain)
        if opsets.setdefault(domain, entry.version) != entry.version:
            raise OnnxError(f"opset_import names domain {entry.domain!r} twice")
        if not domain and not OPSET_MIN <= entry.version <= newest:
            raise OnnxError(f"opset must be {OPSET_MIN} to {newest}, got {entry.version}")
    return opsets


def _bind(attributes, bound):
    """Attributes, those that refer to a function's taken from there."""
    found = []
    for attribute in attributes:
        if not attribute.ref_attr_name:
            found.append(attribute)
        elif bound and attribute.ref_attr_name in bound:
            renamed = type(attribute)()
            renamed.CopyFrom(bound[attribute.ref_attr_name])
            renamed.name = attribute.name
            found.append(renamed)
    return found


def build(model, folder, wanted=None):
    """(Build, {input name: value}, Block) of a ModelProto, not yet folded.

    `wanted` are the names of values that are its outputs in place of the graph's.
    """
    made, scope = Build(model, folder), {}
    made.initialisers(model.graph, scope)
    initialisers, inputs = set(scope), {}
    for info in model.graph.input:
        if info.name not in initialisers:  # which were inputs too before version 4
            inputs[info.name] = made.define(scope, info.name, "input")
    outputs = [info.name for info in model.graph.output]
    if len(set(outputs)) < len(outputs):
        raise OnnxError(f"output names must differ, got {outputs}")
    opsets = read_opsets(model.opset_import)
    block = made.block(model.graph.node, outputs, scope, opsets)
    return made, inputs, block if wanted is None else _cut(block, wanted, scope)


def _cut(block, wanted, scope):
    """The block that makes the values of the `wanted` names, and nothing else."""
    names = isinstance(wanted, Sequence) and all(isinstance(name, str) for name in wanted)
    if isinstance(wanted, str) or not names:
        raise TypeError(f"outputs must be a sequence of names, got {wanted!r}")
    unknown = [name for name in wanted if name not in scope]
    if unknown or not wanted or len(set(wanted)) < len(wanted):
        reason = f"; the graph has no value {unknown[0]!r}" if unknown else ""
        raise ValueError(
            f"outputs must be different names of values in the graph, got {wanted!r:.200}{reason}"
        )
    outputs = tuple(scope[name] for name in wanted)
    steps, needed = [], set(outputs)
    for step in reversed(block.steps):
        if needed.intersection(step.outputs):
            needed.update(step.reads())
            steps.append(step)
    return Block(steps[::-1], outputs)


# Passes over the steps ----------------------------------------------------------------------------


def find_weights(block, made, wanted=None):
    """The values of initialisers that are trained: floats that reach a weight's place."""
    wanted = set() if wanted is None else wanted
    for step in reversed(block.steps):
        for inner in step.branches():
            find_weights(inner, made, wanted)
        if step.name in ARRANGEMENTS and step.outputs[0] in wanted:
            wanted.add(step.inputs[0])
        places = WEIGHTS.get(step.name, ()) or range(len(step.inputs))
        if step.name in WEIGHTS:
            wanted.update(step.inputs[i] for i in places if i < len(step.inputs))

    def trained(value):
        array = made.constants[value]
        return array.dtype.type in (np.float32, np.float64) and array.ndim > 0

    return {value for value in wanted if value in made.names and trained(value)}


def fold(block, made, fixed):
    """The block without the steps that depend on constants alone; `fixed` are those values.

    Their results become constants of `made`, and are added to `fixed`.
    """
    steps, constants = [], made.constants
    for step in block.steps:
        if step.form is None:
            step = _fold_if(step, made, fixed, steps)
            if step is None:
                continue
        elif all(v is None or v in fixed for v in step.inputs):
            values = {v: constants[v] for v in step.inputs if v is not None}
            run_step(step, values, False)
            for value in step.outputs:
                if value is not None:
                    made.keep(value, values[value], step.where)
                    fixed.add(value)
            continue
        steps.append(step)
    return Block(steps, block.outputs)


def _fold_if(step, made, fixed, steps):
    """An If with its branches folded, or None if the condition is known and the branch in steps."""
    condition, constants = step.inputs[0], made.constants
    if condition not in fixed:
        blocks = {name: fold(b, made, fixed) for name, b in step.attributes.items()}
        return step._replace(attributes=blocks)
    taken = "then_branch" if np.all(constants[condition]) else "else_branch"
    block = fold(step.attributes[taken], made, fixed)
    steps += block.steps
    identity = find("Identity", OPSET_MIN, step.where)
    for value, source in zip(step.outputs, block.outputs, strict=False):
        if value is not None and source in fixed:
            constants[value] = constants[source]
            fixed.add(value)
        elif value is not None:
            steps.append(Step("Identity", step.where, identity, (source,), (value,), {}))
    return None


def tell_last_uses(block, kept):
    """The block whose steps free what no later one needs; values of `kept` stay."""
    steps, seen = [], {*kept, *block.outputs}
    for step in reversed(block.steps):
        made = {v for v in step.outputs if v is not None}
        last = (set(step.reads()) | made) - seen
        seen |= last
        if step.form is None:
            blocks = {
                name: tell_last_uses(b, {v for s in b.steps for v in s.reads()} - _made(b))
                for name, b in step.attributes.items()
            }
            step = step._replace(attributes=blocks)
        steps.append(step._replace(free=tuple(last)))
    return Block(steps[::-1], block.outputs)


def _made(block):
    return {v for step in block.steps for v in step.outputs}


def count_reads(block):
    """How many steps and outputs need each value."""
    return Counter([v for step in block.steps for v in step.reads()] + list(block.outputs))


# Running ------------------------------------------------------------------------------------------


def run(block, values, training):
    """Carry out the steps; `values` are by number, and let go of after their last use."""
    for step in block.steps:
        if step.form is None:
            condition = np.asarray(values[step.inputs[0]])
            if condition.size != 1:
                raise OnnxError(f"{step.where}: condition must be one value")
            taken = step.attributes["then_branch" if condition.item() else "else_branch"]
            run(taken, values, training)
            for value, source in zip(step.outputs, taken.outputs, strict=False):
                if value is not None:
                    values[value] = values[source]
        else:
            run_step(step, values, training)
        for value in step.free:
            values[value] = None


def run_step(step, values, training):
    """Set the outputs of a step."""
    form = step.form
    inputs = [None if v is None else values[v] for v in step.inputs]
    context = {}
    if form.context:
        known = {"training": training, "outputs": len(step.outputs)}
        context = {name: known[name] for name in form.context}
    narrow = form.widen and any(x is not None and x.dtype == np.float16 for x in inputs)
    try:
        if narrow:
            inputs = [_cast(x, np.float16, np.float32) for x in inputs]
        results = form.function(*inputs, **step.attributes, **context)
        results = results if isinstance(results, tuple) else (results,)
        if narrow:
            results = [_cast(y, np.float32, np.float16) for y in results]
    except OnnxError as error:
        raise OnnxError(f"{step.where}: {error}") from None
    except Exception as error:  # whatever a rule says of arguments that a file gave
        raise OnnxError(f"{step.where}: {error}") from error
    if len(step.outputs) > len(results):
        raise OnnxError(f"{step.where}: gives {len(results)} outputs, not {len(step.outputs)}")
    for value, result in zip(step.outputs, results, strict=False):
        if value is not None:
            values[value] = result if isinstance(result, Tensor) else np.asarray(result)


def _cast(x, source, target):
    same = x is None or x.dtype != source
    return x if same else apply(_astype, x, dtype=np.dtype(target))
