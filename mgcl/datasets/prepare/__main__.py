"""Make a benchmark: `python -m mgcl.datasets.prepare`."""

import sys

from mgcl import console
from mgcl.datasets.prepare.command import main

if __name__ == "__main__":
    sys.exit(console.run(main))
