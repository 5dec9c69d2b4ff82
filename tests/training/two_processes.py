"""One of two processes under torchrun, for the test that together they equal one."""

import sys
from pathlib import Path

from rxlm.training import distributed
from training_runs import batches, model, trainer

if __name__ == "__main__":
    distributed.start()
    run = trainer("memory_aware", Path(sys.argv[1]), network=model().double(), batch_size=4, steps=3)
    run.batches = batches("memory_aware", 4, rank=distributed.rank(), world_size=distributed.world_size())
    run.run()
