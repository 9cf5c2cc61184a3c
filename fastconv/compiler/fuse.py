"""Fewer operators that compute the same: passes over a graph."""

import math

import numpy as np

from fastconv import _checks, _geometry
from fastconv._activation import NONE, RELU
from fastconv.compiler.operators import OPERATORS
from fastconv.compiler.step import Value

__all__ = ["fuse", "join_views"]

# Operators of x, weights, bias and residual, and those that end with an activation.
PRODUCTS = "conv", "conv_transpose", "linear"
ACTIVATED = *PRODUCTS, "add", "arithmetic", "norm"
# Views that may make a row of each image.
RESHAPES = {
    "autograd.arrays._matrix", "autograd.arrays._view", "autograd.ops._flatten",
    "autograd.ops._reshape",
}  # fmt: skip
VIEWS = {"view", "views"}


def fuse(graph):
    """The graph with every pass done until none finds anything more."""
    nodes = None
    passes = (
        _fold_norms, _add_residuals, _activate, _pool_relus, _flatten_images, _pad_convs, _swish,
    )  # fmt: skip
    while nodes != [node.outputs for node in graph.nodes]:
        nodes = [node.outputs for node in graph.nodes]
        for one_pass in passes:
            graph = one_pass(graph)
    return graph


def _rewrite(graph, match):
    """Each node, with the one that makes its input x, offered to ``match(node, maker, x)``.

    Where x has no other use and a node is returned, that one takes the place of both.
    """
    found = _find(graph, match)
    while found is not None:
        place, gone, node = found
        nodes = list(graph.nodes)
        nodes[place] = node._replace(outputs=nodes[place].outputs)
        del nodes[gone]
        graph = graph._replace(nodes=nodes)
        found = _find(graph, match)
    return graph


def _find(graph, match):
    """(place of the node, place of the one before, what both become), or None."""
    uses, makers = graph.uses(), {}
    for place, node in enumerate(graph.nodes):
        makers.update((value, place) for value in node.made())
        for value in node.values():
            if value in makers and uses[value] == 1:
                found = match(node, graph.nodes[makers[value]], value)
                if found is not None:
                    return place, makers[value], found
    return None


def _fold_norms(graph):
    """conv or linear, then norm: W' = s W and b' = s (b - mean) + shift, in float64.

    Of two norms, the first of scale t: s t, and s (its shift - mean) + shift.
    """

    def match(node, maker, value):
        if node.operator != "norm" or maker.operator not in (*PRODUCTS, "norm"):
            return None
        _, mean, scale, shift, added = node.inputs
        if value != node.inputs[0] or maker.inputs[-1] is not None or _activation(maker) != NONE:
            return None
        if maker.operator == "norm":
            x, before, first, b, _ = maker.inputs
            factors = before, scale * first, scale * (b - mean) + shift
            inputs = x, *map(np.array, np.broadcast_arrays(*factors)), added
            return maker._replace(inputs=inputs, options=node.options)
        x, w, b, _ = maker.inputs
        shape = len(w), *[1] * (w.ndim - 1)  # of what scales each output's weights
        grouped = w
        if maker.operator == "conv_transpose":
            groups = maker.options["geometry"][4]
            grouped = w.reshape(groups, len(w) // groups, *w.shape[1:])
            shape = groups, 1, w.shape[1], *[1] * (w.ndim - 2)
        outputs = math.prod(shape)
        if scale.ndim and len(scale) != outputs:  # as linear's of more axes
            return None
        mean, scale, shift = (np.broadcast_to(c, outputs) for c in (mean, scale, shift))
        weights = (grouped * scale.reshape(shape)).reshape(w.shape)
        b = shift + scale * ((0 if b is None else b.astype(np.float64)) - mean)
        inputs = x, weights.astype(w.dtype), b.astype(w.dtype), added
        options = {**maker.options, "activation": _activation(node)}
        return maker._replace(inputs=inputs, options=options)

    return _rewrite(graph, match)


def _add_residuals(graph):
    """conv, linear or norm, then add: the other summand is the first's residual."""

    def match(node, maker, value):
        takes = maker.operator in (*PRODUCTS, "norm")
        if node.operator != "add" or not takes or maker.inputs[-1] is not None:
            return None
        a, b = node.inputs
        if a == b or _activation(maker) != NONE:
            return None
        inputs = *maker.inputs[:-1], b if value == a else a
        return maker._replace(
            inputs=inputs, options={**maker.options, "activation": _activation(node)}
        )

    return _rewrite(graph, match)


def _activate(graph):
    """Anything that can, then a rectifier."""

    def match(node, maker, value):
        if node.operator != "rectify" or maker.operator not in ACTIVATED:
            return None
        if _activation(maker) != NONE:
            return None
        return maker._replace(options={**maker.options, "activation": _activation(node)})

    return _rewrite(graph, match)


def _pool_relus(graph):
    """ReLU and maximum commute: the maximum then starts at zero."""

    def match(node, maker, value):
        if node.operator not in ("max_pool", "adaptive_max_pool") or maker.operator != "rectify":
            return None
        if _activation(maker) != RELU or node.options["floor"] > -math.inf:
            return None
        return node._replace(inputs=maker.inputs, options={**node.options, "floor": 0.0})

    return _rewrite(graph, match)


def _flatten_images(graph):
    """flatten, then linear: the rows of weights are sorted as images lie in memory."""

    def match(node, maker, value):
        if node.operator != "linear" or maker.operator != "view":
            return None
        if maker.options["rule"] not in RESHAPES or value != node.inputs[0]:
            return None
        # Of other sizes too, linear's number of features lets it be nothing else.
        n, *image = graph.shapes[maker.inputs[0]]
        if not 2 <= len(image) <= 4 or graph.shapes[value] != (n, math.prod(image)):
            return None
        x, (_, w, *others) = maker.inputs[0], node.inputs
        w = w.reshape(len(w), image[0], -1).transpose(0, 2, 1).reshape(w.shape)
        options = {**node.options, "image": image[0]}
        return node._replace(inputs=(x, w, *others), options=options)

    return _rewrite(graph, match)


def _swish(graph):
    """x sigmoid(x) is one function of x."""

    def match(node, maker, value):
        if node.operator != "arithmetic" or maker.operator != "of_value":
            return None
        function, (x,) = maker.options["function"], maker.inputs
        multiplies = node.options["function"] == "multiply" and _activation(node) == NONE
        if function != "sigmoid" or not multiplies or set(node.values()) != {x, value}:
            return None
        return maker._replace(options={**maker.options, "function": "silu"})

    return _rewrite(graph, match)


def _pad_convs(graph):
    """Zeros around all but batch and channels, then conv: the convolution pads."""

    def match(node, maker, value):
        if node.operator != "conv" or maker.operator != "pad" or value != node.inputs[0]:
            return None
        n, stride, padding, dilation, groups = node.options["geometry"]
        if len(maker.inputs) > 1 or (isinstance(padding, str) and padding != "valid"):
            return None  # for what follows the input's size
        outer, around = maker.options["pairs"][:2], maker.options["pairs"][2:]
        if maker.options["fill"] or np.any(outer) or np.min(around, initial=0) < 0:
            return None
        kernel = node.inputs[1].shape[2:]
        stride, dilation = (_checks.integers("", size, n) for size in (stride, dilation))
        pairs = _geometry.padding_pairs(padding, n, kernel, stride, dilation)
        pairs = tuple((a + c, b + d) for (a, b), (c, d) in zip(pairs, around, strict=True))
        inputs = maker.inputs[0], *node.inputs[1:]
        geometry = n, stride, pairs, dilation, groups
        return node._replace(inputs=inputs, options={**node.options, "geometry": geometry})

    return _rewrite(graph, match)


def join_views(graph, specs, steps):
    """Views of views, where each would move its values: they are moved once.

    `steps`, by output, gets those of the new nodes.
    """

    def match(node, maker, value):
        if not VIEWS.issuperset((node.operator, maker.operator)) or value != node.inputs[0]:
            return None
        if steps[node.output].alias or steps[maker.output].alias:
            return None
        inputs = *maker.inputs, *node.inputs[1:]
        options = {"views": (*_views(maker), *_views(node))}
        step = OPERATORS["views"](
            inputs, options, [specs[x] if isinstance(x, Value) else None for x in inputs], None
        )
        if step is None:
            return None
        steps[node.output] = step
        return node._replace(operator="views", inputs=inputs, options=options)

    return _rewrite(graph, match)


def _views(node):
    """(rule, options, number of inputs besides the first) of each."""
    if node.operator == "views":
        return node.options["views"]
    return ((node.options["rule"], node.options["options"], len(node.inputs) - 1),)


def _activation(node):
    return node.options["activation"]
