"""Pieces of dialogues: drawn alike from all groups, and asking for nothing that was said before they begin."""

import pytest

from rxlm.data.dialogue_pieces import DrawnConversations, answerable_pieces, question_windows
from rxlm.data.records import Dialogue, Interaction, Question


def asked(*distances):
    """A dialogue with a question at each turn that has a distance."""
    turns = [
        Interaction(f"q{place}", f"a{place}", question=distance and Question("k", ("v",), distance))
        for place, distance in enumerate(distances)
    ]
    return Dialogue(tuple(turns), "here", {})


def test_conversations_are_drawn_from_all_groups_alike_and_are_the_same_by_number():
    groups = [[Dialogue((Interaction("few", "x"),), "a", {})], [Dialogue((Interaction("many", "x"),), "b", {})] * 50]
    drawn = DrawnConversations(groups, seed=1)
    queries = [next(drawn(number)).query for number in range(400)]

    assert 150 < queries.count("few") < 250
    assert queries == [next(DrawnConversations(groups, seed=1)(number)).query for number in range(400)]
    assert queries != [next(DrawnConversations(groups, seed=2)(number)).query for number in range(400)]


def test_cut_conversations_still_ask_something():
    late, early = asked(None, None, 2), asked(None, 1, None)
    drawn = DrawnConversations([[late, early]], max_turns=2)

    assert {tuple(drawn(number)) for number in range(20)} == {early.turns[:2]}
    with pytest.raises(ValueError, match="no dialogue asks anything within max_turns=2 turns"):
        DrawnConversations([[late]], max_turns=2)


def test_a_window_holds_what_its_question_needs_anywhere_in_it():
    dialogue = asked(None, None, 2, None, 1, 4)
    windows = question_windows(dialogue, 3)

    assert [[turn.query for turn in window.turns] for window in windows] == [["q0", "q1", "q2"], ["q2", "q3", "q4"]]
    assert [len(window) for window in question_windows(dialogue, 5)] == [3, 5, 5]


def test_a_question_needs_one_turn_more_than_its_distance():
    dialogue = asked(None, None, None, 3)
    assert question_windows(dialogue, 3) == []
    assert question_windows(dialogue, 4) == [dialogue]


def test_a_piece_asks_for_nothing_that_was_said_before_it():
    dialogue = asked(None, None, 2, None, 1, 1)
    assert answerable_pieces(dialogue, 6) == [dialogue]

    pieces = answerable_pieces(dialogue, 4)
    assert [[turn.query for turn in piece.turns] for piece in pieces] == [
        ["q0", "q1", "q2"],
        ["q1", "q2", "q3", "q4"],  # what q2 asks was said by q0
        ["q2", "q3", "q4", "q5"],
    ]
    asks = [[turn.query for turn in piece.turns if turn.question is not None] for piece in pieces]
    assert asks == [["q2"], ["q4"], ["q4", "q5"]]
