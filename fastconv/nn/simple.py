"""Dense, dropout, padding and reshaping layers."""

import numpy as np

import fastconv.functional as F
from fastconv import _checks
from fastconv.autograd.ops import sizes_of_axis
from fastconv.nn.conv import default_weights
from fastconv.nn.module import Module

__all__ = [
    "AlphaDropout",
    "ChannelShuffle",
    "CircularPad1d",
    "CircularPad2d",
    "CircularPad3d",
    "ConstantPad1d",
    "ConstantPad2d",
    "ConstantPad3d",
    "Dropout",
    "Dropout1d",
    "Dropout2d",
    "Dropout3d",
    "Flatten",
    "Linear",
    "PixelShuffle",
    "PixelUnshuffle",
    "ReflectionPad1d",
    "ReflectionPad2d",
    "ReflectionPad3d",
    "ReplicationPad1d",
    "ReplicationPad2d",
    "ReplicationPad3d",
    "Unflatten",
    "ZeroPad1d",
    "ZeroPad2d",
    "ZeroPad3d",
]


class Linear(Module):
    """x W^T + b along the last axis.

    Parameters
    ----------
    in_features, out_features : int
    bias : bool, default True
    dtype : float32 or float64
    generator : numpy.random.Generator, optional
        Of the initial weights.

    Attributes
    ----------
    weight : Parameter of shape (out_features, in_features)
    bias : Parameter of shape (out_features,), or None

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> nn.Linear(3, 2)(np.zeros((5, 3), np.float32)).shape
    (5, 2)
    """

    def __init__(self, in_features, out_features, bias=True, *, dtype=np.float32, generator=None):
        super().__init__()
        self.in_features = _checks.integer("in_features", in_features, minimum=1)
        self.out_features = _checks.integer("out_features", out_features, minimum=1)
        shape = (self.out_features, self.in_features)
        biases = self.out_features if bias else 0
        default_weights(self, shape, self.in_features, biases, dtype, generator)

    def forward(self, input):
        return F.linear(input, self.weight, self.bias)

    def extra_repr(self):
        text = f"{self.in_features}, {self.out_features}"
        return text if self.bias is not None else text + ", bias=False"


class Dropout(Module):
    """:func:`fastconv.functional.dropout` in training mode, the identity in evaluation.

    Parameters
    ----------
    p : float, default 0.5
    inplace : bool, default False
    generator : numpy.random.Generator, optional
    """

    def __init__(self, p=0.5, inplace=False, *, generator=None):
        super().__init__()
        self.p = _checks.real("p", p)
        if not 0 <= self.p <= 1:
            raise ValueError(f"p must be in [0, 1], got {p}")
        self.inplace, self.generator = bool(inplace), generator

    def forward(self, input):
        return F.dropout(input, self.p, self.training, self.inplace, self.generator)

    def extra_repr(self):
        return f"p={self.p}"


class Dropout1d(Dropout):
    """:func:`fastconv.functional.dropout1d`: whole channels; see :class:`Dropout`."""

    def forward(self, input):
        return F.dropout1d(input, self.p, self.training, self.inplace, self.generator)


class Dropout2d(Dropout):
    """:func:`fastconv.functional.dropout2d`: whole channels; see :class:`Dropout`."""

    def forward(self, input):
        return F.dropout2d(input, self.p, self.training, self.inplace, self.generator)


class Dropout3d(Dropout):
    """:func:`fastconv.functional.dropout3d`: whole channels; see :class:`Dropout`."""

    def forward(self, input):
        return F.dropout3d(input, self.p, self.training, self.inplace, self.generator)


class AlphaDropout(Dropout):
    """:func:`fastconv.functional.alpha_dropout`, for SELU networks; see :class:`Dropout`."""

    def forward(self, input):
        return F.alpha_dropout(input, self.p, self.training, self.inplace, self.generator)


class PixelShuffle(Module):
    """:func:`fastconv.functional.pixel_shuffle` as a layer."""

    def __init__(self, upscale_factor):
        super().__init__()
        self.upscale_factor = _checks.integer("upscale_factor", upscale_factor, minimum=1)

    def forward(self, input):
        return F.pixel_shuffle(input, self.upscale_factor)

    def extra_repr(self):
        return f"upscale_factor={self.upscale_factor}"


class PixelUnshuffle(Module):
    """:func:`fastconv.functional.pixel_unshuffle` as a layer."""

    def __init__(self, downscale_factor):
        super().__init__()
        self.downscale_factor = _checks.integer("downscale_factor", downscale_factor, minimum=1)

    def forward(self, input):
        return F.pixel_unshuffle(input, self.downscale_factor)

    def extra_repr(self):
        return f"downscale_factor={self.downscale_factor}"


class ChannelShuffle(Module):
    """:func:`fastconv.functional.channel_shuffle` as a layer."""

    def __init__(self, groups):
        super().__init__()
        self.groups = _checks.integer("groups", groups, minimum=1)

    def forward(self, input):
        return F.channel_shuffle(input, self.groups)

    def extra_repr(self):
        return f"groups={self.groups}"


class Unflatten(Module):
    """The axis `dim` made several, in logical order; one of the sizes may be -1.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> nn.Unflatten(1, (3, -1))(np.zeros((2, 12))).shape
    (2, 3, 4)
    """

    def __init__(self, dim, unflattened_size):
        super().__init__()
        self.dim = _checks.integer("dim", dim)
        self.unflattened_size = sizes_of_axis("unflattened_size", unflattened_size)

    def forward(self, input):
        return input.unflatten(self.dim, self.unflattened_size)

    def extra_repr(self):
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"


class Flatten(Module):
    """The axes from `start_dim` to `end_dim` made one, in logical order.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> nn.Flatten()(np.zeros((2, 3, 4, 5))).shape
    (2, 60)
    """

    def __init__(self, start_dim=1, end_dim=-1):
        super().__init__()
        self.start_dim = _checks.integer("start_dim", start_dim)
        self.end_dim = _checks.integer("end_dim", end_dim)

    def forward(self, input):
        return input.flatten(self.start_dim, self.end_dim)

    def extra_repr(self):
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class _Pad(Module):
    n = None
    mode = "constant"

    def __init__(self, padding):
        super().__init__()
        if not _checks.is_sequence(padding):
            padding = (padding,) * (2 * self.n)
        self.padding = _checks.integers("padding", padding, 2 * self.n)

    def forward(self, input):
        return F.pad(input, self.padding, self.mode)

    def extra_repr(self):
        return str(self.padding)


class ZeroPad1d(_Pad):
    """Zeros around the last axis: an int, or (before, after)."""

    n = 1


class ZeroPad2d(_Pad):
    """Zeros around the last two axes: an int, or (left, right, top, bottom)."""

    n = 2


class ZeroPad3d(_Pad):
    """Zeros around the last three axes: an int, or six sizes, the last axis first."""

    n = 3


class _ConstantPad(_Pad):
    def __init__(self, padding, value):
        super().__init__(padding)
        self.value = _checks.real("value", value)

    def forward(self, input):
        return F.pad(input, self.padding, "constant", self.value)

    def extra_repr(self):
        return f"{self.padding}, value={self.value}"


class ConstantPad1d(_ConstantPad):
    """One value around the last axis."""

    n = 1


class ConstantPad2d(_ConstantPad):
    """One value around the last two axes."""

    n = 2


class ConstantPad3d(_ConstantPad):
    """One value around the last three axes."""

    n = 3


class ReflectionPad1d(_Pad):
    """The mirror image around the last axis."""

    n, mode = 1, "reflect"


class ReflectionPad2d(_Pad):
    """The mirror image around the last two axes."""

    n, mode = 2, "reflect"


class ReflectionPad3d(_Pad):
    """The mirror image around the last three axes."""

    n, mode = 3, "reflect"


class ReplicationPad1d(_Pad):
    """The edge value around the last axis."""

    n, mode = 1, "replicate"


class ReplicationPad2d(_Pad):
    """The edge value around the last two axes."""

    n, mode = 2, "replicate"


class ReplicationPad3d(_Pad):
    """The edge value around the last three axes."""

    n, mode = 3, "replicate"


class CircularPad1d(_Pad):
    """Periodic boundaries around the last axis."""

    n, mode = 1, "circular"


class CircularPad2d(_Pad):
    """Periodic boundaries around the last two axes."""

    n, mode = 2, "circular"


class CircularPad3d(_Pad):
    """Periodic boundaries around the last three axes."""

    n, mode = 3, "circular"
