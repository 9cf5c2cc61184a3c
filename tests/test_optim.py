"""Optimizers, learning rate schedules and gradient clipping.

Oracles: the equations, written for one number at a time; closed forms; and torch where it is
installed.
"""

import copy
import itertools
import json
import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from fastconv import Tensor, set_num_threads
from fastconv.io import load, load_metadata, save
from fastconv.nn.utils import clip_grad_norm_, clip_grad_value_
from fastconv.optim import (
    SGD,
    Adam,
    AdamW,
    Optimizer,
    lr_scheduler,
    pack_state,
    unpack_state,
)
from fastconv.optim.lr_scheduler import (
    CosineAnnealingLR,
    LambdaLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    StepLR,
)

TOLERANCES = {np.float32: 2e-5, np.float64: 1e-12}
DTYPES = list(TOLERANCES)


def product_of(**choices):
    """All combinations of the values of the options, as dicts."""
    return [
        dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())
    ]


SGD_OPTIONS = [
    options
    for options in product_of(
        lr=[0.1],
        momentum=[0.0, 0.9],
        dampening=[0.0, 0.25],
        weight_decay=[0.0, 0.05],
        nesterov=[False, True],
        maximize=[False, True],
    )
    if not options["nesterov"] or (options["momentum"] and not options["dampening"])
]
ADAM_OPTIONS = product_of(
    lr=[0.02],
    betas=[(0.9, 0.999), (0.0, 0.5)],
    eps=[1e-8, 0.1],
    weight_decay=[0.0, 0.05],
    amsgrad=[False, True],
    maximize=[False, True],
)
ALL_OPTIONS = [
    *((SGD, options) for options in SGD_OPTIONS),
    *((kind, options) for kind in (Adam, AdamW) for options in ADAM_OPTIONS),
]
SOME_OPTIONS = [
    (SGD, {"lr": 0.1}),
    (SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.05, "nesterov": True}),
    (SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.25, "maximize": True}),
    (Adam, {"lr": 0.02, "weight_decay": 0.05}),
    (AdamW, {"lr": 0.02, "amsgrad": True}),
]
CLASSES = [SGD, Adam, AdamW]


def channels_last(array):
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(array, 1, -1)), -1, 1)


def parameter(values, grad=None):
    tensor = Tensor(values, requires_grad=True)
    tensor.grad = grad
    return tensor


def example_arrays(rng, dtype):
    """A kernel in channels-last memory, a bias, a scalar, and one that has no elements."""
    arrays = [rng.standard_normal(shape) for shape in [(4, 3, 2, 5), (4,), (), (0, 2)]]
    arrays = [np.asarray(array, dtype) for array in arrays]
    arrays[0] = channels_last(arrays[0])
    return arrays


def example_gradients(rng, arrays, n_steps):
    """Lists of gradients, now and then None; mostly not in the memory order of `arrays`."""
    return [
        [
            None if (step + i) % 5 == 3 else np.asarray(rng.standard_normal(a.shape), a.dtype)
            for i, a in enumerate(arrays)
        ]
        for step in range(n_steps)
    ]


def run(optimizer, parameters, gradients, scheduler=None):
    for step_gradients in gradients:
        for p, g in zip(parameters, step_gradients, strict=True):
            p.grad = None if g is None else g.copy("K")
        optimizer.step()
        if scheduler is not None:
            scheduler.step()


def assert_same_bits(a, b):
    assert a.dtype == b.dtype
    assert a.shape == b.shape
    assert a.tobytes() == b.tobytes()


# --- the equations, one number at a time ---------------------------------------------------------


def naive_sgd(p, gradients, lr, momentum, dampening, weight_decay, nesterov, maximize):
    b = None
    for g in gradients:
        if g is None:
            continue
        g = (-g if maximize else g) + weight_decay * p
        if momentum:
            b = g if b is None else momentum * b + (1 - dampening) * g
            g = g + momentum * b if nesterov else b
        p = p - lr * g
    return p


def naive_adam(p, gradients, lr, betas, eps, weight_decay, amsgrad, maximize, decoupled):
    m = v = largest = t = 0
    for g in gradients:
        if g is None:
            continue
        t += 1
        g = -g if maximize else g
        if decoupled:
            p = p - lr * weight_decay * p
        else:
            g = g + weight_decay * p
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g * g
        largest = max(largest, v)
        v_hat = (largest if amsgrad else v) / (1 - betas[1] ** t)
        p = p - lr * (m / (1 - betas[0] ** t)) / (math.sqrt(v_hat) + eps)
    return p


def naive(kind, options, p, gradients):
    if kind is SGD:
        return naive_sgd(p, gradients, **options)
    return naive_adam(p, gradients, **options, decoupled=kind is AdamW)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("kind", "options"), ALL_OPTIONS)
def test_every_option_against_the_equations(rng, kind, options, dtype):
    arrays = example_arrays(rng, dtype)
    gradients = example_gradients(rng, arrays, 20)
    parameters = [parameter(array.copy("K")) for array in arrays]
    run(kind(parameters, **options), parameters, gradients)
    for i, (p, array) in enumerate(zip(parameters, arrays, strict=True)):
        expected = np.empty(array.shape)
        for index in np.ndindex(array.shape):
            series = [None if g[i] is None else float(g[i][index]) for g in gradients]
            expected[index] = naive(kind, options, float(array[index]), series)
        assert p.dtype == dtype
        assert_allclose(p.data, expected, rtol=TOLERANCES[dtype], atol=TOLERANCES[dtype])


# --- torch ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("kind", "options"), ALL_OPTIONS)
def test_every_option_against_torch(rng, kind, options, dtype):
    torch = pytest.importorskip("torch")
    arrays = example_arrays(rng, dtype)
    gradients = example_gradients(rng, arrays, 20)
    parameters = [parameter(array.copy("K")) for array in arrays]
    ours = kind(parameters, **options)
    run(ours, parameters, gradients)

    references = [torch.tensor(array, requires_grad=True) for array in arrays]
    theirs = getattr(torch.optim, kind.__name__)(references, **options)
    for step_gradients in gradients:
        for p, g in zip(references, step_gradients, strict=True):
            p.grad = None if g is None else torch.tensor(g)
        theirs.step()

    tolerance = TOLERANCES[dtype]
    for p, reference in zip(parameters, references, strict=True):
        assert_allclose(p.data, reference.detach().numpy(), rtol=tolerance, atol=tolerance)
    our_state, their_state = ours.state_dict()["state"], theirs.state_dict()["state"]
    assert our_state.keys() == their_state.keys()
    for index, entry in our_state.items():
        names = {"max_exp_avg_sqs": "max_exp_avg_sq"}
        reference = {names.get(name, name): value for name, value in their_state[index].items()}
        assert entry.keys() == reference.keys()
        for name, value in entry.items():
            assert_allclose(value, reference[name].numpy(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("kind", CLASSES)
def test_defaults_and_positions_are_torchs(kind):
    torch = pytest.importorskip("torch")
    theirs = getattr(torch.optim, kind.__name__)([torch.zeros(1, requires_grad=True)])
    ours = kind([parameter(np.zeros(1))])
    assert ours.defaults.items() <= theirs.defaults.items()
    p = parameter(np.zeros(1))
    values = (0.5, 0.0, 0.25, 0.125) if kind is SGD else (0.5, (0.1, 0.2), 0.25, 0.125, True)
    positional = kind([p], *values).defaults
    reference = getattr(torch.optim, kind.__name__)([torch.zeros(1)], *values).defaults
    assert positional.items() <= reference.items()


# --- closed forms --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_sgd_with_a_constant_gradient(dtype):
    p = parameter(np.array([1.0, -2.0], dtype), np.array([0.5, 4.0], dtype))
    optimizer = SGD([p], lr=0.25)
    for _ in range(8):
        optimizer.step()
    assert_array_equal(p.data, np.array([1.0 - 8 * 0.125, -2.0 - 8 * 1.0], dtype))


def test_momentum_with_a_constant_gradient():
    p = parameter(np.array([1.0]), np.array([3.0]))
    optimizer = SGD([p], lr=0.1, momentum=0.75)
    for n in range(1, 12):
        optimizer.step()
        velocity = 3 * (1 - 0.75**n) / (1 - 0.75)
        assert_allclose(optimizer.state[p]["momentum_buffer"], [velocity])
    travelled = 3 / 0.25 * (11 - 0.75 * (1 - 0.75**11) / 0.25)
    assert_allclose(p.data, [1 - 0.1 * travelled])


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_on_a_parabola_is_a_matrix_power(nesterov):
    """Loss p^2 c / 2, of gradient c p: (p, b) changes by the same matrix at every step."""
    c, lr, m, n = 0.8, 0.3, 0.9, 15
    p = parameter(np.array([2.0]))
    optimizer = SGD([p], lr=lr, momentum=m, nesterov=nesterov)
    for _ in range(n):
        p.grad = c * p.data
        optimizer.step()
    if nesterov:
        matrix = np.array([[1 - lr * c * (1 + m), -lr * m * m], [c, m]])
    else:
        matrix = np.array([[1 - lr * c, -lr * m], [c, m]])
    expected = np.linalg.matrix_power(matrix, n) @ [2.0, 0.0]
    assert_allclose([p.data[0], optimizer.state[p]["momentum_buffer"][0]], expected, rtol=1e-12)


@pytest.mark.parametrize("kind", [SGD, AdamW])
def test_weight_decay_alone_shrinks_geometrically(kind):
    p = parameter(np.array([2.0, -3.0]), np.zeros(2))
    optimizer = kind([p], lr=0.1, weight_decay=0.5)
    for _ in range(10):
        optimizer.step()
    assert_allclose(p.data, np.array([2.0, -3.0]) * 0.95**10, rtol=1e-14)


@pytest.mark.parametrize("kind", [Adam, AdamW])
@pytest.mark.parametrize("amsgrad", [False, True])
def test_adam_with_a_constant_gradient(kind, amsgrad):
    """Then m / (1 - beta1^t) = g and v / (1 - beta2^t) = g^2 at every step."""
    g = np.array([3.0, -1e-3, 0.0])
    p = parameter(np.ones(3), g)
    optimizer = kind([p], lr=0.01, eps=1e-4, weight_decay=0.0, amsgrad=amsgrad)
    for _ in range(25):
        optimizer.step()
    assert_allclose(p.data, 1 - 25 * 0.01 * g / (np.abs(g) + 1e-4), rtol=1e-12)


def test_amsgrad_remembers_the_largest():
    p = parameter(np.zeros(1), np.array([8.0]))
    optimizer = Adam([p], lr=1.0, betas=(0.0, 0.5), eps=0.0, amsgrad=True)
    optimizer.step()
    p.grad = np.array([0.5])
    optimizer.step()
    # v falls from 32 to 16.125, but the step divides by sqrt(32 / (1 - 0.25)).
    assert_array_equal(optimizer.state[p]["exp_avg_sq"], [16.125])
    assert_array_equal(optimizer.state[p]["max_exp_avg_sq"], [32.0])
    assert_allclose(p.data, [-1 - 0.5 / math.sqrt(32 / 0.75)])


def test_amsgrad_may_be_switched_between_steps():
    """Off, the largest v is neither used nor changed; on again, it is still there."""
    p = parameter(np.zeros(1), np.array([8.0]))
    optimizer = Adam([p], lr=1.0, betas=(0.0, 0.5), eps=0.0, amsgrad=True)
    optimizer.step()
    optimizer.param_groups[0]["amsgrad"] = False
    p.grad = np.array([16.0])
    optimizer.step()
    assert_array_equal(optimizer.state[p]["max_exp_avg_sq"], [32.0])
    assert_allclose(p.data, [-1 - 16 / math.sqrt((16 + 128) / 0.75)])
    late = Adam([p], lr=1.0)
    late.step()
    late.param_groups[0]["amsgrad"] = True
    late.step()
    assert_array_equal(late.state[p]["max_exp_avg_sq"], late.state[p]["exp_avg_sq"])


def test_a_run_to_the_minimum(rng):
    """The least-squares solution, found by both optimizers through backward()."""
    a = rng.standard_normal((20, 3))
    y = rng.standard_normal(20)
    solution = np.linalg.lstsq(a, y, rcond=None)[0]
    for kind, options in [(SGD, {"lr": 0.3, "momentum": 0.5}), (Adam, {"lr": 0.1})]:
        w = parameter(np.zeros((1, 3)))
        optimizer = kind([w], **options)
        for _ in range(400):
            optimizer.zero_grad()
            error = (w * a).sum(1) - y
            (error * error).mean().backward()
            optimizer.step()
        assert_allclose(w.data[0], solution, rtol=1e-4)


# --- in place, in any memory order ---------------------------------------------------------------


def layouts_of(array):
    """`array` (4-D) in other memory: name -> array of equal values."""
    wide = np.zeros(tuple(2 * n for n in array.shape), array.dtype)
    wide[::2, ::2, 1::2, ::2] = array
    return {
        "C": array.copy(),
        "F": np.asfortranarray(array),
        "channels last": channels_last(array),
        "sliced": wide[::2, ::2, 1::2, ::2],
        "negative": array[::-1, :, ::-1].copy()[::-1, :, ::-1],
    }


@pytest.mark.parametrize(("kind", "options"), SOME_OPTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_memory_order_changes_no_bit(rng, kind, options, dtype):
    shape = (7, 45, 13, 9)  # not a multiple of a vector
    start = rng.standard_normal(shape).astype(dtype)
    gradients = [[rng.standard_normal(shape).astype(dtype)] for _ in range(3)]
    reference = parameter(start.copy())
    run(kind([reference], **options), [reference], gradients)
    assert not np.array_equal(reference.data, start)
    for name, array in layouts_of(start).items():
        for i, g in enumerate(layouts_of(gradients[2][0]).values()):
            p = parameter(array.copy("K") if name != "sliced" else layouts_of(start)[name])
            data, address, strides = p.data, p.data.ctypes.data, p.data.strides
            before = g.tobytes()
            stepper = kind([p], **options)
            run(stepper, [p], gradients[:2])
            p.grad = g
            stepper.step()
            assert p.data is data
            assert (p.data.ctypes.data, p.data.strides) == (address, strides)
            assert g.tobytes() == before
            assert_same_bits(p.data, reference.data)
            if name == "channels last" and i == 0:
                for value in stepper.state[p].values():
                    assert np.ndim(value) == 0 or value.strides == strides


def test_memory_between_the_elements_is_left_alone(rng):
    wide = rng.standard_normal((6, 8))
    before = wide.copy()
    p = parameter(wide[::2, 1::2], np.ones((3, 4)))
    Adam([p], lr=0.1).step()
    changed = wide != before
    assert changed[::2, 1::2].all()
    changed[::2, 1::2] = False
    assert not changed.any()


@pytest.mark.parametrize(("kind", "options"), SOME_OPTIONS)
def test_swapped_and_unaligned_memory_changes_no_bit(rng, kind, options):
    start, grad = rng.standard_normal((2, 5, 7))
    reference = parameter(start.copy())
    run(kind([reference], **options), [reference], [[grad]] * 3)
    unaligned = np.empty(start.nbytes + 1, np.uint8)[1:].view(start.dtype).reshape(start.shape)
    unaligned[...] = start
    swapped = start.astype(start.dtype.newbyteorder())
    for data in (unaligned, swapped):
        p = parameter(data)
        run(kind([p], **options), [p], [[grad.astype(data.dtype)]] * 3)
        assert p.data is data
        assert_array_equal(p.data, reference.data)


@pytest.mark.parametrize(("kind", "options"), SOME_OPTIONS)
@pytest.mark.parametrize("shape", [(0,), (3, 0, 2), (), (1, 1), (1,)])
def test_few_or_no_elements_in_any_memory(kind, options, shape):
    """Axes of one place have arbitrary strides."""
    wide = np.ones([2 * n for n in shape] or (), np.float32)
    reference = parameter(np.ones(1), np.full(1, 0.5))
    kind([reference], **options).step()
    for data in (np.ones(shape), wide[(..., *(slice(None, None, 2) for _ in shape))]):
        p = parameter(data, np.full(shape, 0.5, data.dtype))
        kind([p], **options).step()
        assert p.data is data
        assert_allclose(data, np.broadcast_to(reference.data, (1, *shape))[0], rtol=1e-6)


@pytest.mark.parametrize(("kind", "options"), SOME_OPTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_threads_and_memory_order_change_no_bit(rng, keep_threads, kind, options, dtype):
    shape = (67, 31, 7, 11)  # enough for threads; their parts are not whole vectors
    start = rng.standard_normal(shape).astype(dtype)
    gradients = [[rng.standard_normal(shape).astype(dtype)] for _ in range(2)]
    results = []
    for n in (1, 2, 3):
        set_num_threads(n)
        for array in (start.copy(), channels_last(start)):
            p = parameter(array)
            run(kind([p], **options), [p], gradients)
            results.append(p.data)
    for result in results[1:]:
        assert_same_bits(result, results[0])


def test_states_of_other_memory_follow(rng):
    """Arrays of a state may be given any layout and precision; they stay the same objects."""
    start, grad = rng.standard_normal((2, 3, 4, 5))
    reference, p = parameter(start.copy()), parameter(start.copy())
    expected, optimizer = (SGD([q], lr=0.1, momentum=0.5) for q in (reference, p))
    run(expected, [reference], [[grad]])
    run(optimizer, [p], [[grad]])
    moved = np.asfortranarray(optimizer.state[p]["momentum_buffer"])
    optimizer.state[p]["momentum_buffer"] = moved
    run(expected, [reference], [[grad]])
    run(optimizer, [p], [[grad]])
    assert_same_bits(p.data, reference.data)
    assert optimizer.state[p]["momentum_buffer"] is moved
    assert_array_equal(moved, expected.state[reference]["momentum_buffer"])
    p.data = p.data.astype(np.float32)
    run(optimizer, [p], [[grad.astype(np.float32)]])
    run(expected, [reference], [[grad]])
    assert p.dtype == np.float32
    assert_allclose(p.data, reference.data, rtol=1e-5)


@pytest.mark.parametrize("kind", CLASSES)
def test_numpy_scalars_do_not_change_the_dtype(kind):
    p = parameter(np.ones(3, np.float32), np.ones(3, np.float32))
    optimizer = kind([p], lr=np.float64(0.5), weight_decay=np.float32(0.25))
    optimizer.step()
    optimizer.param_groups[0]["lr"] = np.float64(0.25)
    optimizer.step()
    assert p.dtype == np.float32
    for value in optimizer.state[p].values():
        assert isinstance(value, int) or value.dtype == np.float32


@pytest.mark.parametrize("kind", CLASSES)
def test_nan_and_inf_stay_where_they_are(kind):
    p = parameter(np.ones(4), np.array([1.0, np.nan, np.inf, 1.0]))
    with np.errstate(invalid="ignore"):
        kind([p], lr=0.1).step()
    assert np.isfinite(p.data[[0, 3]]).all()
    assert p.data[0] == p.data[3]
    assert not np.isfinite(p.data[1])


@pytest.mark.parametrize("first", [1.0, np.nan])
def test_amsgrad_keeps_nan(first):
    p = parameter(np.ones(3), np.array([first, 1.0, 2.0]))
    optimizer = Adam([p], lr=0.1, amsgrad=True)
    optimizer.step()
    p.grad = np.array([1.0, np.nan, 2.0])
    optimizer.step()
    largest = optimizer.state[p]["max_exp_avg_sq"]
    assert_array_equal(np.isnan(largest), [math.isnan(first), True, False])


@pytest.mark.parametrize("kind", [SGD, Adam])
def test_an_infinite_parameter_stays_without_decay(kind):
    """A weight decay of 0 is no term: 0 times infinity would be NaN."""
    p = parameter(np.array([np.inf, 1.0]), np.ones(2))
    kind([p], lr=0.1).step()
    assert p.data[0] == np.inf


# --- groups, gradients, the step -----------------------------------------------------------------


@pytest.mark.parametrize("kind", CLASSES)
def test_parameters_without_gradient_are_skipped(kind):
    with_gradient, without = parameter(np.ones(2), np.ones(2)), parameter(np.ones(2))
    frozen = Tensor(np.ones(2))
    optimizer = kind([with_gradient, without, frozen], lr=0.1, weight_decay=0.5)
    optimizer.step()
    assert (with_gradient.data != 1).all()
    assert_array_equal(without.data, 1.0)
    assert_array_equal(frozen.data, 1.0)
    assert without not in optimizer.state
    assert list(optimizer.state_dict()["state"]) == ([] if kind is SGD else [0])


def test_groups_have_their_own_options():
    a, b, c, d = (parameter(np.zeros(1), np.ones(1)) for _ in range(4))
    optimizer = SGD(
        [{"params": [a, b]}, {"params": c, "lr": 0.5}, {"params": iter([d]), "name": "head"}],
        lr=0.25,
    )
    optimizer.param_groups[2]["lr"] = 2.0
    optimizer.step()
    assert [p.data[0] for p in (a, b, c, d)] == [-0.25, -0.25, -0.5, -2.0]
    assert [len(group["params"]) for group in optimizer.param_groups] == [2, 1, 1]
    assert optimizer.param_groups[2]["name"] == "head"
    assert optimizer.defaults["lr"] == 0.25


def test_parameters_from_a_generator_and_a_module_like_iterable():
    parameters = [parameter(np.zeros(1), np.ones(1)) for _ in range(3)]
    SGD((p for p in parameters), lr=0.5).step()
    SGD(dict(enumerate(parameters)).values(), lr=0.5).step()
    assert [p.data[0] for p in parameters] == [-1.0] * 3


def test_add_param_group():
    a, b = parameter(np.zeros(1), np.ones(1)), parameter(np.zeros(1), np.ones(1))
    optimizer = SGD([a], lr=0.5, momentum=0.5)
    optimizer.step()
    optimizer.add_param_group({"params": b, "lr": 0.25})
    optimizer.step()
    assert (a.data[0], b.data[0]) == (-0.5 - 0.75, -0.25)
    for bad, error in [
        ({"params": [a]}, ValueError),
        ({"params": [Tensor([1.0]), 3]}, TypeError),
        ({"params": [Tensor([1.0])], "lr": -1}, ValueError),
        ({"lr": 1.0}, TypeError),
        ([a], TypeError),
    ]:
        with pytest.raises(error):
            optimizer.add_param_group(bad)
    assert len(optimizer.param_groups) == 2


def test_zero_grad():
    grad = np.ones(2)
    p, without = parameter(np.zeros(2), grad), parameter(np.zeros(2))
    optimizer = SGD([{"params": p}, {"params": without}], lr=0.5)
    optimizer.zero_grad(set_to_none=False)
    assert p.grad is grad
    assert_array_equal(grad, 0.0)
    assert without.grad is None
    p.grad = np.ones(2)
    optimizer.zero_grad()
    assert p.grad is None


def test_closure():
    p = parameter(np.array([3.0]))
    optimizer = SGD([p], lr=0.5)

    def closure():
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    assert float(optimizer.step(closure)) == 9.0
    assert_array_equal(p.data, [0.0])
    assert optimizer.step() is None


def test_accumulated_gradients_of_all_ranks():
    """Gradients that backward() made are taken as they are, also the second time and 0-d."""
    p, scalar = parameter(np.array([2.0])), parameter(np.array(1.0))
    optimizer = SGD([p, scalar], lr=0.25)
    for _ in range(2):
        (p * scalar).sum().backward()
    clip_grad_norm_([p, scalar], 1e9)
    optimizer.step()
    assert_array_equal(p.data, [1.5])
    assert_array_equal(scalar.data, 0.0)


def test_own_optimizers():
    class Sign(Optimizer):
        def __init__(self, params, lr):
            super().__init__(params, {"lr": lr})

        def _update(self, data, grad, state, group):
            state["calls"] = state.get("calls", 0) + 1
            data -= group["lr"] * np.sign(grad)

    p = parameter(np.zeros(2), np.array([3.0, -2.0]))
    optimizer = Sign([p], lr=0.5)
    optimizer.step()
    assert_array_equal(p.data, [-0.5, 0.5])
    other = Sign([parameter(np.zeros(2))], lr=0.25)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert other.state_dict() == optimizer.state_dict()
    with pytest.raises(NotImplementedError):
        Optimizer([p], {}).step()


# --- bad input -----------------------------------------------------------------------------------

ONE = parameter(np.ones(2))


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize(
    ("params", "error", "words"),
    [
        ([], ValueError, ["params", "at least one", "empty"]),
        (iter([]), ValueError, ["params", "at least one"]),
        ([{"params": []}], ValueError, ["params", "at least one"]),
        (None, TypeError, ["params", "NoneType"]),
        (3, TypeError, ["params", "int"]),
        ("ab", TypeError, ["params", "str"]),
        (ONE, TypeError, ["params", "Tensor"]),
        ({ONE}, TypeError, ["params", "set"]),
        ({"params": [ONE]}, TypeError, ["params", "dict"]),
        ([ONE, None], TypeError, ["params[1]", "NoneType"]),
        ([np.ones(2)], TypeError, ["params[0]", "ndarray"]),
        (np.ones((2, 2)), TypeError, ["params[0]", "ndarray"]),
        ([("weight", ONE)], TypeError, ["params[0]", "tuple"]),
        ([[ONE]], TypeError, ["params[0]", "list"]),
        ([ONE, Tensor([1.0]), ONE], ValueError, ["params[2]", "twice", "(2,)"]),
        ([{"params": [ONE]}, {"params": [ONE]}], ValueError, ["params[0]", "twice"]),
        ([ONE * 2], ValueError, ["params[0]", "leaf"]),
        ([{"lr": 0.5}], TypeError, ["'params'", "{'lr': 0.5}"]),
        ([{"params": {ONE}}], TypeError, ["params", "set"]),
        ([{"params": [ONE]}, ONE], TypeError, ["param_group"]),
        ([{"params": [ONE], "lr": -0.5}], ValueError, ["lr", "-0.5"]),
        ([{"params": [ONE], "weight_decay": "x"}], TypeError, ["weight_decay", "'x'"]),
    ],
)
def test_bad_parameters(kind, params, error, words):
    with pytest.raises(error) as caught:
        kind(params, lr=0.1)
    assert all(word in str(caught.value) for word in words), caught.value


BAD_NUMBERS = [
    (-1e-9, ValueError, "-1e-09"),
    (-1, ValueError, "-1"),
    (float("nan"), ValueError, "nan"),
    (float("inf"), ValueError, "inf"),
    ("0.1", TypeError, "'0.1'"),
    (None, TypeError, "None"),
    (True, TypeError, "True"),
    (1j, TypeError, "1j"),
    ([0.1], TypeError, "[0.1]"),
    (np.ones(1), TypeError, "array"),
]
NUMBERS = {SGD: ["lr", "momentum", "weight_decay"], Adam: ["lr", "eps", "weight_decay"]}


@pytest.mark.parametrize(("value", "error", "word"), BAD_NUMBERS)
def test_bad_numbers(value, error, word):
    for kind in CLASSES:
        for name in NUMBERS[SGD if kind is SGD else Adam]:
            with pytest.raises(error) as caught:
                kind([ONE], **{"lr": 0.1, name: value})
            assert name in str(caught.value)
            assert word in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "options", "error", "words"),
    [
        (SGD, {"dampening": float("nan")}, ValueError, ["dampening", "nan"]),
        (SGD, {"dampening": "x"}, TypeError, ["dampening", "'x'"]),
        (SGD, {"nesterov": True}, ValueError, ["nesterov", "momentum 0.0"]),
        (SGD, {"nesterov": True, "momentum": 0.9, "dampening": 0.5}, ValueError, ["0.5"]),
        (SGD, {"nesterov": 1, "momentum": 0.9}, TypeError, ["nesterov", "1"]),
        (SGD, {"maximize": "no"}, TypeError, ["maximize", "'no'"]),
        (Adam, {"betas": (1.0, 0.9)}, ValueError, ["betas[0]", "1.0", "[0.0, 1.0)"]),
        (Adam, {"betas": (0.9, 1.5)}, ValueError, ["betas[1]", "1.5"]),
        (AdamW, {"betas": (-0.1, 0.9)}, ValueError, ["betas[0]", "-0.1"]),
        (Adam, {"betas": 0.9}, TypeError, ["betas", "0.9"]),
        (Adam, {"betas": (0.9,)}, TypeError, ["betas", "(0.9,)"]),
        (Adam, {"betas": (0.9, "x")}, TypeError, ["betas[1]", "'x'"]),
        (Adam, {"amsgrad": None}, TypeError, ["amsgrad", "None"]),
        (AdamW, {"maximize": 0}, TypeError, ["maximize", "0"]),
    ],
)
def test_bad_options(kind, options, error, words):
    with pytest.raises(error) as caught:
        kind([ONE], lr=0.1, **options)
    assert all(word in str(caught.value) for word in words), caught.value


def read_only(array):
    array.flags.writeable = False
    return array


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize(
    ("data", "grad", "error", "words"),
    [
        (np.ones(2), np.ones(3), ValueError, ["grad", "(2,)", "(3,)"]),
        (np.ones(2), np.ones((1, 2)), ValueError, ["grad", "(1, 2)"]),
        (np.ones(2), np.array(1.0), ValueError, ["grad", "()"]),
        (np.ones(2), np.ones(2, np.float32), TypeError, ["grad", "float64", "float32"]),
        (np.array(1.0), np.float64(1.0), TypeError, ["grad", "ndarray", "float64"]),
        (np.ones(2), np.ones(2, int), TypeError, ["grad", "float64", "int64"]),
        (np.ones(2), [1.0, 1.0], TypeError, ["grad", "list"]),
        (np.ones(2), Tensor(np.ones(2)), TypeError, ["grad", "Tensor"]),
        (read_only(np.ones(2)), np.ones(2), ValueError, ["data", "writable", "read-only"]),
    ],
)
def test_bad_gradients_change_nothing(kind, data, grad, error, words):
    good = parameter(np.ones(3), np.ones(3))
    bad = parameter(data, grad)
    optimizer = kind([{"params": good}, {"params": [bad]}], lr=0.1)
    words = ["param_groups[1]['params'][0]", *words]
    with pytest.raises(error) as caught:
        optimizer.step()
    assert all(word in str(caught.value) for word in words), caught.value
    assert_array_equal(good.data, 1.0)
    assert optimizer.state_dict()["state"] == {}


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("dtype", [np.float16, np.int64])
def test_only_floats_can_be_changed(kind, dtype):
    good, bad = parameter(np.ones(3), np.ones(3)), Tensor(np.ones(2, dtype))
    bad.grad = np.ones(2, dtype)
    with pytest.raises(TypeError, match=rf"\[1\]\.data must be .*, got {np.dtype(dtype)}"):
        kind([good, bad], lr=0.1).step()
    assert_array_equal(good.data, 1.0)


@pytest.mark.parametrize(
    ("kind", "options", "moment"),
    [(SGD, {"momentum": 0.5}, "momentum_buffer"), (Adam, {}, "exp_avg"), (AdamW, {}, "exp_avg")],
)
def test_another_shape_than_at_the_last_step_changes_nothing(kind, options, moment):
    good, bad = parameter(np.ones(3), np.ones(3)), parameter(np.ones(2), np.ones(2))
    optimizer = kind([good, bad], lr=0.1, **options)
    optimizer.step()
    before = good.data.copy()
    bad.data = bad.grad = np.ones((4, 5))
    with pytest.raises(ValueError, match=rf"\[1\]\.data .* \(2,\), as its {moment}, got \(4, 5\)"):
        optimizer.step()
    assert_array_equal(good.data, before)


def test_options_changed_between_steps_are_checked():
    p = parameter(np.ones(2), np.ones(2))
    optimizer = SGD([p], lr=0.1)
    optimizer.param_groups[0]["lr"] = -0.5
    with pytest.raises(ValueError, match=r"lr must be at least 0\.0, got -0\.5"):
        optimizer.step()
    assert_array_equal(p.data, 1.0)


# --- state dicts ---------------------------------------------------------------------------------


def through_memory(state_dict, folder):
    return copy.deepcopy(state_dict)


def through_npz(state_dict, folder):
    arrays, meta = pack_state(state_dict)
    save(arrays, folder / "state.npz", metadata=meta)
    return unpack_state(load(folder / "state.npz"), load_metadata(folder / "state.npz"))


def through_safetensors(state_dict, folder):
    path = folder / "state.safetensors"
    arrays, meta = pack_state(state_dict)
    save(arrays, path, metadata=meta)
    return unpack_state(load(path), load_metadata(path))


WAYS = [through_memory, through_npz, through_safetensors]
ANY_SCHEDULE = {
    "none": None,
    "step": lambda optimizer: StepLR(optimizer, 3),
    "one cycle": lambda optimizer: OneCycleLR(
        optimizer, [0.1, 0.2], total_steps=20, cycle_momentum=_has_momentum(optimizer)
    ),
}


def _has_momentum(optimizer):
    """OneCycleLR would give a plain SGD a momentum, which is another optimizer."""
    return "betas" in optimizer.defaults or optimizer.defaults["momentum"] > 0


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("schedule", ANY_SCHEDULE)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("kind", "options"), SOME_OPTIONS)
def test_resumed_equals_uninterrupted(rng, tmp_path, kind, options, dtype, schedule, way):
    arrays = example_arrays(rng, dtype)
    gradients = example_gradients(rng, arrays, 12)

    def start(arrays):
        parameters = [parameter(array.copy("K")) for array in arrays]
        groups = [{"params": parameters[:2]}, {"params": parameters[2:], "lr": 0.05}]
        optimizer = kind(groups, **options)
        make = ANY_SCHEDULE[schedule]
        return parameters, optimizer, make and make(optimizer)

    parameters, optimizer, scheduler = start(arrays)
    run(optimizer, parameters, gradients, scheduler)

    first, optimizer_1, scheduler_1 = start(arrays)
    run(optimizer_1, first, gradients[:7], scheduler_1)
    saved = way(optimizer_1.state_dict(), tmp_path)
    # Another memory order and other options, to be overwritten.
    second = [parameter(p.data.copy("C")) for p in first]
    groups = [{"params": second[:2]}, {"params": second[2:]}]
    optimizer_2 = kind(groups, **{**options, "lr": 0.7, "weight_decay": 0.3})
    scheduler_2 = None
    if scheduler_1:
        scheduler_2 = ANY_SCHEDULE[schedule](optimizer_2)
        scheduler_2.load_state_dict(json.loads(json.dumps(scheduler_1.state_dict())))
    optimizer_2.load_state_dict(saved)
    run(optimizer_2, second, gradients[7:], scheduler_2)

    for p, q in zip(parameters, second, strict=True):
        assert_same_bits(p.data, q.data)
    expected, result = optimizer.state_dict(), optimizer_2.state_dict()
    assert expected["param_groups"] == result["param_groups"]
    assert expected["state"].keys() == result["state"].keys()
    for index, entry in expected["state"].items():
        assert entry.keys() == result["state"][index].keys()
        for name, value in entry.items():
            assert_array_equal(value, result["state"][index][name])
    if scheduler:
        assert scheduler.state_dict() == scheduler_2.state_dict()
        assert scheduler.get_last_lr() == scheduler_2.get_last_lr()


def trained(kind, **options):
    parameters = [parameter(np.ones((2, 3)), np.ones((2, 3))), parameter(np.ones(4), np.ones(4))]
    optimizer = kind([{"params": parameters[:1]}, {"params": parameters[1:]}], lr=0.1, **options)
    optimizer.step()
    return optimizer


def test_the_form_of_a_state_dict():
    optimizer = trained(Adam)
    state_dict = optimizer.state_dict()
    assert state_dict.keys() == {"state", "param_groups"}
    assert [group["params"] for group in state_dict["param_groups"]] == [[0], [1]]
    assert state_dict["param_groups"][0]["betas"] == (0.9, 0.999)
    assert state_dict["state"].keys() == {0, 1}
    assert state_dict["state"][1].keys() == {"step", "exp_avg", "exp_avg_sq"}
    assert state_dict["state"][1]["step"] == 1
    assert type(state_dict["state"][1]["step"]) is int
    # The arrays are the live ones; the dicts are not.
    live = optimizer.state[optimizer.param_groups[0]["params"][0]]
    assert state_dict["state"][0]["exp_avg"] is live["exp_avg"]
    state_dict["state"][0].clear()
    state_dict["param_groups"][0].clear()
    assert live
    assert optimizer.param_groups[0]["lr"] == 0.1


def test_loading_copies():
    source, target = trained(Adam), trained(Adam)
    state_dict = source.state_dict()
    target.load_state_dict(state_dict)
    live = source.state[source.param_groups[0]["params"][0]]
    loaded = target.state[target.param_groups[0]["params"][0]]
    assert not np.shares_memory(loaded["exp_avg"], live["exp_avg"])
    loaded["exp_avg"][...] = 7
    target.param_groups[0]["lr"] = 7.0
    assert not (live["exp_avg"] == 7).any()
    assert source.param_groups[0]["lr"] == 0.1


def test_loading_takes_the_parameters_dtype_and_order():
    shape = (2, 3, 4, 5)
    source = Adam([parameter(np.ones(shape), np.full(shape, 0.1))])
    source.step()
    p = parameter(channels_last(np.ones(shape, np.float32)))
    target = Adam([p])
    target.load_state_dict(source.state_dict())
    assert target.state[p]["exp_avg"].dtype == np.float32
    assert target.state[p]["exp_avg"].strides == p.data.strides
    assert_allclose(target.state[p]["exp_avg"], 0.01, rtol=1e-6)


def test_extra_options_of_a_group_are_kept():
    source = trained(SGD)
    source.param_groups[0]["name"] = "body"
    target = trained(SGD)
    target.load_state_dict(source.state_dict())
    assert target.param_groups[0]["name"] == "body"
    assert "name" not in target.param_groups[1]


def without(mapping, key):
    return {k: v for k, v in mapping.items() if k != key}


def with_state(state_dict, index, **changes):
    entry = {**state_dict["state"].get(index, {}), **changes}
    return {**state_dict, "state": {**state_dict["state"], index: entry}}


def with_group(state_dict, index, **changes):
    groups = list(state_dict["param_groups"])
    groups[index] = {**groups[index], **changes}
    return {**state_dict, "param_groups": groups}


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda d: None, ValueError, ["state_dict", "None"]),
        (lambda d: {}, ValueError, ["state_dict", "param_groups", "{}"]),
        (lambda d: without(d, "state"), ValueError, ["state_dict", "'state'"]),
        (lambda d: {**d, "more": 1}, ValueError, ["state_dict", "more"]),
        (lambda d: {**d, "state": [1]}, TypeError, ["state_dict['state']", "[1]"]),
        (lambda d: {**d, "state": {0: 3}}, TypeError, ["state_dict['state']", "3"]),
        (lambda d: {**d, "param_groups": {}}, TypeError, ["param_groups", "{}"]),
        (lambda d: {**d, "param_groups": [3, 4]}, TypeError, ["param_groups", "[3, 4]"]),
        (lambda d: {**d, "param_groups": d["param_groups"][:1]}, ValueError, ["2 groups", "got 1"]),
        (lambda d: with_group(d, 1, params=[1, 2]), ValueError, ["1 params", "got 2"]),
        (lambda d: with_group(d, 1, params=[]), ValueError, ["1 params", "got 0"]),
        (lambda d: with_group(d, 1, params=3), TypeError, ["'params'", "3"]),
        (lambda d: with_group(d, 1, params=["1"]), TypeError, ["'params'", "['1']"]),
        (lambda d: with_group(d, 1, params=[0]), ValueError, ["repeats", "0"]),
        (lambda d: with_group(d, 0, lr=-1.0), ValueError, ["lr", "-1.0"]),
        (lambda d: with_group(d, 0, betas=(0.9, 2)), ValueError, ["betas[1]", "2"]),
        (
            lambda d: {**d, "param_groups": [without(g, "eps") for g in d["param_groups"]]},
            ValueError,
            ["param_groups'][0]", "'eps'"],
        ),
        (lambda d: with_state(d, 2, step=1), ValueError, ["[2]", "none of the 2"]),
        (lambda d: with_state(d, 0, step=-1), ValueError, ["[0]['step']", "-1"]),
        (lambda d: with_state(d, 0, step=1.5), TypeError, ["[0]['step']", "1.5"]),
        (lambda d: with_state(d, 0, step=None), TypeError, ["[0]['step']", "None"]),
        (
            lambda d: with_state(d, 0, exp_avg=np.ones(6)),
            ValueError,
            ["'exp_avg'", "(6,)", "(2, 3)"],
        ),
        (lambda d: with_state(d, 1, exp_avg=np.ones(4, int)), TypeError, ["'exp_avg'", "int64"]),
        (lambda d: with_state(d, 1, exp_avg=[1.0] * 4), TypeError, ["'exp_avg'", "list"]),
        (lambda d: with_state(d, 1, velocity=np.ones(4)), ValueError, ["[1]", "velocity"]),
        (
            lambda d: {**d, "state": {0: without(d["state"][0], "exp_avg_sq")}},
            ValueError,
            ["[0]", "exp_avg_sq"],
        ),
        (lambda d: trained(SGD, momentum=0.5).state_dict(), ValueError, ["betas"]),
    ],
)
def test_bad_state_dicts_change_nothing(change, error, words):
    target = trained(Adam)
    before = copy.deepcopy(pack_state(target.state_dict()))
    good = trained(Adam)
    good.step()
    with pytest.raises(error) as caught:
        target.load_state_dict(change(good.state_dict()))
    assert all(word in str(caught.value) for word in words), caught.value
    after = pack_state(target.state_dict())
    assert after[1] == before[1]
    assert after[0].keys() == before[0].keys()
    for key, array in after[0].items():
        assert_same_bits(array, before[0][key])


def test_a_bad_state_dict_of_sgd():
    good = trained(SGD, momentum=0.5).state_dict()
    target = trained(SGD, momentum=0.5)
    with pytest.raises(ValueError, match=r"\[0\].*momentum_buffer.*exp_avg"):
        target.load_state_dict(with_state(good, 0, exp_avg=np.ones((2, 3))))
    with pytest.raises(ValueError, match=r"momentum_buffer.*\(2, 3\).*\(3, 2\)"):
        target.load_state_dict(with_state(good, 0, momentum_buffer=np.ones((3, 2))))


def test_packing_is_undone_by_unpacking():
    state_dict = {
        "state": {
            0: {"step": 3, "exp_avg": np.ones((2, 3)), "max.exp": np.zeros(())},
            4: {"momentum_buffer": np.zeros(0, np.float32)},
            10: {"flag": True, "none": None, "text": "é", "pair": (1, 2.5)},
        },
        "param_groups": [
            {"lr": 0.1, "betas": (0.9, 0.999), "nested": ((1,), ()), "params": [0, 4]},
            {"lr": np.float32(0.25), "foreach": None, "name": "head", "params": [10]},
        ],
    }
    arrays, meta = pack_state(state_dict)
    assert set(arrays) == {"0.exp_avg", "0.max.exp", "4.momentum_buffer"}
    assert arrays["0.exp_avg"] is state_dict["state"][0]["exp_avg"]
    for way in (meta, json.loads(json.dumps(meta))):
        again = unpack_state(arrays, way)
        assert again["param_groups"] == state_dict["param_groups"]
        assert list(again["state"]) == [0, 4, 10]
        for index, entry in state_dict["state"].items():
            assert again["state"][index].keys() == entry.keys()
            for name, value in entry.items():
                if isinstance(value, np.ndarray):
                    assert again["state"][index][name] is value
                else:
                    assert again["state"][index][name] == value
    assert isinstance(again["param_groups"][0]["betas"], tuple)
    assert isinstance(again["param_groups"][0]["params"], list)


@pytest.mark.parametrize(
    ("state_dict", "error", "words"),
    [
        ({}, ValueError, ["state_dict", "{}"]),
        ({"state": {}, "param_groups": [{"lr": 1}]}, TypeError, ["params", "None"]),
        (
            {"state": {0: {"hook": print}}, "param_groups": []},
            TypeError,
            ["state[0]['hook']", "builtin"],
        ),
        (
            {"state": {}, "param_groups": [{"params": [], "f": (1, [2])}]},
            TypeError,
            ["param_groups[0]['f'][1]", "list"],
        ),
    ],
)
def test_bad_things_to_pack(state_dict, error, words):
    with pytest.raises(error) as caught:
        pack_state(state_dict)
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize(
    ("arrays", "meta", "error", "words"),
    [
        ({}, {}, ValueError, ["meta", "{}"]),
        ({}, None, ValueError, ["meta", "None"]),
        ({}, {"state": {"x": {}}, "param_groups": []}, ValueError, ["meta['state']", "'x'"]),
        ({}, {"state": {"-1": {}}, "param_groups": []}, ValueError, ["meta['state']", "'-1'"]),
        ({"0.a": 1}, {"state": {}, "param_groups": []}, ValueError, ["arrays['0.a']", "index"]),
        ({"0": 1}, {"state": {"0": {}}, "param_groups": []}, ValueError, ["arrays['0']", "dot"]),
        ({"a.b": 1}, {"state": {"0": {}}, "param_groups": []}, ValueError, ["arrays['a.b']"]),
    ],
)
def test_bad_things_to_unpack(arrays, meta, error, words):
    with pytest.raises(error) as caught:
        unpack_state(arrays, meta)
    assert all(word in str(caught.value) for word in words), caught.value


# --- schedulers ----------------------------------------------------------------------------------


def two_groups(kind=SGD, **options):
    params = [parameter(np.zeros(1)), parameter(np.zeros(1))]
    return kind([{"params": params[0]}, {"params": params[1], "lr": 0.5}], lr=2.0, **options)


def rates(scheduler, n_steps):
    """The rates of group 0 (and of group 1) at the beginning and after each step."""
    result = [[group["lr"] for group in scheduler.optimizer.param_groups]]
    for _ in range(n_steps):
        scheduler.optimizer.step()
        scheduler.step()
        assert scheduler.get_last_lr() == [g["lr"] for g in scheduler.optimizer.param_groups]
        result.append(scheduler.get_last_lr())
    return np.array(result)


def test_step_lr():
    epochs = np.arange(14)
    result = rates(StepLR(two_groups(), step_size=4, gamma=0.3), 13)
    assert_allclose(result, np.outer(0.3 ** (epochs // 4), [2.0, 0.5]), rtol=1e-14)


def test_multi_step_lr():
    result = rates(MultiStepLR(two_groups(), milestones=[6, 2, 6, 0], gamma=0.5), 8)
    expected = [1, 1, 0.5, 0.5, 0.5, 0.5, 0.125, 0.125, 0.125]
    assert_array_equal(result, np.outer(expected, [1.0, 0.25]))


def test_cosine_annealing_lr():
    epochs = np.arange(31)
    result = rates(CosineAnnealingLR(two_groups(), T_max=10, eta_min=0.1), 30)
    wave = (1 + np.cos(np.pi * epochs / 10)) / 2
    assert_allclose(result, 0.1 + np.outer(wave, [1.9, 0.4]), rtol=1e-9)
    assert_allclose(result[10], 0.1, rtol=1e-15)


def test_lambda_lr():
    both = rates(LambdaLR(two_groups(), lambda epoch: 1 / (1 + epoch)), 5)
    assert_allclose(both, np.outer(1 / np.arange(1.0, 7), [2.0, 0.5]))
    each = rates(LambdaLR(two_groups(), [lambda epoch: 0.5**epoch, lambda epoch: 3.0]), 3)
    assert_array_equal(each, [[2.0, 1.5], [1.0, 1.5], [0.5, 1.5], [0.25, 1.5]])


@pytest.mark.parametrize("kind", [SGD, Adam])
def test_one_cycle_lr_linear(kind):
    """11 batches, the peak at batch 4: straight lines through the corners."""
    optimizer = two_groups(kind)
    scheduler = OneCycleLR(
        optimizer,
        [1.0, 4.0],
        total_steps=11,
        pct_start=5 / 11,
        anneal_strategy="linear",
        div_factor=10,
        final_div_factor=100,
        base_momentum=0.5,
        max_momentum=0.9,
    )

    def momentum(group):
        return group["momentum"] if kind is SGD else group["betas"][0]

    lrs, momenta = [], []
    for step in range(11):
        lrs.append(scheduler.get_last_lr())
        momenta.append([momentum(group) for group in optimizer.param_groups])
        if step < 10:
            optimizer.step()
            scheduler.step()
    corners = np.interp(np.arange(11), [0, 4, 10], [0.1, 1.0, 0.001])
    assert_allclose(lrs, np.outer(corners, [1.0, 4.0]), rtol=1e-12)
    corners = np.interp(np.arange(11), [0, 4, 10], [0.9, 0.5, 0.9])
    assert_allclose(momenta, np.outer(corners, [1.0, 1.0]), rtol=1e-12)
    if kind is Adam:
        assert optimizer.param_groups[0]["betas"][1] == 0.999


def test_one_cycle_lr_cosine_in_three_phases():
    optimizer = two_groups(momentum=0.5)
    scheduler = OneCycleLR(
        optimizer, 1.0, epochs=4, steps_per_epoch=5, pct_start=0.25, three_phase=True
    )
    assert scheduler.total_steps == 20
    result = rates(scheduler, 19)[:, 0]

    def half_wave(start, end, n):
        return end + (start - end) * (1 + np.cos(np.pi * np.arange(n + 1) / n)) / 2

    climb, fall = half_wave(0.04, 1.0, 4), half_wave(1.0, 0.04, 4)
    end = half_wave(0.04, 4e-6, 11)
    assert_allclose(result, [*climb, *fall[1:], *end[1:]], rtol=1e-12)
    assert optimizer.param_groups[0]["momentum"] == 0.95


@pytest.mark.parametrize("pct_start", [0, 0.05, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("three_phase", [False, True])
@pytest.mark.parametrize("total_steps", [1, 2, 10, 20])
def test_one_cycle_lr_has_no_gaps(total_steps, pct_start, three_phase):
    scheduler = OneCycleLR(
        two_groups(), 1.0, total_steps=total_steps, pct_start=pct_start, three_phase=three_phase
    )
    result = rates(scheduler, total_steps - 1)
    assert (result > 0).all()
    assert result.max() <= 1.0 + 1e-12
    if pct_start <= 0.5 or not three_phase:
        last = 1.0 if pct_start == 1 else 4e-6
        assert_allclose(result[-1], last, rtol=1e-9)


def test_one_cycle_lr_ends():
    optimizer = two_groups()
    scheduler = OneCycleLR(optimizer, 1.0, total_steps=3)
    for _ in range(3):
        scheduler.step()
    before = copy.deepcopy(scheduler.state_dict())
    momentum = optimizer.param_groups[0]["momentum"]
    for _ in range(2):
        with pytest.raises(ValueError, match=r"total_steps = 3 .*got call 4"):
            scheduler.step()
    assert scheduler.state_dict() == before
    assert optimizer.param_groups[0]["momentum"] == momentum


def test_one_cycle_lr_leaves_the_momentum_alone_if_told():
    optimizer = two_groups(momentum=0.3)
    rates(OneCycleLR(optimizer, 1.0, total_steps=9, cycle_momentum=False), 5)
    assert [group["momentum"] for group in optimizer.param_groups] == [0.3, 0.3]
    assert "max_momentum" not in optimizer.param_groups[0]


def test_schedulers_are_chained_and_rates_may_be_changed_by_hand():
    optimizer = two_groups()
    first, second = StepLR(optimizer, 2, gamma=0.5), MultiStepLR(optimizer, [3], gamma=0.1)
    result = []
    for epoch in range(5):
        result.append(optimizer.param_groups[0]["lr"])
        if epoch == 3:
            optimizer.param_groups[0]["lr"] = 100.0
        first.step()
        second.step()
    assert_allclose(result, [2.0, 2.0, 1.0, 0.1, 50.0])


def test_own_schedulers():
    class Doubling(LRScheduler):
        def get_lr(self):
            return [base * 2**self.last_epoch for base in self.base_lrs]

    source, target = Doubling(two_groups()), Doubling(two_groups())
    assert_array_equal(rates(source, 3)[:, 0], [2.0, 4.0, 8.0, 16.0])
    source.notes, target.notes = ["kept"], []
    state = source.state_dict()
    target.load_state_dict(state)
    state["notes"].append("not kept")
    assert target.notes == source.notes == ["kept"]
    with pytest.raises(NotImplementedError):
        LRScheduler(two_groups())

    class Short(LRScheduler):
        def get_lr(self):
            return [0.1]

    with pytest.raises(ValueError, match=r"get_lr must return 2 rates.*\[0\.1\]"):
        Short(two_groups())


def test_a_failing_schedule_stays_where_it_is():
    def factor(epoch):
        if epoch == 2 and failing:
            raise RuntimeError("not now")
        return 0.5**epoch

    scheduler = LambdaLR(two_groups(), factor)
    scheduler.step()
    failing = True
    with pytest.raises(RuntimeError, match="not now"):
        scheduler.step()
    assert scheduler.last_epoch == 1
    assert scheduler.get_last_lr() == [1.0, 0.25]
    failing = False
    scheduler.step()
    assert scheduler.get_last_lr() == [0.5, 0.125]


SCHEDULES = [
    ("StepLR", {"step_size": 3, "gamma": 0.5}),
    ("StepLR", {"step_size": 1}),
    ("MultiStepLR", {"milestones": [2, 5, 5, 11], "gamma": 0.3}),
    ("CosineAnnealingLR", {"T_max": 7}),
    ("CosineAnnealingLR", {"T_max": 1, "eta_min": 0.01}),
    ("CosineAnnealingLR", {"T_max": 10, "eta_min": 0.1}),
    ("LambdaLR", {"lr_lambda": lambda epoch: 0.9**epoch}),
    ("LambdaLR", {"lr_lambda": [lambda epoch: 0.9**epoch, lambda epoch: epoch]}),
    *(
        ("OneCycleLR", {"max_lr": [0.3, 0.7], **options})
        for options in [
            *product_of(
                total_steps=[24],
                pct_start=[0.3, 0.53],
                anneal_strategy=["cos", "linear"],
                three_phase=[False, True],
                cycle_momentum=[False, True],
            ),
            {"epochs": 5, "steps_per_epoch": 5, "div_factor": 4, "final_div_factor": 9},
            {"total_steps": 24, "base_momentum": [0.5, 0.6], "max_momentum": [0.7, 0.9]},
        ]
    ),
]


@pytest.mark.parametrize("kind", [SGD, Adam])
@pytest.mark.parametrize(("name", "options"), SCHEDULES)
def test_schedules_against_torch(kind, name, options):
    torch = pytest.importorskip("torch")
    ours = two_groups(kind, **({"momentum": 0.6} if kind is SGD else {}))
    params = [torch.zeros(1, requires_grad=True) for _ in range(2)]
    theirs = getattr(torch.optim, kind.__name__)(
        [{"params": params[0]}, {"params": params[1], "lr": 0.5}],
        lr=2.0,
        **({"momentum": 0.6} if kind is SGD else {}),
    )
    our_scheduler = getattr(lr_scheduler, name)(ours, **options)
    their_scheduler = getattr(torch.optim.lr_scheduler, name)(theirs, **options)
    for epoch in range(25):
        for our_group, their_group in zip(ours.param_groups, theirs.param_groups, strict=True):
            common = our_group.keys() & their_group.keys() - {"params"}
            assert {"lr", "initial_lr"} <= common
            for key in common:
                assert_allclose(our_group[key], their_group[key], rtol=1e-12, err_msg=key)
        assert_allclose(our_scheduler.get_last_lr(), their_scheduler.get_last_lr(), rtol=1e-12)
        assert our_scheduler.last_epoch == their_scheduler.last_epoch == epoch
        if epoch < 24:
            ours.step()
            theirs.step()
            our_scheduler.step()
            their_scheduler.step()


@pytest.mark.parametrize("last_epoch", [0, 4, 5])
@pytest.mark.parametrize(("name", "options"), SCHEDULES)
def test_a_later_start_against_torch(name, options, last_epoch):
    torch = pytest.importorskip("torch")
    extra = {
        "initial_lr": 0.25,
        "max_lr": 1.0,
        "min_lr": 0.01,
        "max_momentum": 0.9,
        "base_momentum": 0.8,
    }
    groups = [{"params": [parameter(np.zeros(1))], **extra} for _ in range(2)]
    ours = SGD(groups, lr=2.0, momentum=0.6)
    groups = [{"params": [torch.zeros(1, requires_grad=True)], **extra} for _ in range(2)]
    theirs = torch.optim.SGD(groups, lr=2.0, momentum=0.6)
    our_scheduler = getattr(lr_scheduler, name)(ours, **options, last_epoch=last_epoch)
    their_scheduler = getattr(torch.optim.lr_scheduler, name)(
        theirs, **options, last_epoch=last_epoch
    )
    for _ in range(12):
        assert_allclose(our_scheduler.get_last_lr(), their_scheduler.get_last_lr(), rtol=1e-12)
        assert our_scheduler.last_epoch == their_scheduler.last_epoch
        theirs.step()
        our_scheduler.step()
        their_scheduler.step()


def test_scheduler_arguments_are_torchs():
    torch = pytest.importorskip("torch")
    import inspect

    for name in lr_scheduler.__all__:
        ours = inspect.signature(getattr(lr_scheduler, name)).parameters
        theirs = inspect.signature(getattr(torch.optim.lr_scheduler, name)).parameters
        assert [(p.name, p.default) for p in ours.values()] == [
            (p.name, p.default) for p in theirs.values()
        ]


@pytest.mark.parametrize(("name", "options"), SCHEDULES)
def test_resumed_schedules(name, options):
    def make(optimizer):
        return getattr(lr_scheduler, name)(optimizer, **options)

    uninterrupted = rates(make(two_groups()), 20)
    optimizer = two_groups()
    first = make(optimizer)
    beginning = rates(first, 8)
    text = json.dumps(first.state_dict())
    second = make(other := two_groups())
    second.load_state_dict(json.loads(text))
    other.load_state_dict(optimizer.state_dict())
    assert second.state_dict() == first.state_dict()
    assert_array_equal(np.vstack([beginning[:-1], rates(second, 12)]), uninterrupted)


def test_loading_takes_the_options_too():
    source = StepLR(two_groups(), 7, gamma=0.25)
    target = StepLR(two_groups(), 3)
    state = source.state_dict()
    target.load_state_dict(state)
    assert (target.step_size, target.gamma) == (7, 0.25)
    state["base_lrs"][0] = 99.0
    assert target.base_lrs == [2.0, 0.5]
    assert source.base_lrs == [2.0, 0.5]
    assert "lr_lambdas" not in LambdaLR(two_groups(), lambda epoch: 1.0).state_dict()


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda s: None, ValueError, ["state_dict", "None"]),
        (lambda s: {}, ValueError, ["state_dict", "milestones"]),
        (lambda s: {**s, "more": 1}, ValueError, ["state_dict", "more"]),
        (lambda s: without(s, "last_epoch"), ValueError, ["state_dict", "last_epoch"]),
        (lambda s: StepLR(two_groups(), 3).state_dict(), ValueError, ["step_size", "milestones"]),
        (lambda s: {**s, "last_epoch": -1}, ValueError, ["last_epoch", "-1"]),
        (lambda s: {**s, "last_epoch": 1.5}, TypeError, ["last_epoch", "1.5"]),
        (lambda s: {**s, "gamma": "x"}, TypeError, ["gamma", "'x'"]),
        (lambda s: {**s, "milestones": ["x"]}, TypeError, ["milestones", "'x'"]),
        (lambda s: {**s, "milestones": 3}, TypeError, ["milestones", "3"]),
        (lambda s: {**s, "base_lrs": [1.0]}, ValueError, ["base_lrs", "2 rates", "[1.0]"]),
        (lambda s: {**s, "base_lrs": [1.0, None]}, TypeError, ["base_lrs[1]", "None"]),
        (lambda s: {**s, "_last_lr": 1.0}, ValueError, ["_last_lr", "1.0"]),
        (lambda s: {**s, "_last_lr": [1.0, -2.0]}, ValueError, ["_last_lr[1]", "-2.0"]),
    ],
)
def test_bad_scheduler_states_change_nothing(change, error, words):
    scheduler = MultiStepLR(two_groups(), [2, 3])
    before = copy.deepcopy(scheduler.state_dict())
    with pytest.raises(error) as caught:
        scheduler.load_state_dict(change(scheduler.state_dict()))
    assert all(word in str(caught.value) for word in words), caught.value
    assert scheduler.state_dict() == before


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda o: StepLR(o, 0), ValueError, ["step_size", "0"]),
        (lambda o: StepLR(o, 2.5), TypeError, ["step_size", "2.5"]),
        (lambda o: StepLR(o, True), TypeError, ["step_size", "True"]),
        (lambda o: StepLR(o, 2, gamma=-0.1), ValueError, ["gamma", "-0.1"]),
        (lambda o: StepLR(o, 2, gamma="x"), TypeError, ["gamma", "'x'"]),
        (lambda o: StepLR(o, 2, last_epoch=-2), ValueError, ["last_epoch", "-2"]),
        (lambda o: StepLR(o, 2, last_epoch=0.5), TypeError, ["last_epoch", "0.5"]),
        (lambda o: StepLR(o, 2, last_epoch=3), ValueError, ["last_epoch", "initial_lr", "3"]),
        (lambda o: MultiStepLR(o, 3), TypeError, ["milestones", "3"]),
        (lambda o: MultiStepLR(o, "12"), TypeError, ["milestones", "'12'"]),
        (lambda o: MultiStepLR(o, [1, -3]), ValueError, ["milestones", "-3"]),
        (lambda o: MultiStepLR(o, [1.5]), TypeError, ["milestones", "1.5"]),
        (lambda o: MultiStepLR(o, [1], float("nan")), ValueError, ["gamma", "nan"]),
        (lambda o: CosineAnnealingLR(o, 0), ValueError, ["T_max", "0"]),
        (lambda o: CosineAnnealingLR(o, 1.5), TypeError, ["T_max", "1.5"]),
        (lambda o: CosineAnnealingLR(o, 5, eta_min=-1), ValueError, ["eta_min", "-1"]),
        (lambda o: LambdaLR(o, 0.5), TypeError, ["lr_lambda", "0.5"]),
        (lambda o: LambdaLR(o, [abs]), ValueError, ["lr_lambda", "2 items"]),
        (lambda o: LambdaLR(o, [abs, None]), TypeError, ["lr_lambda", "None"]),
        (lambda o: OneCycleLR(o, 1.0), ValueError, ["total_steps", "epochs None"]),
        (lambda o: OneCycleLR(o, 1.0, epochs=3), ValueError, ["steps_per_epoch None"]),
        (lambda o: OneCycleLR(o, 1.0, 0), ValueError, ["total_steps", "0"]),
        (lambda o: OneCycleLR(o, 1.0, 2.5), TypeError, ["total_steps", "2.5"]),
        (
            lambda o: OneCycleLR(o, 1.0, epochs=0, steps_per_epoch=3),
            ValueError,
            ["epochs", "0"],
        ),
        (
            lambda o: OneCycleLR(o, 1.0, epochs=3, steps_per_epoch="x"),
            TypeError,
            ["steps_per_epoch", "'x'"],
        ),
        (lambda o: OneCycleLR(o, -1.0, 9), ValueError, ["max_lr[0]", "-1.0"]),
        (lambda o: OneCycleLR(o, [1.0], 9), ValueError, ["max_lr", "2 items", "[1.0]"]),
        (lambda o: OneCycleLR(o, [1.0, "x"], 9), TypeError, ["max_lr[1]", "'x'"]),
        (lambda o: OneCycleLR(o, 1.0, 9, pct_start=1.1), ValueError, ["pct_start", "1.1"]),
        (lambda o: OneCycleLR(o, 1.0, 9, pct_start=-0.1), ValueError, ["pct_start", "-0.1"]),
        (lambda o: OneCycleLR(o, 1.0, 9, anneal_strategy="sin"), ValueError, ["'sin'", "'cos'"]),
        (lambda o: OneCycleLR(o, 1.0, 9, three_phase=1), TypeError, ["three_phase", "1"]),
        (lambda o: OneCycleLR(o, 1.0, 9, cycle_momentum=1), TypeError, ["cycle_momentum", "1"]),
        (lambda o: OneCycleLR(o, 1.0, 9, base_momentum=1), ValueError, ["base_momentum[0]", "1"]),
        (lambda o: OneCycleLR(o, 1.0, 9, max_momentum=-1), ValueError, ["max_momentum[0]", "-1"]),
        (lambda o: OneCycleLR(o, 1.0, 9, div_factor=0), ValueError, ["div_factor", "0"]),
        (lambda o: OneCycleLR(o, 1.0, 9, final_div_factor=-2), ValueError, ["final_div_", "-2"]),
        (lambda o: OneCycleLR(o, 1.0, 9, last_epoch=2), ValueError, ["last_epoch", "max_lr"]),
    ],
)
def test_bad_schedules_change_nothing(make, error, words):
    optimizer = two_groups(momentum=0.5)
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(error) as caught:
        make(optimizer)
    assert all(word in str(caught.value) for word in words), caught.value
    assert optimizer.state_dict() == before


@pytest.mark.parametrize("kind", [StepLR, LambdaLR, OneCycleLR, CosineAnnealingLR, MultiStepLR])
@pytest.mark.parametrize("bad", [None, ONE, SGD, {"param_groups": []}])
def test_schedules_of_other_things(kind, bad):
    with pytest.raises(TypeError, match="optimizer must be an Optimizer") as caught:
        kind(bad, [1])
    assert type(bad).__name__ in str(caught.value)


def test_cycling_a_momentum_that_is_not_there():
    class Plain(Optimizer):
        pass

    optimizer = Plain([parameter(np.zeros(1))], {"lr": 1.0})
    with pytest.raises(ValueError, match=r"cycle_momentum.*Plain"):
        OneCycleLR(optimizer, 1.0, 10)
    OneCycleLR(optimizer, 1.0, 10, cycle_momentum=False)
    assert_allclose(optimizer.param_groups[0]["lr"], 0.04)


# --- clipping ------------------------------------------------------------------------------------


def clipped_parameters(rng, dtype=np.float64):
    parameters = [parameter(array) for array in example_arrays(rng, dtype)]
    for p in parameters:
        p.grad = np.asarray(rng.standard_normal(p.shape), dtype)
    parameters[0].grad = channels_last(parameters[0].grad)
    return [*parameters, parameter(np.zeros(3))]


def all_gradients(parameters):
    return np.concatenate([p.grad.ravel() for p in parameters if p.grad is not None])


@pytest.mark.parametrize("norm_type", [1, 2, 2.0, 3.5, 0.5, float("inf")])
@pytest.mark.parametrize("max_norm", [0, 0.5, 1e9])
@pytest.mark.parametrize("dtype", DTYPES)
def test_clip_grad_norm(rng, dtype, norm_type, max_norm):
    parameters = clipped_parameters(rng, dtype)
    before = all_gradients(parameters).astype(np.float64)
    arrays = [p.grad for p in parameters]
    strides = [None if a is None else a.strides for a in arrays]
    norm = clip_grad_norm_(iter(parameters), max_norm, norm_type)
    assert type(norm) is float
    assert_allclose(norm, np.linalg.norm(before, norm_type), rtol=1e-12)
    assert all(p.grad is array for p, array in zip(parameters, arrays, strict=True))
    assert [None if a is None else a.strides for a in arrays] == strides
    after = all_gradients(parameters)
    assert after.dtype == dtype
    scale = min(max_norm / (np.linalg.norm(before, norm_type) + 1e-6), 1)
    assert_allclose(after, before * scale, rtol=TOLERANCES[dtype])
    if max_norm == 1e9:
        assert_array_equal(after, before)


def test_the_norm_of_large_and_small_float32_gradients():
    p = parameter(np.zeros(2, np.float32), np.array([3e30, 4e30], np.float32))
    assert_allclose(clip_grad_norm_([p], 1.0), 5e30, rtol=1e-6)
    assert_allclose(p.grad, [0.6, 0.8], rtol=1e-6)
    p.grad = np.array([3e-30, 4e-30], np.float32)
    assert_allclose(clip_grad_norm_(p, 1.0), 5e-30, rtol=1e-6)


def test_clipping_without_gradients():
    assert clip_grad_norm_([], 1.0) == 0.0
    assert clip_grad_norm_([parameter(np.ones(2))], 1.0, norm_type=float("inf")) == 0.0
    clip_grad_value_([], 1.0)


@pytest.mark.parametrize("norm_type", [2.0, 1.0, float("inf")])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_norms_that_are_not_finite(bad, norm_type):
    values = np.array([1.0, bad, 3.0])
    parameters = [parameter(np.zeros(3), values.copy()), parameter(np.zeros(1), np.ones(1))]
    parameters.reverse()
    with pytest.raises(RuntimeError, match=r"norm.*finite"):
        clip_grad_norm_(parameters, 1.0, norm_type, error_if_nonfinite=True)
    assert_array_equal(parameters[1].grad, values)
    with np.errstate(invalid="ignore"):
        norm = clip_grad_norm_(parameters, 1.0, norm_type)
    assert math.isnan(norm) if math.isnan(bad) else norm == math.inf
    expected = [np.nan] * 3 if math.isnan(bad) else [0.0, np.nan, 0.0]
    assert_array_equal(parameters[1].grad, expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_clip_grad_value(rng, dtype):
    parameters = clipped_parameters(rng, dtype)
    before = all_gradients(parameters)
    arrays = [p.grad for p in parameters]
    assert clip_grad_value_(iter(parameters), np.float64(0.4)) is None
    assert all(p.grad is array for p, array in zip(parameters, arrays, strict=True))
    after = all_gradients(parameters)
    assert after.dtype == dtype
    assert_array_equal(after, np.minimum(np.maximum(before, dtype(-0.4)), dtype(0.4)))
    p = parameter(np.zeros(3), np.array([np.nan, np.inf, -np.inf]))
    clip_grad_value_(p, 2)
    assert_array_equal(p.grad, [np.nan, 2.0, -2.0])


@pytest.mark.parametrize("norm_type", [1.0, 2.0, 3.0, float("inf")])
@pytest.mark.parametrize("max_norm", [0.5, 1e9])
def test_clipping_against_torch(rng, norm_type, max_norm):
    torch = pytest.importorskip("torch")
    # torch has no largest value of an empty gradient
    parameters = [p for p in clipped_parameters(rng) if p.data.size]
    references = [torch.zeros(p.shape, dtype=torch.float64) for p in parameters]
    for p, reference in zip(parameters, references, strict=True):
        reference.grad = None if p.grad is None else torch.tensor(p.grad)
    ours = clip_grad_norm_(parameters, max_norm, norm_type)
    theirs = torch.nn.utils.clip_grad_norm_(references, max_norm, norm_type)
    assert_allclose(ours, theirs.item(), rtol=1e-12)
    for value in (None, 0.1):
        if value is not None:
            clip_grad_value_(parameters, value)
            torch.nn.utils.clip_grad_value_(references, value)
        for p, reference in zip(parameters, references, strict=True):
            if p.grad is not None:
                assert_allclose(p.grad, reference.grad.numpy(), rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda p: clip_grad_norm_(p, -1.0), ValueError, ["max_norm", "-1.0"]),
        (lambda p: clip_grad_norm_(p, float("nan")), ValueError, ["max_norm", "nan"]),
        (lambda p: clip_grad_norm_(p, "1"), TypeError, ["max_norm", "'1'"]),
        (lambda p: clip_grad_norm_(p, None), TypeError, ["max_norm", "None"]),
        (lambda p: clip_grad_norm_(p, 1.0, 0), ValueError, ["norm_type", "0"]),
        (lambda p: clip_grad_norm_(p, 1.0, -2), ValueError, ["norm_type", "-2"]),
        (lambda p: clip_grad_norm_(p, 1.0, -math.inf), ValueError, ["norm_type", "-inf"]),
        (lambda p: clip_grad_norm_(p, 1.0, "2"), TypeError, ["norm_type", "'2'"]),
        (lambda p: clip_grad_norm_(None, 1.0), TypeError, ["parameters", "NoneType"]),
        (lambda p: clip_grad_norm_([*p, 3], 1.0), TypeError, ["parameters[1]", "int"]),
        (lambda p: clip_grad_norm_(np.ones(2), 1.0), TypeError, ["parameters[0]", "float64"]),
        (lambda p: clip_grad_value_(p, -1), ValueError, ["clip_value", "-1"]),
        (lambda p: clip_grad_value_(p, math.inf), ValueError, ["clip_value", "inf"]),
        (lambda p: clip_grad_value_(p, "x"), TypeError, ["clip_value", "'x'"]),
        (lambda p: clip_grad_value_([*p, None], 1.0), TypeError, ["parameters[1]", "NoneType"]),
    ],
)
def test_bad_clipping_changes_nothing(call, error, words):
    p = parameter(np.zeros(2), np.array([3.0, 4.0]))
    with pytest.raises(error) as caught:
        call([p])
    assert all(word in str(caught.value) for word in words), caught.value
    assert_array_equal(p.grad, [3.0, 4.0])
