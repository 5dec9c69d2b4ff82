"""What tests of a server send, and how they wait for it."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from running_server import Running
from rxlm.serving.store import names
from rxlm.serving.store.records import Node

CHAT = "/v1/chat/completions"
LIMIT = 4
"""Tokens of answers."""
HELLO = {"model": "tiny", "input": "Hello!", "max_output_tokens": 4}
SAID = {"model": "tiny", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 4}


def say(http: httpx.Client, given: str | list, **options) -> dict:
    """Ask for a response, and return it."""
    body = {"input": given, "max_output_tokens": LIMIT, "temperature": 0, **options}
    return http.post("/v1/responses", json=body).raise_for_status().json()


def nodes(run: Running) -> list[Node]:
    """Return all that the store has of turns."""
    found = run.store.backend.members(names.TURNS, 10_000)
    return [node for node in (run.store.node(*each.split("/")) for each in found) if node is not None]


def idle(server: Running, seconds: float = 10.0) -> None:
    scheduler, until = server.context.service.scheduler, time.monotonic() + seconds
    while scheduler.num_running or scheduler.num_waiting or server.context.busy_conversations:
        assert time.monotonic() < until
        time.sleep(0.01)


@contextmanager
def held(server: Running) -> Iterator[None]:
    """Keep the model's thread from working."""
    blocked, go = threading.Event(), threading.Event()

    def hold() -> None:
        blocked.set()
        go.wait(30)

    server.context.service.scheduler.call(hold)
    blocked.wait(30)
    try:
        yield
    finally:
        go.set()


def refused(answer: httpx.Response, status: int, code: str | None = None) -> dict:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert isinstance(error["code"], str)
    assert code in (None, error["code"])
    assert answer.headers["x-request-id"].startswith("req_")
    return error


def idle_rows(server: Running) -> None:
    """Wait until whoever is asked for is wanted by nobody."""
    scheduler, until = server.context.service.scheduler, time.monotonic() + 10
    while any(not asked.cancelled for asked in [*scheduler._waiting, *scheduler._running]):
        assert time.monotonic() < until
        time.sleep(0.01)
