"""Whose a turn is: a deletion takes nothing of others along, what was given is shown whole, and no text is left."""

import random
import threading

import httpx
import pytest

from running_server import Running, running
from rxlm.serving.preferences import preference_records
from rxlm.serving.store.eviction import evict_memories
from serving_requests import CHAT, LIMIT, held, idle_rows, nodes, say

FEW = [{"role": "user", "content": "Who is Rex?"}, {"role": "assistant", "content": "My dog."}]
LONG = " ".join(f"You are kind {number}." for number in range(30))


def asked(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def chat(http: httpx.Client, messages: list[dict]) -> dict:
    body = {"messages": messages, "max_tokens": LIMIT, "temperature": 0}
    return http.post(CHAT, json=body).raise_for_status().json()


def answer_of(response: dict) -> str:
    return response["output"][-1]["content"][0]["text"]


def new(http: httpx.Client, **given) -> str:
    return http.post("/v1/conversations", json=given).raise_for_status().json()["id"]


def items(http: httpx.Client, name: str) -> list[str]:
    found = http.get(f"/v1/conversations/{name}/items?order=asc&limit=100").raise_for_status().json()["data"]
    return [part["text"] for item in found for part in item["content"]]


def exported(http: httpx.Client, name: str) -> dict:
    return http.get(f"/v1/rxlm/conversations/{name}/export").raise_for_status().json()


def tree(http: httpx.Client, name: str) -> list[dict]:
    return http.get(f"/v1/rxlm/conversations/{name}/tree").raise_for_status().json()["turns"]


def delete(http: httpx.Client, path: str) -> None:
    http.delete(path).raise_for_status()


def settle(run: Running) -> None:
    service = run.context.service
    service.scheduler.drain(30)
    service.scheduler._draining = False
    service.memories._saving.submit(lambda: None).result(30)


def assert_owners(run: Running) -> None:
    there = {node.id: node for node in nodes(run)}
    for node in there.values():
        before = None if node.parent is None else there[node.parent]
        assert before is None or before.kind == "root" or before.owner == node.owner


def test_conversations_that_begin_alike_share_no_turn(run: Running, http: httpx.Client):
    first, second = new(http), new(http)
    say(http, [*FEW, asked("Hello!")], conversation=first)
    kept = say(http, [*FEW, asked("You are kind.")], conversation=second)
    assert kept["usage"]["input_tokens_details"]["cached_tokens"] > 0  # the memory is copied
    alone = say(http, [*FEW, asked("You are kind.")])
    assert answer_of(kept) == answer_of(alone)
    assert [(turn["parent"], turn["query"]) for turn in exported(http, second)["turns"]] == [
        (None, "Who is Rex?"),
        (0, "You are kind."),
    ]
    assert_owners(run)
    delete(http, f"/v1/conversations/{first}")
    assert items(http, second)[:3] == ["Who is Rex?", "My dog.", "You are kind."]
    assert len(tree(http, second)) == 2
    assert http.get(f"/v1/responses/{kept['id']}").status_code == 200
    settle(run)
    expected = answer_of(say(http, "Hello!", previous_response_id=kept["id"]))
    for node in nodes(run):  # nothing but what was said is left of them
        run.context.service.scheduler.cache.drop([node.id])
    while run.store.memory_bytes():
        evict_memories(run.store, 0)
    assert answer_of(say(http, "Hello!", previous_response_id=kept["id"])) == expected
    delete(http, f"/v1/conversations/{second}")
    delete(http, f"/v1/responses/{alone['id']}")
    assert run.store.stored_bytes("default") == 0


def test_what_belongs_to_no_conversation_shares_no_turn_with_one(run: Running, http: httpx.Client):
    done = chat(http, [*FEW, asked("Hello!")])
    told = [*FEW, asked("Hello!"), {"role": "assistant", "content": done["choices"][0]["message"]["content"]}]
    name = new(http)
    say(http, [*told, asked("You are kind.")], conversation=name)
    assert_owners(run)
    delete(http, f"/v1/responses/{done['id']}")
    assert items(http, name)[:5] == [*(each["content"] for each in told), "You are kind."]
    other = chat(http, [*told, asked("Tell me a story.")])
    assert other["usage"]["prompt_tokens_details"]["cached_tokens"] > 0
    assert_owners(run)
    delete(http, f"/v1/conversations/{name}")
    assert http.get(f"/v1/responses/{other['id']}").status_code == 200
    delete(http, f"/v1/responses/{other['id']}")
    assert run.store.stored_bytes("default") == 0


def test_a_copied_turn_has_its_memory_before_that_is_stored(run: Running, http: httpx.Client):
    """The store may be slow: what the copy's owner says next is not read again for that."""
    say(http, [*FEW, asked("Hello!")])
    settle(run)
    slow = threading.Event()
    run.context.service.memories._saving.submit(slow.wait, 30)
    try:
        name = new(http)
        say(http, [*FEW, asked("Hello!")], conversation=name)
        assert [turn["query"] for turn in tree(http, name)] == ["Who is Rex?", "Hello!"]
        alike = say(http, [*FEW, asked("You are kind.")], conversation=new(http))
        assert alike["usage"]["input_tokens_details"]["cached_tokens"] > 0
        fork = [turn for turn in nodes(run) if turn.query == "Who is Rex?" and turn.owner == name]
        assert [run.context.service.memories.after(turn)[1] for turn in fork] == [0]
    finally:
        slow.set()


def test_a_fork_by_id_goes_with_the_conversation_and_what_is_said_alike_does_not(run: Running, http: httpx.Client):
    name = new(http)
    first = say(http, "Hello!", conversation=name)
    fork = say(http, "You are kind.", previous_response_id=first["id"])
    said = [asked("Hello!"), {"role": "assistant", "content": answer_of(first)}, asked("You are kind.")]
    alike = chat(http, [*said, {"role": "assistant", "content": answer_of(fork)}, asked("Who is Rex?")])
    assert_owners(run)
    delete(http, f"/v1/conversations/{name}")
    assert http.get(f"/v1/responses/{fork['id']}").status_code == 404
    assert http.get(f"/v1/responses/{alike['id']}").status_code == 200
    delete(http, f"/v1/responses/{alike['id']}")
    assert run.store.stored_bytes("default") == 0


@pytest.mark.parametrize("seed", range(3))
def test_owners_stay_apart_whatever_is_said(models, seed: int):
    draw = random.Random(seed)
    with running(models["slots"]) as run:
        http, kept = run.http(), {}
        said = [FEW, [asked("Hello!"), FEW[1]], [asked(LONG), FEW[1], *FEW]]
        responses: list[str] = []
        for _ in range(60):
            kind, history = draw.choice([0, 0, 0, 1, 1, 1, 1, 1, 2, 3, 4, 5, 5, 5]), draw.choice(said[:4])
            question = asked(draw.choice(["Hello!", "You are kind."]))
            if kind == 0 or len(kept) < 3:
                name = new(http, items=[*history, *FEW][:20]) if draw.random() < 0.2 else new(http)
                kept[name] = items(http, name)
            elif kind == 1:
                name = draw.choice(list(kept))
                given = [*history, question] if draw.random() < 0.8 else [question]
                options = {"truncation": "auto", **({} if draw.random() < 0.8 else {"instructions": "Be kind."})}
                responses.append(say(http, given, conversation=name, **options)["id"])
                kept[name] = items(http, name)
            elif kind == 2:
                text = chat(http, [*history, question])["choices"][0]["message"]["content"]
                said.append([*history, question, {"role": "assistant", "content": text}])
            elif kind == 3 and responses:
                answer = http.post("/v1/responses", json={
                    "input": [*history, question], "previous_response_id": draw.choice(responses),
                    "max_output_tokens": LIMIT, "truncation": "auto",
                })  # fmt: skip
                if answer.status_code == 200:
                    responses.append(answer.json()["id"])
            elif kind == 4:
                name = draw.choice(list(kept))
                http.post(f"/v1/conversations/{name}/items", json={"items": FEW}).raise_for_status()
                kept[name] = items(http, name)
            else:
                name = draw.choice(list(kept))
                delete(http, f"/v1/conversations/{name}")
                del kept[name]
            assert_owners(run)
            for name, texts in kept.items():
                assert items(http, name) == texts


ENDED = {
    "history": ("/v1/responses", {"input": [*FEW, asked("Hello!")], "instructions": "Be kind."}),
    "pieces": ("/v1/responses", {"input": LONG, "truncation": "auto"}),
    "both": ("/v1/responses", {"input": [asked(LONG), FEW[1], asked(LONG)], "truncation": "auto"}),
    "chat": (CHAT, {"messages": [{"role": "system", "content": "Be kind."}, *FEW, asked("Hello!")]}),
}


@pytest.mark.parametrize("what", ENDED)
@pytest.mark.parametrize("in_conversation", [True, False])
def test_nothing_is_left_of_a_request_that_is_given_up(run: Running, http: httpx.Client, what: str, in_conversation):
    path, body = ENDED[what]
    if in_conversation and path != CHAT:
        body = {**body, "conversation": new(http)}
    with held(run), http.stream("POST", path, json={**body, "stream": True}) as answer:
        next(answer.iter_lines())
    idle_rows(run)
    settle(run)
    assert nodes(run) == []
    assert run.store.memory_bytes() == 0
    if "conversation" in body:
        assert tree(http, body["conversation"]) == []
        delete(http, f"/v1/conversations/{body['conversation']}")
    assert run.store.stored_bytes("default") == 0


def test_nothing_is_left_of_a_request_that_fails(models, monkeypatch):
    with running(models["slots"]) as run:
        http = run.http()
        name = new(http)
        monkeypatch.setattr(run.context.service.scheduler.engine, "step", lambda: 1 / 0)
        body = {"input": [*FEW, asked(LONG)], "conversation": name, "truncation": "auto"}
        assert http.post("/v1/responses", json=body).status_code == 500
        settle(run)
        assert nodes(run) == []
        assert run.store.memory_bytes() == 0


def test_a_message_that_was_read_in_pieces_is_one_message_everywhere(run: Running, http: httpx.Client):
    name = new(http)
    first = say(http, "Hello!", conversation=name)
    second = say(http, LONG, conversation=name, truncation="auto")
    third = say(http, "You are kind.", conversation=name)
    turns = exported(http, name)["turns"]
    assert [(turn["parent"], turn["query"]) for turn in turns] == [(None, "Hello!"), (0, LONG), (1, "You are kind.")]
    assert [turn["parent"] for turn in tree(http, name)] == [None, first["id"], second["id"]]
    http.post("/v1/rxlm/feedback", json={"response_id": third["id"], "rating": "up"}).raise_for_status()
    record = next(preference_records(run.store, "default"))
    sides = [message["role"] for message in record["prompt"]]
    assert sides == ["user", "assistant", "user", "assistant", "user"]
    assert [message["content"] for message in record["prompt"]] == items(http, name)[:5]
    delete(http, f"/v1/conversations/{name}")
    assert run.store.stored_bytes("default") == 0


def test_a_long_exchange_that_is_given_is_shown_as_it_was_given(run: Running, http: httpx.Client):
    given = [asked(LONG), {"role": "assistant", "content": LONG[::-1]}]
    expected = [LONG, LONG[::-1]]
    by_items = new(http)
    shown = http.post(f"/v1/conversations/{by_items}/items", json={"items": given}).raise_for_status().json()["data"]
    assert [item["content"][0]["text"] for item in shown] == expected
    by_history = new(http)
    say(http, [*given, asked("Hello!")], conversation=by_history)
    turns = {"version": 1, "head": 0, "turns": [{"query": LONG, "answer": LONG[::-1]}]}
    imported = http.post("/v1/rxlm/conversations/import", json=turns).raise_for_status().json()["id"]
    for name in (by_items, by_history, imported):
        assert items(http, name)[:2] == expected
        assert len(tree(http, name)) == len(items(http, name)) // 2
        again = http.post("/v1/rxlm/conversations/import", json=exported(http, name)).raise_for_status().json()["id"]
        assert exported(http, again) == exported(http, name)
        assert items(http, again) == items(http, name)
        say(http, "Hello!", conversation=again)
        for each in (name, again):
            delete(http, f"/v1/conversations/{each}")
    assert run.store.stored_bytes("default") == 0


def test_thoughts_and_whatever_else_an_answer_begins_with_are_exported_as_given(run: Running, http: httpx.Client):
    turns = [
        {"parent": None, "query": "Who?", "answer": "Rex.", "thought": "My dog."},
        {"parent": 0, "query": "Who?", "answer": "<details>My dog.</details> Rex.", "thought": None},
    ]
    document = {"version": 1, "metadata": {}, "instructions": None, "head": 1, "turns": turns}
    made = http.post("/v1/rxlm/conversations/import", json=document).raise_for_status().json()["id"]
    assert exported(http, made) == document


def test_a_long_turn_is_forgotten_whole(models):
    with running(models["retained"]) as run:
        http = run.http()
        name = new(http, items=[asked(LONG), FEW[1]])
        turn = tree(http, name)[0]["id"]
        last = say(http, "Hello!", conversation=name)["id"]
        made = http.post(f"/v1/rxlm/responses/{last}/forget", json={"turn": turn}).raise_for_status().json()
        memory = http.get(f"/v1/rxlm/responses/{made['id']}/memory").raise_for_status().json()
        kept = {part["response_id"] for part in memory["turns"] for piece in part["pieces"] if piece["share"] > 0}
        assert kept <= {None, last}
