"""ONNX's own tests of a backend, all of them: each passes, or is out of scope for a reason."""

import re
import unittest
import warnings

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="ONNX's tests come with the package onnx")

# What is out of scope, by operator.
OPERATORS = {
    "recurrent networks": "GRU LSTM RNN",
    "loops, which a plan cannot follow": "Loop Scan",
    "sequences and optionals": (
        "ConcatFromSequence OptionalGetElement OptionalHasElement SequenceAt SequenceConstruct "
        "SequenceEmpty SequenceErase SequenceInsert SequenceLength SequenceMap SplitToSequence"
    ),
    "strings": "RegexFullMatch StringConcat StringNormalizer StringSplit TfIdfVectorizer",
    "quantised networks": (
        "ConvInteger DequantizeLinear DynamicQuantizeLinear MatMulInteger QLinearConv "
        "QLinearMatMul QuantizeLinear"
    ),
    "attention as one operator; what it expands to runs": (
        "Attention CausalConvWithState LinearAttention RotaryEmbedding TensorScatter"
    ),
    "spectra and windows of audio": (
        "BlackmanWindow DFT HammingWindow HannWindow MelWeightMatrix STFT"
    ),
    "random numbers that no test can know": "Bernoulli RandomUniformLike",
    "sampling at places that a network computes": "AffineGrid DeformConv GridSample RoiAlign",
    "results whose size depends on values": "NonMaxSuppression Unique",
    "of no convolutional network": "CenterCropPad ImageDecoder ReverseSequence",
}
# What is out of scope, by what the error says or by the test's name.
PATTERNS = {
    r"domain 'ai\.onnx\.(ml|preview|preview\.training)'": "domains other than ONNX's own",
    r"element type (BFLOAT16|FLOAT8\w+|FLOAT4E2M1|U?INT[24]|STRING)": "dtypes that NumPy has not",
    r"must be a tensor, is a (sequence|optional)_type": "sequences and optionals",
    r"^test_training_dropout(_default)?(_mask)?_cpu$": "random numbers that no test can know",
    r"^test_attention_4d_causal_fp16_expanded_cpu$": "sums of float16 in another order",
}
# Tests that passed with this version of onnx.
PASSED = {
    "1.23": {"Node": 1317, "Simple": 7, "Real": 9, "PyTorchConverted": 82, "PyTorchOperator": 35}
}


@pytest.fixture(scope="module")
def suite():
    """{category: test case} of the whole suite, on this backend."""
    from onnx.backend.test import BackendTest

    from fastconv.onnx import backend

    with warnings.catch_warnings():  # of the tests' own expected values
        warnings.simplefilter("ignore")
        return BackendTest(backend, __name__).test_cases


def reason_of(name, message):
    """Why a test that fails with this message is out of scope, or None."""
    found = re.search(r"operator (\w+) is not supported", message)
    for reason, operators in OPERATORS.items():
        if found and found[1] in operators.split():
            return reason
    for pattern, reason in PATTERNS.items():
        if re.search(pattern, message) or re.search(pattern, name):
            return reason
    return None


@pytest.mark.parametrize("category", PASSED["1.23"])
@pytest.mark.filterwarnings("ignore")  # the runner's
def test_suite(category, suite, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ONNX_HOME", str(tmp_path))
    case = suite[f"OnnxBackend{category}ModelTest"]
    passed, skipped, failed = 0, {}, []
    for name in unittest.defaultTestLoader.getTestCaseNames(case):
        if name.endswith("_cuda"):
            continue
        try:
            getattr(case(name), name)()
            passed += 1
        except Exception as error:
            reason = reason_of(name, str(error))
            if reason is None:
                failed.append(f"{name}: {error}")
            else:
                skipped[reason] = skipped.get(reason, 0) + 1
    with capsys.disabled():
        print(f"\nONNX {onnx.__version__}, {category}: {passed} passed", end="")
        for reason, count in sorted(skipped.items()):
            print(f"\n  {count:4} out of scope: {reason}", end="")
    assert failed == []
    known = PASSED.get(".".join(onnx.__version__.split(".")[:2]), {})
    assert passed >= known.get(category, 1)


def test_what_is_out_of_scope_is_not_supported():
    from fastconv.onnx import OnnxError
    from fastconv.onnx.registry import find

    for operators in OPERATORS.values():
        for name in operators.split():
            with pytest.raises(OnnxError, match="is not supported"):
                find(name, 20, "node")


def test_protocol():
    from fastconv.onnx import OnnxError, backend

    made = onnx.helper.make_node("Clip", ["x", "", "top"], ["y"])
    x = np.array([-3.0, 2.0, 9.0], np.float32)
    (y,) = backend.run_node(made, [x, np.array(4, np.float32)], opset_version=13)
    assert y.tolist() == [-3, 2, 4]
    assert [backend.supports_device(d) for d in ("CPU", "CPU:0", "CUDA")] == [True, True, False]
    with pytest.raises(OnnxError, match="device must be CPU, got CUDA"):
        backend.prepare(onnx.ModelProto(), "CUDA")
    with pytest.raises(TypeError, match="model must be a ModelProto, got bytes"):
        backend.prepare(b"")
