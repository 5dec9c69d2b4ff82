"""Dialogues of two speakers, written message by message: `{"id", "turns": [["U", text], ["S", text], ...]}`.

U is the one whose messages are queries, a user for example, and S the one whose messages are answers.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from rxlm.data.fields import RecordError
from rxlm.data.records import Dialogue, Interaction
from rxlm.data.text_files import PathLike, records_in

_MESSAGE = "['U', text] or ['S', text]"


def read_turns(source: PathLike) -> list[Dialogue]:
    """Read the dialogues of a file of records (.jsonl, .jsonl.gz, ...), or of all such files in a folder.

    `turns_dialogue` says how messages become turns. FileNotFoundError if there is no file; `RecordError` names the
    file, the line and the message that does not fit.
    """
    return [turns_dialogue(record, place) for place, record in records_in(source)]


def turns_dialogue(record: Mapping[str, Any], place: str) -> Dialogue:
    """Return the dialogue of one record; its other fields, such as "id", are the `details`.

    Consecutive messages of one speaker are joined by spaces. Every turn has a query and an answer: messages of S before
    the first of U, and those of U that S does not answer at the end, are left out. Roles are never swapped, since S may
    be a service, whose messages only an assistant says.
    """
    said = [
        (speaker, " ".join(text for _, text in messages))
        for speaker, messages in groupby(_messages(record, place), key=lambda message: message[0])
    ]
    if said[0][0] == "S":
        del said[0]
    texts = [text for _, text in said]
    turns = tuple(Interaction(*pair) for pair in zip(texts[::2], texts[1::2], strict=False))
    if not turns:
        raise RecordError(f"{place}: field 'turns' has no message of 'U' that 'S' answers; expected at least one")
    return Dialogue(turns, place, {name: value for name, value in record.items() if name != "turns"})


def _messages(record: Mapping[str, Any], place: str) -> list[tuple[str, str]]:
    """Return the messages of a record, each a speaker and a text."""
    given = record.get("turns")
    if not isinstance(given, Sequence) or isinstance(given, str) or not given:
        raise RecordError(f"{place}: field 'turns' is {given!r:.80}; expected a list of messages, {_MESSAGE}")
    messages = []
    for number, message in enumerate(given):
        match message:
            case [("U" | "S") as speaker, str(text)] if text.strip():
                messages.append((speaker, text))
            case _:
                raise RecordError(f"{place}, turns[{number}]: expected {_MESSAGE}, found {message!r:.80}")
    return messages
