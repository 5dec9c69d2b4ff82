"""Clipped n-gram matches on the CPU: one sort of packed keys counts the n-grams of all orders.

A row has W columns: the candidate, a filler, a reference, another filler. A filler is an id that occurs on its side
only, after the end of sentences; so an n-gram that runs over the end of its sentence matches nothing.
The key of a column packs its token and the `max_n - 1` tokens after it into 64 bits, the first token highest. Sorted
keys then hold equal n-grams side by side for *every* n, as runs of keys with equal top bits. Where a run holds c
n-grams of the candidate and r of the reference, min(c, r) match. As min(c, r) = (c + r - |c - r|) / 2, a row has

    matches = (W - sum over runs of |c - r|) / 2

Where the tokens do not fit the word, tokens or shorter n-grams are numbered by a first sort, row by row, and these
numbers, smaller than W, go into the keys of the next.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from .sentences import MAX_ID, Sentences

Array = np.ndarray

WORD_BITS = 64
# Keys of a block, 192 KiB: what is computed from them fits the cache, and the allocator keeps it (larger arrays may go
# back to the system between blocks). One thread computes: two gained nothing on cores with other work (dev/LOG.md).
BLOCK = 3 * 2**13


def count_matches(candidates: Sentences, references: Sentences, max_n: int) -> Tensor:
    """Count the n-grams of each candidate that its references hold, clipped to the largest count in one reference.

    Args:
        candidates: B sentences of (B, Tc) ids on the CPU.
        references: their R references, (B, R, Tr).
        max_n: longest n-grams.

    Returns:
        (B, max_n), int64.
    """
    sides = _Rows(candidates)
    others = [_Rows(references, index) for index in range(references.ids.shape[1])]
    matches = np.zeros((len(sides.ids), max_n), dtype=np.int64)
    # What follows a sentence may be any number: no id of a sentence is above MAX_ID.
    largest = max((int(rows.ids.max()) for rows in [sides, *others] if rows.ids.size), default=0)
    filler = min(max(largest, 0), MAX_ID) + 2
    rows_per_block = max(1, BLOCK // (sides.ids.shape[1] + others[0].ids.shape[1] + 2))
    for start in range(0, len(matches), rows_per_block):
        block = slice(start, start + rows_per_block)
        codes = (_codes(sides, reference, block, filler) for reference in others)
        count = _match_one_reference if len(others) == 1 else _match_references
        matches[block] = count(codes, filler, max_n)
    return torch.from_numpy(matches)


class _Rows:
    """The candidates, or the references with one index, as numpy sees them in the tensors' own memory."""

    def __init__(self, sentences: Sentences, *index: int) -> None:
        row = (slice(None), *index)
        self.ids, self.lengths = sentences.ids[row].numpy(), sentences.lengths[row].numpy()

    def width(self, block: slice) -> int:
        """Return the tokens of the longest sentence of a block."""
        return int(self.lengths[block].max())

    def write(self, block: slice, codes: Array, filler: int) -> None:
        """Write the ids of a block, plus 1, and the filler everywhere else."""
        width = codes.shape[1] - 1
        np.add(self.ids[block, :width], 1, out=codes[:, :width])
        codes[:, width] = filler
        lengths = self.lengths[block, None]
        if (lengths < width).any():
            np.copyto(codes[:, :width], filler, where=np.arange(width) >= lengths)


def _codes(candidates: _Rows, references: _Rows, block: slice, filler: int) -> tuple[Array, int]:
    """Return the columns of a block with one reference, (rows, W), and how many of them are the candidate's."""
    width = candidates.width(block)
    codes = np.empty((len(candidates.ids[block]), width + references.width(block) + 2), dtype=np.int64)
    candidates.write(block, codes[:, : width + 1], filler=0)
    references.write(block, codes[:, width + 1 :], filler=filler)
    return codes.view(np.uint64), width + 1


def _match_one_reference(blocks: Iterator[tuple[Array, int]], filler: int, max_n: int) -> Array:
    """Return the matches of a block with one reference, (rows, max_n)."""
    codes, candidate_columns = next(blocks)
    rows, width = codes.shape
    matches = np.zeros((rows, max_n), dtype=np.int64)
    row_starts = np.arange(0, codes.size, width)
    for order, ends, balance in _runs(codes, candidate_columns, filler, max_n):
        difference = _differences(balance)
        np.abs(difference, out=difference)
        unmatched = np.add.reduceat(difference, np.searchsorted(ends, row_starts))
        matches[:, order - 1] = (width - unmatched) >> 1
        if not matches[:, order - 1].any():
            break  # longer n-grams cannot match where shorter ones did not
    return matches


def _match_references(blocks: Iterator[tuple[Array, int]], filler: int, max_n: int) -> Array:
    """Return the matches of a block with several references, (rows, max_n).

    The candidate's n-grams come in the same order whichever the reference, so counts in the references can be compared
    n-gram by n-gram. (Those that run over its end do so too: they differ in where their first filler is.)
    """
    counts: list[Array] = []
    largest: list[Array] = []
    row_starts: list[Array] = []
    for codes, candidate_columns in blocks:
        for order, ends, balance in _runs(codes, candidate_columns, filler, max_n):
            difference = _differences(balance)
            in_candidate = (_differences(ends, before=-1) + difference) >> 1
            kept = np.flatnonzero(in_candidate > 0)
            in_candidate = in_candidate[kept]
            in_reference = in_candidate - difference[kept]
            if len(counts) < order:
                starts = np.searchsorted(ends, np.arange(0, codes.size, codes.shape[1]))
                counts.append(in_candidate)
                largest.append(in_reference)
                row_starts.append(np.searchsorted(kept, starts))
            else:
                np.maximum(largest[order - 1], in_reference, out=largest[order - 1])
    clipped = (np.minimum(count, most) for count, most in zip(counts, largest, strict=True))
    return np.stack([np.add.reduceat(one, starts) for one, starts in zip(clipped, row_starts, strict=True)], axis=1)


def _runs(codes: Array, candidate_columns: int, filler: int, max_n: int) -> Iterator[tuple[int, Array, Array]]:
    """Yield order n, the places where the runs of equal n-grams end, and the balance there, for n from 1 to `max_n`.

    The balance at a place is the number of n-grams of candidates up to it, minus those of references.
    """
    rows, width = codes.shape
    tokens, bits = codes.reshape(-1), filler.bit_length()
    heads, head_bits, span, counted = tokens, bits, 1, 0
    position_bits = (width - 1).bit_length()
    while counted < max_n:
        # After the last sort one bit suffices: candidate or reference. Before it, the column is needed.
        room = WORD_BITS - head_bits
        is_last = (max_n - span) * bits + 1 <= room
        low_bits = 1 if is_last else position_bits
        added = max_n - span if is_last else (room - position_bits) // bits
        keys = _append_tokens(heads, tokens, span, added, bits)
        keys <<= np.uint64(low_bits)
        in_rows = keys.reshape(rows, width)
        if is_last:
            in_rows[:, candidate_columns:] |= np.uint64(1)
        else:
            in_rows |= np.arange(width, dtype=np.uint64)
        in_rows.sort(axis=1)
        changes = np.empty_like(keys)
        np.bitwise_xor(keys[1:], keys[:-1], out=changes[:-1])
        changes[width - 1 :: width] = np.uint64(2**WORD_BITS - 1)  # a row ends, and so does its last run
        keys &= np.uint64((1 << low_bits) - 1)
        low = keys.view(np.int64)
        balance = np.cumsum(1 - 2 * (low if is_last else low >= candidate_columns))
        is_end = changes
        for order in range(counted + 1, span + added + 1):
            is_end = changes >= np.uint64(1 << (low_bits + bits * (span + added - order)))
            ends = np.flatnonzero(is_end)
            yield order, ends, balance[ends]
        counted = span + added
        if counted < max_n:
            heads = _number(is_end.reshape(rows, width), low.reshape(rows, width))
            head_bits = max(1, int(heads.max()).bit_length())
            if span == counted:
                tokens, bits = heads, head_bits
            span = counted


def _append_tokens(heads: Array, tokens: Array, span: int, added: int, bits: int) -> Array:
    """Return the keys of longer n-grams: `heads` of `span` tokens each, and `added` tokens after them."""
    keys = heads.copy()
    if added >= 2:
        pairs = tokens << np.uint64(bits)
        pairs[:-1] |= tokens[1:]
        for offset in range(span, span + added - 1, 2):
            keys <<= np.uint64(2 * bits)
            keys[:-offset] |= pairs[offset:]
    if added % 2:
        offset = span + added - 1
        keys <<= np.uint64(bits)
        keys[:-offset] |= tokens[offset:]
    return keys


def _number(is_end: Array, columns: Array) -> Array:
    """Return the number of each column's n-gram among those of its row, in ascending order, (rows * W)."""
    rows, width = is_end.shape
    numbers = np.cumsum(is_end, axis=1)
    numbers -= is_end
    places = columns + np.arange(0, rows * width, width)[:, None]
    heads = np.empty(rows * width, dtype=np.uint64)
    heads[places.reshape(-1)] = numbers.reshape(-1)
    return heads


def _differences(values: Array, before: int = 0) -> Array:
    """Return each value minus the one before it."""
    differences = np.empty_like(values)
    differences[0] = values[0] - before
    np.subtract(values[1:], values[:-1], out=differences[1:])
    return differences
