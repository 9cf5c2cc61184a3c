"""Activation layers."""

import numpy as np

import fastconv.functional as F
from fastconv import _checks
from fastconv.nn.module import Module, Parameter

__all__ = [
    "CELU",
    "ELU",
    "GELU",
    "SELU",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "LeakyReLU",
    "LogSigmoid",
    "LogSoftmax",
    "Mish",
    "PReLU",
    "ReLU",
    "ReLU6",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softmin",
    "Softplus",
    "Softsign",
    "Tanh",
]


class ReLU(Module):
    """:func:`fastconv.functional.relu` as a layer."""

    def __init__(self, inplace=False):
        super().__init__()
        self.inplace = bool(inplace)

    def forward(self, input):
        return F.relu(input, self.inplace)

    def extra_repr(self):
        return "inplace=True" if self.inplace else ""


class ReLU6(ReLU):
    """:func:`fastconv.functional.relu6` as a layer."""

    def forward(self, input):
        return F.relu6(input, self.inplace)


class SELU(ReLU):
    """:func:`fastconv.functional.selu` as a layer."""

    def forward(self, input):
        return F.selu(input, self.inplace)


class SiLU(ReLU):
    """:func:`fastconv.functional.silu` as a layer."""

    def forward(self, input):
        return F.silu(input, self.inplace)


class Mish(ReLU):
    """:func:`fastconv.functional.mish` as a layer."""

    def forward(self, input):
        return F.mish(input, self.inplace)


class Hardswish(ReLU):
    """:func:`fastconv.functional.hardswish` as a layer."""

    def forward(self, input):
        return F.hardswish(input, self.inplace)


class Hardsigmoid(ReLU):
    """:func:`fastconv.functional.hardsigmoid` as a layer."""

    def forward(self, input):
        return F.hardsigmoid(input, self.inplace)


class LeakyReLU(Module):
    """:func:`fastconv.functional.leaky_relu` as a layer."""

    def __init__(self, negative_slope=0.01, inplace=False):
        super().__init__()
        self.negative_slope = _checks.real("negative_slope", negative_slope)
        self.inplace = bool(inplace)

    def forward(self, input):
        return F.leaky_relu(input, self.negative_slope, self.inplace)

    def extra_repr(self):
        return f"{self.negative_slope}" + (", inplace=True" if self.inplace else "")


class ELU(Module):
    """:func:`fastconv.functional.elu` as a layer."""

    def __init__(self, alpha=1.0, inplace=False):
        super().__init__()
        self.alpha = _checks.real("alpha", alpha)
        self.inplace = bool(inplace)

    def forward(self, input):
        return F.elu(input, self.alpha, self.inplace)

    def extra_repr(self):
        return f"alpha={self.alpha}" + (", inplace=True" if self.inplace else "")


class CELU(ELU):
    """:func:`fastconv.functional.celu` as a layer."""

    def forward(self, input):
        return F.celu(input, self.alpha, self.inplace)


class Hardtanh(Module):
    """:func:`fastconv.functional.hardtanh` as a layer."""

    def __init__(self, min_val=-1.0, max_val=1.0, inplace=False):
        super().__init__()
        self.min_val = _checks.real("min_val", min_val, finite=False)
        self.max_val = _checks.real("max_val", max_val, finite=False)
        self.inplace = bool(inplace)

    def forward(self, input):
        return F.hardtanh(input, self.min_val, self.max_val, self.inplace)

    def extra_repr(self):
        text = f"min_val={self.min_val}, max_val={self.max_val}"
        return text + (", inplace=True" if self.inplace else "")


class GELU(Module):
    """:func:`fastconv.functional.gelu` as a layer."""

    def __init__(self, approximate="none"):
        super().__init__()
        self.approximate = _checks.one_of("approximate", approximate, ("none", "tanh"))

    def forward(self, input):
        return F.gelu(input, self.approximate)

    def extra_repr(self):
        return f"approximate={self.approximate!r}"


class Softplus(Module):
    """:func:`fastconv.functional.softplus` as a layer."""

    def __init__(self, beta=1.0, threshold=20.0):
        super().__init__()
        self.beta = _checks.real("beta", beta)
        self.threshold = _checks.real("threshold", threshold, finite=False)

    def forward(self, input):
        return F.softplus(input, self.beta, self.threshold)

    def extra_repr(self):
        return f"beta={self.beta}, threshold={self.threshold}"


class Sigmoid(Module):
    """:func:`fastconv.functional.sigmoid` as a layer."""

    def forward(self, input):
        return F.sigmoid(input)


class LogSigmoid(Module):
    """:func:`fastconv.functional.logsigmoid` as a layer."""

    def forward(self, input):
        return F.logsigmoid(input)


class Tanh(Module):
    """:func:`fastconv.functional.tanh` as a layer."""

    def forward(self, input):
        return F.tanh(input)


class Softsign(Module):
    """:func:`fastconv.functional.softsign` as a layer."""

    def forward(self, input):
        return F.softsign(input)


class PReLU(Module):
    """:func:`fastconv.functional.prelu` with slopes that are learnt.

    Parameters
    ----------
    num_parameters : int, default 1
        1, or the number of channels of the input.
    init : float, default 0.25
    dtype : float32 or float64

    Attributes
    ----------
    weight : Parameter of shape (num_parameters,)

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> nn.PReLU()(np.array([[-1.0, 2.0]], np.float32)).numpy()
    array([[-0.25,  2.  ]], dtype=float32)
    """

    def __init__(self, num_parameters=1, init=0.25, *, dtype=np.float32):
        super().__init__()
        self.num_parameters = _checks.integer("num_parameters", num_parameters, minimum=1)
        dtype = _checks.float_dtype("dtype", dtype)
        self.init = _checks.real("init", init)
        self.weight = Parameter(np.full(self.num_parameters, self.init, dtype))

    def forward(self, input):
        return F.prelu(input, self.weight)

    def extra_repr(self):
        return f"num_parameters={self.num_parameters}"


class Softmax(Module):
    """:func:`fastconv.functional.softmax` as a layer."""

    def __init__(self, dim):
        super().__init__()
        self.dim = _checks.integer("dim", dim)

    def forward(self, input):
        return F.softmax(input, self.dim)

    def extra_repr(self):
        return f"dim={self.dim}"


class Softmin(Softmax):
    """:func:`fastconv.functional.softmin` as a layer."""

    def forward(self, input):
        return F.softmin(input, self.dim)


class LogSoftmax(Softmax):
    """:func:`fastconv.functional.log_softmax` as a layer."""

    def forward(self, input):
        return F.log_softmax(input, self.dim)
