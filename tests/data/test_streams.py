"""Conversations without end: rows go on, begin anew at times, and are the same after a resume and on any rank."""

import json
from itertools import count, islice

import pytest
import torch

from rxlm.data.records import Interaction
from rxlm.data.streams import ConversationStreams


def endless(index):
    return (Interaction(f"c{index}", f"t{turn}") for turn in count())


def finite(index):
    return (Interaction(f"c{index}", f"t{turn}") for turn in range(1 + index % 5))


def streams(turn_tokenizer, open_conversation=endless, **options):
    options = {"batch_size": 4, "turns_per_batch": 3, "reset_probability": 0.3} | options
    return ConversationStreams(open_conversation, turn_tokenizer, **options)


def plain(batch):
    return batch.fresh.tolist(), batch.interactions


def test_rows_go_on_where_they_were_or_begin_anew(turn_tokenizer):
    ends = [None] * 4
    begun = set()
    for batch in islice(streams(turn_tokenizer), 30):
        for row, turns in enumerate(batch.interactions):
            conversation, first = turns[0].query, int(turns[0].answer[1:])
            assert [turn.answer for turn in turns] == [f"t{first + step}" for step in range(3)]
            if batch.fresh[0, row]:
                assert first == 0
                assert conversation not in begun
                begun.add(conversation)
            else:
                assert (conversation, first) == ends[row]
            ends[row] = conversation, first + 3
        assert not batch.fresh[1:].any()
        assert batch.num_turns == 3
        assert all(turn.present.all() for turn in batch.turns)
    assert 4 + 10 < len(begun) < 4 + 60


def test_where_a_conversation_ends_the_next_one_follows(turn_tokenizer):
    rows = [[] for _ in range(4)]
    for batch in islice(streams(turn_tokenizer, finite, reset_probability=0.0), 20):
        assert batch.fresh.shape == (3, 4)
        assert all(turn.present.all() for turn in batch.turns)
        for row, turns in enumerate(batch.interactions):
            rows[row] += zip(turns, batch.fresh[:, row].tolist(), strict=True)
    for number, row in enumerate(rows):
        conversations = (number + life * 4 for life in count())
        expected = [
            (turn, place == 0)
            for conversation in islice(conversations, 60)
            for place, turn in enumerate(finite(conversation))
        ]
        assert row == expected[: len(row)]


@pytest.mark.parametrize("open_conversation", [endless, finite])
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("before", [0, 1, 5, 12])
def test_resumed_rows_go_on_from_their_own_or_another_ranks_state(turn_tokenizer, open_conversation, rank, before):
    options = {"batch_size": 2, "rank": rank, "world_size": 2, "seed": 5}
    straight = streams(turn_tokenizer, open_conversation, **options)
    other = streams(turn_tokenizer, open_conversation, **options | {"rank": 1 - rank})
    for _ in range(before):
        next(straight), next(other)
    for saved in (straight, other):
        resumed = streams(turn_tokenizer, open_conversation, **options)
        next(resumed)
        resumed.load_state_dict(json.loads(json.dumps(saved.state_dict())))
        again = streams(turn_tokenizer, open_conversation, **options)
        again.load_state_dict(straight.state_dict())
        for _ in range(5):
            assert plain(next(resumed)) == plain(next(again))


@pytest.mark.parametrize("open_conversation", [endless, finite])
def test_ranks_together_see_the_rows_of_one_process(turn_tokenizer, open_conversation):
    whole = streams(turn_tokenizer, open_conversation, batch_size=4)
    ranks = [streams(turn_tokenizer, open_conversation, batch_size=2, rank=rank, world_size=2) for rank in range(2)]
    for _ in range(10):
        expected, parts = next(whole), [next(rank) for rank in ranks]
        assert torch.equal(torch.cat([part.fresh for part in parts], dim=1), expected.fresh)
        assert parts[0].interactions + parts[1].interactions == expected.interactions


def test_other_conversations_cannot_be_resumed(turn_tokenizer):
    state = streams(turn_tokenizer).state_dict()
    with pytest.raises(ValueError, match="turns_per_batch is 4 here and 3 in the checkpoint"):
        streams(turn_tokenizer, turns_per_batch=4).load_state_dict(state)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"turns_per_batch": 0}, "turns_per_batch=0 must be at least 1"),
        ({"reset_probability": 1.5}, "reset_probability=1.5 must be between 0 and 1"),
        ({"batch_size": 0}, "batch_size=0"),
    ],
)
def test_impossible_settings_are_refused(turn_tokenizer, options, message):
    with pytest.raises(ValueError, match=message):
        streams(turn_tokenizer, **options)


def test_conversation_without_a_turn_is_an_error(turn_tokenizer):
    with pytest.raises(ValueError, match="conversation 0 has no turns"):
        next(streams(turn_tokenizer, lambda index: iter(())))
