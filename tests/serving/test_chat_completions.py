"""`/v1/chat/completions`, asked by the official client, which sends the whole conversation each time."""

from itertools import pairwise

import openai
import pytest

from running_server import Running, running

LIMIT = 6
TEXTS = ["My dog is called Rex.", "What is my dog called?", "You are kind.", "Tell me a story.", "Who are you?"]


def converse(server: Running, texts: list[str], system: str | None = None, **options):
    messages = [] if system is None else [{"role": "system", "content": system}]
    for text in texts:
        messages.append({"role": "user", "content": text})
        completion = server.client().chat.completions.create(
            model="tiny", messages=messages, max_completion_tokens=LIMIT, **options
        )
        messages.append({"role": "assistant", "content": completion.choices[0].message.content})
        yield completion


@pytest.mark.parametrize("system", [None, "You are kind."])
def test_what_is_known_of_a_history_is_not_read_again(server: Running, system: str | None):
    usages = [completion.usage for completion in converse(server, TEXTS, system)]
    for before, usage in pairwise(usages):
        assert usage.prompt_tokens_details.cached_tokens == before.total_tokens
        assert usage.prompt_tokens - usage.prompt_tokens_details.cached_tokens <= usages[0].prompt_tokens + 12


def test_a_history_that_is_not_known_is_read_once(server: Running):
    messages = []
    for text in TEXTS[:3]:
        messages += [{"role": "user", "content": text}, {"role": "assistant", "content": "Rex is a dog."}]
    messages.append({"role": "user", "content": TEXTS[3]})
    create = server.client().chat.completions.create
    first = create(model="tiny", messages=messages, max_tokens=LIMIT)
    second = create(model="tiny", messages=messages, max_tokens=LIMIT)
    assert first.usage.prompt_tokens_details.cached_tokens == 0
    assert second.usage.prompt_tokens_details.cached_tokens == first.usage.prompt_tokens - _query(server, TEXTS[3])
    assert first.choices[0].message.content == second.choices[0].message.content


def _query(server: Running, text: str) -> int:
    service = server.context.service
    return len(service.scheduler.engine.prepare(service.query_of(text, service.options())).prompt)


def test_an_edited_message_is_a_fork_by_itself(server: Running):
    list(converse(server, TEXTS[:3], "Tell me."))
    edited = list(converse(server, [*TEXTS[:2], TEXTS[4]], "Tell me."))
    assert edited[2].usage.prompt_tokens_details.cached_tokens == edited[1].usage.total_tokens


def test_space_and_line_ends_do_not_count(server: Running):
    create = server.client().chat.completions.create
    first = create(model="tiny", messages=[{"role": "user", "content": "My dog\nis Rex."}], max_tokens=LIMIT)
    answer = f"  {first.choices[0].message.content}\r\n"
    history = [{"role": "user", "content": "My dog\r\nis Rex. "}, {"role": "assistant", "content": answer}]
    second = create(model="tiny", messages=[*history, {"role": "user", "content": "Hello!"}], max_tokens=LIMIT)
    assert second.usage.prompt_tokens_details.cached_tokens == first.usage.total_tokens


def test_a_stream_says_what_the_completion_says(server: Running):
    options = {"model": "tiny", "messages": [{"role": "user", "content": TEXTS[3]}], "max_tokens": LIMIT}
    create = server.client().chat.completions.create
    whole = create(**options)
    chunks = list(create(**options, stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
    assert text == whole.choices[0].message.content
    assert (chunks[0].choices[0].delta.role, chunks[-1].choices) == ("assistant", [])
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert [reason for reason in reasons if reason] == [whole.choices[0].finish_reason]
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_choices_differ_and_repeat_with_their_seed(server: Running):
    options = {"model": "tiny", "messages": [{"role": "user", "content": TEXTS[3]}], "max_tokens": 12}
    create = server.client().chat.completions.create
    first, second = (create(**options, n=3, seed=5, temperature=1.5) for _ in range(2))
    texts = [choice.message.content for choice in first.choices]
    assert [choice.index for choice in first.choices] == [0, 1, 2]
    assert len(set(texts)) > 1
    assert texts == [choice.message.content for choice in second.choices]
    streamed = {0: "", 1: "", 2: ""}
    for chunk in create(**options, n=3, seed=5, temperature=1.5, stream=True):
        streamed[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert list(streamed.values()) == texts


def test_log_probabilities_stand_beside_the_tokens(server: Running):
    completion = server.client().chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": TEXTS[0]}], max_tokens=LIMIT, logprobs=True
    )
    tokens = completion.choices[0].logprobs.content
    assert all(token.logprob <= 0 for token in tokens)
    assert "".join(token.token for token in tokens).strip() == completion.choices[0].message.content.strip()


def test_a_stop_text_ends_an_answer(server: Running):
    options = {"model": "tiny", "messages": [{"role": "user", "content": TEXTS[3]}], "max_tokens": 20}
    create = server.client().chat.completions.create
    whole = create(**options).choices[0].message.content
    stop = whole[3:5]
    stopped = create(**options, stop=[stop]).choices[0]
    assert stopped.message.content == whole[: whole.index(stop)]
    assert stopped.finish_reason == "stop"


def test_what_cannot_be_done_is_refused_by_name(server: Running):
    user = [{"role": "user", "content": "Hello!"}]
    for options, param in [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "assistant", "content": "Hello!"}]}, "messages"),
        ({"messages": [{"role": "king", "content": "Hello!"}]}, "messages[0].role"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format.type"),
        ({"n": 0}, "n"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"stop": [""]}, "stop"),
        ({"messages": [{"role": "user", "content": "Hello! " * 99}]}, "messages"),
    ]:
        with pytest.raises(openai.BadRequestError) as raised:
            server.client().chat.completions.create(**{"model": "tiny", "messages": user, **options})
        assert param in (raised.value.param or ""), options


def test_an_effort_is_refused_under_the_name_that_clients_gave_it(models):
    """The model's tokenizer has a token for thoughts; the model has none."""
    with running(models["slots"]) as run:
        user = [{"role": "user", "content": "Hello!"}]
        with pytest.raises(openai.BadRequestError) as chat:
            run.client().chat.completions.create(model="tiny", messages=user, reasoning_effort="high")
        with pytest.raises(openai.BadRequestError) as response:
            run.client().responses.create(model="tiny", input="Hello!", reasoning={"effort": "high"})
        answer = run.client().chat.completions.create(model="tiny", messages=user, reasoning_effort="none")
    assert (chat.value.param, response.value.param) == ("reasoning_effort", "reasoning")
    assert answer.choices[0].message.content
