"""The Fortran program of examples/fortran_mnist classifies what Python does."""

import re
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

import fastconv
from fastconv.cli import main
from fastconv.training import Classifier

PROGRAM = Path(__file__).parent.parent / "examples" / "fortran_mnist" / "classify.f90"

pytestmark = [
    pytest.mark.skipif(not PROGRAM.is_file(), reason="the examples are not beside tests"),
    pytest.mark.skipif(
        shutil.which("gfortran") is None or shutil.which("gcc") is None,
        reason="there is no gfortran or no gcc",
    ),
]


def write_idx(path, array):
    """Bytes as an IDX file: http://yann.lecun.com/exdb/mnist."""
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


def build(folder, model, name="classify"):
    """The program with the network of a file."""
    assert main(["export", str(model), "--c", str(folder / "net"), "--name", "mnist"]) == 0
    net = folder / "net"
    for command in (
        ["gcc", "-std=c99", "-O2", "-c", net / "mnist.c", net / "mnist_weights.c"],
        ["gfortran", "-std=f2008", "-Wall", "-Wextra", "-Werror", "-O2", net / "mnist.f90", PROGRAM,
         "mnist.o", "mnist_weights.o", "-o", name],
    ):  # fmt: skip
        done = subprocess.run(
            command, cwd=folder, capture_output=True, encoding="utf-8", check=False
        )
        assert done.returncode == 0, done.stderr
    return folder / name


def run(*command):
    return subprocess.run(
        list(map(str, command)), capture_output=True, encoding="utf-8", check=False
    )


@pytest.fixture
def digits(tmp_path):
    """(folder with a trained network and the digits as IDX files, images, labels)."""
    sets = pytest.importorskip("sklearn.datasets", reason="the digits are scikit-learn's")
    found = sets.load_digits()
    images, labels = (found.images * 15).astype(np.uint8), found.target
    write_idx(tmp_path / "images", images)
    write_idx(tmp_path / "labels", labels)
    pixels = images.astype(np.float32)[:, None]
    arguments = {"in_channels": 1, "num_classes": 10, "widths": (8, 16), "hidden": 32}
    model = fastconv.models.build("lenet", arguments)
    classes = tuple(map(str, range(10)))
    mean, std = (float(f(pixels)) for f in (np.mean, np.std))
    classifier = Classifier(model, classes, 1, (8, 8), (mean,), (std,))
    optimizer = fastconv.optim.Adam(model.parameters(), lr=5e-3)
    for part in np.array_split(np.random.default_rng(0).permutation(len(pixels)), 40):
        x = classifier.normalised(pixels[part])
        loss = fastconv.functional.cross_entropy(model(x), labels[part])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    classifier.save(tmp_path / "digits.npz")
    return tmp_path, pixels, labels, classifier


def test_fortran_classifies_digits(digits):
    folder, pixels, labels, classifier = digits
    program = build(folder, folder / "digits.npz")
    right = int((classifier.probabilities(pixels).argmax(axis=1) == labels).sum())
    assert right > 0.8 * len(labels)
    for threads in ((), ("2",)):
        done = run(program, folder / "images", folder / "labels", *threads)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(f"{right} of {len(labels)} images")
    (folder / "short").write_bytes((folder / "images").read_bytes()[:-1])
    for arguments, message in (
        ((), "usage"),
        (("missing", folder / "labels"), "cannot open missing"),
        ((folder / "labels", folder / "labels"), "is no IDX file"),
        ((folder / "short", folder / "labels"), "another length"),
        ((folder / "images", folder / "labels", "two"), "got two"),
        ((folder / "images", folder / "labels", "0"), "threads is less than one"),
    ):
        done = run(program, *arguments)
        assert done.returncode == 1
        assert message in done.stderr


def test_the_readme_has_the_build_lines():
    text = (PROGRAM.parent / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S)[0]
    for part in ("fastconv train", "fastconv export", "gcc ", "gfortran ", "./classify"):
        assert part in commands
