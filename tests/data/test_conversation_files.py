"""Conversations in the forms that people have them are read as they were said, or refused with their place."""

import csv
import gzip
import json
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from rxlm.data.dialogue_forms import open_dialogues, read_conversations
from rxlm.data.records import RecordError


def user(text, **more):
    return {"role": "user", "content": text, **more}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


def system(text, role="system"):
    return {"role": role, "content": text}


def said(dialogue):
    return [(turn.query, turn.answer) for turn in dialogue.turns]


def as_json(*messages):
    return json.dumps({"messages": messages}).encode()


def lines(path: Path, *records) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


CALL = {"id": "c", "type": "function", "function": {"name": "clock", "arguments": '{"city": "Bern"}'}}
CALLED = '<tool_call>\n{"name": "clock", "arguments": {"city": "Bern"}}\n</tool_call>'
GREETING = [("Hi.", "Hello.")]


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"messages": [system("Be brief."), system("It is May."), user("Hi."), assistant("Hello.")]},
         [("Be brief.\n\nIt is May.\n\nHi.", "Hello.")]),
        ({"messages": [system("Hm.", "developer"), user("Hi."), assistant("Hello.")]}, [("Hm.\n\nHi.", "Hello.")]),
        ({"messages": [system(""), user("Hi."), assistant("Hello.")]}, GREETING),
        ({"messages": [user("Hi."), user("I am Ann."), assistant("Hello."), assistant("Ann!")]},
         [("Hi.\n\nI am Ann.", "Hello.\n\nAnn!")]),
        ({"messages": [assistant("Welcome!"), user("Hi."), assistant("Hello."), user("Bye.")]}, GREETING),
        ({"messages": [user([{"type": "text", "text": "H"}, {"text": "i.", "image_url": None}]), assistant("Hello.")]},
         GREETING),
        ({"messages": [user("Hi.", name=None, tool_calls=None), assistant("Hello.", tool_calls=None)]}, GREETING),
        ({"messages": [user("Time?"), assistant(None, tool_calls=[CALL]), {"role": "tool", "content": "Noon"},
                       assistant("It is noon.")]},
         [("Time?", CALLED), ("<tool_response>\nNoon\n</tool_response>", "It is noon.")]),
        ({"messages": [user("Hi."), assistant(None, tool_calls=[{"name": "wave"}])]},
         [("Hi.", '<tool_call>\n{"name": "wave", "arguments": {}}\n</tool_call>')]),
        ({"conversations": [{"from": "human", "value": "Hi."}, {"from": "gpt", "value": "Hello."}]}, GREETING),
        ({"conversations": [{"from": "user", "value": "Hi."}, {"from": "Bard", "value": "Hello."}], "system": "Rhyme."},
         [("Rhyme.\n\nHi.", "Hello.")]),
        ({"conversations": [{"from": "human", "value": "Time?"}, {"from": "function_call", "value": "{}"},
                            {"from": "observation", "value": "Noon"}, {"from": "chatgpt", "value": "Noon."}]},
         [("Time?", "<tool_call>\n{}\n</tool_call>"), ("<tool_response>\nNoon\n</tool_response>", "Noon.")]),
        ({"prompt": [user("Hi.")], "completion": [assistant("Hello.")]}, GREETING),
        ({"instruction": "Hi.", "input": "", "output": "Hello."}, GREETING),
        ({"instruction": "Name it.", "input": "A dog.", "output": "Rex.", "system": "Rhyme."},
         [("Rhyme.\n\nName it.\n\nA dog.", "Rex.")]),
        ([[user("Hi."), assistant("Hello.")]], GREETING),
        ({"messages": None, "query": "Hi.", "answer": "Hello.", "interactions": None}, GREETING),
    ],
)  # fmt: skip
def test_messages_become_turns(tmp_path, record, expected):
    (dialogue,) = open_dialogues(lines(tmp_path / "a.jsonl", record))
    assert said(dialogue) == expected


def test_what_is_not_part_of_a_turn_is_told(tmp_path):
    record = {"messages": [assistant("Welcome!"), user("Hi."), assistant("Hello."), user("Bye.")]}
    (dialogue,) = open_dialogues(lines(tmp_path / "a.jsonl", record))
    first, last = dialogue.details["left_out"]
    assert "messages[0]: said by the assistant before any user" in first
    assert "messages[3]: has no answer" in last


def test_answer_of_weight_0_is_said_but_not_learnt(tmp_path):
    record = {"messages": [user("Hi."), assistant("Pah.", weight=0), user("Again."), assistant("Hello.", weight=1)]}
    (dialogue,) = open_dialogues(lines(tmp_path / "a.jsonl", record))
    assert [turn.is_reference for turn in dialogue.turns] == [False, True]


def node(parent, role, *parts, **more):
    content = {"content_type": "text", "parts": list(parts)}
    return {"parent": parent, "message": {"author": {"role": role}, "content": content, **more}}


def export(**changes):
    hidden = {"metadata": {"is_visually_hidden_from_conversation": True}}
    nodes = {
        "root": {"parent": None, "message": None},
        "hidden": node("root", "system", "Secret.", **hidden),
        "asked": node("hidden", "user", "Hi."),
        "first try": node("asked", "assistant", "Pah."),
        "second try": node("asked", "assistant", "Hello."),
        "thought": {"parent": "second try", "message": {"author": {"role": "assistant"}, "content": {
            "content_type": "thoughts", "thoughts": ["hm"]}}},
    }  # fmt: skip
    return {"title": "t", "id": "x", "mapping": nodes, "current_node": "thought", **changes}


def test_of_a_chatgpt_export_the_branch_is_read_that_was_shown(tmp_path):
    (tmp_path / "conversations.json").write_text(json.dumps([export()], indent=1))
    (dialogue,) = open_dialogues(tmp_path)
    assert said(dialogue) == GREETING
    assert dialogue.details["id"] == "x"


@pytest.mark.parametrize("last", ["gone", None, ["root"]])
def test_broken_tree_of_an_export_is_located(tmp_path, last):
    (tmp_path / "conversations.json").write_text(json.dumps([export(), export(current_node=last)]))
    with pytest.raises(RecordError, match=r"conversations.json, record 2: .*current_node"):
        open_dialogues(tmp_path)


CHAT = {"messages": [user("Grüezi\u2028du."), assistant("Hoi 🙂")]}
CHAT_SAID = [("Grüezi\u2028du.", "Hoi 🙂")]
RAW = json.dumps(CHAT, ensure_ascii=False)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", RAW.encode("utf-8-sig")),
        ("a.jsonl", RAW.encode("utf-16")),
        ("a.jsonl", f"\r\n{RAW}\r\n \r\n\r\n".encode()),
        ("a.jsonl", f"{RAW},\n".encode()),
        ("a.jsonl", f"[{RAW}]".encode()),
        ("a.jsonl", json.dumps(CHAT, indent=2).encode()),
        ("a.json", json.dumps(CHAT, indent=2).encode()),
        ("a.json", json.dumps([CHAT], indent=2).encode("utf-16")),
        ("a.jsonl.gz", gzip.compress(RAW.encode())),
        ("a.json.gz", gzip.compress(json.dumps([CHAT], indent=2).encode())),
        ("a.jsonl.zst", pyarrow.compress(RAW.encode(), codec="zstd", asbytes=True)),
        ("a.tsv", "query\tanswer\n\nGrüezi\u2028du.\tHoi 🙂\n\n".encode()),
        ("a.csv", "query;answer\r\nGrüezi\u2028du.;Hoi 🙂\r\n".encode("utf-8-sig")),
        ("a.csv", "query,answer\rGrüezi\u2028du.,Hoi 🙂\r".encode()),
        ("a.txt", "Anna: Grüezi\u2028du.\nBen: Hoi 🙂\n".encode()),
    ],
)
def test_every_kind_of_file_and_encoding_is_read(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    (dialogue,) = read_conversations(tmp_path / name).dialogues
    assert said(dialogue) == CHAT_SAID


def test_tables_and_saved_datasets_are_read(tmp_path):
    datasets = pytest.importorskip("datasets")
    parquet.write_table(pyarrow.Table.from_pylist([CHAT, CHAT]), tmp_path / "a.parquet")
    found = datasets.Dataset.from_list([CHAT])
    datasets.DatasetDict({"train": found, "test": found}).save_to_disk(tmp_path / "saved")
    found.save_to_disk(tmp_path / "one")
    dialogues = read_conversations([tmp_path / "a.parquet", tmp_path / "saved", tmp_path / "one"]).dialogues
    assert [said(dialogue) for dialogue in dialogues] == [CHAT_SAID] * 5


def test_hub_dataset_may_stand_beside_files(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_list([CHAT]).to_iterable_dataset()
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **kwargs: rows)
    found = read_conversations(["org/talk", lines(tmp_path / "a.jsonl", CHAT)]).dialogues
    assert [said(dialogue) for dialogue in found] == [CHAT_SAID, CHAT_SAID]
    assert found[0].source == "org/talk, row 1"


def test_messages_may_be_json_in_a_cell(tmp_path):
    with open(tmp_path / "a.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["id", "messages"], ["1", RAW[len('{"messages": ') : -1]]])
    (dialogue,) = open_dialogues(tmp_path)
    assert said(dialogue) == CHAT_SAID


def test_text_with_speakers_is_read(tmp_path):
    (tmp_path / "a.txt").write_text(
        "[12/03/2024, 14:05] Anna: Hi.\n14:06 - Ben: Hello,\nAnna.\n\n14:07 - Anna: Bye.\n"
        "----\nAI: Yes?\nUser: Hi.\nAI: Hello.\n"
    )
    first, second = read_conversations(tmp_path / "a.txt").dialogues
    assert said(first) == [("Hi.", "Hello,\nAnna.")]
    assert said(second) == GREETING


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"messages": [{"role": "user", "content": "K\xf6ln"}]}', "line 1: not UTF-8 text"),
        ("a.jsonl", as_json(user("\ud83d"), assistant("Hi.")), r"line 1: field 'messages\[0\].content' is no Unicode"),
        ("a.jsonl", as_json(user("Hi."), assistant("\n")), r"messages\[1\]: field 'content'"),
        ("a.jsonl", as_json(user(42), assistant("Hi.")), r"messages\[0\]: field 'content' is 42"),
        ("a.jsonl", as_json(user([{"type": "image_url"}]), assistant("Hi.")), "has a part that is not text"),
        ("a.jsonl", as_json(), "line 1: the messages must end with an answer"),
        ("a.jsonl", b'{"instruction": "Hi.", "input": 3, "output": "Hello."}', "line 1: field 'input' is 3"),
        ("a.jsonl", b'{"query": "Hi.", "answer": "Hello.", "history": [["a", "b"]]}', "line 1: field 'history' is not"),
        ("a.jsonl", b'{"question": "Hi.", "output": "Hello."}', "line 1: no known form"),
        ("a.json", json.dumps([[user("Hi."), 4]]).encode(), "record 1: expected a JSON object"),
        ("a.csv", b"query,answer\nHi, you,Hello.\n", "line 2: 3 cells, and the header has 2"),
        ("a.csv", b"query,query\nHi.,Hello.\n", "line 1: the header has 'query' 2 times"),
        ("a.csv", b"messages\n\"[{'role': 'user'}]\"\n", "line 2: field 'messages' is neither a list nor the JSON"),
        ("a.txt", b"Anna: Hi.\nBen: Hello.\nCleo: Hey.\n", "line 1: a conversation of 3 speakers.*'Cleo' .line 3"),
        ("a.txt", b"Once upon a time\n", "line 1: expected a speaker's name"),
        ("a.jsonl.zst", b"no zstd", "is not a complete zstd file"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_stops_with_its_place(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RecordError, match=f"{name}.*{message}"):
        read_conversations(tmp_path / name)


def test_bad_records_can_be_skipped_and_are_told(tmp_path):
    (tmp_path / "a.jsonl").write_text(f'{RAW}\n{{"messages": 3}}\n{{broken\n{RAW}\n')
    (tmp_path / "b.csv").write_text("query,answer\nHi, you,Hello.\nHi.,Hello.\n")
    found = read_conversations(tmp_path, bad_records="skip")
    assert [said(dialogue) for dialogue in found.dialogues] == [CHAT_SAID, CHAT_SAID, GREETING]
    assert len(found.skipped) == 3
    for place, reason in zip(("a.jsonl, line 2", "a.jsonl, line 3", "b.csv, line 2"), found.skipped, strict=True):
        assert place in reason
    with pytest.raises(RecordError, match=r"a.jsonl, line 2"):
        read_conversations(tmp_path)
    with pytest.raises(ValueError, match="bad_records must be 'stop' or 'skip', got 'drop'"):
        read_conversations(tmp_path, bad_records="drop")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Assistant: Yes?\nAnna: Hi.\nAssistant: Hello.\n", GREETING),
        ("Anna: Hi.\nAI: Hello.\n", GREETING),
        ("Anna 🌸: Hi.\nRene\u0301: Hello.\nAnna 🌸: Bye.\nRen\u00e9: Bye!\n", [*GREETING, ("Bye.", "Bye!")]),
        ("[12/01/24, 10:12:12] +49 170 1234567: Hi.\n[12/01/24, 10:13:12] Anna: Hello.\n", GREETING),
        ("1/1/24, 10:12 - Tom: Hi.\n1/1/24, 10:13 - Tom left the room\n1/1/24, 10:14 - Anna: Hello.", GREETING),
        ("2024-01-02T10:11:12 Tom: Hi.\n2024-01-02T10:11:14Z Anna: Hello.\n", GREETING),
        ("小明\uff1aHi.\n用户小红\uff1aHello.\n", GREETING),
        ("सीता: Hi.\nสมศรี: Hello.\n", GREETING),
    ],
)  # fmt: skip
def test_speakers_of_any_kind_are_told_apart(tmp_path, text, expected):
    (tmp_path / "a.txt").write_text(text)
    (dialogue,) = read_conversations(tmp_path / "a.txt").dialogues
    assert said(dialogue) == expected


def test_one_bad_line_loses_no_other(tmp_path):
    good, cut = '{"query": "Hi.\u2028", "answer": "Hello."}', '{"query": "Hi.", "answer": "Hello.",'
    for lines_ in ([good, cut, good, good], [cut, good, good, good], [good, "[1", good, good]):
        (tmp_path / "a.jsonl").write_text("\n".join(lines_))
        read = read_conversations(tmp_path / "a.jsonl", bad_records="skip")
        assert (len(read.dialogues), len(read.skipped)) == (3, 1)
    (tmp_path / "a.csv").write_text('query,answer\nHi.,Hello.\n"he said "hi" ok",c\nHi.,Hello.\n')
    read = read_conversations(tmp_path / "a.csv", bad_records="skip")
    assert len(read.dialogues) == 2
    assert "line 3: not valid CSV" in read.skipped[0]


def test_what_is_lost_after_a_fault_is_told(tmp_path):
    (tmp_path / "a.csv").write_text('query,answer\nHi.,Hello.\n"Hi.,Hello.\nHi.,Hello.\n')
    (tmp_path / "a.json").write_text('[\n {"query": "Hi.",\n "answer": "Hello."},\n {"query": \n')
    for name in ("a.csv", "a.json"):
        with pytest.raises(ValueError, match="nothing after it is read"):
            read_conversations(tmp_path / name)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ('{"query": "a", "query": "b", "answer": "c"}', "the field 'query' stands twice"),
        ('{"messages": [{"role": "user", "content": "a", "content": "b"}]}', "the field 'content' stands twice"),
        ('{"prompt": "a", "completion": "b", "label": false}', "field 'label' is false"),
        ('{"query": "a", "answer": "b", "system": ["c"]}', "field 'system' is"),
        ('{"conversations": [{"from": "human", "value": null}]}', "field 'value' is None"),
        ('{"messages": [{"role": "user", "content": [{"type": "image_url", "text": ""}]}]}', "a part that is not text"),
        ('{"conversations": [{"from": "human", "value": "a", "train": "no"}]}', "field 'train' is 'no'"),
    ],
)
def test_what_would_be_misread_is_refused(tmp_path, record, message):
    (tmp_path / "a.jsonl").write_text(record)
    with pytest.raises(RecordError, match=f"line 1.*{message}"):
        read_conversations(tmp_path / "a.jsonl")


def test_columns_of_one_name_are_refused(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(
        pyarrow.table([["a"], ["b"], ["c"]], names=["query", "query", "answer"]), tmp_path / "a.parquet"
    )
    with pytest.raises(RecordError, match="the column 'query' stands twice"):
        read_conversations(tmp_path / "a.parquet")


def test_not_all_that_is_said_is_learnt_or_said_aloud(tmp_path):
    parts = [{"type": "thinking", "thinking": "hm", "text": "hm"}, {"type": "text", "text": "Hello."}]
    (dialogue,) = open_dialogues(lines(tmp_path / "a.jsonl", {"messages": [user("Hi."), assistant(parts)]}))
    assert said(dialogue) == GREETING
    shared = {"conversations": [{"from": "human", "value": "Hi."}, {"from": "gpt", "value": "Hello.", "train": False}]}
    (dialogue,) = open_dialogues(lines(tmp_path / "a.jsonl", shared))
    assert [turn.is_reference for turn in dialogue.turns] == [False]


def test_a_file_may_be_the_list_of_messages_of_one_conversation(tmp_path):
    messages = [user("Hi."), assistant("Hello.")]
    for name, content in (("a.json", json.dumps(messages, indent=1)), ("a.jsonl", json.dumps(messages))):
        (tmp_path / name).write_text(content)
        (dialogue,) = read_conversations(tmp_path / name).dialogues
        assert said(dialogue) == GREETING


def test_excel_says_which_separator_it_writes(tmp_path):
    (tmp_path / "a.csv").write_text('sep=;\nquery;"answer";"notes, long"\nHi.;Hello.;x\n')
    (dialogue,) = read_conversations(tmp_path / "a.csv").dialogues
    assert said(dialogue) == GREETING


def test_texts_beside_records_are_named(tmp_path, caplog):
    lines(tmp_path / "a.jsonl", {"query": "Hi.", "answer": "Hello."})
    (tmp_path / "b.txt").write_text("User: Hi.\nAI: Hello.\n")
    assert len(read_conversations(tmp_path).dialogues) == 1
    assert "b.txt" in caplog.text


def test_sources_that_name_nothing_are_refused():
    with pytest.raises(ValueError, match="a source is an empty text"):
        read_conversations("")
    with pytest.raises(FileNotFoundError, match="~nobody-of-this-name"):
        read_conversations("~nobody-of-this-name/x.jsonl")


def test_an_export_of_many_messages_is_read_at_once(tmp_path):
    nodes = {"0": {"parent": None, "message": None}}
    for number in range(1, 6_001):
        nodes[str(number)] = node(str(number - 1), "user" if number % 2 else "assistant", "Hi.", weight=1.0)
    nodes["6000"]["message"]["weight"] = 0.0
    record = {"title": "t", "mapping": nodes, "current_node": "6000"}
    (dialogue,) = open_dialogues(lines(tmp_path / "a.jsonl", record))
    assert [turn.is_reference for turn in dialogue.turns].count(False) == 1
