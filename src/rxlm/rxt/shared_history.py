"""The history of a conversation that threads share, and that an interrupt at any moment leaves whole.

What the conversation is stands in one value, which is replaced at once: its history; or the history before an answer
that is being written; or the history before a finished turn, with the update of the memory that takes the turn in.
"""

import os
import time
from collections.abc import Callable, Generator
from inspect import GEN_CLOSED, getgeneratorstate
from typing import NamedTuple

from rxlm.rxt.background import Cell, Job
from rxlm.rxt.history import ConversationError, History, Turn

Pieces = Generator[str, None, None]
_LOOK_AGAIN = 0.005
"""Seconds after which a call that waits for an answer looks again whether it has ended."""


class Answering(NamedTuple):
    """An answer that is being written, by a generator of this process; until it is recorded all is as `before`.

    It holds as long as its generator lives: there is nothing to be released that an interrupt could leave behind.
    """

    before: History
    pieces: Callable[[], Pieces | None]
    process: int

    @property
    def goes_on(self) -> bool:
        """Whether the generator may still record a turn."""
        pieces = self.pieces()
        goes_on = pieces is not None and getgeneratorstate(pieces) != GEN_CLOSED
        return goes_on and self.process == os.getpid()


class Remembering(NamedTuple):
    """A finished turn that the memory has still to take in; where that fails, all is as `before`."""

    before: History
    turns: tuple[Turn, ...]
    update: Job[History]


State = History | Answering | Remembering


class SharedHistory:
    """Where a conversation stands.

    Args:
        start: the history to begin with.
        busy_timeout: seconds that a call waits for an answer that is being written, before it is refused.
    """

    def __init__(self, start: History, busy_timeout: float) -> None:
        self.busy_timeout = busy_timeout
        self._state: Cell[State] = Cell(start)

    @property
    def turns(self) -> tuple[Turn, ...]:
        """The finished turns, with one that the memory has still to take in."""
        state = self._state.value
        return state.turns if isinstance(state, Remembering) else _before(state).turns

    @property
    def settled(self) -> History:
        """The conversation without a turn that has not ended, or that the memory has still to take in."""
        return _before(self._state.value)

    def present(self) -> History:
        """Return the conversation after its last finished turn, once the memory has taken that in.

        `ConversationError` where the update failed; the turn is taken back then.
        """
        while isinstance(state := self._state.value, Remembering):
            self._settle(state)
        return _before(state)

    def ready(self) -> History:
        """Return the same once no answer is being written; `ConversationError` after `busy_timeout`."""
        return _before(self._ready())

    def change(self, change: Callable[[History], History], *, waits_for_update: bool = True) -> None:
        """Replace the conversation by what `change` makes of it, while nothing else changes it.

        Without `waits_for_update`, `change` gets it without the turn that the memory has still to take in.
        """
        while True:
            state = self._ready() if waits_for_update else self._idle()
            if self._state.replace(state, change(_before(state))):
                return

    def claim(self, pieces: Callable[[], Pieces | None], replaced: Turn | None) -> Answering:
        """Let no other turn begin before a generator has ended.

        `ConversationError` unless the turn that the answer is to replace is the last one.
        """
        while True:
            state = self._ready()
            claim = Answering(_before(state), pieces, os.getpid())
            if replaced is not None and (not claim.before.turns or claim.before.turns[-1] is not replaced):
                raise ConversationError("The turn to retry is not the last one any more: call retry again.")
            if self._state.replace(state, claim):
                return claim

    def record(self, claim: Answering, turns: tuple[Turn, ...], update: Job[History]) -> None:
        """Put the turns of a finished answer in the claim's place; `update` gives the history after them.

        `ConversationError` where the claim holds no longer: it was made before this process was forked.
        """
        if not self._state.replace(claim, Remembering(claim.before, turns, update)):
            raise ConversationError("The conversation went on while this answer was written: it is not remembered.")

    def _idle(self) -> State:
        """Return the state once no answer is being written."""
        deadline = time.monotonic() + self.busy_timeout
        while isinstance(state := self._state.value, Answering) and state.goes_on:
            if time.monotonic() >= deadline:
                raise ConversationError("An answer is being written: read it to its end, or close it, first.")
            time.sleep(_LOOK_AGAIN)
        return state

    def _ready(self) -> State:
        """Return the state once the next turn could begin."""
        while isinstance(state := self._idle(), Remembering):
            self._settle(state)
        return state

    def _settle(self, state: Remembering) -> None:
        """Wait for an update; only then what it gave, or where it failed what was before, takes the state's place."""
        state.update.wait()
        error = state.update.error
        if error is None:
            self._state.replace(state, state.update.result)
            return
        self._state.replace(state, state.before)
        query = state.turns[-1].query
        raise ConversationError(f"The memory update after {query!r} failed, the turn is taken back: {error}") from error


def _before(state: State) -> History:
    return state if isinstance(state, History) else state.before
