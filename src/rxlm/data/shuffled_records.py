"""A process's share of the records of a source, epoch after epoch: shuffled in a buffer, resumable at the record."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Generic, NamedTuple, Self, TypeVar

import torch

from rxlm.data.parts import Found, Place
from rxlm.data.record_source import RecordSource
from rxlm.data.samplers import check_same, check_sizes
from rxlm.data.shares import Piece, dealt
from rxlm.seeds import derived_seed

R = TypeVar("R")
T = TypeVar("T")


class _Waiting(NamedTuple):
    """A record in the buffer, and its part."""

    part: int
    found: Found


class ShuffledRecords(Generic[R]):
    """An endless iterator over a process's share of a source; the shares of an epoch together are each record once.

    `shuffle_buffer` records are read, and given in an order that a seed decides; then the next ones. Parts of the
    source are read in another order each epoch, and shares change places, so that a process that has a little more to
    read than others falls behind no further. The state has the numbers of the records in the buffer and the pieces
    that are still to be read: resuming reads no more than the buffer again, and in files without marks what is before
    it in the file.

    Args:
        source: what is read.
        shuffle_buffer: records that are held and shuffled; 1 keeps the order of the source.
        seed: of the orders.
        rank, world_size: this process and their number.
    """

    def __init__(
        self, source: RecordSource[R], *, shuffle_buffer: int, seed: int = 0, rank: int = 0, world_size: int = 1
    ) -> None:
        check_sizes(1, rank, world_size)
        if shuffle_buffer < 1:
            raise ValueError(f"shuffle_buffer={shuffle_buffer} must be at least 1")
        self.source, self.shuffle_buffer, self.seed = source, shuffle_buffer, seed
        self.rank, self.world_size = rank, world_size
        self.epoch, self._num_blocks = -1, 0
        self._ahead: list[Piece] = []
        self._reading: Iterator[Found] | None = None
        self._buffer: list[_Waiting] = []  # the next record is the last

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> R:
        num_empty = 0
        while not self._buffer:
            if not self._ahead:
                if num_empty == self.world_size:  # every share was once this process's
                    raise ValueError(f"{self.source.name!r} holds no record")
                num_empty += 1
                self._begin_epoch()
            self._fill()
        return self._buffer.pop().found.record

    def state_dict(self) -> dict[str, Any]:
        """Return what is still to come in this epoch, as plain values: pieces to read, and records in the buffer."""
        first: dict[int, Place] = {}
        for part, found in self._buffer:
            first[part] = min(first.get(part, found.place), found.place, key=lambda place: place.number)
        return {
            "epoch": self.epoch,
            "num_blocks": self._num_blocks,
            "ahead": [[piece.part, list(piece.place), piece.modulus, piece.remainder] for piece in self._ahead],
            "buffer": [[part, found.place.number] for part, found in self._buffer],
            "first": [[part, list(place)] for part, place in first.items()],
            "rank": self.rank,
            "world_size": self.world_size,
            **self._identity(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken; ValueError where the source or the order would be another one."""
        check_same({**self._identity(), "rank": self.rank, "world_size": self.world_size}, state)
        self._go_on(state["epoch"], state["num_blocks"], [Piece.of(piece) for piece in state["ahead"]])
        self._refill([state], state["buffer"])

    def load_resharded(self, states: Sequence[dict[str, Any]]) -> None:
        """Continue after the states of another number of processes: what each has not read of its epoch is dealt anew.

        Processes that are in an earlier epoch than others owe their shares of those after it, too.
        """
        for state in states:
            check_same({**self._identity(), "world_size": len(states)}, state)
        epoch = max(state["epoch"] for state in states)
        ahead = [Piece.of(piece) for state in states for piece in state["ahead"]]
        for state in states:
            for late in range(state["epoch"] + 1, epoch + 1):
                ahead += self._share(late, state["rank"], len(states))
        shares = dealt(ahead, self.source.size, self.world_size)
        self._go_on(epoch, max(state["num_blocks"] for state in states), shares[self.rank])
        buffered = [entry for state in states for entry in state["buffer"]]
        self._refill(states, buffered[self.rank :: self.world_size])

    def _identity(self) -> dict[str, Any]:
        parts = self.source.parts
        return {
            "seed": self.seed,
            "shuffle_buffer": self.shuffle_buffer,
            "num_parts": len(parts),
            "size_of_data": sum(part.size for part in parts),
        }

    def _go_on(self, epoch: int, num_blocks: int, ahead: list[Piece]) -> None:
        self.epoch, self._num_blocks, self._ahead, self._reading = epoch, num_blocks, ahead, None

    def _refill(self, states: Sequence[dict[str, Any]], buffered: Sequence[Sequence[int]]) -> None:
        """Read again the records that were in buffers, given as numbers of parts and records."""
        numbers: dict[int, set[int]] = {}
        for part, number in buffered:
            numbers.setdefault(part, set()).add(number)
        places = [(part, Place(*place)) for state in states for part, place in state["first"]]
        first = dict(sorted(places, key=lambda each: each[1].number, reverse=True))  # of each part the lowest one stays
        fetched = {part: self.source.fetch(part, first[part].mark, wanted) for part, wanted in numbers.items()}
        self._buffer = [_Waiting(part, fetched[part][number]) for part, number in buffered]

    def _begin_epoch(self) -> None:
        self.epoch, self._num_blocks = self.epoch + 1, 0
        self._ahead = self._share(self.epoch, self.rank, self.world_size)

    def _share(self, epoch: int, rank: int, world_size: int) -> list[Piece]:
        """Return what a process reads in an epoch."""
        pieces = dealt(self.source.pieces(), self.source.size, world_size)[(rank + epoch) % world_size]
        return self._in_order(pieces, epoch)

    def _fill(self) -> None:
        """Read the next records into the empty buffer, none where the epoch ends."""
        found: list[_Waiting] = []
        while self._ahead and len(found) < self.shuffle_buffer:
            piece = self._ahead[0]
            self._reading = self.source.read(piece) if self._reading is None else self._reading
            read = list(islice(self._reading, self.shuffle_buffer - len(found)))
            found += [_Waiting(piece.part, each) for each in read]
            if len(found) < self.shuffle_buffer:
                self._ahead, self._reading = self._ahead[1:], None
            else:
                place = read[-1].place
                self._ahead[0] = piece._replace(place=place._replace(number=place.number + 1))
        self._num_blocks += 1
        self._buffer = self._in_order(found, self.epoch, self._num_blocks, self.rank)[::-1]

    def _in_order(self, items: list[T], *numbers: int) -> list[T]:
        """Return items in the order that these numbers and the seed give."""
        if self.shuffle_buffer == 1:
            return items
        generator = torch.Generator().manual_seed(derived_seed(self.seed, *numbers))
        return [items[place] for place in torch.randperm(len(items), generator=generator).tolist()]
