"""Preferences: what people said of answers, given the conversation before them.

The memory that an answer was given from is never part of a record: it is computed again from the turns before.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rxlm.data.fields import RecordError
from rxlm.data.records import Interaction

Turns = tuple[Interaction, ...]


@dataclass(frozen=True, slots=True)
class Preference:
    """Two continuations of one conversation, of which the first is better.

    Fields:
        before: the turns before both.
        chosen, rejected: a turn each, with the same query and different answers, or several turns, of which the first
            ones have the same query.
        differs: in what they differ, where that is known, for example "stale".
        margin: by how much the first is better, where that is known.
        source: where the preference comes from.

    Raises `RecordError` where they are the same, or do not answer the same query.
    """

    before: Turns
    chosen: Turns
    rejected: Turns
    differs: str = ""
    margin: float | None = None
    source: str = ""

    def __post_init__(self) -> None:
        place = self.source or "a preference"
        if not self.chosen or not self.rejected:
            raise RecordError(f"{place}: chosen and rejected must have a turn each")
        first, second = self.chosen[0], self.rejected[0]
        if first.query.strip() != second.query.strip():
            raise RecordError(
                f"{place}: chosen and rejected have no common prompt: they answer {first.query!r:.60} and "
                f"{second.query!r:.60}"
            )
        if first.answer.strip() == second.answer.strip():
            raise RecordError(f"{place}: chosen and rejected are the same answer {first.answer!r:.60}")

    @property
    def answers(self) -> tuple[Turns, Turns]:
        """Both continuations, the better one first."""
        return self.chosen, self.rejected


@dataclass(frozen=True, slots=True)
class Rated:
    """A continuation of a conversation that was rated by itself; fields as in `Preference`."""

    before: Turns
    said: Turns
    is_good: bool
    source: str = ""

    @property
    def answers(self) -> tuple[Turns]:
        """The continuation."""
        return (self.said,)


Feedback = Preference | Rated


def preference_between(before: Turns, better: Turns, worse: Turns, **known: object) -> Preference:
    """Return the preference between two continuations, whose common first turns go to the turns before.

    `known` are the other fields. Raises as `Preference`, and where one continuation is the beginning of the other.
    """
    same = 0
    while same < min(len(better), len(worse)) and _words(better[same]) == _words(worse[same]):
        same += 1
    if same == min(len(better), len(worse)):
        place = known.get("source") or "a preference"
        relation = "are the same" if len(better) == len(worse) else "differ in their number of turns alone"
        raise RecordError(f"{place}: chosen and rejected {relation}")
    return Preference((*before, *better[:same]), better[same:], worse[same:], **known)  # type: ignore[arg-type]


def ranked(before: Turns, answers: Sequence[Turns], source: str = "") -> list[Preference]:
    """Return all pairs of a list of continuations, best first."""
    return [
        preference_between(before, better, worse, source=f"{source}, {place + 1} over {place + 1 + more}")
        for place, better in enumerate(answers)
        for more, worse in enumerate(answers[place + 1 :], 1)
    ]


def _words(turn: Interaction) -> tuple[str, str]:
    return turn.query.strip(), turn.answer.strip()
