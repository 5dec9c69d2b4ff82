"""Builds transformer layers from a component's configuration, and gives them their first weights."""

import torch
from torch import Tensor, nn

from rxlm.nn.attention import Attention
from rxlm.nn.feed_forward import FeedForward
from rxlm.nn.layer import TransformerLayer
from rxlm.nn.moe import MixtureOfExperts
from rxlm.nn.rope import RotaryEmbedding
from rxlm.rxt.config import FeedForwardKind, RxTComponentConfig

EMBEDDING_STD = 0.02


def build_layer(config: RxTComponentConfig, kind: FeedForwardKind, *, ff_dim: int, memory: bool) -> TransformerLayer:
    """Return one layer with a feed-forward of that kind (`ff_dim` if dense), with or without memory cross-attention."""
    attention = Attention(
        config.dim,
        config.num_heads,
        *config.attention_heads,
        head_dim=config.head_dim,
        gate_activation=config.attention_gate,
        qk_norm=config.qk_norm,
        norm_eps=config.norm_eps,
        qkv_bias=config.qkv_bias,
        out_bias=config.attention_bias,
        sliding_window=config.sliding_window,
        backend=config.attention_backend,
    )
    memory_reader = None
    if memory:
        memory_reader = Attention(
            config.dim,
            config.num_heads,
            *config.memory_heads,
            head_dim=config.head_dim,
            gate_activation=config.memory_attention_gate,
            qk_norm=config.memory_qk_norm,
            norm_eps=config.norm_eps,
            out_bias=config.attention_bias,
            backend=config.attention_backend,
        )
    return TransformerLayer(
        config.dim,
        attention,
        build_feed_forward(config, kind, ff_dim),
        norm=config.norm,
        norm_eps=config.norm_eps,
        memory_reader=memory_reader,
    )


def build_feed_forward(
    config: RxTComponentConfig, kind: FeedForwardKind, ff_dim: int
) -> FeedForward | MixtureOfExperts:
    """Return a dense feed-forward of hidden dimension `ff_dim`, or the configured mixture of experts."""
    if kind == "dense":
        return FeedForward(
            config.dim, ff_dim, gated=config.ff_gated, activation=config.ff_activation, bias=config.ff_bias
        )
    return MixtureOfExperts(
        config.dim,
        config.ff_dim,
        config.num_experts,
        config.experts_per_token,
        num_shared_experts=config.num_shared_experts,
        shared_hidden_dim=config.shared_expert_dim,
        gated=config.ff_gated,
        activation=config.ff_activation,
        bias=config.expert_bias,
        shared_bias=config.shared_expert_bias,
        weighted_shared=config.weighted_shared_experts,
    )


def build_layers(config: RxTComponentConfig, *, memory: bool) -> nn.ModuleList:
    """Return the whole stack; with `memory`, the layers that belong to a memory layer have memory cross-attention."""
    stateless_dim = config.dense_ff_dim or config.ff_dim
    return nn.ModuleList(
        build_layer(config, kind, ff_dim=config.ff_dim if is_memory else stateless_dim, memory=memory and is_memory)
        for kind, is_memory in config.layer_kinds
    )


def build_rope(config: RxTComponentConfig) -> RotaryEmbedding:
    """Return the rotary embedding of a component."""
    return RotaryEmbedding(config.width_of_head, config.rope_base, config.rope_frequencies)


def new_embedding(config: RxTComponentConfig) -> nn.Embedding:
    """Return the token embedding, its weights still to be set."""
    return nn.Embedding.from_pretrained(torch.empty(config.vocab_size, config.dim), freeze=False)


@torch.no_grad()
def initialise(embedding: nn.Embedding, layers: nn.ModuleList) -> None:
    """Scale first weights: a small embedding, and residual branches that add up to about one over the depth.

    Everything else keeps PyTorch's defaults (uniform, 1 / sqrt(fan in)).
    """
    if embedding.weight.is_meta:
        return  # a shape to load weights into
    nn.init.normal_(embedding.weight, std=EMBEDDING_STD)
    for layer in layers:
        for module in layer.modules():
            if isinstance(module, (Attention, FeedForward)):
                module.out_proj.weight.mul_((2 * len(layers)) ** -0.5)


def embed(embedding: nn.Embedding, ids: Tensor) -> Tensor:
    """Look up token ids (B, T): (B, T, D). ValueError for an id outside of the vocabulary, on a CPU."""
    try:
        return embedding(ids)
    except IndexError:  # cheaper than looking at every id before
        check_range(ids, embedding.num_embeddings)
        raise


def check_tokens(ids: Tensor, mask: Tensor | None, config: RxTComponentConfig) -> None:
    """Raise ValueError unless `ids` (B, T) are token ids that the model can read, and `mask` fits them."""
    check_shape(ids, mask, config)
    check_range(ids, config.vocab_size)


def check_shape(ids: Tensor, mask: Tensor | None, config: RxTComponentConfig, segments: Tensor | None = None) -> None:
    """Raise ValueError unless `ids` (B, T) are of a type and length that the model can read, and the others fit."""
    if ids.dim() != 2 or ids.dtype not in (torch.long, torch.int):
        raise ValueError(f"Token ids are whole numbers of shape (B, T), got {tuple(ids.shape)} of {ids.dtype}.")
    if ids.shape[1] == 0:
        raise ValueError("There are no tokens to read: an interaction has at least one.")
    if ids.shape[1] > config.max_seq_len:
        raise ValueError(f"The interaction has {ids.shape[1]} tokens; the model reads at most {config.max_seq_len}.")
    if mask is not None and mask.shape != ids.shape:
        raise ValueError(f"The attention mask has shape {tuple(mask.shape)}, the token ids {tuple(ids.shape)}.")
    if segments is not None and segments.shape != ids.shape:
        raise ValueError(f"The segments have shape {tuple(segments.shape)}, the token ids {tuple(ids.shape)}.")
    if segments is not None and mask is not None:
        raise ValueError("Segments already say what is padding (0): give them or an attention mask, not both.")


def check_range(ids: Tensor, vocab_size: int) -> None:
    """Raise ValueError where token ids are outside of the vocabulary, on a CPU."""
    if ids.device.type != "cpu" or not ids.numel():
        return  # reading values back from a GPU would stall it
    low, high = ids.aminmax()
    if low < 0 or high >= vocab_size:
        wrong = int(low) if low < 0 else int(high)
        raise ValueError(f"Token id {wrong} is outside of the model's vocabulary of {vocab_size}.")
