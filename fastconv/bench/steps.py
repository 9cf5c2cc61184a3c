"""A training step of a network, in fastconv and in PyTorch."""

import fastconv.functional as F
from fastconv import optim

__all__ = ["fastconv_step", "torch_step"]

OPTIONS = {"lr": 0.01, "momentum": 0.9, "weight_decay": 1e-4}  # of SGD


def fastconv_step(model, x, labels):
    """A call that trains `model` by one step, and returns the loss and a list of gradients."""
    optimizer = optim.SGD(model.parameters(), **OPTIONS)

    def step():
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        return loss.data, [parameter.grad for parameter in model.parameters()]

    return step


def torch_step(torch, model, x, labels):
    """The same of PyTorch's model and tensors."""
    optimizer = torch.optim.SGD(model.parameters(), **OPTIONS)

    def step():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        return loss.detach(), [parameter.grad for parameter in model.parameters()]

    return step
