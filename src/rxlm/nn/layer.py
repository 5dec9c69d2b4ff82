"""One pre-norm transformer layer; without its memory it is a Llama-style layer.

Shapes: B batch, T tokens, D model dimension.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from rxlm.nn.attention import Attention
from rxlm.nn.cache import LayerCache
from rxlm.nn.feed_forward import FeedForward
from rxlm.nn.key_values import KeyValues, KeyValueSource
from rxlm.nn.moe import MixtureOfExperts, Routing
from rxlm.nn.norm import NormKind, make_norm
from rxlm.nn.rope import Rotation
from rxlm.shapes import Bool, Float


class TransformerLayer(nn.Module):
    """Self-attention, optional memory cross-attention and feed-forward, each with its residual.

    In memory cross-attention the queries come from the tokens, turned by the rotary embedding; keys and values
    come from the memory's slots after a norm, without rotation. A retention gate gives tokens, as self-attention reads
    them, the scores that a memory of kept tokens keeps them by.
    """

    parameter_groups: ClassVar[Mapping[str, str]] = {"retention_gate": "memory"}
    recomputes = False
    """Whether only the input is kept for the backward pass, and the rest computed again there."""

    def __init__(
        self,
        dim: int,
        attention: Attention,
        feed_forward: FeedForward | MixtureOfExperts,
        *,
        norm: NormKind = "rms",
        norm_eps: float | None = None,
        memory_reader: Attention | None = None,
        retention_gate: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.attention_norm = make_norm(norm, dim, norm_eps)
        self.attention = attention
        if memory_reader is not None:
            self.memory_norm = make_norm(norm, dim, norm_eps)
            self.slot_norm = make_norm(norm, dim, norm_eps)
        self.memory_reader = memory_reader
        self.retention_gate = retention_gate
        self.feed_forward_norm = make_norm(norm, dim, norm_eps)
        self.feed_forward = feed_forward

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        *,
        rotation: Rotation,
        memory: KeyValues | KeyValueSource | None = None,
        mask: Bool[Tensor, "#B 1 #T S"] | None = None,
        causal: bool = False,
        cache: LayerCache | None = None,
        layer: int = 0,
        routing: Routing | None = None,
        wanted: Bool[Tensor, "B T"] | None = None,
    ) -> Float[Tensor, "B T D"] | Float[Tensor, "N D"]:
        """Transform the residual stream `x` (B, T, D).

        `memory` is what the layer attends to of the memory: a source, or the keys and values that `read_memory` made of
        it for all tokens of a turn. With `wanted` only the tokens where it is True are returned, (N, D), and the
        feed-forward computes no others. The other arguments are those of `Attention`.
        """
        options = {
            "rotation": rotation, "memory": memory, "mask": mask, "causal": causal, "cache": cache, "layer": layer,
            "routing": routing, "wanted": wanted,
        }  # fmt: skip
        if self.recomputes and torch.is_grad_enabled():
            return checkpoint(self._transformed, x, use_reentrant=False, **options)
        return self._transformed(x, **options)

    def _transformed(
        self,
        x: Tensor,
        *,
        rotation: Rotation,
        memory: KeyValues | KeyValueSource | None,
        mask: Tensor | None,
        causal: bool,
        cache: LayerCache | None,
        layer: int,
        routing: Routing | None,
        wanted: Tensor | None,
    ) -> Tensor:
        normed = self.attention_norm(x)
        if self.retention_gate is not None and cache is not None:
            cache.note(layer, self.retention_gate(normed))
        x = x + self.attention(
            normed,
            query_rotation=rotation,
            key_rotation=rotation,
            mask=mask,
            causal=causal,
            cache=cache,
            layer=layer,
        )
        if self.memory_reader is not None and memory is not None:
            memory = memory if isinstance(memory, KeyValues) else self.read_memory(memory)
            x = x + self.memory_reader(self.memory_norm(x), memory, query_rotation=rotation)
        if wanted is None:
            return x + self.feed_forward(self.feed_forward_norm(x), routing)
        if isinstance(self.feed_forward, MixtureOfExperts):  # whose load is that of all tokens
            return (x + self.feed_forward(self.feed_forward_norm(x), routing))[wanted]
        x = x[wanted]
        return x + self.feed_forward(self.feed_forward_norm(x))

    def read_memory(self, source: KeyValueSource) -> KeyValues:
        """Project the slots that this layer attends to, (B, S, D), to keys and values."""
        assert self.memory_reader is not None
        read = self.memory_reader.keys_values(self.slot_norm(source.source), mask=source.mask)
        return read if source.rows is None else read.select(source.rows, source.mask)
