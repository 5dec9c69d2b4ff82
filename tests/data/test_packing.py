"""Packing: every token once, in order, and no attention from one document to another."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rxlm.data.packing import TextPacker
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
