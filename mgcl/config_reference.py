"""An old name of the command `python -m mgcl.config`."""

import sys

from mgcl.old_names import moved

if __name__ == "__main__":
    sys.exit(moved("mgcl.config_reference"))
