"""Processes that share the episodes of a rollout; a process alone has all of them."""

from pathlib import Path

from mrl_runs import rollout, settings, talker, trainer
from rxlm.training import distributed
from rxlm.training.mrl.module import MemoryReinforcement
from rxlm.training.trainer import Trainer
from training_runs import SameBatch


def one_rollout(module: MemoryReinforcement) -> SameBatch:
    """The same rollout at every step: of eight episodes, this process's."""
    whole = module.annotate(rollout(talker().double(), module.settings, rows=8))
    return SameBatch(whole.rows(range(distributed.rank(), 8, distributed.world_size())))


def shared_run(folder: Path) -> Trainer:
    """A run whose log-probabilities at the rollout are float64's, too."""
    run = trainer(folder, settings(updates_per_rollout=1), network=talker().double(), steps=3)
    run.module.double()
    assert isinstance(run.module, MemoryReinforcement)
    run.batches = one_rollout(run.module)
    return run


def train_share(folder: Path) -> None:
    """Train with the episodes of this process."""
    distributed.start()
    shared_run(folder).run()
