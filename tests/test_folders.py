"""Folders and files are written whole, whatever happens meanwhile, and nobody reads a mixture."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from rxlm import files, folders
from rxlm.files import LockedError, append_whole, locked, write_atomically, write_text
from rxlm.folders import COMMITTED, DRAFT, MARKER, check_saved, damage, finish, reading, saving

OLD = {"config.json": "old", "weights": "old weights", "left out": "of the old save alone"}
NEW = {"config.json": "new", "weights": "new weights!", "deep/added": "of the new save alone"}


class Killed(BaseException):
    """What stands for a kill: nothing that comes after it is done."""


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    former = os.umask(0o027)
    yield
    os.umask(former)


def save(folder: Path, content: dict[str, str]) -> None:
    with saving(folder) as draft:
        for name, text in content.items():
            (draft / name).parent.mkdir(exist_ok=True)
            (draft / name).write_text(text)


def visible(folder: Path) -> dict[str, str]:
    """What a program that knows nothing of saves finds in a folder."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != MARKER]
    return {
        name: path.read_text()
        for path in paths
        if not (name := path.relative_to(folder).as_posix()).startswith((DRAFT, COMMITTED))
    }


def kill_at_change(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the process end at the change of a name in the file system with that number."""
    left = [number]

    def dying(change):
        def changing(*arguments, **options):
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return change(*arguments, **options)

        return changing

    for owner, name in ((os, "replace"), (os, "unlink"), (Path, "unlink"), (os, "rmdir"), (Path, "mkdir")):
        monkeypatch.setattr(owner, name, dying(getattr(owner, name)))
    monkeypatch.setattr(files, "remove", lambda path: None)  # a killed process tidies nothing up
    monkeypatch.setattr(folders, "remove", lambda path: None)


@pytest.mark.parametrize("before", [{}, OLD], ids=["new folder", "over another save"])
def test_a_save_that_is_killed_at_any_change_leaves_the_old_files_or_the_new_ones(before, tmp_path, monkeypatch):
    outcomes = []
    for number in range(100):
        folder = tmp_path / str(number)
        if before:
            save(folder, before)
            (folder / "of somebody else").write_text("stays")
        with monkeypatch.context() as patch:
            kill_at_change(number, patch)
            try:
                save(folder, NEW)
                is_done = True
            except Killed:
                is_done = False
        others = {"of somebody else": "stays"} if before else {}
        mixed = {name for name, text in visible(folder).items() if text in OLD.values()} and {
            name for name, text in visible(folder).items() if text in NEW.values()
        }
        assert not mixed, "a program that knows nothing of saves would read a mixture"
        if folder.exists():
            finish(folder)
            check_saved(folder)
        found = visible(folder) if folder.exists() else {}
        assert found in (before | others, NEW | others)
        outcomes.append(found == NEW | others)
        save(folder, OLD)  # it is not stuck, and what the killed save left is gone
        assert visible(folder) == OLD | others
        assert not [path for path in folder.iterdir() if path.name.startswith((DRAFT, COMMITTED))]
        if is_done:
            break
    assert is_done
    assert outcomes == sorted(outcomes), "a save that got further is never less done"


def test_a_save_that_fails_leaves_nothing_behind(tmp_path):
    save(tmp_path, OLD)
    for folder, expected in ((tmp_path, OLD), (tmp_path / "new", None)):
        with pytest.raises(OSError, match="disk"), saving(folder) as draft:  # noqa: PT012
            (draft / "config.json").write_text("half")
            raise OSError("the disk is full")
        assert (visible(folder) if folder.exists() else None) == expected


def test_what_is_changed_after_a_save_is_named(tmp_path):
    save(tmp_path, OLD)
    assert damage(tmp_path) == []
    (tmp_path / "weights").write_text("old weight")
    (tmp_path / "config.json").write_text("OLD")
    (tmp_path / "left out").unlink()
    config, left_out, weights = damage(tmp_path)
    assert "config.json is not the file that was saved" in config
    assert left_out.endswith("left out is missing")
    assert "weights has 10 bytes, and 11 were saved" in weights
    with pytest.raises(ValueError, match=r"do not belong together: .*remove .*checksums\.json"):
        check_saved(tmp_path)
    (tmp_path / MARKER).unlink()
    check_saved(tmp_path)  # as a folder of another program


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"files": {"a": 1}}', '{"files": {"../a": {"bytes": 1, "crc32": ""}}}']
)
def test_a_damaged_marker_is_named(text, tmp_path):
    (tmp_path / MARKER).write_text(text)
    with pytest.raises(ValueError, match=r"checksums\.json (is damaged|names)"):
        check_saved(tmp_path)


def test_new_files_have_the_permissions_of_the_umask_and_old_ones_keep_theirs(tmp_path):
    def private(path: Path) -> None:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))  # as safetensors writes

    with saving(tmp_path / "folder") as draft:
        private(draft / "weights")
    write_atomically(tmp_path / "file", private)
    (tmp_path / "mine").touch(0o604)
    (tmp_path / "mine").chmod(0o604)
    write_atomically(tmp_path / "mine", private)
    append_whole(tmp_path / "log", b"line\n")
    found = {name: (tmp_path / name).stat().st_mode & 0o777 for name in ("folder/weights", "file", "mine", "log")}
    assert found == {"folder/weights": 0o640, "file": 0o640, "mine": 0o604, "log": 0o640}


def test_a_link_is_followed_by_a_file_and_refused_in_a_folder(tmp_path):
    (tmp_path / "blob").write_text("of the hub's cache")
    (tmp_path / "link").symlink_to("blob")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "blob").read_text() == "new"

    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").symlink_to(tmp_path / "blob")
    with pytest.raises(OSError, match="weights is a symbolic link"):
        save(tmp_path / "model", OLD)
    assert visible(tmp_path / "model") == {"weights": "new"}
    (tmp_path / "linked").symlink_to("real")
    (tmp_path / "real").mkdir()
    save(tmp_path / "linked", OLD)
    assert (tmp_path / "linked").is_symlink()
    assert visible(tmp_path / "real") == OLD


def test_what_is_no_file_is_not_replaced_by_one(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(OSError, match="not a regular file"):
            write_text(path, "text")


def test_a_file_that_fails_halfway_or_is_killed_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / ("ü*[x]" * 30)  # a long name, with what patterns mean something by
    write_text(path, "old")

    def failing(temporary: Path) -> None:
        temporary.write_text("ha")
        raise Killed

    with pytest.raises(Killed):
        write_atomically(path, failing)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    with monkeypatch.context() as patch:
        patch.setattr(files, "remove", lambda path: None)
        with pytest.raises(Killed):
            write_atomically(path, failing)
    assert len(list(tmp_path.iterdir())) == 2
    write_text(path, "new")
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    assert path.read_text() == "new"


def test_who_reads_finds_one_save_though_another_is_made_meanwhile(tmp_path):
    save(tmp_path, dict.fromkeys("abcd", "0"))
    ended, mixed = threading.Event(), []

    def read() -> None:
        while not ended.is_set():
            with reading(tmp_path):
                found = {(tmp_path / name).read_text() for name in "abcd"}
            if len(found) != 1:
                mixed.append(found)

    readers = [threading.Thread(target=read) for _ in range(3)]
    writers = [threading.Thread(target=lambda: [save(tmp_path, dict.fromkeys("abcd", str(n))) for n in range(20)])] * 1
    for thread in [*readers, *writers]:
        thread.start()
    writers[0].join()
    ended.set()
    for thread in readers:
        thread.join()
    assert mixed == []


def test_a_lock_keeps_others_out_while_it_is_held(tmp_path):
    with locked(tmp_path), pytest.raises(LockedError), locked(tmp_path, wait=False):
        pass
    with locked(tmp_path, exclusive=False), locked(tmp_path, exclusive=False, wait=False):
        pass
