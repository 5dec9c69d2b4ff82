"""The written form of an interaction: `[BOS][Q]query[A]answer[EOS]`, or `[BOS][Q]query[T]thought[A]answer[EOS]`.

Any tokens can stand before the query and before the answer: a pretrained model has a chat template of its own.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from transformers import PreTrainedTokenizerFast

from rxlm.data.tokenizer import encode_text


class InteractionTokens(Protocol):
    """Ids of the special tokens of an interaction."""

    @property
    def before_query(self) -> tuple[int, ...]:
        """The opening of a turn: `[BOS][Q]`."""

    @property
    def before_answer(self) -> tuple[int, ...]:
        """The tokens between the query or thought and the answer: `[A]`."""

    @property
    def eos_token_id(self) -> int:
        """The end of an answer: `[EOS]`."""

    @property
    def think_token_id(self) -> int | None:
        """The beginning of a thought: `[T]`; None: the model does not think."""


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


class FittedTurn(NamedTuple):
    """Tokens of query, thought and answer after cutting, and how many tokens each of them has lost."""

    query: tuple[int, ...]
    thought: tuple[int, ...]
    answer: tuple[int, ...]
    cut: tuple[int, int, int]


def fit_query(query: Sequence[int], room: int) -> tuple[tuple[int, ...], int]:
    """Return the last tokens of a query, at most `room`, and how many tokens were cut.

    This is the library's one rule for a query that is too long: its beginning is cut, because the question itself is
    usually at the end.

    Args:
        query: tokens of the query's text, without special tokens.
        room: number of tokens that special tokens, thought and answer leave for the query; negative means 0.
    """
    cut = max(len(query) - max(room, 0), 0)
    return tuple(query[cut:]), cut


def fit_turn(query: Sequence[int], thought: Sequence[int], answer: Sequence[int], room: int) -> FittedTurn:
    """Cut the tokens of an interaction so that together they fit in `room`; special tokens do not count.

    The query is cut first (`fit_query`), then the beginning of the thought, and last the end of the answer.
    """
    query, from_query = fit_query(query, room - len(thought) - len(answer))
    thought, from_thought = fit_query(thought, room - len(answer))
    from_answer = max(len(answer) - max(room, 0), 0)
    return FittedTurn(
        query, thought, tuple(answer[: len(answer) - from_answer]), (from_query, from_thought, from_answer)
    )
