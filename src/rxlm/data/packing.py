"""Documents of text packed into full sequences, for stage 1.

Shapes: B sequences, T tokens a sequence.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from rxlm.data.padding import padded
from rxlm.data.samplers import place_in
from rxlm.data.shuffled_records import ShuffledRecords
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
        waiting: list[list[int]] = []
        for text in texts:
            waiting += self.documents(text)
            while sequence := self.take(waiting):
                yield sequence
        if waiting:
            yield Packed.of(waiting)

    def take(self, waiting: list[list[int]]) -> Packed | None:
        """Take the tokens of a full sequence from the front of documents; None where there are too few."""
        if sum(map(len, waiting)) < self.seq_len:
            return None
        parts: list[list[int]] = []
        room = self.seq_len
        while room:
            parts.append(waiting[0][:room])
            waiting[:1] = [rest] if (rest := waiting[0][room:]) else []
            room -= len(parts[-1])
        return Packed.of(parts)

    def documents(self, text: str) -> list[list[int]]:
        """Return a text as a list of one document, its tokens; of none where it is blank."""
        if not text or text.isspace():
            return []
        return [[self.tokens.bos_token_id, *encode_text(self.tokenizer, text), self.tokens.eos_token_id]]

    def batch(self, sequences: Sequence[Packed]) -> PackedBatch:
        """Return sequences as a padded batch (B, T)."""
        ids, _ = padded([each.ids for each in sequences], self.tokens.pad_token_id, width=self.seq_len)
        numbered = [list(enumerate(each.lengths, 1)) for each in sequences]
        segments = [[number for number, length in row for _ in range(length)] for row in numbered]
        positions = [[place for _, length in row for place in range(length)] for row in numbered]
        return PackedBatch(ids, *(padded(rows, 0, width=self.seq_len)[0] for rows in (segments, positions)))


class PackedTexts:
    """An endless iterator over packed sequences of a process's share of texts, each tokenised once in its epoch.

    Documents go on from one epoch to the next without padding. The state has the tokens that are in no sequence yet.

    Args:
        texts: this process's own.
        packer: makes the sequences.
    """

    def __init__(self, texts: ShuffledRecords[str], packer: TextPacker) -> None:
        self.texts, self.packer = texts, packer
        self._waiting: list[list[int]] = []

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Packed:
        while (sequence := self.packer.take(self._waiting)) is None:
            self._waiting += self.packer.documents(next(self.texts))
        return sequence

    def state_dict(self) -> dict[str, Any]:
        """Return the position of the texts, and the tokens that wait."""
        return {"texts": self.texts.state_dict(), "waiting": [list(tokens) for tokens in self._waiting]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken."""
        self.texts.load_state_dict(place_in(state, "texts"))
        self._waiting = [list(tokens) for tokens in state["waiting"]]

    def load_resharded(self, states: Sequence[dict[str, Any]]) -> None:
        """Continue after the states of another number of processes; tokens that wait are shared out as texts are."""
        self.texts.load_resharded([place_in(state, "texts") for state in states])
        waiting = [list(tokens) for state in states for tokens in state["waiting"]]
        self._waiting = waiting[self.texts.rank :: self.texts.world_size]
