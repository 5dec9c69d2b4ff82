"""Around every request: its body is bounded in size and time, and a line of the log says what became of it."""

import asyncio
import json
import logging
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rxlm.serving.api.errors import ApiError, error_of
from rxlm.serving.metrics import Metrics

LOG = logging.getLogger("rxlm.serving.requests")


class LimitedBodies:
    """Reads the body of a request before anything else sees it; one that is too long or too slow is refused.

    Who asks is looked at first: without a key nobody can send a body.

    Args:
        max_bytes: of a body. max_held: of all bodies of requests under way. seconds: for sending one.
        check: raises `ApiError` unless somebody may ask; blocks.
    """

    def __init__(
        self, app: ASGIApp, max_bytes: int, max_held: int, seconds: float, check: Callable[[Request], object]
    ) -> None:
        self.app, self.max_bytes, self.max_held, self.seconds, self.check = app, max_bytes, max_held, seconds, check
        self.held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS", "DELETE"):
            await self.app(scope, receive, send)
            return
        body = _Body(receive)
        try:
            await run_in_threadpool(self.check, Request(scope))
            await asyncio.wait_for(self._read(scope, body), self.seconds)
        except TimeoutError:
            error = ApiError(408, f"The body did not come within {self.seconds:g} seconds.")
            await self._refuse(error, scope, send)
        except ApiError as error:
            with suppress(TimeoutError):  # who is still sending when the answer comes may not read it
                await asyncio.wait_for(body.skip(scope, 8 * self.max_bytes), self.seconds)
            await self._refuse(error, scope, send)
        else:
            await self.app(scope, body.again, send)
        finally:
            self.held -= body.size

    async def _read(self, scope: Scope, body: "_Body") -> None:
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        too_long = announced.isdigit() and (len(announced) > 18 or int(announced) > self.max_bytes)
        while not too_long and not body.is_complete:
            self.held += await body.more()
            too_long = body.size > self.max_bytes
            if self.held > self.max_held:
                raise ApiError(
                    429, "The requests under way have too much in their bodies.", code="too_many_requests",
                    headers={"Retry-After": "2"},
                )  # fmt: skip
        if too_long:
            raise ApiError(413, f"The body is longer than {self.max_bytes:,} bytes.")

    async def _refuse(self, error: ApiError, scope: Scope, send: Send) -> None:
        response = error.response
        response.headers["connection"] = "close"
        await response(scope, _nothing, send)


class _Body:
    """The body of a request, as it comes."""

    def __init__(self, receive: Receive) -> None:
        self.receive, self.is_complete, self.size = receive, False, 0
        self._parts: list[bytes] = []
        self._was_read = False

    async def more(self) -> int:
        """Take what comes next, and return how long it is."""
        message = await self.receive()
        part: bytes = message.get("body", b"")
        self.is_complete = message["type"] == "http.disconnect" or not message.get("more_body")
        self.size += len(part)
        self._parts.append(part)
        return len(part)

    async def skip(self, scope: Scope, most: int) -> None:
        """Let the rest of it go, unless there is too much of it, or its client waits to be told to send it."""
        if b"expect" in dict(scope["headers"]):
            return
        while not self.is_complete and most > 0:
            message = await self.receive()
            self.is_complete = message["type"] == "http.disconnect" or not message.get("more_body")
            most -= len(message.get("body", b""))

    async def again(self) -> Message:
        """Return it as one message, and then what comes after it."""
        if self._was_read:
            return await self.receive()
        self._was_read, parts = True, self._parts
        self._parts = []
        return {"type": "http.request", "body": b"".join(parts), "more_body": False}


async def _nothing() -> Message:
    return {"type": "http.disconnect"}


class LoggedRequests:
    """Gives every request an id, and notes in the log and the metrics what became of it; never what was said."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        name, begun, status = f"req_{secrets.token_hex(12)}", time.monotonic(), 0
        scope.setdefault("state", {})["request_id"] = name

        async def named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", name.encode())]
            await send(message)

        try:
            await self.app(scope, receive, named)
        except Exception as error:
            if status:  # too late to say so
                raise
            await error_of(error).response(scope, receive, named)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self.metrics.requests.labels(scope["method"], route, str(status)).inc()
            line: dict[str, Any] = {
                "request": name, "method": scope["method"], "route": route, "status": status or "aborted",
                "seconds": round(time.monotonic() - begun, 4), "tenant": scope["state"].get("tenant"),
            }  # fmt: skip
            LOG.info("%s", json.dumps(line))
