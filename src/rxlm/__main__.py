"""`python -m rxlm` and `rxlm`: the process around `rxlm.cli.main`."""

import os
import signal
import sys
from typing import NoReturn

# The threads of PyTorch wait for each other by turning in a loop, which beside other work takes the cores from the one
# that is waited for: a training step on two busy cores took five times as long. Threads that sleep at once have to be
# woken, which on a virtual machine costs a third of a step of a pretrained model. So they wait for some 30,000 turns,
# about a millisecond, and then sleep (docs/training.md). OpenMP reads this once, when PyTorch is imported.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "passive"
    os.environ.setdefault("GOMP_SPINCOUNT", "30000")


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
