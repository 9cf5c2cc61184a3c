"""Steps that move values to other places, or find them where they are."""

import math

import numpy as np

from fastconv import _checks
from fastconv._layout import channels_last
from fastconv._threads import threads_for
from fastconv.compiler.step import Spec, Step, laid, unread
from fastconv.kernels import layout

__all__ = ["concatenate", "constant", "flatten", "index", "pad", "permute", "reshape"]


def flatten(inputs, options, specs, fixed):
    """Consecutive axes made one."""
    x, first, last = specs[0], options["first"], options["last"]
    merged = math.prod(x.shape[first : last + 1])
    return _reshaped(x, (*x.shape[:first], merged, *x.shape[last + 1 :]))


def reshape(inputs, options, specs, fixed):
    """The same values in logical order, in another shape."""
    return _reshaped(specs[0], unread(*specs[0][:2]).reshape(options["shape"]).shape)


def _reshaped(x, shape):
    output = Spec(shape, x.dtype)
    alias = _alike(x, output, lambda array: array.reshape(shape))
    n, *rest = x.shape
    by_image = shape[:1] == x.shape[:1] and n > 0
    to_rows = x.dtype.type in _checks.FLOATS and 3 <= len(x.shape) <= 5 and shape == (
        n, math.prod(rest)
    )  # fmt: skip

    def bind(arrays, outputs, take):
        x, y = arrays[0], outputs[0]
        if to_rows and x.size:
            channels = x.shape[1]
            image = channels_last(x).reshape(n, -1, channels)
            arguments = image, y.reshape(n, channels, -1), threads_for(x.size)
            return lambda: layout.transpose(*arguments)
        return _copies(x, y, take)

    return Step((output,), bind, alias=alias, by_image=by_image)


def _copies(x, y, take):
    """A call that sets y to the values of x in their logical order."""
    if (seen := _view(x, y.shape)) is not None:
        return lambda: np.copyto(y, seen)
    if (place := _view(y, x.shape)) is not None:
        return lambda: np.copyto(place, x)
    between = take(x.shape, x.dtype)
    ordered = between.reshape(y.shape)

    def call():
        np.copyto(between, x)
        np.copyto(y, ordered)

    return call


def _view(x, shape):
    """`x` in another shape if that needs no copy, or None."""
    seen = x.reshape(shape)
    return seen if np.may_share_memory(seen, x) else None


def _alike(x, output, seen_as):
    """Whether a view of x's array is, byte for byte, the array of the output."""
    if x.size <= 1:
        return x.size == output.size
    array = laid(np.empty(x.nbytes, np.uint8), x)
    seen = seen_as(array)
    target = laid(np.empty(output.nbytes, np.uint8), output)
    return np.may_share_memory(seen, array) and all(
        a == b
        for a, b, length in zip(seen.strides, target.strides, output.shape, strict=True)
        if length > 1
    )


def permute(inputs, options, specs, fixed):
    """The axes in another order."""
    x, axes = specs[0], options["axes"]
    shape = unread(*x[:2]).transpose(axes).shape
    output = Spec(shape, x.dtype)
    alias = _alike(x, output, lambda array: array.transpose(axes))

    def bind(arrays, outputs, take):
        seen = arrays[0].transpose(axes)
        return lambda: np.copyto(outputs[0], seen)

    return Step((output,), bind, alias=alias, by_image=len(axes) > 0 and axes[0] == 0)


def index(inputs, options, specs, fixed):
    """What NumPy's basic indexing takes."""
    x, place = specs[0], options["index"]
    output = Spec(unread(*x[:2])[place].shape, x.dtype)
    first = place[0] if isinstance(place, tuple) and place else place

    def bind(arrays, outputs, take):
        seen = arrays[0][place]
        return lambda: np.copyto(outputs[0], seen)

    return Step((output,), bind, by_image=first == slice(None))


def concatenate(inputs, options, specs, fixed):
    """Values one after the other along an axis."""
    dim = options["dim"]
    trial = [x if s is None else unread(*s[:2]) for x, s in zip(inputs, specs, strict=True)]
    ends = np.cumsum([x.shape[dim] for x in trial]).tolist()
    first = trial[0].shape
    if any((*x.shape[:dim], *x.shape[dim + 1 :]) != (*first[:dim], *first[dim + 1 :])
           for x in trial):  # fmt: skip
        raise ValueError(f"arrays must agree but for axis {dim}, got {[x.shape for x in trial]}")
    dtype = np.result_type(*(x.dtype for x in trial))
    output = Spec((*first[:dim], ends[-1], *first[dim + 1 :]), dtype)

    def bind(arrays, outputs, take):
        places = [
            outputs[0][(slice(None),) * dim + (slice(end - x.shape[dim], end),)]
            for x, end in zip(arrays, ends, strict=True)
        ]

        def call():
            for place, x in zip(places, arrays, strict=True):
                np.copyto(place, x)

        return call

    return Step((output,), bind, by_image=dim > 0 and None not in specs)


def pad(inputs, options, specs, fixed):
    """A constant around the values, or, for negative widths, less of them."""
    x, pairs, fill = specs[0], options["pairs"], options["fill"]
    shape = tuple(n + sum(pair) for n, pair in zip(x.shape, pairs, strict=True))
    kept, place = [], []
    for n, (before, after) in zip(x.shape, pairs, strict=True):
        if n + before + after < 0 or n + min(before, 0) + min(after, 0) < 0:
            raise ValueError(f"pad {(before, after)} crops more than an axis of length {n} has")
        kept.append(slice(max(-before, 0), n - max(-after, 0)))
        start = max(before, 0)
        place.append(slice(start, start + kept[-1].stop - kept[-1].start))
    kept, place = tuple(kept), tuple(place)

    def bind(arrays, outputs, take):
        y, inside, seen = outputs[0], outputs[0][place], arrays[0][kept]

        def call():
            y.fill(fill)
            np.copyto(inside, seen)

        return call

    return Step((Spec(shape, x.dtype),), bind, by_image=tuple(pairs[:1]) == ((0, 0),))


def constant(inputs, options, specs, fixed):
    """An array that depends on no input."""
    array = inputs[0]
    return Step((Spec(array.shape, array.dtype, array),), None)
