"""The reference of all constants: `python -m mgcl.config`."""

import sys

from mgcl.config.reference import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
