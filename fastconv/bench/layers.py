"""The layers that are measured: shapes of published networks, arrays to fill them, and plans."""

import math
from dataclasses import dataclass

import numpy as np

from fastconv import _geometry
from fastconv._plan import Shape, plan_correlation, plan_weight_gradient

__all__ = ["LAYERS", "Layer"]


@dataclass(frozen=True)
class Layer:
    """One convolution with bias; sizes are per axis, stride, padding and dilation too."""

    network: str
    origin: str
    batch: int
    inputs: int
    outputs: int
    size: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: int = 1
    padding: tuple[int, ...] = ()
    dilation: int = 1
    groups: int = 1
    quick: bool = False

    @property
    def n(self):
        """Number of spatial axes."""
        return len(self.size)

    @property
    def name(self):
        kernel = "x".join(map(str, self.kernel)) + (" taps" if self.n == 1 else "")
        size = "x".join(map(str, self.size if len(set(self.size)) > 1 else self.size[:1]))
        channels = f"{self.inputs}->{self.outputs}" if self.groups == 1 else f"{self.inputs}"
        parts = [self.network, kernel, channels, f"@{size}"]
        if self.stride > 1:
            parts.append(f"stride {self.stride}")
        if self.dilation > 1:
            parts.append(f"dilation {self.dilation}")
        if self.groups > 1:
            depthwise = self.groups == self.inputs
            parts.append("depthwise" if depthwise else f"{self.groups} groups")
        return " ".join([*parts, f"batch {self.batch}"])

    @property
    def options(self):
        """Arguments of a convolution besides the arrays."""
        return {
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "groups": self.groups,
        }

    @property
    def input_shape(self):
        return (self.batch, self.inputs, *self.size)

    @property
    def weight_shape(self):
        return (self.outputs, self.inputs // self.groups, *self.kernel)

    @property
    def output_shape(self):
        spatial = (
            (size + 2 * pad - self.dilation * (taps - 1) - 1) // self.stride + 1
            for size, pad, taps in zip(self.size, self.padding, self.kernel, strict=True)
        )
        return (self.batch, self.outputs, *spatial)

    @property
    def flops(self):
        """Operations of the forward pass, two for each multiplication of the definition."""
        return 2 * math.prod(self.output_shape) * math.prod(self.weight_shape[1:])

    def arrays(self, dtype=np.float32):
        """(x, w, b, dy), C-contiguous, with outputs of about unit variance."""
        rng = np.random.default_rng(0)
        fan_in = math.prod(self.weight_shape[1:])
        x = rng.standard_normal(self.input_shape, np.float32)
        w = rng.standard_normal(self.weight_shape, np.float32) / np.float32(math.sqrt(fan_in))
        b = rng.standard_normal(self.outputs, np.float32)
        dy = rng.standard_normal(self.output_shape, np.float32)
        return tuple(array.astype(dtype, copy=False) for array in (x, w, b, dy))

    def plans(self, algorithm):
        """Of float32: [the forward plan], those of the gradient by input, [that by weight].

        The gradient by input has one for each phase of the stride.
        """
        geometry = _geometry.convolution(
            self.size, self.kernel, self.stride, self.padding, self.dilation
        )
        outputs, channels = self.outputs // self.groups, self.inputs // self.groups
        shape = Shape(self.batch, self.groups, outputs, channels, itemsize=4)
        mirrored = shape._replace(outputs=channels, channels=outputs)
        return (
            [plan_correlation(shape, geometry.frame, algorithm)],
            [
                plan_correlation(mirrored, frame, algorithm)
                for frame, _ in geometry.transposed_frames
            ],
            [plan_weight_gradient(shape, geometry.frame, algorithm)],
        )


def layer(network, origin, batch, channels, size, kernel, **options):
    """A layer padded to keep its size (but for the stride), from numbers where axes agree."""
    inputs, outputs = channels
    size = size if isinstance(size, tuple) else (size, size)
    kernel = kernel if isinstance(kernel, tuple) else (kernel,) * len(size)
    dilation = options.get("dilation", 1)
    padding = tuple(dilation * (taps - 1) // 2 for taps in kernel)
    return Layer(network, origin, batch, inputs, outputs, size, kernel, padding=padding, **options)


RESNET = "He et al. 2016, arXiv:1512.03385"
RESNET_V15 = "as in torchvision: He et al.'s network with the stride on the 3x3 layer"
RESNEXT = "Xie et al. 2017, arXiv:1611.05431, the 32x4d network"
VGG = "Simonyan and Zisserman 2015, arXiv:1409.1556, configuration D"
CIFAR18 = "the customary CIFAR form of He et al.'s ResNet-18: 3x3 stem, no stem pooling"
LENET = "LeCun et al. 1998 (LeNet-5), widened to 32 and 64 channels as in MNIST tutorials"
MOBILENET = "Sandler et al. 2018, arXiv:1801.04381"
DILATED = "in the manner of WaveNet (arXiv:1609.03499) and TCN (arXiv:1803.01271)"
SIGNAL = "a first layer on one-channel signals, after Kiranyaz et al. 2021, arXiv:1905.03554"
UNET3D = "Çiçek et al. 2016 (3-D U-Net), arXiv:1606.06650, 32 channels kept, a crop"

LAYERS = (
    layer("ResNet", f"{RESNET}, conv1", 4, (3, 64), 224, 7, stride=2),
    layer("ResNet", f"{RESNET}, conv2_x", 4, (64, 64), 56, 3, quick=True),
    layer("ResNet", f"{RESNET}, conv3_x", 4, (128, 128), 28, 3),
    layer("ResNet", f"{RESNET}, conv4_x", 4, (256, 256), 14, 3),
    layer("ResNet", f"{RESNET}, conv5_x", 4, (512, 512), 7, 3),
    layer("ResNet-18", f"{RESNET}, conv3_1", 4, (64, 128), 56, 3, stride=2),
    layer("ResNet-18", f"{RESNET}, shortcut of conv3_1", 4, (64, 128), 56, 1, stride=2),
    layer("ResNet-50", f"{RESNET_V15}, conv3_1", 4, (128, 128), 56, 3, stride=2),
    layer("ResNet-50", f"{RESNET_V15}, conv4_1", 4, (256, 256), 28, 3, stride=2),
    layer("ResNet-50", f"{RESNET}, conv2_x", 4, (64, 256), 56, 1),
    layer("ResNet-50", f"{RESNET}, conv2_x", 4, (256, 64), 56, 1),
    layer("ResNet-50", f"{RESNET}, conv4_x", 4, (1024, 256), 14, 1, quick=True),
    layer("ResNeXt-50", f"{RESNEXT}, conv2", 4, (128, 128), 56, 3, groups=32),
    layer("VGG-16", f"{VGG}, conv1-1", 1, (3, 64), 224, 3),
    layer("VGG-16", f"{VGG}, conv3-2", 1, (256, 256), 56, 3),
    layer("VGG-16", f"{VGG}, conv4-2", 1, (512, 512), 28, 3),
    layer("ResNet-20", f"{RESNET}, section 4.2, stem", 128, (3, 16), 32, 3),
    layer("ResNet-20", f"{RESNET}, section 4.2", 128, (16, 16), 32, 3),
    layer("ResNet-20", f"{RESNET}, section 4.2", 128, (16, 32), 32, 3, stride=2),
    layer("ResNet-20", f"{RESNET}, section 4.2", 128, (32, 32), 16, 3),
    layer("ResNet-20", f"{RESNET}, section 4.2", 128, (64, 64), 8, 3, quick=True),
    layer("ResNet-18 CIFAR", CIFAR18, 32, (64, 64), 32, 3),
    layer("ResNet-18 CIFAR", CIFAR18, 32, (128, 128), 16, 3),
    layer("ResNet-18 CIFAR", CIFAR18, 32, (256, 256), 8, 3),
    layer("ResNet-18 CIFAR", CIFAR18, 32, (512, 512), 4, 3),
    layer("LeNet", f"{LENET}, first layer", 128, (1, 32), 28, 5),
    layer("LeNet", f"{LENET}, second layer", 128, (32, 64), 14, 5),
    layer(
        "MobileNetV2",
        f"{MOBILENET}, second bottleneck",
        1,
        (96, 96),
        112,
        3,
        stride=2,
        groups=96,
    ),
    layer(
        "MobileNetV2",
        f"{MOBILENET}, second bottleneck, but with stride 1",
        1,
        (96, 96),
        112,
        3,
        groups=96,
    ),
    layer("MobileNetV2", f"{MOBILENET}, third bottleneck", 4, (144, 144), 56, 3, groups=144),
    layer(
        "MobileNetV2",
        f"{MOBILENET}, bottlenecks at 14 of 64 channels",
        1,
        (384, 384),
        14,
        3,
        groups=384,
        quick=True,
    ),
    layer("MobileNetV2", f"{MOBILENET}, second bottleneck", 1, (16, 96), 112, 1),
    layer("MobileNetV2", f"{MOBILENET}, second bottleneck", 1, (96, 24), 56, 1),
    layer("1-D", DILATED, 16, (48, 48), (2048,), 3, dilation=8, quick=True),
    layer("1-D", SIGNAL, 32, (1, 16), (4096,), 7),
    layer("3-D", UNET3D, 1, (32, 32), (32, 48, 48), 3),
    layer("odd", "none: no count is a multiple of a register block", 8, (37, 53), (29, 43), (3, 5)),
)
