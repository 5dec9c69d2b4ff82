"""Around every request: its body is bounded in size and time, and a line of the log says what became of it."""

import asyncio
import json
import logging
import secrets
import time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rxlm.serving.api.errors import ApiError
from rxlm.serving.metrics import Metrics

LOG = logging.getLogger("rxlm.serving.requests")


class LimitedBodies:
    """Reads the body of a request before anything else sees it; one that is too long or too slow is refused."""

    def __init__(self, app: ASGIApp, max_bytes: int, seconds: float) -> None:
        self.app, self.max_bytes, self.seconds = app, max_bytes, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS", "DELETE"):
            await self.app(scope, receive, send)
            return
        try:
            body = await asyncio.wait_for(self._body(scope, receive), self.seconds)
        except TimeoutError:
            await self._refuse(ApiError(408, f"The body did not come within {self.seconds:g} seconds."), scope, send)
            return
        except ApiError as error:
            await self._refuse(error, scope, send)
            return
        sent = False

        async def replay() -> Message:
            nonlocal sent
            if sent:
                return await receive()
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self.app(scope, replay, send)

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        parts, size = [], int(announced) if announced.isdigit() else 0
        if size <= self.max_bytes:
            size = 0
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return b""
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > self.max_bytes or not message.get("more_body"):
                    break
        if size > self.max_bytes:
            raise ApiError(413, f"The body is longer than {self.max_bytes:,} bytes.", code="request_too_large")
        return b"".join(parts)

    async def _refuse(self, error: ApiError, scope: Scope, send: Send) -> None:
        response = error.response
        response.headers["connection"] = "close"
        await response(scope, _nothing, send)


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
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self.metrics.requests.labels(scope["method"], route, str(status)).inc()
            line: dict[str, Any] = {
                "request": name, "method": scope["method"], "route": route, "status": status or "aborted",
                "seconds": round(time.monotonic() - begun, 4), "tenant": scope["state"].get("tenant"),
            }  # fmt: skip
            LOG.info("%s", json.dumps(line))
