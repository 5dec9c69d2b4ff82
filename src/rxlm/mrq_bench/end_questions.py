"""Questions at the end of what was told, such as those about a tale or a meeting, answered in each arm.

The dialogue is led as it is written up to the questions; then the model answers, and remembers what it has answered.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rxlm.data.records import Dialogue
from rxlm.data.scoring import is_same_answer, word_f1
from rxlm.mrq_bench.arms import Arm, references_of
from rxlm.mrq_bench.benchmark_data import DialogueSet
from rxlm.mrq_bench.protocol import Control, LanguageRespondent
from rxlm.mrq_bench.replies import batches_of, texts_of, turns_at


@dataclass(frozen=True)
class EndAnswer:
    """A model's answer to a question at the end of a dialogue, beside the reference answer that it is most like."""

    place: tuple[str, int]
    number: int
    answer: str
    f1: float
    is_exact: bool


def asks_at_the_end(dialogue: Dialogue) -> bool:
    """Tell whether a dialogue first tells and then asks: no turn without a question follows one with a question."""
    asks = [turn.question is not None for turn in dialogue.turns]
    return any(asks) and asks == sorted(asks) and not asks[0]


def answer_at_the_end(
    respondent: LanguageRespondent, sets: Sequence[DialogueSet], arms: Mapping[Arm, Control], batch_size: int
) -> dict[Arm, list[EndAnswer]]:
    """Return the answers to the questions of all dialogues that ask at the end, in each arm but another's memory."""
    found: dict[Arm, list[EndAnswer]] = {arm: [] for arm in arms if arm != "another"}
    for group in sets:
        rows = [row for row, dialogue in enumerate(group.dialogues) if asks_at_the_end(dialogue)]
        for places in batches_of(len(rows), batch_size):
            batch = [rows[place] for place in places]
            for arm, answers in found.items():
                answers += _answers(respondent, group, batch, arms[arm])
    return found


def _answers(
    respondent: LanguageRespondent, group: DialogueSet, rows: Sequence[int], control: Control
) -> Iterator[EndAnswer]:
    dialogues = [group.dialogues[row] for row in rows]
    respondent.reset(len(dialogues), control)
    for number in range(max(map(len, dialogues))):
        turns = turns_at(dialogues, number)
        told = [turn if turn and turn.question is None else None for turn in turns]
        asked = [turn if turn and turn.question else None for turn in turns]
        if any(told):
            respondent.follow(*texts_of(told))
        if any(asked):
            answers = respondent.respond(texts_of(asked)[0])
            for row, turn, answer in zip(rows, asked, answers, strict=True):
                if turn and turn.question and turn.question.was_told:
                    yield _graded((group.name, row), number, answer, references_of(group.dialogues[row], number))


def _graded(place: tuple[str, int], number: int, answer: str, references: Sequence[str]) -> EndAnswer:
    f1 = max((word_f1(answer, reference) for reference in references), default=0.0)
    return EndAnswer(place, number, answer, f1, any(is_same_answer(answer, reference) for reference in references))
