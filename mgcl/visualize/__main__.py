"""Draw episodes: `python -m mgcl.visualize`."""

import sys

from mgcl.visualize.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
