"""Requests that no honest client sends, clients that leave, and a server that has too much to do."""

import copy
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import httpx
import openai
import pytest
import uvicorn

from running_server import Running, running
from rxlm.serving.app import Limits
from rxlm.serving.stopping import DrainingServer

LIMITS = Limits(drain_seconds=5.0, body_seconds=0.5)
CHAT = "/v1/chat/completions"
HELLO = {"model": "tiny", "input": "Hello!", "max_output_tokens": 4}
SAID = {"model": "tiny", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 4}


@pytest.fixture(scope="module")
def server(models) -> Iterator[Running]:
    with running(models["slots"], limits=LIMITS) as run:
        yield run


@pytest.fixture(autouse=True)
def still_answers(request) -> Iterator[None]:
    """Whatever was sent, the server answers the next one, and no row is left behind."""
    yield
    if "server" in request.fixturenames:
        run = request.getfixturevalue("server")
        assert run.http().post("/v1/responses", json=HELLO).status_code == 200
        idle(run)


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


def idle_rows(server: Running) -> None:
    """Wait until whoever is asked for is wanted by nobody."""
    scheduler, until = server.context.service.scheduler, time.monotonic() + 10
    while any(not asked.cancelled for asked in [*scheduler._waiting, *scheduler._running]):
        assert time.monotonic() < until
        time.sleep(0.01)


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


def test_many_streams_are_open_at_once(models):
    with running(models["slots"], num_rows=16, max_waiting=200) as run, ExitStack() as stack:
        expected = run.http().post("/v1/responses", json=HELLO).json()["output"][0]["content"]
        with held(run):
            http = httpx.Client(base_url=run.address, headers={"Authorization": f"Bearer {run.key}"}, timeout=60,
                                limits=httpx.Limits(max_connections=None))  # fmt: skip
            stack.enter_context(http)
            opened = [
                stack.enter_context(http.stream("POST", "/v1/responses", json={**HELLO, "stream": True}))
                for _ in range(100)
            ]
            assert run.context.service.scheduler.num_waiting == 100
        for answer in opened:
            last = [line for line in answer.iter_lines() if line.startswith("data: {")][-1]
            assert json.loads(last[6:])["response"]["output"][0]["content"] == expected
        idle(run)


# --- limits -----------------------------------------------------------------------------------------------------------


def test_too_many_who_wait_are_told_to_come_again(models):
    with running(models["slots"], num_rows=1, max_waiting=2) as run, ExitStack() as stack:
        with held(run):
            for path, given in (("/v1/responses", HELLO), (CHAT, SAID)):
                stack.enter_context(run.http().stream("POST", path, json={**given, "stream": True}))
            for path, given in (("/v1/responses", HELLO), (CHAT, {**SAID, "stream": True})):
                answer = run.http().post(path, json=given)
                refused(answer, 429, "too_many_requests")
                assert int(answer.headers["retry-after"]) > 0
            with pytest.raises(openai.RateLimitError):
                run.client().responses.create(model="tiny", input="Hello!")
        idle(run)


def test_quotas_of_tokens_and_bytes_are_told(models):
    with running(models["slots"]) as run:
        tenants = run.context.tenants
        few, small = run.new_key("few"), run.new_key("small")
        tenants.change(replace(tenants.named("few"), tokens_per_minute=5))
        tenants.change(replace(tenants.named("small"), max_bytes=100))
        for key, code in ((few, "rate_limit_exceeded"), (small, "insufficient_quota")):
            http = run.http(key)
            assert http.post("/v1/responses", json=HELLO).status_code == 200
            for path, given in (("/v1/responses", HELLO), (CHAT, SAID), ("/v1/conversations", {})):
                answer = http.post(path, json=given)
                refused(answer, 429, code)
                assert code == "insufficient_quota" or int(answer.headers["retry-after"]) > 0
        assert run.http().post("/v1/responses", json=HELLO).status_code == 200
        used = run.store.stored_bytes("small")
        for response in [
            member.split("/")[1] for member in run.store.backend.members("turns", 9) if "small/resp" in member
        ]:
            assert run.http(small).delete(f"/v1/responses/{response}").status_code == 200
        assert run.store.stored_bytes("small") == 0 < used
        assert run.http(small).post("/v1/responses", json=HELLO).status_code == 200


# --- stopping, and faults ---------------------------------------------------------------------------------------------


def test_an_answer_under_way_ends_and_new_ones_are_refused_while_stopping(models):
    with running(models["slots"]) as run:
        scheduler = run.context.service.scheduler
        server = DrainingServer(uvicorn.Config("unused", log_config=None), scheduler, 10)
        with ExitStack() as stack:
            with held(run):
                opened = run.http().stream("POST", "/v1/responses", json={**HELLO, "stream": True})
                lines = stack.enter_context(opened).iter_lines()
                next(lines)
                server.handle_exit(15, None)
                _until(lambda: scheduler.is_draining)
                for path, given in (("/v1/responses", HELLO), (CHAT, SAID)):
                    refused(run.http().post(path, json=given), 503, "server_stopping")
                assert run.http().get("/health").status_code == 503
                assert not server.should_exit
            assert [line for line in lines if line][-1] == "data: [DONE]"
        _until(lambda: server.should_exit)


def _until(holds: Callable[[], bool], seconds: float = 10.0) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_response_in_the_background_is_stored_before_the_server_stops(models, tmp_path):
    with running(models["slots"], tmp_path / "s.sqlite") as run:
        response = run.http().post("/v1/responses", json={**HELLO, "background": True}).json()
    with running(models["slots"], tmp_path / "s.sqlite") as run:
        found = run.http().get(f"/v1/responses/{response['id']}").json()
    assert found["status"] in ("completed", "incomplete")


def test_a_fault_of_the_model_is_told_by_name_and_the_server_lives(models):
    model = copy.deepcopy(models["slots"])
    with running(model) as run:
        assert run.http().post("/v1/responses", json=HELLO).status_code == 200
        weight = next(iter(model.decoder.parameters()))
        whole = weight.detach().clone()
        weight.data.fill_(float("nan"))
        for path, given in (("/v1/responses", HELLO), (CHAT, SAID), (CHAT, {**SAID, "n": 3})):
            assert "NaN" in refused(run.http().post(path, json=given), 500, "model_fault")["message"]
        with pytest.raises(openai.APIError, match="NaN"):
            list(run.client().chat.completions.create(**SAID, stream=True))
        events = list(run.client().responses.create(**HELLO, stream=True))
        assert events[-1].type == "response.failed"
        assert "NaN" in events[-1].response.error.message
        assert run.http().get("/health").status_code == 200
        weight.data.copy_(whole)
        assert run.http().post("/v1/responses", json=HELLO).status_code == 200


def test_an_error_of_the_server_itself_has_the_form_of_others(models, monkeypatch):
    def fail(*given, **options):
        raise KeyError("no such thing")

    with running(models["slots"]) as run:
        monkeypatch.setattr(type(run.store), "conversations", fail)
        monkeypatch.setattr(type(run.store), "conversation", fail)
        answer = run.http().get("/v1/conversations/conv_1")
        assert "no such thing" not in refused(answer, 500, "internal")["message"]


def test_every_answer_has_an_id_and_no_text_is_in_the_log(server: Running, caplog):
    secret = "zanzibar"
    http = server.http()
    with caplog.at_level(logging.DEBUG):
        given = {**HELLO, "input": secret, "instructions": secret, "metadata": {"a": secret}, "user": secret}
        answers = [
            http.post("/v1/responses", json=given),
            http.post(CHAT, json={**SAID, "messages": [{"role": "user", "content": secret}]}),
            http.post("/v1/responses", json={**given, secret: secret}),
            http.post("/v1/responses", json={**given, "input": secret * 100}),
            http.post("/v1/responses", content=f'{{"{secret}'.encode(), headers={"Content-Type": "application/json"}),
            http.get(f"/v1/responses/{secret}"),
            http.get(f"/{secret}?{secret}={secret}"),
            http.get("/health"),
            http.get("/v1/models", headers={"Authorization": f"Bearer {secret}"}),
        ]
        with http.stream("POST", "/v1/responses", json={**given, "stream": True}) as stream:
            list(stream.iter_lines())
    names = [answer.headers["x-request-id"] for answer in [*answers, stream]]
    assert len(set(names)) == len(names)
    own = [record for record in caplog.records if record.name.startswith(("rxlm", "uvicorn", "fastapi"))]
    logged = [json.loads(record.getMessage()) for record in own if record.name == "rxlm.serving.requests"]
    assert {line["request"] for line in logged} >= set(names)
    assert not logging.getLogger("uvicorn.access").propagate  # which would name addresses
    assert not [line for line in own if line.name != "uvicorn.access" and secret in line.getMessage()]
