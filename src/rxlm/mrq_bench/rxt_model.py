"""Reactive Transformers in the benchmark: each dialogue is known to the model by its memory alone.

Shapes: B dialogues, T tokens, D model dimension.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rxlm.data.padding import padded
from rxlm.data.templates import fit_turn, query_ids
from rxlm.data.tokenizer import encode_text
from rxlm.memory import MemoryState
from rxlm.mrq_bench.protocol import (
    TOKENS_AT_ONCE,
    Control,
    Queries,
    SumsLosses,
    TurnCost,
    by_dialogue,
    check_batch,
    check_control,
    token_nats,
)
from rxlm.nn.past import ComputedTurn
from rxlm.rxt.fingerprint import fingerprint
from rxlm.rxt.models import RxTAlpha
from rxlm.rxt.sampling import GREEDY, SamplingConfig
from rxlm.rxt.turn_engine import Opening, Query, RunningTurn, TurnEngine, write_turns


class _Turn(NamedTuple):
    """A turn's tokens: query with its form, answer, and the token that ends it."""

    asked: list[int]
    answer: list[int]
    end: int

    @property
    def ids(self) -> list[int]:
        return [*self.asked, *self.answer, self.end]


class _Read(NamedTuple):
    """Turns that were read from the dialogues' own memories, and what was computed of them."""

    rows: list[int]
    turns: list[list[int]]
    computed: ComputedTurn


class RxTRespondent(SumsLosses):
    """A Reactive Transformer that answers without thinking first, greedily unless told otherwise.

    A query that is too long for the model loses its beginning; see `TurnEngine.prepare`.

    Args:
        model: the model, with its tokenizer.
        max_answer_tokens: an answer ends after so many tokens, or at the model's longest interaction.
        sampling: how tokens are chosen.
        seed: of what is drawn, for each dialogue and turn anew; None: PyTorch's global generator.
    """

    def __init__(
        self,
        model: RxTAlpha,
        *,
        max_answer_tokens: int = 64,
        sampling: SamplingConfig = GREEDY,
        seed: int | None = None,
    ) -> None:
        self.model = model.eval()
        self.tokenizer, self.tokens = model.needed_tokenizer(), model.tokenizer_config
        self.max_answer_tokens, self.sampling, self.seed = max_answer_tokens, sampling, seed
        self._opening = Opening(appended=self.tokens.before_answer)

    @property
    def controls(self) -> tuple[Control, ...]:
        """Those of every memory, and for one of tokens what it would be with all of them, or with the newest."""
        every: tuple[Control, ...] = ("none", "empty", "shuffled", "never-updated")
        return (*every, "everything", "newest") if self.model.memory_writer.reads_computed else every

    def describe(self) -> Mapping[str, Any]:
        """Return the model's fingerprint and the longest answer."""
        return self._identity

    @cached_property
    def _identity(self) -> Mapping[str, Any]:
        settings = {"dtype": str(self.model.dtype), "max_answer_tokens": self.max_answer_tokens}
        if self.sampling != GREEDY:
            settings |= {"sampling": self.sampling.to_dict(), "seed": self.seed}
        return {"kind": "rxt", **settings, **fingerprint(self.model, self.tokenizer)}

    def cuts(self, query: str) -> bool:
        """Tell whether a query loses its beginning when it is answered."""
        return TurnEngine(self.model, 1).prepare(self._query(query), "cut").cut > 0

    @torch.no_grad()
    def reset(self, batch_size: int, control: Control = "none") -> None:
        """Begin `batch_size` new dialogues from fresh memories."""
        check_control(control, self)
        check_batch(batch_size, control)
        first = self._begun(self.model.init_memory(batch_size, seed=0), control)
        self._control: Control = control
        self._read: _Read | None = None
        self._turn, self._first, self._memory = 0, first, first

    @torch.no_grad()
    def respond(self, queries: Queries) -> list[str]:
        """Answer the next turn of every dialogue and write it to its memory."""
        rows = _present(queries)
        asked = [query for query in queries if query is not None]
        turns = self._answered(asked, self._memory_for(rows))
        texts = self.model.stringify_batch([_said(turn, self.tokens.eos_token_id) for turn in turns])
        if self._control == "shuffled":  # what it remembers is what it would have said
            turns = self._answered(asked, self._memory.select(rows))
        self._update(rows, [turn.ids for turn in turns], [turn.computed for turn in turns])
        replies = dict(zip(rows, texts, strict=True))
        return [replies.get(row, "") for row in range(len(queries))]

    @torch.no_grad()
    def follow(self, queries: Queries, answers: Sequence[str | None]) -> None:
        """Write a turn to the memories as if these answers had been given."""
        rows, turns = _present(queries), [turn.ids for turn in self._turns(queries, answers)]
        read, self._read = self._read, None
        seen = read is not None and (read.rows, read.turns) == (rows, turns)
        self._update(rows, turns, [read.computed] if read is not None and seen else ())

    @torch.no_grad()
    def token_losses(self, queries: Queries, answers: Sequence[str | None]) -> list[Tensor]:
        """Return the nats of the answers' tokens, [EOS] left out, from the memory that the control gives."""
        turns = self._turns(queries, answers)
        states = self._states(_present(queries), turns)
        targets = torch.tensor([token for turn in turns for token in turn.answer], device=self.model.device)
        parts = zip(states.split(TOKENS_AT_ONCE), targets.split(TOKENS_AT_ONCE), strict=True)
        nats = torch.cat([token_nats(self.model.decoder.head(part), wanted) for part, wanted in parts])
        return by_dialogue(nats, [len(turn.answer) for turn in turns], queries)

    @torch.no_grad()
    def embed(self, texts: Sequence[str]) -> Tensor:
        """Return the mean of the token embeddings of each text, (len(texts), D)."""
        weight = self.model.decoder.embedding.weight
        rows = [weight[encode_text(self.tokenizer, text)].mean(0) if text else 0 * weight[0] for text in texts]
        return torch.stack(rows).float().cpu()

    @torch.no_grad()
    def measure(self, query: str, num_tokens: int) -> TurnCost:
        """Answer against the clock, and update the memory after it; nothing is remembered."""
        memory = self._memory
        reading = self.model.read_memory(memory)  # has been made after the last turn
        engine = TurnEngine(self.model, 1)
        turn = engine.prepare(replace(self._query(query), ignore_eos=True, max_answer_tokens=num_tokens), "cut")
        started = self._now()
        engine.begin([turn], reading)
        columns = engine.run()
        next(columns)
        first = self._now()
        count = 1 + sum(1 for _ in columns)
        last = self._now()
        updated = engine.finish([turn], memory)
        self.model.read_memory(updated)
        speed = (count - 1) / (last - first) if count > 1 else float("nan")
        return TurnCost(first - started, speed, self._now() - last, memory.num_bytes)

    def _begun(self, memory: MemoryState, control: Control) -> MemoryState:
        writer = self.model.memory_writer
        if control == "everything":
            return writer.everything(memory)
        return writer.newest(memory) if control == "newest" else memory

    # --- memories ------------------------------------------------------------------------------------------------

    def _memory_for(self, rows: Sequence[int]) -> MemoryState:
        """Return the memories from which these dialogues are answered."""
        count = self._memory.batch_size
        if self._control == "empty":
            seeds = [(self._turn + 1) * count + row for row in rows]
            return self.model.init_memory(len(rows), seeds)
        if self._control == "never-updated":
            return self._first.select(rows)
        if self._control == "shuffled":
            return self._memory.select([(row + 1) % count for row in rows])
        return self._memory if len(rows) == count else self._memory.select(rows)

    def _update(
        self, rows: Sequence[int], turns: Sequence[Sequence[int]], computed: Sequence[ComputedTurn | None]
    ) -> None:
        memory = self._memory
        if self._control not in ("empty", "never-updated"):
            memory = memory.put(rows, write_turns(self.model, memory.select(rows), turns, computed))
        self._turn, self._memory = self._turn + 1, memory

    # --- turns ---------------------------------------------------------------------------------------------------

    def _query(self, query: str, seed: int | None = None) -> Query:
        ids = query_ids(self.tokenizer, self.tokens, query)
        return Query(ids, self._opening, self.sampling, seed, max_answer_tokens=self.max_answer_tokens)

    def _answered(self, queries: Sequence[str], memory: MemoryState) -> list[RunningTurn]:
        """Return finished turns."""
        engine = TurnEngine(self.model, len(queries))
        first = None if self.seed is None else self.seed + self._turn * len(queries)
        turns = [
            engine.prepare(self._query(query, None if first is None else first + row), "cut")
            for row, query in enumerate(queries)
        ]
        engine.begin(turns, memory)
        for _ in engine.run():
            pass
        engine.leave(turns)
        return turns

    def _turns(self, queries: Queries, answers: Sequence[str | None]) -> list[_Turn]:
        """Return the turns of the dialogues in which something is said."""
        before, after, turns = self.tokens.before_query, self.tokens.before_answer, []
        room = self.model.max_seq_len - len(before) - len(after) - 1
        for query, answer in zip(queries, answers, strict=True):
            if query is not None:
                words, said = (encode_text(self.tokenizer, text) for text in (query, answer or ""))
                fitted = fit_turn(words, (), said, room)
                asked = [*before, *fitted.query, *after]
                turns.append(_Turn(asked, list(fitted.answer), self.tokens.eos_token_id))
        return turns

    def _states(self, rows: list[int], turns: Sequence[_Turn]) -> Tensor:
        """Return what the head reads before each token of the answers, (tokens, D)."""
        own = self._control in ("none", "newest", "everything")
        if own and self.model.memory_writer.reads_computed:  # `follow` need not compute it again
            whole = [turn.ids for turn in turns]
            ids, mask = padded(whole, self.tokens.pad_token_id, device=self.model.device)
            states, computed = self.model.read_turns(self._memory.select(rows), ids, mask)
            self._read = _Read(rows, whole, computed)
            ends = computed.mask.sum(1).tolist()
        else:
            read = [turn.ids[:-1] for turn in turns]
            ids, mask = padded(read, self.tokens.pad_token_id, device=self.model.device)
            states, ends = self.model.decoder.hidden_states(ids, self._memory_for(rows), mask), [len(r) for r in read]
        spans = [(end - len(turn.answer) - 1, end - 1) for turn, end in zip(turns, ends, strict=True)]
        return torch.cat([row[first:end] for row, (first, end) in zip(states, spans, strict=True)])

    def _now(self) -> float:
        if self.model.device.type == "cuda":
            torch.cuda.synchronize(self.model.device)
        return time.perf_counter()


def _said(turn: RunningTurn, end: int) -> list[int]:
    return [token for token in turn.answer if token != end]


def _present(queries: Queries) -> list[int]:
    return [row for row, query in enumerate(queries) if query is not None]
