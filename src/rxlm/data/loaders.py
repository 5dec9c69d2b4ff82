"""Load texts, interactions and dialogues from wherever they are, every record checked before it reaches training.

A source is a file, a folder, a glob pattern or several of these; the id of a Hugging Face dataset; or an iterable of
records. `load_*` reads everything and returns a list, so that a bad record stops a run before training. `stream_*`
returns a `RecordStream` that reads while it is iterated, for what is too large to hold: a bad record raises when it is
met, or beforehand in `validate`.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby, islice
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, get_args

from rxlm.data.records import Dialogue, Interaction, RecordError, dialogue_of, interaction_of, text_of
from rxlm.data.text_files import RECORD_SUFFIXES, TEXT_SUFFIXES, PathLike, find_files, hub_rows, located_records

R = TypeVar("R")

Unit = Literal["line", "paragraph", "file"]
Source = PathLike | Iterable[Any]

_Located = Iterator[tuple[str, Any]]


class RecordStream(Generic[R]):
    """Records that are read anew, and checked, each time they are iterated."""

    def __init__(self, open_records: Callable[[], _Located], convert: Callable[[Any, str], R]) -> None:
        self._open_records, self._convert = open_records, convert

    def __iter__(self) -> Iterator[R]:
        for place, record in self._open_records():
            yield self._convert(record, place)

    def validate(self, limit: int | None = None) -> int:
        """Read all records, or the first `limit`, and return their number; the first bad one raises `RecordError`.

        An iterator can only be read once: what was validated is then gone.
        """
        return sum(1 for _ in islice(self, limit))


def load_texts(
    source: Source, *, text_column: str = "text", unit: Unit = "line", name: str | None = None, split: str = "train"
) -> list[str]:
    """Return all texts of a source, for stage 1; arguments as in `stream_texts`."""
    return _all(stream_texts(source, text_column=text_column, unit=unit, name=name, split=split), source)


def load_interactions(source: Source, *, name: str | None = None, split: str = "train") -> list[Interaction]:
    """Return all interactions of a source, for stage 2; arguments as in `stream_interactions`."""
    return _all(stream_interactions(source, name=name, split=split), source)


def load_dialogues(source: Source, *, name: str | None = None, split: str = "train") -> list[Dialogue]:
    """Return all dialogues of a source, for stages 3 to 6; arguments as in `stream_dialogues`."""
    return _all(stream_dialogues(source, name=name, split=split), source)


def stream_texts(
    source: Source, *, text_column: str = "text", unit: Unit = "line", name: str | None = None, split: str = "train"
) -> RecordStream[str]:
    """Return the texts of a source as a stream.

    Args:
        source: see the module; an iterable holds strings or records, files are given as `Path`s in it.
        text_column: the column of records that holds the text.
        unit: what a text is in .txt and .md files: a "line" that is not blank, a "paragraph" between blank lines, or
            the whole "file".
        name, split: configuration and split of a hub dataset.
    """
    if unit not in get_args(Unit):
        raise ValueError(f"unit must be one of {', '.join(map(repr, get_args(Unit)))}, got {unit!r}")

    def read(files: list[Path]) -> _Located:
        for file in files:
            if file.suffix.lower() in TEXT_SUFFIXES:
                yield from _texts_in(file, unit)
            else:
                yield from located_records([file])

    def convert(record: Any, place: str) -> str:
        return record if isinstance(record, str) else text_of(_as_record(record, place), place, text_column)

    if isinstance(source, (list, tuple)) and source and all(isinstance(text, str) for text in source):
        if all(os.path.isfile(text) for text in source):
            raise ValueError(f"{source!r:.80} names files; to load what they hold, give Paths")
        return RecordStream(lambda: _numbered(source), convert)
    return RecordStream(_opener(source, read, (*TEXT_SUFFIXES, *RECORD_SUFFIXES), name, split), convert)


def stream_interactions(source: Source, *, name: str | None = None, split: str = "train") -> RecordStream[Interaction]:
    """Return the interactions of a source as a stream.

    Args:
        source: see the module; records of the shapes that `records.interaction_of` takes.
        name, split: configuration and split of a hub dataset.
    """

    def convert(record: Any, place: str) -> Interaction:
        return record if isinstance(record, Interaction) else interaction_of(_as_record(record, place), place)

    return RecordStream(_opener(source, located_records, RECORD_SUFFIXES, name, split), convert)


def stream_dialogues(source: Source, *, name: str | None = None, split: str = "train") -> RecordStream[Dialogue]:
    """Return the dialogues of a source as a stream.

    Args:
        source: see the module; records of the shapes that `records.dialogue_of` takes.
        name, split: configuration and split of a hub dataset.
    """

    def convert(record: Any, place: str) -> Dialogue:
        return record if isinstance(record, Dialogue) else dialogue_of(_as_record(record, place), place)

    return RecordStream(_opener(source, located_records, RECORD_SUFFIXES, name, split), convert)


def _opener(
    source: Source, read: Callable[[list[Path]], _Located], suffixes: tuple[str, ...], name: str | None, split: str
) -> Callable[[], _Located]:
    """Return what opens the records of a source; a source with nothing to read is refused here already."""
    if isinstance(source, (str, os.PathLike)):
        if _is_hub_id(source):
            return lambda: hub_rows(str(source), name=name, split=split)
        files = find_files(source, suffixes=suffixes)
        return lambda: read(files)
    if isinstance(source, (list, tuple)) and source and all(isinstance(item, (str, os.PathLike)) for item in source):
        files = find_files(source, suffixes=suffixes)
        return lambda: read(files)
    if isinstance(source, Mapping):
        raise ValueError("source must be an iterable of records, got one record: put it in a list")
    return lambda: _numbered(source)


def _is_hub_id(source: PathLike) -> bool:
    """Tell an id such as "org/name" from the path of a file that does not exist."""
    if not isinstance(source, str) or Path(source).expanduser().exists():
        return False
    is_file_name = source.lower().endswith((*TEXT_SUFFIXES, *RECORD_SUFFIXES))
    return not is_file_name and re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", source) is not None


def _numbered(records: Iterable[Any]) -> _Located:
    return ((f"record {number}", record) for number, record in enumerate(records, 1))


def _as_record(record: Any, place: str) -> Mapping[str, Any]:
    if not isinstance(record, Mapping):
        raise RecordError(f"{place}: expected a record with named fields, found {record!r:.80}")
    return record


def _texts_in(file: Path, unit: Unit) -> _Located:
    try:
        with open(file, encoding="utf-8-sig") as lines:
            if unit == "file":
                yield str(file), lines.read()
                return
            numbered = ((number, line.rstrip("\n")) for number, line in enumerate(lines, 1))
            if unit == "line":
                yield from ((f"{file}, line {number}", line) for number, line in numbered if line.strip())
                return
            for is_text, group in groupby(numbered, lambda item: bool(item[1].strip())):
                if is_text:
                    paragraph = list(group)
                    yield f"{file}, line {paragraph[0][0]}", "\n".join(line for _, line in paragraph)
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8 text: {error}") from error


def _all(stream: RecordStream[R], source: Source) -> list[R]:
    records = list(stream)
    if not records:
        raise ValueError(f"{source!r:.80} holds no record")
    return records
