"""Convolutional networks for people who have NumPy, SciPy and a CPU."""

from importlib import import_module as _import_module
from importlib.metadata import version as _version

from fastconv import capi, data, functional, models, nn, optim
from fastconv._algorithm import algorithm
from fastconv._config import show_config
from fastconv._memory import empty_cache, memory_stats, set_cache_limit
from fastconv._threads import get_num_threads, set_num_threads
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
from fastconv.capi import get_include
from fastconv.compiler import InferencePlan, compile, load_plan
from fastconv.functional import col2im, im2col
from fastconv.io import load, load_metadata, save
from fastconv.models import load_model
from fastconv.random import default_generator, manual_seed

__version__ = _version("fastconv")

# Imported when they are first used: they bring modules that nothing else here needs.
_LATER = ("linalg", "onnx")


def __getattr__(name):
    if name in _LATER:
        return _import_module(f"fastconv.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *_LATER})


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
