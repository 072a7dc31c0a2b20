"""The reference of all constants: `python -m mgcl.config`."""

import sys

from mgcl import console
from mgcl.config.reference import main

if __name__ == "__main__":
    sys.exit(console.run(main))
