"""Processes of one machine that share the rows of each batch: what torchrun starts, started by the first of them.

A small model does not keep the cores of a CPU busy with threads: its products are too small to be divided. Two
processes that read half of the rows each do.
"""

import os
import signal
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing import connection, get_context
from multiprocessing.process import BaseProcess

import torch

from rxlm.training import distributed
from rxlm.training.heartbeat import LostProcessError

SECONDS_TO_END = 30.0
"""That the others have to end by themselves, once the first is done."""


@contextmanager
def sharing(count: int, work: Callable[..., object], *args: object) -> Iterator[None]:
    """Be the first of `count` processes within the block; the others call `work(*args)`, which can be pickled.

    All are in one group (`rxlm.training.distributed`), with an equal part of the cores. One that fails says why on
    standard error, and the first then raises LostProcessError where it waits for it. The others end with the block.
    """
    if count < 2:
        yield
        return
    threads, group = torch.get_num_threads(), _group(count)
    part = max(1, threads // count)
    spawned = get_context("spawn")
    joins, is_ready = spawned.Pipe(duplex=False)
    given = [(is_ready, group | _own(rank), part, work, *args) for rank in range(1, count)]
    others = [spawned.Process(target=_join, args=each, daemon=True) for each in given]
    with _environment(group | _own(0)):
        torch.set_num_threads(part)
        try:
            with _uninterrupted():
                for other in others:
                    other.start()
            _wait_until_ready(others, joins)
            distributed.start()
            yield
            distributed.leave()  # before the others end, whom this one watches
            for other in others:
                other.join(SECONDS_TO_END)
        finally:
            distributed.leave()
            for other in others:
                if other.pid is not None:
                    other.terminate()
            torch.set_num_threads(threads)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ignore Ctrl-C in the block, and in processes that start in it for good: it is for the first, which ends them."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _group(count: int) -> dict[str, str]:
    """Return the variables of a group on this machine, as torchrun sets them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    sizes = dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE"), str(count))
    return {**sizes, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


def _own(rank: int) -> dict[str, str]:
    return dict.fromkeys(("RANK", "LOCAL_RANK"), str(rank))


def _wait_until_ready(others: Sequence[BaseProcess], joins: connection.Connection) -> None:
    """Wait until all are about to join the group; LostProcessError if one ends before."""
    waited_for = len(others)
    ends = {other.sentinel: other for other in others}
    while waited_for:
        for found in connection.wait([joins, *ends]):
            if isinstance(found, int):
                ends[found].join(SECONDS_TO_END)  # it has closed what it had, and may not have ended yet
                code = ends[found].exitcode
                raise LostProcessError(
                    f"A process that was to share the rows ended with exit status {code} before it began; what it said "
                    "itself is the cause. A script that starts processes needs `if __name__ == '__main__':`."
                )
            joins.recv()
            waited_for -= 1


def _join(
    is_ready: connection.Connection,
    environment: dict[str, str],
    threads: int,
    work: Callable[..., object],
    *args: object,
) -> None:
    """Be one of the others."""
    os.environ.update(environment)
    torch.set_num_threads(threads)
    is_ready.send(True)
    distributed.start()
    work(*args)
    distributed.leave()
