"""Conversations of several sources, mixed: each number draws a source, always the same one."""

import random
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from rxlm.data.records import Dialogue, Interaction
from rxlm.recipes.facts import MANY

Opener = Callable[[int], Iterator[Interaction]]
"""Returns the turns of conversation number i."""


class Source(NamedTuple):
    """Where conversations come from: how likely, and how to open number i."""

    share: float
    open: Opener


class Mixture:
    """Opens conversation number i from a source that its number draws, always the same one."""

    def __init__(self, sources: Sequence[Source], seed: int) -> None:
        self.sources, self.seed = sources, seed

    def __call__(self, number: int) -> Iterator[Interaction]:
        """Return the turns of conversation number i."""
        rng = random.Random(f"{self.seed}/source/{number}")
        chosen = rng.choices(self.sources, [source.share for source in self.sources])[0]
        return chosen.open(number)


class WithDistractors:
    """Opens conversations before some of which stand turns of another one, as if it had been the same conversation.

    What was told last counts, so that answers stay right. A conversation that asks for what it has not told is left
    alone: the other one might have told it.

    Args:
        open_one: opens conversation number i. num_turns: turns of the two together.
        share: of the conversations that have distractors; these are up to half of the turns.
    """

    def __init__(self, open_one: Opener, num_turns: int, share: float, seed: int) -> None:
        self.open_one, self.num_turns, self.share, self.seed = open_one, num_turns, share, seed

    def __call__(self, number: int) -> Iterator[Interaction]:
        """Return the turns of conversation number i, and before them those of another one."""
        rng = random.Random(f"{self.seed}/distractor/{number}")
        if rng.random() >= self.share:
            return self.open_one(number)
        others = list(islice(self.open_one(rng.randrange(MANY)), rng.randint(1, self.num_turns // 2)))
        own = list(islice(self.open_one(number), self.num_turns - len(others)))
        if any(turn.question is not None and not turn.question.was_told for turn in own):
            return self.open_one(number)
        return iter([*others, *own])


class MixedDialogues(Sequence[Dialogue]):
    """Conversations, each cut to some turns, as a sequence of dialogues."""

    def __init__(self, conversations: Opener, num_turns: int) -> None:
        self.conversations, self.num_turns = conversations, num_turns

    def __len__(self) -> int:
        return MANY

    def __getitem__(self, index: Any) -> Any:
        turns = tuple(turn for turn, _ in zip(self.conversations(index), range(self.num_turns), strict=False))
        return Dialogue(turns, source=f"mixed {index}")


def drawn_from(dialogues: Sequence[Dialogue]) -> Opener:
    """Return what opens number i: dialogues, drawn at random."""

    def open_one(number: int) -> Iterator[Interaction]:
        return iter(dialogues[random.Random(f"drawn/{number}").randrange(len(dialogues))].turns)

    return open_one
