"""A run of 40 steps, for the test that kills it."""

import sys
from pathlib import Path

import torch

from training_runs import trainer

if __name__ == "__main__":
    torch.set_num_threads(1)
    trainer("streams", Path(sys.argv[1]), steps=40).run()
