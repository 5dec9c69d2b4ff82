"""Preferences about generated dialogues: which of two fluent answers is the better one, only the conversation tells.

Each pair answers a question of a dialogue, and differs from the reference answer in one way (`DIFFERENCES`).
"""

import random
from collections.abc import Sequence
from typing import Any

from rxlm.data.facts import FactGenerator
from rxlm.data.preferences import Preference
from rxlm.data.records import Dialogue, Interaction, Question
from rxlm.data.small_talk import chatter, unknown_answers
from rxlm.data.words import find_values

NEVER_TOLD, TOLD, STALE, VALUE, FLUENT = DIFFERENCES = ("never told", "told", "stale", "value", "fluent")
"""What differs: "You have not told me" over an invented value, a value over "You have not told me", the present value
over one that has changed, the value over another one, and an answer over small talk."""

FROM_MEMORY = (NEVER_TOLD, TOLD, STALE, VALUE)
"""The differences that nothing but the turns before tells: without them each answer is as good as the other."""

_NEXT = 1_000_003
"""From one dialogue to the next where the first has no such question."""
_MOST = 1_000
"""Dialogues that are looked through for such a question."""


class FactPreferences(Sequence[Preference]):
    """Pairs of answers, made on access and not stored; the differences take turns.

    Args:
        generator: of the dialogues.
        count: how many pairs.
        differences: those of `DIFFERENCES` that are wanted.

    ValueError where the generator's dialogues have no such question, as short ones have nothing that has changed.
    """

    def __init__(self, generator: FactGenerator, count: int, differences: Sequence[str] = DIFFERENCES) -> None:
        unknown = [each for each in differences if each not in DIFFERENCES]
        if unknown or not differences:
            raise ValueError(f"differences must be of {', '.join(DIFFERENCES)}, got {', '.join(unknown) or 'none'}")
        if count < 1:
            raise ValueError(f"count of pairs must be at least 1, got {count}")
        self.generator, self.differences, self._count = generator, tuple(differences), count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        """Return pair number `index`, or those of a slice as a list."""
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(self._count))]
        if not 0 <= index < self._count:
            raise IndexError(index)
        differs = self.differences[index % len(self.differences)]
        rng = random.Random(f"{self.generator.config.seed}/preference/{index}")
        dialogue, places = self._dialogue(index, differs)
        place = rng.choice(places)
        turn = dialogue.turns[place]
        worse = Interaction(turn.query, self._worse(turn, differs, rng), question=turn.question)
        source = f"{dialogue.source}, turn {place + 1}"
        return Preference(dialogue.turns[:place], (turn,), (worse,), differs, source=source)

    def _dialogue(self, index: int, differs: str) -> tuple[Dialogue, list[int]]:
        """Return the first dialogue with questions whose answers differ in this way, and their turns."""
        for number in range(index, index + _MOST * _NEXT, _NEXT):
            dialogue = self.generator.dialogue(number)
            if places := _places(dialogue, differs):
                return dialogue, places
        raise ValueError(
            f"Of {_MOST:,} dialogues of {self.generator.config.num_turns} turns none has a question whose answers "
            f"differ by {differs!r}: longer ones have."
        )

    def _worse(self, turn: Interaction, differs: str, rng: random.Random) -> str:
        question = turn.question
        assert question is not None
        variety, kind = self.generator.config.variety, self.generator.kind(question.kind)
        if differs == FLUENT:
            said = rng.sample(chatter(variety), len(chatter(variety)))
            return next(each.answer for each in said if not any(find_values(each.answer, kind.kind.values)))
        if differs == TOLD:
            return rng.choice(unknown_answers(variety, self.generator.config.answer_wording))
        if differs == STALE:
            return self._answer_with(rng.choice(question.stale), turn, question, rng)
        known = {*question.expected, *question.stale}
        values = [kind.kind.values[index] for index in (*kind.values, *kind.more)]
        return self._answer_with(rng.choice([each for each in values if each not in known]), turn, question, rng)

    def _answer_with(self, value: str, turn: Interaction, question: Question, rng: random.Random) -> str:
        """Return the answer to a turn's question that names a value, in the words of the reference where it has one."""
        wordings = [each for each in self.generator.kind(question.kind).kind.ask if each.fill(value)[0] == turn.query]
        if question.was_told:
            wordings = [each for each in wordings if each.fill(question.expected[0])[1] == turn.answer]
        return rng.choice(wordings).fill(value)[1]


def _places(dialogue: Dialogue, differs: str) -> list[int]:
    """Return the turns whose questions have answers that differ in this way."""
    return [place for place, turn in enumerate(dialogue.turns) if turn.question and _has(turn.question, differs)]


def _has(question: Question, differs: str) -> bool:
    if differs == NEVER_TOLD:
        return not question.was_told
    return question.was_told and (differs != STALE or bool(question.stale))
