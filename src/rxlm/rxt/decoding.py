"""Decoding as a state: a table of rows that answer side by side, join and leave.

`admit` reads prompts into free rows, `step` chooses the next token of every row, `evict` gives rows back. Rows do not
see each other: each gives what it would give alone, whoever its neighbours are and whenever they come and go. `run` is
the one loop over `step`.

Shapes: R rows, C tokens of query and answer together, T prompt tokens, V vocabulary, D model dimension.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from rxlm.memory import MemoryReading, MemoryState
from rxlm.nn.past import ComputedTurn, Past
from rxlm.rxt.decoder import RxTDecoder
from rxlm.rxt.prompt import Prompt
from rxlm.rxt.sampling import SamplingConfig, choose_tokens, log_probabilities, penalise_repetition
from rxlm.rxt.step_graph import StepGraphs
from rxlm.seeds import Seed, row_seeds

# How often the loop asks a GPU whether every row is finished: asking waits for all work under way.
STEPS_BETWEEN_CHECKS = 8
NO_TOKEN = -1
CHUNK = 64
"""Tokens a row by which the cache grows: a table whose rows may be long costs what they are."""


class Column(NamedTuple):
    """One decoding step.

    Fields:
        tokens: (R,).
        active: False at rows that had finished before, whose token is padding, (R,).
        log_probs: log-probability of each token under the whole distribution at the sampling temperature, (R,), where
            it was asked for; it means nothing at rows that had finished.
    """

    tokens: Tensor
    active: Tensor
    log_probs: Tensor | None = None


@dataclass(frozen=True)
class RowSettings:
    """How one row is answered.

    Fields:
        sampling: how tokens are chosen.
        seed: of what is drawn; None: nothing is, at temperature 0.
        max_length: tokens of prompt and answer together after which the row ends.
        stop_tokens: the row ends with the first of these that it produces.
        first_tokens: the only tokens that the answer may begin with; None for all.
    """

    sampling: SamplingConfig
    seed: int | None
    max_length: int
    stop_tokens: tuple[int, ...] = ()
    first_tokens: tuple[int, ...] | None = None


class DecodingState:
    """Where a batch of answers stands.

    Args:
        decoder: writes the answers.
        num_rows: R.
        capacity: C, the most tokens of prompt and answer together.
        pad_token_id: the token of rows that have ended.
        with_log_probs: whether columns have log-probabilities.

    Fields:
        ids, lengths: prompt and answer of each row, (R, C + 1), and how many tokens it has, (R,).
        active: True at rows whose answer goes on, (R,).
        steps_left: steps after which no row can go on.
    """

    def __init__(
        self, decoder: RxTDecoder, num_rows: int, capacity: int, *, pad_token_id: int, with_log_probs: bool = False
    ) -> None:
        self.decoder, self.num_rows, self.capacity = decoder, num_rows, capacity
        self.pad_token_id, self.with_log_probs = pad_token_id, with_log_probs
        self.device = decoder.embedding.weight.device
        self.cache = decoder.new_cache(num_rows, min(capacity, CHUNK))
        self._graphs = StepGraphs.of(decoder)
        self._longest = capacity
        """Tokens that the cache grows to: prompt and answer, after what a memory keeps."""
        self.ids = torch.full((num_rows, capacity + 1), pad_token_id, device=self.device)
        self.lengths = self._per_row(0)
        self.active = self._per_row(False)
        self.steps_left = 0
        self._begins, self._limits = self._per_row(0), self._per_row(0)
        self._stops = torch.full((num_rows, 0), NO_TOKEN, device=self.device)
        self._settings: list[RowSettings | None] = [None] * num_rows
        self._groups: list[tuple[SamplingConfig, Tensor | None]] = []
        self._openings: dict[int, tuple[int, ...]] = {}
        self._reading: MemoryReading | None = None
        self._hidden: Tensor | None = None
        """What the head makes the next tokens of, (R, D)."""
        self._unread: Tensor | None = None
        """Tokens that were chosen and that the decoder has not read, (R,)."""
        self._noise: Tensor | None = None
        self._broken = self._per_row(False)
        """Rows whose logits were no numbers."""
        self._seen: Tensor | None = None

    @property
    def free_rows(self) -> list[int]:
        """Numbers of the rows that nobody has."""
        return [row for row, settings in enumerate(self._settings) if settings is None]

    # --- rows join and leave -------------------------------------------------------------------------------------

    @torch.no_grad()
    def admit(self, prompt: Prompt, memory: MemoryState | MemoryReading, settings: Sequence[RowSettings]) -> list[int]:
        """Read prompts into free rows; the next step gives their first tokens.

        Args:
            prompt: of n rows; each needs a token, and room for another one.
            memory: what these n rows are answered from.
            settings: one for each.

        Returns: the numbers of the rows, in the order of the prompts.
        """
        if not settings:
            return []
        rows = self.free_rows[: len(settings)]
        if len(rows) < len(settings):
            raise ValueError(f"There are {len(rows)} free rows of {self.num_rows}, and {len(settings)} are to join.")
        for length, own in zip(prompt.lengths, settings, strict=True):
            if not 0 < length < own.max_length <= self.capacity:
                raise ValueError(
                    f"A prompt has {length} tokens; with room for an answer, it must have between 1 and "
                    f"{min(own.max_length, self.capacity) - 1} (max_seq_len {own.max_length})."
                )
        self._read_chosen()
        reading = self.decoder.read_memory(memory)
        if reading.past is None:
            self._prefill(rows, prompt, reading)
        else:
            self._prefill(rows, prompt.after(reading.past.unread), MemoryReading(()), reading.past)
        index = torch.tensor(rows, device=self.device)
        lengths = torch.tensor(prompt.lengths, device=self.device)
        self.ids[index] = self.pad_token_id
        self.ids[index, : prompt.ids.shape[1]] = prompt.ids
        self.lengths, self._begins = (old.index_copy(0, index, lengths) for old in (self.lengths, self._begins))
        room = [own.max_length - length for own, length in zip(settings, prompt.lengths, strict=True)]
        limits = torch.tensor([own.max_length for own in settings], device=self.device)
        self._limits = self._limits.index_copy(0, index, limits)
        self.active = self.active.index_fill(0, index, True)
        self.steps_left = max(self.steps_left, *room)
        for place, (row, own, steps) in enumerate(zip(rows, settings, room, strict=True)):
            self._settings[row] = own
            self._set_row(row, own, steps, None if reading.past is None else reading.past.ids[:, place])
        self._group()
        return rows

    def evict(self, rows: Sequence[int]) -> None:
        """Give rows back: others may join in their place."""
        self.end(rows)
        self.cache.release(rows)
        for row in rows:
            self._settings[row] = None
            self._openings.pop(row, None)
            self._broken[row] = False
        if not any(self._settings):
            self.steps_left, self._unread = 0, None
        self._group()

    @torch.no_grad()
    def resize(self, num_rows: int) -> dict[int, int]:
        """Let the table have another number of rows; returns the new number of each row that somebody has.

        ValueError where there are more such rows.
        """
        taken = [row for row, settings in enumerate(self._settings) if settings is not None]
        if len(taken) > num_rows:
            raise ValueError(f"{len(taken)} rows are taken: a table of {num_rows} has no room for them.")
        places: list[int | None] = [*taken, *[None] * (num_rows - len(taken))]
        index = torch.tensor([row or 0 for row in places], device=self.device)
        for name in ("ids", "lengths", "active", "_begins", "_limits", "_stops", "_broken"):
            setattr(self, name, getattr(self, name)[index])
        for name in ("_hidden", "_unread", "_noise", "_seen"):
            own = getattr(self, name)
            setattr(self, name, None if own is None else own[index])
        self._reading = None if self._reading is None else self._reading.select(index)
        self.active[len(taken) :] = False
        self._broken[len(taken) :] = False
        self.cache.arrange(places)
        moved = {row: place for place, row in enumerate(taken)}
        self._openings = {moved[row]: tokens for row, tokens in self._openings.items()}
        self._settings = [None if row is None else self._settings[row] for row in places]
        self.num_rows = num_rows
        self._group()
        return moved

    def end(self, rows: Sequence[int]) -> None:
        """Let the answers of some rows go on no longer."""
        self.active = self.active.index_fill(0, torch.tensor(list(rows), device=self.device), False)

    def _prefill(self, rows: list[int], prompt: Prompt, reading: MemoryReading, past: Past | None = None) -> None:
        """Read prompts (n, T), all rows of the table at once or some into their places, after what a memory keeps."""
        whole = len(rows) == self.num_rows
        cache = self.cache if whole else self.decoder.new_cache(len(rows), prompt.ids.shape[1], past)
        kept = 0 if past is None else past.num_places + past.unread.shape[1]
        # Inference mode spares the bookkeeping that gradients need; tokens are made outside of it, for a caller may
        # train on them.
        self._longest = max(self._longest, kept + self.capacity)
        self.cache.reserve(min(kept + prompt.ids.shape[1] + CHUNK, self._longest))
        with torch.inference_mode():
            if whole:
                cache.reset()
            if whole and past is not None:
                cache.begin(past)
            states = self.decoder.hidden_states(prompt.ids, reading, cache=cache)
            ends = torch.tensor(prompt.lengths, device=self.device) - 1
            last = states[torch.arange(len(rows), device=self.device), ends]
            if whole:
                cache.advance_prompt(prompt.lengths)
                self._reading, self._hidden = reading, last
                return
            cache.advance_prompt(prompt.lengths)
            self.cache.put(rows, cache)
            if self._reading is None or self._hidden is None:
                self._reading = reading.select([0] * self.num_rows)
                self._hidden = last.new_zeros(self.num_rows, last.shape[1])
            self._reading = self._reading.put(rows, reading)
            self._hidden = self._hidden.index_copy(0, torch.tensor(rows, device=self.device), last)

    def computed(self, row: int, ids: Sequence[int]) -> ComputedTurn:
        """Return what the decoder computed of the first tokens that it read for a row, `ids`, unread ones included."""
        return self.cache.computed(row, ids, self.decoder.rope)

    def _set_row(self, row: int, settings: RowSettings, steps: int, kept: Tensor | None) -> None:
        """Note what a row draws, what ends it, and which tokens it has seen, those that its memory has `kept` too."""
        if len(settings.stop_tokens) > self._stops.shape[1]:
            wider = torch.full((self.num_rows, len(settings.stop_tokens)), NO_TOKEN, device=self.device)
            wider[:, : self._stops.shape[1]] = self._stops
            self._stops = wider
        self._broken[row] = False
        self._stops[row] = NO_TOKEN
        self._stops[row, : len(settings.stop_tokens)] = torch.tensor(settings.stop_tokens, device=self.device)
        if settings.first_tokens is not None:
            self._openings[row] = settings.first_tokens
        if settings.sampling.temperature > 0:
            if self._noise is None:
                self._noise = torch.zeros(self.num_rows, self.capacity, device=self.device)
            assert settings.seed is not None
            generator = torch.Generator().manual_seed(settings.seed)
            self._noise[row, :steps] = torch.rand(steps, generator=generator).to(self.device)
        if settings.sampling.repetition_penalty != 1.0:
            if self._seen is None:
                self._seen = self.active.new_zeros(self.num_rows, self.decoder.config.vocab_size)
            self._seen[row] = False
            self._seen[row, self.ids[row, : int(self.lengths[row])].long()] = True
            if kept is not None:
                self._seen[row, kept[kept >= 0].long()] = True
                self._seen[row, list(settings.stop_tokens)] = False  # which every earlier answer ended with

    def _group(self) -> None:
        """Put rows of the same sampling together; most tables have one kind."""
        rows: dict[SamplingConfig, list[int]] = {}
        for row, settings in enumerate(self._settings):
            if settings is not None:
                rows.setdefault(settings.sampling, []).append(row)
        if len(rows) == 1:
            self._groups = [(next(iter(rows)), None)]
        else:
            self._groups = [(sampling, torch.tensor(own, device=self.device)) for sampling, own in rows.items()]

    # --- a step --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def step(self) -> Column:
        """Choose the next token of every active row; ValueError where none can go on."""
        if self.steps_left <= 0:
            raise ValueError("No row can go on: admit prompts before a step.")
        self._read_chosen()
        assert self._hidden is not None
        with torch.inference_mode():
            logits = self.decoder.head(self._hidden)
        if self._openings:
            logits = logits.clone()
            for row, tokens in self._openings.items():
                logits[row] = _only(logits[row], tokens)
            self._openings.clear()
        active = self.active
        likeliest = logits.amax(-1)
        self._broken = self._broken | (active & (likeliest - likeliest != 0))  # 0 of every finite number
        if self.device.type == "cpu":
            self.check_numbers()
        tokens = torch.where(active, self._choose(logits), self.pad_token_id)
        column = Column(tokens, active, self._log_probs(logits, tokens) if self.with_log_probs else None)
        self.ids.scatter_(1, self.lengths[:, None], tokens[:, None])
        self.lengths = self.lengths + active
        self.active = active & (self.lengths < self._limits)
        for stops in self._stops.unbind(1):  # one column in most tables: cheaper than a mask of all
            self.active = self.active & (tokens != stops)
        self.steps_left -= 1
        self._unread = tokens
        return column

    def check_numbers(self, rows: Sequence[int] | None = None) -> None:
        """Raise ValueError where the logits of a row, or one of `rows`, were no numbers; on a GPU this waits for it."""
        broken = [row for row in self.broken_rows() if rows is None or row in rows]
        if broken:
            raise ValueError(
                f"The logits of row {', '.join(map(str, broken))} are not numbers (NaN or infinity): the weights or "
                "the memory hold such values, or float16 has overflowed, where float32 or bfloat16 would not."
            )

    def broken_rows(self) -> list[int]:
        """Return the rows whose logits were no numbers; on a GPU this waits for it."""
        return [row for row, broken in enumerate(self._broken.tolist()) if broken]

    def _read_chosen(self) -> None:
        """Let the decoder read the tokens that were chosen last."""
        if self._unread is None:
            return
        if self.cache.extent >= self.cache.capacity:
            self.cache.reserve(min(self.cache.capacity + CHUNK, self._longest))
        with torch.inference_mode():
            self._hidden = self._read_token(self._unread)
            self.cache.advance_active(self.active)
        self._unread = None

    def _read_token(self, ids: Tensor) -> Tensor:
        """Return what the head reads of a token of each row, (R, D), of ids (R,)."""
        assert self._reading is not None
        if self._graphs is not None:
            return self._graphs.hidden_states(ids, self._reading, self.cache)
        return self.decoder.hidden_states(ids[:, None], self._reading, cache=self.cache)[:, 0]

    def _choose(self, logits: Tensor) -> Tensor:
        """Return the next tokens (R,) of logits (R, V)."""
        if len(self._groups) == 1:
            tokens = self._choose_alike(logits, self._groups[0][0], None)
        else:
            tokens = torch.full((self.num_rows,), self.pad_token_id, device=self.device)
            for sampling, rows in self._groups:
                tokens[rows] = self._choose_alike(logits[rows], sampling, rows)
        if self._seen is not None:
            self._seen.scatter_(1, tokens[:, None], True)
        return tokens

    def _choose_alike(self, logits: Tensor, sampling: SamplingConfig, rows: Tensor | None) -> Tensor:
        """Return the tokens of some rows, all of the table for None, that share their sampling."""
        if sampling.repetition_penalty != 1.0:
            assert self._seen is not None
            seen = self._seen if rows is None else self._seen[rows]
            logits = penalise_repetition(logits, seen, sampling.repetition_penalty)
        if sampling.temperature == 0:
            return choose_tokens(logits, sampling)
        assert self._noise is not None
        drawn = self.lengths - self._begins
        noise = self._noise.gather(1, drawn[:, None])[:, 0]
        return choose_tokens(logits, sampling, noise if rows is None else noise[rows])

    def _log_probs(self, logits: Tensor, tokens: Tensor) -> Tensor:
        if len(self._groups) == 1:
            return log_probabilities(logits, tokens, self._groups[0][0].temperature)
        found = torch.zeros(self.num_rows, device=self.device)
        for sampling, rows in self._groups:
            found[rows] = log_probabilities(logits[rows], tokens[rows], sampling.temperature)
        return found

    def _per_row(self, value: int | bool) -> Tensor:
        return torch.full((self.num_rows,), value, device=self.device)


def _only(logits: Tensor, tokens: Sequence[int]) -> Tensor:
    allowed = torch.zeros_like(logits, dtype=torch.bool)
    allowed[list(tokens)] = True
    return logits.masked_fill(~allowed, float("-inf"))


def run(state: DecodingState) -> Iterator[Column]:
    """Yield a column a step, until every row has ended."""
    steps = 0
    while state.steps_left > 0:
        yield state.step()
        steps += 1
        if state.device.type != "cpu":
            if steps % STEPS_BETWEEN_CHECKS:
                continue
            state.check_numbers()  # which a step has done on a CPU
        if not state.active.any():
            return


def generate(
    decoder: RxTDecoder,
    prompt: Prompt,
    memory: MemoryState | MemoryReading,
    *,
    sampling: SamplingConfig,
    max_length: int,
    pad_token_id: int,
    stop_tokens: Sequence[int] = (),
    first_tokens: Sequence[int] | None = None,
    with_log_probs: bool = False,
    seed: Seed = None,
) -> Iterator[Column]:
    """Continue each prompt token by token, all rows at once, from the memory.

    Args:
        prompt: the prompts; a row needs at least one token.
        memory: the memory of these conversations, or a reading of it.
        sampling, max_length, stop_tokens, first_tokens: of all rows, see `RowSettings`.
        pad_token_id, with_log_probs: see `DecodingState`.
        seed: see `seeds.row_seeds`.

    Yields a `Column` a step, until every row has ended; a row that ended is padded.
    """
    num_rows = len(prompt.lengths)
    seeds: Sequence[int | None] = [None] * num_rows if sampling.temperature == 0 else row_seeds(num_rows, seed)
    first = None if first_tokens is None else tuple(first_tokens)
    state = DecodingState(decoder, num_rows, max_length, pad_token_id=pad_token_id, with_log_probs=with_log_probs)
    settings = [RowSettings(sampling, own, max_length, tuple(stop_tokens), first) for own in seeds]
    state.admit(prompt, memory, settings)
    yield from run(state)
