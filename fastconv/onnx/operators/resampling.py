"""Resizing."""

import math

import numpy as np

from fastconv.autograd import reductions
from fastconv.autograd.engine import apply
from fastconv.functional.resize import Options, _resize_rule, output_sizes
from fastconv.onnx.errors import bounded
from fastconv.onnx.registry import operator

__all__ = []


def _resize(x, roi, scales, sizes, options):
    given = [None if a is None or not a.size else a for a in (roi, scales, sizes)]
    roi, scales, sizes = given
    if (scales is None) == (sizes is None):
        raise ValueError("one of scales and sizes must be given")
    axes = reductions.as_axes(options.axes, x.ndim)
    wanted = np.asarray(scales if sizes is None else sizes)
    if wanted.shape != (len(axes),):
        raise ValueError(f"scales or sizes must be {len(axes)} numbers, got shape {wanted.shape}")
    output = list(x.shape)
    for axis, n in zip(axes, output_sizes(x.shape, scales, sizes, options)[0], strict=True):
        output[axis] = n
    bounded(output, np.float64)
    return apply(_resize_rule, x, roi, scales, sizes, options=options)


@operator("Upsample", since=7, widen=True)
def upsample_7(x, *, scales: tuple, mode: str = "nearest"):
    return upsample(x, np.array(scales), mode=mode)


@operator("Upsample", since=9, widen=True)
def upsample(x, scales, *, mode: str = "nearest"):
    mode = "linear" if mode == "bilinear" else mode
    return _resize(x, None, scales, None, Options(mode, "asymmetric", "floor"))


@operator("Resize", since=10, widen=True)
def resize_10(x, scales, *, mode: str = "nearest"):
    return _resize(x, None, scales, None, Options(mode, "asymmetric", "floor"))


@operator("Resize", since=11, widen=True)
def resize(
    x,
    roi=None,
    scales=None,
    sizes=None,
    *,
    antialias: int = 0,
    axes: tuple | None = None,
    coordinate_transformation_mode: str = "half_pixel",
    cubic_coeff_a: float = -0.75,
    exclude_outside: int = 0,
    extrapolation_value: float = 0.0,
    keep_aspect_ratio_policy: str = "stretch",
    mode: str = "nearest",
    nearest_mode: str = "round_prefer_floor",
):
    options = Options(
        mode,
        coordinate_transformation_mode,
        nearest_mode,
        cubic_coeff_a,
        bool(exclude_outside),
        bool(antialias),
        extrapolation_value,
        axes,
        keep_aspect_ratio_policy,
    )
    if not math.isfinite(cubic_coeff_a):
        raise ValueError(f"cubic_coeff_a must be finite, got {cubic_coeff_a}")
    return _resize(x, roi, scales, sizes, options)
