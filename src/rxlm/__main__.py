"""`python -m rxlm` is the `rxlm` command."""

import sys

from rxlm.cli import main

if __name__ == "__main__":
    sys.exit(main())
