"""A chat with one model: text in, text out, and the memory updated while the reader reads.

A conversation does not change its model, so that any number of them can share one.
"""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self
from weakref import ref

import torch
from transformers import PreTrainedTokenizerFast

from rxlm.data.templates import query_ids
from rxlm.file_errors import placed
from rxlm.memory import MemoryState
from rxlm.rxt.alpha import ThinkingMode
from rxlm.rxt.background import Job
from rxlm.rxt.conversation_file import SavedConversation
from rxlm.rxt.current_memory import KeptReading
from rxlm.rxt.fingerprint import fingerprint
from rxlm.rxt.history import ConversationError, History, Turn
from rxlm.rxt.memory_view import said
from rxlm.rxt.models import RxTAlpha
from rxlm.rxt.sampling import SamplingConfig
from rxlm.rxt.shared_history import Pieces, SharedHistory
from rxlm.rxt.text import check_tokenizer
from rxlm.rxt.turn_engine import Fit, Query, RunningTurn, TurnEngine

__all__ = ["Conversation", "ConversationError", "Turn"]


class Conversation:
    """A conversation with a Reactive Transformer.

    Threads can share it: one turn is answered at a time, and who comes meanwhile is refused, or waits (`busy_timeout`).
    An interrupt (Ctrl-C) at any moment leaves it as it was before the call or as it is after it.

    Args:
        model: the model; conversations share it.
        tokenizer: its tokenizer; None takes the one attached to the model.
        system: a system prompt, read into the memory before the first turn.
        sampling: how answers are sampled, unless a turn says otherwise; None: as the model says.
        seed: makes the whole conversation repeatable: initial memory and answers.
        memory_tokens: tokens S that a memory of tokens keeps of this conversation; None: as many as the model says, or
            as a conversation that is loaded kept.
        busy_timeout: seconds that a call waits for an answer that is being written; then, and by default at once, it
            raises `ConversationError`. `math.inf`: as long as it takes, for ever where nobody reads that answer.
    """

    def __init__(
        self,
        model: RxTAlpha,
        tokenizer: PreTrainedTokenizerFast | None = None,
        system: str | None = None,
        *,
        sampling: SamplingConfig | None = None,
        seed: int | None = None,
        memory_tokens: int | None = None,
        busy_timeout: float = 0.0,
    ) -> None:
        if tokenizer is not None:
            check_tokenizer(tokenizer, model.tokenizer_config, model.decoder.config.vocab_size)
        if math.isnan(busy_timeout) or busy_timeout < 0:
            raise ValueError(f"busy_timeout must be seconds, at least 0, got {busy_timeout!r}.")
        self.model = model
        self.tokenizer = tokenizer or model.needed_tokenizer()
        self.sampling = sampling or model.sampling or SamplingConfig()
        self.memory_tokens = memory_tokens
        start = History.begin(model, self.tokenizer, system, seed, memory_tokens)
        self._history = SharedHistory(start, busy_timeout)

    @property
    def system(self) -> str | None:
        """The system prompt."""
        return self._history.settled.system

    @property
    def seed(self) -> int | None:
        """What makes the conversation repeatable."""
        return self._history.settled.seed

    @property
    def turns(self) -> tuple[Turn, ...]:
        """The finished turns, oldest first."""
        return self._history.turns

    @property
    def memory(self) -> MemoryState:
        """The memory after the last turn; waits for its update."""
        return self._history.present().last.memory

    @property
    def memory_before(self) -> MemoryState | None:
        """The memory before the last turn; None before the first one."""
        present = self._history.present()
        return present.memory_after(self.model, len(present.turns) - 1) if present.turns else None

    def send(
        self,
        text: str,
        *,
        sampling: SamplingConfig | None = None,
        max_seq_len: int | None = None,
        seed: int | None = None,
        thinking_mode: ThinkingMode | None = None,
        stop: Sequence[str] = (),
        fit: Fit = "refuse",
        on_thought: Callable[[str], None] | None = None,
    ) -> Iterator[str]:
        """Answer `text`, a piece of text at a time; then update the memory in the background.

        The pieces put together are the answer. Closed or failing before the answer is complete, a turn leaves
        conversation and memory as they were. The next turn waits for the update where it must.

        Args:
            text: what the user says.
            sampling: overrides the conversation's.
            max_seq_len: tokens of the whole turn, the model's limit when None.
            seed: makes this answer repeatable.
            thinking_mode: `fast`, `extended` or `auto`, for Beta models.
            stop: texts at which the answer ends, without them.
            fit: whether a message that is too long is refused, or its beginning cut; `Turn.cut` says how much.
            on_thought: is called with each piece of a thought.

        Bad arguments raise ValueError here, before anything is done.
        """
        return self._answer(self._reply(text, sampling, max_seq_len, seed, thinking_mode, stop, fit, on_thought))

    def retry(
        self,
        *,
        sampling: SamplingConfig | None = None,
        max_seq_len: int | None = None,
        seed: int | None = None,
        thinking_mode: ThinkingMode | None = None,
        stop: Sequence[str] = (),
        fit: Fit = "refuse",
        on_thought: Callable[[str], None] | None = None,
    ) -> Iterator[str]:
        """Give another answer to the last query, with options as in `send`.

        The old answer is replaced once the new one is complete; until then it stays.
        """
        turns = self.turns
        if not turns:
            raise ConversationError("There is no turn to retry.")
        reply = self._reply(turns[-1].query, sampling, max_seq_len, seed, thinking_mode, stop, fit, on_thought)
        return self._answer(reply, turns[-1])

    def undo(self, n: int = 1) -> None:
        """Take back the last `n` turns: transcript and memory are as they were before them."""

        def without(present: History) -> History:
            if not 0 <= n <= len(present.turns):
                raise ConversationError(f"There are {len(present.turns)} turns to undo, and {n} were asked for.")
            return present.after(self.model, len(present.turns) - n)

        self._history.change(without)

    def reset(self) -> None:
        """Start again after the system prompt, with the memory that the conversation began with."""
        self._history.change(lambda present: present.after(self.model, 0), waits_for_update=False)

    def fork(self) -> Self:
        """Return a conversation that goes on from here on its own; this one is not affected."""
        twin = copy.copy(self)
        twin._history = SharedHistory(self._history.ready(), self._history.busy_timeout)
        return twin

    def kept_tokens(self) -> list[tuple[str, float]] | None:
        """Return the conversation piece by piece, with the share of heads whose memory keeps each piece's token.

        None where the memory keeps no tokens. Pieces put together are the conversation as the chat template writes it.
        """
        present = self._history.present()
        shares = present.last.memory.heads_that_keep()
        if shares is None:
            return None
        parts = said(self.model, self.tokenizer, present.system, [turn.ids for turn in present.turns])
        pieces = [piece for part in parts for piece in part.pieces]
        read = pieces[: int(present.last.memory.length[0])]  # type: ignore[attr-defined]
        return [(piece, shares.get(position, 0.0)) for position, piece in enumerate(read)]

    def save(self, path: str | Path) -> None:
        """Write memory, transcript and the model's fingerprint to one safetensors file."""
        present = self._history.ready()
        count = len(present.turns)
        saved = SavedConversation(
            fingerprint=fingerprint(self.model, self.tokenizer),
            system=present.system,
            seed=present.seed,
            draws=present.draws,
            turns=present.turns,
            memories={n: present.memory_after(self.model, n) for n in {0, max(0, count - 1), count}},
        )
        saved.write(Path(path))

    @torch.no_grad()
    def load(self, path: str | Path) -> None:
        """Go on with a saved conversation in place of this one: its system prompt, seed, turns and memory.

        A file that is damaged, or that belongs to another model, configuration or tokenizer, is refused with a
        `ConversationError` that says what differs; so is one that kept another number of tokens than `memory_tokens`,
        where that was given. This conversation then stays as it is.
        """
        saved = SavedConversation.read(Path(path))
        first = self._history.present().memories[0]
        with placed(path):
            saved.check_belongs_to(fingerprint(self.model, self.tokenizer))
            saved.check_fits(first, self.model.decoder.config.vocab_size, self.model.max_seq_len, self.memory_tokens)
        memories = {n: state.to(self.model.device) for n, state in saved.memories.items()}
        last = KeptReading.of(self.model, memories[len(saved.turns)])
        loaded = History(saved.system, saved.seed, saved.draws, saved.turns, memories, last)
        self._history.change(lambda _: loaded)

    def wait(self) -> None:
        """Wait until the memory has taken in the last turn.

        Where the update failed, the turn is taken back and `ConversationError` raised. A wait that is interrupted
        leaves the update under way: the next call that needs the memory waits on.
        """
        self._history.present()

    # --- a turn --------------------------------------------------------------------------------------------------

    def _reply(
        self,
        query: str,
        sampling: SamplingConfig | None,
        max_seq_len: int | None,
        seed: int | None,
        thinking_mode: ThinkingMode | None,
        stop: Sequence[str],
        fit: Fit,
        on_thought: Callable[[str], None] | None,
    ) -> "_Reply":
        """Check what is asked of a turn and prepare it."""
        if not isinstance(query, str):
            raise ValueError(f"text must be a string, got {query!r:.80}.")
        if any("\ud800" <= character <= "\udfff" for character in query):
            raise ValueError(f"text has half of a character, which is no Unicode text: {query!a:.80}.")
        engine = TurnEngine(self.model, 1, max_seq_len=max_seq_len, tokenizer=self.tokenizer, streams=True)
        asked = Query(
            query_ids(self.tokenizer, self.model.tokenizer_config, query),
            self.model.opening(thinking_mode),
            sampling or self.sampling,
            seed,
            stop=stop,
        )
        return _Reply(query, engine, engine.prepare(asked, fit), on_thought or _ignore)

    def _answer(self, reply: "_Reply", replaced: Turn | None = None) -> Iterator[str]:
        pieces = self._pieces(reply, replaced)
        reply.pieces = ref(pieces)
        return pieces

    def _pieces(self, reply: "_Reply", replaced: Turn | None) -> Pieces:
        """Stream one answer; the turn is recorded, and its update under way, before the last piece is handed out."""
        claim = self._history.claim(reply.pieces, replaced)
        start, turn = self._seeded(claim.before, reply.turn)
        start = start.after(self.model, len(start.turns) - (0 if replaced is None else 1))
        writer = turn.writer
        assert writer is not None
        reply.engine.begin([turn], start.last.reading)
        for _ in reply.engine.run():
            for piece in writer.take():
                if piece.is_thought:
                    reply.on_thought(piece.text)
                else:
                    yield piece.text
        reply.engine.leave([turn])
        finished = Turn(reply.query, writer.answer, writer.thought, tuple(turn.ids), turn.cut)
        update = Job(lambda: start.with_turn(self.model, finished, turn.computed))
        self._history.record(claim, (*start.turns, finished), update)
        yield from (piece.text for piece in writer.take() if not piece.is_thought)

    def _seeded(self, before: History, turn: RunningTurn) -> tuple[History, RunningTurn]:
        """Return both with the conversation's next seed, where the turn has none of its own."""
        if turn.query.seed is not None or before.seed is None:
            return before, turn
        draws = before.draws + 1
        return replace(before, draws=draws), replace(turn, query=replace(turn.query, seed=before.seed + draws))


@dataclass
class _Reply:
    """What is asked of one answer, what will answer it, and the generator that hands it out."""

    query: str
    engine: TurnEngine
    turn: RunningTurn
    on_thought: Callable[[str], None]
    pieces: Callable[[], Pieces | None] = lambda: None


def _ignore(text: str) -> None:
    """Take a piece of a thought that nobody asked for."""
