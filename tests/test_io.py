"""Files of states: what is written is what others read, and no damaged file is believed."""

import io
import json
import os
import re
import shlex
import struct
import subprocess
import sys
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_array_equal

import fastconv
from fastconv.io import load, load_metadata, save

SUFFIXES = [".npz", ".safetensors"]
DTYPES = ["bool", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"]


@pytest.fixture(params=SUFFIXES)
def path(request, tmp_path):
    return tmp_path / f"state{request.param}"


def assert_same_state(loaded, state):
    """Equal names, shapes, dtypes but for the byte order, and bits; NaN included."""
    assert loaded.keys() == state.keys()
    for key, value in state.items():
        expected = np.asarray(value)
        expected = expected.astype(expected.dtype.newbyteorder("="))
        assert type(loaded[key]) is np.ndarray
        assert loaded[key].dtype == expected.dtype
        assert loaded[key].dtype.isnative
        assert loaded[key].shape == expected.shape
        assert loaded[key].flags.writeable
        assert loaded[key].tobytes() == expected.tobytes()


def channels_last(array):
    """The same logical array with the second axis contiguous in memory."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(array, 1, -1)), -1, 1)


def example_state():
    rng = np.random.default_rng(7)
    state = {
        f"layer/{dtype}": (rng.standard_normal((2, 3)) * 50).astype(dtype) for dtype in DTYPES[5:]
    }
    state["flags"] = np.array([True, False, True])
    state["file"] = np.array(3, np.int64)
    state["a.weight"] = np.zeros((0, 4), np.float32)
    state["f"] = np.array([np.nan, np.inf, -0.0])
    return state


# --- round trips ---------------------------------------------------------------------------------


def test_every_dtype_comes_back(path):
    state = {dtype: np.array([[0, 1, 1], [1, 0, 0]], dtype) for dtype in DTYPES}
    save(state, path)
    assert_same_state(load(path), state)


def test_extreme_values_come_back(path):
    state = {}
    for dtype in DTYPES[1:]:
        info = np.finfo(dtype) if dtype.startswith("f") else np.iinfo(dtype)
        state[dtype] = np.array([info.min, info.max], dtype)
    state["bits"] = np.array([0x7FC12345, 0xFFFFFFFF, 1], np.uint32).view(np.float32)
    save(state, path)
    assert_same_state(load(path), state)


@pytest.mark.parametrize(
    "key", ["file", "a/b", "/", "../up", "", ".npy", "a.npy", "é 画像", 'q"\\', "\n\x7f\x01", "a b"]
)
def test_keys_that_are_strange_elsewhere(path, key):
    state = {key: np.arange(3.0), "other": np.ones(2)}
    save(state, path)
    assert_same_state(load(path), state)


def test_empty_state(path):
    save({}, path)
    assert load(path) == {}
    assert load_metadata(path) == {}


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1, 1), (1,) * 30, (2, 3, 4, 5)])
def test_shapes(path, shape):
    state = {"a": np.arange(np.prod(shape, dtype=int), dtype=np.float32).reshape(shape)}
    save(state, path)
    assert_same_state(load(path), state)


def test_memory_orders_and_byte_orders_are_written_by_their_values(path, rng):
    a = rng.standard_normal((2, 3, 4, 5))
    wide = np.zeros((4, 3, 4, 10))
    wide[::2, :, :, ::2] = a
    layouts = {
        "C": a,
        "F": np.asfortranarray(a),
        "channels last": channels_last(a),
        "strided": wide[::2, :, :, ::2],
        "negative": a[::-1, :, ::-1].copy()[::-1, :, ::-1],
        "big-endian": a.astype(">f8"),
    }
    reference = path.with_stem("reference")
    save({"a": a}, reference)
    for name, array in layouts.items():
        assert np.array_equal(array, a), name
        before = array.tobytes("A")
        save({"a": array}, path)
        assert array.tobytes("A") == before
        assert path.read_bytes() == reference.read_bytes(), name
        assert_same_state(load(path), {"a": a})
    for value in (np.array(258, ">i4"), np.broadcast_to(np.float32(2), (3, 2))):
        save({"a": value}, path)
        assert_same_state(load(path), {"a": value})


def test_array_likes(path):
    save({"list": [[1.0, 2.0]], "int": 3, "tensor": fastconv.Tensor([1.0], True)}, path)
    expected = {"list": np.array([[1.0, 2.0]]), "int": np.array(3), "tensor": np.float32([1])}
    assert_same_state(load(path), expected)


keys = st.text(
    st.characters(codec="utf-8", exclude_characters="\0"), max_size=8
).filter(lambda key: key != "__metadata__")  # fmt: skip
arrays = st.sampled_from([np.dtype(d).newbyteorder(o) for d in DTYPES for o in "<>"]).flatmap(
    lambda dtype: hnp.arrays(
        dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3)
    )
)


@pytest.mark.parametrize("suffix", SUFFIXES)
@given(state=st.dictionaries(keys, arrays, max_size=4))
def test_any_state_comes_back(tmp_path_factory, suffix, state):
    path = tmp_path_factory.getbasetemp() / f"any{suffix}"
    save(state, path)
    assert_same_state(load(path), state)


def test_module(path):
    class Model:
        def state_dict(self):
            return example_state()

    save(Model(), path)
    assert_same_state(load(path), example_state())


def test_a_network_and_its_copy(path, rng):
    def network():
        nn = fastconv.nn
        return nn.Sequential(
            nn.Conv2d(2, 3, (3, 2)), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 2)
        )

    x = rng.standard_normal((4, 2, 6, 4)).astype(np.float32)
    source, target = network(), network()
    source(x)  # moves the running statistics of the batch norm
    save(source, path)
    assert_same_state(load(path), source.state_dict())
    target.load_state_dict(load(path))
    assert_array_equal(target.eval()(x), source.eval()(x))


def test_order_of_npz_is_that_of_the_state(tmp_path):
    state = {key: np.zeros(1, dtype) for key, dtype in [("z", "i1"), ("a", "f8"), ("m", "f4")]}
    save(state, tmp_path / "a.npz")
    assert list(load(tmp_path / "a.npz")) == ["z", "a", "m"]


def test_str_paths_and_capital_suffixes(path):
    capital = str(path.with_suffix(path.suffix.upper()))
    save({"a": np.ones(1)}, capital, metadata={"x": 1})
    assert_same_state(load(capital), {"a": np.ones(1)})
    assert load_metadata(capital) == {"x": 1}


def test_loaded_arrays_are_independent(path):
    save({"a": np.ones(3), "b": np.ones(3)}, path)
    first, second = load(path), load(path)
    first["a"][:] = 5
    assert_same_state(second, {"a": np.ones(3), "b": np.ones(3)})
    assert_same_state({"b": first["b"]}, {"b": np.ones(3)})


# --- metadata ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "metadata",
    [
        {"epoch": 3, "loss": 0.1, "classes": ["cat", "größer", None, True], "deep": {"a": {}}},
        {"quotes": '"\\\n', "surrogate": "\ud800", "nul": "\0", "": -(10**30)},
        {"float": 1e-323, "third": 1 / 3},
    ],
)
def test_metadata_comes_back(path, metadata):
    save(example_state(), path, metadata=metadata)
    assert load_metadata(path) == metadata
    assert_same_state(load(path), example_state())


@pytest.mark.parametrize("metadata", [None, {}])
def test_no_metadata(path, metadata):
    save(example_state(), path, metadata=metadata)
    assert load_metadata(path) == {}
    bare = path.with_stem("bare")
    save(example_state(), bare)
    assert bare.read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("metadata", "error", "words"),
    [
        ([1], TypeError, ["metadata", "dict", "[1]"]),
        ("text", TypeError, ["metadata", "'text'"]),
        ({"a": {1}}, TypeError, ["metadata", "set"]),
        ({"a": np.ones(2)}, TypeError, ["metadata", "ndarray"]),
        ({(1, 2): 0}, TypeError, ["metadata", "tuple"]),
        ({"a": float("nan")}, ValueError, ["metadata", "NaN"]),
        ({"a": [-float("inf")]}, ValueError, ["metadata", "-Infinity"]),
        ({1: "a", "1": "b"}, ValueError, ["metadata", "'1'", "twice"]),
    ],
)
def test_bad_metadata(path, metadata, error, words):
    with pytest.raises(error) as caught:
        save({"a": np.ones(1)}, path, metadata=metadata)
    assert all(word in str(caught.value) for word in words), caught.value
    assert list(path.parent.iterdir()) == []


def test_circular_and_bottomless_metadata(path):
    circle = {}
    circle["self"] = circle
    deep = current = {}
    for _ in range(100_000):
        current["a"] = {}
        current = current["a"]
    for metadata in (circle, deep):
        with pytest.raises(ValueError, match="metadata"):
            save({}, path, metadata=metadata)
    assert list(path.parent.iterdir()) == []


# --- other programs' readers and writers ---------------------------------------------------------


def test_numpy_reads_ours(tmp_path):
    path = tmp_path / "a.npz"
    metadata = {"epoch": 3}
    save(example_state(), path, metadata=metadata)
    with np.load(path, allow_pickle=False) as file:
        assert json.loads(file["__metadata__"].tobytes()) == metadata
        arrays = {key: file[key] for key in file.files if key != "__metadata__"}
    assert_same_state(arrays, example_state())
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


@pytest.mark.parametrize("writer", [np.savez, np.savez_compressed])
def test_numpys_files_are_read(tmp_path, writer, rng):
    state = {key: value for key, value in example_state().items() if key != "file"}
    state["fortran"] = np.asfortranarray(rng.standard_normal((3, 4, 5)))
    state["big-endian"] = rng.standard_normal(5).astype(">f8")
    state["large"] = np.zeros((300, 1000))  # compresses by nearly as much as deflate can
    path = tmp_path / "a.npz"
    writer(path, **state)
    assert_same_state(load(path), state)
    assert load_metadata(path) == {}


def test_npy_version_2_is_read(tmp_path):
    path = tmp_path / "a.npz"
    member = io.BytesIO()
    np.lib.format.write_array(member, np.arange(3), version=(2, 0))
    write_zip(path, {"a.npy": member.getvalue()})
    assert_same_state(load(path), {"a": np.arange(3)})


def test_safetensors_reads_ours(tmp_path):
    reference = pytest.importorskip("safetensors.numpy")
    safetensors = pytest.importorskip("safetensors")
    path = tmp_path / "a.safetensors"
    metadata = {"epoch": 3, "name": "é"}
    save(example_state(), path, metadata=metadata)
    assert_same_state(
        {key: np.array(value) for key, value in reference.load_file(path).items()}, example_state()
    )
    with safetensors.safe_open(path, "np") as file:
        assert list(file.metadata()) == ["fastconv"]
        assert json.loads(file.metadata()["fastconv"]) == metadata
    # The same bytes, then, as the reference implementation writes.
    text = json.dumps(metadata)
    assert path.read_bytes() == reference.save(example_state(), metadata={"fastconv": text})


def test_safetensors_files_are_read(tmp_path):
    reference = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "a.safetensors"
    reference.save_file(example_state(), path, metadata={"format": "pt"})
    assert_same_state(load(path), example_state())
    assert load_metadata(path) == {}


@given(state=st.dictionaries(keys, arrays, max_size=4))
def test_any_safetensors_file_is_the_reference_s(tmp_path_factory, state):
    reference = pytest.importorskip("safetensors.numpy")
    path = tmp_path_factory.getbasetemp() / "reference.safetensors"
    save(state, path)
    native = {
        key: np.asarray(array, array.dtype.newbyteorder("<"), order="C")
        for key, array in state.items()
    }
    assert path.read_bytes() == reference.save(native)


def test_bfloat16_is_read_as_float32(tmp_path):
    # Sign, 8 bits of exponent, 7 of fraction: the upper halves of float32.
    bits = {0x3F80: 1.0, 0xC020: -2.5, 0x7F80: np.inf, 0x0001: 2.0**-133, 0x3EAB: 171 / 512}
    data = b"".join(struct.pack("<H", value) for value in bits)
    header = {
        "scalar": {"dtype": "BF16", "shape": [], "data_offsets": [0, 2]},
        "vector": {"dtype": "BF16", "shape": [5], "data_offsets": [2, 12]},
    }
    path = write_safetensors(tmp_path, header, data[:2] + data)
    expected = np.array(list(bits.values()), np.float32)
    assert_same_state(load(path), {"scalar": expected[0], "vector": expected})


# --- how files are written -----------------------------------------------------------------------


def test_equal_states_give_equal_bytes(path, monkeypatch):
    save(example_state(), path, metadata={"a": 1})
    first = path.read_bytes()
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    monkeypatch.setattr("time.time", lambda: 1.9e9)
    again = path.with_stem("again")
    save(example_state(), again, metadata={"a": 1})
    assert again.read_bytes() == first


def test_an_existing_file_is_replaced(path):
    save({"old": np.ones(1000)}, path)
    save({"new": np.ones(2)}, path)
    assert_same_state(load(path), {"new": np.ones(2)})
    assert list(path.parent.iterdir()) == [path]


class Interrupted(BaseException):
    """Like KeyboardInterrupt, not an Exception."""


@pytest.mark.parametrize("moment", ["os.fsync", "os.replace", "write"])
@pytest.mark.parametrize("error", [OSError, Interrupted])
def test_a_failure_leaves_the_old_file_and_nothing_else(path, monkeypatch, moment, error):
    save({"old": np.ones(3)}, path)

    def fail(*args, **kwargs):
        assert len(list(path.parent.iterdir())) == 2  # the old file and the unfinished one
        raise error("no space left")

    state = {"a": np.ones(5), "b": np.ones(5)}
    if moment == "write":
        monkeypatch.setattr("numpy.lib.format.write_array", fail)
        monkeypatch.setattr("fastconv.io._little_endian", fail)
    else:
        monkeypatch.setattr(moment, fail)
    with pytest.raises(error, match="no space left"):
        save(state, path)
    monkeypatch.undo()
    assert list(path.parent.iterdir()) == [path]
    assert_same_state(load(path), {"old": np.ones(3)})


def test_data_is_on_disk_before_the_name(path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace

    def logged_fsync(descriptor):
        calls.append(("fsync", os.fstat(descriptor).st_size))
        fsync(descriptor)

    def logged_replace(source, target):
        calls.append(("replace", os.stat(source).st_size))
        assert Path(source).parent == path.parent
        replace(source, target)

    monkeypatch.setattr("os.fsync", logged_fsync)
    monkeypatch.setattr("os.replace", logged_replace)
    save(example_state(), path)
    size = path.stat().st_size
    assert calls == [("fsync", size), ("replace", size)]


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_mode_follows_the_umask(path, umask, mode):
    before = os.umask(umask)
    try:
        save({"a": np.ones(1)}, path)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == mode


def test_missing_folder_and_folder_in_the_way(path):
    with pytest.raises(FileNotFoundError):
        save({"a": np.ones(1)}, path.parent / "missing" / path.name)
    path.mkdir()
    with pytest.raises(OSError, match=path.name):
        save({"a": np.ones(1)}, path)
    assert list(path.parent.iterdir()) == [path]


# --- bad arguments -------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [load, load_metadata, lambda path: save({}, path)])
@pytest.mark.parametrize("name", ["a.pt", "a", "a.npy", "a.npz.gz", ".npz", "npz", ""])
def test_other_suffixes(tmp_path, monkeypatch, function, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"path must end in \.npz or \.safetensors") as caught:
        function(name)
    assert repr(Path(name).suffix) in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("function", [load, load_metadata, lambda path: save({}, path)])
@pytest.mark.parametrize("path", [None, 3, b"a.npz", io.BytesIO()])
def test_paths_of_other_types(function, path):
    with pytest.raises(TypeError, match="path must be a str or a path"):
        function(path)


@pytest.mark.parametrize("function", [load, load_metadata])
def test_missing_file(path, function):
    with pytest.raises(FileNotFoundError, match=path.name):
        function(path)


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (np.array([1, None], object), "object"),
        (None, "None"),
        ({"nested": 1}, "object"),
        (10**30, "object"),
        ("text", "<U4"),
        (b"text", "|S4"),
        (np.ones(2, complex), "complex128"),
        (np.ones(2, np.complex64), "complex64"),
        (np.ones(2, np.longdouble), str(np.dtype(np.longdouble))),
        (np.zeros(2, "M8[s]"), "datetime64"),
        (np.zeros(2, "m8[s]"), "timedelta64"),
        (np.zeros(2, [("a", "f4")]), "'a'"),
        ([[1.0], [1.0, 2.0]], "inhomogeneous"),
    ],
)
def test_values_that_are_not_numbers(path, value, dtype):
    save({"old": np.ones(1)}, path)
    with pytest.raises(TypeError, match=r"state\['bad\.key'\]") as caught:
        save({"good": np.ones(1), "bad.key": value}, path)
    assert dtype in str(caught.value)
    assert list(path.parent.iterdir()) == [path]
    assert_same_state(load(path), {"old": np.ones(1)})


@pytest.mark.parametrize(
    ("key", "error", "words"),
    [
        (1, TypeError, ["keys", "str", "1"]),
        (b"a", TypeError, ["keys", "str", "b'a'"]),
        ("__metadata__", ValueError, ["__metadata__", "reserved"]),
        ("a\0b", ValueError, ["key", "NUL", "a\\x00b"]),
        ("\ud800", ValueError, ["key", "Unicode", "\\ud800"]),
        ("é" * 40_000, ValueError, ["key", "65531", "80000"]),
    ],
)
def test_bad_keys(path, key, error, words):
    with pytest.raises(error) as caught:
        save({"good": np.ones(1), key: np.ones(1)}, path)
    assert all(word in str(caught.value) for word in words), caught.value
    assert len(str(caught.value)) < 300
    assert list(path.parent.iterdir()) == []


def test_longest_key(path):
    state = {"k" * 65531: np.ones(1)}
    save(state, path)
    assert_same_state(load(path), state)


@pytest.mark.parametrize("state", [None, [1, 2], np.ones(2), "state"])
def test_things_that_are_no_state(path, state):
    with pytest.raises(TypeError, match="model_or_state") as caught:
        save(state, path)
    assert type(state).__name__ in str(caught.value)
    assert list(path.parent.iterdir()) == []


def test_a_class_in_place_of_a_model(path):
    class Model:
        def state_dict(self):
            return ["not a mapping"]

    with pytest.raises(TypeError, match=r"model_or_state.*Model"):
        save(Model(), path)


def test_too_long_a_safetensors_header(tmp_path, monkeypatch):
    monkeypatch.setattr("fastconv.io._LONGEST_HEADER", 200)
    path = tmp_path / "a.safetensors"
    with pytest.raises(ValueError, match="200 bytes"):
        save({"a": np.ones(1)}, path, metadata={"long": "x" * 200})
    assert list(tmp_path.iterdir()) == []


# --- damaged files -------------------------------------------------------------------------------


def assert_refused(path, *words, functions=(load, load_metadata)):
    """The error is a ValueError that names the file and `words`."""
    for function in functions:
        with pytest.raises(ValueError, match="not a valid") as caught:
            function(path)
        for word in (path.name, *words):
            assert word in str(caught.value), (word, str(caught.value))
        assert len(str(caught.value)) < 1000


def small_file(path):
    save({"a": np.arange(3, dtype=np.float32), "b/c": np.array(True)}, path, metadata={"x": 1})
    return path.read_bytes()


def test_every_truncation_is_refused(path):
    whole = small_file(path)
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert_refused(path)
    path.write_bytes(whole)
    assert_same_state(load(path), {"a": np.arange(3, dtype=np.float32), "b/c": np.array(True)})


@pytest.mark.parametrize("name", ["a.npz", "compressed.npz", "a.safetensors"])
def test_a_changed_byte_is_never_a_crash(tmp_path, name, rng):
    """Each byte in turn becomes another: a ValueError, or a state of as many bytes at most."""
    path = tmp_path / name
    if name == "compressed.npz":
        np.savez_compressed(path, a=np.arange(3, dtype=np.float32), b=np.array(True))
    else:
        small_file(path)
    whole = path.read_bytes()
    survivors = 0
    for position in range(len(whole)):
        for byte in {whole[position] ^ 1, int(rng.integers(256))} - {whole[position]}:
            path.write_bytes(whole[:position] + bytes([byte]) + whole[position + 1 :])
            for function in (load, load_metadata):
                try:
                    result = function(path)
                except ValueError:
                    continue
                assert isinstance(result, dict)
                survivors += 1
                if function is load:
                    assert sum(array.nbytes for array in result.values()) <= 13
    assert survivors > 0  # changed values of a safetensors file, unused fields of a zip archive


def test_a_flipped_bit_in_the_data_of_an_npz_is_found(tmp_path):
    path = tmp_path / "a.npz"
    save({"a": np.full(1000, 1.5)}, path)
    damaged = bytearray(path.read_bytes())
    damaged[damaged.index(np.full(2, 1.5).tobytes()) + 4000] ^= 16
    path.write_bytes(damaged)
    assert_refused(path, "CRC", "a.npy", functions=[load])


@pytest.mark.parametrize(
    "content", [b"", b"hello", bytes(100), b"\x80\x04\x95pickle", b"PK\5\6" + bytes(17)]
)
def test_foreign_files(path, content):
    path.write_bytes(content)
    assert_refused(path)


def test_the_other_format(tmp_path):
    for suffix, other in [SUFFIXES, SUFFIXES[::-1]]:
        small_file(tmp_path / f"a{suffix}")
        (tmp_path / f"a{suffix}").replace(tmp_path / f"wrong{other}")
        assert_refused(tmp_path / f"wrong{other}")


def peak_of_refusal(path, *words):
    tracemalloc.start()
    assert_refused(path, *words, functions=[load])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


# npz


def write_zip(path, members, compression=zipfile.ZIP_STORED):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile warns of a name that it writes twice
        with zipfile.ZipFile(path, "w", compression) as archive:
            for name, content in members if isinstance(members, list) else members.items():
                archive.writestr(name, content)


def npy(header, data=b"", version=b"\x01\x00"):
    text = header.encode()
    length = len(text).to_bytes(2 if version == b"\x01\x00" else 4, "little")
    return b"\x93NUMPY" + version + length + text + data


def npy_header(descr="<f4", shape="(3,)", order="False"):
    return f"{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["header"]),
        (b"hello, this is text", ["header"]),
        (npy(npy_header(), bytes(11)), ["12 bytes", "11"]),
        (npy(npy_header(), bytes(13)), ["12 bytes", "13"]),
        (npy(npy_header(shape="(10**9,)"), bytes(12)), ["header"]),
        (npy(npy_header(shape="(1000000000000,)"), bytes(12)), ["4000000000000 bytes", "12"]),
        (npy(npy_header(shape="(4294967296, 4294967296)")), ["(4294967296, 4294967296)"]),
        (npy(npy_header(shape="(-3,)"), bytes(12)), ["shape", "(-3,)"]),
        (npy(npy_header(shape="(-1, -3)"), bytes(12)), ["shape"]),
        (npy(npy_header(shape="(True, 3)"), bytes(12)), ["shape", "True"]),
        (npy(npy_header(shape="(3.0,)"), bytes(12)), ["header"]),
        (npy(npy_header(shape="3"), bytes(12)), ["header"]),
        (npy(npy_header(shape="(0, 9223372036854775807, 8)")), ["shape"]),
        (npy(npy_header(shape=f"({'1, ' * 65})"), bytes(4)), ["shape", "64"]),
        (npy(npy_header("|O")), ["object"]),
        (npy(npy_header("<c8"), bytes(24)), ["complex64"]),
        (npy(npy_header("<U1"), bytes(12)), ["U1"]),
        (npy(npy_header("|S4"), bytes(12)), ["S4"]),
        (npy(npy_header("|V4"), bytes(12)), ["V4"]),
        (npy(npy_header("<M8[s]"), bytes(24)), ["datetime64"]),
        (npy(npy_header("nonsense"), bytes(12)), ["header"]),
        (npy(npy_header("|b1"), b"\0\1\2"), ["bool", "0 or 1"]),
        (npy(npy_header(order="7"), bytes(12)), ["header"]),
        (npy("{'descr': '<f4'}", bytes(12)), ["header"]),
        (npy("__import__('os').getcwd()", bytes(12)), ["header"]),
        (npy("(" * 5000, bytes(12)), ["header"]),
        (npy("'''", bytes(12)), ["header"]),
        (npy(npy_header() + " " * 20_000, bytes(12)), ["header"]),
        (npy(npy_header(), bytes(12), b"\x03\x00"), ["version", "(3, 0)"]),
        (npy(npy_header(), bytes(12), b"\x09\x00"), ["version", "(9, 0)"]),
    ],
)
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_bad_npy_members(tmp_path, content, words, compression):
    path = tmp_path / "a.npz"
    write_zip(path, {"good.npy": npy(npy_header(), bytes(12)), "bad.npy": content}, compression)
    assert peak_of_refusal(path, "'bad'", *words) < 10_000_000
    assert load_metadata(path) == {}


def test_object_arrays_are_not_unpickled(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, a=np.array([1, "x"], object))
    assert_refused(path, "'a'", "object", functions=[load])


def test_strings_of_a_foreign_npz(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x=np.ones(2), names=np.array(["a", "b"]))
    assert_refused(path, "'names'", "<U1", functions=[load])


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([("a.npy", npy(npy_header(), bytes(12))), ("notes.txt", b"hello")], ["notes.txt", ".npy"]),
        ([("folder/", b"")], ["folder/", ".npy"]),
        ([("a.npy", npy(npy_header(), bytes(12)))] * 2, ["'a'", "twice"]),
    ],
)
def test_archives_of_other_things(tmp_path, members, words):
    path = tmp_path / "a.npz"
    write_zip(path, members)
    assert_refused(path, *words)


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions(tmp_path, compression):
    path = tmp_path / "a.npz"
    write_zip(path, {"a.npy": npy(npy_header(), bytes(12))}, compression)
    assert_refused(path, "'a'", "stored or deflated", str(compression))


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_archive_that_lies_about_sizes_is_not_allocated_for(tmp_path, compression):
    """Header, member and directory all agree on 400 MB that are not there."""
    path = tmp_path / "a.npz"
    content = npy(npy_header(shape="(100000000,)"), bytes(12))
    write_zip(path, {"a.npy": content}, compression)
    size = struct.pack("<I", len(content))
    lie = struct.pack("<I", len(content) - 12 + 400_000_000)
    path.write_bytes(path.read_bytes().replace(size, lie))
    assert peak_of_refusal(path, "'a'") < 10_000_000


def test_a_member_beyond_the_file(tmp_path):
    path = tmp_path / "a.npz"
    write_zip(path, {"a.npy": npy(npy_header(), bytes(12))})
    whole = bytearray(path.read_bytes())
    directory = whole.index(b"PK\1\2")
    struct.pack_into("<I", whole, directory + 42, 10_000)  # offset of the member's local header
    path.write_bytes(whole)
    assert_refused(path, "'a'", "beyond the end")


def test_an_encrypted_member(tmp_path):
    path = tmp_path / "a.npz"
    write_zip(path, {"a.npy": npy(npy_header(), bytes(12))})
    whole = bytearray(path.read_bytes())
    whole[6] |= 1
    whole[whole.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(whole)
    assert_refused(path, "a.npy", "encrypted", functions=[load])


@pytest.mark.parametrize(
    "array",
    [
        np.frombuffer(b"not json", np.uint8),
        np.frombuffer(b"[1]", np.uint8),
        np.frombuffer(b'{"a": NaN}', np.uint8),
        np.frombuffer(b'{"a": 1, "a": 2}', np.uint8),
        np.frombuffer(b"\xff\xfe", np.uint8),
        np.frombuffer(b'{"a":' * 100_000, np.uint8),
        np.ones(3),
    ],
)
def test_foreign_metadata_of_an_npz(tmp_path, array):
    path = tmp_path / "a.npz"
    np.savez(path, __metadata__=array, x=np.ones(1))
    assert_refused(path, functions=[load_metadata])
    assert_same_state(load(path), {"x": np.ones(1)})


# safetensors


def write_safetensors(folder, header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path = folder / "a.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def entry(dtype="F32", shape=(3,), begin=0, end=12):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def test_the_headers_below_are_bad_by_one_thing_only(tmp_path):
    header = {"a": entry(), "b": entry(begin=12, end=24), "__metadata__": {"x": "y"}}
    data = np.arange(6, dtype="<f4").tobytes()
    path = write_safetensors(tmp_path, header, data)
    expected = {"a": np.float32([0, 1, 2]), "b": np.float32([3, 4, 5])}
    assert_same_state(load(path), expected)
    path = write_safetensors(tmp_path, json.dumps(header, indent=3).encode() + b"    ", data)
    assert_same_state(load(path), expected)
    header = {"z": entry(shape=(0, 5), end=0), "b": entry(), "y": entry("I8", (0,), 12, 12)}
    path = write_safetensors(tmp_path, header, data[:12])
    assert list(load(path)) == ["z", "b", "y"]


@pytest.mark.parametrize(
    ("header", "data", "words"),
    [
        (b"{}", b"x", ["byte 0", "1 bytes"]),
        (b"", b"", ["begin with '{'"]),
        (b"[]", b"", ["begin with '{'"]),
        (b" {}", b"", ["begin with '{'"]),
        (b"{", b"", ["line 1"]),
        (b"{}x", b"", ["Extra data"]),
        (b"{'a': 1}", b"", ["line 1"]),
        (b'{"\xff": 1}', b"", ["utf-8"]),
        (b'{"a": NaN}', b"", ["NaN"]),
        (b'{"a": -Infinity}', b"", ["Infinity"]),
        (b'{"a": ' * 100_000, b"", ["nested too deeply"]),
        (b'{"a": ' + b"1" * 5000 + b"}", b"", ["digits"]),
        (json.dumps({"a": entry()}).encode()[:-1] + b', "a": {}}', bytes(12), ["'a'", "twice"]),
        (b'{"a": {"dtype": "F32", "dtype": "F32"}}', b"", ["'dtype'", "twice"]),
        (b'{"\\ud800": ' + json.dumps(entry()).encode() + b"}", bytes(12), ["\\ud800"]),
        ({"a": 3}, b"", ["'a'", "dtype, shape and data_offsets", "3"]),
        ({"a": []}, b"", ["'a'", "dtype, shape and data_offsets"]),
        ({"a": {}}, b"", ["'a'", "dtype, shape and data_offsets"]),
        ({"a": {"dtype": "F32", "shape": [3]}}, bytes(12), ["'a'", "data_offsets"]),
        ({"a": {**entry(), "more": 1}}, bytes(12), ["'a'", "dtype, shape and data_offsets"]),
        ({"a": entry("F31")}, bytes(12), ["'a'", "dtype", "'F31'"]),
        ({"a": entry("f32")}, bytes(12), ["'a'", "dtype", "'f32'"]),
        ({"a": entry(None)}, bytes(12), ["'a'", "dtype", "None"]),
        ({"a": entry([])}, bytes(12), ["'a'", "dtype", "[]"]),
        ({"a": entry("F8_E4M3", end=3)}, bytes(3), ["'a'", "dtype", "F8_E4M3"]),
        ({"a": {**entry(), "shape": 3}}, bytes(12), ["'a'", "shape", "3"]),
        ({"a": {**entry(), "shape": None}}, bytes(12), ["'a'", "shape", "None"]),
        ({"a": {**entry(), "shape": {"0": 3}}}, bytes(12), ["'a'", "shape"]),
        ({"a": entry(shape=[3.0])}, bytes(12), ["'a'", "shape", "3.0"]),
        ({"a": entry(shape=["3"])}, bytes(12), ["'a'", "shape", "'3'"]),
        ({"a": entry(shape=[True, 3])}, bytes(12), ["'a'", "shape", "True"]),
        ({"a": entry(shape=[-3])}, bytes(12), ["'a'", "shape", "-3"]),
        ({"a": entry(shape=[-1, -3])}, bytes(12), ["'a'", "shape", "-3"]),
        ({"a": entry(shape=[2**64 + 3])}, bytes(12), ["'a'", "shape"]),
        ({"a": entry(shape=[2**32, 2**32])}, bytes(12), ["'a'", "4294967296", "12"]),
        ({"a": entry(shape=[2**62, 4, 3])}, bytes(12), ["'a'", "12"]),
        ({"a": entry(shape=[0, 2**62, 2**62], end=0)}, b"", ["'a'", "shape"]),
        ({"a": entry(shape=[1] * 65, end=4)}, bytes(4), ["'a'", "shape", "64"]),
        ({"a": entry(shape=[9] * 10_000)}, bytes(12), ["'a'", "shape", "64"]),
        ({"a": entry(shape=[4])}, bytes(12), ["'a'", "16 bytes", "12"]),
        ({"a": entry(shape=[2])}, bytes(12), ["'a'", "8 bytes", "12"]),
        ({"a": entry("F64")}, bytes(12), ["'a'", "24 bytes", "12"]),
        ({"a": {**entry(), "data_offsets": [0]}}, bytes(12), ["'a'", "data_offsets", "[0]"]),
        ({"a": {**entry(), "data_offsets": [0, 6, 12]}}, bytes(12), ["'a'", "data_offsets"]),
        ({"a": {**entry(), "data_offsets": 12}}, bytes(12), ["'a'", "data_offsets", "12"]),
        ({"a": {**entry(), "data_offsets": None}}, bytes(12), ["'a'", "data_offsets"]),
        ({"a": {**entry(), "data_offsets": [0.0, 12.0]}}, bytes(12), ["'a'", "data_offsets"]),
        ({"a": {**entry(), "data_offsets": [False, 12]}}, bytes(12), ["'a'", "data_offsets"]),
        ({"a": entry(begin=-12, end=0)}, bytes(12), ["'a'", "data_offsets", "-12"]),
        ({"a": entry(begin=12, end=0)}, bytes(12), ["'a'", "data_offsets", "[12, 0]"]),
        ({"a": entry(end=13)}, bytes(12), ["byte 13", "12 bytes"]),
        ({"a": entry()}, bytes(11), ["byte 12", "11 bytes"]),
        ({"a": entry()}, bytes(13), ["byte 12", "13 bytes"]),
        ({"a": entry(end=2**63)}, bytes(12), ["'a'", "data_offsets"]),
        ({"a": entry(shape=[2**60], end=2**62)}, bytes(12), ["12 bytes"]),
        ({"a": entry(begin=4, end=16)}, bytes(16), ["'a'", "hole", "byte 4"]),
        ({"a": entry(), "b": entry(begin=16, end=28)}, bytes(28), ["'b'", "hole", "16", "12"]),
        ({"a": entry(), "b": entry(begin=8, end=20)}, bytes(20), ["'b'", "overlaps", "8", "12"]),
        ({"a": entry(), "b": entry()}, bytes(12), ["'b'", "overlaps"]),
        ({"a": entry(), "b": entry(shape=[1], end=4)}, bytes(12), ["'a'", "overlaps"]),
        ({"a": entry("BOOL", end=3)}, b"\0\1\2", ["'a'", "bool", "0 or 1"]),
        ({"__metadata__": [], "a": entry()}, bytes(12), ["__metadata__", "strings"]),
        ({"__metadata__": {"x": 1}, "a": entry()}, bytes(12), ["__metadata__", "strings", "1"]),
        ({"__metadata__": None, "a": entry()}, bytes(12), ["__metadata__", "strings"]),
    ],
)
def test_bad_safetensors_headers(tmp_path, header, data, words):
    path = write_safetensors(tmp_path, header, data)
    assert peak_of_refusal(path, *words) < 10_000_000


@pytest.mark.parametrize(
    ("length", "words"),
    [
        (92, ["92 bytes", "beyond"]),
        (100, ["100 bytes", "beyond"]),
        (100_000_001, ["at most 100000000"]),
        (2**64 - 1, ["at most"]),
    ],
)
def test_lies_about_the_length_of_the_header(tmp_path, length, words):
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", length) + b"{}" + b" " * 89)
    assert peak_of_refusal(path, *words) < 10_000_000
    assert_refused(path, *words, functions=[load_metadata])


def test_one_repeated_key_among_many_is_found_at_once(tmp_path):
    text = ", ".join(f'"{i}": 0' for i in [*range(200_000), 199_999])
    path = write_safetensors(tmp_path, f"{{{text}}}".encode())
    assert_refused(path, "'199999'", "twice")


def is_layout(header, n_bytes):
    """Whether every byte of the data belongs to just one tensor, of as many as it needs."""
    owners = [0] * n_bytes
    for item in header.values():
        begin, end = item["data_offsets"]
        width = {"F32": 4, "I8": 1, "F64": 8, "BF16": 2}[item["dtype"]]
        size = width
        for side in item["shape"]:
            size *= side
        if not 0 <= begin <= end <= n_bytes or min(item["shape"], default=0) < 0:
            return False
        if end - begin != size:
            return False
        for i in range(begin, end):
            owners[i] += 1
    return all(count == 1 for count in owners)


def test_layouts_are_accepted_just_if_they_cover_the_data_once(tmp_path, rng):
    """Headers that are right, and the same with some numbers moved, in any order."""
    accepted = 0
    for _ in range(1500):
        header, at = {}, 0
        for i in rng.permutation(int(rng.integers(1, 5))):
            dtype = rng.choice(["F32", "I8", "F64", "BF16"])
            shape = rng.integers(0, 3, rng.integers(0, 3)).tolist()
            end = at + int(np.prod(shape)) * {"F32": 4, "I8": 1, "F64": 8, "BF16": 2}[dtype]
            header[str(i)] = {"dtype": str(dtype), "shape": shape, "data_offsets": [at, end]}
            at = end
        n_bytes = at
        for _ in range(int(rng.integers(0, 3))):
            item = header[rng.choice(list(header))]
            numbers = item[rng.choice(["shape", "data_offsets"])]
            if numbers:
                numbers[rng.integers(len(numbers))] += int(rng.choice([-4, -1, 1, 4, 2**40]))
        if rng.random() < 0.1:
            n_bytes += 1
        names = rng.permutation(list(header)).tolist()
        path = write_safetensors(tmp_path, {n: header[n] for n in names}, bytes(n_bytes))
        fits = is_layout(header, n_bytes)
        accepted += fits
        if fits:
            assert {n: list(a.shape) for n, a in load(path).items()} == {
                n: item["shape"] for n, item in header.items()
            }
        else:
            assert_refused(path, functions=[load])
    assert 300 < accepted < 1200


@pytest.mark.parametrize("text", ["not json", "[1]", '{"a": NaN}', '{"a": 1, "a": 2}', ""])
def test_foreign_metadata_of_a_safetensors_file(tmp_path, text):
    header = {"__metadata__": {"fastconv": text}, "x": entry()}
    path = write_safetensors(tmp_path, header, bytes(12))
    assert_refused(path, functions=[load_metadata])
    assert_same_state(load(path), {"x": np.zeros(3, np.float32)})


def test_what_the_reference_refuses_is_refused(tmp_path, rng):
    """Mutated files: ours reads no file that the reference implementation does not read."""
    reference = pytest.importorskip("safetensors.numpy")
    error = pytest.importorskip("safetensors").SafetensorError
    path = tmp_path / "a.safetensors"
    whole = small_file(path)
    for _ in range(1500):
        damaged = bytearray(whole)
        for position in rng.integers(len(whole), size=int(rng.integers(1, 4))):
            damaged[position] = rng.choice(list(b'0123456789,[]{}":FIUB \0'))
        path.write_bytes(damaged)
        try:
            ours = load(path)
        except ValueError:
            continue
        try:
            theirs = reference.load(bytes(damaged))
        except error as refusal:
            raise AssertionError(f"accepted {bytes(damaged)!r}, which {refusal}") from refusal
        assert_same_state(ours, {key: np.array(value) for key, value in theirs.items()})


# --- PyTorch's files -----------------------------------------------------------------------------


def residual_network(nn):
    """Of `fastconv.nn` or `torch.nn`: every kind of entry that a ResNet's state dict has."""

    class Block(nn.Module):
        def __init__(self, width, wider, stride):
            super().__init__()
            self.conv1 = nn.Conv2d(width, wider, 3, stride, padding=1, bias=False)
            self.bn1 = nn.BatchNorm2d(wider)
            self.conv2 = nn.Conv2d(wider, wider, 3, padding=1, groups=2, bias=False)
            self.bn2 = nn.BatchNorm2d(wider)
            self.relu = nn.ReLU()
            self.downsample = nn.Sequential(
                nn.Conv2d(width, wider, 1, stride, bias=False), nn.BatchNorm2d(wider)
            )

        def forward(self, x):
            y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
            return self.relu(y + self.downsample(x))

    return nn.Sequential(
        nn.Conv2d(3, 8, 7, 2, padding=3, padding_mode="reflect"),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
        Block(8, 16, 2),
        Block(16, 16, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 10),
    )


@pytest.fixture
def trained():
    """A network of PyTorch that has seen a batch, an input, and its output."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    net = residual_network(torch.nn)
    x = torch.randn(4, 3, 33, 40)
    net(x)  # moves running statistics and num_batches_tracked
    for name, parameter in net.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter)
    with torch.no_grad():
        return net, x.numpy(), net.eval()(x).numpy()


def assert_same_network(state, x, expected, tolerance=1e-5):
    ours = residual_network(fastconv.nn)
    assert ours.load_state_dict(state) == ([], [])
    np.testing.assert_allclose(
        ours.eval()(x).data, expected, atol=tolerance * np.abs(expected).max(), rtol=0
    )
    assert ours[1].num_batches_tracked == 1


def test_a_network_of_pytorch_moves_over(trained, tmp_path):
    reference = pytest.importorskip("safetensors.torch")
    net, x, expected = trained
    state = net.state_dict()
    assert_same_network(state, x, expected)
    reference.save_file(state, tmp_path / "a.safetensors")
    np.savez(tmp_path / "a.npz", **{name: tensor.numpy() for name, tensor in state.items()})
    save(state, tmp_path / "ours.safetensors")
    for name in ("a.safetensors", "a.npz", "ours.safetensors"):
        assert_same_network(load(tmp_path / name), x, expected)
    for half, tolerance in ((net.bfloat16(), 0.1), (net.half(), 0.1)):
        reference.save_file(half.state_dict(), tmp_path / "half.safetensors")
        assert_same_network(load(tmp_path / "half.safetensors"), x, expected, tolerance)
    reference.save_model(net, tmp_path / "model.safetensors")
    assert_same_network(load(tmp_path / "model.safetensors"), x, expected, 0.1)


def test_the_line_of_the_readme_converts_a_pth(trained, tmp_path):
    torch = pytest.importorskip("torch")
    readme = Path(__file__).parent.parent / "README.md"
    if not readme.is_file():
        pytest.skip("the README is not here")
    (line,) = re.findall(r"^python -c .*torch\.load.*$", readme.read_text("utf-8"), re.MULTILINE)
    net, x, expected = trained
    torch.save(net.state_dict(), tmp_path / "net.pth")
    _, _, code = shlex.split(line)
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=300)
    assert_same_network(load(tmp_path / "net.safetensors"), x, expected)
