"""Modules made of modules."""

from collections import deque
from collections.abc import Mapping

from fastconv._activation import NONE, RELU, RELU6, Activation
from fastconv.functional.activation import rectify
from fastconv.nn.activation import LeakyReLU, ReLU, ReLU6
from fastconv.nn.module import Module
from fastconv.nn.norm import BatchNorm2d

__all__ = ["Identity", "ModuleList", "Residual", "Sequential"]


class Identity(Module):
    """Returns its input."""

    def forward(self, input):
        return input


class _Numbered(Module):
    """Sub-modules in order, named 0, 1, 2, ... or by a mapping's keys."""

    def __len__(self):
        return len(self._modules)

    def __iter__(self):
        return iter(self._modules.values())

    def __getitem__(self, index):
        modules = list(self._modules.items())
        if isinstance(index, slice):
            return type(self)._of(modules[index])
        return modules[index][1]

    def append(self, module):
        """Add a module at the end; return this one."""
        number = len(self)
        while str(number) in self._modules:  # a slice keeps its modules' names
            number += 1
        self.add_module(str(number), module)
        return self


class Sequential(_Numbered):
    """Modules applied one after the other.

    Parameters
    ----------
    *modules : Module
        Or one mapping of names to modules.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2))
    >>> net(np.zeros((1, 1, 10, 10), np.float32)).shape
    (1, 4, 4, 4)
    """

    def __init__(self, *modules):
        super().__init__()
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            named = modules[0].items()
        else:
            named = ((str(i), module) for i, module in enumerate(modules))
        for name, module in named:
            self.add_module(name, module)

    @classmethod
    def _of(cls, named):
        return cls(dict(named))

    def forward(self, input):
        return self.fused(input)

    def fused(self, input, residual=None, activation=NONE):
        """activation(forward(input) + residual), in as few passes as the modules allow."""
        given, modules = input, deque(self)
        while modules:
            module = modules.popleft()
            if not modules:
                return fused(module, input, residual, activation)
            following = activation_of(modules[0])
            if following is not None and _fuses(module):
                modules.popleft()
                input = fused(module, input, None, following)
            elif _pools_relu(module, modules[0]) and not (input is given and module.inplace):
                input = modules.popleft().of_relu(input)
            else:
                input = module(input)
        return _finish(input, residual, activation)


class ModuleList(_Numbered):
    """A list of modules whose parameters are counted; how they are applied is yours.

    Parameters
    ----------
    modules : iterable of Module
    """

    def __init__(self, modules=()):
        super().__init__()
        for module in modules:
            self.append(module)

    @classmethod
    def _of(cls, named):
        return cls(module for _, module in named)


class Residual(Module):
    """main(x) + shortcut(x): the bypass connection [1]_.

    Parameters
    ----------
    main : Module
    shortcut : Module, optional
        By default the input itself.

    Raises
    ------
    ValueError
        If, when it is called, the two have different shapes.

    References
    ----------
    .. [1] K. He, X. Zhang, S. Ren, J. Sun, "Deep Residual Learning for Image Recognition",
       CVPR 2016, section 3.2.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> block = nn.Residual(nn.Conv1d(4, 4, 3, padding="same"))
    >>> block(np.zeros((1, 4, 50), np.float32)).shape
    (1, 4, 50)
    """

    def __init__(self, main, shortcut=None):
        super().__init__()
        self.add_module("main", main)
        if shortcut is not None:
            self.add_module("shortcut", shortcut)

    def forward(self, input):
        return self.fused(input)

    def fused(self, input, residual=None, activation=NONE):
        """activation(forward(input) + residual), in as few passes as `main` allows."""
        bypass = self.shortcut(input) if "shortcut" in self._modules else input
        if residual is None:
            return fused(self.main, input, bypass, activation)
        return _finish(fused(self.main, input, bypass), residual, activation)


# What a class of modules does in the same pass, by its forward: one that a user overrides in a
# subclass is called as it is.
_FUSED = {kind.forward: kind.fused for kind in (BatchNorm2d, Sequential, Residual)}
_ACTIVATIONS = {
    ReLU.forward: lambda module: RELU,
    ReLU6.forward: lambda module: RELU6,
    LeakyReLU.forward: lambda module: Activation(module.negative_slope),
}


def _fuses(module):
    return type(module).forward in _FUSED


def _pools_relu(module, pool):
    return activation_of(module) == RELU and hasattr(pool, "of_relu") and pool.takes_relu()


def activation_of(module):
    """The :class:`Activation` that a module is, or None."""
    known = _ACTIVATIONS.get(type(module).forward)
    found = None if known is None else known(module)
    return found if found is None or found.slope >= 0 else None


def fused(module, input, residual=None, activation=NONE):
    """activation(module(input) + residual), in one pass where the module can."""
    if _fuses(module):
        return _FUSED[type(module).forward](module, input, residual, activation)
    return _finish(module(input), residual, activation)


def _finish(output, residual, activation):
    if residual is not None:
        if output.shape != residual.shape:
            raise ValueError(
                f"main gives shape {output.shape}, the shortcut {residual.shape}; they must be "
                "equal to be added"
            )
        output = output + residual
    return output if activation == NONE else rectify(output, activation)
