"""Convolutions as matrices and as linear operators."""

import inspect
import math
import pickle

import naive
import numpy as np
import pytest
import scipy
from conftest import integers
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage, signal
from scipy.sparse import csr_array
from scipy.sparse.linalg import LinearOperator, cg, lsmr, lsqr, svds
from strategies import DTYPES, convolutions, layouts, seeds

import fastconv
import fastconv.functional as F
from fastconv import linalg, nn
from fastconv.kernels import sparse
from fastconv.linalg import conv_matrix, conv_operator

MODES = ("zeros", "reflect", "replicate", "circular")
every_mode = pytest.mark.parametrize("mode", MODES)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)
# (weight, input, options)
CASES = {
    "1d": ((1, 1, 3), (1, 7), {"padding": 1}),
    "1d all": (
        (6, 2, 4),
        (4, 13),
        {"stride": 3, "padding": ((5, 2),), "dilation": 2, "groups": 2},
    ),
    "2d": ((1, 1, 3, 3), (1, 6, 5), {"padding": 1}),
    "2d channels": ((3, 2, 3, 2), (2, 5, 6), {"padding": "same"}),
    "2d pointwise": ((4, 3, 1, 1), (3, 4, 5), {}),
    "2d all": (
        (4, 2, 2, 3),
        (4, 6, 9),
        {"stride": (2, 1), "padding": ((2, 1), (0, 3)), "dilation": (1, 2), "groups": 2},
    ),
    "2d depthwise": ((6, 1, 3, 3), (3, 5, 4), {"padding": 2, "groups": 3, "stride": 2}),
    "2d wide": ((1, 1, 9, 1), (1, 5, 3), {"padding": (4, 0)}),
    "2d many channels": ((17, 16, 3, 3), (16, 3, 4), {"padding": 1}),
    "3d": ((2, 2, 2, 3, 1), (2, 4, 5, 3), {"padding": (1, 2, 0), "stride": (1, 2, 1)}),
}
every_case = pytest.mark.parametrize(("w_shape", "shape", "options"), CASES.values(), ids=CASES)


def padded(x, padding, mode, kernel, dilation):
    """Images (N, C, *spatial) with what stands outside them, and the padding that is left."""
    if mode == "zeros":
        return x, padding
    dims = x.ndim - 2
    if padding == "same":
        padding = naive.same_padding(kernel, naive.per_axis(dilation, dims))
    pairs = naive.pad_pairs(padding, dims)
    return naive.pad(x, [side for pair in pairs[::-1] for side in pair], mode), 0


def expected(x, w, mode, stride=1, padding=0, dilation=1, groups=1):
    """Convolution of images by its definition."""
    kernel = w.shape[2:]
    if padding == "same":
        padding = naive.same_padding(kernel, naive.per_axis(dilation, len(kernel)))
    x, padding = padded(x, padding, mode, kernel, dilation)
    return naive.conv(x, w, None, stride, padding, dilation, groups)


def dense(w, shape, mode, **options):
    """The matrix, column by column: what becomes of each basis image."""
    size = math.prod(shape)
    return expected(np.eye(size).reshape(size, *shape), w, mode, **options).reshape(size, -1).T


def assert_is_the_convolution(w, shape, mode, options, rng):
    """Exactly, for small integers."""
    truth = dense(w, shape, mode, **options)
    matrix = conv_matrix(w, shape, padding_mode=mode, **options)
    assert isinstance(matrix, csr_array)
    assert matrix.shape == truth.shape
    assert matrix.dtype == w.dtype
    assert matrix.indices.dtype == matrix.indptr.dtype == np.int32
    matrix.check_format(full_check=True)
    assert matrix.has_canonical_format
    assert_array_equal(matrix.toarray(), truth)

    apart, index = conv_matrix(w, shape, padding_mode=mode, return_index=True, **options)
    apart.check_format(full_check=True)
    assert_array_equal(apart.data, w.ravel()[index])
    assert_array_equal(apart.toarray(), truth)

    operator = conv_operator(w, shape, padding_mode=mode, **options)
    assert isinstance(operator, LinearOperator)
    assert operator.shape == truth.shape
    assert operator.dtype == w.dtype
    assert operator.input_shape == shape
    assert math.prod(operator.output_shape) == len(truth)
    x, y = (integers(rng, (n, 3), w.dtype) for n in truth.shape[::-1])
    for product, reference in (
        (operator.matvec(x[:, 0]), truth @ x[:, 0]),
        (operator.rmatvec(y[:, 0]), truth.T @ y[:, 0]),
        (operator @ x, truth @ x),
        (operator.T @ y, truth.T @ y),
        (operator.H @ y[::1, ::-1], truth.T @ y[:, ::-1]),
    ):
        assert product.dtype == w.dtype
        assert_array_equal(product, reference)


@every_case
@every_mode
@every_dtype
def test_products_are_the_convolution(w_shape, shape, options, mode, dtype, rng):
    assert_is_the_convolution(integers(rng, w_shape, dtype), shape, mode, options, rng)


@every_mode
@settings(max_examples=20)
@given(case=convolutions(), seed=seeds(), data=st.data())
def test_products_of_any_geometry(mode, case, seed, data):
    options, shape = dict(case.options), case.x_shape[1:]
    if mode != "zeros":  # a border no wider than its mode allows, and a kernel that fits
        widest = [{"reflect": n - 1, "circular": n}.get(mode, 4) for n in shape[1:]]
        pairs = np.minimum(options["padding"], np.reshape(widest, (-1, 1)))
        options["padding"] = tuple(map(tuple, pairs.tolist()))
        spans = np.multiply(options["dilation"], np.subtract(case.w_shape[2:], 1)) + 1
        if (shape[1:] + pairs.sum(axis=1) < spans).any():
            return
    if math.prod(shape) > 150:
        return
    rng = np.random.default_rng(seed)
    assert_is_the_convolution(integers(rng, case.w_shape), shape, mode, options, rng)


@pytest.mark.parametrize(
    ("mode", "theirs"),
    [("zeros", "constant"), ("reflect", "mirror"), ("replicate", "nearest"), ("circular", "wrap")],
)
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_stencils_are_scipys(mode, theirs, dims, rng):
    x = integers(rng, (7, 6, 5)[:dims])
    w = integers(rng, (5, 3, 3)[:dims])
    options = {"padding": "same", "padding_mode": mode}
    result = ndimage.correlate(x, w, mode=theirs).ravel()
    assert_array_equal(conv_matrix(w[None, None], (1, *x.shape), **options) @ x.ravel(), result)
    assert_array_equal(conv_operator(w[None, None], (1, *x.shape), **options) @ x.ravel(), result)
    if mode == "zeros":
        assert_array_equal(signal.correlate(x, w, "same", "direct").ravel(), result)


@every_mode
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_layers_of_torch_and_ours(mode, dims, rng):
    torch = pytest.importorskip("torch")
    arguments = (4, 6, 3, 2, 2, 1, 2, False, mode)
    theirs = getattr(torch.nn, f"Conv{dims}d")(*arguments).double()
    ours = getattr(nn, f"Conv{dims}d")(*arguments).double()
    ours.load_state_dict(theirs.state_dict())
    shape = (4, 7, 6, 5)[: dims + 1]
    x, y = rng.standard_normal(shape), None
    leaf = torch.tensor(x[None], requires_grad=True)
    result = theirs(leaf)
    y = rng.standard_normal(result.shape)
    result.backward(torch.tensor(y))
    tensor = fastconv.Tensor(x[None], requires_grad=True)
    output = ours(tensor)
    output.backward(y)
    operator = conv_operator(ours.weight, shape, 2, 2, 1, 2, mode)
    assert operator.output_shape == tuple(result.shape[1:])
    close = {"rtol": 1e-12, "atol": 1e-12}
    for found in (output.data.ravel(), operator @ x.ravel()):
        assert_allclose(found, result.detach().numpy().ravel(), **close)
    for found in (tensor.grad.ravel(), operator.rmatvec(y.ravel())):
        assert_allclose(found, leaf.grad.numpy().ravel(), **close)


# The matrix


@every_case
@every_mode
def test_gradient_of_a_kernel_entry_is_the_sum_of_those_of_its_entries(
    w_shape, shape, options, mode, rng
):
    w, x = integers(rng, w_shape), integers(rng, shape)
    matrix, index = conv_matrix(w, shape, padding_mode=mode, return_index=True, **options)
    g = integers(rng, matrix.shape[0])
    entries = matrix.tocoo()
    rows, columns = entries.row, entries.col
    of_entries = g[rows] * x.ravel()[columns]  # of sum(g * (W @ x)) by each entry of W
    found = np.bincount(index, of_entries, w.size).reshape(w.shape)

    out = expected(x[None], w, mode, **options)
    kernel, padding = w.shape[2:], options.get("padding", 0)
    if padding == "same":
        padding = naive.same_padding(kernel, (1,) * len(kernel))
    image, padding = padded(x[None], padding, mode, kernel, options.get("dilation", 1))
    rest = {k: v for k, v in options.items() if k != "padding"}
    truth = naive.conv_grad_weight(g.reshape(out.shape), image, w.shape, padding=padding, **rest)
    assert_array_equal(found, truth)


def test_structure_depends_on_shapes_alone():
    w = np.zeros((1, 1, 3, 3))
    matrix = conv_matrix(w, (1, 256, 256), padding=1)
    assert matrix.nnz == (3 * 256 - 2) ** 2
    matrix = conv_matrix(w, (1, 256, 256), padding=1, padding_mode="circular")
    assert_array_equal(np.diff(matrix.indptr), 9)
    assert matrix.sum() == 0


def test_windows_that_miss_the_image_are_empty_rows():
    matrix = conv_matrix(np.ones((1, 1, 2)), (1, 1), padding=5, dilation=10)
    assert matrix.shape == (1, 1)
    assert matrix.nnz == 0
    matrix = conv_matrix(np.ones((1, 1, 1)), (1, 2), padding=3)
    assert_array_equal(np.diff(matrix.indptr), [0, 0, 0, 1, 1, 0, 0, 0])


def test_indices_are_as_wide_as_they_must_be(monkeypatch):
    far = conv_matrix(np.array([[[2.0]]]), (1, 2**31 + 5), stride=2**30)
    assert far.indices.dtype == np.int64
    assert_array_equal(far.indices, [0, 2**30, 2**31])
    assert_array_equal(far.data, 2)
    w = np.arange(1.0, 19).reshape(1, 2, 3, 3)
    narrow = conv_matrix(w, (2, 5, 6), padding=1)
    taken = []

    def noted(*arguments):
        taken.append(arguments[7].dtype)
        return fill(*arguments)

    fill = sparse.conv_matrix
    monkeypatch.setattr(linalg, "LARGEST_INT32", 5)
    monkeypatch.setattr(sparse, "conv_matrix", noted)
    wide = conv_matrix(w, (2, 5, 6), padding=1)
    assert taken == [np.int64]
    assert_array_equal(wide.toarray(), narrow.toarray())


@pytest.mark.usefixtures("keep_threads")
def test_matrices_are_the_same_for_any_number_of_threads_and_layout(rng):
    w = rng.standard_normal((4, 3, 5, 5)).astype(np.float32)
    found = []
    for threads in (1, 3):
        fastconv.set_num_threads(threads)
        for weight in (w, *layouts(w).values()):
            m = conv_matrix(weight, (3, 60, 50), padding=2, padding_mode="reflect")
            a = conv_operator(weight, (3, 60, 50), padding=2, padding_mode="reflect")
            x, y = np.arange(a.shape[1]) % 13 - 6.0, np.arange(a.shape[0]) % 11 - 5.0
            parts = (m.data, m.indices, m.indptr, a @ x, a.T @ y)
            found.append([part.tobytes() for part in parts])
    assert all(other == found[0] for other in found)


@every_mode
@every_dtype
@pytest.mark.parametrize(
    ("w_shape", "shape", "options"),
    [
        ((3, 3), (5, 150), {"padding": 1}),
        ((3, 3), (4, 9), {"padding": ((2, 3), (4, 1)), "stride": (2, 1)}),
        ((2, 80), (3, 131), {"padding": ((0, 1), (40, 60))}),  # more by the edge than a piece of it
        ((1, 70), (3, 40), {"padding": (0, 39)}),  # no pixel without an edge
        ((3, 5), (7, 70), {"padding": (4, 8), "dilation": (3, 4)}),
        ((1, 2), (1, 2), {"padding": ((0, 0), (0, 1))}),
        ((7,), (4200,), {"padding": 3}),  # in parts
        ((2, 3, 3), (3, 4, 90), {"padding": 1}),
    ],
)
def test_planes_of_any_boundary(w_shape, shape, options, mode, dtype, rng):
    w, x = integers(rng, (1, 1, *w_shape), dtype), integers(rng, (2, 1, *shape), dtype)
    operator = conv_operator(w, (1, *shape), padding_mode=mode, **options)
    truth = expected(x, w, mode, **options)
    assert_array_equal(operator @ x.reshape(2, -1).T, truth.reshape(2, -1).T)


@pytest.mark.usefixtures("keep_threads")
@every_dtype
def test_planes_are_the_same_for_any_number_of_threads(dtype, rng):
    w = rng.standard_normal((1, 1, 5, 5)).astype(dtype)
    a, periodic = (
        conv_operator(w, (1, 90, 2100), padding=2, padding_mode=mode)
        for mode in ("zeros", "circular")
    )
    x = rng.standard_normal(a.shape[1]).astype(dtype)
    found = []
    for threads in (1, 2, 3):
        fastconv.set_num_threads(threads)
        found.append((a @ x).tobytes() + (a.T @ x).tobytes() + (periodic @ x).tobytes())
    assert len(set(found)) == 1
    result = (a @ x).reshape(90, 2100)
    around = a.T.matvec(np.eye(1, x.size, 1000).ravel()).reshape(90, 2100)[:3, 998:1003]
    truth = signal.correlate(x.reshape(90, 2100).astype(float), _kernel(a), "same", "direct")
    assert_allclose(result, truth, atol=(1e-5 if dtype == np.float32 else 1e-13))
    assert_allclose(around, _kernel(a)[2:], rtol=1e-6)


def _kernel(operator):
    """A 5x5 kernel, by what becomes of a point: mirrored."""
    _, height, width = operator.input_shape
    point = np.zeros((height, width), operator.dtype)
    point[10, 10] = 1
    spread = (operator @ point.ravel()).reshape(height, width)
    return spread[8:13, 8:13][::-1, ::-1].astype(float)


@pytest.mark.parametrize("return_index", [False, True])
@pytest.mark.parametrize(
    ("w_shape", "shape", "options"),
    [
        ((1, 1, 3), (1, 2**40), {}),
        ((1, 1, 1, 1), (1, 2**19, 2**19), {}),
        ((64, 64, 3, 3), (64, 2000, 2000), {"padding": 1}),
        ((1, 1, 2), (1, 1), {"padding": 2**39}),
        ((1, 1, 2**14), (1, 2**24), {"padding": 2**14, "padding_mode": "circular"}),
        ((1, 1, 10**6, 2), (1, 2 * 10**6, 1), {"padding": (0, 5), "dilation": (1, 10)}),
    ],
)
def test_matrices_that_are_too_large_are_refused(w_shape, shape, options, return_index):
    with pytest.raises(MemoryError, match=r"matrix .* GB, this process may use") as caught:
        conv_matrix(np.zeros(w_shape), shape, return_index=return_index, **options)
    for value in (shape, w_shape):
        assert str(value) in str(caught.value)


# The operator


@every_mode
@pytest.mark.parametrize("algorithm", ["direct", "gemm"])
@pytest.mark.parametrize(("dtype", "limit"), [(np.float32, 1e-6), (np.float64, 1e-15)])
def test_adjoint_is_exact(mode, algorithm, dtype, limit, rng):
    """<A x, y> and <x, A^T y> differ by rounding only, relative to what is summed."""
    for w_shape, shape, options in (*CASES.values(), ((1, 1, 7, 7), (1, 64, 50), {"padding": 3})):
        w = rng.standard_normal(w_shape).astype(dtype)
        a = conv_operator(w, shape, padding_mode=mode, algorithm=algorithm, **options)
        x, y = (rng.standard_normal(n).astype(dtype) for n in a.shape[::-1])
        ax, aty = a.matvec(x), a.rmatvec(y)
        assert ax.dtype == aty.dtype == dtype
        left, right = (math.fsum(p * q) for p, q in ((ax.astype(float), y), (x, aty.astype(float))))
        scale = np.linalg.norm(ax.astype(float)) * np.linalg.norm(y.astype(float))
        assert abs(left - right) <= limit * scale


def test_auto_and_winograd_are_chosen_where_asked_for(rng):
    w = rng.standard_normal((32, 32, 3, 3)).astype(np.float32)
    x = rng.standard_normal(32 * 30 * 30).astype(np.float32)
    truth = conv_operator(w.astype(float), (32, 30, 30), padding=1) @ x.astype(float)
    errors = {}
    for algorithm in ("direct", "gemm", "winograd", "auto"):
        a = conv_operator(w, (32, 30, 30), padding=1, algorithm=algorithm)
        errors[algorithm] = np.abs(a @ x - truth).max() / np.abs(truth).max()
    assert errors["direct"] < 2e-6 > errors["gemm"]
    assert max(errors.values()) < 3e-5
    with fastconv.algorithm("gemm"):
        a = conv_operator(w, (32, 30, 30), padding=1, algorithm=None)
    expected = F.conv2d(x.reshape(1, 32, 30, 30), w, padding=1, algorithm="gemm")
    assert_array_equal(a @ x, expected.ravel())


@every_mode
def test_solvers_of_scipy(mode, rng):
    w = np.array([[[[0.2, 0.5, 0.1], [0.4, 3.0, 0.3], [0.2, 0.6, 0.1]]]])
    a = conv_operator(w, (1, 9, 8), padding=1, padding_mode=mode)
    matrix = dense(w, (1, 9, 8), mode, padding=1)
    x = rng.standard_normal(72)
    b = a @ x
    assert_allclose(lsqr(a, b, atol=1e-13, btol=1e-13)[0], x, atol=1e-9)
    assert_allclose(lsmr(a, b, atol=1e-13, btol=1e-13)[0], x, atol=1e-9)
    tolerance = "rtol" if "rtol" in inspect.signature(cg).parameters else "tol"  # before SciPy 1.12
    solution, failed = cg(a.T @ a, a.T @ b, atol=0, **{tolerance: 1e-13})
    assert not failed
    assert_allclose(solution, x, atol=1e-9)
    values = svds(a, 2, return_singular_vectors=False, random_state=0)
    assert_allclose(np.sort(values)[::-1], np.linalg.svd(matrix)[1][:2], rtol=1e-10)
    single = conv_operator(w.astype(np.float32), (1, 9, 8), padding=1, padding_mode=mode)
    assert_allclose(lsqr(single, b.astype(np.float32), atol=1e-7, btol=1e-7)[0], x, atol=1e-4)


def test_dtypes_of_products_are_those_of_numpy(rng):
    w = integers(rng, (2, 1, 3))
    truth = dense(w, (1, 8), "zeros", padding=1)
    x = integers(rng, 8)
    for weight in DTYPES:
        a = conv_operator(w.astype(weight), (1, 8), padding=1)
        for vector in (np.float32, np.float64, np.int8, np.int64, np.float16, complex, "F", ">f4"):
            for product in (a @ x.astype(vector), a.T @ np.r_[x, x].astype(vector)):
                assert product.dtype == np.result_type(weight, vector).newbyteorder("=")
            assert_array_equal(a @ x.astype(vector), truth @ x)
        assert_array_equal(a @ (x + 2j * x[::-1]), truth @ (x + 2j * x[::-1]))
        assert_array_equal(a.T @ (1j * np.r_[x, x]), truth.T @ (1j * np.r_[x, x]))
        for bad in (np.longdouble, object, "U3"):
            with pytest.raises(TypeError):
                a @ x.astype(bad)


def test_operators_keep_their_own_weight_and_are_copied():
    w = np.ones((1, 1, 3, 3), np.float32)
    a = conv_operator(w, (1, 5, 5), padding=1, padding_mode="circular")
    x = np.arange(25, dtype=np.float32)
    before = a @ x
    w[...] = 7
    assert_array_equal(a @ x, before)
    assert_array_equal(pickle.loads(pickle.dumps(a)) @ x, before)


def test_vectors_of_other_lengths_are_refused():
    a = conv_operator(np.ones((2, 1, 3)), (1, 6))
    assert a.shape == (8, 6)
    for product, vectors in (
        (a.matvec, 7),
        (a.rmatvec, 6),
        (a.matmat, (8, 2)),
        (a.rmatmat, (6, 2)),
    ):
        with pytest.raises(ValueError, match=r"[Dd]imension"):
            product(np.ones(vectors))


@pytest.mark.parametrize("batch", [(), (1,), (3,), (8,), (2, 3), (0,)], ids=str)
@pytest.mark.parametrize("dtype", [float, complex])
def test_batches_of_vectors_and_matrices(batch, dtype, rng):
    """SciPy hands them to an operator's own methods from 1.18 on."""
    w = integers(rng, (2, 2, 3))
    a, truth = conv_operator(w, (2, 4), padding=1), dense(w, (2, 4), "zeros", padding=1)
    assert a.shape == (8, 8)  # no size tells rows from columns
    x, columns = (integers(rng, (*batch, *axes)).astype(dtype) for axes in ((8,), (8, 5)))
    if dtype is complex:
        x, columns = x + 1j * x[..., ::-1], columns - 2j * columns[..., ::-1]
    for way, matrix in ("", truth), ("r", truth.T):
        for name, argument, result in (
            (f"{way}matvec", x, x @ matrix.T),
            (f"{way}matmat", columns, matrix @ columns),
        ):
            assert_array_equal(getattr(a, f"_{name}")(argument), result)
            if not batch or np.lib.NumpyVersion(scipy.__version__) >= "1.18.0":
                assert_array_equal(getattr(a, name)(argument), result)
    for count in (0, 1):
        some = columns[..., :count]
        assert_array_equal(a._matmat(some), truth @ some)
        if not batch:
            assert_array_equal(a @ some, truth @ some)


# Both

GOOD = {"weight": np.ones((2, 1, 3, 3)), "input_shape": (1, 6, 5)}


@pytest.mark.parametrize("function", [conv_matrix, conv_operator])
@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"weight": None}, TypeError, ["weight", "None"]),
        ({"weight": np.ones((2, 1, 3, 3), int)}, TypeError, ["weight", "int64"]),
        ({"weight": np.ones((2, 1, 3, 3), complex)}, TypeError, ["weight", "complex128"]),
        ({"weight": np.ones((3, 3))}, ValueError, ["weight", "3 to 5 axes", "(3, 3)"]),
        ({"weight": np.ones((1,) * 6)}, ValueError, ["weight", "3 to 5 axes"]),
        ({"weight": np.ones((0, 1, 3, 3))}, ValueError, ["groups"]),
        ({"weight": np.ones((2, 0, 3, 3))}, ValueError, ["weight", "(2, 0, 3, 3)"]),
        ({"weight": np.ones((2, 1, 0, 3))}, ValueError, ["kernel_size", "0"]),
        ({"weight": np.ones((2, 3, 3, 3))}, ValueError, ["1 channels", "needs 3"]),
        ({"input_shape": 6}, ValueError, ["input_shape", "6"]),
        ({"input_shape": (6, 5)}, ValueError, ["input_shape", "(6, 5)", "2 spatial"]),
        ({"input_shape": (1, 0, 5)}, ValueError, ["input_shape", "0"]),
        ({"input_shape": (1, 6.0, 5)}, TypeError, ["input_shape", "6.0"]),
        ({"input_shape": (1, 2, 5)}, ValueError, ["kernel_size", "(2, 5)"]),
        ({"input_shape": (1, 2**20, 2**30)}, MemoryError, ["memory"]),
        ({"stride": 0}, ValueError, ["stride", "0"]),
        ({"stride": 2, "padding": "same"}, ValueError, ["same", "stride"]),
        ({"padding": -1}, ValueError, ["padding", "-1"]),
        ({"padding": (1, 2, 3)}, ValueError, ["padding", "(1, 2, 3)"]),
        ({"dilation": 1.5}, TypeError, ["dilation", "1.5"]),
        ({"groups": 3}, ValueError, ["groups", "3"]),
        ({"padding_mode": "wrap"}, ValueError, ["padding_mode", "'wrap'", "'circular'"]),
        ({"padding_mode": "circular", "padding": (0, 6)}, ValueError, ["(6, 6)", "circular"]),
        ({"padding_mode": "reflect", "padding": (6, 0)}, ValueError, ["(6, 6)", "reflect"]),
    ],
)
def test_bad_arguments(function, change, error, words):
    if error is MemoryError and function is conv_operator:
        change = {"input_shape": (1, 2**30, 2**30)}
    with pytest.raises(error) as caught:
        function(**GOOD | change)
    for word in words:
        assert word in str(caught.value)


def test_bad_options():
    with pytest.raises(TypeError, match="return_index must be True or False, got 1"):
        conv_matrix(**GOOD, return_index=1)
    with pytest.raises(ValueError, match=r"algorithm must be one of .* got 'fft'"):
        conv_operator(**GOOD, algorithm="fft")
