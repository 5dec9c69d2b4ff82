"""Requests that no honest client sends, and clients that leave."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

import httpx
import openai
import pytest

from running_server import Running, running
from rxlm.serving.app import Limits
from serving_requests import CHAT, HELLO, SAID, held, idle, idle_rows, refused

LIMITS = Limits(drain_seconds=5.0, body_seconds=0.5)


@pytest.fixture(scope="module")
def server(models) -> Iterator[Running]:
    with running(models["slots"], limits=LIMITS) as run:
        yield run


@pytest.fixture(autouse=True)
def still_answers(request) -> Iterator[None]:
    """Whatever was sent, the server answers the next one, and no row stays taken."""
    yield
    if "server" in request.fixturenames:
        run = request.getfixturevalue("server")
        assert run.http().post("/v1/responses", json=HELLO).status_code == 200
        idle(run)


def send(server: Running, head: str, *bodies: bytes, pause: float = 0.0) -> bytes:
    """Send a request by hand, and return what comes until the server closes."""
    host, port = server.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(f"{head}\r\nHost: x\r\nAuthorization: Bearer {server.key}\r\n\r\n".encode())
        for body in bodies:
            connection.sendall(body)
            time.sleep(pause)
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
        return b"".join(parts)


# --- bodies --------------------------------------------------------------------------------------------------------


def test_a_body_of_10_mb_is_refused(server: Running):
    text = "x" * 10_000_000
    refused(server.http().post("/v1/responses", json={**HELLO, "input": text}), 413, "request_too_large")
    with pytest.raises(openai.APIStatusError) as raised:
        server.client().chat.completions.create(model="tiny", messages=[{"role": "user", "content": text}])
    assert raised.value.status_code == 413
    chunks = server.http().post(CHAT, content=(b"x" * 100_000 for _ in range(100)))  # its length is not announced
    refused(chunks, 413, "request_too_large")


def test_a_body_that_comes_slowly_is_refused(server: Running):
    head = "POST /v1/responses HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 100"
    begun = time.monotonic()
    answer = send(server, head, b"{", b'"i', pause=0.3)
    assert b" 408 " in answer.splitlines()[0]
    assert b'"code":"timeout"' in answer
    assert time.monotonic() - begun < 5


def test_without_a_key_nobody_sends_a_body(server: Running):
    anybody = httpx.Client(base_url=server.address, timeout=10)
    with anybody:
        refused(anybody.post("/v1/responses", content=b"{" * 1_000_000), 401, "invalid_api_key")
        refused(anybody.post("/v1/nothing", content=b"{"), 401, "invalid_api_key")
        refused(anybody.get("/v1/nothing"), 404, "unknown_url")


def test_bodies_under_way_are_bounded_together(models):
    limits = replace(LIMITS, body_bytes=4000, bodies_bytes=10_000)
    with running(models["slots"], limits=limits) as run, held(run), ExitStack() as stack:
        big = {**HELLO, "metadata": {str(number): "x" * 500 for number in range(7)}, "stream": True}
        for _ in range(2):
            opened = run.http().stream("POST", "/v1/responses", json=big)
            assert stack.enter_context(opened).status_code == 200
        answer = run.http().post("/v1/responses", json=big)
        refused(answer, 429, "too_many_requests")
        assert answer.headers["retry-after"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "missing_required_parameter"),
        (b"{", "invalid_json"),
        (b"\xff\xfe\xfa", None),
        (b"[]", None),
        (b"null", None),
        (b'"x"', None),
        (b'{"input": "Hello!"', "invalid_json"),
        (b'{"input": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", None),
        (b'{"metadata": ' + b'{"a":' * 500 + b"1" + b"}" * 500 + b"}", None),
        (b'{"input": "Hello!", "temperature": NaN}', None),
        (b'{"input": "Hello!", "temperature": Infinity}', None),
        (b'{"input": "Hello!", "repetition_penalty": NaN}', None),
        (b'{"input": "Hello!", "seed": ' + b"9" * 400 + b"}", None),
        (b'{"input": "Hello!", "seed": ' + b"9" * 5000 + b"}", None),
        (b'{"input": "Hello!", "max_output_tokens": -1}', None),
        (b'{"input": "\\ud800"}', None),
        (b'{"input": "Hello!", "instructions": "\\udfff"}', None),
        (b'{"input": "Hello!", "\\ud800": 1}', None),
        (b'{"input": "Hello!", "metadata": {"\\ud800": "a"}}', None),
        (b'{"input": "Hello!", "previous_response_id": "\\ud800"}', None),
        (b'{"input": "Hello!", "conversation": "\\ud800"}', None),
        (b'{"input": "Hello!", "model": "\\ud800"}', None),
        (b'{"input": "Hello!", "stop": "\\ud800"}', None),
        (b'{"input": "Hello!", "stop": ""}', None),
        (b'{"input": "Hello!", "user": "' + b"u" * 100_000 + b'"}', None),
    ],
)
def test_what_is_no_request_is_refused(server: Running, body: bytes, code: str | None):
    http, headers = server.http(), {"Content-Type": "application/json"}
    refused(http.post("/v1/responses", content=body, headers=headers), 404 if b'"model": ' in body else 400, code)
    if b"input" in body:
        body = body.replace(b'"input": "Hello!"', b'"messages": [{"role": "user", "content": "Hello!"}]')
        refused(http.post(CHAT, content=body, headers=headers), 404 if b'"model": ' in body else 400)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "nonsense"])
def test_other_kinds_of_bodies_are_refused(server: Running, kind: str):
    content = json.dumps(HELLO).encode()
    refused(server.http().post("/v1/responses", content=content, headers={"Content-Type": kind}), 400)


def test_odd_names_and_numbers_in_addresses_are_refused(server: Running):
    http = server.http()
    for name in ("%00", "a%00b", "%ED%A0%80", "..%2f..", "x" * 5000, "%F0%9F%98%80", "root_", "'; DROP TABLE items"):
        for place in ("/v1/responses/{}", "/v1/conversations/{}", "/v1/responses/{}/input_items", "/v1/models/{}"):
            refused(http.get(place.format(name)), 404)
        refused(http.delete(f"/v1/conversations/{name}"), 404)
        refused(http.post("/v1/responses", json={**HELLO, "previous_response_id": name}), 400)
    name = http.post("/v1/conversations").json()["id"]
    for limit in ("0", "-1", "9" * 30, "9" * 5000, "1e3", "NaN", "%00", ""):
        refused(http.get(f"/v1/conversations/{name}/items?limit={limit}"), 400)
    refused(http.get(f"/v1/conversations/{name}/items?order=%00"), 400)
    refused(http.get(f"/v1/conversations/{name}/items?after=%00"), 404)
    refused(http.put("/v1/responses"), 405, "method_not_allowed")
    refused(http.request("TRACE", "/health"), 405)


def test_null_bytes_and_huge_numbers_that_mean_something_are_taken(server: Running):
    http = server.http()
    text = {
        **HELLO,
        "input": "a\x00b\x07",
        "metadata": {"\x00": "\x00"},
        "top_k": 2**31 - 1,
        "max_output_tokens": 10**30,
    }
    answer = http.post("/v1/responses", json=text)
    assert answer.status_code == 200, answer.text
    found = http.get(f"/v1/responses/{answer.json()['id']}/input_items").json()
    assert found["data"][0]["content"][0]["text"] == "a\x00b\x07"
    assert http.post(CHAT, json={**SAID, "top_k": 2**31 - 1, "max_tokens": 10**30, "seed": -(2**63)}).status_code == 200


def test_10_000_messages_do_not_stop_the_server(server: Running):
    turn = [{"role": "user", "content": "Hello!"}, {"role": "assistant", "content": "You are kind."}]
    many = {**SAID, "messages": [*turn * 5000, *SAID["messages"]], "store": False}
    with pytest.raises(httpx.ReadTimeout):
        server.http().post(CHAT, json=many, timeout=2)
    assert server.http().post(CHAT, json=SAID).status_code == 200
    idle(server)
    until = time.monotonic() + 20
    while server.context.service.scheduler._makings:
        assert time.monotonic() < until
        time.sleep(0.05)
    few = {**many, "messages": [*turn * 20, *SAID["messages"]]}
    assert server.http().post(CHAT, json=few).status_code == 200


# --- clients that leave -----------------------------------------------------------------------------------------------


def turns(server: Running) -> int:
    return server.store.backend.size("turns")


def test_a_client_that_leaves_while_it_waits_leaves_nothing(server: Running):
    server.http().post("/v1/responses", json=HELLO)
    conversation = server.http().post("/v1/conversations").json()["id"]
    before = turns(server)
    with held(server):
        for options in ({"stream": True}, {"stream": False}):
            with pytest.raises(httpx.ReadTimeout):
                server.http().post(
                    "/v1/responses", json={**HELLO, **options, "conversation": conversation}, timeout=0.3
                )
            with pytest.raises(httpx.ReadTimeout):
                server.http().post(CHAT, json={**SAID, **options, "n": 3}, timeout=0.3)
            idle_rows(server)
    idle(server)
    assert turns(server) == before
    answer = server.http().post("/v1/responses", json={**HELLO, "conversation": conversation})
    assert answer.status_code == 200  # the conversation is not locked


def test_a_client_that_leaves_before_the_first_byte_leaves_nothing(server: Running):
    conversation = server.http().post("/v1/conversations").json()["id"]
    before, bodies = turns(server), []
    bodies.append(("/v1/responses", {**HELLO, "stream": True, "conversation": conversation}))
    bodies.append((CHAT, {**SAID, "stream": True}))
    host, port = server.address.removeprefix("http://").split(":")
    with held(server):
        for path, given in bodies:
            body = json.dumps(given).encode()
            head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.key}\r\n"
            with socket.create_connection((host, int(port))) as connection:
                connection.sendall(
                    f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
                )
        time.sleep(0.2)
        idle_rows(server)
    idle(server)
    assert turns(server) == before


def test_a_client_that_leaves_while_streaming_leaves_nothing(server: Running):
    before = turns(server)
    for path, given in (("/v1/responses", HELLO), (CHAT, SAID)):
        long = {key: value for key, value in given.items() if not key.startswith("max")}
        with held(server):
            with server.http().stream("POST", path, json={**long, "stream": True}) as answer:
                next(answer.iter_lines())
            idle_rows(server)
        idle(server)
    assert turns(server) == before
