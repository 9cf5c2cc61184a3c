"""Optimizers and learning rate schedules, with the names and the equations of ``torch.optim``."""

from fastconv.optim import lr_scheduler
from fastconv.optim.adam import Adam, AdamW
from fastconv.optim.optimizer import Optimizer, pack_state, unpack_state
from fastconv.optim.sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "lr_scheduler", "pack_state", "unpack_state"]
