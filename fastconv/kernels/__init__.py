"""Compiled loops: typed memoryviews in, results written to arrays that the caller gives.

Spatial arrays are channels-last with three spatial axes, ``(N, D, H, W, C)`` and
C-contiguous; fewer axes are leading axes of length one. Nothing here checks its
arguments: :mod:`fastconv.functional` does, before any kernel runs.
"""
