"""Clipped n-gram matches in PyTorch alone, for accelerators: no loop over sentences, nothing read back to the host.

The scheme is that of `counting_cpu`, in shapes that do not depend on the ids: a first sort numbers the tokens of each
row (a number is smaller than W, the columns of a row), so that the bits of a key are known from W alone; a second one
sorts keys of `max_n` numbers, if they fit one word, and runs of equal top bits are the n-grams of every order.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from .sentences import MAX_ID, Sentences

WORD_BITS = 63
FILLER = MAX_ID + 2  # after references; 0 after candidates, and ids are counted from 1 between them


def count_matches(candidates: Sentences, references: Sentences, max_n: int) -> Tensor:
    """Count the n-grams of each candidate that its references hold, clipped to the largest count in one reference.

    Args:
        candidates: B sentences of (B, Tc) ids.
        references: their R references, (B, R, Tr), on the same device.
        max_n: longest n-grams.

    Returns:
        (B, max_n), int64.
    """
    sides = _codes(candidates.ids, candidates.lengths, 0)
    in_candidate: list[Tensor] = []
    in_reference: list[Tensor] = []
    for index in range(references.ids.shape[1]):
        others = _codes(references.ids[:, index], references.lengths[:, index], FILLER)
        runs = _runs(torch.cat([sides, others], dim=1), sides.shape[1], max_n)
        for place, (of_candidate, of_reference) in enumerate(runs):
            if index == 0:
                in_candidate.append(of_candidate)
                in_reference.append(of_reference)
            else:
                in_reference[place] = in_reference[place].maximum(of_reference)
    pairs = zip(in_candidate, in_reference, strict=True)
    return torch.stack([torch.minimum(*pair).sum(1) for pair in pairs], dim=1)


def _codes(ids: Tensor, lengths: Tensor, filler: int) -> Tensor:
    """Return the ids plus 1, and the filler after each sentence, (B, T + 1)."""
    columns = torch.arange(ids.shape[1] + 1, device=ids.device)
    padded = torch.nn.functional.pad(ids.clamp(0, MAX_ID) + 1, (0, 1))
    return padded.masked_fill(columns >= lengths[:, None], filler)


def _runs(codes: Tensor, candidate_columns: int, max_n: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield, for n from 1 to `max_n`, how often each n-gram of the candidate is in it and in the reference.

    Both are (B, candidate_columns), in the candidate's own order of n-grams, whichever the reference, and 0 where no
    n-gram is left.
    """
    width = codes.shape[1]
    tokens, bits = codes, FILLER.bit_length()
    heads, head_bits, span, counted = codes, bits, 1, 0
    while counted < max_n:
        added = min(max_n - span, (WORD_BITS - head_bits) // bits)
        keys, columns = _append_tokens(heads, tokens, span, added, bits).sort(dim=1)
        changes = keys[:, 1:] ^ keys[:, :-1]
        seen = (columns < candidate_columns).cumsum(1)
        is_end = torch.ones_like(keys, dtype=torch.bool)
        for order in range(counted + 1, span + added + 1):
            is_end[:, :-1] = changes >= 1 << (bits * (span + added - order))
            yield _counts(is_end, seen, candidate_columns)
        counted = span + added
        if counted < max_n:
            heads = torch.empty_like(keys).scatter_(1, columns, is_end.cumsum(1) - is_end.long())
            head_bits = (width - 1).bit_length()
            if span == counted:
                tokens, bits = heads, head_bits
            span = counted


def _append_tokens(heads: Tensor, tokens: Tensor, span: int, added: int, bits: int) -> Tensor:
    """Return the keys of longer n-grams: `heads` of `span` tokens each, and `added` tokens after them."""
    keys = heads
    for offset in range(span, span + added):
        # Only n-grams of the reference reach beyond the row; they get its filler, which is the largest token there.
        after = tokens[:, -1:].expand(-1, offset)
        keys = (keys << bits) | torch.cat([tokens[:, offset:], after], dim=1)[:, : keys.shape[1]]
    return keys


def _counts(is_end: Tensor, seen: Tensor, candidate_columns: int) -> tuple[Tensor, Tensor]:
    """Return the counts in candidate and reference of the n-grams that end where `is_end`, those of the candidate."""
    width = seen.shape[1]
    places = torch.arange(1, width + 1, device=seen.device).expand_as(seen)
    run = torch.where(is_end, is_end.cumsum(1) - 1, width)
    # The totals of the row follow the last run, so that nothing is left between them; the last column is not used.
    seen_at = seen.new_full((len(seen), width + 1), candidate_columns).scatter_(1, run, seen)[:, :width]
    place_at = seen.new_full((len(seen), width + 1), width).scatter_(1, run, places)[:, :width]
    of_candidate = seen_at.diff(dim=1, prepend=seen.new_zeros(len(seen), 1))
    of_both = place_at.diff(dim=1, prepend=seen.new_zeros(len(seen), 1))
    is_kept = of_candidate > 0
    slot = torch.where(is_kept, is_kept.cumsum(1) - 1, candidate_columns)
    of_candidate, of_reference = (
        count.new_zeros(len(seen), candidate_columns + 1).scatter_(1, slot, count)[:, :candidate_columns]
        for count in (of_candidate, of_both - of_candidate)
    )
    return of_candidate, of_reference
