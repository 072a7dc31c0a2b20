"""Segment by example: `python -m mgcl.predict`."""

import sys

from mgcl import console
from mgcl.predict.command import main

if __name__ == "__main__":
    sys.exit(console.run(main))
