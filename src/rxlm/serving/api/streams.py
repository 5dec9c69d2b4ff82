"""Server-sent events, as clients of OpenAI's interfaces read them."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from fastapi.responses import StreamingResponse

PING = ": ping\n\n"


def event_of(data: Mapping[str, Any]) -> str:
    """Return an event; where it has a type, that is its name, too."""
    name = f"event: {data['type']}\n" if "type" in data else ""
    return f"{name}data: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n"


def stream(events: AsyncGenerator[Mapping[str, Any]], ping_seconds: float) -> StreamingResponse:
    """Return a response that sends events as they come, signs of life in between, and `[DONE]` at the end."""
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingResponse(_lines(events, ping_seconds), media_type="text/event-stream", headers=headers)


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
