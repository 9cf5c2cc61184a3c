"""Trained networks as plain C: no Python, and no library but C's own, where they run."""

from fastconv.cexport.writer import export_c

__all__ = ["export_c"]
