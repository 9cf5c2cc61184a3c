"""Steps that move values to other places, or find them where they are."""

import math

import numpy as np

from fastconv import _checks
from fastconv._layout import channels_last
from fastconv._threads import threads_for
from fastconv.compiler.rules import RULES
from fastconv.compiler.step import Spec, Step, laid, unread
from fastconv.functional.pad import pairs_of
from fastconv.kernels import layout

__all__ = ["VIEWS", "cast", "concatenate", "constant", "pad", "view", "views", "where"]


# Rules that find their result in the memory of their first input, where its order allows that.
VIEWS = {
    "autograd.arrays._chunk", "autograd.arrays._matrix", "autograd.arrays._part",
    "autograd.arrays._slice", "autograd.arrays._squeeze", "autograd.arrays._unsqueeze",
    "autograd.arrays._view", "autograd.ops._flatten", "autograd.ops._index",
    "autograd.ops._permute", "autograd.ops._reshape",
}  # fmt: skip


def view(inputs, options, specs, fixed):
    """A rule of VIEWS, of a first input whose values are not needed to know the result's shape."""
    if options["rule"] not in VIEWS:
        raise ValueError(f"{options['rule']} is no view")
    rule, x, given = RULES[options["rule"]], specs[0], options["options"]
    if any(s is not None and s.value is None for s in specs[1:]):
        return None
    others = [given if s is None else s.value for given, s in zip(inputs, specs, strict=True)][1:]
    needs = (False,) * len(inputs)

    def seen_as(array):
        return rule(needs, array, *others, **given)[0]

    output = Spec(seen_as(unread(*x[:2])).shape, x.dtype)
    n, *rest = x.shape or (1,)
    to_rows = (
        output.shape == (n, math.prod(rest))
        and 3 <= len(x.shape) <= 5
        and x.size
        and x.dtype.type in _checks.FLOATS
    )

    def bind(arrays, outputs, take):
        x, y = arrays[0], outputs[0]
        if to_rows:
            channels = x.shape[1]
            image = channels_last(x).reshape(n, -1, channels)
            arguments = image, y.reshape(n, channels, -1), threads_for(x.size)
            return lambda: layout.transpose(*arguments)
        seen = seen_as(x)
        if not y.size or np.may_share_memory(seen, x):
            return lambda: np.copyto(y, seen)
        return _copies(x, y, take)

    alias, by_image = _alias(x, output, seen_as), _by_image(x, output, seen_as)
    return Step((output,), bind, alias=alias, by_image=by_image, seen_as=seen_as)


def views(inputs, options, specs, fixed):
    """Views of views, carried out as one copy; None where that takes more.

    All but the last are seen in the input's array, and the last there or in the output's.
    """
    steps, at, spec = [], 1, specs[0]
    for rule, given, count in options["views"]:
        part = slice(at, at + count)
        each = {"rule": rule, "options": given}
        steps.append(view((None, *inputs[part]), each, (spec, *specs[part]), None))
        if steps[-1] is None:
            return None
        (spec,), at = steps[-1].outputs, at + count

    def before(array):
        for step in steps[:-1]:
            array = step.seen_as(array)
        return array

    def pair(x, y):
        """Arrays of which the first is to be copied to the second, or None."""
        part = before(x)
        if not np.may_share_memory(part, x):
            return None
        seen = steps[-1].seen_as(part)
        if np.may_share_memory(seen, x):
            return seen, y
        place = y.reshape(part.shape)  # only reshapes copy
        return (part, place) if np.may_share_memory(place, y) else None

    if not spec.size or pair(_sample(specs[0]), _sample(spec)) is None:
        return None

    def bind(arrays, outputs, take):
        seen, place = pair(arrays[0], outputs[0])
        return lambda: np.copyto(place, seen)

    return Step(
        (spec,),
        bind,
        by_image=all(step.by_image for step in steps),
        seen_as=lambda array: steps[-1].seen_as(before(array)),
    )


def _copies(x, y, take):
    """A call that sets y to the values of x, in their logical order, where y is no view of x."""
    place = y.reshape(x.shape)
    if np.may_share_memory(place, y):
        return lambda: np.copyto(place, x)
    between = take(x.shape, x.dtype)
    ordered = between.reshape(y.shape)

    def call():
        np.copyto(between, x)
        np.copyto(y, ordered)

    return call


def _sample(x):
    """An array such as that of a value, of one byte to a value."""
    return laid(np.empty(x.size, np.uint8), x._replace(dtype=np.dtype(np.uint8)))


def _alias(x, output, seen_as):
    """Whether a view of x's array is, byte for byte, the array of the output."""
    if x.size <= 1 or x.size != output.size:
        return x.size == output.size
    array = _sample(x)
    seen, target = seen_as(array), _sample(output)
    return np.may_share_memory(seen, array) and all(
        a == b
        for a, b, length in zip(seen.strides, target.strides, output.shape, strict=True)
        if length > 1
    )


def _by_image(x, output, seen_as):
    """Whether image i is a view of image i alone, for any number of images."""
    if not x.shape or x.shape[:1] != output.shape[:1]:
        return False
    for n in (1, 2):
        array = _sample(x._replace(shape=(n, *x.shape[1:])))
        try:
            seen = seen_as(array)
        except (ValueError, IndexError):
            return False
        shared = np.may_share_memory(seen, array)
        if seen.shape != (n, *output.shape[1:]) or (
            shared and n > 1 and seen.strides[0] != array.strides[0]
        ):
            return False
    return True


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
    """A constant around the values, or, for negative widths, less of them.

    The widths are an option, or arrays: all before and then all after, and of which axes.
    """
    x, fill = specs[0], options["fill"]
    if len(inputs) == 1:
        pairs = options["pairs"]
    else:
        if any(s is not None and s.value is None for s in specs[1:]):
            return None
        given = [x if s is None else s.value for x, s in zip(inputs, specs, strict=True)]
        pairs = pairs_of(*given[1:], len(x.shape))
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


def cast(inputs, options, specs, fixed):
    """Values in another dtype."""
    x, output = specs[0], Spec(specs[0].shape, np.dtype(options["dtype"]))

    def bind(arrays, outputs, take):
        x, y = arrays[0], outputs[0]
        return lambda: np.copyto(y, x, casting="unsafe")

    return Step((output,), bind, alias=x.dtype == output.dtype, by_image=True)


def where(inputs, options, specs, fixed):
    """Values of one where a condition holds, of another elsewhere; all three broadcast."""
    given = [x if s is None else s for x, s in zip(inputs, specs, strict=True)]
    dtypes = [getattr(x, "dtype", None) for x in given]  # numbers have none
    if dtypes[0] != np.bool_ or dtypes[1] != dtypes[2]:
        return None
    shapes = [x.shape for x in given]
    output = Spec(np.broadcast_shapes(*shapes), dtypes[1])

    def bind(arrays, outputs, take):
        (condition, a, b), y = arrays, outputs[0]

        def call():
            np.copyto(y, b)
            np.copyto(y, a, where=condition)

        return call

    whole = all(shape[:1] == output.shape[:1] for shape in shapes if shape != ())
    by_image = whole and all(len(shape) in (0, len(output.shape)) for shape in shapes)
    return Step((output,), bind, over=(2,) if shapes[2] == output.shape else (), by_image=by_image)


def constant(inputs, options, specs, fixed):
    """An array that depends on no input."""
    array = inputs[0]
    return Step((Spec(array.shape, array.dtype, array),), None)
