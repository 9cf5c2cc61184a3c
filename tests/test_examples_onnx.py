"""The programs in examples/ that read and write ONNX files run, and print what they found."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

onnx = pytest.importorskip("onnx", reason="models are read with the package onnx")
from onnx_models import make, network, node  # noqa: E402

EXAMPLES = Path(__file__).parent.parent / "examples"

pytestmark = pytest.mark.skipif(not EXAMPLES.is_dir(), reason="the examples are not beside tests")


def run(folder, name, *arguments):
    """What the program prints; warnings are errors."""
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / name, *map(str, arguments)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def figures(text, pattern):
    """The numbers at the groups of every match."""
    return [tuple(map(float, match.groups())) for match in re.finditer(pattern, text)]


def check_files(text, path):
    """What was written is a model of scores, and ONNX Runtime finds them if it was asked."""
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    for difference in figures(text, r"largest difference (\S+) of"):
        assert difference < (1e-4,)
    ours = figures(text, r"accuracy(?: after)?: +(\S+)%")
    for other in figures(text, r"ONNX Runtime: +(\S+)%"):
        assert_allclose(other, ours[-1], atol=0.3)  # of scores that nearly tie


def test_any_network_learns_further(tmp_path, rng):
    """Of red and green images, which the mean of random convolutions tells apart."""
    (tmp_path / "network.onnx").write_bytes(network(rng))
    labels = np.arange(80) % 2
    images = rng.integers(0, 120, (80, 12, 12, 3), np.uint8)
    images[np.arange(80), :, :, labels] += 120
    np.savez(tmp_path / "data.npz", X=images, y=labels)
    options = ("--features", "e", "--size", 8, "--epochs", 6, "--batch-size", 16, "--lr", 0.2)
    text = run(tmp_path, "finetune.py", "network.onnx", "data.npz", *options)
    assert "64 images to train, 16 to test, 4 features" in text
    assert figures(text, r"accuracy after:  (\S+)%") >= [(90.0,)]
    check_files(text, tmp_path / "finetuned.onnx")


def test_residual_network_learns_signs(tmp_path, shared_data):
    model = shared_data / "models" / "cifar10_resnet20_op13.onnx"
    data = shared_data / "sign_digits" / "sign_digits_48.npz"
    options = ("--epochs", 1, "--limit", 128, "--output", "signs.onnx")
    text = run(tmp_path, "finetune.py", model, data, *options)
    assert "128 images to train, 412 to test, 64 features" in text
    check_files(text, tmp_path / "signs.onnx")


def test_spoken_digits_are_learnt(tmp_path, rng):
    """Of tones, in two recordings of each to test with."""
    labels, index = np.divmod(np.arange(70), 7)
    tones = np.sin(np.arange(2000) * 0.1 * (1 + labels[:, None]))
    audio = 3000 * tones + rng.normal(0, 100, tones.shape)
    np.savez(
        tmp_path / "tones.npz",
        audio=audio.astype(np.int16).ravel(),
        length=np.full(70, 2000),
        label=labels,
        index=index + 3,
    )
    options = ("--epochs", 2, "--batch-size", 10)
    text = run(tmp_path, "speech.py", "tones.npz", *options)
    assert "50 recordings to train, 20 to test, 6400 samples each" in text
    first, last = figures(text, r"epoch \d: loss (\S+)")
    assert last < first
    check_files(text, tmp_path / "speech.onnx")


@pytest.fixture
def drawn(tmp_path):
    """The gallery's text, after it drew one picture, which is checked to show something."""
    pytest.importorskip("PIL", reason="images are read with Pillow")
    image = pytest.importorskip("matplotlib.image", reason="the gallery draws pictures")

    def call(picture, *arguments):
        text = run(tmp_path, "gallery.py", *arguments)
        assert [path.name for path in (tmp_path / "gallery").iterdir()] == [picture]
        assert image.imread(tmp_path / "gallery" / picture).std() > 0.05
        return text

    return call


def test_digits_are_drawn(drawn, shared_data):
    model = shared_data / "models" / "mnist.onnx"
    text = drawn("digits.png", "--digits", model, shared_data / "mnist")
    assert "98.40% of 2000 digits are read correctly" in text


def test_face_is_drawn(drawn, shared_data):
    model = shared_data / "models" / "yunet_n_320_320.onnx"
    text = drawn("faces.png", "--faces", model, shared_data / "images" / "astronaut.png")
    assert "faces: 1\n" in text
    ((score, *box),) = figures(text, r"face: score (\S+), box (\d+), (\d+), (\d+), (\d+)")
    assert score == 0.938
    assert_allclose(np.array(box) * 320 / 512, [112, 37, 57, 74], atol=1)


def test_enlarged_image_is_drawn(drawn, shared_data):
    model = shared_data / "models" / "superres_core_op11.onnx"
    text = drawn("enlarged.png", "--enlarge", model, shared_data / "images" / "camera.png")
    ((bicubic, learnt),) = figures(text, r"bicubic: PSNR (\S+) dB, network: PSNR (\S+) dB")
    assert learnt > bicubic + 0.25


def test_classes_are_drawn(drawn, tmp_path):
    """By a network that knows red and blue."""
    image = pytest.importorskip("matplotlib.image")
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[:, :48, 0] = pixels[:, 48:, 2] = 255
    image.imsave(tmp_path / "flag.png", pixels)
    weight = np.zeros((10, 3), np.float32)
    weight[[0, 8], [0, 2]] = 10
    nodes = [
        node("GlobalAveragePool", ["x"], ["mean"]),
        node("Flatten", ["mean"], ["flat"]),
        node("Gemm", ["flat", "weight"], ["y"], transB=1),
    ]
    model = make(nodes, {"x": ["n", 3, 32, 32]}, ("y",), {"weight": weight})
    (tmp_path / "colours.onnx").write_bytes(model)
    text = drawn("classes.png", "--classes", "colours.onnx", "flag.png")
    chances = dict(re.findall(r"(\w+), (\d+)%", text))
    assert chances["airplane"] == chances["ship"] == "100"
    assert len(chances) == 10
    assert int(chances["truck"]) < 5
