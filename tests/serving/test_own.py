"""`/v1/rxlm`: what the page shows."""

import pytest

from running_server import Running

LIMIT = 6


@pytest.fixture
def http(server: Running):
    return server.http()


def say(server: Running, conversation: str, text: str):
    return server.client().responses.create(
        model="tiny", input=text, conversation=conversation, max_output_tokens=LIMIT
    )


def new(server: Running, *texts: str) -> tuple[str, list[str]]:
    name = server.client().conversations.create(metadata={"title": "Dogs"}).id
    return name, [say(server, name, text).id for text in texts]


def tree(http, name: str) -> dict:
    return http.get(f"/v1/rxlm/conversations/{name}/tree").raise_for_status().json()


def test_an_edited_turn_is_a_branch_and_both_stay(server: Running, http):
    name, (first, second) = new(server, "My dog is called Rex.", "You are kind.")
    moved = http.post(f"/v1/rxlm/conversations/{name}/head", json={"response_id": first}).json()
    assert moved["head"] == first
    edited = say(server, name, "What is my dog called?").id
    turns = {turn["id"]: turn for turn in tree(http, name)["turns"]}
    assert {turns[each]["parent"] for each in (second, edited)} == {first}
    assert turns[first]["parent"] is None
    listed = http.get("/v1/rxlm/conversations").json()["data"][0]
    assert (listed["id"], listed["head"], listed["turns"]) == (name, edited, 3)
    http.post(f"/v1/rxlm/conversations/{name}/head", json={"response_id": None})
    assert tree(http, name)["head"] is None


def test_conversations_are_listed_by_pages(server: Running, http):
    names = [new(server)[0] for _ in range(5)]
    first = http.get("/v1/rxlm/conversations", params={"limit": 3}).json()
    rest = http.get("/v1/rxlm/conversations", params={"limit": 2, "after": first["last_id"]}).json()
    assert [each["id"] for each in first["data"] + rest["data"]] == names[::-1]
    assert first["has_more"]


def test_an_exported_conversation_can_be_imported(server: Running, http):
    name, (first, _) = new(server, "My dog is called Rex.", "You are kind.")
    http.post(f"/v1/rxlm/conversations/{name}/head", json={"response_id": first})
    say(server, name, "What is my dog called?")
    document = http.get(f"/v1/rxlm/conversations/{name}/export").json()
    made = http.post("/v1/rxlm/conversations/import", json=document).raise_for_status().json()
    assert http.get(f"/v1/rxlm/conversations/{made['id']}/export").json() == document
    assert say(server, made["id"], "Who?").usage.input_tokens_details.cached_tokens > 0
    broken = {**document, "turns": [{**document["turns"][0], "parent": 7}]}
    assert http.post("/v1/rxlm/conversations/import", json=broken).status_code == 400


def test_the_inspector_shows_what_is_kept(server: Running, http):
    _, (first, second) = new(server, "My dog is called Rex.", "What is my dog called?")
    shown = http.get(f"/v1/rxlm/responses/{second}/memory").raise_for_status().json()
    assert shown["num_bytes"] > 0
    if shown["kind"] == "slots":
        assert [len(turn["change"]) for turn in shown["turns"]] == [shown["slots"]] * 2
        assert http.get(f"/v1/rxlm/responses/{second}/reads").status_code == 400
        return
    pieces = [piece for turn in shown["turns"] for piece in turn["pieces"]]
    assert [piece["position"] for piece in pieces] == list(range(shown["said"]))
    assert "My dog is called Rex" in "".join(piece["text"] for piece in pieces)
    assert any(0 < piece["share"] <= 1 for piece in pieces)
    assert [turn["response_id"] for turn in shown["turns"]][-2:] == [first, second]
    reads = http.get(f"/v1/rxlm/responses/{second}/reads").json()["pieces"]
    weights = [sum(weight for _, weight in piece["reads"]) for piece in reads]
    assert all(0 < weight <= 1.001 for weight in weights)
    assert all(position < shown["said"] for piece in reads for position, _ in piece["reads"])


def test_a_forgotten_turn_is_forgotten_from_there_on(server: Running, http):
    name, (first, second) = new(server, "My dog is called Rex.", "You are kind.")
    given = http.post(f"/v1/rxlm/responses/{second}/forget", json={"turn": first})
    if http.get("/v1/rxlm/status").json()["memory"] == "slots":
        assert given.status_code == 400
        return
    node = given.raise_for_status().json()
    assert (node["kind"], node["forgotten"], tree(http, name)["head"]) == ("forget", first, node["id"])
    assert http.post("/v1/rxlm/feedback", json={"response_id": node["id"], "rating": "up"}).status_code == 400
    shares = {
        piece["position"]: (turn["response_id"], piece["share"])
        for turn in http.get(f"/v1/rxlm/responses/{node['id']}/memory").json()["turns"]
        for piece in turn["pieces"]
    }
    assert {share for response, share in shares.values() if response == first} == {0.0}
    assert max(share for response, share in shares.values() if response == second) > 0
    before = say(server, name, "What is my dog called?").output_text
    server.context.service.scheduler.cache.drop(list(server.context.service.scheduler.cache._kept))
    again = server.client().responses.create(
        model="tiny", input="What is my dog called?", previous_response_id=node["id"], max_output_tokens=LIMIT
    )
    assert again.output_text == before


def test_an_answer_without_some_tokens_is_shown_and_not_stored(server: Running, http):
    _, (_, second) = new(server, "My dog is called Rex.", "What is my dog called?")
    given = http.post(f"/v1/rxlm/responses/{second}/without", json={"positions": list(range(3, 12))})
    if http.get("/v1/rxlm/status").json()["memory"] == "slots":
        assert given.status_code == 400
    else:
        assert set(given.raise_for_status().json()) == {"answer", "answer_without"}
    far = http.post(f"/v1/rxlm/responses/{second}/without", json={"positions": [10**20]})
    assert (far.status_code, far.json()["error"]["param"]) == (400, "positions[0]")


def test_two_memories_can_be_compared(server: Running, http):
    _, (first, second) = new(server, "My dog is called Rex.", "What is my dog called?")
    shown = http.get(f"/v1/rxlm/responses/{second}/diff", params={"earlier": first}).raise_for_status().json()
    assert shown["lines"]
    assert shown["share"] > 0


def test_feedback_stands_beside_the_turn_and_goes_with_it(server: Running, http):
    name, (first,) = new(server, "My dog is called Rex.")
    http.post(f"/v1/rxlm/conversations/{name}/head", json={"response_id": None})
    other = say(server, name, "My dog is called Rex.").id

    def give(**values):
        return http.post("/v1/rxlm/feedback", json={"response_id": first, **values})

    for values in ({"rating": "up"}, {"rating": "down"}, {"edit": "Rex!"}, {"better_than": other}):
        give(**values).raise_for_status()
    shown = {turn["id"]: turn["feedback"] for turn in tree(http, name)["turns"]}
    assert shown[first] == {"rating": "down", "edit": "Rex!", "better_than": [other]}
    assert give(better_than=first).status_code == 400
    assert give(rating="up", edit="x").status_code == 400
    http.post("/v1/rxlm/feedback", json={"response_id": other, "better_than": first}).raise_for_status()
    shown = {turn["id"]: turn["feedback"]["better_than"] for turn in tree(http, name)["turns"]}
    assert shown == {first: [], other: [first]}, "one of two is better, and not both"
    http.post("/v1/rxlm/feedback", json={"response_id": other, "better_than": None}).raise_for_status()
    assert not any(turn["feedback"]["better_than"] for turn in tree(http, name)["turns"])
    give(rating=None).raise_for_status()
    assert tree(http, name)["turns"][0]["feedback"]["rating"] is None
    server.client().conversations.delete(name)
    assert first not in {each["response_id"] for each in http.get("/v1/rxlm/feedback").json()["data"]}
