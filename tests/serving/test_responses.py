"""`/v1/responses`, asked by the official client."""

import time

import openai
import pytest
from openai.types.responses import Response

from running_server import Running
from rxlm.rxt.conversation import Conversation
from serving_requests import held, refused

ORDER = [
    "response.created",
    "response.in_progress",
    "response.output_item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
]
LIMIT = 6


def ask(server: Running, text: str, **options):
    return server.client().responses.create(model="tiny", input=text, max_output_tokens=LIMIT, **options)


def answers_alone(server: Running, texts: list[str], system: str | None = None) -> list[str]:
    """Return what a conversation of its own answers, without a server."""
    service = server.context.service
    conversation = Conversation(service.model, service.tokenizer, system, sampling=service.sampling, seed=0)
    found = []
    for text in texts:
        limit = LIMIT + len(service.scheduler.engine.prepare(service.query_of(text, service.options())).prompt)
        found.append("".join(conversation.send(text, max_seq_len=limit)))
    return found


def test_an_answer_has_all_that_the_client_reads(server: Running):
    response = ask(server, "My dog is called Rex.", metadata={"about": "dogs"})
    assert isinstance(response, Response)
    assert response.status in ("completed", "incomplete")
    assert response.output_text == response.output[-1].content[0].text
    assert response.usage.input_tokens > 0
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens
    assert (response.metadata, response.store if hasattr(response, "store") else True) == ({"about": "dogs"}, True)
    again = server.client().responses.retrieve(response.id)
    assert again.output_text == response.output_text
    assert again.usage == response.usage
    sent = server.client().responses.input_items.list(response.id)
    assert [item.content[0].text for item in sent] == ["My dog is called Rex."]


def test_events_come_in_order_and_say_what_the_response_says(server: Running):
    with server.client().responses.stream(model="tiny", input="You are kind.", max_output_tokens=LIMIT) as stream:
        events = list(stream)
    final = events[-1].response
    kinds = [event.type for event in events]
    first = [kind for place, kind in enumerate(kinds) if kind not in kinds[:place]]
    assert first[:-1] == [kind for kind in ORDER if kind in first]
    assert kinds[-1] in ("response.completed", "response.incomplete")
    assert [event.sequence_number for event in events] == list(range(len(events)))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == final.output_text


def test_a_chain_of_20_turns_equals_a_conversation_without_a_server(server: Running):
    texts = [f"My dog is called {name}." for name in "ABCDEFGHIJKLMNOPQRST"]
    previous, found, cached = None, [], []
    for text in texts:
        response = ask(server, text, previous_response_id=previous)
        previous = response.id
        found.append(response.output_text)
        cached.append(response.usage.input_tokens_details.cached_tokens)
    assert found == answers_alone(server, texts)
    assert cached == sorted(cached)
    assert cached[-1] > cached[1] > 0


def test_two_answers_to_one_turn_are_a_fork(server: Running):
    root = ask(server, "My dog is called Rex.")
    left = ask(server, "What is my dog called?", previous_response_id=root.id)
    right = ask(server, "You are kind.", previous_response_id=root.id)
    expected = answers_alone(server, ["My dog is called Rex.", "What is my dog called?", "You are kind."])
    assert left.output_text == expected[1]
    assert ask(server, "You are kind.", previous_response_id=left.id).output_text == expected[2]
    assert right.id != left.id


def test_instructions_are_kept_and_can_change(server: Running):
    first = ask(server, "What is my dog called?", instructions="You are kind.")
    kept = ask(server, "Tell me a story.", previous_response_id=first.id)
    changed = ask(server, "Tell me a story.", previous_response_id=first.id, instructions="My dog is called Rex.")
    texts = ["What is my dog called?", "Tell me a story."]
    assert [first.output_text, kept.output_text] == answers_alone(server, texts, "You are kind.")
    assert (kept.instructions, changed.instructions) == ("You are kind.", "My dog is called Rex.")
    assert kept.usage.input_tokens_details.cached_tokens == first.usage.total_tokens
    plain = ask(server, "What is my dog called?")
    assert first.usage.input_tokens > plain.usage.input_tokens


def test_a_deleted_turn_is_gone_and_one_with_others_after_it_is_not_deleted_alone(server: Running):
    client = server.client()
    first = ask(server, "My dog is called Rex.")
    second = ask(server, "What is my dog called?", previous_response_id=first.id)
    with pytest.raises(openai.ConflictError):
        client.responses.delete(first.id)
    client.responses.delete(first.id, extra_query={"descendants": "true"})
    for gone in (first, second):
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(gone.id)
        with pytest.raises(openai.BadRequestError):
            ask(server, "You are kind.", previous_response_id=gone.id)


def test_what_is_not_stored_is_nowhere(server: Running):
    response = ask(server, "My dog is called Rex.", store=False)
    with pytest.raises(openai.NotFoundError):
        server.client().responses.retrieve(response.id)


def test_a_response_in_the_background_ends_without_its_client(server: Running):
    client = server.client()
    response = ask(server, "You are kind.", background=True)
    assert response.status == "queued"
    for _ in range(200):
        found = client.responses.retrieve(response.id)
        if found.status not in ("queued", "in_progress"):
            break
        time.sleep(0.02)
    assert found.output_text == ask(server, "You are kind.").output_text
    events = list(client.responses.retrieve(response.id, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    later = list(client.responses.retrieve(response.id, stream=True, starting_after=3))
    assert [event.sequence_number for event in later] == list(range(4, len(events)))


def test_a_stream_of_a_response_in_the_background_begins_with_its_creation(server: Running):
    with server.client().responses.stream(model="tiny", input="Hello!", background=True, max_output_tokens=4) as stream:
        events = list(stream)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert (events[0].type, events[-1].type) == ("response.created", "response.incomplete")


def test_what_a_retrieved_response_includes_is_named_as_in_the_request(server: Running):
    client = server.client()
    wanted = ["message.output_text.logprobs"]
    made = ask(server, "Hello!", include=wanted)
    assert client.responses.retrieve(made.id, include=wanted).output == made.output
    with pytest.raises(openai.BadRequestError, match="web_search_call"):
        client.responses.retrieve(made.id, include=["web_search_call.results"])


def test_tokens_are_counted_with_those_of_the_conversation(server: Running):
    client, http = server.client(), server.http()

    def count(**given) -> int:
        return (
            http.post("/v1/responses/input_tokens", json={"input": "Hello!", **given})
            .raise_for_status()
            .json()["input_tokens"]
        )

    name = client.conversations.create().id
    said = ask(server, "My dog is called Rex.", conversation=name)
    assert count(conversation=name) == count(previous_response_id=said.id) > count()
    refused(http.post("/v1/responses/input_tokens", json={"model": "gpt-5", "input": "Hello!"}), 404, "model_not_found")


def test_a_cancelled_response_is_not_remembered(server: Running):
    client = server.client()
    with held(server):
        response = ask(server, "Tell me a story.", background=True)
        cancelled = client.responses.cancel(response.id)
    assert cancelled.status == "cancelled"
    assert client.responses.retrieve(response.id).status == "cancelled"
    with pytest.raises(openai.BadRequestError):
        ask(server, "You are kind.", previous_response_id=response.id)
    with pytest.raises(openai.BadRequestError):
        client.responses.cancel(ask(server, "You are kind.").id)


def test_what_cannot_be_done_is_refused_by_name(server: Running):
    tool = {"type": "function", "name": "f", "parameters": {}}
    image = [{"role": "user", "content": [{"type": "input_image", "image_url": "http://x/y.png"}]}]
    for options, param in [
        ({"tools": [tool]}, "tools"),
        ({"input": image}, "input[0].content[0].type"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0].type"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"input": [5]}, "input[0]"),
        ({"input": 5}, "input"),
        ({"extra_body": {"stop": 5}}, "stop"),
        ({"extra_body": {"stop": ["a", 5]}}, "stop[1]"),
        ({"conversation": []}, "conversation"),
        ({"text": {"format": {"type": "json_object"}}}, "text.format.type"),
        ({"temperature": -1}, "temperature"),
        ({"extra_body": {"colour": "red"}}, "colour"),
        ({"model": "gpt-5"}, "model"),
        ({"input": []}, "input"),
        ({"truncation": "always"}, "truncation"),
    ]:
        with pytest.raises((openai.BadRequestError, openai.NotFoundError)) as raised:
            server.client().responses.create(**{"model": "tiny", "input": "Hello!", **options})
        assert param in (raised.value.param or ""), options
        assert raised.value.code is not None
    with pytest.raises(openai.AuthenticationError):
        server.client("rxlm-wrong").responses.create(model="tiny", input="Hello!")


def test_a_long_message_is_refused_or_read_in_pieces(server: Running):
    text = "My dog is called Rex. " * 30
    with pytest.raises(openai.BadRequestError, match="tokens") as raised:
        ask(server, text)
    assert raised.value.code == "context_length_exceeded"
    response = ask(server, text, truncation="auto")
    assert response.usage.input_tokens > server.context.service.lengths.limit
    following = ask(server, "What is my dog called?", previous_response_id=response.id)
    assert following.usage.input_tokens_details.cached_tokens >= response.usage.input_tokens


def test_a_client_that_leaves_ends_the_answer(server: Running):
    scheduler = server.context.service.scheduler
    stream = server.client().responses.create(model="tiny", input="Tell me a story.", stream=True)
    response = next(iter(stream)).response
    stream.close()
    for _ in range(200):
        if not scheduler.num_running and not scheduler.num_waiting:
            break
        time.sleep(0.02)
    assert scheduler.num_running == 0
    assert server.client().responses.input_tokens.count(model="tiny", input="You are kind.").input_tokens > 3
    assert response.id
