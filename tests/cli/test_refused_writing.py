"""A full disk and a read-only folder at each command that writes: a line with file and cause, and nothing is lost."""

import builtins
import errno
import io
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from full_disk import full_disk
from logged_runs import write_run
from pretrained_models import save_language_model
from recipes.small_recipes import quick
from rxlm.cli import COMMANDS, main
from rxlm.cli.errors import Status
from rxlm.recipes import RECIPES
from rxlm.recipes.facts import tiny
from text_models import SENTENCES, tiny_text_model

BENCH = ("--turns", "4", "--dialogues", "6", "--max-answer-tokens", "6", "--reports", "retention", "--controls")


class Writing(NamedTuple):
    """A command that writes.

    Fields:
        words: its arguments. said: what is typed into it.
        goes_on: its target may be there already, and is written again.
    """

    words: tuple[str, ...]
    said: str = ""
    goes_on: bool = True


COMMANDS_THAT_WRITE = {
    "tokenizer train": Writing(("IN/text.txt", "--output", "OUT/tokenizer", "--vocab-size", "280")),
    "convert": Writing(("IN/rxt", "OUT/model"), goes_on=False),
    "export": Writing(("IN/llama", "OUT/model"), goes_on=False),
    "upcycle": Writing(("IN/llama", "OUT/model"), goes_on=False),
    "llm from-gqa": Writing(("IN/llama", "OUT/model", "--query-heads", "2", "--kv-heads", "1"), goes_on=False),
    "chat": Writing(("IN/rxt", "--seed", "1"), said="Hi.\n/save OUT/chat.safetensors\n"),
    "report": Writing(("OUT/run",)),
    "bench memory": Writing(("IN/rxt", *BENCH, "--output", "OUT/bench")),
    "bench compare": Writing(("IN/rxt", "IN/rxt", *BENCH, "--output", "OUT/comparison")),
    "train": Writing(("tiny", "--output", "OUT/training"), goes_on=False),  # a finished one writes what `report` writes
    "quickstart": Writing(("--output", "OUT/quickstart"), goes_on=False),  # it writes as `train` does
}
READERS = {"data check", "info", "memory show", "memory diff", "bench reward"}
DATABASES = {"serve", "keys add", "keys list", "keys revoke", "keys limit", "feedback export"}
"""They open a database, which may need to write to be read, and is whole whatever becomes of it: tests/serving."""


@contextmanager
def nearly_full_disk(folder: Path) -> Iterator[None]:
    """Leave room for small files."""
    with full_disk(folder, room=3000):
        yield


@contextmanager
def read_only(folder: Path, *, is_told: bool = True) -> Iterator[None]:
    """Let nothing be made or opened for writing in a folder, as in a file system that is mounted so (root could)."""

    def refuses(call: Callable[..., Any], writes: Callable[..., bool]) -> Callable[..., Any]:
        def refusing(path: Any, *arguments: Any, **options: Any) -> Any:
            if isinstance(path, (str, Path)) and folder in Path(path).parents and writes(*arguments, **options):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
            return call(path, *arguments, **options)

        return refusing

    def opens(mode: str = "r", *_: Any, **__: Any) -> bool:
        return set(mode) & set("wax+") != set()

    def flags(mode: int, *_: Any, **__: Any) -> bool:
        return mode & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) != 0

    def access(path: Any, mode: int, **options: Any) -> bool:
        inside = Path(path) == folder or folder in Path(path).parents
        return not (is_told and inside and mode & os.W_OK) and os_access(path, mode, **options)

    os_access = os.access
    with pytest.MonkeyPatch.context() as patch:
        for name in ("mkdir", "rename", "replace", "unlink", "rmdir", "link", "utime"):
            patch.setattr(os, name, refuses(getattr(os, name), lambda *_, **__: True))
        patch.setattr(os, "open", refuses(os.open, flags))
        for owner in (io, builtins):
            patch.setattr(owner, "open", refuses(open, opens))
        patch.setattr(os, "access", access)
        patch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_flag=os.ST_RDONLY))
        yield


@contextmanager
def read_only_at_last(folder: Path) -> Iterator[None]:
    """Find it out only when something is written: it was mounted so meanwhile."""
    with read_only(folder, is_told=False):
        yield


FAULTS: dict[str, tuple[Callable[[Path], AbstractContextManager[None]], int]] = {
    "full": (full_disk, errno.EFBIG),
    "nearly full": (nearly_full_disk, errno.EFBIG),
    "read-only": (read_only, errno.EROFS),
    "read-only at last": (read_only_at_last, errno.EROFS),
}


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("given")
    (folder / "text.txt").write_text("\n".join(SENTENCES * 9))
    tiny_text_model(max_seq_len=64).save_pretrained(folder / "rxt")
    save_language_model("llama", folder / "llama")
    return folder


def there(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def run(name: str, given: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    command = COMMANDS_THAT_WRITE[name]
    monkeypatch.setattr(sys, "stdin", io.StringIO(command.said.replace("OUT/", f"{out}/")))
    words = [word.replace("IN/", f"{given}/").replace("OUT/", f"{out}/") for word in command.words]
    return main([*name.split(), *words])


def told(errors: str) -> list[str]:
    """Return the lines of an error output without progress bars."""
    return [line for line in errors.split("\n") if line and "it/s]" not in line]


def test_every_command_writes_or_reads() -> None:
    assert set(COMMANDS) == {*COMMANDS_THAT_WRITE, *READERS, *DATABASES}


@pytest.mark.parametrize("name", COMMANDS_THAT_WRITE)
def test_a_refused_file_is_named_and_all_that_was_there_stays(
    name: str, given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = quick(tiny())
    monkeypatch.setattr("rxlm.cli.quickstart.tiny", lambda: small)
    monkeypatch.setitem(RECIPES, "tiny", lambda: small)
    whole = tmp_path / "whole"
    whole.mkdir()
    write_run(whole / "run")
    for is_new in (True, False):
        for fault, (refusing, number) in FAULTS.items():
            out = tmp_path / f"{fault.replace(' ', '-')}-{'new' if is_new else 'again'}"
            shutil.copytree(whole, out)
            before = there(out)
            with refusing(out):
                status = run(name, given, out, monkeypatch)
            (line,) = told(capsys.readouterr().err)
            assert (fault, status) == (fault, Status.MACHINE), line
            assert line.startswith(f"rxlm {name}: {out}"), fault
            assert line.endswith(f": {os.strerror(number)}"), fault
            assert ".saving-" not in line
            assert "unfinished" not in line
            after = there(out)
            assert {path: after.get(path) for path in before} == before, fault
        if not COMMANDS_THAT_WRITE[name].goes_on:
            break
        if is_new:
            assert run(name, given, whole, monkeypatch) == Status.DONE
            capsys.readouterr()
