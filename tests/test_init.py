"""Initialisations: their distributions, their arguments, and the generator behind them."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

import fastconv
import fastconv.functional as F
from fastconv import Tensor, nn
from fastconv.nn import init

SHAPE = (30, 20, 5, 4)  # fan in 400, fan out 600
FAN_IN, FAN_OUT = 400, 600

# name: (call, the distribution that its values must have)
RANDOM = {
    "uniform": (init.uniform_, stats.uniform(0, 1)),
    "uniform, bounds": (lambda t, **g: init.uniform_(t, -2, 5, **g), stats.uniform(-2, 7)),
    "normal": (init.normal_, stats.norm()),
    "normal, mean": (lambda t, **g: init.normal_(t, 3, 0.5, **g), stats.norm(3, 0.5)),
    "truncated normal": (init.trunc_normal_, stats.truncnorm(-2, 2)),
    "truncated normal, bounds": (
        lambda t, **g: init.trunc_normal_(t, 1, 2, a=0, b=2, **g),
        stats.truncnorm(-0.5, 0.5, 1, 2),
    ),
    "truncated normal, far tail": (
        lambda t, **g: init.trunc_normal_(t, 0, 1, a=4.5, b=6, **g),
        stats.truncnorm(4.5, 6),
    ),
    "truncated normal, lower tail": (
        lambda t, **g: init.trunc_normal_(t, 1, 0.1, a=-1, b=0.4, **g),
        stats.truncnorm(-20, -6, 1, 0.1),
    ),
    "Xavier uniform": (
        init.xavier_uniform_,
        stats.uniform(-math.sqrt(6 / 1000), 2 * math.sqrt(6 / 1000)),
    ),
    "Xavier normal": (
        lambda t, **g: init.xavier_normal_(t, gain=3, **g),
        stats.norm(0, 3 * math.sqrt(2 / 1000)),
    ),
    "Kaiming uniform": (
        init.kaiming_uniform_,
        stats.uniform(-math.sqrt(6 / FAN_IN), 2 * math.sqrt(6 / FAN_IN)),
    ),
    "Kaiming uniform, leaky": (
        lambda t, **g: init.kaiming_uniform_(t, a=math.sqrt(5), **g),
        stats.uniform(-1 / math.sqrt(FAN_IN), 2 / math.sqrt(FAN_IN)),
    ),
    "Kaiming normal, fan out": (
        lambda t, **g: init.kaiming_normal_(t, mode="fan_out", nonlinearity="relu", **g),
        stats.norm(0, math.sqrt(2 / FAN_OUT)),
    ),
    "Kaiming normal, linear": (
        lambda t, **g: init.kaiming_normal_(t, nonlinearity="linear", **g),
        stats.norm(0, math.sqrt(1 / FAN_IN)),
    ),
}
every_random = pytest.mark.parametrize(("fill", "distribution"), RANDOM.values(), ids=RANDOM)


@every_random
def test_values_have_their_distribution(fill, distribution, rng):
    array = np.full(SHAPE, np.nan)
    assert fill(array, generator=rng) is array
    assert stats.kstest(array.ravel(), distribution.cdf).pvalue > 1e-3
    low, high = distribution.support()
    assert low <= array.min()
    assert array.max() <= high


@every_random
def test_generator_decides(fill, distribution):
    first, same, other, default, seeded = np.zeros((5, 3, 4, 2))
    fill(first, generator=np.random.default_rng(1))
    fill(same, generator=np.random.default_rng(1))
    fill(other, generator=np.random.default_rng(2))
    assert_array_equal(first, same)
    assert not (first == other).any()
    fastconv.manual_seed(1)
    fill(default)
    fastconv.manual_seed(1)
    fill(seeded)
    assert_array_equal(default, seeded)


ALL = {
    **{name: fill for name, (fill, _) in RANDOM.items()},
    "zeros": init.zeros_,
    "ones": init.ones_,
    "constant": lambda t: init.constant_(t, -2.5),
    "dirac": init.dirac_,
    "orthogonal": init.orthogonal_,
}


@pytest.mark.parametrize("fill", ALL.values(), ids=ALL)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tensors_are_filled_in_place(fill, dtype):
    channels_last = np.full((4, 3, 5, 2), np.nan, dtype).transpose(0, 3, 1, 2)
    parameter = nn.Parameter(channels_last)
    fastconv.manual_seed(0)
    assert fill(parameter) is parameter
    assert parameter.data is channels_last
    assert parameter.dtype == dtype
    assert parameter.requires_grad
    assert parameter.is_leaf
    assert np.isfinite(parameter.data).all()
    # Memory order changes nothing, nor is a Tensor other than an array.
    plain = np.zeros((4, 2, 3, 5), dtype)
    fastconv.manual_seed(0)
    assert fill(plain) is plain
    assert_array_equal(plain, channels_last)


def test_constants():
    array = np.empty((2, 3))
    assert_array_equal(init.zeros_(array), np.zeros((2, 3)))
    assert_array_equal(init.ones_(array), np.ones((2, 3)))
    assert_array_equal(init.constant_(array, -2.5), np.full((2, 3), -2.5))


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2])
def test_dirac_kernels_pass_their_input_on(n, groups, rng):
    x = rng.standard_normal((2, 6, *(7, 5, 4)[:n]))
    weight = init.dirac_(np.full((6, 6 // groups, *(3, 5, 1)[:n]), np.nan), groups)
    conv = (F.conv1d, F.conv2d, F.conv3d)[n - 1]
    assert_array_equal(conv(x, weight, padding="same", groups=groups), x)
    assert weight.sum() == 6


@pytest.mark.parametrize("shape", [(8, 3, 2), (4, 3, 5), (6, 6), (40, 2)])
def test_orthogonal_rows_or_columns(shape, rng):
    matrix = init.orthogonal_(np.empty(shape), gain=3, generator=rng).reshape(shape[0], -1)
    small = min(matrix.shape)
    product = matrix @ matrix.T if matrix.shape[0] == small else matrix.T @ matrix
    assert_allclose(product, 9 * np.eye(small), atol=1e-12)


def test_orthogonal_matrices_are_uniformly_distributed(rng):
    # Of a uniform rotation every entry has mean 0; without the sign correction of the QR
    # decomposition the diagonal of Q would be biased.
    diagonals = [np.diag(init.orthogonal_(np.empty((3, 3)), generator=rng)) for _ in range(2000)]
    assert_allclose(np.mean(diagonals, axis=0), 0, atol=4 / math.sqrt(3 * 2000))


GAINS = ["linear", "conv1d", "conv2d", "conv3d", "sigmoid", "tanh", "relu", "leaky_relu", "selu"]


@pytest.mark.parametrize("name", GAINS)
def test_gains_are_those_of_torch(name):
    torch = pytest.importorskip("torch")
    theirs = torch.nn.init.calculate_gain
    assert init.calculate_gain(name) == pytest.approx(theirs(name), rel=1e-15)
    if name == "leaky_relu":
        assert init.calculate_gain(name, 0.3) == pytest.approx(theirs(name, 0.3), rel=1e-15)


def test_gains():
    assert init.calculate_gain("relu") == math.sqrt(2)
    assert init.calculate_gain("leaky_relu", 1) == 1
    assert init.calculate_gain("leaky_relu", 0) == math.sqrt(2)


@pytest.mark.parametrize("fill", [init.xavier_normal_, init.kaiming_uniform_, init.orthogonal_])
def test_empty_and_grouped_shapes(fill):
    assert np.isfinite(fill(np.empty((8, 1, 3, 3)))).all()


BAD_CALLS = [
    (lambda x: init.xavier_uniform_(np.zeros(3)), ValueError, ["2 axes", "(3,)"]),
    (lambda x: init.kaiming_normal_(np.zeros(3)), ValueError, ["2 axes", "(3,)"]),
    (lambda x: init.orthogonal_(np.zeros(3)), ValueError, ["2 axes", "(3,)"]),
    (lambda x: init.orthogonal_(np.zeros(())), ValueError, ["2 axes", "()"]),
    (lambda x: init.dirac_(np.zeros((3, 3))), ValueError, ["3 to 5 axes", "(3, 3)"]),
    (lambda x: init.dirac_(np.zeros((2, 2, 1, 1, 1, 1))), ValueError, ["3 to 5 axes"]),
    (lambda x: init.dirac_(x, groups=3), ValueError, ["groups", "3", "4"]),
    (lambda x: init.dirac_(x, groups=0), ValueError, ["groups", "0"]),
    (lambda x: init.trunc_normal_(x, a=2, b=1), ValueError, ["a", "2", "b", "1"]),
    (lambda x: init.kaiming_uniform_(x, mode="fan"), ValueError, ["mode", "'fan'", "'fan_in'"]),
    (lambda x: init.kaiming_uniform_(x, nonlinearity="ReLU"), ValueError, ["'ReLU'", "'relu'"]),
    (lambda x: init.calculate_gain("gelu"), ValueError, ["nonlinearity", "'gelu'", "'tanh'"]),
]


@pytest.mark.parametrize(
    ("call", "error", "words"), BAD_CALLS, ids=[" ".join(row[2]) for row in BAD_CALLS]
)
def test_bad_arguments_are_named_and_nothing_is_filled(call, error, words):
    array = np.full((4, 2, 3), 7.0)
    with pytest.raises(error) as caught:
        call(array)
    for word in words:
        assert word in str(caught.value)
    assert_array_equal(array, 7)


# The defaults of layers


LAYERS = {
    "Conv1d": (lambda nn: nn.Conv1d(6, 40, 5, groups=2), 15),
    "Conv2d": (lambda nn: nn.Conv2d(3, 40, (5, 3)), 45),
    "Conv3d": (lambda nn: nn.Conv3d(2, 40, (1, 3, 2)), 12),
    "Linear": (lambda nn: nn.Linear(24, 100), 24),
}


@pytest.mark.parametrize(("make", "fan_in"), LAYERS.values(), ids=LAYERS)
def test_default_weights_are_uniform_within_one_over_root_of_fan_in(make, fan_in):
    layer = make(nn)
    bound = 1 / math.sqrt(fan_in)
    for parameter in (layer.weight, layer.bias):
        values = parameter.data.astype(np.float64).ravel()
        assert stats.kstest(values, stats.uniform(-bound, 2 * bound).cdf).pvalue > 1e-3
        assert np.abs(values).max() <= bound * (1 + 1e-6)


@pytest.mark.parametrize(("make", "fan_in"), LAYERS.values(), ids=LAYERS)
def test_default_weights_are_distributed_as_in_torch(make, fan_in):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    ours, theirs = make(nn), make(torch.nn)
    for name, parameter in theirs.named_parameters():
        values = dict(ours.named_parameters())[name].data.ravel()
        assert stats.ks_2samp(values, parameter.detach().numpy().ravel()).pvalue > 1e-3


def test_layers_take_a_generator_and_a_dtype():
    def weights(seed):
        layer = nn.Conv2d(2, 3, 3, dtype=np.float64, generator=np.random.default_rng(seed))
        assert layer.weight.dtype == layer.bias.dtype == np.float64
        return layer.weight.data

    assert_array_equal(weights(1), weights(1))
    assert not (weights(1) == weights(2)).any()
    with pytest.raises(TypeError, match="float16"):
        nn.Linear(2, 2, dtype=np.float16)


def test_kernels_are_channels_last_in_memory():
    weight = nn.Conv2d(4, 3, 5).weight.data
    assert weight.shape == (3, 4, 5, 5)
    assert weight.transpose(0, 2, 3, 1).flags.c_contiguous


# The generator


def test_manual_seed_repeats_a_network():
    def network():
        return nn.Sequential(nn.Conv2d(1, 2, 3), nn.Dropout(), nn.Linear(4, 2))

    fastconv.manual_seed(3)
    first = network().state_dict()
    dropped = F.dropout(np.ones(100))
    second = network().state_dict()
    fastconv.manual_seed(3)
    for name, array in network().state_dict().items():
        assert_array_equal(array, first[name])
        assert not (array == second[name]).any()
    assert_array_equal(F.dropout(np.ones(100)), dropped)


def test_manual_seed_keeps_the_generator_that_others_hold():
    held = fastconv.default_generator()
    assert fastconv.manual_seed(5) is held
    assert fastconv.default_generator() is held
    assert held.random() == np.random.default_rng(5).random()


def test_numpys_own_seed_has_no_influence():
    np.random.seed(0)  # noqa: NPY002
    fastconv.manual_seed(1)
    first = fastconv.default_generator().random()
    np.random.seed(1)  # noqa: NPY002
    fastconv.manual_seed(1)
    assert fastconv.default_generator().random() == first


@pytest.mark.parametrize(
    ("seed", "error"), [(-1, ValueError), (1.5, TypeError), ("1", TypeError), (None, TypeError)]
)
def test_bad_seeds_are_refused(seed, error):
    before = fastconv.default_generator().bit_generator.state
    with pytest.raises(error, match="seed"):
        fastconv.manual_seed(seed)
    assert fastconv.default_generator().bit_generator.state == before


def test_initialising_is_not_recorded():
    weight = Tensor(np.zeros((3, 3)), requires_grad=True)
    init.kaiming_normal_(weight)
    assert weight.is_leaf
    weight.sum().backward()
    assert_array_equal(weight.grad, np.ones((3, 3)))
