"""Functions on the gradients of many parameters, with the names of ``torch.nn.utils``."""

import math
from collections.abc import Iterable

import numpy as np

from fastconv._checks import real
from fastconv.autograd import Tensor

__all__ = ["clip_grad_norm_", "clip_grad_value_"]


def clip_grad_norm_(parameters, max_norm, norm_type=2.0, error_if_nonfinite=False):
    """Scale all gradients by one factor, in place, so that their norm is at most `max_norm`.

    The norm is that of the vector of all gradients together. The factor is
    ``max_norm / (norm + 1e-6)``, or 1 if that is larger; with a norm that is not finite, it is
    what this arithmetic makes of it.

    Parameters
    ----------
    parameters : Tensor or iterable of Tensor
        Those without a gradient are left out.
    max_norm : float
        At least 0; infinity only measures.
    norm_type : float, default 2
        The p of the p-norm, positive; infinity for the largest absolute value.
    error_if_nonfinite : bool, default False
        Raise if the norm is NaN or infinite.

    Returns
    -------
    float
        The norm before clipping, computed in float64; 0 if there is no gradient.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range.
    RuntimeError
        If the norm is not finite and `error_if_nonfinite`. Nothing has been scaled then.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import Tensor, nn
    >>> weight = Tensor([0.0, 0.0], requires_grad=True)
    >>> weight.grad = np.float32([3.0, 4.0])
    >>> nn.utils.clip_grad_norm_([weight], max_norm=0.5)
    5.0
    >>> weight.grad.round(4)
    array([0.3, 0.4], dtype=float32)
    """
    gradients = _gradients(parameters)
    max_norm = _maybe_infinite("max_norm", max_norm)
    norm_type = _maybe_infinite("norm_type", norm_type)
    if max_norm < 0:
        raise ValueError(f"max_norm must be at least 0, got {max_norm}")
    if norm_type <= 0:
        raise ValueError(f"norm_type must be positive, got {norm_type}")
    norm = _norm(gradients, norm_type)
    if error_if_nonfinite and not math.isfinite(norm):
        raise RuntimeError(
            f"the norm of the gradients must be finite, got {norm}; "
            "error_if_nonfinite=False scales them all the same"
        )
    factor = max_norm / (norm + 1e-6)
    if not factor >= 1:  # so that NaN is not less
        for gradient in gradients:
            np.multiply(gradient, factor, out=gradient)
    return norm


def clip_grad_value_(parameters, clip_value):
    """Limit every gradient to [-clip_value, clip_value], in place.

    Parameters
    ----------
    parameters : Tensor or iterable of Tensor
        Those without a gradient are left out.
    clip_value : float
        At least 0.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import Tensor, nn
    >>> weight = Tensor([0.0, 0.0], requires_grad=True)
    >>> weight.grad = np.float32([0.25, -4.0])
    >>> nn.utils.clip_grad_value_([weight], clip_value=0.5)
    >>> weight.grad
    array([ 0.25, -0.5 ], dtype=float32)
    """
    gradients = _gradients(parameters)
    clip_value = real("clip_value", clip_value)
    if clip_value < 0:
        raise ValueError(f"clip_value must be at least 0, got {clip_value}")
    for gradient in gradients:
        np.clip(gradient, -clip_value, clip_value, out=gradient)


def _gradients(parameters):
    if isinstance(parameters, Tensor):
        parameters = [parameters]
    if not isinstance(parameters, Iterable):
        raise TypeError(
            "parameters must be a Tensor or an iterable of Tensors, "
            f"got {type(parameters).__name__}"
        )
    gradients = []
    for i, parameter in enumerate(parameters):
        if not isinstance(parameter, Tensor):
            raise TypeError(f"parameters[{i}] must be a Tensor, got {type(parameter).__name__}")
        if parameter.grad is not None:
            gradients.append(parameter.grad)
    return gradients


def _maybe_infinite(name, value):
    """`value` as a float, which may be infinite."""
    return math.inf if isinstance(value, float) and value == math.inf else real(name, value)


def _norm(gradients, p):
    if p == math.inf:
        return float(np.max([np.abs(g).max(initial=0) for g in gradients], initial=0))
    if p == 2:
        return math.sqrt(sum(float(np.square(g, dtype=np.float64).sum()) for g in gradients))
    return sum(float(np.power(np.abs(g), p, dtype=np.float64).sum()) for g in gradients) ** (1 / p)
