"""Networks of other frameworks: files in ONNX's format, read as modules.

Needs the package ``onnx``: ``pip install "fastconv[onnx]"``.
"""

from fastconv.onnx.errors import OnnxError
from fastconv.onnx.module import OnnxModule, load

__all__ = ["OnnxError", "OnnxModule", "load"]
