"""The adapter of stateless models: what it answers is what a loop without batches, padding or cache would."""

from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from transformers import LlamaConfig, LlamaForCausalLM

from rxlm.mrq_bench.causal_lm import CausalLMRespondent
from rxlm.mrq_bench.prompts import ChatTemplate, History, PlainTemplate, choose_template
from rxlm.mrq_bench.protocol import Control
from text_models import tiny_tokenizer

CHAT = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
DIALOGUES = (
    ["My dog is called Rex.", "Tell me a story about a knight.", "What is my dog called?"],
    ["Hi", "You are kind."],
    ["You are kind. " * 5, "Why?", "And you?", "Yes"],
)


def tiny_llama(positions: int = 512) -> LlamaForCausalLM:
    torch.manual_seed(1)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=300,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=positions,
            bos_token_id=2,
            eos_token_id=3,
            initializer_range=0.4,
        )
    )
    return model.double().eval()


def respondent(history: str = "full", **options) -> CausalLMRespondent:
    model = options.pop("model", None) or tiny_llama()
    options = {"max_answer_tokens": 10, **options}
    return CausalLMRespondent(model, tiny_tokenizer(), history=History.parse(history), **options)


def lead(lm: CausalLMRespondent, dialogues: Sequence[Sequence[str]], control: Control = "none") -> list[list[str]]:
    lm.reset(len(dialogues), control)
    answers: list[list[str]] = [[] for _ in dialogues]
    for number in range(max(map(len, dialogues))):
        queries = [queries[number] if number < len(queries) else None for queries in dialogues]
        for row, answer in enumerate(lm.respond(queries)):
            if queries[row] is not None:
                answers[row].append(answer)
    return answers


@torch.no_grad()
def naive(queries: Sequence[str], max_tokens: int = 10) -> list[str]:
    """Greedy answers of one dialogue, each token from the whole text so far."""
    model, tokenizer = tiny_llama(), tiny_tokenizer()
    text, answers = "", []
    for query in queries:
        text += f"User: {query}\nAssistant:"
        ids, start = tokenizer(text)["input_ids"], len(tokenizer(text)["input_ids"])
        while len(ids) < start + max_tokens:
            ids = [*ids, int(model(torch.tensor([ids])).logits[0, -1].argmax())]
            if ids[-1] == 3 or "\n" in tokenizer.decode([ids[-1]]):
                break
        answers.append(tokenizer.decode(ids[start:], skip_special_tokens=True).split("\n")[0].strip())
        text += f" {answers[-1]}\n"
    return answers


def test_a_batch_with_padding_and_cache_answers_as_a_naive_loop_does() -> None:
    assert lead(respondent(), DIALOGUES) == [naive(queries) for queries in DIALOGUES]


def test_padding_at_the_start_is_invisible() -> None:
    lm = respondent()

    assert lead(lm, DIALOGUES) == [lead(lm, [alone])[0] for alone in DIALOGUES]


@torch.no_grad()
def test_losses_are_those_of_one_dialogue_after_the_other() -> None:
    lm = respondent()
    lm.reset(3)
    lm.follow(["Hi", None, "You are kind."], ["Yes", None, "No"])
    found = lm.losses(["Why?", "Why not?", None], ["You are kind.", "Rex", None])

    prompts = ["User: Hi\nAssistant: Yes\nUser: Why?\nAssistant:", "User: Why not?\nAssistant:"]
    for loss, prompt, answer in zip(found, prompts, [" You are kind.", " Rex"], strict=False):
        start, end = (tiny_tokenizer()(text)["input_ids"] for text in (prompt, answer))
        logits = tiny_llama()(torch.tensor([start + end])).logits[0, len(start) - 1 : -1]
        assert loss.nats == pytest.approx(float(F.cross_entropy(logits, torch.tensor(end), reduction="sum")), abs=1e-9)
        assert loss.tokens == len(end)
    assert (found[2].nats, found[2].tokens) == (0.0, 0)


def test_losses_in_small_portions_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = respondent()
    lm.reset(3)
    queries, answers = ["Hi", "You are kind.", "Why?"], ["Yes", "No", "Rex"]
    whole = lm.losses(queries, answers)
    monkeypatch.setattr("rxlm.mrq_bench.causal_lm.LOGITS_AT_ONCE", 1)

    assert [loss.nats for loss in lm.losses(queries, answers)] == pytest.approx([loss.nats for loss in whole])


@pytest.mark.parametrize(("answer", "kept"), [("Yes " * 20, None), ("Yes " * 400, 119)])
def test_a_history_makes_room_for_a_long_answer_and_an_endless_one_is_cut(answer: str, kept: int | None) -> None:
    """Its tokens are the same under every control, and prompt and answer fit the model's positions."""
    lm = respondent("turns:1", model=tiny_llama(positions=120))
    widths = []
    lm.model.register_forward_pre_hook(
        lambda module, args, given: widths.append(given["input_ids"].shape[1]), with_kwargs=True
    )
    lengths = set()
    for control in lm.controls:
        lm.reset(2, control)
        lm.follow(["Hi " * 40, "Hi " * 40], ["Yes " * 20, "No " * 20])
        lengths.update(len(nats) for nats in lm.token_losses(["Why?", None], [answer, None]))

    assert lengths == {0, kept or len(PlainTemplate(tiny_tokenizer()).answer(answer))}
    assert max(widths) <= 120


@pytest.mark.parametrize(("history", "seen"), [("none", 0), ("turns:1", 1), ("turns:2", 2), ("full", 3)])
def test_a_window_of_turns_shows_the_last_ones(history: str, seen: int) -> None:
    template = PlainTemplate(tiny_tokenizer())
    turns = [("one", "a"), ("two", "b"), ("three", "c")]

    found = History.parse(history).prompt(template, turns, "four", None)
    assert found == template.prompt(turns[3 - seen :], "four")


def test_a_window_of_tokens_holds_as_many_whole_turns_as_fit() -> None:
    template = PlainTemplate(tiny_tokenizer())
    turns = [(f"{number} and {number}", "You are kind.") for number in range(12)]
    lengths = [len(template.prompt(turns[12 - count :], "four")) for count in range(13)]
    for size in (1, 30, 100, 10**6):
        prompt = History("tokens", size).prompt(template, turns, "four", None)
        expected = max(count for count in range(13) if lengths[count] - lengths[0] <= size)
        assert len(prompt) == lengths[expected]


def test_what_does_not_fit_the_models_positions_is_left_out_oldest_first() -> None:
    template = PlainTemplate(tiny_tokenizer())
    turns = [(f"{number} and {number}", "You are kind.") for number in range(12)]
    for limit in range(20, 120, 9):
        prompt = History("full").prompt(template, turns, "four", limit)
        fitting = [count for count in range(13) if len(template.prompt(turns[12 - count :], "four")) <= limit]
        assert prompt == template.prompt(turns[12 - max(fitting) :], "four")
    assert History("full").prompt(template, turns, "word " * 50, 30) == template.prompt((), "word " * 50)[-30:]
    assert len(lead(respondent(model=tiny_llama(positions=120)), [DIALOGUES[0] * 4])[0]) == 12


def test_controls_take_the_history_away_or_give_another() -> None:
    lm, full = respondent("turns:1"), respondent()
    one, other = ["Why?", "Hi", "Why?"], ["Hi", "You are kind.", "What is my dog called?"]

    empty = lead(lm, [one, other], "empty")
    assert empty[0][0] == empty[0][2] == lead(lm, [["Why?"]])[0][0]
    assert lead(lm, [one, other], "full-history") == lead(full, [one, other])
    assert "full-history" not in full.controls
    crossed = lead(full, [one, other], "shuffled")
    for number in range(3):
        assert crossed[0][number] == lead(full, [[*other[:number], one[number]]])[0][number]
        assert crossed[1][number] == lead(full, [[*one[:number], other[number]]])[0][number]


def test_a_chat_template_is_used_where_there_is_one() -> None:
    tokenizer = tiny_tokenizer()
    assert isinstance(choose_template("auto", tokenizer), PlainTemplate)
    with pytest.raises(ValueError, match="the tokenizer has no chat template"):
        choose_template("chat", tokenizer)
    chat = type(tokenizer)(tokenizer_object=tokenizer.backend_tokenizer, chat_template=CHAT)

    assert isinstance(choose_template("auto", chat), ChatTemplate)
    assert isinstance(choose_template("plain", chat), PlainTemplate)
    ids = ChatTemplate(chat).prompt([("Hi", "Yes")], "Why?")
    assert chat.decode(ids) == "<user>Hi<assistant>Yes<user>Why?<assistant>"
    lm = CausalLMRespondent(tiny_llama(), chat, max_answer_tokens=8)
    assert len(lead(lm, DIALOGUES)[2]) == 4


def test_the_cost_grows_with_the_history() -> None:
    lm = respondent()
    lm.reset(1)
    first = lm.measure("Hi", 4)
    for _ in range(5):
        lm.follow(["Hi"], ["Yes"])
    later = lm.measure("Hi", 4)
    tokens = [len(PlainTemplate(tiny_tokenizer()).prompt([("Hi", "Yes")] * count, "Hi")) for count in (0, 5)]

    bytes_a_token = 2 * 2 * 2 * 8 * 8  # keys and values, layers, heads, head size, float64
    assert [first.session_bytes, later.session_bytes] == [(count + 3) * bytes_a_token for count in tokens]
    assert first.update is None
    assert first.first_token > 0
    assert first.tokens_per_second > 0


@pytest.mark.parametrize("text", ["some", "turns", "turns:0", "turns:-1", "tokens:x", "full:3"])
def test_a_history_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="history must be full, none, turns:N or tokens:N"):
        History.parse(text)


def test_answers_must_fit_the_models_positions() -> None:
    with pytest.raises(ValueError, match="max_answer_tokens must leave room in the model's 120 positions, got 120"):
        respondent(model=tiny_llama(positions=120), max_answer_tokens=120)


@pytest.mark.parametrize("history", ["none", "turns:3", "full"])
def test_a_history_reads_as_it_was_written(history: str) -> None:
    assert str(History.parse(history)) == history
