"""The checkpoint format of the RxT models on the hub: configurations. `published_weights` has the tensors.

Such a folder has a `config.json` in other field names than ours and a `model.safetensors` in other tensor names.
Older releases stored some things differently, and some configurations do not say what was built: where the
tensors tell, they are believed. Layers and tensors keep their order and their numbers; nothing is approximated.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from rxlm.config import ConfigError, require
from rxlm.memory import MemoryState, SlotState
from rxlm.rxt.checkpoint_files import CheckpointError, CheckpointFiles

Values = Mapping[str, Any]

ACTIVATION_NAMES = {
    "swish": "silu", "silu": "silu", "gelu": "gelu", "relu": "relu", "sigmoid": "sigmoid", "tanh": "tanh",
    "linear": "identity", "identity": "identity",
}  # fmt: skip
NORM_NAMES = {
    "classic-rms": "rms", "layer": "mixed-layer", "rms": "mixed-rms", "adaptive": "mixed-rms",
    "positional": "mixed-positional",
}  # fmt: skip
BIAS_NAMES = {"global": "global", "local": "local", "off": "none"}
GATE_NAMES = {"static": "static", "elementwise": "slot-elementwise", "linear": "slot-linear"}

COMPONENT_FIELDS = {
    "num_layers": 12, "vocab_size": 20000, "embed_dim": 512, "ff_dim": 1536, "att_heads": 16, "seq_len": 1024,
    "stm_size": 1024, "self_att_type": "sqa", "cross_att_type": "sqa", "att_groups": 1, "att_query_groups": None,
    "cross_att_groups": None, "cross_att_query_groups": None, "use_gated": True, "ff_activation": "swish",
    "use_rms_norm": True, "use_moe": False, "num_experts": 1, "moe_top_k": 1, "num_shared_experts": 1,
    "shared_expert_dim": None, "dense_layer_dim": 1536, "moe_bias_mode": "global",
    "moe_shared_experts_bias_mode": "local", "moe_use_weighted_shared_experts": False,
    "use_gated_attention": False, "gated_attention_activation": "sigmoid", "use_gated_cross_attention": None,
    "use_attention_output_bias": True, "use_head_norm": False, "head_norm_type": "layer_norm",
    "stateless_layers_config": None, "final_stateless_layers_config": None, "skip_memory_cross_attention": False,
    "rope_base": 10000,
}  # fmt: skip
"""Published fields of a decoder or encoder, and the value of an absent one."""

MEMORY_FIELDS = {
    "num_layers": 12, "embed_dim": 512, "att_heads": 16, "seq_len": 1024, "stm_size": 1024, "rope_base": 10000,
    "att_type": "sqa", "att_groups": 1, "att_query_groups": None,
    "interlayer_att_type": None, "interlayer_att_groups": None, "interlayer_att_query_groups": None,
    "self_att_type": None, "self_att_groups": None, "self_att_query_groups": None,
    "norm_type": "classic-rms", "norm_per_dim_scale": False, "use_gated_residual": True,
    "residual_gate_type": "elementwise", "residual_per_slot_gate": True, "residual_gate_init": None,
    "residual_gate_slot_status_type": "mean", "use_tanh_residual_gate": True, "num_groups": None,
    "use_attention_output_bias": True, "use_gated_attention": False, "gated_attention_activation": "sigmoid",
}  # fmt: skip
"""Published fields of a memory attention network, and the value of an absent one."""

HARMLESS = re.compile(
    r"dropout|flash|kernel|gemm|(?:^|_)amp(?:_|$)|vectorized|compile|checkpoint|cutlass|triton|_init|aux|debug"
)
"""Fields outside the tables that choose a kernel or matter in training only."""


def is_published(config: Values) -> bool:
    """Say whether a `config.json` is in the published format."""
    return "format_version" not in config and {"decoder_config", "encoder_config"} <= config.keys()


def is_component(values: Values) -> bool:
    """Say whether a component's plain configuration is in published field names."""
    return not {"embed_dim", "att_heads", "stm_size", "seq_len"}.isdisjoint(values)


def component_config(values: Values, tensors: Values | None = None, *, encoder: bool = False) -> dict[str, Any]:
    """Translate a decoder's or encoder's published configuration into the fields of `RxTComponentConfig`.

    `tensors` are the component's weights by published name, where there are any: what they tell goes before what
    the configuration says.
    """
    get = _with_defaults(values, COMPONENT_FIELDS, "encoder_config" if encoder else "decoder_config")
    gate = _name("gated_attention_activation", get["gated_attention_activation"], ACTIVATION_NAMES)
    cross_gated = (
        get["use_gated_attention"] if get["use_gated_cross_attention"] is None else get["use_gated_cross_attention"]
    )
    query, kv = _head_counts(get["self_att_type"], get["att_heads"], get["att_groups"], get["att_query_groups"])
    memory_query, memory_kv = _head_counts(
        get["cross_att_type"],
        get["att_heads"],
        _first_given((get["cross_att_groups"], get["att_groups"])),
        _first_given((get["cross_att_query_groups"], get["att_query_groups"])),
    )
    stateless = {name: tuple(get[f"{name}_config"] or ()) for name in ("stateless_layers", "final_stateless_layers")}
    any_moe = get["use_moe"] or any("moe" in kinds for kinds in stateless.values())
    names = tuple(tensors or ())
    has_memory = any("memory_cross_attention" in name for name in names) if names else None
    reads_memory = has_memory if has_memory is not None else not (encoder and get["skip_memory_cross_attention"])
    head_norm = {"layer_norm": "layer", "rms_norm": "rms"}
    translated = {
        "num_layers": get["num_layers"],
        "vocab_size": get["vocab_size"],
        "dim": get["embed_dim"],
        "max_seq_len": get["seq_len"],
        "num_slots": get["stm_size"],
        "num_heads": get["att_heads"],
        "num_query_heads": query,
        "num_kv_heads": kv,
        "memory_query_heads": memory_query,
        "memory_kv_heads": memory_kv,
        "reads_memory": reads_memory,
        "attention_gate": gate if get["use_gated_attention"] else None,
        "memory_attention_gate": gate if cross_gated else None,
        "attention_bias": get["use_attention_output_bias"],
        "feed_forward": "moe" if get["use_moe"] else "dense",
        "ff_dim": get["ff_dim"],
        "ff_gated": get["use_gated"],
        "ff_activation": _name("ff_activation", get["ff_activation"], ACTIVATION_NAMES),
        "ff_bias": True,
        "dense_ff_dim": get["dense_layer_dim"],
        "norm": "rms" if get["use_rms_norm"] else "layer",
        "final_norm": _name("head_norm_type", get["head_norm_type"], head_norm) if get["use_head_norm"] else None,
        "head_bias": True,
        "rope_base": float(get["rope_base"]),
        **stateless,
    }
    if any_moe:
        translated |= {
            "num_experts": get["num_experts"],
            "experts_per_token": get["moe_top_k"],
            "num_shared_experts": get["num_shared_experts"],
            "shared_expert_dim": get["shared_expert_dim"],
            "expert_bias": _expert_bias(names) or _name("moe_bias_mode", get["moe_bias_mode"], BIAS_NAMES),
            "shared_expert_bias": _shared_bias(names)
            or _name("moe_shared_experts_bias_mode", get["moe_shared_experts_bias_mode"], BIAS_NAMES),
            "weighted_shared_experts": get["moe_use_weighted_shared_experts"],
        }
    return translated


def memory_attention_config(values: Values, variant: str, tensors: Values | None = None) -> dict[str, Any]:
    """Translate a memory attention network's published configuration into `MemoryAttentionConfig`'s fields."""
    get = _with_defaults(values, MEMORY_FIELDS, "memory_attention_config")
    names = tuple(tensors or ())
    gated = get["use_gated_residual"]
    if names and "use_gated_residual" not in values:
        gated = any(".residual_gate_layers." in name for name in names)
    gate = _name("residual_gate_type", get["residual_gate_type"], GATE_NAMES) if gated else "none"
    heads = _head_counts(get["att_type"], get["att_heads"], get["att_groups"], get["att_query_groups"])
    variant = _variant(names, variant, gated) if names else variant
    steps = ("self_", "interlayer_", "") if variant == "self" else ("interlayer_", "self_", "")
    step_type, step_groups, step_query_groups = (
        _first_given(get[step + field] for step in steps) for field in ("att_type", "att_groups", "att_query_groups")
    )
    step_heads = _head_counts(step_type, get["att_heads"], step_groups, step_query_groups)
    norm = _name("norm_type", get["norm_type"], NORM_NAMES)
    scale_is_per_dim = norm != "mixed-positional" or get["norm_per_dim_scale"]
    attention_gate = _name("gated_attention_activation", get["gated_attention_activation"], ACTIVATION_NAMES)
    has_gate = any(name.endswith("gate_proj.weight") for name in names) if names else get["use_gated_attention"]
    has_bias = any(name.endswith("out_proj.bias") for name in names) if names else get["use_attention_output_bias"]
    return {
        "num_layers": get["num_layers"],
        "dim": get["embed_dim"],
        "num_slots": get["stm_size"],
        "max_seq_len": get["seq_len"],
        "num_heads": get["att_heads"],
        "num_query_heads": heads[0],
        "num_kv_heads": heads[1],
        "consolidation_query_heads": step_heads[0],
        "consolidation_kv_heads": step_heads[1],
        "variant": variant,
        "num_groups": get["num_groups"] if variant == "grouped-self-interlayer" else None,
        "gate": gate,
        "gate_activation": "tanh" if gated and get["use_tanh_residual_gate"] else "sigmoid",
        "gate_per_slot": get["residual_per_slot_gate"] if gated else True,
        "gate_status": get["residual_gate_slot_status_type"] if gate in ("slot-elementwise", "slot-linear") else "mean",
        "gate_init": float(get["residual_gate_init"]) if gated and get["residual_gate_init"] is not None else None,
        "norm": norm,
        "norm_per_dim_scale": scale_is_per_dim,
        "initial_memory": "normal",
        "attention_gate": attention_gate if has_gate else None,
        "attention_bias": has_bias,
        "rope_base": float(get["rope_base"]),
    }


def model_config(config: Values, tensors: Values | None = None) -> dict[str, Any]:
    """Translate a whole published `config.json` into the values of our own (see `RxTAlpha.config_dict`)."""
    tensors = tensors or {}
    parts = {part: {n: t for n, t in tensors.items() if n.startswith(f"{part}.")} for part in
             ("decoder", "encoder", "memory_attention")}  # fmt: skip
    variant = config.get("memory_attention_variant") or "interlayer"
    return {
        "decoder_config": component_config(config["decoder_config"], parts["decoder"]),
        "encoder_config": component_config(config["encoder_config"], parts["encoder"], encoder=True),
        "memory_attention_config": memory_attention_config(
            config["memory_attention_config"], variant, parts["memory_attention"]
        ),
        "tokenizer_config": dict(config["tokenizer_config"]),
        "system_prompt_title": config.get("system_prompt_title"),
    }


def is_beta(config: Values) -> bool:
    """Say whether a published configuration is a Beta model's, which has thinking tokens."""
    return "system_prompt_title" in config or config.get("tokenizer_config", {}).get("think_token_id") is not None


def saved_memory(folder: str) -> MemoryState:
    """Return the memory state that a published checkpoint was saved with; models here start from a fresh one."""
    weights = CheckpointFiles(folder).weights()
    for name in ("decoder.model.stm.memory", "memory_attention.model.stm.memory"):
        if name in weights:
            memory = SlotState(weights[name])
            try:
                memory.check()
            except ValueError as error:
                raise CheckpointError(f"The memory {name} that {folder} holds is damaged: {error}.") from error
            return memory
    raise CheckpointError(f"{folder} holds no memory state.")


def _with_defaults(values: Values, table: Values, where: str) -> dict[str, Any]:
    for name, value in values.items():
        off = value in (None, False, 0, "none", "off", [], {})
        if name not in table and not off and not HARMLESS.search(name):
            raise ConfigError(
                f"The published field {where}.{name}={value!r} changes the model in a way that rxlm lacks."
            )
    return {**table, **{name: value for name, value in values.items() if name in table}}


def _name(field: str, value: Any, names: Mapping[str, str]) -> str:
    require(value in names, f"The published field {field} must be one of {', '.join(names)}, got {value!r}.")
    return names[value]


def _head_counts(kind: str, heads: int, groups: int, query_groups: int | None) -> tuple[int, int]:
    counts = {
        "mha": (heads, heads),
        "gqa": (heads, groups),
        "mqa": (heads, 1),
        "sqa": (_first_given((query_groups, groups)), groups),
    }
    require(kind in counts, f"Attention of type {kind!r} is not supported; known: {', '.join(counts)}.")
    return counts[kind]


def _first_given(values: Iterable[Any]) -> Any:
    return next((value for value in values if value is not None), None)


def _expert_bias(names: tuple[str, ...]) -> str | None:
    if any(re.search(r"\.ff\.(b1$|experts\.\d+\.fc1.*bias)", name) for name in names):
        return "local"
    if any(name.endswith(".ff.global_bias") for name in names):
        return "global"
    return "none" if names else None


def _shared_bias(names: tuple[str, ...]) -> str | None:
    if any(re.search(r"\.ff\.(shared_b1$|shared_expert\.fc1.*bias|shared_experts\.\d+\.fc1.*bias)", n) for n in names):
        return "local"
    if any(name.endswith(".ff.shared_experts_bias") for name in names):
        return "global"
    return "none" if names else None


def _variant(names: tuple[str, ...], configured: str, gated: bool) -> str:
    """Tell the variant by the tensors. Without gates interlayer and self-interlayer look alike: then by the name."""
    if any(".self_attention_layers." in name for name in names):
        return "self"
    if not any(".mean_attention_layers." in name for name in names):
        return "simple"
    if any(".interlayer_gate_layers." in name for name in names):
        return configured if configured == "grouped-self-interlayer" else "self-interlayer"
    return configured if not gated and "self-interlayer" in configured else "interlayer"
