"""`/v1/conversations`: a head that moves from turn to turn, with metadata."""

import time
from dataclasses import replace
from typing import Any

from fastapi import APIRouter

from rxlm.serving.answers import Place
from rxlm.serving.api import documents
from rxlm.serving.api.context import Caller, Context, Server, check_budget, check_idle
from rxlm.serving.api.documents import answers
from rxlm.serving.api.errors import ApiError, not_found
from rxlm.serving.api.items import (
    Inclusions,
    Limit,
    Order,
    Sent,
    items_of,
    joined,
    node_of_item,
    page,
    parts_of,
    user_item,
)
from rxlm.serving.api.requests import ChangedConversation, Message, NewConversation, NewItems, Reasoning
from rxlm.serving.keys import new_id
from rxlm.serving.store.records import Node, StoredConversation, Tenant
from rxlm.serving.store.store import HasDescendantsError

router = APIRouter(prefix="/v1/conversations", tags=["conversations"])


@router.post("", response_model=None, responses=answers(documents.Conversation))
def create(context: Server, tenant: Caller, given: NewConversation | None = None) -> dict[str, Any]:
    """Begin a conversation, with messages or without."""
    check_budget(context, tenant)
    now = time.time()
    metadata = {} if given is None else given.metadata or {}
    new = StoredConversation(new_id("conv"), tenant.id, now, now, metadata)
    context.store.put_conversation(new, None)
    if given is not None and given.items:
        new, _ = _add(context, tenant, new, given.items)
    return shown(new)


@router.get("/{name}", response_model=None, responses=answers(documents.Conversation))
def retrieve(context: Server, tenant: Caller, name: str) -> dict[str, Any]:
    """Return a conversation."""
    return shown(conversation_of(context, tenant, name))


@router.post("/{name}", response_model=None, responses=answers(documents.Conversation))
def change(context: Server, tenant: Caller, name: str, given: ChangedConversation) -> dict[str, Any]:
    """Change a conversation's metadata."""
    before = conversation_of(context, tenant, name)
    after = replace(before, metadata=given.metadata)
    context.store.put_conversation(after, before)
    return shown(after)


@router.delete("/{name}", response_model=None, responses=answers(documents.Deleted))
def delete(context: Server, tenant: Caller, name: str) -> dict[str, Any]:
    """Delete a conversation with all of its turns and memories."""
    conversation = conversation_of(context, tenant, name)
    context.service.scheduler.cache.drop(context.store.delete_conversation(conversation))
    return {"id": name, "object": "conversation.deleted", "deleted": True}


@router.get("/{name}/items", response_model=None, responses=answers(documents.Items))
def items(
    context: Server, tenant: Caller, name: str, limit: Limit = 20, after: str | None = None, order: Order = "desc",
    include: Inclusions = None,
) -> dict[str, Any]:  # fmt: skip
    """Return a page of what was said."""
    return page(_items(context, tenant, name), limit, after, order)


@router.post("/{name}/items", response_model=None, responses=answers(documents.Items))
def add(
    context: Server, tenant: Caller, name: str, given: NewItems, include: Inclusions = None
) -> dict[str, Any]:  # fmt: skip
    """Add messages: finished exchanges are read into the memory, and what has no answer yet waits for the next one."""
    check_budget(context, tenant)
    conversation = conversation_of(context, tenant, name)
    if any(isinstance(each, Message) and each.role == "assistant" for each in given.items):
        check_idle(context, tenant, name)
    _, new = _add(context, tenant, conversation, given.items)
    return page(new, max(1, len(new)), None, "asc")


@router.get("/{name}/items/{item}", response_model=None, responses=answers(documents.Item))
def retrieve_item(
    context: Server, tenant: Caller, name: str, item: str, include: Inclusions = None
) -> dict[str, Any]:  # fmt: skip
    """Return a message."""
    for found in _items(context, tenant, name):
        if found["id"] == item:
            return found
    raise not_found("Item", item)


@router.delete("/{name}/items/{item}", response_model=None, responses=answers(documents.Conversation))
def delete_item(context: Server, tenant: Caller, name: str, item: str, descendants: bool = False) -> dict[str, Any]:
    """Delete a message, with its whole turn; turns after it go only with `descendants`."""
    conversation = conversation_of(context, tenant, name)
    if any(each["id"] == item for each in conversation.waiting):
        left = tuple(each for each in conversation.waiting if each["id"] != item)
        after = replace(conversation, waiting=left, updated=time.time())
        context.store.put_conversation(after, conversation)
        context.store.backend.scrub()
        return shown(after)
    check_idle(context, tenant, name)
    node = _node_of_item(context, tenant, conversation, item)
    if node is None:
        raise not_found("Item", item)
    try:
        context.service.scheduler.cache.drop(context.store.delete(node, descendants=descendants))
    except HasDescendantsError:
        raise ApiError(
            409, "Turns follow this message, whose memories hold it: delete them too, with ?descendants=true.",
            code="has_descendants",
        ) from None  # fmt: skip
    return shown(conversation_of(context, tenant, name))


def conversation_of(context: Context, tenant: Tenant, name: str) -> StoredConversation:
    """Return a conversation; an error where there is none."""
    found = context.store.conversation(tenant.id, name)
    if found is None:
        raise not_found("Conversation", name)
    return found


def shown(conversation: StoredConversation) -> dict[str, Any]:
    """Return what clients see of a conversation."""
    return {
        "id": conversation.id, "object": "conversation", "created_at": int(conversation.created),
        "metadata": dict(conversation.metadata),
    }  # fmt: skip


def _items(context: Context, tenant: Tenant, name: str) -> list[dict[str, Any]]:
    conversation = conversation_of(context, tenant, name)
    head = None if conversation.head is None else context.store.node(tenant.id, conversation.head)
    path = [] if head is None else reversed(list(context.store.path(head)))
    said = [item for node in path for item in items_of(node)]
    return [*said, *(user_item(each["text"], each["id"]) for each in conversation.waiting)]


def _node_of_item(context: Context, tenant: Tenant, conversation: StoredConversation, item: str) -> Node | None:
    """Return the turn of a conversation that a message is of."""
    name = node_of_item(item)
    node = None if name is None else context.store.node(tenant.id, name)
    if node is not None and node.conversation == conversation.id:
        return node
    turns = context.store.tree(conversation)
    return next((turn for turn in turns if any(each["id"] == item for each in turn.messages)), None)


def _add(
    context: Context, tenant: Tenant, conversation: StoredConversation, messages: list[Message | Reasoning]
) -> tuple[StoredConversation, list[dict[str, Any]]]:
    """Return the conversation with further messages, and these as items."""
    service, store = context.service, context.store
    sent = Sent(messages, "items")
    if sent.instructions is not None and conversation.head is not None:
        raise ApiError(400, "A system message stands before a conversation's first turn.", param="items")
    instructions = conversation.instructions if sent.instructions is None else sent.instructions
    turns, waiting = list(sent.turns), list(conversation.waiting)
    new: list[dict[str, Any]] = []
    head, root = conversation.head, conversation.root
    place: Place | None = None
    if turns:
        parts = parts_of(waiting, turns[0].query) if waiting else ()
        if parts:
            turns[0], waiting = turns[0]._replace(query=joined(parts)), []
        node = service.root(tenant, instructions) if head is None else store.node(tenant.id, head)
        if node is None:
            raise ApiError(409, "The conversation was changed by another request.", code="conversation_changed")
        place = service.after_node(tenant, node)
        known = place.read
        for turn in turns:
            place = service.read(place, [turn], conversation.id, messages=parts)
            new += items_of(place.node)[len(conversation.waiting) if parts else 0 :]
            parts = ()
        context.budgets.use(tenant, place.read - known)
        head, root = place.node.id, place.node.root
    if sent.query is not None:
        item = user_item(sent.query, new_id("msg"))
        waiting.append({"id": item["id"], "text": sent.query})
        new.append(item)
    after = replace(
        conversation, head=head, root=root, instructions=instructions, waiting=tuple(waiting), updated=time.time()
    )
    if place is None:
        store.put_conversation(after, conversation)
    else:
        service.write(place, after, conversation)
    return after, new
