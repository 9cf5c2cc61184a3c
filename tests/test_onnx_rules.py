"""What can be said of exported models where the onnx package is not installed."""

import subprocess
import sys

from fastconv.kernels.pointwise import NUMBERS

from fastconv.autograd import pointwise, reductions
from fastconv.compiler.rules import RULES
from fastconv.onnx import emit_activations, emit_tensors, writer


def test_every_function_of_one_value_is_written():
    assert set(emit_activations.FUNCTIONS) == set(NUMBERS)
    assert set(emit_tensors.UNARY) == set(pointwise.UNARY)
    assert set(emit_tensors.BINARY) == set(pointwise.BINARY)
    assert set(emit_tensors.REDUCTIONS) == set(reductions.REDUCTIONS)


def test_every_rule_is_written_or_listed_with_a_reason():
    missing = {name for name in RULES if name not in writer.EMITTERS}
    assert missing == set(writer.NOT_WRITTEN) & set(RULES)
    assert set(writer.EMITTERS) <= set(RULES)
    assert not set(writer.EMITTERS) & set(writer.NOT_WRITTEN)


def test_import_does_not_need_onnx():
    code = "import sys, fastconv; assert 'onnx' not in sys.modules"
    subprocess.run([sys.executable, "-P", "-c", code], check=True)
