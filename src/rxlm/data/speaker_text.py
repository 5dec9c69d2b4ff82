"""Conversations in plain text: a line "Anna: Hello!" a message, as people write them and chat programs export them."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from rxlm.data.fields import BadRecord, RecordError
from rxlm.data.messages import ROLES

_TIME = r"(?:\[?\d[\d/.:,\- ]*(?:[AaPp]\.?[Mm]\.?)?\]?\s*(?:-\s*)?)?"
_MESSAGE = re.compile(
    rf"[\u200e\u200f]?{_TIME}(?P<name>[^\W\d_][\w .'\u2019()-]{{0,39}}?)\s?[:\uff1a](?:\s+(?P<text>.*)|$)"
)
_DIVIDER = re.compile(r"\s*(?:-{3,}|={3,}|\*{3,}|_{3,})\s*")


def speaker_records(lines: Iterable[str], bad: BadRecord, path: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield ("line 1", {"messages": [...]}) for each conversation of a text; a line of dashes divides two.

    A line without a name goes on with the message before it. Names of roles ("User", "AI") mean what they mean in
    messages. Otherwise there are two speakers, and the one who speaks first is the user.
    """
    start, messages = 1, []
    for number, line in enumerate(lines, 1):
        line = line.rstrip("\r\n")
        found = _MESSAGE.fullmatch(line)
        if _DIVIDER.fullmatch(line):
            yield from _record(messages, start, bad, path)
            messages = []
        elif found:
            start = start if messages else number
            messages.append([found["name"], found["text"] or "", number])
        elif messages:
            messages[-1][1] += f"\n{line}"
        elif line.strip():
            bad(
                RecordError(
                    f"{path}, line {number}: expected a speaker's name, as in 'Anna: Hello!', found {line!r:.80}"
                )
            )
    yield from _record(messages, start, bad, path)


def _record(messages: list[Any], start: int, bad: BadRecord, path: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    messages = [(name, text.strip(), number) for name, text, number in messages if text.strip()]
    if not messages:
        return
    names: dict[str, int] = {}
    for name, _, number in messages:
        names.setdefault(name, number)
    if all(name.lower() in ROLES for name in names):
        roles = {name: name for name in names}
    elif len(names) == 2:
        roles = dict(zip(names, ("user", "assistant"), strict=True))
    else:
        where = ", ".join(f"{name!r} (line {number})" for name, number in list(names.items())[:5])
        bad(RecordError(f"{path}, line {start}: a conversation of {len(names)} speakers, {where}; expected two"))
        return
    yield f"line {start}", {"messages": [{"role": roles[name], "content": text} for name, text, _ in messages]}
