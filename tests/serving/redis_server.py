"""A Redis server of the tests' own, on a free port and in an empty folder."""

import atexit
import contextlib
import functools
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class RedisServer:
    """A server that can be killed, stopped and started again; skips the test where redis-server is missing."""

    def __init__(self, folder: Path, *options: str) -> None:
        program = shutil.which("redis-server")
        if program is None:
            pytest.skip("redis-server is not installed: make services")
        self._program, self._folder, self._options = program, folder, options
        self.port = free_port()
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        command = [self._program, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder)]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--save", "", *self._options], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        for _ in range(400):
            if self._process.poll() is not None:
                break
            with redis.Redis(port=self.port, retry=Retry(NoBackoff(), 0)) as client:
                try:
                    client.ping()
                    return
                except (redis.AuthenticationError, redis.ResponseError):
                    return  # it is there, and asks for a password
                except redis.ConnectionError:
                    time.sleep(0.025)
        raise RuntimeError(f"redis-server did not start: {(self._folder / 'log').read_text()[-2000:]}")

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def flush(self) -> None:
        with redis.Redis(port=self.port) as client:
            client.flushall()


class LosesAnswers:
    """A way to a server that goes on, except that one answer is lost with its connection each time `lose` is set."""

    def __init__(self, port: int) -> None:
        self.lose = False
        self._to = port
        self._sockets = [socket.create_server(("127.0.0.1", 0))]
        self.port = self._sockets[0].getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for opened in self._sockets:
            with contextlib.suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits for it
            opened.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._sockets[0].accept()
                server = socket.create_connection(("127.0.0.1", self._to))
                self._sockets += [client, server]
                for source, target, answers in ((client, server, False), (server, client, True)):
                    threading.Thread(target=self._forward, args=(source, target, answers), daemon=True).start()

    def _forward(self, source: socket.socket, target: socket.socket, answers: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if answers and self.lose:
                    self.lose = False
                    break
                target.sendall(data)
        for opened in (source, target):
            with contextlib.suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)


@functools.cache
def shared_server() -> RedisServer:
    """One server for a test process; whoever uses it empties it first."""
    folder = tempfile.mkdtemp(prefix="rxlm-redis-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    server = RedisServer(Path(folder))
    atexit.register(server.kill)  # runs before the folder goes
    return server
