"""Steps of convolutions and dense layers."""

import math

import numpy as np

from fastconv import _geometry
from fastconv._correlate import bind as bind_correlation
from fastconv._layout import channels_last, memory_order
from fastconv._plan import Shape, plan_correlation
from fastconv._threads import threads_for
from fastconv.compiler.step import Spec, Step, unread
from fastconv.functional.conv import by_group, check, check_transposed, transposed
from fastconv.kernels import norm

__all__ = ["check_constant", "check_residual", "conv", "conv_transpose", "linear"]


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


def conv_transpose(inputs, options, specs, fixed):
    """A transposed convolution by constant weights: a correlation for each phase of the stride."""
    x, residual = specs[0], specs[3]
    _, w, b, _ = inputs
    n, stride, padding, output_padding, groups, dilation = options["geometry"]
    if len(x.shape) != n + 2:
        return None
    check_transposed(n, unread(x.shape, x.dtype), w, b, groups)
    geometry = _geometry.transposed_convolution(
        x.shape[2:], w.shape[2:], stride, padding, dilation, output_padding
    )
    phases = transposed(by_group(w, groups), geometry)
    output = Spec((x.shape[0], phases.channels, *geometry.size[3 - n :]), x.dtype)
    steps = []
    for frame, part in phases.parts:
        start = tuple(frame.packed[9:12].tolist())  # the same phase for inputs of any size
        kept = None if fixed is None else fixed.part(start)
        step = _correlation(part, b, residual, frame, options, output, channels_last, kept)
        steps.append(step)

    def bind(arrays, outputs, take):
        y = channels_last(outputs[0])
        calls = [step.bind(arrays, outputs, take) for step in steps]
        if phases.covering or not y.size:
            return lambda: [each() for each in calls]
        # What no phase writes: the activation of bias and residual.
        bias = np.zeros(phases.channels, x.dtype) if b is None else b
        first = y if residual is None else channels_last(arrays[3])
        scale = np.full_like(bias, residual is not None)
        source, target = (array.reshape(-1, phases.channels) for array in (first, y))
        arguments = (
            source, np.zeros_like(bias), scale, bias, None, *options["activation"], target,
            threads_for(y.size),
        )  # fmt: skip

        def call():
            if residual is None:
                y.fill(0)
            norm.normalize(*arguments)
            for each in calls:
                each()

        return call

    flops = sum(step.flops for step in steps)
    algorithm = steps[0].algorithm if steps else ""
    return Step((output,), bind, algorithm, flops, by_image=True)


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
    """A 1x1 convolution of rows; of a whole image, whose memory is then a row, if it has one.

    The option "image" is how many channels that has; each row of weights is sorted as it is.
    """
    _, w, b, _ = inputs
    shape = specs[0].shape
    if len(shape) != 2 and not options.get("image"):
        return None
    if math.prod(shape[1:]) != w.shape[1] or shape[1] != options.get("image", shape[1]):
        raise ValueError(f"linear of {w.shape[1]} features got an input of shape {shape}")
    w = np.ascontiguousarray(w).reshape(1, len(w), 1, 1, 1, -1)
    frame = _geometry.convolution((1,), (1,), 1, 0, 1).frame
    output = Spec((shape[0], w.shape[1]), specs[0].dtype)
    return _correlation(w, b, specs[3], frame, options, output, _as_pixels, fixed)


def _as_pixels(x):
    return memory_order(x)[0].reshape(len(x), 1, 1, 1, -1)
