"""What emitters write to: calls of C functions, and the weights and tables that these read."""

import math

import numpy as np

from fastconv._activation import NONE
from fastconv.compiler.step import Spec, Value, dense

__all__ = ["Emission", "Unsupported", "axes_of", "memory", "number"]

LINE = 64  # bytes: what a vector, and a panel of weights, is at most


class Unsupported(Exception):
    """An operator, or a form of it, that has no C."""


def number(value):
    """A float as C has it."""
    value = float(value)
    if math.isinf(value):
        return "INFINITY" if value > 0 else "-INFINITY"
    return "NAN" if math.isnan(value) else repr(value)


def axes_of(shape):
    """The axes of a value in the order in which plans, and the C, have them in memory."""
    return np.argsort(dense(shape)[0]).tolist()


def memory(array):
    """An array's values in the order in which they are in memory."""
    return np.ascontiguousarray(array.transpose(axes_of(array.shape))).reshape(-1)


class Emission:
    """The C of a stage, for one image.

    Attributes
    ----------
    calls : list of str
        Statements, in order.
    arrays : list of ndarray
        Weights, one after the other.
    definitions : list of str
        Tables and functions that are made for this network.
    parts : dict
        Of the runtime, in the order of use, as keys.
    scratch : int
        Values that a thread works in.
    unpacked : list of str
        What a CBLAS needs besides: statements that make it of the weights.
    plain : int
        How many values these make.
    transforms : list of str
        Statements that make of the weights what Winograd's algorithm needs besides.
    transformed : int
        How many values these make.
    images : int
        Of a usual call.
    """

    def __init__(self, stage, dtype, images):
        self.stage, self.dtype, self.images = stage, np.dtype(dtype), images
        self.panel = LINE // self.dtype.itemsize
        self.calls, self.arrays, self.definitions = [], [], []
        self.unpacked, self.transforms = [], []
        self.parts, self.names, self.known = {}, {}, {}
        self.size = self.scratch = self.plain = self.transformed = 0

    def spec(self, x):
        """Of a Value or a constant."""
        if isinstance(x, Value):
            return self.stage.specs[x]
        array = np.asarray(x, None if hasattr(x, "dtype") else self.dtype)
        return Spec(array.shape, array.dtype, array)

    def at(self, x):
        """Where the values of a Value or a constant begin, as C; "NULL" for None."""
        if x is None:
            return "NULL"
        spec = self.spec(x)
        if spec.value is not None:
            return self.weights(memory(np.asarray(spec.value)))
        offset = self.stage.places[self.stage.homes[x]].offset // self.dtype.itemsize
        return f"m + n * {offset}"

    def weights(self, array):
        """Where these weights begin, as C."""
        array = np.ascontiguousarray(array, self.dtype).reshape(-1)
        content = array.tobytes()
        if content in self.known:
            return self.known[content]
        filled = np.zeros(-(-array.size // self.panel) * self.panel, self.dtype)
        filled[: array.size] = array
        self.arrays.append(filled)
        self.size += filled.size
        self.known[content] = f"w + {self.size - filled.size}"
        return self.known[content]

    def table(self, values, kind="int64_t"):
        """The name of a static array of integers, or of doubles."""
        form = number if kind == "double" else str
        content = ", ".join(map(form, np.asarray(values).reshape(-1).tolist()))
        return self.define(f"static const {kind} @[] = {{{content}}};", "table")

    def define(self, text, name):
        """The name, from `name` on, that takes the place of @ in a definition, made once."""
        if text not in self.names:
            number = sum(known.rpartition("_")[0] == name for known in self.names.values())
            self.names[text] = f"{name}_{number + 1}"
            self.definitions.append(text.replace("@", self.names[text]))
        return self.names[text]

    def need(self, *parts):
        """Files of the runtime that the network needs, those first that others need."""
        self.parts.update(dict.fromkeys(parts))

    def call(self, function, *arguments):
        """A statement that calls a C function."""
        self.calls.append(f"{function}({', '.join(map(str, arguments))}, threads);")

    def activation(self, options):
        """(slope, top) of an operator's options."""
        act = options.get("activation", NONE)
        return self.real(act.slope), self.real(act.top)

    def real(self, value):
        """A number of the network's own type, as C has it."""
        return f"(real){number(value)}"
