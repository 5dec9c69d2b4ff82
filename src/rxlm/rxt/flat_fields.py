"""Flat fields of a decoder or encoder, which become those of the configurations within it.

Programs written for the RxT models describe a component by one flat dict, and so did files of format 1. Most of its
names stand for one field of a part (`ComponentConfig.flat_names`). Here are those whose meaning hangs on others.
"""

from collections.abc import Mapping
from typing import Any

from rxlm.config import Config, require
from rxlm.nn.attention import AttentionConfig

FEED_FORWARD = {"ff_dim": "ff_dim", "ff_gated": "gated", "ff_activation": "activation"}
DENSE = {**FEED_FORWARD, "ff_bias": "bias"}
EXPERTS = {
    **FEED_FORWARD, "num_experts": "num_experts", "experts_per_token": "experts_per_token",
    "num_shared_experts": "num_shared_experts", "shared_expert_dim": "shared_ff_dim", "expert_bias": "bias",
    "shared_expert_bias": "shared_bias", "weighted_shared_experts": "weighted_shared",
}  # fmt: skip
READER = ("memory_query_heads", "memory_kv_heads", "memory_qk_norm", "memory_attention_gate")
STATELESS = ("stateless_layers", "final_stateless_layers")
DECODERS_ONLY = ("num_slots", *STATELESS, "final_norm", "head_bias", "tie_head")


def nested_fields(values: Mapping[str, Any], *, encoder: bool = False) -> dict[str, Any]:
    """Return fields that `from_dict` of `DecoderConfig` or `EncoderConfig` reads; those that it has stay."""
    result = _feed_forwards(values)
    if encoder:
        layered = [name for name in STATELESS if result.get(name)]
        require(not layered, "An encoder's layers feed a memory layer each: it has no stateless ones.")
        result = {name: value for name, value in result.items() if name not in DECODERS_ONLY}
    return _memory_reader(result, encoder)


def _memory_reader(values: dict[str, Any], encoder: bool) -> dict[str, Any]:
    reads = values.pop("reads_memory", None)
    require(reads in (None, True, False), f"reads_memory must be true, false or None, got {reads!r}.")
    if "memory_reader" not in values:
        if encoder and reads:
            values["memory_reader"] = {}
        elif encoder or reads is False:
            kept = {name: value for name, value in values.items() if name not in READER}
            return {**kept, "memory_reader": None}
    # Heads of the reader that are not given are those of self-attention.
    if values.get("memory_query_heads") and not values.get("memory_kv_heads"):
        given = (values.get(name) for name in ("num_kv_heads", "num_query_heads", "num_heads"))
        values["memory_kv_heads"] = next((count for count in given if count), AttentionConfig().num_heads)
    return {name: value for name, value in values.items() if value is not None or name not in READER[:2]}


def _feed_forwards(values: Mapping[str, Any]) -> dict[str, Any]:
    """Replace flat fields of feed-forwards, and the kinds of layers, which are "dense" or "moe"."""
    result = dict(values)
    given = result.get("feed_forward")
    if isinstance(given, (Config, Mapping)) or not ({*EXPERTS, *DENSE, *STATELESS, "feed_forward"} & result.keys()):
        return result
    parts = {
        "dense": {field: result[name] for name, field in DENSE.items() if name in result},
        "moe": {field: result[name] for name, field in EXPERTS.items() if name in result},
    }
    for name in {*EXPERTS, *DENSE} & result.keys():
        del result[name]
    narrow = result.pop("dense_ff_dim", None)
    stateless = {**parts, "dense": {**parts["dense"], **({"ff_dim": narrow} if narrow else {})}}
    kind = given or ("moe" if parts["moe"].get("num_experts") else "dense")
    result["feed_forward"] = _feed_forward("feed_forward", kind, parts)
    for name in STATELESS:
        kinds = result.get(name) or ()
        valid = isinstance(kinds, (list, tuple))
        require(valid, f"{name} lists 'dense' or 'moe' for each layer, got {kinds!r}.")
        result[name] = tuple(_feed_forward(name, each, stateless) for each in kinds)
    return result


def _feed_forward(name: str, kind: Any, parts: Mapping[str, dict[str, Any]]) -> Any:
    if not isinstance(kind, str):
        return kind
    require(kind in parts, f"{name} must be 'dense' or 'moe', got {kind!r}.")
    experts = parts["moe"].get("num_experts", 0)
    require(kind == "dense" or experts != 0, "Layers of kind 'moe' need num_experts of at least 1, got 0.")
    return parts[kind]
