"""Files that are written whole or not at all, and locks that end with the process that holds them."""

import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from rxlm.file_errors import naming, writing

try:
    import fcntl
except ImportError:  # Windows: files are whole there, too, but nothing is locked
    fcntl = None  # type: ignore[assignment]


class LockedError(ValueError):
    """Something that another process, or another object of this one, holds."""


def write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Call `write(temporary path)` and move the result to `path`, so that a failure leaves an old file whole.

    A symbolic link is followed and stays. A new file has the permissions that the umask leaves, another keeps its own.
    What is there has reached the disk when this returns. OSError, which names `path`, where it is no regular file, or
    the system refuses it.
    """
    target = Path(os.path.realpath(path))
    mode = target.stat().st_mode if target.exists() else None
    if mode is not None and not stat.S_ISREG(mode):
        kind = IsADirectoryError if stat.S_ISDIR(mode) else OSError
        raise kind(f"{path} is not a regular file, and cannot be replaced by one.")
    prefix = f".{os.fsdecode(os.fsencode(target.name)[:200])}.unfinished-"
    with writing(path, prefix, of_folder=False):
        with draft(target.parent, prefix) as folder:
            temporary = folder / target.name
            write(temporary)
            temporary.chmod(new_file_mode(folder) if mode is None else stat.S_IMODE(mode))
            sync(temporary)
            os.replace(temporary, target)
        sync(target.parent)


def write_text(path: Path, text: str) -> None:
    """Write a text file that is whole or not there."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def append_whole(path: Path, lines: bytes) -> None:
    """Append whole lines to a file by one write, after a torn line that an earlier process left."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        with naming(path):
            size = os.fstat(handle).st_size
            is_torn = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
            content = b"\n" + lines if is_torn else lines
            written = os.write(handle, content)
        if written != len(content):
            raise OSError(f"{path}: only {written} of {len(content)} bytes could be written; is the disk full?")
    finally:
        os.close(handle)


def sync(path: Path) -> None:
    """Make sure that a file, or the names in a folder, have reached the disk."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except PermissionError:  # Windows opens no folder
        return
    try:
        with naming(path):
            os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def locked(path: Path, *, exclusive: bool = True, wait: bool = True) -> Iterator[None]:
    """Hold a file or folder against all others who lock it, while this is entered.

    The lock is the system's: it ends with the process, however that ends. Others may hold it together with this one
    unless it is `exclusive`. Without `wait`, `LockedError` where it cannot be had now. Nothing is held where the file
    system knows no locks.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        _lock(handle, exclusive, wait)
        yield
    finally:
        os.close(handle)


@contextmanager
def draft(folder: Path, prefix: str) -> Iterator[Path]:
    """Give a new folder to write to, inside `folder`; it is removed at the end, unless it was moved away.

    The same `prefix` tells which folders killed processes have left; they are removed first.
    """
    for path in [path for path in folder.iterdir() if path.name.startswith(prefix)]:
        _remove_unless_held(path)
    with ExitStack() as held:
        while True:
            made = folder / f"{prefix}{secrets.token_hex(4)}"
            made.mkdir()
            try:
                held.enter_context(locked(made))
            except FileNotFoundError:
                continue
            if made.exists():  # nobody took it for one that was left
                break
        try:
            yield made
        finally:
            remove(made)


def new_file_mode(folder: Path) -> int:
    """Return the permissions of a new file, from those of a folder that was made just now: both have the umask's."""
    return folder.stat().st_mode & 0o666


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it; nothing happens where it is not there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _remove_unless_held(path: Path) -> None:
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:  # gone meanwhile
        return
    try:
        if _lock(handle, exclusive=True, wait=False):
            remove(path)
    except LockedError:
        pass
    finally:
        os.close(handle)


def _lock(handle: int, exclusive: bool, wait: bool) -> bool:
    """Lock an open file until it is closed; False where there are no locks."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(handle, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError as error:
        raise LockedError("It is locked by another.") from error
    except OSError:
        return False
    return True
