"""The random generator behind initialisations and dropout."""

import numpy as np

from fastconv import _checks

__all__ = ["default_generator", "manual_seed"]

_generator = np.random.default_rng()


def manual_seed(seed):
    """Seed the default generator and return it.

    Parameters
    ----------
    seed : int
        Not negative.

    Examples
    --------
    >>> import fastconv
    >>> first = fastconv.manual_seed(1).random()
    >>> first == fastconv.manual_seed(1).random()
    True
    """
    # Layers hold the generator itself, so it is given a new state rather than replaced.
    fresh = np.random.default_rng(_checks.integer("seed", seed, minimum=0))
    _generator.bit_generator.state = fresh.bit_generator.state
    return _generator


def default_generator():
    """The :class:`numpy.random.Generator` used where none is given."""
    return _generator
