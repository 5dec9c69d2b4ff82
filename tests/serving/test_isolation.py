"""Nobody learns whether another tenant has said something: each test is a pair, of who may and who may not."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from running_server import Running, running
from rxlm.serving.keys import key_digest
from rxlm.serving.store import names
from serving_requests import held

CHAT = "/v1/chat/completions"
ASK = {"model": "tiny", "max_output_tokens": 4}
HISTORY = [{"role": "user", "content": "My dog is called Rex."}, {"role": "assistant", "content": "You are kind."}]


@pytest.fixture(scope="module")
def server(models) -> Iterator[Running]:
    with running(models["slots"]) as run:
        yield run


@pytest.fixture(scope="module")
def ann(server: Running) -> httpx.Client:
    return server.http(server.new_key("ann"))


@pytest.fixture(scope="module")
def bob(server: Running) -> httpx.Client:
    return server.http(server.new_key("bob"))


def ask(client: httpx.Client, text: str = "Hello!", **options) -> dict:
    answer = client.post("/v1/responses", json={**ASK, "input": text, **options})
    assert answer.status_code == 200, answer.text
    return answer.json()


def settle(server: Running) -> None:
    """Wait until every memory is made and stored."""
    service = server.context.service
    service.scheduler.drain(30)
    service.scheduler._draining = False
    service.memories._saving.submit(lambda: None).result(30)


def said_of(answer: httpx.Response, *ids: str) -> tuple[int, str]:
    """Return status and text of an answer, without the ids that were asked for."""
    text = answer.text
    for each in ids:
        text = text.replace(each, "ID")
    return answer.status_code, text


def absent(name: str) -> str:
    """Return an id like another one, of nothing."""
    digits = "0123456789abcdef"
    return "".join(digits[-1 - digits.index(letter)] if letter in digits and place > 8 else letter
                   for place, letter in enumerate(name))  # fmt: skip


REQUESTS = {
    "response": ("GET", "/v1/responses/{}", None),
    "its stream": ("GET", "/v1/responses/{}?stream=true", None),
    "its input": ("GET", "/v1/responses/{}/input_items", None),
    "its end": ("POST", "/v1/responses/{}/cancel", None),
    "its deletion": ("DELETE", "/v1/responses/{}", None),
    "deletion of all after it": ("DELETE", "/v1/responses/{}?descendants=true", None),
    "a turn after it": ("POST", "/v1/responses", {**ASK, "input": "Hello!", "previous_response_id": "{}"}),
    "tokens after it": ("POST", "/v1/responses/input_tokens", {"input": "Hello!", "previous_response_id": "{}"}),
}
OF_CONVERSATIONS = {
    "conversation": ("GET", "/v1/conversations/{}", None),
    "its items": ("GET", "/v1/conversations/{}/items", None),
    "its metadata": ("POST", "/v1/conversations/{}", {"metadata": {"a": "b"}}),
    "more items": ("POST", "/v1/conversations/{}/items", {"items": [{"role": "user", "content": "Hello!"}]}),
    "an answer in it": ("POST", "/v1/responses", {**ASK, "input": "Hello!", "conversation": "{}"}),
    "its deletion": ("DELETE", "/v1/conversations/{}", None),
}


def send(client: httpx.Client, request: tuple[str, str, dict | None], name: str) -> httpx.Response:
    method, path, body = request
    content = None if body is None else json.dumps(body).replace("{}", name).encode()
    return client.request(method, path.format(name), content=content, headers={"Content-Type": "application/json"})


@pytest.mark.parametrize("what", REQUESTS)
def test_a_response_is_there_for_its_tenant_alone(ann: httpx.Client, bob: httpx.Client, what: str):
    name = ask(ann)["id"]
    others, nobodys = send(bob, REQUESTS[what], name), send(bob, REQUESTS[what], absent(name))
    assert others.status_code in (400, 404)
    assert said_of(others, name) == said_of(nobodys, absent(name))
    own = send(ann, REQUESTS[what], name)
    assert own.status_code == (400 if what in ("its stream", "its end") else 200)
    assert said_of(own, name) != said_of(others, name)


@pytest.mark.parametrize("what", OF_CONVERSATIONS)
def test_a_conversation_is_there_for_its_tenant_alone(ann: httpx.Client, bob: httpx.Client, what: str):
    name = ann.post("/v1/conversations", json={}).json()["id"]
    others, nobodys = send(bob, OF_CONVERSATIONS[what], name), send(bob, OF_CONVERSATIONS[what], absent(name))
    assert others.status_code == 404
    assert said_of(others, name) == said_of(nobodys, absent(name))
    assert send(ann, OF_CONVERSATIONS[what], name).status_code == 200


def test_items_are_there_for_their_tenant_alone(ann: httpx.Client, bob: httpx.Client):
    own, other = (client.post("/v1/conversations", json={}).json()["id"] for client in (ann, bob))
    ask(ann, conversation=own)
    item = ann.get(f"/v1/conversations/{own}/items").json()["data"][0]["id"]
    for method in ("GET", "DELETE"):
        for conversation in (own, other):
            others = bob.request(method, f"/v1/conversations/{conversation}/items/{item}")
            nobodys = bob.request(method, f"/v1/conversations/{conversation}/items/{absent(item)}")
            assert others.status_code == 404
            assert said_of(others, item, own) == said_of(nobodys, absent(item), own)
        assert ann.request(method, f"/v1/conversations/{own}/items/{item}").status_code == 200
    assert bob.get(f"/v1/conversations/{other}/items?after={item}").status_code == 404
    # nor is it a way around an own conversation's turns
    second = ann.post("/v1/conversations", json={}).json()["id"]
    ask(ann, conversation=own)
    newest = ann.get(f"/v1/conversations/{own}/items").json()["data"][0]["id"]
    assert ann.delete(f"/v1/conversations/{second}/items/{newest}").status_code == 404


def cached(client: httpx.Client, text: str = "What is my dog called?") -> int:
    messages = [*HISTORY, {"role": "user", "content": text}]
    answer = client.post(CHAT, json={"model": "tiny", "messages": messages, "max_tokens": 4}).json()
    return answer["usage"]["prompt_tokens_details"]["cached_tokens"]


def test_a_history_that_one_tenant_sent_is_known_to_it_alone(ann: httpx.Client, bob: httpx.Client):
    assert cached(ann) == 0
    known = cached(ann)
    assert known > 0
    assert cached(bob) == 0
    assert cached(bob) == known


def test_a_response_in_the_background_is_seen_and_ended_by_its_tenant_alone(
    server: Running, ann: httpx.Client, bob: httpx.Client
):
    with held(server):
        name = ask(ann, background=True)["id"]
        for what in ("response", "its stream", "its end", "its deletion", "its input"):
            others, nobodys = send(bob, REQUESTS[what], name), send(bob, REQUESTS[what], absent(name))
            assert others.status_code == 404
            assert said_of(others, name) == said_of(nobodys, absent(name))
        assert send(ann, REQUESTS["response"], name).json()["status"] in ("queued", "in_progress")
        assert send(ann, REQUESTS["its deletion"], name).status_code == 409
        assert send(ann, REQUESTS["its end"], name).json()["status"] == "cancelled"
    others, nobodys = send(bob, REQUESTS["response"], name), send(bob, REQUESTS["response"], absent(name))
    assert said_of(others, name) == said_of(nobodys, absent(name))
    assert send(ann, REQUESTS["its deletion"], name).status_code == 200
    assert send(ann, REQUESTS["response"], name).status_code == 404


class Counting:
    """Counts what a database is asked, and what it gives."""

    def __init__(self, backend) -> None:
        self.backend, self.asked = backend, Counter()

    def __getattr__(self, name: str):
        method = getattr(self.backend, name)

        def counted(*given, **options):
            found = method(*given, **options)
            size = len(found) if isinstance(found, list) else 1
            self.asked[name, size] += 1
            return found

        return counted if callable(method) else method


def test_what_another_said_costs_what_nobody_said_costs(server: Running, ann: httpx.Client, bob: httpx.Client):
    store = server.store
    for name in ("ann", "bob"):  # both have begun with the same instructions before
        ask(ann if name == "ann" else bob, "You are kind.")
    conversation = ann.post("/v1/conversations", json={}).json()["id"]
    response = ask(ann, "My dog is called Rex.")["id"]
    cached(ann, "Tell me a story.")

    def cost(request: tuple[str, str, dict | None], name: str) -> Counter:
        settle(server)
        real = store.backend
        counting = Counting(real)
        object.__setattr__(store, "backend", counting)
        try:
            send(bob, request, name)
        finally:
            object.__setattr__(store, "backend", real)
        return counting.asked

    for what, request in REQUESTS.items():
        assert cost(request, response) == cost(request, absent(response)), what
    for what, request in OF_CONVERSATIONS.items():
        assert cost(request, conversation) == cost(request, absent(conversation)), what

    def history(text: str) -> tuple[str, str, dict]:
        messages = [*HISTORY[:1], {"role": "assistant", "content": text}, {"role": "user", "content": "Hello!"}]
        return "POST", CHAT, {"model": "tiny", "messages": messages, "max_tokens": 4, "store": False}

    looked = ("members", "get", "number", "size")
    assert ann.post(CHAT, json={**history("Rex is called.")[2], "store": True}).status_code == 200
    known, unknown = cost(history("Rex is called."), ""), cost(history("My dog is kind."), "")
    assert {each: count for each, count in known.items() if each[0] in looked} == {
        each: count for each, count in unknown.items() if each[0] in looked
    }


# --- keys ------------------------------------------------------------------------------------------------------------


def test_only_keys_that_are_somebodys_open_anything(server: Running):
    key = server.new_key("carol")
    with httpx.Client(base_url=server.address) as client:

        def status(header: str | None) -> int:
            headers = {} if header is None else {"Authorization": header}
            answer = client.get("/v1/models", headers=headers)
            if answer.status_code != 200:
                assert answer.json()["error"]["code"] == "invalid_api_key"
                assert answer.headers["www-authenticate"] == "Bearer"
                assert key not in answer.text
            return answer.status_code

        for right in (f"Bearer {key}", f"bearer {key}", f"BEARER  {key}"):
            assert status(right) == 200
        digest = key_digest(key)
        for wrong in (None, "", "Bearer", key, f"Basic {key}", f"Bearer {key}x", f"Bearer {key[:-1]}",
                      f"Bearer {key.lower()}", f"Bearer {digest}", "Bearer \xe4\xff"):  # fmt: skip
            assert status(wrong if wrong is None else wrong.encode("latin-1")) == 401  # type: ignore[arg-type]
        assert client.get(f"/v1/models?api_key={key}").status_code == 401
        server.context.tenants.revoke(digest)
        assert status(f"Bearer {key}") == 401


# --- what stands in files --------------------------------------------------------------------------------------------


def in_files(folder: Path, text: str) -> bool:
    return any(text.encode() in file.read_bytes() for file in folder.iterdir())


def test_a_key_stands_in_no_file_of_the_store(models, tmp_path: Path):
    with running(models["slots"], tmp_path / "s.sqlite") as run:
        ask(run.http())
        run.store.backend.scrub()
        assert in_files(tmp_path, key_digest(run.key))
        assert not in_files(tmp_path, run.key)
        assert not in_files(tmp_path, run.key.removeprefix("rxlm-"))


SECRETS = ["zanzibar", "xylophone", "quagmire", "jabberwocky"]


def _told(run: Running, secrets: list[str], **options) -> list[str]:
    http = run.http()
    long = f"{secrets[3]} " + "You are kind. " * 20 + secrets[3]
    one = ask(http, secrets[0], instructions=secrets[1], metadata={"a": secrets[2]}, user=secrets[2], **options)
    if "conversation" not in options:
        options = {"previous_response_id": one["id"]}
    two = ask(http, long, truncation="auto", **options)
    settle(run)
    run.store.backend.scrub()
    return [one["id"], two["id"]]


@pytest.mark.parametrize("way", ["conversation", "responses", "items", "history"])
def test_nothing_of_what_was_deleted_stands_in_any_file(models, tmp_path: Path, way: str):
    with running(models["retained"], tmp_path / "s.sqlite") as run:
        http = run.http()
        if way == "conversation":
            given = {"metadata": {"title": SECRETS[0]}, "items": [{"role": "user", "content": SECRETS[1]}]}
            conversation = http.post("/v1/conversations", json=given).json()["id"]
            turns = _told(run, SECRETS, conversation=conversation)
            run.http().post(f"/v1/conversations/{conversation}/items", json={"items": given["items"]})
            assert all(in_files(tmp_path, secret) for secret in SECRETS)
            assert http.delete(f"/v1/conversations/{conversation}").status_code == 200
        elif way == "responses":
            turns = _told(run, SECRETS)
            assert all(in_files(tmp_path, secret) for secret in SECRETS)
            assert http.delete(f"/v1/responses/{turns[1]}").status_code == 200
            assert not in_files(tmp_path, SECRETS[3])
            assert http.delete(f"/v1/responses/{turns[0]}").status_code == 200
        elif way == "items":
            given = [{"role": "user", "content": SECRETS[0]}, {"role": "assistant", "content": SECRETS[1]}]
            conversation = http.post("/v1/conversations", json={"items": given}).json()["id"]
            ask(http, SECRETS[2], conversation=conversation)
            items = http.get(f"/v1/conversations/{conversation}/items?order=asc").json()["data"]
            assert http.delete(f"/v1/conversations/{conversation}/items/{items[0]['id']}").status_code == 409
            for item in (items[-1], items[0]):
                assert http.delete(f"/v1/conversations/{conversation}/items/{item['id']}").status_code == 200
        else:
            sides = ["system", "user", "assistant", "user"]
            messages = [{"role": side, "content": secret} for side, secret in zip(sides, SECRETS, strict=True)]
            answer = ask(http, messages)  # type: ignore[arg-type]
            assert http.delete(f"/v1/responses/{answer['id']}").status_code == 200
        assert [secret for secret in SECRETS if in_files(tmp_path, secret)] == []
        settle(run)
        if way != "items":
            assert run.store.backend.size(names.TURNS) == 0
        tenant = run.context.tenants.named("default")
        assert run.store.memory_bytes() == 0
        if way != "items":
            assert run.store.stored_bytes(tenant.id) == 0
        assert [secret for secret in SECRETS if in_files(tmp_path, secret)] == []


def test_a_conversation_begun_with_a_history_has_it_as_its_own(models):
    with running(models["slots"]) as run:
        http = run.http()
        conversation = http.post("/v1/conversations", json={}).json()["id"]
        ask(http, [*HISTORY, {"role": "user", "content": "Hello!"}], conversation=conversation)  # type: ignore[arg-type]
        ask(http, "You are kind. " * 20, conversation=conversation, truncation="auto")
        items = http.get(f"/v1/conversations/{conversation}/items?order=asc").json()["data"]
        texts = [item["content"][0]["text"] for item in items]
        assert texts[:2] == [message["content"] for message in HISTORY]
        assert len(items) == 6  # a message that is read in pieces is one message
        changed = ask(http, "Hello!", conversation=conversation, instructions="Tell me a story.")
        again = ask(http, "Hello!", previous_response_id=changed["id"])
        assert again["usage"]["input_tokens_details"]["cached_tokens"] > 0
        assert http.delete(f"/v1/conversations/{conversation}").status_code == 200
        assert run.store.stored_bytes("default") == 0
