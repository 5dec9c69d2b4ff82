"""Every reader answers damaged files with one class of error, which names the file and, of records, line and field."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from rxlm.data.babi import read_babi
from rxlm.data.loaders import load_dialogues, load_interactions, stream_texts
from rxlm.data.meetings import read_meetings
from rxlm.data.opened_files import LONGEST_LINE
from rxlm.data.record_files import read_records
from rxlm.data.records import RecordError
from rxlm.data.sgd import read_sgd
from rxlm.data.stories import read_fairytales, read_picture_books, read_tiny_stories
from rxlm.data.text_files import read_texts
from rxlm.mrq_bench.own_dialogues import read_own_dialogues

PAIRS = [{"query": f"Question {number}?", "answer": "Yes."} for number in range(50)]
SERVICE = {"id": "1", "services": ["Bus"], "turns": [["U", "Hi."], ["S", "Hello."]], "final_state": {"Bus": {}}}
TALE = {
    "story": "hens",
    "section_ids": ["1"],
    "sections": ["There was a hen."],
    "qa": [{"q": "Who?", "answers": ["a hen"], "sections": "1", "attr": "character"}],
}
MEETING = {"id": "m", "utterances": [["A", "Hi."]], "queries": [{"query": "q", "answer": "a", "spans": [[0, 0]]}]}
OWN = {
    "query": "q", "answer": "a",
    "interactions": [{"query": "r", "answer": "b", "question": {"expected": ["a"], "distance": 1}}],
}  # fmt: skip
QA = TALE["qa"][0]


def parquet_bytes(folder: Path) -> bytes:
    parquet.write_table(pyarrow.Table.from_pylist(PAIRS), folder / "whole.parquet")
    return (folder / "whole.parquet").read_bytes()


@pytest.mark.parametrize("cut", [0, 3, 60, 100, -9, -1])
@pytest.mark.parametrize("kind", ["parquet", "jsonl.gz"])
def test_a_file_that_is_cut_off_is_named(kind: str, cut: int, tmp_path: Path) -> None:
    lines = "\n".join(map(json.dumps, PAIRS)).encode()
    whole = parquet_bytes(tmp_path) if kind == "parquet" else gzip.compress(lines)
    file = tmp_path / f"cut.{kind}"
    file.write_bytes(whole[:cut])
    if kind == "jsonl.gz" and cut == 0:
        assert list(read_records(file)) == []
        return
    with pytest.raises(RecordError, match=rf"cut\.{kind}"):
        list(read_records(file))


def test_damage_within_a_parquet_file_is_named(tmp_path: Path) -> None:
    whole = bytearray(parquet_bytes(tmp_path))
    for place in range(4, len(whole) - 8, 7):
        (tmp_path / "a.parquet").write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
        try:
            load_interactions(tmp_path / "a.parquet")
        except ValueError as error:
            assert str(tmp_path / "a.parquet") in str(error)  # noqa: PT017  # some bytes do not matter


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"query": ' + b"[" * 100_000, "line 1.*nested too deeply"),
        (b'{"query": ' + b"9" * 5_000 + b"}", "line 1"),
        (b'{"query": "q", "answer": "a"}\n\xff', "line 2: not UTF-8 text"),
        (b'{"query": "q", "answer": "\\ud800"}', "line 1: field 'answer' is no Unicode text: '.ud800' at character 1"),
        (b'{"query": "q", "answer": null}', "line 1: field 'answer' is None"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(content)
    with pytest.raises(RecordError, match=rf"a\.jsonl.*{message}"):
        load_interactions(tmp_path / "a.jsonl")


def test_a_line_without_end_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b" " * (LONGEST_LINE + 2), compresslevel=1))
    with pytest.raises(RecordError, match=r"a\.jsonl\.gz, line 1: longer than 67,108,864 characters"):
        list(read_records(tmp_path / "a.jsonl.gz"))


@pytest.mark.parametrize(
    ("read", "record", "message"),
    [
        (read_fairytales, {**TALE, "qa": [{**QA, "answers": "a fox"}]}, r"qa\[0\]: field 'answers' is 'a fox'"),
        (read_fairytales, {**TALE, "qa": [{**QA, "answers": [None]}]}, r"field 'answers\[0\]' is None"),
        (read_fairytales, {**TALE, "qa": [{**QA, "sections": "2"}]}, "field 'sections' names '2'; the story has 1"),
        (read_fairytales, {**TALE, "qa": {"q": "Who?"}}, "field 'qa' is"),
        (read_fairytales, {**TALE, "story": None}, "field 'story' is None"),
        (read_fairytales, {**TALE, "section_ids": [[1]]}, "section_ids: field 'id' is"),
        (read_sgd, {**SERVICE, "final_state": {"Bus": {"city": "Rome"}}}, r"\['Bus'\]: field 'city' is 'Rome'"),
        (read_sgd, {**SERVICE, "final_state": [["a", "b"]]}, "final_state: expected an object"),
        (read_sgd, {**SERVICE, "services": "Bus"}, "field 'services' is 'Bus'"),
        (read_sgd, {**SERVICE, "id": ["1"]}, "field 'id' is"),
        (read_picture_books, {"title": "A", "pages": ["B", None]}, r"field 'pages\[1\]' is None"),
        (read_picture_books, {"title": None, "pages": []}, "column 'title' holds None"),
        (read_meetings, {**MEETING, "id": {"a": 1}}, "field 'id' is"),
        (read_meetings, {**MEETING, "queries": [{**MEETING["queries"][0], "spans": [[False, 0]]}]}, "a span is"),
        (read_own_dialogues, {**OWN, "interactions": "tell me"}, "field 'interactions' is neither a list nor"),
        (read_own_dialogues, {**OWN, "interactions": [{**OWN["interactions"][0], "question": "q"}]}, "turn 2: field"),
    ],
)
def test_a_field_of_another_type_is_named(
    read: Callable[[Path], Any], record: dict[str, Any], message: str, tmp_path: Path
) -> None:
    (tmp_path / "a.jsonl").write_text("\n" + json.dumps(record))
    with pytest.raises(RecordError, match=rf"a\.jsonl, line 2.*{message}"):
        read(tmp_path / "a.jsonl")


@pytest.mark.parametrize(
    ("question", "message"), [("who?\tx\tone", "line 2"), ("who?\tx\t1 " + "9" * 5000, "line 2"), ("who?\tx", "line 2")]
)
def test_a_babi_question_without_its_lines_is_named(question: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "qa1_train.txt").write_text(f"1 Mary moved.\n2 {question}\n")
    with pytest.raises(RecordError, match=rf"qa1_train\.txt, {message}"):
        read_babi(tmp_path, tasks=[1])


@pytest.mark.parametrize(
    "read",
    [
        lambda file: read_babi(file, tasks=[1]),
        read_tiny_stories,
        lambda file: list(read_texts(file)),
        lambda file: list(stream_texts(file)),
    ],
)
def test_text_that_is_not_utf8_is_named(read: Callable[[Path], Any], tmp_path: Path) -> None:
    (tmp_path / "qa1_train.txt").write_bytes("1 né.\n".encode("latin-1"))
    with pytest.raises(RecordError, match=r"qa1_train\.txt, line 1: not UTF-8 text"):
        read(tmp_path / "qa1_train.txt")


def test_a_dialogue_without_lines_is_told_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps([{"messages": []}]))
    with pytest.raises(RecordError, match=r"a\.json, record 1"):
        load_dialogues(tmp_path / "a.json")
