"""Pooling layers."""

import fastconv.functional as F
from fastconv.functional.pool import max_pool_of_relu
from fastconv.nn.module import Module

__all__ = [
    f"{kind}{n}d"
    for kind in ("AdaptiveAvgPool", "AdaptiveMaxPool", "AvgPool", "LPPool", "MaxPool", "MaxUnpool")
    for n in (1, 2, 3)
]


class _Pool(Module):
    """Holds the arguments of `function` and calls it."""

    function = None
    names = ()

    def __init__(self, *arguments):
        super().__init__()
        for name, value in zip(self.names, arguments, strict=True):
            setattr(self, name, value)

    def forward(self, input):
        return type(self).function(input, *(getattr(self, name) for name in self.names))

    def extra_repr(self):
        return ", ".join(f"{name}={getattr(self, name)}" for name in self.names)


class _MaxPool(_Pool):
    """Largest value of each window; arguments as in :func:`fastconv.functional.max_pool2d`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> nn.MaxPool2d(2)(np.zeros((1, 3, 8, 10))).shape
    (1, 3, 4, 5)
    """

    names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")

    def __init__(
        self,
        kernel_size,
        stride=None,
        padding=0,
        dilation=1,
        return_indices=False,
        ceil_mode=False,
    ):
        super().__init__(kernel_size, stride, padding, dilation, ceil_mode, return_indices)

    def takes_relu(self):
        """Whether :meth:`of_relu` may stand for this module after a ReLU."""
        return type(self).forward is _Pool.forward and not self.return_indices

    def of_relu(self, input):
        """forward(relu(input)), without the pass of ReLU."""
        return max_pool_of_relu(self.n, input, *(getattr(self, name) for name in self.names[:-1]))


class _MaxUnpool(_Pool):
    """Maxima back to where they stood; arguments as in :func:`fastconv.functional.max_unpool2d`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> pool, unpool = nn.MaxPool2d(2, return_indices=True), nn.MaxUnpool2d(2)
    >>> y, indices = pool(np.ones((1, 3, 8, 9)))
    >>> unpool(y, indices, output_size=(8, 9)).shape
    (1, 3, 8, 9)
    """

    names = ("kernel_size", "stride", "padding")

    def __init__(self, kernel_size, stride=None, padding=0):
        super().__init__(kernel_size, stride, padding)

    def forward(self, input, indices, output_size=None):
        options = (getattr(self, name) for name in self.names)
        return type(self).function(input, indices, *options, output_size)


class _AvgPool(_Pool):
    """Mean of each window; arguments as in :func:`fastconv.functional.avg_pool2d`."""

    names = (
        "kernel_size",
        "stride",
        "padding",
        "ceil_mode",
        "count_include_pad",
        "divisor_override",
    )

    def __init__(
        self,
        kernel_size,
        stride=None,
        padding=0,
        ceil_mode=False,
        count_include_pad=True,
        divisor_override=None,
    ):
        super().__init__(
            kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
        )


class _LPPool(_Pool):
    """Lp norm of each window; arguments as in :func:`fastconv.functional.lp_pool2d`."""

    names = ("norm_type", "kernel_size", "stride", "ceil_mode")

    def __init__(self, norm_type, kernel_size, stride=None, ceil_mode=False):
        super().__init__(norm_type, kernel_size, stride, ceil_mode)


class _AdaptiveAvgPool(_Pool):
    """Mean over `output_size` windows, for an input of any size."""

    names = ("output_size",)

    def __init__(self, output_size):
        super().__init__(output_size)


class _AdaptiveMaxPool(_Pool):
    """Maximum over `output_size` windows, for an input of any size."""

    names = ("output_size", "return_indices")

    def __init__(self, output_size, return_indices=False):
        super().__init__(output_size, return_indices)


class AvgPool1d(_Pool):
    """Mean of each window; arguments as in :func:`fastconv.functional.avg_pool1d`."""

    function = F.avg_pool1d
    names = _AvgPool.names[:-1]

    def __init__(
        self, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True
    ):
        super().__init__(kernel_size, stride, padding, ceil_mode, count_include_pad)


class AvgPool2d(_AvgPool):
    __doc__ = _AvgPool.__doc__
    function = F.avg_pool2d


class AvgPool3d(_AvgPool):
    __doc__ = _AvgPool.__doc__
    function = F.avg_pool3d


class MaxPool1d(_MaxPool):
    __doc__ = _MaxPool.__doc__
    n = 1
    function = F.max_pool1d


class MaxPool2d(_MaxPool):
    __doc__ = _MaxPool.__doc__
    n = 2
    function = F.max_pool2d


class MaxPool3d(_MaxPool):
    __doc__ = _MaxPool.__doc__
    n = 3
    function = F.max_pool3d


class MaxUnpool1d(_MaxUnpool):
    __doc__ = _MaxUnpool.__doc__
    function = F.max_unpool1d


class MaxUnpool2d(_MaxUnpool):
    __doc__ = _MaxUnpool.__doc__
    function = F.max_unpool2d


class MaxUnpool3d(_MaxUnpool):
    __doc__ = _MaxUnpool.__doc__
    function = F.max_unpool3d


class LPPool1d(_LPPool):
    __doc__ = _LPPool.__doc__
    function = F.lp_pool1d


class LPPool2d(_LPPool):
    __doc__ = _LPPool.__doc__
    function = F.lp_pool2d


class LPPool3d(_LPPool):
    __doc__ = _LPPool.__doc__
    function = F.lp_pool3d


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    __doc__ = _AdaptiveAvgPool.__doc__
    function = F.adaptive_avg_pool1d


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    __doc__ = _AdaptiveAvgPool.__doc__
    function = F.adaptive_avg_pool2d


class AdaptiveAvgPool3d(_AdaptiveAvgPool):
    __doc__ = _AdaptiveAvgPool.__doc__
    function = F.adaptive_avg_pool3d


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    __doc__ = _AdaptiveMaxPool.__doc__
    function = F.adaptive_max_pool1d


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    __doc__ = _AdaptiveMaxPool.__doc__
    function = F.adaptive_max_pool2d


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    __doc__ = _AdaptiveMaxPool.__doc__
    function = F.adaptive_max_pool3d
