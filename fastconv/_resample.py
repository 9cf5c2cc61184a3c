"""Which input places an output place of a resized axis takes from, with what weights.

The only home of these formulas: those of PyTorch's interpolation and of ONNX's Resize.
"""

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache, wraps
from typing import NamedTuple

import numpy as np

from fastconv._geometry import three

__all__ = [
    "COORDINATES",
    "FILTERS",
    "ROUNDINGS",
    "Filter",
    "Table",
    "pack",
    "table",
    "torch_nearest",
]

# Tables that are kept, and the places of input and output up to which: those of a long signal
# would take as much memory as the signal.
KEPT = 64
LONGEST_KEPT = 1 << 14

# Input coordinates of output places i of n = `length`, over an axis of `size` places.
COORDINATES = {
    "half_pixel": lambda i, size, length, scale, output, roi: (i + 0.5) / scale - 0.5,
    "half_pixel_symmetric": lambda i, size, length, scale, output, roi: (
        size / 2 * (1 - output / length) + (i + 0.5) / scale - 0.5
    ),
    "pytorch_half_pixel": lambda i, size, length, scale, output, roi: (
        (i + 0.5) / scale - 0.5 if length > 1 else 0 * i
    ),
    "align_corners": lambda i, size, length, scale, output, roi: (
        i * (size - 1) / (length - 1) if length > 1 else 0 * i
    ),
    "asymmetric": lambda i, size, length, scale, output, roi: i / scale,
    "tf_half_pixel_for_nn": lambda i, size, length, scale, output, roi: (i + 0.5) / scale,
    "tf_crop_and_resize": lambda i, size, length, scale, output, roi: (
        roi[0] * (size - 1) + i * (roi[1] - roi[0]) * (size - 1) / (length - 1)
        if length > 1
        else 0 * i + (roi[0] + roi[1]) * (size - 1) / 2
    ),
}
ROUNDINGS = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


def _hat(t, _):
    return np.maximum(1 - np.abs(t), 0)


def _cubic(t, a):
    # R. Keys, "Cubic Convolution Interpolation for Digital Image Processing", 1981, equation 4
    t = np.abs(t)
    near = ((a + 2) * t - (a + 3)) * t * t + 1
    far = ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
    return np.where(t <= 1, near, np.where(t < 2, far, 0))


# By mode: the weight at a distance, and the distance from which on it is 0.
FILTERS = {"linear": (_hat, 1), "cubic": (_cubic, 2)}


class Filter(NamedTuple):
    """How an axis is resized, whatever its size; the terms are those of ONNX's Resize."""

    mode: str  # "nearest" or one of FILTERS
    coordinates: str = "half_pixel"
    rounding: str = "round_prefer_floor"  # of "nearest"
    cubic_coeff: float = -0.75
    exclude_outside: bool = False  # weights beyond the edges: dropped, or else the edge's
    antialias: bool = False  # where the axis shrinks, the filter widens
    roi: tuple = (0.0, 1.0)  # of "tf_crop_and_resize"


@dataclass(frozen=True, eq=False)
class Table:
    """Output place i is the sum of ``weights[t] * x[places[t]]``, t from starts[i] to starts[i+1].

    Those that are outside the region of interest have empty lists.
    """

    size: int
    starts: np.ndarray
    places: np.ndarray
    weights: np.ndarray
    outside: np.ndarray | None = None

    @property
    def output(self):
        """How many places there are."""
        return len(self.starts) - 1

    @cached_property
    def transposed(self):
        """The table of the gradient."""
        rows = np.repeat(np.arange(self.output), np.diff(self.starts))
        return _make(self.output, self.size, self.places, rows, self.weights)


def _make(size, output, rows, places, weights, outside=None):
    """The :class:`Table` of (row, place, weight); those of one row and place are added."""
    keys, which = np.unique(rows * size + places, return_inverse=True)
    sums = np.bincount(which.reshape(-1), weights, len(keys))
    keys, sums = keys[sums != 0], sums[sums != 0]
    rows, places = np.divmod(keys.astype(np.intp), size)
    starts = np.searchsorted(rows, np.arange(output + 1)).astype(np.intp)
    return Table(size, starts, places, sums, outside)


def _gather(size, places, outside=None):
    """The :class:`Table` that takes one place each."""
    places = np.clip(places, 0, size - 1).astype(np.intp)
    rows = np.arange(len(places))
    weights = np.ones(len(places)) if outside is None else np.where(outside, 0.0, 1.0)
    return _make(size, len(places), rows, places, weights, outside)


def _kept(places):
    """Decorator that keeps results, if the arguments have few places."""

    def decorate(function):
        cached = lru_cache(KEPT)(function)

        @wraps(function)
        def choose(*arguments):
            few = places(*arguments) <= LONGEST_KEPT
            return (cached if few else function)(*arguments)

        choose.cache_info = cached.cache_info
        return choose

    return decorate


@_kept(lambda size, output, *_: size + output)
def table(size, output, scale, how, length=None):
    """The :class:`Table` of an axis of `size` places resized to `output`.

    Parameters
    ----------
    size, output : int
    scale : float
        Output places to an input place.
    how : Filter
    length : float, optional
        Of the output where the coordinates ask for it, if not `output`: size * scale in ONNX.
    """
    i = np.arange(output, dtype=np.float64)
    length = output if length is None else length
    with np.errstate(over="ignore", invalid="ignore"):
        x = COORDINATES[how.coordinates](i, size, length, scale, output, how.roi)
    outside = None
    if how.coordinates == "tf_crop_and_resize":
        outside = ~((x >= 0) & (x <= size - 1))  # NaN too, of a region without end
        x[outside] = 0
    if how.mode == "nearest":
        x = np.round(x, 9)  # what is whole stays so, whatever the scale's last bit
        return _gather(size, ROUNDINGS[how.rounding](x), outside)
    weight, radius = FILTERS[how.mode]
    shrink = min(scale, 1.0) if how.antialias else 1.0
    reach = radius / shrink
    taps = np.arange(2 * math.ceil(reach) + 1)
    places = np.floor(x - reach)[:, None] + taps
    weights = weight((places - x[:, None]) * shrink, how.cubic_coeff)
    if how.exclude_outside:
        weights[(places < 0) | (places > size - 1)] = 0
    if how.antialias or how.exclude_outside:
        sums = weights.sum(axis=1, keepdims=True)
        weights /= np.where(sums == 0, 1, sums)
    if outside is not None:
        weights[outside] = 0
    places = np.clip(places, 0, size - 1).astype(np.intp).reshape(-1)
    rows = np.repeat(np.arange(output), len(taps))
    return _make(size, output, rows, places, weights.reshape(-1), outside)


@_kept(lambda size, output, *_: size + output)
def torch_nearest(size, output, scale, exact):
    """The :class:`Table` of PyTorch's "nearest", or "nearest-exact", which rounds in float32.

    `scale` is None for output / size.
    """
    i = np.arange(output)
    step = np.float32(size) / np.float32(output) if scale is None else np.float32(1 / scale)
    if exact:
        # the product is one of float64, its rounding one of float32
        return _gather(size, np.floor(((i + 0.5) * np.float64(step)).astype(np.float32)))
    if output == size:
        return _gather(size, i)
    if output == 2 * size:
        return _gather(size, i // 2)
    return _gather(size, np.floor(i.astype(np.float32) * step))


@_kept(lambda tables, _: sum(each.size + each.output for each in tables))
def pack(tables, dtype):
    """(starts, places, weights) of up to three axes, as the kernel reads them."""
    starts, at = [], 0
    tables = three(tables, _gather(1, np.zeros(1)))
    for axis in tables:
        starts.append(axis.starts + at)
        at += len(axis.places)
    packed = (
        np.concatenate(starts),
        np.concatenate([axis.places for axis in tables]),
        np.concatenate([axis.weights for axis in tables]).astype(dtype),
    )
    for array in packed:
        array.flags.writeable = False
    return packed
