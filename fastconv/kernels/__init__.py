"""Compiled loops: typed memoryviews in, results written to arrays that the caller gives.

Spatial arrays are channels-last with three spatial axes, ``(N, D, H, W, C)`` and
C-contiguous; fewer axes are leading axes of length one. Nothing here checks its
arguments: :mod:`fastconv.functional` does, before any kernel runs.

Every kernel is compiled for the platform's baseline, in this folder, and where the compiler
can, once more for each better instruction set, in the folder of its name, unless the next one
does as well. The best that the processor has is chosen here, at import; ``FASTCONV_ISA`` in the
environment forces another.
"""

import os
from pathlib import Path

from fastconv.kernels import _build

__all__ = ["ISA", "available", "built"]


def built():
    """Instruction sets that the kernels are built for, best first."""
    here = Path(__path__[-1])
    return *(level for level in _build.LEVELS if (here / level).is_dir()), "baseline"


def available():
    """Those that are built and that this processor runs, best first."""
    found = set(_build.FEATURES)
    return tuple(level for level in built() if _build.LEVELS.get(level, set()) <= found)


ISA = os.environ.get("FASTCONV_ISA") or available()[0]
if ISA not in available():
    raise ImportError(
        f"FASTCONV_ISA={ISA!r} must be an instruction set that fastconv is built for and this "
        f"processor has: {', '.join(map(repr, available()))}"
    )
__path__[:0] = [
    str(Path(__path__[-1]) / level) for level in available()[available().index(ISA) : -1]
]
