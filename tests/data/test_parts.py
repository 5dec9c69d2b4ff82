"""Parts of sources: read from any place on they give what the whole reading gives after it, and mostly read no more."""

import gzip
import json
from itertools import islice
from pathlib import Path

import datasets
import pyarrow
import pytest
from pyarrow import parquet

from rxlm.data.fields import refuse
from rxlm.data.loaders import stream_dialogues, stream_interactions, stream_texts
from rxlm.data.parts import Place, parts_of_dataset, parts_of_files
from rxlm.data.records import RecordError

RECORDS = [{"text": f"The {number}th, é." * (1 + number % 3)} for number in range(25)]
LINES = [json.dumps(record, ensure_ascii=False) for record in RECORDS]
SEVERAL = [*LINES[:5], json.dumps(RECORDS[5:9], ensure_ascii=False), "", *LINES[9:]]


def table(path: Path, records: list[dict[str, object]], rows: int) -> None:
    parquet.write_table(pyarrow.Table.from_pylist(records), path, row_group_size=rows)


def write(folder: Path, kind: str) -> Path:
    """Write RECORDS to a file of a kind."""
    path = folder / kind.partition(" ")[0]
    text = "\n".join(LINES)
    match kind:
        case "a.parquet":
            table(path, RECORDS, 7)
        case "a.jsonl.gz":
            path.write_bytes(gzip.compress(text.encode()))
        case "a.jsonl of lines that end as on Windows":
            path.write_bytes(text.replace("\n", "\r\n").encode("utf-8-sig"))
        case "a.jsonl with several records on a line":
            path.write_text("\n".join(SEVERAL))
        case "a.jsonl in UTF-16":
            path.write_text(text, encoding="utf-16")
        case "a.json":
            path.write_text(json.dumps(RECORDS, indent=1))
        case "a.csv":
            path.write_text("text\n" + "".join(f'"{record["text"]}"\n' for record in RECORDS))
        case "a.txt":
            path.write_text("\n\n".join(record["text"] for record in RECORDS))
        case _:
            path.write_text(text)
    return path


KINDS = [
    "a.jsonl", "a.jsonl of lines that end as on Windows", "a.jsonl with several records on a line", "a.jsonl in UTF-16",
    "a.jsonl.gz", "a.json", "a.csv", "a.txt", "a.parquet",
]  # fmt: skip


def text_in(found) -> str:
    return found.record if isinstance(found.record, str) else found.record["text"]


@pytest.mark.parametrize("kind", KINDS)
def test_reading_goes_on_from_every_place(tmp_path, kind):
    parts = parts_of_files([write(tmp_path, kind)], refuse)
    assert len(parts) == (4 if kind == "a.parquet" else 1)
    whole = [(part, found) for part in parts for found in part.read(Place(), refuse)]
    assert [text_in(found) for _, found in whole] == [record["text"] for record in RECORDS]
    for part, found in whole:
        place = Place(*json.loads(json.dumps(found.place)))
        again = list(part.read(place, refuse))
        assert again[0] == found._replace(place=again[0].place)
        assert [each.where for each in again] == [after.where for of, after in whole if of is part][-len(again) :]
    assert len({found.where for _, found in whole}) == len(RECORDS)


@pytest.mark.parametrize("kind", ["a.jsonl", "a.txt"])
def test_lines_before_the_mark_are_not_read_again(tmp_path, kind):
    path = write(tmp_path, kind)
    (part,) = parts_of_files([path], refuse)
    places = [found.place for found in part.read(Place(), refuse)]
    content = path.read_bytes()
    path.write_bytes(b"\xff" * (len(content) // 2) + content[len(content) // 2 :])
    found = list(part.read(places[20], refuse))
    assert [text_in(each) for each in found] == [record["text"] for record in RECORDS[20:]]
    assert found[0].where == f"{path}, line {21 if kind == 'a.jsonl' else 41}"


def test_other_row_groups_are_not_read(tmp_path, monkeypatch):
    read = []
    original = parquet.ParquetFile.iter_batches
    monkeypatch.setattr(
        parquet.ParquetFile, "iter_batches", lambda *args, **options: read.append(options) or original(*args, **options)
    )
    parts = parts_of_files([write(tmp_path, "a.parquet")], refuse)
    assert read == []
    assert [text_in(found) for found in parts[2].read(Place(3), refuse)] == [row["text"] for row in RECORDS[17:21]]
    assert read == [{"row_groups": [2]}]


def test_bad_records_within_are_named_or_skipped_and_counted(tmp_path, caplog):
    pairs = [{"query": "Who?", "answer": f"{number}."} for number in range(6)]
    lines = [json.dumps(pair) for pair in pairs]
    lines[2], lines[4] = '{"query": "Who?"}', "{broken"
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    with pytest.raises(RecordError, match=r"a\.jsonl, line 3: field 'answer' is missing"):
        list(stream_interactions(tmp_path))
    source = stream_interactions(tmp_path, bad_records="skip")
    assert [turn.answer for turn in source] == ["0.", "1.", "3.", "5."]
    assert source.validate() == 4
    assert source.num_skipped == 2, "counted once, however often they are read"
    assert "1 bad record(s) skipped so far; the last: " in caplog.text
    assert "a.jsonl, line 5: not a JSON object" in caplog.text
    with pytest.raises(ValueError, match="bad_records must be 'stop' or 'skip', got 'drop'"):
        stream_interactions(tmp_path, bad_records="drop")  # type: ignore[arg-type]


def test_a_damaged_table_is_named_or_skipped(tmp_path):
    table(tmp_path / "a.parquet", RECORDS[:5], 5)
    (tmp_path / "b.parquet").write_bytes(b"PAR1")
    with pytest.raises(RecordError, match=r"b\.parquet is not a Parquet file that can be read"):
        list(stream_texts(tmp_path))
    assert len(list(stream_texts(tmp_path, bad_records="skip"))) == 5


@pytest.mark.parametrize("count", [0, 1, 6, 7, 8, 24, 25, 30])
def test_the_first_records_can_be_split_off(tmp_path, count):
    table(tmp_path / "a.parquet", RECORDS[:14], 7)
    (tmp_path / "b.jsonl").write_text("\n".join(LINES[14:]))
    first, rest = stream_texts(tmp_path).split_off(count)
    texts = [record["text"] for record in RECORDS]
    assert (first, list(rest)) == (texts[:count], texts[count:])
    assert len(rest.pieces()) == (3 if count <= 7 else 2 if count <= 14 else 1), "parts before it are not opened"


@pytest.mark.parametrize("num_shards", [1, 3])
@pytest.mark.parametrize("of_rows", [True, False])
def test_shards_of_a_hub_dataset_are_read_from_every_place(monkeypatch, num_shards, of_rows):
    monkeypatch.setattr("rxlm.data.parts._ROWS_A_MARK", 4)
    rows = datasets.Dataset.from_list(RECORDS).to_iterable_dataset(num_shards)
    if of_rows:  # not of tables
        rows = datasets.IterableDataset.from_generator(
            lambda lists: (row for rows in lists for row in rows),
            gen_kwargs={"lists": [RECORDS[start::num_shards] for start in range(num_shards)]},
        )
    parts = parts_of_dataset(rows, "org/talk")
    assert len(parts) == num_shards
    whole = [(part, found) for part in parts for found in part.read(Place(), refuse)]
    assert sorted(map(text_in, (found for _, found in whole))) == sorted(record["text"] for record in RECORDS)
    for part, found in whole:
        assert next(part.read(Place(*json.loads(json.dumps(found.place))), refuse)) == found
    assert whole[1][1].where == ("org/talk, row 2" if num_shards == 1 else "org/talk, shard 1, row 2")
    assert whole[5][1].place.mark[0] == 4


def test_a_network_that_fails_in_the_middle_is_an_error_with_its_place(monkeypatch):
    def rows():
        yield from RECORDS[:3]
        raise ConnectionError("gone")

    dataset = datasets.IterableDataset.from_generator(rows)
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **options: dataset)
    with pytest.raises(RecordError, match="org/talk, after row 3: ConnectionError: gone"):
        list(stream_texts("org/talk", bad_records="skip"))


def test_a_long_source_is_read_no_further_than_needed():
    records = ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]} for _ in [1] * 9)
    assert stream_dialogues(records).validate(limit=4) == 4
    assert len(list(islice(records, 20))) == 5
