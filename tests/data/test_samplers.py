"""Samplers: every record once an epoch, the same order after a resume, and ranks that share one order."""

import json
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxlm.data.samplers import ShuffledBatches, share_evenly

sizes = st.integers(1, 7)


def shuffled(num_records, batch_size, **options):
    return ShuffledBatches(range(num_records), list, batch_size=batch_size, **options)


def taken(batches, count):
    return list(islice(batches, count))


@given(num_records=st.integers(1, 40), batch_size=sizes, seed=st.integers(0, 5))
def test_every_epoch_has_every_record_once(num_records, batch_size, seed):
    batches = shuffled(num_records, batch_size, seed=seed)
    records = [record for batch in taken(batches, 3 * num_records) for record in batch]
    for epoch in range(3):
        assert sorted(records[epoch * num_records : (epoch + 1) * num_records]) == list(range(num_records))
    assert batches.epoch == batches.records_seen / num_records == 3 * batch_size


def test_epochs_and_seeds_have_orders_of_their_own():
    first, second = taken(shuffled(50, 50), 2)
    (other,) = taken(shuffled(50, 50, seed=1), 1)
    assert first != second != other != first
    assert taken(shuffled(5, 3, shuffle=False), 2) == [[0, 1, 2], [3, 4, 0]]


@given(num_records=st.integers(1, 30), batch_size=sizes, before=st.integers(0, 12))
def test_resumed_run_sees_the_same_batches(num_records, batch_size, before):
    straight = shuffled(num_records, batch_size, seed=3)
    taken(straight, before)
    state = json.loads(json.dumps(straight.state_dict()))
    resumed = shuffled(num_records, batch_size, seed=3)
    taken(resumed, 2)
    resumed.load_state_dict(state)
    assert taken(resumed, 8) == taken(straight, 8)


@given(num_records=st.integers(1, 30), batch_size=sizes, world_size=st.integers(1, 3))
def test_ranks_together_see_the_batch_of_one_larger_process(num_records, batch_size, world_size):
    ranks = [shuffled(num_records, batch_size, rank=rank, world_size=world_size) for rank in range(world_size)]
    whole = shuffled(num_records, batch_size * world_size)
    for _ in range(6):
        assert [record for rank in ranks for record in next(rank)] == next(whole)


@given(num_records=st.integers(1, 30), batch_size=sizes, world_size=st.integers(1, 3))
def test_ranks_that_share_a_batch_by_size_see_it_once(num_records, batch_size, world_size):
    options = {"world_size": world_size, "size": float}
    ranks = [shuffled(num_records, batch_size, rank=rank, **options) for rank in range(world_size)]
    whole = shuffled(num_records, batch_size * world_size)
    for _ in range(6):
        shares = [next(rank) for rank in ranks]
        assert {len(share) for share in shares} == {batch_size}
        assert sorted(record for share in shares for record in share) == sorted(next(whole))


@given(st.lists(st.integers(0, 100), min_size=2, max_size=32), st.integers(2, 4))
def test_parts_differ_by_no_more_than_the_largest_size(sizes, num_parts):
    sizes += [0] * (-len(sizes) % num_parts)
    parts = share_evenly(sizes, num_parts)
    assert sorted(index for part in parts for index in part) == list(range(len(sizes)))
    assert {len(part) for part in parts} == {len(sizes) // num_parts}
    loads = [sum(sizes[index] for index in part) for part in parts]
    assert max(loads) - min(loads) <= max(sizes)


def test_two_long_records_go_to_two_processes():
    assert share_evenly([90, 80, 1, 2, 30, 3], 2) == [[0, 5, 3], [1, 4, 2]]


def test_resume_may_change_batch_size_and_number_of_processes():
    one = shuffled(30, 4)
    taken(one, 3)
    two = shuffled(30, 6, rank=1, world_size=2)
    two.load_state_dict(one.state_dict())
    expected = taken(shuffled(30, 30), 1)[0][12 + 6 : 12 + 12]
    assert next(two) == expected


def test_another_dataset_or_order_cannot_be_resumed():
    state = shuffled(30, 4).state_dict()
    with pytest.raises(ValueError, match="num_records is 31 here and 30 in the checkpoint"):
        shuffled(31, 4).load_state_dict(state)
    with pytest.raises(ValueError, match="seed is 1 here and 0"):
        shuffled(30, 4, seed=1).load_state_dict(state)


def test_empty_data_and_impossible_sizes_are_refused():
    with pytest.raises(ValueError, match="the dataset is empty"):
        shuffled(0, 1)
    with pytest.raises(ValueError, match="batch_size=0 must be at least 1"):
        shuffled(3, 0)
    with pytest.raises(ValueError, match=r"rank=2 must be from 0 to world_size - 1 = 1"):
        shuffled(3, 1, rank=2, world_size=2)
