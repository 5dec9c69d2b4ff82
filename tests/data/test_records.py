"""Records become interactions and dialogues, or say where they stand and what is wrong."""

import json

import pytest

from rxlm.data.records import Dialogue, Interaction, RecordError, dialogue_of, interaction_of

USER, ASSISTANT = {"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}


@pytest.mark.parametrize(
    "record",
    [
        {"query": "Hi.", "answer": "Hello."},
        {"prompt": "Hi.", "completion": "Hello.", "id": 7},
        {"messages": [USER, ASSISTANT]},
        {"messages": json.dumps([USER, ASSISTANT])},
        {"messages": {"role": ["user", "assistant"], "content": ["Hi.", "Hello."]}},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi."}]}, ASSISTANT]},
        {"prompt": [USER], "completion": [ASSISTANT]},
    ],
)
def test_every_shape_of_an_interaction_is_read(record):
    assert interaction_of(record, "here") == Interaction("Hi.", "Hello.")


@pytest.mark.parametrize(
    "record",
    [
        {"query": "Hi.", "answer": "Hello.", "thought": "Greet."},
        {"messages": [USER, ASSISTANT | {"reasoning_content": "Greet."}]},
        {"messages": [USER, ASSISTANT | {"thinking": "Greet."}]},
    ],
)
def test_thought_is_kept(record):
    assert interaction_of(record, "here").thought == "Greet."


def test_system_message_goes_before_the_first_query():
    messages = [{"role": "system", "content": "Be brief."}, USER, ASSISTANT, USER, ASSISTANT]
    assert [turn.query for turn in dialogue_of({"messages": messages}, "here").turns] == ["Be brief.\n\nHi.", "Hi."]


@pytest.mark.parametrize(
    "interactions",
    [
        [{"query": "Hi.", "answer": "Hello."}],
        '[{"query": "Hi.", "answer": "Hello."}]',
        {"query": ["Hi."], "answer": ["Hello."]},
    ],
)
def test_first_turn_of_a_dialogue_stands_beside_the_others(interactions):
    record = {"query": "Good morning.", "answer": "Good morning!", "interactions": interactions}
    assert dialogue_of(record, "here") == Dialogue(
        (Interaction("Good morning.", "Good morning!"), Interaction("Hi.", "Hello.")), source="here"
    )


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"question": "Hi.", "reply": "Hello."}, r"no interaction: expected .*'question', 'reply'"),
        ({"query": "Hi."}, r"field 'answer' is missing beside 'query'"),
        ({"query": "Hi.", "answer": "  "}, r"field 'answer' is '  '; expected a text"),
        ({"query": None, "answer": "x"}, r"field 'query' is None"),
        ({"query": "a", "answer": "b", "interactions": []}, r"field 'interactions' belongs to a dialogue"),
        ({"messages": []}, "must end with an answer"),
        ({"messages": [USER]}, "must end with an answer"),
        ({"messages": [ASSISTANT]}, "must end with an answer"),
        (
            {"messages": [USER, {**ASSISTANT, "role": "narrator"}]},
            r"messages\[1\]: field 'role' is 'narrator'",
        ),
        ({"messages": [USER, {**ASSISTANT, "weight": 0.5}]}, r"messages\[1\]: field 'weight' is 0.5; expected 0"),
        ({"messages": [USER, {**ASSISTANT, "content": None}]}, r"messages\[1\]: field 'content' is None"),
        ({"messages": [USER, ASSISTANT, USER, ASSISTANT]}, "one interaction, found 2; .*load_dialogues"),
        ({"messages": ["Hi."]}, r"messages\[0\]: expected an object"),
        ({"messages": "Hi."}, "field 'messages' is neither a list nor the JSON text of one"),
        ({"messages": [USER | {"content": [{"type": "image_url"}]}]}, "a part that is not text"),
    ],
)
def test_record_that_is_no_interaction_says_which_field_is_wrong(record, message):
    with pytest.raises(RecordError, match=r"a.jsonl, line 3[:,] (.*)" + message):
        interaction_of(record, "a.jsonl, line 3")


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"query": "a", "answer": "b"}, "no dialogue: expected .*load_interactions"),
        ({"text": "a"}, "no dialogue: expected .*'text'"),
        ({"interactions": []}, "no interaction: expected"),
        ({"query": "a", "answer": "b", "interactions": 7}, "field 'interactions' is 7; expected a list"),
        (
            {"query": "a", "answer": "b", "interactions": [{"query": "c", "answer": "d"}, {"query": "e"}]},
            r"interactions\[1\]: field 'answer' is missing",
        ),
    ],
)
def test_record_that_is_no_dialogue_says_which_field_is_wrong(record, message):
    with pytest.raises(RecordError, match=r"row 3[:,] (.*)" + message):
        dialogue_of(record, "row 3")


def test_dialogue_has_a_turn():
    with pytest.raises(RecordError, match="somewhere: turns must hold at least one"):
        Dialogue((), source="somewhere")
