"""Functions and programs in processes of their own, alone or as the group that torchrun makes of them.

The processes are forks of a server that has imported what takes long, torch and transformers (multiprocessing's
"forkserver"); each imports rxlm itself, as any program does. The server computes nothing, and has no threads. A
function is one of a module that tests import, since its name is what is sent: not of a test's own file.
"""

import atexit
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from multiprocessing import connection, forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist

PRELOADED = ("process_groups", "torch._dynamo", "tensorboard.summary.writer.record_writer",
             "transformers.modeling_utils", "transformers.tokenization_utils_tokenizers")  # fmt: skip
GRACE = 30.0
"""Seconds that a process has to end after SIGTERM, before it is killed: torchrun's."""


class Ended(NamedTuple):
    """What became of a process. `status` is its exit status, or minus the signal that ended it."""

    pid: int
    status: int
    output: str
    errors: str


class Program:
    """A function in a process of its own, with what it writes in files.

    Args:
        function: of a module that tests import. args: for it.
        environment: variables for it, besides this process's.
        read: what it finds on standard input.
    """

    def __init__(
        self, function: Callable[..., Any], *args: Any, environment: Mapping[str, str] | None = None, read: str = ""
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="program-")
        folder = Path(self._folder.name)
        for stream, text in enumerate((read, "", "")):  # here: a process may be killed before its first line
            (folder / str(stream)).write_text(text)
        variables = {**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})}
        self._process = _server().Process(target=_run, args=(folder, variables, function, args))
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid
        self.sentinel = self._process.sentinel

    @property
    def status(self) -> int | None:
        """The exit status; None while the function runs."""
        return self._process.exitcode

    def ended(self, seconds: float = 240) -> Ended:
        """Wait for its end. A function that takes longer is killed, and is a TimeoutError."""
        self._process.join(seconds)
        if self.status is None:
            self._process.kill()
            self._process.join()
            raise TimeoutError(f"Not ended after {seconds} s: {self._written(1)}{self._written(2)}")
        with self._folder:
            return Ended(self.pid, self.status, self._written(1), self._written(2))

    def _written(self, stream: int) -> str:
        return (Path(self._folder.name) / str(stream)).read_text(errors="replace")


def executed(code: str, *words: str, **environment: str) -> Ended:
    """Run Python code as `python -c code words` does."""
    return Program(_execute, code, words, environment=environment).ended()


def group(
    function: Callable[..., Any],
    *args: Any,
    processes: int = 2,
    seconds: float = 240,
    meeting: dist.TCPStore | None = None,
    **environment: str,
) -> list[Ended]:
    """Run a function in several processes as torchrun does, and return what became of each, by rank.

    Where one fails, the others are ended. `environment` is for all of them; `meeting` is where they find each other,
    a new store if not given.
    """
    meeting = meeting or dist.TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    torchrun = {
        "WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes), "MASTER_ADDR": "localhost",
        "MASTER_PORT": str(meeting.port), "TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0",
    }  # fmt: skip
    places = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]
    programs = [Program(function, *args, environment=torchrun | environment | place) for place in places]
    _wait(programs, time.monotonic() + seconds)
    return [program.ended(GRACE) for program in programs]


def _wait(programs: Sequence[Program], limit: float) -> None:
    """Wait until all have ended; from the first failure or the limit on they are told to end."""
    while running := [program for program in programs if program.status is None]:
        if any(program.status for program in programs) or time.monotonic() > limit:
            for program in running:
                os.kill(program.pid, signal.SIGTERM)
            return
        connection.wait([program.sentinel for program in running], limit - time.monotonic())


@cache
def _server() -> ForkServerContext:
    """Start the server, which gets the modules' places from the environment alone."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    before = dict(os.environ)
    os.environ |= {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    try:
        forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(before)
    return context


def _run(folder: Path, environment: Mapping[str, str], function: Callable[..., Any], args: Sequence[Any]) -> None:
    """Call a function as a program is run: with its own environment and streams, and with what `atexit` has."""
    for stream, flags in enumerate((os.O_RDONLY, os.O_WRONLY | os.O_APPEND, os.O_WRONLY | os.O_APPEND)):
        os.dup2(os.open(folder / str(stream), flags), stream)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(environment)
    torch.set_num_threads(1)
    try:
        function(*args)
    finally:
        atexit._run_exitfuncs()


def _execute(code: str, words: Sequence[str]) -> None:
    sys.argv = ["-c", *words]
    exec(compile(code, "<program>", "exec"), {"__name__": "__main__"})
