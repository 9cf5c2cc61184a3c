"""Normalisation layers."""

import numpy as np

import fastconv.functional as F
from fastconv import _checks
from fastconv._activation import NONE
from fastconv.functional.norm import layer_shape, normalize
from fastconv.nn.module import Module, Parameter

__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "GroupNorm",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "LayerNorm",
]


def _affine(module, shape, weight, bias, dtype):
    """Give a module a weight of ones and a bias of zeros, or None for either."""
    dtype = _checks.float_dtype("dtype", dtype)
    module.register_parameter("weight", Parameter(np.ones(shape, dtype)) if weight else None)
    module.register_parameter("bias", Parameter(np.zeros(shape, dtype)) if bias else None)


class _Norm(Module):
    """What a batch norm and an instance norm hold."""

    def __init__(self, num_features, eps, momentum, affine, track_running_stats, dtype):
        super().__init__()
        self.num_features = _checks.integer("num_features", num_features, minimum=1)
        self.eps = _checks.real("eps", eps)
        self.momentum = None if momentum is None else _checks.real("momentum", momentum)
        self.affine, self.track_running_stats = bool(affine), bool(track_running_stats)
        n, dtype = self.num_features, _checks.float_dtype("dtype", dtype)
        _affine(self, n, affine, affine, dtype)
        tracked = self.track_running_stats
        self.register_buffer("running_mean", np.zeros(n, dtype) if tracked else None)
        self.register_buffer("running_var", np.ones(n, dtype) if tracked else None)
        self.register_buffer("num_batches_tracked", np.zeros((), np.int64) if tracked else None)

    def extra_repr(self):
        text = f"{self.num_features}, eps={self.eps}, momentum={self.momentum}"
        return f"{text}, affine={self.affine}, track_running_stats={self.track_running_stats}"


class _BatchNorm(_Norm):
    axes = ()  # numbers of axes an input may have
    optional_state = ("num_batches_tracked",)  # PyTorch has saved it since version 0.4.1

    def __init__(
        self,
        num_features,
        eps=1e-5,
        momentum=0.1,
        affine=True,
        track_running_stats=True,
        *,
        dtype=np.float32,
    ):
        super().__init__(num_features, eps, momentum, affine, track_running_stats, dtype)

    def forward(self, input):
        return self.fused(input)

    def fused(self, input, residual=None, activation=NONE):
        """activation(forward(input) + residual), in the same pass."""
        if input.ndim not in self.axes:
            wanted = " or ".join(map(str, self.axes))
            raise ValueError(f"input must have {wanted} axes, got shape {input.shape}")
        if input.shape[1] != self.num_features:
            raise ValueError(
                f"input must have num_features={self.num_features} channels, got {input.shape}"
            )
        use_batch = self.training or not self.track_running_stats
        momentum = 0.0
        follows = self.training and self.track_running_stats
        if follows:
            momentum = self.momentum
            if momentum is None:  # the plain average of all batches so far
                momentum = 1 / (int(self.num_batches_tracked) + 1)
        output = normalize(
            input,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            use_batch,
            momentum,
            self.eps,
            residual,
            activation,
        )
        if follows:
            self.num_batches_tracked += 1
        return output


class BatchNorm1d(_BatchNorm):
    """Normalise every channel of (N, C) or (N, C, L); see :class:`BatchNorm2d`."""

    axes = (2, 3)


class BatchNorm2d(_BatchNorm):
    """Normalise every channel of images (N, C, H, W), by batch or by running statistics.

    Parameters
    ----------
    num_features : int
        Channels.
    eps : float, default 1e-5
    momentum : float or None, default 0.1
        Share of the new batch in the running statistics; None averages all batches alike.
    affine : bool, default True
        Whether there are a trained weight and bias per channel.
    track_running_stats : bool, default True
        Without them batch statistics are used in evaluation too.
    dtype : float32 or float64

    Attributes
    ----------
    weight, bias : Parameter of shape (C,), or None
    running_mean, running_var : ndarray of shape (C,), or None

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> nn.BatchNorm2d(3)(np.zeros((2, 3, 4, 4), np.float32)).shape
    (2, 3, 4, 4)
    """

    axes = (4,)


class BatchNorm3d(_BatchNorm):
    """Normalise every channel of volumes (N, C, D, H, W); see :class:`BatchNorm2d`."""

    axes = (5,)


class _InstanceNorm(_Norm):
    spatial = 0  # axes

    def __init__(
        self,
        num_features,
        eps=1e-5,
        momentum=0.1,
        affine=False,
        track_running_stats=False,
        *,
        dtype=np.float32,
    ):
        super().__init__(num_features, eps, momentum, affine, track_running_stats, dtype)

    def forward(self, input):
        if input.ndim not in (self.spatial + 1, self.spatial + 2):
            raise ValueError(
                f"input must have {self.spatial + 2} axes, or {self.spatial + 1} without the "
                f"batch, got shape {input.shape}"
            )
        if input.shape[-self.spatial - 1] != self.num_features:
            raise ValueError(
                f"input must have num_features={self.num_features} channels, got {input.shape}"
            )
        batched = input.ndim == self.spatial + 2
        output = F.instance_norm(
            input if batched else input[None],
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training or not self.track_running_stats,
            0.0 if self.momentum is None else self.momentum,
            self.eps,
        )
        return output if batched else output[0]


class InstanceNorm1d(_InstanceNorm):
    """Normalise every channel of every (C, L) of a batch; see :class:`InstanceNorm2d`."""

    spatial = 1


class InstanceNorm2d(_InstanceNorm):
    """Normalise every channel of every image of (N, C, H, W), or of one (C, H, W).

    Parameters
    ----------
    num_features : int
        Channels.
    eps : float, default 1e-5
    momentum : float or None, default 0.1
        Share of the new batch in the running statistics; with None they stay as they are.
    affine : bool, default False
        Whether there are a trained weight and bias per channel.
    track_running_stats : bool, default False
        With them evaluation uses statistics of the training.
    dtype : float32 or float64

    Attributes
    ----------
    weight, bias : Parameter of shape (C,), or None
    running_mean, running_var : ndarray of shape (C,), or None

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> nn.InstanceNorm2d(3)(np.zeros((2, 3, 4, 4), np.float32)).shape
    (2, 3, 4, 4)
    """

    spatial = 2


class InstanceNorm3d(_InstanceNorm):
    """Normalise every channel of every volume (C, D, H, W); see :class:`InstanceNorm2d`."""

    spatial = 3


class GroupNorm(Module):
    """:func:`fastconv.functional.group_norm` with a trained weight and bias per channel.

    Parameters
    ----------
    num_groups : int
        Divides `num_channels`.
    num_channels : int
    eps : float, default 1e-5
    affine : bool, default True
        Whether there are a weight and bias.
    dtype : float32 or float64

    Attributes
    ----------
    weight, bias : Parameter of shape (C,), or None

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> nn.GroupNorm(2, 6)(np.zeros((2, 6, 4, 4), np.float32)).shape
    (2, 6, 4, 4)
    """

    def __init__(self, num_groups, num_channels, eps=1e-5, affine=True, *, dtype=np.float32):
        super().__init__()
        self.num_groups = _checks.integer("num_groups", num_groups, minimum=1)
        self.num_channels = _checks.integer("num_channels", num_channels, minimum=1)
        if self.num_channels % self.num_groups:
            raise ValueError(
                f"num_groups must divide num_channels={num_channels}, got {num_groups}"
            )
        self.eps, self.affine = _checks.real("eps", eps), bool(affine)
        _affine(self, self.num_channels, affine, affine, dtype)

    def forward(self, input):
        if input.ndim < 2 or input.shape[1] != self.num_channels:
            raise ValueError(
                f"input must have num_channels={self.num_channels} channels, got {input.shape}"
            )
        return F.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self):
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}"


class LayerNorm(Module):
    """:func:`fastconv.functional.layer_norm` with a trained weight and bias per place.

    Parameters
    ----------
    normalized_shape : int or sequence of int
        The sizes of the last axes of the input.
    eps : float, default 1e-5
    elementwise_affine : bool, default True
        Whether there is a weight and, with `bias`, a bias.
    bias : bool, default True
    dtype : float32 or float64

    Attributes
    ----------
    weight, bias : Parameter of shape `normalized_shape`, or None

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> nn.LayerNorm(6)(np.zeros((2, 5, 6), np.float32)).shape
    (2, 5, 6)
    """

    def __init__(
        self, normalized_shape, eps=1e-5, elementwise_affine=True, bias=True, *, dtype=np.float32
    ):
        super().__init__()
        self.normalized_shape = layer_shape(normalized_shape)
        self.eps = _checks.real("eps", eps)
        self.elementwise_affine = affine = bool(elementwise_affine)
        _affine(self, self.normalized_shape, affine, affine and bias, dtype)

    def forward(self, input):
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self):
        text = f"{self.normalized_shape}, eps={self.eps}"
        return f"{text}, elementwise_affine={self.elementwise_affine}, bias={self.bias is not None}"
