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
) -> Float[Tensor, "B H T d"]:
    """Attend from `queries` (B, H, T, d) to `keys` and `values` (B, K, S, d), H a multiple of K; return (B, H, T, d).

    `bias` is added to the scores, (T or 1, S) or (B or 1, K or 1, T or 1, S).
    """
    if bias is not None and bias.dim() == 2:
        bias = bias[None, None]
    return _HalfAttention.apply(queries, keys, values, bias)


class _HalfAttention(torch.autograd.Function):
    """Folds query heads that share keys into the query axis: their queries are one long list."""

    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
        num_rows, num_heads, num_keys, head_dim = keys.shape
        exact = torch.float32 if keys.dtype in HALF else keys.dtype
        ctx.scale = head_dim**-0.5
        q, k, v = (x.reshape(num_rows * num_heads, -1, head_dim) for x in (queries, keys, values))
        scores = torch.bmm(q.to(exact) * ctx.scale, k.to(exact).transpose(1, 2))
        if bias is not None:
            scores.view(num_rows, num_heads, -1, queries.shape[2], num_keys).add_(bias[:, :, None])
        weights = scores.softmax(-1).to(v.dtype)
        ctx.save_for_backward(q, k, v, weights)
        ctx.shapes, ctx.bias = (queries.shape, keys.shape), None if bias is None else (bias.shape, bias.dtype)
        return torch.bmm(weights, v).view(queries.shape)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, weights = ctx.saved_tensors
        query_shape, key_shape = ctx.shapes
        grad = grad_outputs[0].reshape(q.shape)
        grad_values = torch.bmm(weights.transpose(1, 2), grad)
        slope = torch._softmax_backward_data(torch.bmm(grad, v.transpose(1, 2)), weights, -1, weights.dtype)
        grad_queries = torch.bmm(slope, k).mul_(ctx.scale)
        grad_keys = torch.bmm(slope.transpose(1, 2), q).mul_(ctx.scale)
        grad_bias = None
        if ctx.needs_input_grad[3]:
            shape, dtype = ctx.bias
            of_heads = slope.view(*key_shape[:2], -1, query_shape[2], key_shape[2])
            grad_bias = of_heads.sum(2, dtype=torch.promote_types(dtype, torch.float32)).sum_to_size(shape).to(dtype)
        return grad_queries.view(query_shape), grad_keys.view(key_shape), grad_values.view(key_shape), grad_bias
