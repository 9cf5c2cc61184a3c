"""Learn to tell spoken digits from the sound itself, and hand the network on as an ONNX file.

    python examples/speech.py fsdd.npz [--output speech.onnx]

The file holds recordings at 8 kHz, one behind the other in `audio`, and of each its `length`,
`label` and `index`: those below 5 are for testing, as the Free Spoken Digit Dataset says. If ONNX
Runtime is installed, it runs the file that is written.
"""

import argparse
import importlib.util
import time
from pathlib import Path

import numpy as np

import fastconv
import fastconv.functional as F
import fastconv.onnx
from fastconv import nn, optim
from fastconv.bench.recipes import read_speech
from fastconv.data import Minibatches, RandomShift


def block(inputs, outputs, stride):
    """Two convolutions around which the signal has a way of its own."""
    main = nn.Sequential(
        nn.Conv1d(inputs, outputs, 3, stride, padding=1, bias=False),
        nn.BatchNorm1d(outputs),
        nn.ReLU(),
        nn.Conv1d(outputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm1d(outputs),
    )
    shortcut = nn.Sequential(
        nn.Conv1d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm1d(outputs)
    )
    return nn.Residual(main, shortcut), nn.ReLU()


def network(classes):
    """From sound (N, 1, samples) to scores; the first layer finds filters of 3 ms by itself."""
    return nn.Sequential(
        nn.Conv1d(1, 32, 25, stride=4, padding=12, bias=False),
        nn.BatchNorm1d(32),
        nn.ReLU(),
        nn.MaxPool1d(4),
        *block(32, 32, 1),
        *block(32, 64, 2),
        *block(64, 128, 2),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(128, classes),
    )


def train(model, x, labels, options):
    batches = Minibatches(
        x, labels, batch_size=options.batch_size, drop_last=True, transform=RandomShift(800)
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
        for sounds, targets in batches:
            loss = F.cross_entropy(model(sounds), targets, label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        print(f"epoch {epoch + 1}: loss {np.mean(losses):.3f}", flush=True)
    model.eval()


def accuracy(scores, labels):
    return np.mean(scores.argmax(axis=1) == labels)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("data", type=Path, help="an npz file of recordings")
    add("--output", default="speech.onnx", help="default: speech.onnx")
    add("--epochs", type=int, default=10, help="default: 10")
    add("--batch-size", type=int, default=64, help="default: 64")
    add("--lr", type=float, default=0.1, help="the highest learning rate; default: 0.1")
    add("--limit", type=int, help="take only so many recordings to train")
    options = parser.parse_args()

    (x, labels), (x_test, labels_test) = read_speech(options.data)
    chosen = np.random.default_rng(0).permutation(len(x))[: options.limit]
    print(f"{len(chosen)} recordings to train, {len(x_test)} to test, {x.shape[-1]} samples each")

    fastconv.manual_seed(0)
    model = network(classes=10)
    start = time.perf_counter()
    train(model, x[chosen], labels[chosen], options)
    seconds = time.perf_counter() - start

    plan = fastconv.compile(model, x_test[:1])
    found = np.asarray(plan(x_test))
    print(f"accuracy:     {accuracy(found, labels_test):.2%}, {seconds:.1f} s of training")

    fastconv.onnx.save(model, options.output, x[:1])
    print(f"written: {options.output}")
    if importlib.util.find_spec("onnxruntime") is not None:
        import onnxruntime

        session = onnxruntime.InferenceSession(options.output)
        (others,) = session.run(None, {"input": x_test})
        difference = np.abs(others - found).max() / np.abs(found).max()
        print(
            f"ONNX Runtime: {accuracy(others, labels_test):.2%}, largest difference "
            f"{difference:.1e} of the largest score"
        )


if __name__ == "__main__":
    main()
