"""Markdown tables of what was measured."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass

from fastconv.bench.rivals import TORCH

__all__ = [
    "Column",
    "Summary",
    "against_torch",
    "best",
    "lowest",
    "mean",
    "median",
    "percent",
    "quotient",
    "rate",
    "ratio",
    "table",
    "three_digits",
    "times",
    "took_part",
    "worst_error",
    "worst_errors",
]

NOTHING = "\N{EN DASH}"


# Figures of a record, None where there are none ---------------------------------------------


def took_part(records, name):
    """Whether a contender has a time in any of the records."""
    return any(name in record["seconds"] for record in records)


def median(record, name):
    """Median seconds of a contender."""
    samples = record["seconds"].get(name)
    return statistics.median(samples) if samples else None


def best(record, names):
    """Median seconds of the fastest of these contenders."""
    return min((median(record, name) for name in names if name in record["seconds"]), default=None)


def against_torch(record, name):
    """How many times as long as contender `name` the better of PyTorch's formats takes."""
    return quotient(best(record, TORCH), median(record, name))


def quotient(a, b):
    """a / b, where there are both."""
    return None if a is None or b is None else a / b


def worst_error(record, names):
    """The largest error of any result of any of these contenders."""
    found = (value for name in names for value in record["errors"].get(name, {}).values())
    return max(found, default=None)


# Texts --------------------------------------------------------------------------------------


def three_digits(value):
    """At least three significant digits, never an exponent."""
    return f"{value:.{3 if value < 1 else 2 if value < 10 else 1 if value < 100 else 0}f}"


def milliseconds(seconds):
    """Text of a time."""
    return three_digits(seconds * 1e3)


def ratio(value):
    """Text of a ratio of times."""
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def rate(value):
    """Text of 10^9 per second."""
    return three_digits(value / 1e9)


def percent(share):
    """Text of a share."""
    return f"{100 * share:.0f} %"


def error(value):
    """Text of a relative error."""
    return f"{value:.1e}"


# Tables -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Column:
    """A column: `value` takes a record and gives a figure or None, `form` makes it a text."""

    title: str
    value: Callable
    form: Callable = str

    def text(self, value):
        """`value` as it stands in the table."""
        return NOTHING if value is None else self.form(value)


def every(record):
    """All records count."""
    return True


@dataclass(frozen=True)
class Summary:
    """A row below the layers: `function` of the figures of some columns.

    Left empty in all columns but those of `titles`; `of` says which records count.
    """

    name: str
    function: Callable
    titles: tuple[str, ...]
    of: Callable = every

    def row(self, columns, records):
        """The texts of the row; `name` is completed by the number of records."""
        chosen = [record for record in records if self.of(record)]
        cells = [self.name.format(len(chosen))]
        for column in columns[1:]:
            if column.title in self.titles:
                values = [column.value(record) for record in chosen]
                values = [value for value in values if value is not None]
                cells.append(column.text(self.function(values) if values else None))
            else:
                cells.append("")
        return cells


def mean(*titles, name="geometric mean of {}", of=every):
    """The row of geometric means."""
    return Summary(name, statistics.geometric_mean, titles, of)


def lowest(*titles):
    """The row of the lowest figures."""
    return Summary("lowest of {}", min, titles)


def times(records, names):
    """A column of milliseconds for each of these contenders that took part."""
    return [
        Column(f"{name} ms", lambda record, name=name: median(record, name), milliseconds)
        for name in names
        if took_part(records, name)
    ]


def worst_errors():
    """The columns of errors: fastconv's and that of the worse of PyTorch's formats."""
    return [
        Column("error", lambda record: worst_error(record, ("fastconv",)), error),
        Column("torch error", lambda record: worst_error(record, TORCH), error),
    ]


def table(records, columns, summaries):
    """A row for each record, and the summaries.

    Parameters
    ----------
    records : list of dict
        As :func:`fastconv.bench.harness.measure` returns them.
    columns : list of Column
        The first one names the rows.
    summaries : list of Summary

    Returns
    -------
    str
        Markdown.
    """
    titles = [column.title for column in columns]
    rows = [[column.text(column.value(record)) for column in columns] for record in records]
    return _markdown([titles, *rows, *(summary.row(columns, records) for summary in summaries)])


def _markdown(rows):
    """A table that lines up as plain text too: names to the left, figures to the right."""
    first, *others = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        " | ".join([name.ljust(first), *map(str.rjust, cells, others)]) for name, *cells in rows
    ]
    rule = " | ".join(["-" * first, *("-" * (width - 1) + ":" for width in others)])
    return "\n".join(f"| {line} |" for line in [lines[0], rule, *lines[1:]])
