"""Which database a URL names, and where conversations are without one."""

from pathlib import Path

from rxlm.serving.store.backend import Backend, StoreError
from rxlm.serving.store.redis import RedisBackend
from rxlm.serving.store.redis_url import SCHEMES
from rxlm.serving.store.sqlite import SQLiteBackend

NO_STORE = "none"
ALLOWED = (
    "a path, sqlite:///relative/path, sqlite:////absolute/path, :memory:, redis://host:6379/0, rediss:// (TLS), "
    "valkey://host:6379/0, valkeys:// (TLS) or unix:///path/of/redis.sock"
)


def open_backend(url: str) -> Backend:
    """Open a database: `redis`, `rediss`, `valkey`, `valkeys`, `unix`, `sqlite`, a bare path, or ":memory:".

    After sqlite:// comes a slash, then the path, as SQLAlchemy has it: absolute paths begin with a fourth slash.
    `StoreError` for anything else, and for a database that cannot be opened.
    """
    scheme, colon, rest = url.partition(":")
    slashes = rest.startswith("//")
    if slashes and scheme in SCHEMES:
        return RedisBackend(url)
    if slashes and scheme == "sqlite" and rest.startswith("///") and "?" not in rest:
        path = rest.removeprefix("///")
    elif not slashes and scheme not in (*SCHEMES, "sqlite"):
        path = url
    else:
        path = ""
    if not path:
        said = f"{scheme}:" if colon else repr(url)  # no more of it: the rest may have a password
        raise StoreError(f"No store is opened by {said} as it was written; it is given as {ALLOWED}.")
    return SQLiteBackend(path)


def store_beside(model: str) -> str:
    """Return the file of a model's conversations: in its folder, or beside its file; in this folder for a hub id."""
    path = Path(model)
    if path.is_dir():
        return str(path / "conversations.sqlite")
    name = path.stem if path.is_file() else model.replace("/", "--")
    return str((path.parent if path.is_file() else Path()) / f"{name}.conversations.sqlite")


def store_of(name: str, *, may_be_new: bool = False) -> Backend:
    """Open a store by its file or address, or by the folder of the model that it is beside.

    A file that is not there is an error, unless the store `may_be_new`; so is a store that lives in one process.
    """
    place = store_beside(name) if Path(name).is_dir() else name
    if place in (NO_STORE, ":memory:"):
        raise ValueError(f"There is no store {place} that two programs share.")
    is_file = "://" not in place or place.startswith("sqlite:///")
    if is_file and not may_be_new and not Path(place.removeprefix("sqlite:///")).is_file():
        raise ValueError(f"There is no store {place}.")
    return open_backend(place)
