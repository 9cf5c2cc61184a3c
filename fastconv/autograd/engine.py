"""The tape: ``Tensor``, how an operator is recorded, and the walk back.

An operator is a *rule*: a function ``rule(needs, *arrays, **options)`` of ndarrays that
returns ``(result, backward)`` or ``(result, backward, extra)``. ``needs[i]`` says whether a
gradient by array i will be asked for, so that nothing is kept in vain; ``backward(grad)``
returns one gradient (or None) per array. A gradient shares memory with `grad` or with nothing.
Where an operator can add to what it computes at no cost, `backward` is an :class:`Adding` one.
"""

import contextlib
import heapq
import itertools
import threading

import numpy as np

from fastconv import _checks
from fastconv._elementwise import add

__all__ = ["Adding", "Tensor", "apply", "is_grad_enabled", "no_grad"]


class _Mode(threading.local):
    recording = True
    tracer = None  # told of every operator: rule, arrays, options, (result, *extra)


_mode = _Mode()
_order = itertools.count()


def is_grad_enabled():
    """Whether operators on this thread are recorded for ``backward``.

    Examples
    --------
    >>> import fastconv
    >>> with fastconv.no_grad():
    ...     fastconv.is_grad_enabled()
    False
    """
    return _mode.recording


class no_grad(contextlib.ContextDecorator):
    """Context or decorator within which nothing is recorded, on this thread.

    Examples
    --------
    >>> import fastconv
    >>> x = fastconv.Tensor([1.0, 2.0], requires_grad=True)
    >>> with fastconv.no_grad():
    ...     y = x * 2
    >>> y.requires_grad
    False
    """

    def __init__(self):
        self._before = []  # of each time that it was entered

    def __enter__(self):
        self._before.append(_mode.recording)
        _mode.recording = False

    def __exit__(self, *exception):
        _mode.recording = self._before.pop()

    def _recreate_cm(self):
        return no_grad()  # for every call of what it decorates, which may be on another thread


@contextlib.contextmanager
def traced(tracer):
    """Context within which `tracer` is called with every operator of this thread."""
    before, _mode.tracer = _mode.tracer, tracer
    try:
        yield
    finally:
        _mode.tracer = before


def is_traced():
    """Whether operators on this thread are traced."""
    return _mode.tracer is not None


class _Node:
    """A recorded operator: its backward function and where the gradients go."""

    __slots__ = ("backward", "dtype", "order", "targets")

    def __init__(self, backward, targets, dtype):
        self.backward = backward
        self.dtype = dtype  # of the result, and so of the gradient that backward is given
        self.targets = targets  # per input: its node, a leaf Tensor, or None
        self.order = next(_order)

    def __lt__(self, other):
        return self.order > other.order  # the latest first


class Adding:
    """A backward function ``function(grad, before)``, of an operator whose kernels can add.

    `before` is the gradient by the first array that later operators have already given, or None.
    The one that is returned has it added, so that it takes no pass of its own.
    """

    __slots__ = ("function",)

    def __init__(self, function):
        self.function = function


class Tensor:
    """An ndarray that remembers how it was computed.

    Parameters
    ----------
    data : array_like
        The values. An ndarray is kept as it is, not copied, but without its subclass; Python
        floats become float32.
    requires_grad : bool, default False
        Whether ``backward`` of a result accumulates a gradient here, in ``.grad``.

    Attributes
    ----------
    data : ndarray
    grad : ndarray or None
    requires_grad : bool

    Raises
    ------
    TypeError
        If the data are no array of numbers or a masked one, or if a gradient is required of data
        that is not float32 or float64.

    Notes
    -----
    Gradients are first-order: the walk back is not itself recorded. A graph is freed as
    ``backward`` walks it.

    Examples
    --------
    >>> import fastconv
    >>> x = fastconv.Tensor([1.0, 2.0, 3.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad
    array([2., 4., 6.], dtype=float32)
    """

    # _saved: a recorded operator may need the data, so nothing may overwrite it
    __slots__ = ("__weakref__", "_node", "_requires_grad", "_saved", "data", "grad")
    # NumPy then leaves `ndarray * tensor` to Tensor.__rmul__.
    __array_ufunc__ = None

    def __init__(self, data, requires_grad=False):
        if isinstance(data, Tensor):
            data = data.data
        if type(data) is not np.ndarray:
            has_dtype = hasattr(data, "__array__")
            data = _checks.as_array("data", data)
            if data.dtype == np.float64 and not has_dtype:
                data = data.astype(np.float32)
        if data.dtype.kind not in "biufc":
            raise TypeError(f"data must be an array of numbers, got dtype {data.dtype}")
        self.data = data
        self.grad = None
        self._node = None
        self._requires_grad = False
        self._saved = False
        if requires_grad:
            self.requires_grad = True

    @property
    def requires_grad(self):
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value):
        if value and self.data.dtype.type not in (np.float32, np.float64):
            raise TypeError(
                f"requires_grad needs data of dtype float32 or float64, got {self.data.dtype}"
            )
        if not value and self._node is not None:
            raise RuntimeError("requires_grad can be cleared on leaves only; use detach()")
        self._requires_grad = bool(value)

    def requires_grad_(self, requires_grad=True):
        """Set ``requires_grad`` and return the tensor."""
        self.requires_grad = requires_grad
        return self

    @property
    def is_leaf(self):
        """Whether no recorded operator made this tensor."""
        return self._node is None

    @property
    def shape(self):
        return self.data.shape

    @property
    def dtype(self):
        return self.data.dtype

    @property
    def ndim(self):
        return self.data.ndim

    @property
    def size(self):
        """Number of values (as in NumPy, where PyTorch has ``numel()``)."""
        return self.data.size

    def __len__(self):
        return len(self.data)

    def __array__(self, dtype=None, copy=None):
        if dtype is not None and np.dtype(dtype) != self.data.dtype:
            if copy is False:
                raise ValueError(f"a copy is needed to convert {self.data.dtype} to {dtype}")
            return self.data.astype(dtype)
        return self.data.copy() if copy else self.data

    def numpy(self):
        """The values: the ndarray itself, not a copy."""
        return self.data

    def item(self):
        """The value of a one-element tensor as a Python number."""
        return self.data.item()

    def detach(self):
        """A tensor of the same data that is not part of the graph."""
        return Tensor(self.data)

    def zero_grad(self):
        """Forget the gradient."""
        self.grad = None

    def __repr__(self):
        suffix = ", requires_grad=True" if self.requires_grad else ""
        text = np.array2string(self.data, prefix="Tensor(", separator=", ")
        return f"Tensor({text}, dtype={self.data.dtype}{suffix})"

    def __bool__(self):
        return bool(self.data)

    def __float__(self):
        return float(self.data)

    def __int__(self):
        return int(self.data)

    def backward(self, grad=None, retain_graph=False):
        """Add the gradients of this tensor to ``.grad`` of the leaves it was computed from.

        Parameters
        ----------
        grad : array_like, optional
            Gradient by this tensor, of its shape; 1 for a tensor of one element.
        retain_graph : bool, default False
            Keep the graph, for a second walk.

        Raises
        ------
        RuntimeError
            If nothing was recorded, if the graph was freed by an earlier walk, or if `grad`
            is missing for more than one element. No ``.grad`` has then changed.
        ValueError
            If `grad` has another shape.
        """
        if not self.requires_grad:
            raise RuntimeError(
                "backward() needs a tensor that was computed from one with requires_grad=True"
            )
        if grad is None:
            if self.data.size != 1:
                raise RuntimeError(
                    f"grad must be given for a tensor of shape {self.shape}: only one element "
                    "has the gradient 1 by default"
                )
            grad = np.ones_like(self.data)
        else:
            grad = _checks.as_array("grad", grad)
            if grad.shape != self.shape:
                raise ValueError(f"grad must have shape {self.shape}, got {grad.shape}")
            if not np.can_cast(grad.dtype, self.dtype, "same_kind"):
                raise TypeError(f"grad must be real like the tensor, got dtype {grad.dtype}")
            grad = np.require(grad, self.dtype, "A")  # aligned, for the kernels
            if self._node is None:
                grad = grad.copy()  # a leaf keeps it, so it must not be the caller's array
        for leaf, gradient in _walk(self, grad, retain_graph).values():
            leaf.grad = gradient if leaf.grad is None else add(leaf.grad, gradient)


def _walk(root, grad, retain_graph):
    """{id: (leaf, gradient)}, from the latest operator back, each once."""
    leaves = {}
    waiting = {}  # node: gradient by its result
    queue = []

    def deliver(target, gradient):
        gradient = np.asarray(gradient, target.dtype)
        if isinstance(target, _Node):
            if target not in waiting:
                heapq.heappush(queue, target)
            before = waiting.get(target)
            waiting[target] = gradient if before is None else add(before, gradient)
        else:
            _, before = leaves.get(id(target), (None, None))
            leaves[id(target)] = (target, gradient if before is None else add(before, gradient))

    deliver(root if root._node is None else root._node, grad)
    while queue:
        node = heapq.heappop(queue)
        grad = waiting.pop(node)
        if node.backward is None:
            raise RuntimeError(
                "the graph was freed by an earlier backward(); pass retain_graph=True to that "
                "one to walk it again"
            )
        targets, backward = node.targets, node.backward
        if isinstance(backward, Adding):
            first = targets[0]
            before = waiting.get(first) if isinstance(first, _Node) else None
            gradients = backward.function(grad, before)
            if before is not None:
                waiting[first] = None  # it is within gradients[0]
        else:
            gradients = backward(grad)
        if not retain_graph:
            node.backward = None
            node.targets = ()
        for target, gradient in zip(targets, gradients, strict=True):
            if target is not None and gradient is not None:
                # A leaf keeps its gradient, so it must own it.
                if not isinstance(target, _Node) and np.may_share_memory(gradient, grad):
                    gradient = np.array(gradient)
                deliver(target, gradient)
    return leaves


def unwrapped(*inputs):
    """The arrays of inputs, whether any is a Tensor, and whether operators on them are recorded."""
    arrays, wrapped, required = [], False, False
    for x in inputs:
        if isinstance(x, Tensor):
            wrapped = True
            required = required or x._requires_grad
            x = x.data
        arrays.append(x)
    return arrays, wrapped, required and _mode.recording


def apply(rule, *inputs, **options):
    """Run a rule: ndarrays in, ndarray out; with any Tensor among them, a recorded Tensor out.

    Where the rule returns an extra, the result is the pair of both.
    """
    arrays, needs, tensors = [], [], []
    recording = _mode.recording
    for x in inputs:
        is_tensor = isinstance(x, Tensor)
        arrays.append(x.data if is_tensor else x)
        needs.append(is_tensor and recording and x._requires_grad)
        if is_tensor:
            tensors.append(x)
    result, backward, *extra = rule(tuple(needs), *arrays, **options)
    result = np.asarray(result)  # NumPy makes scalars of arrays without axes
    if _mode.tracer is not None:
        _mode.tracer(rule, arrays, options, (result, *extra))
    if tensors:
        recorded = True in needs and result.dtype.kind == "f"
        result = tensor_of(result)
        if recorded:
            targets = [
                (x if x._node is None else x._node) if need else None
                for x, need in zip(inputs, needs, strict=True)
            ]
            for x in tensors:
                x._saved = True
            result._node = _Node(backward, targets, result.data.dtype)
            result._requires_grad = True
    return (result, *extra) if extra else result


def tensor_of(array):
    """A Tensor of an ndarray of numbers, without further questions."""
    tensor = Tensor.__new__(Tensor)
    tensor.data, tensor.grad, tensor._node = array, None, None
    tensor._requires_grad = tensor._saved = False
    return tensor


def apply_in_place(rule, target, **options):
    """Run a rule of one array, let the array or Tensor be the result, and return it.

    If the operator is recorded, or another one that may need the old values in its backward
    function was, those stay where they are and the Tensor is given new ones; otherwise memory is
    overwritten.
    """
    array = target.data if isinstance(target, Tensor) else target
    if not isinstance(array, np.ndarray) or not array.flags.writeable:
        kind = "a read-only array" if isinstance(array, np.ndarray) else type(array).__name__
        raise ValueError(f"input must be a writeable array to be changed in place, got {kind}")
    if array is target:
        target[...] = apply(rule, target, **options)
        return target
    if _mode.recording and target.requires_grad and target._node is None:
        raise RuntimeError("a leaf that requires a gradient cannot be changed in place")
    result = apply(rule, target, **options)
    if result._node is not None:
        target.data, target._node, target._requires_grad = result.data, result._node, True
    elif target._saved or _mode.tracer is not None:
        target.data = result.data
    else:
        target.data[...] = result.data
    return target
