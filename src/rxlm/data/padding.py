"""Rows of tokens of different lengths as one tensor, padded at the end.

Shapes: B rows, T tokens of the longest row.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def padded(
    rows: Sequence[Sequence[int]],
    pad_token_id: int,
    *,
    width: int | None = None,
    device: torch.device | str | None = None,
) -> tuple[Tensor, Tensor]:
    """Return rows of token ids as one tensor (B, T), and its mask: True at tokens that are not padding, (B, T).

    Args:
        rows: token ids; rows may be empty.
        pad_token_id: what shorter rows end with.
        width: T, at least the longest row; None: the longest row, and at least 1.
        device: where the tensors are made; None: PyTorch's default.
    """
    longest = max(map(len, rows), default=0)
    width = max(longest, 1) if width is None else width
    if width < longest:
        raise ValueError(f"width={width} must be at least the longest row, {longest} tokens, or None")
    filled = [[*row, *[pad_token_id] * (width - len(row))] for row in rows]
    ids = torch.tensor(filled, dtype=torch.long, device=device).reshape(len(rows), width)
    lengths = torch.tensor([len(row) for row in rows], dtype=torch.long, device=device)
    return ids, torch.arange(width, device=device) < lengths[:, None]
