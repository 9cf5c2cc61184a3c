"""Whole networks: training beside PyTorch, inference beside ONNX Runtime and OpenVINO, memory.

fastconv bench nets
"""

import importlib.util
import tempfile
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import fastconv
from fastconv.bench import harness, processes, report
from fastconv.bench.networks import NETWORKS, Network, torch_network
from fastconv.bench.report import Column
from fastconv.bench.rivals import TORCH, Rival, channels_last, set_num_threads, torch
from fastconv.bench.steps import fastconv_step, torch_step

__all__ = ["LAYERS", "Case", "run"]

RUNTIMES = {"ONNX Runtime": "onnxruntime", "OpenVINO": "openvino"}  # and their packages
FORMATS = dict(zip(TORCH, ("contiguous_format", "channels_last"), strict=True))
PASSES = INFERENCE, TRAINING = ("inference", "training")
PEAK, GROWTH = f"peak memory of {processes.STEPS} steps", "memory at many sizes"
BUDGET = 5  # times that of a layer: a step of training may take a second
# A value near zero that has another sign in float32 passes ReLU there but not in float64, which
# changes gradients by more than rounding does.
WRONG_TRAINING = 0.05
CAPTION = (
    "'vs torch' is the time of the better of PyTorch's two formats over the time of fastconv, 'vs "
    "runtimes' that of the better of ONNX Runtime and OpenVINO, above 1 where fastconv is faster; "
    "of memory, the same of bytes, above 1 where fastconv needs less. An error is the largest one "
    "over the largest value, against PyTorch in float64: of the output in inference; in training "
    "the worse of the loss and of all gradients together, of the first step, where activations "
    "near zero that fall to the other side cost every contender its digits. 'torch error' is the "
    "worse of the two formats."
)


@dataclass(frozen=True)
class Case:
    """A network, and which of PASSES, PEAK and GROWTH is measured of it."""

    network: Network
    batch: int
    kind: str
    quick: bool = False

    @property
    def name(self):
        return f"{self.network.name} batch {self.batch}, {self.kind}"

    @property
    def origin(self):
        return self.network.origin


def run(options):
    """Measure the options' cases; print and write what was found."""
    set_num_threads(options.threads)
    options.budget *= BUDGET
    records = harness.every_layer(options, measure)
    about = harness.describe(options, *map(describe_runtime, RUNTIMES))
    harness.publish(options, about, records, table, CAPTION)


def describe_runtime(name):
    """A line on ONNX Runtime or OpenVINO."""
    return f"{name} {version(RUNTIMES[name])}" if installed(name) else f"{name} is not installed"


def installed(name):
    """Whether ONNX Runtime or OpenVINO can be imported."""
    return importlib.util.find_spec(RUNTIMES[name]) is not None


def measure(case, options):
    """The record of a case, or none where it is not wanted or cannot be measured."""
    if case.kind in (TRAINING, PEAK) and not options.backward:
        return []
    if case.kind in PASSES:
        return (training if case.kind == TRAINING else inference)(case, options)
    if not processes.SUPPORTED:
        return []
    taken = (peak if case.kind == PEAK else growth)(case, options.threads)
    return [{"layer": case.name, "origin": case.origin, "pass": case.kind, "bytes": taken}]


# Training -----------------------------------------------------------------------------------


def training(case, options):
    """Times of a step, and errors of the first one where PyTorch can be asked in float64."""
    network, batch = case.network, case.batch
    model, x, labels = network.model(), network.inputs(batch), network.labels(batch)
    expected, rivals = (), []
    if torch is not None:
        targets = torch.from_numpy(labels)
        exact = torch_network(network, torch, model.state_dict()).double()
        loss, gradients = torch_step(torch, exact, torch.from_numpy(x).double(), targets)()
        expected = loss.numpy(), [gradient.numpy() for gradient in gradients]
        rivals = [
            Rival(column, None, torch_step(torch, net, inputs, targets))
            for column, net, inputs in torch_formats(network, model, x)
        ]
    ours = Rival("fastconv", None, fastconv_step(model, channels_last(x), labels))
    results = "loss", "gradients"
    return harness.measure(
        case, options, [ours, *rivals], expected, ({}, {}), PASSES, results, WRONG_TRAINING
    )


def torch_formats(network, model, x):
    """(column, the network, its input); PyTorch has no channels_last for signals."""
    for column, name in FORMATS.items():
        if name == "contiguous_format" or x.ndim == 4:
            form = getattr(torch, name)
            net = torch_network(network, torch, model.state_dict()).to(memory_format=form)
            yield column, net, torch.from_numpy(x).contiguous(memory_format=form)


# Inference ----------------------------------------------------------------------------------


def inference(case, options):
    """Times and errors of the output, which need PyTorch in float64 as well."""
    network = case.network
    model, x = network.model().eval(), network.inputs(case.batch)
    expected, rivals = (), []
    if torch is not None:
        exact = torch_network(network, torch, model.state_dict()).double().eval()
        with torch.inference_mode():
            expected = (exact(torch.from_numpy(x).double()).numpy(),)
        del exact  # a gigabyte of VGG-16
        rivals = [
            *runtime_forms(network, model, x, options.threads),
            *(
                Rival(column, torch_inference(net.eval(), inputs))
                for column, net, inputs in torch_formats(network, model, x)
            ),
        ]
    plan = fastconv.compile(model, x)
    ours = Rival("fastconv", lambda: plan(x))
    return harness.measure(case, options, [ours, *rivals], expected, ({}, {}), PASSES)


def torch_inference(net, x):
    def call():
        with torch.inference_mode():
            return net(x)

    return call


def runtime_forms(network, model, x, threads):
    """ONNX Runtime and OpenVINO on what PyTorch exports, which the package onnx writes."""
    if importlib.util.find_spec("onnx") is None:
        return []
    net = torch_network(network, torch, model.state_dict()).eval()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        with warnings.catch_warnings():
            # It says that a newer exporter is there, which needs one package more.
            warnings.simplefilter("ignore", DeprecationWarning)
            torch.onnx.export(net, (torch.from_numpy(x),), path, dynamo=False)
        return [
            Rival(name, load(path, x, threads))
            for name, load in (("ONNX Runtime", onnx_runtime), ("OpenVINO", openvino))
            if installed(name)
        ]


def onnx_runtime(path, x, threads):
    """A call of the network in a file."""
    session = onnx_session(path, threads)
    inputs = {session.get_inputs()[0].name: x}
    return lambda: session.run(None, inputs)[0]


def onnx_session(path, threads):
    """ONNX Runtime's of the network in a file."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def openvino(path, x, threads):
    """A call of the network in a file, in float32, which OpenVINO need not take of itself."""
    import openvino

    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
    }
    network = openvino.Core().compile_model(path, "CPU", settings)
    return lambda: network(x)[0]


# Memory -------------------------------------------------------------------------------------


def peak(case, threads):
    """{contender: bytes of a process that trains}"""
    contenders = {"fastconv": None} | (FORMATS if torch is not None else {})
    return {
        column: processes.peak_of_training(case.network.name, case.batch, threads, memory_format)
        for column, memory_format in contenders.items()
    }


def growth(case, threads):
    """Bytes of a process that infers from inputs of many sizes, earlier and later."""
    return processes.growth_of_inference(case.network.name, case.batch, threads)


# Tables -------------------------------------------------------------------------------------


def table(records):
    """A row for each case of one kind, and a summary of times."""
    tables = {PEAK: peak_table, GROWTH: growth_table}
    return tables.get(records[0]["pass"], times_table)(records)


NAME = Column("network", lambda record: record["layer"])


def times_table(records):
    """Medians, ratios, their geometric means and the lowest of them."""
    runtimes = [name for name in RUNTIMES if report.took_part(records, name)]

    def against_runtimes(record):
        return report.quotient(report.best(record, runtimes), report.median(record, "fastconv"))

    ratios = [
        Column("vs torch", lambda record: report.against_torch(record, "fastconv"), report.ratio)
    ]
    if runtimes:
        ratios.insert(0, Column("vs runtimes", against_runtimes, report.ratio))
    errors = [
        Column(
            f"{name} error",
            lambda record, name=name: report.worst_error(record, (name,)),
            report.error,
        )
        for name in runtimes
    ]
    columns = [
        NAME,
        *report.times(records, ("fastconv", *RUNTIMES, *TORCH)),
        *ratios,
        *report.worst_errors(),
        *errors,
    ]
    compared = [column.title for column in ratios]
    return report.table(records, columns, [report.mean(*compared), report.lowest(*compared)])


def peak_table(records):
    """Bytes of each contender, and how many times as many PyTorch takes."""

    def against_torch(record):
        taken = record["bytes"]
        least = min((taken[name] for name in TORCH if name in taken), default=None)
        return report.quotient(least, taken["fastconv"])

    columns = [
        Column(
            f"{name} MB", lambda record, name=name: record["bytes"][name] / 1e6, report.three_digits
        )
        for name in records[0]["bytes"]
    ]
    return report.table(
        records, [NAME, *columns, Column("vs torch", against_torch, report.ratio)], []
    )


def growth_table(records):
    """Bytes and their growth in per cent."""

    def grown(record):
        earlier, later = record["bytes"]
        return 100 * (later - earlier) / earlier

    columns = [
        Column(
            f"after {count} MB", lambda record, i=i: record["bytes"][i] / 1e6, report.three_digits
        )
        for i, count in enumerate((processes.SETTLED, processes.INFERENCES))
    ]
    return report.table(records, [NAME, *columns, Column("growth", grown, "{:+.2f} %".format)], [])


# What is measured ---------------------------------------------------------------------------

LAYERS = tuple(
    Case(NETWORKS[name], batch, kind, quick)
    for kind, name, batch, quick in (
        (TRAINING, "LeNet", 128, True),
        (TRAINING, "ResNet-20", 128, False),
        (TRAINING, "ResNet-18 CIFAR", 64, False),
        (TRAINING, "1-D", 32, False),
        (INFERENCE, "LeNet", 1, True),
        (INFERENCE, "LeNet", 128, False),
        (INFERENCE, "1-D", 1, False),
        (INFERENCE, "ResNet-20", 1, True),
        (INFERENCE, "ResNet-20", 128, False),
        (INFERENCE, "ResNet-18 CIFAR", 32, False),
        (INFERENCE, "ResNet-18", 1, False),
        (INFERENCE, "ResNet-18", 8, False),
        (INFERENCE, "ResNet-50", 1, False),
        (INFERENCE, "MobileNetV2", 1, True),
        (INFERENCE, "MobileNetV2", 8, False),
        (INFERENCE, "VGG-16", 1, False),
        (PEAK, "ResNet-18 CIFAR", 64, False),
        (GROWTH, "ResNet-20", 1, False),
    )
)
