"""An ONNX graph while it is written: nodes, initialisers, and the names of all values."""

import numpy as np

from fastconv.compiler.graph import Value
from fastconv.onnx.errors import require
from fastconv.onnx.sizes import Size

__all__ = ["LARGEST", "Builder"]

LARGEST = np.iinfo(np.int64).max  # the end of a slice to the end of its axis
# Bytes of arrays that fit one protobuf message, with room for the nodes.
MOST_BYTES = (1 << 31) - (1 << 24)


class Builder:
    """What emitters write to.

    Where a value is asked for, they may give the name of one, a Value of the traced graph, an
    array (which becomes an initialiser) or None (an input left out).

    Parameters
    ----------
    graph : Graph
        As :func:`fastconv.onnx.sizes.follow` gives it.
    parameters : dict
        {id of an array: its name in the model's state dict}.
    axes : dict
        {symbol: (name of an input, axis)}, where its length is found.
    opset : int
    reserved : iterable of str
        Names that the writer gives out itself.
    """

    def __init__(self, graph, parameters, axes, opset, reserved):
        onnx = require()
        self.helper, self.numpy_helper, self.defs = onnx.helper, onnx.numpy_helper, onnx.defs
        self.graph, self.parameters, self.axes, self.opset = graph, parameters, axes, opset
        self.nodes, self.initializers, self.bytes = [], {}, 0
        self.names = {}  # of Values
        self.taken = {*reserved, *parameters.values()}
        self.kept = {}  # names of constants and of lengths, by what they hold
        self.node = None  # of the traced graph, which is being written
        self.first = 0  # how many ONNX nodes were written before it
        self.prefix = ""  # the path of its module, if parameters tell

    def start(self, node):
        """Write what follows for a node of the traced graph."""
        self.node, self.first = node, len(self.nodes)
        held = [*node.inputs, *_arrays(node.options)]
        named = [self.parameters[id(x)] for x in held if id(x) in self.parameters]
        self.prefix = named[0].rpartition(".")[0] + "/" if named and "." in named[0] else ""

    # What is known of a value ---------------------------------------------------------------------

    def shape(self, x):
        """The sizes of a Value or an array, ints or :class:`Size`."""
        return self.graph.shapes[x] if isinstance(x, Value) else np.shape(x)

    def dtype(self, x):
        """The dtype of a Value or an array."""
        return self.graph.dtypes[x] if isinstance(x, Value) else np.asarray(x).dtype

    @property
    def result(self):
        """The Value that the node gives, the first that is needed."""
        return self.node.made()[0]

    @property
    def extra(self):
        """The Value of what the rule gives besides, None if nothing needs it."""
        return self.node.outputs[1] if len(self.node.outputs) > 1 else None

    # Names ----------------------------------------------------------------------------------------

    def fresh(self, name):
        """`name`, or with a number if it is taken."""
        found, number = name, 0
        while found in self.taken:
            number += 1
            found = f"{name}_{number}"
        self.taken.add(found)
        return found

    def name(self, x):
        """The name of a value, in the file."""
        if x is None:
            return ""
        if isinstance(x, str):
            return x
        if isinstance(x, Value):
            return self.names[x]
        return self._parameter(x) if id(x) in self.parameters else self.constant(x)

    def _parameter(self, array):
        name = self.parameters[id(array)]
        if name not in self.initializers:
            self._initialize(name, array)
        return name

    def constant(self, array, dtype=None):
        """The name of an array's initialiser; equal ones have one."""
        array = np.asarray(array, dtype)
        key = array.dtype.str, array.shape, array.tobytes()
        if key not in self.kept:
            self.kept[key] = self.fresh("constant")
            self._initialize(self.kept[key], array)
        return self.kept[key]

    def _initialize(self, name, array):
        self.bytes += array.nbytes
        if self.bytes > MOST_BYTES:
            raise ValueError(
                f"arrays up to {name} have {self.bytes} bytes; an ONNX file holds less than 2 GB"
            )
        array = np.ascontiguousarray(array).reshape(np.shape(array))
        self.initializers[name] = self.numpy_helper.from_array(array, name)

    # Nodes ----------------------------------------------------------------------------------------

    def add(self, operator, *inputs, **attributes):
        """Write a node of one output, and give its name."""
        return self.add_several(operator, 1, *inputs, **attributes)[0]

    def add_several(self, operator, outputs, *inputs, **attributes):
        """Write a node, and give the names of its outputs."""
        self._check_known(operator)
        names = [self.name(x) for x in inputs]
        while names and not names[-1]:
            names.pop()
        attributes = {key: value for key, value in attributes.items() if value is not None}
        name = self.fresh(self.prefix + operator)
        results = [name, *(self.fresh(f"{name}_output") for _ in range(outputs - 1))]
        node = self.helper.make_node(operator, names, results, name=name, **_plain(attributes))
        self.nodes.append(node)
        return results

    def _check_known(self, operator):
        """Raise unless the opset has the operator."""
        if self.defs.get_schema(operator, "").since_version <= self.opset:
            return
        try:
            self.defs.get_schema(operator, self.opset, "")
        except self.defs.SchemaError:
            raise ValueError(f"opset {self.opset} has no operator {operator}") from None

    def once(self, operator, outputs, *inputs, **attributes):
        """:meth:`add_several`, for a node that several rules of the trace are parts of."""
        names = tuple(self.name(x) for x in inputs)
        key = operator, outputs, names, tuple(attributes.items())
        if key not in self.kept:
            self.kept[key] = self.add_several(operator, outputs, *names, **attributes)
        return self.kept[key]

    def rename(self, name, new):
        """Call a value by another name: one that the node has made itself, of another a copy."""
        written = self.nodes[self.first :]
        kept = {n for names in self.kept.values() for n in np.atleast_1d(names).tolist()}
        if name in kept or not any(name in node.output for node in written):
            self.prefix = ""
            node = self.helper.make_node("Identity", [name], [new], name=self.fresh("Identity"))
            self.nodes.append(node)
            return
        for node in written:
            for names in (node.input, node.output):
                names[:] = [new if n == name else n for n in names]

    def numbers(self, values):
        """The name of an int64 vector; those that follow dynamic axes are computed."""
        values = list(values)
        if not any(isinstance(n, Size) for n in values):
            return self.constant(np.array([int(n) for n in values], np.int64))
        parts = [
            self.length(n) if isinstance(n, Size) else self.constant(np.array([int(n)], np.int64))
            for n in values
        ]
        return parts[0] if len(parts) == 1 else self.add("Concat", *parts, axis=0)

    def length(self, size):
        """The name of an int64 vector that holds a :class:`Size` alone."""
        if not size.symbol:
            int(size)  # raises, and says why
        if size not in self.kept:
            source, axis = self.axes[size.symbol]
            name = self.add("Shape", source, start=axis, end=axis + 1)
            if size.slope != 1:
                name = self.add("Mul", name, np.array([size.slope]))
            if size.offset:
                name = self.add("Add", name, np.array([size.offset]))
            self.kept[size] = name
        return self.kept[size]

    def cast(self, x, dtype):
        """A Value, array or number as `dtype`."""
        dtype = np.dtype(dtype)
        if isinstance(x, Size):
            scalar = self.add("Squeeze", self.length(x))
            return scalar if dtype == np.int64 else self.convert(scalar, dtype)
        if isinstance(x, Value):
            return self.convert(x, dtype) if self.dtype(x) != dtype else self.name(x)
        if isinstance(x, np.ndarray) and x.dtype == dtype:
            return self.name(x)
        return self.constant(x, dtype)

    def convert(self, x, dtype):
        """What has a name, as `dtype`."""
        return self.add("Cast", x, to=self.helper.np_dtype_to_tensor_dtype(dtype))

    # What several emitters write ------------------------------------------------------------------

    def squeeze(self, x, *axes):
        """Without axes of length one."""
        return self.add("Squeeze", x, np.array(axes))

    def unsqueeze(self, x, *axes):
        """With axes of length one, numbered in the result."""
        return self.add("Unsqueeze", x, np.array(axes))

    def reduce(self, operator, x, axes, keepdims):
        """A reduction; its axes are an attribute up to opset 17, but for ReduceSum."""
        if operator == "ReduceSum" or self.opset >= 18:
            return self.add(operator, x, np.array(axes, np.int64), keepdims=int(keepdims))
        return self.add(operator, x, axes=axes, keepdims=int(keepdims))

    def slice(self, x, starts, ends, axes, steps=None):
        """Slices along axes, in NumPy's terms."""
        steps = None if steps is None or set(steps) == {1} else self.numbers(steps)
        return self.add("Slice", x, *map(self.numbers, (starts, ends, axes)), steps)

    def pad(self, x, pairs, fill, dtype):
        """A constant around a value, (before, after) per axis."""
        before, after = zip(*pairs, strict=True)
        return self.add("Pad", x, self.numbers((*before, *after)), self.constant(fill, dtype))


def _arrays(options):
    """The arrays among a rule's options, in lists too."""
    if isinstance(options, np.ndarray):
        return [options]
    if isinstance(options, dict):
        options = options.values()
    elif not isinstance(options, (list, tuple)):
        return []
    return [array for x in options for array in _arrays(x)]


def _plain(attributes):
    """Attributes of Python's own numbers; a :class:`Size` raises."""

    def plain(x):
        if isinstance(x, (tuple, list)):
            return [plain(item) for item in x]
        if isinstance(x, (bool, np.bool_, np.integer, Size)):
            return int(x)
        return float(x) if isinstance(x, np.floating) else x

    return {key: plain(value) for key, value in attributes.items()}
