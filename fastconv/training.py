"""Training a classifier, with checkpoints from which a run goes on exactly.

The order of the images, their augmentation and every update depend on the options and the
number of the epoch alone, so a resumed run ends with the weights of an uninterrupted one, bit
for bit.
"""

import copy
import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import numpy as np

from fastconv import _checks, io, models, optim
from fastconv.autograd import no_grad
from fastconv.data import Compose, Minibatches, RandomFlip, RandomShift
from fastconv.functional import cross_entropy, softmax
from fastconv.optim.optimizer import pack_state, unpack_state
from fastconv.random import default_generator, manual_seed

__all__ = ["Classifier", "Options", "Trainer", "accuracy"]

# Images evaluated at a time: bounds memory, changes nothing.
EVALUATION_BATCH = 500


@dataclass(frozen=True)
class Options:
    """How to train: SGD with Nesterov momentum on a one-cycle schedule.

    Parameters
    ----------
    epochs, batch_size : int
    lr : float
        The largest learning rate of the cycle.
    momentum, weight_decay, label_smoothing : float
    shift : int
        Images are shifted by up to this many pixels, at random.
    flip : bool
        Whether they are mirrored left to right, at random.
    seed : int
        Of weights, order and augmentation.
    """

    epochs: int = 30
    batch_size: int = 64
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    label_smoothing: float = 0.0
    shift: int = 1
    flip: bool = False
    seed: int = 0

    def __post_init__(self):
        for name in ("epochs", "batch_size"):
            _checks.integer(name, getattr(self, name), minimum=1)
        for name in ("shift", "seed"):
            _checks.integer(name, getattr(self, name), minimum=0)
        for name in ("lr", "momentum", "weight_decay", "label_smoothing"):
            if _checks.real(name, getattr(self, name)) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        _checks.boolean("flip", self.flip)
        if self.lr == 0:
            raise ValueError("lr must be positive, got 0")
        if self.label_smoothing > 1:
            raise ValueError(f"label_smoothing must be at most 1, got {self.label_smoothing}")

    def augmentation(self):
        """The transform of the training images, or None."""
        transforms = []
        if self.shift:
            transforms.append(RandomShift(self.shift))
        if self.flip:
            transforms.append(RandomFlip())
        return Compose(transforms) if transforms else None


@dataclass
class Classifier:
    """A network with what it needs to take images: their form, and the classes' names.

    Parameters
    ----------
    model : Module
        From images (N, C, H, W), normalised, to logits.
    classes : tuple of str
    channels : int
    size : (int, int)
        Height and width of the images it was trained on.
    mean, std : sequence of float
        Per channel, of the pixels.
    """

    model: object
    classes: tuple
    channels: int
    size: tuple
    mean: tuple
    std: tuple

    def __post_init__(self):
        names = isinstance(self.classes, tuple) and all(isinstance(c, str) for c in self.classes)
        if not names or not self.classes:
            raise ValueError(f"classes must be a tuple of names, got {self.classes!r}")
        self.channels = _checks.integer("channels", self.channels, minimum=1)
        if not isinstance(self.size, tuple) or len(self.size) != 2:
            raise ValueError(f"size must be (height, width), got {self.size!r}")
        self.size = _checks.integers("size", self.size, 2, minimum=1)
        expected = self.model.architecture["arguments"]
        for name, value in (("in_channels", self.channels), ("num_classes", len(self.classes))):
            if expected[name] != value:
                raise ValueError(
                    f"the network has {name}={expected[name]}, but the description has {value} "
                    f"{'channels' if name == 'in_channels' else 'classes'}"
                )
        for name in ("mean", "std"):
            values = getattr(self, name)
            if not isinstance(values, tuple) or len(values) != self.channels:
                raise ValueError(
                    f"{name} must be a tuple of {self.channels} numbers, one for each channel, "
                    f"got {values!r}"
                )
            if any(_checks.real(name, v) <= 0 for v in values if name == "std"):
                raise ValueError(f"std must be positive, got {values}")

    @classmethod
    def for_dataset(cls, dataset, architecture, arguments):
        """A new network for the images and classes of a dataset."""
        pixels = dataset.x
        axes = (0, 2, 3)
        channels = pixels.shape[1]
        model = models.build(
            architecture,
            {"in_channels": channels, "num_classes": len(dataset.classes), **arguments},
        )
        mean = pixels.mean(axis=axes, dtype=np.float64)
        std = pixels.std(axis=axes, dtype=np.float64)
        return cls(
            model,
            tuple(dataset.classes),
            channels,
            tuple(pixels.shape[2:]),
            tuple(mean.tolist()),
            tuple(np.where(std > 0, std, 1.0).tolist()),
        )

    def normalised(self, pixels):
        """float32 images of mean 0 and deviation 1 over the training set."""
        mean = np.asarray(self.mean, np.float32).reshape(-1, 1, 1)
        scale = 1 / np.asarray(self.std, np.float32).reshape(-1, 1, 1)
        return ((pixels - mean) * scale).astype(np.float32, copy=False)

    def probabilities(self, pixels):
        """Class probabilities (N, classes) of images (N, C, H, W), in evaluation mode.

        Raises
        ------
        ValueError
            If the images have other channels than the network.
        """
        pixels = _checks.as_array("images", pixels)
        if pixels.ndim != 4 or pixels.shape[1] != self.channels:
            raise ValueError(
                f"images must have shape (N, {self.channels}, H, W), got {pixels.shape}"
            )
        training = self.model.training
        self.model.eval()
        try:
            with no_grad():
                parts = [
                    softmax(self.model(self.normalised(part)).data, 1)
                    for part in np.split(
                        pixels, range(EVALUATION_BATCH, len(pixels), EVALUATION_BATCH)
                    )
                ]
        finally:
            self.model.train(training)
        return np.concatenate(parts)

    def save(self, path):
        """Write network and description to an ``.npz`` or ``.safetensors`` file."""
        description = {name: getattr(self, name) for name in self._described()}
        io.save(self.model, path, metadata={"classifier": description})

    @classmethod
    def load(cls, path):
        """Read what :meth:`save` wrote.

        Raises
        ------
        ValueError
            If the file holds no classifier.
        """
        model = models.load_model(path)
        description = io.load_metadata(path).get("classifier")
        if not isinstance(description, dict) or set(description) != set(cls._described()):
            raise ValueError(f"{path} holds a network without classes and image form")
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in description.items()}
        try:
            return cls(model, **values)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: {error}") from None

    @classmethod
    def _described(cls):
        return [f.name for f in fields(cls) if f.name != "model"]


def accuracy(classifier, dataset):
    """Share of a dataset's images whose most probable class is theirs."""
    guesses = classifier.probabilities(dataset.x).argmax(axis=1)
    return float((guesses == dataset.y).mean())


@dataclass
class Trainer:
    """Trains a classifier epoch by epoch.

    Parameters
    ----------
    classifier : Classifier
    train, test : Dataset
    options : Options
    history : dict
        Lists over the epochs done: "loss", "train_accuracy", "test_accuracy".
    """

    classifier: Classifier
    train: object
    test: object
    options: Options
    history: dict = field(
        default_factory=lambda: {"loss": [], "train_accuracy": [], "test_accuracy": []}
    )

    @classmethod
    def start(cls, train, test, options, architecture, arguments):
        """A trainer of a new network, seeded by the options."""
        manual_seed(options.seed)
        return cls(Classifier.for_dataset(train, architecture, arguments), train, test, options)

    def __post_init__(self):
        options = self.options
        self.batches = Minibatches(
            self.train.x,
            self.train.y,
            batch_size=min(options.batch_size, len(self.train)),
            seed=options.seed,
            # a last batch of a single image could not be normalised
            drop_last=len(self.train) % options.batch_size == 1,
            transform=options.augmentation(),
        )
        self.optimizer = optim.SGD(
            self.classifier.model.parameters(),
            lr=options.lr,
            momentum=options.momentum,
            weight_decay=options.weight_decay,
            nesterov=options.momentum > 0,
        )
        self.scheduler = optim.lr_scheduler.OneCycleLR(
            self.optimizer,
            max_lr=options.lr,
            total_steps=options.epochs * len(self.batches),
            pct_start=0.2,
            cycle_momentum=False,
        )

    @property
    def epoch(self):
        """Number of epochs done."""
        return len(self.history["loss"])

    def run_epoch(self, on_step=None):
        """Train one epoch, evaluate, and add to the history.

        `on_step`, if given, is called after every update with the mean loss and the accuracy
        of the epoch so far.
        """
        model = self.classifier.model.train()
        self.batches.set_epoch(self.epoch)
        seen = right = total = 0
        for pixels, labels in self.batches:
            logits = model(self.classifier.normalised(pixels))
            loss = cross_entropy(logits, labels, label_smoothing=self.options.label_smoothing)
            if not math.isfinite(loss.item()):
                raise FloatingPointError(
                    f"the loss became {loss.item()} in epoch {self.epoch + 1}; "
                    f"try a learning rate below {self.options.lr}"
                )
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.scheduler.step()
            seen += len(labels)
            right += int((logits.data.argmax(axis=1) == labels).sum())
            total += loss.item() * len(labels)
            if on_step is not None:
                on_step(total / seen, right / seen)
        tested = accuracy(self.classifier, self.test)
        self.history["loss"].append(total / seen)
        self.history["train_accuracy"].append(right / seen)
        self.history["test_accuracy"].append(tested)

    def save_checkpoint(self, path):
        """Write everything that the rest of the run depends on; never half of it."""
        arrays, optimizer = pack_state(self.optimizer.state_dict())
        state = {f"model.{k}": v for k, v in self.classifier.model.state_dict().items()}
        state |= {f"optimizer.{k}": v for k, v in arrays.items()}
        io.save(
            state,
            path,
            metadata={
                "checkpoint": {
                    "options": asdict(self.options),
                    "architecture": self.classifier.model.architecture,
                    "optimizer": optimizer,
                    "scheduler": self.scheduler.state_dict(),
                    "generator": default_generator().bit_generator.state,
                    "history": self.history,
                }
            },
        )

    def load_checkpoint(self, path):
        """Go on from a checkpoint of a run with the same data, options and architecture.

        Raises
        ------
        ValueError
            If the file is no checkpoint, or of another run; nothing has then changed.
        """
        saved = io.load_metadata(path).get("checkpoint")
        if not isinstance(saved, dict):
            raise ValueError(f"{path} is not a checkpoint of a training run")
        own = {"options": asdict(self.options), "architecture": self.classifier.model.architecture}
        for part, values in own.items():
            if _plain(saved.get(part)) != _plain(values):
                raise ValueError(
                    f"{path} is a checkpoint of another run: its {part} are "
                    f"{saved.get(part)}, this run's {values}"
                )
        arrays = io.load(path)
        model, optimizer = (
            {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
            for prefix in ("model.", "optimizer.")
        )
        # Everything goes into a second trainer first, which leaves this one as it is if a part
        # is missing or does not fit.
        other = Trainer(copy.deepcopy(self.classifier), self.train, self.test, self.options)
        generator = np.random.default_rng()
        try:
            other.classifier.model.load_state_dict(model)
            other.optimizer.load_state_dict(unpack_state(optimizer, saved["optimizer"]))
            other.scheduler.load_state_dict(saved["scheduler"])
            generator.bit_generator.state = saved["generator"]
            history = {name: list(saved["history"][name]) for name in self.history}
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is a damaged checkpoint: {error!r}") from None
        self.classifier.model.load_state_dict(model)
        self.optimizer.load_state_dict(other.optimizer.state_dict())
        self.scheduler.load_state_dict(saved["scheduler"])
        default_generator().bit_generator.state = generator.bit_generator.state
        self.history = history


def _plain(value):
    """As JSON gives it back: tuples are lists."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def checkpoint_path(output):
    """Where the checkpoint of a model file is kept."""
    output = Path(output)
    return output.with_name(output.stem + ".checkpoint.npz")
