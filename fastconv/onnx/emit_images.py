"""What the rules of resizing and of shuffled pixels become in ONNX; see :mod:`.emit_layers`."""

import numpy as np

from fastconv._checks import is_sequence
from fastconv.onnx.emit_arrays import reshaped
from fastconv.onnx.emit_pools import mean_pool
from fastconv.onnx.emit_tensors import space_to_depth
from fastconv.onnx.sizes import Size

__all__ = ["EMITTERS"]

# By mode: ONNX's mode, and how a place of the result becomes one of the input.
_RESIZED = {
    "nearest": ("nearest", "asymmetric"),
    "nearest-exact": ("nearest", "half_pixel"),
    "linear": ("linear", "half_pixel"),
    "bilinear": ("linear", "half_pixel"),
    "trilinear": ("linear", "half_pixel"),
    "bicubic": ("cubic", "half_pixel"),
}


def _interpolate(g, x, *, size, scale_factor, mode, align_corners, recompute, antialias):
    before, after = g.shape(x), g.shape(g.result)
    if mode == "area":
        return mean_pool(g, x, n=len(before) - 2, output_size=after[2:])
    kind, places = _RESIZED[mode]
    attributes = {
        "mode": kind,
        "coordinate_transformation_mode": "align_corners" if align_corners else places,
        "nearest_mode": {"nearest": "floor", "nearest-exact": "round_prefer_ceil"}.get(mode),
        "cubic_coeff_a": (-0.5 if antialias else -0.75) if kind == "cubic" else None,
    }
    if antialias:
        if g.opset < 18:
            raise ValueError("antialias=True needs opset=18 or later")
        attributes |= {"antialias": 1, "exclude_outside": 1}
    if scale_factor is not None and not recompute:
        n = len(before) - 2
        factors = scale_factor if is_sequence(scale_factor) else (scale_factor,) * n
        sizes = zip(before[2:], factors, after[2:], strict=True)
        if any(isinstance(a, Size) or a * factor != b for a, factor, b in sizes):
            return g.add("Resize", x, None, np.float32((1, 1, *factors)), **attributes)
    return g.add("Resize", x, None, None, g.numbers(after), **attributes)


def _resize(g, x, roi, scales, sizes, *, options):
    """ONNX's own operator; what opset 18 has added must not be asked for before."""
    every = tuple(range(len(g.shape(x))))
    new = {
        "axes": None if options.axes in (None, every) else options.axes,
        "antialias": int(options.antialias) or None,
        "keep_aspect_ratio_policy": None if options.policy == "stretch" else options.policy,
    }
    if g.opset < 18 and any(value is not None for value in new.values()):
        raise ValueError(f"{[k for k, v in new.items() if v is not None]} need opset=18 or later")
    if g.opset < 19 and options.coordinates == "half_pixel_symmetric":
        raise ValueError("half_pixel_symmetric needs opset=19 or later")
    return g.add(
        "Resize", x,
        roi if options.coordinates == "tf_crop_and_resize" else None,
        None if scales is None else g.cast(scales, np.float32),
        None if sizes is None else g.cast(sizes, np.int64),
        mode=options.mode,
        coordinate_transformation_mode=options.coordinates,
        nearest_mode=options.rounding if options.mode == "nearest" else None,
        cubic_coeff_a=options.cubic_coeff if options.mode == "cubic" else None,
        exclude_outside=int(options.exclude_outside) or None,
        extrapolation_value=options.extrapolation or None,
        **new,
    )  # fmt: skip


def _of_images(g, x, emit):
    """``emit(x)`` of a value of four axes: those before the last three are one."""
    shape = g.shape(x)
    if len(shape) == 4:
        return emit(x)
    images = g.add("Reshape", x, g.numbers((-1, *map(int, shape[-3:]))))
    return reshaped(g, emit(images), ())


def _pixel_shuffle(g, x, *, factor):
    return _of_images(g, x, lambda x: g.add("DepthToSpace", x, blocksize=factor, mode="CRD"))


def _pixel_unshuffle(g, x, *, factor):
    return _of_images(g, x, lambda x: space_to_depth(g, x, block=factor, depth_first=False))


def _channel_shuffle(g, x, *, groups):
    order = np.arange(int(g.shape(x)[1])).reshape(groups, -1).T.ravel()
    return g.add("Gather", x, order, axis=1)


EMITTERS = {
    "functional.interpolate._interpolate_rule": _interpolate,
    "functional.resize._resize_rule": _resize,
    "functional.shuffle._channel_shuffle_rule": _channel_shuffle,
    "functional.shuffle._pixel_shuffle_rule": _pixel_shuffle,
    "functional.shuffle._pixel_unshuffle_rule": _pixel_unshuffle,
}
