"""The programs in examples/ run, print what they found, and draw it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"

pytestmark = pytest.mark.skipif(not EXAMPLES.is_dir(), reason="the examples are not beside tests")


def run(folder, name, *arguments):
    """What the program prints; warnings are errors."""
    pytest.importorskip("matplotlib", reason="the examples draw pictures")
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / name, *map(str, arguments)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def figures(text, pattern):
    """The numbers at the groups of every match."""
    return [tuple(map(float, match.groups())) for match in re.finditer(pattern, text)]


def read_png(path):
    from matplotlib.image import imread

    return imread(path)


def test_every_example_is_tested():
    tests = Path(__file__).parent.glob("test_examples*.py")
    tested = "".join(path.read_text(encoding="utf-8") for path in tests)
    assert all(f'"{path.name}"' in tested for path in EXAMPLES.glob("*.py"))


def test_a_photograph_is_sharpened(tmp_path):
    pytest.importorskip("PIL", reason="the photograph is a JPEG")
    text = run(tmp_path, "deblur.py", "--crop", 120, "--iterations", 30)
    assert "image: 3 x 120 x 120, kernel 9 x 9" in text
    ((blurred, restored),) = figures(text, r"(?s)blurred:  PSNR (\S+) dB.*restored: PSNR (\S+) dB")
    assert restored > blurred + 3
    assert read_png(tmp_path / "deblur.png").std() > 0.1


def test_a_picture_without_colours_is_sharpened(tmp_path, rng):
    pytest.importorskip("matplotlib")
    from matplotlib.image import imsave

    imsave(tmp_path / "dots.png", np.kron(rng.random((8, 7)) > 0.5, np.ones((8, 8))), cmap="gray")
    text = run(tmp_path, "deblur.py", "dots.png", "--output", "out.png", "--size", 5)
    ((blurred, restored),) = figures(text, r"(?s)blurred:  PSNR (\S+) dB.*restored: PSNR (\S+) dB")
    assert restored > blurred + 3
    assert (tmp_path / "out.png").is_file()


def test_reaction_and_diffusion_are_those_of_numpy(tmp_path):
    options = ("--side", 48, "--steps", 300, "--compared", 50)
    text = run(tmp_path, "gray_scott.py", *options)
    (double,) = figures(text, r"float64: 50 steps on 48 x 48: .* difference (\S+)")
    (single,) = figures(text, r"float32: 50 steps on 48 x 48: .* difference (\S+)")
    assert double < (1e-14,)
    assert single < (1e-5,)
    assert read_png(tmp_path / "gray_scott.png").std() > 0.05
