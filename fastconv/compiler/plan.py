"""``compile``: a model as a plan that a user calls, looks at, saves and loads."""

import math
import os
import threading
import weakref
from collections import OrderedDict, defaultdict
from typing import NamedTuple

import numpy as np

from fastconv import _checks
from fastconv._activation import NONE
from fastconv._correlate import Fixed
from fastconv.autograd import Tensor
from fastconv.compiler import files
from fastconv.compiler.fuse import PRODUCTS, fuse
from fastconv.compiler.graph import prune, recognise, trace
from fastconv.compiler.program import Program

__all__ = ["InferencePlan", "Profile", "compile", "describe", "load_plan"]

PROGRAMS = 8  # input shapes whose programs are kept
TOLERANCE = {"float16": 1e-1, "float32": 1e-3, "float64": 1e-9}


def compile(model, example):
    """A plan for inference: `model` traced once, fused, its memory laid out ahead.

    Batch norm and other factors and constants are folded into convolutions and dense layers; bias,
    activation and residual additions happen while a product's result is still in cache; weights
    are packed or transformed once; intermediate results share one block of memory by their
    lifetimes.

    Parameters
    ----------
    model : Module or callable
        Takes and returns Tensors. A module runs in evaluation mode, and is left as it was.
    example : ndarray or tuple of ndarray
        The inputs, of numbers or bool; floats of the dtype that the model's parameters have.

    Returns
    -------
    InferencePlan

    Raises
    ------
    TypeError
        If `example` is not an array of numbers or bool, or a tuple of them, or has another dtype
        than the model takes.
    ValueError
        If the model does something that a trace cannot follow: uses an intermediate result as
        a plain array, computes something else for other values, or has results whose shapes
        depend on values.

    Notes
    -----
    The plan keeps the weights as they are now: training the model further does not change it. Its
    inputs may have other sizes than the example, each of which is planned once; what the model's
    Python code decided for the example's shape (an ``if``, a loop, a ``reshape`` to fixed sizes)
    stays as it was. What a model of an ONNX file computes of shapes follows the inputs.

    Results differ from the model's by rounding, for folded weights and sums in another order.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> from fastconv import nn
    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2))
    >>> plan = fastconv.compile(net, np.zeros((1, 3, 32, 32), np.float32))
    >>> plan(np.zeros((1, 3, 32, 32), np.float32)).shape
    (1, 8, 15, 15)
    >>> plan(np.zeros((4, 3, 40, 24), np.float32)).shape
    (4, 8, 19, 11)
    """
    if not callable(model):
        raise TypeError(f"model must be a Module or a callable, got {type(model).__name__}")
    examples = _arrays("example", example)
    graph, _ = trace(model, examples)
    graph = fuse(recognise(prune(graph)))
    plan = InferencePlan(graph, [x.shape for x in examples])
    _check_specs(graph, plan._program(plan.input_shapes).specs)
    _compare(model, plan, examples)
    return plan


def _check_specs(graph, specs):
    """Raise unless every value's shape and dtype, found without its inputs, is the trace's."""
    for node in graph.nodes:
        for value in node.made():
            found, traced = specs[value], graph.spec(value)
            if found[:2] != traced[:2]:
                raise ValueError(
                    f"{describe(node)} gives {traced.dtype} of shape {traced.shape} for the "
                    f"example and {found.dtype} of shape {found.shape} for other values: a plan "
                    "cannot follow shapes that depend on values"
                )


def _compare(model, plan, examples):
    """Raise unless the plan computes what the model does, for other values than the example's.

    Results that are whole numbers or bool are compared where inputs are: rounding decides others.
    """
    others = [_other(x) for x in examples]
    exact = all(x.dtype.kind != "f" for x in examples)
    _, expected = trace(model, others, copied=False)
    found = plan(*others)
    found = found if isinstance(found, tuple) else (found,)
    for result, truth in zip(found, expected, strict=True):
        if result.shape == truth.shape and truth.dtype.kind != "f" and not exact:
            continue
        close = result.shape == truth.shape
        if close:
            scale = np.abs(truth[np.isfinite(truth)]).max(initial=0)
            atol = TOLERANCE.get(truth.dtype.name, 0) * scale
            close = np.isclose(result, truth, rtol=0, atol=atol, equal_nan=True).all()
        if not close:
            raise ValueError(
                "the model computes something else for other values than the example's: a plan "
                "repeats what was traced, and cannot follow decisions or random numbers"
            )


def _other(x):
    """Other values that a model may be given as it is given `x`."""
    x = np.flip(x, -1) if x.ndim else x
    return np.array(x * np.asarray(-0.75, x.dtype) if x.dtype.kind == "f" else x, order="C")


class InferencePlan:
    """A model compiled by :func:`compile`: call it with the inputs.

    Any number of threads may call a plan at once.

    Attributes
    ----------
    input_shapes : list of tuple of int
        Of the example.
    input_dtypes : list of numpy.dtype
    """

    def __init__(self, graph, input_shapes):
        self.graph = graph
        self.input_dtypes = [graph.dtypes[value] for value in graph.inputs]
        self.input_shapes = [tuple(shape) for shape in input_shapes]
        self._kept = defaultdict(Fixed)
        self._lock = threading.Lock()
        _plans.add(self)
        self._programs = OrderedDict()
        self._program(self.input_shapes)

    def __call__(self, *inputs, out=None):
        """The model's outputs.

        Parameters
        ----------
        *inputs : ndarray
            Of the example's dtypes and, but for their sizes, its shapes; any memory layout.
        out : ndarray or tuple of ndarray, optional
            Where to put the outputs. Nothing is then allocated.

        Returns
        -------
        ndarray, or tuple of ndarray if the model returns one

        Raises
        ------
        TypeError, ValueError
            If inputs or `out` do not fit; nothing is then written.
        """
        arrays = self._checked(inputs)
        program = self._program([x.shape for x in arrays])
        if out is not None:
            out = self._targets(out, program)
        results = program.run(arrays, out)
        return tuple(results) if self.graph.several else results[0]

    def _checked(self, inputs):
        """The inputs as native ndarrays, if the graph takes such."""
        arrays = [x.data if isinstance(x, Tensor) else x for x in inputs]
        if len(arrays) != len(self.graph.inputs):
            raise TypeError(f"the plan takes {len(self.graph.inputs)} inputs, got {len(arrays)}")
        examples = zip(arrays, self.input_shapes, self.input_dtypes, strict=True)
        for number, (x, shape, dtype) in enumerate(examples):
            name = f"inputs[{number}]"
            if not isinstance(x, np.ndarray):
                raise TypeError(f"{name} must be an ndarray, got {type(x).__name__}")
            x = arrays[number] = _checks.native(_checks.plain(name, x))
            if x.dtype != dtype:
                hint = _checks.conversion(name, x.dtype, dtype)
                raise TypeError(f"{name} must have dtype {dtype}, got {x.dtype}{hint}")
            if x.ndim != len(shape):
                raise ValueError(
                    f"{name} must have {len(shape)} axes, as the example of shape "
                    f"{shape}, got shape {x.shape}"
                )
        return arrays

    def _targets(self, out, program):
        targets = out if isinstance(out, tuple) else (out,)
        specs = [program.specs[value] for value in self.graph.outputs]
        if len(targets) != len(specs):
            raise TypeError(f"out must hold {len(specs)} arrays, got {len(targets)}")
        for target, spec in zip(targets, specs, strict=True):
            _checks.plain("out", target)
            if not isinstance(target, np.ndarray) or target.dtype != spec.dtype:
                kind = getattr(target, "dtype", type(target).__name__)
                raise TypeError(f"out must be an ndarray of {spec.dtype}, got {kind}")
            _checks.shape_is("out", target, spec.shape, "that of the output")
            if not target.flags.writeable:
                raise ValueError("out must be writeable, got a read-only array")
        return targets

    def _program(self, shapes):
        """The program for these shapes: one that was used lately, or a new one."""
        key = tuple(shapes)
        with self._lock:
            program = self._programs.get(key)
            if program is None:
                program = Program(self.graph, shapes, self._kept)
                self._programs[key] = program
                if len(self._programs) > PROGRAMS:
                    self._programs.popitem(last=False)
            else:
                self._programs.move_to_end(key)
        return program

    def profile(self, *inputs, repeat=10):
        """Time every step.

        Parameters
        ----------
        *inputs : ndarray
            By default zeros of the example's shapes.
        repeat : int, default 10
            How often; the median counts.

        Returns
        -------
        Profile
            A table, when printed; its ``plot(path)`` draws it.
        """
        repeat = _checks.integer("repeat", repeat, minimum=1)
        if not inputs:
            inputs = list(map(np.zeros, self.input_shapes, self.input_dtypes))
        arrays = self._checked(inputs)
        program = self._program([x.shape for x in arrays])
        return Profile(program, program.times(arrays, repeat))

    def plot(self, path, *inputs):
        """Draw the profile: when each step runs, and where in memory its values lie.

        Parameters
        ----------
        path : str or os.PathLike
            ``.png``, ``.svg`` or ``.pdf``.
        *inputs : ndarray
            As for :meth:`profile`.

        Raises
        ------
        ImportError
            Where Matplotlib is not installed.
        """
        self.profile(*inputs).plot(path)

    def __repr__(self):
        return str(Profile(self._program(self.input_shapes), None))

    def save(self, path):
        """Write the plan, with its weights, to an ``.npz`` or ``.safetensors`` file.

        Raises
        ------
        ValueError
            If it has an operator whose arguments a file cannot hold.
        """
        files.save(self.graph, self.input_shapes, path)


_plans = weakref.WeakSet()


def _after_fork_in_child():
    for plan in _plans:
        plan._lock = threading.Lock()  # another thread of the parent may have held it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def load_plan(path):
    """Read a plan that :meth:`InferencePlan.save` wrote.

    Parameters
    ----------
    path : str or os.PathLike

    Returns
    -------
    InferencePlan

    Raises
    ------
    ValueError
        If the file holds no plan, or one that does not fit together.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np, fastconv
    >>> plan = fastconv.compile(fastconv.nn.Linear(3, 2), np.zeros((1, 3), np.float32))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "plan.npz")
    ...     plan.save(path)
    ...     same = fastconv.load_plan(path)
    >>> x = np.ones((1, 3), np.float32)
    >>> bool((same(x) == plan(x)).all())
    True
    """
    graph, shapes = files.load(path)
    try:
        return InferencePlan(graph, shapes)
    except files.DAMAGE as error:
        raise ValueError(f"{path}: the plan does not fit together: {error}") from None


class Row(NamedTuple):
    """A step of a profile."""

    operator: str
    algorithm: str
    shape: tuple  # of its output
    repeat: int  # as often, for some images of the batch at a time
    flops: int  # of the definition, for all images
    seconds: float | None


class Profile:
    """What a plan's steps are and, if it was measured, how long each takes.

    Attributes
    ----------
    rows : list of Row
    seconds : float or None
        Of all.
    """

    def __init__(self, program, seconds):
        self.program = program
        steps = sum(len(stage.steps) for stage in program.stages)
        seconds = [None] * steps if seconds is None else seconds
        self.rows = []
        for stage in program.stages:
            for node, step in zip(stage.graph.nodes, stage.steps, strict=True):
                spent = seconds[len(self.rows)]
                flops = step.flops * stage.repeat
                row = Row(describe(node), step.algorithm, step.shape, stage.repeat, flops, spent)
                self.rows.append(row)
        self.seconds = None if None in seconds else sum(seconds)

    def __str__(self):
        timed = self.seconds is not None
        titles = ["operator", "algorithm", "output", "MFLOP"]
        titles += ["ms", "share", "GFLOP/s"] if timed else []
        rows = [titles]
        for row in self.rows:
            shape = " x ".join(map(str, row.shape))
            shape = shape if row.repeat == 1 else f"{row.repeat} times {shape}"
            cells = [row.operator, row.algorithm, shape]
            cells.append(f"{row.flops / 1e6:.2f}")
            if timed:
                rate = row.flops / row.seconds / 1e9 if row.seconds else 0
                share = 100 * row.seconds / self.seconds if self.seconds else 0
                cells += [f"{row.seconds * 1e3:.3f}", f"{share:.1f} %", f"{rate:.1f}"]
            rows.append(cells)
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(
                cell.ljust(width) if number < 3 else cell.rjust(width)
                for number, (cell, width) in enumerate(zip(cells, widths, strict=True))
            ).rstrip()
            for cells in rows
        ]
        flops = sum(row.flops for row in self.rows)
        total = f"{len(self.rows)} steps, {flops / 1e6:.2f} MFLOP, "
        total += f"{self.program.size / 1e6:.2f} MB for values"
        if timed and self.seconds:
            total += f", {self.seconds * 1e3:.3f} ms, {flops / self.seconds / 1e9:.1f} GFLOP/s"
        return "\n".join([*lines, total])

    __repr__ = __str__

    def plot(self, path):
        """Draw when each step runs, and where in memory its values lie, to an image file."""
        from fastconv.compiler.picture import draw

        draw(self, path)


def describe(node):
    """The operator, and what it does besides."""
    name = node.options.get("function", node.operator)
    if node.operator in ("call", "view"):
        name = node.options["rule"] or getattr(name, "__name__", "an operator")
        name = name.rpartition(".")[2].strip("_")
    if node.operator == "views":
        rules = (rule for rule, *_ in node.options["views"])
        name = " + ".join(rule.rpartition(".")[2].strip("_") for rule in rules)
    activation = node.options.get("activation")
    if node.operator in (*PRODUCTS, "norm") and node.inputs[-1] is not None:
        name += " + residual"
    if activation is not None and node.operator != "rectify" and activation != NONE:
        name += f" + {_rectifier(activation)}"
    if node.options.get("floor") == 0:
        name = "relu + " + name
    return name


def _rectifier(activation):
    slope, top = activation
    if slope == 0 and top == 6:
        return "relu6"
    name = {0: "relu", 1: "top"}.get(slope, "leaky relu")
    return name if top == math.inf else f"{name} {top:g}"


def _arrays(name, example):
    examples = example if isinstance(example, tuple) else (example,)
    examples = [x.data if isinstance(x, Tensor) else x for x in examples]
    if not examples:
        raise TypeError(f"{name} must hold at least one array, got an empty tuple")
    for x in examples:
        if not isinstance(x, np.ndarray) or x.dtype.kind not in "biuf":
            kind = getattr(x, "dtype", type(x).__name__)
            raise TypeError(f"{name} must be ndarrays of numbers or bool, got {kind}")
    return [_checks.native(_checks.plain(name, x)) for x in examples]
