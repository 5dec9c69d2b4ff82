"""Errors of files that name the file: what the system refuses, and JSON that cannot be read."""

import json
from collections.abc import Iterator
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
            raise OSError(f"{path}: {error}") from error
        raise


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


def parse_json(text: str | bytes) -> Any:
    """Return what JSON text says; ValueError where it is none, or is nested too deeply to be read."""
    try:
        return json.loads(text)
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
