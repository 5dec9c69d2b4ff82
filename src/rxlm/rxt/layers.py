"""Builds transformer layers from a component's configuration, and gives them their first weights."""

import torch
from torch import Tensor, nn

from rxlm.memory.retained.gate import RetentionGateConfig
from rxlm.nn.attention import Attention, AttentionConfig
from rxlm.nn.feed_forward import FeedForward
from rxlm.nn.layer import TransformerLayer
from rxlm.nn.rope import RotaryEmbedding
from rxlm.rxt.config import ComponentConfig, FeedForwardKind

EMBEDDING_STD = 0.02


def build_layers(config: ComponentConfig) -> nn.ModuleList:
    """Return the whole stack of a component."""
    kinds, gate = config.layer_kinds, config.retention_gate
    num_gates = 0 if gate is None else gate.num_gates(len(kinds))
    return nn.ModuleList(
        build_layer(
            config, feed_forward, config.memory_reader if is_memory else None, gate if number < num_gates else None
        )
        for number, (feed_forward, is_memory) in enumerate(kinds)
    )


def build_layer(
    config: ComponentConfig,
    feed_forward: FeedForwardKind,
    memory_reader: AttentionConfig | None,
    retention_gate: RetentionGateConfig | None = None,
) -> TransformerLayer:
    """Return one layer of a component."""
    dim, eps = config.dim, config.norm_eps
    attention = config.attention.build(dim, eps)  # parts in this order: a seed gives each its first weights
    reader = None if memory_reader is None else memory_reader.build(dim, eps)
    return TransformerLayer(
        dim,
        attention,
        feed_forward.build(dim),
        norm=config.norm,
        norm_eps=eps,
        memory_reader=reader,
        retention_gate=None if retention_gate is None else retention_gate.build(dim, config.attention_heads[1]),
    )


def build_rope(config: ComponentConfig) -> RotaryEmbedding:
    """Return the rotary embedding of a component."""
    return RotaryEmbedding(config.width_of_head, config.rope_base, config.rope_frequencies)


def new_embedding(config: ComponentConfig) -> nn.Embedding:
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


def check_tokens(ids: Tensor, mask: Tensor | None, config: ComponentConfig) -> None:
    """Raise ValueError unless `ids` (B, T) are token ids that the model can read, and `mask` fits them."""
    check_shape(ids, mask, config)
    check_range(ids, config.vocab_size)


def check_shape(ids: Tensor, mask: Tensor | None, config: ComponentConfig, segments: Tensor | None = None) -> None:
    """Raise ValueError unless `ids` (B, T) are of a type and length that the model can read, and the others fit."""
    if ids.dim() != 2 or ids.dtype not in (torch.long, torch.int):
        raise ValueError(f"Token ids are whole numbers of shape (B, T), got {tuple(ids.shape)} of {ids.dtype}.")
    if ids.shape[1] == 0:
        raise ValueError("There are no tokens to read: an interaction has at least one.")
    if ids.shape[1] > config.longest_text:
        raise ValueError(f"The interaction has {ids.shape[1]} tokens; the model reads at most {config.longest_text}.")
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
