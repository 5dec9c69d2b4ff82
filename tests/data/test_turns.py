"""Dialogues of two speakers: every message is kept, in its order, as a query or an answer."""

import gzip
import json

import pytest

from rxlm.data.records import RecordError
from rxlm.data.turns import read_turns, turns_dialogue


def dialogue(*messages):
    return turns_dialogue({"id": "x", "turns": [list(message) for message in messages]}, "a.jsonl, line 1")


def pairs(*messages):
    return [(turn.query, turn.answer) for turn in dialogue(*messages).turns]


def test_queries_and_answers_take_turns_in_the_order_of_the_messages():
    messages = [("US"[number % 2], f"Message {number}.") for number in range(8)]
    turns = dialogue(*messages).turns
    assert [text for turn in turns for text in (turn.query, turn.answer)] == [text for _, text in messages]


def test_consecutive_messages_of_a_speaker_are_joined():
    messages = (("U", "Hi."), ("U", "You there?"), ("S", "Yes."), ("U", "Good."), ("S", "So?"), ("S", "Say it."))
    assert pairs(*messages) == [("Hi. You there?", "Yes."), ("Good.", "So? Say it.")]


def test_messages_without_a_partner_are_left_out_and_roles_stay():
    inner = (("U", "A table."), ("S", "Done."))
    assert pairs(("S", "Welcome."), ("S", "How can I help?"), *inner) == [("A table.", "Done.")]
    assert pairs(*inner, ("U", "Thanks."), ("U", "Bye.")) == [("A table.", "Done.")]


def test_other_fields_are_details():
    record = {"id": "talk-1", "topic": "hens", "turns": [["U", "Hi."], ["S", "Hello."]]}
    assert turns_dialogue(record, "here").details == {"id": "talk-1", "topic": "hens"}


def test_folder_of_plain_and_compressed_files_is_read(tmp_path):
    lines = [json.dumps({"id": str(number), "turns": [["U", "Hi."], ["S", str(number)]]}) for number in range(3)]
    (tmp_path / "SOURCE.txt").write_text("Where it is from.")
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress("\n".join(lines[:2]).encode()))
    (tmp_path / "b.jsonl").write_text(lines[2])
    found = read_turns(tmp_path)
    assert [dialogue.details["id"] for dialogue in found] == ["0", "1", "2"]
    assert found[1].source == f"{tmp_path / 'a.jsonl.gz'}, line 2"
    assert read_turns(tmp_path / "a.jsonl.gz") == found[:2]


@pytest.mark.parametrize(
    ("turns", "message"),
    [
        (None, "field 'turns' is None; expected a list of messages"),
        ("U", "field 'turns' is 'U'; expected a list"),
        ([], r"field 'turns' is \[\]; expected a list"),
        ([["U", "Hi."], ["X", "Hm."]], r"turns\[1\]: expected \['U', text\] or \['S', text\], found \['X', 'Hm.'\]"),
        ([["U", " "]], r"turns\[0\]: expected .*, found \['U', ' '\]"),
        ([["U", "Hi.", "there"]], r"turns\[0\]: expected"),
        ([["S", "Hi."], ["U", "Hello."]], "no message of 'U' that 'S' answers"),
    ],
)
def test_record_of_another_form_is_located(turns, message):
    with pytest.raises(RecordError, match=f"a.jsonl, line 1.*{message}"):
        turns_dialogue({"turns": turns}, "a.jsonl, line 1")


def test_file_that_is_cut_off_is_named(tmp_path):
    whole = gzip.compress(json.dumps({"turns": [["U", "Hi."], ["S", "Hello."]]}).encode())
    for broken in (whole[:-9], b"not compressed", whole[:15] + b"xxxxx" + whole[20:]):
        (tmp_path / "a.jsonl.gz").write_bytes(broken)
        with pytest.raises(ValueError, match=r"a.jsonl.gz is not a complete gzip file"):
            read_turns(tmp_path / "a.jsonl.gz")


@pytest.mark.parametrize(
    ("details", "field"),
    [
        ({"id": "\ud800"}, "'id'"),
        ({"source": {"names": ["Ann", "\ud800"]}}, r"'source.names\[1\]'"),
        ({"source": {"\ud800": 1}}, r"'source\..*'"),
        ({"turns": [["U", "\ud800"], ["S", "Hello."]]}, r"'turns\[0\]\[1\]'"),
    ],
)
def test_half_a_character_is_refused_at_any_depth(details, field, tmp_path):
    record = {"turns": [["U", "Hi."], ["S", "Hello."]], **details}
    (tmp_path / "a.jsonl").write_text(json.dumps(record))
    with pytest.raises(RecordError, match=f"line 1: field {field} is no Unicode text"):
        read_turns(tmp_path / "a.jsonl")
