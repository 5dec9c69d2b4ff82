"""Is an answer right, and how often would a guess be? One scorer for values that compete, one for exact answers."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from rxlm.data.abstentions import ABSTENTIONS
from rxlm.data.records import Dialogue, Interaction, Question
from rxlm.data.scoring import Grade, grade, is_same_answer, wrong_answers
from rxlm.data.words import normalise

MOST_COMPETITORS_AUDITED = 40


class Scorer(Protocol):
    """Grades answers to the questions of one data set."""

    def grade(self, answer: str, turn: Interaction) -> Grade:
        """Grade an answer to the question of a turn."""

    def chance(self, question: Question) -> float:
        """Return how often one of the possible values, drawn blindly, would be right."""

    def wrong_answers(self, turn: Interaction) -> list[str]:
        """Return answers to the question of a turn that are known to be wrong."""


class ValueScorer:
    """Right is an answer that names the expected value and no other of its kind: `rxlm.data.scoring.grade`.

    Args:
        values: the values of every kind of question.
        abstentions: phrases that say that something was not told, besides those of `rxlm.data.abstentions`.
    """

    def __init__(self, values: Mapping[str, Collection[str]], abstentions: Sequence[str] = ()) -> None:
        self.values, self.abstentions = values, (*ABSTENTIONS, *abstentions)

    def grade(self, answer: str, turn: Interaction) -> Grade:
        """Grade an answer against the values of the question's kind."""
        return grade(answer, question_of(turn), self.competitors(turn), self.abstentions)

    def chance(self, question: Question) -> float:
        """Return one over the number of values; 0 where nothing was told, for no value is right then."""
        return 1 / max(len(self.values[question.kind]), 1) if question.was_told else 0.0

    def wrong_answers(self, turn: Interaction) -> list[str]:
        """Return the gold answer with other values in it, an abstention, and nothing; see `rxlm.data.scoring`."""
        return wrong_answers(turn, list(islice(self.competitors(turn), MOST_COMPETITORS_AUDITED)))

    def competitors(self, turn: Interaction) -> Collection[str]:
        """Return the values that an answer must not name beside the expected one."""
        return self.values[question_of(turn).kind]


class SameAnswerScorer:
    """Right is an answer of the same words as the expected one: the scoring of bAbI.

    Args:
        answers: the answers that questions of every kind have in the data.
    """

    def __init__(self, answers: Mapping[str, Collection[str]]) -> None:
        self.answers = answers

    def grade(self, answer: str, turn: Interaction) -> Grade:
        """Grade an answer: right, other, or nothing."""
        if not normalise(answer):
            return Grade.NOTHING
        return Grade.RIGHT if is_same_answer(answer, question_of(turn).expected[0]) else Grade.OTHER

    def chance(self, question: Question) -> float:
        """Return one over the number of answers that such questions have."""
        return 1 / len(self.answers[question.kind])

    def wrong_answers(self, turn: Interaction) -> list[str]:
        """Return every other answer of the kind, the gold answer followed by one of them, and nothing."""
        question = question_of(turn)
        others = [text for text in self.answers[question.kind] if not is_same_answer(text, question.expected[0])]
        return ["", *others, *(f"{turn.answer} or {text}" for text in others)]


def question_of(turn: Interaction) -> Question:
    """Return the question of a turn; ValueError where it has none."""
    if turn.question is None:
        raise ValueError(f"the turn {turn.query!r} asks nothing: it has no question")
    return turn.question


def asked(dialogues: Iterable[Dialogue]) -> Iterable[Interaction]:
    """Yield the turns of dialogues that carry a question."""
    return (turn for dialogue in dialogues for turn in dialogue.turns if turn.question is not None)


@dataclass(frozen=True)
class Audit:
    """A check of a scorer on answers known to be right or wrong: the shares that it grades RIGHT.

    Fields:
        num_questions: questions asked.
        gold: share of reference answers.
        wrong: share of wrong answers.
        unclear: questions of which a reference answer is not graded right, or a wrong one is.
    """

    num_questions: int
    gold: float
    wrong: float
    unclear: tuple[Interaction, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every reference answer is right and every wrong one is not."""
        return self.num_questions > 0 and self.gold == 1.0 and self.wrong == 0.0


def audit(dialogues: Iterable[Dialogue], scorer: Scorer) -> Audit:
    """Grade the gold answers of all questions, and wrong answers made from them."""
    golds: list[bool] = []
    wrongs: list[bool] = []
    unclear = []
    for turn in asked(dialogues):
        golds.append(scorer.grade(turn.answer, turn) is Grade.RIGHT)
        graded_right = [scorer.grade(answer, turn) is Grade.RIGHT for answer in scorer.wrong_answers(turn)]
        wrongs += graded_right
        if not golds[-1] or any(graded_right):
            unclear.append(turn)
    return Audit(len(golds), sum(golds) / max(len(golds), 1), sum(wrongs) / max(len(wrongs), 1), tuple(unclear))
