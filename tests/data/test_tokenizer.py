"""Tokenizers: training, loading, plain-text encoding and streaming."""

import importlib
import json
import logging
import time
from itertools import chain

import huggingface_hub
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from rxlm.data.stream_decoder import StreamDecoder
from rxlm.data.tokenizer import (
    SPECIAL_TOKENS,
    encode_text,
    load_tokenizer,
    load_tokenizer_from_file,
    load_tokenizer_from_hf_hub,
    special_token_id,
    train_tokenizer,
)

CORPUS = [
    "One day, a little girl named Lily found a needle in her room.\n",
    "She knew it was difficult to play with it because it was sharp.\n",
    "[Q] What did Lily find? [A] A needle.\n",
    "Müller trank Kaffee ☕ und aß 日本 Kuchen 👩‍👩‍👧.\n",
] * 5
SMALLEST = len(SPECIAL_TOKENS) + 256
COMMIT = "0123456789abcdef0123456789abcdef01234567"

any_text = st.text() | st.text(alphabet="aé日本☕👩‍ \n[QA]PD�", max_size=40)


def build_trained() -> PreTrainedTokenizerFast:
    return train_tokenizer(CORPUS, 340)


def build_with_odd_added_tokens() -> PreTrainedTokenizerFast:
    """Added tokens that are not in the byte-level alphabet, or look like it but are not bytes."""
    tokenizer = train_tokenizer(CORPUS, 300)
    tokenizer.add_tokens(["<tool call>", "日本", "é", "Ġ"])
    tokenizer.add_tokens([AddedToken("<end of turn>", special=True)])
    return tokenizer


def build_sentencepiece_like(*, metaspace: bool) -> PreTrainedTokenizerFast:
    """A Llama-like vocabulary: ▁ for a space, <0xNN> for what the vocabulary lacks."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += ["▁", *"abcdehilo日!", "▁a", "▁▁", "he", "▁he", "ll", "▁日"]
    merges = [("▁", "a"), ("▁", "▁"), ("h", "e"), ("▁", "he"), ("l", "l"), ("▁", "日")]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    backend = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    if metaspace:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
        backend.decoder = decoders.Sequence(
            [decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="first", split=False)]
        )
    else:
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        backend.decoder = decoders.Sequence(
            [
                decoders.Replace("▁", " "),
                decoders.ByteFallback(),
                decoders.Fuse(),
                decoders.Strip(" ", 1, 0),
            ]
        )
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


TOKENIZERS = {
    "trained": build_trained(),
    "odd added tokens": build_with_odd_added_tokens(),
    "llama": build_sentencepiece_like(metaspace=False),
    "metaspace": build_sentencepiece_like(metaspace=True),
}


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    return TOKENIZERS["trained"]


def stream(tokenizer, ids, *, skip_special_tokens=False) -> list[str]:
    decoder = StreamDecoder(tokenizer, skip_special_tokens=skip_special_tokens)
    return [decoder.push(token_id) for token_id in ids] + [decoder.flush()]


def decode(tokenizer, ids, *, skip_special_tokens=False) -> str:
    return tokenizer.decode(ids, skip_special_tokens=skip_special_tokens, clean_up_tokenization_spaces=False)


# Training


def test_special_tokens_take_the_first_ids(tokenizer):
    assert [tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS] == list(range(len(SPECIAL_TOKENS)))
    assert (tokenizer.pad_token, tokenizer.unk_token, tokenizer.mask_token) == ("[PAD]", "[UNK]", "[MASK]")
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("[BOS]", "[EOS]")
    assert set(tokenizer.all_special_tokens) == set(SPECIAL_TOKENS)


def test_vocabulary_has_the_size_asked_for(tokenizer):
    assert len(tokenizer) == 340


def test_training_is_deterministic_and_ignores_the_order_of_texts():
    first, again, shuffled = (
        train_tokenizer(texts, 340).backend_tokenizer.to_str() for texts in (CORPUS, CORPUS, CORPUS[::-1])
    )
    assert first == again == shuffled


def test_frequent_words_become_one_token(tokenizer):
    assert len(encode_text(tokenizer, " needle")) == 1


@given(any_text)
@settings(deadline=None)
def test_every_text_comes_back_unchanged(text):
    tokenizer = TOKENIZERS["trained"]
    assert decode(tokenizer, encode_text(tokenizer, text)) == text
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_text_of_one_language_trained_on_another_needs_no_unknown_token(tokenizer):
    assert tokenizer.unk_token_id not in encode_text(tokenizer, "Ελληνικά русский עברית 🦉\x00\x7f")


def test_no_token_is_added_around_a_text(tokenizer):
    assert tokenizer("Lily")["input_ids"] == encode_text(tokenizer, "Lily")
    assert tokenizer("")["input_ids"] == []


def test_special_tokens_in_a_template_are_one_token_each(tokenizer):
    ids = tokenizer("[BOS][Q] Lily[A]")["input_ids"]
    assert ids[:2] == [2, 5]
    assert ids[-1] == 6


@pytest.mark.parametrize("vocab_size", [0, 256, SMALLEST - 1])
def test_vocabulary_too_small_for_the_alphabet_is_refused(vocab_size):
    with pytest.raises(ValueError, match=rf"vocab_size={vocab_size} .*at least {SMALLEST}"):
        train_tokenizer(CORPUS, vocab_size)
    assert len(train_tokenizer(CORPUS, SMALLEST)) == SMALLEST


def test_min_frequency_below_one_is_refused():
    with pytest.raises(ValueError, match="min_frequency=0"):
        train_tokenizer(CORPUS, 300, min_frequency=0)


def test_min_frequency_keeps_rare_pairs_apart():
    assert len(train_tokenizer(["abcdefgh"], 300, min_frequency=2)) == SMALLEST
    assert len(train_tokenizer(["abcdefgh"], 300, min_frequency=1)) > SMALLEST


@pytest.mark.parametrize("texts", [[], ["", ""], iter(())])
def test_empty_corpus_is_refused(texts):
    with pytest.raises(ValueError, match="corpus is empty"):
        train_tokenizer(texts, 300)


def test_records_in_place_of_texts_are_refused():
    with pytest.raises(ValueError, match=r"text 2 is \{'text': 'b'\}.*text column"):
        train_tokenizer(["a", {"text": "b"}], 300)


def test_file_names_in_place_of_texts_are_refused(tmp_path):
    file = tmp_path / "corpus.txt"
    file.write_text("text")
    for texts in (str(file), file, [str(file)], "no such file"):
        with pytest.raises(ValueError, match="read_texts"):
            train_tokenizer(texts, 300)


def test_corpus_that_cannot_fill_the_vocabulary_is_reported(caplog):
    with caplog.at_level(logging.WARNING, logger="rxlm"):
        trained = train_tokenizer(["ab ab"], 1000)
    assert f"only {len(trained)} of the 1000" in caplog.text


def test_error_of_the_reader_reaches_the_caller():
    def broken():
        yield "a"
        raise OSError("disk gone")

    with pytest.raises(OSError, match="disk gone"):
        train_tokenizer(broken(), 300)


# Plain text and special tokens


@given(st.lists(st.sampled_from([*SPECIAL_TOKENS, "[", "]", " ", "Lily", "é"])).map("".join))
@settings(deadline=None)
def test_typed_special_tokens_stay_text(text):
    tokenizer = TOKENIZERS["trained"]
    ids = encode_text(tokenizer, text)
    assert all(token_id >= len(SPECIAL_TOKENS) for token_id in ids)
    assert decode(tokenizer, ids, skip_special_tokens=True) == text


def test_encode_text_leaves_the_tokenizer_as_it_was(tokenizer):
    before = tokenizer("[Q] Lily")["input_ids"]
    encode_text(tokenizer, "[Q] Lily")
    assert tokenizer("[Q] Lily")["input_ids"] == before
    assert before[0] == special_token_id(tokenizer, "[Q]")


@pytest.mark.parametrize("name", TOKENIZERS)
@given(text=st.text(alphabet="aehlo日é👩 !\n", max_size=30))
@settings(deadline=None)
def test_encode_text_equals_the_library_on_text_without_added_tokens(name, text):
    tokenizer = TOKENIZERS[name]
    text = text.replace("é", "ü") if name == "odd added tokens" else text
    assert encode_text(tokenizer, text) == tokenizer(text, add_special_tokens=False)["input_ids"]


def test_typed_special_tokens_stay_text_in_a_foreign_tokenizer():
    tokenizer = TOKENIZERS["llama"]
    assert tokenizer.eos_token_id in tokenizer("a</s>")["input_ids"]
    ids = encode_text(tokenizer, "a</s>")
    assert tokenizer.eos_token_id not in ids
    assert decode(tokenizer, ids) == "a</s>"


def test_lone_surrogate_is_refused(tokenizer):
    with pytest.raises(ValueError, match="surrogates not allowed"):
        encode_text(tokenizer, "a\ud800")


def test_special_token_id_finds_every_special_token(tokenizer):
    assert [special_token_id(tokenizer, token) for token in SPECIAL_TOKENS] == list(range(len(SPECIAL_TOKENS)))


def test_special_token_that_is_missing_is_named():
    with pytest.raises(ValueError, match=r"no special token '\[Q\]'; it has: <unk>, <s>, </s>"):
        special_token_id(TOKENIZERS["llama"], "[Q]")


# Saving and loading


def test_saved_tokenizer_loads_everywhere_the_same(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"decoder_config": {}}')  # as in a published checkpoint
    text = "[Q] Lily found 日本 ☕[A]"
    for loaded in (
        AutoTokenizer.from_pretrained(tmp_path),
        load_tokenizer(tmp_path),
        load_tokenizer(str(tmp_path)),
        load_tokenizer(tmp_path / "tokenizer.json"),
        load_tokenizer_from_file(str(tmp_path / "tokenizer.json")),
        load_tokenizer_from_hf_hub(str(tmp_path)),
    ):
        assert loaded(text)["input_ids"] == tokenizer(text)["input_ids"]
        assert loaded.special_tokens_map == tokenizer.special_tokens_map
        assert set(loaded.all_special_ids) == set(tokenizer.all_special_ids)
        assert decode(loaded, loaded(text)["input_ids"]) == text
        assert len(loaded) == len(tokenizer)


def test_loaded_tokenizer_saves_and_loads_again(tokenizer, tmp_path):
    tokenizer.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    load_tokenizer(tmp_path).save_pretrained(tmp_path / "again")
    again = AutoTokenizer.from_pretrained(tmp_path / "again")
    assert again.special_tokens_map == tokenizer.special_tokens_map
    assert again.backend_tokenizer.get_vocab() == tokenizer.backend_tokenizer.get_vocab()


@pytest.mark.parametrize("name", ["tokenizer.json", "words.json"])
def test_bare_tokenizer_file_gets_its_special_tokens_by_name(tokenizer, tmp_path, name):
    tokenizer.backend_tokenizer.save(str(tmp_path / name))
    loaded = load_tokenizer_from_file(tmp_path / name)
    assert loaded.special_tokens_map == tokenizer.special_tokens_map
    assert set(loaded.all_special_tokens) == set(SPECIAL_TOKENS)


def test_special_tokens_only_in_the_vocabulary_are_used_and_none_is_added(tokenizer, tmp_path):
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    state["added_tokens"] = []
    (tmp_path / "tokenizer.json").write_text(json.dumps(state))
    loaded = load_tokenizer(tmp_path)
    assert (loaded.pad_token_id, loaded.eos_token_id) == (0, 3)
    assert decode(loaded, [0, 3], skip_special_tokens=True) == ""
    assert len(loaded) == len(tokenizer)


def test_tokenizer_with_other_names_keeps_them(tmp_path):
    TOKENIZERS["llama"].save_pretrained(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert loaded.special_tokens_map == {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    assert loaded.pad_token is None
    assert len(loaded) == len(TOKENIZERS["llama"])


def test_special_tokens_can_be_chosen(tmp_path):
    TOKENIZERS["llama"].save_pretrained(tmp_path)
    loaded = load_tokenizer(tmp_path, pad_token="</s>", mask_token="!")
    assert (loaded.pad_token_id, loaded.mask_token) == (2, "!")
    assert decode(loaded, [loaded.mask_token_id], skip_special_tokens=True) == ""


def test_chosen_special_token_must_be_in_the_vocabulary(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"pad_token='<pad>' is not in the vocabulary"):
        load_tokenizer(tmp_path, pad_token="<pad>")
    with pytest.raises(ValueError, match="'padding' cannot be chosen: expected one of pad_token"):
        load_tokenizer(tmp_path, padding="[PAD]")


def test_missing_file_is_named(tmp_path):
    for path in (tmp_path, tmp_path / "no-such-folder", tmp_path / "tokenizer.json"):
        with pytest.raises(FileNotFoundError, match=rf"{path}.*a tokenizer.json or a folder with one"):
            load_tokenizer(path)


@pytest.mark.parametrize("content", ["", "{}", "not json", "[1]", '{"added_tokens": [], "model": {}}'])
@pytest.mark.parametrize("name", ["tokenizer.json", "other.json"])
def test_damaged_file_is_named(tmp_path, content, name):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=rf"{tmp_path / name} cannot be read"):
        load_tokenizer(tmp_path / name)


def test_damaged_configuration_is_refused(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(ValueError, match=r"tokenizer_config.json"):
        load_tokenizer(tmp_path)


# The hub


@pytest.fixture
def hub_cache(tokenizer, tmp_path):
    """A cache as huggingface_hub leaves it after a download of a repository with a tokenizer.json only."""
    repository = tmp_path / "hub" / "models--someone--words"
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    tokenizer.backend_tokenizer.save(str(snapshot / "tokenizer.json"))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    missing = repository / ".no_exist" / COMMIT
    missing.mkdir(parents=True)
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        (missing / name).touch()
    return tmp_path / "hub"


def test_cached_hub_tokenizer_loads_offline(tokenizer, hub_cache):
    loaded = load_tokenizer_from_hf_hub("someone/words", cache_dir=hub_cache, local_files_only=True)
    assert loaded.special_tokens_map == tokenizer.special_tokens_map


def test_cached_hub_configuration_is_used(hub_cache):
    snapshot = hub_cache / "models--someone--words" / "snapshots" / COMMIT
    (snapshot / "tokenizer_config.json").write_text('{"eos_token": "[I]"}')
    loaded = load_tokenizer_from_hf_hub("someone/words", cache_dir=hub_cache, local_files_only=True)
    assert loaded.eos_token == "[I]"


def test_cached_hub_tokenizer_loads_when_the_hub_cannot_be_reached(tokenizer, hub_cache, monkeypatch):
    nowhere = "http://127.0.0.1:9"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", nowhere)
    monkeypatch.setattr(
        huggingface_hub.constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        nowhere + "/{repo_id}/resolve/{revision}/{filename}",
    )
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    loaded = load_tokenizer_from_hf_hub("someone/words", cache_dir=hub_cache)
    assert loaded.get_vocab() == tokenizer.get_vocab()


@pytest.mark.parametrize("repo_id", ["someone/other", "no/such/folder", "./folder"])
def test_id_that_is_neither_cached_nor_a_folder_is_named(hub_cache, repo_id):
    with pytest.raises(FileNotFoundError, match=rf"no tokenizer at '{repo_id}'.*local folder.*id of a Hug"):
        load_tokenizer_from_hf_hub(repo_id, cache_dir=hub_cache, local_files_only=True)


# Streams


@pytest.mark.parametrize("skip_special_tokens", [False, True])
@pytest.mark.parametrize("name", TOKENIZERS)
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_streamed_ids_give_the_text_of_a_whole_decode(name, skip_special_tokens, data):
    tokenizer = TOKENIZERS[name]
    in_vocabulary = st.integers(0, len(tokenizer) - 1)
    added = st.sampled_from(sorted(tokenizer.added_tokens_decoder))
    byte_tokens = st.integers(len(SPECIAL_TOKENS), SMALLEST - 1)
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


def test_names_of_the_papers_import():
    module = importlib.import_module("rxlm.training.tokenizer")
    assert module.load_tokenizer_from_hf_hub is load_tokenizer_from_hf_hub
    assert set(module.__all__) <= set(vars(module))


def test_whole_words_are_the_same_tokens_wherever_they_stand():
    tokenizer = train_tokenizer(["Where is Mary?", "mary went to the Kitchen."] * 9, 400, whole_words=True)

    assert encode_text(tokenizer, "Mary") == encode_text(tokenizer, " mary") == encode_text(tokenizer, "is Mary")[-1:]
    assert tokenizer.decode(encode_text(tokenizer, "Where is Mary?")) == " where is mary?"
