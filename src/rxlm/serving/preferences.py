"""Feedback as records that preference training reads, in the conversational form of TRL.

A pair of answers: `prompt`, `chosen`, `rejected`. A rated answer: `prompt`, `completion`, `label`. A prompt is a list
of messages, the whole conversation up to the question: memories are computed again from it.
"""

from collections.abc import Iterator
from typing import Any

from rxlm.serving.keys import without_reasoning
from rxlm.serving.store.records import READ_PREFIX, Feedback, Node
from rxlm.serving.store.store import GoneError, Store


def preference_records(store: Store, tenant: str) -> Iterator[dict[str, Any]]:
    """Yield a record for each remark of a tenant, oldest first; where a turn is gone meanwhile, there is none."""
    for remark in store.remarks(tenant):
        node = store.node(tenant, remark.node)
        if node is None or node.kind != "turn":
            continue
        try:
            prompt = _prompt(store, node)
        except GoneError:
            continue
        said = _record(store, node, remark)
        if said is not None:
            yield {"prompt": prompt, **said, "id": remark.id, "created": int(remark.created)}


def _record(store: Store, node: Node, remark: Feedback) -> dict[str, Any] | None:
    if remark.edit is not None:
        return {"chosen": _answer(remark.edit), "rejected": _answer(node.answer)}
    if remark.better_than is not None:
        other = store.node(node.tenant, remark.better_than)
        return None if other is None else {"chosen": _answer(node.answer), "rejected": _answer(other.answer)}
    return {"completion": _answer(node.answer), "label": remark.rating == "up"}


def _prompt(store: Store, node: Node) -> list[dict[str, str]]:
    """Return the conversation up to a turn's question, without what was forgotten before it."""
    root = store.node(node.tenant, node.root)
    system = None if root is None else root.instructions
    messages = [] if system is None else [{"role": "system", "content": system}]
    for each in store.told(node):
        answer = without_reasoning(each.answer) if each.id.startswith(READ_PREFIX) else each.answer
        messages += [{"role": "user", "content": each.query}, *_answer(answer)]
    return messages[:-1]


def _answer(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]
