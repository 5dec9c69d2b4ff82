"""What tests of a server send, and how they wait for it."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from running_server import Running

CHAT = "/v1/chat/completions"
HELLO = {"model": "tiny", "input": "Hello!", "max_output_tokens": 4}
SAID = {"model": "tiny", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 4}


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
