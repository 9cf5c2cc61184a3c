"""Automatic differentiation: the tape, tensor arithmetic and the gradient checker."""

from fastconv.autograd.check import GradcheckError, gradcheck
from fastconv.autograd.engine import Tensor, is_grad_enabled, no_grad
from fastconv.autograd.ops import cat, concatenate, exp, log, matmul, sqrt, stack
from fastconv.autograd.pointwise import clamp, maximum, minimum, where

__all__ = [
    "GradcheckError",
    "Tensor",
    "cat",
    "clamp",
    "concatenate",
    "exp",
    "gradcheck",
    "is_grad_enabled",
    "log",
    "matmul",
    "maximum",
    "minimum",
    "no_grad",
    "sqrt",
    "stack",
    "where",
]
