"""Where stage 5 gets its batches from: it plays them.

The rollouts are the batches of the stage, so that the loop, checkpoints and accumulation are those of the other stages.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

import torch

from rxlm.data.records import Dialogue
from rxlm.memory import MemoryState
from rxlm.seeds import derived_seed
from rxlm.training import distributed
from rxlm.training.mrl.config import MRLConfig
from rxlm.training.mrl.module import MemoryReinforcement
from rxlm.training.mrl.player import EpisodePlayer
from rxlm.training.mrl.rollout import Rollout, join
from rxlm.training.mrl.trajectories import TrajectoryLog, TrajectoryTurn
from rxlm.training.trainer import Batches

GOOD_SHARE = 0.25
"""The best so many of a rollout's episodes are kept for replay."""


class RolloutBatches:
    """Endless rollouts, each yielded `settings.updates_per_rollout` times; resumes between any two of them.

    Args:
        dialogues: a source of batches whose `dialogues` are to be played.
        player: plays them with the policy as it is then.
        module: the stage, which adds to a rollout what is learnt from it.
        settings: groups, updates a rollout, replay and carrying on.
        seed: of the answers.
        log: where trajectories go, if anywhere.
    """

    follows_model = True

    def __init__(
        self,
        dialogues: Batches,
        player: EpisodePlayer,
        module: MemoryReinforcement,
        settings: MRLConfig,
        *,
        seed: int = 0,
        log: TrajectoryLog | None = None,
    ) -> None:
        self.dialogues, self.player, self.module = dialogues, player, module
        self.settings, self.seed, self.log = settings, seed, log
        self.played = 0
        self.uses = settings.updates_per_rollout
        self.rollout: Rollout | None = None
        self.carried: MemoryState | None = None
        self.good: list[Rollout] = []

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Rollout:
        """Return the present rollout, or play the next one."""
        if self.rollout is None or self.uses == self.settings.updates_per_rollout:
            drawn = next(self.dialogues).dialogues
            self.rollout, self.uses = self.module.with_weights(lambda: self._play(drawn)), 0
        self.uses += 1
        return self.rollout

    def _play(self, dialogues: Sequence[Dialogue]) -> Rollout:
        settings = self.settings
        repeated = [dialogue for dialogue in dialogues for _ in range(settings.group_size)]
        generator = torch.Generator().manual_seed(self._seed())
        fresh, carried = None, self.carried
        if settings.carry_probability:
            fresh = torch.rand(len(repeated), generator=generator) >= settings.carry_probability
            if carried is None or carried.batch_size != len(repeated):
                carried = self.player.model.init_memory(len(repeated)).detach()
            fresh = fresh.to(carried.device)
        rollout, memory = self.player.play(repeated, seed=self._seed(), carried=carried, fresh=fresh)
        rollout = self.module.annotate(rollout)
        step = self.played * settings.updates_per_rollout
        if self.log is not None and distributed.rank() == 0 and self.log.is_due(step):
            self.log.append(step, trajectories(rollout, self.log.episodes))
        shares = {name: seconds / settings.updates_per_rollout for name, seconds in rollout.seconds.items()}
        rollout = self._with_replay(replace(rollout, seconds=shares), generator)
        self.carried = memory if settings.carry_probability else None
        self.played += 1
        return rollout

    def _with_replay(self, rollout: Rollout, generator: torch.Generator) -> Rollout:
        """Add good episodes of earlier rollouts, and keep this one's best."""
        if not self.settings.replay_share:
            return rollout
        known = self.good
        earned = rollout.rewards.sum(0) / rollout.earns.sum(0).clamp(min=1)
        best = earned.argsort(descending=True)[: max(1, int(GOOD_SHARE * rollout.batch_size))]
        self.good = [*known, *(rollout.rows([row]) for row in best.tolist())][-self.settings.replay_size :]
        count = min(len(known), round(self.settings.replay_share * rollout.batch_size))
        chosen = torch.randperm(len(known), generator=generator)[:count].tolist()
        return join([rollout, *(known[number].to(rollout.ids.device) for number in chosen)])

    def _seed(self) -> int:
        return derived_seed(self.seed, distributed.rank(), self.played)

    def state_dict(self) -> dict[str, Any]:
        """Return where the source stands, the present rollout included."""
        pending = self.rollout is not None and self.uses < self.settings.updates_per_rollout
        return {
            "dialogues": self.dialogues.state_dict(),
            "played": self.played,
            "uses": self.uses,
            "rollout": self.rollout.state_dict() if pending and self.rollout is not None else None,
            "carried": None if self.carried is None else self.carried.state_dict(),
            "good": [rollout.state_dict() for rollout in self.good],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put the source where it stood."""
        rollout = None if state["rollout"] is None else Rollout.from_state_dict(state["rollout"])
        carried = None
        if state["carried"] is not None:
            carried = MemoryState.from_state_dict(state["carried"]).to(self.player.model.device)
        good = [Rollout.from_state_dict(each) for each in state["good"]]
        self.dialogues.load_state_dict(state["dialogues"])
        self.played, self.uses = state["played"], state["uses"]
        self.rollout, self.carried, self.good = rollout, carried, good

    def load_resharded(self, states: Sequence[dict[str, Any]]) -> None:
        """Go on after the states of another number of processes: a new rollout, without memories or replay."""
        self.dialogues.load_resharded([state["dialogues"] for state in states])
        self.played = states[0]["played"]


def trajectories(rollout: Rollout, episodes: int) -> list[list[TrajectoryTurn]]:
    """Return the first episodes of a rollout, for people to read."""

    def figure(values: torch.Tensor | None, turn: int, row: int) -> float | None:
        return None if values is None or not rollout.earns[turn, row] else float(values[turn, row])

    return [
        [
            replace(
                words,
                reward=figure(rollout.rewards, turn, row),
                rewards={name: figure(values, turn, row) for name, values in rollout.by_name.items()},
                memory_drift=float(rollout.drift[turn, row]),
                value=figure(rollout.values, turn, row),
                advantage=figure(rollout.advantages, turn, row),
            )
            for turn, words in enumerate(said)
        ]
        for row, said in enumerate(rollout.words[:episodes])
    ]
