"""``load``: an ONNX file as a module."""

import os

import numpy as np

from fastconv import _checks
from fastconv.autograd.engine import Tensor
from fastconv.nn import Module, Parameter
from fastconv.onnx import graph as graphs
from fastconv.onnx.errors import MAX_BYTES, OnnxError, limited, require
from fastconv.onnx.tensors import dtype_of

__all__ = ["OnnxModule", "from_proto", "load"]


def load(source, max_bytes=MAX_BYTES, *, outputs=None):
    """A model in ONNX's format as a module, in evaluation mode.

    Parameters
    ----------
    source : path or bytes
        A file, beside which its external data lie, or the contents of one.
    max_bytes : int, default 8 GiB
        The most that one result in the model may need, and all constants that are computed here.
        What needs more is an error, when a model is loaded or run, and not an attempt.
    outputs : sequence of str, optional
        Names of values in the graph that the module returns in place of the graph's outputs. What
        they do not need is left out: the value before a classifier's last layer makes a module
        that gives features.

    Returns
    -------
    OnnxModule

    Raises
    ------
    OnnxError
        If it is not ONNX, damaged, or asks for what fastconv has not: the message names the node,
        its operator and the reason.
    TypeError, ValueError
        If `outputs` is not a sequence of different names that the graph has.
    ImportError
        If the package ``onnx`` is missing: ``pip install "fastconv[onnx]"``.

    Notes
    -----
    What depends on constants alone is computed here. Opsets 7 to the newest of the installed
    ``onnx`` are read, and of 6 what PyTorch wrote.

    Examples
    --------
    >>> import numpy as np, fastconv.onnx
    >>> from onnx import TensorProto, helper
    >>> x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 3]) for n in "xy")
    >>> graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "example", [x], [y])
    >>> model = fastconv.onnx.load(helper.make_model(graph).SerializeToString())
    >>> model(np.array([[-1.0, 0.0, 2.0]], np.float32)).numpy()
    array([[0., 0., 2.]], dtype=float32)
    """
    onnx = require()
    folder = None
    if not isinstance(source, (bytes, bytearray, memoryview)):
        folder = os.path.dirname(os.path.abspath(source))
        with open(source, "rb") as file:
            source = file.read()
    if not len(source):
        raise OnnxError("not an ONNX model: it is empty")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(bytes(source))
    except Exception as error:  # protobuf's own, of its several implementations
        raise OnnxError(f"not an ONNX model, or a truncated one: {error}") from None
    return from_proto(model, folder, max_bytes, outputs)


def from_proto(model, folder=None, max_bytes=MAX_BYTES, outputs=None):
    """The :class:`OnnxModule` of a ModelProto."""
    max_bytes = _checks.integer("max_bytes", max_bytes, minimum=0)
    if not model.HasField("graph") or not model.opset_import:
        raise OnnxError("not an ONNX model: it has no graph or no opset")
    if not model.graph.output:
        raise OnnxError("the graph has no output")
    return OnnxModule(model, folder, max_bytes, outputs)


class OnnxModule(Module):
    """What :func:`load` gives: called with the graph's inputs, it returns its outputs.

    Weights of convolutions, dense layers, norms and the like are parameters, under the names of
    the graph; what else is an initialiser and used in a run is a buffer. ``train()`` lets batch
    norm and dropout do as in training.

    Attributes
    ----------
    input_names, output_names : list of str

    Examples
    --------
    >>> import numpy as np, fastconv.onnx
    >>> from onnx import TensorProto, helper, numpy_helper
    >>> x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 2]) for n in "xy")
    >>> w = numpy_helper.from_array(np.eye(2, dtype=np.float32), "fc.weight")
    >>> node = helper.make_node("Gemm", ["x", "fc.weight"], ["y"])
    >>> graph = helper.make_graph([node], "example", [x], [y], [w])
    >>> model = fastconv.onnx.load(helper.make_model(graph).SerializeToString())
    >>> model.input_names, model.output_names, list(model.state_dict())
    (['x'], ['y'], ['fc.weight'])
    """

    def __init__(self, model, folder=None, max_bytes=MAX_BYTES, outputs=None):
        super().__init__()
        made, inputs, block = graphs.build(model, folder, outputs)
        weights = graphs.find_weights(block, made)
        with limited(max_bytes), np.errstate(all="ignore"):
            block = graphs.fold(block, made, set(made.constants) - weights)
        reads = graphs.count_reads(block)
        constants = {value: array for value, array in made.constants.items() if reads[value]}
        for value, name in made.names.items():
            if value not in constants:
                continue
            if value in weights:
                constants[value] = self._parameters[name] = Parameter(constants[value])
            else:
                self._buffers[name] = constants[value]
        self._values = [constants.get(value) for value in range(made.values)]
        self._block = graphs.tell_last_uses(block, set(constants))
        self._max_bytes = max_bytes
        self._inputs = [
            _Input(info, inputs[info.name]) for info in model.graph.input if info.name in inputs
        ]
        self.input_names = list(inputs)
        graph_outputs = [info.name for info in model.graph.output]
        self.output_names = graph_outputs if outputs is None else list(outputs)
        self.eval()

    def forward(self, *inputs):
        if len(inputs) != len(self._inputs):
            raise TypeError(
                f"the model takes {len(self._inputs)} inputs ({', '.join(self.input_names)}), "
                f"got {len(inputs)}"
            )
        values = list(self._values)
        for known, x in zip(self._inputs, inputs, strict=True):
            values[known.value] = known.check(x)
        with limited(self._max_bytes), np.errstate(all="ignore"):
            graphs.run(self._block, values, self.training)
        results = [values[value] for value in self._block.outputs]
        results = [y if isinstance(y, Tensor) else Tensor(y) for y in results]
        return results[0] if len(results) == 1 else tuple(results)

    def astype(self, dtype):
        """Refused, but for the dtype that the graph has: its nodes say in which they compute."""
        for name, array in self.state_dict().items():
            if array.dtype.kind == "f" and array.dtype != np.dtype(dtype):
                raise TypeError(f"the graph fixes the dtype of {name}, which is {array.dtype}")
        return self

    def extra_repr(self):
        return f"{', '.join(self.input_names)} -> {', '.join(self.output_names)}"


class _Input:
    """What the graph says of an input."""

    def __init__(self, info, value):
        where = f"input {info.name!r}"
        if not info.type.HasField("tensor_type"):
            kind = info.type.WhichOneof("value") or "untyped value"
            raise OnnxError(f"{where}: must be a tensor, is a {kind}")
        tensor = info.type.tensor_type
        self.name, self.value = info.name, value
        self.dtype = dtype_of(tensor.elem_type, where)
        self.sizes = None
        if tensor.HasField("shape"):
            sizes = [d.dim_value if d.HasField("dim_value") else -1 for d in tensor.shape.dim]
            self.sizes = [None if n < 0 else n for n in sizes]

    def check(self, x):
        """The input as a Tensor or ndarray, if it is what the graph says."""
        if not isinstance(x, Tensor):
            x = _checks.native(_checks.as_array(self.name, x))
        if x.dtype != self.dtype:
            hint = _checks.conversion(self.name, x.dtype, self.dtype)
            raise TypeError(f"{self.name} must have dtype {self.dtype}, got {x.dtype}{hint}")
        if self.sizes is not None:
            if x.ndim != len(self.sizes):
                raise ValueError(
                    f"{self.name} must have {len(self.sizes)} axes {self._shape()}, got {x.shape}"
                )
            if any(n not in (None, m) for n, m in zip(self.sizes, x.shape, strict=True)):
                raise ValueError(f"{self.name} must have shape {self._shape()}, got {x.shape}")
        return x

    def _shape(self):
        return "(" + ", ".join("*" if n is None else str(n) for n in self.sizes) + ")"
