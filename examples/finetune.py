"""Teach a network that others trained something new, and hand it on as an ONNX file.

    python examples/finetune.py resnet20.onnx images.npz [--output finetuned.onnx]

The network is read up to the features that its last layer saw, gets a dense layer for the classes
of the images (an npz file with X and y, a folder of images by class, or whatever `fastconv train`
reads), and trains on four fifths of them. If ONNX Runtime is installed, it runs the file that is
written. The defaults are those of a ResNet-20 of CIFAR-10.
"""

import argparse
import importlib.util
import time

import numpy as np

import fastconv
import fastconv.functional as F
import fastconv.onnx
from fastconv import nn, optim
from fastconv.data import Minibatches, RandomShift, load_train_test

# Of the colours, as the network was trained with.
MEAN = np.array([0.485, 0.456, 0.406], np.float32)[:, None, None]
DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)[:, None, None]


def prepare(images, size):
    """Bytes (N, 3, H, W) as the network wants them."""
    x = (images / np.float32(255) - MEAN) / DEVIATION
    return F.interpolate(x, size=size, mode="bilinear", antialias=True)


def scores(model, x, batch=200):
    """Of an evaluated module, plan or other function of a batch."""
    with fastconv.no_grad():
        return np.concatenate(
            [np.asarray(model(x[i : i + batch])) for i in range(0, len(x), batch)]
        )


def accuracy(found, labels):
    return np.mean(found.argmax(axis=1) == labels)


def train(model, x, labels, options):
    batches = Minibatches(
        x, labels, batch_size=options.batch_size, drop_last=True, transform=RandomShift(3)
    )
    steps = options.epochs * len(batches)
    optimizer = optim.SGD(
        model.parameters(), lr=options.lr, momentum=0.9, weight_decay=5e-4, nesterov=True
    )
    schedule = optim.lr_scheduler.OneCycleLR(
        optimizer, options.lr, steps, pct_start=0.2, cycle_momentum=False
    )
    model.train()
    for epoch in range(options.epochs):
        losses = []
        for images, targets in batches:
            loss = F.cross_entropy(model(images), targets, label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        print(f"epoch {epoch + 1}: loss {np.mean(losses):.3f}", flush=True)
    model.eval()


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("model", help="an ONNX file")
    add("data", help="colour images with labels")
    add("--output", default="finetuned.onnx", help="default: finetuned.onnx")
    add("--features", default="flat", help="the value that the last layer reads; default: flat")
    add("--size", type=int, default=32, help="of the network's images; default: 32")
    add("--epochs", type=int, default=6, help="default: 6")
    add("--batch-size", type=int, default=64, help="default: 64")
    add("--lr", type=float, default=0.05, help="the highest learning rate; default: 0.05")
    add("--limit", type=int, help="take only so many images to train")
    options = parser.parse_args()

    data, test = load_train_test(options.data)
    chosen = np.random.default_rng(0).permutation(len(data))[: options.limit]
    x, x_test = prepare(data.x[chosen], options.size), prepare(test.x, options.size)

    fastconv.manual_seed(0)
    body = fastconv.onnx.load(options.model, outputs=[options.features])
    width = scores(body, x[:1]).shape[1]
    model = nn.Sequential(body, nn.Linear(width, len(data.classes))).eval()
    print(f"{len(x)} images to train, {len(test)} to test, {width} features")
    print(f"accuracy before: {accuracy(scores(model, x_test), test.y):.2%}")

    start = time.perf_counter()
    train(model, x, data.y[chosen], options)
    seconds = time.perf_counter() - start
    found = scores(model, x_test)
    print(f"accuracy after:  {accuracy(found, test.y):.2%}, {seconds:.1f} s of training")

    fastconv.onnx.save(model, options.output, x[:1])
    print(f"written: {options.output}")
    if importlib.util.find_spec("onnxruntime") is not None:
        import onnxruntime

        session = onnxruntime.InferenceSession(options.output)
        others = scores(lambda part: session.run(None, {"input": part})[0], x_test)
        difference = np.abs(others - found).max() / np.abs(found).max()
        print(
            f"ONNX Runtime:    {accuracy(others, test.y):.2%}, largest difference "
            f"{difference:.1e} of the largest score"
        )


if __name__ == "__main__":
    main()
