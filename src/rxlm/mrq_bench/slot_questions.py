"""Memory questions in task-oriented dialogues: where the answer must name what the user said some turns ago."""

from collections.abc import Iterable
from dataclasses import replace

from rxlm.data.records import Dialogue, Interaction, Question
from rxlm.data.scoring import normalise
from rxlm.mrq_bench.scoring import ValueScorer, question_of

SHORTEST_VALUE = 3  # letters: "2" or "no" stand in too many sentences that do not mean them


class SlotScorer(ValueScorer):
    """Right is an answer that names the expected value and no other of its slot that the reference does not name."""

    def competitors(self, turn: Interaction) -> list[str]:
        """Return the slot's other values, but for those that the reference answer names, too."""
        question = question_of(turn)
        return [
            value
            for value in self.values[question.kind]
            if value in question.expected or not _names(turn.answer, value)
        ]


def ask_for_slots(dialogue: Dialogue) -> Dialogue:
    """Mark the turns of a dialogue that can only be answered from memory.

    A turn asks for a slot's value where its reference answer names the value, an earlier turn did, and its own query
    does not. The distance goes back to the turn that named it last. Of several values, the one of the greatest distance
    is asked for. `kind` is the slot.
    """
    slots = [
        (name, value)
        for name, values in dialogue.details["slots"].items()
        for value in values
        if len(value) >= SHORTEST_VALUE
    ]
    last: dict[str, int] = {}
    turns = []
    for number, turn in enumerate(dialogue.turns):
        turns.append(replace(turn, question=_question(turn, number, slots, last)))
        for _, value in slots:
            if _names(turn.query, value) or _names(turn.answer, value):
                last[value] = number
    return replace(dialogue, turns=tuple(turns))


def slot_values(dialogues: Iterable[Dialogue]) -> dict[str, list[str]]:
    """Return all values that each slot has in the data: they compete when an answer is scored."""
    values: dict[str, dict[str, None]] = {}
    for dialogue in dialogues:
        for name, of_slot in dialogue.details["slots"].items():
            values.setdefault(name, {}).update((value, None) for value in of_slot if len(value) >= SHORTEST_VALUE)
    return {name: list(of_slot) for name, of_slot in values.items()}


def _question(turn: Interaction, number: int, slots: list[tuple[str, str]], last: dict[str, int]) -> Question | None:
    recalled = [
        (number - last[value], name, value)
        for name, value in slots
        if value in last and _names(turn.answer, value) and not _names(turn.query, value)
    ]
    if not recalled:
        return None
    distance, name, value = max(recalled, key=lambda found: (found[0], len(found[2])))
    return Question(name, (value,), distance, distance)


def _names(text: str, value: str) -> bool:
    """Tell whether a text names a value as it is written, but for case: so that it can be exchanged in the text."""
    return value.casefold() in text.casefold() and f" {normalise(value)} " in f" {normalise(text)} "
