"""The databases that a store is tested on."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rxlm.serving.store.backend import Backend
from rxlm.serving.store.sqlite import SQLiteBackend

BACKENDS = ("sqlite",)


@contextmanager
def open_backend(name: str, folder: Path) -> Iterator[Backend]:
    """Open an empty database, and close it afterwards."""
    backend = SQLiteBackend(folder / "store.sqlite")
    try:
        yield backend
    finally:
        backend.close()
