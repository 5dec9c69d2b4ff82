"""What the benchmark asks of a model: to answer dialogues turn by turn, many at once.

Shapes: B dialogues in the batch, D embedding dimension.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor

Control = Literal["none", "empty", "shuffled", "never-updated", "full-history"]
"""What a dialogue is answered from.

none: from what was said in it, the model's own answers included: no control at all. empty: from nothing, as if each
turn were the first one. shuffled: from what was said in another dialogue of the batch. never-updated: from the memory
that the conversation began with (it differs from "empty" for initial memories that are drawn at random).
full-history: from the whole dialogue, for a model that is otherwise given a part.
"""

WITHOUT_HISTORY: tuple[Control, ...] = ("empty", "never-updated")
"""Controls under which an answer depends on its query alone: turns that ask nothing can be left out."""

Queries = Sequence[str | None]
"""One query a dialogue; None if nothing is said, for example because the dialogue is over."""


class Respondent(Protocol):
    """Whatever answers dialogues: all that reports 1 to 4 (and an oracle in a test) need."""

    @property
    def controls(self) -> tuple[Control, ...]:
        """The controls it can answer under, "none" among them."""

    def describe(self) -> Mapping[str, Any]:
        """Return, as plain values, what its answers depend on: weights, tokenizer, settings."""

    def cuts(self, query: str) -> bool:
        """Tell whether a query is too long for the model, so that it loses its beginning."""

    def reset(self, batch_size: int, control: Control = "none") -> None:
        """Begin `batch_size` new dialogues."""

    def respond(self, queries: Queries) -> list[str]:
        """Answer the next turn of every dialogue and remember it; "" where nothing was said."""


@dataclass(frozen=True)
class Loss:
    """How badly given answers were predicted: summed negative log-likelihood in nats, over so many tokens."""

    nats: float
    tokens: int


class TurnCost(NamedTuple):
    """What one turn cost.

    Fields:
        first_token: seconds from the query to the first token of the answer.
        tokens_per_second: speed of the tokens after the first one.
        update: seconds of the memory update after the answer; None where there is none.
        session_bytes: what the model attends to of the conversation: its memory, or the keys and values of its history.
    """

    first_token: float
    tokens_per_second: float
    update: float | None
    session_bytes: int


class LanguageRespondent(Respondent, Protocol):
    """A respondent whose probabilities, embeddings and speed can be measured, too: reports 5 and 6."""

    def follow(self, queries: Queries, answers: Sequence[str | None]) -> None:
        """Remember a turn as if these answers had been given."""

    def losses(self, queries: Queries, answers: Sequence[str | None]) -> list[Loss]:
        """Return the loss of these answers to the next queries, a dialogue each; nothing is remembered."""

    def embed(self, texts: Sequence[str]) -> Tensor:
        """Return the mean of the token embeddings of each text, (len(texts), D); zeros for an empty one."""

    def measure(self, query: str, num_tokens: int) -> TurnCost:
        """Answer one query, of a batch of one, with `num_tokens` tokens against the clock; nothing is remembered."""


def losses_of(logits: Tensor, ids: Tensor, answered: Tensor) -> list[Loss]:
    """Sum the loss of the answers' tokens by row.

    Args:
        logits: of the token before each answered one, (N, V), in order.
        ids: token ids (B, T).
        answered: True at the N tokens of the answers, (B, T).
    """
    found = torch.log_softmax(logits.double(), -1).gather(1, ids[answered][:, None])[:, 0]
    nats = torch.zeros(ids.shape[0], dtype=torch.double, device=ids.device)
    nats.index_add_(0, answered.nonzero()[:, 0], -found)
    return [Loss(*row) for row in zip(nats.tolist(), answered.sum(1).tolist(), strict=True)]


def check_control(control: Control, respondent: Respondent) -> None:
    """Raise ValueError unless the respondent can answer under this control."""
    if control not in respondent.controls:
        raise ValueError(f"control must be one of {', '.join(respondent.controls)} for this model, got {control!r}.")


def check_batch(batch_size: int, control: Control) -> None:
    """Raise ValueError unless so many dialogues can be answered under this control."""
    least = 2 if control == "shuffled" else 1
    if batch_size < least:
        raise ValueError(f"batch_size must be at least {least} for control {control!r}, got {batch_size}.")
