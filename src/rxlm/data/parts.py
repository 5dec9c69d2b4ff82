"""Parts of a source of records: files, row groups of Parquet files, shards of hub datasets. Each is read by itself.

A part can be read from a place in it, so that a resumed run does not read what is before.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from rxlm.data.fields import BadRecord, RecordError
from rxlm.data.opened_files import LineMark, kind_of, lines_of
from rxlm.data.record_files import read_records, read_row_group
from rxlm.data.table_files import RowGroup, row_groups
from rxlm.data.text_files import TEXT_SUFFIXES, located_rows

_FEW_SHARDS = 64
"""For row groups each file is opened, which takes a request to the hub."""
_ROWS_A_MARK = 1000


class Place(NamedTuple):
    """A place in a part.

    Fields:
        number: of the record there, from 0.
        mark: plain values that say where to begin to read so as to get there; None: at the part's beginning.
    """

    number: int = 0
    mark: list[Any] | None = None


class Found(NamedTuple):
    """A record, its place in its part, and the place as people name it: "talk.jsonl, line 3"."""

    place: Place
    where: str
    record: Any


class Part(Protocol):
    """A part of a source, read by itself."""

    @property
    def size(self) -> float:
        """How much there is to read; the parts of a source are compared by it."""

    def read(self, place: Place, bad: BadRecord) -> Iterator[Found]:
        """Yield the records from a place on; `bad` as in `rxlm.data.record_files.read_records`."""


@dataclass(frozen=True)
class FilePart:
    """A file of records, or of texts line by line. Lines in UTF-8 are read from a mark on, other files from the start.

    A mark is the number of the record at the beginning of a line, the line's number and its first byte.
    """

    path: Path
    size: float

    def read(self, place: Place, bad: BadRecord) -> Iterator[Found]:
        """Yield the records from a place on."""
        mark = place.mark
        number, line, offset = mark or (0, 1, 0)
        at = LineMark(line, offset)
        for where, record in self._records(at, bad):
            if at.is_known and at.line != line:
                line, mark = at.line, [number, at.line, at.offset]
            if number >= place.number:
                yield Found(Place(number, mark), f"{self.path}, {where}", record)
            number += 1

    def _records(self, at: LineMark, bad: BadRecord) -> Iterator[tuple[str, Any]]:
        if kind_of(self.path) not in TEXT_SUFFIXES:
            yield from read_records(self.path, bad, at)
            return
        try:
            for number, text in enumerate(lines_of(self.path, at), at.line):
                if text.strip():
                    yield f"line {number}", text.rstrip("\r\n")
        except RecordError as error:  # of what is no text
            bad(error)


@dataclass(frozen=True)
class RowGroupPart:
    """A row group of a Parquet file."""

    path: Path
    group: RowGroup
    size: float

    def read(self, place: Place, bad: BadRecord) -> Iterator[Found]:
        """Yield the records from a place on."""
        for number, record in read_row_group(self.path, self.group, place.number, bad):
            yield Found(Place(number - 1 - self.group.before), f"{self.path}, record {number}", record)


@dataclass(frozen=True)
class HubPart:
    """A shard of a streamed hub dataset. A mark is the number of a row, and the state that `datasets` gives there."""

    # `datasets` can shuffle and share out, too. But its buffer is lost when it is resumed, and the shares of
    # `split_dataset_by_node` cannot be taken up by another number of processes.
    dataset: Any
    name: str
    shard: int
    size: float = 1.0

    def read(self, place: Place, bad: BadRecord) -> Iterator[Found]:
        """Yield the records from a place on; what the network does not give is an error whatever `bad` does."""
        of_shard = f", shard {self.shard + 1}" if self.dataset.num_shards > 1 else ""
        rows = self.dataset.shard(self.dataset.num_shards, self.shard)
        mark = place.mark
        first, state = mark or (0, None)
        if state is not None:
            rows.load_state_dict(state)
        for number, (where, row) in enumerate(located_rows(self.name + of_shard, rows, first + 1), first):
            if number >= place.number:
                yield Found(Place(number, mark), where, row)
            if (number + 1) % _ROWS_A_MARK == 0:
                mark = [number + 1, rows.state_dict()]


@dataclass(frozen=True)
class IterablePart:
    """Records of a program; of an iterator, which is read only once, those that are left."""

    records: Iterable[Any]
    size: float = 1.0

    def read(self, place: Place, bad: BadRecord) -> Iterator[Found]:
        """Yield the records from a place on."""
        for number, record in enumerate(self.records):
            if number >= place.number:
                yield Found(Place(number), f"record {number + 1}", record)


def parts_of_files(files: Iterable[Path], bad: BadRecord) -> list[Part]:
    """Return the parts that files consist of: row groups of Parquet files, other files as they are."""
    parts: list[Part] = []
    for path in files:
        if kind_of(path) != ".parquet":
            parts.append(FilePart(path, path.stat().st_size))
            continue
        try:
            parts += [RowGroupPart(path, group, group.num_bytes) for group in row_groups(path)]
        except RecordError as error:
            bad(error)
    return parts


def parts_of_dataset(dataset: Any, name: str) -> list[Part]:
    """Return the shards of a streamed hub dataset: its files, or where they are few, row groups of Parquet files."""
    if dataset.num_shards < _FEW_SHARDS and hasattr(dataset, "reshard"):  # versions before have none
        dataset = dataset.reshard()
    return [HubPart(dataset, name, shard) for shard in range(dataset.num_shards)]
