"""A store in Redis: as SQLite, and what only a server over a network can do."""

import builtins
import logging
import re
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from redis_server import LosesAnswers, RedisServer, free_port, shared_server
from rxlm.serving.store.backend import Changes, StoreError
from rxlm.serving.store.redis import RedisBackend
from rxlm.serving.store.sqlite import SQLiteBackend

MOVES = """
import sys
from rxlm.serving.store.backend import Changes
from rxlm.serving.store.redis import RedisBackend
backend = RedisBackend(sys.argv[1])
head = 0
while True:
    moved = backend.apply(Changes(
        expected={"head": b"%d" % head if head else None},
        values={"head": b"%d" % (head + 1), f"turn {head + 1}": bytes(50_000)},
        deleted={f"draft {head}"}, members={("turns", f"turn {head + 1}"): head + 1}, counted={"bytes": 50_000},
    ))
    assert moved
    head += 1
    print(head, flush=True)
"""


@pytest.fixture
def server() -> RedisServer:
    shared = shared_server()
    shared.flush()
    return shared


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[RedisServer]:
    own = RedisServer(tmp_path, "--appendonly", "yes", "--appendfsync", "always")
    yield own
    own.kill()


@pytest.fixture
def backend(server: RedisServer) -> Iterator[RedisBackend]:
    opened = RedisBackend(server.url)
    yield opened
    opened.close()


def _as_logged(error: BaseException) -> str:
    """The error with all that a log shows of its causes, without the lines of the tests."""
    return "".join(traceback.format_exception(error, limit=0))


_NAMES = st.sampled_from(["a", "b", "é", "\U0001f600", "\uffee", "x\0y", ""])
_BYTES = st.sampled_from([b"", b"0", b"\x00\xff\r\n", bytes(range(256))])
_NUMBERS = st.one_of(st.sampled_from([0, -0.0, 1, 0.1 + 0.2, 2.0**60, float("inf"), float("-inf")]), st.floats(-1, 1))
_CHANGES = st.builds(
    Changes,
    expected=st.dictionaries(_NAMES, st.one_of(st.none(), _BYTES), max_size=1),
    values=st.dictionaries(_NAMES, _BYTES, max_size=3),
    deleted=st.sets(_NAMES, max_size=2),
    members=st.dictionaries(st.tuples(st.sampled_from(["s", "t"]), _NAMES), _NUMBERS, max_size=6),
    removed=st.sets(st.tuples(st.sampled_from(["s", "t"]), _NAMES), max_size=2),
    counted=st.dictionaries(_NAMES, st.integers(-5, 2**40), max_size=2),
)


@given(st.lists(_CHANGES, max_size=12), st.integers(0, 3), st.booleans())
def test_it_answers_as_sqlite_does(changes: list[Changes], limit: int, newest: bool):
    shared = shared_server()
    shared.flush()
    names = ["a", "b", "é", "\U0001f600", "\uffee", "x\0y", "", "none"]
    both = RedisBackend(shared.url), SQLiteBackend(":memory:")
    for change in changes:
        assert len({backend.apply(change) for backend in both}) == 1
    answers = [
        [
            backend.get(names),
            [backend.counter(name) for name in names],
            [(backend.size(name), backend.numbers(name, 9), backend.numbers(name, limit)) for name in "stu"],
            [backend.members(name, 9, newest=newest) for name in "stu"],
            [backend.members("s", limit, after, newest=newest) for after in (None, *names)],
        ]
        for backend in both
    ]
    for backend in both:
        backend.close()
    assert answers[0] == answers[1]


def test_a_client_that_is_killed_loses_nothing_committed(server: RedisServer, backend: RedisBackend):
    for _ in range(3):
        server.flush()
        client = subprocess.Popen([sys.executable, "-c", MOVES, server.url], stdout=subprocess.PIPE, text=True)
        assert client.stdout is not None
        for _ in range(20):
            client.stdout.readline()
        client.kill()
        told = int((["20", *client.stdout.read().split()])[-1])  # a line may be cut, never a commit
        client.wait()
        client.stdout.close()
        head = int(backend.get(["head"])[0] or 0)
        assert told <= head
        assert backend.members("turns", head + 9) == [f"turn {turn}" for turn in range(head, 0, -1)]
        assert backend.get([f"turn {turn + 1}" for turn in range(head)]) == [bytes(50_000)] * head
        assert backend.counter("bytes") == head * 50_000


def test_a_server_that_is_killed_is_an_error_at_once_until_it_is_back(own_server: RedisServer):
    backend = RedisBackend(own_server.url)
    backend.apply(Changes(values={"a": b"1"}, members={("s", "m"): 2}))
    own_server.kill()
    before = time.monotonic()
    for call in (
        lambda: backend.get(["a"]),
        lambda: backend.apply(Changes()),
        backend.scrub,
        lambda: backend.size("s"),
    ):
        with pytest.raises(StoreError, match=rf"redis://127\.0\.0\.1:{own_server.port}/0"):
            call()
    with pytest.raises(StoreError, match=str(own_server.port)):
        RedisBackend(own_server.url)
    assert time.monotonic() - before < 2
    own_server.start()
    assert (backend.get(["a"]), backend.members("s", 5)) == ([b"1"], ["m"])
    assert backend.apply(Changes(expected={"a": b"1"}, counted={"n": 1}))  # its scripts are gone, and are sent again
    assert backend.counter("n") == 1
    backend.close()


def test_a_server_that_hangs_is_an_error_soon(own_server: RedisServer):
    backend = RedisBackend(f"{own_server.url}?socket_timeout=0.3&socket_connect_timeout=0.3")
    own_server.signal(signal.SIGSTOP)
    before = time.monotonic()
    with pytest.raises(StoreError, match=r"(?i)timeout"):
        backend.apply(Changes(counted={"n": 1}))
    assert time.monotonic() - before < 2
    own_server.signal(signal.SIGCONT)
    assert backend.apply(Changes(values={"a": b"1"}))
    backend.close()


def test_what_was_sent_is_not_sent_again_when_its_answer_is_lost(server: RedisServer):
    way = LosesAnswers(server.port)
    backend = RedisBackend(f"redis://127.0.0.1:{way.port}")
    assert backend.apply(Changes(counted={"n": 1}))
    way.lose = True
    with pytest.raises(StoreError, match=str(way.port)):
        backend.apply(Changes(counted={"n": 1}))
    assert backend.counter("n") == 2
    backend.close()
    way.close()


def test_nothing_deleted_stands_in_its_file(own_server: RedisServer, tmp_path: Path):
    def standing() -> bool:
        return any(b"my secret" in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())

    backend = RedisBackend(own_server.url)
    backend.apply(Changes(values={"k": b"my secret place" * 300}, members={("my secret set", "m"): 1.0}))
    backend.scrub()
    backend.apply(Changes(deleted={"k"}, removed={("my secret set", "m")}))
    assert standing()
    backend.scrub()
    until = time.monotonic() + 10
    while standing() and time.monotonic() < until:
        time.sleep(0.05)
    assert not standing()
    backend.close()


def test_prefixes_hold_stores_apart(server: RedisServer, backend: RedisBackend):
    other = RedisBackend(f"{server.url}?prefix=other")
    for opened, value in ((backend, b"1"), (other, b"2")):
        opened.apply(Changes(values={"a": value}, members={("s", "m"): 1}, counted={"n": 1}))
    assert (backend.get(["a"]), other.get(["a"]), other.size("s"), other.counter("n")) == ([b"1"], [b"2"], 1, 1)
    with redis.Redis(port=server.port) as client:
        keys = {key.decode() for key in client.scan_iter()}
    parts = ("1:value:a", "1:set:s", "1:counter:n")
    assert keys == {f"{prefix}:{part}" for prefix in ("rxlm", "other") for part in parts}
    other.close()


def test_a_socket_and_a_password_open_it_and_no_message_shows_the_password(tmp_path: Path):
    own = RedisServer(tmp_path, "--requirepass", "se/cret", "--unixsocket", str(tmp_path / "s"))
    try:
        for url in (f"redis://:se%2Fcret@127.0.0.1:{own.port}", f"unix://:se%2Fcret@{tmp_path}/s?db=0"):
            backend = RedisBackend(url)
            assert backend.apply(Changes(values={"a": b"1"}))
            backend.close()
        with pytest.raises(StoreError, match=f"127.0.0.1:{own.port}.*password") as raised:
            RedisBackend(f"redis://:hid%2Fden@127.0.0.1:{own.port}")
        assert not re.search("hid(/|%2F)den", _as_logged(raised.value))
    finally:
        own.kill()


def test_a_socket_needs_no_host(tmp_path: Path):
    own = RedisServer(tmp_path, "--unixsocket", str(tmp_path / "s"))
    try:
        backend = RedisBackend(f"unix://{tmp_path}/s")
        assert (backend.apply(Changes()), backend.place) == (True, f"unix://{tmp_path}/s")
        backend.close()
    finally:
        own.kill()


def test_a_server_that_repeats_the_password_is_not_repeated(tmp_path: Path):
    own = RedisServer(tmp_path, "--rename-command", "AUTH", "")
    try:
        with pytest.raises(StoreError, match="unknown command") as raised:
            RedisBackend(f"redis://:hid%2Fden@127.0.0.1:{own.port}")
        assert not re.search("hid(/|%2F)den", _as_logged(raised.value))
    finally:
        own.kill()


def test_a_server_that_drops_conversations_is_warned_of(tmp_path: Path, caplog):
    own = RedisServer(tmp_path, "--maxmemory-policy", "allkeys-lru", "--rename-command", "CONFIG", "")
    try:
        with caplog.at_level(logging.WARNING):
            RedisBackend(own.url).close()
        assert "noeviction, not allkeys-lru" in caplog.text
    finally:
        own.kill()


def test_a_full_server_changes_nothing(own_server: RedisServer):
    backend = RedisBackend(own_server.url)
    backend.apply(Changes(values={"a": b"1", "b": b"1"}))
    with redis.Redis(port=own_server.port) as client:
        client.config_set("maxmemory", 1)
    with pytest.raises(StoreError, match="maxmemory"):
        backend.apply(Changes(counted={"n": 1}, values={"more": b"1"}, members={("s", "m"): 1}))
    assert (backend.counter("n"), backend.get(["more"]), backend.size("s")) == (0, [None], 0)
    assert backend.apply(Changes(deleted={"a"}, values={"b": b"2"}, counted={"n": 1}))  # what makes room is done, whole
    assert (backend.get(["a", "b"]), backend.counter("n")) == ([None, b"2"], 1)
    backend.close()


def test_a_number_that_is_none_changes_nothing(backend: RedisBackend):
    with pytest.raises(StoreError, match="NaN"):
        backend.apply(Changes(values={"a": b"1"}, members={("s", "m"): float("nan")}))
    assert backend.get(["a"]) == [None]


@pytest.mark.parametrize(
    "url",
    [
        "redis://",
        "redis:///0",
        "redis://host:port/0",
        "redis://host/zero",
        "redis://host/-1",
        "redis://:hidden/x@host",
        "redis://:hidden#x@host",
        "redis://x:1?hidden=x@host",
        "redis://host?decode_responses=1",
        "redis://host?prefix=",
        "redis://host?ssl_ca_certs=authorities.pem",
        "rediss://:hidden@host?ssl_cert_reqs=sometimes",
        "redis://:hidden@host?max_connections=few",
        "unix://",
    ],
)
def test_urls_that_are_none_are_refused_and_not_repeated(url: str):
    with pytest.raises(StoreError) as raised:
        RedisBackend(url)
    assert "hidden" not in _as_logged(raised.value)


def test_an_address_without_a_server_is_named():
    port = free_port()
    with pytest.raises(StoreError, match=rf"redis://127\.0\.0\.1:{port}/3.*refused"):
        RedisBackend(f"redis://user:hidden@127.0.0.1:{port}/3")


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    imported = builtins.__import__

    def without(name: str, *args, **kwargs):
        if name.partition(".")[0] == "redis":
            raise ImportError(name)
        return imported(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"reactive-lm\[redis\]"):
        RedisBackend("redis://host")
