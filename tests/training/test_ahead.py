"""Batches made ahead are the same ones, in the same order, also after a resume."""

from typing import Any

import pytest

from rxlm.data.samplers import ShuffledBatches
from rxlm.training.ahead import BatchesAhead


def source() -> ShuffledBatches[int, list[int]]:
    return ShuffledBatches(list(range(10)), list, batch_size=3, seed=5)


def taken(batches: Any, count: int) -> list[list[int]]:
    return [next(batches) for _ in range(count)]


def test_the_batches_are_those_of_the_source() -> None:
    assert taken(BatchesAhead(source()), 9) == taken(source(), 9)


@pytest.mark.parametrize("count", [0, 1, 4])
def test_a_state_says_what_was_given_and_not_what_was_made(count: int) -> None:
    ahead, plain = BatchesAhead(source()), source()
    taken(ahead, count)
    taken(plain, count)
    assert ahead.state_dict() == plain.state_dict()
    resumed = BatchesAhead(source())
    taken(resumed, 2)
    resumed.load_state_dict(ahead.state_dict())
    assert resumed.state_dict() == plain.state_dict()
    assert taken(resumed, 5) == taken(plain, 5)


def test_another_number_of_processes_goes_on_where_the_source_would() -> None:
    ahead, plain = BatchesAhead(source()), source()
    states = [source().state_dict() | {"records_seen": 6}]
    taken(ahead, 1)
    ahead.load_resharded(states)
    plain.load_resharded(states)
    assert taken(ahead, 3) == taken(plain, 3)


class Failing:
    """Gives one batch, and then fails."""

    def __init__(self) -> None:
        self.given = 0

    def __next__(self) -> int:
        self.given += 1
        if self.given > 1:
            raise ValueError("record 7 is damaged")
        return self.given

    def state_dict(self) -> dict[str, int]:
        return {"given": self.given}


def test_a_failure_is_told_at_the_batch_that_it_is_of() -> None:
    ahead = BatchesAhead(Failing())  # type: ignore[arg-type]
    assert next(ahead) == 1
    assert ahead.state_dict() == {"given": 1}
    with pytest.raises(ValueError, match="record 7 is damaged"):
        next(ahead)


def test_what_was_made_ahead_is_dropped_in_silence_at_the_end() -> None:
    ahead = BatchesAhead(Failing())  # type: ignore[arg-type]
    next(ahead)
    ahead.close()
