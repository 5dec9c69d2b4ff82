"""Fields of records, each read with a check: what does not fit is an error with its place."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

from rxlm.file_errors import parse_json


class RecordError(ValueError):
    """Data that cannot be used; the message names its place (file and line or row, or number) and its field."""


BadRecord = Callable[[RecordError], None]
"""What is done about a record that cannot be used: `refuse`, or a function that notes it, and reading goes on."""


BadRecords = Literal["stop", "skip"]
"""The same as a word: "stop" raises the error, "skip" leaves the record out."""


def refuse(error: RecordError) -> None:
    """Raise the error: a bad record stops what reads it."""
    raise error


def bad_record(bad_records: BadRecords, note: BadRecord) -> BadRecord:
    """Return what is done about a bad record: `refuse` for "stop", `note` for "skip"; ValueError for another word."""
    if bad_records not in get_args(BadRecords):
        raise ValueError(f"bad_records must be 'stop' or 'skip', got {bad_records!r}")
    return refuse if bad_records == "stop" else note


def object_at(value: Any, place: str) -> Mapping[str, Any]:
    """Return an object with named fields."""
    if not isinstance(value, Mapping):
        raise RecordError(f"{place}: expected an object with named fields, found {value!r:.80}")
    return value


def text_in(record: Mapping[str, Any], name: str, place: str) -> str:
    """Return the text in a field; it is not blank."""
    value = record.get(name)
    if not isinstance(value, str) or not value.strip():
        found = "is missing" if name not in record else f"is {value!r:.80}"
        raise RecordError(f"{place}: field {name!r} {found}; expected a text that is not empty")
    return unicode_text(value, name, place)


def list_in(record: Mapping[str, Any], name: str, place: str) -> list[Any]:
    """Return the list in a field."""
    value = record.get(name)
    if not isinstance(value, list):
        raise RecordError(f"{place}: field {name!r} is {value!r:.80}; expected a list")
    return value


def texts_in(record: Mapping[str, Any], name: str, place: str) -> list[str]:
    """Return the list of texts in a field; they may be blank."""
    found = list_in(record, name, place)
    for number, text in enumerate(found):
        if not isinstance(text, str):
            raise RecordError(f"{place}: field '{name}[{number}]' is {text!r:.80}; expected a text")
        unicode_text(text, f"{name}[{number}]", place)
    return found


def name_in(record: Mapping[str, Any], name: str, otherwise: str, place: str) -> str:
    """Return the text or number in a field as a text; `otherwise` where the field is missing or null."""
    value = record.get(name)
    if value is None:
        return otherwise
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise RecordError(f"{place}: field {name!r} is {value!r:.80}; expected a text or a whole number")
    return unicode_text(str(value), name, place)


def json_list_in(record: Mapping[str, Any], name: str, place: str) -> list[Any]:
    """Return the list in a field that may hold its JSON text instead, or a record of lists."""
    value = record.get(name)
    if isinstance(value, str):
        try:
            value = parse_json(value)
        except ValueError as error:
            raise RecordError(
                f"{place}: field {name!r} is neither a list nor the JSON text of one ({error})"
            ) from error
        check_unicode(value, place, name)
    if isinstance(value, Mapping) and all(isinstance(column, list) for column in value.values()):
        # `datasets` may turn a list of records into a record of lists, as long as each other.
        value = [dict(zip(value, row, strict=True)) for row in zip(*value.values(), strict=False)]
    return list_in({name: value}, name, place)


def check_unicode(value: Any, place: str, name: str = "") -> None:
    """Refuse a record, or what is in its field `name`, that holds half of a character in any text at any depth."""
    if isinstance(value, str):
        unicode_text(value, name, place)
    elif isinstance(value, Mapping):
        for key, part in value.items():
            inner = f"{name}.{key}" if name else str(key)
            check_unicode(key, place, inner)
            check_unicode(part, place, inner)
    elif isinstance(value, (list, tuple)):
        for number, part in enumerate(value):
            check_unicode(part, place, f"{name}[{number}]")


def unicode_text(text: str, name: str, place: str) -> str:
    """Return a text that Unicode has: JSON can write half of a character, which no tokenizer takes."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise RecordError(
                f"{place}: field {name!r} is no Unicode text: {text[error.start]!a} at character {error.start + 1}"
            ) from None
    return text
