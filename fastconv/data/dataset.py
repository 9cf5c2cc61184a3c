"""Labelled images in memory, and their division into a training and a test part."""

from dataclasses import dataclass

import numpy as np

from fastconv._checks import as_array, conversion, integer, plain, real


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Images with one class label each.

    Parameters
    ----------
    x : ndarray of shape (N, C, H, W)
        The images, uint8 or floating point. Any memory order.
    y : int64 ndarray of shape (N,)
        The class of each image: an index into `classes`.
    classes : tuple of str
        The names of the classes, all different.

    Raises
    ------
    TypeError
        If an argument has the wrong type or dtype.
    ValueError
        If a shape is wrong, the lengths of `x` and `y` differ, a label is no index into
        `classes`, or a class name occurs twice.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.data import Dataset
    >>> images = np.zeros((3, 1, 8, 8), np.uint8)
    >>> data = Dataset(images, np.array([0, 1, 0]), ("cat", "dog"))
    >>> data
    Dataset(3 images of shape (1, 8, 8), uint8, 2 classes)
    >>> data.subset(data.y == 0)
    Dataset(2 images of shape (1, 8, 8), uint8, 2 classes)
    """

    x: np.ndarray
    y: np.ndarray
    classes: tuple[str, ...]

    def __post_init__(self):
        for name in ("x", "y"):
            object.__setattr__(self, name, plain(name, getattr(self, name)))
        x, y, classes = self.x, self.y, self.classes
        if not isinstance(x, np.ndarray) or not (x.dtype == np.uint8 or x.dtype.kind == "f"):
            raise TypeError(
                f"x must be a uint8 or floating-point ndarray, got {_describe('x', x, 'float32')}"
            )
        if x.ndim != 4 or 0 in x.shape[1:]:
            raise ValueError(f"x must have shape (N, C, H, W), C, H, W >= 1, got {x.shape}")
        if not isinstance(y, np.ndarray) or y.dtype != np.int64:
            raise TypeError(f"y must be an int64 ndarray, got {_describe('y', y, 'int64')}")
        if y.shape != x.shape[:1]:
            raise ValueError(f"y must have shape {x.shape[:1]}, one label an image, got {y.shape}")
        if not isinstance(classes, tuple) or not all(isinstance(name, str) for name in classes):
            raise TypeError(f"classes must be a tuple of str, got {classes!r}")
        if len(set(classes)) != len(classes):
            raise ValueError(f"classes must all be different, got {classes!r}")
        if len(y) and (y.min() < 0 or y.max() >= len(classes)):
            raise ValueError(
                f"y must lie in [0, {len(classes)}), the indices into classes, "
                f"got {y.min()} to {y.max()}"
            )

    def __len__(self):
        return len(self.x)

    def __repr__(self):
        return (
            f"Dataset({len(self)} images of shape {self.x.shape[1:]}, "
            f"{self.x.dtype}, {len(self.classes)} classes)"
        )

    def subset(self, index):
        """The images at `index`, with the same classes.

        Parameters
        ----------
        index : slice or 1-D array_like of int or bool
            As in NumPy's indexing; a slice gives views of the same memory.

        Returns
        -------
        Dataset

        Raises
        ------
        TypeError
            If `index` is none of these.
        ValueError
            If an index is out of range, or a mask has another length than the dataset.
        """
        if not isinstance(index, slice):
            index = self._check_index(index)
        return Dataset(self.x[index], self.y[index], self.classes)

    def _check_index(self, index):
        array = as_array("index", index)
        if array.size == 0:
            array = array.astype(np.int64)  # np.asarray([]) has a floating-point dtype
        if array.ndim != 1 or array.dtype.kind not in "biu":
            raise TypeError(f"index must be a slice or 1-D, of int or bool, got {index!r}")
        if array.dtype == bool and len(array) != len(self):
            raise ValueError(f"index is a mask of length {len(array)}, it must be {len(self)}")
        if array.dtype != bool and np.any((array < -len(self)) | (array >= len(self))):
            raise ValueError(f"index must lie in [-{len(self)}, {len(self)}), got {index!r}")
        return array


def _describe(name, value, wanted):
    if not isinstance(value, np.ndarray):
        return repr(value)
    return f"an ndarray of {value.dtype}{conversion(name, value.dtype, wanted)}"


def check_holdout(holdout, seed):
    """The checked arguments of :func:`stratified_split`."""
    holdout = real("holdout", holdout)
    if not 0 < holdout < 1:
        raise ValueError(f"holdout must lie between 0 and 1, both excluded, got {holdout}")
    return holdout, integer("seed", seed, 0)


def stratified_split(dataset, holdout=0.2, seed=0):
    """Divide a dataset at random into a training and a test part, class by class.

    The test part takes `holdout` of each class, rounded up or down such that it has
    round(`holdout` * N) images in all; but every class keeps at least one training image.
    Both parts keep the order of `dataset`.

    Parameters
    ----------
    dataset : Dataset
    holdout : float, default 0.2
        The fraction of the images in the test part, between 0 and 1.
    seed : int, default 0
        Equal seeds give equal parts.

    Returns
    -------
    (train, test) : pair of Dataset

    Raises
    ------
    TypeError
        If an argument has the wrong type.
    ValueError
        If `holdout` or `seed` is out of range, or no image would be left in the test part.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.data import Dataset, stratified_split
    >>> images, labels = np.zeros((50, 1, 8, 8), np.uint8), np.repeat([0, 1], [40, 10])
    >>> train, test = stratified_split(Dataset(images, labels, ("a", "b")), holdout=0.2)
    >>> np.bincount(train.y).tolist(), np.bincount(test.y).tolist()
    ([32, 8], [8, 2])
    """
    if not isinstance(dataset, Dataset):
        raise TypeError(f"dataset must be a Dataset, got {dataset!r}")
    holdout, seed = check_holdout(holdout, seed)

    # Largest remainders: round every class's quota down, then give the images still missing
    # to the classes that lost most by it.
    sizes = np.bincount(dataset.y, minlength=len(dataset.classes))
    quotas = holdout * sizes
    taken = np.floor(quotas).astype(np.int64)
    missing = round(holdout * len(dataset)) - taken.sum()
    taken[np.argsort(taken - quotas, kind="stable")[:missing]] += 1
    taken = np.minimum(taken, np.maximum(sizes - 1, 0))
    if taken.sum() == 0:
        raise ValueError(
            f"holdout must leave at least one test image: {holdout} of {len(dataset)} images "
            f"in {np.count_nonzero(sizes)} classes leaves none"
        )

    rng = np.random.default_rng(seed)
    in_test = np.zeros(len(dataset), bool)
    for label, count in enumerate(taken):
        in_test[rng.permutation(np.flatnonzero(dataset.y == label))[:count]] = True
    return dataset.subset(~in_test), dataset.subset(in_test)
