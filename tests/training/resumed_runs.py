"""Trains stages in several processes, each cut off after a step if that is given, or goes on.

At the end of a stage each process writes what it has, to `end-RANK.pt`.
"""

from contextlib import suppress
from pathlib import Path

import torch

import mrl_runs
from rxlm.training import distributed
from rxlm.training.mrl.batches import RolloutBatches
from rxlm.training.trainer import TrainedStep, Trainer
from training_runs import batches, model, trainer

CARRIED = mrl_runs.settings(carry_probability=0.5, replay_share=0.5, replay_size=6)


def shared_run(name: str, folder: Path) -> Trainer:
    """A run of six steps, with a checkpoint every two, of this process's share of the data."""
    share = {"rank": distributed.rank(), "world_size": distributed.world_size()}
    if name != "mrl":
        run = trainer(name, folder, network=model(initial_memory="normal"))
        run.batches = batches(name, 4, **share)
        return run
    run = mrl_runs.trainer(folder, CARRIED, checkpoint_every=2)
    assert isinstance(run.batches, RolloutBatches)
    run.batches.dialogues = batches("memory_aware", 4, **share)
    return run


def train(name: str, folder: Path, last: int | None) -> None:
    """Train a stage, up to a step if that is given."""
    run = shared_run(name, folder)
    train_step = run._train_step

    def step() -> TrainedStep:
        if run.step == last:
            raise KeyboardInterrupt
        return train_step()

    run._train_step = step  # type: ignore[method-assign]
    with suppress(KeyboardInterrupt):
        run.run()
    end = {"weights": run.module.state_dict(), "carried": run.module.carried_state(), "next": run.generator.get_state()}
    torch.save(end, folder / f"end-{distributed.rank()}.pt")


def train_in_group(folder: Path, names: str, last: int | None = None) -> None:
    """Train stages, named with commas between, in one of several processes."""
    distributed.start()
    for name in names.split(","):
        train(name, folder / name, last)
