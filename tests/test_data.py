"""fastconv.data: reading labelled images, augmentation, minibatches."""

import builtins
import gzip
import io
import itertools
import math
import struct
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from fastconv.data import (
    Compose,
    Dataset,
    GaussianNoise,
    Minibatches,
    RandomCrop,
    RandomFlip,
    RandomShift,
    load,
    load_train_test,
    read_idx,
    read_image,
    stratified_split,
)
from fastconv.data.npz import read_npz_array

IDX_TYPES = {  # type code: (struct format of an item, dtype)
    0x08: ("B", np.uint8),
    0x09: ("b", np.int8),
    0x0B: ("h", np.int16),
    0x0C: ("i", np.int32),
    0x0D: ("f", np.float32),
    0x0E: ("d", np.float64),
}


def idx_header(code, shape):
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, code, len(shape), *shape)


def idx_bytes(array):
    """An IDX file of the array, written item by item."""
    (code, letter) = next((c, fmt) for c, (fmt, t) in IDX_TYPES.items() if t == array.dtype)
    items = array.ravel().tolist()
    return idx_header(code, array.shape) + struct.pack(f">{len(items)}{letter}", *items)


def refusal(call):
    """The message of the ValueError that the call raises, or None if it raises nothing."""
    try:
        call()
    except ValueError as error:
        return str(error)
    return None


def some_images(n=6, shape=(5, 7), seed=3):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape)).astype(np.uint8)


def some_labels(n=6, classes=3):
    return (np.arange(n) % classes).astype(np.uint8)


def write_mnist(folder, parts=("train", "t10k"), *, n=6, suffix="", separator="-", seed=3):
    """MNIST-style files; {part: (images, labels)}."""
    contents = {}
    for i, part in enumerate(parts):
        images, labels = some_images(n, seed=seed + i), some_labels(n)
        for name, array in (
            (f"{part}-images{separator}idx3-ubyte", images),
            (f"{part}-labels{separator}idx1-ubyte", labels),
        ):
            data = idx_bytes(array)
            (folder / f"{name}{suffix}").write_bytes(gzip.compress(data) if suffix else data)
        contents[part] = images, labels
    return contents


# ---------------------------------------------------------------------------- Dataset


def small_dataset(n=10, classes=("a", "b", "c")):
    images = some_images(n)[:, None]
    return Dataset(images, np.arange(n, dtype=np.int64) % len(classes), classes)


def test_dataset_keeps_what_it_is_given():
    x, y = some_images(4)[:, None], np.array([0, 1, 1, 0])
    data = Dataset(x, y, ("cat", "dog"))
    assert data.x is x
    assert data.y is y
    assert len(data) == 4
    assert repr(data) == "Dataset(4 images of shape (1, 5, 7), uint8, 2 classes)"
    with pytest.raises(AttributeError):
        data.x = x


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
def test_dataset_takes_uint8_and_floats(dtype):
    data = Dataset(np.zeros((2, 3, 4, 5), dtype), np.array([0, 0]), ("one",))
    assert data.x.dtype == dtype


GOOD = {"x": np.zeros((2, 1, 3, 3), np.uint8), "y": np.array([0, 1]), "classes": ("a", "b")}


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"x": [[1]]}, TypeError, ["x", "[[1]]"]),
        ({"x": np.zeros((2, 1, 3, 3), np.int64)}, TypeError, ["x", "uint8", "int64"]),
        ({"x": np.zeros((2, 1, 3, 3), complex)}, TypeError, ["x", "complex128"]),
        ({"x": np.zeros((2, 3, 3), np.uint8)}, ValueError, ["x", "(N, C, H, W)", "(2, 3, 3)"]),
        ({"x": np.zeros((2, 1, 0, 3), np.uint8)}, ValueError, ["x", "(2, 1, 0, 3)"]),
        ({"y": [0, 1]}, TypeError, ["y", "int64", "[0, 1]"]),
        ({"y": np.array([0, 1], np.int32)}, TypeError, ["y", "int64", "int32"]),
        ({"y": np.array([0, 1, 1])}, ValueError, ["y", "(2,)", "(3,)"]),
        ({"y": np.array([[0, 1]])}, ValueError, ["y", "(2,)", "(1, 2)"]),
        ({"y": np.array([0, 2])}, ValueError, ["y", "[0, 2)", "0 to 2"]),
        ({"y": np.array([-1, 1])}, ValueError, ["y", "[0, 2)", "-1 to 1"]),
        ({"classes": ["a", "b"]}, TypeError, ["classes", "['a', 'b']"]),
        ({"classes": ("a", 2)}, TypeError, ["classes", "('a', 2)"]),
        ({"classes": ("a", "a")}, ValueError, ["classes", "('a', 'a')"]),
        ({"classes": ()}, ValueError, ["y", "[0, 0)"]),
    ],
)
def test_dataset_refuses(change, error, words):
    with pytest.raises(error) as caught:
        Dataset(**GOOD | change)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("index", "rows"),
    [
        ([3, 1, 1, -1], [3, 1, 1, 9]),
        ((2, 0), [2, 0]),
        (np.array([5], np.uint8), [5]),
        (np.arange(10) % 4 == 0, [0, 4, 8]),
        (slice(2, 8, 3), [2, 5]),
        ([], []),
    ],
)
def test_subset(index, rows):
    data = small_dataset()
    part = data.subset(index)
    assert part.x.shape == (len(rows), 1, 5, 7)
    for i, row in enumerate(rows):
        assert_array_equal(part.x[i], data.x[row])
        assert part.y[i] == data.y[row]
    assert part.classes == data.classes


@pytest.mark.parametrize(
    ("index", "error", "words"),
    [
        (3, TypeError, ["index", "3"]),
        ([[1, 2]], TypeError, ["index", "[[1, 2]]"]),
        ([0.5], TypeError, ["index", "[0.5]"]),
        ("ab", TypeError, ["index", "'ab'"]),
        ([0, 10], ValueError, ["index", "[-10, 10)", "[0, 10]"]),
        ([-11], ValueError, ["index", "[-10, 10)", "[-11]"]),
        ([True, False], ValueError, ["index", "mask", "2", "10"]),
    ],
)
def test_subset_refuses(index, error, words):
    with pytest.raises(error) as caught:
        small_dataset().subset(index)
    for word in words:
        assert word in str(caught.value)


# ------------------------------------------------------------------- stratified_split


def labelled(sizes, rng):
    """A shuffled dataset of given class sizes whose images are their own numbers."""
    n = sum(sizes)
    x = np.arange(n, dtype=np.float64).reshape(n, 1, 1, 1)
    y = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    return Dataset(x, y, tuple(f"c{i}" for i in range(len(sizes))))


@given(
    sizes=st.lists(st.integers(0, 40), min_size=1, max_size=8).filter(lambda s: sum(s) > 0),
    holdout=st.floats(0.02, 0.98),
    seed=st.integers(0, 2**40),
)
def test_stratified_split_properties(sizes, holdout, seed):
    data = labelled(sizes, np.random.default_rng(0))
    if refusal(lambda: stratified_split(data, holdout, seed)):
        # Only where no class is due a whole image, and their sum is not either, or it would be
        # the only image of its class.
        assert all(int(min(holdout * size, size - 1)) == 0 for size in sizes if size)
        assert round(holdout * sum(sizes)) == 0 or 1 in sizes
        return
    train, test = stratified_split(data, holdout, seed)
    numbers = np.concatenate([train.x.ravel(), test.x.ravel()])
    assert_array_equal(np.sort(numbers), np.arange(sum(sizes)))  # each image in one part, once
    for part in (train, test):
        order = part.x.ravel().astype(int)
        assert (np.diff(order) > 0).all()
        assert_array_equal(part.y, data.y[order])
        assert part.classes == data.classes
    in_test = np.bincount(test.y, minlength=len(sizes))
    for size, count in zip(sizes, in_test.tolist(), strict=True):
        assert abs(count - min(holdout * size, max(size - 1, 0))) < 1 + 1e-9
        assert count < size or size == 0
    if all(math.ceil(holdout * size) < size for size in sizes if size):
        assert in_test.sum() == round(holdout * sum(sizes))


def test_stratified_split_is_seeded_and_uniform(rng):
    data = labelled([30, 10], rng)
    chosen = np.zeros(40)
    for seed in range(300):
        _, test = stratified_split(data, 0.3, seed)
        chosen[test.x.ravel().astype(int)] += 1
        if seed < 3:
            _, again = stratified_split(data, 0.3, seed)
            assert_array_equal(test.x, again.x)
    # Each image is chosen 90 times out of 300 on average, sigma = 7.9.
    assert np.abs(chosen - 90).max() < 5 * 7.9
    assert np.ptp(chosen) > 0


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"dataset": "digits"}, TypeError, ["dataset", "digits"]),
        ({"holdout": 0}, ValueError, ["holdout", "0"]),
        ({"holdout": 1.0}, ValueError, ["holdout", "1.0"]),
        ({"holdout": -0.5}, ValueError, ["holdout", "-0.5"]),
        ({"holdout": float("nan")}, ValueError, ["holdout", "nan"]),
        ({"holdout": "0.2"}, TypeError, ["holdout", "'0.2'"]),
        ({"holdout": 0.01}, ValueError, ["holdout", "0.01", "10 images"]),
        ({"seed": -1}, ValueError, ["seed", "-1"]),
        ({"seed": 1.5}, TypeError, ["seed", "1.5"]),
        ({"seed": None}, TypeError, ["seed", "None"]),
    ],
)
def test_stratified_split_refuses(change, error, words):
    with pytest.raises(error) as caught:
        stratified_split(**{"dataset": small_dataset()} | change)
    for word in words:
        assert word in str(caught.value)


# --------------------------------------------------------------------------- read_idx


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("code", IDX_TYPES)
@pytest.mark.parametrize("shape", [(7,), (2, 3), (2, 3, 4), (1, 2, 3, 4), (0, 5), (), (1,) * 32])
def test_read_idx(tmp_path, code, shape, compressed, rng):
    letter, dtype = IDX_TYPES[code]
    count = math.prod(shape)
    if np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        expected = rng.integers(limits.min, limits.max, count, dtype, endpoint=True)
    else:
        expected = rng.standard_normal(count).astype(dtype)
    content = idx_header(code, shape) + struct.pack(f">{count}{letter}", *expected.tolist())
    path = tmp_path / "values"
    path.write_bytes(gzip.compress(content) if compressed else content)

    array = read_idx(path)

    assert array.dtype == dtype
    assert array.dtype.isnative
    assert array.flags.writeable
    assert array.shape == shape
    assert_array_equal(array, expected.reshape(shape))


def test_read_idx_recognises_gzip_by_content(tmp_path):
    images = some_images()
    (tmp_path / "a.gz").write_bytes(idx_bytes(images))
    (tmp_path / "b").write_bytes(gzip.compress(idx_bytes(images)))
    assert_array_equal(read_idx(str(tmp_path / "a.gz")), images)
    assert_array_equal(read_idx(tmp_path / "b"), images)


def test_read_idx_larger_than_one_chunk(tmp_path, rng):
    values = rng.integers(0, 256, (3, 1000, 1001)).astype(np.uint8)
    path = tmp_path / "values.gz"
    path.write_bytes(gzip.compress(idx_header(0x08, values.shape) + values.tobytes(), 1))
    assert_array_equal(read_idx(path), values)


@pytest.mark.parametrize("compressed", [False, True])
def test_read_idx_refuses_every_truncation(tmp_path, compressed):
    content = idx_bytes(some_images(2).astype(np.int16))
    if compressed:
        content = gzip.compress(content)
    path = tmp_path / "cut.idx"
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"cut\.idx is not a valid IDX file"):
            read_idx(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["0 bytes"]),
        (b"\0\0\x08\x02\0\0\0\x01", ["header", "8 bytes"]),
        (b"PK\x03\x04 and more", ["50 4b 03 04", "00 00"]),
        (b"\x89PNG\r\n\x1a\n", ["89 50 4e 47"]),
        (b"\0\0\x07\x01\0\0\0\x01!", ["00 00 07 01", "type code"]),
        (b"\0\0\x0a\x01\0\0\0\x01!", ["00 00 0a 01", "type code"]),
        (b"\0\x01\x08\x01\0\0\0\x01!", ["00 01 08 01"]),
        (idx_header(0x08, (1,) * 33) + b"!", ["00 00 08 21", "at most 32"]),
        (idx_header(0x08, (3, 4)) + bytes(11), ["12 bytes", "(3, 4)", "only 11"]),
        (idx_header(0x08, (3, 4)) + bytes(13), ["12 bytes", "(3, 4)", "more"]),
        (idx_header(0x0E, (2,)) + bytes(8), ["16 bytes", "float64", "only 8"]),
        (idx_header(0x0E, (100,)) + bytes(8), ["(100,)", "float64", "can hold"]),
        (idx_header(0x08, (2**32 - 1, 2**32 - 1, 1)) + bytes(9), ["4294967295", "too large"]),
        (idx_header(0x08, (2**32 - 1, 2**32 - 1, 0)), ["4294967295", "too large"]),
    ],
)
@pytest.mark.parametrize("compressed", [False, True])
def test_read_idx_refuses(tmp_path, content, words, compressed):
    if compressed and "can hold" in words:
        words = ["800 bytes", "only 8"]  # 100 numbers could be in there, were they compressed
    path = tmp_path / "bad.idx"
    path.write_bytes(gzip.compress(content) if compressed else content)
    with pytest.raises(ValueError, match=r"bad\.idx is not a valid IDX file") as caught:
        read_idx(path)
    for word in words:
        assert word in str(caught.value)


def test_read_idx_refuses_damaged_gzip(tmp_path):
    content = bytearray(gzip.compress(idx_bytes(some_images())))
    path = tmp_path / "damaged.gz"
    for position in (-8, -1, 40):  # the checksum, the length, the data
        damaged = content.copy()
        damaged[position] ^= 0xFF
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"damaged\.gz is not a valid IDX file"):
            read_idx(path)
    path.write_bytes(content + b"trailing")
    with pytest.raises(ValueError, match=r"damaged\.gz is not a valid IDX file"):
        read_idx(path)


def peak_memory(call):
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="is not a valid IDX file") as caught:
            call()
        return tracemalloc.get_traced_memory()[1], str(caught.value)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("compressed", [False, True])
def test_read_idx_allocates_nothing_for_a_lying_header(tmp_path, compressed):
    content = idx_header(0x0E, (60000, 28, 28)) + bytes(1000)  # promises 376 MB
    path = tmp_path / "lie"
    path.write_bytes(gzip.compress(content) if compressed else content)
    peak, message = peak_memory(lambda: read_idx(path))
    assert "can hold" in message
    assert peak < 1_000_000


def test_read_idx_stops_in_a_gzip_bomb(tmp_path):
    bomb = zlib.compressobj(9, wbits=31)
    path = tmp_path / "bomb.gz"
    with open(path, "wb") as file:
        file.write(bomb.compress(idx_header(0x08, (10, 10)) + bytes(100)))
        for _ in range(100):
            file.write(bomb.compress(bytes(1 << 20)))
        file.write(bomb.flush())
    assert path.stat().st_size < 200_000
    peak, message = peak_memory(lambda: read_idx(path))
    assert "100 bytes (10, 10)" in message
    assert "more" in message
    assert peak < 3_000_000


def test_read_idx_refuses_paths(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"path .*nowhere\.idx"):
        read_idx(tmp_path / "nowhere.idx")
    with pytest.raises(ValueError, match="path must be a file"):
        read_idx(tmp_path)
    with pytest.raises(TypeError, match="path must be a str or a path, got 5"):
        read_idx(5)


@given(data=st.data(), compressed=st.booleans())
def test_read_idx_of_damaged_bytes_raises_value_error_only(data, compressed, tmp_path_factory):
    content = idx_bytes(some_images(2))
    content = bytearray(gzip.compress(content) if compressed else content)
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, min(len(content), 60) - 1))
        content[position] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("fuzz") / "damaged"
    path.write_bytes(content)
    message = refusal(lambda: read_idx(path))
    if message is None:
        assert read_idx(path).nbytes <= 2 * 5 * 7
    else:
        assert str(path) in message


# ------------------------------------------------------------------ load: IDX sources


@pytest.mark.parametrize("separator", ["-", "."])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_load_idx_folder(tmp_path, suffix, separator):
    contents = write_mnist(tmp_path, suffix=suffix, separator=separator)
    for split, part in (("train", "train"), ("test", "t10k")):
        images, labels = contents[part]
        data = load(str(tmp_path), split=split)
        assert data.x.dtype == np.uint8
        assert_array_equal(data.x, images[:, None])
        assert_array_equal(data.y, labels)
        assert data.classes == ("0", "1", "2")
    train, test = load_train_test(tmp_path)
    assert_array_equal(train.x[:, 0], contents["train"][0])
    assert_array_equal(test.x[:, 0], contents["t10k"][0])


def test_load_one_idx_file(tmp_path):
    contents = write_mnist(tmp_path, suffix=".gz")
    images, labels = contents["t10k"]
    path = tmp_path / "t10k-images-idx3-ubyte.gz"
    data = load(path)
    assert_array_equal(data.x[:, 0], images)
    assert_array_equal(data.y, labels)
    with pytest.raises(ValueError, match=r"split 'test' is not in .*t10k-images"):
        load(path, split="test")


def test_load_one_idx_file_of_another_part(tmp_path):
    images, labels = write_mnist(tmp_path, ["letters-train"])["letters-train"]
    data = load(tmp_path / "letters-train-images-idx3-ubyte")
    assert_array_equal(data.x[:, 0], images)
    assert_array_equal(data.y, labels)


def test_load_idx_labels_need_not_begin_at_zero(tmp_path):
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx_bytes(some_images(4)))
    labels = np.array([26, 1, 9, 26], np.uint8)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx_bytes(labels))
    data = load(tmp_path)
    assert data.classes == ("1", "9", "26")
    assert_array_equal(data.y, [2, 0, 1, 2])


def test_load_idx_float_images(tmp_path, rng):
    images = rng.standard_normal((6, 3, 4)).astype(np.float32)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx_bytes(images))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx_bytes(some_labels()))
    data = load(tmp_path)
    assert data.x.dtype == np.float32
    assert_array_equal(data.x[:, 0], images)


def test_load_idx_folder_without_a_part(tmp_path):
    write_mnist(tmp_path, ["t10k"])
    assert len(load(tmp_path, split="test")) == 6
    with pytest.raises(ValueError, match=r"split 'train' is not in .*\['test'\]"):
        load(tmp_path)
    with pytest.raises(ValueError, match="no training part"):
        load_train_test(tmp_path)


@pytest.mark.parametrize("missing", ["images-idx3", "labels-idx1"])
@pytest.mark.parametrize("part", ["train", "t10k"])
def test_load_idx_folder_refuses_half_a_part(tmp_path, part, missing):
    write_mnist(tmp_path, [part])
    (tmp_path / f"{part}-{missing}-ubyte").unlink()
    with pytest.raises(FileNotFoundError, match=f"{part}-{missing}-ubyte"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("name", "array", "words"),
    [
        ("train-labels-idx1-ubyte", some_labels(5), ["6 images", "5 labels"]),
        ("train-images-idx3-ubyte", some_images(7), ["7 images", "6 labels"]),
        ("train-images-idx3-ubyte", some_images(5), ["5 images", "6 labels"]),
        ("train-images-idx3-ubyte", some_images(0), ["no length 0", "(0, 5, 7)"]),
        ("train-images-idx3-ubyte", some_images(6, (0, 7)), ["no length 0", "(6, 0, 7)"]),
        ("train-images-idx3-ubyte", some_labels(6), ["(N, H, W)", "(6,)"]),
        ("train-images-idx3-ubyte", some_images(6).astype(np.int32), ["uint8", "int32"]),
        ("train-labels-idx1-ubyte", some_labels(0), ["N >= 1", "(0,)"]),
        ("train-labels-idx1-ubyte", some_images(6, (3,)), ["(N,)", "(6, 3)"]),
        ("train-labels-idx1-ubyte", np.full(6, np.nan, np.float32), ["finite", "NaN"]),
        ("t10k-labels-idx1-ubyte", np.full(6, 7, np.uint8), ["['7']", "train-labels"]),
        ("t10k-images-idx3-ubyte", some_images(6, (4, 7)), ["(1, 5, 7)", "(1, 4, 7)"]),
    ],
)
def test_load_idx_folder_refuses(tmp_path, name, array, words):
    write_mnist(tmp_path)
    (tmp_path / name).write_bytes(idx_bytes(array))
    with pytest.raises(ValueError, match=name) as caught:
        load_train_test(tmp_path)
    for word in words:
        assert word in str(caught.value)


def test_load_idx_folder_names_the_truncated_file(tmp_path):
    write_mnist(tmp_path)
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte .*210 bytes .*only 209"):
        load(tmp_path)


# --------------------------------------------------------------------- load: any source


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"source": "nowhere"}, FileNotFoundError, ["source", "nowhere"]),
        ({"source": 3}, TypeError, ["source", "3"]),
        ({"source": None}, TypeError, ["source", "None"]),
        ({"source": "digits", "split": "validation"}, ValueError, ["split", "'validation'"]),
        ({"source": "digits", "split": None}, ValueError, ["split", "None"]),
        ({"source": "digits", "size": (9, 9)}, ValueError, ["size", "'digits'", "(9, 9)"]),
        ({"source": "digits", "size": (9, 0)}, ValueError, ["size", "0"]),
        ({"source": "digits", "size": (9, 9, 9)}, ValueError, ["size", "(9, 9, 9)"]),
        ({"source": "digits", "size": 2.5}, TypeError, ["size", "2.5"]),
    ],
)
def test_load_refuses(arguments, error, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error) as caught:
        load(**arguments)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("change", [{"holdout": 1.5}, {"seed": -3}])
def test_load_train_test_checks_its_arguments_before_reading(change, tmp_path):
    ((name, value),) = change.items()
    with pytest.raises(ValueError, match=f"{name} .*{value}"):
        load_train_test(tmp_path / "nowhere", **change)


def test_load_refuses_foreign_files(tmp_path):
    path = tmp_path / "images.h5"
    path.write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(ValueError, match=r"source must be .*an IDX file.*images\.h5"):
        load(path)
    with pytest.raises(ValueError, match="must hold IDX files, or a folder of images"):
        load(tmp_path)


# ------------------------------------------------------------------------- load: .npz


@pytest.mark.parametrize(
    ("shape", "channels", "last"),
    [
        ((6, 8, 9), 1, None),
        ((6, 1, 9), 1, None),
        ((6, 8, 9, 1), 1, True),
        ((6, 8, 9, 3), 3, True),
        ((6, 8, 9, 4), 4, True),
        ((6, 1, 8, 9), 1, False),
        ((6, 3, 8, 9), 3, False),
        ((6, 4, 8, 9), 4, False),
        ((6, 4, 4, 1), 1, True),
        ((6, 4, 5, 3), 3, True),
        ((6, 3, 5, 4), 3, False),
        ((6, 1, 3, 3), 1, False),
    ],
)
def test_load_npz_finds_the_channels(tmp_path, shape, channels, last):
    images = some_images(6, shape[1:])
    np.savez(tmp_path / "a.npz", X=images, y=some_labels())
    x = load(tmp_path / "a.npz").x
    assert x.dtype == np.uint8
    assert x.shape[:2] == (6, channels)
    for n, c in itertools.product(range(6), range(channels)):
        expected = images[n] if last is None else images[n, ..., c] if last else images[n, c]
        assert_array_equal(x[n, c], expected)


@pytest.mark.parametrize("shape", [(6, 8, 9, 2), (6, 8, 3, 9), (6, 3, 9, 3), (6, 1, 1, 1), (6,)])
def test_load_npz_refuses_shapes(tmp_path, shape):
    np.savez(tmp_path / "a.npz", X=some_images(6, shape[1:]), y=some_labels())
    with pytest.raises(ValueError, match=r"a\.npz: X must hold images .*got") as caught:
        load(tmp_path / "a.npz")
    assert str(shape) in str(caught.value)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("dtype", ["u1", "<f4", ">f4", "<f8", ">f8", "<f2"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_load_npz_dtypes_and_orders(tmp_path, save, dtype, order):
    images = np.asarray(some_images().astype(dtype), order=order)
    save(tmp_path / "a.npz", x=images, y=some_labels())
    data = load(tmp_path / "a.npz")
    assert data.x.dtype == np.dtype(dtype).newbyteorder("=")
    assert data.x.dtype.isnative
    assert_array_equal(data.x[:, 0], images)
    assert_array_equal(data.y, some_labels())


@pytest.mark.parametrize(
    ("labels", "y", "classes"),
    [
        (np.array([3, 1, 3, 10]), [1, 0, 1, 2], ("1", "3", "10")),
        (np.array([-1, 1, 1, -1], ">i2"), [0, 1, 1, 0], ("-1", "1")),
        (np.array([[2], [2], [5], [2]]), [0, 0, 1, 0], ("2", "5")),
        (np.array(["dog", "cat", "dog", "ant"]), [2, 1, 2, 0], ("ant", "cat", "dog")),
        (np.array([True, False, False, True]), [1, 0, 0, 1], ("False", "True")),
        (np.array([0.5, 0.1, 0.5, 0.1], np.float32), [1, 0, 1, 0], ("0.1", "0.5")),
    ],
)
def test_load_npz_labels(tmp_path, labels, y, classes):
    np.savez(tmp_path / "a.npz", X=some_images(4), y=labels)
    data = load(tmp_path / "a.npz")
    assert data.y.dtype == np.int64
    assert_array_equal(data.y, y)
    assert data.classes == classes


def test_load_npz_parts(tmp_path):
    train, test = some_images(6), some_images(3, seed=9)
    np.savez(
        tmp_path / "a.npz",
        x_train=train,
        y_train=["a", "b", "c"] * 2,
        x_test=test,
        y_test=["c", "c", "a"],
        x=np.zeros(3),
    )
    first, second = load_train_test(tmp_path / "a.npz")
    assert_array_equal(first.x[:, 0], train)
    assert_array_equal(first.y, [0, 1, 2, 0, 1, 2])
    assert_array_equal(second.x[:, 0], test)
    assert_array_equal(second.y, [2, 2, 0])
    assert first.classes == second.classes == ("a", "b", "c")
    assert load(tmp_path / "a.npz", split="test").classes == ("a", "b", "c")


def test_load_train_test_holds_out_where_there_is_no_test_part(tmp_path):
    images = some_images(50)
    np.savez(tmp_path / "a.npz", x_train=images, y_train=np.repeat([4, 8], [40, 10]))
    train, test = load_train_test(tmp_path / "a.npz", holdout=0.2, seed=5)
    assert np.bincount(train.y).tolist() == [32, 8]
    assert np.bincount(test.y).tolist() == [8, 2]
    both = np.concatenate([train.x, test.x])[:, 0]
    assert sorted(map(bytes, both)) == sorted(map(bytes, images))
    _, again = load_train_test(tmp_path / "a.npz", holdout=0.2, seed=5)
    _, other = load_train_test(tmp_path / "a.npz", holdout=0.2, seed=6)
    assert_array_equal(test.x, again.x)
    assert not np.array_equal(test.x, other.x)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"images": some_images(), "y": some_labels()}, ["x_train", "['x']", "'images'"]),
        ({"X": some_images()}, ["x_train", "['y']", "['X']"]),
        ({}, ["x_train", "['x', 'y']"]),
        ({"x_train": some_images()}, ["['y_train']"]),
        (
            {"x_train": some_images(), "y_train": some_labels(), "x_test": some_images()},
            ["['y_test']"],
        ),
        (
            {"x_train": some_images(), "y_train": some_labels(), "y_test": some_labels()},
            ["['x_test']"],
        ),
        ({"x": some_images(), "y": some_labels(4)}, ["a.npz: x", "6 images", "4 labels"]),
        ({"x": some_images().astype(int), "y": some_labels()}, ["a.npz: x", "uint8", "int64"]),
        ({"x": np.zeros((6, 5, 7), bool), "y": some_labels()}, ["a.npz: x", "uint8", "bool"]),
        ({"x": some_images(), "y": np.zeros((6, 10))}, ["a.npz: y", "(N,)", "(6, 10)"]),
        ({"x": some_images(), "y": np.zeros(6, complex)}, ["a.npz: y", "complex128"]),
        ({"x": some_images(), "y": np.array([b"a"] * 6)}, ["a.npz: y", "|S1"]),
        ({"x": some_images(), "y": np.array([1.0, np.inf] * 3)}, ["a.npz: y", "finite"]),
        ({"x": some_images(), "y": np.array([{}] * 6)}, ["'y'", "objects"]),
        ({"x": np.array([None] * 6), "y": some_labels()}, ["'x'", "objects"]),
        (
            {
                "x_train": some_images(),
                "y_train": some_labels(),
                "x_test": some_images(),
                "y_test": some_labels() + 1,
            },
            ["y_test", "['3']", "y_train"],
        ),
    ],
)
def test_load_npz_refuses(tmp_path, arrays, words):
    path = tmp_path / "a.npz"
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=r"a\.npz") as caught:
        load_train_test(path)
    for word in words:
        assert word in str(caught.value)


def test_an_array_that_an_npz_does_not_have_is_named(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x=np.ones(2), y=np.ones(2))
    with pytest.raises(ValueError, match=r"a\.npz: array 'z' cannot be read: there is none.*'y'"):
        read_npz_array(path, "z")


def test_load_npz_refuses_every_truncation(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=some_images(2), y=some_labels(2))
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"a\.npz is not a valid \.npz file"):
            load(path)


def npz_with(header, body):
    """An archive whose y is a .npy file of this header and body."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in (("x", some_images(3)), ("y", some_labels(3))):
            npy = io.BytesIO()
            np.save(npy, array)
            content = npy.getvalue()
            if name == "y":
                text = header.encode()
                content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body
            archive.writestr(f"{name}.npy", content)
    return file.getvalue()


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("{'descr': '|u1', 'fortran_order': False, 'shape': (10000000000,)}", ["10000000000"]),
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (3,)}", ["24 bytes", "3"]),
        ("{'descr': '|u1', 'fortran_order': False, 'shape': (2,)}", ["2 bytes", "3"]),
        ("{'descr': '|u1', 'fortran_order': False, 'shape': (-3,)}", ["-3"]),
        ("{'descr': '|u1', 'shape': (3,)}", ["'y'"]),
        ("{'descr': '|O', 'fortran_order': False, 'shape': (3,)}", ["objects"]),
        ("not a dict", ["'y'"]),
    ],
)
def test_load_npz_refuses_lying_headers(tmp_path, header, words):
    path = tmp_path / "a.npz"
    path.write_bytes(npz_with("{'descr': '|u1', 'fortran_order': False, 'shape': (3,)}", b"\0\1\1"))
    assert load(path).y.tolist() == [0, 1, 1]
    path.write_bytes(npz_with(header, b"\0\1\1"))
    with pytest.raises(ValueError, match=r"a\.npz: array 'y' cannot be read") as caught:
        load(path)
    for word in words:
        assert word in str(caught.value)


def test_load_npz_checks_the_checksum(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x=some_images(), y=some_labels())
    content = bytearray(path.read_bytes())
    position = content.index(some_images().tobytes())
    content[position + 17] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.npz: array 'x' cannot be read: Bad CRC"):
        load(path)


def test_load_npz_refuses_a_member_larger_than_can_be(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=some_images(), y=some_labels())
    content = bytearray(path.read_bytes())
    # The size before compression is at byte 24 of an entry of the central directory.
    entry = content.index(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = struct.pack("<I", 2_000_000_000)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"array 'x' cannot be read: it promises 2000000000"):
        load(path)


def test_load_npz_refuses_foreign_files(tmp_path):
    path = tmp_path / "a.npz"
    for content in (b"", b"\x93NUMPY\x01\x00", b"{}"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.npz is not a valid \.npz file"):
            load(path)


@given(data=st.data())
def test_load_npz_of_damaged_bytes_raises_value_error_only(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("fuzz") / "a.npz"
    np.savez_compressed(path, x=some_images(2), y=some_labels(2))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    message = refusal(lambda: load(path))
    assert message is None or str(path) in message


# ------------------------------------------------------------------------------ digits


def test_load_digits():
    datasets = pytest.importorskip("sklearn.datasets")
    digits = datasets.load_digits()
    data = load("digits")
    assert data.x.dtype == np.uint8
    assert data.x.shape == (1797, 1, 8, 8)
    assert_array_equal(data.y, digits.target)
    assert data.classes == tuple("0123456789")
    for value in range(17):
        assert set(data.x[:, 0][digits.images == value].tolist()) == {round(value * 255 / 16)}
    with pytest.raises(ValueError, match=r"split 'test' is not in 'digits', which has \['train'\]"):
        load("digits", split="test")
    train, test = load_train_test("digits", holdout=0.25, seed=1)
    assert len(test) == round(0.25 * 1797)
    per_class = np.bincount(digits.target)
    assert np.abs(np.bincount(test.y) - 0.25 * per_class).max() < 1
    assert_array_equal(np.bincount(test.y) + np.bincount(train.y), per_class)


def without(monkeypatch, package):
    """Make importing the package fail, as if it were not installed."""
    real_import = builtins.__import__

    def fail(name, *args, **kwargs):
        if name.split(".")[0] == package:
            raise ImportError(f"No module named {package!r}")
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", fail)


def test_missing_extras_are_named(monkeypatch, tmp_path):
    (tmp_path / "a.png").write_bytes(b"never looked at")
    without(monkeypatch, "sklearn")
    with pytest.raises(ImportError, match=r'pip install "fastconv\[train\]"'):
        load("digits")
    without(monkeypatch, "PIL")
    with pytest.raises(ImportError, match=r'pip install "fastconv\[io\]"'):
        read_image(tmp_path / "a.png")


# ------------------------------------------------------------------------- image files


@pytest.fixture
def pillow():
    return pytest.importorskip("PIL.Image")


def save_image(pillow, path, pixels, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pillow.fromarray(pixels)
    (image if mode is None else image.convert(mode)).save(path)


@pytest.mark.parametrize("suffix", ["png", "bmp", "gif", "tif", "tiff"])
def test_read_image_grey(tmp_path, pillow, suffix):
    pixels = some_images(1)[0]
    save_image(pillow, tmp_path / f"a.{suffix}", pixels)
    if suffix != "gif":  # in which grey is a palette, thus colour
        image = read_image(tmp_path / f"a.{suffix}")
        assert image.dtype == np.uint8
        assert_array_equal(image, pixels[None])
    assert_array_equal(read_image(tmp_path / f"a.{suffix}", channels=1), pixels[None])
    assert_array_equal(read_image(tmp_path / f"a.{suffix}", channels=3), [pixels] * 3)
    opaque = [pixels] * 3 + [np.full_like(pixels, 255)]
    assert_array_equal(read_image(tmp_path / f"a.{suffix}", channels=4), opaque)


def test_read_image_colour(tmp_path, pillow):
    pixels = some_images(1, (5, 7, 3))[0]
    save_image(pillow, tmp_path / "a.png", pixels)
    image = read_image(str(tmp_path / "a.png"))
    assert image.shape == (3, 5, 7)
    for c in range(3):
        assert_array_equal(image[c], pixels[:, :, c])
    # Greyscale is ITU-R 601 luma.
    luma = pixels @ [0.299, 0.587, 0.114]
    assert np.abs(read_image(tmp_path / "a.png", channels=1)[0] - luma).max() <= 1


def test_read_image_jpeg_and_webp(tmp_path, pillow):
    features = pytest.importorskip("PIL.features")
    ramp = np.add.outer(np.arange(16), np.arange(24)).astype(np.uint8) * 6
    for suffix in ("jpg", "jpeg", "webp"):
        if suffix == "webp" and not features.check("webp"):
            continue
        save_image(pillow, tmp_path / f"a.{suffix}", np.stack([ramp] * 3, -1))
        image = read_image(tmp_path / f"a.{suffix}")
        assert image.shape == (3, 16, 24)
        assert np.abs(image.astype(int) - ramp).mean() < 4  # both formats lose a little


def test_read_image_one_bit(tmp_path, pillow):
    bits = some_images(1)[0] > 127
    save_image(pillow, tmp_path / "a.png", bits)
    assert_array_equal(read_image(tmp_path / "a.png"), 255 * bits[None])


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_read_image_16_bit(tmp_path, pillow, suffix):
    pixels = np.array([[0, 128, 129, 257], [385, 386, 32768, 65535]], np.uint16)
    save_image(pillow, tmp_path / f"a.{suffix}", pixels)
    expected = [[[round(v * 255 / 65535) for v in row] for row in pixels.tolist()]]
    assert_array_equal(read_image(tmp_path / f"a.{suffix}"), expected)
    assert_array_equal(read_image(tmp_path / f"a.{suffix}", channels=3), expected * 3)


def test_read_image_transparency(tmp_path, pillow):
    pixels = some_images(1, (5, 7, 4))[0]
    save_image(pillow, tmp_path / "a.png", pixels)
    assert_array_equal(read_image(tmp_path / "a.png"), np.moveaxis(pixels, -1, 0)[:3])
    assert_array_equal(read_image(tmp_path / "a.png", channels=4), np.moveaxis(pixels, -1, 0))


def test_read_image_palette_with_transparency(tmp_path, pillow):
    image = pillow.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putdata([0, 1])
    image.save(tmp_path / "a.png", transparency=bytes([0, 128]))
    expected = [[[10, 40]], [[20, 50]], [[30, 60]]]
    assert_array_equal(read_image(tmp_path / "a.png"), expected)  # and no warning


def test_read_image_first_frame(tmp_path, pillow):
    frames = [pillow.fromarray(np.full((4, 4), value, np.uint8)) for value in (10, 200)]
    frames[0].save(tmp_path / "a.tif", save_all=True, append_images=frames[1:])
    assert_array_equal(read_image(tmp_path / "a.tif"), np.full((1, 4, 4), 10))


def test_read_image_resize(tmp_path, pillow):
    # Bilinear reproduces a linear ramp: the middle of each output pixel keeps its value.
    ramp = np.tile(np.arange(0, 160, 10, dtype=np.uint8), (6, 1))
    save_image(pillow, tmp_path / "a.png", ramp)
    image = read_image(tmp_path / "a.png", size=(3, 8))
    assert image.shape == (1, 3, 8)
    centres = 10 * (2 * np.arange(8) + 0.5)
    assert np.abs(image[0, :, 1:-1] - centres[1:-1]).max() <= 1
    assert read_image(tmp_path / "a.png", size=4).shape == (1, 4, 4)
    assert_array_equal(read_image(tmp_path / "a.png", size=(6, 16)), ramp[None])


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"path": "nowhere.png"}, FileNotFoundError, ["path", "nowhere.png"]),
        ({"path": 3}, TypeError, ["path", "3"]),
        ({"path": "."}, ValueError, ["path", "file"]),
        ({"channels": 2}, ValueError, ["channels", "2"]),
        ({"channels": True}, TypeError, ["channels", "True"]),
        ({"channels": "RGB"}, TypeError, ["channels", "'RGB'"]),
        ({"size": (4, 0)}, ValueError, ["size", "0"]),
        ({"size": (4, 4, 4)}, ValueError, ["size", "(4, 4, 4)"]),
        ({"size": (4.0, 4)}, TypeError, ["size", "4.0"]),
    ],
)
def test_read_image_refuses(tmp_path, pillow, monkeypatch, change, error, words):
    monkeypatch.chdir(tmp_path)
    save_image(pillow, tmp_path / "a.png", some_images(1)[0])
    with pytest.raises(error) as caught:
        read_image(**{"path": "a.png"} | change)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_read_image_refuses_32_bits(tmp_path, pillow, mode):
    save_image(pillow, tmp_path / "a.tif", some_images(1)[0], mode)
    with pytest.raises(ValueError, match=rf"a\.tif cannot be read as an image: .*'{mode}'"):
        read_image(tmp_path / "a.tif")


def test_read_image_refuses_damaged_files(tmp_path, pillow):
    save_image(pillow, tmp_path / "a.png", some_images(1, (20, 20))[0])
    content = (tmp_path / "a.png").read_bytes()
    damaged = [b"", b"GIF89a", b"not an image", content[:20], content[:100]]
    damaged.append(content[:60] + bytes([content[60] ^ 0xFF]) + content[61:])
    for bad in damaged:
        (tmp_path / "a.png").write_bytes(bad)
        with pytest.raises(ValueError, match=r"a\.png cannot be read as an image"):
            read_image(tmp_path / "a.png")


# ------------------------------------------------------------------------ image folders


def write_classes(pillow, root, counts, *, shape=(5, 7), suffix="png", seed=0):
    """Image files by class; [(class, pixels)] in the order of the names."""
    written = []
    for i, (name, count) in enumerate(sorted(counts.items())):
        for j, pixels in enumerate(some_images(count, shape, seed=seed + i)):
            save_image(pillow, root / name / f"{j:02}.{suffix}", pixels)
            written.append((name, pixels))
    return written


def test_load_image_folder(tmp_path, pillow):
    written = write_classes(pillow, tmp_path, {"dog": 3, "cat": 2, "ant": 1})
    (tmp_path / "README.txt").write_text("not a class")
    (tmp_path / ".cache").mkdir()
    (tmp_path / "cat" / "Thumbs.db").write_bytes(b"not an image")
    (tmp_path / "cat" / "._00.png").write_bytes(b"not an image")
    data = load(tmp_path)
    assert data.classes == ("ant", "cat", "dog")
    assert data.x.shape == (6, 1, 5, 7)
    assert data.x.dtype == np.uint8
    for x, y, (name, pixels) in zip(data.x, data.y, written, strict=True):
        assert_array_equal(x[0], pixels)
        assert data.classes[y] == name


def test_load_image_folder_in_colour(tmp_path, pillow):
    written = write_classes(pillow, tmp_path, {"a": 2, "b": 2}, shape=(5, 7, 3))
    data = load(tmp_path)
    assert data.x.shape == (4, 3, 5, 7)
    for x, (_, pixels) in zip(data.x, written, strict=True):
        assert_array_equal(x, np.moveaxis(pixels, -1, 0))


def test_load_image_folder_of_mixed_modes_is_colour(tmp_path, pillow):
    grey = write_classes(pillow, tmp_path, {"a": 2})
    colour = write_classes(pillow, tmp_path, {"b": 1}, shape=(5, 7, 3), suffix="PNG")
    data = load(tmp_path)
    assert_array_equal(data.x[1], [grey[1][1]] * 3)
    assert_array_equal(data.x[2], np.moveaxis(colour[0][1], -1, 0))


def test_load_image_folder_of_grey_modes(tmp_path, pillow):
    save_image(pillow, tmp_path / "a" / "0.png", np.eye(4, dtype=bool))
    save_image(pillow, tmp_path / "a" / "1.png", np.eye(4, dtype=np.uint8) * 7)
    save_image(pillow, tmp_path / "a" / "2.png", np.eye(4, dtype=np.uint16) * 65535)
    assert_array_equal(load(tmp_path).x[:, 0], np.multiply.outer([255, 7, 255], np.eye(4)))


def test_load_image_folder_with_parts(tmp_path, pillow):
    train = write_classes(pillow, tmp_path / "train", {"a": 2, "b": 3})
    test = write_classes(pillow, tmp_path / "test", {"b": 2}, seed=7)
    first, second = load_train_test(tmp_path)
    assert_array_equal(first.x[:, 0], [pixels for _, pixels in train])
    assert_array_equal(second.x[:, 0], [pixels for _, pixels in test])
    assert first.classes == second.classes == ("a", "b")
    assert_array_equal(second.y, [1, 1])


def test_load_image_folder_classes_may_be_called_train_and_test(tmp_path, pillow):
    write_classes(pillow, tmp_path, {"train": 2, "test": 1})
    assert load(tmp_path).classes == ("test", "train")


def test_load_image_folder_parts_agree_on_channels(tmp_path, pillow):
    write_classes(pillow, tmp_path / "train", {"a": 1})
    write_classes(pillow, tmp_path / "test", {"a": 1}, shape=(5, 7, 3))
    assert load(tmp_path, split="train").x.shape == (1, 3, 5, 7)
    assert load(tmp_path, split="test").x.shape == (1, 3, 5, 7)


def test_load_image_folder_with_size(tmp_path, pillow):
    write_classes(pillow, tmp_path, {"a": 1}, shape=(9, 9))
    write_classes(pillow, tmp_path, {"b": 1}, shape=(5, 7))
    with pytest.raises(ValueError, match=r"size must be given .*\(9, 9\).*00\.png has \(5, 7\)"):
        load(tmp_path)
    data = load(tmp_path, size=(6, 4))
    assert data.x.shape == (2, 1, 6, 4)
    assert_array_equal(data.x[0], read_image(tmp_path / "a" / "00.png", size=(6, 4)))


def test_load_image_folder_refuses(tmp_path, pillow):
    write_classes(pillow, tmp_path, {"a": 2, "b": 2})
    (tmp_path / "c").mkdir()
    with pytest.raises(ValueError, match=r"/c must hold at least one image file"):
        load(tmp_path)
    (tmp_path / "c").rmdir()
    (tmp_path / "b" / "01.png").write_bytes(b"not an image")
    with pytest.raises(ValueError, match=r"b/01\.png cannot be read as an image"):
        load(tmp_path)


def test_load_image_folder_refuses_a_class_that_is_in_the_test_part_only(tmp_path, pillow):
    write_classes(pillow, tmp_path / "train", {"cat": 1, "dog": 1})
    write_classes(pillow, tmp_path / "test", {"cats": 1, "dog": 1})
    with pytest.raises(ValueError, match=r"test has labels that .*train has not: \['cats'\]"):
        load(tmp_path, split="test")


# ----------------------------------------------------------------------- augmentation

SPATIAL = [(9,), (6, 7), (3, 4, 5)]
DTYPES = [np.uint8, np.float16, np.float32, np.float64]
TRANSFORMS = [
    RandomShift(2),
    RandomFlip(0.5),
    RandomFlip(0.5, axis=2),
    GaussianNoise(3.0),
    RandomCrop(3),
    RandomCrop(2, padding=2),
    Compose([RandomShift(1), RandomFlip()]),
]


def batch_of(shape, dtype):
    """Nonzero values, all different within an image."""
    n, *rest = shape
    values = np.arange(1, math.prod(rest) + 1).reshape(rest)
    return np.stack([np.roll(values, i, axis=-1) for i in range(n)]).astype(dtype)


def naive_window(image, corner, size):
    """image[c, corner + offset] for every offset in a window; 0 outside of the image."""
    window = np.zeros((image.shape[0], *size), image.dtype)
    for offset in np.ndindex(*size):
        place = [a + b for a, b in zip(corner, offset, strict=True)]
        if all(0 <= a < n for a, n in zip(place, image.shape[1:], strict=True)):
            for c in range(image.shape[0]):
                window[(c, *offset)] = image[(c, *place)]
    return window


@pytest.mark.parametrize("transform", TRANSFORMS, ids=repr)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("spatial", SPATIAL)
@pytest.mark.parametrize("layout", ["C", "channels-last", "sliced", "read-only", "empty"])
def test_transforms_keep_their_contract(transform, dtype, spatial, layout):
    batch = batch_of((4, 2, *spatial), dtype)
    if layout == "channels-last":
        batch = np.moveaxis(np.ascontiguousarray(np.moveaxis(batch, 1, -1)), -1, 1)
    elif layout == "sliced":
        batch = np.repeat(batch, 2, axis=0)[::-2]
    elif layout == "read-only":
        batch.flags.writeable = False
    elif layout == "empty":
        batch = batch[:0]
    before = batch.tobytes()
    result = transform(batch, np.random.default_rng(5))
    assert batch.tobytes() == before
    assert not np.shares_memory(result, batch)
    assert result.dtype == dtype
    assert result.flags.writeable
    if isinstance(transform, RandomCrop):
        assert result.shape == (*batch.shape[:2], *(transform.size for _ in spatial))
    else:
        assert result.shape == batch.shape
    contiguous = np.ascontiguousarray(batch)
    assert_array_equal(result, transform(contiguous, np.random.default_rng(5)))


@pytest.mark.parametrize("spatial", SPATIAL)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_random_shift(spatial, dtype):
    batch = batch_of((40, 2, *spatial), dtype)
    moved = RandomShift(2)(batch, np.random.default_rng(0))
    shifts = list(itertools.product(range(-2, 3), repeat=len(spatial)))
    for image, result in zip(batch, moved, strict=True):
        candidates = [naive_window(image, [-s for s in shift], spatial) for shift in shifts]
        assert sum(np.array_equal(result, candidate) for candidate in candidates) == 1


def test_random_shift_is_uniform_and_independent():
    batch = np.zeros((5000, 1, 5, 5), np.uint8)
    batch[:, :, 2, 2] = 1
    moved = RandomShift(2)(batch, np.random.default_rng(0))
    counts = moved.sum(axis=(0, 1), dtype=int)
    assert counts.sum() == 5000
    # Chi-squared with 24 degrees of freedom: 0.1 % are above 51.
    assert ((counts - 200) ** 2 / 200).sum() < 51


def test_random_shift_by_nothing_and_by_more_than_the_image():
    batch = batch_of((3, 1, 4), np.float32)
    assert_array_equal(RandomShift(0)(batch, np.random.default_rng(0)), batch)
    moved = RandomShift(100)(batch_of((50, 1, 4), np.float32), np.random.default_rng(0))
    assert (moved == 0).mean() > 0.9


@pytest.mark.parametrize("axis", [-1, -2, 2, 3])
def test_random_flip(axis):
    batch = batch_of((200, 2, 4, 5), np.float32)
    flipped = RandomFlip(0.3, axis)(batch, np.random.default_rng(0))
    count = 0
    for image, result in zip(batch, flipped, strict=True):
        if not np.array_equal(result, image):
            for c, i, j in np.ndindex(*image.shape):
                source = (c, i, 4 - j) if axis in (-1, 3) else (c, 3 - i, j)
                assert result[c, i, j] == image[source]
            count += 1
    assert abs(count - 60) < 5 * math.sqrt(200 * 0.3 * 0.7)


def test_random_flip_never_and_always():
    batch = batch_of((20, 1, 6), np.uint8)
    rng = np.random.default_rng(0)
    assert_array_equal(RandomFlip(0)(batch, rng), batch)
    assert_array_equal(RandomFlip(1)(batch, rng), batch[:, :, ::-1])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_gaussian_noise(dtype):
    batch = np.full((50, 2, 100), 3, dtype)
    noise = (GaussianNoise(0.5)(batch, np.random.default_rng(0)) - batch).astype(np.float64) / 0.5
    n = noise.size
    assert abs(noise.mean()) < 5 / math.sqrt(n)
    assert abs(noise.std() - 1) < 5 / math.sqrt(2 * n)
    assert abs((noise**3).mean()) < 5 * math.sqrt(15 / n)
    assert abs((noise**4).mean() - 3) < 5 * math.sqrt(96 / n)
    # Neighbours and images are independent.
    assert abs((noise[:, :, 1:] * noise[:, :, :-1]).mean()) < 5 / math.sqrt(n)
    assert abs((noise[1:] * noise[:-1]).mean()) < 5 / math.sqrt(n)
    # Drawn in float32 for the smaller types, in float64 for float64.
    assert np.array_equal(noise, noise.astype(np.float32)) == (dtype != np.float64)
    assert_array_equal(GaussianNoise(0)(batch, np.random.default_rng(0)), batch)


def test_gaussian_noise_on_uint8():
    noisy = GaussianNoise(4)(np.full((100, 1, 10, 10), 100, np.uint8), np.random.default_rng(0))
    assert abs(noisy.mean() - 100) < 5 * 4 / 100  # rounding to the nearest has no bias
    assert abs(noisy.std() - 4) < 0.2
    for edge in (0, 255):  # clipped, not wrapped around
        noisy = GaussianNoise(4)(np.full((100, 1, 100), edge, np.uint8), np.random.default_rng(0))
        assert np.abs(noisy.astype(int) - edge).max() < 30
        assert 0.5 < (noisy == edge).mean() < 0.6


@pytest.mark.parametrize(
    ("spatial", "size", "padding"),
    [
        ((9,), 4, 0),
        ((9,), (13,), 2),
        ((6, 7), (3, 5), 0),
        ((6, 7), 6, 1),
        ((6, 7), (6, 7), 0),
        ((3, 4, 5), (2, 4, 3), 1),
    ],
)
def test_random_crop(spatial, size, padding):
    batch = batch_of((40, 2, *spatial), np.float32)
    cropped = RandomCrop(size, padding)(batch, np.random.default_rng(0))
    lengths = size if isinstance(size, tuple) else (size,) * len(spatial)
    corners = list(
        itertools.product(
            *(range(-padding, n + padding - k + 1) for n, k in zip(spatial, lengths, strict=True))
        )
    )
    seen = set()
    for image, result in zip(batch, cropped, strict=True):
        matches = [c for c in corners if np.array_equal(result, naive_window(image, c, lengths))]
        assert len(matches) == 1
        seen.update(matches)
    assert len(seen) > min(len(corners), 40) / 3


def test_compose_applies_in_order():
    calls = []

    def step(name):
        def transform(batch, rng):
            calls.append((name, rng))
            return batch + 1

        return transform

    rng = np.random.default_rng(0)
    batch = np.zeros((1, 1, 2))
    assert_array_equal(Compose([step("a"), step("b")])(batch, rng), batch + 2)
    assert calls == [("a", rng), ("b", rng)]


@pytest.mark.parametrize("transform", TRANSFORMS, ids=repr)
def test_transforms_depend_on_the_generator_only(transform):
    batch = batch_of((20, 2, 6, 7), np.float32)
    first = transform(batch, np.random.default_rng(1))
    assert_array_equal(first, transform(batch, np.random.default_rng(1)))
    assert not np.array_equal(first, transform(batch, np.random.default_rng(2)))


@pytest.mark.parametrize("transform", TRANSFORMS, ids=repr)
@pytest.mark.parametrize(
    ("batch", "rng", "error", "words"),
    [
        ([[[1.0]]], np.random.default_rng(0), TypeError, ["batch", "[[[1.0]]]"]),
        (np.zeros((2, 1, 9), int), np.random.default_rng(0), TypeError, ["batch", "int64"]),
        (np.zeros((2, 9)), np.random.default_rng(0), ValueError, ["batch", "(2, 9)"]),
        (np.zeros((2, 1, 5, 5, 5, 5)), np.random.default_rng(0), ValueError, ["batch", "5, 5, 5"]),
        (np.zeros((2, 1, 9)), 0, TypeError, ["rng", "Generator", "0"]),
        (np.zeros((2, 1, 9)), None, TypeError, ["rng", "None"]),
    ],
)
def test_transforms_refuse_bad_calls(transform, batch, rng, error, words):
    with pytest.raises(error) as caught:
        transform(batch, rng)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: RandomShift(-1), ValueError, ["max_shift", "-1"]),
        (lambda: RandomShift(1.5), TypeError, ["max_shift", "1.5"]),
        (lambda: RandomShift(True), TypeError, ["max_shift", "True"]),
        (lambda: RandomFlip(1.1), ValueError, ["p", "[0, 1]", "1.1"]),
        (lambda: RandomFlip(-0.1), ValueError, ["p", "[0, 1]", "-0.1"]),
        (lambda: RandomFlip(float("nan")), ValueError, ["p", "nan"]),
        (lambda: RandomFlip("x"), TypeError, ["p", "'x'"]),
        (lambda: RandomFlip(axis=0), ValueError, ["axis", "0"]),
        (lambda: RandomFlip(axis=1), ValueError, ["axis", "1"]),
        (lambda: RandomFlip(axis=-4), ValueError, ["axis", "-4"]),
        (lambda: RandomFlip(axis=None), TypeError, ["axis", "None"]),
        (lambda: GaussianNoise(-1), ValueError, ["std", "-1"]),
        (lambda: GaussianNoise(math.inf), ValueError, ["std", "inf"]),
        (lambda: GaussianNoise("1"), TypeError, ["std", "'1'"]),
        (lambda: RandomCrop(0), ValueError, ["size", "0"]),
        (lambda: RandomCrop((4, 0)), ValueError, ["size", "0"]),
        (lambda: RandomCrop(2.0), TypeError, ["size", "2.0"]),
        (lambda: RandomCrop((4, "4")), TypeError, ["size", "'4'"]),
        (lambda: RandomCrop(4, -1), ValueError, ["padding", "-1"]),
        (lambda: RandomCrop(4, 0.5), TypeError, ["padding", "0.5"]),
        (lambda: Compose([]), ValueError, ["transforms", "[]"]),
        (lambda: Compose(RandomFlip()), TypeError, ["transforms", "RandomFlip"]),
        (lambda: Compose([RandomFlip(), 3]), TypeError, ["transforms[1]", "3"]),
    ],
)
def test_transforms_refuse_bad_settings(make, error, words):
    with pytest.raises(error) as caught:
        make()
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("transform", "shape", "words"),
    [
        (RandomFlip(axis=3), (2, 1, 9), ["axis", "3", "(2, 1, 9)"]),
        (RandomFlip(axis=-2), (2, 1, 9), ["axis", "-2", "(2, 1, 9)"]),
        (RandomFlip(axis=-3), (2, 1, 9, 9), ["axis", "-3", "(2, 1, 9, 9)"]),
        (RandomCrop((4, 4)), (2, 1, 9), ["size", "(4, 4)"]),
        (RandomCrop((4, 4)), (2, 1, 9, 9, 9), ["size", "(4, 4)"]),
        (RandomCrop(10), (2, 1, 9, 12), ["size", "10", "(9, 12)"]),
        (RandomCrop((4, 14), 2), (2, 1, 9, 9), ["size", "(4, 14)", "(13, 13)"]),
    ],
)
def test_transforms_refuse_batches_they_do_not_fit(transform, shape, words):
    with pytest.raises(ValueError, match=words[0]) as caught:
        transform(np.zeros(shape), np.random.default_rng(0))
    for word in words:
        assert word in str(caught.value)


# ------------------------------------------------------------------------- Minibatches


def rows_of(batches):
    return [rows.tolist() for (rows,) in batches]


@given(
    n=st.integers(1, 40),
    batch_size=st.integers(1, 50),
    drop_last=st.booleans(),
    shuffle=st.booleans(),
    seed=st.integers(0, 2**40),
)
def test_minibatches_cover_the_rows(n, batch_size, drop_last, shuffle, seed):
    if drop_last and batch_size > n:
        return
    x = np.arange(3 * n).reshape(n, 3)
    y = np.arange(n) * 10
    batches = Minibatches(
        x, y, batch_size=batch_size, shuffle=shuffle, seed=seed, drop_last=drop_last
    )
    seen = list(batches)
    assert len(seen) == len(batches)
    rows = np.concatenate([labels for _, labels in seen]) // 10
    assert len(set(rows.tolist())) == len(rows) == (n - n % batch_size if drop_last else n)
    for images, labels in seen:
        assert_array_equal(images, x[labels // 10])
    sizes = [len(labels) for _, labels in seen]
    assert sizes[:-1] == [batch_size] * (len(seen) - 1)
    assert sizes[-1] <= batch_size
    if not shuffle:
        assert_array_equal(rows, np.arange(len(rows)))


def test_minibatches_order_is_the_documented_one():
    batches = Minibatches(np.arange(10), batch_size=4, seed=7)
    for epoch in range(3):
        order = np.random.default_rng([7, epoch]).permutation(10).tolist()
        assert rows_of(batches) == [order[:4], order[4:8], order[8:]]


def test_minibatches_epochs():
    batches = Minibatches(np.arange(50), batch_size=8, seed=3)
    epochs = []
    for epoch in range(4):
        assert batches.epoch == epoch
        epochs.append(rows_of(batches))
    assert len({str(epoch) for epoch in epochs}) == 4
    resumed = Minibatches(np.arange(50), batch_size=8, seed=3)
    resumed.set_epoch(2)
    assert rows_of(resumed) == epochs[2]
    assert rows_of(resumed) == epochs[3]
    other = Minibatches(np.arange(50), batch_size=8, seed=4)
    assert rows_of(other) != epochs[0]


def test_minibatches_broken_off_do_not_move_on():
    batches = Minibatches(np.arange(10), batch_size=2, seed=3)
    first = next(iter(batches))[0]
    assert batches.epoch == 0
    assert_array_equal(next(iter(batches))[0], first)
    unfinished = iter(batches)
    next(unfinished)
    batches.set_epoch(5)  # stands, though the iteration of epoch 0 ends later
    list(unfinished)
    assert batches.epoch == 5


def test_minibatches_iterations_are_independent():
    batches = Minibatches(np.arange(10), batch_size=2, seed=3)
    expected = rows_of(Minibatches(np.arange(10), batch_size=2, seed=3))
    pairs = list(zip(iter(batches), iter(batches), strict=True))
    assert [a.tolist() for ((a,), _) in pairs] == expected
    assert [b.tolist() for (_, (b,)) in pairs] == expected
    assert batches.epoch == 1


def test_minibatches_transform_the_first_array_only():
    x = np.arange(20.0, dtype=np.float32).reshape(10, 1, 2)
    y = x.copy()
    batches = Minibatches(x, y, batch_size=4, transform=lambda batch, rng: batch + 100)
    for images, same in batches:
        assert_array_equal(images, same + 100)
    assert_array_equal(x, y)


@pytest.mark.parametrize("shuffle", [True, False])
def test_minibatches_augmentation_repeats(shuffle):
    x = batch_of((30, 1, 6, 7), np.float32)
    before = x.tobytes()
    augment = Compose([RandomShift(2), RandomFlip(), GaussianNoise(0.1)])

    def make():
        return Minibatches(x, batch_size=7, shuffle=shuffle, seed=11, transform=augment)

    batches = make()
    epochs = [[images.tobytes() for (images,) in batches] for _ in range(3)]
    assert len({tuple(epoch) for epoch in epochs}) == 3
    resumed = make()
    resumed.set_epoch(2)
    assert [images.tobytes() for (images,) in resumed] == epochs[2]
    assert x.tobytes() == before


def test_minibatches_keep_channels_last_memory():
    x = np.moveaxis(np.zeros((8, 5, 6, 3), np.float32), -1, 1)
    for (images,) in Minibatches(x, batch_size=4):
        assert np.moveaxis(images, 1, -1).flags.c_contiguous


X, Y = np.zeros((10, 1, 4)), np.zeros(10)


@pytest.mark.parametrize(
    ("arrays", "settings", "error", "words"),
    [
        ((), {}, TypeError, ["arrays", "none"]),
        (([1, 2],), {}, TypeError, ["arrays[0]", "[1, 2]"]),
        ((X, None), {}, TypeError, ["arrays[1]", "None"]),
        ((X, Y[:9]), {}, ValueError, ["arrays[1]", "(9,)", "(10, 1, 4)"]),
        ((np.array(3.0),), {}, ValueError, ["arrays[0]", "()"]),
        ((X[:0], Y[:0]), {}, ValueError, ["arrays[0]", "at least 1", "(0, 1, 4)"]),
        ((X,), {"batch_size": 0}, ValueError, ["batch_size", "0"]),
        ((X,), {"batch_size": 2.0}, TypeError, ["batch_size", "2.0"]),
        ((X,), {"batch_size": None}, TypeError, ["batch_size", "None"]),
        ((X,), {"batch_size": 11, "drop_last": True}, ValueError, ["batch_size", "10", "11"]),
        ((X,), {"seed": -1}, ValueError, ["seed", "-1"]),
        ((X,), {"seed": None}, TypeError, ["seed", "None"]),
        ((X,), {"shuffle": 1}, TypeError, ["shuffle", "1"]),
        ((X,), {"drop_last": "no"}, TypeError, ["drop_last", "'no'"]),
        ((X,), {"transform": 3}, TypeError, ["transform", "3"]),
    ],
)
def test_minibatches_refuse(arrays, settings, error, words):
    with pytest.raises(error) as caught:
        Minibatches(*arrays, **{"batch_size": 4} | settings)
    for word in words:
        assert word in str(caught.value)


def test_set_epoch_refuses():
    batches = Minibatches(X, batch_size=4)
    with pytest.raises(ValueError, match="epoch must be at least 0, got -1"):
        batches.set_epoch(-1)
    with pytest.raises(TypeError, match=r"epoch must be an integer, got 1\.5"):
        batches.set_epoch(1.5)
    assert batches.epoch == 0


# --------------------------------------------------------------------------- real data


def test_mnist(shared_data):
    folder = shared_data / "mnist"
    if not folder.is_dir():
        pytest.skip("FASTCONV_DATA has no folder mnist")
    test = load(folder, split="test")
    assert test.x.shape == (10_000, 1, 28, 28)
    assert test.x.dtype == np.uint8
    counts = np.bincount(test.y, minlength=10)
    assert counts[0] == 980
    assert counts[1] == 1135
    assert test.classes == tuple("0123456789")
    assert test.x.max() == 255
    assert test.x[:, :, 0, 0].max() == 0  # digits stand in the middle, on black
    one_file = load(folder / "t10k-images-idx3-ubyte.gz")
    assert_array_equal(one_file.x, test.x)
