"""Make a benchmark: `python -m mgcl.datasets.prepare`."""

import sys

from mgcl import console

if __name__ == "__main__":
    sys.exit(console.run("mgcl.datasets.prepare.command"))
