"""Networks in and out: files in ONNX's format, read as modules and written from any model.

Needs the package ``onnx``: ``pip install "fastconv[onnx]"``.
"""

from fastconv.onnx.errors import OnnxError
from fastconv.onnx.module import OnnxModule, load
from fastconv.onnx.writer import save

__all__ = ["OnnxError", "OnnxModule", "load", "save"]
