"""Dialogues are known by what their records hold, whatever the file is called."""

import gzip
import json

import pytest

from rxlm.data.dialogue_forms import open_dialogues
from rxlm.data.held_out import hold_out_by_id
from rxlm.data.records import RecordError

TURNS = {"id": "t", "turns": [["U", "Hi."], ["S", "Hello."]]}
SERVICES = {**TURNS, "id": "s", "services": ["Bus_1"], "final_state": {"Bus_1": {"to": ["Here"]}}}
MESSAGES = {"id": "m", "messages": [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]}
INTERACTIONS = {"query": "Hi.", "answer": "Hello.", "interactions": []}
TALE = {
    "story": "f",
    "section_ids": ["1"],
    "sections": ["There was a hen."],
    "qa": [{"q": "Who?", "answers": ["a hen"], "sections": "1", "attr": "character"}],
}
MEETING = {
    "id": "q",
    "utterances": [["Ann", "Hens ."]],
    "queries": [{"query": "What?", "answer": "Hens.", "spans": [[0, 0]]}],
}
GREETING = [("Hi.", "Hello.")]


def write(path, *records):
    text = "\n".join(json.dumps(record) for record in records).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def said(dialogue):
    return [(turn.query, turn.answer) for turn in dialogue.turns]


@pytest.mark.parametrize(
    ("record", "expected", "name"),
    [
        (TURNS, GREETING, "t"),
        (SERVICES, GREETING, "s"),
        (MESSAGES, GREETING, "m"),
        (INTERACTIONS, GREETING, None),
        ({"query": "Hi.", "answer": "Hello."}, GREETING, None),
        ({"prompt": "Hi.", "completion": "Hello."}, GREETING, None),
        (TALE, [("There was a hen.", "Go on."), ("Who?", "a hen")], "f"),
        (MEETING, [("Ann: Hens.", "Go on."), ("What?", "Hens.")], "q"),
    ],
)
@pytest.mark.parametrize("file", ["a.jsonl", "a.jsonl.gz", "val.json"])
def test_form_is_known_by_its_fields(tmp_path, record, expected, name, file):
    (dialogue,) = open_dialogues(write(tmp_path / file, record))
    assert said(dialogue) == expected
    assert dialogue.details.get("id") == name


def test_service_dialogue_keeps_its_values(tmp_path):
    (dialogue,) = open_dialogues(write(tmp_path / "a.jsonl", SERVICES))
    assert dialogue.details["service_values"] == {"Bus_1.to": ("Here",)}


def test_folder_may_hold_several_forms_that_all_can_be_held_out(tmp_path):
    (tmp_path / "talk").mkdir()
    write(tmp_path / "b.jsonl", TALE, MEETING)
    write(tmp_path / "talk" / "a.jsonl.gz", TURNS, MESSAGES)
    (tmp_path / "SOURCE.txt").write_text("Where it is from.")
    found = open_dialogues(tmp_path)
    assert [dialogue.details["id"] for dialogue in found] == ["f", "q", "t", "m"]
    assert sum(map(len, hold_out_by_id(found))) == 4


def test_seed_draws_the_windows_of_meetings(tmp_path):
    long = {
        "id": "q",
        "utterances": [["Ann", f"Hen {number} " + "clucks " * 80 + "."] for number in range(60)],
        "queries": [{"query": "What?", "answer": "Hens.", "spans": [[30, 31]]}],
    }
    path = write(tmp_path / "a.jsonl", long)
    assert open_dialogues(path, seed=1) == open_dialogues(path, seed=1) != open_dialogues(path, seed=2)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"title": "Hens", "pages": []}, "no known form .* fields are 'title', 'pages'; allowed are .*'turns'.*QMSum"),
        ({}, "the fields are none; allowed are"),
        ({"turns": None}, "the fields are 'turns'; allowed are"),
        ({**SERVICES, "final_state": {"Bus_1": 3}}, "final_state.'Bus_1'.: expected an object"),
        ({"turns": [["A", "Hi."]]}, r"turns\[0\]: expected \['U', text\]"),
    ],
)
def test_record_of_no_known_form_is_located(tmp_path, record, message):
    path = write(tmp_path / "a.jsonl", TURNS, record)
    with pytest.raises(RecordError, match=f"{path}, line 2.*{message}"):
        open_dialogues(path)


def test_source_without_dialogues_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file to read"):
        open_dialogues(tmp_path)
    (tmp_path / "a.jsonl").write_text("\n")
    with pytest.raises(ValueError, match=r"a.jsonl' holds no dialogue"):
        open_dialogues(tmp_path / "a.jsonl")


def test_real_dialogues_are_read(real_data):
    for name, number in (("casino", 900), ("persuasion", 813), ("self-dialogues/dev.jsonl.gz", 500)):
        dialogues = open_dialogues(real_data / name)
        assert len(dialogues) == number
        assert 0.08 * number < len(hold_out_by_id(dialogues)[1]) < 0.12 * number
    meetings = open_dialogues(real_data / "qmsum" / "dev.jsonl.gz")
    assert sum(turn.question is not None for dialogue in meetings for turn in dialogue.turns) == 201
    assert max(map(len, meetings)) <= 20
