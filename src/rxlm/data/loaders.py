"""Load texts, interactions and dialogues from files, the Hugging Face hub or iterables, and check every record.

A source is a file, a folder, a glob pattern or several of these; the id of a hub dataset; or an iterable of records.
Interactions and dialogues are read at once, so that a bad record stops a run before training. Texts are read during
iteration, because they may be too large for memory: a bad record raises when it is read, or before in
`TextStream.validate`.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from rxlm.data.opened_files import kind_of, lines_of
from rxlm.data.record_files import RECORD_SUFFIXES, located_records
from rxlm.data.records import Dialogue, Interaction, RecordError, dialogue_of, interaction_of, text_of
from rxlm.data.text_files import TEXT_SUFFIXES, PathLike, find_files, hub_rows

R = TypeVar("R")

Source = PathLike | Iterable[Any]

_Located = Iterator[tuple[str, Any]]


class TextStream:
    """Texts that are read and checked during iteration, each time from the beginning."""

    def __init__(self, open_texts: Callable[[], Iterator[str]]) -> None:
        self._open_texts = open_texts

    def __iter__(self) -> Iterator[str]:
        return self._open_texts()

    def validate(self, limit: int | None = None) -> int:
        """Read all texts, or the first `limit`, and return their number; the first bad record raises `RecordError`.

        Where the source is an iterator, which can be read only once, iteration continues after these texts.
        """
        return sum(1 for _ in islice(self, limit))


def stream_texts(source: Source, *, name: str | None = None, split: str = "train") -> TextStream:
    """Return the texts of a source as a stream, for stage 1.

    Args:
        source: see the module. A text is a line of a .txt or .md file that is not blank, or a record's column "text".
        name, split: configuration and split of a hub dataset.
    """
    open_records = _opener(source, _lines_and_records, (*TEXT_SUFFIXES, *RECORD_SUFFIXES), name, split)

    def texts() -> Iterator[str]:
        for place, record in open_records():
            yield record if isinstance(record, str) else text_of(_as_record(record, place), place)

    return TextStream(texts)


def load_interactions(source: Source, *, name: str | None = None, split: str = "train") -> list[Interaction]:
    """Return all interactions of a source, for stage 2.

    Args:
        source: see the module; records of the shapes that `records.interaction_of` takes.
        name, split: configuration and split of a hub dataset.
    """
    return _load(source, Interaction, interaction_of, name, split)


def load_dialogues(source: Source, *, name: str | None = None, split: str = "train") -> list[Dialogue]:
    """Return all dialogues of a source, for stages 3 to 6.

    Args:
        source: see the module; records of the shapes that `records.dialogue_of` takes.
        name, split: configuration and split of a hub dataset.
    """
    return _load(source, Dialogue, dialogue_of, name, split)


def _load(
    source: Source, kind: type[R], convert: Callable[[Mapping[str, Any], str], R], name: str | None, split: str
) -> list[R]:
    """Return all records of a source; those that are not of the class `kind` are converted."""
    found = [
        record if isinstance(record, kind) else convert(_as_record(record, place), place)
        for place, record in _opener(source, located_records, RECORD_SUFFIXES, name, split)()
    ]
    if not found:
        raise ValueError(f"{str(source)[:300]!r} holds no record")
    return found


def _opener(
    source: Source, read: Callable[[list[Path]], _Located], suffixes: tuple[str, ...], name: str | None, split: str
) -> Callable[[], _Located]:
    """Return a function that opens the records of a source; a source without files raises here."""
    if isinstance(source, (str, os.PathLike)):
        if is_hub_id(source):
            return lambda: hub_rows(str(source), name=name, split=split)
        files = find_files(source, suffixes=suffixes)
        return lambda: read(files)
    if isinstance(source, (list, tuple)) and source and all(isinstance(item, (str, os.PathLike)) for item in source):
        files = find_files(source, suffixes=suffixes)
        return lambda: read(files)
    if isinstance(source, Mapping):
        raise ValueError("source must be an iterable of records, got one record: put it in a list")
    return lambda: _numbered(source)


def is_hub_id(source: PathLike) -> bool:
    """Return whether a source is an id such as "org/name", not the path of a missing file."""
    if not isinstance(source, str) or Path(os.path.expanduser(source)).exists():
        return False
    is_file_name = source.lower().endswith((*TEXT_SUFFIXES, *RECORD_SUFFIXES))
    return not is_file_name and re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", source) is not None


def _numbered(records: Iterable[Any]) -> _Located:
    return ((f"record {number}", record) for number, record in enumerate(records, 1))


def _as_record(record: Any, place: str) -> Mapping[str, Any]:
    if not isinstance(record, Mapping):
        raise RecordError(f"{place}: expected a record with named fields, found {record!r:.80}")
    return record


def _lines_and_records(files: list[Path]) -> _Located:
    for file in files:
        if kind_of(file) in TEXT_SUFFIXES:
            yield from ((str(file), line.rstrip("\n")) for line in lines_of(file) if line.strip())
        else:
            yield from located_records([file])
