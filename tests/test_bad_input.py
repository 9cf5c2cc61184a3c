"""Wrong arguments: every one is refused, by name and with its value, before any work is done."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import fastconv
import fastconv.functional as F


def bad(function, *args, raises=ValueError, says, **options):
    """One row of the table: the call, the exception, and the words that its message contains."""
    shown = [a.shape if isinstance(a, np.ndarray) else a for a in args]
    shown += [f"{key}={value!r}" for key, value in options.items()]
    label = ", ".join(map(str, shown))
    return pytest.param(function, args, options, raises, says, id=f"{function.__name__}({label})")


def zeros(*shape, dtype=np.float64):
    """An array whose values do not matter."""
    return np.zeros(shape, dtype)


X1, X2, X3 = zeros(2, 4, 9), zeros(2, 4, 9, 8), zeros(2, 4, 5, 6, 7)
W1, W2, W3 = zeros(6, 4, 3), zeros(6, 4, 3, 2), zeros(6, 4, 3, 2, 2)
CONVOLUTIONS = [(F.conv1d, X1, W1), (F.conv2d, X2, W2), (F.conv3d, X3, W3)]
WRONG_DTYPES = {
    "int64": zeros(2, 4, 9, 8, dtype=np.int64),
    "uint8": zeros(2, 4, 9, 8, dtype=np.uint8),
    "bool": zeros(2, 4, 9, 8, dtype=np.bool_),
    "float16": zeros(2, 4, 9, 8, dtype=np.float16),
    "complex128": zeros(2, 4, 9, 8, dtype=np.complex128),
    "object": zeros(2, 4, 9, 8, dtype=np.object_),
    "<U1": zeros(2, 4, 9, 8, dtype="U1"),
    "datetime64": zeros(2, 4, 9, 8, dtype="M8[s]"),
}
NOT_SIZES = [  # no positive integers
    (0, ValueError),
    (-1, ValueError),
    (2.0, TypeError),
    (1.5, TypeError),
    (np.float64(2), TypeError),
    ("2", TypeError),
    (True, TypeError),
]
LABELS = np.array([0, 1, 2, 3, 4, 0])
SCORES = zeros(6, 5)


def rows_of_sizes(function, x, *args, name, dims=None):
    """The rows of one argument that is a size or a step, for all axes of an image or for each."""
    dims = x.ndim - 2 if dims is None else dims
    for value, raises in NOT_SIZES:
        says = (name, repr(value) if isinstance(value, str) else str(value))
        yield bad(function, x, *args, raises=raises, says=says, **{name: value})
        last = (*[1] * (dims - 1), value)
        yield bad(function, x, *args, raises=raises, says=says, **{name: last})
    for wrong in ((), (1,) * (dims + 1)):
        yield bad(function, x, *args, says=(name, str(wrong)), **{name: wrong})


CONVOLUTION_ROWS = [
    *(
        bad(function, wrong, w, says=("input", str(wrong.shape)))
        for function, x, w in CONVOLUTIONS
        for wrong in (x[0, 0], x[None], zeros())
    ),
    *(
        bad(function, x, wrong, says=("weight", str(wrong.shape)))
        for function, x, w in CONVOLUTIONS
        for wrong in (w[0], w[None])
    ),
    *(
        bad(function, x[:, :3], w, says=("input", "weight", "3", "4"))
        for function, x, w in CONVOLUTIONS
    ),
    # sizes beyond all memory
    bad(F.conv2d, X2, W2, padding=10**30, says=("padding", str(2**40), str(10**30))),
    bad(F.conv2d, X2, W2, dilation=(1, 10**18), says=("dilation", str(2**40), str(10**18))),
    bad(F.conv2d, X2, W2, padding=10**12, raises=MemoryError, says=("2000000000007",)),
    # groups
    bad(F.conv2d, X2, zeros(6, 1, 3, 2), groups=3, says=("groups", "3", "4")),
    bad(F.conv2d, X2, zeros(6, 1, 3, 2), groups=4, says=("groups", "4", "6")),
    bad(F.conv2d, X2, zeros(6, 4, 3, 2), groups=2, says=("weight", "groups", "2", "4")),
    bad(F.conv2d, X2, W2, groups=0, says=("groups", "0")),
    bad(F.conv2d, X2, W2, groups=-2, says=("groups", "-2")),
    bad(F.conv2d, X2, W2, groups=1.0, raises=TypeError, says=("groups", "1.0")),
    bad(F.conv2d, X2, W2, groups=True, raises=TypeError, says=("groups", "True")),
    bad(F.conv2d, X2, W2, groups="1", raises=TypeError, says=("groups", "'1'")),
    bad(F.conv2d, X2, W2, groups=None, raises=TypeError, says=("groups", "None")),
    # kernel against the padded input
    bad(F.conv1d, X1, zeros(6, 4, 10), says=("kernel", "10", "9")),
    bad(F.conv2d, X2, zeros(6, 4, 3, 9), says=("kernel", "9", "8")),
    bad(F.conv2d, X2, zeros(6, 4, 12, 3), padding=1, says=("kernel", "12", "11")),
    bad(F.conv2d, X2, zeros(6, 4, 3, 11), padding=((0, 0), (2, 0)), says=("kernel", "11", "10")),
    bad(F.conv2d, X2, W2, dilation=5, says=("kernel", "11", "9")),
    bad(F.conv3d, X3, zeros(6, 4, 3, 2, 8), says=("kernel", "8", "7")),
    # empty images and kernels
    bad(F.conv1d, zeros(2, 4, 0), W1, padding=3, says=("input", "(0,)")),
    bad(F.conv2d, zeros(2, 4, 0, 8), W2, padding=3, says=("input", "(0, 8)")),
    bad(F.conv2d, zeros(2, 0, 9, 8), zeros(6, 0, 3, 2), says=("input", "0")),
    bad(F.conv2d, X2, zeros(6, 4, 0, 2), says=("kernel", "0")),
    # stride, dilation, padding
    *rows_of_sizes(F.conv2d, X2, W2, name="stride"),
    *rows_of_sizes(F.conv2d, X2, W2, name="dilation"),
    *rows_of_sizes(F.conv1d, X1, W1, name="stride"),
    *rows_of_sizes(F.conv3d, X3, W3, name="dilation"),
    bad(F.conv2d, X2, W2, stride=None, raises=TypeError, says=("stride", "None")),
    bad(F.conv2d, X2, W2, stride=(1, None), raises=TypeError, says=("stride", "None")),
    bad(F.conv2d, X2, W2, dilation=None, raises=TypeError, says=("dilation", "None")),
    *(
        bad(F.conv2d, X2, W2, padding=value, raises=raises, says=("padding", word))
        for value, raises, word in [
            (-1, ValueError, "-1"),
            ((0, -1), ValueError, "-1"),
            (((0, 0), (-1, 0)), ValueError, "-1"),
            ((1, 2, 3), ValueError, "(1, 2, 3)"),
            ((), ValueError, "()"),
            (((1, 2),), ValueError, "((1, 2),)"),
            (((1, 2), (3,)), ValueError, "(3,)"),
            (((1, 2), (3, 4, 5)), ValueError, "(3, 4, 5)"),
            ("full", ValueError, "'full'"),
            ("SAME", ValueError, "'SAME'"),
            ("", ValueError, "''"),
            (1.0, TypeError, "1.0"),
            (True, TypeError, "True"),
            (None, TypeError, "None"),
            ((1, None), TypeError, "None"),
            ((1, "same"), TypeError, "'same'"),
            (((1, 2.0), (0, 0)), TypeError, "2.0"),
        ]
    ),
    bad(F.conv2d, X2, W2, padding="same", stride=2, says=("padding", "same", "stride", "2")),
    bad(F.conv1d, X1, W1, padding="same", stride=(3,), says=("padding", "same", "stride", "3")),
    # bias
    bad(F.conv2d, X2, W2, zeros(5), says=("bias", "(5,)", "6")),
    bad(F.conv2d, X2, W2, zeros(6, 1), says=("bias", "(6, 1)")),
    bad(F.conv2d, X2, W2, zeros(), says=("bias", "()")),
    bad(F.conv1d, X1, W1, zeros(1), says=("bias", "(1,)", "6")),
    # dtypes
    *(
        bad(F.conv2d, x, W2, raises=TypeError, says=("input", dtype))
        for dtype, x in WRONG_DTYPES.items()
    ),
    bad(F.conv2d, X2, W2.astype(np.int32), raises=TypeError, says=("weight", "int32")),
    bad(F.conv2d, X2, W2, zeros(6, dtype=int), raises=TypeError, says=("bias", "int64")),
    bad(
        F.conv2d, X2.astype(np.float32), W2, raises=TypeError, says=("weight", "float32", "float64")
    ),
    bad(
        F.conv2d, X2, W2.astype(np.float32), raises=TypeError, says=("weight", "float32", "float64")
    ),
    bad(
        F.conv2d,
        X2,
        W2,
        zeros(6, dtype=np.float32),
        raises=TypeError,
        says=("bias", "float32", "float64"),
    ),
    # what is no array
    bad(F.conv2d, None, W2, raises=TypeError, says=("input", "None")),
    bad(F.conv2d, X2, None, raises=TypeError, says=("weight", "None")),
    bad(F.conv2d, "image", W2, raises=TypeError, says=("input", "<U5")),
    bad(F.conv2d, X2, W2, 0.5, says=("bias", "()", "6")),
]

IM2COL_ROWS = [
    bad(fastconv.im2col, zeros(4, 9), 2, says=("(4, 9)",)),
    bad(fastconv.im2col, zeros(1, 1, 2, 2, 2, 2), 2, says=("(1, 1, 2, 2, 2, 2)",)),
    *rows_of_sizes(fastconv.im2col, X2, name="kernel_size"),
    *rows_of_sizes(fastconv.im2col, X2, 2, name="stride"),
    *rows_of_sizes(fastconv.im2col, X2, 2, name="dilation"),
    bad(fastconv.im2col, X2, 2, padding=-1, says=("padding", "-1")),
    bad(fastconv.im2col, X2, 2, padding=((1, 2), (3, -4)), says=("padding", "-4")),
    bad(fastconv.im2col, X2, 10, says=("kernel", "10", "9")),
    bad(fastconv.im2col, X2.astype(int), 2, raises=TypeError, says=("int64",)),
    bad(fastconv.im2col, None, 2, raises=TypeError, says=("None",)),
    bad(fastconv.col2im, zeros(2, 7, 20), (6, 5), 2, says=("input", "7", "4")),
    bad(fastconv.col2im, zeros(2, 8, 19), (6, 5), 2, says=("input", "19", "20")),
    bad(fastconv.col2im, zeros(2, 8, 4, 5), (6, 5), 2, says=("input", "(2, 8, 4, 5)")),
    *rows_of_sizes(fastconv.col2im, zeros(2, 8, 20), (6, 5), name="kernel_size", dims=2),
    bad(fastconv.col2im, zeros(2, 8, 20), (6, 0), 2, says=("output_size", "(6, 0)")),
    bad(fastconv.col2im, zeros(2, 8, 20), (1, 2, 3, 4), 2, says=("output_size", "(1, 2, 3, 4)")),
    bad(
        fastconv.col2im, zeros(2, 8, 20), (6, 5.0), 2, raises=TypeError, says=("output_size", "5.0")
    ),
    bad(fastconv.col2im, zeros(2, 8, 20), (1, 5), 2, says=("kernel", "2", "1")),
    bad(fastconv.col2im, zeros(2, 8, 20, dtype=int), (6, 5), 2, raises=TypeError, says=("int64",)),
    bad(F.unfold, zeros(4, 9), 2, says=("input", "(4, 9)")),
    bad(F.unfold, X3, 2, says=("input", "(2, 4, 5, 6, 7)")),
    *rows_of_sizes(F.unfold, X2, name="kernel_size"),
    bad(F.unfold, X2, 2, padding=-1, says=("padding", "-1")),
    bad(F.unfold, X2, 10, says=("kernel", "10", "9")),
    bad(F.fold, zeros(2, 7, 20), (6, 5), 2, says=("input", "7", "4")),
    bad(F.fold, zeros(2, 8, 19), (6, 5), 2, says=("input", "19", "20")),
    bad(F.fold, zeros(8), (6, 5), 2, says=("input", "(8,)")),
    bad(F.fold, zeros(2, 8, 20), (6, 5, 4), 2, says=("output_size", "(6, 5, 4)")),
    bad(F.fold, zeros(2, 8, 20), (6, -5), 2, says=("output_size", "(6, -5)")),
]

POOLS = [
    (F.max_pool1d, X1),
    (F.max_pool2d, X2),
    (F.max_pool3d, X3),
    (F.avg_pool1d, X1),
    (F.avg_pool2d, X2),
    (F.avg_pool3d, X3),
]
LP_POOLS = [(F.lp_pool1d, X1), (F.lp_pool2d, X2), (F.lp_pool3d, X3)]
ADAPTIVE_POOLS = [
    (F.adaptive_avg_pool1d, X1),
    (F.adaptive_avg_pool2d, X2),
    (F.adaptive_avg_pool3d, X3),
    (F.adaptive_max_pool1d, X1),
    (F.adaptive_max_pool2d, X2),
    (F.adaptive_max_pool3d, X3),
]

POOL_ROWS = [
    *(
        bad(function, wrong, *args, says=("input", str(wrong.shape)))
        for pools, args in ((POOLS, (2,)), (LP_POOLS, (2, 2)), (ADAPTIVE_POOLS, (2,)))
        for function, x in pools
        for wrong in (x[0, 0], x[None])
    ),
    *(
        bad(function, x[:, :, :0], *args, says=("input", str(x[:, :, :0].shape[2:])))
        for pools, args in ((POOLS, (2,)), (LP_POOLS, (2, 2)), (ADAPTIVE_POOLS, (2,)))
        for function, x in pools
    ),
    *(
        bad(function, x.astype(dtype), *args, raises=TypeError, says=("input", dtype))
        for pools, args in ((POOLS, (2,)), (LP_POOLS, (2, 2)), (ADAPTIVE_POOLS, (2,)))
        for function, x in pools
        for dtype in ("int64", "float16", "complex128", "object", "bool")
    ),
    *(
        bad(function, None, *args, raises=TypeError, says=("input", "None"))
        for pools, args in ((POOLS, (2,)), (LP_POOLS, (2, 2)), (ADAPTIVE_POOLS, (2,)))
        for function, x in pools
    ),
    *(row for function, x in POOLS for row in rows_of_sizes(function, x, name="kernel_size")),
    *(row for function, x in POOLS for row in rows_of_sizes(function, x, 2, name="stride")),
    *(row for function, x in POOLS[:3] for row in rows_of_sizes(function, x, 2, name="dilation")),
    *(row for function, x in LP_POOLS for row in rows_of_sizes(function, x, 2, name="kernel_size")),
    *(
        bad(function, x, None, raises=TypeError, says=("kernel_size", "None"))
        for function, x in POOLS
    ),
    *(bad(function, x, 10, says=("kernel_size", "10")) for function, x in POOLS),
    *(bad(function, x, 2, 10, says=("kernel_size", "10")) for function, x in LP_POOLS),
    *(bad(function, x, 3, padding=2, says=("padding", "2", "3")) for function, x in POOLS),
    *(bad(function, x, 3, padding=-1, says=("padding", "-1")) for function, x in POOLS),
    *(
        bad(function, x, 3, padding=wrong, raises=TypeError, says=("padding", repr(wrong)))
        for function, x in POOLS
        for wrong in (1.0, True, "1", None)
    ),
    bad(F.max_pool2d, X2, (3, 2), padding=(1, 2), says=("padding", "(1, 2)")),
    bad(F.avg_pool2d, X2, 4, padding=(1, 2, 2), says=("padding", "(1, 2, 2)")),
    bad(F.max_pool2d, X2, 3, padding="same", raises=TypeError, says=("padding", "'same'")),
    bad(F.max_pool2d, X2, 4, dilation=3, says=("kernel_size", "10", "9")),
    bad(F.avg_pool2d, X2, 2, divisor_override=0, says=("divisor_override", "0")),
    bad(
        F.avg_pool2d,
        X2,
        2,
        divisor_override=1.5,
        raises=TypeError,
        says=("divisor_override", "1.5"),
    ),
    bad(
        F.avg_pool3d,
        X3,
        2,
        divisor_override="2",
        raises=TypeError,
        says=("divisor_override", "'2'"),
    ),
    bad(F.lp_pool2d, X2, 0, 2, says=("norm_type", "0")),
    bad(F.lp_pool2d, X2, np.nan, 2, says=("norm_type", "nan")),
    bad(F.lp_pool2d, X2, "2", 2, raises=TypeError, says=("norm_type", "'2'")),
    bad(F.lp_pool2d, X2, None, 2, raises=TypeError, says=("norm_type", "None")),
    *(
        row
        for function, x in ADAPTIVE_POOLS
        for row in rows_of_sizes(function, x, name="output_size")
    ),
]

RUNNING = (zeros(4), np.ones(4))


def read_only(array):
    """A copy that may not be written to."""
    array = array.copy()
    array.flags.writeable = False
    return array


NORM_AND_ACTIVATION_ROWS = [
    bad(F.batch_norm, zeros(1, 4), *RUNNING, training=True, says=("input", "(1, 4)")),
    bad(F.batch_norm, zeros(1, 4, 1, 1), *RUNNING, training=True, says=("input", "(1, 4, 1, 1)")),
    bad(F.batch_norm, zeros(4), *RUNNING, says=("input", "(4,)")),
    bad(F.batch_norm, X2, zeros(3), np.ones(4), says=("running_mean", "(3,)", "4")),
    bad(F.batch_norm, X2, zeros(4), np.ones((4, 1)), says=("running_var", "(4, 1)", "4")),
    bad(F.batch_norm, X2, *RUNNING, zeros(5), says=("weight", "(5,)", "4")),
    bad(F.batch_norm, X2, *RUNNING, zeros(4), zeros(3), says=("bias", "(3,)", "4")),
    bad(F.batch_norm, X2, None, None, says=("running_mean", "training")),
    bad(F.batch_norm, X2, None, np.ones(4), training=True, says=("running_mean",)),
    bad(F.batch_norm, X2, zeros(4), None, training=True, says=("running_var",)),
    bad(F.batch_norm, X2, read_only(zeros(4)), np.ones(4), training=True, says=("running_mean",)),
    bad(F.batch_norm, X2, zeros(4), read_only(np.ones(4)), training=True, says=("running_var",)),
    bad(
        F.batch_norm,
        X2,
        zeros(4, dtype=np.float32),
        np.ones(4),
        raises=TypeError,
        says=("running_mean", "float32", "float64"),
    ),
    bad(
        F.batch_norm,
        X2,
        zeros(4),
        np.ones(4, int),
        raises=TypeError,
        says=("running_var", "int64"),
    ),
    bad(F.batch_norm, X2, [0.0] * 4, np.ones(4), raises=TypeError, says=("running_mean", "list")),
    bad(
        F.batch_norm,
        X2,
        zeros(4),
        [1.0] * 4,
        training=True,
        raises=TypeError,
        says=("running_var", "list"),
    ),
    bad(F.batch_norm, X2.astype(int), *RUNNING, raises=TypeError, says=("input", "int64")),
    bad(F.batch_norm, X2, *RUNNING, momentum="0.1", raises=TypeError, says=("momentum", "'0.1'")),
    bad(F.batch_norm, X2, *RUNNING, eps="0.1", raises=TypeError, says=("eps", "'0.1'")),
    bad(F.batch_norm, X2, *RUNNING, eps=-1.0, says=("eps", "-1.0")),
    # activations
    *(
        bad(function, wrong, raises=TypeError, says=("input", dtype))
        for function in (F.relu, F.relu6, F.leaky_relu)
        for dtype, wrong in WRONG_DTYPES.items()
    ),
    bad(F.relu, None, raises=TypeError, says=("input", "None")),
    bad(F.leaky_relu, X2, negative_slope="x", raises=TypeError, says=("negative_slope", "'x'")),
    bad(F.leaky_relu, X2, negative_slope=None, raises=TypeError, says=("negative_slope", "None")),
    # linear
    bad(F.linear, zeros(2, 3), zeros(5, 4), says=("input", "weight", "3", "4")),
    bad(F.linear, zeros(), zeros(5, 4), says=("input", "()")),
    bad(F.linear, zeros(2, 4), zeros(5, 4, 1), says=("weight", "(5, 4, 1)")),
    bad(F.linear, zeros(2, 4), zeros(5, 4), zeros(4), says=("bias", "(4,)", "5")),
    bad(F.linear, zeros(2, 4, dtype=int), zeros(5, 4), raises=TypeError, says=("input", "int64")),
    bad(
        F.linear,
        zeros(2, 4, dtype=np.float32),
        zeros(5, 4),
        raises=TypeError,
        says=("weight", "float32", "float64"),
    ),
    bad(F.linear, zeros(2, 4), None, raises=TypeError, says=("weight", "None")),
    # softmax
    *(
        bad(function, SCORES, dim, raises=raises, says=("dim", repr(dim)))
        for function in (F.softmax, F.log_softmax)
        for dim, raises in [
            (2, ValueError),
            (-3, ValueError),
            (1.0, TypeError),
            (True, TypeError),
            ("1", TypeError),
            ((0, 1), TypeError),
        ]
    ),
    bad(F.softmax, SCORES.astype(int), 1, raises=TypeError, says=("input", "int64")),
    # dropout
    *(
        bad(F.dropout, SCORES, p, raises=raises, says=("p", repr(p)))
        for p, raises in [
            (-0.1, ValueError),
            (1.1, ValueError),
            (np.nan, ValueError),
            ("0.5", TypeError),
            (None, TypeError),
        ]
    ),
    bad(F.dropout, SCORES, 1.5, training=False, says=("p", "1.5")),
    bad(F.dropout, SCORES.astype(int), raises=TypeError, says=("input", "int64")),
]

PAD_ROWS = [
    bad(F.pad, X2, (1, 2, 3), says=("pad", "(1, 2, 3)")),
    bad(F.pad, X1, (1,) * 8, says=("pad", "(1, 1, 1, 1, 1, 1, 1, 1)", "3")),
    bad(F.pad, X2, (1.0, 2), raises=TypeError, says=("pad", "1.0")),
    bad(F.pad, X2, (True, 2), raises=TypeError, says=("pad", "True")),
    bad(F.pad, X2, None, raises=TypeError, says=("pad", "None")),
    bad(F.pad, X2, "same", raises=TypeError, says=("pad", "'same'")),
    bad(F.pad, X2, (-5, -4), says=("pad", "-5", "8")),
    bad(F.pad, X2, (1, 1), "mirror", says=("mode", "'mirror'")),
    bad(F.pad, X2, (1, 1), None, says=("mode", "None")),
    bad(F.pad, X2, (8, 0), "reflect", says=("pad", "8")),
    bad(F.pad, X2, (0, 0, 0, 9), "reflect", says=("pad", "9")),
    bad(F.pad, X2, (9, 0), "circular", says=("pad", "9", "8")),
    bad(F.pad, X2, (1, 1), value="x", raises=TypeError, says=("value", "'x'")),
    bad(F.pad, X2, (1, 1), "reflect", 1.0, says=("value", "1.0", "reflect")),
    bad(F.pad, X2.astype(int), (1, 1), raises=TypeError, says=("input", "int64")),
]

LOSS_ROWS = [
    *(
        row
        for loss in (F.cross_entropy, F.nll_loss)
        for row in (
            bad(loss, SCORES, LABELS + 1, says=("target", "5")),
            bad(loss, SCORES, LABELS - 1, says=("target", "-1")),
            bad(
                loss,
                SCORES,
                LABELS,
                ignore_index=0.5,
                raises=TypeError,
                says=("ignore_index", "0.5"),
            ),
            bad(loss, SCORES, LABELS[:5], says=("target", "(5,)")),
            bad(loss, SCORES, LABELS[:, None], says=("target", "(6, 1)")),
            bad(loss, zeros(6, 5, 3), LABELS, says=("target", "(6,)")),
            bad(loss, zeros(5), LABELS, says=("target", "(6,)")),
            bad(loss, SCORES, LABELS > 1, raises=TypeError, says=("target", "bool")),
            bad(loss, SCORES, LABELS + 0j, raises=TypeError, says=("target", "complex128")),
            bad(loss, SCORES, LABELS.astype(object), raises=TypeError, says=("target", "object")),
            bad(loss, SCORES, None, raises=TypeError, says=("target", "None")),
            bad(loss, SCORES, LABELS, zeros(4), says=("weight", "(4,)", "5")),
            bad(loss, SCORES, LABELS, zeros(5, 1), says=("weight", "(5, 1)")),
            bad(
                loss,
                SCORES,
                LABELS,
                zeros(5, dtype=np.float32),
                raises=TypeError,
                says=("weight", "float32", "float64"),
            ),
            bad(loss, SCORES, LABELS, reduction="avg", says=("reduction", "'avg'")),
            bad(loss, zeros(), LABELS[0], says=("input", "scalar")),
            bad(loss, SCORES.astype(int), LABELS, raises=TypeError, says=("input", "int64")),
            bad(
                loss, SCORES.astype(np.float16), LABELS, raises=TypeError, says=("input", "float16")
            ),
        )
    ),
    bad(F.nll_loss, SCORES, LABELS.astype(float), raises=TypeError, says=("target", "float64")),
    bad(F.cross_entropy, SCORES, zeros(6, 4), says=("target", "(6, 4)")),
    bad(
        F.cross_entropy,
        SCORES,
        zeros(6, 5, dtype=np.float32),
        raises=TypeError,
        says=("target", "float32", "float64"),
    ),
    *(
        bad(
            F.cross_entropy,
            SCORES,
            LABELS,
            label_smoothing=value,
            says=("label_smoothing", repr(value)),
        )
        for value in (-0.1, 1.1, np.nan)
    ),
    bad(
        F.cross_entropy,
        SCORES,
        LABELS,
        label_smoothing="0.1",
        raises=TypeError,
        says=("label_smoothing", "'0.1'"),
    ),
    *(
        row
        for loss in (F.mse_loss, F.binary_cross_entropy_with_logits)
        for row in (
            bad(loss, SCORES, zeros(6, 4), says=("target", "(6, 4)", "(6, 5)")),
            bad(loss, SCORES, LABELS, raises=TypeError, says=("target", "int64")),
            bad(
                loss,
                SCORES,
                zeros(6, 5, dtype=np.float32),
                raises=TypeError,
                says=("target", "float32", "float64"),
            ),
            bad(loss, SCORES, SCORES, reduction="average", says=("reduction", "'average'")),
            bad(loss, SCORES, None, raises=TypeError, says=("target", "None")),
            bad(loss, None, SCORES, raises=TypeError, says=("input", "None")),
        )
    ),
    bad(F.binary_cross_entropy_with_logits, SCORES, SCORES, zeros(4), says=("weight", "(4,)")),
    bad(
        F.binary_cross_entropy_with_logits,
        SCORES,
        SCORES,
        pos_weight=zeros(4),
        says=("pos_weight", "(4,)"),
    ),
    bad(
        F.binary_cross_entropy_with_logits,
        SCORES,
        SCORES,
        pos_weight=zeros(5, dtype=int),
        raises=TypeError,
        says=("pos_weight", "int64"),
    ),
]

TRANSPOSED = [
    (F.conv_transpose1d, X1, zeros(4, 6, 3)),
    (F.conv_transpose2d, X2, zeros(4, 6, 3, 2)),
    (F.conv_transpose3d, X3, zeros(4, 6, 3, 2, 1)),
]
T2 = TRANSPOSED[1][1:]
PLACES = np.zeros((2, 4, 9, 8), int)
UNPOOL = [
    (F.max_unpool1d, X1, PLACES[..., 0]),
    (F.max_unpool2d, X2, PLACES),
    (F.max_unpool3d, X3, np.zeros(X3.shape, int)),
]
SPATIAL_ROWS = [
    *(
        bad(function, wrong, w, says=("input", str(wrong.shape)))
        for function, x, w in TRANSPOSED
        for wrong in (x[0, 0], x[None])
    ),
    *(
        bad(function, x, wrong, says=("weight", str(wrong.shape)))
        for function, x, w in TRANSPOSED
        for wrong in (w[0], w[None], w[:, :0])
    ),
    *(bad(function, x[:, :3], w, says=("input", "3", "4")) for function, x, w in TRANSPOSED),
    *(
        bad(function, x[:, :, :0], w, says=("input", str(x[:, :, :0].shape[2:])))
        for function, x, w in TRANSPOSED
    ),
    *(bad(f, x, w, zeros(5), says=("bias", "(5,)", "(6,)")) for f, x, w in TRANSPOSED),
    bad(F.conv_transpose2d, *T2, zeros(6), groups=2, says=("bias", "(6,)", "(12,)")),
    bad(F.conv_transpose2d, *T2, groups=3, says=("groups", "3", "4")),
    bad(F.conv_transpose2d, *T2, groups=0, says=("groups", "0")),
    bad(F.conv_transpose2d, *T2, output_padding=1, says=("output_padding=(1, 1)", "stride")),
    bad(F.conv_transpose2d, *T2, None, (2, 1), 0, (1, 1), says=("output_padding=(1, 1)",)),
    bad(F.conv_transpose2d, *T2, output_padding=-1, says=("output_padding", "-1")),
    bad(F.conv_transpose2d, *T2, padding=6, says=("padding", "6", "(-1, -3)")),
    bad(F.conv_transpose2d, *T2, padding="same", raises=TypeError, says=("padding", "'same'")),
    bad(F.conv_transpose2d, *T2, stride=10**12, raises=MemoryError, says=("8000000000003",)),
    bad(F.conv_transpose2d, *T2, algorithm="fft", says=("algorithm", "'fft'")),
    *rows_of_sizes(F.conv_transpose2d, *T2, name="stride"),
    *rows_of_sizes(F.conv_transpose2d, *T2, name="dilation"),
    bad(
        F.conv_transpose2d,
        T2[0],
        T2[1].astype(np.float32),
        raises=TypeError,
        says=("weight", "float32", "float64"),
    ),
    # resizing
    *(
        bad(F.interpolate, wrong, 3, mode=mode, says=("input", mode, str(wrong.shape)))
        for mode, wrong in [
            ("nearest", X1[0]),
            ("nearest-exact", X3[None]),
            ("area", X1[0]),
            ("linear", X2),
            ("bilinear", X1),
            ("bicubic", X3),
            ("trilinear", X2),
        ]
    ),
    bad(F.interpolate, X2, 3, mode="cubic", says=("mode", "'cubic'")),
    bad(F.interpolate, X2, says=("size=None", "scale_factor=None")),
    bad(F.interpolate, X2, 3, 2.0, says=("size=3", "scale_factor=2.0")),
    bad(F.interpolate, X2, (3, 4, 5), says=("size", "(3, 4, 5)")),
    bad(F.interpolate, X2, 0, says=("size", "0")),
    bad(F.interpolate, X2, 2.5, raises=TypeError, says=("size", "2.5")),
    bad(F.interpolate, X2, 2**39, raises=MemoryError, says=(str(2**39),)),
    bad(F.interpolate, X2, scale_factor=(1, 2, 3), says=("scale_factor", "(1, 2, 3)")),
    bad(F.interpolate, X2, scale_factor=0.1, says=("scale_factor", "0.1", "(9, 8)")),
    bad(F.interpolate, X2, scale_factor=-1, says=("scale_factor", "-1")),
    bad(F.interpolate, X2, scale_factor=np.nan, says=("scale_factor", "nan")),
    bad(F.interpolate, X2, scale_factor=1e308, raises=MemoryError, says=("memory",)),
    bad(F.interpolate, X2, scale_factor="2", raises=TypeError, says=("scale_factor", "'2'")),
    bad(F.interpolate, X2, 3, align_corners=True, says=("align_corners=True", "'nearest'")),
    bad(F.interpolate, X2, 3, align_corners=1, raises=TypeError, says=("align_corners", "1")),
    bad(F.interpolate, X2, 3, mode="area", align_corners=False, says=("align_corners", "'area'")),
    bad(F.interpolate, X2, 3, antialias=True, says=("antialias", "bicubic", "'nearest'")),
    bad(F.interpolate, X3, 3, mode="trilinear", antialias=True, says=("antialias", "'trilinear'")),
    bad(F.interpolate, X2, 3, recompute_scale_factor=True, says=("recompute_scale_factor", "3")),
    bad(F.interpolate, X2[:, :, :0], 3, says=("input", "(0, 8)")),
    bad(F.interpolate, X2.astype(int), 3, raises=TypeError, says=("input", "int64")),
    # unpooling
    *(
        bad(function, wrong, places, 2, says=("input", str(wrong.shape)))
        for function, x, places in UNPOOL
        for wrong in (x[0, 0], x[None])
    ),
    *(
        bad(function, x, places[:1], 2, says=("indices", str(places[:1].shape), str(x.shape)))
        for function, x, places in UNPOOL
    ),
    bad(F.max_unpool2d, X2, X2, 2, raises=TypeError, says=("indices", "float64")),
    bad(F.max_unpool2d, X2, PLACES - 1, 2, says=("indices", "[0, 288)", "-1")),
    bad(F.max_unpool2d, X2, PLACES + 288, 2, says=("indices", "[0, 288)", "288")),
    bad(F.max_unpool2d, X2, PLACES, 2, padding=9, says=("padding", "9", "(0, -2)")),
    bad(F.max_unpool2d, X2, PLACES, 2, output_size=(20, 16), says=("output_size", "(18, 16)")),
    bad(F.max_unpool2d, X2, PLACES, 2, output_size=(18, 16.0), raises=TypeError, says=("16.0",)),
    *rows_of_sizes(F.max_unpool2d, X2, PLACES, name="kernel_size"),
    *rows_of_sizes(F.max_unpool2d, X2, PLACES, 2, name="stride"),
]

ROWS = CONVOLUTION_ROWS + IM2COL_ROWS + POOL_ROWS + NORM_AND_ACTIVATION_ROWS + PAD_ROWS + LOSS_ROWS
ROWS += SPATIAL_ROWS


def tensor(value):
    """A Tensor where the value can be one."""
    if isinstance(value, np.ndarray) and value.dtype in (np.float32, np.float64):
        return fastconv.Tensor(value, requires_grad=value.flags.writeable)
    return value


def refused(function, args, options, raises, says):
    """Call, and check the exception and its words."""
    with pytest.raises(raises) as caught:
        function(*args, **options)
    message = str(caught.value)
    assert [word for word in says if word not in message] == [], message


@pytest.mark.parametrize(("function", "args", "options", "raises", "says"), ROWS)
def test_bad_arguments(function, args, options, raises, says):
    refused(function, args, options, raises, says)


@pytest.mark.parametrize(("function", "args", "options", "raises", "says"), ROWS)
def test_bad_arguments_with_tensors(function, args, options, raises, says):
    """The same for Tensors: they are checked like arrays."""
    if function is F.batch_norm:  # its running statistics are arrays
        args = (tensor(args[0]), *args[1:3], *map(tensor, args[3:]))
    else:
        args = tuple(map(tensor, args))
    refused(function, args, options, raises, says)


@pytest.mark.parametrize(
    "options",
    [
        {"running_var": np.ones(3)},
        {"running_var": read_only(np.ones(4))},
        {"weight": zeros(5)},
        {"bias": zeros(5)},
        {"bias": zeros(4, dtype=np.float32)},
        {"eps": "x"},
        {"momentum": "x"},
    ],
    ids=str,
)
def test_refused_batch_norm_changes_nothing(options):
    """Neither running statistic moves when another argument is wrong."""
    mean, var = zeros(4), options.pop("running_var", np.ones(4))
    before = var.copy()
    with pytest.raises((ValueError, TypeError)):
        F.batch_norm(X2 + 3, mean, var, training=True, **options)
    assert_array_equal(mean, zeros(4))
    assert_array_equal(var, before)


@pytest.mark.parametrize("shape", [(2, 6, 7), (), (1, 6, 7, 7), (2, 6, 7, 1)], ids=str)
def test_backward_refuses_a_wrong_gradient(shape):
    """No broadcasting: the gradient has the shape of the output, or nothing happens."""
    x = fastconv.Tensor(X2, requires_grad=True)
    out = F.conv2d(x, W2)
    with pytest.raises(ValueError, match="grad") as caught:
        out.backward(np.ones(shape))
    assert str(shape) in str(caught.value)
    assert "(2, 6, 7, 7)" in str(caught.value)
    assert x.grad is None
