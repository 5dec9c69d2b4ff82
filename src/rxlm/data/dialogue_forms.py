"""Dialogues of any known form, told apart by the fields of their records.

Whoever names a file of dialogues, as with `--data`, need not say what kind of file it is.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from rxlm.data.meetings import meeting_dialogues, meeting_of
from rxlm.data.records import Dialogue, RecordError, dialogue_of
from rxlm.data.sgd import service_dialogue
from rxlm.data.stories import fairytale_dialogue, fairytale_of
from rxlm.data.text_files import PathLike, records_in
from rxlm.data.turns import turns_dialogue


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
    forms = _forms(seed)
    found = [
        dialogue
        for place, record in records_in(sources)
        for dialogue in _form_of(record, place, forms).dialogues(record, place)
    ]
    if not found:
        raise ValueError(f"{str(sources)!r:.200} holds no dialogue")
    return found


def _forms(seed: int) -> tuple[DialogueForm, ...]:
    """Return all forms; of two that fit, the first is meant."""
    return (
        DialogueForm("SGD", ("turns", "final_state"), lambda record, place: [service_dialogue(record, place)]),
        DialogueForm("two speakers", ("turns",), lambda record, place: [turns_dialogue(record, place)]),
        DialogueForm("messages", ("messages",), _chat),
        DialogueForm("prompt and completion", ("prompt", "completion"), _chat),
        DialogueForm("interactions", ("query", "answer", "interactions"), _chat),
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
    details = {"id": record["id"]} if record.get("id") is not None else {}
    return [replace(dialogue_of(record, place), details=details)]
