"""Reactive Transformers in the benchmark: each dialogue is known to the model by its memory alone.

Shapes: B dialogues, T tokens, D model dimension.
"""

import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from rxlm.data.tokenizer import encode_text
from rxlm.memory.slots.state import MemoryState
from rxlm.mrq_bench.protocol import Control, Loss, Queries, TurnCost, check_batch, check_control, losses_of
from rxlm.rxt.fingerprint import fingerprint
from rxlm.rxt.generation import Column, Prompt, SamplingConfig
from rxlm.rxt.interaction import answers as tokens_of
from rxlm.rxt.models import RxTAlpha

GREEDY = SamplingConfig(temperature=0.0)


class RxTRespondent:
    """A Reactive Transformer that answers greedily, without thinking first.

    A query that leaves too little room for an answer in the model's longest interaction loses its beginning.

    Args:
        model: the model, with its tokenizer.
        max_answer_tokens: an answer ends after so many tokens, or at the model's longest interaction.
    """

    controls: tuple[Control, ...] = ("none", "empty", "shuffled", "never-updated")

    def __init__(self, model: RxTAlpha, *, max_answer_tokens: int = 64) -> None:
        self.model = model.eval()
        self.tokenizer, self.tokens = model.needed_tokenizer(), model.tokenizer_config
        self.max_answer_tokens = max_answer_tokens
        self._around_query = len(self.tokens.before_query) + len(self.tokens.before_answer)
        self._query_room = model.max_seq_len - min(max_answer_tokens, model.max_seq_len // 4)

    def describe(self) -> Mapping[str, Any]:
        """Return the model's fingerprint and the longest answer."""
        return self._identity

    @cached_property
    def _identity(self) -> Mapping[str, Any]:
        settings = {"dtype": str(self.model.dtype), "max_answer_tokens": self.max_answer_tokens}
        return {"kind": "rxt", **settings, **fingerprint(self.model, self.tokenizer)}

    def cuts(self, query: str) -> bool:
        """Tell whether a query loses its beginning when it is answered."""
        return len(encode_text(self.tokenizer, query)) + self._around_query > self._query_room

    @torch.no_grad()
    def reset(self, batch_size: int, control: Control = "none") -> None:
        """Begin `batch_size` new dialogues from fresh memories."""
        check_control(control, self)
        check_batch(batch_size, control)
        self._control: Control = control
        self._turn = 0
        self._first = self._memory = self.model.init_memory(batch_size, seed=0)

    @torch.no_grad()
    def respond(self, queries: Queries) -> list[str]:
        """Answer the next turn of every dialogue and fold it into its memory."""
        rows = _present(queries)
        prompt = self._prompt([query for query in queries if query is not None])
        columns = self._generate(prompt, self._memory_for(rows))
        texts = self.model.stringify_batch(tokens_of(columns, (self.tokens.eos_token_id,)))
        if self._control == "shuffled":  # what it remembers is what it would have said
            columns = self._generate(prompt, self._memory.select(rows))
        self._update(rows, *prompt.complete(columns, self.tokens.pad_token_id))
        replies = dict(zip(rows, texts, strict=True))
        return [replies.get(row, "") for row in range(len(queries))]

    @torch.no_grad()
    def follow(self, queries: Queries, answers: Sequence[str | None]) -> None:
        """Fold a turn into the memories as if these answers had been given."""
        rows = _present(queries)
        ids = [[*start, *end, self.tokens.eos_token_id] for start, end in self._turns(queries, answers)]
        self._update(rows, *self._padded(ids))

    @torch.no_grad()
    def losses(self, queries: Queries, answers: Sequence[str | None]) -> list[Loss]:
        """Return the loss of the answers' tokens, [EOS] left out, from the memory that the control gives."""
        turns = self._turns(queries, answers)
        ids, mask = self._padded([start + end for start, end in turns])
        answered = torch.zeros_like(mask)
        for row, (start, end) in enumerate(turns):
            answered[row, len(start) : len(start) + len(end)] = True
        hidden = self.model.decoder.hidden_states(ids, self._memory_for(_present(queries)), mask)
        logits = self.model.decoder.head(hidden[:, :-1][answered[:, 1:]])
        rows = iter(losses_of(logits, ids, answered))
        return [Loss(0.0, 0) if query is None else next(rows) for query in queries]

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
        prompt = self._prompt([query])
        started = self._now()
        columns = self.model.generate(prompt, reading, sampling=GREEDY, ignore_eos=True)
        given = [next(columns)]
        first = self._now()
        given += islice(columns, num_tokens - 1)
        last = self._now()
        updated = self.model.update_memory(memory, *prompt.complete(given, self.tokens.pad_token_id))
        self.model.read_memory(updated)
        speed = (len(given) - 1) / (last - first) if len(given) > 1 else float("nan")
        return TurnCost(first - started, speed, self._now() - last, memory.num_bytes)

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

    def _update(self, rows: Sequence[int], ids: Tensor, mask: Tensor) -> None:
        self._turn += 1
        if self._control in ("empty", "never-updated"):
            return
        updated = self.model.update_memory(self._memory.select(rows), ids, mask).slots
        slots = self._memory.slots.clone()
        slots[:, list(rows)] = updated
        self._memory = MemoryState(slots)

    # --- tokens --------------------------------------------------------------------------------------------------

    def _generate(self, prompt: Prompt, memory: MemoryState) -> list[Column]:
        return list(islice(self.model.generate(prompt, memory, sampling=GREEDY), self.max_answer_tokens))

    def _prompt(self, queries: Sequence[str]) -> Prompt:
        rows = [self._opened(query, self._query_room) for query in queries]
        lengths = [len(row) for row in rows]
        return Prompt(self._padded(rows)[0], lengths)

    def _turns(self, queries: Queries, answers: Sequence[str | None]) -> list[tuple[list[int], list[int]]]:
        """Return the ids of `[BOS][Q]query[A]` and of the answer, for the dialogues in which something is said."""
        limit, turns = self.model.max_seq_len - 1, []
        for query, answer in zip(queries, answers, strict=True):
            if query is not None:
                end = encode_text(self.tokenizer, answer or "")[: limit // 2]
                turns.append((self._opened(query, limit - len(end)), end))
        return turns

    def _opened(self, query: str, room: int) -> list[int]:
        """Return `[BOS][Q]query[A]` in at most `room` tokens: the beginning of too long a query is cut."""
        words = encode_text(self.tokenizer, query)
        fitting = words[max(0, len(words) + self._around_query - room) :]
        return [*self.tokens.before_query, *fitting, *self.tokens.before_answer]

    def _padded(self, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        width, pad = max(map(len, rows)), self.tokens.pad_token_id
        ids = torch.tensor([[*row, *[pad] * (width - len(row))] for row in rows], device=self.model.device)
        lengths = torch.tensor([len(row) for row in rows], device=ids.device)
        return ids, torch.arange(width, device=ids.device) < lengths[:, None]

    def _now(self) -> float:
        if self.model.device.type == "cuda":
            torch.cuda.synchronize(self.model.device)
        return time.perf_counter()


def _present(queries: Queries) -> list[int]:
    return [row for row, query in enumerate(queries) if query is not None]
