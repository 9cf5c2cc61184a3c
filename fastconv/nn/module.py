"""``Module`` and ``Parameter``: what every layer and network is made of."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from fastconv import _checks
from fastconv.autograd import Tensor
from fastconv.nn._state import as_array, report

__all__ = ["IncompatibleKeys", "Module", "Parameter"]


def _as_tensor(name, x):
    return Tensor(_checks.plain(name, x)) if isinstance(x, np.ndarray) else x


class Parameter(Tensor):
    """A Tensor that a :class:`Module` counts among its parameters when it is assigned.

    Parameters
    ----------
    data : array_like
        float32 or float64.
    requires_grad : bool, default True

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> nn.Parameter(np.zeros(3)).requires_grad
    True
    """

    __slots__ = ()

    def __init__(self, data, requires_grad=True):
        super().__init__(data, requires_grad)


class IncompatibleKeys(NamedTuple):
    """Names by which a state dict and a module differ."""

    missing_keys: list
    unexpected_keys: list


class Module:
    """Base of all layers and networks: subclass it, and write ``forward``.

    Parameters, sub-modules and buffers (arrays that are saved but not trained) are found by
    their attribute names, which are PyTorch's, so that weights move over. A module takes
    ndarrays or Tensors and returns Tensors.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> class Net(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.conv = nn.Conv2d(1, 4, 3, padding="same")
    ...     def forward(self, x):
    ...         return self.conv(x) + x
    >>> Net()(np.zeros((2, 1, 8, 9), np.float32)).shape
    (2, 4, 8, 9)
    """

    optional_state = ()  # names of parameters and buffers that a state dict may lack

    def __init__(self):
        # object.__setattr__'s way round, for our __setattr__ looks into these
        self.__dict__.update(_parameters={}, _buffers={}, _modules={}, training=True)

    def __setattr__(self, name, value):
        if "_parameters" not in self.__dict__:
            raise AttributeError(
                f"{type(self).__name__}: call super().__init__() before setting {name}"
            )
        tables = (self._parameters, self._buffers, self._modules)
        home = next((table for table in tables if name in table), None)
        kind = home
        if isinstance(value, Parameter):
            kind = self._parameters
        elif isinstance(value, Module):
            kind = self._modules
        elif home is not None and value is not None and home is not self._buffers:
            raise TypeError(
                f"{name} holds a parameter or module and cannot be set to "
                f"{type(value).__name__}; delete it first"
            )
        if kind is None:
            object.__setattr__(self, name, value)
            return
        if kind is not home:  # else it keeps its place among the others
            for table in (*tables, self.__dict__):
                table.pop(name, None)
        kind[name] = value

    def __getattr__(self, name):
        own = self.__dict__
        if "_parameters" in own:  # else __init__ has not been called
            for table in (own["_parameters"], own["_buffers"], own["_modules"]):
                if name in table:
                    return table[name]
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def __delattr__(self, name):
        for table in (self._parameters, self._buffers, self._modules):
            if name in table:
                del table[name]
                return
        object.__delattr__(self, name)

    def __dir__(self):
        return [*super().__dir__(), *self._parameters, *self._buffers, *self._modules]

    def _register(self, table, name, value):
        if not isinstance(name, str):
            raise TypeError(f"name must be a str, got {name!r}")
        if not name or "." in name:
            raise ValueError(f"name must not be empty or have a dot, got {name!r}")
        if name not in table and hasattr(self, name):
            raise ValueError(f"name {name!r} is that of another attribute already")
        table[name] = value

    def register_buffer(self, name, array):
        """Add an ndarray (or None) that is saved with the module but not trained."""
        if array is not None and not isinstance(array, np.ndarray):
            raise TypeError(f"buffer {name!r} must be an ndarray, got {type(array).__name__}")
        self._register(self._buffers, name, _checks.plain(name, array))

    def register_parameter(self, name, parameter):
        """Add a :class:`Parameter`, or None for one that is left out."""
        if parameter is not None and not isinstance(parameter, Parameter):
            kind = type(parameter).__name__
            raise TypeError(f"parameter {name!r} must be a Parameter, got {kind}")
        self._register(self._parameters, name, parameter)

    def add_module(self, name, module):
        """Add a sub-module by name."""
        if not isinstance(module, Module):
            raise TypeError(f"module {name!r} must be a Module, got {type(module).__name__}")
        self._register(self._modules, name, module)

    def forward(self, *inputs, **options):
        """What the module computes; subclasses write it."""
        raise TypeError(f"{type(self).__name__} does not define forward")

    def __call__(self, *inputs, **options):
        if len(inputs) == 1 and not options:  # as most layers are called
            return self.forward(_as_tensor("inputs[0]", inputs[0]))
        inputs = [_as_tensor(f"inputs[{i}]", x) for i, x in enumerate(inputs)]
        options = {name: _as_tensor(name, x) for name, x in options.items()}
        return self.forward(*inputs, **options)

    def children(self):
        """The direct sub-modules."""
        yield from (m for m in self._modules.values() if m is not None)

    def named_modules(self, prefix=""):
        """(dotted name, module) of this module and all below it, each once."""
        seen = set()
        stack = [(prefix, self)]
        while stack:
            name, module = stack.pop()
            if id(module) in seen:
                continue
            seen.add(id(module))
            yield name, module
            below = [(k, m) for k, m in module._modules.items() if m is not None]
            stack += [(f"{name}.{k}" if name else k, m) for k, m in reversed(below)]

    def modules(self):
        """This module and all below it."""
        for _, module in self.named_modules():
            yield module

    def named_parameters(self):
        """(dotted name, parameter) of all parameters, each once."""
        seen = set()
        for prefix, module in self.named_modules():
            for name, parameter in module._parameters.items():
                if parameter is not None and id(parameter) not in seen:
                    seen.add(id(parameter))
                    yield (f"{prefix}.{name}" if prefix else name), parameter

    def parameters(self):
        """All parameters, each once, for an optimiser."""
        for _, parameter in self.named_parameters():
            yield parameter

    def named_buffers(self):
        """(dotted name, array) of all buffers."""
        for prefix, module in self.named_modules():
            for name, array in module._buffers.items():
                if array is not None:
                    yield (f"{prefix}.{name}" if prefix else name), array

    def train(self, mode=True):
        """Set training mode (dropout, batch statistics) here and below; return the module."""
        for module in self.modules():
            module.__dict__["training"] = bool(mode)
        return self

    def eval(self):
        """Set evaluation mode here and below; return the module."""
        return self.train(False)

    def requires_grad_(self, requires_grad=True):
        """Freeze or unfreeze all parameters; return the module."""
        for parameter in self.parameters():
            parameter.requires_grad = requires_grad
        return self

    def zero_grad(self):
        """Forget all gradients."""
        for parameter in self.parameters():
            parameter.grad = None

    def apply(self, fn):
        """Call ``fn(module)`` for this module and all below it; return the module."""
        for module in self.modules():
            fn(module)
        return self

    def astype(self, dtype):
        """Convert parameters and floating buffers to float32 or float64; return the module."""
        dtype = _checks.float_dtype("dtype", dtype)
        for module in self.modules():
            for parameter in module._parameters.values():
                if parameter is not None:
                    parameter.data = parameter.data.astype(dtype)
                    parameter.grad = None
            for name, array in module._buffers.items():
                if array is not None and array.dtype.kind == "f":
                    module._buffers[name] = array.astype(dtype)
        return self

    def float(self):
        """Convert to float32; return the module."""
        return self.astype(np.float32)

    def double(self):
        """Convert to float64; return the module."""
        return self.astype(np.float64)

    def state_dict(self):
        """{dotted name: ndarray} of all parameters and buffers, under PyTorch's names.

        The arrays are the live ones, not copies.
        """
        state = {}
        self._add_state("", state)
        return state

    def _add_state(self, prefix, state):
        for name, parameter in self._parameters.items():
            if parameter is not None:
                state[prefix + name] = parameter.data
        for name, array in self._buffers.items():
            if array is not None:
                state[prefix + name] = array
        for name, module in self._modules.items():
            if module is not None:
                module._add_state(f"{prefix}{name}.", state)

    def load_state_dict(self, state_dict, strict=True):
        """Copy arrays into the parameters and buffers of the same names.

        Values are converted to the module's dtypes, so float16, and bfloat16 as
        :func:`fastconv.load` reads it, are as good as float32. A parameter that the module has
        under several names (tied weights) needs but one of them, and buffers that older versions
        of PyTorch did not save (``num_batches_tracked``) may be missing.

        Parameters
        ----------
        state_dict : mapping of str to array_like
            Such as :func:`fastconv.load` reads from a file, or a PyTorch module's.
        strict : bool, default True
            Whether missing and unexpected names are errors.

        Returns
        -------
        IncompatibleKeys
            The names on one side only: ``missing_keys`` and ``unexpected_keys``.

        Raises
        ------
        ValueError
            Listing missing and unexpected names, with near ones, and, for every shape that
            differs, its name and both shapes. The module is then unchanged.
        TypeError
            If a value is not an array of numbers. The module is then unchanged.

        Examples
        --------
        >>> import numpy as np
        >>> from fastconv import nn
        >>> layer = nn.Linear(2, 1)
        >>> layer.load_state_dict({"weight": np.ones((1, 2)), "scale": 3.0}, strict=False)
        IncompatibleKeys(missing_keys=['bias'], unexpected_keys=['scale'])
        >>> layer.load_state_dict({"weight": np.ones((1, 3)), "bais": np.zeros(1)})
        Traceback (most recent call last):
        ValueError: state_dict does not fit the module:
          missing: bias (1,)
          unexpected: bais (1,); did you mean bias?
          weight has shape (1, 3), the module's is (1, 2)
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(
                "state_dict must be a mapping of names to arrays (fastconv.load reads one from a "
                f"file), got {type(state_dict).__name__}"
            )
        if strange := [name for name in state_dict if not isinstance(name, str)]:
            raise TypeError(f"the names of state_dict must be str, got {strange[0]!r}")
        own, given = self.state_dict(), dict(state_dict)
        shared = {id(own[name]) for name in given if name in own}
        optional = set(self._optional_names(""))
        missing = [
            name
            for name, array in own.items()
            if name not in given and id(array) not in shared and name not in optional
        ]
        unexpected = [name for name in given if name not in own]
        arrays = {name: as_array(name, given[name]) for name in own if name in given}
        misshapen = [name for name, array in arrays.items() if array.shape != own[name].shape]
        named = (missing, unexpected) if strict else ([], [])
        if lines := report(own, given, *named, misshapen):
            raise ValueError("\n  ".join(["state_dict does not fit the module:", *lines]))
        # Converted first: a warning that the caller has made an error leaves the module alone.
        arrays = {name: a.astype(own[name].dtype, copy=False) for name, a in arrays.items()}
        for name, array in arrays.items():
            own[name][...] = array
        return IncompatibleKeys(missing, unexpected)

    def _optional_names(self, prefix):
        """Names of the state here and below that a state dict may lack."""
        yield from (prefix + name for name in self.optional_state)
        for name, module in self._modules.items():
            if module is not None:
                yield from module._optional_names(f"{prefix}{name}.")

    def extra_repr(self):
        """The arguments shown in ``repr``."""
        return ""

    def __repr__(self):
        if not self._modules:
            return f"{type(self).__name__}({self.extra_repr()})"
        lines = [f"({name}): {module!r}" for name, module in self._modules.items()]
        body = "\n".join(lines).replace("\n", "\n  ")
        return f"{type(self).__name__}({self.extra_repr()}\n  {body}\n)"
