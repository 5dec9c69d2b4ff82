"""Documents of text packed into full sequences, for stage 1.

Shapes: B sequences, T tokens a sequence.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Self

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from rxlm.data.tokenizer import encode_text
from rxlm.data.turn_tokenizer import BatchTokens


@dataclass(frozen=True)
class PackedBatch:
    """Sequences that hold one document after another.

    Fields:
        ids: token ids (B, T).
        segments: which of its row's documents a token belongs to, from 1, and 0 for padding, (B, T).
        positions: the token's place in its document's part of the row, from 0, (B, T).
    """

    ids: Tensor
    segments: Tensor
    positions: Tensor

    @property
    def batch_size(self) -> int:
        """Number of sequences, B."""
        return self.ids.shape[0]

    @property
    def mask(self) -> Tensor:
        """True at tokens that are not padding, (B, T)."""
        return self.segments > 0

    @property
    def target_mask(self) -> Tensor:
        """True at tokens that can be predicted from the one before, (B, T): all but the first of a document."""
        return self.mask & (self.positions > 0)

    @property
    def num_tokens(self) -> int:
        """Number of tokens that are not padding."""
        return int(self.mask.sum())

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Self:
        """Return the batch on a device."""
        return type(self)(
            self.ids.to(device, non_blocking=non_blocking),
            self.segments.to(device, non_blocking=non_blocking),
            self.positions.to(device, non_blocking=non_blocking),
        )


class Packed(NamedTuple):
    """One full sequence: its tokens, and the lengths of the documents (or parts of them) that follow each other."""

    ids: tuple[int, ...]
    lengths: tuple[int, ...]


@dataclass
class PackingCounts:
    """What packing did: documents read, those cut into parts or truncated, tokens kept, dropped and padded."""

    documents: int = 0
    split: int = 0
    truncated: int = 0
    tokens: int = 0
    dropped_tokens: int = 0
    padding: int = 0
    sequences: int = 0


@dataclass
class TextPacker:
    """Packs documents, `[BOS]text[EOS]` each, into sequences of `seq_len` tokens.

    With `split_documents` a document goes on in the next sequence where one is full, and nothing is lost. Without,
    documents stay whole: a longer one loses its end, and each goes to the first of the last `_OPEN_ROWS` sequences with
    room for it. `counts` says what happened. Models take `PackedBatch.segments`.

    Args:
        tokenizer: encodes the texts.
        tokens: the ids of the special tokens: a model's `tokenizer_config`, or `TokenIds.of(tokenizer)`.
        seq_len: tokens of a sequence, T.
        split_documents: see above.
    """

    tokenizer: PreTrainedTokenizerFast
    tokens: BatchTokens
    seq_len: int
    split_documents: bool = True
    counts: PackingCounts = field(default_factory=PackingCounts)

    def __post_init__(self) -> None:
        if self.seq_len < 3:
            raise ValueError(f"seq_len={self.seq_len} must be at least 3: [BOS], a token and [EOS]")

    def pack(self, texts: Iterable[str]) -> Iterator[Packed]:
        """Yield sequences as soon as they are full, and at the end those that are not; texts of nothing are passed."""
        documents = (self._encode(text) for text in texts if text and not text.isspace())
        rows = self._split(documents) if self.split_documents else self._keep_whole(documents)
        for row in rows:
            lengths = tuple(len(part) for part in row)
            self.counts.sequences += 1
            self.counts.tokens += sum(lengths)
            self.counts.padding += self.seq_len - sum(lengths)
            yield Packed(tuple(token for part in row for token in part), lengths)

    def batch(self, sequences: Sequence[Packed]) -> PackedBatch:
        """Return sequences as a batch (B, T), the unfilled ones padded."""
        shape = len(sequences), self.seq_len
        ids = torch.full(shape, self.tokens.pad_token_id)
        segments, positions = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
        for row, sequence in enumerate(sequences):
            lengths = torch.tensor(sequence.lengths)
            total = len(sequence.ids)
            ids[row, :total] = torch.tensor(sequence.ids)
            segments[row, :total] = torch.repeat_interleave(torch.arange(1, len(lengths) + 1), lengths)
            starts = torch.repeat_interleave(lengths.cumsum(0) - lengths, lengths)
            positions[row, :total] = torch.arange(total) - starts
        return PackedBatch(ids, segments, positions)

    def _encode(self, text: str) -> list[int]:
        self.counts.documents += 1
        return [self.tokens.bos_token_id, *encode_text(self.tokenizer, text), self.tokens.eos_token_id]

    def _split(self, documents: Iterable[list[int]]) -> Iterator[list[list[int]]]:
        row: list[list[int]] = []
        room = self.seq_len
        for document in documents:
            self.counts.split += len(document) > room
            while document:
                row.append(document[:room])
                document = document[room:]
                room -= len(row[-1])
                if room == 0:
                    yield row
                    row, room = [], self.seq_len
        if row:
            yield row

    def _keep_whole(self, documents: Iterable[list[int]]) -> Iterator[list[list[int]]]:
        rows: deque[tuple[list[list[int]], list[int]]] = deque()  # each with the room left in it
        for document in documents:
            excess = len(document) - self.seq_len
            if excess > 0:
                self.counts.truncated += 1
                self.counts.dropped_tokens += excess
                document = document[: self.seq_len]
            for row, room in rows:
                if len(document) <= room[0]:
                    row.append(document)
                    room[0] -= len(document)
                    break
            else:
                if len(rows) == _OPEN_ROWS:
                    yield rows.popleft()[0]
                rows.append(([document], [self.seq_len - len(document)]))
        for row, _ in rows:
            yield row


_OPEN_ROWS = 64
