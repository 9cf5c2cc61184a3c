"""Hypothesis strategies: geometries of convolutions, pools and pads; and memory layouts."""

from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

DTYPES = (np.float32, np.float64)


class Convolution(NamedTuple):
    """Shapes and options of one convolution."""

    x_shape: tuple
    w_shape: tuple
    options: dict


class Pool(NamedTuple):
    """Shape and options of one pool."""

    x_shape: tuple
    options: dict


def axes(dims, low, high):
    """One number per spatial axis."""
    return st.tuples(*[st.integers(low, high)] * dims)


@st.composite
def convolutions(draw, max_stride=5):
    """Convolutions of 1 to 3 axes with at least one output pixel; padding in pairs."""
    dims = draw(st.integers(1, 3))
    kernel = draw(axes(dims, 1, 5 - dims))
    stride = draw(axes(dims, 1, max_stride))
    dilation = draw(axes(dims, 1, 6 if dims == 1 else 4))
    padding = draw(st.tuples(*[st.tuples(st.integers(0, 4), st.integers(0, 4))] * dims))
    extra = draw(axes(dims, 0, 12 // dims))
    size = tuple(
        max(1, d * (k - 1) + 1 - lo - hi) + e
        for k, d, (lo, hi), e in zip(kernel, dilation, padding, extra, strict=True)
    )
    groups = draw(st.integers(1, 3))
    channels = groups * draw(st.integers(1, 3))
    filters = groups * draw(st.integers(1, 3))
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    x_shape = (draw(st.integers(1, 3)), channels, *size)
    return Convolution(x_shape, (filters, channels // groups, *kernel), options)


@st.composite
def layers(draw):
    """Convolutions of images, of as many channels as each way of computing them asks for."""
    groups = draw(st.sampled_from([1] * 6 + [2, 16]))
    widths = st.sampled_from([1, 3, 16, 40, 64, 128] if groups == 1 else [1, 2, 3, 4, 8])
    channels, filters = draw(widths), draw(widths)
    kernel = draw(st.sampled_from([(3, 3), (5, 5)] * 3 + [(1, 1), (2, 2), (1, 3), (4, 2), (7, 7)]))
    stride = draw(st.sampled_from([1, 1, 1, 2, (2, 1), 3]))
    dilation = draw(st.sampled_from([1, 1, 1, 2, (1, 3)]))
    padding = draw(axes(2, 0, 3))
    extra = draw(axes(2, 0, 20))
    spans = np.multiply(dilation, np.subtract(kernel, 1)) + 1
    size = tuple(
        max(1, int(span) - 2 * p) + e for span, p, e in zip(spans, padding, extra, strict=True)
    )
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    x_shape = (draw(st.integers(1, 3)), groups * channels, *size)
    return Convolution(x_shape, (groups * filters, channels, *kernel), options)


@st.composite
def pools(draw, dilated=False):
    """Pools of 1 to 3 axes whose padding is at most half the kernel."""
    dims = draw(st.integers(1, 3))
    kernel = draw(axes(dims, 1, 6 - dims))
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    dilation = draw(axes(dims, 1, 3)) if dilated else (1,) * dims
    extra = draw(axes(dims, 0, 12 // dims))
    size = tuple(d * (k - 1) + 1 + e for k, d, e in zip(kernel, dilation, extra, strict=True))
    options = {
        "kernel_size": kernel,
        "stride": draw(st.none() | axes(dims, 1, 5)),
        "padding": padding,
        "ceil_mode": draw(st.booleans()),
    }
    if dilated:
        options["dilation"] = dilation
    return Pool((draw(st.integers(1, 2)), draw(st.integers(1, 3)), *size), options)


@st.composite
def pads(draw, mode):
    """(shape, pad) for images of 1 to 3 axes; negative pads, which crop, for constants only."""
    dims = draw(st.integers(1, 3))
    size = draw(axes(dims, 3, 6))
    low = -1 if mode == "constant" else 0
    highs = [s - 1 if mode == "reflect" else s for s in reversed(size)]
    pad = tuple(draw(st.integers(low, min(high, 4))) for high in highs for _ in range(2))
    return (2, 2, *size), pad


def seeds():
    """Seeds for the values, which are drawn by NumPy."""
    return st.integers(0, 2**32 - 1)


def layouts(array):
    """The same values in every memory layout that NumPy can express."""
    every_other = np.zeros([2 * s + 1 for s in array.shape], array.dtype)
    sliced = every_other[(..., *[slice(1, None, 2)] * array.ndim)]
    sliced[...] = array
    backwards = (..., *[slice(None, None, -1)] * array.ndim)
    read_only = array.copy()
    read_only.flags.writeable = False
    unaligned = np.zeros(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
    unaligned[...] = array
    channels_last = array.copy()
    if array.ndim > 2:
        channels_last = np.moveaxis(np.moveaxis(array, 1, -1).copy(), -1, 1)
    return {
        "Fortran order": array.copy(order="F"),
        "negative strides": array[backwards].copy()[backwards],
        "sliced": sliced,
        "byte-swapped": array.astype(array.dtype.newbyteorder()),
        "read-only": read_only,
        "unaligned": unaligned,
        "channels-last": channels_last,
    }
