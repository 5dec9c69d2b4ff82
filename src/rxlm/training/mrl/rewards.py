"""Rewards: plain callables with a name and a weight, their weighted mean, and what becomes of those that fail.

Shapes: B dialogues.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real

import torch
from torch import Tensor

from rxlm.data.records import Question
from rxlm.metrics.composite import SCALE, score

Pair = tuple[str, str]
"""A query and its answer."""


@dataclass(frozen=True)
class TurnAnswers:
    """One turn of B dialogues, answered. Dialogues that are over are left out.

    Fields:
        turn: number of the turn, from 0; within an episode it rises.
        queries: what was asked.
        answers: what the model said.
        references: what it should have said.
        answer_ids: the tokens of each answer, without [EOS] and padding.
        reference_ids: those of each reference.
        questions: what is known about turns that ask for something; None for those that do not.
        history: the turns before, of each dialogue, as they were remembered.
    """

    turn: int
    queries: Sequence[str]
    answers: Sequence[str]
    references: Sequence[str]
    answer_ids: Sequence[Sequence[int]]
    reference_ids: Sequence[Sequence[int]]
    questions: Sequence[Question | None]
    history: Sequence[Sequence[Pair]]

    def __post_init__(self) -> None:
        if not len(self):
            raise ValueError("TurnAnswers.queries is empty; a turn must have at least one answer.")
        for name in ("answers", "references", "answer_ids", "reference_ids", "questions", "history"):
            if len(getattr(self, name)) != len(self):
                raise ValueError(
                    f"TurnAnswers.{name} has {len(getattr(self, name))} rows; it must have one for each of the "
                    f"{len(self)} queries."
                )

    def __len__(self) -> int:
        return len(self.queries)


RewardFunction = Callable[[TurnAnswers], Sequence[float | None] | Tensor]
"""Returns a number for each of the B answers, or None for one that it does not apply to."""


class RewardError(RuntimeError):
    """A reward that failed; the message names it, with the turn and the row."""


@dataclass(frozen=True)
class Reward:
    """A reward function with the name that it is logged by, and its weight among the others."""

    name: str
    function: RewardFunction
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w.-]+", self.name):
            raise ValueError(f"Reward.name is {self.name!r}; it must be of letters, digits, '_', '-' and '.'.")
        if not (math.isfinite(self.weight) and self.weight > 0):
            raise ValueError(
                f"Reward.weight of {self.name!r} is {self.weight!r}; it must be a number above 0. For a penalty, let "
                "the function return numbers below 0; a reward of no weight is left out."
            )


@dataclass(frozen=True)
class Scores:
    """What the answers of a turn earned.

    Fields:
        total: the reward, 0 where none applies, (B,).
        applies: True where at least one reward applies, (B,).
        by_name: what each reward function returned, NaN where it does not apply, (B,).
    """

    total: Tensor
    applies: Tensor
    by_name: Mapping[str, Tensor]


class Rewards:
    """The weighted mean of the rewards that apply to an answer, times `scale`.

    Args:
        rewards: at least one, with different names.
        scale: what an answer gets that earns 1 from every reward.
    """

    def __init__(self, rewards: Sequence[Reward], scale: float = SCALE) -> None:
        names = [reward.name for reward in rewards]
        if not names:
            raise ValueError("rewards is empty; it must hold at least one Reward.")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"rewards has several of the name {', '.join(twice)}; names must differ.")
        if not (math.isfinite(scale) and scale > 0):
            raise ValueError(f"scale is {scale!r}; it must be a number above 0.")
        self.rewards, self.scale = tuple(rewards), scale
        self._weights = {reward.name: reward.weight for reward in rewards}

    def __call__(self, turn: TurnAnswers) -> Scores:
        """Return what the answers of a turn earn, float32 on the CPU.

        Raises:
            RewardError: where a reward raises, or returns another number of values than B, a NaN, an infinity, or
                what is no number.
        """
        by_name = {reward.name: _values(reward, turn) for reward in self.rewards}
        total = score(by_name, self._weights, self.scale).float()
        applies = ~total.isnan()
        return Scores(total.where(applies, 0), applies, by_name)


def _values(reward: Reward, turn: TurnAnswers) -> Tensor:
    """Return what a reward gives for a turn, NaN for None, (B,) on the CPU."""
    place = f"The reward {reward.name!r}, at turn {turn.turn},"
    try:
        found = reward.function(turn)
    except Exception as error:
        raise RewardError(f"{place} raised {type(error).__name__}: {error}") from error
    if not isinstance(found, Tensor | Sequence):
        raise RewardError(f"{place} returned a {type(found).__name__}; it must return a sequence or a tensor.")
    shape = tuple(found.shape) if isinstance(found, Tensor) else (len(found),)
    if shape != (len(turn),):
        raise RewardError(f"{place} returned values of shape {shape}; the turn has {len(turn)} answers.")
    rows = found.tolist() if isinstance(found, Tensor) else list(found)
    for row, value in enumerate(rows):
        if value is not None and not (isinstance(value, Real) and math.isfinite(value)):
            raise RewardError(
                f"{place} returned {value!r} for row {row}, the answer {turn.answers[row]!r:.80}; it must return a "
                "finite number, or None where it does not apply."
            )
    return torch.tensor([math.nan if value is None else float(value) for value in rows])
