"""Steps of pooling."""

from fastconv import _checks, _geometry
from fastconv._layout import channels_last
from fastconv._threads import threads_for
from fastconv.compiler.step import Spec, Step
from fastconv.kernels import pool

__all__ = ["adaptive_avg_pool", "adaptive_max_pool", "avg_pool", "max_pool"]


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
