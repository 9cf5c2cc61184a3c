"""Training a classifier: it learns; a resumed run ends as an uninterrupted one, bit for bit."""

import copy
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import fastconv
from fastconv.data import Dataset
from fastconv.training import Classifier, Options, Trainer, accuracy, checkpoint_path

ARCHITECTURE = ("resnet", {"widths": (6, 8), "blocks": 1})
OPTIONS = Options(epochs=3, batch_size=32, lr=0.2, label_smoothing=0.05, flip=True, seed=4)
CLASSES = ("bar", "column", "cross")


def bars(count, seed, channels=1, size=(12, 11)):
    """Noisy images of a horizontal bar, a vertical one, or both."""
    rng = np.random.default_rng(seed)
    height, width = size
    x = rng.integers(0, 100, (count, channels, *size)).astype(np.uint8)
    y = rng.integers(0, 3, count)
    for image, label in zip(x, y, strict=True):
        if label != 1:
            image[:, rng.integers(2, height - 2), 1 : width - 1] = 220
        if label != 0:
            image[:, 1 : height - 1, rng.integers(2, width - 2)] = 220
    return Dataset(x, y, CLASSES)


def trainer(options=OPTIONS, architecture=ARCHITECTURE, train=None):
    return Trainer.start(train or bars(150, 1), bars(60, 2), options, *architecture)


def finish(run):
    while run.epoch < run.options.epochs:
        run.run_epoch()
    return run


def assert_same_run(run, other):
    assert run.history == other.history
    state, other_state = (r.classifier.model.state_dict() for r in (run, other))
    assert list(state) == list(other_state)
    for name, array in state.items():
        assert_array_equal(array, other_state[name], err_msg=name)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Nets as small as these gain nothing by threads, and lose much on a busy machine."""
    before = fastconv.get_num_threads()
    fastconv.set_num_threads(1)
    yield
    fastconv.set_num_threads(before)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """A whole run, and its checkpoints before the first and after every epoch."""
    folder = tmp_path_factory.mktemp("checkpoints")
    run = trainer()
    checkpoints = [folder / "0.npz"]
    run.save_checkpoint(checkpoints[0])
    while run.epoch < OPTIONS.epochs:
        run.run_epoch()
        checkpoints.append(folder / f"{run.epoch}.npz")
        run.save_checkpoint(checkpoints[-1])
    return run, checkpoints


def test_it_learns():
    run = finish(trainer(Options(epochs=5, batch_size=25, lr=0.2), train=bars(200, 1)))
    assert run.history["test_accuracy"][-1] > 0.95
    assert run.history["train_accuracy"][-1] > 0.95
    assert run.history["loss"][-1] < run.history["loss"][0] / 3
    unseen = bars(200, 3)
    assert accuracy(run.classifier, unseen) > 0.95
    # Images of another size are classified as well: a convolution does not depend on it.
    assert accuracy(run.classifier, bars(200, 3, size=(15, 17))) > 0.8


def test_two_runs_of_one_seed_are_equal(uninterrupted):
    run, _ = uninterrupted
    fastconv.default_generator().random(17)
    assert_same_run(finish(trainer()), run)


def test_another_seed_gives_another_run(uninterrupted):
    run, _ = uninterrupted
    other = finish(trainer(Options(**{**vars(OPTIONS), "seed": 5})))
    assert other.history != run.history


@pytest.mark.parametrize("epoch", range(OPTIONS.epochs + 1))
def test_resumed_run_equals_the_uninterrupted_one(epoch, uninterrupted):
    run, checkpoints = uninterrupted
    resumed = trainer()
    resumed.load_checkpoint(checkpoints[epoch])
    assert resumed.epoch == epoch
    fastconv_state = fastconv.default_generator().bit_generator.state
    assert_same_run(finish(resumed), run)
    if epoch == OPTIONS.epochs:
        assert fastconv.default_generator().bit_generator.state == fastconv_state


def test_resuming_forgets_what_was_done_since(uninterrupted):
    run, checkpoints = uninterrupted
    resumed = trainer()
    resumed.run_epoch()
    resumed.load_checkpoint(checkpoints[1])
    resumed.run_epoch()
    resumed.load_checkpoint(checkpoints[1])
    assert_same_run(finish(resumed), run)


def test_checkpoint_holds_the_random_generator(tmp_path):
    run = trainer()
    fastconv.default_generator().random(7)
    run.save_checkpoint(tmp_path / "0.npz")
    expected = fastconv.default_generator().random(3)
    trainer().load_checkpoint(tmp_path / "0.npz")
    assert_array_equal(fastconv.default_generator().random(3), expected)


def test_checkpoints_of_equal_runs_are_equal_bytes(uninterrupted, tmp_path):
    _, checkpoints = uninterrupted
    again = trainer()
    again.load_checkpoint(checkpoints[1])
    again.save_checkpoint(tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == checkpoints[1].read_bytes()


SCRIPT = """
import json, sys
sys.path.insert(0, {tests!r})
import fastconv
import test_training
run = test_training.trainer()
run.load_checkpoint({checkpoint!r})
test_training.finish(run)
fastconv.save(run.classifier.model, {output!r})
print(json.dumps([fastconv.get_num_threads(), run.history]))
"""


@pytest.mark.parametrize("threads", [1, 3])
def test_resumed_in_a_fresh_process_with_other_threads(threads, uninterrupted, tmp_path):
    run, checkpoints = uninterrupted
    script = SCRIPT.format(
        tests=os.path.dirname(__file__),
        checkpoint=str(checkpoints[1]),
        output=str(tmp_path / "model.npz"),
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "FASTCONV_NUM_THREADS": str(threads)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [threads, run.history]
    for name, array in fastconv.load(tmp_path / "model.npz").items():
        assert_array_equal(array, run.classifier.model.state_dict()[name], err_msg=name)


# What is refused


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 4},
        {"batch_size": 16},
        {"lr": 0.1},
        {"momentum": 0.5},
        {"weight_decay": 0.0},
        {"label_smoothing": 0.0},
        {"shift": 0},
        {"flip": False},
        {"seed": 1},
    ],
)
def test_checkpoint_of_other_options_is_refused(change, uninterrupted):
    _, checkpoints = uninterrupted
    other = trainer(Options(**{**vars(OPTIONS), **change}))
    before = copy.deepcopy(other.classifier.model.state_dict())
    with pytest.raises(ValueError, match="options") as caught:
        other.load_checkpoint(checkpoints[1])
    ((name, value),) = change.items()
    for word in (str(checkpoints[1]), name, str(value), str(getattr(OPTIONS, name))):
        assert word in str(caught.value)
    assert other.epoch == 0
    for key, array in other.classifier.model.state_dict().items():
        assert_array_equal(array, before[key])


def test_checkpoint_of_another_architecture_is_refused(uninterrupted):
    _, checkpoints = uninterrupted
    for architecture in (
        ("lenet", {"widths": (6, 8)}),
        ("resnet", {"widths": (6, 9), "blocks": 1}),
    ):
        other = trainer(architecture=architecture)
        with pytest.raises(ValueError, match="architecture"):
            other.load_checkpoint(checkpoints[1])
        assert other.epoch == 0


def test_files_that_are_no_checkpoints_are_refused(uninterrupted, tmp_path):
    run, checkpoints = uninterrupted
    other = trainer()
    with pytest.raises(FileNotFoundError, match="absent"):
        other.load_checkpoint(tmp_path / "absent.npz")
    run.classifier.save(tmp_path / "model.npz")
    with pytest.raises(ValueError, match="checkpoint"):
        other.load_checkpoint(tmp_path / "model.npz")
    content = checkpoints[1].read_bytes()
    (tmp_path / "half.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"half\.npz"):
        other.load_checkpoint(tmp_path / "half.npz")
    assert other.epoch == 0


@pytest.mark.parametrize("part", ["optimizer", "scheduler", "generator", "history"])
def test_checkpoint_that_lacks_a_part_is_refused(part, uninterrupted, tmp_path):
    _, checkpoints = uninterrupted
    saved = fastconv.load_metadata(checkpoints[1])
    del saved["checkpoint"][part]
    path = tmp_path / "part.npz"
    fastconv.save(fastconv.load(checkpoints[1]), path, metadata=saved)
    other = trainer()
    before = copy.deepcopy(other.classifier.model.state_dict())
    with pytest.raises(ValueError, match=r"part\.npz"):
        other.load_checkpoint(path)
    assert other.epoch == 0
    for key, array in other.classifier.model.state_dict().items():
        assert_array_equal(array, before[key])


def test_loss_that_is_no_number_stops_the_training():
    train = bars(64, 1)
    x = train.x.astype(np.float32)
    x[5, 0, 3, 4] = np.nan
    run = trainer(train=Dataset(x, train.y, CLASSES))
    with pytest.raises(FloatingPointError, match=r"nan.*epoch 1.*learning rate.*0\.2"):
        run.run_epoch()
    assert run.epoch == 0
    assert run.history == {"loss": [], "train_accuracy": [], "test_accuracy": []}


def test_learning_rate_that_diverges_stops_the_training():
    # without warnings: pytest makes errors of them
    run = trainer(Options(epochs=2, lr=1e30, momentum=0.0))
    with pytest.raises(FloatingPointError, match=r"epoch 1.*learning rate.*1e\+30"):
        finish(run)


@pytest.mark.parametrize(
    ("option", "value", "error"),
    [
        ("epochs", 0, ValueError),
        ("epochs", 1.5, TypeError),
        ("batch_size", 0, ValueError),
        ("batch_size", True, TypeError),
        ("lr", 0, ValueError),
        ("lr", -0.1, ValueError),
        ("lr", float("nan"), ValueError),
        ("lr", "0.1", TypeError),
        ("momentum", -0.1, ValueError),
        ("momentum", float("inf"), ValueError),
        ("weight_decay", -1e-4, ValueError),
        ("label_smoothing", 1.1, ValueError),
        ("shift", -1, ValueError),
        ("shift", 0.5, TypeError),
        ("flip", "no", TypeError),
        ("seed", -1, ValueError),
    ],
)
def test_bad_options_are_named_with_their_values(option, value, error):
    with pytest.raises(error, match=option) as caught:
        Options(**{option: value})
    assert str(value) in str(caught.value)


# Sizes at the edge


@pytest.mark.parametrize("images", [3, 8, 9, 16, 17])
def test_any_number_of_images_can_be_trained_on(images):
    # 9 and 17 would leave a last batch of one image, and its last maps are one pixel: nothing
    # that could be normalised.
    architecture = ("resnet", {"widths": (4, 4, 4, 4), "blocks": 1})
    options = Options(epochs=2, batch_size=8, lr=0.01)
    run = finish(trainer(options, architecture, train=bars(images, 1, size=(5, 5))))
    assert np.isfinite(run.history["loss"]).all()


def test_one_epoch_of_one_step():
    run = finish(trainer(Options(epochs=1, batch_size=64), train=bars(32, 1)))
    assert run.epoch == 1


def test_steps_are_reported():
    run = trainer()
    steps = []
    run.run_epoch(lambda loss, accuracy: steps.append((loss, accuracy)))
    assert len(steps) == len(run.batches) == 5
    assert steps[-1] == (run.history["loss"][0], run.history["train_accuracy"][0])


def test_learning_rate_makes_one_cycle():
    run = trainer(Options(epochs=4, batch_size=50, lr=0.3))
    rates = []
    update = run.optimizer.step
    run.optimizer.step = lambda: (rates.append(run.optimizer.param_groups[0]["lr"]), update())
    finish(run)
    assert len(rates) == 12
    assert max(rates) == pytest.approx(0.3, rel=0.05)
    assert rates.index(max(rates)) < 4
    assert rates[0] < 0.1
    assert rates[-1] < 1e-3


def test_augmentation_follows_the_options():
    assert Options(shift=0).augmentation() is None
    x = np.arange(4 * 25, dtype=np.float32).reshape(4, 1, 5, 5)
    rng = np.random.default_rng(0)
    flipped = Options(shift=0, flip=True).augmentation()(x, rng)
    for image, given in zip(flipped, x, strict=True):
        assert (image == given).all() or (image == given[..., ::-1]).all()
    shifted = Options(shift=1).augmentation()(x, rng)
    assert shifted.shape == x.shape
    assert not (shifted == x).all()


# Classifier


def test_images_are_normalised_by_the_training_set():
    train = bars(50, 1, channels=3)
    train.x[:, 2] = 77  # a channel without variation
    classifier = Classifier.for_dataset(train, *ARCHITECTURE)
    normalised = classifier.normalised(train.x)
    assert normalised.dtype == np.float32
    np.testing.assert_allclose(normalised.mean(axis=(0, 2, 3)), 0, atol=1e-4)
    np.testing.assert_allclose(normalised.std(axis=(0, 2, 3)), [1, 1, 0], atol=1e-4)
    assert (classifier.channels, classifier.size) == (3, (12, 11))
    assert classifier.classes == CLASSES


def test_probabilities_do_not_depend_on_the_company(uninterrupted):
    run, _ = uninterrupted
    classifier, images = run.classifier, bars(70, 5).x
    probabilities = classifier.probabilities(images)
    assert probabilities.shape == (70, 3)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    part = classifier.probabilities(images[10:20])
    np.testing.assert_allclose(part, probabilities[10:20], rtol=1e-4, atol=1e-6)
    assert classifier.probabilities(images[:0]).shape == (0, 3)


def test_probabilities_leave_the_network_as_it_was(uninterrupted):
    run, _ = uninterrupted
    model = run.classifier.model.train()
    before = copy.deepcopy(model.state_dict())
    run.classifier.probabilities(bars(5, 5).x)
    assert all(module.training for module in model.modules())
    for name, array in model.state_dict().items():
        assert_array_equal(array, before[name])


@pytest.mark.parametrize("shape", [(2, 3, 12, 12), (1, 12, 12), (2, 12, 12), (12, 12)])
def test_images_of_another_form_are_refused(shape, uninterrupted):
    run, _ = uninterrupted
    with pytest.raises(ValueError, match="images") as caught:
        run.classifier.probabilities(np.zeros(shape, np.uint8))
    assert str(shape) in str(caught.value)
    assert "(N, 1, H, W)" in str(caught.value)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_saved_classifier_gives_the_same_probabilities(suffix, uninterrupted, tmp_path):
    run, _ = uninterrupted
    path = tmp_path / f"model{suffix}"
    run.classifier.save(path)
    loaded = Classifier.load(path)
    images = bars(40, 5).x
    assert_array_equal(loaded.probabilities(images), run.classifier.probabilities(images))
    for name in ("classes", "channels", "size", "mean", "std"):
        assert getattr(loaded, name) == getattr(run.classifier, name), name
    assert not loaded.model.training
    again = tmp_path / f"again{suffix}"
    loaded.save(again)
    assert again.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_network_that_is_no_classifier_is_refused(suffix, tmp_path):
    path = tmp_path / f"net{suffix}"
    arguments = {"in_channels": 1, "num_classes": 3, **ARCHITECTURE[1]}
    net = fastconv.models.build("resnet", arguments)
    fastconv.save(net, path, metadata={"architecture": net.architecture})
    with pytest.raises(ValueError, match="classes") as caught:
        Classifier.load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("classes", ["a", "b"]),
        ("classes", 3),
        ("channels", "one"),
        ("channels", 3),
        ("size", [12]),
        ("mean", "zero"),
        ("std", [0.0]),
        ("std", [1.0, 1.0]),
    ],
)
def test_description_that_does_not_fit_the_network_is_refused(name, value, tmp_path):
    path = tmp_path / "model.npz"
    classifier = Classifier.for_dataset(bars(20, 1), *ARCHITECTURE)
    description = {
        key: getattr(classifier, key) for key in ("classes", "channels", "size", "mean", "std")
    }
    fastconv.save(
        classifier.model,
        path,
        metadata={
            "architecture": classifier.model.architecture,
            "classifier": description | {name: value},
        },
    )
    with pytest.raises(ValueError, match=name) as caught:
        Classifier.load(path)
    assert str(path) in str(caught.value)


def test_checkpoints_stand_beside_their_model():
    assert checkpoint_path("some/model.safetensors").as_posix() == "some/model.checkpoint.npz"
