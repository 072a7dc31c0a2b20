"""Draw episodes: `python -m mgcl.visualize`."""

import sys

from mgcl import console
from mgcl.visualize.command import main

if __name__ == "__main__":
    sys.exit(console.run(main))
