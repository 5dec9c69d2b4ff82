"""A conversation at one moment, as a value: what was said, and the memory that was made of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from rxlm.data.templates import interaction_ids
from rxlm.memory import MemoryState
from rxlm.nn.past import ComputedTurn
from rxlm.rxt.chat_template import conversation_prefix
from rxlm.rxt.core import RxTModel
from rxlm.rxt.current_memory import KeptReading
from rxlm.rxt.turn_engine import write_turns

KEPT_STATES = 8
"""Memory states that a conversation keeps for undo and retry; older ones are computed again from the transcript."""


class ConversationError(ValueError):
    """A conversation that cannot do what was asked, or a saved one that cannot be read or belongs elsewhere."""


@dataclass(frozen=True)
class Turn:
    """One finished turn: the texts, and the token ids of the whole interaction as the memory read it."""

    query: str
    answer: str
    thought: str | None
    ids: tuple[int, ...]
    cut: int = 0
    """Tokens at the beginning of the query that were left out because it was too long."""


@dataclass(frozen=True)
class History:
    """What was said in a conversation, and its memory: it is never changed, so that neither is ever without the other.

    Fields:
        system, seed: as in `Conversation`.
        draws: answers that took a seed of the conversation's, also those that were undone or replaced.
        turns: the finished turns, oldest first.
        memories: the memory after so many turns: the first, the last, and some before it.
        last: the last memory with its reading.
    """

    system: str | None
    seed: int | None
    draws: int
    turns: tuple[Turn, ...]
    memories: Mapping[int, MemoryState]
    last: KeptReading

    @classmethod
    @torch.no_grad()
    def begin(
        cls,
        model: RxTModel,
        tokenizer: PreTrainedTokenizerFast,
        system: str | None,
        seed: int | None,
        memory_tokens: int | None,
    ) -> Self:
        """Return that of a new conversation; arguments as in `Conversation`."""
        memory = first_memory(model, tokenizer, system, seed, memory_tokens)
        return cls(system, seed, 0, (), {0: memory}, KeptReading.of(model, memory))

    @torch.no_grad()
    def memory_after(self, model: RxTModel, count: int) -> MemoryState:
        """Return the memory after `count` turns: a kept one, or one computed again from the turns since a kept one."""
        start = max(n for n in self.memories if n <= count)
        memory = self.memories[start]
        for turn in self.turns[start:count]:
            memory = write_turns(model, memory, [turn.ids])
        return memory

    @torch.no_grad()
    def after(self, model: RxTModel, count: int) -> Self:
        """Return the conversation as it was after `count` turns, ready for the next one."""
        if count == len(self.turns) and not self.last.is_outdated(model):
            return self
        return self._with(model, self.turns[:count], self.memory_after(model, count))

    @torch.no_grad()
    def with_turn(self, model: RxTModel, turn: Turn, computed: ComputedTurn | None) -> Self:
        """Return the conversation after another turn, written to the memory; `computed` as in `write_turns`."""
        memory = write_turns(model, self.last.memory, [turn.ids], [computed])
        return self._with(model, (*self.turns, turn), memory)

    def _with(self, model: RxTModel, turns: tuple[Turn, ...], memory: MemoryState) -> Self:
        count = len(turns)
        kept = {n: state for n, state in self.memories.items() if n == 0 or count - KEPT_STATES < n < count}
        return replace(self, turns=turns, memories={**kept, count: memory}, last=KeptReading.of(model, memory))


def first_memory(
    model: RxTModel,
    tokenizer: PreTrainedTokenizerFast,
    system: str | None,
    seed: int | None,
    memory_tokens: int | None,
) -> MemoryState:
    """Return the memory of a new conversation that has read its system prompt."""
    if model.memory_writer.reads_computed:
        head: Sequence[int] | None = None if system is None else conversation_prefix(tokenizer, system)
        return model.init_memory(1, seed, head=head, memory_tokens=memory_tokens)
    memory = model.init_memory(1, seed, memory_tokens=memory_tokens).detach()
    return memory if system is None else model.update_memory(memory, _system_ids(model, tokenizer, system))


def _system_ids(model: RxTModel, tokenizer: PreTrainedTokenizerFast, system: str) -> Tensor:
    title = model.system_prompt_title
    query, answer = (system, "") if title is None else (title, system)
    ids = interaction_ids(tokenizer, model.tokenizer_config, query, answer)
    if len(ids) > model.max_seq_len:
        raise ConversationError(f"The system prompt takes {len(ids)} tokens; the limit is {model.max_seq_len}.")
    return torch.tensor([ids], device=model.device)
