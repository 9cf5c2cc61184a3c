"""Plans of what files of networks hold: any dtype, several outputs, sizes that are computed."""

import itertools
import json
import threading
import tracemalloc

import numpy as np
import pytest
from conftest import BUFFER
from numpy.testing import assert_allclose, assert_array_equal

import fastconv
import fastconv.functional as F
from fastconv import Tensor, nn
from fastconv.autograd import arrays, ops, pointwise, reductions
from fastconv.autograd.engine import apply
from fastconv.functional import resize

TOLERANCE = {"float32": 2e-5, "float64": 1e-12}
every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def values(shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def eager(model, *inputs):
    """What the model computes operator by operator, as a tuple of ndarrays."""
    with fastconv.no_grad():
        found = model(*map(Tensor, inputs))
    return [np.asarray(y) for y in (found if isinstance(found, tuple) else (found,))]


def planned(plan, *inputs, **options):
    found = plan(*inputs, **options)
    return found if isinstance(found, tuple) else (found,)


def assert_same(found, expected):
    assert len(found) == len(expected)
    for result, truth in zip(found, expected, strict=True):
        assert result.dtype == truth.dtype
        assert result.shape == truth.shape
        if truth.dtype.kind == "f":
            atol = TOLERANCE[truth.dtype.name] * np.abs(truth).max(initial=1e-30)
            assert_allclose(result, truth, rtol=0, atol=atol)
        else:
            assert_array_equal(result, truth)


def check(model, *inputs, others=(), path=None):
    """A plan of the model, found right for these inputs and others, saved and loaded too."""
    plan = fastconv.compile(model, inputs)
    plans = [plan]
    if path is not None:
        plan.save(path / "plan.safetensors")
        plans.append(fastconv.load_plan(path / "plan.safetensors"))
        assert str(plans[1]) == str(plan)
    for each, given in itertools.product(plans, [inputs, *others]):
        expected = eager(model, *given)
        assert_same(planned(each, *given), expected)
        out = tuple(np.empty_like(y) for y in expected)
        assert_same(planned(each, *given, out=out), expected)
        assert_nothing_is_overwritten(each, given)
    return plan


def assert_nothing_is_overwritten(plan, inputs):
    """Every value stays as its step left it until the last step that needs it."""
    program = plan._program([x.shape for x in inputs])
    run = program._take()
    for stage, bound in [*zip(program.stages, run.stages, strict=True)] * (len(run.stages) == 1):
        needs = [set(node.values()) for node in stage.graph.nodes] + [set(stage.graph.outputs)]
        for value, x in zip(stage.graph.inputs, inputs, strict=True):
            np.copyto(bound.arrays[value], x)
        copies = {value: bound.arrays[value].copy() for value in bound.arrays}
        calls = iter(bound.calls)
        for number, (node, step) in enumerate(zip(stage.graph.nodes, stage.steps, strict=True)):
            for value in node.values():
                assert_array_equal(bound.arrays[value], copies[value])
            if not step.alias:
                next(calls)()
            copies |= {value: bound.arrays[value].copy() for value in node.made()}
            for value in set().union(*needs[number + 1 :]) & set(copies):
                if any(value in made for made in (n.made() for n in stage.graph.nodes[:number])):
                    assert_array_equal(bound.arrays[value], copies[value])


def shape(x):
    return apply(arrays._shape, x)


def gather(x, indices, axis=0):
    indices = indices if isinstance(indices, Tensor) else np.asarray(indices)
    return apply(arrays._gather, x, indices, axis=axis)


def view(x, *parts):
    parts = [p if isinstance(p, (Tensor, np.ndarray)) else np.array([p]) for p in parts]
    return apply(arrays._view, x, fastconv.cat(parts))


WEIGHTS = {
    dtype: [values((6, 3, 3, 3), dtype, 1), values((6,), dtype, 2), values((4, 6), dtype, 3)]
    for dtype in (np.float32, np.float64)
}


def conv(x, **options):
    w, b, _ = WEIGHTS[x.dtype.type]
    return F.conv2d(x, w, b, padding=1, **options)


def whole(n, *size):
    return np.random.default_rng(5).integers(0, n, size)


# Values of several dtypes

TABLE = values((10, 4), np.float32)
DTYPES = {
    "words": (lambda i: gather(TABLE, i) @ np.ones((4, 3), np.float32), whole(10, 2, 5)),
    "a choice": (
        lambda c, x: apply(pointwise._where, c, x, np.zeros((), x.dtype)),
        whole(2, 3, 4) > 0,
        values((3, 4)),
    ),
    "float and int": (
        lambda x, i: (conv(x), i * 2, apply(pointwise._binary, i, i + 1, function="less")),
        values((2, 3, 6, 5)),
        whole(9, 3),
    ),
    "comparison": (
        lambda x: apply(pointwise._binary, conv(x), np.float32(0), function="greater"),
        values((2, 3, 6, 5)),
    ),
    "classes": (
        lambda x: apply(
            reductions._arg, conv(x).mean((2, 3)), function="max", axis=1, keepdim=False
        ),
        values((4, 3, 6, 5)),
    ),
    "there and back": (
        lambda x: (conv(x).astype(np.float64) * 2).astype(np.float32), values((2, 3, 6, 5)),
    ),
    "two floats": (
        lambda x, y: (F.relu(x), y + 1, x.astype(np.float64) + y),
        values((2, 3)), values((2, 3), np.float64),
    ),
    "bytes": (lambda x: conv(x.astype(np.float32) / 255), whole(256, 2, 3, 6, 5).astype(np.uint8)),
    "a scalar": (lambda x, s: (x * s, s), values((2, 3)), np.float32(3)[None].reshape(())),
    "logic": (
        lambda a, b: apply(pointwise._binary, a, b, function="and"),
        whole(2, 5) > 0, whole(2, 5) == 0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DTYPES)
def test_dtypes(name, tmp_path):
    model, *inputs = DTYPES[name]
    doubled = [np.concatenate([x, x]) if x.ndim else x for x in inputs]
    plan = check(model, *inputs, others=[doubled], path=tmp_path)
    assert plan.input_dtypes == [x.dtype for x in inputs]
    assert len(plan.profile(repeat=1).rows) == len(plan._programs[next(iter(plan._programs))]
                                                   .stages[0].steps)  # fmt: skip
    wrong = [x.astype(np.int16) for x in inputs]
    with pytest.raises(TypeError, match=r"inputs\[0\] must have dtype"):
        plan(*wrong)
    with pytest.raises(TypeError, match="out must be an ndarray of"):
        plan(*inputs, out=tuple(np.empty(y.shape, np.int16) for y in planned(plan, *inputs)))


def test_weights_of_another_dtype():
    with pytest.raises(TypeError, match="weight has dtype float32, must have input's"):
        fastconv.compile(nn.Conv2d(3, 4, 3), values((1, 3, 8, 8), np.float64))


# Several outputs


def test_extras_are_values(tmp_path):
    """What a rule returns besides its result: used, returned, and not needed."""

    def model(x):
        y, places = F.max_pool2d(conv(x), 2, return_indices=True)
        flat = places.reshape(-1) if isinstance(places, Tensor) else apply(
            ops._reshape, places, shape=(-1,)
        )  # fmt: skip
        return y, places, gather(x.flatten(), flat)

    x = values((2, 3, 6, 8))
    check(model, x, others=[[values((1, 3, 10, 4))]], path=tmp_path)
    check(lambda x: F.max_pool2d(conv(x), 2, return_indices=True)[1], x)
    alone = check(lambda x: F.max_pool2d(x, 2, return_indices=True)[0], x)
    assert [row.operator for row in alone.profile(repeat=1).rows] == ["max_pool"]


MANY = {
    "used further": lambda x, y: (lambda a: (a, F.relu(a) + y))(conv(x)),
    "the same twice": lambda x, y: (lambda a: (a, a, a))(conv(x) + y),
    "an input": lambda x, y: (x, conv(x), y),
    "inputs alone": lambda x, y: (y, x),
    "a constant": lambda x, y: (conv(x) + y, WEIGHTS[np.float32][0], Tensor(np.arange(3))),
    "a constant alone": lambda x, y: Tensor(np.arange(3)),
    "views of one value": lambda x, y: (
        lambda a: (a, a.flatten(1), a.reshape(-1), a.permute(0, 2, 3, 1), a[:, 2:4], a[:, :, ::-1])
    )(conv(x)),
    "a view of an input": lambda x, y: (x.reshape(len(x), -1), x * 2, x[0]),
    "over a dead value": lambda x, y: (
        lambda a: (F.relu(a * a) - 1, a.mean((2, 3)))
    )(conv(x) * y),
    "over an alias": lambda x, y: (lambda a, b: (F.relu(a.flatten(1) * 2) * 3, b))(
        *(lambda a: (a.mean((2, 3), keepdim=True), a))(conv(x) + y)
    ),
    "halves": lambda x, y: (lambda a: fastconv.cat([a[:, 3:], a[:, :3]], 1) + y)(conv(x)),
}  # fmt: skip


@pytest.mark.parametrize("name", MANY)
def test_several_outputs(name, tmp_path):
    x, y = values((2, 3, 6, 5)), values((2, 6, 6, 5), seed=7)
    check(MANY[name], x, y, others=[[x[:, :, ::-1] * 2, y[::-1]]], path=tmp_path)
    plan = fastconv.compile(MANY[name], (x, y))
    results = planned(plan, x, y)
    before = [r.copy() for r in results]
    planned(plan, x * 2, y * 2)
    assert_same(results, before)
    assert not any(np.shares_memory(a, b) for a, b in itertools.combinations(results, 2))


# Sizes that are computed


def flat(x):
    return view(conv(x), gather(shape(x), [0]), -1)


def halves(x):
    """Slices whose ends are computed."""
    y = conv(x)
    ends = apply(
        pointwise._binary, gather(shape(y), [3]), np.array([2]), function="divide_integers"
    )
    left = apply(arrays._slice, y, np.array([0]), ends, np.array([3]), None)
    right = apply(arrays._slice, y, ends, np.array([2**60]), np.array([3]), None)
    return left, right, F.relu(right) * 2


def shuffled(x):
    """Channels in groups, as ShuffleNet has them."""
    y, size = conv(x), shape(x)
    n, rest = gather(size, [0]), gather(size, [2, 3])
    y = view(y, n, 2, 3, rest).permute(0, 2, 1, 3, 4)
    return view(y, n, 6, rest)


def grid(x):
    """Coordinates as large as the image."""
    size = gather(shape(x), [2, 3])
    ones = apply(arrays._expand, np.ones((1, 1, 1, 1), x.dtype), fastconv.cat([[1, 1], size]))
    rows = apply(ops._divide, ones, size[0].astype(x.dtype))
    return conv(x) + rows, fastconv.cat([x, apply(arrays._expand, rows, shape(x))], 1)


def attention(x):
    """Places against each other, scaled by a computed number."""
    y = view(conv(x), gather(shape(x), [0]), 6, -1)
    scale = gather(shape(y), 2).astype(x.dtype)
    return F.softmax(y.transpose(1, 2) @ y / scale, 2) @ y.transpose(1, 2)


def excited(x):
    y = conv(x)
    w = WEIGHTS[x.dtype.type][2]
    s = F.linear(F.relu(F.linear(y.mean((2, 3)), w)), w.T)
    return y * view(s, shape(s), 1, 1)


COMPUTED = {
    "flatten": flat,
    "slices": halves,
    "shuffle": shuffled,
    "grid": grid,
    "attention": attention,
    "squeeze and excite": excited,
    "shapes": lambda x: (shape(x), shape(conv(x)) * 2, x),
    "mean": lambda x: (x.mean((2, 3)), x.mean(), x.mean(1, keepdim=True)),
    "zero keeps": lambda x: (view(x, 0, -1), view(x, -1, 3, 1)),
    "matrix": lambda x: apply(arrays._matrix, x, axis=2),
    "tile": lambda x: apply(arrays._tile, x, fastconv.cat([[1, 1, 2], gather(shape(x), [0])])),
    "squeeze": lambda x: apply(arrays._squeeze, x.mean((2, 3), keepdim=True), np.array([2, 3])),
}


@every_dtype
@pytest.mark.parametrize("name", COMPUTED)
def test_computed_sizes(name, dtype, tmp_path):
    others = [[values(s, dtype, 4)] for s in [(1, 3, 8, 10), (3, 3, 5, 4)]]
    check(COMPUTED[name], values((2, 3, 6, 8), dtype), others=others, path=tmp_path)


def test_what_follows_from_shapes_has_no_step():
    plan = fastconv.compile(grid, values((2, 3, 6, 8)))
    names = [row.operator for row in plan.profile(repeat=1).rows]
    assert names == ["conv", "add", "concatenate"]
    plan = fastconv.compile(flat, values((2, 3, 6, 8)))
    assert [row.operator for row in plan.profile(repeat=1).rows] == ["conv", "view"]
    plan = fastconv.compile(lambda x: shape(conv(x)), values((2, 3, 6, 8)))
    assert plan.profile(repeat=1).rows == []
    assert_array_equal(plan(values((1, 3, 7, 9))), [1, 6, 7, 9])


DEPENDING = {
    "places": lambda x: apply(arrays._nonzero, x),
    "a part": lambda x: apply(arrays._compress, x, x * 1, axis=None),
    "a shape": lambda x: view(x, (x * 0).sum().reshape(1).astype(np.int64) + 2, -1),
}


@pytest.mark.parametrize("name", DEPENDING)
def test_shapes_that_depend_on_values(name):
    with pytest.raises(ValueError, match=r"depend on values|cannot be planned"):
        fastconv.compile(DEPENDING[name], np.array([0.0, 3.0, -2.0, 0.0]))


def test_shapes_that_turn_out_to_depend_on_values():
    """For the example they were those of zeros."""
    plan = fastconv.compile(lambda x: apply(arrays._nonzero, F.relu(x - 2)), np.ones(4))
    assert plan(np.full(4, -1.0)).shape == (1, 0)
    with pytest.raises(ValueError, match="depend on values"):
        plan(np.full(4, 3.0))


# Threads, and few images at a time


def test_threads():
    plan = fastconv.compile(excited, values((1, 3, 6, 8)))
    inputs = [values((1 + i % 3, 3, 6 + i % 2, 8), seed=i) for i in range(9)]
    expected, wrong = [eager(excited, x) for x in inputs], []

    def work(turn):
        for i in range(30):
            number = (i + turn) % len(inputs)
            try:
                assert_same(planned(plan, inputs[number]), expected[number])
            except AssertionError as error:
                wrong.append(error)

    threads = [threading.Thread(target=work, args=(turn,)) for turn in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("name", [*COMPUTED, "halves", "views of one value"])
def test_few_images_at_a_time(name, monkeypatch):
    monkeypatch.setattr("fastconv.compiler.program.CACHE", 1 << 12)
    model = COMPUTED.get(name) or (lambda x: MANY[name](x, np.float32(1)))
    x = values((6, 3, 12, 10))
    plan = fastconv.compile(model, x)
    assert_same(planned(plan, x), eager(model, x))
    other = values((4, 3, 10, 12))
    assert_same(planned(plan, other), eager(model, other))


# Steps


def scaled_conv(x):
    """Numbers and channels before and after, as exporters leave them."""
    c = WEIGHTS[x.dtype.type][1].reshape(1, 6, 1, 1)
    y = conv((x - 0.5) / np.float32(0.25).astype(x.dtype)) * c + c.reshape(6, 1, 1)
    return 2 - y * 0.5


def hard(x):
    """hard swish of pieces."""
    y = conv(x)
    return y * apply(pointwise._clip, y + 3, np.array(0, x.dtype), np.array(6, x.dtype)) / 6


def up(x, stride):
    w = WEIGHTS[x.dtype.type][0].reshape(-1)[:120].reshape(6, 5, 2, 2)
    return F.conv_transpose2d(x, w, WEIGHTS[x.dtype.type][1][:5], stride)


def normed(x, channels):
    rng = np.random.default_rng(8)
    mean, var, w = rng.uniform(0.5, 2, (3, channels)).astype(x.dtype)
    return F.batch_norm(x, mean, var, w, -w)


STEPS = {
    "constants fold": (scaled_conv, ["norm", "conv"]),
    "hard swish": (hard, ["conv", "norm + relu6", "multiply", "norm"]),
    "silu": (lambda x: F.silu(conv(x)), ["conv", "silu"]),
    "swish": (lambda x: (lambda y: F.sigmoid(y) * y)(conv(x)), ["conv", "silu"]),
    "sigmoid": (
        lambda x: (lambda y: y * F.sigmoid(-y))(conv(x)),
        ["conv", "negative", "sigmoid", "multiply"],
    ),
    "elu": (lambda x: F.elu(conv(x), 0.3), ["conv", "elu"]),
    "gelu of rows": (lambda x: F.gelu(conv(x).mean((2, 3))), ["conv", "adaptive_avg_pool", "gelu"]),
    "prelu": (lambda x: F.prelu(conv(x), WEIGHTS[x.dtype.type][1]), ["conv", "prelu"]),
    "clip to relu": (
        lambda x: apply(pointwise._clip, conv(x), np.array(0, x.dtype), None), ["conv + relu"],
    ),
    "clip": (lambda x: fastconv.clamp(conv(x), -0.5, 0.25), ["conv", "clip"]),
    "clip above": (lambda x: fastconv.clamp(conv(x), max=0.25), ["conv + top 0.25"]),
    "pad": (lambda x: conv(F.pad(x, (1, 2, 0, 1))), ["conv"]),
    "pad with ones": (lambda x: conv(F.pad(x, (1, 2, -1, 1), value=1.0)), ["pad", "conv"]),
    "pad of rows": (lambda x: F.pad(x.flatten(1), (1, 2)), ["flatten", "pad"]),
    "excite": (
        lambda x: (lambda y: F.relu(y * F.sigmoid(y.mean((2, 3), keepdim=True))))(conv(x)),
        ["conv", "adaptive_avg_pool", "sigmoid", "multiply + relu"],
    ),
    "dense": (
        lambda x: conv(x).mean((2, 3)) @ WEIGHTS[x.dtype.type][2].T + np.ones(4, x.dtype),
        ["conv", "adaptive_avg_pool", "linear"],
    ),
    "transposed": (
        lambda x: (lambda y: F.relu(normed(up(y, 2), 5) + up(y, 2)))(conv(x)),
        ["conv", "conv_transpose", "conv_transpose + residual + relu"],
    ),
    "transposed with gaps": (
        lambda x: (lambda y: F.relu(normed(up(y, 5), 5) + up(y, 5)))(conv(x)),
        ["conv", "conv_transpose", "conv_transpose + residual + relu"],
    ),
    "transposed in groups": (
        lambda x: F.relu6(normed(F.conv_transpose2d(
            conv(x), WEIGHTS[x.dtype.type][0][:, :2], stride=2, padding=1, groups=3,
            output_padding=1), 6)),
        ["conv", "conv_transpose + relu6"],
    ),
    "resized": (
        lambda x: (
            F.interpolate(conv(x), scale_factor=2), F.interpolate(x, scale_factor=0.6),
            F.interpolate(x, (9, 7), mode="bilinear", align_corners=True),
            F.interpolate(x, scale_factor=(1.5, 2), mode="bicubic"),
        ),
        ["conv", "resample", "resample", "resample", "resample"],
    ),
    "resized as ONNX has it": (
        lambda x: apply(
            resize._resize_rule, conv(x), None, None, gather(shape(x), [2, 3]) * 2,
            options=resize.Options("linear", "half_pixel", "floor", axes=(2, 3)),
        ),
        ["conv", "resample"],
    ),
    "resized along one axis": (
        lambda x: apply(
            resize._resize_rule, conv(x), None, np.array([1.0, 1.0, 1.0, 2.5]), None,
            options=resize.Options("nearest", "asymmetric", "floor"),
        ),
        ["conv", "resample"],
    ),
    "chosen": (
        lambda x: apply(
            pointwise._where, apply(pointwise._binary, x, np.zeros((), x.dtype), function="less"),
            np.full((3, 1, 1), 2, x.dtype), x,
        ),
        ["less", "where"],
    ),
    "cast": (lambda x: (conv(x) * 9).astype(np.int16).astype(x.dtype), ["conv", "cast", "cast"]),
    "shuffled": (shuffled, ["conv", "view + permute + view"]),
    "views of views": (
        lambda x: conv(x)[:, ::2].permute(0, 2, 3, 1).flatten(1)[:, 5:].flatten(),
        ["conv", "index + permute + flatten + index", "flatten"],
    ),
    "softmax": (lambda x: F.softmax(conv(x), 1), ["conv", "softmax"]),
    "log softmax": (lambda x: F.log_softmax(conv(x), 3), ["conv", "softmax"]),
    "joined": (
        lambda x: fastconv.cat([conv(x), x, F.relu(x)], 1), ["conv", "rectify", "concatenate"],
    ),
    "reductions": (
        lambda x: tuple(
            apply(reductions._reduce, x, np.array(axes), function=f, keepdim=k)
            for f, axes, k in [("mean", [2, 3], True), ("max", [1], False), ("sum", [0, -1], True)]
        ),
        ["adaptive_avg_pool", "max", "sum"],
    ),
}  # fmt: skip


@every_dtype
@pytest.mark.parametrize("name", STEPS)
def test_steps(name, dtype, tmp_path):
    """What has a step runs in it, without memory of its own, over an input that dies."""
    model, operators = STEPS[name]
    others = [[values((1, 3, 9, 7), dtype, 4)], [values((3, 3, 4, 5), dtype, 6)[:, :, ::-1]]]
    x = values((2, 3, 72, 60), dtype)
    others = [] if name == "pad of rows" else others
    plan = check(model, x, others=others, path=tmp_path)
    rows = plan.profile(repeat=1).rows
    assert [row.operator for row in rows] == operators
    assert "call" not in {row.algorithm for row in rows}
    out = plan(x)
    plan(x, out=out)
    tracemalloc.start()
    try:
        plan(x, out=out)
        # NumPy's, of any image, and of most of its loops before 2.0
        buffers = 3 * 8192 * 8 if "softmax" in operators else BUFFER * 3 * 8
        assert tracemalloc.get_traced_memory()[1] < 8192 + buffers
    finally:
        tracemalloc.stop()


def test_over_what_dies():
    x = values((1, 16, 32, 32))
    plan = fastconv.compile(lambda x: F.relu(F.silu(F.gelu(x) * x) + 1) - x.mean(), x)
    (program,) = plan._programs.values()
    assert program.size == 2 * x.nbytes + 64


def test_looking_at_plans(tmp_path):
    """Nodes of several outputs and dtypes, and plans without any."""
    pytest.importorskip("matplotlib")
    x = values((2, 3, 6, 8))
    for number, model in enumerate([
        lambda x: F.max_pool2d(conv(x), 2, return_indices=True),
        lambda x: apply(reductions._arg, conv(x), function="max", axis=1, keepdim=False),
        shape,
        lambda x: x,
    ]):  # fmt: skip
        plan = fastconv.compile(model, x)
        plan.plot(tmp_path / f"{number}.png")
        assert f"{len(plan.profile(x, repeat=1).rows)} steps" in str(plan)


def test_damaged_files(tmp_path):
    """Whatever is wrong is a ValueError that names the file, or a plan that still runs."""
    path, x = tmp_path / "plan.npz", values((2, 3, 6, 8))

    def model(x):
        y, places = F.max_pool2d(conv(F.pad(x, (1, 1))), 2, return_indices=True)
        return up(y, 2), places, apply(
            resize._resize_rule, shuffled(x), None, None, gather(shape(x), [2, 3]) * 2,
            options=resize.Options("linear", "half_pixel", "floor", axes=(2, 3)),
        )  # fmt: skip

    fastconv.compile(model, x).save(path)
    meta, constants = fastconv.load_metadata(path), fastconv.load(path)
    rng, errors = np.random.default_rng(0), []
    for _ in range(120):
        damaged = json.loads(json.dumps(meta))
        damage(damaged["plan"], rng)
        fastconv.save(constants, path, metadata=damaged)
        try:
            fastconv.load_plan(path)
        except ValueError as error:
            errors.append(str(error))
    assert len(errors) > 60
    assert all("plan.npz" in error for error in errors)


def damage(tree, rng):
    """Change one leaf or drop one branch."""
    keys = list(tree) if isinstance(tree, dict) else range(len(tree))
    key = keys[rng.integers(len(keys))]
    if isinstance(tree[key], (dict, list)) and tree[key] and rng.random() < 0.9:
        damage(tree[key], rng)
    elif rng.random() < 0.25:
        del tree[key]
    else:
        tree[key] = [None, "x", -5, {"value": 10**6}, [], 2**70, 1, "int64"][rng.integers(8)]
