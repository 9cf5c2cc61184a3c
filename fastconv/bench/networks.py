"""The networks that are measured, each written once for fastconv and for PyTorch.

A builder takes a namespace of layers, :mod:`fastconv.nn` or ``torch.nn``, and a class of residual
blocks; what it builds has the same names in its state dict either way.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import fastconv
from fastconv import nn
from fastconv.bench.layers import CIFAR18, DILATED, LENET, MOBILENET, RESNET, RESNET_V15, VGG

__all__ = [
    "NETWORKS",
    "Network",
    "basic_block",
    "resnet",
    "signal_stem",
    "small_stem",
    "torch_network",
]


@dataclass(frozen=True)
class Network:
    """`build` takes layers and a class of residual blocks; `shape` is that of one input."""

    name: str
    origin: str
    build: Callable
    shape: tuple[int, ...]
    classes: int = 10

    def inputs(self, batch, seed=0):
        """Normal values, (N, C, *spatial), C-contiguous."""
        rng = np.random.default_rng(seed)
        return rng.standard_normal((batch, *self.shape), np.float32)

    def labels(self, batch):
        """The classes of as many inputs."""
        return np.random.default_rng(1).integers(self.classes, size=batch)

    def model(self):
        """The network in fastconv, with weights of He et al. 2015, arXiv:1502.01852.

        Batch normalisation scales and shifts by random values, and has the statistics of two
        random inputs, so that values stay of order 1 in evaluation too.
        """
        model = self.build(nn, nn.Residual)
        rng = np.random.default_rng(2)
        for parameter in model.parameters():
            values = rng.standard_normal(parameter.shape, np.float32)
            if parameter.ndim > 1:
                values *= math.sqrt(2 / math.prod(parameter.shape[1:]))
            else:
                values *= 0.1
            parameter.data[...] = values
        norms = [module for module in model.modules() if hasattr(module, "running_mean")]
        for norm in norms:
            norm.weight.data += 1
            norm.momentum = 1.0
        with fastconv.no_grad():
            model(self.inputs(2, seed=3))
        for norm in norms:
            norm.momentum = 0.1
        return model


def torch_network(network, torch, state=None):
    """The network in PyTorch, with the arrays of a state dict or PyTorch's own."""

    class Residual(torch.nn.Module):
        def __init__(self, main, shortcut=None):
            super().__init__()
            self.main, self.shortcut = main, shortcut

        def forward(self, input):
            return self.main(input) + (input if self.shortcut is None else self.shortcut(input))

    model = network.build(torch.nn, Residual)
    if state is not None:
        model.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    return model


# Builders -----------------------------------------------------------------------------------


def normalized(nn, inputs, outputs, kernel, stride=1, groups=1, relu="ReLU", axes=2):
    """Layers: a convolution, batch normalisation, and `relu` where it is not None."""
    conv, norm = getattr(nn, f"Conv{axes}d"), getattr(nn, f"BatchNorm{axes}d")
    yield conv(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    yield norm(outputs)
    if relu is not None:
        yield getattr(nn, relu)(inplace=True)


def classifier(nn, features, classes, axes=2):
    """Layers: the mean of each channel, and a dense layer."""
    mean = getattr(nn, f"AdaptiveAvgPool{axes}d")
    return mean(1), nn.Flatten(), nn.Linear(features, classes)


def lenet(nn, residual):
    return nn.Sequential(
        nn.Conv2d(1, 32, 5, padding=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5, padding=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 7 * 7, 128),
        nn.ReLU(inplace=True),
        nn.Linear(128, 10),
    )


def basic_block(nn, inputs, width, stride, axes):
    """(layers of the main branch, their outputs)"""
    first = normalized(nn, inputs, width, 3, stride, axes=axes)
    return [*first, *normalized(nn, width, width, 3, relu=None, axes=axes)], width


def bottleneck_block(nn, inputs, width, stride, axes):
    """(layers of the main branch, their outputs)"""
    outputs = 4 * width
    layers = [
        *normalized(nn, inputs, width, 1, axes=axes),
        *normalized(nn, width, width, 3, stride, axes=axes),
        *normalized(nn, width, outputs, 1, relu=None, axes=axes),
    ]
    return layers, outputs


def resnet(stem, block, stages, classes, nn, residual, axes=2):
    """Residual stages of (width, blocks); all but the first start with stride 2."""
    layers, channels = stem(nn, stages[0][0]), stages[0][0]
    for stage, (width, blocks) in enumerate(stages):
        for number in range(blocks):
            stride = 2 if stage and not number else 1
            main, outputs = block(nn, channels, width, stride, axes)
            shortcut = None
            if stride > 1 or outputs != channels:
                projection = normalized(nn, channels, outputs, 1, stride, relu=None, axes=axes)
                shortcut = nn.Sequential(*projection)
            layers += [residual(nn.Sequential(*main), shortcut), nn.ReLU(inplace=True)]
            channels = outputs
    return nn.Sequential(*layers, *classifier(nn, channels, classes, axes))


def small_stem(nn, width, inputs=3, stride=1):
    """The first layers for small images: one 3x3 convolution."""
    return [*normalized(nn, inputs, width, 3, stride)]


def large_stem(nn, width):
    return [*normalized(nn, 3, width, 7, 2), nn.MaxPool2d(3, 2, 1)]


def signal_stem(nn, width):
    """The first layers for sound: 25 taps of stride 4, and the largest of four."""
    return [*normalized(nn, 1, width, 25, 4, axes=1), nn.MaxPool1d(4)]


def mobilenet(nn, residual):
    layers, channels = [*normalized(nn, 3, 32, 3, 2, relu="ReLU6")], 32
    for expansion, outputs, blocks, first_stride in (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ):
        for number in range(blocks):
            stride, width = 1 if number else first_stride, expansion * channels
            expanded = normalized(nn, channels, width, 1, relu="ReLU6") if expansion > 1 else ()
            main = nn.Sequential(
                *expanded,
                *normalized(nn, width, width, 3, stride, groups=width, relu="ReLU6"),
                *normalized(nn, width, outputs, 1, relu=None),
            )
            layers.append(residual(main) if stride == 1 and channels == outputs else main)
            channels = outputs
    layers += normalized(nn, channels, 1280, 1, relu="ReLU6")
    return nn.Sequential(*layers, *classifier(nn, 1280, 1000))


def vgg(nn, residual):
    """Without dropout, which evaluation leaves out."""
    layers, channels = [], 3
    for width, convolutions in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(convolutions):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
            channels = width
        layers.append(nn.MaxPool2d(2))
    layers.append(nn.Flatten())
    for inputs in (512 * 7 * 7, 4096):
        layers += [nn.Linear(inputs, 4096), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Linear(4096, 1000))


def dilated(nn, residual):
    def convolution(inputs, dilation=1):
        conv = nn.Conv1d(inputs, 48, 3, padding=dilation, dilation=dilation, bias=False)
        return conv, nn.BatchNorm1d(48)

    layers = [*convolution(1), nn.ReLU(inplace=True)]
    for block in range(6):
        first, second = convolution(48, 2**block), convolution(48, 2**block)
        main = nn.Sequential(*first, nn.ReLU(inplace=True), *second)
        layers += [residual(main), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(48, 10))


IMAGENET = (3, 224, 224), 1000
CIFAR = (3, 32, 32)
EIGHTEEN = [(64, 2), (128, 2), (256, 2), (512, 2)]
FIFTY = [(64, 3), (128, 4), (256, 6), (512, 3)]
TWENTY = [(16, 3), (32, 3), (64, 3)]
NETWORKS = {
    network.name: network
    for network in (
        Network("LeNet", LENET, lenet, (1, 28, 28)),
        Network(
            "ResNet-20",
            f"{RESNET}, section 4.2, with projections",
            functools.partial(resnet, small_stem, basic_block, TWENTY, 10),
            CIFAR,
        ),
        Network(
            "ResNet-18 CIFAR",
            CIFAR18,
            functools.partial(resnet, small_stem, basic_block, EIGHTEEN, 10),
            CIFAR,
        ),
        Network("1-D", DILATED, dilated, (1, 2048)),
        Network(
            "ResNet-18",
            RESNET,
            functools.partial(resnet, large_stem, basic_block, EIGHTEEN, 1000),
            *IMAGENET,
        ),
        Network(
            "ResNet-50",
            RESNET_V15,
            functools.partial(resnet, large_stem, bottleneck_block, FIFTY, 1000),
            *IMAGENET,
        ),
        Network("MobileNetV2", MOBILENET, mobilenet, *IMAGENET),
        Network("VGG-16", VGG, vgg, *IMAGENET),
    )
}
