"""Gray and Scott's reaction and diffusion on a periodic grid, stepped by a convolution stencil.

    python examples/gray_scott.py [--side 256] [--steps 3000] [--output gray_scott.png]

Two substances diffuse and react: u + 2v -> 3v. The Laplacian of both is one convolution with a
stencil of nine points and periodic boundaries. The same steps in plain NumPy, with np.roll, must
give the same. Needs Matplotlib.

J. E. Pearson, "Complex Patterns in a Simple System", Science 261 (1993), 189-192.
"""

import argparse
import time

import matplotlib.figure
import numpy as np

import fastconv

STENCIL = np.array([[0.05, 0.2, 0.05], [0.2, -1.0, 0.2], [0.05, 0.2, 0.05]])
DIFFUSION = np.array([0.16, 0.08]).reshape(2, 1, 1)


def laplacian_of_fastconv(side, dtype):
    """A function of the fields (2, side, side): each is a column of the operator's argument."""
    stencil = fastconv.linalg.conv_operator(
        STENCIL.astype(dtype)[None, None], (1, side, side), padding=1, padding_mode="circular"
    )
    return lambda fields: (stencil @ fields.reshape(2, -1).T).T.reshape(fields.shape)


def laplacian_of_numpy(fields):
    """The same by shifted copies."""
    result = STENCIL[1, 1].astype(fields.dtype) * fields
    for (i, j), factor in np.ndenumerate(STENCIL.astype(fields.dtype)):
        if (i, j) != (1, 1):
            result += factor * np.roll(fields, (1 - i, 1 - j), (1, 2))
    return result


def start(side, dtype):
    """u is everywhere, v in a few squares."""
    rng = np.random.default_rng(0)
    fields = np.zeros((2, side, side), dtype)
    fields[0] = 1
    width = max(side // 16, 2)
    for top, left in rng.integers(0, side - width, (12, 2)):
        fields[:, top : top + width, left : left + width] = [[[0.5]], [[0.25]]]
    fields += 0.01 * rng.random(fields.shape).astype(dtype)
    return fields


def run(laplacian, fields, steps, feed, kill):
    """The fields after so many steps, and the seconds they took."""
    diffusion = DIFFUSION.astype(fields.dtype)
    fields = fields.copy()
    u, v = fields
    reaction, decay = np.empty_like(fields)
    begin = time.perf_counter()
    for _ in range(steps):
        change = laplacian(fields)
        change *= diffusion
        np.multiply(v, v, out=reaction)
        reaction *= u
        change[0] += feed  # fed and diluted: feed (1 - u)
        change[0] -= np.multiply(u, feed, out=decay)
        change[0] -= reaction
        change[1] += reaction
        change[1] -= np.multiply(v, feed + kill, out=decay)
        fields += change
    return fields, time.perf_counter() - begin


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--side", type=int, default=256, help="of the grid; default: 256")
    add("--steps", type=int, default=3000, help="of time one; default: 3000")
    add("--compared", type=int, default=300, help="first steps beside NumPy's; default: 300")
    add("--feed", type=float, default=0.035, help="of u; default: 0.035")
    add("--kill", type=float, default=0.06, help="of v; default: 0.06")
    add("--output", default="gray_scott.png", help="the picture; default: gray_scott.png")
    options = parser.parse_args()
    rates = options.feed, options.kill

    for dtype in (np.float64, np.float32):
        fields = start(options.side, dtype)
        laplacian = laplacian_of_fastconv(options.side, dtype)
        for function in (laplacian, laplacian_of_numpy):
            run(function, fields, 2, *rates)  # what is made once is made before time is taken
        ours, seconds = run(laplacian, fields, options.compared, *rates)
        truth, longer = run(laplacian_of_numpy, fields, options.compared, *rates)
        print(
            f"{np.dtype(dtype)}: {options.compared} steps on {options.side} x {options.side}: "
            f"fastconv {seconds:.2f} s, NumPy {longer:.2f} s, "
            f"largest difference {np.abs(ours - truth).max():.1e}"
        )
    fields, seconds = run(laplacian, fields, options.steps, *rates)
    print(f"{options.steps} steps in float32: {seconds:.2f} s")

    figure = matplotlib.figure.Figure(figsize=(6, 6), layout="constrained")
    axes = figure.subplots()
    axes.imshow(fields[1], cmap="magma")
    axes.set_title(f"v after {options.steps} steps, feed {options.feed}, kill {options.kill}")
    axes.set_axis_off()
    figure.savefig(options.output, dpi=100)
    print(f"picture: {options.output}")


if __name__ == "__main__":
    main()
