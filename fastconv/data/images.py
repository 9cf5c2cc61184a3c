"""Image files, read with Pillow."""

import contextlib

import numpy as np

from fastconv._checks import integer, integers
from fastconv.data._files import existing_file

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp"})
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def read_image(path, channels=None, size=None):
    """Read one image file (the first frame of an animation).

    Values are 0 to 255; 16-bit greyscale is scaled down to that range. Transparency is
    dropped unless `channels` is 4. The orientation that a camera notes in the file is not
    applied.

    Parameters
    ----------
    path : str or path-like
    channels : {1, 3, 4}, optional
        Greyscale, RGB or RGBA. By default 1 for a greyscale file, else 3.
    size : int or (int, int), optional
        Resize to this height and width (bilinear, antialiased when it shrinks).

    Returns
    -------
    uint8 ndarray of shape (C, H, W)
        A view of channels-last memory.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    TypeError
        If `path` is not a path, `channels` not an int, or `size` not one or two ints.
    ValueError
        If `channels` or `size` is out of range, or the file is not a readable image of 8 or
        16 bits.
    ImportError
        If Pillow is not installed.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from PIL import Image
    >>> from fastconv.data import read_image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "red.png")
    ...     Image.new("RGB", (5, 4), (255, 0, 0)).save(path)
    ...     image = read_image(path)
    >>> image.shape, image[:, 0, 0].tolist()
    ((3, 4, 5), [255, 0, 0])
    """
    path = existing_file("path", path)
    if channels is not None and integer("channels", channels) not in _MODES:
        raise ValueError(f"channels must be 1, 3, 4 or None, got {channels}")
    size = check_image_size(size)
    if channels is None:
        channels, _ = common_format([path], size)
    return np.moveaxis(_pixels(path, channels, size), -1, 0)


def check_image_size(size):
    """The checked argument `size` of :func:`read_image`."""
    return None if size is None else integers("size", size, 2, 1)


def common_format(paths, size):
    """The (channels, size) in which all of the files can be read; looks at their headers only."""
    pillow = _pillow()
    all_grey, first_size = True, None
    for path in paths:
        with _naming(path), pillow.open(path) as image:
            grey, this_size = _is_grey(image), image.size[::-1]
        all_grey = all_grey and grey
        first_size = first_size or this_size
        if size is None and this_size != first_size:
            raise ValueError(
                f"size must be given where images differ in it: {paths[0]} has (height, width) "
                f"{first_size}, {path} has {this_size}"
            )
    return (1 if all_grey else 3), size or first_size


def read_images(paths, channels, size):
    """The files as one (N, C, H, W) uint8 array in channels-last memory."""
    images = np.empty((len(paths), *size, channels), np.uint8)
    for pixels, path in zip(images, paths, strict=True):
        pixels[...] = _pixels(path, channels, size)
    return np.moveaxis(images, -1, 1)


def _pixels(path, channels, size):
    """The file's pixels, (H, W, C) uint8."""
    pillow = _pillow()
    with _naming(path), pillow.open(path) as image:
        if _is_16_bit(image):
            # 0..65535 to 0..255, to the nearest; Pillow's own conversions clip or truncate.
            values = np.asarray(image).astype(np.uint32)
            image = pillow.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))
        elif image.mode in ("I", "F"):
            raise ValueError(f"its mode is {image.mode!r}, it must have 8 or 16 bits a value")
        elif image.mode == "P":
            image = image.convert("RGBA")  # else Pillow warns of a transparent palette
        image = image.convert(_MODES[channels])
        if size is not None and image.size != size[::-1]:
            image = image.resize(size[::-1], pillow.Resampling.BILINEAR)
        return np.array(image).reshape(image.height, image.width, channels)


def _is_grey(image):
    return image.mode in ("1", "L") or _is_16_bit(image)


def _is_16_bit(image):
    """Whether the file is 16-bit greyscale, which Pillow before 10.3 calls "I" in a PNG."""
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG")


def _pillow():
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError('reading images needs Pillow: pip install "fastconv[io]"') from error
    return Image


@contextlib.contextmanager
def _naming(path):
    try:
        yield
    except Exception as error:  # a damaged file makes Pillow's decoders raise nearly anything
        raise ValueError(f"{path} cannot be read as an image: {error}") from error
