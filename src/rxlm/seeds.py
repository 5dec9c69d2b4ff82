"""Seeds: derived from other numbers, and one for each row of a batch, so that no row depends on its neighbours."""

import hashlib
from collections.abc import Sequence

import torch

Seed = int | Sequence[int] | None


def check_seed(batch_size: int, seed: Seed) -> None:
    """Raise ValueError unless `seed` is one number, None, or one number for each of `batch_size` rows."""
    if isinstance(seed, Sequence) and len(seed) != batch_size:
        raise ValueError(f"seed must be one number, or one a row: got {len(seed)} for {batch_size} rows.")


def derived_seed(*numbers: int) -> int:
    """Return a seed that belongs to these whole numbers, in their order: far from those of all others, below 2^62.

    This is the function to derive a seed with. `order_seed` is only for what has always used it.
    """
    digest = hashlib.sha256(",".join(map(str, numbers)).encode()).digest()
    return int.from_bytes(digest[:8]) >> 2


def order_seed(seed: int, epoch: int) -> int:
    """Return the seed of the order of records in an epoch; other numbers give another seed.

    It is older than `derived_seed` and stays beside it: another function would give every run another order.
    """
    mixed = 0
    for number in (seed, epoch):
        mixed = (mixed * 0x9E3779B97F4A7C15 + number + 1) & ((1 << 63) - 1)
        mixed ^= mixed >> 31
    return mixed


def row_seeds(batch_size: int, seed: Seed) -> list[int]:
    """Return a seed for each of `batch_size` rows.

    Args:
        batch_size: number of rows B.
        seed: one number a row; or the first row's, counted up for the others; None takes fresh seeds from
            PyTorch's global generator, which `torch.manual_seed` sets.
    """
    if seed is None:
        return torch.randint(2**62, (batch_size,)).tolist()
    if isinstance(seed, int):
        return [seed + row for row in range(batch_size)]
    check_seed(batch_size, seed)
    return list(seed)


def row_generators(batch_size: int, seed: Seed) -> list[torch.Generator]:
    """Return a generator for each of `batch_size` rows; `seed` as in `row_seeds`."""
    return [torch.Generator().manual_seed(number) for number in row_seeds(batch_size, seed)]
