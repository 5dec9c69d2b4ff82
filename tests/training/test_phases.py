"""Phases of data: a resumed run goes on in the phase that it was in, and reads nothing of those that are over."""

from itertools import islice

import pytest

from rxlm.data.parts import IterablePart
from rxlm.data.record_source import RecordSource
from rxlm.data.samplers import StreamedBatches
from rxlm.data.shuffled_records import ShuffledRecords
from rxlm.training.phases import Phase, PhasedBatches


def phased(read: set[int]) -> PhasedBatches:
    """Two phases of three batches, each of its own hundred numbers."""

    def batches(first: int) -> StreamedBatches[int, list[int]]:
        source = RecordSource(
            "numbers",
            lambda bad: [IterablePart(range(first, first + 100))],
            lambda record, place: read.add(record) or record,
        )
        return StreamedBatches(ShuffledRecords(source, shuffle_buffer=10), list, batch_size=2)

    return PhasedBatches([Phase(batches(0), 3), Phase(batches(100), 3)])


@pytest.mark.parametrize("taken", [0, 2, 3, 4, 9])
@pytest.mark.parametrize("resharded", [False, True])
def test_a_resumed_run_goes_on_in_its_phase_and_reads_none_that_is_over(taken: int, resharded: bool) -> None:
    read = set[int]()
    straight, resumed = phased(set()), phased(read)
    list(islice(straight, taken))
    if resharded:
        resumed.load_resharded([straight.state_dict()])
    else:
        resumed.load_state_dict(straight.state_dict())
    assert list(islice(resumed, 8)) == list(islice(straight, 8))
    assert taken < 3 or min(read) >= 100
