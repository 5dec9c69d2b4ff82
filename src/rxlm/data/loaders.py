"""Read texts, interactions and dialogues of files, the Hugging Face hub or iterables, and check every record.

A source is a file, a folder, a glob pattern or several of these; the id of a hub dataset; or an iterable of records.
What is streamed is read during iteration, because it may be too large for memory: a bad record raises when it is read,
or before in `RecordSource.validate`. What is loaded is read at once, so that a bad record stops a run before training.
"""

import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from rxlm.data.fields import BadRecord, BadRecords
from rxlm.data.parts import IterablePart, Part, parts_of_dataset, parts_of_files
from rxlm.data.record_files import RECORD_SUFFIXES
from rxlm.data.record_source import RecordSource
from rxlm.data.records import Dialogue, Interaction, RecordError, dialogue_of, interaction_of, text_of
from rxlm.data.text_files import TEXT_SUFFIXES, PathLike, find_files, hub_dataset

R = TypeVar("R")

Source = PathLike | Iterable[Any]


def stream_texts(
    source: Source, *, name: str | None = None, split: str = "train", bad_records: BadRecords = "stop"
) -> RecordSource[str]:
    """Return the texts of a source, for stage 1; blank ones are left out.

    Args:
        source: see the module. A text is a line of a .txt or .md file, or a record's column "text".
        name, split: configuration and split of a hub dataset.
        bad_records: what is done about a bad record: "stop" raises its error, "skip" leaves it out.
    """

    def convert(record: Any, place: str) -> str | None:
        text = record if isinstance(record, str) else text_of(_as_record(record, place), place)
        return text if text.strip() else None

    return _source(source, convert, (*TEXT_SUFFIXES, *RECORD_SUFFIXES), name, split, bad_records)


def stream_interactions(
    source: Source, *, name: str | None = None, split: str = "train", bad_records: BadRecords = "stop"
) -> RecordSource[Interaction]:
    """Return the interactions of a source, for stage 2.

    Args:
        source: see the module; records of the shapes that `records.interaction_of` takes.
        name, split, bad_records: as in `stream_texts`.
    """
    return _source(source, _made_by(Interaction, interaction_of), RECORD_SUFFIXES, name, split, bad_records)


def stream_dialogues(
    source: Source, *, name: str | None = None, split: str = "train", bad_records: BadRecords = "stop"
) -> RecordSource[Dialogue]:
    """Return the dialogues of a source, for stages 3 to 6.

    Args:
        source: see the module; records of the shapes that `records.dialogue_of` takes.
        name, split, bad_records: as in `stream_texts`.
    """
    return _source(source, _made_by(Dialogue, dialogue_of), RECORD_SUFFIXES, name, split, bad_records)


def load_interactions(source: Source, *, name: str | None = None, split: str = "train") -> list[Interaction]:
    """Return all interactions of a source; arguments as in `stream_interactions`."""
    return _all_of(stream_interactions(source, name=name, split=split))


def load_dialogues(source: Source, *, name: str | None = None, split: str = "train") -> list[Dialogue]:
    """Return all dialogues of a source; arguments as in `stream_dialogues`."""
    return _all_of(stream_dialogues(source, name=name, split=split))


def _all_of(source: RecordSource[R]) -> list[R]:
    found = list(source)
    if not found:
        raise ValueError(f"{source.name!r} holds no record")
    return found


def _made_by(kind: type[R], convert: Callable[[Mapping[str, Any], str], R]) -> Callable[[Any, str], R]:
    """Return a function that converts records which are not of the class `kind` already."""
    return lambda record, place: record if isinstance(record, kind) else convert(_as_record(record, place), place)


def _source(
    source: Source,
    convert: Callable[[Any, str], R | None],
    suffixes: tuple[str, ...],
    name: str | None,
    split: str,
    bad_records: BadRecords,
) -> RecordSource[R]:
    is_named = isinstance(source, (str, os.PathLike)) or _are_paths(source)
    open_parts = _opener(source, suffixes, name, split)
    return RecordSource(str(source)[:300] if is_named else "the iterable", open_parts, convert, bad_records)


def _opener(
    source: Source, suffixes: tuple[str, ...], name: str | None, split: str
) -> Callable[[BadRecord], list[Part]]:
    """Return a function that opens the parts of a source; a source without files raises here."""
    if isinstance(source, (str, os.PathLike)) and is_hub_id(source):
        dataset = str(source)
        return lambda bad: parts_of_dataset(hub_dataset(dataset, name=name, split=split), dataset)
    if isinstance(source, (str, os.PathLike)) or _are_paths(source):
        files = find_files(source, suffixes=suffixes)
        return lambda bad: parts_of_files(files, bad)
    if isinstance(source, Mapping):
        raise ValueError("source must be an iterable of records, got one record: put it in a list")
    return lambda bad: [IterablePart(source)]


def _are_paths(source: Iterable[Any]) -> bool:
    is_list = isinstance(source, (list, tuple)) and len(source) > 0
    return is_list and all(isinstance(item, (str, os.PathLike)) for item in source)


def is_hub_id(source: PathLike) -> bool:
    """Return whether a source is an id such as "org/name", not the path of a missing file."""
    if not isinstance(source, str) or Path(os.path.expanduser(source)).exists():
        return False
    is_file_name = source.lower().endswith((*TEXT_SUFFIXES, *RECORD_SUFFIXES))
    return not is_file_name and re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", source) is not None


def _as_record(record: Any, place: str) -> Mapping[str, Any]:
    if not isinstance(record, Mapping):
        raise RecordError(f"{place}: expected a record with named fields, found {record!r:.80}")
    return record
