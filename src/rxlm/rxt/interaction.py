"""Methods that keep one current memory in the model: the convenience on top of memory as a value.

Shapes: B conversations, T tokens, L memory layers, S slots, D model dimension.
"""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from rxlm.memory.slots.state import MemoryState
from rxlm.rxt.decoder import MemoryReading
from rxlm.rxt.generation import Column, Prompt, SamplingConfig
from rxlm.rxt.layers import check_tokens
from rxlm.rxt.text import TextModel
from rxlm.seeds import Seed, check_seed

MEMORY_UPDATE_STARTS = -1
MEMORY_UPDATE_DONE = -2

ThinkingMode = Literal["auto", "extended", "fast"]


class Opening(NamedTuple):
    """How an answer begins.

    With tokens `appended` to the prompt (part of the answer if `shown`), or with one of the `choices`, whichever
    the model prefers.
    """

    appended: tuple[int, ...] = ()
    shown: bool = False
    choices: tuple[int, ...] | None = None


class StatefulInteraction(TextModel):
    """One current memory, of one conversation or of a batch of them, threaded through the model's pure functions."""

    _memory: MemoryState | None = None
    _reading: MemoryReading | None = None
    _read_with: list[tuple[int, int]] | None = None
    _batch_size: int | None = None

    # --- the current memory --------------------------------------------------------------------------------------

    @torch.no_grad()
    def init_stm_state(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> None:
        """Start anew, from a memory that has read the given interaction, as a system prompt is read.

        Arguments as `tokenize_full_interaction` returns them, (1, T); in batch mode also one row a conversation.
        """
        fresh = self.init_memory(self._batch_size or 1)
        if input_ids.shape[0] == 1:
            input_ids = input_ids.expand(fresh.batch_size, -1)
            attention_mask = None if attention_mask is None else attention_mask.expand(fresh.batch_size, -1)
        mask = None if attention_mask is None else attention_mask.to(self.device)
        self._remember(self.update_memory(fresh, input_ids.to(self.device), mask))

    @torch.no_grad()
    def reset_stm_state(self, seed: Seed = None) -> None:
        """Forget everything: start again from the initial memory."""
        self._remember(self.init_memory(self._batch_size or 1, seed))

    def export_stm_state(self) -> Tensor:
        """Return a copy of the current memory's slots, (L, B, S, D)."""
        return self._current_memory().slots.clone()

    @torch.no_grad()
    def load_stm_state(self, state: MemoryState | Tensor) -> None:
        """Go on from a memory that `export_stm_state` returned, or from any other state of this model's shape."""
        memory = state if isinstance(state, MemoryState) else MemoryState(state)
        expected = self._current_memory().slots.shape
        if memory.slots.shape != expected:
            raise ValueError(
                f"The memory has shape (layers, conversations, slots, dim) {tuple(memory.slots.shape)}; "
                f"this model, in its present mode, holds {tuple(expected)} (see set_batch_mode)."
            )
        self._remember(MemoryState(memory.slots.detach().to(self.device, self.dtype, copy=True)))

    def set_batch_mode(self, use_batch_mode: bool, batch_size: int | None = None) -> None:
        """Hold `batch_size` conversations at once, or one (False). All start from the initial memory."""
        if use_batch_mode and (batch_size is None or batch_size < 1):
            raise ValueError(f"Batch mode needs a batch_size of at least 1, got {batch_size}.")
        if not use_batch_mode and batch_size not in (None, 1):
            raise ValueError(f"Without batch mode there is one conversation, got batch_size={batch_size}.")
        self._batch_size = batch_size if use_batch_mode else None
        self.reset_stm_state()

    def _remember(self, memory: MemoryState) -> None:
        reading = self.read_memory(memory)  # projected now, so that the next turn starts at once
        self._memory, self._reading, self._read_with = memory, reading, self._weights_of_reading()

    def _weights_of_reading(self) -> list[tuple[int, int]]:
        """Return what tells whether the weights that project the memory are still the same: training changes them."""
        weights = [weight for layer in self.decoder.memory_layers for weight in layer.parameters()]
        return [(id(weight), 0 if weight.is_inference() else weight._version) for weight in weights]

    @torch.no_grad()
    def _current_memory(self) -> MemoryState:
        if self._memory is None:
            self.reset_stm_state()
        elif self._memory.slots.device != self.device or self._memory.slots.dtype != self.dtype:
            self._remember(self._memory.to(self.device, self.dtype))
        elif self._read_with != self._weights_of_reading():
            self._remember(self._memory)
        assert self._memory is not None
        return self._memory

    # --- turns ---------------------------------------------------------------------------------------------------

    def interact(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        max_seq_len: int | None = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        repetition_penalty: float = 1.0,
        *,
        seed: Seed = None,
        thinking_mode: ThinkingMode | None = None,
        ignore_eos: bool = False,
    ) -> Iterator[int]:
        """Answer one query, token by token, then update the memory.

        Args:
            input_ids, attention_mask: the query as `tokenize_query` returns it, (1, T); [A] follows by itself.
            max_seq_len: tokens of query and answer together, the model's own limit when None.
            temperature, top_k, top_p, min_p, repetition_penalty: see `SamplingConfig`.
            seed: makes the answer repeatable; None draws from PyTorch's global generator.
            thinking_mode: `fast`, `extended` or `auto`, for Beta models.
            ignore_eos: go on to `max_seq_len` through [EOS].

        Yields the answer's token ids, without [EOS]; then -1 when the memory update starts; then -2 when it is done.
        Closed or failing before that, the turn leaves the memory as it was; where the memory was replaced meanwhile
        (by a reset, say), the update raises and the new memory stays. Bad arguments raise at the call.
        """
        if self._batch_size is not None:
            raise ValueError("The model is in batch mode: call batch_interactions, or set_batch_mode(False) first.")
        sampling = SamplingConfig(
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            repetition_penalty=repetition_penalty,
        )
        turn = self._turn(input_ids, attention_mask, max_seq_len, thinking_mode, seed)
        return self._answer(turn, sampling, seed, ignore_eos)

    def batch_interactions(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        max_seq_len: int | None = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        repetition_penalty: float = 1.0,
        *,
        seed: Seed = None,
        thinking_mode: ThinkingMode | None = None,
        ignore_eos: bool = False,
    ) -> list[list[int]]:
        """Answer a batch of queries (B, T), one a conversation, and update all memories; arguments as `interact`.

        `seed` may be one number a row. Returns the answers' token ids, without [EOS]. A row gives the same answer
        and memory as it would alone.
        """
        if self._batch_size is None:
            raise ValueError("Call set_batch_mode(True, batch_size) before a batch of interactions.")
        if input_ids.shape[0] != self._batch_size:
            raise ValueError(f"The batch has {input_ids.shape[0]} queries; the memory holds {self._batch_size}.")
        sampling = SamplingConfig(
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            repetition_penalty=repetition_penalty,
        )
        turn = self._turn(input_ids, attention_mask, max_seq_len, thinking_mode, seed)
        columns = list(self._columns(turn, sampling, seed, ignore_eos))
        self._finish(turn, columns)
        return [turn.opened + row for row in answers(columns, self._end_tokens(ignore_eos))]

    def batch_interact(
        self, queries: Sequence[str], max_seq_len: int | None = None, **options: object
    ) -> list[list[int]]:
        """Answer a list of queries given as text; options and result as in `batch_interactions`."""
        encoded = self.tokenize_batch(queries, max_seq_len=max_seq_len)
        return self.batch_interactions(**encoded, max_seq_len=max_seq_len, **options)  # type: ignore[arg-type]

    def opening(self, thinking_mode: ThinkingMode | None) -> Opening:
        """Return how an answer begins: with [A], which is not part of it."""
        if thinking_mode is not None:
            raise ValueError(f"thinking_mode={thinking_mode!r} is for RxTBeta; {type(self).__name__} does not think.")
        return Opening(appended=self.tokenizer_config.before_answer)

    def _turn(
        self,
        ids: Tensor,
        mask: Tensor | None,
        max_seq_len: int | None,
        thinking_mode: ThinkingMode | None,
        seed: Seed,
    ) -> "_Turn":
        """Check a turn's arguments and prepare its prompt."""
        limit = self.length_limit(max_seq_len)
        memory = self._current_memory()
        if ids.dim() != 2 or ids.shape[0] != memory.batch_size:
            raise ValueError(f"Queries have shape ({memory.batch_size}, T) here, got {tuple(ids.shape)}.")
        pad = self.tokenizer_config.pad_token_id
        prompt = Prompt.of(ids.to(self.device), None if mask is None else mask.to(self.device), pad)
        opening = self.opening(thinking_mode)
        prompt = prompt.append(opening.appended, pad)
        if max(prompt.lengths) >= limit:
            raise ValueError(
                f"The query takes {max(prompt.lengths)} tokens with its special ones; "
                f"with room for an answer it may take {limit - 1} (max_seq_len {limit})."
            )
        check_tokens(prompt.ids, None, self.decoder.config)
        check_seed(memory.batch_size, seed)
        return _Turn(prompt, opening, limit, memory)

    def _columns(self, turn: "_Turn", sampling: SamplingConfig, seed: Seed, ignore_eos: bool) -> Iterator[Column]:
        assert self._reading is not None
        return self.generate(
            turn.prompt,
            self._reading,
            sampling=sampling,
            max_seq_len=turn.limit,
            ignore_eos=ignore_eos,
            first_tokens=turn.opening.choices,
            seed=seed,
        )

    def _answer(self, turn: "_Turn", sampling: SamplingConfig, seed: Seed, ignore_eos: bool) -> Iterator[int]:
        self.start_text()
        yield from turn.opened
        columns, ends = [], self._end_tokens(ignore_eos)
        for column in self._columns(turn, sampling, seed, ignore_eos):
            columns.append(column)
            token = int(column.tokens[0])
            if token not in ends and bool(column.active[0]):
                yield token
        yield MEMORY_UPDATE_STARTS
        self._finish(turn, columns)
        yield MEMORY_UPDATE_DONE

    @torch.no_grad()
    def _finish(self, turn: "_Turn", columns: Sequence[Column]) -> None:
        if self._current_memory() is not turn.memory:
            raise ValueError("The memory was replaced while this turn was answered: the turn is not remembered.")
        ids, mask = turn.prompt.complete(columns, self.tokenizer_config.pad_token_id)
        self._remember(self.update_memory(turn.memory, ids, mask))

    def _end_tokens(self, ignore_eos: bool) -> tuple[int, ...]:
        return () if ignore_eos else (self.tokenizer_config.eos_token_id,)


class _Turn(NamedTuple):
    """A checked turn: its prompt with the opening appended, the limit on its tokens, the memory it is answered from."""

    prompt: Prompt
    opening: Opening
    limit: int
    memory: MemoryState

    @property
    def opened(self) -> list[int]:
        """The tokens of the answer that are there before the model writes any."""
        return list(self.opening.appended) if self.opening.shown else []


def answers(columns: Sequence[Column], end_tokens: Sequence[int] = ()) -> list[list[int]]:
    """Return each row's generated tokens, without padding and without the end token."""
    if not columns:
        return []
    tokens = torch.stack([column.tokens for column in columns], dim=1).tolist()
    active = torch.stack([column.active for column in columns], dim=1).tolist()
    return [
        [token for token, real in zip(*row, strict=True) if real and token not in end_tokens]
        for row in zip(tokens, active, strict=True)
    ]
