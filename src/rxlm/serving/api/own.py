"""`/v1/rxlm`: what the page shows beyond OpenAI's interfaces: trees of turns, memories, and feedback."""

import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Annotated, Any, Literal

import torch
from fastapi import APIRouter, Query
from pydantic import Field

from rxlm import __version__
from rxlm.serving.answers import Place, Said
from rxlm.serving.api.context import Caller, Context, Server, check_budget, check_idle
from rxlm.serving.api.conversations import conversation_of, shown
from rxlm.serving.api.errors import ApiError, not_found
from rxlm.serving.api.requests import Metadata, Strict, Text
from rxlm.serving.inspector import Inspector
from rxlm.serving.keys import Keys, new_id
from rxlm.serving.store.records import Feedback, Node, StoredConversation, Tenant

router = APIRouter(prefix="/v1/rxlm", tags=["rxlm"])
EXPORT_VERSION = 1


class Head(Strict):
    """Where a conversation is to go on from; null: from its beginning."""

    response_id: str | None = None


class Forget(Strict):
    """The turn that is to be forgotten."""

    turn: str


class Without(Strict):
    """Positions of kept tokens that are left out, and another message than the turn's."""

    positions: Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(min_length=1, max_length=4096)]
    input: Text | None = None


class Remark(Strict):
    """What is said of an answer: one of rating, better_than and edit; null takes all of its kind back."""

    response_id: str
    rating: Literal["up", "down"] | None = None
    better_than: str | None = None
    edit: Text | None = None


class ExportedTurn(Strict):
    """A turn of an exported conversation, or that one was forgotten. Other turns are named by their places in the list.

    Fields:
        repeats: the turn that it is, read again after other instructions. instructions: of a first turn, where they are
            not the conversation's.
    """

    parent: int | None = None
    forgotten: int | None = None
    repeats: int | None = None
    instructions: Text | None = None
    query: Text = ""
    answer: Text = ""
    thought: Text | None = None


class Exported(Strict):
    """An exported conversation."""

    version: Literal[1]
    metadata: Metadata | None = None
    instructions: Text | None = None
    head: int | None = None
    turns: Annotated[list[ExportedTurn], Field(max_length=10_000)]


@router.get("/status")
def status(context: Server, tenant: Caller) -> dict[str, Any]:
    """Return what the page must know of the server."""
    service = context.service
    memory = service.model.memory_writer.config
    element = torch.empty(0, dtype=service.model.dtype).element_size()
    return {
        "version": __version__, "model": service.name, "tenant": tenant.name, "memory": memory.kind,
        "memory_tokens": service.memory_tokens, "max_seq_len": service.lengths.limit,
        "memory_bytes": service.model.memory_writer.num_bytes(element),
        "sampling": asdict(service.sampling), "feedback": service.store is not None,
        "store": service.store is not None,
    }  # fmt: skip


@router.get("/conversations")
def conversations(
    context: Server, tenant: Caller, limit: Annotated[int, Query(ge=1, le=100)] = 20, after: str | None = None
) -> dict[str, Any]:
    """Return conversations, the last changed first."""
    if after is not None:
        conversation_of(context, tenant, after)
    found = context.store.conversations(tenant.id, limit + 1, after)
    data = [_listed(context, each) for each in found[:limit]]
    return {
        "object": "list", "data": data, "has_more": len(found) > limit, "last_id": data[-1]["id"] if data else None,
    }  # fmt: skip


@router.get("/conversations/{name}/tree")
def tree(context: Server, tenant: Caller, name: str) -> dict[str, Any]:
    """Return all turns of a conversation, of every branch, parents before children."""
    conversation = conversation_of(context, tenant, name)
    remarks: dict[str, list[Feedback]] = {}
    for remark in context.store.remarks(tenant.id):
        remarks.setdefault(remark.node, []).append(remark)
    nodes = context.store.tree(conversation)
    known = {node.id: node for node in nodes}
    turns = [_turn(node, known.get(node.parent or "") or context.store.before(node), remarks.get(node.id, []))
             for node in nodes]  # fmt: skip
    return {**_listed(context, conversation), "instructions": conversation.instructions, "turns": turns}


@router.post("/conversations/{name}/head")
def move(context: Server, tenant: Caller, name: str, given: Head) -> dict[str, Any]:
    """Let a conversation go on from another of its turns."""
    conversation = conversation_of(context, tenant, name)
    check_idle(context, tenant, name)
    if given.response_id is not None:
        node = _turn_of(context, tenant, given.response_id)
        if node.conversation != name:
            raise not_found("Response", given.response_id)
    return _listed(context, _moved(context, conversation, given.response_id))


@router.get("/conversations/{name}/export")
def export(context: Server, tenant: Caller, name: str) -> dict[str, Any]:
    """Return a conversation with all of its branches as a document."""
    conversation = conversation_of(context, tenant, name)
    nodes = context.store.tree(conversation)
    places = {node.id: place for place, node in enumerate(nodes)}
    turns = []
    for node in nodes:
        before = context.store.before(node)
        parent = None if before is None else places.get(before.id)
        said: dict[str, Any] = {"forgotten": places.get(node.forgotten or "")}
        if node.kind == "turn":
            said = {"query": node.query, "answer": node.answer, "thought": node.thought}
        if node.origin is not None:
            said["repeats"] = places.get(node.origin)
        root = context.store.node(tenant.id, node.root) if parent is None else None
        if root is not None and root.instructions != conversation.instructions:
            said["instructions"] = root.instructions
        turns.append({"parent": parent, **said})
    return {
        "version": EXPORT_VERSION, "metadata": dict(conversation.metadata), "instructions": conversation.instructions,
        "head": places.get(conversation.head or ""), "turns": turns,
    }  # fmt: skip


@router.post("/conversations/import")
def import_(context: Server, tenant: Caller, given: Exported) -> dict[str, Any]:
    """Make a conversation of a document, all of it or nothing; the turns up to its head are read into a memory."""
    told = [each for turn in given.turns for each in (turn.query, turn.answer, turn.thought, turn.instructions)]
    about = [given.instructions, *(each for pair in (given.metadata or {}).items() for each in pair)]
    size = sum(len(text.encode()) for text in (*told, *about) if text)
    check_budget(context, tenant, more=size)
    service, now = context.service, time.time()
    for place, turn in enumerate(given.turns):
        for name in ("parent", "forgotten", "repeats"):
            other = getattr(turn, name)
            if other is not None and not 0 <= other < place:
                raise ApiError(400, f"turns[{place}].{name} must name an earlier turn, got {other}.", param="turns")
        if turn.repeats is not None and given.turns[turn.repeats].forgotten is not None:
            raise ApiError(400, f"turns[{place}].repeats must name a turn that was told.", param="turns")
        if turn.parent is not None and "instructions" in turn.model_fields_set:
            raise ApiError(400, f"turns[{place}].instructions are for a turn without a parent.", param="turns")
    if given.head is not None and not 0 <= given.head < len(given.turns):
        raise ApiError(400, f"head must name one of {len(given.turns)} turns, got {given.head}.", param="head")
    new = StoredConversation(new_id("conv"), tenant.id, now, now, given.metadata or {}, instructions=given.instructions)
    starts: dict[str | None, Place] = {}
    places: list[Place] = []
    nodes: dict[str, Node] = {}
    for number, turn in enumerate(given.turns):
        instructions = turn.instructions if "instructions" in turn.model_fields_set else given.instructions
        if turn.parent is None and instructions not in starts:
            root = service.root(tenant, instructions)
            starts[instructions] = service.after_node(tenant, root, makes=False)
            nodes[root.id] = root
        before = starts[instructions] if turn.parent is None else places[turn.parent]
        before = replace(before, unwritten=())
        if turn.forgotten is None:
            repeated = [] if turn.repeats is None else [places[turn.repeats].node]
            said = [Said(turn.query, turn.answer, turn.thought)]
            places.append(service.read(before, said, new.id, repeated))
        else:
            places.append(_forgotten(context, tenant, before, places[turn.forgotten].node, nodes, f"turns[{number}]"))
        nodes |= {node.id: node for node in places[-1].unwritten}
    head = None if given.head is None else places[given.head].node
    after = replace(new, head=None if head is None else head.id, root=None if head is None else head.root)
    if not places:
        context.store.put_conversation(after, None)
    else:
        *read, last = nodes.values()
        context.store.add(last, after, None, read=read)
    if head is not None:
        _, tokens = service.memories.after(head)
        context.budgets.use(tenant, tokens)
    return _listed(context, after)


def _forgotten(
    context: Context, tenant: Tenant, before: Place, turn: Node, nodes: Mapping[str, Node], name: str
) -> Place:  # fmt: skip
    """Return the place at which a turn of a conversation that is not stored yet is forgotten."""
    path = [before.node]
    while path[-1].parent is not None:
        path.append(nodes[path[-1].parent])
    if all(each.first != turn.first for each in path):
        raise ApiError(400, f"{name}.forgotten must name a turn before it, on its own branch.", param="turns")
    node = context.service.forget(tenant, before.node, *Inspector(context.service).span_in(path, turn), turn.id)
    return replace(before, node=node, keys=Keys(node.key, node.alias), unwritten=(node,))


@router.get("/responses/{name}/memory")
def memory(context: Server, tenant: Caller, name: str) -> dict[str, Any]:
    """Return what the memory after a turn keeps."""
    return Inspector(context.service).shown(tenant, _turn_of(context, tenant, name))


@router.get("/responses/{name}/reads")
def reads(context: Server, tenant: Caller, name: str) -> dict[str, Any]:
    """Return what the tokens of an answer read of the kept ones."""
    return {"pieces": Inspector(context.service).reads(tenant, _turn_of(context, tenant, name))}


@router.get("/responses/{name}/diff")
def difference(context: Server, tenant: Caller, name: str, earlier: str) -> dict[str, Any]:
    """Return what two memories differ by."""
    now, then = _turn_of(context, tenant, name), _turn_of(context, tenant, earlier)
    return Inspector(context.service).difference(tenant, now, then)


@router.post("/responses/{name}/forget")
def forget(context: Server, tenant: Caller, name: str, given: Forget) -> dict[str, Any]:
    """Go on with a memory that has forgotten a turn; memories before it stay as they are."""
    node, turn = _turn_of(context, tenant, name), _turn_of(context, tenant, given.turn)
    check_budget(context, tenant)
    first, end = Inspector(context.service).span(node, turn)
    if node.conversation is not None:
        check_idle(context, tenant, node.conversation)
    made = context.service.forget(tenant, node, first, end, turn.id)
    before = None if node.conversation is None else context.store.conversation(tenant.id, node.conversation)
    after = None if before is None else replace(before, head=made.id, updated=time.time())
    context.store.add(made, after, before)
    return _turn(made, node, [])


@router.post("/responses/{name}/without")
def without(context: Server, tenant: Caller, name: str, given: Without) -> dict[str, str]:
    """Answer again with and without some kept tokens; nothing is stored."""
    check_budget(context, tenant)
    node, lengths = _turn_of(context, tenant, name), context.service.lengths
    answers = Inspector(context.service).without(tenant, node, given.positions, given.input)
    context.budgets.use(tenant, sum(map(lengths.count, [given.input or node.query, *answers.values()])))
    return answers


@router.post("/feedback")
def remark(context: Server, tenant: Caller, given: Remark) -> dict[str, Any]:
    """Store what is said of an answer, in place of what was said before."""
    node = _turn_of(context, tenant, given.response_id)
    if node.kind != "turn":
        raise ApiError(400, f"{node.id} is no answer: there a turn was forgotten.", param="response_id")
    kinds = [name for name in ("rating", "better_than", "edit") if name in given.model_fields_set]
    if len(kinds) != 1:
        raise ApiError(400, "Give one of rating, better_than and edit.", param="rating")
    kind = kinds[0]
    if getattr(given, kind) is not None:
        check_budget(context, tenant)
    if given.better_than is not None:
        other = _turn_of(context, tenant, given.better_than)
        if (other.parent, other.query) != (node.parent, node.query) or other.id == node.id:
            raise ApiError(400, "better_than must name another answer to the same message.", param="better_than")
    for old in context.store.remarks(tenant.id, node.id):
        if getattr(old, kind) is not None and (kind != "better_than" or given.better_than in (None, old.better_than)):
            context.store.delete_feedback(old)
    for old in () if given.better_than is None else context.store.remarks(tenant.id, given.better_than):
        if old.better_than == node.id:  # the other way round, which this takes back
            context.store.delete_feedback(old)
    if getattr(given, kind) is None:
        context.store.backend.scrub()
    new = Feedback(
        new_id("fb"), tenant.id, time.time(), node.id, given.rating, given.edit, given.better_than
    )  # fmt: skip
    if getattr(given, kind) is not None:
        context.store.add_feedback(new)
    return _remark(new)


@router.get("/feedback")
def feedback(context: Server, tenant: Caller) -> dict[str, Any]:
    """Return all that was said of answers, oldest first."""
    data = [_remark(each) for each in context.store.remarks(tenant.id)]
    return {"object": "list", "data": data}


def _remark(remark: Feedback) -> dict[str, Any]:
    return {
        "object": "feedback", "id": remark.id, "created_at": int(remark.created), "response_id": remark.node,
        "rating": remark.rating, "edit": remark.edit, "better_than": remark.better_than,
    }  # fmt: skip


def _turn_of(context: Context, tenant: Tenant, name: str) -> Node:
    node = context.store.node(tenant.id, name)
    if node is None or node.kind == "root":
        raise not_found("Response", name)
    return node


def _moved(context: Context, conversation: StoredConversation, head: str | None) -> StoredConversation:
    after = replace(conversation, head=head, updated=time.time())
    context.store.put_conversation(after, conversation)
    return after


def _listed(context: Context, conversation: StoredConversation) -> dict[str, Any]:
    return {
        **shown(conversation), "updated_at": int(conversation.updated), "head": conversation.head,
        "turns": context.store.num_turns(conversation),
    }  # fmt: skip


def _turn(node: Node, before: Node | None, remarks: list[Feedback]) -> dict[str, Any]:
    ratings = [each.rating for each in remarks if each.rating is not None]
    edits = [each.edit for each in remarks if each.edit is not None]
    return {
        "id": node.id, "parent": None if before is None or before.kind == "root" else before.id, "depth": node.depth,
        "kind": node.kind, "query": node.query, "answer": node.answer, "thought": node.thought,
        "created_at": int(node.created), "forgotten": node.forgotten,
        "status": node.shown.get("status", "completed"), "usage": node.shown.get("usage"),
        "feedback": {
            "rating": ratings[-1] if ratings else None, "edit": edits[-1] if edits else None,
            "better_than": [each.better_than for each in remarks if each.better_than is not None],
        },
    }  # fmt: skip
