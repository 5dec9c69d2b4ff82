"""A pretrained language model with a memory computes what it did before, and is a Reactive Transformer like others."""

from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

from pretrained_models import BASE, KINDS, chat_tokenizer, save_language_model
from rxlm.config import ConfigError
from rxlm.memory import MemoryState, SlotState
from rxlm.nn.key_values import KeyValueSource
from rxlm.nn.pretrained import UnsupportedModelError
from rxlm.rxt.chat_template import ChatTemplateError, interaction_form
from rxlm.rxt.conversation import Conversation
from rxlm.rxt.models import RxTAlpha
from rxlm.rxt.sampling import SamplingConfig
from rxlm.rxt.upcycling import middle_layers, set_reading, start_memory, upcycle


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "llama"
    save_language_model("llama", folder)
    return folder


def noise(model: RxTAlpha, rows: int) -> MemoryState:
    config = model.memory_writer.config
    return SlotState(torch.randn(config.num_layers, rows, config.num_slots, config.dim))


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_with_reading_closed_logits_are_the_language_models(kind: str, tmp_path: Path) -> None:
    source = save_language_model(kind, tmp_path)
    model = upcycle(tmp_path, num_slots=4, max_seq_len=64)
    ids = torch.randint(20, 500, (3, 40), generator=torch.Generator().manual_seed(1))
    expected = source(input_ids=ids).logits
    assert expected.abs().max() > 1
    for memory in (model.init_memory(3), noise(model, 3), None):
        torch.testing.assert_close(model.decode(ids, memory), expected, atol=1e-4, rtol=1e-5)


@torch.no_grad()
def test_an_empty_memory_changes_nothing_even_where_reading_is_open(llama: Path) -> None:
    model = upcycle(llama, num_slots=4, max_seq_len=64)
    set_reading(model, 1.0)
    ids = torch.randint(20, 500, (2, 20))
    own = model.decode(ids, None)
    torch.testing.assert_close(model.decode(ids, model.init_memory(2)), own)
    after = model.update_memory(model.init_memory(2), ids)
    assert not torch.allclose(model.decode(ids, after), own, atol=1e-2)


@torch.no_grad()
def test_states_of_an_earlier_turn_are_read_as_self_attention_reads_them(llama: Path) -> None:
    model = upcycle(llama, num_slots=4, max_seq_len=64)
    set_reading(model, 1.0)
    layer = model.decoder.memory_layers[0]
    states = model.encode(torch.randint(20, 500, (2, 9)))[0]
    read, own = layer.read_memory(KeyValueSource(states)), layer.attention.keys_values(layer.attention_norm(states))
    torch.testing.assert_close(read.keys, own.keys)
    torch.testing.assert_close(read.values, own.values)
    x = torch.randn(2, 5, model.decoder.config.dim)
    assert layer.memory_reader is not None
    as_tokens = layer.attention(x, read)
    torch.testing.assert_close(layer.memory_reader(x, read), as_tokens, atol=1e-5, rtol=1e-4)
    set_reading(model, 0.5)
    torch.testing.assert_close(layer.memory_reader(x, read), as_tokens / 2, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_reading_without_a_gate_is_opened_as_far(llama: Path) -> None:
    values = upcycle(llama, num_slots=4, max_seq_len=64).config_dict()
    model = RxTAlpha.from_config_dict(
        {**values, "decoder_config": {**values["decoder_config"], "memory_attention_gate": None}}
    )
    start_memory(model)
    set_reading(model, 0.5)
    layer = model.decoder.memory_layers[0]
    assert layer.memory_reader is not None
    torch.testing.assert_close(layer.memory_reader.out_proj.weight, 0.5 * layer.attention.out_proj.weight)


@torch.no_grad()
def test_the_decoder_encodes_what_its_memory_layers_read(llama: Path) -> None:
    model = upcycle(llama, memory_layers=(0, 2, 6), num_slots=4, max_seq_len=64)
    source_states = []
    for layer in model.decoder.memory_layers:
        layer.register_forward_pre_hook(lambda _, inputs: source_states.append(inputs[0]))
    ids = torch.randint(20, 500, (2, 12))
    model.decode(ids, None)
    torch.testing.assert_close(model.encode(ids), torch.stack(source_states[:3]))
    mask = torch.ones(2, 12, dtype=torch.bool)
    mask[1, 7:] = False
    torch.testing.assert_close(model.encode(ids, mask)[:, 1, :7], model.encode(ids[1:, :7])[:, 0], atol=1e-5, rtol=1e-4)


def test_it_has_no_weights_but_the_language_models_and_those_of_the_memory(llama: Path) -> None:
    model = upcycle(llama, num_slots=4, max_seq_len=64)
    assert sum(parameter.numel() for parameter in model.encoder.parameters()) == 0
    own = upcycle(llama, num_slots=4, max_seq_len=64, encoder="own")
    assert sum(parameter.numel() for parameter in own.encoder.layers.parameters()) > 0
    assert own.encode(torch.tensor([[30, 31]])).shape == (4, 1, 2, 48)


def test_it_saves_loads_chats_and_forks_like_any_other(llama: Path, tmp_path: Path) -> None:
    model = upcycle(llama, num_slots=4, max_seq_len=64)
    set_reading(model, 0.5)
    model.save_pretrained(tmp_path)
    loaded = RxTAlpha.from_pretrained(tmp_path)
    assert loaded.tokenizer is not None
    assert loaded.tokenizer.chat_template == model.needed_tokenizer().chat_template
    greedy = SamplingConfig(temperature=0.0)
    chats = [Conversation(each, sampling=greedy) for each in (model, loaded)]
    for text in ("My dog is called Rex.", "What is my dog called?"):
        first, second = ("".join(chat.send(text, max_seq_len=40)) for chat in chats)
        assert first == second
    assert torch.equal(chats[0].memory.slots, chats[1].memory.slots)
    fork = chats[0].fork()
    list(fork.send("Hello!", max_seq_len=40))
    assert len(chats[0].turns) == 2


def test_a_batch_answers_as_its_rows_would_alone(llama: Path) -> None:
    model = upcycle(llama, num_slots=4, max_seq_len=64)
    set_reading(model, 0.5)
    queries = ["My dog is called Rex.", "Hi!"]
    model.set_batch_mode(True, 2)
    together = [model.batch_interact(queries, temperature=0.0, max_seq_len=30) for _ in range(2)]
    model.set_batch_mode(False)
    for row, query in enumerate(queries):
        model.reset_stm_state()
        for turn in range(2):
            tokens = list(model.interact(**model.tokenize_query(query), temperature=0.0, max_seq_len=30))
            assert tokens[:-2] == together[turn][row]


def test_turns_are_written_as_the_chat_template_writes_them(llama: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(llama)
    model = upcycle(llama, max_seq_len=128)
    messages = [
        {"role": "user", "content": "Hello there!"},
        {"role": "assistant", "content": "Good morning."},
        {"role": "user", "content": "What is my name?"},
    ]
    whole = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    ids = tokenizer(whole, add_special_tokens=False)["input_ids"]
    turn = [*model.tokenize_query("What is my name?")["input_ids"][0].tolist(), *model.tokenizer_config.before_answer]
    assert ids[-len(turn) :] == turn
    finished = model.tokenize_full_interaction("Hello there!", "Good morning.")["input_ids"][0].tolist()
    assert finished == ids[len(ids) - len(turn) - 1 - len(finished) : len(ids) - len(turn) - 1]


def test_a_system_prompt_is_written_in_each_turn(llama: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(llama)
    form = interaction_form(tokenizer, "Be brief.")
    assert tokenizer.decode(form.before_query) == "<s>system\nBe brief.<e>\n<s>user\n"
    assert interaction_form(tokenizer).before_query == tuple(
        tokenizer("<s>user\n", add_special_tokens=False)["input_ids"]
    )


def test_padding_is_a_token_of_its_own(llama: Path) -> None:
    form = upcycle(llama, max_seq_len=64).tokenizer_config
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
        interaction_form(tokenizer)


def test_without_a_token_for_padding_a_tokenizer_is_refused() -> None:
    tokenizer = chat_tokenizer()
    used = {token: number for number, token in tokenizer.added_tokens_decoder.items()}
    tokenizer.chat_template = "".join(["{{ '", *(str(token) for token in used), "' }}"]) + str(tokenizer.chat_template)
    with pytest.raises(ChatTemplateError, match=r"free to stand for padding"):
        interaction_form(tokenizer, "Be brief.")


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
        ({"max_seq_len": 1000}, "max_seq_len must be between 1 and the language model's 256"),
        ({"memory_layers": (2, 9)}, r"memory_layers must be num_layers=2 ascending numbers from 0 to depth - 1 = 6"),
        ({"memory_layers": (4, 1)}, "ascending numbers"),
        ({"encoder": "none"}, "encoder must be one of self, own, got 'none'"),
    ],
)
def test_shapes_that_cannot_be_are_refused(llama: Path, changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        upcycle(llama, **changes)


@torch.no_grad()
def test_tokens_of_the_chat_template_are_not_remembered(llama: Path) -> None:
    model = upcycle(llama, num_slots=4, max_seq_len=64)
    form = model.tokenizer_config
    nothing = torch.tensor([[*form.before_query, *form.before_answer, form.eos_token_id]])
    said = torch.tensor([[*form.before_query, 40, 41, *form.before_answer, 42, form.eos_token_id]])
    assert model.written(said, None).sum() == 3
    memory = noise(model, 1)
    assert torch.equal(model.update_memory(memory, nothing).slots, memory.slots)
    assert not torch.allclose(model.update_memory(memory, said).slots, memory.slots)


def test_layers_of_the_middle_read_the_memory_by_default() -> None:
    assert middle_layers(30) == (12, 15, 18, 21, 24)
    assert middle_layers(BASE["num_hidden_layers"]) == (2, 3, 4, 5)
    assert middle_layers(2) == (0, 1)
    assert middle_layers(1) == (0,)
