"""ONNX's backend protocol: what runs its official tests, and tools that take any backend."""

from onnx import ModelProto, helper
from onnx.backend.base import Backend, BackendRep

from fastconv._checks import as_array
from fastconv.autograd import Tensor, no_grad
from fastconv.onnx.errors import OnnxError
from fastconv.onnx.module import from_proto

__all__ = ["FastconvBackend", "prepare", "run_model", "run_node", "supports_device"]


def _arrays(inputs):
    return [as_array(f"inputs[{i}]", x) for i, x in enumerate(inputs)]


class FastconvRep(BackendRep):
    """A model that is ready to run."""

    def __init__(self, module):
        self.module = module

    def run(self, inputs, **kwargs):
        """A tuple of ndarrays."""
        with no_grad():
            results = self.module(*_arrays(inputs))
        results = results if isinstance(results, tuple) else (results,)
        return tuple(y.data if isinstance(y, Tensor) else y for y in results)


class FastconvBackend(Backend):
    """The protocol's entry points; those of the module are the same."""

    @classmethod
    def prepare(cls, model, device="CPU", **kwargs):
        """A :class:`FastconvRep` of a ModelProto."""
        if not isinstance(model, ModelProto):
            raise TypeError(f"model must be a ModelProto, got {type(model).__name__}")
        if not cls.supports_device(device):
            raise OnnxError(f"device must be CPU, got {device}")
        return FastconvRep(from_proto(model))

    @classmethod
    def run_node(cls, node, inputs, device="CPU", outputs_info=None, **kwargs):
        """The results of one node."""
        arrays = _arrays(inputs)
        names = [name for name in node.input if name]
        given = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
            for name, x in zip(names, arrays, strict=True)
        ]
        results = [helper.make_empty_tensor_value_info(name) for name in node.output if name]
        graph = helper.make_graph([node], "node", given, results)
        opsets = (
            [helper.make_opsetid("", kwargs["opset_version"])] if "opset_version" in kwargs else []
        )
        model = helper.make_model(graph, opset_imports=opsets or None)
        return cls.prepare(model, device).run(arrays)

    @classmethod
    def supports_device(cls, device):
        """Whether it is the CPU."""
        return device.split(":")[0] == "CPU"


prepare = FastconvBackend.prepare
run_node = FastconvBackend.run_node
run_model = FastconvBackend.run_model
supports_device = FastconvBackend.supports_device
