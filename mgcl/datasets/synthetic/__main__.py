"""Write the synthetic benchmark: `python -m mgcl.datasets.synthetic`."""

import sys

from mgcl import console
from mgcl.datasets.synthetic.command import main

if __name__ == "__main__":
    sys.exit(console.run(main))
