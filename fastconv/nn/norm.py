"""Batch normalisation layers."""

import numpy as np

from fastconv import _checks
from fastconv._activation import NONE
from fastconv.functional.norm import normalize
from fastconv.nn.module import Module, Parameter

__all__ = ["BatchNorm1d", "BatchNorm2d", "BatchNorm3d"]


class _BatchNorm(Module):
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
        super().__init__()
        self.num_features = _checks.integer("num_features", num_features, minimum=1)
        self.eps = _checks.real("eps", eps)
        self.momentum = None if momentum is None else _checks.real("momentum", momentum)
        self.affine, self.track_running_stats = bool(affine), bool(track_running_stats)
        n, dtype = self.num_features, _checks.float_dtype("dtype", dtype)
        self.register_parameter("weight", Parameter(np.ones(n, dtype)) if affine else None)
        self.register_parameter("bias", Parameter(np.zeros(n, dtype)) if affine else None)
        tracked = self.track_running_stats
        self.register_buffer("running_mean", np.zeros(n, dtype) if tracked else None)
        self.register_buffer("running_var", np.ones(n, dtype) if tracked else None)
        self.register_buffer("num_batches_tracked", np.zeros((), np.int64) if tracked else None)

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
        if self.training and self.track_running_stats:
            # without a momentum, the plain average of all batches so far
            count = int(self.num_batches_tracked) + 1
            momentum = 1 / count if self.momentum is None else self.momentum
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
        if self.training and self.track_running_stats:
            self.num_batches_tracked += 1
        return output

    def extra_repr(self):
        text = f"{self.num_features}, eps={self.eps}, momentum={self.momentum}"
        if not self.affine:
            text += ", affine=False"
        return text if self.track_running_stats else text + ", track_running_stats=False"


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
