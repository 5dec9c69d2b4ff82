"""Train and load tokenizers, and encode text so that it never becomes a special token.

A trained vocabulary is a byte-level BPE: its alphabet is the 256 bytes, so that every text can be encoded, and decoding
returns it unchanged. Special tokens have the first ids.
"""

import logging
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypedDict, Unpack

from huggingface_hub import hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from rxlm.folders import check_saved, reading, saving

PAD, UNK, BOS, EOS, MASK = "[PAD]", "[UNK]", "[BOS]", "[EOS]", "[MASK]"
QUERY, ANSWER, THINK, TOOL_CALL, TOOL_USE, INTERNAL = "[Q]", "[A]", "[T]", "[C]", "[U]", "[I]"
SPECIAL_TOKENS = (PAD, UNK, BOS, EOS, MASK, QUERY, ANSWER, THINK, TOOL_CALL, TOOL_USE, INTERNAL)
"""The special tokens in the order of their ids: five common ones, then those that begin the parts of an interaction."""

_ROLES = {"pad_token": PAD, "unk_token": UNK, "bos_token": BOS, "eos_token": EOS, "mask_token": MASK}
_TOKENIZER_FILE = "tokenizer.json"
_CONFIG_FILES = ("tokenizer_config.json", "special_tokens_map.json")

_logger = logging.getLogger(__name__)
_LONG_RUN = re.compile(r"\S{256}(?=\S)")
"""After so many characters without a space a text is divided for training: every merge reads words from end to end."""


class SpecialTokenNames(TypedDict, total=False):
    """Tokens that a caller may choose for a tokenizer whose files do not name them."""

    pad_token: str
    unk_token: str
    bos_token: str
    eos_token: str
    mask_token: str


def train_tokenizer(
    texts: Iterable[str],
    vocab_size: int,
    *,
    min_frequency: int = 2,
    whole_words: bool = False,
    show_progress: bool | None = None,
) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE with SPECIAL_TOKENS at the first ids; it adds no tokens to a text.

    The result depends on the texts only, not on their order. ValueError for a vocabulary too small for its alphabet, an
    empty corpus, or texts that are not strings.

    Args:
        texts: strings, for example `read_texts("books/")` or `read_dataset("org/name")` of `rxlm.data.text_files`.
        vocab_size: number of tokens. A small corpus may give fewer; then a warning is logged.
        min_frequency: how often a pair must occur to be merged.
        whole_words: texts are encoded in lower case, with a space in front, and decoded like that. A word is then the
            same token everywhere: a small model need not learn that "Mary", " Mary" and " mary" are one person.
        show_progress: shows a progress bar; None: where standard error is a terminal.
    """
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    smallest = len(SPECIAL_TOKENS) + len(alphabet)
    if vocab_size < smallest:
        raise ValueError(
            f"vocab_size={vocab_size} is too small: {len(SPECIAL_TOKENS)} special tokens and "
            f"{len(alphabet)} bytes need at least {smallest}"
        )
    if min_frequency < 1:
        raise ValueError(f"min_frequency={min_frequency}: a pair must be seen at least once to be merged")
    if _are_file_names(texts):
        raise ValueError(f"{texts!r:.80} names files; to train on what they hold, pass read_texts(...)")
    backend = Tokenizer(models.BPE())
    if whole_words:
        backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=whole_words)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS],
        initial_alphabet=alphabet,
        show_progress=sys.stderr is not None and sys.stderr.isatty() if show_progress is None else show_progress,
    )
    backend.train_from_iterator(_checked(texts), trainer=trainer)
    size = backend.get_vocab_size()
    if size < vocab_size:
        _logger.warning("the corpus fills only %d of the %d tokens asked for", size, vocab_size)
    others = [token for token in SPECIAL_TOKENS if token not in _ROLES.values()]
    return PreTrainedTokenizerFast(tokenizer_object=backend, extra_special_tokens=others, **_ROLES)


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: str | Path) -> None:
    """Write a tokenizer's files to a folder: all of them, or none."""
    with saving(folder) as draft:
        tokenizer.save_pretrained(draft)


def load_tokenizer(
    path_or_id: str | os.PathLike[str], **special_tokens: Unpack[SpecialTokenNames]
) -> PreTrainedTokenizerFast:
    """Load a tokenizer from a folder, a tokenizer.json file or a Hugging Face hub id.

    `special_tokens` as in `load_tokenizer_from_file`. For a revision or access token, use `load_tokenizer_from_hf_hub`.
    """
    if isinstance(path_or_id, os.PathLike) or Path(os.path.expanduser(path_or_id)).exists():
        return load_tokenizer_from_file(path_or_id, **special_tokens)
    return load_tokenizer_from_hf_hub(path_or_id, **special_tokens)


def load_tokenizer_from_file(
    path: str | os.PathLike[str], **special_tokens: Unpack[SpecialTokenNames]
) -> PreTrainedTokenizerFast:
    """Load a tokenizer.json file, or a folder with one; the folder may have a tokenizer_config.json, too.

    `special_tokens` chooses pad_token, unk_token, bos_token, eos_token or mask_token from the vocabulary. A role that
    neither the caller nor the folder's configuration names is [PAD], [UNK], [BOS], [EOS] or [MASK] if the vocabulary
    has it, or else None. FileNotFoundError for a missing file; ValueError for a damaged one, or for a token that the
    vocabulary lacks.
    """
    file = Path(os.path.expanduser(path))
    if file.is_dir():
        file = file / _TOKENIZER_FILE
    with reading(file.parent):
        tokenizer = _read(file)
    _name_special_tokens(tokenizer, special_tokens, file)
    return tokenizer


def _read(file: Path) -> PreTrainedTokenizerFast:
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist: expected a {_TOKENIZER_FILE} or a folder with one")
    try:
        if file.name == _TOKENIZER_FILE:
            tokenizer = PreTrainedTokenizerFast.from_pretrained(file.parent, trust_remote_code=False)
        else:
            tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(file))
    except Exception as error:  # the Rust library raises bare Exceptions
        raise ValueError(
            f"{file} cannot be read: expected a {_TOKENIZER_FILE} of the tokenizers library, and a valid "
            f"{_CONFIG_FILES[0]} if there is one ({type(error).__name__}: {error})"
        ) from error
    check_saved(file.parent, lambda name: not name.endswith(".safetensors"))
    return tokenizer


def load_tokenizer_from_hf_hub(
    repo_id: str,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    **special_tokens: Unpack[SpecialTokenNames],
) -> PreTrainedTokenizerFast:
    """Load a tokenizer from the Hugging Face hub, or from an existing local folder.

    Files that were downloaded before are found without the hub. `token` and the other options are those of
    `huggingface_hub.hf_hub_download`, `special_tokens` those of `load_tokenizer_from_file`. FileNotFoundError for an id
    that is neither, cannot be reached, or has no tokenizer.json.
    """
    if Path(os.path.expanduser(repo_id)).exists():
        return load_tokenizer_from_file(repo_id, **special_tokens)

    def download(name: str, revision: str | None) -> str:
        return hf_hub_download(
            repo_id,
            name,
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
        )

    try:
        file = Path(download(_TOKENIZER_FILE, revision))
    except (EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError, HFValidationError) as error:
        at_revision = f" at revision {revision!r}" if revision else ""
        raise FileNotFoundError(
            f"no tokenizer at {repo_id!r}{at_revision}: expected a local folder, or the id of a Hugging Face "
            f"repository, with a {_TOKENIZER_FILE} ({type(error).__name__}: {error})"
        ) from error
    # The cache keeps files in snapshots/<commit>/: take the others from the same commit. It also records which files
    # do not exist, which saves a request and works offline.
    commit = file.parent.name
    for name in _CONFIG_FILES:
        if try_to_load_from_cache(repo_id, name, cache_dir=cache_dir, revision=commit) is None:
            with suppress(EntryNotFoundError, RepositoryNotFoundError):
                download(name, commit)
    return load_tokenizer_from_file(file, **special_tokens)


def special_token_id(tokenizer: PreTrainedTokenizerFast, token: str) -> int:
    """Return the id of a special token such as "[Q]"; ValueError if the tokenizer lacks it."""
    token_id = tokenizer.backend_tokenizer.token_to_id(token)
    if token_id is None:
        known = ", ".join(special_tokens_by_id(tokenizer).values()) or "none"
        raise ValueError(f"the tokenizer has no special token {token!r}; it has: {known}")
    return token_id


def encode_text(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    """Encode plain text; "[A]" in the text becomes three characters, never the special token.

    No token is added and none is cut. ValueError for a lone surrogate, which is not Unicode text.
    """
    # The stages of the backend one by one, because added tokens are matched before them. The library's own
    # switch, encode_special_tokens, is state of the shared tokenizer: another thread may turn it back midway.
    backend = tokenizer.backend_tokenizer
    if backend.normalizer is not None:
        text = backend.normalizer.normalize_str(text)
    words = [text]
    if backend.pre_tokenizer is not None:
        words = [word for word, _ in backend.pre_tokenizer.pre_tokenize_str(text)]
    return [token.id for word in words for token in backend.model.tokenize(word)]


def special_tokens_by_id(tokenizer: PreTrainedTokenizerFast) -> dict[int, str]:
    """Return the special tokens of a tokenizer by id, in the order of ids."""
    added = tokenizer.backend_tokenizer.get_added_tokens_decoder()
    return {token_id: token.content for token_id, token in sorted(added.items()) if token.special}


def _name_special_tokens(tokenizer: PreTrainedTokenizerFast, chosen: SpecialTokenNames, file: Path) -> None:
    """Give each role its token, the chosen one or the one of our name, without adding tokens to the vocabulary."""
    for role in chosen.keys() - _ROLES.keys():
        raise ValueError(f"{role!r} cannot be chosen: expected one of {', '.join(_ROLES)}")
    backend = tokenizer.backend_tokenizer
    for role, name in _ROLES.items():
        if role in chosen:
            if backend.token_to_id(chosen[role]) is None:
                raise ValueError(f"{role}={chosen[role]!r} is not in the vocabulary of {file}")
            setattr(tokenizer, role, chosen[role])
        elif getattr(tokenizer, role) is None and backend.token_to_id(name) is not None:
            setattr(tokenizer, role, name)
    special, named = special_tokens_by_id(tokenizer).values(), tokenizer.all_special_tokens
    tokenizer.add_tokens([token for token in named if token not in special], special_tokens=True)
    ours = [token for token in SPECIAL_TOKENS if token in special and token not in named]
    tokenizer.extra_special_tokens = [*tokenizer.extra_special_tokens, *ours]


def _are_file_names(texts: Iterable[str]) -> bool:
    """Return whether these are names of files instead of texts; a single name would be read letter by letter."""
    if isinstance(texts, (list, tuple)):
        return bool(texts) and all(isinstance(text, (str, Path)) and os.path.isfile(text) for text in texts)
    return isinstance(texts, (str, os.PathLike))


def _checked(texts: Iterable[str]) -> Iterator[str]:
    """Yield texts, in pieces where there is no space for long; ValueError for what is no text, and for none at all."""
    is_empty = True
    for number, text in enumerate(texts, 1):
        if not isinstance(text, str):
            raise ValueError(f"text {number} is {text!r:.80}: expected a string, of a record its text column")
        is_empty = is_empty and not text
        start = 0
        for run in _LONG_RUN.finditer(text):
            yield text[start : run.end()]
            start = run.end()
        yield text[start:]
    if is_empty:
        raise ValueError("the corpus is empty: there is no text to train a tokenizer on")
