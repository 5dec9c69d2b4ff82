"""Find files of texts and records, and read their texts."""

import glob
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rxlm.data.fields import BadRecord, RecordError, refuse
from rxlm.data.opened_files import COMPRESSED, INSTALL_HINT, kind_of, lines_of
from rxlm.data.record_files import RECORD_SUFFIXES, located_records
from rxlm.data.records import text_of

TEXT_SUFFIXES = (".txt", ".md", *(kind + packed for kind in (".txt", ".md") for packed in COMPRESSED))
_OF_DATASETS = ("dataset_info.json", "dataset_dict.json", "state.json")
"""What `save_to_disk` of the datasets package writes beside its records."""

PathLike = str | os.PathLike[str]


def read_texts(sources: PathLike | Iterable[PathLike], *, text_column: str = "text") -> Iterator[str]:
    """Yield the texts of files, folders (searched recursively) and glob patterns: one text per line or record.

    Files are sorted, and each is read once. A text is a line, with its line end, of a .txt or .md file; or
    `text_column` of a record of a .jsonl, .json (a list of objects, or JSON lines), .csv, .tsv, .parquet or .arrow
    file, and all but the last two may be compressed (.gz, .zst).
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
    if "" in (sources := list(sources)):
        raise ValueError("a source is an empty text; expected a file, a folder or a pattern")
    return list(dict.fromkeys(file for source in sources for file in _files_of(source, suffixes)))


def records_in(sources: PathLike | Iterable[PathLike], bad: BadRecord = refuse) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield ("path, line 3", record) for each record of files, folders and glob patterns; see `find_files`."""
    return located_records(find_files(sources, suffixes=RECORD_SUFFIXES), bad)


def hub_rows(
    dataset: str, *, name: str | None = None, split: str = "train", streaming: bool = True
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield ("id, row 3", row) for each row of a Hugging Face dataset; errors at the call as of `hub_dataset`."""
    return located_rows(dataset, hub_dataset(dataset, name=name, split=split, streaming=streaming))


def hub_dataset(dataset: str, *, name: str | None = None, split: str = "train", streaming: bool = True) -> Any:
    """Return a Hugging Face dataset, streamed: its rows are downloaded during iteration.

    ImportError without the `datasets` package, FileNotFoundError if there is no such dataset.
    """
    try:
        from datasets import load_dataset  # pyrefly: ignore[missing-import]
    except ImportError as error:
        raise ImportError(
            f"{dataset!r} is no local file or folder, and reading a dataset of the Hugging Face hub "
            f"needs the datasets package: {INSTALL_HINT}"
        ) from error
    try:
        return load_dataset(dataset, name, split=split, streaming=streaming)
    except OSError as error:
        raise FileNotFoundError(
            f"{dataset!r} is no local file or folder, and no dataset of the Hugging Face hub that can be read ({error})"
        ) from error
    except ValueError as error:  # for example of an unknown configuration
        raise ValueError(f"The dataset {dataset!r} cannot be read: {error}") from error


def located_rows(dataset: str, rows: Iterable[Any], first: int = 1) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield ("id, row 3", row) for rows that begin with number `first`; `RecordError` names what cannot be read."""
    number = first - 1
    try:
        for number, row in enumerate(rows, first):
            yield f"{dataset}, row {number}", row
    except Exception as error:  # of the network, of Arrow, and of what decodes the columns
        raise RecordError(f"{dataset}, after row {number}: {type(error).__name__}: {error}") from error


def _files_of(source: PathLike, suffixes: tuple[str, ...]) -> list[Path]:
    path, kinds = Path(os.path.expanduser(source)), ", ".join(suffixes)
    if path.is_file():
        if not path.name.lower().endswith(suffixes):
            raise ValueError(f"{path} is of a kind that cannot be read: expected one of {kinds}")
        return [path]
    if path.is_dir():
        found = [
            file for file in path.rglob("*") if not _is_hidden(file.relative_to(path)) and not _is_of_datasets(file)
        ]
    else:
        found = [Path(match) for match in glob.glob(str(path), recursive=True)]
    files = sorted(file for file in found if file.is_file() and file.name.lower().endswith(suffixes))
    if not files:
        raise FileNotFoundError(
            f"no file to read in {str(source)!r}: expected a file, a folder or a glob pattern, "
            f"with files of the kinds {kinds}"
        )
    return files


def _is_of_datasets(file: Path) -> bool:
    """Tell whether the datasets package wrote a file about records or found them by computing, beside the records."""
    if file.name in _OF_DATASETS:
        return file.name == "dataset_dict.json" or any(file.parent.glob("*.arrow"))
    return file.suffix == ".arrow" and file.name.startswith("cache-")


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _texts_of_files(files: list[Path], text_column: str) -> Iterator[str]:
    for path in files:
        if kind_of(path) in TEXT_SUFFIXES:
            yield from lines_of(path)
        else:
            for place, record in located_records([path]):
                yield text_of(record, place, text_column)
