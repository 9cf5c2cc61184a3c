"""Slow NumPy twins of the operators: the oracles of the operator tests.

Each is written from its definition, with one loop step per output pixel, computes in float64 and
shares no code with fastconv. Images are (N, C, *spatial) for any number of spatial axes. Integer
inputs give exact results wherever the definition does not divide or take a root.
"""

import itertools
import math

import numpy as np

# Geometry


def per_axis(value, dims):
    """One value for all axes, or a sequence with one value per axis, as a tuple."""
    return (value,) * dims if isinstance(value, int) else tuple(value)


def pad_pairs(padding, dims):
    """Padding given as int, ints or (before, after) pairs, as one pair per axis."""
    return tuple((p, p) if isinstance(p, int) else tuple(p) for p in per_axis(padding, dims))


def same_padding(kernel, dilation):
    """The pairs of padding="same": an odd total has its extra pixel after the image."""
    totals = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    return tuple((total // 2, total - total // 2) for total in totals)


def window_starts(size, kernel, stride, pad, dilation, ceil_mode):
    """First taps of the windows along one axis, counted from the first unpadded pixel."""
    before, after = pad
    last = size + after - 1 - dilation * (kernel - 1)  # the last start from which a window fits
    if ceil_mode:  # a window may hang over the end, but starts on a pixel of the image
        last = min(last + stride - 1, size - 1)
    return range(-before, last + 1, stride)


def windows(size, kernel, stride=1, padding=0, dilation=1, ceil_mode=False):
    """{output pixel: one range of taps per axis}, taps in the padding and beyond included."""
    dims = len(size)
    kernel, stride, dilation = (per_axis(v, dims) for v in (kernel, stride, dilation))
    starts = [
        window_starts(*axis, ceil_mode)
        for axis in zip(size, kernel, stride, pad_pairs(padding, dims), dilation, strict=True)
    ]
    return {
        place: tuple(
            range(axis[i], axis[i] + d * k, d)
            for axis, i, k, d in zip(starts, place, kernel, dilation, strict=True)
        )
        for place in itertools.product(*(range(len(axis)) for axis in starts))
    }


def adaptive_windows(size, output_size):
    """{output pixel: one range of taps per axis} of the adaptive pools."""
    return {
        place: tuple(
            range(math.floor(i * s / o), math.ceil((i + 1) * s / o))
            for i, s, o in zip(place, size, output_size, strict=True)
        )
        for place in itertools.product(*(range(o) for o in output_size))
    }


def output_size(places):
    """Spatial size of the output that has these pixels."""
    return tuple(i + 1 for i in max(places))


def inside(taps, size):
    """The taps that lie on the image, one list per axis."""
    return [[t for t in axis if 0 <= t < s] for axis, s in zip(taps, size, strict=True)]


def zero_pad(x, pairs):
    """The image within zeros, in float64."""
    return np.pad(np.asarray(x, np.float64), ((0, 0), (0, 0), *pairs))


def patch_slices(taps, pairs):
    """Index of one window in the padded images."""
    return (
        ...,
        *(
            slice(axis.start + before, axis.stop + before, axis.step)
            for axis, (before, _) in zip(taps, pairs, strict=True)
        ),
    )


def crop(padded, pairs):
    """Undo zero_pad."""
    return padded[
        (..., *(slice(lo, s - hi) for s, (lo, hi) in zip(padded.shape[2:], pairs, strict=True)))
    ]


# Convolution, im2col, col2im


def conv(x, w, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """out[n, k, place] = bias[k] + sum over c and taps of w[k, c, tap] x[n, group(k) + c, tap]."""
    (n, _, *size), (k, _, *kernel) = x.shape, w.shape
    pairs = pad_pairs(padding, len(size))
    padded = zero_pad(x, pairs)
    matrices = np.asarray(w, np.float64).reshape(groups, k // groups, -1)
    places = windows(size, kernel, stride, padding, dilation)
    out = np.zeros((n, k, *output_size(places)))
    for place, taps in places.items():
        patch = padded[patch_slices(taps, pairs)].reshape(n, groups, matrices.shape[2])
        out[(..., *place)] = np.einsum("ngi,gki->ngk", patch, matrices).reshape(n, k)
    return out if bias is None else out + np.reshape(bias, (-1, *[1] * len(size)))


def conv_grad_input(grad, w, x_shape, stride=1, padding=0, dilation=1, groups=1):
    """Each output pixel gives its gradient, times the kernel, to the pixels it has read."""
    (n, c, *size), (k, _, *kernel) = x_shape, w.shape
    pairs = pad_pairs(padding, len(size))
    padded = zero_pad(np.zeros(x_shape), pairs)
    matrices = np.asarray(w, np.float64).reshape(groups, k // groups, -1)
    for place, taps in windows(size, kernel, stride, padding, dilation).items():
        pixel = grad[(..., *place)].reshape(n, groups, k // groups)
        patch = np.einsum("ngk,gki->ngi", pixel, matrices)
        padded[patch_slices(taps, pairs)] += patch.reshape(n, c, *kernel)
    return crop(padded, pairs)


def conv_transpose(x, w, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """Every input pixel adds the kernel, times itself, to the output, which is then cropped."""
    (n, c, *size), (_, width, *kernel) = x.shape, w.shape
    dims = len(size)
    pairs = pad_pairs(padding, dims)
    stride, dilation, more = (per_axis(v, dims) for v in (stride, dilation, output_padding))
    room = [
        (s - 1) * st + d * (k - 1) + 1 + o
        for s, st, d, k, o in zip(size, stride, dilation, kernel, more, strict=True)
    ]
    out = np.zeros((n, groups, width, *room))
    x = np.asarray(x, np.float64).reshape(n, groups, c // groups, *size)
    w = np.asarray(w, np.float64).reshape(groups, c // groups, width, *kernel)
    for place in np.ndindex(*size):
        patch = np.einsum("ngi,gio...->ngo...", x[(..., *place)], w)
        where = (
            slice(p * st, p * st + d * (k - 1) + 1, d)
            for p, st, d, k in zip(place, stride, dilation, kernel, strict=True)
        )
        out[(..., *where)] += patch
    out = crop(out.reshape(n, groups * width, *room), pairs)
    return out if bias is None else out + np.reshape(bias, (-1, *[1] * dims))


def conv_grad_weight(grad, x, w_shape, stride=1, padding=0, dilation=1, groups=1):
    """The gradient of a shared kernel entry is the sum over all the places it is used at."""
    (n, _, *size), (k, _, *kernel) = x.shape, w_shape
    pairs = pad_pairs(padding, len(size))
    padded = zero_pad(x, pairs)
    total = np.zeros((groups, k // groups, math.prod(w_shape[1:])))
    for place, taps in windows(size, kernel, stride, padding, dilation).items():
        patch = padded[patch_slices(taps, pairs)].reshape(n, groups, total.shape[2])
        pixel = np.asarray(grad, np.float64)[(..., *place)].reshape(n, groups, k // groups)
        total += np.einsum("ngk,ngi->gki", pixel, patch)
    return total.reshape(w_shape)


def im2col(x, kernel_size, stride=1, padding=0, dilation=1):
    """cols[n, (c, tap), place]: the windows as columns, places in row-major order."""
    n, c, *size = x.shape
    kernel = per_axis(kernel_size, len(size))
    pairs = pad_pairs(padding, len(size))
    padded = zero_pad(x, pairs)
    places = windows(size, kernel, stride, padding, dilation)
    cols = np.zeros((n, c * math.prod(kernel), len(places)))
    for column, taps in enumerate(places.values()):
        cols[:, :, column] = padded[patch_slices(taps, pairs)].reshape(n, cols.shape[1])
    return cols


def col2im(cols, output_size, kernel_size, stride=1, padding=0, dilation=1):
    """The adjoint of im2col: columns are added where im2col has read them."""
    size = tuple(output_size)
    kernel = per_axis(kernel_size, len(size))
    pairs = pad_pairs(padding, len(size))
    n, c = len(cols), cols.shape[1] // math.prod(kernel)
    padded = zero_pad(np.zeros((n, c, *size)), pairs)
    for column, taps in enumerate(windows(size, kernel, stride, padding, dilation).values()):
        padded[patch_slices(taps, pairs)] += cols[:, :, column].reshape(n, c, *kernel)
    return crop(padded, pairs)


# Pooling


def count(taps):
    """Pixels of a window."""
    return math.prod(len(axis) for axis in taps)


def max_over(x, places):
    """Maxima of the windows, and their row-major positions in the image; the first one wins."""
    n, c, *size = x.shape
    x = np.asarray(x, np.float64)
    out = np.full((n, c, *output_size(places)), -np.inf)  # also where taps all miss the image
    indices = np.full(out.shape, -1)
    for place, taps in places.items():
        on_image = inside(taps, size)
        if not count(on_image):
            continue
        grid = np.ix_(*on_image)
        window = x[(..., *grid)].reshape(n, c, count(on_image))
        flat = np.ravel_multi_index(np.broadcast_arrays(*grid), size).ravel()
        best = window.argmax(axis=2)
        out[(..., *place)] = np.take_along_axis(window, best[..., None], axis=2)[..., 0]
        indices[(..., *place)] = flat[best]
    return out, indices


def mean_over(x, places, divisor):
    """Sums over the windows, divided by divisor(taps, taps inside the image)."""
    n, c, *size = x.shape
    x = np.asarray(x, np.float64)
    out = np.zeros((n, c, *output_size(places)))
    for place, taps in places.items():
        on_image = inside(taps, size)
        window = x[(..., *np.ix_(*on_image))].reshape(n, c, count(on_image))
        out[(..., *place)] = window.sum(axis=2) / divisor(taps, on_image)
    return out


def max_pool(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False):
    """(maxima, indices); padding never wins."""
    stride = kernel_size if stride is None else stride
    return max_over(x, windows(x.shape[2:], kernel_size, stride, padding, dilation, ceil_mode))


def max_pool_grad(grad, indices, x_shape):
    """Each output pixel's gradient goes to the pixel that has won; so for the adaptive pool."""
    dx = np.zeros(x_shape)
    flat = dx.reshape(*x_shape[:2], -1)
    for n, c, *place in np.ndindex(*grad.shape):
        winner = indices[(n, c, *place)]
        if winner >= 0:
            flat[n, c, winner] += grad[(n, c, *place)]
    return dx


def avg_pool(
    x,
    kernel_size,
    stride=None,
    padding=0,
    ceil_mode=False,
    count_include_pad=True,
    divisor_override=None,
):
    """Means; pixels beyond the padding (ceil_mode) never count, those of the padding may."""
    size = x.shape[2:]
    stride = kernel_size if stride is None else stride
    pairs = pad_pairs(padding, len(size))

    def divisor(taps, on_image):
        if divisor_override is not None:
            return divisor_override
        if not count_include_pad:
            return count(on_image)
        return count(
            [
                [t for t in axis if t < s + after]
                for axis, s, (_, after) in zip(taps, size, pairs, strict=True)
            ]
        )

    return mean_over(x, windows(size, kernel_size, stride, padding, 1, ceil_mode), divisor)


def lp_pool(x, norm_type, kernel_size, stride=None, ceil_mode=False):
    """(sum x^p)^(1/p), a window that hangs over the end scaled up to a whole one as in torch."""
    powers = np.asarray(x, np.float64) ** norm_type
    means = avg_pool(powers, kernel_size, stride, 0, ceil_mode)
    return (means * math.prod(per_axis(kernel_size, x.ndim - 2))) ** (1 / norm_type)


def max_unpool(x, indices, output_size):
    """Values written, one after the other, to their places."""
    out = np.zeros((*x.shape[:2], math.prod(output_size)))
    for n, c, *place in np.ndindex(*x.shape):
        out[n, c, indices[(n, c, *place)]] = x[(n, c, *place)]
    return out.reshape(*x.shape[:2], *output_size)


def adaptive_max_pool(x, output_size):
    """(maxima, indices) of windows that share the image out."""
    return max_over(x, adaptive_windows(x.shape[2:], per_axis(output_size, x.ndim - 2)))


def adaptive_avg_pool(x, output_size):
    """Means of windows that share the image out."""
    places = adaptive_windows(x.shape[2:], per_axis(output_size, x.ndim - 2))
    return mean_over(x, places, lambda _, on_image: count(on_image))


# Resizing


def cubic(t, a):
    """Keys' piece of a cubic at the distance t."""
    t = abs(t)
    if t <= 1:
        return (a + 2) * t**3 - (a + 3) * t**2 + 1
    return a * (t**3 - 5 * t**2 + 8 * t - 4) if t < 2 else 0.0


def resize_row(size, output, i, mode, scale, align_corners, antialias):
    """Weights of the input places for output i along one axis."""
    row = np.zeros(size)
    if mode == "nearest":
        row[min(math.floor(i / scale), size - 1)] = 1
        return row
    if mode == "nearest-exact":
        row[min(math.floor((i + 0.5) / scale), size - 1)] = 1
        return row
    if align_corners:
        centre = i * (size - 1) / (output - 1) if output > 1 else 0.0
    else:
        centre = (i + 0.5) / scale - 0.5
    width = max(1 / scale, 1) if antialias else 1
    for place in range(math.floor(centre - 2 * width) - 1, math.ceil(centre + 2 * width) + 2):
        distance = (place - centre) / width
        if mode == "bicubic":
            weight = cubic(distance, -0.5 if antialias else -0.75)
        else:
            weight = max(0, 1 - abs(distance))
        if 0 <= place < size or not antialias:
            row[min(max(place, 0), size - 1)] += weight
    return row / row.sum()


def interpolate(x, size, mode, scales=None, align_corners=False, antialias=False):
    """torch's interpolation, by a matrix for each axis."""
    out = np.asarray(x, np.float64)
    scales = scales or [o / s for o, s in zip(size, x.shape[2:], strict=True)]
    for axis, (output, scale) in enumerate(zip(size, scales, strict=True), 2):
        length = out.shape[axis]
        matrix = np.stack(
            [
                resize_row(length, output, i, mode, scale, align_corners, antialias)
                for i in range(output)
            ]
        )
        out = np.moveaxis(np.tensordot(matrix, out, (1, axis)), 0, axis)
    return out


# Padding


def source_index(i, size, mode):
    """Which of the `size` pixels of an axis stands at padded place i; None for a constant."""
    if mode == "replicate":
        return min(max(i, 0), size - 1)
    if mode == "circular":
        return i % size
    if mode == "reflect":  # mirrored at the centre of the border pixel
        return -i if i < 0 else 2 * (size - 1) - i if i >= size else i
    return i if 0 <= i < size else None


def pad(x, pad, mode="constant", value=None):
    """torch's pad: pairs for the last axis first, negative ones crop."""
    pairs = [(0, 0)] * (x.ndim - len(pad) // 2)
    pairs += [pad[i : i + 2] for i in range(len(pad) - 2, -1, -2)]
    shape = [lo + s + hi for s, (lo, hi) in zip(x.shape, pairs, strict=True)]
    out = np.full(shape, 0.0 if value is None else value)
    for place in np.ndindex(*shape):
        source = tuple(
            source_index(i - lo, s, mode)
            for i, s, (lo, _) in zip(place, x.shape, pairs, strict=True)
        )
        if None not in source:
            out[place] = x[source]
    return out


# Normalisation, activation, losses


def batch_norm(
    x,
    running_mean,
    running_var,
    weight=None,
    bias=None,
    training=False,
    momentum=0.1,
    eps=1e-5,
):
    """(out, new running mean, new running variance); the running variance is the unbiased one."""
    x = np.asarray(x, np.float64)
    out = np.empty_like(x)
    new_mean, new_var = (
        None if r is None else np.array(r, np.float64) for r in (running_mean, running_var)
    )
    for c in range(x.shape[1]):
        values = x[:, c]
        if training:
            mean = values.sum() / values.size
            var = ((values - mean) ** 2).sum() / values.size
            if running_mean is not None:
                unbiased = var * values.size / (values.size - 1)
                new_mean[c] = (1 - momentum) * new_mean[c] + momentum * mean
                new_var[c] = (1 - momentum) * new_var[c] + momentum * unbiased
        else:
            mean, var = new_mean[c], new_var[c]
        out[:, c] = (values - mean) / math.sqrt(var + eps)
        out[:, c] *= 1 if weight is None else weight[c]
        out[:, c] += 0 if bias is None else bias[c]
    return out, new_mean, new_var


def log_softmax(x, dim):
    """x - log(sum exp x) along one axis."""
    shifted = np.asarray(x, np.float64) - np.max(x, axis=dim, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=dim, keepdims=True))


def softmax(x, dim):
    """exp x / sum exp x along one axis."""
    return np.exp(log_softmax(x, dim))


def reduce_loss(losses, reduction, weight_sum=None):
    """The losses themselves, their sum, or their (weighted) mean."""
    if reduction == "none":
        return losses
    total = np.sum(losses)
    if reduction == "sum":
        return total
    return total / (losses.size if weight_sum is None else weight_sum)


def nll_loss(x, target, weight=None, ignore_index=-100, reduction="mean"):
    """-weight[target] x[target]; the mean is weighted, ignored places do not count."""
    x = np.asarray(x, np.float64)
    if x.ndim == 1:
        x, target = x[None], np.reshape(target, 1)
        losses = nll_loss(x, target, weight, ignore_index, "none")
        weight_sum = 1 if weight is None else weight[target[0]]
        return reduce_loss(losses[0], reduction, weight_sum)
    weight = np.ones(x.shape[1]) if weight is None else weight
    losses = np.zeros(target.shape)
    weight_sum = 0.0
    for n, *place in np.ndindex(*target.shape):
        label = target[(n, *place)]
        if label != ignore_index:
            losses[(n, *place)] = -weight[label] * x[(n, label, *place)]
            weight_sum += weight[label]
    return reduce_loss(losses, reduction, weight_sum)


def cross_entropy(x, target, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0):
    """-sum_c weight[c] q[c] log_softmax(x)[c], q the smoothed target, one-hot for class indices.

    The mean divides by the weights of the labels that count, or, for targets that are
    probabilities, by the number of places.
    """
    x = np.asarray(x, np.float64)
    if x.ndim == 1:
        x, target = x[None], np.asarray(target)[None]
        losses = cross_entropy(x, target, weight, ignore_index, "none", label_smoothing)
        labels = np.issubdtype(target.dtype, np.integer)
        weight_sum = weight[target[0]] if labels and weight is not None else 1
        return reduce_loss(losses[0], reduction, weight_sum)
    classes = x.shape[1]
    weight = np.ones(classes) if weight is None else weight
    log_p = log_softmax(x, 1)
    losses = np.zeros((len(x), *x.shape[2:]))
    weight_sum = 0.0
    for n, *place in np.ndindex(*losses.shape):
        if np.issubdtype(target.dtype, np.integer):
            label = target[(n, *place)]
            if label == ignore_index:
                continue
            q = np.eye(classes)[label]
            weight_sum += weight[label]
        else:
            q = target[(n, slice(None), *place)]
            weight_sum += 1
        q = (1 - label_smoothing) * q + label_smoothing / classes
        losses[(n, *place)] = -np.sum(weight * q * log_p[(n, slice(None), *place)])
    return reduce_loss(losses, reduction, weight_sum)


def mse_loss(x, target, reduction="mean"):
    """(x - target)^2."""
    return reduce_loss((np.asarray(x, np.float64) - target) ** 2, reduction)


def binary_cross_entropy_with_logits(x, target, weight=None, reduction="mean", pos_weight=None):
    """-(pos_weight y log p + (1 - y) log(1 - p)), p the logistic function of x."""
    x = np.asarray(x, np.float64)
    log_p, log_not_p = -np.logaddexp(0, -x), -np.logaddexp(0, x)
    positive = np.ones(()) if pos_weight is None else pos_weight
    losses = -(positive * target * log_p + (1 - target) * log_not_p)
    return reduce_loss(losses if weight is None else losses * weight, reduction)


# Derivatives of any twin


def numeric_gradient(function, x, grad, eps=1e-5):
    """Gradient of <function(x), grad> with respect to x by central differences."""
    x = np.array(x, np.float64)
    slope = np.zeros_like(x)
    for place in np.ndindex(*x.shape):
        value = x[place]
        x[place] = value + eps
        above = function(x)
        x[place] = value - eps
        below = function(x)
        x[place] = value
        slope[place] = np.sum((above - below) * grad) / (2 * eps)
    return slope


def linear_gradient(function, x_shape, grad):
    """The same, exactly, of a linear function of images: one basis image after the other."""
    image = x_shape[1:]
    basis = np.eye(math.prod(image)).reshape(-1, *image)
    matrix = function(basis).reshape(len(basis), -1)  # row i: the image of basis image i
    return (np.reshape(grad, (x_shape[0], -1)) @ matrix.T).reshape(x_shape)
