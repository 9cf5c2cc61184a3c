"""What NumPy code brings along: subclasses, masks, memmaps, other dtypes and byte orders, arrays
without axes where numbers are wanted. Each works, or an error says what to do.

The operators are found by their names, so a new one is tested too.
"""

import inspect

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from strategies import layouts

import fastconv
import fastconv.functional as F
from fastconv import Tensor, data, linalg, nn, optim
from fastconv.data import Dataset
from fastconv.training import Classifier

RNG = np.random.default_rng(0)


def floats(*shape):
    """Values in (0, 1), which every operator takes."""
    return RNG.uniform(0.1, 0.9, shape)


IMAGES = {1: floats(2, 4, 9), 2: floats(2, 4, 6, 6), 3: floats(2, 4, 4, 5, 4)}
CLASSES = np.array([0, 3, 1])
STATISTICS = {name: floats(4) for name in ("running_mean", "running_var", "weight", "bias")}
PAIR = {"input": floats(3, 4), "target": floats(3, 4)}
# The arrays of operators that take more than an image, by the names of their parameters.
ARRAYS = {
    **{f"conv{n}d": {"weight": floats(8, 4, *[3] * n), "bias": floats(8)} for n in IMAGES},
    **{
        f"conv_transpose{n}d": {"weight": floats(4, 3, *[2] * n), "bias": floats(3)} for n in IMAGES
    },
    **{f"max_unpool{n}d": {"indices": np.zeros(IMAGES[n].shape, int)} for n in IMAGES},
    **dict.fromkeys(("batch_norm", "instance_norm"), STATISTICS),
    **dict.fromkeys(("huber_loss", "kl_div", "l1_loss", "mse_loss", "smooth_l1_loss"), PAIR),
    **{
        name: {"input": floats(3, 4), "target": CLASSES, "weight": floats(4)}
        for name in ("cross_entropy", "nll_loss")
    },
    "binary_cross_entropy": {**PAIR, "weight": floats(4)},
    "binary_cross_entropy_with_logits": {**PAIR, "weight": floats(4), "pos_weight": floats(4)},
    "col2im": {"input": floats(2, 16, 4)},
    "cosine_embedding_loss": {
        "input1": floats(3, 4),
        "input2": floats(3, 4),
        "target": np.array([1, -1, 1]),
    },
    "cosine_similarity": {"x1": floats(3, 4), "x2": floats(3, 4)},
    "fold": {"input": floats(2, 16, 4)},
    "group_norm": {"weight": floats(4), "bias": floats(4)},
    "layer_norm": {"weight": floats(6), "bias": floats(6)},
    "linear": {"input": floats(3, 4), "weight": floats(5, 4), "bias": floats(5)},
    "prelu": {"weight": floats(4)},
}
OPTIONS = {
    **{
        name: {"kernel_size": 2}
        for name in F.__all__
        if name.endswith(("pool1d", "pool2d", "pool3d"))
    },
    **{name: {"output_size": 2} for name in F.__all__ if name.startswith("adaptive")},
    **{f"lp_pool{n}d": {"norm_type": 2.0, "kernel_size": 2} for n in IMAGES},
    **{f"max_unpool{n}d": {"kernel_size": 2} for n in IMAGES},
    **{name: {"dim": 1} for name in ("log_softmax", "softmax", "softmin")},
    **{name: {"kernel_size": 3} for name in ("im2col", "unfold")},
    **{name: {"output_size": (3, 3), "kernel_size": 2} for name in ("col2im", "fold")},
    "alpha_dropout": {"training": True},
    "channel_shuffle": {"groups": 2},
    "group_norm": {"num_groups": 2},
    "interpolate": {"scale_factor": 1.5},
    "layer_norm": {"normalized_shape": 6},
    "pad": {"pad": (1, 2)},
    "pixel_shuffle": {"upscale_factor": 2},
    "pixel_unshuffle": {"downscale_factor": 2},
}
every_operator = pytest.mark.parametrize("name", F.__all__)


def arrays_of(name):
    """Copies of an operator's arrays: of an image, unless the table has another input."""
    dims = int(name[-2]) if name[-2:] in ("1d", "2d", "3d") else 2
    own = ARRAYS.get(name, {})
    first = next(iter(inspect.signature(getattr(F, name)).parameters))
    arrays = own if first in own else {first: IMAGES[dims], **own}
    return {key: array.copy() for key, array in arrays.items()}


def run(name, arrays, **options):
    """The operator's result, random numbers always the same."""
    fastconv.manual_seed(0)
    return getattr(F, name)(**arrays, **OPTIONS.get(name, {}), **options)


class Metres(np.ndarray):
    """A subclass as those with units are: it is told of every view, and guards its arithmetic."""

    def __array_finalize__(self, other):
        self.unit = getattr(other, "unit", "m")

    def __array_ufunc__(self, *args, **options):
        raise AssertionError("computed with the subclass")


class Frame:
    """As a data frame, it is no ndarray and has one."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array if dtype is None else self.array.astype(dtype)


def memmap(array, path, mode):
    """The array in a file."""
    array.tofile(path)
    return np.memmap(path, array.dtype, mode, shape=array.shape)


# What works in place of an array, made of one and a path for a file.
GUESTS = {
    "subclass": lambda array, path: array.view(Metres),
    "record array": lambda array, path: array.view(np.recarray),
    "memmap": lambda array, path: memmap(array, path, "r+"),
    "read-only memmap": lambda array, path: memmap(array, path, "r"),
    "matrix": lambda array, path: array.view(np.matrix) if array.ndim == 2 else array,
    "data frame": lambda array, path: Frame(array),
    "list": lambda array, path: array.tolist(),
    **{kind: lambda array, path, kind=kind: layouts(array)[kind] for kind in layouts(np.ones(1))},
}
UPDATED = ("subclass", "record array", "memmap")  # and other arrays that can be written to


def masked(array):
    """With one value masked out."""
    mask = np.zeros(array.shape, bool)
    mask.flat[0] = True
    return np.ma.MaskedArray(array, mask)


@every_operator
def test_what_has_an_array_is_as_good_as_one(name, tmp_path):
    arrays = arrays_of(name)
    expected = run(name, arrays)
    for kind, make in GUESTS.items():
        given = arrays_of(name)
        for key, array in given.items():
            if "running" not in key or kind in UPDATED:
                given[key] = make(array, tmp_path / key)
        result = run(name, given)
        assert type(result) is np.ndarray, kind
        # NumPy's sums follow the memory order
        assert_allclose(result, expected, rtol=1e-14, err_msg=kind)
        for key, array in arrays.items():  # as they were, or updated where they are
            assert_array_equal(np.asarray(given[key]), array, err_msg=kind)


@every_operator
def test_a_mask_is_never_lost(name):
    for key, array in arrays_of(name).items():
        with pytest.raises(TypeError, match=rf"^{key} is a masked array.*{key}\.filled\(value\)"):
            run(name, {**arrays_of(name), key: masked(array)})
        if "running" not in key and array.ndim > 1:
            with pytest.raises(TypeError, match=rf"^{key}\[0\] is a masked array"):
                run(name, {**arrays_of(name), key: [masked(part) for part in array]})


@every_operator
def test_another_dtype_is_told_what_to_do(name):
    dtypes = {np.dtype(d) for d in ("float16", "uint8", "int64", "bool", "object", "longdouble")}
    arrays = {key: array for key, array in arrays_of(name).items() if array.dtype.kind == "f"}
    for dtype in dtypes - {np.dtype(float)}:
        for key, array in arrays.items():
            says = rf"^{key} .* {dtype}.*; convert it first, {key}\.astype\(np\.float(32|64)\)"
            with pytest.raises(TypeError, match=says):
                run(name, {**arrays_of(name), key: array.astype(dtype)})


@every_operator
def test_whole_numbers_have_any_integer_dtype(name):
    arrays = arrays_of(name)
    expected = run(name, arrays)
    for dtype in (np.int8, np.int32, ">i8"):
        given = {k: a if a.dtype.kind == "f" else a.astype(dtype) for k, a in arrays.items()}
        assert_array_equal(run(name, given), expected)


@every_operator
def test_numbers_may_be_arrays_without_axes(name):
    parameters = inspect.signature(getattr(F, name)).parameters
    numbers = {key: p.default for key, p in parameters.items()} | OPTIONS.get(name, {})
    numbers = {key: n for key, n in numbers.items() if type(n) in (int, float)}
    rest = {key: n for key, n in OPTIONS.get(name, {}).items() if key not in numbers}
    expected = run(name, arrays_of(name))
    for make in (np.array, lambda number: np.array(number)[()]):  # and of NumPy's own types
        made = {key: make(number) for key, number in numbers.items()}
        fastconv.manual_seed(0)
        assert_array_equal(getattr(F, name)(**arrays_of(name), **rest, **made), expected)


@every_operator
def test_no_images_are_no_error(name):
    batched = ("input", "target", "indices", "input1", "input2", "x1", "x2")
    arrays = {k: a[:0] if k in batched else a for k, a in arrays_of(name).items()}
    sums = {"reduction": "none"} if "loss" in name or "entropy" in name or name == "kl_div" else {}
    fastconv.manual_seed(0)
    assert len(getattr(F, name)(**arrays, **OPTIONS.get(name, {}), **sums)) == 0


IMAGE = IMAGES[2].astype(np.float32)
MASKED = masked(IMAGE)
PLAIN = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
MATRIX = PLAIN.view(np.matrix)
IS_MASKED = r"is a masked array; fill its gaps first, .*\.filled\(value\)"
SUMS = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / b,
    "power": lambda a, b: a**b,
    "product": lambda a, b: a @ b,
    "less": lambda a, b: a < b,
    "maximum": fastconv.maximum,
    "minimum": fastconv.minimum,
    "clamp": fastconv.clamp,
    "where": lambda a, b: fastconv.where(PLAIN > 2, a, b),
    "cat": lambda a, b: fastconv.cat([a, b]),
    "stack": lambda a, b: fastconv.stack([a, b]),
    "matmul": fastconv.matmul,
}


@pytest.mark.parametrize("name", SUMS)
def test_arithmetic_with_guests(name):
    function = SUMS[name]
    sides = 1 if name in ("power", "less") else 2  # on the left, both are the guest's own
    other = floats(2, 2).astype(np.float32)
    for a, b in ((PLAIN, other), (other, PLAIN)):
        expected = np.asarray(function(Tensor(a), Tensor(b)))
        for x, y in ((Tensor(a), b.view(Metres)), (a.view(np.matrix), Tensor(b)))[:sides]:
            result = function(x, y)
            assert type(result.data if isinstance(result, Tensor) else result) is np.ndarray
            assert_array_equal(result, expected)
        for x, y in ((Tensor(a), masked(b)), (masked(a), Tensor(b)))[:sides]:
            with pytest.raises(TypeError, match=IS_MASKED):
                function(x, y)


def test_functions_of_guests():
    for function in (fastconv.exp, fastconv.log, fastconv.sqrt):
        result = function(PLAIN.view(Metres))
        assert type(result) is np.ndarray
        assert_array_equal(result, function(PLAIN))
        with pytest.raises(TypeError, match=f"^input {IS_MASKED}"):
            function(masked(PLAIN))


def test_tensors_of_guests(tmp_path):
    for guest in (MATRIX, PLAIN.view(Metres), memmap(PLAIN, tmp_path / "file", "r+")):
        tensor = Tensor(guest, requires_grad=True)
        assert type(tensor.data) is np.ndarray
        assert np.shares_memory(tensor.data, guest)
        (tensor * tensor).sum().backward()
        assert type(tensor.grad) is np.ndarray
        assert_array_equal(tensor.grad, 2 * PLAIN)
        tensor[np.array([0, 1])].backward(MATRIX)
        assert_array_equal(tensor.grad, 3 * PLAIN)
    assert Tensor(Frame(PLAIN.astype(float))).dtype == np.float64  # it is not of Python's floats
    for lose in (
        lambda: Tensor(masked(PLAIN)),
        lambda: Tensor([masked(PLAIN), PLAIN]),
        lambda: nn.Parameter(masked(PLAIN)),
        lambda: tensor.backward(masked(PLAIN)),
        lambda: tensor[np.ma.array([0, 1], mask=[True, False])],
        lambda: tensor[0, np.ma.array([0, 1], mask=[True, False])],
    ):
        with pytest.raises(TypeError, match=IS_MASKED):
            lose()


def test_large_tensors_of_another_byte_order(rng):
    x = rng.standard_normal((2, 300, 300))
    swapped = Tensor(x.astype(x.dtype.newbyteorder()), requires_grad=True)
    (swapped + swapped).sum().backward()
    assert_array_equal(swapped.grad, np.full_like(x, 2))
    assert_array_equal((swapped + swapped).data, x + x)


def test_what_cannot_be_changed_in_place_says_so(tmp_path):
    path = tmp_path / "file"
    for array in (memmap(IMAGE, path, "r"), Tensor(memmap(IMAGE, path, "r"))):
        for function in (F.relu, F.dropout):
            with pytest.raises(ValueError, match=r"^input must be a writeable array"):
                function(array, inplace=True)
    with pytest.raises(ValueError, match=r"^input must be a writeable array .* got list"):
        F.relu([1.0, -1.0], inplace=True)
    for guest in (PLAIN.copy().view(Metres), memmap(PLAIN, path, "r+")):
        guest[...] = -PLAIN
        assert F.relu(guest, inplace=True) is guest
        assert_array_equal(np.asarray(guest), np.zeros((2, 2)))


def test_modules_and_guests(tmp_path):
    layer = nn.Conv2d(4, 2, 3)
    state = {"weight": memmap(np.ones((2, 4, 3, 3)), tmp_path / "w", "r"), "bias": [0, 0]}
    layer.load_state_dict(state)
    image = memmap(IMAGE, tmp_path / "x", "r")
    assert_array_equal(layer(image).data, layer(IMAGE).data)
    weights = memmap(np.ones(3, np.float32), tmp_path / "weights", "r")
    loss = nn.CrossEntropyLoss(weights)
    assert type(loss.weight) is np.ndarray
    for lose in (
        lambda: layer(MASKED),
        lambda: layer(input=MASKED),
        lambda: loss(np.zeros((2, 3), np.float32), masked(np.array([0, 1]))),
        lambda: nn.CrossEntropyLoss(masked(np.ones(3))),
        lambda: layer.register_buffer("mean", masked(np.ones(3))),
        lambda: layer.load_state_dict({**state, "bias": masked(np.zeros(2))}),
    ):
        with pytest.raises(TypeError, match=IS_MASKED):
            lose()
    with pytest.raises(TypeError, match=r"uint8; convert it first, input\.astype\(np\.float32\)"):
        layer(np.zeros((1, 4, 8, 8), np.uint8))


@pytest.mark.parametrize("kind", [optim.SGD, optim.Adam, optim.AdamW])
def test_optimizers_and_guests(kind, tmp_path):
    def stepped(data, grad, lr):
        x = Tensor(data, requires_grad=True)
        x.grad = grad
        optimizer = kind([x], lr=lr)
        optimizer.step()
        _, meta = optim.pack_state(optimizer.state_dict())
        assert meta["param_groups"][0]["lr"] == 0.125
        return x.data

    expected = stepped(PLAIN.copy(), PLAIN, 0.125)
    file = memmap(PLAIN, tmp_path / "file", "r+")
    for start, grad in ((file, PLAIN), (PLAIN, MATRIX), (PLAIN, PLAIN.view(Metres))):
        for lr in (np.float32(0.125), np.array(0.125)):
            assert_array_equal(stepped(start.copy(), grad, lr), expected)
    assert np.shares_memory(stepped(file, PLAIN, 0.125), file)
    assert_array_equal(file, expected)
    with pytest.raises(TypeError, match=rf"grad {IS_MASKED}"):
        stepped(PLAIN.copy(), masked(PLAIN), 0.125)
    with pytest.raises(ValueError, match=r"data must be writable, got a read-only array"):
        stepped(memmap(PLAIN, tmp_path / "file", "r"), PLAIN, 0.125)


def test_plans_and_guests(tmp_path):
    model = nn.Sequential(nn.Conv2d(4, 2, 3), nn.ReLU())
    plan = fastconv.compile(model, memmap(IMAGE, tmp_path / "file", "r"))
    expected = plan(IMAGE)
    for kind in GUESTS.keys() - {"data frame", "list"}:
        result = plan(GUESTS[kind](IMAGE, tmp_path / "file"))
        assert type(result) is np.ndarray
        assert_array_equal(result, expected, err_msg=kind)
    swapped = fastconv.compile(model, layouts(IMAGE)["byte-swapped"])
    assert_array_equal(swapped(IMAGE), expected)
    out = memmap(np.zeros_like(expected), tmp_path / "out", "r+")
    assert_array_equal(plan(IMAGE, out=out), expected)
    assert_array_equal(np.asarray(out), expected)
    for lose in (
        lambda: fastconv.compile(model, MASKED),
        lambda: plan(MASKED),
        lambda: plan(IMAGE, out=masked(expected)),
    ):
        with pytest.raises(TypeError, match=IS_MASKED):
            lose()
    with pytest.raises(TypeError, match=r"float16; convert it first, .*astype\(np\.float32\)"):
        plan(IMAGE.astype(np.float16))


def test_operators_and_guests(tmp_path):
    w, x = np.ones((1, 1, 3, 3)), floats(36)
    made = linalg.conv_operator(memmap(w, tmp_path / "w", "r"), np.array([1, 6, 6]), padding=1)
    expected = made @ x
    for guest in (memmap(x, tmp_path / "x", "r"), x.view(np.recarray), x.astype(">f8")):
        assert_array_equal(made @ guest, expected)
    assert_array_equal(made @ x[:, None].view(np.matrix), expected[:, None])
    assert_array_equal(linalg.conv_matrix(w.view(Metres), (1, 6, 6), np.array(1), 1) @ x, expected)
    for lose in (
        lambda: made @ masked(x),
        lambda: made.rmatvec(masked(x)),
        lambda: linalg.conv_operator(masked(w), (1, 6, 6)),
        lambda: linalg.conv_matrix(masked(w), (1, 6, 6)),
    ):
        with pytest.raises(TypeError, match=IS_MASKED):
            lose()


def test_data_of_guests(tmp_path):
    pixels = RNG.integers(0, 255, (6, 1, 8, 8)).astype(np.uint8)
    labels = np.array([0, 1, 0, 1, 1, 0])
    dataset = Dataset(memmap(pixels, tmp_path / "x", "r"), labels.view(Metres), ("a", "b"))
    part = dataset.subset(memmap(labels, tmp_path / "y", "r") == 1)
    assert type(part.x) is type(part.y) is np.ndarray
    assert_array_equal(part.x, pixels[labels == 1])
    batches = data.Minibatches(dataset.x, dataset.y, batch_size=4, shuffle=False)
    assert all(type(array) is np.ndarray for batch in batches for array in batch)
    moved = data.RandomShift(1)(pixels.view(Metres), np.random.default_rng(0))
    assert type(moved) is np.ndarray
    assert_array_equal(moved, data.RandomShift(1)(pixels, np.random.default_rng(0)))
    for lose in (
        lambda: Dataset(masked(pixels), labels, ("a", "b")),
        lambda: Dataset(pixels, masked(labels), ("a", "b")),
        lambda: dataset.subset(masked(labels)),
        lambda: data.Minibatches(pixels, masked(labels), batch_size=2),
        lambda: data.RandomFlip()(masked(pixels), np.random.default_rng(0)),
        lambda: fastconv.save({"weight": masked(PLAIN)}, tmp_path / "w.npz"),
    ):
        with pytest.raises(TypeError, match=IS_MASKED):
            lose()
    for wrong, says in (
        ((pixels.astype(int), labels), r"x\.astype\(np\.float32\)"),
        ((pixels, labels.astype(np.int32)), r"y\.astype\(np\.int64\)"),
    ):
        with pytest.raises(TypeError, match=f"convert it first, {says}"):
            Dataset(*wrong, ("a", "b"))


def test_a_classifier_takes_pixels_of_any_dtype(tmp_path):
    pixels = RNG.integers(0, 255, (3, 1, 28, 28))
    model = fastconv.models.build("lenet", {"in_channels": np.int64(1), "num_classes": np.int64(2)})
    classifier = Classifier(model, ("a", "b"), 1, (28, 28), (np.float32(0.5),), (np.array(2.0),))
    expected = classifier.probabilities(pixels.astype(np.float32))
    assert expected.dtype == np.float32
    for given in (*(pixels.astype(t) for t in ("u1", "f2", "f8", ">f8")), pixels, pixels.tolist()):
        assert_array_equal(classifier.probabilities(given), expected)
    with pytest.raises(TypeError, match=IS_MASKED):
        classifier.probabilities(masked(pixels))
    path = tmp_path / "numbers.npz"  # as Python's numbers in its metadata
    classifier.save(path)
    assert_array_equal(Classifier.load(path).probabilities(pixels), expected)
