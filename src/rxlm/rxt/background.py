"""What conversations share between threads and processes: work in the background, and values that change at once.

After a fork the child has only the thread that forked. It does again what was still to be done, and computes with one
thread, for PyTorch's own threads do not survive a fork either: with more, its first large product would wait for ever.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Lock
from typing import Generic, TypeVar

import torch

T = TypeVar("T")


class Cell(Generic[T]):
    """A value that is replaced only by who knows the present one: what was decided on it holds when it changes.

    Threads that decide at the same time decide on the same value, and one of them succeeds; the others look again.
    """

    def __init__(self, value: T) -> None:
        self.value = value

    def replace(self, old: T, new: T) -> bool:
        """Put `new` in the place of `old`; False, and nothing is changed, where `old` is not the value any more."""
        with _changing:
            if self.value is not old:
                return False
            self.value = new
            return True


class Job(Generic[T]):
    """A call of `work` in the background. After `wait`, it has a `result` or an `error`.

    `work` changes nothing outside of it: in a process that was forked before it was done, it is called again.
    """

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._outcome: tuple[T | None, BaseException | None] | None = None
        self._begin()

    def wait(self) -> None:
        """Wait until the work is done. A wait that is interrupted loses nothing: another one goes on."""
        if self._outcome is None:
            if self._worker is not _worker:
                self._begin()
            self._done.wait()

    @property
    def error(self) -> BaseException | None:
        """What the work raised."""
        assert self._outcome is not None
        return self._outcome[1]

    @property
    def result(self) -> T:
        """What the work returned."""
        assert self._outcome is not None
        return self._outcome[0]  # type: ignore[return-value]

    def _begin(self) -> None:
        done, worker = Event(), _worker
        worker.submit(self._run, done)
        self._done, self._worker = done, worker  # after it: an interrupt must not leave an event that nobody sets

    def _run(self, done: Event) -> None:
        with _working:
            try:
                self._outcome = self._work(), None
            except BaseException as error:
                self._outcome = None, error
        done.set()


def _new_worker() -> ThreadPoolExecutor:
    """Return one thread for all conversations: updates are short, and a second would only share the same cores."""
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="rxlm-memory-update")


_worker = _new_worker()
_working = Lock()
"""Held while a job computes; a fork waits for it, so that no lock within PyTorch is held for ever in the child."""
_changing = Lock()


def _start_in_child() -> None:
    global _worker, _working, _changing
    _worker, _working, _changing = _new_worker(), Lock(), Lock()
    if torch.get_num_threads() > 1:
        torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):  # Windows does not fork
    os.register_at_fork(
        before=lambda: _working.acquire(), after_in_parent=lambda: _working.release(), after_in_child=_start_in_child
    )
