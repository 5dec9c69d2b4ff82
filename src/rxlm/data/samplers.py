"""Batches in an order that a seed decides and that a resumed run continues exactly.

Each sampler hands its records to a `collate` function, such as `TurnTokenizer.dialogue_batch`. `batch_size` counts
the records of one process; with `world_size` processes the global batch is that many times as large, and the records
of all ranks together are those that one process would get with that larger batch size.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, Protocol, Self, TypeVar

import torch

from rxlm.seeds import order_seed

R = TypeVar("R")
B = TypeVar("B")
Given = TypeVar("Given", covariant=True)


class ShuffledBatches(Generic[R, B]):
    """An endless iterator over batches of a dataset, shuffled again in every epoch.

    The epochs' permutations follow each other without a gap, so that every batch is full and the position is one
    number, the records seen so far by all processes. `load_state_dict` continues from there, also with another batch
    size or number of processes.

    Args:
        dataset: the records; none is read before its batch.
        collate: makes a batch of a list of records.
        batch_size: records a batch and process.
        seed: of the order.
        shuffle: False keeps the dataset's own order, for generated records that are random already.
        size: how much work a record is; several processes then share a batch so that none waits long for the others
            (`share_evenly`), for which each reads the records of all. None: each takes its turn's records.
        rank, world_size: this process and their number.
    """

    def __init__(
        self,
        dataset: Sequence[R],
        collate: Callable[[list[R]], B],
        *,
        batch_size: int,
        seed: int = 0,
        shuffle: bool = True,
        size: Callable[[R], float] | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if not len(dataset):
            raise ValueError("the dataset is empty: there is nothing to make batches of")
        check_sizes(batch_size, rank, world_size)
        self.dataset, self.collate, self.batch_size = dataset, collate, batch_size
        self.seed, self.shuffle, self.rank, self.world_size = seed, shuffle, rank, world_size
        self.size = size
        self.records_seen = 0
        self._order: tuple[int, Sequence[int]] | None = None

    @property
    def epoch(self) -> float:
        """Passes over the dataset so far."""
        return self.records_seen / len(self.dataset)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> B:
        every = range(self.records_seen, self.records_seen + self.batch_size * self.world_size)
        self.records_seen = every.stop
        if self.size is None or self.world_size == 1:
            return self.collate(self._records(every[self.rank * self.batch_size :][: self.batch_size]))
        records = self._records(every)
        mine = share_evenly([self.size(record) for record in records], self.world_size)[self.rank]
        return self.collate([records[index] for index in mine])

    def state_dict(self) -> dict[str, Any]:
        """Return the position, and what must be the same when it is loaded, as plain values."""
        return {"records_seen": self.records_seen, **self._identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken; ValueError where the order would be another one."""
        check_same(self._identity(), state)
        self.records_seen = state["records_seen"]

    def load_resharded(self, states: Sequence[dict[str, Any]]) -> None:
        """Continue after the states of another number of processes, which all have read equally far."""
        self.load_state_dict(states[0])

    def _identity(self) -> dict[str, Any]:
        return {"num_records": len(self.dataset), "seed": self.seed, "shuffle": self.shuffle}

    def _records(self, places: Iterable[int]) -> list[R]:
        return [self.dataset[self._index(place)] for place in places]

    def _index(self, place: int) -> int:
        epoch, index = divmod(place, len(self.dataset))
        if not self.shuffle:
            return index
        if self._order is None or self._order[0] != epoch:
            generator = torch.Generator().manual_seed(order_seed(self.seed, epoch))
            self._order = epoch, torch.randperm(len(self.dataset), generator=generator).tolist()
        return self._order[1][index]


class Resumable(Protocol[Given]):
    """An endless iterator over a process's share of something, which can be put back where it was."""

    def __next__(self) -> Given:
        """Return the next item."""

    def state_dict(self) -> dict[str, Any]:
        """Return the position as plain values."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken."""

    def load_resharded(self, states: Sequence[dict[str, Any]]) -> None:
        """Continue after the states of another number of processes."""


class StreamedBatches(Generic[R, B]):
    """An endless iterator over batches of what comes in order: `records`, which are this process's own.

    Args:
        records: for example `rxlm.data.shuffled_records.ShuffledRecords`.
        collate, batch_size: as in `ShuffledBatches`.
    """

    def __init__(self, records: Resumable[R], collate: Callable[[list[R]], B], *, batch_size: int) -> None:
        check_sizes(batch_size, 0, 1)
        self.records, self.collate, self.batch_size = records, collate, batch_size

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> B:
        return self.collate([next(self.records) for _ in range(self.batch_size)])

    def state_dict(self) -> dict[str, Any]:
        """Return the position of the records."""
        return self.records.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken."""
        self.records.load_state_dict(state)

    def load_resharded(self, states: Sequence[dict[str, Any]]) -> None:
        """Continue after the states of another number of processes."""
        self.records.load_resharded(states)


def share_evenly(sizes: Sequence[float], num_parts: int) -> list[list[int]]:
    """Divide the indices of `sizes` into parts of one length, whose sizes add up to about the same.

    The largest goes first, each to the part that has least so far and still has room (Graham's rule). `num_parts` must
    divide the number of sizes.
    """
    parts: list[list[int]] = [[] for _ in range(num_parts)]
    loads = [0.0] * num_parts
    for index in sorted(range(len(sizes)), key=lambda index: -sizes[index]):
        with_room = (part for part in range(num_parts) if len(parts[part]) * num_parts < len(sizes))
        part = min(with_room, key=lambda part: loads[part])
        parts[part].append(index)
        loads[part] += sizes[index]
    return parts


def check_sizes(batch_size: int, rank: int, world_size: int) -> None:
    """Raise ValueError for sizes that no batch can have."""
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size} must be at least 1")
    if not 0 <= rank < world_size:
        raise ValueError(f"rank={rank} must be from 0 to world_size - 1 = {world_size - 1}")


def check_same(mine: dict[str, Any], state: dict[str, Any]) -> None:
    """Raise ValueError unless a checkpoint's `state` has the values of `mine`."""
    for name, value in mine.items():
        if state.get(name) != value:
            raise ValueError(
                f"the batches cannot be continued: {name} is {value!r} here and {state.get(name)!r} in the checkpoint"
            )


def place_in(state: dict[str, Any], name: str) -> Any:
    """Return the place of a source in a checkpoint's state; ValueError where the state is that of another source."""
    if name not in state:
        raise ValueError(
            f"the batches cannot be continued: the checkpoint has no place in {name}; it is of an earlier version, or "
            "of other data. Without the folder of its stage, the stage is trained from the beginning"
        )
    return state[name]
