"""Make a benchmark: `python -m mgcl.datasets.prepare`."""

import sys

from mgcl.datasets.prepare.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
