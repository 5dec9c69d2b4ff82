"""The written form of an interaction: `[BOS][Q]query[A]answer[EOS]`, or `[BOS][Q]query[T]thought[A]answer[EOS]`."""

from typing import Protocol

from transformers import PreTrainedTokenizerFast

from rxlm.data.tokenizer import encode_text


class InteractionTokens(Protocol):
    """Ids of the special tokens of an interaction."""

    @property
    def bos_token_id(self) -> int:
        """[BOS]."""

    @property
    def eos_token_id(self) -> int:
        """[EOS]."""

    @property
    def query_token_id(self) -> int:
        """[Q]."""

    @property
    def answer_token_id(self) -> int:
        """[A]."""

    @property
    def think_token_id(self) -> int | None:
        """[T]; None where the model does not think."""


def query_ids(tokenizer: PreTrainedTokenizerFast, tokens: InteractionTokens, query: str) -> list[int]:
    """Return `[BOS][Q]query`; special tokens written out in the text are ordinary text."""
    return [tokens.bos_token_id, tokens.query_token_id, *encode_text(tokenizer, query)]


def interaction_ids(
    tokenizer: PreTrainedTokenizerFast,
    tokens: InteractionTokens,
    query: str,
    answer: str,
    thought: str | None = None,
) -> list[int]:
    """Return `[BOS][Q]query[A]answer[EOS]`, with `[T]thought` before `[A]` if there is a thought."""
    ids = query_ids(tokenizer, tokens, query)
    if thought is not None:
        if tokens.think_token_id is None:
            raise ValueError("A thought was given, and the model has no thinking token.")
        ids += [tokens.think_token_id, *encode_text(tokenizer, thought)]
    return [*ids, tokens.answer_token_id, *encode_text(tokenizer, answer), tokens.eos_token_id]
