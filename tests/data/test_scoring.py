"""Scoring: exactly the expected value and no other."""

import pytest

from rxlm.data.records import Interaction, Question
from rxlm.data.scoring import Grade, grade, is_same_answer, wrong_answers

COLOURS = ("red", "blue", "dark blue", "green")
TOLD = Question("colour", ("blue",), 3, 3, stale=("green",))
NEVER_TOLD = Question("colour", (), None)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Your favourite colour is blue.", Grade.RIGHT),
        ("BLUE!", Grade.RIGHT),
        ("It's blue, blue indeed.", Grade.RIGHT),
        ("I don't know, perhaps blue.", Grade.RIGHT),
        ("Your favourite colour is green.", Grade.STALE),
        ("It was green, now it is blue.", Grade.OTHER),
        ("Your favourite colour is red.", Grade.OTHER),
        ("It is red or green.", Grade.STALE),
        ("It is dark blue.", Grade.OTHER),
        ("It is blueish.", Grade.NOTHING),
        ("You have not told me that.", Grade.ABSTAINED),
        ("I don\u2019t know.", Grade.ABSTAINED),
        ("A lovely colour.", Grade.NOTHING),
        ("", Grade.NOTHING),
    ],
)
def test_answer_to_a_told_fact_must_name_it_and_no_other(answer, expected):
    assert grade(answer, TOLD, COLOURS) is expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("You have not told me that.", Grade.RIGHT),
        ("I do not know.", Grade.RIGHT),
        ("I do not know, maybe red.", Grade.OTHER),
        ("It is red.", Grade.OTHER),
        ("A lovely colour.", Grade.NOTHING),
    ],
)
def test_answer_to_a_fact_never_told_must_say_so(answer, expected):
    assert grade(answer, NEVER_TOLD, COLOURS) is expected


def test_several_expected_values_must_all_be_named():
    both = Question("carried", ("apple", "milk"), 2)
    assert grade("Milk and an apple.", both, ("apple", "milk", "football")) is Grade.RIGHT
    assert grade("An apple.", both, ("apple", "milk", "football")) is Grade.OTHER
    assert grade("Milk, an apple, a football.", both, ("apple", "milk", "football")) is Grade.OTHER


def test_wrong_answers_are_wrong_and_the_reference_answer_is_right():
    told = Interaction("What is my favourite colour?", "You like blue.", question=TOLD)
    wrong = wrong_answers(told, COLOURS)
    assert {"", "You like red.", "You like blue. Or red."} <= set(wrong)
    for turn in (told, Interaction("What is my favourite colour?", "You have not told me.", question=NEVER_TOLD)):
        assert grade(turn.answer, turn.question, COLOURS) is Grade.RIGHT
        assert all(grade(text, turn.question, COLOURS) is not Grade.RIGHT for text in wrong_answers(turn, COLOURS))
    with pytest.raises(ValueError, match="the turn asks nothing"):
        wrong_answers(Interaction("Hello!", "Hello!"), COLOURS)


def test_same_answer_ignores_case_and_punctuation_alone():
    assert is_same_answer("Hallway.", "hallway")
    assert is_same_answer("apple, milk", "apple,milk")
    assert not is_same_answer("milk,apple", "apple,milk")
    assert not is_same_answer("the hallway", "hallway")
