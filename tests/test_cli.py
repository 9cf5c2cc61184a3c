"""The ``fastconv`` command, run as its users run it: in a process of its own, in some folder."""

import gzip
import json
import os
import re
import signal
import struct
import subprocess
import sys
import time
from importlib.metadata import entry_points

import numpy as np
import pytest
import scipy
from test_training import bars

import fastconv
from fastconv.cli import main
from fastconv.training import Classifier

# One thread: the networks are tiny, and other tests may be running.
SMALL = ["--model", "resnet", "--widths", "6,8", "--blocks", "1", "--threads", "1"]
QUICK = [*SMALL, "--epochs", "1"]


def command(*arguments):
    return [sys.executable, "-m", "fastconv", *map(str, arguments)]


def run(folder, *arguments, status=0):
    """Run ``fastconv`` in `folder`; what it printed, after it ended with `status`."""
    done = subprocess.run(
        command(*arguments), cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == status, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done


def one_line(stderr):
    lines = stderr.splitlines()
    assert len(lines) == 1, stderr
    assert lines[0].startswith("fastconv: ")
    return lines[0]


@pytest.fixture
def fails(tmp_path, capsys, monkeypatch, keep_threads):
    """A function: the one line on stderr of a command, run in this process, that must fail."""
    monkeypatch.chdir(tmp_path)

    def line_of(*arguments):
        status = main(list(map(str, arguments)))
        printed = capsys.readouterr()
        assert status == 2, printed
        assert "epoch 1" not in printed.out  # before any training
        return one_line(printed.err)

    return line_of


def same_weights(path, other):
    state, other_state = fastconv.load(path), fastconv.load(other)
    return list(state) == list(other_state) and all(
        np.array_equal(array, other_state[name]) for name, array in state.items()
    )


def predictions(done):
    """[(name, [(class, percent), ...])] from the output of ``predict``."""
    rows = []
    for line in done.stdout.splitlines():
        name, listed = line.rsplit(": ", 1)
        guesses = [guess.rsplit(" ", 1) for guess in listed.split(", ")]
        rows.append((name, [(label, float(share.rstrip("%"))) for label, share in guesses]))
    return rows


def assert_predicts(done, path, images, names, top=3):
    """The printed classes and shares are those that the classifier itself gives."""
    classifier = Classifier.load(path)
    rows = predictions(done)
    assert [name for name, _ in rows] == list(names)
    for (_, guesses), p in zip(rows, classifier.probabilities(images), strict=True):
        order = np.argsort(-p)[:top]
        assert [label for label, _ in guesses] == [classifier.classes[i] for i in order]
        shares = [share for _, share in guesses]
        np.testing.assert_allclose(shares, 100 * p[order], atol=0.06)


# Data


def write_npz(path, train, test=None):
    arrays = {"x_train": train.x[:, 0], "y_train": np.array(train.classes)[train.y]}
    if test is not None:
        arrays |= {"x_test": test.x[:, 0], "y_test": np.array(test.classes)[test.y]}
    np.savez(path, **arrays)
    return path


def write_idx(folder, prefix, dataset, suffix=""):
    opened = gzip.open if suffix == ".gz" else open
    for kind, array in (("images-idx3", dataset.x[:, 0]), ("labels-idx1", dataset.y)):
        with opened(folder / f"{prefix}-{kind}-ubyte{suffix}", "wb") as file:
            file.write(struct.pack(">HBB", 0, 8, array.ndim))
            file.write(struct.pack(f">{array.ndim}I", *array.shape))
            file.write(array.astype(np.uint8).tobytes())
    return folder


def write_images(folder, dataset, sizes=None):
    image_of = pytest.importorskip("PIL.Image").fromarray
    for i, (x, y) in enumerate(zip(dataset.x, dataset.y, strict=True)):
        image = image_of(x[0])
        if sizes is not None:
            image = image.resize(sizes[i % len(sizes)])
        (folder / dataset.classes[y]).mkdir(parents=True, exist_ok=True)
        image.save(folder / dataset.classes[y] / f"{i:03}.png")
    return folder


@pytest.fixture(scope="module", autouse=True)
def progress_bar():
    pytest.importorskip("tqdm")


@pytest.fixture(scope="module")
def test_images():
    return bars(30, 2)


@pytest.fixture(scope="module")
def data(tmp_path_factory, test_images):
    """An .npz of bars, columns and crosses."""
    return write_npz(tmp_path_factory.mktemp("data") / "bars.npz", bars(200, 1), test_images)


@pytest.fixture(scope="module")
def model(tmp_path_factory, data):
    """A trained model."""
    path = tmp_path_factory.mktemp("model") / "bars.npz"
    run(path.parent, "train", data, "-o", path, *SMALL, "--epochs", 4, "--batch-size", 25)
    return path


# info


def test_info_prints_versions(tmp_path):
    printed = run(tmp_path, "info").stdout
    python = ".".join(map(str, sys.version_info[:3]))
    for version in (fastconv.__version__, python, np.__version__, scipy.__version__):
        assert version in printed
    assert re.search(r"threads +\d+ of \d+", printed)
    assert re.search("openmp", printed, re.IGNORECASE)


def test_help_and_missing_commands(tmp_path):
    printed = run(tmp_path, "--help").stdout
    for name in ("train", "predict", "info"):
        assert name in printed
    printed = run(tmp_path, "train", "--help").stdout
    for option in ("--epochs", "--resume", "--plot"):
        assert option in printed
    assert "usage" in run(tmp_path, status=2).stderr


def test_the_console_script_is_the_same_command():
    (script,) = entry_points(group="console_scripts", name="fastconv")
    assert script.load() is main


# train


def test_train_on_digits_with_a_plot(tmp_path):
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    image = pytest.importorskip("PIL.Image")
    options = ["-o", "digits.safetensors", "--plot", "curves.png"]
    done = run(tmp_path, "train", "digits", *options, *QUICK)
    assert "1438 training and 359 test images of shape (1, 8, 8), 10 classes" in done.stdout
    assert "epoch 1/1: loss" in done.stdout
    assert "wrote digits.safetensors" in done.stdout
    assert sorted(os.listdir(tmp_path)) == ["curves.png", "digits.safetensors"]
    with image.open(tmp_path / "curves.png") as curves:
        assert curves.format == "PNG"
        assert curves.width > 500
        assert curves.height > 200
        assert len(np.unique(np.asarray(curves.convert("RGB")).reshape(-1, 3), axis=0)) > 20

    done = run(tmp_path, "predict", "digits.safetensors", "digits", "--limit", 2, "--top", 1)
    rows = predictions(done)
    assert [name for name, _ in rows] == ["digits[0]", "digits[1]"]
    assert all(len(guesses) == 1 and guesses[0][0] in "0123456789" for _, guesses in rows)


def test_train_on_npz_learns_and_tells_the_accuracy(data, model, test_images):
    classifier = Classifier.load(model)
    assert classifier.classes == tuple(sorted(test_images.classes))
    names = np.array(classifier.classes)
    guesses = names[classifier.probabilities(test_images.x).argmax(axis=1)]
    right = guesses == np.array(test_images.classes)[test_images.y]
    assert right.mean() > 0.9
    assert [path.name for path in model.parent.iterdir()] == [model.name]  # no checkpoint
    done = run(model.parent, "train", data, *SMALL, "--epochs", 4, "--batch-size", 25)
    told = re.search(r"held-out accuracy ([\d.]+)% \((\d+) of 30 wrong\)", done.stdout)
    assert float(told[1]) == pytest.approx(100 * right.mean(), abs=0.01)
    assert int(told[2]) == (~right).sum()
    # Without -o the model is model.npz; equal options give an equal file.
    assert (model.parent / "model.npz").read_bytes() == model.read_bytes()


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_train_and_predict_on_idx_files(suffix, tmp_path, test_images):
    write_idx(tmp_path, "train", bars(60, 1), suffix)
    write_idx(tmp_path, "t10k", test_images, suffix)
    done = run(tmp_path, "train", ".", "-o", "m.npz", *QUICK, "--flip", "--shift", 2)
    assert "60 training and 30 test images of shape (1, 12, 11), 3 classes" in done.stdout
    done = run(tmp_path, "predict", "m.npz", tmp_path)
    names = [f"{tmp_path}[{i}]" for i in range(30)]
    assert_predicts(done, tmp_path / "m.npz", test_images.x, names)


def test_train_and_predict_on_a_folder_of_images(tmp_path):
    images = bars(45, 1)
    write_images(tmp_path / "images", images)
    options = ["--holdout", 0.4, "--model", "lenet", "--widths", "4,4", "--epochs", 1]
    done = run(tmp_path, "train", "images", "-o", "m.npz", *options, "--threads", 1)
    assert "27 training and 18 test images of shape (1, 12, 11), 3 classes" in done.stdout
    assert "lenet" in done.stdout
    done = run(tmp_path, "predict", "m.npz", "images", "--limit", 4, "--top", 9)
    order = np.argsort(images.y, kind="stable")[:4]  # by class, then by name
    names = [f"images[{i}]" for i in range(4)]
    assert_predicts(done, tmp_path / "m.npz", images.x[order], names, top=9)


def test_train_and_predict_on_images_of_several_sizes(tmp_path, fails):
    images = write_images(tmp_path / "images", bars(30, 1), sizes=[(12, 12), (20, 14)])
    assert "size" in fails("train", "images", *QUICK)
    done = run(tmp_path, "train", "images", "-o", "m.npz", *QUICK, "--size", "10,9")
    assert "of shape (1, 10, 9)" in done.stdout
    files = sorted(images.glob("*/*.png"))[:2]
    done = run(tmp_path, "predict", "m.npz", *files)
    pixels = np.stack([fastconv.data.read_image(path, 1, (10, 9)) for path in files])
    assert_predicts(done, tmp_path / "m.npz", pixels, map(str, files))
    # What can be trained on can be predicted: its images are resized in the same way.
    done = run(tmp_path, "predict", "m.npz", "images", "--limit", 2)
    assert_predicts(done, tmp_path / "m.npz", pixels, ["images[0]", "images[1]"])


def test_number_of_threads_does_not_change_the_model(data, tmp_path):
    options = [data, "--widths", "16", "--blocks", "1", "--epochs", "1", "--batch-size", "100"]
    for threads in (1, 3):
        run(tmp_path, "train", *options, "--threads", threads, "-o", f"{threads}.npz")
    run(tmp_path, "train", *options, "--threads", 1, "--seed", 1, "-o", "other.npz")
    assert (tmp_path / "1.npz").read_bytes() == (tmp_path / "3.npz").read_bytes()
    assert not same_weights(tmp_path / "1.npz", tmp_path / "other.npz")


# Interrupting and resuming


def epochs_done(checkpoint):
    if not checkpoint.exists():
        return 0
    return len(fastconv.load_metadata(checkpoint)["checkpoint"]["history"]["loss"])


def test_interrupted_training_goes_on_to_the_same_weights(tmp_path, fails):
    data = write_npz(tmp_path / "data.npz", bars(600, 1), bars(30, 2))
    options = ["train", data, *SMALL, "--epochs", "8", "--batch-size", "20"]
    checkpoint = tmp_path / "m.checkpoint.npz"
    process = subprocess.Popen(
        command(*options, "-o", "m.npz"),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background jobs ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        deadline = time.monotonic() + 100
        while epochs_done(checkpoint) < 2 and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=100)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "Traceback" not in errors
    last = errors.splitlines()[-1]
    done = epochs_done(checkpoint)
    assert 2 <= done < 8
    for words in ("interrupted", f"epoch {done} of 8", "m.checkpoint.npz", "--resume"):
        assert words in last
    assert not (tmp_path / "m.npz").exists()

    assert "options" in fails(*options, "-o", "m.npz", "--resume", "--lr", "0.05")
    assert epochs_done(checkpoint) == done

    resumed = run(tmp_path, *options, "-o", "m.npz", "--resume")
    assert f"after epoch {done}" in resumed.stdout
    assert f"epoch {done}/8:" not in resumed.stdout
    assert f"epoch {done + 1}/8:" in resumed.stdout
    assert not checkpoint.exists()
    run(tmp_path, *options, "-o", "whole.npz")
    assert same_weights(tmp_path / "m.npz", tmp_path / "whole.npz")
    assert (tmp_path / "m.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()


def test_failed_training_leaves_an_older_model_alone(data, tmp_path):
    path = tmp_path / "m.npz"
    run(tmp_path, "train", data, "-o", path, *QUICK)
    before = path.read_bytes()
    done = run(tmp_path, "train", data, "-o", path, *QUICK, "--lr", "1e30", status=2)
    last = done.stderr.splitlines()[-1]
    assert last.startswith("fastconv: the loss became")
    assert "RuntimeWarning" not in done.stderr
    assert path.read_bytes() == before


# predict


def test_predict_on_npz_takes_the_test_part(data, model, test_images):
    done = run(model.parent, "predict", model, data)
    names = [f"{data}[{i}]" for i in range(30)]
    assert_predicts(done, model, test_images.x, names)
    done = run(model.parent, "predict", model, data, "--limit", 3, "--top", 2, "--threads", 1)
    assert_predicts(done, model, test_images.x[:3], names[:3], top=2)


def test_predict_on_npz_without_a_test_part(model, tmp_path, test_images):
    np.savez(tmp_path / "plain.npz", x=test_images.x[:5, 0], y=test_images.y[:5])
    done = run(tmp_path, "predict", model, "plain.npz")
    assert_predicts(done, model, test_images.x[:5], [f"plain.npz[{i}]" for i in range(5)])


def test_predict_on_image_files_of_any_form(model, tmp_path, test_images):
    image = pytest.importorskip("PIL.Image")
    grey = image.fromarray(test_images.x[0, 0])
    grey.save(tmp_path / "grey.png")
    grey.convert("RGB").resize((33, 24)).save(tmp_path / "large.bmp")
    done = run(tmp_path, "predict", model, "grey.png", "large.bmp")
    pixels = [
        fastconv.data.read_image(tmp_path / name, 1, (12, 11)) for name in ("grey.png", "large.bmp")
    ]
    assert_predicts(done, model, np.stack(pixels), ["grey.png", "large.bmp"])
    assert np.array_equal(pixels[0], test_images.x[0])


def test_predict_does_not_take_training_images_for_damaged_test_images(model, tmp_path, fails):
    write_idx(tmp_path, "train", bars(10, 1))
    write_idx(tmp_path, "t10k", bars(10, 2))
    damaged = tmp_path / "t10k-images-idx3-ubyte"
    damaged.write_bytes(damaged.read_bytes()[:-5])
    assert "t10k-images-idx3-ubyte" in fails("predict", model, tmp_path)


# Errors


def test_errors_are_one_line_on_stderr_and_status_2(data, model, tmp_path):
    half = tmp_path / "half.npz"
    half.write_bytes(model.read_bytes()[: model.stat().st_size // 2])
    fastconv.save(fastconv.nn.Linear(2, 3), tmp_path / "linear.npz")
    before = sorted(os.listdir(tmp_path))
    for word, *arguments in (
        ("absent.npz", "train", "absent.npz"),
        ("absent.safetensors", "predict", "absent.safetensors", data),
        ("'m.pt'", "train", data, *QUICK, "-o", "m.pt"),
        ("half.npz", "predict", half, data),
        ("linear.npz", "predict", "linear.npz", data),
        ("m.checkpoint.npz", "train", data, *QUICK, "-o", "m.npz", "--resume"),
        ("epochs", "train", data, "--epochs", 0),
    ):
        done = run(tmp_path, *arguments, status=2)
        assert word in one_line(done.stderr)
        assert done.stdout == ""
    assert sorted(os.listdir(tmp_path)) == before


def test_missing_files_are_named(data, model, tmp_path, fails):
    assert "absent" in fails("train", "absent", *QUICK)
    assert "absent.npz" in fails("predict", "absent.npz", data)
    assert "absent.png" in fails("predict", model, "absent.png")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("output", ["m.pt", "m", "m.npz.gz"])
def test_wrong_suffixes_are_named_before_any_work(output, data, tmp_path, fails):
    line = fails("train", data, *QUICK, "-o", output)
    for word in (".npz", ".safetensors", repr(output)):
        assert word in line
    assert output in fails("predict", output, data)
    assert list(tmp_path.iterdir()) == []


def test_output_in_a_missing_folder_is_told_before_training(data, fails):
    assert "absent" in fails("train", data, *QUICK, "-o", "absent/m.npz")


@pytest.mark.parametrize(
    ("plot", "word"), [("absent/curves.png", "absent"), ("curves.text", "text")]
)
def test_plot_that_cannot_be_written_is_told_before_training(plot, word, data, fails):
    pytest.importorskip("matplotlib")
    assert word in fails("train", data, *QUICK, "--plot", plot)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_truncated_models_are_refused(suffix, data, model, tmp_path, fails):
    whole = tmp_path / f"whole{suffix}"
    Classifier.load(model).save(whole)
    content = whole.read_bytes()
    for size in (0, 1, 100, len(content) // 2, len(content) - 1):
        path = tmp_path / f"part{suffix}"
        path.write_bytes(content[:size])
        assert path.name in fails("predict", path, data)


def test_files_that_hold_no_classifier_are_refused(data, model, tmp_path, fails):
    assert "bars.npz" in fails("predict", data, data)
    metadata = {"architecture": Classifier.load(model).model.architecture}
    fastconv.save(fastconv.load(model), tmp_path / "bare.npz", metadata=metadata)
    assert "bare.npz" in fails("predict", "bare.npz", data)


def test_weights_that_do_not_fit_are_told_on_one_line(data, model, tmp_path, fails):
    state = fastconv.load(model)
    del state["0.weight"]
    fastconv.save(state, tmp_path / "part.npz", metadata=fastconv.load_metadata(model))
    line = fails("predict", "part.npz", data)
    assert "part.npz" in line
    assert "0.weight" in line


def test_images_of_another_form_are_refused(model, tmp_path, fails):
    colour = bars(4, 1, channels=3)
    np.savez(tmp_path / "colour.npz", x=colour.x, y=colour.y)
    assert "(4, 3, 12, 11)" in fails("predict", model, "colour.npz")


def test_damaged_data_is_named(model, tmp_path, fails):
    (tmp_path / "text.npz").write_text("no archive", encoding="utf-8")
    (tmp_path / "text.png").write_text("no image", encoding="utf-8")
    assert "text.npz" in fails("train", "text.npz", *QUICK)
    assert "text.npz" in fails("predict", model, "text.npz")
    pytest.importorskip("PIL")
    assert "text.png" in fails("predict", model, "text.png")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("train --epochs 0", ["epochs", "0"]),
        ("train --batch-size 0", ["batch", "0"]),
        ("train --lr 0", ["lr", "0"]),
        ("train --lr nan", ["lr", "nan"]),
        ("train --momentum -1", ["momentum", "-1"]),
        ("train --weight-decay -1", ["weight", "-1"]),
        ("train --label-smoothing 2", ["label", "2"]),
        ("train --shift -1", ["shift", "-1"]),
        ("train --seed -1", ["seed", "-1"]),
        ("train --holdout 1", ["holdout", "1"]),
        ("train --threads 0", ["threads", "0"]),
        ("train --widths 0", ["widths", "0"]),
        ("train --blocks 0", ["blocks", "0"]),
        ("train --stem-stride 0", ["stem_stride", "0"]),
        ("train --model lenet --blocks 2", ["lenet", "blocks"]),
        ("train --model lenet --widths 1,2,3", ["widths", "(1, 2, 3)"]),
        ("train --size 8,8", ["size", "8"]),
        ("predict --threads 0", ["threads", "0"]),
        ("predict --top 0", ["top", "0"]),
        ("predict --limit -1", ["limit", "-1"]),
    ],
)
def test_bad_values_are_named_on_one_line(options, words, data, model, tmp_path, fails):
    name, *rest = options.split()
    line = fails(name, *([data] if name == "train" else [model, data]), *rest)
    for word in words:
        assert word in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "options",
    [
        "--epochs few",
        "--lr fast",
        "--widths 4,x",
        "--size large",
        "--model vgg",
        "--unknown",
        "--threads 1.5",
    ],
)
def test_values_of_the_wrong_kind_are_named_with_the_usage(options, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["train", *options.split()])
    assert caught.value.code == 2
    errors = capsys.readouterr().err
    assert errors.startswith("usage: fastconv")
    for word in options.split():
        assert word in errors.splitlines()[-1]


def test_missing_extras_are_told_with_the_command_that_installs_them(data, tmp_path):
    # None in sys.modules makes an import fail as if the package were not installed.
    script = """
import json, sys
name, arguments = json.loads(sys.argv[1])
sys.modules[name] = None
from fastconv.cli import main
sys.exit(main(arguments))
"""
    for name, extra, arguments in (
        ("tqdm", "train", ["train", str(data), *QUICK]),
        ("matplotlib", "plot", ["train", str(data), *QUICK, "--plot", "curves.png"]),
        ("sklearn", "train", ["train", "digits", *QUICK]),
    ):
        done = subprocess.run(
            [sys.executable, "-c", script, json.dumps([name, arguments])],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 2, done.stderr
        line = one_line(done.stderr)
        assert f'pip install "fastconv[{extra}]"' in line
        assert "epoch 1" not in done.stdout
