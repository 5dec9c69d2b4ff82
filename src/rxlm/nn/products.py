"""Attention as plain products, in one softmax over keys and values that are stored in two places.

It is what an exported model computes: keys and values of earlier tokens stay where they are, and are not copied to be
beside those of a new token.

Shapes: B batch, H key/value heads, G query heads for each of them, T query tokens, S keys, d head dimension.
"""

import torch
from torch import Tensor

from rxlm.nn.key_values import KeyValues
from rxlm.shapes import Float


def attend_by_products(
    queries: Float[Tensor, "B _ T d"], y: KeyValues, mask: Float[Tensor, "#B 1 #T S"] | None
) -> Float[Tensor, "B _ T d"]:
    """Attend from queries (B, H * G, T, d) to `y` and to what stands before it; returns (B, H * G, T, d).

    Args:
        queries: the query heads of a key/value head stand side by side.
        y: keys and values; the mask of `y.before` is of numbers, (B, 1 or H, T, S).
        mask: what is added to the scores of `y`'s own keys.
    """
    rows, heads, tokens, width = queries.shape
    kv_heads = y.keys.shape[1]
    grouped = queries.reshape(rows, kv_heads, heads // kv_heads * tokens, width) * width**-0.5
    parts = [] if y.before is None else [(y.before, y.before.mask)]
    scores = [_scores(grouped, each.keys, own, tokens) for each, own in [*parts, (y, mask)]]
    weights = torch.cat(scores, -1).softmax(-1)
    if y.before is None:
        attended = weights @ y.values
    else:
        before = y.before.keys.shape[2]
        attended = weights[..., :before] @ y.before.values + weights[..., before:] @ y.values
    return attended.reshape(rows, heads, tokens, width)


def _scores(grouped: Tensor, keys: Tensor, mask: Tensor | None, tokens: int) -> Tensor:
    """Return what the queries (B, H, G * T, d) score keys (B, H, S, d), (B, H, G * T, S)."""
    scores = grouped @ keys.transpose(2, 3)
    if mask is None:
        return scores
    each = scores.unflatten(2, (-1, tokens)) + mask[:, :, None]
    return each.flatten(2, 3)
