"""Which input places an output pixel reads: sizes, padding, strides, windows.

The only home of these formulas. Kernels always see three spatial axes; fewer axes stand
behind leading axes of length one.
"""

import itertools
import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np

from fastconv._checks import integer, integers, is_sequence

# Bounded, so that a program whose image sizes vary forever does not grow.
CACHED_SHAPES = 512
SAME = ("same_upper", "same_lower")


def padding_pairs(padding, n, kernel, stride, dilation, size=None):
    """Per axis, the padding (before, after).

    `padding` is an int, `n` ints, `n` pairs, "valid" (none) or "same" (output as large as
    input, the odd one after, as in PyTorch). For an input of `size` it may also be "same_upper"
    or "same_lower": the output has size / stride pixels, rounded up, and the odd one is after or
    before, as in ONNX.
    """
    if isinstance(padding, str):
        if padding in SAME and size is not None:
            axes = zip(size, kernel, stride, dilation, strict=True)
            total = [max((-(-n // s) - 1) * s + window_size(k, d) - n, 0) for n, k, s, d in axes]
            pairs = tuple((t // 2, t - t // 2) for t in total)
            return pairs if padding == "same_upper" else tuple((b, a) for a, b in pairs)
        if padding == "valid":
            return ((0, 0),) * n
        if padding != "same":
            raise ValueError(f"padding must be 'same', 'valid' or ints, got {padding!r}")
        if any(s != 1 for s in stride):
            raise ValueError(f"padding='same' needs stride 1, got stride={stride}")
        total = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return tuple((t // 2, t - t // 2) for t in total)
    if is_sequence(padding) and any(is_sequence(p) and not isinstance(p, str) for p in padding):
        if len(padding) != n:
            raise ValueError(f"padding must have {n} (before, after) pairs, got {padding!r}")
        if any(not is_sequence(pair) or len(pair) != 2 for pair in padding):
            raise ValueError(f"padding must hold (before, after) pairs, got {padding!r}")
        return tuple(integers("padding", pair, 2, minimum=0) for pair in padding)
    return tuple((p, p) for p in integers("padding", padding, n, minimum=0))


def window_size(kernel, dilation):
    """Places from a window's first tap to its last."""
    return dilation * (kernel - 1) + 1


def output_size(size, kernel, stride, padding, dilation, ceil_mode=False):
    """Pixels of the output along one axis; not positive if the window does not fit.

    The number of starts i * stride, from -before on, whose window ends inside the padded
    input; with `ceil_mode` the last window may end outside if it starts inside the input or
    the padding before it.
    """
    before, after = padding
    room = size + before + after - window_size(kernel, dilation)
    count = (-(-room // stride) if ceil_mode else room // stride) + 1
    if ceil_mode and (count - 1) * stride >= size + before:
        count -= 1
    return count


def output_sizes(size, kernel, stride, padding, dilation, ceil_mode=False):
    """`output_size` per axis, all positive."""
    out = tuple(
        output_size(*axis, ceil_mode)
        for axis in zip(size, kernel, stride, padding, dilation, strict=True)
    )
    if any(o < 1 for o in out):
        padded = tuple(s + a + b for s, (a, b) in zip(size, padding, strict=True))
        span = tuple(map(window_size, kernel, dilation))
        raise ValueError(
            f"kernel_size={kernel} (spanning {span} with dilation={dilation}) must not be "
            f"larger than the padded input {padded}"
        )
    return addressable(out)


def addressable(output):
    """`output`, if it is not absurdly large."""
    if math.prod(output) >= 1 << 48:
        raise MemoryError(f"an output of {output} pixels is more than memory can address")
    return output


def nonempty(name, size):
    """Every spatial axis has at least one place."""
    if 0 in size:
        raise ValueError(f"{name} must have non-empty spatial axes, got sizes {size}")


def three(values, fill):
    """`values` behind enough `fill`s to be three."""
    return (fill,) * (3 - len(values)) + tuple(values)


@dataclass(frozen=True, eq=False)
class Frame:
    """Output pixel i, along an axis, reads ``i * step + offset[tap]`` and writes
    ``start + i * stride``; `packed` holds all of it for the kernels."""

    count: tuple
    size: tuple
    taps: tuple
    first: tuple  # offset of the first tap
    step: tuple  # input places between pixels
    spacing: tuple  # places between taps; 0 if uneven, along the first axis also if pixels are not
    last: tuple  # input place that the last pixel's last tap reads
    mode: str  # of `sources`: what stands beside the input
    packed: np.ndarray

    @cached_property
    def outside(self):
        """What stands beside the input, packed for kernels that read any boundary."""
        before = [max(-first, 0) for first in self.first]
        after = [max(last - n + 1, 0) for last, n in zip(self.last, self.size, strict=True)]
        tables = [
            np.delete(sources(n, b, a, self.mode), np.s_[b : b + n])
            for n, b, a in zip(self.size, before, after, strict=True)
        ]
        head = [value for b, table in zip(before, tables, strict=True) for value in (b, len(table))]
        return np.concatenate([head, *tables]).astype(np.intp)

    @cached_property
    def polyphase(self):
        """The same correlation without its step of two, of an image as two slices, or None.

        Slices are the even and the odd rows, pixels two neighbours of a row, one channel after
        the other: a view of the same memory where sizes are even. With an offset of 2 q + r, the
        input of pixel i at a tap is row (or column) i + q + (r + tap) // 2 of the parity of
        r + tap.
        """
        flat = self.size[0] == self.count[0] == self.taps[0] == 1 and self.first[0] == 0
        even = not any(n % 2 for n in self.size[1:])
        if not (flat and even and self.step[1:] == (2, 2) and self.spacing[1:] == (1, 1)):
            return None
        offsets = [
            range(first // 2, (first + taps - 1) // 2 + 1)
            for first, taps in zip(self.first[1:], self.taps[1:], strict=True)
        ]
        size = (2, *(n // 2 for n in self.size[1:]))
        ones = (1, 1, 1)
        return make_frame(
            size, self.count, ones, (0, 0, 0), ones, self.count, [range(2), *offsets], self.mode
        )

    @cached_property
    def phases(self):
        """Of rows and columns of each parity: their taps of :attr:`polyphase`, and of this.

        Indices of weights (G, K, 2, taps, taps, 2, C), and (G, K, 1, taps, taps, C).
        """
        pairs = []
        for parities in itertools.product(range(2), repeat=2):
            starts = [(p - f) % 2 for p, f in zip(parities, self.first[1:], strict=True)]
            skipped = [(s + f) // 2 - f // 2 for s, f in zip(starts, self.first[1:], strict=True)]
            counts = [len(range(s, t, 2)) for s, t in zip(starts, self.taps[1:], strict=True)]
            to = [slice(s, s + n) for s, n in zip(skipped, counts, strict=True)]
            of = [slice(s, None, 2) for s in starts]
            pairs.append(
                ((..., parities[0], *to, parities[1], slice(None)), (..., 0, *of, slice(None)))
            )
        return pairs


def sources(n, before, after, mode):
    """For every place of a padded axis, the place of the input that it repeats; -1 for none."""
    place = np.arange(-before, n + after)
    if mode == "constant":
        return np.where((place < 0) | (place >= n), -1, place)
    if mode == "reflect":
        return (n - 1) - np.abs((n - 1) - np.abs(place))
    return np.clip(place, 0, n - 1) if mode == "replicate" else place % n


def make_frame(size, count, step, start, stride, extent, offsets, mode="constant"):
    """The :class:`Frame` of three axes."""
    taps = tuple(map(len, offsets))
    values = [*size, *count, *step, *start, *stride, *extent, *taps, *itertools.chain(*offsets)]
    packed = np.array(values, dtype=np.intp)
    packed.flags.writeable = False  # shared by all callers of the cache
    spacing = list(map(_spacing, offsets))
    if not step[0] == stride[0] == 1:
        spacing[0] = 0
    first = tuple(o[0] for o in offsets)
    last = tuple((c - 1) * s + o[-1] for c, s, o in zip(count, step, offsets, strict=True))
    axes = map(tuple, (count, size, taps, first, step, spacing, last))
    return Frame(*axes, mode, packed)


def _spacing(offsets):
    """The step of evenly rising offsets, 0 if they are not."""
    steps = set(np.diff(offsets).tolist()) or {1}
    return steps.pop() if len(steps) == 1 and min(steps) > 0 else 0


def _as_slice(falling):
    """The slice of evenly falling indices."""
    first, last = falling[0], falling[-1]
    step = falling[1] - first if len(falling) > 1 else -1
    return slice(first, last - 1 if last else None, step)


@dataclass(frozen=True, eq=False)
class Convolution:
    """A checked convolution; all but `output` have three axes."""

    output: tuple  # spatial output sizes
    size: tuple
    kernel: tuple
    stride: tuple
    padding: tuple
    dilation: tuple
    mode: str = "constant"  # of `sources`

    @cached_property
    def frame(self):
        """Of the forward pass and of the gradient by weight."""
        offsets = [
            [tap * d - before for tap in range(k)]
            for k, (before, _), d in zip(self.kernel, self.padding, self.dilation, strict=True)
        ]
        count = three(self.output, 1)
        ones = (1, 1, 1)
        return make_frame(self.size, count, self.stride, (0, 0, 0), ones, count, offsets, self.mode)

    @cached_property
    def transposed_frames(self):
        """The gradient by input as correlations of dy, one per phase of the stride.

        Input place z = i * stride + phase got w[t] x[z] at the output o with
        o * stride + t * dilation - before = z. So dx[z] = sum_t w[t] dy[i + offset[t]] with
        offset[t] = (phase + before - t * dilation) / stride over the taps where that is
        whole: a correlation with step 1 whose results lie `stride` apart in dx.

        A list of (frame, taps): per axis, the slice of the kernel taps that the phase uses.
        Phases that no tap reaches are left out: dx is zero there.
        """
        axes = []
        for size, kernel, stride, (before, _), dilation in zip(
            self.size, self.kernel, self.stride, self.padding, self.dilation, strict=True
        ):
            phases = []
            for phase in range(min(stride, size)):
                # From the last tap down offsets rise, and neighbours are read as one run.
                taps = [
                    t
                    for t in reversed(range(kernel))
                    if (phase + before - t * dilation) % stride == 0
                ]
                offsets = [(phase + before - t * dilation) // stride for t in taps]
                if taps:
                    phases.append((phase, -(-(size - phase) // stride), taps, offsets))
            axes.append(phases)
        frames = []
        for combination in itertools.product(*axes):
            start, count, taps, offsets = zip(*combination, strict=True)
            frame = make_frame(
                self.frame.count, count, (1, 1, 1), start, self.stride, self.size, offsets
            )
            frames.append((frame, tuple(map(_as_slice, taps))))
        return frames


def convolution(size, kernel, stride, padding, dilation, mode="constant"):
    """The :class:`Convolution` over spatial `size`, its arguments checked."""
    n = len(size)
    nonempty("input", size)
    kernel = integers("kernel_size", kernel, n, minimum=1)
    stride = integers("stride", stride, n, minimum=1)
    dilation = integers("dilation", dilation, n, minimum=1)
    padding = padding_pairs(padding, n, kernel, stride, dilation, size)
    return _convolution(size, kernel, stride, padding, dilation, mode)


@lru_cache(CACHED_SHAPES)
def _convolution(size, kernel, stride, padding, dilation, mode="constant"):
    return Convolution(
        output_sizes(size, kernel, stride, padding, dilation),
        three(size, 1),
        three(kernel, 1),
        three(stride, 1),
        three(padding, (0, 0)),
        three(dilation, 1),
        mode,
    )


def transposed_convolution(size, kernel, stride, padding, dilation, output_padding):
    """The :class:`Convolution` with `size` pixels whose gradient by input is a transposed one.

    Of the inputs that give `size` pixels, the smallest is meant, or the one that has
    `output_padding` more places.
    """
    n = len(size)
    nonempty("input", size)
    kernel = integers("kernel_size", kernel, n, minimum=1)
    stride = integers("stride", stride, n, minimum=1)
    dilation = integers("dilation", dilation, n, minimum=1)
    output_padding = integers("output_padding", output_padding, n, minimum=0)
    if isinstance(padding, str):
        raise TypeError(f"padding must be an int, ints or pairs of ints, got {padding!r}")
    padding = padding_pairs(padding, n, kernel, stride, dilation)
    if any(o >= max(s, d) for o, s, d in zip(output_padding, stride, dilation, strict=True)):
        raise ValueError(
            f"output_padding={output_padding} must be smaller than stride={stride} or "
            f"dilation={dilation}"
        )
    return _transposed_convolution(size, kernel, stride, padding, dilation, output_padding)


@lru_cache(CACHED_SHAPES)
def _transposed_convolution(size, kernel, stride, padding, dilation, output_padding):
    image = tuple(
        smallest + more
        for smallest, more in zip(
            smallest_inputs(size, kernel, stride, padding, dilation), output_padding, strict=True
        )
    )
    if any(length < 1 for length in image):
        raise ValueError(f"padding={padding} leaves nothing of the output: its sizes are {image}")
    return Convolution(
        size,
        three(addressable(image), 1),
        three(kernel, 1),
        three(stride, 1),
        three(padding, (0, 0)),
        three(dilation, 1),
    )


def smallest_inputs(size, kernel, stride, padding, dilation):
    """Per axis, the places of the smallest input over which a window has `size` pixels."""
    return tuple(
        (length - 1) * s - before - after + window_size(k, d)
        for length, k, s, (before, after), d in zip(
            size, kernel, stride, padding, dilation, strict=True
        )
    )


def output_padding_for(output_size, size, kernel, stride, padding, dilation):
    """The output_padding with which a transposed convolution of `size` gives `output_size`."""
    smallest = smallest_inputs(size, kernel, stride, padding, dilation)
    largest = tuple(least + s - 1 for least, s in zip(smallest, stride, strict=True))
    wanted = _spatial("output_size", output_size, len(size))
    if not all(a <= o <= b for a, o, b in zip(smallest, wanted, largest, strict=True)):
        raise ValueError(
            f"output_size={wanted} must be from {smallest} to {largest} for an input of {size}"
        )
    return tuple(o - least for o, least in zip(wanted, smallest, strict=True))


def unpooled_sizes(size, kernel, stride, padding, output_size=None):
    """Sizes that a max-pool has made `size` of: the usual ones, or `output_size` if it may be."""
    n = len(size)
    nonempty("input", size)
    kernel = integers("kernel_size", kernel, n, minimum=1)
    stride = kernel if stride is None else integers("stride", stride, n, minimum=1)
    padding = integers("padding", padding, n, minimum=0)
    pairs = tuple((p, p) for p in padding)
    usual = smallest_inputs(size, kernel, stride, pairs, (1,) * n)
    if output_size is None:
        if any(length < 1 for length in usual):
            raise ValueError(
                f"padding={padding} leaves nothing of the output: its sizes are {usual}"
            )
        return addressable(usual)
    wanted = _spatial("output_size", output_size, n)
    if not all(abs(w - u) < s and w > 0 for w, u, s in zip(wanted, usual, stride, strict=True)):
        raise ValueError(
            f"output_size={wanted} must be positive and differ from {usual} by less than "
            f"stride={stride}"
        )
    return addressable(wanted)


def _spatial(name, value, n):
    """`value` as `n` spatial sizes; those of batch and channels may stand before them."""
    if is_sequence(value) and not isinstance(value, str) and n < len(value) <= n + 2:
        value = value[-n:]
    return integers(name, value, n)


class Windows(NamedTuple):
    """Pooling windows, packed for the kernels in both directions."""

    output: tuple  # spatial output sizes
    windows: np.ndarray  # which input places an output pixel sees
    cover: np.ndarray  # which outputs may see an input place
    divisor: np.ndarray  # per axis and output pixel, places to divide by
    full: np.ndarray  # per axis and output pixel, taps of a window that is not clipped

    @property
    def first_axis(self):
        """How many of the divisors belong to the first of the three axes."""
        return three(self.output, 1)[0]


def _pack_spans(size, spans, steps):
    """Kernel form of per-axis (first, stop) arrays over axes of length `size`."""
    count = [len(first) for first, _ in spans]
    values = [*count, *size, *steps, *itertools.chain(*itertools.chain(*spans))]
    packed = np.array(values, dtype=np.intp)
    packed.flags.writeable = False
    return packed


def _make_windows(size, spans, bounds, steps, divisors, kernel=None):
    size = three(size, 1)
    output = tuple(len(first) for first, _ in spans)
    one = (np.zeros(1, np.intp), np.ones(1, np.intp))
    windows = _pack_spans(size, three(spans, one), three(steps, 1))
    cover = []
    for length, (first, stop) in zip(size, three(bounds, one), strict=True):
        # first and stop rise with the output, so the outputs around a place are a range
        place = np.arange(length)
        cover.append(
            (np.searchsorted(stop, place, "right"), np.searchsorted(first, place, "right"))
        )
    return Windows(
        output,
        windows,
        _pack_spans(three(output, 1), cover, (1, 1, 1)),
        np.concatenate([np.asarray(d, np.float64) for d in three(divisors, np.ones(1))]),
        np.repeat(three(kernel, 1.0), three(output, 1)) if kernel else None,
    )


def strided_windows(
    size, kernel, stride=None, padding=0, dilation=1, ceil_mode=False, count_include_pad=True
):
    """Windows of a pooling with a fixed kernel, as in PyTorch.

    A window is clipped to the input; the divisor counts its places in the padded input, or
    in the input alone without `count_include_pad`. Padding by pairs or by name, which PyTorch has
    not, may be more than half of the kernel.
    """
    n = len(size)
    nonempty("input", size)
    kernel = integers("kernel_size", kernel, n, minimum=1)
    stride = kernel if stride is None else integers("stride", stride, n, minimum=1)
    dilation = integers("dilation", dilation, n, minimum=1)
    by_name = isinstance(padding, str) and padding in SAME
    by_pairs = by_name or (not isinstance(padding, str) and np.ndim(padding) == 2)
    padding = padding if by_pairs else integers("padding", padding, n, minimum=0)
    pairs = padding_pairs(padding, n, kernel, stride, dilation, size)
    if not by_pairs and any(2 * p > k for (p, _), k in zip(pairs, kernel, strict=True)):
        raise ValueError(f"padding={padding} must be at most half of kernel_size={kernel}")
    span = tuple(map(window_size, kernel, dilation))
    if any(max(pair) >= window for pair, window in zip(pairs, span, strict=True)):
        raise ValueError(f"padding={padding} must be smaller than the window, which spans {span}")
    return _strided_windows(
        size, kernel, stride, pairs, dilation, bool(ceil_mode), bool(count_include_pad)
    )


@lru_cache(CACHED_SHAPES)
def _strided_windows(size, kernel, stride, pairs, dilation, ceil_mode, count_include_pad):
    output = output_sizes(size, kernel, stride, pairs, dilation, ceil_mode)
    spans, bounds, divisors = [], [], []
    for length, k, s, (before, after), d, count in zip(
        size, kernel, stride, pairs, dilation, output, strict=True
    ):
        start = np.arange(count) * s - before
        stop = np.minimum(start + window_size(k, d), length + after)
        divisors.append(stop - start)
        stop = np.minimum(stop, length)
        first = np.where(start < 0, start % d, start)  # the first tap inside
        spans.append((first, stop))
        bounds.append((np.maximum(start, 0), stop))
        if not count_include_pad:
            divisors[-1] = stop - bounds[-1][0]
    return _make_windows(size, spans, bounds, dilation, divisors, kernel)


def adaptive_windows(size, output_size):
    """Windows of an adaptive pooling: output i sees [floor(i L / n), ceil((i + 1) L / n))."""
    n = len(size)
    nonempty("input", size)
    if isinstance(output_size, str) or not is_sequence(output_size):
        output_size = (output_size,) * n
    if len(output_size) != n:
        raise ValueError(f"output_size must be an int or {n} ints or None, got {output_size!r}")
    output = tuple(
        length if o is None else integer("output_size", o, minimum=1)
        for o, length in zip(output_size, size, strict=True)
    )
    return _adaptive_windows(size, output)


@lru_cache(CACHED_SHAPES)
def _adaptive_windows(size, output):
    spans = []
    for length, count in zip(size, output, strict=True):
        i = np.arange(count)
        spans.append((i * length // count, -(-(i + 1) * length // count)))
    divisors = [stop - first for first, stop in spans]
    return _make_windows(size, spans, spans, (1,) * len(size), divisors)
