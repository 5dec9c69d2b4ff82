"""Responses in the background: written whether their client stays or not, and looked at later."""

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

from fastapi.concurrency import run_in_threadpool

from rxlm.serving.api.context import Context
from rxlm.serving.api.errors import error_of, not_found
from rxlm.serving.api.items import output_of
from rxlm.serving.api.reply import Reply
from rxlm.serving.api.response_events import events_of
from rxlm.serving.store.backend import StoreError
from rxlm.serving.store.records import Node, Tenant

MOST_KEPT = 1000
"""Responses whose events are kept."""


async def run_in_background(reply: Reply, with_memory: bool) -> None:
    """Write a response whose client need not stay; it ends as completed, failed or cancelled."""
    try:
        async for event in events_of(reply, with_memory):
            reply.events.append(event)
            reply.changed.set()
    except asyncio.CancelledError:
        if not reply.is_over:  # else it was stored before
            reply.ending = {"status": "cancelled"}
    finally:
        reply.leave()
        if reply.ending:
            # Instructions belong to what is remembered, and nothing of this is.
            shown = json.dumps({**reply.body(), **reply.ending, "instructions": None}).encode()
            try:
                await run_in_threadpool(reply.context.store.put_ended, reply.tenant.id, reply.id, shown)
            except StoreError as error:
                error_of(error)  # notes it
            reply.shown |= reply.ending  # is over for others once it is stored
        reply.changed.set()
        forget_old(reply.context)


def forget_old(context: Context) -> None:
    """Let go of the events of responses that ended long ago."""
    over = [name for name, reply in context.background.items() if reply.is_over]
    for name in over[: max(0, len(context.background) - MOST_KEPT)]:
        del context.background[name]


async def events_from(reply: Reply, after: int) -> AsyncGenerator[dict[str, Any]]:
    """Yield the events of a response in the background, those that were and those that come."""
    place = 0
    while True:
        reply.changed.clear()
        while place < len(reply.events):
            if reply.events[place]["sequence_number"] > after:
                yield reply.events[place]
            place += 1
        if reply.task is not None and reply.task.done() and place >= len(reply.events):
            return
        if reply.is_over and reply.task is not None and not reply.task.done():
            await asyncio.sleep(0.01)
            continue
        await reply.changed.wait()


def stored_response(context: Context, tenant: Tenant, name: str) -> dict[str, Any]:
    """Return a response that is complete."""
    store = context.store
    node = store.node(tenant.id, name)
    if node is not None and node.kind == "turn":
        return response_of(context, node)
    ended = store.ended(tenant.id, name)
    if ended is None:
        raise not_found("Response", name)
    return json.loads(ended)


def response_of(context: Context, node: Node) -> dict[str, Any]:
    """Return the response that a turn was."""
    shown = {key: value for key, value in node.shown.items() if key != "logprobs"}
    status = shown.get("status", "completed")
    output = output_of(node.id, node.answer, node.thought, status, node.shown.get("logprobs", ()))
    base = {"id": node.id, "object": "response", "created_at": int(node.created), "status": status,
            "model": context.service.name, "tools": [], "tool_choice": "auto", "parallel_tool_calls": True,
            "metadata": {}, "temperature": None, "top_p": None, "error": None, "incomplete_details": None,
            "instructions": None}  # fmt: skip
    return {**base, **shown, "id": node.id, "object": "response", "output": output}
