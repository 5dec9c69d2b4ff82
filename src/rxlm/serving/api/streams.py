"""Server-sent events, as clients of OpenAI's interfaces read them."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Any

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

PING = ": ping\n\n"


def event_of(data: Mapping[str, Any]) -> str:
    """Return an event; where it has a type, that is its name, too."""
    name = f"event: {data['type']}\n" if "type" in data else ""
    return f"{name}data: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n"


def stream(
    events: AsyncGenerator[Mapping[str, Any]], ping_seconds: float, left: Callable[[], None] | None = None
) -> StreamingResponse:
    """Return a response that sends events as they come, signs of life in between, and `[DONE]` at the end.

    `left` is called when it is over, also where the client left before it began: a generator that nobody has started
    ends without a word.
    """
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    made = _Stream(_lines(events, ping_seconds), media_type="text/event-stream", headers=headers)
    made.left = left
    return made


class _Stream(StreamingResponse):
    left: Callable[[], None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            if self.left is not None:
                self.left()


async def _lines(events: AsyncGenerator[Mapping[str, Any]], ping_seconds: float) -> AsyncGenerator[str]:
    async with aclosing(events) as source:
        coming: asyncio.Task[Any] | None = None
        try:
            while True:
                coming = coming or asyncio.ensure_future(anext(source))
                done, _ = await asyncio.wait([coming], timeout=ping_seconds)
                if not done:
                    yield PING
                    continue
                try:
                    data = coming.result()
                except StopAsyncIteration:
                    break
                coming = None
                yield event_of(data)
        finally:
            if coming is not None:
                coming.cancel()
                await asyncio.gather(coming, return_exceptions=True)
    yield "data: [DONE]\n\n"
