"""Pictures of what trained networks find: digits, faces, details, things.

    python examples/gallery.py [--digits MODEL DATA] [--faces MODEL IMAGE] [--enlarge MODEL IMAGE]
                               [--classes MODEL IMAGE...] [--folder gallery]

Each option takes an ONNX file and what it is to look at, and writes one picture: a CNN that reads
MNIST's digits (DATA: their folder), YuNet that finds faces, a network that enlarges 224 x 224
pixels three times, a ResNet of CIFAR-10's classes. Needs Matplotlib and Pillow.
"""

import argparse
from pathlib import Path

import matplotlib.figure
import numpy as np
from matplotlib.patches import Rectangle
from PIL import Image

import fastconv
import fastconv.functional as F
import fastconv.onnx
from fastconv.data import load


def plan_of(path, example):
    """A function of float32 arrays that returns an array, or a tuple of them."""
    return fastconv.compile(fastconv.onnx.load(path), example)


def save(figure, options, name):
    path = options.folder / name
    figure.savefig(path, dpi=110)
    print(f"picture: {path}")


# Digits -------------------------------------------------------------------------------------

ROWS, COLUMNS = 5, 10


def digits(model, data, options):
    """The digits that are read wrongly, then those that were hardest to read."""
    data = load(data, split="test")
    x = data.x[: options.limit, None].astype(np.float32)  # one by one, as the file says
    plan = plan_of(model, x[0])
    scores = np.concatenate([plan(image) for image in x])
    labels = data.y[: options.limit]
    found = scores.argmax(axis=1)
    share = f"{np.mean(found == labels):.2%} of {len(x)} digits are read correctly"
    print(f"digits: {share}")

    second, first = np.sort(scores, axis=1)[:, -2:].T
    order = np.lexsort((first - second, found == labels))[: ROWS * COLUMNS]
    figure = matplotlib.figure.Figure(figsize=(COLUMNS, 0.6 + 1.25 * ROWS), layout="constrained")
    for axes in (grid := figure.subplots(ROWS, COLUMNS)).flat:
        axes.set_axis_off()
    for axes, number in zip(grid.flat, order, strict=False):
        answer, label = found[number], labels[number]
        axes.imshow(x[number, 0, 0], cmap="gray_r")
        axes.set_title(
            f"{answer}" if answer == label else f"{answer}, is {label}",
            color="tab:green" if answer == label else "tab:red",
            pad=2,
        )
    figure.suptitle(f"{share}: the wrong ones, and the hardest of the others")
    save(figure, options, "digits.png")


# Faces --------------------------------------------------------------------------------------

STRIDES = (8, 16, 32)


def find_faces(outputs, size, threshold=0.6, overlap=0.3):
    """Rows of score, box (x, y, width, height) and five points, the best first.

    YuNet has for each stride a place every so many pixels, and of each place a score that it is a
    face's, one that there is a box, the box and the points: both relative to the place, sizes as
    logarithms.
    """
    kinds = np.array_split(np.arange(len(outputs)), 4)
    found = []
    for level, stride in enumerate(STRIDES):
        face, box, frame, points = (outputs[kind[level]][0] for kind in kinds)
        rows, columns = np.divmod(np.arange(len(face)), size // stride)
        places = np.stack([columns, rows], axis=1)
        score = np.sqrt(face.clip(0, 1) * box.clip(0, 1))
        sides = np.exp(frame[:, 2:])
        corner = places + frame[:, :2] - sides / 2
        points = points + np.tile(places, 5)
        found.append(np.hstack([score, stride * np.hstack([corner, sides, points])]))
    found = np.concatenate(found)
    found = found[found[:, 0] > threshold]
    found = found[np.argsort(-found[:, 0])]
    kept = []
    for row in found:  # but what mostly covers a better one
        if all(intersection_over_union(row[1:5], other[1:5]) < overlap for other in kept):
            kept.append(row)
    return kept


def intersection_over_union(a, b):
    start, end = np.maximum(a[:2], b[:2]), np.minimum(a[:2] + a[2:], b[:2] + b[2:])
    common = np.prod((end - start).clip(0))
    return common / (np.prod(a[2:]) + np.prod(b[2:]) - common)


def faces(model, path, options):
    """Boxes around the faces, with eyes, nose and the mouth's corners."""
    size = 320
    image = Image.open(path).convert("RGB")
    side = max(image.size)
    square = Image.new("RGB", (side, side))
    square.paste(image)
    pixels = np.asarray(square.resize((size, size), Image.Resampling.BILINEAR), np.float32)
    x = np.ascontiguousarray(pixels[:, :, ::-1].transpose(2, 0, 1)[None])  # blue, green, red
    found = find_faces(plan_of(model, x)(x), size)
    print(f"faces: {len(found)}")

    figure = matplotlib.figure.Figure(figsize=(7, 7 * image.height / image.width))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(image)
    axes.set_axis_off()
    for score, *places in found:
        left, top, width, height, *points = np.array(places) * side / size
        print(f"face: score {score:.3f}, box {left:.0f}, {top:.0f}, {width:.0f}, {height:.0f}")
        axes.add_patch(Rectangle((left, top), width, height, fill=False, color="lime", lw=2))
        axes.scatter(points[::2], points[1::2], s=30, color="yellow", edgecolor="black", lw=0.7)
        axes.text(
            left,
            top - 0.01 * side,
            f"{score:.3f}",
            fontsize=13,
            bbox={"facecolor": "lime", "edgecolor": "none", "pad": 2},
        )
    save(figure, options, "faces.png")


# Enlarging ----------------------------------------------------------------------------------

SMALL, SCALE = 224, 3
DETAIL = 144  # pixels of the large image


def psnr(image, truth):
    """Peak signal-to-noise ratio of bytes, in dB."""
    return 10 * np.log10(255**2 / np.mean((image.clip(0, 255) - truth) ** 2))


def enlarge(model, path, options):
    """An image made small and large again, by bicubic interpolation and by the network."""
    bicubic, size = Image.Resampling.BICUBIC, (SMALL * SCALE, SMALL * SCALE)
    image = Image.open(path).convert("YCbCr")
    side = min(image.size)
    truth = image.crop((0, 0, side, side)).resize(size, bicubic)
    small = truth.resize((SMALL, SMALL), bicubic)
    plain = small.resize(size, bicubic)

    x = np.asarray(small, np.float32)[None, None, ..., 0] / 255  # brightness alone
    y = 255 * plan_of(model, x)(x)[0, 0]
    brightness = Image.fromarray(np.rint(y).clip(0, 255).astype(np.uint8))
    learnt = Image.merge("YCbCr", (brightness, *plain.split()[1:]))

    exact, simple = (np.asarray(picture, np.float64)[..., 0] for picture in (truth, plain))
    quality = {"bicubic": psnr(simple, exact), "network": psnr(y, exact)}
    print(", ".join(f"{name}: PSNR {value:.2f} dB" for name, value in quality.items()))

    # What is looked at: where bicubic interpolation loses most.
    error = F.avg_pool2d((simple - exact)[None, None] ** 2, DETAIL, stride=8)[0, 0]
    top, left = (8 * int(i) for i in np.unravel_index(np.asarray(error).argmax(), error.shape))
    pictures = {
        "original": truth,
        f"original, {DETAIL} x {DETAIL} pixels": truth,
        f"bicubic, {quality['bicubic']:.2f} dB": plain,
        f"network, {quality['network']:.2f} dB": learnt,
    }
    figure = matplotlib.figure.Figure(figsize=(16, 4.3), layout="constrained")
    for axes, (name, picture) in zip(figure.subplots(1, 4), pictures.items(), strict=True):
        shown = picture.convert("RGB")
        if name == "original":
            place = (left, top), DETAIL, DETAIL
            frame = Rectangle(*place, fill=False, color="red", lw=2, clip_on=False)
            axes.add_patch(frame)
        else:
            shown = shown.crop((left, top, left + DETAIL, top + DETAIL))
        axes.imshow(shown, interpolation="nearest")
        axes.set_title(name, fontsize=13)
        axes.set_axis_off()
    save(figure, options, "enlarged.png")


# Classes ------------------------------------------------------------------------------------

CIFAR = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
MEAN, DEVIATION = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]], np.float32)


def windows(image):
    """Squares (left, top, side) all over an image, a half, a third and a quarter of its size."""
    for part in (2, 3, 4):
        side = min(image.size) // part
        for top in range(0, image.height - side + 1, side // 5):
            for left in range(0, image.width - side + 1, side // 5):
                yield left, top, side


def classes(model, paths, options):
    """Of each class the window of an image in which the network is surest to see it."""
    figure = matplotlib.figure.Figure(figsize=(14, 4.2 * len(paths)), layout="constrained")
    figure.suptitle("Where a network that knows ten classes is surest to see each of them")
    panels = figure.subfigures(len(paths), 1, squeeze=False)[:, 0]
    plan = plan_of(model, np.zeros((1, 3, 32, 32), np.float32))
    for path, panel in zip(paths, panels, strict=True):
        image = Image.open(path).convert("RGB")
        boxes = list(windows(image))
        seen = [
            image.resize((32, 32), Image.Resampling.BILINEAR, (left, top, left + side, top + side))
            for left, top, side in boxes
        ]
        x = np.stack([np.asarray(part, np.float32) / 255 for part in seen])
        x = np.ascontiguousarray(((x - MEAN) / DEVIATION).transpose(0, 3, 1, 2))
        chances = np.asarray(F.softmax(plan(x), dim=1))
        surest, best = chances.argmax(axis=0), chances.max(axis=0)
        named = [f"{name}, {chance:.0%}" for name, chance in zip(CIFAR, best, strict=True)]
        print(f"{Path(path).stem}: {'; '.join(named)}")

        places = [["photo", "photo", *CIFAR[:5]], ["photo", "photo", *CIFAR[5:]]]
        axes = panel.subplot_mosaic(places)
        axes["photo"].imshow(image)
        axes["photo"].set_title(f"{Path(path).stem}, {len(boxes)} windows")
        for name, number, title in zip(CIFAR, surest, named, strict=True):
            axes[name].imshow(seen[number])
            axes[name].set_title(title)
        for part in axes.values():
            part.set_axis_off()
    save(figure, options, "classes.png")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--digits", nargs=2, metavar=("MODEL", "DATA"), help="read those of MNIST's test part")
    add("--faces", nargs=2, metavar=("MODEL", "IMAGE"), help="find faces and their points")
    add("--enlarge", nargs=2, metavar=("MODEL", "IMAGE"), help="three times, beside bicubic")
    add("--classes", nargs="+", metavar=("MODEL", "IMAGE"), help="find them in windows")
    add("--folder", type=Path, default=Path("gallery"), help="of the pictures; default: gallery")
    add("--limit", type=int, default=2000, help="how many digits are read; default: 2000")
    options = parser.parse_args()
    if not any((options.digits, options.faces, options.enlarge, options.classes)):
        parser.error("nothing to draw: give any of --digits, --faces, --enlarge, --classes")
    if options.classes and len(options.classes) < 2:
        parser.error("--classes needs an image")
    options.folder.mkdir(parents=True, exist_ok=True)
    for draw in (digits, faces, enlarge):
        if arguments := getattr(options, draw.__name__):
            draw(*arguments, options)
    if options.classes:
        model, *paths = options.classes
        classes(model, paths, options)


if __name__ == "__main__":
    main()
