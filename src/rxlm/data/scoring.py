"""Decides whether an answer is right: exact scoring of answers that name a value, and an audit of the scorer itself."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from rxlm.data.records import Dialogue, Interaction, Question
from rxlm.data.small_talk import ABSTENTIONS

SCORER_VERSION = "1"
"""Changes whenever an answer may get another grade."""


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
    that was never told, it says so and names none. STALE: it names an earlier value. OTHER: it names a wrong value, or
    a right one among others. ABSTAINED: it says, wrongly, that it was not told. NOTHING: none of these.
    Values count as whole words, in any case; "dark blue" does not name "blue" where both are values.
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
    """Tell whether two answers have the same words, whatever their case and punctuation: the scoring of bAbI."""
    return normalise(answer) == normalise(reference)


@dataclass(frozen=True)
class Audit:
    """How the scorer grades answers that are known to be right or wrong: shares of them graded RIGHT."""

    num_questions: int
    gold: float
    wrong: float

    @property
    def passed(self) -> bool:
        """Whether every gold answer is right and every wrong one is not."""
        return self.num_questions > 0 and self.gold == 1.0 and self.wrong == 0.0


def audit(dialogues: Iterable[Dialogue], competitors: Mapping[str, Collection[str]]) -> Audit:
    """Grade the gold answers of all questions, and wrong answers made from them.

    Wrong answers are: the gold answer with any other value of its kind in place of the right one, the gold answer with
    a second value after it, an abstention (or, for a fact never told, every value), and the empty answer.
    """
    golds: list[Grade] = []
    wrongs: list[Grade] = []
    for dialogue in dialogues:
        for turn in dialogue.turns:
            if turn.question is not None:
                values = competitors[turn.question.kind]
                golds.append(grade(turn.answer, turn.question, values))
                wrongs += [grade(answer, turn.question, values) for answer in wrong_answers(turn, values)]
    return Audit(len(golds), _share_right(golds), _share_right(wrongs))


def wrong_answers(turn: Interaction, competitors: Collection[str]) -> list[str]:
    """Return answers to the question of a turn that are known to be wrong; see `audit`."""
    question = turn.question
    if question is None:
        raise ValueError("the turn asks nothing: it has no question")
    others = [value for value in competitors if value not in question.expected]
    if not question.was_told:
        return ["", "I see.", *(f"It is {value}." for value in others)]
    swapped = [re.sub(re.escape(question.expected[0]), value, turn.answer, flags=re.IGNORECASE) for value in others]
    return ["", f"You have {ABSTENTIONS[0]}.", *swapped, *(f"{turn.answer} Or {value}." for value in others)]


def _share_right(grades: list[Grade]) -> float:
    return sum(one is Grade.RIGHT for one in grades) / max(len(grades), 1)


@lru_cache(maxsize=256)
def _pattern(values: frozenset[str]) -> re.Pattern[str]:
    # The longest first, so that a value within another one is not found there.
    choices = "|".join(re.escape(value) for value in sorted(values, key=len, reverse=True) if value)
    return re.compile(rf"(?<!\S)(?:{choices or '(?!)'})(?!\S)")


_WORD = re.compile(r"[\w']*\w")
