"""Trained networks of others, on real data: what they are known to find, and as ONNX Runtime does.

The values are those of the data folder's README.
"""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from fastconv import compile, no_grad
from fastconv.data import read_idx

pytest.importorskip("onnx", reason="models are read with the package onnx")
ort = pytest.importorskip("onnxruntime", reason="results are compared with ONNX Runtime")
Image = pytest.importorskip("PIL.Image", reason="images are read with Pillow")

from fastconv.onnx import load  # noqa: E402


@pytest.fixture
def network(shared_data):
    """A model of the data folder, eager, compiled and in ONNX Runtime, compared at each call."""

    def get(name):
        path = shared_data / "models" / name
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        session = ort.InferenceSession(path, options)
        model = load(path)
        assert [x.name for x in session.get_outputs()] == model.output_names

        plans = []

        def call(x):
            with no_grad():
                eager = model(x)
            if not plans:
                plans.append(compile(model, x))
            expected = session.run(None, {model.input_names[0]: x})
            for results in (eager, plans[0](x)):
                results = results if isinstance(results, tuple) else (results,)
                for result, truth in zip(results, expected, strict=True):
                    error = 1e-4 * np.abs(truth).max()
                    assert_allclose(np.asarray(result), truth, rtol=0, atol=error)
            return [np.asarray(y) for y in results]

        return call

    return get


@pytest.fixture
def picture(shared_data):
    """An image of the data folder, in a size and mode."""

    def get(name, size, mode="RGB", resample=Image.Resampling.BILINEAR):
        with Image.open(shared_data / "images" / name) as image:
            return np.asarray(image.convert(mode).resize(size, resample), np.float32)

    return get


def test_digits_are_known(network, shared_data):
    images = read_idx(shared_data / "mnist" / "t10k-images-idx3-ubyte.gz")[:2000]
    labels = read_idx(shared_data / "mnist" / "t10k-labels-idx1-ubyte.gz")[:2000]
    model = network("mnist.onnx")
    found = [model(x[None, None].astype(np.float32))[0].argmax() for x in images]
    assert np.mean(found == labels) == 0.984


@pytest.mark.parametrize("batch", [1, 3])
def test_resnet_gives_the_same_scores(batch, network, picture):
    names = ["astronaut.png", "coffee.png", "camera.png"][:batch]
    x = np.stack([picture(name, (32, 32)).transpose(2, 0, 1) / 255 for name in names])
    (scores,) = network("cifar10_resnet20_op13.onnx")(x)
    assert scores.shape == (batch, 10)


def test_face_is_found(network, picture):
    image = picture("astronaut.png", (320, 320))[:, :, ::-1]  # BGR
    x = np.ascontiguousarray(image.transpose(2, 0, 1)[None])
    outputs = network("yunet_n_320_320.onnx")(x)
    boxes = []
    for level, stride in enumerate((8, 16, 32)):
        classes, objects, box = (outputs[level + 3 * i][0] for i in range(3))
        rows, columns = np.divmod(np.arange(len(box)), 320 // stride)
        middle = (np.stack([columns, rows], 1) + box[:, :2]) * stride
        size = np.exp(box[:, 2:]) * stride
        score = np.sqrt(classes.clip(0, 1) * objects.clip(0, 1))
        boxes.append(np.concatenate([score, middle - size / 2, size], 1))
    best = max(np.concatenate(boxes), key=lambda row: row[0])
    assert_allclose(best[0], 0.938, atol=5e-4)
    assert_allclose(best[1:], [112, 37, 57, 74], atol=0.6)


@pytest.mark.parametrize("name", ["camera.png", "astronaut.png"])
def test_super_resolution_is_better_than_bicubic(name, network, picture):
    mode = "L" if name == "camera.png" else "YCbCr"
    truth = picture(name, (672, 672), mode, Image.Resampling.BICUBIC).reshape(672, 672, -1)[..., 0]
    large = Image.fromarray(truth.astype(np.uint8))
    small = large.resize((224, 224), Image.Resampling.BICUBIC)
    (y,) = network("superres_core_op11.onnx")(np.asarray(small, np.float32)[None, None] / 255)

    def quality(image):
        error = image.astype(np.float64).clip(0, 255) - truth
        return 10 * np.log10(255**2 / np.mean(error**2))

    bicubic = np.asarray(small.resize((672, 672), Image.Resampling.BICUBIC))
    assert quality(y[0, 0] * 255) > quality(bicubic) + 0.25  # dB
