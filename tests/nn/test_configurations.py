"""Configurations validate themselves, explain what is wrong, and round-trip through JSON."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxlm.config import ConfigError
from rxlm.memory.slots.config import VARIANTS, MemoryAttentionConfig
from rxlm.memory.slots.gate import GATES, PER_SLOT_GATES, STATUS_GATES
from rxlm.memory.slots.norm import MEMORY_NORMS
from rxlm.nn.attention import AttentionConfig
from rxlm.nn.feed_forward import ACTIVATIONS, FeedForwardConfig
from rxlm.nn.heads import ATTENTION_VARIANTS, head_counts
from rxlm.nn.moe import EXPERT_BIASES, ExpertsConfig
from rxlm.rxt.config import DecoderConfig, EncoderConfig, RxTAlphaTokenizerConfig, RxTComponentConfig
from rxlm.rxt.sampling import SamplingConfig

activations = st.sampled_from(sorted(ACTIVATIONS))


@st.composite
def component_configs(draw: st.DrawFn) -> DecoderConfig | EncoderConfig:
    heads = draw(st.sampled_from([4, 8, 16]))
    attention = head_counts(draw(st.sampled_from(ATTENTION_VARIANTS)), heads)
    memory = head_counts(draw(st.sampled_from(ATTENTION_VARIANTS)), heads)
    experts = draw(st.integers(0, 8))
    kinds = ["dense", "moe"] if experts else ["dense"]
    stateless = st.lists(st.sampled_from(kinds), max_size=3).map(tuple)
    kind, layers = draw(st.sampled_from([(DecoderConfig, stateless), (EncoderConfig, st.just(()))]))
    fields = RxTComponentConfig(
        num_layers=draw(st.integers(1, 48)),
        dim=heads * draw(st.sampled_from([2, 8, 64])),
        vocab_size=draw(st.integers(1, 10**6)),
        num_heads=heads,
        **attention._asdict(),
        memory_query_heads=memory.num_query_heads,
        memory_kv_heads=memory.num_kv_heads,
        reads_memory=draw(st.sampled_from([None, True, False])),
        sliding_window=draw(st.none() | st.integers(1, 4096)),
        qk_norm=draw(st.booleans()),
        attention_gate=draw(st.none() | activations),
        num_experts=experts,
        experts_per_token=draw(st.integers(1, max(experts, 1))),
        num_shared_experts=draw(st.integers(0, 4)),
        expert_bias=draw(st.sampled_from(EXPERT_BIASES)),
        stateless_layers=draw(layers),
        final_stateless_layers=draw(layers),
        ff_activation=draw(activations),
        final_norm=draw(st.sampled_from([None, "rms", "layer"])),
        rope_base=draw(st.floats(1.0, 1e7)),
    )
    return kind.of(fields)


@st.composite
def memory_configs(draw: st.DrawFn) -> MemoryAttentionConfig:
    gate, variant, norm = (draw(st.sampled_from(values)) for values in (GATES, VARIANTS, MEMORY_NORMS))
    has_activation = gate not in ("none", "content")
    return MemoryAttentionConfig(
        num_layers=6,
        dim=64,
        num_heads=8,
        variant=variant,
        num_groups=draw(st.sampled_from([1, 2, 3, 6])) if variant.startswith("grouped") else None,
        gate=gate,
        gate_activation=draw(st.sampled_from(["sigmoid", "tanh"])) if has_activation else "sigmoid",
        gate_per_slot=draw(st.booleans()) if gate in PER_SLOT_GATES else True,
        gate_status=draw(st.sampled_from(["mean", "linear"])) if gate in STATUS_GATES else "mean",
        gate_init=draw(st.none() | st.floats(-5, 5)) if gate != "none" else None,
        norm=norm,
        norm_per_dim_scale=draw(st.booleans()) if norm == "mixed-positional" else True,
        initial_memory=draw(st.sampled_from(["learned", "zeros", "normal"])),
        initial_std=draw(st.floats(0, 2)),
    )


sampling_configs = st.builds(
    SamplingConfig,
    temperature=st.just(0.0) | st.floats(1e-6, 5),
    top_k=st.none() | st.integers(1, 100),
    top_p=st.none() | st.floats(1e-6, 1),
    repetition_penalty=st.floats(0.1, 3),
)
token_configs = st.permutations(range(12)).map(
    lambda ids: RxTAlphaTokenizerConfig(
        pad_token_id=ids[0], bos_token_id=ids[1], eos_token_id=ids[2], query_token_id=ids[3], answer_token_id=ids[4]
    )
)
any_config = st.one_of(component_configs(), memory_configs(), sampling_configs, token_configs)


@given(config=any_config)
def test_a_configuration_survives_json(config):
    again = type(config).from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config
    assert hash(again) == hash(config)


@given(config=component_configs())
def test_a_replaced_field_is_the_only_change_and_is_checked(config):
    changed = config.replace(num_layers=config.num_layers + 1)
    assert changed != config
    assert changed.replace(num_layers=config.num_layers) == config == config.replace()
    with pytest.raises(ConfigError, match="num_layers"):
        config.replace(num_layers=0)


def test_lists_become_tuples_for_a_frozen_configuration_has_no_lists():
    config = DecoderConfig(stateless_layers=[FeedForwardConfig(), ExpertsConfig(num_experts=2)])
    assert config.stateless_layers == (FeedForwardConfig(), ExpertsConfig(num_experts=2))
    assert [layer["ff_dim"] for layer in config.to_dict()["stateless_layers"]] == [1536, 1536]
    hash(config)


def test_a_configuration_cannot_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        SamplingConfig().temperature = 0.5


@pytest.mark.parametrize(
    ("kind", "field", "suggestion"),
    [
        (DecoderConfig, "num_layer", "num_layers"),
        (EncoderConfig, "numheads", "num_heads"),
        (AttentionConfig, "num_query_head", "num_query_heads"),
        (MemoryAttentionConfig, "num_slot", "num_slots"),
        (SamplingConfig, "temprature", "temperature"),
        (RxTAlphaTokenizerConfig, "eos_token", "eos_token_id"),
    ],
)
def test_an_unknown_field_is_refused_with_a_suggestion(kind, field, suggestion):
    with pytest.raises(ConfigError, match=f"{kind.__name__} has no field '{field}'. Did you mean '{suggestion}'"):
        kind(**{field: 1})
    with pytest.raises(ConfigError, match="Did you mean"):
        kind.from_dict({field: 1})


def test_an_unknown_field_like_no_other_is_refused_with_all_that_there_are():
    with pytest.raises(ConfigError, match=r"'zzz'\. Fields: .*num_layers.*rope_base"):
        DecoderConfig(zzz=1)


WRONG = [
    (RxTComponentConfig, {"num_layers": 0}),
    (RxTComponentConfig, {"num_layers": "2"}),
    (RxTComponentConfig, {"num_layers": 2.0}),
    (RxTComponentConfig, {"num_layers": True}),
    (RxTComponentConfig, {"num_layers": None}),
    (RxTComponentConfig, {"dim": -8}),
    (RxTComponentConfig, {"sliding_window": 0}),
    (RxTComponentConfig, {"num_experts": -1}),
    (RxTComponentConfig, {"num_experts": 2, "experts_per_token": 3}),
    (RxTComponentConfig, {"feed_forward": "moe", "num_experts": 0}),
    (RxTComponentConfig, {"feed_forward": "sparse"}),
    (RxTComponentConfig, {"stateless_layers": "dense"}),
    (RxTComponentConfig, {"stateless_layers": ("thin",)}),
    (RxTComponentConfig, {"qk_norm": 1}),
    (RxTComponentConfig, {"ff_activation": "mish"}),
    (RxTComponentConfig, {"norm": "batch"}),
    (RxTComponentConfig, {"final_norm": "batch"}),
    (RxTComponentConfig, {"attention_backend": "fast"}),
    (RxTComponentConfig, {"num_experts": 2, "expert_bias": "both"}),
    (RxTComponentConfig, {"rope_base": 0.0}),
    (RxTComponentConfig, {"rope_base": "1e4"}),
    (RxTComponentConfig, {"dim": 30}),
    (RxTComponentConfig, {"dim": 48}),  # heads of 3: no pairs to rotate
    (RxTComponentConfig, {"num_kv_heads": 3}),
    (RxTComponentConfig, {"num_query_heads": 17}),
    (RxTComponentConfig, {"memory_kv_heads": 5}),
    (MemoryAttentionConfig, {"num_slots": 0}),
    (MemoryAttentionConfig, {"variant": "interlayers"}),
    (MemoryAttentionConfig, {"variant": "grouped-self-interlayer", "num_groups": 5}),
    (MemoryAttentionConfig, {"variant": "self", "num_groups": 2}),
    (MemoryAttentionConfig, {"gate": "open"}),
    (MemoryAttentionConfig, {"gate": "content", "gate_activation": "tanh"}),
    (MemoryAttentionConfig, {"gate": "linear", "gate_per_slot": False}),
    (MemoryAttentionConfig, {"gate": "static", "gate_status": "linear"}),
    (MemoryAttentionConfig, {"gate": "none", "gate_init": 0.5}),
    (MemoryAttentionConfig, {"gate_init": "closed"}),
    (MemoryAttentionConfig, {"norm": "rms", "norm_per_dim_scale": False}),
    (MemoryAttentionConfig, {"norm": "layer"}),
    (MemoryAttentionConfig, {"initial_memory": "random"}),
    (MemoryAttentionConfig, {"initial_std": -0.1}),
    (MemoryAttentionConfig, {"initial_std": "small"}),
    (MemoryAttentionConfig, {"rope_base": -1.0}),
    (MemoryAttentionConfig, {"num_kv_heads": 3}),
    (MemoryAttentionConfig, {"consolidation_kv_heads": 3}),
    (MemoryAttentionConfig, {"dim": 48}),
    (RxTAlphaTokenizerConfig, {"pad_token_id": -1}),
    (RxTAlphaTokenizerConfig, {"eos_token_id": None}),
    (RxTAlphaTokenizerConfig, {"eos_token_id": 2}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "fields"), WRONG, ids=lambda value: str(value) if isinstance(value, dict) else "")
def test_a_value_that_cannot_be_honoured_is_refused_with_its_field(kind, fields):
    with pytest.raises(ConfigError) as caught:
        kind(**fields)
    words = [*fields, *(str(value) for value in fields.values())]
    assert any(word in str(caught.value) for word in words)
    assert str(caught.value).endswith((".", "}."))


def test_a_field_that_needs_another_one_says_which():
    with pytest.raises(ConfigError, match="kind 'moe' need num_experts of at least 1, got 0"):
        RxTComponentConfig(stateless_layers=("moe",))
    with pytest.raises(ConfigError, match="num_groups must divide num_layers=12, got None"):
        MemoryAttentionConfig(variant="grouped-self-interlayer")


@pytest.mark.parametrize("values", [None, [1], "dim", 3])
def test_what_is_no_dict_is_refused(values):
    for kind in (RxTComponentConfig, DecoderConfig, MemoryAttentionConfig):
        with pytest.raises(ConfigError, match=f"{kind.__name__} is made of a dict of its fields"):
            kind.from_dict(values)
    with pytest.raises(ConfigError, match="EncoderConfig is made of a dict of its fields"):
        EncoderConfig.of(values)
