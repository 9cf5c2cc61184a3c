"""Steps of convolutions and dense layers."""

import math

import numpy as np

from fastconv import _geometry
from fastconv._correlate import bind as bind_correlation
from fastconv._layout import channels_last, memory_order
from fastconv._plan import Shape, plan_correlation
from fastconv.compiler.step import Spec, Step, unread
from fastconv.functional.conv import by_group, check

__all__ = ["check_constant", "check_residual", "conv", "linear"]


def conv(inputs, options, specs, fixed):
    """A convolution by constant weights, with a residual and an activation."""
    x, residual = specs[0], specs[3]
    _, w, b, _ = inputs
    n, stride, padding, dilation, groups = options["geometry"]
    if len(x.shape) != n + 2:
        return None
    check(n, unread(x.shape, x.dtype), w, b, groups)
    geometry = _geometry.convolution(x.shape[2:], w.shape[2:], stride, padding, dilation)
    output = Spec((x.shape[0], len(w), *geometry.output), x.dtype)
    w, frame = by_group(w, groups), geometry.frame
    return _correlation(w, b, residual, frame, options, output, channels_last, fixed)


def check_constant(name, array, dtype, shape):
    """Raise unless a constant fits: a plan may come from a file."""
    if array.dtype != dtype:
        raise TypeError(f"{name} must have dtype {dtype}, got {array.dtype}")
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}")


def check_residual(residual, output):
    """Raise unless a sum is of two values of one shape and dtype."""
    if residual is not None and residual[:2] != output[:2]:
        raise ValueError(
            f"a sum of shapes {output.shape} and {residual.shape}: a plan needs equal ones here"
        )


def _correlation(w, b, residual, frame, options, output, memory, fixed):
    shape, dtype = output.shape, output.dtype
    algorithm = options.get("algorithm", "auto")
    check_constant("weight", w, dtype, w.shape)
    if b is not None:
        check_constant("bias", b, dtype, (shape[1],))
    check_residual(residual, output)
    if not shape[0]:
        return Step((output,), lambda arrays, outputs, take: lambda: None)
    sizes = Shape(shape[0], *w.shape[:2], w.shape[5], dtype.itemsize)
    plan = plan_correlation(sizes, frame, algorithm, True)

    def bind(arrays, outputs, take):
        x, _, _, residual = arrays
        residual = None if residual is None else memory(residual)
        return bind_correlation(
            memory(x), w, b, memory(outputs[0]), frame, algorithm, fixed, residual,
            options["activation"], take,
        )[1]  # fmt: skip

    return Step((output,), bind, plan.way, 2 * sizes.products(frame), by_image=True)


def linear(inputs, options, specs, fixed):
    """A 1x1 convolution of rows; of a whole image, whose memory is then a row, if it has one."""
    _, w, b, _ = inputs
    shape = specs[0].shape
    if len(shape) != 2 and not options.get("image"):
        return None
    if math.prod(shape[1:]) != w.shape[1]:
        raise ValueError(f"linear of {w.shape[1]} features got an input of shape {shape}")
    if len(shape) > 2:
        w = w.reshape(len(w), shape[1], -1).transpose(0, 2, 1)
    w = np.ascontiguousarray(w).reshape(1, len(w), 1, 1, 1, -1)
    frame = _geometry.convolution((1,), (1,), 1, 0, 1).frame
    output = Spec((shape[0], w.shape[1]), specs[0].dtype)
    return _correlation(w, b, specs[3], frame, options, output, _as_pixels, fixed)


def _as_pixels(x):
    return memory_order(x)[0].reshape(len(x), 1, 1, 1, -1)
