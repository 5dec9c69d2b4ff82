"""Ranges of distances and of numbers of facts: the rows and columns of tables, and the points of curves."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

T = TypeVar("T")
Range = tuple[int, int]

DISTANCE_RANGES: tuple[Range, ...] = ((1, 4), (5, 7), (8, 16), (17, 32), (33, 64), (65, 128), (129, 256), (257, 10**9))
"""Distances in turns for tables."""

FINE_DISTANCES: tuple[Range, ...] = (
    *((d, d) for d in range(1, 5)), (5, 6), (7, 8), (9, 12), (13, 16), (17, 24), (25, 32), (33, 48), (49, 64), (65, 96),
    (97, 128), (129, 192), (193, 256), (257, 512), (513, 1024),
)  # fmt: skip
"""Distances in turns for curves."""

TURN_RANGES: tuple[Range, ...] = ((2, 2), (3, 4), (5, 8), (9, 16), (17, 32), (33, 64), (65, 128), (129, 10**9))
"""Numbers of turns, from 1, after the first."""

FACT_RANGES: tuple[Range, ...] = (*((n, n) for n in range(1, 9)), (9, 12), (13, 16), (17, 24), (25, 10**9))
"""Numbers of facts held."""


def label(bounds: Range) -> str:
    """Return a range as people write it: "3", "5-7", "257 or more"."""
    low, high = bounds
    return str(low) if low == high else f"{low} or more" if high >= 10**9 else f"{low}-{high}"


def in_ranges(values: Iterable[T], ranges: Sequence[Range], size: Callable[[T], int]) -> dict[Range, list[T]]:
    """Sort values into the ranges that their sizes fall in; a range without values is left out."""
    sized = [(size(value), value) for value in values]
    found = {(low, high): [value for number, value in sized if low <= number <= high] for low, high in ranges}
    return {bounds: inside for bounds, inside in found.items() if inside}
