"""What was deleted or forgotten comes back nowhere, whatever was done in between."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from running_server import Running, running
from rxlm.serving.preferences import preference_records
from rxlm.serving.store.eviction import age_out
from serving_requests import CHAT, held, nodes, refused, say

SECRET = "My dog is called Rex."
A, B = "You are kind.", "Tell me a story."


def texts(run: Running) -> str:
    """Return all that nodes of the store have of texts."""
    return "\n".join(f"{node.query}\n{node.answer}" for node in nodes(run))


def items(http: httpx.Client, name: str) -> list[dict]:
    return http.get(f"/v1/conversations/{name}/items?order=asc&limit=100").raise_for_status().json()["data"]


@pytest.mark.parametrize("in_conversation", [False, True])
def test_a_turn_that_is_repeated_after_other_instructions_goes_with_its_repetitions(
    run: Running, http: httpx.Client, in_conversation: bool
):
    name = http.post("/v1/conversations", json={}).json()["id"]
    first = last = None
    for text, instructions in ((SECRET, A), ("Hello!", B), ("How are you?", A), ("Hello!", B)):
        before = {"conversation": name} if in_conversation else {"previous_response_id": last} if last else {}
        last = say(http, text, instructions=instructions, **before)["id"]
        first = first or last
    assert texts(run).count(SECRET) == 2  # A's and B's, and no third one
    refused(http.delete(f"/v1/responses/{first}"), 409, "has_descendants")
    http.delete(f"/v1/responses/{first}?descendants=true").raise_for_status()
    assert texts(run) == ""
    assert http.get(f"/v1/responses/{last}").status_code == 404
    assert items(http, name) == []


def test_an_item_that_is_a_repetition_goes_with_what_it_repeats(run: Running, http: httpx.Client):
    name = http.post("/v1/conversations", json={}).json()["id"]
    say(http, SECRET, instructions=A, conversation=name)
    say(http, "Hello!", instructions=B, conversation=name)
    path = f"/v1/conversations/{name}/items/{items(http, name)[0]['id']}"
    refused(http.delete(path), 409, "has_descendants")
    http.delete(f"{path}?descendants=true").raise_for_status()
    assert texts(run) == ""


def test_what_was_forgotten_is_not_read_again(models):
    with running(models["retained"]) as run:
        http = run.http()
        name = http.post("/v1/conversations", json={}).json()["id"]
        turn = say(http, SECRET, conversation=name)["id"]
        last = say(http, "Hello!", conversation=name)["id"]
        forgotten = http.post(f"/v1/rxlm/responses/{last}/forget", json={"turn": turn}).raise_for_status().json()["id"]
        changed = say(http, "How are you?", conversation=name, instructions=A)["id"]
        memory = http.get(f"/v1/rxlm/responses/{changed}/memory").json()
        assert "Rex" not in "".join(piece["text"] for each in memory["turns"] for piece in each["pieces"])
        http.post("/v1/rxlm/feedback", json={"response_id": changed, "rating": "up"}).raise_for_status()
        (record,) = preference_records(run.store, run.context.tenants.named("default").id)
        assert SECRET not in str(record)

        http.post(f"/v1/rxlm/conversations/{name}/head", json={"response_id": forgotten}).raise_for_status()
        document = http.get(f"/v1/rxlm/conversations/{name}/export").json()
        made = http.post("/v1/rxlm/conversations/import", json=document).raise_for_status().json()
        assert http.get(f"/v1/rxlm/conversations/{made['id']}/export").json() == document
        memory = http.get(f"/v1/rxlm/responses/{made['head']}/memory").json()
        kept = {piece["text"] for each in memory["turns"] for piece in each["pieces"] if piece["share"]}
        assert not any("Rex" in text for text in kept)


def test_the_last_message_can_be_deleted_though_something_was_forgotten_after_it(models):
    with running(models["retained"]) as run:
        http = run.http()
        first = say(http, SECRET)["id"]
        last = say(http, "Hello!", previous_response_id=first)["id"]
        http.post(f"/v1/rxlm/responses/{last}/forget", json={"turn": first}).raise_for_status()
        http.delete(f"/v1/responses/{last}").raise_for_status()
        http.delete(f"/v1/responses/{first}").raise_for_status()
        assert texts(run) == ""


def test_a_completion_of_several_choices_is_erased_by_its_id(run: Running, http: httpx.Client):
    body = {"messages": [{"role": "user", "content": SECRET}], "max_tokens": 4, "n": 3, "metadata": {"a": "1"}}
    name = http.post(CHAT, json=body).raise_for_status().json()["id"]
    assert http.get(f"/v1/responses/{name}").json()["metadata"] == {"a": "1"}
    http.delete(f"/v1/responses/{name}").raise_for_status()
    assert texts(run) == ""


def test_a_turn_is_not_deleted_while_the_next_answer_is_written(run: Running, http: httpx.Client):
    name = http.post("/v1/conversations", json={}).json()["id"]
    turn = say(http, SECRET, conversation=name)["id"]
    with held(run):
        waiting = say(http, "Hello!", conversation=name, background=True)["id"]
        refused(http.delete(f"/v1/responses/{turn}"), 409, "conversation_locked")
    assert run.client().responses.retrieve(waiting).id == waiting


def test_an_import_is_charged_has_room_and_is_made_whole_or_not_at_all(models):
    with running(models["retained"]) as run:
        http, tenants = run.http(), run.context.tenants
        turns = [{"query": SECRET * 2, "answer": "Hello!", "parent": before} for before in (None, 0, 1)]
        document = {"version": 1, "head": 2, "turns": turns}
        tenant = tenants.named("default")
        tenants.change(replace(tenant, max_bytes=100))
        refused(http.post("/v1/rxlm/conversations/import", json=document), 429, "insufficient_quota")
        assert http.get("/v1/rxlm/conversations").json()["data"] == []
        tenants.change(replace(tenant, tokens_per_minute=10))
        http.post("/v1/rxlm/conversations/import", json=document).raise_for_status()
        refused(http.post("/v1/rxlm/conversations/import", json=document), 429, "rate_limit_exceeded")


def test_messages_that_were_added_keep_their_ids(run: Running, http: httpx.Client):
    name = http.post("/v1/conversations", json={}).json()["id"]

    def add(role: str, text: str) -> list[str]:
        body = {"items": [{"role": role, "content": text}]}
        return [each["id"] for each in http.post(f"/v1/conversations/{name}/items", json=body).json()["data"]]

    added = [*add("user", SECRET), *add("user", "Hello!"), *add("assistant", "How are you?")]
    assert [each["id"] for each in items(http, name)] == added
    waiting = add("user", "Who?")
    answer = say(http, "Who is it?", conversation=name)["id"]
    listed = [each["id"] for each in items(http, name)]
    assert listed[:4] == [*added, *waiting]
    asked = http.get(f"/v1/responses/{answer}/input_items?order=asc").json()["data"]
    assert [each["content"][0]["text"] for each in asked] == ["Who?", "Who is it?"]
    assert http.get(f"/v1/conversations/{name}/items/{added[0]}").json()["content"][0]["text"] == SECRET
    refused(http.delete(f"/v1/conversations/{name}/items/{added[0]}"), 409, "has_descendants")
    http.delete(f"/v1/conversations/{name}/items/{waiting[0]}").raise_for_status()
    assert [each["id"] for each in items(http, name)] == added


def test_counted_tokens_are_those_that_an_answer_reads(run: Running, http: httpx.Client):
    name = http.post("/v1/conversations", json={}).json()["id"]
    first = say(http, SECRET, instructions=A)["id"]
    say(http, SECRET, instructions=A, conversation=name)
    thought = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "<think>Hm.</think>Rex."}]
    long = " ".join(["Hello! How are you?"] * 30)
    for options in (
        {"input": "Hello!"},
        {"input": "Hello!", "instructions": B},
        {"input": "Hello!", "previous_response_id": first},
        {"input": "Hello!", "previous_response_id": first, "instructions": B},
        {"input": "Hello!", "conversation": name},
        {"input": "Hello!", "conversation": name, "instructions": B},
        {"input": [*thought, {"role": "user", "content": "Hello!"}]},
        {"input": long, "truncation": "auto"},
    ):
        counted = http.post("/v1/responses/input_tokens", json=options).raise_for_status().json()["input_tokens"]
        body = {**options, "max_output_tokens": 4}
        read = http.post("/v1/responses", json=body).raise_for_status().json()["usage"]["input_tokens"]
        assert counted == read, options


def test_a_response_in_the_background_is_under_way_until_it_is_stored(run: Running, http: httpx.Client, monkeypatch):
    add, storing, go = type(run.store).add, threading.Event(), threading.Event()

    def slow(store, *arguments, **options):
        storing.set()
        assert go.wait(30)
        return add(store, *arguments, **options)

    monkeypatch.setattr(type(run.store), "add", slow)
    name = say(http, SECRET, background=True)["id"]
    assert storing.wait(30)
    assert http.get(f"/v1/responses/{name}").json()["status"] == "in_progress"
    refused(http.delete(f"/v1/responses/{name}"), 409, "response_in_progress")
    with ThreadPoolExecutor(1) as pool:
        cancelled = pool.submit(http.post, f"/v1/responses/{name}/cancel")
        time.sleep(0.2)
        go.set()
        kept = cancelled.result().json()  # too late: it is there
    assert kept["status"] in ("completed", "incomplete")
    assert http.get(f"/v1/responses/{name}").json()["status"] == kept["status"]


def change_instructions(http: httpx.Client) -> tuple[str, list[str]]:
    """Return a conversation whose instructions changed twice, and its responses."""
    name = http.post("/v1/conversations", json={}).json()["id"]
    said = ((SECRET, A), ("Hello!", B), ("How are you?", A))
    return name, [say(http, text, instructions=each, conversation=name)["id"] for text, each in said]


def test_turns_whose_repetitions_nothing_follows_grow_old_with_them(run: Running, http: httpx.Client, monkeypatch):
    change_instructions(http)
    begun = time.time()
    for day in range(1, 5):  # each look finds those that nothing follows any more
        monkeypatch.setattr("rxlm.serving.store.eviction.time", SimpleNamespace(time=lambda: begun + 86400 * day))  # noqa: B023
        age_out(run.store, 3600.0)
    assert texts(run) == ""
    assert http.get("/v1/rxlm/conversations").json()["data"] == []


def test_messages_go_one_by_one_from_the_last_though_instructions_changed(run: Running, http: httpx.Client):
    name, turns = change_instructions(http)
    for turn in reversed(turns):
        http.delete(f"/v1/responses/{turn}").raise_for_status()
    assert (texts(run), items(http, name)) == ("", [])


def test_an_import_knows_what_is_repeated_and_after_which_instructions(run: Running, http: httpx.Client):
    name, _ = change_instructions(http)
    document = http.get(f"/v1/rxlm/conversations/{name}/export").json()
    made = http.post("/v1/rxlm/conversations/import", json=document).raise_for_status().json()["id"]
    assert http.get(f"/v1/rxlm/conversations/{made}/export").json() == document
    assert {turn.get("instructions") for turn in document["turns"]} == {None, B}
    http.delete(f"/v1/conversations/{name}").raise_for_status()
    first = items(http, made)[0]["id"]
    http.delete(f"/v1/conversations/{made}/items/{first}?descendants=true").raise_for_status()
    assert texts(run) == ""


def test_items_keep_their_ids_after_other_instructions(run: Running, http: httpx.Client):
    name = http.post("/v1/conversations", json={}).json()["id"]
    say(http, SECRET, instructions=A, conversation=name)
    before = [each["id"] for each in items(http, name)]
    say(http, "Hello!", instructions=B, conversation=name)
    assert [each["id"] for each in items(http, name)][:2] == before
    assert http.get(f"/v1/conversations/{name}/items/{before[0]}").json()["content"][0]["text"] == SECRET


def test_a_turn_is_forgotten_by_its_own_id_after_other_instructions(models):
    with running(models["retained"]) as run:
        http = run.http()
        first = say(http, SECRET, instructions=A)["id"]
        last = say(http, "Hello!", instructions=B, previous_response_id=first)["id"]
        forgotten = http.post(f"/v1/rxlm/responses/{last}/forget", json={"turn": first}).raise_for_status().json()["id"]
        again = say(http, "How are you?", instructions=A, previous_response_id=forgotten)["id"]
        memory = http.get(f"/v1/rxlm/responses/{again}/memory").json()
        assert "Rex" not in "".join(piece["text"] for each in memory["turns"] for piece in each["pieces"])


def test_a_turn_is_not_forgotten_on_another_branch(models):
    with running(models["retained"]) as run:
        turns = [{"query": "Hello!"}, {"query": "Who?"}, {"parent": 0, "forgotten": 1}]
        document = {"version": 1, "head": 2, "turns": turns}
        error = refused(run.http().post("/v1/rxlm/conversations/import", json=document), 400)
        assert error["message"].startswith("turns[2].forgotten must name a turn before it")


@pytest.mark.parametrize(
    ("turn", "message"),
    [
        ({"parent": 1, "query": "Who?", "repeats": 1}, "turns[2].repeats must name a turn that was told"),
        ({"parent": 1, "query": "Who?", "repeats": 2}, "turns[2].repeats must name an earlier turn, got 2"),
        ({"parent": 1, "query": "Who?", "instructions": A}, "turns[2].instructions are for a turn without a parent"),
    ],
)
def test_a_document_that_means_nothing_is_refused(models, turn: dict, message: str):
    with running(models["retained"]) as run:
        document = {"version": 1, "turns": [{"query": "Hello!"}, {"parent": 0, "forgotten": 0}, turn]}
        error = refused(run.http().post("/v1/rxlm/conversations/import", json=document), 400)
        assert error["message"].startswith(message)


def test_what_is_taken_back_is_overwritten(models, tmp_path):
    """Not only in the database: in SQLite's file and log, too."""
    with running(models["slots"], tmp_path / "store.sqlite") as run:
        http = run.http()
        name = http.post("/v1/conversations", json={}).json()["id"]
        answer = say(http, "Hello!", conversation=name)["id"]
        added = http.post(f"/v1/conversations/{name}/items", json={"items": [{"role": "user", "content": SECRET}]})
        http.post("/v1/rxlm/feedback", json={"response_id": answer, "edit": SECRET}).raise_for_status()
        assert SECRET.encode() in written(tmp_path)
        http.delete(f"/v1/conversations/{name}/items/{added.json()['data'][0]['id']}").raise_for_status()
        http.post("/v1/rxlm/feedback", json={"response_id": answer, "edit": None}).raise_for_status()
        assert SECRET.encode() not in written(tmp_path)


def written(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir())


def test_the_room_counts_instructions_of_an_import(models):
    with running(models["slots"]) as run:
        http, tenants = run.http(), run.context.tenants
        tenant = tenants.named("default")
        tenants.change(replace(tenant, max_bytes=3000))
        document = {"version": 1, "turns": [], "instructions": "x" * 10_000}
        refused(http.post("/v1/rxlm/conversations/import", json=document), 429, "insufficient_quota")
