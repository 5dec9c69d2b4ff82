"""`python -m rxlm` and `rxlm`: the process around `rxlm.cli.main`."""

import signal
import sys
from typing import NoReturn


def run() -> NoReturn:
    """Run the command line and end the process; Ctrl-C is one line at any moment, and a second one ends at once."""
    try:
        from rxlm.cli import main

        status = main()
    except KeyboardInterrupt:  # in the first moments
        sys.stderr.write("rxlm: stopped by Ctrl-C.\n")
        status = 130
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(status)


if __name__ == "__main__":
    run()
