"""What the rules of layers become in ONNX: convolution and the dense layer.

An emitter has its rule's arguments, with a :class:`~fastconv.onnx.builder.Builder` in the place of
`needs`, and returns the result's name.
"""

import math

import numpy as np

from fastconv import _checks, _geometry

__all__ = ["EMITTERS", "batched", "ends", "padding_pairs"]


def batched(g, x, n, emit):
    """``emit(x)`` of a value with n spatial axes, which gets a batch axis if it has none."""
    if len(g.shape(x)) == n + 2:
        return emit(x)
    results = emit(g.unsqueeze(x, 0))
    if isinstance(results, tuple):
        return tuple(g.squeeze(y, 0) for y in results)
    return g.squeeze(results, 0)


def ends(pairs):
    """(before, after) per axis as ONNX has them: all that is before, then all after."""
    before, after = zip(*pairs, strict=True)
    return (*before, *after)


def padding_pairs(g, x, n, padding, kernel, stride, dilation):
    """Padding as (before, after) per axis."""
    size = None
    if isinstance(padding, str) and padding.startswith("same_"):  # these follow the sizes
        size = tuple(map(int, g.shape(x)[-n:]))
    return _geometry.padding_pairs(padding, n, kernel, stride, dilation, size)


def _conv(g, x, w, b, *, options, algorithm, prepared=None):
    n, stride, padding, dilation, groups = options
    kernel = g.shape(w)[2:]
    stride = _checks.integers("stride", stride, n)
    dilation = _checks.integers("dilation", dilation, n)
    pads = ends(padding_pairs(g, x, n, padding, kernel, stride, dilation))
    return batched(
        g, x, n,
        lambda x: g.add(
            "Conv", x, w, b, kernel_shape=kernel, strides=stride, dilations=dilation, pads=pads,
            group=groups,
        ),
    )  # fmt: skip


def _conv_transpose(g, x, w, b, *, options, algorithm):
    n, stride, padding, output_padding, groups, dilation = options
    kernel = g.shape(w)[2:]
    stride = _checks.integers("stride", stride, n)
    dilation = _checks.integers("dilation", dilation, n)
    spare = _checks.integers("output_padding", output_padding, n)
    pads = ends(padding_pairs(g, x, n, padding, kernel, stride, dilation))
    return batched(
        g, x, n,
        lambda x: g.add(
            "ConvTranspose", x, w, b, kernel_shape=kernel, strides=stride, dilations=dilation,
            pads=pads, output_padding=spare if any(spare) else None, group=groups,
        ),
    )  # fmt: skip


def _linear(g, x, w, b):
    if len(g.shape(x)) == 2:
        return g.add("Gemm", x, w, b, transB=1)
    y = g.add("MatMul", x, g.add("Transpose", w, perm=(1, 0)))
    return y if b is None else g.add("Add", y, b)


def _taps(channels, kernel, dtype):
    """Weights of a convolution whose every output is one tap of one channel."""
    taps = math.prod(kernel)
    eye = np.eye(taps, dtype=dtype).reshape(taps, 1, *kernel)
    return np.tile(eye, (channels, *[1] * (len(kernel) + 1)))


def _im2col(g, x, *, kernel_size, stride, padding, dilation):
    """A convolution that copies, as ONNX has no operator of this kind."""
    n, channels = len(g.shape(x)) - 2, int(g.shape(x)[1])
    kernel = _checks.integers("kernel_size", kernel_size, n)
    w = _taps(channels, kernel, g.dtype(x))
    options = n, stride, padding, dilation, channels
    return g.add("Reshape", _conv(g, x, w, None, options=options, algorithm=None), _rows(g))


def _rows(g):
    """The shape (N, what there is, -1)."""
    return g.numbers((0, int(g.shape(g.result)[1]), -1))


def _col2im(g, x, *, size, kernel_size, stride, padding, dilation):
    n = len(size)
    kernel = _checks.integers("kernel_size", kernel_size, n)
    channels = int(g.shape(x)[1]) // math.prod(kernel)
    geometry = _geometry.convolution(size, kernel, stride, padding, dilation)
    stride, dilation = geometry.stride[3 - n :], geometry.dilation[3 - n :]
    pads = geometry.padding[3 - n :]
    # The places that no window covers lie after the last one.
    spare = [
        length - ((o - 1) * s + _geometry.window_size(k, d) - before - after)
        for length, o, s, k, d, (before, after) in zip(
            size, geometry.output, stride, kernel, dilation, pads, strict=True
        )
    ]
    maps = g.numbers((0, int(g.shape(x)[1]), *geometry.output))
    return g.add(
        "ConvTranspose", g.add("Reshape", x, maps), _taps(channels, kernel, g.dtype(x)),
        kernel_shape=kernel, strides=stride, dilations=dilation, pads=ends(pads),
        output_padding=spare if any(spare) else None, group=channels,
    )  # fmt: skip


EMITTERS = {
    "functional.conv._conv_rule": _conv,
    "functional.conv._conv_transpose_rule": _conv_transpose,
    "functional.fold._col2im_rule": _col2im,
    "functional.fold._im2col_rule": _im2col,
    "functional.linear._linear_rule": _linear,
}
