"""Attention as it stands in a graph.

Shapes: B rows, H key/value heads, G query heads for each of them, T new tokens, P places of earlier tokens, S slots, D
model dimension, d head dimension.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rxlm.export.parts import REST, SAME, NormPart, as_linear, reshaped
from rxlm.export.rounding import Rounding
from rxlm.nn.attention import Attention
from rxlm.nn.key_values import KeyValues
from rxlm.nn.rope import Rotation


class Turns(NamedTuple):
    """How far new tokens are turned: cosines and sines of angles, (N, d / 2), and which of them a token has, (B, T)."""

    cos: Tensor
    sin: Tensor
    places: Tensor


def pairs_of(rotation: Rotation) -> Rotation:
    """Return cosine and sine of each pair's angle, (N, d / 2) each, of a rotation of N tokens."""
    cos, sin = (each[..., 1::2].flatten(0, 2).contiguous() for each in rotation)
    return Rotation(cos, sin)  # at the second of a pair, for the sine is negated at the first


class TakenCache:
    """A cache that lets the new tokens' keys and values come out, and those before them be where they are.

    Args:
        before: keys and values of earlier tokens, rotated, (B, H, 1, P, d).
    """

    def __init__(self, before: KeyValues) -> None:
        self.before = before
        self.new: list[Tensor] = []
        self.scores: list[Tensor] = []

    def note(self, layer: int, scores: Tensor) -> None:
        """Take the scores of the layer's retention gate, (B, H, T)."""
        self.scores.append(scores)


class SelfAttentionPart(nn.Module):
    """Self-attention in one softmax over what stands in two places: nothing is copied to be beside the new tokens.

    Queries, keys and values are one product; queries are scaled by their weights.

    Args:
        attention: whose weights are taken. rounding: of them.
    """

    def __init__(self, attention: Attention, rounding: Rounding) -> None:
        super().__init__()
        self.num_query_heads, self.num_kv_heads = attention.num_query_heads, attention.num_kv_heads
        self.head_dim, scale = attention.head_dim, attention.head_dim**-0.5
        self.num_turned = self.num_query_heads + self.num_kv_heads
        self.num_heads = self.num_turned + self.num_kv_heads
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        dim = attention.q_proj.in_features
        self.in_proj: nn.Module = nn.Linear(dim, self.num_heads * self.head_dim, bias=attention.q_proj.bias is not None)
        scales = (scale if attention.q_norm is None else 1.0, 1.0, 1.0)
        for name in ("weight", "bias") if attention.q_proj.bias is not None else ("weight",):
            own = [getattr(each, name) * by for each, by in zip(projections, scales, strict=True)]
            getattr(self.in_proj, name).data = torch.cat(own)
        self.norm = None
        if attention.q_norm is not None and attention.k_norm is not None:
            weights = [
                (attention.q_norm.weight * scale, self.num_query_heads),
                (attention.k_norm.weight, self.num_kv_heads),
            ]
            each_head = torch.cat([weight.expand(count, 1, -1) for weight, count in weights])
            self.register_buffer("norm_weight", each_head)
            self.norm = NormPart(nn.RMSNorm(self.head_dim, eps=attention.q_norm.eps))
        self.in_proj = as_linear(self.in_proj, rounding, attention.q_proj.weight)
        self.out = _Out(attention, rounding)

    norm_weight: Tensor

    def forward(
        self,
        x: Tensor,
        *,
        query_rotation: Turns,
        key_rotation: Turns,
        mask: Tensor,
        causal: bool,
        cache: TakenCache,
        layer: int,
    ) -> Tensor:
        """Attend from `x` (B, T, D) to the cache and to itself; returns (B, T, D).

        Args:
            x: the new tokens.
            query_rotation, key_rotation: of the new tokens, the same.
            mask: what is added to scores of earlier tokens and of the new ones, (B, H, 1, T, P + T).
            causal, layer: as in `Attention`; not needed here.
            cache: see `TakenCache`.
        """
        rows, tokens = x.shape[:2]
        heads = reshaped(self.in_proj(x), (SAME, SAME, self.num_heads, self.head_dim), (rows, tokens))
        heads = heads.transpose(1, 2)
        turned, values = heads[:, : self.num_turned], heads[:, self.num_turned :]
        if self.norm is not None:
            turned = self.norm(turned) * self.norm_weight
        turned = _rotated(turned, key_rotation)
        queries, keys = turned[:, : self.num_query_heads], turned[:, self.num_query_heads :]
        queries = _grouped(queries, self.num_kv_heads, self.head_dim)
        each = (SAME, self.num_kv_heads, 1, REST, self.head_dim)
        keys, values = (reshaped(own, each, (rows, 0, 0, tokens)) for own in (keys, values))
        cache.new = [keys, values]
        before, places = cache.before, cache.before.keys.shape[3]
        scores = torch.cat((queries @ before.keys.transpose(3, 4), queries @ keys.transpose(3, 4)), -1)
        weights = (scores + mask).softmax(-1)
        return self.out(weights[..., :places] @ before.values + weights[..., places:] @ values, x)


class SlotAttentionPart(nn.Module):
    """Attention to slots whose keys and values were made before.

    Args:
        attention: whose weights are taken. rounding: of them.
    """

    def __init__(self, attention: Attention, rounding: Rounding) -> None:
        super().__init__()
        self.num_query_heads, self.num_kv_heads = attention.num_query_heads, attention.num_kv_heads
        self.head_dim = attention.head_dim
        self.q_proj = as_linear(attention.q_proj, rounding)
        self.q_norm = None if attention.q_norm is None else NormPart(attention.q_norm)
        self.out = _Out(attention, rounding)

    def forward(self, x: Tensor, y: KeyValues, *, query_rotation: Turns | None) -> Tensor:
        """Attend from `x` (B, T, D) to slots; returns (B, T, D).

        Args:
            x: the new tokens.
            y: keys and values, (B, H, 1, S, d), and what is added to their scores, (B, 1, 1, T or 1, S).
            query_rotation: of the new tokens.
        """
        queries = reshaped(self.q_proj(x), (SAME, SAME, self.num_query_heads, self.head_dim), x.shape[:2])
        queries = (queries if self.q_norm is None else self.q_norm(queries)).transpose(1, 2)
        queries = _rotated(queries, query_rotation) * self.head_dim**-0.5
        scores = _grouped(queries, self.num_kv_heads, self.head_dim) @ y.keys.transpose(3, 4)
        return self.out((scores if y.mask is None else scores + y.mask).softmax(-1) @ y.values, x)


class SourceAttentionPart(nn.Module):
    """Attention whose keys and values are made of what it attends to.

    Args:
        attention: whose weights are taken. rounding: of them.
    """

    def __init__(self, attention: Attention, rounding: Rounding) -> None:
        super().__init__()
        self.num_kv_heads, self.head_dim = attention.num_kv_heads, attention.head_dim
        self.reader = SlotAttentionPart(attention, rounding)
        self.k_proj, self.v_proj = (as_linear(each, rounding) for each in (attention.k_proj, attention.v_proj))
        self.k_norm = None if attention.k_norm is None else NormPart(attention.k_norm)

    def forward(
        self,
        x: Tensor,
        y: Tensor | None = None,
        *,
        query_rotation: Turns | None = None,
        key_rotation: Turns | None = None,
        mask: Tensor | None = None,
        causal: bool = False,
        cache: None = None,
        layer: int = 0,
    ) -> Tensor:
        """Attend from `x` (B, T, D) to `y` (B, S, D), or to itself; returns (B, T, D).

        `mask` is what is added to scores, (B, 1, 1, T or 1, S), the rest as in `Attention`; no cache, and not causal.
        """
        y = x if y is None else y
        each = (SAME, SAME, self.num_kv_heads, self.head_dim)
        keys, values = (reshaped(project(y), each, y.shape[:2]) for project in (self.k_proj, self.v_proj))
        keys = _rotated((keys if self.k_norm is None else self.k_norm(keys)).transpose(1, 2), key_rotation)
        read = KeyValues(keys.unsqueeze(2), values.transpose(1, 2).unsqueeze(2), mask)
        return self.reader(x, read, query_rotation=query_rotation)


class _Out(nn.Module):
    """From heads (B, H, G, T, d) to what attention adds to the residual stream, (B, T, D)."""

    def __init__(self, attention: Attention, rounding: Rounding) -> None:
        super().__init__()
        self.out_proj = as_linear(attention.out_proj, rounding)
        self.gate_proj = None if attention.gate_proj is None else as_linear(attention.gate_proj, rounding)
        self.activation, self.width = attention.gate_activation, attention.out_proj.in_features

    def forward(self, heads: Tensor, x: Tensor) -> Tensor:
        merged = reshaped(heads.permute(0, 3, 1, 2, 4), (SAME, SAME, self.width), x.shape[:2])
        return self.out_proj(merged if self.gate_proj is None else merged * self.activation(self.gate_proj(x)))


def _rotated(x: Tensor, turns: Turns | None) -> Tensor:
    """Return heads `x` (B, H, T, d), rotated as `nn.rope.rotate` does."""
    if turns is None:
        return x
    settings: Any = {"interleaved": 1}
    inputs, kind = (x, turns.places, turns.cos, turns.sin), "com.microsoft::RotaryEmbedding"
    return torch.onnx.ops.symbolic(kind, inputs, settings, dtype=x.dtype, shape=x.shape, version=1)


def _grouped(queries: Tensor, num_kv_heads: int, head_dim: int) -> Tensor:
    """Return queries (B, H', T, d) by the key/value head that they attend to, (B, H, G, T, d)."""
    rows, count, tokens = queries.shape[:3]
    if count < num_kv_heads:  # query head j mod H' serves key/value head j
        queries = torch.cat([queries] * (num_kv_heads // count), 1)
    shared = max(1, count // num_kv_heads)
    return reshaped(queries, (SAME, num_kv_heads, shared, REST, head_dim), (rows, 0, 0, tokens))
