"""Segment by example: `python -m mgcl.predict`."""

import sys

from mgcl import console

if __name__ == "__main__":
    sys.exit(console.run("mgcl.predict.command"))
