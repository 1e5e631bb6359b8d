"""`python -m minigen` is the `minigen` command."""

import sys

from minigen.cli import main

if __name__ == "__main__":
    sys.exit(main())
