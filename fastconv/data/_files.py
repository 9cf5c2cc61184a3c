"""What the readers of files share."""

import os
from pathlib import Path

# DEFLATE, the compression inside gzip and .npz, expands its input at most 1032 times: a match
# of 258 bytes takes at least 2 bits. A file that promises more is lying.
DEFLATE_MAX_EXPANSION = 1032


def existing_path(name, value):
    """`value` as a Path to something that exists."""
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"{name} must be a str or a path, got {value!r}")
    path = Path(value)
    if not path.exists():
        raise FileNotFoundError(f"{name} {str(path)!r} does not exist")
    return path


def existing_file(name, value):
    """`value` as a Path to a regular file that exists."""
    path = existing_path(name, value)
    if not path.is_file():
        raise ValueError(f"{name} must be a file, got {str(path)!r}")
    return path
