"""Convolutional networks for people who have NumPy, SciPy and a CPU."""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING as _TYPE_CHECKING

from fastconv._algorithm import algorithm
from fastconv._config import show_config
from fastconv._memory import empty_cache, memory_stats, set_cache_limit
from fastconv._threads import flush_denormal, get_num_threads, set_num_threads
from fastconv.autograd import (
    GradcheckError,
    Tensor,
    cat,
    clamp,
    concatenate,
    exp,
    gradcheck,
    is_grad_enabled,
    log,
    matmul,
    maximum,
    minimum,
    no_grad,
    sqrt,
    stack,
    where,
)
from fastconv.random import default_generator, manual_seed

# Imported when they are first used, so that an import takes little more than NumPy and SciPy do.
_MODULES = (
    "capi",
    "cexport",
    "compiler",
    "data",
    "functional",
    "io",
    "linalg",
    "models",
    "nn",
    "onnx",
    "optim",
    "training",
)
_NAMES = {
    "get_include": "capi",
    "export_c": "cexport",
    "InferencePlan": "compiler",
    "compile": "compiler",
    "load_plan": "compiler",
    "col2im": "functional",
    "im2col": "functional",
    "load": "io",
    "load_metadata": "io",
    "save": "io",
    "load_model": "models",
}
if _TYPE_CHECKING:  # the same, for editors and type checkers
    from fastconv import capi, data, functional, linalg, models, nn, onnx, optim
    from fastconv import cexport as cexport
    from fastconv import compiler as compiler
    from fastconv import io as io
    from fastconv import training as training
    from fastconv.capi import get_include
    from fastconv.cexport import export_c
    from fastconv.compiler import InferencePlan, compile, load_plan
    from fastconv.functional import col2im, im2col
    from fastconv.io import load, load_metadata, save
    from fastconv.models import load_model

    __version__: str


def __getattr__(name):
    if name in _MODULES:
        return _import_module(f"fastconv.{name}")
    if name in _NAMES:
        value = getattr(_import_module(f"fastconv.{_NAMES[name]}"), name)
    elif name == "__version__":
        from importlib.metadata import version

        value = version("fastconv")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__():
    return sorted({*globals(), *_MODULES, *_NAMES, "__version__"})


__all__ = [
    "GradcheckError",
    "InferencePlan",
    "Tensor",
    "__version__",
    "algorithm",
    "capi",
    "cat",
    "clamp",
    "col2im",
    "compile",
    "concatenate",
    "data",
    "default_generator",
    "empty_cache",
    "exp",
    "export_c",
    "flush_denormal",
    "functional",
    "get_include",
    "get_num_threads",
    "gradcheck",
    "im2col",
    "is_grad_enabled",
    "linalg",
    "load",
    "load_metadata",
    "load_model",
    "load_plan",
    "log",
    "manual_seed",
    "matmul",
    "maximum",
    "memory_stats",
    "minimum",
    "models",
    "nn",
    "no_grad",
    "onnx",
    "optim",
    "save",
    "set_cache_limit",
    "set_num_threads",
    "show_config",
    "sqrt",
    "stack",
    "where",
]
