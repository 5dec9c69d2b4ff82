"""The application: interfaces, page, limits and log, around one service."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

from rxlm import __version__
from rxlm.serving.api import chat_completions, conversations, own, responses, status
from rxlm.serving.api.context import Context, tenant_of
from rxlm.serving.api.documents import ERRORS
from rxlm.serving.api.errors import install
from rxlm.serving.limits import LimitedBodies, LoggedRequests
from rxlm.serving.store.eviction import age_out, evict_memories

LOG = logging.getLogger("rxlm.serving")
PAGE = Path(__file__).parent / "page"
SECONDS_BETWEEN_SWEEPS = 60.0
SECONDS_FOR_BACKGROUND = 5.0


@dataclass(frozen=True)
class Limits:
    """What the server bounds.

    Fields:
        body_bytes: of a request. bodies_bytes: of all requests under way. body_seconds: for sending one.
        memory_bytes: of all memories in the store; None: no limit. max_age: seconds after which a turn that nobody used
            is deleted; None: never.
        drain_seconds: for answers under way, when the server is told to stop.
    """

    body_bytes: int = 8 << 20
    bodies_bytes: int = 256 << 20
    body_seconds: float = 30.0
    memory_bytes: int | None = 10 << 30
    max_age: float | None = None
    drain_seconds: float = 30.0


def make_app(context: Context, limits: Limits = Limits(), origins: Sequence[str] = ()) -> FastAPI:
    """Return the application.

    Args:
        context: its state. limits: see there.
        origins: pages of other servers that may ask (CORS); none by default.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        sweeping = asyncio.create_task(_sweep(context, limits))
        try:
            yield
        finally:
            sweeping.cancel()
            await asyncio.gather(sweeping, return_exceptions=True)
            await run_in_threadpool(context.service.scheduler.drain, limits.drain_seconds)
            if under_way := [reply.task for reply in context.background.values() if not reply.task.done()]:
                await asyncio.wait(under_way, timeout=SECONDS_FOR_BACKGROUND)  # what was answered is stored
            await run_in_threadpool(context.service.close)

    app = FastAPI(title="rxlm", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.context = context
    install(app)
    for module in (responses, conversations, chat_completions, own, status):
        app.include_router(module.router, responses=ERRORS)
    if (PAGE / "index.html").is_file():
        app.mount("/static", StaticFiles(directory=PAGE), name="static")
        app.get("/", include_in_schema=False)(_page)
    app.add_middleware(
        LimitedBodies, max_bytes=limits.body_bytes, max_held=limits.bodies_bytes, seconds=limits.body_seconds,
        check=tenant_of,
    )  # fmt: skip
    if origins:
        app.add_middleware(CORSMiddleware, allow_origins=list(origins), allow_methods=["*"], allow_headers=["*"])
    app.add_middleware(LoggedRequests, metrics=context.metrics)
    return app


async def _page() -> FileResponse:
    """Return the page; it may load nothing from anywhere else."""
    policy = "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    headers = {"Content-Security-Policy": policy, "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff"}
    return FileResponse(PAGE / "index.html", headers=headers)


async def _sweep(context: Context, limits: Limits) -> None:
    """Drop from time to time what the store has no room for, and what is too old."""
    store = context.service.store
    while store is not None:
        begun = time.monotonic()
        try:
            if limits.memory_bytes is not None:
                await run_in_threadpool(evict_memories, store, limits.memory_bytes)
            if limits.max_age is not None:
                await run_in_threadpool(age_out, store, limits.max_age)
        except Exception:
            LOG.exception("the store was not swept")
        await asyncio.sleep(max(1.0, SECONDS_BETWEEN_SWEEPS - (time.monotonic() - begun)))
