"""ONNX's Resize: any axes, sizes or scales that a graph computes."""

import math
from typing import NamedTuple

import numpy as np

from fastconv import _checks
from fastconv._resample import COORDINATES, FILTERS, ROUNDINGS, Filter, table
from fastconv.autograd.arrays import as_ints
from fastconv.autograd.reductions import as_axes
from fastconv.functional.interpolate import resample

__all__ = []

POLICIES = {"stretch": None, "not_larger": min, "not_smaller": max}


class Options(NamedTuple):
    """How to resize, whatever the sizes; the terms are ONNX's."""

    mode: str
    coordinates: str
    rounding: str
    cubic_coeff: float = -0.75
    exclude_outside: bool = False
    antialias: bool = False
    extrapolation: float = 0.0
    axes: tuple | None = None
    policy: str = "stretch"


def output_sizes(shape, scales, sizes, options):
    """(sizes, scales) of the result along the axes of `options`."""
    axes = as_axes(options.axes, len(shape))
    before = [shape[axis] for axis in axes]
    if sizes is None:
        scales = [float(s) for s in np.asarray(scales).ravel()]
        if not all(0 < s < math.inf for s in scales):
            raise ValueError(f"scales must be positive, got {scales}")
        return [math.floor(n * s) for n, s in zip(before, scales, strict=True)], scales
    sizes = as_ints("sizes", sizes)
    if min(sizes, default=1) < 1 or 0 in before:
        raise ValueError(f"sizes must be positive, of axes that are not empty, got {sizes}")
    scales = [m / n for m, n in zip(sizes, before, strict=True)]
    choose = POLICIES[_checks.one_of("keep_aspect_ratio_policy", options.policy, tuple(POLICIES))]
    if choose is not None:
        scales = [choose(scales)] * len(scales)
        sizes = [math.floor(n * scales[0] + 0.5) for n in before]
    return sizes, scales


def tables_of(shape, roi, scales, sizes, options):
    """{axis: its table} of the axes of an input of `shape` that change.

    `roi`, `scales` and `sizes` are arrays, of the last two one is None.
    """
    _checks.one_of("mode", options.mode, ("nearest", *FILTERS))
    _checks.one_of("coordinate_transformation_mode", options.coordinates, tuple(COORDINATES))
    _checks.one_of("nearest_mode", options.rounding, tuple(ROUNDINGS))
    axes = as_axes(options.axes, len(shape))
    output, scales = output_sizes(shape, scales, sizes, options)
    crops = options.coordinates == "tf_crop_and_resize"
    roi = np.asarray(roi, np.float64) if crops else np.repeat([0.0, 1.0], len(axes))
    if roi.shape != (2 * len(axes),):
        raise ValueError(f"roi must be {2 * len(axes)} numbers, got shape {roi.shape}")
    tables = {}
    for i, axis in enumerate(axes):
        n, region = shape[axis], (float(roi[i]), float(roi[i + len(axes)]))
        if (output[i], scales[i]) == (n, 1.0) and region == (0.0, 1.0):
            continue
        how = Filter(
            options.mode,
            options.coordinates,
            options.rounding,
            options.cubic_coeff,
            options.exclude_outside,
            options.antialias,
            region,
        )
        if not n or not output[i]:
            raise ValueError(f"axis {axis} of length {n} cannot be resized to {output[i]}")
        tables[axis] = table(n, output[i], scales[i], how, n * scales[i])
    if len(tables) > 3:
        raise ValueError(f"at most three axes may change, got {len(tables)}")
    return tables


def _resize_rule(needs, x, roi, scales, sizes, *, options):
    tables = tables_of(x.shape, roi, scales, sizes, options)
    if not tables:
        return x.copy("K"), lambda g: (g, None, None, None)
    # (N, C, *spatial) if it is an image, else the axes that change behind all others as one
    moved = tuple(tables)
    if min(moved) < 2 or moved != tuple(range(2, x.ndim)):
        rest = tuple(i for i in range(x.ndim) if i not in tables)
        order = (*rest, *moved)
    else:
        rest, order = (0, 1), tuple(range(x.ndim))
    back = np.argsort(order)
    kept = x.transpose(order)
    image = len(rest) == 2
    seen = kept if image else kept.reshape(-1, 1, *(x.shape[axis] for axis in moved))
    dtype = x.dtype if x.dtype.type in _checks.FLOATS else np.dtype(np.float64)
    y, backward = resample(
        seen.astype(dtype, copy=False), tuple(tables.values()), options.extrapolation
    )
    if x.dtype.kind in "iu":
        limits = np.iinfo(x.dtype)
        y = np.clip(np.rint(y), limits.min, limits.max)
    final = (*(x.shape[axis] for axis in rest), *(t.output for t in tables.values()))

    def back_again(g):
        g = g.transpose(order)
        (dx,) = backward(g if image else np.ascontiguousarray(g).reshape(y.shape))
        return dx.reshape(kept.shape).transpose(back), None, None, None

    return y.reshape(final).transpose(back).astype(x.dtype, copy=False), back_again
