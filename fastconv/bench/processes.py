"""The memory of processes that train and infer, each started for that alone.

The peak is what the kernel notes of a process's memory map (VmHWM). ``getrusage`` would count in
what the process that started it had taken until then.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np

import fastconv
from fastconv.bench.command import WARM_MALLOC
from fastconv.bench.networks import NETWORKS, torch_network
from fastconv.bench.steps import fastconv_step, torch_step

__all__ = ["SUPPORTED", "growth_of_inference", "peak_of_training"]

STATUS = Path("/proc/self/status")
SUPPORTED = STATUS.exists()
STEPS = 5
SETTLED, INFERENCES = 100, 1000
# A process that uses PyTorch needs NumPy, but not fastconv, which brings the network to it.
PROGRAM = f"""
from pathlib import Path
import numpy
before = Path("{STATUS}").read_text()
from fastconv.bench import processes
processes.main(before)
"""


def peak_of_training(network, batch, threads, memory_format=None):
    """Bytes of a process that trains a network of NETWORKS for a few steps.

    Parameters
    ----------
    network : str
    batch, threads : int
    memory_format : str, optional
        PyTorch's; without one, fastconv trains.
    """
    return _start("train", network, batch, threads, memory_format)


def growth_of_inference(network, batch, threads, settled=SETTLED, inferences=INFERENCES):
    """Bytes after `settled` of `inferences`, and after all, of one plan and inputs of any size.

    Parameters
    ----------
    network : str
        One of NETWORKS that takes images of any size.
    batch, threads, settled, inferences : int
    """
    return _start("infer", network, batch, threads, settled, inferences)


def _start(*arguments):
    environment = {name: value for name, value in os.environ.items() if name not in WARM_MALLOC}
    done = subprocess.run(
        # -P: the package that is installed, not one in the current folder
        [sys.executable, "-P", "-c", PROGRAM, json.dumps(arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        check=True,
    )
    return json.loads(done.stdout)


# In the process that was started ------------------------------------------------------------


def main(before):
    """Do what the command line asks for and print the bytes.

    Parameters
    ----------
    before : str
        The status of the process before fastconv was loaded.
    """
    imported = _bytes("VmRSS") - _bytes("VmRSS", before)
    name, *arguments = json.loads(sys.argv[1])
    print(json.dumps({"train": _train, "infer": _infer}[name](imported, *arguments)))


def _train(imported, name, batch, threads, memory_format):
    network = NETWORKS[name]
    x, labels = network.inputs(batch), network.labels(batch)
    if memory_format is None:
        fastconv.set_num_threads(threads)
        step = fastconv_step(network.model(), x, labels)
    else:
        import torch

        torch.set_num_threads(threads)
        form = getattr(torch, memory_format)
        model = torch_network(network, torch).to(memory_format=form)
        x = torch.from_numpy(x).contiguous(memory_format=form)
        step = torch_step(torch, model, x, torch.from_numpy(labels))
    for _ in range(STEPS):
        step()
    return _bytes("VmHWM") - (imported if memory_format else 0)


def _infer(imported, name, batch, threads, settled, inferences):
    fastconv.set_num_threads(threads)
    network = NETWORKS[name]
    plan = fastconv.compile(network.model().eval(), network.inputs(batch))
    rng = np.random.default_rng(0)
    found = []
    for number in range(1, inferences + 1):
        sizes = rng.integers(network.shape[1] // 2, 2 * network.shape[1], len(network.shape) - 1)
        plan(rng.standard_normal((batch, network.shape[0], *sizes), np.float32))
        if number in (settled, inferences):
            found.append(_bytes("VmRSS"))
    return found


def _bytes(name, status=None):
    """A figure of the process's status."""
    text = STATUS.read_text() if status is None else status
    return 1024 * int(re.search(rf"^{name}:\s*(\d+) kB$", text, re.MULTILINE)[1])
