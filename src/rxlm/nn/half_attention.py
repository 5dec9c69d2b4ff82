"""Training attention by a few batched products on a CPU, in half precision or with a bias that learns.

PyTorch's kernel takes 18 times as long backward in bfloat16 as in float32 there (see dev/LOG.md). These products take
half as long as its float32 kernel: the scores are computed in float32, as in flash attention, and their softmax is
rounded and kept for the way back. For a bias that learns PyTorch has no kernel at all, and repeats keys, values and the
bias for every query head.

Shapes: B batch, H query heads, K key/value heads, T query tokens, S key tokens, d head dimension.
"""

from typing import Any

import torch
from torch import Tensor

from rxlm.shapes import Float

HALF = (torch.bfloat16, torch.float16)
SMALLEST, LARGEST = 2**11, 2**18
"""T * S between which this is faster, and the scores that are kept are few enough."""
BLOCK = 128
"""Queries that are taken together where none sees later keys: what none of them sees is not computed."""


def half_attention_pays(queries: Tensor, keys: Tensor, mask: Tensor | None) -> bool:
    """Whether `half_attention` is the fastest way to attend."""
    if mask is not None and mask.requires_grad:
        return True
    return queries.dtype in HALF and SMALLEST <= queries.shape[2] * keys.shape[2] <= LARGEST


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
    return _HalfAttention.apply(queries, keys, values, bias, causal)


class _HalfAttention(torch.autograd.Function):
    """Folds query heads that share keys into the query axis: their queries are one long list."""

    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None, causal: bool) -> Tensor:
        num_rows, num_heads, num_keys, head_dim = keys.shape
        exact = torch.float32 if keys.dtype in HALF else keys.dtype
        ctx.scale = head_dim**-0.5
        q = queries.reshape(num_rows * num_heads, -1, *queries.shape[2:])
        k, v = (x.reshape(num_rows * num_heads, num_keys, head_dim) for x in (keys, values))
        scaled, exact_keys = q.to(exact) * ctx.scale, k.to(exact).transpose(1, 2)
        ctx.blocks = _blocks(queries.shape[2], num_keys) if causal else [(slice(None), slice(None))]
        found, all_weights = torch.empty_like(q), []
        for own, seen in ctx.blocks:
            scores = torch.bmm(scaled[:, :, own].flatten(1, 2), exact_keys[..., seen])
            if bias is not None:
                by_head = scores.view(num_rows, num_heads, q.shape[1], -1, scores.shape[-1])
                by_head.add_(_of_queries(bias, own)[:, :, None, :, seen])
            weights = scores.softmax(-1).to(v.dtype)
            found[:, :, own] = torch.bmm(weights, v[:, seen]).unflatten(1, (q.shape[1], -1))
            all_weights.append(weights)
        ctx.save_for_backward(q, k, v, *all_weights)
        ctx.shapes, ctx.bias = (queries.shape, keys.shape), None if bias is None else (bias.shape, bias.dtype)
        return found.view(queries.shape)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, *all_weights = ctx.saved_tensors
        (query_shape, key_shape), groups = ctx.shapes, q.shape[1]
        grad = grad_outputs[0].reshape(q.shape)
        exact = torch.promote_types(q.dtype, torch.float32)  # sums over blocks are not rounded
        grad_queries = torch.empty_like(q)
        grad_keys, grad_values = (torch.zeros_like(x, dtype=exact) for x in (k, v))
        grad_bias = None
        if ctx.needs_input_grad[3]:
            shape, dtype = ctx.bias
            grad_bias = torch.zeros(shape, dtype=torch.promote_types(dtype, torch.float32), device=q.device)
        for (own, seen), weights in zip(ctx.blocks, all_weights, strict=True):
            of_block = grad[:, :, own].flatten(1, 2)
            grad_values[:, seen] += torch.bmm(weights.transpose(1, 2), of_block)
            slope = torch.bmm(of_block, v[:, seen].transpose(1, 2))
            slope = torch._softmax_backward_data(slope, weights, -1, weights.dtype)
            grad_queries[:, :, own] = torch.bmm(slope, k[:, seen]).mul_(ctx.scale).unflatten(1, (groups, -1))
            grad_keys[:, seen] += torch.bmm(slope.transpose(1, 2), q[:, :, own].flatten(1, 2)).mul_(ctx.scale)
            if grad_bias is not None:
                part = _of_queries(grad_bias, own)[..., seen]
                by_head = slope.view(*key_shape[:2], groups, -1, slope.shape[-1])
                part += by_head.sum(2, dtype=grad_bias.dtype).sum_to_size(part.shape)
        if grad_bias is not None:
            grad_bias = grad_bias.to(ctx.bias[1])
        found = (grad_queries.view(query_shape), grad_keys.view(key_shape), grad_values.view(key_shape))
        return found[0], found[1].to(k.dtype), found[2].to(v.dtype), grad_bias, None


def _blocks(num_queries: int, num_keys: int) -> list[tuple[slice, slice]]:
    """Return which queries are taken together, and the keys that the last of them sees."""
    ends = [*range(BLOCK, num_queries - BLOCK // 2, BLOCK), num_queries]
    return [
        (slice(begin, end), slice(0, num_keys - num_queries + end))
        for begin, end in zip([0, *ends[:-1]], ends, strict=True)
    ]


def _of_queries(bias: Tensor, queries: slice) -> Tensor:
    """Return a view of what of a bias (..., T or 1, S) is some queries'."""
    return bias if bias.shape[-2] == 1 else bias[..., queries, :]
