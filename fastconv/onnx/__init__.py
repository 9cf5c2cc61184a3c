"""Networks in and out of ONNX files; needs the ``onnx`` package when it is used."""

from fastconv.onnx.writer import save

__all__ = ["save"]
