"""Models in the published checkpoint format: loaded as they are, with the numbers that their formulas give."""

import json
from itertools import product
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from published_fixtures import BETA_TOKENS, PublishedModel, published_config
from rxlm.config import ConfigError
from rxlm.rxt import published, published_weights
from rxlm.rxt.hub import CheckpointError
from rxlm.rxt.models import RxTAlpha, RxTBeta

FIXTURES = Path(__file__).parents[2].parent / "shared" / "fixtures"
CHECKPOINTS = sorted(path.parent for path in FIXTURES.glob("*/expected.safetensors"))
TOLERANCE = 1e-5

# What published configurations can say, beyond the checkpoints in FIXTURES: name -> (configuration, what was built).
MOE = {"use_moe": True, "num_experts": 3, "moe_top_k": 2}
CASES: dict[str, tuple[dict, dict]] = {
    "simple": ({"variant": "simple"}, {}),
    "self": ({"variant": "self", "memory": {"self_att_type": "mqa", "interlayer_att_type": ...}}, {}),
    "self, gated linearly to one value": (
        {"variant": "self", "memory": {"residual_gate_type": "linear", "residual_per_slot_gate": False}}, {},
    ),
    "grouped": (
        {"variant": "grouped-self-interlayer", "memory": {"num_layers": 4, "num_groups": 2},
         "decoder": {"num_layers": 4}, "encoder": {"num_layers": 4}}, {},
    ),
    "grouped without gates": (
        {"variant": "grouped-self-interlayer", "decoder": {"num_layers": 4}, "encoder": {"num_layers": 4},
         "memory": {"num_layers": 4, "num_groups": 2, "use_gated_residual": False}}, {},
    ),
    "the configuration says interlayer, self-interlayer was built": ({}, {"variant": "self-interlayer"}),
    "the configuration says nothing, self-interlayer was built": ({"variant": None}, {"variant": "self-interlayer"}),
    "the configuration says self-interlayer, interlayer was built": (
        {"variant": "self-interlayer"}, {"variant": "interlayer"},
    ),
    "the configuration says interlayer, simple was built": ({}, {"variant": "simple"}),
    "the configuration says interlayer, self was built": ({}, {"variant": "self"}),
    "memory of one head, and reverse sparse queries": (
        {"memory": {"att_type": "sqa", "att_query_groups": 1, "att_groups": 2, "interlayer_att_type": "mqa"}}, {},
    ),
    "step before with its own head counts": (
        {"memory": {"att_type": "mha", "interlayer_att_type": "sqa", "interlayer_att_groups": 1,
                    "interlayer_att_query_groups": 2}}, {},
    ),
    "head counts of both steps before, self was built": (
        {"variant": "self", "memory": {"self_att_type": "mqa", "interlayer_att_type": "sqa",
                                       "interlayer_att_groups": 2, "interlayer_att_query_groups": 4}}, {},
    ),
    "head counts of both steps before, interlayer was built": (
        {"memory": {"self_att_type": "mqa", "interlayer_att_type": "sqa", "interlayer_att_groups": 2,
                    "interlayer_att_query_groups": 4}}, {},
    ),
    "experts without gated units, one shared": (
        {"decoder": {**MOE, "use_gated": False, "ff_activation": "gelu", "moe_bias_mode": "local"}}, {},
    ),
    "experts without gated units, several shared": (
        {"decoder": {**MOE, "use_gated": False, "num_shared_experts": 2}}, {},
    ),
    "experts stored one by one, one shared": ({"decoder": MOE}, {"legacy_experts": True}),
    "experts stored one by one, none shared": ({"decoder": {**MOE, "num_shared_experts": 0}}, {"legacy_experts": True}),
    "experts stored one by one, without gated units": (
        {"decoder": {**MOE, "use_gated": False, "num_shared_experts": 2}}, {"legacy_experts": True},
    ),
    "weighted shared experts, one": ({"decoder": {**MOE, "moe_use_weighted_shared_experts": True}}, {}),
    "weighted shared experts with a common bias": (
        {"decoder": {**MOE, "moe_use_weighted_shared_experts": True, "num_shared_experts": 2,
                     "moe_shared_experts_bias_mode": "global"}}, {},
    ),
    "shared experts of their own size": ({"decoder": {**MOE, "shared_expert_dim": 8, "num_shared_experts": 3}}, {}),
    "one expert, a single choice": ({"decoder": {"use_moe": True}}, {}),
    "experts in a stateless layer of a dense decoder": (
        {"decoder": {"num_experts": 3, "moe_top_k": 2, "stateless_layers_config": ["moe", "dense"],
                     "dense_layer_dim": 20}}, {},
    ),
    "experts in the encoder": ({"encoder": {**MOE, "num_shared_experts": 2}}, {}),
    "experts in the encoder stored one by one": ({"encoder": MOE}, {"legacy_experts": True}),
    "an encoder that reads the memory": ({"encoder": {"skip_memory_cross_attention": False}}, {}),
    "an encoder without the memory that its configuration promises": (
        {"encoder": {"skip_memory_cross_attention": False}}, {"encoder_reads_memory": False},
    ),
    "layer norm before the head": ({"decoder": {"use_head_norm": True}}, {}),
    "gated attention, in self-attention only": (
        {"decoder": {"use_gated_attention": True, "use_gated_cross_attention": False}}, {},
    ),
    "gated attention, in cross-attention only, by another activation": (
        {"decoder": {"use_gated_cross_attention": True, "gated_attention_activation": "tanh"}}, {},
    ),
    "no output bias": ({"decoder": {"use_attention_output_bias": False}}, {}),
    "multi-query self-attention, cross-attention with fallen-back groups": (
        {"decoder": {"self_att_type": "mqa", "cross_att_type": "sqa", "att_query_groups": 2, "att_groups": 1}}, {},
    ),
    "cross-attention whose groups are those of self-attention": (
        {"decoder": {"self_att_type": "mha", "cross_att_type": "gqa", "att_groups": 2}}, {},
    ),
    "cross-attention whose groups are its own": (
        {"decoder": {"cross_att_type": "sqa", "att_query_groups": 2, "cross_att_groups": 4,
                     "cross_att_query_groups": 1}}, {},
    ),
    "another rope base in the decoder": ({"decoder": {"rope_base": 500}}, {}),
    "another rope base in the memory attention": ({"memory": {"rope_base": 50.0}}, {}),
    "final stateless layers": ({"decoder": {"final_stateless_layers_config": ["dense"], "dense_layer_dim": 20}}, {}),
    "activations": ({"decoder": {"ff_activation": "silu"}, "encoder": {"ff_activation": "relu"}}, {}),
    "layer norms, absent fields": (
        {"decoder": {"use_rms_norm": False, "att_groups": ..., "cross_att_type": "mqa"},
         "memory": {"residual_gate_type": "static", "att_groups": ...}}, {},
    ),
}  # fmt: skip
for shared_mode, shared_count in product(("local", "global", "off"), (1, 2)):
    CASES[f"{shared_count} shared experts, bias {shared_mode}"] = (
        {"decoder": {**MOE, "num_shared_experts": shared_count, "moe_shared_experts_bias_mode": shared_mode}}, {},
    )  # fmt: skip
for mode in ("local", "global", "off"):
    CASES[f"experts, bias {mode}"] = ({"decoder": {**MOE, "moe_bias_mode": mode, "num_shared_experts": 0}}, {})
for norm, per_dim, variant in product(
    ("classic-rms", "layer", "rms", "adaptive", "positional"), (False, True), ("interlayer", "self-interlayer", "self")
):
    if not (per_dim and norm == "classic-rms"):
        CASES[f"norm {norm}, scale per dimension {per_dim}, {variant}"] = (
            {"variant": variant, "memory": {"norm_type": norm, "norm_per_dim_scale": per_dim}}, {},
        )  # fmt: skip
for gate, per_slot, tanh, status in product(
    ("static", "elementwise", "linear"), (True, False), (True, False), ("mean", "linear")
):
    CASES[f"gate {gate}, per slot {per_slot}, tanh {tanh}, status {status}"] = (
        {"variant": "self-interlayer",
         "memory": {"residual_gate_type": gate, "residual_per_slot_gate": per_slot, "use_tanh_residual_gate": tanh,
                    "residual_gate_slot_status_type": status, "residual_gate_init": 0.25}}, {},
    )  # fmt: skip


def make(config: dict | None = None, **built: object) -> PublishedModel:
    """Return a published model with all its tensors."""
    return PublishedModel(published_config(**(config or {})), **built).complete()


def close(actual: torch.Tensor, expected: torch.Tensor, tolerance: float = TOLERANCE) -> None:
    torch.testing.assert_close(actual, expected.to(actual.dtype), atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_a_published_model_computes_what_its_formulas_say(case, tmp_path):
    config, built = CASES[case]
    reference = make(config, **built)
    model = RxTAlpha.from_pretrained(reference.save(tmp_path / "model"))
    rows = [[2, 4, 9, 17, 23, 5, 11, 3], [2, 4, 14, 5, 20]]
    ids = torch.tensor([rows[0], rows[1] + [0] * 3])
    mask = torch.tensor([[1] * 8, [1] * 5 + [0] * 3])
    before = [reference.some_memory(seed) for seed in (1, 2)]
    memory = model.init_memory(2)
    memory = type(memory)(torch.stack(before, dim=1))
    logits, encoded = model.decode(ids, memory, mask), model.encode(ids, mask, memory)
    after = model.update_memory(memory, ids, mask)
    again = model.update_memory(after, ids, mask)
    for row, tokens in enumerate(rows):
        close(logits[row, : len(tokens)], reference.decode(tokens, before[row]))
        close(encoded[:, row, : len(tokens)], reference.encode(tokens, before[row]))
        updated = reference.update_memory(before[row], tokens)
        close(after.slots[:, row], updated)
        close(again.slots[:, row], reference.update_memory(updated, tokens), 1e-4)


# --- checkpoints that were made elsewhere ---------------------------------------------------------------------------

needs_fixtures = pytest.mark.skipif(not CHECKPOINTS, reason=f"no checkpoints at {FIXTURES}")


@needs_fixtures
@pytest.mark.parametrize("folder", CHECKPOINTS, ids=lambda folder: folder.name)
@torch.no_grad()
def test_a_checkpoint_gives_the_outputs_expected_of_it(folder):
    model, expected = RxTAlpha.from_pretrained(folder), load_file(folder / "expected.safetensors")
    assert type(model) is (RxTBeta if folder.name.startswith("beta") else RxTAlpha)
    ids, mask = expected["input_ids"], expected["attention_mask"]
    memory = type(model.init_memory())(expected["stm_initial"])
    logits, unmasked, encoded = model.decode(ids, memory, mask), model.decode(ids, memory), model.encode(ids, mask)
    for row, length in enumerate(mask.sum(1).tolist()):
        close(logits[row, :length], expected["decoder_logits"][row, :length], 1e-4)
        close(unmasked[row, :length], expected["decoder_logits_nomask"][row, :length], 1e-4)
        close(encoded[:, row, :length], expected["encoder_hidden_states"][:, row, :length], 1e-4)
        close(encoded[-1, row, :length], expected["encoder_output"][row, :length], 1e-4)
    memory = model.update_memory(memory, ids, mask)
    close(memory.slots, expected["stm_updated"], 1e-4)
    ids, mask = expected["input_ids_2"], expected["attention_mask_2"]
    close(model.decode(ids, memory, mask), expected["decoder_logits_after_update"], 1e-4)
    close(model.update_memory(memory, ids, mask).slots, expected["stm_updated_2"], 1e-4)


@needs_fixtures
@pytest.mark.parametrize("folder", CHECKPOINTS, ids=lambda folder: folder.name)
@pytest.mark.parametrize("use_batch_mode", [False, True], ids=["stream", "batch"])
def test_a_checkpoint_generates_the_tokens_expected_of_it(folder, use_batch_mode):
    model, generation = RxTAlpha.from_pretrained(folder), load_file(folder / "generation.safetensors")
    start = load_file(folder / "expected.safetensors")["stm_initial"][:, :1]
    options = {"max_seq_len": 42, "temperature": 0, "ignore_eos": True}
    if isinstance(model, RxTBeta):
        options["thinking_mode"] = "fast"
    if use_batch_mode:
        model.set_batch_mode(True, 2)
        model.load_stm_state(start.expand(-1, 2, -1, -1))
        answers = model.batch_interactions(generation["gen_query_ids"].expand(2, -1), **options)
    else:
        model.load_stm_state(start)
        answers = [list(model.interact(generation["gen_query_ids"], **options))[:-2]]
    after = model.export_stm_state()
    for row, answer in enumerate(answers):
        assert answer == generation["gen_tokens"].flatten().tolist()
        close(after[:, row : row + 1], generation["gen_stm_after"], 1e-4)


@needs_fixtures
@pytest.mark.parametrize("folder", CHECKPOINTS, ids=lambda folder: folder.name)
@torch.no_grad()
def test_the_slow_reference_of_these_tests_gives_the_expected_outputs_too(folder):
    """What the other tests compare with is itself compared with checkpoints that were made elsewhere."""
    variant = "self-interlayer" if "selfinterlayer" in folder.name else "interlayer"
    reference = PublishedModel.load(folder, legacy_experts="legacy" in folder.name, variant=variant)
    expected = load_file(folder / "expected.safetensors")
    names = set(reference.tensors)
    for row, length in enumerate(expected["attention_mask"].sum(1).tolist()):
        ids, memory = expected["input_ids"][row, :length].tolist(), expected["stm_initial"][:, row].double()
        close(expected["decoder_logits"][row, :length], reference.decode(ids, memory), 1e-4)
        close(expected["encoder_hidden_states"][:, row, :length], reference.encode(ids, memory), 1e-4)
        close(expected["stm_updated"][:, row], reference.update_memory(memory, ids), 1e-4)
    assert set(reference.tensors) == names, "the reference must not make up tensors here"


# --- what a file holds ------------------------------------------------------------------------------------------------


def load(model: PublishedModel, folder: Path) -> RxTAlpha:
    return RxTAlpha.from_pretrained(model.save(folder / "model"))


@pytest.mark.parametrize("name", ["encoder.model.embedding.weight", "decoder.model.embedding.weight"])
def test_the_one_embedding_of_a_file_is_taken_whatever_its_name(name, tmp_path):
    reference = make()
    embedding = reference.tensors.pop("encoder.model.embedding.weight")
    reference.tensors[name] = embedding
    model = load(reference, tmp_path)
    assert torch.equal(model.decoder.embedding.weight, embedding)
    assert model.encoder.embedding is model.decoder.embedding


def test_of_two_embeddings_the_encoders_is_taken(tmp_path):
    """As in a file that was saved before they were shared."""
    reference = make()
    encoders = reference.tensors["encoder.model.embedding.weight"]
    reference.tensors["decoder.model.embedding.weight"] = encoders + 1
    model = load(reference, tmp_path)
    assert torch.equal(model.decoder.embedding.weight, encoders)
    assert model.encoder.embedding is model.decoder.embedding


def test_a_file_without_an_embedding_is_refused(tmp_path):
    reference = make()
    del reference.tensors["encoder.model.embedding.weight"]
    with pytest.raises(CheckpointError, match=r"embedding\.weight"):
        load(reference, tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "decoder.model.layers.1.attention.k_proj.weight",
        "decoder.model.layers.0.stm_norm.weight",
        "decoder.model.head.bias",
        "encoder.model.layers.1.ff.fc1.linear.bias",
        "memory_attention.model.attention_layers.0.out_proj.weight",
        "memory_attention.model.mean_stm_norm.weight",
        "memory_attention.model.residual_gate_layers.1.gate",
    ],
)
def test_a_missing_tensor_is_named(name, tmp_path):
    reference = make()
    del reference.tensors[name]
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        load(reference, tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "decoder.model.layers.0.attention.q_norm.weight",
        "decoder.model.layers.2.norm1.weight",
        "encoder.model.head.weight",
        "memory_attention.model.unheard_of_layers.0.weight",
        "something_else",
    ],
)
def test_a_tensor_without_a_place_is_named(name, tmp_path):
    reference = make()
    reference.tensors[name] = torch.ones(3)
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        load(reference, tmp_path)


def test_a_tensor_of_another_shape_is_named(tmp_path):
    reference = make()
    reference.tensors["decoder.model.head.bias"] = torch.ones(7)
    with pytest.raises(CheckpointError, match=r"head\.bias.*\(7,\)"):
        load(reference, tmp_path)


def test_what_a_file_keeps_besides_weights_is_ignored_but_the_saved_memory_can_be_had(tmp_path):
    reference = make({"memory": {"norm_type": "adaptive"}})
    reference.tensors["memory_attention.model.mean_stm_norm.ema_rms"] = torch.ones(1)
    reference.tensors["decoder.model.layers.1.attention.rope.cache"] = torch.ones(32, 2)
    folder = reference.save(tmp_path / "model")
    RxTAlpha.from_pretrained(folder)
    memory = published.saved_memory(str(folder))
    assert torch.equal(memory.slots, reference.tensors["decoder.model.stm.memory"])


def test_a_file_without_a_saved_memory_says_so(tmp_path):
    reference = make()
    for part in ("decoder", "memory_attention"):
        del reference.tensors[f"{part}.model.stm.memory"]
    with pytest.raises(CheckpointError, match="no memory state"):
        published.saved_memory(str(reference.save(tmp_path / "model")))


# --- what a configuration says ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("decoder", "use_nope", True),
        ("decoder", "use_relative_embeddings", True),
        ("decoder", "linear_attention_type", "gla"),
        ("encoder", "attention_window", 128),
        ("decoder", "logit_clamp", 30.0),
        ("memory", "use_something_new", "yes"),
    ],
)
def test_a_field_that_changes_numbers_in_an_unknown_way_is_refused_by_name(part, field, value, tmp_path):
    reference = make()
    key = {"memory": "memory_attention"}.get(part, part) + "_config"
    reference.config[key][field] = value
    with pytest.raises(ConfigError, match=rf"{key}\.{field}"):
        load(reference, tmp_path)


@pytest.mark.parametrize("off", [False, None, 0, 0.0, "none", []])
def test_an_unknown_field_that_is_switched_off_is_ignored(off, tmp_path):
    reference = make()
    reference.config["decoder_config"]["use_something_new"] = off
    load(reference, tmp_path)


@pytest.mark.parametrize(
    ("part", "fields"),
    [
        ("decoder", {"use_flash_attention": True, "att_dropout": 0.1, "ff_dropout": 0.1, "use_vectorized_moe": True}),
        ("decoder", {"moe_grouped_gemm": True, "router_amp": True, "moe_use_cutlass_grouped_gemm": True}),
        ("encoder", {"use_flash_attention": True, "debug_mode": True}),
        ("memory", {"use_flash_attention": True, "att_dropout": 0.1, "interlayer_att_dropout": 0.1}),
    ],
)
@torch.no_grad()
def test_fields_that_choose_a_kernel_or_matter_in_training_change_nothing(part, fields, tmp_path):
    reference = make()
    plain = load(reference, tmp_path)
    reference.config[{"memory": "memory_attention"}.get(part, part) + "_config"] |= fields
    model = load(reference, tmp_path)
    memory, ids = plain.init_memory(seed=0), torch.tensor([[4, 9, 5]])
    assert torch.equal(model.decode(ids, memory), plain.decode(ids, memory))
    assert torch.equal(model.update_memory(memory, ids).slots, plain.update_memory(memory, ids).slots)


def test_absent_fields_take_the_defaults_of_the_format():
    decoder = published.component_config({"att_query_groups": 8})
    assert {name: decoder[name] for name in ("num_layers", "vocab_size", "dim", "ff_dim", "num_heads")} == {
        "num_layers": 12, "vocab_size": 20000, "dim": 512, "ff_dim": 1536, "num_heads": 16,
    }  # fmt: skip
    assert (decoder["max_seq_len"], decoder["num_slots"], decoder["rope_base"]) == (1024, 1024, 10000)
    assert (decoder["num_query_heads"], decoder["num_kv_heads"]) == (8, 1)
    assert (decoder["memory_query_heads"], decoder["memory_kv_heads"]) == (8, 1)
    assert (decoder["ff_gated"], decoder["ff_activation"], decoder["norm"]) == (True, "silu", "rms")
    assert (decoder["feed_forward"], decoder["attention_gate"], decoder["attention_bias"]) == ("dense", None, True)
    assert (decoder["final_norm"], decoder["dense_ff_dim"], decoder["stateless_layers"]) == (None, 1536, ())
    experts = published.component_config({"use_moe": True, "att_query_groups": 8})
    assert (experts["num_experts"], experts["experts_per_token"], experts["num_shared_experts"]) == (1, 1, 1)
    assert (experts["expert_bias"], experts["shared_expert_bias"]) == ("global", "local")
    assert (experts["shared_expert_dim"], experts["weighted_shared_experts"]) == (None, False)
    memory = published.memory_attention_config({"att_query_groups": 8}, "interlayer")
    assert (memory["gate_activation"], memory["gate_per_slot"], memory["norm"]) == ("tanh", True, "rms")


@pytest.mark.parametrize(
    ("part", "field", "value", "message"),
    [
        ("decoder", "self_att_type", "mla", "mla"),
        ("decoder", "ff_activation", "mish", "ff_activation"),
        ("memory", "norm_type", "batch", "norm_type"),
        ("memory", "residual_gate_type", "quadratic", "residual_gate_type"),
        ("decoder", "head_norm_type", "batch", None),
        ("decoder", "stateless_layers_config", ["sparse"], "stateless_layers"),
    ],
)
def test_a_value_that_the_format_does_not_have_is_refused_by_name(part, field, value, message, tmp_path):
    reference = make()
    reference.config[{"memory": "memory_attention"}.get(part, part) + "_config"][field] = value
    if message is None:  # matters only where there is a norm before the head
        load(reference, tmp_path)
        reference.config["decoder_config"]["use_head_norm"] = True
        message = "head_norm_type"
    with pytest.raises(ValueError, match=message):
        load(reference, tmp_path)


def test_a_model_that_thinks_becomes_a_beta_and_one_that_does_not_an_alpha(tmp_path):
    beta = make({"variant": "self-interlayer", "tokenizer_config": BETA_TOKENS, "system_prompt_title": "[SYSTEM]"})
    model = RxTAlpha.from_pretrained(beta.save(tmp_path / "beta"))
    assert type(model) is RxTBeta
    assert model.system_prompt_title == "[SYSTEM]"
    assert type(RxTBeta.from_pretrained(tmp_path / "beta")) is RxTBeta
    alpha = make().save(tmp_path / "alpha")
    assert type(RxTAlpha.from_pretrained(alpha)) is RxTAlpha
    with pytest.raises(CheckpointError, match="RxTAlpha"):
        RxTBeta.from_pretrained(alpha)


def test_a_published_configuration_builds_a_model_without_weights():
    """The constructor takes the parts of a published configuration as plain dicts."""
    config = published_config(variant="self-interlayer")
    parts = {name: config[name] for name in config if name.endswith("_config")}
    model = RxTAlpha(**parts, memory_attention_variant="self-interlayer")
    assert model.memory_writer.config.variant == "self-interlayer"
    assert model.decoder.config.dim == 16
    assert RxTAlpha(**parts).memory_writer.config.variant == "interlayer"


@torch.no_grad()
def test_saved_in_our_own_format_a_published_model_stays_the_same(tmp_path):
    reference = make(CASES["weighted shared experts with a common bias"][0])
    model = load(reference, tmp_path)
    model.save_pretrained(tmp_path / "ours")
    assert json.loads((tmp_path / "ours" / "config.json").read_text())["format_version"] == 2
    again = RxTAlpha.from_pretrained(tmp_path / "ours")
    assert again.config_dict() == model.config_dict()
    memory, ids = model.init_memory(seed=0), torch.tensor([[4, 9, 5]])
    assert torch.equal(again.decode(ids, memory), model.decode(ids, memory))
    assert torch.equal(again.update_memory(memory, ids).slots, model.update_memory(memory, ids).slots)


@pytest.mark.parametrize("case", ["grouped", "experts stored one by one, one shared", "2 shared experts, bias global"])
def test_writing_inverts_reading(case, tmp_path):
    """Every tensor of ours has its places in the published format; what is written there is read back."""
    config, built = CASES[case]
    reference = make(config, **built)
    values = published.model_config(reference.config, reference.tensors)
    model = load(reference, tmp_path)
    for name, tensor in model.state_dict().items():
        for source in published_weights.sources(name, values):
            written = source.write(tensor)
            assert torch.equal(source.read(written), tensor)
            for part, value in written.items():
                if part in reference.tensors:
                    assert torch.equal(value, reference.tensors[part])
