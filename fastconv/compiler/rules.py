"""Every rule of fastconv, by name."""

import importlib
import inspect
import pkgutil
from types import FunctionType

import fastconv.autograd
import fastconv.functional

__all__ = ["RULES", "name_of"]


def _modules(package):
    names = (module.name for module in pkgutil.iter_modules(package.__path__))
    return [importlib.import_module(f"{package.__name__}.{name}") for name in names]


# What takes `needs` first is one.
RULES = {
    f"{module.__name__.partition('.')[2]}.{name}": function
    for module in [*_modules(fastconv.autograd), *_modules(fastconv.functional)]
    for name, function in vars(module).items()
    if isinstance(function, FunctionType)
    and inspect.unwrap(function).__module__ == module.__name__
    and inspect.unwrap(function).__code__.co_varnames[:1] == ("needs",)
}
_NAMES = {rule: name for name, rule in RULES.items()}


def name_of(rule):
    """The key of a rule in RULES, None for a user's own."""
    return _NAMES.get(rule)
