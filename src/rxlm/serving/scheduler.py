"""One thread has the model: rows join and leave a running batch, and memories are made in between.

Each round lets those join who wait and whose memory is ready, takes one step, hands out what was written, and makes
memories: at once where somebody waits for one, otherwise when the model is idle or the time is up.
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

from transformers import PreTrainedTokenizerFast

from rxlm.memory import MemoryState
from rxlm.rxt.core import RxTModel
from rxlm.rxt.turn_engine import TurnEngine
from rxlm.serving.asking import Asked, BusyError, Event, Failed, Finished, ModelFaultError, Written
from rxlm.serving.memories import Making, MemoryCache, make

LOG = logging.getLogger("rxlm.serving")
LONGEST_BATCH_OF_UPDATES = 16
T = TypeVar("T")


class Scheduler:
    """Answers side by side what is asked, and makes memories.

    Args:
        model, tokenizer: the model, in evaluation mode, and its tokenizer.
        num_rows: answers at a time, at most. max_waiting: answers that may wait for a row.
        max_seq_len: tokens of a turn, at most; the model's limit when None.
        cache_bytes: what memories may take in this process.
    """

    def __init__(
        self,
        model: RxTModel,
        tokenizer: PreTrainedTokenizerFast,
        *,
        num_rows: int = 16,
        max_waiting: int = 256,
        max_seq_len: int | None = None,
        cache_bytes: int = 1 << 30,
    ) -> None:
        self.model, self.max_rows, self.max_waiting = model, num_rows, max_waiting
        self.engine = TurnEngine(model, 1, max_seq_len=max_seq_len, tokenizer=tokenizer, streams=True)
        self.cache = MemoryCache(cache_bytes)
        self.busy_seconds = 0.0
        """What the model's thread has computed, for the metrics."""
        self._changed = threading.Condition()
        self._waiting: list[Asked] = []
        self._joining: list[Asked] = []
        self._running: list[Asked] = []
        self._makings: list[Making] = []
        self._calls: list[tuple[Callable[[], Any], Future[Any]]] = []
        self._draining = self._stopped = False
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self._thread.start()

    # --- from other threads --------------------------------------------------------------------------------------

    @property
    def is_draining(self) -> bool:
        """Whether nothing new is taken."""
        return self._draining

    @property
    def is_alive(self) -> bool:
        """Whether the model's thread runs."""
        return self._thread.is_alive()

    @property
    def num_running(self) -> int:
        """Answers that are being written."""
        return len(self._running)

    @property
    def num_waiting(self) -> int:
        """Answers that wait."""
        return len(self._waiting)

    def ask(self, asked: Asked) -> None:
        """Let an answer be written; `BusyError` where too many wait already."""
        with self._changed:
            self._check_open()
            if len(self._waiting) >= self.max_waiting:
                raise BusyError(f"{self.max_waiting} answers wait already.")
            self._waiting.append(asked)
            self._changed.notify()

    def cancel(self, asked: Asked) -> None:
        """Let an answer not be written any further; nothing comes of it."""
        with self._changed:
            asked.cancelled = True
            self._changed.notify()

    def make(self, making: Making) -> Making:
        """Let a memory be made, once the one before is there; returns it."""
        if making.name is not None:
            self.cache.put(making)
        with self._changed:
            self._makings.append(making)
            self._changed.notify()
        return making

    def need(self, making: Making, seconds: float) -> MemoryState:
        """Return a memory once it is made; raises why there is none, and TimeoutError."""
        there = threading.Event()
        making.then(lambda _: there.set())
        with self._changed:
            making.want()
            self._changed.notify()
        if not there.wait(seconds):
            raise TimeoutError(f"The memory was not made within {seconds:g} seconds.")
        if making.state is None:
            raise making.error or RuntimeError("The memory was not made.")
        return making.state

    def call(self, work: Callable[[], T]) -> "Future[T]":
        """Let something be computed between two steps."""
        future: Future[T] = Future()
        with self._changed:
            self._check_open()
            self._calls.append((work, future))
            self._changed.notify()
        return future

    def drain(self, seconds: float) -> bool:
        """Take nothing new, and wait until all is answered and every memory made; False where time was not enough."""
        with self._changed:
            self._draining = True
            self._changed.notify()
            return self._changed.wait_for(lambda: self._is_idle(), seconds)

    def stop(self) -> None:
        """End the thread; what is under way is lost."""
        with self._changed:
            self._draining = self._stopped = True
            self._changed.notify_all()
        self._thread.join()

    def _check_open(self) -> None:
        if self._draining:
            raise BusyError("The server is stopping.")

    def _is_idle(self) -> bool:
        return not (self._waiting or self._joining or self._running or self._makings or self._calls)

    # --- the model's thread --------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopped or not self._is_idle())
                if self._stopped:
                    return
                calls, self._calls = self._calls, []
            begun = time.monotonic()
            try:
                for work, future in calls:
                    self._call(work, future)
                self._round()
            except Exception as error:  # what nobody else answers for: the rows are lost, the server goes on
                LOG.exception("the model's thread failed")
                self._fail_all(error)
            self.busy_seconds += time.monotonic() - begun
            with self._changed:
                self._changed.notify_all()

    def _round(self) -> None:
        self._drop_cancelled()
        self._admit()
        if self._running:
            self._step()
        self._make()

    def _call(self, work: Callable[[], Any], future: "Future[Any]") -> None:
        try:
            future.set_result(work())
        except Exception as error:
            future.set_exception(error)

    def _drop_cancelled(self) -> None:
        with self._changed:
            left = [asked for asked in self._waiting if asked.cancelled]
            self._waiting = [asked for asked in self._waiting if not asked.cancelled]
        if left:
            self._give_up([making for asked in left for making in asked.before.pending() if making.read])
        gone = [asked for asked in self._running if asked.cancelled]
        if gone:
            self.engine.drop([asked.turn for asked in gone])
            self._running = [asked for asked in self._running if asked not in gone]

    def _give_up(self, makings: list[Making]) -> None:
        """Make no memories that were wanted by those alone who have left: a client may send thousands of turns."""
        needed = {id(making) for asked in self._waiting for making in asked.before.pending()}
        for making in reversed(makings):
            if id(making) not in needed and not making.is_done:
                if making.name is not None:
                    self.cache.drop([making.name])
                making.finish(None, BusyError("Another request gave up reading these turns: try again."), 0.0)
        with self._changed:
            self._makings = [each for each in self._makings if not each.is_done]

    def _admit(self) -> None:
        """Let those join whose memory is there, in the order in which they came."""
        with self._changed:
            waiting: list[Asked] = []
            failed: list[Asked] = []
            for asked in self._waiting:
                if asked.before.error is not None:
                    failed.append(asked)
                elif asked.before.state is None:
                    asked.before.want()
                    waiting.append(asked)
                elif len(self._running) + len(self._joining) < self.max_rows:
                    self._joining.append(asked)
                else:
                    waiting.append(asked)
            self._waiting = waiting
        for asked in failed:
            assert asked.before.error is not None
            self._tell(asked, Failed(asked.before.error))
        if not self._joining:
            return
        self._fit_rows(len(self._running) + len(self._joining))
        by_length: dict[int, list[Asked]] = {}
        for asked in self._joining:
            by_length.setdefault(len(asked.turn.prompt).bit_length(), []).append(asked)
        for alike in by_length.values():
            self._begin(alike)

    def _fit_rows(self, needed: int) -> None:
        """Let the table have as many rows as are needed, up to the next power of two: a step costs what they cost."""
        rows = self.engine.num_rows
        wanted = min(1 << max(0, needed - 1).bit_length(), self.max_rows)
        if wanted > rows or wanted * 4 <= rows:
            self.engine.resize(wanted)

    def _begin(self, joining: list[Asked]) -> None:
        try:
            states = [asked.before.state for asked in joining]
            self.engine.begin([asked.turn for asked in joining], MemoryState.join(states))  # type: ignore[arg-type]
        except ValueError as error:  # before any has begun
            if len(joining) > 1:  # one does not pay for another
                for asked in joining:
                    self._begin([asked])
                return
            self._tell(joining[0], Failed(error))
        else:
            self._running += joining
        self._joining = [asked for asked in self._joining if asked not in joining]

    def _step(self) -> None:
        engine = self.engine
        engine.state.with_log_probs = any(asked.with_log_probs for asked in self._running)
        try:
            column = engine.step()
        except ValueError:
            if not self._lose_broken():
                raise
            return
        tokens, active = column.tokens.tolist(), engine.state.active.tolist()
        log_probs = None if column.log_probs is None else column.log_probs.tolist()
        over: list[Asked] = []
        for asked in self._running:
            row, writer = asked.turn.row, asked.turn.writer
            assert writer is not None
            log_prob = log_probs[row] if log_probs is not None and asked.with_log_probs else None
            self._tell(asked, Written(writer.take(), tokens[row], log_prob))
            if not active[row]:
                over.append(asked)
        if over:
            lost = self._lose_broken()  # where computing goes on before its numbers are looked at
            over = [asked for asked in over if asked not in lost]
            if over:
                engine.leave([asked.turn for asked in over])
            self._running = [asked for asked in self._running if asked not in over]
            for asked in over:
                self._finish(asked)

    def _lose_broken(self) -> list[Asked]:
        """Give up the rows whose logits are no numbers, and no others; returns them."""
        broken = self.engine.broken()
        if not broken:
            return []
        rows = {turn.row for turn in broken}
        lost = [asked for asked in self._running if asked.turn.row in rows]
        self.engine.drop(broken)
        self._running = [asked for asked in self._running if asked not in lost]
        error = ModelFaultError(
            "The model computed what are no numbers (NaN or infinity): its weights or the memory hold such values, or "
            "float16 has overflowed."
        )
        LOG.error("%s", json.dumps(str(error)))
        self._tell_all(lost, error)
        return lost

    def _finish(self, asked: Asked) -> None:
        turn = asked.turn
        assert turn.writer is not None
        ended = turn.writer.is_stopped or (turn.answer and turn.answer[-1] == self.engine.tokens.eos_token_id)
        after = Making(asked.name, asked.before, turn.ids, turn.computed)
        turn.computed = None
        if asked.name is not None:
            self.make(after)
        self._tell(asked, Finished(turn, turn.writer.take(), "stop" if ended else "length", after))

    def _make(self) -> None:
        """Make the memories that somebody waits for or whose time is up; when the model is idle, all that are ready."""
        idle, now = not self._running and not self._waiting, time.monotonic()
        with self._changed:
            ready = [each for each in self._makings if each.is_ready and (idle or each.wanted or each.due <= now)]
        chosen = sorted(ready, key=lambda each: (not each.wanted, each.due))[:LONGEST_BATCH_OF_UPDATES]
        if chosen:
            make(self.model, chosen)
            with self._changed:
                self._makings = [each for each in self._makings if not each.is_done]

    def _tell(self, asked: Asked, event: Event) -> None:
        if not asked.cancelled:
            with suppress(RuntimeError):  # the loop that listened is closed
                asked.sink(event)

    def _tell_all(self, lost: Sequence[Asked], error: Exception) -> None:
        for asked in lost:
            self._tell(asked, Failed(error))

    def _fail_all(self, error: Exception) -> None:
        """Give up the rows that are being answered, and begin with a new table."""
        lost, self._running, self._joining = [*self._joining, *self._running], [], []
        old = self.engine
        self.engine = TurnEngine(self.model, 1, max_seq_len=old.limit, tokenizer=old.tokenizer, streams=True)
        self._tell_all(lost, error)
        with self._changed:
            self._makings = [each for each in self._makings if not each.is_done]
