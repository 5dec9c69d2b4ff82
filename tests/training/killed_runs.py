"""Starts the same run again and again, for the test that kills it: a process a line on standard input.

Each run is a fork of this process, which has imported everything, so that it starts at once. Its number goes to
standard output, and when it has ended the status that `os.waitpid` gives.
"""

import os
import sys
from pathlib import Path

import tensorboard.summary.writer.record_writer  # noqa: F401  # which training imports as it begins
import torch
import torch._dynamo  # which an optimizer imports at its first step

from training_runs import tokenizer, trainer

if __name__ == "__main__":
    torch.set_num_threads(1)
    tokenizer()
    folder, steps = Path(sys.argv[1]), int(sys.argv[2])
    for _ in sys.stdin:
        process = os.fork()
        if process == 0:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            trainer("streams", folder, steps=steps, checkpoint_every=1).run()
            os._exit(0)
        print(process, flush=True)  # noqa: T201
        print(os.waitpid(process, 0)[1], flush=True)  # noqa: T201
