"""The memory that convolution layers need besides arguments and results, as plans tell it.

fastconv bench --memory
"""

from fastconv.bench import report
from fastconv.bench.algorithms import FIXED, joined, ways
from fastconv.bench.layers import LAYERS, Layer
from fastconv.bench.report import Column

__all__ = ["LARGE", "needed", "run"]

LARGE = Layer("large image", "no network", 1, 64, 64, (2048, 2048), (3, 3), padding=(1, 1))
CAPTION = (
    "float32, 10^6 bytes besides arguments and results: weights as kernels read them, partial "
    "sums, and what each thread works in. 'algorithm' is what is taken, for the output, the "
    "gradient by input and the gradient by weight where they differ; of the phases of a strided "
    "gradient the largest counts. Inputs and gradients are channels-last, as operators return "
    "them; others are copied first. Left out are vectors of a value per channel, and what BLAS "
    "allocates itself."
)


def run(options):
    """Print the table for the options' threads."""
    cases = [(layer, "auto") for layer in LAYERS] + [(LARGE, name) for name in FIXED]
    records = [
        {
            "layer": layer.name,
            "algorithm": joined(ways(layer, algorithm)),
            "bytes": needed(layer, algorithm, options.threads),
        }
        for layer, algorithm in cases
    ]
    print(f"- threads: {options.threads}\n\n{table(records)}\n\n{CAPTION}")


def needed(layer, algorithm, threads):
    """Bytes for the output, the gradient by input and the gradient by weight."""
    return tuple(max(plan.memory(4, threads) for plan in plans) for plans in layer.plans(algorithm))


def table(records):
    """A row for each layer."""
    passes = ("forward", "by input", "by weight")
    columns = [
        Column("layer", lambda record: record["layer"]),
        Column("algorithm", lambda record: record["algorithm"]),
        *(
            Column(f"{name} MB", lambda record, i=i: record["bytes"][i] / 1e6, report.three_digits)
            for i, name in enumerate(passes)
        ),
    ]
    return report.table(records, columns, [])
