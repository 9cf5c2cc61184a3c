"""The activations that loops apply to their results while they write them."""

import math
from typing import NamedTuple

__all__ = ["NONE", "RELU", "RELU6", "Activation"]


class Activation(NamedTuple):
    """min(slope v where v <= 0 else v, top); NaN stays NaN, and a slope of 0 gives 0 for -inf."""

    slope: float
    top: float = math.inf


NONE = Activation(1.0)
RELU = Activation(0.0)
RELU6 = Activation(0.0, 6.0)
