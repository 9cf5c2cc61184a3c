"""Spatial operators against PyTorch: options drawn at random, outputs and gradients."""

import functools
import random

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import fastconv
import fastconv.functional as F

torch = pytest.importorskip("torch", reason="PyTorch is the oracle")

TOLERANCE = {np.float32: 2e-5, np.float64: 1e-12}
every_draw = pytest.mark.parametrize("seed", range(40))


@pytest.fixture
def draw(seed):
    """A generator of choices."""
    return random.Random(seed)


def per_axis(draw, dims, low, high):
    return tuple(draw.randint(low, high) for _ in range(dims))


def in_memory(array, order):
    """The same values in C order or channels-last."""
    if order == "C" or array.ndim < 4:
        return array
    return np.moveaxis(np.moveaxis(array, 1, -1).copy(), -1, 1)


def assert_same(name, arrays, wanted, dtype, rng, order="C", **options):
    """Output and gradients of the function of that name."""
    ours = [
        fastconv.Tensor(in_memory(a.astype(dtype), order), True) if w else a
        for a, w in zip(arrays, wanted, strict=True)
    ]
    theirs = [
        torch.tensor(a.astype(dtype), requires_grad=True) if w else torch.tensor(a)
        for a, w in zip(arrays, wanted, strict=True)
    ]
    out = getattr(F, name)(*ours, **options)
    expected = getattr(torch.nn.functional, name)(*theirs, **options)
    if options.get("return_indices"):
        assert_array_equal(out[1], expected[1].numpy())
        out, expected = out[0], expected[0]
    assert out.shape == tuple(expected.shape), options
    grad = rng.normal(size=out.shape).astype(dtype)
    out.backward(grad)
    expected.backward(torch.tensor(grad))
    pairs = [(out.data, expected.detach())]
    pairs += [(a.grad, b.grad) for a, b, w in zip(ours, theirs, wanted, strict=True) if w]
    for result, reference in pairs:
        reference = reference.numpy()
        assert result.dtype == reference.dtype
        atol = TOLERANCE[dtype] * max(1, np.abs(reference).max(initial=0))
        assert_allclose(result, reference, rtol=0, atol=atol, err_msg=f"{name} {options}")
    return out.data


@every_draw
def test_transposed_convolution(draw, rng):
    dims, groups = draw.randint(1, 3), draw.choice([1, 1, 2, 4])
    inputs, width = groups * draw.choice([1, 2, 8, 16]), draw.choice([1, 3, 8])
    kernel, stride, dilation = (per_axis(draw, dims, 1, high) for high in (4, 3, 2))
    more = tuple(draw.randint(0, max(s, d) - 1) for s, d in zip(stride, dilation, strict=True))
    padding = tuple(draw.randint(0, (k - 1) // 2) for k in kernel)
    shape = (draw.randint(1, 3), inputs, *per_axis(draw, dims, 2, 6))
    arrays = [rng.normal(size=s) for s in (shape, (inputs, width, *kernel), (width * groups,))]
    unbatched = draw.random() < 0.2
    assert_same(
        f"conv_transpose{dims}d",
        [arrays[0][0] if unbatched else arrays[0], *arrays[1:]],
        (True, True, True),
        draw.choice(list(TOLERANCE)),
        rng,
        draw.choice("CL"),
        stride=stride,
        padding=padding,
        output_padding=more,
        groups=groups,
        dilation=dilation,
    )


INTERPOLATED = [
    *(("nearest", n) for n in (1, 2, 3)),
    *(("nearest-exact", n) for n in (1, 2, 3)),
    *(("area", n) for n in (1, 2, 3)),
    ("linear", 1),
    ("bilinear", 2),
    ("trilinear", 3),
    ("bicubic", 2),
]


@pytest.mark.parametrize(("mode", "dims"), INTERPOLATED)
@pytest.mark.parametrize("seed", range(12))
def test_interpolation(mode, dims, draw, rng):
    # to a width of 1, with antialias, torch 2.13 repeats the first pixel down the column
    shape = (2, draw.choice([1, 3, 8, 17]), *per_axis(draw, dims, 4, 9))
    options = {"mode": mode}
    if draw.random() < 0.5:
        options["size"] = per_axis(draw, dims, 2, 15)
    else:
        # torch's kernels for "nearest" disagree on 2.3 where a size becomes twice itself
        factors = [0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 3.7 if mode == "nearest" else 2.3]
        options["scale_factor"] = tuple(draw.choice(factors) for _ in range(dims))
        options["recompute_scale_factor"] = draw.choice([None, True, False])
    if mode in ("linear", "bilinear", "trilinear", "bicubic"):
        options["align_corners"] = draw.choice([None, True, False])
    if mode in ("bilinear", "bicubic"):
        options["antialias"] = draw.choice([True, False])
    x = rng.normal(size=shape)
    assert_same(
        "interpolate", [x], [True], draw.choice(list(TOLERANCE)), rng, draw.choice("CL"), **options
    )


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact"])
def test_nearest_places_of_many_sizes(mode):
    """Where products are near a whole number float32 decides, as in torch's kernels for
    channels-last memory and in its gradients; its others differ among themselves."""
    for size in (1, 2, 3, 7, 29, 49, 58, 100, 224):
        x = np.broadcast_to(np.arange(size, dtype=np.float32), (1, 4, 2, size))
        image = torch.tensor(x).contiguous(memory_format=torch.channels_last)
        for width in (1, 3, 5, 11, 41, 55, 61, 99, 107, 147, 448):
            expected = torch.nn.functional.interpolate(image, (2, width), mode=mode).numpy()
            for values in (x, x.astype(np.float64)):
                assert_array_equal(F.interpolate(values, (2, width), mode=mode), expected)


@every_draw
def test_pools(draw, rng):
    """All pools with a kernel; the maxima back by their indices."""
    dims, dtype, order = draw.randint(1, 3), draw.choice(list(TOLERANCE)), draw.choice("CL")
    kernel = per_axis(draw, dims, 1, 4) if dims > 1 else draw.randint(1, 4)  # lp_pool1d wants ints
    same = functools.partial(assert_same, dtype=dtype, rng=rng, order=order)
    options = {
        "kernel_size": kernel,
        "stride": draw.choice([None, draw.randint(1, 3)]),
        "ceil_mode": draw.choice([True, False]),
    }
    x = rng.normal(size=(2, draw.choice([1, 3, 17]), *per_axis(draw, dims, 4, 9)))
    same(
        f"lp_pool{dims}d", [np.abs(x) + 0.1], [True], norm_type=draw.choice([1, 2, 3.5]), **options
    )
    smallest = kernel if dims == 1 else min(kernel)
    options["padding"] = draw.randint(0, smallest // 2)
    more = {"count_include_pad": draw.choice([True, False])}
    if dims > 1:
        more["divisor_override"] = draw.choice([None, 3, -2])
    same(f"avg_pool{dims}d", [x], [True], **options, **more)
    same(f"max_pool{dims}d", [x], [True], return_indices=True, **options)

    options["stride"] = kernel
    options["padding"] = 0
    options["ceil_mode"] = False
    y, indices = getattr(F, f"max_pool{dims}d")(x, return_indices=True, **options)
    del options["ceil_mode"]
    same(
        f"max_unpool{dims}d",
        [y, indices],
        [True, False],
        output_size=x.shape[2:],
        **options,
    )


@every_draw
def test_adaptive_pools(draw, rng):
    dims, dtype, order = draw.randint(1, 3), draw.choice(list(TOLERANCE)), draw.choice("CL")
    x = rng.normal(size=(2, draw.choice([1, 3, 17]), *per_axis(draw, dims, 1, 9)))
    x = x[0] if draw.random() < 0.2 else x
    size = draw.choice([draw.randint(1, 5), per_axis(draw, dims, 1, 11)])
    if dims > 1 and not isinstance(size, int) and draw.random() < 0.5:
        size = (None, *size[1:])
    same = functools.partial(assert_same, dtype=dtype, rng=rng, order=order, output_size=size)
    same(f"adaptive_avg_pool{dims}d", [x], [True])
    same(f"adaptive_max_pool{dims}d", [x], [True], return_indices=draw.choice([True, False]))


@pytest.mark.parametrize("seed", range(10))
def test_fold_and_unfold(draw, rng):
    kernel, stride, dilation = (per_axis(draw, 2, 1, high) for high in (3, 3, 2))
    padding, size = per_axis(draw, 2, 0, 2), per_axis(draw, 2, 5, 9)
    options = {"dilation": dilation, "padding": padding, "stride": stride}
    x = rng.normal(size=(2, 3, *size))
    dtype = draw.choice(list(TOLERANCE))
    cols = assert_same("unfold", [x], [True], dtype, rng, "L", kernel_size=kernel, **options)
    assert_same("fold", [cols], [True], dtype, rng, kernel_size=kernel, output_size=size, **options)
    ours = fastconv.nn.Fold(size, kernel, **options)(fastconv.nn.Unfold(kernel, **options)(x))
    unfolded = torch.nn.Unfold(kernel, **options)(torch.tensor(x))
    assert_allclose(ours.data, torch.nn.Fold(size, kernel, **options)(unfolded).numpy())


def test_sizes_of_transposed_layers():
    """output_size, in all forms, and what is refused."""
    for dims in (1, 2, 3):
        options = {"stride": 3, "padding": 1, "dilation": 2}
        ours = getattr(fastconv.nn, f"ConvTranspose{dims}d")(2, 3, 3, **options)
        theirs = getattr(torch.nn, f"ConvTranspose{dims}d")(2, 3, 3, **options)
        ours.load_state_dict(theirs.state_dict())
        x = np.random.default_rng(0).normal(size=(1, 2, *(4, 5, 3)[:dims])).astype(np.float32)
        smallest = ours(x).shape[2:]
        for more in range(-1, 4):
            size = tuple(s + more for s in smallest)
            for wanted in (size, [1, 3, *size]):
                if 0 <= more < 3:
                    expected = theirs(torch.tensor(x), wanted).detach().numpy()
                    assert_allclose(ours(x, wanted).data, expected, atol=1e-5)
                else:
                    with pytest.raises(ValueError, match="output_size"):
                        ours(x, wanted)
                    with pytest.raises(ValueError, match="output size"):
                        theirs(torch.tensor(x), list(wanted))
