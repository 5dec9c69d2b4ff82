"""Accuracy by distance says what a model remembers, and each answer comes from the memory of the turns before it."""

from collections.abc import Sequence

import pytest
import torch

from rxlm.data.fact_config import FactsConfig
from rxlm.data.facts import FactGenerator
from rxlm.data.records import Dialogue, Interaction, Question
from rxlm.mrq_bench.answered_questions import AnsweredQuestion, accuracy_by_distance, answer_questions
from text_models import tiny_text_model


def answers_of(oracle: "Oracle", dialogues: Sequence[Dialogue]) -> list[AnsweredQuestion]:
    return [
        AnsweredQuestion(d.source, n, turn.query, "", turn.question, oracle.knows(turn.question))
        for d in dialogues
        for n, turn in enumerate(d.turns)
        if turn.question is not None
    ]


class Oracle:
    """Knows what was told at most `window` turns ago."""

    def __init__(self, window: int) -> None:
        self.window = window

    def knows(self, question: Question) -> bool:
        return question.distance is not None and question.distance <= self.window


@pytest.mark.parametrize("window", [4, 7, 16])
def test_a_window_falls_off_exactly_at_its_edge(window: int) -> None:
    dialogues = FactGenerator(FactsConfig(num_turns=32)).dialogues(60)
    row = accuracy_by_distance(answers_of(Oracle(window), dialogues))

    for name, (share, _) in row.items():
        low, high = map(int, name.split("-"))
        assert share == (1.0 if high <= window else 0.0 if low > window else share)
    assert row["1-4"][0] == 1.0


def test_each_answer_comes_from_the_memory_of_the_turns_before() -> None:
    """A batch of dialogues gives what each gives alone, through the model's own text methods."""
    model = tiny_text_model().double()
    asked = Question(kind="dog", expected=("Rex",), distance=1)
    dialogues = [
        Dialogue(
            (Interaction("My dog is called Rex.", "ok"), Interaction("What is my dog called?", "Rex", None, asked))
        ),
        Dialogue((Interaction("Hello", "ok"), Interaction("You are kind.", "yes", None, asked))),
    ]
    together = list(answer_questions(model, dialogues, lambda text, question: "Rex" in text))

    for dialogue, answer in zip(dialogues, together, strict=True):
        model.reset_stm_state()
        for turn in dialogue.turns:
            ids = list(model.interact(**model.tokenize_query(turn.query), temperature=0))[:-2]
        assert answer.answer == model.stringify_batch([ids])[0]
        assert answer.is_right == ("Rex" in answer.answer)


def test_the_control_answers_every_turn_from_an_empty_memory() -> None:
    model = tiny_text_model().double()
    asked = Question(kind="dog", expected=("Rex",), distance=1)
    turns = [Interaction("What is my dog called?", "Rex", None, asked)] * 3
    answers = list(answer_questions(model, [Dialogue(tuple(turns))], lambda *_: True, control="empty"))

    assert len({answer.answer for answer in answers}) == 1


def test_a_control_that_the_model_cannot_answer_under_is_refused() -> None:
    dialogues = list(FactGenerator(FactsConfig(num_turns=2)).dialogues(1))
    with pytest.raises(
        ValueError,
        match="control must be one of none, empty, shuffled, never-updated for this model, got 'full-history'",
    ):
        list(answer_questions(tiny_text_model(), dialogues, lambda *_: True, control="full-history"))


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
