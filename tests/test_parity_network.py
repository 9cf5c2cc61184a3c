"""A residual network in PyTorch and in fastconv, trained from the same weights on the same data."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

import fastconv
import fastconv.functional as F
from fastconv import nn, optim

torch = pytest.importorskip("torch")

STEPS = 5


class TheirResidual(torch.nn.Module):
    def __init__(self, main, shortcut=None):
        super().__init__()
        self.main = main
        if shortcut is not None:
            self.shortcut = shortcut

    def forward(self, x):
        return self.main(x) + (self.shortcut(x) if hasattr(self, "shortcut") else x)


def network(nn, residual):
    """Every kind of layer that a classifier is made of; biases, where no norm would undo them."""

    def block(width, wider, stride):
        main = nn.Sequential(
            nn.Conv2d(width, wider, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(wider),
            nn.ReLU(inplace=True),
            nn.Conv2d(wider, wider, (3, 1), padding=(1, 0), groups=2, bias=False),
            nn.BatchNorm2d(wider, momentum=None),
        )
        if stride == 1:
            return residual(main)
        return residual(
            main,
            nn.Sequential(
                nn.Conv2d(width, wider, 1, stride, bias=False),
                nn.BatchNorm2d(wider),
            ),
        )

    return nn.Sequential(
        nn.Conv2d(3, 8, 5, padding=4, dilation=2, padding_mode="circular"),
        nn.LeakyReLU(0.1),
        nn.MaxPool2d(3, 2, padding=1),
        block(8, 8, 1),
        nn.ReLU(),
        block(8, 12, 2),
        nn.ReLU(),
        nn.AvgPool2d(2, ceil_mode=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(12, 6),
        nn.LPPool1d(2, 2),
        nn.Linear(3, 5),
    )


OPTIMIZERS = {
    "SGD": lambda optim, parameters: optim.SGD(parameters, lr=0.05),
    "SGD, momentum, decay": lambda optim, parameters: optim.SGD(
        parameters, lr=0.05, momentum=0.9, weight_decay=1e-2
    ),
    "SGD, Nesterov": lambda optim, parameters: optim.SGD(
        parameters, lr=0.05, momentum=0.9, weight_decay=1e-2, nesterov=True
    ),
    "Adam": lambda optim, parameters: optim.Adam(parameters, lr=1e-3, weight_decay=1e-2),
    "AdamW": lambda optim, parameters: optim.AdamW(parameters, lr=1e-3, weight_decay=1e-2),
}
# Relative to the largest value of an array. Adam divides gradients by their own size, so where
# they are nearly zero rounding decides on a step of the whole learning rate.
TOLERANCES = {
    (np.float64, "SGD"): 1e-9,
    (np.float64, "Adam"): 1e-9,
    (np.float32, "SGD"): 1e-3,
    (np.float32, "Adam"): 1e-2,
}


def data(dtype):
    rng = np.random.default_rng(5)
    x = rng.standard_normal((STEPS, 8, 3, 13, 10)).astype(dtype)
    return list(zip(x, rng.integers(0, 5, (STEPS, 8)), strict=True))


def train_theirs(dtype, optimizer):
    torch.manual_seed(0)
    net = network(torch.nn, TheirResidual).to(getattr(torch, np.dtype(dtype).name))
    start = {name: tensor.numpy().copy() for name, tensor in net.state_dict().items()}
    optimizer = optimizer(torch.optim, net.parameters())
    losses = []
    for x, y in data(dtype):
        loss = torch.nn.functional.cross_entropy(
            net(torch.tensor(x)), torch.tensor(y), label_smoothing=0.1
        )
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    state = {name: tensor.numpy() for name, tensor in net.state_dict().items()}
    net.eval()
    with torch.no_grad():
        return start, losses, state, net(torch.tensor(data(dtype)[0][0])).numpy()


def train_ours(dtype, optimizer, start):
    net = network(nn, nn.Residual).astype(dtype)
    net.load_state_dict(start)
    optimizer = optimizer(optim, net.parameters())
    losses = []
    for x, y in data(dtype):
        loss = F.cross_entropy(net(x), y, label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses, net.state_dict(), net.eval()(data(dtype)[0][0]).data


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_training_gives_the_same_losses_weights_and_statistics(name, dtype):
    start, losses, state, logits = train_theirs(dtype, OPTIMIZERS[name])
    our_losses, our_state, our_logits = train_ours(dtype, OPTIMIZERS[name], start)
    tolerance = TOLERANCES[dtype, name.split(",")[0].removesuffix("W")]
    assert_allclose(our_losses, losses, rtol=tolerance)
    assert list(our_state) == list(state)
    for key, array in state.items():
        assert our_state[key].dtype == array.dtype
        largest = np.abs(array).max()
        assert_allclose(our_state[key], array, rtol=0, atol=tolerance * largest, err_msg=key)
    assert_allclose(our_logits, logits, rtol=0, atol=tolerance * np.abs(logits).max())
    # The comparison means something only if training moved everything.
    for key, array in start.items():
        assert not np.array_equal(array, state[key]), key


def test_parameters_come_in_the_same_order():
    # What an optimiser's state dict counts on.
    ours, theirs = network(nn, nn.Residual), network(torch.nn, TheirResidual)
    names = [name for name, _ in theirs.named_parameters()]
    assert [name for name, _ in ours.named_parameters()] == names


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_weights_of_torch_come_through_a_file(suffix, tmp_path):
    torch.manual_seed(0)
    theirs = network(torch.nn, TheirResidual)
    path = tmp_path / f"weights{suffix}"
    fastconv.save({name: tensor.numpy() for name, tensor in theirs.state_dict().items()}, path)
    ours = network(nn, nn.Residual)
    assert ours.load_state_dict(fastconv.load(path)) == ([], [])
    x = data(np.float32)[0][0]
    with torch.no_grad():
        expected = theirs.eval()(torch.tensor(x)).numpy()
    assert_allclose(ours.eval()(x).data, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
