"""The IDX format of the MNIST files: https://yann.lecun.org/exdb/mnist/index.html.

Two zero bytes, a type code, the rank; the dimensions as big-endian uint32; the items, big-endian.
"""

import gzip
import math
import sys
import zlib

import numpy as np

from fastconv.data._files import DEFLATE_MAX_EXPANSION, existing_file

_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MAX_RANK = 32  # of an array in NumPy 1
_CHUNK = 1 << 20  # bytes read at a time
_GZIP_MAGIC = b"\x1f\x8b"


def read_idx(path):
    """Read one IDX file, plain or compressed with gzip.

    Compression is recognised by the file's first bytes, not by its name. Nothing is allocated
    for a header that promises more than the file can hold, and a compressed file is read no
    further than its header says.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    ndarray
        Of the file's shape and dtype: uint8, int8, int16, int32, float32 or float64, in the
        machine's byte order.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is not IDX, is truncated or damaged, or holds more than its header says.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from fastconv.data import read_idx
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "example.idx")
    ...     _ = path.write_bytes(bytes([0, 0, 0x08, 1, 0, 0, 0, 3, 10, 20, 30]))
    ...     read_idx(path)
    array([10, 20, 30], dtype=uint8)
    """
    path = existing_file("path", path)
    with open(path, "rb") as file:
        compressed = file.read(2) == _GZIP_MAGIC
    capacity = path.stat().st_size * (DEFLATE_MAX_EXPANSION if compressed else 1)
    with gzip.open(path) if compressed else open(path, "rb") as stream:
        try:
            dtype, shape, data = _read(stream, capacity)
        except (ValueError, EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{path} is not a valid IDX file: {error}") from error
    array = np.ndarray(shape, dtype, buffer=data)
    return array.astype(dtype.newbyteorder("="), copy=False)


def _read(stream, capacity):
    """The dtype, the shape and the bytes of the items."""
    dtype, shape = _read_header(stream)
    size = math.prod(shape) * dtype.itemsize
    if size > capacity:
        raise ValueError(f"its header promises {shape} {dtype.name}, more than the file can hold")
    data = bytearray()
    # One byte more than promised: it shows a file that is too long, and at the end of a gzip
    # stream the attempt to read it verifies the checksum.
    while chunk := stream.read(min(size + 1 - len(data), _CHUNK)):
        data += chunk
    if len(data) != size:
        found = "more" if len(data) > size else f"only {len(data)}"
        raise ValueError(f"its header promises {size} bytes {shape} {dtype.name}, it has {found}")
    return dtype, shape, data


def _read_header(stream):
    magic = stream.read(4)
    if len(magic) < 4:
        raise ValueError(f"it ends within the header, after {len(magic)} bytes")
    if magic[:2] != b"\0\0" or magic[2] not in _DTYPES or magic[3] > _MAX_RANK:
        raise ValueError(
            f"it begins with bytes {magic.hex(' ')}, which must be 00 00, a type code "
            f"(08, 09, 0b, 0c, 0d or 0e) and a rank of at most {_MAX_RANK}"
        )
    dtype, rank = np.dtype(_DTYPES[magic[2]]), magic[3]
    dimensions = stream.read(4 * rank)
    if len(dimensions) < 4 * rank:
        raise ValueError(f"it ends within the header, after {4 + len(dimensions)} bytes")
    shape = tuple(np.frombuffer(dimensions, ">u4").tolist()) if rank else ()
    # NumPy refuses such a shape even where another dimension is 0 and the array is empty.
    if math.prod(max(length, 1) for length in shape) * dtype.itemsize > sys.maxsize:
        raise ValueError(f"its shape {shape} is too large for an array")
    return dtype, shape
