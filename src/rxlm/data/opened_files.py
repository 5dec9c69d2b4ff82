"""Open files of text, compressed or not, in UTF-8 or, with a byte order mark, UTF-16; and read their lines."""

import codecs
import contextlib
import gzip
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from rxlm.data.fields import RecordError
from rxlm.file_errors import naming

LONGEST_LINE = 1 << 26
"""Characters; the longest of a file of records, and its longest cell."""
COMPRESSED = (".gz", ".zst")
INSTALL_HINT = 'pip install "reactive-lm[data]"'

_MARKS = ((codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
          (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))  # fmt: skip


def kind_of(path: Path) -> str:
    """Return the suffix that says what a file holds, in lower case: ".jsonl" of "talk.JSONL.gz"."""
    suffix = path.suffix.lower()
    return Path(path.stem).suffix.lower() if suffix in COMPRESSED else suffix


def open_text(path: Path, newline: str | None = "") -> Any:
    """Open a file to read its text, without a byte order mark."""
    # utf-8-sig also reads files without the byte order mark that spreadsheets put first.
    with _open_bytes(path) as file:
        start = file.read(4)
    encoding = next((name for mark, name in _MARKS if start.startswith(mark)), "utf-8-sig")
    return io.TextIOWrapper(_open_bytes(path), encoding=encoding, newline=newline)


def bounded_lines(path: Path, file: TextIO) -> Iterator[str]:
    """Yield the lines of a file; `RecordError` for one without end, to which a few bytes of gzip can expand."""
    number = 0
    while line := file.readline(LONGEST_LINE + 1):
        number += 1
        if len(line) > LONGEST_LINE:
            raise RecordError(f"{path}, line {number}: longer than {LONGEST_LINE:,} characters, which is not read")
        yield line


def lines_of(path: Path) -> Iterator[str]:
    """Yield the lines of a text file, each with its line end; `RecordError` if it is not UTF-8."""
    try:
        with naming(path), open_text(path, newline=None) as file:
            yield from bounded_lines(path, file)
    except UnicodeDecodeError as error:
        raise not_text(path, error) from error


def not_text(path: Path, error: UnicodeDecodeError) -> RecordError:
    """Return the error for a file whose bytes are no text; it names the line: the decoder read many at once."""
    if error.encoding.replace("-", "").startswith(("utf16", "utf32")):
        return RecordError(f"{path}: not {error.encoding.upper()} text, as its byte order mark says ({error.reason})")
    number = 1
    with contextlib.suppress(UnicodeDecodeError), _open_bytes(path) as file:
        for line in file:
            line.decode()
            number += 1
    return RecordError(f"{path}, line {number}: not UTF-8 text ({error.reason})")


def _open_bytes(path: Path) -> Any:
    suffix = path.suffix.lower()
    if suffix == ".gz":
        return gzip.open(path)
    if suffix == ".zst":
        try:
            import pyarrow  # pyrefly: ignore[missing-import]
        except ImportError as error:
            raise ImportError(f"reading {path} needs the datasets package: {INSTALL_HINT}") from error
        path.open("rb").close()  # names what the system refuses
        return io.BufferedReader(_ArrowStream(pyarrow.input_stream(str(path), compression="zstd")))
    return path.open("rb")


class _ArrowStream(io.RawIOBase):
    """A stream of Arrow as Python's own classes of text and lines take one."""

    def __init__(self, stream: Any) -> None:
        super().__init__()
        self._stream = stream

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Fill a buffer and return the number of bytes."""
        try:
            found = self._stream.read(len(buffer))
        except OSError as error:  # of the compressed data, not of the system
            raise EOFError(str(error)) from error
        buffer[: len(found)] = found
        return len(found)

    def close(self) -> None:
        """Close the stream of Arrow, too."""
        if not self.closed:
            self._stream.close()
        super().close()
