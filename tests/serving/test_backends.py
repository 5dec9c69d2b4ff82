"""Databases of stores: one suite over all of them."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from rxlm.serving.store.backend import Backend, Changes, StoreError
from rxlm.serving.store.sqlite import SQLiteBackend
from serving_backends import BACKENDS, open_backend


@pytest.fixture(params=BACKENDS)
def backend(request, tmp_path: Path) -> Iterator[Backend]:
    with open_backend(request.param, tmp_path) as opened:
        yield opened


def test_values_are_there_until_they_are_deleted(backend: Backend):
    assert backend.apply(Changes(values={"a": b"1", "b": b"\x00\xff"}))
    assert backend.get(["b", "a", "c"]) == [b"\x00\xff", b"1", None]
    assert backend.apply(Changes(values={"a": b"2"}, deleted={"b"}))
    assert backend.get(["a", "b"]) == [b"2", None]


def test_changes_are_made_all_or_none(backend: Backend):
    backend.apply(Changes(values={"head": b"1"}))
    refused = Changes(
        expected={"head": b"0"}, values={"x": b"1"}, deleted={"head"}, members={("s", "m"): 1.0}, counted={"n": 1}
    )
    assert not backend.apply(refused)
    assert not backend.apply(Changes(expected={"head": None}, values={"x": b"1"}))
    assert (backend.get(["head", "x"]), backend.size("s"), backend.counter("n")) == ([b"1", None], 0, 0)
    assert backend.apply(Changes(expected={"head": b"1", "x": None}, values={"head": b"2"}))


def test_sets_are_ordered_and_read_by_pages(backend: Backend):
    backend.apply(Changes(members={("s", name): number for name, number in (("a", 2), ("b", 1), ("c", 3), ("d", 3))}))
    backend.apply(Changes(members={("t", "z"): 9}))
    assert backend.members("s", 10) == ["d", "c", "a", "b"]
    assert backend.members("s", 10, newest=False) == ["b", "a", "c", "d"]
    assert (backend.members("s", 2), backend.members("s", 2, after="c")) == (["d", "c"], ["a", "b"])
    assert backend.members("s", 2, after="b", newest=False) == ["a", "c"]
    assert backend.members("s", 2, after="gone") == []
    assert backend.numbers("s", 2) == [("b", 1.0), ("a", 2.0)]
    assert (backend.number("s", "a"), backend.number("s", "z")) == (2.0, None)
    backend.apply(Changes(members={("s", "b"): 5}, removed={("s", "a")}))
    assert (backend.members("s", 10), backend.size("s"), backend.size("u")) == (["b", "d", "c"], 3, 0)


def test_counters_add_up_over_threads(backend: Backend):
    def add() -> None:
        for _ in range(20):
            backend.apply(Changes(counted={"n": 2}))

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert backend.counter("n") == 160


def test_one_of_many_threads_moves_a_head(backend: Backend):
    backend.apply(Changes(values={"head": b"0"}))
    won = []

    def move(own: bytes) -> None:
        if backend.apply(Changes(expected={"head": b"0"}, values={"head": own})):
            won.append(own)

    threads = [threading.Thread(target=move, args=(b"%d" % (number + 1),)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [backend.get(["head"])[0]] == won


def test_two_processes_share_a_file(tmp_path: Path):
    first, second = SQLiteBackend(tmp_path / "s.sqlite"), SQLiteBackend(tmp_path / "s.sqlite")
    first.apply(Changes(values={"a": b"1"}))
    assert second.get(["a"]) == [b"1"]


def test_nothing_deleted_stands_in_a_file(tmp_path: Path):
    backend = SQLiteBackend(tmp_path / "s.sqlite")
    backend.apply(Changes(values={"k": b"my secret place" * 300}, members={("my secret set", "m"): 1.0}))
    backend.scrub()
    assert any(b"my secret" in file.read_bytes() for file in tmp_path.iterdir())
    backend.apply(Changes(deleted={"k"}, removed={("my secret set", "m")}))
    backend.scrub()
    assert not any(b"my secret" in file.read_bytes() for file in tmp_path.iterdir())


def test_other_files_are_refused_and_left_as_they_are(tmp_path: Path):
    import sqlite3

    text = tmp_path / "notes.txt"
    text.write_text("these are notes, and no database" * 100)
    with pytest.raises(StoreError, match=r"notes.txt"):
        SQLiteBackend(text)
    other = sqlite3.connect(tmp_path / "other.sqlite")
    other.execute("CREATE TABLE theirs (a)")
    other.close()
    with pytest.raises(StoreError, match="something else"):
        SQLiteBackend(tmp_path / "other.sqlite")
    with pytest.raises(StoreError, match="nowhere"):
        SQLiteBackend(tmp_path / "nowhere" / "s.sqlite")
