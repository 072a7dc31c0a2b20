"""Draw episodes: `python -m mgcl.visualize`."""

import sys

from mgcl import console

if __name__ == "__main__":
    sys.exit(console.run("mgcl.visualize.command"))
