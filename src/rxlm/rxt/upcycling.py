"""A pretrained causal language model becomes a Reactive Transformer.

The model's layers are the decoder; some of them get memory cross-attention, whose output projection is zero at first:
reading is closed, and logits are the language model's own, whatever the memory holds. What the memory may remember of a
turn is what the same layers, without the memory, made of it. The memory itself begins as zeros, whose values are zero:
before a conversation's first turn it adds nothing even when reading is open, so that first answers stay the language
model's own after training, too.

Shapes: L memory layers, S slots, D model dimension.
"""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Literal, cast, get_args

import torch
from torch import Tensor, nn

from rxlm.config import ConfigError, require
from rxlm.memory.slots.config import MemoryAttentionConfig
from rxlm.nn.attention import AttentionConfig
from rxlm.nn.feed_forward import FeedForwardConfig
from rxlm.nn.pretrained import LlamaShape, Pretrained, layer_weights
from rxlm.rxt.chat_template import interaction_form
from rxlm.rxt.config import DecoderConfig, EncoderConfig
from rxlm.rxt.core import RxTModel
from rxlm.rxt.models import RxTAlpha

EncoderKind = Literal["self", "own"]
ENCODERS: tuple[EncoderKind, ...] = get_args(EncoderKind)
_HALF_OPEN = 0.5  # what a sigmoid gate with weights of zero lets through


def upcycle(
    model: str | Path,
    *,
    memory_layers: Sequence[int] | None = None,
    num_slots: int = 128,
    max_seq_len: int = 256,
    encoder: EncoderKind = "self",
    system: str | None = None,
) -> RxTAlpha:
    """Return a Reactive Transformer made of a Llama- or Qwen-style language model, with its tokenizer.

    Args:
        model: folder, hub id or GGUF file of the language model.
        memory_layers: numbers of the layers that read the memory, from 0; `middle_layers` when None.
        num_slots: memory slots S of each.
        max_seq_len: longest interaction in tokens, at most the language model's positions.
        encoder: "self": the language model encodes what was said, without further weights. "own": a bidirectional
            encoder of a layer a memory layer, with fresh weights.
        system: a system prompt that is written in each turn; see `interaction_form`.

    Raises `UnsupportedModelError` for a model of another kind, and `ChatTemplateError` where its tokenizer gives turns
    no form.
    """
    require(encoder in ENCODERS, f"encoder must be one of {', '.join(ENCODERS)}, got {encoder!r}.")
    pretrained = Pretrained(model)
    shape = pretrained.shape
    layers = middle_layers(shape.num_layers) if memory_layers is None else tuple(memory_layers)
    require(
        1 <= max_seq_len <= shape.max_positions,
        f"max_seq_len must be between 1 and the language model's {shape.max_positions} positions, got {max_seq_len}.",
    )
    form = interaction_form(pretrained.tokenizer, system)
    decoder = decoder_config(pretrained, layers, num_slots, max_seq_len)
    upcycled = RxTAlpha(
        decoder,
        None if encoder == "self" else _encoder_config(decoder),
        memory_attention_config(decoder),
        form,
    )
    take_weights(upcycled, pretrained.model.state_dict(), shape)
    upcycled.set_tokenizer(pretrained.tokenizer)
    start_memory(upcycled)
    return upcycled.eval()


def middle_layers(num_layers: int) -> tuple[int, ...]:
    """Return the numbers of up to five layers, evenly from two to four fifths of a model's depth.

    There a token's state tells both what it is and what it belongs to.
    """
    return tuple(sorted({num_layers * tenths // 10 for tenths in (4, 5, 6, 7, 8)}))


def decoder_config(
    pretrained: Pretrained, memory_layers: tuple[int, ...], num_slots: int, max_seq_len: int
) -> DecoderConfig:
    """Return the configuration of a decoder whose layers are the language model's."""
    shape = pretrained.shape
    if shape.sliding_window is not None and shape.sliding_window < max_seq_len:
        raise ConfigError(
            f"max_seq_len must be at most the language model's sliding window of {shape.sliding_window}, "
            f"got {max_seq_len}."
        )
    attention = AttentionConfig(
        num_heads=shape.num_heads,
        num_kv_heads=shape.num_kv_heads,
        head_dim=shape.head_dim,
        qk_norm=shape.qk_norm,
        qkv_bias=shape.qkv_bias,
        out_bias=shape.out_bias,
    )
    return DecoderConfig(
        num_layers=len(memory_layers),
        memory_layers=memory_layers,
        depth=shape.num_layers,
        vocab_size=shape.vocab_size,
        dim=shape.dim,
        max_seq_len=max_seq_len,
        num_slots=num_slots,
        attention=attention,
        memory_reader=attention.replace(gate="sigmoid", qkv_bias=False),
        feed_forward=FeedForwardConfig(ff_dim=shape.ff_dim, activation=shape.activation),
        norm_eps=shape.norm_eps,
        tie_head=shape.tied_head,
        rope_base=float(shape.rope.get("rope_theta", 10000.0)),
        rope_frequencies=pretrained.rope_frequencies(),
    )


def memory_attention_config(decoder: DecoderConfig) -> MemoryAttentionConfig:
    """Return the memory attention of an upcycled model: empty slots, to which states of single tokens are copied."""
    return MemoryAttentionConfig(
        num_layers=decoder.num_layers,
        dim=decoder.dim,
        num_slots=decoder.num_slots,
        max_seq_len=decoder.max_seq_len,
        variant="simple",
        write="copy",
        initial_memory="zeros",
    )


def _encoder_config(decoder: DecoderConfig) -> EncoderConfig:
    """Return an encoder with layers like the decoder's, one a memory layer."""
    shared = [field.name for field in fields(EncoderConfig) if field.name != "memory_reader"]
    return EncoderConfig(**{name: getattr(decoder, name) for name in shared})


@torch.no_grad()
def take_weights(model: RxTAlpha, weights: dict[str, Tensor], shape: LlamaShape) -> None:
    """Put the language model's weights into the decoder."""
    decoder = model.decoder
    found: dict[str, Tensor] = {
        "embedding.weight": weights["model.embed_tokens.weight"],
        "final_norm.weight": weights["model.norm.weight"],
        "head.weight": weights["lm_head.weight"],
    }
    for number in range(shape.num_layers):
        layer = layer_weights(weights, number, shape)
        found |= {f"layers.{number}.{name}": value for name, value in layer.items()}
    missing, unknown = decoder.load_state_dict(found, strict=False)
    left = [name for name in missing if ".memory_" not in name and ".slot_norm." not in name]
    assert not left, left
    assert not unknown, unknown


@torch.no_grad()
def start_memory(model: RxTModel) -> None:
    """Give memory reading the norm and the weights of self-attention, and close it.

    So remembered states look to a layer like tokens in its context: what the language model knows of looking things up
    there serves at once.
    """
    for layer in model.decoder.memory_layers:
        for part in ("q_proj", "k_proj", "v_proj", "q_norm", "k_norm"):
            own, read = (getattr(each, part) for each in (layer.attention, layer.memory_reader))
            if own is not None:
                read.weight.copy_(own.weight)
        for norm in (layer.memory_norm, layer.slot_norm):
            cast(nn.RMSNorm, norm).weight.copy_(cast(nn.RMSNorm, layer.attention_norm).weight)
    set_reading(model, 0.0)


def reading_is_closed(model: RxTModel) -> bool:
    """Tell whether memory layers write nothing into the residual stream, whatever the memory holds."""
    readers = [layer.memory_reader for layer in model.decoder.memory_layers]
    return not any(reader.out_proj.weight.any() for reader in readers if reader is not None)


@torch.no_grad()
def set_reading(model: RxTModel, share: float) -> None:
    """Let memory layers write `share` of what their self-attention would into the residual stream; 0 closes reading.

    Gates on what is read are set back to half open.
    """
    for layer in model.decoder.memory_layers:
        reader = layer.memory_reader
        assert reader is not None
        if reader.gate_proj is not None:
            nn.init.zeros_(reader.gate_proj.weight)
        opening = 1.0 if reader.gate_proj is None else _HALF_OPEN
        reader.out_proj.weight.copy_(share / opening * layer.attention.out_proj.weight)
        if reader.out_proj.bias is not None:
            nn.init.zeros_(reader.out_proj.bias)
