"""Write the synthetic benchmark: `python -m mgcl.datasets.synthetic`."""

import sys

from mgcl import console

if __name__ == "__main__":
    sys.exit(console.run("mgcl.datasets.synthetic.command"))
