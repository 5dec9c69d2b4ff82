"""Conversations in plain text: a line "Anna: Hello!" a message, as people write them and chat programs export them."""

import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any

import regex

from rxlm.data.fields import BadRecord, RecordError
from rxlm.data.messages import ROLES

_TIME = r"\[?\d[\d/.:,\-\s]*(?:T\d[\d:.]*Z?)?(?:[AaPp]\.?[Mm]\.?)?\]?\s*(?:-\s*)?"
_LETTERS = r"\p{L}[\p{L}\p{M}\p{N}\p{So}\p{Sk}\p{Cf} .'\u2019()~&+-]{0,39}?"
_PHONE = r"\+\d[\d\s()-]{4,24}?"
_MESSAGE = regex.compile(
    rf"[\u200e\u200f]?(?P<time>{_TIME})?(?P<name>{_LETTERS}|{_PHONE})\s?(?::(?=\s|$)|\uff1a)\s*(?P<text>.*)"
)
_NOTICE = regex.compile(r"[\u200e\u200f]?\[?\d{1,4}[./-]\d{1,2}[./-]\d{1,4}[,\sT]+\d{1,2}:\d{2}.*")
"""A time without a name: what the program says, as of a number that was changed."""
_DIVIDER = regex.compile(r"\s*(?:-{3,}|={3,}|\*{3,}|_{3,})\s*")


def speaker_records(lines: Iterable[str], bad: BadRecord, path: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield ("line 1", {"messages": [...]}) for each conversation of a text; a line of dashes divides two.

    A line without a name goes on with the message before it; where messages have times, one with a time and no name is
    the program's and left out. Names of roles ("User", "AI") mean what they mean in messages. Otherwise there are two
    speakers: one beside a role takes the other side, and without roles the one who speaks first is the user.
    """
    start, messages, has_times = 1, [], False
    for number, line in enumerate(lines, 1):
        line = line.rstrip("\r\n")
        found = _MESSAGE.fullmatch(line)
        if _DIVIDER.fullmatch(line):
            yield from _record(messages, start, bad, path)
            messages = []
        elif found:
            start = start if messages else number
            has_times = found["time"] is not None
            messages.append((unicodedata.normalize("NFC", found["name"]), [found["text"]], number))
        elif messages and has_times and _NOTICE.fullmatch(line):
            continue
        elif messages:
            messages[-1][1].append(line)
        elif line.strip():
            bad(
                RecordError(
                    f"{path}, line {number}: expected a speaker's name, as in 'Anna: Hello!', found {line!r:.80}"
                )
            )
    yield from _record(messages, start, bad, path)


def _record(
    messages: list[tuple[str, list[str], int]], start: int, bad: BadRecord, path: Any
) -> Iterator[tuple[str, dict[str, Any]]]:
    said = [(name, text, number) for name, lines, number in messages if (text := "\n".join(lines).strip())]
    if not said:
        return
    names: dict[str, int] = {}
    for name, _, number in said:
        names.setdefault(name, number)
    known = {name: ROLES.get(name.lower()) for name in names}
    if all(known.values()):
        roles = {name: name for name in names}
    elif len(names) == 2:
        first, last = names
        answers = known[first] == "assistant" or known[last] not in (None, "assistant")
        roles = {first: "assistant" if answers else "user", last: "user" if answers else "assistant"}
    else:
        where = ", ".join(f"{name!r} (line {number})" for name, number in list(names.items())[:5])
        bad(RecordError(f"{path}, line {start}: a conversation of {len(names)} speakers, {where}; expected two"))
        return
    yield f"line {start}", {"messages": [{"role": roles[name], "content": text} for name, text, _ in said]}
