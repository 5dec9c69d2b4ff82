"""`/v1/responses`: an answer is a turn, and its id names the memory after it."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response

from rxlm.serving.api import documents
from rxlm.serving.api.answering import while_connected
from rxlm.serving.api.background import events_from, run_in_background, stored_response
from rxlm.serving.api.context import Caller, Server, check_idle, check_model
from rxlm.serving.api.documents import answers
from rxlm.serving.api.errors import ApiError, not_found
from rxlm.serving.api.items import Inclusions, Limit, Order, page, user_items_of
from rxlm.serving.api.reply import Reply, num_tokens, prepare
from rxlm.serving.api.requests import ResponseRequest
from rxlm.serving.api.response_events import events_of
from rxlm.serving.api.streams import stream as streamed
from rxlm.serving.store.store import HasDescendantsError

router = APIRouter(prefix="/v1/responses", tags=["responses"])
MEMORY_EVENTS = "x-rxlm-memory-events"
"""Header with which a client asks for events about the memory, too."""


@router.post("", response_model=None, responses=answers(documents.Response, streams=True))
async def create(
    request: Request, context: Server, tenant: Caller, given: ResponseRequest,
    memory_events: Annotated[str | None, Header(alias=MEMORY_EVENTS)] = None,
) -> Response:  # fmt: skip
    """Answer a message."""
    reply = await run_in_threadpool(prepare, context, tenant, given)
    lock = None if reply.conversation is None else (tenant.id, reply.conversation.id)
    if lock is not None:
        check_idle(context, tenant, lock[1])
        context.busy_conversations.add(lock)
    try:
        reply.ask()
    except BaseException:
        context.busy_conversations.discard(lock)  # type: ignore[arg-type]
        raise
    with_memory = memory_events is not None and memory_events.lower() not in ("", "0", "false", "no")
    if given.background:
        context.background[tenant.id, reply.id] = reply
        reply.task = asyncio.create_task(run_in_background(reply, with_memory))
        if given.stream:
            return streamed(events_from(reply, -1), context.ping_seconds)
        return JSONResponse(reply.body())
    if given.stream:
        return streamed(events_of(reply, with_memory), context.ping_seconds, reply.leave)
    await while_connected(request, asyncio.create_task(_all(reply)))
    if reply.error is not None:
        raise reply.error
    return JSONResponse(reply.events[-1]["response"])


@router.post("/input_tokens", response_model=None, responses=answers(documents.InputTokens))
def count(context: Server, tenant: Caller, given: ResponseRequest) -> dict[str, Any]:
    """Return how many tokens a request would read."""
    check_model(context, given.model)
    return {"object": "response.input_tokens", "input_tokens": num_tokens(context, tenant, given)}


@router.get("/{name}", response_model=None, responses=answers(documents.Response, streams=True))
async def retrieve(
    context: Server, tenant: Caller, name: str, stream: bool = False, starting_after: int | None = None,
    include: Inclusions = None, include_obfuscation: bool | None = None,
) -> Response:  # fmt: skip
    """Return a response; with `stream=true` its events, from the one after `starting_after` on.

    What `include` may name is in a response that was asked for it, and in no other; nothing is obfuscated.
    """
    after = -1 if starting_after is None else starting_after
    running = context.background.get((tenant.id, name))
    if running is not None and not running.is_over:
        if stream:
            return streamed(events_from(running, after), context.ping_seconds)
        return JSONResponse(running.body())
    shown = await run_in_threadpool(stored_response, context, tenant, name)
    if stream:
        if running is None:
            raise ApiError(400, "Only responses in the background can be streamed again.", param="stream")
        return streamed(events_from(running, after), context.ping_seconds)
    return JSONResponse(shown)


@router.delete("/{name}", response_model=None, responses=answers(documents.Deleted))
def delete(context: Server, tenant: Caller, name: str, descendants: bool = False) -> dict[str, Any]:
    """Delete a response: its turn, and the memories that hold it. Turns after it go only with `descendants`."""
    store = context.store
    running = context.background.get((tenant.id, name))
    if running is not None and not running.is_over:
        raise ApiError(409, "The response is being written: cancel it first.", code="response_in_progress")
    context.background.pop((tenant.id, name), None)
    node = store.node(tenant.id, name)
    if node is None or node.kind == "root":
        if store.ended(tenant.id, name) is None:
            raise not_found("Response", name)
        store.delete_ended(tenant.id, name)
        store.backend.scrub()
    else:
        for each in (node, store.node(tenant.id, node.first)):
            if each is not None and each.owner is not None:
                check_idle(context, tenant, each.owner)
        try:
            context.service.scheduler.cache.drop(store.delete(node, descendants=descendants))
        except HasDescendantsError:
            raise ApiError(
                409, "Turns follow this response, whose memories hold it: delete them too, with ?descendants=true.",
                code="has_descendants",
            ) from None  # fmt: skip
    return {"id": name, "object": "response", "deleted": True}


@router.post("/{name}/cancel", response_model=None, responses=answers(documents.Response))
async def cancel(context: Server, tenant: Caller, name: str) -> Response:
    """Stop a response in the background; nothing of it is remembered."""
    running = context.background.get((tenant.id, name))
    if running is None:
        await run_in_threadpool(stored_response, context, tenant, name)
        raise ApiError(400, "Only a response that was created with background=true can be cancelled.")
    if not running.is_over and running.task is not None:
        running.task.cancel()
        await asyncio.gather(running.task, return_exceptions=True)
    if running.is_over and running.shown["status"] == "cancelled":
        return JSONResponse(running.body())
    return JSONResponse(await run_in_threadpool(stored_response, context, tenant, name))


@router.get("/{name}/input_items", response_model=None, responses=answers(documents.Items))
def input_items(
    context: Server, tenant: Caller, name: str, limit: Limit = 20, after: str | None = None, order: Order = "desc",
    include: Inclusions = None,
) -> dict[str, Any]:  # fmt: skip
    """Return the messages that a response answered."""
    node = context.store.node(tenant.id, name)
    if node is None or node.kind != "turn":
        raise not_found("Response", name)
    return page(user_items_of(node), limit, after, order)


async def _all(reply: Reply) -> None:
    async for event in events_of(reply, False):
        reply.events.append(event)
