"""A source of records that need not fit in memory: they are read and checked during iteration."""

import logging
from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import islice
from typing import Any, Generic, TypeVar

from rxlm.data.fields import BadRecord, BadRecords, RecordError, bad_record
from rxlm.data.parts import Found, Part, Place
from rxlm.data.shares import Piece

R = TypeVar("R")
_LOGGER = logging.getLogger(__name__)


class RecordSource(Generic[R]):
    """Records of files, a hub dataset or an iterable, in parts that can be read in any order.

    Args:
        name: of the source, for errors.
        open_parts: returns the parts; called when the first record is needed.
        convert: makes a record of what is at a place, or raises `RecordError`; None is left out.
        bad_records: "stop" raises the error of a bad record, "skip" leaves it out, counts it and logs it.
        begin: the part and place of the first record, if that is not the first of the first part.
    """

    def __init__(
        self,
        name: str,
        open_parts: Callable[[BadRecord], list[Part]],
        convert: Callable[[Any, str], R | None],
        bad_records: BadRecords = "stop",
        begin: Piece | None = None,
    ) -> None:
        self.name, self._open_parts, self._convert, self._begin = name, open_parts, convert, begin or Piece(0)
        self.bad_records, self._bad = bad_records, bad_record(bad_records, self._skip)
        self._skipped: set[int] = set()

    @property
    def num_skipped(self) -> int:
        """Number of different bad records that were left out so far, in this process."""
        return len(self._skipped)

    @cached_property
    def parts(self) -> list[Part]:
        """What is read one by one, in the order of the source."""
        return self._open_parts(self._bad)

    def __iter__(self) -> Iterator[R]:
        return (found.record for _, found in self._all())

    def validate(self, limit: int | None = None) -> int:
        """Read all records, or the first `limit`, and return their number; the first bad record raises `RecordError`.

        Where the source is an iterator, which can be read only once, iteration continues after these records.
        """
        return sum(1 for _ in islice(self, limit))

    def split_off(self, count: int) -> tuple[list[R], "RecordSource[R]"]:
        """Return the first records, fewer than `count` where there are no more, and the source of all after them."""
        first = list(islice(self._all(), count))
        begin = self._begin
        for piece, found in first[-1:]:
            begin = Piece(piece.part, found.place._replace(number=found.place.number + 1))
        rest = RecordSource(self.name, lambda bad: self.parts, self._convert, self.bad_records, begin)
        return [found.record for _, found in first], rest

    def pieces(self) -> list[Piece]:
        """Return the parts as pieces: what an epoch reads."""
        whole = [Piece(number) for number in range(len(self.parts))]
        return [self._begin, *whole[self._begin.part + 1 :]] if whole else []

    def size(self, piece: Piece) -> float:
        """Return how much there is to read for a piece's records, as numbers that compare."""
        return self.parts[piece.part].size / piece.modulus

    def read(self, piece: Piece) -> Iterator[Found]:
        """Yield the records of a piece, checked and converted."""
        for found in self.parts[piece.part].read(piece.place, self._bad):
            if found.place.number % piece.modulus != piece.remainder:
                continue
            try:
                record = self._convert(found.record, found.where)
            except RecordError as error:
                self._bad(error)
                continue
            if record is not None:
                yield found._replace(record=record)

    def fetch(self, part: int, mark: list[Any] | None, numbers: set[int]) -> dict[int, Found]:
        """Return records of a part that were read before, by their numbers; `mark` is that of the first of them.

        ValueError where they are no longer there.
        """
        fetched: dict[int, Found] = {}
        places = self.parts[part].read(Place(min(numbers), mark), lambda error: None)  # it was told the first time
        for found in places:
            if found.place.number in numbers:
                fetched[found.place.number] = found._replace(record=self._convert(found.record, found.where))
            if len(fetched) == len(numbers):
                return fetched
        gone = min(numbers - set(fetched))
        raise ValueError(f"{self.name} has changed since it was read: record {gone + 1} of part {part + 1} is gone.")

    def _all(self) -> Iterator[tuple[Piece, Found]]:
        return ((piece, found) for piece in self.pieces() for found in self.read(piece))

    def _skip(self, error: RecordError) -> None:
        before = self.num_skipped
        self._skipped.add(hash(str(error)))  # which names its place
        if self.num_skipped > before and self.num_skipped & before == 0:  # 1, 2, 4, 8 and so on
            _LOGGER.warning("%s: %d bad record(s) skipped so far; the last: %s", self.name, self.num_skipped, error)
