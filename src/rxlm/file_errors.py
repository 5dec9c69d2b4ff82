"""Errors of files that name the file: what the system refuses, and JSON that cannot be read."""

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Give `path` to an OSError that names no file: reading and writing an open file raise such ones."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)
        elif error.errno is None and str(path) not in str(error):  # of a library that is not Python's
            error.args = (f"{path}: {error}",)
        raise


@contextmanager
def writing(target: Path, draft: str, *, of_folder: bool) -> Iterator[None]:
    """Let what the system refuses name `target`, or with `of_folder` the file in it, and not the draft written first.

    What libraries make of the system's refusal becomes the OSError that it was. `draft` is how the name of the folder
    begins that is written in place of the target.
    """
    try:
        yield
    except Exception as error:
        refused = _refused(error)
        if refused is None:
            raise
        if refused.filename is None or draft in str(refused.filename):
            within = str(refused.filename or "").rpartition(draft)[2].partition(os.sep)[2]
            # A pair of files is that of a rename, whose second one is the target or the same in it.
            refused.filename = str(target / within if of_folder else target)
            del refused.filename2
        if refused is error:
            raise
        raise refused from error


def _refused(error: BaseException) -> OSError | None:
    """Return the system's error that another one is, or is made of: libraries of Rust and C++ wrap it."""
    if isinstance(error, ValueError):  # which says what is wrong itself
        return None
    place: BaseException | None = error
    while place is not None:
        if isinstance(place, OSError):
            return place if place.errno is not None else None
        place = place.__cause__ or place.__context__
    number = re.search(r"\(os error (\d+)\)", str(error))
    return None if number is None else OSError(int(number[1]), os.strerror(int(number[1])))


@contextmanager
def placed(place: str | Path) -> Iterator[None]:
    """Put a file or folder in front of a ValueError that does not name it."""
    try:
        yield
    except UnicodeError:
        raise  # is not made of a message
    except ValueError as error:
        if str(place) in str(error):
            raise
        raise type(error)(f"{place}: {error}") from error


def parse_json(text: str | bytes, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """Return what JSON text says; ValueError where it is none, or is nested too deeply to be read.

    `pairs` makes an object of its names and values; None: a dictionary, in which the last of a name stays.
    """
    try:
        return json.loads(text, object_pairs_hook=pairs)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_json_object(path: Path, kind: type[ValueError] = ValueError) -> dict[str, Any]:
    """Return the object that a JSON file holds; `kind` of error, which names the file, where it holds none."""
    try:
        with naming(path):
            values = parse_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise kind(f"{path} is not JSON: {error}.") from error
    if not isinstance(values, dict):
        raise kind(f"{path} holds a {type(values).__name__} where a JSON object is expected.")
    return values
