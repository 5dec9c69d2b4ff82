"""Conversations without end: rows go on, begin anew at times, and are the same after a resume and on any rank."""

import json
from collections import Counter
from itertools import count, islice, pairwise

import pytest
import torch

from rxlm.data.loaders import stream_dialogues
from rxlm.data.records import Dialogue, Interaction, Question
from rxlm.data.shuffled_records import ShuffledRecords
from rxlm.data.streams import ConversationStreams, StreamedConversations


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


def talks(count):
    """Dialogues of one turn, two, three and so on."""
    return [
        Dialogue(tuple(Interaction(f"d{index}", f"t{turn}") for turn in range(1 + index))) for index in range(count)
    ]


def streamed(turn_tokenizer, rank=0, world_size=1, num_dialogues=7, **options):
    options = {"batch_size": 2, "turns_per_batch": 3, "reset_probability": 0.0} | options
    dialogues = ShuffledRecords(
        stream_dialogues(talks(num_dialogues)), shuffle_buffer=3, rank=rank, world_size=world_size
    )
    return StreamedConversations(dialogues, turn_tokenizer, rank=rank, world_size=world_size, **options)


def test_streamed_dialogues_are_each_read_once_an_epoch_and_whole(turn_tokenizer):
    rows = [[], []]
    for batch in islice(streamed(turn_tokenizer), 28):  # three epochs of 28 turns, two rows
        for row, turns in enumerate(batch.interactions):
            rows[row] += zip((turn.query for turn in turns), batch.fresh[:, row].tolist(), strict=True)
    begun = Counter(name for row in rows for name, is_fresh in row if is_fresh)
    assert set(begun) == {f"d{index}" for index in range(7)}
    assert max(begun.values()) - min(begun.values()) <= 2  # in both rows a dialogue may be unfinished
    for row in rows:
        starts = [place for place, (_, is_fresh) in enumerate(row) if is_fresh]
        for start, end in pairwise(starts):
            assert len({name for name, _ in row[start:end]}) == 1
            assert end - start == 1 + int(row[start][0][1:])


def test_streamed_dialogues_are_cut_to_the_turns_of_a_phase(turn_tokenizer):
    for batch in islice(streamed(turn_tokenizer, max_turns=2), 12):
        assert {turn.answer for turns in batch.interactions for turn in turns} <= {"t0", "t1"}


@pytest.mark.parametrize("before", [0, 1, 4, 9])
def test_resumed_rows_of_streamed_dialogues_go_on(turn_tokenizer, before):
    for rank in range(2):
        straight, resumed = (streamed(turn_tokenizer, rank, 2, reset_probability=0.3) for _ in range(2))
        list(islice(straight, before)), next(resumed)
        resumed.load_state_dict(json.loads(json.dumps(straight.state_dict())))
        for _ in range(8):
            assert plain(next(resumed)) == plain(next(straight))


def test_with_another_number_of_processes_rows_begin_dialogues_that_none_has_read(turn_tokenizer):
    before = [streamed(turn_tokenizer, rank, 2, num_dialogues=12) for rank in range(2)]
    begun = {turn.query for each in before for turns in next(each).interactions for turn in turns}
    after = streamed(turn_tokenizer, num_dialogues=12)
    after.load_resharded([each.state_dict() for each in before])
    batch = next(after)
    assert batch.fresh[0].all()
    assert not begun & {turn.query for turns in batch.interactions for turn in turns[:1]}
    with pytest.raises(ValueError, match="turns_per_batch is 2 here and 3 in the checkpoint"):
        streamed(turn_tokenizer, turns_per_batch=2).load_resharded([each.state_dict() for each in before])


def test_a_turn_with_a_question_is_the_same_after_a_resume(turn_tokenizer):
    question = Question("home", ("Rome",), 1, stale=("Oslo",))
    dialogue = Dialogue((Interaction("a", "b"), Interaction("c", "d", question=question)))

    def opened():
        records = ShuffledRecords(stream_dialogues([dialogue]), shuffle_buffer=1)
        return StreamedConversations(records, turn_tokenizer, batch_size=1, turns_per_batch=1, reset_probability=0)

    straight, resumed = opened(), opened()
    next(straight)
    resumed.load_state_dict(json.loads(json.dumps(straight.state_dict())))
    assert next(resumed).interactions == ((dialogue.turns[1],),)
