"""Who reads what: pieces of a source, and how they are dealt to processes."""

import heapq
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self

from rxlm.data.parts import Place

_UNEVEN = 1.1
"""The largest share may be so many times the mean one."""


class Piece(NamedTuple):
    """What is read of a part: from a place on, the records whose number leaves `remainder` when divided by `modulus`.

    Fields:
        part: number of the part in its source.
        place, modulus, remainder: which records of the part.
    """

    part: int
    place: Place = Place()
    modulus: int = 1
    remainder: int = 0

    def divided(self, count: int) -> list["Piece"]:
        """Return pieces that together have this one's records, each about as many."""
        return [
            self._replace(modulus=self.modulus * count, remainder=self.remainder + self.modulus * number)
            for number in range(count)
        ]

    @classmethod
    def of(cls, values: Sequence[Any]) -> Self:
        """Return the piece that was written as plain values, for example in JSON."""
        part, (number, mark), modulus, remainder = values
        return cls(part, Place(number, mark), modulus, remainder)


def dealt(pieces: Sequence[Piece], size: Callable[[Piece], float], count: int) -> list[list[Piece]]:
    """Deal pieces to `count` processes so that no share is much larger than the mean one; equal calls deal equally.

    A piece is one process's alone where that comes out even. Otherwise the largest ones are divided by the numbers of
    their records: all processes read these, and each uses its own records.
    """
    if count == 1:
        return [list(pieces)]
    largest = sorted(pieces, key=size, reverse=True)
    mean = sum(map(size, pieces)) / count
    num_divided = 0
    while True:
        shares = [list(parts) for parts in zip(*(piece.divided(count) for piece in largest[:num_divided]), strict=True)]
        shares = shares or [[] for _ in range(count)]
        loads = [(0.0, number) for number in range(count)]
        for piece in largest[num_divided:]:
            load, number = loads[0]
            shares[number].append(piece)
            heapq.heapreplace(loads, (load + size(piece), number))
        whole = sum(map(size, largest[:num_divided])) / count
        if num_divided >= len(pieces) or max(loads)[0] + whole <= _UNEVEN * mean:
            return [sorted(share, key=lambda piece: piece.part) for share in shares]
        num_divided = max(1, 2 * num_divided)
