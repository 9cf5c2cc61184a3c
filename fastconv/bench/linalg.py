"""A convolution as a linear operator, beside FFT and sparse matrix; stencils, beside NumPy.

fastconv bench linalg
"""

import dataclasses
import functools

import numpy as np
from scipy.signal import fftconvolve
from scipy.sparse import csr_array

from fastconv import linalg
from fastconv.bench import harness, report
from fastconv.bench.report import Column
from fastconv.bench.rivals import Rival, set_num_threads

__all__ = ["LAYERS", "Operator", "Stencil", "run"]

FASTCONV, FFT, SPARSE, NUMPY = COLUMNS = ("fastconv", "fftconvolve", "sparse", "NumPy")
PASSES = ("A x", "A x and its adjoint")
RESULTS = ("A x", "adjoint")
STEPS = 10
CAPTION = (
    "'vs ...' is the time of the other over the time of fastconv, above 1 where fastconv is "
    "faster. 'fftconvolve' are two calls of scipy.signal.fftconvolve, one with the mirrored "
    "kernel; 'sparse' is SciPy's product of the matrix, and of its transpose, which are made "
    "before; 'NumPy' adds copies shifted by np.roll. An error is the largest one over the largest "
    "value, against float64, the worst of all results."
)


@dataclasses.dataclass(frozen=True)
class Operator:
    """A square kernel on a square image of one channel, with zeros outside."""

    name: str
    origin: str
    kernel: int
    side: int
    quick: bool = False

    passes = PASSES

    def arrays(self, dtype=np.float32):
        """The kernel, and an image for each direction."""
        rng = np.random.default_rng(0)
        w = rng.standard_normal((self.kernel, self.kernel)).astype(np.float32)
        x, y = rng.standard_normal((2, self.side, self.side)).astype(np.float32)
        return tuple(array.astype(dtype) for array in (w, x, y))

    def forms(self):
        """The contenders."""
        w, x, y = self.arrays()
        arguments = w[None, None], (1, *x.shape), 1, self.kernel // 2
        ours = linalg.conv_operator(*arguments)
        matrix = linalg.conv_matrix(*arguments)
        transpose = csr_array(matrix.T)
        x, y, mirrored = x.ravel(), y.ravel(), w[::-1, ::-1].copy()

        def by_fft(vector, kernel):
            return fftconvolve(vector.reshape(self.side, self.side), kernel, "same").ravel()

        return [
            _both(FASTCONV, lambda: ours.matvec(x), lambda: ours.rmatvec(y)),
            _both(FFT, lambda: by_fft(x, mirrored), lambda: by_fft(y, w)),
            _both(SPARSE, lambda: matrix @ x, lambda: transpose @ y),
        ]

    def reference(self):
        """Both products in float64, by shifted copies."""
        w, x, y = self.arrays(np.float64)
        half = self.kernel // 2
        results = []
        for image, kernel in ((x, w), (y, w[::-1, ::-1])):
            padded = np.pad(image, half)
            results.append(
                sum(
                    factor * padded[i : i + self.side, j : j + self.side]
                    for (i, j), factor in np.ndenumerate(kernel)
                ).ravel()
            )
        return results


@dataclasses.dataclass(frozen=True)
class Stencil:
    """So many steps of the heat equation on a periodic square grid."""

    name: str
    origin: str
    stencil: tuple
    side: int
    quick: bool = False
    dtype: type = np.float32

    passes = (f"{STEPS} steps",)

    def kernel(self, dtype):
        """What one step makes of a place and its neighbours."""
        kernel = 0.2 * np.array(self.stencil)
        kernel[1, 1] += 1
        return kernel.astype(dtype)

    def start(self, dtype):
        """The grid before the first step."""
        return np.random.default_rng(0).random((self.side, self.side), np.float32).astype(dtype)

    def forms(self):
        """The contenders."""
        grid, kernel = self.start(self.dtype), self.kernel(self.dtype)
        step = linalg.conv_operator(
            kernel[None, None], (1, *grid.shape), 1, 1, padding_mode="circular"
        )
        ours = functools.partial(_repeat, step.matvec, grid.ravel())
        rolls = functools.partial(_rolled, kernel)
        return [Rival(FASTCONV, ours), Rival(NUMPY, lambda: _repeat(rolls, grid).ravel())]

    def reference(self):
        """The same in float64."""
        rolls = functools.partial(_rolled, self.kernel(np.float64))
        return [_repeat(rolls, self.start(np.float64)).ravel()]


def _both(column, forward, backward):
    return Rival(column, forward, lambda: (forward(), backward()))


def _repeat(step, grid):
    for _ in range(STEPS):
        grid = step(grid)
    return grid


def _rolled(kernel, grid):
    result = kernel[1, 1] * grid
    for (i, j), factor in np.ndenumerate(kernel):
        if factor and (i, j) != (1, 1):
            result += factor * np.roll(grid, (1 - i, 1 - j), (0, 1))
    return result


def run(options):
    """Measure the options' layers; print and write what was found."""
    set_num_threads(options.threads)
    records = harness.every_layer(options, measure)
    harness.publish(options, harness.describe(options), records, table, CAPTION)


def measure(layer, options):
    """One record for each pass: times and errors of all contenders."""
    facts = [{} for _ in layer.passes]
    forms, expected = layer.forms(), layer.reference()
    return harness.measure(layer, options, forms, expected, facts, layer.passes, RESULTS)


def table(records):
    """A row for each layer of one pass, the geometric means and the lowest ratios."""
    others = [name for name in COLUMNS[1:] if report.took_part(records, name)]

    def versus(record, name):
        return report.quotient(report.median(record, name), report.median(record, FASTCONV))

    def error(record, name):
        return max(record["errors"].get(name, {}).values(), default=None)

    columns = [
        Column("layer", lambda record: record["layer"]),
        *report.times(records, COLUMNS),
        *(
            Column(f"vs {name}", lambda record, name=name: versus(record, name), report.ratio)
            for name in others
        ),
        *(
            Column(f"{name} error", lambda record, name=name: error(record, name), report.error)
            for name in (FASTCONV, *others)
        ),
    ]
    titles = [f"vs {name}" for name in others]
    return report.table(records, columns, [report.mean(*titles), report.lowest(*titles)])


# What is measured ---------------------------------------------------------------------------

PHOTOGRAPH = "a photograph, as for deblurring"
LAYERS = (
    *(
        Operator(f"{k}x{k} @{side}", PHOTOGRAPH, k, side, quick=(k, side) == (5, 256))
        for side in (256, 512)
        for k in (3, 5, 7)
    ),
    *(
        Stencil(
            f"heat, {points} points @{side}{', float64' if dtype is np.float64 else ''}",
            origin,
            stencil,
            side,
            (points, side, dtype) == (5, 256, np.float32),
            dtype,
        )
        for dtype in (np.float32, np.float64)
        for side in (256, 1024)
        for points, origin, stencil in (
            (5, "the five-point Laplacian", ((0, 1, 0), (1, -4, 1), (0, 1, 0))),
            (9, "a nine-point Laplacian", ((0.25, 0.5, 0.25), (0.5, -3, 0.5), (0.25, 0.5, 0.25))),
        )
    ),
)
