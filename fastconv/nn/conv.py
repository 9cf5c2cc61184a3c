"""Convolution layers, and the layers of im2col."""

import math

import numpy as np

import fastconv.functional as F
from fastconv import _checks, _geometry
from fastconv._algorithm import ALGORITHMS
from fastconv._correlate import Prepared
from fastconv._layout import channels_first
from fastconv.functional.conv import conv, conv_bordered, conv_transpose
from fastconv.functional.pad import PADDING_MODES
from fastconv.nn import init
from fastconv.nn.module import Module, Parameter

__all__ = [
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "Fold",
    "Unfold",
]


def default_weights(module, shape, fan_in, biases, dtype, generator):
    """PyTorch's default: weights and so many biases uniform within 1 / sqrt(fan in).

    A kernel's memory is channels-last, the form in which convolution reads it.
    """
    dtype = _checks.float_dtype("dtype", dtype)
    rows, width, *kernel = shape
    if kernel:
        memory = np.empty((rows, *_geometry.three(kernel, 1), width), dtype)
        weight = channels_first(memory, len(shape))
    else:
        weight = np.empty(shape, dtype)
    module.weight = Parameter(weight)
    module.register_parameter("bias", Parameter(np.empty(biases, dtype)) if biases else None)
    bound = 1 / math.sqrt(fan_in)
    init.uniform_(module.weight, -bound, bound, generator)
    if biases:
        init.uniform_(module.bias, -bound, bound, generator)


class _Kernels(Module):
    """What a convolution and its transpose have in common."""

    n = None
    transposed = False

    def __init__(
        self,
        in_channels,
        out_channels,
        kernel_size,
        stride,
        padding,
        dilation,
        groups,
        bias,
        algorithm,
        dtype,
        generator,
    ):
        super().__init__()
        n = self.n
        self.in_channels = _checks.integer("in_channels", in_channels, minimum=1)
        self.out_channels = _checks.integer("out_channels", out_channels, minimum=1)
        self.groups = _checks.integer("groups", groups, minimum=1)
        for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if channels % groups:
                raise ValueError(f"groups must divide {name}={channels}, got groups={groups}")
        self.kernel_size = _checks.integers("kernel_size", kernel_size, n, minimum=1)
        self.stride = _checks.integers("stride", stride, n, minimum=1)
        self.dilation = _checks.integers("dilation", dilation, n, minimum=1)
        if algorithm is not None:
            _checks.one_of("algorithm", algorithm, ALGORITHMS)
        self.algorithm = algorithm
        self.padding = padding
        # checked here, and known in pairs
        self._pairs = _geometry.padding_pairs(
            padding, n, self.kernel_size, self.stride, self.dilation
        )
        channels = (out_channels, in_channels)
        rows, columns = channels[::-1] if self.transposed else channels
        shape = (rows, columns // groups, *self.kernel_size)
        biases = out_channels if bias else 0
        default_weights(self, shape, math.prod(shape[1:]), biases, dtype, generator)

    def extra_repr(self):
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"
        for name, default in (("stride", (1,) * self.n), ("dilation", (1,) * self.n)):
            if getattr(self, name) != default:
                text += f", {name}={getattr(self, name)}"
        if any(map(any, self._pairs)):
            text += f", padding={self.padding!r}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        if self.bias is None:
            text += ", bias=False"
        if self.algorithm is not None:
            text += f", algorithm={self.algorithm!r}"
        return text


class _Conv(_Kernels):
    def __init__(
        self,
        in_channels,
        out_channels,
        kernel_size,
        stride=1,
        padding=0,
        dilation=1,
        groups=1,
        bias=True,
        padding_mode="zeros",
        *,
        algorithm=None,
        dtype=np.float32,
        generator=None,
    ):
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias,
            algorithm,
            dtype,
            generator,
        )
        self.padding_mode = _checks.one_of("padding_mode", padding_mode, tuple(PADDING_MODES))
        self._prepared = Prepared()

    def forward(self, input):
        arguments = self.n, input, self.weight, self.bias
        options = self.stride, self._pairs, self.dilation, self.groups
        kept = self.algorithm, None if self.training else self._prepared
        if self.padding_mode == "zeros":
            return conv(*arguments, *options, *kept)
        return conv_bordered(*arguments, *options, PADDING_MODES[self.padding_mode], *kept)

    def extra_repr(self):
        text = super().extra_repr()
        if self.padding_mode != "zeros":
            text += f", padding_mode={self.padding_mode!r}"
        return text


class _ConvTranspose(_Kernels):
    transposed = True

    def __init__(
        self,
        in_channels,
        out_channels,
        kernel_size,
        stride=1,
        padding=0,
        output_padding=0,
        groups=1,
        bias=True,
        dilation=1,
        padding_mode="zeros",
        *,
        algorithm=None,
        dtype=np.float32,
        generator=None,
    ):
        if isinstance(padding, str):
            raise TypeError(f"padding must be an int, ints or pairs of ints, got {padding!r}")
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias,
            algorithm,
            dtype,
            generator,
        )
        self.padding_mode = _checks.one_of("padding_mode", padding_mode, ("zeros",))
        self.output_padding = _checks.integers("output_padding", output_padding, self.n, minimum=0)

    def forward(self, input, output_size=None):
        output_padding = self.output_padding
        if output_size is not None and np.ndim(input) > self.n:
            output_padding = _geometry.output_padding_for(
                output_size,
                np.shape(input)[-self.n :],
                self.kernel_size,
                self.stride,
                self._pairs,
                self.dilation,
            )
        return conv_transpose(
            self.n,
            input,
            self.weight,
            self.bias,
            self.stride,
            self._pairs,
            output_padding,
            self.groups,
            self.dilation,
            self.algorithm,
        )

    def extra_repr(self):
        text = super().extra_repr()
        if any(self.output_padding):
            text += f", output_padding={self.output_padding}"
        return text


class Conv1d(_Conv):
    """Convolution of signals (N, C, L); see :class:`Conv2d`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> nn.Conv1d(7, 2, 3, padding=1)(np.zeros((1, 7, 100), np.float32)).shape
    (1, 2, 100)
    """

    n = 1


class Conv2d(_Conv):
    """Convolution of images (N, C, H, W), with trained kernels.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size : int or tuple of int
    stride, dilation : int or tuple of int, default 1
    padding : int, tuple of int, tuple of pairs, "same" or "valid", default 0
    groups : int, default 1
    bias : bool, default True
    padding_mode : {"zeros", "reflect", "replicate", "circular"}
        What stands outside the image.
    algorithm : {"auto", "gemm", "direct", "winograd"}, optional
        As in :func:`fastconv.functional.conv2d`.
    dtype : float32 or float64
    generator : numpy.random.Generator, optional
        Of the initial weights; by default the one :func:`fastconv.manual_seed` seeds.

    Attributes
    ----------
    weight : Parameter of shape (out_channels, in_channels / groups, kH, kW)
    bias : Parameter of shape (out_channels,), or None

    Raises
    ------
    ValueError, TypeError
        For options that do not fit together.

    Notes
    -----
    A kernel does not depend on the size of the image: one layer takes images of any size.

    In evaluation mode the layer keeps its weights in the form that kernels read, and makes it
    anew when they have changed. With a copy to compare, 3x3 kernels of whole vectors of outputs
    take five times their memory then.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> layer = nn.Conv2d(3, 8, 3, stride=2, padding=1)
    >>> layer(np.zeros((1, 3, 32, 48), np.float32)).shape
    (1, 8, 16, 24)
    """

    n = 2


class Conv3d(_Conv):
    """Convolution of volumes (N, C, D, H, W); see :class:`Conv2d`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> nn.Conv3d(1, 4, 3, padding="same")(np.zeros((1, 1, 5, 6, 7), np.float32)).shape
    (1, 4, 5, 6, 7)
    """

    n = 3


class ConvTranspose1d(_ConvTranspose):
    """Transposed convolution of signals (N, C, L); see :class:`ConvTranspose2d`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> nn.ConvTranspose1d(7, 2, 4, stride=2, padding=1)(np.zeros((1, 7, 50), np.float32)).shape
    (1, 2, 100)
    """

    n = 1


class ConvTranspose2d(_ConvTranspose):
    """Transposed convolution of images (N, C, H, W): the way back of a :class:`Conv2d`, in sizes.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size : int or tuple of int
    stride : int or tuple of int, default 1
    padding : int, tuple of int or tuple of pairs, default 0
    output_padding : int or tuple of int, default 0
    groups : int, default 1
    bias : bool, default True
    dilation : int or tuple of int, default 1
    padding_mode : {"zeros"}
    algorithm : {"auto", "gemm", "direct", "winograd"}, optional
        All as in :func:`fastconv.functional.conv_transpose2d`.
    dtype : float32 or float64
    generator : numpy.random.Generator, optional
        Of the initial weights; by default the one :func:`fastconv.manual_seed` seeds.

    Attributes
    ----------
    weight : Parameter of shape (in_channels, out_channels / groups, kH, kW)
    bias : Parameter of shape (out_channels,), or None

    Raises
    ------
    ValueError, TypeError
        For options that do not fit together.

    Notes
    -----
    A convolution of stride s makes one size of s different ones. ``layer(input, output_size)``
    chooses among them, in place of `output_padding`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> layer = nn.ConvTranspose2d(8, 3, 3, stride=2, padding=1)
    >>> x = np.zeros((1, 8, 16, 24), np.float32)
    >>> layer(x).shape
    (1, 3, 31, 47)
    >>> layer(x, output_size=(32, 48)).shape
    (1, 3, 32, 48)
    """

    n = 2


class ConvTranspose3d(_ConvTranspose):
    """Transposed convolution of volumes (N, C, D, H, W); see :class:`ConvTranspose2d`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> nn.ConvTranspose3d(4, 1, 2, stride=2)(np.zeros((1, 4, 2, 3, 4), np.float32)).shape
    (1, 1, 4, 6, 8)
    """

    n = 3


class Unfold(Module):
    """:func:`fastconv.functional.unfold` as a layer."""

    def __init__(self, kernel_size, dilation=1, padding=0, stride=1):
        super().__init__()
        self.options = (kernel_size, dilation, padding, stride)

    def forward(self, input):
        return F.unfold(input, *self.options)

    def extra_repr(self):
        return "kernel_size={}, dilation={}, padding={}, stride={}".format(*self.options)


class Fold(Module):
    """:func:`fastconv.functional.fold` as a layer."""

    def __init__(self, output_size, kernel_size, dilation=1, padding=0, stride=1):
        super().__init__()
        self.output_size = output_size
        self.options = (kernel_size, dilation, padding, stride)

    def forward(self, input):
        return F.fold(input, self.output_size, *self.options)

    def extra_repr(self):
        return "output_size={}, kernel_size={}, dilation={}, padding={}, stride={}".format(
            self.output_size, *self.options
        )
