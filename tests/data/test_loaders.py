"""Loading: from files, folders, patterns, the hub and iterables, and checked before anything is trained."""

import csv
import json
import sys
from pathlib import Path

import pytest

from rxlm.data.loaders import load_dialogues, load_interactions, stream_texts
from rxlm.data.records import Dialogue, Interaction, RecordError

PAIRS = [{"query": "Who?", "answer": "I."}, {"query": "Where, then?", "answer": "Here."}]
INTERACTIONS = [Interaction("Who?", "I."), Interaction("Where, then?", "Here.")]


def write(path: Path, records: list[dict]) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(record) for record in records))
    elif path.suffix == ".json":
        path.write_text(json.dumps(records))
    elif path.suffix == ".parquet":
        pyarrow = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(pyarrow.Table.from_pylist(records), path)
    else:
        with open(path, "w", newline="") as file:
            writer = csv.DictWriter(file, list(records[0]))
            writer.writeheader()
            writer.writerows(
                {name: value if isinstance(value, str) else json.dumps(value) for name, value in record.items()}
                for record in records
            )
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.parquet"])
def test_interactions_come_from_every_kind_of_file(tmp_path, name):
    file = write(tmp_path / name, PAIRS)
    for source in (file, str(file), tmp_path, [str(file)], str(tmp_path / "*")):
        assert load_interactions(source) == INTERACTIONS


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.parquet"])
def test_dialogues_come_from_every_kind_of_file(tmp_path, name):
    write(tmp_path / name, [{**PAIRS[0], "interactions": PAIRS[1:]}])
    (dialogue,) = load_dialogues(tmp_path)
    assert dialogue.turns == tuple(INTERACTIONS)
    assert dialogue.source.startswith(str(tmp_path / name))


def test_records_and_finished_objects_come_from_iterables():
    assert load_interactions(iter(PAIRS)) == INTERACTIONS
    assert load_interactions(INTERACTIONS) == INTERACTIONS
    dialogues = [Dialogue(tuple(INTERACTIONS))]
    assert load_dialogues(dialogues) == dialogues


@pytest.mark.parametrize("load", [load_interactions, load_dialogues])
def test_bad_record_stops_at_the_call_and_is_located(tmp_path, load):
    good = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    file = write(tmp_path / "a.jsonl", [good, good, {"messages": good["messages"][:1]}])
    with pytest.raises(RecordError, match=rf"{file}, line 3: the messages must end with an answer"):
        load(file)
    with pytest.raises(RecordError, match="record 2: expected a record with named fields"):
        load([good, 7])


def test_stream_reads_lazily_and_validates_beforehand(tmp_path):
    file = write(tmp_path / "a.jsonl", [{"text": "one"}] * 3 + [{"story": "x"}])
    stream = stream_texts(file)
    assert [text for text, _ in zip(stream, range(2), strict=False)] == ["one", "one"]
    assert stream.validate(limit=3) == 3
    with pytest.raises(RecordError, match="line 4: no column 'text'"):
        stream.validate()
    assert next(iter(stream)) == "one", "a stream can be read again"


def test_texts_are_the_lines_of_text_files_and_a_column_of_records(tmp_path):
    (tmp_path / "a.txt").write_text("one\ntwo\n\n \nthree\n")
    write(tmp_path / "b.jsonl", [{"text": "four\n\nfive"}])
    assert list(stream_texts(tmp_path)) == ["one", "two", "three", "four\n\nfive"]
    assert list(stream_texts([str(tmp_path / "a.txt")])) == ["one", "two", "three"]
    assert list(stream_texts(iter(["one", "two"]))) == ["one", "two"]
    assert list(stream_texts([{"text": "one"}])) == ["one"]
    with pytest.raises(FileNotFoundError, match="no file to read in 'one'"):
        stream_texts(["one", "two"])


def test_plain_text_holds_no_interactions_and_is_passed_over_beside_them(tmp_path):
    (tmp_path / "README.md").write_text("About the data.\n")
    with pytest.raises(ValueError, match=r"README.md is of a kind that cannot be read: expected one of .jsonl, .json"):
        load_interactions(tmp_path / "README.md")
    with pytest.raises(FileNotFoundError, match=r"no file to read in .* of the kinds .jsonl, .json, .csv, .parquet"):
        load_interactions(tmp_path)
    write(tmp_path / "a.jsonl", PAIRS)
    assert load_interactions(tmp_path) == INTERACTIONS


@pytest.mark.parametrize("source", ["none.jsonl", "no/such/folder", "*.json", "./none"])
def test_missing_file_is_not_looked_for_on_the_hub(source, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(FileNotFoundError, match="no file to read in"):
        load_interactions(source)


def test_nothing_to_load_is_an_error(tmp_path):
    (tmp_path / "a.jsonl").write_text("\n")
    with pytest.raises(ValueError, match="holds no record"):
        load_interactions(tmp_path)
    with pytest.raises(ValueError, match="got one record: put it in a list"):
        load_interactions(PAIRS[0])


def test_hub_dataset_is_streamed_and_located(monkeypatch):
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_list([*PAIRS, {"query": "x", "answer": ""}]).to_iterable_dataset()
    asked = []
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **kwargs: asked.append((args, kwargs)) or rows)
    with pytest.raises(RecordError, match="org/talk, row 3: field 'answer' is ''"):
        load_interactions("org/talk", name="en", split="test")
    assert asked == [(("org/talk", "en"), {"split": "test", "streaming": True})]


def test_dataset_that_the_hub_does_not_have_is_named(monkeypatch):
    datasets = pytest.importorskip("datasets")

    def fail(*args, **kwargs):
        raise datasets.exceptions.DatasetNotFoundError("not there")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(FileNotFoundError, match=r"'org/talk' is no local file or folder, and no dataset of the .* hub"):
        load_dialogues("org/talk")
