"""Text and token ids of a model: what its tokenizer, and the form of its interactions, make of either."""

import operator
from collections.abc import Iterable
from typing import SupportsIndex

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


class TextCodec:
    """Token ids of queries and interactions, and text of token ids: a tokenizer with the form that a model expects.

    Args:
        tokenizer: ValueError unless its vocabulary and special tokens are the model's.
        tokens: the model's special tokens.
        vocab_size: the model's vocabulary V.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, tokens: RxTAlphaTokenizerConfig, vocab_size: int) -> None:
        check_tokenizer(tokenizer, tokens, vocab_size)
        self.tokenizer, self.tokens, self.vocab_size = tokenizer, tokens, vocab_size
        self._stream: StreamDecoder | None = None

    def query(self, query: str, limit: int) -> list[int]:
        """Return `[BOS][Q]query`; ValueError where it leaves no room for [A] and an answer within `limit` tokens."""
        ids = query_ids(self.tokenizer, self.tokens, query)
        most = limit - len(self.tokens.before_answer) - 1
        if len(ids) > most:
            raise ValueError(
                f"The query takes {len(ids)} tokens; with [A] and an answer of at least one token "
                f"it may take {most} (max_seq_len {limit})."
            )
        return ids

    def interaction(self, query: str, answer: str, thought: str | None, limit: int) -> list[int]:
        """Return the tokens of a finished interaction; ValueError where it takes more than `limit`."""
        ids = interaction_ids(self.tokenizer, self.tokens, query, answer, thought)
        if len(ids) > limit:
            raise ValueError(f"The interaction takes {len(ids)} tokens; the limit is {limit}.")
        return ids

    def start_text(self) -> None:
        """Let `next_text` begin a new text: what the last one held back is dropped."""
        self._stream = None

    def next_text(self, token_id: SupportsIndex, *, skip_special_tokens: bool = False) -> str:
        """Return the text that a token adds to a stream of tokens; half characters are held back until whole."""
        number = operator.index(token_id)
        if not 0 <= number < self.vocab_size:
            raise ValueError(f"Token id {number} is outside of the vocabulary of {self.vocab_size}.")
        if skip_special_tokens and number in self.tokenizer.all_special_ids:
            return ""
        if self._stream is None:
            self._stream = StreamDecoder(self.tokenizer)
        return self._stream.push(number)

    def text(self, ids: Iterable[int], *, skip_special_tokens: bool = True) -> str:
        """Return the text of token ids; padding is left out."""
        return str(
            self.tokenizer.decode(
                [token for token in ids if token != self.tokens.pad_token_id],
                skip_special_tokens=skip_special_tokens,
                clean_up_tokenization_spaces=False,
            )
        )


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
