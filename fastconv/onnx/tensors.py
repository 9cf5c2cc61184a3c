"""Arrays of TensorProtos: every length is checked before anything is allocated."""

import math
import os
import stat

import numpy as np

from fastconv.onnx.errors import OnnxError

__all__ = ["dtype_of", "to_array", "type_name"]

# By ONNX's number: the dtype, and the field that holds the values unless raw_data does.
_TYPES = {
    1: (np.float32, "float_data"),
    2: (np.uint8, "int32_data"),
    3: (np.int8, "int32_data"),
    4: (np.uint16, "int32_data"),
    5: (np.int16, "int32_data"),
    6: (np.int32, "int32_data"),
    7: (np.int64, "int64_data"),
    9: (np.bool_, "int32_data"),
    10: (np.float16, "int32_data"),
    11: (np.float64, "double_data"),
    12: (np.uint32, "uint64_data"),
    13: (np.uint64, "uint64_data"),
}
_EXTERNAL = 1  # TensorProto.EXTERNAL


def type_name(number):
    """ONNX's name of an element type."""
    import onnx

    names = onnx.TensorProto.DataType
    return names.Name(number) if number in names.values() else f"number {number}"


def dtype_of(number, where):
    """The dtype of ONNX's element type `number`."""
    if number not in _TYPES:
        known = ", ".join(np.dtype(dtype).name for dtype, _ in _TYPES.values())
        raise OnnxError(f"{where}: element type {type_name(number)} is not among {known}")
    return np.dtype(_TYPES[number][0])


def to_array(tensor, where, folder=None):
    """The values of a TensorProto, in memory of their own; external data is under `folder`."""
    where = f"{where} {tensor.name!r}" if tensor.name else where
    dtype = dtype_of(tensor.data_type, where)
    shape = tuple(tensor.dims)
    if min(shape, default=0) < 0:
        raise OnnxError(f"{where}: dims must not be negative, got {shape}")
    if tensor.HasField("segment"):
        raise OnnxError(f"{where}: tensors in segments are not supported")
    count = math.prod(shape)
    if tensor.data_location == _EXTERNAL:
        return _external(tensor, count, dtype, where, folder).reshape(shape)
    if tensor.HasField("raw_data"):
        raw = tensor.raw_data
        if len(raw) != count * dtype.itemsize:
            raise OnnxError(
                f"{where}: dims {shape} of {dtype} need {count * dtype.itemsize} bytes, raw_data "
                f"has {len(raw)}"
            )
        values = np.frombuffer(raw, dtype.newbyteorder("<"))
        return values.astype(dtype, copy=True).reshape(shape)
    name = _TYPES[tensor.data_type][1]
    field = getattr(tensor, name)
    if len(field) != count:
        raise OnnxError(f"{where}: dims {shape} need {count} values, {name} has {len(field)}")
    if dtype == np.float16:  # as the bits of 16
        return np.array(field, np.int64).astype(np.uint16).view(np.float16).reshape(shape)
    wide = {"int32_data": np.int32, "uint64_data": np.uint64}.get(name, dtype)
    return np.array(field, wide).astype(dtype, copy=False).reshape(shape)


def _external(tensor, count, dtype, where, folder):
    """Values in a file inside `folder`, which no path and no link may leave."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location, needed = entries.get("location", ""), count * dtype.itemsize
    if folder is None:
        raise OnnxError(f"{where}: external data {location!r} needs a model loaded from a file")
    if not isinstance(location, str):
        raise OnnxError(f"{where}: location {location!r} of external data is not text")
    parts = location.replace("\\", "/").split("/")
    root = os.path.realpath(folder)
    if not location or "\0" in location or os.path.isabs(location) or ".." in parts:
        raise OnnxError(f"{where}: external data {location!r} must be inside the model's folder")
    path = os.path.realpath(os.path.join(root, location))
    if os.path.commonpath([root, path]) != root:
        raise OnnxError(f"{where}: external data {location!r} must be inside the model's folder")
    try:
        offset = int(entries.get("offset", 0))
        length = int(entries.get("length", needed))
    except ValueError:
        raise OnnxError(
            f"{where}: offset and length of external data must be integers, got {entries}"
        ) from None
    if length != needed:
        raise OnnxError(f"{where}: dims need {needed} bytes, length of external data is {length}")
    try:
        status = os.stat(path)
    except OSError as error:
        raise OnnxError(f"{where}: external data {location!r}: {error.strerror}") from None
    if not stat.S_ISREG(status.st_mode):
        raise OnnxError(f"{where}: external data {location!r} is not a file")
    if offset < 0 or offset + needed > status.st_size:
        raise OnnxError(
            f"{where}: {needed} bytes from offset {offset} on are not in {location!r}, which has "
            f"{status.st_size}"
        )
    values = np.fromfile(path, dtype.newbyteorder("<"), count, offset=offset)
    return values.astype(dtype, copy=False)
