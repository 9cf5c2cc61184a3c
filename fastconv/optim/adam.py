"""Adam and AdamW."""

import math

import numpy as np

from fastconv._checks import integer
from fastconv.kernels import optim as kernels
from fastconv.optim.optimizer import Optimizer, at_least, boolean, check_arrays, update

__all__ = ["Adam", "AdamW"]


class Adam(Optimizer):
    """Adam [1]_: steps scaled by running means of the gradient and of its square.

    With the gradient g of a parameter p, after weight decay g + ``weight_decay`` p, at step t::

        m = beta1 m + (1 - beta1) g
        v = beta2 v + (1 - beta2) g^2
        p = p - lr m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps)

    as ``torch.optim.Adam``.

    Parameters
    ----------
    params : iterable of Tensor, or of dict
        The parameters, or groups of them (see `Optimizer`).
    lr : float, default 1e-3
        Learning rate, at least 0.
    betas : pair of float, default (0.9, 0.999)
        Both in [0, 1).
    eps : float, default 1e-8
        At least 0.
    weight_decay : float, default 0
        At least 0; added to the gradient as ``weight_decay`` p.
    amsgrad : bool, default False
        Divide by the largest v so far [2]_.
    maximize : bool, default False
        Climb instead of descend.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range; the message names it and its value.

    References
    ----------
    .. [1] D. P. Kingma, J. Ba: Adam: a method for stochastic optimization. ICLR 2015.
    .. [2] S. J. Reddi, S. Kale, S. Kumar: On the convergence of Adam and beyond. ICLR 2018.

    Examples
    --------
    >>> from fastconv import Tensor, optim
    >>> x = Tensor([1.0, -2.0], requires_grad=True)
    >>> optimizer = optim.Adam([x], lr=0.5)
    >>> (x * x).sum().backward()
    >>> optimizer.step()  # at the first step m and sqrt(v) differ in the sign only
    >>> x.data.round(4)
    array([ 0.5, -1.5], dtype=float32)
    """

    _moments = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")
    _decoupled_weight_decay = False

    def __init__(
        self,
        params,
        lr=1e-3,
        betas=(0.9, 0.999),
        eps=1e-8,
        weight_decay=0.0,
        amsgrad=False,
        *,
        maximize=False,
    ):
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def _check_options(self, options):
        for name in ("lr", "eps", "weight_decay"):
            at_least(name, options[name], 0.0)
        betas = options["betas"]
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise TypeError(f"betas must be a pair of numbers, got {betas!r}")
        for i, beta in enumerate(betas):
            at_least(f"betas[{i}]", beta, 0.0, below=1.0)
        boolean("amsgrad", options["amsgrad"])
        boolean("maximize", options["maximize"])

    def _check_state(self, name, state, data):
        arrays = dict(state)
        integer(f"{name}['step']", arrays.pop("step", None), 1)
        check_arrays(name, arrays, data, self._moments[:2], self._moments[2:])

    def _update(self, data, grad, state, group):
        if not state:
            state["step"] = 0
            state["exp_avg"] = np.zeros_like(data)
            state["exp_avg_sq"] = np.zeros_like(data)
        if group["amsgrad"] and "max_exp_avg_sq" not in state:
            state["max_exp_avg_sq"] = np.zeros_like(data)
        state["step"] += 1
        beta1, beta2 = map(float, group["betas"])
        lr, weight_decay = float(group["lr"]), float(group["weight_decay"])
        shrink = 1.0
        if self._decoupled_weight_decay:
            shrink, weight_decay = 1 - lr * weight_decay, 0.0
        options = (
            -1 if group["maximize"] else 1,
            weight_decay,
            shrink,
            1 - beta1,
            beta2,
            1 - beta2,
            math.sqrt(1 - beta2 ** state["step"]),
            group["eps"],
            lr / (1 - beta1 ** state["step"]),
        )
        moments = [state["exp_avg"], state["exp_avg_sq"]]
        if group["amsgrad"]:
            update(kernels.adam, grad, data, *moments, state["max_exp_avg_sq"], options=options)
        else:
            update(kernels.adam, grad, data, *moments, options=(None, *options))


class AdamW(Adam):
    """Adam with decoupled weight decay [1]_.

    As `Adam`, but before each step p is multiplied by 1 - ``lr`` ``weight_decay``, and the
    gradient is left alone; as ``torch.optim.AdamW``.

    Parameters
    ----------
    params : iterable of Tensor, or of dict
        The parameters, or groups of them (see `Optimizer`).
    lr : float, default 1e-3
        Learning rate, at least 0.
    betas : pair of float, default (0.9, 0.999)
        Both in [0, 1).
    eps : float, default 1e-8
        At least 0.
    weight_decay : float, default 1e-2
        At least 0.
    amsgrad : bool, default False
        Divide by the largest v so far.
    maximize : bool, default False
        Climb instead of descend.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range; the message names it and its value.

    References
    ----------
    .. [1] I. Loshchilov, F. Hutter: Decoupled weight decay regularization. ICLR 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import Tensor, optim
    >>> x = Tensor([1.0], requires_grad=True)
    >>> optimizer = optim.AdamW([x], lr=0.5, weight_decay=0.5)
    >>> x.grad = np.zeros(1, np.float32)
    >>> optimizer.step()
    >>> x.data
    array([0.75], dtype=float32)
    """

    _decoupled_weight_decay = True

    def __init__(
        self,
        params,
        lr=1e-3,
        betas=(0.9, 0.999),
        eps=1e-8,
        weight_decay=1e-2,
        amsgrad=False,
        *,
        maximize=False,
    ):
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize)
