"""The benchmark command: its table, its chart and its file, and the results that it times."""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = Path(__file__).parents[1] / "benchmarks" / "conv.py"
LAYER = "MobileNetV2 3x3 384 @14 depthwise batch 1"

pytestmark = pytest.mark.skipif(
    not COMMAND.is_file(), reason="the folder benchmarks is not beside tests"
)


def run(folder, *arguments):
    return subprocess.run(
        [sys.executable, str(COMMAND), *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONUTF8": "1"},
        capture_output=True,
        encoding="utf-8",
        timeout=600,
        check=False,
    )


def tables(text):
    """Every Markdown table of the text, as a list of {title: cell}."""
    found = []
    for block in text.split("\n\n"):
        if block.startswith("|"):
            titles, _, *rows = (
                [cell.strip() for cell in line.split("|")[1:-1]] for line in block.splitlines()
            )
            found.append([dict(zip(titles, row, strict=True)) for row in rows])
    return found


def test_quick_run(tmp_path):
    pytest.importorskip("matplotlib")
    arguments = ("--quick", "--rounds", "1", "--layers", LAYER, "--json", "samples.json")
    done = run(tmp_path, *arguments)
    assert done.returncode == 0, done.stderr

    forward, both = tables(done.stdout)
    for (row, mean, lowest), passes in ((forward, 1), (both, 3)):
        assert row["layer"] == LAYER
        assert mean["layer"] == "geometric mean of 1"
        assert lowest["layer"] == "lowest of 1"
        # 384 channels of 14 x 14 places and 9 taps, a multiplication and an addition each
        gflop = passes * 2 * 384 * 14 * 14 * 9 / 1e9
        assert row["GFLOP"] == f"{gflop:.3f}"
        assert float(row["error"]) < 1e-4
        assert float(row["GFLOP/s"]) == pytest.approx(
            gflop / float(row["fastconv ms"]) * 1e3, rel=0.02, abs=1e-3
        )
        assert float(row["vs NumPy"]) == pytest.approx(
            float(row["NumPy ms"]) / float(row["fastconv ms"]), rel=0.02, abs=0.01
        )
        assert mean["vs NumPy"] == lowest["vs NumPy"] == row["vs NumPy"]

    head = (tmp_path / "conv-benchmark.png").read_bytes()[:24]
    assert head.startswith(b"\x89PNG\r\n\x1a\n")
    assert min(struct.unpack(">II", head[16:])) > 200

    records = json.loads((tmp_path / "samples.json").read_text(encoding="utf-8"))["records"]
    assert [record["pass"] for record in records] == ["forward", "forward + backward"]
    for record, results in zip(records, (1, 4), strict=True):
        assert {"fastconv", "NumPy"} <= set(record["seconds"])
        assert all(len(samples) == 1 for samples in record["seconds"].values())
        for errors in record["errors"].values():
            assert len(errors) == results
            assert max(errors.values()) < 1e-4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--layers", "no such layer"), "--layers 'no such layer': no layer matches"),
        (("--rounds", "0"), "--rounds must be at least 1, got 0"),
        (("--plot", "nowhere/chart.png"), "no such folder: nowhere"),
    ],
)
def test_bad_options_are_refused_before_measuring(tmp_path, arguments, message):
    done = run(tmp_path, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []
