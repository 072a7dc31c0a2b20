"""The reference of all constants: `python -m mgcl.config`."""

import sys

from mgcl import console

if __name__ == "__main__":
    sys.exit(console.run("mgcl.config.reference"))
