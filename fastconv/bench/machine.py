"""What the figures were measured on and with."""

import contextlib
import os
import platform
import re
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import scipy

from fastconv import _config
from fastconv.bench.rivals import torch

__all__ = ["cpu_model", "describe"]


def describe():
    """Lines on the machine and the software."""
    lines = [
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        f"CPU: {cpu_model()}, {os.cpu_count()} logical CPUs",
    ]
    lines += [
        f"{name} {value}"
        for name, value in _config.describe().items()
        if name not in ("folder", "OpenMP file", "BLAS file")  # of one installation
    ]
    for name, module in (("NumPy", np), ("SciPy", scipy)):
        blas = module.show_config(mode="dicts")["Build Dependencies"]["blas"]
        lines.append(f"{name}'s BLAS: {blas.get('name')} {blas.get('version')}")
    if torch is None:
        return [*lines, "PyTorch is not installed"]
    onednn = re.search(r"(?:MKL-DNN|oneDNN) v[\d.]+", torch.__config__.show())
    return [*lines, f"PyTorch {torch.__version__}, {onednn[0] if onednn else 'without oneDNN'}"]


def cpu_model():
    """The processor's name."""
    with contextlib.suppress(OSError):
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M)
        if found:
            return found[1]
    return platform.processor() or platform.machine()
