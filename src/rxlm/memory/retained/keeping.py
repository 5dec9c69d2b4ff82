"""Which tokens a memory keeps: the first, the newest, and of all others those with the highest scores.

A token leaves the newest once, and then competes with a score that never changes. So keeping is associative: what is
kept of A and then of B is what is kept of A and B together (law 9).

Shapes: B conversations, N tokens of which some are kept; `...` layers and heads.
"""

import torch
from torch import Tensor


def kept_tokens(
    positions: Tensor, scores: Tensor, length: Tensor, limit: Tensor, first: Tensor, newest: Tensor
) -> Tensor:
    """Return the places of the tokens that are kept, in order, (..., B, H, K) with K the largest of `limit`.

    Args:
        positions: tokens of the conversation before each, growing along the last axis; negative where there is no
            token, (L, B, H, N).
        scores: of the tokens, (L, B, H, N); of equal ones the newer token is kept.
        length: tokens of the conversations so far, (B,).
        limit: tokens that are kept of each, (B,).
        first: so many tokens at the beginning are kept for good, (B,).
        newest: so many of the newest tokens are kept, (B,), as far as the first leave room.

    Returns: places from 0 to N - 1, and N where nothing is kept.
    """
    count = positions.shape[-1]
    held = positions >= 0
    newest = torch.minimum(newest, limit - first)
    is_safe = (positions < first[:, None, None]) | (positions >= (length - newest)[:, None, None])
    rank = scores.masked_fill(is_safe, torch.inf).masked_fill(~held, -torch.inf)
    # Newer tokens stand first among equals.
    order = rank.flip(-1).argsort(dim=-1, descending=True, stable=True)
    places = count - 1 - order[..., : int(limit.max())]
    number = torch.arange(places.shape[-1], device=places.device)
    is_kept = held.gather(-1, places) & (number < limit[:, None, None])
    return places.masked_fill(~is_kept, count).sort(dim=-1).values
