"""Stochastic gradient descent."""

import numpy as np

from fastconv._checks import real
from fastconv.kernels import optim as kernels
from fastconv.optim.optimizer import Optimizer, at_least, boolean, check_arrays, update

__all__ = ["SGD"]


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

    _moments = ("momentum_buffer",)

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
        check_arrays(name, state, data, optional=self._moments)

    def _update(self, data, grad, state, group):
        momentum, share = group["momentum"], 1 - float(group["dampening"])
        options = (-1 if group["maximize"] else 1, group["weight_decay"], group["lr"])
        if momentum == 0:
            update(kernels.sgd, grad, data, options=options)
            return
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = np.zeros_like(data)
            share = 1
        options += (momentum, share, group["nesterov"])
        update(kernels.sgd_momentum, grad, data, state["momentum_buffer"], options=options)
