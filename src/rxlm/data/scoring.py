"""Exact scoring of answers that name a value, and wrong answers to check a scorer with."""

from collections import Counter
from collections.abc import Collection
from enum import StrEnum

from rxlm.data.abstentions import ABSTENTIONS
from rxlm.data.records import Interaction, Question
from rxlm.data.words import find_values, normalise, says

SCORER_VERSION = "2"
"""Changes with each change that may give an answer another grade."""


class Grade(StrEnum):
    """The grade of an answer; only RIGHT counts."""

    RIGHT = "right"
    STALE = "stale"
    OTHER = "other"
    ABSTAINED = "abstained"
    NOTHING = "nothing"


def grade(
    answer: str, question: Question, competitors: Collection[str], abstentions: Collection[str] = ABSTENTIONS
) -> Grade:
    """Grade an answer to a question.

    RIGHT: it names every expected value and no other of `competitors` (the values of the question's kind); for a fact
    that was never told, it says so and names no value. STALE: it names an earlier value. OTHER: it names a wrong value,
    or a right one among others. ABSTAINED: it says, wrongly, that it was not told. NOTHING: none of these.
    Values match as whole words (see `rxlm.data.words`); "dark blue" does not name "blue" if both are values.
    `abstentions` are phrases that say that something was not told.
    """
    expected, stale = ({normalise(value) for value in values} for values in (question.expected, question.stale))
    found = {each.value for each in find_values(answer, {*question.expected, *competitors, *question.stale})}
    if not found:
        if says(answer, abstentions):
            return Grade.ABSTAINED if question.was_told else Grade.RIGHT
        return Grade.NOTHING
    if found == expected:
        return Grade.RIGHT
    if found & stale and not found & expected:
        return Grade.STALE
    return Grade.OTHER


def is_same_answer(answer: str, reference: str) -> bool:
    """Return whether two answers have the same words; case and punctuation do not matter: the scoring of bAbI."""
    return normalise(answer) == normalise(reference)


def word_f1(answer: str, reference: str) -> float:
    """Return the F1 of an answer's words against those of a reference, as question answering scores it: 0 to 1."""
    said, wanted = Counter(normalise(answer).split()), Counter(normalise(reference).split())
    common = (said & wanted).total()
    return 2 * common / (said.total() + wanted.total()) if common else 0.0


def wrong_answers(turn: Interaction, competitors: Collection[str]) -> list[str]:
    """Return wrong answers to the question of a turn.

    These are: the reference answer with each other value of its kind in place of the right one; the reference answer
    followed by a second value; "I was not told" (or, for a fact never told, each value); and the empty answer.
    """
    question = turn.question
    if question is None:
        raise ValueError("the turn asks nothing: it has no question")
    expected = set(map(normalise, question.expected))
    others = [value for value in competitors if normalise(value) not in expected]
    if not question.was_told:
        return ["", "I see.", *(f"It is {value}." for value in others)]
    swapped = [_swapped(turn.answer, question.expected[0], value) for value in others]
    return ["", f"You have {ABSTENTIONS[0]}.", *swapped, *(f"{turn.answer} Or {value}." for value in others)]


def _swapped(answer: str, value: str, other: str) -> str:
    """Return an answer with another value wherever it names one."""
    found = list(find_values(answer, (value,)))
    for each in reversed(found):
        answer = answer[: each.start] + other + answer[each.end :]
    return answer
