"""Conversations of several sources, mixed: each number draws a source, always the same one."""

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from rxlm.data.records import Dialogue, Interaction
from rxlm.recipes.facts import MANY


class Source(NamedTuple):
    """Where conversations come from: how likely, and how to open number i."""

    share: float
    open: Callable[[int], Iterator[Interaction]]


class Mixture:
    """Opens conversation number i from a source that its number draws, always the same one."""

    def __init__(self, sources: Sequence[Source], seed: int) -> None:
        self.sources, self.seed = sources, seed

    def __call__(self, number: int) -> Iterator[Interaction]:
        """Return the turns of conversation number i."""
        rng = random.Random(f"{self.seed}/source/{number}")
        chosen = rng.choices(self.sources, [source.share for source in self.sources])[0]
        return chosen.open(number)


class MixedDialogues(Sequence[Dialogue]):
    """Conversations, each cut to some turns, as a sequence of dialogues."""

    def __init__(self, conversations: Mixture, num_turns: int) -> None:
        self.conversations, self.num_turns = conversations, num_turns

    def __len__(self) -> int:
        return MANY

    def __getitem__(self, index: Any) -> Any:
        turns = tuple(turn for turn, _ in zip(self.conversations(index), range(self.num_turns), strict=False))
        return Dialogue(turns, source=f"mixed {index}")


def drawn_from(dialogues: Sequence[Dialogue]) -> Callable[[int], Iterator[Interaction]]:
    """Return what opens number i: dialogues, drawn at random."""

    def open_one(number: int) -> Iterator[Interaction]:
        return iter(dialogues[random.Random(f"drawn/{number}").randrange(len(dialogues))].turns)

    return open_one
