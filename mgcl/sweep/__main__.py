"""All folds, seeds and ablations of an experiment: `python -m mgcl.sweep`."""

import sys

from mgcl import console

if __name__ == "__main__":
    sys.exit(console.run("mgcl.sweep.command"))
