"""`python -m refilm` is the command `refilm`."""

import sys

from refilm.cli import main

if __name__ == "__main__":
    sys.exit(main())
