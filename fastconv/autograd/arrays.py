"""What is computed from arrays' shapes."""

import numpy as np


def _shape(needs, x):
    return np.array(x.shape, np.int64), lambda g: (None,)
