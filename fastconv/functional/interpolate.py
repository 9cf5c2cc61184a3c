"""Resizing of signals, images and volumes."""

import math

from fastconv import _checks, _geometry
from fastconv._layout import channels_first, channels_last
from fastconv._memory import empty
from fastconv._resample import Filter, pack, table, torch_nearest
from fastconv._threads import threads_for, workspace
from fastconv.autograd.engine import apply
from fastconv.functional.pool import adaptive_avg
from fastconv.kernels import interpolate as kernels

__all__ = ["interpolate"]

# By mode, the numbers of spatial axes that it is for.
MODES = {
    "nearest": (1, 2, 3),
    "nearest-exact": (1, 2, 3),
    "linear": (1,),
    "bilinear": (2,),
    "trilinear": (3,),
    "bicubic": (2,),
    "area": (1, 2, 3),
}
ALIGNED = ("linear", "bilinear", "trilinear", "bicubic")
ANTIALIASED = ("bilinear", "bicubic")


# Signals are cut into tasks of so many places; of images lines are tasks.
PART = 2048


def interpolate(
    input,
    size=None,
    scale_factor=None,
    mode="nearest",
    align_corners=None,
    recompute_scale_factor=None,
    antialias=False,
):
    """Resize signals, images or volumes.

    Parameters
    ----------
    input : Tensor or ndarray of shape (N, C, *spatial)
        float32 or float64, of any memory layout; one to three spatial axes.
    size : int or tuple of int, optional
        Spatial sizes of the result.
    scale_factor : float or tuple of float, optional
        In place of `size`: the result has floor(scale_factor * size of the input) places.
    mode : {"nearest", "nearest-exact", "linear", "bilinear", "trilinear", "bicubic", "area"}
        "linear", "bilinear" and "trilinear" are for one, two and three axes, "bicubic" is for two.
        "area" is :func:`adaptive_avg_pool2d`. "nearest-exact" takes the place below an output
        pixel's centre, "nearest" the one below its corner.
    align_corners : bool, default False
        Whether the centres of the corner pixels lie on each other, or else the corners
        themselves. For "linear", "bilinear", "trilinear" and "bicubic".
    recompute_scale_factor : bool, default False
        Whether places are found with the ratio of the sizes, or else with `scale_factor` itself,
        which differs where floor() has cut something off.
    antialias : bool, default False
        Widen the filter where an axis shrinks, as Pillow does; for "bilinear" and "bicubic".

    Returns
    -------
    Tensor or ndarray of shape (N, C, *size)
        Memory is channels-last.

    Raises
    ------
    ValueError, TypeError
        For a rank, option or dtype that does not fit; the message names it.

    Notes
    -----
    Weights are those of PyTorch in float64. Its "nearest" and "nearest-exact" find places in
    float32, as is done here for both dtypes.

    Examples
    --------
    >>> import numpy as np, fastconv.functional as F
    >>> x = np.array([[[1.0, 2.0, 3.0]]])
    >>> F.interpolate(x, scale_factor=2)
    array([[[1., 1., 2., 2., 3., 3.]]])
    >>> F.interpolate(x, size=5, mode="linear", align_corners=True)
    array([[[1. , 1.5, 2. , 2.5, 3. ]]])
    """
    return apply(
        _interpolate_rule,
        input,
        size=size,
        scale_factor=scale_factor,
        mode=mode,
        align_corners=align_corners,
        recompute=recompute_scale_factor,
        antialias=antialias,
    )


def _interpolate_rule(needs, x, **options):
    x = _checks.as_float_array("input", x)
    tables = tables_of(x.shape, **options)
    if options["mode"] == "area":
        return adaptive_avg(x, False, tuple(each.output for each in tables))
    return resample(x, tables)


def tables_of(shape, *, size, scale_factor, mode, align_corners, recompute, antialias):
    """Of every spatial axis of an input of `shape`; of "area" only the sizes count."""
    _check(shape, mode, align_corners, antialias)
    _geometry.nonempty("input", shape[2:])
    output, scales = _sizes(shape[2:], size, scale_factor, recompute)
    axes = zip(shape[2:], output, scales, strict=True)
    if mode in ALIGNED:
        how = mode, bool(align_corners), bool(antialias)
        return tuple(_table(*axis, *how) for axis in axes)
    return tuple(torch_nearest(*axis, mode == "nearest-exact") for axis in axes)


def _check(shape, mode, align_corners, antialias):
    _checks.one_of("mode", mode, tuple(MODES))
    if len(shape) - 2 not in MODES[mode]:
        axes = " or ".join(str(n + 2) for n in MODES[mode])
        raise ValueError(
            f"input must have {axes} axes (batch, channels, spatial) with mode={mode!r}, "
            f"got shape {shape}"
        )
    if align_corners is not None:
        _checks.boolean("align_corners", align_corners)
        if mode not in ALIGNED:
            raise ValueError(
                f"align_corners={align_corners} goes with modes {', '.join(ALIGNED)} only, "
                f"got mode={mode!r}"
            )
    if _checks.boolean("antialias", antialias) and mode not in ANTIALIASED:
        raise ValueError(
            f"antialias=True goes with modes {', '.join(ANTIALIASED)} only, got mode={mode!r}"
        )


def _sizes(size, wanted, factors, recompute):
    """Sizes of the result, and the scales that places are found with; None for the ratio."""
    n = len(size)
    if (wanted is None) == (factors is None):
        raise ValueError(
            f"one of size and scale_factor must be given, got size={wanted!r} and "
            f"scale_factor={factors!r}"
        )
    recompute = recompute is not None and _checks.boolean("recompute_scale_factor", recompute)
    if wanted is not None:
        if recompute:
            raise ValueError(
                f"recompute_scale_factor=True goes with scale_factor, got size={wanted}"
            )
        return _geometry.addressable(_checks.integers("size", wanted, n, minimum=1)), (None,) * n
    if isinstance(factors, str) or not _checks.is_sequence(factors):
        factors = (factors,) * n
    if len(factors) != n:
        raise ValueError(f"scale_factor must be a number or {n} numbers, got {factors!r}")
    factors = tuple(_checks.real("scale_factor", factor) for factor in factors)
    # not more than overflows, which is then refused
    output = tuple(math.floor(min(s * f, 2.0**60)) for s, f in zip(size, factors, strict=True))
    if min(output) < 1:
        raise ValueError(f"scale_factor={factors} leaves nothing of an input of {size}")
    return _geometry.addressable(output), (None,) * n if recompute else factors


def _table(size, output, scale, mode, align_corners, antialias):
    """The table of PyTorch's linear and cubic modes."""
    kind = "cubic" if mode == "bicubic" else "linear"
    if antialias:
        if align_corners:  # it has this scale then, but corners are not aligned
            scale = (output - 1) / (size - 1) if min(size, output) > 1 else math.inf
        how = Filter(kind, cubic_coeff=-0.5, exclude_outside=True, antialias=True)
    elif kind == "linear" and output == size:
        return torch_nearest(size, output, None, False)
    else:
        how = Filter(kind, "align_corners" if align_corners else "half_pixel")
    return table(size, output, output / size if scale is None else scale, how)


def resample(x, tables, fill=0.0):
    """(result, backward) of resizing the spatial axes of `x`, (N, C, *spatial), by their tables.

    `fill` is the value where a table has a place outside.
    """

    def backward(g):
        transposed = tuple(each.transposed for each in tables)
        return (_resampled(g, transposed, fill),)

    return _resampled(x, tables, fill), backward


def _resampled(x, tables, fill):
    image = channels_last(x)
    output = _geometry.three([each.output for each in tables], 1)
    y = empty((len(image), *output, image.shape[4]), x.dtype)
    bind(image, tables, y, fill)()
    return channels_first(y, x.ndim)


def bind(image, tables, y, fill=0.0, take=empty):
    """A call that resizes `image` to `y`, both (N, D, H, W, C), by the tables of spatial axes."""
    if not y.size:
        return lambda: None
    taps = math.prod(len(each.places) / each.output for each in tables)
    threads = threads_for(y.size * max(1, math.ceil(taps)))
    work = workspace(threads, image.shape[3] * image.shape[4], y.dtype, take)
    part = PART if len(tables) == 1 else y.shape[3]
    arguments = image, y, *pack(tables, y.dtype), work, part, threads
    outside = [
        (slice(None),) * axis + (each.outside,)
        for axis, each in enumerate(_geometry.three(tables, None), 1)
        if each is not None and each.outside is not None
    ]

    def call():
        kernels.resample(*arguments)
        for places in outside:
            y[places] = fill

    return call
