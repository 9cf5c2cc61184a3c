"""The activation that a convolution may end with."""

import math
from typing import NamedTuple

__all__ = ["NONE", "RELU", "RELU6", "Activation"]


class Activation(NamedTuple):
    """act(v) = min(slope * v if v <= 0 else v, top).

    NaN stays NaN. A slope of 0 gives 0 wherever v <= 0, also for v = -inf.
    """

    slope: float
    top: float


NONE = Activation(1.0, math.inf)
RELU = Activation(0.0, math.inf)
RELU6 = Activation(0.0, 6.0)
