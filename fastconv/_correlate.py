"""Correlations and their gradients by weight: what was planned, carried out."""

import math
from functools import partial

import numpy as np

from fastconv._activation import NONE
from fastconv._matmul import check_blas
from fastconv._memory import empty
from fastconv._plan import (
    Shape,
    plan_correlation,
    plan_direct,
    plan_direct_weight,
    plan_weight_gradient,
)
from fastconv._threads import blas_threads_for, single_threaded_blas, threads_for, workspace
from fastconv.kernels import conv as gemm
from fastconv.kernels import direct, grouped, layout, planes, winograd

__all__ = ["Fixed", "Prepared", "bind", "correlate", "correlate_weight"]


def correlate(x, w, bias, y, frame, algorithm, prepared=None, residual=None, activation=NONE):
    """Set y, at the frame's places, to act(x correlated with w + bias + residual).

    Parameters
    ----------
    x : ndarray of shape (N, D, H, W, G * C)
    w : ndarray of shape (G, K, *taps, C), of any strides
    bias : ndarray of shape (G * K,) or None
    y : ndarray of shape (N, D', H', W', G * K)
    frame : fastconv._geometry.Frame
    algorithm : str
        One of :data:`fastconv._algorithm.ALGORITHMS`.
    prepared : Prepared or Fixed, optional
        Keeps the form of the weights that kernels read.
    residual : ndarray of y's shape and dtype, optional
        Apart from y in memory.
    activation : fastconv._activation.Activation, optional
    """
    bind(x, w, bias, y, frame, algorithm, prepared, residual, activation)[1]()


def bind(
    x,
    w,
    bias,
    y,
    frame,
    algorithm,
    prepared=None,
    residual=None,
    activation=NONE,
    take=empty,
):
    """The plan of :func:`correlate`, and a call that carries it out on these arrays, any time.

    What its threads work in is what ``take(shape, dtype)`` returns.
    """
    if not x.shape[0]:
        return None, lambda: None
    shape = Shape(x.shape[0], *w.shape[:2], w.shape[5], x.itemsize)
    plan = plan_correlation(shape, frame, algorithm, prepared is not None)
    arguments = x, w, bias, y, (residual, *activation), frame
    kept = _NOT_KEPT if prepared is None else prepared
    call = WAYS[plan.way](plan, *arguments, kept, take)
    if plan.algorithm != "winograd":
        return plan, call

    def careful():
        if call():  # An infinity or NaN has spread over its tile: let it reach only who reads it.
            other = plan_direct(shape, frame)
            WAYS[other.way](other, *arguments, _NOT_KEPT, empty)()

    return plan, careful


def _polyphase_input(x):
    """(N, 2, H / 2, W / 2, 2 C) of (N, 1, H, W, C): even and odd rows, in the same memory."""
    n, _, height, width, channels = x.shape
    pairs = x.reshape(n, height // 2, 2, width // 2, 2 * channels)
    return pairs.transpose(0, 2, 1, 3, 4)


def _polyphase_weights(w, frame):
    """(1, K, 2, taps, taps, 2 C) of (1, K, 1, taps, taps, C), zero at taps that w has not."""
    taps = frame.polyphase.taps
    weights = np.zeros((*w.shape[:2], *taps, 2, w.shape[5]), w.dtype)
    for to, of in frame.phases:
        weights[to] = w[of]
    return weights.reshape(*weights.shape[:5], -1)


def _of_polyphase(dw, shape, frame):
    """The gradient by the weights of such a frame's polyphase as that by the weights."""
    phases = dw.reshape(*shape[:2], *frame.polyphase.taps, 2, shape[5])
    dw = empty(shape, dw.dtype)
    for of, to in frame.phases:
        dw[to] = phases[of]
    return dw


class Prepared:
    """Weights in the form that kernels read, made again when they have changed.

    The weights are compared with a copy, bit by bit, at every use: much cheaper than what is
    kept, and no change can go unnoticed.
    """

    def __init__(self):
        self._kept = {}

    def get(self, key, w, make):
        """``make()`` for these weights: the one kept under `key`, if any, or a new one."""
        key, values = (key, w.shape, w.dtype), w.reshape(-1)
        copy, made = self._kept.get(key, (None, None))
        if made is None or not layout.same(copy, values, threads_for(values.size)):
            made = make()
            self._kept = {key: (values.copy(), made)}
        return made

    def __reduce__(self):
        return Prepared, ()  # copies and pickles of a layer make their own


class Fixed:
    """The same for weights that nobody changes."""

    def __init__(self):
        self._kept = {}

    def get(self, key, w, make):
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    def part(self, key):
        """The same for one of several products."""
        return self._kept.setdefault(("part", key), Fixed())


class _NotKept:
    def get(self, key, w, make):
        return make()


_NOT_KEPT = _NotKept()


def _padded_bias(bias, groups, outputs, width, dtype):
    """(G, width), zero beyond each group's outputs."""
    if bias is not None and outputs == width and bias.flags.c_contiguous:
        return bias.reshape(groups, width)
    padded = np.zeros((groups, width), dtype)
    if bias is not None:
        padded[:, :outputs] = bias.reshape(groups, outputs)
    return padded


def _scratch(plan, dtype, take=empty, threads_for=threads_for):
    """The last arguments of a kernel: what its threads work in, and how many they are."""
    threads = threads_for(plan.operations)
    needed = ((plan.work, dtype), (plan.pointers, np.intp))
    return *(workspace(threads, size, kind, take) for size, kind in needed if size), threads


# Each way is a function that returns the call of its kernel.


def _gemm(plan, x, w, bias, y, epilogue, frame, prepared, take):
    # BLAS reads (K, taps * C) and its transpose alike: take the one that is nearer
    by_output = w.strides[5] == w.itemsize
    rows = w if by_output else w.transpose(0, 2, 3, 4, 5, 1)
    groups, outputs, depth = plan.prepared
    rows = np.ascontiguousarray(rows).reshape(
        (groups, outputs, depth) if by_output else (groups, depth, outputs)
    )
    scratch = _scratch(plan, x.dtype, take, blas_threads_for)
    bias = np.empty(0, x.dtype) if bias is None else np.ascontiguousarray(bias)

    def call():
        with single_threaded_blas:
            failed = gemm.correlate(
                x, rows, by_output, bias, y, *epilogue, frame.packed, *plan.cut, *scratch
            )
        check_blas(failed)

    return call


def _packed(plan, w, prepared):
    """(G, panels, taps * C, width), zero beyond the last output."""

    def pack():
        packed = empty(plan.prepared, w.dtype)
        direct.pack(w, packed, threads_for(packed.size))
        return packed

    return prepared.get(plan.prepared, w, pack)


def _tiles(plan, x, w, bias, y, epilogue, frame, prepared, take):
    packed = _packed(plan, w, prepared)
    groups, panels, _, width = plan.prepared
    bias = _padded_bias(bias, groups, w.shape[1], panels * width, x.dtype)
    arguments = x, packed, bias, w.shape[1], y, *epilogue, frame.packed, *plan.cut
    return partial(direct.correlate, *arguments, *_scratch(plan, x.dtype, take))


def _lines(plan, x, w, bias, y, epilogue, frame, prepared, take):
    packed = _packed(plan, w, prepared)
    _, panels, _, width = plan.prepared
    bias = _padded_bias(bias, 1, w.shape[1], panels * width, x.dtype)
    arguments = x, packed[0], bias[0], w.shape[1], y, *epilogue, frame.packed, *plan.cut
    return partial(direct.correlate_lines, *arguments, *_scratch(plan, x.dtype, take))


def _dots(plan, x, w, bias, y, epilogue, frame, prepared, take):
    rows = np.ascontiguousarray(w).reshape(plan.prepared)
    bias = _padded_bias(bias, *w.shape[:2], w.shape[1], x.dtype)
    arguments = x, rows, bias, y, *epilogue, frame.packed, *plan.cut
    return partial(direct.correlate_dots, *arguments, *_scratch(plan, x.dtype, take))


def _planes(plan, x, w, bias, y, epilogue, frame, prepared, take):
    weights = np.ascontiguousarray(w).reshape(plan.prepared)
    bias = _padded_bias(bias, 1, 1, 1, x.dtype)[0]
    arguments = x, weights, bias, y, *epilogue, frame.packed, frame.outside, *plan.cut
    return partial(planes.correlate, *arguments, *_scratch(plan, x.dtype, take))


def _by_tap(plan, w, bias):
    """(taps, input of a group unless it has one, all outputs), and the bias of these."""
    weights = np.ascontiguousarray(w.transpose(2, 3, 4, 5, 0, 1)).reshape(plan.prepared)
    channels = plan.prepared[-1]
    return weights, _padded_bias(bias, 1, channels, channels, w.dtype)[0]


def _grouped(plan, x, w, bias, y, epilogue, frame, prepared, take):
    weights, bias = _by_tap(plan, w, bias)
    arguments = x, weights, bias, y, *epilogue, frame.packed, *plan.cut
    return partial(grouped.correlate, *arguments, *_scratch(plan, x.dtype, take))


def _depthwise(plan, x, w, bias, y, epilogue, frame, prepared, take):
    weights, bias = _by_tap(plan, w, bias)
    arguments = x, weights, bias, y, *epilogue, frame.packed
    return partial(grouped.correlate_lines, *arguments, *_scratch(plan, x.dtype, take))


def _transformed(plan, w, frame, prepared):
    """(panels, ...): the weights of every panel in winograd's domain."""
    *tile, width = (*plan.cut[:2], plan.cut[-1])
    form = frame.polyphase if plan.polyphase else frame
    phase = tuple(first % 2 for first in frame.first) if plan.polyphase else ()

    def transform():
        weights, kernels = empty(plan.prepared, w.dtype), w
        if plan.polyphase:
            kernels = _polyphase_weights(w, frame)
        winograd.transform_weights(
            kernels[0], weights, *tile, *form.step[1:], width, threads_for(weights.size)
        )
        return weights

    return prepared.get((plan.prepared, *tile, *frame.step, *phase), w, transform)


def _blocks(plan, x, w, bias, y, epilogue, frame, prepared, take):
    """Its call returns whether an output is infinite or NaN, and others of its tile with it."""
    weights = _transformed(plan, w, frame, prepared)
    if plan.polyphase:
        x, frame = _polyphase_input(x), frame.polyphase
    bias = _padded_bias(bias, 1, w.shape[1], len(weights) * plan.cut[-1], x.dtype)[0]
    zeros = np.zeros(x.shape[4], x.dtype)
    arguments = x, weights, bias, y, *epilogue, frame.packed, *plan.cut, zeros
    return partial(winograd.correlate_blocks, *arguments, *_scratch(plan, x.dtype, take))


def _shared(plan, x, w, bias, y, epilogue, frame, prepared, take):
    """Its call returns whether an output is infinite or NaN, and others of its tile with it."""
    panels, size = plan.prepared
    if plan.whole or prepared is not _NOT_KEPT:
        weights = _transformed(plan, w, frame, prepared)
    else:
        weights = np.empty((0, size), x.dtype)
    bias = _padded_bias(bias, 1, w.shape[1], panels * plan.cut[-1], x.dtype)[0]
    zeros = np.zeros(x.shape[4], x.dtype)
    (v,) = (take((size,), x.dtype) for size in plan.common)
    arguments = x, w[0], weights, bias, y, *epilogue, frame.packed, *plan.cut, zeros, v
    return partial(winograd.correlate_shared, *arguments, *_scratch(plan, x.dtype, take))


WAYS = {
    "gemm": _gemm,
    "tiles": _tiles,
    "lines": _lines,
    "dots": _dots,
    "planes": _planes,
    "grouped": _grouped,
    "depthwise": _depthwise,
    "blocks": _blocks,
    "shared": _shared,
}


def correlate_weight(x, dy, shape, frame, algorithm):
    """The gradient by weight, of `shape` (G, K, *taps, C).

    Parameters
    ----------
    x : ndarray of shape (N, D, H, W, G * C)
    dy : ndarray of shape (N, D', H', W', G * K)
    frame : fastconv._geometry.Frame
        Of the forward pass.
    algorithm : str
        Of the forward pass.
    """
    sizes = Shape(x.shape[0], *shape[:2], shape[5], x.itemsize)
    if not sizes.pixels(frame):
        return np.zeros(shape, x.dtype)
    plan = plan_weight_gradient(sizes, frame, algorithm)
    if plan.polyphase:
        form = sizes._replace(channels=2 * sizes.channels), frame.polyphase
        dw = WEIGHT_WAYS[plan.way](plan, _polyphase_input(x), dy, *form)
        dw = None if dw is None else _of_polyphase(dw, shape, frame)
    else:
        dw = WEIGHT_WAYS[plan.way](plan, x, dy, sizes, frame)
    if dw is None:  # an infinity or NaN has spread
        plan = plan_direct_weight(sizes, frame)
        dw = WEIGHT_WAYS[plan.way](plan, x, dy, sizes, frame)
    return dw.reshape(shape)


def _gemm_weight(plan, x, dy, shape, frame):
    (size,) = plan.common
    dw = empty((shape.groups, shape.outputs, shape.depth(frame)), x.dtype)
    parts = empty((size,), x.dtype).reshape(-1, *dw.shape) if size else dw[None]
    scratch = _scratch(plan, x.dtype, empty, blas_threads_for)
    with single_threaded_blas:
        failed = gemm.correlate_weight(x, dy, parts, frame.packed, *plan.cut, *scratch)
    check_blas(failed)
    return parts.sum(axis=0, out=dw) if size else dw


def _panels_weight(kernel, plan, x, dy, shape, frame):
    groups, outputs, depth = shape.groups, shape.outputs, shape.depth(frame)
    width = direct.panel_width(x.itemsize, outputs, direct.VECTORS)
    (size,) = plan.common
    sums = empty((size,), x.dtype).reshape(-1, groups, -(-outputs // width), depth, width)
    dw = empty((groups, outputs, depth), x.dtype)
    kernel(x, dy, dw, frame.packed, *plan.cut, sums, *_scratch(plan, x.dtype))
    return dw


def _grouped_weight(plan, x, dy, shape, frame):
    groups, width, taps = shape.groups, shape.outputs, math.prod(frame.taps)
    (size,) = plan.common
    parts = empty((size,), x.dtype).reshape(-1, taps, width, groups * width)
    grouped.correlate_weight(x, dy, parts, frame.packed, *plan.cut, *_scratch(plan, x.dtype))
    by_output = parts.sum(axis=0).reshape(taps, width, groups, width).transpose(2, 3, 0, 1)
    return np.ascontiguousarray(by_output)


def _depthwise_weight(plan, x, dy, shape, frame):
    (size,) = plan.common
    parts = empty((size,), x.dtype).reshape(-1, math.prod(frame.taps), shape.groups)
    grouped.correlate_weight_lines(x, dy, parts, frame.packed, *plan.cut, *_scratch(plan, x.dtype))
    return np.ascontiguousarray(parts.sum(axis=0).T)


def _winograd_weight(kernel, plan, x, dy, shape, frame):
    """None if a sum is infinite or NaN, and others of its kernel with it."""
    dw = empty((shape.outputs, shape.depth(frame)), x.dtype)
    zeros = np.zeros(shape.channels, x.dtype)
    common = (empty((size,), x.dtype) for size in plan.common)
    wild = kernel(x, dy, dw, frame.packed, *plan.cut, zeros, *common, *_scratch(plan, x.dtype))
    return None if wild else dw


WEIGHT_WAYS = {
    "gemm": _gemm_weight,
    "panels": partial(_panels_weight, direct.correlate_weight),
    "lines": partial(_panels_weight, direct.correlate_weight_lines),
    "grouped": _grouped_weight,
    "depthwise": _depthwise_weight,
    "winograd": partial(_winograd_weight, winograd.correlate_weight),
    "winograd_parts": partial(_winograd_weight, winograd.correlate_weight_parts),
}
