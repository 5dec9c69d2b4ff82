"""Configuration of a retained memory, and the writer that it builds: a rule, without weights.

Shapes: L layers, B conversations, H key/value heads, T tokens, d head dimension.
"""

from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from rxlm.config import config, require, require_bool, require_int, require_share
from rxlm.memory.protocol import FinishedTurn, MemoryConfig, MemoryWriter
from rxlm.memory.retained.state import RetainedState
from rxlm.nn.past import NO_TOKEN
from rxlm.nn.sizes import require_sizes
from rxlm.seeds import Seed

WITHOUT_LIMIT = 2**31
"""Tokens that no conversation has."""


def check_count(num_tokens: object) -> None:
    """Raise ValueError unless a number of tokens is a whole number."""
    if not isinstance(num_tokens, int) or isinstance(num_tokens, bool):
        raise ValueError(f"memory_tokens must be a whole number, got {num_tokens!r}.")


@config
class RetainedMemoryConfig(MemoryConfig):
    """How many tokens of a conversation are kept, and which never go.

    Fields:
        num_layers, dim, num_kv_heads, head_dim: layers L of the decoder, D, H, and dimension d of a head.
        max_seq_len: longest turn in tokens.
        num_tokens: S, tokens that each key/value head keeps; a conversation can have another number.
        num_sinks: tokens at the beginning of a conversation that are never dropped (attention sinks: Xiao et al.,
            2024), at least.
        keeps_prefix: whether what models write before the first turn of each conversation is never dropped either. A
            system prompt that a conversation has of its own never is.
        newest_share: share that the newest tokens have of S, less what is never dropped: however long a system prompt
            is, there is room for what was learnt to be kept.
        answer_end: ids that close an answer: the token that ends it, and what the chat template writes after it.
    """

    kind: ClassVar[str] = "retained"
    num_layers: int = 12
    dim: int = 512
    max_seq_len: int = 1024
    num_kv_heads: int = 4
    head_dim: int = 64
    num_tokens: int = 128
    num_sinks: int = 4
    keeps_prefix: bool = True
    newest_share: float = 0.25
    answer_end: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        require_int(self, "num_layers", "dim", "max_seq_len", "num_kv_heads", "head_dim", "num_tokens")
        require_int(self, "num_sinks", minimum=0)
        require_bool(self, "keeps_prefix")
        require_sizes(self)
        require_share(self, "newest_share")
        require(
            self.num_tokens >= 2 * self.num_sinks,
            f"RetainedMemoryConfig.num_tokens must be at least twice num_sinks={self.num_sinks}, got "
            f"{self.num_tokens}.",
        )
        ends = self.answer_end
        valid = isinstance(ends, tuple) and bool(ends) and all(isinstance(each, int) and each >= 0 for each in ends)
        require(valid, f"RetainedMemoryConfig.answer_end must be token ids, at least one, got {ends!r}.")

    def build(self) -> "RetainedMemory":
        """Return the writer."""
        return RetainedMemory(self)

    def describe(self) -> str:
        """Return how much is kept."""
        return (
            f"{self.num_tokens} tokens a head, {self.num_layers} layers x {self.num_kv_heads} heads x {self.head_dim}; "
            f"the first {self.num_sinks} and the newest {self.newest(self.num_tokens, self.num_sinks)} always"
        )

    def num_kept_for_good(self, prefix: int) -> int:
        """Return how many tokens are never dropped of conversations that begin with a prefix of so many tokens."""
        return max(prefix, self.num_sinks) if self.keeps_prefix else self.num_sinks

    def newest(self, num_tokens: int, first: int) -> int:
        """Return how many of the newest tokens are kept of S, where so many are never dropped."""
        return int(max(0, num_tokens - first) * self.newest_share)


class RetainedMemory(MemoryWriter):
    """Keeps what self-attention computed of the tokens of finished turns, by the scores of the layers' gates.

    The last token of a turn, which ends the answer, is chosen and never read: the next turn reads it first.
    """

    reads_encoded = False
    reads_computed = True

    def __init__(self, settings: RetainedMemoryConfig) -> None:
        super().__init__()
        self.config = settings
        self.num_tokens = settings.num_tokens
        """S of new conversations."""

    def first_memory(self, batch_size: int, seed: Seed = None) -> RetainedState:
        """Return the memory of conversations in which nothing has been said, on the CPU; nothing is drawn."""
        own = self.config
        shape = (own.num_layers, batch_size, own.num_kv_heads, 0)
        nothing = torch.zeros(shape, dtype=torch.int)
        start = torch.zeros(batch_size, dtype=torch.long)
        return RetainedState(
            keys=torch.zeros(*shape, own.head_dim),
            values=torch.zeros(*shape, own.head_dim),
            positions=nothing,
            scores=torch.zeros(shape),
            ids=nothing,
            length=start,
            limit=torch.full_like(start, self.num_tokens),
            first=torch.full_like(start, own.num_sinks),
            newest=torch.full_like(start, own.newest(self.num_tokens, own.num_sinks)),
            unread=start.new_full((batch_size, 1 + len(own.answer_end)), NO_TOKEN),
        )

    def to_compute(self, memory: RetainedState, ids: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return what the memory left unread, and the turns but for their last tokens, padded at the end."""
        mask = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask
        written = mask.any(1, keepdim=True)
        mask = mask & (mask.flip(1).cumsum(1).flip(1) > 1)  # without the last real token
        ids = torch.cat((memory.unread, ids), 1)
        mask = torch.cat(((memory.unread >= 0) & written, mask), 1)
        order = (~mask).long().argsort(dim=1, stable=True)[:, : max(1, int(mask.sum(1).max()))]
        return ids.gather(1, order).clamp(min=0), mask.gather(1, order)

    def write(self, memory: RetainedState, turn: FinishedTurn) -> RetainedState:
        """Return the memory after finished turns; a conversation without a token to write keeps its own."""
        assert turn.computed is not None
        return memory.with_tokens(turn.computed, self._unread(memory, turn))

    def write_head(self, memory: RetainedState, turn: FinishedTurn, *, is_own: bool) -> RetainedState:
        """Return the memory after what stands before a conversation's first turn.

        It is kept for good where it is the conversation's own, or `keeps_prefix`.
        """
        computed = turn.computed
        assert computed is not None
        if not (is_own or self.config.keeps_prefix):
            return memory.with_tokens(computed, memory.unread)
        limit, count = int(memory.limit.min()), int(computed.mask.sum(1).max())
        if limit < 2 * count:
            raise ValueError(
                f"memory_tokens must be at least {2 * count}: the system prompt, or what the chat template writes in "
                f"its place, takes {count} tokens that are kept for good, and as much is needed beside it; got {limit}."
            )
        newest = torch.full_like(memory.newest, self.config.newest(limit, max(count, self.config.num_sinks)))
        return replace(memory, newest=newest).with_tokens(computed, memory.unread, for_good=True)

    def resized(self, memory: RetainedState, num_tokens: int) -> RetainedState:
        """Return the memory with another number of tokens S."""
        check_count(num_tokens)
        return memory.resized(num_tokens, self.config.newest(num_tokens, int(memory.first.max())))

    def set_num_tokens(self, count: int) -> None:
        """Let new memories keep another number of tokens."""
        self.num_tokens = self.config.replace(num_tokens=count).num_tokens

    def everything(self, memory: RetainedState) -> RetainedState:
        """Return the memory that never drops a token from here on."""
        return memory.resized(WITHOUT_LIMIT, 0)

    def newest(self, memory: RetainedState) -> RetainedState:
        """Return the memory that keeps the newest tokens from here on, whatever their scores."""
        return replace(memory, newest=memory.limit)

    def _unread(self, memory: RetainedState, turn: FinishedTurn) -> Tensor:
        """Return the ids that the next turn reads first: what closes an answer, after its last token if that is not."""
        mask = torch.ones_like(turn.ids, dtype=torch.bool) if turn.mask is None else turn.mask
        last = (mask.cumsum(1) * mask).argmax(1, keepdim=True)
        token = turn.ids.gather(1, last)
        end = turn.ids.new_tensor(self.config.answer_end)
        unread = torch.cat((token.masked_fill(token == end[0], NO_TOKEN), end.expand(len(token), -1)), 1)
        return torch.where(mask.any(1, keepdim=True), unread, memory.unread)

    @property
    def num_places(self) -> int:
        """Tokens that a layer attends to of the memory."""
        return self.num_tokens

    def num_bytes(self, element_size: int) -> int:
        """Return the bytes of a full memory: keys and values, and for each token position, score and id."""
        heads = self.config.num_layers * self.config.num_kv_heads
        return heads * self.num_tokens * (2 * self.config.head_dim * element_size + 4 + 4 + 4)

    def flops(self, num_tokens: int) -> int:
        """Return 0: what is kept was computed while the turn was answered."""
        return 0
