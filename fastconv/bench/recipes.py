"""The data sets of ``fastconv bench accuracy``: how each is read, and how a network learns it."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fastconv.bench.layers import RESNET
from fastconv.bench.networks import Network, basic_block, resnet, signal_stem, small_stem
from fastconv.data import load_train_test
from fastconv.data.npz import npz_keys, read_npz_array

__all__ = ["RECIPES", "Recipe"]

CLIP = 6400  # samples at 8 kHz: 98 of 100 spoken digits are shorter


@dataclass(frozen=True)
class Recipe:
    """A data set, a network and how it is trained.

    `path` is the data's in a folder of such sets, and `read` makes of it the inputs (N, C,
    *spatial) and classes of the training part, and those of the test part. `lr` is the highest
    of a cycle, and inputs are moved by up to `shift` places along each axis.
    """

    network: Network
    path: str
    read: Callable
    epochs: int
    batch: int
    lr: float
    shift: int

    @property
    def name(self):
        return self.network.name


def read_images(path):
    """A source of `fastconv.data`; without a test part, a fifth of each class is one."""
    return [(part.x, part.y) for part in load_train_test(path)]


def read_speech(path):
    """Clips of one length, each of mean 0 and deviation 1; recordings below 5 are the test's."""
    names = "audio", "length", "label", "index"
    if missing := set(names) - set(npz_keys(path)):
        raise ValueError(f"{path} must have the arrays {names}, it has no {sorted(missing)}")
    audio, length, label, index = (read_npz_array(path, name) for name in names)
    if not (length.shape == label.shape == index.shape and (length > 0).all()):
        raise ValueError(
            f"{path}: length, label and index must have an entry for each clip, of one sample at "
            f"least, got shapes {length.shape}, {label.shape} and {index.shape}"
        )
    if length.sum() != len(audio):
        raise ValueError(
            f"{path}: length must add up to the {len(audio)} samples of audio, got {length.sum()}"
        )
    x = np.zeros((len(length), 1, CLIP), np.float32)
    for row, clip in zip(x[:, 0], np.split(audio, np.cumsum(length)[:-1]), strict=True):
        clip = clip[max(len(clip) - CLIP, 0) // 2 :][:CLIP].astype(np.float32)
        start = (CLIP - len(clip)) // 2
        row[start : start + len(clip)] = (clip - clip.mean()) / max(clip.std(), 1)
    y = label.astype(np.int64)
    return [(x[part], y[part]) for part in (index >= 5, index < 5)]


def residual_network(name, shape, stem, widths):
    """One basic block of each width."""
    build = functools.partial(
        resnet, stem, basic_block, [(width, 1) for width in widths], 10, axes=len(shape) - 1
    )
    return Network(name, RESNET, build, shape)


RECIPES = [
    Recipe(
        residual_network(
            "MNIST", (1, 28, 28), functools.partial(small_stem, inputs=1, stride=2), (32, 64, 128)
        ),
        "mnist",
        read_images,
        epochs=3,
        batch=128,
        lr=0.2,
        shift=2,
    ),
    Recipe(
        residual_network(
            "sign digits", (3, 48, 48), functools.partial(small_stem, stride=2), (16, 32, 64)
        ),
        "sign_digits/sign_digits_48.npz",
        read_images,
        epochs=15,
        batch=64,
        lr=0.1,
        shift=4,
    ),
    Recipe(
        residual_network("spoken digits", (1, CLIP), signal_stem, (32, 64, 128)),
        "fsdd/fsdd.npz",
        read_speech,
        epochs=10,
        batch=64,
        lr=0.1,
        shift=800,
    ),
]
