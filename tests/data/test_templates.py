"""The written form of an interaction, and the one rule for what does not fit."""

from hypothesis import given
from hypothesis import strategies as st

from rxlm.data.templates import fit_query, fit_turn

texts = st.lists(st.integers(0, 9), max_size=8).map(tuple)


@given(query=texts, room=st.integers(-3, 10))
def test_query_keeps_its_end_and_tells_how_much_was_cut(query, room):
    kept, cut = fit_query(query, room)
    assert query[:cut] + kept == query
    assert len(kept) == min(len(query), max(room, 0))


@given(query=texts, thought=texts, answer=texts, room=st.integers(0, 30))
def test_answer_loses_its_end_only_after_query_and_thought_have_lost_all(query, thought, answer, room):
    fitted = fit_turn(query, thought, answer, room)
    excess = max(len(query) + len(thought) + len(answer) - room, 0)
    assert sum(fitted.cut) == excess
    from_query, from_thought, from_answer = fitted.cut
    assert from_query == len(query) or not from_thought
    assert from_thought == len(thought) or not from_answer
    assert fitted[:3] == (query[from_query:], thought[from_thought:], answer[: len(answer) - from_answer])
