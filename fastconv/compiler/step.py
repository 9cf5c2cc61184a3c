"""What is known of values ahead, and what an operator is for given ones."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

__all__ = ["Spec", "Step", "Value", "dense", "laid", "unread"]


class Value(NamedTuple):
    """What an operator gives or an input is, by number."""

    number: int


class Spec(NamedTuple):
    """What is known of a value before anything is computed."""

    shape: tuple
    dtype: np.dtype
    value: np.ndarray | None = None  # where it follows from constants and the shapes of inputs

    @property
    def size(self):
        return math.prod(self.shape)

    @property
    def nbytes(self):
        return self.size * self.dtype.itemsize


class Step(NamedTuple):
    """An operator for given inputs."""

    outputs: tuple  # a Spec of each
    bind: Callable  # (inputs, outputs, take) -> a call that sets outputs; take allocates scratch
    algorithm: str = ""
    flops: int = 0
    alias: bool = False  # whether the output is the first input's memory, and there is no call
    over: tuple = ()  # inputs in whose place the output may lie: each is read before it is written
    by_image: bool = False  # whether no output image depends on another's input
    seen_as: Callable | None = None  # of a view: what it makes of its first input's array

    @property
    def shape(self):
        """Of the first output."""
        return self.outputs[0].shape


def dense(shape):
    """(axes of the memory, its shape) of a plan's array: channels-last if it has spatial axes."""
    ndim = len(shape)
    if not 3 <= ndim <= 5:
        return tuple(range(ndim)), tuple(shape)
    return (0, ndim - 1, *range(1, ndim - 1)), (shape[0], *shape[2:], shape[1])


def laid(memory, spec):
    """The array of a value in a flat block of bytes, in the memory order that steps read."""
    back, order = dense(spec.shape)
    return memory[: spec.nbytes].view(spec.dtype).reshape(order).transpose(back)


def unread(shape, dtype):
    """An array for what asks only for shapes and dtypes: zeros, in the memory of one."""
    return np.broadcast_to(np.zeros((), dtype), shape)
