"""Processes that share the episodes of a rollout; a process alone has all of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mrl_runs import rollout, settings, talker, trainer
from rxlm.training import distributed
from rxlm.training.mrl.module import MemoryReinforcement
from rxlm.training.mrl.rollout import Rollout
from rxlm.training.trainer import Trainer


class OneRollout:
    """The same rollout at every step: of eight episodes, this process's."""

    def __init__(self, module: MemoryReinforcement) -> None:
        whole = module.annotate(rollout(talker().double(), module.settings, rows=8))
        self.part = whole.rows(range(distributed.rank(), 8, distributed.world_size()))

    def __next__(self) -> Rollout:
        return self.part

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass

    def load_resharded(self, states: Sequence[dict[str, Any]]) -> None:
        pass


def shared_run(folder: Path) -> Trainer:
    """A run whose log-probabilities at the rollout are float64's, too."""
    run = trainer(folder, settings(updates_per_rollout=1), network=talker().double(), steps=3)
    run.module.double()
    assert isinstance(run.module, MemoryReinforcement)
    run.batches = OneRollout(run.module)
    return run


def train_share(folder: Path) -> None:
    """Train with the episodes of this process."""
    distributed.start()
    shared_run(folder).run()
