"""The architectures that can be named, and so saved and loaded as a whole."""

import numpy as np

from fastconv import _checks, nn
from fastconv.io import load, load_metadata

__all__ = ["ARCHITECTURES", "build", "lenet", "load_model", "resnet"]


def _conv(n):
    return (nn.Conv1d, nn.Conv2d, nn.Conv3d)[n - 1]


def _norm(n):
    return (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[n - 1]


def resnet(in_channels, num_classes, widths=(16, 32, 64), blocks=2, stem_stride=1, spatial_dims=2):
    """A residual network [1]_ for small images, signals or volumes of any size.

    A 3-tap stem, then for every width `blocks` residual blocks of two 3-tap convolutions with
    batch normalisation; every stage but the first halves the image. Global average pooling
    and a dense layer end it.

    Parameters
    ----------
    in_channels, num_classes : int
    widths : sequence of int, default (16, 32, 64)
        Channels of the stages.
    blocks : int, default 2
        Blocks of each stage.
    stem_stride : int, default 1
        Stride of the first convolution: 2 quarters the work on large images.
    spatial_dims : {1, 2, 3}, default 2

    Returns
    -------
    Sequential

    References
    ----------
    .. [1] K. He, X. Zhang, S. Ren, J. Sun, "Deep Residual Learning for Image Recognition",
       CVPR 2016, section 4.2.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> net = fastconv.models.resnet(1, 10).eval()
    >>> net(np.zeros((2, 1, 28, 28), np.float32)).shape
    (2, 10)
    >>> net(np.zeros((1, 1, 50, 41), np.float32)).shape
    (1, 10)
    """
    n = _checks.integer("spatial_dims", spatial_dims, minimum=1)
    _checks.one_of("spatial_dims", n, (1, 2, 3))
    if not _checks.is_sequence(widths) or not len(widths):
        raise ValueError(f"widths must be a sequence of at least one int, got {widths!r}")
    widths = _checks.integers("widths", widths, len(widths), minimum=1)
    blocks = _checks.integer("blocks", blocks, minimum=1)
    stem_stride = _checks.integer("stem_stride", stem_stride, minimum=1)
    conv, norm = _conv(n), _norm(n)
    width = widths[0]
    stem = conv(in_channels, width, 3, stem_stride, padding=1, bias=False)
    layers = [stem, norm(width), nn.ReLU()]
    for stage, wider in enumerate(widths):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            main = nn.Sequential(
                conv(width, wider, 3, stride, padding=1, bias=False),
                norm(wider),
                nn.ReLU(),
                conv(wider, wider, 3, padding=1, bias=False),
                norm(wider),
            )
            shortcut = None
            if stride != 1 or width != wider:
                shortcut = nn.Sequential(conv(width, wider, 1, stride, bias=False), norm(wider))
            layers += [nn.Residual(main, shortcut), nn.ReLU()]
            width = wider
    pool = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)[n - 1]
    return nn.Sequential(*layers, pool(1), nn.Flatten(), nn.Linear(width, num_classes))


def lenet(in_channels, num_classes, widths=(32, 64), hidden=128):
    """Two 5x5 convolutions with max-pooling, and two dense layers (after LeCun et al., 1998).

    Parameters
    ----------
    in_channels, num_classes : int
    widths : (int, int), default (32, 64)
        Channels of the convolutions.
    hidden : int, default 128

    Returns
    -------
    Sequential
        For images of any size: the last maps are averaged to 4x4.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.models.lenet(1, 10)(np.zeros((2, 1, 28, 28), np.float32)).shape
    (2, 10)
    """
    first, second = _checks.integers("widths", widths, 2, minimum=1)
    return nn.Sequential(
        nn.Conv2d(in_channels, first, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(first, second, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(second * 16, hidden),
        nn.ReLU(),
        nn.Linear(hidden, num_classes),
    )


ARCHITECTURES = {"lenet": lenet, "resnet": resnet}


def build(architecture, arguments):
    """The network of an architecture's name and keyword arguments.

    It remembers both (``model.architecture``), so that :func:`fastconv.save` stores them.

    Examples
    --------
    >>> import fastconv
    >>> net = fastconv.models.build("lenet", {"in_channels": 1, "num_classes": 10})
    >>> net.architecture["name"]
    'lenet'
    """
    _checks.one_of("architecture", architecture, tuple(ARCHITECTURES))
    try:
        model = ARCHITECTURES[architecture](**arguments)
    except TypeError as error:
        raise ValueError(f"arguments {arguments} do not fit {architecture}: {error}") from None
    model.architecture = {"name": architecture, "arguments": dict(arguments)}
    return model


def load_model(path):
    """Rebuild the network that a file holds, with its weights.

    Parameters
    ----------
    path : str or os.PathLike
        An ``.npz`` or ``.safetensors`` file that :func:`fastconv.save` wrote of a network from
        :func:`build`, as ``fastconv train`` does.

    Returns
    -------
    Module
        In evaluation mode.

    Raises
    ------
    ValueError
        If the file names no architecture, or its arrays do not fit the one it names; the
        message names the file, the array and both shapes.

    Examples
    --------
    >>> import os, tempfile, fastconv
    >>> net = fastconv.models.build("resnet", {"in_channels": 1, "num_classes": 10})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "net.npz")
    ...     fastconv.save(net, path)
    ...     same = fastconv.load_model(path)
    >>> bool((same[0].weight.data == net[0].weight.data).all())
    True
    """
    architecture = load_metadata(path).get("architecture")
    if not (
        isinstance(architecture, dict)
        and isinstance(architecture.get("name"), str)
        and isinstance(architecture.get("arguments"), dict)
    ):
        raise ValueError(
            f"{path} names no architecture; build the network yourself and give it "
            "load_state_dict(fastconv.load(path))"
        )
    try:
        model = build(architecture["name"], architecture["arguments"])
        state = load(path)
        if any(array.dtype == np.float64 for array in state.values()):
            model.double()
        model.load_state_dict(state)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None
    return model.eval()
