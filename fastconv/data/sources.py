"""Reading labelled images: scikit-learn's digits, IDX files, ``.npz`` archives, image folders.

Every kind of source is opened by one function, which finds the source's parts ("train" and
"test") and reads their labels; the images of a part are read when they are asked for.
"""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fastconv._checks import one_of
from fastconv.data._files import existing_path
from fastconv.data.dataset import Dataset, check_holdout, stratified_split
from fastconv.data.idx import read_idx
from fastconv.data.images import IMAGE_SUFFIXES, check_image_size, common_format, read_images
from fastconv.data.npz import npz_keys, read_npz_array

_SPLITS = ("train", "test")
_IDX_PREFIXES = {"train": "train", "test": "t10k"}
_IDX_IMAGE_NAME = re.compile(r"(?P<prefix>.+)-images[-.]idx3-ubyte(\.gz)?")
_CHANNELS = (1, 3, 4)


class _Part(NamedTuple):
    labels: np.ndarray  # as they are in the source
    labels_name: str  # where they come from, for messages
    images_name: str
    read_images: Callable[[], np.ndarray]  # -> (N, C, H, W)


def load(source, *, split="train", size=None):
    """Read labelled images.

    Labels may be numbers or strings: the classes are the sorted different labels of the
    training part, by their ``str()``, and ``y`` holds their indices.

    Parameters
    ----------
    source : str or path-like
        - ``"digits"``: scikit-learn's 1,797 handwritten digits, 8 x 8, scaled to 0..255.
        - A folder of IDX files named as MNIST's: ``train-images-idx3-ubyte``,
          ``train-labels-idx1-ubyte``, and for the test part ``t10k-`` instead of ``train-``;
          each may end in ``.gz`` and may have a dot before ``idx``.
        - One IDX file of images with such a name, its labels beside it.
        - An ``.npz`` file with arrays ``x_train, y_train`` and optionally ``x_test, y_test``;
          or ``X, y``; or ``x, y``. See the notes for the images' shape.
        - A folder of image files by class, ``source/<class>/*.png`` (or jpg, jpeg, bmp, gif,
          tif, tiff, webp), or with parts, ``source/train/<class>/`` and
          ``source/test/<class>/``. Greyscale if all of the files are, else RGB.
    split : {"train", "test"}, default "train"
        The part to read. A source without parts has "train" only.
    size : int or (int, int), optional
        For image folders: resize to this height and width, as :func:`read_image` does.
        Without it, all images must have one size.

    Returns
    -------
    Dataset
        The images as they are in the source, not scaled.

    Raises
    ------
    FileNotFoundError
        If `source`, or a file that must stand beside it, does not exist.
    TypeError
        If an argument has the wrong type.
    ValueError
        If `split` or `size` does not fit the source, or a file is empty, truncated, damaged,
        not of the format described above, or does not match another.
    ImportError
        If scikit-learn (for "digits") or Pillow (for image folders) is not installed.

    Notes
    -----
    Images in an ``.npz`` are uint8 or floating point, of shape (N, H, W), (N, H, W, C) or
    (N, C, H, W) with C one of 1, 3 and 4. Of the last and the second axis, the channels are
    the one that has 1, 3 or 4 entries; the shorter, if both do; if both have the same number,
    the file is refused.

    Examples
    --------
    >>> from fastconv.data import load
    >>> load("digits")
    Dataset(1797 images of shape (1, 8, 8), uint8, 10 classes)
    """
    one_of("split", split, _SPLITS)
    parts = _open(source, size)
    if split not in parts:
        raise ValueError(f"split {split!r} is not in {str(source)!r}, which has {list(parts)}")
    return _dataset(parts, split)


def load_train_test(source, holdout=0.2, seed=0, *, size=None):
    """Read a source's training and test parts; divide it at random if it has no test part.

    Parameters
    ----------
    source, size
        As for :func:`load`.
    holdout, seed
        As for :func:`stratified_split`; of no effect if the source has a test part.

    Returns
    -------
    (train, test) : pair of Dataset
        With the same classes.

    Raises
    ------
    FileNotFoundError, TypeError, ValueError, ImportError
        As :func:`load` and :func:`stratified_split`, and if the images of the two parts
        differ in shape.

    Examples
    --------
    >>> from fastconv.data import load_train_test
    >>> train, test = load_train_test("digits")
    >>> len(train), len(test)
    (1438, 359)
    """
    holdout, seed = check_holdout(holdout, seed)
    parts = _open(source, size)
    if "train" not in parts:
        raise ValueError(f"source {str(source)!r} has no training part, only {list(parts)}")
    train = _dataset(parts, "train")
    if "test" not in parts:
        return stratified_split(train, holdout, seed)
    test = _dataset(parts, "test")
    if train.x.shape[1:] != test.x.shape[1:]:
        raise ValueError(
            f"{parts['train'].images_name} holds images of shape {train.x.shape[1:]} but "
            f"{parts['test'].images_name} of shape {test.x.shape[1:]}"
        )
    return train, test


def load_images(source, size):
    """Read the images to classify: a source's test part, or its only one, without labels.

    Parameters
    ----------
    source : str or path-like
        As for :func:`load`.
    size : (int, int)
        The images of a folder are resized to this height and width; other sources' stay.

    Returns
    -------
    ndarray of shape (N, C, H, W)

    Raises
    ------
    FileNotFoundError, TypeError, ValueError, ImportError
        As :func:`load`.

    Examples
    --------
    >>> from fastconv.data import load_images
    >>> load_images("digits", (8, 8)).shape
    (1797, 1, 8, 8)
    """
    parts = _open(source, size if _is_image_folder(source) else None)
    return parts.get("test", parts.get("train")).read_images()


def _dataset(parts, split):
    part = parts[split]
    named_by = parts.get("train", part)
    index_of = {name: index for index, name in enumerate(_classes(named_by))}
    different, positions = np.unique(part.labels, return_inverse=True)
    unknown = [str(label) for label in different if str(label) not in index_of]
    if unknown:
        raise ValueError(
            f"{part.labels_name} has labels that {named_by.labels_name} has not: {unknown}"
        )
    y = np.array([index_of[str(label)] for label in different], np.int64)[positions]
    x = part.read_images()
    if len(x) != len(y):
        raise ValueError(
            f"{part.images_name} holds {len(x)} images but {part.labels_name} {len(y)} labels"
        )
    return Dataset(x, y, tuple(index_of))


def _classes(part):
    return [str(label) for label in np.unique(part.labels)]


def _open(source, size):
    """The parts of a source, {"train": _Part, "test": _Part} or one of them."""
    size = check_image_size(size)
    digits = isinstance(source, str) and source == "digits"
    path = None if digits else existing_path("source", source)
    if _is_image_folder(source):
        return _open_image_folder(path, size)
    if size is not None:
        raise ValueError(f"size is for folders of images, which {str(source)!r} is not: {size}")
    if digits:
        return _open_digits()
    if path.is_dir():
        return _open_idx_folder(path)
    if path.suffix.lower() == ".npz":
        return _open_npz(path)
    return _open_idx_file(path)


def _is_image_folder(source):
    path = Path(source)
    return path.is_dir() and source != "digits" and not _has_idx_files(path)


# ---------------------------------------------------------------------------------- digits


def _open_digits():
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            'the source "digits" needs scikit-learn: pip install "fastconv[train]"'
        ) from error
    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[:, np.newaxis]
    return {"train": _Part(digits.target, "digits", "digits", lambda: images)}


# ------------------------------------------------------------------------------- IDX files


def _has_idx_files(folder):
    return any(
        _find_idx(folder, f"{prefix}-images", 3) or _find_idx(folder, f"{prefix}-labels", 1)
        for prefix in _IDX_PREFIXES.values()
    )


def _find_idx(folder, stem, rank):
    """The first that exists of the names an IDX file may have, or None."""
    for separator in "-.":
        for suffix in ("", ".gz"):
            path = folder / f"{stem}{separator}idx{rank}-ubyte{suffix}"
            if path.is_file():
                return path
    return None


def _open_idx_folder(folder):
    parts = {}
    for split, prefix in _IDX_PREFIXES.items():
        images = _find_idx(folder, f"{prefix}-images", 3)
        if images is not None:
            parts[split] = _idx_part(images, prefix)
        elif _find_idx(folder, f"{prefix}-labels", 1) is not None:
            raise FileNotFoundError(
                f"{folder / f'{prefix}-images-idx3-ubyte'}[.gz] does not exist, "
                f"but the labels that belong to it do"
            )
    return parts


def _open_idx_file(path):
    name = _IDX_IMAGE_NAME.fullmatch(path.name)
    if name is None:
        raise ValueError(
            'source must be "digits", a folder, an .npz file, or an IDX file of images named '
            f"<part>-images-idx3-ubyte[.gz], got {str(path)!r}"
        )
    return {"train": _idx_part(path, name["prefix"])}


def _idx_part(images, prefix):
    labels = _find_idx(images.parent, f"{prefix}-labels", 1)
    if labels is None:
        raise FileNotFoundError(
            f"{images.parent / f'{prefix}-labels-idx1-ubyte'}[.gz] does not exist, "
            f"it must hold the labels of {images.name}"
        )
    return _Part(
        _checked_labels(read_idx(labels), labels),
        str(labels),
        str(images),
        lambda: _as_nchw(read_idx(images), images),
    )


# ----------------------------------------------------------------------------------- .npz


def _open_npz(path):
    keys = npz_keys(path)
    if "x_train" in keys or "y_train" in keys:
        names = {"train": ("x_train", "y_train")}
        if "x_test" in keys or "y_test" in keys:
            names["test"] = ("x_test", "y_test")
    else:
        names = {"train": ("X" if "X" in keys else "x", "y")}
    missing = [key for pair in names.values() for key in pair if key not in keys]
    if missing:
        raise ValueError(
            f"{path} must have arrays x_train, y_train and optionally x_test, y_test; or X, y; "
            f"or x, y: it lacks {missing}, it has {keys}"
        )
    return {split: _npz_part(path, *pair) for split, pair in names.items()}


def _npz_part(path, images_key, labels_key):
    images_name, labels_name = f"{path}: {images_key}", f"{path}: {labels_key}"
    return _Part(
        _checked_labels(read_npz_array(path, labels_key), labels_name),
        labels_name,
        images_name,
        lambda: _as_nchw(read_npz_array(path, images_key), images_name),
    )


# ------------------------------------------------------------------ rules of IDX and .npz


def _checked_labels(labels, name):
    """The labels as a 1-D array; a column, as CIFAR's are often stored, is flattened."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or len(labels) == 0:
        raise ValueError(f"{name} must hold labels of shape (N,), N >= 1, got {labels.shape}")
    if labels.dtype.kind not in "biufU":
        raise ValueError(f"{name} must hold labels that are numbers or str, got {labels.dtype}")
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        raise ValueError(f"{name} must hold finite labels, got NaN or infinity")
    return labels


def _as_nchw(images, name):
    """The images as (N, C, H, W), by the rule in the notes of :func:`load`."""
    if not (images.dtype == np.uint8 or images.dtype.kind == "f"):
        raise ValueError(f"{name} must hold uint8 or floating-point images, got {images.dtype}")
    if images.ndim not in (3, 4) or images.size == 0:
        raise ValueError(
            f"{name} must hold images of shape (N, H, W), (N, H, W, C) or (N, C, H, W), "
            f"no length 0, got {images.shape}"
        )
    if images.ndim == 3:
        return images[:, np.newaxis]
    first, last = images.shape[1], images.shape[3]
    if first == last or not {first, last} & set(_CHANNELS):
        raise ValueError(
            f"{name} must hold images with 1, 3 or 4 channels in the second or the last axis, "
            f"and not both axes alike, got shape {images.shape}"
        )
    if first not in _CHANNELS or (last in _CHANNELS and last < first):
        return np.moveaxis(images, -1, 1)
    return images


# ---------------------------------------------------------------------------- image folders


def _open_image_folder(root, size):
    if _subfolders(root / "train"):
        folders = {split: root / split for split in _SPLITS if (root / split).is_dir()}
    else:
        folders = {"train": root}
    images = {split: _labelled_files(folder) for split, folder in folders.items()}
    channels, size = common_format([file for pairs in images.values() for _, file in pairs], size)
    parts = {}
    for split, pairs in images.items():
        labels, files = zip(*pairs, strict=True)
        name = str(folders[split])
        read = partial(read_images, files, channels, size)
        parts[split] = _Part(np.array(labels), name, name, read)
    return parts


def _subfolders(folder):
    """The folders in a folder, by name, without hidden ones; [] if it does not exist."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")


def _labelled_files(folder):
    """(class, image file) of every image in a folder of class folders, by class and name."""
    pairs = []
    for subfolder in _subfolders(folder):
        files = sorted(
            path
            for path in subfolder.iterdir()
            if path.suffix.lower() in IMAGE_SUFFIXES and path.name[0] != "." and path.is_file()
        )
        if not files:
            raise ValueError(f"{subfolder} must hold at least one image file")
        pairs += [(subfolder.name, file) for file in files]
    if not pairs:
        raise ValueError(f"{folder} must hold IDX files, or a folder of images for each class")
    return pairs
