"""Exact scoring of answers that name a value, and wrong answers to check a scorer with."""

import re
from collections import Counter
from collections.abc import Collection
from enum import StrEnum
from functools import lru_cache

from rxlm.data.records import Interaction, Question
from rxlm.data.small_talk import ABSTENTIONS

SCORER_VERSION = "1"
"""Changes with each change that may give an answer another grade."""


class Grade(StrEnum):
    """The grade of an answer; only RIGHT counts."""

    RIGHT = "right"
    STALE = "stale"
    OTHER = "other"
    ABSTAINED = "abstained"
    NOTHING = "nothing"


def normalise(text: str) -> str:
    """Return the words of a text in lower case, with single spaces and without punctuation."""
    return " ".join(_WORD.findall(text.casefold().replace("\u2019", "'")))


def grade(answer: str, question: Question, competitors: Collection[str]) -> Grade:
    """Grade an answer to a question.

    RIGHT: it names every expected value and no other of `competitors` (the values of the question's kind); for a fact
    that was never told, it says so and names no value. STALE: it names an earlier value. OTHER: it names a wrong value,
    or a right one among others. ABSTAINED: it says, wrongly, that it was not told. NOTHING: none of these.
    Values match as whole words, in upper or lower case; "dark blue" does not name "blue" if both are values.
    """
    words = normalise(answer)
    expected = {normalise(value) for value in question.expected}
    values = expected.union(normalise(value) for value in (*competitors, *question.stale))
    found = set(_pattern(frozenset(values)).findall(words))
    abstains = any(normalise(phrase) in words for phrase in ABSTENTIONS)
    if not found:
        if abstains:
            return Grade.ABSTAINED if question.was_told else Grade.RIGHT
        return Grade.NOTHING
    if found == expected:
        return Grade.RIGHT
    if found & {normalise(value) for value in question.stale} and not found & expected:
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
    others = [value for value in competitors if value not in question.expected]
    if not question.was_told:
        return ["", "I see.", *(f"It is {value}." for value in others)]
    swapped = [re.sub(re.escape(question.expected[0]), value, turn.answer, flags=re.IGNORECASE) for value in others]
    return ["", f"You have {ABSTENTIONS[0]}.", *swapped, *(f"{turn.answer} Or {value}." for value in others)]


@lru_cache(maxsize=256)
def _pattern(values: frozenset[str]) -> re.Pattern[str]:
    # Longest first, so that a value is not found within a longer one.
    choices = "|".join(re.escape(value) for value in sorted(values, key=len, reverse=True) if value)
    return re.compile(rf"(?<!\S)(?:{choices or '(?!)'})(?!\S)")


_WORD = re.compile(r"[\w']*\w")
