"""A rollout: episodes that a policy has played, as a value.

Shapes: N turns, B episodes, T tokens of the longest turn.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from rxlm.memory import MemoryState
from rxlm.training.mrl.trajectories import TrajectoryTurn
from rxlm.training.turns import Turns

FOR_PEOPLE = ("words", "seconds")
"""Fields that the update does not read: they are not kept over a checkpoint."""


@dataclass(frozen=True)
class Rollout:
    """Episodes side by side, turn by turn.

    Fields:
        ids, mask: the turns as they were played, queries with answers, (N, B, T). answered: True at the tokens that the
            policy chose, [EOS] among them, (N, B, T). told: True at the tokens of reference answers, at turns that were
            told to it, (N, B, T).
        log_probs: of the chosen tokens, under the policy that chose them, (N, B, T); 0 elsewhere.
        rewards: (N, B); earns: True at turns that earned one.
        by_name: each reward by its name, NaN where it does not apply, (N, B).
        drift: root mean square change of the memory by each turn, (N, B).
        cut: tokens that the query of an answer lost because it was too long, (N, B).
        remembered: `ids` and `mask` of the turns as the memory took them in, where these are others
            (`memory_from="reference"`).
        start: the memory that episodes went on from where `fresh` is False, (B,); None where all began new.
        values, advantages, returns: what the critic expected, what the update makes of it, and what the critic
            should have said, (N, B); None before they were computed. reference_log_probs: of the chosen tokens, under
            the reference policy, (N, B, T).
        groups: rows that play the same dialogue follow each other, so many of them.
        words: what was said, a row an episode. seconds: what playing it took, by "generation" and "reward".
    """

    ids: Tensor
    mask: Tensor
    answered: Tensor
    told: Tensor
    log_probs: Tensor
    rewards: Tensor
    earns: Tensor
    by_name: Mapping[str, Tensor]
    drift: Tensor
    cut: Tensor
    remembered: Mapping[str, Tensor] | None = None
    start: MemoryState | None = None
    fresh: Tensor | None = None
    values: Tensor | None = None
    advantages: Tensor | None = None
    returns: Tensor | None = None
    reference_log_probs: Tensor | None = None
    groups: int = 1
    words: Sequence[Sequence[TrajectoryTurn]] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def num_turns(self) -> int:
        """Turns N of the longest episode."""
        return self.ids.shape[0]

    @property
    def batch_size(self) -> int:
        """Episodes B."""
        return self.ids.shape[1]

    @property
    def num_tokens(self) -> int:
        """Tokens that are not padding."""
        return int(self.mask.sum())

    @property
    def learnt(self) -> Tensor:
        """True at the tokens that the update learns from, those of answers that earned something: (N, B, T)."""
        return self.answered & self.earns[..., None]

    @property
    def turns(self) -> Turns:
        """The turns as they were played."""
        fresh = self.fresh
        if fresh is not None:
            fresh = torch.cat((fresh[None], fresh.new_zeros(self.num_turns - 1, self.batch_size)))
        return Turns(self.ids, self.mask, self.answered, fresh)

    @property
    def memory_turns(self) -> Turns:
        """The turns as the memory took them in."""
        if self.remembered is None:
            return self.turns
        ids, mask = self.remembered["ids"], self.remembered["mask"]
        return replace(self.turns, ids=ids, mask=mask, answer_mask=torch.zeros_like(mask))

    def to(self, device: torch.device | str) -> Self:
        """Return the rollout on a device."""
        return self._each(lambda value: value.to(device))

    def rows(self, rows: Sequence[int]) -> Self:
        """Return some episodes."""
        chosen = list(rows)

        def taken(value: Tensor | MemoryState) -> Tensor | MemoryState:
            if isinstance(value, MemoryState):
                return value.select(chosen)
            return value[chosen] if value.dim() == 1 else value[:, chosen]

        return replace(self._each(taken), words=[self.words[row] for row in chosen] if self.words else ())

    def state_dict(self) -> dict[str, Any]:
        """Return plain values and tensors for a checkpoint; `words` and `seconds` are left out."""
        state = {name: getattr(self, name) for name in _fields()}
        return {**state, "start": None if self.start is None else self.start.state_dict()}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> Self:
        """Return the rollout that `state_dict` was taken of."""
        start = state["start"]
        values: dict[str, Any] = {"cut": torch.zeros_like(state["rewards"]), **state}  # version 0.0 kept no `cut`
        values["start"] = None if start is None else MemoryState.from_state_dict(start)
        return cls(**values)

    def _each(self, change: Callable[[Any], Any]) -> Self:
        """Return the rollout with all tensors, and the memory, changed."""
        changed = {name: _combined([getattr(self, name)], lambda only: change(only[0])) for name in _fields()}
        return replace(self, **changed)


def _fields() -> list[str]:
    return [each.name for each in fields(Rollout) if each.name not in FOR_PEOPLE]


def join(rollouts: Sequence[Rollout]) -> Rollout:
    """Put the episodes of several rollouts side by side, padded to the most turns and the longest turn.

    They must have been played under the same settings; `words` and `seconds` are those of the first.
    """
    both = {name: _combined([getattr(each, name) for each in rollouts], _side_by_side) for name in _fields()}
    joined = replace(rollouts[0], **both)
    applying = {name: values.where(joined.earns, torch.nan) for name, values in joined.by_name.items()}
    return replace(joined, by_name=applying)  # which does not apply to turns that are padding


def _combined(values: Sequence[Any], combine: Callable[[Sequence[Any]], Any]) -> Any:
    """Return what `combine` makes of the same field of several rollouts; what is neither tensor nor memory stays."""
    first = values[0]
    if isinstance(first, Mapping):
        return {name: _combined([value[name] for value in values], combine) for name in first}
    return combine(values) if isinstance(first, Tensor | MemoryState) else first


def _side_by_side(values: Sequence[Any]) -> Any:
    """Return memories in one batch, or tensors (B,), (N, B) or (N, B, T) padded with 0 and joined along B."""
    if isinstance(values[0], MemoryState):
        return MemoryState.join(values)
    if values[0].dim() == 1:
        return torch.cat(list(values))
    turns, _, *width = (max(sizes) for sizes in zip(*(value.shape for value in values), strict=True))

    def padding(value: Tensor) -> list[int]:
        tokens = [0, width[0] - value.shape[2]] if width else []
        return [*tokens, 0, 0, 0, turns - value.shape[0]]

    return torch.cat([F.pad(value, padding(value)) for value in values], dim=1)
