"""Tokenizers: training, loading and plain-text encoding."""

import importlib
import json
import logging

import huggingface_hub
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from rxlm.data.tokenizer import (
    SPECIAL_TOKENS,
    encode_text,
    load_tokenizer,
    load_tokenizer_from_file,
    load_tokenizer_from_hf_hub,
    special_token_id,
    train_tokenizer,
)
from tokenizer_kinds import CORPUS, TOKENIZERS, decode

SMALLEST = len(SPECIAL_TOKENS) + 256
COMMIT = "0123456789abcdef0123456789abcdef01234567"

any_text = st.text() | st.text(alphabet="aé日本☕👩‍ \n[QA]PD�", max_size=40)


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    return TOKENIZERS["trained"]


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


def test_a_text_without_spaces_is_trained_on_in_pieces_which_every_merge_reads_in_no_time():
    longest = max(train_tokenizer(["ab" * 2000], 300, min_frequency=2).get_vocab(), key=len)
    assert longest == "ab" * 128
    texts = ["x" * 600 + " yes", "z"]
    assert "yes" in "".join(train_tokenizer(texts * 2, 280).get_vocab())


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


def test_names_of_the_papers_import():
    module = importlib.import_module("rxlm.training.tokenizer")
    assert module.load_tokenizer_from_hf_hub is load_tokenizer_from_hf_hub
    assert set(module.__all__) <= set(vars(module))


def test_whole_words_are_the_same_tokens_wherever_they_stand():
    tokenizer = train_tokenizer(["Where is Mary?", "mary went to the Kitchen."] * 9, 400, whole_words=True)

    assert encode_text(tokenizer, "Mary") == encode_text(tokenizer, " mary") == encode_text(tokenizer, "is Mary")[-1:]
    assert tokenizer.decode(encode_text(tokenizer, "Where is Mary?")) == " where is mary?"
