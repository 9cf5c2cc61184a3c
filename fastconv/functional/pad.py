"""Padding: zeros, mirrors, edges and periodic boundaries."""

import numpy as np

from fastconv import _checks
from fastconv._geometry import sources
from fastconv.autograd.arrays import as_ints
from fastconv.autograd.engine import apply
from fastconv.autograd.reductions import as_axes

__all__ = ["pad"]

MODES = ("constant", "reflect", "replicate", "circular")
# What convolutions call them.
PADDING_MODES = {"zeros": "constant"} | {mode: mode for mode in MODES[1:]}


def pad(input, pad, mode="constant", value=None):
    """Pad an array along its last axes.

    Parameters
    ----------
    input : Tensor or ndarray
        float32 or float64.
    pad : tuple of int
        (before, after) of the last axis, then of the last but one, and so on, as in PyTorch.
        Negative numbers crop, in mode "constant".
    mode : {"constant", "reflect", "replicate", "circular"}
        What stands outside: `value`; the mirror image about the edge pixel; the edge pixel;
        the opposite side (periodic boundaries).
    value : float, default 0
        For mode "constant".

    Returns
    -------
    Tensor or ndarray

    Raises
    ------
    ValueError
        For an unknown mode, an odd number of sizes, a mirror as wide as the axis, a period
        wider than the axis, or a crop that leaves nothing below zero.

    Examples
    --------
    >>> import numpy as np, fastconv.functional as F
    >>> x = np.array([[1.0, 2.0, 3.0]])
    >>> F.pad(x, (2, 1), mode="circular")
    array([[2., 3., 1., 2., 3., 1.]])
    >>> F.pad(x, (2, 1), mode="reflect")
    array([[3., 2., 1., 2., 3., 2.]])
    """
    _checks.one_of("mode", mode, MODES)
    if value is not None and mode != "constant":
        raise ValueError(f"value={value} goes with mode='constant' only, got mode={mode!r}")
    if not _checks.is_sequence(pad) or isinstance(pad, str):
        raise TypeError(f"pad must be a sequence of ints, got {pad!r}")
    sizes = _checks.integers("pad", pad, len(pad)) if len(pad) else ()
    ndim = np.ndim(input)
    if len(sizes) % 2 or len(sizes) > 2 * ndim:
        raise ValueError(
            f"pad must hold (before, after) pairs for at most {ndim} axes, got {tuple(pad)}"
        )
    # per axis, the first axis first
    pairs = [(0, 0)] * (ndim - len(sizes) // 2)
    pairs += list(zip(sizes[::2], sizes[1::2], strict=True))[::-1]
    fill = 0.0 if value is None else _checks.real("value", value, finite=False)
    return apply(_pad_rule, input, pairs=pairs, mode=mode, fill=fill)


def check_widths(shape, pairs, mode):
    """Each axis is long enough for its padding."""
    for axis, (n, (before, after)) in enumerate(zip(shape, pairs, strict=True)):
        where = f"axis {axis} of length {n}"
        if mode == "constant":
            if n + before + after < 0 or n + min(before, 0) + min(after, 0) < 0:
                raise ValueError(f"pad {(before, after)} crops more than {where} has")
        elif (before, after) != (0, 0):
            limit = {"reflect": n - 1, "circular": n}.get(mode)
            if min(before, after) < 0:
                raise ValueError(f"pad {(before, after)} must not be negative with mode={mode!r}")
            if n == 0 or (limit is not None and max(before, after) > limit):
                raise ValueError(
                    f"pad {(before, after)} is too wide for {where} with mode={mode!r}"
                )


def border(shape, pairs, mode):
    """(axis, places before, sources) of every axis that is padded."""
    check_widths(shape, pairs, mode)
    return [
        (axis, before, sources(n, before, after, mode))
        for axis, (n, (before, after)) in enumerate(zip(shape, pairs, strict=True))
        if before or after
    ]


def spread(x, axes):
    """`x` inside the border that repeats it."""
    shape, inside = list(x.shape), [slice(None)] * x.ndim
    for axis, before, places in axes:
        shape[axis] = len(places)
        inside[axis] = slice(before, before + x.shape[axis])
    y = np.empty_like(x, shape=shape)
    y[tuple(inside)] = x
    for axis, before, places in axes:
        inside[axis] = slice(None)
        part, stop = np.moveaxis(y[tuple(inside)], axis, 0), before + x.shape[axis]
        part[:before] = part[before + places[:before]]
        part[stop:] = part[before + places[stop:]]
    return y


def fold_border(g, axes, shape):
    """The adjoint of :func:`spread`: what lies on the border is added to the places it repeats."""
    for axis, before, places in reversed(axes):
        g = np.moveaxis(g, axis, 0)
        n = shape[axis]
        dx = g[before : before + n].copy("K")
        for place in (*range(before), *range(before + n, len(places))):
            dx[places[place]] += g[place]
        g = np.moveaxis(dx, 0, axis)
    return g


def _pad_rule(needs, x, *, pairs, mode, fill):
    return _padded(_checks.as_float_array("input", x), pairs, mode, fill)


def _pad_arrays(needs, x, pads, value, axes, *, mode):
    """As ONNX has it: arrays `pads`, all before and then all after, of `axes` or all axes, and
    `value`, of one. Any dtype.
    """
    pairs = pairs_of(pads, axes, x.ndim)
    mode = {"edge": "replicate", "wrap": "circular"}.get(mode, mode)
    fill = 0 if value is None else np.asarray(value).item()
    y, backward = _padded(x, pairs, _checks.one_of("mode", mode, MODES), fill)
    return y, lambda g: (*backward(g), None, None, None)


def pairs_of(pads, axes, ndim):
    """Those of ONNX's Pad as (before, after) of every axis."""
    axes, sizes = as_axes(axes, ndim), as_ints("pads", pads)
    pairs = [(0, 0)] * ndim
    for axis, before, after in zip(axes, sizes[: len(axes)], sizes[len(axes) :], strict=True):
        pairs[axis] = before, after
    return pairs


def _padded(x, pairs, mode, fill):
    """(result, backward)."""
    if mode == "constant":
        check_widths(x.shape, pairs, mode)
        return _pad_constant(x, pairs, fill)
    axes = border(x.shape, pairs, mode)
    shape = x.shape
    # never a view: neither the result of the input, nor the gradient of its own
    return spread(x, axes), lambda g: (fold_border(g, axes, shape) if axes else g.copy("K"),)


def _pad_constant(x, pairs, fill):
    # the part of the input that stays, and where it goes
    kept = tuple(
        slice(max(-before, 0), n - max(-after, 0))
        for n, (before, after) in zip(x.shape, pairs, strict=True)
    )
    target = tuple(
        slice(max(before, 0), max(before, 0) + s.stop - s.start)
        for s, (before, _) in zip(kept, pairs, strict=True)
    )
    shape = tuple(n + before + after for n, (before, after) in zip(x.shape, pairs, strict=True))
    y = np.full(shape, fill, x.dtype)
    y[target] = x[kept]

    def backward(g):
        dx = np.zeros(x.shape, g.dtype)
        dx[kept] = g[target]
        return (dx,)

    return y, backward
