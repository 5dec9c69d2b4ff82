"""The one implementation of a turn: a query is answered from a memory, and the finished turn is written to it.

Streaming, batches, conversations, the benchmark and reinforcement learning all answer through it: one way to cut what
is too long, to pad, to stop, and to update the memory.

Shapes: R rows, T tokens of a turn.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple, get_args

import torch
from transformers import PreTrainedTokenizerFast

from rxlm.data.padding import padded
from rxlm.data.templates import fit_query
from rxlm.memory import MemoryReading, MemoryState
from rxlm.nn.past import ComputedTurn
from rxlm.rxt.core import RxTModel
from rxlm.rxt.decoding import Column, DecodingState, RowSettings, run
from rxlm.rxt.prompt import Prompt
from rxlm.rxt.sampling import SamplingConfig
from rxlm.rxt.writer import AnswerWriter
from rxlm.seeds import row_seeds

Fit = Literal["refuse", "cut"]
"""What to do with a query that is too long: refuse the turn, or cut the beginning of the query."""


class Opening(NamedTuple):
    """How an answer begins.

    With tokens `appended` to the prompt (part of the answer if `shown`), or with one of the `choices`, whichever
    the model prefers.
    """

    appended: tuple[int, ...] = ()
    shown: bool = False
    choices: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Query:
    """What one row is asked.

    Fields:
        ids: the query's tokens with what an interaction begins with, `[BOS][Q]query`.
        opening: how the answer begins.
        sampling: how its tokens are chosen.
        seed: of what is drawn; None takes one from PyTorch's global generator.
        max_answer_tokens: the answer's longest; None: up to the limit on the whole turn.
        stop: texts at which the answer ends, without them.
        ignore_eos: whether the answer goes on through [EOS].
    """

    ids: Sequence[int]
    opening: Opening
    sampling: SamplingConfig
    seed: int | None = None
    max_answer_tokens: int | None = None
    stop: Sequence[str] = ()
    ignore_eos: bool = False


@dataclass
class RunningTurn:
    """A turn that is being answered.

    Fields:
        query: what was asked. prompt: the tokens that are answered, with the opening.
        cut: tokens that the query lost because it was too long.
        row: its row of the table.
        writer: the answer as text, where texts are wanted or end it.
    """

    query: Query
    prompt: list[int]
    cut: int
    row: int = -1
    writer: AnswerWriter | None = None
    answer: list[int] = field(default_factory=list)
    """The answer's tokens, with the one that ended it; what stands after a stop text is left out."""
    unread: tuple[int, ...] = ()
    """Tokens of the conversation that were read before the prompt."""
    computed: ComputedTurn | None = None
    """What the decoder computed of the turn, for a memory that keeps it."""

    @property
    def ids(self) -> list[int]:
        """The tokens of the whole turn, as the memory takes them."""
        return [*self.prompt, *self.answer]


class TurnEngine:
    """Answers turns side by side; rows can join and leave while others go on.

    Args:
        model: the model.
        num_rows: R, the most turns at a time.
        max_seq_len: bounds query and answer together; the model's own limit when None.
        tokenizer: makes text of answers; needed for stop texts.
        streams: whether each turn's text is wanted piece by piece (`RunningTurn.writer`).
        with_log_probs: whether columns have log-probabilities.
    """

    def __init__(
        self,
        model: RxTModel,
        num_rows: int,
        *,
        max_seq_len: int | None = None,
        tokenizer: PreTrainedTokenizerFast | None = None,
        streams: bool = False,
        with_log_probs: bool = False,
    ) -> None:
        self.model, self.tokenizer, self.streams = model, tokenizer, streams
        self.tokens, self.limit = model.tokenizer_config, model.length_limit(max_seq_len)
        self.num_rows, self.with_log_probs = num_rows, with_log_probs
        self.turns: dict[int, RunningTurn] = {}
        """The turns under way, by row."""

    @cached_property
    def state(self) -> DecodingState:
        """The table of rows; made with the first turn, for an engine may only be asked what it would cut."""
        return DecodingState(
            self.model.decoder,
            self.num_rows,
            self.limit,
            pad_token_id=self.tokens.pad_token_id,
            with_log_probs=self.with_log_probs,
        )

    def prepare(self, query: Query, fit: Fit = "refuse") -> RunningTurn:
        """Return the turn that `begin` would answer.

        ValueError for a query that is too long and not to be cut, or that nothing can answer as it asks.

        A query that is cut leaves the answer the room that it may take, but keeps half of the turn.
        """
        if query.max_answer_tokens is not None and query.max_answer_tokens < 1:
            raise ValueError(f"max_answer_tokens must be at least 1, or None, got {query.max_answer_tokens}.")
        if fit not in get_args(Fit):
            raise ValueError(f"fit must be one of {', '.join(map(repr, get_args(Fit)))}, got {fit!r:.80}.")
        form, appended = len(self.tokens.before_query), query.opening.appended
        if form + len(appended) >= self.limit:
            raise ValueError(
                f"max_seq_len must be at least {form + len(appended) + 1}, got {self.limit}: the form of a turn takes "
                f"{form + len(appended)} tokens, and an answer needs one."
            )
        room = 1
        if fit == "cut":
            room = max(1, min(query.max_answer_tokens or self.limit, self.limit // 2))
        most = self.limit - len(appended) - room
        if fit == "cut" and len(query.ids) > most < form:
            room, most = 1, self.limit - len(appended) - 1
        if len(query.ids) > most and (fit == "refuse" or most < form):
            raise ValueError(
                f"The query takes {len(query.ids) + len(appended)} tokens with its special ones; with room for an "
                f"answer it may take {most + len(appended)} (max_seq_len {self.limit})."
            )
        words, cut = fit_query(query.ids[form:], most - form)
        writer = None
        if self.streams or query.stop:
            if self.tokenizer is None:
                raise ValueError("Stop texts need a tokenizer: give the engine one.")
            if isinstance(query.stop, str) or not all(isinstance(text, str) and text for text in query.stop):
                raise ValueError(f"stop must be a list of texts, none of them empty, got {query.stop!r}.")
            writer = AnswerWriter(self.tokenizer, self.tokens, appended, query.stop)
        return RunningTurn(query, [*query.ids[:form], *words, *appended], cut, writer=writer)

    def begin(self, turns: Sequence[RunningTurn], memory: MemoryState | MemoryReading) -> None:
        """Let prepared turns join, each answered from its row of `memory`; ValueError where one has begun already."""
        if any(turn.row >= 0 for turn in turns) or len(set(map(id, turns))) < len(turns):
            raise ValueError("A turn begins once: prepare another one.")
        draws = [turn.query.seed is None and turn.query.sampling.temperature > 0 for turn in turns]
        fresh = iter(row_seeds(sum(draws), None))
        seeds = [next(fresh) if draw else turn.query.seed for turn, draw in zip(turns, draws, strict=True)]
        settings = [self._settings(turn, seed) for turn, seed in zip(turns, seeds, strict=True)]
        prompt = Prompt.of_rows([turn.prompt for turn in turns], self.tokens.pad_token_id, self.model.device)
        past = (memory.read() if isinstance(memory, MemoryState) else memory).past
        if past is not None:
            for turn, unread in zip(turns, past.unread.tolist(), strict=True):
                turn.unread = tuple(token for token in unread if token >= 0)
        for turn, row in zip(turns, self.state.admit(prompt, memory, settings), strict=True):
            turn.row = row
            self.turns[row] = turn

    def _settings(self, turn: RunningTurn, seed: int | None) -> RowSettings:
        query = turn.query
        longest = self.limit if query.max_answer_tokens is None else len(turn.prompt) + query.max_answer_tokens
        return RowSettings(
            sampling=query.sampling,
            seed=seed,
            max_length=min(self.limit, longest),
            stop_tokens=() if query.ignore_eos else (self.tokens.eos_token_id,),
            first_tokens=query.opening.choices,
        )

    def step(self) -> Column:
        """Choose the next token of every turn under way."""
        return self._took(self.state.step())

    def run(self) -> Iterator[Column]:
        """Yield a column a step, until every turn has ended."""
        for column in run(self.state):
            yield self._took(column)

    def is_over(self, turn: RunningTurn) -> bool:
        """Tell whether a turn's answer has ended."""
        return not bool(self.state.active[turn.row])

    def resize(self, num_rows: int) -> None:
        """Have another number of rows, whose turns go on; ValueError where more turns are under way.

        A step costs what its rows cost, whether somebody has them or not.
        """
        moved = self.state.resize(num_rows)
        self.turns = {moved[row]: turn for row, turn in self.turns.items()}
        for row, turn in self.turns.items():
            turn.row = row
        self.num_rows = num_rows

    def leave(self, turns: Sequence[RunningTurn]) -> None:
        """Let turns leave, ended or not; their answers are complete then."""
        self._check_under_way(turns)
        self.state.check_numbers([turn.row for turn in turns])
        ids, lengths = self.state.ids.tolist(), self.state.lengths.tolist()
        for turn in turns:
            turn.answer = ids[turn.row][len(turn.prompt) : lengths[turn.row]]
            if turn.writer is not None:
                turn.writer.flush()
                turn.answer = turn.answer[: turn.writer.kept_tokens]
            if self.model.memory_writer.reads_computed:
                turn.computed = self.state.computed(turn.row, [*turn.unread, *turn.ids[:-1]])
        self._release(turns)  # none leaves before all can

    def drop(self, turns: Sequence[RunningTurn]) -> None:
        """Let turns leave whose answers nobody wants."""
        self._check_under_way(turns)
        self._release(turns)

    def broken(self) -> list[RunningTurn]:
        """Return the turns under way whose logits were no numbers."""
        return [self.turns[row] for row in self.state.broken_rows() if row in self.turns]

    def _check_under_way(self, turns: Sequence[RunningTurn]) -> None:
        if any(self.turns.get(turn.row) is not turn for turn in turns) or len(set(map(id, turns))) < len(turns):
            raise ValueError("Only turns that have begun can leave, each of them once.")

    def _release(self, turns: Sequence[RunningTurn]) -> None:
        rows = [turn.row for turn in turns]
        self.state.evict(rows)
        for row in rows:
            del self.turns[row]

    def finish(self, turns: Sequence[RunningTurn], memory: MemoryState) -> MemoryState:
        """Let turns leave, and return the memories after them; each was answered from its row of `memory`."""
        self.leave(turns)
        return write_turns(self.model, memory, [turn.ids for turn in turns], [turn.computed for turn in turns])

    def said(self, turn: RunningTurn) -> list[int]:
        """Return the tokens of a finished answer, with an opening that is shown, without the one that ended it."""
        shown = turn.query.opening.appended if turn.query.opening.shown else ()
        ends = () if turn.query.ignore_eos else (self.tokens.eos_token_id,)
        return [*shown, *(token for token in turn.answer if token not in ends)]

    def _took(self, column: Column) -> Column:
        """Give the tokens to the texts that are being written, and end those in which a stop text came."""
        writing = [turn for turn in self.turns.values() if turn.writer is not None]
        if writing:
            tokens, active = column.tokens.tolist(), column.active.tolist()
            for turn in writing:
                assert turn.writer is not None
                if active[turn.row]:
                    turn.writer.push(tokens[turn.row])
            if stopped := [turn.row for turn in writing if turn.writer is not None and turn.writer.is_stopped]:
                self.state.end(stopped)
        return column


@torch.no_grad()
def write_turns(
    model: RxTModel,
    memory: MemoryState,
    turns: Sequence[Sequence[int]],
    computed: Sequence[ComputedTurn | None] = (),
) -> MemoryState:
    """Return the memories after finished turns, given as token ids, one a conversation; empty ones change nothing.

    `computed` is what the decoder made of them while they were answered, where a memory keeps it and it is there: a
    part for each turn, or for several.
    """
    ids, mask = padded(turns, model.tokenizer_config.pad_token_id, device=model.device)
    seen = None if all(len(turn) == ids.shape[1] for turn in turns) else mask
    found = [each for each in computed if each is not None]
    if found and sum(len(each.ids) for each in found) == len(turns):
        return model.write(memory, ids, seen, computed=ComputedTurn.join(found))
    if model.memory_writer.reads_computed:
        return model.update_memory(memory, ids, seen)
    # Inference mode spares the bookkeeping that gradients need; the copy is made outside of it, for a caller may train
    # on it.
    with torch.inference_mode():
        updated = model.update_memory(memory, ids, seen)
    return updated.clone()
