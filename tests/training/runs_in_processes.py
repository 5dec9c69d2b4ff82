"""Runs for tests that train in processes of their own (see `process_groups.py`)."""

from pathlib import Path

from rxlm.training import distributed
from training_runs import batches, model, trainer


def train_share(folder: Path) -> None:
    """Train as one of several processes, with its share of each batch."""
    distributed.start()
    run = trainer("memory_aware", folder, network=model().double(), batch_size=4, steps=3)
    run.batches = batches("memory_aware", 4, rank=distributed.rank(), world_size=distributed.world_size())
    run.run()


def train_saving_each_step(folder: Path, steps: int) -> None:
    """Train from the last checkpoint on."""
    trainer("streams", folder, steps=steps, checkpoint_every=1).run()
