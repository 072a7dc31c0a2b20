"""Mark, find and correct in a page: `python -m mgcl.page FOLDER`."""

import sys

from mgcl import console

if __name__ == "__main__":
    sys.exit(console.run("mgcl.page.command"))
