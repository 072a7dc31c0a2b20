"""An old name of the command `python -m mgcl.visualize.masks`."""

import sys

from mgcl.old_names import moved

if __name__ == "__main__":
    sys.exit(moved("mgcl.masks.show"))
