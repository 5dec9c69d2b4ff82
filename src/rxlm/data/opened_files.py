"""Open files of text, compressed or not, in UTF-8 or, with a byte order mark, UTF-16; and read their lines."""

import codecs
import contextlib
import gzip
import io
from collections.abc import Iterator
from dataclasses import dataclass
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


@dataclass
class LineMark:
    """Where the present line of a file begins, kept while the file is read, so that reading can go on there later.

    Fields:
        line: number of the present line, from 1. offset: of its first byte in the file.
        is_known: whether `line` and `offset` are those of the present line. They are not in a file that is compressed
            or in another encoding than UTF-8, nor once the last line is read.
    """

    line: int = 1
    offset: int = 0
    is_known: bool = True

    def follow(self, path: Path, lines: Iterator[str]) -> Iterator[str]:
        """Yield lines that have their own line ends, the first of them at this mark."""
        begin = _first_byte(path)
        self.is_known = begin is not None
        end = self.offset or begin or 0
        for line, text in enumerate(lines, self.line):
            if self.is_known:
                self.line, self.offset = line, end
                end += len(text.encode())
            yield text
        self.is_known = False


def open_text(path: Path, newline: str | None = "", offset: int = 0) -> Any:
    """Open a file to read its text, without a byte order mark, from a byte on."""
    # utf-8-sig also reads files without the byte order mark that spreadsheets put first.
    with _open_bytes(path) as file:
        start = file.read(4)
    encoding = next((name for mark, name in _MARKS if start.startswith(mark)), "utf-8" if offset else "utf-8-sig")
    file = _open_bytes(path)
    if offset:
        file.seek(offset)
    return io.TextIOWrapper(file, encoding=encoding, newline=newline)


def bounded_lines(path: Path, file: TextIO, first: int = 1) -> Iterator[str]:
    """Yield the lines of a file; `RecordError` for one without end, to which a few bytes of gzip can expand."""
    number = first - 1
    while line := file.readline(LONGEST_LINE + 1):
        number += 1
        if len(line) > LONGEST_LINE:
            raise RecordError(f"{path}, line {number}: longer than {LONGEST_LINE:,} characters, which is not read")
        yield line


def lines_of(path: Path, at: LineMark | None = None) -> Iterator[str]:
    """Yield the lines of a text file, each with its line end; `RecordError` if it is not UTF-8.

    `at`: where to begin; then lines end as they do in the file.
    """
    try:
        if at is None:
            with naming(path), open_text(path, newline=None) as file:
                yield from bounded_lines(path, file)
        else:
            with naming(path), open_text(path, offset=at.offset) as file:
                yield from at.follow(path, bounded_lines(path, file, at.line))
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


def _first_byte(path: Path) -> int | None:
    """Return where the text of a file in UTF-8 begins; None for a compressed file and other encodings."""
    if path.suffix.lower() in COMPRESSED:
        return None
    with path.open("rb") as file:
        start = file.read(4)
    if start.startswith(codecs.BOM_UTF8):
        return len(codecs.BOM_UTF8)
    return None if any(start.startswith(mark) for mark, _ in _MARKS) else 0


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
