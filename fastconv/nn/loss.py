"""Losses as layers."""

import numpy as np

import fastconv.functional as F
from fastconv import _checks
from fastconv.functional.loss import REDUCTIONS
from fastconv.nn.module import Module

__all__ = ["BCEWithLogitsLoss", "CrossEntropyLoss", "MSELoss", "NLLLoss"]


def _array(x):
    return None if x is None else np.asarray(x)


class _Loss(Module):
    def __init__(self, reduction):
        super().__init__()
        self.reduction = _checks.one_of("reduction", reduction, REDUCTIONS)

    def extra_repr(self):
        return f"reduction={self.reduction!r}"


class CrossEntropyLoss(_Loss):
    """:func:`fastconv.functional.cross_entropy` as a layer.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> round(nn.CrossEntropyLoss()(np.zeros((2, 4)), np.array([0, 3])).item(), 4)
    1.3863
    """

    def __init__(self, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0):
        super().__init__(reduction)
        self.register_buffer("weight", _array(weight))
        self.ignore_index, self.label_smoothing = ignore_index, label_smoothing

    def forward(self, input, target):
        return F.cross_entropy(
            input, target, self.weight, self.ignore_index, self.reduction, self.label_smoothing
        )


class NLLLoss(_Loss):
    """:func:`fastconv.functional.nll_loss` as a layer."""

    def __init__(self, weight=None, ignore_index=-100, reduction="mean"):
        super().__init__(reduction)
        self.register_buffer("weight", _array(weight))
        self.ignore_index = ignore_index

    def forward(self, input, target):
        return F.nll_loss(input, target, self.weight, self.ignore_index, self.reduction)


class MSELoss(_Loss):
    """:func:`fastconv.functional.mse_loss` as a layer."""

    def __init__(self, reduction="mean"):
        super().__init__(reduction)

    def forward(self, input, target):
        return F.mse_loss(input, target, self.reduction)


class BCEWithLogitsLoss(_Loss):
    """:func:`fastconv.functional.binary_cross_entropy_with_logits` as a layer."""

    def __init__(self, weight=None, reduction="mean", pos_weight=None):
        super().__init__(reduction)
        self.register_buffer("weight", _array(weight))
        self.register_buffer("pos_weight", _array(pos_weight))

    def forward(self, input, target):
        return F.binary_cross_entropy_with_logits(
            input, target, self.weight, self.reduction, self.pos_weight
        )
