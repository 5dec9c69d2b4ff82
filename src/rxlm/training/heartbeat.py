"""The processes of a run watch each other: one that is killed or stopped is named, and the run ends.

Each process has a server, a `TCPStore`, whose thread is one of C++. So it answers through any computation, however long
that holds Python's lock, and no more when the process is stopped or gone. In a ring, each process asks the next one.
"""

import atexit
import os
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from datetime import timedelta
from enum import Enum
from typing import Any, NamedTuple

import torch.distributed as dist

INTERVAL = "RXLM_HEARTBEAT_SECONDS"
"""Environment variable: seconds between two questions, and that an answer may take; 5 if not set."""
MISSES = 4
"""Questions in a row without an answer, after which a process counts as stopped."""
LOST = 3
"""Exit status of a process that ends because of another one: the command's for faults of the machine."""


class LostProcessError(ConnectionError):
    """A message between the processes of a run failed, because one of them has ended."""


class State(Enum):
    """What a process that is asked turns out to be."""

    ANSWERS = "answers"
    SILENT = "silent"
    GONE = "gone"


class Peer(NamedTuple):
    """Another process of the run, and where it answers."""

    rank: int
    pid: int
    host: str
    address: str
    port: int

    def __str__(self) -> str:
        """Return how a person finds it."""
        return f"process {self.rank} (pid {self.pid} on {self.host})"

    @property
    def mark(self) -> str:
        """Return the key that the process sets where it ends by itself."""
        return f"rxlm/ended/{self.host}/{self.pid}"


class Heartbeat:
    """Answers the process before this one in the ring and watches the one after it, until this process ends.

    It is made by all processes of the group at once. RXLM_HEARTBEAT_SECONDS that is no positive number is a ValueError.
    """

    def __init__(self) -> None:
        self.seconds = _seconds()
        rank, count = dist.get_rank(), dist.get_world_size()
        self._meeting = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        address = _address_towards(*self._meeting)
        self._answers = dist.TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
        limit = timedelta(seconds=self.seconds)
        self._shared = dist.TCPStore(*self._meeting, is_master=False, wait_for_workers=False, timeout=limit)
        peers: list[Any] = [None] * count
        self._own = Peer(rank, os.getpid(), socket.gethostname(), address, self._answers.port)
        dist.all_gather_object(peers, self._own)
        self._next: Peer = peers[(rank + 1) % count]
        self._ended, self._look = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._watch, name="heartbeat", daemon=True)
        self._thread.start()
        atexit.register(self.end)

    def explain(self) -> LostProcessError:
        """Return what to raise where a message failed.

        Most often it is not returned from: torchrun ends this process meanwhile, or the watch has found who was killed.
        A process that failed has then said why, and nothing else is said.
        """
        self._look.set()
        time.sleep(3 * self.seconds)
        return LostProcessError(
            "Another process of this run has ended or cannot be reached; what it said itself is the cause."
        )

    def _watch(self) -> None:
        if _ask(self._next.address, self._next.port, self.seconds) is not State.ANSWERS:
            if not self._has_ended():
                _say(f"{self._next} cannot be reached at {self._next.address}, and is not watched.")
            return
        misses = 0
        while not self._ended.is_set():
            asked = time.monotonic()
            state = _ask(self._next.address, self._next.port, self.seconds)
            misses = misses + 1 if state is State.SILENT else 0
            if state is State.GONE:
                self._name_killed()
                return
            if misses == MISSES:
                self._end_with_stopped()
            # A miss has taken its time, unless the network refused at once; then it may come back meanwhile.
            self._look.wait(self.seconds - (time.monotonic() - asked if misses else 0))
            self._look.clear()

    def _name_killed(self) -> None:
        """Say that the process was killed, unless it ended by itself."""
        if self._has_ended() or self._ended.is_set():
            return
        _say(f"{self._next} was killed, for example for want of memory; this run ends.")
        self._ended.wait(2 * self.seconds)  # torchrun ends it first, and so reports no other process as the cause
        self._exit()

    def _has_ended(self) -> bool:
        """Tell whether the next process has ended by itself: then it has said why, or was done."""
        with suppress(RuntimeError):
            return not self._can_meet() or self._shared.check([self._next.mark])
        return False

    def _end_with_stopped(self) -> None:
        seconds = MISSES * self.seconds
        _say(f"{self._next} has not answered for {seconds:g} s: it is stopped, or not to be reached; this run ends.")
        if self._next.host == self._own.host:
            # A stopped process would let torchrun wait for half a minute; Windows has no such signal.
            with suppress(OSError, AttributeError):
                os.kill(self._next.pid, signal.SIGCONT)
        self._exit()

    def _exit(self) -> None:
        """End this process at once: its main thread waits in C++ for the other one."""
        self._leave_mark()
        os._exit(LOST)

    def end(self) -> None:
        """Watch no more, and let the others know that this process has ended by itself."""
        if os.getpid() != self._own.pid:  # a fork of it
            return
        self._ended.set()
        self._look.set()
        self._leave_mark()
        self._thread.join()
        atexit.unregister(self.end)

    def _leave_mark(self) -> None:
        with suppress(RuntimeError):
            if self._can_meet():
                self._shared.add(self._own.mark, 1)

    def _can_meet(self) -> bool:
        """Tell whether the shared store is there: torchrun's, or without it the first process's, which may be gone.

        Where it is not, PyTorch would write to standard error.
        """
        return _ask(*self._meeting, self.seconds) is State.ANSWERS


def _ask(address: str, port: int, seconds: float) -> State:
    """Open a connection and end it: a process that runs ends it, too; of one that is stopped nothing comes."""
    try:
        with socket.create_connection((address, port), seconds) as connection:
            connection.shutdown(socket.SHUT_WR)
            connection.recv(1)
    except (ConnectionRefusedError, ConnectionResetError):
        return State.GONE
    except OSError:
        return State.SILENT
    return State.ANSWERS


def _seconds() -> float:
    text = os.environ.get(INTERVAL, "5")
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ValueError(f"The environment variable {INTERVAL} is {text!r}; a number of seconds above 0 is allowed.")
    return seconds


def _address_towards(host: str, port: int) -> str:
    """Return the address of this machine from which it reaches another one; nothing is sent."""
    family, kind, _, _, target = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as probe:
        probe.connect(target)
        return str(probe.getsockname()[0])


def _say(text: str) -> None:
    with suppress(OSError, ValueError):
        sys.stderr.write(f"rxlm: {text}\n")
        sys.stderr.flush()
