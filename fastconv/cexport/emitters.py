"""What each operator of a plan becomes in C."""

import math

import numpy as np

from fastconv import _checks, _geometry
from fastconv._activation import NONE
from fastconv._plan import Shape, choose
from fastconv._resample import pack
from fastconv.cexport.emission import Unsupported, axes_of, number
from fastconv.cexport.places import loops, moved, runs
from fastconv.compiler.moves import VIEWS
from fastconv.compiler.operators import OPERATORS
from fastconv.compiler.step import Value, laid
from fastconv.compiler.windows import RESIZES
from fastconv.functional.conv import by_group, transposed

__all__ = ["CALLS", "EMITTERS"]

# Bytes of what a task reads, and pixels from which on weights are read often enough; bytes of the
# matrix that a task makes for a CBLAS, and the length of sums from which on it has one.
BOX, FEW, MATRIX, LONG = 64 << 10, 48, 1 << 20, 1024
THREADS = 4  # of which each should find a task in an image that has so many times FEW pixels
# Of tiles of Winograd's algorithm: how many are transformed at a time, of more values than these
# half as many; and the points that the C knows, by their number, but for infinity.
TILES, TRANSFORMED = 24, 1 << 18
POINTS = {1: (), 6: (0, 1, -1, 2, -1 / 2), 8: (0, 1, -1, 2, -2, 1 / 2, -1 / 2)}
MOST_AXES = 4  # of what is not moved alone


# Products -----------------------------------------------------------------------------------------


def _conv(e, node, step):
    x, w, *_ = node.inputs
    _, stride, padding, dilation, groups = node.options["geometry"]
    geometry = _geometry.convolution(e.spec(x).shape[2:], w.shape[2:], stride, padding, dilation)
    _correlation(e, node, by_group(w, groups), geometry.frame)


def _conv_transpose(e, node, step):
    x, w, b, residual = node.inputs
    _, stride, padding, output_padding, groups, dilation = node.options["geometry"]
    geometry = _geometry.transposed_convolution(
        e.spec(x).shape[2:], w.shape[2:], stride, padding, dilation, output_padding
    )
    phases = transposed(by_group(w, groups), geometry)
    if not phases.covering:
        e.need("activation", "background")
        e.call(
            "background", f"n * {math.prod(geometry.size)}", phases.channels,
            _bias(e, b, phases.channels), e.at(residual), *e.activation(node.options),
            e.at(node.output),
        )  # fmt: skip
    for frame, part in phases.parts:
        _correlation(e, node, part, frame)


def _linear(e, node, step):
    w = node.inputs[1]
    w = np.ascontiguousarray(w).reshape(1, len(w), 1, 1, 1, -1)
    _correlation(e, node, w, _geometry.convolution((1,), (1,), 1, 0, 1).frame)


def _bias(e, b, channels):
    return e.at(np.zeros(channels, e.dtype) if b is None else b)


def _correlation(e, node, w, frame):
    """Weights (G, K, taps, C) over a frame of `_geometry`."""
    x, _, b, residual = node.inputs
    groups, outputs, *taps, inputs = w.shape
    size, count, steps, start, stride, extent, _ = frame.packed[:21].reshape(7, 3).tolist()
    offsets = np.split(frame.packed[21:], np.cumsum(taps)[:-1])
    first = [int(o[0]) for o in offsets]
    spacing = [int(o[1] - o[0]) if len(o) > 1 else 1 for o in offsets]
    last = [
        (n - 1) * s + int(o[-1]) for n, s, o in zip(count, steps, offsets, strict=True)
    ]  # place that the last window's last tap reads
    padded = min(first) < 0 or any(p >= n for p, n in zip(last, size, strict=True))
    pointwise = (
        groups == math.prod(taps) == 1
        and not padded
        and steps == stride == [1, 1, 1]
        and first == start == [0, 0, 0]
        and size == count == extent
    )
    if pointwise:
        size = count = extent = [1, 1, math.prod(size)]
    tile = _tile(e, node, w, frame)
    length = math.prod(taps) * inputs
    product = length > LONG and outputs >= e.panel and not tile
    depthwise = inputs == outputs == 1 and groups > 1

    def reach(box):
        spans = zip(box, steps, taps, spacing, strict=True)
        return math.prod((n - 1) * s + (t - 1) * d + 1 for n, s, t, d in spans) * groups * inputs

    box = _box(e, list(count), reach, length if product else 0, pointwise)
    scratch = reach(box) + e.panel if padded else 0
    if product:
        scratch += math.prod(box) * (outputs + (0 if pointwise else length))

    lists = (size, count, steps, first, spacing, taps, start, stride, extent)
    content = *map(_list, lists), groups, inputs, outputs, _list(box), int(padded), int(pointwise)
    shape = e.define(f"static const Conv @ = {_list(content)};", "conv")
    e.need("activation", "conv")
    plain, way = "NULL", "sum_box"
    if depthwise:
        e.need("depthwise")
        way, weights = "depthwise_box", e.weights(np.moveaxis(w.reshape(groups, -1), 0, 1))
    else:
        e.need("dense")
        weights = e.weights(_panels(w, e.panel))
    if product:
        e.need("product")
        way, plain = "PRODUCT_BOX", f"PLAIN({e.plain})"
        e.unpacked.append(f"unpack(&{shape}, {weights}, plain + {e.plain});")
        e.plain += w.size
    layer = ", ".join(
        [weights, plain, _bias(e, b, groups * outputs), e.at(residual),
         *e.activation(node.options), e.at(node.output)]
    )  # fmt: skip
    layer = f"make_layer({layer})"
    if tile:
        scratch = reach([1, 1, 1]) if padded else 0  # for tiles by the definition
        scratch += _winograd(e, shape, tile, w.shape, weights, e.at(x), layer)
    else:
        e.need("boxes")
        e.call("conv", f"&{shape}", way, "n", e.at(x), layer, "scratch", "SCRATCH")
    e.scratch = max(e.scratch, scratch)


def _tile(e, node, w, frame):
    """The outputs of a tile, where the plan takes Winograd's algorithm and the C has the scheme."""
    groups, outputs, *taps, inputs = w.shape
    shape = Shape(e.images, groups, outputs, inputs, e.dtype.itemsize)
    _, tile = choose(shape, frame, node.options.get("algorithm", "auto"), True)
    if not tile or frame.step != (1, 1, 1) or taps[0] > 1 or inputs < e.panel:
        return None
    points = {side + reach - 1 for side, reach in zip(tile, taps[1:], strict=True)}
    return tile if points <= set(POINTS) and np.isfinite(w).all() else None


def _winograd(e, shape, tile, w_shape, weights, x, layer):
    """Call it; how many values a thread works in."""
    _, outputs, _, *taps, inputs = w_shape
    scheme = ", ".join(f"{side}, {reach}" for side, reach in zip(tile, taps, strict=True))
    points = [side + reach - 1 for side, reach in zip(tile, taps, strict=True)]
    values = math.prod(points) * (inputs + e.panel)
    block = TILES if values * TILES * e.dtype.itemsize <= TRANSFORMED else TILES // 2
    e.need("winograd")
    function = e.define(f"WINOGRAD(@, {scheme})", "winograd")
    matrices = [e.table(_matrix(n, reach), "double") for n, reach in zip(points, taps, strict=True)]
    u = f"u + {e.transformed}"
    made = f"transformed + {e.transformed}"
    arguments = ", ".join([f"&{shape}", f"&{function}", *matrices, weights, made])
    e.transforms.append(f"transform_weights({arguments});")
    e.transformed += math.prod(points) * inputs * (-(-outputs // e.panel) * e.panel)
    e.call(
        "conv_winograd", f"&{shape}", f"&{function}", block, "n", x, layer, u, "scratch",
        "SCRATCH",
    )  # fmt: skip
    return values * block + 2 * math.prod(points) * e.panel + inputs + e.panel


def _matrix(points, taps):
    """G of F(points - taps + 1, taps): powers of a point, over its distances from the others."""
    known = POINTS[points]
    rows = [
        [p**k / math.prod(p - other for other in known if other != p) for k in range(taps)]
        for p in known
    ]
    return [*rows, [0.0] * (taps - 1) + [1.0]]


def _list(content):
    """Numbers, or texts, as C's initialisers are."""
    return f"{{{', '.join(map(str, content))}}}"


def _box(e, box, reach, length, pointwise):
    """How many pixels a task has along each axis."""
    if pointwise:
        rows = (MATRIX if length else BOX) // (reach([1, 1, 1]) * e.dtype.itemsize)
        return [1, 1, max(FEW, rows // 12 * 12)]

    pixels = math.prod(box)

    def too_large():
        if math.prod(box) >= 2 * FEW and math.prod(box) > pixels / THREADS:
            return True
        if math.prod(box) * length * e.dtype.itemsize > MATRIX:
            return True
        return math.prod(box) > FEW and reach(box) * e.dtype.itemsize > BOX

    while too_large() and math.prod(box) > 1:
        axis = next(i for i, n in enumerate(box) if n > 1)
        box[axis] = -(-box[axis] // 2)
    return box


def _panels(w, panel):
    """(G, K, taps, C) as [group][panel of outputs][tap][input][output of the panel]."""
    groups, outputs, *inner = w.shape
    count = -(-outputs // panel)
    filled = np.zeros((groups, count * panel, *inner), w.dtype)
    filled[:, :outputs] = w
    return np.moveaxis(filled.reshape(groups, count, panel, *inner), 2, -1)


# Windows ------------------------------------------------------------------------------------------


def _pool(e, node, windows, kind, divisor=(), power=1.0, floor=0.0):
    x = e.spec(node.inputs[0])
    e.need("pool")
    divisor = e.table(divisor, "double") if len(divisor) else "NULL"
    e.call(
        "pool", kind, e.table(windows.windows), divisor, number(power), e.real(floor), "n",
        x.shape[1], e.at(node.inputs[0]), e.at(node.output),
    )  # fmt: skip


def _strided(e, node):
    return _geometry.strided_windows(e.spec(node.inputs[0]).shape[2:], *node.options["options"])


def _adaptive(e, node):
    size = e.spec(node.inputs[0]).shape[2:]
    return _geometry.adaptive_windows(size, node.options["output_size"])


def _max_pool(e, node, step):
    _pool(e, node, _strided(e, node), "LARGEST", floor=node.options["floor"])


def _adaptive_max_pool(e, node, step):
    _pool(e, node, _adaptive(e, node), "LARGEST", floor=node.options["floor"])


def _avg_pool(e, node, step):
    windows = _strided(e, node)
    _pool(e, node, windows, "MEAN", windows.divisor)


def _adaptive_avg_pool(e, node, step):
    windows = _adaptive(e, node)
    _pool(e, node, windows, "MEAN", windows.divisor)


def _batched(e, node, given):
    if len(e.spec(node.inputs[0]).shape) != given["n"] + 2:
        raise Unsupported("of an input without a batch")
    return node._replace(options={"floor": -math.inf, **given})


def _avg_call(e, node, step, given):
    node = _batched(e, node, given)
    windows = _strided(e, node)
    divisor = np.ones_like(windows.divisor)
    divisor[: windows.first_axis] = given["divisor"]
    _pool(e, node, windows, "MEAN", divisor)


def _lp_call(e, node, step, given):
    windows = _strided(e, _batched(e, node, given))
    _pool(e, node, windows, "POWERS", windows.divisor / windows.full, given["power"])


def _resample(e, node, step):
    x, *others = map(e.spec, node.inputs)
    given = [None if x is None else s.value for x, s in zip(node.inputs[1:], others, strict=True)]
    tables = RESIZES[node.options["rule"]](x.shape, *given, options=node.options["options"])
    if any(each.outside is not None for each in tables):
        raise Unsupported("with places outside of the input")
    counts = _geometry.three([each.output for each in tables], 1)
    starts, places, weights = pack(tables, np.dtype(np.float64))
    e.need("resample")
    e.call(
        "resample", e.table(_geometry.three(x.shape[2:], 1)), e.table(counts), e.table(starts),
        e.table(places), e.table(weights, "double"), "n", x.shape[1], e.at(node.inputs[0]),
        e.at(node.output),
    )  # fmt: skip


def _area_call(e, node, step, given):
    if given["mode"] != "area":
        raise Unsupported(f"with mode {given['mode']!r}")
    size = e.spec(node.inputs[0]).shape[2:]
    windows = _geometry.adaptive_windows(size, step.shape[2:])
    _pool(e, node, windows, "MEAN", windows.divisor)


# Values -------------------------------------------------------------------------------------------


def _rows(spec):
    """(rows, columns) of a value as a matrix of its channels, for all images, as C."""
    channels = spec.shape[1]
    return f"n * {spec.size // max(channels, 1)}", channels


def _norm(e, node, step):
    x, mean, scale, shift, residual = node.inputs
    spec = e.spec(x)
    mean, scale, shift = (np.broadcast_to(c, spec.shape[1:2]) for c in (mean, scale, shift))
    rounded = mean.astype(e.dtype)
    shift = shift + (rounded - mean) * scale
    e.need("activation", "norm")
    e.call(
        "normalize", *_rows(spec), e.at(x), e.at(rounded), e.at(scale.astype(e.dtype)),
        e.at(shift.astype(e.dtype)), e.at(residual), *e.activation(node.options),
        e.at(node.output),
    )  # fmt: skip


def _prelu(e, node, step):
    x, w = node.inputs
    spec = e.spec(x)
    e.need("prelu")
    slopes = np.broadcast_to(w, spec.shape[1:2])
    e.call("prelu", *_rows(spec), e.at(x), e.at(slopes), e.at(node.output))


def _activated(e, options, expression):
    if options.get("activation", NONE) == NONE:
        return expression
    e.need("activation")
    return f"activated((real)({expression}), {', '.join(e.activation(options))})"


def _unary(e, node, expression, name):
    e.need("elementwise")
    function = e.define(f"UNARY(@, {expression})", name)
    x = node.inputs[0]
    e.call(function, f"n * {e.spec(x).size}", e.at(x), e.at(node.output))


def _rectify(e, node, step):
    _unary(e, node, _activated(e, node.options, "x"), "rectify")


# Of x, with parameters a, b and c.
OF_VALUE = {
    "elu": "x > 0 ? {c} * x : {a} * expm1({b} * x)",
    "gelu": "0.5 * x * erfc(-x * 0.70710678118654752440)",
    "gelu_tanh": "x / (1 + exp(-1.59576912160573071175 * x * (1 + 0.044715 * x * x)))",
    "hardsigmoid": "x < -3 ? 0 : x > 3 ? 1 : (x + 3) / 6",
    "hardswish": "x * (x < -3 ? 0 : x > 3 ? 1 : (x + 3) / 6)",
    "hardtanh": "x < {a} ? {a} : x > {b} ? {b} : x",
    "logsigmoid": "(x < 0 ? x : 0) - log1p(exp(-fabs(x)))",
    "mish": "x * tanh((x < 0 ? 0 : x) + log1p(exp(-fabs(x))))",
    "sigmoid": "1 / (1 + exp(-x))",
    "silu": "x / (1 + exp(-x))",
    "softplus": (
        "{a} * x > {b} ? x : (({a} * x < 0 ? 0 : {a} * x) + log1p(exp(-fabs({a} * x)))) / {a}"
    ),
    "softsign": "x / (1 + fabs(x))",
    "tanh": "tanh(x)",
}  # fmt: skip
# By the names of the operators of `autograd`.
UNARY = {
    "absolute": "fabs(x)",
    "ceil": "ceil(x)",
    "erf": "erf(x)",
    "floor": "floor(x)",
    "negative": "-x",
    "reciprocal": "1 / x",
    "round": "nearbyint(x)",
    "sign": "x > 0 ? 1 : x < 0 ? -1 : x",
    **{name: f"{name}(x)" for name in (
        "acos", "acosh", "asin", "asinh", "atan", "atanh", "cos", "cosh", "exp", "log", "sin",
        "sinh", "sqrt", "tan",
    )},
}  # fmt: skip
BINARY = {
    "add": "a + b",
    "divide": "a / b",
    "fmod": "fmod(a, b)",
    "maximum": "a > b || a != a ? a : b",
    "minimum": "a < b || a != a ? a : b",
    "multiply": "a * b",
    "power": "pow(a, b)",
    "subtract": "a - b",
}


def _of_value(e, node, step):
    name = node.options["function"]
    parameters = (*node.options["parameters"], 0, 0, 0)[:3]
    numbers = dict(zip("abc", (f"({number(p)})" for p in parameters), strict=True))
    _unary(e, node, OF_VALUE[name].format(**numbers), name)


def _clip(e, node, step):
    high = number(node.options["high"])
    low = number(min(node.options["low"], node.options["high"]))  # the upper bound wins
    _unary(e, node, f"x > ({high}) ? ({high}) : x < ({low}) ? ({low}) : x", "clip")


def _arithmetic(e, node, step):
    name = node.options.get("function", "add")
    if len(node.inputs) == 1 and name in UNARY:
        return _unary(e, node, _activated(e, node.options, UNARY[name]), name)
    if len(node.inputs) != 2 or name not in BINARY:
        raise Unsupported(f"({name})")
    output = step.outputs[0]
    order = axes_of(output.shape)
    counts = [output.shape[axis] for axis in order]
    steps = [[_steps(e, x, output)[axis] for axis in order] for x in node.inputs]
    (_, *counts), (first, *a), (second, *b) = counts, *steps
    axes = _joined(list(zip(counts, a, b, strict=True)))
    if len(axes) > MOST_AXES:
        raise Unsupported("of more axes than four that do not join")
    counts, a, b = zip(*([(1, 0, 0)] * (MOST_AXES - len(axes)) + axes), strict=True)
    e.need("elementwise")
    function = e.define(f"BINARY(@, {_activated(e, node.options, BINARY[name])})", name)
    e.call(
        function, "n", e.table(counts), e.table([first, *a, second, *b]),
        *map(e.at, node.inputs), e.at(node.output),
    )  # fmt: skip


def _steps(e, x, output):
    """Of every axis of the output, how far the next value of an operand is."""
    spec = e.spec(x)
    ndim = len(output.shape)
    if isinstance(x, Value) and spec.value is None:
        if len(spec.shape) != ndim:
            raise Unsupported("of values of which one lacks the axis of images")
        image = spec.size
    elif len(spec.shape) == ndim and ndim and spec.shape[0] > 1:
        raise Unsupported("by another constant for each image")
    else:
        image = 0
    ones = spec._replace(dtype=np.dtype(np.uint8))
    array = np.broadcast_to(laid(np.empty(spec.size, np.uint8), ones), output.shape)
    axes = zip(array.strides[1:], array.shape[1:], strict=True)
    return image, *(step if n > 1 else 0 for step, n in axes)


def _joined(axes):
    """Axes (count, steps) of which neighbours are one where steps allow; without those of one."""
    found = []
    for count, *steps in axes:
        if count == 1:
            continue
        if found and all(o == s * count for o, s in zip(found[-1][1:], steps, strict=True)):
            found[-1] = (found[-1][0] * count, *steps)
        else:
            found.append((count, *steps))
    return found


def _softmax(e, node, step, sign=1):
    x = e.spec(node.inputs[0])
    axis = _checks.axis("dim", node.options["dim"], len(x.shape))
    if axis == 0:
        raise Unsupported("along the images")
    order = axes_of(x.shape)
    at, shape = order.index(axis), [x.shape[i] for i in order]
    e.need("softmax")
    e.call(
        "softmax", f"n * {math.prod(shape[1:at])}", shape[at], math.prod(shape[at + 1 :]), sign,
        int(node.options.get("logs", False)), e.at(node.inputs[0]), e.at(node.output),
    )  # fmt: skip


def _softmin_call(e, node, step, given):
    _softmax(e, node._replace(options=given), step, -1)


def _reduce(e, node, step):
    kinds = {"sum": "SUM", "mean": "SUM", "max": "MAXIMUM", "min": "MINIMUM"}
    x, output = e.spec(node.inputs[0]), step.outputs[0]
    axes = [axis % len(x.shape) for axis in node.options["axes"]]
    if 0 in axes:
        raise Unsupported("over the images")
    steps = laid(np.empty(x.size, np.uint8), x._replace(dtype=np.dtype(np.uint8))).strides
    left = [axis for axis in range(len(x.shape)) if node.options["keepdim"] or axis not in axes]
    order = [left[i] for i in axes_of(output.shape) if i]  # of the output's memory, less images
    kept = _joined([(x.shape[a], steps[a]) for a in order if a not in axes])
    gone = _joined([(x.shape[a], steps[a]) for a in axes])
    if max(len(kept), len(gone)) > MOST_AXES:
        raise Unsupported("of more than four axes")
    table = []
    for axes_ in (kept, gone):
        axes_ = [(1, 0)] * (MOST_AXES - len(axes_)) + axes_
        table += [count for count, _ in axes_] + [s for _, s in axes_]
    count = x.size // max(output.size, 1) if node.options["function"] == "mean" else 1
    e.need("reduce")
    e.call(
        "reduce", kinds[node.options["function"]], number(1 / count), e.table(table), "n", x.size,
        e.at(node.inputs[0]), e.at(node.output),
    )  # fmt: skip


def _group_norm(e, node, groups, eps, weight, bias, whole):
    x = e.spec(node.inputs[0])
    places = x.size // x.shape[1]
    e.need("group_norm")
    e.call(
        "group_norm", "n", places, x.shape[1], groups, number(eps), int(whole), e.at(weight),
        e.at(bias), e.at(node.inputs[0]), e.at(node.output),
    )  # fmt: skip


def _of_channels(e, node):
    """Weight and bias of a norm, ones and zeros where there are none."""
    shape = e.spec(node.inputs[0]).shape[1:2]
    constants = zip(node.inputs[1:3], (np.ones, np.zeros), strict=True)
    return [default(shape, e.dtype) if c is None else c for c, default in constants]


def _group_norm_call(e, node, step, given):
    _group_norm(e, node, given["groups"], given["eps"], *_of_channels(e, node), False)


def _instance_norm_call(e, node, step, given):
    channels = e.spec(node.inputs[0]).shape[1]
    _group_norm(e, node, channels, given["eps"], *_of_channels(e, node), False)


def _layer_norm_call(e, node, step, given):
    shape = e.spec(node.inputs[0]).shape
    if tuple(given["shape"]) != shape[1:]:
        raise Unsupported(f"over {tuple(given['shape'])}, less than the image {shape[1:]}")
    constants = zip(node.inputs[1:3], (np.ones, np.zeros), strict=True)
    constants = [
        default(shape, e.dtype) if c is None else np.asarray(c).reshape(shape)
        for c, default in constants
    ]
    _group_norm(e, node, 1, given["eps"], *constants, True)


# Moves --------------------------------------------------------------------------------------------


def _move(e, node, step, given=None):
    """Whatever only moves values of its first input, zeros or a fill among them."""
    specs = [e.spec(x) if isinstance(x, Value) else None for x in node.inputs]
    if any(s is not None and s.value is None for s in specs[1:]):
        raise Unsupported("to places that are computed")
    places = moved(step, node.inputs, specs, 0)
    fill = node.options.get("fill", 0) or 0
    nested = _moves(places)
    if nested is None:
        if fill:
            raise Unsupported("with another fill than 0")
        first, run = runs(places)
        e.need("gather")
        e.call(
            "gather", e.table(first), len(first), run, "n", e.spec(node.inputs[0]).size,
            e.at(node.inputs[0]), e.at(node.output),
        )  # fmt: skip
        return
    if (places < 0).any():
        e.need("fill")
        e.call("fill", f"n * {step.outputs[0].size}", e.real(fill), e.at(node.output))
    _moved(e, node.inputs[0], node.output, nested, step.outputs[0].size)


def _moves(places):
    """(first place of the input, of the output, loops) through what is moved, or None."""
    to = np.flatnonzero(places >= 0)
    if not len(to):
        return None
    nested = loops(np.stack([places[to], to]))
    return None if nested is None else (int(places[to[0]]), int(to[0]), nested)


def _moved(e, x, output, nested, size):
    source, target, axes = nested
    spare = 6 - len(axes)
    axes = [*axes[:1], *[(1, 0, 0)] * spare, *axes[1:]] if axes else [(1, 0, 0)] * 6
    table = e.table([[count for count, *_ in axes], *([a[i] for a in axes] for i in (1, 2))])
    e.need("move")
    e.call(
        "move", table, "n", e.spec(x).size if isinstance(x, Value) else 0,
        f"{e.at(x)} + {source}", size, f"{e.at(output)} + {target}",
    )  # fmt: skip


def _concatenate(e, node, step):
    if node.options["dim"] % len(step.shape) == 0:
        raise Unsupported("of images")
    specs = [e.spec(x) for x in node.inputs]
    values = [s._replace(value=None) for s in specs]
    numbered = [Value(-1 - i) for i in range(len(specs))]
    again = OPERATORS["concatenate"](numbered, node.options, values, None)
    for which, x in enumerate(node.inputs):
        if not specs[which].size:
            continue
        if not isinstance(x, Value) and specs[which].shape[0] > 1:
            raise Unsupported("with another constant for each image")
        nested = _moves(moved(again, numbered, values, which))
        if nested is None:
            raise Unsupported("of values that no few loops move")
        _moved(e, x, node.output, nested, step.outputs[0].size)


def _constant(e, node, step):
    raise Unsupported("that depends on no input")


def _call(e, node, step):
    rule = node.options["rule"]
    if rule not in CALLS:
        raise Unsupported("")
    CALLS[rule](e, node, step, node.options["options"])


def _unary_call(e, node, step, given):
    _arithmetic(e, node._replace(options=given), step)


# Rules that plans have no step for.
CALLS = {
    "autograd.pointwise._unary": _unary_call,
    "autograd.pointwise._binary": _unary_call,
    "functional.activation._softmin_rule": _softmin_call,
    "functional.interpolate._interpolate_rule": _area_call,
    "functional.norm._group_norm_rule": _group_norm_call,
    "functional.norm._instance_norm_rule": _instance_norm_call,
    "functional.norm._layer_norm_rule": _layer_norm_call,
    "functional.pool._avg_rule": _avg_call,
    "functional.pool._lp_rule": _lp_call,
    **dict.fromkeys(
        (
            "autograd.arrays._depth_to_space", "autograd.arrays._expand",
            "autograd.arrays._gather", "autograd.arrays._space_to_depth",
            "autograd.arrays._tile", "autograd.ops._unflatten", "functional.fold._im2col_rule",
            "functional.pad._pad_rule", "functional.pad._pad_arrays",
            "functional.shuffle._channel_shuffle_rule", "functional.shuffle._pixel_shuffle_rule",
            "functional.shuffle._pixel_unshuffle_rule", *VIEWS,
        ),
        _move,
    ),
}  # fmt: skip

EMITTERS = {
    "add": _arithmetic,
    "adaptive_avg_pool": _adaptive_avg_pool,
    "adaptive_max_pool": _adaptive_max_pool,
    "arithmetic": _arithmetic,
    "avg_pool": _avg_pool,
    "call": _call,
    "clip": _clip,
    "concatenate": _concatenate,
    "constant": _constant,
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "linear": _linear,
    "max_pool": _max_pool,
    "norm": _norm,
    "of_value": _of_value,
    "pad": _move,
    "prelu": _prelu,
    "rectify": _rectify,
    "reduce": _reduce,
    "resample": _resample,
    "softmax": _softmax,
    "view": _move,
    "views": _move,
}
