"""Training attention by a few batched products on a CPU, in half precision or with a bias that learns.

PyTorch's kernel takes 18 times as long backward in bfloat16 as in float32 there (see dev/LOG.md). These products take
half as long as its float32 kernel: the scores are computed in float32, as in flash attention, and their softmax is
rounded and kept for the way back. For a bias that learns PyTorch has no kernel at all, and repeats keys, values and the
bias for every query head.

Queries are taken in blocks, each with the keys that it sees: what none of a block's queries sees is not computed.

Shapes: B batch, H query heads, K key/value heads, T query tokens, S key tokens, d head dimension; t and s tokens of a
block.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import Tensor

from rxlm.shapes import Float

HALF = (torch.bfloat16, torch.float16)
SMALLEST, LARGEST = 2**11, 2**18
"""T * S between which this is faster, and the scores that are kept are few enough."""
BLOCK = 128
"""Queries that are taken together where none sees later keys."""


def half_attention_pays(queries: Tensor, keys: Tensor, mask: Tensor | None) -> bool:
    """Whether `half_attention` is the fastest way to attend."""
    if mask is not None and mask.requires_grad:
        return True
    return queries.dtype in HALF and SMALLEST <= queries.shape[2] * keys.shape[2] <= LARGEST


class Block(Protocol):
    """Queries that are taken together, `own`, and the keys that they see, `seen`."""

    @property
    def own(self) -> slice:
        """Places of the queries."""

    @property
    def seen(self) -> slice:
        """Places of the keys."""

    def bias(self, given: Tensor) -> Tensor:
        """Return what is added to the scores, (B or 1, K or 1, t or 1, s), made of what attention was given."""

    def add_gradient(self, total: Tensor, part: Tensor) -> None:
        """Add the gradient of the bias, `part` (B, K, t, s), to the gradient of what attention was given."""


@dataclass(frozen=True)
class _Rectangle:
    """A block of a bias that has an axis of queries, of length 1 where it is the same for all, and one of keys."""

    own: slice
    seen: slice

    def bias(self, given: Tensor) -> Tensor:
        return given[..., slice(None) if given.shape[-2] == 1 else self.own, self.seen]

    def add_gradient(self, total: Tensor, part: Tensor) -> None:
        place = self.bias(total)
        place += part.sum_to_size(place.shape)


def half_attention(
    queries: Float[Tensor, "B H T d"],
    keys: Float[Tensor, "B K S d"],
    values: Float[Tensor, "B K S d"],
    bias: Float[Tensor, "#T S"] | Float[Tensor, "#B #K #T S"] | None,
    causal: bool = False,
) -> Float[Tensor, "B H T d"]:
    """Attend from `queries` (B, H, T, d) to `keys` and `values` (B, K, S, d), H a multiple of K; return (B, H, T, d).

    `bias` is added to the scores, (T or 1, S) or (B or 1, K or 1, T or 1, S). `causal` says that the bias hides from
    query t all keys after key S - T + t.
    """
    if bias is not None and bias.dim() == 2:
        bias = bias[None, None]
    num_queries, num_keys = queries.shape[2], keys.shape[2]
    parts = blocks_of(num_queries) if causal else [slice(0, num_queries)]
    blocks = [_Rectangle(own, slice(0, num_keys - num_queries + own.stop if causal else num_keys)) for own in parts]
    return attend_in_blocks(queries, keys, values, bias, blocks)


def blocks_of(num_queries: int) -> list[slice]:
    """Return which of so many queries are taken together."""
    ends = [*range(BLOCK, num_queries - BLOCK // 2, BLOCK), num_queries]
    return [slice(*bounds) for bounds in pairwise((0, *ends))]


def attend_in_blocks(
    queries: Float[Tensor, "B H T d"],
    keys: Float[Tensor, "B K S d"],
    values: Float[Tensor, "B K S d"],
    given: Tensor | None,
    blocks: Sequence[Block],
) -> Float[Tensor, "B H T d"]:
    """Attend as `half_attention` does, in blocks that have each query once and make their bias of `given`."""
    with torch.autocast(queries.device.type, enabled=False):  # which would round the scores
        return _HalfAttention.apply(queries, keys, values, given, blocks)


class _HalfAttention(torch.autograd.Function):
    """Folds query heads that share keys into the query axis: their queries are one long list."""

    @staticmethod
    def forward(
        ctx: Any, queries: Tensor, keys: Tensor, values: Tensor, given: Tensor | None, blocks: Sequence[Block]
    ) -> Tensor:
        num_rows, num_heads, num_keys, head_dim = keys.shape
        exact = torch.float32 if keys.dtype in HALF else keys.dtype
        q = queries.reshape(num_rows * num_heads, -1, *queries.shape[2:])
        k, v = (x.reshape(num_rows * num_heads, num_keys, head_dim) for x in (keys, values))
        scaled, exact_keys = q.to(exact) * head_dim**-0.5, k.to(exact).transpose(1, 2)
        found, all_weights = torch.empty_like(q), []
        for block in blocks:
            scores = torch.bmm(scaled[:, :, block.own].flatten(1, 2), exact_keys[..., block.seen])
            if given is not None:
                by_head = scores.view(num_rows, num_heads, q.shape[1], -1, scores.shape[-1])
                by_head.add_(block.bias(given)[:, :, None])
            weights = scores.softmax(-1).to(v.dtype)
            found[:, :, block.own] = torch.bmm(weights, v[:, block.seen]).unflatten(1, (q.shape[1], -1))
            all_weights.append(weights)
        ctx.save_for_backward(q, k, v, *all_weights)
        ctx.blocks, ctx.shapes = blocks, (queries.shape, keys.shape)
        ctx.given = None if given is None else (given.shape, given.dtype)
        return found.view(queries.shape)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, *all_weights = ctx.saved_tensors
        (query_shape, key_shape), groups, scale = ctx.shapes, q.shape[1], q.shape[-1] ** -0.5
        grad = grad_outputs[0].reshape(q.shape)
        exact = torch.promote_types(q.dtype, torch.float32)  # sums over blocks are not rounded
        grad_queries = torch.empty_like(q)
        grad_keys, grad_values = (torch.zeros_like(x, dtype=exact) for x in (k, v))
        grad_given = None
        if ctx.needs_input_grad[3]:
            shape, dtype = ctx.given
            grad_given = torch.zeros(shape, dtype=torch.promote_types(dtype, torch.float32), device=q.device)
        for block, weights in zip(ctx.blocks, all_weights, strict=True):
            of_block = grad[:, :, block.own].flatten(1, 2)
            grad_values[:, block.seen] += torch.bmm(weights.transpose(1, 2), of_block)
            slope = torch.bmm(of_block, v[:, block.seen].transpose(1, 2))
            slope = torch._softmax_backward_data(slope, weights, -1, weights.dtype)
            grad_queries[:, :, block.own] = torch.bmm(slope, k[:, block.seen]).mul_(scale).unflatten(1, (groups, -1))
            grad_keys[:, block.seen] += torch.bmm(slope.transpose(1, 2), q[:, :, block.own].flatten(1, 2)).mul_(scale)
            if grad_given is not None:
                by_head = slope.view(*key_shape[:2], groups, -1, slope.shape[-1])
                block.add_gradient(grad_given, by_head.sum(2, dtype=grad_given.dtype))
        if grad_given is not None:
            grad_given = grad_given.to(ctx.given[1])
        grads = (grad_queries.view(query_shape), grad_keys.view(key_shape), grad_values.view(key_shape))
        return grads[0], grads[1].to(k.dtype), grads[2].to(v.dtype), grad_given, None
