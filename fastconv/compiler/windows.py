"""Steps of pooling and resizing."""

from fastconv import _checks, _geometry
from fastconv._layout import channels_last
from fastconv._resample import torch_nearest
from fastconv._threads import threads_for
from fastconv.compiler.step import Spec, Step
from fastconv.functional import resize
from fastconv.functional.interpolate import bind as bind_resampling
from fastconv.functional.interpolate import tables_of
from fastconv.kernels import pool

__all__ = [
    "RESIZES",
    "adaptive_avg_pool",
    "adaptive_max_pool",
    "avg_pool",
    "max_pool",
    "resample",
]


def max_pool(inputs, options, specs, fixed):
    """The largest of each window, of a fixed size."""
    return _maxima(options, specs[0], _strided(options, specs[0]))


def adaptive_max_pool(inputs, options, specs, fixed):
    """The largest of each window, of as many as asked for."""
    return _maxima(options, specs[0], _adaptive(options, specs[0]))


def avg_pool(inputs, options, specs, fixed):
    """The mean of each window, of a fixed size."""
    if options["divisor"] is not None:
        return None
    return _means(options, specs[0], _strided(options, specs[0]))


def adaptive_avg_pool(inputs, options, specs, fixed):
    """The mean of each window, of as many as asked for."""
    return _means(options, specs[0], _adaptive(options, specs[0]))


def _strided(options, x):
    if len(x.shape) != options["n"] + 2 or x.dtype.type not in _checks.FLOATS:
        return None
    return _geometry.strided_windows(x.shape[2:], *options["options"])


def _adaptive(options, x):
    if len(x.shape) != options["n"] + 2 or x.dtype.type not in _checks.FLOATS:
        return None
    return _geometry.adaptive_windows(x.shape[2:], options["output_size"])


def _maxima(options, x, windows):
    if windows is None:
        return None

    def bind(arrays, outputs, take):
        image, y = channels_last(arrays[0]), channels_last(outputs[0])
        arguments = image, y, None, windows.windows, options["floor"], threads_for(x.size)
        return lambda: pool.max_pool(*arguments)

    output = Spec((*x.shape[:2], *windows.output), x.dtype)
    return Step((output,), bind, flops=x.size, by_image=True)


def _means(options, x, windows):
    if windows is None:
        return None

    def bind(arrays, outputs, take):
        image, y = channels_last(arrays[0]), outputs[0].reshape(*x.shape[:2], *windows.output)
        arguments = (
            image, channels_last(y), windows.windows, windows.divisor, 1.0, threads_for(x.size)
        )  # fmt: skip
        return lambda: pool.sum_pool(*arguments)

    kept = () if options.get("squeeze") else windows.output  # of one value for an image
    return Step((Spec((*x.shape[:2], *kept), x.dtype),), bind, flops=x.size, by_image=True)


def _interpolated(shape, *, options):
    return None if options["mode"] == "area" else tables_of(shape, **options)


def _resized(shape, *given, options):
    """Those of every spatial axis; None where others change."""
    tables = resize.tables_of(shape, *given, **options)
    if min(tables, default=2) < 2:
        return None
    return tuple(
        tables.get(axis) or torch_nearest(n, n, None, False) for axis, n in enumerate(shape[2:], 2)
    )


# By rule, what gives the tables of the spatial axes.
RESIZES = {
    "functional.interpolate._interpolate_rule": _interpolated,
    "functional.resize._resize_rule": _resized,
}


def resample(inputs, options, specs, fixed):
    """A rule of RESIZES; but for its first input all is known ahead."""
    x, *given = specs
    if not 3 <= len(x.shape) <= 5 or x.dtype.type not in _checks.FLOATS:
        return None
    if any(s is not None and s.value is None for s in given):
        return None
    given = [g if s is None else s.value for g, s in zip(inputs[1:], given, strict=True)]
    tables = RESIZES[options["rule"]](x.shape, *given, options=options["options"])
    if tables is None:
        return None
    output = Spec((*x.shape[:2], *(each.output for each in tables)), x.dtype)
    fill = getattr(options["options"].get("options"), "extrapolation", 0.0)

    def bind(arrays, outputs, take):
        image, y = channels_last(arrays[0]), channels_last(outputs[0])
        return bind_resampling(image, tables, y, fill, take)

    return Step((output,), bind, flops=2 * output.size, by_image=True)
