"""Automatic differentiation: the tape, tensor arithmetic and the gradient checker."""

from fastconv.autograd.check import GradcheckError, gradcheck
from fastconv.autograd.engine import Tensor, is_grad_enabled, no_grad
from fastconv.autograd.ops import cat, concatenate, exp, log, matmul, sqrt, stack

__all__ = [
    "GradcheckError",
    "Tensor",
    "cat",
    "concatenate",
    "exp",
    "gradcheck",
    "is_grad_enabled",
    "log",
    "matmul",
    "no_grad",
    "sqrt",
    "stack",
]
