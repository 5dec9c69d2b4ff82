"""Multi-head attention in which the head counts decide the kind: MHA, GQA, MQA and the SQA family (see `nn.heads`).

With H heads, Hq query heads and Hkv key/value heads of d = dim / H: Hq query heads share Hkv key/value heads where
Hq >= Hkv; in reverse SQA (Hq < Hkv) query head j mod Hq serves key/value head j. The output projection reads
max(Hq, Hkv) heads.

Shapes: B batch, T query tokens, S key tokens, D model dimension.
"""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rxlm.config import Config, config, require, require_bool, require_choice, require_int
from rxlm.nn.cache import LayerCache
from rxlm.nn.feed_forward import ACTIVATIONS
from rxlm.nn.flash import flash_attention, flash_unavailable
from rxlm.nn.half_attention import HALF, half_attention, half_attention_pays
from rxlm.nn.heads import HeadCounts, check_head_counts
from rxlm.nn.key_values import KeyValues
from rxlm.nn.norm import RMSNorm
from rxlm.nn.rope import Rotation, rotate
from rxlm.shapes import Bool, Float, Int, Shaped

AttentionBackend = Literal["sdpa", "flash", "auto"]
BACKENDS: tuple[AttentionBackend, ...] = get_args(AttentionBackend)


@config
class AttentionConfig(Config):
    """Kind of an attention, and what builds it.

    Fields:
        num_heads: heads H of the model.
        num_query_heads: heads of the queries, H when None.
        num_kv_heads: heads of keys and values, as many as the queries when None.
        head_dim: dimension d of a head, dim / num_heads when None.
        gate: name of an activation: the output of the heads is multiplied by act(gate_proj(x)) before the output
            projection. None: no gate.
        qk_norm: RMSNorm over the head dimension on queries and keys, before the rotation.
        qkv_bias, out_bias: biases of the projections to queries, keys and values, and of the output projection.
        sliding_window: a query sees only keys less than this many positions away. None: all.
        backend: "sdpa" (PyTorch's), "flash" (flash-attn; an error where it cannot run) or "auto" (flash-attn
            where it is installed and can run). Calls with a mask always take SDPA: flash-attn has none.
    """

    num_heads: int = 16
    num_query_heads: int | None = None
    num_kv_heads: int | None = None
    head_dim: int | None = None
    gate: str | None = None
    qk_norm: bool = False
    qkv_bias: bool = False
    out_bias: bool = False
    sliding_window: int | None = None
    backend: AttentionBackend = "sdpa"

    def __post_init__(self) -> None:
        require_int(self, "num_heads", "num_query_heads", "num_kv_heads", "head_dim", "sliding_window")
        require_choice(self, "gate", (None, *ACTIVATIONS))
        require_bool(self, "qk_norm", "qkv_bias", "out_bias")
        require_choice(self, "backend", BACKENDS)
        check_head_counts(self.num_heads, *self.heads)

    @property
    def heads(self) -> HeadCounts:
        """How many heads queries have, and keys and values."""
        query = self.num_query_heads or self.num_heads
        return HeadCounts(query, self.num_kv_heads or query)

    def width(self, dim: int) -> int:
        """Return the dimension d of a head in a model of dimension `dim`."""
        divides = self.head_dim is not None or dim % self.num_heads == 0
        require(divides, f"dim must be a multiple of num_heads, got dim={dim} and num_heads={self.num_heads}.")
        return self.head_dim or dim // self.num_heads

    def build(self, dim: int, norm_eps: float | None = None) -> "Attention":
        """Return such an attention for a model of dimension `dim`; `norm_eps` as in `Attention`."""
        return Attention(dim, self, norm_eps)


class Attention(nn.Module):
    """Attention of any kind of the family, called as `attention(x, y)`.

    Args:
        dim: model dimension D.
        config: everything else.
        norm_eps: epsilon of the norms on queries and keys, PyTorch's default when None.
    """

    def __init__(self, dim: int, config: AttentionConfig, norm_eps: float | None = None) -> None:
        super().__init__()
        self.num_query_heads, self.num_kv_heads = config.heads
        self.head_dim = config.width(dim)
        if config.backend == "flash" and (reason := flash_unavailable()):
            raise ValueError(f"attention backend 'flash' cannot be honoured: {reason}")
        self.sliding_window = config.sliding_window
        self.backend = config.backend
        query_dim = self.num_query_heads * self.head_dim
        kv_dim = self.num_kv_heads * self.head_dim
        out_dim = max(query_dim, kv_dim)
        self.q_proj = nn.Linear(dim, query_dim, bias=config.qkv_bias)
        self.k_proj = nn.Linear(dim, kv_dim, bias=config.qkv_bias)
        self.v_proj = nn.Linear(dim, kv_dim, bias=config.qkv_bias)
        self.out_proj = nn.Linear(out_dim, dim, bias=config.out_bias)
        self.gate_proj = nn.Linear(dim, out_dim, bias=False) if config.gate else None
        self.gate_activation = ACTIVATIONS[config.gate or "identity"]
        self.q_norm = RMSNorm(self.head_dim, eps=norm_eps) if config.qk_norm else None
        self.k_norm = RMSNorm(self.head_dim, eps=norm_eps) if config.qk_norm else None

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        y: Float[Tensor, "B S D"] | KeyValues | None = None,
        *,
        query_rotation: Rotation | None = None,
        key_rotation: Rotation | None = None,
        mask: Bool[Tensor, "#B 1 #T S"] | None = None,
        causal: bool = False,
        cache: LayerCache | None = None,
        layer: int = 0,
    ) -> Float[Tensor, "B T D"]:
        """Attend from `x` (B, T, D) to `y` and return (B, T, D).

        Args:
            x: source of the queries.
            y: source of keys and values (B, S, D), or keys and values that `keys_values` made before;
                None for self-attention.
            query_rotation: rotary embedding of the queries; None for none. Likewise `key_rotation`.
            mask: True where a query may attend, broadcastable to (B, 1, T, S); replaces the sliding window.
            causal: query t attends to keys up to S - T + t. Without a mask, T and S are equal; a mask hides those keys
                itself, and need not be read there.
            cache: key/value cache that keys and values of `x` are appended to, as layer number `layer`.
        """
        if not isinstance(y, KeyValues):
            y = self.keys_values(x if y is None else y, key_rotation)
        queries = self._heads(self.q_proj(x), self.num_query_heads, self.q_norm)
        if query_rotation is not None:
            queries = rotate(queries, query_rotation)
        if cache is not None:
            y = cache.append(layer, y.keys, y.values)
        if y.mask is not None:
            mask = y.mask_of_heads if mask is None else mask & y.mask_of_heads
        heads = self._attend(queries, y, mask, causal)
        heads = heads.transpose(1, 2).flatten(2)
        if self.gate_proj is not None:
            heads = heads * self.gate_activation(self.gate_proj(x))
        return self.out_proj(heads)

    def keys_values(
        self,
        y: Float[Tensor, "B S D"],
        rotation: Rotation | None = None,
        mask: Bool[Tensor, "R S"] | Bool[Tensor, "R T S"] | None = None,
    ) -> KeyValues:
        """Project `y` (B, S, D) once, for many calls; `mask` as in `KeyValues`, of the R rows that attend."""
        keys = self._heads(self.k_proj(y), self.num_kv_heads, self.k_norm)
        if rotation is not None:
            keys = rotate(keys, rotation)
        return KeyValues(keys, self._heads(self.v_proj(y), self.num_kv_heads, None), mask)

    def _heads(self, projected: Tensor, count: int, norm: nn.Module | None) -> Tensor:
        heads = projected.unflatten(-1, (count, self.head_dim)).transpose(1, 2)
        return heads if norm is None else norm(heads)

    def _attend(self, queries: Tensor, y: KeyValues, mask: Tensor | None, causal: bool) -> Tensor:
        keys, values = y.keys, y.values
        if self.num_query_heads < self.num_kv_heads:
            queries = queries.repeat(1, self.num_kv_heads // self.num_query_heads, 1, 1)
        if y.attend is not None:
            return y.attend(queries, keys, values)
        window = self.sliding_window
        if window is not None and (mask is not None or keys.shape[2] <= window):
            window = None
        if mask is None and self._use_flash(queries):
            return flash_attention(queries, keys, values, causal=causal, window=window)
        if window is not None:
            return _windowed_attention(queries, keys, values, window, causal)
        return _sdpa(queries, keys, values, mask, causal)

    def _use_flash(self, queries: Tensor) -> bool:
        if self.backend == "sdpa":
            return False
        reason = flash_unavailable(queries)
        if reason and self.backend == "flash":
            raise ValueError(f"attention backend 'flash' cannot be honoured: {reason}")
        return reason is None


def _sdpa(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, causal: bool = False) -> Tensor:
    grouped = queries.shape[1] != keys.shape[1]
    if grouped and queries.shape[2] == 1:
        # A group's query heads take the place of query tokens: its keys and values are read once, not once a head.
        heads = _sdpa(queries.reshape(len(keys), keys.shape[1], -1, keys.shape[3]), keys, values, mask)
        return heads.reshape(queries.shape)
    learns = any(each is not None and each.requires_grad for each in (queries, keys, values, mask))
    if learns and queries.device.type == "cpu":
        return _sdpa_that_learns(queries, keys, values, mask, causal)
    mask = _mask_of_query_heads(mask, queries, keys)
    if grouped and mask is not None and queries.device.type == "cuda":
        # Its fused kernels take a mask for equal numbers of heads alone.
        shared = queries.shape[1] // keys.shape[1]
        keys, values, grouped = keys.repeat_interleave(shared, 1), values.repeat_interleave(shared, 1), False
    if mask is not None and mask.requires_grad and torch.is_grad_enabled():
        queries = _with_gradient(queries)
    causal = causal and mask is None
    return F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, is_causal=causal, enable_gqa=grouped)


def _with_gradient(queries: Tensor) -> Tensor:
    """Return queries that have a gradient, so that a mask has its own.

    PyTorch's kernel keeps what the mask's gradient needs only where queries, keys or values have one, and fails
    backward without (pytorch issue 148476): below the first layer that learns, gates alone do.
    """
    return queries if queries.requires_grad else queries.detach().requires_grad_()


def _mask_of_query_heads(mask: Tensor | None, queries: Tensor, keys: Tensor) -> Tensor | None:
    """Return a mask of which each query head has its own, where each key/value head has."""
    num_heads = keys.shape[1]
    if mask is None or mask.dim() < 4 or not queries.shape[1] > num_heads == mask.shape[1] > 1:
        return mask
    return mask.repeat_interleave(queries.shape[1] // num_heads, dim=1)


def _sdpa_that_learns(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    """On a CPU, where PyTorch turns a mask into a bias slowly, and is slow backward in half precision."""
    half = queries.dtype in HALF
    dtype = torch.float32 if half else queries.dtype
    by_products = half_attention_pays(queries, keys, mask)
    if by_products and causal and mask is None:
        mask = torch.ones(queries.shape[2], keys.shape[2], dtype=torch.bool).tril()
    # Additive bias: 0 where visible, the lowest number where hidden, which is 0 after the softmax.
    bias = mask
    if mask is not None:
        bias = mask.to(dtype) if mask.is_floating_point() else (mask.to(dtype) - 1) * torch.finfo(dtype).max
    with torch.autocast("cpu", enabled=False):
        if by_products:
            return half_attention(queries, keys, values, bias, causal)
        attended = F.scaled_dot_product_attention(
            queries.to(dtype),
            keys.to(dtype),
            values.to(dtype),
            attn_mask=_mask_of_query_heads(bias, queries, keys),
            is_causal=causal and mask is None,
            enable_gqa=queries.shape[1] != keys.shape[1],
        )
        return attended.to(queries.dtype)


def _windowed_attention(queries: Tensor, keys: Tensor, values: Tensor, window: int, causal: bool) -> Tensor:
    """Attend within a sliding window, block by block: cost grows with T x window instead of T x T."""
    total = keys.shape[2]
    positions = torch.arange(total, device=queries.device)
    blocks = []
    for start in range(0, total, window):
        end = min(start + window, total)
        first, last = max(0, start - window + 1), end if causal else min(total, end + window - 1)
        distance = positions[start:end, None] - positions[first:last]
        mask = (distance < window) & (distance >= 0 if causal else distance > -window)
        blocks.append(_sdpa(queries[:, :, start:end], keys[:, :, first:last], values[:, :, first:last], mask))
    return torch.cat(blocks, dim=2)


def padding_mask(mask: Bool[Tensor, "B S"]) -> Bool[Tensor, "B 1 1 S"]:
    """Mask of attention in both directions over a padded batch, from a mask (B, S) of real tokens.

    Returns: (B, 1, 1, S). A row without any token sees everything, for a softmax over nothing is not a number; its
        result means nothing.
    """
    real = mask | ~mask.any(dim=1, keepdim=True)
    return real[:, None, None, :]


def segment_mask(
    segments: Shaped[Tensor, "B T"],
    positions: Int[Tensor, "B T"],
    *,
    causal: bool,
    sliding_window: int | None = None,
) -> Bool[Tensor, "B 1 T T"]:
    """Mask of self-attention that keeps to the documents of a row, without a cache.

    Args:
        segments: which document of its row a token belongs to, (B, T), any number or none of it padding; a mask of
            real tokens makes one document of them, and one of the padding.
        positions: position of each token in its document, (B, T), growing along the row.
        causal: a query sees no later key.
        sliding_window: a query sees only keys less than this many positions away; None for all.

    Returns: (B, 1, T, T), True where query t may attend to key s. Every query sees itself, so that no row of the
        softmax is empty.
    """
    mask = segments[:, :, None] == segments[:, None, :]
    if causal:
        mask = mask.tril()
    if sliding_window is not None:
        mask &= (positions[:, :, None] - positions[:, None, :]).abs() < sliding_window
    return mask[:, None]
