"""Segment by example: `python -m mgcl.predict`."""

import sys

from mgcl.predict.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
