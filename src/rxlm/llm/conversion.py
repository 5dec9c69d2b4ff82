"""From a model with grouped-query attention to one with Sparse Query Attention: fewer query heads.

What a layer computed with its H query heads, fewer cannot: the result is meant to be healed by further training. With
no head left out, it computes the same.

Shapes: D model dimension, H query heads and G key/value heads of d numbers.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from rxlm.folders import saving
from rxlm.llm.config import DecoderLMConfig
from rxlm.llm.modeling import DecoderLMForCausalLM
from rxlm.llm.portable import carry_code
from rxlm.nn.heads import HeadCounts, head_counts
from rxlm.nn.llama_shape import LlamaShape
from rxlm.nn.pretrained import Pretrained, layer_weights

Method = Literal["keep", "pool"]


def from_gqa(
    model: str | Path,
    attention: str | None = None,
    *,
    query_heads: int | None = None,
    kv_heads: int | None = None,
    method: Method = "pool",
) -> DecoderLMForCausalLM:
    """Return a Llama- or Qwen-style checkpoint as a model with fewer query heads.

    Args:
        model: folder, id on the hub, or a GGUF file.
        attention: kind of attention, in the proportions of its heads; None: the counts are given, and what is not
            given stays as it is.
        query_heads, kv_heads: how many the result has.
        method: which query heads stand for those that share their keys and values: "keep" the ones that write most
            into the residual stream, and drop the others; "pool": their mean, with the sum of what they wrote.

    Raises `UnsupportedModelError` for a model of another kind, and ValueError where heads cannot be divided so.
    """
    if method not in get_args(Method):
        raise ValueError(f"method must be one of {', '.join(get_args(Method))}, got {method!r}.")
    pretrained = Pretrained(model)
    shape = pretrained.shape
    counts = _target(shape, attention, query_heads, kv_heads)
    source = pretrained.model
    weights = source.state_dict()
    converted = DecoderLMForCausalLM(_config(shape, counts, pretrained.values)).to(source.dtype)
    result = {"model.embed_tokens.weight": weights["model.embed_tokens.weight"]}
    result["model.norm.weight"] = weights["model.norm.weight"]
    result["lm_head.weight"] = weights["lm_head.weight"]
    for number in range(shape.num_layers):
        layer = reduce_heads(layer_weights(weights, number, shape), shape, counts, method)
        result |= {f"model.layers.{number}.{name}": value for name, value in layer.items()}
    converted.load_state_dict(result)
    converted.generation_config = source.generation_config
    return converted.eval()


def save_converted(
    converted: DecoderLMForCausalLM, source: str | Path, folder: Path, *, carries_code: bool = False
) -> None:
    """Save a converted model with its source's tokenizer, and its code where it `carries_code`: all, or nothing."""
    with saving(folder) as draft:
        converted.save_pretrained(draft)
        Pretrained(source).tokenizer.save_pretrained(draft)
        if carries_code:
            carry_code(draft)


def _target(shape: LlamaShape, attention: str | None, query_heads: int | None, kv_heads: int | None) -> HeadCounts:
    if attention is not None and (query_heads, kv_heads) != (None, None):
        raise ValueError("Give a kind of attention or the numbers of its heads, not both.")
    if attention is not None:
        counts = head_counts(attention, shape.num_heads)
    else:
        counts = HeadCounts(query_heads or shape.num_heads, kv_heads or shape.num_kv_heads)
    for name, count, has in (
        ("query_heads", counts.num_query_heads, shape.num_heads),
        ("kv_heads", counts.num_kv_heads, shape.num_kv_heads),
    ):
        if count < 1 or (has % count and count % has):
            raise ValueError(f"{name} must divide the model's {has}, or be a multiple of it; got {count}.")
    if counts.num_query_heads > shape.num_heads:
        raise ValueError(f"query_heads must be at most the model's {shape.num_heads}, got {counts.num_query_heads}.")
    if counts.num_query_heads % counts.num_kv_heads:
        raise ValueError(
            f"query_heads must be a multiple of kv_heads, got {counts.num_query_heads} and {counts.num_kv_heads}."
        )
    return counts


def _config(shape: LlamaShape, counts: HeadCounts, values: Mapping[str, Any]) -> DecoderLMConfig:
    return DecoderLMConfig(
        vocab_size=shape.vocab_size,
        hidden_size=shape.dim,
        intermediate_size=shape.ff_dim,
        num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.num_heads,
        attention=None,
        num_query_heads=counts.num_query_heads,
        num_key_value_heads=counts.num_kv_heads,
        head_dim=shape.head_dim,
        sliding_window=shape.sliding_window,
        qk_norm=shape.qk_norm,
        attention_bias=shape.qkv_bias,
        attention_output_bias=shape.out_bias,
        hidden_act=shape.activation,
        rms_norm_eps=shape.norm_eps,
        rope_parameters=dict(shape.rope),
        max_position_embeddings=shape.max_positions,
        tie_word_embeddings=shape.tied_head,
        pad_token_id=values.get("pad_token_id"),
        bos_token_id=values.get("bos_token_id"),
        eos_token_id=values.get("eos_token_id"),
    )


def reduce_heads(
    layer: Mapping[str, Tensor], shape: LlamaShape, counts: HeadCounts, method: Method
) -> dict[str, Tensor]:
    """Return a layer's weights with fewer heads of queries, and fewer or more of keys and values.

    Key/value heads that become one are averaged (Ainslie et al., 2023); one that becomes several is repeated.
    """
    result = dict(layer)
    if counts.num_query_heads != shape.num_heads:
        _reduce_queries(result, shape, shape.num_heads // counts.num_query_heads, method)
    for name in ("k_proj", "v_proj"):
        for part in ("weight", "bias"):
            key = f"attention.{name}.{part}"
            if key in result:
                result[key] = _regroup(result[key], shape, counts.num_kv_heads)
    return result


def _reduce_queries(layer: dict[str, Tensor], shape: LlamaShape, size: int, method: Method) -> None:
    """Let one query head stand for each `size` neighbours, which share their keys and values where they can."""
    width = shape.head_dim
    out = layer["attention.out_proj.weight"].unflatten(1, (-1, size, width))  # (D, H', size, d)
    chosen = None
    if method == "keep":
        written = _written(layer, shape).unflatten(0, (-1, size))
        chosen = written.argmax(1)
        new_out = out[:, torch.arange(len(chosen)), chosen]
    else:
        new_out = out.sum(2)
    layer["attention.out_proj.weight"] = new_out.flatten(1).contiguous()
    for part in ("weight", "bias"):
        key = f"attention.q_proj.{part}"
        if key in layer:
            heads = layer[key].unflatten(0, (-1, size, width))
            kept = heads.mean(1) if chosen is None else heads[torch.arange(len(chosen)), chosen]
            layer[key] = kept.flatten(0, 1).contiguous()


def _written(layer: Mapping[str, Tensor], shape: LlamaShape) -> Tensor:
    """Return how much each query head can write into the residual stream: the norm of W_out W_v, (H,)."""
    values = layer["attention.v_proj.weight"].unflatten(0, (-1, shape.head_dim)).float()  # (G, d, D)
    out = layer["attention.out_proj.weight"].unflatten(1, (-1, shape.head_dim)).float().transpose(0, 1)  # (H, D, d)
    values = values.repeat_interleave(shape.num_heads // shape.num_kv_heads, dim=0)
    # The norm of A B by the small Gram matrices: |A B|^2 = trace(A^T A  B B^T).
    return ((out.transpose(1, 2) @ out) * (values @ values.transpose(1, 2))).sum((1, 2)).clamp(min=0).sqrt()


def _regroup(values: Tensor, shape: LlamaShape, count: int) -> Tensor:
    heads = values.unflatten(0, (-1, shape.head_dim))
    if count < shape.num_kv_heads:
        heads = heads.unflatten(0, (count, -1)).mean(1)
    elif count > shape.num_kv_heads:
        heads = heads.repeat_interleave(count // shape.num_kv_heads, dim=0)
    return heads.flatten(0, 1).contiguous()
