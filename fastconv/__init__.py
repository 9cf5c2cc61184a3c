"""Convolutional networks for people who have NumPy, SciPy and a CPU."""

from fastconv._threads import get_num_threads, set_num_threads
from fastconv.autograd import (
    GradcheckError,
    Tensor,
    cat,
    concatenate,
    exp,
    gradcheck,
    is_grad_enabled,
    log,
    matmul,
    no_grad,
    sqrt,
    stack,
)
from fastconv.functional import col2im, im2col
from fastconv.random import default_generator, manual_seed

__all__ = [
    "GradcheckError",
    "Tensor",
    "cat",
    "col2im",
    "concatenate",
    "default_generator",
    "exp",
    "get_num_threads",
    "gradcheck",
    "im2col",
    "is_grad_enabled",
    "log",
    "manual_seed",
    "matmul",
    "no_grad",
    "set_num_threads",
    "sqrt",
    "stack",
]
