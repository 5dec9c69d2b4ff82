"""RxTAlpha and RxTBeta: how they are built, used, misused, saved and loaded."""

import json

import pytest
import torch

from helpers import (
    ALPHA_TOKENS,
    ARCHITECTURES,
    BETA_TOKENS,
    MAX_SEQ_LEN,
    NUM_SLOTS,
    VOCAB,
    Architecture,
    assert_close,
    build,
    build_beta,
    configuration,
    randomise,
    some_ids,
    some_memory,
)
from published_fixtures import published_config
from rxlm.config import ConfigError
from rxlm.memory import SlotState
from rxlm.memory.slots.config import MemoryAttentionConfig
from rxlm.rxt.config import DecoderConfig, RxTComponentConfig
from rxlm.rxt.models import (
    RxTAlpha,
    RxTAlphaTokenizerConfig,
    RxTBeta,
    RxTDecoder,
    RxTEncoder,
    RxTInterlayerMemoryAttentionConfig,
)
from text_models import tiny_text_model, tiny_tokenizer

QUERY = some_ids(1, 4, seed=1)


@pytest.fixture
def model() -> RxTAlpha:
    model = build("mqa-moe-grouped-static")
    model.load_stm_state(some_memory(model, [0]))
    return model


# --- building ---------------------------------------------------------------------------------------------------------


def test_dataclasses_and_plain_dicts_build_the_same_model():
    arguments = configuration(ARCHITECTURES["mqa-moe-grouped-static"])
    plain = {name: json.loads(json.dumps(value.to_dict())) for name, value in arguments.items()}
    assert RxTAlpha(**plain).config_dict() == RxTAlpha(**arguments).config_dict()
    assert RxTAlpha(**plain).decoder.config == DecoderConfig.of(arguments["decoder_config"])


def test_published_dicts_build_the_same_model_as_ours():
    config = published_config()
    published = RxTAlpha(**{name: config[name] for name in config if name.endswith("_config")})
    ours = RxTAlpha(
        published.decoder.config,
        published.encoder.config,
        published.memory_writer.config,
        config["tokenizer_config"],
    )
    assert ours.config_dict() == published.config_dict()
    assert [p.shape for p in ours.parameters()] == [p.shape for p in published.parameters()]


def test_the_variant_argument_goes_before_the_configuration():
    arguments = configuration(Architecture(memory={"variant": "interlayer"}))
    assert RxTAlpha(**arguments).memory_writer.config.variant == "interlayer"
    overridden = RxTAlpha(**arguments, memory_attention_variant="simple")
    assert overridden.memory_writer.config.variant == "simple"


def test_the_papers_name_of_the_memory_configuration_is_ours():
    assert RxTInterlayerMemoryAttentionConfig is MemoryAttentionConfig


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("decoder_config", {"num_layers": 3}, "num_layers .* 3 in the decoder, 2 in the encoder"),
        ("encoder_config", {"dim": 32}, "dim .* 32 in the encoder"),
        ("memory_attention_config", {"dim": 32}, "dim .* 32 in the memory attention"),
        ("memory_attention_config", {"num_slots": 5}, "num_slots .* 6 in the decoder, 5 in the memory attention"),
        ("encoder_config", {"vocab_size": 41}, "vocab_size .* 40 in the decoder, 41 in the encoder"),
        ("tokenizer_config", {"answer_token_id": 40}, "answer_token_id is 40"),
    ],
)
def test_components_that_do_not_fit_are_refused_with_what_is_found_where(part, change, message):
    arguments = configuration(Architecture())
    arguments[part] = arguments[part].replace(**change)
    with pytest.raises(ConfigError, match=message):
        RxTAlpha(**arguments)


def test_special_tokens_need_ids_of_their_own():
    with pytest.raises(ConfigError, match="ids of their own"):
        RxTAlphaTokenizerConfig(query_token_id=6, answer_token_id=6)


def test_encoder_and_decoder_share_one_embedding_from_the_start():
    model = RxTAlpha(**configuration(Architecture()))
    assert model.encoder.embedding is model.decoder.embedding
    model.share_components()  # as programs for the published models do
    assert model.encoder.embedding is model.decoder.embedding
    names = [name for name, _ in model.named_parameters()]
    assert sum("embedding" in name for name in names) == 1


def test_an_exchanged_component_is_shared_again_on_request():
    model, other = build(seed=0), build(seed=1)
    model.decoder = other.decoder
    model.share_components()
    ids = some_ids(1, 5)
    assert model.encoder.embedding is other.decoder.embedding
    assert not torch.equal(model.encode(ids), build(seed=0).encode(ids))


def test_the_shortest_component_limits_the_model():
    arguments = configuration(Architecture(encoder={"max_seq_len": 11}))
    assert RxTAlpha(**arguments).max_seq_len == 11


def test_a_tied_head_is_the_embedding_and_stays_it():
    model = build("gqa-window-self-elementwise")
    assert model.decoder.head.weight is model.decoder.embedding.weight
    assert model.encoder.embedding.weight is model.decoder.embedding.weight
    moved = model.float()
    assert moved.decoder.head.weight is moved.decoder.embedding.weight
    untied = build("mha-simple-content")
    assert untied.decoder.head.weight is not untied.decoder.embedding.weight


def test_an_integer_does_for_the_first_value_of_a_gate():
    for gate in ("static", "elementwise", "linear", "slot-elementwise", "slot-linear", "content"):
        RxTAlpha(**configuration(Architecture(memory={"gate": gate, "gate_init": 1})))


def test_a_decoder_and_an_encoder_are_configured_by_the_same_class():
    small = RxTComponentConfig(num_layers=1, dim=8, vocab_size=12, num_heads=2, num_slots=2, max_seq_len=8, ff_dim=8)
    decoder, encoder = RxTDecoder(small), RxTEncoder(small)
    assert all(layer.memory_reader is not None for layer in decoder.layers)
    assert all(layer.memory_reader is None for layer in encoder.layers)


# --- misuse leaves the model usable -----------------------------------------------------------------------------------


WRONG_TURNS = {
    "a prompt too long": ({"input_ids": some_ids(1, MAX_SEQ_LEN)}, "room for an answer"),
    "a prompt too long for the given limit": ({"max_seq_len": 5}, "max_seq_len 5"),
    "a limit beyond the model's": ({"max_seq_len": 25}, "the model's 24, got 25"),
    "a limit of nothing": ({"max_seq_len": 0}, "got 0"),
    "two queries in one conversation": ({"input_ids": some_ids(2, 4)}, r"\(1, T\) here, got \(2, 4\)"),
    "a query of one dimension": ({"input_ids": QUERY[0]}, r"got \(4,\)"),
    "a query that is no whole numbers": ({"input_ids": QUERY.float()}, "whole numbers"),
    "an id beyond the vocabulary": ({"input_ids": QUERY + VOCAB}, "outside of the model's vocabulary of 40"),
    "a negative id": ({"input_ids": -QUERY}, "Token id -"),
    "a mask of another shape": ({"attention_mask": torch.ones(1, 3)}, "mask has shape"),
    "a negative temperature": ({"temperature": -1}, "temperature"),
    "a nucleus of nothing": ({"top_p": 0.0}, "top_p"),
    "too many seeds": ({"seed": [1, 2]}, "got 2 for 1 rows"),
    "thinking without the token for it": ({"thinking_mode": "fast"}, "RxTBeta"),
}
MISTAKES = {
    "a batch without batch mode": (lambda m: m.batch_interactions(some_ids(2, 4)), "set_batch_mode"),
    "batch mode without a size": (lambda m: m.set_batch_mode(True), "batch_size of at least 1"),
    "batch mode of nothing": (lambda m: m.set_batch_mode(True, 0), "batch_size of at least 1"),
    "a batch size without batch mode": (lambda m: m.set_batch_mode(False, 4), "got batch_size=4"),
    "a memory of another shape": (lambda m: m.load_stm_state(torch.zeros(4, 2, NUM_SLOTS, 16)), "set_batch_mode"),
    "a memory that is none": (lambda m: m.load_stm_state(torch.zeros(3)), "memory state"),
    "an interaction too long to begin with": (lambda m: m.init_stm_state(some_ids(1, 25)), "25 tokens"),
    "an interaction of several rows": (lambda m: m.init_stm_state(some_ids(3, 4)), "1 conversations"),
    "text without a tokenizer": (lambda m: m.tokenize_query("Hello?"), "no tokenizer"),
    "a token without a tokenizer": (lambda m: m.stringify_token(9), "no tokenizer"),
    "tokens of a batch without a tokenizer": (lambda m: m.stringify_batch([[9]]), "no tokenizer"),
    "a tokenizer of another vocabulary": (lambda m: m.set_tokenizer(tiny_tokenizer()), "do not belong together"),
    "no conversation at all": (lambda m: m.init_memory(0), "at least 1"),
    "another number of rows than memories": (lambda m: m.decode(some_ids(3, 4), m.init_memory(2)), "2 conv.* 3 rows"),
    "an update of other rows": (lambda m: m.update_memory(m.init_memory(2), some_ids(3, 4)), "2 conv.* 3 rows"),
    "a memory of another model": (lambda m: m.decode(QUERY, SlotState(torch.zeros(2, 1, 6, 16))), "reads 4 of dim"),
    "a mask that does not fit": (lambda m: m.encode(QUERY, torch.ones(1, 5)), "mask has shape"),
    "an interaction without tokens": (lambda m: m.update_memory(m.init_memory(), some_ids(1, 0)), "no tokens"),
}


@pytest.mark.parametrize("mistake", [*WRONG_TURNS, *MISTAKES])
def test_a_mistake_is_explained_and_leaves_the_model_usable(model, mistake):
    """In a turn it is explained at the call of `interact`, before the first token is asked for."""
    before = model.export_stm_state()
    expected = list(model.interact(QUERY, seed=1))
    after = model.export_stm_state()
    model.load_stm_state(before)
    if mistake in WRONG_TURNS:
        arguments, message = WRONG_TURNS[mistake]
        with pytest.raises(ValueError, match=message):
            model.interact(**{"input_ids": QUERY} | arguments)
    else:
        make_it, message = MISTAKES[mistake]
        with pytest.raises(ValueError, match=message):
            make_it(model)
    assert torch.equal(model.export_stm_state(), before)
    assert list(model.interact(QUERY, seed=1)) == expected
    assert torch.equal(model.export_stm_state(), after)


def test_batch_mode_and_streaming_do_not_mix(model):
    model.set_batch_mode(True, 2)
    with pytest.raises(ValueError, match="batch mode"):
        model.interact(QUERY)
    with pytest.raises(ValueError, match="3 queries; the memory holds 2"):
        model.batch_interactions(some_ids(3, 4))
    model.set_batch_mode(False)
    assert list(model.interact(QUERY, seed=0))[-1] == -2


def test_a_tokenizer_with_other_special_tokens_is_refused():
    text_model = tiny_text_model()
    arguments = {
        "decoder_config": text_model.decoder.config,
        "encoder_config": text_model.encoder.config,
        "memory_attention_config": text_model.memory_writer.config,
    }
    with pytest.raises(ValueError, match=r"\[A\] has id 6 in the tokenizer and 20 in the model"):
        RxTAlpha(**arguments, tokenizer_config={"answer_token_id": 20}, tokenizer=tiny_tokenizer())


# --- use --------------------------------------------------------------------------------------------------------------


def test_ids_of_32_bits_are_read_like_those_of_64(model):
    start = model.export_stm_state()
    expected = list(model.interact(QUERY, torch.ones_like(QUERY), seed=2, repetition_penalty=1.1))
    model.load_stm_state(start)
    mask = torch.ones_like(QUERY).int()
    assert list(model.interact(QUERY.int(), mask, seed=2, repetition_penalty=1.1)) == expected
    assert list(model.interact(QUERY.int(), seed=2))[-1] == -2


def test_batch_mode_starts_every_conversation_from_the_initial_memory(model):
    model.set_batch_mode(True, 3)
    assert_close(model.export_stm_state(), model.init_memory(1).slots.expand(-1, 3, -1, -1).detach())
    answers = model.batch_interactions(some_ids(3, 4), seed=0)
    assert len(answers) == 3
    assert model.export_stm_state().shape == (4, 3, NUM_SLOTS, 16)
    model.set_batch_mode(False)
    assert_close(model.export_stm_state(), model.init_memory(1).slots.detach())


def test_the_current_memory_follows_the_model_to_another_type(model):
    before = model.export_stm_state()
    model.float()
    assert model.export_stm_state().dtype == torch.float32
    assert_close(model.export_stm_state(), before.float())
    assert list(model.interact(QUERY, seed=0))[-1] == -2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_answers_and_remembers_numbers(dtype):
    for name in ARCHITECTURES:
        model = build(name).to(dtype)
        list(model.interact(QUERY, seed=0))
        memory = model.current.get()
        assert memory.dtype == dtype
        assert all(tensor.isfinite().all() for tensor in memory.tensors().values())


def test_a_turn_needs_no_gradients_and_leaves_none_behind(model):
    model.train()
    list(model.interact(QUERY, seed=0))
    assert not model.export_stm_state().requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_model_runs_under_inference_mode(model):
    expected = list(model.interact(QUERY, seed=0))
    with torch.inference_mode():
        other = build("mqa-moe-grouped-static")
        other.load_stm_state(some_memory(other, [0]))
        assert list(other.interact(QUERY, seed=0)) == expected
    assert list(other.interact(QUERY, seed=0))[-1] == -2


def test_text_goes_in_and_out():
    model = tiny_text_model()
    query = model.tokenize_query("What is my dog called?")
    assert query["input_ids"][0, :2].tolist() == [ALPHA_TOKENS.bos_token_id, ALPHA_TOKENS.query_token_id]
    pieces = [model.stringify_token(token) for token in model.interact(**query, seed=0, temperature=0.5) if token >= 0]
    model.set_batch_mode(True, 2)
    rows = model.batch_interact(["My dog is called Rex.", "You are kind."], seed=0, max_seq_len=30)
    texts = model.stringify_batch(rows)
    assert len(texts) == 2
    assert all(isinstance(text, str) for text in [*pieces, *texts])


def test_a_full_interaction_is_written_with_all_its_special_tokens():
    model = tiny_text_model(RxTBeta)
    ids = model.tokenize_full_interaction("You are kind.", "Rex", thought="dog")["input_ids"][0].tolist()
    order = [BETA_TOKENS.bos_token_id, BETA_TOKENS.query_token_id, BETA_TOKENS.think_token_id]
    order += [BETA_TOKENS.answer_token_id, BETA_TOKENS.eos_token_id]
    assert [token for token in ids if token < 11] == order
    with pytest.raises(ValueError, match="the limit is 5"):
        model.tokenize_full_interaction("You are kind.", "Rex", max_seq_len=5)


def test_a_query_that_leaves_no_room_for_an_answer_is_refused_before_the_turn():
    model = tiny_text_model(max_seq_len=12)
    with pytest.raises(ValueError, match="max_seq_len 12"):
        model.tokenize_query("What is my dog called? " * 5)
    with pytest.raises(ValueError, match="list of at least one text"):
        model.tokenize_batch("What?")


# --- thinking ---------------------------------------------------------------------------------------------------------


def test_a_beta_needs_a_token_to_think_with():
    with pytest.raises(ConfigError, match="think_token_id"):
        RxTBeta(**configuration(Architecture(), ALPHA_TOKENS))


def test_a_beta_has_self_interlayer_memory_attention_unless_told_otherwise():
    assert build_beta().memory_writer.config.variant == "self-interlayer"
    told = RxTBeta(**configuration(Architecture(), BETA_TOKENS), memory_attention_variant="interlayer")
    assert told.memory_writer.config.variant == "interlayer"


@pytest.mark.parametrize(("mode", "opening"), [("fast", "answer_token_id"), ("extended", "think_token_id")])
def test_a_beta_begins_its_answer_as_the_mode_says(mode, opening):
    """The opening is the first token of the answer, and part of what the memory reads."""
    model, token = build_beta(), getattr(BETA_TOKENS, opening)
    memory = some_memory(model, [0])
    model.load_stm_state(memory)
    answer = list(model.interact(QUERY, seed=3, thinking_mode=mode, ignore_eos=True))[:-2]
    assert answer[0] == token
    whole = torch.cat((QUERY, torch.tensor([answer])), dim=1)
    assert whole.shape[1] == MAX_SEQ_LEN
    with torch.no_grad():
        assert_close(model.export_stm_state(), model.update_memory(memory, whole).slots)


@torch.no_grad()
def test_in_auto_mode_a_beta_chooses_between_thinking_and_answering_only():
    """With the probabilities that it gives to the two; every later token is free."""
    model = build_beta()
    memory = some_memory(model, [0])
    firsts, seconds = [], set()
    for seed in range(60):
        model.load_stm_state(memory)
        answer = list(model.interact(QUERY, seed=seed, ignore_eos=True, thinking_mode="auto"))
        firsts.append(answer[0])
        seconds.add(answer[1])
    think, reply = BETA_TOKENS.think_token_id, BETA_TOKENS.answer_token_id
    chances = model.decode(QUERY, memory)[0, -1, [think, reply]].softmax(-1)
    assert set(firsts) == {think, reply}
    assert abs(firsts.count(think) / 60 - chances[0].item()) < 0.2
    assert len(seconds) > 5
    model.load_stm_state(memory)
    greedy = next(model.interact(QUERY, temperature=0))
    assert greedy == (think if chances[0] > chances[1] else reply)


def test_auto_is_what_a_beta_does_without_being_told():
    model = build_beta()
    model.load_stm_state(memory := some_memory(model, [0]))
    untold = list(model.interact(QUERY, seed=5))
    model.load_stm_state(memory)
    assert list(model.interact(QUERY, seed=5, thinking_mode="auto")) == untold


@pytest.mark.parametrize("mode", ["fast", "extended", "auto"])
def test_a_batch_thinks_like_its_rows_alone(mode):
    model, queries = build_beta(), some_ids(3, 4)
    memory = some_memory(model, [0, 1, 2])
    model.set_batch_mode(True, 3)
    model.load_stm_state(memory)
    answers = model.batch_interactions(queries, seed=7, thinking_mode=mode)
    after = model.export_stm_state()
    model.set_batch_mode(False)
    for row, answer in enumerate(answers):
        model.load_stm_state(memory.select(row))
        alone = list(model.interact(queries[row : row + 1], seed=7 + row, thinking_mode=mode))
        assert alone[:-2] == answer
        assert_close(model.export_stm_state(), after[:, row : row + 1])


def test_an_unknown_thinking_mode_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="fast, extended, auto, got 'slow'"):
        build_beta().interact(QUERY, thinking_mode="slow")


# --- these tests themselves --------------------------------------------------------------------------------------


def test_randomising_for_these_tests_reaches_every_weight():
    """The tests would prove little about weights that sit at their initial constants."""
    for name in ARCHITECTURES:
        model = build(name)
        fresh = randomise(RxTAlpha(**configuration(ARCHITECTURES[name])).double(), seed=1)
        for (key, one), other in zip(model.named_parameters(), fresh.parameters(), strict=True):
            assert not torch.equal(one, other), key


def test_beta_keeps_a_grouped_memory_attention() -> None:
    values = configuration(ARCHITECTURES["mqa-moe-grouped-static"], BETA_TOKENS)

    assert RxTBeta(**values).memory_writer.config.variant == "grouped-self-interlayer"
    assert RxTBeta(**configuration(Architecture(), BETA_TOKENS)).memory_writer.config.variant == "self-interlayer"
