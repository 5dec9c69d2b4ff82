"""Methods of a model that take or return text, by way of the tokenizer attached to it.

Shapes: B conversations, T tokens.
"""

import operator
from collections.abc import Iterable, Sequence
from typing import SupportsIndex

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from rxlm.data.stream_decoder import StreamDecoder
from rxlm.data.templates import interaction_ids, query_ids
from rxlm.data.tokenizer import (
    ANSWER,
    BOS,
    EOS,
    INTERNAL,
    PAD,
    QUERY,
    THINK,
    TOOL_CALL,
    TOOL_USE,
)
from rxlm.rxt.config import RxTAlphaTokenizerConfig
from rxlm.rxt.core import RxTModel

TOKEN_NAMES = {
    "pad_token_id": PAD,
    "bos_token_id": BOS,
    "eos_token_id": EOS,
    "query_token_id": QUERY,
    "answer_token_id": ANSWER,
    "think_token_id": THINK,
    "tool_call_token_id": TOOL_CALL,
    "tool_use_token_id": TOOL_USE,
    "internal_token_id": INTERNAL,
}


class TextModel(RxTModel):
    """A model with a tokenizer: ids from queries and interactions, and text from ids."""

    tokenizer: PreTrainedTokenizerFast | None = None
    _text_stream: StreamDecoder | None = None

    def set_tokenizer(self, tokenizer: PreTrainedTokenizerFast) -> None:
        """Attach a tokenizer, after a check that its vocabulary and special tokens are the model's."""
        check_tokenizer(tokenizer, self.tokenizer_config, self.decoder.config.vocab_size)
        self.tokenizer = tokenizer
        self.start_text()

    def tokenize_query(self, query: str, max_seq_len: int | None = None) -> dict[str, Tensor]:
        """Return `input_ids` and `attention_mask`, (1, T), of `[BOS][Q]query`; `interact` adds [A] itself.

        A query that leaves no room for [A] and an answer within `max_seq_len` is refused.
        """
        return self.tokenize_batch([query], max_seq_len)

    def tokenize_batch(self, queries: Sequence[str], max_seq_len: int | None = None) -> dict[str, Tensor]:
        """Return `input_ids` and `attention_mask`, (B, T), of many queries, padded at the end."""
        if isinstance(queries, str) or not queries:
            raise ValueError(f"queries must be a list of at least one text, got {queries!r}.")
        tokenizer, limit = self.needed_tokenizer(), self.length_limit(max_seq_len)
        rows = [query_prompt(tokenizer, self.tokenizer_config, query, limit) for query in queries]
        return self._padded(rows)

    def tokenize_full_interaction(
        self, query: str, answer: str, max_seq_len: int | None = None, *, thought: str | None = None
    ) -> dict[str, Tensor]:
        """Return `input_ids` and `attention_mask`, (1, T), of a finished interaction, as `init_stm_state` reads it."""
        tokenizer, limit = self.needed_tokenizer(), self.length_limit(max_seq_len)
        row = interaction_ids(tokenizer, self.tokenizer_config, query, answer, thought)
        if len(row) > limit:
            raise ValueError(f"The interaction takes {len(row)} tokens; the limit is {limit}.")
        return self._padded([row])

    def start_text(self) -> None:
        """Let `stringify_token` begin a new text: what the last one held back is dropped."""
        self._text_stream = None

    def stringify_token(self, token_id: SupportsIndex, *, skip_special_tokens: bool = False) -> str:
        """Return the text that this token adds to a stream of tokens.

        Characters of several tokens are held back until they are whole, so that the pieces put together are the
        text. A turn of `interact` starts a new stream.
        """
        number = operator.index(token_id)
        if not 0 <= number < self.decoder.config.vocab_size:
            raise ValueError(f"Token id {number} is outside of the vocabulary of {self.decoder.config.vocab_size}.")
        tokenizer = self.needed_tokenizer()
        if skip_special_tokens and number in tokenizer.all_special_ids:
            return ""
        if self._text_stream is None:
            self._text_stream = StreamDecoder(tokenizer)
        return self._text_stream.push(number)

    def stringify_batch(
        self, token_ids: Tensor | Iterable[Iterable[int]], *, skip_special_tokens: bool = True
    ) -> list[str]:
        """Return the text of each row of token ids, as `batch_interactions` returns them; padding is left out."""
        tokenizer = self.needed_tokenizer()
        rows = token_ids.tolist() if isinstance(token_ids, Tensor) else [list(row) for row in token_ids]
        pad = self.tokenizer_config.pad_token_id
        return [
            str(
                tokenizer.decode(
                    [token for token in row if token != pad],
                    skip_special_tokens=skip_special_tokens,
                    clean_up_tokenization_spaces=False,
                )
            )
            for row in rows
        ]

    def needed_tokenizer(self) -> PreTrainedTokenizerFast:
        """Return the tokenizer, or raise ValueError where none is attached."""
        if self.tokenizer is None:
            raise ValueError(
                "The model has no tokenizer: pass one to from_pretrained(..., tokenizer=...) or to set_tokenizer()."
            )
        return self.tokenizer

    def _padded(self, rows: list[list[int]]) -> dict[str, Tensor]:
        width = max(len(row) for row in rows)
        pad = self.tokenizer_config.pad_token_id
        ids = [row + [pad] * (width - len(row)) for row in rows]
        mask = [[1] * len(row) + [0] * (width - len(row)) for row in rows]
        return {
            "input_ids": torch.tensor(ids, device=self.device),
            "attention_mask": torch.tensor(mask, device=self.device),
        }


def query_prompt(
    tokenizer: PreTrainedTokenizerFast, tokens: RxTAlphaTokenizerConfig, query: str, limit: int
) -> list[int]:
    """Return `[BOS][Q]query`; ValueError where it leaves no room for [A] and an answer within `limit` tokens."""
    ids = query_ids(tokenizer, tokens, query)
    most = limit - len(tokens.before_answer) - 1
    if len(ids) > most:
        raise ValueError(
            f"The query takes {len(ids)} tokens; with [A] and an answer of at least one token "
            f"it may take {most} (max_seq_len {limit})."
        )
    return ids


def token_ids_of(tokenizer: PreTrainedTokenizerFast) -> RxTAlphaTokenizerConfig:
    """Return the ids that a tokenizer gives to the special tokens of an interaction."""
    vocabulary = tokenizer.get_vocab()
    optional = [THINK, TOOL_CALL, TOOL_USE, INTERNAL]
    missing = [token for token in TOKEN_NAMES.values() if token not in vocabulary and token not in optional]
    if missing:
        raise ValueError(f"The tokenizer lacks the special tokens {', '.join(missing)}.")
    return RxTAlphaTokenizerConfig.from_dict({field: vocabulary.get(token) for field, token in TOKEN_NAMES.items()})


def check_tokenizer(tokenizer: PreTrainedTokenizerFast, tokens: RxTAlphaTokenizerConfig, vocab_size: int) -> None:
    """Raise ValueError unless every id of the tokenizer fits the vocabulary and special tokens have the model's ids."""
    if len(tokenizer) > vocab_size:
        raise ValueError(
            f"The tokenizer has {len(tokenizer)} tokens and the model a vocabulary of {vocab_size}: "
            f"they do not belong together."
        )
    if tokens.query_prefix is not None:
        return  # the special tokens of another tokenizer have names of their own
    vocabulary = tokenizer.get_vocab()
    for field, token in TOKEN_NAMES.items():
        expected, found = getattr(tokens, field), vocabulary.get(token)
        if expected is not None and found is not None and expected != found:
            raise ValueError(
                f"The special token {token} has id {found} in the tokenizer and {expected} in the model ({field}): "
                f"they do not belong together."
            )
