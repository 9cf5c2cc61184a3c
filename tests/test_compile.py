"""Plans against the models they are made of, run operator by operator."""

import itertools
import json
import threading
import tracemalloc

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import fastconv
import fastconv.functional as F
from fastconv import Tensor, nn
from fastconv._activation import NONE, RELU, RELU6, Activation
from fastconv.compiler.program import _arrange

every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])
TOLERANCE = {np.float32: 2e-5, np.float64: 1e-13}


def images(shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def settled(model, dtype=np.float32):
    """With statistics and affine parameters as after some training."""
    rng = np.random.default_rng(3)
    for module in model.modules():
        if hasattr(module, "running_mean"):
            module.running_mean[:] = rng.normal(size=module.running_mean.shape)
            module.running_var[:] = rng.uniform(0.5, 2, module.running_var.shape)
            module.weight.data[:] = rng.uniform(0.5, 1.5, module.weight.shape)
            module.bias.data[:] = rng.normal(size=module.bias.shape)
    return model.astype(dtype)


def eager(model, *inputs):
    """What a copy in evaluation mode computes without a plan, in float64."""
    if isinstance(model, nn.Module):
        before = {name: array.copy() for name, array in model.state_dict().items()}
        dtype, modes = inputs[0].dtype, [module.training for module in model.modules()]
        model.astype(np.float64).eval()
        with fastconv.no_grad():
            found = model(*(x.astype(np.float64) for x in inputs))
        model.astype(dtype)
        for module, mode in zip(model.modules(), modes, strict=True):
            module.training = mode
        for name, array in model.state_dict().items():
            array[...] = before[name]
    else:
        with fastconv.no_grad():
            found = model(*(Tensor(x.astype(np.float64)) for x in inputs))
    return [t.data for t in found] if isinstance(found, tuple) else found.data


def assert_near(result, expected, dtype):
    assert result.dtype == dtype
    assert result.shape == expected.shape
    largest = np.abs(expected).max(initial=1e-30)
    assert_allclose(result, expected, rtol=0, atol=TOLERANCE[dtype] * largest)


def operators(plan):
    return [row.operator for row in plan.profile(repeat=1).rows]


def residual_net(conv=nn.Conv2d, norm=nn.BatchNorm2d, pool=nn.AdaptiveAvgPool2d, act=nn.ReLU):
    main = nn.Sequential(
        conv(16, 16, 3, padding=1, bias=False),
        norm(16),
        act(),
        conv(16, 16, 3, padding=1),
        norm(16),
    )
    wider = nn.Sequential(conv(16, 24, 3, stride=2, padding=1), norm(24))
    shortcut = nn.Sequential(conv(16, 24, 1, stride=2), norm(24))
    return nn.Sequential(
        conv(3, 16, 3, padding=1), norm(16), act(), nn.Residual(main), act(),
        nn.Residual(wider, shortcut), act(), pool(1), nn.Flatten(), nn.Linear(24, 5),
    )  # fmt: skip


@every_dtype
@pytest.mark.parametrize("act", [nn.ReLU, nn.ReLU6, nn.LeakyReLU, lambda: nn.ReLU(inplace=True)])
def test_residual_network(dtype, act):
    model = settled(residual_net(act=act), dtype)
    x = images((2, 3, 20, 24), dtype)
    plan = fastconv.compile(model, x)
    assert_near(plan(x), eager(model, x), dtype)
    name = {nn.ReLU6: "relu6", nn.LeakyReLU: "leaky relu"}.get(act, "relu")
    assert operators(plan) == [
        f"conv + {name}", f"conv + {name}", f"conv + residual + {name}",
        "conv", f"conv + residual + {name}",
        "adaptive_avg_pool", "linear",
    ]  # fmt: skip


@pytest.mark.parametrize("n", [1, 3])
def test_signals_and_volumes(n):
    kinds = [
        [nn.Conv1d, nn.BatchNorm1d, nn.AdaptiveAvgPool1d],
        [nn.Conv3d, nn.BatchNorm3d, nn.AdaptiveAvgPool3d],
    ]
    model = settled(residual_net(*kinds[n == 3]))
    x = images((2, 3, *(9, 10, 11)[:n]))
    assert_near(fastconv.compile(model, x)(x), eager(model, x), np.float32)


@every_dtype
def test_lenet(dtype):
    model = nn.Sequential(
        nn.Conv2d(1, 8, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 12, 3), nn.ReLU6(),
        nn.AvgPool2d(2), nn.Flatten(), nn.Linear(12 * 6 * 5, 32), nn.ReLU(), nn.Dropout(0.5),
        nn.Linear(32, 10),
    ).astype(dtype)  # fmt: skip
    x = images((3, 1, 28, 24), dtype)
    plan = fastconv.compile(model, x)
    assert_near(plan(x), eager(model, x), dtype)
    expected = ["conv", "relu + max_pool", "conv + relu6", "avg_pool", "linear + relu", "linear"]
    assert operators(plan) == expected
    assert_near(plan(x[:1]), eager(model, x[:1]), dtype)


class Written(nn.Module):
    """As users write them: what containers would fuse stands in `forward`."""

    def __init__(self):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.conv2, self.norm2 = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.project = nn.Conv2d(3, 8, 1)

    def forward(self, x):
        y = F.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        return F.relu(y + self.project(x))


def test_written_out():
    model, x = settled(Written()), images((2, 3, 12, 13))
    plan = fastconv.compile(model, x)
    assert_near(plan(x), eager(model, x), np.float32)
    assert operators(plan) == ["conv + relu", "conv", "conv + residual + relu"]


def normed(x):
    return F.batch_norm(x, np.full(3, 1.0, x.dtype), np.full(3, 2.0, x.dtype))


FUNCTIONS = {
    "rectifier alone": lambda x: F.leaky_relu(x, 0.2),
    "a negative slope": lambda x: F.leaky_relu(x, -0.5),
    "norm alone": lambda x: F.relu(normed(x)),
    "norm of a sum": lambda x: normed(x + x),
    "sum of two uses": lambda x: F.relu(x) + normed(x),
    "sum of one value": lambda x: (lambda y: y + y)(normed(x)),
    "a value used twice": lambda x: (lambda y: F.relu(y) + y)(F.relu6(x)),
    "a sum that broadcasts": lambda x: x + np.ones((1, 3, 1, 1), x.dtype),
    "arithmetic": lambda x: (x * 2 - 1) / (1 + x * x),
    "a number": lambda x: 2.0 + x,
    "reductions": lambda x: x.mean((2, 3)),
    "softmax": lambda x: F.softmax(x.flatten(1), 1),
    "flatten alone": lambda x: x.flatten(1),
    "flatten of some": lambda x: x.flatten(2),
    "flatten the batch too": lambda x: x.flatten(),
    "reshape": lambda x: x.reshape(2, -1),
    "permute": lambda x: F.relu(x.permute(0, 2, 3, 1)),
    "index": lambda x: F.relu(x[:, 1:, ::2]),
    "cat": lambda x: fastconv.cat([x, F.relu(x)], 1),
    "pad": lambda x: F.pad(x, (1, 2, 0, 1), "reflect"),
    "max of rectified": lambda x: F.max_pool2d(F.relu(x), 3, 2, 1),
    "max of leaky": lambda x: F.max_pool2d(F.leaky_relu(x, 0.1), 2),
    "max": lambda x: F.max_pool2d(x, 2),
    "adaptive max": lambda x: F.adaptive_max_pool2d(F.relu(x), (3, 2)),
    "average with a divisor": lambda x: F.avg_pool2d(x, 2, divisor_override=3),
    "average": lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    "lp": lambda x: F.lp_pool2d(F.relu(x), 2, 2),
    "transposed": lambda x: x.transpose(1, 3),
    "the input itself, twice over": lambda x: (F.relu(x), x * 1),
    "a tuple of one": lambda x: (F.relu(x),),
    "an output that is also needed": lambda x: (lambda y: (y, normed(y)))(F.relu(x)),
    "one output twice": lambda x: (lambda y: (y, y))(F.relu(x)),
    "whole numbers of axes": lambda x: F.linear(x, np.ones((2, x.shape[3]), x.dtype)),
    "in place": lambda x: F.relu(normed(x), inplace=True) + x,
    "a matrix": lambda x: (
        x.flatten(1) @ np.ones((x.shape[1] * x.shape[2] * x.shape[3], 2), x.dtype)
    ),
}


@every_dtype
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name, dtype):
    function, x = FUNCTIONS[name], images((2, 3, 8, 10), dtype)
    plan = fastconv.compile(function, x)
    found, expected = plan(x), eager(function, x)
    assert isinstance(found, tuple) == isinstance(expected, list)
    pairs = zip(found, expected, strict=True) if isinstance(found, tuple) else [(found, expected)]
    for result, truth in pairs:
        assert_near(result, truth, dtype)


def test_several_inputs():
    w = images((4, 3, 3, 3), seed=1)

    def model(x, y):
        weights = w.astype(x.dtype)
        return F.relu(F.conv2d(x, weights) + y), F.conv2d(x, weights) * 2

    x, y = images((2, 3, 8, 9)), images((2, 4, 6, 7), seed=2)
    plan = fastconv.compile(model, (x, y))
    for result, truth in zip(plan(x, y), eager(model, x, y), strict=True):
        assert_near(result, truth, np.float32)
    assert "conv + residual + relu" in operators(plan)
    with pytest.raises(TypeError, match="takes 2 inputs, got 1"):
        plan(x)


def test_weights_that_are_computed():
    """A convolution whose kernels are an input."""
    x, w = images((1, 3, 8, 9)), images((4, 3, 3, 3))
    plan = fastconv.compile(lambda x, w: F.conv2d(x, w * 2), (x, w))
    assert_near(plan(x, w), eager(lambda x, w: F.conv2d(x, w * 2), x, w), np.float32)


@pytest.mark.parametrize("layout", ["C", "channels-last", "strided", "reversed", "read-only"])
def test_layouts_of_inputs(layout):
    model, x = settled(residual_net()), images((2, 3, 12, 14))
    plan = fastconv.compile(model, x)
    expected = plan(x)
    given = {
        "C": x,
        "channels-last": np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
        "strided": np.repeat(x, 2, axis=3)[..., ::2],
        "reversed": np.ascontiguousarray(x[..., ::-1])[..., ::-1],
        "read-only": np.frombuffer(x.tobytes(), np.float32).reshape(x.shape),
    }[layout]
    before = given.tobytes()
    assert_array_equal(plan(given), expected)
    assert_array_equal(plan(Tensor(given)), expected)
    assert given.tobytes() == before


def test_other_sizes():
    """Each planned once; only so many are kept."""
    model = settled(residual_net())
    plan = fastconv.compile(model, images((1, 3, 16, 16)))
    for n, height, width in [
        (1, 16, 16),
        (2, 16, 16),
        (1, 9, 30),
        (3, 33, 17),
        *((1, 8, i) for i in range(8, 20)),
    ]:
        x = images((n, 3, height, width))
        assert_near(plan(x), eager(model, x), np.float32)
    assert len(plan._programs) == 8
    with pytest.raises(ValueError, match="4 axes"):
        plan(images((3, 16, 16)))
    with pytest.raises(ValueError, match="channels"):
        plan(images((1, 4, 16, 16)))
    x = images((1, 3, 16, 16))
    assert_near(plan(x), eager(model, x), np.float32)


def test_an_empty_batch():
    plan = fastconv.compile(settled(residual_net()), images((1, 3, 16, 16)))
    assert plan(images((0, 3, 16, 16))).shape == (0, 5)


def test_the_plan_keeps_its_weights():
    model, x = settled(residual_net()), images((1, 3, 16, 16))
    plan = fastconv.compile(model, x)
    before = plan(x)
    for parameter in model.parameters():
        parameter.data[:] = 7
    for buffer in dict(model.named_buffers()).values():
        buffer[...] = 1
    assert_array_equal(plan(x), before)
    assert_array_equal(plan(images((2, 3, 16, 16)))[:1], plan(images((2, 3, 16, 16))[:1]))


def test_the_model_is_left_as_it_was():
    model = settled(residual_net()).train()
    model[3].eval()
    state = {name: array.copy() for name, array in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    fastconv.compile(model, images((2, 3, 16, 16)))
    assert [module.training for module in model.modules()] == modes
    for name, array in model.state_dict().items():
        assert_array_equal(array, state[name])


def test_out():
    model, x = settled(residual_net()), images((2, 3, 16, 16))
    plan = fastconv.compile(model, x)
    out = np.full((2, 5), np.nan, np.float32)
    assert plan(x, out=out) is out
    assert_array_equal(out, plan(x))
    strided = np.zeros((2, 10), np.float32)
    plan(x, out=strided[:, ::2])
    assert_array_equal(strided[:, ::2], out)
    before = out.copy()
    for bad, error in [
        (np.zeros((2, 4), np.float32), ValueError),
        (np.zeros((2, 5)), TypeError),
        ([1.0], TypeError),
        ((out, out), TypeError),
        (np.frombuffer(bytes(40), np.float32).reshape(2, 5), ValueError),
    ]:
        with pytest.raises(error, match="out"):
            plan(x + 1, out=bad)
    assert_array_equal(out, before)


def test_results_are_new():
    plan = fastconv.compile(lambda x: F.relu(x), images((1, 3, 8, 8)))
    x = images((1, 3, 8, 8))
    first = plan(x)
    copy = first.copy()
    first_again = plan(x * 2)
    assert_array_equal(first, copy)
    assert not np.shares_memory(first, first_again)


def test_nothing_is_allocated():
    """But for Python's small objects, with `out`."""
    model, x = settled(residual_net()), images((2, 3, 64, 64))
    plan = fastconv.compile(model, x)
    out = plan(x)
    limit = fastconv.memory_stats()["limit"]
    fastconv.set_cache_limit(0)
    try:
        tracemalloc.start()
        plan(x, out=out)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        fastconv.set_cache_limit(limit)
    assert peak < 8192


def test_several_threads():
    model = settled(residual_net())
    plan = fastconv.compile(model, images((1, 3, 16, 16)))
    inputs = [images((1 + i % 3, 3, 16, 16 + i % 2), seed=i) for i in range(12)]
    expected = [plan(x) for x in inputs]
    wrong = []

    def work(turn):
        for i in range(20):
            number = (turn + i) % len(inputs)
            if not (plan(inputs[number]) == expected[number]).all():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(turn,)) for turn in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.usefixtures("keep_threads")
def test_any_number_of_threads():
    model, x = settled(residual_net()), images((4, 3, 40, 40))
    plan = fastconv.compile(model, x)
    results = []
    for threads in (1, 2, 3, 1):
        fastconv.set_num_threads(threads)
        results.append(plan(x).tobytes())
    assert len(set(results)) == 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite(value):
    """It reaches only those outputs that read it, through minimal filtering too."""
    model = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU())
    x = images((1, 16, 24, 24))
    x[0, 3, 10, 10] = value
    for algorithm in ("winograd", "auto", "direct", "gemm"):
        with fastconv.algorithm(algorithm):
            plan = fastconv.compile(model, images((1, 16, 24, 24)))
        y = plan(x)
        with fastconv.no_grad(), fastconv.algorithm("gemm"):
            expected = model(x).data
        assert_array_equal(np.isfinite(y), np.isfinite(expected))
        assert np.isfinite(y).sum() >= y.size - 9 * 16


# A few images at a time


@pytest.fixture
def little_cache(monkeypatch):
    """As if values left the cache early: the first steps then see few images."""
    monkeypatch.setattr("fastconv.compiler.program.CACHE", 1 << 15)


def stages(plan):
    (program,) = plan._programs.values()
    return program.stages


@pytest.mark.usefixtures("little_cache")
@pytest.mark.parametrize("batch", [1, 2, 6, 7])
def test_few_images_at_a_time(batch):
    model, x = settled(residual_net()), images((batch, 3, 24, 20))
    plan = fastconv.compile(model, x)
    assert_near(plan(x), eager(model, x), np.float32)
    found = [(stage.repeat, stage.specs[stage.graph.inputs[0]].shape[0]) for stage in stages(plan)]
    assert found[-1] == (1, batch)
    if batch > 1:
        (repeat, count), _ = found
        assert repeat * count == batch
        assert repeat > 1
        assert f"{repeat} times {count} x 16 x 24 x 20" in str(plan)
        rows = plan.profile(repeat=1).rows
        assert rows[0].flops == 2 * batch * 24 * 20 * 16 * 3 * 9
    out = np.empty_like(plan(x))
    assert_array_equal(plan(x, out=out), plan(x))


@pytest.mark.usefixtures("little_cache")
def test_values_that_the_later_stage_needs_too():
    """Inputs, results of the first stage, and outputs that it gives."""
    w = images((8, 3, 3, 3), seed=1)

    def model(x, z):
        a = F.relu(F.conv2d(x, w.astype(x.dtype), padding=1))
        b = F.max_pool2d(a, 4)
        c = F.softmax(b.flatten(1), 1)  # not image by image
        return a, c, x.mean((2, 3)) + z, b

    x, z = images((4, 3, 24, 24)), images((4, 3))
    plan = fastconv.compile(model, (x, z))
    assert [stage.repeat > 1 for stage in stages(plan)] == [True, False]
    for result, truth in zip(plan(x, z), eager(model, x, z), strict=True):
        assert_near(result, truth, np.float32)


@pytest.mark.usefixtures("little_cache")
def test_what_mixes_images_is_not_cut():
    plan = fastconv.compile(lambda x: F.relu(x.flatten() * 2), images((4, 3, 24, 24)))
    assert len(stages(plan)) == 1
    x = images((4, 3, 24, 24))
    first, second = images((4, 3, 24, 24)), images((1, 3, 24, 24))
    plan = fastconv.compile(lambda x, y: F.relu(x) + y, (first, second))
    assert len(stages(plan)) == 1
    assert_allclose(plan(x, second), np.maximum(x, 0) + second, atol=1e-6)


# What a trace cannot follow


def test_plain_arrays_are_noticed():
    with pytest.raises(ValueError, match="plain array"):
        fastconv.compile(
            lambda x: F.relu(x) + F.relu(x).data[..., ::-1][..., ::-1], images((1, 3, 8, 8))
        )


def test_decisions_are_noticed():
    with pytest.raises(ValueError, match="other values"):
        fastconv.compile(
            lambda x: x * (1.0 if x.data.sum() > 0 else -1.0), np.ones((1, 3), np.float32)
        )


def test_random_numbers_are_noticed():
    with pytest.raises(ValueError, match="other values"):
        fastconv.compile(lambda x: F.dropout(x, 0.5, training=True), images((4, 30)))


@pytest.mark.parametrize(
    ("model", "example", "error", "match"),
    [
        (3, np.ones((1, 3), np.float32), TypeError, "model"),
        (F.relu, [1.0], TypeError, "example"),
        (F.relu, np.ones((1, 3), object), TypeError, "example"),
        (F.relu, np.ones((1, 3), np.int64), TypeError, "float32 or float64, got int64"),
        (F.relu, (), TypeError, "empty"),
        (nn.Linear(3, 2), np.ones((1, 3)), TypeError, "weight has dtype float32"),
        (lambda x: 3, np.ones((1, 3)), ValueError, "return Tensors"),
        (lambda x: x.data[::2], np.ones((2, 3)), ValueError, "plain array"),
    ],
)
def test_bad_arguments(model, example, error, match):
    with pytest.raises(error, match=match):
        fastconv.compile(model, example)


def test_bad_inputs():
    plan = fastconv.compile(F.relu, images((1, 3, 8, 8)))
    with pytest.raises(TypeError, match=r"inputs\[0\] must be an ndarray, got list"):
        plan([1.0])
    with pytest.raises(TypeError, match="float32, got float64"):
        plan(np.ones((1, 3, 8, 8)))
    with pytest.raises(ValueError, match="repeat"):
        plan.profile(repeat=0)


# Memory


def test_values_that_live_at_once_lie_apart():
    rng = np.random.default_rng(0)
    for _ in range(50):
        lives = {}
        for value in range(rng.integers(1, 30)):
            first = int(rng.integers(0, 20))
            lives[value] = first, first + int(rng.integers(0, 10))
        sizes = {value: int(rng.integers(0, 5000)) for value in lives}
        places, total = _arrange(lives, sizes.get)
        for a, b in itertools.combinations(lives, 2):
            p, q = places[a], places[b]
            together = lives[a][0] <= lives[b][1] and lives[b][0] <= lives[a][1]
            if together and sizes[a] and sizes[b]:
                assert p.offset + sizes[a] <= q.offset or q.offset + sizes[b] <= p.offset
        assert all(p.offset % 64 == 0 and p.offset + sizes[v] <= total for v, p in places.items())
        # No more than all of them, no less than those of any moment.
        rounded = {value: -(-size // 64) * 64 for value, size in sizes.items()}
        assert total <= sum(rounded.values())
        for moment in range(30):
            alive = [v for v, (first, last) in lives.items() if first <= moment <= last]
            assert total >= sum(rounded[value] for value in alive)


def test_a_deep_network_needs_little_memory():
    deep = nn.Sequential(*(nn.Conv2d(8, 8, 3, padding=1) for _ in range(20)))
    x = images((1, 8, 64, 64))
    plan = fastconv.compile(deep, x)
    (program,) = plan._programs.values()
    assert program.size == 2 * x.nbytes


# Looking at plans


def test_print_and_profile():
    plan = fastconv.compile(settled(residual_net()), images((2, 3, 16, 16)))
    text = str(plan)
    lines = text.splitlines()
    assert lines[0].split() == ["operator", "algorithm", "output", "MFLOP"]
    assert "conv + residual + relu" in text
    assert lines[-1].startswith("7 steps, ")
    profile = plan.profile(images((2, 3, 16, 16)), repeat=2)
    assert all(row.seconds > 0 for row in profile.rows)
    assert profile.seconds == sum(row.seconds for row in profile.rows)
    assert "GFLOP/s" in str(profile)
    first = profile.rows[0]
    assert first.flops == 2 * 2 * 16 * 16 * 16 * 3 * 9
    assert first.shape == (2, 16, 16, 16)


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_plot(suffix, tmp_path):
    pytest.importorskip("matplotlib")
    plan = fastconv.compile(settled(residual_net()), images((2, 3, 16, 16)))
    path = tmp_path / f"plan{suffix}"
    plan.plot(path)
    assert path.stat().st_size > 5000
    with pytest.raises(ValueError, match="suffix"):
        plan.plot(tmp_path / "plan.abc")


# Files


def every_model():
    yield "net", settled(residual_net()), images((2, 3, 16, 18))
    yield "double", settled(residual_net(), np.float64), images((1, 3, 16, 18), np.float64)
    for name in (
        "index",
        "reshape",
        "softmax",
        "max of rectified",
        "norm alone",
        "a negative slope",
    ):
        yield name, FUNCTIONS[name], images((2, 3, 8, 10))


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize(
    ("name", "model", "x"), list(every_model()), ids=lambda v: v if isinstance(v, str) else ""
)
def test_save_and_load(suffix, name, model, x, tmp_path):
    plan = fastconv.compile(model, x)
    path = tmp_path / f"plan{suffix}"
    plan.save(path)
    same = fastconv.load_plan(path)
    assert_array_equal(same(x), plan(x))
    assert str(same) == str(plan)
    assert same.input_shapes == plan.input_shapes
    same.save(tmp_path / f"again{suffix}")
    assert_array_equal(fastconv.load_plan(tmp_path / f"again{suffix}")(x), plan(x))


def test_files_without_a_plan(tmp_path):
    path = tmp_path / "weights.npz"
    fastconv.save({"a": np.ones(3)}, path)
    with pytest.raises(ValueError, match="holds no plan"):
        fastconv.load_plan(path)
    with pytest.raises(FileNotFoundError):
        fastconv.load_plan(tmp_path / "missing.npz")


def test_damaged_files(tmp_path):
    """Whatever is wrong in a plan's description is a ValueError that names the file."""
    path, x = tmp_path / "plan.npz", images((1, 3, 16, 16))
    fastconv.compile(settled(residual_net()), x).save(path)
    meta, arrays = fastconv.load_metadata(path), fastconv.load(path)
    rng, errors = np.random.default_rng(0), []
    for _ in range(150):
        damaged = json.loads(json.dumps(meta))
        _damage(damaged["plan"], rng)
        fastconv.save(arrays, path, metadata=damaged)
        errors += _errors(path)
    assert len(errors) > 80
    assert all("plan.npz" in error for error in errors)


def _errors(path):
    try:
        fastconv.load_plan(path)
    except ValueError as error:
        return [str(error)]
    return []


def _damage(tree, rng):
    """Change one leaf or drop one branch."""
    while True:
        keys = list(tree) if isinstance(tree, dict) else range(len(tree))
        key = keys[rng.integers(len(keys))]
        below = tree[key]
        if isinstance(below, (dict, list)) and below and rng.random() < 0.9:
            tree = below
            continue
        choice = rng.integers(4)
        if choice == 0:
            del tree[key]
        else:
            tree[key] = [None, "x", -5, {"value": 10**6}, [], 2**70][rng.integers(6)]
        return


def test_what_a_file_cannot_hold(tmp_path):
    from fastconv.autograd.engine import apply

    def own(needs, x):
        return x + 1, None

    plan = fastconv.compile(lambda x: apply(own, x), images((1, 3)))
    assert_array_equal(plan(images((1, 3))), images((1, 3)) + 1)
    with pytest.raises(ValueError, match="not fastconv's own"):
        plan.save(tmp_path / "plan.npz")
    assert not (tmp_path / "plan.npz").exists()


@pytest.mark.parametrize("value", [NONE, RELU, RELU6, Activation(0.3, 2.0)])
def test_activations_in_files(value):
    from fastconv.compiler.files import _decode, _encode

    text = json.dumps(_encode("rectify", value, {}))
    assert _decode(json.loads(text), {}) == value
