"""The written form of an interaction: `[BOS][Q]query[A]answer[EOS]`, or `[BOS][Q]query[T]thought[A]answer[EOS]`.

What stands before the query and before the answer can be any tokens: a pretrained model has a chat template of its own.
"""

from typing import Protocol

from transformers import PreTrainedTokenizerFast

from rxlm.data.tokenizer import encode_text


class InteractionTokens(Protocol):
    """Ids of the special tokens of an interaction."""

    @property
    def before_query(self) -> tuple[int, ...]:
        """What an interaction begins with: [BOS][Q]."""

    @property
    def before_answer(self) -> tuple[int, ...]:
        """What stands between query, or thought, and answer: [A]."""

    @property
    def eos_token_id(self) -> int:
        """What an answer ends with: [EOS]."""

    @property
    def think_token_id(self) -> int | None:
        """[T]; None where the model does not think."""


def query_ids(tokenizer: PreTrainedTokenizerFast, tokens: InteractionTokens, query: str) -> list[int]:
    """Return `[BOS][Q]query`; special tokens written out in the text are ordinary text."""
    return [*tokens.before_query, *encode_text(tokenizer, query)]


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
    return [*ids, *tokens.before_answer, *encode_text(tokenizer, answer), tokens.eos_token_id]
