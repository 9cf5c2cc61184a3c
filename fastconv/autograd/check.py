"""Gradients against finite differences."""

import numpy as np

from fastconv.autograd.engine import Tensor, no_grad

__all__ = ["GradcheckError", "gradcheck"]


class GradcheckError(AssertionError):
    """A gradient differs from its finite difference."""


def gradcheck(fn, inputs, eps=1e-6, atol=1e-5, rtol=1e-3, seed=0):
    """Compare the gradients of `fn` with central differences.

    The result is projected on a random direction, so that one backward pass meets the whole
    Jacobian; every element of every input that requires a gradient is then moved by `eps`.

    Parameters
    ----------
    fn : callable
        Takes the inputs, returns a Tensor or a sequence of Tensors. It must be deterministic.
    inputs : Tensor or sequence of Tensor
        Those with ``requires_grad`` are checked and must be float64. They are left unchanged,
        their ``.grad`` too.
    eps : float
        Step of the difference.
    atol, rtol : float
        |analytic - numeric| <= atol + rtol * |numeric| must hold.
    seed : int
        Of the random direction.

    Returns
    -------
    bool
        True.

    Raises
    ------
    GradcheckError
        Naming the input, the element and the two values that differ most.
    TypeError, ValueError
        If an input to check is not float64, or none is to be checked.

    Notes
    -----
    Costs two evaluations of `fn` per element checked.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> x = fastconv.Tensor(np.array([0.5, 2.0]), requires_grad=True)
    >>> fastconv.gradcheck(lambda t: t.exp() * t, x)
    True
    """
    inputs = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    checked = [(i, x) for i, x in enumerate(inputs) if isinstance(x, Tensor) and x.requires_grad]
    if not checked:
        raise ValueError("inputs must hold at least one Tensor with requires_grad=True")
    for i, x in checked:
        if x.dtype != np.float64:
            raise TypeError(f"inputs[{i}] must be float64 to be checked, got {x.dtype}")
    rng = np.random.default_rng(seed)
    # Copies: fn may work in place, and .grad of the caller's tensors stays as it is.
    copies = [
        Tensor(x.data.copy("K"), requires_grad=x.requires_grad) if isinstance(x, Tensor) else x
        for x in inputs
    ]
    outputs = _outputs(fn, copies)
    directions = [np.asarray(rng.standard_normal(y.shape)) for y in outputs]
    total = sum(((y * d).sum() for y, d in zip(outputs, directions, strict=True)), Tensor(0.0))
    if total.requires_grad:
        total.backward()
    for i, x in checked:
        analytic = np.zeros(x.shape) if copies[i].grad is None else copies[i].grad
        numeric = _difference(fn, inputs, i, directions, eps)
        with np.errstate(invalid="ignore"):
            error = np.abs(analytic - numeric) - (atol + rtol * np.abs(numeric))
        # what is not finite on both sides must be the same on both
        wild = ~(np.isfinite(analytic) & np.isfinite(numeric))
        same = (analytic == numeric) | (np.isnan(analytic) & np.isnan(numeric))
        error = np.where(wild, np.where(same, -np.inf, np.inf), error)
        if error.size and error.max() > 0:
            where = np.unravel_index(error.argmax(), error.shape)
            raise GradcheckError(
                f"gradient by inputs[{i}] at {tuple(map(int, where))}: backward gives "
                f"{analytic[where]:.9g}, the difference quotient {numeric[where]:.9g}"
            )
    return True


def _outputs(fn, inputs):
    result = fn(*inputs)
    return [result] if isinstance(result, Tensor) else [y for y in result if isinstance(y, Tensor)]


def _difference(fn, inputs, i, directions, eps):
    """Central differences of the projected result by every element of input i."""
    base = inputs[i].data
    numeric = np.empty(base.shape)
    for where in np.ndindex(base.shape):
        values = []
        for step in (eps, -eps):
            moved = base.copy()
            moved[where] += step
            arguments = [
                Tensor(moved if j == i else x.data.copy()) if isinstance(x, Tensor) else x
                for j, x in enumerate(inputs)
            ]
            with no_grad():
                outputs = _outputs(fn, arguments)
            values.append(sum((y.data * d).sum() for y, d in zip(outputs, directions, strict=True)))
        with np.errstate(invalid="ignore"):
            numeric[where] = (values[0] - values[1]) / (2 * eps)
    return numeric
