"""Sharpen a blurred photograph by least squares: convolution as a linear operator.

    python examples/deblur.py [IMAGE] [--output deblur.png]

The picture is blurred with a Gaussian kernel whose boundary mirrors the image, and given a little
noise. The blur is then undone by LSMR with Tikhonov's damping, which only ever multiplies by the
operator and by its adjoint. Needs Matplotlib, and Pillow to read other files than PNG.
"""

import argparse
import time

import matplotlib.cbook
import matplotlib.figure
import matplotlib.image
import numpy as np
from scipy.sparse.linalg import lsmr

import fastconv


def read(path):
    """The image as float64 in [0, 1] of shape (channels, height, width)."""
    if path is None:
        path = matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
    image = matplotlib.image.imread(path)
    image = image / 255 if image.dtype == np.uint8 else image.astype(float)
    image = image[..., None] if image.ndim == 2 else image[..., :3]  # without transparency
    return np.ascontiguousarray(image.transpose(2, 0, 1))


def gaussian(size, sigma):
    """A kernel of shape (1, 1, size, size) whose entries add up to one."""
    line = np.exp(-(((np.arange(size) - size // 2) / sigma) ** 2) / 2)
    kernel = np.outer(line, line)
    return kernel[None, None] / kernel.sum()


def psnr(image, truth):
    """Peak signal-to-noise ratio in dB, of values in [0, 1]."""
    return -10 * np.log10(np.mean((np.clip(image, 0, 1) - truth) ** 2))


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("image", nargs="?", help="default: a portrait that comes with Matplotlib")
    add("--output", default="deblur.png", help="where the pictures go; default: deblur.png")
    add("--size", type=int, default=9, help="of the kernel, odd; default: 9")
    add("--sigma", type=float, default=2.0, help="of the Gaussian, in pixels; default: 2")
    add("--noise", type=float, default=0.002, help="standard deviation; default: 0.002")
    add("--damp", type=float, default=0.02, help="Tikhonov's parameter; default: 0.02")
    add("--iterations", type=int, default=50, help="of LSMR, at most; default: 50")
    add("--crop", type=int, help="only a square of so many pixels from the middle")
    options = parser.parse_args()

    image = read(options.image)
    if options.crop is not None:
        top, left = ((side - options.crop) // 2 for side in image.shape[1:])
        image = image[:, max(top, 0) :, max(left, 0) :][:, : options.crop, : options.crop]
    channels, height, width = image.shape

    # The colours are blurred alike: one operator, of one channel, for all of them.
    blur = fastconv.linalg.conv_operator(
        gaussian(options.size, options.sigma),
        (1, height, width),
        padding="same",
        padding_mode="reflect",
    )
    noise = options.noise * np.random.default_rng(0).standard_normal(image.shape)
    blurred = (blur @ image.reshape(channels, -1).T).T.reshape(image.shape) + noise

    start = time.perf_counter()
    restored = np.empty_like(image)
    for channel in range(channels):
        mean = blurred[channel].mean()  # is damped to, in place of black
        solution, _, iterations, *_ = lsmr(
            blur,
            (blurred[channel] - mean).ravel(),
            damp=options.damp,
            maxiter=options.iterations,
        )
        restored[channel] = mean + solution.reshape(height, width)
    seconds = time.perf_counter() - start

    print(f"image: {channels} x {height} x {width}, kernel {options.size} x {options.size}")
    print(f"blurred:  PSNR {psnr(blurred, image):.2f} dB")
    print(f"restored: PSNR {psnr(restored, image):.2f} dB")
    print(f"LSMR: {iterations} iterations a channel, {seconds:.2f} s in all")

    pictures = {"original": image, "blurred": blurred, "restored": restored}
    figure = matplotlib.figure.Figure(figsize=(12, 0.6 + 4 * height / width), layout="constrained")
    for axes, (name, picture) in zip(figure.subplots(1, 3), pictures.items(), strict=True):
        shown = np.clip(picture, 0, 1).transpose(1, 2, 0)
        axes.imshow(shown[..., 0] if channels == 1 else shown, cmap="gray", vmin=0, vmax=1)
        title = name if name == "original" else f"{name}, {psnr(picture, image):.1f} dB"
        axes.set_title(title)
        axes.set_axis_off()
    figure.savefig(options.output, dpi=100)
    print(f"pictures: {options.output}")


if __name__ == "__main__":
    main()
