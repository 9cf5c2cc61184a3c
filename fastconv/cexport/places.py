"""Which places values go to, as loops that C can run.

What a step does that only moves values is found by letting it move numbers: the places themselves.
"""

import numpy as np

from fastconv.compiler.step import Value, laid

__all__ = ["AXES", "loops", "moved", "runs"]

AXES = 6  # of the loops that move values
MARK = 2.0**50  # added to a place, which float64 still holds: what is below was filled in


def moved(step, inputs, specs, which):
    """Of every output value of a step, in memory order, the place that it has in input `which`.

    -1 is for what is not of that input. Inputs that are no Values are taken as they are.
    """
    arrays = [
        _numbered(spec, i == which) if isinstance(x, Value) else x
        for i, (x, spec) in enumerate(zip(inputs, specs, strict=True))
    ]
    output = step.outputs[0]._replace(dtype=np.dtype(np.float64))
    memory = np.empty(output.nbytes, np.uint8)
    step.bind(arrays, [laid(memory, output)], np.empty)()
    places = memory.view(np.float64) - MARK
    return np.where(places < -MARK / 2, -1, places).astype(np.int64)


def _numbered(spec, marked):
    if spec.value is not None:
        return spec.value
    memory = np.arange(spec.size, dtype=np.float64) + MARK if marked else np.zeros(spec.size)
    return laid(memory.view(np.uint8), spec._replace(dtype=np.dtype(np.float64)))


def loops(places):
    """Nested loops through columns of places, outermost first: [(count, step of each row)].

    None where more than AXES would be needed.
    """
    axes = []
    while places.shape[1] > 1:
        total = places.shape[1]
        steps = np.diff(places, axis=1)
        other = np.flatnonzero((steps != steps[:, :1]).any(axis=0))
        longest = int(other[0]) + 1 if len(other) else total
        step = steps[:, 0]
        for count in (n for n in range(longest, 1, -1) if total % n == 0):
            parts = places.reshape(len(places), -1, count)
            if (parts == parts[:, :, :1] + step[:, None, None] * np.arange(count)).all():
                break
        else:
            return None
        axes.insert(0, (count, *step.tolist()))
        places = parts[:, :, 0]
    return axes if len(axes) <= AXES else None


def runs(places):
    """(first places, length) of the longest runs of equal length of which `places` consists."""
    together = np.diff(places) == 1
    together &= places[1:] > 0
    holes = (np.diff(places) == 0) & (places[1:] < 0)
    ends = np.flatnonzero(~(together | holes)) + 1
    length = int(np.gcd.reduce(np.diff([0, *ends, len(places)])))
    return places[::length], length
