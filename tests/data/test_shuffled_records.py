"""Streamed records: each once an epoch over all processes, the same after a resume, none lost with fewer processes."""

import gzip
import json
import os
import random
import subprocess
import sys
import tracemalloc
from collections import Counter
from itertools import count, islice

import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from hub_server import serve
from rxlm.data.loaders import stream_texts
from rxlm.data.parts import IterablePart
from rxlm.data.record_source import RecordSource
from rxlm.data.shares import Piece, dealt
from rxlm.data.shuffled_records import ShuffledRecords

lengths = st.lists(st.integers(0, 12), min_size=1, max_size=6).filter(any)
buffers = st.sampled_from([1, 2, 5, 100])
worlds = st.sampled_from([1, 2, 3, 4])


def source_of(lengths):
    """A source of whole numbers, counted through its parts; a record is `part * 100 + number`."""
    parts = [IterablePart([part * 100 + n for n in range(length)], length) for part, length in enumerate(lengths)]
    return RecordSource("numbers", lambda bad: parts, lambda record, place: record)


def records_of(lengths):
    return {part * 100 + number for part, length in enumerate(lengths) for number in range(length)}


def processes(lengths, world_size, shuffle_buffer=5, seed=0):
    return [
        ShuffledRecords(source_of(lengths), shuffle_buffer=shuffle_buffer, seed=seed, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]


def to_the_end_of(epoch, records):
    """Read on while the next record is of an epoch up to this one; what was read, by epoch."""
    found = []
    while True:
        before = json.loads(json.dumps(records.state_dict()))
        record = next(records)
        if records.epoch > epoch:
            records.load_state_dict(before)
            return found
        found.append((records.epoch, record))


@given(lengths=lengths, world_size=worlds, shuffle_buffer=buffers)
def test_an_epoch_of_all_processes_has_every_record_once(lengths, world_size, shuffle_buffer):
    read = [found for each in processes(lengths, world_size, shuffle_buffer) for found in to_the_end_of(2, each)]
    assert Counter(read) == Counter((epoch, record) for epoch in range(3) for record in records_of(lengths))


@given(lengths=lengths, world_size=worlds, shuffle_buffer=buffers, before=st.integers(0, 40))
def test_a_resumed_process_reads_what_the_straight_one_does(lengths, world_size, shuffle_buffer, before):
    lengths = [*lengths, 4]  # enough for four processes
    for rank in range(world_size):
        straight, resumed = (processes(lengths, world_size, shuffle_buffer, seed=3)[rank] for _ in range(2))
        list(islice(straight, before)), list(islice(resumed, 3))
        state = json.loads(json.dumps(straight.state_dict()))
        assert len(state["buffer"]) < shuffle_buffer
        resumed.load_state_dict(state)
        assert list(islice(resumed, 30)) == list(islice(straight, 30))


@settings(max_examples=60)
@given(
    lengths=lengths,
    shuffle_buffer=buffers,
    worlds=st.lists(worlds, min_size=2, max_size=4),
    taken=st.lists(st.integers(0, 25), min_size=16, max_size=16),
)
def test_with_another_number_of_processes_no_record_is_lost_or_read_twice(lengths, shuffle_buffer, worlds, taken):
    lengths, read, taken = [*lengths, 9], [], iter(taken)
    all_processes = processes(lengths, worlds[0], shuffle_buffer)
    for world_size in worlds[1:]:
        for each in all_processes:  # each as far as it happens to be, also in another epoch
            read += list(islice(each, next(taken)))
        states = json.loads(json.dumps([each.state_dict() for each in all_processes]))
        all_processes = processes(lengths, world_size, shuffle_buffer)
        for each in all_processes:
            each.load_resharded(states)
    epoch = max(each.epoch for each in all_processes)
    read += [record for each in all_processes for _, record in to_the_end_of(epoch, each)]
    assert Counter(read) == Counter({record: epoch + 1 for record in records_of(lengths) if epoch >= 0})


def test_four_processes_then_two_then_one_finish_the_epoch():
    lengths, read = [30, 7, 22, 1, 40], []
    all_processes = processes(lengths, 4)
    for world_size in (2, 1):
        read += [record for each in all_processes for record in islice(each, 9)]
        states = [each.state_dict() for each in all_processes]
        all_processes = processes(lengths, world_size)
        for each in all_processes:
            each.load_resharded(states)
    (last,) = all_processes
    assert Counter([*read, *(record for _, record in to_the_end_of(0, last))]) == Counter(records_of(lengths))


def test_orders_differ_by_epoch_and_seed_and_a_buffer_of_one_keeps_them():
    first, second = (list(islice(processes([50], 1, seed=seed)[0], 100)) for seed in (0, 1))
    assert first[:50] != first[50:] != second[:50] != first[:50]
    assert list(islice(processes([5, 3], 1, shuffle_buffer=1)[0], 9)) == [0, 1, 2, 3, 4, 100, 101, 102, 0]
    assert set(first[:5]) == set(range(5)), "the first buffer holds the first records"


@given(sizes=st.lists(st.integers(1, 1000), min_size=1, max_size=60), num_processes=st.integers(1, 8))
def test_no_share_is_much_larger_than_another_and_small_parts_stay_whole(sizes, num_processes):
    pieces = [Piece(number) for number in range(len(sizes))]
    shares = dealt(pieces, lambda piece: sizes[piece.part] / piece.modulus, num_processes)
    loads = [sum(sizes[piece.part] / piece.modulus for piece in share) for share in shares]
    assert max(loads) <= 1.1 * sum(sizes) / num_processes + 1e-9
    rest = {number: set(range(num_processes)) for number in range(len(sizes))}
    for piece in (piece for share in shares for piece in share):
        rest[piece.part] -= set(range(num_processes)) if piece.modulus == 1 else {piece.remainder}
    assert not any(rest.values())


def test_equal_files_are_read_by_one_process_each():
    shares = dealt([Piece(number) for number in range(8)], lambda piece: 5, 4)
    assert [{piece.modulus for piece in share} for share in shares] == [{1}] * 4
    assert [len(share) for share in shares] == [2] * 4


def test_shares_change_places_so_that_no_process_falls_behind():
    first, second = processes([3, 3], 2, shuffle_buffer=1)
    assert [list(islice(each, 6)) for each in (first, second)] == [[0, 1, 2, 100, 101, 102], [100, 101, 102, 0, 1, 2]]


def test_a_process_converts_no_record_of_another():
    converted = []
    parts = [IterablePart(range(100), 100)]
    for rank in range(4):
        source = RecordSource("numbers", lambda bad: parts, lambda record, place: converted.append(record) or record)
        records = ShuffledRecords(source, shuffle_buffer=10, rank=rank, world_size=4)
        list(islice(records, 25))
    assert Counter(converted) == Counter(range(100))


def test_another_source_or_order_cannot_be_resumed():
    state = processes([4, 4], 2)[0].state_dict()
    for lengths, options, message in (
        ([4, 4, 4], {}, "num_parts is 3 here and 2 in the checkpoint"),
        ([4, 5], {}, "size_of_data is 9 here and 8"),
        ([4, 4], {"seed": 1}, "seed is 1 here and 0"),
        ([4, 4], {"shuffle_buffer": 9}, "shuffle_buffer is 9 here and 5"),
    ):
        with pytest.raises(ValueError, match=message):
            processes(lengths, 2, **options)[0].load_state_dict(state)
    with pytest.raises(ValueError, match="rank is 1 here and 0"):
        processes([4, 4], 2)[1].load_state_dict(state)
    with pytest.raises(ValueError, match="shuffle_buffer=0 must be at least 1"):
        processes([4], 1, shuffle_buffer=0)


def test_records_that_went_are_told():
    records = processes([8], 1, seed=2)[0]
    next(records)
    fewer = processes([8], 1, seed=2)[0]
    fewer.source.parts[:] = [IterablePart(range(2), 8)]
    with pytest.raises(ValueError, match="numbers has changed since it was read: record 3 of part 1 is gone"):
        fewer.load_state_dict(records.state_dict())


def test_a_source_without_records_is_told_and_not_read_for_ever():
    with pytest.raises(ValueError, match="'numbers' holds no record"):
        next(processes([0, 0], 1)[0])


def test_an_endless_run_reads_the_source_only_as_far_as_it_needs():
    given_out = []
    source = RecordSource(
        "count", lambda bad: [IterablePart((given_out.append(n) or n for n in count()), 1)], lambda n, place: n
    )
    list(islice(ShuffledRecords(source, shuffle_buffer=10), 12))
    assert len(given_out) <= 21


def write_files(folder):
    """Write 120 texts to files of several kinds, all of other sizes; returns the texts."""
    texts = [f"text {number} " * (1 + number % 5) for number in range(120)]
    lines = [json.dumps({"text": text}) for text in texts]
    (folder / "a.jsonl").write_text("\n".join(lines[:50]))
    (folder / "b.jsonl.gz").write_bytes(gzip.compress("\n".join(lines[50:70]).encode()))
    (folder / "c.txt").write_text("\n\n".join(texts[70:90]))
    table = pyarrow.Table.from_pylist([{"text": text} for text in texts[90:]])
    parquet.write_table(table, folder / "d.parquet", row_group_size=8)
    return texts


@pytest.mark.parametrize("seed", range(4))
def test_files_are_read_once_an_epoch_though_processes_stop_and_their_number_changes(tmp_path, seed):
    texts, read, draw = write_files(tmp_path), [], random.Random(seed)

    def opened(world_size, rank):
        return ShuffledRecords(stream_texts(tmp_path), shuffle_buffer=7, seed=seed, rank=rank, world_size=world_size)

    all_processes = [opened(4, rank) for rank in range(4)]
    for world_size in (3, 2, 1):
        for rank, each in enumerate(all_processes):
            state, taken = each.state_dict(), list(islice(each, draw.randrange(14)))
            all_processes[rank] = resumed = opened(len(all_processes), rank)
            resumed.load_state_dict(json.loads(json.dumps(state)))
            assert list(islice(resumed, len(taken))) == taken
            read += taken
        states = [each.state_dict() for each in all_processes]
        all_processes = [opened(world_size, rank) for rank in range(world_size)]
        for each in all_processes:
            each.load_resharded(states)
    (last,) = all_processes
    read += [text for _, text in to_the_end_of(last.epoch, last)]
    assert Counter(read) == Counter(texts * (last.epoch + 1))


FROM_HUB = """
import json, sys
from itertools import islice
from rxlm.data.loaders import stream_interactions
from rxlm.data.shuffled_records import ShuffledRecords

def opened(rank):
    source = stream_interactions("org/talk")
    return ShuffledRecords(source, shuffle_buffer=4, rank=rank, world_size=2)

def answers(records, count):
    return [turn.answer for turn in islice(records, count)]

for rank in range(2):
    records = opened(rank)
    before = answers(records, 3)
    state, after = records.state_dict(), answers(records, 7)
    resumed = opened(rank)
    resumed.load_state_dict(json.loads(json.dumps(state)))
    print(json.dumps([before, after, answers(resumed, 7)]))
"""


def test_processes_share_a_hub_dataset_that_is_streamed_and_go_on_after_a_stop(tmp_path):
    (tmp_path / "talk").mkdir()
    records = [{"query": "Who?", "answer": f"{number:02}."} for number in range(20)]
    table = pyarrow.Table.from_pylist(records)
    parquet.write_table(table, tmp_path / "talk" / "train.parquet", row_group_size=5)
    with serve({"datasets/org/talk": tmp_path / "talk"}) as endpoint:
        environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "home")}
        command = [sys.executable, "-c", FROM_HUB]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    both = [json.loads(line) for line in done.stdout.splitlines()]
    for before, after, again in both:
        assert after == again
        assert sum(answer < "05." for answer in before + after) in (0, 5), "a row group is one process's"
    assert sorted(answer for before, after, _ in both for answer in before + after) == [
        record["answer"] for record in records
    ]


def test_memory_does_not_grow_with_the_file(tmp_path):
    path = tmp_path / "a.jsonl"
    line = json.dumps({"text": "word " * 1000}) + "\n"
    with path.open("w") as file:
        for _ in range(100):
            file.write(line * 100)
    assert path.stat().st_size > 50e6
    records = ShuffledRecords(stream_texts(path), shuffle_buffer=100)
    tracemalloc.start()
    list(islice(records, 200))
    _, early = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    for _ in islice(records, 9_700):
        pass
    _, late = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert records.epoch == 0
    assert late < 1.2 * early < 3e6
