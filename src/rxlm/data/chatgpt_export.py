"""Conversations as ChatGPT exports them: a tree of messages, of which the branch is read that was shown last."""

from collections.abc import Mapping
from typing import Any

from rxlm.data.fields import RecordError, list_in, object_at

_TEXT_KINDS = ("text", "multimodal_text", "code", "execution_output", "tether_quote", "tether_browsing_display")
"""Kinds of content with something that was said."""
_UNSAID_KINDS = (None, "thoughts", "reasoning_recap", "model_editable_context", "user_editable_context", "system_error")
"""Kinds with thoughts, settings and the state of the program."""


def shown_messages(record: Mapping[str, Any], place: str) -> tuple[list[tuple[dict[str, Any], str]], list[str]]:
    """Return the messages on the way to `current_node`, each with its place, and what was left out of them.

    Hidden messages, and those without a text, are no part of what was shown. `RecordError` where the tree is broken.
    """
    nodes = object_at(record.get("mapping"), f"{place}, mapping")
    shown: list[tuple[dict[str, Any], str]] = []
    left_out: list[str] = []
    for name in _path(nodes, record.get("current_node"), place):
        where = f"{place}, mapping[{name!r}]"
        message = object_at(nodes[name], where).get("message")
        if message is None:
            continue
        message = object_at(message, where)
        content = object_at(message.get("content") or {}, f"{where}, content")
        metadata = object_at(message.get("metadata") or {}, f"{where}, metadata")
        author = object_at(message.get("author"), f"{where}, author")
        if metadata.get("is_visually_hidden_from_conversation") or content.get("content_type") in _UNSAID_KINDS:
            continue
        if content.get("content_type") not in _TEXT_KINDS:
            left_out.append(f"{where}: content of the type {content.get('content_type')!r:.80}")
            continue
        parts = [content["text"]] if content.get("text") else []
        parts += list_in({"parts": [], **content}, "parts", where)
        texts = [part.get("text") if isinstance(part, Mapping) else part for part in parts]
        said = "".join(text for text in texts if isinstance(text, str))
        if any(not isinstance(text, str) for text in texts):
            left_out.append(f"{where}: a part that is not text")
        if said.strip():
            weight = {} if message.get("weight") is None else {"weight": message["weight"]}
            shown.append(({"role": _role(author, message), "content": said, **weight}, where))
    return shown, left_out


def _role(author: Mapping[str, Any], message: Mapping[str, Any]) -> Any:
    calls = author.get("role") == "assistant" and message.get("recipient") not in (None, "all")
    return "tool_call" if calls else author.get("role")


def _path(nodes: Mapping[str, Any], last: Any, place: str) -> list[str]:
    """Return the names of the nodes from the root to the last one."""
    names: dict[str, None] = {}  # in their order
    name = last
    while name is not None:
        if not isinstance(name, str) or name not in nodes or name in names:
            what = "'current_node'" if not names else f"'parent' of {next(reversed(names))!r}"
            raise RecordError(
                f"{place}: field {what} is {name!r:.80}; expected the name of a node of 'mapping' above it"
            )
        names[name] = None
        name = object_at(nodes[name], f"{place}, mapping[{name!r}]").get("parent")
    if not names:
        raise RecordError(f"{place}: field 'current_node' is {last!r}; expected the name of a node of 'mapping'")
    return list(reversed(names))
