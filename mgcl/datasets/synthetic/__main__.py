"""Write the synthetic benchmark: `python -m mgcl.datasets.synthetic`."""

import sys

from mgcl.datasets.synthetic.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
