"""Messages of a conversation, in the forms that chat programs write, become exchanges: a query with its answer.

What the assistant says, or asks a tool to do, is an answer. All else is a query: what users, systems and tools say.
Messages in a row on one side are joined by a blank line.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Literal, NamedTuple

from rxlm.data.fields import RecordError, list_in, object_at, text_in

Role = Literal["user", "assistant", "system", "tool", "call"]

_NAMES: Mapping[Role, str] = {
    "user": "user human prompter instruction",
    "assistant": "assistant gpt chatgpt model ai bot bing bard claude",
    "system": "system developer",
    "tool": "tool observation function function_response tool_response ipython",
    "call": "function_call tool_call",
}
ROLES: Mapping[str, Role] = {name: role for role, names in _NAMES.items() for name in names.split()}
"""Names of roles in use, in lower case, and what they mean; a call is what the assistant asks a tool to do."""

THOUGHTS = ("thought", "reasoning_content", "thinking")
_ROLE_FIELDS, _TEXT_FIELDS = ("role", "from"), ("content", "value", "text")
BETWEEN = "\n\n"


class Exchange(NamedTuple):
    """A query and its answer; `is_reference`: whether a model is to learn to give it."""

    query: str
    answer: str
    thought: str | None = None
    is_reference: bool = True


@dataclass
class Exchanges:
    """The exchanges of a conversation; what was left out, each with its place; messages by the name of their role."""

    found: list[Exchange] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    roles: Counter[str] = field(default_factory=Counter)


class _Message(NamedTuple):
    is_answer: bool
    text: str
    thought: str | None
    is_reference: bool
    role: Role
    role_name: str
    place: str


def exchanges_of(messages: Sequence[tuple[Any, str]], place: str) -> Exchanges:
    """Return the exchanges of messages, each given with its place.

    Left out are answers before the first query, since nobody asked, and queries at the end that nobody answered.
    `RecordError` where a message cannot be read, or no user's message has an answer.
    """
    read = [message for given, where in messages for message in _message_of(given, where)]
    runs = [(is_answer, list(run)) for is_answer, run in groupby(read, key=lambda message: message.is_answer)]
    exchanges = Exchanges(roles=Counter(message.role_name for message in read))
    if runs and runs[0][0]:
        exchanges.left_out.append(f"{runs[0][1][0].place}: said by the assistant before any user")
        del runs[0]
    if len(runs) % 2:
        last = runs.pop()[1]
        exchanges.left_out.append(f"{last[0].place}: has no answer")
    for (_, asked), (_, answered) in zip(runs[::2], runs[1::2], strict=True):
        exchanges.found.append(_exchange(asked, answered))
    if not any(message.role == "user" for is_answer, run in runs if not is_answer for message in run):
        raise RecordError(f"{place}: the messages must end with an answer of the assistant to a user")
    return exchanges


def is_answer(message: Any, place: str) -> bool:
    """Return whether a message is the assistant's; `RecordError` where it cannot be read."""
    return any(read.is_answer for read in _message_of(message, place))


def _exchange(asked: Iterable[_Message], answered: Sequence[_Message]) -> Exchange:
    thoughts = [message.thought for message in answered if message.thought]
    return Exchange(
        BETWEEN.join(message.text for message in asked),
        BETWEEN.join(message.text for message in answered),
        BETWEEN.join(thoughts) or None,
        all(message.is_reference for message in answered),
    )


def _message_of(given: Any, place: str) -> list[_Message]:
    """Return a message, as a list: a system message may be blank, which says nothing."""
    message = object_at(given, place)
    name = next((name for name in _ROLE_FIELDS if message.get(name) is not None), "role")
    role = ROLES.get(message[name].lower()) if isinstance(message.get(name), str) else None
    if role is None:
        raise RecordError(f"{place}: field {name!r} is {message.get(name)!r:.80}; expected one of {', '.join(ROLES)}")
    calls = _calls_of(message, place) if role == "assistant" else []
    text = _text_of(message, place, may_be_blank=bool(calls) or role == "system")
    if role in ("tool", "call") and text:
        tag = "tool_response" if role == "tool" else "tool_call"
        text = f"<{tag}>\n{text}\n</{tag}>"
    text = "\n".join(filter(None, (text, *calls)))
    is_answer = role in ("assistant", "call")
    thought = thought_of(message, place) if is_answer else None
    return [_Message(is_answer, text, thought, _is_learnt(message, place), role, message[name], place)] if text else []


def _text_of(message: Mapping[str, Any], place: str, *, may_be_blank: bool) -> str:
    named = [name for name in _TEXT_FIELDS if name in message]
    name = next((name for name in named if message[name] is not None), named[0] if named else "content")
    content = message.get(name)
    if isinstance(content, list):
        texts = [_part_of(part) for part in content if not _is_thought(part)]
        if not all(isinstance(text, str) for text in texts):
            raise RecordError(f"{place}: field {name!r} has a part that is not text; only text can be read")
        content = "".join(map(str, texts))
    if may_be_blank and (content is None or (isinstance(content, str) and not content.strip())):
        return ""
    return text_in({name: content} if name in message else {}, name, place)


def _is_thought(part: Any) -> bool:
    return isinstance(part, Mapping) and part.get("type") in ("thinking", "redacted_thinking", "reasoning")


def _part_of(part: Any) -> Any:
    if isinstance(part, Mapping):
        if part.get("type") not in (None, "text", "input_text", "output_text", "refusal"):
            return None
        # Parquet gives every part the fields of all parts, those that it does not have as null.
        return part.get("text") if part.get("text") is not None else part.get("refusal")
    return part


def _calls_of(message: Mapping[str, Any], place: str) -> list[str]:
    """Return the calls of tools in a message as text, in the form that many chat templates write them."""
    calls = [] if message.get("tool_calls") is None else list_in(message, "tool_calls", place)
    if message.get("function_call") is not None:
        calls = [*calls, message["function_call"]]
    texts = []
    for number, call in enumerate(calls):
        where = f"{place}, tool_calls[{number}]"
        function = object_at(call, where)
        if function.get("function") is not None:
            function = object_at(function["function"], where)
        name, arguments = text_in(function, "name", where), function.get("arguments")
        if not isinstance(arguments, str) or not arguments.strip():
            arguments = json.dumps(arguments or {}, ensure_ascii=False, default=str)
        called = text_in({"arguments": arguments}, "arguments", where)
        texts.append(f'<tool_call>\n{{"name": {json.dumps(name)}, "arguments": {called}}}\n</tool_call>')
    return texts


def _is_learnt(message: Mapping[str, Any], place: str) -> bool:
    learnt = message.get("train")
    if learnt not in (None, True, False):
        raise RecordError(f"{place}: field 'train' is {learnt!r:.80}; expected true or false (said, but not learnt)")
    weight = message.get("weight") if learnt is None else learnt
    if weight is not None and weight not in (0, 1):
        raise RecordError(f"{place}: field 'weight' is {weight!r:.80}; expected 0 (said, but not learnt) or 1")
    return weight is None or bool(weight)


def thought_of(record: Mapping[str, Any], place: str) -> str | None:
    """Return the thought before an answer, None where there is none."""
    for name in THOUGHTS:
        if record.get(name):
            return text_in(record, name, place)
    return None
