"""Pieces of dialogues that a model with few turns at a time can learn from, and conversations drawn from dialogues."""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from rxlm.data.records import Dialogue, Interaction


class DrawnConversations:
    """An endless sequence of conversations, drawn from groups of dialogues: first a group, then one of its dialogues.

    Every group is drawn as often as any other, whatever its size.

    Args:
        groups: dialogues by task, source, or whatever must be balanced.
        seed: of the drawing.
        max_turns: cuts longer dialogues. Of dialogues with questions, those that then ask nothing are left out.
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
    """Return, for each question that needs fewer than `num_turns` turns, the last `num_turns` turns up to it.

    What the question needs may stand anywhere in its window: were it always first, a model would learn just that.
    """
    windows = []
    for number, turn in enumerate(dialogue.turns):
        distance = None if turn.question is None else turn.question.distance
        if distance is not None and distance < num_turns:
            turns = dialogue.turns[max(0, number - num_turns + 1) : number + 1]
            windows.append(Dialogue(turns, dialogue.source, dialogue.details))
    return windows


def answerable_pieces(dialogue: Dialogue, num_turns: int) -> list[Dialogue]:
    """Return a dialogue whole, or, where it is longer than `num_turns`, its `question_windows`.

    What an earlier turn of a window asks of the turns before the window cannot be answered in it: such a turn loses its
    question, and is one like any other.
    """
    if len(dialogue) <= num_turns:
        return [dialogue]
    return [replace(window, turns=_answerable(window.turns)) for window in question_windows(dialogue, num_turns)]


def _answerable(turns: Sequence[Interaction]) -> tuple[Interaction, ...]:
    """Return the turns of a piece, without the questions that go back to before it."""
    return tuple(
        turn
        if turn.question is None or turn.question.distance is None or turn.question.distance <= place
        else replace(turn, question=None)
        for place, turn in enumerate(turns)
    )


def _asks_within(dialogue: Dialogue, max_turns: int | None) -> bool:
    asks = [turn.question is not None for turn in dialogue.turns]
    return not any(asks) or any(asks[:max_turns])
