"""Losses."""

from fastconv import functional as F
from fastconv.onnx.registry import operator

__all__ = []

_UNUSED = -(1 << 31)  # no class, so that none is ignored


def _negative_log_likelihood(x, target, weight, ignore_index, reduction):
    ignored = _UNUSED if ignore_index is None else ignore_index
    return F.nll_loss(x, target, weight, ignored, reduction)


@operator("NegativeLogLikelihoodLoss", since=12, widen=True)
def negative_log_likelihood_loss(
    x, target, weight=None, *, ignore_index: int | None = None, reduction: str = "mean"
):
    return _negative_log_likelihood(x, target, weight, ignore_index, reduction)


@operator("SoftmaxCrossEntropyLoss", since=12, widen=True)
def softmax_cross_entropy_loss(
    x, target, weight=None, *, ignore_index: int | None = None, reduction: str = "mean"
):
    logs = F.log_softmax(x, 1)
    return _negative_log_likelihood(logs, target, weight, ignore_index, reduction), logs
