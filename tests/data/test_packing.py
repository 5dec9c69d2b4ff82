"""Packing: every token once, in order, and no attention from one document to another."""

import json
from itertools import islice

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rxlm.data.loaders import stream_texts
from rxlm.data.packing import PackedTexts, TextPacker
from rxlm.data.shuffled_records import ShuffledRecords
from rxlm.data.tokenizer import encode_text

documents = st.lists(st.text("abc .", min_size=1, max_size=60), min_size=1, max_size=12).filter(
    lambda texts: any(text.strip() for text in texts)
)


def wanted(packer, texts):
    tokens = packer.tokens
    return [
        [tokens.bos_token_id, *encode_text(packer.tokenizer, text), tokens.eos_token_id]
        for text in texts
        if text.strip()
    ]


def parts(batch):
    """The parts of documents in a batch, in order: [(ids, positions)]."""
    found = []
    for ids, segments, positions in zip(batch.ids, batch.segments, batch.positions, strict=True):
        for segment in range(1, int(segments.max()) + 1):
            chosen = segments == segment
            found.append((ids[chosen].tolist(), positions[chosen].tolist()))
    return found


@given(texts=documents, seq_len=st.integers(3, 40))
def test_documents_lose_no_token_and_leave_no_gap(tokenizer, tokens, texts, seq_len):
    packer = TextPacker(tokenizer, tokens, seq_len)
    sequences = list(packer.pack(texts))
    batch = packer.batch(sequences)
    assert [token for ids, _ in parts(batch) for token in ids] == [t for ids in wanted(packer, texts) for t in ids]
    assert batch.mask[:-1].all(), "only the last sequence may have padding"
    assert all(positions == list(range(len(ids))) for ids, positions in parts(batch))
    assert batch.num_tokens == batch.mask.sum()


def test_first_token_of_a_document_is_no_target(tokenizer, tokens):
    packer = TextPacker(tokenizer, tokens, 64)
    batch = packer.batch(list(packer.pack(["Hello!", "Rex."])))
    starts = batch.ids == tokens.bos_token_id
    assert torch.equal(batch.target_mask, batch.mask & ~starts)


def test_packing_is_lazy(tokenizer, tokens):
    read = []
    texts = (read.append(number) or "Hello, Rex." for number in range(1000))
    next(TextPacker(tokenizer, tokens, 32).pack(texts))
    assert len(read) < 20


def test_sequence_too_short_for_a_document_is_refused(tokenizer, tokens):
    with pytest.raises(ValueError, match="seq_len=2 must be at least 3"):
        TextPacker(tokenizer, tokens, 2)


def packed(tokenizer, tokens, rank=0, world_size=1, tokenised=None):
    packer = TextPacker(tokenizer, tokens, 16)
    if tokenised is not None:
        documents = packer.documents
        packer.documents = lambda text: tokenised.append(text) or documents(text)
    texts = stream_texts([{"text": f"The {number}th hen. " * (1 + number % 9)} for number in range(30)])
    return PackedTexts(ShuffledRecords(texts, shuffle_buffer=8, rank=rank, world_size=world_size), packer)


@pytest.mark.parametrize("before", [0, 1, 5, 17, 60])
def test_resumed_packing_goes_on_and_tokenises_nothing_again(tokenizer, tokens, before):
    straight_texts, resumed_texts = [], []
    straight = packed(tokenizer, tokens, tokenised=straight_texts)
    list(islice(straight, before))
    done = len(straight_texts)
    resumed = packed(tokenizer, tokens, tokenised=resumed_texts)
    resumed.load_state_dict(json.loads(json.dumps(straight.state_dict())))
    assert list(islice(resumed, 40)) == list(islice(straight, 40))
    assert resumed_texts == straight_texts[done:]


@pytest.mark.parametrize("world_size", [1, 2])
def test_no_token_is_lost_or_doubled_when_the_number_of_processes_changes(tokenizer, tokens, world_size):
    tokenised, all_tokens = [], []
    before = [packed(tokenizer, tokens, rank, 3, tokenised) for rank in range(3)]
    after = [packed(tokenizer, tokens, rank, world_size, tokenised) for rank in range(world_size)]
    for each in before:
        all_tokens += [token for sequence in islice(each, 3) for token in sequence.ids]
    states = [each.state_dict() for each in before]
    for each in after:
        each.load_resharded(states)
        all_tokens += [token for sequence in islice(each, 8) for token in sequence.ids]
    all_tokens += [token for each in after for document in each.state_dict()["waiting"] for token in document]
    assert len(set(tokenised)) == len(tokenised) > 5
    assert sorted(all_tokens) == sorted(token for text in wanted(before[0].packer, tokenised) for token in text)


def test_a_text_is_packed_by_one_of_the_processes_only(tokenizer, tokens):
    tokenised = [[], []]
    for rank in range(2):
        list(islice(packed(tokenizer, tokens, rank, 2, tokenised[rank]), 8))
    assert not set(tokenised[0]) & set(tokenised[1])


def test_a_place_in_other_data_is_told(tokenizer, tokens):
    with pytest.raises(ValueError, match="the batches cannot be continued: the checkpoint has no place in texts"):
        packed(tokenizer, tokens).load_state_dict({"records_seen": 5, "seed": 0, "buffer_size": 1000})
