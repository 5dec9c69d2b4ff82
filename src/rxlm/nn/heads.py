"""How many heads an attention has: the counts decide its kind, MHA, GQA, MQA or one of the SQA family.

Sparse Query Attention (SQA) keeps fewer query heads than the model has heads, which divides the cost of the
scores by H / Hq (Filipek, 2025).
"""

from typing import NamedTuple

from rxlm.config import require

ATTENTION_VARIANTS = ("mha", "gqa", "mqa", "sqa", "ssqa", "xsqa", "xsmqa", "lsqa", "rsqa")


class HeadCounts(NamedTuple):
    """How many query heads and how many key/value heads an attention has."""

    num_query_heads: int
    num_kv_heads: int


def head_counts(variant: str, num_heads: int) -> HeadCounts:
    """Return the head counts of a named variant, in the proportions of the SQA paper.

    mha: all; gqa: a quarter of the key/value heads; mqa: one. sqa (standard): half the query heads, a quarter
    of the key/value heads; ssqa (symmetric): half of both; xsqa (extreme): a quarter of both; xsmqa: a quarter
    of the query heads on one key/value head; lsqa (light): three quarters of the query heads on a quarter of
    the key/value heads; rsqa (reverse): a quarter of the query heads on half of the key/value heads.
    """
    half, quarter = num_heads // 2, num_heads // 4
    counts = {
        "mha": (num_heads, num_heads),
        "gqa": (num_heads, quarter),
        "mqa": (num_heads, 1),
        "sqa": (half, quarter),
        "ssqa": (half, half),
        "xsqa": (quarter, quarter),
        "xsmqa": (quarter, 1),
        "lsqa": (3 * quarter, quarter),
        "rsqa": (quarter, half),
    }
    if variant not in counts:
        raise ValueError(f"Unknown attention variant {variant!r}; known: {', '.join(ATTENTION_VARIANTS)}.")
    if variant not in ("mha", "mqa") and num_heads % 4:
        raise ValueError(f"{variant!r} divides the heads by four: num_heads must be a multiple of 4, got {num_heads}.")
    return HeadCounts(*counts[variant])


def check_head_counts(num_heads: int, num_query_heads: int, num_kv_heads: int) -> None:
    """Raise `ConfigError` with a reason where no attention has these counts."""
    for name, count in (("num_query_heads", num_query_heads), ("num_kv_heads", num_kv_heads)):
        require(1 <= count <= num_heads, f"{name} must be between 1 and num_heads={num_heads}, got {count}.")
    small, large = sorted((num_query_heads, num_kv_heads))
    require(
        large % small == 0,
        "One of num_query_heads and num_kv_heads must divide the other, "
        f"got num_query_heads={num_query_heads} and num_kv_heads={num_kv_heads}.",
    )
