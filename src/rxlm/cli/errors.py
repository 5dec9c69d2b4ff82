"""What a command that fails says: one line with file and cause, and an exit status by the kind of the fault."""

import os
import sys
import traceback
import unicodedata
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from rxlm.serving.store.backend import StoreError


class Status(IntEnum):
    """Exit statuses of the command."""

    DONE = 0
    WRONG_INPUT = 1
    """A value, a file, a model or data that the command cannot use."""
    WRONG_COMMAND_LINE = 2
    MACHINE = 3
    """Storage, memory, a device or the network does not give what is needed."""
    INTERNAL = 4
    """A fault of rxlm's own; `--debug` shows where."""
    INTERRUPTED = 130
    CLOSED_PIPE = 141


_INPUT = (ValueError, FloatingPointError, ImportError, SafetensorError, RecursionError, StoreError)
_PATHS = (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError)
_OF_TORCH = ("OutOfMemoryError", "AcceleratorError", "distributed.DistError")
_STEERING = ("Cc", "Cs", "Zl", "Zp")
_DIRECTIONS = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
_OUT_OF_MEMORY = ("not enough memory", "out of memory", "can't allocate memory", "failed to allocate")


def status_of(error: BaseException) -> Status:
    """Return the exit status for a fault."""
    if any(isinstance(each, KeyboardInterrupt) for each in _chain(error)):  # an import that is interrupted wraps it
        return Status.INTERRUPTED
    if isinstance(error, BrokenPipeError):
        return Status.CLOSED_PIPE
    if isinstance(error, _PATHS):
        return Status.WRONG_INPUT
    if isinstance(error, (OSError, MemoryError)) or _is_of_torch(error) or _is_full(error):
        return Status.MACHINE
    return Status.WRONG_INPUT if isinstance(error, _INPUT) else Status.INTERNAL


def sentence_of(error: BaseException) -> str:
    """Return one line that says what is wrong, with the file where the error has one."""
    status = status_of(error)
    if status is Status.INTERRUPTED:
        return "stopped by Ctrl-C."
    if status is Status.CLOSED_PIPE:
        return "the output was closed before all of it was written."
    text = _text_of(error)
    if status is Status.INTERNAL:
        return f"internal error{_place_of(error)}: {type(error).__name__}: {text} (--debug shows the traceback)"
    return text


def tell(error: BaseException, command: str, *, debug: bool = False) -> Status:
    """Write what is wrong to standard error, as a line or with `debug` as a traceback too; return the exit status."""
    try:
        if debug:
            traceback.print_exception(error, file=sys.stderr)
        print(f"{command}: {sentence_of(error)}", file=sys.stderr, flush=True)
    except (OSError, ValueError):
        _drop(sys.stderr)  # nobody listens
    if isinstance(error, BrokenPipeError):
        _drop(sys.stdout)
    return status_of(error)


def printable(text: str) -> str:
    """Replace what steers a terminal: control characters other than line ends and tabs, and changes of direction.

    Halves of surrogate pairs go, too, which no encoding has. Marks that letters need stay: joiners of emoji, say.
    """
    return "".join("\N{REPLACEMENT CHARACTER}" if _steers(character) else character for character in text)


def _steers(character: str) -> bool:
    if character in "\n\t":
        return False
    return unicodedata.category(character) in _STEERING or unicodedata.bidirectional(character) in _DIRECTIONS


def _text_of(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        files = " to ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
        text = f"{files}: {error.strerror}" if files else f"{error.strerror} ({_cause_of(error)})"
    elif isinstance(error, RecursionError):
        text = f"something is nested too deeply ({_cause_of(error)})"
    elif isinstance(error, MemoryError) and not str(error):
        text = f"not enough memory ({_cause_of(error)})"
    else:
        text = str(error) or type(error).__name__
    return printable(" ".join(" ".join([text, *getattr(error, "__notes__", ())]).split()))


def _cause_of(error: BaseException) -> str:
    """Name what was being done: the innermost function of ours."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "rxlm" in Path(frame.filename).parts]
    return f"while {frames[-1].name.strip('_<>')} was running" if frames else "outside of rxlm"


def _place_of(error: BaseException) -> str:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "rxlm" in Path(frame.filename).parts]
    if not frames:
        return ""
    parts = Path(frames[-1].filename).parts
    start = len(parts) - parts[::-1].index("rxlm") - 1
    return f" at {'/'.join(parts[start:])}:{frames[-1].lineno}"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _is_of_torch(error: BaseException) -> bool:
    """Tell whether it is one of torch's errors of memory, devices or other processes; torch is imported only if so."""
    torch: Any = sys.modules.get("torch")
    for name in _OF_TORCH if torch else ():
        kind = torch
        for part in name.split("."):
            kind = getattr(kind, part, None)
        if isinstance(kind, type) and isinstance(error, kind):
            return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _OUT_OF_MEMORY)


def _is_full(error: BaseException) -> bool:
    """Tell whether a library of Rust reports what the operating system refused: it wraps the number in its text."""
    return isinstance(error, SafetensorError) and "os error" in str(error).lower()


def _drop(stream: Any) -> None:
    """Let what is still to be written to a closed stream go nowhere, so that Python does not complain at its end."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
    except (OSError, ValueError, AttributeError):
        pass
