"""The table of operators: a function for each form that an operator had, by opset.

A function's signature is the form: positional parameters are inputs (those with a default are
optional), keyword-only ones are attributes, with type and default. Two names are no attributes:
`training`, whether the module is, and `outputs`, how many the node names.
"""

import importlib
import inspect
import pkgutil
from bisect import bisect_right
from collections import defaultdict
from types import UnionType
from typing import NamedTuple

import numpy as np

from fastconv.onnx.errors import OnnxError
from fastconv.onnx.tensors import to_array

__all__ = ["OPSET_MIN", "Operator", "Subgraph", "find", "operator", "read_attributes"]

OPSET_MIN = 1  # forms from 6 on, and what was so before


class Subgraph:
    """The type of attributes that are graphs."""


class Operator(NamedTuple):
    """A form of an operator."""

    function: object
    fewest: int  # inputs
    most: int
    attributes: dict  # name: (type, default)
    context: tuple  # which of `training` and `outputs` it asks for
    widen: bool  # computes float16 as float32


_CONTEXT = ("training", "outputs")
_forms = defaultdict(list)  # name: [(since, Operator)], by opset


def operator(*names, since=1, widen=False):
    """Decorator: the function is the operator of these names from opset `since` on."""

    def register(function):
        parameters = inspect.signature(function).parameters.values()
        inputs = [p for p in parameters if p.kind != p.KEYWORD_ONLY]
        options = [p for p in parameters if p.kind == p.KEYWORD_ONLY]
        variadic = any(p.kind == p.VAR_POSITIONAL for p in inputs)
        required = [p for p in inputs if p.default is p.empty and p.kind != p.VAR_POSITIONAL]
        form = Operator(
            function,
            len(required),
            1 << 16 if variadic else len(inputs),
            {p.name: (_kind(p.annotation), p.default) for p in options if p.name not in _CONTEXT},
            tuple(p.name for p in options if p.name in _CONTEXT),
            widen,
        )
        for name in names:
            _forms[name].append((since, form))
            _forms[name].sort(key=lambda pair: pair[0])
        return function

    return register


def _kind(annotation):
    """The type of an attribute, which may be None where it is left out."""
    return annotation.__args__[0] if isinstance(annotation, UnionType) else annotation


def _load_table():
    from fastconv.onnx import operators

    for module in pkgutil.iter_modules(operators.__path__):
        importlib.import_module(f"{operators.__name__}.{module.name}")


def find(name, opset, where):
    """The form of an operator of ONNX's own domain in `opset`."""
    if not _forms:
        _load_table()
    forms = _forms.get(name)
    if not forms:
        raise OnnxError(f"{where}: operator {name} is not supported")
    place = bisect_right(forms, opset, key=lambda pair: pair[0])
    if not place:
        raise OnnxError(
            f"{where}: operator {name} is supported from opset {forms[0][0]} on, the model has "
            f"{opset}"
        )
    return forms[place - 1][1]


# By the number of an attribute's type: the field, and what a parameter says of it.
_FIELDS = {
    1: ("f", float),
    2: ("i", int),
    3: ("s", str),
    4: ("t", np.ndarray),
    5: ("g", Subgraph),
    6: ("floats", tuple),
    7: ("ints", tuple),
    8: ("strings", tuple),
}


def read_attributes(form, attributes, where, folder):
    """{name: value} of a node's attributes, each of which its operator must know."""
    values = {}
    for attribute in attributes:
        name = attribute.name
        if name not in form.attributes:
            raise OnnxError(f"{where}: attribute {name!r} is not supported")
        expected = form.attributes[name][0]
        field, kind = _FIELDS.get(attribute.type, ("", None))
        if kind is not expected:
            raise OnnxError(f"{where}: attribute {name!r} must be of type {expected.__name__}")
        values[name] = _value(getattr(attribute, field), kind, f"{where}: {name}", folder)
    for name, (_, default) in form.attributes.items():
        if default is inspect.Parameter.empty and name not in values:
            raise OnnxError(f"{where}: attribute {name!r} is missing")
    return values


def _value(value, kind, where, folder):
    if kind is str:
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise OnnxError(f"{where} is not text") from None
    if kind is np.ndarray:
        return to_array(value, where, folder)
    return tuple(value) if kind is tuple else value
