"""The same convolution written for fastconv and for what one would use in its place.

Each function takes a layer and its arrays ``(x, w, b, dy)`` and returns a list of `Rival`,
empty where the form does not apply. Conversions to the form's own memory format happen here,
before any time is taken.
"""

import dataclasses
import functools
import math
from collections.abc import Callable

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy import signal

import fastconv
import fastconv.functional as F
from fastconv import nn
from fastconv._memory import empty
from fastconv.bench.timing import once

try:
    import torch
except ImportError:
    torch = None

__all__ = [
    "COLUMNS",
    "RESULTS",
    "TORCH",
    "Rival",
    "channels_last",
    "fastconv_call",
    "fastconv_rival",
    "reference",
    "rivals",
    "set_num_threads",
    "torch",
    "torch_forms",
    "torch_rival",
]

TORCH = ("torch NCHW", "torch ch. last")
COLUMNS = ("fastconv", "prepared", "NumPy", "NumPy tuned", "loops", "SciPy", *TORCH)
# What a training step returns; a forward pass returns the first of them.
RESULTS = ("output", "input gradient", "weight gradient", "bias gradient")


def at_once():
    """The estimate of a form that never takes long."""
    return 0.0


@dataclasses.dataclass(frozen=True)
class Rival:
    """One form: its column in the table, and its two passes as calls without arguments.

    `forward` returns the output, `step` RESULTS, as many as there are; None where the form does
    not have that pass. `estimate` returns about the seconds of `forward` without running all of
    it.
    """

    column: str
    forward: Callable | None
    step: Callable | None = None
    estimate: Callable = at_once


def rivals(layer, arrays):
    """All forms of the layer; a column may have several, of which the fastest counts."""
    forms = (fastconv_forms, numpy_forms, loop_forms, scipy_forms, torch_forms)
    return [rival for form in forms for rival in form(layer, *arrays)]


def set_num_threads(threads):
    """Of fastconv and PyTorch; BLAS libraries take theirs from the environment."""
    fastconv.set_num_threads(threads)
    if torch is not None:
        torch.set_num_threads(threads)


def reference(layer, backward):
    """RESULTS, or the output alone, in float64."""
    x, w, b, dy = layer.arrays(np.float64)
    if not backward:
        return numpy_forward(layer, PER_GROUP, x, w, b)[:1]
    return numpy_step(layer, PER_GROUP, x, w, b, dy)


# fastconv -----------------------------------------------------------------------------------


def fastconv_forms(layer, x, w, b, dy):
    x, w, dy = map(channels_last, (x, w, dy))
    layer_class = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[layer.n - 1]
    module = layer_class(layer.inputs, layer.outputs, layer.kernel, **layer.options)
    module.load_state_dict({"weight": w, "bias": b})
    module.eval()

    def prepared():
        with fastconv.no_grad():
            return module(x)

    ours = fastconv_rival("fastconv", fastconv_call(layer), (x, w, b), dy)
    return [ours, Rival("prepared", prepared)]


def fastconv_call(layer, **options):
    """The layer as a function of input, weight and bias."""
    conv = (F.conv1d, F.conv2d, F.conv3d)[layer.n - 1]
    return functools.partial(conv, **layer.options, **options)


def fastconv_rival(column, call, inputs, dy):
    """`call` of the arrays; in a step, of Tensors of them, whose output has the gradient `dy`."""
    tensors = [fastconv.Tensor(array, requires_grad=True) for array in inputs]

    def step():
        for tensor in tensors:
            tensor.grad = None
        y = call(*tensors)
        y.backward(dy)
        return y, *(tensor.grad for tensor in tensors)

    return Rival(column, lambda: call(*inputs), step)


def channels_last(array):
    """The same logical array, channels innermost in memory, as fastconv's layers return it.

    That is large arrays from a cache line on, as PyTorch's copy of the array begins too.
    """
    moved = np.moveaxis(array, 1, -1)
    copy = empty(moved.shape, array.dtype)
    copy[...] = moved
    return np.moveaxis(copy, -1, 1)


# NumPy --------------------------------------------------------------------------------------


def correlate_windows(windows, w, groups):
    """y (N, K, *out) of windows (N, C, *out, *kernel), as the formula reads: windows times w."""
    kernel = (1, *range(2 - w.ndim, 0))
    parts = [
        np.moveaxis(np.tensordot(part, kernels, (kernel, kernel)), -1, 1)
        for part, kernels in zip(np.split(windows, groups, 1), np.split(w, groups), strict=True)
    ]
    return parts[0] if groups == 1 else np.concatenate(parts, 1)


def correlate_groups(windows, w, groups):
    """The same with the factors exchanged, which copies the windows in longer runs."""
    kernel = (1, *range(2 - w.ndim, 0))
    parts = [
        np.tensordot(kernels, part, (kernel, kernel)).swapaxes(0, 1)
        for part, kernels in zip(np.split(windows, groups, 1), np.split(w, groups), strict=True)
    ]
    return parts[0] if groups == 1 else np.concatenate(parts, 1)


def weight_gradient_groups(windows, dy, groups):
    """dw (K, C / G, *kernel) of the same windows."""
    pixels = (0, *range(2, dy.ndim))
    parts = [
        np.moveaxis(np.tensordot(part, grad, (pixels, pixels)), -1, 0)
        for part, grad in zip(np.split(windows, groups, 1), np.split(dy, groups, 1), strict=True)
    ]
    return parts[0] if groups == 1 else np.concatenate(parts)


def correlate_stacked(windows, w, groups):
    """The same as one product with the groups as leading axis: few calls, one large copy."""
    columns = stacked_columns(windows, w.ndim - 2, groups)
    y = np.matmul(w.reshape(groups, -1, columns.shape[1]), columns)
    batch, _, *out = windows.shape[: w.ndim]
    return y.reshape(len(w), batch, *out).swapaxes(0, 1)


def weight_gradient_stacked(windows, dy, groups):
    columns = stacked_columns(windows, dy.ndim - 2, groups)
    grads = dy.swapaxes(0, 1).reshape(groups, -1, columns.shape[2])
    dw = np.matmul(grads, columns.swapaxes(1, 2))
    return dw.reshape(dy.shape[1], -1, *windows.shape[dy.ndim :])


def stacked_columns(windows, n, groups):
    """(G, C / G * taps, pixels)."""
    batch, channels, *sizes = windows.shape
    depth = channels // groups * math.prod(sizes[n:])
    order = (1, *range(n + 2, 2 * n + 2), 0, *range(2, n + 2))
    return windows.transpose(order).reshape(groups, depth, batch * math.prod(sizes[:n]))


PLAIN = (correlate_windows, weight_gradient_groups)
PER_GROUP = (correlate_groups, weight_gradient_groups)
STACKED = (correlate_stacked, weight_gradient_stacked)


def numpy_forms(layer, x, w, b, dy):
    tuned = (PER_GROUP,) if layer.groups == 1 else (PER_GROUP, STACKED)
    forms = [("NumPy", PLAIN), *(("NumPy tuned", products) for products in tuned)]
    return [
        Rival(
            column,
            lambda products=products: numpy_forward(layer, products, x, w, b)[0],
            lambda products=products: numpy_step(layer, products, x, w, b, dy),
        )
        for column, products in forms
    ]


def numpy_forward(layer, products, x, w, b):
    """y, and the windows that the weight gradient needs."""
    correlate, _ = products
    strides = (slice(None, None, layer.stride),) * layer.n
    windows = dilated_windows(layer, pad(layer, x))[(slice(None), slice(None), *strides)]
    y = correlate(windows, w, layer.groups)
    y += b.reshape(-1, *(1,) * layer.n)
    return y, windows


def numpy_step(layer, products, x, w, b, dy):
    correlate, weight_gradient = products
    y, windows = numpy_forward(layer, products, x, w, b)
    dw = weight_gradient(windows, dy, layer.groups)
    db = dy.sum(axis=(0, *range(2, dy.ndim)))
    # dx: the spread output gradient correlated with the mirrored kernel, C and K exchanged
    by_group = w.reshape(layer.groups, -1, *w.shape[1:]).swapaxes(1, 2)
    mirrored = np.flip(by_group.reshape(-1, *by_group.shape[2:]), range(2, w.ndim))
    dx = correlate(dilated_windows(layer, spread(layer, dy)), mirrored, layer.groups)
    return y, dx, dw, db


def pad(layer, x):
    return np.pad(x, [(0, 0), (0, 0), *((pad, pad) for pad in layer.padding)])


def dilated_windows(layer, x):
    """(N, C, *places, *kernel), a view."""
    windows = sliding_window_view(x, spans(layer), axis=tuple(range(2, x.ndim)))
    return windows[(..., *(slice(None, None, layer.dilation),) * layer.n)]


def spread(layer, dy):
    """dy with zeros between (stride) and around, so that its windows cover the input's size."""
    before = [span - 1 - pad for span, pad in zip(spans(layer), layer.padding, strict=True)]
    sizes = [size + span - 1 for size, span in zip(layer.size, spans(layer), strict=True)]
    out = np.zeros((*dy.shape[:2], *sizes), dy.dtype)
    places = [
        slice(start, start + (count - 1) * layer.stride + 1, layer.stride)
        for start, count in zip(before, dy.shape[2:], strict=True)
    ]
    out[(..., *places)] = dy
    return out


def spans(layer):
    """The kernel's extent in the input, holes included."""
    return [layer.dilation * (taps - 1) + 1 for taps in layer.kernel]


# Plane by plane: loops and SciPy ------------------------------------------------------------


def by_planes(column, layer, plane):
    """The rival that computes y[n, k] as ``plane(n, k)``."""
    batch, outputs = layer.output_shape[:2]

    def forward():
        y = np.empty(layer.output_shape, np.float32)
        for n, k in np.ndindex(batch, outputs):
            y[n, k] = plane(n, k)
        return y

    def estimate():
        plane(0, 0)
        return batch * outputs * once(lambda: plane(0, 0))

    return Rival(column, forward, estimate=estimate)


def inputs_of(layer, k):
    """The slice of input channels that output channel k sees."""
    width = layer.inputs // layer.groups
    group = k // (layer.outputs // layer.groups)
    return slice(group * width, (group + 1) * width)


def loop_forms(layer, x, w, b, dy):
    """A loop over every output value."""
    padded = pad(layer, x)

    def plane(n, k):
        image = padded[n, inputs_of(layer, k)]
        y = np.empty(layer.output_shape[2:], np.float32)
        for place in np.ndindex(y.shape):
            starts = (layer.stride * index for index in place)
            window = [
                slice(start, start + span, layer.dilation)
                for start, span in zip(starts, spans(layer), strict=True)
            ]
            y[place] = (image[:, *window] * w[k]).sum() + b[k]
        return y

    return [by_planes("loops", layer, plane)]


def scipy_forms(layer, x, w, b, dy):
    """Channel by channel, or all channels in one overlap-add convolution, then summed."""
    holes = (..., *(slice(None, None, layer.dilation),) * layer.n)
    dilated = np.zeros((*w.shape[:2], *spans(layer)), np.float32)
    dilated[holes] = w
    strided = (..., *(slice(None, None, layer.stride),) * layer.n)
    axes = tuple(range(1, layer.n + 1))
    padded = pad(layer, x)

    def correlate(n, k):
        pairs = zip(padded[n, inputs_of(layer, k)], dilated[k], strict=True)
        y = sum(signal.correlate(image, kernel, "valid") for image, kernel in pairs)
        return y[strided] + b[k]

    def oaconvolve(n, k):
        image = padded[n, inputs_of(layer, k)]
        y = signal.oaconvolve(image, np.flip(dilated[k], axes), "valid", axes=axes).sum(axis=0)
        return y[strided] + b[k]

    return [by_planes("SciPy", layer, plane) for plane in (correlate, oaconvolve)]


# PyTorch ------------------------------------------------------------------------------------


def torch_forms(layer, *arrays):
    """NCHW and channels_last, for input, weight and output gradient alike.

    PyTorch has no channels_last for signals; they go as images of height 1 there.
    """
    if torch is None:
        return []
    image = layer
    if layer.n == 1:
        image = dataclasses.replace(
            layer, size=(1, *layer.size), kernel=(1, *layer.kernel), padding=(0, *layer.padding)
        )
    memory = torch.channels_last_3d if layer.n == 3 else torch.channels_last
    return [
        torch_form(TORCH[0], torch.contiguous_format, layer, *arrays),
        torch_form(TORCH[1], memory, image, *arrays),
    ]


def torch_form(column, memory, layer, x, w, b, dy):
    functional = torch.nn.functional
    conv = (functional.conv1d, functional.conv2d, functional.conv3d)[layer.n - 1]
    x, w, dy = (
        torch.from_numpy(array.reshape(shape)).contiguous(memory_format=memory)
        for array, shape in (
            (x, layer.input_shape),
            (w, layer.weight_shape),
            (dy, layer.output_shape),
        )
    )
    call = functools.partial(conv, **layer.options)
    return torch_rival(column, call, (x, w, torch.from_numpy(b)), dy)


def torch_rival(column, call, inputs, dy):
    """`call` of the torch tensors; in a step, with `dy` as the gradient of its output."""
    leaves = [tensor.detach().requires_grad_() for tensor in inputs]

    def forward():
        with torch.inference_mode():
            return call(*inputs)

    def step():
        y = call(*leaves)
        return y.detach(), *torch.autograd.grad(y, leaves, dy)

    return Rival(column, forward, step)
