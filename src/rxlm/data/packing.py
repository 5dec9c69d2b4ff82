"""Documents of text packed into full sequences, for stage 1.

Shapes: B sequences, T tokens a sequence.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from rxlm.data.padding import padded
from rxlm.data.tokenizer import encode_text
from rxlm.data.turn_tokenizer import BatchTokens


@dataclass(frozen=True)
class PackedBatch:
    """Sequences that hold one document after another.

    Fields:
        ids: token ids (B, T).
        segments: number of the token's document within its row, from 1; 0 for padding, (B, T).
        positions: position of the token in its document's part of the row, from 0, (B, T).
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
        """True at tokens to predict, (B, T): all but the first of each document."""
        return self.mask & (self.positions > 0)

    @property
    def num_tokens(self) -> int:
        """Number of tokens that are not padding."""
        return int(self.mask.sum())

    def to(self, device: torch.device | str) -> Self:
        """Return the batch on a device."""
        return type(self)(self.ids.to(device), self.segments.to(device), self.positions.to(device))


class Packed(NamedTuple):
    """One sequence: its tokens, and the lengths of the documents, or parts of documents, in it."""

    ids: tuple[int, ...]
    lengths: tuple[int, ...]

    @classmethod
    def of(cls, parts: Sequence[Sequence[int]]) -> Self:
        """Join the tokens of documents, or parts of them."""
        return cls(tuple(token for part in parts for token in part), tuple(map(len, parts)))


@dataclass
class TextPacker:
    """Packs documents, `[BOS]text[EOS]` each, into sequences of `seq_len` tokens.

    Where a sequence is full, a document continues in the next: no token is lost, and only the last sequence is padded.

    Args:
        tokenizer: encodes the texts.
        tokens: ids of the special tokens: a model's `tokenizer_config`; without a model, `rxlm.rxt.text.token_ids_of`.
        seq_len: tokens of a sequence, T.
    """

    tokenizer: PreTrainedTokenizerFast
    tokens: BatchTokens
    seq_len: int

    def __post_init__(self) -> None:
        if self.seq_len < 3:
            raise ValueError(f"seq_len={self.seq_len} must be at least 3: [BOS], a token and [EOS]")

    def pack(self, texts: Iterable[str]) -> Iterator[Packed]:
        """Yield each sequence when it is full, and the last one at the end; blank texts are left out."""
        parts: list[list[int]] = []
        room = self.seq_len
        for text in texts:
            document = self._encode(text) if text and not text.isspace() else []
            while document:
                parts.append(document[:room])
                document = document[room:]
                room -= len(parts[-1])
                if room == 0:
                    yield Packed.of(parts)
                    parts, room = [], self.seq_len
        if parts:
            yield Packed.of(parts)

    def batch(self, sequences: Sequence[Packed]) -> PackedBatch:
        """Return sequences as a padded batch (B, T)."""
        ids, _ = padded([each.ids for each in sequences], self.tokens.pad_token_id, width=self.seq_len)
        numbered = [list(enumerate(each.lengths, 1)) for each in sequences]
        segments = [[number for number, length in row for _ in range(length)] for row in numbered]
        positions = [[place for _, length in row for place in range(length)] for row in numbered]
        return PackedBatch(ids, *(padded(rows, 0, width=self.seq_len)[0] for rows in (segments, positions)))

    def _encode(self, text: str) -> list[int]:
        return [self.tokens.bos_token_id, *encode_text(self.tokenizer, text), self.tokens.eos_token_id]
