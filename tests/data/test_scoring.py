"""Scoring: exactly the expected value and no other; and an audit that a lenient or strict scorer fails."""

import pytest

from rxlm.data.records import Dialogue, Interaction, Question
from rxlm.data.scoring import Grade, audit, grade, is_same_answer, wrong_answers

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


def test_audit_grades_gold_and_wrong_answers():
    turns = (
        Interaction("What is my favourite colour?", "You like blue.", question=TOLD),
        Interaction("What is my favourite colour?", "You have not told me.", question=NEVER_TOLD),
        Interaction("Hello!", "Hello!"),
    )
    result = audit([Dialogue(turns)], {"colour": COLOURS})
    assert (result.num_questions, result.gold, result.wrong) == (2, 1.0, 0.0)
    assert result.passed
    wrong = wrong_answers(turns[0], COLOURS)
    assert "You like red." in wrong
    assert "You like blue. Or red." in wrong
    assert not audit([Dialogue(turns[2:])], {}).passed, "nothing was asked"


def test_audit_finds_a_gold_answer_that_is_wrong():
    turn = Interaction("What is my favourite colour?", "You like blue, not green.", question=TOLD)
    assert audit([Dialogue((turn,))], {"colour": COLOURS}).gold == 0.0


def test_same_answer_ignores_case_and_punctuation_alone():
    assert is_same_answer("Hallway.", "hallway")
    assert is_same_answer("apple, milk", "apple,milk")
    assert not is_same_answer("milk,apple", "apple,milk")
    assert not is_same_answer("the hallway", "hallway")
