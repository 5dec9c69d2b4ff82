"""Memories in the making: each is made once, of the memory before it and what comes after that.

A memory that is being made can be built on already: a conversation's next turn, and the memories after turns that are
read again, name the one before.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import torch

from rxlm.memory import MemoryState
from rxlm.nn.past import ComputedTurn
from rxlm.rxt.core import RxTModel
from rxlm.rxt.turn_engine import write_turns

SECONDS_BEFORE_UPDATE = 0.25
"""How long the update of a memory may wait for the model to be idle."""


@dataclass(eq=False)
class Making:
    """A memory that is there, or will be.

    Fields:
        name: of the node that it stands after; None: it is only needed once.
        before: the memory before; None for the first one of a conversation.
        ids: the turn to write, with what was `computed` of it. change: what is done instead, with the memory before.
        wanted: whether somebody waits for it.
        read: whether it is made for a request alone, and given up with that.
        state: the memory, once it is there. error: why there will be none.
        seconds: what making it took.
    """

    name: str | None = None
    before: "Making | None" = None
    ids: Sequence[int] = ()
    computed: ComputedTurn | None = None
    change: Callable[[MemoryState | None], MemoryState] | None = None
    wanted: bool = False
    read: bool = False
    state: MemoryState | None = None
    error: Exception | None = None
    seconds: float = 0.0
    due: float = field(default_factory=lambda: time.monotonic() + SECONDS_BEFORE_UPDATE)
    _callbacks: list[Callable[["Making"], None]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(cls, state: MemoryState, name: str | None = None) -> "Making":
        """Return a memory that is there."""
        return cls(name, state=state)

    @property
    def is_done(self) -> bool:
        """Whether it is there, or there will be none."""
        return self.state is not None or self.error is not None

    @property
    def is_ready(self) -> bool:
        """Whether it can be made now."""
        return not self.is_done and (self.before is None or self.before.is_done)

    def pending(self) -> Iterator["Making"]:
        """Yield it and those before it that are not there yet, the last first."""
        making: Making | None = self
        while making is not None and not making.is_done:
            before = making.before
            yield making
            making = before

    def want(self) -> None:
        """Let it be made soon, and all before it."""
        for making in self.pending():
            making.wanted = True

    def finish(self, state: MemoryState | None, error: Exception | None, seconds: float) -> None:
        """Take the outcome, and let go of what it was made of."""
        with self._lock:
            self.seconds, self.error, self.state = seconds, error, state
            self.before = self.computed = self.change = None
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            with suppress(RuntimeError):  # who listened has stopped
                callback(self)

    def then(self, callback: Callable[["Making"], None]) -> None:
        """Call `callback` once it is done: now, or in the model's thread."""
        with self._lock:
            if not self.is_done:
                self._callbacks.append(callback)
                return
        callback(self)


@torch.no_grad()
def make(model: RxTModel, makings: Sequence[Making]) -> None:
    """Make memories that are ready, those that are written from turns side by side."""
    alike: dict[bool, list[Making]] = {}
    for making in makings:
        before = making.before
        if before is not None and before.state is None:
            making.finish(None, before.error, 0.0)
        elif making.change is not None:
            _change(making)
        else:
            alike.setdefault(making.computed is not None, []).append(making)
    for together in alike.values():
        _write(model, together)


def _write(model: RxTModel, together: Sequence[Making]) -> None:
    begun = time.monotonic()
    try:
        befores = MemoryState.join([making.before.state for making in together])  # type: ignore[misc, union-attr]
        after = write_turns(model, befores, [making.ids for making in together], [each.computed for each in together])
    except Exception as error:
        if len(together) == 1:
            together[0].finish(None, error, time.monotonic() - begun)
            return
        for making in together:  # one does not pay for another
            _write(model, [making])
    else:
        for row, making in enumerate(together):
            making.finish(after.select(row), None, time.monotonic() - begun)


def _change(making: Making) -> None:
    begun = time.monotonic()
    try:
        assert making.change is not None
        state, error = making.change(None if making.before is None else making.before.state), None
    except Exception as failed:
        state, error = None, failed
    making.finish(state, error, time.monotonic() - begun)


class MemoryCache:
    """The memories that were used last, ready or in the making, by the nodes that they stand after; threads share it.

    Args:
        max_bytes: what they may take together.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._lock = threading.RLock()
        self._kept: OrderedDict[str, Making] = OrderedDict()

    def get(self, name: str) -> Making | None:
        """Return the memory after a node, None where it is not here."""
        with self._lock:
            found = self._kept.get(name)
            if found is not None and found.error is not None:
                del self._kept[name]
                return None
            if found is not None:
                self._kept.move_to_end(name)
            return found

    def put(self, making: Making) -> None:
        """Keep a memory; once it is made, those that were used longest ago are let go, where it is too much."""
        assert making.name is not None
        with self._lock:
            self._kept[making.name] = making
            self._kept.move_to_end(making.name)
        making.then(lambda _: self._shrink())

    def _shrink(self) -> None:
        """Let go of those that were used longest ago, where it is too much, but of the newest."""
        with self._lock:
            over = self.num_bytes - self.max_bytes
            for name, old in list(self._kept.items())[:-1]:
                if over <= 0:
                    break
                if old.state is not None:
                    over -= old.state.num_bytes
                    del self._kept[name]

    def drop(self, names: Sequence[str]) -> None:
        """Let go of the memories after some nodes."""
        with self._lock:
            for name in names:
                self._kept.pop(name, None)

    @property
    def num_bytes(self) -> int:
        """What all memories take."""
        with self._lock:
            return sum(each.state.num_bytes for each in self._kept.values() if each.state is not None)
