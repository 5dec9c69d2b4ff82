"""Pieces of dialogues for training on few turns at a time, and conversations drawn from dialogues."""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from rxlm.data.records import Dialogue, Interaction


class DrawnConversations:
    """An endless sequence of conversations drawn from groups of dialogues: first a group, then one of its dialogues.

    All groups are equally likely, large and small.

    Args:
        groups: dialogues by task, source, or anything else to balance.
        seed: of the draws.
        max_turns: cuts longer dialogues. A dialogue with questions is left out if none of them is left after the cut.
    """

    def __init__(self, groups: Iterable[Sequence[Dialogue]], *, seed: int = 0, max_turns: int | None = None) -> None:
        worth = ([dialogue for dialogue in group if _asks_within(dialogue, max_turns)] for group in groups)
        self.groups = [group for group in worth if group]
        if not self.groups:
            raise ValueError(f"no dialogue asks anything within max_turns={max_turns} turns: allow more")
        self.seed, self.max_turns = seed, max_turns

    def __call__(self, number: int) -> Iterator[Interaction]:
        """Return the turns of conversation number `number`."""
        rng = random.Random(f"{self.seed}/drawn/{number}")
        group = self.groups[int(rng.random() * len(self.groups))]
        return iter(group[int(rng.random() * len(group))].turns[: self.max_turns])


def question_windows(dialogue: Dialogue, num_turns: int) -> list[Dialogue]:
    """Return one window for each question whose fact is fewer than `num_turns` turns back: the last `num_turns` turns.

    The fact may be anywhere in its window. If it were always in the first turn, a model would learn just that.
    """
    windows = []
    for number, turn in enumerate(dialogue.turns):
        distance = None if turn.question is None else turn.question.distance
        if distance is not None and distance < num_turns:
            turns = dialogue.turns[max(0, number - num_turns + 1) : number + 1]
            windows.append(Dialogue(turns, dialogue.source, dialogue.details))
    return windows


def answerable_pieces(dialogue: Dialogue, num_turns: int) -> list[Dialogue]:
    """Return the whole dialogue, or its `question_windows` if it is longer than `num_turns`.

    A turn of a window may ask for a fact from before the window. It cannot be answered, so its `question` is removed.
    """
    if len(dialogue) <= num_turns:
        return [dialogue]
    return [replace(window, turns=_answerable(window.turns)) for window in question_windows(dialogue, num_turns)]


def _answerable(turns: Sequence[Interaction]) -> tuple[Interaction, ...]:
    """Return the turns of a piece, without questions about turns before the piece."""
    return tuple(
        turn
        if turn.question is None or turn.question.distance is None or turn.question.distance <= place
        else replace(turn, question=None)
        for place, turn in enumerate(turns)
    )


def _asks_within(dialogue: Dialogue, max_turns: int | None) -> bool:
    asks = [turn.question is not None for turn in dialogue.turns]
    return not any(asks) or any(asks[:max_turns])
