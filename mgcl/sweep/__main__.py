"""All folds, seeds and ablations of an experiment: `python -m mgcl.sweep`."""

import sys

from mgcl.sweep.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
