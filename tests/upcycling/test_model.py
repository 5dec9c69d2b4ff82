"""A chat model that was upcycled is the language model with its whole history, until its memory is full (law 10)."""

from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from helpers import assert_same_memory
from pretrained_models import KINDS, chat_tokenizer, save_language_model
from process_groups import executed
from rxlm.config import ConfigError
from rxlm.memory.retained.gate import RetentionGateConfig
from rxlm.memory.retained.state import RetainedState
from rxlm.mrq_bench.protocol import Control
from rxlm.mrq_bench.rxt_model import RxTRespondent
from rxlm.nn.pretrained import UnsupportedModelError
from rxlm.rxt.chat_template import ChatTemplateError, conversation_form
from rxlm.rxt.conversation import Conversation, ConversationError
from rxlm.rxt.models import RxTAlpha
from rxlm.rxt.sampling import GREEDY, SamplingConfig
from rxlm.upcycling.loading import kind_of, open_model
from rxlm.upcycling.model import upcycle, with_gates

TALK = [
    ("My dog is called Rex.", "Rex must be a good dog."),
    ("I live in Paris.", "It must be nice to live in Paris."),
    ("What is my dog called?", "Your dog is called Rex."),
]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "llama"
    save_language_model("llama", folder)
    return folder


def rendered(tokenizer: PreTrainedTokenizerFast, talk: list[tuple[str, str]], system: str | None = None) -> list[int]:
    """Return the ids of a whole conversation as the chat template writes it."""
    messages = [] if system is None else [{"role": "system", "content": system}]
    for query, answer in talk:
        messages += [{"role": "user", "content": query}, {"role": "assistant", "content": answer}]
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    return tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("system", [None, "Be brief."])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_until_the_memory_is_full_logits_are_those_of_the_whole_history(
    kind: str, system: str | None, tmp_path: Path
) -> None:
    """Law 10, with gates that were trained: nothing is dropped, so that scores mean nothing."""
    source = save_language_model(kind, tmp_path)
    model = upcycle(tmp_path, memory_tokens=100, max_seq_len=64, system=system, gates=RetentionGateConfig())
    for layer in model.decoder.layers:
        torch.nn.init.normal_(layer.retention_gate.out_proj.weight)
    whole = rendered(model.needed_tokenizer(), TALK, system)
    expected, memory = source(input_ids=torch.tensor([whole])).logits[0], model.init_memory(1)
    assert expected.abs().max() > 1
    begin = int(memory.length)
    for query, answer in TALK:
        ids = model.tokenize_full_interaction(query, answer)["input_ids"]
        end = begin + ids.shape[1]
        assert whole[begin:end] == ids[0].tolist()
        torch.testing.assert_close(model.decode(ids, memory)[0], expected[begin:end], atol=1e-4, rtol=1e-4)
        memory = model.update_memory(memory, ids)
        begin = end + len(model.memory_writer.config.answer_end) - 1
    assert int(memory.num_kept.min()) == int(memory.length) < 100


@torch.no_grad()
def test_a_greedy_conversation_is_the_language_models(llama: Path, tmp_path: Path) -> None:
    """Answered token by token from the cache, and remembered without a further pass."""
    source = save_language_model("llama", tmp_path)
    model = upcycle(llama, memory_tokens=200, max_seq_len=64)
    tokenizer, chat = model.needed_tokenizer(), Conversation(model, sampling=GREEDY)
    messages: list[dict[str, str]] = []
    for query, _ in TALK:
        messages.append({"role": "user", "content": query})
        text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
        found = source.generate(ids, do_sample=False, max_new_tokens=9, pad_token_id=0, eos_token_id=[-1])
        answer = tokenizer.decode(found[0, ids.shape[1] :], skip_special_tokens=False)
        limit = len(model.tokenize_query(query)["input_ids"][0]) + len(model.tokenizer_config.before_answer) + 9
        assert "".join(chat.send(query, max_seq_len=limit)) == answer
        messages.append({"role": "assistant", "content": answer})


@torch.no_grad()
def test_a_lost_memory_is_computed_again_from_the_transcript(llama: Path) -> None:
    """Law 11, also where the memory is full and tokens were dropped."""
    model = upcycle(llama, memory_tokens=48, max_seq_len=64).double()
    chat = Conversation(model, sampling=SamplingConfig(), seed=4, system="Be kind.")
    for query, _ in TALK:
        list(chat.send(query, max_seq_len=40))
    memory = Conversation(model, system="Be kind.").memory
    for turn in chat.turns:
        memory = model.update_memory(memory, torch.tensor([turn.ids]))
    assert int(memory.length) > 48
    assert_same_memory(chat.memory, memory)


def test_it_saves_loads_chats_and_forks_like_any_other(llama: Path, tmp_path: Path) -> None:
    model = with_gates(upcycle(llama, memory_tokens=40, max_seq_len=64))
    model.save_pretrained(tmp_path / "model")
    loaded = RxTAlpha.from_pretrained(tmp_path / "model")
    assert loaded.config_dict() == model.config_dict()
    assert loaded.needed_tokenizer().chat_template == model.needed_tokenizer().chat_template
    chats = [Conversation(each, sampling=GREEDY, memory_tokens=60) for each in (model, loaded)]
    for query, _ in TALK[:2]:
        first, second = ("".join(chat.send(query, max_seq_len=40)) for chat in chats)
        assert first == second
    assert_same_memory(chats[0].memory, chats[1].memory, 0.0)
    assert chats[0].memory.limit.tolist() == [60]
    fork = chats[0].fork()
    list(fork.send("Hello!", max_seq_len=40))
    assert len(chats[0].turns) == 2
    chats[0].save(tmp_path / "chat")
    other = Conversation(loaded)
    other.load(tmp_path / "chat")
    assert_same_memory(other.memory, chats[0].memory, 0.0)


@torch.no_grad()
def test_gates_change_nothing_before_they_are_trained(llama: Path) -> None:
    model = upcycle(llama, memory_tokens=24, max_seq_len=64)
    gated = with_gates(model)
    assert with_gates(gated) is gated
    memories = [each.init_memory(1) for each in (model, gated)]
    for query, answer in TALK:
        ids = model.tokenize_full_interaction(query, answer)["input_ids"]
        logits = [each.decode(ids, memory) for each, memory in zip((model, gated), memories, strict=True)]
        torch.testing.assert_close(*logits)
        memories = [each.update_memory(memory, ids) for each, memory in zip((model, gated), memories, strict=True)]
    assert_same_memory(*memories)


def test_a_name_is_opened_as_what_it_is(llama: Path, tmp_path: Path) -> None:
    assert kind_of(llama) == kind_of("some.gguf") == "transformers"
    upcycle(llama, max_seq_len=64).save_pretrained(tmp_path)
    assert kind_of(tmp_path) == "rxt"
    for name in (llama, tmp_path):
        assert open_model(name, memory_tokens=32).init_memory(1).limit.tolist() == [32]
        assert open_model(name).init_memory(1).limit.tolist() == [128]


def test_weights_have_the_type_that_is_asked_for(llama: Path, tmp_path: Path) -> None:
    upcycle(llama, max_seq_len=64).save_pretrained(tmp_path)
    for name in (llama, tmp_path):
        assert open_model(name).dtype == torch.float32
        model = open_model(name, dtype="bfloat16")
        assert {each.dtype for each in model.parameters()} == {torch.bfloat16}
        chat = Conversation(model, sampling=GREEDY)
        for _ in chat.send("My dog is called Rex.", max_seq_len=32):
            pass
        assert chat.memory.dtype == torch.bfloat16


def test_another_type_of_weights_is_refused_before_they_are_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="dtype must be one of auto, float32, bfloat16, float16, got 'half'"):
        open_model(tmp_path / "none", dtype="half")
    with pytest.raises(ConfigError, match="dtype must be auto or float32 for the engine onnx:int8, got 'float16'"):
        open_model(tmp_path / "none", dtype="float16", engine="onnx:int8")


def test_how_answers_are_sampled_comes_from_the_language_model(llama: Path, tmp_path: Path) -> None:
    assert upcycle(llama).sampling == SamplingConfig(temperature=0.7, top_p=0.95, repetition_penalty=1.1)
    source = save_language_model("llama", tmp_path)
    source.generation_config.update(do_sample=True, temperature=0.2, top_k=30, repetition_penalty=1.3)
    source.generation_config.save_pretrained(tmp_path)
    sampling = upcycle(tmp_path).sampling
    assert sampling == SamplingConfig(temperature=0.2, top_k=30, top_p=0.95, repetition_penalty=1.3)
    assert Conversation(upcycle(tmp_path)).sampling == sampling


@torch.no_grad()
def test_a_repetition_penalty_counts_what_the_memory_keeps(llama: Path) -> None:
    model = upcycle(llama, memory_tokens=60, max_seq_len=64)
    first, second = ("Hello there!", "What is my name?")
    chat = Conversation(model, sampling=GREEDY)
    plain = ["".join(chat.send(text, max_seq_len=30)) for text in (first, second)]
    penalised = Conversation(model, sampling=GREEDY)
    list(penalised.send(first, max_seq_len=30))
    strong = SamplingConfig(temperature=0, repetition_penalty=50.0)
    answer = "".join(penalised.send(second, max_seq_len=30, sampling=strong))
    tokenizer = model.needed_tokenizer()
    said, again = (set(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in (plain[0], answer))
    assert said
    assert not said & again


def test_turns_are_written_as_the_chat_template_writes_them(llama: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(llama)
    form = conversation_form(tokenizer, "Be brief.")
    assert tokenizer.decode(form.conversation_prefix) == "<s>system\nBe brief.<e>\n"
    assert tokenizer.decode(form.before_query) == "<s>user\n"
    assert form.pad_token_id not in {form.eos_token_id, *form.before_query, *form.before_answer}


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "no chat template"),
        ("{{ messages[0]['content'] }}", "does not write each message once"),
        ("{{ raise_exception('no') }}", "cannot write a conversation"),
        ("{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}", "special token"),
    ],
)
def test_tokenizers_that_give_turns_no_form_are_refused(template: str | None, message: str) -> None:
    tokenizer = chat_tokenizer()
    tokenizer.chat_template = template
    with pytest.raises(ChatTemplateError, match=message):
        conversation_form(tokenizer)


def test_templates_that_write_earlier_turns_otherwise_are_refused() -> None:
    tokenizer = chat_tokenizer()
    tokenizer.chat_template = str(tokenizer.chat_template).replace(
        "'<e>' + '\n' }}", "('<e>' if loop.last else '<none><e>') + '\n' }}"
    )
    with pytest.raises(ChatTemplateError, match=r"as its turns one after another|in two ways"):
        conversation_form(tokenizer)
    tokenizer.chat_template = str(chat_tokenizer().chat_template).replace("{% for", "{{ '<none>' }}{% for")
    assert conversation_form(tokenizer).conversation_prefix


def test_a_system_prompt_may_hold_any_text() -> None:
    """Also the texts by which the form of turns is found in what the template writes."""
    tokenizer = chat_tokenizer()
    form = conversation_form(tokenizer, "What is told? What is answered? What is told now!")
    assert form.replace(conversation_prefix=None) == conversation_form(tokenizer).replace(conversation_prefix=None)
    said = tokenizer.decode(form.conversation_prefix)
    assert said == "<s>system\nWhat is told? What is answered? What is told now!<e>\n"


def test_a_template_that_leaves_out_system_prompts_is_refused_with_one() -> None:
    tokenizer = chat_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages if m['role'] != 'system' %}{{ '<s>' + m['role'] + '\n' + m['content'] + '<e>\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<s>assistant\n' }}{% endif %}"
    )
    assert conversation_form(tokenizer).conversation_prefix is None
    with pytest.raises(ChatTemplateError, match=r"does not write a system prompt: it leaves out 'Be brief.'"):
        conversation_form(tokenizer, "Be brief.")


def test_models_of_other_kinds_are_refused(tmp_path: Path) -> None:
    GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=8, n_head=2, vocab_size=50)).save_pretrained(tmp_path / "gpt2")
    with pytest.raises(UnsupportedModelError, match="'gpt2' is not supported; llama, mistral, qwen2, qwen3 are"):
        upcycle(tmp_path / "gpt2")
    (tmp_path / "other.gguf").write_bytes(b"GGUF of an unknown kind")
    with pytest.raises(
        UnsupportedModelError, match=r"other\.gguf cannot be read.*Supported are folders, hub ids and GGUF"
    ):
        upcycle(tmp_path / "other.gguf")
    with pytest.raises(FileNotFoundError, match=r"There is no GGUF file .*missing\.gguf"):
        upcycle(tmp_path / "missing.gguf")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_seq_len": 200}, "max_seq_len must be between 1 and half of the language model's 256 positions, got 200"),
        ({"memory_tokens": 5}, "num_tokens must be at least twice num_sinks=4, got 5"),
    ],
)
def test_shapes_that_cannot_be_are_refused(llama: Path, changes: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        upcycle(llama, **changes)


def test_a_memory_of_slots_has_no_retention_gates() -> None:
    from helpers import shared_model

    with pytest.raises(
        ConfigError, match="Only a memory that keeps tokens has retention gates, got one of the kind slo"
    ):
        with_gates(shared_model("mha-simple-content"))


def test_a_conversation_shows_which_of_its_tokens_are_kept(llama: Path) -> None:
    model = upcycle(llama, memory_tokens=48, max_seq_len=64)
    chat = Conversation(model, sampling=GREEDY, system="Be kind.")
    for query, _ in TALK:
        list(chat.send(query, max_seq_len=34))
    pieces = chat.kept_tokens()
    assert pieces is not None
    text = "".join(piece for piece, _ in pieces)
    assert text.startswith("<s>system\nBe kind.<e>\n<s>user\nMy dog is called Rex.<e>\n<s>assistant\n")
    assert all(query in text for query, _ in TALK)
    shares = [share for _, share in pieces]
    assert len(shares) == int(chat.memory.length)
    assert shares[0] == shares[-1] == 1.0
    assert 0.0 in shares
    assert sum(shares) == pytest.approx(48)


def test_a_saved_model_loads_in_a_process_that_has_not_upcycled(llama: Path, tmp_path: Path) -> None:
    model = upcycle(llama, memory_tokens=48, max_seq_len=64)
    model.save_pretrained(tmp_path / "model")
    model.init_memory(1).save(tmp_path / "memory")
    program = (
        "from rxlm.memory import MemoryState; from rxlm.rxt.models import RxTAlpha; "
        f"model = RxTAlpha.from_pretrained({str(tmp_path / 'model')!r}); "
        f"print(model.init_memory(1).length, MemoryState.load({str(tmp_path / 'memory')!r}).kind)"
    )
    done = executed(program)
    assert done.status == 0, done.errors
    assert "retained" in done.output


@torch.no_grad()
def test_a_system_prompt_is_never_dropped_and_what_the_template_writes_without_one_is(llama: Path) -> None:
    def kept(model: RxTAlpha, system: str | None = None) -> tuple[set[int], int]:
        """Return what all heads keep of the beginning in a long conversation, and how many tokens stand there."""
        memory = Conversation(model, system=system).memory
        begin = int(memory.length)
        for _ in range(4):
            memory = model.update_memory(memory, torch.full((1, 30), 40))
        assert isinstance(memory, RetainedState)
        heads = [set(head) for head in memory.positions.flatten(0, 2).tolist()]
        return set.intersection(*heads) & set(range(begin)), begin

    plain = upcycle(llama, memory_tokens=60, max_seq_len=64)
    own, begin = kept(plain)
    assert begin > 4
    assert own == {0, 1, 2, 3}
    for model, system in (
        (plain, "Be kind."),
        (upcycle(llama, memory_tokens=60, max_seq_len=64, system="Be kind."), None),
    ):
        own, begin = kept(model, system)
        assert own == set(range(begin))


def test_a_larger_memory_has_room_for_a_longer_system_prompt(llama: Path) -> None:
    model = upcycle(llama, memory_tokens=24, max_seq_len=64)
    system = "Be kind to people and their dogs, and like what people tell you, whatever it is that they like."
    with pytest.raises(ValueError, match=r"memory_tokens must be at least \d+: the system prompt, .*; got 24"):
        Conversation(model, system=system)
    assert Conversation(model, system=system, memory_tokens=200).memory.limit.tolist() == [200]
    with pytest.raises(ValueError, match=r"memory_tokens must be a whole number, got '9'"):
        Conversation(model, memory_tokens="9")


def test_a_retry_of_a_turn_that_was_undone_is_refused(llama: Path) -> None:
    chat = Conversation(upcycle(llama, max_seq_len=64), sampling=GREEDY)
    for query in ("Hello!", "My dog is called Rex."):
        list(chat.send(query, max_seq_len=30))
    again = chat.retry(max_seq_len=30)
    chat.undo()
    with pytest.raises(ConversationError, match="The turn to retry is not the last one any more"):
        list(again)
    assert [turn.query for turn in chat.turns] == ["Hello!"]


@pytest.mark.parametrize("control", ["none", "newest", "everything"])
def test_what_the_benchmark_has_computed_of_a_turn_is_written_as_if_it_were_read_again(
    llama: Path, control: Control
) -> None:
    respondent = RxTRespondent(upcycle(llama, memory_tokens=24).double())
    turns = [("where is the key", "in the box"), ("and the cat", "on the mat"), ("where is the key now", "here")]

    def led(*, predicted: bool) -> list[torch.Tensor]:
        respondent.reset(2, control)
        for number, (query, answer) in enumerate(turns[:-1]):
            queries, answers = [query, query if number else None], [answer, answer if number else None]
            if predicted:
                respondent.token_losses(queries, answers)
            respondent.follow(queries, answers)
        return respondent.token_losses([turns[-1][0]] * 2, [turns[-1][1]] * 2)

    for found, expected in zip(led(predicted=True), led(predicted=False), strict=True):
        torch.testing.assert_close(found, expected)
    assert not torch.equal(*led(predicted=True))  # two histories
