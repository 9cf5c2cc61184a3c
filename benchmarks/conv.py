"""The same as ``fastconv bench conv``."""

import sys

from fastconv.cli import main

sys.exit(main(["bench", "conv", *sys.argv[1:]]))
