"""Episodes of memory reinforcement learning, cut from dialogues by a strategy, and a curriculum over their length.

An episode is a dialogue: a first turn, which is there to be remembered, and a number of steps, the turns that follow.
`Episodes` cuts them from any records; `configure_facts` has the generator of facts make them. Both give what batches
are made of, a sequence of `Dialogue`. Where a record's turns have a `Question`, no episode asks for what was said
before its first turn.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args, overload

from rxlm.data.facts import FactsConfig
from rxlm.data.records import Dialogue, Interaction

Strategy = Literal["single", "multi", "long_range"]


@dataclass(frozen=True)
class EpisodeKind:
    """What episodes are like.

    Fields:
        strategy: "single" has one follow-up, about the turn before it. "multi" is a chain on one topic: turns of one
            dialogue that follow each other. "long_range" comes back at the end to what the first turn was about, after
            other topics.
        steps: turns after the first; 1 for "single", at least 2 for the others.
    """

    strategy: Strategy
    steps: int = 1

    def __post_init__(self) -> None:
        if self.strategy not in get_args(Strategy):
            allowed = ", ".join(map(repr, get_args(Strategy)))
            raise ValueError(f"EpisodeKind.strategy must be one of {allowed}, got {self.strategy!r}.")
        is_single = self.strategy == "single"
        if not isinstance(self.steps, int) or (self.steps != 1 if is_single else self.steps < 2):
            allowed = "1" if is_single else "a whole number of at least 2"
            raise ValueError(f"EpisodeKind.steps must be {allowed} for {self.strategy!r}, got {self.steps!r}.")


def curriculum(longest: int) -> tuple[EpisodeKind, ...]:
    """Return kinds of episodes from one step to `longest`: a single follow-up, then chains and long ranges, doubling.

    Each is meant for a phase of its own (`rxlm.training.phases`).
    """
    if longest < 1:
        raise ValueError(f"longest is {longest!r}; it must be at least 1.")
    kinds, steps = [EpisodeKind("single")], 1
    while steps < longest:
        steps = min(2 * steps, longest)
        kinds += [EpisodeKind("multi", steps), EpisodeKind("long_range", steps)]
    return tuple(kinds)


class Episodes(Sequence[Dialogue]):
    """All episodes of a kind that dialogues hold, in the order of the dialogues; `ShuffledBatches` shuffles them.

    In dialogues with questions, "single" and "long_range" episodes end with a question about their first turn. Where no
    dialogue has one, any follow-up will do: between the two turns of a "long_range" episode there are then the first
    turns of other dialogues, which a seed draws.

    Args:
        dialogues: the records; all are looked at, none is changed.
        kind: of the episodes.
        seed: of what "long_range" episodes put in between.

    Raises:
        ValueError: where the dialogues hold no episode of this kind.
    """

    def __init__(self, dialogues: Sequence[Dialogue], kind: EpisodeKind, seed: int = 0) -> None:
        self.dialogues, self.kind, self.seed = dialogues, kind, seed
        asks = any(turn.question is not None for dialogue in dialogues for turn in dialogue.turns)
        self._ends_with_question = asks and kind.strategy != "multi"
        self._splices = not asks and kind.strategy == "long_range"
        self._own_steps = 1 if self._splices else kind.steps
        self._windows = [
            (number, first)
            for number, dialogue in enumerate(dialogues)
            for first in range(len(dialogue) - self._own_steps)
            if self._fits(dialogue.turns, first)
        ]
        if not self._windows or (self._splices and len(dialogues) < 2):
            raise ValueError(
                f"The {len(dialogues)} dialogues hold no episode of the kind {kind.strategy!r} with {kind.steps} "
                "steps: " + self._needs()
            )

    def __len__(self) -> int:
        return len(self._windows)

    @overload
    def __getitem__(self, index: int) -> Dialogue: ...
    @overload
    def __getitem__(self, index: slice) -> list[Dialogue]: ...
    def __getitem__(self, index: int | slice) -> Dialogue | list[Dialogue]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        number, first = self._windows[index]
        dialogue = self.dialogues[number]
        turns = dialogue.turns[first : first + self._own_steps + 1]
        if self._splices:
            turns = (turns[0], *self._other_topics(number, index % len(self)), turns[1])
        source = f"{dialogue.source}, {self.kind.strategy} from turn {first}"
        return Dialogue(turns, source=source, details=dialogue.details)

    def _fits(self, turns: Sequence[Interaction], first: int) -> bool:
        """Tell whether the turns from `first` on are an episode: no question in it is about a turn before."""
        last = first + self._own_steps
        for place in range(first, last + 1):
            question = turns[place].question
            if question is not None and question.distance is not None and place - question.distance < first:
                return False
        question = turns[last].question
        return not self._ends_with_question or (question is not None and question.distance == self.kind.steps)

    def _other_topics(self, number: int, index: int) -> list[Interaction]:
        """Return the turns between the two of a spliced episode, from the starts of other dialogues."""
        rng = random.Random(f"{self.seed}/{self.kind.steps}/{index}")
        turns: list[Interaction] = []
        while len(turns) < self.kind.steps - 1:
            other = int(rng.random() * (len(self.dialogues) - 1))
            other += other >= number
            turns += self.dialogues[other].turns[: self.kind.steps - 1 - len(turns)]
        return turns

    def _needs(self) -> str:
        if self._ends_with_question:
            return f"none asks for a fact {self.kind.steps} turns after it, and for nothing older on the way."
        if self._splices:
            return "it takes two dialogues, and two turns in one of them."
        return f"none has {self.kind.steps + 1} turns that ask for nothing before them."


def configure_facts(config: FactsConfig, kind: EpisodeKind) -> FactsConfig:
    """Return a configuration whose generated dialogues are episodes of a kind, in the words of `config`.

    "single" tells a fact and asks for it; "multi" are dialogues as `config` has them, as long as the episode;
    "long_range" asks for the first turn's fact in its last turn and tells other facts, or chats, in between.
    """
    turns = kind.steps + 1
    if kind.strategy == "multi":
        longest = None if config.max_distance is None else min(config.max_distance, kind.steps)
        return config.replace(num_turns=turns, min_distance=min(config.min_distance, kind.steps), max_distance=longest)
    chatter = 0.0 if kind.strategy == "single" else min(config.chatter_share, 1 - 2 / turns)
    return config.replace(
        num_turns=turns,
        min_distance=kind.steps,
        max_distance=kind.steps,
        question_share=1 / turns,
        repeat_share=0.0,
        unknown_share=0.0,
        chatter_share=chatter,
    )
