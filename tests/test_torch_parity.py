"""Every operator against PyTorch: output and all gradients, in both dtypes."""

import numpy as np
import pytest
from conftest import integers
from numpy.testing import assert_allclose, assert_array_equal

import fastconv
import fastconv.functional as F

torch = pytest.importorskip("torch")

# Arguments: a tuple is the shape of an array that needs a gradient, an array is itself and needs
# none, None is None. Arrays among the options are themselves.
RNG = np.random.default_rng(3)
LABELS = RNG.integers(0, 5, 6)
LABEL_IMAGES = RNG.integers(0, 5, (3, 4, 2))
PROBABILITIES = RNG.dirichlet(np.ones(5), 6)
CLASS_WEIGHT = RNG.uniform(0.5, 2, 5)
PLACE_WEIGHT = RNG.uniform(0.5, 2, (6, 5))
RUNNING = (RNG.normal(size=5), RNG.uniform(0.5, 2, 5))

CONVOLUTIONS = [
    ("conv1d", [(2, 3, 17), (4, 3, 3)], {}),
    ("conv1d", [(2, 4, 17), (6, 2, 4), (6,)], {"stride": 3, "padding": 5, "groups": 2}),
    ("conv1d", [(2, 3, 40), (4, 3, 3), (4,)], {"stride": 4, "dilation": 6}),
    ("conv1d", [(2, 3, 12), (4, 3, 4), (4,)], {"padding": "same", "dilation": 2}),
    ("conv1d", [(3, 12), (4, 3, 4)], {"padding": "valid", "stride": 2}),
    ("conv2d", [(2, 3, 9, 7), (4, 3, 3, 2), (4,)], {}),
    ("conv2d", [(2, 17, 9, 7), (24, 17, 1, 1), (24,)], {}),
    ("conv2d", [(2, 8, 9, 7), (16, 8, 1, 1)], {"stride": 2, "padding": (0, 1)}),
    ("conv2d", [(2, 3, 9, 7), (4, 3, 3, 2), (4,)], {"stride": (2, 3), "padding": (4, 3)}),
    ("conv2d", [(2, 3, 14, 11), (4, 3, 3, 2)], {"stride": 2, "dilation": 2}),
    ("conv2d", [(2, 3, 19, 15), (4, 3, 3, 2)], {"stride": (6, 2), "dilation": (4, 3)}),
    ("conv2d", [(2, 3, 12, 13), (4, 3, 2, 2)], {"stride": (3, 5), "padding": 1}),
    ("conv2d", [(2, 6, 9, 7), (9, 2, 3, 2), (9,)], {"groups": 3, "padding": 1}),
    ("conv2d", [(2, 9, 9, 7), (9, 1, 3, 5), (9,)], {"groups": 9, "padding": (1, 2)}),
    ("conv2d", [(2, 5, 9, 7), (15, 1, 3, 3)], {"groups": 5, "stride": 2, "dilation": 2}),
    ("conv2d", [(2, 3, 9, 7), (4, 3, 3, 5), (4,)], {"padding": "same", "dilation": (1, 2)}),
    ("conv2d", [(3, 9, 7), (4, 3, 3, 2), (4,)], {"padding": 1}),
    ("conv2d", [(2, 17, 40, 50), (24, 17, 3, 3), (24,)], {"padding": 1}),
    ("conv2d", [(2, 32, 28, 25), (33, 32, 3, 3), (33,)], {"padding": 1, "stride": 2}),
    ("conv2d", [(2, 3, 40, 50), (16, 3, 7, 7), (16,)], {"padding": 3, "stride": 2}),
    ("conv3d", [(2, 3, 5, 7, 6), (4, 3, 2, 3, 1), (4,)], {}),
    ("conv3d", [(2, 3, 5, 7, 6), (4, 3, 3, 2, 2)], {"stride": (2, 1, 3), "padding": (1, 0, 2)}),
    ("conv3d", [(1, 4, 9, 8, 11), (6, 2, 3, 2, 3)], {"stride": 2, "dilation": 2, "groups": 2}),
    ("conv3d", [(1, 2, 4, 5, 6), (3, 2, 3, 1, 5), (3,)], {"padding": "same"}),
    ("conv3d", [(3, 4, 5, 6), (3, 3, 2, 2, 2), (3,)], {"padding": 1}),
]

POOLS = [
    ("max_pool1d", [(2, 3, 17)], {"kernel_size": 3, "stride": 2, "padding": 1}),
    ("max_pool1d", [(2, 3, 17)], {"kernel_size": 2, "stride": 4, "dilation": 3, "ceil_mode": True}),
    ("max_pool2d", [(2, 5, 9, 8)], {"kernel_size": (3, 2)}),
    ("max_pool2d", [(2, 5, 9, 8)], {"kernel_size": 3, "stride": 2, "padding": 1}),
    ("max_pool2d", [(2, 5, 13, 9)], {"kernel_size": (2, 3), "dilation": (3, 2), "stride": (1, 2)}),
    ("max_pool2d", [(2, 5, 12, 9)], {"kernel_size": (3, 2), "stride": (3, 4), "ceil_mode": True}),
    ("max_pool2d", [(2, 5, 12, 9)], {"kernel_size": 2, "return_indices": True}),
    ("max_pool2d", [(5, 12, 9)], {"kernel_size": 2, "stride": 1}),
    (
        "max_pool3d",
        [(2, 3, 5, 6, 7)],
        {"kernel_size": (1, 3, 2), "stride": 2, "padding": (0, 1, 1)},
    ),
    (
        "max_pool3d",
        [(2, 3, 5, 6, 7)],
        {"kernel_size": 2, "ceil_mode": True, "return_indices": True},
    ),
    ("avg_pool1d", [(2, 3, 17)], {"kernel_size": 3, "stride": 2, "padding": 1}),
    ("avg_pool1d", [(2, 3, 18)], {"kernel_size": 4, "ceil_mode": True, "count_include_pad": False}),
    ("avg_pool2d", [(2, 5, 9, 8)], {"kernel_size": (3, 2)}),
    ("avg_pool2d", [(2, 5, 9, 8)], {"kernel_size": 3, "stride": (2, 4), "padding": 1}),
    ("avg_pool2d", [(2, 5, 9, 8)], {"kernel_size": 3, "padding": 1, "count_include_pad": False}),
    (
        "avg_pool2d",
        [(2, 5, 12, 9)],
        {"kernel_size": (5, 4), "stride": 3, "padding": (2, 1), "ceil_mode": True},
    ),
    ("avg_pool2d", [(2, 5, 9, 8)], {"kernel_size": 2, "divisor_override": 7}),
    ("avg_pool2d", [(5, 9, 8)], {"kernel_size": 2, "stride": 1}),
    (
        "avg_pool3d",
        [(2, 3, 5, 6, 7)],
        {"kernel_size": (1, 3, 2), "stride": 2, "padding": (0, 1, 1)},
    ),
    ("avg_pool3d", [(2, 3, 5, 6, 7)], {"kernel_size": 3, "divisor_override": 5, "ceil_mode": True}),
    ("lp_pool1d", [(2, 3, 17)], {"norm_type": 2, "kernel_size": 3, "stride": 2}),
    ("lp_pool2d", [(2, 3, 9, 8)], {"norm_type": 2.0, "kernel_size": (3, 2)}),
    ("lp_pool2d", [(2, 3, 9, 8)], {"norm_type": 3, "kernel_size": 3, "stride": 2}),
    ("lp_pool2d", [(2, 3, 9, 8)], {"norm_type": 1, "kernel_size": (2, 3), "stride": 1}),
    ("lp_pool2d", [(2, 3, 10, 8)], {"norm_type": 1.5, "kernel_size": 3, "ceil_mode": True}),
    ("lp_pool3d", [(2, 3, 5, 6, 7)], {"norm_type": 2, "kernel_size": (1, 3, 2)}),
    ("adaptive_avg_pool1d", [(2, 3, 11)], {"output_size": 4}),
    ("adaptive_avg_pool2d", [(2, 3, 9, 7)], {"output_size": (4, 3)}),
    ("adaptive_avg_pool2d", [(2, 3, 9, 7)], {"output_size": 1}),
    ("adaptive_avg_pool2d", [(2, 3, 9, 7)], {"output_size": (None, 10)}),
    ("adaptive_avg_pool3d", [(2, 3, 5, 7, 6)], {"output_size": (2, 3, 5)}),
    ("adaptive_max_pool1d", [(2, 3, 11)], {"output_size": 4}),
    ("adaptive_max_pool2d", [(2, 3, 9, 7)], {"output_size": (4, 3), "return_indices": True}),
    ("adaptive_max_pool2d", [(3, 9, 7)], {"output_size": 2}),
    ("adaptive_max_pool3d", [(2, 3, 5, 7, 6)], {"output_size": (2, 8, 5)}),
]

# test_torch_spatial.py has many more of them.
TRANSPOSED_AND_RESIZED = [
    ("conv_transpose1d", [(2, 4, 7), (4, 3, 3), (6,)], {"stride": 2, "groups": 2}),
    ("conv_transpose2d", [(2, 4, 7, 5), (4, 3, 3, 4), (3,)], {"stride": 2, "padding": 1}),
    ("conv_transpose3d", [(4, 3, 5, 4), (4, 3, 2, 3, 2)], {"output_padding": 1, "stride": 2}),
    ("interpolate", [(2, 3, 7, 5)], {"scale_factor": 1.7, "mode": "bilinear"}),
    ("max_unpool1d", [(2, 3, 4), np.arange(24).reshape(2, 3, 4) % 8], {"kernel_size": 2}),
    ("max_unpool2d", [(2, 3, 4), np.arange(24).reshape(2, 3, 4)], {"kernel_size": 2}),
    ("max_unpool3d", [(1, 2, 3, 4), np.arange(24).reshape(1, 2, 3, 4)], {"kernel_size": 2}),
]

PADS_AND_FOLDS = [
    ("pad", [(2, 3, 5, 6)], {"pad": (1, 2, 0, 3)}),
    ("pad", [(2, 3, 5, 6)], {"pad": (-1, 2, 3, -2), "value": 1.5}),
    ("pad", [(2, 3, 5, 6)], {"pad": (1, 0, 2, 1, 0, 3, 1, 1), "mode": "constant"}),
    ("pad", [(2, 3, 6)], {"pad": (5, 3), "mode": "reflect"}),
    ("pad", [(2, 3, 5, 6)], {"pad": (1, 2, 3, 4), "mode": "reflect"}),
    ("pad", [(2, 3, 4, 5, 6)], {"pad": (1, 2, 0, 3, 2, 0), "mode": "reflect"}),
    ("pad", [(2, 3, 6)], {"pad": (9, 4), "mode": "replicate"}),
    ("pad", [(2, 3, 5, 6)], {"pad": (1, 2, 8, 0), "mode": "replicate"}),
    ("pad", [(2, 3, 4, 5, 6)], {"pad": (1, 2, 0, 3, 9, 0), "mode": "replicate"}),
    ("pad", [(2, 3, 6)], {"pad": (6, 3), "mode": "circular"}),
    ("pad", [(2, 3, 5, 6)], {"pad": (1, 2, 5, 0), "mode": "circular"}),
    ("pad", [(2, 3, 4, 5, 6)], {"pad": (1, 2, 0, 3, 2, 4), "mode": "circular"}),
    ("unfold", [(2, 3, 9, 8)], {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 0)}),
    ("unfold", [(2, 3, 9, 8)], {"kernel_size": 2, "dilation": (2, 3), "stride": 2}),
    ("unfold", [(3, 9, 8)], {"kernel_size": 2}),
    ("fold", [(2, 12, 20)], {"output_size": (6, 5), "kernel_size": 2}),
    (
        "fold",
        [(2, 18, 20)],
        {
            "output_size": (9, 8),
            "kernel_size": (3, 2),
            "dilation": (2, 1),
            "stride": 2,
            "padding": 1,
        },
    ),
    ("fold", [(12, 20)], {"output_size": (6, 5), "kernel_size": 2}),
]

NORMS_AND_ACTIVATIONS = [
    ("batch_norm", [(6, 5), *RUNNING, (5,), (5,)], {"training": True}),
    ("batch_norm", [(2, 5, 4, 6), *RUNNING, (5,), (5,)], {"training": True, "momentum": 0.3}),
    ("batch_norm", [(2, 5, 4, 6), *RUNNING, (5,), (5,)], {"training": False, "eps": 0.1}),
    ("batch_norm", [(2, 5, 4, 6), *RUNNING], {"training": True, "eps": 0.1}),
    ("batch_norm", [(2, 5, 4, 6), *RUNNING], {}),
    ("batch_norm", [(2, 5, 4, 6), None, None, (5,), (5,)], {"training": True}),
    ("batch_norm", [(2, 5, 3, 4, 6), *RUNNING, (5,), (5,)], {"training": True}),
    ("relu", [(2, 3, 5)], {}),
    ("relu6", [(2, 3, 5)], {}),
    ("leaky_relu", [(2, 3, 5)], {}),
    ("leaky_relu", [(2, 3, 5)], {"negative_slope": 0.3}),
    ("linear", [(3, 4), (5, 4), (5,)], {}),
    ("linear", [(2, 3, 4), (5, 4)], {}),
    ("linear", [(4,), (5, 4), (5,)], {}),
    ("linear", [(70, 300), (130, 300), (130,)], {}),
    ("softmax", [(3, 5)], {"dim": 1}),
    ("softmax", [(2, 5, 3, 4)], {"dim": -3}),
    ("log_softmax", [(3, 5)], {"dim": 1}),
    ("log_softmax", [(2, 5, 3, 4)], {"dim": 1}),
    ("dropout", [(3, 5)], {"p": 0.0}),
    ("dropout", [(3, 5)], {"p": 1.0}),
    ("dropout", [(3, 5)], {"p": 0.5, "training": False}),
]

NORMS = [
    ("group_norm", [(2, 6, 4, 5)], {"num_groups": 2, "eps": 0.1}),
    ("group_norm", [(3, 6), 2, (6,), (6,)], {}),
    ("group_norm", [(2, 6, 2, 3, 4), 1, (6,), (6,)], {}),
    ("instance_norm", [(2, 5, 7)], {}),
    ("instance_norm", [(2, 5, 4, 6), *RUNNING, (5,), (5,)], {"momentum": 0.3}),
    ("instance_norm", [(2, 5, 4, 6), *RUNNING, (5,), (5,)], {"use_input_stats": False}),
    ("instance_norm", [(2, 5, 3, 4, 2), None, None, (5,), (5,)], {"eps": 0.1}),
    ("layer_norm", [(3, 4, 5)], {"normalized_shape": (4, 5), "eps": 0.1}),
    ("layer_norm", [(3, 4, 5), [4, 5], (4, 5), (4, 5)], {}),
    ("layer_norm", [(3, 4, 5), [5], (5,), (5,)], {}),
]

VALUES = [
    *((name, [(2, 3, 5)], {}) for name in ("elu", "selu", "celu", "gelu", "silu", "mish")),
    *((name, [(2, 3, 5)], {}) for name in ("sigmoid", "logsigmoid", "tanh", "hardtanh")),
    *((name, [(2, 3, 5)], {}) for name in ("hardswish", "hardsigmoid", "softplus", "softsign")),
    ("elu", [(2, 3, 5)], {"alpha": 0.3}),
    ("celu", [(2, 3, 5)], {"alpha": 0.3}),
    ("gelu", [(2, 3, 5)], {"approximate": "tanh"}),
    ("hardtanh", [(2, 3, 5)], {"min_val": -0.2, "max_val": 0.7}),
    ("softplus", [(2, 3, 5)], {"beta": 2, "threshold": 1}),
    ("softmin", [(2, 5, 3, 4)], {"dim": 1}),
    ("prelu", [(2, 5, 3, 4), (5,)], {}),
    ("prelu", [(2, 5, 3, 4), (1,)], {}),
    ("prelu", [(7,), (1,)], {}),
]

LOSSES = [
    ("cross_entropy", [(6, 5), LABELS], {}),
    ("cross_entropy", [(6, 5), LABELS], {"reduction": "none", "label_smoothing": 0.2}),
    ("cross_entropy", [(6, 5), LABELS], {"weight": CLASS_WEIGHT, "label_smoothing": 0.2}),
    ("cross_entropy", [(6, 5), LABELS], {"ignore_index": int(LABELS[0]), "weight": CLASS_WEIGHT}),
    ("cross_entropy", [(6, 5), PROBABILITIES], {"weight": CLASS_WEIGHT}),
    ("cross_entropy", [(6, 5), PROBABILITIES], {"label_smoothing": 0.2, "reduction": "sum"}),
    ("cross_entropy", [(3, 5, 4, 2), LABEL_IMAGES], {}),
    ("cross_entropy", [(3, 5, 4, 2), LABEL_IMAGES], {"reduction": "none"}),
    ("cross_entropy", [(5,), LABELS[0]], {}),
    ("cross_entropy", [(5,), PROBABILITIES[0]], {"label_smoothing": 0.1}),
    ("cross_entropy", [(6, 5), (6, 5)], {}),
    ("nll_loss", [(6, 5), LABELS], {}),
    ("nll_loss", [(6, 5), LABELS], {"weight": CLASS_WEIGHT, "ignore_index": int(LABELS[1])}),
    ("nll_loss", [(3, 5, 4, 2), LABEL_IMAGES], {"reduction": "sum"}),
    ("nll_loss", [(5,), LABELS[0]], {"reduction": "none"}),
    ("mse_loss", [(6, 5), (6, 5)], {}),
    ("mse_loss", [(6, 5), (6, 5)], {"reduction": "sum"}),
    ("mse_loss", [(6, 5), (6, 5)], {"reduction": "none"}),
    ("binary_cross_entropy_with_logits", [(6, 5), PROBABILITIES], {}),
    ("binary_cross_entropy_with_logits", [(6, 5), (6, 5)], {"reduction": "sum"}),
    ("binary_cross_entropy_with_logits", [(6, 5), PROBABILITIES], {"weight": PLACE_WEIGHT}),
    (
        "binary_cross_entropy_with_logits",
        [(6, 5), PROBABILITIES],
        {"pos_weight": CLASS_WEIGHT, "reduction": "none"},
    ),
]

VALUES += [
    *((f"dropout{n}d", [(2, 3, *[4] * n)], {"p": 1.0}) for n in (1, 2, 3)),
    ("dropout2d", [(2, 3, 4, 4)], {"training": False}),
    ("alpha_dropout", [(3, 5)], {}),
    ("alpha_dropout", [(3, 5)], {"p": 1.0, "training": True}),
    ("pixel_shuffle", [(2, 3, 12, 4, 5), 2], {}),
    ("pixel_shuffle", [(18, 4, 5), 3], {}),
    ("pixel_unshuffle", [(2, 3, 6, 9), 3], {}),
    ("channel_shuffle", [(2, 6, 4, 5), 3], {}),
]

SIGNS = np.array([1, -1, 1, -1, -1, 1])
LOSSES += [
    *((name, [(6, 5), (6, 5)], {}) for name in ("l1_loss", "smooth_l1_loss", "huber_loss")),
    ("l1_loss", [(6, 5), (6, 5)], {"reduction": "sum"}),
    ("smooth_l1_loss", [(6, 5), (6, 5)], {"reduction": "none", "beta": 0.4}),
    ("smooth_l1_loss", [(6, 5), (6, 5)], {"beta": 0}),
    ("huber_loss", [(6, 5), (6, 5)], {"reduction": "sum", "delta": 0.4}),
    ("kl_div", [(6, 5), PROBABILITIES], {"reduction": "batchmean"}),
    ("kl_div", [(6, 5), PROBABILITIES], {"reduction": "none"}),
    ("kl_div", [(6, 5), (6, 5)], {"reduction": "sum", "log_target": True}),
    ("kl_div", [(6, 5), (6, 5)], {"reduction": "batchmean", "log_target": True}),
    ("binary_cross_entropy", [(6, 5), PROBABILITIES], {}),
    ("binary_cross_entropy", [(6, 5), (6, 5)], {"weight": CLASS_WEIGHT, "reduction": "none"}),
    ("cosine_similarity", [(6, 5), (6, 5)], {}),
    ("cosine_similarity", [(6, 5), (2, 1, 5)], {"dim": -1, "eps": 1e-3}),
    ("cosine_embedding_loss", [(6, 5), (6, 5), SIGNS], {}),
    ("cosine_embedding_loss", [(6, 5), (6, 5), SIGNS], {"margin": 0.3, "reduction": "none"}),
    ("cosine_embedding_loss", [(5,), (5,), SIGNS[1]], {"margin": -0.3, "reduction": "sum"}),
]

CASES = (
    CONVOLUTIONS
    + POOLS
    + TRANSPOSED_AND_RESIZED
    + PADS_AND_FOLDS
    + NORMS_AND_ACTIVATIONS
    + NORMS
    + VALUES
    + LOSSES
)
TOLERANCE = {np.float32: 1e-5, np.float64: 1e-12}
ROUGH = {"celu": 1e-7, "hardsigmoid": 1e-7}  # torch rounds some constants of float64 to float32


def values(case, dtype, rng):
    """The arrays for the arguments of a case, and which of them need a gradient."""
    name, arguments, _ = case
    arrays = []
    for argument in arguments:
        if isinstance(argument, tuple):
            argument = rng.normal(size=argument)
            if name.startswith("lp_pool"):  # odd powers of negative sums have no root
                argument = np.abs(argument) + 0.1
            if name == "binary_cross_entropy":
                argument = 1 / (1 + np.exp(argument))
        arrays.append(convert(argument, dtype))
    return arrays, [isinstance(argument, tuple) for argument in arguments]


def convert(value, dtype):
    """A copy in the dtype if it is an array of floats; integers stay as they are."""
    if not isinstance(value, np.ndarray | np.generic):
        return value
    value = np.array(value)
    return value.astype(dtype) if value.dtype.kind == "f" else value


def as_torch(value):
    """A torch tensor that shares nothing with the array."""
    return torch.tensor(value) if isinstance(value, np.ndarray) else value


def assert_near(result, expected, dtype, name, rough=0):
    """Same shape and dtype; the error is small against the largest value."""
    expected = expected.detach().numpy()
    assert result.shape == expected.shape, name
    assert result.dtype == expected.dtype, name
    atol = max(TOLERANCE[dtype], rough) * np.abs(expected).max(initial=0)
    assert_allclose(result, expected, rtol=0, atol=atol, err_msg=name)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{case[1][0]}")
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_parity(case, dtype, rng):
    name, _, options = case
    options = {key: convert(value, dtype) for key, value in options.items()}
    arrays, wanted = values(case, dtype, rng)
    ours = [
        fastconv.Tensor(array, requires_grad=True) if needs else array
        for array, needs in zip(arrays, wanted, strict=True)
    ]
    theirs = [
        as_torch(array).requires_grad_() if needs else as_torch(array)
        for array, needs in zip(arrays, wanted, strict=True)
    ]
    torch_options = {key: as_torch(value) for key, value in options.items()}
    out = getattr(F, name)(*ours, **options)
    expected = getattr(torch.nn.functional, name)(*theirs, **torch_options)
    if options.get("return_indices"):
        (out, indices), (expected, expected_indices) = out, expected
        assert_array_equal(np.asarray(indices), expected_indices.numpy())
    assert_near(out.data, expected, dtype, "output")

    grad = integers(rng, tuple(expected.shape), dtype)
    out.backward(grad)
    expected.backward(torch.tensor(grad))
    for i, needs in enumerate(wanted):
        if needs:
            rough = ROUGH.get(name, 0)
            assert_near(ours[i].grad, theirs[i].grad, dtype, f"gradient {i}", rough)
        elif isinstance(arrays[i], np.ndarray):  # running statistics change in place
            assert_near(ours[i], theirs[i], dtype, f"argument {i}")


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_asymmetric_padding(dims, dtype, rng):
    """Pairs of paddings are torch's pad before a convolution without."""
    pairs = ((3, 0), (1, 4), (0, 2))[:dims]
    flat = [p for pair in reversed(pairs) for p in pair]
    arrays = [
        rng.normal(size=shape).astype(dtype)
        for shape in ((2, 4, *(7, 6, 5)[:dims]), (6, 2, *(2, 3, 2)[:dims]), (6,))
    ]
    ours = [fastconv.Tensor(array, requires_grad=True) for array in arrays]
    theirs = [torch.tensor(array, requires_grad=True) for array in arrays]
    out = getattr(F, f"conv{dims}d")(*ours, stride=2, padding=pairs, groups=2)
    padded = torch.nn.functional.pad(theirs[0], flat)
    expected = getattr(torch.nn.functional, f"conv{dims}d")(padded, *theirs[1:], stride=2, groups=2)
    assert_near(out.data, expected, dtype, "output")
    grad = integers(rng, tuple(expected.shape), dtype)
    out.backward(grad)
    expected.backward(torch.tensor(grad))
    for i in range(3):
        assert_near(ours[i].grad, theirs[i].grad, dtype, f"gradient {i}")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("relu", ()),
        ("relu6", ()),
        ("leaky_relu", ()),
        *((name, ()) for name in ("elu", "selu", "celu", "gelu", "silu", "mish", "sigmoid")),
        *((name, ()) for name in ("logsigmoid", "tanh", "hardtanh", "hardswish", "hardsigmoid")),
        ("softplus", ()),
        ("softsign", ()),
        ("softmax", (1,)),
        ("log_softmax", (1,)),
        ("max_pool2d", (2,)),
        ("avg_pool2d", (2,)),
        ("adaptive_max_pool2d", (2,)),
        ("adaptive_avg_pool2d", (2,)),
        ("lp_pool2d", (2, 2)),
    ],
)
def test_what_is_not_finite(name, arguments, value, rng):
    """NaN and infinities pass as in torch, without a warning."""
    x = rng.normal(size=(2, 3, 4, 6))
    x[1, 2, 1, 3] = x[0, 1, 0, 0] = value
    out = getattr(F, name)(x, *arguments)
    expected = getattr(torch.nn.functional, name)(torch.tensor(x), *arguments)
    assert_allclose(out, expected.numpy(), rtol=1e-13)


def test_nothing_is_left_out():
    """Every operator that torch has too stands in the table."""
    public = {name for name in F.__all__ if hasattr(torch.nn.functional, name)}
    assert public == {name for name, _, _ in CASES}
