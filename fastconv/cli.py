"""The ``fastconv`` command: train, predict, export, bench, info."""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

from fastconv import _checks, _plot, data, io, models, onnx
from fastconv._config import show_config
from fastconv._threads import set_num_threads
from fastconv.bench import command as bench
from fastconv.cexport import export_c
from fastconv.training import Classifier, Options, Trainer, checkpoint_path

__all__ = ["main"]


def main(argv=None):
    """Run the command line; return its exit status."""
    arguments = _parser().parse_args(argv)
    try:
        return arguments.run(arguments) or 0
    except (ValueError, TypeError, OSError, ImportError, FloatingPointError) as error:
        print("fastconv:", " ".join(str(error).split()), file=sys.stderr)
        return 2


def _parser():
    parser = argparse.ArgumentParser(
        prog="fastconv", description="Convolutional networks on the CPU."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_train(commands)
    _add_predict(commands)
    _add_export(commands)
    bench.add_to(commands)
    info = commands.add_parser("info", help="print what was built and detected")
    info.set_defaults(run=lambda arguments: show_config())
    return parser


def _add_train(commands):
    default = Options()
    train = commands.add_parser(
        "train",
        help="train a classifier of images",
        description="Train a classifier of images, save it, and draw its learning curves. "
        "A checkpoint is written after every epoch; Ctrl-C keeps the last one.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    train.set_defaults(run=_train)
    add = train.add_argument
    add(
        "data",
        nargs="?",
        default="digits",
        help="'digits' (scikit-learn's), a folder of MNIST-style IDX files, an .npz file, or a "
        "folder with a sub-folder of images for each class",
    )
    add("-o", "--output", default="model.npz", type=Path, help=".npz or .safetensors")
    add("--plot", type=Path, help="a PNG of the learning curves")
    add("--resume", action="store_true", help="go on from the checkpoint beside --output")
    add("--model", choices=sorted(models.ARCHITECTURES), default="resnet")
    add("--widths", type=_ints, default=None, help="channels of the stages, as 16,32,64")
    add("--blocks", type=int, default=None, help="residual blocks of each stage")
    add("--stem-stride", type=int, default=None, help="stride of the first convolution")
    add("--holdout", type=float, default=0.2, help="share of the images held out for testing")
    add("--size", type=_ints, default=None, help="resize images of a folder to HEIGHT,WIDTH")
    add("--epochs", type=int, default=default.epochs)
    add("--batch-size", type=int, default=default.batch_size)
    add("--lr", type=float, default=default.lr, help="largest learning rate of the cycle")
    add("--momentum", type=float, default=default.momentum)
    add("--weight-decay", type=float, default=default.weight_decay)
    add("--label-smoothing", type=float, default=default.label_smoothing)
    add("--shift", type=int, default=default.shift, help="augmentation: pixels of random shift")
    add("--flip", action="store_true", help="augmentation: random mirror images")
    add("--seed", type=int, default=default.seed)
    add("--threads", type=int, default=None, help="default: the CPUs that may be used")


def _ints(text):
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of integers") from None


def _add_predict(commands):
    predict = commands.add_parser("predict", help="classify images with a trained model")
    predict.set_defaults(run=_predict)
    predict.add_argument("model", type=Path, help="a file that 'fastconv train' wrote")
    predict.add_argument(
        "input", nargs="+", help="image files, or anything that 'fastconv train' reads"
    )
    predict.add_argument("--top", type=int, default=3, help="classes shown for an image")
    predict.add_argument("--limit", type=int, default=None, help="images shown of each input")
    predict.add_argument("--threads", type=int, default=None)


def _add_export(commands):
    export = commands.add_parser(
        "export",
        help="write a trained network as an ONNX file, or as C",
        description="Write a network as an ONNX file or as C, for batches of any size. What "
        "'fastconv train' keeps beside the weights (classes, and the pixels' mean and deviation, "
        "by which images are normalised) becomes metadata of the ONNX file; what is written as C "
        "takes pixels as files have them, from 0 to 255, and normalises them itself.",
    )
    export.set_defaults(run=_export)
    add = export.add_argument
    add("model", type=Path, help="a file that 'fastconv train' or save wrote")
    add("-o", "--output", type=Path, default=None, help="the ONNX file")
    add("--c", type=Path, metavar="FOLDER", default=None, help="the folder of the C files")
    add("--size", type=_ints, default=None, help="of the images, as 28,28 (default: in training)")
    add("--opset", type=int, default=None, help="version of ONNX's operators")
    add("--name", default=None, help="what names in C begin with (default: net)")
    add(
        "--weights",
        choices=("arrays", "file"),
        default=None,
        help="of C: compiled in, or in a file that the program reads (default: arrays)",
    )


def _train(arguments):
    _set_threads(arguments.threads)
    _checks.writable(arguments.output)
    io.check_path(arguments.output)
    if arguments.plot is not None:
        _plot.check_path(arguments.plot)
    options = Options(**{name: getattr(arguments, name) for name in Options.__dataclass_fields__})
    sizes = {name: getattr(arguments, name) for name in ("widths", "blocks", "stem_stride")}
    sizes = {name: value for name, value in sizes.items() if value is not None}
    train, test = data.load_train_test(
        arguments.data, holdout=arguments.holdout, seed=options.seed, size=arguments.size
    )
    trainer = Trainer.start(train, test, options, arguments.model, sizes)
    checkpoint = checkpoint_path(arguments.output)
    if arguments.resume:
        trainer.load_checkpoint(checkpoint)
        print(f"resuming from {checkpoint} after epoch {trainer.epoch}")
    parameters = sum(p.size for p in trainer.classifier.model.parameters())
    print(
        f"{len(train)} training and {len(test)} test images of shape {train.x.shape[1:]}, "
        f"{len(train.classes)} classes; {arguments.model} with {parameters} parameters"
    )
    started = time.perf_counter()
    try:
        _run(trainer, checkpoint)
    except KeyboardInterrupt:
        print(
            f"\ninterrupted after epoch {trainer.epoch} of {options.epochs}; "
            f"{checkpoint} is kept, go on with --resume",
            file=sys.stderr,
        )
        return 130
    trainer.classifier.save(arguments.output)
    checkpoint.unlink(missing_ok=True)
    tested = trainer.history["test_accuracy"][-1]
    print(
        f"held-out accuracy {tested:.2%} ({round((1 - tested) * len(test))} of {len(test)} wrong) "
        f"in {time.perf_counter() - started:.0f} s; wrote {arguments.output}"
    )
    if arguments.plot is not None:
        _draw(trainer.history, arguments.plot)
        print(f"learning curves in {arguments.plot}")
    return 0


def _run(trainer, checkpoint):
    """The remaining epochs, with a progress bar and a checkpoint after each."""
    epochs, steps = trainer.options.epochs, len(trainer.batches)
    trainer.save_checkpoint(checkpoint)
    with _progress(epochs * steps, trainer.epoch * steps) as bar:

        def on_step(loss, accuracy):
            bar.set_postfix_str(f"loss {loss:.4f}, accuracy {accuracy:.2%}", refresh=False)
            bar.update()

        while trainer.epoch < epochs:
            bar.set_description(f"epoch {trainer.epoch + 1}/{epochs}", refresh=False)
            trainer.run_epoch(on_step)
            trainer.save_checkpoint(checkpoint)
            last = {name: values[-1] for name, values in trainer.history.items()}
            bar.write(
                f"epoch {trainer.epoch}/{epochs}: loss {last['loss']:.4f}, accuracy "
                f"{last['train_accuracy']:.2%} in training, {last['test_accuracy']:.2%} held out"
            )


def _progress(total, done):
    try:
        from tqdm import tqdm
    except ImportError:
        raise ImportError('the progress bar needs tqdm: pip install "fastconv[train]"') from None
    return tqdm(total=total, initial=done, unit="step", dynamic_ncols=True)


def _draw(history, path):
    """Loss, and error rates on a logarithmic scale, over the epochs."""
    figure = _plot.figure(figsize=(9, 3.6))
    left, right = figure.subplots(1, 2)
    epochs = np.arange(1, len(history["loss"]) + 1)
    left.plot(epochs, history["loss"], marker=".", label="training")
    left.set(xlabel="epoch", ylabel="loss", yscale="log", title="Loss")
    for name, label in (("train_accuracy", "training"), ("test_accuracy", "held out")):
        right.plot(epochs, 100 * np.asarray(history[name]), marker=".", label=label)
    final = 100 * history["test_accuracy"][-1]
    right.set(xlabel="epoch", ylabel="accuracy (%)", title=f"Accuracy: {final:.2f} % held out")
    right.set_ylim(max(0, min(90, *right.get_ylim())), 100.2)
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend()
        axes.xaxis.get_major_locator().set_params(integer=True)
    figure.savefig(path, dpi=120)


def _set_threads(threads):
    if threads is not None:
        set_num_threads(_checks.integer("threads", threads, minimum=1))


def _predict(arguments):
    _set_threads(arguments.threads)
    top = _checks.integer("top", arguments.top, minimum=1)
    if arguments.limit is not None:
        _checks.integer("limit", arguments.limit, minimum=1)
    classifier = Classifier.load(arguments.model)
    for source in arguments.input:
        names, pixels = _images(source, classifier)
        probabilities = classifier.probabilities(pixels[: arguments.limit])
        for name, p in zip(names, probabilities, strict=False):
            best = np.argsort(-p, kind="stable")[:top]
            listed = ", ".join(f"{classifier.classes[i]} {p[i]:.1%}" for i in best)
            print(f"{name}: {listed}")


def _export(arguments):
    if (arguments.output is None) == (arguments.c is None):
        raise ValueError("one of --output or --c must be given")
    for option in ("opset",) if arguments.output is None else ("name", "weights"):
        if getattr(arguments, option) is not None:
            raise ValueError(
                f"--{option} goes with --{'output' if option == 'opset' else 'c'} only"
            )
    model, metadata = models.load_model(arguments.model), io.load_metadata(arguments.model)
    classifier, shape = metadata.get("classifier"), model.architecture["arguments"]
    size = arguments.size
    if size is None:
        if classifier is None:
            raise ValueError(f"{arguments.model} names no size of images: give --size")
        size = Classifier.load(arguments.model).size
    axes = shape.get("spatial_dims", 2)
    size = _checks.integers("size", size, axes, minimum=1)
    example = np.zeros((1, shape["in_channels"], *size), next(model.parameters()).dtype)
    if arguments.c is not None:
        _export_c(model, example, classifier, arguments)
        return
    onnx.save(
        model,
        arguments.output,
        example,
        metadata={} if classifier is None else {"classifier": json.dumps(classifier)},
        **({} if arguments.opset is None else {"opset": arguments.opset}),
    )
    print(f"wrote {arguments.output}")


def _export_c(model, example, classifier, arguments):
    """As C; a classifier takes pixels as they are, and normalises them."""
    takes = model
    if classifier is not None:
        mean, std = (
            np.reshape(classifier[key], (1, -1, 1, 1)).astype(example.dtype)
            for key in ("mean", "std")
        )

        def takes(pixels):
            return model((pixels - mean) / std)

    given = {key: getattr(arguments, key) for key in ("name", "weights")}
    given = {key: value for key, value in given.items() if value is not None}
    for path in export_c(takes, example, arguments.c, **given):
        print(f"wrote {path}")


def _images(source, classifier):
    """(names, pixels) of an image file, or of all images of a dataset."""
    path = Path(source)
    if path.suffix.lower() in data.IMAGE_SUFFIXES:
        size = tuple(classifier.size)
        return [source], data.read_image(path, channels=classifier.channels, size=size)[None]
    pixels = data.load_images(source, tuple(classifier.size))
    return [f"{source}[{i}]" for i in range(len(pixels))], pixels
