"""Plans for inference: a model traced once, fused, and run in memory laid out ahead."""

from fastconv.compiler.plan import InferencePlan, compile, load_plan

__all__ = ["InferencePlan", "compile", "load_plan"]
