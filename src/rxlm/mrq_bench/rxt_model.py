"""Reactive Transformers in the benchmark: each dialogue is known to the model by its memory alone.

Shapes: B dialogues, T tokens, D model dimension.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

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
from rxlm.rxt.fingerprint import fingerprint
from rxlm.rxt.models import RxTAlpha
from rxlm.rxt.sampling import GREEDY
from rxlm.rxt.turn_engine import Opening, Query, RunningTurn, TurnEngine, write_turns


class RxTRespondent(SumsLosses):
    """A Reactive Transformer that answers greedily, without thinking first.

    A query that is too long for the model loses its beginning; see `TurnEngine.prepare`.

    Args:
        model: the model, with its tokenizer.
        max_answer_tokens: an answer ends after so many tokens, or at the model's longest interaction.
    """

    def __init__(self, model: RxTAlpha, *, max_answer_tokens: int = 64) -> None:
        self.model = model.eval()
        self.tokenizer, self.tokens = model.needed_tokenizer(), model.tokenizer_config
        self.max_answer_tokens = max_answer_tokens
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
        self._update(rows, [turn.ids for turn in turns])
        replies = dict(zip(rows, texts, strict=True))
        return [replies.get(row, "") for row in range(len(queries))]

    @torch.no_grad()
    def follow(self, queries: Queries, answers: Sequence[str | None]) -> None:
        """Write a turn to the memories as if these answers had been given."""
        turns = self._turns(queries, answers)
        self._update(_present(queries), [[*start, *end, self.tokens.eos_token_id] for start, end in turns])

    @torch.no_grad()
    def token_losses(self, queries: Queries, answers: Sequence[str | None]) -> list[Tensor]:
        """Return the nats of the answers' tokens, [EOS] left out, from the memory that the control gives."""
        turns = self._turns(queries, answers)
        rows = [start + end for start, end in turns]
        ids, mask = padded(rows, self.tokens.pad_token_id, device=self.model.device)
        answered = torch.zeros_like(mask)
        for row, (start, end) in enumerate(turns):
            answered[row, len(start) : len(start) + len(end)] = True
        hidden = self.model.decoder.hidden_states(ids, self._memory_for(_present(queries)), mask)
        states, targets = hidden[:, :-1][answered[:, 1:]], ids[answered]
        parts = zip(states.split(TOKENS_AT_ONCE), targets.split(TOKENS_AT_ONCE), strict=True)
        nats = torch.cat([token_nats(self.model.decoder.head(part), wanted) for part, wanted in parts])
        return by_dialogue(nats, [len(end) for _, end in turns], queries)

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

    def _update(self, rows: Sequence[int], turns: Sequence[Sequence[int]]) -> None:
        memory = self._memory
        if self._control not in ("empty", "never-updated"):
            memory = memory.put(rows, write_turns(self.model, memory.select(rows), turns))
        self._turn, self._memory = self._turn + 1, memory

    # --- turns ---------------------------------------------------------------------------------------------------

    def _query(self, query: str) -> Query:
        ids = query_ids(self.tokenizer, self.tokens, query)
        return Query(ids, self._opening, GREEDY, max_answer_tokens=self.max_answer_tokens)

    def _answered(self, queries: Sequence[str], memory: MemoryState) -> list[RunningTurn]:
        """Return finished turns."""
        engine = TurnEngine(self.model, len(queries))
        turns = [engine.prepare(self._query(query), "cut") for query in queries]
        engine.begin(turns, memory)
        for _ in engine.run():
            pass
        engine.leave(turns)
        return turns

    def _turns(self, queries: Queries, answers: Sequence[str | None]) -> list[tuple[list[int], list[int]]]:
        """Return the ids of `[BOS][Q]query[A]` and of the answer, for the dialogues in which something is said."""
        before, after, turns = self.tokens.before_query, self.tokens.before_answer, []
        room = self.model.max_seq_len - len(before) - len(after) - 1
        for query, answer in zip(queries, answers, strict=True):
            if query is not None:
                words, said = (encode_text(self.tokenizer, text) for text in (query, answer or ""))
                fitted = fit_turn(words, (), said, room)
                turns.append(([*before, *fitted.query, *after], list(fitted.answer)))
        return turns

    def _now(self) -> float:
        if self.model.device.type == "cuda":
            torch.cuda.synchronize(self.model.device)
        return time.perf_counter()


def _said(turn: RunningTurn, end: int) -> list[int]:
    return [token for token in turn.answer if token != end]


def _present(queries: Queries) -> list[int]:
    return [row for row, query in enumerate(queries) if query is not None]
