"""Resizing layers."""

import fastconv.functional as F
from fastconv import _checks
from fastconv.functional.interpolate import MODES
from fastconv.nn.module import Module

__all__ = ["Upsample", "UpsamplingBilinear2d", "UpsamplingNearest2d"]


class Upsample(Module):
    """:func:`fastconv.functional.interpolate` as a layer.

    Parameters
    ----------
    size : int or tuple of int, optional
    scale_factor : float or tuple of float, optional
        One of the two must be given.
    mode : str, default "nearest"
    align_corners : bool, optional
    recompute_scale_factor : bool, optional

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> nn.Upsample(scale_factor=2, mode="bilinear")(np.zeros((1, 3, 8, 10))).shape
    (1, 3, 16, 20)
    """

    def __init__(
        self,
        size=None,
        scale_factor=None,
        mode="nearest",
        align_corners=None,
        recompute_scale_factor=None,
    ):
        super().__init__()
        self.size = size
        self.scale_factor = scale_factor
        self.mode = _checks.one_of("mode", mode, tuple(MODES))
        self.align_corners = align_corners
        self.recompute_scale_factor = recompute_scale_factor

    def forward(self, input):
        return F.interpolate(
            input,
            self.size,
            self.scale_factor,
            self.mode,
            self.align_corners,
            self.recompute_scale_factor,
        )

    def extra_repr(self):
        by_size = self.scale_factor is None
        text = f"size={self.size}" if by_size else f"scale_factor={self.scale_factor}"
        text += f", mode={self.mode!r}"
        for name in ("align_corners", "recompute_scale_factor"):
            if getattr(self, name) is not None:
                text += f", {name}={getattr(self, name)}"
        return text


class UpsamplingNearest2d(Upsample):
    """:class:`Upsample` of images in mode "nearest".

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> nn.UpsamplingNearest2d(scale_factor=2)(np.array([[[[1.0, 2.0]]]])).data[0, 0]
    array([[1., 1., 2., 2.],
           [1., 1., 2., 2.]])
    """

    def __init__(self, size=None, scale_factor=None):
        super().__init__(size, scale_factor)


class UpsamplingBilinear2d(Upsample):
    """:class:`Upsample` of images in mode "bilinear" with aligned corners.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> nn.UpsamplingBilinear2d((1, 3))(np.array([[[[1.0, 2.0]]]])).data[0, 0]
    array([[1. , 1.5, 2. ]])
    """

    def __init__(self, size=None, scale_factor=None):
        super().__init__(size, scale_factor, "bilinear", align_corners=True)
