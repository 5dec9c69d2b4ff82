"""A chat with one model: text in, text out, and the memory updated while the reader reads.

A conversation does not change its model, so that any number of them can share one.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from rxlm.data.stream_decoder import StreamDecoder
from rxlm.data.templates import interaction_ids, query_ids
from rxlm.memory import MemoryReading, MemoryState
from rxlm.nn.past import ComputedTurn
from rxlm.rxt.alpha import ThinkingMode
from rxlm.rxt.chat_template import conversation_prefix
from rxlm.rxt.conversation_file import ConversationError, SavedConversation
from rxlm.rxt.current_memory import KeptReading
from rxlm.rxt.fingerprint import fingerprint
from rxlm.rxt.models import RxTAlpha
from rxlm.rxt.sampling import SamplingConfig
from rxlm.rxt.text import check_tokenizer
from rxlm.rxt.turn_engine import Fit, Query, RunningTurn, TurnEngine, write_turns

__all__ = ["Conversation", "ConversationError", "Turn"]

# One worker for all conversations: updates are short, and a second one would only share the same cores.
_UPDATES = ThreadPoolExecutor(max_workers=1, thread_name_prefix="rxlm-memory-update")

KEPT_STATES = 8
"""Memory states that a conversation keeps for undo and retry; older ones are computed again from the transcript."""


@dataclass(frozen=True)
class Turn:
    """One finished turn: the texts, and the token ids of the whole interaction as the memory read it."""

    query: str
    answer: str
    thought: str | None
    ids: tuple[int, ...]
    cut: int = 0
    """Tokens at the beginning of the query that were left out because it was too long."""


class Conversation:
    """A conversation with a Reactive Transformer.

    Args:
        model: the model; conversations share it.
        tokenizer: its tokenizer; None takes the one attached to the model.
        system: a system prompt, read into the memory before the first turn.
        sampling: how answers are sampled, unless a turn says otherwise; None: as the model says.
        seed: makes the whole conversation repeatable: initial memory and answers.
        memory_tokens: tokens S that a memory of tokens keeps of this conversation; None: as many as the model says.
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
    ) -> None:
        if tokenizer is not None:
            check_tokenizer(tokenizer, model.tokenizer_config, model.decoder.config.vocab_size)
        self.model = model
        self.tokenizer = tokenizer or model.needed_tokenizer()
        self.system = system
        self.sampling = sampling or model.sampling or SamplingConfig()
        self.seed = seed
        self.memory_tokens = memory_tokens
        self._draws = 0
        self._turns: list[Turn] = []
        self._states: dict[int, MemoryState] = {}
        """Memory after so many turns: the first and the newest ones."""
        self._keep(0, self._first_memory())
        self._update: _Update | None = None
        self._is_answering = False

    @property
    def turns(self) -> tuple[Turn, ...]:
        """The finished turns, oldest first."""
        return tuple(self._turns)

    @property
    def memory(self) -> MemoryState:
        """The memory after the last turn; waits for its update."""
        self.wait()
        return self._memory_after(len(self._turns))

    @property
    def memory_before(self) -> MemoryState | None:
        """The memory before the last turn; None before the first one."""
        self.wait()
        return self._memory_after(len(self._turns) - 1) if self._turns else None

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
        if not self._turns:
            raise ConversationError("There is no turn to retry.")
        query = self._turns[-1].query
        reply = self._reply(query, sampling, max_seq_len, seed, thinking_mode, stop, fit, on_thought)
        return self._answer(reply, self._turns[-1])

    def undo(self, n: int = 1) -> None:
        """Take back the last `n` turns: transcript and memory are as they were before them."""
        self._ready()
        if not 0 <= n <= len(self._turns):
            raise ConversationError(f"There are {len(self._turns)} turns to undo, and {n} were asked for.")
        count = len(self._turns) - n
        self._keep(count, self._memory_after(count))
        del self._turns[count:]

    def reset(self) -> None:
        """Start again after the system prompt, with the memory that the conversation began with."""
        self._check_idle()
        self._update = None
        self._turns.clear()
        self._keep(0, self._states[0])

    def fork(self) -> Self:
        """Return a conversation that goes on from here on its own; this one is not affected."""
        self._ready()
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        twin._turns, twin._states = list(self._turns), dict(self._states)
        return twin

    def kept_tokens(self) -> list[tuple[str, float]] | None:
        """Return the conversation piece by piece, with the share of heads whose memory keeps each piece's token.

        None where the memory keeps no tokens. Pieces put together are the conversation as the chat template writes it.
        """
        shares = self.memory.heads_that_keep()
        if shares is None:
            return None
        text, pieces = StreamDecoder(self.tokenizer), []
        for position, token in enumerate(self._said()):
            pieces.append((text.push(token), shares.get(position, 0.0)))
        return pieces

    def _said(self) -> list[int]:
        """Return the tokens of the conversation, of a memory that keeps tokens, up to the last one that was read."""
        prefix = self.model.tokenizer_config.conversation_prefix
        said = list(prefix or ()) if self.system is None else list(conversation_prefix(self.tokenizer, self.system))
        end = self.model.memory_writer.config.answer_end
        for turn in self._turns:
            ended = turn.ids[-1] == end[0]
            said += [*turn.ids[:-1], *(() if ended else turn.ids[-1:]), *end]
        return said[: int(self.memory.length[0])]  # type: ignore[attr-defined]

    def save(self, path: str | Path) -> None:
        """Write memory, transcript and the model's fingerprint to one safetensors file."""
        self._ready()
        count = len(self._turns)
        saved = SavedConversation(
            fingerprint=fingerprint(self.model, self.tokenizer),
            system=self.system,
            seed=self.seed,
            draws=self._draws,
            turns=[asdict(turn) for turn in self._turns],
            memories={n: self._memory_after(n) for n in {0, max(0, count - 1), count}},
        )
        saved.write(Path(path))

    def load(self, path: str | Path) -> None:
        """Go on with a saved conversation in place of this one.

        A file that is damaged, or that belongs to another model, configuration or tokenizer, is refused with a
        `ConversationError` that says what differs; this conversation then stays as it is.
        """
        self._ready()
        saved = SavedConversation.read(Path(path))
        saved.check_belongs_to(fingerprint(self.model, self.tokenizer))
        self.system, self.seed, self._draws = saved.system, saved.seed, saved.draws
        self._turns = [_turn(turn) for turn in saved.turns]
        self._states = {n: state.to(self.model.device) for n, state in saved.memories.items()}
        self._keep(len(self._turns), self._states[len(self._turns)])

    def wait(self) -> None:
        """Wait until the memory has taken in the last turn.

        Where the update failed, the turn is taken back and `ConversationError` raised.
        """
        if self._update is None:
            return
        update, self._update = self._update, None
        try:
            read = update.future.result()
        except Exception as error:
            query = self._turns[-1].query
            self._turns = update.turns_before
            self._keep(len(self._turns), self._memory_after(len(self._turns)))
            raise ConversationError(
                f"The memory update after {query!r} failed, the turn is taken back: {error}"
            ) from error
        self._keep(len(self._turns), read.memory, read)

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
        """Stream one answer; the turn is recorded, and its update under way, before the last piece is handed out."""
        self._ready()
        retries = replaced is not None
        if retries and (not self._turns or self._turns[-1] is not replaced):
            raise ConversationError("The turn to retry is not the last one any more: call retry again.")
        self._is_answering = True
        try:
            before = len(self._turns) - (1 if retries else 0)
            memory = self._memory_after(before)
            reading = self.model.read_memory(memory) if retries else self._present_reading()
            turn, writer = self._seeded(reply.turn), reply.turn.writer
            assert writer is not None
            reply.engine.begin([turn], reading)
            for _ in reply.engine.run():
                for piece in writer.take():
                    if piece.is_thought:
                        reply.on_thought(piece.text)
                    else:
                        yield piece.text
            reply.engine.leave([turn])
            self._record(before, memory, reply, turn)
            yield from (piece.text for piece in writer.take() if not piece.is_thought)
        finally:
            self._is_answering = False

    def _seeded(self, turn: RunningTurn) -> RunningTurn:
        """Return a turn with the conversation's next seed, where it has none of its own."""
        if turn.query.seed is not None or self.seed is None:
            return turn
        self._draws += 1
        return replace(turn, query=replace(turn.query, seed=self.seed + self._draws))

    def _record(self, before: int, memory: MemoryState, reply: "_Reply", answered: RunningTurn) -> None:
        writer = answered.writer
        assert writer is not None
        turn = Turn(reply.query, writer.answer, writer.thought, tuple(answered.ids), answered.cut)
        update = _UPDATES.submit(self._update_and_read, memory, turn, answered.computed)
        self._update = _Update(update, list(self._turns))
        self._turns[before:] = [turn]

    # --- memories ------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _first_memory(self) -> MemoryState:
        model, system = self.model, self.system
        if model.memory_writer.reads_computed:
            head = None if system is None else conversation_prefix(self.tokenizer, system)
            return model.init_memory(1, self.seed, head=head, memory_tokens=self.memory_tokens)
        memory = model.init_memory(1, self.seed, memory_tokens=self.memory_tokens).detach()
        if system is None:
            return memory
        return model.update_memory(memory, self._system_ids(system))

    def _system_ids(self, system: str) -> Tensor:
        title = self.model.system_prompt_title
        query, answer = (system, "") if title is None else (title, system)
        ids = interaction_ids(self.tokenizer, self.model.tokenizer_config, query, answer)
        if len(ids) > self.model.max_seq_len:
            raise ConversationError(
                f"The system prompt takes {len(ids)} tokens; the limit is {self.model.max_seq_len}."
            )
        return torch.tensor([ids], device=self.model.device)

    @torch.no_grad()
    def _update_and_read(self, memory: MemoryState, turn: Turn, computed: ComputedTurn | None) -> KeptReading:
        """Do what is to be done between two turns."""
        return KeptReading.of(self.model, self._updated(memory, turn, computed))

    def _updated(self, memory: MemoryState, turn: Turn, computed: ComputedTurn | None = None) -> MemoryState:
        return write_turns(self.model, memory, [turn.ids], [computed])

    def _present_reading(self) -> MemoryReading:
        """Return the reading that was made after the last turn; made again where training has changed the weights."""
        if self._kept.is_outdated(self.model):
            self._keep(len(self._turns), self._kept.memory)
        return self._kept.reading

    def _memory_after(self, count: int) -> MemoryState:
        """Return the memory after `count` turns: a kept one, or one computed again from the turns since a kept one."""
        start = max(n for n in self._states if n <= count)
        memory = self._states[start]
        for turn in self._turns[start:count]:
            memory = self._updated(memory, turn)
        return memory

    @torch.no_grad()
    def _keep(self, count: int, memory: MemoryState, read: KeptReading | None = None) -> None:
        """Make `memory` the one after `count` turns; forget later ones, and of the earlier all but the newest."""
        kept = {n: state for n, state in self._states.items() if n == 0 or count - KEPT_STATES < n < count}
        self._states = {**kept, count: memory}
        self._kept = read or KeptReading.of(self.model, memory)

    def _ready(self) -> None:
        self._check_idle()
        self.wait()

    def _check_idle(self) -> None:
        if self._is_answering:
            raise ConversationError("An answer is being written: read it to its end, or close it, first.")


def _turn(saved: Mapping[str, Any]) -> Turn:
    return Turn(saved["query"], saved["answer"], saved["thought"], tuple(saved["ids"]), saved.get("cut", 0))


class _Update(NamedTuple):
    """A memory update under way, and the turns to return to where it fails."""

    future: Future[KeptReading]
    turns_before: list[Turn]


class _Reply(NamedTuple):
    """What is asked of one answer, and what will answer it."""

    query: str
    engine: TurnEngine
    turn: RunningTurn
    on_thought: Callable[[str], None]


def _ignore(text: str) -> None:
    """Take a piece of a thought that nobody asked for."""
