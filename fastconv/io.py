"""State dicts on disk, as ``.npz`` or ``.safetensors``; never pickle.

A state maps names to arrays of numbers or booleans. Both formats hold the same states, so a file
of one can be rewritten as the other, and a file is checked whole before its arrays are believed:
nothing is allocated because a header asks for it, and nothing in a file can run.

The ``.npz`` files are what ``numpy.load`` reads: a zip archive with one ``.npy`` member an array,
stored uncompressed. Metadata, where there is any, is the member ``__metadata__``, the bytes of a
JSON text. The ``.safetensors`` files follow https://github.com/huggingface/safetensors, with the
JSON text under the key ``fastconv`` of that format's own ``__metadata__``.
"""

import json
import math
import os
import secrets
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from pathlib import Path
from reprlib import repr as brief
from typing import NamedTuple

import numpy as np

from fastconv import _checks

__all__ = ["load", "load_metadata", "save"]

METADATA_KEY = "__metadata__"

# NumPy's kind and width -> the safetensors name, in the order in which safetensors lays tensors
# out: the widest first, so that every tensor stays aligned.
_SAFETENSORS_NAMES = {
    "u8": "U64",
    "i8": "I64",
    "f8": "F64",
    "f4": "F32",
    "u4": "U32",
    "i4": "I32",
    "f2": "F16",
    "u2": "U16",
    "i2": "I16",
    "i1": "I8",
    "u1": "U8",
    "b1": "BOOL",
}
_LAYOUT_ORDER = list(_SAFETENSORS_NAMES)
# How the bytes of a safetensors tensor are read; BF16 is widened to float32 afterwards.
_SAFETENSORS_DTYPES = {
    **{name: np.dtype(f"<{code}") for code, name in _SAFETENSORS_NAMES.items()},
    "BF16": np.dtype("<u2"),
}
_LONGEST_HEADER = 100_000_000  # bytes, the limit of the safetensors format

_NPY_HEADER_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_LONGEST_KEY = 0xFFFF - len(".npy")  # bytes: a zip archive has 16 bits for the length of a name
# DEFLATE expands its input at most 1032 times: a match of 258 bytes takes at least 2 bits.
_MOST_EXPANSION = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: 1032}
_CHUNK = 1 << 20  # bytes read at a time
_MOST_AXES = 64
_SHAPE_RULE = f"at most {_MOST_AXES} ints from 0 to 2**63 - 1"

# What zipfile raises on damaged archives, beside ValueError.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OverflowError,
    RuntimeError,  # an encrypted member, or, as NotImplementedError, an unknown compression
)


def save(model_or_state, path, *, metadata=None):
    """Write a model's state, or any mapping from names to arrays, to a file.

    The file is written beside `path` under another name and then renamed, so `path` holds either
    what it held before or the whole new state, even after a crash. Equal states give equal bytes.

    Parameters
    ----------
    model_or_state : Module or mapping of str to array-like
        A module (anything with a ``state_dict`` method) or a state. Arrays may have any shape,
        memory order and byte order; they are written little-endian, in C order.
        Their dtypes: bool, (u)int8 to (u)int64, float16, float32, float64.
    path : str or os.PathLike
        Its suffix, ``.npz`` or ``.safetensors``, chooses the format.
    metadata : dict, optional
        What JSON can hold, to be read back with `load_metadata` (where tuples are lists). The
        architecture of a network from :func:`fastconv.models.build` is added to it, so that
        :func:`fastconv.load_model` can rebuild the network.

    Raises
    ------
    TypeError
        If a key is not a str, or an array is of objects, strings, complex numbers, or anything
        else that is not a number. Nothing has been written then.
    ValueError
        If the suffix is another one, a key cannot be stored, or `metadata` is not valid JSON.

    See Also
    --------
    load, load_metadata
    fastconv.optim.pack_state : makes an optimizer's state fit for this function.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> import fastconv
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "weights.safetensors")
    ...     fastconv.save({"scale": np.float32([1, 2])}, path, metadata={"epoch": 3})
    ...     print(fastconv.load(path), fastconv.load_metadata(path))
    {'scale': array([1., 2.], dtype=float32)} {'epoch': 3}
    """
    path, file_format = _path_and_format(path)
    arrays = _checked_arrays(model_or_state)
    text = _metadata_text(metadata)
    architecture = getattr(model_or_state, "architecture", None)
    if architecture is not None:
        text = _metadata_text({"architecture": architecture, **(metadata or {})})
    with replacement(path) as file:
        file_format.write(file, arrays, text)


def load(path):
    """Read the state that a ``.npz`` or ``.safetensors`` file holds.

    Parameters
    ----------
    path : str or os.PathLike
        A file that `save` wrote, or another program: uncompressed and compressed ``.npz`` and
        all standard ``.safetensors`` are read; BF16 tensors become float32.

    Returns
    -------
    dict of str to ndarray
        New writable arrays in the machine's byte order, in the order of the file.

    Raises
    ------
    ValueError
        If the suffix is another one, or the file is damaged, truncated, or holds anything but
        arrays of numbers and booleans. The message names the file, the key and the rule.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> import fastconv
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "arrays.npz")
    ...     np.savez_compressed(path, kernel=np.eye(2))
    ...     fastconv.load(path)
    {'kernel': array([[1., 0.],
           [0., 1.]])}
    """
    return _read(path, lambda file_format, file: file_format.read(file))


def load_metadata(path):
    """Read the metadata that `save` put into a file, without reading its arrays.

    Parameters
    ----------
    path : str or os.PathLike
        A ``.npz`` or ``.safetensors`` file.

    Returns
    -------
    dict
        The metadata; empty if there is none.

    Raises
    ------
    ValueError
        If the suffix is another one, or the file or its metadata is damaged.

    Examples
    --------
    >>> import os, tempfile
    >>> import fastconv
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "empty.npz")
    ...     fastconv.save({}, path, metadata={"classes": ["cat", "dog"]})
    ...     fastconv.load_metadata(path)
    {'classes': ['cat', 'dog']}
    """
    return _read(path, lambda file_format, file: file_format.read_metadata(file))


def _read(path, read):
    path, file_format = _path_and_format(path)
    with open(path, "rb") as file:
        try:
            return read(file_format, file)
        except (ValueError, *_DAMAGE) as error:
            raise ValueError(f"{path} is not a valid {path.suffix} file: {error}") from error


def check_path(path):
    """Raise unless `path` is one that :func:`save` could be given."""
    _path_and_format(path)


def _path_and_format(path):
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path must be a str or a path, got {path!r}")
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in _FORMATS:
        raise ValueError(f"path must end in .npz or .safetensors, got {suffix!r} in {str(path)!r}")
    return path, _FORMATS[suffix]


def _checked_arrays(model_or_state):
    """The state as a dict of arrays that both formats can hold."""
    state = model_or_state
    if callable(getattr(state, "state_dict", None)):
        state = state.state_dict()
    if not isinstance(state, Mapping):
        raise TypeError(
            "model_or_state must have a state_dict method or be a mapping from str to arrays, "
            f"got {type(model_or_state).__name__}"
        )
    arrays = {}
    for key, value in state.items():
        _check_key(key)
        array = _checks.as_array(f"state[{key!r}]", value)
        if array.dtype.str[1:] not in _SAFETENSORS_NAMES:
            raise TypeError(
                f"state[{key!r}] must have a bool, (u)int8..64 or float16..64 dtype, "
                f"got {array.dtype}"
            )
        arrays[key] = array
    return arrays


def _check_key(key):
    """Both formats have the same rules, so that every state fits both."""
    if not isinstance(key, str):
        raise TypeError(f"the keys of a state must be str, got {key!r}")
    if key == METADATA_KEY:
        raise ValueError(f"the key {key!r} is reserved for metadata")
    if "\0" in key:
        raise ValueError(f"a key must not contain a NUL character, got {key!r}")
    try:
        length = len(key.encode())
    except UnicodeEncodeError as error:
        raise ValueError(f"a key must be valid Unicode, got {key!r}") from error
    if length > _LONGEST_KEY:
        raise ValueError(
            f"a key must have at most {_LONGEST_KEY} bytes in UTF-8, got {length} in {brief(key)}"
        )


def _metadata_text(metadata):
    """`metadata` as a JSON text, None if there is none."""
    if metadata is None:
        return None
    if not isinstance(metadata, Mapping):
        raise TypeError(f"metadata must be a dict, got {metadata!r}")
    try:
        text = json.dumps(dict(metadata), default=_number)
        _parse_json_object(text)  # refuses NaN, and keys that were 1 and "1"
    except (TypeError, ValueError, RecursionError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"metadata must be what JSON can hold: {error}") from error
    return text if metadata else None


def _number(value):
    """A NumPy scalar as JSON has it."""
    if isinstance(value, (np.generic, np.ndarray)) and not value.ndim:
        return value.item()
    raise TypeError(f"{type(value).__name__} is not JSON")


def _parse_json_object(text):
    """A strict ``json.loads``: an object, without repeated keys, NaN or Infinity."""

    def unique(pairs):
        result = dict(pairs)
        if len(result) < len(pairs):
            repeated = Counter(key for key, _ in pairs).most_common(1)[0][0]
            raise ValueError(f"the key {repeated!r} occurs twice")
        return result

    def refuse(constant):
        raise ValueError(f"{constant} is not JSON")

    try:
        result = json.loads(text, object_pairs_hook=unique, parse_constant=refuse)
    except RecursionError as error:
        raise ValueError("its JSON is nested too deeply") from error
    if not isinstance(result, dict):
        raise ValueError(f"its JSON must be an object, got {type(result).__name__}")
    return result


@contextmanager
def replacement(path):
    """A new binary file that takes the place of `path` if the block ends well."""
    # Opened by open(), for tempfile's files ignore the umask.
    temporary = path.with_name(f".fastconv-{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _little_endian(array):
    """`array` as it is stored: little-endian, in C order."""
    return np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")


def _read_array(file, key, shape, dtype, n_bytes):
    """The array at the file's position, of which the file is known to hold `n_bytes`."""
    if not _are_sizes(shape):
        raise ValueError(f"the shape of {key!r} must be {_SHAPE_RULE}, got {brief(shape)}")
    needed = math.prod(shape) * dtype.itemsize
    if needed != n_bytes:
        raise ValueError(f"{key!r} must have {needed} bytes for {shape} {dtype}, got {n_bytes}")
    try:
        array = np.empty(shape, dtype)
    except ValueError as error:  # an axis of size 0 beside others that are too long
        raise ValueError(f"the shape of {key!r}, {shape}, is not possible: {error}") from error
    unread = memoryview(array.reshape(-1).view(np.uint8))
    while unread:
        n_read = file.readinto(unread[:_CHUNK])
        if not n_read:
            raise ValueError(f"the file ends {len(unread)} bytes before the end of {key!r}")
        unread = unread[n_read:]
    if dtype.kind == "b" and array.view(np.uint8).max(initial=0) > 1:
        raise ValueError(f"the bytes of {key!r} must be 0 or 1, for its dtype is bool")
    return array.astype(dtype.newbyteorder("="), copy=False)


def _write_npz(file, arrays, metadata_text):
    if metadata_text is not None:
        arrays = {METADATA_KEY: np.frombuffer(metadata_text.encode(), np.uint8), **arrays}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for key, array in arrays.items():
            member = zipfile.ZipInfo(f"{key}.npy")  # dated 1980-01-01
            member.create_system = 3  # Unix, so that all machines write the same bytes
            with archive.open(member, "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, _little_endian(array), allow_pickle=False)


def _read_npz(file):
    with zipfile.ZipFile(file) as archive:
        return {
            key: _read_member(archive, key, member)
            for key, member in _npz_members(archive).items()
            if key != METADATA_KEY
        }


def _read_npz_metadata(file):
    with zipfile.ZipFile(file) as archive:
        member = _npz_members(archive).get(METADATA_KEY)
        if member is None:
            return {}
        array = _read_member(archive, METADATA_KEY, member)
    if array.dtype != np.uint8:
        raise ValueError(f"{METADATA_KEY!r} must be bytes of JSON, got {array.dtype}")
    return _parse_json_object(array.tobytes())


def _npz_members(archive):
    """Maps every key to its checked place in the archive."""
    archive_size = os.fstat(archive.fp.fileno()).st_size
    members = {}
    for member in archive.infolist():
        key = member.filename.removesuffix(".npy")
        if key == member.filename:
            raise ValueError(f"{key!r} is not a .npy member")
        if key in members:
            raise ValueError(f"the key {key!r} occurs twice")
        if member.compress_type not in _MOST_EXPANSION:
            raise ValueError(f"{key!r} must be stored or deflated, got {member.compress_type}")
        if not 0 <= member.header_offset <= archive_size - member.compress_size:
            raise ValueError(f"{key!r} would end beyond the end of the file")
        if member.file_size > member.compress_size * _MOST_EXPANSION[member.compress_type]:
            raise ValueError(f"{key!r} promises {member.file_size} bytes, too many to be true")
        members[key] = member
    return members


def _read_member(archive, key, member):
    with archive.open(member) as stream:
        shape, fortran_order, dtype = _read_npy_header(stream, key)
        if dtype.str[1:] not in _SAFETENSORS_NAMES:
            raise ValueError(f"{key!r} must be an array of numbers or bools, got {dtype}")
        n_bytes = member.file_size - stream.tell()
        if fortran_order:
            return _read_array(stream, key, shape[::-1], dtype, n_bytes).T
        return _read_array(stream, key, shape, dtype, n_bytes)


def _read_npy_header(stream, key):
    try:
        version = np.lib.format.read_magic(stream)
        if version not in _NPY_HEADER_READERS:
            raise ValueError(f"its .npy version must be 1.0 or 2.0, got {version}")
        return _NPY_HEADER_READERS[version](stream)
    # NumPy evaluates the header as a Python literal, which can fail in many ways.
    except Exception as error:
        raise ValueError(f"the .npy header of {key!r} cannot be read: {error}") from error


def _write_safetensors(file, arrays, metadata_text):
    def place(key):
        return _LAYOUT_ORDER.index(arrays[key].dtype.str[1:]), key

    header = {} if metadata_text is None else {METADATA_KEY: {"fastconv": metadata_text}}
    keys = sorted(arrays, key=place)
    begin = 0
    for key in keys:
        array = arrays[key]
        header[key] = {
            "dtype": _SAFETENSORS_NAMES[array.dtype.str[1:]],
            "shape": list(array.shape),
            "data_offsets": [begin, begin + array.nbytes],
        }
        begin += array.nbytes
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > _LONGEST_HEADER:
        raise ValueError(
            f"names, shapes and metadata must fit {_LONGEST_HEADER} bytes, got {len(text)}"
        )
    file.write(len(text).to_bytes(8, "little"))
    file.write(text)
    for key in keys:
        file.write(_little_endian(arrays[key]).reshape(-1).view(np.uint8).data)


def _read_safetensors(file):
    tensors, _ = _read_header(file)
    arrays = {}
    for key, (name, shape, begin, end) in tensors.items():
        array = _read_array(file, key, shape, _SAFETENSORS_DTYPES[name], end - begin)
        arrays[key] = _widened(array) if name == "BF16" else array
    return arrays


def _read_safetensors_metadata(file):
    _, metadata = _read_header(file)
    return _parse_json_object(metadata.get("fastconv", "{}"))


def _read_header(file):
    """The tensors in the order of the file, each (dtype, shape, begin, end); the metadata.

    Leaves the file at the first tensor, after checking that they fill it exactly.
    """
    file_size = os.fstat(file.fileno()).st_size
    if file_size < 8:
        raise ValueError(f"it must have at least 8 bytes, got {file_size}")
    length = int.from_bytes(file.read(8), "little")
    if length > _LONGEST_HEADER:
        raise ValueError(f"its header must have at most {_LONGEST_HEADER} bytes, got {length}")
    if length > file_size - 8:
        raise ValueError(f"its header has {length} bytes, beyond the file of {file_size}")
    text = file.read(length)
    if not text.startswith(b"{"):
        raise ValueError(f"its header must begin with '{{', got {text[:1]!r}")
    header = _parse_json_object(text.decode())
    metadata = header.pop(METADATA_KEY, {})
    if not isinstance(metadata, dict) or not all(
        isinstance(value, str) for value in metadata.values()
    ):
        raise ValueError(f"{METADATA_KEY!r} must map strings to strings, got {brief(metadata)}")
    tensors = {key: _checked_entry(key, entry) for key, entry in header.items()}
    tensors = dict(sorted(tensors.items(), key=lambda item: item[1][2:]))
    _check_cover(tensors, file_size - 8 - length)
    return tensors, metadata


def _checked_entry(key, entry):
    key.encode()  # refuses half a surrogate pair, which JSON can spell
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{key!r} must have dtype, shape and data_offsets, got {brief(entry)}")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _SAFETENSORS_DTYPES:
        names = ", ".join(_SAFETENSORS_DTYPES)
        raise ValueError(f"the dtype of {key!r} must be one of {names}, got {brief(dtype)}")
    if not _are_sizes(shape):
        raise ValueError(f"the shape of {key!r} must be {_SHAPE_RULE}, got {brief(shape)}")
    if not _are_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ValueError(
            f"the data_offsets of {key!r} must be two ints, 0 <= begin <= end, got {brief(offsets)}"
        )
    return dtype, tuple(shape), *offsets


def _check_cover(tensors, n_bytes):
    """Each tensor begins where the one before it ends, and the last ends with the file."""
    covered = 0
    for key, (_, _, begin, end) in tensors.items():
        if begin != covered:
            fault = "overlaps the tensor before it" if begin < covered else "follows a hole"
            raise ValueError(f"{key!r} {fault}: it begins at byte {begin}, not {covered}")
        covered = end
    if covered != n_bytes:
        raise ValueError(f"its tensors end at byte {covered} of the data, got {n_bytes} bytes")


def _are_sizes(value):
    """Whether `value` follows _SHAPE_RULE; True and False, which Python calls ints, do not."""
    return (
        isinstance(value, (list, tuple))
        and len(value) <= _MOST_AXES
        and all(type(item) is int and 0 <= item < 2**63 for item in value)
    )


def _widened(bfloat16):
    """float32 of the same values: a bfloat16 is the upper half of a float32."""
    bits = bfloat16.astype(np.uint32)
    np.left_shift(bits, np.uint32(16), out=bits)
    return bits.view(np.float32)


class _Format(NamedTuple):
    write: Callable  # (file, arrays, metadata text or None)
    read: Callable  # (file) -> arrays
    read_metadata: Callable  # (file) -> dict


_FORMATS = {
    ".npz": _Format(_write_npz, _read_npz, _read_npz_metadata),
    ".safetensors": _Format(_write_safetensors, _read_safetensors, _read_safetensors_metadata),
}
