"""Single arrays out of an ``.npz`` archive that nobody vouches for."""

import math
import reprlib
import struct
import zipfile
import zlib

import numpy as np

from fastconv.data._files import DEFLATE_MAX_EXPANSION

_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    RuntimeError,  # an encrypted member, or a compression that is not supported
    ValueError,
)
_HEADER_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def npz_keys(path):
    """The names of the arrays in the archive."""
    with open(path, "rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                names = archive.namelist()
        except _DAMAGE as error:
            raise ValueError(f"{path} is not a valid .npz file: {error}") from error
    return [name.removesuffix(".npy") for name in names if name.endswith(".npy")]


def read_npz_array(path, key):
    """One array of the archive, in the machine's byte order; never unpickles."""
    with open(path, "rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                if f"{key}.npy" not in archive.namelist():
                    names = [name.removesuffix(".npy") for name in archive.namelist()]
                    raise ValueError(f"there is none, the archive has {reprlib.repr(names)}")
                member = archive.getinfo(f"{key}.npy")
                if member.file_size > DEFLATE_MAX_EXPANSION * path.stat().st_size:
                    raise ValueError(f"it promises {member.file_size} bytes, too many to be true")
                with archive.open(member) as stream:
                    _check_header(stream, member.file_size)
                with archive.open(member) as stream:
                    array = np.lib.format.read_array(stream, allow_pickle=False)
        except _DAMAGE as error:
            raise ValueError(f"{path}: array {key!r} cannot be read: {error}") from error
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _check_header(stream, file_size):
    """Refuse an object array, and a header that does not promise just what the member holds."""
    version = np.lib.format.read_magic(stream)
    if version not in _HEADER_READERS:
        raise ValueError(f"its .npy version must be 1.0 or 2.0, got {version}")
    shape, _, dtype = _HEADER_READERS[version](stream)
    if dtype.hasobject:
        raise ValueError("it is an array of objects, which would have to be unpickled")
    promised, held = math.prod(shape) * dtype.itemsize, file_size - stream.tell()
    if promised != held:
        raise ValueError(f"its header promises {shape} {dtype}, {promised} bytes, it holds {held}")
