"""Records of JSON, JSON lines, CSV, TSV, Parquet and Arrow files, each with its place."""

import csv
import gzip
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

from rxlm.data.fields import BadRecord, RecordError, check_unicode, refuse
from rxlm.data.opened_files import (
    COMPRESSED,
    LONGEST_LINE,
    LineMark,
    bounded_lines,
    kind_of,
    not_text,
    open_text,
)
from rxlm.data.table_files import TABLES, RowGroup, table_records
from rxlm.file_errors import naming, parse_json

_TEXTS = (".jsonl", ".json", ".csv", ".tsv", ".ndjson")
RECORD_SUFFIXES = (
    ".jsonl", ".json", ".csv", *TABLES, ".tsv", ".ndjson", *(kind + packed for kind in _TEXTS for packed in COMPRESSED)
)  # fmt: skip
_BETWEEN_VALUES = re.compile(r"[\s,]*")

Records = Iterator[tuple[str, dict[str, Any]]]


def read_records(path: str | Path, bad: BadRecord = refuse, at: LineMark | None = None) -> Records:
    """Yield ("line 3", record) for each record of a file of RECORD_SUFFIXES.

    `bad` gets a `RecordError` that names the file, and the line or record, or the last one before what cannot be read.
    If it returns, reading goes on with the next record, or ends where no more can be read. `at`: the line of a file of
    lines to begin with, which then follows the reading.
    """
    path = Path(path)
    if kind_of(path) in TABLES:
        return _checked(path, bad, table_records(path))
    return _checked(path, bad, _text_records(path, bad, at or LineMark()))


def read_row_group(
    path: Path, group: RowGroup, start: int = 0, bad: BadRecord = refuse
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (3, record) for the third record of a Parquet file, from a row group's record `start` on; see above."""
    found = _checked(path, bad, table_records(path, group, start))
    return ((int(place.removeprefix("record ")), record) for place, record in found)


def _checked(path: Path, bad: BadRecord, records: Records) -> Records:
    place = None
    try:
        with naming(path):
            for place, record in records:
                try:
                    check_unicode(record, f"{path}, {place}")
                except RecordError as error:
                    bad(error)
                    continue
                yield place, record
    except RecordError as error:
        bad(error)
    except UnicodeDecodeError as error:
        bad(not_text(path, error))
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        kind = "zstd" if path.suffix.lower() == ".zst" else "gzip"
        bad(RecordError(f"{_after(path, place)} is not a complete {kind} file: {error}"))


def located_records(files: Iterable[Path], bad: BadRecord = refuse) -> Records:
    """Yield ("path, line 3", record) for each record of files of RECORD_SUFFIXES; see `read_records`."""
    return ((f"{path}, {place}", record) for path in files for place, record in read_records(path, bad))


def _after(path: Path, place: str | None) -> str:
    return f"{path}, after {place}," if place else str(path)


def _text_records(path: Path, bad: BadRecord, at: LineMark) -> Records:
    with open_text(path, offset=at.offset) as file:
        if kind_of(path) in (".csv", ".tsv"):
            at.is_known = False
            yield from _csv_records(path, file, bad)
        else:
            yield from _json_records(path, at.follow(path, bounded_lines(path, file, at.line)), bad, at.line)


def _json_records(path: Path, lines: Iterator[str], bad: BadRecord, first: int = 1) -> Records:
    """Yield JSON lines; where the first line is no whole value, the values that the lines make together.

    `first`: number of the first line; those after a broken one are lines for sure.
    """
    may_take_lines = first == 1  # until a line is a whole value
    for number, line in enumerate(lines, first):
        if not line.strip():
            continue
        try:
            value = parse_json(line, _unique)
        except ValueError as error:
            refused = RecordError(f"{path}, line {number}: not a JSON object on one line ({error})")
            if not may_take_lines or not (line.lstrip().startswith("[") or line.rstrip().endswith((",", "[", "{"))):
                bad(refused)
                continue
            yield from _json_values(path, "".join(chain([line], lines)), number, refused, bad)
            return
        may_take_lines = False
        yield from _objects_of(path, value, f"line {number}", bad, alone=kind_of(path) == ".json" and number == 1)


def _json_values(path: Path, text: str, line: int, refused: RecordError, bad: BadRecord) -> Records:
    """Yield the records of JSON values that stand one after the other, with commas or not, on any number of lines."""
    decoder, start, number = json.JSONDecoder(object_pairs_hook=_unique), 0, 0
    while True:
        gap = _BETWEEN_VALUES.match(text, start)
        start, line = gap.end() if gap else start, line + (gap.group().count("\n") if gap else 0)
        if start == len(text):
            return
        try:
            value, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError) as error:
            reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
            whole = RecordError(f"{path} is not valid JSON: {reason}")
            broken = refused if number == 0 and text[start] == "{" else whole
            after = text.find("\n", start) + 1
            if number == 0 and after and _is_object(text[after:].split("\n", 1)[0]):
                bad(broken)  # of lines that are an object each, the first is broken
                yield from _json_records(path, iter(text[after:].split("\n")), bad, line + 1)
            else:
                bad(RecordError(f"{broken}; nothing after it is read"))
            return
        number += 1
        yield from _objects_of(path, value, f"line {line}", bad, alone=number == 1)
        start, line = end, line + text.count("\n", start, end)


def _is_object(line: str) -> bool:
    try:
        return isinstance(parse_json(line, _unique), dict)
    except ValueError:
        return False


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the fields of an object; ValueError where one stands twice, and would hide the other."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the field {next(name for name in found if names.count(name) > 1)!r} stands twice")
    return found


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and ("role" in value or "from" in value) and not {"messages", "turns"} & set(value)


def _objects_of(path: Path, value: Any, place: str, bad: BadRecord, *, alone: bool) -> Records:
    """Yield a record, or those of a list."""
    if not isinstance(value, list):
        records = [(place, value)]
    elif value and all(map(_is_message, value)):
        records = [("record 1" if alone else place, value)]
    elif alone:
        records = [(f"record {number}", record) for number, record in enumerate(value, 1)]
    else:
        records = [(f"{place}, record {number}", record) for number, record in enumerate(value, 1)]
    for where, record in records:
        if isinstance(record, dict):
            yield where, record
        elif isinstance(record, list) and record and all(map(_is_message, record)):
            yield where, {"messages": record}  # a conversation that is the list of its messages
        else:
            bad(RecordError(f"{path}, {where}: expected a JSON object with named columns, found {record!r:.80}"))


def _csv_records(path: Path, file: TextIO, bad: BadRecord) -> Records:
    csv.field_size_limit(LONGEST_LINE)  # the default refuses a cell over 128 KiB: a chapter of a book
    lines = bounded_lines(path, file)
    first = next((line for line in lines if line.strip()), "")
    named = re.fullmatch(r"sep=(.)", first.strip())  # as Excel writes it
    outside = re.sub(r'"[^"]*"', "", first)
    separator = "\t" if kind_of(path) == ".tsv" else ";" if ";" in outside and "," not in outside else ","
    separator = named[1] if named else separator
    reader = csv.reader(lines if named else chain([first], lines), delimiter=separator, strict=True)
    header: list[str] | None = None
    skipped = 1 if named else 0
    line = 1 + skipped
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            lost = "; nothing after it is read" if "end of data" in str(error) else ""  # an open quotation mark
            refused = RecordError(f"{path}, line {line}: not valid CSV ({error}){lost}")
            if header is None:
                raise refused from error
            bad(refused)
            line = reader.line_num + skipped + 1
            continue
        line, end = reader.line_num + skipped + 1, line
        if not cells:
            continue
        if header is None:
            header = _header(cells, path)
        elif len(cells) > len(header):
            bad(
                RecordError(
                    f"{path}, line {end}: {len(cells)} cells, and the header has {len(header)}; "
                    f"a text that has {separator!r} in it must stand in quotation marks"
                )
            )
        else:
            yield f"line {end}", dict(zip(header, [*cells, *[None] * (len(header) - len(cells))], strict=True))


def _header(cells: list[str], path: Path) -> list[str]:
    twice = next((name for name in cells if cells.count(name) > 1), None)
    if twice is not None:
        raise RecordError(
            f"{path}, line 1: the header has {twice!r} {cells.count(twice)} times; expected each name once"
        )
    return cells
