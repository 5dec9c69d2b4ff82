"""Folders whose files belong together: all that was saved is there, or all that was there before.

A save writes its files into a folder of its own inside the target, last of all `checksums.json`, which names them with
their sizes and CRC-32 sums. When all have reached the disk, one rename commits them. Then old files are removed, before
the new ones are moved to their places: nobody finds new files beside old ones. Whoever opens the folder next finishes
what a killed process left. What else is in the folder stays.
"""

import errno
import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rxlm.file_errors import writing
from rxlm.files import draft, locked, new_file_mode, remove, sync

MARKER = "checksums.json"
DRAFT, COMMITTED = ".saving-", ".saved"
CHUNK = 2**22


@contextmanager
def saving(folder: str | Path, *, amends: bool = False) -> Iterator[Path]:
    """Give an empty folder to write to, whose files are moved to `folder` together when all are there.

    `folder` is made where it is missing. A save into the folder that another save gave is part of that one.

    Args:
        folder: where the files go. Those that an earlier save wrote there and this one does not are removed.
        amends: the given folder has the files that are saved already. They must be replaced, not written to.

    Raises OSError where a file that is to be replaced is a symbolic link, for example of the hub's cache, and where
    the system refuses a file, which it names as it would be in `folder`.
    """
    folder = Path(folder)
    if folder.name.startswith(DRAFT):
        yield folder
        return
    is_new = not folder.exists()
    with writing(folder, DRAFT, of_folder=True):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with draft(folder, DRAFT) as made:
                if amends:
                    _link(folder, made)
                yield made
                if any(made.iterdir()):  # of several processes only one may have something to write
                    write_marker(made)
                    _commit(made, folder)
        finally:
            if is_new and not any(folder.iterdir()):
                folder.rmdir()


@contextmanager
def reading(folder: str | Path) -> Iterator[None]:
    """Let a folder's files stay as they are while they are read, after a save that was killed midway is finished.

    A name that is not a folder on this machine, but for example one on the hub, is nothing to wait for.
    """
    folder = Path(folder)
    if not folder.is_dir():
        yield
        return
    finish(folder)
    with locked(folder, exclusive=False):
        yield


def finish(folder: Path) -> None:
    """Finish a save that was committed and killed before all its files had their places."""
    if (folder / COMMITTED).is_dir():
        with locked(folder):
            _finish(folder)


def is_saved(folder: Path, name: str) -> bool:
    """Tell whether a save to a folder, of which the file `name` is a part, is there; see `finish`."""
    finish(folder)
    return (folder / name).is_file()


def write_marker(folder: Path) -> None:
    """Write names, sizes and sums of a new folder's files to a file beside them; all have reached the disk then.

    The files get the permissions that the umask leaves.
    """
    files, mode = {}, new_file_mode(folder)
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MARKER)
    for path in paths:
        path.chmod(mode)
        files[path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size, "crc32": _sum(path)}
        sync(path)
    for part in {path.parent for path in paths} - {folder}:
        sync(part)
    (folder / MARKER).write_text(json.dumps({"files": files}, indent=1) + "\n", encoding="utf-8")
    sync(folder / MARKER)
    sync(folder)


def damage(folder: str | Path, chosen: Callable[[str], bool] = lambda name: True) -> list[str]:
    """Say of each file of a folder, or of those whose name is `chosen`, how it is not the one that was saved.

    There is nothing to say of a folder without a marker: of another program, or of an earlier version.
    """
    folder = Path(folder)
    found = []
    for name, (size, checksum) in _saved(folder).items():
        if not chosen(name):
            continue
        path = folder / name
        if not path.is_file():
            found.append(f"{path} is missing")
        elif path.stat().st_size != size:
            found.append(f"{path} has {path.stat().st_size:,} bytes, and {size:,} were saved")
        elif _sum(path) != checksum:
            found.append(f"{path} is not the file that was saved (its CRC-32 sum is another)")
    return found


def check_saved(folder: str | Path, chosen: Callable[[str], bool] = lambda name: True) -> None:
    """Raise ValueError where a folder's files are not those that were saved together."""
    found = damage(folder, chosen)
    if found:
        raise ValueError(
            f"The files of {folder} do not belong together: {'; '.join(found)}. Save or download them again; or, where "
            f"the change was meant, remove {Path(folder) / MARKER}, which says what was saved."
        )


def require_folder(path: Path) -> None:
    """Raise ValueError where `path` is no folder and cannot be made one; OSError where it may not be written to."""
    there = path.absolute()
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir():
        within = "" if there == path.absolute() else f", and {path} cannot be made within it"
        raise ValueError(f"{there} is a file and not a folder{within}: name another one.")
    if not os.access(there, os.W_OK | os.X_OK):
        is_read_only = hasattr(os, "statvfs") and os.statvfs(there).f_flag & os.ST_RDONLY
        number = errno.EROFS if is_read_only else errno.EACCES
        raise OSError(number, os.strerror(number), str(there))


def require_new_folder(path: Path) -> None:
    """Raise ValueError unless `path` is a folder that can be made, or an empty one."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ValueError(f"{path} exists and is not an empty folder: name another one.")
    require_folder(path)


def _commit(made: Path, folder: Path) -> None:
    with locked(folder):
        _finish(folder)  # of another process
        links = [name for name in _saved(made) if (folder / name).is_symlink()]
        if links:
            raise OSError(
                f"{folder / links[0]} is a symbolic link, which a save does not replace: name another folder."
            )
        os.replace(made, folder / COMMITTED)
        sync(folder)
        _finish(folder)


def _finish(folder: Path) -> None:
    """Move committed files to their places; however often this is begun, the result is the same."""
    committed = folder / COMMITTED
    if not committed.is_dir():
        return
    if (committed / MARKER).is_file():
        new = _saved(committed)
        for name in {**_saved(folder), **new}:
            if name not in new or (committed / name).exists():
                (folder / name).unlink(missing_ok=True)
        _move(new, committed, folder)
        _move([MARKER], committed, folder)
    remove(committed)
    sync(folder)


def _move(names: Iterable[str], source: Path, target: Path) -> None:
    for name in names:
        if (source / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(source / name, target / name)


def _link(folder: Path, made: Path) -> None:
    """Let a draft begin with the files that are saved: of a folder without a marker, with all that are there."""
    names = _saved(folder) or [path.name for path in folder.iterdir() if path.is_file()]
    for name in names:
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        os.link(folder / name, made / name)


def _saved(folder: Path) -> dict[str, tuple[int, str]]:
    """Return size and sum of each saved file by name; nothing where there is no marker."""
    path = folder / MARKER
    if not path.is_file():
        return {}
    try:
        files = json.loads(path.read_text(encoding="utf-8"))["files"]
        found = {str(name): (int(file["bytes"]), str(file["crc32"])) for name, file in files.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged: {error!r}. Save or download the folder's files again.") from error
    outside = [name for name in found if Path(name).is_absolute() or ".." in Path(name).parts]
    if outside:
        raise ValueError(f"{path} names {outside[0]!r}, which is not in its folder.")
    return found


def _sum(path: Path) -> str:
    """Return the CRC-32 sum: what it finds are accidents, at less than half the cost of SHA-256."""
    checksum = 0
    with path.open("rb") as file:
        while piece := file.read(CHUNK):
            checksum = zlib.crc32(piece, checksum)
    return f"{checksum:08x}"
