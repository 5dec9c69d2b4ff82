"""Find and read text files: lines of plain text, records of JSON, CSV and Parquet."""

import contextlib
import csv
import glob
import gzip
import io
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from rxlm.data.fields import RecordError
from rxlm.data.records import text_of
from rxlm.file_errors import naming, parse_json

TEXT_SUFFIXES = (".txt", ".md")
RECORD_SUFFIXES = (".jsonl", ".json", ".csv", ".parquet", ".jsonl.gz")
LONGEST_LINE = 1 << 26
"""Characters; the longest of a file of records, and its longest cell."""
_PARQUET_ROWS = 1024
_INSTALL_HINT = 'pip install "reactive-lm[data]"'

PathLike = str | os.PathLike[str]


def read_texts(sources: PathLike | Iterable[PathLike], *, text_column: str = "text") -> Iterator[str]:
    """Yield the texts of files, folders (searched recursively) and glob patterns: one text per line or record.

    Files are sorted, and each is read once. A text is a line, with its line end, of a .txt or .md file; or
    `text_column` of a record of a .jsonl, .jsonl.gz, .json (a list of objects, or JSON lines), .csv or .parquet file.
    FileNotFoundError, at the call, names a source without files. `RecordError`, during iteration, names the file and
    the line that cannot be read or has no such column.
    """
    return _texts_of_files(find_files(sources), text_column)


def read_dataset(
    dataset: PathLike, *, name: str | None = None, split: str = "train", text_column: str = "text"
) -> Iterator[str]:
    """Yield the texts in one column of a Hugging Face dataset, streamed: they are downloaded during iteration.

    `dataset` is a hub id, and `name` its configuration; an existing local file or folder is read by `read_texts`.
    ImportError if the optional `datasets` package is missing.
    """
    if Path(dataset).exists():
        return read_texts(dataset, text_column=text_column)
    rows = hub_rows(str(dataset), name=name, split=split)
    return (text_of(row, place, text_column) for place, row in rows)


def find_files(
    sources: PathLike | Iterable[PathLike], *, suffixes: tuple[str, ...] = (*TEXT_SUFFIXES, *RECORD_SUFFIXES)
) -> list[Path]:
    """Return the files of files, folders and glob patterns, each once, sorted within a source.

    Hidden files and folders are left out, and in folders files with other suffixes. FileNotFoundError names a source
    without files; ValueError names a file with another suffix.
    """
    if isinstance(sources, (str, os.PathLike)):
        sources = [sources]
    return list(dict.fromkeys(file for source in sources for file in _files_of(source, suffixes)))


def read_records(path: PathLike) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield ("line 3", record) for each record of a .jsonl, .jsonl.gz, .json, .csv or .parquet file.

    `RecordError` names the file, and the line or record, or the last one before what cannot be read.
    """
    path = Path(path)
    read = _parquet_records if path.suffix.lower() == ".parquet" else _text_records
    place = None
    try:
        with naming(path):
            for place, record in read(path):
                yield place, record
    except UnicodeDecodeError as error:
        raise _not_utf8(path, error) from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise RecordError(f"{_after(path, place)} is not a complete gzip file: {error}") from error


def located_records(files: Iterable[Path]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield ("path, line 3", record) for each record of files of RECORD_SUFFIXES."""
    return ((f"{path}, {place}", record) for path in files for place, record in read_records(path))


def records_in(sources: PathLike | Iterable[PathLike]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield ("path, line 3", record) for each record of files, folders and glob patterns; see `find_files`."""
    return located_records(find_files(sources, suffixes=RECORD_SUFFIXES))


def lines_of(path: Path) -> Iterator[str]:
    """Yield the lines of a text file, each with its line end; `RecordError` if it is not UTF-8."""
    try:
        with naming(path), open(path, encoding="utf-8-sig") as file:
            yield from _bounded(path, file)
    except UnicodeDecodeError as error:
        raise _not_utf8(path, error) from error


def hub_rows(
    dataset: str, *, name: str | None = None, split: str = "train", streaming: bool = True
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield ("id, row 3", row) for each row of a Hugging Face dataset.

    Errors at the call: ImportError without the `datasets` package, FileNotFoundError if there is no such dataset.
    """
    try:
        from datasets import load_dataset  # pyrefly: ignore[missing-import]
    except ImportError as error:
        raise ImportError(
            f"{dataset!r} is no local file or folder, and reading a dataset of the Hugging Face hub "
            f"needs the datasets package: {_INSTALL_HINT}"
        ) from error
    try:
        rows: Iterable[Any] = load_dataset(dataset, name, split=split, streaming=streaming)
    except OSError as error:
        raise FileNotFoundError(
            f"{dataset!r} is no local file or folder, and no dataset of the Hugging Face hub that can be read ({error})"
        ) from error
    except ValueError as error:  # for example of an unknown configuration
        raise ValueError(f"The dataset {dataset!r} cannot be read: {error}") from error
    return _numbered_rows(dataset, rows)


def _numbered_rows(dataset: str, rows: Iterable[Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    number = 0
    try:
        for number, row in enumerate(rows, 1):
            yield f"{dataset}, row {number}", row
    except Exception as error:  # of the network, of Arrow, and of what decodes the columns
        raise RecordError(f"{dataset}, after row {number}: {type(error).__name__}: {error}") from error


def _files_of(source: PathLike, suffixes: tuple[str, ...]) -> list[Path]:
    path, kinds = Path(source).expanduser(), ", ".join(suffixes)
    if path.is_file():
        if not path.name.lower().endswith(suffixes):
            raise ValueError(f"{path} is of a kind that cannot be read: expected one of {kinds}")
        return [path]
    if path.is_dir():
        found = [file for file in path.rglob("*") if not _is_hidden(file.relative_to(path))]
    else:
        found = [Path(match) for match in glob.glob(str(path), recursive=True)]
    files = sorted(file for file in found if file.is_file() and file.name.lower().endswith(suffixes))
    if not files:
        raise FileNotFoundError(
            f"no file to read in {str(source)!r}: expected a file, a folder or a glob pattern, "
            f"with files of the kinds {kinds}"
        )
    return files


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _texts_of_files(files: list[Path], text_column: str) -> Iterator[str]:
    for path in files:
        if path.suffix.lower() in TEXT_SUFFIXES:
            yield from lines_of(path)
        else:
            for place, record in located_records([path]):
                yield text_of(record, place, text_column)


def _after(path: Path, place: str | int | None) -> str:
    return f"{path}, after {place}," if place else str(path)


def _not_utf8(path: Path, error: UnicodeDecodeError) -> RecordError:
    """Find the line in question: the decoder read many at once."""
    number = 1
    with contextlib.suppress(UnicodeDecodeError), _opener(path)(path, "rb") as file:
        for line in file:
            line.decode()
            number += 1
    return RecordError(f"{path}, line {number}: not UTF-8 text ({error.reason})")


def _opener(path: Path) -> Any:
    return gzip.open if path.suffix.lower() == ".gz" else open


def _text_records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    # utf-8-sig also reads files without the byte order mark that spreadsheets put first.
    with _opener(path)(path, "rt", encoding="utf-8-sig", newline="") as file:
        if path.suffix.lower() == ".csv":
            yield from _csv_records(path, file)
        elif path.suffix.lower() == ".json":
            yield from _json_records(path, file)
        else:
            yield from _json_lines(path, _bounded(path, file))


def _bounded(path: Path, file: TextIO) -> Iterator[str]:
    """Yield the lines of a file; `RecordError` for one without end, to which a few bytes of gzip can expand."""
    number = 0
    while line := file.readline(LONGEST_LINE + 1):
        number += 1
        if len(line) > LONGEST_LINE:
            raise RecordError(f"{path}, line {number}: longer than {LONGEST_LINE:,} characters, which is not read")
        yield line


def _json_records(path: Path, file: TextIO) -> Iterator[tuple[str, dict[str, Any]]]:
    content = file.read()
    if not content.lstrip().startswith("["):
        yield from _json_lines(path, io.StringIO(content))
        return
    try:
        records = parse_json(content)
    except ValueError as error:
        raise RecordError(f"{path} is not valid JSON: {error}") from error
    for number, record in enumerate(records, 1):
        yield f"record {number}", _as_object(record, f"{path}, record {number}")


def _json_lines(path: Path, lines: Iterable[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = parse_json(line)
        except ValueError as error:
            raise RecordError(f"{path}, line {number}: not a JSON object on one line ({error})") from error
        yield f"line {number}", _as_object(record, f"{path}, line {number}")


def _as_object(record: Any, place: str) -> dict[str, Any]:
    if not isinstance(record, dict):
        raise RecordError(f"{place}: expected a JSON object with named columns, found {record!r:.80}")
    return record


def _csv_records(path: Path, file: TextIO) -> Iterator[tuple[str, dict[str, Any]]]:
    csv.field_size_limit(LONGEST_LINE)  # the default refuses a cell over 128 KiB: a chapter of a book
    reader = csv.DictReader(_bounded(path, file))
    try:
        for record in reader:
            yield f"line {reader.line_num}", record
    except csv.Error as error:
        raise RecordError(f"{path}, line {reader.line_num}: not valid CSV ({error})") from error


def _parquet_records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        from pyarrow import parquet  # pyrefly: ignore[missing-import]
    except ImportError as error:
        raise ImportError(f"reading {path} needs the datasets package: {_INSTALL_HINT}") from error
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(_PARQUET_ROWS):
                for record in batch.to_pylist():
                    number += 1
                    yield f"record {number}", record
    except Exception as error:  # damaged files raise whatever their bytes lead to
        raise RecordError(
            f"{_after(path, number and f'record {number}')} is not a Parquet file that can be read: "
            f"{type(error).__name__}: {error}"
        ) from error
