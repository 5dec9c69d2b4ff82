"""Folders that a command is to write: refused before any work where they cannot be."""

import errno
import os
from pathlib import Path


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
