"""How a state dict and a module differ, in words."""

from difflib import get_close_matches
from itertools import islice

import numpy as np

from fastconv import _checks

LONGEST_LIST = 20  # names of a kind; the rest is counted


def as_array(name, value):
    """An entry of a state dict as an array of numbers or booleans."""
    array = _checks.as_array(name, value)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must be an array of numbers, got {array.dtype}")
    return array


def report(own, state, missing, unexpected, misshapen):
    """Lines, one for each name that does not fit; empty if there are none.

    Parameters
    ----------
    own, state : dict of str to array
        The module's and the one to be loaded.
    missing, unexpected, misshapen : list of str
        Names of the first alone, of the second alone, and of both with different shapes.
    """
    lines = [f"missing: {name} {_shape(own[name])}" for name in missing[:LONGEST_LIST]]
    lines += _rest("missing", missing)
    # difflib compares every pair, slowly: of many names the first ones will tell.
    candidates = missing[: 10 * LONGEST_LIST]
    for name in unexpected[:LONGEST_LIST]:
        near = get_close_matches(name, candidates, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        lines.append(f"unexpected: {name} {_shape(state[name])}".rstrip() + hint)
    lines += _rest("unexpected", unexpected)
    lines += [
        f"{name} has shape {np.shape(state[name])}, the module's is {own[name].shape}"
        for name in misshapen[:LONGEST_LIST]
    ]
    lines += _rest("of another shape", misshapen)
    prefix = _prefix(own, state) if missing and unexpected else ""
    if prefix:
        lines.append(
            f"all names fit without {prefix!r} in front of them (torch.nn.DataParallel puts "
            f"'module.' there): {{name.removeprefix({prefix!r}): a for name, a in state.items()}}"
        )
    return lines


def _shape(array):
    return str(array.shape) if isinstance(array, np.ndarray) else ""


def _rest(kind, names):
    return [f"{kind}: {len(names) - LONGEST_LIST} more"] if len(names) > LONGEST_LIST else []


def _prefix(own, state):
    """What stands in front of the module's name in all names of the state, or ''."""
    first = next(iter(own))
    for name in islice(state, LONGEST_LIST):
        prefix = name.removesuffix(first)
        if prefix not in ("", name) and {prefix + key for key in own} == set(state):
            return prefix
    return ""
