"""A convolution as a linear map: a sparse matrix, or an operator that multiplies by it.

Images are vectors in C order: ``x.ravel()`` of x (C, *spatial) to ``y.ravel()`` of y (K, *out).
"""

import math
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.linalg import LinearOperator

from fastconv import _algorithm, _checks, _geometry
from fastconv._correlate import Fixed, correlate
from fastconv._layout import channels_first, channels_last, logical_order
from fastconv._memory import empty, usable_memory
from fastconv._plan import reads_border
from fastconv._threads import threads_for
from fastconv.functional.conv import by_group, check, gradient_by_input
from fastconv.functional.pad import PADDING_MODES, border, check_widths, fold_border, spread
from fastconv.kernels import sparse

__all__ = ["conv_matrix", "conv_operator"]

# Beyond, indices have 64 bits.
LARGEST_INT32 = np.iinfo(np.int32).max


class _Map(NamedTuple):
    """A convolution whose arguments are checked."""

    weight: np.ndarray
    input_shape: tuple  # (C, *spatial)
    output_shape: tuple  # (K, *out)
    stride: tuple
    padding: tuple  # (before, after) per spatial axis
    dilation: tuple
    groups: int
    mode: str  # of fastconv.functional.pad; "constant" for zeros

    @property
    def shape(self):
        """Of the matrix."""
        return math.prod(self.output_shape), math.prod(self.input_shape)

    @property
    def axes(self):
        """For each of three spatial axes: size, output size, taps, stride, padding, dilation."""
        per_axis = (
            (self.input_shape[1:], 1),
            (self.output_shape[1:], 1),
            (self.weight.shape[2:], 1),
            (self.stride, 1),
            (self.padding, (0, 0)),
            (self.dilation, 1),
        )
        return list(zip(*(_geometry.three(*values) for values in per_axis), strict=True))


def _checked(weight, input_shape, stride, padding, dilation, groups, padding_mode):
    w = _checks.as_float_array("weight", weight)
    if not 3 <= w.ndim <= 5:
        raise ValueError(
            "weight must have 3 to 5 axes (outputs, inputs / groups, 1 to 3 spatial), "
            f"got shape {w.shape}"
        )
    n, kernel = w.ndim - 2, w.shape[2:]
    if not _checks.is_sequence(input_shape) or len(input_shape) != n + 1:
        raise ValueError(
            f"input_shape must be (channels, {n} spatial sizes) for weight of shape {w.shape}, "
            f"got {input_shape!r}"
        )
    input_shape = _checks.integers("input_shape", input_shape, n + 1, minimum=1)
    channels = np.broadcast_to(w.dtype.type(0), (1, input_shape[0]))  # of an image without places
    groups = check(n, channels, w, None, groups)
    stride = _checks.integers("stride", stride, n, minimum=1)
    dilation = _checks.integers("dilation", dilation, n, minimum=1)
    pairs = _geometry.padding_pairs(padding, n, kernel, stride, dilation)
    _checks.one_of("padding_mode", padding_mode, tuple(PADDING_MODES))
    mode = PADDING_MODES[padding_mode]
    check_widths(input_shape, ((0, 0), *pairs), mode)
    geometry = _geometry.convolution(input_shape[1:], kernel, stride, pairs, dilation)
    output_shape = (len(w), *geometry.output)
    return _Map(w, input_shape, output_shape, stride, pairs, dilation, groups, mode)


# The matrix ---------------------------------------------------------------------------------


def conv_matrix(
    weight,
    input_shape,
    stride=1,
    padding=0,
    dilation=1,
    groups=1,
    padding_mode="zeros",
    *,
    return_index=False,
):
    """The sparse matrix of a convolution: ``W @ x.ravel()`` is ``conv(x).ravel()``.

    Parameters
    ----------
    weight : array_like of shape (K, C / groups, *kernel)
        float32 or float64, of one to three spatial axes.
    input_shape : tuple of int
        (C, *spatial) of the image x.
    stride, padding, dilation, groups
        As in :func:`fastconv.functional.conv2d`.
    padding_mode : {"zeros", "reflect", "replicate", "circular"}
        What stands outside the image, as in :class:`fastconv.nn.Conv2d`.
    return_index : bool, default False
        Whether to tell which entry of `weight` each stored entry of the matrix repeats.

    Returns
    -------
    W : scipy.sparse.csr_array of shape (K * prod(out), C * prod(spatial))
        Of the weight's dtype. Its structure depends on shapes alone: zeros of the weight are
        stored. Indices have 32 bits where that is enough.
    index : ndarray of int
        Only with `return_index`: ``W.data`` is ``weight.ravel()[index]``.

    Raises
    ------
    MemoryError
        If the matrix would be larger than the memory that the process may use.
    ValueError, TypeError
        For arguments that do not fit together.

    Notes
    -----
    Where a padding repeats places of the image, several taps of a row may read the same place.
    Their entries are added, so that the matrix is in canonical format. With `return_index` they
    are kept apart, as duplicates, which products add as well.

    The gradient of a kernel entry is the sum of the gradients of its entries in the matrix:
    ``np.bincount(index, dW.data, weight.size)``.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> W = fastconv.linalg.conv_matrix(np.array([[[1.0, -2.0, 1.0]]]), (1, 4), padding=1)
    >>> W.toarray()
    array([[-2.,  1.,  0.,  0.],
           [ 1., -2.,  1.,  0.],
           [ 0.,  1., -2.,  1.],
           [ 0.,  0.,  1., -2.]])
    """
    layer = _checked(weight, input_shape, stride, padding, dilation, groups, padding_mode)
    return_index = _checks.boolean("return_index", return_index)
    w = layer.weight
    _check_memory(layer, 0, return_index)
    taps = [_taps(*axis, layer.mode) for axis in layer.axes]
    # at least one along each axis, for what is packed of an axis is bounded with it
    most = math.prod(max(int((stop - start).sum()), 1) for start, stop in taps)
    _check_memory(layer, w.shape[0] * w.shape[1] * most, return_index)
    axes = [
        _packed_axis(*axis, layer.mode, *span, merge=not return_index)
        for axis, span in zip(layer.axes, taps, strict=True)
    ]
    entries = w.shape[0] * w.shape[1] * math.prod(int(axis[1 + axis[0]]) for axis in axes)
    dtype = _index_dtype(layer, entries)
    indptr, indices = np.empty(layer.shape[0] + 1, dtype), np.empty(entries, dtype)
    data, index = np.empty(entries, w.dtype), np.empty(entries if return_index else 0, np.intp)
    sparse.conv_matrix(
        np.ascontiguousarray(w).reshape(*w.shape[:2], *(axis[2] for axis in layer.axes)),
        *axes,
        np.array([axis[0] for axis in layer.axes], np.intp),
        layer.groups,
        indptr,
        indices,
        data,
        index,
        threads_for(entries),
    )
    matrix = csr_array((data, indices, indptr), shape=layer.shape)
    return (matrix, index) if return_index else matrix


def _index_dtype(layer, entries):
    return np.dtype(np.int32 if max(*layer.shape, entries) <= LARGEST_INT32 else np.int64)


def _check_memory(layer, entries, return_index):
    """The matrix fits into the memory that the process may use."""
    each = _index_dtype(layer, entries).itemsize
    stored = each + layer.weight.itemsize + (np.dtype(np.intp).itemsize if return_index else 0)
    needed, usable = (layer.shape[0] + 1) * each + entries * stored, usable_memory()
    if needed > usable:
        raise MemoryError(
            f"the matrix of a convolution from {layer.input_shape} to {layer.output_shape} with "
            f"weight of shape {layer.weight.shape} needs {needed / 1e9:.3g} GB, this process may "
            f"use {usable / 1e9:.3g} GB; conv_operator needs no matrix"
        )


def _taps(size, count, taps, stride, padding, dilation, mode):
    """Per output pixel of an axis, the range (start, stop) of the taps that read the image."""
    if mode != "constant":
        return np.broadcast_to(0, count), np.broadcast_to(taps, count)
    first = np.arange(count) * stride - padding[0]
    start = np.maximum(-(first // dilation), 0)
    stop = np.minimum((size - 1 - first) // dilation + 1, taps)
    return start, np.maximum(start, stop)


def _packed_axis(size, count, taps, stride, padding, dilation, mode, start, stop, merge):
    """What the output pixels of an axis read, as kernels/sparse.pyx takes it.

    The places of a pixel rise. With `merge`, a place that several taps read stands there once.
    """
    n = stop - start
    pixel = np.repeat(np.arange(count), n)
    tap = np.arange(len(pixel)) - np.repeat(np.cumsum(n) - n - start, n)
    place = pixel * stride + tap * dilation
    if mode == "constant":
        place -= padding[0]
    else:
        place = _geometry.sources(size, *padding, mode)[place]
        order = np.lexsort((tap, place, pixel))  # pixel stays as it is
        tap, place = tap[order], place[order]
    new = np.ones(len(pixel), bool)
    if merge:
        new[1:] = (np.diff(pixel) != 0) | (np.diff(place) != 0)
    begin = np.flatnonzero(new)
    first = np.searchsorted(pixel[begin], np.arange(count + 1))
    packed = ([count], first, place[begin], begin, [len(tap)], tap)
    return np.concatenate(packed).astype(np.intp, copy=False)


# The operator -------------------------------------------------------------------------------


def conv_operator(
    weight,
    input_shape,
    stride=1,
    padding=0,
    dilation=1,
    groups=1,
    padding_mode="zeros",
    *,
    algorithm="direct",
):
    """A convolution as a linear operator, for the iterative solvers of SciPy.

    Parameters
    ----------
    weight : array_like of shape (K, C / groups, *kernel)
        float32 or float64, of one to three spatial axes. It is copied.
    input_shape : tuple of int
        (C, *spatial) of the image.
    stride, padding, dilation, groups
        As in :func:`fastconv.functional.conv2d`.
    padding_mode : {"zeros", "reflect", "replicate", "circular"}
        What stands outside the image, as in :class:`fastconv.nn.Conv2d`.
    algorithm : {"direct", "gemm", "winograd", "auto"}, default "direct"
        As in :func:`fastconv.functional.conv2d`. "auto" may be faster where images have many
        channels; its error, and so the difference between the operator and the transpose of its
        adjoint, is up to 2e-5 of the largest value in float32 then.

    Returns
    -------
    scipy.sparse.linalg.LinearOperator of shape (K * prod(out), C * prod(spatial))
        ``matvec(x)`` is the convolution of ``x.reshape(input_shape)``, ``rmatvec(y)`` its adjoint
        applied to ``y.reshape(output_shape)``, each flattened in C order; ``matmat`` and
        ``rmatmat`` take a batch of images as columns. From SciPy 1.18 on, vectors and matrices may
        have further axes in front. Its attributes ``input_shape`` and
        ``output_shape`` are those of the images.

    Raises
    ------
    ValueError, TypeError
        For arguments that do not fit together.

    Notes
    -----
    As in products of NumPy and of sparse matrices, a product has the dtype that weight and vector
    have together, and is computed in it: float32 only of a float32 weight and a float32 vector.
    Many of SciPy's solvers hand on vectors of float64. Complex vectors are transformed by their
    real and imaginary parts.

    Examples
    --------
    A blurred signal is made sharp again:

    >>> import numpy as np, fastconv
    >>> from scipy.sparse.linalg import lsqr
    >>> A = fastconv.linalg.conv_operator(
    ...     np.array([[[0.25, 0.5, 0.25]]]), (1, 5), padding=1, padding_mode="reflect"
    ... )
    >>> x = np.array([0.0, 0.0, 8.0, 0.0, 4.0])
    >>> A @ x
    array([0., 2., 4., 3., 2.])
    >>> bool(np.allclose(A @ lsqr(A, A @ x)[0], A @ x))
    True
    """
    layer = _checked(weight, input_shape, stride, padding, dilation, groups, padding_mode)
    weight = channels_last(layer.weight).copy()  # the form in which convolution reads it
    layer = layer._replace(weight=channels_first(weight, layer.weight.ndim))
    return _ConvOperator(layer, _algorithm.resolve(algorithm))


class _ConvOperator(LinearOperator):
    def __init__(self, layer, algorithm):
        super().__init__(layer.weight.dtype, layer.shape)
        self.input_shape, self.output_shape = layer.input_shape, layer.output_shape
        self._layer, self._algorithm = layer, algorithm
        pairs, size, kernel = layer.padding, layer.input_shape[1:], layer.weight.shape[2:]
        self._border = ()
        if layer.mode != "constant":
            self._border = border((1, *layer.input_shape), ((0, 0), (0, 0), *pairs), layer.mode)
            size = tuple(s + sum(pair) for s, pair in zip(size, pairs, strict=True))
            pairs = ((0, 0),) * len(pairs)
        # of the image inside its border, which some kernels read in place
        inner = _geometry.convolution(size, kernel, layer.stride, pairs, layer.dilation)
        self._geometry, self._frame, self._spread = inner, inner.frame, self._border
        if self._border and reads_border(layer.weight.shape, layer.stride, algorithm):
            sizes = layer.input_shape[1:], kernel, layer.stride, layer.padding, layer.dilation
            self._frame, self._spread = _geometry.convolution(*sizes, layer.mode).frame, ()
        self._weights = {}  # by dtype: the kernels by group, and what a convolution makes of them

    def _kernels(self, dtype):
        if dtype not in self._weights:
            w = self._layer.weight.astype(dtype, copy=False)
            self._weights[dtype] = by_group(w, self._layer.groups), Fixed()
        return self._weights[dtype]

    def _forward(self, x):
        kernels, prepared = self._kernels(x.dtype)
        image = channels_last(spread(x, self._spread))
        y = empty((len(x), *self._frame.count, self.output_shape[0]), x.dtype)
        correlate(image, kernels, None, y, self._frame, self._algorithm, prepared)
        return channels_first(y, x.ndim)

    def _backward(self, y):
        kernels, _ = self._kernels(y.dtype)
        x = gradient_by_input(channels_last(y), kernels, self._geometry, self._algorithm)
        x = channels_first(x, y.ndim)
        return fold_border(x, self._border, (len(y), *self.input_shape))

    def _apply(self, function, vectors, shape):
        """`function` of vectors (..., places) as images of `shape`, or of one (places, 1)."""
        vectors = _checks.plain("x", vectors)
        if vectors.shape[-1] != math.prod(shape):
            vectors = vectors.reshape(-1)
        dtype = np.result_type(self.dtype, vectors.dtype)
        if dtype.kind == "c":
            real, imag = self._apply(function, np.stack([vectors.real, vectors.imag]), shape)
            return real + 1j * imag
        dtype = _checks.float_dtype("the dtype of weight and vector together", dtype)
        axes = vectors.shape[:-1]
        images = np.ascontiguousarray(vectors, dtype).reshape(math.prod(axes), *shape)
        results = logical_order(function(images))
        return results.reshape(*axes, math.prod(results.shape[1:]))

    def _apply_columns(self, function, matrices, shape):
        return self._apply(function, matrices.swapaxes(-1, -2), shape).swapaxes(-1, -2)

    def dot(self, x):
        return super().dot(_checks.plain("x", x))  # SciPy's loses a mask

    def _matvec(self, x):
        return self._apply(self._forward, x, self.input_shape)

    def _rmatvec(self, y):
        return self._apply(self._backward, y, self.output_shape)

    def _matmat(self, x):
        return self._apply_columns(self._forward, x, self.input_shape)

    def _rmatmat(self, y):
        return self._apply_columns(self._backward, y, self.output_shape)
