"""Charts, for which Matplotlib is loaded where one is asked for."""

from fastconv import _checks


def figure(**options):
    """An empty Matplotlib figure."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError('--plot needs matplotlib: pip install "fastconv[plot]"') from None
    return Figure(layout="constrained", **options)


def check_path(path):
    """A figure can be saved to `path`."""
    _checks.writable(path)
    kinds = figure().canvas.get_supported_filetypes()
    _checks.one_of("the suffix of --plot", path.suffix[1:].lower(), sorted(kinds))
