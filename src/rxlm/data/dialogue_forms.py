"""Dialogues of any known form, told apart by the fields of their records.

Whoever names a file of dialogues, as with `--data`, need not say what kind of file it is.
"""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from rxlm.data.fields import BadRecord, BadRecords, bad_record, refuse
from rxlm.data.loaders import is_hub_id
from rxlm.data.meetings import meeting_dialogues, meeting_of
from rxlm.data.opened_files import kind_of, lines_of
from rxlm.data.record_files import RECORD_SUFFIXES, located_records
from rxlm.data.records import Dialogue, RecordError, conversation_of
from rxlm.data.sgd import service_dialogue
from rxlm.data.speaker_text import speaker_records
from rxlm.data.stories import fairytale_dialogue, fairytale_of
from rxlm.data.text_files import PathLike, find_files, hub_rows, records_in
from rxlm.data.turns import turns_dialogue

_logger = logging.getLogger(__name__)

Source = PathLike | Iterable[PathLike]


@dataclass(frozen=True)
class Conversations:
    """What was read: dialogues, and for each bad record that was skipped its place and what is wrong with it."""

    dialogues: list[Dialogue]
    skipped: list[str]


@dataclass(frozen=True)
class DialogueForm:
    """A form of records: the fields by which it is known, and what makes dialogues of a record at a place."""

    name: str
    fields: tuple[str, ...]
    dialogues: Callable[[Mapping[str, Any], str], list[Dialogue]]


def open_dialogues(sources: PathLike | Iterable[PathLike], *, seed: int = 0) -> list[Dialogue]:
    """Return all dialogues of files, folders and glob patterns, each record read by the form that its fields show.

    Args:
        sources: see `rxlm.data.text_files.find_files`. Of a folder all files of records are read, those for training
            and those for validation; name a file to read one of them.
        seed: draws the windows of meetings; see `rxlm.data.meetings.meeting_dialogues`.

    The `details` of a dialogue hold an "id" where its record has one, so that `hold_out_by_id` can divide them.
    FileNotFoundError if there is no file of records. `RecordError` names the file and line of a record of no known
    form, with its fields and those of every form; ValueError names sources without a dialogue.
    """
    found = _dialogues(records_in(sources), refuse, seed)
    if not found:
        raise ValueError(f"{str(sources)!r:.200} holds no dialogue")
    return found


def read_conversations(sources: Source, *, bad_records: BadRecords = "stop", seed: int = 0) -> Conversations:
    """Return the conversations of files, folders, glob patterns and hub datasets, in the forms that people have them.

    Besides the forms of `open_dialogues` it reads text with speakers' names; see `rxlm.data.speaker_text`.

    Args:
        sources: paths, patterns or the ids of datasets, one or several.
        bad_records: what is done about a record that cannot be read: "stop" raises its `RecordError`, with "skip" it is
            left out, and the result says where and why.
        seed: see `open_dialogues`.

    FileNotFoundError names a source without files. ValueError if nothing was found, with the first bad record.
    """
    skipped: list[str] = []
    bad = bad_record(bad_records, lambda error: skipped.append(str(error)))
    several = [sources] if isinstance(sources, (str, os.PathLike)) else list(sources)
    records = chain.from_iterable(_records_of(source, bad) for source in dict.fromkeys(several))
    found = _dialogues(records, bad, seed)
    if not found:
        first = f": {skipped[0]}" if skipped else ""
        raise ValueError(f"{', '.join(map(str, several))!r:.200} holds no conversation{first}")
    return Conversations(found, skipped)


def _records_of(source: PathLike, bad: BadRecord) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if is_hub_id(source):
        yield from hub_rows(str(source))
        return
    for path in _conversation_files(source):
        if kind_of(path) not in (".txt", ".md"):
            yield from located_records([path], bad)
            continue
        try:
            for place, record in speaker_records(lines_of(path), bad, path):
                yield f"{path}, {place}", record
        except RecordError as error:  # of what is no text
            bad(error)


def _conversation_files(source: PathLike) -> list[Path]:
    """Return files of records; texts where there are no records, since beside these a text tells about the data."""
    files = find_files(source)
    records = [file for file in files if file.name.lower().endswith(RECORD_SUFFIXES)]
    if not records:
        return files
    if texts := [str(file) for file in files if file not in records]:
        _logger.warning("texts beside files of records are not read; name them to read them: %s", ", ".join(texts[:5]))
    return records


def _dialogues(records: Iterable[tuple[str, Mapping[str, Any]]], bad: BadRecord, seed: int) -> list[Dialogue]:
    forms, found = _forms(seed), []
    for place, record in records:
        try:
            found.extend(_form_of(record, place, forms).dialogues(record, place))
        except RecordError as error:
            bad(error)
    return found


def _forms(seed: int) -> tuple[DialogueForm, ...]:
    """Return all forms; of two that fit, the first is meant."""
    return (
        DialogueForm("SGD", ("turns", "final_state"), lambda record, place: [service_dialogue(record, place)]),
        DialogueForm("messages", ("messages",), _chat),
        DialogueForm("ShareGPT", ("conversations",), _chat),
        DialogueForm("ChatGPT export", ("mapping", "current_node"), _chat),
        DialogueForm("prompt and completion", ("prompt", "completion"), _chat),
        DialogueForm("interactions, or one", ("query", "answer"), _chat),
        DialogueForm("Alpaca", ("instruction", "output"), _chat),
        DialogueForm("two speakers", ("turns",), lambda record, place: [turns_dialogue(record, place)]),
        DialogueForm(
            "FairytaleQA",
            ("story", "sections", "qa"),
            lambda record, place: [fairytale_dialogue(fairytale_of(record, place))],
        ),
        DialogueForm(
            "QMSum",
            ("utterances", "queries"),
            lambda record, place: meeting_dialogues(meeting_of(record, place), seed=seed),
        ),
    )


def _form_of(record: Mapping[str, Any], place: str, forms: tuple[DialogueForm, ...]) -> DialogueForm:
    for form in forms:
        if all(record.get(name) is not None for name in form.fields):
            return form
    fields = ", ".join(map(repr, record)) or "none"
    allowed = "; ".join(f"{', '.join(map(repr, form.fields))} ({form.name})" for form in forms)
    raise RecordError(f"{place}: no known form of dialogue: the fields are {fields}; allowed are {allowed}")


def _chat(record: Mapping[str, Any], place: str) -> list[Dialogue]:
    return [conversation_of(record, place)]
