"""Which database a URL names."""

from pathlib import Path

import pytest

from redis_server import shared_server
from rxlm.serving.store.backend import Changes, StoreError
from rxlm.serving.store.opening import open_backend
from rxlm.serving.store.redis import RedisBackend
from rxlm.serving.store.sqlite import SQLiteBackend


@pytest.mark.parametrize("url", ["s.sqlite", "sqlite:///s.sqlite", "{folder}/s.sqlite", "sqlite:///{folder}/s.sqlite"])
def test_a_path_is_a_file(url: str, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    backend = open_backend(url.format(folder=tmp_path))
    assert isinstance(backend, SQLiteBackend)
    backend.apply(Changes(values={"a": b"1"}))
    backend.close()
    assert (tmp_path / "s.sqlite").exists()


@pytest.mark.parametrize("url", [":memory:", "sqlite:///:memory:"])
def test_memory_is_no_file(url: str, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    open_backend(url).close()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("scheme", ["redis", "valkey"])
def test_a_server_is_redis(scheme: str):
    backend = open_backend(shared_server().url.replace("redis", scheme, 1))
    assert isinstance(backend, RedisBackend)
    backend.close()


@pytest.mark.parametrize(
    "url",
    ["", "postgresql://me:hidden@host/db", "sqlite://", "sqlite:///", "sqlite://host/s.sqlite", "sqlite:s.sqlite",
     "sqlite:///s.sqlite?mode=ro", "redis:/:hidden@host", "redis:host", "http://host", "://host"],
)  # fmt: skip
def test_others_are_refused_with_what_is_allowed(url: str, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match=r"sqlite:////absolute/path.*redis://") as raised:
        open_backend(url)
    assert "hidden" not in str(raised.value)
    assert not list(tmp_path.iterdir())
