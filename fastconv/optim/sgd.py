"""Stochastic gradient descent."""

import numpy as np

from fastconv._checks import real
from fastconv.optim.optimizer import Optimizer, at_least, boolean, check_arrays, in_blocks


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum if wanted.

    With the gradient g of a parameter p, after weight decay g + ``weight_decay`` p::

        b = g                                     at the first step
        b = momentum b + (1 - dampening) g        at later ones
        p = p - lr b                              or p - lr (g + momentum b) with nesterov

    as ``torch.optim.SGD``, where the velocity b does not contain the learning rate.

    Parameters
    ----------
    params : iterable of Tensor, or of dict
        The parameters, or groups of them (see `Optimizer`).
    lr : float, default 1e-3
        Learning rate, at least 0.
    momentum : float, default 0
        At least 0.
    dampening : float, default 0
        The part of later gradients that the velocity does not take.
    weight_decay : float, default 0
        At least 0; added to the gradient as ``weight_decay`` p.
    nesterov : bool, default False
        Nesterov's momentum [1]_; needs a positive `momentum` and no `dampening`.
    maximize : bool, default False
        Climb instead of descend.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range; the message names it and its value.

    References
    ----------
    .. [1] I. Sutskever, J. Martens, G. Dahl, G. Hinton: On the importance of initialization and
       momentum in deep learning. ICML 2013.

    Examples
    --------
    >>> from fastconv import Tensor, optim
    >>> x = Tensor([1.0], requires_grad=True)
    >>> optimizer = optim.SGD([x], lr=0.25)
    >>> for _ in range(3):
    ...     optimizer.zero_grad()
    ...     (x * x).sum().backward()
    ...     optimizer.step()
    >>> x.data
    array([0.125], dtype=float32)
    """

    def __init__(
        self,
        params,
        lr=1e-3,
        momentum=0.0,
        dampening=0.0,
        weight_decay=0.0,
        nesterov=False,
        *,
        maximize=False,
    ):
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def _check_options(self, options):
        for name in ("lr", "momentum", "weight_decay"):
            at_least(name, options[name], 0.0)
        real("dampening", options["dampening"])
        boolean("nesterov", options["nesterov"])
        boolean("maximize", options["maximize"])
        if options["nesterov"] and (options["momentum"] <= 0 or options["dampening"] != 0):
            raise ValueError(
                "nesterov must come with momentum > 0 and dampening 0, got "
                f"momentum {options['momentum']} and dampening {options['dampening']}"
            )

    def _check_state(self, name, state, data):
        check_arrays(name, state, data, optional=["momentum_buffer"])

    def _update(self, data, grad, state, group):
        lr, weight_decay = float(group["lr"]), float(group["weight_decay"])
        momentum, dampening = float(group["momentum"]), float(group["dampening"])
        maximize, nesterov = group["maximize"], group["nesterov"]
        if momentum == 0:
            for g, p in in_blocks(grad, data):
                p -= lr * _decayed(g, p, weight_decay, maximize)
            return
        first = "momentum_buffer" not in state
        if first:
            state["momentum_buffer"] = np.zeros_like(data)
        for g, p, b in in_blocks(grad, data, state["momentum_buffer"]):
            g = _decayed(g, p, weight_decay, maximize)
            if first:
                b[...] = g
            else:
                b *= momentum
                b += (1 - dampening) * g
            p -= lr * (g + momentum * b if nesterov else b)


def _decayed(g, p, weight_decay, maximize):
    """The gradient to descend by: g + weight_decay p, or -g + weight_decay p to climb."""
    if maximize:
        g = -g
    return g + weight_decay * p if weight_decay else g
