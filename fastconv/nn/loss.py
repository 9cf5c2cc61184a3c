"""Losses as layers."""

import fastconv.functional as F
from fastconv import _checks
from fastconv.functional.loss import DIVERGENCE_REDUCTIONS, REDUCTIONS
from fastconv.nn.module import Module

__all__ = [
    "BCELoss",
    "BCEWithLogitsLoss",
    "CosineEmbeddingLoss",
    "CosineSimilarity",
    "CrossEntropyLoss",
    "HuberLoss",
    "KLDivLoss",
    "L1Loss",
    "MSELoss",
    "NLLLoss",
    "SmoothL1Loss",
]


def _array(name, x):
    return None if x is None else _checks.as_array(name, x)


class _Loss(Module):
    reductions = REDUCTIONS

    def __init__(self, reduction):
        super().__init__()
        self.reduction = _checks.one_of("reduction", reduction, self.reductions)

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
        self.register_buffer("weight", _array("weight", weight))
        self.ignore_index, self.label_smoothing = ignore_index, label_smoothing

    def forward(self, input, target):
        return F.cross_entropy(
            input, target, self.weight, self.ignore_index, self.reduction, self.label_smoothing
        )


class NLLLoss(_Loss):
    """:func:`fastconv.functional.nll_loss` as a layer."""

    def __init__(self, weight=None, ignore_index=-100, reduction="mean"):
        super().__init__(reduction)
        self.register_buffer("weight", _array("weight", weight))
        self.ignore_index = ignore_index

    def forward(self, input, target):
        return F.nll_loss(input, target, self.weight, self.ignore_index, self.reduction)


class MSELoss(_Loss):
    """:func:`fastconv.functional.mse_loss` as a layer."""

    def __init__(self, reduction="mean"):
        super().__init__(reduction)

    def forward(self, input, target):
        return F.mse_loss(input, target, self.reduction)


class L1Loss(_Loss):
    """:func:`fastconv.functional.l1_loss` as a layer."""

    def __init__(self, reduction="mean"):
        super().__init__(reduction)

    def forward(self, input, target):
        return F.l1_loss(input, target, self.reduction)


class SmoothL1Loss(_Loss):
    """:func:`fastconv.functional.smooth_l1_loss` as a layer."""

    def __init__(self, reduction="mean", beta=1.0):
        super().__init__(reduction)
        self.beta = _checks.real("beta", beta)

    def forward(self, input, target):
        return F.smooth_l1_loss(input, target, self.reduction, self.beta)


class HuberLoss(_Loss):
    """:func:`fastconv.functional.huber_loss` as a layer."""

    def __init__(self, reduction="mean", delta=1.0):
        super().__init__(reduction)
        self.delta = _checks.real("delta", delta)

    def forward(self, input, target):
        return F.huber_loss(input, target, self.reduction, self.delta)


class KLDivLoss(_Loss):
    """:func:`fastconv.functional.kl_div` as a layer."""

    reductions = DIVERGENCE_REDUCTIONS

    def __init__(self, reduction="mean", log_target=False):
        super().__init__(reduction)
        self.log_target = _checks.boolean("log_target", log_target)

    def forward(self, input, target):
        return F.kl_div(input, target, self.reduction, self.log_target)


class CosineSimilarity(Module):
    """:func:`fastconv.functional.cosine_similarity` as a layer."""

    def __init__(self, dim=1, eps=1e-8):
        super().__init__()
        self.dim, self.eps = _checks.integer("dim", dim), _checks.real("eps", eps)

    def forward(self, x1, x2):
        return F.cosine_similarity(x1, x2, self.dim, self.eps)

    def extra_repr(self):
        return f"dim={self.dim}, eps={self.eps}"


class CosineEmbeddingLoss(_Loss):
    """:func:`fastconv.functional.cosine_embedding_loss` as a layer."""

    def __init__(self, margin=0.0, reduction="mean"):
        super().__init__(reduction)
        self.margin = _checks.real("margin", margin)

    def forward(self, input1, input2, target):
        return F.cosine_embedding_loss(input1, input2, target, self.margin, self.reduction)


class BCELoss(_Loss):
    """:func:`fastconv.functional.binary_cross_entropy` as a layer."""

    def __init__(self, weight=None, reduction="mean"):
        super().__init__(reduction)
        self.register_buffer("weight", _array("weight", weight))

    def forward(self, input, target):
        return F.binary_cross_entropy(input, target, self.weight, self.reduction)


class BCEWithLogitsLoss(_Loss):
    """:func:`fastconv.functional.binary_cross_entropy_with_logits` as a layer."""

    def __init__(self, weight=None, reduction="mean", pos_weight=None):
        super().__init__(reduction)
        self.register_buffer("weight", _array("weight", weight))
        self.register_buffer("pos_weight", _array("pos_weight", pos_weight))

    def forward(self, input, target):
        return F.binary_cross_entropy_with_logits(
            input, target, self.weight, self.reduction, self.pos_weight
        )
