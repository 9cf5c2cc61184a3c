"""Numbers that a trace fixes though they follow the inputs' sizes: found by tracing other sizes."""

from dataclasses import dataclass

import numpy as np

from fastconv.compiler.graph import Graph, Value, prune, trace

__all__ = ["Size", "example_of", "follow"]


@dataclass(frozen=True)
class Size:
    """An integer that follows the length of dynamic axes: ``slope * symbol + offset``.

    Without a symbol it follows them in another way.
    """

    values: tuple  # in all traces, the example's first
    symbol: str = ""
    slope: int = 0
    offset: int = 0

    def __str__(self):
        if not self.symbol:
            return "?"
        text = self.symbol if self.slope == 1 else f"{self.slope}*{self.symbol}"
        return f"{text}{self.offset:+}" if self.offset else text

    def __index__(self):
        law = f"as {self}" if self.symbol else "in a way that is not linear"
        raise ValueError(
            f"the number that is {self.values[0]} for the example follows a dynamic axis {law}, "
            "which cannot be written here; pass dynamic=False, or dynamic={...} without that axis"
        )

    __int__ = __float__ = __index__


def example_of(n):
    """A size in the trace."""
    return n.values[0] if isinstance(n, Size) else n


def follow(model, examples, symbols):
    """The graph of a model, its numbers that follow dynamic axes as :class:`Size`.

    `symbols` maps names to the axes that have one length: [(number of the input, axis), ...].
    """
    graph = prune(trace(model, examples, copied=False)[0])
    lengths, variants = [], []
    for symbol, axes in symbols.items():
        found = {examples[i].shape[axis] for i, axis in axes}
        if len(found) > 1 or 0 in found:
            raise ValueError(
                f"the dynamic axes {symbol!r} must have one length of at least 1 in the example, "
                f"got {sorted(found)}; name them apart with dynamic={{input: {{axis: name}}}}"
            )
        lengths.append((symbol, found.pop()))
        for times in (2, 3):
            others = list(examples)
            for i, axis in axes:
                others[i] = np.concatenate([others[i]] * times, axis=axis)
            variants.append(_variant(model, others, symbol))
    return _Merge(lengths).graph(graph, variants) if variants else graph


def _variant(model, examples, symbol):
    try:
        return prune(trace(model, examples, copied=False)[0])
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        shapes = ", ".join(str(x.shape) for x in examples)
        raise ValueError(
            f"the model does not take another length of the dynamic axis {symbol!r} (inputs of "
            f"shape {shapes}): {error}; pass dynamic=False for fixed sizes"
        ) from error


class _Merge:
    """Traces of the example and, for each symbol, of two and three times its length, as one."""

    def __init__(self, lengths):
        self.lengths = lengths

    def graph(self, first, others):
        graphs = [first, *others]
        self.where = "the list of operators"
        self._same([[node.options.get("rule") for node in graph.nodes] for graph in graphs])
        self._same([(graph.inputs, graph.outputs) for graph in graphs])
        nodes = []
        for node, *alike in zip(*(graph.nodes for graph in graphs), strict=True):
            self.where = node.options.get("rule") or "a constant"
            self._same([(n.values(), n.outputs) for n in (node, *alike)])
            inputs = self.merge([n.inputs for n in (node, *alike)])
            options = dict(node.options)
            if "options" in options:
                options["options"] = self.merge([n.options["options"] for n in (node, *alike)])
            nodes.append(node._replace(inputs=inputs, options=options))
        shapes = {}
        for value in (*first.inputs, *(value for node in nodes for value in node.made())):
            self.where = "a shape"
            shapes[value] = self.merge([graph.shapes[value] for graph in graphs])
        return Graph(first.inputs, nodes, first.outputs, first.several, shapes, first.dtypes)

    def merge(self, items):
        """What is one in all traces, or numbers that follow the symbols, at any depth."""
        first = items[0]
        if all(x is first for x in items):
            return first
        self._same([type(x) for x in items])
        if isinstance(first, Value):
            return self._same(items)
        if isinstance(first, slice):
            parts = self.merge([(s.start, s.stop, s.step) for s in items])
            return slice(*parts)
        if isinstance(first, dict):
            return {key: self.merge([x[key] for x in items]) for key in first}
        if isinstance(first, (tuple, list)):
            self._same([len(x) for x in items])
            parts = [self.merge(list(part)) for part in zip(*items, strict=True)]
            return type(first)(*parts) if hasattr(first, "_fields") else type(first)(parts)
        if isinstance(first, (int, np.integer)) and not isinstance(first, bool):
            return self._size(items)
        return self._same(items)

    def _same(self, items):
        first = items[0]
        for x in items[1:]:
            if isinstance(first, np.ndarray) or isinstance(x, np.ndarray):
                same = type(x) is type(first) and np.array_equal(x, first, equal_nan=True)
            else:
                same = x is first or x == first
            if not same:
                raise ValueError(
                    f"the model computes something else for other lengths of the dynamic axes "
                    f"{', '.join(symbol for symbol, _ in self.lengths)}: {self.where} differs; "
                    "pass dynamic=False for fixed sizes"
                )
        return first

    def _size(self, items):
        """The linear law of an integer, if it follows one symbol alone."""
        first, *others = values = tuple(map(int, items))
        changes = [
            (symbol, length, others[2 * i] - first, others[2 * i + 1] - first)
            for i, (symbol, length) in enumerate(self.lengths)
        ]
        changes = [change for change in changes if change[2] or change[3]]
        if not changes:
            return first
        ((symbol, length, once, twice), *more) = changes
        if more or twice != 2 * once or once % length:
            return Size(values)
        slope = once // length
        return Size(values, symbol, slope, first - slope * length)
