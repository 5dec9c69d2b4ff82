"""Questions about service values in task-oriented dialogues: the answer must name what was said some turns ago.

A service is, for example, a restaurant search; each of its fields (the slots of dialogue state tracking) has values.
"""

from collections.abc import Iterable
from dataclasses import replace

from rxlm.data.records import Dialogue, Interaction, Question
from rxlm.data.words import names
from rxlm.mrq_bench.scoring import ValueScorer, question_of

SHORTEST_VALUE = 3  # letters: "2" or "no" stand in too many sentences that do not mean them


class ServiceScorer(ValueScorer):
    """Right is an answer that names the expected value and no other value of its field, but those of the reference."""

    def competitors(self, turn: Interaction) -> list[str]:
        """Return the field's values, without those that the reference answer names besides the expected one."""
        question = question_of(turn)
        return [
            value
            for value in self.values[question.kind]
            if value in question.expected or not _names(turn.answer, value)
        ]


def ask_for_service_values(dialogue: Dialogue) -> Dialogue:
    """Mark the turns of a dialogue that can only be answered from memory.

    A turn asks for a value if its reference answer names the value, an earlier turn did, and its own query does not.
    The distance goes back to the turn that named it last. Of several values, the one of the greatest distance is asked
    for. `kind` is the field.
    """
    fields = [
        (name, value)
        for name, values in dialogue.details["service_values"].items()
        for value in values
        if len(value) >= SHORTEST_VALUE
    ]
    last: dict[str, int] = {}
    turns = []
    for number, turn in enumerate(dialogue.turns):
        turns.append(replace(turn, question=_question(turn, number, fields, last)))
        for _, value in fields:
            if _names(turn.query, value) or _names(turn.answer, value):
                last[value] = number
    return replace(dialogue, turns=tuple(turns))


def service_values(dialogues: Iterable[Dialogue]) -> dict[str, list[str]]:
    """Return all values that each field has in the data: they compete when an answer is scored."""
    values: dict[str, dict[str, None]] = {}
    for dialogue in dialogues:
        for name, found in dialogue.details["service_values"].items():
            values.setdefault(name, {}).update((value, None) for value in found if len(value) >= SHORTEST_VALUE)
    return {name: list(found) for name, found in values.items()}


def _question(turn: Interaction, number: int, fields: list[tuple[str, str]], last: dict[str, int]) -> Question | None:
    recalled = [
        (number - last[value], name, value)
        for name, value in fields
        if value in last and _names(turn.answer, value) and not _names(turn.query, value)
    ]
    if not recalled:
        return None
    distance, name, value = max(recalled, key=lambda found: (found[0], len(found[2])))
    return Question(name, (value,), distance, distance)


def _names(text: str, value: str) -> bool:
    """Tell whether a text names a value as it is written, but for case: so that it can be exchanged in the text."""
    return value.casefold() in text.casefold() and names(text, value)
