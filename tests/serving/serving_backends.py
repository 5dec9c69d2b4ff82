"""The databases that a store is tested on."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis_server import shared_server
from rxlm.serving.store.backend import Backend
from rxlm.serving.store.opening import open_backend as open_url

BACKENDS = ("sqlite", "redis")


@contextmanager
def open_backend(name: str, folder: Path) -> Iterator[Backend]:
    """Open an empty database, and close it afterwards; skips the test where its server is not installed."""
    if name == "redis":
        server = shared_server()
        server.flush()
        url = server.url
    else:
        url = str(folder / "store.sqlite")
    backend = open_url(url)
    try:
        yield backend
    finally:
        backend.close()
