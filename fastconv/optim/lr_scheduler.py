"""Learning rates that change from epoch to epoch, or from batch to batch.

As in ``torch.optim.lr_scheduler``, a scheduler sets the rate of its first epoch when it is made
and that of the next one at every ``step()``, which comes after the optimizer's. Where a rule can
be said as "multiply the present rate", it is, so that schedulers can be combined.
"""

import copy
import math
from collections.abc import Iterable, Mapping

from fastconv._checks import integer, one_of, real
from fastconv.optim.optimizer import Optimizer, at_least, boolean

__all__ = [
    "CosineAnnealingLR",
    "LRScheduler",
    "LambdaLR",
    "MultiStepLR",
    "OneCycleLR",
    "StepLR",
]


class LRScheduler:
    """Base class of the schedulers; a subclass says in `get_lr` what the next rates are.

    Parameters
    ----------
    optimizer : Optimizer
        Whose ``param_groups[i]["lr"]`` is set.
    last_epoch : int, default -1
        The number of epochs (or batches) that are over, counted from 0; -1 to begin. To go on
        from a later one, the optimizer's groups must be those of an earlier run, through
        ``load_state_dict``.

    Attributes
    ----------
    last_epoch : int
    base_lrs : list of float
        The rate of each group at the beginning.

    Examples
    --------
    >>> from fastconv import Tensor, optim
    >>> class Inverse(optim.lr_scheduler.LRScheduler):
    ...     def get_lr(self):
    ...         return [lr / (1 + self.last_epoch) for lr in self.base_lrs]
    >>> optimizer = optim.SGD([Tensor([1.0])], lr=6.0)
    >>> scheduler = Inverse(optimizer)
    >>> for _ in range(2):
    ...     optimizer.step()
    ...     scheduler.step()
    >>> scheduler.get_last_lr()
    [2.0]
    """

    _unsaved = frozenset({"optimizer", "_is_initial"})

    def __init__(self, optimizer, last_epoch=-1):
        _check_optimizer(optimizer)
        self.optimizer = optimizer
        self.last_epoch = integer("last_epoch", last_epoch, -1)
        self._check_options()
        for i, group in enumerate(optimizer.param_groups):
            if self.last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            missing = [key for key in self._group_keys() if key not in group]
            if missing:
                raise ValueError(
                    f"last_epoch must be -1 unless optimizer.param_groups[{i}] has {missing} "
                    f"from an earlier run, got {last_epoch}"
                )
        self.base_lrs = [float(group["initial_lr"]) for group in optimizer.param_groups]
        self._is_initial = True
        self.step()
        self._is_initial = False

    def _check_options(self):
        """Raise unless the options, given or loaded, are possible; make them plain numbers."""

    def _group_keys(self):
        """What the optimizer's groups must have."""
        return ["initial_lr"]

    def get_lr(self):
        """The rates of epoch ``self.last_epoch``, one for each group; called by `step`.

        Returns
        -------
        list of float
        """
        # Schedules differ in this alone; there is no rate that all could fall back to.
        raise NotImplementedError(f"{type(self).__name__} must define get_lr")

    def get_last_lr(self):
        """The rates that were set last, one for each group.

        Returns
        -------
        list of float
        """
        return list(self._last_lr)

    def step(self):
        """Go on by one epoch (or batch, if that is how the schedule counts)."""
        groups = self.optimizer.param_groups
        self.last_epoch += 1
        try:
            lrs = self.get_lr()
            if len(lrs) != len(groups):
                raise ValueError(f"get_lr must return {len(groups)} rates, one a group, got {lrs}")
        except BaseException:
            self.last_epoch -= 1
            raise
        for group, lr in zip(groups, lrs, strict=True):
            group["lr"] = lr
        self._last_lr = [float(lr) for lr in lrs]

    def state_dict(self):
        """The scheduler's options and its place in the schedule.

        Returns
        -------
        dict
            Which JSON can hold. The rates in force are in the optimizer's own state dict.
        """
        return {
            key: copy.deepcopy(value)
            for key, value in vars(self).items()
            if key not in self._unsaved
        }

    def load_state_dict(self, state_dict):
        """Take over the options and the place of a scheduler of the same kind.

        Parameters
        ----------
        state_dict : dict
            What `state_dict` returned.

        Raises
        ------
        TypeError, ValueError
            If it does not fit this scheduler. Nothing has changed then.
        """
        keys = set(self.state_dict())
        if not isinstance(state_dict, Mapping) or set(state_dict) != keys:
            raise ValueError(f"state_dict must have {sorted(keys)}, got {state_dict!r}")
        loaded = copy.copy(self)
        vars(loaded).update(copy.deepcopy(dict(state_dict)))
        loaded.last_epoch = integer("last_epoch", loaded.last_epoch, 0)
        for name in ("base_lrs", "_last_lr"):
            lrs, n_groups = getattr(loaded, name), len(self.base_lrs)
            if not isinstance(lrs, list) or len(lrs) != n_groups:
                raise ValueError(f"{name} must be a list of {n_groups} rates, got {lrs!r}")
            setattr(loaded, name, _floats(name, lrs))
        loaded._check_options()
        vars(self).update(vars(loaded))

    def _lrs(self):
        """The rates in force."""
        return [group["lr"] for group in self.optimizer.param_groups]


class LambdaLR(LRScheduler):
    """The first rate, times a function of the epoch.

    Parameters
    ----------
    optimizer : Optimizer
    lr_lambda : callable, or list of callable
        From the epoch, an int from 0, to the factor; one for all groups or one for each. It is
        not part of the state dict.
    last_epoch : int, default -1
        See `LRScheduler`.

    Examples
    --------
    >>> from fastconv import Tensor, optim
    >>> optimizer = optim.SGD([Tensor([1.0])], lr=2.0)
    >>> scheduler = optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.5**epoch)
    >>> scheduler.step()
    >>> scheduler.get_last_lr()
    [1.0]
    """

    _unsaved = LRScheduler._unsaved | {"lr_lambdas"}

    def __init__(self, optimizer, lr_lambda, last_epoch=-1):
        _check_optimizer(optimizer)
        self.lr_lambdas = _per_group("lr_lambda", lr_lambda, optimizer)
        for function in self.lr_lambdas:
            if not callable(function):
                raise TypeError(f"lr_lambda must be a function of the epoch, got {function!r}")
        super().__init__(optimizer, last_epoch)

    def get_lr(self):
        return [
            base * function(self.last_epoch)
            for base, function in zip(self.base_lrs, self.lr_lambdas, strict=True)
        ]


class StepLR(LRScheduler):
    """Multiplies the rate by `gamma` every `step_size` epochs.

    Parameters
    ----------
    optimizer : Optimizer
    step_size : int
        At least 1.
    gamma : float, default 0.1
        At least 0.
    last_epoch : int, default -1
        See `LRScheduler`.

    Examples
    --------
    >>> from fastconv import Tensor, optim
    >>> optimizer = optim.SGD([Tensor([1.0])], lr=1.0)
    >>> scheduler = optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)
    >>> lrs = []
    >>> for _ in range(5):
    ...     lrs += scheduler.get_last_lr()
    ...     scheduler.step()
    >>> lrs
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """

    def __init__(self, optimizer, step_size, gamma=0.1, last_epoch=-1):
        self.step_size = step_size
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def _check_options(self):
        self.step_size = integer("step_size", self.step_size, 1)
        self.gamma = at_least("gamma", self.gamma, 0.0)

    def get_lr(self):
        if self.last_epoch == 0 or self.last_epoch % self.step_size:
            return self._lrs()
        return [lr * self.gamma for lr in self._lrs()]


class MultiStepLR(LRScheduler):
    """Multiplies the rate by `gamma` at given epochs.

    Parameters
    ----------
    optimizer : Optimizer
    milestones : iterable of int
        The epochs; one that is named n times counts n times.
    gamma : float, default 0.1
        At least 0.
    last_epoch : int, default -1
        See `LRScheduler`.

    Examples
    --------
    >>> from fastconv import Tensor, optim
    >>> optimizer = optim.SGD([Tensor([1.0])], lr=1.0)
    >>> scheduler = optim.lr_scheduler.MultiStepLR(optimizer, milestones=[1, 3], gamma=0.5)
    >>> lrs = []
    >>> for _ in range(5):
    ...     lrs += scheduler.get_last_lr()
    ...     scheduler.step()
    >>> lrs
    [1.0, 0.5, 0.5, 0.25, 0.25]
    """

    def __init__(self, optimizer, milestones, gamma=0.1, last_epoch=-1):
        self.milestones = milestones
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def _check_options(self):
        if not isinstance(self.milestones, Iterable) or isinstance(self.milestones, str):
            raise TypeError(f"milestones must be an iterable of ints, got {self.milestones!r}")
        self.milestones = sorted(integer("milestones", epoch, 0) for epoch in self.milestones)
        self.gamma = at_least("gamma", self.gamma, 0.0)

    def get_lr(self):
        factor = self.gamma ** self.milestones.count(self.last_epoch)
        return [lr * factor for lr in self._lrs()]


class CosineAnnealingLR(LRScheduler):
    """Half a cosine wave from the first rate down to `eta_min`, in `T_max` epochs; then back up.

    The rate r of epoch t follows from that of the epoch before,
    r_t - eta_min = (r_{t-1} - eta_min) (1 + cos(pi t / T_max)) / (1 + cos(pi (t-1) / T_max)),
    so that r_t = eta_min + (r_0 - eta_min) (1 + cos(pi t / T_max)) / 2 [1]_.

    Parameters
    ----------
    optimizer : Optimizer
    T_max : int
        At least 1.
    eta_min : float, default 0
        At least 0.
    last_epoch : int, default -1
        See `LRScheduler`.

    References
    ----------
    .. [1] I. Loshchilov, F. Hutter: SGDR: stochastic gradient descent with warm restarts.
       ICLR 2017.

    Examples
    --------
    >>> from fastconv import Tensor, optim
    >>> optimizer = optim.SGD([Tensor([1.0])], lr=1.0)
    >>> scheduler = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=2)
    >>> lrs = []
    >>> for _ in range(3):
    ...     lrs += [round(lr, 6) for lr in scheduler.get_last_lr()]
    ...     scheduler.step()
    >>> lrs
    [1.0, 0.5, 0.0]
    """

    def __init__(self, optimizer, T_max, eta_min=0.0, last_epoch=-1):
        self.T_max = T_max
        self.eta_min = eta_min
        super().__init__(optimizer, last_epoch)

    def _check_options(self):
        self.T_max = integer("T_max", self.T_max, 1)
        self.eta_min = at_least("eta_min", self.eta_min, 0.0)

    def get_lr(self):
        if self._is_initial:
            return self._lrs()
        t = self.last_epoch
        if (t - 1) % (2 * self.T_max) == self.T_max:
            # The wave was at its lowest point, where the recursion would divide 0 by 0.
            rise = (1 - math.cos(math.pi / self.T_max)) / 2
            return [
                lr + (base - self.eta_min) * rise
                for lr, base in zip(self._lrs(), self.base_lrs, strict=True)
            ]
        factor = (1 + math.cos(math.pi * t / self.T_max)) / (
            1 + math.cos(math.pi * (t - 1) / self.T_max)
        )
        return [factor * (lr - self.eta_min) + self.eta_min for lr in self._lrs()]


class OneCycleLR(LRScheduler):
    """Up to a high rate and down to a very low one, in one run; the momentum goes the other way.

    The rate climbs from ``max_lr / div_factor`` to ``max_lr`` in the first `pct_start` of the
    batches, while the momentum falls from `max_momentum` to `base_momentum`, and then falls to
    ``max_lr / div_factor / final_div_factor``, while the momentum climbs back [1]_. With
    `three_phase`, it falls as long as it climbed, to ``max_lr / div_factor``, and from there to
    the lowest rate at constant momentum. Call ``step()`` after every batch.

    Parameters
    ----------
    optimizer : Optimizer
    max_lr : float, or list of float
        For all groups or one for each; at least 0.
    total_steps : int, optional
        The number of batches. If it is not given, `epochs` times `steps_per_epoch`.
    epochs, steps_per_epoch : int, optional
    pct_start : float, default 0.3
        In [0, 1].
    anneal_strategy : {"cos", "linear"}, default "cos"
        The form of the climb and the fall.
    cycle_momentum : bool, default True
        Change the optimizer's ``momentum``, or the first of its ``betas``.
    base_momentum, max_momentum : float, or list of float, default 0.85 and 0.95
        In [0, 1).
    div_factor, final_div_factor : float, default 25 and 1e4
        Positive.
    three_phase : bool, default False
    last_epoch : int, default -1
        See `LRScheduler`; in batches. If it is not -1, `max_lr` and the momenta are those that
        the optimizer's groups remember.

    Raises
    ------
    ValueError
        By ``step()``, after more than `total_steps` of them.

    References
    ----------
    .. [1] L. N. Smith, N. Topin: Super-convergence: very fast training of neural networks using
       large learning rates. arXiv:1708.07120.

    Examples
    --------
    >>> from fastconv import Tensor, optim
    >>> optimizer = optim.SGD([Tensor([1.0])], lr=1.0, momentum=0.9)
    >>> scheduler = optim.lr_scheduler.OneCycleLR(
    ...     optimizer, max_lr=1.0, total_steps=5, pct_start=0.6, anneal_strategy="linear"
    ... )
    >>> lrs = []
    >>> for _ in range(5):
    ...     lrs += [round(lr, 2) for lr in scheduler.get_last_lr()]
    ...     scheduler.step()
    >>> lrs
    [0.04, 0.52, 1.0, 0.5, 0.0]
    """

    def __init__(
        self,
        optimizer,
        max_lr,
        total_steps=None,
        epochs=None,
        steps_per_epoch=None,
        pct_start=0.3,
        anneal_strategy="cos",
        cycle_momentum=True,
        base_momentum=0.85,
        max_momentum=0.95,
        div_factor=25.0,
        final_div_factor=1e4,
        three_phase=False,
        last_epoch=-1,
    ):
        _check_optimizer(optimizer)
        self.optimizer = optimizer
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ValueError(
                    "total_steps, or both epochs and steps_per_epoch, must be given, got "
                    f"epochs {epochs} and steps_per_epoch {steps_per_epoch}"
                )
            total_steps = integer("epochs", epochs, 1) * integer(
                "steps_per_epoch", steps_per_epoch, 1
            )
        self.total_steps = total_steps
        self.pct_start = pct_start
        self.anneal_strategy = anneal_strategy
        self.cycle_momentum = cycle_momentum
        self.three_phase = three_phase
        self._check_options()
        max_lrs = _floats("max_lr", _per_group("max_lr", max_lr, optimizer))
        momenta = {
            name: _floats(name, _per_group(name, value, optimizer), below=1.0)
            for name, value in [("max_momentum", max_momentum), ("base_momentum", base_momentum)]
        }
        for name, factor in [("div_factor", div_factor), ("final_div_factor", final_div_factor)]:
            if real(name, factor) <= 0:
                raise ValueError(f"{name} must be positive, got {factor}")
        if integer("last_epoch", last_epoch, -1) == -1:
            for i, group in enumerate(optimizer.param_groups):
                group["initial_lr"] = max_lrs[i] / div_factor
                group["max_lr"] = max_lrs[i]
                group["min_lr"] = group["initial_lr"] / final_div_factor
                if cycle_momentum:
                    group.update({name: values[i] for name, values in momenta.items()})
        super().__init__(optimizer, last_epoch)

    def _check_options(self):
        self.total_steps = integer("total_steps", self.total_steps, 1)
        self.pct_start = real("pct_start", self.pct_start)
        if not 0 <= self.pct_start <= 1:
            raise ValueError(f"pct_start must be in [0, 1], got {self.pct_start}")
        one_of("anneal_strategy", self.anneal_strategy, ("cos", "linear"))
        self.three_phase = boolean("three_phase", self.three_phase)
        self.cycle_momentum = boolean("cycle_momentum", self.cycle_momentum)
        if self.cycle_momentum and not {"momentum", "betas"} & self.optimizer.defaults.keys():
            raise ValueError(
                "cycle_momentum must be False for an optimizer without momentum or betas, "
                f"got {self.cycle_momentum} for {type(self.optimizer).__name__}"
            )

    def _group_keys(self):
        momenta = ["max_momentum", "base_momentum"] if self.cycle_momentum else []
        return ["initial_lr", "max_lr", "min_lr", *momenta]

    def get_lr(self):
        if self.last_epoch > self.total_steps:
            raise ValueError(
                f"step() must be called at most total_steps = {self.total_steps} times, "
                f"got call {self.last_epoch}"
            )
        (begin, end), lrs, momenta = self._phase()
        # A phase without a batch of its own is at its end.
        done = (self.last_epoch - begin) / (end - begin) if end != begin else 1.0
        groups = self.optimizer.param_groups
        if self.cycle_momentum:
            for group in groups:
                momentum = self._between(*(group[key] for key in momenta), done)
                if "betas" in self.optimizer.defaults:
                    group["betas"] = (momentum, *group["betas"][1:])
                else:
                    group["momentum"] = momentum
        return [self._between(*(group[key] for key in lrs), done) for group in groups]

    def _phase(self):
        """The present phase: its first and last batch; rates and momenta, keys of the groups."""
        peak = self.pct_start * self.total_steps - 1
        last = self.total_steps - 1
        climb = (0, peak), ("initial_lr", "max_lr"), ("max_momentum", "base_momentum")
        if self.three_phase:
            fall_end = 2 * self.pct_start * self.total_steps - 2
            phases = [
                climb,
                ((peak, fall_end), ("max_lr", "initial_lr"), ("base_momentum", "max_momentum")),
                ((fall_end, last), ("initial_lr", "min_lr"), ("max_momentum", "max_momentum")),
            ]
        else:
            phases = [
                climb,
                ((peak, last), ("max_lr", "min_lr"), ("base_momentum", "max_momentum")),
            ]
        for phase in phases[:-1]:
            if self.last_epoch <= phase[0][1]:
                return phase
        return phases[-1]

    def _between(self, start, end, done):
        """From `start`, where `done` is 0, to `end`, where it is 1."""
        if self.anneal_strategy == "cos":
            return end + (start - end) / 2 * (1 + math.cos(math.pi * done))
        return start + (end - start) * done


def _check_optimizer(optimizer):
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer must be an Optimizer, got {type(optimizer).__name__}")


def _per_group(name, value, optimizer):
    """`value` as a list with an item for each parameter group."""
    n_groups = len(optimizer.param_groups)
    if not isinstance(value, (list, tuple)):
        return [value] * n_groups
    if len(value) != n_groups:
        raise ValueError(f"{name} must have {n_groups} items, one a group, got {value!r}")
    return list(value)


def _floats(name, values, below=math.inf):
    """The `values`, which must be in [0, below), as floats."""
    return [at_least(f"{name}[{i}]", value, 0.0, below) for i, value in enumerate(values)]
