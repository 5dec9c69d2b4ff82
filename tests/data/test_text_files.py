"""Finding files of text and reading them."""

import json
import sys

import pytest

from rxlm.data.record_files import read_records
from rxlm.data.text_files import find_files, read_dataset, read_texts
from rxlm.data.tokenizer import train_tokenizer


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "books" / "old").mkdir(parents=True)
    (tmp_path / "books" / ".git").mkdir()
    (tmp_path / "books" / "b.txt").write_text("one\ntwo\n\nthree", encoding="utf-8")
    (tmp_path / "books" / "old" / "a.md").write_text("# four\n", encoding="utf-8")
    (tmp_path / "books" / "cover.png").write_bytes(b"\x89PNG")
    (tmp_path / "books" / ".git" / "notes.txt").write_text("hidden", encoding="utf-8")
    (tmp_path / "books" / ".hidden.txt").write_text("hidden", encoding="utf-8")
    return tmp_path / "books"


def write(path, content):
    path.write_text(content, encoding="utf-8")
    return path


def test_folder_is_read_recursively_without_hidden_and_other_files(folder):
    assert find_files(folder) == [folder / "b.txt", folder / "old" / "a.md"]
    assert list(read_texts(folder)) == ["one\n", "two\n", "\n", "three", "# four\n"]


def test_files_folders_and_patterns_mix_and_repeat_nothing(folder):
    pattern = str(folder / "**" / "*.md")
    assert find_files([pattern, folder, folder / "b.txt"]) == [folder / "old" / "a.md", folder / "b.txt"]


def test_name_with_brackets_is_a_file_before_it_is_a_pattern(tmp_path):
    file = write(tmp_path / "part[1].txt", "x")
    assert find_files(str(file)) == [file]


@pytest.mark.parametrize("source", ["none.txt", "*.jsonl", "empty"])
def test_source_without_a_file_is_named_before_anything_is_read(folder, source):
    (folder / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no file to read in .*" + source.replace("*", r"\*")):
        read_texts([folder / "b.txt", folder / source])


def test_file_of_another_kind_is_refused(folder):
    with pytest.raises(ValueError, match=r"cover.png is of a kind .*\.txt, \.md, .*\.jsonl"):
        read_texts(folder / "cover.png")


RECORDS = [{"text": "zwei\nZeilen, ☕ \u2028", "id": 1}, {"text": "", "id": 2}]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", "\n\n".join(json.dumps(record, ensure_ascii=False) for record in RECORDS)),
        ("a.JSONL", "\r\n".join(json.dumps(record) for record in RECORDS)),
        ("a.json", json.dumps(RECORDS, indent=2)),
        ("a.json", "\ufeff" + json.dumps(RECORDS)),
        ("a.json", "\n".join(json.dumps(record, ensure_ascii=False) for record in RECORDS)),
        ("a.csv", 'id,text\n1,"zwei\nZeilen, ☕ \u2028"\n2,\n'),
        ("a.csv", '\ufeffid,text\n1,"zwei\nZeilen, ☕ \u2028"\n2,\n'),
    ],
)
def test_every_kind_of_record_file_gives_its_text_column(tmp_path, name, content):
    assert list(read_texts(write(tmp_path / name, content))) == [record["text"] for record in RECORDS]


def test_parquet_gives_its_text_column(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.Table.from_pylist(RECORDS), tmp_path / "a.parquet")
    assert list(read_texts(tmp_path)) == [record["text"] for record in RECORDS]
    with pytest.raises(ValueError, match=r"a.parquet, record 1: no column 'story'.*'text', 'id'"):
        list(read_texts(tmp_path, text_column="story"))


def test_another_column_can_be_chosen(tmp_path):
    file = write(tmp_path / "a.jsonl", '{"story": "one"}\n{"story": "two"}')
    assert list(read_texts(file, text_column="story")) == ["one", "two"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"text": "x"}\n\n{"id": 1, "story": "y"}', "line 3: no column 'text'; .*'id', 'story'"),
        ("a.jsonl", '{"text": "x"}\n{"text": 7}', "line 2: column 'text' holds 7, not a string"),
        ("a.jsonl", '{"text": "x"}\n{"text": ', "line 2: not a JSON object on one line"),
        ("a.jsonl", '"x"', "line 1: expected a JSON object"),
        ("a.json", '[{"text": "x"}, {}]', "record 2: no column 'text'; the columns are: none"),
        ("a.json", '[{"text": "x"}', "is not valid JSON"),
        ("a.json", '{\n"data": []\n}', "line 1: no column 'text'; the columns are: 'data'"),
        ("a.csv", "id,text\n1,x, y\n", "line 2: 3 cells, and the header has 2"),
        ("a.csv", "text,text\nx,y\n", "line 1: the header has 'text' 2 times"),
        ("a.csv", 'id,text\n1,x\n2,"y\n3,z\n', "line 3: not valid CSV"),
        ("a.csv", "id,story\n1,x\n", "line 2: no column 'text'; .*'id', 'story'"),
        ("a.csv", "id,text\n1,x\n2\n", "line 3: column 'text' holds None"),
    ],
)
def test_record_that_does_not_fit_is_located(tmp_path, name, content, message):
    file = write(tmp_path / name, content)
    with pytest.raises(ValueError, match=rf"{file}.*{message}"):
        train_tokenizer(read_texts(file), 300)


def test_file_that_is_not_utf8_is_named(tmp_path):
    (tmp_path / "latin.txt").write_bytes("né\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"latin.txt, line 1: not UTF-8 text"):
        list(read_texts(tmp_path))


def test_long_csv_cells_are_read(tmp_path):
    file = write(tmp_path / "a.csv", "text\n" + "x" * 200_000 + "\n")
    assert [len(text) for text in read_texts(file)] == [200_000]


def test_records_come_with_their_place(tmp_path):
    file = write(tmp_path / "a.jsonl", '{"query": "q"}\n\n{"query": "r"}')
    assert list(read_records(file)) == [("line 1", {"query": "q"}), ("line 3", {"query": "r"})]


def test_dataset_may_be_a_local_path(tmp_path):
    write(tmp_path / "a.jsonl", '{"story": "one"}')
    assert list(read_dataset(tmp_path, text_column="story")) == ["one"]


def test_missing_datasets_package_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ImportError, match=r'pip install "reactive-lm\[data\]"'):
        read_dataset("someone/stories")


def test_rows_of_a_hub_dataset_are_streamed(monkeypatch):
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_list([{"story": "one"}, {"story": "two"}]).to_iterable_dataset()
    asked = []
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **kwargs: asked.append((args, kwargs)) or rows)
    assert list(read_dataset("someone/stories", name="en", text_column="story")) == ["one", "two"]
    assert asked == [(("someone/stories", "en"), {"split": "train", "streaming": True})]
    with pytest.raises(ValueError, match="someone/stories, row 1: no column 'text'; the columns are: 'story'"):
        list(read_dataset("someone/stories"))
