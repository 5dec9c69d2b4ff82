"""Stream decoder: pieces give the text of a whole decode, and none ends within a character."""

import time
from itertools import chain

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from rxlm.data.stream_decoder import StreamDecoder
from rxlm.data.tokenizer import (
    SPECIAL_TOKENS,
    encode_text,
    special_token_id,
)
from tokenizer_kinds import TOKENIZERS, decode

any_text = st.text() | st.text(alphabet="aé日本☕👩‍ \n[QA]PD�", max_size=40)


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    return TOKENIZERS["trained"]


def stream(tokenizer, ids, *, skip_special_tokens=False) -> list[str]:
    decoder = StreamDecoder(tokenizer, skip_special_tokens=skip_special_tokens)
    return [decoder.push(token_id) for token_id in ids] + [decoder.flush()]


@pytest.mark.parametrize("skip_special_tokens", [False, True])
@pytest.mark.parametrize("name", TOKENIZERS)
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_streamed_ids_give_the_text_of_a_whole_decode(name, skip_special_tokens, data):
    tokenizer = TOKENIZERS[name]
    in_vocabulary = st.integers(0, len(tokenizer) - 1)
    added = st.sampled_from(sorted(tokenizer.added_tokens_decoder))
    byte_tokens = st.integers(len(SPECIAL_TOKENS), len(SPECIAL_TOKENS) + 255)
    unknown = st.integers(len(tokenizer), len(tokenizer) + 9)
    encoded = any_text.map(lambda text: encode_text(tokenizer, text))
    ids = data.draw(
        st.lists(in_vocabulary | added | byte_tokens | unknown)
        | st.lists(encoded | added.map(lambda token_id: [token_id])).map(lambda parts: [*chain.from_iterable(parts)])
    )
    pieces = stream(tokenizer, ids, skip_special_tokens=skip_special_tokens)
    assert "".join(pieces) == decode(tokenizer, ids, skip_special_tokens=skip_special_tokens)


@pytest.mark.parametrize("name", TOKENIZERS)
@given(text=st.text(alphabet="aé日本☕👩‍🦉 ", max_size=20))
@settings(deadline=None)
def test_no_piece_holds_half_a_character(name, text):
    tokenizer = TOKENIZERS[name]
    pieces = stream(tokenizer, encode_text(tokenizer, text))
    assert not any("�" in piece for piece in pieces)


def test_text_is_released_as_soon_as_its_token_completes_it(tokenizer):
    ids = encode_text(tokenizer, "Lily ☕!")
    decoder = StreamDecoder(tokenizer)
    for end in range(1, len(ids) + 1):
        piece = decoder.push(ids[end - 1])
        whole = decode(tokenizer, ids[:end])
        assert whole.endswith("�") or whole.endswith(piece)
        assert (piece == "") == whole.endswith("�")
    assert decoder.flush() == ""


def test_token_that_ends_one_character_and_begins_the_next_is_split(tokenizer):
    backend = Tokenizer(models.BPE({"Ã": 0, "©Ã": 1, "©": 2}, []))
    backend.decoder = decoders.ByteLevel()
    pieces = stream(PreTrainedTokenizerFast(tokenizer_object=backend), [0, 1, 2])
    assert pieces == ["", "é", "é", ""]


def test_character_cut_by_a_special_token_is_replaced_and_the_token_kept(tokenizer):
    first_byte = encode_text(tokenizer, "é")[0]
    assert stream(tokenizer, [first_byte, special_token_id(tokenizer, "[A]")]) == ["", "�[A]", ""]


def test_cut_off_character_comes_with_the_flush_and_the_decoder_starts_anew(tokenizer):
    ids = encode_text(tokenizer, "é")
    decoder = StreamDecoder(tokenizer)
    assert decoder.push(ids[0]) + decoder.flush() == "�"
    assert decoder.push(ids[0]) + decoder.push(ids[1]) == "é"


@pytest.mark.parametrize("name", TOKENIZERS)
def test_first_token_of_the_next_text_is_decoded_as_a_first_one(name):
    tokenizer = TOKENIZERS[name]
    ids = encode_text(tokenizer, "a he")
    decoder = StreamDecoder(tokenizer)
    for _ in range(2):
        assert "".join(map(decoder.push, ids)) + decoder.flush() == decode(tokenizer, ids)


def test_ids_may_be_tensor_elements(tokenizer):
    ids = torch.tensor(tokenizer("Lily[A]")["input_ids"])
    assert "".join(stream(tokenizer, ids, skip_special_tokens=True)) == "Lily"


@pytest.mark.parametrize(("name", "token"), [("trained", "Ã"), ("llama", "<0xC3>"), ("llama", "▁he")])
def test_long_streams_take_time_in_proportion(name, token):
    tokenizer = TOKENIZERS[name]
    ids = [tokenizer.convert_tokens_to_ids(token)] * 20_000
    start = time.perf_counter()
    pieces = stream(tokenizer, ids)
    assert time.perf_counter() - start < 5
    assert "".join(pieces) == decode(tokenizer, ids)


def test_tokenizer_whose_tokens_depend_on_more_than_a_neighbour_is_refused(tokenizer):
    backend = Tokenizer(models.BPE({"a": 0}, []))
    backend.decoder = decoders.CTC()
    with pytest.raises(ValueError, match="decoder, CTC, cannot decode tokens one by one"):
        StreamDecoder(PreTrainedTokenizerFast(tokenizer_object=backend))
