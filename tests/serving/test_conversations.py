"""`/v1/conversations`, asked by the official client."""

import openai
import pytest

from running_server import Running
from serving_requests import HELLO, held, refused

LIMIT = 6


def say(server: Running, conversation: str, text: str, **options):
    return server.client().responses.create(
        model="tiny", input=text, conversation=conversation, max_output_tokens=LIMIT, **options
    )


def test_a_conversation_goes_on_from_its_head(server: Running):
    client = server.client()
    conversation = client.conversations.create(metadata={"title": "Dogs"})
    first = say(server, conversation.id, "My dog is called Rex.")
    second = say(server, conversation.id, "What is my dog called?")
    chained = client.responses.create(
        model="tiny", input="What is my dog called?", previous_response_id=first.id, max_output_tokens=LIMIT
    )
    assert second.output_text == chained.output_text
    assert second.conversation.id == conversation.id
    newest = list(client.conversations.items.list(conversation.id))
    assert [item.role for item in newest] == ["assistant", "user", "assistant", "user"]
    oldest = list(client.conversations.items.list(conversation.id, order="asc", limit=1))
    assert [item.content[0].text for item in oldest][::2] == ["My dog is called Rex.", "What is my dog called?"]
    assert client.conversations.items.retrieve(newest[0].id, conversation_id=conversation.id) == newest[0]


def test_metadata_can_change_and_a_conversation_can_go(server: Running):
    client = server.client()
    conversation = client.conversations.create()
    response = say(server, conversation.id, "You are kind.")
    client.conversations.update(conversation.id, metadata={"title": "Kind"})
    assert client.conversations.retrieve(conversation.id).metadata == {"title": "Kind"}
    assert client.conversations.delete(conversation.id).deleted
    for gone in (
        lambda: client.conversations.retrieve(conversation.id),
        lambda: client.responses.retrieve(response.id),
        lambda: say(server, conversation.id, "Hello!"),
    ):
        with pytest.raises(openai.NotFoundError):
            gone()


def test_messages_that_are_added_are_remembered(server: Running):
    client = server.client()
    message = {"type": "message", "role": "user", "content": "My dog is called Rex."}
    answer = {"type": "message", "role": "assistant", "content": "Rex is kind."}
    conversation = client.conversations.create(items=[message, answer])
    client.conversations.items.create(conversation.id, items=[{**message, "content": "You are kind."}])
    response = say(server, conversation.id, "Tell me a story.")
    expected = client.responses.create(
        model="tiny", input=[message, answer, {**message, "content": "You are kind.\n\nTell me a story."}],
        max_output_tokens=LIMIT,
    )  # fmt: skip
    assert response.output_text == expected.output_text
    texts = [item.content[0].text for item in client.conversations.items.list(conversation.id, order="asc")]
    assert texts[:2] == ["My dog is called Rex.", "Rex is kind."]


def test_a_message_goes_with_its_turn(server: Running):
    client = server.client()
    conversation = client.conversations.create()
    first, second = say(server, conversation.id, "You are kind."), say(server, conversation.id, "Hello!")
    items = list(client.conversations.items.list(conversation.id, order="asc"))
    with pytest.raises(openai.ConflictError):
        client.conversations.items.delete(items[0].id, conversation_id=conversation.id)
    client.conversations.items.delete(items[-1].id, conversation_id=conversation.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(second.id)
    assert say(server, conversation.id, "Hello!").output_text == second.output_text
    assert client.responses.retrieve(first.id).id == first.id


def test_an_answer_keeps_what_is_changed_while_it_is_written(server: Running):
    client, http = server.client(), server.http()
    name = client.conversations.create(metadata={"title": "old"}).id
    first = client.responses.create(model="tiny", input="My dog is called Rex.", conversation=name, max_output_tokens=4)
    given = {**HELLO, "conversation": name, "stream": True}
    with held(server):
        opened = http.stream("POST", "/v1/responses", json=given)
        answer = opened.__enter__()
        client.conversations.update(name, metadata={"title": "new"})
        waits = {"items": [{"role": "user", "content": "And I have a cat."}]}
        http.post(f"/v1/conversations/{name}/items", json=waits).raise_for_status()
        told = {"items": [*waits["items"], {"role": "assistant", "content": "Good."}]}
        refused(http.post(f"/v1/conversations/{name}/items", json=told), 409, "conversation_locked")
        moved = http.post(f"/v1/rxlm/conversations/{name}/head", json={"response_id": None})
        refused(moved, 409, "conversation_locked")
        item = client.conversations.items.list(name).data[-1].id
        refused(http.delete(f"/v1/conversations/{name}/items/{item}"), 409, "conversation_locked")
    assert "response.incomplete" in "".join(answer.iter_lines())
    opened.__exit__(None, None, None)
    found = client.conversations.retrieve(name)
    assert found.metadata == {"title": "new"}
    said = [
        each.content[0].text for each in client.conversations.items.list(name, order="asc").data if each.role == "user"
    ]
    assert said == ["My dog is called Rex.", "Hello!", "And I have a cat."]
    assert first.id
