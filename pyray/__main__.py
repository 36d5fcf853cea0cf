"""`python -m pyray`: the command `pyray`."""

import sys

from pyray.cli import main

if __name__ == "__main__":
    sys.exit(main())
