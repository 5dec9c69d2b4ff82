"""A server that has too much to do, that is told to stop, or whose model fails."""

import copy
import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace

import httpx
import openai
import pytest
import uvicorn

from running_server import Running, running
from rxlm.serving.api.context import Budgets
from rxlm.serving.api.errors import ApiError
from rxlm.serving.app import Limits
from rxlm.serving.stopping import DrainingServer
from rxlm.serving.store.records import Tenant
from serving_requests import CHAT, HELLO, SAID, held, idle, refused

LIMITS = Limits(drain_seconds=5.0, body_seconds=0.5)


@pytest.fixture(scope="module")
def server(models) -> Iterator[Running]:
    with running(models["slots"], limits=LIMITS) as run:
        yield run


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
        for path, given in (("/v1/responses", HELLO), (CHAT, SAID)):
            assert run.http(small).post(path, json={**given, "store": False}).status_code == 200
        used = run.store.stored_bytes("small")
        for response in [
            member.split("/")[1] for member in run.store.backend.members("turns", 9) if "small/resp" in member
        ]:
            assert run.http(small).delete(f"/v1/responses/{response}").status_code == 200
        assert run.store.stored_bytes("small") == 0 < used
        assert run.http(small).post("/v1/responses", json=HELLO).status_code == 200


def test_who_is_told_to_wait_may_ask_after_it():
    now = [0.0]
    budgets = Budgets(lambda: now[0])
    tenant = Tenant("t", "t", 0.0, name="t", salt="salt", tokens_per_minute=100)
    for now[0], tokens in ((0.0, 10), (50.0, 200)):
        budgets.use(tenant, tokens)
    now[0] = 55.5
    with pytest.raises(ApiError, match="in 55 seconds") as refusal:
        budgets.check(tenant)
    now[0] += float((refusal.value.headers or {})["Retry-After"]) - 1.0
    with pytest.raises(ApiError, match="in 1 seconds"):
        budgets.check(tenant)
    now[0] += 1.0
    budgets.check(tenant)


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
        _until(lambda: _logged_requests(caplog) >= set(names))  # a line is written after the client has its answer
    own = [record for record in caplog.records if record.name.startswith(("rxlm", "uvicorn", "fastapi"))]
    assert not logging.getLogger("uvicorn.access").propagate  # which would name addresses
    assert not [line for line in own if line.name != "uvicorn.access" and secret in line.getMessage()]


def _logged_requests(caplog: pytest.LogCaptureFixture) -> set[str]:
    lines = [record for record in list(caplog.records) if record.name == "rxlm.serving.requests"]
    return {json.loads(line.getMessage())["request"] for line in lines}
