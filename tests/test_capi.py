"""The C functions, from ctypes: what they compute, what they refuse, and what they leave alone."""

import ctypes
import itertools
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import naive
import numpy as np
import pytest
from conftest import integers
from numpy.testing import assert_allclose, assert_array_equal

import fastconv
import fastconv.functional as F
from fastconv.kernels import _build, direct

pytestmark = pytest.mark.skipif(not direct.SUPPORTED, reason="the compiler has no vectors")
if direct.SUPPORTED:
    c = fastconv.capi.load()
DTYPES = {"float32": 1, "float64": 2, "int32": 3}
CANARY = 0xA5


def describe(array):
    """An ndarray as C sees it."""
    more = (0,) * (5 - array.ndim)
    strides = tuple(step // array.itemsize for step in array.strides)
    return c.array(
        array.ctypes.data, DTYPES[array.dtype.name], array.ndim, array.shape + more, strides + more
    )


def convolution(n, stride=1, padding=0, dilation=1, groups=1):
    pairs = naive.pad_pairs(padding, n)
    return c.conv(
        tuple(naive.per_axis(stride, n)),
        tuple(before for before, _ in pairs),
        tuple(after for _, after in pairs),
        tuple(naive.per_axis(dilation, n)),
        groups,
    )


def pooling(kind, kernel, stride, padding, dilation=1, count_include_pad=True, power=2.0):
    n = len(kernel)
    conv = convolution(n, stride, padding, dilation)
    return c.pool(
        kind, count_include_pad, power, kernel, conv.stride, conv.before, conv.after, conv.dilation
    )


def pointer(argument):
    """What ctypes takes: an array or a structure by its address."""
    if isinstance(argument, np.ndarray):
        argument = describe(argument)
    return ctypes.byref(argument) if isinstance(argument, ctypes.Structure) else argument


def vector(array):
    return None if array is None else array.ctypes.data


def call(name, *arguments, sized=None, threads=2):
    """Run a function in a workspace of just the size that it asks for, and look at its edges."""
    given = [pointer(argument) for argument in arguments]
    sized = given if sized is None else [pointer(argument) for argument in sized]
    needed = getattr(c, f"{name}_workspace")(*sized, threads)
    assert needed >= 0, c.status_text(needed)
    for shift in (0, 1):  # workspaces need no alignment
        block = np.full(needed + 256, CANARY, np.uint8)
        start = block.ctypes.data + 128 + shift
        status = getattr(c, name)(*given, start, needed, threads)
        assert status == 0, c.status_text(status)
        assert (block[: 128 + shift] == CANARY).all()
        assert (block[128 + shift + needed :] == CANARY).all()
    return needed


# The orders that a program may have an (N, C, *spatial) array in.
ORDERS = {
    "C": lambda a: a.copy("C"),
    "Fortran": lambda a: a.copy("F"),
    "channels last": lambda a: np.moveaxis(np.moveaxis(a, 1, -1).copy(), -1, 1),
    "reversed": lambda a: a[:, ::-1].copy()[:, ::-1],
    "in a larger one": lambda a: np.repeat(np.repeat(a, 2, 0), 3, -1)[::2][..., ::3],
}
CONVOLUTIONS = [
    # x, w, stride, padding, dilation, groups
    ((2, 3, 11), (20, 3, 4), 1, 2, 1, 1),
    ((2, 8, 13), (3, 8, 5), 3, ((4, 1),), 1, 1),  # few outputs
    ((2, 5, 9, 7), (17, 5, 3, 2), (2, 1), ((1, 2), (0, 1)), (1, 2), 1),
    ((1, 12, 8, 8), (12, 3, 3, 3), 1, 1, 1, 4),
    ((2, 6, 9, 9), (6, 1, 3, 3), 2, 1, 1, 6),  # depthwise
    ((2, 8, 7, 6), (8, 2, 3, 3), 1, 2, 2, 4),  # narrow groups
    ((1, 2, 5, 6, 7), (33, 2, 2, 3, 2), (1, 2, 3), 1, (2, 1, 1), 1),
    ((1, 16, 12, 12), (40, 16, 3, 3), 1, 1, 1, 1),
    ((2, 1, 9, 11), (1, 1, 3, 4), (2, 1), ((1, 2), (3, 0)), 1, 1),  # planes
    ((1, 1, 7, 12), (1, 1, 3, 3), (1, 2), 1, 2, 1),
    ((3, 4, 6, 6), (5, 4, 1, 1), 4, 0, 1, 1),  # places that no tap reaches
]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_convolution_and_its_gradients(dtype, order, rng):
    order = ORDERS[order]
    for shape, kernel, stride, padding, dilation, groups in CONVOLUTIONS:
        options = stride, padding, dilation, groups
        x, w = (order(integers(rng, size, dtype)) for size in (shape, kernel))
        bias = integers(rng, kernel[0], dtype)
        expected = naive.conv(x, w, bias, *options)
        dy = order(integers(rng, expected.shape, dtype))
        before = [array.tobytes() for array in (x, w, dy)]
        y, dx, dw = (order(np.full(a.shape, np.nan, dtype)) for a in (expected, x, w))
        db = np.full(kernel[0], np.nan, dtype)
        conv = convolution(len(shape) - 2, *options)

        call("conv_forward", conv, x, w, vector(bias), y, sized=(conv, x, w, y))
        call("conv_backward_input", conv, dy, w, dx)
        call("conv_backward_weight", conv, x, dy, dw)
        call("conv_backward_bias", dy, vector(db), sized=(dy,))
        # small integers: sums are exact
        assert_array_equal(y, expected)
        assert_array_equal(dx, naive.conv_grad_input(dy, w, shape, *options))
        assert_array_equal(dw, naive.conv_grad_weight(dy, x, kernel, *options))
        assert_array_equal(db, dy.sum(axis=(0, *range(2, dy.ndim))))
        assert [array.tobytes() for array in (x, w, dy)] == before

        call("conv_forward", conv, x, w, None, y, sized=(conv, x, w, y))
        assert_array_equal(y, naive.conv(x, w, None, *options))


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-6), ("float64", 2e-15)])
def test_convolution_is_that_of_the_library(dtype, tolerance, rng):
    x, w, bias = (
        rng.standard_normal(shape).astype(dtype) for shape in ((2, 24, 30, 31), (48, 24, 3, 3), 48)
    )
    variables = [fastconv.Tensor(array, requires_grad=True) for array in (x, w, bias)]
    out = F.conv2d(*variables, stride=2, padding=1, algorithm="direct")
    dy = rng.standard_normal(out.shape).astype(dtype)
    out.backward(dy)
    conv = convolution(2, 2, 1)
    y, dx, dw, db = (np.empty(t.shape, dtype) for t in (out, *variables))
    call("conv_forward", conv, x, w, vector(bias), y, sized=(conv, x, w, y))
    call("conv_backward_input", conv, dy, w, dx)
    call("conv_backward_weight", conv, x, dy, dw)
    call("conv_backward_bias", dy, vector(db), sized=(dy,))
    assert_array_equal(y, out.data)  # the same loops, the same sums
    for ours, theirs in zip((dx, dw, db), variables, strict=True):
        assert_allclose(ours, theirs.grad, rtol=0, atol=tolerance * 10 * abs(ours).max())
    exact = naive.conv(x, w, bias, 2, 1)
    assert_allclose(y, exact, rtol=0, atol=tolerance * abs(exact).max())


def test_memory_that_lies_well_is_not_copied():
    """Channels-last arrays are read and written in place: the workspace does not hold them."""
    shape, kernel = (4, 16, 64, 64), (16, 16, 3, 3)
    conv = convolution(2, padding=1)
    last = ORDERS["channels last"]
    x, w = last(np.zeros(shape, np.float32)), np.zeros(kernel, np.float32)
    in_place = call("conv_forward", conv, x, w, None, x.copy("K"), sized=(conv, x, w, x))
    copied = np.zeros(shape, np.float32)
    both = call(
        "conv_forward", conv, copied, w, None, copied.copy(), sized=(conv, copied, w, copied)
    )
    assert both - in_place == 2 * x.nbytes
    assert in_place < x.nbytes


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_columns(dtype, order, rng):
    order = ORDERS[order]
    for shape, kernel, stride, padding, dilation, _ in CONVOLUTIONS:
        size, taps = shape[2:], kernel[2:]
        x = order(integers(rng, shape, dtype))
        expected = naive.im2col(x, taps, stride, padding, dilation)
        cols = order(np.full(expected.shape, np.nan, dtype))
        conv = convolution(len(size), stride, padding, dilation)
        lengths = (ctypes.c_int64 * len(taps))(*taps)
        call("im2col", conv, lengths, x, cols)
        assert_array_equal(cols, expected)
        image = order(np.full(shape, np.nan, dtype))
        call("col2im", conv, lengths, cols, image)
        assert_array_equal(image, naive.col2im(expected, size, taps, stride, padding, dilation))


POOLS = [
    # x, kernel, stride, padding, dilation
    ((2, 3, 9), (3,), 2, 1, 1),
    ((2, 5, 9, 8), (3, 2), (2, 3), ((1, 0), (1, 1)), 1),
    ((1, 70, 7, 7), (2, 3), 1, 1, 2),
    ((2, 2, 5, 6, 4), (2, 2, 3), 2, (0, 1, 1), 1),
]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_pools(dtype, order, rng):
    order = ORDERS[order]
    for shape, kernel, stride, padding, dilation in POOLS:
        x = order(integers(rng, shape, dtype))
        expected, places = naive.max_pool(x, kernel, stride, padding, dilation)
        y = order(np.full(expected.shape, np.nan, dtype))
        index = order(np.full(expected.shape, -9, np.int32))
        pool = pooling(c.MAX, kernel, stride, padding, dilation)
        call("pool_forward", pool, x, y, index)
        assert_array_equal(y, expected)
        assert_array_equal(index, places)
        y[...] = np.nan
        call("pool_forward", pool, x, y, None)
        assert_array_equal(y, expected)
        dy, dx = order(integers(rng, y.shape, dtype)), order(np.full(shape, np.nan, dtype))
        call("pool_backward", pool, None, None, index, dy, dx)
        assert_array_equal(dx, naive.max_pool_grad(dy, places, shape))
        if dilation != 1:
            continue
        for counts, kind, power in (
            (1, c.AVERAGE, 0),
            (0, c.AVERAGE, 0),
            (1, c.LP, 2),
            (1, c.LP, 3),
        ):
            pool = pooling(kind, kernel, stride, padding, 1, counts, power)
            positive = order(np.abs(x) + np.asarray(1, dtype))
            if kind == c.AVERAGE:
                wanted = naive.avg_pool(positive, kernel, stride, padding, count_include_pad=counts)
            else:
                powers = naive.avg_pool(positive.astype(float) ** power, kernel, stride, padding)
                wanted = (powers * np.prod(kernel)) ** (1 / power)
            call("pool_forward", pool, positive, y, None)
            close = 1e-6 if dtype == "float32" else 1e-14
            assert_allclose(y, wanted, rtol=close)
            call("pool_backward", pool, positive, y, None, dy, dx)
            # the adjoint of x -> (power - 1 times smaller for Lp) slopes, found place by place
            slope = dy if kind == c.AVERAGE else dy * wanted ** (1 - power)
            gradient = _spread(slope, shape, kernel, stride, padding, counts, kind == c.AVERAGE)
            if kind == c.LP:
                gradient = gradient * positive.astype(float) ** (power - 1)
            assert_allclose(dx, gradient, rtol=20 * close, atol=20 * close)


def _spread(slope, shape, kernel, stride, padding, counts, divides):
    """Each output's value, divided by its places, to the places of its window."""
    pairs = naive.pad_pairs(padding, len(kernel))
    total = naive.zero_pad(np.zeros(shape), pairs)
    ones = naive.zero_pad(np.ones(shape), pairs) if not counts else np.ones(total.shape)
    for place, taps in naive.windows(shape[2:], kernel, stride, padding).items():
        where = naive.patch_slices(taps, pairs)
        share = ones[where][0, 0].sum() if divides else 1
        value = slope[(..., *place)] / share
        total[where] += value.reshape(*value.shape, *[1] * len(kernel))
    return naive.crop(total, pairs)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("dtype", "close"), [("float32", 2e-6), ("float64", 1e-13)])
def test_batch_norm(dtype, close, order, rng):
    order = ORDERS[order]
    for shape in ((7, 3), (2, 5, 9), (3, 4, 6, 5), (2, 3, 4, 5, 6)):
        channels = shape[1]
        x = order((rng.standard_normal(shape) * 3 + 7).astype(dtype))
        weight, bias, mean, var = (rng.random(channels).astype(dtype) + 1 for _ in range(4))
        running = mean.copy(), var.copy()
        y = order(np.full(shape, np.nan, dtype))
        kept = np.full((2, channels), np.nan)
        means, inverses = (row.ctypes.data_as(ctypes.POINTER(ctypes.c_double)) for row in kept)
        vectors = [vector(v) for v in (weight, bias, *running)]
        call("batch_norm_train", x, *vectors, 0.3, 1e-5, y, means, inverses, sized=(x, y))
        running = mean.copy(), var.copy()  # call has run it twice
        vectors[2:] = map(vector, running)
        needed = c.batch_norm_train_workspace(pointer(x), pointer(y), 1)
        work = np.empty(needed, np.uint8)
        arguments = pointer(x), *vectors, 0.3, 1e-5, pointer(y), means, inverses
        assert c.batch_norm_train(*arguments, vector(work), needed, 1) == 0
        wanted, *wanted_running = naive.batch_norm(x, mean, var, weight, bias, True, 0.3)
        assert_allclose(y, wanted, rtol=0, atol=20 * close)
        for ours, theirs in zip(running, wanted_running, strict=True):
            assert_allclose(ours, theirs, rtol=close)

        call("batch_norm_infer", x, *vectors, 1e-5, y, sized=(x, y))
        wanted, *_ = naive.batch_norm(x, *running, weight, bias)
        assert_allclose(y, wanted, rtol=0, atol=20 * close)

        variables = [
            fastconv.Tensor(a.astype(float), requires_grad=True) for a in (x, weight, bias)
        ]
        out = F.batch_norm(variables[0], None, None, *variables[1:], training=True)
        dy = order(rng.standard_normal(shape).astype(dtype))
        out.backward(dy.astype(float))
        dx = order(np.full(shape, np.nan, dtype))
        dw, db = np.full((2, channels), np.nan, dtype)
        saved = vector(weight), means, inverses
        call("batch_norm_backward", x, dy, *saved, dx, vector(dw), vector(db), sized=(x, dy, dx))
        for ours, theirs in zip((dx, dw, db), variables, strict=True):
            assert_allclose(
                ours, theirs.grad, rtol=0, atol=50 * close * (1 + abs(theirs.grad).max())
            )
        alone = np.full(channels, np.nan, dtype)
        call("batch_norm_backward", x, dy, *saved, None, vector(alone), None, sized=(x, dy, None))
        assert_array_equal(alone, dw)


def test_described_orders():
    shape = (2, 3, 4, 5)
    for order, name in (
        (c.C_ORDER, "C"),
        (c.FORTRAN_ORDER, "Fortran"),
        (c.CHANNELS_LAST, "channels last"),
    ):
        array = ORDERS[name](np.zeros(shape))
        found, expected = c.array(), describe(array)
        sizes = (ctypes.c_int64 * 4)(*shape)
        assert c.describe(found, array.ctypes.data, c.FLOAT64, 4, sizes, order) == 0
        for field, _ in c.array._fields_:
            ours, theirs = getattr(found, field), getattr(expected, field)
            assert (ours == theirs) if isinstance(ours, int) else (list(ours) == list(theirs))
    kept = bytes(found)
    for arguments, status in (
        ((None, None, c.FLOAT64, 4, sizes, 0), c.NULL_POINTER),
        ((found, None, c.FLOAT64, 4, None, 0), c.NULL_POINTER),
        ((found, None, 9, 4, sizes, 0), c.BAD_DTYPE),
        ((found, None, c.FLOAT64, 6, sizes, 0), c.BAD_NDIM),
        ((found, None, c.FLOAT64, 4, sizes, 3), c.BAD_OPTION),
        ((found, None, c.FLOAT64, 4, (ctypes.c_int64 * 4)(1, -1, 1, 1), 0), c.BAD_SIZE),
        ((found, None, c.FLOAT64, 4, (ctypes.c_int64 * 4)(1, 1 << 31, 1 << 31, 1), 0), c.OVERFLOW),
    ):
        assert c.describe(*arguments) == status
        assert bytes(found) == kept


def test_output_sizes_are_those_of_the_library(rng):
    from fastconv import _geometry

    for size, kernel, stride, before, after, dilation in rng.integers(1, 8, (300, 6)).tolist():
        before, after = before - 1, after - 1
        wanted = _geometry.output_size(size, kernel, stride, (before, after), dilation)
        found = c.output_size(size, kernel, stride, before, after, dilation)
        assert (
            found == wanted
            if size + before + after > dilation * (kernel - 1)
            else found == c.BAD_GEOMETRY
        )
    for bad, status in (
        ((0, 1, 1, 0, 0, 1), c.BAD_SIZE),
        ((5, -1, 1, 0, 0, 1), c.BAD_SIZE),
        ((5, 3, 0, 0, 0, 1), c.BAD_GEOMETRY),
        ((5, 3, 1, -1, 0, 1), c.BAD_GEOMETRY),
        ((5, 3, 1, 0, 0, 0), c.BAD_GEOMETRY),
        ((5, 3, 1, 1 << 40, 0, 1), c.OVERFLOW),
        ((5, 1 << 62, 1, 0, 0, 1 << 30), c.OVERFLOW),
    ):
        assert c.output_size(*bad) == status


# Bad input


def changed(array, **fields):
    """A description of which a field, or a place of one, is another."""
    array = describe(array)
    for name, value in fields.items():
        if isinstance(value, tuple):
            getattr(array, name)[value[0]] = value[1]
        else:
            setattr(array, name, value)
    return array


KEPT = []  # arrays that C gets by their addresses alone


def cases():
    """For each function: its good arguments, and bad ones by position, with the status."""
    ones = {
        name: np.ones(shape, np.float32)
        for name, shape in {
            "x": (2, 4, 6, 6),
            "w": (6, 2, 3, 3),
            "y": (2, 6, 4, 4),
            "bias": (6,),
            "cols": (2, 36, 16),
            "pooled": (2, 4, 3, 3),
            "channel": (4,),
        }.items()
    }
    x, w, y, cols, pooled = (ones[name] for name in ("x", "w", "y", "cols", "pooled"))
    conv, pool = convolution(2, groups=2), pooling(c.MAX, (2, 2), 2, 0)
    index = np.zeros(pooled.shape, np.int32)
    kernel = (ctypes.c_int64 * 2)(3, 3)
    doubles = np.ones((2, 4))
    mean, inverse = (row.ctypes.data_as(ctypes.POINTER(ctypes.c_double)) for row in doubles)
    channel = vector(ones["channel"])
    KEPT.extend((*ones.values(), doubles))

    def bad_arrays(at, array, result):
        yield at, None, c.NULL_POINTER
        yield at, changed(array, data=None), c.NULL_POINTER
        yield at, changed(array, data=array.ctypes.data + 1), c.MISALIGNED
        yield at, changed(array, dtype=7), c.BAD_DTYPE
        yield at, changed(array, dtype=c.FLOAT64), c.BAD_DTYPE
        yield at, changed(array, ndim=array.ndim - 1), c.BAD_NDIM
        yield at, changed(array, ndim=6), c.BAD_NDIM
        yield at, changed(array, shape=(1, -2)), c.BAD_SIZE
        yield at, changed(array, shape=(0, -1)), c.BAD_SIZE
        yield at, changed(array, shape=(1, 0)), c.BAD_SIZE
        yield at, changed(array, shape=(0, 1 << 62)), c.OVERFLOW
        yield at, changed(array, shape=(1, 1 << 59)), c.OVERFLOW
        yield at, changed(array, strides=(0, -(1 << 62))), c.OVERFLOW
        yield at, changed(array, strides=(1, 1 << 59)), c.OVERFLOW
        yield at, changed(array, shape=(1, array.shape[1] + 1)), c.SHAPE_MISMATCH
        if result:
            yield at, changed(array, strides=(1, 0)), c.BAD_STRIDES

    def bad_conv(at):
        yield at, None, c.NULL_POINTER
        for field, value in itertools.product(("stride", "dilation"), (0, -1)):
            yield at, replaced(conv, **{field: (value, 1)}), c.BAD_GEOMETRY
        for field in ("before", "after"):
            yield at, replaced(conv, **{field: (0, -1)}), c.BAD_GEOMETRY
        yield at, replaced(conv, dilation=(1, 9)), c.BAD_GEOMETRY
        yield at, replaced(conv, before=(1 << 60, 0)), c.OVERFLOW
        yield at, replaced(conv, stride=(2, 1)), c.SHAPE_MISMATCH

    def bad_groups(at):
        for groups in (0, -2, 4):
            yield at, replaced(conv, groups=groups), c.BAD_GEOMETRY
        yield at, replaced(conv, groups=3), c.SHAPE_MISMATCH

    def bad_pool(at):
        yield at, None, c.NULL_POINTER
        yield at, replaced(pool, kind=3), c.BAD_OPTION
        yield at, replaced(pool, kind=c.LP, power=0.0), c.BAD_OPTION
        yield at, replaced(pool, kind=c.LP, power=float("nan")), c.BAD_OPTION
        yield at, replaced(pool, kernel=(7, 2)), c.BAD_GEOMETRY
        yield at, replaced(pool, kernel=(0, 2)), c.BAD_SIZE
        yield at, replaced(pool, before=(2, 0)), c.BAD_GEOMETRY
        yield at, replaced(pool, kind=c.AVERAGE, dilation=(2, 1)), c.BAD_GEOMETRY
        yield at, replaced(pool, stride=(1, 2)), c.SHAPE_MISMATCH

    def bad_vector(at):
        yield at, channel + 1, c.MISALIGNED

    good = conv, x, w, vector(ones["bias"]), y
    yield (
        "conv_forward",
        good,
        (0, 1, 2, 4),
        [
            *bad_conv(0),
            *bad_groups(0),
            *bad_arrays(1, x, False),
            *bad_arrays(2, w, False),
            *bad_arrays(4, y, True),
            *bad_vector(3),
        ],
    )
    yield (
        "conv_backward_input",
        (conv, y, w, x),
        (0, 1, 2, 3),
        [
            *bad_conv(0),
            *bad_groups(0),
            *bad_arrays(1, y, False),
            *bad_arrays(2, w, False),
            *bad_arrays(3, x, True),
        ],
    )
    yield (
        "conv_backward_weight",
        (conv, x, y, w),
        (0, 1, 2, 3),
        [
            *bad_conv(0),
            *bad_groups(0),
            *bad_arrays(1, x, False),
            *bad_arrays(2, y, False),
            *bad_arrays(3, w, True),
        ],
    )
    bias = [case for case in bad_arrays(0, x, False) if case[2] != c.SHAPE_MISMATCH]
    bias = [case for case in bias if case[1] is None or (case[1].dtype, case[1].ndim) == (1, 4)]
    yield (
        "conv_backward_bias",
        (x, channel),
        (0,),
        [
            *bias,
            (0, changed(x, ndim=1), c.BAD_NDIM),
            (0, changed(x, dtype=c.INT32), c.BAD_DTYPE),
            (1, None, c.NULL_POINTER),
            *bad_vector(1),
        ],
    )
    columns = [*bad_conv(0), (1, None, c.NULL_POINTER), (1, (ctypes.c_int64 * 2)(3, 0), c.BAD_SIZE)]
    columns.append((1, (ctypes.c_int64 * 2)(3, 2), c.SHAPE_MISMATCH))
    # of fewer axes the kernel has another number of taps
    images = [case for case in bad_arrays(2, x, True) if case[1] is None or case[1].ndim != 3] + [
        (2, changed(x, ndim=3), c.SHAPE_MISMATCH)
    ]
    yield (
        "im2col",
        (conv, kernel, x, cols),
        (0, 1, 2, 3),
        [
            *columns,
            *[i for i in images if i[2] != c.BAD_STRIDES],
            *bad_arrays(3, cols, True),
        ],
    )
    yield (
        "col2im",
        (conv, kernel, cols, x),
        (0, 1, 2, 3),
        [
            *columns,
            *bad_arrays(2, cols, False),
            *[(3, *case[1:]) for case in images],
        ],
    )
    indices = [
        case for case in bad_arrays(3, index, True) if case[1] is not None and case[1].ndim != 3
    ]
    yield (
        "pool_forward",
        (pool, x, pooled, index),
        (0, 1, 2, 3),
        [
            *bad_pool(0),
            *bad_arrays(1, x, False),
            *bad_arrays(2, pooled, True),
            *indices,
            (0, pooling(c.AVERAGE, (2, 2), 2, 0), c.BAD_OPTION),
        ],
    )
    indices = [case for case in indices if case[2] != c.BAD_STRIDES]
    yield (
        "pool_backward",
        (pool, None, None, index, pooled, x),
        range(6),
        [
            *bad_pool(0),
            *bad_arrays(4, pooled, False),
            *bad_arrays(5, x, True),
            *indices,
            (3, None, c.NULL_POINTER),
        ],
    )
    lp = pooling(c.LP, (2, 2), 2, 0)
    yield (
        "pool_backward",
        (lp, x, pooled, None, pooled, x),
        range(6),
        [
            *bad_arrays(1, x, False),
            *bad_arrays(2, pooled, False),
        ],
    )
    norm = x, channel, channel, channel, channel, 0.1, 1e-5, x, mean, inverse
    yield (
        "batch_norm_train",
        norm,
        (0, 7),
        [
            *bad_arrays(0, x, False),
            *bad_arrays(7, x, True),
            *bad_vector(1),
            *bad_vector(2),
            *bad_vector(3),
            *bad_vector(4),
            (3, None, c.NULL_POINTER),
            (4, None, c.NULL_POINTER),
            (8, None, c.NULL_POINTER),
            (9, None, c.NULL_POINTER),
            (6, -1.0, c.BAD_OPTION),
            (6, float("nan"), c.BAD_OPTION),
            (5, float("inf"), c.BAD_OPTION),
        ],
    )
    yield (
        "batch_norm_infer",
        (x, channel, channel, channel, channel, 1e-5, x),
        (0, 6),
        [
            *bad_arrays(0, x, False),
            *bad_arrays(6, x, True),
            *bad_vector(1),
            *bad_vector(3),
            (3, None, c.NULL_POINTER),
            (4, None, c.NULL_POINTER),
            (5, -1.0, c.BAD_OPTION),
        ],
    )
    norm = x, x, channel, mean, inverse, x, channel, channel
    yield (
        "batch_norm_backward",
        norm,
        (0, 1, 5),
        [
            *bad_arrays(0, x, False),
            *bad_arrays(1, x, False),
            *bad_vector(2),
            *bad_vector(6),
            *[case for case in bad_arrays(5, x, True) if case[1] is not None],
            (3, None, c.NULL_POINTER),
            (4, None, c.NULL_POINTER),
        ],
    )


def replaced(structure, **fields):
    """A copy with other first values of its arrays, or other values."""
    copy = type(structure).from_buffer_copy(structure)
    for name, value in fields.items():
        if isinstance(value, tuple):
            value = (*value, *getattr(copy, name)[len(value) :])
        setattr(copy, name, value)
    return copy


CASES = list(cases()) if direct.SUPPORTED else []


@pytest.mark.parametrize("case", CASES, ids=[case[0] for case in CASES])
def test_bad_input_has_a_status_and_changes_nothing(case):
    name, good, sized, bad = case
    arrays = [*KEPT, *(argument for argument in good if isinstance(argument, np.ndarray))]
    before = [array.tobytes() for array in arrays]
    work = np.full(1 << 20, CANARY, np.uint8)
    function, size_of = getattr(c, name), getattr(c, f"{name}_workspace")

    def query(arguments, threads=2):
        return size_of(*(pointer(arguments[at]) for at in sized), threads)

    def run(arguments, workspace=work.ctypes.data, size=work.size, threads=2):
        return function(*map(pointer, arguments), workspace, size, threads)

    def check(expected, status):
        assert status == expected, (c.status_text(expected), c.status_text(status))
        assert (work == CANARY).all()
        assert [array.tobytes() for array in arrays] == before

    needed = query(good)
    assert 0 < needed < work.size
    check(c.NULL_POINTER, run(good, workspace=None))
    check(c.WORKSPACE_TOO_SMALL, run(good, size=needed - 1))
    check(c.WORKSPACE_TOO_SMALL, run(good, size=-1))
    for threads in (0, -1, 4097):
        check(c.BAD_THREADS, run(good, threads=threads))
        assert query(good, threads) == c.BAD_THREADS
    for at, value, status in bad:
        arguments = [*good[:at], value, *good[at + 1 :]]
        check(status, run(arguments))
        if at in sized and status not in (c.MISALIGNED, c.NULL_POINTER):  # which are of the data
            assert query(arguments) == status
    # and in the end it runs
    assert run(good) == c.OK


def test_every_status_is_tested_and_described():
    statuses = {
        name: getattr(c, name) for name in vars(c) if name.isupper() and getattr(c, name) < 0
    }
    reached = {status for *_, bad in CASES for _, _, status in bad}
    reached |= {c.BAD_THREADS, c.WORKSPACE_TOO_SMALL}
    assert set(statuses.values()) == reached == set(range(-12, 0))
    texts = [c.status_text(status) for status in range(-12, 1)]
    assert len(set(texts)) == 13
    assert all(
        c.status_text(status) == b"not a status of fastconv" for status in (1, -13, -(2**31))
    )


def test_sizes_whose_memory_is_absurd_are_an_overflow():
    """Every array fits, what their product needs does not."""
    wide = changed(np.ones((1, 1, 1, 1)), shape=(1, 1 << 50))
    weight = changed(np.ones((1, 1, 1, 1)), shape=(1, 1 << 50))
    one = describe(np.ones((1, 1, 1, 1)))
    conv = convolution(2)
    sizes = [pointer(array) for array in (conv, wide, weight, one)]
    assert c.conv_forward_workspace(*sizes, 4096) == c.OVERFLOW
    assert c.conv_forward_workspace(*sizes, 1) > 1 << 50
    # and whatever it is, it is told at once, without a loop over that many phases
    wide = changed(np.ones((1, 1, 1, 1), np.float32), shape=(2, 1 << 28))
    wide.shape[3] = 1 << 28
    weight, one = (describe(np.ones((1, 1, side, side), np.float32)) for side in (3, 1))
    conv = convolution(2, stride=1 << 29)
    sizes = [pointer(array) for array in (conv, one, weight, wide)]
    assert c.conv_backward_input_workspace(*sizes, 1) > 1 << 10


def test_empty_batches():
    x, w, y = np.ones((0, 4, 6, 6)), np.ones((6, 2, 3, 3)), np.ones((0, 6, 4, 4))
    conv, dw, db = convolution(2, groups=2), np.ones(w.shape), np.ones(6)
    call("conv_forward", conv, x, w, None, y, sized=(conv, x, w, y))
    call("conv_backward_input", conv, y, w, x)
    call("conv_backward_weight", conv, x, y, dw)
    call("conv_backward_bias", y, vector(db), sized=(y,))
    assert not dw.any()
    assert not db.any()
    pool = pooling(c.MAX, (3, 3), 1, 0)
    pooled, index = np.ones((0, 4, 4, 4)), np.ones((0, 4, 4, 4), np.int32)
    call("pool_forward", pool, x, pooled, index)
    call("pool_backward", pool, None, None, index, pooled, x)
    call("im2col", conv, (ctypes.c_int64 * 2)(3, 3), x, np.ones((0, 36, 16)))
    ones = vector(np.ones(4))
    call("batch_norm_infer", x, None, None, ones, ones, 1e-5, x, sized=(x, x))
    pointers = pointer(x), pointer(x)
    assert c.batch_norm_train_workspace(*pointers, 1) == c.BAD_SIZE


# Threads


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_threads_change_no_bit(dtype, rng):
    x, w = (rng.standard_normal(s).astype(dtype) for s in ((3, 20, 23, 22), (37, 20, 3, 3)))
    deep = rng.standard_normal((20, 1, 3, 3)).astype(dtype)
    results = []
    for threads in (1, 2, 3):
        found = []
        for weight, groups in ((w, 1), (deep, 20)):
            conv = convolution(2, padding=1, groups=groups)
            y = np.empty((3, len(weight), 23, 22), dtype)
            call(
                "conv_forward",
                conv,
                x,
                weight,
                None,
                y,
                sized=(conv, x, weight, y),
                threads=threads,
            )
            dx, dw, db = np.empty_like(x), np.empty_like(weight), np.empty(len(weight), dtype)
            call("conv_backward_input", conv, y, weight, dx, threads=threads)
            call("conv_backward_weight", conv, x, y, dw, threads=threads)
            call("conv_backward_bias", y, vector(db), sized=(y,), threads=threads)
            found += [y, dx, dw, db]
        kept = np.empty((2, 20))
        means, inverses = (row.ctypes.data_as(ctypes.POINTER(ctypes.c_double)) for row in kept)
        z = np.empty_like(x)
        arguments = x, None, None, None, None, 0.1, 1e-5, z, means, inverses
        call("batch_norm_train", *arguments, sized=(x, z), threads=threads)
        results.append([array.tobytes() for array in (*found, z, kept)])
    assert results[0] == results[1] == results[2]


def test_concurrent_calls(rng):
    x, w = rng.standard_normal((2, 9, 20, 21)), rng.standard_normal((11, 9, 3, 3))
    conv = convolution(2, padding=1)

    def work(threads):
        y = np.empty((2, 11, 20, 21))
        call("conv_forward", conv, x, w, None, y, sized=(conv, x, w, y), threads=threads)
        return y.tobytes()

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(work, [1, 2] * 8))) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.skipif(not _build.OPENMP, reason="without OpenMP no region is parallel")
@pytest.mark.parametrize("first", ["C", "Python"])
def test_a_forked_child_uses_one_thread(first, tmp_path):
    """GNU OpenMP would hang; whoever was parallel before, C and Python both know."""
    script = f"""
import json, os, sys, warnings
sys.path[:0] = {[os.path.dirname(__file__)]!r}
import numpy as np, fastconv, test_capi as t
import fastconv.functional as F
fastconv.set_num_threads(2)
x, w = np.ones((2, 8, 40, 40), np.float32), np.ones((8, 8, 3, 3), np.float32)
def in_c():
    y = np.zeros_like(x)
    conv = t.convolution(2, padding=1)
    t.call("conv_forward", conv, x, w, None, y, sized=(conv, x, w, y))
    return float(y.sum())
def in_python():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        return float(F.conv2d(x, w, padding=1).sum()), len(caught)
{"in_c" if first == "C" else "in_python"}()
reader, writer = os.pipe()
if os.fork() == 0:
    os.write(writer, json.dumps([in_c(), in_python()]).encode())
    os._exit(0)
os.close(writer)
found = json.loads(open(reader).read())
assert os.wait()[1] == 0
print(json.dumps([found, in_c(), in_python()]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (child_c, (child, warned)), parent_c, (parent, quiet) = json.loads(done.stdout)
    assert child_c == child == parent == parent_c
    assert (warned, quiet) == (1, 0)
