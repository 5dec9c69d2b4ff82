"""Held-out data: about a tenth, the same in any order and any set of files."""

import pytest

from rxlm.data.held_out import hold_out_by_id, is_held_out
from rxlm.data.records import Dialogue, Interaction

TALKS = [Dialogue((Interaction("Hi.", f"I am {number}."),), "f", {"id": f"talk-{number}"}) for number in range(1000)]


def test_parts_are_disjoint_and_together_everything_in_its_order():
    training, held = hold_out_by_id(TALKS)
    assert sorted([*training, *held], key=TALKS.index) == TALKS
    assert [talk for talk in TALKS if talk in training] == training
    assert 60 < len(held) < 140


def test_neither_order_nor_other_dialogues_nor_words_change_the_side():
    held = {talk.details["id"] for talk in hold_out_by_id(TALKS)[1]}
    reversed_half = TALKS[::-2]
    changed = [Dialogue((Interaction("Hm.", "Yes."),), "other file", talk.details) for talk in reversed_half]
    for some in (reversed_half, changed):
        ids = {talk.details["id"] for talk in hold_out_by_id(some)[1]}
        assert ids == held & {talk.details["id"] for talk in some}
    assert held == {name for number in range(1000) if is_held_out(name := f"talk-{number}")}


def test_side_of_a_name_never_changes():
    held_out = [0, 61, 62, 70, 72]
    assert [number for number in range(100) if is_held_out(f"talk-{number}")] == held_out


def test_larger_share_holds_out_what_a_smaller_one_does():
    names = [f"talk-{number}" for number in range(200)]
    assert all(is_held_out(name, 0.3) for name in names if is_held_out(name, 0.1))


def test_words_of_a_dialogue_without_an_id_decide():
    nameless = [Dialogue(talk.turns, f"line {number}") for number, talk in enumerate(TALKS)]
    training, held = hold_out_by_id(nameless)
    assert training
    assert held
    assert hold_out_by_id(nameless[::-1])[1] == held[::-1]


@pytest.mark.parametrize("share", [0, 1, -0.1, 2])
def test_share_that_holds_out_nothing_or_all_is_refused(share):
    with pytest.raises(ValueError, match="share must be between 0 and 1, got"):
        hold_out_by_id(TALKS, share)
