"""A rollout: episodes that a policy has played, as a value.

Shapes: N turns, B episodes, T tokens of the longest turn, L memory layers, S slots, D model dimension.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from rxlm.memory import MemoryState
from rxlm.training.turns import Turns


@dataclass(frozen=True)
class Words:
    """What was said in one turn of one episode, for people to read."""

    query: str
    answer: str
    reference: str


@dataclass(frozen=True)
class Rollout:
    """Episodes side by side, turn by turn.

    Fields:
        ids, mask: the turns as they were played, queries with answers, (N, B, T). answered: True at the tokens that the
            policy chose, [EOS] among them, (N, B, T). told: True at the tokens of reference answers, at turns that were
            told to it, (N, B, T).
        log_probs: of these tokens, under the policy that chose them, (N, B, T); 0 elsewhere.
        rewards: (N, B); earns: True at turns that earned one.
        by_name: each reward by its name, NaN where it does not apply, (N, B).
        remembered: the turns as the memory took them in, where these are others (`memory_from="reference"`).
        start: the memory that episodes went on from where `fresh` is False, (B,); None where all began new.
        values, advantages, returns: what the critic expected, what the update makes of it, and what the critic
            should have said, (N, B); None before they were computed. reference_log_probs: of the chosen tokens, under
            the reference policy, (N, B, T).
        groups: rows that play the same dialogue follow each other, so many of them.
        drift: root mean square change of the memory by each turn, (N, B).
        words: what was said, a row an episode; not kept over a checkpoint.
        seconds: what playing it took, by "generation" and "reward".
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
    remembered: Turns | None = None
    start: MemoryState | None = None
    fresh: Tensor | None = None
    values: Tensor | None = None
    advantages: Tensor | None = None
    returns: Tensor | None = None
    reference_log_probs: Tensor | None = None
    groups: int = 1
    words: tuple[tuple[Words, ...], ...] = ()
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
        return Turns(self.ids, self.mask, self.answered, self._fresh())

    @property
    def memory_turns(self) -> Turns:
        """The turns as the memory took them in."""
        return self.turns if self.remembered is None else replace(self.remembered, fresh=self._fresh())

    def _fresh(self) -> Tensor | None:
        if self.fresh is None:
            return None
        later = torch.zeros(self.num_turns - 1, self.batch_size, dtype=torch.bool, device=self.fresh.device)
        return torch.cat((self.fresh[None], later))

    def to(self, device: torch.device | str) -> Self:
        """Return the rollout on a device."""
        moved = {name: value.to(device) for name, value in self._tensors().items()}
        by_name = {name: value.to(device) for name, value in self.by_name.items()}
        remembered = None if self.remembered is None else self.remembered.to(device)
        start = None if self.start is None else self.start.to(device)
        return replace(self, **moved, by_name=by_name, remembered=remembered, start=start)

    def state_dict(self) -> dict[str, Any]:
        """Return plain values and tensors for a checkpoint; `words` and `seconds` are left out."""
        turns = self.remembered
        remembered = None if turns is None else {"ids": turns.ids, "mask": turns.mask, "answered": turns.answer_mask}
        start = None if self.start is None else self.start.state_dict()
        others = {"by_name": dict(self.by_name), "remembered": remembered, "start": start, "groups": self.groups}
        return {**self._tensors(), **others}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> Self:
        """Return the rollout that `state_dict` was taken of."""
        values = dict(state)
        turns = values.pop("remembered")
        remembered = None if turns is None else Turns(turns["ids"], turns["mask"], turns["answered"])
        start = values.pop("start", None)
        return cls(**values, remembered=remembered, start=None if start is None else MemoryState.from_state_dict(start))

    def rows(self, rows: Sequence[int]) -> Self:
        """Return some episodes."""
        index = torch.tensor(list(rows), dtype=torch.long, device=self.ids.device)
        taken = {name: value[index] if name == "fresh" else value[:, index] for name, value in self._tensors().items()}
        turns = self.remembered
        remembered = (
            None if turns is None else Turns(turns.ids[:, index], turns.mask[:, index], turns.answer_mask[:, index])
        )
        by_name = {name: value[:, index] for name, value in self.by_name.items()}
        words = tuple(self.words[row] for row in rows) if self.words else ()
        start = None if self.start is None else self.start.select(rows)
        return replace(self, **taken, by_name=by_name, remembered=remembered, start=start, words=words)

    def _tensors(self) -> dict[str, Tensor]:
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}


def join(rollouts: Sequence[Rollout]) -> Rollout:
    """Put the episodes of several rollouts side by side, padded to the most turns and the longest turn.

    They must have been played under the same settings; `words` and `seconds` are those of the first.
    """
    first = rollouts[0]
    turns = max(rollout.num_turns for rollout in rollouts)
    width = max(rollout.ids.shape[2] for rollout in rollouts)

    def padded(value: Tensor, fill: float = 0) -> Tensor:
        wanted = [0, width - value.shape[2]] if value.dim() == 3 else []
        return F.pad(value, [*wanted, 0, 0, 0, turns - value.shape[0]], value=fill)

    names = set(first._tensors()) - {"fresh"}
    joined: dict[str, Any] = {
        name: torch.cat([padded(getattr(each, name)) for each in rollouts], dim=1) for name in names
    }
    by_name = {
        name: torch.cat([padded(each.by_name[name], float("nan")) for each in rollouts], dim=1)
        for name in first.by_name
    }
    remembered = None
    if first.remembered is not None:
        longest = max(each.remembered.ids.shape[2] for each in rollouts if each.remembered is not None)

        def of(name: str) -> Tensor:
            parts = [getattr(each.remembered, name) for each in rollouts]
            padding = [F.pad(part, [0, longest - part.shape[2], 0, 0, 0, turns - part.shape[0]]) for part in parts]
            return torch.cat(padding, dim=1)

        remembered = Turns(of("ids"), of("mask"), of("answer_mask"))
    if first.start is not None:
        joined["start"] = MemoryState.join([each.start for each in rollouts if each.start is not None])
        joined["fresh"] = torch.cat([each.fresh for each in rollouts if each.fresh is not None])
    return replace(first, **joined, by_name=by_name, remembered=remembered)
