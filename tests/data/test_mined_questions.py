"""Questions are mined from answers whose words were said turns before and not since."""

import pytest

from rxlm.data.mined_questions import with_mined_questions
from rxlm.data.records import Dialogue, Interaction

FILLER = [("It rains.", "Yes."), ("I am tired.", "Rest.")]


def mined(*turns: tuple[str, str], others: int = 0) -> list[tuple[tuple[str, ...], int | None] | None]:
    same = [Dialogue((Interaction(f"{number} {turns[0][0]}", "Yes."),)) for number in range(others)]
    found = with_mined_questions([Dialogue(tuple(Interaction(*turn) for turn in turns)), *same])[0]
    return [turn.question and (turn.question.expected, turn.question.distance) for turn in found.turns]


@pytest.mark.parametrize(
    ("told", "asked", "answer", "word"),
    [
        ("My dog is called Biscuit.", "What is my dog called?", "It is Biscuit!", "Biscuit"),
        ("我的狗叫豆豆。", "我的狗叫什么?", "叫豆。", "豆"),
        ("Ich wohne in der Hauptstraße.", "Wo?", "HAUPTSTRASSE", "HAUPTSTRASSE"),
        ("Room 7.", "Which room?", "No. 7", "7"),
    ],
)
def test_word_said_turns_before_is_asked_for(told: str, asked: str, answer: str, word: str) -> None:
    assert mined((told, "Fine."), *FILLER, (asked, answer)) == [None, None, None, ((word,), 3)]


@pytest.mark.parametrize(
    "turns",
    [
        [("My dog is Biscuit.", "Fine."), ("It rains.", "Biscuit is wet."), ("My dog?", "Biscuit.")],
        [("My dog is Biscuit.", "Fine."), *FILLER, ("Is my dog Biscuit?", "Biscuit.")],
        [("My dog is Rex.", "Fine."), *FILLER, ("My dog?", "Biscuit.")],
        [("My dog is Biscuit.", "Fine."), *FILLER, ("My dog?", "Biscuit, Biscuit.")],
    ],
)
def test_what_is_said_since_or_asked_or_never_is_no_question(turns: list[tuple[str, str]]) -> None:
    assert mined(*turns) == [None] * len(turns)


def test_words_of_many_conversations_are_no_questions() -> None:
    turns = [("My dog is Biscuit.", "Fine."), *FILLER, ("My dog?", "Biscuit.")]
    assert mined(*turns, others=3) == [None] * 4


def test_answers_that_are_not_learnt_ask_nothing() -> None:
    turns = [Interaction("I am Ada.", "Hi."), *(Interaction(*each) for each in FILLER)]
    (found,) = with_mined_questions([Dialogue((*turns, Interaction("Me?", "Ada.", is_reference=False)))])
    assert all(turn.question is None for turn in found.turns)
