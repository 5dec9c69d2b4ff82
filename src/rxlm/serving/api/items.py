"""Items: what responses and conversations show of their turns."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

from fastapi import Query

from rxlm.serving.answers import Said
from rxlm.serving.api.errors import ApiError, not_found
from rxlm.serving.api.requests import Included, Message, Reasoning
from rxlm.serving.store.records import Node

Limit = Annotated[int, Query(ge=1, le=100)]
"""Items of a page."""
Order = Literal["asc", "desc"]
"""Oldest first, or newest first."""
Inclusions = Annotated[list[Included] | None, Query(alias="include[]")]
"""What a client wants besides of what is stored: it is there where it was asked for when that was made."""
BETWEEN = "\n\n"
"""Joins messages in a row of one side."""
_KINDS = {"resp_": "r", "turn_": "t", "chatcmpl-": "c"}
_SIDES = {"u": "msg", "a": "msg", "h": "rs"}


def item_id(node: str, side: str) -> str:
    """Return the id of an item of a turn: what the user said ("u"), the answer ("a") or the thought ("h")."""
    prefix = next(each for each in _KINDS if node.startswith(each))
    return f"{_SIDES[side]}_{node.removeprefix(prefix)}{_KINDS[prefix]}{side}"


def node_of_item(item: str) -> str | None:
    """Return the turn that an item is of, None where it is of none."""
    found = re.fullmatch(r"(?:msg|rs)_([0-9a-f]+)([rtc])[uah]", item)
    return None if found is None else next(name for name, kind in _KINDS.items() if kind == found[2]) + found[1]


def items_of(node: Node) -> list[dict[str, Any]]:
    """Return the items of a turn, oldest first."""
    if node.kind != "turn" or node.is_piece:
        return []
    status = node.shown.get("status", "completed")
    return [*user_items_of(node), *output_of(node.first, node.answer, node.thought, status)]


def user_items_of(node: Node) -> list[dict[str, Any]]:
    """Return the messages that a turn answered."""
    messages = node.messages or parts_of((), node.query)
    return [user_item(each["text"], each["id"] or item_id(node.first, "u")) for each in messages]


def parts_of(waiting: Iterable[Mapping[str, Any]], text: str | None) -> tuple[Mapping[str, Any], ...]:
    """Return messages that waited, and after them a text, where there is one, that has the turn's id."""
    own: list[Mapping[str, Any]] = [{"id": None, "text": text}] if text else []
    return (*waiting, *own)


def joined(messages: Iterable[Mapping[str, Any]]) -> str:
    """Return the query that messages are."""
    return BETWEEN.join(str(each["text"]) for each in messages)


def user_item(text: str, name: str) -> dict[str, Any]:
    """Return a message of the user's."""
    content = [{"type": "input_text", "text": text}]
    return {"type": "message", "id": name, "status": "completed", "role": "user", "content": content}


def text_part(text: str, tokens: Iterable[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """Return the text of an answer."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": list(tokens)}


def answer_item(name: str, text: str | None, status: str, tokens: Iterable[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """Return an answer, without its text while there is none."""
    content = [] if text is None else [text_part(text, tokens)]
    return {"type": "message", "id": name, "status": status, "role": "assistant", "content": content}


def thought_item(name: str, text: str | None, status: str) -> dict[str, Any]:
    """Return a thought, without its text while there is none."""
    content = [] if text is None else [{"type": "reasoning_text", "text": text}]
    return {"type": "reasoning", "id": name, "summary": [], "content": content, "status": status}


def output_of(
    node: str, text: str, thought: str | None, status: str, tokens: Iterable[Mapping[str, Any]] = ()
) -> list[dict[str, Any]]:
    """Return what a response put out."""
    found = [] if thought is None else [thought_item(item_id(node, "h"), thought, status)]
    return [*found, answer_item(item_id(node, "a"), text, status, tokens)]


class Sent:
    """Messages that a client sent: instructions, finished exchanges, and what is to be answered.

    Messages in a row on one side are joined by a blank line. A system's or developer's message before all others is
    an instruction; later ones, and those of tools, are said with the user's.
    """

    def __init__(self, messages: str | Sequence[Message | Reasoning], param: str) -> None:
        if isinstance(messages, str):
            messages = [Message(role="user", content=messages)]
        told = [each for each in messages if isinstance(each, Message)]
        leading = 0
        while leading < len(told) and told[leading].role in ("system", "developer"):
            leading += 1
        self.instructions = BETWEEN.join(each.text for each in told[:leading]) if leading else None
        self.turns: list[Said] = []
        asked: list[str] = []
        answered: list[str] = []
        thoughts: list[str] = []
        for message in told[leading:]:
            if message.role == "assistant":
                answered.append(message.text)
                if message.reasoning_content:
                    thoughts.append(message.reasoning_content)
                continue
            if answered:
                self._end(asked, answered, thoughts)
            asked.append(_tool_text(message))
        if answered:
            self._end(asked, answered, thoughts)
        self.query: str | None = BETWEEN.join(asked) if asked else None
        self.param = param

    def _end(self, asked: list[str], answered: list[str], thoughts: list[str]) -> None:
        self.turns.append(Said(BETWEEN.join(asked), BETWEEN.join(answered), BETWEEN.join(thoughts) or None))
        asked.clear(), answered.clear(), thoughts.clear()

    @property
    def needed_query(self) -> str:
        """What is to be answered; `ApiError` where nothing is."""
        if self.query is None or not self.query.strip():
            raise ApiError(
                400, f"{self.param} must end with a message of the user's that says something.", param=self.param,
                code="invalid_value",
            )  # fmt: skip
        return self.query


def _tool_text(message: Message) -> str:
    return f"<tool_response>\n{message.text}\n</tool_response>" if message.role == "tool" else message.text  # type: ignore[comparison-overlap]


def page(items: list[dict[str, Any]], limit: int, after: str | None, order: Order) -> dict[str, Any]:
    """Return a page of items, given oldest first."""
    items = items if order == "asc" else items[::-1]
    if after is not None:
        places = [place for place, item in enumerate(items) if item["id"] == after]
        if not places:
            raise not_found("Item", after)
        items = items[places[0] + 1 :]
    data = items[:limit]
    ends = {"first_id": data[0]["id"] if data else None, "last_id": data[-1]["id"] if data else None}
    return {"object": "list", "data": data, **ends, "has_more": len(items) > limit}
