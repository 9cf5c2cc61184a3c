"""Random changes of a batch, so that a network sees no image twice.

A transform is called as ``transform(batch, rng)`` with a batch of shape (N, C, *spatial), one to
three spatial axes, uint8 or floating point, and a :class:`numpy.random.Generator`. It returns a
new batch of the same dtype and leaves its input alone.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from fastconv._checks import conversion, integer, integers, plain, real


@dataclass(frozen=True)
class RandomShift:
    """Move each image by a random whole number of pixels along each spatial axis.

    Pixels that move in from outside are zero.

    Parameters
    ----------
    max_shift : int
        Shifts are uniform over -`max_shift` to `max_shift`.

    Raises
    ------
    TypeError
        If `max_shift` is not an int.
    ValueError
        If `max_shift` is negative.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.data import RandomShift
    >>> batch = np.arange(1, 5, dtype=np.uint8).reshape(1, 1, 4)
    >>> moved = RandomShift(max_shift=1)(batch, np.random.default_rng(0))
    >>> moved.shape, moved.dtype
    ((1, 1, 4), dtype('uint8'))
    """

    max_shift: int

    def __post_init__(self):
        integer("max_shift", self.max_shift, 0)

    def __call__(self, batch, rng):
        batch = _checked(batch, rng)
        return _crop_at_random(batch, batch.shape[2:], self.max_shift, rng)


@dataclass(frozen=True)
class RandomFlip:
    """Mirror each image with a given probability.

    Parameters
    ----------
    p : float, default 0.5
        The probability.
    axis : int, default -1
        The spatial axis to reverse: -1, the last, mirrors left and right.

    Raises
    ------
    TypeError
        If an argument has the wrong type.
    ValueError
        If `p` is outside [0, 1], or `axis` is not a spatial axis of the batch.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.data import RandomFlip
    >>> batch = np.arange(4, dtype=np.uint8).reshape(1, 1, 4)
    >>> RandomFlip(p=1)(batch, np.random.default_rng(0))
    array([[[3, 2, 1, 0]]], dtype=uint8)
    """

    p: float = 0.5
    axis: int = -1

    def __post_init__(self):
        if not 0 <= real("p", self.p) <= 1:
            raise ValueError(f"p must lie in [0, 1], got {self.p}")
        if integer("axis", self.axis, -3) in (0, 1):
            raise ValueError(f"axis must be a spatial axis, not 0 or 1, got {self.axis}")

    def __call__(self, batch, rng):
        batch = _checked(batch, rng)
        if not (2 <= self.axis < batch.ndim or 2 - batch.ndim <= self.axis < 0):
            raise ValueError(
                f"axis must be a spatial axis of a batch of shape {batch.shape}, got {self.axis}"
            )
        flipped = batch.copy(order="K")
        chosen = rng.random(len(batch)) < self.p
        flipped[chosen] = np.flip(batch[chosen], self.axis)
        return flipped


@dataclass(frozen=True)
class GaussianNoise:
    """Add independent normal noise to every value.

    A uint8 batch is rounded to the nearest integer and clipped to 0..255.

    Parameters
    ----------
    std : float
        The noise's standard deviation, in the unit of the batch's values.

    Raises
    ------
    TypeError
        If `std` is not a real number.
    ValueError
        If `std` is negative or not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.data import GaussianNoise
    >>> noisy = GaussianNoise(std=0.5)(np.zeros((8, 1, 100)), np.random.default_rng(0))
    >>> bool(abs(noisy.std() - 0.5) < 0.05)
    True
    """

    std: float

    def __post_init__(self):
        if real("std", self.std) < 0:
            raise ValueError(f"std must be at least 0, got {self.std}")

    def __call__(self, batch, rng):
        batch = _checked(batch, rng)
        computed_in = np.float64 if batch.dtype.itemsize >= 8 else np.float32
        noisy = rng.standard_normal(batch.shape, computed_in)
        noisy *= computed_in(self.std)
        noisy += batch
        if batch.dtype == np.uint8:
            np.rint(noisy, out=noisy)
            np.clip(noisy, 0, 255, out=noisy)
        return noisy.astype(batch.dtype, copy=False)


@dataclass(frozen=True)
class RandomCrop:
    """Cut a window of a given size out of each image, at a random place.

    Parameters
    ----------
    size : int or tuple of int
        The window's length along each spatial axis; an int stands for all axes.
    padding : int, default 0
        Surround the image with so many zeros on every side first.

    Raises
    ------
    TypeError
        If an argument has the wrong type.
    ValueError
        If `size` is less than 1 or `padding` negative; if `size` has another number of axes
        than the batch, or is larger than the padded image.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.data import RandomCrop
    >>> batch = np.zeros((4, 3, 32, 32), np.float32)
    >>> RandomCrop(size=(24, 28))(batch, np.random.default_rng(0)).shape
    (4, 3, 24, 28)
    """

    size: int | tuple[int, ...]
    padding: int = 0

    def __post_init__(self):
        for length in self.size if isinstance(self.size, tuple) else (self.size,):
            integer("size", length, 1)
        integer("padding", self.padding, 0)

    def __call__(self, batch, rng):
        batch = _checked(batch, rng)
        spatial = batch.shape[2:]
        size = integers("size", self.size, len(spatial))
        padded = tuple(length + 2 * self.padding for length in spatial)
        if any(cut > length for cut, length in zip(size, padded, strict=True)):
            raise ValueError(f"size must fit in the padded image {padded}, got {self.size}")
        return _crop_at_random(batch, size, self.padding, rng)


@dataclass(frozen=True)
class Compose:
    """Apply several transforms, one after the other.

    Parameters
    ----------
    transforms : sequence of callables
        At least one; each is called as ``transform(batch, rng)``.

    Raises
    ------
    TypeError
        If `transforms` is not a list or tuple of callables.
    ValueError
        If `transforms` is empty.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.data import Compose, RandomFlip, RandomShift
    >>> augment = Compose([RandomShift(2), RandomFlip()])
    >>> augment
    Compose(transforms=[RandomShift(max_shift=2), RandomFlip(p=0.5, axis=-1)])
    >>> augment(np.zeros((4, 1, 28, 28)), np.random.default_rng(0)).shape
    (4, 1, 28, 28)
    """

    transforms: list[Callable] | tuple[Callable, ...]

    def __post_init__(self):
        if not isinstance(self.transforms, (list, tuple)):
            raise TypeError(f"transforms must be a list or tuple, got {self.transforms!r}")
        for i, transform in enumerate(self.transforms):
            if not callable(transform):
                raise TypeError(f"transforms[{i}] must be callable, got {transform!r}")
        if not self.transforms:
            raise ValueError(f"transforms must not be empty, got {self.transforms!r}")

    def __call__(self, batch, rng):
        for transform in self.transforms:
            batch = transform(batch, rng)
        return batch


def _checked(batch, rng):
    """The batch, of no subclass, if both arguments are what a transform takes."""
    if not isinstance(batch, np.ndarray):
        raise TypeError(f"batch must be an ndarray, got {batch!r}")
    batch = plain("batch", batch)
    if not (batch.dtype == np.uint8 or batch.dtype.kind == "f"):
        raise TypeError(
            f"batch must be uint8 or floating point, got {batch.dtype}"
            f"{conversion('batch', batch.dtype)}"
        )
    if not 3 <= batch.ndim <= 5:
        raise ValueError(
            f"batch must have shape (N, C, *spatial), 1 to 3 spatial axes, got {batch.shape}"
        )
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng must be a numpy.random.Generator, got {rng!r}")
    return batch


def _crop_at_random(batch, size, padding, rng):
    """Zero-pad by `padding`, then cut from each image a window of `size` at a random place."""
    spatial = batch.shape[2:]
    padded = np.zeros_like(batch, shape=(*batch.shape[:2], *(n + 2 * padding for n in spatial)))
    padded[(..., *(slice(padding, padding + n) for n in spatial))] = batch
    places = np.subtract(padded.shape[2:], size) + 1  # how many there are along each axis
    starts = rng.integers(places, size=(len(batch), len(spatial)))
    windows = sliding_window_view(padded, size, axis=tuple(range(2, batch.ndim)))
    return windows[np.arange(len(batch)), :, *starts.T]  # (N, C, *size)
